"""The warehouse: four adjectives, loads that happen once and whole, and a past that can be asked."""

import os
import signal
import subprocess
import sys
import threading

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
    before = rows(filled.table("customers", as_of="2024-01-15"))
    filled.load(customers(a="Jena", d="Trier"), "customers", "2024-03-01", as_of=AS_OF)
    filled.load(ORDERS.assign(amount=5.0), "orders", as_of=AS_OF)
    assert files == {file: file.read_bytes() for file in files}
    assert rows(filled.table("customers", as_of="2024-01-15")) == before
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


def test_two_threads_cannot_load_at_a_time(filled, monkeypatch):
    from crmlab.data import star

    errors, write = [], star._write

    def meanwhile(table, file):
        if not errors:
            errors.append(None)  # the load within the load would come here too
            with pytest.raises(data.DataError, match="Another load") as caught:
                filled.load(ORDERS.assign(amount=3.0), "orders", as_of=AS_OF)
            errors.append(str(caught.value))
        return write(table, file)

    monkeypatch.setattr(star, "_write", meanwhile)
    thread = threading.Thread(target=filled.load, args=(customers(e="Hof"), "customers", "2024-04-01", AS_OF))
    thread.start()
    thread.join()
    assert len(errors) == 2
    assert filled.log()["load"].tolist() == [1, 2, 3, 4]


def test_a_correction_of_the_same_day_counts_and_so_does_its_own_correction(warehouse):
    day = "2024-02-29"
    first, second, third = (
        warehouse.load(customers(a=city, b="Ulm"), "customers", day, as_of=AS_OF) for city in ("Bonn", "Köln", "Bonn")
    )
    assert (first["known"], second["known"], third["known"]) == (None, None, None)
    assert dict(warehouse.query("SELECT customer_id, city FROM customers").values) == {"a": "Bonn", "b": "Ulm"}
    assert warehouse.load(customers(a="Bonn", b="Ulm"), "customers", day, as_of=AS_OF)["known"] == 3
    # Another file of the same day is no correction of this one.
    warehouse.load(customers(z="Hof"), "customers", day, as_of=AS_OF)
    assert warehouse.load(customers(a="Bonn", b="Ulm"), "customers", day, as_of=AS_OF)["known"] == 3


def test_who_is_missing_from_a_later_file_stays(filled):
    filled.load(customers(a="Köln"), "customers", "2024-05-01", as_of=AS_OF)
    assert filled.query("SELECT customer_id FROM customers ORDER BY 1")["customer_id"].tolist() == ["a", "b"]


def test_a_view_of_the_past_does_not_know_when_it_ended(filled):
    versions = filled.query("SELECT city, valid_to FROM dim_customer WHERE customer_id = 'a'", as_of="2024-01-15")
    assert versions.astype(object).values.tolist() == [["Bonn", pd.NaT]]
    assert filled.query("SELECT * FROM dim_customer", as_of="2023-12-31").empty
    facts = filled.query("SELECT city FROM fact_orders LEFT JOIN dim_customer USING (customer_key)", as_of="2024-02-29")
    assert sorted(facts["city"]) == ["Bonn", "Bonn", "Ulm"]


ODD = {
    "load_": "1",
    "valid_from": "x",
    "VALID_TO": "y",
    "said_": "z",
    "place_": 1,
    "n_": 2,
    'q"q': "o'o",
    "valid_from_source": 3,
}


@pytest.mark.parametrize("table", ["customers", "orders"])
def test_columns_that_are_called_like_those_of_the_views_are_kept(warehouse, table):
    frame = pd.DataFrame({"customer_id": ["a'b", 'c"d'], "date": "2024-01-05", "amount": 1.0, **ODD})
    for note in ("one", "two"):
        line = warehouse.load(frame.assign(note=note), table, as_of=AS_OF)
        repeated = 2 if (table, note) == ("orders", "two") else 0
        assert (line["rows"], line["kept"], line["set_aside"]) == (2, 2 - repeated, repeated)
    found = warehouse.query(f"SELECT * FROM {table} ORDER BY customer_id")
    assert found["customer_id"].tolist() == ['c"d', "a'b"][::-1]
    assert {"load__source", "valid_from_source", "valid_from_source_source", "n__source", 'q"q'} <= set(found.columns)
    assert warehouse.query(f"SELECT count(*) AS n FROM {table} WHERE customer_id = 'a''b'")["n"].item() > 0


