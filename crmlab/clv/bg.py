r"""BG/NBD and MBG/NBD: customers buy at random while alive and may leave after a purchase.

The story of Fader, Hardie and Lee (2005): while alive a customer buys as a Poisson process with rate
:math:`\lambda \sim \text{Gamma}(r, \alpha)` (mean :math:`r/\alpha`), and after each repeat purchase leaves with
probability :math:`p \sim \text{Beta}(a, b)`. The modified model of Batislam, Denizel and Filiztekin (2007) lets
customers leave after the first purchase too, so that a one-time buyer may be gone; that is why it is the default.

Everything is computed with means and dispersions, :math:`m = r/\alpha`, :math:`\varphi = 1/r`,
:math:`\bar p = a/(a+b)`, :math:`\theta = 1/(a+b)`: the limits of no heterogeneity, where :math:`r, \alpha` or
:math:`a, b` run to infinity, are then ordinary points, and no gamma function of a large number is ever subtracted from
another.
"""

import dataclasses

import numpy as np
from scipy.special import expit

from crmlab.clv import fit as _fit
from crmlab.clv.predict import predict, simulate
from crmlab.clv.summary import states, unit_of

BLOCK = 1 << 14
"""States per block: what a block needs stays in the processor's cache."""


def _l(u):
    """log(1 + u) / u, which is 1 at 0."""
    return np.divide(np.log1p(u), u, out=np.ones_like(u), where=u != 0)


def _g(u):
    """(log(1 + u) - u / (1 + u)) / u², which is 1/2 at 0; a series where the difference would cancel."""
    small = u < 1e-3
    v = np.where(small, 1.0, u)
    exact = (np.log1p(v) - v / (1 + v)) / v**2
    return np.where(small, 0.5 - u * (2 / 3 - u * (3 / 4 - u * 4 / 5)), exact)


