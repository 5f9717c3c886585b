r"""Pareto/NBD: customers buy at random while alive and may leave at any moment.

The story of Schmittlein, Morrison and Colombo (1987): while alive a customer buys as a Poisson process with rate
:math:`\lambda \sim \text{Gamma}(r, \alpha)`, and the time until the customer leaves is exponential with rate
:math:`\mu \sim \text{Gamma}(s, \beta)`.

Instead of the hypergeometric functions of the literature, which overflow, there is one probability with a meaning:
:math:`\kappa = P(\text{leaves before buying again})`. For each frequency it is a smooth function of one number, the
ratio of the paces of buying and leaving, so that a few quadratures per frequency serve all customers.
"""

import dataclasses

import numpy as np

from crmlab.clv.bg import counts, ratio_log, silence
from crmlab.clv.purchases import PurchaseModel

STEP = 0.35
"""Step of the trapezoid rule in the log of time; its error, exp(-π² / STEP), is below 1e-12."""


@dataclasses.dataclass(frozen=True)
class ParetoNBD(PurchaseModel):
    r"""The Pareto/NBD model of repeat buying.

    For a customer with :math:`x` repeat purchases, the last at :math:`t_x`, observed until :math:`T`,

    .. math::

        L = \frac{\Gamma(r+x)\,\alpha^r \beta^s}{\Gamma(r)} \Big[ \frac{1}{(\alpha+T)^{r+x}(\beta+T)^s} +
            s \int_{t_x}^{T} \frac{dt}{(\alpha+t)^{r+x}(\beta+t)^{s+1}} \Big].

    With :math:`\kappa_x(t)` the probability that somebody alive at :math:`t` leaves before buying again,

    .. math::

        \kappa_x(t) = s\,(\alpha+t)^{r+x}(\beta+t)^s \int_{t}^{\infty} \frac{du}{(\alpha+u)^{r+x}(\beta+u)^{s+1}},

    the bracket is :math:`\kappa_x(t_x) / [(\alpha+t_x)^{r+x}(\beta+t_x)^s] + (1 - \kappa_x(T)) /
    [(\alpha+T)^{r+x}(\beta+T)^s]`: either the last purchase was the last for ever, or the customer is alive and will
    buy again. Two positive terms, computed as logs, where nothing cancels. Schmittlein, Morrison and Colombo (1987),
    Management Science 33(1), 1-24; Fader and Hardie (2005), note 009, brucehardie.com.

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.ParetoNBD().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> result.params.round(3).to_dict()
    {'r': 0.553, 'alpha': 10.578, 's': 0.606, 'beta': 11.669}
    """

    title = "Pareto/NBD"
    names = ("r", "alpha", "s", "beta")
    depends = ((), ("r", "alpha"), ("s", "beta"), ("s", "beta"))
    operational = False

    def params(self, work):
        """Return (r, alpha, s, beta) for working coordinates (log m, log φ, log μ̄, log ψ).

        Parameters
        ----------
        work : array_like, shape (4,)
            Working coordinates: the mean rates r/α and s/β, and their squared coefficients of variation 1/r and 1/s.

        Returns
        -------
        ndarray, shape (4,)
            Parameters of the literature.
        """
        m, phi, mu, psi = np.exp(work)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.array([1 / phi, 1 / (m * phi), 1 / psi, 1 / (mu * psi)])

    def work(self, params):
        """Return working coordinates for (r, alpha, s, beta), the inverse of `params`.

        Parameters
        ----------
        params : array_like, shape (4,)
            Parameters of the literature, all finite and positive.

        Returns
        -------
        ndarray, shape (4,)
            Working coordinates.
        """
        r, alpha, s, beta = np.asarray(params, dtype=float)
        return np.array([np.log(r / alpha), -np.log(r), np.log(s / beta), -np.log(s)])

    def _start(self, purchases, time, customers):
        return np.array([np.log(purchases / time) + 0.5, 0.5, -np.log(time / customers), 0.5])

    def bend(self, y):
        """Return the faster of the rates at which the past of buying and of staying loses weight."""
        return max(np.exp(y[0] + y[1]), np.exp(y[2] + y[3]))

    def paths(self, y, gone, alive):
        """Return U(x, t_x) and V(x, T) with their slopes by the four coordinates.

        Parameters
        ----------
        y : ndarray, shape (4,)
            Working coordinates.
        gone, alive : tuple
            Frequency, time, multiplier of the rate, operational time and shift of the dropout, for either side.

        Returns
        -------
        (value, slopes), (value, slopes), alive
            Shapes (n,) and (4, n); `alive` is the log weight of being alive at T, of which V may be a part.
        """
        m, phi, psi = np.exp(y[0]), np.exp(y[1]), np.exp(y[3])
        known, ratios = [], []
        for x, t, scale, elapsed, shift in (gone, alive):
            bought, by_m, by_phi = silence(y, x, elapsed)
            stayed, by_mu, by_psi = silence(np.array([y[2] + shift, y[3]], dtype=object), np.zeros(1), t)
            known.append((-bought - stayed, np.stack([-by_m, -by_phi, -by_mu, -by_psi])))
            pace, hazard = m * phi * elapsed, np.exp(y[2] + shift) * psi * t
            # Log of pace over hazard, apart from the factor 1 + xφ, and its slopes.
            slopes = np.broadcast_arrays(1 / (1 + pace), -pace / (1 + pace), -1 / (1 + hazard), hazard / (1 + hazard))
            ratios.append((y[0] + np.log(scale) - y[2] - shift + np.log1p(hazard) - np.log1p(pace), slopes))
        if np.isneginf(y[2]) or not len(gone[0]):
            known[0] = (np.full(len(gone[0]), -np.inf), np.zeros((4, len(gone[0]))))
            return *known, known[1][0]
        races = _races([(gone[0], ratios[0][0]), (alive[0], ratios[1][0])], phi, psi)
        sides = []
        for (x, *_), (value, slopes), (_, by), race, left in zip(
            (gone, alive), known, ratios, races, (True, False), strict=True
        ):
            log_kappa, by_ratio, by_phi_x, by_psi = race
            log_kappa = np.minimum(log_kappa, -1e-300)  # interpolation may pass zero
            steps = 1 + x * phi
            total = by_ratio * np.stack(by)
            total[1] += by_ratio * (1 - 1 / steps) + by_phi_x / steps
            total[3] += by_psi
            if left:
                sides.append((value + log_kappa, slopes + total))
            else:
                still = -np.expm1(log_kappa)
                with np.errstate(divide="ignore"):
                    sides.append((value + np.log(still), slopes - total * (np.exp(log_kappa) / still)))
        return *sides, known[1][0]

    def future(self, y, x, customer, start, horizon, discount, reach):
        r"""Return what to expect of customers who are alive.

        With :math:`\lambda \mid \text{alive} \sim \text{Gamma}(r+x, \alpha+T)` and, independent of it,
        :math:`\mu \mid \text{alive} \sim \text{Gamma}(s, \beta+T)`, purchases arrive :math:`t` later at the rate
        :math:`\frac{r+x}{\alpha+T}\,\big(1 + t/(\beta+T)\big)^{-s}`.

        Parameters
        ----------
        y : ndarray, shape (4,)
            Working coordinates.
        x : ndarray, shape (n,)
            Frequency.
        customer : tuple of ndarray
            Time, multiplier of the rate, operational time, and shift of the dropout.
        start, horizon : float
            Time from now to where the horizon begins, and its length, which may be infinite.
        discount : callable
            Present value, at the start, of a purchase some time later.
        reach : float
            Time after the start beyond which a purchase is discounted to nothing.

        Returns
        -------
        ndarray, shape (4, 1, n)
            Expected purchases, their expected discounted number, the probability of any purchase and that of being
            still alive at the start.
        """
        psi = np.exp(y[3])
        pace, hazard, shape = self._paces(y, x, customer)
        phi_x = np.exp(y[1]) / shape

        def stayed(t):
            return hazard * t * ratio_log(psi * hazard * t)

        def lived(t):
            """Expected time alive until t."""
            if np.isinf(t):
                with np.errstate(divide="ignore"):
                    return 1 / (hazard * (1 - psi)) if psi < 1 else np.full_like(hazard, np.inf)
            clock = stayed(t)
            with np.errstate(invalid="ignore"):
                ratio = -np.expm1(-(1 - psi) * clock) / (1 - psi) if psi != 1 else clock
                return np.where(hazard > 0, ratio / hazard, t)

        alive = np.exp(-stayed(start))
        purchases = pace * (lived(start + horizon) - (lived(start) if start else 0.0))
        end = min(horizon, reach)
        # t = c (exp(y) - 1): the near future, where most happens, and the far one weigh alike.
        c = 1 / (pace + hazard)
        long = float(np.max((pace + hazard), initial=0.0)) * end
        nodes, weights = np.polynomial.legendre.leggauss(16 if long < 100 and end < reach / 100 else 48)
        discounted, some = np.zeros((2, len(x)))
        span, first_span = np.log1p(end / c), np.log1p(np.minimum(horizon, 1e12 * c) / c)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            t = c * np.expm1(node * span)
            discounted += pace * np.exp(-stayed(start + t)) * discount(t) * c * np.exp(node * span) * span * weight
            t = c * np.expm1(node * first_span)
            first = pace * np.exp(-(1 + phi_x) * pace * t * ratio_log(phi_x * pace * t) - stayed(start + t))
            some += first * c * np.exp(node * first_span) * first_span * weight
        return np.stack([purchases, discounted, some, alive])[:, None]

    def draw_future(self, rng, y, x, customer, chances, horizon):
        """Return simulated purchases of customers who are alive.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of random numbers.
        y : ndarray, shape (4,)
            Working coordinates.
        x : ndarray, shape (n,)
            Frequency.
        customer : tuple of ndarray
            Time, multiplier of the rate, operational time, and shift of the dropout.
        chances : ndarray
            Not used: events are purchases.
        horizon : float
            Time ahead.

        Returns
        -------
        who, when : ndarray, shape (purchases,)
            Customer and time of each purchase.
        """
        phi, psi = np.exp(y[1]), np.exp(y[3])
        pace, hazard, shape = self._paces(y, x, customer)
        rate = pace / shape * rng.gamma(1 / phi + x) * phi if phi else pace
        leave = hazard * (rng.gamma(1 / psi, size=len(x)) * psi if psi else 1.0)
        with np.errstate(divide="ignore"):
            length = np.minimum(rng.exponential(size=len(x)) / leave, horizon)
        bought = rng.poisson(rate * length)
        who = np.repeat(np.arange(len(x)), bought)
        return who, rng.random(len(who)) * length[who]

    def number(self, y, x, customer, horizon, top):
        """Return the chances of 0 … top purchases of customers who are alive, shape (1, n, top + 1).

        Parameters
        ----------
        y : ndarray, shape (4,)
            Working coordinates.
        x : ndarray, shape (n,)
            Frequency.
        customer : tuple of ndarray
            Time, multiplier of the rate, operational time, and shift of the dropout.
        horizon : float
            Time ahead.
        top : int
            Largest number of purchases.

        Returns
        -------
        ndarray
            Probabilities.
        """
        psi = np.exp(y[3])
        pace, hazard, _ = self._paces(y, x, customer)
        own = pace / (1 + x * np.exp(y[1]))

        def stayed(t):
            return hazard * t * ratio_log(psi * hazard * t)

        chance = np.exp(-stayed(horizon))[:, None] * counts(y, x, own, horizon, top)
        c = 1 / (pace + hazard)
        span = np.log1p(horizon / c)
        nodes, weights = np.polynomial.legendre.leggauss(64)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            t = c * np.expm1(node * span)
            leaves = hazard * np.exp(-(1 + psi) * stayed(t)) * c * np.exp(node * span) * span * weight
            chance += leaves[:, None] * counts(y, x, own, t, top)
        return chance[None]

    @staticmethod
    def _paces(y, x, customer):
        """Expected rates of buying and of leaving of customers alive, and 1 + xφ."""
        t, scale, elapsed, shift = customer
        m, phi, mu, psi = np.exp(y[0]), np.exp(y[1]), np.exp(y[2] + shift), np.exp(y[3])
        shape = 1 + x * phi
        return scale * m * shape / (1 + m * phi * elapsed), np.broadcast_to(mu / (1 + psi * mu * t), x.shape), shape


