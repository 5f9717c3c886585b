"""When is a silent customer lost? Without a contract nobody says goodbye, so earlier silences are followed up."""

import datetime

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.stats import t as student

from crmlab.data.dialects import windowed
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.durations import survival, survival_at
from crmlab.lifecycle.logs import checked, day_of

BANDS = (0, 30, 60, 90, 120, 180, 270, 365)
"""Days of silence at which a new group begins, unless others are given."""


def idle_return(log, horizon, as_of=3, silence=BANDS, observation_end=None):
    """Follow up who had been silent for how long: what share of them bought again within the horizon?

    Stand at a past day, group the customers of that day by the time since their last purchase, and look ahead. Each
    customer counts once a day looked back from, unlike the gaps between purchases, most of which come from the few who
    buy often.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    horizon : int
        Days to look ahead.
    as_of : int or sequence of str or date
        Days to stand at; a number spaces as many evenly, the last one a horizon before the end of observation.
    silence : sequence of int
        Days of silence at which groups begin.
    observation_end : str or date, optional
        Last day that is used; the last day of the log by default.

    Returns
    -------
    pandas.DataFrame
        By `as_of` and days `silent` (at least so many, fewer than `to`): `customers`, `returned`, their `share` and its
        Wilson interval `low`, `high`. Groups without customers are left out.

    Raises
    ------
    DataError
        A log that `crmlab.data.audit` would not pass, a horizon that leaves no day to stand at, a day whose horizon is
        not observed, silences that do not grow.

    Notes
    -----
    The interval is that of one row. Rows of different days share customers, so that they must not be added up.

    Examples
    --------
    >>> table = idle_return("cdnow", horizon=180, as_of=["1997-12-31"])
    >>> table["share"].round(3).tolist()
    [0.669, 0.563, 0.533, 0.448, 0.403, 0.288, 0.087]
    """
    log, first, last = checked(log, observation_end=observation_end)
    days, starts = _days(as_of, horizon, first, last), np.asarray(silence)
    if not len(starts) or starts[0] < 0 or (np.diff(starts) <= 0).any():
        raise DataError(f"silence must be growing numbers of days ≥ 0, not {list(silence)}.")
    parts = {}
    for i, day in enumerate(days):
        until = day + datetime.timedelta(days=int(horizon))
        parts |= {f"last{i}": _.day.max(where=_.day <= day), f"back{i}": ((_.day > day) & (_.day <= until)).max()}
    customers = log.group_by("customer_id").aggregate(**parts)
    stood = [
        customers.filter(customers[f"last{i}"].notnull()).select(
            as_of=ibis.literal(day),
            silent=ibis.literal(day).delta(customers[f"last{i}"], unit="day"),
            back=customers[f"back{i}"].ifelse(1, 0),
        )
        for i, day in enumerate(days)
    ]
    counts = ibis.union(*stood) if len(stood) > 1 else stood[0]
    counts = counts.group_by("as_of", "silent").aggregate(customers=_.count(), returned=_.back.sum()).to_pandas()
    counts = counts[counts["silent"] >= starts[0]]
    group = np.searchsorted(starts, counts["silent"], side="right") - 1
    counts = counts.assign(silent=starts[group], to=np.append(starts[1:], np.inf)[group])
    table = counts.groupby(["as_of", "silent", "to"])[["customers", "returned"]].sum().reset_index("to")
    share, low, high = wilson(table["returned"], table["customers"])
    return table.assign(share=share, low=low, high=high)


def lost_after(curve, probability):
    """Read from a back-test after which silence the chance of a return stays below a probability.

    Parameters
    ----------
    curve : pandas.DataFrame
        Of `idle_return`.
    probability : float
        Customers with a smaller chance count as lost.

    Returns
    -------
    pandas.DataFrame
        By `as_of`: `silent` days from which on all groups are below, and its 95 % interval `low`, `high` (from where
        the lower and the upper limits of the shares stay below); missing where even the last group is not.

    Examples
    --------
    >>> table = idle_return("cdnow", horizon=180, as_of=["1997-12-31"])
    >>> lost_after(table, 0.3)["silent"].tolist()
    [180.0]
    """
    if not 0 < probability < 1:
        raise DataError(f"probability must lie between 0 and 1, not {probability!r}.")

    def start(part, column):
        silent = part.index.get_level_values("silent")
        above = np.flatnonzero(part[column] >= probability)
        place = above[-1] + 1 if len(above) else 0
        return float(silent[place]) if place < len(silent) else np.nan

    columns = {"silent": "share", "low": "low", "high": "high"}
    rows = {day: {k: start(part, c) for k, c in columns.items()} for day, part in curve.groupby("as_of")}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("as_of")


