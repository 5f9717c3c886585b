from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab.data import DataError
from crmlab.loyalty import drivers
from crmlab.loyalty.importance import _split
from tests.surveys import fetched, survey

ITEMS = ["q1", "q2", "q3", "q4", "q5"]


@pytest.fixture(scope="module")
def found():
    return drivers(survey(), "loyal", ITEMS, n_boot=400)


def r2_of(table, columns):
    return sm.OLS(table["loyal"], sm.add_constant(table[list(columns)])).fit().rsquared if columns else 0.0


def test_shapley_is_the_mean_gain_over_all_orders_of_entry(found):
    table, gains = survey(), dict.fromkeys(ITEMS[:4], 0.0)
    for order in permutations(ITEMS[:4]):
        for k, item in enumerate(order):
            gains[item] += (r2_of(table, order[: k + 1]) - r2_of(table, order[:k])) / 24
    four = drivers(table, "loyal", ITEMS[:4], n_boot=0).table["shapley"]
    assert four[ITEMS[:4]].tolist() == pytest.approx(list(gains.values()))


def test_johnson_is_the_regression_on_the_nearest_uncorrelated_variables(found):
    z = survey()[[*ITEMS, "loyal"]].apply(lambda c: (c - c.mean()) / c.std(ddof=0)).to_numpy()
    x, y = z[:, :5], z[:, 5]
    P, _, Qt = np.linalg.svd(x, full_matrices=False)
    near = P @ Qt * np.sqrt(len(y))
    of_x, of_y = near.T @ x / len(y), near.T @ y / len(y)
    assert found.table.loc[ITEMS, "johnson"].tolist() == pytest.approx((of_x.T**2 @ of_y**2).tolist())


def test_both_add_up_to_r2_and_beta_is_that_of_the_regression(found):
    z = survey().apply(lambda c: (c - c.mean()) / c.std())
    ols = sm.OLS(z["loyal"], z[ITEMS]).fit()
    assert found.fit["r2"] == pytest.approx(ols.rsquared)
    assert found.table["shapley"].sum() == pytest.approx(ols.rsquared)
    assert found.table["johnson"].sum() == pytest.approx(ols.rsquared)
    assert found.table.loc[ITEMS, "beta"].tolist() == pytest.approx(ols.params.tolist())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_the_laws_hold_for_any_correlations(p, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, p + 1)) @ rng.normal(size=(p + 1, p + 1))
    R = np.corrcoef(x.T)[..., None]
    shapley, johnson, _, r2 = _split(R)
    # Efficiency; nobody takes away; the names do not matter; a turned scale does not matter.
    assert shapley.sum(axis=0) == pytest.approx(r2)
    assert johnson.sum(axis=0) == pytest.approx(r2)
    assert (shapley > -1e-9).all()
    assert (johnson > -1e-9).all()
    order = np.append(rng.permutation(p), p)
    again = _split(R[np.ix_(order, order)])
    assert again[0] == pytest.approx(shapley[order[:p]])
    assert again[1] == pytest.approx(johnson[order[:p]])
    sign = np.append(rng.choice([-1.0, 1.0], p), 1.0)
    turned = _split(R * (sign[:, None] * sign)[..., None])
    assert turned[0] == pytest.approx(shapley)
    assert turned[1] == pytest.approx(johnson)


def test_uncorrelated_features_get_their_squared_correlation():
    R = np.eye(4)
    R[:3, 3] = R[3, :3] = 0.5, 0.3, 0.0
    shapley, johnson, _, _ = _split(R[..., None])
    assert shapley[:, 0] == pytest.approx([0.25, 0.09, 0.0])
    assert johnson[:, 0] == pytest.approx([0.25, 0.09, 0.0])


def test_the_bootstrap_interval_and_ranks_are_those_of_a_plain_loop(found):
    table, rng = survey(), np.random.default_rng(1)
    loop = []
    for _ in range(150):
        part = table.iloc[rng.integers(0, len(table), len(table))]
        loop.append(drivers(part, "loyal", ITEMS, n_boot=0).table["shapley"][ITEMS])
    loop = pd.DataFrame(loop)
    spread = (found.table["high"] - found.table["low"])[ITEMS] / 3.92
    assert spread.to_numpy() == pytest.approx(loop.std().to_numpy(), rel=0.25)
    first = loop.rank(axis=1, ascending=False)[found.table.index[0]]
    assert (first == 1).mean() == pytest.approx(found.table["same_rank"].iloc[0], abs=0.15)


