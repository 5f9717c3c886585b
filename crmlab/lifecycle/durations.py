"""How long customers stay: survival by group, and which of several ways to leave comes first."""

from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from scipy.stats import chi2

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z


class Survival(NamedTuple):
    """Survival by group.

    Attributes
    ----------
    curve : pandas.DataFrame
        By group and time: `at_risk` customers just before, `events` and `censored` at that time, `survival` and its
        95 % interval `low`, `high`.
    summary : pandas.DataFrame
        By group: `customers`, `events`, `expected` (events if all groups survived alike), `median` and its 95 %
        interval `low`, `high`; missing where the curve does not fall that far.
    logrank : pandas.Series
        `statistic`, `df`, `p_value` of the log-rank test that all groups survive alike; missing with one group.
    """

    curve: pd.DataFrame
    summary: pd.DataFrame
    logrank: pd.Series


def survival(data, duration, event, by=None, weights=None):
    r"""Estimate how many customers are still there after each time (Kaplan-Meier), by group.

    With :math:`n_j` customers at risk just before time :math:`t_j` and :math:`d_j` who leave at it,
    :math:`\hat S(t) = \prod_{t_j \le t} (1 - d_j / n_j)`. The interval is
    :math:`\hat S^{\exp(\pm z \sigma / \log \hat S)}` with Greenwood's
    :math:`\sigma^2 = \sum d_j / (n_j (n_j - d_j))`, which stays between 0 and 1.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer, or a count; an Ibis table is counted where it lies.
    duration : str
        Column with the time from the start to the event or to the end of observation, a number ≥ 0.
    event : str
        Column that is 1 (or true) if the customer left then, 0 (or false) if still there when last seen.
    by : str or list of str, optional
        Columns that make the groups.
    weights : str, optional
        Column that says how many customers a row stands for.

    Returns
    -------
    Survival
        Its `curve`, `summary` and `logrank`. Below a survival of 1 and above one of 0 the formula gives no limit.

    Raises
    ------
    DataError
        Missing columns or values, a negative duration, an event that is neither 0 nor 1.

    Notes
    -----
    Kaplan and Meier (1958), Journal of the American Statistical Association 53, 457-481; Kalbfleisch and Prentice
    (2002), The Statistical Analysis of Failure Time Data, for the intervals of curve (section 1.4) and median (where
    the interval of the curve contains 1/2).

    Examples
    --------
    >>> toy = pd.DataFrame({"months": [1, 2, 2, 3], "left": [1, 1, 0, 0]})
    >>> survival(toy, "months", "left").curve["survival"].tolist()
    [1.0, 0.75, 0.5, 0.5]
    """
    groups = _groups(by)
    cells = _counted(data, duration, event, groups, weights)
    bad = ~cells[event].isin([0, 1])
    if bad.any():
        raise DataError(
            f"Column {event!r} must be 1 for customers who left and 0 for the others, not "
            f"{cells.loc[bad, event].tolist()[0]!r}: for example data.assign(left=data[{event!r}] == 'Yes')."
        )
    cells[event] = cells[event].astype(int)
    curves = {}
    for name, part in _parts(cells, groups):
        table = _life_table(part, duration, event)
        d, n = table.get(1, pd.Series(0, table.index)), table["at_risk"]
        s = (1 - d / n).cumprod()
        low, high = _log_log(s, _greenwood(n, d).cumsum() ** 0.5 * s)
        curves[name] = pd.DataFrame(
            {"at_risk": n, "events": d, "censored": table.get(0, 0), "survival": s, "low": low, "high": high}
        )
    curve = pd.concat(curves, names=[*groups, "time"]) if groups else curves[()]
    expected, logrank = _logrank(list(curves.values()))
    summary = pd.DataFrame(
        [
            (c["at_risk"].iloc[0], c["events"].sum(), *map(_half, (c["survival"], c["low"], c["high"])))
            for c in curves.values()
        ],
        columns=["customers", "events", "median", "low", "high"],
        index=curve.index.droplevel("time").unique() if groups else pd.Index(["all"], name="group"),
    )
    summary.insert(2, "expected", expected)
    return Survival(curve, summary, logrank)


