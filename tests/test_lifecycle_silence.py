import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle import at_risk, gaps, habits, idle_return, lost_after, pooled_return, survival

TOY = pd.DataFrame(
    [
        ("a", "2024-01-01"),
        ("a", "2024-01-01"),
        ("a", "2024-01-31"),
        ("a", "2024-02-29"),
        ("b", "2024-01-10"),
        ("c", "2024-01-20"),
        ("c", "2024-02-10"),
        ("d", "2024-02-05"),
        ("e", "2024-03-10"),
    ],
    columns=["customer_id", "date"],
)


def test_a_hand_worked_back_test():
    # On 31 January: a silent for 0 days, c for 11, b for 21; d and e have not come yet. By 1 March a and c are back.
    table = idle_return(TOY, horizon=30, as_of=["2024-01-31"], silence=(0, 10, 20))
    assert table.index.tolist() == [(pd.Timestamp("2024-01-31"), s) for s in (0, 10, 20)]
    assert table["to"].tolist() == [10, 20, np.inf]
    assert table["customers"].tolist() == [1, 1, 1]
    assert table["returned"].tolist() == [1, 1, 0]
    assert table["low"].tolist() == pytest.approx([0.2065, 0.2065, 0.0], abs=1e-4)
    # A day's horizon: 29 February belongs to 30 days from 30 January, not to 29.
    assert idle_return(TOY, 30, ["2024-01-30"], (0, 25))["returned"].tolist() == [1, 1]
    assert idle_return(TOY, 29, ["2024-01-30"], (0, 25))["returned"].tolist() == [1, 1], "a is back on the 31st"
    assert idle_return(TOY, 28, ["2024-02-01"], (0, 5))["returned"].tolist() == [1, 1]
    assert idle_return(TOY, 27, ["2024-02-01"], (0, 5))["returned"].tolist() == [0, 1]


LOGS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 89)), min_size=1, max_size=40)
START = datetime.date(2024, 1, 1)


def log_of(rows):
    return pd.DataFrame({"customer_id": [c for c, _ in rows], "date": [START + datetime.timedelta(d) for _, d in rows]})


@settings(max_examples=25, deadline=None)
@given(LOGS, st.integers(0, 60), st.integers(1, 29), st.randoms(use_true_random=False))
def test_the_back_test_equals_a_plain_loop(rows, day, horizon, random):
    rows = [*rows, (9, 0), (9, 89)]
    log = log_of(rows)
    expected = {}
    for customer in {c for c, _ in rows}:
        before = [d for c, d in rows if c == customer and d <= day]
        if before:
            silent = day - max(before)
            back = any(c == customer and day < d <= day + horizon for c, d in rows)
            group = max(s for s in (0, 7, 21) if s <= silent)
            counts = expected.setdefault(group, [0, 0])
            counts[0] += 1
            counts[1] += back
    as_of = START + datetime.timedelta(day)
    table = idle_return(log, horizon, [as_of], (0, 7, 21)).reset_index("as_of")
    assert {s: [r["customers"], r["returned"]] for s, r in table.iterrows()} == expected
    share, low, high = wilson(table["returned"], table["customers"])
    assert np.array_equal(table[["share", "low", "high"]].to_numpy().T, [share, low, high])
    other = log.sample(frac=1, random_state=random.randint(0, 99)).assign(
        customer_id=lambda d: "x" + d["customer_id"].astype(str)
    )
    again = idle_return(other, horizon, [as_of], (0, 7, 21)).reset_index("as_of")
    pd.testing.assert_frame_equal(again, table)


def test_days_to_stand_at_are_spaced_evenly_and_each_is_on_its_own():
    table = idle_return("cdnow", horizon=180, as_of=3)
    days = table.index.unique("as_of")
    assert days[-1] == pd.Timestamp("1998-06-30") - pd.Timedelta(days=180)
    assert len(days) == 3
    one = idle_return("cdnow", horizon=180, as_of=[str(days[1].date())])
    pd.testing.assert_frame_equal(table.loc[[days[1]]], one)
    assert table.loc[days[-1], "customers"].sum() == 23570, "the whole cohort had come by then"
    assert (table.loc[days[-1], "share"].diff().dropna() < 0).all(), "longer silence, fewer return"


def test_pooled_gaps_promise_more_than_the_back_test():
    # Of all gaps that have lasted 90 days, the share that ends within the next 180, beside that of customers.
    curve = survival(gaps("cdnow"), "days", "returned", weights="weight").curve["survival"]
    promised = 1 - curve.loc[270] / curve.loc[90]
    table = idle_return("cdnow", horizon=180, as_of=["1998-01-01"], silence=(90, 100000))
    assert promised > table["high"].item() + 0.05


def test_gaps_are_counted_by_hand():
    table = gaps(TOY, observation_end="2024-03-12")
    # a 30, 29, then 12 open; b 62 open; c 21, then 31 open; d 36 open; e 2 open.
    assert table.to_numpy().tolist() == [
        [2, 0, 1], [12, 0, 1], [21, 1, 1], [29, 1, 1], [30, 1, 1], [31, 0, 1], [36, 0, 1], [62, 0, 1]
    ]  # fmt: skip


def test_customers_are_lost_where_the_chance_stays_small():
    index = pd.MultiIndex.from_product([["x"], [0, 30, 60, 90]], names=["as_of", "silent"])
    curve = pd.DataFrame(
        {"share": [0.5, 0.15, 0.25, 0.1], "low": [0.4, 0.1, 0.15, 0.05], "high": [0.6, 0.2, 0.3, 0.22]}, index
    )
    assert lost_after(curve, 0.2).loc["x"].to_dict() == pytest.approx(
        {"silent": 90, "low": 30, "high": np.nan}, nan_ok=True
    )
    assert lost_after(curve, 0.7).loc["x"].tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="between 0 and 1, not 20"):
        lost_after(curve, 20)


