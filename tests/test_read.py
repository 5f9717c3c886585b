"""Reading: every cell survives, one way of reading a column, nothing guessed."""

import datetime
import gc
import subprocess
import sys
import uuid

import duckdb
import ibis
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmlab.data.engine import connect
from crmlab.data.errors import DataError
from crmlab.data.masking import mask
from crmlab.data.read import load


def csv(folder, column, cells, name="log.csv"):
    """A file whose column `column` has the cells."""
    head = ["customer_id", "date"] if column != "date" else ["customer_id"]
    rows = [f'{i};2024-01-31;"{cell}"' if column != "date" else f'{i};"{cell}"' for i, cell in enumerate(cells)]
    file = folder / name
    file.write_text("\n".join([";".join([*head, column]), *rows]) + "\n", encoding="utf-8")
    return file


def read(folder, column, cells, **options):
    return load(csv(folder, column, cells), **options)[column].to_pyarrow().to_pylist()


def day(year=2024, month=1, day=31, *time):
    return datetime.datetime(year, month, day, *time)


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["2024-01-31", "2024-2-9"], [day(), day(month=2, day=9)]),
        (["2024-01-31T10:20:30Z", "2024-01-31 23:00:00+02:00"], [day(2024, 1, 31, 10, 20, 30), day(2024, 1, 31, 23)]),
        (["2024-01-31 10:20:30.123456789 +0530"], [day(2024, 1, 31, 10, 20, 30, 123456)]),
        (["20240131", "20240201"], [day(), day(month=2, day=1)]),
        (["2024/1/31", "2024/01/31 9:05"], [day(), day(2024, 1, 31, 9, 5)]),
        (["31/01/2024", "1/2/2024"], [day(), day(month=2, day=1)]),
        (["01/31/2024 12:05 AM", "1/2/2024 1:05:09 pm"], [day(2024, 1, 31, 0, 5), day(2024, 1, 2, 13, 5, 9)]),
        (["31.1.2024", "1.2.2024 10:00:00"], [day(), day(2024, 2, 1, 10)]),
        (["31-01-2024", "01-02-2024"], [day(), day(month=2, day=1)]),
        (["31 Jan 2024", "1 FEB 2024 10:00"], [day(), day(2024, 2, 1, 10)]),
        (["31 January 2024", "1 May 2024"], [day(), day(month=5, day=1)]),
        (["31-Jan-2024", "01-feb-2024"], [day(), day(month=2, day=1)]),
        (["2024年1月31日", "２０２４年２月１日 10:30"], [day(), day(2024, 2, 1, 10, 30)]),
        (["2/2/2024", "3/3/2024"], [day(month=2, day=2), day(month=3, day=3)]),
        (["2024-01-31", "", "NA", "NaN", "NULL", "None", "n/a", "-", " "], [day()] + [None] * 8),
    ],
)
def test_dates_of_one_format_are_read_as_local_wall_time(tmp_path, cells, days):
    assert read(tmp_path, "date", cells) == days


@pytest.mark.parametrize(
    ("cells", "date_format", "days"),
    [
        (["03/04/2024"], "%d/%m/%Y", [day(month=4, day=3)]),
        (["03/04/2024 10:30"], "%m/%d/%Y", [day(2024, 3, 4, 10, 30)]),
        (["3/4/24"], "%d/%m/%y", [day(month=4, day=3)]),
        (["45322", "45322.4375"], "excel", [day(), day(2024, 1, 31, 10, 30)]),
        (["1706659200", "0", "-1"], "epoch", [day(), day(1970, 1, 1), day(1969, 12, 31, 23, 59, 59)]),
    ],
)
def test_a_given_date_format_is_used(tmp_path, cells, date_format, days):
    assert read(tmp_path, "date", cells, date_format=date_format) == days


@pytest.mark.parametrize("date_format", ["excel", "epoch"])
@pytest.mark.parametrize("cell", ["1e300", "-1e12", "inf", "x"])
def test_a_number_that_is_no_time_is_a_fault(tmp_path, cell, date_format):
    with pytest.raises(DataError, match="row 2, column 'date'"):
        read(tmp_path, "date", ["45322", cell], date_format=date_format)


