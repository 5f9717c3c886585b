"""What resamples of a survey say about a path model."""

import collections
import dataclasses
import warnings

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level
from crmlab.loyalty import composites
from crmlab.loyalty.effects import along, connected, decompose, mediated
from crmlab.loyalty.printing import printable
from crmlab.loyalty.resampling import resamples


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap:
    """A path model fitted to many resamples.

    The tables have the columns `estimate`, `bias` (mean of the resamples less the estimate), `se`, `low` and `high`
    (percentiles); those of effects a two-sided `p_value` too (twice the smaller share of resamples beyond zero).

    Attributes
    ----------
    result : PathResult
        The fit to the data themselves.
    draws : crmlab.loyalty.composites.Estimates
        The estimates of the resamples of use, as arrays whose last axis counts them.
    counts : pandas.Series
        `replicates`, `used`, those of no use by reason (``"constant: ITEM"``, ``"singular"``, ``"not converged"``,
        ``"negative reliability"``), and how many of those used are `improper`.
    level : float
        Probability of the intervals.
    seed : int or None
        Seed of the random numbers.
    """

    result: object
    draws: composites.Estimates = dataclasses.field(repr=False)
    counts: pd.Series
    level: float
    seed: int | None

    @property
    def paths(self):
        """Path coefficients, named like `params`."""
        return self._table(self.result.params, self.draws.paths)

    @property
    def weights(self):
        """Weights by construct and item."""
        return self._table(self.result.weights, self.draws.weights).drop(columns="p_value")

    @property
    def loadings(self):
        """Loadings by construct and item."""
        return self._table(self.result.loadings, self.draws.loadings).drop(columns="p_value")

    @property
    def r2(self):
        """Shares of variance explained, by outcome."""
        outcomes = self.result.model.structure.outcomes
        return self._table(self.result.r2, self.draws.r2[outcomes]).drop(columns="p_value")

    @property
    def total(self):
        """Total effects, by cause and outcome."""
        return self._effect("total")

    @property
    def indirect(self):
        """Indirect effects, by cause and outcome between which an indirect way leads."""
        s, table = self.result.model.structure, self._effect("indirect")
        far = set(mediated(s))
        return table[[pair in far for pair in connected(s)]]

    @property
    def specific(self):
        """Indirect effects along each single way."""
        return self._table(self.result.specific, along(self.draws.paths, self.result.model.structure))

    @property
    def correlations(self):
        """Correlations of each pair of constructs."""
        one, other = np.triu_indices(len(self.result.model.structure.constructs), 1)
        names = self.result.correlations.index
        pairs = pd.MultiIndex.from_arrays([names[one], names[other]], names=["construct", "with"])
        estimate = pd.Series(self.result.estimates.correlations[one, other, 0], pairs)
        return self._table(estimate, self.draws.correlations[one, other]).drop(columns="p_value")

    @property
    def bse(self):
        """Standard errors of the path coefficients."""
        return self.paths["se"]

    def cov_params(self):
        """Return the covariance matrix of the path coefficients over the resamples."""
        names = self.result.params.index
        return pd.DataFrame(np.cov(self.draws.paths).reshape(len(names), -1), names, names)

    def conf_int(self, alpha=0.05):
        """Return confidence limits of the path coefficients.

        Parameters
        ----------
        alpha : float
            One minus the level of confidence.

        Returns
        -------
        pandas.DataFrame
            Columns `lower` and `upper`, one row a path.
        """
        low, high = np.quantile(self.draws.paths, [alpha / 2, 1 - alpha / 2], axis=-1)
        return pd.DataFrame({"lower": low, "upper": high}, self.result.params.index)

    def summary(self):
        """Return a printable table of the intervals.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            Paths, indirect effects and what became of the resamples.
        """
        top = [[f"{name}:", f"{n:,}"] for name, n in self.counts.items()]
        tables = [(self.paths, f"Paths, {self.level:.0%} percentile intervals")]
        if len(self.indirect):
            tables.append((self.indirect, "Indirect effects"))
        return printable("Bootstrap of a path model", top, tables, self.result.improper)

    def _effect(self, kind):
        s = self.result.model.structure
        return self._table(self.result.effects[kind], decompose(self.draws.paths, s)[kind])

    def _table(self, estimate, draws):
        return interval(estimate, draws, self.level)


def bootstrap(result, replicates, seed, level):
    """Resample the respondents of a fit; see `PathResult.bootstrap`.

    Parameters
    ----------
    result : PathResult
        The fit.
    replicates : int
        Resamples.
    seed : int or None
        Seed of the random numbers.
    level : float
        Probability of the intervals.

    Returns
    -------
    Bootstrap
        Intervals of everything estimated.
    """
    checked_level(level)
    reasons = collections.Counter()
    parts = [found for _, found in refits(result, replicates, seed, reasons)]
    counts = tally(reasons, replicates)
    draws = composites.Estimates(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))
    return Bootstrap(result, draws, counts, level, seed)


