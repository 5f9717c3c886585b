"""Who is left out of a campaign so that it can be judged: by a hash, so that the answer never depends on who asks."""

import hashlib
import math
import numbers

import ibis
import numpy as np
import pandas as pd

from crmlab.data.errors import DataError


def assign_control(ids, share, salt):
    r"""Say of each customer whether they belong to the control group, the same on every machine and every day.

    A customer is in the control group when the first eight bytes of the SHA-256 of ``salt:id`` (UTF-8), read as a
    number, are less than :math:`\mathrm{share} \cdot 2^{64}`. So the answer depends on nobody else: customers who come
    later change nothing, a larger share keeps the smaller one's customers, and another salt is another draw.

    Parameters
    ----------
    ids : sequence, pandas.Series or ibis column
        Names or numbers of the customers. 7, 7.0 and numpy's 7 are the customer "7"; "007" is another. Repeated ids get
        the same answer each time.
    share : float
        Share of the customers to leave out, 0 to 1.
    salt : str
        Name of the experiment, such as ``"spring 2024"``. Use a new one for each, or the same customers are left out
        for ever.

    Returns
    -------
    pandas.Series
        Named `control`: True for the control group, on the index of `ids` if it is a Series.

    Raises
    ------
    DataError
        Missing ids, numbers so large that they have lost digits, a share outside 0 to 1, no salt.

    Notes
    -----
    The same in SQL of DuckDB: ``('0x' || left(sha256(salt || ':' || id), 16))::UBIGINT < share * 2::HUGEINT ** 64``.
    The share of a small group varies like that of any random draw; `sample_ratio` says whether it varies more.

    Examples
    --------
    >>> assign_control([7, "7", 7.0, "Wang"], 0.5, "spring").tolist()
    [True, True, True, False]
    """
    if not 0 <= share <= 1:
        raise DataError(f"share is a number between 0 and 1, such as 0.1 for a tenth, not {share!r}.")
    if not isinstance(salt, str) or not salt:
        raise DataError("salt must be the name of the experiment, such as 'spring 2024': each needs a draw of its own.")
    if isinstance(ids, ibis.Column):
        ids = ids.to_pandas()
    index = ids.index if isinstance(ids, pd.Series) else None
    base, limit = hashlib.sha256(f"{salt}:".encode()), int(share * 2**64)
    drawn = np.fromiter((_number(base, text) < limit for text in texts(ids)), dtype=bool)
    return pd.Series(drawn, index=index, name="control")


def _number(base, text):
    digest = base.copy()
    # Text that came from broken bytes still is an id.
    digest.update(text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "big")


def texts(ids):
    """Return ids as text, numbers without a decimal point, or say which are none.

    Parameters
    ----------
    ids : sequence
        Names or numbers of customers.

    Returns
    -------
    list of str
        One text an id.

    Raises
    ------
    DataError
        Missing ids, booleans, numbers that are not whole or have lost digits.

    Examples
    --------
    >>> texts([7, 7.0, "007"])
    ['7', '7', '007']
    """
    found, wrong = [], {}
    for row, value in enumerate(ids, 1):
        text = as_id(value)
        if text is None:
            wrong[row] = value
        found.append(text)
    if wrong:
        rows = ", ".join(f"{row} ({value!r})" for row, value in list(wrong.items())[:5])
        raise DataError(
            f"{len(wrong):,} of {len(found):,} ids name no customer, in row {rows}{' …' if len(wrong) > 5 else ''}: "
            "an id is text or a whole number; decimal numbers beyond 2^53 have lost digits (read the column as text)."
        )
    return found


def as_id(value):
    """Return an id as text, or None when it names nobody.

    Parameters
    ----------
    value : object
        A cell.

    Returns
    -------
    str or None
        The id.

    Examples
    --------
    >>> as_id(7.0), as_id("  "), as_id(float("nan"))
    ('7', None, None)
    """
    if isinstance(value, str):
        return value if value.strip() else None
    if value is None or value is pd.NA or value is pd.NaT or isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Number):
        exact = 2**24 if isinstance(value, np.float32) else 2**53 if isinstance(value, float) else math.inf
        return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < exact else None
    return str(value)
