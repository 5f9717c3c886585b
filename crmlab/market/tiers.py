"""From an item to the class of its buyers, and from the class to other items: the chain laptop, high end, camera."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from ibis import _
from scipy import sparse

from crmlab.data import load
from crmlab.data.errors import DataError
from crmlab.lifecycle.lifts import lift
from crmlab.lifecycle.logs import checked, day_of
from crmlab.market.baskets import incidence, whole_numbers
from crmlab.market.gains import gained


class TwoStep(NamedTuple):
    """Rules by price tier, and what two steps find beside one.

    Attributes
    ----------
    tiers : pandas.DataFrame
        By `tier` (1 the cheapest): `customers`, and the prices of what they buy, measured by the usual price: lowest,
        `median` and highest customer.
    table : pandas.DataFrame
        The items that are typical of each tier, by lift: `tier`, `rank`, `item`, `count` and `of` (customers of the
        tier who bought it, and all), `lift` over all customers with its 95 % interval `low`, `high`; of the later
        period `later_count`, `later_of` and `later_lift` with `later_low`, `later_high`.
    scores : pandas.DataFrame
        By `method`: customers who bought later (`of`), `hits` (who bought one of their items), `hit_rate` with Wilson's
        interval `low`, `high`, `precision`, and `gain`, the hit rate above that of popularity, with its interval.
    facts : pandas.Series
        Customers, customers without a price, later customers and those among them who are unknown and left out.
    """

    tiers: pd.DataFrame
    table: pd.DataFrame
    scores: pd.DataFrame
    facts: pd.Series


def two_step_rules(log, train_end, item="product_id", category=None, tiers=3, k=5, top_items=5000, smallest=20):
    r"""Offer in two steps, item to price tier of the customer to other items of the tier, and compare with one step.

    An item's price is the mean of amount over quantity, divided by the median of the items of its category. A
    customer's price is the mean of the items that the customer bought; its thirds (or as many tiers as wanted) are the
    tiers. In the later period each known customer who buys again is offered `k` items not bought before, in four ways:

    * two steps: the items that most customers of the tier bought;
    * two steps by lift: those that the tier buys most above average, among the items that at least `smallest` of its
      customers bought: what is typical of a class, which need not be what it buys often;
    * direct: the items that buyers of the customer's dearest item bought most often too (confidence);
    * popularity: the items that most customers bought.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `amount` and `quantity`, or anything `crmlab.data.load` accepts.
    train_end : str or date
        Last day of the period that tiers and rules come from.
    item : str
        Column with what is offered.
    category : str, optional
        Column within whose values prices are compared; without it dear goods make dear customers.
    tiers : int
        Number of tiers.
    k : int
        Items offered to a customer.
    top_items : int
        Only the most frequent items are offered.
    smallest : int
        Fewer customers of a tier make no rule.

    Returns
    -------
    TwoStep
        `tiers`, `table`, `scores` and `facts`.

    Raises
    ------
    DataError
        Missing columns, no later period, too few customers for the tiers.

    Notes
    -----
    Lines without a positive amount and quantity set no price but count as bought. A customer who buys nothing new later
    counts as missed by all of them.

    Examples
    --------
    >>> prices = {"laptop": 9, "pen": 1, "camera": 9, "paper": 1}
    >>> bought = dict(a="laptop camera", b="laptop camera", c="pen paper", d="pen paper", e="laptop", f="pen")
    >>> rows = [(c, "2024-01-01", i) for c, items in bought.items() for i in items.split()]
    >>> log = pd.DataFrame([*rows, ("e", "2024-02-01", "camera")], columns=["customer_id", "date", "product_id"])
    >>> log = log.assign(amount=log["product_id"].map(prices).astype(float), quantity=1)
    >>> two_step_rules(log, "2024-01-31", tiers=2, k=1, smallest=1).scores["hits"].to_dict()
    {'two steps': 1, 'two steps by lift': 1, 'direct': 1, 'popularity': 0}
    """
    whole_numbers(tiers=(tiers, 2), k=(k, 1), top_items=(top_items, 2), smallest=(smallest, 1))
    needs = list(dict.fromkeys([item, "amount", "quantity", *([category] if category else [])]))
    lines, first, last = checked(load(log), needs)
    end = day_of("train_end", train_end)
    if not first <= end < last:
        raise DataError(f"There is no later period: train_end is {end}, and the log lasts from {first} to {last}.")
    group = {"group": _[category]} if category else {}
    lines = lines.select("customer_id", "day", "amount", "quantity", item=_[item], **group).filter(_.item.notnull())
    train, later = lines.filter(_.day <= end), lines.filter(_.day > end)
    bought, names, customers = incidence(train, ["customer_id"], "item")
    price = _prices(train, category).reindex(names)
    priced = price.notna().to_numpy()
    weight = bought @ priced.astype(float)
    known = weight > 0
    if known.sum() < 2 * tiers:
        raise DataError(f"{known.sum()} customers bought at a price: too few for {tiers} tiers.")
    level = np.divide(bought @ price.fillna(0.0).to_numpy(), weight, out=np.full(len(weight), np.nan), where=known)
    place = pd.Series(level[known]).rank(method="average", pct=True)
    tier = np.zeros(len(level), dtype=int)
    tier[known] = np.minimum(np.ceil(place * tiers).astype(int), tiers)
    n = np.asarray(bought.getnnz(axis=0))
    best = np.lexsort((np.argsort(np.argsort(names.astype(str))), -n))[:top_items]
    offered, names, price = bought[:, best], names[best], price.iloc[best]
    after, items, buyers = incidence(later, ["customer_id"], "item")
    at = items.get_indexer(names)
    empty = sparse.csr_matrix((after.shape[0], 1), dtype=after.dtype)
    after = sparse.hstack([after, empty], format="csr")[:, np.where(at >= 0, at, len(items))]
    row = customers.get_indexer(buyers)
    here = (row >= 0) & (tier[row] > 0)
    own, then, of = offered[row[here]], after[here], tier[row[here]]
    sold = np.asarray(offered[known].getnnz(axis=0))
    counts, lifts = _by_tier(offered, tier, sold, tiers, smallest)
    share = np.array([part["count"] / part["of"] for part in counts])
    ways = {"two steps": share[of - 1], "two steps by lift": lifts[of - 1], "direct": _direct(offered, own, price)}
    scores = _scores(ways, np.asarray(offered.getnnz(axis=0), dtype=float), own, then, k)
    table = _listed(counts, lifts, names, then, of, k)
    summary = pd.DataFrame({"tier": tier[known], "price": level[known]}).groupby("tier")["price"]
    summary = summary.agg(customers="size", lowest="min", median="median", highest="max")
    facts = {
        "customers": len(customers),
        "without_price": int((~known).sum()),
        "later_customers": len(buyers),
        "later_unknown": int((~here).sum()),
    }
    return TwoStep(summary, table, scores, pd.Series(facts))


def _prices(train, category):
    """Mean unit price of each item, measured by the median of its category."""
    sold = train.filter((_.amount > 0) & (_.quantity > 0)).mutate(price=_.amount / _.quantity)
    extra = {"group": _["group"].max()} if category else {}
    found = sold.group_by("item").aggregate(price=_.price.mean(), **extra).to_pandas().set_index("item").sort_index()
    usual = found.groupby("group")["price"].transform("median") if category else found["price"].median()
    return found["price"] / usual


def _by_tier(offered, tier, sold, tiers, smallest):
    """Counts and lifts of each item in each tier; the lifts alone, minus infinity where too few bought it."""
    ratings, rows = np.full((tiers, offered.shape[1]), -np.inf), []
    everybody = int((tier > 0).sum())
    for t in range(1, tiers + 1):
        here = tier == t
        count, of = np.asarray(offered[here].getnnz(axis=0)), int(here.sum())
        times, low, high = lift(count, of, sold, everybody)
        enough = count >= smallest
        ratings[t - 1, enough] = times[enough]
        rows.append(pd.DataFrame({"tier": t, "count": count, "of": of, "lift": times, "low": low, "high": high}))
    return rows, ratings


def _direct(offered, own, price):
    """Confidence of each item given the dearest that the customer bought."""
    worth = price.fillna(-np.inf).to_numpy()
    dearest = np.full(own.shape[0], -1)
    for i in range(own.shape[0]):
        mine = own.indices[own.indptr[i] : own.indptr[i + 1]]
        dearest[i] = mine[np.argmax(worth[mine])] if len(mine) else -1
    has = np.unique(dearest[dearest >= 0])
    columns = offered[:, has]
    together = (columns.T @ offered).toarray() / np.maximum(np.asarray(columns.getnnz(axis=0)), 1)[:, None]
    found = np.zeros(own.shape)
    found[dearest >= 0] = together[np.searchsorted(has, dearest[dearest >= 0])]
    return found


def _scores(ways, popular, own, then, k):
    had, got = own.toarray() > 0, then.toarray() > 0
    # What sells best settles ties, and fills up where a rule has nothing to offer.
    tie = popular / (popular.max() + 1)
    ratings = {way: np.where(np.isneginf(rating), tie - 2, rating + 1e-9 * tie) for way, rating in ways.items()}
    ratings["popularity"] = np.tile(popular - 1e-9 * np.arange(len(popular)), (own.shape[0], 1))
    hits = {}
    for method, rating in ratings.items():
        best = np.argsort(np.where(had, np.inf, -rating), axis=1, kind="stable")[:, :k]
        hits[method] = np.take_along_axis(got & ~had, best, axis=1)
    rows, base = {}, hits["popularity"].any(axis=1)
    for method, found in hits.items():
        of, hit, *share, gain, low, high = gained(found.any(axis=1), base)
        rows[method] = (of, hit, *share, found.mean() if of else np.nan, gain, low, high)
    columns = ["of", "hits", "hit_rate", "low", "high", "precision", "gain", "gain_low", "gain_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method")


def _listed(counts, lifts, names, then, of, k):
    """The best items of each tier and what the tier's customers did later."""
    parts = []
    everybody = np.asarray(then.getnnz(axis=0))
    for part, rating in zip(counts, lifts, strict=True):
        best = np.argsort(-rating, kind="stable")[:k]
        best = best[np.isfinite(rating[best])]
        mine = of == part["tier"].iloc[0]
        count = np.asarray(then[mine].getnnz(axis=0))[best]
        times, low, high = lift(count, int(mine.sum()), everybody[best], len(of))
        more = {"later_count": count, "later_of": int(mine.sum()), "later_lift": times}
        listed = part.iloc[best].assign(item=names[best], rank=np.arange(1, len(best) + 1), **more)
        parts.append(listed.assign(later_low=low, later_high=high))
    columns = ["tier", "rank", "item", "count", "of", "lift", "low", "high"]
    columns += ["later_count", "later_of", "later_lift", "later_low", "later_high"]
    return pd.concat(parts, ignore_index=True)[columns]
