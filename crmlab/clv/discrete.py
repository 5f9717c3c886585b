r"""BG/BB: customers who buy or do not at every opportunity, such as a yearly appeal, until they leave.

The story of Fader, Hardie and Shang (2010): at the start of every opportunity a customer leaves for good with an own
probability :math:`\theta \sim \text{Beta}(\gamma, \delta)`; one who is still alive buys with an own probability
:math:`p \sim \text{Beta}(\alpha, \beta)`.

Everything is computed with the means and dispersions of the two, :math:`\alpha/(\alpha+\beta)` and
:math:`1/(\alpha+\beta)`: the limits of customers who are all alike, and of customers who never leave, are then ordinary
points, and nothing overflows.
"""

import dataclasses

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.special import expit, gammaln

from crmlab.clv import fit as _fit
from crmlab.clv.contract import _check_horizon, _counted, _log_stays, _numbers, _positive, _refuse, _unit, future_sum
from crmlab.clv.predict import _draw, annual_to_rate
from crmlab.clv.summary import UNITS, checked, periods
from crmlab.data.errors import DataError

LONGEST = 10_000
"""Opportunities that a history may have; more are a mistake."""


def opportunities(log, unit="Y", calibration_end=None):
    """Return what the BG/BB model needs to know of each customer: in how many periods, and in which last, they bought.

    Opportunities are the calendar periods after the one of the first purchase (the acquisition, which is not counted).

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts: columns `customer_id` and `date`.
    unit : {"Y", "M", "W"}
        Calendar years, calendar months, or weeks from Monday to Sunday (ISO). These are periods, not lengths of time.
    calibration_end : str or date, optional
        Last day that the model may see, the last day of a period. By default there is no hold-out, and the period in
        which the log ends counts as a whole one: name the end of the period before it when it is not.

    Returns
    -------
    ibis.Table
        One row a customer who bought by the end of calibration: `customer_id`, `frequency` (opportunities with a
        purchase), `recency` (number of the last of them, 0 if there is none), `T` (opportunities), `unit`; with a
        hold-out also `frequency_holdout` and `T_holdout` (opportunities after calibration, with a purchase and all).

    Raises
    ------
    DataError
        Rows without customer or date, unknown unit, a calibration that is empty or ends within a period.

    Examples
    --------
    >>> table = opportunities("cdnow_sample", "M", calibration_end="1997-09-30")
    >>> int(table.T.max().execute()), int(table.frequency.sum().execute())
    (8, 1625)
    """
    if unit not in ("Y", "M", "W"):
        raise DataError(f"unit must be Y, M or W (calendar years, months, weeks), not {unit!r}.")
    log, first, last = checked(log)

    def closing(day):
        return pd.Period(pd.Timestamp(day), unit).end_time.date()

    end, observed = periods(first, last, calibration_end, closing(last))
    if end != closing(end):
        raise DataError(
            f"calibration_end {end} lies within one of the {UNITS[unit]} that are counted: take its last day, "
            f"{closing(end)}, or that of an earlier one."
        )

    def number(day):
        """Periods since long ago; 1601 began on a Monday."""
        if unit == "W":
            return day.delta(ibis.date(1601, 1, 1), unit="day") // 7
        return day.year() if unit == "Y" else 12 * day.year() + day.month()

    bought = log.select("customer_id", period=number(_.day)).distinct()
    now, known = number(ibis.literal(end)), _.period <= number(ibis.literal(end))
    parts = {"n": _.count(where=known), "first": _.period.min(), "last": _.period.max(where=known)}
    if split := end < observed:
        parts["frequency_holdout"] = _.count(where=~known)
    customers = bought.group_by("customer_id").aggregate(**parts).filter(_.n > 0)
    columns = {
        "frequency": customers.n - 1,
        "recency": customers["last"] - customers["first"],
        "T": now - customers["first"],
        "unit": ibis.literal(unit),
    }
    if split:
        columns["frequency_holdout"] = customers.frequency_holdout
        columns["T_holdout"] = number(ibis.literal(observed)) - now
    return customers.select("customer_id", **columns)


