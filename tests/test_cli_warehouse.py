"""`crmlab warehouse`: what it prints, and the codes it leaves with."""

import json

import duckdb
import pytest
from click.testing import CliRunner

from crmlab.cli import cli
from crmlab.report.parameters import ParameterError, locate_dataset


@pytest.fixture
def crmlab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_text(
        "Kunde,date,amount\na,2024-01-05,1.5\nb,2024-02-05,2.5\n,2024-02-06,9\n", encoding="utf-8"
    )
    (tmp_path / "crm.csv").write_text("customer_id,city\na,Bonn\nb,Ulm\n", encoding="utf-8")
    return lambda *words: CliRunner().invoke(cli, ["warehouse", *words])


LOAD = ("load", "shop", "orders.csv", "--table", "orders", "--column", "customer_id=Kunde")


def test_a_warehouse_from_nothing_to_an_answer(crmlab):
    assert crmlab("init", "shop").stdout == "shop\n"
    done = crmlab(*LOAD)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "load 1: orders of orders.csv: 3 rows, 2 kept, 1 set aside",
        "Why: shop/load-000001/failures.csv",
    ]
    done = crmlab(*LOAD)
    assert (done.exit_code, done.stdout) == (0, "orders.csv has the content of load 1: nothing to add.\n")
    done = crmlab("load", "shop", "crm.csv", "--table", "customers", "--valid-from", "2024-01-01")
    assert (done.exit_code, done.stdout) == (0, "load 2: customers of crm.csv: 2 rows, 2 kept, 0 set aside\n")
    asked = "SELECT city, sum(amount) AS revenue FROM fact_orders JOIN dim_customer USING (customer_key) GROUP BY 1"
    assert crmlab("query", "shop", f"{asked} ORDER BY 1").stdout == "city,revenue\nBonn,1.5\nUlm,2.5\n"
    assert crmlab("query", "shop", asked, "--as-of", "2024-01-31").stdout == "city,revenue\nBonn,1.5\n"
    assert crmlab("query", "shop").stdout.split() == ["customers", "orders", "dim_customer", "dim_date", "fact_orders"]


def test_an_export_that_grows_is_no_fault(crmlab, tmp_path):
    crmlab("init", "shop")
    (tmp_path / "orders.csv").write_text("customer_id,date,amount\na,2024-01-05,1.5\n")
    crmlab("load", "shop", "orders.csv", "--table", "orders")
    (tmp_path / "orders.csv").write_text("customer_id,date,amount\na,2024-01-05,1.5\nb,2024-01-06,2\n")
    done = crmlab("load", "shop", "orders.csv", "--table", "orders")
    said = "load 2: orders of orders.csv: 2 rows, 1 kept, 0 set aside, 1 known from earlier loads\n"
    assert (done.exit_code, done.stdout) == (0, said)


def test_check_shows_the_log_and_leaves_with_its_code(crmlab, tmp_path):
    crmlab("init", "shop")
    crmlab("load", "shop", "crm.csv", "--table", "customers")
    done = crmlab("check", "shop")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["load", "1"]
    (tmp_path / "crm.csv").write_text("customer_id,date,amount\nz,2024-01-01,3\n", encoding="utf-8")
    crmlab("load", "shop", "crm.csv", "--table", "orders")
    done = crmlab("check", "shop")
    assert done.exit_code == 1
    assert "warning: orders: customers known: 1 are not." in done.stdout
    (tmp_path / "shop" / "load-000001" / "kept.parquet").unlink()
    assert crmlab("check", "shop").exit_code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check", "shop"], "is no warehouse; crmlab warehouse init shop"),
        (["init", "."], "is not an empty folder"),
        (["load", "shop", "orders.csv", "--table", "orders", "--column", "Kunde"], "must be NAME=OWN"),
        (["query", "shop", "SELECT 1"], "is no warehouse"),
    ],
)
def test_what_is_wrong_is_said_in_words_with_code_2(crmlab, words, says):
    done = crmlab(*words)
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("command", [[], ["init"], ["load"], ["check"], ["query"]])
def test_help_teaches_by_example(crmlab, command):
    done = crmlab(*command, "--help")
    assert done.exit_code == 0
    assert "crmlab warehouse" in done.stdout.partition("Example")[2]


def test_a_report_on_a_warehouse_is_stale_after_a_load(crmlab, tmp_path):
    crmlab("init", "shop")
    notebook = tmp_path / "notebooks" / "n.ipynb"
    values, files = locate_dataset({"dataset": "warehouse:shop"}, tmp_path, notebook)
    assert values == {"dataset": "warehouse:../shop"}
    before = files[0].read_bytes()
    assert json.loads(before)["loads"] == []
    crmlab("load", "shop", "crm.csv", "--table", "customers")
    assert files[0].read_bytes() != before
    with pytest.raises(ParameterError) as caught:
        locate_dataset({"dataset": "warehouse:none"}, tmp_path, notebook)
    assert "none is no warehouse" in str(caught.value)


def test_a_table_of_a_database_is_loaded_by_its_name(crmlab, tmp_path):
    with duckdb.connect(str(tmp_path / "erp.ddb")) as con:
        con.execute("CREATE TABLE sales AS SELECT 'a' AS customer_id, DATE '2024-01-05' AS date, 1.5 AS amount")
        con.execute("CREATE TABLE other (x INT)")
    crmlab("init", "shop")
    words = ("load", "shop", "duckdb://erp.ddb", "--table", "orders")
    done = crmlab(*words)
    assert done.exit_code == 2
    assert "sales" in done.stderr
    assert "--database-table" in done.stderr
    done = crmlab(*words, "--database-table", "sales")
    assert (done.exit_code, done.stdout[:15]) == (0, "load 1: orders ")
