"""Whom a contact changes, as against who would have bought anyway."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z
from crmlab.market.experiments import LEVELS, arm_rows, as_columns, needed, numbers

POLICIES = ("uplift", "response", "random")
"""Ways to choose whom to contact: by predicted change, by predicted outcome when contacted, at random."""


class Uplift(NamedTuple):
    """How good it is to choose whom to contact by what the contact changes.

    Attributes
    ----------
    gains : pandas.DataFrame
        By policy and share contacted: `per_1000_contacts`, the incremental outcome of a thousand contacts, with its
        95 % interval `low`, `high`; `per_1000_customers`, of a thousand customers of whom this share is contacted, with
        `customers_low`, `customers_high`; and `over_random`, what that is more than with random contacts of as many,
        with its 95 % interval `over_low`, `over_high`.
    qini : pandas.DataFrame
        By policy: the `qini` coefficient, its 95 % interval `low`, `high`; and of ``"uplift - response"``, their
        difference on the same customers.
    scores : pandas.DataFrame
        By customer: predicted `outcome_contacted` and `outcome_not`, and their difference `uplift`, by models that did
        not see the customer.
    """

    gains: pd.DataFrame
    qini: pd.DataFrame
    scores: pd.DataFrame


def uplift(data, outcome, arm, treated, control, features, shares=None, folds=5, seed=0):
    r"""Predict what a contact changes in each customer, and measure on others what choosing by it would bring.

    Two models (a T-learner): one of the outcome of contacted customers, one of the others; the difference of their
    predictions is the uplift. Every customer is predicted by models fitted to other parts of the data (cross-fitting)
    and ranked within the part. What contacting a group brings is measured by
    :math:`\psi_i = \hat m_1 - \hat m_0 + T_i (y_i - \hat m_1) / e - (1 - T_i)(y_i - \hat m_0) / (1 - e)`, whose mean
    over any group chosen beforehand is its average effect, however wrong the models are, because :math:`e`, the share
    assigned to the contact, is known.

    The Qini coefficient is the area between the curve of incremental outcome per customer against the share contacted
    and the straight line of random contacts, :math:`Q = \frac 1 n \sum_i (\tfrac 1 2 - r_i) \psi_i`, with
    :math:`r_i` the customer's rank from 0 (contacted first) to 1. Its unit is the outcome's, per customer; it is
    divided by nothing else.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer of a randomized experiment; other arms are left out.
    outcome : str
        Column with the outcome: 0 and 1 (or true and false), or a number such as spend.
    arm : str
        Column that says which arm the customer was assigned to.
    treated, control : object
        The arm that was contacted, and the one that was not.
    features : sequence of str
        Columns from before the experiment: numbers as they are, anything else as values without order.
    shares : sequence of float, optional
        Shares of the customers to contact; tenths by default.
    folds : int
        Parts of the data for cross-fitting.
    seed : int
        Of the division into parts.

    Returns
    -------
    Uplift
        `gains`, `qini` and `scores`.

    Raises
    ------
    DataError
        As in `effect`; no features, shares outside 0 to 1, parts in which an arm has one outcome only (such as no
        conversions).

    Notes
    -----
    Models: scikit-learn's logistic regression for an outcome of 0 and 1, ridge regression otherwise, both with a
    penalty of 1 on standardized features. The response model is the first of the two: who buys when contacted.
    Intervals are normal, of a mean over customers, for the models as fitted. Customers with equal predictions share a
    rank. Qini: Radcliffe (2007), Direct Marketing Analytics Journal 1, 14-21, who divides it by that of a perfect
    ranking, which nobody knows; numbers of other tools compare only with the same definition. Score: Robins, Rotnitzky
    and Zhao (1994), Journal of the American Statistical Association 89, 846-866.

    Examples
    --------
    >>> rng = np.random.default_rng(2)
    >>> test = pd.DataFrame({"young": rng.integers(0, 2, 4000), "mailed": rng.integers(0, 2, 4000)})
    >>> test["bought"] = rng.random(4000) < 0.1 + 0.2 * test["young"] * test["mailed"]
    >>> found = uplift(test, "bought", "mailed", 1, 0, ["young"], shares=[0.5])
    >>> bool(found.gains.loc[("uplift", 0.5), "over_low"] > 0)
    True
    """
    features = list(dict.fromkeys(features))
    shares = np.arange(1, 11) / 10 if shares is None else np.asarray(shares, dtype=float)
    if not features:
        raise DataError("Name the columns from before the experiment by which customers differ.")
    if not shares.size or shares.min() <= 0 or shares.max() > 1:
        raise DataError(f"shares are numbers above 0 and up to 1, not {shares.tolist()}.")
    frame = needed(data, [outcome, arm, *features])
    for value in (treated, control):
        if not (frame[arm] == value).any():
            known = ", ".join(map(str, frame[arm].unique()[:LEVELS]))
            raise DataError(f"Nobody is in the arm {value!r}: column {arm!r} has {known}.")
    kept = np.flatnonzero(frame[arm].isin([treated, control]))
    index = data.index[kept] if isinstance(data, pd.DataFrame) else pd.RangeIndex(len(frame))[kept]
    frame = frame.iloc[kept].reset_index(drop=True)
    y, arms = numbers(frame, outcome), arm_rows(frame, arm, control)
    contacted = np.zeros(len(y), dtype=bool)
    contacted[arms[treated]] = True
    x = as_columns(frame, features).to_numpy(dtype=float)
    part = _parts(contacted, y, folds, seed)
    one, other = _cross_fit(x, y, contacted, part)
    e = contacted.mean()
    psi = one - other + np.where(contacted, (y - one) / e, -(y - other) / (1 - e))
    spans = {name: _ranks(score, part) for name, score in (("uplift", one - other), ("response", one))}
    spans["random"] = _ranks(np.zeros(len(y)), part)
    rows = {}
    for name in POLICIES:
        for share in shares:
            weight = _weight(*spans[name], share)
            a = weight @ psi / weight.sum()
            # How many are contacted is decided beforehand, so only what it brings varies.
            half = Z * np.sqrt(np.sum((weight * (psi - a)) ** 2)) / weight.sum()
            each = 1000 * np.array([a, a - half, a + half])
            gain, gain_half = _mean(1000 * (weight - share) * (psi - psi.mean()))
            rows[name, float(share)] = (*each, *share * each, gain, gain - gain_half, gain + gain_half)
    columns = ["per_1000_contacts", "low", "high", "per_1000_customers", "customers_low", "customers_high",
               "over_random", "over_low", "over_high"]  # fmt: skip
    gains = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    tilt = {name: (0.5 - sum(spans[name]) / 2) * (psi - psi.mean()) for name in POLICIES}
    tilt["uplift - response"] = tilt["uplift"] - tilt["response"]
    qini = {name: (m, m - half, m + half) for name, (m, half) in ((k, _mean(v)) for k, v in tilt.items())}
    return Uplift(
        gains.set_axis(pd.MultiIndex.from_tuples(rows, names=["policy", "share"])),
        pd.DataFrame.from_dict(qini, orient="index", columns=["qini", "low", "high"]).rename_axis("policy"),
        pd.DataFrame({"outcome_contacted": one, "outcome_not": other, "uplift": one - other}, index=index),
    )


def fit_outcome(x, y):
    """Fit the outcome of an arm and return what predicts it.

    Parameters
    ----------
    x : numpy.ndarray
        Features, one row a customer.
    y : numpy.ndarray
        Outcomes; 0 and 1 are fitted by logistic regression, others by ridge regression.

    Returns
    -------
    callable
        From features to predicted outcomes.

    Examples
    --------
    >>> predict = fit_outcome(np.array([[0.0], [1.0]] * 50), np.array([0.0, 10.0] * 50))
    >>> predict(np.array([[1.0]])).round(1).tolist()
    [10.0]
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    middle, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    if set(np.unique(y)) <= {0.0, 1.0}:
        model = LogisticRegression(solver="newton-cholesky").fit((x - middle) / scale, y)
        return lambda new: model.predict_proba((new - middle) / scale)[:, 1]
    model = Ridge().fit((x - middle) / scale, y)
    return lambda new: model.predict((new - middle) / scale)


