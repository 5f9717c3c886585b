"""Sources of tables: files of text and Parquet, frames, databases, the catalogue."""

import contextlib
import difflib
import glob
import re
from pathlib import Path
from typing import NamedTuple

import ibis
import pyarrow as pa
import pyarrow.compute

from crmlab.data.engine import connect
from crmlab.data.errors import DataError
from crmlab.data.masking import mask, passwords
from crmlab.data.objects import is_remote, local_copy
from crmlab.data.textfile import check_names, keep, keep_arrow, quoted, read_text_file


class Opened(NamedTuple):
    """A source as it is: its table, its name in messages, has it an order, is it a copy in the embedded engine."""

    table: ibis.Table
    name: str
    ordered: bool
    embedded: bool


@contextlib.contextmanager
def damage_in_words():
    """Say in words that a file, opened in good faith, turns out to be damaged where it is read; also a decorator.

    Raises
    ------
    DataError
        The engine cannot read on.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        # Only what the engine says of files: any other error would be a mistake of ours.
        if type(error) not in (duckdb.InvalidInputException, duckdb.IOException, duckdb.Error):
            raise
        said = next(iter(str(error).splitlines()), "")
        raise DataError(f"A file is damaged in the middle: copy it again. The engine says: {said}") from error


def open_source(source, table=None, encoding=None):
    """Open a source without looking at what its columns mean.

    Parameters
    ----------
    source : str, pathlib.Path, frame or ibis.Table
        See `crmlab.data.load`.
    table : str, optional
        Table of the database.
    encoding : str, optional
        Encoding of a text file.

    Returns
    -------
    Opened
        Its table under the source's own column names, and what is known of it.

    Raises
    ------
    DataError
        The source is not there, is of no kind that is read, is damaged or has no rows.
    """
    address = isinstance(source, str) and re.match(r"[A-Za-z][\w+.-]+://", source)
    if isinstance(source, str) and source.startswith("warehouse:"):
        from crmlab.data.star import Warehouse

        return Opened(Warehouse(source.removeprefix("warehouse:")).table(table or "orders"), source, False, False)
    if table is not None and not address:
        raise DataError(f"table={table!r} goes with the address of a database (duckdb://…, postgres://…) only.")
    if isinstance(source, ibis.Table):
        check_names(source.columns, "the table")
        return Opened(source, "table", False, False)
    if address and is_remote(source):
        return _open_path(local_copy(source), encoding)._replace(name=mask(source))
    if address:
        return Opened(_open_database(source, table), mask(source), False, False)
    if isinstance(source, str | Path):
        from crmlab.data.sets import names, open_dataset

        bare = isinstance(source, str) and re.fullmatch(r"\w+", source)
        if bare and (source in names() or not Path(source).exists()):
            return Opened(open_dataset(source), source, False, False)
        return _open_path(Path(source), encoding)
    if hasattr(source, "collect") and not hasattr(source, "__arrow_c_stream__"):
        source = source.collect()
    if hasattr(source, "__arrow_c_stream__") and hasattr(source, "columns"):
        return Opened(_open_frame(source), "frame", True, True)
    raise DataError(
        f"A {type(source).__name__} is no source: pass a path, a frame, an Ibis table, the address of a database or a "
        "name of the catalogue."
    )


def _open_path(path, encoding):
    if path.is_dir() or (not path.exists() and glob.has_magic(str(path))):
        found = path.rglob("*.parquet") if path.is_dir() else Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        files = sorted(str(file) for file in found if file.is_file())
        if not files:
            raise DataError(
                f"{path} holds no Parquet files (*.parquet); text files are read one at a time, by their path."
            )
        return Opened(_open_parquet(files, path), str(path), True, False)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"The folder is {path.parent.absolute()}."
        raise DataError(f"{path}: there is no such file. {hint}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if start == b"PAR1":
        return Opened(_open_parquet([str(path)], path), str(path), True, False)
    if path.suffix.lower() in (".parquet", ".pq"):
        what = "is empty (0 bytes)" if not start else "is not a Parquet file, in spite of its name"
        raise DataError(f"{path} {what}: write it again, or name it after what it is (.csv for text).")
    table = read_text_file(path, encoding)
    if not table.count().to_pyarrow().as_py():
        raise DataError(f"{path} has a header ({', '.join(table.columns)}) and no rows.")
    return Opened(table, str(path), True, True)


def _open_parquet(files, path):
    import duckdb
    import pyarrow.parquet as pq

    rows, zones, first = 0, {}, None
    for file in files:
        try:
            metadata = pq.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{file} is no whole Parquet file (cut short or damaged): copy it again.") from error
        check_names(schema.names, file)
        first = first or schema
        if odd := sorted(set(schema.names) ^ set(first.names)):
            raise DataError(f"{file} and {files[0]} do not have the same columns: only one has {', '.join(odd)}.")
        rows += metadata.num_rows
        zones |= {field.name: field.type.tz for field in schema if getattr(field.type, "tz", None)}
    if not rows:
        raise DataError(f"{path} has columns ({', '.join(first.names)}) and no rows.")
    names = ", ".join(quoted(glob.escape(file)) for file in files)
    # The engine keeps instants; the wall clock of the zone is what the log is about.
    walls = ", ".join(f"{_wall_time(identifier(name), zone)} AS {identifier(name)}" for name, zone in zones.items())
    replace = f"REPLACE ({walls})" if walls else ""
    try:
        return keep(f"SELECT * {replace} FROM read_parquet([{names}], union_by_name=true)", "VIEW")
    except duckdb.Error as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def identifier(name):
    """Return a name as SQL writes names that may be odd.

    Parameters
    ----------
    name : str
        Name of a column or table.

    Returns
    -------
    str
        The name in double quotes.

    Examples
    --------
    >>> identifier('12" disc')
    '"12"" disc"'
    """
    return '"' + name.replace('"', '""') + '"'


def _wall_time(column, zone):
    offset = re.fullmatch(r"([+-])(\d\d):(\d\d)", zone)
    if not offset:
        return f"timezone({quoted(zone)}, {column})"
    sign, hours, minutes = offset.groups()
    return f"timezone('UTC', {column}) {sign} INTERVAL '{hours}:{minutes}:00'"


def _open_frame(frame):
    import duckdb

    # Before the columns are touched: a NUL in a name ends the process inside Polars.
    check_names(map(str, getattr(frame, "column_names", frame.columns)), "The frame")
    try:
        frame = _arrow_of_pandas(frame) if hasattr(frame, "iloc") else pa.table(frame)
    except Exception as error:  # every library of frames has its own errors
        raise DataError(f"The frame cannot be read: {error}. Convert its odd columns to text.") from error
    check_names(frame.column_names, "The frame")
    if not frame.num_rows:
        raise DataError(f"The frame has columns ({', '.join(frame.column_names)}) and no rows.")
    names = [name or f"unnamed_{i}" for i, name in enumerate(frame.column_names, 1)]
    frame = pa.table([_plain(column) for column in frame.columns], names=names)
    try:
        return keep_arrow(frame)
    except (duckdb.Error, pa.ArrowException):
        # Types that the engine does not have, such as decimals of sixty digits: their text.
        return keep_arrow(pa.table([_taken_or_text(column) for column in frame.columns], names=names))


def _plain(column):
    """The column of a simple type: no dictionary, no time zone but its wall time."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        # What Arrow cannot unpack (dictionaries of Polars), the engine can.
        with contextlib.suppress(pa.ArrowNotImplementedError):
            column = column.cast(kind.value_type)
    if pa.types.is_timestamp(column.type) and column.type.tz:
        try:
            column = pa.compute.local_timestamp(column)
        except pa.ArrowException as error:
            raise DataError(f"The time zone {column.type.tz!r} of the frame is not known: {error}.") from error
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _taken_or_text(column):
    import duckdb

    try:
        keep_arrow(pa.table({"x": column}))
        return column
    except (duckdb.Error, pa.ArrowException):
        return pa.chunked_array([_texts(column.to_pylist())], pa.string())


