import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle import cross, migration, profile, rule_segments, segment_numbers, segments


def clouds(n=60, apart=8.0, seed=0):
    """Three clouds of customers of which the first is the largest."""
    rng = np.random.default_rng(seed)
    centres = np.repeat([[0, 0], [apart, 0], [0, apart]], [2 * n, n, n // 2], axis=0)
    return pd.DataFrame(centres + rng.normal(size=centres.shape), columns=["visits", "spend"])


def test_clouds_are_found_and_stable_and_named_by_size():
    table = clouds()
    found = segments(table, ["visits", "spend"], k=3, n_boot=20)
    assert found.labels.value_counts().sort_index().to_dict() == {1: 120, 2: 60, 3: 30}
    assert found.labels.iloc[:120].eq(1).all()
    assert found.stability["mean"] == pytest.approx(1)


def test_segments_where_there_are_none_are_unstable():
    one_cloud = clouds(apart=0.0)
    stability = segments(one_cloud, ["visits", "spend"], k=5, n_boot=20).stability
    assert stability["low"] < stability["mean"] < 0.8
    assert stability["high"] > stability["mean"]


def test_the_number_of_segments_that_the_data_support():
    # A diamond: four groups by how the features go together, where each feature alone has three.
    rng = np.random.default_rng(4)
    centres = np.repeat([[0, 6], [6, 0], [0, -6], [-6, 0]], 40, axis=0)
    table = pd.DataFrame(centres + rng.normal(size=centres.shape), columns=["visits", "spend"])
    found = segment_numbers(table, ["visits", "spend"], [4, 6])
    assert found["p_value"].xs(4, level="segments").to_dict() == {"normal": 0.05, "own values": 0.05}
    assert found.loc[("normal", 4), "stability"] == pytest.approx(1, abs=0.02)
    assert found.loc[("own values", 6), "p_value"] > 0.05, "no better than three by three groups of single features"
    assert (found["low"] <= found["median"]).all()
    assert (found["median"] <= found["high"]).all()


def test_a_cloud_without_groups_supports_no_number():
    found = segment_numbers(clouds(apart=0.0), ["visits", "spend"], range(2, 5))
    assert (found["p_value"] > 0.05).all()
    assert found.index.get_level_values("segments").tolist() == [2, 3, 4] * 2


def test_groups_of_one_feature_are_told_from_groups_of_several():
    table = pd.DataFrame({"days": np.repeat([0.0, 4.0, 8.0], 40) + np.linspace(0, 1, 120)})
    found = segment_numbers(table, ["days"], [3])["p_value"].droplevel("segments")
    assert found.to_dict() == {"normal": 0.05, "own values": 1}


def test_the_test_of_numbers_does_not_depend_on_row_order_and_takes_features_that_say_the_same():
    table = clouds().assign(double=lambda d: 2 * d["visits"])
    plain = segment_numbers(table, list(table), [2], n_null=3)
    again = segment_numbers(table.sample(frac=1, random_state=3), list(table), [2], n_null=3)
    pd.testing.assert_frame_equal(plain, again)
    with pytest.raises(DataError, match="between 2 and the 210 different customers, not 211"):
        segment_numbers(table, ["visits", "spend"], [2, 211])


def test_customers_with_two_names_are_refused():
    table = clouds().set_index(pd.MultiIndex.from_product([["a", None], range(105)]))
    with pytest.raises(DataError, match="one row and a name"):
        segments(table, ["visits", "spend"], k=2)


def test_segments_do_not_depend_on_row_order_units_or_names_of_customers():
    table = clouds(apart=3.0)
    plain = segments(table, ["visits", "spend"], k=4, n_boot=3)
    scaled = table.assign(spend=table["spend"] * 1000 + 5).sample(frac=1, random_state=3)
    again = segments(scaled, ["visits", "spend"], k=4, n_boot=3)
    assert again.labels.sort_index().equals(plain.labels)
    assert again.stability.to_dict() == pytest.approx(plain.stability.to_dict())
    named = table.assign(customer_id=[f"c{i:03}" for i in range(len(table))])
    other = segments(ibis.memtable(named), ["visits", "spend"], k=4, n_boot=3)
    assert other.labels.index.name == "customer_id"
    assert other.labels.sort_index().tolist() == plain.labels.tolist()


def test_a_profile_describes_segments_by_hand():
    toy = pd.DataFrame({"orders": [1, 3, 8], "city": ["x", "y", "x"]}, index=["a", "b", "c"])
    table = profile(toy, pd.Series({"c": "many", "a": "few", "b": "few"}))
    assert table.loc[("few", "orders")].tolist() == pytest.approx([2, 2 - 1.959964, 2 + 1.959964, 4], rel=1e-6)
    assert table.loc[("few", "(share)")].tolist()[:3] == pytest.approx([float(v) for v in wilson(2, 3)])
    assert table.loc[("many", "orders"), ["low", "high"]].isna().all(), "one customer has no spread"
    with pytest.raises(DataError, match="1 customers of the table have no segment"):
        profile(toy, pd.Series({"a": 1, "b": 1}))


def test_the_first_rule_that_holds_counts():
    toy = pd.DataFrame({"customer_id": list("abc"), "orders": [1, 6, 9], "spend": [500, 10, 900]})
    rules = {"best": "orders > 5 and spend > 100", "often": "orders > 5"}
    assert rule_segments(toy, rules).to_dict() == {"a": "other", "b": "often", "c": "best"}
    assert rule_segments(toy, dict(reversed(rules.items())))["c"] == "often"
    with pytest.raises(DataError, match="of 'x' cannot be applied"):
        rule_segments(toy, {"x": "nothing > 5"})
    with pytest.raises(DataError, match="must say yes or no"):
        rule_segments(toy, {"x": "orders + 1"})


def test_a_hand_worked_migration():
    before = pd.Series({1: 1, 2: 1, 3: 1, 4: 0})
    after = pd.Series({1: 1, 2: 10, 3: 2, 5: 0})
    table = migration(before, after)
    matrix = table["customers"].unstack(sort=False)
    assert matrix.index.tolist() == [0, 1, "(absent)"], "numbers stay in their order, 0 is a segment"
    assert matrix.columns.tolist() == [0, 1, 2, 10, "(absent)"]
    assert matrix.loc[1].tolist() == [0, 1, 1, 1, 0]
    assert matrix.loc[0].tolist() == [0, 0, 0, 0, 1]
    assert matrix.loc["(absent)"].fillna(0).tolist() == [1, 0, 0, 0, 0]
    assert table.loc[(1, 10), ["share", "low", "high"]].tolist() == pytest.approx([float(v) for v in wilson(1, 3)])


SEGMENTS = st.dictionaries(st.integers(0, 15), st.sampled_from("xyz"), min_size=1)


@settings(max_examples=25, deadline=None)
@given(SEGMENTS, SEGMENTS)
def test_migration_loses_nobody(before, after):
    table = migration(pd.Series(before), pd.Series(after))
    assert table["customers"].sum() == len(set(before) | set(after))
    kept = {c: (s, after.get(c, "(absent)")) for c, s in before.items()}
    for pair in set(kept.values()):
        assert table.loc[pair, "customers"] == list(kept.values()).count(pair)
    shares = table["share"].groupby("before").sum()
    assert shares.to_numpy() == pytest.approx(1)
    text = migration(pd.Series(before).rename(str), pd.Series(after).rename(str))
    pd.testing.assert_frame_equal(text, table)
    frames = [pd.DataFrame({"customer_id": list(d), "segment": list(d.values())})[::-1] for d in (before, after)]
    pd.testing.assert_frame_equal(migration(frames[0], ibis.memtable(frames[1])), table)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (pd.Series({1: "x"}), pd.Series({"1": "x"}), "customer_id is int64 in one table and string in the other"),
        (pd.DataFrame({"customer_id": [1, 1], "segment": ["x", "y"]}), pd.Series({1: "x"}), "1 repeat a customer"),
        (pd.Series({1: "x", 2: None}), pd.Series({1: "x"}), "1 rows have no customer_id or no segment"),
        (pd.DataFrame({"customer_id": [1]}), pd.Series({1: "x"}), "no column segment"),
        (pd.Series([], dtype=object), pd.Series({1: "x"}), "There are no customers"),
    ],
)
def test_groupings_that_cannot_be_compared_are_refused_in_words(a, b, words):
    with pytest.raises(DataError, match=words):
        migration(a, b)


