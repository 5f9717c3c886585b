"""Claims that arithmetic can test: do numbers fit each other, and what would follow from them?"""

from datetime import date
from decimal import Decimal

import pandas as pd

from crmlab.cases.findings import Finding
from crmlab.clv import referral_multiplier, value_lift


def _printed(text):
    """Lowest and highest value that print rounds to this."""
    half = Decimal(1).scaleb(Decimal(text).as_tuple().exponent) / 2
    return float(Decimal(text) - half), float(Decimal(text) + half)


def consistency():
    """Return printed numbers of the sources beside what other printed numbers imply, each with its rounding.

    Returns
    -------
    pandas.DataFrame
        Indexed by `claim` and `what`: `stated_low`, `stated_high` (all that the source's digits can mean),
        `implied_low`, `implied_high` (from the other numbers), `unit`, `agree` (whether the two overlap).

    Examples
    --------
    >>> consistency()["agree"].groupby(level="claim").all().to_dict()
    {'F09': True, 'F10': False}
    """
    share, netizens, shoppers = _printed("0.351"), _printed("457"), _printed("161")
    part = _printed("0.1969")
    retail, with_services, goods = _printed("38.0987"), _printed("9.0065"), _printed("7.0198")
    rows = [
        ("F09", "online shoppers 2010", shoppers, _product(share, netizens), "million"),
        # "Nine trillion and more", so that the total is at least this.
        ("F10", "total retail sales 2018", retail, (9 / part[1], float("inf")), "trillion yuan"),
        ("F10", "share online, services included", part, _over(with_services, retail), "share"),
        ("F10", "share online, goods only", part, _over(goods, retail), "share"),
    ]
    table = pd.DataFrame(
        [(claim, what, *stated, *implied, unit) for claim, what, stated, implied, unit in rows],
        columns=["claim", "what", "stated_low", "stated_high", "implied_low", "implied_high", "unit"],
    ).set_index(["claim", "what"])
    agree = (table["stated_low"] <= table["implied_high"]) & (table["implied_low"] <= table["stated_high"])
    return table.assign(agree=agree)


def _product(a, b):
    return a[0] * b[0], a[1] * b[1]


def _over(a, b):
    return a[0] / b[1], a[1] / b[0]


def shoppers_fit():
    """Return whether the shoppers, their share and the netizens of 2010 fit each other (F09).

    Returns
    -------
    Finding
        With the `implied` number of shoppers (million) and the `spend` of each (yuan).

    Examples
    --------
    >>> {name: round(number, 1) for name, number in shoppers_fit().numbers.items()}
    {'implied': 160.4, 'spend': 3249.1}
    """
    agree = consistency().loc["F09", "agree"].all()
    numbers = {"implied": 0.351 * 457, "spend": 523_100 / 161}
    return Finding(
        "holds" if agree else "contradicted",
        f"35.1% of 457 million are {numbers['implied']:.1f} million, 161 in print; ¥{numbers['spend']:,.0f} each",
        "holds if the numbers, each within its rounding, can be true together",
        numbers,
    )


def retail_share_fits():
    """Return whether 9 trillion can be 19.69 % of the retail sales of 2018 (F10).

    Returns
    -------
    Finding
        With the total that the source `implied` (trillion yuan) and the two true shares.

    Examples
    --------
    >>> {name: round(number, 3) for name, number in retail_share_fits().numbers.items()}
    {'implied': 45.708, 'with_services': 0.236, 'goods': 0.184}
    """
    agree = consistency().loc["F10", "agree"].all()
    numbers = {"implied": 9 / 0.1969, "with_services": 9.0065 / 38.0987, "goods": 7.0198 / 38.0987}
    return Finding(
        "holds" if agree else "contradicted",
        f"implies retail sales of ¥{numbers['implied']:.1f} trillion, official ¥38.1; the share was "
        f"{numbers['with_services']:.1%} with services, {numbers['goods']:.1%} without",
        "holds if the numbers, each within its rounding, can be true together",
        numbers,
    )


def cost_ratio():
    """Return what winning a customer costs over what keeping one costs, over stated assumptions (F01).

    A contact costs the same in both cases. Of those addressed to win, 0.5 to 5 % buy; of the own customers addressed,
    10 to 40 % would have left, and 5 to 20 % of these are kept by the contact.

    Returns
    -------
    Finding
        With the `lowest` and `highest` ratio.

    Examples
    --------
    >>> cost_ratio().verdict
    'depends'
    """
    ratios = [leave * saved / buy for buy in (0.005, 0.05) for leave in (0.1, 0.4) for saved in (0.05, 0.2)]
    low, high = min(ratios), max(ratios)
    verdict = "holds" if low >= 5 and high <= 7 else "contradicted" if high < 5 or low > 7 else "depends"
    return Finding(
        verdict,
        f"from {low:.1f} to {high:.0f} times, by how many buy, leave and can be kept (assumed ranges)",
        "holds if all assumed ranges give 5 to 7, contradicted if none do, depends otherwise",
        {"lowest": low, "highest": high},
    )


