"""Association rules: exact counts, whole-number thresholds, the later period, engines, hostile baskets."""

import itertools
import subprocess
import sys
from fractions import Fraction

import ibis
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.market import baskets, rules

BASKETS = st.lists(st.sets(st.integers(0, 6), max_size=5), min_size=1, max_size=30)


def frame(contents, **columns):
    """Lines of baskets; an empty one is a line without an item."""
    rows = [(f"b{i}", item) for i, items in enumerate(contents) for item in (sorted(items) or [None])]
    return pd.DataFrame(rows, columns=["order_id", "product_id"]).assign(**columns)


def dated(contents, days):
    """Baskets with a customer and a day each."""
    lines = frame(contents)
    place = lines["order_id"].str[1:].astype(int)
    return lines.assign(customer_id="c", date=pd.to_datetime(pd.Series(days)[place].to_numpy()))


def by_hand(contents, least, confidence, max_len):
    """Every rule with one consequent, by looking at every basket."""
    sets = [frozenset(map(str, items)) for items in contents]
    items = sorted(set().union(*sets))
    found = {}
    for size in range(2, max_len + 1):
        for members in map(frozenset, itertools.combinations(items, size)):
            both = sum(members <= s for s in sets)
            for c in members:
                of = sum(members - {c} <= s for s in sets)
                if both >= least and both and Fraction(both, of) >= confidence:
                    found[members - {c}, c] = (both, of)
    return found


def as_found(table):
    sides = [a if isinstance(a, tuple) else (a,) for a in table["antecedent"]]
    text = [str(v) for v in table["consequent"]]
    return {
        (frozenset(map(str, a)), c): (n, of)
        for a, c, n, of in zip(sides, text, table["count"], table["of"], strict=True)
    }


@settings(deadline=None, max_examples=40)
@given(BASKETS, st.sampled_from(["0", "0.1", "0.25", "0.5"]), st.sampled_from(["0", "0.5", "0.8", "1"]))
def test_the_rules_of_two_items_are_all_rules_and_no_others(contents, support, confidence):
    if not any(contents):
        return
    contents = [{f"i{v}" for v in items} for items in contents]
    found = rules(frame(contents), support=support, confidence=confidence)
    least = baskets.least(Fraction(support), len(contents))
    assert as_found(found.table) == by_hand(contents, least, Fraction(confidence), 2)
    assert found.facts["baskets"] == len(contents)
    assert found.facts["lines_without_item"] == sum(not items for items in contents)


@settings(deadline=None, max_examples=20)
@given(BASKETS, st.sampled_from(["0.1", "0.25"]), st.sampled_from(["0", "0.5", "0.8"]))
def test_longer_rules_are_all_rules_and_no_others(contents, support, confidence):
    contents = [{f"i{v}" for v in items} for items in contents]
    if not any(contents):
        return
    found = rules(frame(contents), support=support, confidence=confidence, max_len=4)
    least = baskets.least(Fraction(support), len(contents))
    assert as_found(found.table) == by_hand(contents, least, Fraction(confidence), 4)


@settings(deadline=None, max_examples=25)
@given(BASKETS, BASKETS, st.sampled_from([2, 3]))
def test_what_the_rules_did_later_is_what_one_counts_in_the_later_baskets(before, after, max_len):
    contents = [{f"i{v}" for v in items} for items in [*before, *after]]
    if not any(contents[: len(before)]) or not any(contents[len(before) :]):
        return
    days = ["2024-01-01"] * len(before) + ["2024-02-01"] * len(after)
    found = rules(dated(contents, days), "2024-01-31", support=0, confidence=0, max_len=max_len)
    later = contents[len(before) :]
    assert found.facts["later_baskets"] == len(later)
    sold = pd.Series([v for items in contents[: len(before)] for v in items]).value_counts()
    for row in found.table.itertuples():
        a = set(row.antecedent) if max_len > 2 else {row.antecedent}
        of = [items for items in later if a <= items]
        assert row.later_of == len(of)
        assert row.later_count == sum(row.consequent in items for items in of)
        assert row.later_popularity == pytest.approx(np.mean([row.consequent in items for items in later]))
        assert row.still_sold == all(any(v in items for items in later) for v in [*a, row.consequent])
        best = sold.drop(list(a))
        best = sorted(best.index[best == best.max()])[0]
        if of:
            assert row.later_bestseller == pytest.approx(np.mean([best in items for items in of]))


