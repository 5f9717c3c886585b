"""Does a path model differ between groups of customers? Permutation tests, the measurement first."""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from crmlab.data.errors import DataError
from crmlab.loyalty import composites
from crmlab.loyalty.printing import printable
from crmlab.loyalty.questionnaire import groups_of
from crmlab.loyalty.resampling import correlation, moments, sizes
from crmlab.loyalty.samples import table_of


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """A path model in two or more groups, pair by pair.

    Attributes
    ----------
    fits : dict
        Group to its `PathResult`.
    invariance : pandas.DataFrame
        By pair of groups and construct: `c`, the correlation of the composites that the weights of either group make of
        the answers of both; `c_5`, its 5 % quantile when the groups are drawn by lot; `same_composite` (`c` above it);
        differences of mean and of log variance of the common composite (``first - second``) with their `p_mean` and
        `p_variance`; `verdict` (``"full"``, ``"partial"`` or ``"none"``).
    paths : pandas.DataFrame
        By pair of groups and path: the coefficients `first` and `second`, their `difference`, its `p_value`; the same
        of the slopes in units of the answers (`raw_first`, `raw_second`, `raw_difference`, `raw_p_value`); `p_holm` and
        `raw_p_holm`, corrected for the number of pairs and paths; `comparable`, whether the composites at both ends are
        the same in both groups.
    counts : pandas.Series
        By pair, permutations that allowed an estimate.
    """

    fits: dict
    invariance: pd.DataFrame
    paths: pd.DataFrame
    counts: pd.Series

    def summary(self):
        """Return a printable table.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            It prints as text and displays as HTML.
        """
        top = [[f"{name}:", f"{fit.nobs:,}"] for name, fit in self.fits.items()]
        tables = [(self.invariance, "Measurement"), (self.paths, "Paths")]
        return printable("Comparison of groups", top, tables, [])


def compare_groups(model, data, by, permutations=1000, seed=None):
    """Fit a path model in each group and test by permutation whether the groups differ.

    The measurement comes first (MICOM): only where the weights of both groups make the same composites paths compare,
    and only where means and variances are equal too may the groups be pooled.

    Parameters
    ----------
    model : PathModel
        The model, the same in all groups.
    data : pandas.DataFrame
        One row a respondent.
    by : str
        Column with the group; respondents without one are left out.
    permutations : int
        How often the groups of each pair are drawn by lot.
    seed : int, optional
        Seed of the random numbers.

    Returns
    -------
    Comparison
        Its `fits`, `invariance`, `paths`, `counts`.

    Raises
    ------
    DataError
        No such column, fewer than two groups, a group that does not allow a fit (named).

    Notes
    -----
    Chin and Dibbern (2010) for the permutation of paths; Henseler, Ringle and Sarstedt (2016), International Marketing
    Review 33(3), 405-431, for the measurement. Among thousands of respondents a `c` of .9999 differs from 1 beyond
    chance and still means the same: read it, not only the verdict. A p-value counts the permuted differences as large
    as that found, itself included, so it is never below 1 / (permutations + 1).

    Examples
    --------
    >>> from crmlab import data
    >>> from crmlab.loyalty import PathModel
    >>> items = {"Satisfaction": ["cusa"], "Loyalty": ["cusl_1", "cusl_2", "cusl_3"]}
    >>> survey = data.load("corporate_reputation").to_pandas().replace(-99, float("nan"))
    >>> found = compare_groups(PathModel(items, "Loyalty ~ Satisfaction"), survey, "servicetype", 200, seed=1)
    >>> sorted(found.fits)
    [1, 2]
    """
    if permutations < 1:
        raise DataError(f"permutations must be 1 or more (1,000 is usual), not {permutations!r}.")
    plain = isinstance(model.spec, Mapping)
    labels = table_of(data, [by])[by] if plain else groups_of(data, model.spec, by)
    names = sorted(labels.dropna().unique().tolist(), key=lambda name: (isinstance(name, str), name))
    if len(names) < 2:
        raise DataError(f"The column {by!r} holds {len(names)} group: a comparison needs two.")
    fits = {}
    for name in names:
        try:
            fits[name] = model.fit(data[(labels == name).fillna(False).to_numpy(dtype=bool)])
        except DataError as error:
            raise DataError(f"Group {name} of {by!r}: {error}") from None
    rng = np.random.default_rng(seed)
    measured, moved, counts = {}, {}, {}
    for pair in itertools.combinations(names, 2):
        measured[pair], moved[pair], counts[pair] = _pair(*(fits[name] for name in pair), permutations, rng)
    invariance = pd.concat(measured, names=["first", "second"])
    paths = pd.concat(moved, names=["first", "second"])
    same = invariance["same_composite"]
    paths["comparable"] = [same[a, b, cause] and same[a, b, outcome] for a, b, cause, outcome in paths.index]
    for kind in ("", "raw_"):
        known = paths[f"{kind}p_value"].dropna()
        corrected = multipletests(known, method="holm")[1] if len(known) else known
        paths[f"{kind}p_holm"] = pd.Series(corrected, known.index).reindex(paths.index)
    index = pd.MultiIndex.from_tuples(list(counts), names=["first", "second"])
    return Comparison(fits, invariance, paths, pd.Series(list(counts.values()), index, name="permutations"))