@pytest.mark.parametrize("cells", [["01/02/2024"], ["1-2-2024"], ["01/02/2024 10:00", "03/04/2024"]])
def test_day_and_month_are_never_guessed(tmp_path, cells):
    with pytest.raises(DataError, match=r"Say which: load\(…, date_format=") as caught:
        read(tmp_path, "date", cells)
    assert "log.csv" in str(caught.value)


@pytest.mark.parametrize(
    "cell", ["2024-02-30", "2024-13-01", "24-01-31", "0024-01-31", "2024-01-31 25:00", "x2024-01-31"]
)
def test_what_is_no_day_is_a_fault(tmp_path, cell):
    with pytest.raises(DataError, match="row 2, column 'date'"):
        read(tmp_path, "date", ["2024-01-31", cell])


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1", "-2", "+3", "007"], [1, -2, 3, 7]),
        (["1.5", "1e5", "2E-3", ".5", "5."], [1.5, 1e5, 2e-3, 0.5, 5]),
        (["1,234.50", "1,234,567"], [1234.5, 1234567]),
        (["1.234,50", "12,5", "1.234"], [1234.5, 12.5, 1234]),
        (["1 234,50", "1\u202f234"], [1234.5, 1234]),
        (["1'234.50", "1’234"], [1234.5, 1234]),
        (["(12.00)", "12.5-", "-3.1", "−4.1", "($5.50)", "$-1", "-$2.00"], [-12, -12.5, -3.1, -4.1, -5.5, -1, -2]),
        (["$1.50", "US$2", "3 USD", "4"], [1.5, 2, 3, 4]),
        (["¥12", "￥1.5", "３元", "4 CNY", "RMB 5"], [12, 1.5, 3, 4, 5]),
        (["12,50 kr", "13,00 kr."], [12.5, 13]),
        (["€ 1.234,50"], [1234.5]),
        (["0,123", "1,234"], [0.123, 1.234]),
        (["1.5", "", "NA", "-", "null"], [1.5, None, None, None, None]),
    ],
)
def test_numbers_are_read_one_way_a_column(tmp_path, cells, numbers):
    assert read(tmp_path, "amount", cells) == pytest.approx(numbers)


def test_a_given_decimal_sign_is_used(tmp_path):
    assert read(tmp_path, "amount", ["1,234"], decimal=".") == [1234]
    assert read(tmp_path, "amount", ["1,234"], decimal=",") == [1.234]
    with pytest.raises(DataError, match="is not a decimal sign"):
        read(tmp_path, "amount", ["1"], decimal=";")


@pytest.mark.parametrize("cell", ["1,2,3", "--5", "1.2.3", "12 34", "5%", "inf", "0x10", "1_000", "9" * 400, "€5"])
def test_what_is_no_number_is_a_fault(tmp_path, cell):
    with pytest.raises(DataError, match="row 3, column 'amount'"):
        read(tmp_path, "amount", ["$1.5", "$2.5", cell])


def test_a_thousands_sign_far_below_the_first_rows_is_not_guessed(tmp_path):
    with pytest.raises(DataError, match="'1,234' can be a number with thousands or with decimals"):
        read(tmp_path, "amount", [*["5"] * 30_000, "1,234"])
    assert read(tmp_path, "amount", [*["5"] * 30_000, "1,234", "$0.50"])[-2:] == [1234, 0.5]


def test_ids_stay_text(tmp_path):
    ids = ["00123", "1e5", " x ", "１２", "1.0", "=1+1", "\U0001f600"]
    file = tmp_path / "log.csv"
    file.write_text("customer_id,date\n" + "".join(f'"{i}",2024-01-01\n' for i in ids), encoding="utf-8")
    assert load(file).customer_id.to_pyarrow().to_pylist() == ids


