"""The days of a log: the customer, the calendar day and the amount of each row are there, or the log is refused."""

import datetime

import ibis.expr.operations as ops
import pandas as pd

from crmlab.data.errors import DataError


def dated(log, columns=(), finite=False):
    """Return the rows of a log with their days, and the days between which it lies, or refuse it in words.

    Parameters
    ----------
    log : ibis.Table
        Columns `customer_id`, `date` and those that are taken.
    columns : sequence of str
        Columns that are taken beside customer and day; if `amount` is among them, no row may lack it.
    finite : bool
        Whether an amount that is infinite or not a number is none.

    Returns
    -------
    log : ibis.Table
        Columns `customer_id`, `day` and the ones taken.
    first, last : datetime.date
        First and last day.

    Raises
    ------
    DataError
        No rows, or rows without customer, date or amount.

    Examples
    --------
    >>> from crmlab.data import load
    >>> dated(load("cdnow"), ["amount"])[1:]
    (datetime.date(1997, 1, 1), datetime.date(1998, 6, 30))
    """
    log = _as_stored(log)
    counts = {"customer_id": log.customer_id.count()}
    if "amount" in columns:
        sound = ~(log.amount.isnan() | log.amount.isinf()) if finite and log.amount.type().is_floating() else None
        counts["amount"] = log.amount.count(where=sound)
    # What an engine knows of a column before it reads it (Parquet keeps both ends), it does not know of a cast.
    kind = log.date.type()
    date = log.date if kind.is_timestamp() and not kind.timezone else log.date.cast("date")
    counts |= {"date": date.count(), "first": date.min(), "last": date.max()}
    facts = log.aggregate(rows=log.count(), **counts).to_pyarrow().to_pylist()[0]
    if facts["rows"] == 0:
        raise DataError("The log has no rows.")
    lacks = {name: facts["rows"] - facts.get(name, facts["rows"]) for name in ("customer_id", "date", "amount")}
    if any(lacks.values()):
        raise DataError(
            f"Of {facts['rows']:,} rows, {lacks['customer_id']:,} have no customer_id, {lacks['date']:,} no date and "
            f"{lacks['amount']:,} no amount. "
            "Decide what becomes of them: crmlab.data.audit(log).kept leaves them out and lists them."
        )
    first, last = (pd.Timestamp(facts[name]).date() for name in ("first", "last"))
    return log.select("customer_id", *columns, day=log.date.cast("date")), first, last


def _as_stored(log):
    """The log with its days as they are stored: `load` makes times of them, and to undo it row by row takes time."""
    table = log.op()
    cell = table.values["date"] if isinstance(table, ops.Project) else None
    if isinstance(cell, ops.Cast) and cell.to.is_timestamp() and cell.arg.dtype.is_date():
        return ops.Project(table.parent, {**table.values, "date": cell.arg}).to_expr()
    return log


def day_of(name, value):
    """Return a date as the day it is; text must be ISO, because 01/02/2024 is two days.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    value : str or date
        For example ``"2024-01-31"``.

    Returns
    -------
    datetime.date
        The day.

    Raises
    ------
    DataError
        No date, or text in another form.

    Examples
    --------
    >>> day_of("calibration_end", "2024-01-31 12:00")
    datetime.date(2024, 1, 31)
    """
    try:
        return (datetime.datetime.fromisoformat(value) if isinstance(value, str) else pd.Timestamp(value)).date()
    except (TypeError, ValueError):
        raise DataError(f"{name} must be a date such as 2024-01-31, not {value!r}.") from None
