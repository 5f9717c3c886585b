"""What to improve first: how much each construct matters, and how well it is doing (importance and performance)."""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level
from crmlab.loyalty.bootstraps import refits, tally
from crmlab.loyalty.effects import connected, total_effects
from crmlab.loyalty.printing import printable


@dataclasses.dataclass(frozen=True, eq=False)
class Priorities:
    """Importance and performance of what acts on a target.

    Attributes
    ----------
    constructs : pandas.DataFrame
        By construct that acts on the target: `importance`, the points by which the target rises with one more point of
        the construct, directly and over others, all on 0 to 100; `performance`, the mean on 0 to 100; intervals of both
        (`importance_low`, `importance_high`, `performance_low`, `performance_high`).
    items : pandas.DataFrame
        The same by construct and item; the importance of a construct is the sum over its items.
    target : pandas.Series
        `performance`, `performance_low`, `performance_high` of the target.
    scale : dict
        Item to the lowest and highest answer that were assumed.
    counts : pandas.Series
        What became of the resamples; see `Bootstrap`.
    """

    constructs: pd.DataFrame
    items: pd.DataFrame
    target: pd.Series
    scale: dict
    counts: pd.Series

    def summary(self):
        """Return a printable table.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            It prints as text and displays as HTML.
        """
        ends = sorted(set(self.scale.values()))
        top = [["Target:", self.target.name, "Performance:", f"{self.target['performance']:.1f}"]]
        top.append(["Scales:", ", ".join(f"{low:g} to {high:g}" for low, high in ends), "", ""])
        return printable(
            "Importance and performance", top, [(self.constructs, "Constructs"), (self.items, "Items")], []
        )


def ipma(result, target, scale=None, replicates=5000, seed=None, level=0.95):
    """Set the importance of each construct for a target beside its performance (importance-performance map).

    Parameters
    ----------
    result : PathResult
        A fitted path model.
    target : str
        The construct to be improved.
    scale : tuple of float or mapping, optional
        Lowest and highest possible answer, of all items or by item; taken from the SurveySpec where there is one. It is
        never inferred from the answers.
    replicates : int
        Bootstrap resamples for the intervals.
    seed : int, optional
        Seed of the random numbers.
    level : float
        Probability of the intervals.

    Returns
    -------
    Priorities
        Its `constructs`, `items`, `target`.

    Raises
    ------
    DataError
        No scale, answers beyond it, an unknown target or one that nothing acts on, negative weights, a model that
        corrects for attenuation.

    Notes
    -----
    Ringle and Sarstedt (2016), Industrial Management & Data Systems 116(9), 1865-1886. Importance is the unstandardized
    total effect.

    Examples
    --------
    >>> from crmlab import data
    >>> from crmlab.loyalty import PathModel
    >>> items = {"Satisfaction": ["CUSA1", "CUSA2", "CUSA3"], "Loyalty": ["CUSL1", "CUSL2", "CUSL3"]}
    >>> fit = PathModel(items, "Loyalty ~ Satisfaction").fit(data.load("mobi").to_pandas())
    >>> ipma(fit, "Loyalty", scale=(1, 10), replicates=200, seed=1).target["performance"].round(1).item()
    71.1
    """
    s = result.model.structure
    if target not in s.constructs:
        raise DataError(f"The target {target!r} is not among the constructs {', '.join(s.constructs)}.")
    if any(s.consistent):
        raise DataError("Performance is that of composites: fit the model with consistent=False.")
    checked_level(level)
    place = s.constructs.index(target)
    acting = [i for i, j in connected(s) if j == place]
    if not acting:
        raise DataError(f"Nothing acts on the target {target!r}: choose an outcome.")
    result.filled()
    ends = _ends(result, scale, [i for j in [*acting, place] for i in s.blocks[j]])
    low, high = np.array([ends.get(item, (np.nan, np.nan)) for item in s.items]).T

    def measure(mean, cov, found):
        return _measure(result.model, place, low[:, None], high[:, None], mean, cov, found)

    reasons = collections.Counter()
    own = measure(result.mean[:, None], result.cov[..., None], result.estimates)[..., 0]
    drawn = [measure(block.mean, block.cov, found) for block, found in refits(result, replicates, seed, reasons)]
    counts = tally(reasons, replicates)
    bounds = np.quantile(np.concatenate(drawn, axis=-1), [(1 - level) / 2, (1 + level) / 2], axis=-1)
    columns = {}
    for k, name in enumerate(("importance", "performance")):
        columns |= {name: own[k], f"{name}_low": bounds[0, k], f"{name}_high": bounds[1, k]}
    table, J = pd.DataFrame(columns), len(s.constructs)
    rows = [i for j in acting for i in s.blocks[j]]
    pairs = [(s.constructs[j], s.items[i]) for j in acting for i in s.blocks[j]]
    items = table.iloc[[J + i for i in rows]].set_index(pd.MultiIndex.from_tuples(pairs, names=["construct", "item"]))
    constructs = table.iloc[acting].set_index(pd.Index([s.constructs[j] for j in acting], name="construct"))
    goal = table.iloc[place, 3:].rename(target)
    return Priorities(constructs, items, goal, ends, counts)


def _measure(model, place, low, high, mean, cov, found):
    """Importance and performance of constructs, then of items: (2, constructs + items, b)."""
    s = model.structure
    raw = found.weights / np.sqrt(np.einsum("iib->ib", cov)) if model.matrix == "correlation" else found.weights
    # In units of the whole scale; a composite with variance 1, divided by the sum of its weights, is the weighted mean.
    raw = raw * (high - low)
    size = np.array([raw[block].sum(axis=0) for block in s.blocks])
    effect = total_effects(found.paths, s)[:, place] * size / size[place]
    owner = np.repeat(np.arange(len(s.blocks)), [len(block) for block in s.blocks])
    share, answers = raw / size[owner], 100 * (mean - low) / (high - low)
    performance = np.array([(share[block] * answers[block]).sum(axis=0) for block in s.blocks])
    return np.array([np.concatenate([effect, effect[owner] * share]), np.concatenate([performance, answers])])


def _ends(result, scale, involved):
    """Lowest and highest possible answer of each item involved; refuse what they do not fit."""
    s, spec = result.model.structure, result.model.spec
    if scale is None and isinstance(spec, Mapping):
        raise DataError(
            "State the scale of the answers, such as scale=(1, 10): performance on 0 to 100 depends on it, and the "
            "answers given do not tell what could have been answered."
        )
    table, ends = result.answers.table, {}
    for i in involved:
        item = s.items[i]
        if scale is None:
            low, high = spec.scale_of(item)
        else:
            stated = scale.get(item) if isinstance(scale, Mapping) else scale
            if np.shape(stated) != (2,) or not np.issubdtype(np.asarray(stated).dtype, np.number):
                raise DataError(f"The scale of {item!r} must be its lowest and highest answer, such as (1, 10).")
            low, high = stated
        if not low < high:
            raise DataError(
                f"The scale of {item!r} must be its lowest and its highest answer, not {low!r} and {high!r}."
            )
        if off := int(((table[item] < low) | (table[item] > high)).sum()):
            raise DataError(
                f"{off} answers to {item!r} lie off the stated scale {low:g} to {high:g} (they run from "
                f"{table[item].min():g} to {table[item].max():g}): performance would leave 0 to 100."
            )
        if (weight := result.estimates.weights[i, 0]) < 0:
            raise DataError(
                f"The item {item!r} has a negative weight ({weight:.3f}), so its construct has no performance on 0 to "
                "100: leave the item out, or turn it if it is worded the other way."
            )
        ends[item] = (float(low), float(high))
    return ends
