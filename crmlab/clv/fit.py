"""Maximum likelihood the same way for every model, and the result that it returns."""

import dataclasses
import functools
import json
import warnings

import numpy as np
import pandas as pd
from scipy import optimize, stats

from crmlab.clv.covariates import Design

CEILING = 16.0
"""Working coordinates stay within ±16 while searching (a factor of ten million), so nothing overflows."""

FLAT = -4.0
"""A coordinate below -4 (a dispersion below 0.02) is tried at its limit: the data may not call for heterogeneity."""

STEEP = 7.0
"""A coordinate above 7 (a dispersion above a thousand) is tried at the ceiling, where the likelihood is flat."""


def maximise(loglike, start, limits=(), pilot=None, bound=CEILING):
    r"""Maximise a log-likelihood in unconstrained coordinates; the limits of no dispersion are points like any other.

    Working coordinates :math:`y` are logs of positive quantities (or logits of shares). A dispersion
    :math:`\varphi = e^{y}` may have its maximum at zero: then :math:`y = -\infty` is the estimate and named as such.
    One without end stays at the ceiling of the search and is named too.

    Parameters
    ----------
    loglike : callable
        ``loglike(y) -> (value, gradient)``, a mean over observations; must accept ``-inf`` for a dispersion.
    start : array_like, shape (k,)
        Where to begin.
    limits : sequence of tuple of int
        Groups of coordinates that may end at ``-inf`` together.
    pilot : callable, optional
        The same for a sample of the observations, where the search may begin.
    bound : float or array_like, shape (k,)
        How far from zero each coordinate may go.

    Returns
    -------
    y : ndarray, shape (k,)
        The maximum.
    value : float
        The mean log-likelihood there.
    hessian : ndarray, shape (k, k)
        Second derivatives there; rows and columns of coordinates at a boundary are zero.
    gradient : float
        Largest absolute element of the gradient there.
    boundary : list of int
        Coordinates at their limit.
    """
    start = np.asarray(start, dtype=float)
    bound = np.broadcast_to(np.asarray(bound, dtype=float), start.shape)
    if pilot:
        start, _ = _search(pilot, start, [], bound, 1e-6)
        curvature = _hessian(pilot, start, range(len(start)))
        ridge = any(not FLAT < start[group[0]] < STEEP for group in limits) or np.any(np.abs(start) > bound - 1)
        if not ridge and np.all(np.linalg.eigvalsh(curvature) < 0):
            found = _approach(loglike, start, curvature)
            if found is not None:
                return *found, []
    y, value = _search(loglike, start, [], bound)
    boundary = []
    for group in limits:
        # At the ceiling the dispersion is polarisation: customers who leave at once and customers who never do.
        edge, group = (-np.inf, group) if y[group[0]] < FLAT else (bound[group[-1]], group[-1:])
        if set(group) <= set(boundary) or (edge > 0 and y[group[0]] < STEEP):
            continue
        limit, fixed = y.copy(), sorted({*boundary, *group})
        limit[list(group)] = edge
        at_limit, limit_value = _search(loglike, limit, fixed, bound)
        if limit_value >= value - 1e-11:
            y, value, boundary = at_limit, limit_value, fixed
    boundary = sorted({*boundary, *np.flatnonzero(np.abs(y) > bound - 1e-3)})
    y, value, hessian, gradient = _polish(loglike, y, boundary)
    return y, value, hessian, gradient, boundary


def _approach(loglike, y, curvature):
    """From the maximum of a sample to that of all, with the sample's curvature first: few looks at all the data."""
    value, gradient = loglike(y)
    for _ in range(8):
        if np.abs(gradient).max() < 1e-6:
            break
        y = y + np.clip(np.linalg.solve(-curvature, gradient), -1, 1)
        value, gradient = loglike(y)
    # Differences to one side are off by 1e-5 of the curvature, which no standard error shows.
    h, near = 1e-5, y
    hessian = np.column_stack([(loglike(y + h * e)[1] - gradient) / h for e in np.eye(len(y))])
    hessian = (hessian + hessian.T) / 2
    for _ in range(3):
        if not np.abs(gradient).max() > 1e-10:
            break
        y = y + np.linalg.solve(-hessian, gradient)
        value, gradient = loglike(y)
    found = np.abs(gradient).max() < 1e-9 and np.abs(y - near).max() < 1e-3
    return (y, value, hessian, float(np.abs(gradient).max())) if found else None