def labels_of(table):
    a = pd.Series(np.repeat(np.arange(table.shape[0]), table.sum(axis=1)))
    b = pd.Series(np.concatenate([np.repeat(np.arange(table.shape[1]), row) for row in table]))
    return a, b


def test_a_hand_worked_cross_table():
    found = cross(*labels_of(np.array([[40, 10], [10, 40]])))
    facts = found.association
    assert facts["statistic"] == pytest.approx(36)
    phi = 0.36 - 1 / 99
    assert facts["v"] == pytest.approx(np.sqrt(phi / (2 - 1 / 99 - 1)))
    assert found.table["expected"].eq(25).all()
    # (40 - 25) / sqrt(25 (1 - 1/2) (1 - 1/2))
    assert found.table.loc[(0, 0), "residual"] == pytest.approx(6)
    assert facts["low"] < facts["v"] < facts["high"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=3), min_size=2, max_size=4))
def test_the_statistic_and_the_uncorrected_v_are_those_of_scipy(rows):
    table = np.array(rows)
    found = cross(*labels_of(table))
    theirs = chi2_contingency(table, correction=False)
    assert found.association["statistic"] == pytest.approx(theirs.statistic, abs=1e-9)
    assert found.association["p_value"] == pytest.approx(theirs.pvalue, abs=1e-12)
    assert found.table["expected"].to_numpy() == pytest.approx(theirs.expected_freq.ravel())
    assert 0 <= found.association["v"] <= association(table, method="cramer") + 0.02
    assert 0 <= found.association["low"] <= found.association["high"] <= 1