def cumulative_incidence(data, duration, cause, censored, by=None, weights=None):
    r"""Estimate how many customers have left in each of several ways after each time (Aalen-Johansen), by group.

    Who has left in one way can no longer leave in another, so one minus a Kaplan-Meier curve that counts the other
    ways as censored is too high. Here :math:`\hat F_k(t) = \sum_{t_j \le t} \hat S(t_{j-1}) d_{kj} / n_j` with the
    survival :math:`\hat S` of all ways together; the :math:`\hat F_k` and :math:`\hat S` add up to 1.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer, or a count; an Ibis table is counted where it lies.
    duration : str
        Column with the time from the start to the end or to the end of observation, a number ≥ 0.
    cause : str
        Column that says how the customer left.
    censored : object
        Value of that column for customers who were still there when last seen.
    by : str or list of str, optional
        Columns that make the groups.
    weights : str, optional
        Column that says how many customers a row stands for.

    Returns
    -------
    pandas.DataFrame
        By group, cause and time: `at_risk`, `events`, `incidence` and its 95 % interval `low`, `high` (without an
        upper limit while the incidence is 0).

    Raises
    ------
    DataError
        Missing columns or values, a negative duration, nobody who left.

    Notes
    -----
    Aalen and Johansen (1978), Scandinavian Journal of Statistics 5, 141-150. The variance is the delta method's of
    Dinse and Larson (1986), Biometrika 73, 379-386; the interval is that of log(-log) of the incidence.

    Examples
    --------
    >>> toy = pd.DataFrame({"months": [1, 2, 3, 4], "end": ["price", "moved", "price", "still here"]})
    >>> table = cumulative_incidence(toy, "months", "end", censored="still here")
    >>> table.loc["price", "incidence"].tolist()
    [0.0, 0.25, 0.25, 0.5, 0.5]
    """
    groups = _groups(by)
    cells = _counted(data, duration, cause, groups, weights)
    causes = sorted(set(cells[cause]) - {censored}, key=str)
    if not causes:
        raise DataError(f"Nobody left: column {cause!r} has no value but {censored!r}.")
    found = {}
    for name, part in _parts(cells, groups):
        table = _life_table(part, duration, cause)
        n, left = table["at_risk"], table.reindex(columns=causes, fill_value=0)
        d = left.sum(axis=1)
        before = (1 - d / n).cumprod().shift(fill_value=1.0)
        any_way = _greenwood(n, d)
        for k in causes:
            share = left[k] / n
            f = (before * share).cumsum()
            variance = f**2 * any_way.cumsum() - 2 * f * (f * any_way).cumsum() + (f**2 * any_way).cumsum()
            variance += (before**2 * share * (1 - share) / n).cumsum()
            step = before * share / n
            variance -= 2 * (f * step.cumsum() - (f * step).cumsum())
            low, high = _log_log(f, np.sqrt(variance.clip(lower=0)))
            found[(*name, k)] = pd.DataFrame(
                {"at_risk": n, "events": left[k], "incidence": f, "low": low, "high": high}
            )
    keys = found if groups else {k: table for (k,), table in found.items()}
    return pd.concat(keys, names=[*groups, "cause", "time"])


def survival_at(curve, times):
    """Read curves at given times: the last value at or before each, missing after the last customer was seen.

    Parameters
    ----------
    curve : pandas.DataFrame
        The `curve` of `survival`, or what `cumulative_incidence` returns.
    times : sequence of float
        When.

    Returns
    -------
    pandas.DataFrame
        The estimate with its interval and the `at_risk`, by group and time.

    Examples
    --------
    >>> toy = pd.DataFrame({"months": [1, 2, 2, 3], "left": [1, 1, 0, 0]})
    >>> survival_at(survival(toy, "months", "left").curve, [2.5, 12])["survival"].tolist()
    [0.5, nan]
    """
    times, levels = pd.Index(times, name="time"), list(curve.index.names[:-1])

    def read(part):
        own = part.index.get_level_values("time")
        place = own.searchsorted(times, side="right") - 1
        found = part.iloc[np.maximum(place, 0)].set_axis(times).drop(columns=["events", "censored"], errors="ignore")
        found = found.astype(float)
        # How many are at risk at a time between two rows is what the next row says.
        later = own.searchsorted(times, side="left")
        found["at_risk"] = np.append(part["at_risk"], 0)[later]
        found.loc[(times < 0) | (times > own.max())] = np.nan
        return found

    if not levels:
        return read(curve)
    return pd.concat({name: read(part) for name, part in curve.groupby(levels, sort=False)}, names=[*levels, "time"])


def columns_of(data, columns):
    """Return columns of a table as a pandas frame without missing values, or say what is wrong with them.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        The table.
    columns : sequence of str
        What is needed of it.

    Returns
    -------
    pandas.DataFrame
        These columns, rows counted from 0.

    Raises
    ------
    DataError
        No such column, no rows, missing values.

    Examples
    --------
    >>> columns_of(pd.DataFrame({"a": [1], "b": [2]}), ["a"]).to_dict("list")
    {'a': [1]}
    """
    columns = list(dict.fromkeys(columns))
    lacking(data, columns)
    frame = data.select(columns).to_pandas() if isinstance(data, ibis.Table) else data[columns].reset_index(drop=True)
    complete(frame)
    return frame


def lacking(data, columns):
    """Refuse a table that lacks columns.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        The table.
    columns : sequence of str
        What it must have.

    Raises
    ------
    DataError
        With what is missing.

    Examples
    --------
    >>> lacking(pd.DataFrame({"a": [1]}), ["a"])
    """
    if missing := [column for column in columns if column not in data.columns]:
        lacks, has = (", ".join(map(str, names)) for names in (missing, data.columns))
        raise DataError(f"The table has no column {lacks}. It has: {has}.")


