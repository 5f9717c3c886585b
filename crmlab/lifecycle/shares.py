"""Value is not scale: how much of the whole the best customers bring, and who pays it back."""

import datetime
import math

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.stats import hypergeom

from crmlab.data.dialects import by_code, number, windowed
from crmlab.data.errors import DataError
from crmlab.lifecycle.logs import checked

MANY = 100_000
"""Customers from which on the bootstrap draws Poisson numbers, which is faster."""


def concentration(values, share=0.2, weights=None, n_boot=999, seed=0, level=0.95):
    r"""Return the share of the whole that the top customers bring, and the Gini coefficient, with bootstrap intervals.

    With the Lorenz curve :math:`L(p)`, the share of the whole of the :math:`p` poorest, the top share is
    :math:`1 - L(1 - s)` and the Gini coefficient :math:`1 - 2 \int_0^1 L(p)\,dp`; both take the curve as straight
    between customers.

    Parameters
    ----------
    values : array-like
        What each customer brings (revenue, orders, …), not negative. Customers who bring 0 count as customers.
    share : float
        Share of the customers that is the top, such as 0.2.
    weights : array-like of int, optional
        How many customers bring each value; one by default.
    n_boot : int
        Bootstrap samples of customers; the intervals are percentiles.
    seed : int
        Seed of the bootstrap.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `measure` ("top share", "gini"): `value`, `low`, `high`, `customers`.

    Raises
    ------
    DataError
        No customers, values that are missing or negative, a sum of 0, weights that do not count, an impossible share.

    Notes
    -----
    The top share may grow with the window in which values are counted: see `concentration_growth`. Sources
    of the "80 percent": McCarthy and Winer (2019), SSRN 3264425, find .67 on average of 339 firms.

    Examples
    --------
    >>> concentration([1, 1, 1, 1, 16], n_boot=99).loc["top share", "value"].round(3).item()
    0.8
    """
    if not 0 < share < 1:
        raise DataError(f"share must lie between 0 and 1, such as 0.2 for a fifth, not {share!r}.")
    values, counts = _grouped(values, weights)
    if values[0] < 0:
        raise DataError(
            f"{counts[values < 0].sum():,} customers have a negative value, the least {values[0]:,.6g}: a share of the "
            "whole has no meaning then. Take returns out first, or see who pays back with whale_curve."
        )
    if values[-1] <= 0:
        raise DataError("The values add up to 0: nobody has a share of nothing.")
    estimate = _top_and_gini(values, counts, share)
    sampled = [_top_and_gini(values, sample, share) for sample in _resampled(counts, n_boot, seed)]
    return _with_percentiles({"top share": estimate[0], "gini": estimate[1]}, sampled, level, counts.sum())


def _grouped(values, weights=None):
    """Distinct values, ascending, and how many customers have each: all that the shares depend on."""
    values = np.asarray(values, dtype=float).ravel()
    weights = np.ones(len(values), dtype=np.int64) if weights is None else np.asarray(weights).ravel()
    if len(weights) != len(values):
        raise DataError(f"There are {len(values):,} values and {len(weights):,} weights.")
    if lost := int((~np.isfinite(values)).sum()):
        raise DataError(f"{lost:,} of {len(values):,} values are missing or infinite; decide what they are.")
    whole = np.asarray(weights, dtype=float)
    if not (np.isfinite(whole).all() and (whole >= 0).all() and (whole == np.floor(whole)).all()):
        raise DataError("Weights say how many customers have a value: whole numbers that are not negative.")
    distinct, where = np.unique(values[whole > 0], return_inverse=True)
    if not len(distinct):
        raise DataError("There are no customers.")
    return distinct, np.bincount(where, whole[whole > 0]).astype(np.int64)


def _curve(values, counts):
    """Points of the Lorenz curve from (0, 0) to (1, 1)."""
    customers, value = (np.concatenate([[0.0], np.cumsum(steps)]) for steps in (counts, counts * values))
    return customers / customers[-1], value / value[-1]


