"""Files as they arrive: each is read right, or refused with a message that names the place and what to do."""

import contextlib
import gzip
import zipfile

import pandas as pd
import pytest

from crmlab.data.auditing import audit, check
from crmlab.data.errors import DataError
from crmlab.data.read import load

GOOD = "customer_id,date,amount\n00123,2024-01-31,12.50\n1e5,2024-02-29,3\n"
IDS = ["00123", "1e5"]


def write(folder, content, name="sales.csv"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def parquet(folder, frame, name="sales.parquet"):
    file = folder / name
    frame.to_parquet(file)
    return file


def frame(**columns):
    return pd.DataFrame({"customer_id": ["a"], "date": pd.to_datetime(["2024-01-31"]), **columns})


READ = {
    "plain": (GOOD, {}),
    "byte-order mark": ("\ufeff" + GOOD, {}),
    "utf-16 with its mark": (GOOD.encode("utf-16"), {}),
    "utf-16 without its mark": (GOOD.encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "semicolons and decimal commas": (GOOD.replace(".", "§").replace(",", ";").replace("§", ","), {}),
    "tabs": (GOOD.replace(",", "\t"), {}),
    "bars": (GOOD.replace(",", "|"), {}),
    "windows line ends": (GOOD.replace("\n", "\r\n"), {}),
    "old mac line ends": (GOOD.replace("\n", "\r"), {}),
    "mixed line ends": ("customer_id,date,amount\r\n00123,2024-01-31,12.50\n1e5,2024-02-29,3\r\n", {}),
    "no line end at the end": (GOOD.rstrip("\n"), {}),
    "blank lines": ("\n\n" + GOOD.replace("\n", "\n\n"), {}),
    "spaces around": ("customer_id , date,amount\n00123, 2024-01-31 , 12.50\n1e5,2024-02-29 ,3 \n", {}),
    "gzip": (gzip.compress(GOOD.encode()), {}),
    "gzip in another encoding": (
        gzip.compress((GOOD + "顾客,2024-03-01,1\n").encode("gb18030")),
        {"encoding": "gb18030"},
    ),
    "two members in a gzip": (
        gzip.compress(GOOD[:30].encode()) + gzip.compress(GOOD[30:].encode()),
        {},
    ),
    "quoted": ('"customer_id","date","amount"\n"00123","2024-01-31","12.50"\n"1e5","2024-02-29","3"\n', {}),
    "quoted line ends and delimiters": (
        'customer_id,date,amount,note\n00123,2024-01-31,12.50,"one, ""two""\nthree"\n1e5,2024-02-29,3,x\n',
        {},
    ),
    "a quoted line end in the header": (
        'customer_id,date,amount,"a\nnote"\n00123,2024-01-31,12.5,\n1e5,2024-02-29,3,\n',
        {},
    ),
    "a very long cell": (
        "customer_id,date,amount,note\n00123,2024-01-31,12.50," + "x" * 3_000_000 + "\n1e5,2024-02-29,3,\n",
        {},
    ),
    "chinese": ("客户编号;购买日期;金额\n00123;2024年1月31日;￥１２．５０\n1e5;2024年2月29日;3元\n", {}),
    "gb18030": (
        "客户编号,日期,金额\n00123,2024-01-31,12.50\n1e5,2024-02-29,3\n".encode("gb18030"),
        {"encoding": "gb18030"},
    ),
    "formulas": (
        "customer_id,date,amount,note\n00123,2024-01-31,12.50,\"=cmd()|' /C calc'!A0\"\n1e5,2024-02-29,3,@x\n",
        {},
    ),
    "a NUL byte far down": (
        "customer_id,date,amount,note\n00123,2024-01-31,12.50,\n1e5,2024-02-29,3,\n"
        + "b,2024-03-01,4,plain\n" * 999
        + "b,2024-03-01,4,\0\n",
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_readable_file_is_read_right(tmp_path, name):
    content, options = READ[name]
    log = load(write(tmp_path, content), **options).to_pandas()
    assert log["customer_id"].tolist()[:2] == IDS
    assert log["date"].tolist()[:2] == [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-29")]
    assert log["amount"].tolist()[:2] == [12.5, 3.0]


REFUSED = {
    "0 bytes": ("", "0 bytes"),
    "white space": (" \n\t\n", "white space"),
    "header only": ("customer_id,date,amount\n", "no rows"),
    "header without a line end": ("customer_id,date,amount", "no rows"),
    "no header": ("00123,2024-01-31,12.50\n1e5,2024-02-29,3\n", "first line must be a header"),
    "repeated column": (GOOD.replace("amount", "date"), r"'date' \(column 2\) and 'date' \(column 3\)"),
    "column repeated in capitals": (GOOD.replace("amount", "DATE"), r"'DATE' \(column 3\)"),
    "one column": ("customer_id\n1\n", "none of the delimiters"),
    "spaces for columns": (GOOD.replace(",", " "), "none of the delimiters"),
    "no such columns": ("a,b\n1,2\n", r"has the columns a, b.*customer_id=\"…\""),
    "too few fields": (GOOD + "7,2024-03-01\n", "row 3: 2 fields where the header has 3"),
    "too many fields": (GOOD + "7,2024-03-01,1,2\n", "row 3: 4 fields where the header has 3"),
    "only a ragged row": ("customer_id,date,amount\n7,2024-03-01\n", "row 1: 2 fields"),
    "quotation mark without end": (GOOD + '7,2024-03-01,"1\n', "row 3: a quotation mark that does not close"),
    "text after a quotation": (GOOD + '"7"x,2024-03-01,1\n', "row 3"),
    "cp1252": ((GOOD + "café,2024-03-01,1\n").encode("cp1252"), r"line 4, byte 67.*cp1252"),
    "cp1252 far down": ((GOOD + "b,2024-03-01,1\n" * 100_000 + "é,2024-03-01,1\n").encode("cp1252"), "line 100004"),
    "gb18030": ("客户编号,日期\n1,2024-01-01\n".encode("gb18030"), "line 1, byte 0.*gb18030.*客户编号"),
    "utf-16 without its mark": (GOOD.encode("utf-16-le"), "utf-16-le"),
    "half a character at the end": (GOOD.encode() + "é".encode()[:1], "does not decode"),
    "excel renamed": (b"PK\x03\x04" + b"x" * 100, "Excel workbook.*CSV"),
    "old excel renamed": (b"\xd0\xcf\x11\xe0" + b"x" * 100, "old Excel workbook"),
    "pdf renamed": (b"%PDF-1.7 ...", "PDF"),
    "bzip2": (b"BZh91AY&SY", "bzip2"),
    "truncated gzip": (gzip.compress(GOOD.encode() * 1000)[:-9], "cut short"),
    "damaged gzip": (b"\x1f\x8b" + b"\x00" * 50, "cut short or damaged"),
    "empty gzip": (gzip.compress(b""), "0 bytes"),
    "zeros": (b"\0" * 5000, "NUL"),
    "31 February": (GOOD + "7,2024-02-31,1\n", r"row 3, column 'date': '2024-02-31' is no day"),
    "mixed dates": (GOOD + "7,03/25/2024,1\n", "row 3, column 'date': '03/25/2024'"),
    "day or month": ("customer_id,date\n1,03/04/2024\n2,05/06/2024\n", 'date_format="%d/%m/%Y"'),
    "excel day numbers": ("customer_id,date\n1,45322\n2,45323.5\n", 'date_format="excel"'),
    "seconds": ("customer_id,date\n1,1706659200\n", 'date_format="epoch"'),
    "milliseconds": ("customer_id,date\n1,1706659200000\n", "divide"),
    "no dates at all": ("customer_id,date\n1,soon\n", "row 1, column 'date': 'soon' is not a date"),
    "no number": (GOOD + "7,2024-03-01,lots\n", "row 3, column 'amount': 'lots'"),
    "two currencies": (GOOD.replace("12.50", "$1") + "7,2024-03-01,€3\n8,2024-03-01,$4\n", "row 3, .*'€3'"),
    "thousands or decimals": (GOOD.replace("12.50", '"1,234"'), 'decimal="\\."'),
    "percent": (GOOD + "7,2024-03-01,3%\n", "'3%'"),
    "two candidates": ("client,user,date\n1,2,2024-01-01\n", 'customer_id="client"'),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_unreadable_file_is_refused_with_the_place_and_the_file(tmp_path, name):
    content, message = REFUSED[name]
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        load(file)
    assert "sales.csv" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("name", {**READ, **REFUSED})
def test_check_answers_for_every_file(tmp_path, name):
    content = (READ.get(name) or REFUSED[name])[0]
    found = check(write(tmp_path, content), notebooks=tmp_path, as_of="2024-12-31")
    assert found.exit_code in (0, 1, 2)
    assert found.text.strip()
    assert "Traceback" not in found.text


def test_faults_are_listed_with_row_column_value_and_problem(tmp_path):
    rows = "".join(f"{i},2024-01-01,{'x' if i % 2 else 1}\n" for i in range(1, 3001))
    with pytest.raises(DataError, match="1500 cells cannot be read") as caught:
        load(write(tmp_path, f"customer_id,date,amount\n{rows}"))
    faults = caught.value.faults
    assert list(faults.columns) == ["row", "column", "value", "problem"]
    assert faults["row"].tolist() == list(range(1, 2001, 2))
    assert set(faults["value"]) == {"x"}


def test_ragged_rows_are_listed(tmp_path):
    with pytest.raises(DataError) as caught:
        load(write(tmp_path, GOOD + "7\n" * 3))
    assert caught.value.faults["row"].tolist() == [3, 4, 5]


def test_a_fault_far_below_the_first_rows_is_found(tmp_path):
    with pytest.raises(DataError, match="row 50001, column 'date': '01/02/2024'"):
        load(write(tmp_path, "customer_id,date\n" + "1,2024-01-01\n" * 50_000 + "1,01/02/2024\n"))


def test_a_cell_far_below_the_first_rows_decides_day_and_month(tmp_path):
    log = load(write(tmp_path, "customer_id,date\n" + "1,01/02/2024\n" * 50_000 + "1,31/01/2024\n"))
    assert log.date.min().to_pyarrow().as_py().isoformat() == "2024-01-31T00:00:00"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (GOOD.encode(), "not a Parquet file"),
        (b"PAR1" + b"x" * 20, "cut short or damaged"),
    ],
)
def test_what_only_looks_like_parquet_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=f"sales.parquet.*{message}"):
        load(write(tmp_path, content, "sales.parquet"))


def test_truncated_parquet_is_refused(tmp_path):
    file = parquet(tmp_path, frame(amount=[1.0]))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="cut short"):
        load(file)


def test_parquet_under_another_name_is_read(tmp_path):
    assert load(parquet(tmp_path, frame(), "sales.csv")).count().to_pyarrow().as_py() == 1


def test_parquet_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        load(parquet(tmp_path, frame().iloc[:0]))


def test_parquet_with_text_dates_is_parsed_and_faults_have_rows(tmp_path):
    file = parquet(tmp_path, pd.DataFrame({"customer_id": ["a", "b"], "date": ["2024-01-31", "2024-02-31"]}))
    with pytest.raises(DataError, match="row 2, column 'date': '2024-02-31'"):
        load(file)


def test_parquet_files_of_different_columns_are_refused(tmp_path):
    parquet(tmp_path, frame(), "a.parquet")
    parquet(tmp_path, frame(extra=[1]), "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet.*only one has extra"):
        load(tmp_path)


def test_a_workbook_under_the_name_of_a_text_file_is_recognised(tmp_path):
    with zipfile.ZipFile(tmp_path / "sales.csv", "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match="Excel workbook"):
        load(tmp_path / "sales.csv")


def test_a_missing_file_is_named_with_near_ones(tmp_path):
    write(tmp_path, GOOD, "sales.csv")
    with pytest.raises(DataError, match=r"there is no such file. Did you mean sales.csv"):
        load(tmp_path / "sale.csv")


def test_a_folder_without_parquet_is_refused(tmp_path):
    write(tmp_path, GOOD)
    with pytest.raises(DataError, match="holds no Parquet files"):
        load(tmp_path)


def test_a_name_with_wildcards_is_a_name(tmp_path):
    write(tmp_path, GOOD, "sales[1]'s.csv")
    assert load(tmp_path / "sales[1]'s.csv").customer_id.to_pandas().tolist() == IDS


def test_an_unknown_encoding_is_refused(tmp_path):
    for encoding in ("no-such", "rot13"):
        with pytest.raises(DataError, match=encoding):
            load(write(tmp_path, GOOD), encoding=encoding)


def test_the_wrong_encoding_is_refused_with_the_place(tmp_path):
    with pytest.raises(DataError, match=r"not GB18030: line 4, byte 67"):
        load(write(tmp_path, (GOOD + "café,2024-03-01,1\n").encode("cp1252")), encoding="gb18030")


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for content, options in (READ["gzip"], READ["gb18030"], READ["mixed line ends"]):
        load(write(tmp_path, content), **options)
    with contextlib.suppress(DataError):
        load(write(tmp_path, REFUSED["truncated gzip"][0]))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("crmlab-")] == []


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        ("1,2024-01-01,5\n", "one customer only"),
        ("1,2024-01-01,5\n1,2024-02-01,5\n", "one customer only"),
        ("1,2024-01-01,5\n2,2024-01-01,5\n", "one day only"),
        ("1,2024-01-01,5\n2,2024-01-02,5\n", "no repeat purchases"),
        ("1,2024-01-01,-5\n2,2024-01-02,-5\n", "no rows kept"),
        ("1,2099-01-01,5\n2,9999-12-31,5\n", "no rows kept"),
        ("1,2024-01-01,x\n2,2024-01-02,y\n", "no rows kept"),
        (",2024-01-01,1\nNaN,2024-01-02,1\n", "no rows kept"),
    ],
)
def test_a_log_without_repeat_buying_is_unfit(tmp_path, rows, finding):
    found = audit(write(tmp_path, f"customer_id,date,amount\n{rows}"), as_of="2024-12-31")
    assert finding in found.findings["check"].tolist()
    assert found.fit == "unfit"
