"""Path models between constructs that a survey measures with several items each (PLS)."""

import dataclasses
import functools
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty import composites, questionnaire
from crmlab.loyalty.bootstraps import bootstrap
from crmlab.loyalty.effects import along, chains, connected, decompose, named
from crmlab.loyalty.printing import printable
from crmlab.loyalty.resampling import correlation, moments
from crmlab.loyalty.structure import answers, structure

MISSING = {"mean": "replaced by the item's mean", "listwise": "respondents with any left out"}


@dataclasses.dataclass(frozen=True, eq=False)
class PathModel:
    r"""Constructs, the items that measure them, and which construct acts on which.

    Each construct is a weighted sum of its items (partial least squares); each outcome is regressed on its causes.

    Parameters
    ----------
    spec : SurveySpec, str or mapping
        What was asked: a description, the name of one (see `crmlab.loyalty.spec`), or a mapping of construct to items.
    paths : mapping, str or sequence
        Formulas such as ``"Loyalty ~ Satisfaction + Image"`` (several lines or a list), arrows
        ``"Image -> Satisfaction -> Loyalty"``, pairs of cause and outcome, or a mapping from outcome to causes.
    scheme : {"path", "factorial", "centroid"}
        How constructs look at their neighbours while the weights are found.
    modes : mapping, optional
        Construct to ``"A"`` (correlation weights, the default) or ``"B"`` (regression weights, for formative items).
    consistent : bool or sequence of str
        Correct for attenuation (PLSc), as for common factors: all constructs of Mode A, or those named.
    matrix : {"correlation", "covariance"}
        Whether items are standardized before they are weighed.
    missing : {"mean", "listwise"}
        Replace a missing answer by the mean of its item, or leave the respondent out; either is counted.

    Raises
    ------
    DataError
        Unknown constructs, constructs without item, paths that run in a circle, options that do not exist.

    Notes
    -----
    Wold (1982); Lohmoeller (1989); Dijkstra and Henseler (2015), MIS Quarterly 39(2), 297-316, for PLSc. The loadings
    of a construct sum to something positive: that fixes its sign.

    Examples
    --------
    >>> from crmlab import data
    >>> items = {"Satisfaction": ["CUSA1", "CUSA2", "CUSA3"], "Loyalty": ["CUSL1", "CUSL2", "CUSL3"]}
    >>> fit = PathModel(items, "Loyalty ~ Satisfaction").fit(data.load("mobi").to_pandas())
    >>> fit.params.round(3).to_dict()
    {'Satisfaction -> Loyalty': 0.659}
    """

    spec: object
    paths: object
    scheme: str = "path"
    modes: Mapping | None = None
    consistent: bool | tuple = False
    matrix: str = "correlation"
    missing: str = "mean"

    def __post_init__(self):
        if not isinstance(self.spec, Mapping):
            if not isinstance(self.spec, questionnaire.SurveySpec | str | Path):
                raise DataError(f"spec must be a SurveySpec, its name, or construct to items, not {self.spec!r}.")
            object.__setattr__(self, "spec", questionnaire.spec(self.spec))
        for name, allowed in {
            "scheme": composites.SCHEMES, "matrix": ("correlation", "covariance"), "missing": tuple(MISSING)
        }.items():  # fmt: skip
            if getattr(self, name) not in allowed:
                raise DataError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")
        _ = self.structure

    @functools.cached_property
    def structure(self):
        """The model by position; see `crmlab.loyalty.structure.Structure`."""
        return structure(self.spec, self.paths, self.modes, self.consistent)

    def answers(self, data):
        """Return the answers that the model is fitted to; see `crmlab.loyalty.structure.answers`.

        Parameters
        ----------
        data : pandas.DataFrame
            One row a respondent.

        Returns
        -------
        crmlab.loyalty.structure.Answers
            The items as numbers, and what was done about missing ones.
        """
        return answers(self.structure, data, self.spec, self.missing)

    def estimate(self, cov, tolerance=1e-10, reference=None):
        """Estimate the model for many covariance matrices; see `crmlab.loyalty.composites.estimate`.

        Parameters
        ----------
        cov : numpy.ndarray, shape (items, items, b)
            Covariances of the items.
        tolerance : float
            Largest change of a weight at which the search ends.
        reference : numpy.ndarray, optional
            Weights whose composites the signs follow.

        Returns
        -------
        crmlab.loyalty.composites.Estimates
            What was found.
        """
        S = correlation(cov) if self.matrix == "correlation" else cov
        return composites.estimate(S, self.structure, self.scheme, tolerance, reference)

    def fit(self, data):
        """Fit the model to the answers of a survey.

        Parameters
        ----------
        data : pandas.DataFrame
            One row a respondent, one column an item.

        Returns
        -------
        PathResult
            The estimates. A `RuntimeWarning` says when the weights did not come to rest.

        Raises
        ------
        DataError
            Data that do not fit the model, by item.
        """
        found = self.answers(data)
        x = found.table.to_numpy()
        block = moments(x, np.ones((1, len(x))))
        return self._result(block.cov, block.mean[:, 0], len(x), found)

    def fit_matrix(self, matrix, nobs):
        """Fit the model to correlations or covariances, such as printed ones or polychoric ones.

        Parameters
        ----------
        matrix : pandas.DataFrame
            Square, rows and columns named by item.
        nobs : int
            Respondents behind it.

        Returns
        -------
        PathResult
            The estimates; without answers there are no scores and no bootstrap.

        Raises
        ------
        DataError
            A matrix that lacks items, is not symmetric or not positive definite; too few respondents.
        """
        items = list(self.structure.items)
        if not isinstance(matrix, pd.DataFrame) or not (matrix.index.is_unique and matrix.columns.is_unique):
            raise DataError("The matrix must be a pandas frame whose rows and columns are the items, each once.")
        if nobs <= len(items):
            raise DataError(f"{nobs} respondents for {len(items)} items: a model needs more respondents than items.")
        if lacking := [item for item in items if item not in matrix.index or item not in matrix.columns]:
            raise DataError(f"The matrix has no row and column {lacking[0]!r}.")
        S = matrix.loc[items, items].to_numpy(dtype=float)
        if not np.isfinite(S).all() or not np.allclose(S, S.T, atol=1e-8):
            raise DataError("The matrix of the items is not symmetric, or holds missing values.")
        if np.linalg.eigvalsh(S)[0] <= 1e-12:
            raise DataError("The matrix of the items is not positive definite: no data have such correlations.")
        return self._result(S[..., None], np.full(len(items), np.nan), int(nobs), None)

    def _result(self, cov, mean, nobs, found):
        estimates = self.estimate(cov)
        _regular(self.structure, cov, estimates)
        result = PathResult(self, nobs, cov[..., 0], mean, estimates, found)
        if not result.converged:
            warnings.warn(
                f"The weights did not come to rest within {composites.LIMIT} iterations; try another scheme.",
                RuntimeWarning,
                stacklevel=3,
            )
        return result


