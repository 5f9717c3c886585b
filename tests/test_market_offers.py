"""Offers to customers: the recommender, the two-step rule by price tier, the profile rule by the child's age."""

import ibis
import numpy as np
import pandas as pd
import polars as pl
import pytest

from crmlab import data
from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.market import profile_rule, recommend, standard_options, two_step_rules

END = "2024-01-31"


def log(first, later, **columns):
    """A log from what each customer bought in the first period and later."""
    rows = [(c, "2024-01-10", i) for c, items in first.items() for i in items.split()]
    rows += [(c, "2024-02-10", i) for c, items in later.items() for i in items.split()]
    return pd.DataFrame(rows, columns=["customer_id", "date", "product_id"]).assign(**columns)


def tastes(n=200, seed=0):
    """Customers of two tastes who buy some of the ten items of their own taste, again later, and new customers."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        items = rng.permutation(10) + 10 * (i % 2)
        for day, some in (("2024-01-10", items[:4]), ("2024-02-10", items[4:7])):
            if i < n * 0.8 or day > END:
                rows += [(i, day, f"i{v}") for v in some]
    return pd.DataFrame(rows, columns=["customer_id", "date", "product_id"])


def test_tastes_are_found_and_popularity_does_not_know_them():
    found = recommend(tastes(), END, k=5, factors=2)
    for method in ("co-occurrence", "factors"):
        score = found.scores.loc[method, "known"]
        assert score["gain_low"] > 0.02
        assert score["precision"] > 0.4
        taste = found.lists[found.lists["method"] == method]
        same = taste["item"].str[1:].astype(int) // 10 == taste["customer_id"] % 2
        assert same.mean() > 0.99


def test_the_scores_are_those_of_the_lists():
    table = tastes()
    found = recommend(table, END, k=5, factors=2)
    later = table[table["date"] > END].groupby("customer_id")["product_id"].agg(set)
    before = table[table["date"] <= END].groupby("customer_id")["product_id"].agg(set)
    best = table[table["date"] <= END]["product_id"].value_counts()
    best = sorted(best.index, key=lambda i: (-best[i], i))[:5]
    for method, part in found.lists.groupby("method"):
        lists = part.groupby("customer_id")["item"].agg(list)
        assert part.groupby("customer_id")["rank"].agg(list).map(lambda r: r == [1, 2, 3, 4, 5]).all()
        assert all(not before[c] & set(items) for c, items in lists.items()), "bought already"
        known = [len(set(lists[c]) & later[c]) for c in later.index if c in lists]
        cold = [len(set(best) & later[c]) for c in later.index if c not in lists]
        for group, hits in {"known": known, "cold": cold, "all": known + cold}.items():
            score = found.scores.loc[method, group]
            n, right = len(hits), sum(h > 0 for h in hits)
            assert (score["of"], score["hits"]) == (n, right)
            assert score["precision"] == pytest.approx(sum(hits) / (5 * n))
            assert [score["low"], score["high"]] == pytest.approx([float(v) for v in wilson(right, n)[1:]])
        assert found.coverage[method] == part["item"].nunique() / 20
    assert (found.facts["later_customers"], found.facts["cold"]) == (200, 40)


def test_co_occurrence_by_hand():
    first = {"a": "x y", "b": "x y", "c": "x z", "d": "x", "e": "z w"}
    found = recommend(log(first, {"d": "y"}), END, k=3, methods=["co-occurrence"])
    ranked = found.lists.query("customer_id == 'd'")["item"].tolist()
    # Cosines with x (4 buyers): y 2/√8 = .71, z 1/√8 = .35, w 0.
    assert ranked == ["y", "z", "w"]


def test_recommendations_do_not_depend_on_the_order_of_the_rows_or_the_engine():
    table = tastes(60)
    first = recommend(table, END, k=4, factors=3).lists
    order = ["customer_id", "method", "rank"]
    shuffled = recommend(table.sample(frac=1, random_state=3), END, k=4, methods=["co-occurrence", "popularity"]).lists
    kept = first[first["method"] != "factors"]
    pd.testing.assert_frame_equal(
        *(t.sort_values(order, ignore_index=True) for t in (kept, shuffled)), check_dtype=False
    )
    polars = ibis.polars.connect({"log": pl.from_pandas(table.assign(date=pd.to_datetime(table["date"])))}).table("log")
    there = recommend(polars, END, k=4, methods=["co-occurrence", "popularity"]).scores
    here = recommend(table, END, k=4, methods=["co-occurrence", "popularity"]).scores
    pd.testing.assert_frame_equal(here, there)


def test_without_a_later_period_there_are_lists_and_no_scores():
    found = recommend(tastes(), k=3, factors=2)
    assert found.scores is None
    assert found.lists["customer_id"].nunique() == 200


def test_who_bought_everything_gets_nothing_and_one_customer_is_enough():
    found = recommend(log({"a": "x y"}, {"a": "x"}), END, k=5)
    assert found.lists.empty
    assert found.scores.loc[("popularity", "all"), ["of", "hits"]].tolist() == [1, 0]
    assert np.isnan(found.scores.loc[("popularity", "all"), "precision"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train_end": "2025-01-01"}, "no later period"),
        ({"methods": ["magic"]}, "methods must be some of co-occurrence, factors, popularity"),
        ({"k": 0}, "k must be a whole number"),
        ({"item": "sku"}, "no column sku"),
        ({"top_items": 1}, "one item only"),
    ],
)
def test_recommendations_that_cannot_be_made_are_refused(options, says):
    with pytest.raises(DataError, match=says):
        recommend(tastes(20), **options)


def priced(n=120, classes=True, seed=0):
    """Rich and poor customers; with classes they buy dear and cheap goods of every category, else anything."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        dear = (i % 2 == 1) if classes else rng.random(6) < 0.5
        kinds = np.where(dear, "dear", "cheap") if not classes else np.repeat("dear" if dear else "cheap", 6)
        for c in rng.permutation(6)[:5]:
            day = "2024-01-10" if rng.random() < 0.6 else "2024-02-10"
            base = 10.0 * (c + 1)
            rows.append((i, day, f"{kinds[c]} {c}", f"category {c}", base * (3 if kinds[c] == "dear" else 1)))
    return pd.DataFrame(rows, columns=["customer_id", "date", "product_id", "category", "amount"]).assign(quantity=1)


