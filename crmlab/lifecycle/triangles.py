"""Cohort triangles and retention: what became of the customers who first bought in the same period."""

import ibis
import numpy as np
import pandas as pd
from ibis import _

from crmlab.data.dialects import by_code, windowed
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.histories import BITS, FULL, histories, onwards, total, words
from crmlab.lifecycle.logs import calendar, checked, position

DEFINITIONS = {"on": "buys in that period", "on_or_after": "buys in that period or later"}
MEASURES = ("customers", "orders", "revenue")


def cohorts(log, period="M", measure="customers", definition="on", by=None, observation_end=None, left_truncated=True):
    """Return the cohort triangle: customers by period of first purchase, followed by age in periods.

    The cell of cohort *c* at age *a* is about the period *a* periods after *c*: customers who buy then, days on which
    they buy (orders), or what they pay (revenue). Age 0 is the period of the first purchase, so that
    `triangle.div(triangle[0], axis=0)` gives shares that begin with 100 %.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    measure : {"customers", "orders", "revenue"}
        Customers, purchase days (several rows of a customer on a day are one) or the sum of `amount`.
    definition : {"on", "on_or_after"}
        Whether a customer counts who buys in exactly that period, or also who buys later only ("not yet lost"). The
        second falls towards the last period, where there is little time left to come back, and is for customers only.
    by : str, optional
        Column of the log that tells groups apart; a customer belongs to the value of the first day (the smallest, if
        there are several).
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    left_truncated : bool
        Whether customers of the first period may have bought before the log began.

    Returns
    -------
    pandas.DataFrame
        Indexed by `by` (its name), `cohort` (first day of the period) and the mark `left_truncated`; one column an
        `age`. Cells that lie in the future or in an incomplete period are missing.

    Raises
    ------
    DataError
        Unknown period, measure or definition, missing columns, rows without customer, date or amount, no rows.

    Examples
    --------
    >>> cohorts("cdnow", "M", left_truncated=False)[[0, 1, 2, 17]].astype("Int64").droplevel("left_truncated").head(3)
    age           0     1    2     17
    cohort
    1997-01-01  7846  1157  964   498
    1997-02-01  8476  1312  980  <NA>
    1997-03-01  7248  1032  752  <NA>
    """
    if measure not in MEASURES:
        raise DataError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}.")
    _check(definition)
    if definition == "on_or_after" and measure != "customers":
        raise DataError(f"on_or_after says which customers are not yet lost; {measure} are counted with 'on'.")
    needs = ["amount"] * (measure == "revenue") + [by] * (by is not None)
    log, first, last = checked(log, needs, observation_end)
    table = calendar(first, last, period, left_truncated)
    if by is not None:
        log = windowed(log)
        log = log.join(_groups(log, by), "customer_id")
    groups = ["crmlab_group"] * (by is not None)
    if measure == "customers":
        cells = _customers(log, first, period, len(table), groups, definition)
    else:
        cells = _sums(log, first, period, groups, measure)
    return _triangle(cells, table, by)


def retention(log, period="M", definition="on", observation_end=None, left_truncated=True, level=0.95):
    """Return the retention curve: by age, the share of customers who buy again, pooled over cohorts.

    At each age only those cohorts count that are old enough for it, and none that is left-truncated; a customer counts
    once at each age, so that the intervals are Wilson's.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, calendar months, quarters or years.
    definition : {"on", "on_or_after"}
        See `cohorts`.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    left_truncated : bool
        Whether customers of the first period may have bought before the log began.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `age` in periods: `retention`, `low`, `high`, `customers` who bought, `of` those followed, `cohorts`.

    Raises
    ------
    DataError
        Unknown period or definition, no complete cohort, missing columns, rows without customer or date, no rows.

    Examples
    --------
    >>> retention("cdnow", "M", left_truncated=False).loc[1, ["retention", "low", "high"]].round(4).tolist()
    [0.1485, 0.1441, 0.1531]
    """
    triangle = cohorts(log, period, "customers", definition, None, observation_end, left_truncated)
    usable = triangle[~triangle.index.get_level_values("left_truncated") & triangle[0].gt(0)]
    if usable.empty:
        raise DataError(
            f"There is no complete cohort to follow (period {period!r}): every first purchase lies in the first "
            "period, which is left-truncated unless left_truncated=False says otherwise, or in an incomplete one."
        )
    seen = usable.notna()
    of = seen.mul(usable[0], axis=0).sum()
    bought = usable.sum()
    share, low, high = wilson(bought, of, level)
    low[0] = 1.0  # by definition, not by chance
    found = {"retention": share, "low": low, "high": high, "customers": bought, "of": of, "cohorts": seen.sum()}
    return pd.DataFrame(found, index=usable.columns)[of > 0].astype({"customers": int, "of": int})