def test_columns_are_found_by_common_names_and_the_rest_is_kept(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text(
        "Invoice No,Stock_Code,Qty,invoice date,Household-ID,销售额,Country,unit price\n1,2,3,2024-01-01,5,6,7,8\n"
    )
    log = load(file)
    assert log.columns == (
        "customer_id",
        "date",
        "amount",
        "order_id",
        "product_id",
        "quantity",
        "Country",
        "unit price",
    )
    assert log.to_pandas().iloc[0].tolist() == ["5", pd.Timestamp("2024-01-01"), 6.0, "1", "2", 3.0, "7", "8"]


def test_given_columns_win_and_nothing_is_lost():
    frame = pd.DataFrame({"id": [1], "Date": ["2024-01-31"], "when": ["2024-02-01"], "amount": [5.0], "net": [4.0]})
    log = load(frame, customer_id="id", date="when", amount="net")
    assert log.columns == ("customer_id", "date", "amount", "Date_source", "amount_source")
    assert log.to_pandas().iloc[0].tolist() == [1, pd.Timestamp("2024-02-01"), 4.0, "2024-01-31", 5.0]


def test_a_column_can_be_left_out():
    frame = pd.DataFrame({"customer_id": [1], "date": ["2024-01-31"], "total": [5], "revenue": [4]})
    assert load(frame, amount=None).columns == ("customer_id", "date", "total", "revenue")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, 'More than one column could be amount: total, revenue. Say which: .*amount="total"'),
        ({"amount": "totl"}, "no column 'totl' for amount. Did you mean 'total'"),
        ({"amout": "total"}, "'amout' is not a canonical column"),
    ],
)
def test_wrong_column_names_are_refused(columns, message):
    frame = pd.DataFrame({"customer_id": [1], "date": ["2024-01-31"], "total": [5], "revenue": [4]})
    with pytest.raises(DataError, match=message):
        load(frame, **columns)


def frames():
    columns = {"customer_id": ["a", "b"], "date": ["2024-01-31 10:00", "2024-02-01"], "amount": ["1,5", "2,5"]}
    return [pd.DataFrame(columns), pl.DataFrame(columns), pl.LazyFrame(columns), pa.table(columns)]


@pytest.mark.parametrize("frame", frames(), ids=lambda frame: f"{type(frame).__module__.split('.')[0]}")
def test_frames_of_every_kind_read_alike(frame):
    log = load(frame).to_pandas()
    assert log["amount"].tolist() == [1.5, 2.5]
    assert log["date"].tolist() == [pd.Timestamp("2024-01-31 10:00"), pd.Timestamp("2024-02-01")]


def test_the_callers_frame_is_left_alone_and_later_changes_do_not_matter():
    frame = pd.DataFrame({"customer_id": [1.0, None], "date": ["2024-01-31", None], "amount": [1, 2]})
    before = frame.copy(deep=True)
    log = load(frame)
    pd.testing.assert_frame_equal(frame, before)
    frame["amount"] = 0
    assert log.amount.to_pyarrow().to_pylist() == [1.0, 2.0]


def test_whole_float_ids_become_integers_and_others_stay():
    dates = ["2024-01-31"] * 3
    assert load(pd.DataFrame({"customer_id": [17850.0, None, 3], "date": dates})).customer_id.type().is_integer()
    assert load(pd.DataFrame({"customer_id": [1.5, None, 3], "date": dates})).customer_id.type().is_floating()


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "+05:30", "-03:00", "UTC"])
def test_time_zones_become_wall_time_in_frames_and_parquet(tmp_path, zone):
    wall = pd.to_datetime(["2024-01-31 00:30", "2024-07-31 23:30"])
    frame = pd.DataFrame({"customer_id": ["a", "b"], "date": wall.tz_localize(zone)})
    frame.to_parquet(tmp_path / "log.parquet")
    for source in (frame, tmp_path / "log.parquet"):
        assert load(source).date.to_pandas().tolist() == wall.tolist()