@dataclasses.dataclass(frozen=True)
class BGNBD:
    r"""The BG/NBD model of repeat buying.

    For a customer with :math:`x` repeat purchases, the last at :math:`t_x`, observed until :math:`T`,

    .. math::

        L = \frac{\Gamma(r+x)\,\alpha^r}{\Gamma(r)\,(\alpha+T)^{r+x}} \frac{B(a, b+x)}{B(a, b)} \Big/ P(\text{alive}),
        \qquad
        P(\text{alive}) = \Big[1 + \delta_{x>0} \frac{a}{b+x-1} \Big(\frac{\alpha+T}{\alpha+t_x}\Big)^{r+x}\Big]^{-1},

    Fader, Hardie and Lee (2005), Marketing Science 24(2), 275-284, equation 6, with the probability of being alive as a
    factor. One-time buyers are alive for sure, because nobody leaves before a repeat purchase.

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.BGNBD().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> result.params.round(3).to_dict()
    {'r': 0.243, 'alpha': 4.414, 'a': 0.793, 'b': 2.426}
    """

    title = "BG/NBD"
    names = ("r", "alpha", "a", "b")
    depends = ((), ("r", "alpha"), ("a", "b"), ("a", "b"))
    _extra = 0
    """Chances to leave beside the repeat purchases: none here, one (the first purchase) in the modified model."""

    def params(self, work):
        """Return (r, alpha, a, b) for working coordinates (log m, log φ, logit p̄, log θ).

        Parameters
        ----------
        work : array_like, shape (4,)
            Working coordinates.

        Returns
        -------
        ndarray, shape (4,)
            Parameters of the literature.
        """
        m, phi, p, theta = _shapes(work)
        with np.errstate(divide="ignore"):
            return np.array([1 / phi, 1 / (m * phi), p / theta if p else 0.0, (1 - p) / theta])

    def work(self, params):
        """Return working coordinates for (r, alpha, a, b), the inverse of `params`.

        Parameters
        ----------
        params : array_like, shape (4,)
            Parameters of the literature, all finite and positive.

        Returns
        -------
        ndarray, shape (4,)
            Working coordinates.
        """
        r, alpha, a, b = np.asarray(params, dtype=float)
        return np.array([np.log(r / alpha), -np.log(r), np.log(a / b), -np.log(a + b)])

    def loglike(self, params, x, t_x, T):
        """Return the log-likelihood of each customer.

        Parameters
        ----------
        params : array_like, shape (4,)
            (r, alpha, a, b), all finite and positive.
        x, t_x, T : array_like, shape (n,)
            Frequency, recency and time observed; recency and T in the same unit.

        Returns
        -------
        ndarray, shape (n,)
            Log-likelihoods on the scale of T.

        Examples
        --------
        >>> BGNBD().loglike([0.25, 4, 0.8, 2.5], [0], [0], [40]).round(8)
        array([-0.59947382])
        """
        x, t_x, T = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (x, t_x, T))
        return self._value_and_scores(self.work(params), _grid(x, t_x, T))[0]

    def p_alive(self, work, x, t_x, T):
        """Return the probability that each customer has not left by T.

        Parameters
        ----------
        work : array_like, shape (4,)
            Working coordinates.
        x, t_x, T : ndarray, shape (n,)
            Frequency, recency and time observed.

        Returns
        -------
        ndarray, shape (n,)
            Probabilities.
        """
        return expit(-self._log_odds_gone(_shapes(work), x, t_x, T))

    def _log_odds_gone(self, shapes, x, t_x, T):
        m, phi, p, theta = shapes
        gap = (T - t_x) * m / (1 + m * phi * t_x)
        return self._log_odds_left(p, theta, x) + (1 + x * phi) * gap * _l(phi * gap)

    def _log_odds_left(self, p, theta, x):
        """Log odds of having left with the last purchase, before the silence since then is counted."""
        with np.errstate(divide="ignore"):
            odds = np.log(p) - np.log((1 - p) + np.maximum(x + self._extra - 1, 0) * theta)
        return odds if self._extra else np.where(x > 0, odds, -np.inf)

    def _value_and_scores(self, work, grid):
        """Log-likelihood of each state and its derivatives by the working coordinates, shapes (n,) and (4, n)."""
        m, phi, p, theta = _shapes(work)
        q = 1 - p
        x_all, times, at_t, at_T = grid
        # What depends on x alone, or on one time alone, is computed once for each value and looked up.
        x = np.arange(int(x_all.max(initial=0)) + 1)
        n = x + self._extra
        i = np.arange(len(x) + self._extra, dtype=float)

        def table(terms):
            return np.concatenate([[0.0], np.cumsum(terms)])

        rising, rising_phi = table(np.log1p(i * phi))[x], table(i / (1 + i * phi))[x]
        stays = table(np.log(q + i * theta) - np.log1p(i * theta))[n]
        stays_p = table(-1 / (q + i * theta))[n]
        stays_theta = table(i / (q + i * theta) - i / (1 + i * theta))[n]
        last = q + np.maximum(n - 1, 0) * theta
        left = self._log_odds_left(p, theta, x)
        steps, fixed = 1 + x * phi, rising + x * np.log(m) + stays
        # The derivative of the odds by p has a term 1 / p; times p q, that of the logit, it stays finite as p → 0.
        fixed_logit, gone_logit = p * q * stays_p, p * q / last + q
        fixed_theta, gone_theta = theta * stays_theta, theta * np.maximum(n - 1, 0) / last

        u = m * phi * times
        clock, damped, curve = m * times * _l(u), m * times / (1 + u), phi * (m * times) ** 2 * _g(u)

        value, scores = np.empty(len(x_all)), np.empty((4, len(x_all)))
        for start in range(0, len(x_all), BLOCK):
            part = slice(start, start + BLOCK)
            xb, tb, Tb = x_all[part], at_t[part], at_T[part]
            c, clock_T, damped_T, curve_T = steps[xb], clock[Tb], damped[Tb], curve[Tb]
            odds = left[xb] + c * (clock_T - clock[tb])
            small = np.exp(-np.abs(odds))
            gone = np.where(odds > 0, 1.0, small) / (1 + small)
            value[part] = fixed[xb] - c * clock_T + np.maximum(odds, 0) + np.log1p(small)
            lag = damped_T - gone * (damped_T - damped[tb])
            scores[0, part] = xb - c * lag
            scores[1, part] = phi * (rising_phi[xb] - xb * lag) + curve_T - gone * (curve_T - curve[tb])
            scores[2, part] = fixed_logit[xb] + gone * gone_logit[xb]
            scores[3, part] = fixed_theta[xb] - gone * gone_theta[xb]
        return value, scores

    def fit(self, data, unit=None):
        """Fit the model by maximum likelihood.

        Parameters
        ----------
        data : ibis.Table or pandas.DataFrame
            A summary (`crmlab.clv.summarize`) or its states (`crmlab.clv.states`).
        unit : str, optional
            Unit of time when the data do not carry it in a column `unit`.

        Returns
        -------
        crmlab.clv.Result
            Estimates, standard errors, log-likelihood; a `RuntimeWarning` if the maximum was not found.

        Raises
        ------
        DataError
            A summary that cannot be used, with every reason.
        """
        s = states(data)
        x, T = s["frequency"].to_numpy(), s["T"].to_numpy()
        grid = _grid(x, s["recency"].to_numpy(), T)
        weight = s["weight"].to_numpy(dtype=float)
        share = weight / weight.sum()

        def loglike(work):
            value, scores = self._value_and_scores(work, grid)
            return share @ value, scores @ share

        start = [np.log((share @ x) / (share @ T)) + 0.5, 0.5, -1.0, -1.0]
        return _fit.result(
            self,
            loglike,
            start,
            weight,
            unit or unit_of(s),
            limits=[(1,), (2, 3), (3,)],
        )

    def future(self, work, x, T, horizon, rate):
        r"""Return what to expect of customers who are alive, by frequency and time observed.

        With :math:`\lambda \mid \text{alive} \sim \text{Gamma}(r+x, \alpha+T)` and
        :math:`p \mid \text{alive} \sim \text{Beta}(a, b+n)`, where :math:`n` is the number of chances to leave so far,
        purchases arrive :math:`t` later at the rate
        :math:`\frac{r+x}{\alpha+T} E_p\big[(1 + p\,t/(\alpha+T))^{-(r+x+1)}\big]`. The expectation over :math:`p` is a
        Gauss-Jacobi sum and the discounted integral over :math:`t` a Gauss-Legendre sum: no hypergeometric function.

        Parameters
        ----------
        work : array_like, shape (4,)
            Working coordinates.
        x, T : ndarray, shape (n,)
            Frequency and time observed.
        horizon : float
            Units of time ahead, may be infinite.
        rate : float
            Continuous discount rate per unit of time.

        Returns
        -------
        purchases, discounted, none : ndarray, shape (n,)
            Expected purchases, their expected discounted number, and the probability of no purchase.
        """
        m, phi, p_mean, theta = _shapes(work)
        pace = (m / (1 + m * phi * T))[:, None]
        shape = (1 + x * phi)[:, None]
        # Beyond 40 / rate a purchase is discounted to nothing. The more purchases could still come, the more the
        # expectation over p depends on the smallest p, and the more nodes it takes (errors below 1e-7 at each step).
        end = min(horizon, 40 / rate if rate else np.inf)
        reach = float(np.max(shape * pace, initial=0.0)) * end
        p, weight = _beta_nodes(p_mean, theta, x + self._extra, size=24 if reach < 100 else 64 if reach < 2000 else 128)

        def left(t):
            """(r + x) log(1 + p t / (alpha + T)), finite when r is not."""
            return shape * pace * p * t * _l(phi * pace * p * t)

        if np.isinf(horizon):
            # E[1/p]: every purchase is the last one with probability p.
            with np.errstate(divide="ignore", invalid="ignore"):
                last = (1 + (x + self._extra - 1) * theta) / (p_mean - theta)
            purchases = np.where(p_mean > theta, last, np.inf)
            none = np.zeros(len(x))
        else:
            purchases = np.sum(weight * -np.expm1(-left(horizon)) / p, axis=1)
            none = np.exp(-(shape * pace * horizon * _l(phi * pace * horizon))[:, 0])
        if rate == 0:
            return purchases, purchases, none

        # t = c (exp(y) - 1): the near future, where most happens, and the far one weigh alike.
        c = 1 / (shape * pace)
        span = np.log1p(end / c)
        y, y_weight = np.polynomial.legendre.leggauss(16 if reach < 100 else 48)
        discounted = np.zeros(len(x))
        for node, node_weight in zip((y + 1) / 2, y_weight / 2, strict=True):
            t = c * np.expm1(node * span)
            arrival = np.sum(weight * np.exp(-left(t)) / (1 + phi * pace * p * t), axis=1, keepdims=True)
            discounted += (arrival * np.exp(node * span - rate * t) * span * node_weight)[:, 0]
        return purchases, discounted, none

    def draw_future(self, rng, work, x, T, horizon):
        """Return simulated numbers of purchases of customers who are alive.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of random numbers.
        work : array_like, shape (4,)
            Working coordinates.
        x, T : ndarray, shape (n,)
            Frequency and time observed.
        horizon : float
            Units of time ahead.

        Returns
        -------
        ndarray of int, shape (n,)
            Purchases in the horizon.
        """
        m, phi, p_mean, theta = _shapes(work)
        pace = m / (1 + m * phi * T)
        rate = pace * (rng.gamma(1 / phi + x) * phi if phi else 1.0)
        n = x + self._extra
        p = rng.beta(p_mean / theta, (1 - p_mean) / theta + n) if theta and p_mean else np.full(len(x), p_mean)
        bought = rng.poisson(rate * horizon)
        # Tiny p would overflow a geometric draw: below 1e-12 nobody leaves within any number of purchases drawn here.
        leaves = np.where(p > 1e-12, rng.geometric(np.clip(p, 1e-12, 1)), np.iinfo(np.int64).max)
        return np.minimum(bought, leaves)

    def predict(self, result, data, **options):
        """Return predictions for customers; see `crmlab.clv.predict.predict`."""
        return predict(result, data, **options)

    def simulate(self, result, data, **options):
        """Return simulated futures of customers; see `crmlab.clv.predict.simulate`."""
        return simulate(result, data, **options)


