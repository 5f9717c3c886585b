"""From a purchase log to what the models see: one row a customer, then one row a distinct state."""

import ibis
import numpy as np
import pandas as pd
from ibis import _

from crmlab.data.errors import DataError

DAYS = {"D": 1, "W": 7, "M": 365.25 / 12, "Y": 365.25}
"""Days in each unit of time; the mean month and the mean year, because models know no calendar."""


UNITS = {"D": "days", "W": "weeks", "M": "months", "Y": "years"}
"""Words for the units of time."""


def summarize(log, unit="W", calibration_end=None, observation_end=None):
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
        Last day of the log that is used; its last day by default.

    Returns
    -------
    ibis.Table
        One row a customer who bought by the end of calibration: `customer_id`, `frequency`, `recency`, `T`,
        `monetary_value` (mean amount of a repeat purchase; missing where there is none), `unit`; with a hold-out also
        `frequency_holdout` (purchases after calibration), `amount_holdout` (their sum) and `T_holdout`.

    Raises
    ------
    DataError
        Rows without customer, date or amount (`crmlab.data.audit` sets them aside), unknown unit, empty calibration.

    Notes
    -----
    Customers who first buy after the end of calibration are not in the summary: the models could not know them.
    The definition is that of Fader, Hardie and Lee (2005), Marketing Science 24(2), 275-284, section 3.

    Examples
    --------
    >>> summary = summarize("cdnow_sample", calibration_end="1997-09-30")
    >>> int(summary.frequency.sum().execute())
    2457
    """
    if unit not in DAYS:
        raise DataError(f"unit must be one of {', '.join(DAYS)} (days, weeks, months, years), not {unit!r}.")
    log = _as_log(log)
    has_amount = "amount" in log.columns
    log = log.select("customer_id", day=_.date.cast("date"), **({"amount": _.amount} if has_amount else {}))
    facts = log.aggregate(
        rows=_.count(),
        nameless=_.customer_id.isnull().sum(),
        dateless=_.day.isnull().sum(),
        priceless=_.amount.isnull().sum() if has_amount else ibis.literal(0),
        first=_.day.min(),
        last=_.day.max(),
    ).to_pyarrow()
    rows, nameless, dateless, priceless, first, last = (facts[c][0].as_py() for c in facts.column_names)
    if rows == 0:
        raise DataError("The log has no rows.")
    if nameless or dateless or priceless:
        raise DataError(
            f"Of {rows:,} rows, {nameless:,} have no customer_id, {dateless:,} no date and {priceless:,} no amount. "
            "Decide what becomes of them: crmlab.data.audit(log).kept leaves them out and lists them."
        )
    observed = pd.Timestamp(observation_end or last).date()
    end = pd.Timestamp(calibration_end or observed).date()
    if not first <= end <= observed:
        raise DataError(
            f"calibration_end {end} must lie between the first purchase ({first}) and observation_end ({observed})."
        )
    amount = {"amount": _.amount.sum()} if has_amount else {}
    daily = log.filter(_.day <= observed).group_by("customer_id", "day").aggregate(**amount)
    known = _.day <= end
    split = end < observed
    parts = {"n": _.count(where=known), "first": _.day.min(), "last": _.day.max(where=known)}
    if has_amount:
        parts |= {"paid": _.amount.sum(where=known), "paid_first": _.amount.argmin(_.day)}
    if split:
        parts |= {"frequency_holdout": _.count(where=~known)}
        if has_amount:
            parts |= {"amount_holdout": ibis.coalesce(_.amount.sum(where=~known), 0.0)}
    per = DAYS[unit]
    customers = daily.group_by("customer_id").aggregate(**parts).filter(_.n > 0)
    columns = {
        "frequency": customers.n - 1,
        "recency": customers["last"].delta(customers["first"], unit="day") / per,
        "T": ibis.literal(end).delta(customers["first"], unit="day") / per,
    }
    if has_amount:
        repeats = (customers.n - 1).nullif(0)
        columns["monetary_value"] = ((customers.paid - customers.paid_first) / repeats).cast("float64")
    columns["unit"] = ibis.literal(unit)
    if split:
        columns |= {name: customers[name] for name in ("frequency_holdout", "amount_holdout") if name in parts}
        columns["T_holdout"] = ibis.literal((observed - end).days / per)
    return customers.select("customer_id", **columns)


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
    weight = ["weight"] if "weight" in data.columns else []
    table = data if isinstance(data, ibis.Table) else ibis.memtable(data[keys + weight].reset_index(drop=True))
    grouped = table.group_by(keys).aggregate(weight=_.weight.sum() if weight else _.count())
    found = grouped.order_by(keys).to_pandas()
    _validate(found)
    return found


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
