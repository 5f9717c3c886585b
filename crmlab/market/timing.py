"""Will a customer buy within the next days? A probability for a window, scored on a later one; never a date."""

import datetime
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.special import logit

from crmlab.clv import BGNBD, states, summarize
from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.intervals import Z, wilson
from crmlab.lifecycle.churn import auc, calibration, difference
from crmlab.lifecycle.logs import checked
from crmlab.market.baskets import whole_numbers

KEY = ["frequency", "recency", "T"]
FEW = 20
"""With fewer customers who bought in the window, or who did not, nothing is learned from it."""


class NextPurchase(NamedTuple):
    """Probabilities of buying within a window, and how good they were.

    Attributes
    ----------
    probabilities : ibis.Table
        One row a customer: `customer_id` and the probability by model.
    scores : pandas.DataFrame or None
        By model: `auc` (how often a customer who bought had the higher probability than one who did not) and `brier`
        (mean squared error) with 95 % intervals, and `lead`, the AUC by which `logit` is ahead, with its interval.
        None where the window has not passed yet.
    calibration : pandas.DataFrame or None
        By model and tenth of the customers: mean `predicted` probability, `observed` share with its interval.
    facts : pandas.Series
        `cut`, last day that was used, `until`, last day of the window, `customers`; `bought`, how many of them did, the
        `base_rate` with `low`, `high` (of the training window where the window has not passed yet).
    """

    probabilities: ibis.Table
    scores: pd.DataFrame
    calibration: pd.DataFrame
    facts: pd.Series


def next_purchase(log, cut=None, window=30, minimum=4):
    r"""Predict for each customer the probability of a purchase in the days after a cut, and score it on those days.

    Five models, all of what is known at the cut: ``"BG/NBD"`` (from the purchase histories alone, it sees no window),
    and logits fitted on the window that ended at the cut, with what was known before it: ``"recency"`` (days since the
    last purchase), ``"frequency"`` (days of purchase), ``"gap"`` (days since the last purchase over the customer's
    mean gap), each a rule that shops use, and ``"logit"`` with all of these and BG/NBD's probability.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    cut : str or date, optional
        Last day that the prediction may see; the last day of the log by default, when nothing can be scored.
    window : int
        Days after the cut.
    minimum : int
        Customers with fewer days of purchase are left out; they have no gap below 2.

    Returns
    -------
    NextPurchase
        `probabilities`, `scores`, `calibration` and `facts`.

    Raises
    ------
    DataError
        A cut or window outside the log, or too few customers who bought in a window or did not.

    Notes
    -----
    With :math:`n` days of purchase, the last one :math:`r` days before the cut and the mean gap :math:`g`, ``"logit"``
    is linear in :math:`\ln n`, :math:`\ln(1+r)`, :math:`\ln g`, :math:`\ln(1+r/g)` and BG/NBD's log-odds. A date such
    as last purchase plus usual gap is not offered: for half of the customers it has passed. BG/NBD is that of Fader,
    Hardie and Lee (2005), Marketing Science 24(2), 275-284; intervals of the AUC and of differences are those of
    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837-845. The training window comes from another season
    than the window: `calibration` shows what that costs.

    Examples
    --------
    >>> found = next_purchase("cdnow_sample", cut="1998-03-31", window=60, minimum=3)
    >>> bool(found.scores.loc["logit", "auc"] > found.scores.loc["recency", "auc"])
    True
    """
    whole_numbers(window=(window, 1), minimum=(minimum, 2))
    loaded, first, last = checked(log)
    cut = last if cut is None else day_of("cut", cut)
    days = datetime.timedelta(days=int(window))
    if not (first + days < cut <= last) or (cut < last < cut + days):
        raise DataError(
            f"The log lasts from {first} to {last}: with a window of {window} days the cut must be the last day, or "
            f"lie between {first + 2 * days} and {last - days}, not {cut}."
        )
    log = loaded.rename(date="day")
    train, test = _snapshot(log, cut - days, days, minimum), _snapshot(log, cut, days, minimum, cut < last)
    for part, day in ((train, cut), (test, cut + days)):
        if "bought" in part and min(part["bought"].sum(), (part["weight"] - part["bought"]).sum()) < FEW:
            raise DataError(
                f"Of {part['weight'].sum():,} customers with at least {minimum} days of purchase, "
                f"{part['bought'].sum():,} bought in the {window} days until {day}: fewer than {FEW} did or did not. "
                "Take another window, or a smaller minimum."
            )
    columns = {"recency": ["r"], "frequency": ["n"], "gap": ["r/g"], "logit": ["n", "r", "g", "r/g", "BG/NBD"]}
    chances = {"BG/NBD": test["BG/NBD"].to_numpy()}
    for model, names in columns.items():
        chances[model] = _fit(train, names)(test)
    # Two of the models are named like columns of the summary.
    keys = {f"key {name}": name for name in KEY}
    scored = test[KEY].set_axis(list(keys), axis=1).assign(**chances)
    summary = summarize(log, "D", cut, cut).filter(_.frequency >= int(minimum) - 1)
    summary = summary.select("customer_id", **{key: _[name] for key, name in keys.items()})
    probabilities = summary.join(ibis.memtable(scored), list(keys)).select("customer_id", *chances)
    facts = {"cut": cut, "until": cut + days, "customers": int(test["weight"].sum())}
    known = test if "bought" in test else train
    base = [float(v) for v in wilson(known["bought"].sum(), known["weight"].sum())]
    facts |= {"bought": int(test["bought"].sum()) if "bought" in test else None}
    facts |= dict(zip(("base_rate", "low", "high"), base, strict=True))
    if "bought" not in test:
        return NextPurchase(probabilities, None, None, pd.Series(facts, dtype=object))
    each = {model: _each(test, chance) for model, chance in chances.items()}
    scores = pd.DataFrame({model: _scores(*pair, each["logit"][0]) for model, pair in each.items()}).T
    tenths = pd.concat({model: calibration(*pair) for model, pair in each.items()}, names=["model"])
    return NextPurchase(probabilities, scores.rename_axis("model"), tenths, pd.Series(facts, dtype=object))