def test_classes_of_customers_are_found_where_there_are_classes():
    found = two_step_rules(priced(), END, category="category", tiers=2, k=2, smallest=5)
    assert found.scores.loc["two steps", "gain_low"] > 0
    assert set(found.table.query("tier == 1")["item"].str.split().str[0]) == {"cheap"}
    assert set(found.table.query("tier == 2")["item"].str.split().str[0]) == {"dear"}
    assert found.tiers.loc[1, "highest"] < found.tiers.loc[2, "lowest"]
    none = two_step_rules(priced(classes=False), END, category="category", tiers=2, k=2, smallest=5)
    assert none.scores.loc["two steps", "gain_low"] < 0


def test_prices_are_compared_within_the_category():
    table = pd.DataFrame(
        [
            ("a", "2024-01-01", "gold pen", "pen", 3.0),
            ("b", "2024-01-01", "plain pen", "pen", 1.0),
            ("c", "2024-01-01", "plain car", "car", 10_000.0),
            ("d", "2024-01-01", "gold car", "car", 30_000.0),
            ("a", "2024-02-01", "gold car", "car", 30_000.0),
        ],
        columns=["customer_id", "date", "product_id", "category", "amount"],
    ).assign(quantity=1)
    by = two_step_rules(table, END, category="category", tiers=2, k=1, smallest=1)
    assert by.table.groupby("tier")["item"].agg(list).str[0].str.split().str[0].tolist() == ["plain", "gold"]
    assert by.tiers["median"].tolist() == [0.5, 1.5]
    alone = two_step_rules(table, END, tiers=2, k=1, smallest=1)
    assert alone.tiers.loc[2, "lowest"] > 1


def test_returns_and_gifts_set_no_price():
    table = priced()
    extra = pd.DataFrame([("x", "2024-01-05", "dear 0", "category 0", 0.0, 1)], columns=table.columns)
    found = two_step_rules(pd.concat([table, extra]), END, category="category", smallest=5)
    assert found.facts["without_price"] == 0, "the gift has a price of its own elsewhere"
    odd = extra.assign(product_id="never sold")
    assert two_step_rules(pd.concat([table, odd]), END, category="category", smallest=5).facts["without_price"] == 1


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, {"train_end": "2024-12-31"}, "no later period"),
        ({}, {"tiers": 1}, "tiers must be a whole number of at least 2"),
        ({}, {"tiers": 100}, "too few for 100 tiers"),
        ({}, {"category": "kind"}, "no column kind"),
        ({"amount": np.nan}, {}, "no amount"),
        ({"quantity": 0}, {}, "0 customers bought at a price"),
    ],
)
def test_tiers_that_cannot_be_made_are_refused(change, options, says):
    with pytest.raises(DataError, match=says):
        two_step_rules(priced().assign(**change), **{"train_end": END} | options)


def births(n=40):
    days = pd.Timestamp("2022-01-15") + pd.to_timedelta(np.arange(n) * 20, unit="D")
    return pd.DataFrame({"customer_id": range(n), "birth_date": days})


def family(n=40):
    """Parents who buy bottles in the first year and shoes after it."""
    days = pd.to_datetime(["2023-06-01", "2024-03-01"] * n)
    table = pd.DataFrame({"customer_id": np.repeat(np.arange(n), 2), "date": days}).merge(births(n))
    age = (table["date"] - table["birth_date"]).dt.days / 30.44
    table["category"] = np.select([age < 0, age < 12], ["wipes", "bottle"], "shoe")
    return table.drop(columns="birth_date")


