import datetime

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data, lifecycle
from crmlab.data import DataError
from crmlab.data.intervals import wilson
from tests.test_lifecycle_activity import LOGS, TOY, WHOLE, first_day

NAN = np.nan


def rows_of(triangle):
    """Cells without those that lie in the future."""
    return [[value for value in row if value == value] for row in triangle.to_numpy().tolist()]


@pytest.mark.parametrize(
    ("measure", "definition", "cells"),
    [
        ("customers", "on", [[2, 1, 1, 1], [1, 0, 0], [0, 0], [1]]),
        ("customers", "on_or_after", [[2, 2, 2, 1], [1, 0, 0], [0, 0], [1]]),
        ("orders", "on", [[3, 1, 1, 1], [1, 0, 0], [0, 0], [1]]),
        ("revenue", "on", [[22, 20, 6, 1], [7, 0, 0], [0, 0], [8]]),
    ],
)
def test_triangles_of_a_hand_worked_log(measure, definition, cells):
    triangle = lifecycle.cohorts(TOY, "M", measure, definition)
    assert triangle.index.names == ["cohort", "left_truncated"]
    assert triangle.columns.name == "age"
    assert rows_of(triangle) == cells
    assert triangle.index.get_level_values("left_truncated").tolist() == [True, False, False, False]


@settings(max_examples=30, deadline=None)
@given(LOGS, st.sampled_from("WMQY"))
def test_triangles_equal_a_plain_loop_and_begin_with_everyone(rows, period):
    log = pd.DataFrame(rows, columns=["customer_id", "date"]).assign(amount=2.5)
    triangles = {m: lifecycle.cohorts(log, period, m, **WHOLE) for m in ("customers", "orders", "revenue")}
    index = triangles["customers"].index.get_level_values("cohort").date.tolist()
    expected = {m: np.zeros((len(index), len(index))) for m in triangles}
    for customer in {c for c, _ in rows}:
        days = [day for c, day in rows if c == customer]
        born = index.index(first_day(min(days), period))
        for day in days:
            expected["revenue"][born, index.index(first_day(day, period)) - born] += 2.5
        for day in set(days):
            expected["orders"][born, index.index(first_day(day, period)) - born] += 1
        for at in {first_day(day, period) for day in days}:
            expected["customers"][born, index.index(at) - born] += 1
    for measure, triangle in triangles.items():
        seen = triangle.notna().to_numpy()
        np.testing.assert_allclose(triangle.to_numpy()[seen], expected[measure][seen])
        last = triangle.shape[0] - 1 if seen[-1, 0] else triangle.shape[0] - 2
        assert (seen == (np.add.outer(range(len(index)), range(len(index))) <= last)).all()
    whole = triangles["customers"]
    shares = whole.div(whole[0], axis=0)
    assert shares[0].dropna().eq(1).all()
    later = lifecycle.cohorts(log, period, definition="on_or_after", **WHOLE)
    kept = expected["customers"] * 0
    for customer in {c for c, _ in rows}:
        days = [day for c, day in rows if c == customer]
        born, lost = (index.index(first_day(day, period)) for day in (min(days), max(days)))
        kept[born, : lost - born + 1] += 1
    np.testing.assert_array_equal(later.to_numpy()[seen], kept[seen])
    assert (later.diff(axis=1).iloc[:, 1:].fillna(0) <= 0).all().all(), "who is not lost later is not lost earlier"
    assert (later.fillna(0) >= whole.fillna(0)).all().all()


def test_a_triangle_adds_up_to_the_states_and_the_log():
    triangle = lifecycle.cohorts("complete_journey", "M")
    states = lifecycle.states("complete_journey", "M")
    cohort, age = np.indices(triangle.shape)
    cells = np.nan_to_num(triangle.to_numpy())
    assert [cells[cohort + age == i].sum() for i in range(len(states))] == states["active"].to_list()
    assert triangle[0].to_list() == states["new"].to_list()
    revenue = lifecycle.cohorts("complete_journey", "M", "revenue").sum().sum()
    assert revenue == pytest.approx(4596039.58)