def _polish(loglike, y, boundary):
    """Newton steps to the maximum, with the curvature from differences of the gradient."""
    free = [i for i in range(len(y)) if i not in boundary]
    hessian = np.zeros((len(y), len(y)))
    value, gradient = loglike(y)
    for _ in range(10):
        begun, inner = y, _hessian(loglike, y, free)
        hessian[np.ix_(free, free)] = inner
        for _ in range(4):
            if np.abs(gradient[free]).max() < 1e-11:
                break
            moved = y.copy()
            moved[free] += np.clip(np.linalg.lstsq(-inner, gradient[free], rcond=None)[0], -1, 1)
            new_value, new_gradient = loglike(moved)
            # Near the maximum rounding hides a rise of the value, but the gradient still falls.
            flatter = np.abs(new_gradient[free]).max() < np.abs(gradient[free]).max()
            if not (flatter or new_value >= value - 1e-13 * abs(value)):
                break
            y, value, gradient = moved, new_value, new_gradient
        # The curvature is that of the last point but for steps too small to change it.
        if np.abs(y[free] - begun[free]).max(initial=0) < 1e-5:
            break
    return y, value, hessian, float(np.abs(gradient[free]).max(initial=0))


def _search(loglike, y, fixed, bound, flat=1e-9):
    free = [i for i in range(len(y)) if i not in fixed]

    def objective(part):
        whole = y.copy()
        whole[free] = part
        value, gradient = loglike(whole)
        return -value, -gradient[free]

    found = optimize.minimize(
        objective,
        np.clip(y, -bound, bound)[free],
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(-bound[free], bound[free], strict=True)),
        options={"maxiter": 500, "ftol": 1e-15, "gtol": flat},
    )
    y = y.copy()
    y[free] = found.x
    return y, -found.fun


