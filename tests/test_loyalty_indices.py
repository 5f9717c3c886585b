"""The index from 0 to 100, top boxes and the net promoter score."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data, loyalty
from crmlab.data import DataError

SPEC = loyalty.SurveySpec(
    {"SATISFACTION": ["Q1", "Q2", "Q3"], "RECOMMENDATION": ["R"]},
    scale=(1, 10),
    scales={"Q3": (1, 5), "R": (0, 10)},
    missing=(99,),
    reverse=("Q2",),
)


def frame(q1, q2, q3, r=5):
    return pd.DataFrame({"Q1": q1, "Q2": q2, "Q3": q3, "R": r})


def test_the_ends_of_the_scales_are_0_and_100():
    answers = frame([1, 10, 99], [10, 1, 1], [1, 5, 5])
    assert loyalty.scores(answers, SPEC)["SATISFACTION"].tolist()[:2] == [0, 100]
    assert np.isnan(loyalty.scores(answers, SPEC)["SATISFACTION"].iloc[2])


def test_the_index_is_the_published_formula():
    answers = frame([4, 8], [3, 5], [2, 4])
    weights = {"Q1": 2.0, "Q2": 1.0, "Q3": 0.5}
    x = answers[["Q1", "Q2", "Q3"]].to_numpy(dtype=float, copy=True)
    x[:, 1] = 11 - x[:, 1]
    w = np.array(list(weights.values()))
    expected = 100 * ((x.mean(axis=0) @ w) - w.sum()) / (np.array([10, 10, 5]) @ w - w.sum())
    row = loyalty.index_score(answers, SPEC, "SATISFACTION", weights=weights).loc["all"]
    assert row["score"] == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(
    cells=st.lists(
        st.tuples(st.integers(1, 10), st.integers(1, 10), st.integers(1, 5), st.integers(0, 10)),
        min_size=1,
        max_size=30,
    ),
    weights=st.tuples(*[st.floats(0.001, 1000)] * 3),
)
def test_no_index_leaves_0_to_100(cells, weights):
    answers = pd.DataFrame(cells, columns=["Q1", "Q2", "Q3", "R"])
    weights = dict(zip(["Q1", "Q2", "Q3"], weights, strict=True))
    row = loyalty.index_score(answers, SPEC, "SATISFACTION", weights=weights).loc["all"]
    assert 0 <= row["score"] <= 100
    if len(cells) > 1:
        assert 0 <= row["low"] <= row["score"] + 1e-9
        assert row["score"] - 1e-9 <= row["high"] <= 100
    found = loyalty.nps(answers, SPEC, "R").loc["all"]
    assert -100 <= found["low"] <= found["high"] <= 100
    assert found[["promoters", "passives", "detractors"]].sum() == pytest.approx(1)
    assert found["nps"] == pytest.approx(100 * (found["promoters"] - found["detractors"]))


def test_the_interval_covers_the_mean_of_the_population_as_often_as_it_says():
    rng = np.random.default_rng(0)
    population = rng.integers(1, 11, size=(20_000, 1)).repeat(3, axis=1)
    truth = 100 * (population[:, 0].mean() - 1) / 9
    spec = loyalty.SurveySpec({"S": ["Q1", "Q2"]}, scale=(1, 10))
    hits = 0
    for _ in range(100):
        part = population[rng.integers(0, 20_000, size=60)]
        row = loyalty.index_score(pd.DataFrame(part[:, :2], columns=["Q1", "Q2"]), spec, "S").loc["all"]
        hits += row["low"] <= truth <= row["high"]
    assert 88 <= hits <= 100


def test_groups_are_scored_apart_and_incomplete_answers_counted():
    answers = frame([1, 10, 10, 99, 4], [10, 1, 1, 1, 4], [1, 5, 5, 5, 4]).assign(shop=["a", "b", "b", "b", None])
    table = loyalty.index_score(answers, SPEC, "SATISFACTION", group="shop")
    assert table.index.tolist() == ["a", "b", "all"]
    assert table["n"].tolist() == [1, 2, 4]
    assert table["left_out"].tolist() == [0, 1, 1]
    assert table.loc[["a", "b"], "score"].tolist() == [0, 100]
    # One answer has no interval.
    assert table.loc["a", ["se", "low", "high"]].isna().all()


def test_groups_have_the_words_of_the_description():
    if not data.present("acsi_2015"):
        pytest.skip("acsi_2015 has not been downloaded; `crmlab data get acsi_2015` fetches it")
    table = loyalty.index_score(data.load("acsi_2015").to_pandas(), "acsi_2015", "SATISFACTION", group="INDUSTRY")
    assert table.index.tolist() == ["airline", "bank", "food", "internet provider", "all"]
    assert table["score"].idxmax() == "food"
    assert table["score"].idxmin() == "internet provider"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"Q1": 1, "Q2": 1}, "no weight for Q3"),
        ({"Q1": 1, "Q2": 1, "Q3": np.nan}, "no weight for Q3"),
        ({"Q1": 1, "Q2": -0.2, "Q3": 1}, r"negative weight .* Q2 \(-0.2\)"),
        ({"Q1": 1, "Q2": 1, "Q3": 1, "Q9": 1}, "given for Q9"),
        ({"Q1": 0, "Q2": 0, "Q3": 0}, "All weights of SATISFACTION are zero"),
    ],
)
def test_weights_that_make_no_index_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        loyalty.index_score(frame([1], [1], [1]), SPEC, "SATISFACTION", weights=weights)


def test_top_box_counts_the_highest_answers():
    answers = frame([10, 9, 8, 99], 1, 1)
    row = loyalty.top_box(answers, SPEC, "Q1").loc["all"]
    assert (row["n"], row["left_out"], row["share"]) == (3, 1, pytest.approx(2 / 3))
    assert 0 < row["low"] < row["share"] < row["high"] < 1
    assert loyalty.top_box(answers, SPEC, "Q1", boxes=1).loc["all", "share"] == pytest.approx(1 / 3)
    # A reversed item counts its lowest answers.
    assert loyalty.top_box(answers, SPEC, "Q2").loc["all", "share"] == 1


@pytest.mark.parametrize("boxes", [0, 5, 1.5])
def test_boxes_must_fit_the_scale(boxes):
    with pytest.raises(DataError, match="boxes must be between 1 and 4"):
        loyalty.top_box(frame([1], [1], [1]), SPEC, "Q3", boxes=boxes)


def test_nps_of_the_mobile_phone_survey():
    row = loyalty.nps(data.load("mobi").to_pandas(), "mobi", "CUSL3").loc["all"]
    assert row["nps"] == pytest.approx(14.0)
    assert row["low"] < 14 < row["high"]


def test_nps_keeps_an_interval_when_all_answer_alike():
    row = loyalty.nps(frame([1] * 30, 1, 1, 10), SPEC, "R").loc["all"]
    assert row["nps"] == 100
    assert 75 < row["low"] < 100
    assert row["high"] == 100


def test_nps_on_another_scale_is_refused():
    with pytest.raises(DataError, match="Q3 runs from 1 to 5"):
        loyalty.nps(frame([1], [1], [1]), SPEC, "Q3")


def test_nobody_answered_gives_blanks_not_numbers():
    answers = frame([99, 99], 99, 99, 99)
    for table in (
        loyalty.index_score(answers, SPEC, "SATISFACTION"),
        loyalty.top_box(answers, SPEC, "Q1"),
        loyalty.nps(answers, SPEC, "R"),
    ):
        assert table.loc["all", "n"] == 0
        assert table.loc["all"].drop(["n", "left_out"]).isna().all()


def test_an_unknown_item_and_a_level_beyond_one_are_refused():
    answers = frame([1, 2], [1, 2], [1, 2])
    with pytest.raises(DataError, match="'Q7' is not an item"):
        loyalty.nps(answers, SPEC, "Q7")
    with pytest.raises(DataError, match="no construct TRUST"):
        loyalty.index_score(answers, SPEC, "TRUST")
    with pytest.raises(DataError, match="level"):
        loyalty.index_score(answers, SPEC, "SATISFACTION", level=95)
