"""In which periods each customer bought: the engine counts distinct histories, numpy reads them.

A history is one bit a period. Grouping by it is one pass over the log and one group a customer, where distinct pairs of
customer and period would be many; and customers with the same history are one row with a weight.
"""

import ibis
import numpy as np
from ibis import _

from crmlab.data.dialects import any_bit
from crmlab.lifecycle.logs import position

BITS = 30
"""Periods in one whole number of the engine; Polars shifts in 32 bits, whatever the type of the column."""

CELLS = 4_000_000
"""Histories times periods that are held at once."""

FULL = (1 << BITS) - 1
"""A word with all bits set."""


def histories(log, first, period, n, by=()):
    """Return the distinct histories of a log and how many customers have each.

    Parameters
    ----------
    log : ibis.Table
        `customer_id`, `day` and the columns of `by`, of which each customer has one value.
    first : datetime.date
        First day of the log.
    period : {"W", "M", "Q", "Y"}
        ISO weeks, months, quarters or years.
    n : int
        Number of periods.
    by : sequence of str
        Columns that tell groups of customers apart.

    Returns
    -------
    ibis.Table
        The columns of `by`, `word0`, `word1`, … (bits of the periods from the first on) and `customers`.

    Examples
    --------
    >>> from crmlab.lifecycle.logs import checked
    >>> log, first, last = checked("cdnow")
    >>> int(histories(log, first, "Q", 6).customers.sum().execute())
    23570
    """
    # As wide as PostgreSQL shifts by, which takes months and years for decimals.
    log = log.mutate(at=position(period, first).cast("int32"))
    one, none = (ibis.literal(bit, "int64") for bit in (1, 0))
    words = {}
    for word in range(-(-n // BITS)):
        at = log["at"] - word * BITS
        # Some engines compute both sides of a condition, and none shifts by a negative number.
        bit = one << at if n <= BITS else ibis.ifelse(at.between(0, BITS - 1), one << at.clip(0, BITS - 1), none)
        words[f"word{word}"] = any_bit(bit)
    customers = log.group_by("customer_id", *by).aggregate(**words)
    return customers.group_by(*by, *words).aggregate(customers=_.count())


def blocks(table, n):
    """Read histories a block at a time.

    Parameters
    ----------
    table : ibis.Table
        Of `histories`.
    n : int
        Number of periods.

    Yields
    ------
    active : numpy.ndarray
        One row a period, one column a history: did these customers buy?
    customers : numpy.ndarray
        How many have it.
    batch : pyarrow.RecordBatch
        The block with all its columns.

    Examples
    --------
    >>> from crmlab.lifecycle.logs import checked
    >>> log, first, last = checked("cdnow")
    >>> sum(int(active[-1] @ customers) for active, customers, _ in blocks(histories(log, first, "Q", 6), 6))
    3317
    """
    for batch in table.to_pyarrow().to_batches(max_chunksize=max(CELLS // n, 1)):
        words = [_array(batch, f"word{word}") for word in range(-(-n // BITS))]
        bits = [(words[at // BITS] >> (at % BITS)) & 1 for at in range(n)]
        yield np.array(bits, dtype=bool), _array(batch, "customers"), batch


def words(table, n):
    """Read histories a block at a time, with the bits of up to 30 periods in a whole number.

    Parameters
    ----------
    table : ibis.Table
        Of `crmlab.lifecycle.histories.histories`.
    n : int
        Number of periods.

    Yields
    ------
    active : numpy.ndarray
        One row a word, one column a history: bit i of word k is set for those who bought in period 30 k + i.
    customers : numpy.ndarray
        How many have it.
    batch : pyarrow.RecordBatch
        The block with all its columns.

    Examples
    --------
    >>> from crmlab.lifecycle.logs import checked
    >>> log, first, last = checked("cdnow")
    >>> sum(len(customers) for _active, customers, _batch in words(histories(log, first, "Q", 6), 6))
    32
    """
    names = [f"word{word}" for word in range(-(-n // BITS))]
    for batch in table.to_pyarrow().to_batches(max_chunksize=max(CELLS // n, 1)):
        columns = [batch.column(batch.schema.get_field_index(name)).to_numpy() for name in (*names, "customers")]
        yield np.array(columns[:-1], dtype=np.int64), columns[-1].astype(float), batch


def mask(periods):
    """Return words with the bits of some periods set.

    Parameters
    ----------
    periods : sequence of bool
        For each period, whether its bit is set.

    Returns
    -------
    numpy.ndarray
        One row a word.

    Examples
    --------
    >>> mask([True, False, True]).tolist()
    [[5]]
    """
    parts = [periods[at : at + BITS] for at in range(0, len(periods), BITS)]
    return np.array([[sum(1 << i for i, there in enumerate(part) if there)] for part in parts])


def delayed(active):
    """Return histories a period earlier: bit i is what bit i - 1 was.

    Parameters
    ----------
    active : numpy.ndarray
        One row a word, one column a history.

    Returns
    -------
    numpy.ndarray
        Of the same shape.

    Examples
    --------
    >>> delayed(np.array([[5]])).tolist()
    [[10]]
    """
    moved = (active << 1) & FULL
    moved[1:] |= active[:-1] >> (BITS - 1)
    return moved


def advanced(active):
    """Return histories a period later: bit i is what bit i + 1 was.

    Parameters
    ----------
    active : numpy.ndarray
        One row a word, one column a history.

    Returns
    -------
    numpy.ndarray
        Of the same shape.

    Examples
    --------
    >>> advanced(np.array([[10]])).tolist()
    [[5]]
    """
    moved = active >> 1
    moved[:-1] |= (active[1:] & 1) << (BITS - 1)
    return moved


def onwards(active):
    """Return histories with all bits set from the first one on.

    Parameters
    ----------
    active : numpy.ndarray
        One row a word, one column a history.

    Returns
    -------
    numpy.ndarray
        Of the same shape.

    Examples
    --------
    >>> int(onwards(np.array([[4]]))[0, 0]) == 2**30 - 4
    True
    """
    # A number and its negative share the lowest bit and have all higher ones in one or the other.
    known = (active | -active) & FULL
    known[1:][np.logical_or.accumulate(active[:-1] > 0)] = FULL
    return known


def total(bits, customers, n, group=0, groups=1):
    """Return how many customers have a bit set in each period.

    Parameters
    ----------
    bits : numpy.ndarray
        One row a word, one column a history.
    customers : numpy.ndarray
        How many customers have each history.
    n : int
        Number of periods.
    group : numpy.ndarray or 0
        Number of the group that each history belongs to.
    groups : int
        How many groups there are.

    Returns
    -------
    numpy.ndarray
        Whole numbers, one row a group, one column a period.

    Examples
    --------
    >>> total(np.array([[5, 4]]), np.array([2, 3]), 3).tolist()
    [[2, 0, 5]]
    """
    # Counting the values of six bits at a time is much faster than counting bits.
    size, counts = 6, []
    sets = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    for at in range(0, n, size):
        value = (bits[at // BITS] >> (at % BITS)) & (2**size - 1)
        found = np.bincount(group * 2**size + value, customers, groups * 2**size)
        counts.append(found.reshape(groups, -1) @ sets)
    return np.concatenate(counts, axis=1)[:, :n].astype(np.int64)


def _array(batch, name):
    return batch.column(batch.schema.get_field_index(name)).to_numpy(zero_copy_only=False).astype(np.int64)
