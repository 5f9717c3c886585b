import datetime
import itertools

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2_contingency

from crmlab import lifecycle
from crmlab.data import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.intervals import effective

TOY = pd.DataFrame(
    [
        ("a", "2024-01-05 09:00", 10.0),
        ("a", "2024-01-20 09:00", 3.0),
        ("a", "2024-01-20 17:30", 4.0),
        ("a", "2024-02-10 12:00", 20.0),
        ("a", "2024-04-03 12:00", 1.0),
        ("b", "2024-01-31 23:59", 5.0),
        ("b", "2024-03-01 00:00", 6.0),
        ("c", "2024-02-29 12:00", 7.0),
        ("d", "2024-04-30 12:00", 8.0),
    ],
    columns=["customer_id", "date", "amount"],
)
WHOLE = {"left_truncated": False}

LOGS = st.lists(
    st.tuples(st.sampled_from("12345"), st.dates(datetime.date(2019, 12, 1), datetime.date(2021, 3, 31))),
    min_size=1,
    max_size=40,
)


def first_day(day, period):
    """First day of the period of a day, by the calendar and not by a library."""
    if period == "W":
        return day - datetime.timedelta(days=day.isoweekday() - 1)
    month = {"M": day.month, "Q": (day.month - 1) // 3 * 3 + 1, "Y": 1}[period]
    return datetime.date(day.year, month, 1)


def histories_by_loop(rows, period):
    """The periods from the first to the last, and each customer's, one after the other."""
    days = [day for _, day in rows]
    steps = [min(days) + datetime.timedelta(days=i) for i in range((max(days) - min(days)).days + 1)]
    periods = sorted({first_day(day, period) for day in steps})
    mine = {c: {first_day(day, period) for who, day in rows if who == c} for c, _ in rows}
    return periods, {c: [p in there for p in periods] for c, there in mine.items()}


def test_states_of_a_hand_worked_log():
    table = lifecycle.states(TOY)
    assert table.index.name == "period"
    assert [str(day.date()) for day in table.index] == ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01"]
    expected = {
        "known": [2, 3, 3, 4],
        "active": [2, 2, 1, 2],
        "new": [2, 1, 0, 1],
        "returning": [0, 1, 0, 0],
        "resurrected": [0, 0, 1, 1],
        "dormant": [0, 1, 2, 2],
        "lapsed": [0, 1, 2, 1],
        "left_truncated": [True, False, False, False],
        "complete": [True] * 4,
    }
    assert table.to_dict("list") == expected


@settings(max_examples=40, deadline=None)
@given(LOGS, st.sampled_from("WMQY"))
def test_states_equal_a_plain_loop_and_keep_the_accounts(rows, period):
    log = pd.DataFrame(rows, columns=["customer_id", "date"])
    table = lifecycle.states(log, period)
    periods, histories = histories_by_loop(rows, period)
    assert [day.date() for day in table.index] == periods
    for i in range(len(periods)):
        found = dict.fromkeys(("new", "returning", "resurrected", "dormant", "lapsed"), 0)
        for history in histories.values():
            known, now, before = any(history[:i]), history[i], i > 0 and history[i - 1]
            found["new"] += now and not known
            found["returning"] += now and before
            found["resurrected"] += now and known and not before
            found["dormant"] += known and not now
            found["lapsed"] += before and not now
        assert table.iloc[i][list(found)].to_dict() == found
    assert (table["active"] == table["new"] + table["returning"] + table["resurrected"]).all()
    assert (table["known"].shift(fill_value=0) + table["new"] == table["active"] + table["dormant"]).all()
    assert (table["active"].diff().iloc[1:] == (table["new"] + table["resurrected"] - table["lapsed"]).iloc[1:]).all()


@settings(max_examples=15, deadline=None)
@given(LOGS, st.integers(0, 100))
def test_order_and_repetition_of_rows_and_the_type_of_ids_make_no_difference(rows, seed):
    log = pd.DataFrame(rows, columns=["customer_id", "date"])
    shuffled = pd.concat([log, log]).sample(frac=1, random_state=seed)
    numbered = log.assign(customer_id=log["customer_id"].astype(int))
    for other in (shuffled, numbered):
        pd.testing.assert_frame_equal(lifecycle.states(other, "Q"), lifecycle.states(log, "Q"))


def test_the_identity_holds_on_real_logs():
    for name in ("cdnow", "complete_journey"):
        table = lifecycle.states(name, "W")
        assert (table["active"] == table["new"] + table["returning"] + table["resurrected"]).all()
        assert table["known"].iloc[-1] == table["new"].sum()
    assert lifecycle.states("cdnow", "M")["known"].iloc[-1] == 23570


def test_more_periods_than_fit_into_one_word_are_counted_all_the_same():
    rng = np.random.default_rng(3)
    days = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 3650, 3000), unit="D")
    log = pd.DataFrame({"customer_id": rng.integers(0, 300, 3000), "date": days})
    table = lifecycle.states(log, "W")
    assert len(table) > 500
    weeks = log["date"].dt.to_period("W-SUN").dt.start_time
    active = log.groupby(weeks)["customer_id"].nunique().reindex(table.index, fill_value=0)
    assert table["active"].to_list() == active.to_list()
    born = weeks.groupby(log["customer_id"]).min().value_counts().reindex(table.index, fill_value=0)
    assert table["new"].to_list() == born.to_list()


