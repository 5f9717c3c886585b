"""CSV and its relatives into the embedded engine: every cell as text, every fault of the file by row."""

import codecs
import contextlib
import csv
import glob
import gzip
import io
import itertools
import shutil
import tempfile
import unicodedata
import weakref
import zlib
from pathlib import Path

import duckdb
import ibis

from crmlab.data.engine import connect
from crmlab.data.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
FAULTS = 1_000
_HEAD = 1 << 18
_LONGEST_ROW = 1 << 24
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = (
    (b"PK\x03\x04", "is an Excel workbook (or another zip archive), not text. Open it and save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook, not text. Open it and save the sheet as CSV UTF-8"),
    (b"%PDF", "is a PDF, not text. Export the table behind it as CSV"),
    (b"BZh", "is compressed with bzip2. Unpack it first, or compress it with gzip"),
    (b"\xfd7zXZ", "is compressed with xz. Unpack it first, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd. Unpack it first, or compress it with gzip"),
)


def keep(query, kind="TABLE"):
    """Give a query of the embedded engine a name there for as long as somebody uses it.

    Parameters
    ----------
    query : str
        SQL of DuckDB.
    kind : {"TABLE", "VIEW"}, default "TABLE"
        Compute it once, or at every use.

    Returns
    -------
    ibis.Table
        The answer; the engine forgets it with its last user.
    """
    con, name = connect(), ibis.util.gen_name("crmlab")
    con.raw_sql(f'CREATE {kind} "{name}" AS {query}')
    table = con.table(name)
    # An own cursor, so that dropping never disturbs a result that is being read.
    weakref.finalize(table.op(), con.con.cursor().execute, f'DROP {kind} IF EXISTS "{name}"').atexit = False
    return table


def keep_arrow(data, columns="*"):
    """Copy a table of Arrow into the embedded engine.

    Parameters
    ----------
    data : pyarrow.Table or pyarrow.RecordBatchReader
        The rows.
    columns : str, default "*"
        What to select of them, in SQL.

    Returns
    -------
    ibis.Table
        See `keep`.
    """
    con, view = connect().con, ibis.util.gen_name("crmlab_arrow")
    con.register(view, data)
    try:
        return keep(f'SELECT {columns} FROM "{view}"')
    finally:
        con.unregister(view)


def sql(table):
    """Return a table's query for the embedded engine.

    Parameters
    ----------
    table : ibis.Table
        A table of the embedded engine.

    Returns
    -------
    str
        SQL of DuckDB.
    """
    return ibis.to_sql(table, dialect="duckdb", pretty=False)


def quoted(text):
    """Return the text as a literal of SQL.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text in single quotes.

    Examples
    --------
    >>> quoted("O'Neill")
    "'O''Neill'"
    """
    return "'" + str(text).replace("'", "''") + "'"


def read_text_file(path, encoding=None):
    """Read a delimited text file into the embedded engine, every cell as text.

    Parameters
    ----------
    path : pathlib.Path
        The file, plain or compressed with gzip.
    encoding : str, optional
        How its bytes are to be read; UTF-8, or what a byte-order mark says, without it.

    Returns
    -------
    ibis.Table
        Text columns under the file's own names, rows in the order of the file.

    Raises
    ------
    DataError
        No text, another encoding, no header, repeated names, or rows with too many or too few fields.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="crmlab-", ignore_cleanup_errors=True) as folder:
        try:
            plain = _unpacked(path, Path(folder))
            utf8 = _as_utf8(plain, path, encoding, Path(folder))
            return _read_utf8(utf8, path, Path(folder))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _unpacked(path, folder):
    """The file itself, or its content when it is compressed; DuckDB would take a truncated archive for a whole one."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    target = folder / "unpacked"
    try:
        with gzip.open(path) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is cut short or damaged: it does not unpack to the end. Copy it again.") from error
    return target


