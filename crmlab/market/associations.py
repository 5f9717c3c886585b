"""What goes with what: association rules, found in one period and scored on a later one."""

import math
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import hypergeom

from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.lifts import lift
from crmlab.market.baskets import count, least, read, share, split, whole_numbers


class Rules(NamedTuple):
    """Association rules and what they were chosen from.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a rule, those whose lift is surely highest (by its lower limit) first; see `rules`.
    facts : pandas.Series
        What was counted: baskets, baskets set aside, lines without an item, items, the rules that could have been
        found (`tests`), those found and those `significant` after correction; with a later period how many of the
        rules are `still_sold`, `held` (later lift surely above 1) and `beat_bestseller`, and the median lifts.
    """

    table: pd.DataFrame
    facts: pd.Series


def rules(
    log,
    train_end=None,
    support=0.001,
    confidence=0.1,
    item="product_id",
    basket=None,
    max_len=2,
    top_items=None,
    max_basket=2000,
):
    r"""Find which items are bought together, and whether that holds in a later period.

    Among :math:`N` baskets, :math:`n_A` with the antecedent, :math:`n_c` with the consequent and :math:`n_{Ac}` with
    both, support is :math:`n_{Ac}/N`, confidence :math:`n_{Ac}/n_A` and lift
    :math:`(n_{Ac}/n_A)/(n_c/N)`. Thresholds are compared as whole numbers, so that a rule at a threshold counts.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts; without `train_end` also a table of baskets that has
        no customers and no dates. Returned goods should have been left out.
    train_end : str or date, optional
        Last day of the period that the rules come from; they are scored on all later days.
    support, confidence : float
        Least shares, compared exactly as written.
    item : str
        Column with what is bought: products, or categories.
    basket : str, optional
        Column that names the basket, by default `order_id`, or the day of a customer where there is none;
        ``"customer_id"`` takes all that a customer bought in the period for one basket.
    max_len : int or None
        Most items in a rule. More than two are found by mlxtend's FP-growth, in memory.
    top_items : int, optional
        Only so many items, the most frequent ones.
    max_basket : int or None
        Baskets with more different items are set aside: one of n items has n²/2 pairs.

    Returns
    -------
    Rules
        `table` has `antecedent` (a tuple where `max_len` is above 2) and `consequent`; `count`, `of` (baskets with both
        and with the antecedent), `support`, `confidence` with Wilson's interval `low`, `high`, `lift` with
        `lift_low`, `lift_high`, `p_value` (Fisher's exact test, one-sided) and `p_adjusted` (times the number of rules
        that could have been found). With a later period `later_count`, `later_of`, `later_confidence` with
        `later_low`, `later_high`, `later_lift` with its limits; `later_popularity` (share of all later baskets with the
        consequent, what offering it to everybody hits), `later_bestseller` (share of the later baskets with the
        antecedent that have the best-selling other item of the first period, what offering that hits) and
        `still_sold` (all items of the rule occur in the later period). All intervals are of 95 %.

    Raises
    ------
    DataError
        Missing columns, thresholds that are no shares, no later period, lines without a basket.

    Notes
    -----
    Rules are the winners among very many, which flatters them. The correction is Bonferroni's over the whole search,
    the "direct adjustment" of Webb (2007), Machine Learning 68(1), 1-33: all pairs of frequent items, or all
    antecedents and consequents of up to `max_len` frequent items. It takes baskets as independent, which those of one
    customer are not: the later period is the better judge. Support, confidence and lift are those of Agrawal,
    Imieliński and Swami (1993), SIGMOD Record 22(2), 207-216, and Brin et al. (1997), SIGMOD Record 26(2), 255-264.

    Examples
    --------
    >>> lines = [(1, "bread"), (1, "butter"), (2, "bread"), (2, "butter"), (3, "bread"), (4, "tea")]
    >>> found = rules(pd.DataFrame(lines, columns=["order_id", "product_id"]), confidence=0.5)
    >>> found.table[["antecedent", "consequent", "confidence", "lift"]].round(3).values.tolist()
    [['bread', 'butter', 0.667, 1.333], ['butter', 'bread', 1.0, 1.333]]
    """
    support, confidence = share("support", support), share("confidence", confidence)
    bounds = {"max_len": (max_len, 2), "top_items": (top_items, 1), "max_basket": (max_basket, 1)}
    whole_numbers(**{name: bound for name, bound in bounds.items() if bound[0] is not None})
    lines = read(log, item, basket, train_end is not None)
    train, later = (lines, None) if train_end is None else split(lines, train_end)
    counts = count(train, support, top_items, max_basket)
    if max_len is None or max_len > 2:
        found, tests = _long(counts, support, max_len or len(counts.items))
    else:
        found, tests = _short(counts)
    # Whole numbers: a confidence of four fifths is 4 of 5, which floating point may miss.
    enough = {of: math.ceil(confidence * int(of)) for of in found["of"].unique()}
    found = found[found["count"] >= found["of"].map(enough)]
    sizes = counts.items.to_numpy()
    table = _measures(found, sizes[found["consequent"].to_numpy(int)], counts.baskets)
    one = found.drop_duplicates("itemset") if max_len == 2 else found
    p = hypergeom.sf(one["count"] - 1, counts.baskets, one["of"], sizes[one["consequent"].to_numpy(int)])
    table["p_value"] = found["itemset"].map(dict(zip(one["itemset"], p, strict=True))) if max_len == 2 else p
    table["p_adjusted"] = (table["p_value"] * tests).clip(upper=1.0)
    facts = {
        "baskets": counts.baskets,
        "set_aside": counts.set_aside,
        "lines_without_item": lines.nameless,
        "items": counts.known,
        "frequent_items": len(sizes),
        "tests": tests,
        "rules": len(table),
        "significant": int((table["p_adjusted"] < 0.05).sum()),
        "median_lift": table["lift"].median(),
    }
    if later is not None:
        after, more = _later(found, counts, later, max_basket)
        table, facts = table.join(after), facts | more
    names = counts.items.index.to_numpy(dtype=object)
    sides = found["antecedent"].map(lambda a: tuple(names[list(a)])) if max_len != 2 else names[found["first"]]
    table.insert(0, "antecedent", pd.Series(sides, index=table.index, dtype=object))
    table.insert(1, "consequent", pd.Series(names[found["consequent"].to_numpy(int)], index=table.index, dtype=object))
    if max_len == 2:
        table = table.astype({"antecedent": counts.items.index.dtype, "consequent": counts.items.index.dtype})
    table = table.sort_values(["lift_low", "count"], ascending=False, kind="stable", ignore_index=True)
    return Rules(table, pd.Series(facts))


