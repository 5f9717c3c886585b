"""Every published number on the customer life cycle, computed anew."""

import ibis
import pandas as pd
from ibis import _
from sklearn.metrics import brier_score_loss, roc_auc_score

from crmlab import data
from crmlab.data.intervals import Z
from crmlab.data.targets import chosen
from crmlab.lifecycle.activity import orders_of_known
from crmlab.lifecycle.churn import auc, churn_models, temporal_split
from crmlab.lifecycle.contracts import read_contracts, snapshots
from crmlab.lifecycle.durations import cumulative_incidence, survival, survival_at
from crmlab.lifecycle.hazards import cox
from crmlab.lifecycle.shares import concentration, concentration_growth
from crmlab.lifecycle.triangles import retention

# Weeks in remission of Freireich et al. (1963), as every textbook prints them; + is a patient still in remission.
REMISSION = {
    "drug": "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+",
    "placebo": "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23",
}


def reproduce(subjects=None):
    """Return the numbers of ``data/published/lifecycle.toml``, computed from the data that they were published for.

    Parameters
    ----------
    subjects : list of str, optional
        The data sets to compute: ``"freireich"``, ``"rossi"``, ``"telco_churn"``, ``"iranian_churn"``,
        ``"us_life_lapse"``, ``"cdnow"``, ``"complete_journey"``, ``"online_retail_two_years"``. All of them by default.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`, ready for `crmlab.data.compare_published`. Sets that have to
        be fetched (rossi, telco_churn, iranian_churn, us_life_lapse, online_retail_two_years) are left out where they
        are not on this machine.

    Raises
    ------
    DataError
        When a subject is none of the above.

    Examples
    --------
    >>> table = data.compare_published("lifecycle", reproduce(["freireich"]))
    >>> set(table["verdict"])
    {'reproduced'}
    """
    names = chosen(SUBJECTS, subjects, always=["freireich"])
    return {target: float(number) for name in names for target, number in SUBJECTS[name]().items()}


def remission():
    """Return the 42 patients of Freireich et al. (1963): arm, weeks in remission, and whether it ended.

    Returns
    -------
    pandas.DataFrame
        `arm` (drug 6-MP or placebo), `weeks`, `relapse` (0: still in remission when the study ended).

    Examples
    --------
    >>> remission().groupby("arm")["relapse"].sum().to_dict()
    {'drug': 9, 'placebo': 21}
    """
    rows = [(arm, int(w.rstrip("+")), int("+" not in w)) for arm, weeks in REMISSION.items() for w in weeks.split()]
    return pd.DataFrame(rows, columns=["arm", "weeks", "relapse"])


def _freireich():
    table = remission().assign(treated=lambda d: (d["arm"] == "drug").astype(int))
    found = survival(table, "weeks", "relapse", by="arm")
    drug = found.curve.loc["drug", "survival"]
    efron, breslow = (cox(table, "~ treated", "weeks", "relapse", ties=ties) for ties in ("efron", "breslow"))
    return {
        **{f"freireich.kaplan_meier.week{w}": drug[w] for w in (6, 7, 10, 13, 16, 22, 23)},
        **{f"freireich.median.{arm}": value for arm, value in found.summary["median"].items()},
        "freireich.logrank.statistic": found.logrank["statistic"],
        **{f"freireich.cox.efron.{k}": efron.table[k].item() for k in ("coef", "se", "hazard_ratio")},
        "freireich.cox.efron.llf": efron.likelihood["llf"],
        "freireich.cox.breslow.hazard_ratio": breslow.table["hazard_ratio"].item(),
        "freireich.cox.breslow.llf": breslow.likelihood["llf"],
        "freireich.cox.breslow.null.llf": breslow.likelihood["llf_null"],
    }


def _rossi():
    prisoners = data.open_dataset("rossi")
    found = cox(prisoners, "~ fin + age + race + wexp + mar + paro + prio", "week", "arrest")
    fewer = cox(prisoners, "~ fin + age + prio", "week", "arrest").proportionality
    return {
        **{f"rossi.cox.{name}.{term}": v for name in ("coef", "se") for term, v in found.table[name].items()},
        **{f"rossi.cox.likelihood.{name}": found.likelihood[name] for name in ("llf", "statistic")},
        "rossi.cox.concordance.value": found.concordance["concordance"],
        "rossi.cox.concordance.se": (found.concordance["high"] - found.concordance["low"]) / 2 / Z,
        **{
            f"rossi.zph.{column}.{term.lower()}": value
            for column in ("rho", "statistic", "p_value")
            for term, value in fewer[column].dropna().items()
        },
    }


