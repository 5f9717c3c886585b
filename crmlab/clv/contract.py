r"""SBG and BDW: contracts that end at a renewal, and how long customers stay.

The story of Fader and Hardie (2007): at the end of every period a customer renews or leaves, with an own probability of
leaving :math:`p \sim \text{Beta}(\alpha, \beta)` (mean :math:`\alpha/(\alpha+\beta)`) that never changes. The retention
of a cohort rises all the same, because those who leave easily leave first. In the beta-discrete-Weibull model of Fader,
Hardie, Liu, Davin and Steenburgh (2018) the own probability of leaving may rise (:math:`c > 1`) or fall
(:math:`c < 1`) with the length of the contract.

Everything is computed with the mean and the dispersion of the probability of leaving,
:math:`\mu = \alpha/(\alpha+\beta)` and :math:`\theta = 1/(\alpha+\beta)`: customers who are all alike,
:math:`\theta = 0`, are then an ordinary point.
"""

import dataclasses

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.special import expit

from crmlab.clv import fit as _fit
from crmlab.clv.predict import _draw, annual_to_rate, interval
from crmlab.data.errors import DataError

HEAD = 128
"""Periods that a sum over the future adds one by one; later ones are an integral."""


def cohort(survivors):
    """Return the durations of a cohort's contracts from counts of the customers still there.

    Parameters
    ----------
    survivors : array_like, shape (n,)
        Customers after 0, 1, 2, … periods: whole numbers that never rise.

    Returns
    -------
    pandas.DataFrame
        `duration`, `event` (1 left at the end of that period, 0 still there after it) and `weight` (customers), ready
        for `SBG.fit` and `BDW.fit`. Several cohorts: ``pandas.concat`` their tables.

    Raises
    ------
    DataError
        Fewer than two counts, or counts that are no such thing.

    Examples
    --------
    >>> cohort([1000, 869, 743]).to_numpy().tolist()
    [[1, 1, 131], [2, 1, 126], [2, 0, 743]]
    """
    given = pd.to_numeric(pd.Series(np.asarray(survivors).ravel()), errors="coerce").to_numpy(dtype=float)
    counts = np.round(given)
    if len(given) < 2 or not (np.abs(given - counts) < 1e-6).all() or counts[-1] < 0 or (np.diff(counts) > 0).any():
        raise DataError(
            "survivors must be counts of the customers still there after 0, 1, 2, … periods: two or more whole numbers "
            f"that never rise, not {list(np.asarray(survivors).ravel())}. Percentages times the size of the cohort, "
            "divided by 100 and rounded, are such counts; the size decides how wide the intervals are."
        )
    last = len(counts) - 1
    table = pd.DataFrame(
        {
            "duration": [*range(1, last + 1), last],
            "event": [1] * last + [0],
            "weight": np.append(-np.diff(counts), counts[-1]).astype(int),
        }
    )
    return table[table["weight"] > 0].reset_index(drop=True)


