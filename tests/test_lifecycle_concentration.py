import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data, lifecycle
from crmlab.data import DataError
from crmlab.lifecycle import shares

VALUES = st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any)


def test_a_hand_worked_concentration():
    table = lifecycle.concentration([1, 1, 1, 1, 16], n_boot=99)
    assert table.index.name == "measure"
    assert table["value"].to_list() == pytest.approx([0.8, 0.6])
    assert lifecycle.concentration([5, 5, 5, 5, 5], n_boot=9)["value"].to_list() == pytest.approx([0.2, 0])
    assert lifecycle.concentration([7], n_boot=9)["value"].to_list() == pytest.approx([0.2, 0]), "one customer"
    assert lifecycle.concentration([0, 0, 4], share=0.5, n_boot=9)["value"].iloc[0] == pytest.approx(1)
    assert lifecycle.concentration([1, 3], share=0.25, n_boot=0)["value"].iloc[0] == pytest.approx(0.375), (
        "half of 3 of 4"
    )


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_gini_is_the_mean_difference_and_the_lorenz_curve_is_convex(values):
    table = lifecycle.concentration(values, n_boot=0)
    pairs = [abs(a - b) for a, b in itertools.product(values, values)]
    assert table.loc["gini", "value"] == pytest.approx(np.mean(pairs) / 2 / np.mean(values), abs=1e-12)
    curve = lifecycle.lorenz(values)
    x, y = curve.index.to_numpy(), curve["value"].to_numpy()
    assert (x[0], y[0], x[-1], y[-1]) == pytest.approx((0, 0, 1, 1))
    slopes = np.diff(y) / np.diff(x)
    assert (np.diff(slopes) >= -1e-9).all()
    assert ((y >= 0) & (y <= x + 1e-12)).all()
    k = max(len(values) // 5, 0)
    if len(values) % 5 == 0:
        assert table.loc["top share", "value"] == pytest.approx(sum(sorted(values)[-k:]) / sum(values))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), min_size=1, max_size=15), st.integers(0, 9))
def test_weights_are_repetitions_and_order_makes_no_difference(pairs, seed):
    values, weights = (list(column) for column in zip(*pairs, strict=True))
    repeated = np.repeat(values, weights)
    if not repeated.any():
        return
    table = lifecycle.concentration(values, weights=weights, n_boot=29, seed=seed)
    again = lifecycle.concentration(repeated[::-1], n_boot=29, seed=seed)
    pd.testing.assert_frame_equal(table, again)
    pd.testing.assert_frame_equal(lifecycle.lorenz(values, weights), lifecycle.lorenz(repeated))


def paid_by_customer(log):
    return log.group_by("customer_id").aggregate(paid=lambda t: t.amount.sum()).to_pandas()["paid"]


def test_shares_have_intervals_that_a_seed_repeats():
    paid = paid_by_customer(data.open_dataset("cdnow"))
    table = lifecycle.concentration(paid)
    assert table["customers"].eq(23570).all()
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()
    pd.testing.assert_frame_equal(lifecycle.concentration(paid), table)
    with_few = lifecycle.concentration(paid[paid > 0], n_boot=0).loc["top share", "value"]
    assert with_few < table.loc["top share", "value"], "who paid nothing counts as a customer"


def test_the_bootstrap_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    # The Lorenz curve of the exponential distribution is p + (1 - p) log(1 - p).
    truth = 1 - (0.8 + 0.2 * np.log(0.2))
    caught = 0
    for seed in range(120):
        found = lifecycle.concentration(rng.exponential(size=400), n_boot=199, seed=seed).loc["top share"]
        caught += found["low"] <= truth <= found["high"]
    assert 0.87 <= caught / 120 <= 0.99


def test_many_customers_are_resampled_like_few(monkeypatch):
    values = np.random.default_rng(0).gamma(0.5, size=3000)
    few = lifecycle.concentration(values, n_boot=400)
    monkeypatch.setattr(shares, "MANY", 100)
    many = lifecycle.concentration(values, n_boot=400)
    width = few["high"] - few["low"]
    assert ((many["high"] - many["low"]) / width).between(0.85, 1.15).all()
    assert ((many[["low", "high"]] - few[["low", "high"]]).abs().max(axis=1) < 0.1 * width).all()


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ([1, -2, 3], {}, "1 customers have a negative value, the least -2.*whale_curve"),
        ([1, None], {}, "1 of 2 values are missing"),
        ([], {}, "no customers"),
        ([0, 0], {}, "add up to 0"),
        ([1, 2], {"weights": [1]}, "2 values and 1 weights"),
        ([1, 2], {"weights": [1, 0.5]}, "whole numbers"),
        ([1, 2], {"weights": [0, 0]}, "no customers"),
        ([1, 2], {"share": 20}, "share must lie between 0 and 1"),
    ],
)
def test_useless_values_are_refused_in_words(values, options, words):
    with pytest.raises(DataError, match=words):
        lifecycle.concentration(values, **options)


