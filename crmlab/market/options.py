"""Configure to order: which options customers ask for so often that they belong into the standard model."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z, wilson
from crmlab.market.baskets import incidence, read


class Standard(NamedTuple):
    """Which options to standardise, and what it saves.

    Attributes
    ----------
    table : pandas.DataFrame
        By `option`, the most frequent first: `orders` that ask for it, their `share` with Wilson's interval `low`,
        `high`, whether it is `locked`, whether it should be `standard`, and whether that is `sure` (the whole interval
        lies on one side of the threshold).
    facts : pandas.Series
        `orders`, the `threshold` of the share, and the mean number of changes an order needs from a model without any
        option (`bare`) and from the standard model (`changes`); the mean cost an order that the standard model saves
        (`saved`, in the unit of `extra` and `waste`) with its 95 % interval `saved_low`, `saved_high`; the share of
        orders that take the standard model as it is (`as_it_is`).
    """

    table: pd.DataFrame
    facts: pd.Series


def standard_options(log, extra=1.0, waste=1.0, locked=(), item="product_id", basket=None):
    r"""Say which options of a product made to order should be standard.

    An option that is not standard costs `extra` in each order that asks for it; one that is costs `waste` in each order
    that does not. With :math:`p` the share of orders that ask, it should be standard where
    :math:`p > \text{waste} / (\text{waste} + \text{extra})`. Costs add up, so that options are judged one by one; which
    of them go together, `rules` says.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        One row an order and option that it asks for, as `rules` takes it; an order without options has one row without.
    extra, waste : float
        Cost of adding an option on request, and of building in one that nobody asked for.
    locked : sequence
        Options that may not be given unasked, such as medicines on prescription: never standard.
    item : str
        Column with the option.
    basket : str, optional
        Column that names the order, `order_id` by default.

    Returns
    -------
    Standard
        `table` and `facts`.

    Raises
    ------
    DataError
        Missing columns, costs that are not positive, or locked options that nobody asks for.

    Examples
    --------
    >>> asked = [(1, "radio"), (1, "hook"), (2, "radio"), (3, "radio"), (4, None)]
    >>> found = standard_options(pd.DataFrame(asked, columns=["order_id", "product_id"]))
    >>> found.table["standard"].to_dict(), float(found.facts["changes"])
    ({'radio': True, 'hook': False}, 0.5)
    """
    if not (0 < extra < np.inf and 0 < waste < np.inf):
        raise DataError(f"extra and waste are costs above 0, not {extra!r} and {waste!r}.")
    lines = read(log, item, basket, dated=False)
    asked, names, _orders = incidence(lines.table, lines.keys, "item")
    if unknown := [option for option in locked if option not in names]:
        raise DataError(f"No order asks for {', '.join(map(repr, unknown))}: check how locked options are written.")
    orders, n = asked.shape[0], np.asarray(asked.getnnz(axis=0))
    share, low, high = wilson(n, orders)
    threshold = waste / (waste + extra)
    closed = names.isin(list(locked))
    standard = (share > threshold) & ~closed
    sure = (low > threshold) | (high < threshold) | closed
    table = pd.DataFrame(
        {"orders": n, "share": share, "low": low, "high": high, "locked": closed, "standard": standard, "sure": sure},
        index=names.rename("option"),
    ).sort_values("orders", ascending=False, kind="stable")
    bare = np.asarray(asked.getnnz(axis=1))
    right = asked @ standard.astype(int)
    unwanted = standard.sum() - right
    changes = bare - right + unwanted
    saved = extra * right - waste * unwanted
    half = Z * saved.std() / np.sqrt(orders)
    facts = {"orders": orders, "threshold": threshold, "bare": bare.mean(), "changes": changes.mean()}
    facts |= {"saved": saved.mean(), "saved_low": saved.mean() - half, "saved_high": saved.mean() + half}
    return Standard(table, pd.Series(facts | {"as_it_is": (changes == 0).mean()}))
