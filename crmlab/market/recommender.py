"""Which items to offer to each customer: what others bought too, factors of the whole table, or what sells best."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from crmlab.data.errors import DataError
from crmlab.market.baskets import aligned, by_frequency, incidence, read, split, whole_numbers
from crmlab.market.gains import gained

METHODS = ("co-occurrence", "factors", "popularity")
CHUNK = 1000
"""Customers who are scored at a time, so that memory does not grow with their number."""


class Recommendations(NamedTuple):
    """Items for customers, and how often they were bought later.

    Attributes
    ----------
    scores : pandas.DataFrame or None
        By `method` and `customers` ("all", "known", "cold": those who first bought in the later period, who get what
        sells best): their number `of`, `hits` (bought at least one of their items later), `hit_rate` with Wilson's
        interval `low`, `high`, `precision` (share of all items offered that were bought), and `gain`, the hit rate
        above that of popularity for the same customers, with its interval `gain_low`, `gain_high`. None without a later
        period.
    coverage : pandas.Series
        By method: share of the items on sale that are offered to anybody.
    lists : pandas.DataFrame
        `customer_id`, `method`, `rank` and `item`, for each customer of the first period.
    facts : pandas.Series
        Customers of the first period, items known and on sale (`candidates`), later customers and how many were cold.
    """

    scores: pd.DataFrame
    coverage: pd.Series
    lists: pd.DataFrame
    facts: pd.Series


def recommend(log, train_end=None, k=10, item="product_id", methods=METHODS, top_items=5000, factors=64, seed=0):
    r"""Offer to each customer the items that suit what the customer bought, and see what of it was bought later.

    Only items that a customer has not bought yet are offered. With :math:`x_{ci} = 1` where customer :math:`c` bought
    item :math:`i` in the first period, customers rate an item by

    * co-occurrence: :math:`\sum_j x_{cj} n_{ij} / \sqrt{n_i n_j}` over the other items, with :math:`n_{ij}` customers
      of both: the cosine of the items;
    * factors: :math:`(X V V')_{ci}` with the first singular vectors :math:`V` of :math:`X`;
    * popularity: :math:`n_i`, the same for everybody.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    train_end : str or date, optional
        Last day of the first period; the offers are scored on all later days. Without it all days are used, and nothing
        can be scored.
    k : int
        Items for each customer.
    item : str
        Column with what is bought: products, or categories.
    methods : sequence of str
        Of ``"co-occurrence"``, ``"factors"``, ``"popularity"``.
    top_items : int
        Only the most frequent items are offered and looked at, which bounds time and memory.
    factors : int
        Number of singular vectors.
    seed : int
        Of the randomized decomposition.

    Returns
    -------
    Recommendations
        `scores`, `coverage`, `lists` and `facts`.

    Raises
    ------
    DataError
        Missing columns, no later period, an unknown method, fewer than two items.

    Notes
    -----
    A customer who buys nothing new later counts as missed, and so may one who would have bought had anybody offered.
    Item-to-item: Linden, Smith and York (2003), IEEE Internet Computing 7(1), 76-80. Factors: "PureSVD" of Cremonesi,
    Koren and Turrin (2010), Proceedings of RecSys, 39-46, by scikit-learn's TruncatedSVD; on Online Retail alternating
    least squares for implicit feedback hit no more often than its interval is wide.

    Examples
    --------
    >>> days = {"a": ["tea", "cup"], "b": ["tea", "cup"], "c": ["tea"], "d": ["pen"]}
    >>> rows = [(c, "2024-01-01", i) for c, items in days.items() for i in items] + [("c", "2024-02-01", "cup")]
    >>> log = pd.DataFrame(rows, columns=["customer_id", "date", "product_id"])
    >>> found = recommend(log, "2024-01-31", k=1, methods=["co-occurrence"])
    >>> found.lists.query("customer_id == 'c'")["item"].item(), int(found.scores.loc[("co-occurrence", "all"), "hits"])
    ('cup', 1)
    """
    methods = list(dict.fromkeys(methods))
    if not methods or set(methods) - set(METHODS):
        raise DataError(f"methods must be some of {', '.join(METHODS)}, not {methods}.")
    whole_numbers(k=(k, 1), top_items=(top_items, 1), factors=(factors, 1))
    lines = read(log, item, "customer_id", train_end is not None)
    train, later = (lines, None) if train_end is None else split(lines, train_end)
    bought, names, customers = incidence(train.table, train.keys, "item")
    # Rows of an engine have no order; what is computed of them should.
    place = customers.argsort()
    bought, customers = bought[place], customers[place]
    n = np.asarray(bought.getnnz(axis=0))
    order = by_frequency(names, n)[:top_items]
    bought, names = bought[:, order], names[order]
    if len(names) < 2:
        raise DataError("There is one item only: nothing else can be offered.")
    k = min(k, len(names))
    raters = {method: _rater(method, bought, factors, seed) for method in methods}
    # Everybody is compared with popularity, asked for or not.
    raters.setdefault("popularity", _rater("popularity", bought, factors, seed))
    chosen = {method: np.vstack([*_tops(bought, rate, k)]) for method, rate in raters.items()}
    facts = {"customers": len(customers), "items": len(n), "candidates": len(names)}
    scores = None
    if later is not None:
        scores, more = _scores(chosen, later, names, customers, methods)
        facts |= more
    offered = pd.concat([_listed(chosen[method], names, customers).assign(method=method) for method in methods])
    coverage = {method: len(np.unique(chosen[method][chosen[method] >= 0])) / len(names) for method in methods}
    return Recommendations(
        scores,
        pd.Series(coverage, name="coverage").rename_axis("method"),
        offered[["customer_id", "method", "rank", "item"]].reset_index(drop=True),
        pd.Series(facts),
    )


def _rater(method, bought, factors, seed):
    """What rates the items for some customers, given their rows."""
    n = np.asarray(bought.getnnz(axis=0), dtype=float)
    if method == "popularity":
        return lambda rows: np.tile(n, (rows.shape[0], 1))
    x = bought.astype(float)
    if method == "co-occurrence":
        scale = sparse.diags(1 / np.sqrt(np.maximum(n, 1)))
        alike = (scale @ (x.T @ x) @ scale).tocsr()
        alike.setdiag(0)
        return lambda rows: (rows @ alike).toarray()
    from sklearn.decomposition import TruncatedSVD

    size = min(factors, min(bought.shape) - 1)
    if size < 1:
        return lambda rows: np.tile(n, (rows.shape[0], 1))
    v = TruncatedSVD(size, random_state=seed).fit(x).components_
    return lambda rows: (rows @ v.T) @ v


def _tops(bought, rate, k):
    """Places of the best new items of each customer, -1 where there are not so many; equals by what sells better."""
    places = np.arange(bought.shape[1])
    for start in range(0, bought.shape[0], CHUNK):
        rows = bought[start : start + CHUNK]
        rating = np.array(rate(rows.astype(float)))
        rating[rows.toarray() > 0] = -np.inf
        # Items are in the order of their sales, which settles ties.
        rating -= 1e-12 * np.abs(rating, where=np.isfinite(rating), out=np.zeros_like(rating)).max() * places
        best = np.argpartition(-rating, k - 1, axis=1)[:, :k]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(rating, best, axis=1), axis=1), axis=1)
        yield np.where(np.isneginf(np.take_along_axis(rating, best, axis=1)), -1, best)


def _listed(chosen, names, customers):
    row, rank = np.nonzero(chosen >= 0)
    return pd.DataFrame({"customer_id": customers[row], "rank": rank + 1, "item": names[chosen[row, rank]]})


def _scores(chosen, later, names, customers, methods):
    bought, items, buyers = incidence(later.table, later.keys, "item")
    bought = aligned(bought, items, names)
    at = customers.get_indexer(buyers)
    cold = at < 0
    k = chosen["popularity"].shape[1]
    hits = {}
    for method, best in chosen.items():
        # Nobody knows cold customers: they get the items that sell best.
        offer = np.where(cold[:, None], np.arange(k), best[at])
        row = np.repeat(np.arange(len(buyers)), k)
        found = np.asarray(bought[row, np.maximum(offer, 0).ravel()]).reshape(offer.shape) > 0
        hits[method] = (found & (offer >= 0)).sum(axis=1), (offer >= 0).sum(axis=1)
    rows = {}
    for method in methods:
        count, of = hits[method]
        for group, here in {"all": cold | True, "known": ~cold, "cold": cold}.items():
            number, hit, *share, gain, low, high = gained(count[here] > 0, hits["popularity"][0][here] > 0)
            offers = of[here].sum()
            precision = count[here].sum() / offers if offers else np.nan
            rows[method, group] = (number, hit, *share, precision, gain, low, high)
    columns = ["of", "hits", "hit_rate", "low", "high", "precision", "gain", "gain_low", "gain_high"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(rows, names=["method", "customers"])
    return table, {"later_customers": len(buyers), "cold": int(cold.sum())}
