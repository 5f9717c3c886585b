"""Baskets: what was bought together, how often each item and each pair of items, counted where the log lies."""

import math
from fractions import Fraction
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _
from scipy import sparse

from crmlab.data import load
from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.sources import open_source

LINES = 30_000_000
"""Up to so many lines of baskets are counted in memory, as a product of sparse matrices; more of them in the engine."""


BLOCKS = 4
"""Blocks of columns in which the product is made, which saves almost half of it; more of them cost more."""


class Lines(NamedTuple):
    """The lines of baskets: a table with `item`, the columns `keys` that name a basket, and what it leaves out."""

    table: object
    keys: tuple
    nameless: int


class Counts(NamedTuple):
    """How often items and pairs of them are in baskets.

    Attributes
    ----------
    baskets : int
        Baskets that were counted.
    set_aside : int
        Baskets with more different items than allowed.
    known : int
        Different items.
    items : pandas.Series
        By item, the most frequent first: baskets that have it. Items that were not asked for are not listed.
    pairs : pandas.DataFrame
        `first` and `second`, places in `items`, and `count`, the baskets that have both; each pair once.
    matrix : scipy.sparse.csc_matrix or None
        Baskets by items; None where the engine counted.
    """

    baskets: int
    set_aside: int
    known: int
    items: pd.Series
    pairs: pd.DataFrame
    matrix: object


def share(name, value):
    """Return a share as the fraction that its digits say, because 0.8 in floating point is more than eight tenths.

    Parameters
    ----------
    name : str
        What it is, for the message.
    value : float or str
        Between 0 and 1.

    Returns
    -------
    fractions.Fraction
        Exactly as written.

    Raises
    ------
    DataError
        No number between 0 and 1.

    Examples
    --------
    >>> share("confidence", 0.8)
    Fraction(4, 5)
    """
    try:
        exact = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        exact = Fraction(-1)
    if not 0 <= exact <= 1:
        raise DataError(f"{name} must be a share between 0 and 1, not {value!r}.")
    return exact


def whole_numbers(**numbers):
    """Refuse values that are no whole numbers or too small.

    Parameters
    ----------
    **numbers : tuple
        By name the value and the least that it may be.

    Raises
    ------
    DataError
        Naming the value and what it should be.

    Examples
    --------
    >>> whole_numbers(k=(10, 1))
    """
    for name, (value, smallest) in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
            raise DataError(f"{name} must be a whole number of at least {smallest}, not {value!r}.")


def read(log, item, basket, dated):
    """Return the log as lines of baskets, or refuse it in words.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or a table of baskets without customers and dates.
    item : str
        Column with what is bought.
    basket : str or None
        Column that names the basket; by default `order_id`, or the customer's day where there is none.
    dated : bool
        Whether each line must have its `day`.

    Returns
    -------
    Lines
        With `day` where it must be.

    Raises
    ------
    DataError
        Missing columns, lines that belong to no basket or no day, no lines.
    """
    table = open_source(log).table
    if dated or item not in table.columns or (basket or "order_id") not in table.columns:
        table = load(log)
    if basket is None and "order_id" in table.columns:
        basket = "order_id"
    named = ["customer_id", "date"] if basket is None else [basket]
    needed = [item, *named, *(["date"] if dated else [])]
    if missing := [name for name in dict.fromkeys(needed) if name not in table.columns]:
        raise DataError(f"The log has no column {', '.join(missing)}; it has {', '.join(table.columns)}.")
    picked = {"item": table[item]}
    if dated or basket is None:
        picked["day"] = table.date.cast("date")
    picked |= {"customer": table.customer_id} if basket is None else {"basket": table[basket]}
    keys = ("customer", "day") if basket is None else ("basket",)
    lines = table.select(**picked)
    facts = lines.aggregate(rows=lines.count(), **{name: lines[name].count() for name in picked}).to_pyarrow()
    facts = facts.to_pylist()[0]
    if not facts["item"]:
        raise DataError(f"The log has {facts['rows']:,} rows and none of them has {item}.")
    for key in picked:
        if key != "item" and (lacking := facts["rows"] - facts[key]):
            name = {"basket": basket, "customer": "customer_id", "day": "date"}[key]
            raise DataError(
                f"Of {facts['rows']:,} rows, {lacking:,} have no {name}, so that they belong to no basket. Leave them "
                "out or give them one; crmlab.data.audit(log).kept leaves out rows without customer or date."
            )
    return Lines(lines, keys, facts["rows"] - facts["item"])