def _snapshot(log, day, days, minimum, passed=True):
    """Distinct histories up to a day: customers, those who bought in the days after, and what the models use."""
    summary = summarize(log, "D", day, day + days if passed else day)
    fit = BGNBD().fit(states(summary))
    some = summary.filter(_.frequency >= int(minimum) - 1)
    counts = {"weight": some.count()}
    if passed:
        counts["bought"] = some.count(where=some.frequency_holdout > 0)
    table = some.group_by(KEY).aggregate(**counts).order_by(KEY).to_pandas()
    if not len(table):
        raise DataError(f"Nobody had bought on {minimum} days by {day}: take a smaller minimum.")
    chance = 1 - fit.predict(table.assign(unit="D"), horizon=float(days.days))["p_no_purchase"]
    table = table.assign(**{"BG/NBD": chance.to_numpy()})
    since, gap = table["T"] - table["recency"], table["recency"] / table["frequency"]
    logs = {"n": np.log1p(table["frequency"]), "r": np.log1p(since), "g": np.log(gap), "r/g": np.log1p(since / gap)}
    return table.assign(**logs)


def _inputs(table, names):
    """Columns of a logit; BG/NBD's probability as log-odds."""
    x = table[names].copy()
    if "BG/NBD" in x:
        x["BG/NBD"] = logit(x["BG/NBD"].clip(1e-9, 1 - 1e-9))
    return x


def _fit(train, names):
    """Fit a logit to the training window and return what predicts with it."""
    from sklearn.linear_model import LogisticRegression

    x = _inputs(train, names)
    middle, width = x.mean(), x.std().where(lambda v: v > 0, 1.0).fillna(1.0)
    twice = np.tile(((x - middle) / width).to_numpy(), (2, 1))
    outcome = np.repeat([1, 0], len(x))
    weight = np.concatenate([train["bought"], train["weight"] - train["bought"]])
    # Hardly any shrinkage: enough that a rule which tells exactly who bought has a finite slope.
    model = LogisticRegression(C=1e4, max_iter=1000).fit(twice, outcome, weight)
    return lambda new: model.predict_proba(((_inputs(new, names) - middle) / width).to_numpy())[:, 1]


def _each(test, chance):
    """Probability and outcome of each customer, from the distinct histories."""
    bought, others = test["bought"].to_numpy(), (test["weight"] - test["bought"]).to_numpy()
    p = np.concatenate([np.repeat(chance, bought), np.repeat(chance, others)])
    return p, np.repeat([1, 0], [bought.sum(), others.sum()])


def _scores(p, y, best):
    brier = (p - y) ** 2
    half = Z * brier.std() / np.sqrt(len(brier))
    found = auc(p, y).to_dict() | {"brier": brier.mean(), "brier_low": brier.mean() - half}
    found |= {"brier_high": brier.mean() + half}
    lead = difference(best, p, y).loc["auc"]
    return found | {"lead": lead["difference"], "lead_low": lead["low"], "lead_high": lead["high"]}
