"""Five measures of a relationship: who, how, how broad, how long, and through whom."""

import datetime

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.special import ndtri

from crmlab.data import load
from crmlab.data.dialects import distinct, windowed
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.logs import checked

QUESTIONS = {
    "who": ("household", "which customers belong together (an address, a household, a firm)"),
    "how": ("contact", "through which contact each purchase came about (visit, telephone, e-mail, shop)"),
    "breadth": ("product", "what was bought"),
    "participants": ("intermediary", "who stood between (store, dealer, agent)"),
}
"""What a column has to say for each measure; how long the relationship lasts, the dates say."""


def measures(log, household=None, contact=None, product="product_id", intermediary=None, level=0.95):
    r"""Return five measures of the relationship with customers, and name those that the data cannot give.

    *Who*: the share of rows that have a customer at all, and customers per household. *How*: different contacts per
    customer. *Breadth*: different products per customer. *Duration*: days from the first to the last purchase, and
    purchase days. *Participants*: different intermediaries per customer. The interval of a mean over :math:`n`
    customers is :math:`\bar x \pm z s / \sqrt n`, that of a share is Wilson's.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts; rows without a customer are what *who* counts.
    household : str, optional
        Column that says which customers belong together.
    contact : str, optional
        Column with the kind of contact.
    product : str, optional
        Column with what was bought: products, or categories.
    intermediary : str, optional
        Column with the store, dealer or agent.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `measure` and `quantity`: `value`, `low`, `high`, `median`, `of` (rows, households or customers),
        `lacking` (what the data would have to say; empty where there is a value).

    Raises
    ------
    DataError
        A named column that is not there, rows without a date, no rows, no row with a customer.

    Examples
    --------
    >>> table = measures("complete_journey", intermediary="store_id")
    >>> table.loc[("participants", "per customer"), ["value", "median"]].round(2).tolist()
    [4.23, 4.0]
    """
    log = load(log)
    named = {"household": household, "contact": contact, "product": product, "intermediary": intermediary}
    own = {role: column for role, column in named.items() if column is not None}
    default = {"product"} if product == "product_id" else set()
    if lost := [column for role, column in own.items() if column not in log.columns and role not in default]:
        raise DataError(f"The log has no column {', '.join(lost)}; it has {', '.join(log.columns)}.")
    own = {role: column for role, column in own.items() if column in log.columns}
    log = log.select("customer_id", day=_.date.cast("date"), **{role: log[column] for role, column in own.items()})
    facts = log.aggregate(rows=_.count(), named=_.customer_id.count(), dated=_.day.count()).to_pyarrow().to_pylist()[0]
    if not facts["named"]:
        raise DataError(f"None of the {facts['rows']:,} rows has a customer_id: there is no relationship to measure.")
    if lost := facts["rows"] - facts["dated"]:
        raise DataError(f"{lost:,} rows have no date; crmlab.data.audit(log).kept leaves them out and lists them.")
    customers = log.filter(_.customer_id.notnull()).group_by("customer_id")
    counts = {role: distinct(log[role]) for role in own if role != "household"}
    each = customers.aggregate(duration=_.day.max().delta(_.day.min(), unit="day"), days=_.day.nunique(), **counts)
    found = _means(each, ["duration", "days", *counts], level)
    share, low, high = wilson(facts["named"], facts["rows"], level)
    rows = {("who", "rows with a customer"): {"value": share, "low": low, "high": high, "of": facts["rows"]}}
    if "household" in own:
        homes = log.filter(_.customer_id.notnull() & _.household.notnull()).group_by("household")
        sizes = homes.aggregate(size=_.customer_id.nunique()).select(household="size")
        found |= _means(sizes, ["household"], level)
    for measure, (role, words) in QUESTIONS.items():
        quantity = "customers per household" if measure == "who" else "per customer"
        rows[measure, quantity] = found.get(role) or {"lacking": f"a column that says {words} ({role}=…)"}
        if measure == "breadth":
            rows["duration", "days from first to last"] = found["duration"]
            rows["duration", "purchase days"] = found["days"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "median", "of", "lacking"])
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["measure", "quantity"])
    numbers = ["value", "low", "high", "median", "of"]
    return table.astype(dict.fromkeys(numbers, float)).assign(lacking=table["lacking"].fillna(""))


