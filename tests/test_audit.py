"""The audit: every row kept or set aside for one reason, and a text that says what the log is fit for."""

import importlib.metadata
import json

import ibis
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data
from crmlab.data.auditing import audit, check
from crmlab.data.errors import DataError
from crmlab.data.findings import REASONS

AS_OF = "2024-12-31"


def log(rows, *more):
    return pd.DataFrame(rows, columns=["customer_id", "date", "amount", *more])


def good(n=40):
    """A log with nothing to remark: four customers, ten days, times of the day, a month that ends."""
    days = pd.date_range("2024-01-22 09:00", periods=10, freq="D")
    return log([(f"c{i % 4}", days[i % 10] + pd.Timedelta(minutes=i), 1.0 + i) for i in range(n)])


def n(table):
    return table.count().to_pyarrow().as_py()


def finding(found, check):
    (row,) = found.findings[found.findings["check"] == check].to_dict("records")
    return row


def test_a_clean_log_is_fit_and_has_no_findings():
    found = audit(good(), as_of=AS_OF)
    assert found.findings.empty
    assert found.fit == "fit"
    assert (found.rows, n(found.kept), n(found.set_aside)) == (40, 40, 0)
    assert found.facts["customers"] == found.facts["repeat customers"] == 4
    assert found.facts["total amount"] == good()["amount"].sum()


@pytest.mark.parametrize(
    ("row", "reason", "cell"),
    [
        ((None, "2024-01-30", "1", "1", "1"), "missing customer id", None),
        (("NA", "soon", "x", "x", "C1"), "missing customer id", None),
        (("a", "", "1", "1", "1"), "missing date", None),
        (("a", "2024-02-30", "x", "1", "1"), "unparseable date", "2024-02-30"),
        (("a", "2024-01-30", "=1+1", "1", "1"), "unparseable amount", "=1+1"),
        (("a", "2024-01-30", "1", "many", "1"), "unparseable quantity", "many"),
        (("a", "2024-01-30", "-", "1", "1"), "missing amount", None),
        (("a", "2025-01-01", "-1", "1", "1"), "future date", "2025-01-01 00:00:00"),
        (("a", "2024-01-30", "-5", "-1", "1"), "cancellation", "1"),
        (("a", "2024-01-30", "5", "-1", "1"), "cancellation", "1"),
        (("a", "2024-01-30", "-5", "1", "C536379"), "cancellation", "C536379"),
        (("a", "2024-01-30", "-5", "1", "1"), "negative amount", "-5.0"),
        (("a", "2024-01-30", "5", "1", "C536379"), None, None),
        (("a", "2024-12-31", "0", "1", "1"), None, None),
        (("a", "2024-01-30", "5", "", ""), None, None),
    ],
)
def test_a_row_is_kept_or_set_aside_for_the_first_reason(row, reason, cell):
    usual = [("b", "2024-01-31", "2.5", "2", "7"), ("b", "2024-01-29", "2.5", "2", "8")]
    found = audit(log([*usual, row], "quantity", "order_id"), as_of=AS_OF)
    aside = found.set_aside.to_pandas()
    if reason is None:
        assert aside.empty
        assert n(found.kept) == 3
        return
    assert aside[["row", "reason"]].values.tolist() == [[3, reason]]
    assert aside["cell"].tolist() == [cell] or (cell is None and aside["cell"].isna().all())
    reported = finding(found, reason)
    assert (reported["severity"], reported["rows"], reported["first_rows"]) == ("set aside", 1, [3])
    assert found.fit != "fit"


def test_kept_has_the_canonical_columns_first_and_both_have_all_others():
    frame = good(3).assign(row=7, reason="because", note="x")
    frame.loc[0, "customer_id"] = None
    found = audit(frame, as_of=AS_OF)
    assert found.kept.columns == ("customer_id", "date", "amount", "row_source", "reason_source", "note")
    assert found.set_aside.columns == (
        "row", "reason", "cell", "customer_id", "date", "amount", "row_source", "reason_source", "note"
    )  # fmt: skip
    assert found.set_aside.to_pandas()["row_source"].tolist() == [7]