def _hessian(loglike, y, free):
    """Central differences of the analytic gradient."""
    h = 1e-5
    columns = []
    for j in free:
        up, down = y.copy(), y.copy()
        up[j] += h
        down[j] -= h
        columns.append((loglike(up)[1][free] - loglike(down)[1][free]) / (2 * h))
    hessian = np.column_stack(columns)
    return (hessian + hessian.T) / 2


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A fitted model, shaped like a statsmodels result.

    Attributes
    ----------
    model : object
        The model that was fitted; it knows the likelihood and the predictions.
    params : pandas.Series
        Maximum-likelihood estimates of the parameters as the literature names them; ``inf`` at a boundary.
    llf : float
        Log-likelihood on the original scale of time, summed over customers.
    nobs : int
        Number of customers.
    converged : bool
        Whether the gradient vanishes (mean per customer below 1e-8) where the likelihood is concave.
    boundary : tuple of str
        Parameters at the edge of their range, empty when all are inside; their standard errors do not exist.
    unit : str or None
        Unit of time of the data (D, W, M, Y).
    design : crmlab.clv.covariates.Design or None
        Covariates of the fit.
    cov_type : str
        Where the covariance comes from: nonrobust (inverse information) or robust (sandwich).
    work, work_cov : numpy.ndarray
        Estimates in working coordinates (logs and logits) and their covariance: the source of intervals and draws.
    """

    model: object
    params: pd.Series
    llf: float
    nobs: int
    converged: bool
    boundary: tuple
    unit: str | None
    work: np.ndarray = dataclasses.field(repr=False)
    work_cov: np.ndarray = dataclasses.field(repr=False)
    design: Design | None = None
    cov_type: str = "nonrobust"

    @functools.cached_property
    def _jacobian(self):
        """Derivatives of the logs of the model's own parameters, and of coefficients, by the working coordinates."""
        own, h = len(self.model.names), 1e-6
        jacobian = np.eye(len(self.work))
        for j in range(own):
            up, down = self.work[:own].copy(), self.work[:own].copy()
            up[j] += h
            down[j] -= h
            with np.errstate(invalid="ignore", divide="ignore"):
                jacobian[:own, j] = (np.log(self.model.params(up)) - np.log(self.model.params(down))) / (2 * h)
        return jacobian

    @functools.cached_property
    def _positive(self):
        """Which parameters are positive by their nature; coefficients of covariates are not."""
        return np.arange(len(self.params)) < len(self.model.names)

    def _log_cov(self):
        cov = self._jacobian @ self.work_cov @ self._jacobian.T
        edge = self.params.index.isin(self.boundary)
        cov[edge] = cov[:, edge] = np.nan
        return cov

    def cov_params(self):
        """Return the covariance matrix of the parameters (delta method)."""
        p = np.where(self._positive, np.where(np.isfinite(self.params), self.params, np.nan), 1.0)
        return pd.DataFrame(self._log_cov() * np.outer(p, p), self.params.index, self.params.index)

    @property
    def bse(self):
        """Standard errors of the parameters."""
        return pd.Series(np.sqrt(np.diag(self.cov_params())), self.params.index)

    def conf_int(self, alpha=0.05):
        """Return confidence limits, for positive parameters computed on the log scale so that they stay positive.

        Parameters
        ----------
        alpha : float
            One minus the level of confidence.

        Returns
        -------
        pandas.DataFrame
            Columns `lower` and `upper`, one row a parameter.
        """
        half = stats.norm.ppf(1 - alpha / 2) * np.sqrt(np.diag(self._log_cov()))
        limits = {
            name: np.where(self._positive, self.params * np.exp(side * half), self.params + side * half)
            for name, side in (("lower", -1), ("upper", 1))
        }
        return pd.DataFrame(limits, self.params.index)

    @property
    def aic(self):
        """Akaike's information criterion."""
        return 2 * len(self.params) - 2 * self.llf

    @property
    def bic(self):
        """Schwarz's information criterion, with the number of customers."""
        return np.log(self.nobs) * len(self.params) - 2 * self.llf

    def summary(self):
        """Return a printable table of the fit.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            The model, its fit and its parameters with 95 % intervals; it prints as text and displays as HTML.
        """
        from statsmodels.iolib.summary import Summary
        from statsmodels.iolib.table import SimpleTable

        top = [
            ["Model:", self.model.title, "Log-likelihood:", f"{self.llf:.3f}"],
            ["Customers:", f"{self.nobs:,}", "AIC:", f"{self.aic:.2f}"],
            ["Unit of time:", self.unit or "not stated", "BIC:", f"{self.bic:.2f}"],
            ["Converged:", "yes" if self.converged else "NO", "At a boundary:", ", ".join(self.boundary) or "none"],
            ["Covariance:", self.cov_type, "", ""],
        ]
        table = pd.concat([self.params, self.bse, self.conf_int()], axis=1)
        body = [[f"{v:.4f}" for v in row] for row in table.to_numpy()]
        summary = Summary()
        summary.tables = [
            SimpleTable(top, title=f"{self.model.title} results"),
            SimpleTable(body, ["coef", "std err", "[0.025", "0.975]"], list(self.params.index)),
        ]
        return summary

    def predict(self, data, **options):
        """Return predictions for the customers of a summary; see the model's `predict`."""
        return self.model.predict(self, data, **options)

    def pmf(self, data, **options):
        """Return the probabilities of numbers of purchases of the customers of a summary; see the model's `pmf`."""
        return self.model.pmf(self, data, **options)

    def simulate(self, data, **options):
        """Return simulated futures of the customers of a summary; see the model's `simulate`."""
        return self.model.simulate(self, data, **options)

    def to_json(self):
        """Return the result as JSON text, readable by `from_json` and by any other program.

        Returns
        -------
        str
            Model, parameters, covariance of the working coordinates and the facts of the fit.
        """
        from crmlab import __version__

        facts = {
            "crmlab": __version__,
            "format": 1,
            "model": type(self.model).__name__,
            "options": dataclasses.asdict(self.model),
            "params": {k: _number(v) for k, v in self.params.items()},
            "llf": self.llf,
            "nobs": self.nobs,
            "converged": self.converged,
            "boundary": list(self.boundary),
            "unit": self.unit,
            "design": dataclasses.asdict(self.design) if self.design else None,
            "cov_type": self.cov_type,
            "work": [_number(v) for v in self.work],
            "work_cov": self.work_cov.tolist(),
        }
        return json.dumps(facts, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text):
        """Return the result that `to_json` wrote.

        Parameters
        ----------
        text : str
            What `to_json` returned.

        Returns
        -------
        Result
            An equal result.

        Raises
        ------
        ValueError
            Text of another format.
        """
        from crmlab import clv

        facts = json.loads(text)
        if facts.get("format") != 1:
            raise ValueError(f"This is not a result of format 1 (found {facts.get('format')!r}).")
        design = facts["design"]
        return cls(
            model=getattr(clv, facts["model"])(**facts["options"]),
            params=pd.Series({k: float(v) for k, v in facts["params"].items()}),
            work=np.array([float(v) for v in facts["work"]]),
            work_cov=np.array(facts["work_cov"]),
            boundary=tuple(facts["boundary"]),
            design=Design.of(design) if design else None,
            **{k: facts[k] for k in ("llf", "nobs", "converged", "unit", "cov_type")},
        )


def _number(value):
    """JSON knows no infinity: it travels as text that `float` reads back."""
    return float(value) if np.isfinite(value) else str(float(value))


