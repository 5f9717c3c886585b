"""A log as the life-cycle tables need it: checked columns, calendar periods, and the days that are observed."""

import datetime

import ibis
import pandas as pd
from ibis import _

from crmlab.data import load
from crmlab.data.days import dated, day_of
from crmlab.data.errors import DataError

PERIODS = {"W": "weeks", "M": "months", "Q": "quarters", "Y": "years"}
"""Calendar periods: ISO weeks (from Monday), months, quarters, years."""


def checked(log, needs=(), observation_end=None, wants=()):
    """Return the rows of a log up to the end of observation, or refuse it in words.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    needs : sequence of str
        Columns that the computation needs beside `customer_id` and `date`; a missing `amount` in a row is refused.
    observation_end : str or date, optional
        Last day that is used; by default the last day of the log.
    wants : sequence of str
        Columns that are taken when the log has them.

    Returns
    -------
    log : ibis.Table
        Columns `customer_id`, `day`, the needed and the wanted ones.
    first, last : datetime.date
        First day of the log and end of observation.

    Raises
    ------
    DataError
        Missing columns, rows without customer, date or amount, no rows, an observation that ends before the log begins.

    Examples
    --------
    >>> checked("cdnow")[1:]
    (datetime.date(1997, 1, 1), datetime.date(1998, 6, 30))
    """
    log = load(log)
    if missing := [name for name in ("customer_id", "date", *needs) if name not in log.columns]:
        raise DataError(f"The log has no column {', '.join(missing)}; it has {', '.join(log.columns)}.")
    taken = dict.fromkeys([*needs, *(name for name in wants if name in log.columns)])
    log, first, last = dated(log, taken, finite=True)
    observed = last if observation_end is None else day_of("observation_end", observation_end)
    if observed < first:
        raise DataError(f"observation_end {observed} lies before the first purchase ({first}).")
    return (log.filter(_.day <= observed) if observed < last else log), first, observed


def calendar(first, last, period, left_truncated=True):
    """Return the periods between two days, and which of them are seen in part only.

    Parameters
    ----------
    first, last : datetime.date
        First day of the log and end of observation.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, months, quarters or years.
    left_truncated : bool
        Whether customers of the first period may have bought before the log began.

    Returns
    -------
    pandas.DataFrame
        Indexed by `period`, its first day: `left_truncated` (the first one, if at all) and `complete` (observed to its
        last day).

    Raises
    ------
    DataError
        Unknown period.

    Examples
    --------
    >>> calendar(day_of("", "2024-01-31"), day_of("", "2024-02-28"), "M").complete.tolist()
    [True, False]
    """
    if period not in PERIODS:
        known = ", ".join(f"{name} ({words})" for name, words in PERIODS.items())
        raise DataError(f"period must be one of {known}, not {period!r}.")
    spans = pd.period_range(first, last, freq={"W": "W-SUN"}.get(period, period))
    complete = spans.end_time.normalize() <= pd.Timestamp(last)
    index = pd.DatetimeIndex(spans.start_time, name="period", freq=None)
    return pd.DataFrame({"left_truncated": [left_truncated] + [False] * (len(spans) - 1), "complete": complete}, index)


def position(period, first):
    """Return how many periods after that of the first day a purchase lies, as an expression on `day`.

    Parameters
    ----------
    period : {"W", "M", "Q", "Y"}
        ISO weeks, months, quarters or years.
    first : datetime.date
        First day of the log.

    Returns
    -------
    ibis.Deferred
        A whole number, 0 in the first period.

    Examples
    --------
    >>> log, first, last = checked("cdnow")
    >>> int(log.select(at=position("M", first))["at"].max().execute())
    17
    """
    if period == "W":
        monday = first - datetime.timedelta(days=first.weekday())
        return _.day.delta(ibis.literal(monday), unit="day") // 7
    per_year, here = {"M": (12, first.month), "Q": (4, (first.month + 2) // 3), "Y": (1, 1)}[period]
    within = {"M": _.day.month(), "Q": _.day.quarter(), "Y": 1}[period]
    return _.day.year().cast("int64") * per_year + within - (first.year * per_year + here)