def gaps(log, observation_end=None):
    """Count the times between purchases, the last one of each customer still open, for `survival`.

    Most gaps come from customers who buy often: a curve of them says how long the next gap lasts, not whether a silent
    customer comes back, for which there is `idle_return`.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    observation_end : str or date, optional
        Last day that is used; the last day of the log by default.

    Returns
    -------
    pandas.DataFrame
        `days` between days of purchase, or from the last one to the end of observation; `returned`, 1 for the former
        and 0 for the latter; `weight`, how often.

    Raises
    ------
    DataError
        A log that `crmlab.data.audit` would not pass.

    Examples
    --------
    >>> toy = pd.DataFrame({"customer_id": ["a", "a", "b"], "date": ["2024-01-01", "2024-01-04", "2024-01-03"]})
    >>> gaps(toy, observation_end="2024-01-05").to_numpy().tolist()
    [[1, 0, 1], [2, 0, 1], [3, 1, 1]]
    """
    log, _first, last = checked(log, observation_end=observation_end)
    daily = windowed(log.select("customer_id", "day").distinct())
    following = daily.mutate(next=_.day.lead().over(group_by="customer_id", order_by="day"))
    days = ibis.coalesce(following["next"], ibis.literal(last)).delta(following.day, unit="day")
    counted = following.select(days=days, returned=following["next"].notnull().ifelse(1, 0))
    counted = counted.group_by("days", "returned").aggregate(weight=_.count())
    return counted.order_by("days", "returned").to_pandas()


def pooled_return(log, horizon, observation_end=None):
    r"""Say what a curve of all gaps would make of a silence: the chance that it ends within the horizon.

    With the Kaplan-Meier curve :math:`S` of all gaps between purchases this is :math:`1 - S(s + h) / S(s)` after
    :math:`s` days of silence. It is what a shop computes that takes gaps for customers; `idle_return` says what
    customers do.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    horizon : int
        Days to look ahead.
    observation_end : str or date, optional
        Last day that is used; the last day of the log by default.

    Returns
    -------
    pandas.Series
        By days `silent`, from 0 to the longest gap; beyond the longest gap the curve is taken to stay as it is, and
        where nothing is left of it the chance is 1.

    Raises
    ------
    DataError
        A log that `crmlab.data.audit` would not pass, or a horizon below 1.

    Examples
    --------
    >>> pooled_return("cdnow_sample", 180)[[30, 270]].round(2).tolist()
    [0.44, 0.12]
    """
    if not horizon >= 1:
        raise DataError(f"horizon must be a number of days ≥ 1, not {horizon!r}.")
    curve = survival(gaps(log, observation_end), "days", "returned", weights="weight").curve
    longest = int(curve.index.max())
    s = survival_at(curve, range(longest + int(horizon) + 1))["survival"].ffill().to_numpy()
    chance = 1 - np.divide(s[int(horizon) :], s[: longest + 1], out=np.zeros(longest + 1), where=s[: longest + 1] > 0)
    return pd.Series(chance, index=pd.RangeIndex(longest + 1, name="silent"), name="share")