def test_reading_in_blocks_changes_nothing(monkeypatch):
    whole = [lifecycle.states("cdnow_sample", "W"), lifecycle.transitions("cdnow_sample", "W", order=2)]
    monkeypatch.setattr("crmlab.lifecycle.histories.CELLS", 10_000)
    blocks = [lifecycle.states("cdnow_sample", "W"), lifecycle.transitions("cdnow_sample", "W", order=2)]
    for one, other in zip(whole, blocks, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_an_incomplete_last_period_is_marked_and_has_no_rates():
    table = lifecycle.states(TOY, observation_end="2024-04-29")
    assert table["complete"].to_list() == [True, True, True, False]
    assert table.loc["2024-04-01", "active"] == 1, "the purchase of the 30th is not observed"
    rates = lifecycle.rates(TOY, observation_end="2024-04-29")
    assert rates.loc["2024-04-01", "value"].isna().all()
    assert rates.loc["2024-03-01", "value"].notna().any()
    assert lifecycle.states(TOY, observation_end="2024-06-30")["active"].to_list() == [2, 2, 1, 2, 0, 0]


def test_rates_of_a_hand_worked_log():
    table = lifecycle.rates(TOY)
    counts = table[["count", "of"]]
    assert counts.loc[("2024-02-01", "retention")].to_list() == [1, 2]
    assert counts.loc[("2024-02-01", "development")].to_list() == [1, 1], "a spends 20 after 17"
    assert counts.loc[("2024-02-01", "acquisition")].to_list() == [1, 2]
    assert counts.loc[("2024-03-01", "win-back")].to_list() == [1, 1]
    assert counts.loc[("2024-04-01", "win-back")].to_list() == [1, 2]
    assert counts.loc[("2024-04-01", "retention")].to_list() == [0, 1]
    assert table.loc["2024-01-01", "value"].isna().all(), "nobody knows who was new in a left-truncated period"
    seen = table.dropna()
    share, low, high = wilson(seen["count"], seen["of"])
    np.testing.assert_allclose(seen[["value", "low", "high"]], np.stack([share, low, high], axis=1))
    days = lifecycle.rates(TOY.drop(columns="amount"))
    assert days.loc[("2024-02-01", "development"), "value"] == 0, "a buys on one day after two"


def test_transitions_of_a_hand_worked_log():
    table = lifecycle.transitions(TOY, **WHOLE)
    assert table.index.names == ["from", "to"]
    expected = {
        ("new", "returning"): 1,
        ("new", "dormant"): 2,
        ("returning", "returning"): 0,
        ("returning", "dormant"): 1,
        ("resurrected", "returning"): 0,
        ("resurrected", "dormant"): 1,
        ("dormant", "resurrected"): 2,
        ("dormant", "dormant"): 1,
    }
    assert table["count"].to_dict() == expected
    assert table["probability"].groupby(level="from").sum().to_list() == pytest.approx([1] * 4)
    assert table.loc[("new", "dormant"), "probability"] == pytest.approx(2 / 3)
    second = lifecycle.transitions(TOY, order=2, **WHOLE)
    assert second["count"][second["count"] > 0].to_dict() == {
        ("dormant", "resurrected", "dormant"): 1,
        ("new", "dormant", "dormant"): 1,
        ("new", "dormant", "resurrected"): 1,
        ("new", "returning", "dormant"): 1,
        ("returning", "dormant", "resurrected"): 1,
    }
    truncated = lifecycle.transitions(TOY)
    assert truncated["count"].sum() == 6, "moves out of the first month are not those of new customers"


@settings(max_examples=30, deadline=None)
@given(LOGS, st.sampled_from("WM"))
def test_transitions_equal_a_plain_loop(rows, period):
    periods, histories = histories_by_loop(rows, period)
    if len(periods) < 3:
        return
    log = pd.DataFrame(rows, columns=["customer_id", "date"])
    end = periods[-1] + datetime.timedelta(days=6)
    if period == "M":
        end = (periods[-1] + datetime.timedelta(days=31)).replace(day=1) - datetime.timedelta(days=1)
    table = lifecycle.transitions(log, period, observation_end=end, **WHOLE)
    counts = {}
    for history in histories.values():
        named = []
        for i, now in enumerate(history):
            known, before = any(history[:i]), i > 0 and history[i - 1]
            active = "returning" if before else "resurrected"
            named.append((active if known else "new") if now else ("dormant" if known else None))
        for move in itertools.pairwise(named):
            if move[0]:
                counts[move] = counts.get(move, 0) + 1
    assert table["count"][table["count"] > 0].to_dict() == counts


def test_customers_are_the_clusters_of_the_intervals():
    always = [("a", f"2024-{month:02d}-15") for month in range(1, 13)]
    others = [(f"x{i}", "2024-01-15") for i in range(30)]
    steady = pd.DataFrame(always + others, columns=["customer_id", "date"])
    table = lifecycle.transitions(steady, observation_end="2024-12-31", **WHOLE)
    staying = table.loc[("returning", "returning")]
    assert staying[["count", "of"]].to_list() == [10, 10]
    assert staying["effective"] == 1, "ten moves of one customer are one observation"
    assert staying["low"] < 0.3
    out = table.loc[("new", "dormant")]
    assert out["effective"] == pytest.approx(out["of"]), "one move a customer: every move is an observation of its own"


def test_effective_numbers_are_exact_where_they_can_be_worked_by_hand():
    k, n = np.array([3.0, 0, 1, 2]), np.array([4.0, 1, 1, 4])
    p = k.sum() / n.sum()
    variance = ((k - p * n) ** 2).sum() / n.sum() ** 2
    found = effective(k.sum(), n.sum(), ((k * k).sum(), (k * n).sum(), (n * n).sum()), 4)
    assert found == pytest.approx(min(p * (1 - p) / variance, n.sum()))
    assert effective(0, 0, (0, 0, 0), 0) == 0


def test_wilson_intervals_cover_as_often_as_they_say():
    n, p = 40, 0.13
    k = np.arange(n + 1)
    _, low, high = wilson(k, n)
    covered = binom.pmf(k, n, p)[(low <= p) & (p <= high)].sum()
    assert 0.93 < covered < 0.98
    assert wilson(1, 10)[1:] == pytest.approx((0.0178762, 0.4041500), abs=1e-6), "Newcombe (1998) prints .0179, .4042"
    assert np.isnan(wilson(0, 0)[0])


def chain_log(memory, customers=400, periods=24, seed=0):
    """Customers of one Markov chain, or (memory) of two kinds who look like one chain with a memory."""
    rng = np.random.default_rng(seed)
    rows = []
    months = pd.period_range("2020-01", periods=periods, freq="M").start_time
    for customer in range(customers):
        shift = (0.35 if customer % 2 else -0.35) if memory else 0.0
        active = True
        for month in months:
            if active:
                rows.append((customer, month))
            active = rng.random() < (0.5 if active else 0.4) + shift
    return pd.DataFrame(rows, columns=["customer_id", "date"])


def test_the_markov_test_tells_a_chain_from_a_mixture_and_equals_contingency_tables():
    whole = {"observation_end": "2021-12-31", **WHOLE}
    chain = lifecycle.markov_test(chain_log(memory=False), **whole)
    assert chain[["p_likelihood_ratio", "p_pearson"]].min().min() > 0.01
    log = chain_log(memory=True)
    mixture = lifecycle.markov_test(log, **whole)
    assert mixture.loc["no memory", "p_likelihood_ratio"] < 1e-9
    counts = lifecycle.transitions(log, order=2, **whole)["count"]
    for kind, how in {"likelihood_ratio": "log-likelihood", "pearson": "pearson"}.items():
        parts = [
            chi2_contingency(table.unstack("to"), correction=False, lambda_=how)
            for _, table in counts.groupby(level="from")
            if len(table.unstack("to")) > 1
        ]
        assert mixture.loc["no memory", kind] == pytest.approx(sum(part.statistic for part in parts))
        assert mixture.loc["no memory", "df"] == sum(part.dof for part in parts)


def test_the_steady_state_is_the_left_eigenvector():
    moves = lifecycle.transitions("cdnow", "M", **WHOLE)
    found = lifecycle.steady_state(moves)
    matrix = moves["probability"].unstack("to", fill_value=0).reindex(columns=["new", "returning", "resurrected"])
    matrix["dormant"] = moves["probability"].unstack("to")["dormant"]
    names = ["returning", "resurrected", "dormant"]
    P = matrix.fillna(0).loc[names, names].to_numpy()
    share = found.loc[names, "value"].to_numpy()
    np.testing.assert_allclose(share @ P, share, atol=1e-12)
    assert share.sum() == pytest.approx(1)
    assert found.loc["periods silent in a row", "value"] == pytest.approx(1 / P[2, 1])
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    pd.testing.assert_frame_equal(lifecycle.steady_state(moves), found)


def test_a_long_simulated_chain_ends_in_its_steady_state():
    log = chain_log(memory=False, customers=300, periods=40)
    moves = lifecycle.transitions(log, observation_end="2023-04-30", **WHOLE)
    found = lifecycle.steady_state(moves)
    assert found.loc["active", "low"] < 0.4 / 0.9 < found.loc["active", "high"]


def test_a_chain_that_nobody_came_back_in_has_no_steady_state():
    log = pd.DataFrame({"customer_id": range(10), "date": "2024-01-10"})
    moves = lifecycle.transitions(log, observation_end="2024-06-30", **WHOLE)
    assert moves.loc[("new", "dormant"), "probability"] == 1, "everyone churned"
    with pytest.raises(DataError, match="leaving the state returning, resurrected"):
        lifecycle.steady_state(moves)
    with pytest.raises(DataError, match="order=1"):
        lifecycle.steady_state(lifecycle.transitions("cdnow", "Q", order=2))


def test_the_funnel_follows_everyone_equally_long():
    days = {
        "loyal": [0, 10, 20, 95],
        "frequent": [0, 10, 20, 30],
        "repeat": [0, 50],
        "late": [0, 101],
        "once": [0],
        "recent": [150, 151, 152, 153],
    }
    start = pd.Timestamp("2024-01-01")
    rows = [(name, start + pd.Timedelta(days=day)) for name, there in days.items() for day in there]
    log = pd.DataFrame(rows + rows[:1], columns=["customer_id", "date"])
    table = lifecycle.funnel(log, within=100, frequent=4, recent=30, observation_end="2024-07-01")
    assert table["customers"].to_dict() == {"trial": 5, "repeat": 3, "frequent": 2, "loyal": 1}, (
        "recent is not followed"
    )
    assert table["of_trial"].to_list() == [1.0, 0.6, 0.4, 0.2]
    assert table["of_stage_before"].to_list()[1:] == pytest.approx([0.6, 2 / 3, 0.5])
    assert table.loc["trial", ["low", "high"]].to_list() == [1, 1]
    later = lifecycle.funnel(log, 30, 4, 30, start="2024-02-01", observation_end="2024-07-01")
    assert later["customers"].to_list() == [1, 1, 1, 1]
    with pytest.raises(DataError, match="Nobody first bought between"):
        lifecycle.funnel(log)
    with pytest.raises(DataError, match="at least 1 day"):
        lifecycle.funnel(log, within=10)


def test_orders_of_known_customers_are_no_retention():
    log = TOY.assign(order_id=["1", "2", "2", "3", "4", "5", "6", "7", "8"])
    table = lifecycle.orders_of_known(log, "M", **WHOLE)
    assert table["orders"].to_list() == [3, 2, 1, 2]
    assert table["repeat_orders"].to_list() == [1, 1, 1, 1]
    assert table["repeat_share"].to_list() == pytest.approx([1 / 3, 0.5, 1, 0.5])
    assert table["retention"].to_list()[1:] == [0.5, 0, 0]
    by_day = lifecycle.orders_of_known(TOY, "M", **WHOLE)
    pd.testing.assert_frame_equal(by_day, table)
    split = TOY.assign(order_id=["1", "2", "9", "3", "4", "5", "6", "7", None])
    assert lifecycle.orders_of_known(split, "M")["orders"].to_list() == [4, 2, 1, 2]
    assert np.isnan(lifecycle.orders_of_known(TOY, "M")["repeat_share"].iloc[0]), "left-truncated"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"period": "month"},
            r"period must be one of W \(weeks\), M \(months\), Q \(quarters\), Y \(years\), not 'month'",
        ),
        ({"observation_end": "31/01/2024"}, "must be a date such as 2024-01-31, not '31/01/2024'"),
        ({"observation_end": "2023-01-01"}, "lies before the first purchase"),
    ],
)
def test_impossible_options_are_refused_in_words(options, words):
    for function in (lifecycle.states, lifecycle.rates, lifecycle.transitions, lifecycle.orders_of_known):
        with pytest.raises(DataError, match=words):
            function(TOY, **options)


