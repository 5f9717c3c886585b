"""Ids that tell nothing: a keyed hash instead of the customer's own number."""

import hmac
import os

import ibis

from crmlab.data.engine import connect
from crmlab.data.errors import DataError
from crmlab.data.identity import _each, _embedded, as_words
from crmlab.data.sources import identifier, open_source
from crmlab.data.textfile import keep, sql

VARIABLE = "CRMLAB_PSEUDONYM_KEY"
_SHORTEST = 16


def pseudonymize(table, *, column="customer_id", key=None):
    """Replace an id by its HMAC-SHA256, in 64 hexadecimal digits.

    The same key gives the same pseudonyms in every table, so that they still join; without the key nobody can try out
    ids. A number has the pseudonym of its digits: 7, 7.0 and "7" are one customer. The key is kept nowhere. Other
    columns stay as they are: names and addresses still tell who somebody is.

    Parameters
    ----------
    table : str, pathlib.Path, frame or ibis.Table
        Anything that `crmlab.data.load` opens.
    column : str, default "customer_id"
        The column with the id; a missing id stays missing.
    key : str or bytes, optional
        At least 16 bytes; by default the environment variable CRMLAB_PSEUDONYM_KEY.

    Returns
    -------
    ibis.Table
        The same rows, in the embedded engine, with pseudonyms in the column.

    Raises
    ------
    DataError
        There is no key, it is too short, or the column is not there.

    Examples
    --------
    >>> import pandas as pd
    >>> hidden = pseudonymize(pd.DataFrame({"customer_id": [7]}), key="an example, never to be used")
    >>> len(hidden.to_pandas()["customer_id"][0])
    64
    """
    secret = key if key is not None else os.environ.get(VARIABLE, "")
    secret = secret.encode() if isinstance(secret, str) else bytes(secret)
    if len(secret) < _SHORTEST:
        what = "is too short" if secret else "is missing"
        raise DataError(
            f"The key of the pseudonyms {what}: set the environment variable {VARIABLE}, or pass key=…, with at least "
            f"{_SHORTEST} bytes from a random source, and keep it apart from the data."
        )
    opened = open_source(table)
    if column not in opened.table.columns:
        raise DataError(f"{opened.name} has no column {column!r}. It has: {', '.join(opened.table.columns)}.")
    source = _embedded(opened.table)

    def hidden(values):
        return _each(lambda value: hmac.digest(secret, value.encode(), "sha256").hex(), values)

    # The function knows the key, so it goes as soon as the answer is there.
    name, con = ibis.util.gen_name("crmlab_pseudonym"), connect().con
    con.create_function(name, hidden, ["VARCHAR"], "VARCHAR", type="arrow", null_handling="special")
    try:
        replaced = f"REPLACE ({name}({as_words(source, column)}) AS {identifier(column)})"
        return keep(f"SELECT * {replaced} FROM ({sql(source)})")
    finally:
        con.remove_function(name)