def _top_and_gini(values, counts, share):
    if not (counts * values).any():
        return np.nan, np.nan
    customers, value = _curve(values, counts)
    gini = 1 - np.sum(np.diff(customers) * (value[1:] + value[:-1]))
    return 1 - np.interp(1 - share, customers, value), gini


def _resampled(counts, n_boot, seed):
    """How many customers of each value are in samples with replacement of all customers."""
    rng = np.random.default_rng(seed)
    n, chances = counts.sum(), counts / counts.sum()
    for _sample in range(n_boot):
        # Of many customers, Poisson numbers differ from a sample by its size only, which no share depends on.
        yield rng.multinomial(n, chances) if n <= MANY else rng.poisson(counts)


def _with_percentiles(estimates, sampled, level, customers):
    low = high = np.nan
    if sampled:
        low, high = (np.quantile(sampled, (1 + sign * level) / 2, axis=0) for sign in (-1, 1))
    found = pd.DataFrame({"value": list(estimates.values()), "low": low, "high": high, "customers": customers})
    return found.set_index(pd.Index(list(estimates), name="measure"))


def lorenz(values, weights=None):
    """Return the Lorenz curve: the share of the whole that the poorest customers bring.

    Parameters
    ----------
    values : array-like
        What each customer brings, not negative.
    weights : array-like of int, optional
        How many customers bring each value; one by default.

    Returns
    -------
    pandas.DataFrame
        Indexed by `customers` (share, from 0 to 1): `value` (share of the whole), a point for each distinct value.

    Raises
    ------
    DataError
        As `concentration`.

    Examples
    --------
    >>> lorenz([1, 3])
               value
    customers
    0.0         0.00
    0.5         0.25
    1.0         1.00
    """
    concentration(values, weights=weights, n_boot=0)
    customers, value = _curve(*_grouped(values, weights))
    return pd.DataFrame({"value": value}, index=pd.Index(customers, name="customers"))


def concentration_growth(log, windows=None, share=0.2, n_boot=199, seed=0, observation_end=None, level=0.95):
    """Return how the top customers' share changes with the time over which purchases are counted.

    Where most customers come to try, they look alike in a short window, and the longer it is, the more those with many
    purchases stand out; where they come every week, a few months have shown all. Compare shares of equal windows only.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `amount`, or anything `crmlab.data.load` accepts.
    windows : sequence of int, optional
        Lengths in days, all from the first day of the log; by default its quarters.
    share : float
        Share of the customers that is the top.
    n_boot : int
        Bootstrap samples.
    seed : int
        Seed of the bootstrap.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `days` and `measure` ("top share", "gini"): `value`, `low`, `high`, `customers` (who bought in the
        window and paid something).

    Raises
    ------
    DataError
        Windows that are longer than the log or not positive, negative sums, missing columns, no rows.

    Examples
    --------
    >>> growth = concentration_growth("cdnow", [273, 546], n_boot=19)
    >>> growth["value"].xs("top share", level="measure").round(3).tolist()
    [0.628, 0.677]
    """
    log, first, last = checked(log, ["amount"], observation_end)
    span = (last - first).days + 1
    windows = sorted({math.ceil(span * part / 4) for part in range(1, 5)} if windows is None else windows)
    if not windows or windows[0] < 1 or windows[-1] > span:
        raise DataError(f"windows are lengths in days from 1 to {span} ({first} to {last}), not {windows!r}.")
    ends = [ibis.literal(first + datetime.timedelta(days=int(days) - 1)) for days in windows]
    sums = {f"w{i}": ibis.coalesce(_.amount.sum(where=_.day <= end), 0) for i, end in enumerate(ends)}
    # Sums of the same amounts in another order may differ in the last digit, which must not make them distinct.
    totals = log.group_by("customer_id").aggregate(**sums).drop("customer_id").to_pandas().round(6)
    found = [concentration(paid[paid != 0], share, None, n_boot, seed, level) for _name, paid in totals.items()]
    return pd.concat(found, keys=windows, names=["days"])


