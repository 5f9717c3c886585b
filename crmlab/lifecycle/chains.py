"""Chains of customer states put to the test: how the return of a customer depends on silence, and forecasts scored."""

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.activity import STATES
from crmlab.lifecycle.histories import blocks, histories
from crmlab.lifecycle.intervals import effective
from crmlab.lifecycle.logs import calendar, checked, day_of

MEMORIES = {"state": "the four states of the life cycle", "silence": "the periods since the last purchase"}


def win_back(log, period="M", observation_end=None, left_truncated=True, level=0.95):
    r"""Return the share of customers who buy in the next period, by how many periods they have been silent.

    In a Markov chain of the four life-cycle states all dormant customers are alike, so that the share would be the same
    after one silent period and after ten. Silence 0 are the customers who buy in the period itself. A customer counts
    once for every period of such a silence; the interval (Wilson's) counts customers as clusters.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    left_truncated : bool
        Whether customers of the first period may have bought before the log began.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `silent` (periods): `share` who buy in the next period, `low`, `high`, `count` and `of`. Silences
        that were never seen to end are not listed.

    Raises
    ------
    DataError
        Unknown period, fewer than two complete periods, missing columns, rows without customer or date.

    Examples
    --------
    >>> win_back("cdnow", "Q", left_truncated=False)["share"].round(3).tolist()
    [0.326, 0.155, 0.102, 0.062, 0.033]
    """
    log, first, last = checked(log, observation_end=observation_end)
    table = calendar(first, last, period, left_truncated)
    start, n = int(left_truncated), int(table["complete"].sum())
    _enough(n - start, period, last)
    moves = _moves(log, first, period, len(table), "silence", start, n)[0]
    moves = moves[moves["of"] > 0]
    share, low, high = wilson(moves["count"] / moves["of"] * moves["effective"], moves["effective"], level)
    found = {"share": share, "low": low, "high": high, "count": moves["count"], "of": moves["of"]}
    return pd.DataFrame(found, index=moves.index).astype({"count": int, "of": int})


def chain_forecast(
    log,
    period="M",
    until=None,
    memory="state",
    observation_end=None,
    left_truncated=True,
    draws=2000,
    seed=0,
    level=0.95,
):
    r"""Fit a Markov chain to the first periods and score its forecast of the active customers on the later ones.

    Only customers known by `until` are followed. With :math:`n_0` of them in each state, those active :math:`h` periods
    later are expected to be :math:`n_0 P^h` summed over the active states. The interval is that of simulated futures:
    probabilities from beta distributions (Jeffreys) of as many independent moves as there were, then moves by chance.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    until : str or date, optional
        Last day that the chain sees; by default the middle of the complete periods.
    memory : {"state", "silence"}
        What a state of the chain is: new, returning, resurrected or dormant; or the number of periods since the last
        purchase, the longest one seen for all longer ones.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    left_truncated : bool
        Whether customers of the first period may have bought before the log began.
    draws : int
        Simulated futures.
    seed : int
        Seed of the simulation.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `period`: `actual` active customers among those known by `until`, `expected` by the chain with `low`
        and `high`, and `unchanged`, the active ones of the last period that the chain sees.

    Raises
    ------
    DataError
        Unknown period or memory, too few complete periods on either side of `until`, a state that nobody was seen
        leaving, missing columns, rows without customer or date.

    Notes
    -----
    Chains on the time since the last purchase: Pfeifer and Carraway (2000), Journal of Interactive Marketing 14(2),
    43-55.

    Examples
    --------
    >>> table = chain_forecast("cdnow", "M", "1997-09-30", left_truncated=False)
    >>> table[["actual", "expected", "unchanged"]].sum().round().astype(int).tolist()
    [15310, 17619, 15651]
    """
    if memory not in MEMORIES:
        known = ", ".join(f"{name} ({words})" for name, words in MEMORIES.items())
        raise DataError(f"memory must be one of {known}, not {memory!r}.")
    log, first, last = checked(log, observation_end=observation_end)
    table = calendar(first, last, period, left_truncated)
    start, n = int(left_truncated), int(table["complete"].sum())
    if until is None:
        seen = (n + start + 1) // 2
    else:
        seen = int(calendar(first, max(first, day_of("until", until)), period)["complete"].sum())
    _enough(seen - start, period, until or last)
    if seen >= n:
        raise DataError(f"There is no complete period after {until} to score the forecast on (period {period!r}).")
    moves, now, actual = _moves(log, first, period, len(table), memory, start, seen)
    if memory == "state" and (moves["of"].eq(0) & (now + np.array([0, 1, 1, 1]) > 0)).any():
        unseen = [state for state, of in moves["of"].items() if of == 0]
        raise DataError(f"Before {table.index[seen]:%Y-%m-%d} nobody was seen leaving the state {', '.join(unseen)}.")
    index = moves.index
    # A silence that nobody was seen in is taken for the one before; nobody is in a state without moves.
    moves = moves.assign(share=moves["count"] / moves["of"])[["share", "effective"]][moves["of"] > 0]
    share, of = moves.reindex(index).ffill().fillna(0).to_numpy().T
    expected = _futures(now.astype(float), share, n - seen, memory, lambda customers, p: customers * p)
    rng = np.random.default_rng(seed)
    drawn = rng.beta(share * of + 0.5, (1 - share) * of + 0.5, (draws, len(share)))
    customers = np.tile(now, (draws, 1))
    futures = _futures(customers, drawn, n - seen, memory, lambda customers, p: rng.binomial(customers, p))
    low, high = np.quantile(futures, [(1 - level) / 2, (1 + level) / 2], axis=1)
    found = {"actual": actual[seen:n], "expected": expected, "low": low, "high": high, "unchanged": actual[seen - 1]}
    return pd.DataFrame(found, index=table.index[seen:n])


