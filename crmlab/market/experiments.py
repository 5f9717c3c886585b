"""Did the campaign work: differences between arms of an experiment, with intervals that hold."""

from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from scipy.stats import chi2, chisquare, fisher_exact
from scipy.stats import t as student

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, newcombe, wilson
from crmlab.data.sources import open_source
from crmlab.lifecycle.durations import lacking

LEVELS = 20
"""More values than this are no groups that somebody declared."""


class Effect(NamedTuple):
    """What an experiment found.

    Attributes
    ----------
    arms : pandas.DataFrame
        By arm, control first: `customers`, raw `mean` of the outcome with its interval `low`, `high`, `sd`, and the
        `adjusted` mean (equal to the mean without covariates).
    differences : pandas.DataFrame
        By treated arm: `difference` to the control group (adjusted), `se`, its interval `low`, `high`, the interval
        `low_all`, `high_all` that covers all arms' differences at once (Bonferroni), `p_value`, `p_holm` (corrected for
        the number of arms by Holm's method), and the `relative` lift with Fieller's interval `relative_low`,
        `relative_high`, infinite where the control mean may be zero.
    covariates : list of str
        Columns that the adjustment used; columns that repeat others, or are constant in an arm, are not among them.
    """

    arms: pd.DataFrame
    differences: pd.DataFrame
    covariates: list


class Groups(NamedTuple):
    """Whether an effect differs between groups of customers.

    Attributes
    ----------
    effects : pandas.DataFrame
        By group column, value and treated arm: `customers`, `difference`, `se`, `low`, `high`, `p_value`, `p_holm`
        (corrected for all rows together); missing where a group has fewer than two customers in one of the arms.
    tests : pandas.DataFrame
        By group column and treated arm: `statistic`, `df`, `p_value` of the test that the effect is the same in all of
        its groups, and `p_holm`, corrected for all of these tests.
    """

    effects: pd.DataFrame
    tests: pd.DataFrame


def effect(data, outcome, arm, control, covariates=(), level=0.95):
    r"""Estimate what each arm of a randomized experiment changed, against the control group.

    Without covariates this is the difference in means with the arms' own variances,
    :math:`\bar y_1 - \bar y_0 \pm t \sqrt{s_1^2 / n_1 + s_0^2 / n_0}`, which is ordinary regression with HC2 errors.
    With covariates (known before the experiment, such as spend in the weeks before) each arm has a regression of its
    own on the centred covariates and its intercept, with HC2 error, takes the place of the mean: the same effect with a
    smaller error.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer, all that were assigned: who was to be contacted counts as such, reached or not.
    outcome : str
        Column with a number, or with true and false.
    arm : str
        Column that says which arm the customer was assigned to.
    control : object
        The value of the control group.
    covariates : sequence of str
        Columns from before the experiment: numbers as they are, anything else as values without order.
    level : float
        Level of the intervals.

    Returns
    -------
    Effect
        `arms`, `differences` and the `covariates` used.

    Raises
    ------
    DataError
        No such column or arm, no arm but one, missing values (their rows are named), an outcome that is the same for
        everybody, an arm with fewer than two customers or with no more customers than covariates.

    Notes
    -----
    Lin (2013), Annals of Applied Statistics 7, 295-318: never worse than the difference in means in large samples. It
    is CUPED (Deng, Xu, Kohavi and Walker 2013, WSDM) with a slope for each arm; the adjusted error is that for these
    customers. Degrees of freedom are Welch's. Where nobody or everybody of an arm has the outcome 1, the interval is
    Newcombe's (1998), Statistics in Medicine 17, 873-890, method 10, and the p-value Fisher's. Relative lift: Fieller
    (1954), Journal of the Royal Statistical Society B 16, 175-185. Looking at these intervals every day and stopping
    when one leaves zero is wrong far more often than the level says: `sequential` is for that.

    Examples
    --------
    >>> mailing = pd.DataFrame({"spend": [1, 2, 3, 3, 4, 5], "arm": ["none"] * 3 + ["mail"] * 3})
    >>> found = effect(mailing, "spend", "arm", control="none").differences.loc["mail"]
    >>> found[["difference", "se"]].round(3).to_dict()
    {'difference': 2.0, 'se': 0.816}
    """
    frame = needed(data, [outcome, arm, *covariates])
    y, arms = numbers(frame, outcome), arm_rows(frame, arm, control)
    if y.min() == y.max():
        raise DataError(
            f"Column {outcome!r} is {y[0]:g} for all {len(y):,} customers: there is nothing to compare. If nobody "
            "responded, crmlab.data.wilson(0, customers) says how frequent responses may be all the same."
        )
    x = _design(frame, covariates, arms)
    found = {name: mean_of(y[rows], x.iloc[rows].to_numpy()) for name, rows in arms.items()}
    # An adjusted share is no count of customers any more.
    binary = set(np.unique(y)) <= {0.0, 1.0} and x.empty
    table = _differences(found, control, checked_level(level), binary)
    return Effect(_arm_table(found, level, arm), table.rename_axis(arm), list(x.columns))


