"""Files of a site: written apart, put in their place whole, earlier reports kept, leftovers of killed builds removed.

A reader never finds half a report, and a killed build loses none. What is written lies in ``.tmp-…`` until it is whole;
a new report then changes places with the old one, which moves on to ``.history/NAME/20261122T150102Z``.
"""

import contextlib
import ctypes
import json
import os
import shutil
from pathlib import Path

HISTORY = ".history"
FAILED = ".failed"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE


def put_in_place(staged, target, earlier=None):
    """Put a finished folder in the place of what is there.

    Parameters
    ----------
    staged : pathlib.Path
        The folder, in ``new`` of a staging folder.
    target : pathlib.Path
        Where it goes.
    earlier : pathlib.Path, optional
        Where the folder that was there goes; it is deleted when not given.
    """
    target.parent.mkdir(exist_ok=True)
    if not target.exists():
        staged.replace(target)
        return
    _exchange(staged, target)
    if earlier is not None:
        _keep(staged, earlier)
    shutil.rmtree(staged, ignore_errors=True)


def history_of(out, slug, facts):
    """Return where an earlier report is kept.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the site.
    slug : str
        Name of the run.
    facts : dict
        What run.json of that report says.

    Returns
    -------
    pathlib.Path
        Folder named by the moment in which the report was started.
    """
    moment = facts["started"].replace("-", "").replace(":", "")
    return out / HISTORY / slug / f"{moment.partition('+')[0]}Z"


def kept_folders(out, slug):
    """Return the folders of the earlier reports of a run.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the site.
    slug : str
        Name of the run.

    Returns
    -------
    list of pathlib.Path
        The oldest first.
    """
    return sorted(path for path in (out / HISTORY / slug).glob("*") if path.is_dir())


def thin_history(out, slug, keep):
    """Delete the oldest of the earlier reports of a run.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the site.
    slug : str
        Name of the run.
    keep : int
        How many stay.
    """
    kept = kept_folders(out, slug)
    for folder in kept[: max(len(kept) - keep, 0)]:
        shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers(out):
    """Remove what killed builds left, when no other build works in the folder; no good report is lost by that.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the site.
    """
    for stage in out.glob(".tmp-*"):
        for found in [*stage.glob("old/*/run.json"), *stage.glob("new/*/run.json")]:
            folder, slug, facts = found.parent, found.parent.name, read_json(found)
            if not facts or facts.get("status") != "ok":
                continue
            published = read_json(out / slug / "run.json")
            if published is None and folder.parent.name == "old":
                # Taken out of the way, and nothing had come into its place yet.
                shutil.rmtree(out / slug, ignore_errors=True)
                folder.replace(out / slug)
            elif published and facts["started"] < published["started"]:
                _keep(folder, history_of(out, slug, facts))
        shutil.rmtree(stage, ignore_errors=True)
    for found in out.glob(f"{FAILED}/*/run.json"):
        failed, good = read_json(found), read_json(out / found.parent.name / "run.json")
        if failed and good and good["started"] > failed["started"]:
            shutil.rmtree(found.parent, ignore_errors=True)


def write_page(text, path, stage):
    """Write one file of the site, all of it or nothing; the same text is not written again.

    Parameters
    ----------
    text : str
        What to write.
    path : pathlib.Path
        Where.
    stage : pathlib.Path
        Staging folder.
    """
    content = text.encode("utf-8", "replace")
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return
    page = stage / "page"
    page.write_bytes(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.replace(path)


def read_json(path):
    """Read a JSON file of ours; a missing or broken one counts as none.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    dict, list or None
        Its content.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path, content):
    """Write a JSON file of ours.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : dict or list
        What it says.
    """
    # Without NaN, which JSON does not have; half a surrogate pair becomes the escape that JSON has for it.
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def _keep(folder, earlier):
    earlier.parent.mkdir(parents=True, exist_ok=True)
    # Two of the same second: the later one stays.
    shutil.rmtree(earlier, ignore_errors=True)
    folder.replace(earlier)


def _exchange(one, other):
    """Let two folders change places: in one step where the system can do that, else in three."""
    with contextlib.suppress(AttributeError, OSError):
        if ctypes.CDLL(None).renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
            return
    spare = Path(one).parent.parent / "old" / one.name
    spare.parent.mkdir(parents=True, exist_ok=True)
    other.replace(spare)
    one.replace(other)
    spare.replace(one)