def split(lines, train_end):
    """Divide lines of baskets into those up to a day and the later ones.

    Parameters
    ----------
    lines : Lines
        With `day`.
    train_end : str or date
        Last day of the earlier part.

    Returns
    -------
    tuple of Lines
        The earlier and the later ones.

    Raises
    ------
    DataError
        A part without lines.
    """
    end = day_of("train_end", train_end)
    table = lines.table
    both = {"before": table.count(where=table.day <= end), "after": table.count(where=table.day > end)}
    counts = table.aggregate(**both, first=table.day.min(), last=table.day.max())
    found = counts.to_pyarrow().to_pylist()[0]
    if not found["before"] or not found["after"]:
        raise DataError(
            f"There is no {'later' if found['before'] else 'earlier'} period: train_end is {end}, and the log lasts "
            f"from {found['first']} to {found['last']}."
        )
    return lines._replace(table=table.filter(table.day <= end)), lines._replace(table=table.filter(table.day > end))


def count(lines, support=Fraction(0), top_items=None, max_basket=None, only=None):
    """Count items and pairs of items that are in at least a share of the baskets.

    Parameters
    ----------
    lines : Lines
        The lines of the baskets.
    support : fractions.Fraction
        Share of the baskets that an item or a pair must be in.
    top_items : int, optional
        At most so many items, the most frequent ones.
    max_basket : int, optional
        Baskets with more different items are set aside.
    only : pandas.Index, optional
        Count these items alone, in this order.

    Returns
    -------
    Counts
        Exact numbers, from memory or from the engine.
    """
    table = lines.table.filter(_.item.notnull())
    many = table.count().to_pyarrow().as_py() > LINES
    return (_in_engine if many else _in_memory)(lines, support, top_items, max_basket, only)


def least(support, baskets):
    """Return the smallest number of baskets that is at least a share of them.

    Parameters
    ----------
    support : fractions.Fraction
        The share.
    baskets : int
        How many there are.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> least(Fraction("0.001"), 9835)
    10
    """
    return max(math.ceil(support * baskets), 1)


def codes(column):
    """Return a column as numbers from 0, -1 where it is missing, and what they stand for.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Of any type.

    Returns
    -------
    numbers : numpy.ndarray
        One for each row.
    values : pandas.Index
        By number.
    """
    if pa.types.is_signed_integer(column.type) and not column.null_count and len(column):
        numbers = column.to_numpy().astype(np.int64)
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < 4 * len(numbers):
            # Counting is faster than hashing.
            seen = np.zeros(high - low + 1, dtype=bool)
            seen[numbers - low] = True
            return (np.cumsum(seen, dtype=np.int32) - 1)[numbers - low], pd.Index(np.flatnonzero(seen) + low)
    found = pc.dictionary_encode(column).combine_chunks()
    found = found.chunk(0) if hasattr(found, "chunk") else found
    return found.indices.fill_null(-1).to_numpy(zero_copy_only=False), pd.Index(found.dictionary.to_pandas())


def incidence(table, rows, column):
    """Return which rows have which values of a column, as a sparse matrix of ones.

    Parameters
    ----------
    table : ibis.Table
        The lines.
    rows : sequence of str
        Columns whose values name a row together.
    column : str
        Column whose values name the columns; lines without one count as rows.

    Returns
    -------
    matrix : scipy.sparse.csr_matrix
        Ones of type int32.
    names : pandas.Index
        Of the columns.
    rows : pandas.Index
        Of the rows, by the last of their columns.
    """
    arrow = table.select(*rows, column).to_pyarrow()
    row, values = codes(arrow[rows[0]])
    for key in rows[1:]:
        more, further = codes(arrow[key])
        row, values = pd.factorize(row.astype(np.int64) * len(further) + more)
    at, names = codes(arrow[column])
    del arrow
    here = at >= 0 if (at < 0).any() else slice(None)
    ones = np.ones(len(at[here]), dtype=np.int32)
    # Lines that repeat an item are added up, and then count once.
    matrix = sparse.csr_matrix((ones, (row[here], at[here])), shape=(len(values), len(names)))
    matrix.data[:] = 1
    return matrix, names, values


def _in_memory(lines, support, top_items, max_basket, only):
    matrix, names, _rows = incidence(lines.table, lines.keys, "item")
    aside = 0
    if max_basket is not None:
        small = np.diff(matrix.indptr) <= max_basket
        aside = int((~small).sum())
        matrix = matrix[small] if aside else matrix
    baskets = matrix.shape[0]
    at_least = least(support, baskets)
    n = np.asarray(matrix.getnnz(axis=0))
    known = int((n > 0).sum())
    if only is not None:
        matrix = aligned(matrix, names, only)
        items = pd.Series(np.asarray(matrix.getnnz(axis=0)), index=only)
    else:
        order = by_frequency(names, n)
        order = order[n[order] >= at_least][:top_items]
        items = pd.Series(n[order], index=names[order])
        matrix = matrix[:, order]
    return Counts(baskets, aside, known, items, pairs_of(matrix, at_least), matrix.tocsc())