def test_ranks_of_equal_features_are_not_called_stable(found):
    assert (found.table["rank_low"] <= found.table["rank"]).all()
    assert (found.table["rank"] <= found.table["rank_high"]).all()
    assert found.table["rank_high"].max() == 5
    assert found.fit["same_order"] < 0.5
    assert found.fit["replicates"] + found.fit["degenerate"] == 400


def test_fifteen_features_are_computed_exactly():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 16)) + rng.normal(size=(200, 1))
    table = pd.DataFrame(x, columns=[f"f{k}" for k in range(16)])
    found = drivers(table, "f15", [f"f{k}" for k in range(15)], n_boot=20)
    assert found.table["shapley"].sum() == pytest.approx(found.fit["r2"])
    with pytest.raises(DataError, match="16 features: between 1 and 15 can be computed exactly"):
        drivers(table.assign(y=1), "y", [f"f{k}" for k in range(16)])


def test_a_negative_beta_beside_a_positive_correlation_is_shown_beside_its_share():
    """customerSat q9: beta -.034, correlation .44, yet a (small) positive part of R²."""
    table = fetched("bayesm_customer_satisfaction")
    found = drivers(table, "q1", [f"q{k}" for k in range(2, 11)], n_boot=500)
    q9 = found.table.loc["q9"]
    assert q9["beta"] < 0 < q9["low"]
    assert q9["correlation"] == pytest.approx(0.44, abs=0.005)
    # Nobody should say that q4 beats q6: the ranks are one and two, either way round.
    assert found.table.loc[["q4", "q6"], "rank_high"].tolist() == [2, 2]


def test_centring_within_persons_is_refused_because_it_is_no_cure():
    table = fetched("bayesm_customer_satisfaction")
    centred = table.sub(table.mean(axis=1), axis=0)
    with pytest.raises(DataError, match=r"determine 'q1' exactly: .* centred within each person"):
        drivers(centred, "q1", [f"q{k}" for k in range(2, 11)])


def test_a_few_constant_resamples_are_dropped_and_counted():
    table = survey(60).assign(rare=lambda d: (d.index == 7) * 1.0)
    found = drivers(table, "loyal", ["q1", "rare"], n_boot=300)
    assert 50 < found.fit["degenerate"] < 170
    assert np.isfinite(found.table.to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "items", "message"),
    [
        (lambda d: d, ["q1", "quality"], "no column 'quality'"),
        (lambda d: d, ["q1", "q1"], "'q1' stands twice"),
        (lambda d: d, ["q1", "loyal"], "'loyal' stands twice"),
        (lambda d: d, [], "0 features"),
        (lambda d: d.assign(q1=5), ITEMS, "'q1' has the same answer in all 400 rows"),
        (lambda d: d.assign(q2=d["q1"]), ITEMS, "'q1' and 'q2' repeat one another"),
        (lambda d: d.assign(q5=d["q1"] + d["q2"]), ITEMS, "is a combination of the others"),
        (lambda d: d.assign(loyal=d["q1"] + 2 * d["q2"]), ITEMS, "determine 'loyal' exactly"),
        (lambda d: d.iloc[:6], ITEMS, "6 customers answered 'loyal' and all 5 features"),
        (lambda d: d.assign(q3=np.nan), ITEMS, "'q3' has no answer at all"),
        (lambda d: d.assign(q3=d["q3"].astype(object).where(d.index != 9, "?")), ITEMS, r"'q3' holds '\?' in row 10"),
        (lambda d: d.assign(q3=d["q3"].where(d.index != 9, 99)), ITEMS, "'q3' holds 99"),
    ],
)
def test_a_hostile_survey_is_answered_by_the_name_of_the_item(change, items, message):
    with pytest.raises(DataError, match=message):
        drivers(change(survey()), "loyal", items, n_boot=10)
