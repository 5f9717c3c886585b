"""Numbers of the book company's case: own references of its simulation, and the real data that it is held against."""

import numpy as np

from crmlab import data
from crmlab.cases.deals import band_rates, discount_shares, later_spend_by_share
from crmlab.cases.grading import deciders, grade
from crmlab.cases.longzhiji import Assumptions, simulate_longzhiji
from crmlab.cases.recovery import school_accounts
from crmlab.cases.routes import compare_routes, entry_barrier


def longzhiji():
    """Return the own references of the simulation: routes, Xinjiang, entry barrier, what the accounts find.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`.

    Examples
    --------
    >>> float(round(longzhiji()["longzhiji.barrier.seasons_0"], 4))
    0.3533
    """
    means = compare_routes(routes=("price", "service", "nothing")).groupby("route").mean()
    war = compare_routes(routes=("mixed",), by="region").xs("Xinjiang", level="region").mean()
    barrier = entry_barrier([0.3], [0, 2], Assumptions(schools=1))["barrier"].droplevel("offer")
    firm, goods = simulate_longzhiji(), Assumptions().goods
    early, late = school_accounts(firm, goods, 0, 7), school_accounts(firm, goods, 8)
    loyal = early.index[early["bought"] >= 0.8]
    losers = grade(late.loc[loyal, "contribution"] < 0, early.loc[loyal, "contribution"] < 0)["value"]
    return {
        **{f"longzhiji.stays.{route}": means.loc[route, "stays"] for route in means.index},
        **{f"longzhiji.margin.{route}": means.loc[route, "margin"] for route in means.index},
        **{f"longzhiji.xinjiang.{name}": war[name] for name in ("stays", "share")},
        **{f"longzhiji.barrier.seasons_{k}": value for k, value in barrier.items()},
        **{f"longzhiji.losers.{name}": losers[name] for name in ("precision", "recall")},
    }


def complete_journey_deals():
    """Return later for earlier spending of the Complete Journey's households by their share of discounts.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`.

    Examples
    --------
    >>> float(round(complete_journey_deals()["complete_journey_deals.trend.rank_correlation"], 3))
    -0.03
    """
    spent = discount_shares("complete_journey", ["retail_disc", "coupon_disc", "coupon_match_disc"]).to_pandas()
    spent = spent.sort_values("customer_id")
    ratio = later_spend_by_share(spent["share"], spent["before"], spent["after"], n_boot=1)["ratio"]
    trend = deciders(spent[["share"]], spent["after"] / spent["before"]).loc["share", "correlation"]
    return {
        **{f"complete_journey_deals.ratio.fifth_{number}": value for number, value in ratio.items()},
        "complete_journey_deals.trend.rank_correlation": trend,
    }


def charles_book_club():
    """Return the share of the Charles Book Club's customers who bought the art book, by related books bought before.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`.

    Examples
    --------
    >>> charles_book_club()["charles_book_club.responses.all"]
    338
    """
    club = data.load("charles_book_club").to_pandas()
    found = band_rates(club["Related Purchase"], club["Florence"], [-1, 0, 1, 2, np.inf])["rate"]
    rates = dict(zip(("none", "one", "two", "more"), found, strict=True))
    return {
        "charles_book_club.responses.all": int(club["Florence"].sum()),
        **{f"charles_book_club.rate.{name}": value for name, value in rates.items()},
    }


SUBJECTS = {
    "longzhiji": longzhiji,
    "complete_journey_deals": complete_journey_deals,
    "charles_book_club": charles_book_club,
}
"""What can be computed; none needs a download: simulated, or carried by a package that is installed."""
