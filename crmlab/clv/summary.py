"""From a purchase log to what the models see: one row a customer, then one row a distinct state."""

import ibis
import numpy as np
import pandas as pd
from ibis import _

from crmlab.data.days import dated, day_of
from crmlab.data.dialects import number, windowed
from crmlab.data.errors import DataError

DAYS = {"D": 1, "W": 7, "M": 365.25 / 12, "Y": 365.25}
"""Days in each unit of time; the mean month and the mean year, because models know no calendar."""


UNITS = {"D": "days", "W": "weeks", "M": "months", "Y": "years"}
"""Words for the units of time."""


def summarize(log, unit="W", calibration_end=None, observation_end=None, timing=False, calendar=None):
    r"""Return what the purchase models need to know of each customer.

    Purchases of one day are one purchase, however many rows they have. With :math:`d_0 < d_1 < \dots < d_x` the days
    on which a customer bought up to the end of calibration :math:`c`, frequency is :math:`x` (repeat purchases),
    recency :math:`t_x = d_x - d_0` and :math:`T = c - d_0`, both in units of time.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts: columns `customer_id`, `date` and, if there is one,
        `amount`.
    unit : {"D", "W", "M", "Y"}
        Unit of time of recency and T: days, weeks, mean months, mean years. Frequency counts days.
    calibration_end : str or date, optional
        Last day that the models may see; the end of observation by default, that is, no hold-out.
    observation_end : str or date, optional
        Last day of the log that is used; its last day by default. A later one says that nobody bought since.
    timing : bool
        Add `log_gaps`, which models of regular timing need.
    calendar : pandas.DataFrame, optional
        Add `calendar_<name>` for each of its columns: numbers by day (a DatetimeIndex without gaps), such as
        `month_calendar` makes.

    Returns
    -------
    ibis.Table
        One row a customer who bought by the end of calibration: `customer_id`, `frequency`, `recency`, `T`,
        `monetary_value` (mean amount of a repeat purchase; missing where there is none), `unit`, `calibration_end`;
        with `timing` also `log_gaps` (sum of the logs of the times between successive purchases of the calibration);
        with a calendar `calendar_<name>` (sum of the column over the days of the repeat purchases of the calibration);
        with a hold-out `frequency_holdout` (purchases after calibration), `amount_holdout` (their sum), `T_holdout` and
        `frequency_last` (repeat purchases in the last part of the calibration, as long as the hold-out).

    Raises
    ------
    DataError
        Rows without customer, date or amount (`crmlab.data.audit` sets them aside), unknown unit, empty calibration, a
        calendar that does not cover the log.

    Notes
    -----
    Customers who first buy after the end of calibration are not in the summary: the models could not know them. The
    summary is an expression that every use computes anew: from a long log, keep it with ``summary.cache()``.
    The definition is that of Fader, Hardie and Lee (2005), Marketing Science 24(2), 275-284, section 3; `log_gaps` is
    what Reutterer, Platzer and Schröder (2021), International Journal of Research in Marketing 38(1), 194-215, add.

    Examples
    --------
    >>> summary = summarize("cdnow_sample", calibration_end="1997-09-30")
    >>> int(summary.frequency.sum().execute())
    2457
    """
    if unit not in DAYS:
        raise DataError(f"unit must be one of {', '.join(DAYS)} (days, weeks, months, years), not {unit!r}.")
    log, first, last = checked(log)
    end, observed = periods(first, last, calibration_end, observation_end)
    per, split, paid = number(DAYS[unit]), end < observed, "amount" in log.columns
    daily = daily_purchases(log, observed)
    known = _.day <= end if split else None
    parts = {"n": _.count(where=known), "first": _.day.min(), "last": _.day.max(where=known)}
    if paid:
        parts |= {"paid": _.amount.sum(where=known), "paid_first": _.amount.argmin(_.day)}
    if split:
        start = end - (observed - end)
        parts |= {"frequency_holdout": _.count(where=~known), "recent": _.count(where=known & (_.day > start))}
        if paid:
            parts |= {"amount_holdout": ibis.coalesce(_.amount.sum(where=~known), 0.0)}
    if timing:
        daily = windowed(daily)
        gap = _.day.delta(_.day.lag().over(group_by="customer_id", order_by="day"), unit="day") / per
        daily = daily.mutate(log_gap=gap.ln())
        parts |= {"log_gaps": ibis.coalesce(_.log_gap.sum(where=known), 0.0)}
    names = []
    if calendar is not None:
        days = _calendar(calendar, first, observed)
        names = [name for name in days.columns if name != "day"]
        daily = daily.join(days, "day")
        parts |= {name: _[name].sum(where=known) for name in names}
    customers = daily.group_by("customer_id").aggregate(**parts).filter(_.n > 0)
    if names:
        # A customer's first purchase is no repeat purchase.
        at_first = days.rename(first="day", **{f"first_{name}": name for name in names})
        customers = customers.join(at_first, "first")
    columns = {
        "frequency": customers.n - 1,
        "recency": customers["last"].delta(customers["first"], unit="day") / per,
        "T": ibis.literal(end).delta(customers["first"], unit="day") / per,
    }
    if paid:
        repeats = (customers.n - 1).nullif(0)
        columns["monetary_value"] = ((customers.paid - customers.paid_first) / repeats).cast("float64")
    columns |= {"unit": ibis.literal(unit), "calibration_end": ibis.literal(end)}
    if timing:
        columns["log_gaps"] = customers.log_gaps
    columns |= {name: customers[name] - customers[f"first_{name}"] for name in names}
    if split:
        columns |= {name: customers[name] for name in ("frequency_holdout", "amount_holdout") if name in parts}
        columns["T_holdout"] = number((observed - end).days / DAYS[unit])
        columns["frequency_last"] = customers.recent - ibis.ifelse(customers["first"] > start, 1, 0)
    return customers.select("customer_id", **columns)