@dataclasses.dataclass(frozen=True)
class BGBB:
    r"""The beta-geometric/beta-Bernoulli model of purchases at discrete opportunities.

    For a customer with purchases at :math:`x` of :math:`n` opportunities, the last at the :math:`t_x`-th,

    .. math::

        L = \frac{B(\alpha+x, \beta+n-x)}{B(\alpha, \beta)} \frac{B(\gamma, \delta+n)}{B(\gamma, \delta)}
        + \sum_{i=t_x}^{n-1} \frac{B(\alpha+x, \beta+i-x)}{B(\alpha, \beta)}
        \frac{B(\gamma+1, \delta+i)}{B(\gamma, \delta)},

    Fader, Hardie and Shang (2010), Marketing Science 29(6), 1086-1108.

    Examples
    --------
    >>> from crmlab import clv, data
    >>> result = clv.BGBB().fit(data.open_dataset("donations"), unit="Y")
    >>> result.params.round(3).to_dict()
    {'alpha': 1.204, 'beta': 0.75, 'gamma': 0.657, 'delta': 2.783}
    """

    title = "BG/BB"
    names = ("alpha", "beta", "gamma", "delta")
    depends = ((), ("alpha", "beta"), ("gamma", "delta"), ("gamma", "delta"))

    def params(self, work):
        """Return (alpha, beta, gamma, delta) for working coordinates, logit mean and log dispersion of each beta.

        Parameters
        ----------
        work : array_like, shape (4,)
            Working coordinates of buying and of leaving.

        Returns
        -------
        ndarray, shape (4,)
            Parameters of the literature.
        """
        buys, stays, spread, leaves, lasts, unequal = _shapes(work)
        with np.errstate(divide="ignore"):
            return np.array([buys / spread, stays / spread, leaves / unequal if leaves else 0.0, lasts / unequal])

    def work(self, params):
        """Return working coordinates, the inverse of `params`.

        Parameters
        ----------
        params : array_like, shape (4,)
            (alpha, beta, gamma, delta), all finite and positive.

        Returns
        -------
        ndarray, shape (4,)
            Working coordinates.

        Raises
        ------
        DataError
            Parameters at a boundary or impossible.
        """
        a, b, c, d = _positive(self, params)
        return np.array([np.log(a / b), -np.log(a + b), np.log(c / d), -np.log(c + d)])

    def loglike(self, params, x, t_x, n):
        """Return the log-likelihood of each customer.

        Parameters
        ----------
        params : array_like, shape (4,)
            (alpha, beta, gamma, delta), all finite and positive.
        x, t_x, n : array_like, shape (m,)
            Opportunities with a purchase, number of the last of them, opportunities.

        Returns
        -------
        ndarray, shape (m,)
            Log-likelihoods.

        Examples
        --------
        >>> BGBB().loglike([1.204, 0.75, 0.657, 2.783], [0, 6], [0, 6], [6, 6]).round(4)
        array([-1.1673, -2.1822])
        """
        return self._value_and_scores(self.work(params), *(np.atleast_1d(v).astype(np.int64) for v in (x, t_x, n)))[0]

    def newcomers(self, params, n):
        """Return the probabilities that a new customer buys at 0, 1, …, n of n opportunities.

        Parameters
        ----------
        params : array_like, shape (4,)
            (alpha, beta, gamma, delta), all finite and positive.
        n : int
            Opportunities.

        Returns
        -------
        ndarray, shape (n + 1,)
            Probabilities; they sum to one.

        Examples
        --------
        >>> BGBB().newcomers([1.204, 0.75, 0.657, 2.783], 2).round(3)
        array([0.394, 0.289, 0.317])
        """
        # Opportunities lived through, in the rows; at how many of them the customer bought, in the columns.
        lived, x = np.indices((n + 1, n + 1))
        possible = x <= lived
        buying, leaving, staying = _tables(self.work(params), n)
        life = np.append(leaving[0], staying[0, n])
        m, k = lived[possible], x[possible]
        ways = gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1)
        return np.bincount(k, np.exp(ways + buying(k, m)[0] + life[m]))

    def _value_and_scores(self, work, x, t_x, n):
        """Log-likelihood of each state, its derivatives by the working coordinates, and its log probability alive."""
        buying, leaving, staying = _tables(work, int(n.max(initial=0)))

        def joint(bought, stayed):
            return bought[0] + stayed[0], np.concatenate([bought[1:], stayed[1:]])

        alive, scores = joint(buying(x, n), staying[:, n])
        value = alive.copy()
        # One lifetime after another joins the likelihood, and its derivatives the mean weighted with the shares in it.
        order = np.argsort(t_x - n, kind="stable")
        silence = (n - t_x)[order]
        for i in range(int(silence.max(initial=0))):
            s = order[: np.searchsorted(-silence, -i)]
            m = t_x[s] + i
            term, its_scores = joint(buying(x[s], m), leaving[:, m])
            value[s] = np.logaddexp(value[s], term)
            scores[:, s] += np.exp(term - value[s]) * (its_scores - scores[:, s])
        return value, scores, alive - value

    def fit(self, data, unit=None):
        """Fit the model by maximum likelihood.

        Parameters
        ----------
        data : ibis.Table or pandas.DataFrame
            `frequency` (opportunities with a purchase), `recency` (number of the last of them, 0 if there is none) and
            `T` or `periods` (opportunities), as `crmlab.clv.opportunities` makes them; with a column `weight`, one row
            for so many customers.
        unit : str, optional
            Time from one opportunity to the next (W, M, Y) when the data do not carry it in a column `unit`.

        Returns
        -------
        crmlab.clv.Result
            Estimates, standard errors, log-likelihood; a `RuntimeWarning` if the maximum was not found.

        Raises
        ------
        DataError
            Histories that cannot be used, with every reason.
        """
        x, t_x, n, weight = _counted(data, _keys(data))
        why = {
            "there are no customers": len(x) == 0,
            "nobody ever bought again": len(x) and x.max() == 0,
            "everybody bought at every opportunity": len(x) and (x == n).all(),
            "nobody had three opportunities, which four parameters need": not (n >= 3).any(),
        }
        _check(x, t_x, n, weight, why)
        x, t_x, n = (v.astype(np.int64) for v in (x, t_x, n))
        share = weight / weight.sum()

        def loglike(work):
            value, scores, _ = self._value_and_scores(work, x, t_x, n)
            return share @ value, scores @ share

        rate = (share @ x) / (share @ n)
        start = [np.log(rate / (1 - rate)) + 0.5, -0.5, -1.5, -1.0]
        return _fit.result(self, loglike, start, weight, _unit(data, unit), limits=[(1,), (2, 3), (3,)])

    def predict(self, result, data, horizon=5, annual_discount=0.10):
        r"""Return what to expect of each customer.

        Parameters
        ----------
        result : crmlab.clv.Result
            A fit of this model.
        data : ibis.Table or pandas.DataFrame
            One row a customer or state, as for `fit`; opportunities of the length of the fit.
        horizon : float
            Opportunities ahead, a whole number; ``numpy.inf`` for the whole future.
        annual_discount : float
            Annual rate at which later purchases count less.

        Returns
        -------
        pandas.DataFrame
            One row a customer, indexed by `customer_id` when the data have it: `p_alive` at the next opportunity (not
            at the last one: whether a customer leaves is decided at the start of an opportunity);
            `expected_purchases` in the horizon; `p_no_purchase` in the horizon; `discounted_purchases` (discounted
            expected residual transactions), the next opportunity being one period away.

        Raises
        ------
        DataError
            A horizon that is no positive whole number, histories that cannot be, another unit than the fit's.

        Notes
        -----
        With :math:`p \mid \text{alive} \sim \text{Beta}(\alpha+x, \beta+n-x)` and
        :math:`\theta \mid \text{alive} \sim \text{Beta}(\gamma, \delta+n)` everything is a sum over the opportunities
        ahead.

        Examples
        --------
        >>> from crmlab import clv, data
        >>> result = clv.BGBB().fit(data.open_dataset("donations"), unit="Y")
        >>> histories = pd.DataFrame({"frequency": [0, 2, 6], "recency": [0, 4, 6], "T": [6, 6, 6]})
        >>> result.predict(histories)["p_alive"].round(2).tolist()
        [0.11, 0.59, 0.93]
        """
        rate = annual_to_rate(annual_discount, result.unit) if annual_discount else 0.0
        _check_horizon(horizon)
        frame, (x, t_x, n), inverse = _histories(result, data)
        alive = np.exp(np.maximum(self._value_and_scores(result.work, x, t_x, n)[2], -690))[inverse]
        # Given that a customer is alive, the future depends on (x, n) alone: each pair is computed once.
        pairs, at = np.unique([x, n], axis=1, return_inverse=True)
        at = at.ravel()[inverse]
        buys, passes, spread, leaves, lasts, unequal = (v[:, None] for v in _posterior(result.work, *pairs))

        def lives(j):
            return _log_stays(leaves, lasts, unequal, j)[0]

        def first_purchase(j):
            return lives(j) + _log_stays(buys, passes, spread, j - 1)[0] + np.log(buys / (1 + (j - 1) * spread))

        # Those alive fall like this power of time, those who have not bought again like the product.
        with np.errstate(divide="ignore"):
            alpha, _, gamma, _ = self.params(result.work)
        purchases = buys[:, 0] * future_sum(lives, horizon, gamma)
        discounted = buys[:, 0] * future_sum(lambda j: lives(j) - rate * j, horizon, np.inf if rate else gamma)
        columns = {
            "p_alive": alive * np.exp(lives(np.ones(1)))[at, 0],
            "expected_purchases": alive * purchases[at],
            "p_no_purchase": 1 - alive * future_sum(first_purchase, horizon, gamma + alpha + 1)[at],
            "discounted_purchases": alive * discounted[at],
        }
        return pd.DataFrame(columns, index=frame.get("customer_id", frame.index))

    def simulate(self, result, data, horizon=5, draws=1000, seed=0):
        """Return simulated futures of customers, with the uncertainty of the parameters in them.

        Parameters
        ----------
        result : crmlab.clv.Result
            A fit of this model.
        data : ibis.Table or pandas.DataFrame
            One row a customer, as for `fit`.
        horizon : int
            Opportunities ahead.
        draws : int
            Number of futures.
        seed : int
            Seed of the random numbers; the same seed gives the same futures.

        Returns
        -------
        ndarray of int, shape (draws, n)
            Opportunities of the horizon at which each customer buys.

        Raises
        ------
        DataError
            As `predict`, an infinite horizon, a fit that did not converge.

        Examples
        --------
        >>> from crmlab import clv, data
        >>> result = clv.BGBB().fit(data.open_dataset("donations"), unit="Y")
        >>> futures = result.simulate(pd.DataFrame({"frequency": [6], "recency": [6], "T": [6]}), draws=400)
        >>> futures.shape, int(futures.max())
        ((400, 1), 5)
        """
        _check_horizon(horizon)
        if np.isinf(horizon):
            raise DataError("horizon must be finite: an infinite future cannot be simulated.")
        _, (x, t_x, n), inverse = _histories(result, data)
        rng = np.random.default_rng(seed)
        purchases = np.empty((draws, len(inverse)), dtype=np.int64)
        for d, work in enumerate(_draw(rng, result, draws)):
            alive = np.exp(self._value_and_scores(work, x, t_x, n)[2])[inverse]
            buys, passes, spread, leaves, lasts, unequal = (v[inverse] for v in _posterior(work, x, n))
            p, leaving = _beta(rng, buys, passes, spread), _beta(rng, leaves, lasts, unequal)
            # Opportunities lived through before leaving; a tiny probability would overflow the draw.
            lived = rng.geometric(np.maximum(leaving, 1e-12)) - 1
            lived = np.where(rng.random(len(alive)) < alive, np.minimum(lived, int(horizon)), 0)
            purchases[d] = rng.binomial(lived, p)
        return purchases