@dataclasses.dataclass(frozen=True)
class BDW:
    r"""The beta-discrete-Weibull model of the length of a contract.

    The probability of staying :math:`t` periods or more, and from it the likelihood of a customer who left at the end
    of period :math:`t`, :math:`S(t-1) - S(t)`, or is still there after it, :math:`S(t)`:

    .. math::

        S(t) = \frac{B(\alpha, \beta + t^c)}{B(\alpha, \beta)},

    Fader, Hardie, Liu, Davin and Steenburgh (2018), Journal of Interactive Marketing 43, 1-16. With :math:`c = 1` it is
    the shifted beta-geometric model. Unequal customers and a probability that changes look much alike: few periods
    leave :math:`c` a wide interval, and the likelihood can have a second summit, nearly as high, at customers who are
    extremely unequal and age fast. The fit takes the one next to the shifted beta-geometric model.

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.BDW().fit(clv.cohort([1000, 869, 743, 653, 593, 551, 517, 491]), unit="Y")
    >>> result.params.round(2).to_dict()
    {'alpha': 0.21, 'beta': 1.43, 'c': 1.72}
    """

    title = "BdW"
    names = ("alpha", "beta", "c")
    depends = ((), ("alpha", "beta"), ())

    def params(self, work):
        """Return the parameters of the literature for working coordinates (logit μ, log θ, log c).

        Parameters
        ----------
        work : array_like, shape (3,)
            Working coordinates; two for the model without c.

        Returns
        -------
        ndarray, shape (3,)
            (alpha, beta, c).
        """
        theta = np.exp(work[1])
        with np.errstate(divide="ignore"):
            return np.array([expit(work[0]) / theta, expit(-work[0]) / theta, *np.exp(work[2:])])

    def work(self, params):
        """Return working coordinates, the inverse of `params`.

        Parameters
        ----------
        params : array_like, shape (3,)
            Parameters, all finite and positive.

        Returns
        -------
        ndarray, shape (3,)
            Working coordinates.

        Raises
        ------
        DataError
            Parameters at a boundary or impossible.
        """
        alpha, beta, *c = _positive(self, params)
        return np.array([np.log(alpha / beta), -np.log(alpha + beta), *np.log(c)])

    def survival(self, params, t):
        """Return the share of customers who stay t periods or more.

        Parameters
        ----------
        params : array_like, shape (3,)
            (alpha, beta, c).
        t : array_like
            Periods, 0 or more.

        Returns
        -------
        ndarray
            Shares, of the shape of t.

        Examples
        --------
        >>> BDW().survival([0.7, 1.2, 1.0], [0, 1, 2]).round(3)
        array([1.   , 0.632, 0.479])
        """
        return np.exp(self._log_survival(self.work(params), np.asarray(t, dtype=float))[0])

    def retention(self, params, t):
        """Return the share of those who stayed t - 1 periods that stays the t-th too.

        Parameters
        ----------
        params : array_like, shape (3,)
            (alpha, beta, c).
        t : array_like
            Periods, 1 or more.

        Returns
        -------
        ndarray
            Shares, of the shape of t.

        Examples
        --------
        >>> BDW().retention([0.7, 1.2, 1.0], [1, 2]).round(3)
        array([0.632, 0.759])
        """
        return np.exp(self._log_ratio(self.work(params), np.asarray(t, dtype=float) - 1, 1.0))

    def loglike(self, params, duration, event):
        """Return the log-likelihood of each customer.

        Parameters
        ----------
        params : array_like, shape (3,)
            (alpha, beta, c), all finite and positive.
        duration, event : array_like, shape (n,)
            Periods stayed, and 1 for those who left at the end of the last one, 0 for those still there after it.

        Returns
        -------
        ndarray, shape (n,)
            Log-likelihoods.

        Examples
        --------
        >>> SBG().loglike([0.704, 1.182], [1, 7], [1, 0]).round(4)
        array([-0.9854, -1.4311])
        """
        duration, event = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (duration, event))
        return self._value_and_scores(self.work(params), duration, event)[0]

    def _clock(self, work, t):
        """Operational time t^c and its derivative by log c; far beyond any contract it stands still."""
        c = np.exp(work[2])
        with np.errstate(divide="ignore"):
            log_t = np.log(t)
        z = np.exp(np.minimum(c * log_t, 230.0))
        return z, np.where(t > 0, c * np.where(t > 0, log_t, 0.0) * z, 0.0)

    def _log_survival(self, work, t):
        """Log S(t), and its derivatives by the working coordinates, one row each."""
        z, by_clock = self._clock(work, t)
        value, by_logit, by_theta, by_z = _log_stays(expit(work[0]), expit(-work[0]), np.exp(work[1]), z)
        return value, np.stack([by_logit, by_theta, by_z * by_clock][: len(work)])

    def _log_ratio(self, work, t, more):
        """Log of S(t + more) / S(t)."""
        return self._log_survival(work, t + more)[0] - self._log_survival(work, t)[0]

    def _value_and_scores(self, work, duration, event):
        """Log-likelihood of each state and its derivatives by the working coordinates."""
        value, scores = self._log_survival(work, duration)
        left = event > 0
        before, before_scores = self._log_survival(work, duration[left] - 1)
        ratio = np.clip(value[left] - before, -700, -1e-100)
        value[left] = before + np.log(-np.expm1(ratio))
        scores[:, left] = before_scores - (scores[:, left] - before_scores) / np.expm1(-ratio)
        return value, scores

    def fit(self, data, unit=None):
        """Fit the model by maximum likelihood.

        Parameters
        ----------
        data : ibis.Table or pandas.DataFrame
            One row a customer: `duration` (periods that the contract has lasted) and `event` (1 left at the end of
            the last one, 0 still there after it); with a column `weight`, one row for so many customers.
        unit : str, optional
            Length of a period (W, M, Y) when the data do not carry it in a column `unit`.

        Returns
        -------
        crmlab.clv.Result
            Estimates, standard errors, log-likelihood; a `RuntimeWarning` if the maximum was not found.

        Raises
        ------
        DataError
            Contracts that cannot be used, with every reason.
        """
        duration, event, weight = _counted(data, ("duration", "event"))
        k = len(self.names)
        why = {
            "there are no customers": len(event) == 0,
            "nobody has left, so no probability of leaving can be estimated": not event.any(),
            "everybody left at the first renewal": len(event) and (duration <= event).all(),
            f"no contract lasted {k} periods, as many as the model has parameters": not (duration >= k).any(),
        }
        _refuse(_bad(duration, event, weight), why, duration=duration, event=event)
        share = weight / weight.sum()

        def loglike(work):
            value, scores = self._value_and_scores(work, duration, event)
            return share @ value, scores @ share

        churn = (share @ event) / (share @ duration)
        start = [np.log(churn / (1 - churn)), -1.0, 0.0][:k]
        return _fit.result(self, loglike, start, weight, _unit(data, unit), limits=[(1,)])

    def total(self, work, t, horizon, rate):
        """Return the expected number of renewals of customers who stayed t periods, discounted from the first on.

        Parameters
        ----------
        work : array_like, shape (3,)
            Working coordinates.
        t : ndarray, shape (n,)
            Periods stayed so far.
        horizon : float
            Renewals ahead, may be infinite.
        rate : float
            Continuous discount rate per period.

        Returns
        -------
        ndarray, shape (n,)
            Sums over j = 1, 2, … up to the horizon of exp(-rate j) S(t + j) / S(t).
        """
        # S(t) falls like a power of t, alpha c.
        theta, c = np.exp(work[1]), np.exp(work[2]) if len(work) > 2 else 1.0
        order = expit(work[0]) / theta * c if theta else np.inf
        return future_sum(
            lambda j: self._log_ratio(work, t[:, None], j) - rate * j, horizon, np.inf if rate else order, 90 / c
        )

    def predict(self, result, data, horizon=np.inf, annual_discount=0.10):
        """Return what to expect of the contract of each customer.

        Parameters
        ----------
        result : crmlab.clv.Result
            A fit of this model.
        data : ibis.Table or pandas.DataFrame
            One row a customer or state, as for `fit`.
        horizon : float
            Renewals ahead, a whole number; ``numpy.inf`` for the whole future.
        annual_discount : float
            Annual rate at which later renewals count less.

        Returns
        -------
        pandas.DataFrame
            One row a customer, indexed by `customer_id` when the data have it: `p_retained` at the next renewal;
            `expected_renewals` in the horizon, infinite where their mean is; `discounted_renewals`, the discounted
            expected residual lifetime just before the next renewal, which is due now and not discounted. All are 0 for
            customers who have left.

        Raises
        ------
        DataError
            A horizon that is no positive whole number, contracts that cannot be, another unit than the fit's.

        Notes
        -----
        The convention is that of Fader and Hardie (2010), Marketing Science 29(1), 85-93, table 3. A customer who has
        just paid, with the next renewal a full period away, is worth `discounted_renewals` discounted by one period.

        Examples
        --------
        >>> from crmlab import clv
        >>> result = clv.SBG().fit(clv.cohort([1000, 869, 743, 653, 593, 551, 517, 491]), unit="Y")
        >>> print(result.predict(pd.DataFrame({"duration": [7], "event": [0]}), horizon=5).round(2).to_string())
           p_retained  expected_renewals  discounted_renewals
        0        0.94               4.26                 3.59
        """
        rate = annual_to_rate(annual_discount, _unit(data, result.unit)) if annual_discount else 0.0
        _check_horizon(horizon)
        frame = data if isinstance(data, pd.DataFrame) else data.to_pandas()
        duration, event = _numbers(frame, ("duration", "event"))
        _refuse(_bad(duration, event, np.ones(len(frame))), duration=duration, event=event)
        t, inverse = np.unique(duration, return_inverse=True)
        columns = {
            "p_retained": np.exp(self._log_ratio(result.work, t, 1.0)),
            "expected_renewals": self.total(result.work, t, horizon, 0.0),
            "discounted_renewals": self.total(result.work, t, horizon, rate) * np.exp(rate),
        }
        return pd.DataFrame(
            {name: np.where(event == 0, values[inverse], 0.0) for name, values in columns.items()},
            index=frame.get("customer_id", frame.index),
        )