def _regular(model, cov, estimates):
    """Name what cannot be told apart, where a system of equations has no solution."""
    for j, block in enumerate(model.blocks):
        if model.formative[j] and np.isnan(composites.solve(cov[np.ix_(block, block)], cov[block, 0])).any():
            names = ", ".join(model.items[i] for i in block)
            raise DataError(
                f"The items of {model.constructs[j]!r} ({names}) are combinations of one another: Mode B needs a "
                "weight for each. Leave one out or use Mode A."
            )
    for j in model.outcomes:
        causes, name = model.causes(j), model.constructs[j]
        Q = estimates.correlations[np.ix_(causes, causes)]
        if np.isfinite(Q).all() and np.isnan(composites.solve(Q, Q[:, 0])).any():
            names = ", ".join(model.constructs[i] for i in causes)
            raise DataError(f"The causes of {name!r} ({names}) are combinations of one another: leave one out.")


@dataclasses.dataclass(frozen=True, eq=False)
class PathResult:
    """A fitted path model.

    Attributes
    ----------
    model : PathModel
        What was fitted.
    nobs : int
        Respondents.
    cov, mean : numpy.ndarray
        Covariances and means of the items: all that the estimates depend on.
    estimates : crmlab.loyalty.composites.Estimates
        The estimates as arrays.
    answers : crmlab.loyalty.structure.Answers or None
        The answers, with `replaced` and `excluded`.
    """

    model: PathModel
    nobs: int
    cov: np.ndarray = dataclasses.field(repr=False)
    mean: np.ndarray = dataclasses.field(repr=False)
    estimates: composites.Estimates = dataclasses.field(repr=False)
    answers: object = dataclasses.field(repr=False, default=None)

    @property
    def _structure(self):
        return self.model.structure

    @property
    def _items(self):
        s = self._structure
        pairs = [(s.constructs[j], s.items[i]) for j, block in enumerate(s.blocks) for i in block]
        return pd.MultiIndex.from_tuples(pairs, names=["construct", "item"])

    @property
    def _edges(self):
        return named(self._structure.edges, self._structure)

    @property
    def params(self):
        """Path coefficients, named ``"cause -> outcome"``."""
        return pd.Series(self.estimates.paths[:, 0], self._structure.names, name="path")

    @property
    def raw_params(self):
        """Path coefficients in units of the answers: what one more point of the cause adds to the outcome."""
        s = self._structure
        raw = composites.raw_paths(self.estimates.paths, self.raw_weights[:, None], s)
        return pd.Series(raw[:, 0], s.names, name="raw_path")

    @property
    def paths(self):
        """By cause and outcome: `path`, effect size `f2` (of leaving the cause out, same scores), `vif`."""
        s, Q = self._structure, self.estimates.correlations
        others = [[k for k in s.causes(j) if k != i] for i, j in s.edges]
        full = np.array([self.estimates.r2[j, 0] for _, j in s.edges])
        without = np.array([_explained(Q, rest, j) for rest, (_, j) in zip(others, s.edges, strict=True)])
        shared = np.array([_explained(Q, rest, i) for rest, (i, _) in zip(others, s.edges, strict=True)])
        with np.errstate(divide="ignore"):
            table = {"path": self.estimates.paths[:, 0], "f2": (full - without) / (1 - full), "vif": 1 / (1 - shared)}
        return pd.DataFrame(table, index=self._edges)

    @property
    def weights(self):
        """Weights by construct and item: of standardized items, or of items as they are for covariances."""
        return pd.Series(self.estimates.weights[:, 0], self._items, name="weight")

    @property
    def loadings(self):
        """Correlations of items with their construct, by construct and item; of the factor where consistent."""
        return pd.Series(self.estimates.loadings[:, 0], self._items, name="loading")

    @property
    def cross_loadings(self):
        """Correlations of all items with all composites."""
        s = self._structure
        weights = np.zeros((len(s.items), len(s.constructs)))
        for j, block in enumerate(s.blocks):
            weights[block, j] = self.raw_weights[block]
        table = self.cov @ weights / np.sqrt(np.diag(self.cov))[:, None]
        return pd.DataFrame(table, pd.Index(s.items, name="item"), pd.Index(s.constructs, name="construct"))

    @property
    def raw_weights(self):
        """Weights of the items in their own units, as an array; composites have variance 1."""
        w = self.estimates.weights[:, 0]
        return w / np.sqrt(np.diag(self.cov)) if self.model.matrix == "correlation" else w

    @property
    def r2(self):
        """Share of variance that its causes explain, by outcome."""
        s = self._structure
        names = pd.Index([s.constructs[j] for j in s.outcomes], name="construct")
        return pd.Series(self.estimates.r2[s.outcomes, 0], names, name="r2")

    @property
    def adjusted_r2(self):
        """Share of variance explained, less what chance explains with as many causes."""
        s = self._structure
        k = np.array([len(s.causes(j)) for j in s.outcomes])
        return (1 - (1 - self.r2) * (self.nobs - 1) / (self.nobs - k - 1)).rename("adjusted_r2")

    @property
    def f2(self):
        """Effect sizes of the paths, named like `params`."""
        return self.paths["f2"].set_axis(self._structure.names)

    @property
    def correlations(self):
        """Correlations of the constructs; corrected for attenuation where consistent."""
        names = pd.Index(self._structure.constructs, name="construct")
        return pd.DataFrame(self.estimates.correlations[..., 0], names, names)

    @property
    def reliability(self):
        """By construct: `items`, `mode`, standardized `alpha`, `rho_a`, `rho_c`, `ave`; missing where none exists."""
        s, R = self._structure, correlation(self.cov[..., None])[..., 0]
        rows = []
        for j, block in enumerate(s.blocks):
            k, loading = len(block), self.estimates.loadings[block, 0]
            row = {"items": k, "mode": "B" if s.formative[j] else "A"}
            if k > 1 and not s.formative[j]:
                common = loading.sum() ** 2
                row["alpha"] = k / (k - 1) * (1 - k / R[np.ix_(block, block)].sum())
                row["rho_a"] = self.estimates.rho_a[j, 0]
                row["rho_c"] = common / (common + (1 - loading**2).sum())
                row["ave"] = np.mean(loading**2)
            rows.append(row)
        columns = ["items", "mode", "alpha", "rho_a", "rho_c", "ave"]
        return pd.DataFrame(rows, pd.Index(s.constructs, name="construct"), columns)

    @property
    def effects(self):
        """By cause and outcome between which a way leads: `direct`, `indirect` and `total` effect."""
        s, found = self._structure, decompose(self.estimates.paths, self._structure)
        return pd.DataFrame({kind: values[:, 0] for kind, values in found.items()}, named(connected(s), s))

    @property
    def specific(self):
        """Indirect effect along each single way, named ``"A -> B -> C"``."""
        found = along(self.estimates.paths, self._structure)[:, 0]
        return pd.Series(found, list(chains(self._structure)), name="effect", dtype=float)

    @property
    def scores(self):
        """Composites of the respondents, mean 0 and variance 1."""
        x = self.filled() - self.mean
        return self._composites(x, self.raw_weights)

    @property
    def unscaled_weights(self):
        """Weights of items in their own units that sum to 1 in each construct, by construct and item."""
        found = pd.Series(self.raw_weights, self._items, name="weight")
        return found / found.groupby(level="construct").transform("sum")

    @property
    def unscaled_scores(self):
        """Composites of the respondents in the units of the answers: weighted means of the items."""
        return self._composites(self.filled(), self.unscaled_weights.to_numpy())

    def filled(self):
        """Return the answers as an array, missing ones replaced.

        Returns
        -------
        numpy.ndarray, shape (respondents, items)
            The answers.

        Raises
        ------
        DataError
            When the model was fitted to a matrix.
        """
        if self.answers is None:
            raise DataError("The model was fitted to a matrix: scores and resamples need the answers. Use fit(data).")
        x = self.answers.table.to_numpy()
        return np.where(np.isnan(x), self.mean, x)

    def _composites(self, x, weights):
        s = self._structure
        columns = np.column_stack([x[:, block] @ weights[block] for block in s.blocks])
        return pd.DataFrame(columns, self.answers.table.index, pd.Index(s.constructs, name="construct"))

    @property
    def converged(self):
        """Whether the weights came to rest."""
        return bool(self.estimates.iterations[0])

    @property
    def iterations(self):
        """How many rounds the weights took; 0 when they did not come to rest."""
        return int(self.estimates.iterations[0])

    @property
    def improper(self):
        """What no population can have, in words; empty for a proper solution."""
        s, e, found = self._structure, self.estimates, []
        if not self.converged:
            found.append("the weights did not come to rest")
        for j, name in enumerate(s.constructs):
            if s.consistent[j] and np.isnan(e.rho_a[j, 0]):
                found.append(f"{name}: its items correlate negatively on balance, so its reliability has no estimate")
            elif s.consistent[j] and e.rho_a[j, 0] > 1:
                found.append(f"{name}: negative error variance (reliability rho_A {e.rho_a[j, 0]:.3f} above 1)")
            for i in s.blocks[j]:
                if abs(e.loadings[i, 0]) > 1 + 1e-9:
                    found.append(f"{s.items[i]}: loading {e.loadings[i, 0]:.3f} beyond 1, so negative error variance")
            if abs(e.r2[j, 0]) > 1 + 1e-9:
                found.append(f"{name}: negative residual variance (R² {e.r2[j, 0]:.3f})")
            for k in range(j):
                if abs(r := e.correlations[j, k, 0]) > 1 + 1e-9:
                    found.append(f"{s.constructs[k]} and {name}: correlation {r:.3f} beyond 1")
        Q = e.correlations[..., 0]
        if np.isfinite(Q).all() and (least := np.linalg.eigvalsh(Q)[0]) < -1e-9:
            found.append(f"the correlations of the constructs are not those of any data (eigenvalue {least:.3f})")
        return found

    @property
    def notes(self):
        """What a reader should know of the data and the items, in words."""
        found = []
        if self.answers is not None:
            replaced, excluded = self.answers.replaced, self.answers.excluded
            if excluded:
                found.append(f"{excluded} respondents left out for missing answers")
            for item, n in replaced[replaced > 0].items():
                found.append(f"{item}: {n} missing answers replaced by the mean ({n / self.nobs:.1%})")
        for (construct, item), loading in self.loadings.items():
            if loading < 0:
                found.append(f"{item}: negative loading {loading:.3f} on {construct}; is it worded the other way?")
        return found

    def bootstrap(self, replicates=5000, seed=None, level=0.95):
        """Resample the respondents and fit the model to every resample.

        Parameters
        ----------
        replicates : int
            Resamples.
        seed : int, optional
            Seed of the random numbers.
        level : float
            Probability of the intervals, which run from percentile to percentile.

        Returns
        -------
        Bootstrap
            Intervals of everything estimated, and how many resamples were of no use, and why.

        Raises
        ------
        DataError
            Fewer than two resamples that allow an estimate.

        Notes
        -----
        A resample's composite is turned, if need be, so that it correlates positively with that of the fit; missing
        answers are replaced by the mean of the resample. Percentile intervals: Hair et al. (2022), A Primer on PLS-SEM,
        chapter 5.
        """
        return bootstrap(self, replicates, seed, level)

    def summary(self):
        """Return a printable table of the fit.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            The model, its paths, constructs and items; it prints as text and displays as HTML.
        """
        m = self.model
        top = [
            ["Scheme:", m.scheme, "Respondents:", f"{self.nobs:,}"],
            ["Matrix:", m.matrix, "Missing answers:", MISSING[m.missing]],
            [
                "Consistent:",
                ", ".join(_chosen(self._structure)) or "no",
                "Converged:",
                "yes" if self.converged else "NO",
            ],
        ]
        quality = self.reliability.join(self.r2).join(self.adjusted_r2)
        outer = pd.concat([self.weights, self.loadings], axis=1)
        tables = [(self.paths, "Paths"), (quality, "Constructs"), (outer, "Items")]
        return printable("Path model", top, tables, [*self.improper, *self.notes])

    def to_json(self):
        """Return the result as JSON text, readable by `from_json` and by any other program.

        Returns
        -------
        str
            The model, the covariances of the items and the estimates; no answer of any respondent.
        """
        from crmlab import __version__

        s, m = self._structure, self.model
        facts = {
            "crmlab": __version__,
            "format": 1,
            "constructs": s.items_of,
            "paths": [[s.constructs[i], s.constructs[j]] for i, j in s.edges],
            "scheme": m.scheme,
            "modes": {name: "B" for name, mode in (m.modes or {}).items() if mode == "B"},
            "consistent": _chosen(s),
            "matrix": m.matrix,
            "missing": m.missing,
            "nobs": self.nobs,
            "mean": [None if np.isnan(v) else v for v in self.mean.tolist()],
            "cov": self.cov.tolist(),
            "params": {name: None if np.isnan(v) else v for name, v in self.params.items()},
            "r2": {name: None if np.isnan(v) else v for name, v in self.r2.items()},
            "improper": self.improper,
        }
        return json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text):
        """Return the result that `to_json` wrote, without the answers.

        Parameters
        ----------
        text : str
            What `to_json` returned.

        Returns
        -------
        PathResult
            With the same estimates; scores and resamples need the answers.

        Raises
        ------
        ValueError
            Text of another format.
        """
        facts = json.loads(text)
        if facts.get("format") != 1:
            raise ValueError(f"This is not a result of format 1 (found {facts.get('format')!r}).")
        options = {name: facts[name] for name in ("scheme", "modes", "consistent", "matrix", "missing")}
        model = PathModel(facts["constructs"], facts["paths"], **options)
        mean = np.array([np.nan if v is None else v for v in facts["mean"]])
        return model._result(np.array(facts["cov"])[..., None], mean, facts["nobs"], None)


def _chosen(s):
    return [name for name, chosen in zip(s.constructs, s.consistent, strict=True) if chosen]


def _explained(Q, causes, j):
    """Share of variance of a construct that others explain."""
    if not causes:
        return 0.0
    beta = composites.solve(Q[np.ix_(causes, causes)], Q[causes, j])
    return float((beta * Q[causes, j]).sum())
