"""What behaviour says: how brand loyalty and price together decide a purchase, on scanner data."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm, rankdata

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z, wilson
from crmlab.loyalty.gap import logits
from crmlab.loyalty.samples import numbers, table_of, varied

SPECS = {
    "share only": [],
    "price": ["price"],
    "loyalty": ["loyalty"],
    "loyalty + price": ["loyalty", "price"],
    "loyalty × price": ["loyalty", "price", "loyalty × price"],
}
"""Terms of the models that are compared."""


class Choice(NamedTuple):
    """What decides a purchase.

    Attributes
    ----------
    table : pandas.DataFrame
        By model and term: `coef`, its standard error `se`, `odds_ratio` of one unit with its 95 % interval `low`,
        `high`, `p_value`; with the interaction, loyalty and price count from their means.
    scores : pandas.DataFrame
        By model, on later purchases (without a cut, missing): `purchases`, `brier`, `log_loss`, `auc`, and `better` (by
        how much the Brier score is below that of the share alone) with its 95 % interval `better_low`, `better_high`.
    shares : pandas.DataFrame
        By fourth of loyalty (1 the least loyal) and side of price: `purchases`, `share` that bought and its Wilson
        interval `low`, `high`, and the largest `loyalty` of the fourth.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    shares: pd.DataFrame


def brand_choice(data, bought, loyalty, price, when=None, cut=None, households=None):
    r"""Explain purchases of a brand by past loyalty to it and by its price advantage, and test that on later purchases.

    :math:`\operatorname{logit} P(\text{bought}) = \beta_0 + \beta_1 \text{loyalty} + \beta_2 \text{price}
    (+ \beta_3 \text{loyalty} \cdot \text{price})`.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a purchase in the category.
    bought : str
        Column that is 1 (or true) where the brand was bought, 0 where another one was.
    loyalty : str
        Column with loyalty before the purchase, for example the smoothed share of earlier purchases.
    price : str
        Column with the price advantage: price of the other brand less that of this one.
    when, cut : str and number, optional
        Column with the time and the first time of the test; the models are fitted to what came before.
    households : str, optional
        Column whose rows of one value belong together; the intervals then allow for that (`purchase_runs`).

    Returns
    -------
    Choice
        Its `table`, `scores`, `shares`.

    Raises
    ------
    DataError
        Columns that are lacking or constant, a brand always or never bought, a cut with nothing before or after it,
        purchases that loyalty or price separate exactly.

    Notes
    -----
    Loyalty measured by past purchases is behaviour, not attitude: it cannot tell conviction from habit or lack of
    choice, and that it predicts the next purchase of the same households is no proof of an effect.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> toy = pd.DataFrame({"loyal": rng.random(400), "dearer": rng.normal(size=400)})
    >>> toy["bought"] = rng.random(400) < expit(4 * toy["loyal"] - 2 + toy["dearer"])
    >>> brand_choice(toy, "bought", "loyal", "dearer").table.loc["loyalty + price", "coef"].round(1).to_dict()
    {'constant': -2.3, 'loyalty': 4.2, 'price': 1.1}
    """
    if (when is None) != (cut is None):
        raise DataError("when and cut belong together: the column with the time, and the first time of the test.")
    used = numbers(data, [bought, loyalty, price, *([when] if when else [])])
    if (rows := used.isna().any(axis=1)).any():
        raise DataError(
            f"{rows.sum():,} purchases have no {', '.join(used.columns[used.isna().any()])}: leave them out."
        )
    if not used[bought].isin([0, 1]).all():
        raise DataError(f"The column {bought!r} must be 1 where the brand was bought and 0 elsewhere.")
    varied(used[[bought, loyalty, price]])
    train = np.ones(len(used), dtype=bool) if when is None else (used[when] < cut).to_numpy()
    y = used[bought].to_numpy()
    for part, rows in (("before", train), ("from", ~train)):
        if cut is not None and len(set(y[rows])) < 2:
            raise DataError(
                f"{rows.sum():,} purchases {part} {when} {cut:g} are not of both kinds: choose another cut."
            )
    centre = used.loc[train, [loyalty, price]].mean()
    terms = {"loyalty": used[loyalty].to_numpy(), "price": used[price].to_numpy()}
    terms["loyalty × price"] = (used[loyalty] - centre[loyalty]).mul(used[price] - centre[price]).to_numpy()
    group = np.arange(len(used)) if households is None else pd.factorize(table_of(data, [households])[households])[0]
    tables, scores, base = {}, {}, None
    for name, columns in SPECS.items():
        X = np.column_stack([np.ones(len(y)), *(terms[c] for c in columns)])
        beta, converged = logits(X[train], np.ones((1, train.sum())), y[None, train])
        if not converged[0]:
            raise DataError(f"{' and '.join(columns)} separate the purchases exactly: there is no finite estimate.")
        tables[name] = _coefficients(beta[0], X[train], y[train], group[train], ["constant", *columns])
        p = expit(X[~train] @ beta[0])
        base = p if base is None else base
        scores[name] = _scores(y[~train], p, base, group[~train])
    scores = pd.DataFrame(scores).T.rename_axis("model").astype({"purchases": int})
    return Choice(pd.concat(tables, names=["model"]), scores, _fourths(y, terms["loyalty"], terms["price"]))