@dataclasses.dataclass(frozen=True)
class SBG(BDW):
    r"""The shifted beta-geometric model of the length of a contract.

    .. math::

        S(t) = \frac{B(\alpha, \beta + t)}{B(\alpha, \beta)}, \qquad
        \text{retention}(t) = \frac{\beta + t - 1}{\alpha + \beta + t - 1},

    Fader and Hardie (2007), Journal of Interactive Marketing 21(1), 76-90.

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.SBG().fit(clv.cohort([1000, 869, 743, 653, 593, 551, 517, 491]), unit="Y")
    >>> result.params.round(3).to_dict()
    {'alpha': 0.668, 'beta': 3.806}
    """

    title = "sBG"
    names = ("alpha", "beta")
    depends = ((), ("alpha", "beta"))

    def _clock(self, work, t):
        return t, np.zeros_like(t)


def survival_interval(result, t, level=0.95, draws=1000, seed=0):
    """Return the survival curve of a fit with its interval.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fit of `SBG` or `BDW`.
    t : array_like, shape (n,)
        Periods, 0 or more.
    level : float
        Share of the curves between the limits.
    draws : int
        Number of curves drawn from the sampling distribution of the parameters.
    seed : int
        Seed of the random numbers; the same seed gives the same limits.

    Returns
    -------
    pandas.DataFrame
        Indexed by `t`: `survival`, `lower`, `upper`. The interval is that of the share in the long run; the share of a
        cohort of n customers scatters around it by chance besides.

    Examples
    --------
    >>> result = SBG().fit(cohort([1000, 869, 743, 653, 593, 551, 517, 491]), unit="Y")
    >>> survival_interval(result, [12]).round(2).to_numpy().tolist()
    [[0.38, 0.34, 0.42]]
    """
    t = np.atleast_1d(np.asarray(t, dtype=float))
    works = _draw(np.random.default_rng(seed), result, draws)
    lower, upper = interval(np.exp([result.model._log_survival(work, t)[0] for work in works]), level)
    survival = np.exp(result.model._log_survival(result.work, t)[0])
    return pd.DataFrame({"survival": survival, "lower": lower, "upper": upper}, index=pd.Index(t, name="t"))