def whale_curve(margins):
    """Return the whale curve: customers from the most to the least profitable, and what they add up to.

    Where customers lose money the curve rises above 100 % of the total and comes down again: those at the end pay back
    what the first ones earned.

    Parameters
    ----------
    margins : pandas.Series or array-like
        Profit of each customer; losses are negative.

    Returns
    -------
    pandas.DataFrame
        Indexed as the margins are (`customer` where they have no name): `margin`, `customers` (share so far),
        `cumulative` margin, `cumulative_share` of the total (missing where there is no profit in total), `side`
        ("earns", "even", "pays back").

    Raises
    ------
    DataError
        No customers, margins that are missing.

    Notes
    -----
    Kaplan and Narayanan (2001), Journal of Cost Management 15(5), 5-15, and before them R. Cooper and R. S. Kaplan.

    Examples
    --------
    >>> whale_curve(pd.Series({"a": -3.0, "b": 8.0, "c": 5.0}))["cumulative_share"].tolist()
    [0.8, 1.3, 1.0]
    """
    _grouped(margins)
    margins = margins if isinstance(margins, pd.Series) else pd.Series(np.asarray(margins, dtype=float).ravel())
    sorted_ = margins.astype(float).sort_values(ascending=False, kind="stable")
    margin, n = sorted_.to_numpy(), len(sorted_)
    cumulative, total = np.cumsum(margin), math.fsum(margin)
    found = {
        "margin": margin,
        "customers": np.arange(1, n + 1) / n,
        "cumulative": cumulative,
        "cumulative_share": cumulative / total if total > 0 else np.nan,
        "side": np.select([margin > 0, margin < 0], ["earns", "pays back"], "even"),
    }
    return pd.DataFrame(found, index=sorted_.index.rename(sorted_.index.name or "customer"))


def whale_peak(margins, n_boot=999, seed=0, level=0.95):
    """Return how high the whale curve rises, with bootstrap intervals.

    Parameters
    ----------
    margins : array-like
        Profit of each customer; losses are negative.
    n_boot : int
        Bootstrap samples of customers; the intervals are percentiles.
    seed : int
        Seed of the bootstrap.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `measure`: "total", "peak" (what the earning customers bring), "paid back" (what the others take
        away), "peak share" (of the total; missing without a profit in total), "earning" (share of customers who earn);
        `value`, `low`, `high`, `customers`. The share has no interval where some samples have no profit in total.

    Raises
    ------
    DataError
        No customers, margins that are missing.

    Examples
    --------
    >>> whale_peak([-3.0, 8.0, 5.0], n_boot=99)["value"].tolist()
    [10.0, 13.0, 3.0, 1.3, 0.6666666666666666]
    """
    values, counts = _grouped(margins)

    def measured(counts):
        peak, lost = counts @ values.clip(min=0), counts @ (-values).clip(min=0)
        total = peak - lost
        return [total, peak, lost, peak / total if total > 0 else np.nan, counts[values > 0].sum() / counts.sum()]

    names = ("total", "peak", "paid back", "peak share", "earning")
    sampled = [measured(sample) for sample in _resampled(counts, n_boot, seed)]
    return _with_percentiles(dict(zip(names, measured(counts), strict=True)), sampled, level, counts.sum())