def test_the_top_share_grows_with_the_window():
    table = lifecycle.concentration_growth("cdnow", [273, 546], n_boot=49)
    assert table["value"].xs("top share", level="measure").to_list() == pytest.approx([0.628, 0.677], abs=5e-4)
    assert table["customers"].to_list() == [23500, 23500, 23502, 23502]
    default = lifecycle.concentration_growth("cdnow", n_boot=0)
    assert default.index.get_level_values("days").unique().tolist() == [137, 273, 410, 546]
    for windows in ([0], [547], []):
        with pytest.raises(DataError, match="windows are lengths in days from 1 to 546"):
            lifecycle.concentration_growth("cdnow", windows)


def test_a_hand_worked_whale_curve():
    margins = pd.Series({"a": -3.0, "b": 8.0, "c": 0.0, "d": 5.0})
    curve = lifecycle.whale_curve(margins)
    assert list(curve.index) == ["b", "d", "c", "a"]
    assert curve.index.name == "customer"
    assert curve["cumulative"].to_list() == [8, 13, 13, 10]
    assert curve["cumulative_share"].to_list() == [0.8, 1.3, 1.3, 1.0]
    assert curve["side"].to_list() == ["earns", "earns", "even", "pays back"]
    peak = lifecycle.whale_peak(margins, n_boot=200)
    assert peak["value"].to_list() == [10, 13, 3, 1.3, 0.5]
    assert np.isnan(peak.loc["peak share", "low"]), "samples of losers only have no share"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-100, 100), min_size=1, max_size=30))
def test_the_whale_curve_peaks_where_the_earners_end(margins):
    curve, peak = lifecycle.whale_curve(margins), lifecycle.whale_peak(margins, n_boot=0)["value"]
    assert max(curve["cumulative"].max(), 0) == peak["peak"] == sum(m for m in margins if m > 0)
    assert curve["cumulative"].iloc[-1] == pytest.approx(sum(margins)) == peak["total"]
    assert peak["peak"] - peak["paid back"] == pytest.approx(peak["total"])
    assert curve["cumulative_share"].isna().all() == (sum(margins) <= 0), "no profit, no share of it"


def test_a_profitable_whale_curve_has_intervals_and_missing_margins_are_refused():
    margins = np.random.default_rng(1).normal(2, 5, 2000)
    peak = lifecycle.whale_peak(margins)
    assert ((peak["low"] < peak["value"]) & (peak["value"] < peak["high"])).all()
    losers = lifecycle.whale_peak([-1.0, -2.0], n_boot=9)
    assert losers.loc["total", "value"] == -3
    assert losers.loc["peak share"].isna().sum() == 3
    with pytest.raises(DataError, match="1 of 2 values are missing"):
        lifecycle.whale_curve([1.0, np.nan])


PRODUCTS = pd.DataFrame(
    [
        ("rich", "2024-01-01", "wine", 60.0),
        ("rich", "2024-01-02", "milk", 5.0),
        ("p1", "2024-01-01", "milk", 20.0),
        ("p2", "2024-01-01", "milk", 20.0),
        ("p3", "2024-01-01", "milk", 10.0),
        ("p4", "2024-01-01", "bread", 9.0),
        ("p4", "2024-01-03", "bread", -1.0),
    ],
    columns=["customer_id", "date", "product_id", "amount"],
)


def test_a_hand_worked_product_view():
    view = lifecycle.product_view(PRODUCTS)
    assert view.index.name == "product_id"
    assert view["revenue"].to_dict() == {"wine": 60, "milk": 55, "bread": 8}
    assert view["revenue_best"].to_dict() == {"wine": 60, "milk": 5, "bread": 0}
    assert view["rank"].to_dict() == {"wine": 1, "milk": 2, "bread": 3}
    assert view["rank_others"].to_dict() == {"wine": 3, "milk": 1, "bread": 2}
    assert view.loc["milk", "share_best"] == pytest.approx(5 / 55)
    shuffled = PRODUCTS.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(lifecycle.product_view(shuffled), view)
    with pytest.raises(DataError, match="1 rows have no product_id"):
        lifecycle.product_view(PRODUCTS.assign(product_id=PRODUCTS["product_id"].where(PRODUCTS.index > 0)))
    with pytest.raises(DataError, match="no column product_id"):
        lifecycle.product_view("cdnow")
    with pytest.raises(DataError, match="share must lie"):
        lifecycle.product_view(PRODUCTS, share=1)


def test_product_view_adds_up_on_complete_journey():
    view = lifecycle.product_view("complete_journey")
    assert len(view) == 68509
    assert view["revenue"].sum() == pytest.approx(4596039.58)
    # 494 of 2,469 customers, a fifth rounded up, and their share of the revenue.
    assert view["revenue_best"].sum() / view["revenue"].sum() == pytest.approx(0.546, abs=5e-4)