def referrals():
    """Return what "100 satisfied customers bring 25" adds up to (F02); no data say whether they do.

    Returns
    -------
    Finding
        With the `multiplier`.

    Examples
    --------
    >>> round(referrals().numbers["multiplier"], 2)
    1.33
    """
    total = float(referral_multiplier(0.25))
    return Finding(
        "uncheckable",
        f"if true, 100 customers become {100 * total:.0f} in the end; no data here say who referred whom",
        "uncheckable while no data set of the catalogue records who referred whom",
        {"multiplier": total},
    )


def influenced():
    """Return how many of 25 influenced people could buy at most without endless growth (F03).

    Returns
    -------
    Finding
        With `buyers_of_influenced` (share that reconciles F03 with F02) and `endless_from`.

    Examples
    --------
    >>> influenced().numbers
    {'buyers_of_influenced': 0.01, 'endless_from': 0.04}
    """
    reconciled, endless = 0.25 / 25, 1 / 25
    return Finding(
        "uncheckable",
        f"fits the 25 of 100 (F02) only if {reconciled:.0%} of the influenced buy; from {endless:.0%} on, growth would "
        "never end",
        "uncheckable while no data set of the catalogue records who influenced whom",
        {"buyers_of_influenced": reconciled, "endless_from": endless},
    )


RATES = (0.6, 0.7, 0.8, 0.85, 0.9)
"""Shares of the customers who stay a year, for which the claim on profits is computed."""


def _lifts(reading):
    """Gain in the value of a customer with a flat margin, discounted by 10 % a year."""
    # A lift of exactly 25 % must not fall below by a rounding error.
    return [round(float(value_lift(rate, 0.05, reading)), 9) for rate in RATES]


def lift_of_points():
    """Return by how much five points more retention raise the value of a customer (F04, read as points).

    Returns
    -------
    Finding
        With the lift for retention of 60, 70, 80, 85 and 90 %, discount 10 %, flat margin.

    Examples
    --------
    >>> [round(100 * lift) for lift in lift_of_points().numbers.values()]
    [11, 14, 20, 25, 33]
    """
    lifts = _lifts("points")
    inside = [0.25 <= lift <= 0.85 for lift in lifts]
    verdict = "holds" if all(inside) else "depends" if any(inside) else "contradicted"
    return Finding(
        verdict,
        f"+{lifts[0]:.0%} at a retention of 60% to +{lifts[-1]:.0%} at 90%; 25% or more only from 85% on",
        "holds if retention of 60 to 90 % gives 25 to 85 % throughout, contradicted if nowhere, depends otherwise",
        {f"r{round(100 * r)}": lift for r, lift in zip(RATES, lifts, strict=True)},
    )


def lift_of_fewer_defections():
    """Return by how much 5 % fewer defections raise the value of a customer (F04, read as a proportion).

    Returns
    -------
    Finding
        With the lift for retention of 60, 70, 80, 85 and 90 %, discount 10 %, flat margin.

    Examples
    --------
    >>> lift_of_fewer_defections().verdict
    'contradicted'
    """
    lifts = _lifts("fewer defections")
    inside = [0.25 <= lift <= 0.85 for lift in lifts]
    return Finding(
        "holds" if all(inside) else "depends" if any(inside) else "contradicted",
        f"+{min(lifts):.1%} to +{max(lifts):.1%} for a retention of 60 to 90%, nowhere near 25%",
        "holds if retention of 60 to 90 % gives 25 to 85 % throughout, contradicted if nowhere, depends otherwise",
        {f"r{round(100 * r)}": lift for r, lift in zip(RATES, lifts, strict=True)},
    )


def hours_of_a_day():
    """Return whether a service can be open 365 times 25 hours (F15).

    Returns
    -------
    Finding
        With the hours of a day.

    Examples
    --------
    >>> hours_of_a_day().verdict
    'contradicted'
    """
    return Finding(
        "holds" if 25 <= 24 else "contradicted",
        "a day has 24 hours: a slip of the pen for 365*24",
        "holds if no day has more than 24 hours",
        {"hours": 24.0},
    )


def issue_and_date():
    """Return whether a twelfth issue of 2019 can be dated 20 February 2019 (F18).

    Returns
    -------
    Finding
        With the days of the year until then, for each issue.

    Examples
    --------
    >>> issue_and_date().numbers
    {'days_an_issue': 4.25}
    """
    days = (date(2019, 2, 20) - date(2018, 12, 31)).days / 12
    return Finding(
        "holds" if days >= 7 else "contradicted",
        f"an issue every {days:.1f} days would be more often than weekly",
        "holds if twelve issues by that day are no more than one a week",
        {"days_an_issue": days},
    )