def test_groups_are_triangles_of_their_own_that_add_up():
    log = TOY.assign(shop=["x", "y", "x", "y", "x", "y", "y", "x", None])
    whole = lifecycle.cohorts(log, "M", "revenue")
    parts = lifecycle.cohorts(log, "M", "revenue", by="shop")
    assert parts.index.names == ["shop", "cohort", "left_truncated"]
    pd.testing.assert_frame_equal(parts.groupby(level=["cohort", "left_truncated"]).sum(min_count=3), whole)
    counts = lifecycle.cohorts(log, "M", by="shop")
    assert rows_of(counts.loc["x"])[0] == [1, 1, 0, 1], "a belongs to x, where the first purchase was"
    assert rows_of(counts.loc["y"])[0] == [1, 0, 1, 0]
    assert counts.xs("2024-04-01", level="cohort")[0].to_list() == [0, 0, 1], "customers without a shop are a group"
    two = TOY.assign(shop=["z", "y", "x", "y", "x", "y", "y", "x", "x"])
    two = pd.concat([two, two[:1].assign(shop="b")])
    assert lifecycle.cohorts(two, "M", by="shop").loc["b"][0].to_list() == [1, 0, 0, 0], "the smallest of the first day"
    amounts = lifecycle.cohorts(TOY, "M", "revenue", by="amount")
    assert amounts.sum().sum() == TOY["amount"].sum()


def test_immature_cells_and_incomplete_periods_are_missing():
    triangle = lifecycle.cohorts(TOY, "M", observation_end="2024-04-29")
    assert rows_of(triangle) == [[2, 1, 1], [1, 0], [0], []]
    longer = lifecycle.cohorts(TOY, "M", observation_end="2024-05-31")
    assert rows_of(longer)[3] == [1, 0]


def test_retention_pools_mature_cohorts_only():
    curve = lifecycle.retention(TOY, "M", **WHOLE)
    assert curve.index.name == "age"
    assert curve["customers"].to_list() == [4, 1, 1, 1]
    assert curve["of"].to_list() == [4, 3, 3, 2], "d cannot have come back yet, nor c after three months"
    assert curve["cohorts"].to_list() == [3, 2, 2, 1]
    share, low, high = wilson([1, 1, 1], [3, 3, 2])
    np.testing.assert_allclose(curve[["retention", "low", "high"]].iloc[1:], np.stack([share, low, high], axis=1))
    truncated = lifecycle.retention(TOY, "M")
    assert truncated["of"].to_list() == [2, 1, 1], "the first cohort may be older than it looks"


def test_retention_or_later_never_rises_within_the_same_customers():
    curve = lifecycle.retention("cdnow", "Q", "on_or_after", **WHOLE)
    assert (curve["retention"].diff().iloc[1:] <= 0).all()
    exact = lifecycle.retention("cdnow", "Q", **WHOLE)
    assert (curve["retention"] >= exact["retention"]).all()
    assert curve["retention"].iloc[-1] == exact["retention"].iloc[-1], "at the right edge both say the same"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"measure": "profit"}, "measure must be one of customers, orders, revenue, not 'profit'"),
        ({"definition": "after"}, r"definition must be one of on \(buys in that period\), on_or_after"),
        ({"measure": "orders", "definition": "on_or_after"}, "orders are counted with 'on'"),
        ({"period": "D"}, "period must be one of W"),
        ({"by": "country"}, "no column country"),
    ],
)
def test_impossible_options_are_refused_in_words(options, words):
    with pytest.raises(DataError, match=words):
        lifecycle.cohorts(TOY, **options)


def test_one_customer_one_period_and_the_29th_of_february():
    one = pd.DataFrame({"customer_id": ["a", "a"], "date": [datetime.date(2024, 2, 29), datetime.date(2025, 2, 28)]})
    triangle = lifecycle.cohorts(one, "Y", observation_end="2025-12-31", **WHOLE)
    assert rows_of(triangle) == [[1, 1], [0]]
    assert rows_of(lifecycle.cohorts(one, "M"))[0] == [1.0] + [0.0] * 11 + [1.0]
    assert rows_of(lifecycle.cohorts(one[:1], "M")) == [[1]]
    with pytest.raises(DataError, match="no complete cohort"):
        lifecycle.retention(one[:1], "M")
    with pytest.raises(DataError, match="no column amount"):
        lifecycle.cohorts(one, "M", "revenue")


def test_a_time_at_midnight_belongs_to_the_day_that_begins():
    log = pd.DataFrame({"customer_id": 1, "date": pd.to_datetime(["2024-01-31 23:59:59", "2024-02-01 00:00:00"])})
    assert rows_of(lifecycle.cohorts(log, "M", observation_end="2024-02-29")) == [[1, 1], [0]]
    aware = log.assign(date=log["date"].dt.tz_localize("America/New_York"))
    assert rows_of(lifecycle.cohorts(aware, "M", observation_end="2024-02-29")) == [[1, 1], [0]], (
        "local wall time counts"
    )


@pytest.mark.parametrize("measure", ["customers", "orders", "revenue"])
def test_the_same_triangle_on_polars(measure):
    log = data.open_dataset("cdnow_sample").select("customer_id", "date", "amount").to_pandas()
    polars = ibis.polars.connect().create_table("log", log)
    tables = [lifecycle.cohorts(engine, "Q", measure) for engine in (polars, log)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-9)
