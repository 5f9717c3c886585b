import warnings

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.duration.survfunc import CumIncidenceRight, SurvfuncRight, survdiff

from crmlab import data
from crmlab.data import DataError
from crmlab.lifecycle import cumulative_incidence, remission, survival, survival_at


def telco():
    return data.open_dataset("telco_churn").rename(left="Churn")


PEOPLE = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2), st.sampled_from("abc")), min_size=1, max_size=40)


def frame_of(people):
    return pd.DataFrame(people, columns=["t", "cause", "g"]).assign(e=lambda d: (d["cause"] > 0).astype(int))


def test_a_hand_worked_curve():
    toy = pd.DataFrame({"months": [1, 2, 2, 3, 5], "left": [1, 1, 0, 0, 1]})
    curve = survival(toy, "months", "left").curve
    assert curve.index.tolist() == [0, 1, 2, 3, 5]
    assert curve["at_risk"].tolist() == [5, 5, 4, 2, 1]
    assert curve["survival"].tolist() == pytest.approx([1, 4 / 5, 3 / 5, 3 / 5, 0])
    # Greenwood at 2: 1/(5 4) + 1/(4 3) = 2/15; log-log: .6 ** exp(-+1.96 sqrt(2/15) / log .6)
    width = np.exp(1.959964 * np.sqrt(2 / 15) / -np.log(0.6))
    assert curve.loc[2, ["low", "high"]].tolist() == pytest.approx([0.6**width, 0.6 ** (1 / width)], rel=1e-6)


def test_a_hand_worked_log_rank_test():
    toy = pd.DataFrame({"t": [1, 2, 3, 4], "e": [1, 1, 1, 0], "g": ["a", "b", "a", "b"]})
    found = survival(toy, "t", "e", by="g")
    # At 1: 2 of 4 are a; at 2: 1 of 3; at 3: 1 of 2.
    assert found.summary["expected"].tolist() == pytest.approx([1 / 2 + 1 / 3 + 1 / 2, 1 / 2 + 2 / 3 + 1 / 2])
    variance = 1 / 4 + 2 / 9 + 1 / 4
    assert found.logrank["statistic"] == pytest.approx((2 - 4 / 3) ** 2 / variance)


def test_medians_have_the_intervals_of_the_curve():
    summary = survival(remission(), "weeks", "relapse", by="arm").summary
    assert summary.loc["placebo", ["low", "median", "high"]].tolist() == [4, 8, 11]
    assert summary.loc["drug", ["low", "median"]].tolist() == [13, 23]
    assert np.isnan(summary.loc["drug", "high"]), "the upper limit never falls to a half"


@settings(max_examples=60, deadline=None)
@given(PEOPLE)
def test_the_curve_is_that_of_statsmodels_and_never_rises(people):
    table = frame_of(people)
    found = survival(table, "t", "e")
    curve, summary = found.curve, found.summary
    theirs = SurvfuncRight(table["t"], table["e"])
    assert curve.loc[theirs.surv_times, "survival"].to_numpy() == pytest.approx(theirs.surv_prob, abs=1e-12)
    assert (curve["survival"].diff().dropna() <= 1e-15).all()
    assert (curve["low"].dropna() <= curve["survival"][curve["low"].notna()]).all()
    assert (curve["high"].dropna() >= curve["survival"][curve["high"].notna()]).all()
    assert curve[["events", "censored"]].sum().sum() == summary["customers"].item() == len(table)


