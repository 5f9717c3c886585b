import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from statsmodels.duration.hazard_regression import PHReg

from crmlab.data import DataError
from crmlab.lifecycle import cox, cox_by_time, remission
from tests.test_lifecycle_durations import telco

TOY = pd.DataFrame({"t": [1, 2, 3, 4], "e": [1, 1, 0, 1], "x": [1, 0, 1, 0]})


def test_a_hand_worked_partial_likelihood():
    # With r = exp(b): r / (2 + 2r) at 1, 1 / (2 + r) at 2, 1 / 1 at 4; its logarithm is greatest at r = sqrt(2).
    found = cox(TOY, "~ x", "t", "e")
    assert found.table.loc["x", "hazard_ratio"] == pytest.approx(np.sqrt(2))
    r = np.sqrt(2)
    assert found.likelihood["llf"] == pytest.approx(np.log(r / (2 + 2 * r) / (2 + r)))
    assert found.likelihood["llf_null"] == pytest.approx(np.log(1 / 4 / 3))
    # Pairs: 1 before 2, 3, 4 (x 1 against 0, 1, 0: right, tie, right); 2 before 3, 4 (wrong, tie).
    assert found.concordance["concordance"] == pytest.approx((1 + 0.5 + 1 + 0 + 0.5) / 5)


def test_ties_are_counted_as_efron_says():
    tied = pd.DataFrame({"t": [1, 1, 2, 2], "e": [1, 1, 1, 0], "x": [1, 0, 1, 0]})

    def minus_llf(b):
        r = np.exp(b)
        return -(np.log(r) - np.log(2 + 2 * r) - np.log(2 + 2 * r - (1 + r) / 2) + np.log(r) - np.log(1 + r))

    found = cox(tied, "~ x", "t", "e")
    best = minimize_scalar(minus_llf, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    assert found.table.loc["x", "coef"] == pytest.approx(best.x, abs=1e-6)
    assert found.likelihood["llf"] == pytest.approx(-best.fun)


def test_terms_may_be_in_any_unit_and_customers_in_any_order():
    table = remission().assign(x=lambda d: (d["arm"] == "drug") * 1e6, z=lambda d: np.sin(np.arange(len(d))) * 1e-3)
    found = cox(table, "~ x + z", "weeks", "relapse")
    same = cox(table.assign(x=table["x"] / 1e6, z=table["z"] * 1e3)[::-1], "~ x + z", "weeks", "relapse")
    assert found.table["z"].to_numpy() == pytest.approx(same.table["z"].to_numpy(), rel=1e-6)
    assert found.concordance.to_numpy() == pytest.approx(same.concordance.to_numpy())
    assert found.proportionality["statistic"].to_numpy() == pytest.approx(same.proportionality["statistic"].to_numpy())


def test_each_stratum_has_a_hazard_of_its_own():
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"g": np.repeat(["a", "b"], 300), "x": rng.normal(size=600)})
    # Both groups share the effect of x; the hazard of b is a hundred times that of a.
    rate = np.exp(0.7 * table["x"]) * np.where(table["g"] == "b", 100, 1)
    table["t"], table["e"] = rng.exponential(1 / rate), 1
    coef = cox(table, "~ x", "t", "e", strata="g").table.loc["x"]
    assert abs(coef["coef"] - 0.7) < 3 * coef["se"]
    parts = [cox(table[table["g"] == g], "~ x", "t", "e").likelihood["llf_null"] for g in "ab"]
    assert cox(table, "~ x", "t", "e", strata="g").likelihood["llf_null"] == pytest.approx(sum(parts))


def test_an_effect_that_fades_is_found_not_proportional():
    rng = np.random.default_rng(7)
    x = np.repeat([0, 1], 400)
    steady = rng.exponential(1 / np.exp(0.8 * x))
    # Crossing hazards: the one constant, the other rising.
    fading = np.where(x == 1, rng.exponential(1, 800), rng.weibull(3, 800))
    for t, rejected in ((steady, False), (fading, True)):
        found = cox(pd.DataFrame({"t": t, "e": 1, "x": x}), "~ x", "t", "e").proportionality
        assert (found.loc["x", "p_value"] < 0.001) == rejected
        assert found.loc["x", "statistic"] == pytest.approx(found.loc["GLOBAL", "statistic"]), "one term is all terms"