def _shapes(work):
    """Mean of buying, its complement and dispersion, and the same of leaving."""
    return expit(work[0]), expit(-work[0]), np.exp(work[1]), expit(work[2]), expit(-work[2]), np.exp(work[3])


def _posterior(work, x, n):
    """The same for customers alive after n opportunities with x purchases."""
    buys, passes, spread, leaves, lasts, unequal = _shapes(work)
    seen, lived = 1 + n * spread, 1 + n * unequal
    return (
        (buys + x * spread) / seen, (passes + (n - x) * spread) / seen, spread / seen,
        leaves / lived, (lasts + n * unequal) / lived, unequal / lived,
    )  # fmt: skip


def _beta(rng, mean, other, spread):
    """Draws of a beta distribution by mean, its complement and dispersion; without dispersion the mean."""
    spread = np.maximum(spread, 1e-12)
    return rng.beta(np.maximum(mean / spread, 1e-12), np.maximum(other / spread, 1e-12))


def _tables(work, n):
    """Logs of the probabilities of buying at x of m opportunities, of leaving after m, of staying m, for m up to n.

    The first is a function of x and m, the others are arrays over m; all have three rows: the logarithm, and its
    derivatives by the logit of the mean and by the log of the dispersion.
    """
    buys, passes, spread, leaves, lasts, unequal = _shapes(work)
    i = np.arange(n, dtype=float)

    def rising(mean, slope, dispersion):
        """Of the products of 0, 1, … factors mean, mean + dispersion, mean + 2 dispersion, …"""
        factor = mean + i * dispersion
        return np.cumsum([[0.0, *f] for f in (np.log(factor), slope / factor, i * dispersion / factor)], axis=1)

    bought, passed = rising(buys, buys * passes, spread), rising(passes, -buys * passes, spread)
    every, lived = rising(1.0, 0.0, spread), rising(1.0, 0.0, unequal)
    staying = rising(lasts, -leaves * lasts, unequal)
    with np.errstate(divide="ignore"):
        leaving = np.array([[np.log(leaves)], [lasts], [0.0]]) + staying[:, :-1] - lived[:, 1:]
    return lambda x, m: bought[:, x] + passed[:, m - x] - every[:, m], leaving, staying - lived