@pytest.mark.parametrize("folder", ["year=2024/shop", "shop [1]*?", "o'neill"])
def test_a_folder_may_have_any_name(tmp_path, folder):
    warehouse = data.Warehouse.create(tmp_path / folder)
    for _ in range(2):
        warehouse.load(ORDERS.head(3), "orders", as_of=AS_OF)
    assert warehouse.query("SELECT count(*) AS n FROM orders")["n"].item() == 3
    assert set(warehouse.table("orders").columns) == {*ORDERS.columns, "load_"}
    assert not warehouse.check()["rows"].any()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT content FROM read_text('{outside}')",
        "SELECT * FROM read_parquet('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM ORDERS_OF_THE_CALLER",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "COPY orders TO '{outside}.csv'",
        "COPY (SELECT 1) TO '{outside}.csv'",
        "ATTACH '{outside}.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO orders SELECT * FROM orders",
        "EXPLAIN ANALYZE SELECT 1",
        "PREPARE x AS SELECT 1",
        "",
        "no sql at all",
    ],
)
def test_a_query_sees_the_warehouse_and_nothing_else(filled, tmp_path, sql):
    ORDERS_OF_THE_CALLER = ORDERS  # noqa: F841 - DuckDB would find the variable
    outside = tmp_path / "outside.parquet"
    ORDERS.to_parquet(outside)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(data.DataError, match=r"cannot be answered|one SELECT"):
        filled.query(sql.format(outside=outside))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_query_may_describe_and_summarize(filled):
    assert "customer_key" in filled.query("DESCRIBE fact_orders")["column_name"].tolist()
    assert filled.query("SUMMARIZE customers")["count"].tolist() == [2] * 5
    assert filled.query("FROM customers SELECT count(*) AS n")["n"].item() == 2


def test_a_file_that_changes_after_it_was_read_is_loaded_as_it_was_read(warehouse, tmp_path, monkeypatch):
    from crmlab.data import star

    file, content = tmp_path / "orders.csv", star._content
    ORDERS.head(2).to_csv(file, index=False)

    def and_then_it_grows(*args):
        ORDERS.head(4).to_csv(file, index=False)
        return content(*args)

    monkeypatch.setattr(star, "_content", and_then_it_grows)
    assert warehouse.load(file, "orders", as_of=AS_OF)["kept"] == 2
    line = warehouse.load(file, "orders", as_of=AS_OF)
    assert (line["known"], line["kept"], line["repeated"]) == (None, 2, 2)


def test_a_load_of_bad_rows_only_keeps_them_for_reading(warehouse, tmp_path):
    line = warehouse.load(ORDERS.tail(1), "orders", as_of=AS_OF)
    assert (line["rows"], line["kept"], line["set_aside"]) == (1, 0, 1)
    for name in warehouse.tables():
        assert warehouse.query(f"SELECT * FROM {name}").empty
    (tmp_path / "empty.csv").write_text("customer_id,date,amount\n")
    with pytest.raises(data.DataError, match="no rows"):
        warehouse.load(tmp_path / "empty.csv", "orders")
    assert warehouse.load(ORDERS, "orders", as_of=AS_OF)["kept"] == 4


def test_a_folder_of_the_user_in_the_warehouse_is_left_alone(filled):
    own = filled.path / "load-notes"
    own.mkdir()
    (own / "readme.txt").write_text("mine")
    filled.load(customers(e="Hof"), "customers", "2024-04-01", as_of=AS_OF)
    assert (own / "readme.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "loads": []}', '{"format": 1}', "{"])
def test_a_damaged_state_is_refused_in_words(filled, text):
    (filled.path / "warehouse.json").write_text(text)
    with pytest.raises(data.DataError, match=r"warehouse\.json is damaged, or of another version"):
        data.Warehouse(filled.path)


def test_damaged_files_are_said_in_words_and_found_to_the_byte(filled):
    kept = filled.path / "load-000003" / "kept.parquet"
    whole = kept.read_bytes()
    for at in (4, len(whole) // 2, len(whole) - 20):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        assert filled.check().query("rows > 0")["table"].tolist() == ["load 3"]
    kept.write_bytes(whole[:100])
    for ask in (
        lambda: filled.query("SELECT sum(amount) FROM orders"),
        lambda: filled.table("fact_orders"),
        lambda: filled.load(ORDERS.assign(amount=7.0), "orders", as_of=AS_OF),
        lambda: data.load(f"warehouse:{filled.path}"),
    ):
        with pytest.raises(data.DataError, match="Nothing was changed; crmlab warehouse check says"):
            ask()
    kept.write_bytes(whole)
    assert filled.load(ORDERS.assign(amount=7.0), "orders", as_of=AS_OF)["load"] == 4


def test_columns_may_come_later_but_not_change_their_kind(filled):
    filled.load(ORDERS.assign(shop="N", order_id="9"), "orders", as_of=AS_OF)
    assert filled.query("SELECT count(shop) AS n, count(*) AS m FROM orders").values.tolist() == [[4, 8]]
    with pytest.raises(data.DataError, match="'shop' is int64 here and was string in load 4"):
        filled.load(ORDERS.assign(shop=1), "orders", as_of=AS_OF)
    with pytest.raises(data.DataError, match="'SHOP' is int64 here and was string in load 4"):
        filled.load(ORDERS.assign(SHOP=1), "orders", as_of=AS_OF)


def test_check_finds_events_before_the_first_version_of_their_customer(warehouse):
    warehouse.load(ORDERS, "orders", as_of=AS_OF)
    warehouse.load(customers(a="Bonn", b="Ulm", c="Hof"), "customers", "2024-02-01", as_of=AS_OF)
    found = warehouse.check().query("rows > 0")
    assert found[["check", "rows", "severity"]].values.tolist() == [["customers known on the day", 1, "warning"]]


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
        (lambda w: w.load(customers(a="x"), "customers", "2023-02-29"), "valid_from must be a date such as"),
        (lambda w: w.load(ORDERS, "orders", "2024-01-01"), "the rows of orders have their own days"),
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