def effect_by(data, outcome, arm, control, groups, level=0.95):
    """Estimate an effect within groups of customers, and test whether it differs between them.

    Name the groups before you see the outcome, and all of those you look at: each further one is another chance to find
    what is not there, and the correction counts only what it is told.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer.
    outcome : str
        Column with a number, or with true and false.
    arm : str
        Column that says which arm the customer was assigned to.
    control : object
        The value of the control group.
    groups : sequence of str
        Columns from before the experiment with few values each.
    level : float
        Level of the intervals.

    Returns
    -------
    Groups
        `effects` and `tests`.

    Raises
    ------
    DataError
        As in `effect`; no groups, or a column with more than twenty values, which nobody declared.

    Notes
    -----
    The test is Cochran's Q on the groups' differences. A group in which the effect is significant beside one in which
    it is not proves no difference; the test does. Correction: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.

    Examples
    --------
    >>> mailing = pd.DataFrame({"spend": [1, 2, 3, 4, 1, 2, 1, 2], "arm": [0, 0, 1, 1] * 2, "new": [0] * 4 + [1] * 4})
    >>> effect_by(mailing, "spend", "arm", 0, ["new"]).effects["difference"].tolist()
    [2.0, 0.0]
    """
    groups = [groups] if isinstance(groups, str) else list(dict.fromkeys(groups))
    checked_level(level)
    if not groups:
        raise DataError("Name the groups in which the effect is to be looked at; effect() gives it for all customers.")
    frame = needed(data, [outcome, arm, *groups])
    y, arms = numbers(frame, outcome), arm_rows(frame, arm, control)
    rows, tests, binary = {}, {}, set(np.unique(y)) <= {0.0, 1.0}
    for group in groups:
        values = frame[group]
        if values.nunique() > LEVELS:
            raise DataError(f"Column {group!r} has {values.nunique():,} values: make at most {LEVELS} groups of it.")
        # Categories nobody belongs to, such as an age band without customers, are no groups.
        codes, names = pd.factorize(values.astype(object), sort=False)
        for treated in (name for name in arms if name != control):
            cells = {}
            for code in _in_order(names):
                one, other = (y[arms[a][codes[arms[a]] == code]] for a in (treated, control))
                cells[names[code]] = (np.nan,) * 5
                if min(len(one), len(other)) > 1:
                    cells[names[code]] = contrast(mean_of(one), mean_of(other), level, binary)
                rows[group, names[code], treated] = (len(one) + len(other), *cells[names[code]])
            tests[group, treated] = _same(np.array([cell[:2] for cell in cells.values()]))
    effects = pd.DataFrame.from_dict(
        rows, orient="index", columns=["customers", "difference", "se", "low", "high", "p_value"]
    ).set_axis(pd.MultiIndex.from_tuples(rows, names=["group", "value", "arm"]))
    table = pd.DataFrame.from_dict(tests, orient="index", columns=["statistic", "df", "p_value"])
    table = table.set_axis(pd.MultiIndex.from_tuples(tests, names=["group", "arm"]))
    return Groups(*(t.assign(p_holm=holm(t["p_value"])) for t in (effects, table)))


