"""Which customers are key: four kinds by four rules, and what each segment should see first."""

from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from ibis import _

from crmlab.data.dialects import distinct
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.durations import lacking
from crmlab.lifecycle.lifts import lift
from crmlab.lifecycle.logs import checked
from crmlab.lifecycle.segmenting import ABSENT, segment_table

KINDS = {
    "potential": "valuable prospects: high predicted value, short history",
    "more_needs": "the same customer with more needs: buys often, but few of the categories",
    "same_product": "more of the same product: a high share of purchases repeat one",
    "keep": "loyalty to be kept: high predicted value, falling probability of being alive",
}
"""Four kinds of key customer and what each is."""


class KeyCustomers(NamedTuple):
    """Four lists of key customers.

    Attributes
    ----------
    rules : pandas.DataFrame
        By kind: what it `means`, the `rule` with its numbers, how many `customers` it holds, their `share` of all with
        its Wilson interval `low`, `high`; a kind whose data are missing says so as its rule.
    members : ibis.Table
        One row a customer: `customer_id`, the measures that the rules use, and of each kind whether the customer
        belongs to it.
    overlap : pandas.DataFrame
        By two kinds: `customers` in both, `jaccard` (share in both of those in either), and the `lift` over what there
        would be if the kinds had nothing to do with each other, with its 95 % interval `low`, `high`.
    combinations : pandas.Series
        Customers by the kinds that they belong to, for an upset plot; most frequent first, those of no kind too.
    """

    rules: pd.DataFrame
    members: ibis.Table
    overlap: pd.DataFrame
    combinations: pd.Series


def key_customers(log, values=None, category="category", top=0.2, fall=0.1, new=None, observation_end=None):
    """Find the four kinds of key customer, each by a rule of its own.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts; `product_id` and the column of categories where the
        rules need them.
    values : pandas.DataFrame or ibis.Table, optional
        What a model says of each customer: `customer_id`, predicted `value`, and `p_alive` now and `p_alive_before`,
        such as `crmlab.clv` gives. With `value_before`, loyalty is to be kept of those who were valuable then: a value
        that P(alive) is part of falls with it, and hardly anybody is valuable still and falling already.
    category : str
        Column of the log with the product's category.
    top : float
        Share of the customers that counts as high or low.
    fall : float
        Fall in the probability of being alive that counts as falling.
    new : int, optional
        Days since the first purchase that count as a short history; the median of the customers by default. Where the
        log begins with customers of old, most seem to have come on its first days and the median says nothing.
    observation_end : str or date, optional
        Last day that is used; the last day of the log by default.

    Returns
    -------
    KeyCustomers
        The rules, the members, how the kinds overlap.

    Raises
    ------
    DataError
        A log that `crmlab.data.audit` would not pass, nothing to find any kind with, a share outside 0 to 1, a negative
        number of days, values of other customers.

    Notes
    -----
    Ties count alike: who equals the limit is in, so that a kind may hold more than its share; a limit of 0 is passed
    only by more than 0. Lists are reasons to look, not effects: whether a contact changes anything, an experiment says.

    Examples
    --------
    >>> toy = pd.DataFrame({"customer_id": list("aaabbc"), "product_id": list("xxxxyy")})
    >>> toy["date"] = ["2024-01-01", "2024-01-05", "2024-01-09", "2024-01-02", "2024-01-03", "2024-01-04"]
    >>> found = key_customers(toy)
    >>> found.members.filter(_.same_product).to_pandas()["customer_id"].tolist()
    ['a']
    """
    if not 0 < top < 1:
        raise DataError(f"top is a share between 0 and 1, not {top!r}.")
    if new is not None and not new >= 0:
        raise DataError(f"new is a number of days since the first purchase, not {new!r}.")
    given = ibis.memtable(values.reset_index()) if isinstance(values, pd.DataFrame) else values
    log, lacks = _columns(log, given, category, observation_end)
    if len(lacks) == len(KINDS):
        raise DataError(f"No kind of key customer can be found: {'; '.join(dict.fromkeys(lacks.values()))}.")
    customers = _measures(*log, category, lacks)
    if given is not None:
        customers = _with_values(customers, given)
    rules, conditions = _rules(customers, lacks, top, fall, new)
    members = customers.mutate(**conditions)
    kinds = [kind for kind in KINDS if kind not in lacks]
    counts = members.group_by(kinds).aggregate(_n=_.count()).to_pandas()
    n = int(counts["_n"].sum())
    sizes = {kind: int(counts.loc[counts[kind], "_n"].sum()) for kind in kinds}
    rows = {
        kind: (KINDS[kind], rules.get(kind) or f"not found: {lacks[kind]}", sizes.get(kind, np.nan)) for kind in KINDS
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["means", "rule", "customers"]).rename_axis("kind")
    share, low, high = wilson(table["customers"], n)
    return KeyCustomers(
        table.assign(share=share, low=low, high=high), members, _overlap(counts, kinds, sizes, n), _upset(counts, kinds)
    )


