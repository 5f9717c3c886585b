"""The warehouse: four adjectives, loads that happen once and whole, and a past that can be asked."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data

AS_OF = "2024-12-31"


def customers(**cities):
    return pd.DataFrame({"customer_id": list(cities), "city": list(cities.values())})


ORDERS = pd.DataFrame(
    {
        "customer_id": ["a", "a", "b", "c", None],
        "order_id": ["1", "1", "2", "3", "4"],
        "date": pd.to_datetime(["2024-01-05", "2024-01-05", "2024-02-10", "2024-03-01", "2024-03-01"]),
        "product_id": ["p", "p", "q", "p", "p"],
        "amount": [1.0, 1.0, 4.0, 8.0, 16.0],
    }
)


@pytest.fixture
def warehouse(tmp_path):
    return data.Warehouse.create(tmp_path / "shop")


@pytest.fixture
def filled(warehouse):
    warehouse.load(customers(a="Bonn", b="Ulm"), "customers", "2024-01-01", as_of=AS_OF)
    warehouse.load(customers(a="Köln", b="Ulm"), "customers", "2024-02-01", as_of=AS_OF)
    warehouse.load(ORDERS, "orders", as_of=AS_OF)
    return warehouse


def rows(table):
    return sorted(table.to_pandas().astype(object).itertuples(index=False, name=None), key=str)


def everything(warehouse):
    """All that a warehouse says, and the files that count."""
    return warehouse.log().to_json(), {name: rows(warehouse.table(name)) for name in warehouse.tables()}


# The four adjectives of Inmon's definition.


def test_it_is_subject_oriented_each_table_is_about_one_subject(filled):
    assert filled.tables() == [
        "customers", "orders", "dim_customer", "dim_product", "dim_date", "fact_orders",
    ]  # fmt: skip
    assert filled.query("SELECT product_id, first_sold FROM dim_product ORDER BY 1")["product_id"].tolist() == [
        "p",
        "q",
    ]
    by_city = filled.query(
        "SELECT city, sum(amount) AS revenue FROM fact_orders LEFT JOIN dim_customer USING (customer_key) "
        "JOIN dim_date USING (date_key) JOIN dim_product USING (product_id) GROUP BY city ORDER BY city"
    )
    assert by_city.fillna("?").values.tolist() == [["Bonn", 2.0], ["Ulm", 4.0], ["?", 8.0]]


def test_it_is_integrated_sources_that_write_differently_become_one(warehouse, tmp_path):
    shop, erp = tmp_path / "shop.csv", tmp_path / "erp.csv"
    shop.write_text("CustomerID,InvoiceDate,Amount\n7,2024-01-31,1.5\n", encoding="utf-8")
    erp.write_text("客户编号;日期;金额\n7;2024年02月01日;1.234,50\n", encoding="utf-8")
    for file in (shop, erp):
        warehouse.load(file, "orders", as_of=AS_OF)
    warehouse.load(pd.DataFrame({"Client": [7.0]}), "customers", "2024-01-01", as_of=AS_OF)
    found = warehouse.query("SELECT customer_id, count(*) AS n, sum(amount) AS s FROM orders GROUP BY customer_id")
    assert found.values.tolist() == [["7", 2, 1236.0]]
    assert not warehouse.check().query("rows > 0 and check == 'customers known'").size


def test_it_is_non_volatile_what_was_loaded_never_changes(filled):
    files = {file: file.read_bytes() for file in filled.path.glob("load-*/*")}
    before = filled.table("customers", as_of="2024-01-15").to_pandas()
    filled.load(customers(a="Jena", d="Trier"), "customers", "2024-03-01", as_of=AS_OF)
    filled.load(ORDERS.assign(amount=5.0), "orders", as_of=AS_OF)
    assert files == {file: file.read_bytes() for file in files}
    pd.testing.assert_frame_equal(filled.table("customers", as_of="2024-01-15").to_pandas()[before.columns], before)
    for sql in ("DROP VIEW orders", "DELETE FROM orders", "SELECT 1; SELECT 2", "COPY orders TO 'x.csv'"):
        with pytest.raises(data.DataError, match="one SELECT"):
            filled.query(sql)


def test_it_is_time_variant_every_answer_can_be_had_as_of_a_day(filled):
    cities = {day: dict(filled.query("SELECT customer_id, city FROM customers", as_of=day).values) for day in (
        "2023-12-31", "2024-01-01", "2024-01-31", "2024-02-01")}  # fmt: skip
    assert list(cities.values()) == [
        {},
        {"a": "Bonn", "b": "Ulm"},
        {"a": "Bonn", "b": "Ulm"},
        {"a": "Köln", "b": "Ulm"},
    ]
    versions = filled.query("SELECT customer_id, city, valid_from, valid_to FROM dim_customer ORDER BY ALL")
    shown = [[str(v)[:10] for v in row] for row in versions.values.tolist()]
    assert shown == [
        ["a", "Bonn", "2024-01-01", "2024-02-01"],
        ["a", "Köln", "2024-02-01", "NaT"],
        ["b", "Ulm", "2024-01-01", "NaT"],
    ]
    assert filled.query("SELECT sum(amount) AS s FROM orders", as_of="2024-02-10")["s"].tolist() == [6.0]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from("ab"), st.sampled_from("XYZ")), max_size=6), st.randoms())
def test_the_order_of_loads_makes_no_difference_to_the_past(tmp_path_factory, said, random):
    """One statement a day and customer: late news finds its place."""
    said = {(day, who): city for day, who, city in said}
    shuffled = list(said.items())
    random.shuffle(shuffled)
    warehouse = data.Warehouse.create(tmp_path_factory.mktemp("w") / "shop")
    for (day, who), city in shuffled:
        warehouse.load(customers(**{who: city}), "customers", f"2024-01-0{day}", as_of=AS_OF)
    for day in range(1, 10) if said else ():
        found = dict(warehouse.query("SELECT customer_id, city FROM customers", as_of=f"2024-01-0{day}").values)
        latest = {who: max(d for d, w in said if w == who and d <= day) for d, who in said if d <= day}
        assert found == {who: said[d, who] for who, d in latest.items()}


# Loading.


def test_the_same_file_twice_changes_nothing(warehouse, tmp_path):
    ORDERS.to_csv(tmp_path / "orders.csv", index=False)
    first = warehouse.load(tmp_path / "orders.csv", "orders", as_of=AS_OF)
    assert (first["rows"], first["kept"], first["set_aside"], first["known"]) == (5, 4, 1, None)
    before = everything(warehouse), sorted(warehouse.path.rglob("*"))
    (tmp_path / "orders.csv").rename(tmp_path / "renamed.csv")
    again = warehouse.load(tmp_path / "renamed.csv", "orders", as_of=AS_OF)
    assert (again["known"], again["kept"], again["set_aside"]) == (1, 0, 0)
    assert (everything(warehouse), sorted(warehouse.path.rglob("*"))) == before


def test_an_export_that_grows_adds_its_new_rows_only(warehouse):
    warehouse.load(ORDERS.head(3), "orders", as_of=AS_OF)
    line = warehouse.load(pd.concat([ORDERS, ORDERS.head(1)]), "orders", as_of=AS_OF)
    # Three rows are known; the one without a customer fails; the line that stands a third time is new.
    assert (line["rows"], line["kept"], line["set_aside"], line["repeated"]) == (6, 2, 4, 3)
    assert warehouse.query("SELECT count(*) AS n, sum(amount) AS s FROM orders").values.tolist() == [[5, 15]]
    log = warehouse.log()
    assert (log["rows"] == log["kept"] + log["set_aside"]).all()


def test_an_event_told_again_in_other_words_is_the_same_event(warehouse):
    warehouse.load(ORDERS.head(3).assign(note="lamp"), "orders", as_of=AS_OF)
    line = warehouse.load(ORDERS.head(4).assign(note="LAMP "), "orders", as_of=AS_OF)
    assert (line["kept"], line["repeated"]) == (1, 3)
    assert pd.read_parquet(warehouse.path / "load-000002" / "repeated.parquet")["note"].tolist() == ["LAMP "] * 3


def test_what_was_set_aside_stays_to_be_read(filled):
    folder = filled.path / "load-000003"
    aside = pd.read_parquet(folder / "set_aside.parquet")
    assert aside[["row", "reasons", "order_id"]].values.tolist() == [["5", "customer_id is missing", "4"]]
    assert "Fill it in" in (folder / "failures.csv").read_text(encoding="utf-8")


LOADER = """
import os, signal, sys
import pandas as pd
from crmlab import data
from crmlab.data import star
folder, point = sys.argv[1:]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def nth(name, n, before=True):
    real, calls = getattr(star, name), []
    def wrapped(*a, **k):
        calls.append(1)
        if len(calls) == n and before: die()
        answer = real(*a, **k)
        if len(calls) == n: die()
        return answer
    setattr(star, name, wrapped)