def test_intervals_of_v_cover():
    rng, shares, covered = np.random.default_rng(6), np.array([[0.25, 0.15, 0.1], [0.1, 0.2, 0.2]]), 0
    expected = np.outer(shares.sum(axis=1), shares.sum(axis=0))
    truth = np.sqrt(((shares - expected) ** 2 / expected).sum())
    for _ in range(60):
        low, high = cross(*labels_of(rng.multinomial(400, shares.ravel()).reshape(2, 3))).association[["low", "high"]]
        covered += low < truth < high
    assert covered >= 53


def test_unrelated_and_identical_groupings():
    none = cross(*labels_of(np.full((3, 3), 50))).association
    assert none[["v", "low"]].tolist() == [0, 0]
    same = cross(*labels_of(np.diag([100, 100, 50]))).association
    assert same["v"] == pytest.approx(1)
    assert same["high"] == 1
    huge = cross(*labels_of(np.diag([100_000, 100_000]))).association
    assert huge["low"] > 0.98
    assert huge["p_value"] == 0


def test_customers_of_one_table_only_are_counted_as_left_out():
    facts = cross(pd.Series({1: "x", 2: "y", 3: "x"}), pd.Series({1: "u", 2: "v", 9: "v"})).association
    assert facts[["customers", "left_out"]].tolist() == [2, 2]
    assert facts[["v", "low", "high"]].tolist() == pytest.approx([np.nan, 0, 1], nan_ok=True), "two tell nothing"
    with pytest.raises(DataError, match="at least two segments of each grouping, not 1 and 1"):
        cross(pd.Series({1: "x"}), pd.Series({1: "u"}))


@pytest.mark.parametrize(
    ("table", "k", "words"),
    [
        (clouds(), 1, "k must lie between 2 and the 210 different customers, not 1"),
        (clouds(1), 9, "between 2 and the 3 different customers"),
        (clouds().assign(spend=7.0), 3, "'spend' has the same value for all customers"),
        (clouds().assign(spend="x"), 3, "'spend' must have finite numbers"),
        (clouds().assign(spend=[np.nan] + [1.0] * 209), 3, r"missing in spend \(1\)"),
        (clouds()[["visits"]], 3, "no column spend"),
        (clouds().set_index(np.zeros(210)), 3, "Each customer must have one row"),
    ],
)
def test_tables_that_cannot_be_grouped_are_refused_in_words(table, k, words):
    with pytest.raises(DataError, match=words):
        segments(table, ["visits", "spend"], k=k, n_boot=2)
