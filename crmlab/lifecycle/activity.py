"""Who is active, who comes, stays, goes and comes back: states of customers by period, and the moves between them."""

import datetime
import functools

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.stats import chi2

from crmlab.data.dialects import windowed
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.histories import advanced, delayed, histories, mask, onwards, total, words
from crmlab.lifecycle.intervals import effective
from crmlab.lifecycle.logs import calendar, checked, day_of, position

STATES = ("new", "returning", "resurrected", "dormant")
"""In the first period with a purchase; a purchase now and in the period before; now, not before; known, none now."""


def states(log, period="M", observation_end=None, left_truncated=True):
    r"""Count new, returning, resurrected and dormant customers in each period.

    A customer is *new* in the period of the first purchase, *returning* when buying now and in the period before,
    *resurrected* when buying now and not in the period before, *dormant* when known and not buying. Two identities
    hold exactly and are asserted, with :math:`K_t` the customers known by the end of period :math:`t`:

    .. math:: \text{active}_t = \text{new}_t + \text{returning}_t + \text{resurrected}_t, \qquad
        K_{t-1} + \text{new}_t = \text{active}_t + \text{dormant}_t

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log. A later one says that nobody bought since.
    left_truncated : bool
        Whether "new" customers of the first period may have bought before the log began; False for a log that holds
        all customers' first purchases, as `cdnow` does.

    Returns
    -------
    pandas.DataFrame
        Indexed by `period` (its first day): `known`, `active`, `new`, `returning`, `resurrected`, `dormant`, `lapsed`
        (bought in the period before and not now), and the marks `left_truncated` and `complete` (False where the
        observation ends within the period, so that low counts are no drop).

    Raises
    ------
    DataError
        Unknown period, missing columns, rows without customer or date, no rows.

    Notes
    -----
    The states are those of PostHog's life-cycle insight, where "dormant" is what is called `lapsed` here. A customer
    who bought before the log began and comes back later than in its first period still counts as new: no log knows.

    Examples
    --------
    >>> table = states("cdnow", "Q", left_truncated=False)
    >>> table.loc["1998-04-01", ["active", "returning", "resurrected", "dormant"]].tolist()
    [3317, 1760, 1557, 20253]
    """
    log, first, last = checked(log, observation_end=observation_end)
    table = calendar(first, last, period, left_truncated)
    n = len(table)
    counts, inside = 0, mask([True] * n)
    for active, customers, _batch in words(histories(log, first, period, n), n):
        known = onwards(active) & inside
        known_before, active_before = delayed(known), delayed(active)
        found = {
            "known": known,
            "active": active,
            "new": active & ~known_before,
            "returning": active & active_before,
            "resurrected": active & known_before & ~active_before,
            "dormant": known & ~active,
            "lapsed": active_before & ~active & inside,
        }
        counts += np.concatenate([total(bits, customers, n) for bits in found.values()])
    counts = dict(zip(found, counts, strict=True))
    found = pd.DataFrame(counts, index=table.index)
    assert (found["active"] == found["new"] + found["returning"] + found["resurrected"]).all()
    assert (found["known"].shift(fill_value=0) + found["new"] == found["active"] + found["dormant"]).all()
    return found.join(table)


