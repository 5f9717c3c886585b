"""Whatever comes: an answer or a message in words, and every row that went in is kept or set aside.

`CRMLAB_FUZZ=50 pytest tests/test_fuzz.py -n0` searches fifty times as long, and elsewhere each time.
"""

import codecs
import csv
import datetime
import decimal
import gzip
import io
import json
import math
import os
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from crmlab import data
from crmlab.data.contracts import CONTRACTS
from crmlab.data.sources import open_source

AS_OF = "2024-06-30"
LONGER = int(os.environ.get("CRMLAB_FUZZ", "1"))


def fuzz(examples):
    return settings(
        max_examples=examples * LONGER,
        derandomize=LONGER == 1,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if LONGER > 1 else [])],
        suppress_health_check=list(HealthCheck),
    )


def n(table):
    return table.count().to_pyarrow().as_py()


ODD = """|a|A |a'b|c"d|007|7.0|NA|-|=1+1
顾客|é|\x85|\u2028|\ufeff|'; DROP TABLE x|m@x|active| |0x1F|1_000|1e999|-0|NaN|inf
2024-01-31|31.01.2024|01/02/2024|2024-02-30|0000-00-00|9999-12-31 23:59:59|20240131|45322|1|-1|1,5|1.234,50|€ 3"""
WORDS = st.sampled_from([*re.split(r"[|\n]", ODD), "1" * 400, "x" * 3000])
TEXTS = st.one_of(WORDS, st.text(max_size=8))
CALLED = """customer_id|date|amount|quantity|order_id|product_id|opened|closed|case_id|campaign_id|responded|channel
email|respondent_id|birth_date|age|status|CustomerID|Datum|Date|row|reason|cell|reasons|bad_date|bad_date_|load_
a b|q"q|o'o|| |crmlab_row_|row_source|place_|n_|valid_from|x|X"""
NAMES = st.one_of(st.sampled_from(re.split(r"[|\n]", CALLED)), st.text(max_size=5))


# Files of text.


def rarely(draw):
    return draw(st.sampled_from(range(8))) == 7


def alike(name):
    return name.strip().lower()


@st.composite
def text_files(draw):
    """Bytes that are a table, or nearly one."""
    names = ["customer_id", "date", "amount"] if not rarely(draw) else []
    names += draw(st.lists(NAMES, min_size=2 - bool(names), max_size=3))
    names = names if rarely(draw) else list({alike(name): name for name in names}.values())
    width = len(names)
    widths = st.integers(0, width + 2) if rarely(draw) else st.just(width)
    rows = [draw(cells_of(names, k)) for k in draw(st.lists(widths, min_size=not rarely(draw), max_size=8))]
    delimiter = draw(st.sampled_from(",;\t|"))
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"], ["\n", "\n\n"]]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])) if not rarely(draw) else None
    lines = []
    for row in [names, *rows]:
        line = delimiter.join(row)
        if quoting is not None:
            sink = io.StringIO(newline="")
            csv.writer(sink, delimiter=delimiter, quoting=quoting, lineterminator="").writerow(row)
            line = sink.getvalue()
        lines.append(line + draw(st.sampled_from(ends)))
    text = draw(st.sampled_from(["", "", "", "\n", "\ufeff"])) + "".join(lines)
    encodings = "utf-8 utf-8 utf-8 utf-8 utf-8-sig utf-16 gb18030 cp1252 utf-16-le utf-32"
    encoding = draw(st.sampled_from(encodings.split()))
    content = text.encode(encoding, errors="ignore")
    if rarely(draw) and content:
        at = draw(st.integers(0, len(content) - 1))
        content = content[:at] + draw(st.sampled_from([b"\0", b'"', b"\xff", b"\r", b"\n", b""])) + content[at + 1 :]
    if rarely(draw):
        content = gzip.compress(content)[: draw(st.sampled_from([None, None, -3]))]
    if encoding in ("gb18030", "cp1252", "utf-16-le") and not rarely(draw):
        return content, encoding
    return content, draw(st.sampled_from(["latin-1", "utf-8", "utf-16"])) if rarely(draw) else None


def cells_of(names, width):
    """Cells of a row; of the columns that every log has, more often such as they should be."""
    good = {
        "customer_id": ["a", "b'c", "007"],
        "date": ["2024-01-31", "2024-02-29 10:00"],
        "amount": ["1", "2.5", "-3"],
    }
    strategies = [
        st.one_of(st.sampled_from(good[name]), st.sampled_from(good[name]), TEXTS) if name in good else TEXTS
        for name in [*names, "", ""][:width]
    ]
    return st.tuples(*strategies).map(list)


