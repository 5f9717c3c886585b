"""The book company's case: what it says, how findings are graded, where a conclusion holds, what a rival must offer."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crmlab import cases
from crmlab.data import DataError


def test_facts_are_quoted_once_and_from_the_sections_of_the_essay_in_order():
    facts = cases.case_facts()
    assert list(facts) == ["fact", "quotation", "section"]
    assert len(facts) >= 25
    assert facts["fact"].is_unique
    assert facts["quotation"].is_unique
    assert facts["quotation"].str.fullmatch(r"[\u4e00-\u9fff0-9“”,、]{6,}").all()
    assert facts["section"].str.fullmatch(r"(4\.[12]|5\.[1-4])( \(\d\))?").all()
    assert facts["section"].is_monotonic_increasing


def test_the_facts_of_the_case_are_all_there():
    told = "".join(cases.case_facts()["quotation"])
    for wanted in ["一九九五年", "2000萬", "22個省", "大學", "客戶聯絡進展表", "新疆", "轉換成本較低", "不賺錢"]:
        assert wanted in told


def test_grade_counted_by_hand():
    # Three of ten have it; four are flagged, two of them rightly.
    truth = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    found = cases.grade(truth, [1, 1, 0, 1, 1, 0, 0, 0, 0, 0])
    assert found["count"].to_dict() == {"precision": 2, "recall": 2, "accuracy": 7, "base rate": 3}
    assert found["of"].to_dict() == {"precision": 4, "recall": 3, "accuracy": 10, "base rate": 10}
    assert found["value"].tolist() == pytest.approx([0.5, 2 / 3, 0.7, 0.3])
    # Wilson's interval of 2 of 4 is symmetric about a half.
    assert found.loc["precision", ["low", "high"]].sum() == pytest.approx(1)


def test_grade_matches_customers_by_name():
    truth = pd.Series({"a": True, "b": False, "c": False})
    assert cases.grade(truth, pd.Series({"c": False, "b": False, "a": True}))["value"].tolist()[:3] == [1, 1, 1]
    with pytest.raises(DataError, match="not about the same customers"):
        cases.grade(truth, pd.Series({"a": True, "b": False, "x": False}))


def test_grade_where_nobody_is_flagged_has_no_precision():
    found = cases.grade([1, 0, 0], [0, 0, 0])
    assert np.isnan(found.loc["precision", "value"])
    assert found.loc["recall", "value"] == 0


@pytest.mark.parametrize(
    ("truth", "flagged", "words"),
    [
        ([], [], "no customers"),
        ([1, None], [1, 0], "1 of 2 answers of the truth are missing"),
        ([1, 0], [1, 2], "finding has the value 2"),
        ([1, 0], [1], "about 2 customers and the finding about 1"),
        (["yes", "no"], [1, 0], "value yes"),
    ],
)
def test_grade_says_what_is_wrong(truth, flagged, words):
    with pytest.raises(DataError, match=re.escape(words)):
        cases.grade(truth, flagged)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_grade_swaps_precision_and_recall_with_truth_and_finding(pairs):
    truth, flagged = map(list, zip(*pairs, strict=True))
    there, back = cases.grade(truth, flagged), cases.grade(flagged, truth)
    there, back = there[["value", "low", "high"]], back[["value", "low", "high"]]
    assert there.loc["precision"].equals(back.loc["recall"])
    assert there.loc["recall"].equals(back.loc["precision"])
    assert there.loc["accuracy"].equals(back.loc["accuracy"])


@given(st.integers(1, 60), st.integers(0, 5))
def test_drawn_hits_each_piece_of_each_range_once(n, seed):
    points = cases.drawn({"a": (0.0, 1.0), "b": (-2.0, 6.0)}, n, seed)
    for name, low, width in (("a", 0.0, 1.0), ("b", -2.0, 8.0)):
        pieces = np.floor((points[name] - low) / width * n + 1e-9).astype(int).clip(0, n - 1)
        assert sorted(pieces) == list(range(n))
    assert points.equals(cases.drawn({"a": (0.0, 1.0), "b": (-2.0, 6.0)}, n, seed))


@pytest.mark.parametrize(
    ("ranges", "n", "words"),
    [({}, 5, "at least one assumption"), ({"a": (1, 0)}, 5, "range of a is (1, 0)"), ({"a": (0, 1)}, 0, "one point")],
)
def test_drawn_says_what_is_wrong(ranges, n, words):
    with pytest.raises(DataError, match=re.escape(words)):
        cases.drawn(ranges, n)


def test_holds_counts_and_has_wilsons_interval():
    found = cases.holds(pd.DataFrame({"x": [True] * 8 + [False] * 2, "y": [True] * 10}))
    assert found["share"].tolist() == [0.8, 1.0]
    # By hand: (8 + 1.92073) / 13.84146 -/+ 1.95996 / 13.84146 * sqrt(8 * 2 / 10 + .96036).
    assert found.loc["x", ["low", "high"]].tolist() == pytest.approx([0.49016, 0.94332], abs=1e-4)
    assert found.loc["y", "high"] == 1
    with pytest.raises(DataError, match="conclusion 'z' has the value 3"):
        cases.holds(pd.DataFrame({"z": [1, 3]}))


def test_deciders_puts_what_decides_first_and_knows_its_sign():
    points = cases.drawn({"nothing": (0, 1), "down": (0, 1), "up": (0, 1)}, n=300)
    found = cases.deciders(points, np.exp(points["up"]) - 3 * points["down"])
    assert found.index.tolist() == ["down", "up", "nothing"]
    assert found.loc["down", "high"] < 0 < found.loc["up", "low"]
    assert found.loc["nothing", "low"] < 0 < found.loc["nothing", "high"]
    assert cases.deciders(points, points["up"]).loc["up", "correlation"] == pytest.approx(1)


def test_deciders_says_what_is_wrong():
    points = cases.drawn({"a": (0, 1)}, n=20)
    for outcome, words in ([np.ones(20), "same at all"], [np.ones(3), "outcome for each"], [[np.nan] * 20, "missing"]):
        with pytest.raises(DataError, match=words):
            cases.deciders(points, outcome)


def test_later_spend_counted_by_hand():
    # The ten with the least share halve their spending, the others double it; the groups do not mix.
    share, before = np.arange(20) / 20, np.r_[np.full(10, 4.0), np.full(10, 3.0)]
    found = cases.later_spend_by_share(share, before, np.r_[np.full(10, 2.0), np.full(10, 6.0)], groups=2, n_boot=50)
    assert found["customers"].tolist() == [10, 10]
    assert found["share"].tolist() == pytest.approx([0.225, 0.725])
    assert found[["ratio", "low", "high"]].to_numpy().tolist() == [[0.5] * 3, [2.0] * 3]


@given(arrays.arrays(float, 30, elements=st.floats(1, 100)), arrays.arrays(float, 30, elements=st.floats(0, 100)))
def test_later_spend_does_not_depend_on_the_currency(before, after):
    share = np.linspace(0, 1, 30)
    found = cases.later_spend_by_share(share, before, after, groups=3, n_boot=20)
    other = cases.later_spend_by_share(share, 8 * before, 8 * after, groups=3, n_boot=20)
    pd.testing.assert_frame_equal(found, other)
    assert (found["low"] <= found["high"]).all()


@pytest.mark.parametrize(
    ("share", "before", "after", "words"),
    [
        ([0.1] * 30, [1.0] * 30, [1.0] * 29, "must agree"),
        ([0.1] * 30, [1.0] * 30, [1.0] * 30, "too few for 5 groups"),
        ([0.1] * 60, [1.0] * 59 + [0.0], [1.0] * 60, "1 customers spent nothing before"),
        ([np.nan] + [0.1] * 59, [1.0] * 60, [1.0] * 60, "1 of 60 customers have a value that is missing"),
    ],
)
def test_later_spend_says_what_is_wrong(share, before, after, words):
    with pytest.raises(DataError, match=words):
        cases.later_spend_by_share(share, before, after)