@dataclasses.dataclass(frozen=True)
class MBGNBD(BGNBD):
    r"""The modified BG/NBD model: customers may leave after the first purchase too.

    .. math::

        L = \frac{\Gamma(r+x)\,\alpha^r}{\Gamma(r)\,(\alpha+T)^{r+x}} \frac{B(a, b+x+1)}{B(a, b)} \Big/ P(\text{alive}),
        \qquad
        P(\text{alive}) = \Big[1 + \frac{a}{b+x} \Big(\frac{\alpha+T}{\alpha+t_x}\Big)^{r+x}\Big]^{-1},

    Batislam, Denizel and Filiztekin (2007), International Journal of Research in Marketing 24(3), 201-209. Unlike
    under BG/NBD a one-time buyer may be gone, which is why this model is the default.

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.MBGNBD().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> result.params.round(3).to_dict()
    {'r': 0.525, 'alpha': 6.183, 'a': 0.891, 'b': 1.614}
    """

    title = "MBG/NBD"
    _extra = 1


def _grid(x, t_x, T):
    """Frequencies, the distinct times, and where in them the recency and the T of each state are."""
    times, index = np.unique(np.concatenate([t_x, T]), return_inverse=True)
    return np.asarray(x, dtype=np.int64), times, index[: len(x)], index[len(x) :]


