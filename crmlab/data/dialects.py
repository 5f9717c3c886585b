"""What engines do differently, in one place: kinds of numbers, the order of text, windows, bits."""

import ibis
import ibis.expr.operations as ops


@ibis.udf.scalar.builtin(name="convert_to")
def _encoded(text: str, encoding: str) -> bytes:
    """Bytes of a text, as PostgreSQL calls it."""


@ibis.udf.agg.builtin(name="bit_or")
def _bit_or(bits: int) -> int:
    """All bits that are set in any row; Spark has it, and Ibis 12 does not know."""


def number(value):
    """Return a floating-point number of the engine.

    Written as it is, Spark takes 30.4375 for a decimal and divides whole numbers by it to six places.

    Parameters
    ----------
    value : float
        A finite number.

    Returns
    -------
    ibis.expr.types.FloatingScalar
        The same number.

    Examples
    --------
    >>> number(30.4375).execute() == 30.4375
    True
    """
    return ibis.literal(repr(float(value))).cast("float64")


def by_code(column):
    """Return what sorts a column by the codes of its characters, as most engines do with text.

    PostgreSQL sorts text by the language of its database, so that the first of several names would be another one.

    Parameters
    ----------
    column : ibis.expr.types.Column
        A column of a table, of any type.

    Returns
    -------
    ibis.expr.types.Column
        To order by.

    Examples
    --------
    >>> table = ibis.memtable({"name": ["a", "B"]})
    >>> table.order_by(by_code(table.name)).to_pandas()["name"].tolist()
    ['B', 'a']
    """
    if column.type().is_string() and column.get_backend().name == "postgres":
        return _encoded(column, "UTF8")
    return column


def windowed(table):
    """Return a table whose engine has window functions: as it is, or a copy of it in the embedded engine.

    Ibis 12 has no window functions for Polars, whose tables lie in this process as it is.

    Parameters
    ----------
    table : ibis.Table
        A table.

    Returns
    -------
    ibis.Table
        The same rows.

    Examples
    --------
    >>> import polars as pl
    >>> windowed(ibis.polars.connect({"t": pl.DataFrame({"x": [1, 2]})}).table("t")).get_backend().name
    'duckdb'
    """
    return table if table.get_backend().has_operation(ops.WindowFunction) else ibis.memtable(table.to_pyarrow())


def distinct(column):
    """Return how many different values a column has, where Polars would count a missing one as one more.

    Parameters
    ----------
    column : ibis.expr.types.Column
        A column of a table.

    Returns
    -------
    ibis.expr.types.IntegerScalar
        To aggregate by.

    Examples
    --------
    >>> int(distinct(ibis.memtable({"name": ["a", "b", None]}).name).execute())
    2
    """
    return column.nunique(where=column.notnull() if column.get_backend().name == "polars" else None)


def any_bit(bits):
    """Return the bits that are set in any row of a group.

    Parameters
    ----------
    bits : ibis.expr.types.IntegerColumn
        A column of a table.

    Returns
    -------
    ibis.expr.types.IntegerScalar
        To aggregate by.

    Examples
    --------
    >>> int(any_bit(ibis.memtable({"x": [1, 4]}).x).execute())
    5
    """
    return bits.bit_or() if bits.get_backend().has_operation(ops.BitOr) else _bit_or(bits)
