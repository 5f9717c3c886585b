"""Reliability: how much of a construct's score is the construct and not the chance of its items."""

import itertools

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty import composites, likelihood, questionnaire
from crmlab.loyalty.factors import factor_coefficients, single_group
from crmlab.loyalty.likelihood import Moments
from crmlab.loyalty.moments import complete, correlations, interval, measured, resampled
from crmlab.loyalty.structure import structure

MEASURES = ("alpha_raw", "alpha_std", "omega", "rho_A", "rho_C", "ave")
BLOCK = 100
"""Resamples whose factor models are fitted at once."""


def reliability(data, spec, constructs=None, replicates=1000, seed=1, level=0.95):
    """Return the reliability of every construct of two items or more, with bootstrap intervals.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent; those who answered every item count.
    spec : SurveySpec or str
        What was asked; see `crmlab.loyalty.spec`.
    constructs : list of str or dict, optional
        Constructs, or construct to items; every construct of two items or more by default.
    replicates : int
        Bootstrap samples; 0 for none.
    seed : int
        Of the random numbers.
    level : float
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        By construct and coefficient: `estimate`, `low`, `high`, `dropped` (resamples without a value), `note`.
        `alpha_raw` (of the sum of the answers; R's psych and lavaan) and `alpha_std` (of the sum of the standardized
        answers; seminr, SmartPLS) are two different numbers. `omega` (sum of the answers), `rho_C` (sum of the
        standardized answers) and `ave` (average variance extracted) come from one common-factor model of all the
        constructs; path models report `rho_C` and `ave` from composites, which are higher. `rho_A` is that of weights
        that take all constructs as each other's neighbours.

    Raises
    ------
    DataError
        When the answers do not fit the description, or an item is constant or a copy of another.

    Examples
    --------
    >>> from crmlab import data
    >>> table = reliability(data.load("mobi").to_pandas(), "mobi", replicates=0)
    >>> table.loc["LOYALTY", "estimate"][["alpha_raw", "alpha_std"]].round(4).tolist()
    [0.4417, 0.4724]
    """
    asked = questionnaire.spec(spec)
    chosen = {name: items for name, items in measured(asked, constructs).items() if len(items) > 1}
    if not chosen:
        raise DataError("Reliability needs a construct of two items or more: one item has no consistency with itself.")
    items = [item for group in chosen.values() for item in group]
    frame = complete(data, asked, items)
    x = frame.to_numpy()
    names = list(chosen)
    try:
        model = single_group(frame, chosen)
        note = "; ".join(model[3])
    except DataError as error:
        model, note = None, str(error)
    own = _coefficients(np.cov(x, rowvar=False)[None], frame, chosen, model)
    index = pd.MultiIndex.from_product([names, MEASURES], names=["construct", "coefficient"])
    table = pd.DataFrame({"estimate": own[0].T.ravel()}, index=index)
    if replicates:
        low, high, dropped = interval(_coefficients(resampled(x, replicates, seed), frame, chosen, model), level)
        table = table.assign(low=low.T.ravel(), high=high.T.ravel(), dropped=dropped.T.ravel())
    table["note"] = [note if measure in ("omega", "rho_C", "ave") else "" for _, measure in index]
    return table


def alphas(cov, blocks):
    """Return Cronbach's alpha of the items of each block.

    Parameters
    ----------
    cov : numpy.ndarray, shape (b, p, p)
        Covariances, or correlations for the standardized alpha.
    blocks : list of numpy.ndarray
        Positions of the items of each construct.

    Returns
    -------
    numpy.ndarray, shape (b, constructs)
        One alpha a construct.
    """
    found = []
    for block in blocks:
        part = cov[:, block[:, None], block]
        k = len(block)
        total = part.sum(axis=(1, 2))
        # Items that cancel each other have no sum whose reliability could be asked for.
        share = np.trace(part, axis1=1, axis2=2) / np.where(total > 1e-12, total, np.nan)
        found.append(k / (k - 1) * (1 - share))
    return np.stack(found, axis=1)


def _coefficients(cov, frame, chosen, model):
    """All coefficients, (b, measures, constructs)."""
    items = list(frame.columns)
    blocks = [np.array([items.index(i) for i in group]) for group in chosen.values()]
    r = correlations(cov)
    factor = _factor(cov, chosen, model, len(frame))
    parts = {
        "alpha_raw": alphas(cov, blocks),
        "alpha_std": alphas(r, blocks),
        "rho_A": _rho_a(r, chosen),
        **{name: factor[name] for name in ("omega", "rho_C", "ave")},
    }
    return np.stack([parts[name] for name in MEASURES], axis=1)


def _rho_a(r, chosen):
    """Dijkstra and Henseler's coefficient; a single construct has no neighbour to be weighted by."""
    found = np.full((len(r), len(chosen)), np.nan)
    if len(chosen) > 1:
        # Every construct is every other one's neighbour; the factorial scheme does not ask for a direction.
        model = structure(chosen, list(itertools.combinations(chosen, 2)))
        some = np.isfinite(r).all(axis=(1, 2))
        estimates = composites.estimate(np.moveaxis(r[some], 0, -1), model, "factorial")
        order = [model.constructs.index(name) for name in chosen]
        found[some] = estimates.rho_a[order].T
    return found


def _factor(cov, chosen, model, n):
    """Coefficients of the common-factor model, fitted to all resamples from where the whole sample ends."""
    found = {name: np.full((len(cov), len(chosen)), np.nan) for name in ("omega", "rho_C", "ave")}
    if model is None:
        return found
    layout, scale, theta, _ = model
    scaled = cov / np.outer(scale, scale)
    for first in range(0, len(cov), BLOCK):
        place = np.arange(first, min(first + BLOCK, len(cov)))
        place = place[np.isfinite(scaled[place]).all(axis=(1, 2))]
        start = np.repeat(theta, len(place), axis=0)
        moments = Moments(scaled[place], np.zeros((len(place), len(scale))), 1.0)
        # A hundredth of a standard error is far below the chance between resamples.
        fitted = likelihood.fit(start, [layout], [moments], tolerance=1e-4 / n)
        done = fitted.converged
        for name, value in factor_coefficients(fitted.theta[done], layout, scale).items():
            if name in found:
                found[name][place[done]] = value
    return found