def front_page(log, segment, category="category", top=5, minimum=10, observation_end=None):
    """List for each segment of customers the categories that it buys more often than others.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts, with the column of categories; rows without one count
        for none.
    segment : pandas.Series, pandas.DataFrame or ibis.Table
        Segment of each customer: a series indexed by customer, or a table with `customer_id` and `segment`; customers
        of the log without one make the segment ``"(absent)"``.
    category : str
        Column of the log with the product's category.
    top : int
        Categories a segment.
    minimum : int
        Buyers that a category must have in the segment: fewer say little, and may be recognized.
    observation_end : str or date, optional
        Last day that is used; the last day of the log by default.

    Returns
    -------
    pandas.DataFrame
        By segment and `rank`: the `category`, its `buyers` among the `customers` of the segment, their `share` with its
        Wilson interval `low`, `high`, and the `lift` over the share among all customers with its 95 % interval
        `lift_low`, `lift_high`.

    Raises
    ------
    DataError
        A log that `crmlab.data.audit` would not pass, no such column, no customer with a segment, no cell large enough.

    Examples
    --------
    >>> toy = pd.DataFrame({"customer_id": [1, 1, 2, 3, 4], "date": "2024-01-01", "category": list("abbba")})
    >>> front_page(toy, pd.Series({1: "s", 2: "s", 3: "t", 4: "s"}), top=1, minimum=1)["category"].tolist()
    ['a', 'b']
    """
    log, _first, _last = checked(log, [category], observation_end)
    found = segment_table(segment)
    if log.customer_id.type().is_numeric() != found.customer_id.type().is_numeric():
        raise DataError(
            f"customer_id is {log.customer_id.type()} in the log and {found.customer_id.type()} in the segments: "
            "convert one."
        )
    found = found.select(segment_of="customer_id", segment=found.segment.cast("string"))
    bought = log.select("customer_id", category=log[category]).distinct()
    bought = bought.left_join(found, bought.customer_id == found.segment_of)
    bought = bought.mutate(segment=_.segment.fill_null(ABSENT))
    sizes = bought.group_by("segment").aggregate(customers=_.customer_id.nunique()).to_pandas()
    if set(sizes["segment"]) == {ABSENT}:
        raise DataError("No customer of the log has a segment: compare how both name their customers.")
    cells = bought.filter(_.category.notnull()).group_by("segment", "category").aggregate(buyers=_.count()).to_pandas()
    cells = cells.merge(sizes, on="segment")
    overall = cells.groupby("category")["buyers"].transform("sum")
    share, low, high = wilson(cells["buyers"], cells["customers"])
    value, lift_low, lift_high = lift(cells["buyers"], cells["customers"], overall, sizes["customers"].sum())
    cells = cells.assign(share=share, low=low, high=high, lift=value, lift_low=lift_low, lift_high=lift_high)
    cells = cells[(cells["buyers"] >= minimum) & (cells["lift"] > 1)]
    if not len(cells):
        raise DataError(f"No category with {minimum} buyers in a segment is bought more often there than elsewhere.")
    # Equal lifts: the larger category first, then by name, so that the table does not depend on the order of rows.
    cells = cells.sort_values(["segment", "lift", "buyers", "category"], ascending=[True, False, False, True])
    cells["rank"] = cells.groupby("segment").cumcount() + 1
    return cells[cells["rank"] <= top].set_index(["segment", "rank"])


def _columns(log, values, category, observation_end):
    """The log with what is there of product and category, and why kinds cannot be found."""
    from crmlab.data import load

    log, lacks = load(log), {}
    has = [column for column in ("product_id", category) if column in log.columns]
    if category not in has:
        lacks["more_needs"] = f"the log has no column {category!r}"
    if "product_id" not in has:
        lacks["same_product"] = "the log has no column 'product_id'"
    if values is None:
        lacks |= dict.fromkeys(("potential", "keep"), "there are no values of a model")
    else:
        lacking(values, ["customer_id"])
        if "value" not in values.columns:
            lacks |= dict.fromkeys(("potential", "keep"), "the values have no column 'value'")
        elif missing := [c for c in ("p_alive", "p_alive_before") if c not in values.columns]:
            lacks["keep"] = f"the values have no column {' and '.join(map(repr, missing))}"
    return checked(log, has, observation_end), lacks


