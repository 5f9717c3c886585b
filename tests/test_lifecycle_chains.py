import numpy as np
import pandas as pd
import pytest

from crmlab import lifecycle
from crmlab.data import DataError
from tests.test_lifecycle_activity import TOY, WHOLE


def customers(*histories):
    """A log in which each text is a customer and each x a month with a purchase."""
    rows = [
        (i, pd.Timestamp(2024 + at // 12, at % 12 + 1, 15))
        for i, history in enumerate(histories)
        for at, mark in enumerate(history)
        if mark == "x"
    ]
    return pd.DataFrame(rows, columns=["customer_id", "date"])


def test_win_back_of_a_hand_worked_log():
    # a buys in months 0, 1, 3; b in 0, 2; c in 1; d in 3.
    table = lifecycle.win_back(TOY, **WHOLE)
    assert table.index.tolist() == [0, 1]
    assert table["of"].tolist() == [5, 3], "a twice, b twice and c once, who then are silent once each"
    assert table["count"].tolist() == [1, 2], "a straight away; then b in March and a in April"
    assert (table["low"] <= table["share"]).all()
    assert (table["share"] <= table["high"]).all()


def test_win_back_at_silence_zero_is_retention_and_the_rest_is_the_dormant_row():
    for log, whole in (("cdnow", False), ("complete_journey", True)):
        table = lifecycle.win_back(log, "M", left_truncated=whole)
        moves = lifecycle.transitions(log, "M", left_truncated=whole)
        active = moves.drop("dormant").query("to == 'returning'")["count"].sum()
        assert table.loc[0, ["count", "of"]].tolist() == [active, moves.drop("dormant")["count"].sum()]
        dormant = moves.loc[("dormant", "resurrected"), ["count", "of"]]
        assert table.loc[1:, ["count", "of"]].sum().tolist() == dormant.tolist()


def test_chain_forecast_is_the_power_of_the_transition_matrix():
    moves = lifecycle.transitions("cdnow", "M", observation_end="1997-09-30", **WHOLE)
    matrix = moves["probability"].unstack("to", fill_value=0).reindex(columns=lifecycle.activity.STATES, fill_value=0)
    counts = lifecycle.states("cdnow", "M", **WHOLE)
    start = counts.loc["1997-09-01", matrix.index].to_numpy(float)
    matrix = matrix[matrix.index].to_numpy()
    expected = [start @ np.linalg.matrix_power(matrix, i) @ [0, 1, 1, 1] for i in range(1, 10)]
    table = lifecycle.chain_forecast("cdnow", "M", "1997-09-30", draws=200, **WHOLE)
    np.testing.assert_allclose(table["expected"], expected)
    assert table["actual"].tolist() == counts.loc["1997-10-01":, "active"].tolist()
    assert (table["unchanged"] == counts.loc["1997-09-01", "active"]).all()
    assert ((table["low"] < table["expected"]) & (table["expected"] < table["high"])).all()


def test_chain_forecast_follows_only_the_customers_known_at_its_start():
    log = customers("x.x.x.x.", ".xx.x.xx", "....xxxx", "xxx.....")
    table = lifecycle.chain_forecast(log, "M", "2024-04-30", "silence", "2024-08-31", draws=50, **WHOLE)
    assert table["actual"].tolist() == [2, 0, 2, 1], "the third customer comes later"
    assert table["unchanged"].tolist() == [0] * 4
    half = lifecycle.chain_forecast(log, "M", None, "silence", "2024-08-31", draws=50, **WHOLE)
    pd.testing.assert_frame_equal(half, table)


def test_a_chain_with_the_right_memory_foretells_and_its_interval_covers():
    rng = np.random.default_rng(1)
    back = np.array([0.5, 0.3, 0.2, 0.1])
    histories, silent = np.ones((16, 4000), bool), np.zeros(4000, int)
    for month in histories[1:]:
        month[:] = rng.random(4000) < back[np.minimum(silent, 3)]
        silent = np.where(month, 0, silent + 1)
    log = customers(*("".join("x" if bought else "." for bought in one) for one in histories.T))
    table = lifecycle.chain_forecast(log, "M", None, "silence", "2025-04-30", **WHOLE)
    assert ((table["low"] <= table["actual"]) & (table["actual"] <= table["high"])).sum() >= 7
    curve = lifecycle.win_back(log, "M", "2025-04-30", **WHOLE)["share"]
    np.testing.assert_allclose(curve.iloc[:4], back, atol=0.015)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": "habit"}, r"memory must be one of state \(the four states of the life cycle\), silence"),
        ({"until": "2024-01-31"}, "A move needs two complete periods; up to 2024-01-31 there are 1"),
        ({"until": "2024-04-30"}, "no complete period after 2024-04-30"),
        ({"until": "2024-03-31"}, "Before 2024-04-01 nobody was seen leaving the state resurrected"),
        ({"until": "soon"}, "until must be a date"),
        ({"period": "D"}, "period must be one of W"),
    ],
)
def test_impossible_forecasts_are_refused_in_words(options, words):
    with pytest.raises(DataError, match=words):
        lifecycle.chain_forecast(TOY, **WHOLE | options)


def test_everyone_back_and_no_one_back():
    always = lifecycle.chain_forecast(
        customers("xxxxxx", "xxxxxx"), "M", "2024-03-31", "silence", "2024-06-30", **WHOLE
    )
    assert always["expected"].tolist() == [2.0] * 3
    never = lifecycle.chain_forecast(customers("x.....", "x....."), "M", "2024-03-31", "silence", "2024-06-30", **WHOLE)
    assert never["expected"].tolist() == [0.0] * 3
    with pytest.raises(DataError, match="two complete periods"):
        lifecycle.win_back(customers("x"), "M")