def test_contracts_of_telco_are_not_proportional():
    found = cox(telco(), "~ Contract + PaperlessBilling", "tenure", "left")
    assert found.likelihood["customers"] == 7043
    assert found.likelihood["events"] == 1869
    assert found.table.loc["Contract[T.Two year]", "high"] < 0.1
    assert found.proportionality.loc["GLOBAL", "p_value"] < 1e-6
    assert found.concordance["low"] > 0.75


@pytest.mark.parametrize(
    ("change", "formula", "words"),
    [
        ({}, "~ x + nothing", "no column nothing"),
        ({}, "~ x +", "cannot be read"),
        ({}, "~ log(x, 3, 4)", "cannot be applied"),
        ({}, "~ 1", "has no term"),
        ({"y": [2, 0, 2, 0]}, "~ x + y", "repeat one another"),
        ({"x": 1}, "~ x", "do not vary"),
        ({"x": [1, None, 1, 0]}, "~ x", r"missing in x \(1\)"),
        ({"e": 0}, "~ x", "Nobody left"),
        ({"e": [1, 2, 0, 1]}, "~ x", "not 2"),
        ({"x": [1, 1, 0, 0], "e": [1, 1, 0, 0]}, "~ x", "'x' has no finite estimate"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(change, formula, words):
    with pytest.raises(DataError, match=words):
        cox(TOY.assign(**change), formula, "t", "e")


def test_events_at_one_time_say_nothing_about_proportionality():
    found = cox(pd.DataFrame({"t": [1, 1, 2, 2], "e": [1, 1, 0, 0], "x": [0, 1, 0, 2]}), "~ x", "t", "e")
    assert found.proportionality["p_value"].isna().all()
    assert np.isfinite(found.table["coef"].item())


def test_skewed_columns_do_not_make_the_search_overshoot():
    rng = np.random.default_rng(0)
    # A rare trait with a strong effect, at few different times: full Newton steps from zero run away.
    rare = (rng.random(3000) < 0.08).astype(int)
    t = np.ceil(40 - 4 * rng.exponential(1, 3000)).clip(1)
    left = rng.random(3000) < np.where(rare, 0.83, 0.1)
    table = pd.DataFrame({"t": t, "e": left.astype(int), "rare": rare})
    found = cox(table, "~ rare", "t", "e")
    model = PHReg(table["t"], table[["rare"]], status=table["e"], ties="efron")
    assert abs(model.score(found.table["coef"].to_numpy())).max() < 1e-6
    assert found.table["hazard_ratio"].item() > 5


def test_effects_that_change_are_followed_through_time():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, 6000)
    # The ratio is 4 until time 1 and 1 after it.
    early = rng.exponential(1 / np.where(x == 1, 0.8, 0.2))
    t = np.where(early < 1, early, 1 + rng.exponential(2, 6000))
    table = pd.DataFrame({"t": t, "e": 1, "x": x})
    found = cox_by_time(table, "~ x", "t", "e", [0, 1, 20]).xs("x", level="term")
    assert found.index.tolist() == [(0, 1), (1, 20)]
    assert (found["low"] < [4, 1]).all()
    assert (found["high"] > [4, 1]).all()
    whole = cox_by_time(table, "~ x", "t", "e", [0, t.max()]).iloc[0]
    assert whole.tolist() == pytest.approx(cox(table, "~ x", "t", "e").table.iloc[0].tolist(), rel=1e-5)


def test_stretches_without_an_estimate_are_left_out_and_bad_cuts_refused():
    table = pd.DataFrame({"t": [1, 2, 3, 4, 5, 6, 7, 8], "e": 1, "x": [0, 0, 0, 0, 1, 0, 1, 0]})
    assert cox_by_time(table, "~ x", "t", "e", [0, 4, 8]).index.get_level_values("begin").tolist() == [4]
    with pytest.raises(DataError, match="No stretch of time can be fitted"):
        cox_by_time(table, "~ x", "t", "e", [0, 4])
    with pytest.raises(DataError, match="Nobody left between 8 and 9"):
        cox_by_time(table, "~ x", "t", "e", [0, 8, 9])
    with pytest.raises(DataError, match="at least two growing times"):
        cox_by_time(table, "~ x", "t", "e", [4, 4])


def test_unknown_ties_are_refused():
    with pytest.raises(DataError, match="efron or breslow, not 'exact'"):
        cox(TOY, "~ x", "t", "e", ties="exact")