def test_useless_logs_are_refused_in_words():
    with pytest.raises(DataError, match="no rows"):
        lifecycle.states(TOY.iloc[:0])
    with pytest.raises(DataError, match="no column customer_id"):
        lifecycle.states("charles_book_club")
    with pytest.raises(DataError, match=r"1 have no customer_id, 0 no date.*audit"):
        lifecycle.states(TOY.assign(customer_id=TOY["customer_id"].where(TOY.index > 0)))
    with pytest.raises(DataError, match="1 no amount"):
        lifecycle.rates(TOY.assign(amount=TOY["amount"].where(TOY.index > 0)))
    with pytest.raises(DataError, match="order must be 1 or 2"):
        lifecycle.transitions(TOY, order=3)


def test_one_customer_and_one_period_work_or_say_what_is_missing():
    one = TOY[:1]
    assert lifecycle.states(one, "Y")["new"].to_list() == [1]
    assert lifecycle.rates(one, "M")["value"].isna().all()
    assert lifecycle.orders_of_known(one, "M")["orders"].to_list() == [1]
    with pytest.raises(DataError, match="need 2 complete periods"):
        lifecycle.transitions(one, "M")
    assert lifecycle.funnel(one, 1, 2, 1, observation_end="2024-12-31")["customers"].to_list() == [1, 0, 0, 0]


def test_the_same_expression_gives_the_same_on_polars():
    from crmlab.lifecycle.histories import histories
    from crmlab.lifecycle.logs import checked

    rng = np.random.default_rng(1)
    days = pd.Timestamp("2022-01-01") + pd.to_timedelta(rng.integers(0, 730, 2000), unit="D")
    log = pd.DataFrame({"customer_id": rng.integers(0, 200, 2000), "date": days})
    engines = [ibis.polars.connect().create_table("log", log), log]
    tables = [
        [histories(*checked(engine)[:2], period, n).order_by(ibis._.customers).to_pandas() for period, n in PERIODS]
        for engine in engines
    ]
    for polars, duckdb in zip(*tables, strict=True):
        keys = list(duckdb.columns)
        pd.testing.assert_frame_equal(
            polars.sort_values(keys, ignore_index=True), duckdb.sort_values(keys, ignore_index=True), check_dtype=False
        )


PERIODS = [("M", 24), ("Q", 8), ("Y", 2), ("W", 106)]
