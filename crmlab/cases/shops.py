"""Claims on customers, tested on the purchases of real shops."""

import functools

from ibis import _

from crmlab import data
from crmlab.cases.findings import Finding
from crmlab.lifecycle import concentration, orders_of_known

SHOPS = ("cdnow", "complete_journey")
"""Logs that travel with the package, so that verdicts do not depend on what was downloaded."""


@functools.cache
def _top_fifths():
    """Share of the revenue that the top fifth brings in each log, with its interval."""
    found = {}
    for name in SHOPS:
        paid = data.load(name).group_by("customer_id").aggregate(paid=_.amount.sum()).to_pandas()["paid"].round(6)
        top = concentration(paid[paid > 0], n_boot=199).loc["top share"]
        found[name] = top["value"], top["low"], top["high"]
    return found


def top_fifth_is_eighty():
    """Return whether a fifth of the customers brings eighty percent anywhere (F05, read as a number).

    Returns
    -------
    Finding
        With the share of the top fifth in each log.

    Examples
    --------
    >>> top_fifth_is_eighty().verdict
    'contradicted'
    """
    found = _top_fifths()
    reach = [low <= 0.8 <= high for _value, low, high in found.values()]
    return Finding(
        "holds" if all(reach) else "depends" if any(reach) else "contradicted",
        f"{_in_words(found)}: no interval reaches 80%" if not any(reach) else _in_words(found),
        "holds if the 95 % interval of every log covers 80 %, contradicted if none does, depends otherwise",
        {name: value for name, (value, _low, _high) in found.items()},
    )


def top_fifth_brings_most():
    """Return whether a fifth of the customers brings more than half (F05, read as "few bring most").

    Returns
    -------
    Finding
        With the share of the top fifth in each log.

    Examples
    --------
    >>> top_fifth_brings_most().verdict
    'holds'
    """
    found = _top_fifths()
    above = [low > 0.5 for _value, low, _high in found.values()]
    below = [high < 0.5 for _value, _low, high in found.values()]
    return Finding(
        "holds" if all(above) else "contradicted" if all(below) else "depends",
        f"{_in_words(found)}, all above 50%" if all(above) else _in_words(found),
        "holds if the 95 % interval of every log lies above 50 %, contradicted if all lie below, depends otherwise",
        {name: value for name, (value, _low, _high) in found.items()},
    )


def _in_words(found):
    titles = {"cdnow": "CDNOW", "complete_journey": "Complete Journey"}
    return ", ".join(f"{titles[name]} {v:.1%} ({low:.1%} to {high:.1%})" for name, (v, low, high) in found.items())


def repeat_orders_at_amazon():
    """Return whether 65 % fits what Amazon printed on repeat orders (F07, read as a share of orders).

    Returns
    -------
    Finding
        With the printed share.

    Examples
    --------
    >>> repeat_orders_at_amazon().verdict
    'holds'
    """
    printed = 0.63
    return Finding(
        "holds" if printed <= 0.65 <= printed + 0.03 else "contradicted",
        f"“more than {printed:.0%} of orders” in the second quarter of 1998: the 65% of the source is near",
        "holds if the claim lies at most three points above the printed lower bound",
        {"printed": printed},
    )


def repeat_orders_against_retention():
    """Return whether a share of repeat orders can stand for retention (F07, read as retention).

    Returns
    -------
    Finding
        With both measures of the last quarter of each log.

    Examples
    --------
    >>> repeat_orders_against_retention().verdict
    'contradicted'
    """
    numbers, apart = {}, []
    for name in SHOPS:
        quarter = orders_of_known(name, "Q", left_truncated=name != "cdnow").iloc[-1]
        numbers |= {f"{name}_repeat": quarter["repeat_share"], f"{name}_retention": quarter["retention"]}
        apart.append(quarter["repeat_low"] > quarter["retention_high"])
    return Finding(
        "contradicted" if any(apart) else "depends",
        f"what was printed counts orders; in one quarter of CDNOW it is {numbers['cdnow_repeat']:.0%} where "
        f"{numbers['cdnow_retention']:.0%} of the customers return",
        "contradicted if in one of the logs the interval of the share lies above that of retention",
        {name: float(value) for name, value in numbers.items()},
    )