def rates(log, period="M", observation_end=None, left_truncated=True, level=0.95):
    """Return the rates of acquisition, development, retention and win-back in each period, with Wilson intervals.

    Acquisition is the share of a period's customers who are new. Retention is the share of the customers of the period
    before who buy again now. Win-back is the share of those dormant in the period before who buy now. Development is
    the share of returning customers who spend more than in the period before (buy on more days, if the log has no
    amounts); without growth it lies below one half by the share of ties.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    left_truncated : bool
        Whether "new" customers of the first period may have bought before the log began.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `period` and `rate`: `value`, `low`, `high`, `count` and `of`. Missing where the period is not
        complete, where there is no period before, and for acquisition in a left-truncated period.

    Raises
    ------
    DataError
        Unknown period, missing columns, rows without customer, date or amount, no rows.

    Examples
    --------
    >>> table = rates("cdnow", "Q", left_truncated=False)
    >>> table.loc[("1998-04-01", "retention")].round(4).tolist()
    [0.4611, 0.4453, 0.4769, 1760.0, 3817.0]
    """
    counts = states(log, period, observation_end, left_truncated)
    before = counts.shift()
    shares = {
        "acquisition": (counts["new"].where(~counts["left_truncated"]), counts["active"]),
        "development": (_developed(log, period, observation_end, counts.index), counts["returning"]),
        "retention": (counts["returning"], before["active"]),
        "win-back": (counts["resurrected"], before["dormant"]),
    }
    rows = []
    for name, (count, of) in shares.items():
        usable = counts["complete"] & count.notna() & (of > 0)
        share, low, high = wilson(count.where(usable), of.where(usable), level)
        row = {"rate": name, "value": share, "low": low, "high": high, "count": count.where(usable), "of": of}
        rows.append(pd.DataFrame(row, index=counts.index).assign(of=of.where(usable)))
    return pd.concat(rows).astype({"count": float}).set_index("rate", append=True).sort_index()


def _developed(log, period, observation_end, index):
    """How many customers spent more than in the period before, by period."""
    log, first, _last = checked(log, observation_end=observation_end, wants=["amount"])
    # Sums of the same amounts in another order may differ in the last digit.
    value = _.amount.sum().cast("float64").round(6) if "amount" in log.columns else _.day.nunique().cast("float64")
    sums = windowed(log.mutate(at=position(period, first)).group_by("customer_id", "at").aggregate(value=value))
    lagged = ibis.window(group_by="customer_id", order_by="at")
    sums = sums.mutate(at_before=_.at.lag().over(lagged), value_before=_.value.lag().over(lagged))
    grown = sums.filter((_.at_before == _.at - 1) & (_.value > _.value_before)).group_by("at").aggregate(n=_.count())
    found = grown.to_pandas().set_index("at")["n"]
    return pd.Series(found.reindex(range(len(index)), fill_value=0).to_numpy(float), index=index)


def transitions(log, period="M", order=1, observation_end=None, left_truncated=True, level=0.95):
    r"""Return how customers move between the states from one period to the next, as a Markov chain.

    With :math:`n_{jk}` moves from state :math:`j` to :math:`k`, the maximum-likelihood estimate is
    :math:`\hat p_{jk} = n_{jk} / \sum_k n_{jk}`. Moves of one customer may resemble each other, so the (Wilson)
    interval counts customers as clusters.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    order : {1, 2}
        Whether the next state depends on the present one or also on the one before.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    left_truncated : bool
        Whether "new" customers of the first period may have bought before the log began.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `from` and `to` (with order 2 also `before`): `probability`, `low`, `high`, `count`, `of` (moves out
        of the state) and `effective` (as many independent moves tell as much). Moves that cannot be (back to new, …)
        or that nobody could have made are not listed. Incomplete and left-truncated periods are left out.
        `table["probability"].unstack("to", fill_value=0)` is the matrix.

    Raises
    ------
    DataError
        Unknown period or order, too few complete periods, missing columns, rows without customer or date.

    Notes
    -----
    Anderson and Goodman (1957), Annals of Mathematical Statistics 28(1), 89-110; the interval is that of
    Dean and Pagano (2015), Journal of Survey Statistics and Methodology 3(4), 484-503.

    Examples
    --------
    >>> table = transitions("cdnow", "Q", left_truncated=False)
    >>> table["probability"].unstack("to", fill_value=0).round(3)
    to           dormant  resurrected  returning
    from
    dormant        0.901        0.099      0.000
    new            0.772        0.000      0.228
    resurrected    0.653        0.000      0.347
    returning      0.488        0.000      0.512
    """
    if order not in (1, 2):
        raise DataError(f"order must be 1 or 2, not {order!r}.")
    counts = _moves(log, period, order, observation_end, left_truncated)[0]
    groups = counts.groupby(level=list(range(order)), sort=False)
    of = groups["count"].transform("sum")
    counts = counts.assign(of=of)[of > 0]
    squares = (counts["kk"], counts["kn"], counts["nn"])
    enough = effective(counts["count"], counts["of"], squares, counts["clusters"])
    share = counts["count"] / counts["of"]
    _share, low, high = wilson(share * enough, enough, level)
    found = {"probability": share, "low": low, "high": high, "count": counts["count"], "of": counts["of"]}
    return pd.DataFrame(found | {"effective": enough}, index=counts.index)


