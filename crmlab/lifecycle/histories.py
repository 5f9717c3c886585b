"""In which periods each customer bought: the engine counts distinct histories, numpy reads them.

A history is one bit a period. Grouping by it is one pass over the log and one group a customer, where distinct pairs of
customer and period would be many; and customers with the same history are one row with a weight.
"""

import ibis
import numpy as np
from ibis import _

from crmlab.lifecycle.logs import position

BITS = 30
"""Periods in one whole number of the engine; Polars shifts in 32 bits, whatever the type of the column."""

CELLS = 4_000_000
"""Histories times periods that are held at once."""


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
    log = log.mutate(at=position(period, first).cast("int64"))
    one, none = (ibis.literal(bit, "int64") for bit in (1, 0))
    words = {}
    for word in range(-(-n // BITS)):
        at = log["at"] - word * BITS
        # Some engines compute both sides of a condition, and none shifts by a negative number.
        bit = one << at if n <= BITS else ibis.ifelse(at.between(0, BITS - 1), one << at.clip(0, BITS - 1), none)
        words[f"word{word}"] = bit.bit_or()
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
    >>> sum(int(total(active, customers)[-1]) for active, customers, _ in blocks(histories(log, first, "Q", 6), 6))
    3317
    """
    for batch in table.to_pyarrow().to_batches(max_chunksize=max(CELLS // n, 1)):
        words = [_array(batch, f"word{word}") for word in range(-(-n // BITS))]
        bits = [(words[at // BITS] >> (at % BITS)) & 1 for at in range(n)]
        yield np.array(bits, dtype=bool), _array(batch, "customers"), batch


def total(flags, customers):
    """Return how many customers a flag is set for, in each period.

    Parameters
    ----------
    flags : numpy.ndarray
        One row a period, one column a history.
    customers : numpy.ndarray
        How many customers have each history.

    Returns
    -------
    numpy.ndarray
        Whole numbers, one a period.

    Examples
    --------
    >>> total(np.array([[True, False], [True, True]]), np.array([2, 3])).tolist()
    [2, 5]
    """
    # Where histories are many, most belong to one customer, and counting is much faster than multiplying.
    several = customers > 1
    once = [np.count_nonzero(row) for row in flags]
    return np.array(once) + flags[:, several].astype(np.int64) @ (customers[several] - 1)


def _array(batch, name):
    return batch.column(batch.schema.get_field_index(name)).to_numpy(zero_copy_only=False).astype(np.int64)