def _counted(data, keys):
    """The distinct states and the number of customers in each, counted in the engine: one row a key, then weights."""
    _require(data, keys)
    columns = [*keys, "weight"] if "weight" in data.columns else list(keys)
    if not isinstance(data, ibis.Table):
        data = ibis.memtable(pd.DataFrame(dict(zip(columns, _numbers(data, columns), strict=True))))
    grouped = data.group_by(keys).aggregate(weight=_.weight.sum() if "weight" in columns else _.count())
    return _numbers(grouped.order_by(keys).to_pandas(), [*keys, "weight"])


def _numbers(frame, columns):
    """Columns as rows of numbers; what is no number is missing."""
    _require(frame, columns)
    cells = frame[list(columns)].apply(pd.to_numeric, errors="coerce")
    return cells.to_numpy(dtype=float, na_value=np.nan).T


def _require(data, columns):
    if missing := [column for column in columns if column not in data.columns]:
        raise DataError(f"The table lacks {', '.join(missing)}; it has {', '.join(map(str, data.columns))}.")


def _unit(data, unit):
    """The length of a period, from the argument or a column `unit`, which must not disagree."""
    if "unit" not in data.columns:
        return unit
    column = data.select("unit").distinct().to_pandas() if isinstance(data, ibis.Table) else data
    found = {unit, *column["unit"]} - {None}
    if len(found) > 1:
        raise DataError(f"Periods of different lengths cannot be put together: {', '.join(sorted(map(str, found)))}.")
    return next(iter(found), None)


def _refuse(bad, why=None, hint="", **columns):
    """Refuse rows that are bad, each fault with its first row, or else the whole for reasons that hold."""
    faults = []
    for what, mask in bad.items():
        if mask.any():
            first = ", ".join(f"{name} {values[np.argmax(mask)]:g}" for name, values in columns.items())
            faults.append(f"{int(mask.sum()):,} rows have {what}, first ({first})")
    if faults or (faults := [words for words, holds in (why or {}).items() if holds]):
        raise DataError("The data cannot be used: " + "; ".join(faults) + "." + hint)


def _check_horizon(horizon):
    if not horizon >= 1 or (np.isfinite(horizon) and horizon != np.floor(horizon)):
        raise DataError(f"horizon must be a positive whole number of periods, or numpy.inf, not {horizon!r}.")


def _positive(model, params):
    """Parameters as an array, refused where no working coordinates stand for them."""
    params = np.asarray(params, dtype=float)
    if params.shape != (len(model.names),) or not (np.isfinite(params) & (params > 0)).all():
        raise DataError(
            f"{model.title} needs finite, positive {', '.join(model.names)}, not {params.tolist()}. A fit at a "
            "boundary has none: take its predict, its simulate or crmlab.clv.survival_interval."
        )
    return params


