"""Does one construct act more or less where another is high? Interactions in a path model."""

import collections
import dataclasses
import itertools

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level
from crmlab.loyalty import composites
from crmlab.loyalty.bootstraps import interval, refits, tally
from crmlab.loyalty.printing import printable
from crmlab.loyalty.resampling import correlation, moments
from crmlab.loyalty.structure import read_paths, structure


@dataclasses.dataclass(frozen=True, eq=False)
class Moderation:
    """How the effect of a construct on an outcome depends on a third one.

    Attributes
    ----------
    table : pandas.DataFrame
        What acts on the outcome, the interaction last: `estimate`, `bias`, `se`, `low`, `high`, `p_value`. The
        interaction says how much more the predictor does where the moderator is one standard deviation higher.
    fit : pandas.Series
        `r2` of the outcome, `r2_without` the interaction, `f2` of the interaction (of an interaction, .005 is small,
        .01 medium, .025 large).
    slopes : pandas.DataFrame
        Effect of the predictor where the moderator is one standard deviation below, at, and above its mean: by
        `moderator`, the `value` of the moderator in the units of its items, `slope`, `low`, `high`.
    band : pandas.DataFrame
        The same over the whole range of the moderator, for a figure.
    regions : pandas.DataFrame
        Johnson-Neyman: ranges of the moderator (`start`, `end`, in standard deviations) in which the interval of the
        slope lies on one `side` of zero (``"positive"``, ``"negative"``) or holds zero (``"undecided"``), and the
        `share` of respondents in them.
    counts : pandas.Series
        What became of the resamples; see `Bootstrap`.
    level : float
        Probability of the intervals, which run from percentile to percentile.
    """

    table: pd.DataFrame
    fit: pd.Series
    slopes: pd.DataFrame
    band: pd.DataFrame = dataclasses.field(repr=False)
    regions: pd.DataFrame
    counts: pd.Series
    level: float

    def summary(self):
        """Return a printable table.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            It prints as text and displays as HTML.
        """
        top = [["R²:", f"{self.fit['r2']:.4f}", "f² of the interaction:", f"{self.fit['f2']:.4f}"]]
        tables = [
            (self.table, f"Outcome, {self.level:.0%} percentile intervals"),
            (self.slopes, "Simple slopes, moderator in standard deviations"),
            (self.regions, "Johnson-Neyman regions"),
        ]
        return printable("Moderation", top, tables, [])


