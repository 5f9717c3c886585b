"""Penalty-reward contrasts: does a bad answer on a feature take more than a good one gives?"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty.composites import solve
from crmlab.loyalty.resampling import resamples
from crmlab.loyalty.samples import numbers, varied

EVEN = 0.2
"""Within this distance of 0 an asymmetry counts as even."""
FEW = 10
"""Fewer customers on one side of a feature say nothing about it."""


class Contrasts(NamedTuple):
    """Penalties and rewards.

    Attributes
    ----------
    table : pandas.DataFrame
        By feature: `n_low`, `n_high` customers; `penalty` (difference of the outcome between a low and a middle answer)
        and its 95 % bootstrap interval `penalty_low`, `penalty_high`; `reward` (between a high and a middle one) with
        `reward_low`, `reward_high`; `asymmetry` from -1 (only penalty) to 1 (only reward) with `asymmetry_low`,
        `asymmetry_high`; and `kind`: ``"basic"``, ``"performance"``, ``"excitement"`` where the interval supports it,
        ``"undecided"`` where it does not, ``"no effect shown"`` where neither side differs from 0, and ``"reversed"``
        where a low answer goes with a better outcome or a high one with a worse.
    fit : pandas.Series
        `r2`, `customers`, `excluded`, `replicates` used and `degenerate` ones.
    """

    table: pd.DataFrame
    fit: pd.Series


def penalty_reward(data, target, features, low, high, n_boot=2000, seed=20150101):
    r"""Regress an outcome on low and high answers of each feature, the answers in between being the base.

    :math:`y = b_0 + \sum_j (p_j [x_j \le l_j] + r_j [x_j \ge h_j])`; the asymmetry of a feature is
    :math:`(\max(r, 0) - \max(-p, 0)) / (\max(r, 0) + \max(-p, 0))`.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a customer; those with all answers are used.
    target : str
        Column with the outcome.
    features : sequence of str
        Columns with the features.
    low, high : float or dict
        Highest answer that counts as low and lowest that counts as high; by feature where they differ.
    n_boot : int
        Bootstrap replicates.
    seed : int
        Makes them reproducible.

    Returns
    -------
    Contrasts
        Its `table` and `fit`.

    Raises
    ------
    DataError
        Columns that are lacking, constant or repeat one another, cut-offs that leave (almost) nobody low, high or in
        between, low and high answers of features that cannot be told apart.

    Notes
    -----
    Brandt (1988), Proceedings of the AMA Services Marketing Conference; Mikulić and Prebežac (2008), Managing Service
    Quality 18(6), 559-576. ``"basic"`` (its lack dissatisfies, its presence is taken for granted) needs an asymmetry
    interval below 0, ``"excitement"`` one above 0, and ``"performance"`` one within 0.2 of 0: an interval that merely
    contains 0 shows nothing. The kind depends on the cut-offs: repeat with others before acting on it.

    Examples
    --------
    >>> from crmlab import data
    >>> mobi = data.load("mobi").to_pandas()
    >>> found = penalty_reward(mobi, "CUSA1", ["PERQ1", "PERV1"], low=6, high=9, n_boot=100)
    >>> found.table["n_high"].tolist()
    [81, 29]
    """
    features = list(features)
    if not features or target in features or len(set(features)) < len(features):
        raise DataError("Name the features, each once, and the target apart from them.")
    frame = numbers(data, [*features, target])
    used = frame.dropna()
    if len(used) <= 2 * len(features) + 1:
        raise DataError(
            f"{len(used)} customers answered {target!r} and all {len(features)} features: too few for two contrasts a "
            f"feature. The fewest answers are on {frame.notna().sum().idxmin()!r}."
        )
    varied(used)
    sides = [_sides(used[name], _cut(low, name, "low"), _cut(high, name, "high")) for name in features]
    x = np.column_stack([*(side for pair in sides for side in pair), used[target]]).astype(float)
    p = x.shape[1] - 1
    S = np.cov(x.T)[..., None]
    b = solve(S[:p, :p], S[:p, p])
    if np.isnan(b).any():
        raise DataError(
            "Low and high answers of the features coincide: their penalties and rewards cannot be told apart."
        )
    boot = [solve(block.cov[:p, :p], block.cov[:p, p]) for block in resamples(x, n_boot, np.random.default_rng(seed))]
    boot = np.concatenate([b[:, :0], *boot], axis=1)
    boot = boot[:, np.isfinite(boot).all(axis=0)]
    table = pd.DataFrame({"n_low": x[:, 0:p:2].sum(axis=0), "n_high": x[:, 1:p:2].sum(axis=0)}).astype(int)
    columns = {"penalty": (b[0::2], boot[0::2]), "reward": (b[1::2], boot[1::2])}
    columns["asymmetry"] = (_asymmetry(b), _asymmetry(boot))
    for name, (value, replicates) in columns.items():
        table[name] = value[:, 0]
        table[f"{name}_low"], table[f"{name}_high"] = _interval(replicates)
    table.index = pd.Index(features, name="feature")
    table["kind"] = [_kind(row) for _, row in table.iterrows()]
    fit = {
        "r2": float(b[:, 0] @ S[:p, p, 0] / S[p, p, 0]),
        "customers": len(x),
        "excluded": len(frame) - len(x),
        "replicates": boot.shape[1],
        "degenerate": n_boot - boot.shape[1],
    }
    return Contrasts(table, pd.Series(fit, name="fit"))


def _cut(cut, name, which):
    if not isinstance(cut, dict):
        return cut
    if name not in cut:
        raise DataError(f"{which} has no cut-off for the feature {name!r}.")
    return cut[name]


def _sides(answers, low, high):
    if not low < high:
        raise DataError(
            f"The low answers of {answers.name!r} (up to {low:g}) must lie below the high ones (from {high:g})."
        )
    below, above = (answers <= low).to_numpy(), (answers >= high).to_numpy()
    parts = {f"answered {low:g} or less": below, f"answered {high:g} or more": above, "are in between": ~below & ~above}
    for what, rows in parts.items():
        if rows.sum() < FEW:
            raise DataError(
                f"Only {rows.sum()} of the {len(answers):,} customers {what} on {answers.name!r} (answers run from "
                f"{answers.min():g} to {answers.max():g}): choose other cut-offs."
            )
    return below, above


def _interval(replicates):
    if not replicates.shape[1]:
        return (np.full(len(replicates), np.nan),) * 2
    return np.nanquantile(replicates, [0.025, 0.975], axis=1)


def _asymmetry(b):
    loss, gain = np.maximum(-b[0::2], 0.0), np.maximum(b[1::2], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Neither loss nor gain is no asymmetry.
        return np.where(loss + gain > 0, (gain - loss) / (gain + loss), 0.0)


def _kind(row):
    """What the intervals support; missing intervals support nothing."""
    if row["penalty_low"] > 0 or row["reward_high"] < 0:
        return "reversed"
    if not (row["penalty_high"] < 0 or row["reward_low"] > 0):
        return "no effect shown"
    if row["asymmetry_high"] < 0:
        return "basic"
    if row["asymmetry_low"] > 0:
        return "excitement"
    return "performance" if row["asymmetry_low"] > -EVEN and row["asymmetry_high"] < EVEN else "undecided"
