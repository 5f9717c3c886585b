"""Build the reports of a manifest into a site: only what is stale, each published whole, one index.

The site has ``index.html``, a folder for each report (``index.html``, ``report.ipynb``, ``results.json``,
``tables/*.csv``, ``run.json``) and, for runs that failed, ``.failed/NAME`` with the notebook as far as it came. A
report that was good once stays until a newer one is good.
"""

import concurrent.futures
import contextlib
import datetime
import fnmatch
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
import traceback
from pathlib import Path

import crmlab
from crmlab.data.masking import mask
from crmlab.report.manifest import TIMEOUT, ManifestError, Run, read_manifest, title_of
from crmlab.report.parameters import (
    check_parameters,
    locate_dataset,
    parse_settings,
    read_notebook,
    read_parameters,
)
from crmlab.report.record import collect, versions

_INDEX_FIGURES = 4
# By whether there is a good report, and a failed run after it.
_STATES = {
    (True, False): "Good",
    (True, True): "Last good report; a newer run failed",
    (False, True): "Failed",
    (False, False): "Not built yet",
}


def build(manifest, out=None, jobs=None, force=False, only=None, on_event=None):
    """Build the reports of a manifest that are stale and write the index page.

    A report is stale when its notebook's cells, parameters, data files, this package or the locked packages changed, or
    when its last run failed. Data behind a database address are not looked at: use `force`.

    Parameters
    ----------
    manifest : str or pathlib.Path
        The manifest.
    out : str or pathlib.Path, optional
        Folder of the site; ``site`` beside the manifest when not given.
    jobs : int, optional
        Reports that run at a time; as many as there are processors when not given.
    force : bool, optional
        Build what is unchanged too.
    only : str, optional
        Pattern of the names to build, such as ``"retention*"``; the index still has all.
    on_event : callable, optional
        Called with name, state (``"running"``, ``"ok"``, ``"failed"``, ``"unchanged"``) and note, from several threads.

    Returns
    -------
    list of dict
        What run.json says, for each report looked at.

    Raises
    ------
    ManifestError
        If the manifest, its parameters or the folder cannot be used; nothing has run then.
    """
    runs = read_manifest(manifest)
    out = Path(out) if out else Path(manifest).parent / "site"
    chosen = [run for run in runs if only is None or fnmatch.fnmatchcase(run.slug, only)]
    if not chosen:
        raise ManifestError(f"No report is named like {only!r}; there are {', '.join(run.slug for run in runs)}.")
    index = out / "index.html"
    if index.exists() and 'content="crmlab"' not in index.read_text(encoding="utf-8", errors="replace")[:600]:
        raise ManifestError(f"{index} is not an index of crmlab; choose another folder with --out.")
    return _build(chosen, out, jobs or getattr(os, "process_cpu_count", os.cpu_count)(), force, on_event, index_of=runs)


def run_once(notebook, settings=(), out="site", timeout=TIMEOUT, on_event=None):
    """Run one notebook into a report, without a manifest.

    Parameters
    ----------
    notebook : str or pathlib.Path
        The notebook.
    settings : iterable of str, optional
        Parameters as ``name=value``.
    out : str or pathlib.Path, optional
        Folder in which the report gets a folder of its own.
    timeout : float, optional
        Seconds for the whole report.
    on_event : callable, optional
        As in `build`.

    Returns
    -------
    dict
        What run.json says.

    Raises
    ------
    ParameterError
        If the parameters cannot be used; nothing has run then.
    """
    notebook = Path(notebook)
    declared = read_parameters(notebook)
    given = check_parameters(declared, parse_settings(declared, settings))
    parameters, files = locate_dataset(given, Path(), notebook)
    slug = re.sub(r"[^a-z0-9_-]+", "-", notebook.stem.lower()).strip("-") or "report"
    run = Run(slug, title_of(read_notebook(notebook)) or notebook.stem, notebook, parameters, timeout, files)
    return _build([run], Path(out), 1, True, on_event)[0]


