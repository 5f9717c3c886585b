"""Every published number on the customer file, computed anew."""

import importlib.util

from crmlab.data.aggregates import rollup_check
from crmlab.data.identity import match_quality, propose_duplicates
from crmlab.data.linking import propose_likely_duplicates
from crmlab.data.merging import customer_file, merge
from crmlab.data.sets import open_dataset
from crmlab.data.targets import chosen

RULES = [("soc_sec_id",), ("given_name", "surname", "date_of_birth")]
COMPARED = {
    "given_name": "name",
    "surname": "name",
    "date_of_birth": "date",
    "postcode": "code",
    "soc_sec_id": "code",
    "address_1": "text",
    "suburb": "text",
}
BLOCKS = [("soc_sec_id",), ("date_of_birth",), ("given_name", "surname"), ("postcode", "surname")]


def reproduce(subjects=None):
    """Return the numbers of ``data/published/customer_file.toml``, computed from the data that they were stated for.

    Parameters
    ----------
    subjects : list of str, optional
        The data sets to compute: ``"febrl3"``, ``"online_retail"``, ``"online_retail_two_years"``,
        ``"complete_journey"``, ``"cdnow"``, ``"cdnow_sample"``, ``"groceries"``. All of them by default.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`, ready for `crmlab.data.compare_published`. Sets that have to
        be fetched (febrl3, online_retail, online_retail_two_years, groceries) are left out where they are not on this
        machine, and so is the model of febrl3 where splink is not installed (extra ``identity``).

    Raises
    ------
    DataError
        When a subject is none of the above.

    Examples
    --------
    >>> from crmlab.data import compare_published
    >>> set(compare_published("customer_file", reproduce(["cdnow_sample"]))["verdict"])
    {'reproduced'}
    """
    names = chosen(SUBJECTS, subjects)
    return {f"{name}.{target}": float(n) for name in names for target, n in SUBJECTS[name]().items()}


def _febrl3():
    records = open_dataset("febrl3")
    truth = records.select("record_id", "person_id").to_pandas()
    # The truth is taken out of the identifier: what is matched must not see it.
    records = records.drop("person_id")
    duplicates = truth.groupby("person_id").size() - 1
    by_rule = propose_duplicates(records, RULES)
    found = {"rules": match_quality(merge(customer_file(records), by_rule, by="reproduce").assignment, truth)}
    if importlib.util.find_spec("splink"):
        by_model = propose_likely_duplicates(records, COMPARED, BLOCKS)
        found["model"] = match_quality(merge(customer_file(records), by_model, by="reproduce").assignment, truth)
    counts = enumerate(("one", "two", "three", "four", "five"), 1)
    return {
        "records.all": len(truth),
        "records.originals": len(duplicates),
        "records.duplicates": duplicates.sum(),
        **{f"originals_with.{word}": (duplicates == k).sum() for k, word in counts},
        "pairs.true": found["rules"]["pairs_true"],
        **{f"{how}.{name}": quality[name] for how, quality in found.items() for name in ("precision", "recall")},
    }


def _one(table, **measures):
    return table.aggregate(**measures).to_pyarrow().to_pylist()[0]


def _bought(log):
    """Rows with a customer, a positive quantity and a positive price."""
    return log.filter(log.customer_id.notnull(), log.quantity > 0, log.unit_price > 0)


def _retail(name):
    log = open_dataset(name)
    bought = _bought(log)
    found = _one(log, rows=log.count(), customers=log.customer_id.nunique())
    kept = _one(bought, rows=bought.count(), customers=bought.customer_id.nunique(), revenue=bought.amount.sum())
    return found | {f"bought_{measure}": value for measure, value in kept.items()}


def _online_retail():
    found = _retail("online_retail")
    return {"rows.all": found.pop("rows"), **{f"log.{name}": value for name, value in found.items()}}


def _two_years():
    measures = {"revenue": ("sum", "amount"), "customers": ("nunique", "customer_id")}
    found = rollup_check(_bought(open_dataset("online_retail_two_years")), ["country"], measures)
    revenue, customers = found.to_dict("records")
    return {
        **{f"log.{name}": value for name, value in _retail("online_retail_two_years").items()},
        "by_country.customers_added_up": customers["parts"],
        "by_country.customers": customers["total"],
        "by_country.in_several_countries": customers["in_several"],
        # To the cent: the order in which an engine adds makes the rest.
        "by_country.revenue_surplus": abs(round(revenue["surplus"], 2)),
    }


def _complete_journey():
    log = open_dataset("complete_journey")
    counts = {"log.rows": log.count(), "log.customers": log.customer_id.nunique()}
    return _one(log, **counts, **{"sums.baskets": log.order_id.nunique(), "sums.revenue": log.amount.sum()})


def _cdnow():
    log = open_dataset("cdnow")
    return _one(log, **{"log.rows": log.count(), "log.customers": log.customer_id.nunique()})


def _cdnow_sample():
    return {"log.customers": open_dataset("cdnow_sample").customer_id.nunique().to_pyarrow().as_py()}


def _groceries():
    lines = open_dataset("groceries")
    counts = {"all": lines.order_id.nunique(), "items": lines.product_id.nunique(), "sold": lines.count()}
    return _one(lines, **{f"baskets.{name}": count for name, count in counts.items()})


SUBJECTS = {
    "febrl3": _febrl3,
    "online_retail": _online_retail,
    "online_retail_two_years": _two_years,
    "complete_journey": _complete_journey,
    "cdnow": _cdnow,
    "cdnow_sample": _cdnow_sample,
    "groceries": _groceries,
}