@settings(max_examples=60, deadline=None)
@given(PEOPLE)
def test_the_log_rank_test_is_that_of_statsmodels(people):
    table = frame_of(people)
    found = survival(table, "t", "e", by="g")
    assert found.summary["expected"].sum() == pytest.approx(table["e"].sum())
    if table["g"].nunique() > 1 and found.logrank["df"] == table["g"].nunique() - 1:
        statistic, p_value = survdiff(table["t"], table["e"], table["g"])
        assert found.logrank["statistic"] == pytest.approx(statistic, rel=1e-6, abs=1e-9)
        assert found.logrank["p_value"] == pytest.approx(p_value, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(PEOPLE, st.randoms(use_true_random=False))
def test_weights_are_repetition_and_order_and_engine_do_not_matter(people, random):
    table = frame_of(people)
    counted = table.groupby(["t", "e", "cause", "g"], as_index=False).size()
    shuffled = table.sample(frac=1, random_state=random.randint(0, 99))
    plain = survival(table, "t", "e", by="g")
    for again in (
        survival(counted, "t", "e", by="g", weights="size"),
        survival(shuffled, "t", "e", by=["g"]),
        survival(ibis.memtable(table), "t", "e", by="g"),
    ):
        pd.testing.assert_frame_equal(again.curve, plain.curve, check_dtype=False, check_index_type=False)
        pd.testing.assert_frame_equal(again.summary, plain.summary, check_dtype=False, check_index_type=False)
    if table["e"].any():
        incidence = cumulative_incidence(table, "t", "cause", 0)
        again = cumulative_incidence(counted, "t", "cause", 0, weights="size")
        pd.testing.assert_frame_equal(again, incidence, check_dtype=False)


def test_a_hand_worked_cumulative_incidence():
    toy = pd.DataFrame({"t": [1, 2, 3, 4, 5], "why": ["price", "moved", "stays", "price", "stays"]})
    table = cumulative_incidence(toy, "t", "why", censored="stays")
    # 1/5; then 4/5 1/4 for the other; then 3/5 1/2.
    assert table.loc["price", "incidence"].tolist() == pytest.approx([0, 1 / 5, 1 / 5, 1 / 5, 1 / 2, 1 / 2])
    assert table.loc["moved", "incidence"].tolist() == pytest.approx([0, 0, 1 / 5, 1 / 5, 1 / 5, 1 / 5])
    # The first event alone is a share of five: variance p (1 - p) / n.
    width = np.exp(1.959964 * np.sqrt(0.2 * 0.8 / 5) / (0.2 * -np.log(0.2)))
    assert table.loc[("price", 1), "low"] == pytest.approx(0.2**width, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(PEOPLE)
def test_who_left_in_any_way_and_who_stayed_are_everybody(people):
    table = frame_of(people)
    if not table["e"].any():
        with pytest.raises(DataError, match="Nobody left"):
            cumulative_incidence(table, "t", "cause", 0)
        return
    parts = cumulative_incidence(table, "t", "cause", 0)
    stayed = survival(table, "t", "e").curve["survival"]
    assert parts.groupby("time")["incidence"].sum().to_numpy() == pytest.approx((1 - stayed).to_numpy(), abs=1e-12)
    assert (parts.groupby("cause")["incidence"].diff().dropna() >= -1e-15).all()


def test_variances_of_incidence_are_those_of_statsmodels():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"t": rng.integers(1, 30, 300), "cause": rng.integers(0, 3, 300)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = CumIncidenceRight(table["t"], table["cause"])
    ours = cumulative_incidence(table, "t", "cause", 0).loc[1].loc[theirs.times[5:20]]
    width = np.log(np.log(ours["low"]) / np.log(ours["incidence"]))
    se = width * ours["incidence"] * -np.log(ours["incidence"]) / 1.959964
    assert se.to_numpy() == pytest.approx(theirs.cinc_se[0][5:20], rel=1e-5)


def test_counting_other_ways_as_censored_says_too_much():
    table = pd.DataFrame({"t": [1, 2, 3, 4], "cause": [1, 2, 1, 2]})
    naive = 1 - survival(table.assign(e=(table["cause"] == 1).astype(int)), "t", "e").curve["survival"]
    assert naive.iloc[-1] == pytest.approx(1 - 3 / 4 * 1 / 2)
    assert cumulative_incidence(table, "t", "cause", 0).loc[1, "incidence"].iloc[-1] == 0.5


def test_curves_are_read_at_any_time_and_not_beyond_the_last_customer():
    toy = pd.DataFrame({"t": [1, 2, 2, 3], "e": [1, 1, 0, 0], "g": ["a", "a", "b", "b"]})
    read = survival_at(survival(toy, "t", "e").curve, [0.5, 2, 2.5, 3.5, -1])
    assert read["survival"].tolist() == pytest.approx([1, 0.5, 0.5, np.nan, np.nan], nan_ok=True)
    assert read["at_risk"].tolist() == pytest.approx([4, 3, 1, np.nan, np.nan], nan_ok=True)
    by_group = survival_at(survival(toy, "t", "e", by="g").curve, [2])
    assert by_group["survival"].to_dict() == {("a", 2): 0.0, ("b", 2): 1.0}


def test_everyone_churned_no_one_churned_and_one_customer():
    gone = survival(pd.DataFrame({"t": [1, 1, 1], "e": 1}), "t", "e")
    assert gone.curve.loc[1, ["survival", "low"]].tolist() == [0.0, 0.0]
    assert gone.summary["median"].item() == 1
    stayed = survival(pd.DataFrame({"t": [1, 2, 3], "e": False}), "t", "e")
    assert stayed.curve["survival"].eq(1).all()
    assert stayed.summary["median"].isna().all()
    one = survival(pd.DataFrame({"t": [0], "e": [True]}), "t", "e")
    assert one.curve["survival"].tolist() == [0.0]
    groups = survival(pd.DataFrame({"t": [1, 2], "e": 0, "g": ["a", "b"]}), "t", "e", by="g")
    assert groups.logrank.isna().tolist() == [True, False, True], "without events there is nothing to test"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"t": [1], "e": ["Yes"]}, "'e' must be 1 for customers who left and 0 for the others, not 'Yes'"),
        ({"t": [1, None], "e": [1, 0]}, r"missing in t \(1 customers\)"),
        ({"t": [-1], "e": [1]}, "'t' must lie between 0 and infinity; it begins with -1"),
        ({"t": ["a"], "e": [1]}, "'t' must be a number of days, weeks, months"),
        ({"t": [], "e": []}, "no rows"),
        ({"time": [1], "e": [1]}, "no column t. It has: time, e"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_words(table, words):
    with pytest.raises(DataError, match=words):
        survival(pd.DataFrame(table), "t", "e")


def test_negative_weights_are_refused():
    with pytest.raises(DataError, match="'w' must not be negative"):
        survival(pd.DataFrame({"t": [1], "e": [1], "w": [-1]}), "t", "e", weights="w")


def test_policies_of_an_insurer_end_in_three_ways():
    if not data.present("us_life_lapse"):
        pytest.skip("us_life_lapse is not on this machine; `crmlab data get us_life_lapse` says how to fetch it")
    policies = data.open_dataset("us_life_lapse").to_pandas()
    table = cumulative_incidence(policies, "duration", "cause", "in-force")
    assert table.groupby("cause")["events"].sum().to_dict() == {"death": 1284, "other": 2482, "surrender": 11098}
    naive = policies.assign(left=(policies["cause"] == "surrender").astype(int))
    kept = survival(naive, "duration", "left").curve["survival"]
    assert 1 - kept.iloc[-1] > table.loc["surrender", "incidence"].iloc[-1] + 0.05
