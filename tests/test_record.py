"""The promises of `crmlab.report.record`."""

import datetime
import decimal
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from IPython.core import formatters

from crmlab.report import record as record_figure
from crmlab.report import record_table, say
from crmlab.report.record import MAX_ROWS, MIME, collect


@pytest.fixture
def shown(monkeypatch):
    """Collect what is displayed, as the kernel would send it."""
    found = []
    monkeypatch.setattr(
        "IPython.display.display", lambda item: found.append(formatters.DisplayFormatter().format(item)[0])
    )
    return found


def _record(shown, *arguments, **named):
    record_figure(*arguments, **named)
    return shown[-1][MIME]


def test_a_figure_is_a_sentence_for_the_reader_and_exact_for_the_machine(shown):
    record_figure("mean_value", 12345.4, "$", (11000, 13000.2), label="Value of a customer")
    assert shown[0]["text/plain"] == "Value of a customer: 12,345 $ (95% interval 11,000 to 13,000)"
    assert "<strong>12,345 $</strong>" in shown[0]["text/html"]
    assert shown[0][MIME]["value"] == 12345.4
    assert shown[0][MIME]["interval"] == [11000, 13000.2]


@pytest.mark.parametrize(
    ("value", "kept", "text"),
    [
        (np.float64(0.123456), 0.123456, "0.1235"),
        (np.int64(7), 7, "7"),
        (np.bool_(True), True, "yes"),
        (1997, 1997, "1997"),
        (-1234567.8, -1234567.8, "-1,234,568"),
        (0.0000123, 0.0000123, "1.23e-05"),
        (2.5e18, 2.5e18, "2.5e+18"),
        (12.0, 12.0, "12"),
        (decimal.Decimal("1.50"), 1.5, "1.5"),
        (float("nan"), None, "not a number"),
        (np.inf, None, "infinite"),
        (-np.inf, None, "minus infinite"),
        (None, None, "not available"),
        (pd.NaT, None, "not available"),
        (pd.NA, None, "not available"),
        (pd.Timestamp("1997-01-01"), "1997-01-01", "1997-01-01"),
        (np.datetime64("1997-01-01T00:00:00.000000000"), "1997-01-01", "1997-01-01"),
        (datetime.date(1997, 1, 1), "1997-01-01", "1997-01-01"),
        ("顾客 <b>", "顾客 <b>", "顾客 <b>"),
    ],
)
def test_every_single_value_is_kept_as_json(shown, value, kept, text):
    payload = _record(shown, "x", value)
    assert payload["value"] == kept
    assert type(payload["value"]) is type(kept)
    assert payload["text"] == text
    json.dumps(payload, allow_nan=False)


def test_value_and_limits_have_the_same_decimals(shown):
    assert _record(shown, "share", 51.23456, "%", (48, 54.2))["text"] == "51.23%"
    assert shown[-1][MIME]["interval_text"] == "48.00 to 54.20"


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, np.array([1.0, 2.0]), pd.Series([1]), object(), 1j])
def test_what_is_no_single_value_is_refused_in_words(shown, value):
    with pytest.raises(TypeError, match="x: a key figure is one number, text, truth value or date, not"):
        record_figure("x", value)
    assert not shown


@pytest.mark.parametrize("name", ["", "Churn", "a b", "../x", "a\n", "é", 1])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ValueError, match="cannot name a record"):
        record_figure(name, 1)


def test_limits_may_come_as_an_array(shown):
    assert _record(shown, "x", 2.5, interval=np.array([2.25, 2.75]))["interval_text"] == "2.25 to 2.75"


def test_an_interval_has_two_limits():
    with pytest.raises(ValueError, match="lower and an upper limit, not 3"):
        record_figure("x", 1, interval=(1, 2, 3))


def test_markup_in_names_and_values_is_text(shown):
    record_figure("x", "<script>alert(1)</script>", "<i>", label="<b>bold</b>")
    record_table("t", pd.DataFrame({"<img src=x>": ["<script>alert(1)</script>"]}), caption="<h1>")
    for output in shown:
        assert "&lt;script&gt;" in output["text/html"]
        assert not [tag for tag in ("<script", "<i>", "<b>", "<img", "<h1") if tag in output["text/html"]]


def test_a_table_shows_twenty_rows_and_keeps_all(shown):
    record_table("rows", pd.DataFrame({"n": range(30)}))
    assert "first 20 of 30 rows" in shown[0]["text/plain"]
    assert "first 20 of 30 rows" in shown[0]["text/html"]
    assert shown[0]["text/html"].count("<tr>") == 21
    assert len(shown[0][MIME]["csv"].splitlines()) == 31


def test_a_table_has_full_precision_in_csv_and_four_digits_on_the_page(shown):
    record_table("t", pd.DataFrame({"share": [0.123456789, 0.5], "amount": [12345.678, np.nan]}))
    assert shown[0][MIME]["csv"] == "share,amount\n0.123456789,12345.678\n0.5,\n"
    assert shown[0]["text/plain"].splitlines()[1:] == ["0.1235  12,346", "0.5000  –"]


def test_an_index_with_meaning_becomes_columns_and_levels_one_header(shown):
    frame = pd.DataFrame({("a", "mean"): [1], ("a", "sum"): [2]}, index=pd.Index(["x"], name="state"))
    record_table("t", frame)
    assert shown[0][MIME]["csv"] == "state,a mean,a sum\nx,1,2\n"
    record_table("s", pd.Series([3], index=["y"], name="n"))
    assert shown[1][MIME]["csv"] == "index,n\ny,3\n"


