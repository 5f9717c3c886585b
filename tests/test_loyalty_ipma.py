import numpy as np
import pandas as pd
import pytest

from crmlab import data
from crmlab.data.errors import DataError
from crmlab.loyalty import PathModel, ipma
from crmlab.loyalty.pathnumbers import ECSI as CATALOGUE_ECSI
from tests.test_loyalty_paths import ECSI, ITEMS


@pytest.fixture(scope="module")
def mobi():
    return data.load("mobi").to_pandas()


@pytest.fixture(scope="module")
def fit(mobi):
    return PathModel(ITEMS, ECSI).fit(mobi)


@pytest.fixture(scope="module")
def found(fit):
    return ipma(fit, "Loyalty", scale=(1, 10), replicates=400, seed=1)


def test_the_scale_is_never_inferred_from_the_answers(fit):
    with pytest.raises(DataError, match=r"State the scale of the answers, such as scale=\(1, 10\)"):
        ipma(fit, "Loyalty")


def test_a_scale_that_the_answers_leave_is_refused(fit):
    # A default of 1 to 7 would print performances of 93 to 112 out of 100 for this survey.
    with pytest.raises(DataError, match="148 answers to 'IMAG1' lie off the stated scale 1 to 7"):
        ipma(fit, "Loyalty", scale=(1, 7))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((10, 1), "must be its lowest and its highest answer, not 10 and 1"),
        (("low", "high"), "must be its lowest and highest answer"),
        (10, "must be its lowest and highest answer"),
        ({"IMAG1": (1, 10)}, "'IMAG2' must be its lowest and highest answer"),
    ],
)
def test_a_scale_that_is_none_is_refused(fit, scale, message):
    with pytest.raises(DataError, match=message):
        ipma(fit, "Loyalty", scale=scale)


def test_the_scale_of_the_description_is_used(mobi, found):
    described = ipma(PathModel("mobi", CATALOGUE_ECSI).fit(mobi), "LOYALTY", replicates=50, seed=1)
    np.testing.assert_allclose(described.constructs["performance"], found.constructs["performance"])
    assert set(described.scale.values()) == {(1.0, 10.0)}


def test_performance_is_the_weighted_mean_on_0_to_100(fit, found):
    wanted = 100 * (fit.unscaled_scores.mean() - 1) / 9
    for construct, value in found.constructs["performance"].items():
        assert value == pytest.approx(wanted[construct])
    assert found.target["performance"] == pytest.approx(wanted["Loyalty"])
    assert found.constructs[["performance", "performance_low", "performance_high"]].stack().between(0, 100).all()


def test_importance_is_the_total_effect_in_points(fit, found):
    z = fit.unscaled_scores
    slope = {}
    for outcome, part in fit.paths.groupby(level="outcome"):
        causes = part.index.get_level_values("cause")
        x = z[causes] - z[causes].mean()
        beta = np.linalg.lstsq(x.to_numpy(), (z[outcome] - z[outcome].mean()).to_numpy(), rcond=None)[0]
        slope |= {(cause, outcome): b for cause, b in zip(causes, beta, strict=True)}

    def effect(cause):
        if cause == "Loyalty":
            return 1.0
        return sum(b * effect(outcome) for (start, outcome), b in slope.items() if start == cause)

    for construct, value in found.constructs["importance"].items():
        assert value == pytest.approx(effect(construct), abs=1e-9)


def test_items_share_the_importance_of_their_construct(mobi, found):
    summed = found.items["importance"].groupby(level="construct").sum()
    pd.testing.assert_series_equal(summed.sort_index(), found.constructs["importance"].sort_index())
    for (_, item), value in found.items["performance"].items():
        assert value == pytest.approx(100 * (mobi[item].mean() - 1) / 9)


def test_a_survey_recoded_with_its_scale_gives_the_same(mobi, found):
    recoded = mobi.astype(float)
    recoded[ITEMS["Image"]] = (recoded[ITEMS["Image"]] - 1) / 9 * 4 + 1
    scale = {item: (1, 5) if item in ITEMS["Image"] else (1, 10) for item in mobi}
    other = ipma(PathModel(ITEMS, ECSI).fit(recoded), "Loyalty", scale=scale, replicates=400, seed=1)
    pd.testing.assert_frame_equal(other.constructs, found.constructs, rtol=1e-6)
    pd.testing.assert_frame_equal(other.items, found.items, rtol=1e-6)


def test_intervals_hold_what_they_are_about(found):
    for table in (found.constructs, found.items):
        for name in ("importance", "performance"):
            assert table[name].between(table[f"{name}_low"], table[f"{name}_high"]).all()
    assert found.target["performance_low"] < found.target["performance"] < found.target["performance_high"]
    assert found.counts["used"] == 400
    # The mean of a single item: its standard error is known.
    row, n = found.constructs.loc["Complaints"], 250
    half = 1.96 * found_sd("CUSCO") / np.sqrt(n)
    assert row["performance_high"] - row["performance_low"] == pytest.approx(2 * half, rel=0.15)


def found_sd(item):
    return (100 * (data.load("mobi").to_pandas()[item] - 1) / 9).std()


def test_only_what_acts_on_the_target_is_in_the_map(fit):
    found = ipma(fit, "Value", scale=(1, 10), replicates=20, seed=1)
    assert found.constructs.index.tolist() == ["Image", "Expectation", "Quality"]
    assert set(found.scale) == {*ITEMS["Image"], *ITEMS["Expectation"], *ITEMS["Quality"], *ITEMS["Value"]}


def test_an_item_with_a_negative_weight_is_named(mobi):
    turned = mobi.assign(CUSA1=11 - mobi["CUSA1"])
    fit = PathModel(ITEMS, ECSI).fit(turned)
    with pytest.raises(DataError, match="'CUSA1' has a negative weight"):
        ipma(fit, "Loyalty", scale=(1, 10))


@pytest.mark.parametrize(
    ("target", "message"),
    [("Profit", "'Profit' is not among the constructs"), ("Image", "Nothing acts on the target 'Image'")],
)
def test_a_target_that_cannot_be_improved_is_named(fit, target, message):
    with pytest.raises(DataError, match=message):
        ipma(fit, target, scale=(1, 10))


def test_factors_have_no_performance(mobi):
    with pytest.raises(DataError, match="consistent=False"):
        ipma(PathModel(ITEMS, ECSI, consistent=True).fit(mobi), "Loyalty", scale=(1, 10))


def test_covariances_give_importance_in_points_too(mobi):
    fit = PathModel(ITEMS, ECSI, matrix="covariance").fit(mobi)
    found = ipma(fit, "Complaints", scale=(1, 10), replicates=20, seed=1)
    z = fit.unscaled_scores
    slope = np.polyfit(z["Satisfaction"], z["Complaints"], 1)[0]
    assert found.constructs.loc["Satisfaction", "importance"] == pytest.approx(slope)
    assert found.constructs.loc["Satisfaction", "performance"] == pytest.approx(
        100 * (z["Satisfaction"].mean() - 1) / 9
    )


def test_the_summary_states_the_scale(found):
    text = str(found.summary())
    assert "1 to 10" in text
    assert "Satisfaction / CUSA3" in text