if point == "before anything": nth("_content", 1)
if point == "folder made": nth("_write", 1)
if point == "one file written": nth("_write", 1, before=False)
if point == "half a file written":
    def half(table, file):
        file.write_bytes(b"PAR1 half"); die()
    star._write = half
if point == "all files written": nth("_replace", 1)
if point == "state half written":
    def dump(state, sink, **k):
        sink.write('{"format": 1, "lo'); sink.flush(); die()
    star.json.dump = dump
if point == "state written":
    star.Path.replace = die
if point == "state replaced": nth("_replace", 1, before=False)
frame = pd.DataFrame({"customer_id": ["z"], "date": [pd.Timestamp("2024-05-05")], "amount": [99.0]})
data.Warehouse(folder).load(frame, "orders", as_of="2024-12-31")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX systems")
@pytest.mark.parametrize(
    ("point", "arrived"),
    [
        ("before anything", False),
        ("folder made", False),
        ("half a file written", False),
        ("one file written", False),
        ("all files written", False),
        ("state half written", False),
        ("state written", False),
        ("state replaced", True),
    ],
)
def test_a_load_that_is_killed_leaves_the_previous_state(filled, point, arrived):
    before = everything(filled)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOADER, filled.path, point], check=False)
    assert done.returncode == -signal.SIGKILL
    after = data.Warehouse(filled.path)
    assert (everything(after) == before) is not arrived
    assert not after.check().query("severity == 'error' and rows > 0").size
    # The next load is not in the way of what the killed one left, and the file that was lost can be loaded again.
    late = pd.DataFrame({"customer_id": ["z"], "date": [pd.Timestamp("2024-05-05")], "amount": [99.0]})
    assert (after.load(late, "orders", as_of=AS_OF)["known"] is None) is not arrived
    assert after.query("SELECT sum(amount) AS s FROM orders")["s"].tolist() == [113.0]
    assert sorted(p.name for p in after.path.glob("load-*")) == [f"load-00000{i}" for i in (1, 2, 3, 4)]