def _paths(order):
    """The sequences of `order` + 1 states that can be, as numbers from 1."""
    follows = {1: (2, 4), 2: (2, 4), 3: (2, 4), 4: (3, 4)}
    paths = [(state,) for state in follows]
    for _step in range(order):
        paths = [(*path, state) for path in paths for state in follows[path[-1]]]
    return paths


def _moves(log, period, order, observation_end, left_truncated):
    """Counts of the paths with their sums of squares over customers, and the counts by period."""
    log, first, last = checked(log, observation_end=observation_end)
    table = calendar(first, last, period, left_truncated)
    n, usable = len(table), (table["complete"] & ~table["left_truncated"]).to_numpy()
    if usable.sum() <= order:
        raise DataError(
            f"Moves of order {order} need {order + 1} complete periods; between {first} and {last} there are "
            f"{usable.sum()} (period {period!r}; the first one does not count while left_truncated is True)."
        )
    paths = _paths(order)
    by_period, squares, clusters = 0, 0, 0
    origins = np.array([[path[:-1] == other[:-1] for other in paths] for path in paths])
    seen = mask(usable)
    for active, customers, _batch in words(histories(log, first, period, n), n):
        known, just = delayed(onwards(active)), delayed(active)
        now = (active & ~known, active & just, active & known & ~just, known & ~active)
        steps = [[bits & seen for bits in now]]
        for _step in range(order):
            steps.append([advanced(bits) for bits in steps[-1]])
        made = [functools.reduce(np.bitwise_and, (steps[i][s - 1] for i, s in enumerate(path))) for path in paths]
        by_period = by_period + np.concatenate([total(moves, customers, n) for moves in made])[:, usable][:, :-order]
        each = np.array([np.bitwise_count(moves).sum(axis=0) for moves in made], dtype=float)
        squares = squares + (each * customers) @ each.T
        clusters = clusters + (origins @ each > 0) @ customers
    names = [tuple(STATES[s - 1] for s in path) for path in paths]
    index = pd.MultiIndex.from_tuples(names, names=["before", "from", "to"][-order - 1 :])
    # The count of moves out of a state is a sum over its paths, and so are its products.
    sums = {
        "count": by_period.sum(axis=1),
        "kk": np.diag(squares),
        "kn": (squares * origins).sum(axis=1),
        "nn": [squares[np.ix_(same, same)].sum() for same in origins],
        "clusters": clusters,
    }
    return pd.DataFrame(sums, index=index).sort_index(), pd.DataFrame(by_period, index=index).sort_index()