def purchase_runs(data, when):
    """Number the households of a list of purchases that is in order of time within each, but does not name them.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a purchase, household after household.
    when : str
        Column with the time.

    Returns
    -------
    pandas.Series
        A number that goes up where time goes back. Two households whose times happen to follow one another share a
        number, which makes intervals that allow for households too wide rather than too narrow.

    Raises
    ------
    DataError
        No such column, or missing times.

    Examples
    --------
    >>> purchase_runs(pd.DataFrame({"week": [3, 5, 9, 2, 4, 1]}), "week").tolist()
    [0, 0, 0, 1, 1, 2]
    """
    time = numbers(data, [when])[when]
    if time.isna().any():
        raise DataError(f"{time.isna().sum():,} purchases have no {when!r}.")
    return (time.diff() < 0).cumsum().rename("household")


def _coefficients(beta, X, y, group, terms):
    """Coefficients with the sandwich over households."""
    p = expit(X @ beta)
    inner = np.linalg.inv((X * (p * (1 - p))[:, None]).T @ X)
    score = np.zeros((group.max() + 1, X.shape[1]))
    np.add.at(score, group, X * (y - p)[:, None])
    G = len(np.unique(group))
    se = np.sqrt(np.diag(inner @ (score.T @ score) @ inner) * G / (G - 1))
    with np.errstate(over="ignore"):
        # One unit of a term with tiny values can be more than any purchase.
        ratios = {name: np.exp(beta + z * se) for name, z in (("odds_ratio", 0), ("low", -Z), ("high", Z))}
    table = {"coef": beta, "se": se, **ratios, "p_value": 2 * norm.sf(np.abs(beta / se))}
    return pd.DataFrame(table, index=pd.Index(terms, name="term"))


def _scores(y, p, base, group):
    if not len(y):
        return dict.fromkeys(("brier", "log_loss", "auc", "better", "better_low", "better_high"), np.nan) | {
            "purchases": 0
        }
    gain = (y - base) ** 2 - (y - p) ** 2
    sums = np.bincount(group, gain - gain.mean())
    G = len(np.unique(group))
    half = Z * np.sqrt(np.sum(sums**2) * G / (G - 1)) / len(y) if G > 1 else np.nan
    yes = y == 1
    return {
        "purchases": len(y),
        "brier": np.mean((y - p) ** 2),
        "log_loss": -np.mean(np.log(np.where(yes, p, 1 - p))),
        "auc": (rankdata(p)[yes].sum() - yes.sum() * (yes.sum() + 1) / 2) / (yes.sum() * (~yes).sum()),
        "better": gain.mean(),
        "better_low": gain.mean() - half,
        "better_high": gain.mean() + half,
    }


def _fourths(y, loyalty, price):
    """Who buys the brand when it is dearer, the same price or cheaper, by fourths of loyalty."""
    table = pd.DataFrame({"y": y, "of": loyalty, "fourth": pd.qcut(loyalty, 4, labels=False, duplicates="drop") + 1})
    table["price"] = pd.Categorical.from_codes(np.sign(price).astype(int) + 1, ["dearer", "same", "cheaper"])
    found = table.groupby(["fourth", "price"], observed=True).agg(purchases=("y", "size"), bought=("y", "sum"))
    found["share"], found["low"], found["high"] = wilson(found.pop("bought"), found["purchases"])
    return found.join(table.groupby("fourth")["of"].max().rename("loyalty"))