def _short(counts):
    """Both rules of each pair, in places of items, and how many pairs there could be."""
    pairs, sizes = counts.pairs, counts.items.to_numpy()
    both = pd.concat([pairs, pairs.rename(columns={"first": "second", "second": "first"})])
    found = both.rename(columns={"second": "consequent"}).reset_index(names="itemset")
    return found.assign(of=sizes[found["first"].to_numpy(int)]), math.comb(len(sizes), 2)


def _long(counts, support, max_len):
    """All rules of up to so many items with one consequent, and how many there could be."""
    # Importing it changes how the whole program shows warnings.
    with warnings.catch_warnings():
        from mlxtend.frequent_patterns import fpgrowth

    if counts.matrix is None:
        raise DataError(
            "The log is too long for rules of more than two items: set max_len=2, or take a shorter period."
        )
    n, k = counts.baskets, len(counts.items)
    tests = k * sum(math.comb(k - 1, size) for size in range(1, min(max_len, k)))
    frame = pd.DataFrame.sparse.from_spmatrix(counts.matrix.astype(bool))
    # Half a basket below the threshold: floating point must not lose the sets that are at it.
    sets = fpgrowth(frame, min_support=(least(support, n) - 0.5) / n, max_len=max_len) if k and n else None
    rows, known = [], {}
    if sets is not None and len(sets):
        times = np.rint(sets["support"].to_numpy() * n).astype(int)
        known = {frozenset(map(int, s)): int(t) for s, t in zip(sets["itemsets"], times, strict=True)}
    for itemset, both in known.items():
        if len(itemset) > 1:
            members = tuple(sorted(itemset))
            for c in members:
                antecedent = tuple(m for m in members if m != c)
                rows.append((members, antecedent, c, both, known[frozenset(antecedent)]))
    columns = ["itemset", "antecedent", "consequent", "count", "of"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], int)), tests