def _telco():
    table = data.open_dataset("telco_churn").rename(left="Churn")
    curve = survival(table, "tenure", "left").curve
    monthly = table.filter((_.Contract == "Month-to-month") & (_.InternetService != "No"))
    internet = survival(monthly, "tenure", "left").summary.iloc[0]
    customers = table.to_pandas()
    # Blank for the eleven customers who have not had a month yet.
    customers["TotalCharges"] = pd.to_numeric(customers["TotalCharges"].str.strip(), errors="coerce").fillna(0.0)
    # Predictions for the training data come from fits to the other four fifths.
    folds = churn_models(customers, customers, "left", [c for c in customers if c not in ("customer_id", "left")])
    left = customers["left"].astype(int)
    scores = {}
    for name, p in folds.training.items():
        scores[f"telco_churn.{name}.auc"] = roc_auc_score(left, p)
        scores[f"telco_churn.{name}.brier"] = brier_score_loss(left, p)
        scores[f"telco_churn.{name}.top.lift"] = left[p.rank(ascending=False) <= len(left) / 10].mean() / left.mean()
    return {
        **{
            f"telco_churn.kaplan_meier.{column}_month{month}": curve.loc[month, column]
            for column in ("survival", "low", "high")
            for month in (12, 24, 72)
        },
        **{f"telco_churn.monthly_internet.{name}": internet[name] for name in ("customers", "events", "median")},
        **scores,
    }


def _iranian():
    contracts = read_contracts("iranian_churn")
    table = contracts.table.rename(columns={"duration": "tenure"}).drop_duplicates()
    features = ["tenure", *contracts.features]
    folds = churn_models(table, table, "left", features).training
    status = churn_models(table, table, "left", [*features, "Status"]).training["logit"]
    return {
        **{f"iranian_churn.{name}.auc": auc(p, table["left"])["auc"] for name, p in folds.items()},
        "iranian_churn.status.logit": auc(status, table["left"])["auc"],
    }


def _us_life_lapse():
    contracts = read_contracts("us_life_lapse")
    table, quarters = contracts.table, [40]
    incidence = cumulative_incidence(table, "duration", "cause", contracts.still)
    alone = survival(table, "duration", "left").curve
    half = pd.Timedelta(days=182)
    known = snapshots(contracts, [contracts.end - 2 * half, contracts.end - half], half.days)
    train, test, _aside = temporal_split(known, "day", contracts.end - half, half.days)
    features = ["tenure", *contracts.features]
    models = {
        "honest": churn_models(train, test, "left", features),
        "leak": churn_models(train, test, "left", [*features, "stock_index"], accept=["stock_index"]),
    }
    return {
        "us_life_lapse.incidence.surrender": survival_at(incidence.loc["surrender"], quarters)["incidence"].item(),
        "us_life_lapse.incidence.one_minus_km": 1 - survival_at(alone, quarters)["survival"].item(),
        **{
            f"us_life_lapse.{kind}.{name}": found.scores.loc[name, "auc"]
            for kind, found in models.items()
            for name in ("logit", "boosting")
        },
    }


def _shares(name, revenue):
    table = concentration(revenue, n_boot=0)["value"]
    return {f"{name}.concentration.top20": table["top share"], f"{name}.concentration.gini": table["gini"]}


def _paid(log):
    return log.group_by("customer_id").aggregate(paid=_.amount.sum()).order_by("customer_id").to_pandas()["paid"]


def _cdnow():
    paid = _paid(data.open_dataset("cdnow"))
    quarter = orders_of_known("cdnow", "Q", left_truncated=False).loc["1998-04-01"]
    growth = concentration_growth("cdnow", [273], n_boot=0)["value"]
    return {
        **_shares("cdnow", paid[paid > 0]),
        "cdnow.concentration.top20_39_weeks": growth.loc[(273, "top share")],
        "cdnow.second_quarter_1998.repeat_orders": quarter["repeat_share"],
        "cdnow.second_quarter_1998.retention": quarter["retention"],
    }


def _complete_journey():
    return _shares("complete_journey", _paid(data.open_dataset("complete_journey")))


def _online_retail():
    log = data.open_dataset("online_retail_two_years").filter(
        _.customer_id.notnull() & (_.quantity > 0) & (_.unit_price > 0)
    )
    # Both years run from December, so that a month later they are calendar years.
    shifted = log.filter(_.date < ibis.timestamp("2011-12-01")).mutate(date=_.date + ibis.interval(months=1))
    years = orders_of_known(shifted, "Y", observation_end="2011-12-31").loc["2011-01-01"]
    calendar = orders_of_known(log, "Y", observation_end="2011-12-31").loc["2011-01-01"]
    return {
        **_shares("online_retail_two_years", _paid(log)),
        "online_retail_two_years.repeat_orders.year_2011": calendar["repeat_share"],
        "online_retail_two_years.retention.second_year": years["retention"],
        "online_retail_two_years.retention.month1": retention(log, "M").loc[1, "retention"],
    }


SUBJECTS = {
    "freireich": _freireich,
    "rossi": _rossi,
    "telco_churn": _telco,
    "iranian_churn": _iranian,
    "us_life_lapse": _us_life_lapse,
    "cdnow": _cdnow,
    "complete_journey": _complete_journey,
    "online_retail_two_years": _online_retail,
}