def test_a_profile_that_rules_is_learned_and_holds_later():
    found = profile_rule(family(), births(), END, bands=[0, 12], smallest=3)
    assert found.table["offered"].tolist()[:3] == ["wipes", "bottle", "shoe"]
    assert found.table.loc["all", "precision"] > 0.9
    assert found.table.loc["all", "gain_low"] > 0
    assert found.facts["p_value"] < 1e-6
    assert found.table.loc["all", "of"] == found.table["of"].iloc[:-1].sum()


def test_every_order_is_used_or_counted_as_set_aside():
    odd = pd.DataFrame({"customer_id": [0, 1, 999], "date": pd.Timestamp("2040-01-01"), "category": "shoe"})
    found = profile_rule(pd.concat([family(), odd]), births(), END)
    facts = found.facts
    assert facts["orders"] == 83
    assert (facts["without_birthday"], facts["not_believed"]) == (1, 2)
    assert facts["train"] + facts["later"] == 80
    assert found.mix["count"].sum() == facts["train"]


def test_a_month_of_age_is_complete_on_its_day():
    babies = pd.DataFrame({"customer_id": ["a"], "birth_date": ["2024-01-31"]})
    days = ["2024-02-29", "2024-03-01", "2024-03-30", "2024-03-31", "2024-05-01"]
    orders = pd.DataFrame({"customer_id": "a", "date": days, "category": "x"})
    mix = profile_rule(orders, babies, "2024-04-30", bands=[0, 1, 2], smallest=1).mix["count"]
    assert mix.droplevel("category").to_dict() == {"0 to 1 months": 1, "1 to 2 months": 2, "from 2 months": 1}


def test_small_cells_are_not_shown():
    found = profile_rule(family(), births(), END, bands=[0, 6, 12, 18], smallest=10)
    shown = found.mix.drop(index="other", level="category")
    assert (shown["count"] >= 10).all()


@pytest.mark.parametrize(
    ("orders", "babies", "options", "says"),
    [
        (family(), births(), {"train_end": "2030-01-01"}, "0 later"),
        (family(), births(), {"bands": [12, 0]}, "bands must be growing"),
        (family(), pd.concat([births(), births()]), {}, "more than one row"),
        (family(), births().drop(columns="birth_date"), {}, "no column birth_date"),
        (family().assign(category=None), births(), {}, "no date or no category"),
    ],
)
def test_profiles_that_cannot_be_used_are_refused(orders, babies, options, says):
    with pytest.raises(DataError, match=says):
        profile_rule(orders, babies, **{"train_end": END} | options)


def test_infant_goods_differ_by_age_and_the_rule_gains_little_all_the_same():
    if not data.present("infant_goods"):
        pytest.skip("infant_goods has not been downloaded; `crmlab data get infant_goods` fetches it")
    found = profile_rule("infant_goods", "infant_goods_babies", "2014-06-30")
    assert found.facts["p_value"] < 1e-30
    assert found.table.loc["before birth", "gain_low"] > 0
    assert found.table.loc["all", "gain_high"] < 0.05


def orders(shares, n=400, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(i, option) for i in range(n) for option, p in shares.items() if rng.random() < p] + [(n, None)]
    return pd.DataFrame(rows, columns=["order_id", "product_id"])


def test_the_standard_model_is_the_one_that_costs_least():
    table = orders({"a": 0.9, "b": 0.55, "c": 0.3, "d": 0.05})
    found = standard_options(table, extra=3, waste=2)
    asked = pd.crosstab(table["order_id"], table["product_id"]).reindex(table["order_id"].unique(), fill_value=0)

    def cost(options):
        wanted = asked.columns.isin(list(options))
        return (3 * asked.loc[:, ~wanted]).sum().sum() + (2 * (1 - asked.loc[:, wanted])).sum().sum()

    models = [{o for o, bit in zip("abcd", f"{i:04b}", strict=True) if bit == "1"} for i in range(16)]
    assert set(found.table.index[found.table["standard"]]) == min(models, key=cost) == {"a", "b"}
    assert found.facts["orders"] == asked.shape[0]
    wanted = asked.columns.isin(["a", "b"])
    assert found.facts["changes"] == pytest.approx((asked != wanted).sum(axis=1).mean())
    assert found.facts["as_it_is"] == pytest.approx((asked == wanted).all(axis=1).mean())
    assert found.facts["saved"] == pytest.approx((cost(()) - cost({"a", "b"})) / asked.shape[0])


def test_a_locked_option_is_never_standard_and_few_orders_leave_it_unsure():
    table = orders({"a": 0.9, "pills": 0.95, "c": 0.5})
    found = standard_options(table, locked=["pills"])
    assert found.table["standard"].to_dict()["pills"] is False
    assert not found.table.loc["c", "sure"]
    with pytest.raises(DataError, match="'pils'"):
        standard_options(table, locked=["pils"])
    with pytest.raises(DataError, match="costs above 0"):
        standard_options(table, extra=0)