def _check(definition):
    if definition not in DEFINITIONS:
        known = ", ".join(f"{name} ({words})" for name, words in DEFINITIONS.items())
        raise DataError(f"definition must be one of {known}, not {definition!r}.")


def _groups(log, by):
    """One value of a column a customer: that of the first day, the smallest of several."""
    values = log.group_by("customer_id", by).aggregate(first=_.day.min())
    order = ["first", by_code(values[by])]
    ranked = values.mutate(rank=ibis.row_number().over(group_by="customer_id", order_by=order))
    return ranked.filter(_["rank"] == 0).select("customer_id", crmlab_group=by)


def _customers(log, first, period, n, groups, definition):
    """Cells of the triangle of customers."""
    parts = []
    for active, customers, batch in words(histories(log, first, period, n, groups), n):
        known = onwards(active)
        born = len(active) * BITS - np.bitwise_count(known).sum(axis=0, dtype=np.int64)
        if definition == "on_or_after":
            active = _until(active) & known
        names = batch.column(0).to_pandas() if groups else np.zeros(len(customers))
        codes, values = pd.factorize(names, use_na_sentinel=False)
        keys, key = np.unique(codes * n + born, return_inverse=True)
        cells = {
            "group": values[keys // n].repeat(n),
            "cohort": (keys % n).repeat(n),
            "at": np.tile(range(n), len(keys)),
            "value": total(active, customers, n, key, len(keys)).ravel(),
        }
        parts.append(pd.DataFrame(cells).query("at >= cohort"))
    return pd.concat(parts)


def _until(active):
    """Histories with all bits set up to the last one."""
    until = active.copy()
    for step in (1, 2, 4, 8, 16):
        until |= until >> step
    until[:-1][np.logical_or.accumulate(active[:0:-1] > 0)[::-1]] = FULL
    return until


def _sums(log, first, period, groups, measure):
    """Cells of the triangle of orders or revenue."""
    if measure == "orders":
        log = log.select("customer_id", "day", *groups).distinct().mutate(amount=1)
    firsts = log.group_by("customer_id").aggregate(first=_.day.min())
    log = log.join(firsts, "customer_id").mutate(at=position(period, first))
    born = log.select("at", "amount", *groups, day=_["first"]).mutate(cohort=position(period, first))
    sums = born.group_by(*groups, "cohort", "at").aggregate(value=_.amount.sum().cast("float64")).to_pandas()
    return sums.rename(columns=dict.fromkeys(groups, "group")).assign(**({} if groups else {"group": 0.0}))


def _triangle(cells, table, by):
    """A block of rows a group; what is not among the cells is 0, what is not complete is missing."""
    n, complete = len(table), int(table["complete"].sum())
    codes, names = pd.factorize(cells["group"], sort=True, use_na_sentinel=False)
    values = np.zeros((len(names), n, n))
    np.add.at(values, (codes, cells["cohort"], cells["at"] - cells["cohort"]), cells["value"].to_numpy(float))
    cohort, age = np.indices((n, n))
    values[:, cohort + age >= complete] = np.nan
    levels = {"cohort": table.index, "left_truncated": table["left_truncated"]}
    if by is not None:
        levels = {by: np.repeat(names, n)} | {name: np.tile(level, len(names)) for name, level in levels.items()}
    index = pd.MultiIndex.from_arrays(list(levels.values()), names=list(levels))
    return pd.DataFrame(values.reshape(-1, n), index, pd.RangeIndex(n, name="age"))
