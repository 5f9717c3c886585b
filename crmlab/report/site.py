"""Build the reports of a manifest into a site: only what is stale, each published whole, one index.

The site has ``index.html``, a folder for each report (``index.html``, ``report.ipynb``, ``results.json``,
``tables/*.csv``, ``run.json``), the reports before it in ``.history/NAME/`` and, for runs that failed, ``.failed/NAME``
with the notebook as far as it came. A report that was good once stays until a newer one is good.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import fnmatch
import os
import shutil
import tempfile
import threading
import time
import traceback
from pathlib import Path

from crmlab.data.masking import mask
from crmlab.report.cache import facts_of, git_of, shared_facts, state_of
from crmlab.report.executors import executor_of
from crmlab.report.lock import locked
from crmlab.report.manifest import TIMEOUT, ManifestError, read_manifest, refuse_links, single_run
from crmlab.report.parameters import read_parameters
from crmlab.report.publish import (
    FAILED,
    clear_leftovers,
    history_of,
    put_in_place,
    read_json,
    thin_history,
    write_json,
    write_page,
)
from crmlab.report.remote import local_copy


def build(
    manifest, out=None, jobs=None, force=False, only=None, on_event=None, *, index=None, code=False, executor="local"
):
    """Build the reports of a manifest that are stale and write the index page.

    A report is stale when its notebook's cells, parameters, data files, this package or the locked packages changed, or
    when its last run failed. Data behind a database address are not looked at: use `force`.

    Parameters
    ----------
    manifest : str or pathlib.Path
        The manifest.
    out : str or pathlib.Path, optional
        Folder or address of the site; ``site`` beside the manifest when not given.
    jobs : int, optional
        Reports that run at a time; as many as there are processors when not given.
    force : bool, optional
        Build what is unchanged too.
    only : str, optional
        Pattern of the names to build, such as ``"retention*"``; the index still has all.
    on_event : callable, optional
        Called with name, state and note, from several threads. States of a report are ``"running"``, ``"ok"``,
        ``"failed"`` and ``"unchanged"``; with an empty name, ``"progress"`` tells how far the build is and
        ``"warning"`` what is not as it should be.
    index : int, optional
        Build only the run of this number, from 0 on, and no index page: others may build the other runs at the same
        time, on other machines too.
    code : bool, optional
        Put the code into the pages, folded.
    executor : str, optional
        Where notebooks run: ``"local"`` or the address of a Dask scheduler such as ``"dask://host:8786"``.

    Returns
    -------
    list of dict
        What run.json says, for each report looked at.

    Raises
    ------
    ManifestError
        If the manifest, its parameters or the folder cannot be used; nothing has run then.
    LockedError
        If another build works in the folder.
    """
    runs = _with_code(read_manifest(manifest), code)
    chosen = [run for run in runs if only is None or fnmatch.fnmatchcase(run.slug, only)]
    if not chosen:
        raise ManifestError(f"No report is named like {only!r}; there are {', '.join(run.slug for run in runs)}.")
    if index is not None:
        if not 0 <= index < len(runs):
            raise ManifestError(f"There is no report {index}; there are {len(runs)}, numbered 0 to {len(runs) - 1}.")
        chosen = [runs[index]]
    with local_copy(out or Path(manifest).parent / "site") as folder:
        page = folder / "index.html"
        if page.exists() and 'content="crmlab"' not in page.read_text(encoding="utf-8", errors="replace")[:600]:
            raise ManifestError(f"{page} is not an index of crmlab; choose another folder with --out.")
        listed = runs if index is None else None
        return _build(chosen, folder, jobs, force, on_event, listed=listed, home=True, executor=executor)


def run_once(notebook, settings=(), out="site", timeout=TIMEOUT, on_event=None, *, secret=(), code=False):
    """Run one notebook into a report, without a manifest.

    Parameters
    ----------
    notebook : str or pathlib.Path
        The notebook.
    settings : iterable of str, optional
        Parameters as ``name=value``.
    out : str or pathlib.Path, optional
        Folder or address in which the report gets a folder of its own.
    timeout : float, optional
        Seconds for the whole report.
    on_event : callable, optional
        As in `build`.
    secret : iterable of str, optional
        Names of the parameters whose values are shown nowhere.
    code : bool, optional
        Put the code into the page, folded.

    Returns
    -------
    dict
        What run.json says.

    Raises
    ------
    ParameterError
        If the parameters cannot be used; nothing has run then.
    """
    run = single_run(notebook, settings, timeout, secret)
    with local_copy(out) as folder:
        return _build(_with_code([run], code), folder, 1, True, on_event)[0]


def states(manifest, out=None):
    """Tell for each report of a manifest whether it is up to date, and why not.

    Parameters
    ----------
    manifest : str or pathlib.Path
        The manifest.
    out : str or pathlib.Path, optional
        Folder or address of the site; ``site`` beside the manifest when not given.

    Returns
    -------
    list of tuple
        Run, ``"unchanged"``, ``"stale"``, ``"failed"`` or ``"new"``, and the reason in words.

    Raises
    ------
    ManifestError
        If the manifest cannot be used.
    """
    runs, shared = read_manifest(manifest), shared_facts()
    with local_copy(out or Path(manifest).parent / "site", read_only=True) as folder:
        return [(run, *state_of(run, folder, facts_of(run, shared))) for run in runs]


def _with_code(runs, code):
    return [dataclasses.replace(run, code=run.code or code) for run in runs]


def _build(runs, out, jobs, force, on_event, listed=None, home=False, executor="local"):
    """Build the runs that are stale; `listed` are those of the index page, when there is to be one."""
    on_event = on_event or (lambda slug, state, note="": None)
    refuse_links(out, listed or runs)
    for run in runs:
        if (out / run.slug).exists() and not (out / run.slug / "run.json").exists() and any((out / run.slug).iterdir()):
            raise ManifestError(
                f"{out / run.slug} exists and is not a report of crmlab; move it away or choose another folder."
            )
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, together=listed is None, alone=lambda: clear_leftovers(out)):
        shared, results, stale = shared_facts(), {}, []
        for run in runs:
            facts = facts_of(run, shared)
            if not force and state_of(run, out, facts)[0] == "unchanged":
                results[run.slug] = read_json(out / run.slug / "run.json")
                on_event(run.slug, "unchanged", "")
            else:
                stale.append(run)
                results[run.slug] = facts
        stage = Path(tempfile.mkdtemp(prefix=".tmp-", dir=out))
        try:
            if stale:
                _run_all(stale, results, out, stage, jobs, on_event, home, executor)
        finally:
            try:
                if listed is not None:
                    _write_pages(listed, out, stage, shared)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    return [results[run.slug] for run in runs]


def _write_pages(runs, out, stage, shared):
    from crmlab.report.index import history_pages, index_page

    found = {run.slug: state_of(run, out, facts_of(run, shared)) for run in runs}
    pages = history_pages(runs, out)
    pages["index.html"] = index_page(runs, out, {slug: why for slug, (state, why) in found.items() if state == "stale"})
    for name, text in pages.items():
        write_page(text, out / name, stage)


def _run_all(runs, results, out, stage, jobs, on_event, home, executor):
    git = git_of(runs[0].notebook.parent)
    expected = {run.slug: (read_json(out / run.slug / "run.json") or {}).get("seconds") for run in runs}
    # The longest first, so that none is left alone at the end.
    runs = sorted(runs, key=lambda run: expected[run.slug] or 0, reverse=True)
    with executor_of(executor, runs, jobs, on_event) as (execute, kernels, jobs):
        course = _Course(expected, jobs, on_event)

        def one(run):
            facts = results[run.slug]
            facts["git"] = git
            course.start(run.slug)
            staged = stage / "new" / run.slug
            good = _whole_report(run, facts, staged, out, execute, kernels, home, course)
            if not kernels.stopped:
                note = f"{facts['seconds']:.1f} s" if good else facts["error"]["message"]
                course.end(run.slug, facts["status"], note)

        pool = concurrent.futures.ThreadPoolExecutor(jobs)
        try:
            for future in concurrent.futures.as_completed([pool.submit(one, run) for run in runs]):
                future.result()
        except BaseException:
            kernels.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


class _Course:
    """How far a build is: what is done, and how long the rest takes if it takes as long as the last time."""

    def __init__(self, expected, jobs, on_event):
        self._expected, self._jobs, self._tell = dict(expected), jobs, on_event
        self._started, self._done, self._lock = {}, {}, threading.Lock()

    def start(self, slug):
        """A report begins."""
        with self._lock:
            self._started[slug] = time.monotonic()
        self._tell(slug, "running", "")

    def cell(self, slug, cell, cells):
        """A cell of it begins."""
        self._tell(slug, "running", f"cell {cell} of {cells}")
        self._tell("", "progress", self.words())

    def end(self, slug, state, note):
        """The report is done."""
        with self._lock:
            self._done[slug] = time.monotonic() - self._started[slug]
        self._tell("", "progress", self.words())
        self._tell(slug, state, note)

    def words(self):
        """Return the state of the build in words."""
        with self._lock:
            now, count = time.monotonic(), f"{len(self._done)} of {len(self._expected)} done"
            known = [seconds for seconds in self._expected.values() if seconds] + list(self._done.values())
            left = [slug for slug in self._expected if slug not in self._done]
            if not left or not known:
                return count
            usual = sum(known) / len(known)
            rests = [max((self._expected[slug] or usual) - (now - self._started.get(slug, now)), 0.0) for slug in left]
            seconds = max(sum(rests) / self._jobs, max(rests))
        return f"{count}, about {f'{seconds:.0f} s' if seconds < 90 else f'{seconds / 60:.0f} min'} left"


def _whole_report(run, facts, staged, out, execute, kernels, home, course):
    """Make a report and put it in its place, or what is known of its failure; return whether it is good."""
    from crmlab.report.run import RunError

    clock = time.monotonic()
    facts["started"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before, failed = read_json(out / run.slug / "run.json"), out / FAILED / run.slug
    facts["previous"] = before and before.get("started")
    notebook = None
    try:
        notebook = _executed(run, facts, execute, kernels, course)
        _write_report(notebook, run, facts, staged, out, home, clock)
        if kernels.stopped:
            return False
        put_in_place(staged, out / run.slug, before and history_of(out, run.slug, before))
        thin_history(out, run.slug, run.keep)
        shutil.rmtree(failed, ignore_errors=True)
    except Exception as error:
        if kernels.stopped:
            return False
        if isinstance(error, OSError):
            what = f"its files could not be written: {error.strerror or error}"
            error = RunError("report", what)
        elif not isinstance(error, RunError):
            what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            error = RunError("report", what, "".join(traceback.format_exception(error)[-3:]), notebook)
        failure = {"kind": error.kind, "message": str(error), "details": error.details}
        failure = mask(failure, run.known)
        facts |= {"status": "failed", "error": failure, "seconds": round(time.monotonic() - clock, 2)}
        # On a full disk not even the failure can be kept; it is told, and the other reports go on.
        with contextlib.suppress(OSError):
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            if error.notebook is not None:
                write_json(staged / "report.ipynb", error.notebook)
            write_json(staged / "run.json", facts)
            put_in_place(staged, failed)
        return False
    return True


def _executed(run, facts, execute, kernels, course):
    """Execute the notebook, again when it fails and may be tried again."""
    from crmlab.report.run import RunError, cell_seconds

    for attempt in range(run.retries + 1):
        facts["attempts"] = attempt + 1
        try:
            notebook = execute(run, lambda cell, cells: course.cell(run.slug, cell, cells))
        except RunError:
            # A server that was away is not back at once.
            if attempt == run.retries or kernels.wait(min(2**attempt, 60)):
                raise
        else:
            facts["cell_seconds"] = round(cell_seconds(notebook), 2)
            return notebook
    raise AssertionError


def _write_report(notebook, run, facts, folder, out, home, clock):
    """Write the files of a good report into a folder; how it went is added to the facts."""
    from crmlab.report.history import report
    from crmlab.report.page import render
    from crmlab.report.record import collect

    folder.mkdir(parents=True)
    figures, tables, about = collect(notebook)
    facts |= {"data_as_of": _newest(run.data)} | about
    results = {
        "figures": {name: _but(figure, "kind", "name") for name, figure in figures.items()},
        "tables": {
            name: {"file": f"tables/{name}.csv"} | _but(table, "kind", "name", "csv") for name, table in tables.items()
        },
    }
    (folder / "tables").mkdir()
    for name, table in tables.items():
        # Spreadsheets take a file without the mark for another encoding.
        (folder / "tables" / f"{name}.csv").write_text(table["csv"], "utf-8-sig", "replace", newline="")
    write_json(folder / "results.json", results)
    write_json(folder / "report.ipynb", notebook)
    downloads = ["report.ipynb", "results.json", *(table["file"] for table in results["tables"].values())]
    facts |= {"status": "ok", "error": None, "seconds": round(time.monotonic() - clock, 2)}
    parameters, previous = read_parameters(run.notebook), report(out / run.slug)
    if "pdf" in run.formats:
        from crmlab.report.pdf import pdf

        (folder / "report.pdf").write_bytes(pdf(notebook, run, parameters, facts, figures, previous))
        downloads.append("report.pdf")
    page = render(notebook, run, parameters, facts, figures, downloads, home, previous=previous)
    (folder / "index.html").write_text(page, encoding="utf-8", errors="replace")
    facts["seconds"] = round(time.monotonic() - clock, 2)
    # The last file: a folder that has it is whole.
    write_json(folder / "run.json", facts)


def _newest(data):
    """Return the day of the newest data file, or None when there is none."""
    times = [place.stat().st_mtime for place in data if isinstance(place, os.PathLike) and place.exists()]
    return datetime.datetime.fromtimestamp(max(times), datetime.UTC).date().isoformat() if times else None


def _but(mapping, *names):
    return {name: value for name, value in mapping.items() if name not in names}
