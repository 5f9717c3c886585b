import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit

from crmlab.data import DataError
from crmlab.loyalty import ordered
from crmlab.loyalty.gapnumbers import HOUSING
from tests.surveys import acsi, fetched, survey


@pytest.fixture(scope="module")
def housing():
    table = fetched("mass_housing")
    return table.assign(**{c: pd.Categorical(table[c], levels) for c, levels in HOUSING.items()})


@pytest.fixture(scope="module")
def fitted(housing):
    return ordered(housing, "Sat ~ Infl + Type + Cont", levels=("Low", "Medium", "High"), weights="Freq")


def simulated(n, seed, slopes=(1.0, 1.0)):
    """Three answers; the slope may differ between the two borders."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=n), rng.random(n)
    high, middle = expit(slopes[1] * x - 1), expit(slopes[0] * x + 1)
    return pd.DataFrame({"y": np.where(u < high, 3, np.where(u < np.maximum(middle, high), 2, 1)), "x": x})


def test_weights_are_the_rows_repeated(housing, fitted):
    long = housing.loc[housing.index.repeat(housing["Freq"])]
    again = ordered(long, "Sat ~ Infl + Type + Cont", levels=("Low", "Medium", "High"))
    pd.testing.assert_frame_equal(again.table, fitted.table, rtol=1e-5)
    pd.testing.assert_frame_equal(again.parallel, fitted.parallel, rtol=1e-5)
    assert again.fit["aic"] == pytest.approx(fitted.fit["aic"], abs=1e-6)


def test_standard_errors_are_those_of_polr(fitted):
    """As printed by summary(polr(...)) for these data."""
    assert fitted.table["se"].round(4).tolist() == [0.1047, 0.1272, 0.1192, 0.1552, 0.1515, 0.0955]
    assert fitted.thresholds["se"].round(4).tolist() == [0.1248, 0.1255]


def test_two_answers_give_the_logit():
    table = survey().assign(again=lambda d: (d["loyal"] >= 7) * 1)
    found = ordered(table, "again ~ q1 + q2")
    logit = sm.Logit(table["again"], sm.add_constant(table[["q1", "q2"]])).fit(disp=0)
    assert found.table["coef"].to_numpy() == pytest.approx(logit.params[["q1", "q2"]].to_numpy(), abs=1e-5)
    assert found.table["se"].to_numpy() == pytest.approx(logit.bse[["q1", "q2"]].to_numpy(), rel=1e-3)
    assert found.thresholds["cut"].item() == pytest.approx(-logit.params["const"], abs=1e-4)
    assert found.thresholds["se"].item() == pytest.approx(logit.bse["const"], rel=1e-3)
    assert found.fit["llf_null"] == pytest.approx(logit.llnull)
    assert found.parallel["p_value"].isna().all()


def test_units_of_a_feature_change_its_coefficient_and_nothing_else():
    table = survey().assign(big=lambda d: 1e6 + 1e4 * d["q1"])
    one, other = ordered(table, "loyal ~ q1"), ordered(table, "loyal ~ big")
    assert other.table.loc["big", "coef"] * 1e4 == pytest.approx(one.table.loc["q1", "coef"], rel=1e-5)
    assert other.fit["aic"] == pytest.approx(one.fit["aic"], abs=1e-6)
    assert one.predict(table).to_numpy() == pytest.approx(other.predict(table).to_numpy(), abs=1e-5)


def test_predicted_probabilities_add_up_and_meet_the_shares(housing, fitted):
    p = fitted.predict(housing)
    assert p.sum(axis=1).to_numpy() == pytest.approx(1)
    freq = housing["Freq"]
    shares = freq.groupby(housing["Sat"]).sum() / freq.sum()
    assert (p.mul(freq, axis=0).sum() / freq.sum())["High"] == pytest.approx(shares["High"], abs=0.005)


def test_brant_accepts_parallel_lines_as_often_as_it_says_and_sees_others():
    true = np.array([ordered(simulated(400, seed), "y ~ x").parallel.loc["ALL", "p_value"] for seed in range(60)])
    assert np.mean(true < 0.05) < 0.14
    assert 0.38 < np.mean(true) < 0.62
    assert ordered(simulated(2000, 1, slopes=(0.5, 1.5)), "y ~ x").parallel.loc["x", "p_value"] < 1e-4


def test_brant_agrees_with_a_likelihood_ratio_against_lines_of_their_own():
    table = simulated(3000, 5, slopes=(0.8, 1.1))
    found = ordered(table, "y ~ x")
    odds = found.odds_by_cut.loc["x"].to_numpy()
    for k, odd in enumerate(odds, 1):
        fit = sm.Logit(table["y"] > k, sm.add_constant(table["x"])).fit(disp=0)
        assert np.log(odd) == pytest.approx(fit.params["x"], abs=1e-5)
    assert found.parallel.loc["ALL", "statistic"] == pytest.approx(found.parallel.loc["x", "statistic"])
    # The general model, by its own likelihood.
    from scipy.optimize import minimize

    x, y = table["x"].to_numpy(), table["y"].to_numpy()

    def minus(theta):
        above1, above2 = expit(theta[0] + theta[1] * x), expit(theta[2] + theta[3] * x)
        p = np.select([y == 1, y == 2], [1 - above1, above1 - above2], above2)
        return -np.log(np.maximum(p, 1e-300)).sum()

    general = -minimize(minus, [1, 0.8, -1, 1.1], method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-9}).fun
    ratio = 2 * (general - found.fit["llf"])
    assert found.parallel.loc["ALL", "statistic"] == pytest.approx(ratio, rel=0.15, abs=0.5)


def test_acsi_quality_matters_more_among_the_loyal():
    table = acsi().assign(OVERALLQ=lambda d: d["OVERALLQ"].where(d["OVERALLQ"] < 11))
    found = ordered(table, "REPUR ~ SATIS + OVERALLQ")
    assert found.fit["excluded"] + found.fit["answers"] == len(table)
    assert found.parallel.loc["OVERALLQ", "p_value"] < 1e-10
    ratios = found.odds_by_cut.loc["OVERALLQ"]
    assert ratios.iloc[-1] > 1.4 * ratios.iloc[0]


def test_the_alphabet_is_no_order(housing):
    with pytest.raises(DataError, match=r"'Sat' are words \(Low, Medium, High\) whose order is not known"):
        ordered(housing, "Sat ~ Infl", weights="Freq")
    with pytest.raises(DataError, match="'Sat' holds 'High', which is not among its levels"):
        ordered(housing, "Sat ~ Infl", levels=("Low", "Medium"), weights="Freq")


@pytest.mark.parametrize(
    ("change", "formula", "message"),
    [
        (lambda d: d, "loyal ~ q9", "no column 'q9'"),
        (lambda d: d, "loyal", "needs two sides"),
        (lambda d: d, "loyal ~ q1 +", "cannot be read"),
        (lambda d: d, "loyal ~ 1", "no term"),
        (lambda d: d.assign(q1=3), "loyal ~ q1", "'q1' has the same value in all rows"),
        (lambda d: d.assign(q2=d["q1"]), "loyal ~ q1 + q2", "q1, q2 repeat one another"),
        (lambda d: d.assign(q1=np.nan), "loyal ~ q1", "'q1' has no answer at all"),
        (
            lambda d: d.assign(q1=d["q1"].astype(object).where(d.index != 2, "ten")),
            "loyal ~ q1",
            "'q1' holds 'ten' in row 3",
        ),
        (lambda d: d.assign(loyal=4), "loyal ~ q1", "'loyal' has the same answer"),
        (lambda d: d.assign(loyal=np.arange(len(d))), "loyal ~ q1", "400 different answers: that is a number"),
        (
            lambda d: d.iloc[:4],
            "loyal ~ q1 + q2 + q3 + q4 + q5",
            "are more than the 4 rows allow",
        ),
        (lambda d: d.assign(q1=[f"person {k}" for k in range(len(d))]), "loyal ~ q1", "400 different words"),
        (lambda d: d.assign(loyal=(d["q1"] > 5) * 1), "loyal ~ q1", "did not arrive at finite estimates"),
    ],
)
def test_a_hostile_survey_is_answered_by_the_name_of_the_item(change, formula, message):
    with pytest.raises(DataError, match=message):
        ordered(change(survey()), formula)


@pytest.mark.parametrize("weights", [[-3.0, 2.0], [0.5, 1.0]])
def test_weights_must_count(weights):
    table = survey(20).assign(w=np.resize(weights, 20))
    with pytest.raises(DataError, match="'w' must count respondents"):
        ordered(table, "loyal ~ q1", weights="w")


def test_an_answer_that_a_border_cannot_estimate_leaves_its_check_missing():
    table = simulated(300, 3)
    table["rare"] = 0.0
    # All with the rare feature gave the middle answer: finite in the one model, infinite at either border.
    table.loc[table.index[table["y"] == 2][:6], "rare"] = 1.0
    found = ordered(table, "y ~ x + rare")
    assert np.isfinite(found.table["se"]).all()
    assert found.parallel["p_value"].isna().all()
    assert found.odds_by_cut.isna().any().any()