def test_columns_of_the_same_name_are_both_kept(shown):
    record_table("t", pd.DataFrame([[1, "a"]], columns=["x", "x"]))
    assert shown[0][MIME]["csv"] == "x,x\n1,a\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@cmd", "\tx", "\rx", "\nx", "＝1", "＠x"])
def test_text_that_a_spreadsheet_would_compute_is_disarmed(shown, text):
    record_table("t", pd.DataFrame({text: [text, None], "n": [-1.5, 2]}))
    rows = shown[0][MIME]["csv"]
    back = pd.read_csv(pd.io.common.StringIO(rows), lineterminator="\n")
    assert back.columns[0] == f"'{text}"
    assert back.iloc[0, 0] == f"'{text}"
    assert back["n"].tolist() == [-1.5, 2]


def test_categories_dates_and_missing_values_are_readable(shown):
    frame = pd.DataFrame(
        {
            "state": pd.Categorical(["lost", None]),
            "since": pd.to_datetime(["1997-01-01", None]),
            "n": pd.array([1, None], dtype="Int64"),
            "ok": [True, False],
        }
    )
    record_table("t", frame)
    assert shown[0]["text/plain"].splitlines()[1:] == ["lost   1997-01-01  1  yes", "–      –           –  no"]


def test_an_empty_table_is_a_table(shown):
    record_table("t", pd.DataFrame({"a": []}))
    assert shown[0][MIME]["csv"] == "a\n"
    record_table("u", pd.DataFrame())
    assert shown[1][MIME]["rows"] == 0


def test_a_table_that_is_too_long_is_refused_with_advice():
    with pytest.raises(ValueError, match=r"100,001 rows are too many .* Aggregate"):
        record_table("t", pd.DataFrame({"n": np.zeros(MAX_ROWS + 1)}))


def test_what_is_no_table_is_refused():
    with pytest.raises(TypeError, match="a pandas table is wanted, not list"):
        record_table("t", [1, 2])


def test_two_amounts_in_dollars_do_not_make_a_formula(shown):
    say("They spent $1,182, the others **$593** of \\$9; $x$ is a formula.")
    assert shown[-1]["text/markdown"] == "They spent \\$1,182, the others **\\$593** of \\$9; $x$ is a formula."


def test_outside_a_notebook_the_words_are_printed(capsys):
    record_figure("churn_rate", 0.25)
    assert capsys.readouterr().out == "Churn rate: 0.25\n"


def _notebook(*payloads):
    return {
        "cells": [{"outputs": [{"data": {"text/plain": "x", MIME: p}} for p in payloads]}, {"cell_type": "markdown"}]
    }


def test_records_are_collected_once_and_leave_the_notebook(shown):
    figure, table = _record(shown, "x", 1), None
    record_table("x", pd.DataFrame({"a": [1]}))
    table = shown[-1][MIME]
    notebook = _notebook(figure, table)
    assert collect(notebook) == ({"x": figure}, {"x": table}, {})
    assert MIME not in json.dumps(notebook)


def _day(dataset):
    from crmlab.report import provenance

    provenance(dataset)


def test_where_numbers_come_from_tells_the_latest_day_of_the_data(shown, tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("customer_id,date,amount\n1,2024-03-01,5\n2,2024-05-17,7\n")
    _day("cdnow")
    _day(str(path))
    assert [output[MIME]["day"] for output in shown] == ["1998-06-30", "2024-05-17"]
    assert "Data as of  2024-05-17" in shown[1]["text/plain"]
    assert collect(_notebook(*(output[MIME] for output in shown))) == ({}, {}, {"data_as_of": "2024-05-17"})


def test_data_without_days_have_no_latest_one(shown, tmp_path):
    (tmp_path / "survey.csv").write_text("q1,q2\n1,2\n")
    for dataset in ("mobi", str(tmp_path / "survey.csv"), str(tmp_path / "gone.csv"), "postgres://nobody:pw@nowhere/x"):
        _day(dataset)
        assert MIME not in shown[-1]
        assert "Data as of" not in shown[-1]["text/plain"]


def test_a_forged_day_is_refused():
    with pytest.raises(ValueError, match="isoformat"):
        collect(_notebook({"kind": "about", "day": "<script>", "reality": None}))


def test_data_that_are_not_real_say_so_and_nothing_else_can_be_said(shown):
    _day("longzhiji")
    about = shown[-1][MIME]
    assert collect(_notebook(about))[2] == {"data_as_of": about["day"], "reality": "simulated"}
    forged = {"kind": "about", "day": None, "reality": "<b>real</b>"}
    assert collect(_notebook(forged))[2] == {}


def test_a_name_recorded_twice_is_an_error(shown):
    payload = _record(shown, "x", 1)
    with pytest.raises(ValueError, match="'x' is recorded twice"):
        collect(_notebook(payload, payload))


def test_a_forged_name_does_not_leave_the_folder():
    with pytest.raises(ValueError, match="cannot name a record"):
        collect(_notebook({"kind": "table", "name": "../../evil", "csv": ""}))


def test_importing_record_loads_nothing_heavy():
    code = "import sys; from crmlab.report import record, record_table; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "numpy", "papermill", "nbconvert", "nbformat", "pydantic", "IPython"} & set(loaded)
