"""Published numbers of the measurement, computed anew; `crmlab.loyalty.reproduce` collects them."""

import itertools
import warnings

import numpy as np

from crmlab import data
from crmlab.loyalty import questionnaire
from crmlab.loyalty.consistency import reliability
from crmlab.loyalty.discriminant import htmt
from crmlab.loyalty.factors import cfa, factor_coefficients, invariance, one_or_two_factors, single_group
from crmlab.loyalty.moments import complete
from crmlab.loyalty.pathmodel import PathModel
from crmlab.loyalty.pathnumbers import ACSI, under
from crmlab.loyalty.scoring import index_score, nps

FIT = ["chi2", "df", "cfi", "tli", "rmsea", "rmsea_low", "rmsea_high", "srmr", "aic", "bic", "llf"]


def mobile_phones():
    """Return the numbers on the ECSI survey of mobile phones.

    Returns
    -------
    dict
        Numbers by name.
    """
    survey = data.load("mobi").to_pandas()
    asked = questionnaire.spec("mobi")
    several = {name: items for name, items in asked.constructs.items() if len(items) > 1}
    with warnings.catch_warnings():
        # That its constructs correlate impossibly is what lavaan finds too.
        warnings.simplefilter("ignore", RuntimeWarning)
        model = cfa(survey, asked)
    alpha = reliability(survey, asked, replicates=0)["estimate"].unstack()
    ratios = htmt(survey, asked, list(several), replicates=0)
    single = model.loadings.droplevel("construct")
    short = several["SATISFACTION"], ("CUSL1", "CUSL3")
    return {
        **under("mobi.cfa", model.fit[FIT]),
        "mobi.cfa.exact.chi2": model.fit["chi2"],
        **under("mobi.cfa.std", single["std"]),
        **under("mobi.cfa.se", single["se"]),
        **under("mobi.cfa.z", single["z"]),
        **under("mobi.cfa.r", _pairs(model.correlations["r"])),
        **_lavaan_reliability("mobi.cfa", survey, asked, several),
        **under("mobi.alpha_raw", alpha["alpha_raw"].drop("VALUE")),
        **under("mobi.alpha_std", alpha["alpha_std"]),
        **under("mobi.htmt", _pairs(ratios["htmt"])),
        **under("mobi.htmt2", _pairs(ratios["htmt2"])),
        **_two_factors("mobi.two", survey, asked, ["SATISFACTION", "LOYALTY"]),
        **_two_factors("mobi.two_short", survey, asked, dict(zip(["SATISFACTION", "LOYALTY"], short, strict=True))),
        "mobi.nps.recommend": nps(survey, asked, "CUSL3")["nps"].iloc[0],
    }


