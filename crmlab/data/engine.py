"""Connections: an embedded DuckDB by default, any Ibis backend by URL."""

import functools
import tempfile
import weakref


@functools.cache
def _embedded():
    import ibis

    # DuckDB spills to the working folder by default; a notebook's folder is no place for that.
    connection = ibis.duckdb.connect(temp_directory=tempfile.gettempdir())
    # Where ipywidgets is installed, it would draw a bar of its own into the output of a cell with a slow query.
    connection.raw_sql("SET enable_progress_bar = false")
    return connection


def connect(url=None):
    """Return a connection for tables that stay in their engine.

    Without an address it is the embedded DuckDB of this process, always the same one, because tables of different
    connections cannot be joined.

    Parameters
    ----------
    url : str, optional
        Address of a database, such as ``"duckdb://sales.ddb"`` or ``"postgres://user:password@host/database"``. Leave
        the password out and it is taken from the environment (``PGPASSWORD``) or from ``~/.pgpass``.

    Returns
    -------
    ibis.BaseBackend
        An Ibis connection.

    Notes
    -----
    A Spark cluster has no address: ``ibis.pyspark.connect(session)`` makes a connection of a Spark session of your own.
    Its tables, ``connection.table("sales")`` or ``connection.read_parquet("hdfs://…/sales")``, are taken by every
    function that takes a log.

    Examples
    --------
    >>> connect() is connect()
    True
    """
    import ibis

    if url is None:
        return _embedded()
    connection = ibis.connect(url)
    if connection.name == "postgres":
        # Its driver does not close a connection that nobody holds any longer.
        weakref.finalize(connection, connection.con.close)
    return connection