def _races(sides, phi, psi):
    r"""Log of κ and its slopes by the log ratio of the paces, log φ of the frequency, and log ψ.

    With :math:`\rho` the ratio of the expected rates of buying and leaving of somebody alive,
    :math:`\varphi_x = \varphi/(1+x\varphi)`, and time :math:`w` in units of the expected time until leaving,

    .. math:: \kappa = \int_0^\infty (1+\psi w)^{-1/\psi-1} (1+\varphi_x\rho w)^{-1/\varphi_x}\,dw.

    For each frequency this is computed at Chebyshev nodes in :math:`\log \rho` and interpolated.
    """
    low = min(float(ratio.min()) for _, ratio in sides)
    high = max(float(ratio.max()) for _, ratio in sides)
    each = np.unique(np.concatenate([np.unique(x) for x, _ in sides]))
    size = 10 + int(np.ceil(7 * (high - low)))
    angles = np.pi * (np.arange(size) + 0.5) / size
    nodes = (low + high) / 2 + (high - low) / 2 * np.cos(angles)
    to_series = np.cos(np.outer(np.arange(size), angles)) * (2 - (np.arange(size) == 0))[:, None] / size
    phi_x, shift = phi / (1 + each * phi), np.log1p(each * phi)
    step = max(1, 200_000 // (size * 200))
    values = np.concatenate(
        [_race(nodes + shift[i : i + step, None], phi_x[i : i + step, None], psi) for i in range(0, len(each), step)],
        axis=1,
    )
    series = values @ to_series.T
    row = np.zeros(int(each.max()) + 1, dtype=np.int64)
    row[each] = np.arange(len(each))
    found = []
    for x, ratio in sides:
        points, which = np.unique(ratio, return_inverse=True)
        unit = (2 * points - low - high) / (high - low) if high > low else np.zeros_like(points)
        basis = np.cos(np.outer(np.arange(size), np.arccos(np.clip(unit, -1, 1))))
        if len(each) * len(points) <= 4 * len(x):
            found.append((series @ basis)[:, row[x], which])
        else:
            found.append(
                np.concatenate(
                    [
                        np.einsum("fpn,np->fp", series[:, row[x[i : i + 8192]]], basis[:, which[i : i + 8192]])
                        for i in range(0, len(x), 8192)
                    ],
                    axis=1,
                )
            )
    return found


def _race(log_ratio, phi_x, psi):
    """`_races` at given ratios by the trapezoid rule in the log of time, shape (4, …)."""
    ratio = np.exp(log_ratio)
    grid = np.arange(-44.0, 600.0, STEP)
    corners = np.ix_([0, -1], [0, -1])
    far = _log_density(grid, ratio[corners][..., None], phi_x[[0, -1]][..., None], psi)[0] + grid
    keep = (far > far.max(axis=-1, keepdims=True) - 36).any(axis=(0, 1))
    grid = grid[keep]
    density, *slopes = _log_density(grid, ratio[..., None], phi_x[..., None], psi)
    weight = np.exp(density + grid)
    total = weight.sum(axis=-1)
    kappa = np.log(total * STEP) - np.log1p(ratio)
    return np.stack([np.minimum(kappa, -1e-300), *((weight * slope).sum(axis=-1) / total for slope in slopes)])


def _log_density(grid, ratio, phi_x, psi):
    """Log of the integrand at w = exp(grid) / (1 + ratio), and its slopes."""
    w = np.exp(grid) / (1 + ratio)
    bought, left = ratio * w, psi * w
    buying, leaving = bought * ratio_log(phi_x * bought), w * ratio_log(left)
    slope = bought / (1 + phi_x * bought)
    return -(1 + psi) * leaving - buying, -slope, buying - slope, leaving - (1 + psi) * w / (1 + left)