def habits(log, as_of=None, horizon=None, minimum=4):
    r"""Compare the silence of each customer with the customer's own gaps between purchases.

    With :math:`n` gaps whose logarithms have mean :math:`m` and standard deviation :math:`s`, the usual gap is
    :math:`e^m` with the interval :math:`e^{m \pm t_{.975} s / \sqrt n}`, and 95 % of the next gaps end within
    :math:`e^{m + t_{.95} s \sqrt{1 + 1/n}}` (Student's :math:`t` with :math:`n - 1` degrees of freedom).

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    as_of : str or date, optional
        Day to stand at; the last day of the log by default.
    horizon : int, optional
        Days to look ahead, for a day in the past: adds `returned`.
    minimum : int
        Days of purchase without which nobody has a habit, at least 3.

    Returns
    -------
    ibis.Table
        One row a customer with a habit: `customer_id`, `purchases` (days), `last` purchase, days `silent`, the `usual`
        gap with its 95 % interval `low`, `high`, the `longest` gap to expect and whether the
        silence is beyond it: `at_risk`; with a
        horizon whether the customer `returned`.

    Raises
    ------
    DataError
        A log that `crmlab.data.audit` would not pass, a day outside the log, a horizon that is not observed, a minimum
        below 3.

    Notes
    -----
    Gaps are taken as independent and log-normal; regular buyers (all gaps alike) are beyond their habit at once.

    Examples
    --------
    >>> habits("cdnow_sample", as_of="1997-12-31").filter(_.at_risk).count().to_pyarrow().as_py()
    53
    """
    if minimum < 3:
        raise DataError(f"minimum must be at least 3 days of purchase, so that gaps can differ, not {minimum!r}.")
    log, first, last = checked(log)
    day = last if as_of is None else day_of("as_of", as_of)
    _observed(day, horizon or 0, first, last)
    daily = windowed(log.select("customer_id", "day").distinct())
    known = daily.filter(_.day <= day)
    before = known.day.lag().over(group_by="customer_id", order_by="day")
    gap = known.day.delta(before, unit="day")
    customers = (
        known.mutate(log_gap=gap.cast("float64").ln())
        .group_by("customer_id")
        .aggregate(purchases=_.count(), last=_.day.max(), m=_.log_gap.mean(), s=_.log_gap.std(how="sample"))
        .filter(_.purchases >= minimum)
    )
    # The engine has no quantiles of Student's t; nobody can have bought on more days than there were.
    n = np.arange(minimum - 1, max((day - first).days + 1, minimum))
    around, beyond = student.ppf(0.975, n - 1) / np.sqrt(n), student.ppf(0.95, n - 1) * np.sqrt(1 + 1 / n)
    factors = pd.DataFrame({"purchases": n + 1, "around": around, "beyond": beyond})
    both = customers.join(ibis.memtable(factors), "purchases")
    found = both.select(
        "customer_id",
        "purchases",
        "last",
        silent=ibis.literal(day).delta(both["last"], unit="day"),
        usual=both.m.exp(),
        low=(both.m - both.around * both.s).exp(),
        high=(both.m + both.around * both.s).exp(),
        longest=(both.m + both.beyond * both.s).exp(),
    )
    # A sum of logarithms is not exact: a silence equal to it is no day longer.
    found = found.mutate(at_risk=_.silent > _.longest * (1 + 1e-9))
    if horizon is None:
        return found
    until = day + datetime.timedelta(days=int(horizon))
    back = daily.filter((_.day > day) & (_.day <= until)).select("customer_id").distinct().mutate(returned=True)
    found = found.left_join(back, "customer_id")
    return found.mutate(returned=_.returned.fill_null(False)).drop("customer_id_right")


def at_risk(log, as_of=None, horizon=None, minimum=4):
    """List the customers whose silence is beyond their own habit, the strangest silences first.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    as_of : str or date, optional
        Day to stand at; the last day of the log by default.
    horizon : int, optional
        Days to look ahead, for a day in the past: adds `returned`.
    minimum : int
        Days of purchase without which nobody has a habit.

    Returns
    -------
    ibis.Table
        The rows of `habits` that are at risk.

    Raises
    ------
    DataError
        See `habits`.

    Examples
    --------
    >>> at_risk("cdnow_sample", as_of="1997-12-31").count().to_pyarrow().as_py()
    53
    """
    found = habits(log, as_of, horizon, minimum).filter(_.at_risk).drop("at_risk")
    return found.order_by((_.silent / _.longest).desc(), "customer_id")


def _days(as_of, horizon, first, last):
    if not horizon >= 1:
        raise DataError(f"horizon must be a number of days ≥ 1, not {horizon!r}.")
    if isinstance(as_of, (int, np.integer)):
        room = (last - first).days - int(horizon)
        if as_of < 1 or room < as_of:
            raise DataError(
                f"The log lasts from {first} to {last}: with a horizon of {horizon} days there is no room for {as_of} "
                "days to stand at."
            )
        return [first + datetime.timedelta(days=room * (i + 1) // as_of) for i in range(as_of)]
    days = sorted({day_of("as_of", day) for day in ([as_of] if isinstance(as_of, str) else as_of)})
    if not days:
        raise DataError("as_of names no day.")
    for day in days:
        _observed(day, horizon, first, last)
    return days


def _observed(day, horizon, first, last):
    if not first <= day or day + datetime.timedelta(days=int(horizon)) > last:
        raise DataError(
            f"as_of {day} and the {horizon} days after it must lie between the first purchase ({first}) and the end of "
            f"observation ({last})."
        )