def _keys(data):
    length = "periods" if "periods" in data.columns and "T" not in data.columns else "T"
    return "frequency", "recency", length


def _histories(result, data):
    """The customers as they came, their distinct states, and which of these each is in."""
    frame = data if isinstance(data, pd.DataFrame) else data.to_pandas()
    _unit(frame, result.unit)
    cells = _numbers(frame, _keys(frame))
    _check(*cells, np.ones(len(frame)))
    s, inverse = np.unique(cells.astype(np.int64), axis=1, return_inverse=True)
    return frame, s, inverse.ravel()


def _check(x, t_x, n, weight, why=None):
    """Refuse histories that cannot be, or all of them for reasons that hold."""
    table = np.stack([x, t_x, n])
    whole = (np.isfinite(table) & (table >= 0) & (table == np.floor(table))).all(axis=0)
    bad = {
        "a frequency, recency or T that is missing, no number, below 0 or not whole": ~whole,
        "a recency beyond T": t_x > n,
        "a frequency above the recency": x > t_x,
        "no purchase but a recency above 0": (x == 0) & (t_x > 0),
        f"a T above {LONGEST:,}": n > LONGEST,
        "a weight that is not positive": ~(weight > 0),
    }
    hint = (
        " BG/BB counts opportunities: T of them, at frequency of them a purchase, the last of these at the recency-th "
        "(0 if there is none). The recency of the continuous models is another: crmlab.clv.opportunities(log) makes "
        "this one."
    )
    _refuse(bad, why, hint, frequency=x, recency=t_x, T=n)