def product_view(log, share=0.2, observation_end=None):
    """Set what sells best beside what the best customers buy: the product view against the customer view.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `amount` and `product_id`, or anything `crmlab.data.load` accepts.
    share : float
        Share of the customers, by revenue, who are the best ones.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.

    Returns
    -------
    pandas.DataFrame
        Indexed by `product_id`, best sellers first: `revenue`, `revenue_best`, `revenue_others` (of the best customers
        and of all others), `rank`, `rank_best`, `rank_others` by them (1 is the best; ties by product id),
        `share_best` (of the product's revenue).

    Raises
    ------
    DataError
        Missing columns, rows without customer, date, amount or product, an impossible share.

    Notes
    -----
    The best customers make up most of the revenue, so the two lists resemble each other by arithmetic; the list of the
    others has no part of theirs. `overlap` compares two lists.

    Examples
    --------
    >>> view = product_view("complete_journey")
    >>> overlap(view["rank_best"] <= 50, view["rank_others"] <= 50)["common"].item()
    41.0
    """
    if not 0 < share < 1:
        raise DataError(f"share must lie between 0 and 1, such as 0.2 for a fifth, not {share!r}.")
    log, _first, _last = checked(log, ["amount", "product_id"], observation_end)
    log = windowed(log)
    if lost := log.filter(_.product_id.isnull()).count().to_pyarrow().as_py():
        raise DataError(f"{lost:,} rows have no product_id; leave them out or name them.")
    paid = log.group_by("customer_id", "product_id").aggregate(paid=_.amount.sum().cast("float64"))
    # Sums of the same amounts in another order may differ in the last digit.
    customers = log.group_by("customer_id").aggregate(total=_.amount.sum().cast("float64").round(6))
    place = ibis.row_number().over(order_by=[ibis.desc("total"), by_code(customers.customer_id)])
    ranked = customers.mutate(place=place, n=_.count().over())
    best = ranked.select("customer_id", best=_.place < (_.n * number(share)).ceil())
    sums = {"revenue": _.paid.sum(), "revenue_best": ibis.coalesce(_.paid.sum(where=_.best), 0.0)}
    table = paid.join(best, "customer_id").group_by("product_id").aggregate(**sums).to_pandas().round(6)
    table = table.set_index("product_id").sort_index()
    table["revenue_others"] = table["revenue"] - table["revenue_best"]
    for name in ("", "_best", "_others"):
        table[f"rank{name}"] = table[f"revenue{name}"].rank(ascending=False, method="first").astype(int)
    table["share_best"] = (table["revenue_best"] / table["revenue"]).where(table["revenue"] > 0)
    return table.sort_values("rank")


def overlap(first, second, level=0.95):
    r"""Return how much two lists have in common, and how much they would by chance.

    The Jaccard index is the number in both over the number in either. Two lists of :math:`a` and :math:`b` out of
    :math:`n` that know nothing of each other have a hypergeometric number in common, :math:`ab/n` on average.

    Parameters
    ----------
    first, second : pandas.Series of bool
        Is it in the list? Indexed by the same things.
    level : float
        Level of the interval of what chance would give.

    Returns
    -------
    pandas.Series
        Indexed by `quantity`: `of` (things), `first`, `second` (on the lists), `common`, `jaccard`, and by chance
        `common_expected`, `jaccard_expected`, `jaccard_low`, `jaccard_high`; `p_value` of as many or more in common.

    Raises
    ------
    DataError
        Lists over different things, or an empty one.

    Examples
    --------
    >>> first, second = pd.Series([True] * 5 + [False] * 5), pd.Series([True] * 4 + [False] * 6)
    >>> overlap(first, second)[["common", "jaccard", "common_expected"]].tolist()
    [4.0, 0.8, 2.0]
    """
    first, second = pd.Series(first), pd.Series(second)
    if len(first) != len(second) or first.index.has_duplicates or not second.index.isin(first.index).all():
        raise DataError("The two lists must say yes or no of the same things, each once (the same index).")
    second = second.reindex(first.index)
    n, a, b, common = len(first), int(first.sum()), int(second.sum()), int((first & second).sum())
    if not (a and b):
        raise DataError("A list is empty: there is nothing to compare.")
    chance = hypergeom(n, a, b)
    many = np.arange(max(0, a + b - n), min(a, b) + 1)
    low, high = (chance.ppf((1 + sign * level) / 2) for sign in (-1, 1))
    found = {
        "of": n,
        "first": a,
        "second": b,
        "common": common,
        "jaccard": common / (a + b - common),
        "common_expected": chance.mean(),
        "jaccard_expected": chance.pmf(many) @ (many / (a + b - many)),
        "jaccard_low": low / (a + b - low),
        "jaccard_high": high / (a + b - high),
        "p_value": chance.sf(common - 1),
    }
    return pd.Series(found, dtype=float).rename_axis("quantity")