def test_overlap_by_chance_is_that_of_random_lists():
    things = pd.RangeIndex(30)
    first, second = pd.Series(things < 8, things), pd.Series((things > 3) & (things < 10), things)
    found = lifecycle.overlap(first, second)
    assert found[["of", "first", "second", "common"]].to_list() == [30, 8, 6, 4]
    assert found["jaccard"] == pytest.approx(4 / 10)
    assert found["common_expected"] == pytest.approx(8 * 6 / 30)
    rng = np.random.default_rng(0)
    common = np.array([np.isin(rng.choice(30, 6, replace=False), range(8)).sum() for _ in range(4000)])
    assert found["jaccard_expected"] == pytest.approx((common / (14 - common)).mean(), abs=0.01)
    assert found["p_value"] == pytest.approx((common >= 4).mean(), abs=0.02)
    shuffled = second.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(lifecycle.overlap(first, shuffled), found)
    with pytest.raises(DataError, match="A list is empty"):
        lifecycle.overlap(first, first & False)
    with pytest.raises(DataError, match="the same things"):
        lifecycle.overlap(first, second.iloc[1:])


def test_five_measures_of_a_hand_worked_log():
    log = PRODUCTS.assign(home=["x", "x", "x", "y", "y", None, None], shop=list("ABAAAAB"))
    log = pd.concat([log, log[:2].assign(customer_id=None)])
    table = lifecycle.measures(log, household="home", intermediary="shop")
    assert table.index.names == ["measure", "quantity"]
    assert table["value"].dropna().to_dict() == pytest.approx(
        {
            ("who", "rows with a customer"): 7 / 9,
            ("who", "customers per household"): 2.0,
            ("breadth", "per customer"): 6 / 5,
            ("duration", "days from first to last"): 3 / 5,
            ("duration", "purchase days"): 7 / 5,
            ("participants", "per customer"): 7 / 5,
        }
    )
    assert table.loc[("how", "per customer"), "lacking"].startswith("a column that says through which contact")
    days = np.array([1, 0, 0, 0, 2])
    half = 1.959964 * days.std(ddof=1) / np.sqrt(5)
    assert table.loc[("duration", "days from first to last"), ["low", "high"]].to_list() == pytest.approx(
        [0.6 - half, 0.6 + half], abs=1e-5
    )
    assert (table["lacking"].eq("") == table["value"].notna()).all()


def test_measures_name_what_is_lacking_and_refuse_what_is_not_there():
    table = lifecycle.measures("cdnow")
    assert table["value"].isna().groupby(level="measure").all().to_dict() == {
        "who": False, "how": True, "breadth": True, "duration": False, "participants": True,
    }  # fmt: skip
    with pytest.raises(DataError, match="no column shop"):
        lifecycle.measures("cdnow", intermediary="shop")
    with pytest.raises(DataError, match="None of the 7 rows has a customer_id"):
        lifecycle.measures(PRODUCTS.assign(customer_id=None))
    with pytest.raises(DataError, match="1 rows have no date"):
        lifecycle.measures(PRODUCTS.assign(date=PRODUCTS["date"].where(PRODUCTS.index > 0)))
    assert lifecycle.measures(PRODUCTS[:1])["low"].isna().sum() > 2, "one customer has no interval"


def test_trial_and_repeat_of_a_hand_worked_log():
    rows = [
        ("a", "x", 1), ("a", "x", 40), ("a", "x", 41),  # known from the washout: a buyer, no trial
        ("b", "x", 30), ("b", "x", 30), ("b", "x", 37),  # twice on a day is no repeat, a week later it is one
        ("c", "x", 30), ("c", "x", 38), ("c", "y", 31),  # a day too late
        ("d", "y", 95), ("d", "y", 96),  # not followed for long enough
        ("e", None, 50), ("e", "z", 100),
    ]  # fmt: skip
    log = pd.DataFrame(rows, columns=["customer_id", "brand", "day"])
    log["date"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(log.pop("day") - 1, unit="D")
    table = lifecycle.trial_repeat(log, "brand", within=7, washout=10)
    assert table.index.to_list() == ["x", "y", "z"], "most buyers first"
    assert table[["buyers", "trials", "repeats"]].to_numpy().tolist() == [[3, 2, 1], [2, 1, 0], [1, 0, 0]]
    assert table["share"].to_list() == pytest.approx([0.5, 0.0, np.nan], nan_ok=True)
    assert table.loc["x", ["low", "high"]].to_list() == pytest.approx([0.0945, 0.9055], abs=1e-4), "Wilson"
    assert lifecycle.trial_repeat(log, "brand", within=7, washout=0).loc["x", "trials"] == 3
    shuffled = lifecycle.trial_repeat(log.sample(frac=1, random_state=1), "brand", within=7, washout=10)
    pd.testing.assert_frame_equal(shuffled, table)


def test_trial_and_repeat_refuses_what_cannot_be_followed():
    log = pd.DataFrame({"customer_id": ["a", "a"], "date": ["2024-02-28", "2024-03-01"], "product_id": ["x", "x"]})
    assert lifecycle.trial_repeat(log, within=2, washout=0)["repeats"].to_list() == [1], "29 February counts"
    with pytest.raises(DataError, match="lower washout or within"):
        lifecycle.trial_repeat(log, within=2, washout=1)
    with pytest.raises(DataError, match="within=0 must be 1 day or more"):
        lifecycle.trial_repeat(log, within=0)
    with pytest.raises(DataError, match="no column brand"):
        lifecycle.trial_repeat(log, "brand")
