"""Common-factor models: laws of the likelihood, groups, improper solutions, one factor or two, common method."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crmlab import data, loyalty
from crmlab.data import DataError
from crmlab.loyalty import factors, likelihood


@pytest.fixture(scope="module")
def mobi():
    return data.load("mobi").to_pandas()


PAIR = ["SATISFACTION", "LOYALTY"]


def exact(cov, n=300, seed=0):
    """Answers whose covariances are exactly these."""
    x = np.random.default_rng(seed).normal(size=(n, len(cov)))
    x -= x.mean(axis=0)
    x = np.linalg.solve(np.linalg.cholesky(np.cov(x, rowvar=False, bias=True)), x.T).T
    return x @ np.linalg.cholesky(cov).T


def survey(x, blocks):
    names = [f"{block}{k}" for block, size in blocks.items() for k in range(1, size + 1)]
    spec = loyalty.SurveySpec(
        {block: [f"{block}{k}" for k in range(1, size + 1)] for block, size in blocks.items()}, scale=(-99, 99)
    )
    return pd.DataFrame(x, columns=names), spec


def two_constructs(loadings, r):
    """The covariance matrix of two constructs."""
    load = np.zeros((len(loadings), 2))
    half = len(loadings) // 2
    load[:half, 0], load[half:, 1] = loadings[:half], loadings[half:]
    cov = load @ np.array([[1, r], [r, 1]]) @ load.T
    np.fill_diagonal(cov, 1.0)
    return cov


LOADINGS = np.array([0.8, 0.7, 0.6, 0.9, 0.5, 0.75])


def test_an_exact_structure_is_found_exactly():
    frame, spec = survey(exact(two_constructs(LOADINGS, 0.4)), {"A": 3, "B": 3})
    model = loyalty.cfa(frame, spec)
    assert model.converged
    assert model.problems == ()
    assert model.fit["chi2"] == pytest.approx(0, abs=1e-8)
    assert model.fit[["cfi", "rmsea", "srmr", "p"]].tolist() == pytest.approx([1, 0, 0, 1], abs=1e-6)
    assert model.loadings["std"].tolist() == pytest.approx(LOADINGS, abs=1e-6)
    assert model.correlations["r"].tolist() == pytest.approx([0.4], abs=1e-6)


def test_the_gradient_and_the_information_are_those_of_the_likelihood(mobi):
    frame = mobi[["CUSA1", "CUSA2", "CUSA3", "CUSL1", "CUSL3"]]
    x = (frame / frame.std()).to_numpy()
    chosen = {"S": tuple(frame.columns[:3]), "L": tuple(frame.columns[3:])}
    parts = [x[:100], x[100:]]
    moments = [
        likelihood.Moments(np.cov(part, rowvar=False, bias=True)[None], part.mean(axis=0)[None], len(part) / len(x))
        for part in parts
    ]
    layouts = factors._layouts(chosen, frame.columns, 2, "scalar", False)
    theta = factors._start(layouts, moments, chosen, frame.columns)
    theta = theta + np.random.default_rng(1).normal(scale=0.05, size=theta.shape)
    gradient, information = likelihood.derivatives(theta, layouts, moments)
    step, q = 1e-5, theta.shape[1]

    def slope(function, j):
        shift = np.eye(q)[j] * step
        return (function(theta + shift)[0] - function(theta - shift)[0]) / (2 * step)

    numeric = [slope(lambda t: likelihood.value(t, layouts, moments), j) for j in range(q)]
    assert gradient[0] == pytest.approx(np.array(numeric), abs=1e-8)
    # Where the moments are those the model implies, the expected information is the curvature.
    implied = [likelihood.implied(theta, layout) for layout in layouts]
    own = [likelihood.Moments(s, m, part.share) for (s, m), part in zip(implied, moments, strict=True)]
    _, information = likelihood.derivatives(theta, layouts, own)
    curvature = [slope(lambda t: likelihood.derivatives(t, layouts, own)[0], j) for j in range(q)]
    assert information[0] == pytest.approx(np.array(curvature), abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_fit_is_blind_to_the_order_the_unit_and_the_origin_of_items(seed):
    rng = np.random.default_rng(seed)
    noise = 0.3 * rng.normal(size=(120, 6))
    frame, spec = survey(noise + exact(two_constructs(LOADINGS, 0.4), 120, seed), {"A": 3, "B": 3})
    model = loyalty.cfa(frame, spec)
    order = {"B": ["B3", "B1", "B2"], "A": ["A2", "A3", "A1"]}
    turned = loyalty.cfa(frame * rng.uniform(0.5, 2, size=6) + rng.uniform(-5, 5, size=6), spec, order)
    shown = ["chi2", "df", "cfi", "tli", "rmsea", "srmr"]
    assert turned.fit[shown].tolist() == pytest.approx(model.fit[shown].tolist(), abs=1e-5)
    one, other = (m.loadings["std"].droplevel("construct").sort_index() for m in (model, turned))
    assert one.to_numpy() == pytest.approx(other.to_numpy(), abs=1e-4)
    # Turning an item around turns its loading only.
    flipped = loyalty.cfa(frame.assign(A2=-frame["A2"]), spec)
    assert flipped.fit["chi2"] == pytest.approx(model.fit["chi2"], abs=1e-5)
    assert flipped.loadings.loc[("A", "A2"), "std"] == pytest.approx(-model.loadings.loc[("A", "A2"), "std"], abs=1e-4)


def test_chi2_is_a_chi2_under_a_true_model():
    rng = np.random.default_rng(7)
    root = np.linalg.cholesky(two_constructs(LOADINGS, 0.4))
    p = [loyalty.cfa(*survey(rng.normal(size=(400, 6)) @ root.T, {"A": 3, "B": 3})).fit["p"] for _ in range(100)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_standard_errors_are_the_spread_of_estimates():
    rng = np.random.default_rng(8)
    root = np.linalg.cholesky(two_constructs(LOADINGS, 0.4))
    models = [loyalty.cfa(*survey(rng.normal(size=(400, 6)) @ root.T, {"A": 3, "B": 3})) for _ in range(100)]
    for table, name in (("loadings", "std"), ("correlations", "r")):
        spread = np.std([getattr(m, table)[name] for m in models], axis=0)
        stated = np.mean([getattr(m, table)["se"] for m in models], axis=0)
        assert stated == pytest.approx(spread, rel=0.25)


def test_the_rmsea_interval_is_the_noncentral_one(mobi):
    fit = loyalty.cfa(mobi, "mobi", PAIR).fit
    assert fit["rmsea_low"] == 0
    noncentral = fit["rmsea_high"] ** 2 * fit["df"] * 250
    assert stats.ncx2.cdf(fit["chi2"], fit["df"], noncentral) == pytest.approx(0.05, abs=1e-8)


def test_impossible_correlations_are_named_and_warned_of(mobi):
    with pytest.warns(RuntimeWarning, match="not positive definite"):
        model = loyalty.cfa(mobi, "mobi")
    assert model.converged
    assert "SATISFACTION" in model.problems[0]
    assert model.problems[0] in str(model)


def test_a_heywood_case_is_named():
    cov = np.array([[1, 0.9, 0.8], [0.9, 1, 0.5], [0.8, 0.5, 1]])
    frame, spec = survey(exact(cov), {"A": 3})
    with pytest.warns(RuntimeWarning, match="A1 has a negative unique variance .* Heywood"):
        model = loyalty.cfa(frame, spec)
    assert model.loadings.loc[("A", "A1"), "std"] > 1
    assert model.fit["df"] == 0
    assert np.isnan(model.fit["p"])


def test_constructs_that_correlate_beyond_one_are_named():
    cov = np.full((4, 4), 0.6)
    cov[:2, :2] = cov[2:, 2:] = 0.4
    np.fill_diagonal(cov, 1)
    frame, spec = survey(exact(cov), {"A": 2, "B": 2})
    with pytest.warns(RuntimeWarning, match=r"A and B correlate 1\.500, beyond 1"):
        loyalty.cfa(frame, spec)


def test_a_fit_that_does_not_arrive_says_so(mobi, monkeypatch):
    monkeypatch.setattr(likelihood, "LIMIT", 2)
    with pytest.warns(RuntimeWarning, match="did not converge in 2 steps"):
        model = loyalty.cfa(mobi, "mobi", PAIR)
    assert not model.converged


def test_a_model_that_is_not_identified_says_so():
    # Two items a construct and no correlation between the constructs: the loadings can trade places.
    cov = np.eye(4)
    cov[0, 1] = cov[1, 0] = cov[2, 3] = cov[3, 2] = 0.5
    frame, spec = survey(exact(cov), {"A": 2, "B": 2})
    with pytest.warns(RuntimeWarning, match="not identified|did not converge"):
        model = loyalty.cfa(frame, spec)
    assert model.loadings["se"].isna().all() or not model.converged


def test_too_few_items_are_refused_by_name(mobi):
    with pytest.raises(DataError, match="VALUE with 2 items: 4 parameters for 3 moments"):
        loyalty.cfa(mobi, "mobi", ["VALUE"])
    with pytest.raises(DataError, match="COMPLAINTS has one item"):
        loyalty.cfa(mobi, "mobi", ["COMPLAINTS", "LOYALTY"])


def test_fewer_respondents_than_items_are_refused(mobi):
    with pytest.raises(DataError, match=r"20 complete answers for 23 items \(IMAG1 to CUSL3\)"):
        loyalty.cfa(mobi[:20], "mobi")


def test_an_item_that_is_the_sum_of_others_is_named(mobi):
    frame = mobi.assign(CUSL2=(mobi["CUSA1"] + mobi["CUSA2"]) / 2)
    with pytest.raises(DataError, match="CUSA1, CUSA2, CUSL2 add up"):
        loyalty.cfa(frame, "mobi", PAIR)


def test_incomplete_answers_are_left_out_and_counted():
    survey_ = data.load("corporate_reputation").to_pandas()
    model = loyalty.cfa(survey_, "corporate_reputation", ["COMPETENCE", "LIKEABILITY", "LOYALTY"])
    assert (model.nobs.sum(), model.left_out) == (336, 8)


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(2)
    root = np.linalg.cholesky(two_constructs(LOADINGS, 0.4))
    frame, spec = survey(rng.normal(size=(1200, 6)) @ root.T, {"A": 3, "B": 3})
    plan = rng.choice(["new", "old"], size=1200, p=[0.4, 0.6])
    # The old customers score higher by half a standard deviation on A, through all its items alike.
    frame.loc[plan == "old", ["A1", "A2", "A3"]] += 0.5 * LOADINGS[:3]
    return frame.assign(plan=plan), spec


class TestGroups:
    def test_the_configural_model_is_the_sum_of_the_groups(self, answers):
        frame, spec = answers
        both = loyalty.cfa(frame, spec, group="plan")
        apart = [loyalty.cfa(frame[frame["plan"] == p], spec) for p in ("new", "old")]
        assert both.fit["chi2"] == pytest.approx(sum(m.fit["chi2"] for m in apart), abs=1e-6)
        assert both.fit["df"] == 16
        assert both.loadings.loc["old", "std"].tolist() == pytest.approx(apart[1].loadings["std"].tolist(), abs=1e-6)
        assert both.loadings.loc["old", "se"].tolist() == pytest.approx(apart[1].loadings["se"].tolist(), abs=1e-6)
        assert both.nobs.to_dict() == frame["plan"].value_counts().to_dict()

    def test_groups_that_differ_in_level_only_pass_every_step(self, answers):
        steps = loyalty.invariance(*answers, "plan")
        assert steps["d_df"].tolist()[1:] == [4, 4]
        assert (steps["d_chi2"][1:] >= 0).all()
        assert (steps["d_p"][1:] > 0.01).all()
        assert steps["holds"][1:].all()
        assert pd.isna(steps["holds"].iloc[0])
        model = loyalty.cfa(*answers, group="plan", equal="scalar")
        assert model.means.loc["new"].tolist() == [0, 0]
        assert model.means.loc["old"].tolist() == pytest.approx([0.5, 0], abs=0.12)

    def test_an_item_understood_otherwise_fails_the_scalar_step(self, answers):
        frame, spec = answers
        frame = frame.assign(A1=frame["A1"] + 0.8 * (frame["plan"] == "old"))
        steps = loyalty.invariance(frame, spec, "plan")
        assert steps["holds"].tolist()[1:] == [True, False]

    def test_an_item_that_weighs_otherwise_fails_the_metric_step(self, answers):
        frame, spec = answers
        noise = np.random.default_rng(0).normal(size=len(frame))
        frame = frame.assign(A1=frame["A1"].where(frame["plan"] == "new", noise))
        assert not loyalty.invariance(frame, spec, "plan")["holds"].iloc[1]

    def test_the_steps_do_not_depend_on_the_unit_or_the_order_of_groups(self, answers):
        frame, spec = answers
        items = [c for c in frame.columns if c != "plan"]
        turned = frame.assign(plan=frame["plan"].map({"new": "z", "old": "a"}), **(frame[items] * 3 + 1))
        shown = ["chi2", "cfi", "rmsea", "srmr"]
        one, other = (loyalty.invariance(f, spec, "plan")[shown].to_numpy() for f in (frame, turned))
        assert one == pytest.approx(other, abs=1e-4)

    def test_groups_that_cannot_be_compared_are_named(self, answers):
        frame, spec = answers
        with pytest.raises(DataError, match="plan has 1 group"):
            loyalty.cfa(frame[frame["plan"] == "new"], spec, group="plan")
        with pytest.raises(DataError, match="In the group plan = rare: 4 complete answers for 6 items"):
            loyalty.invariance(frame.assign(plan=np.where(np.arange(1200) < 4, "rare", "usual")), spec, "plan")
        with pytest.raises(DataError, match="In the group plan = old: B1 is constant"):
            loyalty.invariance(frame.assign(B1=frame["B1"].where(frame["plan"] == "new", 2.0)), spec, "plan")
        with pytest.raises(DataError, match="equal is one of configural, metric, scalar"):
            loyalty.cfa(frame, spec, group="plan", equal="strict")
        with pytest.raises(DataError, match="name the column that groups"):
            loyalty.cfa(frame, spec, equal="metric")

    def test_people_without_a_group_are_left_out_and_counted(self, answers):
        frame, spec = answers
        frame = frame.assign(plan=frame["plan"].where(np.arange(1200) >= 10))
        model = loyalty.cfa(frame.set_index(np.zeros(1200, dtype=int)), spec, group="plan")
        assert (model.nobs.sum(), model.left_out) == (1190, 10)


def test_satisfaction_and_loyalty_are_two_by_the_likelihood(mobi):
    table = loyalty.one_or_two_factors(mobi, "mobi")
    assert table.loc["difference", ["chi2", "df"]].tolist() == pytest.approx([11.9545, 1], abs=5e-5)
    # The same data fail the ratio of correlations: the two tests answer different questions.
    assert loyalty.htmt(mobi, "mobi", PAIR, replicates=200)["verdict"].iloc[0] == "not distinguishable"


def test_one_construct_under_two_names_is_found_to_be_one():
    frame, spec = survey(exact(two_constructs(LOADINGS, 0.999), seed=4), {"A": 3, "B": 3})
    assert loyalty.one_or_two_factors(frame, spec, "A", "B").loc["difference", "p"] > 0.5


def test_two_constructs_need_two_names_and_two_items(mobi):
    with pytest.raises(DataError, match="'LOYALTY' is named twice"):
        loyalty.one_or_two_factors(mobi, "mobi", "LOYALTY", "LOYALTY")
    with pytest.raises(DataError, match="COMPLAINTS has one item"):
        loyalty.one_or_two_factors(mobi, "mobi", "COMPLAINTS", "LOYALTY")


def test_a_common_method_raises_every_alarm_and_its_absence_none():
    rng = np.random.default_rng(5)
    root = np.linalg.cholesky(two_constructs(np.repeat(0.7, 8), 0.2))
    clean, spec = survey(rng.normal(size=(800, 8)) @ root.T, {"A": 4, "B": 4})
    assert not loyalty.method_alarms(clean, spec)["alarm"].any()
    soiled = clean + 1.5 * rng.normal(size=(800, 1))
    alarms = loyalty.method_alarms(soiled, spec)["alarm"]
    assert alarms["Harman: share of the first component"]


def test_the_alarms_say_what_they_can_and_cannot_show(mobi):
    table = loyalty.method_alarms(mobi, "mobi")
    assert table[["can_show", "cannot_show"]].map(len).gt(20).all(axis=None)
    assert "QUALITY" in table.loc["Full collinearity: largest VIF of a construct", "can_show"]


def test_the_first_component_of_a_halo_is_the_published_one():
    if not data.present("bayesm_customer_satisfaction"):
        pytest.skip("bayesm_customer_satisfaction is not in the data folder")
    answers = data.load("bayesm_customer_satisfaction").to_pandas()
    spec = loyalty.SurveySpec({"ALL": [f"q{k}" for k in range(1, 11)]}, scale=(1, 10))
    alarm = loyalty.method_alarms(answers, spec).iloc[0]
    assert alarm["value"] == pytest.approx(0.599, abs=0.0005)
    assert alarm["alarm"]


def test_a_thousand_resamples_of_six_factors_take_seconds(mobi):
    start = time.process_time()
    loyalty.reliability(mobi, "mobi", replicates=1000)
    assert time.process_time() - start < 20