def _pair(one, other, permutations, rng):
    """Measurement and paths of two groups against groups drawn by lot from both."""
    model, s = one.model, one.model.structure
    x = np.concatenate([fit.answers.table.to_numpy() for fit in (one, other)])
    first = np.repeat([1.0, 0.0], [one.nobs, other.nobs])[None]
    pooled = moments(x, np.ones_like(first))
    everyone = model.estimate(pooled.cov)
    found = _differences(model, x, first, pooled.cov, everyone.weights)
    drawn = [
        _differences(model, x, rng.permuted(np.repeat(first, b, axis=0), axis=1), pooled.cov, everyone.weights)
        for b in sizes(x, permutations)
    ]
    drawn = {name: np.concatenate([part[name] for part in drawn], axis=-1) for name in found}
    usable = np.isfinite(drawn["path"]).all(axis=0)
    if not usable.any():
        raise DataError("No drawing of the groups by lot allows a fit: there are too few respondents.")
    drawn = {name: values[..., usable] for name, values in drawn.items()}

    def p(name):
        # A tie by rounding counts as as large.
        as_large = np.abs(drawn[name]) >= np.abs(found[name]) - 1e-12
        return np.where(np.isnan(found[name][:, 0]), np.nan, (1 + as_large.sum(axis=-1)) / (1 + usable.sum()))

    constructs = pd.Index(s.constructs, name="construct")
    measured = pd.DataFrame({"c": found["c"][:, 0], "c_5": np.quantile(drawn["c"], 0.05, axis=-1)}, constructs)
    # The composite of a single item is the item.
    measured["same_composite"] = measured["c"] >= measured["c_5"] - 1e-9
    measured["mean_difference"], measured["p_mean"] = found["mean"][:, 0], p("mean")
    measured["log_variance_difference"], measured["p_variance"] = found["variance"][:, 0], p("variance")
    equal = (measured[["p_mean", "p_variance"]] > 0.05).all(axis=1)
    measured["verdict"] = np.where(measured["same_composite"], np.where(equal, "full", "partial"), "none")
    moved = pd.DataFrame(
        {
            "first": found["first"][:, 0],
            "second": found["second"][:, 0],
            "difference": found["path"][:, 0],
            "p_value": p("path"),
            "raw_first": found["raw_first"][:, 0],
            "raw_second": found["raw_second"][:, 0],
            "raw_difference": found["raw"][:, 0],
            "raw_p_value": p("raw"),
        },
        index=one.paths.index,
    )
    return measured, moved, int(usable.sum())


def _differences(model, x, first, pooled, weights):
    """What differs between the respondents of `first`, one row a way to draw them, and all others."""
    s, standard = model.structure, model.matrix == "correlation"
    blocks = [moments(x, members) for members in (first, 1 - first)]
    usable = np.logical_and(*(block.usable for block in blocks))
    fits = [model.estimate(block.cov[..., usable], 1e-8, weights[:, 0]) for block in blocks]
    blocks = [block.take(usable) for block in blocks]
    spread = [np.sqrt(np.einsum("iib->ib", cov)) for cov in (blocks[0].cov, blocks[1].cov, pooled)]
    raw = [w / sd if standard else w for w, sd in zip((fits[0].weights, fits[1].weights, weights), spread, strict=True)]
    S = correlation(pooled) if standard else pooled
    c, mean, variance = [], [], []
    for items in s.blocks:
        block = np.ix_(items, items)
        common = [np.einsum("ib,ik,kb->b", f.weights[items], S[block][..., 0], g.weights[items])
                  for f, g in ((fits[0], fits[1]), (fits[0], fits[0]), (fits[1], fits[1]))]  # fmt: skip
        c.append(common[0] / np.sqrt(common[1] * common[2]))
        w = raw[2][items, 0]
        mean.append(w @ (blocks[0].mean[items] - blocks[1].mean[items]))
        size = [np.einsum("i,ikb,k->b", w, part.cov[block], w) for part in blocks]
        variance.append(np.log(size[0] / size[1]))
    rest = np.logical_and(*(fit.iterations > 0 for fit in fits))
    first, second = (np.where(rest, fit.paths, np.nan) for fit in fits)
    raw_first, raw_second = (composites.raw_paths(p, w, s) for p, w in zip((first, second), raw[:2], strict=True))
    return {
        "c": np.array(c),
        "mean": np.array(mean),
        "variance": np.array(variance),
        "first": first,
        "second": second,
        "path": first - second,
        "raw_first": raw_first,
        "raw_second": raw_second,
        "raw": raw_first - raw_second,
    }
