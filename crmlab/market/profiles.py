"""From what is known of a customer to what to offer: the age of a baby, and what parents buy then."""

import itertools
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.stats import chi2_contingency

from crmlab.data import load
from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.data.sources import open_source
from crmlab.market.gains import gained

BANDS = (0, 3, 6, 12, 24, 36)
"""Months of age at which a new band begins; before birth is a band of its own."""


class ProfileRule(NamedTuple):
    """What is bought at which age, and whether a rule made of it holds later.

    Attributes
    ----------
    mix : pandas.DataFrame
        Of the first period, by `band` and `category`: orders (`count`) of all in the band (`of`), their `share` and
        Wilson's interval `low`, `high`. Cells of fewer than `smallest` orders are counted together as "other".
    table : pandas.DataFrame
        The rule and its later precision, by `band` and for "all": the category `offered` and, of the later orders
        (`of`), `hits` and `precision` with its interval `low`, `high`; `popular`, what the best-selling category hits,
        and `gain` over it with its interval `gain_low`, `gain_high`.
    facts : pandas.Series
        Orders, orders set aside (no birthday; an age below `youngest` or from `oldest` on), orders in each period, and
        statistic, degrees of freedom and p-value of the χ² test that bands buy alike (first period).
    """

    mix: pd.DataFrame
    table: pd.DataFrame
    facts: pd.Series