def states(manifest, out=None):
    """Tell for each report of a manifest whether it is up to date.

    Parameters
    ----------
    manifest : str or pathlib.Path
        The manifest.
    out : str or pathlib.Path, optional
        Folder of the site; ``site`` beside the manifest when not given.

    Returns
    -------
    list of tuple
        Run and ``"unchanged"``, ``"stale"``, ``"failed"`` or ``"new"``.

    Raises
    ------
    ManifestError
        If the manifest cannot be used.
    """
    out = Path(out) if out else Path(manifest).parent / "site"
    shared = _shared_facts()
    return [(run, _state(run, out, _facts(run, shared)["key"])) for run in read_manifest(manifest)]


def _build(runs, out, jobs, force, on_event, index_of=None):
    on_event = on_event or (lambda slug, state, note="": None)
    shared, results, stale = _shared_facts(), {}, []
    for run in runs:
        facts = _facts(run, shared)
        if not force and _state(run, out, facts["key"]) == "unchanged":
            results[run.slug] = _read(out / run.slug / "run.json")
            on_event(run.slug, "unchanged")
        else:
            stale.append((run, facts))
    for run, _ in stale:
        if (out / run.slug).exists() and not (out / run.slug / "run.json").exists():
            raise ManifestError(
                f"{out / run.slug} exists and is not a report of crmlab; move it away or choose another folder."
            )
    out.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out)
    stage = Path(tempfile.mkdtemp(prefix=f".tmp-{os.getpid()}-", dir=out))
    try:
        if stale:
            git = _git(stale[0][0].notebook.parent)
            for run, facts in stale:
                results[run.slug] = facts | {"git": git}
            _run_all(
                [(run, results[run.slug]) for run, _ in stale], out, stage, jobs, on_event, home=index_of is not None
            )
    finally:
        if index_of is not None:
            page = stage / "index.html"
            page.write_text(_index(index_of, out), encoding="utf-8")
            page.replace(out / "index.html")
        shutil.rmtree(stage, ignore_errors=True)
    return [results[run.slug] for run in runs]