def result(
    model, loglike, start, weight, unit, limits=(), constant=0.0, *, pilot=None, bound=CEILING, design=None, scores=None
):
    """Fit a model and wrap up: covariance, parameters, warnings about anything but a clean interior maximum.

    Parameters
    ----------
    model : object
        Has `title`, `names`, `params(work)` and `depends`, what each working coordinate takes to a limit.
    loglike : callable
        Mean log-likelihood and gradient in working coordinates.
    start : array_like
        Starting point in working coordinates.
    weight : array_like
        Customers per row of the data.
    unit : str or None
        Unit of time.
    limits : sequence of tuple of int
        Groups of working coordinates that may end at their limit.
    constant : float
        Part of the summed log-likelihood that does not depend on the parameters.
    pilot : callable, optional
        The log-likelihood of a sample, where the search may begin.
    bound : float or array_like
        How far from zero each working coordinate may go.
    design : Design, optional
        Covariates of the fit, whose coefficients are working coordinates after those of the model.
    scores : callable, optional
        Log-likelihood of each row of the data; if given, the covariance is the robust one.

    Returns
    -------
    Result
        The fit; a `RuntimeWarning` says when it did not converge.
    """
    n = float(np.sum(weight))
    work, value, hessian, gradient, boundary = maximise(loglike, start, limits, pilot, bound)
    free = [i for i in range(len(work)) if i not in boundary]
    information = -hessian[np.ix_(free, free)] * n
    concave = bool(np.all(np.linalg.eigvalsh(information) > 0))
    cov = np.zeros_like(hessian)
    cov[np.ix_(free, free)] = np.linalg.inv(information) if concave else np.nan
    if scores and concave:
        slopes = _slopes(scores, work, free)
        cov[np.ix_(free, free)] = cov[np.ix_(free, free)] @ ((slopes * weight) @ slopes.T) @ cov[np.ix_(free, free)]
    converged = gradient < 1e-8 and concave
    own, terms = len(model.names), design.names() if design else []
    params = pd.Series([*model.params(work[:own]), *work[own:]], [*model.names, *terms], dtype=float)
    if not converged:
        warnings.warn(
            f"{model.title} did not converge (largest mean gradient {gradient:.1e}, likelihood "
            f"{'concave' if concave else 'not concave'} at {dict(params.round(4))}): do not use these estimates.",
            RuntimeWarning,
            stacklevel=3,
        )
    return Result(
        model=model,
        params=params,
        llf=float(value * n + constant),
        nobs=round(n),
        converged=converged,
        boundary=tuple(dict.fromkeys(name for j in boundary for name in model.depends[j])),
        unit=unit,
        work=work,
        work_cov=cov,
        design=design if terms else None,
        cov_type="robust" if scores else "nonrobust",
    )


def _slopes(each, work, free):
    """Scores of each row by central differences, shape (len(free), n)."""
    h, slopes = 1e-5, []
    for j in free:
        up, down = work.copy(), work.copy()
        up[j] += h
        down[j] -= h
        slopes.append((each(up) - each(down)) / (2 * h))
    return np.stack(slopes)


def lr_test(restricted, full, at_edge=0):
    r"""Return the likelihood-ratio test of a model against one that it is a special case of.

    The statistic is :math:`2(\ell_1 - \ell_0)`. A restriction inside the parameter space counts one degree of freedom.
    One that puts a parameter at the edge of its range (a dispersion of zero, say) counts half the time only, because
    the estimate would lie at the edge in half of all samples: the reference is then a mixture of chi-squares with
    binomial weights (chi-bar-square; Self and Liang 1987, JASA 82, 605-610, for restrictions that do not disturb one
    another).

    Parameters
    ----------
    restricted, full : Result
        Fits to the same data; the first has fewer free parameters.
    at_edge : int
        How many of the restrictions put a parameter at the edge of its range.

    Returns
    -------
    pandas.Series
        `statistic`, `df`, `at_edge`, `p_value`.

    Raises
    ------
    ValueError
        Fits to different numbers of customers, no restriction, or a restricted fit that is better than the full one.

    Notes
    -----
    NBD against BG/NBD is not covered: where nobody leaves, how unequally they do so means nothing.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> late = summary.assign(late=(summary["T"] < summary["T"].median()).astype(float))
    >>> test = lr_test(clv.MBGNBD().fit(late), clv.MBGNBD().fit(late, rate="~ late"))
    >>> print(int(test["df"]), round(test["p_value"], 3))
    1 0.933
    """
    df = len(full.params) - len(restricted.params)
    statistic = 2 * (full.llf - restricted.llf)
    if full.nobs != restricted.nobs:
        raise ValueError(f"The fits are of {restricted.nobs:,} and {full.nobs:,} customers: they cannot be compared.")
    if df <= 0 or not 0 <= at_edge <= df:
        raise ValueError(f"The full model has {df} parameters more than the restricted one, {at_edge} at an edge.")
    if statistic < -1e-6:
        raise ValueError(f"The full model is less likely (by {-statistic / 2:.3g}): it is no generalisation.")
    weights = stats.binom.pmf(np.arange(at_edge + 1), at_edge, 0.5)
    tails = [stats.chi2.sf(statistic, d) if (d := df - at_edge + j) else 0.0 for j in range(at_edge + 1)]
    p = float(weights @ tails) if statistic > 0 else 1.0
    return pd.Series({"statistic": statistic, "df": float(df), "at_edge": float(at_edge), "p_value": p})
