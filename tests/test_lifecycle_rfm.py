import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data, lifecycle
from crmlab.data import DataError
from tests.test_lifecycle_activity import TOY


def scores_by_loop(values, n, bigger_is_better=True):
    """1 + floor(n B / N), where B of N customers have a worse value."""
    worse = [sum((other < value) if bigger_is_better else (other > value) for other in values) for value in values]
    return [1 + n * b // len(values) for b in worse]


def test_scores_of_a_hand_worked_log():
    table = lifecycle.rfm(TOY, 4).to_pandas().set_index("customer_id").sort_index()
    assert list(table.columns) == ["recency", "frequency", "monetary", "r", "f", "m", "rfm"]
    assert table["recency"].to_list() == [27, 60, 61, 0]
    assert table["frequency"].to_list() == [4, 2, 1, 1], "two orders on a day are one purchase"
    assert table["monetary"].to_list() == [38, 11, 7, 8]
    assert table["rfm"].to_list() == ["344", "233", "111", "412"]
    assert table["f"].to_list() == [4, 3, 1, 1], "equal values get equal scores"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.dates(pd.Timestamp("2024-01-01").date(), pd.Timestamp("2024-03-31").date())),
        min_size=1,
        max_size=60,
    ),
    st.integers(2, 12),
    st.integers(0, 100),
)
def test_scores_follow_the_tie_rule_and_ignore_row_order_and_type_of_ids(rows, n, seed):
    log = pd.DataFrame(rows, columns=["customer_id", "date"])
    log["amount"] = np.random.default_rng(seed).choice([0.1, 0.2, 0.7, -3.3], len(log))
    table = lifecycle.rfm(log, n).to_pandas().sort_values("customer_id", ignore_index=True)
    for value, score, up in (("recency", "r", False), ("frequency", "f", True), ("monetary", "m", True)):
        assert table[score].to_list() == scores_by_loop(table[value].to_list(), n, up)
    other = log.assign(customer_id="c" + log["customer_id"].astype(str).str.zfill(3)).sample(frac=1, random_state=seed)
    again = lifecycle.rfm(other, n).to_pandas().sort_values("customer_id", ignore_index=True)
    pd.testing.assert_frame_equal(again.drop(columns="customer_id"), table.drop(columns="customer_id"))


def test_scores_without_ties_have_equal_sizes():
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(range(1003), unit="D")
    log = pd.DataFrame({"customer_id": range(1003), "date": days, "amount": np.arange(1003) ** 1.5})
    table = lifecycle.rfm(log, 5).to_pandas()
    for score in ("r", "m"):
        assert table[score].value_counts().max() - table[score].value_counts().min() <= 1
        assert sorted(table[score].unique()) == [1, 2, 3, 4, 5]
    assert table["f"].eq(1).all(), "ties everywhere: nobody is better than anybody"


def test_cdnow_scores_are_monotone_and_one_time_buyers_equal():
    table = lifecycle.rfm("cdnow").to_pandas()
    assert len(table) == 23570
    assert table.loc[table["frequency"] == 1, "f"].eq(1).all()
    for value, score in (("frequency", "f"), ("monetary", "m")):
        assert (table.groupby(score)[value].min().iloc[1:] > table.groupby(score)[value].max().shift().iloc[1:]).all()
    assert table["m"].value_counts(normalize=True).between(0.19, 0.21).all()


def test_the_day_of_reference_may_be_earlier_and_amounts_may_be_missing():
    table = lifecycle.rfm(TOY.drop(columns="amount"), 3, observation_end="2024-03-31").to_pandas()
    assert list(table.columns) == ["customer_id", "recency", "frequency", "r", "f", "rfm"]
    assert sorted(table["customer_id"]) == ["a", "b", "c"]
    assert lifecycle.rfm(TOY, 10).to_pandas().set_index("customer_id").loc["a", "rfm"] == "6-8-8"


def test_one_customer_has_score_one():
    assert lifecycle.rfm(TOY[:1]).to_pandas()["rfm"].to_list() == ["111"]


@pytest.mark.parametrize("n", [1, 2.0, True, "5"])
def test_impossible_numbers_of_scores_are_refused(n):
    with pytest.raises(DataError, match="n is the number of scores"):
        lifecycle.rfm(TOY, n)


def test_the_same_scores_on_polars():
    log = data.open_dataset("cdnow_sample").select("customer_id", "date", "amount").to_pandas()
    polars = ibis.polars.connect().create_table("log", log)
    tables = [lifecycle.rfm(e).to_pandas().sort_values("customer_id", ignore_index=True) for e in (polars, log)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, rtol=1e-9)
