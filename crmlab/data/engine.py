"""Connections: an embedded DuckDB by default, any Ibis backend by URL."""

import functools
import tempfile


@functools.cache
def _embedded():
    import ibis

    # DuckDB spills to the working folder by default; a notebook's folder is no place for that.
    return ibis.duckdb.connect(temp_directory=tempfile.gettempdir())


def connect(url=None):
    """Return a connection for tables that stay in their engine.

    Without an address it is the embedded DuckDB of this process, always the same one, because tables of different
    connections cannot be joined.

    Parameters
    ----------
    url : str, optional
        Address of a database, such as ``"duckdb://sales.ddb"`` or ``"postgres://user:password@host/database"``.

    Returns
    -------
    ibis.BaseBackend
        An Ibis connection.

    Examples
    --------
    >>> connect() is connect()
    True
    """
    import ibis

    return _embedded() if url is None else ibis.connect(url)