def _parts(contacted, y, folds, seed):
    """Number of the part of each customer; arms, and buyers within them, are spread evenly."""
    if folds < 2 or folds != int(folds):
        raise DataError(f"folds is a number of parts, 2 or more, not {folds!r}.")
    rng, part = np.random.default_rng(seed), np.zeros(len(y), dtype=int)
    shuffled = rng.permutation(len(y))
    order = shuffled[np.lexsort((y[shuffled], contacted[shuffled]))]
    part[order] = np.arange(len(y)) % folds
    for name, rows in (("contacted", contacted), ("control", ~contacted)):
        for k in range(folds):
            if len(np.unique(y[rows & (part != k)])) < 2:
                raise DataError(
                    f"The {name} customers have the outcome {y[rows].mean():g} all or almost all of them: there is "
                    "nothing from which a model could learn whom a contact changes."
                )
    return part


def _cross_fit(x, y, contacted, part):
    from threadpoolctl import threadpool_limits

    one, other = np.empty(len(y)), np.empty(len(y))
    # Threads that wait for each other make small fits ten times slower on a machine that does other work too.
    with threadpool_limits(1):
        for k in range(part.max() + 1):
            rest = part == k
            for found, rows in ((one, contacted), (other, ~contacted)):
                found[rest] = fit_outcome(x[rows & ~rest], y[rows & ~rest])(x[rest])
    return one, other


def _ranks(score, part):
    """Where each customer's group of equal scores begins and ends in its part, from 0 (highest) to 1."""
    first, last = np.empty(len(score)), np.empty(len(score))
    for k in range(part.max() + 1):
        rows = np.flatnonzero(part == k)
        _values, group, count = np.unique(-score[rows], return_inverse=True, return_counts=True)
        end = count.cumsum()
        first[rows], last[rows] = ((end - count) / len(rows))[group], (end / len(rows))[group]
    return first, last


def _weight(first, last, share):
    """How much of each customer is contacted: of the group at the edge, a part."""
    return np.clip((share - first) / (last - first), 0.0, 1.0)


def _mean(values):
    return values.mean(), Z * values.std(ddof=1) / np.sqrt(len(values))
