"""The month rule, occasions once a year, and the probability of the next purchase."""

import datetime

import ibis
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab.data import DataError
from crmlab.market import dates, due, month_rule, next_purchase, send_on

DAYS = st.dates(datetime.date(1904, 1, 1), datetime.date(2023, 12, 31))


def shop(n, loyalty, seed=0):
    """Customers who buy once in the first year, and in each month of the second with the season's probability.

    Those who are loyal to their month buy in it again, whatever the season.
    """
    rng = np.random.default_rng(seed)
    season = np.array([1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 5, 4]) / 22
    first = rng.choice(12, n, p=season)
    again = rng.random((n, 12)) < season * 1.2
    again[np.arange(n), first] |= rng.random(n) < loyalty
    rows = [(i, pd.Timestamp(2022, m + 1, 10)) for i, m in enumerate(first)]
    rows += [(i, pd.Timestamp(2023, m + 1, 20)) for i, m in zip(*np.nonzero(again), strict=True)]
    ends = [(-1, pd.Timestamp("2022-01-01")), (-1, pd.Timestamp("2023-12-31"))]
    return pd.DataFrame([*rows, *ends], columns=["customer_id", "date"])


def test_a_season_alone_is_no_month_rule():
    season, p = np.array([1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 5, 4]) / 22, []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        first = np.sort(rng.choice(12, 300, p=season))
        again = rng.random((300, 12)) < season * 1.2
        p.append(dates._offsets(first, again, 300, 99, seed)["p_value"].to_numpy())
    # At the 5 % level ten of 200 are expected at each offset; more than 22 once in two thousand times.
    assert ((np.array(p) <= 0.05).sum(axis=0) <= 22).all()


def test_customers_loyal_to_their_month_are_found_and_only_there():
    found = month_rule(shop(800, 0.3), permutations=199).offsets
    assert found.loc[0, "p_value"] == 1 / 200
    assert found.loc[0, "ratio_low"] > 1.5
    assert (found.drop(index=0)["ratio_low"] < 1.1).all()


def test_the_month_rule_counts_by_hand():
    rows = [
        ("a", "2022-05-03"), ("a", "2023-05-30"),  # a hit
        ("b", "2022-05-03"), ("b", "2022-05-30"), ("b", "2023-06-01"),  # one month, two days; the month after
        ("c", "2022-05-03"), ("c", "2022-07-03"), ("c", "2023-05-03"),  # two months: not followed
        ("d", "2022-02-28"),  # never came back: a message in vain
        ("e", "2022-12-31"), ("e", "2023-01-01"),  # the month after December is January
        ("f", "2023-03-01"), ("f", "2023-04-01"),  # unknown in the first year
        ("z", "2022-01-01"), ("z", "2023-12-31"),
        ("g", "2024-01-05"),  # after the two years
    ]  # fmt: skip
    found = month_rule(pd.DataFrame(rows, columns=["customer_id", "date"]), permutations=9)
    same, after = found.offsets.loc[0], found.offsets.loc[1]
    assert (same["customers"], same["hits"], after["hits"]) == (4, 1, 2)
    assert (same["messages"], same["precision"], same["wrong_per_right"]) == (5, 0.2, 4)
    # Of four, two are of May, where one is active; December: one, active one; January: one, active one.
    assert same["expected"] == pytest.approx((2 * 1 + 1 * 1 + 1 * 1) / 16)
    assert found.facts.to_dict() == {
        "first_year": 6, "both_years": 5, "one_month": 4,
        "begin": datetime.date(2022, 1, 1), "end": datetime.date(2023, 12, 31),
    }  # fmt: skip
    listed = found.candidates.to_pandas().set_index("customer_id")["month"].to_dict()
    assert listed == {"a": 5, "b": 6, "c": 5, "e": 1, "z": 12}


def test_the_month_rule_is_the_same_on_polars():
    log = shop(100, 0.5)
    polars = ibis.polars.connect({"log": pl.from_pandas(log)}).table("log")
    here, there = month_rule(log, permutations=9), month_rule(polars, permutations=9)
    pd.testing.assert_frame_equal(here.offsets, there.offsets)
    tables = [t.candidates.to_pandas().sort_values("customer_id", ignore_index=True) for t in (here, there)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"observation_end": "2023-12-30"}, "last day of a month"),
        ({"observation_end": "2024-12-31"}, "needs two whole years"),
        ({"observation_end": "2022-12-31"}, "needs two whole years"),
        ({"permutations": 0}, "permutations must be at least 1"),
    ],
)
def test_a_month_rule_without_its_two_years_is_refused(options, says):
    with pytest.raises(DataError, match=says):
        month_rule(shop(50, 0.5), **options)


def test_one_customer_is_too_few_for_a_month_rule():
    log = pd.DataFrame({"customer_id": "a", "date": ["2022-01-01", "2023-01-05", "2023-12-31"]})
    with pytest.raises(DataError, match="1 customers bought in exactly one month"):
        month_rule(log)