def interval(estimate, draws, level):
    """Return estimates with what their resamples say about them.

    Parameters
    ----------
    estimate : pandas.Series
        The estimates.
    draws : numpy.ndarray, shape (estimates, resamples)
        The same of the resamples.
    level : float
        Probability of the intervals.

    Returns
    -------
    pandas.DataFrame
        `estimate`, `bias`, `se`, percentiles `low` and `high`, `p_value`.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(draws, tails, axis=-1) if len(draws) else (np.empty(0), np.empty(0))
    n = draws.shape[-1]
    side = np.minimum((draws <= 0).sum(axis=-1), (draws >= 0).sum(axis=-1))
    table = {
        "estimate": estimate.to_numpy(),
        "bias": draws.mean(axis=-1) - estimate.to_numpy(),
        "se": draws.std(axis=-1, ddof=1),
        "low": low,
        "high": high,
        # One is added, so that no share is zero.
        "p_value": np.minimum(2 * (side + 1) / (n + 1), 1.0),
    }
    return pd.DataFrame(table, index=estimate.index)


def refits(result, replicates, seed, reasons):
    """Fit a model to resamples of its respondents.

    Parameters
    ----------
    result : PathResult
        The fit to all respondents.
    replicates : int
        Resamples.
    seed : int or None
        Seed of the random numbers.
    reasons : collections.Counter
        Is told why resamples are of no use, and how many are improper.

    Yields
    ------
    block : crmlab.loyalty.resampling.Block
        Resamples that allow an estimate.
    found : crmlab.loyalty.composites.Estimates
        Their estimates.
    """
    if not isinstance(replicates, int | np.integer) or replicates < 2:
        raise DataError(f"replicates must be 2 or more (5,000 is usual), not {replicates!r}.")
    result.filled()
    x, items = result.answers.table.to_numpy(), result.model.structure.items
    consistent = np.array(result.model.structure.consistent)
    for block in resamples(x, replicates, np.random.default_rng(seed)):
        # One reason a resample: the first item that does not vary in it.
        reasons.update(f"constant: {items[i]}" for i in block.constant[:, ~block.usable].argmax(axis=0))
        block = block.take(block.usable)
        found = result.model.estimate(block.cov, 1e-8, result.estimates.weights[:, 0])
        finite, rest = np.isfinite(found.paths).all(axis=0), found.iterations > 0
        negative = np.isfinite(found.weights).all(axis=0) & np.isnan(found.rho_a[consistent]).any(axis=0)
        reasons["negative reliability"] += int(negative.sum())
        reasons["singular"] += int((~finite & ~negative).sum())
        reasons["not converged"] += int((finite & ~rest).sum())
        keep = finite & rest
        found = composites.Estimates(*(part[..., keep] for part in found))
        reasons["improper"] += int(improper(found, consistent).sum())
        yield block.take(keep), found


def tally(reasons, replicates):
    """Return what became of resamples.

    Parameters
    ----------
    reasons : collections.Counter
        What `refits` counted.
    replicates : int
        Resamples.

    Returns
    -------
    pandas.Series
        See `Bootstrap.counts`. A `RuntimeWarning` says when more than one resample in twenty was of no use.
    """
    lost = {name: n for name, n in sorted(reasons.items()) if name != "improper" and n}
    used, why = replicates - sum(lost.values()), "; ".join(f"{name} {n}" for name, n in lost.items())
    if used < 2:
        raise DataError(f"Of {replicates} resamples {used} allow an estimate ({why}): there are too few respondents.")
    if used < 0.95 * replicates:
        message = f"Only {used} of {replicates} resamples allow an estimate ({why})."
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    return pd.Series(
        {"replicates": replicates, "used": used, **lost, "improper": reasons["improper"]}, name="resamples"
    )


def improper(found, consistent):
    """Return which replicates have a solution that no population can have.

    Parameters
    ----------
    found : Estimates
        The estimates.
    consistent : numpy.ndarray of bool
        Which constructs are corrected for attenuation.

    Returns
    -------
    numpy.ndarray of bool
        One a replicate.
    """
    if not consistent.any():
        return np.zeros(found.paths.shape[-1], dtype=bool)
    beyond = (np.abs(found.loadings) > 1 + 1e-9).any(axis=0) | (found.rho_a[consistent] > 1 + 1e-9).any(axis=0)
    return beyond | ~composites.definite(found.correlations)