@pytest.mark.parametrize("dates", [[19970101, 19970228], [19970101.0, 19970228.0], ["19970101", "19970228"]])
def test_days_as_whole_numbers_are_read(dates):
    log = load(pd.DataFrame({"customer_id": ["a", "b"], "date": dates}))
    assert log.date.to_pandas().tolist() == [pd.Timestamp("1997-01-01"), pd.Timestamp("1997-02-28")]


def test_mixed_objects_in_a_frame_become_their_text():
    frame = pd.DataFrame({"customer_id": [1, "a", None], "date": [datetime.date(2024, 1, 31), "2024-02-01", None]})
    log = load(frame).to_pandas()
    assert log["customer_id"].tolist()[:2] == ["1", "a"]
    assert log["date"].tolist()[:2] == [pd.Timestamp("2024-01-31"), pd.Timestamp("2024-02-01")]


def test_a_categorical_and_an_index_with_a_name_are_columns():
    frame = pd.DataFrame({"date": pd.Categorical(["2024-01-31"])}, index=pd.Index(["a"], name="customer_id"))
    assert load(frame).to_pandas().iloc[0].tolist() == ["a", pd.Timestamp("2024-01-31")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([1, 2], "A list is no source"),
        (None, "A NoneType is no source"),
        (pd.Series([1]), "A Series is no source"),
        (pd.DataFrame({"customer_id": [], "date": []}), "no rows"),
        (pd.DataFrame([[1, 2, 3]], columns=["customer_id", "date", "date"]), "more than one column of the same name"),
        (pd.DataFrame({"customer_id": [1], "date": [True]}), "'date' has the type boolean"),
        (pd.DataFrame({"customer_id": [1], "date": ["2024-01-31"], "amount": [[1]]}), "'amount' has the type array"),
        ("cdnwo", "Did you mean cdnow"),
        ("http://example.org/sales.csv", "Download the file"),
        ("mysql://ann:s3cret@host/shop", "postgres://"),
        ("duckdb://no-such-file.ddb", "there is no file"),
    ],
)
def test_what_is_no_source_is_refused(source, message):
    with pytest.raises(DataError, match=message) as caught:
        load(source)
    assert "s3cret" not in str(caught.value)


def test_a_folder_and_a_pattern_of_parquet_files_are_one_log(tmp_path):
    frame = pd.DataFrame({"customer_id": ["a"], "date": pd.to_datetime(["2024-01-31"]), "amount": [1.0]})
    (tmp_path / "deep").mkdir()
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_parquet(tmp_path / "deep" / "y.parquet")
    assert load(tmp_path).count().to_pyarrow().as_py() == 2
    assert load(tmp_path / "*.parquet").count().to_pyarrow().as_py() == 1
    assert load(str(tmp_path / "*" / "*.parquet")).count().to_pyarrow().as_py() == 1


def test_parquet_stays_on_disk(tmp_path):
    pd.DataFrame({"customer_id": ["a"], "date": pd.to_datetime(["2024-01-31"])}).to_parquet(tmp_path / "x.parquet")
    gc.collect()
    before = connect().raw_sql("SELECT count(*) FROM duckdb_tables()").fetchall()
    log = load(tmp_path / "x.parquet")
    assert connect().raw_sql("SELECT count(*) FROM duckdb_tables()").fetchall() == before
    assert log.count().to_pyarrow().as_py() == 1


def shop(folder):
    with duckdb.connect(str(folder / "shop.ddb")) as con:
        con.execute("CREATE TABLE sales AS SELECT 'a' AS client, DATE '2024-01-31' AS day, 5 AS value")
        con.execute("CREATE SCHEMA old; CREATE TABLE old.sales AS FROM sales")
    return f"duckdb://{folder}/shop.ddb"


def test_a_table_of_a_database_is_read_without_being_changed(tmp_path):
    url = shop(tmp_path)
    for table in ("sales", "old.sales"):
        assert load(url, table=table).to_pandas().iloc[0].tolist() == ["a", pd.Timestamp("2024-01-31"), 5.0]


