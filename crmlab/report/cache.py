"""What a report is made from, and why one that is there has to be made again."""

import contextlib
import functools
import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path

import crmlab
from crmlab.data.masking import mask
from crmlab.report.parameters import read_notebook
from crmlab.report.publish import FAILED, read_json
from crmlab.report.record import versions
from crmlab.report.remote import digests

_PACKAGE = (".py", ".html", ".css", ".js", ".typ", ".toml")
# Parts of the inputs, and what a change of them is called.
_PARTS = {
    "cells": "notebook changed",
    "title": "title changed",
    "layout": "formats changed",
    "package": "crmlab changed",
    "lock": "locked packages changed",
    "software": "Python or a package changed",
}


def shared_facts():
    """Return what all reports of a build have in common.

    Returns
    -------
    dict
        Hashes of the package and of its lock file, versions and platform.
    """
    package = Path(crmlab.__file__).parent
    lock, data = package.parent / "requirements.lock", package.parent / "data"
    sources = [path for path in package.rglob("*") if path.suffix in _PACKAGE]
    sources += [*data.rglob("*.toml"), *data.rglob("*.csv")]
    return {
        "package_sha256": _hash({os.path.relpath(path, package): _sha256(path) for path in sorted(sources)}),
        "lock_sha256": _sha256(lock) if lock.exists() else None,
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def facts_of(run, shared):
    """Return what is known of a run beforehand.

    Parameters
    ----------
    run : Run
        The run.
    shared : dict
        What `shared_facts` says.

    Returns
    -------
    dict
        The beginning of run.json; `inputs` has a hash of each part that the report is made from, `key` one of all.
    """
    size, changed = _stamp(run.notebook)
    data, parameters = digests(run), run.shown
    inputs = {
        "cells": _cells(run.notebook, size, changed),
        "title": _hash(run.title),
        "layout": _hash([run.formats, run.code]),
        # As they are shown, because a short password could be guessed from a hash.
        "parameters": {name: _hash(value) for name, value in parameters.items()},
        "data": data,
        "package": shared["package_sha256"],
        "lock": shared["lock_sha256"],
        "software": _hash([shared["versions"], shared["platform"]]),
    }
    facts = {
        "slug": run.slug,
        "title": run.title,
        "key": _hash(inputs),
        "inputs": inputs,
        "parameters": parameters,
        "notebook": {"name": run.notebook.name, "sha256": _sha256(run.notebook)},
        "data": data,
        "warnings": [],
        **shared,
    }
    return mask(facts, run.known)


def state_of(run, out, facts):
    """Tell whether a report is up to date, and why not.

    Parameters
    ----------
    run : Run
        The run.
    out : pathlib.Path
        Folder of the site.
    facts : dict
        What `facts_of` says now.

    Returns
    -------
    state : str
        ``"unchanged"``, ``"stale"``, ``"failed"`` or ``"new"``.
    why : str
        The reason in words; empty when the report is up to date.
    """
    good, failure = read_json(out / run.slug / "run.json"), read_json(out / FAILED / run.slug / "run.json")
    if failure and not (good and good["started"] > failure["started"]):
        return "failed", f"last run failed: {failure['error']['message']}"
    if good is None:
        return "new", "never built"
    pages = [name for name in ("index.html", "report.pdf") if name[-4:] != ".pdf" or "pdf" in run.formats]
    why = [f"{name} is missing" for name in pages if not (out / run.slug / name).exists()]
    before, now = good.get("inputs"), facts["inputs"]
    if before is None:
        return "stale", "; ".join([*why, "built by an earlier version of crmlab"])
    why += [words for part, words in _PARTS.items() if before.get(part) != now[part]]
    why += [f"parameter {name} changed" for name in _changed(before, now, "parameters")]
    why += [f"data {name} changed" for name in _changed(before, now, "data")]
    why += [f"data {name} cannot be looked at" for name, digest in now["data"].items() if digest is None]
    return ("stale", "; ".join(why)) if why else ("unchanged", "")


def _changed(before, now, part):
    before, now = before.get(part, {}), now[part]
    # What cannot be looked at says so in words of its own.
    return [
        name
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "") != now.get(name, "") and now.get(name, "") is not None
    ]


def git_of(folder):
    """Return the commit of a folder and whether it has changes since; nothing outside git.

    Parameters
    ----------
    folder : pathlib.Path
        Any folder.

    Returns
    -------
    dict or None
        ``commit`` and ``dirty``.
    """

    def ask(*words):
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    return None


@functools.lru_cache(maxsize=1000)
def _cells(path, _size, _changed):
    # Text is part of the report, outputs and the time of their last run are not.
    return _hash(
        [
            [
                cell["cell_type"],
                cell["source"],
                cell["metadata"]["tags"],
                cell["metadata"].get("alt"),
                cell.get("attachments"),
            ]
            for cell in read_notebook(path)["cells"]
        ]
    )


def _stamp(path):
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _hash(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _sha256(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
