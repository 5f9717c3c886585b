"""Columns of a survey as numbers or ordered answers, faults named by item; intervals of means."""

import difflib

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from crmlab.data.errors import DataError

CODES = (-1, -2, -8, -9, -77, -88, -98, -99, -999, -9999, 77, 88, 97, 98, 99, 888, 998, 999, 9999)
"""Numbers that questionnaires write where there is no answer."""


def table_of(data, names):
    """Return the named columns of a frame, each once.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    names : sequence of str
        The columns wanted.

    Returns
    -------
    pandas.DataFrame
        The columns, as they are.

    Raises
    ------
    DataError
        When the data are no frame, have no rows, lack a column or have it more than once.
    """
    if not isinstance(data, pd.DataFrame):
        raise DataError(f"The answers must be a pandas frame with one row a respondent, not {type(data).__name__}.")
    names = list(dict.fromkeys(names))
    for name in names:
        if (found := int((data.columns == name).sum())) != 1:
            near = difflib.get_close_matches(str(name), [str(c) for c in data.columns], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"The data have {found} columns named {name!r}."
                if found
                else f"The data have no column {name!r}.{hint}"
            )
    if not len(data):
        raise DataError("The data have no rows.")
    return data[names]


def numbers(data, names):
    """Return columns as numbers, blank where there is no answer.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    names : sequence of str
        The columns wanted.

    Returns
    -------
    pandas.DataFrame
        Floats.

    Raises
    ------
    DataError
        Columns that are lacking, without any answer, with text, or with what looks like a code for no answer.
    """
    frame = table_of(data, names)
    found = {name: _floats(frame[name]) for name in frame}
    for name, values in found.items():
        answers = values[~np.isnan(values)]
        if not len(answers):
            raise DataError(f"The item {name!r} has no answer at all.")
        for code in CODES:
            rest = answers[answers != code]
            # A code lies further from the answers than they lie from one another.
            if 0 < len(rest) < len(answers) and _distance(code, rest) > max(np.ptp(rest), 2.0):
                raise DataError(
                    f"The item {name!r} holds {code} (rows: {len(answers) - len(rest):,}), far from its other values "
                    f"({rest.min():g} to {rest.max():g}): if it is a code for no answer, replace it by a blank first, "
                    f"data[{name!r}].replace({code}, float('nan'))."
                )
    return pd.DataFrame(found, index=frame.index)


def _distance(code, values):
    return values.min() - code if code < values.min() else code - values.max()


def _floats(column):
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(f"The item {column.name!r} holds dates: answers must be numbers.")
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    text = column.map(lambda v: isinstance(v, str | bytes)).to_numpy(dtype=bool)
    bad = text | np.isinf(values) | (np.isnan(values) & column.notna().to_numpy())
    if bad.any():
        row = int(bad.argmax())
        value = column.iloc[row] if isinstance(column.iloc[row], float) else repr(column.iloc[row])
        raise DataError(
            f"The item {column.name!r} holds {value} in row {row + 1:,} (rows like that: {bad.sum():,}): answers "
            "must be numbers, and blank where there is none."
        )
    return values


def ordered_codes(column, levels=None):
    """Return answers as positions in their order, with the answers themselves.

    Parameters
    ----------
    column : pandas.Series
        Numbers, or words of an ordered categorical.
    levels : sequence, optional
        The answers from lowest to highest, for words without order.

    Returns
    -------
    codes : numpy.ndarray of float
        Position of each answer, blank where there is none.
    levels : list
        The answers that occur, or those given, from lowest to highest.

    Raises
    ------
    DataError
        Words without order (the alphabet is none), answers that are not among the levels, no answer at all.
    """
    name = column.name
    if levels is None and isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered:
        levels = list(column.cat.categories)
    if levels is None:
        if not (pd.api.types.is_numeric_dtype(column) or column.map(lambda v: not isinstance(v, str)).all()):
            words = [str(v) for v in column.dropna().unique()[:6]]
            raise DataError(
                f"The answers of {name!r} are words ({', '.join(words)}) whose order is not known, and the alphabet is "
                f"none: make it an ordered column, pd.Categorical(data[{name!r}], [lowest, …, highest], ordered=True)."
            )
        values = numbers(column.to_frame(), [name])[name].to_numpy()
        levels = np.unique(values[~np.isnan(values)])
        codes = np.where(np.isnan(values), np.nan, np.searchsorted(levels, values))
        return codes, [int(v) if v == int(v) else float(v) for v in levels]
    levels = list(levels)
    if (unknown := column.notna() & ~column.isin(levels)).any():
        raise DataError(
            f"The item {name!r} holds {column[unknown].iloc[0]!r}, which is not among its levels "
            f"({', '.join(map(str, levels))})."
        )
    codes = pd.Categorical(column, categories=levels, ordered=True).codes.astype(float)
    codes[codes < 0] = np.nan
    if np.isnan(codes).all():
        raise DataError(f"The item {name!r} has no answer at all.")
    return codes, levels


def varied(frame):
    """Refuse items without variation and items that repeat one another.

    Parameters
    ----------
    frame : pandas.DataFrame
        Complete answers as numbers.

    Raises
    ------
    DataError
        Naming the items.
    """
    for name in frame:
        if frame[name].nunique() < 2:
            raise DataError(f"The item {name!r} has the same answer in all {len(frame):,} rows used: leave it out.")
    z = (frame - frame.mean()).to_numpy()
    z = z / np.sqrt((z * z).sum(axis=0))
    r = np.abs(z.T @ z) - np.eye(z.shape[1])
    if r.max(initial=0.0) > 1 - 1e-10:
        one, other = np.unravel_index(r.argmax(), r.shape)
        raise DataError(
            f"The items {frame.columns[min(one, other)]!r} and {frame.columns[max(one, other)]!r} repeat one another "
            "(correlation 1 or -1): leave one of them out."
        )


def parts(data, by):
    """Return the groups of a table with the positions of their rows; one group of all without a column to group by.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    by : str or None
        The column that groups; rows without a group belong to none.

    Returns
    -------
    dict
        Group to positions.

    Raises
    ------
    DataError
        When there is no such column, or no row with a group.
    """
    if by is None:
        return {"all": np.arange(len(data))}
    column = table_of(data, [by])[by].reset_index(drop=True)
    found = {name: rows.to_numpy() for name, rows in column.groupby(column, observed=True).groups.items()}
    if not found:
        raise DataError(f"The column {by!r} has no group at all.")
    return found


def mean_interval(n, mean, variance):
    """Return the 95 % interval of a mean by Student's t.

    Parameters
    ----------
    n, mean, variance : array
        Answers, their mean and their variance (divided by n - 1).

    Returns
    -------
    low, high : numpy.ndarray
        Missing where there are fewer than five answers, or all are alike: then their spread is not known.
    """
    n = np.asarray(n, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = (n >= 5) & (np.asarray(variance) > 0)
        half = np.where(known, stdtrit(np.maximum(n - 1, 1), 0.975) * np.sqrt(variance / n), np.nan)
    return mean - half, mean + half
