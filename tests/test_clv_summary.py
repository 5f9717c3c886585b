import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import clv, data
from crmlab.data import DataError

TOY = pd.DataFrame(
    [
        ("a", "2024-01-01", 5.0),
        ("a", "2024-01-01", 3.0),
        ("a", "2024-01-15", 20.0),
        ("a", "2024-02-12", 40.0),
        ("b", "2024-01-08", 7.0),
        ("c", "2024-01-02", 1.0),
        ("c", "2024-02-20", 9.0),
        ("d", "2024-02-25", 2.0),
    ],
    columns=["customer_id", "date", "amount"],
)


def test_a_hand_worked_log_gives_the_hand_worked_summary():
    table = clv.summarize(TOY, "W", "2024-01-31", "2024-02-28").to_pandas().set_index("customer_id").sort_index()
    assert list(table.index) == ["a", "b", "c"], "d first buys after the calibration"
    assert table["frequency"].to_list() == [1, 0, 0], "two orders on a day are one purchase"
    assert table["recency"].to_list() == [2.0, 0.0, 0.0]
    assert table["T"].to_list() == pytest.approx([30 / 7, 23 / 7, 29 / 7])
    assert table["monetary_value"].to_list() == pytest.approx([20.0, np.nan, np.nan], nan_ok=True)
    assert table["frequency_holdout"].to_list() == [1, 0, 1]
    assert table["amount_holdout"].to_list() == [40.0, 0.0, 9.0]
    assert table["T_holdout"].to_list() == [4.0] * 3


def test_published_fingerprints_of_cdnow(cdnow_summary):
    sums = cdnow_summary[["frequency", "recency", "T", "frequency_holdout"]].sum()
    assert sums.to_list() == pytest.approx([2457, 16135.571429, 77111.285714, 1882], abs=1e-6)
    master = clv.summarize("cdnow", calibration_end="1997-09-30")
    sums = master.to_pandas()[["frequency", "recency", "T", "frequency_holdout"]].sum()
    assert sums.to_list() == pytest.approx([24337, 161377.714286, 771390.857143, 19684], abs=1e-6)
    assert len(clv.states(master)) == 8685


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.dates(datetime.date(2020, 1, 1), datetime.date(2020, 12, 31))),
        min_size=1,
        max_size=40,
    ),
    st.dates(datetime.date(2020, 1, 1), datetime.date(2020, 12, 31)),
    st.randoms(use_true_random=False),
)
def test_summary_equals_a_plain_loop_and_ignores_row_order(rows, end, random):
    log = pd.DataFrame(rows, columns=["customer_id", "date"]).assign(amount=1.5)
    last = log["date"].max()
    end = min(max(end, log["date"].min()), last)
    table = clv.summarize(log, "D", str(end)).to_pandas().set_index("customer_id")
    expected = {}
    for customer in {c for c, _ in rows}:
        days = sorted({d for c, d in rows if c == customer})
        known = [d for d in days if d <= end]
        if known:
            expected[customer] = (len(known) - 1, (known[-1] - known[0]).days, (end - known[0]).days)
            if end < last:
                assert table.loc[customer, "frequency_holdout"] == len(days) - len(known)
    assert {c: tuple(r) for c, r in table[["frequency", "recency", "T"]].iterrows()} == expected
    random.shuffle(rows)
    again = clv.summarize(log.sample(frac=1, random_state=1), "D", str(end)).to_pandas().set_index("customer_id")
    pd.testing.assert_frame_equal(again.sort_index(), table.sort_index())


@pytest.mark.parametrize(("unit", "days"), [("D", 1), ("W", 7), ("M", 365.25 / 12), ("Y", 365.25)])
def test_units_only_divide_the_days(unit, days):
    table = clv.summarize(TOY, unit).to_pandas().set_index("customer_id")
    assert table.loc["a", "recency"] == pytest.approx(42 / days)
    assert set(table["unit"]) == {unit}


def test_states_count_every_customer_once(cdnow_summary):
    states = clv.states(cdnow_summary)
    assert len(states) == 1016
    assert states["weight"].sum() == 2357
    assert (states["weight"] * states["frequency"]).sum() == 2457


def test_rows_without_customer_date_or_amount_are_refused_with_their_number():
    log = TOY.assign(customer_id=TOY["customer_id"].where(TOY.index > 1), amount=TOY["amount"].where(TOY.index < 7))
    with pytest.raises(DataError, match=r"2 have no customer_id, 0 no date and 1 no amount.*audit"):
        clv.summarize(log)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": "weeks"}, "unit must be one of D, W, M, Y"),
        ({"calibration_end": "2023-12-31"}, "must lie between"),
        ({"calibration_end": "2024-03-01"}, "must lie between"),
    ],
)
def test_impossible_options_are_refused_in_words(options, words):
    with pytest.raises(DataError, match=words):
        clv.summarize(TOY, **options)


def test_an_empty_log_is_refused():
    with pytest.raises(DataError, match="no rows"):
        clv.summarize(TOY.iloc[:0])


def test_a_log_without_amounts_has_no_monetary_value():
    table = clv.summarize(TOY.drop(columns="amount"), "W", "2024-01-31").to_pandas()
    assert "monetary_value" not in table
    assert "amount_holdout" not in table


def test_the_middle_of_cdnow_is_where_the_literature_ends_calibration():
    assert clv.middle("cdnow_sample") == "1997-09-30"


def test_an_audited_log_summarizes(cdnow_summary):
    log = data.audit("cdnow_sample").kept
    again = clv.summarize(log, calibration_end="1997-09-30").to_pandas()
    pd.testing.assert_frame_equal(
        again.sort_values("customer_id", ignore_index=True), cdnow_summary.sort_values("customer_id", ignore_index=True)
    )
