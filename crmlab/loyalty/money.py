"""From loyalty to money: what customers who stay with some probability are worth, in closed form."""

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError


def cell_values(retention, margin, discount, cost_to_serve=0.0, reference=None, customers=None):
    r"""Value customers of several cells by their retention, and the difference to a reference cell.

    With margin :math:`m` less cost to serve :math:`c` at the start of every period, retention :math:`r` and a discount
    rate :math:`d` a period, a customer is worth

    .. math:: V(r) = (m - c) \sum_{t \ge 0} \left(\frac{r}{1 + d}\right)^t = (m - c) \frac{1 + d}{1 + d - r}.

    Parameters
    ----------
    retention : pandas.DataFrame
        By cell: `retention` a period and its interval `low`, `high`.
    margin : float or pandas.Series
        Margin a period before the cost to serve; by cell where it differs.
    discount : float
        Discount rate a period.
    cost_to_serve : float or pandas.Series
        Cost a period; by cell where it differs.
    reference : str, optional
        Cell that the others are compared with; the first by default.
    customers : pandas.Series, optional
        Customers by cell, for the total.

    Returns
    -------
    pandas.DataFrame
        By cell: `retention`, `net_margin`, `value` of a customer and its interval `low`, `high`; `difference` to the
        reference and its interval `difference_low`, `difference_high` (missing for the reference itself);
        `unprofitable` where a customer costs more than it brings, so that loyalty makes the loss larger; `total` with
        customers.

    Raises
    ------
    DataError
        Retention that is no share, an interval that does not contain it, a discount rate of 0 or less.

    Notes
    -----
    The interval is that of retention only: margin, cost and discount are taken as known and constant. The interval of
    the difference joins those of two independent cells (Zou and Donner 2008, Statistics in Medicine 27, 1693-1702). A
    stated intention to buy again is no retention; what share of it comes true has to be known or assumed. Cells differ
    in more than loyalty, so the difference is not what it would bring to move a customer from one to the other.

    Examples
    --------
    >>> found = pd.DataFrame({"retention": [0.8, 0.85], "low": [0.75, 0.8], "high": [0.85, 0.9]}, ["at risk", "loyal"])
    >>> cell_values(found, margin=100, discount=0.10).loc["loyal", ["value", "difference"]].round(1).tolist()
    [440.0, 73.3]
    """
    if not isinstance(retention, pd.DataFrame) or not {"retention", "low", "high"} <= set(retention.columns):
        raise DataError("retention must be a table with the columns retention, low and high, one row a cell.")
    if not len(retention) or retention.index.has_duplicates:
        raise DataError("retention must have one row for each cell.")
    if not discount > 0:
        raise DataError(f"The discount rate a period must be above 0, for example 0.10, not {discount!r}.")
    shares = retention[["retention", "low", "high"]].astype(float)
    inside = (shares["low"] <= shares["retention"]) & (shares["retention"] <= shares["high"])
    for cell, ok in (inside & (shares["low"] >= 0) & (shares["high"] <= 1)).items():
        if not ok:
            r, low, high = shares.loc[cell]
            raise DataError(
                f"The retention of {cell!r} must be a share between 0 and 1 inside its interval, not {r:g} ({low:g} to "
                f"{high:g}); 85 % is 0.85."
            )
    net = _by_cell(margin, shares.index, "margin") - _by_cell(cost_to_serve, shares.index, "cost_to_serve")
    values = shares.rsub(1 + discount).rdiv(1 + discount).mul(net, axis=0)
    table = pd.DataFrame({"retention": shares["retention"], "net_margin": net, "value": values["retention"]})
    # Where a customer brings a loss, more retention is less value.
    table["low"], table["high"] = values[["low", "high"]].min(axis=1), values[["low", "high"]].max(axis=1)
    reference = table.index[0] if reference is None else reference
    if reference not in table.index:
        raise DataError(f"There is no cell {reference!r}; there are {', '.join(map(str, table.index))}.")
    base = table.loc[reference]
    table["difference"] = table["value"] - base["value"]
    below = np.hypot(table["value"] - table["low"], base["high"] - base["value"])
    above = np.hypot(table["high"] - table["value"], base["value"] - base["low"])
    table["difference_low"], table["difference_high"] = table["difference"] - below, table["difference"] + above
    table.loc[reference, ["difference", "difference_low", "difference_high"]] = np.nan
    table["unprofitable"] = net < 0
    if customers is not None:
        table["total"] = table["value"] * _by_cell(customers, table.index, "customers")
    return table


def _by_cell(values, cells, name):
    if not isinstance(values, pd.Series):
        values = pd.Series(float(values), index=cells)
    found = values.reindex(cells).astype(float)
    if found.isna().any():
        raise DataError(f"{name} has no value for the cell {found.index[found.isna()][0]!r}.")
    return found
