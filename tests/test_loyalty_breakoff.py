import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.loyalty import break_off, simulate_break_off

QUESTIONS = ["q1", "q2", "q3", "q4"]


def answers(*rows):
    return pd.DataFrame([[None if c == "-" else int(c) for c in row] for row in rows], columns=QUESTIONS, dtype=float)


def test_without_censoring_survival_is_the_share_that_went_on():
    found = break_off(answers("5555", "5555", "55--", "5---"), QUESTIONS)
    assert found.curve["survival"].tolist() == pytest.approx([1, 0.75, 0.5, 0.5])
    assert found.curve["reached"].tolist() == [4, 4, 3, 2]
    assert found.curve["left"].tolist() == [0, 1, 1, 0]
    assert found.summary.loc["all", ["respondents", "complete", "ended", "left"]].tolist() == [4, 2, 0, 2]
    assert found.curve.loc[("all", "q3"), ["hazard", "hazard_low"]].tolist() == pytest.approx(
        [1 / 3, float(wilson(1, 3)[1])]
    )


def test_a_question_skipped_in_the_middle_is_no_break_off():
    assert break_off(answers("5-55", "--55"), QUESTIONS).summary.loc["all", "complete"] == 2


def test_who_answered_nothing_left_at_the_first_question():
    found = break_off(answers("----", "5555", "5555"), QUESTIONS)
    assert found.curve.loc[("all", "q1"), "survival"] == pytest.approx(2 / 3)
    assert found.summary.loc["all", "worst"] == "q1"


def test_a_question_that_was_not_asked_at_the_end_is_no_break_off():
    """As the price question of those who will not buy again: skipped by a filter, not refused."""
    table = answers("555-", "555-", "5555").assign(loyal=[0, 1, 1])
    assert break_off(table, QUESTIONS).summary.loc["all", "left"] == 2
    found = break_off(table, QUESTIONS, asked={"q4": "loyal"})
    assert found.summary.loc["all", ["complete", "left"]].tolist() == [2, 1]
    with pytest.raises(DataError, match="Row 3 answers 'q4', which it was not asked"):
        break_off(table.assign(loyal=0), QUESTIONS, asked={"q4": "loyal"})


def test_who_is_sent_away_is_censored_after_the_last_answer():
    table = answers("55--", "55--", "5555", "5---").assign(quota=[1, 0, 0, 0])
    curve = break_off(table, QUESTIONS, ended="quota").curve
    assert curve["reached"].tolist() == [4, 4, 2, 1]
    assert curve["survival"].tolist() == pytest.approx([1, 3 / 4, 3 / 8, 3 / 8])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_survival_never_rises_and_counts_add_up(last):
    found = break_off(answers(*("5" * k + "-" * (4 - k) for k in last)), QUESTIONS)
    curve = found.curve
    assert (curve["survival"].diff().dropna() <= 1e-12).all()
    assert curve["left"].sum() + found.summary.loc["all", "complete"] == len(last)
    assert (curve["reached"].iloc[1:].to_numpy() == (curve["reached"] - curve["left"]).iloc[:-1].to_numpy()).all()
    inside = curve.dropna(subset=["low"])
    assert (inside["low"] < inside["survival"]).all()
    assert (inside["survival"] < inside["high"]).all()


def test_the_hard_question_of_the_simulation_is_found_and_the_data_say_that_they_are_simulated():
    table = simulate_break_off(2000, hard=(8,))
    assert all(name.startswith("simulated_") for name in table)
    found = break_off(table, table.columns)
    assert found.summary.loc["all", "worst"] == "simulated_q08"
    worst = found.curve.loc[("all", "simulated_q08")]
    assert worst["hazard_low"] < 1 / 6 < worst["hazard_high"]
    assert worst["hazard_low"] > found.curve.drop(("all", "simulated_q08"))["hazard"].max()
    pd.testing.assert_frame_equal(table, simulate_break_off(2000, hard=(8,)))


def test_groups_that_give_up_differently_are_told_apart():
    table = pd.concat(
        [simulate_break_off(400, 12, (3, 6), 1).assign(g="long"), simulate_break_off(400, 12, (), 2).assign(g="short")]
    )
    found = break_off(table, table.columns[:-1], by="g")
    assert found.difference["p_value"] < 1e-6
    assert found.curve.loc[("long", "simulated_q12"), "high"] < found.curve.loc[("short", "simulated_q12"), "low"]
    alone = break_off(table[table["g"] == "long"], table.columns[:-1])
    pd.testing.assert_frame_equal(alone.curve.loc["all"], found.curve.loc["long"])
    assert np.isnan(alone.difference["statistic"])


def test_empty_text_is_no_answer():
    table = pd.DataFrame({"q1": ["yes", "no"], "q2": ["because", " "]})
    assert break_off(table, ["q1", "q2"]).summary.loc["all", "left"] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: break_off(d, ["q1", "q9"]), "no column 'q9'"),
        (lambda d: break_off(d, ["q1", "q1"]), "at least two questions, each once"),
        (lambda d: break_off(d, ["q1"]), "at least two questions"),
        (lambda d: break_off(d, QUESTIONS, by="region"), "no column 'region'"),
        (lambda d: break_off(d, QUESTIONS, asked={"q7": "q1"}), "asked names 'q7'"),
        (lambda d: break_off(d, QUESTIONS, ended="q1"), "'q1' must be true or false"),
        (lambda d: break_off(d.iloc[:0], QUESTIONS), "no rows"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call(answers("5555", "55--"))