def future_sum(log_terms, horizon, order=np.inf, digits=60.0):
    """Return sums of smooth positive terms over the periods 1, 2, … up to a horizon that may be infinite.

    The first terms are added; the rest is an integral by the formula of Euler and Maclaurin (relative error below
    1e-9), on intervals that double in length until nothing comes any more.

    Parameters
    ----------
    log_terms : callable
        ``log_terms(j)`` for periods j, shape (k,): logs of the terms, shape (n, k).
    horizon : float
        Last period.
    order : float
        The terms fall like this power of j; infinite when they fall faster.
    digits : float
        Decimal digits of the last period that `log_terms` can bear.

    Returns
    -------
    ndarray, shape (n,)
        Sums; infinite where the terms do not fall fast enough.

    Examples
    --------
    >>> future_sum(lambda j: -np.log([j * (j + 1)]), np.inf, order=2).round(9)
    array([1.])
    """
    total = np.exp(log_terms(np.arange(1, min(horizon, HEAD) + 1))).sum(axis=1)
    if np.isinf(horizon) and order <= 1:
        return np.full_like(total, np.inf)
    if horizon > HEAD:
        edges = [np.exp(log_terms(np.array([t, t + 1.0]))) for t in (HEAD, horizon) if np.isfinite(t)]
        total += np.diff(edges[0] - sum(edges[1:]))[:, 0] / 24
    nodes, weights = np.polynomial.legendre.leggauss(16)
    start, block = HEAD + 0.5, 0.0
    while start < min(horizon + 0.5, 10.0 ** min(digits, 60.0)):
        end = min(2 * start, horizon + 0.5)
        t = start + (nodes + 1) / 2 * (end - start)
        block = np.exp(log_terms(t)) @ weights * (end - start) / 2
        total, start = total + block, end
        if np.all(block <= 1e-15 * total):
            break
    # What is left of an infinite future is a geometric series of such intervals.
    rest = 2.0 ** (1 - order) if np.isinf(horizon) else 0.0
    return total + block * rest / (1 - rest)


def _log_stays(mean, b, theta, z):
    r"""Log of E[(1 - p)^z] for p beta-distributed, and its derivatives by logit mean, log dispersion and z.

    It is :math:`\log\Gamma(\beta+z) - \log\Gamma(\beta) - \log\Gamma(\alpha+\beta+z) + \log\Gamma(\alpha+\beta)`. Ten
    steps of the recurrence lead to arguments where Stirling's series holds, written so that nothing is subtracted from
    its like, whether the dispersion is 0 or without end. `b` is 1 - mean.
    """

    def side(a):
        """The part of Γ(A + z) / Γ(A), A = a / θ, its derivative by a, and that of ψ(A + z) less a logarithm."""
        base = a + 10 * theta
        u, g, h = z * theta / base, theta / base, theta / (base + z * theta)
        ratio = np.divide(np.log1p(u), u, out=np.ones_like(u), where=u != 0)
        value = z * ratio - np.log1p(u) / 2 + _stirling(h) - _stirling(g)
        by_a = z / base * ratio + _digamma(h) / (base + z * theta) - _digamma(g) / base
        by_z = h * _digamma(h)
        for i in range(10):
            low, high = a + i * theta, a + (i + z) * theta
            value, by_a, by_z = value - np.log1p(z * theta / low), by_a + 1 / low - 1 / high, by_z - theta / high
        return value, by_a, by_z

    z = np.asarray(z, dtype=float)
    value_b, by_b, slope_b = side(b)
    value_1, by_1, slope_1 = side(b + mean)
    slope = np.log1p(-mean / (b + mean + (10 + z) * theta))
    value = z * slope + value_b - value_1
    return value, -by_b * mean * b, by_1 - b * by_b, slope + slope_b - slope_1


def _stirling(g):
    """The series of log Γ(1 / g) after its logarithms."""
    return g * (1 / 12 - g**2 * (1 / 360 - g**2 * (1 / 1260 - g**2 / 1680)))


def _digamma(g):
    """The series of ψ(1 / g) after its logarithm, divided by g."""
    return -1 / 2 - g * (1 / 12 - g**2 * (1 / 120 - g**2 * (1 / 252 - g**2 / 240)))


def _bad(duration, event, weight):
    """What is wrong with contracts, and where."""
    whole = np.isfinite(duration) & (duration >= 0) & (duration == np.floor(duration))
    return {
        "a duration that is missing, no number, below 0 or not whole": ~whole,
        "an event other than 1 (left) and 0 (still there)": ~np.isin(event, (0, 1)),
        "left before the first renewal (event 1 needs a duration of 1 or more)": (event == 1) & (duration < 1),
        "a weight that is not positive": ~(weight > 0),
    }