def balance(data, arm, control, covariates):
    """Check whether the arms were alike before the experiment, as chance would have them.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer.
    arm : str
        Column that says which arm the customer was assigned to.
    control : object
        The value of the control group.
    covariates : sequence of str
        Columns from before the experiment.

    Returns
    -------
    pandas.DataFrame
        By treated arm and column (each value of a column without order): `treated` and `control` means, their
        `difference` in standard deviations of the control group with its 95 % interval `low`, `high`; and `p_value`,
        the same in all rows of an arm: the chance that a random draw differs as much in all of them together.

    Raises
    ------
    DataError
        As in `effect`, or no covariates.

    Notes
    -----
    The joint test is Wald's with the arms' own covariances. Under chance alone one p-value in twenty is below .05; one
    below .001 says that the assignment was not what it was said to be. For data that nobody randomized it shows how
    unlike the groups are, and says nothing about what was not recorded.

    Examples
    --------
    >>> people = pd.DataFrame({"age": [30, 40, 50, 30, 40, 50], "arm": [0, 0, 0, 1, 1, 1]})
    >>> balance(people, "arm", 0, ["age"])["difference"].tolist()
    [0.0]
    """
    covariates = list(covariates)
    if not covariates:
        raise DataError("Name the columns from before the experiment that should be alike.")
    frame = needed(data, [arm, *covariates])
    arms = arm_rows(frame, arm, control)
    _at_least_two(arms)
    x = as_columns(frame, covariates)
    parts = {name: x.iloc[rows] for name, rows in arms.items()}
    base, pieces = parts[control], {}
    for name, part in parts.items():
        if name == control:
            continue
        gap = part.mean() - base.mean()
        covariance = part.cov() / len(part) + base.cov() / len(base)
        # A column that is constant among the control group has no scale.
        scale = base.std().replace(0.0, np.nan)
        half = student.ppf(0.975, min(len(part), len(base)) - 1) * np.sqrt(np.diag(covariance)) / scale
        joint = chi2.sf(float(gap @ np.linalg.pinv(covariance) @ gap), np.linalg.matrix_rank(covariance))
        pieces[name] = pd.DataFrame(
            {
                "treated": part.mean(),
                "control": base.mean(),
                "difference": gap / scale,
                "low": gap / scale - half,
                "high": gap / scale + half,
                "p_value": joint,
            }
        )
    return pd.concat(pieces, names=[arm, "column"])


def sample_ratio(data, arm, shares=None):
    """Test whether the arms have as many customers as they were to have.

    More or fewer than planned says that customers got lost on the way, in one arm more than in another: then nothing
    else about the experiment can be trusted before the reason is known.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer.
    arm : str
        Column with the arm.
    shares : dict, optional
        Planned share of each arm; equal ones by default.

    Returns
    -------
    pandas.DataFrame
        By arm: `customers`, `planned` share, `observed` share with its 95 % Wilson interval `low`, `high`, and the
        `p_value` of the chi-square test of all shares, the same in all rows.

    Raises
    ------
    DataError
        Fewer than two arms, or planned shares that are not those of the arms.

    Notes
    -----
    Fabijan et al. (2019), Diagnosing sample ratio mismatch, KDD. As every experiment is tested, only a p-value below
    .001 is an alarm.

    Examples
    --------
    >>> people = pd.DataFrame({"arm": ["mail"] * 90 + ["none"] * 10})
    >>> float(sample_ratio(people, "arm", {"mail": 0.9, "none": 0.1})["p_value"].iloc[0])
    1.0
    """
    frame = needed(data, [arm])
    counts = frame[arm].astype(object).value_counts(sort=False)
    if shares is None:
        # In one order, because rows of an engine have none.
        shares = dict.fromkeys(sorted(counts.index, key=str), 1 / len(counts))
    if len(shares) < 2 or set(counts.index) - set(shares):
        raise DataError(
            f"The arms are {_listed(counts.index)}: give the planned share of each, of two at least, and of those that "
            "nobody was assigned to."
        )
    planned = np.array(list(shares.values()), dtype=float)
    if not (planned > 0).all() or abs(planned.sum() - 1) > 1e-6:
        raise DataError(f"The planned shares must be positive and add up to 1, not to {planned.sum():g}.")
    counts = counts.reindex(list(shares), fill_value=0)
    share, low, high = wilson(counts, counts.sum())
    p = chisquare(counts, counts.sum() * planned / planned.sum()).pvalue
    columns = {"customers": counts, "planned": planned, "observed": share, "low": low, "high": high, "p_value": p}
    return pd.DataFrame(columns).rename_axis(arm)