def _measures(found, consequents, baskets):
    """Support, confidence and lift with their intervals."""
    both, of = found["count"].to_numpy(int), found["of"].to_numpy(int)
    confidence, low, high = wilson(both, of)
    times, lift_low, lift_high = lift(both, of, consequents, baskets)
    return pd.DataFrame(
        {
            "count": both,
            "of": of,
            "support": both / baskets if baskets else np.nan,
            "confidence": confidence,
            "low": low,
            "high": high,
            "lift": times,
            "lift_low": lift_low,
            "lift_high": lift_high,
        },
        index=found.index,
    )


def _later(found, counts, later, max_basket):
    """What the rules did in the later period, beside popularity and the bestseller."""
    long = "antecedent" in found
    sides = found["antecedent"] if long else found["first"].map(lambda a: (a,))
    # The two most frequent items: the second is offered where the first is in the antecedent.
    best = [next((b for b in range(len(a) + 1) if b not in a and b < len(counts.items)), -1) for a in sides]
    wanted = sorted({i for a in sides for i in a} | set(found["consequent"]) | ({b for b in best if b >= 0}))
    after = count(later, max_basket=max_basket, only=counts.items.index[wanted])
    if long and after.matrix is None:
        raise DataError("The later period is too long for rules of more than two items: set max_len=2.")
    place = np.full(len(counts.items) + 1, -1)
    place[wanted] = np.arange(len(wanted))
    sizes = after.items.to_numpy()
    if long:
        rows = {}

        def baskets_of(members):
            """Baskets with all these items."""
            if members not in rows:
                matrix, at = after.matrix, place[members[-1]]
                own = matrix.indices[matrix.indptr[at] : matrix.indptr[at + 1]]
                rows[members] = own if len(members) == 1 else np.intersect1d(baskets_of(members[:-1]), own, True)
            return rows[members]

        def times(a, c):
            return len(baskets_of(tuple(sorted({*a, c}))))

        both = np.array([times(a, c) for a, c in zip(sides, found["consequent"], strict=True)], dtype=int)
        of = np.array([len(baskets_of(a)) for a in sides], dtype=int)
        offered = np.array([times(a, b) if b >= 0 else 0 for a, b in zip(sides, best, strict=True)], dtype=int)
    else:
        pairs = after.pairs
        known = pd.Series(pairs["count"].to_numpy(), pairs["first"] * len(wanted) + pairs["second"])

        def together(a, b):
            a, b = np.minimum(a, b), np.maximum(a, b)
            return known.reindex(a * len(wanted) + b, fill_value=0).to_numpy()

        first, second = place[found["first"].to_numpy(int)], place[found["consequent"].to_numpy(int)]
        both, of = together(first, second), sizes[first] if len(first) else first
        offered = together(first, place[np.array(best, dtype=int)])
    consequents = sizes[place[found["consequent"].to_numpy(int)]] if len(found) else np.array([], dtype=int)
    table = _measures(found.assign(count=both, of=of), consequents, after.baskets).drop(columns="support")
    table.columns = [f"later_{name}" for name in table]
    table["later_popularity"] = consequents / after.baskets
    table["later_bestseller"] = wilson(offered, of)[0]
    sold = [all(sizes[place[i]] > 0 for i in (*a, c)) for a, c in zip(sides, found["consequent"], strict=True)]
    table["still_sold"] = np.array(sold, dtype=bool)
    facts = {
        "later_baskets": after.baskets,
        "later_set_aside": after.set_aside,
        "still_sold": int(table["still_sold"].sum()),
        "held": int((table["later_lift_low"] > 1).sum()),
        "beat_bestseller": int((table["later_confidence"] > table["later_bestseller"]).sum()),
        "median_later_lift": table["later_lift"].median(),
    }
    return table, facts
