"""Does a path model predict answers that it has not seen, and better than a plain regression?"""

import dataclasses

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty import composites
from crmlab.loyalty.printing import printable
from crmlab.loyalty.resampling import moments, sizes

CLASSES = ("none", "low", "medium", "high")


@dataclasses.dataclass(frozen=True, eq=False)
class Predictive:
    """How well a path model predicts answers of respondents that it was not fitted to.

    Attributes
    ----------
    table : pandas.DataFrame
        By construct and item: root mean square error of the model (`rmse`), of a regression on the items of the causes
        (`rmse_lm`) and of the mean (`rmse_mean`); mean absolute errors `mae`, `mae_lm`, `mae_mean`; `q2_predict`, one
        less the ratio of squared errors of model and mean. Means over the repetitions.
    verdict : pandas.DataFrame
        By construct: `items`; of how many of them the model beats the mean (`beats_mean`) and the regression too
        (`beats_lm`); predictive `power`: ``"high"`` when it beats both for all items, ``"medium"`` for more than half,
        ``"low"`` for some, ``"none"``.
    folds, repeats : int
        Parts and repetitions.
    """

    table: pd.DataFrame
    verdict: pd.DataFrame
    folds: int
    repeats: int

    def summary(self):
        """Return a printable table.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            It prints as text and displays as HTML.
        """
        top = [["Folds:", str(self.folds), "Repeats:", str(self.repeats)]]
        tables = [(self.table, "Errors out of sample"), (self.verdict, "Predictive power")]
        return printable("PLSpredict", top, tables, [])


def predictive(model, data, folds=10, repeats=10, antecedents="earliest", seed=None):
    """Predict the answers of each part of the respondents from a model of the other parts (PLSpredict).

    Parameters
    ----------
    model : PathModel
        The model.
    data : pandas.DataFrame
        One row a respondent.
    folds : int
        Parts.
    repeats : int
        How often the parts are drawn anew.
    antecedents : {"earliest", "direct"}
        From what the items of an outcome are predicted: from the items of all constructs without cause, through the
        model, or from those of its direct causes. The regression gets the same items.
    seed : int, optional
        Seed of the random numbers.

    Returns
    -------
    Predictive
        Its `table` and `verdict`.

    Raises
    ------
    DataError
        Too many folds, a model that corrects for attenuation, or a part without which the model cannot be fitted.

    Notes
    -----
    Shmueli, Ray, Velasquez Estrada and Chatla (2016), Journal of Business Research 69(10), 4552-4564; verdict after
    Shmueli et al. (2019), European Journal of Marketing 53(11), 2322-2347, by root mean square errors. A missing answer
    is replaced by the mean of the other parts among the predictors and not scored among the predicted.

    Examples
    --------
    >>> from crmlab import data
    >>> from crmlab.loyalty import PathModel
    >>> items = {"Satisfaction": ["CUSA1", "CUSA2", "CUSA3"], "Loyalty": ["CUSL1", "CUSL2", "CUSL3"]}
    >>> found = predictive(PathModel(items, "Loyalty ~ Satisfaction"), data.load("mobi").to_pandas(), seed=1)
    >>> bool(found.table.loc[("Loyalty", "CUSL3"), "q2_predict"] > 0.2)
    True
    """
    if antecedents not in ("earliest", "direct"):
        raise DataError(f"antecedents must be earliest or direct, not {antecedents!r}.")
    if any(model.structure.consistent):
        raise DataError("Predictions are made from composites: use a model with consistent=False.")
    x = model.answers(data).table.to_numpy()
    if not 2 <= folds <= len(x):
        raise DataError(f"folds must lie between 2 and the number of respondents ({len(x)}), not {folds!r}.")
    if repeats < 1:
        raise DataError(f"repeats must be 1 or more, not {repeats!r}.")
    s, rng = model.structure, np.random.default_rng(seed)
    items, total = [i for j in s.outcomes for i in s.blocks[j]], 0.0
    for _ in range(repeats):
        part = np.empty(len(x), dtype=int)
        for fold, rows in enumerate(np.array_split(rng.permutation(len(x)), folds)):
            part[rows] = fold
        errors = {name: e[:, items] for name, e in out_of_sample(model, x, part, antecedents).items()}
        squared = {name: np.sqrt(np.nanmean(e**2, axis=0)) for name, e in errors.items()}
        absolute = {name: np.nanmean(np.abs(e), axis=0) for name, e in errors.items()}
        q2 = 1 - (squared["model"] / squared["mean"]) ** 2
        total = total + np.array([*squared.values(), *absolute.values(), q2])
    index = pd.MultiIndex.from_tuples(
        [(s.constructs[j], s.items[i]) for j in s.outcomes for i in s.blocks[j]], names=["construct", "item"]
    )
    columns = ["rmse", "rmse_lm", "rmse_mean", "mae", "mae_lm", "mae_mean", "q2_predict"]
    table = pd.DataFrame((total / repeats).T, index, columns)
    return Predictive(table, _verdict(table), folds, repeats)