def holm(p_values):
    """Correct p-values for their number by Holm's method.

    Parameters
    ----------
    p_values : sequence of float
        P-values; missing ones stay missing and do not count.

    Returns
    -------
    numpy.ndarray
        Corrected p-values in the same order.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]
    found = np.full(len(p), np.nan)
    found[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return found


def read_experiment(source, arm):
    """Read the table of an experiment, one row a customer, from wherever it is kept.

    Parameters
    ----------
    source : str, path, frame or ibis.Table
        A name of the catalogue, a CSV or Parquet file, the address of a database: what `crmlab.data.load` opens. It
        needs neither dates nor amounts.
    arm : str
        Column that says which arm the customer was assigned to.

    Returns
    -------
    pandas.DataFrame
        The table. Arms are text, so that 0 and 0.0 are the arm "0"; of text, columns with numbers only become numbers,
        but for `customer_id`, where 007 is not 7.

    Raises
    ------
    DataError
        Not readable, or without the column `arm`.

    Examples
    --------
    >>> read_experiment(pd.DataFrame({"mailed": [0, 1], "spend": ["1.5", "0"]}), "mailed").values.tolist()
    [['0', 1.5], ['1', 0.0]]
    """
    opened = open_source(source)
    if arm not in opened.table.columns:
        raise DataError(f"{opened.name} has no column {arm!r}. It has: {_listed(opened.table.columns)}.")
    frame = opened.table.to_pandas()
    for column in frame.columns.difference([arm, "customer_id"]):
        if frame[column].dtype == object or pd.api.types.is_string_dtype(frame[column]):
            cells = frame[column].replace("", None)
            read = pd.to_numeric(cells, errors="coerce")
            if (read.notna() == cells.notna()).all() and read.notna().any():
                frame[column] = read
    whole = pd.api.types.is_numeric_dtype(frame[arm]) and (frame[arm].dropna() % 1 == 0).all()
    named = frame[arm].astype("Int64") if whole else frame[arm]
    return frame.assign(**{arm: named.astype("string").astype(object).where(frame[arm].notna(), None)})


def needed(data, columns):
    """Return columns of a table with one row a customer, without gaps, or name the rows that have some.

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
        No such column, no rows, missing cells.

    Examples
    --------
    >>> needed(pd.DataFrame({"a": [1], "b": [2]}), ["a"]).to_dict("list")
    {'a': [1]}
    """
    columns = list(dict.fromkeys(columns))
    lacking(data, columns)
    frame = data.select(columns).to_pandas() if isinstance(data, ibis.Table) else data[columns].reset_index(drop=True)
    if not len(frame):
        raise DataError("The table has no rows.")
    for column in columns:
        if (gaps := frame[column].isna()).any():
            raise DataError(
                f"Column {column!r} has no value in {gaps.sum():,} of {len(frame):,} rows: {row_numbers(gaps)}. Decide "
                "what it means: who did not buy has the outcome 0, who was not assigned is no part of the experiment."
            )
    return frame


def numbers(frame, column):
    """Return a column as finite numbers, or name the rows that have none.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows counted from 0.
    column : str
        One of its columns.

    Returns
    -------
    numpy.ndarray
        Numbers; true and false are 1 and 0.

    Raises
    ------
    DataError
        Text, or infinite numbers.

    Examples
    --------
    >>> numbers(pd.DataFrame({"bought": [True, False]}), "bought").tolist()
    [1.0, 0.0]
    """
    values = frame[column]
    if not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)):
        parsed = pd.to_numeric(values, errors="coerce") if values.dtype == object else pd.Series(np.nan, values.index)
        if (wrong := parsed.isna()).any():
            raise DataError(
                f"Column {column!r} must have numbers, or true and false, not {values[wrong].iloc[0]!r} "
                f"({row_numbers(wrong)})."
            )
        values = parsed
    found = values.to_numpy(dtype=float)
    if (wrong := ~np.isfinite(found)).any():
        raise DataError(f"Column {column!r} is infinite in {row_numbers(wrong)}.")
    return found


def row_numbers(flags, shown=5):
    """Name the first rows of those that are meant, counted from 1.

    Parameters
    ----------
    flags : sequence of bool
        One a row.
    shown : int
        How many are named.

    Returns
    -------
    str
        Such as "row 1, 3".

    Examples
    --------
    >>> row_numbers([True, False, True])
    'row 1, 3'
    """
    rows = np.flatnonzero(np.asarray(flags)) + 1
    return f"row {', '.join(map(str, rows[:shown]))}{' …' if len(rows) > shown else ''}"


def _listed(values):
    return ", ".join(map(str, values))


def arm_rows(frame, arm, control):
    """Return the rows of each arm, the control group first, the others in the order of their names.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows counted from 0.
    arm : str
        Column with the arm.
    control : object
        The value of the control group.

    Returns
    -------
    dict
        Arm to the numbers of its rows.

    Raises
    ------
    DataError
        No control group, nobody else, or more values than an experiment has arms.

    Examples
    --------
    >>> rows = arm_rows(pd.DataFrame({"arm": ["mail", "none", "mail"]}), "arm", "none")
    >>> {name: at.tolist() for name, at in rows.items()}
    {'none': [1], 'mail': [0, 2]}
    """
    codes, names = pd.factorize(frame[arm].astype(object))
    if control not in set(names):
        raise DataError(f"Nobody is in the control group {control!r}: column {arm!r} has {_listed(names)}.")
    if len(names) < 2:
        raise DataError(f"All {len(frame):,} customers are in the arm {control!r}: there is nobody to compare with.")
    if len(names) > LEVELS:
        raise DataError(f"Column {arm!r} has {len(names):,} values: is it the arm of the experiment?")
    order = sorted(range(len(names)), key=lambda code: (names[code] != control, str(names[code])))
    return {names[code]: np.flatnonzero(codes == code) for code in order}


def _at_least_two(arms):
    if small := [name for name, rows in arms.items() if len(rows) < 2]:
        raise DataError(f"The arm {small[0]!r} has one customer only: a difference needs two at least in each arm.")


def _in_order(names):
    """Codes of values, numbers by size and anything else by its text."""
    try:
        return sorted(range(len(names)), key=lambda code: names[code])
    except TypeError:
        return sorted(range(len(names)), key=lambda code: str(names[code]))


def as_columns(frame, covariates):
    """Return columns as numbers; one without order becomes one column for each of its values but the first.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows counted from 0.
    covariates : sequence of str
        Its columns to take.

    Returns
    -------
    pandas.DataFrame
        Numbers only.

    Raises
    ------
    DataError
        Dates, or text with more than a hundred different values.

    Examples
    --------
    >>> as_columns(pd.DataFrame({"age": [1, 2], "town": ["a", "b"]}), ["age", "town"]).values.tolist()
    [[1.0, 0.0], [2.0, 1.0]]
    """
    pieces = []
    for name in dict.fromkeys(covariates):
        values = frame[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            pieces.append(pd.Series(numbers(frame, name), name=name))
            continue
        if pd.api.types.is_datetime64_any_dtype(values):
            raise DataError(f"Column {name!r} is a date: give the days until the experiment instead.")
        if values.nunique() > 5 * LEVELS:
            raise DataError(f"Column {name!r} has {values.nunique():,} different values: group them, or leave it out.")
        pieces.append(pd.get_dummies(values.astype(str), prefix=name, prefix_sep=": ", drop_first=True, dtype=float))
    return pd.concat(pieces, axis=1) if pieces else pd.DataFrame(index=frame.index)


def _design(frame, covariates, arms):
    """Centred covariates that are not repeated by others in any arm, so that all arms are adjusted alike."""
    _at_least_two(arms)
    x = as_columns(frame, covariates)
    x = x - x.mean()
    for name, rows in arms.items():
        if len(rows) < 2 + x.shape[1]:
            raise DataError(
                f"The arm {name!r} has {len(rows):,} customers for {x.shape[1]} columns of covariates: use fewer."
            )
    for rows in arms.values():
        here = x.iloc[rows].to_numpy()
        scale = np.abs(here).max(axis=0, initial=0.0)
        scale[scale == 0] = 1.0
        r = np.abs(np.diag(np.linalg.qr(np.column_stack([np.ones(len(here)), here / scale]), mode="r")))
        x = x.loc[:, r[1:] > 1e-8 * np.sqrt(len(here))]
    return x


def mean_of(y, x=None):
    """Return the mean of an arm, raw and adjusted, with its HC2 variance and degrees of freedom.

    Parameters
    ----------
    y : numpy.ndarray
        Outcomes.
    x : numpy.ndarray, optional
        Covariates, centred over all arms.

    Returns
    -------
    dict
        `n`, `mean`, `sd`, `adjusted`, `variance` (of the adjusted mean), `df`.

    Examples
    --------
    >>> round(float(mean_of(np.array([1.0, 3.0]))["variance"]), 6)
    1.0
    """
    n, k = (len(y), 0) if x is None else x.shape
    raw, spread = y.mean(), y.std(ddof=1)
    if not k:
        return {"n": n, "mean": raw, "sd": spread, "adjusted": raw, "variance": spread**2 / n, "df": n - 1}
    # Of an orthonormal basis of the design, leverages and the weights of the intercept follow at once.
    q, r = np.linalg.qr(np.column_stack([np.ones(n), x]))
    beta = np.linalg.solve(r, q.T @ y)
    residual, leverage = y - np.column_stack([np.ones(n), x]) @ beta, (q**2).sum(axis=1)
    weight = q @ np.linalg.solve(r.T, np.eye(k + 1)[0])
    # A customer who alone has some value is fitted exactly and tells nothing about the error.
    share = np.divide(residual**2, 1 - leverage, out=np.zeros(n), where=leverage < 1 - 1e-9)
    return {
        "n": n, "mean": raw, "sd": spread, "adjusted": beta[0], "variance": float(weight**2 @ share), "df": n - k - 1,
    }  # fmt: skip


def _arm_table(found, level, arm):
    rows = {}
    for name, m in found.items():
        half = student.ppf((1 + level) / 2, m["n"] - 1) * m["sd"] / np.sqrt(m["n"])
        rows[name] = (m["n"], m["mean"], m["mean"] - half, m["mean"] + half, m["sd"], m["adjusted"])
        if m["sd"] == 0:
            rows[name] = (m["n"], m["mean"], np.nan, np.nan, 0.0, m["adjusted"])
    columns = ["customers", "mean", "low", "high", "sd", "adjusted"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(arm)


def _differences(found, control, level, binary):
    base, rows = found[control], {}
    joint = 1 - (1 - level) / (len(found) - 1)
    for name, m in found.items():
        if name != control:
            gap, se, low, high, p = contrast(m, base, level, binary)
            rows[name] = (gap, se, low, high, *contrast(m, base, joint, binary)[2:4], p, *_fieller(m, base, level))
    columns = ["difference", "se", "low", "high", "low_all", "high_all", "p_value"]
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=[*columns, "relative", "relative_low", "relative_high"]
    )
    table.insert(7, "p_holm", holm(table["p_value"]))
    return table


def contrast(m, base, level, binary):
    """Return the difference of two arms; shares of 0 or 1 have no variance and go by counts.

    Parameters
    ----------
    m, base : dict
        The arm and the control group, from `mean_of`.
    level : float
        Level of the interval.
    binary : bool
        Whether outcomes are 0 and 1.

    Returns
    -------
    difference, se, low, high, p_value : float
        The last three missing for arms in which nothing varies.

    Examples
    --------
    >>> one, other = mean_of(np.array([2.0, 4.0])), mean_of(np.array([1.0, 3.0]))
    >>> round(float(contrast(one, other, 0.95, False)[0]), 3)
    1.0
    """
    gap, se, df = m["adjusted"] - base["adjusted"], np.sqrt(m["variance"] + base["variance"]), _welch_df(m, base)
    if binary and min(m["sd"], base["sd"]) == 0:
        counts = [value for arm in (m, base) for value in (round(arm["mean"] * arm["n"]), arm["n"])]
        table = [[counts[0], counts[1] - counts[0]], [counts[2], counts[3] - counts[2]]]
        return gap, se, *newcombe(*counts, level)[1:], fisher_exact(table).pvalue
    if se == 0:
        return gap, 0.0, np.nan, np.nan, np.nan
    half = student.isf((1 - level) / 2, df) * se
    return gap, se, gap - half, gap + half, 2 * student.sf(abs(gap) / se, df)


def _welch_df(m, base):
    total = m["variance"] + base["variance"]
    return total**2 / sum(a["variance"] ** 2 / a["df"] for a in (m, base)) if total > 0 else np.nan


def _fieller(m, base, level):
    """Ratio of two independent means minus one, unbounded when the lower one may be zero; missing for constant arms."""
    a, b = m["adjusted"], base["adjusted"]
    if b == 0 or min(m["variance"], base["variance"]) == 0:
        return np.nan, np.nan, np.nan
    quantile = student.isf((1 - level) / 2, _welch_df(m, base))
    g = quantile**2 * base["variance"] / b**2
    if g >= 1:
        return a / b - 1, -np.inf, np.inf
    half = quantile / abs(b) * np.sqrt(m["variance"] * (1 - g) + base["variance"] * (a / b) ** 2)
    return a / b - 1, (a / b - half) / (1 - g) - 1, (a / b + half) / (1 - g) - 1


def _same(cells):
    """Cochran's Q of differences with their errors; groups without an error do not count."""
    cells = cells[np.isfinite(cells[:, 1]) & (cells[:, 1] > 0)]
    if len(cells) < 2:
        return np.nan, np.nan, np.nan
    weight = 1 / cells[:, 1] ** 2
    q = float(weight @ (cells[:, 0] - weight @ cells[:, 0] / weight.sum()) ** 2)
    return q, len(cells) - 1, float(chi2.sf(q, len(cells) - 1))
