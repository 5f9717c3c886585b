"""The index page of a site, and for each report a page that lists the earlier ones."""

import collections

from crmlab.report.history import earlier, report, sparkline
from crmlab.report.publish import FAILED, HISTORY, read_json

_FIGURES = 4
# What needs somebody's attention comes first.
_STATES = ("failed", "stale", "not built", "good")


def index_page(runs, out, states=None):
    """Render the index page of a site.

    Parameters
    ----------
    runs : list of Run
        All runs of the manifest.
    out : pathlib.Path
        Folder of the site.
    states : dict, optional
        Name of a run to why its report is stale, in words, for those that are; what failed shows by itself.

    Returns
    -------
    str
        The page.
    """
    from crmlab.report.page import template, visible, words

    rows = []
    for run in runs:
        good, failure = report(out / run.slug), read_json(out / FAILED / run.slug / "run.json")
        why = (states or {}).get(run.slug)
        past = earlier(out, run.slug)
        figures = good["results"]["figures"] if good else {}
        course = [*past, good] if good else past
        rows.append(
            {
                "slug": run.slug,
                "title": run.title,
                "good": good and good["run"],
                "failure": failure,
                "partial": (out / FAILED / run.slug / "report.ipynb").exists(),
                "pdf": (out / run.slug / "report.pdf").exists(),
                "state": _state(good, failure, why),
                "why": None if failure or not good else why,
                "parameters": [(name, words(value)) for name, value in run.shown.items()],
                "history": past,
                "figures": [
                    (figure, sparkline(figure["label"], _points(name, course)))
                    for name, figure in list(figures.items())[:_FIGURES]
                ],
            }
        )
    rows.sort(key=lambda row: (row["failure"] is None, _STATES.index(row["state"])))
    counts = sorted(collections.Counter(row["state"] for row in rows).items(), key=lambda item: _STATES.index(item[0]))
    return visible(template("index.html").render(rows=rows, counts=counts))


def history_pages(runs, out):
    """Render for each report a page with the earlier ones that are kept.

    Parameters
    ----------
    runs : list of Run
        All runs of the manifest.
    out : pathlib.Path
        Folder of the site.

    Returns
    -------
    dict
        Path of the page, relative to the site, to the page; only for runs with earlier reports.
    """
    from crmlab.report.page import template, visible

    pages = {}
    for run in runs:
        past = earlier(out, run.slug)
        if not past:
            continue
        latest = report(out / run.slug)
        kept = [(f"{one['folder'].name}/index.html", one) for one in past]
        kept += [(f"../../{run.slug}/index.html", latest)] if latest else []
        labels = {name: figure["label"] for _link, one in kept for name, figure in one["results"]["figures"].items()}
        rows = [
            (link, one["run"], [one["results"]["figures"].get(name, {"text": "–"})["text"] for name in labels])
            for link, one in reversed(kept)
        ]
        page = template("history.html").render(title=run.title, labels=list(labels.values()), rows=rows)
        pages[f"{HISTORY}/{run.slug}/index.html"] = visible(page)
    return pages


def _state(good, failure, why):
    if failure:
        return "stale" if good else "failed"
    return "not built" if not good else "stale" if why else "good"


def _points(name, course):
    known = [(one["run"]["started"], one["results"]["figures"].get(name)) for one in course]
    return [(started, figure["value"], figure["text"]) for started, figure in known if figure]