def out_of_sample(model, x, part, antecedents="earliest"):
    """Return the errors of predicting each part of the respondents from the other parts.

    Parameters
    ----------
    model : PathModel
        The model.
    x : numpy.ndarray, shape (respondents, items)
        Answers, NaN where missing.
    part : numpy.ndarray, shape (respondents,)
        Number of the part of each respondent, from 0.
    antecedents : {"earliest", "direct"}
        From what is predicted.

    Returns
    -------
    dict
        `model`, `lm`, `mean`: predicted less actual answers, NaN for items that are not predicted.

    Raises
    ------
    DataError
        A part without which the model cannot be fitted.
    """
    errors = {name: np.full(x.shape, np.nan) for name in ("model", "lm", "mean")}
    start = 0
    for b in sizes(x, part.max() + 1):
        rows = (part >= start) & (part < start + b)
        _without(model, x, part, np.arange(start, start + b), rows, antecedents, errors)
        start += b
    return errors


def _without(model, x, part, folds, rows, antecedents, errors):
    """Fill in the errors of some parts, each from a model of all others."""
    s = model.structure
    block = moments(x, (part != folds[:, None]).astype(float))
    if not block.usable.all():
        item = s.items[int(block.constant.any(axis=1).argmax())]
        raise DataError(f"The item {item!r} does not vary without one part of the respondents: use fewer folds.")
    found = model.estimate(block.cov)
    if not np.isfinite(found.paths).all() or not found.iterations.all():
        raise DataError("The model cannot be fitted without one part of the respondents: use fewer folds.")
    x, fold = x[rows], part[rows] - folds[0]
    mean, sd = block.mean[:, fold].T, np.sqrt(np.einsum("iib->ib", block.cov))
    weights = found.weights / sd if model.matrix == "correlation" else found.weights
    z = np.where(np.isnan(x), 0.0, x - mean)
    score = np.column_stack([(z[:, items] * weights[items][:, fold].T).sum(axis=1) for items in s.blocks])
    guess = score.copy()
    for j in s.outcomes:
        known = guess if antecedents == "earliest" else score
        coefficients = found.paths[[s.edges.index((i, j)) for i in s.causes(j)]]
        guess[:, j] = (known[:, s.causes(j)] * coefficients[:, fold].T).sum(axis=1)
    exogenous = [i for j, items in enumerate(s.blocks) if j not in s.outcomes for i in items]
    for j in s.outcomes:
        items = s.blocks[j]
        actual = x[:, items] - mean[:, items]
        given = exogenous if antecedents == "earliest" else [i for k in s.causes(j) for i in s.blocks[k]]
        beta = composites.solve(block.cov[np.ix_(given, given)], block.cov[np.ix_(given, items)])
        place = np.ix_(rows, items)
        errors["mean"][place] = -actual
        errors["model"][place] = guess[:, [j]] * (found.loadings * sd)[items][:, fold].T - actual
        errors["lm"][place] = np.einsum("nk,kin->ni", z[:, given], beta[..., fold]) - actual


def _verdict(table):
    """Predictive power by construct."""
    better = pd.DataFrame({"mean": table["rmse"] < table["rmse_mean"], "lm": table["rmse"] < table["rmse_lm"]})
    by = better.assign(both=better.all(axis=1)).groupby(level="construct", sort=False)
    found = pd.DataFrame({"items": by.size(), "beats_mean": by["mean"].sum(), "beats_lm": by["both"].sum()})
    share = found["beats_lm"] / found["items"]
    found["power"] = np.select([share == 1, share > 0.5, share > 0], CLASSES[:0:-1], CLASSES[0])
    return found
