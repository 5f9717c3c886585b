import ibis
import numpy as np
import pandas as pd
import pytest
from ibis import _

from crmlab import data
from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle import front_page, key_customers

# Ten customers; a buys the same every time, b buys often but of one category, c everything, n0 to n6 come twice.
PURCHASES = {
    "a": [(1, "milk", "food"), (11, "milk", "food"), (21, "milk", "food"), (31, "milk", "food")],
    "b": [(2, "salt", "food"), (12, "rice", "food"), (22, "oil", "food"), (32, "tea", "food")],
    "c": [(3, "milk", "food"), (13, "book", "print"), (23, "pen", "desk"), (33, "toy", "play")],
    "n0": [(40, "milk", "food"), (50, "book", "print")],
    **{f"n{i}": [(40 + i, "milk", "food"), (50 + i, "book", "print"), (50 + i, "pen", "desk")] for i in range(1, 7)},
}
LOG = pd.DataFrame(
    [
        (customer, pd.Timestamp("2024-01-01") + pd.Timedelta(days=day), product, category)
        for customer, rows in PURCHASES.items()
        for day, product, category in rows
    ],
    columns=["customer_id", "date", "product_id", "category"],
)
VALUES = pd.DataFrame(
    {
        "customer_id": list(PURCHASES),
        "value": [90.0, 10, 80] + [5.0] * 5 + [70, 60],
        "p_alive": [0.3, 0.9, 0.9] + [0.5] * 7,
        "p_alive_before": [0.8, 0.9, 0.95] + [0.9] * 7,
    }
)


def listed(found, kind):
    return sorted(found.members.filter(_[kind]).to_pandas()["customer_id"])


def test_the_four_kinds_by_hand():
    found = key_customers(LOG, VALUES, top=0.3)
    # Value: 3 of 10 are at or above 67; half came first at most 14.5 days ago.
    assert listed(found, "potential") == ["n5"]
    assert listed(found, "keep") == ["a", "n5"], "c fell by .05 only"
    assert listed(found, "same_product") == ["a"], "nobody else ever bought a product again"
    # All have bought on two days or more, the median; three reach at most half of the four categories.
    assert listed(found, "more_needs") == ["a", "b", "n0"]
    assert found.rules["customers"].to_dict() == {"potential": 1, "more_needs": 3, "same_product": 1, "keep": 2}
    assert found.rules.loc["keep", ["share", "low", "high"]].tolist() == pytest.approx([*map(float, wilson(2, 10))])
    assert found.overlap.loc[("same_product", "keep"), ["customers", "jaccard", "lift"]].tolist() == [1, 0.5, 5]
    assert found.overlap.loc[("potential", "more_needs"), "customers"] == 0
    assert found.combinations.to_dict() == {
        "none": 6, "more_needs": 2, "more_needs + same_product + keep": 1, "potential + keep": 1
    }  # fmt: skip
    assert found.combinations.sum() == 10


def test_loyalty_is_kept_of_those_who_were_valuable_before():
    # Who falls silent is worth little now: n0 was the most valuable but one, c is not falling.
    before = VALUES.assign(value_before=[95.0, 10, 90, 93] + [5.0] * 6)
    found = key_customers(LOG, before, top=0.3)
    assert listed(found, "keep") == ["a", "n0"]
    assert found.rules.loc["keep", "rule"].startswith("value before ≥ ")
    assert listed(found, "potential") == ["n5"], "the value now, as without"


def test_a_short_history_in_days():
    # n5 came first 11 days ago; a and c, valuable too, came 55 and 53 days ago.
    lists = {days: listed(key_customers(LOG, VALUES, top=0.3, new=days), "potential") for days in (10, 11, 54)}
    assert lists == {10: [], 11: ["n5"], 54: ["c", "n5"]}
    with pytest.raises(DataError, match="days since the first purchase"):
        key_customers(LOG, VALUES, new=-1)


def test_repeats_count_days_not_rows():
    twice_a_day = pd.concat([LOG, LOG[LOG["customer_id"] == "c"]])
    assert listed(key_customers(twice_a_day), "same_product") == ["a"]
    measures = key_customers(LOG).members.to_pandas().set_index("customer_id")
    assert measures.loc[["a", "b", "c"], "repeats"].tolist() == [0.75, 0, 0]
    assert measures.loc[["a", "b", "c"], "breadth"].tolist() == [0.25, 0.25, 1]
    assert measures.loc["a", ["purchases", "tenure"]].tolist() == [4, 55]