def moderate(model, data, predictor, moderator, outcome, replicates=5000, seed=None, level=0.95):
    r"""Estimate how the effect of a predictor on an outcome depends on a moderator, in two stages.

    First the model is fitted without interaction; the product of the standardized scores of predictor and moderator
    then joins it as a construct with one item:
    :math:`y = \dots + b_1 x + b_2 m + b_3\,x m`, so that the slope of :math:`x` is :math:`b_1 + b_3 m`.

    Parameters
    ----------
    model : PathModel
        The model without the interaction. A path from the moderator to the outcome is added if there is none.
    data : pandas.DataFrame
        One row a respondent.
    predictor, moderator, outcome : str
        Constructs.
    replicates : int
        Bootstrap resamples; both stages are repeated in each.
    seed : int, optional
        Seed of the random numbers.
    level : float
        Probability of the intervals.

    Returns
    -------
    Moderation
        Its `table`, `fit`, `slopes`, `band`, `regions`, `counts`.

    Raises
    ------
    DataError
        Constructs that are not in the model, no path from predictor to outcome, a model that corrects for attenuation.

    Notes
    -----
    Henseler and Chin (2010), Structural Equation Modeling 17(1), 82-109. The coefficient of the interaction is that of
    the product itself, not of the standardized product.

    Examples
    --------
    >>> from crmlab import data
    >>> from crmlab.loyalty import PathModel
    >>> items = {"Satisfaction": ["cusa"], "Cost": ["switch_1", "switch_2"], "Loyalty": ["cusl_1", "cusl_2"]}
    >>> survey = data.load("corporate_reputation").to_pandas().replace(-99, float("nan"))
    >>> model = PathModel(items, "Loyalty ~ Satisfaction + Cost")
    >>> found = moderate(model, survey, "Satisfaction", "Cost", "Loyalty", replicates=200, seed=1)
    >>> bool(found.table.loc["Satisfaction x Cost", "estimate"] < 0)
    True
    """
    if any(model.structure.consistent):
        raise DataError("Interactions are built from scores: use a model with consistent=False.")
    checked_level(level)
    edges = read_paths(model.paths)
    if len({predictor, moderator, outcome}) < 3:
        raise DataError("predictor, moderator and outcome must be three different constructs.")
    if (predictor, outcome) not in edges:
        raise DataError(f"The model has no path {predictor} -> {outcome}, whose strength a moderator could change.")
    if (moderator, outcome) not in edges:
        edges.append((moderator, outcome))
    first = dataclasses.replace(model, paths=edges).fit(data)
    base, product = first.model.structure, f"{predictor} x {moderator}"
    second = structure({**base.items_of, product: [product]}, [*edges, (product, outcome)], model.modes)
    target = second.constructs.index(outcome)
    rows = [e for e, edge in enumerate(second.edges) if edge[1] == target]
    causes = [second.constructs[second.edges[e][0]] for e in rows]

    def stage_two(block, weights, tolerance, reference=None):
        """The model with the product, its coefficient per unit of the product."""
        S, spread = _with_product(first, (predictor, moderator), block, weights)
        place = [(*base.items, product).index(item) for item in second.items]
        S = S[np.ix_(place, place)]
        S = correlation(S) if model.matrix == "correlation" else S
        found = composites.estimate(S, second, model.scheme, tolerance, reference)
        found.paths[rows[causes.index(product)]] /= spread
        return found

    everyone = moments(first.answers.table.to_numpy(), np.ones((1, first.nobs)))
    found = stage_two(everyone, first.estimates.weights, 1e-10)
    if not found.iterations[0] or not np.isfinite(found.paths).all():
        raise DataError(f"The model with {product!r} has no estimate: the product follows from the other constructs.")
    reasons, draws = collections.Counter(), []
    for block, stage_one in refits(first, replicates, seed, reasons):
        again = stage_two(block, stage_one.weights, 1e-8, found.weights[:, 0])
        keep = (again.iterations > 0) & np.isfinite(again.paths).all(axis=0)
        reasons["no second stage"] += int((~keep).sum())
        draws.append(again.paths[np.ix_(rows, keep)])
    counts, draws = tally(reasons, replicates), np.concatenate(draws, axis=1)

    estimate = pd.Series(found.paths[rows, 0], pd.Index(causes, name="cause"))
    Q, others = found.correlations, [k for k in second.causes(target) if second.constructs[k] != product]
    without = (composites.solve(Q[np.ix_(others, others)], Q[others, target]) * Q[others, target]).sum()
    r2 = found.r2[target, 0]
    fit = pd.Series({"r2": r2, "r2_without": without, "f2": (r2 - without) / (1 - r2)})
    scores, unscaled = first.scores[moderator], first.unscaled_scores[moderator]
    tails = [(1 - level) / 2, (1 + level) / 2]
    own, change = (draws[causes.index(name)] for name in (predictor, product))

    def slope(m):
        return np.append(estimate[predictor] + m * estimate[product], np.quantile(own + m * change, tails))

    def at(places):
        table = pd.DataFrame([slope(m) for m in places], pd.Index(places, name="moderator"), ["slope", "low", "high"])
        table.insert(0, "value", unscaled.mean() + np.asarray(places) * unscaled.std())
        return table

    band = at(np.linspace(scores.min(), scores.max(), 101))
    regions = _regions(slope, band, scores.to_numpy())
    return Moderation(interval(estimate, draws, level), fit, at([-1, 0, 1]), band, regions, counts, level)


def _with_product(first, names, block, weights):
    """Covariances of the items and, in the last place, the product of two composites; its standard deviation."""
    s, x = first.model.structure, first.answers.table.to_numpy()
    given = ~np.isnan(x)
    centre = np.nanmean(x, axis=0)
    z, shift = np.where(given, x - centre, 0.0), block.mean - centre[:, None]
    if first.model.matrix == "correlation":
        weights = weights / np.sqrt(np.einsum("iib->ib", block.cov))
    both = []
    for name in names:
        items = s.blocks[s.constructs.index(name)]
        both.append(z[:, items] @ weights[items] - given[:, items] @ (weights[items] * shift[items]))
    counts = block.counts.T
    n = counts.sum(axis=0)
    product = both[0] * both[1]
    product -= (counts * product).sum(axis=0) / n
    weighted = counts * product
    S = np.empty((len(z.T) + 1, len(z.T) + 1, len(n)))
    S[:-1, :-1] = block.cov
    S[-1, :-1] = S[:-1, -1] = (z.T @ weighted - shift * (given.T @ weighted)) / (n - 1)
    S[-1, -1] = (weighted * product).sum(axis=0) / (n - 1)
    return S, np.sqrt(S[-1, -1])


def _regions(slope, band, scores):
    """Where the interval of the slope lies on one side of zero."""
    places = band.index.to_numpy()
    edges = [places[0], places[-1]]
    for end, column in enumerate(("low", "high"), start=1):
        values = band[column].to_numpy()
        for k in np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0):
            edges.append(brentq(lambda m, end=end: slope(m)[end], places[k], places[k + 1]))
    edges = np.unique(edges)
    rows = []
    for start, end in itertools.pairwise(edges):
        _, low, high = slope((start + end) / 2)
        side = "positive" if low > 0 else "negative" if high < 0 else "undecided"
        # Each respondent stands in one region: the last one holds its upper end too.
        inside = (scores >= start) & ((scores < end) | (end == edges[-1]))
        rows.append({"start": start, "end": end, "side": side, "share": inside.mean()})
    return pd.DataFrame(rows)
