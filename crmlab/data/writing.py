"""Answers that are too long for memory go to Parquet."""

from pathlib import Path

from crmlab.data.download import whole
from crmlab.data.errors import DataError


def write_parquet(table, path):
    """Write a table of an engine to Parquet, whole or not at all.

    The embedded engine and databases write one file beside its place and move it there when it is complete: whoever
    reads meanwhile finds the former one. A Spark cluster writes a new folder, one file a partition, with the file
    `_SUCCESS` as its last.

    Parameters
    ----------
    table : ibis.Table
        For example the scores of `predict`, one row a customer.
    path : str or pathlib.Path
        The file; one that exists is replaced. On Spark the folder, which must not exist, or its address.

    Raises
    ------
    DataError
        There is no such folder, or a folder in the file's place.

    Examples
    --------
    >>> import tempfile
    >>> from crmlab.data import load
    >>> with tempfile.TemporaryDirectory() as scratch:
    ...     write_parquet(load("cdnow_sample"), Path(scratch) / "log.parquet")
    ...     int(load(Path(scratch) / "log.parquet").count().execute())
    6919
    """
    if table.get_backend().name == "pyspark":
        table.to_parquet(path)
        return
    path = Path(path)
    if not path.parent.is_dir() or path.is_dir():
        raise DataError(f"{path} cannot be written: it must be a file in a folder that exists.")
    whole(table.to_parquet, path)