def complete(frame):
    """Refuse a table without rows or with gaps.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.

    Raises
    ------
    DataError
        With the number of gaps of each column.

    Examples
    --------
    >>> complete(pd.DataFrame({"a": [1]}))
    """
    if not len(frame):
        raise DataError("The table has no rows.")
    gaps = frame.isna().sum()
    if gaps.any():
        listed = ", ".join(f"{column} ({count:,})" for column, count in gaps[gaps > 0].items())
        raise DataError(f"Values are missing in {listed}: give the gaps a value of their own or leave these rows out.")


def _groups(by):
    return [] if by is None else [by] if isinstance(by, str) else list(by)


def _counted(data, duration, kind, groups, weights):
    """How many customers have each group, duration and kind of end."""
    keys = [*groups, duration, kind]
    lacking(data, keys + ([weights] if weights else []))
    if isinstance(data, ibis.Table):
        n = data[weights].sum() if weights else data.count()
        cells = data.group_by(keys).aggregate(_n=n).to_pandas()
    else:
        cells = data[keys].assign(_n=data[weights] if weights else 1)
        cells = cells.groupby(keys, dropna=False, observed=True, as_index=False)["_n"].sum()
    # The gaps that are counted are those of rows, not of cells.
    if gaps := {c: cells.loc[cells[c].isna(), "_n"].sum() for c in keys if cells[c].isna().any()}:
        listed = ", ".join(f"{column} ({count:,} customers)" for column, count in gaps.items())
        raise DataError(f"Values are missing in {listed}: give the gaps a value of their own or leave these rows out.")
    if not len(cells):
        raise DataError("The table has no rows.")
    if not pd.api.types.is_numeric_dtype(cells[duration]):
        raise DataError(f"Column {duration!r} must be a number of days, weeks, months …, not {cells[duration].dtype}.")
    if (cells[duration] < 0).any() or not np.isfinite(cells[duration].astype(float)).all():
        raise DataError(f"Column {duration!r} must lie between 0 and infinity; it begins with {cells[duration].min()}.")
    if not (cells["_n"] >= 0).all():
        raise DataError(f"Column {weights!r} must not be negative or missing.")
    return cells[cells["_n"] > 0]


def _parts(cells, groups):
    """The groups by name, a tuple; without groups, everybody under the empty name."""
    return list(cells.groupby(groups, observed=True)) if groups else [((), cells)]


def _life_table(cells, duration, kind):
    """By time, from 0 on: how many left in each way, and how many were at risk just before."""
    table = cells.pivot_table(index=duration, columns=kind, values="_n", aggfunc="sum", fill_value=0, observed=True)
    table = table.set_axis(pd.Index(table.columns.tolist(), dtype=object), axis=1)
    table.index.name = "time"
    if table.index[0] > 0:
        table = pd.concat([pd.DataFrame(0, pd.Index([0], dtype=table.index.dtype, name="time"), table.columns), table])
    return table.assign(at_risk=table.sum(axis=1)[::-1].cumsum()[::-1])


def _greenwood(n, d):
    """Terms of Greenwood's sum; the last customers to leave add nothing that a later time could use."""
    return (d / (n * (n - d)).where(n > d)).fillna(0.0)


def _log_log(p, se):
    """95 % limits of a probability, from normal ones of log(-log p): none above an estimate of 0 or below one of 1."""
    none, all_ = p < 1e-12, p > 1 - 1e-12
    p = p.mask(none | all_)
    width = np.exp(-Z * se / (p * np.log(p)))
    return (p**width).mask(none, 0.0), (p ** (1 / width)).mask(all_, 1.0)


def _half(curve):
    """First time at which a curve is at 1/2 or below."""
    below = curve.index[curve <= 0.5 + 1e-12]
    return float(below[0]) if len(below) else np.nan


def _logrank(curves):
    """Expected events by group and the test, which statsmodels has for rows without weights only."""
    d = pd.concat([c["events"] for c in curves], axis=1).sort_index().fillna(0).to_numpy(dtype=float)
    n = pd.concat([c["at_risk"] for c in curves], axis=1).sort_index().bfill().fillna(0).to_numpy(dtype=float)
    total, events = n.sum(axis=1), d.sum(axis=1)
    share = n / total[:, None]
    expected = events @ share
    spread = (events * (total - events) / np.where(total > 1, total - 1, np.inf))[:, None] * share
    variance = np.diag(spread.sum(axis=0)) - spread.T @ share
    df = np.linalg.matrix_rank(variance, tol=1e-9 * max(1.0, events.sum()))
    if not df:
        return expected, pd.Series({"statistic": np.nan, "df": 0, "p_value": np.nan})
    off = d.sum(axis=0) - expected
    statistic = off @ np.linalg.pinv(variance, rcond=1e-9) @ off
    return expected, pd.Series({"statistic": statistic, "df": df, "p_value": chi2.sf(statistic, df)})