def markov_test(log, period="M", observation_end=None, left_truncated=True):
    r"""Test what a Markov chain of customer states supposes: no memory beyond the present state, constant rates.

    Against the first order stands the second, against constant probabilities stand those of each period. With counts
    :math:`n_{ijk}` of moves under condition :math:`i` (the state before, or the period), the likelihood ratio is
    :math:`G^2 = 2 \sum n_{ijk} \log \frac{n_{ijk}}{n_{ij\cdot}\, \hat p_{jk}}`, chi-squared with
    :math:`\sum_j (I_j - 1)(K_j - 1)` degrees of freedom, :math:`I_j` conditions and :math:`K_j` next states that occur.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    left_truncated : bool
        Whether "new" customers of the first period may have bought before the log began.

    Returns
    -------
    pandas.DataFrame
        Indexed by `supposed` ("no memory", "constant rates"): `likelihood_ratio`, `pearson`, `df`,
        `p_likelihood_ratio`, `p_pearson`. Missing where nothing can be tested.

    Raises
    ------
    DataError
        Unknown period, too few complete periods, missing columns, rows without customer or date.

    Notes
    -----
    Anderson and Goodman (1957), Annals of Mathematical Statistics 28(1), 89-110. Customers who differ in their rates
    make the chain look as if it had a memory: a small p-value does not say which of the two it is.

    Examples
    --------
    >>> markov_test("cdnow", "Q", left_truncated=False)["df"].tolist()
    [5, 8]
    """
    where = (observation_end, left_truncated)
    second = _moves(log, period, 2, *where)[0]["count"]
    by_period = _moves(log, period, 1, *where)[1].rename_axis(columns="step").stack()
    conditions = {"no memory": second, "constant rates": by_period}
    rows = {name: _likelihood_ratio(counts) for name, counts in conditions.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("supposed").astype({"df": int})


def _likelihood_ratio(counts):
    """Are the moves from a state the same under all conditions, the level that is neither from nor to?"""
    condition = next(name for name in counts.index.names if name not in ("from", "to"))
    counts = counts[counts > 0].astype(float)
    origin = counts.groupby(level=[condition, "from"])
    shares = counts.groupby(level=["from", "to"]).sum()
    shares = shares / shares.groupby(level="from").transform("sum")
    # Cells where nobody moved have no part in the likelihood ratio, but in Pearson's sum they have.
    conditions = origin.sum().rename("of").reset_index()
    cells = conditions.merge(shares.rename("share").reset_index(), on="from")
    cells = cells.merge(counts.rename("count").reset_index(), how="left").fillna({"count": 0.0})
    expected = cells["of"] * cells["share"]
    seen = cells["count"] > 0
    ratio = 2 * (cells["count"] * np.log(cells["count"].where(seen, 1.0) / expected))[seen].sum()
    pearson = ((cells["count"] - expected) ** 2 / expected).sum()
    df = ((conditions.groupby("from").size() - 1) * (shares.groupby(level="from").size() - 1)).sum()
    p = {f"p_{k}": chi2.sf(v, df) if df else np.nan for k, v in {"likelihood_ratio": ratio, "pearson": pearson}.items()}
    return {"likelihood_ratio": ratio, "pearson": pearson, "df": df} | p


def steady_state(moves, draws=2000, seed=0, level=0.95):
    r"""Return where the customers of a chain end up if its probabilities stay as they are and nobody new comes.

    The steady state solves :math:`\pi P = \pi`, :math:`\sum \pi = 1`. With :math:`a`, :math:`b` the probabilities to
    return of a returning and of a resurrected customer and :math:`c` that of a dormant one to be resurrected, a spell
    of buying lasts :math:`1 + b / (1 - a)` periods on average and one of silence :math:`1 / c`.

    Parameters
    ----------
    moves : pandas.DataFrame
        Of `transitions`, order 1.
    draws : int
        Simulated probabilities for the intervals: beta distributions (Jeffreys) of as many independent moves as the
        table has.
    seed : int
        Seed of the simulation.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `quantity`: shares "returning", "resurrected", "dormant" and "active" (the first two together),
        lengths "periods bought in a row" and "periods silent in a row"; `value`, `low`, `high`.

    Raises
    ------
    DataError
        A table of another kind, or one in which nobody was ever dormant or bought two periods in a row, so that a
        probability is unknown.

    Examples
    --------
    >>> steady_state(transitions("cdnow", "Q", left_truncated=False)).round(3).loc["active"].tolist()
    [0.144, 0.141, 0.148]
    """
    wanted = {"a": ("returning", "returning"), "b": ("resurrected", "returning"), "c": ("dormant", "resurrected")}
    if "effective" not in moves or moves.index.names != ["from", "to"]:
        raise DataError("steady_state needs the table of transitions(log, period) with order=1.")
    if unknown := [states[0] for states in wanted.values() if states not in moves.index]:
        raise DataError(f"Nobody was ever seen leaving the state {', '.join(unknown)}: there is no steady state.")
    rng = np.random.default_rng(seed)
    rows = moves.loc[list(wanted.values())]
    k, n = (rows["probability"] * rows["effective"]).to_numpy(), rows["effective"].to_numpy()
    estimate = _spells(*rows["probability"].to_numpy())
    drawn = _spells(*rng.beta(k[:, None] + 0.5, (n - k)[:, None] + 0.5, (len(k), draws)))
    low, high = (np.quantile(list(drawn.values()), (1 + sign * level) / 2, axis=1) for sign in (-1, 1))
    index = pd.Index(list(estimate), name="quantity")
    found = pd.DataFrame({"value": [float(v) for v in estimate.values()], "low": low, "high": high}, index=index)
    # A probability of 0 or 1 lies outside any interval of its own.
    return found.assign(low=found[["low", "value"]].min(axis=1), high=found[["high", "value"]].max(axis=1))


def _spells(a, b, c):
    """Shares of the steady state and mean lengths of its spells."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bought, silent = 1 + np.where(b > 0, b / (1 - a), 0.0), 1 / c
        cycle = bought + silent
        active = np.where(np.isinf(silent), np.where(np.isinf(bought), np.nan, 0.0), 1 - silent / cycle)
        resurrected = 1 / cycle
    shares = {"returning": active - resurrected, "resurrected": resurrected, "dormant": 1 - active, "active": active}
    return shares | {"periods bought in a row": bought, "periods silent in a row": silent}


def funnel(log, within=365, frequent=4, recent=91, start=None, observation_end=None, level=0.95):
    """Return how many customers get from trial to repeat, frequent and loyal buying, with Wilson intervals.

    Every customer is followed for the same number of days from the first purchase. *Trial*: the first purchase.
    *Repeat*: purchases on two days or more. *Frequent*: on as many days as `frequent` says. *Loyal*: frequent, and
    buying still in the last `recent` days of the time followed.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    within : int
        Days that each customer is followed; whoever first bought less long before the end is left out.
    frequent : int
        Purchase days that make a frequent customer.
    recent : int
        Days at the end of the time followed in which a loyal customer must buy.
    start : str or date, optional
        Count only customers who first bought from this day on; set it later than the beginning of a left-truncated
        log, whose first customers are no trials.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `stage`: `definition`, `customers`, `of_trial` with `low` and `high`, `of_stage_before` with
        `low_before` and `high_before`.

    Raises
    ------
    DataError
        Impossible options, nobody who is followed long enough, missing columns, rows without customer or date.

    Examples
    --------
    >>> funnel("cdnow")["customers"].tolist()
    [23570, 10810, 4277, 2577]
    """
    if not (within >= 1 and frequent >= 2 and 1 <= recent <= within):
        raise DataError(
            f"within={within}, frequent={frequent}, recent={recent}: a customer is followed for at least 1 day, is "
            "frequent from 2 purchase days on, and recent days are at most those followed."
        )
    log, first, last = checked(log, observation_end=observation_end)
    start = first if start is None else day_of("start", start)
    latest = last - datetime.timedelta(days=within)
    firsts = log.group_by("customer_id").aggregate(first=_.day.min())
    followed = firsts.filter(_["first"].between(ibis.literal(start), ibis.literal(latest)))
    age = _.day.delta(_["first"], unit="day")
    bought = log.join(followed, "customer_id").mutate(age=age).filter(_.age <= within)
    each = bought.group_by("customer_id").aggregate(days=_.age.nunique(), late=_.age.max() > within - recent)
    often = each.days >= frequent
    counts = each.aggregate(trial=_.count(), repeat=(each.days >= 2).sum(), frequent=often.sum(),
                            loyal=(often & each.late).sum()).to_pandas().iloc[0].fillna(0)  # fmt: skip
    if not counts["trial"]:
        raise DataError(
            f"Nobody first bought between {start} and {latest}, {within} days before the end of observation ({last})."
        )
    definition = [
        "first purchase",
        f"purchases on 2 days or more within {within} days",
        f"purchases on {frequent} days or more within {within} days",
        f"frequent, and a purchase in the last {recent} of the {within} days",
    ]
    customers = counts.to_numpy(int)
    share, low, high = wilson(customers, customers[0], level)
    low[0] = 1.0  # by definition, not by chance
    before, low_before, high_before = wilson(customers, [np.nan, *customers[:-1]], level)
    return pd.DataFrame(
        {
            "definition": definition,
            "customers": customers,
            "of_trial": share,
            "low": low,
            "high": high,
            "of_stage_before": before,
            "low_before": low_before,
            "high_before": high_before,
        },
        index=pd.Index(counts.index, name="stage"),
    )


def orders_of_known(log, period="Y", observation_end=None, left_truncated=True, level=0.95):
    """Return the share of orders that known customers make, beside the share of customers who are retained.

    A repeat order is any order of a customer but the first. Shops advertise the share of repeat orders ("65 % of our
    orders come from repeat customers"); it is no retention rate: a few loyal customers with many orders make it high
    while most customers leave.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts. Orders are the values of `order_id`, dated by their
        first row; without that column they are purchase days.
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
        Indexed by `period`: `orders`, `repeat_orders`, their `repeat_share` with `repeat_low` and `repeat_high`
        (customers as clusters), `retention` (of the customers of the period before, who buys again) with
        `retention_low` and `retention_high` (Wilson), and the marks `left_truncated` and `complete`. Shares are missing
        in marked periods.

    Raises
    ------
    DataError
        Unknown period, missing columns, rows without customer or date, no rows.

    Notes
    -----
    Amazon.com's release on the second quarter of 1998 says that repeat customers placed more than 63 percent of orders;
    it is often retold as a retention of 65 %.

    Examples
    --------
    >>> table = orders_of_known("cdnow", "Q", left_truncated=False)
    >>> table.loc["1998-04-01", ["repeat_share", "retention"]].round(3).tolist()
    [1.0, 0.461]
    """
    counts = states(log, period, observation_end, left_truncated)
    log, first, _last = checked(log, observation_end=observation_end, wants=["order_id"])
    order = _.order_id.cast("string").fill_null(_.day.cast("string")) if "order_id" in log.columns else _.day
    orders = log.group_by("customer_id", order=order).aggregate(day=_.day.min()).mutate(at=position(period, first))
    each = windowed(orders.group_by("customer_id", "at").aggregate(n=_.count()))
    each = each.mutate(k=_.n - (_.at == _.at.min().over(group_by="customer_id")).ifelse(1, 0))
    sums = {"orders": _.n.sum(), "repeat_orders": _.k.sum(), "kk": (_.k * _.k).sum(), "kn": (_.k * _.n).sum()}
    found = each.group_by("at").aggregate(**sums, nn=(_.n * _.n).sum(), customers=_.count()).to_pandas()
    found = found.set_index("at").reindex(range(len(counts)), fill_value=0).astype(int).set_index(counts.index)
    k, n = found["repeat_orders"], found["orders"]
    enough = effective(k, n, (found["kk"], found["kn"], found["nn"]), found["customers"])
    share = (k / n).where(counts["complete"] & ~counts["left_truncated"])
    _share, low, high = wilson(share * enough, enough, level)
    shown = {"orders": n, "repeat_orders": k, "repeat_share": share, "repeat_low": low, "repeat_high": high}
    before = counts["active"].shift().where(counts["complete"])
    retained = wilson(counts["returning"], before, level)
    shown |= dict(zip(("retention", "retention_low", "retention_high"), retained, strict=True))
    return pd.DataFrame(shown, index=counts.index).join(counts[["left_truncated", "complete"]])