@pytest.mark.parametrize(("table", "message"), [(None, "say which table"), ("sale", "no table 'sale'")])
def test_a_missing_table_gives_the_list(tmp_path, table, message):
    with pytest.raises(DataError, match=f"{message}.*Tables there: sales"):
        load(shop(tmp_path), table=table)


def test_a_damaged_database_is_refused(tmp_path):
    (tmp_path / "shop.ddb").write_text("no database")
    with pytest.raises(DataError, match="cannot be opened"):
        load(f"duckdb://{tmp_path}/shop.ddb", table="sales")


def test_a_table_name_without_a_database_is_refused(tmp_path):
    with pytest.raises(DataError, match="goes with the address of a database"):
        load(csv(tmp_path, "date", ["2024-01-31"]), table="sales")


@pytest.mark.parametrize("password", ["s3cret", "s3:cr@et", "s3/cr%40et", "s3?cret"])
def test_a_password_is_never_shown(password):
    pytest.importorskip("psycopg")
    with pytest.raises(DataError, match=r"ann:\*\*\*@") as caught:
        load(f"postgres://ann:{password}@127.0.0.1:1/shop", table="sales")
    assert password not in str(caught.value)
    assert caught.value.__cause__ is None
    assert mask("postgres://h/d?user=a&password=x&y=1") == "postgres://h/d?user=a&password=***&y=1"


def test_an_ibis_table_keeps_its_own_engine():
    con = ibis.duckdb.connect()
    log = load(con.sql("SELECT 'a' AS client, DATE '2024-01-31' AS day, '1,5' AS total"))
    assert log.get_backend() is con
    assert log.to_pandas().iloc[0].tolist() == ["a", pd.Timestamp("2024-01-31"), 1.5]


def test_text_in_another_engine_has_to_be_converted_there():
    con = ibis.sqlite.connect()
    con.raw_sql("CREATE TABLE sales (customer_id TEXT, date TEXT)")
    with pytest.raises(DataError, match="'date' has the type string; convert it in the database"):
        load(con.table("sales"))
    con.disconnect()


def test_the_engine_forgets_a_log_with_its_last_user(tmp_path):
    def tables():
        gc.collect()
        return set(connect().raw_sql("SELECT table_name FROM duckdb_tables()").fetchall())

    before = tables()
    log = load(csv(tmp_path, "amount", ["1,5"] * 10))
    derived = log.filter(log.amount > 1).select("customer_id")
    assert len(tables() - before) == 1
    del log
    assert derived.count().to_pyarrow().as_py() == 10
    del derived
    assert tables() <= before


def test_a_kept_log_leaves_no_noise_at_the_end_of_a_program(tmp_path):
    program = f"from crmlab.data.read import load; log = load({str(csv(tmp_path, 'amount', ['1,5']))!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"), min_size=1, max_size=8).map(
    lambda text: f"x{text}x"
)
rows = st.lists(
    st.tuples(
        st.one_of(st.none(), texts),
        st.one_of(st.none(), st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1))),
        st.one_of(st.none(), st.floats(-1e9, 1e9)),
        st.one_of(st.none(), texts),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows)
def test_csv_and_parquet_of_the_same_frame_load_alike(tmp_path, rows):
    frame = pd.DataFrame(rows, columns=["customer_id", "date", "amount", "note"])
    frame = frame.astype({"customer_id": "string", "date": "datetime64[us]", "amount": float, "note": "string"})
    # New names each time: DuckDB takes a file rewritten within the same second for the old one.
    stem = tmp_path / uuid.uuid4().hex
    frame.to_csv(f"{stem}.csv", index=False, date_format="%Y-%m-%dT%H:%M:%S.%f")
    frame.to_parquet(f"{stem}.parquet")
    one, two = (load(f"{stem}.{kind}", decimal=".").to_pandas() for kind in ("csv", "parquet"))
    pd.testing.assert_frame_equal(one, two, check_dtype=False, check_exact=True)
