"""OLAP: every combination of dimensions at once, and which measures may be added up afterwards."""

import functools
import itertools
from pathlib import Path

import ibis
import pandas as pd

from crmlab.data.dialects import distinct
from crmlab.data.errors import DataError
from crmlab.data.read import load
from crmlab.data.sources import open_source

HOW = ("sum", "count", "nunique", "mean", "min", "max")


def cube(table, dims, measures, rollup=False):
    """Return the measures of a table for every combination of its dimensions, down to the grand total.

    One expression runs in the table's own engine. `grouping` says by which dimensions a row is grouped, so that a
    missing country (null, and grouped by country) is not taken for all countries (null, and not grouped by it).

    Parameters
    ----------
    table : str, pathlib.Path, frame or ibis.Table
        The rows; a file is read as by `crmlab.data.load`.
    dims : sequence of str
        Columns to group by.
    measures : dict
        Name of a measure to how it is computed and from which column, such as ``{"revenue": ("sum", "amount")}``; how
        is one of sum, count, nunique, mean, min, max.
    rollup : bool, default False
        Only the levels of a hierarchy: all dimensions, all but the last, and so on to the total.

    Returns
    -------
    pandas.DataFrame
        `grouping`, the dimensions and the measures; the finest grouping first, the total last, ordered within each.

    Raises
    ------
    DataError
        A column that is not there, a name that is there twice, or an unknown way to compute.

    Examples
    --------
    >>> sales = pd.DataFrame({"country": ["UK", "UK", "EIRE"], "customer_id": [1, 2, 1], "amount": [5.0, 6.0, 7.0]})
    >>> cube(sales, ["country"], {"revenue": ("sum", "amount"), "customers": ("nunique", "customer_id")})
      grouping country  revenue  customers
    0  country    EIRE      7.0          1
    1  country      UK     11.0          2
    2    total    None     18.0          2
    """
    t, dims = _opened(table, dims, measures)
    # Only the columns that are asked for, so that an engine reads no others.
    t = t.select(*dict.fromkeys([*dims, *(column for _, column in measures.values())]))
    sizes = range(len(dims), -1, -1)
    levels = [dims[:n] for n in sizes] if rollup else [list(c) for n in sizes for c in itertools.combinations(dims, n)]
    parts = [_level(t, dims, level, measures).mutate(level_=ibis.literal(i)) for i, level in enumerate(levels)]
    answer = functools.reduce(lambda one, other: one.union(other), parts)
    frame = answer.to_pyarrow().to_pandas().sort_values(["level_", *dims], kind="stable", ignore_index=True)
    frame.insert(0, "grouping", [" × ".join(levels[i]) or "total" for i in frame.pop("level_")])
    for dim in dims:
        # Without a dimension there is nothing to print: pandas shows NaN in a column of numbers, None in one of text.
        if pd.api.types.is_string_dtype(frame[dim]):
            frame[dim] = frame[dim].astype(object).where(frame[dim].notna(), None)
    return frame


def rollup_check(table, dims, measures):
    """Tell of each measure whether its parts by a dimension add up to the total, and why not.

    Revenue adds up. Distinct customers do not: one who buys in two countries is a customer of both. Each id counts once
    for every value of the dimension that it has, so the surplus is what the ids with several values have beyond one.

    Parameters
    ----------
    table : str, pathlib.Path, frame or ibis.Table
        See `cube`.
    dims : sequence of str
        Dimensions to look at, one at a time.
    measures : dict
        See `cube`.

    Returns
    -------
    pandas.DataFrame
        One row a measure and dimension: sum of the parts, total, surplus, whether it `adds_up`, and of measures of
        distinct values the number of values `in_several` parts and the surplus that they `explain`.

    Raises
    ------
    DataError
        See `cube`.

    Examples
    --------
    >>> sales = pd.DataFrame({"country": ["UK", "UK", "EIRE"], "customer_id": [1, 2, 1], "amount": [5.0, 6.0, 7.0]})
    >>> found = rollup_check(sales, ["country"], {"customers": ("nunique", "customer_id")})
    >>> found[["parts", "total", "surplus", "in_several"]]
       parts  total  surplus  in_several
    0    3.0    2.0      1.0           1
    """
    t, dims = _opened(table, dims, measures)
    rows = []
    for dim in dims:
        levels = cube(t, [dim], measures)
        for name, (how, column) in measures.items():
            parts = float(levels.loc[levels["grouping"] != "total", name].sum())
            total = float(levels[name].iloc[-1])
            several = explain = pd.NA
            if how == "nunique":
                pairs = t.filter(t[column].notnull()).select(id_=t[column], part_=t[dim]).distinct()
                each = pairs.group_by("id_").aggregate(n=pairs.count())
                found = each.aggregate(several=(each.n > 1).sum(), surplus=(each.n - 1).sum()).to_pyarrow()
                several, explain = (value or 0 for value in found.to_pylist()[0].values())
            same = abs(parts - total) <= 1e-9 * max(abs(parts), abs(total), 1)
            rows.append((name, dim, parts, total, parts - total, same, several, explain))
    columns = ["measure", "dimension", "parts", "total", "surplus", "adds_up", "in_several", "explain"]
    return pd.DataFrame(rows, columns=columns).astype({"in_several": "Int64", "explain": "Int64"})


def _opened(table, dims, measures):
    t = load(table) if isinstance(table, str | Path) else open_source(table).table
    dims = [dims] if isinstance(dims, str) else list(dims)
    for name, measure in measures.items():
        if not (isinstance(measure, tuple | list) and len(measure) == 2 and measure[0] in HOW):
            raise DataError(
                f'measures: {name!r} is {measure!r}; write how and the column, such as ("sum", "amount"). '
                f"How is one of {', '.join(HOW)}."
            )
    used = [*dims, *(column for _, column in measures.values())]
    if lost := [name for name in used if name not in t.columns]:
        raise DataError(f"There is no column {', '.join(map(repr, lost))}. Columns: {', '.join(t.columns)}.")
    for how, column in measures.values():
        if how in ("sum", "mean") and not t[column].type().is_numeric():
            raise DataError(f"Column {column!r} has the type {t[column].type()}; a {how} needs numbers.")
    made = [*dims, *measures, "grouping"]
    if twice := sorted({name for name in made if made.count(name) > 1}):
        raise DataError(f"{', '.join(twice)}: this name stands twice among dimensions and measures; rename one.")
    if not measures:
        raise DataError('measures is empty: name at least one, such as {"revenue": ("sum", "amount")}.')
    return t, dims


def _level(t, dims, level, measures):
    computed = {
        name: distinct(t[column]) if how == "nunique" else getattr(t[column], how)()
        for name, (how, column) in measures.items()
    }
    grouped = t.group_by(level).aggregate(**computed) if level else t.aggregate(**computed)
    kept = {dim: grouped[dim] if dim in level else ibis.null(t[dim].type()) for dim in dims}
    return grouped.select(**kept, **{name: grouped[name] for name in measures})