def profile_rule(log, birthdays, train_end, category="category", bands=BANDS, youngest=-12, oldest=84, smallest=10):
    """Learn what is bought at which age of the child, and compare offering that with offering what sells best.

    Each order counts with the child's age in months on its day. In each band of ages the category with most orders of
    the first period is offered; in the later period an order is a hit when it is of that category.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        Orders with `customer_id`, `date` and a category; amounts are not needed.
    birthdays : ibis.Table, frame, str or path
        `customer_id` and `birth_date`, one row a customer.
    train_end : str or date
        Last day of the period that the rule is learned from.
    category : str
        Column of the log with the category.
    bands : sequence of int
        Months of age at which a band begins, growing, from 0 on.
    youngest, oldest : int
        Ages in months below and from which a birthday is not believed; the orders are set aside and counted.
    smallest : int
        Fewer orders make no rule: such bands are offered what sells best.

    Returns
    -------
    ProfileRule
        `mix`, `table` and `facts`.

    Raises
    ------
    DataError
        Missing columns, customers with two birthdays, or no orders with a birthday before or after `train_end`.

    Notes
    -----
    To infer a child from purchases would be an intrusion; here parents gave the birthday, and results are of groups.
    Most customers of `infant_goods` bought once, so that nothing can be said about what a customer buys next.

    Examples
    --------
    >>> orders = pd.DataFrame({"customer_id": list("abab"), "date": ["2024-01-10"] * 2 + ["2024-03-10"] * 2})
    >>> orders["category"] = ["bottle", "shoe"] * 2
    >>> births = pd.DataFrame({"customer_id": ["a", "b"], "birth_date": ["2023-12-24", "2022-06-01"]})
    >>> found = profile_rule(orders, births, "2024-01-31", bands=[0, 12], smallest=1)
    >>> found.table.loc["all", ["precision", "popular"]].tolist()
    [1.0, 0.5]
    """
    orders, aside, n = _orders(log, birthdays, category, youngest, oldest)
    starts = np.asarray(bands)
    if not len(starts) or starts[0] < 0 or (np.diff(starts) <= 0).any():
        raise DataError(f"bands must be growing numbers of months ≥ 0, not {list(bands)}.")
    labels = ["before birth", *(f"{a} to {b} months" for a, b in itertools.pairwise(starts))]
    labels.append(f"from {starts[-1]} months")
    if starts[0] > 0:
        labels[0] = f"before {starts[0]} months"
    place = np.searchsorted(starts, orders["age"], side="right")
    orders["band"] = pd.Categorical.from_codes(place, labels, ordered=True)
    end = pd.Timestamp(day_of("train_end", train_end))
    train, later = orders[orders["day"] <= end], orders[orders["day"] > end]
    if not len(train) or not len(later):
        raise DataError(
            f"There are {len(train):,} orders up to {end.date()} and {len(later):,} later: both are needed."
        )
    counts = pd.crosstab(train["band"], train["category"], dropna=False).reindex(labels, fill_value=0)
    popular = counts.sum().idxmax()
    offered = counts.idxmax(axis=1).where(counts.max(axis=1) >= smallest, popular)
    facts = {"orders": n, **aside, "train": len(train), "later": len(later)}
    filled = counts.loc[counts.sum(axis=1) > 0, counts.sum() > 0]
    facts |= dict.fromkeys(("chi2", "dof", "p_value"), np.nan)
    if min(filled.shape) > 1:
        facts |= dict(zip(("chi2", "p_value", "dof"), chi2_contingency(filled)[:3], strict=True))
    hit = (later["category"] == later["band"].astype(str).map(offered)).to_numpy()
    base = (later["category"] == popular).to_numpy()
    rows = {}
    for label in [*labels, "all"]:
        here = (later["band"] == label).to_numpy() if label != "all" else np.ones(len(later), dtype=bool)
        of, hits, *share, gain, low, high = gained(hit[here], base[here])
        usual = base[here].mean() if of else np.nan
        choice = offered[label] if label != "all" else None
        rows[label] = (choice, of, hits, *share, usual, gain, low, high)
    columns = ["offered", "of", "hits", "precision", "low", "high", "popular", "gain", "gain_low", "gain_high"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("band")
    return ProfileRule(_mix(counts, smallest), table, pd.Series(facts))


def _orders(log, birthdays, category, youngest, oldest):
    """Orders with the child's age in months; how many were set aside and why; how many there were."""
    sources = {}
    for name, source, needs in (
        ("log", log, ["customer_id", "date", category]),
        ("table of birthdays", birthdays, ["customer_id", "birth_date"]),
    ):
        table = open_source(source).table
        table = load(source) if name == "log" and set(needs) - set(table.columns) else table
        if missing := [column for column in needs if column not in table.columns]:
            raise DataError(f"The {name} has no column {', '.join(missing)}; it has {', '.join(table.columns)}.")
        sources[name] = table.select(*needs)
    orders = sources["log"].select("customer_id", day=_.date.cast("date"), category=_[category].cast("string"))
    births = sources["table of birthdays"].to_pandas()
    births["birth_date"] = pd.to_datetime(births["birth_date"])
    births = births.dropna()
    if births["customer_id"].duplicated().any():
        again = births["customer_id"][births["customer_id"].duplicated()].iloc[0]
        raise DataError(f"Customer {again!r} has more than one row in the table of birthdays: keep one.")
    # Only orders of customers with a birthday leave the engine.
    n = orders.count().to_pyarrow().as_py()
    known = orders.inner_join(ibis.memtable(births), "customer_id").to_pandas()
    if (lacking := int(known[["day", "category"]].isna().any(axis=1).sum())) > 0:
        raise DataError(f"{lacking:,} orders of customers with a birthday have no date or no category: leave them out.")
    known["day"] = pd.to_datetime(known["day"])
    born, day = known["birth_date"].dt, known["day"].dt
    months = (day.year - born.year) * 12 + day.month - born.month - (day.day < born.day)
    believed = (months >= youngest) & (months < oldest)
    aside = {"without_birthday": n - len(known), "not_believed": int((~believed).sum())}
    return known.assign(age=months)[believed], aside, n


def _mix(counts, smallest):
    of = counts.sum(axis=1)
    long = counts.stack().rename("count").rename_axis(["band", "category"]).reset_index()
    long["category"] = long["category"].astype(str).where(long["count"] >= smallest, "other")
    long = long.groupby(["band", "category"], sort=False, observed=True)["count"].sum().reset_index()
    long["of"] = of.loc[long["band"]].to_numpy()
    share, low, high = wilson(long["count"], long["of"])
    return long.assign(share=share, low=low, high=high).query("`of` > 0").set_index(["band", "category"])