def pairs_of(matrix, at_least):
    """Return the pairs of columns with at least so many rows in common.

    They are the product of the matrix with itself, made block by block: each pair is needed once, so that a block meets
    itself and the columns after it.

    Parameters
    ----------
    matrix : scipy.sparse.csr_matrix
        Ones, the fullest columns first.
    at_least : int
        Rows in common, 1 or more.

    Returns
    -------
    pandas.DataFrame
        `first` and `second` column and `count`.

    Examples
    --------
    >>> pairs_of(sparse.csr_matrix([[1, 1, 0], [1, 1, 1]]), 2).to_numpy().tolist()
    [[0, 1, 2]]
    """
    n = np.append(0, np.cumsum(matrix.getnnz(axis=0)))
    starts = np.unique(np.searchsorted(n[:-1], n[-1] * np.arange(BLOCKS) / BLOCKS))
    rest, found = matrix, []
    for start, end in zip(starts, [*starts[1:], matrix.shape[1]], strict=True):
        both = rest[:, : end - start].T.tocsr() @ rest
        rest = rest[:, end - start :]
        place = np.flatnonzero(both.data >= at_least)
        first = np.searchsorted(both.indptr, place, side="right") - 1
        once = first < both.indices[place]
        place, first = place[once], first[once]
        columns = {"first": first + start, "second": both.indices[place] + start, "count": both.data[place]}
        found.append(pd.DataFrame(columns))
    return _sorted(pd.concat(found))


def _in_engine(lines, support, top_items, max_basket, only):
    table, keys = lines.table, list(lines.keys)
    aside = 0
    if max_basket is not None:
        sizes = table.group_by(keys).aggregate(n=_.item.nunique())
        giants = sizes.filter(_.n > max_basket)
        aside = giants.count().to_pyarrow().as_py()
        table = table.anti_join(giants, keys) if aside else table
    baskets = table.select(keys).distinct().count().to_pyarrow().as_py()
    at_least = least(support, baskets)
    distinct = table.filter(_.item.notnull()).select(*keys, "item").distinct()
    n = distinct.group_by("item").aggregate(n=_.count()).to_pandas().set_index("item")["n"]
    items = n.reindex(only, fill_value=0) if only is not None else n.iloc[by_frequency(n.index, n.to_numpy())]
    if only is None:
        items = items[items >= at_least][:top_items]
    chosen = ibis.memtable(pd.DataFrame({"item": items.index, "place": np.arange(len(items))}))
    coded = distinct.inner_join(chosen, "item").select(*keys, "place")
    other = coded.rename(other="place").view()
    both = coded.inner_join(other, keys).filter(_.place < _.other)
    pairs = both.group_by("place", "other").aggregate(count=_.count()).filter(_["count"] >= at_least)
    pairs = pairs.to_pandas().rename(columns={"place": "first", "other": "second"})
    return Counts(baskets, aside, len(n), items.rename(None), _sorted(pairs[["first", "second", "count"]]), None)


def by_frequency(names, n):
    """Return the places of items, the most frequent first and ties by name, so that every engine gives the same order.

    Parameters
    ----------
    names : pandas.Index
        The items.
    n : numpy.ndarray
        How often each occurs.

    Returns
    -------
    numpy.ndarray
        Places in `names`.

    Examples
    --------
    >>> by_frequency(pd.Index(["b", "a", "c"]), np.array([1, 1, 2])).tolist()
    [2, 1, 0]
    """
    text = names.astype(str) if names.dtype == object else names
    return np.lexsort((text.argsort().argsort(), -n))


def aligned(matrix, names, wanted):
    """Return the columns of a matrix in another order, empty ones for names that it does not have.

    Parameters
    ----------
    matrix : scipy.sparse.csr_matrix
        One column a name.
    names, wanted : pandas.Index
        Names of the columns, and those in the order that is wanted.

    Returns
    -------
    scipy.sparse.csr_matrix
        One column for each of those wanted.

    Examples
    --------
    >>> aligned(sparse.csr_matrix([[1, 2]]), pd.Index(["a", "b"]), pd.Index(["b", "x"])).toarray().tolist()
    [[2, 0]]
    """
    place = names.get_indexer(wanted)
    empty = sparse.csr_matrix((matrix.shape[0], 1), dtype=matrix.dtype)
    return sparse.hstack([matrix, empty], format="csr")[:, np.where(place >= 0, place, len(names))]


def _sorted(pairs):
    return pairs.astype("int64").sort_values(["first", "second"], ignore_index=True)