def trial_repeat(log, product="product_id", within=91, washout=91, observation_end=None, level=0.95):
    """Return for each product how many customers tried it, and what share of them bought it again.

    A *trial* is a customer's first purchase of the product, if it comes `washout` days or more after the log begins (a
    purchase before that may have had others before it, which the log does not show) and is followed for `within` days.
    A *repeat* is a purchase of the same product on another day, within so many days after the trial.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts; rows without a product count for none.
    product : str
        Column with the product, or its category or brand.
    within : int
        Days that a trial is followed.
    washout : int
        Days at the beginning of the log in which a first purchase is no trial; 0 where the log begins with the shop.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    level : float
        Level of the Wilson intervals; a customer counts once a product.

    Returns
    -------
    pandas.DataFrame
        Indexed as the column, products with most buyers first: `buyers` (customers who ever bought it), `trials`,
        `repeats`, `share` with `low` and `high` (missing without a trial).

    Raises
    ------
    DataError
        Impossible options, an observation too short for them, missing columns, rows without customer or date, no rows.

    Notes
    -----
    Ehrenberg (1988), Repeat-Buying, 2nd edition: products with few buyers are also bought again by fewer of them
    (double jeopardy), so compare a repeat share with those of products of the same size.

    Examples
    --------
    >>> toy = pd.DataFrame({"customer_id": list("aabb"), "product_id": list("xxxy")})
    >>> toy["date"] = pd.to_datetime(["2024-01-01", "2024-01-05", "2024-01-02", "2024-01-31"])
    >>> trial_repeat(toy, within=7, washout=0).loc["x", ["buyers", "trials", "repeats", "share"]].tolist()
    [2.0, 2.0, 1.0, 0.5]
    """
    if within < 1 or washout < 0:
        raise DataError(f"within={within} must be 1 day or more, washout={washout} 0 or more.")
    log, first, last = checked(log, [product], observation_end)
    start, end = first + datetime.timedelta(days=int(washout)), last - datetime.timedelta(days=int(within))
    if end < start:
        raise DataError(
            f"From {first} to {last} there are no {washout} days before a trial and {within} days after it: lower "
            "washout or within."
        )
    bought = log.filter(_[product].notnull()).select("customer_id", "day", product=_[product]).distinct()
    bought = windowed(bought).mutate(first=_.day.min().over(group_by=["customer_id", "product"]))
    age = _.day.delta(_["first"], unit="day")
    each = bought.group_by("customer_id", "product", "first").aggregate(again=age.between(1, int(within)).any())
    trial = _["first"].between(ibis.literal(start), ibis.literal(end))
    sums = {"buyers": _.count(), "trials": trial.sum(), "repeats": (trial & _.again).sum()}
    table = each.group_by("product").aggregate(**sums).to_pandas().rename(columns={"product": product})
    table = table.sort_values(["buyers", product], ascending=[False, True]).set_index(product)
    share, low, high = wilson(table["repeats"], table["trials"], level)
    return table.assign(share=share, low=low, high=high)


def _means(table, columns, level):
    """Mean, its interval and the median of each column."""
    parts = {name: ibis._[name].cast("float64") for name in columns}
    sums = {f"{name}_{i}": part for name, x in parts.items() for i, part in enumerate((x.mean(), x.std(), x.median()))}
    facts = table.aggregate(of=_.count(), **sums).to_pyarrow().to_pylist()[0]
    of, found = facts["of"], {}
    for name in columns:
        mean, spread, median = (facts[f"{name}_{i}"] for i in range(3))
        # One customer has no spread, and so the mean no interval.
        half = np.nan if spread is None else ndtri((1 + level) / 2) * spread / np.sqrt(of)
        found[name] = {"value": mean, "low": mean - half, "high": mean + half, "median": median, "of": of}
    return found