def corporate_reputation():
    """Return the numbers on the survey of corporate reputation.

    Returns
    -------
    dict
        Numbers by name.
    """
    survey = data.load("corporate_reputation").to_pandas()
    asked = questionnaire.spec("corporate_reputation")
    chosen = ["COMPETENCE", "LIKEABILITY", "SWITCHING_COST", "LOYALTY"]
    model = cfa(survey, asked, chosen)
    # The peers put the mean in the place of missing answers.
    answers = asked.prepare(survey)
    filled = answers.fillna(answers.mean())
    ratios = htmt(filled, asked, ["COMPETENCE", "LIKEABILITY", "SATISFACTION", "LOYALTY"], replicates=0)["htmt"]
    alpha = reliability(filled, asked, ["LOYALTY"], replicates=0)["estimate"]
    return {
        **under("corporate_reputation.cfa", model.fit[FIT]),
        "corporate_reputation.cfa.complete": model.nobs.sum(),
        **under("corporate_reputation.cfa.r", _pairs(model.correlations["r"])),
        **_lavaan_reliability(
            "corporate_reputation.cfa", survey, asked, {name: asked.constructs[name] for name in chosen}
        ),
        "corporate_reputation.alpha_std.LOYALTY": alpha["LOYALTY", "alpha_std"],
        "corporate_reputation.htmt.SATISFACTION_LOYALTY": ratios["SATISFACTION", "LOYALTY"],
        "corporate_reputation.htmt.LIKEABILITY_LOYALTY": ratios["LIKEABILITY", "LOYALTY"],
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
    survey, asked = data.load("acsi_2015").to_pandas(), questionnaire.spec("acsi_2015")
    chosen = ["EXPECTATION", "QUALITY", "VALUE", "SATISFACTION"]
    # The published numbers rest on those who also answered the question on buying again.
    again = survey[asked.prepare(survey, ["REPUR"])["REPUR"].notna()]
    model = cfa(again, asked, chosen)
    steps = invariance(again, asked, "INDUSTRY", chosen)
    ratios = _pairs(htmt(again, asked, chosen, replicates=0)["htmt"])
    # Printed with three digits only.
    value = ratios.pop("EXPECTATION_VALUE")
    found = {
        "acsi_2015.cfa.complete": model.nobs.sum(),
        **under("acsi_2015.cfa", model.fit[["chi2", "df"]]),
        **under("acsi_2015.cfa.indices", model.fit[["cfi", "tli", "rmsea", "srmr"]]),
        **under("acsi_2015.invariance.cfi", steps["cfi"]),
        **under("acsi_2015.invariance.rmsea", steps["rmsea"]),
        **under("acsi_2015.htmt", ratios),
        "acsi_2015.htmt.rounded.EXPECTATION_VALUE": value,
    }
    labels = questionnaire.groups_of(survey, asked, "INDUSTRY")
    for industry in ("airline", "bank", "food", "internet provider"):
        part = survey[labels == industry]
        weights = PathModel(asked, ACSI, missing="listwise").fit(part).unscaled_weights
        weights = weights.droplevel("construct")[list(asked.constructs["SATISFACTION"])]
        part = part[asked.prepare(part).notna().all(axis=1)]
        score = index_score(part, asked, "SATISFACTION", weights=weights)["score"].iloc[0]
        found[f"acsi_2015.index.{industry.split()[0]}"] = score
    return found


def _two_factors(prefix, survey, asked, chosen):
    """A model of satisfaction and loyalty, its test against one factor, and their ratio."""
    model = cfa(survey, asked, chosen)
    items = model.loadings.droplevel("construct")["std"]
    spec = questionnaire.SurveySpec(constructs=model.constructs, scale=asked.scale)
    test = one_or_two_factors(survey, spec).loc["difference"]
    return {
        **under(prefix, model.fit[FIT]),
        **under(f"{prefix}.std", items),
        f"{prefix}.r.SATISFACTION_LOYALTY": model.correlations["r"].iloc[0],
        f"{prefix}.htmt.SATISFACTION_LOYALTY": htmt(survey, spec, replicates=0)["htmt"].iloc[0],
        **under(f"{prefix}.difference", test[["chi2", "df", "p"]]),
    }


def _lavaan_reliability(prefix, survey, asked, chosen):
    """Omega over the observed variance of the sum, and the variance extracted of the unstandardized items."""
    frame = complete(survey, asked, list(itertools.chain(*chosen.values())))
    layout, scale, theta, _ = single_group(frame, chosen)
    found = factor_coefficients(theta, layout, scale)
    omega, ave = {}, {}
    for j, (name, items) in enumerate(chosen.items()):
        place = [frame.columns.get_loc(item) for item in items]
        common = (theta[0, layout.loadings[place, j]] * scale[place]).sum() ** 2
        omega[name] = common / np.cov(frame.to_numpy()[:, place], rowvar=False, bias=True).sum()
        ave[name] = found["ave_raw"][0, j]
    return under(f"{prefix}.omega_observed", omega) | under(f"{prefix}.ave_raw", ave)


def _pairs(series):
    return {f"{one}_{other}": value for (one, other), value in series.items()}


PARTS = [("mobi.", mobile_phones), ("corporate_reputation.", corporate_reputation), ("acsi_2015.", industries)]
"""What names begin with, and the function that computes them."""