def test_order_of_rows_and_kind_of_names_do_not_matter():
    found = key_customers(LOG, VALUES)
    numbers = {c: i for i, c in enumerate(PURCHASES)}
    other = LOG.assign(customer_id=LOG["customer_id"].map(numbers)).sample(frac=1, random_state=2)
    again = key_customers(ibis.memtable(other), VALUES.assign(customer_id=VALUES["customer_id"].map(numbers))[::-1])
    pd.testing.assert_frame_equal(again.rules, found.rules)
    pd.testing.assert_frame_equal(again.overlap, found.overlap)
    pd.testing.assert_series_equal(again.combinations, found.combinations)


def test_what_the_data_lack_is_named():
    rules = key_customers(LOG.drop(columns="category"), VALUES.drop(columns="p_alive_before")).rules
    assert rules.loc["more_needs", "rule"] == "not found: the log has no column 'category'"
    assert rules.loc["keep", "rule"] == "not found: the values have no column 'p_alive_before'"
    assert rules["customers"].isna().to_dict() == {
        "potential": False, "more_needs": True, "same_product": False, "keep": True
    }  # fmt: skip
    with pytest.raises(DataError, match="No kind of key customer can be found: the log has no column 'category'"):
        key_customers(LOG[["customer_id", "date"]])


def test_customers_without_a_value_are_of_no_kind_that_needs_one():
    found = key_customers(LOG, VALUES[VALUES["customer_id"] != "a"])
    assert "a" not in listed(found, "keep")
    assert found.combinations.sum() == 10
    indexed = key_customers(LOG, VALUES.set_index("customer_id"))
    assert indexed.rules["customers"].tolist() == key_customers(LOG, VALUES).rules["customers"].tolist()


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (VALUES, {"top": 20}, "top is a share between 0 and 1, not 20"),
        (VALUES.assign(customer_id=range(10)), {}, "customer_id is string in the log and int64 in the values"),
        (VALUES.assign(customer_id="stranger"), {}, "10 rows for 1 customers, of whom the log has 0"),
        (pd.concat([VALUES, VALUES]), {}, "20 rows for 10 customers"),
        (VALUES.rename(columns={"customer_id": "client"}), {}, "no column customer_id"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_words(values, options, words):
    with pytest.raises(DataError, match=words):
        key_customers(LOG, values, **options)


def test_a_hand_worked_front_page():
    segment = pd.Series({c: "new" if c.startswith("n") else "old" for c in PURCHASES})
    table = front_page(LOG, segment, minimum=1)
    # print: 7 of 7 new, 8 of all 10 customers; desk: 6 of 7, 7 of 10; play: 1 of 3 old ones, 1 of 10.
    assert table["category"].to_dict() == {("new", 1): "print", ("new", 2): "desk", ("old", 1): "play"}
    assert table.loc[("new", 1), ["buyers", "customers", "share", "lift"]].tolist() == [7, 7, 1.0, 1.25]
    assert table.loc[("old", 1), "lift"] == pytest.approx(10 / 3)
    assert table.loc[("new", 1), ["low", "high"]].tolist() == pytest.approx([float(v) for v in wilson(7, 7)][1:])
    only = front_page(LOG, segment, top=1, minimum=2)
    assert only["category"].tolist() == ["print"], "cells of one customer are not shown"


def test_customers_without_segment_are_a_segment_of_their_own():
    table = front_page(LOG, pd.Series({"c": "kept"}), minimum=1, top=1)
    assert table.index.tolist() == [("kept", 1)], "the others buy nothing more often than all"
    assert table["customers"].tolist() == [1]
    without = LOG.assign(category=LOG["category"].where(LOG["category"] != "desk"))
    gone = front_page(without, pd.Series({"c": "kept"}), minimum=1)
    assert "desk" not in set(gone["category"])


def test_a_front_page_of_nobody_is_refused_in_words():
    with pytest.raises(DataError, match="No customer of the log has a segment"):
        front_page(LOG, pd.Series({"stranger": "x"}))
    with pytest.raises(DataError, match="No category with 10 buyers"):
        front_page(LOG, pd.Series({"c": "kept"}))
    with pytest.raises(DataError, match="customer_id is string in the log and int64 in the segments"):
        front_page(LOG, pd.Series({1: "x"}))
    with pytest.raises(DataError, match="no column aisle"):
        front_page(LOG, pd.Series({"c": "x"}), category="aisle")


def test_a_grocer_finds_all_but_the_valued_kinds():
    products = data.open_dataset("complete_journey_products").select("product_id", category="department")
    log = data.open_dataset("complete_journey").join(products, "product_id")
    found = key_customers(log)
    assert found.combinations.sum() == 2469
    assert found.rules.loc["same_product", "customers"] == 494, "a fifth, ties included"
    homes = data.open_dataset("complete_journey_households").select("customer_id", segment="household_size")
    table = front_page(log, homes, top=3)
    assert table["buyers"].min() >= 10
    assert (table["lift"] > 1).all()
    assert np.array_equal(table["lift"], table["lift"].clip(table["lift_low"], table["lift_high"]))
