import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from crmlab.data import DataError
from crmlab.loyalty import penalty_reward
from crmlab.loyalty.asymmetry import _kind
from tests.surveys import acsi, survey

ITEMS = ["q1", "q2", "q3"]


def made(n=4000, seed=1):
    """Five features whose kind is known."""
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.integers(1, 11, size=(n, 5)), columns=["basic", "delight", "even", "none", "turned"])
    low, high = (x <= 4).astype(float), (x >= 8).astype(float)
    y = -2 * low["basic"] + 2 * high["delight"] - low["even"] + high["even"] + low["turned"] + rng.normal(size=n)
    return x.assign(y=y)


def test_penalties_and_rewards_are_those_of_a_regression_on_dummies():
    table = survey()
    found = penalty_reward(table, "loyal", ITEMS, low=5, high=8, n_boot=0)
    dummies = {
        f"{q}{side}": f(table[q]) for q in ITEMS for side, f in (("-", lambda s: s <= 5), ("+", lambda s: s >= 8))
    }
    ols = sm.OLS(table["loyal"], sm.add_constant(pd.DataFrame(dummies).astype(float))).fit()
    assert found.table["penalty"].tolist() == pytest.approx([ols.params[f"{q}-"] for q in ITEMS])
    assert found.table["reward"].tolist() == pytest.approx([ols.params[f"{q}+"] for q in ITEMS])
    assert found.fit["r2"] == pytest.approx(ols.rsquared)
    assert (found.table["kind"] == "no effect shown").all()  # without replicates there is no interval to support more


def test_kinds_are_found_where_they_are_known():
    found = penalty_reward(made(seed=3), "y", ["basic", "delight", "even", "none", "turned"], low=4, high=8, n_boot=500)
    expected = {"basic": "basic", "delight": "excitement", "even": "performance", "none": "no effect shown"}
    assert found.table["kind"].to_dict() == expected | {"turned": "reversed"}
    assert found.table.loc["basic", "asymmetry_high"] < -0.7
    assert found.fit["replicates"] == 500


def test_in_a_small_sample_the_same_features_are_undecided_rather_than_even():
    found = penalty_reward(made(250, 3), "y", ["basic", "delight", "even"], low=4, high=8, n_boot=500)
    assert found.table.loc["even", "kind"] == "undecided"
    assert found.table.loc["even", "asymmetry_low"] < -0.2
    assert found.table.loc["even", "asymmetry_high"] > 0


def test_the_bootstrap_interval_is_about_as_wide_as_the_robust_one():
    table = survey()
    found = penalty_reward(table, "loyal", ["q1"], low=5, high=8, n_boot=2000).table.loc["q1"]
    X = sm.add_constant(pd.DataFrame({"low": table["q1"] <= 5, "high": table["q1"] >= 8}).astype(float))
    low, high = sm.OLS(table["loyal"], X).fit(cov_type="HC3").conf_int().loc["low"]
    assert found["penalty_high"] - found["penalty_low"] == pytest.approx(high - low, rel=0.1)


@pytest.mark.parametrize(
    ("penalty", "reward", "asymmetry", "kind"),
    [
        ((-2, -1), (0, 1), (-0.9, -0.1), "basic"),
        ((-2, -1), (1, 2), (-0.1, 0.1), "performance"),
        ((-2, -1), (1, 2), (-0.4, 0.1), "undecided"),
        ((-0.5, 0.5), (1, 2), (0.3, 1.0), "excitement"),
        ((-0.5, 0.5), (-0.5, 0.5), (-0.1, 0.1), "no effect shown"),
        ((0.5, 1), (1, 2), (1, 1), "reversed"),
        ((-2, -1), (-2, -1), (-1, -1), "reversed"),
        ((np.nan, np.nan), (np.nan, np.nan), (np.nan, np.nan), "no effect shown"),
    ],
)
def test_a_kind_needs_an_interval_that_supports_it(penalty, reward, asymmetry, kind):
    names = ("penalty", "reward", "asymmetry")
    row = {f"{name}_{end}": v for name, ends in zip(names, (penalty, reward, asymmetry), strict=True)
           for end, v in zip(("low", "high"), ends, strict=True)}  # fmt: skip
    assert _kind(row) == kind


def test_acsi_quality_is_basic_at_every_cut_and_reliability_depends_on_it():
    table = acsi()
    items = ["OVERALLQ", "CUSTOMQ", "WRONGQ", "PQ", "OVERALLX"]
    table = table.assign(**{c: table[c].where(table[c] < 11) for c in items})
    kinds = {
        cut: penalty_reward(table, "SATIS", items, *cut, n_boot=300).table["kind"] for cut in ((5, 9), (6, 9), (7, 10))
    }
    assert all(kind[["OVERALLQ", "CUSTOMQ", "PQ"]].eq("basic").all() for kind in kinds.values())
    assert len({kind["WRONGQ"] for kind in kinds.values()}) == 3


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: d, {"low": 0}, "Only 0 of the 400 customers answered 0 or less on 'q1'"),
        (lambda d: d, {"high": 11}, "Only 0 of the 400 customers answered 11 or more on 'q1'"),
        (lambda d: d, {"low": 7, "high": 8}, "are in between on 'q1'"),
        (lambda d: d, {"low": 8, "high": 5}, "low answers of 'q1'"),
        (lambda d: d, {"low": {"q1": 5}}, "low has no cut-off for the feature 'q2'"),
        (lambda d: d.assign(q2=d["q1"]), {}, "'q1' and 'q2' repeat one another"),
        (lambda d: d.assign(q2=d["q1"] + 0.01 * d["q3"]), {"low": 5.5, "high": 7.5}, "cannot be told apart"),
        (lambda d: d.assign(q2=1), {}, "'q2' has the same answer"),
        (lambda d: d.drop(columns="q3"), {}, "no column 'q3'"),
        (lambda d: d.iloc[:7], {}, "7 customers answered 'loyal' and all 3 features"),
        (lambda d: d, {"features": []}, "Name the features"),
    ],
)
def test_a_hostile_survey_is_answered_by_the_name_of_the_item(change, options, message):
    options = {"features": ITEMS, "low": 5, "high": 8, "n_boot": 0, **options}
    with pytest.raises(DataError, match=message):
        penalty_reward(change(survey()), "loyal", **options)
