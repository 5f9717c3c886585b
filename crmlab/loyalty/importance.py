"""Key drivers: how much of an outcome each feature explains, in whatever order they enter, and how sure ranks are."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty.composites import solve
from crmlab.loyalty.resampling import correlation, resamples
from crmlab.loyalty.samples import numbers, varied

MOST = 15
"""Features whose subsets are all computed; each one more doubles the work."""
SLOTS = 4_000_000
"""Numbers that the subsets of one block of replicates may hold (32 MB)."""


class Drivers(NamedTuple):
    """What explains an outcome.

    Attributes
    ----------
    table : pandas.DataFrame
        By feature, the most important first: `correlation` with the outcome, standardized `beta` of the regression on
        all features, `shapley` (its part of R², also called LMG) and its 95 % bootstrap interval `low`, `high`,
        `johnson` (relative weight) with `johnson_low`, `johnson_high`; `rank` by Shapley with its 95 % interval
        `rank_low`, `rank_high`, and `same_rank`, the share of replicates with that rank. Shapley and Johnson both add
        up to R².
    fit : pandas.Series
        `r2` with its bootstrap interval `low`, `high`, `customers` (complete answers), `excluded`, `replicates` used,
        `degenerate` ones (an item constant or a combination of others in the resample), and `same_order`, the share of
        replicates with the whole order of the table.
    """

    table: pd.DataFrame
    fit: pd.Series


def drivers(data, target, features, n_boot=2000, seed=20150101):
    r"""Split the explained variance of an outcome among features that overlap.

    Shapley's value of a feature is the mean of what it adds to :math:`R^2` over all orders of entry,

    .. math:: \phi_j = \sum_{S \not\ni j} \frac{|S|!\,(p - |S| - 1)!}{p!} \left(R^2_{S \cup j} - R^2_S\right),

    computed exactly over all :math:`2^p` subsets. Johnson's relative weights regress on the nearest uncorrelated
    variables :math:`Z = X R^{-1/2}`: :math:`\varepsilon = (R^{1/2})^{\circ 2} (R^{-1/2} r)^{\circ 2}`.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a customer; those with all answers are used.
    target : str
        Column with the outcome, for example overall satisfaction.
    features : sequence of str
        Columns with what may drive it; at most 15.
    n_boot : int
        Bootstrap replicates.
    seed : int
        Makes them reproducible.

    Returns
    -------
    Drivers
        Its `table` and `fit`.

    Raises
    ------
    DataError
        Columns that are lacking, constant or repeat one another, more features than can be computed or than the
        answers allow, a target that is a combination of the features.

    Notes
    -----
    Importance is not effect: a feature without any effect of its own gets a share when it is correlated with one that
    has. Answers of one questionnaire share a general mood (halo) that no method here takes out. Lindeman, Merenda and
    Gold (1980), Introduction to Bivariate and Multivariate Analysis; Johnson (2000), Multivariate Behavioral Research
    35(1), 1-19; Grömping (2007), The American Statistician 61(2), 139-147.

    Examples
    --------
    >>> from crmlab import data
    >>> found = drivers(data.load("mobi").to_pandas(), "CUSA1", ["PERQ1", "PERV1", "IMAG1"], n_boot=100)
    >>> bool(abs(found.table["shapley"].sum() - found.fit["r2"]) < 1e-12)
    True
    """
    features = list(features)
    if not 1 <= len(features) <= MOST:
        raise DataError(
            f"{len(features)} features: between 1 and {MOST} can be computed exactly, because all {2}^p subsets are "
            "fitted. Join items into the constructs that they measure, or leave out what cannot be acted on."
        )
    if target in features or len(set(features)) < len(features):
        named = target if target in features else next(f for f in features if features.count(f) > 1)
        raise DataError(f"The item {named!r} stands twice among target and features.")
    frame = numbers(data, [*features, target])
    used = frame.dropna()
    p = len(features)
    if len(used) <= p + 1:
        raise DataError(
            f"{len(used)} customers answered {target!r} and all {p} features: more are needed than there are features. "
            f"The fewest answers are on {frame.notna().sum().idxmin()!r}."
        )
    varied(used)
    x = used.to_numpy()
    R = np.corrcoef(x.T)[..., None]
    if np.isnan(solve(R[:p, :p], R[:p, p])).any():
        name = _combination(R[:p, :p, 0], features)
        raise DataError(f"The feature {name!r} is a combination of the others: their shares cannot be told apart.")
    shapley, johnson, beta, r2 = _split(R)
    if r2[0] > 1 - 1e-9:
        raise DataError(
            f"The features determine {target!r} exactly: is it computed from them, or were the answers centred within "
            "each person (which makes every answer a combination of the others)?"
        )
    boot = [_split(correlation(b.cov[..., b.usable])) for b in resamples(x, n_boot, np.random.default_rng(seed))]
    boot = [np.concatenate(parts, axis=-1) for parts in zip(*boot, strict=True)] or [np.empty((p, 0))] * 3 + [
        np.empty(0)
    ]
    sound = np.isfinite(boot[3])
    shapleys, johnsons, _, r2s = (part[..., sound] for part in boot)
    rank, ranks = _ranks(shapley)[:, 0], _ranks(shapleys)
    table = pd.DataFrame({"correlation": R[:p, p, 0], "beta": beta[:, 0]}, index=pd.Index(features, name="feature"))
    for name, value, replicates in (("shapley", shapley, shapleys), ("johnson", johnson, johnsons)):
        before = "" if name == "shapley" else "johnson_"
        table[name] = value[:, 0]
        table[f"{before}low"], table[f"{before}high"] = _interval(replicates)
    table["rank"] = rank
    table["rank_low"], table["rank_high"] = _interval(ranks, method="inverted_cdf")
    same = ranks == rank[:, None]
    table["same_rank"] = same.mean(axis=1) if sound.any() else np.nan
    low, high = _interval(r2s)
    fit = {
        "r2": r2[0],
        "low": low,
        "high": high,
        "customers": len(x),
        "excluded": len(frame) - len(x),
        "replicates": int(sound.sum()),
        "degenerate": n_boot - int(sound.sum()),
        "same_order": same.all(axis=0).mean() if sound.any() else np.nan,
    }
    return Drivers(table.sort_values("rank"), pd.Series(fit, name="fit"))


def _interval(replicates, method="linear"):
    if not replicates.shape[-1]:
        return (np.full(replicates.shape[:-1], np.nan),) * 2
    return np.quantile(replicates, [0.025, 0.975], axis=-1, method=method)


def _ranks(values):
    """1 for the largest of each column."""
    return (-values).argsort(axis=0).argsort(axis=0) + 1


def _combination(R, features):
    """The feature that the others explain best."""
    return features[int(np.argmax(np.diag(np.linalg.pinv(R))))]


def _split(R):
    """Shapley values, relative weights, betas and R² of correlation matrices, (features and target, the same, b)."""
    p = len(R) - 1
    beta = solve(R[:p, :p], R[:p, p])
    r2 = np.sum(beta * R[:p, p], axis=0)
    block = max(1, SLOTS // (3 * 2**p))
    shapley = [_shapley(R[..., i : i + block]) for i in range(0, R.shape[-1], block)]
    shapley = np.concatenate(shapley, axis=-1) if shapley else np.empty((p, 0))
    return np.where(np.isnan(r2), np.nan, shapley), _johnson(R), beta, r2


def _shapley(R):
    """Sweep the features in or out one after the other: after the last, what is left of the target's variance."""
    p = len(R) - 1
    left = R[None]
    for _ in range(p):
        pivot = left[:, :1, :1]
        # What remains of the others once the first feature is held constant; nothing if it has nothing of its own.
        with np.errstate(divide="ignore", invalid="ignore"):
            swept = np.where(pivot > 1e-10, left[:, 1:, :1] * left[:, :1, 1:] / pivot, 0.0)
        left = np.concatenate([left[:, 1:, 1:], left[:, 1:, 1:] - swept])
    explained = 1 - left[:, 0, 0]
    sizes = np.bitwise_count(np.arange(2**p))
    # |S|! (p - |S| - 1)! / p! without large factorials.
    weight = np.cumprod(np.append(1 / p, np.arange(1, p) / np.arange(p - 1, 0, -1)))
    found = []
    for j in range(p):
        pairs = explained.reshape(2 ** (p - 1 - j), 2, 2**j, -1)
        w = weight[sizes.reshape(2 ** (p - 1 - j), 2, 2**j)[:, 0]]
        found.append(np.einsum("ab,abr->r", w, pairs[:, 1] - pairs[:, 0]))
    return np.array(found)


def _johnson(R):
    p = len(R) - 1
    values, vectors = np.linalg.eigh(np.moveaxis(R[:p, :p], -1, 0))
    values = np.maximum(values, 0.0)
    root = np.einsum("bik,bk,bjk->ijb", vectors, np.sqrt(values), vectors)
    along = np.einsum("bjk,jb->bk", vectors, R[:p, p])
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = np.einsum("bik,bk->ib", vectors, np.where(values > 1e-10, along / np.sqrt(values), 0.0))
    return np.einsum("ijb,jb->ib", root**2, beta**2)
