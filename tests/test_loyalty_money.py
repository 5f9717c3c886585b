import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmlab.data import DataError
from crmlab.loyalty import cell_values


def cells_of(**retention):
    return pd.DataFrame(retention, index=["retention", "low", "high"]).T


TWO = cells_of(captives=(0.8, 0.75, 0.85), loyal=(0.9, 0.87, 0.92))


def test_the_value_is_the_sum_of_discounted_margins():
    found = cell_values(TWO, margin=100, discount=0.1, cost_to_serve=20)
    total = sum(80 * 0.9**t / 1.1**t for t in range(2000))
    assert found.loc["loyal", "value"] == pytest.approx(total)
    assert found.loc["loyal", "difference"] == pytest.approx(total - found.loc["captives", "value"])


@pytest.mark.parametrize(("r", "lift"), [(0.6, 0.11), (0.7, 0.14), (0.8, 0.20), (0.85, 0.25), (0.9, 0.33)])
def test_five_points_of_retention_are_worth_what_the_ledger_of_claims_says(r, lift):
    found = cell_values(cells_of(now=(r, r, r), then=(r + 0.05,) * 3), margin=1, discount=0.1)
    assert found.loc["then", "difference"] / found.loc["now", "value"] == pytest.approx(lift, abs=0.005)


def test_loyal_customers_who_cost_more_than_they_bring_lose_the_more_the_longer_they_stay():
    found = cell_values(TWO, margin=100, discount=0.1, cost_to_serve=pd.Series({"captives": 60, "loyal": 120}))
    assert found["unprofitable"].to_dict() == {"captives": False, "loyal": True}
    assert found.loc["loyal", "value"] < 0
    longer = cell_values(cells_of(a=(0.5,) * 3, b=(0.9,) * 3), margin=100, discount=0.1, cost_to_serve=120)
    assert longer.loc["b", "difference"] < 0
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 3).map(sorted), min_size=2, max_size=4),
    st.floats(-50, 100), st.floats(0.01, 1),
)  # fmt: skip
def test_intervals_hold_the_value_and_turn_with_the_reference(rows, margin, discount):
    table = pd.DataFrame([(r, low, high) for low, r, high in rows], columns=["retention", "low", "high"])
    found = cell_values(table, margin, discount)
    slack = 1e-9 * found["value"].abs().max() + 1e-12
    assert (found["low"] <= found["value"] + slack).all()
    assert (found["difference_low"].iloc[1:] <= found["difference"].iloc[1:] + slack).all()
    assert (found["difference"].iloc[1:] <= found["difference_high"].iloc[1:] + slack).all()
    other = cell_values(table, margin, discount, reference=1)
    assert other.loc[0, "difference_low"] == pytest.approx(-found.loc[1, "difference_high"], abs=slack)
    assert np.isnan(other.loc[1, "difference"])


def test_the_interval_of_the_difference_covers_as_often_as_it_says():
    """Two independent shares, each with its Wilson interval: how often is the true difference of values inside?"""
    from crmlab.data.intervals import wilson

    rng = np.random.default_rng(1)
    n, r = 300, np.array([0.75, 0.85])
    true = np.subtract(*(1.1 / (1.1 - r)[::-1]))
    inside = []
    for k in rng.binomial(n, r, size=(400, 2)):
        share, low, high = wilson(k, n)
        table = pd.DataFrame({"retention": share, "low": low, "high": high}, index=["a", "b"])
        row = cell_values(table, 1.0, 0.1).loc["b"]
        inside.append(row["difference_low"] <= true <= row["difference_high"])
    assert 0.915 < np.mean(inside) < 0.985


def test_totals_count_the_customers():
    found = cell_values(TWO, 10, 0.1, customers=pd.Series({"loyal": 200, "captives": 50}))
    assert found.loc["loyal", "total"] == pytest.approx(200 * found.loc["loyal", "value"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cell_values(cells_of(a=(85, 80, 90)), 1, 0.1), "The retention of 'a' must be a share .* 85 % is 0.85"),
        (lambda: cell_values(cells_of(a=(0.9, 0.91, 0.95)), 1, 0.1), "inside its interval"),
        (lambda: cell_values(cells_of(a=(0.9, np.nan, 0.95)), 1, 0.1), "inside its interval"),
        (lambda: cell_values(TWO, 1, 0), "discount rate a period must be above 0"),
        (lambda: cell_values(TWO, pd.Series({"loyal": 1}), 0.1), "margin has no value for the cell 'captives'"),
        (lambda: cell_values(TWO, 1, 0.1, reference="nobody"), "no cell 'nobody'; there are captives, loyal"),
        (lambda: cell_values(TWO.drop(columns="low"), 1, 0.1), "columns retention, low and high"),
        (lambda: cell_values(pd.concat([TWO, TWO]), 1, 0.1), "one row for each cell"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
