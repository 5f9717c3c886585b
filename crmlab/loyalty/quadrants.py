"""Who is satisfied and yet leaves: four cells of customers, and how much their size depends on the cut-offs."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.loyalty.samples import ordered_codes, parts, table_of

SATISFACTION = ("loyal", "satisfied defectors", "captives", "at risk")
ATTITUDE = ("loyalty", "latent loyalty", "spurious loyalty", "no loyalty")
"""Names of the cells high-high, high-low, low-high, low-low."""


class Quadrants(NamedTuple):
    """Four cells of customers by two answers.

    Attributes
    ----------
    shares : pandas.DataFrame
        By group and cell at the chosen cut-offs: `customers`, `share` of all with its 95 % interval `low`, `high`;
        `within` (share of those on the same side of the first answer: of the satisfied, how many defect?) with
        `within_low`, `within_high`.
    grid : pandas.DataFrame
        The same for all pairs of cut-offs that leave customers on both sides.
    extent : pandas.DataFrame
        By group and cell: `share` at the chosen cut-offs and its `smallest` and `largest` value over the grid, and the
        same of `within`.
    excluded : pandas.Series
        By group, customers without an answer to one of the two.
    """

    shares: pd.DataFrame
    grid: pd.DataFrame
    extent: pd.DataFrame
    excluded: pd.Series


def cells(data, satisfaction, loyalty, cut, by=None, levels=None):
    """Sort customers into loyal, satisfied defectors, captives and at risk; at the chosen cut-offs and at all others.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a customer.
    satisfaction, loyalty : str
        Columns with the two answers: numbers, or words in an ordered column.
    cut : float, str or tuple of two
        Lowest answer that counts as satisfied and as loyal; two where the answers differ in scale.
    by : str, optional
        Column that makes groups.
    levels : dict, optional
        Column to its answers from lowest to highest, for words without order.

    Returns
    -------
    Quadrants
        Its `shares`, `grid`, `extent`, `excluded`.

    Raises
    ------
    DataError
        Columns that are lacking or have no order, or a cut-off that leaves one side empty.

    Notes
    -----
    How large a cell is follows from the cut-offs as much as from the customers, so no table of four stands alone: read
    `extent` beside it. What customers say that they will do is not what they do.

    Examples
    --------
    >>> toy = pd.DataFrame({"satisfied": [9, 9, 8, 4, 3], "again": [9, 3, 9, 8, 2]})
    >>> cells(toy, "satisfied", "again", 7).shares.loc["all", "customers"].to_dict()
    {'loyal': 2, 'satisfied defectors': 1, 'captives': 1, 'at risk': 1}
    """
    return _quadrants(data, satisfaction, loyalty, cut, by, levels, SATISFACTION)


def dick_basu(data, attitude, behaviour, cut, by=None, levels=None):
    """Sort customers by attitude and behaviour: loyalty, latent loyalty, spurious loyalty, no loyalty.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a customer.
    attitude, behaviour : str
        Columns with what customers think and with what they do (for example how often they come).
    cut : float, str or tuple of two
        Lowest answer that counts as a favourable attitude and as frequent behaviour.
    by : str, optional
        Column that makes groups.
    levels : dict, optional
        Column to its answers from lowest to highest, for words without order.

    Returns
    -------
    Quadrants
        Its `shares`, `grid`, `extent`, `excluded`.

    Raises
    ------
    DataError
        Columns that are lacking or have no order, or a cut-off that leaves one side empty.

    Notes
    -----
    Dick and Basu (1994), Journal of the Academy of Marketing Science 22(2), 99-113: favourable and frequent is loyalty,
    favourable and rare latent loyalty, unfavourable and frequent spurious loyalty. They mean attitude relative to
    the alternatives; an answer on one brand alone is less.

    Examples
    --------
    >>> toy = pd.DataFrame({"like": [5, 4, -3, -4], "visits": ["weekly", "never", "weekly", "never"]})
    >>> found = dick_basu(toy, "like", "visits", (1, "weekly"), levels={"visits": ["never", "weekly"]})
    >>> found.shares.loc["all", "customers"].to_dict()
    {'loyalty': 1, 'latent loyalty': 1, 'spurious loyalty': 1, 'no loyalty': 1}
    """
    return _quadrants(data, attitude, behaviour, cut, by, levels, ATTITUDE)


def _quadrants(data, first, second, cut, by, levels, names):
    if first == second:
        raise DataError(f"The two answers are the same column, {first!r}.")
    frame = table_of(data, [first, second])
    levels = levels or {}
    (one, lowest), (two, lower) = (ordered_codes(frame[c], levels.get(c)) for c in (first, second))
    cut = cut if isinstance(cut, tuple | list) else (cut, cut)
    if len(cut) != 2:
        raise DataError(f"cut must be one cut-off or two, for {first!r} and {second!r}, not {cut!r}.")
    chosen = (_position(first, cut[0], lowest), _position(second, cut[1], lower))
    given = ~(np.isnan(one) | np.isnan(two))
    shares, grid, excluded = {}, {}, {}
    for group, rows in parts(data, by).items():
        used = rows[given[rows]]
        excluded[group] = len(rows) - len(used)
        counts = np.zeros((len(lowest), len(lower)))
        np.add.at(counts, (one[used].astype(int), two[used].astype(int)), 1)
        # Customers at or above each answer on both, on the first, on the second, and all.
        above = counts[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
        high, often, total = above[:, 0], above[0], above[0, 0]
        i, j = np.nonzero(np.outer((high > 0) & (high < total), (often > 0) & (often < total)))
        at = np.flatnonzero((i == chosen[0]) & (j == chosen[1]))
        if not len(at):
            where = "" if by is None else f" of group {group!r}"
            raise DataError(
                f"At {first} ≥ {cut[0]} and {second} ≥ {cut[1]} all of the {len(used):,} customers{where} who answered "
                "both are on one side: choose other cut-offs."
            )
        table = _table(above[i, j], high[i], often[j], total, names)
        cuts = {first: [lowest[k] for k in np.repeat(i, 4)], second: [lower[k] for k in np.repeat(j, 4)]}
        grid[group] = table.set_index(pd.MultiIndex.from_frame(pd.DataFrame(cuts | {"cell": table.pop("cell")})))
        shares[group] = grid[group].iloc[4 * at[0] : 4 * at[0] + 4].droplevel([0, 1])
    grid, shares = pd.concat(grid, names=["group"]), pd.concat(shares, names=["group"])
    over = grid.groupby(["group", "cell"], sort=False)
    extent = pd.DataFrame(
        {
            "share": shares["share"],
            "smallest": over["share"].min(),
            "largest": over["share"].max(),
            "within": shares["within"],
            "within_smallest": over["within"].min(),
            "within_largest": over["within"].max(),
        }
    ).reindex(shares.index)
    return Quadrants(shares, grid, extent, pd.Series(excluded, name="excluded").rename_axis("group"))


def _position(name, cut, levels):
    """Where the cut-off stands among the answers; a number may lie between two."""
    if cut in levels:
        position = levels.index(cut)
    elif isinstance(cut, int | float) and all(isinstance(v, int | float) for v in levels):
        position = int(np.searchsorted(levels, cut))
    else:
        raise DataError(f"The cut-off {cut!r} is no answer of {name!r}; those are {', '.join(map(str, levels))}.")
    if not 0 < position < len(levels):
        raise DataError(
            f"The cut-off {cut!r} leaves nobody on one side of {name!r}, whose answers run from {levels[0]} to "
            f"{levels[-1]}."
        )
    return position


def _table(both, high, often, total, names):
    """Four rows for each pair of cut-offs."""
    k = np.column_stack([both, high - both, often - both, total - high - often + both]).ravel()
    side = np.column_stack([high, high, total - high, total - high]).ravel()
    share, low, high_end = wilson(k, total)
    within, within_low, within_high = wilson(k, side)
    table = {
        "cell": np.tile(names, len(both)),
        "customers": k.astype(int),
        "share": share,
        "low": low,
        "high": high_end,
    }
    return pd.DataFrame(table | {"within": within, "within_low": within_low, "within_high": within_high})