def test_measures_and_fishers_test_by_hand():
    contents = [{"a", "b"}] * 6 + [{"a"}] * 2 + [{"b"}] * 4 + [{"c"}] * 8
    row = rules(frame(contents), confidence=0.7).table.set_index("antecedent").loc["a"]
    assert (row["count"], row["of"], row["support"], row["confidence"]) == (6, 8, 0.3, 0.75)
    assert row["lift"] == pytest.approx(0.75 / 0.5)
    assert [row["low"], row["high"]] == pytest.approx([float(v) for v in wilson(6, 8)[1:]])
    assert row["p_value"] == pytest.approx(fisher_exact([[6, 2], [4, 8]], alternative="greater").pvalue)
    assert row["p_adjusted"] == pytest.approx(3 * row["p_value"]), "three items make three pairs"


def test_a_rule_exactly_at_a_threshold_counts():
    contents = [{"a", "b"}] * 4 + [{"a"}] + [set()] * 5
    assert len(rules(frame(contents), support=0.4, confidence=0.8).table) == 2
    assert len(rules(frame(contents), support="0.4000001", confidence=0.8).table) == 0
    assert as_found(rules(frame(contents), support=0.4, confidence="0.8000001").table) == {
        (frozenset("b"), "a"): (4, 4)
    }


def test_a_confidence_of_many_digits_is_compared_exactly():
    contents = [{"a", "b"}] * 1000 + [{"a"}] * 2000
    assert as_found(rules(frame(contents), confidence=1 / 3).table)[frozenset("a"), "b"] == (1000, 3000)
    assert (frozenset("a"), "b") not in as_found(rules(frame(contents), confidence="0.33333333333333334").table)


def test_of_items_without_any_relation_hardly_any_rule_is_significant():
    rng = np.random.default_rng(1)
    contents = [{f"i{v}" for v in np.flatnonzero(rng.random(40) < 0.15)} for _ in range(600)]
    found = rules(frame(contents), support=0.01, confidence=0)
    raw = (found.table["p_value"] < 0.05).sum()
    assert raw > 20, "many pairs look related when 780 are tried"
    assert found.facts["significant"] == 0


def test_the_engine_and_the_matrix_count_the_same(monkeypatch):
    rng = np.random.default_rng(2)
    contents = [{f"i{v}" for v in rng.integers(0, 30, rng.integers(0, 9))} for _ in range(400)]
    days = np.where(np.arange(400) < 250, "2024-01-01", "2024-02-01")
    log, end = dated(contents, days), "2024-01-31"
    options = {"support": 0.01, "confidence": 0.1, "top_items": 20, "max_basket": 6}
    memory = rules(log, end, **options)
    assert memory.facts["set_aside"] > 0
    monkeypatch.setattr(baskets, "LINES", 10)
    for table in (log, ibis.polars.connect({"log": pl.from_pandas(log)}).table("log")):
        engine = rules(table, end, **options)
        pd.testing.assert_frame_equal(memory.table, engine.table, check_dtype=False)
        pd.testing.assert_series_equal(memory.facts, engine.facts)
    with pytest.raises(DataError, match="max_len=2"):
        rules(log, end, max_len=3)