def counted(content, encoding, columns):
    """Numbers of rows that the csv module finds, by every delimiter that gives the columns."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if encoding is None:
        marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
        encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8-sig")
    text = content.decode(encoding).removeprefix("\ufeff")
    csv.field_size_limit(1 << 24)
    counts = set()
    for delimiter in ",;\t|":
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
        if rows and len(rows[0]) == columns:
            counts.add(len(rows) - 1)
    return counts


@fuzz(18)
@given(file=st.one_of(text_files(), text_files(), st.tuples(st.binary(max_size=300), st.none())))
def test_any_file_is_read_whole_or_refused_in_words(tmp_path_factory, file):
    content, encoding = file
    path = tmp_path_factory.mktemp("fuzz") / "file.csv"
    path.write_bytes(content)
    try:
        opened = open_source(path, encoding=encoding)
    except data.DataError as error:
        said = str(error)
    else:
        said = None
    if said is not None:
        assert str(path) in said or "encoding" in said
        return
    rows = n(opened.table)
    assert rows in counted(content, encoding, len(opened.table.columns))
    for reader in (data.audit, lambda *a, **k: data.validate(a[0], "orders", *a[1:], **k)):
        try:
            found = reader(path, AS_OF, encoding=encoding)
        except data.DataError:
            continue
        assert found.rows == rows == n(found.kept) + n(found.set_aside)
        assert str(found)


@fuzz(15)
@given(
    rows=st.lists(st.fixed_dictionaries({}, optional={"customer_id": TEXTS, "date": TEXTS, "amount": st.floats()})),
    kind=st.sampled_from(["json", "lines", "xlsx", "parquet cut", "parquet flipped"]),
    at=st.floats(0, 1, exclude_max=True),
)
def test_other_kinds_of_files_and_damaged_ones_are_refused_in_words(tmp_path_factory, rows, kind, at):
    path = tmp_path_factory.mktemp("fuzz") / "file"
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "lines":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "xlsx":
        path.write_bytes(b"PK\x03\x04" + json.dumps(rows).encode())
    else:
        pd.DataFrame(rows or [{"customer_id": "a"}]).astype(str).to_parquet(path)
        whole = path.read_bytes()
        cut = int(at * len(whole))
        path.write_bytes(whole[:cut] if "cut" in kind else whole[:cut] + bytes([whole[cut] ^ 255]) + whole[cut + 1 :])
    for reader in (data.load, data.audit, lambda p: data.validate(p, "orders", AS_OF)):
        try:
            reader(path)
        except data.DataError:
            continue
        assert kind != "parquet cut"
        assert kind != "xlsx"


# Frames.

MOMENTS = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
NUMBERS = st.one_of(st.integers(-5, 5), st.floats(), st.sampled_from([1e308, -0.0, 1e-320, 2**53 + 1]))
ZONES = st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=2))])
MISSING = st.sampled_from([pd.NA, pd.NaT, None, math.nan])
SMALL = st.integers(0, 9)
MIXED = st.one_of(TEXTS, NUMBERS, MOMENTS, st.booleans(), st.binary(max_size=2), st.just([1]), st.just({}), MISSING)


def times(cells):
    return pd.to_datetime(pd.Series(cells), errors="coerce")


def in_zone(zone):
    return lambda cells: times(cells).dt.tz_localize("UTC").dt.tz_convert(zone)


def objects(cells):
    return pd.Series(cells, dtype=object)


def typed(dtype):
    return lambda cells: pd.Series(cells, dtype=dtype)


# What the cells are, and what a frame makes of them.
KINDS = [
    *[(TEXTS, objects)] * 2,
    (TEXTS, typed("string")),
    (WORDS, typed("category")),
    (SMALL, typed("category")),
    *[(NUMBERS, typed("float64"))] * 2,
    (st.integers(-(2**63), 2**63 - 1), typed("Int64")),
    (st.integers(0, 2**64 - 1), lambda cells: pd.Series([c or 0 for c in cells], dtype="uint64")),
    (st.booleans(), typed("boolean")),
    (st.decimals(allow_nan=False, allow_infinity=False, places=2), objects),
    (st.just(decimal.Decimal("1e60")), objects),
    *[(MOMENTS, times)] * 2,
    *[(MOMENTS, in_zone(zone)) for zone in ("UTC", "Europe/Berlin", "Asia/Shanghai", "America/New_York")],
    (st.builds(lambda moment, zone: moment.replace(tzinfo=zone), MOMENTS, ZONES), objects),
    (st.dates(), objects),
    (SMALL, lambda cells: pd.to_timedelta(pd.Series(cells), unit="s")),
    (st.times(), objects),
    (st.lists(SMALL, max_size=2), objects),
    (st.fixed_dictionaries({"a": SMALL, "b": st.text(max_size=2)}), objects),
    (st.builds(set, st.just([1])), objects),
    (st.binary(max_size=4), objects),
    (SMALL, lambda cells: pd.Series([complex(c or 0) for c in cells])),
    (SMALL, lambda cells: pd.Series(pd.PeriodIndex(["2024-01"] * len(cells), freq="M"))),
    (SMALL, lambda cells: pd.Series(pd.arrays.IntervalArray.from_arrays([0] * len(cells), [1] * len(cells)))),
    (MISSING, objects),
    (MIXED, objects),
]


@st.composite
def frames(draw, names=()):
    """A frame with any columns, the given ones among them as a rule, and some of those as they should be."""
    rows = 0 if rarely(draw) else draw(st.integers(1, 5))
    columns = [*(name for name in names if not rarely(draw)), *draw(st.lists(NAMES, max_size=3))]
    columns = columns if rarely(draw) else list({alike(name): name for name in columns}.values())
    frame, parts = pd.DataFrame(index=range(rows)), []
    for name in columns:
        if name in RIGHT and not rarely(draw):
            cells, made = RIGHT[name], objects
        else:
            cells, made = draw(st.sampled_from(KINDS))
        missing = st.none() if rarely(draw) else cells
        parts.append(made(draw(st.lists(st.one_of(cells, cells, missing), min_size=rows, max_size=rows))))
    frame = pd.concat(parts, axis=1) if parts else frame
    frame.columns = [7 if name == "x" else name for name in columns]
    shape = draw(st.sampled_from(["pandas", "pandas", "pandas", "index", "arrow", "polars"]))
    if shape == "index":
        frame.index = draw(st.sampled_from([pd.RangeIndex(3, 3 + rows, name="x"), pd.Index(["k"] * rows, name="date")]))
    if shape in ("arrow", "polars") and frame.columns.is_unique:
        try:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            # A NUL in a name ends the process inside Polars.
            return table if shape == "arrow" or "\0" in "".join(table.column_names) else pl.from_arrow(table)
        except (
            pa.ArrowException,
            TypeError,
            ValueError,
            OverflowError,
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
        ):
            return frame  # what neither can hold
    return frame


IDS = st.sampled_from(["a", "b", "c'd", "7", "8", "9"])
DAYS = st.datetimes(datetime.datetime(2020, 1, 1), datetime.datetime(2024, 7, 1))
RIGHT = {
    **dict.fromkeys(["customer_id", "case_id", "campaign_id", "respondent_id", "channel"], IDS),
    **dict.fromkeys(["date", "opened", "closed", "response_date"], st.one_of(DAYS, DAYS, DAYS, MOMENTS)),
    "amount": st.floats(allow_nan=False, allow_infinity=False),
    "responded": st.sampled_from([0, 1]),
}


def rows_of(frame):
    return frame.num_rows if isinstance(frame, pa.Table) else len(frame)


@fuzz(20)
@given(frame=frames(["customer_id", "date", "amount"]))
@example(pd.DataFrame({"customer_id": [2.0**63], "date": pd.to_datetime(["2024-01-31"]), "amount": [1.0]}))
def test_any_frame_is_audited_whole_or_refused_in_words(frame):
    try:
        found = data.audit(frame, AS_OF)
    except data.DataError:
        return
    assert found.rows == rows_of(frame) == n(found.kept) + n(found.set_aside)
    assert str(found)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_any_frame_is_checked_whole_against_a_contract_or_refused_in_words(contract):
    needed = [name for name, rule in CONTRACTS[contract].columns.items() if rule.required or name in RIGHT]

    @fuzz(15)
    @given(frame=frames(needed))
    def check(frame):
        try:
            found = data.validate(frame, contract, AS_OF)
        except data.DataError:
            return
        assert found.rows == rows_of(frame) == n(found.kept) + n(found.set_aside)
        assert found.failures["row"].nunique() == n(found.set_aside)
        assert str(found)

    check()


@fuzz(18)
@given(
    loads=st.lists(st.tuples(st.sampled_from(list(CONTRACTS)), st.integers(1, 3), st.data()), min_size=1, max_size=3)
)
def test_a_warehouse_takes_any_table_whole_or_refuses_it_and_stays_as_it_was(tmp_path_factory, loads):
    warehouse = data.Warehouse.create(tmp_path_factory.mktemp("fuzz") / "shop")
    for contract, day, draws in loads:
        needed = [name for name, rule in CONTRACTS[contract].columns.items() if rule.required or name in RIGHT]
        frame = draws.draw(frames(needed))
        from_day = f"2024-01-0{day}" if CONTRACTS[contract].metadata["key"] else None
        before = warehouse.log()
        try:
            line = warehouse.load(frame, contract, from_day, as_of=AS_OF)
        except data.DataError:
            pd.testing.assert_frame_equal(before, warehouse.log())
            continue
        assert line["rows"] == rows_of(frame)
        if line["known"] is None:
            assert line["rows"] == line["kept"] + line["set_aside"]
        assert warehouse.load(frame, contract, from_day, as_of=AS_OF)["known"] == line["load"]
    for name in warehouse.tables():
        warehouse.query(f"SELECT * FROM {name}", as_of="2024-01-02")
    assert not (warehouse.check()["severity"] == "error").where(warehouse.check()["rows"] > 0, False).any()


@fuzz(15)
@given(frame=frames(["customer_id", "date"]), other=frames(["customer_id"]))
def test_quality_is_told_of_any_frame_or_refused_in_words(frame, other):
    for ask in (
        lambda: data.completeness(frame),
        lambda: data.conflicts({"one": frame, "other": other}),
        lambda: data.timeliness({"one": frame}, AS_OF),
    ):
        try:
            found = ask()
        except data.DataError:
            continue
        assert isinstance(found, pd.DataFrame)
        assert not np.any(found.get("share", pd.Series(dtype=float)) > 1)