def _enough(periods, period, last):
    if periods < 2:
        raise DataError(
            f"A move needs two complete periods; up to {last} there are {max(periods, 0)} (period {period!r}; the "
            "first one does not count while left_truncated is True)."
        )


def _moves(log, first, period, n, memory, start, end):
    """Moves to a purchase from each state in the periods from start to end, customers by state in the last of them,
    and the active ones among these customers by period."""
    size = 4 if memory == "state" else end - 1
    sums, now, actual = np.zeros((6, size)), np.zeros(size, int), np.zeros(n, int)
    for active, customers, _batch in blocks(histories(log, first, period, n), n):
        at = np.arange(end)[:, None]
        ever = np.maximum.accumulate(np.where(active[:end], at, -1), axis=0)
        state = np.where(ever < 0, -1, at - ever)
        if memory == "state":
            before = np.pad(ever[:-1], ((1, 0), (0, 0)), constant_values=-1)
            bought = np.where(before < 0, 0, np.where(before == at - 1, 1, 2))
            state = np.where(state == 0, bought, np.where(state > 0, 3, -1))
        state = np.minimum(state, size - 1)
        for i in range(size):
            here = state[start : end - 1] == i
            of, count = here.sum(axis=0), (here & active[start + 1 : end]).sum(axis=0)
            each = np.array([count, of, count * count, count * of, of * of, of > 0])
            sums[:, i] += each @ customers
            now[i] += customers[state[-1] == i].sum()
        actual += active[:, state[-1] >= 0] @ customers[state[-1] >= 0]
    count, of, kk, kn, nn, clusters = sums
    index = pd.Index(STATES, name="from") if memory == "state" else pd.RangeIndex(size, name="silent")
    found = {"count": count, "of": of, "effective": effective(count, of, (kk, kn, nn), clusters)}
    return pd.DataFrame(found, index=index), now, actual


def _futures(customers, share, steps, memory, bought):
    """Active customers after each step; the states are the last axis."""
    active = []
    for _step in range(steps):
        back = bought(customers, share)
        silent = customers - back
        customers = np.zeros_like(customers)
        if memory == "state":
            customers[..., 1], customers[..., 2] = back[..., :3].sum(axis=-1), back[..., 3]
            customers[..., 3] = silent.sum(axis=-1)
        else:
            customers[..., 0] = back.sum(axis=-1)
            customers[..., 1:] = silent[..., :-1]
            customers[..., -1] += silent[..., -1]
        active.append(back.sum(axis=-1))
    return np.array(active)
