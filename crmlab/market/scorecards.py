"""How far a firm has come on the way from customers it does not know to offers made for each of them."""

import pandas as pd

from crmlab.data import load
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.shares import concentration
from crmlab.market.contacts import read_contacts

COLUMNS = ["value", "low", "high", "of", "means"]


def idic(log, contacts=None, responses=None):
    """Score the four steps identify, differentiate, interact and customize, each by numbers from the firm's records.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `amount`, or anything `crmlab.data.load` accepts; rows without a customer count.
    contacts : path or frame, optional
        A contact list (`contact_list`), for interact and customize.
    responses : pandas.DataFrame, optional
        The `table` of `read_responses` for that list, for interact.

    Returns
    -------
    pandas.DataFrame
        By step and measure: `value` with its 95 % interval `low`, `high` (missing for a count), `of` how many, and what
        it `means`.

    Raises
    ------
    DataError
        A log without customers or amounts, or a file that is no contact list.

    Notes
    -----
    The steps: Peppers, Rogers and Dorf (1999), Harvard Business Review 77(1), 151-160. The numbers are ours: they say
    where a firm stands and whether it moves, not that a higher one is more profitable. `effect` says what contacts
    bring.

    Examples
    --------
    >>> log = pd.DataFrame({"customer_id": ["a", "b", None, "b"], "date": "2024-01-01", "amount": [9.0, 5.0, 5.0, 1.0]})
    >>> idic(log).loc[("identify", "rows with a customer"), "value"].item()
    0.75
    """
    log = load(log)
    if "amount" not in log.columns:
        raise DataError(f"The log has no column amount; it has {', '.join(log.columns)}.")
    known = log.customer_id.notnull()
    if log.customer_id.type().is_string():
        known &= log.customer_id.strip() != ""
    facts = log.aggregate(
        rows=log.count(), known=known.sum().fill_null(0), paid=log.amount.sum(), paid_known=log.amount.sum(where=known)
    )
    facts = facts.to_pyarrow().to_pylist()[0]
    if not facts["known"]:
        raise DataError("No row of the log has a customer: there is nobody to tell apart.")
    by = log.filter(known).group_by("customer_id").aggregate(paid=log.amount.sum())
    # Sums differ in their last digits from run to run; customers who paid the same must stay equal for the bootstrap.
    paid = by.order_by("customer_id").to_pandas()["paid"].fillna(0.0).round(6)
    spread = concentration(paid[paid >= 0], n_boot=199).loc["top share"]
    rows = {
        ("identify", "rows with a customer"): (*_share(facts["known"], facts["rows"]), "rows of the log that name one"),
        ("identify", "sales with a customer"): (
            facts["paid_known"] / facts["paid"] if facts["paid"] else float("nan"), float("nan"), float("nan"),
            facts["rows"], "share of the money in such rows; a total of these records, not an estimate",
        ),
        ("differentiate", "sales of the top fifth"): (
            spread["value"], spread["low"], spread["high"], int(spread["customers"]),
            "share of the sales that the best fifth of the customers bring: .2 if all were alike",
        ),
    }  # fmt: skip
    if contacts is not None:
        listed = read_contacts(contacts)
        sent = listed[listed["control"] == 0]
        reached = sent["customer_id"].nunique()
        rows["interact", "customers contacted"] = (*_share(reached, max(len(paid), reached)), "of the customers known")
        usual = sent["offer"].value_counts().max() if len(sent) else 0
        rows["customize", "distinct offers"] = (
            float(sent["offer"].nunique()), float("nan"), float("nan"), len(sent), "offers made, a count"
        )  # fmt: skip
        rows["customize", "other than the usual offer"] = (
            *_share(len(sent) - usual, len(sent)), "contacts with another than the most frequent offer"
        )  # fmt: skip
    if responses is not None:
        for arm, name in (("contact", "contacted who responded"), ("control", "control who responded")):
            mine = responses[responses["arm"] == arm]
            rows["interact", name] = (*_share(int(mine["responded"].sum()), len(mine)), f"customers of the arm {arm}")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)
    table = table.set_axis(pd.MultiIndex.from_tuples(rows, names=["step", "measure"]))
    steps = ["identify", "differentiate", "interact", "customize"]
    return table.loc[sorted(table.index, key=lambda at: steps.index(at[0]))]


def _share(count, of):
    share, low, high = (float(v) for v in wilson(count, of))
    return share, low, high, int(of)
