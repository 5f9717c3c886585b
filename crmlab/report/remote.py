"""Data and sites that lie in object stores.

A site in a store is built in a local folder that stands for it and is then made like that folder. No store changes
several files at once: each report's files come before its ``run.json``, from which the next build knows what is there,
and the index page comes last, so a reader who comes in between sees a whole page with numbers of before. There is no
lock across machines either: let one schedule build one site.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from crmlab.data.errors import DataError
from crmlab.data.masking import mask
from crmlab.data.objects import in_store, version
from crmlab.report.publish import FAILED, HISTORY

# What stands for a file that lies in the store; pages need not travel to be kept, moved or deleted.
_MARK = b"crmlab, a file of the store: "


def digests(run):
    """Return what tells whether the data of a run have changed.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    dict
        For each file or address a text that changes with its content; None where it cannot be known now.
    """
    found = {}
    for place in run.data:
        if isinstance(place, str):
            # A store that does not answer is the report's own failure, not that of the build.
            with contextlib.suppress(DataError):
                found[place] = version(place)
            found.setdefault(place, None)
        else:
            status = place.stat()
            found[os.path.relpath(place, run.notebook.parent)] = _sha256(place, status.st_size, status.st_mtime_ns)
    return mask(found, run.known)


@functools.lru_cache(10_000)
def _sha256(path, _size, _changed):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def local_copy(out, read_only=False):
    """Give a local folder that stands for a site wherever it lies; what has changed in it in the end goes there.

    Parameters
    ----------
    out : str or pathlib.Path
        A folder, which is then itself the local one, or an address such as ``s3://bucket/reports``.
    read_only : bool, optional
        Leave the store as it is.

    Yields
    ------
    pathlib.Path
        The folder. Of a site in a store it has the JSON files and the index page; the other files are placeholders,
        which may be moved, copied and deleted as if they were the files.

    Raises
    ------
    DataError
        If the store cannot be reached, or the upload fails: then the folder is kept, and the message says where.
    """
    if "://" not in str(out):
        yield Path(out)
        return
    folder = Path(tempfile.mkdtemp(prefix="crmlab-site-"))
    kept = False
    try:
        before = _pull(out, folder)
        try:
            yield folder
        finally:
            # After Ctrl-C, too: the reports that were finished are there to stay.
            if not read_only:
                kept = True
                _push(folder, out, before)
                kept = False
    except DataError as error:
        if kept:
            raise DataError(f"{error} The reports could not be uploaded; they are kept in {folder}.") from None
        raise
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _pull(out, folder):
    """Fill the folder; return what each file was like, by its path."""

    def fill(fs, root):
        root, before = root.rstrip("/"), {}
        for name in fs.find(root):
            path = name.removeprefix(f"{root}/")
            if not name.startswith(f"{root}/") or not _ours(path):
                continue
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if path == "index.html" or path.endswith(".json"):
                fs.get_file(name, str(file))
            else:
                file.write_bytes(_MARK + path.encode())
            before[path] = _content(file)
        return before

    return in_store(out, fill)


def _push(folder, out, before):
    """Make the store like the folder."""
    after = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    after = {path: file for path, file in after.items() if _ours(path)}
    changed = {path: _content(file) for path, file in after.items()}
    changed = {path: content for path, content in changed.items() if before.get(path) != content}
    # What was only moved is copied there, before anything takes its old place.
    moved = {path: content for path, content in changed.items() if content.startswith(_MARK)}

    def follow(fs, root):
        root = root.rstrip("/")

        def place(path):
            if "file" in fs.protocol:
                # Object stores have no folders to be made.
                fs.makedirs(f"{root}/{path}".rpartition("/")[0], exist_ok=True)
            return f"{root}/{path}"

        for path, content in moved.items():
            fs.cp_file(f"{root}/{content.removeprefix(_MARK).decode()}", place(path))
        for path in sorted(changed.keys() - moved.keys(), key=_rank):
            fs.put_file(str(after[path]), place(path))
        for path in before.keys() - after.keys():
            fs.rm_file(f"{root}/{path}")

    if changed or before.keys() - after.keys():
        in_store(out, follow)


def _ours(path):
    """Locks and what builds put aside stay where they are; a store may have names that lead out of a folder."""
    first, *rest = path.split("/")
    return (not first.startswith(".") or first in (FAILED, HISTORY)) and ".." not in rest and "" not in rest


def _rank(path):
    """Files of a report, then what the next build reads of it, then the index page."""
    return path == "index.html", path.endswith("run.json"), path


def _content(file):
    """Return the content of a placeholder, and a digest of anything else."""
    with file.open("rb") as stream:
        if (head := stream.read(len(_MARK))) == _MARK:
            return head + stream.read()
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").digest()