def _measures(log, _first, last, category, lacks):
    """One row a customer: days of purchase, days since the first, breadth, and share of purchases that repeat."""
    measures = {
        "purchases": _.day.nunique(),
        "tenure": ibis.literal(last).cast("date").delta(log.day.min(), unit="day"),
    }
    if "more_needs" not in lacks:
        names = distinct(log[category])
        measures["breadth"] = names / max(names.to_pyarrow().as_py(), 1)
    customers = log.group_by("customer_id").aggregate(**measures)
    if "same_product" in lacks:
        return customers
    bought = log.filter(_.product_id.notnull()).select("customer_id", "product_id", "day").distinct()
    repeats = bought.group_by("customer_id").aggregate(repeats=1 - _.product_id.nunique() / _.count())
    joined = customers.left_join(repeats, "customer_id").drop("customer_id_right")
    return joined.mutate(repeats=_.repeats.fill_null(0.0))


def _with_values(customers, values):
    columns = [c for c in ("value", "value_before", "p_alive", "p_alive_before") if c in values.columns]
    values = values.select("customer_id", *columns)
    if customers.customer_id.type().is_numeric() != values.customer_id.type().is_numeric():
        raise DataError(
            f"customer_id is {customers.customer_id.type()} in the log and {values.customer_id.type()} in the values: "
            "convert one."
        )
    counts = values.aggregate(rows=_.count(), names=distinct(values.customer_id))
    rows, names = counts.to_pyarrow().to_pylist()[0].values()
    joined = customers.left_join(values, "customer_id")
    known = joined.customer_id_right.count().to_pyarrow().as_py()
    if not known or names < rows:
        raise DataError(
            f"The values have {rows:,} rows for {names:,} customers, of whom the log has {known:,}: there must be "
            "one row for each, under the names of the log."
        )
    return joined.drop("customer_id_right")


def _rules(customers, lacks, top, fall, new):
    """The rules in words and as conditions, with limits taken from all customers."""
    wanted = {"purchases": customers.purchases.quantile(0.5), "tenure": customers.tenure.quantile(0.5)}
    worth = "value_before" if "value_before" in customers.columns else "value"
    if "potential" not in lacks:
        wanted |= {name: customers[name].quantile(1 - top) for name in ("value", worth)}
    if "same_product" not in lacks:
        wanted["repeats"] = customers.repeats.quantile(1 - top)
    limits = customers.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    if new is not None:
        limits["tenure"] = new
    often = customers.purchases >= limits["purchases"]
    if "more_needs" not in lacks:
        broad = customers.filter(often).aggregate(breadth=_.breadth.quantile(top)).to_pyarrow()
        limits["breadth"] = broad["breadth"][0].as_py()
    words, conditions = {}, {}

    def high(name):
        return (customers[name] >= limits[name]) & (customers[name] > 0)

    if "potential" not in lacks:
        words["potential"] = f"value ≥ {limits['value']:,.4g} and first purchase ≤ {limits['tenure']:g} days ago"
        conditions["potential"] = high("value") & (customers.tenure <= limits["tenure"])
    if "more_needs" not in lacks:
        words["more_needs"] = (
            f"≥ {limits['purchases']:g} days of purchase and ≤ {limits['breadth']:.1%} of the categories"
        )
        conditions["more_needs"] = often & (customers.breadth <= limits["breadth"])
    if "same_product" not in lacks:
        words["same_product"] = f"≥ {limits['repeats']:.1%} of the purchases of products repeat one"
        conditions["same_product"] = high("repeats")
    if "keep" not in lacks:
        words["keep"] = f"{worth.replace('_', ' ')} ≥ {limits[worth]:,.4g} and P(alive) fell by ≥ {fall:g}"
        conditions["keep"] = high(worth) & (customers.p_alive_before - customers.p_alive >= fall)
    return words, {kind: condition.fill_null(False) for kind, condition in conditions.items()}


def _overlap(counts, kinds, sizes, n):
    rows = {}
    for i, a in enumerate(kinds):
        for b in kinds[i + 1 :]:
            both = int(counts.loc[counts[a] & counts[b], "_n"].sum())
            either = sizes[a] + sizes[b] - both
            times = (float(v) for v in lift(both, sizes[a], sizes[b], n))
            rows[a, b] = (both, both / either if either else np.nan, *times)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["customers", "jaccard", "lift", "low", "high"])
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["kind", "other"]))


def _upset(counts, kinds):
    names = [" + ".join(kind for kind in kinds if row[kind]) or "none" for row in counts.to_dict("records")]
    found = pd.Series(counts["_n"].to_numpy(), index=pd.Index(names, name="kinds"), name="customers")
    return found.sort_index().sort_values(ascending=False, kind="stable")