def _shapes(work):
    """Mean rate m, its squared coefficient of variation φ, mean dropout p̄ and its dispersion θ."""
    return np.exp(work[0]), np.exp(work[1]), expit(work[2]), np.exp(work[3])


def _beta_nodes(mean, theta, n, size=32):
    """Nodes and weights of the expectation over Beta(a, b + n) for each n, shapes (len(n), size).

    Golub and Welsch (1969): eigenvalues of the Jacobi matrix of the distribution, so weights sum to one and nothing
    overflows however large a and b are.
    """
    if theta == 0 or mean == 0:
        return np.full((len(n), 1), max(mean, 1e-300)), np.ones((len(n), 1))
    unique, inverse = np.unique(n, return_inverse=True)
    A, B = (1 - mean) / theta + unique[:, None] - 1, mean / theta - 1
    k = np.arange(size, dtype=float)
    total = 2 * k + A + B
    with np.errstate(divide="ignore", invalid="ignore"):
        diagonal = (B - A) * (B + A) / (total * (total + 2))
        square = 4 * k * (k + A) * (k + B) * (k + A + B) / (total**2 * (total + 1) * (total - 1))
    diagonal[:, 0] = ((B - A) / (A + B + 2))[:, 0]
    square[:, 1] = (4 * (1 + A) * (1 + B) / ((2 + A + B) ** 2 * (3 + A + B)))[:, 0]
    jacobi = np.zeros((len(unique), size, size))
    i = np.arange(size)
    jacobi[:, i, i] = diagonal
    jacobi[:, i[1:], i[:-1]] = jacobi[:, i[:-1], i[1:]] = np.sqrt(square[:, 1:])
    nodes, vectors = np.linalg.eigh(jacobi)
    p = np.clip((1 + nodes) / 2, 1e-300, 1.0)
    return p[inverse], (vectors[:, 0, :] ** 2)[inverse]