def _run_all(work, out, stage, jobs, on_event, home):
    # Once and here, because threads that import the same packages at the same time wait for each other.
    import papermill  # noqa: F401

    from crmlab.report.run import Kernels

    kernels = Kernels()
    alone = min(jobs, len(work)) == 1

    def one(run, facts):
        def on_cell(cell, cells):
            on_event(run.slug, "running", f"cell {cell} of {cells}")

        on_event(run.slug, "running")
        staged = stage / "new" / run.slug
        _report(run, facts, staged, kernels, not alone, home, on_cell)
        if kernels.stopped:
            return
        good, failed = facts["status"] == "ok", out / ".failed" / run.slug
        _publish(staged, out / run.slug if good else failed, stage)
        if good:
            shutil.rmtree(failed, ignore_errors=True)
        on_event(run.slug, facts["status"], f"{facts['seconds']:.1f} s" if good else facts["error"]["message"])

    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        for future in concurrent.futures.as_completed([pool.submit(one, run, facts) for run, facts in work]):
            future.result()
    except BaseException:
        kernels.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _report(run, facts, folder, kernels, single_thread, home, on_cell):
    """Execute a run and write its files into a folder; how it went is added to the facts."""
    from crmlab.report.page import render
    from crmlab.report.run import RunError, execute

    clock = time.monotonic()
    facts["started"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    folder.mkdir(parents=True)
    notebook = None
    try:
        notebook = execute(run, kernels, single_thread, on_cell)
        figures, tables = collect(notebook)
        results = {
            "figures": {name: _but(figure, "kind", "name") for name, figure in figures.items()},
            "tables": {
                name: {"file": f"tables/{name}.csv"} | _but(table, "kind", "name", "csv")
                for name, table in tables.items()
            },
        }
        (folder / "tables").mkdir()
        for name, table in tables.items():
            # Spreadsheets take a file without the mark for another encoding.
            (folder / "tables" / f"{name}.csv").write_text(table["csv"], "utf-8-sig", "replace", newline="")
        _write(folder / "results.json", results)
        _write(folder / "report.ipynb", notebook)
        facts |= {"status": "ok", "error": None, "seconds": round(time.monotonic() - clock, 2)}
        downloads = ["report.ipynb", "results.json", *(table["file"] for table in results["tables"].values())]
        page = render(notebook, run, read_parameters(run.notebook), facts, figures, downloads, home)
        (folder / "index.html").write_text(page, encoding="utf-8", errors="replace")
    except Exception as error:
        if not isinstance(error, RunError):
            what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            error = RunError("report", what, "".join(traceback.format_exception(error)[-3:]), notebook)
        shutil.rmtree(folder)
        folder.mkdir()
        if error.notebook is not None:
            _write(folder / "report.ipynb", error.notebook)
        failure = {"kind": error.kind, "message": str(error), "details": error.details}
        facts |= {"status": "failed", "error": failure, "seconds": round(time.monotonic() - clock, 2)}
    _write(folder / "run.json", facts)


def _publish(staged, target, stage):
    """Put a finished folder in its place; the old one is out of the way before it is deleted."""
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        old = stage / "old" / target.relative_to(stage.parent)
        old.parent.mkdir(parents=True, exist_ok=True)
        target.replace(old)
    staged.replace(target)


def _clear_leftovers(out):
    """Remove what killed builds left; a report they had just taken out of the way goes back."""
    for stage in out.glob(".tmp-*"):
        if _alive(int(stage.name.split("-")[1])):
            continue
        for kept in [path.parent for path in stage.glob("old/**/run.json")]:
            target = out / kept.relative_to(stage / "old")
            if not target.exists():
                kept.replace(target)
        shutil.rmtree(stage, ignore_errors=True)


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _state(run, out, key):
    good = _read(out / run.slug / "run.json")
    if (out / ".failed" / run.slug / "run.json").exists():
        return "failed"
    if good is None:
        return "new"
    return "unchanged" if good.get("key") == key and (out / run.slug / "index.html").exists() else "stale"


def _shared_facts():
    """Return what all reports of a build have in common."""
    package = Path(crmlab.__file__).parent
    lock = package.parent / "requirements.lock"
    sources = [path for path in package.rglob("*") if path.suffix in (".py", ".html", ".css", ".toml")]
    sources += (package.parent / "data" / "published").glob("*.toml")
    return {
        "sources": {os.path.relpath(path, package): _sha256(path) for path in sorted(sources)},
        "lock_sha256": _sha256(lock) if lock.exists() else None,
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _facts(run, shared):
    """Return what is known of a run beforehand; its key changes when the report has to be made again."""
    # Text is part of the report, outputs and the time of their last run are not.
    cells = [
        [
            cell["cell_type"],
            cell["source"],
            cell["metadata"]["tags"],
            cell["metadata"].get("alt"),
            cell.get("attachments"),
        ]
        for cell in read_notebook(run.notebook)["cells"]
    ]
    data = {os.path.relpath(path, run.notebook.parent): _sha256(path) for path in run.data}
    # Masked, because a short password could be guessed from a hash.
    inputs = [cells, mask(run.parameters), run.title, data, shared]
    return {
        "slug": run.slug,
        "title": run.title,
        "key": hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest(),
        "parameters": mask(run.parameters),
        "notebook": {"name": run.notebook.name, "sha256": _sha256(run.notebook)},
        "data": data,
        "warnings": [],
        **_but(shared, "sources"),
    }


def _sha256(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _git(folder):
    """Return the commit of a folder and whether it has changes since; nothing outside git."""

    def ask(*words):
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    return None


def _index(runs, out):
    from crmlab.report.page import template

    rows = []
    for run in runs:
        good, failure = _read(out / run.slug / "run.json"), _read(out / ".failed" / run.slug / "run.json")
        results = _read(out / run.slug / "results.json") or {"figures": {}}
        rows.append(
            {
                "slug": run.slug,
                "title": run.title,
                "good": good,
                "failure": failure,
                "partial": (out / ".failed" / run.slug / "report.ipynb").exists(),
                "state": _STATES[bool(good), bool(failure)],
                "figures": list(results["figures"].values())[:_INDEX_FIGURES],
            }
        )
    rows.sort(key=lambda row: row["failure"] is None)
    return template("index.html").render(rows=rows, failed=sum(row["failure"] is not None for row in rows))


def _but(mapping, *names):
    return {name: value for name, value in mapping.items() if name not in names}


def _read(path):
    """Read a JSON file of ours; a missing or broken one counts as none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path, content):
    # Without NaN, which JSON does not have; half a surrogate pair becomes the escape that JSON has for it.
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