@pytest.mark.parametrize("lines", [10, 10_000])
def test_polars_gives_the_same_by_either_way(monkeypatch, lines):
    monkeypatch.setattr(baskets, "LINES", lines)
    log = frame([{"a", "b"}, {"a", "b", "c"}, {"c"}, {"b"}] * 5)
    polars = rules(ibis.polars.connect({"log": pl.from_pandas(log)}).table("log")).table
    pd.testing.assert_frame_equal(polars, rules(log).table, check_dtype=False)


def test_a_giant_basket_is_set_aside_and_counted():
    contents = [{"a", "b"}] * 5 + [{f"i{v}" for v in range(3000)}]
    found = rules(frame(contents))
    assert (found.facts["set_aside"], found.facts["baskets"], len(found.table)) == (1, 5, 2)


def test_an_item_in_every_basket_has_lift_one():
    contents = [{"bag", f"i{v % 3}"} for v in range(30)]
    table = rules(frame(contents)).table
    assert (table["lift"] == 1).all()
    assert (table["p_value"] == 1).all()


def test_lines_that_repeat_an_item_count_once():
    log = frame([{"a", "b"}, {"a"}])
    twice = pd.concat([log, log, log])
    pd.testing.assert_frame_equal(rules(log).table, rules(twice).table)


def test_ids_that_look_like_formulas_stay_what_they_are():
    odd = ["=1+1", "@SUM(A1)", "-2", "商品 💥", "a" * 300]
    table = rules(frame([set(odd)] * 3)).table
    assert set(table["antecedent"]) == set(odd)


def test_numbers_as_items_stay_numbers():
    log = pd.DataFrame({"order_id": [1, 1, 2, 2, 10**15], "product_id": [5, 7, 5, 7, -3]})
    assert sorted(rules(log).table["antecedent"]) == [5, 7]


def test_without_orders_a_customers_day_is_the_basket_and_a_customer_can_be_one():
    log = pd.DataFrame(
        {
            "customer_id": ["x", "x", "x", "y", "y"],
            "date": ["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-01", "2024-01-05"],
            "product_id": list("abcac"),
        }
    )
    daily = rules(log).table
    assert as_found(daily) == {(frozenset("a"), "b"): (1, 2), (frozenset("b"), "a"): (1, 1)}
    whole = rules(log, basket="customer_id").table
    assert as_found(whole)[frozenset("a"), "c"] == (2, 2)


def test_one_item_makes_no_rules_and_no_error():
    assert rules(frame([{"a"}, {"a"}])).table.empty
    assert rules(frame([{"a"}, {"a"}]), max_len=3).table.empty
    found = rules(dated([{"a"}, {"a"}], ["2024-01-01", "2024-03-01"]), "2024-02-01")
    assert found.table.empty
    assert found.facts["later_baskets"] == 1


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, {"support": 1.5}, "support must be a share"),
        ({}, {"confidence": "many"}, "confidence must be a share"),
        ({}, {"max_len": 1}, "max_len must be a whole number of at least 2"),
        ({}, {"item": "sku"}, "no column sku"),
        ({}, {"train_end": "2024-06-01"}, "There is no later period"),
        ({}, {"train_end": "2023-06-01"}, "There is no earlier period"),
        ({}, {"train_end": "soon"}, "train_end must be a date"),
        ({"order_id": [None, "b1", "b2"]}, {}, "1 have no order_id"),
        ({"product_id": [None, None, None]}, {}, "none of them has product_id"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(change, options, says):
    log = dated([{"a"}, {"b"}, {"a"}], ["2024-01-01", "2024-01-02", "2024-01-03"]).assign(**change)
    with pytest.raises(DataError, match=says):
        rules(log, **options)


def test_longer_rules_leave_the_warnings_of_the_program_alone():
    code = (
        "import warnings, pandas as pd; from crmlab.market import rules; "
        "log = pd.DataFrame({'order_id': [1, 1, 1, 2, 2], 'product_id': list('abcab')}); "
        "rules(log); before = list(warnings.filters); rules(log, max_len=3); "
        "import mlxtend; assert warnings.filters == before"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