@given(DAYS, st.integers(1905, 2100), st.integers(-60, 60))
def test_a_message_comes_so_many_days_before_the_day_and_month_of_the_occasion(day, year, before):
    sent = send_on(day, year, before) + datetime.timedelta(days=before)
    leap = (day.month, day.day) == (2, 29)
    assert sent.year == year
    assert sent.month == day.month
    assert sent.day == day.day or (leap and sent.day == 28)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(DAYS, min_size=1, max_size=8),
    st.integers(-40, 40),
    st.lists(st.integers(1, 80), min_size=30, max_size=60),
)
def test_runs_without_gap_or_overlap_write_once_for_each_occasion(days, before, lengths):
    dates = dict(enumerate(days))
    start = at = datetime.date(2024, 2, 27)
    runs = []
    for length in lengths:
        end = at + datetime.timedelta(days=length - 1)
        runs.append(due(dates, at, end, before))
        at = end + datetime.timedelta(days=1)
    found = pd.concat(runs)
    assert not found.duplicated(["customer_id", "occasion"]).any()
    for customer, day in dates.items():
        expected = [send_on(day, year, before) for year in range(day.year + 1, at.year + 2)]
        expected = [sent for sent in expected if start <= sent < at]
        assert found.loc[found["customer_id"] == customer, "send_on"].tolist() == expected


def test_runs_that_overlap_write_once_a_year_when_they_know_what_was_sent():
    dates = {"a": "1990-12-30", "b": "2000-02-29", "c": None}
    first = due(dates, "2023-12-20", "2023-12-31", before=3)
    again = due(dates, "2023-12-25", "2024-03-05", before=3, sent=first)
    assert first["customer_id"].tolist() == ["a"]
    assert again[["customer_id", "years"]].values.tolist() == [["b", 24]]
    assert again["occasion"].tolist() == [datetime.date(2024, 2, 29)]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: send_on("29.02.2000", 2024), "date must be a date"),
        (lambda: send_on("2000-02-29", "2024"), "year must be a year"),
        (lambda: send_on("2000-02-29", 2024, 0.5), "before must be a whole number"),
        (lambda: due({"a": "soon"}, "2024-01-01", "2024-01-02"), "date of customer 'a'"),
        (lambda: due({"a": "2000-01-01"}, "2024-01-02", "2024-01-01"), "within a year"),
        (lambda: due(pd.Series(["2000-01-01"] * 2, ["a", "a"]), "2024-01-02", "2024-01-03"), "'a' has more than one"),
    ],
)
def test_dates_that_are_none_are_refused(call, says):
    with pytest.raises(DataError, match=says):
        call()


def buyers(n=400, seed=0):
    """Customers who buy at rates of their own, for a year, some of whom stop."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        rate, day = rng.gamma(1.5, 1 / 40), rng.integers(0, 100)
        end = rng.exponential(500)
        while day < min(360, 100 + end):
            rows.append((f"c{i}", pd.Timestamp("2023-01-01") + pd.Timedelta(days=int(day))))
            day += 1 + rng.exponential(1 / rate)
    return pd.DataFrame(rows, columns=["customer_id", "date"])


@pytest.fixture(scope="module")
def predicted():
    return next_purchase(buyers(), "2023-11-15", window=30, minimum=3)


def test_a_prediction_sees_nothing_after_the_cut(predicted):
    log = buyers()
    cut = log[log["date"] <= "2023-11-15"]
    blind = next_purchase(cut, "2023-11-15", window=30, minimum=3)
    assert blind.scores is None
    assert blind.calibration is None
    tables = [t.probabilities.to_pandas().set_index("customer_id").sort_index() for t in (predicted, blind)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-9)


def test_the_probabilities_are_scored_on_the_window(predicted):
    log = buyers()
    after = log[(log["date"] > "2023-11-15") & (log["date"] <= "2023-12-15")]
    table = predicted.probabilities.to_pandas().set_index("customer_id")
    days = log[log["date"] <= "2023-11-15"].groupby("customer_id")["date"].nunique()
    assert sorted(table.index) == sorted(days.index[days >= 3])
    bought = table.index.isin(after["customer_id"])
    assert predicted.facts["bought"] == bought.sum()
    assert predicted.scores["brier"].to_dict() == pytest.approx(((table.sub(bought, axis=0)) ** 2).mean().to_dict())
    assert predicted.scores.loc["logit", "auc"] > 0.6
    assert (predicted.scores["low"] < predicted.scores["auc"]).all()
    assert predicted.calibration.groupby("model")["customers"].sum().eq(len(table)).all()
    assert table.to_numpy().min() > 0
    assert table.to_numpy().max() < 1


def test_the_next_purchase_is_the_same_on_polars(predicted):
    polars = ibis.polars.connect({"log": pl.from_pandas(buyers())}).table("log")
    there = next_purchase(polars, "2023-11-15", window=30, minimum=3)
    pd.testing.assert_frame_equal(predicted.scores, there.scores)
    tables = [t.probabilities.to_pandas().set_index("customer_id").sort_index() for t in (predicted, there)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cut": "2023-12-20"}, "the cut must be the last day, or lie between"),
        ({"cut": "2023-01-15"}, "the cut must be the last day, or lie between"),
        ({"window": 0}, "window must be a whole number of at least 1"),
        ({"minimum": 1}, "minimum must be a whole number of at least 2"),
        ({"minimum": 40}, "fewer than 20 did or did not|Nobody had bought"),
    ],
)
def test_windows_from_which_nothing_can_be_learned_are_refused(options, says):
    with pytest.raises(DataError, match=says):
        next_purchase(buyers(), **options)


def test_one_customer_is_refused_in_words():
    log = pd.DataFrame({"customer_id": "a", "date": pd.date_range("2023-01-01", periods=20, freq="7D")})
    with pytest.raises(DataError):
        next_purchase(log, window=14)