def test_zero_amounts_and_identical_rows_are_kept_and_reported():
    frame = pd.concat([good(), good().iloc[[0, 0, 1]], good().iloc[[2]].assign(amount=0.0)])
    found = audit(frame, as_of=AS_OF)
    assert n(found.kept) == 44
    assert finding(found, "identical rows")["rows"] == 3
    assert finding(found, "identical rows")["amount"] == 1.0 + 1.0 + 2.0
    assert finding(found, "zero amounts")["first_rows"] == [44]
    assert found.fit == "fit"


@pytest.mark.parametrize(
    ("change", "check", "example"),
    [
        (lambda f: f.assign(shop="one"), "constant columns", "shop"),
        (lambda f: f.assign(date=f["date"].dt.normalize()), "dates without times", ""),
        (lambda f: f.replace({"customer_id": {"c1": "c0 "}}), "ids that look alike", "in 1 case: 'c0', 'c0 '"),
        (lambda f: f.replace({"customer_id": {"c1": "C0"}}), "ids that look alike", "in 1 case: 'C0', 'c0'"),
        (
            lambda f: f.replace({"customer_id": {"c1": "7", "c2": "007"}}),
            "ids that look alike",
            "in 1 case: '007', '7'",
        ),
        (lambda f: f.assign(note=["x", "=cmd()", *["y"] * 38]), "cells that look like formulas", "row 2: '=cmd()'"),
        (lambda f: f[f["date"] < "2024-01-28"], "last month incomplete", "it ends on 2024-01-27"),
    ],
)
def test_a_remark_names_what_it_is_about(change, check, example):
    assert example in finding(audit(change(good()), as_of=AS_OF), check)["example"]


def test_numbers_with_a_sign_are_no_formulas():
    found = audit(good().assign(note=["+49 30 123456", "-5", *["y"] * 38]), as_of=AS_OF)
    assert found.findings.empty


def test_a_gap_is_three_times_the_usual_pause():
    days = [*pd.date_range("2024-01-01", "2024-01-31"), *pd.date_range("2024-02-10", "2024-02-29")]
    frame = log([(f"c{i % 3}", f"{d:%Y-%m-%d} 10:{i % 60:02}", 1 + i) for i, d in enumerate(days)])
    found = audit(frame, as_of=AS_OF)
    assert finding(found, "gaps")["example"] == "1, the longest from 2024-01-31 to 2024-02-10; usual: up to 1 days"
    assert found.fit == "fit with warnings"
    assert "gaps" not in audit(frame[frame["date"] < "2024-02"], as_of=AS_OF).findings["check"].tolist()


def test_mixed_offsets_are_reported_and_wall_times_kept():
    days = ["2024-01-30 10:00+01:00", "2024-01-31 11:00+01:00", "2024-01-31 23:30-05:00"]
    found = audit(log([("a", days[0], 1), ("b", days[1], 2), ("a", days[2], 3)]), as_of=AS_OF)
    assert finding(found, "mixed time offsets")["example"] == "+01:00 in 2, -05:00 in 1"
    assert found.kept.date.max().to_pyarrow().as_py() == pd.Timestamp("2024-01-31 23:30")
    same = audit(log([("a", days[0], 1), ("b", days[1], 2), ("a", "NA", 3), ("a", "soon", 3)]), as_of=AS_OF)
    assert "mixed time offsets" not in same.findings["check"].tolist()


def test_a_log_without_amounts_is_audited():
    found = audit(good().drop(columns="amount"), as_of=AS_OF)
    assert found.fit == "fit"
    assert found.facts["total amount"] is None