def test_a_hand_worked_habit():
    days = [0, 10, 30, 70]  # gaps 10, 20, 40: logarithms ln 20 - ln 2, ln 20, ln 20 + ln 2
    log = pd.DataFrame({"customer_id": "k", "date": [START + datetime.timedelta(d) for d in days]})
    log = pd.concat([log, pd.DataFrame({"customer_id": ["end"], "date": [START + datetime.timedelta(300)]})])
    (row,) = habits(log).to_pandas().to_dict("records")
    assert row["purchases"] == 4
    assert row["silent"] == 230
    assert row["usual"] == pytest.approx(20)
    assert row["high"] == pytest.approx(20 * 2 ** (student.ppf(0.975, 2) / np.sqrt(3)))
    assert row["low"] == pytest.approx(20 / 2 ** (student.ppf(0.975, 2) / np.sqrt(3)))
    assert row["longest"] == pytest.approx(20 * 2 ** (student.ppf(0.95, 2) * np.sqrt(4 / 3)))
    assert row["at_risk"]
    assert at_risk(log).to_pandas()["customer_id"].tolist() == ["k"]


def test_regular_buyers_are_at_risk_a_day_after_their_day():
    days = [0, 7, 14, 21, 28]
    log = pd.DataFrame({"customer_id": "w", "date": [START + datetime.timedelta(d) for d in days]})
    late = pd.DataFrame({"customer_id": ["z"], "date": [START + datetime.timedelta(60)]})
    for day, expected in ((35, []), (36, ["w"])):
        found = at_risk(pd.concat([log, late]), as_of=START + datetime.timedelta(day))
        assert found.to_pandas()["customer_id"].tolist() == expected


def test_whose_silence_is_beyond_their_habit_returns_less_often():
    table = habits("cdnow", as_of="1997-12-31", horizon=90).to_pandas()
    assert len(table) == 3922
    returned = table.groupby("at_risk")["returned"]
    _share, low, high = wilson(returned.sum(), returned.size())
    assert high[1] < low[0], "those at risk, against the others"
    assert table["customer_id"].is_unique
    listed = at_risk("cdnow", as_of="1997-12-31").to_pandas()
    assert set(listed["customer_id"]) == set(table.loc[table["at_risk"], "customer_id"])
    assert (listed["silent"] / listed["longest"]).is_monotonic_decreasing


def test_times_at_midnight_belong_to_the_day_that_begins():
    times = ["2024-02-28 23:59:59", "2024-02-29 00:00:00", "2024-03-05 00:00:00"]
    log = pd.DataFrame({"customer_id": ["a", "a", "b"], "date": pd.to_datetime(times)})
    table = idle_return(log, horizon=1, as_of=["2024-02-28"], silence=(0,))
    assert table[["customers", "returned"]].to_numpy().tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"horizon": 0}, "horizon must be a number of days ≥ 1"),
        ({"horizon": 500}, "there is no room for 3 days"),
        ({"horizon": 10, "as_of": 0}, "no room for 0 days"),
        ({"horizon": 10, "as_of": []}, "names no day"),
        ({"horizon": 10, "as_of": ["2024-03-05"]}, "as_of 2024-03-05 and the 10 days after it must lie between"),
        ({"horizon": 10, "as_of": "31/01/2024"}, "as_of must be a date"),
        ({"horizon": 10, "silence": (30, 10)}, "must be growing numbers"),
        ({"horizon": 10, "silence": ()}, "must be growing numbers"),
    ],
)
def test_impossible_options_are_refused_in_words(options, words):
    with pytest.raises(DataError, match=words):
        idle_return(TOY, **options)


def test_habits_need_gaps_and_a_day_within_the_log():
    with pytest.raises(DataError, match="at least 3 days of purchase"):
        habits(TOY, minimum=2)
    with pytest.raises(DataError, match="as_of 2023-12-31"):
        habits(TOY, as_of="2023-12-31")
    with pytest.raises(DataError, match="and the 30 days after it"):
        habits(TOY, horizon=30)
    assert habits(TOY).count().to_pyarrow().as_py() == 0, "nobody has bought on four days"
    one_day = pd.DataFrame({"customer_id": ["a"], "date": ["2024-01-01"]})
    assert habits(one_day).count().to_pyarrow().as_py() == 0


def test_pooled_gaps_by_hand():
    # Gaps: 10 and 20 days ended, 30 days open. S is 1, 2/3 from day 10 and 1/3 from day 20.
    log = pd.DataFrame({"customer_id": ["a", "a", "a"], "date": ["2024-01-01", "2024-01-11", "2024-01-31"]})
    found = pooled_return(log, 10, observation_end="2024-03-01")
    assert len(found) == 31
    assert found[[0, 5, 10, 15, 25, 30]].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 2, 1 / 2, 0, 0])
    with pytest.raises(DataError, match="horizon must be a number of days"):
        pooled_return(log, 0)


def test_pooled_gaps_are_not_customers():
    # A regular buys every day, nine others came once: nine in ten customers are gone, nearly all gaps are a day.
    days = pd.date_range("2024-01-01", periods=200).strftime("%Y-%m-%d")
    rows = [("regular", day) for day in days] + [(f"c{i}", days[0]) for i in range(9)]
    log = pd.DataFrame(rows, columns=["customer_id", "date"])
    assert pooled_return(log, 30)[0] > 0.9
    assert idle_return(log, 30, [days[100]], (0,))["share"].item() == 0.1
