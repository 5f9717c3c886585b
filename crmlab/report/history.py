"""What earlier builds of a site said: changes of key figures, their course, all results as one table.

The last good reports of a run lie in ``.history/NAME/20261122T150102Z`` beside it, each as it was published.
"""

import datetime
import html
import json
import math
from pathlib import Path

from crmlab.report.publish import kept_folders, read_json
from crmlab.report.record import in_words, is_number

# What differs by less was only computed in another order.
_SAME = 1e-9
_COLUMNS = ["report", "parameters", "figure", "value", "low", "high", "unit", "started"]


def report(folder):
    """Read what a report's folder says for other programs.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the report.

    Returns
    -------
    dict or None
        ``run`` and ``results``, the contents of its two JSON files; None when there is no whole report.
    """
    run, results = read_json(folder / "run.json"), read_json(folder / "results.json")
    return {"run": run, "results": results} if _is_report(run, results) else None


def _is_report(run, results):
    return isinstance(run, dict) and isinstance(results, dict) and "started" in run and "figures" in results


def earlier(out, slug):
    """Read the earlier reports of a run.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the site.
    slug : str
        Name of the run.

    Returns
    -------
    list of dict
        As `report` gives them, with their ``folder``, the oldest first.
    """
    return [found | {"folder": folder} for folder in kept_folders(out, slug) if (found := report(folder))]


def changes(figures, facts, previous):
    """Say how key figures changed since the previous report.

    Parameters
    ----------
    figures : dict
        The recorded key figures.
    facts : dict
        What run.json says.
    previous : dict or None
        The previous report, from `report`.

    Returns
    -------
    dict
        Name of a figure to a sentence, for the figures that the previous report has too; under ``""`` what else to
        know about the comparison.
    """
    if not previous:
        return {}
    since, before = day(previous["run"]["started"]), previous["results"]["figures"]
    found = {name: _change(figure, before[name], since) for name, figure in figures.items() if name in before}
    if found and previous["run"].get("parameters") != facts.get("parameters"):
        found[""] = f"The report of {since} had other parameters."
    return found


def _change(figure, before, since):
    now, old = figure["value"], before.get("value")
    numbers = is_number(now) and is_number(old)
    if figure["unit"] == before.get("unit") and (math.isclose(now, old, rel_tol=_SAME) if numbers else now == old):
        return f"unchanged since {since}"
    if not numbers or figure["unit"] != before.get("unit"):
        return f"{before.get('text', old)} on {since}"
    limits = figure.get("interval") or []
    # Together, so that all have the decimals that the figure is shown with.
    words = in_words([now, *limits, abs(now - old)])[-1]
    unit = {"%": " points", "": ""}.get(figure["unit"], f" {figure['unit']}")
    inside = len(limits) == 2 and all(map(is_number, limits)) and limits[0] <= old <= limits[1]
    note = ", within the interval" if inside else ""
    return f"{'+' if now > old else '−'}{words}{unit} since {since} (was {before.get('text', old)}){note}"


def day(text):
    """Write a day of a record in words.

    Parameters
    ----------
    text : str
        Day or moment in ISO form.

    Returns
    -------
    str
        Such as "21 November 2026".

    Examples
    --------
    >>> day("2026-11-21T14:03:00+00:00")
    '21 November 2026'
    """
    moment = datetime.datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y}"


def sparkline(label, points):
    """Draw the course of a key figure over builds.

    Parameters
    ----------
    label : str
        What it is.
    points : list of tuple
        Moment of a build in ISO form, value and its text; the oldest first.

    Returns
    -------
    str
        A picture as markup, with its numbers in words; empty with fewer than two numbers.
    """
    points = [(moment, value, text) for moment, value, text in points if is_number(value)]
    if len(points) < 2:
        return ""
    values = [value for _moment, value, _text in points]
    low, high = min(values), max(values)
    # Halved first, because the distance of two very large numbers is none.
    flat = math.isclose(low, high, rel_tol=_SAME)
    heights = [0.5 if flat else (value / 2 - low / 2) / (high / 2 - low / 2) for value in values]
    places = [(2 + 96 * i / (len(values) - 1), 22 - 20 * height) for i, height in enumerate(heights)]
    words = "; ".join(f"{day(moment)}: {text}" for moment, _value, text in points)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return (
        f'<svg class="spark" viewBox="0 0 100 24" role="img"><title>{html.escape(f"{label} – {words}")}</title>'
        f'<polyline points="{line}"/><circle cx="{places[-1][0]:.1f}" cy="{places[-1][1]:.1f}" r="2"/></svg>'
    )


def results(out, history=False):
    """Put the key figures of all reports of a site in one table.

    Parameters
    ----------
    out : str or pathlib.Path
        Folder of the site, or a manifest, whose site is in the folder ``site`` beside it.
    history : bool, optional
        Earlier reports too, as far as the site keeps them.

    Returns
    -------
    pandas.DataFrame
        One row a key figure of a report: `report`, its `parameters` (JSON), `figure`, `value`, `low` and `high` (limits
        of the 95% interval), `unit`, `started` (UTC); by report, then moment, in the order of the notebook.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> results(tempfile.mkdtemp()).empty
    True
    """
    import pandas as pd

    table = pd.DataFrame(_rows(_site(out), history), columns=_COLUMNS, dtype=object)
    numbers = {"low": "float64", "high": "float64"}
    return table.astype(numbers).assign(started=pd.to_datetime(table["started"], format="ISO8601", utc=True))


def _rows(out, history):
    rows = []
    for folder in sorted(path for path in out.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = [*(earlier(out, folder.name) if history else []), *filter(None, [report(folder)])]
        rows += [row for one in found for row in _rows_of(folder.name, one)]
    return rows


def _rows_of(slug, one):
    parameters = json.dumps(one["run"].get("parameters", {}), ensure_ascii=False)
    for name, figure in one["results"]["figures"].items():
        low, high = figure.get("interval") or (None, None)
        values = [slug, parameters, name, figure["value"], low, high, figure["unit"], one["run"]["started"]]
        yield dict(zip(_COLUMNS, values, strict=True))


def _site(out):
    out = Path(out)
    out = out.parent / "site" if out.is_file() else out
    if not out.is_dir():
        raise FileNotFoundError(2, "there is no built site", str(out))
    return out
