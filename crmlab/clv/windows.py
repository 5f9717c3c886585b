"""Annual retention and margin of a log without contracts, from windows of equal length at its end."""

import datetime
import itertools

import numpy as np
import pandas as pd
from ibis import _
from scipy.special import ndtri

from crmlab.data import load
from crmlab.data.days import dated
from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, wilson

YEAR = 365.25


def window_retention(log, windows=2, level=0.95):
    r"""Return the share of the buyers of one window of time who buy in later ones, and what it amounts to in a year.

    The end of the log is cut into windows of equal length, each at most a year. Of the customers who bought in the
    first, a share :math:`s_j` buys in the j-th after it; if retention were one constant rate, that rate would be

    .. math:: r = s_j^{\,365.25 / (j \cdot \text{days})} \text{ a year.}

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `customer_id` and `date`, or anything `crmlab.data.load` accepts.
    windows : int
        How many, 2 or more.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `window`, 1 for the first after the one that customers are taken from: `begins`, `ends` (days),
        `customers` who bought in it `of` those of the first; `share`, `low`, `high` (Wilson); `annual`, `annual_low`,
        `annual_high`, the same as a constant annual rate; and, if the log has an `amount`, `spend`, `spend_low`,
        `spend_high`, the mean amount a year of a customer who buys in the window (normal interval).

    Raises
    ------
    DataError
        Fewer than two windows, a log too short for windows of a week, missing columns, rows without customer or date.

    Notes
    -----
    Whoever pauses for a window and returns later counts as lost, and customers who are unlike each other have no one
    rate: the windows after the first show how far from constant it is.

    Examples
    --------
    >>> window_retention("cdnow").loc[1, ["customers", "of"]].tolist()
    [7058, 23570]
    """
    log, edges, days, paid = _cut(log, windows)
    inside = [log.day.between(a, b - datetime.timedelta(days=1)) for a, b in itertools.pairwise(edges)]
    each = log.filter(log.day >= edges[0]).group_by("customer_id").aggregate(
        **{f"bought{j}": there.any() for j, there in enumerate(inside)},
        **{f"amount{j}": log.amount.sum(where=there).fill_null(0.0) for j, there in enumerate(inside) if paid},
    )  # fmt: skip
    sums = {f"kept{j}": (_.bought0 & _[f"bought{j}"]).sum() for j in range(windows)}
    sums |= {f"buyers{j}": _[f"bought{j}"].sum() for j in range(windows)}
    if paid:
        sums |= {f"mean{j}": _[f"amount{j}"].mean(where=_[f"bought{j}"]) for j in range(windows)}
        sums |= {f"spread{j}": _[f"amount{j}"].std(where=_[f"bought{j}"]) for j in range(windows)}
    found = each.aggregate(**sums).to_pandas().iloc[0]
    if not found["kept0"]:
        raise DataError(f"Nobody bought between {edges[0]} and {edges[1]}, the first of {windows} windows.")
    later = np.arange(1, windows)
    kept = np.array([found[f"kept{j}"] for j in later], dtype=int)
    share, low, high = wilson(kept, found["kept0"], checked_level(level))
    table = pd.DataFrame(
        {
            "begins": [edges[j] for j in later],
            "ends": [edges[j + 1] - datetime.timedelta(days=1) for j in later],
            "customers": kept,
            "of": int(found["kept0"]),
            **dict(zip(("share", "low", "high"), (share, low, high), strict=True)),
        },
        index=pd.Index(later, name="window"),
    )
    for name, column in {"annual": "share", "annual_low": "low", "annual_high": "high"}.items():
        table[name] = table[column] ** (YEAR / (later * days))
    if paid:
        # The spread of fewer than two amounts is not known, and missing.
        buyers, mean, spread = (
            np.array([found[f"{k}{j}"] for j in later], float) for k in ("buyers", "mean", "spread")
        )
        half = ndtri((1 + level) / 2) * spread / np.sqrt(np.maximum(buyers, 1))
        for name, column in {"spend": mean, "spend_low": mean - half, "spend_high": mean + half}.items():
            table[name] = column * YEAR / days
    return table


def window_factors(log, windows=2):
    """Return how many customers bought in each window at the end of a log, on how many days, and for how much a day.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `customer_id`, `date` and `amount`, or anything `crmlab.data.load` accepts.
    windows : int
        How many windows of equal length, each at most a year; 2 or more.

    Returns
    -------
    pandas.DataFrame
        Indexed by the first day of the `window`: `customers`, `days_each` (days of purchase of a customer who buys in
        it) and `amount` (of a day of purchase). The product of a row is the revenue of its window.

    Raises
    ------
    DataError
        As `window_retention`, or a log without amounts.

    Examples
    --------
    >>> window_factors("cdnow").round(2).to_numpy().tolist()
    [[23570.0, 2.03, 35.97], [7058.0, 2.79, 39.47]]
    """
    log, edges, _days, paid = _cut(log, windows)
    if not paid:
        raise DataError("The log has no column amount, which the value of a purchase needs.")
    each = log.filter(log.day >= edges[0]).group_by("customer_id", "day").aggregate(amount=_.amount.sum())
    there = [each.day.between(a, b - datetime.timedelta(days=1)) for a, b in itertools.pairwise(edges)]
    sums = {f"customers{j}": each.customer_id.nunique(where=inside) for j, inside in enumerate(there)}
    sums |= {f"days{j}": inside.sum() for j, inside in enumerate(there)}
    sums |= {f"total{j}": each.amount.sum(where=inside).fill_null(0.0) for j, inside in enumerate(there)}
    found = each.aggregate(**sums).to_pandas().iloc[0].astype(float)
    customers, visits, total = (
        np.array([found[f"{k}{j}"] for j in range(windows)]) for k in ("customers", "days", "total")
    )
    if not customers.all():
        raise DataError("Nobody bought in one of the windows, so that there is nothing to compare. Take fewer windows.")
    table = {"customers": customers, "days_each": visits / customers, "amount": total / visits}
    return pd.DataFrame(table, index=pd.Index(edges[:-1], name="window"))


def _cut(log, windows):
    """The log with its days, where the windows at its end begin (and the last ends), their length, and its amount."""
    if windows != int(windows) or windows < 2:
        raise DataError(f"windows must be a whole number of 2 or more, not {windows!r}.")
    log = load(log)
    if missing := [name for name in ("customer_id", "date") if name not in log.columns]:
        raise DataError(f"The log has no column {', '.join(missing)}; it has {', '.join(log.columns)}.")
    paid = ["amount"] if "amount" in log.columns else []
    log, first, last = dated(log, paid, finite=True)
    days = min(((last - first).days + 1) // windows, 365)
    if days < 7:
        raise DataError(f"The log runs from {first} to {last}, too short for {windows} windows of a week or more.")
    edges = [last - datetime.timedelta(days=days * k - 1) for k in range(windows, -1, -1)]
    return log, edges, days, paid