def _as_utf8(plain, path, encoding, folder):
    """A file with the same text in UTF-8; the file itself when it is that already."""
    with plain.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise DataError(f"{path} is empty (0 bytes).")
    for magic, message in _NOT_TEXT:
        if head.startswith(magic):
            raise DataError(f"{path} {message}.")
    if encoding is None:
        encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if encoding is None and b"\0" in head:
            raise DataError(
                f"{path} has NUL bytes in its first lines, as UTF-16 without a byte-order mark has: try "
                'load(…, encoding="utf-16-le") or load(…, encoding="utf-16-be"). If it is no text, export it as CSV.'
            )
    try:
        if encoding is None or codecs.lookup(encoding).name in ("utf-8", "ascii", "utf-8-sig"):
            return plain
    except LookupError:
        raise DataError(
            f"encoding={encoding!r} is not known; common ones are utf-8, gb18030, cp1252, utf-16."
        ) from None
    return _rewritten(plain, path, encoding, folder / "utf8")


def _rewritten(plain, path, encoding, target):
    """Copy as UTF-8 with one kind of line end, piece by piece."""
    try:
        with plain.open(encoding=encoding) as source, target.open("w", encoding="utf-8", newline="\n") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except UnicodeDecodeError:
        raise _wrong_encoding(plain, path, encoding) from None
    except (UnicodeError, ValueError, LookupError) as error:
        raise DataError(f"{path} cannot be read with encoding={encoding!r}: {error}.") from error
    return target


def _first_bad_byte(file, encoding):
    """Offset and line of the first byte that does not decode, None when all do."""
    decoder, offset, line = codecs.getincrementaldecoder(encoding)(), 0, 1
    while True:
        piece = file.read(1 << 20)
        waiting = len(decoder.getstate()[0])
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            # The error counts from the bytes that the decoder still held back.
            good = max(error.start - waiting, 0)
            return offset + error.start - waiting, line + piece[:good].count(b"\n"), piece[good : good + 40]
        if not piece:
            return None
        offset, line = offset + len(piece), line + piece.count(b"\n")


def _wrong_encoding(plain, path, encoding):
    """The error that names the place and the encodings that would do."""
    with plain.open("rb") as file:
        offset, line, sample = _first_bad_byte(file, encoding)
        would_do = []
        for other in ("gb18030", "cp1252", "utf-16-le", "utf-16-be"):
            file.seek(0)
            if other == encoding or _first_bad_byte(file, other) is not None:
                continue
            file.seek(0)
            text = file.read(4096).decode(other, errors="ignore")
            if any(sign in text.partition("\n")[0] for sign in DELIMITERS) and "\n" in text:
                shown = sample.decode(other, errors="replace").splitlines()[0:1]
                would_do.append(f'encoding="{other}" (there it reads {"".join(shown)[:20]!r})')
    advice = (
        f"These would decode it: {'; '.join(would_do)}. Call load(…, encoding=…) with the one that reads right."
        if would_do
        else "None of gb18030, cp1252 and utf-16 decodes it either: export the file again as CSV UTF-8."
    )
    return DataError(f"{path} is not {encoding.upper()}: line {line}, byte {offset} does not decode. {advice}")


def _read_utf8(file, path, folder):
    delimiter, names, blank = _header(file, path)
    try:
        return _scan(file, path, delimiter, names, blank)
    except duckdb.Error as error:
        # Mixed line ends stop DuckDB; written anew with one kind, the file reads.
        again = _rewritten(file, path, "utf-8-sig", folder / "again")
        try:
            return _scan(again, path, delimiter, names, _header(again, path)[2])
        except duckdb.Error:
            _explain(again, path, delimiter, len(names))
            raise DataError(f"{path} cannot be read as text with columns: {str(error).splitlines()[0]}") from error


def _header(file, path):
    """Delimiter, column names, and the number of blank lines before the header."""
    with file.open("rb") as source:
        piece = source.read(_HEAD)
        whole = len(piece) < _HEAD
    try:
        head = codecs.getincrementaldecoder("utf-8-sig")().decode(piece, final=whole)
    except UnicodeDecodeError:
        raise _wrong_encoding(file, path, "utf-8") from None
    if not head.strip(" \t\r\n\ufeff\0"):
        raise DataError(f"{path} holds nothing but white space.")
    best = (0, 0, DELIMITERS[0], [], 0)
    for delimiter in DELIMITERS:
        rows = []
        with contextlib.suppress(csv.Error):
            rows.extend(itertools.islice(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), 200))
        # The end of a long file's first piece is not the end of a row.
        rows = rows[:-1] if not whole and 1 < len(rows) < 200 else rows
        blank = len(list(itertools.takewhile(lambda row: not row, rows)))
        rows = [row for row in rows if row]
        if rows and len(rows[0]) > 1:
            same = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            best = max(best, (same, len(rows[0]), delimiter, rows[0], blank), key=lambda option: option[:2])
    if not best[3]:
        first = next(line for line in head.splitlines() if line.strip())
        raise DataError(
            f"{path} has no columns: its first line, {first[:60]!r}, has none of the delimiters , ; tab |. "
            "Export it as CSV, or read it with pandas and pass the frame."
        )
    return best[2], _names(best[3], path), best[4]


