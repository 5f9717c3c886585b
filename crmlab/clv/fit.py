"""Maximum likelihood the same way for every model, and the result that it returns."""

import dataclasses
import functools
import json
import warnings

import numpy as np
import pandas as pd
from scipy import optimize, stats

CEILING = 16.0
"""Working coordinates stay within ±16 while searching (a factor of ten million), so nothing overflows."""

FLAT = -4.0
"""A coordinate below -4 (a dispersion below 0.02) is tried at its limit: the data may not call for heterogeneity."""

STEEP = 7.0
"""A coordinate above 7 (a dispersion above a thousand) is tried at the ceiling, where the likelihood is flat."""


def maximise(loglike, start, limits=()):
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
    y, value = _search(loglike, np.asarray(start, dtype=float), [])
    boundary = []
    for group in limits:
        # At the ceiling the dispersion is polarisation: customers who leave at once and customers who never do.
        edge, group = (-np.inf, group) if y[group[0]] < FLAT else (CEILING, group[-1:])
        if set(group) <= set(boundary) or (edge > 0 and y[group[0]] < STEEP):
            continue
        limit, fixed = y.copy(), sorted({*boundary, *group})
        limit[list(group)] = edge
        at_limit, limit_value = _search(loglike, limit, fixed)
        if limit_value >= value - 1e-11:
            y, value, boundary = at_limit, limit_value, fixed
    free = [i for i in range(len(y)) if i not in boundary]
    hessian = np.zeros((len(y), len(y)))
    value, gradient = loglike(y)
    for _ in range(10):
        inner = _hessian(loglike, y, free)
        hessian[np.ix_(free, free)] = inner
        if np.abs(gradient[free]).max() < 1e-11:
            break
        step = np.linalg.lstsq(-inner, gradient[free], rcond=None)[0]
        moved = y.copy()
        moved[free] += np.clip(step, -1, 1)
        new_value, new_gradient = loglike(moved)
        if not new_value >= value - 1e-13 * abs(value):
            break
        y, value, gradient = moved, new_value, new_gradient
    return y, value, hessian, float(np.abs(gradient[free]).max()), boundary


def _search(loglike, y, fixed):
    free = [i for i in range(len(y)) if i not in fixed]

    def objective(part):
        whole = y.copy()
        whole[free] = part
        value, gradient = loglike(whole)
        return -value, -gradient[free]

    found = optimize.minimize(
        objective,
        np.clip(y[free], -CEILING, CEILING),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-CEILING, CEILING)] * len(free),
        options={"maxiter": 500, "ftol": 1e-15, "gtol": 1e-9},
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

    @functools.cached_property
    def _jacobian(self):
        """Derivatives of the logs of the parameters by the working coordinates."""
        y, h = self.work, 1e-6
        columns = []
        for j in range(len(y)):
            up, down = y.copy(), y.copy()
            up[j] += h
            down[j] -= h
            with np.errstate(invalid="ignore", divide="ignore"):
                columns.append((np.log(self.model.params(up)) - np.log(self.model.params(down))) / (2 * h))
        return np.column_stack(columns)

    def _log_cov(self):
        cov = self._jacobian @ self.work_cov @ self._jacobian.T
        edge = self.params.index.isin(self.boundary)
        cov[edge] = cov[:, edge] = np.nan
        return cov

    def cov_params(self):
        """Return the covariance matrix of the parameters (inverse observed information, delta method)."""
        p = np.where(np.isfinite(self.params), self.params, np.nan)
        return pd.DataFrame(self._log_cov() * np.outer(p, p), self.params.index, self.params.index)

    @property
    def bse(self):
        """Standard errors of the parameters."""
        return pd.Series(np.sqrt(np.diag(self.cov_params())), self.params.index)

    def conf_int(self, alpha=0.05):
        """Return confidence limits, computed on the log scale so that they stay positive.

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
        return pd.DataFrame(
            {"lower": self.params * np.exp(-half), "upper": self.params * np.exp(half)}, self.params.index
        )

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
            "params": {k: _number(v) for k, v in self.params.items()},
            "llf": self.llf,
            "nobs": self.nobs,
            "converged": self.converged,
            "boundary": list(self.boundary),
            "unit": self.unit,
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
        return cls(
            model=getattr(clv, facts["model"])(),
            params=pd.Series({k: float(v) for k, v in facts["params"].items()}),
            work=np.array([float(v) for v in facts["work"]]),
            work_cov=np.array(facts["work_cov"]),
            boundary=tuple(facts["boundary"]),
            **{k: facts[k] for k in ("llf", "nobs", "converged", "unit")},
        )


def _number(value):
    """JSON knows no infinity: it travels as text that `float` reads back."""
    return float(value) if np.isfinite(value) else str(float(value))


def result(model, loglike, start, weight, unit, limits=(), constant=0.0):
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

    Returns
    -------
    Result
        The fit; a `RuntimeWarning` says when it did not converge.
    """
    n = float(np.sum(weight))
    work, value, hessian, gradient, boundary = maximise(loglike, start, limits)
    free = [i for i in range(len(work)) if i not in boundary]
    information = -hessian[np.ix_(free, free)] * n
    concave = bool(np.all(np.linalg.eigvalsh(information) > 0))
    cov = np.zeros_like(hessian)
    cov[np.ix_(free, free)] = np.linalg.inv(information) if concave else np.nan
    converged = gradient < 1e-8 and concave
    params = pd.Series(model.params(work), model.names)
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
    )
