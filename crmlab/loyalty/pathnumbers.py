"""Published numbers of path models, computed anew; `crmlab.loyalty.reproduce` collects them."""

from crmlab import data
from crmlab.loyalty.composites import SCHEMES
from crmlab.loyalty.moderation import moderate
from crmlab.loyalty.pathmodel import PathModel

ECSI = """EXPECTATION ~ IMAGE
QUALITY ~ EXPECTATION
VALUE ~ EXPECTATION + QUALITY
SATISFACTION ~ IMAGE + EXPECTATION + QUALITY + VALUE
COMPLAINTS ~ SATISFACTION
LOYALTY ~ IMAGE + SATISFACTION + COMPLAINTS"""
"""Paths of the European Customer Satisfaction Index."""

ACSI = """QUALITY ~ EXPECTATION
VALUE ~ EXPECTATION + QUALITY
SATISFACTION ~ EXPECTATION + QUALITY + VALUE
COMPLAINT ~ SATISFACTION
LOYALTY ~ SATISFACTION + COMPLAINT"""
"""Paths of the American Customer Satisfaction Index."""

REPUTATION = """COMPETENCE ~ QUALITY + PERFORMANCE + RESPONSIBILITY + ATTRACTIVENESS
LIKEABILITY ~ QUALITY + PERFORMANCE + RESPONSIBILITY + ATTRACTIVENESS
SATISFACTION ~ COMPETENCE + LIKEABILITY
LOYALTY ~ COMPETENCE + LIKEABILITY + SATISFACTION + SWITCHING_COST"""
"""Paths of the corporate-reputation model with switching cost; its first four constructs are of Mode B."""

FORMATIVE = dict.fromkeys(("QUALITY", "PERFORMANCE", "RESPONSIBILITY", "ATTRACTIVENESS"), "B")


def under(prefix, numbers):
    """Return numbers by name with a prefix before their names.

    Parameters
    ----------
    prefix : str
        What is put before, with a point between.
    numbers : mapping or pandas.Series
        Numbers by name.

    Returns
    -------
    dict
        The numbers by their longer names.

    Examples
    --------
    >>> under("mobi.alpha", {"Image": 0.72})
    {'mobi.alpha.Image': 0.72}
    """
    return {f"{prefix}.{name}": value for name, value in dict(numbers).items()}


def mobile_phones():
    """Return the numbers on the ECSI survey of mobile phones.

    Returns
    -------
    dict
        Numbers by name.
    """
    survey, found = data.load("mobi").to_pandas(), {}
    for scheme in SCHEMES:
        fit = PathModel("mobi", ECSI, scheme=scheme).fit(survey)
        total = fit.effects["total"]
        found |= under(f"mobi.paths.{scheme}", {f"{a}_{b}": v for (a, b), v in fit.paths["path"].items()})
        found |= under(f"mobi.total.{scheme}", {f"{a}_{b}": v for (a, b), v in total.items()})
        found |= under(f"mobi.weights.{scheme}", fit.weights.droplevel("construct"))
        found |= under(f"mobi.loadings.{scheme}", fit.loadings.droplevel("construct"))
    fit = PathModel("mobi", ECSI).fit(survey)
    found |= under("mobi.path_r2", fit.r2.drop("COMPLAINTS"))
    for measure in ("rho_a", "rho_c", "ave"):
        found |= under(f"mobi.{measure}", fit.reliability[measure].dropna())
    simple = "SATISFACTION ~ IMAGE + EXPECTATION + VALUE"
    consistent = PathModel("mobi", simple, scheme="factorial", consistent=True).fit(survey)
    found |= under("mobi.simple_consistent", consistent.paths["path"].droplevel("outcome"))
    return found | under("mobi.simple_r2", PathModel("mobi", simple).fit(survey).r2)


def corporate_reputation():
    """Return the numbers on the survey of corporate reputation.

    Returns
    -------
    dict
        Numbers by name.
    """
    survey, name = data.load("corporate_reputation").to_pandas(), "corporate_reputation"
    model = PathModel(
        name, "SATISFACTION ~ COMPETENCE + LIKEABILITY; LOYALTY ~ COMPETENCE + LIKEABILITY + SATISFACTION"
    )
    fit = model.fit(survey)
    cost = PathModel(name, REPUTATION, modes=FORMATIVE)
    # The coefficients need no resamples.
    found = moderate(cost, survey, "SATISFACTION", "SWITCHING_COST", "LOYALTY", replicates=2, seed=1)
    effect = found.table["estimate"]
    return {
        **under(f"{name}.paths", {f"{a}_{b}": v for (a, b), v in fit.paths["path"].items()}),
        **under(f"{name}.r2", fit.r2),
        **under(f"{name}.moderation", effect[["SATISFACTION", "SWITCHING_COST"]]),
        f"{name}.moderation.interaction": effect["SATISFACTION x SWITCHING_COST"],
        f"{name}.moderation.r2": found.fit["r2"],
    }


def industries():
    """Return the numbers on the American survey of four industries, where a copy of it lies in the data folder.

    Returns
    -------
    dict
        Numbers by name.
    """
    if not data.present("acsi_2015"):
        return {}
    survey, found = data.load("acsi_2015").to_pandas(), {}
    for industry, code in {"airline": 3003, "bank": 5001, "food": 1001, "internet": 3013}.items():
        fit = PathModel("acsi_2015", ACSI, missing="listwise").fit(survey[survey["INDUSTRY"] == code])
        found[f"acsi_2015.path.{industry}"] = fit.params["SATISFACTION -> LOYALTY"]
        found[f"acsi_2015.path_r2.{industry}"] = fit.r2["LOYALTY"]
        found[f"acsi_2015.complete.{industry}"] = fit.nobs
    return found


PARTS = [("mobi.", mobile_phones), ("corporate_reputation.", corporate_reputation), ("acsi_2015.", industries)]
"""What names begin with, and the function that computes them."""