def _texts(values):
    """What a CSV of the values would have."""
    from pandas import isna
    from pandas.api.types import is_scalar

    return pa.array(
        [
            None if is_scalar(value) and isna(value) else str(value).encode("utf-8", "replace").decode()
            for value in values
        ],
        pa.string(),
    )


def _arrow_of_pandas(frame):
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index(allow_duplicates=True)
    arrays = []
    for i in range(frame.shape[1]):
        column = frame.iloc[:, i]
        try:
            arrays.append(pa.Array.from_pandas(column))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            arrays.append(_texts(column))  # mixed types in one column
    names = [str(name) for name in frame.columns]
    return pa.table([pa.chunked_array([a]) if isinstance(a, pa.Array) else a for a in arrays], names=names)


def _open_database(url, table):
    scheme = url.partition("://")[0].lower()
    if scheme not in ("duckdb", "postgres", "postgresql"):
        advice = "Download the file and pass its path." if scheme in ("http", "https", "ftp") else ""
        raise DataError(
            f"{mask(url)}: addresses that are read begin with duckdb://, postgres:// or postgresql://, s3:// or gs://. "
            f"{advice or 'For another database, connect with Ibis and pass the table.'}"
        )
    if scheme == "duckdb":
        file = url.partition("://")[2].partition("?")[0]
        if not Path(file).is_file():
            raise DataError(f"{url}: there is no file {file}.")
    # Opening a DuckDB file for writing would lock others out.
    reading = (
        f"{url}{'&' if '?' in url else '?'}read_only=True" if scheme == "duckdb" and "read_only" not in url else url
    )
    fault = None
    try:
        con = connect(reading)
        tables = con.list_tables()
        if table in tables:
            return con.table(table)
        schema, _, bare = str(table).rpartition(".")
        if schema and bare in con.list_tables(database=schema):
            return con.table(bare, database=schema)
    except (ImportError, ModuleNotFoundError):
        fault = ": reading PostgreSQL needs a driver: pip install 'crmlab[postgres]'"
    except Exception as error:  # every driver has its own errors, and their texts may quote the address
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        fault = f" cannot be opened: {mask(said, passwords(url, least=1))}"
    if fault:
        # Not from within the except: an exception keeps the driver's, which keeps the password.
        raise DataError(f"{mask(url)}{fault}")
    con.disconnect()
    missing = f"no table {table!r}" if table else "say which table to read: load(…, table=…)"
    raise DataError(f"{mask(url)}: {missing}. Tables there: {', '.join(tables) or 'none'}.")
