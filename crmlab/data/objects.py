"""Files in object stores, through fsspec: where they are, which version they are, a copy to read."""

import atexit
import functools
import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

from crmlab.data.errors import DataError
from crmlab.data.masking import mask, passwords

STORES = ("abfs", "az", "file", "gcs", "gs", "memory", "s3", "s3a")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_SAFE = re.compile(r"[^\w.-]")
# What stores call the mark of a content, the surest first; the last ones only count with the size.
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest", "crc32c", "generation")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "updated", "created")


def is_remote(name):
    """Tell whether a name is the address of a file in an object store.

    Parameters
    ----------
    name : str
        A path, a name of the catalogue or an address.

    Returns
    -------
    bool
        True for ``s3://…``, ``gs://…``, ``abfs://…``, ``file://…`` and ``memory://…``.

    Examples
    --------
    >>> is_remote("s3://shop/orders.parquet"), is_remote("postgres://host/shop"), is_remote("orders.parquet")
    (True, False, False)
    """
    return name.partition("://")[0] in STORES and "://" in name


def in_store(address, work):
    """Do something in the store of an address; what goes wrong there is said in words, without keys and passwords.

    Parameters
    ----------
    address : str
        Any address that fsspec knows.
    work : callable
        Called with the store (it remembers no listings, so that it shows what is there now) and the path in it.

    Returns
    -------
    object
        What the work returns.

    Raises
    ------
    DataError
        The package for this store is missing, the store is not reached, or it refuses.
    """
    try:
        from fsspec.core import url_to_fs

        return work(*url_to_fs(address, use_listings_cache=False))
    except DataError:
        raise
    except ImportError as error:
        scheme = address.partition("://")[0]
        fault = f"a package is missing: pip install 'crmlab[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else str(error)
    except FileNotFoundError:
        fault = "there is no such file"
    except Exception as error:  # each store has errors of its own
        fault = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    # Not from within the except: an exception keeps the store's, which may keep a key.
    raise DataError(f"{mask(address)}: {mask(fault, passwords(address, least=1))}.")


def version(address):
    """Return a text that changes when what lies at an address changes, without reading it.

    Parameters
    ----------
    address : str
        A file, a pattern such as ``"s3://shop/sales/*.parquet"``, or a folder of Parquet files.

    Returns
    -------
    str or None
        Made of the checksums that the store has, else of time and size; None where it has neither.

    Raises
    ------
    DataError
        Nothing lies there, or the store cannot be reached.
    """
    marks = in_store(address, lambda fs, path: [(name, _mark(fs.info(name))) for name in _files(fs, path)])
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest() if all(mark for _, mark in marks) else None


def local_copy(address):
    """Copy what lies at an address to a temporary folder of this process; once, as long as it does not change.

    Parameters
    ----------
    address : str
        As in `version`.

    Returns
    -------
    pathlib.Path
        The file, or a folder with the files; it is there until the process ends.

    Raises
    ------
    DataError
        Nothing lies there, or the store cannot be reached.
    """
    return _copied(address, version(address))


@functools.cache
def _copied(address, _version):
    folder = Path(tempfile.mkdtemp(prefix="crmlab-copy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    def copy(fs, path):
        found = _files(fs, path)
        # Files of several folders may have one name.
        local = [
            folder / f"{number:05d}-{_SAFE.sub('_', name.rpartition('/')[2])}" for number, name in enumerate(found)
        ]
        for name, file in zip(found, local, strict=True):
            fs.get_file(name, str(file))
        return local[0] if found == [fs._strip_protocol(path)] else folder

    return in_store(address, copy)


def _files(fs, path):
    if fs.isfile(path):
        return [fs._strip_protocol(path)]
    if any(sign in path for sign in "*?["):
        found = sorted(name for name in fs.glob(path) if fs.isfile(name))
    else:
        found = sorted(name for name in fs.find(path) if name.endswith(".parquet"))
    if not found:
        raise FileNotFoundError(path)
    return found


def _mark(info):
    for name in _MARKS:
        if info.get(name):
            return str(info[name])
    return next((f"{info[name]} {info.get('size')}" for name in _TIMES if info.get(name)), None)
