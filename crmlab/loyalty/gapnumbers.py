"""Published numbers on gap and decision, computed anew; `crmlab.loyalty.reproduce` collects them."""

import numpy as np
import pandas as pd

from crmlab import data
from crmlab.loyalty.behaviour import brand_choice
from crmlab.loyalty.gap import curve
from crmlab.loyalty.importance import drivers
from crmlab.loyalty.ordinal import ordered
from crmlab.loyalty.quadrants import cells, dick_basu
from crmlab.loyalty.tolerance import price_tolerance

INDUSTRIES = {1001: "food", 3003: "airline", 3013: "internet", 5001: "bank"}
VISITS = ("Never", "Once a year", "Every three months", "Once a month", "Once a week", "More than once a week")
HOUSING = {
    "Infl": ("Low", "Medium", "High"),
    "Type": ("Tower", "Apartment", "Atrium", "Terrace"),
    "Cont": ("Low", "High"),
}
"""Answers in their order; the first is what the others are compared with."""


def housing():
    """Return the ordered logit of satisfaction with housing (MASS).

    Returns
    -------
    dict
        Numbers by name; none where the data are not on this machine.
    """
    if not data.present("mass_housing"):
        return {}
    table = data.load("mass_housing").to_pandas()
    table = table.assign(**{c: pd.Categorical(table[c], levels) for c, levels in HOUSING.items()})
    found = ordered(table, "Sat ~ Infl + Type + Cont", levels=("Low", "Medium", "High"), weights="Freq")
    short = [term.split("[")[0] + term.split("T.")[1].rstrip("]") for term in found.table.index]
    return {
        **{f"mass_housing.ordered.{t}": v for t, v in zip(short, found.table["coef"], strict=True)},
        **{f"mass_housing.ordered.cut{k}": v for k, v in enumerate(found.thresholds["cut"], 1)},
        "mass_housing.fit.aic": found.fit["aic"],
    }


def customer_sat():
    """Return the drivers of the satisfaction of advertisers (bayesm).

    Returns
    -------
    dict
        Numbers by name; none where the data are not on this machine.
    """
    if not data.present("bayesm_customer_satisfaction"):
        return {}
    table = data.load("bayesm_customer_satisfaction").to_pandas()
    found = drivers(table, "q1", [f"q{k}" for k in range(2, 11)], n_boot=0)
    name = "bayesm_customer_satisfaction"
    return {
        f"{name}.drivers.r2": found.fit["r2"],
        f"{name}.beta.q9": found.table.loc["q9", "beta"],
        **{f"{name}.shapley.{q}": v for q, v in found.table["shapley"].items()},
        **{f"{name}.johnson.{q}": v for q, v in found.table["johnson"].items()},
    }


def acsi():
    """Return the gap between satisfaction and loyalty in four industries (ACSI 2015).

    Returns
    -------
    dict
        Numbers by name; none where the data are not on this machine.
    """
    if not data.present("acsi_2015"):
        return {}
    table = data.load("acsi_2015").to_pandas()
    table["industry"] = table["INDUSTRY"].map(INDUSTRIES)
    for item in ("SATIS", "REPUR"):
        table[item] = table[item].astype(float).replace({98: np.nan, 99: np.nan})
    shape = curve(table, "SATIS", "REPUR", top=9, by="industry", n_boot=0)
    lines = shape.models["lack_of_fit"].xs(("mean", "straight"), level=("outcome", "shape"))
    numbers = {
        **{f"acsi_2015.top{s}.{g}": shape.scores.loc[(g, s), "top"] for g in lines.index for s in (8, 9, 10)},
        "acsi_2015.lack_of_fit.airline": lines["airline"],
        "acsi_2015.lack_of_fit.food": lines["food"],
        **{f"acsi_2015.lack_of_fit.log10.{g}": np.log10(p) for g, p in lines.items() if g in ("bank", "internet")},
    }
    for cut in (7, 8, 9):
        within = cells(table, "SATIS", "REPUR", cut, by="industry").shares["within"].unstack()
        numbers |= {f"acsi_2015.defectors{cut}.{g}": v for g, v in within["satisfied defectors"].items()}
        numbers |= {f"acsi_2015.captives{cut}.{g}": v for g, v in within["captives"].items()}
    for g, part in table.groupby("industry"):
        found = price_tolerance(
            part, "SATIS", "HIGHPTOL", "REPUR", 6, more=26, no_answer=(98, 99), unclear=(101,), bands=(1, 9), n_boot=0
        )
        rho = found.association["spearman"]
        numbers[f"acsi_2015.tolerance.numbers.{g}"] = rho["gave a number"]
        numbers[f"acsi_2015.tolerance.unclear_on_top.{g}"] = rho["unclear code on top"]
        lost = found.lost.loc[("9 and more", "asked", 5)]
        for name in ("best", "answers_only", "unclear_stay", "worst"):
            numbers[f"acsi_2015.lost_at_5.{name}.{g}"] = lost[name]
    return numbers


def fast_food():
    """Return attitude and stated frequency of the guests of McDonald's.

    Returns
    -------
    dict
        Numbers by name; none where the data are not on this machine.
    """
    if not data.present("mcdonalds"):
        return {}
    table = data.load("mcdonalds").to_pandas()
    found = dick_basu(table, "Like", "VisitFrequency", (2, "Once a month"), levels={"VisitFrequency": VISITS})
    share = found.grid.loc["all"]["share"].unstack("cell").loc[(slice(1, 3), list(VISITS[2:5])), :]
    names = {"loyalty": "true", "latent loyalty": "latent", "spurious loyalty": "spurious"}
    visits = table["VisitFrequency"].map({v: k for k, v in enumerate(VISITS)})
    return {
        "mcdonalds.attitude.spearman": table["Like"].corr(visits, method="spearman"),
        **{f"mcdonalds.smallest.{short}": share[cell].min() for cell, short in names.items()},
        **{f"mcdonalds.largest.{short}": share[cell].max() for cell, short in names.items()},
        **{f"mcdonalds.middle.{cell.replace(' ', '_')}": v for cell, v in found.shares.loc["all", "share"].items()},
    }


def orange_juice():
    """Return how brand loyalty and price decide a purchase of orange juice.

    Returns
    -------
    dict
        Numbers by name; none where the data are not on this machine.
    """
    if not data.present("oj"):
        return {}
    found = brand_choice(data.load("oj").to_pandas(), "bought", "LoyalCH", "PriceDiff")
    coef = found.table.loc["loyalty + price", "coef"]
    sides = ("dearer", "same", "cheaper")
    return {
        **{f"oj.logit.{term}": coef[term] for term in ("loyalty", "price")},
        **{f"oj.share.fourth{k}.{s}": found.shares.loc[(k, s), "share"] for k in (1, 2, 4) for s in sides},
    }


PARTS = [
    ("mass_housing.", housing),
    ("bayesm_customer_satisfaction.", customer_sat),
    ("acsi_2015.", acsi),
    ("mcdonalds.", fast_food),
    ("oj.", orange_juice),
]
"""What the names of a part begin with, and the function that computes them."""