def test_infinite_and_missing_amounts_are_set_aside():
    frame = good().assign(amount=[np.inf, -np.inf, np.nan, *[1.5, 2.5] * 18, 1.5])
    found = audit(frame, as_of=AS_OF)
    assert finding(found, "unparseable amount")["rows"] == 2
    assert finding(found, "missing amount")["rows"] == 1


@pytest.mark.parametrize("as_of", ["soon", "2024-02-31", None, "2024-01-31", pd.Timestamp("2024-01-31 12:00")])
def test_the_day_of_the_audit_is_a_day(as_of):
    if as_of in ("soon", "2024-02-31"):
        with pytest.raises(DataError, match="is not a day"):
            audit(good(), as_of=as_of)
    else:
        assert n(audit(good(), as_of=as_of).kept) == 40


cells = st.sampled_from(["", "NA", "a", "A ", "00a", "=1+1", "C1", "-", "x,y", "客户"])
dates = st.sampled_from(
    ["", "2024-01-31", "2024-02-30", "2024-01-30 10:00", "2999-01-01", "soon", "2024-01-30T10:00+02:00"]
)
amounts = st.sampled_from(["", "1.5", "0", "-2.5", "(3.5)", "x", "1e400", "$4.5", "€4.5", "-0"])
quantities = st.sampled_from(["", "1", "-1", "0", "many"])
rows = st.lists(st.tuples(cells, dates, amounts, quantities, cells), min_size=1, max_size=25)


@settings(max_examples=12, deadline=None)
@given(rows=rows, shuffle=st.randoms(use_true_random=False))
def test_rows_are_kept_or_set_aside_whatever_their_order(rows, shuffle):
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    answers = []
    for some in (rows, shuffled):
        found = audit(log(some, "quantity", "order_id"), as_of=AS_OF)
        aside = found.set_aside.to_pandas()
        assert found.rows == len(rows) == n(found.kept) + len(aside)
        assert set(aside["reason"]) <= set(REASONS)
        assert aside["row"].is_unique
        by_reason = found.findings[found.findings["severity"] == "set aside"].set_index("check")["rows"].to_dict()
        assert by_reason == aside["reason"].value_counts().to_dict()
        assert all(len(line) <= 100 for line in str(found).splitlines())
        answers.append(found.findings[["check", "severity", "rows"]].values.tolist())
    assert answers[0] == answers[1]


def test_cdnow_is_what_it_is_known_to_be():
    path = importlib.metadata.distribution("lifetimes").locate_file("lifetimes/datasets/CDNOW_master.txt")
    frame = pd.read_csv(path, sep=r"\s+", dtype={"customer_id": str})
    found = audit(frame, amount="dollar_value", quantity="number_of_cds")
    assert (found.rows, n(found.kept)) == (69_659, 69_659)
    assert finding(found, "identical rows")["rows"] == 255
    assert finding(found, "zero amounts")["rows"] == 80
    assert found.facts["customers"] == 23_570
    assert found.facts["total amount"] == pytest.approx(2_500_315.63)
    assert found.fit == "fit"


@pytest.mark.skipif(not (data.data_folder() / "online_retail.parquet").exists(), reason="needs online_retail")
def test_online_retail_is_what_it_is_known_to_be():
    table = ibis.duckdb.connect().read_parquet(data.data_folder() / "online_retail.parquet")
    found = audit(table.mutate(amount=table.Quantity * table.UnitPrice))
    assert found.rows == 541_909 == n(found.kept) + n(found.set_aside)
    assert finding(found, "missing customer id")["rows"] == 135_080
    aside = found.set_aside
    assert n(aside.filter(aside.order_id.startswith("C"))) == 9_288
    # Reasons are exclusive: the cancellations without an id are counted as missing ids.
    assert finding(found, "cancellation")["rows"] == 9_288 - 383
    assert finding(found, "zero amounts")["rows"] == 40
    assert n(found.kept.filter(found.kept.amount > 0)) == 397_884
    assert found.facts["total amount"] == pytest.approx(8_911_407.90)
    assert "2010-12-23 to 2011-01-04" in finding(found, "gaps")["example"]


