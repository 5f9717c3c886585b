"""Experiments: sample size, control groups, effects, groups, balance, and looks while they run."""

import subprocess
import sys
from decimal import Decimal

import duckdb
import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import tt_ind_solve_power
from statsmodels.stats.proportion import power_proportions_2indep

from crmlab import data, market
from crmlab.data import DataError
from crmlab.market.experiments import holm


def trial(n=3_000, seed=0, lift=(0.0, 0.3), skew=False):
    """A simulated experiment with the arms none, a, b; x is known before and matters."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(["none", "a", "b"], n)
    x, kind = rng.normal(size=n), rng.choice(["old", "new"], n)
    noise = rng.exponential(size=n) ** 2 if skew else rng.normal(size=n)
    y = 1 + 2 * x + noise + lift[0] * (arm == "a") + lift[1] * (arm == "b")
    return pd.DataFrame({"arm": arm, "x": x, "kind": kind, "y": y})


# Sample size


def test_the_size_for_shares_gives_the_power_that_statsmodels_computes():
    n = int(market.sample_size(0.02, rate=0.1, power=0.9)["customers"])
    peer = power_proportions_2indep(0.02, 0.1, n / 2, alternative="two-sided", return_results=False)
    assert peer == pytest.approx(0.9, abs=0.002)


def test_the_size_for_means_is_that_of_the_t_test():
    ours = market.sample_size(0.5, sd=10.0, control_share=0.2)
    peer = tt_ind_solve_power(0.05, alpha=0.05, power=0.8, ratio=0.25)
    assert ours["treated"] == pytest.approx(peer, rel=0.001)
    assert ours["control"] / ours["customers"] == pytest.approx(0.2, abs=1e-4)


def test_the_promised_power_is_what_experiments_have():
    size = market.sample_size(0.05, rate=0.2, power=0.8)
    rng = np.random.default_rng(1)
    treated, control = rng.binomial(int(size["treated"]), 0.25, 4000), rng.binomial(int(size["control"]), 0.2, 4000)
    p1, p0 = treated / size["treated"], control / size["control"]
    se = np.sqrt(p1 * (1 - p1) / size["treated"] + p0 * (1 - p0) / size["control"])
    low, high = data.wilson(int((np.abs(p1 - p0) / se > 1.96).sum()), 4000)[1:]
    assert low <= 0.815
    assert high >= 0.785


@given(st.floats(0.01, 0.5), st.floats(0.005, 0.2), st.floats(0.1, 0.9), st.floats(0.5, 0.99))
@settings(max_examples=60, deadline=None)
def test_size_effect_and_power_are_one_equation(rate, change, share, power):
    size = market.sample_size(change, rate=rate, control_share=share, power=power)
    n = size["customers"]
    found = market.sample_size(n=n, rate=rate, control_share=share, power=power)["effect"]
    # Customers come whole, so a little less can be detected than was asked for.
    assert found <= change * (1 + 1e-9)
    assert found == pytest.approx(change, rel=3 / n**0.5 + 0.05)
    assert market.sample_size(change, rate=rate, n=n, control_share=share)["power"] >= power - 1e-9


def test_more_arms_need_more_customers():
    alone, three = (market.sample_size(0.02, rate=0.1, comparisons=k)["customers"] for k in (1, 3))
    assert three > 1.2 * alone


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"effect": 0.1}, "one of rate"),
        ({"effect": 0.1, "rate": 0.1, "sd": 1}, "one of rate"),
        ({"rate": 0.1}, "Give the effect"),
        ({"effect": 0.0, "rate": 0.1}, "other than 0"),
        ({"effect": 0.95, "rate": 0.1}, "cannot change"),
        ({"effect": 0.1, "rate": 1.0}, "between 0 and 1"),
        ({"effect": 0.1, "sd": 0.0}, "positive"),
        ({"effect": 0.1, "sd": 1.0, "power": 1}, "power must lie"),
        ({"effect": 0.1, "sd": 1.0, "comparisons": 0}, "comparisons"),
        ({"n": 4, "rate": 0.9}, "detect no increase"),
        ({"n": 0, "rate": 0.9}, "at least 4"),
    ],
)
def test_a_size_that_cannot_be_computed_says_why(arguments, words):
    with pytest.raises(DataError, match=words):
        market.sample_size(**arguments)


# Control groups


def test_the_control_group_does_not_change_when_customers_are_added_or_sorted():
    ids = [f"c{i}" for i in range(5_000)]
    before = dict(zip(ids, market.assign_control(ids, 0.2, "spring"), strict=True))
    more = [f"new{i}" for i in range(3_000)] + ids[::-1]
    after = dict(zip(more, market.assign_control(more, 0.2, "spring"), strict=True))
    assert {name: after[name] for name in ids} == before


def test_the_control_group_has_its_share_and_two_experiments_have_nothing_to_do_with_each_other():
    ids = range(40_000)
    a, b = market.assign_control(ids, 0.3, "spring"), market.assign_control(ids, 0.3, "summer")
    assert a.mean() == pytest.approx(0.3, abs=0.01)
    assert (a & b).mean() == pytest.approx(0.09, abs=0.006)


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_a_larger_share_keeps_the_customers_of_the_smaller_one(one, other):
    small, large = (market.assign_control(range(300), share, "s") for share in sorted((one, other)))
    assert (small <= large).all()


def test_everybody_and_nobody_are_shares_too():
    assert not market.assign_control(range(100), 0.0, "s").any()
    assert market.assign_control(range(100), 1.0, "s").all()
    assert market.assign_control([], 0.5, "s").empty


def test_one_customer_has_one_answer_however_the_number_is_written():
    same = [7, 7.0, "7", np.int8(7), np.float32(7), Decimal("7"), np.uint64(7)]
    assert market.assign_control(same, 0.5, "x").nunique() == 1
    ids = pd.Series([1.0, 2.0, 3.0], index=list("abc"))
    assert market.assign_control(ids, 0.5, "x").index.tolist() == list("abc")


def test_an_engine_computes_the_same_control_group():
    ids = ["7", "007", "王", "=1+1", "O'Neill", "a b"] + [str(i) for i in range(200)]
    frame = pd.DataFrame({"id": ids})
    query = "SELECT ('0x' || left(sha256('spring:' || id), 16))::UBIGINT < 0.3 * 2::HUGEINT ** 64 AS c FROM frame"
    engine = duckdb.sql(query).df()["c"]
    assert engine.tolist() == market.assign_control(ids, 0.3, "spring").tolist()
    column = ibis.memtable(frame).id
    assert sorted(market.assign_control(column, 0.3, "spring")) == sorted(engine)


def test_another_process_computes_the_same_control_group():
    code = "from crmlab import market; print(market.assign_control(range(50), .5, 'x').astype(int).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str(market.assign_control(range(50), 0.5, "x").astype(int).tolist())


@pytest.mark.parametrize("bad", [None, float("nan"), pd.NA, "", "  ", True, 7.5, float("inf"), 2.0**60])
def test_an_id_that_names_nobody_is_refused_with_its_row(bad):
    with pytest.raises(DataError, match=r"1 of 3 ids name no customer, in row 2"):
        market.assign_control(["a", bad, "b"], 0.5, "x")


@pytest.mark.parametrize(("share", "salt"), [(1.1, "s"), (-0.1, "s"), (float("nan"), "s"), (0.5, ""), (0.5, None)])
def test_a_share_or_salt_that_is_none_is_refused(share, salt):
    with pytest.raises(DataError, match=r"share is|salt must"):
        market.assign_control(["a"], share, salt)


# Effects


def test_the_effect_is_the_difference_in_means_with_hc2_errors_of_statsmodels():
    table = trial(400)
    found = market.effect(table, "y", "arm", control="none").differences
    x = pd.get_dummies(table["arm"])[["none", "a", "b"]].assign(none=1.0).astype(float)
    peer = OLS(table["y"], x).fit(cov_type="HC2")
    np.testing.assert_allclose(found["difference"], peer.params[["a", "b"]], rtol=1e-10)
    np.testing.assert_allclose(found["se"], peer.bse[["a", "b"]], rtol=1e-10)


def test_the_adjusted_effect_is_the_interacted_regression_of_statsmodels():
    table = trial(300)
    table["kind2"] = (table["kind"] == "old").astype(float)
    found = market.effect(table, "y", "arm", "none", ["x", "kind"])
    assert found.covariates == ["x", "kind: old"]
    d = [(table["arm"] == a).astype(float) for a in ("a", "b")]
    z = [table[c] - table[c].mean() for c in ("x", "kind2")]
    columns = {"const": 1.0, "a": d[0], "b": d[1]}
    columns |= {f"z{i}": c for i, c in enumerate(z)}
    columns |= {f"z{i}d{j}": c * e for i, c in enumerate(z) for j, e in enumerate(d)}
    peer = OLS(table["y"], pd.DataFrame(columns, index=table.index)).fit(cov_type="HC2")
    np.testing.assert_allclose(found.differences["difference"], peer.params[["a", "b"]], rtol=1e-9)
    np.testing.assert_allclose(found.differences["se"], peer.bse[["a", "b"]], rtol=1e-9)


def test_adjustment_makes_the_interval_shorter_and_keeps_the_effect():
    raw, adjusted = (market.effect(trial(), "y", "arm", "none", c).differences.loc["b"] for c in ((), ["x"]))
    assert adjusted["se"] < 0.6 * raw["se"]
    assert adjusted["low"] < 0.3 < adjusted["high"]


def test_intervals_cover_as_often_as_they_say_also_for_skewed_spend():
    hits = relative = 0
    for seed in range(300):
        found = market.effect(trial(400, seed, (0.0, 0.5), skew=True), "y", "arm", "none", ["x"]).differences.loc["b"]
        hits += found["low"] <= 0.5 <= found["high"]
        truth = 0.5 / 3  # of a control mean of 1 + 2: the square of an exponential number is 2 on average
        relative += found["relative_low"] <= truth <= found["relative_high"]
    assert data.wilson(hits, 300)[2] >= 0.95 - 0.01
    assert data.wilson(relative, 300)[2] >= 0.95 - 0.01


def test_all_arms_are_covered_at_once_by_the_joint_intervals():
    found = market.effect(trial(), "y", "arm", "none").differences
    assert (found["low_all"] < found["low"]).all()
    assert (found["high_all"] > found["high"]).all()
    assert (found["p_holm"] >= found["p_value"]).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_holm_is_statsmodels_holm(p):
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)


@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
@settings(max_examples=40, deadline=None)
def test_another_unit_of_the_outcome_changes_the_effect_and_nothing_else(scale, shift):
    table = trial(150)
    one = market.effect(table, "y", "arm", "none", ["x"]).differences
    other = market.effect(table.assign(y=table["y"] * scale + shift), "y", "arm", "none", ["x"]).differences
    np.testing.assert_allclose(other["difference"], one["difference"] * scale, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other["p_value"], one["p_value"], rtol=1e-5)


def test_a_relative_lift_over_a_mean_that_may_be_zero_is_unbounded():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"arm": ["none", "mail"] * 50, "y": rng.normal(0.01, 1, 100)})
    found = market.effect(table, "y", "arm", "none").differences.iloc[0]
    assert found["relative_low"] == -np.inf
    assert found["relative_high"] == np.inf


def test_an_arm_without_conversions_has_an_interval_all_the_same():
    table = pd.DataFrame({"arm": ["none"] * 100 + ["mail"] * 100, "bought": [False] * 100 + [True] * 6 + [False] * 94})
    found = market.effect(table, "bought", "arm", "none").differences.iloc[0]
    # Newcombe's interval of 6/100 - 0/100 from the Wilson intervals of the two shares.
    (_, l1, u1), (_, _l0, u0) = data.wilson(6, 100), data.wilson(0, 100)
    assert found["low"] == pytest.approx(0.06 - np.hypot(0.06 - l1, u0))
    assert found["high"] == pytest.approx(0.06 + (u1 - 0.06))
    assert found["p_value"] == pytest.approx(0.0289, abs=1e-4)
    assert np.isnan(found["relative"])


HOSTILE = [
    ({"arm": ["mail"] * 4, "y": [1, 2, 3, 4]}, "Nobody is in the control group 'none'"),
    ({"arm": ["none"] * 4, "y": [1, 2, 3, 4]}, "nobody to compare with"),
    ({"arm": ["none", "none", "mail", "mail"], "y": [0, 0, 0, 0]}, "is 0 for all 4 customers"),
    ({"arm": ["none", "none", "mail", "mail"], "y": [5.0] * 4}, "is 5 for all 4 customers"),
    ({"arm": ["none"], "y": [1]}, "is 1 for all 1 customers|nobody to compare"),
    ({"arm": ["none", "none", "none", "mail"], "y": [1, 2, 3, 4]}, "'mail' has one customer only"),
    ({"arm": ["none", "mail"] * 2, "y": [1, None, 3, float("nan")]}, "no value in 2 of 4 rows: row 2, 4"),
    ({"arm": ["none", None] * 2, "y": [1, 2, 3, 4]}, "'arm' has no value in 2 of 4 rows: row 2, 4"),
    ({"arm": ["none", "mail"] * 2, "y": [1, 2, float("inf"), 4]}, "infinite in row 3"),
    ({"arm": ["none", "mail"] * 2, "y": ["Y", "N", "Y", "N"]}, r"must have numbers.*not 'Y' \(row 1, 2, 3, 4\)"),
    ({"arm": [f"a{i}" for i in range(40)] + ["none"] * 2, "y": range(42)}, "is it the arm"),
    ({"arm": [], "y": []}, "no rows"),
    ({"segment": ["none"], "y": [1]}, "no column arm"),
]


@pytest.mark.parametrize(("columns", "words"), HOSTILE)
def test_data_that_are_no_experiment_are_refused_in_words(columns, words):
    with pytest.raises(DataError, match=words):
        market.effect(pd.DataFrame(columns), "y", "arm", "none")


def test_more_covariates_than_customers_are_refused_and_useless_ones_left_out():
    table = trial(40)
    with pytest.raises(DataError, match="customers for 13 columns"):
        market.effect(table.iloc[:30].assign(**{f"c{i}": range(30) for i in range(13)}), "y", "arm", "none",
                      [f"c{i}" for i in range(13)])  # fmt: skip
    found = market.effect(table.assign(one=1, again=table["x"]), "y", "arm", "none", ["x", "one", "again"])
    assert found.covariates == ["x"]


def test_an_ibis_table_and_a_frame_have_the_same_effect():
    table = trial(200)
    a, b = (market.effect(t, "y", "arm", "none", ["x", "kind"]).differences for t in (table, ibis.memtable(table)))
    pd.testing.assert_frame_equal(a, b)


# Groups, balance, ratio


def test_a_difference_between_groups_is_found_by_the_test_and_none_is_not():
    table = trial(6_000, lift=(0.0, 0.0))
    table.loc[(table["kind"] == "new") & (table["arm"] == "b"), "y"] += 1.0
    table["coin"] = np.random.default_rng(5).integers(0, 2, len(table))
    found = market.effect_by(table, "y", "arm", "none", ["kind", "coin"])
    assert found.tests.loc[("kind", "b"), "p_holm"] < 0.001
    assert found.tests.loc[("coin", "b"), "p_holm"] > 0.05
    assert len(found.effects) == 8
    assert (found.effects["p_holm"] >= found.effects["p_value"]).all()
    groups = found.effects.xs("b", level="arm").loc["kind"]
    assert groups.loc["new", "low"] > 0.5


def test_groups_that_do_not_differ_raise_few_alarms():
    alarms = 0
    for seed in range(200):
        table = trial(300, seed, (0.0, 0.2))
        table["g"] = np.random.default_rng(seed).integers(0, 4, len(table))
        alarms += market.effect_by(table, "y", "arm", "none", ["g", "kind"]).tests["p_holm"].min() < 0.05
    assert data.wilson(alarms, 200)[1] <= 0.05


def test_tiny_groups_stay_in_the_table_without_an_estimate():
    table = pd.concat([trial(200), pd.DataFrame({"arm": ["a"], "x": [0.0], "kind": ["rare"], "y": [1.0]})])
    found = market.effect_by(table, "y", "arm", "none", "kind").effects
    assert found.loc[("kind", "rare", "a"), "customers"] == 1
    assert np.isnan(found.loc[("kind", "rare", "a"), "difference"])
    assert found["customers"].loc["kind"].groupby("arm").sum().to_dict() == {
        arm: int((table["arm"].isin([arm, "none"])).sum()) for arm in ("a", "b")
    }


def test_groups_nobody_declared_are_refused():
    with pytest.raises(DataError, match="at most 20 groups"):
        market.effect_by(trial(100), "y", "arm", "none", ["x"])
    with pytest.raises(DataError, match="Name the groups"):
        market.effect_by(trial(100), "y", "arm", "none", [])


def test_balance_passes_a_random_draw_and_fails_a_chosen_one():
    table = trial(2_000)
    fair = market.balance(table, "arm", "none", ["x", "kind"])
    assert fair["p_value"].min() > 0.01
    assert (fair["low"] < fair["high"]).all()
    table.loc[table["x"] > 1, "arm"] = "b"
    assert market.balance(table, "arm", "none", ["x", "kind"]).loc["b", "p_value"].iloc[0] < 1e-6


def test_lost_customers_show_in_the_ratio_of_the_arms():
    table = pd.DataFrame({"arm": ["mail"] * 5_000 + ["none"] * 4_600})
    found = market.sample_ratio(table, "arm", {"mail": 0.5, "none": 0.5, "letter": 1e-9})
    assert found["p_value"].iloc[0] < 0.001
    assert found.loc["letter", "customers"] == 0
    assert market.sample_ratio(table, "arm", {"mail": 5_000 / 9_600, "none": 4_600 / 9_600})["p_value"].iloc[0] == 1
    with pytest.raises(DataError, match="add up to 1"):
        market.sample_ratio(table, "arm", {"mail": 0.5, "none": 0.4})
    with pytest.raises(DataError, match="planned share of each"):
        market.sample_ratio(table, "arm", {"mail": 1.0})


def test_an_experiment_read_from_a_file_is_the_one_that_was_written(tmp_path):
    table = pd.DataFrame({"customer_id": ["007", "8", "9"], "arm": [0, 1, 1], "spend": [0.0, 2.5, 1.0]})
    table["town"] = ["Bonn", "7", "NA"]
    table.to_csv(tmp_path / "test.csv", index=False)
    table.to_parquet(tmp_path / "test.parquet")
    for source in (table, tmp_path / "test.csv", str(tmp_path / "test.parquet")):
        found = market.read_experiment(source, "arm")
        assert found["arm"].tolist() == ["0", "1", "1"]
        assert found["spend"].tolist() == [0.0, 2.5, 1.0]
        assert found["customer_id"].tolist() == ["007", "8", "9"]
        assert found["town"].iloc[0] == "Bonn"
    with pytest.raises(DataError, match=r"no column 'group'.*customer_id, arm"):
        market.read_experiment(tmp_path / "test.csv", "group")


def test_arms_without_a_value_stay_so_and_are_refused_with_their_rows():
    found = market.read_experiment(pd.DataFrame({"arm": [True, None, False], "y": [1, 2, 3]}), "arm")
    assert found["arm"].isna().tolist() == [False, True, False]
    with pytest.raises(DataError, match="row 2"):
        market.effect(found, "y", "arm", "False")


# Looks while it runs


@pytest.mark.parametrize("outcome", ["rare", "skewed", "half"])
def test_daily_looks_break_the_level_and_the_sequential_interval_keeps_it(outcome):
    rng = np.random.default_rng(3)
    y = {
        "rare": (rng.random(40_000) < 0.01).astype(float),
        "skewed": np.exp(1.5 * rng.normal(size=20_000)),
        "half": rng.integers(0, 2, 8_000).astype(float),
    }[outcome]
    found = market.false_alarms(y, looks=30, runs=600)
    assert found.loc["sequential", "high"] <= 0.05
    assert found.loc["daily looks", "low"] > 0.08
    assert found.loc["one look", "low"] <= 0.05


def test_the_sequential_interval_covers_the_true_effect_on_all_days_at_once():
    rng, misses = np.random.default_rng(4), 0
    for _run in range(300):
        table = pd.DataFrame({"day": np.repeat(range(20), 60), "arm": rng.integers(0, 2, 1200)})
        table["y"] = rng.normal(size=1200) + 0.2 * table["arm"]
        found = market.sequential(table, "y", "arm", 0, "day", planned=1200).dropna()
        misses += ((found["low"] > 0.2) | (found["high"] < 0.2)).any()
    assert data.wilson(misses, 300)[1] <= 0.05


def test_the_last_day_has_the_difference_of_the_whole_experiment():
    table = trial(2_000).assign(day=np.arange(2_000) // 100)
    found = market.sequential(table, "y", "arm", "none", "day", planned=1_300)
    whole = market.effect(table, "y", "arm", "none").differences
    for arm in ("a", "b"):
        last = found.loc[arm].iloc[-1]
        assert last["difference"] == pytest.approx(whole.loc[arm, "difference"])
        assert last["low"] < last["fixed_low"] < last["fixed_high"] < last["high"]
        # Two arms, so a single look is at 97.5 %, where it is the joint interval up to Student's t.
        assert last["fixed_low"] == pytest.approx(whole.loc[arm, "low_all"], abs=0.002)


def test_no_interval_is_given_before_there_are_enough_customers_and_stops_last():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"day": np.repeat(range(10), 50), "arm": np.tile([0, 1], 250)})
    table["bought"] = rng.random(500) < np.where(table["arm"] == 1, 0.6, 0.1)
    found = market.sequential(table, "bought", "arm", 0, "day", planned=500).loc[1]
    assert found["low"].isna().tolist()[:3] == [True] * 3
    assert found["stop"].iloc[-1]
    assert found["stop"].is_monotonic_increasing


def test_looks_at_what_is_no_experiment_are_refused():
    table = trial(100).assign(day=1)
    with pytest.raises(DataError, match="planned is the number"):
        market.sequential(table, "y", "arm", "none", "day", planned=0)
    with pytest.raises(DataError, match="no value in 1 of"):
        market.sequential(table.assign(day=[None] + [1] * 99), "y", "arm", "none", "day", planned=100)
    with pytest.raises(DataError, match="one kind of them"):
        market.sequential(table.assign(day=["a"] + [1] * 99), "y", "arm", "none", "day", planned=100)
    with pytest.raises(DataError, match="not all the same"):
        market.false_alarms([0.0] * 1000)
    with pytest.raises(DataError, match="too few"):
        market.false_alarms([0.0, 1.0] * 10, looks=14)
