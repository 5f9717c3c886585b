"""Reliability and discriminant validity: published numbers, laws, and surveys that cannot be measured."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data, loyalty
from crmlab.data import DataError
from crmlab.loyalty import likelihood, measurenumbers
from crmlab.loyalty.consistency import alphas
from crmlab.loyalty.discriminant import ratios
from crmlab.loyalty.factors import factor_coefficients

PREFIXES = tuple(begins for begins, _ in measurenumbers.PARTS)


@pytest.fixture(scope="module")
def computed():
    return {name: number for _, part in measurenumbers.PARTS for name, number in part().items()}


@pytest.fixture(scope="module")
def mobi():
    return data.load("mobi").to_pandas()


def simulated(n=200, seed=0, load=0.8, r=0.5, items=3):
    """Two constructs with equal loadings."""
    rng = np.random.default_rng(seed)
    factors = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=n)
    noise = rng.normal(size=(n, 2 * items)) * np.sqrt(1 - load**2)
    frame = np.repeat(factors, items, axis=1) * load + noise
    names = [f"A{k}" for k in range(1, items + 1)] + [f"B{k}" for k in range(1, items + 1)]
    spec = loyalty.SurveySpec({"A": names[:items], "B": names[items:]}, scale=(-20, 20))
    return pd.DataFrame(frame, columns=names), spec


def test_published_measurement_is_reproduced(computed):
    table = data.compare_published("loyalty", computed)
    differs = table[table["verdict"] == "differs"]
    assert differs.empty, differs[["published", "computed", "source"]].to_string()
    assert len(table) >= 200


def test_reproduce_gives_the_same_numbers_and_only_those_asked_for(computed):
    found = loyalty.reproduce("mobi.htmt")
    assert found == {name: number for name, number in computed.items() if name.startswith("mobi.htmt")}
    assert loyalty.reproduce("nothing.") == {}


def test_the_two_alphas_are_labelled_and_differ(mobi):
    table = loyalty.reliability(mobi, "mobi", replicates=0)["estimate"]
    assert table["LOYALTY", "alpha_std"] == pytest.approx(0.4724, abs=5e-5)
    assert table["LOYALTY", "alpha_raw"] == pytest.approx(0.4417172, abs=5e-7)
    assert "COMPLAINTS" not in table.index.get_level_values("construct")


def test_the_right_missing_code_gives_the_published_alpha():
    # A peer ignores "-99" given as text and finds .42 instead of .83.
    survey = data.load("corporate_reputation").to_pandas()
    right = loyalty.reliability(survey, "corporate_reputation", ["LOYALTY"], replicates=0)["estimate"]
    assert right["LOYALTY", "alpha_std"] == pytest.approx(0.831, abs=0.003)
    ignored = loyalty.SurveySpec({"LOYALTY": ["cusl_1", "cusl_2", "cusl_3"]}, scale=(-99, 7))
    wrong = loyalty.reliability(survey, ignored, replicates=0)["estimate"]
    assert wrong["LOYALTY", "alpha_std"] == pytest.approx(0.42, abs=0.01)


def test_reliability_holds_its_estimate_and_does_not_change_with_the_seed(mobi):
    once = loyalty.reliability(mobi, "mobi", ["SATISFACTION", "LOYALTY"], replicates=200, seed=5)
    again = loyalty.reliability(mobi, "mobi", ["SATISFACTION", "LOYALTY"], replicates=200, seed=5)
    pd.testing.assert_frame_equal(once, again)
    assert ((once["low"] < once["estimate"]) & (once["estimate"] < once["high"])).all()
    assert (once["dropped"] == 0).all()
    assert (once["note"] == "").all()


def test_an_improper_model_is_noted_beside_its_coefficients(mobi):
    table = loyalty.reliability(mobi, "mobi", replicates=0)
    notes = table["note"].unstack()
    assert notes["omega"].str.contains("not positive definite").all()
    assert notes["omega"].str.contains("SATISFACTION").all()
    assert (notes["alpha_raw"] == "").all()


def test_reliability_finds_what_was_simulated():
    frame, spec = simulated(n=40_000, load=0.7)
    found = loyalty.reliability(frame, spec, replicates=0)["estimate"].unstack()
    expected = 3 * 0.7**2 / (3 * 0.7**2 + 1 - 0.7**2)
    assert found[["alpha_raw", "alpha_std", "omega", "rho_A", "rho_C"]].to_numpy() == pytest.approx(expected, abs=0.01)
    assert found["ave"].to_numpy() == pytest.approx(0.49, abs=0.01)


def test_intervals_of_alpha_cover_the_truth_about_as_often_as_they_say():
    truth, hits = 3 * 0.64 / (3 * 0.64 + 0.36), 0
    for seed in range(60):
        frame, spec = simulated(n=150, seed=seed)
        row = loyalty.reliability(frame, spec, ["A"], replicates=200, seed=seed).loc[("A", "alpha_raw")]
        hits += row["low"] <= truth <= row["high"]
    assert 49 <= hits <= 60


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50), k=st.integers(2, 6))
def test_alpha_keeps_to_its_laws(seed, shift, k):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, k)) + rng.normal(size=(40, 1))
    stretch = rng.uniform(0.1, 10, size=k)
    block = [np.arange(k)]

    def alpha(x, of):
        return alphas(of(x, rowvar=False)[None], block)[0, 0]

    assert alpha(x + shift, np.cov) == pytest.approx(alpha(x, np.cov))
    assert alpha(x * 3, np.cov) == pytest.approx(alpha(x, np.cov))
    assert alpha(x * stretch, np.corrcoef) == pytest.approx(alpha(x, np.corrcoef))
    assert alpha(x[:, ::-1], np.cov) == pytest.approx(alpha(x, np.cov))
    assert alpha(x, np.cov) <= 1


def test_alpha_of_equal_items_with_equal_errors_is_spearman_brown():
    r = np.full((4, 4), 0.5) + 0.5 * np.eye(4)
    assert alphas(r[None], [np.arange(4)])[0, 0] == pytest.approx(4 * 0.5 / (1 + 3 * 0.5))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_htmt_is_symmetric_positive_and_blind_to_order_and_sign(seed, sizes):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, sum(sizes))) + rng.normal(size=(60, 1))
    sign = rng.choice([-1, 1], size=x.shape[1])
    found = ratios(np.corrcoef(x, rowvar=False)[None], sizes)
    assert (found > 0).all()
    assert found == pytest.approx(found.swapaxes(-1, -2))
    assert np.diagonal(found, axis1=-2, axis2=-1) == pytest.approx(1)
    assert ratios(np.corrcoef(x * sign, rowvar=False)[None], sizes) == pytest.approx(found)
    turned = ratios(np.corrcoef(x[:, ::-1], rowvar=False)[None], sizes[::-1])
    assert turned == pytest.approx(found[:, :, ::-1, ::-1])


def test_htmt_agrees_with_a_plain_reading_of_its_definition(mobi):
    a, b = ["CUSA1", "CUSA2", "CUSA3"], ["CUSL1", "CUSL2", "CUSL3"]
    r = mobi.corr().abs()
    within = [np.mean([r.loc[i, j] for k, i in enumerate(g) for j in g[k + 1 :]]) for g in (a, b)]
    expected = r.loc[a, b].to_numpy().mean() / np.sqrt(np.prod(within))
    found = loyalty.htmt(mobi, "mobi", {"S": a, "L": b}, replicates=0)["htmt"].iloc[0]
    assert found == pytest.approx(expected)


def test_htmt_is_judged_by_its_upper_bound_not_against_zero(mobi):
    row = loyalty.htmt(mobi, "mobi", ["SATISFACTION", "LOYALTY"], replicates=2000).iloc[0]
    assert (row["low"], row["high"]) == (pytest.approx(0.80, abs=0.02), pytest.approx(1.10, abs=0.03))
    assert row["verdict"] == "not distinguishable"
    far, spec = simulated(n=2000, r=0.3)
    assert loyalty.htmt(far, spec, replicates=200)["verdict"].iloc[0] == "distinct (below .85)"
    near, spec = simulated(n=2000, r=0.93)
    assert loyalty.htmt(near, spec, replicates=200)["verdict"].iloc[0] == "barely distinct (below 1)"


def test_htmt_finds_the_correlation_that_was_simulated():
    frame, spec = simulated(n=40_000, r=0.6)
    row = loyalty.htmt(frame, spec, replicates=0).iloc[0]
    assert row["htmt"] == pytest.approx(0.6, abs=0.015)
    assert row["htmt2"] == pytest.approx(0.6, abs=0.015)


def test_resamples_in_which_an_item_is_constant_are_dropped_and_counted():
    frame, spec = simulated(n=30, items=2)
    frame["A1"] = np.where(np.arange(30) == 4, 1.0, 0.0)
    for table in (loyalty.htmt(frame, spec, replicates=300), loyalty.reliability(frame, spec, replicates=300)):
        dropped = table["dropped"].max()
        # A row is absent from about 37 of 100 resamples.
        assert 80 <= dropped <= 160
        assert table["low"].notna().all()


@pytest.mark.parametrize("measure", [loyalty.reliability, loyalty.htmt, loyalty.cfa])
class TestHostileSurveys:
    def survey(self):
        return simulated(n=50)

    def test_a_constant_item_is_named(self, measure):
        frame, spec = self.survey()
        with pytest.raises(DataError, match="A2 is constant"):
            measure(frame.assign(A2=3.0), spec)

    def test_two_identical_items_are_named(self, measure):
        frame, spec = self.survey()
        with pytest.raises(DataError, match="A1 and B2 carry the same answers"):
            measure(frame.assign(B2=frame["A1"]), spec)

    def test_an_item_without_answers_is_named(self, measure):
        frame, spec = self.survey()
        with pytest.raises(DataError, match="B3 has no answer at all"):
            measure(frame.assign(B3=np.nan), spec)

    def test_a_survey_without_answers_is_refused(self, measure):
        frame, spec = self.survey()
        with pytest.raises(DataError, match="A1, A2, A3, B1, B2, B3 has no answer at all"):
            measure(frame * np.nan, spec)

    def test_nobody_who_answered_everything_is_explained(self, measure):
        frame, spec = self.survey()
        frame.iloc[:25, 0] = np.nan
        frame.iloc[25:, 4] = np.nan
        with pytest.raises(DataError, match=r"0 of 50 respondents .* most often missing is A1 \(25 times\)"):
            measure(frame, spec)

    def test_an_unknown_construct_is_named(self, measure):
        frame, spec = self.survey()
        with pytest.raises(DataError, match="no construct TRUST; the survey measures A, B"):
            measure(frame, spec, ["A", "TRUST"])

    def test_an_unknown_item_is_named(self, measure):
        frame, spec = self.survey()
        with pytest.raises(DataError, match="Z9 is no item"):
            measure(frame, spec, {"A": ["A1", "Z9"], "B": ["B1", "B2"]})

    def test_an_item_in_two_constructs_is_named(self, measure):
        frame, spec = self.survey()
        with pytest.raises(DataError, match="more than once: A1"):
            measure(frame, spec, {"A": ["A1", "A2"], "B": ["A1", "B2"]})


def test_fewer_respondents_than_items_get_alpha_but_no_factor_model():
    frame, spec = simulated(n=6)
    table = loyalty.reliability(frame, spec, replicates=0)
    assert table["estimate"].unstack()["alpha_raw"].notna().all()
    assert table["estimate"].unstack()["omega"].isna().all()
    assert table["note"].unstack()["omega"].str.contains("6 complete answers for 6 items").all()


def test_single_items_have_no_reliability_and_no_pair_no_ratio(mobi):
    with pytest.raises(DataError, match="two items or more"):
        loyalty.reliability(mobi, "mobi", ["COMPLAINTS"])
    with pytest.raises(DataError, match="COMPLAINTS alone"):
        loyalty.htmt(mobi, "mobi", ["COMPLAINTS"])
    assert loyalty.htmt(mobi, "mobi", ["COMPLAINTS", "LOYALTY"], replicates=0)["htmt"].iloc[0] > 0


def test_a_level_beyond_one_is_refused(mobi):
    with pytest.raises(DataError, match="level"):
        loyalty.htmt(mobi, "mobi", replicates=10, level=95)


def test_omega_weighs_answers_and_rho_c_standardized_answers():
    layout = likelihood.Layout(
        np.array([[0], [1]]), np.array([[likelihood.ONE]]), np.array([2, 3]), np.array([-1, -1]), np.array([-1])
    )
    theta = np.array([[0.8, 0.6, 0.36, 0.64]])
    found = factor_coefficients(theta, layout, np.array([1.0, 10.0]))
    assert found["omega"][0, 0] == pytest.approx((0.8 + 6) ** 2 / ((0.8 + 6) ** 2 + 0.36 + 64))
    assert found["rho_C"][0, 0] == pytest.approx(1.4**2 / (1.4**2 + 1.0))
    assert found["ave"][0, 0] == pytest.approx(0.5)