@pytest.mark.parametrize("engine", ["duckdb", "polars", "sqlite"])
def test_any_engine_is_audited_and_rows_without_an_order_have_no_number(engine):
    frame = log(
        [("a", "2024-01-01", 1.0), ("a", "2024-01-02", 2.5), ("b", "2024-01-02", -1.0), (None, "2024-01-03", 2.0)]
    )
    if engine == "sqlite":
        con = ibis.sqlite.connect()
        con.raw_sql("CREATE TABLE sales (customer_id TEXT, date TIMESTAMP, amount REAL)")
        con.con.executemany(
            "INSERT INTO sales VALUES (?, ?, ?)", frame.astype(object).where(frame.notna(), None).values.tolist()
        )
    elif engine == "polars":
        con = ibis.polars.connect({"sales": pl.from_pandas(frame.astype({"date": "datetime64[us]"})).lazy()})
    else:
        con = ibis.duckdb.connect()
        con.con.register("sales", frame.astype({"date": "datetime64[us]"}))
    found = audit(con.table("sales"), as_of=AS_OF)
    assert (found.rows, n(found.kept), n(found.set_aside)) == (4, 2, 2)
    assert finding(found, "negative amount")["first_rows"] == []
    assert found.set_aside.row.count().to_pyarrow().as_py() == 0
    assert found.facts["repeat customers"] == 1
    con.disconnect()


def test_the_text_and_the_page_are_safe_to_show():
    evil = "<script>alert(1)</script>\x1b[31m"
    found = audit(good().assign(note=[f"={evil}", *["y"] * 39]), as_of=AS_OF)
    assert "\x1b" not in str(found)
    assert "<script>" not in found._repr_html_()
    assert str(found).startswith("Audit of frame: fit\n  40 rows, 40 kept, 0 set aside")


def test_check_names_the_notebooks_a_file_can_feed(tmp_path):
    for name, metadata in {
        "06_value": {"crmlab": {"needs": ["customer_id", "date", "amount"]}},
        "09_baskets": {"crmlab": {"needs": ["order_id", "product_id"]}},
        "05_survey": {},
    }.items():
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"metadata": metadata, "cells": []}))
    (tmp_path / "07_broken.ipynb").write_text("{")
    good().to_csv(tmp_path / "sales.csv", index=False)
    found = check(tmp_path / "sales.csv", tmp_path, as_of=AS_OF)
    assert found.exit_code == 0
    assert "  06_value: can feed\n  09_baskets: missing: order_id, product_id\n" in found.text
    assert "05_survey" not in found.text


@pytest.mark.parametrize(
    ("change", "code"),
    [(lambda f: f, 0), (lambda f: f.assign(amount=[-1.0, *[2.5, 3.5] * 19, 1.0]), 1), (lambda f: f.iloc[:1], 2)],
)
def test_the_exit_code_says_how_fit(change, code):
    assert check(change(good()), as_of=AS_OF).exit_code == code


def test_check_puts_an_unreadable_file_into_words(tmp_path):
    (tmp_path / "sales.csv").write_text("a,b\n1,2\n")
    found = check(tmp_path / "sales.csv")
    assert found.exit_code == 2
    assert "No column could be found for customer_id and date" in found.text


def test_every_cell_that_cannot_be_read_is_named_though_a_row_has_one_reason(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("customer_id,date,amount\na,2024-01-03,5\nb,2024-02-30,abc\na,2024-02-01,7\n")
    found = audit(file)
    assert found.set_aside.count().to_pyarrow().as_py() == 1
    assert found.faults[["row", "column", "value"]].values.tolist() == [[2, "amount", "abc"], [2, "date", "2024-02-30"]]
    assert "row 2, column 'amount': 'abc'" in str(found)
    assert "row 2, column 'date': '2024-02-30' is no day of the calendar" in check(file).text
