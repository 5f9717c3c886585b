import datetime
import itertools

import ibis
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
    assert table["calibration_end"].to_list() == [pd.Timestamp("2024-01-31")] * 3
    assert table["frequency_last"].to_list() == [1, 0, 0], "the first purchase of b in those 28 days is no repeat"


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
    calendar = clv.month_calendar("2020-01-01", "2020-12-31")
    summary = clv.summarize(log, "D", str(end), timing=True, calendar=calendar)
    table = summary.to_pandas().set_index("customer_id")
    expected = {}
    for customer in {c for c, _ in rows}:
        days = sorted({d for c, d in rows if c == customer})
        known = [d for d in days if d <= end]
        if known:
            expected[customer] = (len(known) - 1, (known[-1] - known[0]).days, (end - known[0]).days)
            if end < last:
                assert table.loc[customer, "frequency_holdout"] == len(days) - len(known)
                recent = [d for d in known[1:] if d > end - (last - end)]
                assert table.loc[customer, "frequency_last"] == len(recent)
            gaps = [(later - earlier).days for earlier, later in itertools.pairwise(known)]
            assert table.loc[customer, "log_gaps"] == pytest.approx(np.log(gaps).sum())
            assert table.loc[customer, "calendar_dec"] == sum(d.month == 12 for d in known[1:])
    assert {c: tuple(r) for c, r in table[["frequency", "recency", "T"]].iterrows()} == expected
    random.shuffle(rows)
    shuffled = log.sample(frac=1, random_state=1)
    again = clv.summarize(shuffled, "D", str(end), timing=True, calendar=calendar).to_pandas().set_index("customer_id")
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
        ({"calibration_end": "31/01/2024"}, "calibration_end must be a date such as 2024-01-31, not '31/01/2024'"),
        ({"observation_end": "soon"}, "observation_end must be a date"),
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


def test_observation_may_go_on_after_the_last_purchase():
    table = clv.summarize(TOY, "D", observation_end="2024-03-31").to_pandas().set_index("customer_id")
    assert table["T"].to_dict() == {"a": 90, "b": 83, "c": 89, "d": 35}
    table = clv.summarize(TOY, "D", "2024-02-29", "2024-03-31").to_pandas()
    assert table["frequency_holdout"].eq(0).all()
    assert table["amount_holdout"].eq(0.0).all()
    assert table["T_holdout"].eq(31).all()


def test_times_of_day_make_no_difference():
    times = TOY.assign(date=pd.to_datetime(TOY["date"]) + pd.to_timedelta(range(1, 16, 2), unit="h"))
    options = {"calibration_end": "2024-01-31", "timing": True}
    tables = [clv.summarize(log, **options).order_by("customer_id").to_pandas() for log in (times, TOY)]
    pd.testing.assert_frame_equal(*tables)


def test_the_gaps_between_purchases_are_logged_in_units_of_time():
    table = clv.summarize(TOY, "W", timing=True).to_pandas().set_index("customer_id")
    assert table["log_gaps"].to_dict() == pytest.approx({"a": np.log(2) + np.log(4), "b": 0, "c": np.log(7), "d": 0})
    assert "log_gaps" not in clv.summarize(TOY).columns


def test_a_calendar_is_summed_over_repeat_purchases_of_the_calibration():
    days = pd.date_range("2023-12-01", "2024-12-31")
    calendar = pd.DataFrame({"day": days.day, "Warm": days.month == 2, "one": 1}, index=days)
    table = clv.summarize(TOY, "W", "2024-02-15", calendar=calendar).to_pandas().set_index("customer_id").sort_index()
    assert table["calendar_day"].to_list() == [15 + 12, 0, 0], "neither first purchases nor the hold-out count"
    assert table["calendar_Warm"].to_list() == [1, 0, 0]
    assert table["calendar_one"].equals(table["frequency"].astype(float).rename("calendar_one"))


def test_every_fault_of_a_calendar_is_named_at_once():
    days = pd.date_range("2024-01-03", "2024-02-28").delete(5)
    calendar = pd.DataFrame({"warm": 1.0, "event": "no", "Event": 2.0}, index=[*days, days[3]])
    calendar.loc["2024-02-01", "warm"] = np.nan
    with pytest.raises(DataError) as caught:
        clv.summarize(TOY, calendar=calendar)
    message = str(caught.value)
    for words in (
        "3 days are missing between 2024-01-01 and 2024-02-25, first 2024-01-01",
        "1 rows repeat a day, first 2024-01-06",
        "columns have the same name",
        "not numeric: event",
        "values are missing or infinite between 2024-01-01 and 2024-02-25 in warm",
    ):
        assert words in message
    undated = clv.month_calendar("2024-01-01", "2024-02-28")
    undated.index = [*undated.index[:-1], pd.NaT]
    with pytest.raises(DataError, match="1 rows have no date"):
        clv.summarize(TOY, calendar=undated)


@pytest.mark.parametrize("calendar", [{"2024-01-01": 1}, pd.DataFrame({"warm": [1.0]}, index=["2024-01-01"])])
def test_a_calendar_without_days_is_refused(calendar):
    with pytest.raises(DataError, match="DatetimeIndex"):
        clv.summarize(TOY, calendar=calendar)


def test_months_as_a_calendar_hold_each_day_once():
    months = clv.month_calendar("2023-01-01", "2024-12-31")
    assert list(months) == ["feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    assert len(months) == 731
    assert months["feb"].sum() == 28 + 29
    assert months.loc["2024-01-15"].sum() == 0
    with pytest.raises(DataError, match="before the first"):
        clv.month_calendar("2024-01-02", "2024-01-01")


def test_another_engine_finds_the_same():
    polars = pytest.importorskip("polars")
    frame = data.load("cdnow_sample").to_pandas()
    log = ibis.polars.connect({"log": polars.from_pandas(frame)}).table("log")
    options = {"calibration_end": "1997-09-30", "calendar": clv.month_calendar("1997-01-01", "1998-06-30")}
    found, expected = (clv.summarize(t, **options).to_pandas() for t in (log, frame))
    found, expected = (t.sort_values("customer_id", ignore_index=True) for t in (found, expected))
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