def _names(header, path):
    names = [
        unicodedata.normalize("NFC", name.strip().strip("\ufeff")) or f"unnamed_{i}" for i, name in enumerate(header, 1)
    ]
    check_names(names, path)
    return names


def check_names(names, source):
    """Refuse column names that the engine could not tell apart or not hold.

    Parameters
    ----------
    names : list of str
        The column names.
    source : object
        What they are the columns of, for the message.

    Raises
    ------
    DataError
        Two names are the same, or differ only by case, or one has a NUL character.
    """
    places = {}
    for place, name in enumerate(names, 1):
        if "\0" in name:
            raise DataError(f"{source}: the name of column {place}, {name!r}, has a NUL character: rename it.")
        places.setdefault(name.lower(), []).append((place, name))
    for same in places.values():
        if len(same) > 1:
            where = " and ".join(f"{name!r} (column {place})" for place, name in same)
            raise DataError(
                f"{source} has more than one column of the same name: {where}. Names must differ by more than "
                "upper and lower case: rename one."
            )


def _scan(file, path, delimiter, names, blank):
    rejects = ibis.util.gen_name("crmlab_rejects")
    con = connect()
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
    try:
        table = keep(
            f"SELECT * FROM read_csv({quoted(glob.escape(str(file)))}, auto_detect=false, header=true, skip={blank}, "
            f"delim={quoted(delimiter)}, quote='\"', escape='\"', columns={{{columns}}}, encoding='utf-8', "
            f"max_line_size={_LONGEST_ROW}, store_rejects=true, rejects_limit={FAULTS}, rejects_table='{rejects}', "
            f"rejects_scan='{rejects}_scan')"
        )
        rejected = con.raw_sql(f"SELECT error_type::VARCHAR FROM {rejects}").fetchall()
    finally:
        for name in (rejects, f"{rejects}_scan"):
            con.raw_sql(f"DROP TABLE IF EXISTS {name}")
    if ("INVALID ENCODING",) in rejected:
        raise _wrong_encoding(file, path, "utf-8")
    if rejected:
        _explain(file, path, delimiter, len(names))
        raise DataError(f"{path} has rows that cannot be read: {rejected[0][0].lower()}.")
    return table


def _explain(file, path, delimiter, width):
    """Find the rows that have too many or too few fields, and say so; slow, and only run when there are some."""
    import pandas as pd

    faults, total, row = [], 0, 0
    with file.open(encoding="utf-8-sig", newline="") as source:
        reader = csv.reader(source, delimiter=delimiter, strict=True)
        try:
            next(fields for fields in reader if fields)
            for fields in reader:
                row += bool(fields)
                if fields and len(fields) != width:
                    total += 1
                    problem = f"{len(fields)} fields where the header has {width}"
                    if total <= FAULTS:
                        faults.append((row, None, delimiter.join(fields)[:200], problem))
        except csv.Error as error:
            total += 1
            said = {"unexpected end of data": "a quotation mark that does not close"}.get(str(error), str(error))
            said = "a very long cell: probably a quotation mark that does not close" if "limit" in said else said
            faults.append((row + 1, None, "", f"{said} (line {reader.line_num} of the file)"))
        except UnicodeDecodeError:
            raise _wrong_encoding(file, path, "utf-8") from None
    if faults:
        shown = "\n".join(
            f"  row {row}: {problem}{value and f': {value[:60]!r}'}" for row, _, value, problem in faults[:5]
        )
        raise DataError(
            f"{path}: {total} row{'s' * (total > 1)} with the wrong number of fields or broken quotes "
            f"(rows counted from 1 after the header):\n{shown}\n"
            "Put text that contains the delimiter into quotation marks, or export the file again.",
            pd.DataFrame(faults, columns=["row", "column", "value", "problem"]),
        )