def month_calendar(first, last):
    """Return the months as a calendar for `summarize`: January is the base, the others are dummies.

    Parameters
    ----------
    first, last : str or date
        First and last day of the calendar.

    Returns
    -------
    pandas.DataFrame
        One row a day; columns `feb` to `dec`, 1.0 in that month and 0.0 outside.

    Raises
    ------
    DataError
        Days that are no dates, or a last day before the first.

    Examples
    --------
    >>> month_calendar("1997-01-31", "1997-02-01")["feb"].tolist()
    [0.0, 1.0]
    """
    first, last = day_of("first", first), day_of("last", last)
    if last < first:
        raise DataError(f"The last day of the calendar ({last}) lies before the first ({first}).")
    days = pd.date_range(first, last)
    names = ["feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    return pd.DataFrame({name: (days.month == i).astype(float) for i, name in enumerate(names, 2)}, index=days)


def checked(log):
    """Return a log's customers, days and amounts and the days between which it lies, or refuse it.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.

    Returns
    -------
    log : ibis.Table
        Columns `customer_id`, `day` and, where the log has it, `amount`.
    first, last : datetime.date
        First and last day.

    Raises
    ------
    DataError
        Rows without customer, date or amount, or no rows.

    Examples
    --------
    >>> checked("cdnow_sample")[1:]
    (datetime.date(1997, 1, 1), datetime.date(1998, 6, 30))
    """
    log = _as_log(log)
    return dated(log, ["amount"] if "amount" in log.columns else [])


def periods(first, last, calibration_end, observation_end):
    """Return the last days of calibration and of observation, or refuse them.

    Parameters
    ----------
    first, last : datetime.date
        First and last day of the log.
    calibration_end, observation_end : str, date or None
        As given; by default calibration lasts until the end of observation, and that is the last day.

    Returns
    -------
    end, observed : datetime.date
        The two days.

    Raises
    ------
    DataError
        A calibration that ends before the log begins or after the observation.

    Examples
    --------
    >>> periods(pd.Timestamp("2024-01-01").date(), pd.Timestamp("2024-06-30").date(), "2024-03-31", None)
    (datetime.date(2024, 3, 31), datetime.date(2024, 6, 30))
    """
    observed = day_of("observation_end", observation_end) if observation_end else last
    end = day_of("calibration_end", calibration_end) if calibration_end else observed
    if not first <= end <= observed:
        raise DataError(
            f"calibration_end {end} must lie between the first purchase ({first}) and observation_end ({observed})."
        )
    return end, observed


def daily_purchases(log, observed):
    """Return one row for each day on which a customer bought, as far as observed.

    Parameters
    ----------
    log : ibis.Table
        Of `checked`.
    observed : datetime.date
        Last day.

    Returns
    -------
    ibis.Table
        `customer_id`, `day` and, where the log has it, the sum of `amount`.

    Examples
    --------
    >>> log, first, last = checked("cdnow_sample")
    >>> len(daily_purchases(log, first).to_pandas())
    18
    """
    amount = {"amount": _.amount.sum()} if "amount" in log.columns else {}
    return log.filter(_.day <= observed).group_by("customer_id", "day").aggregate(**amount)


def _calendar(calendar, first, observed):
    """The calendar's days from the first purchase to the end of observation, as a table of the engine."""
    if not isinstance(calendar, pd.DataFrame) or not isinstance(calendar.index, pd.DatetimeIndex):
        raise DataError("calendar must be a pandas DataFrame with one row a day and the days as its DatetimeIndex.")
    index = calendar.index.tz_localize(None).normalize()
    dated = index[index.notna()]
    needed = pd.date_range(first, observed)
    inside = calendar[index.isin(needed)]
    missing, twice = needed.difference(dated), dated[dated.duplicated()]
    names = [str(name) for name in calendar.columns]
    text = [name for name, kind in zip(names, calendar.dtypes, strict=True) if not pd.api.types.is_numeric_dtype(kind)]
    empty = [name for i, name in enumerate(names) if name not in text and not _finite(inside.iloc[:, i]).all()]
    faults = [
        (not names, "it has no columns"),
        (len(dated) < len(index), f"{len(index) - len(dated):,} rows have no date"),
        (len(missing), f"{len(missing):,} days are missing between {first} and {observed}, first {_iso(missing)}"),
        (len(twice), f"{len(twice):,} rows repeat a day, first {_iso(twice)}"),
        (len({name.casefold() for name in names}) < len(names), "columns have the same name"),
        (text, f"columns are not numeric: {', '.join(text)}"),
        (empty, f"values are missing or infinite between {first} and {observed} in {', '.join(empty)}"),
    ]
    if found := [words for fault, words in faults if fault]:
        raise DataError(f"The calendar cannot be used: {'; '.join(found)}.")
    days = inside.astype("float64").set_axis([f"calendar_{name}" for name in names], axis=1)
    return ibis.memtable(days.assign(day=index[index.isin(needed)])).mutate(day=_.day.cast("date"))


def _finite(column):
    return np.isfinite(column.to_numpy(dtype=float, na_value=np.nan))


def _iso(days):
    return str(days[0].date()) if len(days) else ""


def middle(log):
    """Return the day in the middle of a log, where a calibration may end and a hold-out begin.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.

    Returns
    -------
    str
        ISO date.

    Raises
    ------
    DataError
        A log without dates.

    Examples
    --------
    >>> middle("cdnow_sample")
    '1997-09-30'
    """
    days = _as_log(log).select(day=_.date.cast("date"))
    ends = days.aggregate(first=_.day.min(), last=_.day.max()).to_pyarrow()
    first, last = (pd.Timestamp(column[0].as_py()) for column in ends.columns)
    if pd.isna(first):
        raise DataError("The log has no dates.")
    return str((first + (last - first) // 2).date())


def _as_log(log):
    if isinstance(log, ibis.Table):
        return log
    from crmlab.data import load

    return load(log)


def states(data, extra=()):
    """Return the distinct states of a summary with the number of customers in each.

    The likelihood of a purchase model sees a customer only through (frequency, recency, T): customers in the same
    state are one row with a weight, and a fit costs as much as there are states.

    Parameters
    ----------
    data : ibis.Table or pandas.DataFrame
        A summary (one row a customer) or states already (a column `weight`).
    extra : sequence of str
        Further columns that tell customers apart.

    Returns
    -------
    pandas.DataFrame
        `frequency`, `recency`, `T`, extra columns, `weight`, and `unit` where the data have it; sorted, so that sums
        over it do not depend on the order of the customers.

    Raises
    ------
    DataError
        Missing columns, missing or impossible values (recency after T, a repeat purchase at recency 0, …), or a
        summary without any one-time buyer.

    Examples
    --------
    >>> len(states(summarize("cdnow_sample", calibration_end="1997-09-30")))
    1016
    """
    keys = ["frequency", "recency", "T", *extra]
    require(data, keys)
    keys += ["unit"] if "unit" in data.columns else []
    found = group(data, keys)
    _validate(found)
    return found


def group(data, keys):
    """Return the distinct rows of some columns, sorted, with the number of customers of each as `weight`.

    Parameters
    ----------
    data : ibis.Table or pandas.DataFrame
        A summary or its states.
    keys : list of str
        Columns.

    Returns
    -------
    pandas.DataFrame
        The columns and `weight`.

    Examples
    --------
    >>> group(pd.DataFrame({"frequency": [1, 0, 1]}), ["frequency"]).to_numpy().tolist()
    [[0, 1], [1, 2]]
    """
    if isinstance(data, pd.DataFrame) and (found := _group_numbers(data, keys)) is not None:
        return found
    weight = ["weight"] if "weight" in data.columns else []
    table = data if isinstance(data, ibis.Table) else ibis.memtable(data[keys + weight].reset_index(drop=True))
    grouped = table.group_by(keys).aggregate(weight=_.weight.sum() if weight else _.count())
    return grouped.order_by(keys).to_pandas()


def _group_numbers(data, keys):
    """`group` for whole frequencies and whole days: one integer tells a state, and sorting integers is fast."""
    unit = data["unit"].iloc[0] if "unit" in data and len(data) else None
    if keys not in (["frequency", "recency", "T"], ["frequency", "recency", "T", "unit"]):
        return None
    weighted = "weight" in data
    if weighted and not _finite(data["weight"]).all():
        return None
    if "unit" in keys and not (data["unit"].to_numpy() == unit).all():
        return None
    per, key, sizes = DAYS.get(unit, 1), 0, []
    for column in ("frequency", "recency", "T"):
        values = data[column].to_numpy(dtype=float) * (1 if column == "frequency" else per)
        if not len(values) or not np.isfinite(values).all():
            return None
        whole = np.rint(values)
        if not (np.abs(values - whole).max() < 1e-6 and whole.min() >= 0 and whole.max() < 1e5):
            return None
        sizes.append(int(whole.max()) + 1)
        key = key * sizes[-1] + whole.astype(np.int64)
    if weighted:
        key, at = np.unique(key, return_inverse=True)
        weight = np.bincount(at, data["weight"]).astype(data["weight"].dtype)
    else:
        key, weight = np.unique(key, return_counts=True)
    rest, T = np.divmod(key, sizes[2])
    x, t_x = np.divmod(rest, sizes[1])
    found = pd.DataFrame({"frequency": x, "recency": t_x / per, "T": T / per})
    return found.assign(**({"unit": unit} if "unit" in keys else {}), weight=weight)


def unit_of(data):
    """Return the unit of time that a summary carries.

    Parameters
    ----------
    data : ibis.Table or pandas.DataFrame
        A summary or its states.

    Returns
    -------
    str or None
        The unit of its first row; None when it has no column `unit`.

    Examples
    --------
    >>> unit_of(summarize("cdnow_sample", unit="D"))
    'D'
    """
    if "unit" not in data.columns:
        return None
    first = data.select("unit").limit(1).to_pandas() if isinstance(data, ibis.Table) else data
    return first["unit"].iloc[0] if len(first) else None


def require(data, columns):
    """Refuse a summary without the columns that a computation needs.

    Parameters
    ----------
    data : ibis.Table or pandas.DataFrame
        A summary or its states.
    columns : sequence of str
        What it must have.

    Raises
    ------
    DataError
        With the missing ones.

    Examples
    --------
    >>> require(summarize("cdnow_sample"), ["frequency", "T"])
    """
    if missing := [column for column in columns if column not in data.columns]:
        raise DataError(f"The summary lacks {', '.join(missing)}; crmlab.clv.summarize(log) makes it.")


def _validate(s):
    x, t, T, w = (s[c].to_numpy(dtype=float) for c in ("frequency", "recency", "T", "weight"))
    bad = {
        "a missing frequency, recency or T": ~np.isfinite(x + t + T),
        "a frequency that is not a whole number ≥ 0": (x < 0) | (x != np.floor(x)),
        "a recency below 0 or beyond T": (t < 0) | (t > T),
        "no repeat purchase but a recency above 0": (x == 0) & (t > 0),
        "repeat purchases at recency 0": (x > 0) & (t == 0),
        "a weight that is not positive": ~(w > 0),
    }
    faults = [
        f"{int(mask.sum()):,} states have {what}, first (frequency {x[i]:g}, recency {t[i]:g}, T {T[i]:g})"
        for what, mask in bad.items()
        if mask.any() and (i := int(np.argmax(mask))) >= 0
    ]
    if len(s) == 0:
        faults = ["there are no customers"]
    elif not faults and x.min() > 0:
        faults = [
            "there is no customer with frequency 0: one-time buyers carry the information on who leaves at once "
            "and must stay in the summary (only the spending model does without them)"
        ]
    elif not faults and x.max() == 0:
        faults = ["nobody ever bought again, so no rate of repeat buying can be estimated"]
    if "unit" in s and s["unit"].nunique() > 1:
        faults.append(f"units of time are mixed: {', '.join(sorted(s['unit'].unique()))}")
    if faults:
        raise DataError("The summary cannot be used: " + "; ".join(faults) + ".")