def test_two_loads_at_a_time_are_refused_in_words(filled):
    code = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    lock = filled.path / "lock.duckdb"
    with subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(data.DataError, match="Another load"):
            filled.load(customers(e="Hof"), "customers", "2024-04-01", as_of=AS_OF)
        other.stdin.close()
    assert filled.load(customers(e="Hof"), "customers", "2024-04-01", as_of=AS_OF)["kept"] == 1


def test_columns_may_come_later_but_not_change_their_kind(filled):
    filled.load(ORDERS.assign(shop="N", order_id="9"), "orders", as_of=AS_OF)
    assert filled.query("SELECT count(shop) AS n, count(*) AS m FROM orders").values.tolist() == [[4, 8]]
    with pytest.raises(data.DataError, match="'shop' is int64 here and was string in load 4"):
        filled.load(ORDERS.assign(shop=1), "orders", as_of=AS_OF)


def test_check_finds_orders_without_customer_and_damaged_files(filled):
    found = filled.check().set_index("check")
    assert found.loc["customers known", "rows"] == 1
    assert (found.query("severity == 'error'")["rows"] == 0).all()
    (filled.path / "load-000003" / "kept.parquet").write_bytes(b"PAR1")
    damaged = filled.check()
    assert damaged.loc[damaged["rows"] > 0, ["table", "severity"]].values.tolist() == [["load 3", "error"]]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda w: data.Warehouse(w.path / "none"), "is no warehouse; crmlab warehouse init"),
        (lambda w: data.Warehouse.create(w.path), "not an empty folder"),
        (lambda w: w.table("survey"), "has no table 'survey'. It has customers, orders"),
        (lambda w: w.load(ORDERS, "order"), "Did you mean orders"),
        (lambda w: w.query("SELECT nothing FROM orders"), "cannot be answered"),
        (lambda w: w.load(customers(a="x"), "customers", "1.2.2024"), "valid_from must be a date such as"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(filled, ask, says):
    with pytest.raises(data.DataError, match=says):
        ask(filled)


def test_a_warehouse_is_a_data_set(filled):
    source = f"warehouse:{filled.path}"
    log = data.load(source)
    assert log.columns[:3] == ("customer_id", "date", "amount")
    assert log.amount.sum().to_pyarrow().as_py() == 14
    assert data.load(source, table="customers").count().to_pyarrow().as_py() == 2
    assert data.audit(source, as_of=AS_OF).facts["customers"] == 3
    assert np.isclose(data.cube(source, ["product_id"], {"s": ("sum", "amount")})["s"].iloc[-1], 14)
    with pytest.raises(data.DataError, match="is no warehouse"):
        data.load("warehouse:nowhere")
