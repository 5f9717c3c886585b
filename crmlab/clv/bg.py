r"""BG/NBD and its kin: customers buy at random while alive and may leave after a purchase.

The story of Fader, Hardie and Lee (2005): while alive a customer buys as a Poisson process with rate
:math:`\lambda \sim \text{Gamma}(r, \alpha)` (mean :math:`r/\alpha`), and after each repeat purchase leaves with
probability :math:`p \sim \text{Beta}(a, b)`. The modified model of Batislam, Denizel and Filiztekin (2007) lets
customers leave after the first purchase too, so that a one-time buyer may be gone; that is why it is the default. The
models of regular timing (Platzer and Reutterer 2016) have every k-th event of such a process for a purchase. Where
nobody ever leaves, all of them are the NBD model of Ehrenberg (1959).

Everything is computed with means and dispersions, :math:`m = r/\alpha`, :math:`\varphi = 1/r`,
:math:`\bar p = a/(a+b)`, :math:`\theta = 1/(a+b)`: the limits of no heterogeneity, where :math:`r, \alpha` or
:math:`a, b` run to infinity, are then ordinary points, and no gamma function of a large number is ever subtracted from
another.
"""

import dataclasses
import math

import ibis
import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import expit

from crmlab.clv.purchases import PurchaseModel
from crmlab.data.errors import DataError


def ratio_log(u):
    """Return log(1 + u) / u, which is 1 at 0."""
    return np.divide(np.log1p(u), u, out=np.ones_like(u), where=u != 0)


def ratio_second(u):
    """Return (log(1 + u) - u / (1 + u)) / u², which is 1/2 at 0; a series where the difference would cancel."""
    small = u < 1e-3
    v = np.where(small, 1.0, u)
    exact = (np.log1p(v) - v / (1 + v)) / v**2
    return np.where(small, 0.5 - u * (2 / 3 - u * (3 / 4 - u * 4 / 5)), exact)


def silence(y, x, elapsed):
    """Return (r + x) log((α + e) / α) after a time e with x events, and its slopes by log m and log φ."""
    m, phi = np.exp(y[0]), np.exp(y[1])
    u = m * phi * elapsed
    clock = m * elapsed * ratio_log(u)
    damped = m * elapsed / (1 + u)
    steps = 1 + x * phi
    return steps * clock, steps * damped, x * phi * damped - phi * (m * elapsed) ** 2 * ratio_second(u)


def counts(y, x, pace, horizon, top):
    """Return the chances of 0 … top events in a horizon, shape (n, top + 1), of customers with x events at a pace."""
    phi = np.exp(y[1])
    reach = (pace * horizon)[:, None]
    none = -(1 + x[:, None] * phi) * reach * ratio_log(phi * reach)
    i = np.arange(top)
    with np.errstate(divide="ignore"):
        steps = np.log1p((x[:, None] + i) * phi) + np.log(reach / (1 + phi * reach)) - np.log(i + 1)
    return np.exp(none + np.concatenate([np.zeros_like(none), np.cumsum(steps, axis=1)], axis=1))


@dataclasses.dataclass(frozen=True)
class BGNBD(PurchaseModel):
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
    operational = True
    extra = 0
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
        m, phi, p, theta = np.exp(work[0]), np.exp(work[1]), expit(work[2]), np.exp(work[3])
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

    def _start(self, purchases, time, customers):
        return np.array([np.log(self.k * purchases / time) + 0.5, 0.5, -1.0, -1.0])

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
        sides = []
        for (x, _, _, elapsed, shift), left in ((gone, True), (alive, False)):
            waited, by_m, by_phi = silence(y, self.k * x, elapsed)
            fate = self._fate(y[2] + shift, np.exp(y[3]), x, left)
            sides.append((fate[0] - waited, np.stack([-by_m, -by_phi, fate[1], fate[2]])))
        return *sides, sides[1][0]

    def _fate(self, logit, theta, x, left):
        """Log chance to have stayed so far (and left with the last purchase), and slopes by logit p̄ and log θ."""
        if np.ndim(logit) == 0 and len(x) > x.max(initial=0) + 1:
            return self._fate(logit, theta, np.arange(x.max() + 1), left)[:, x]
        n = x + self.extra
        made = np.maximum(n - 1, 0) if left else n
        if np.ndim(logit) == 0:
            each, which = np.atleast_1d(logit), np.zeros(len(x), dtype=np.int64)
        else:
            each, which = np.unique(logit, return_inverse=True)
        i = np.arange(made.max(initial=0), dtype=float)
        fate, step = np.empty((3, len(x))), max(1, 2_000_000 // (len(i) + 1))
        for start in range(0, len(each), step):
            here = (which >= start) & (which < start + step)
            p, q = expit(each[start : start + step, None]), expit(-each[start : start + step, None])
            terms = np.stack(
                np.broadcast_arrays(
                    np.log(q + i * theta) - np.log1p(i * theta),
                    -p * q / (q + i * theta),
                    i * theta / (q + i * theta) - i * theta / (1 + i * theta),
                )
            )
            table = np.concatenate([np.zeros((3, len(p), 1)), np.cumsum(terms, axis=2)], axis=2)
            fate[:, here] = table[:, which[here] - start, made[here]]
        if left:
            # The last chance to leave was taken: a factor p̄ / (1 + (n - 1) θ) in place of one for staying.
            last = 1 + made * theta
            with np.errstate(divide="ignore"):
                fate += np.stack(np.broadcast_arrays(np.log(expit(logit)) - np.log(last), expit(-logit), 1 / last - 1))
            fate[:, n == 0] = [[-np.inf], [0.0], [0.0]]
        return fate

    def stretch(self, y, x, gap, elapsed):
        """Return what the time since the last purchase adds to being alive when only every k-th event is a purchase.

        Parameters
        ----------
        y : ndarray, shape (4,)
            Working coordinates.
        x, gap, elapsed : ndarray, shape (n,)
            Frequency, operational time since the last purchase and since the first.

        Returns
        -------
        value, slopes, chances : ndarray, shapes (n,), (2, n), (k, n)
            Log of the sum over the events since the last purchase, its slopes by log m and log φ, and the chance of
            each number of them.
        """
        m, phi, x = np.exp(y[0]), np.exp(y[1]), self.k * x
        damp = 1 / (1 + m * phi * elapsed)
        terms, slopes = [np.ones_like(gap)], [np.zeros((2, len(gap)))]
        for i in range(self.k - 1):
            steps = 1 + (x + i) * phi
            terms.append(terms[-1] * gap * m * steps * damp / (i + 1))
            slopes.append(slopes[-1] + np.stack([damp, 1 - 1 / steps - m * phi * elapsed * damp]))
        total = np.sum(terms, axis=0)
        chances = np.stack(terms) / total
        return np.log(total), np.sum(np.stack(slopes) * chances[:, None], axis=0), chances

    def future(self, y, x, customer, start, horizon, discount, reach):
        r"""Return what to expect of customers who are alive.

        With :math:`\lambda \mid \text{alive} \sim \text{Gamma}(r+x, \alpha+T)` and
        :math:`p \mid \text{alive} \sim \text{Beta}(a, b+n)`, where :math:`n` is the number of chances to leave so far,
        purchases arrive :math:`t` later at the rate
        :math:`\frac{r+x}{\alpha+T} E_p\big[(1 + p\,t/(\alpha+T))^{-(r+x+1)}\big]`. The expectation over :math:`p` is a
        Gauss-Jacobi sum and the discounted integral over :math:`t` a Gauss-Legendre sum: no hypergeometric function.
        Where only every k-th event is a purchase, the k-th roots of unity pick those out of all.

        Parameters
        ----------
        y : ndarray, shape (4,)
            Working coordinates.
        x : ndarray, shape (n,)
            Frequency.
        customer : tuple of ndarray
            Time, multiplier of the rate, operational time, and shift of the dropout.
        start, horizon : float
            Operational time from now to where the horizon begins, and its length, which may be infinite.
        discount : callable
            Present value, at the start, of a purchase an operational time later.
        reach : float
            Operational time after the start beyond which a purchase is discounted to nothing.

        Returns
        -------
        ndarray, shape (4, k, n)
            Expected purchases, their expected discounted number, the probability of any purchase and that of being
            still alive at the start, by the number of events since the last purchase.
        """
        _, scale, elapsed, shift = customer
        m, phi, theta = np.exp(y[0]), np.exp(y[1]), np.exp(y[3])
        mean = expit(y[2] + shift)
        pace = (scale * m / (1 + m * phi * elapsed))[:, None]
        end = min(horizon, reach)
        found = np.empty((4, self.k, len(x)))
        for j in range(self.k):
            shape = 1 + (self.k * x + j)[:, None] * phi
            # The further the horizon beyond the time observed, the more the expectation over p depends on the smallest
            # p, and the more nodes it takes (their error is about exp(-4 nodes / sqrt(stretch))).
            ahead = start + (horizon if np.isfinite(horizon) else end)
            over = phi + shape * theta / (1 + (x + self.extra)[:, None] * theta)
            stretch = float(np.max(pace * over, initial=0.0)) * ahead
            size = min(256, 8 * math.ceil((16 + 6 * math.sqrt(stretch)) / 8))
            p, weight = _beta_nodes(mean, theta, x + self.extra, size)
            roots = _roots(p, j, self.k)

            def left(t, z, shape=shape):
                """(r + x) log(1 + z t / (alpha + T)), finite when r is not."""
                return shape * pace * z * t * ratio_log(phi * pace * z * t)

            def arrivals(t, roots=roots, left=left, weight=weight):
                rate = sum(np.real(c * np.exp(-left(t, z)) / (1 + phi * pace * z * t)) for z, c in roots)
                return np.sum(weight * rate, axis=1, keepdims=True)

            def expected(t, roots=roots, left=left, weight=weight):
                return np.sum(weight * sum(np.real(-c * np.expm1(-left(t, z)) / z) for z, c in roots), axis=1)

            alive = np.sum(weight * np.exp(-left(start, p)), axis=1) if start else np.ones(len(x))
            if np.isinf(horizon):
                # E[1/p]: every purchase is the last one with probability p.
                with np.errstate(divide="ignore", invalid="ignore"):
                    last = (1 + (x + self.extra - 1) * theta) / (mean - theta)
                purchases = np.where(mean > theta, last, np.inf) - (expected(start) if start else 0)
                none = np.zeros(len(x))
            else:
                purchases = expected(start + horizon) - (expected(start) if start else 0)
                none = np.sum(weight * np.exp(-left(1.0, p * start + horizon)), axis=1)
                if self.k > 1:
                    none = counts(y, self.k * x + j, pace[:, 0], horizon, self.k - 1 - j).sum(axis=1)
            # t = c (exp(y) - 1): the near future, where most happens, and the far one weigh alike.
            c = 1 / (shape * pace)
            span = np.log1p(end / c)
            nodes, node_weights = np.polynomial.legendre.leggauss(16 if stretch < 50 and end < reach / 100 else 48)
            discounted = np.zeros(len(x))
            for node, node_weight in zip((nodes + 1) / 2, node_weights / 2, strict=True):
                t = c * np.expm1(node * span)
                discounted += (arrivals(start + t) * np.exp(node * span) * discount(t) * span * node_weight)[:, 0]
            found[:, j] = purchases, discounted, alive - none, alive
        return found

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
        chances : ndarray, shape (k, n)
            Chance of each number of events since the last purchase.
        horizon : float
            Operational time ahead.

        Returns
        -------
        who, when : ndarray, shape (purchases,)
            Customer and operational time of each purchase.
        """
        _, scale, elapsed, shift = customer
        m, phi, theta = np.exp(y[0]), np.exp(y[1]), np.exp(y[3])
        mean = np.broadcast_to(expit(y[2] + shift), x.shape)
        j = (rng.random(len(x)) > np.cumsum(chances, axis=0)[:-1]).sum(axis=0) if self.k > 1 else 0
        rate = scale * m / (1 + m * phi * elapsed) * (rng.gamma(1 / phi + self.k * x + j) * phi if phi else 1.0)
        p = rng.beta(mean / theta, (1 - mean) / theta + x + self.extra) if theta and mean.any() else mean
        events = rng.poisson(rate * horizon)
        # Tiny p would overflow a geometric draw: below 1e-12 nobody leaves within any number of purchases drawn here.
        leaves = np.where(p > 1e-12, rng.geometric(np.clip(p, 1e-12, 1)), np.iinfo(np.int64).max)
        who = np.repeat(np.arange(len(x)), events)
        order = np.arange(1, len(who) + 1) - (np.cumsum(events) - events - j)[who]
        when = (np.sort(who + rng.random(len(who))) - who) * horizon
        kept = (order % self.k == 0) & (order // self.k <= leaves[who])
        return who[kept], when[kept]

    def number(self, y, x, customer, horizon, top):
        """Return the chances of 0 … top purchases of customers who are alive, shape (k, n, top + 1).

        Parameters
        ----------
        y : ndarray, shape (4,)
            Working coordinates.
        x : ndarray, shape (n,)
            Frequency.
        customer : tuple of ndarray
            Time, multiplier of the rate, operational time, and shift of the dropout.
        horizon : float
            Operational time ahead.
        top : int
            Largest number of purchases.

        Returns
        -------
        ndarray
            Probabilities, by the number of events since the last purchase.
        """
        _, scale, elapsed, shift = customer
        m, phi, theta = np.exp(y[0]), np.exp(y[1]), np.exp(y[3])
        mean = np.broadcast_to(expit(y[2] + shift), x.shape)[:, None]
        pace = np.broadcast_to(scale * m / (1 + m * phi * elapsed), x.shape)
        i = (x + self.extra)[:, None] + np.arange(top)
        stays = np.cumprod((1 - mean + i * theta) / (1 + i * theta), axis=1)
        stays = np.concatenate([np.ones((len(x), 1)), stays], axis=1)
        found = []
        for j in range(self.k):
            events = counts(y, self.k * x + j, pace, horizon, self.k * (top + 1) - 1 - j)
            below = np.cumsum(events, axis=1)[:, self.k - 1 - j :: self.k]
            exactly = np.diff(below, axis=1, prepend=0.0)
            chance = exactly * stays
            chance[:, 1:] += (1 - below[:, :-1]) * (stays[:, :-1] - stays[:, 1:])
            found.append(chance)
        return np.stack(found)


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
    extra = 1


@dataclasses.dataclass(frozen=True)
class BGCNBD(BGNBD):
    r"""The BG/CNBD-k model: BG/NBD for customers who buy at regular intervals.

    Times between purchases are Erlang-k with rate :math:`\lambda`, as if only every k-th event of a Poisson process
    were a purchase: their coefficient of variation is :math:`1/\sqrt k`. With :math:`\Delta` the intervals between
    purchases,

    .. math::

        L = \prod_{j=1}^{x} \frac{\Delta_j^{k-1}}{(k-1)!} \cdot \frac{B(a, b+x)}{B(a, b)}
            \frac{\Gamma(r+kx)\,\alpha^r}{\Gamma(r)} \Big[ \sum_{j=0}^{k-1}
            \frac{(T-t_x)^j\,\Gamma(r+kx+j)}{j!\;\Gamma(r+kx)\,(\alpha+T)^{r+kx+j}}
            + \delta_{x>0} \frac{a}{b+x-1} \frac{1}{(\alpha+t_x)^{r+kx}} \Big],

    Platzer and Reutterer (2016), Marketing Science 35(5), 779-799, and Reutterer, Platzer and Schröder (2021),
    International Journal of Research in Marketing 38(1), 194-215. The product of the intervals does not move the
    estimates but decides between different k: the summary needs the column `log_gaps`. `loglike` leaves it out.

    Parameters
    ----------
    k : {1, 2, 3}, optional
        Regularity; by default the one with the highest likelihood.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30", timing=True)
    >>> BGCNBD().fit(summary).model.title
    'BG/CNBD-1'
    """

    k: int | None = None

    def __post_init__(self):
        """Refuse a regularity without a meaning."""
        if self.k not in (None, 1, 2, 3):
            raise DataError(f"k must be 1, 2 or 3, not {self.k!r}.")

    @property
    def title(self):
        """Name of the model with its regularity."""
        return f"{'M' * self.extra}BG/CNBD-{self.k or 'k'}"

    def fit(self, data, **options):
        """Fit the model, for each k if none is given; see `PurchaseModel.fit`.

        Parameters
        ----------
        data : ibis.Table or pandas.DataFrame
            A summary made with ``timing=True``.
        **options
            As in `BGNBD.fit`.

        Returns
        -------
        crmlab.clv.Result
            The fit, of the likeliest k.
        """
        if self.k:
            return super().fit(data, **options)
        fits = [dataclasses.replace(self, k=k).fit(data, **options) for k in (1, 2, 3)]
        return max(fits, key=lambda result: result.llf)

    def _accepts(self, design):
        if design.calendar and self.k > 1:
            raise DataError("A calendar works with k = 1 only: regular buyers keep to their own clock.")

    def _timing(self, data):
        if "log_gaps" not in data.columns:
            raise DataError("Regular timing needs the column log_gaps: summarize(log, timing=True) makes it.")
        if isinstance(data, ibis.Table):
            sums = data.aggregate(gaps=data.log_gaps.sum(), x=data.frequency.sum()).to_pandas().iloc[0]
            gaps, x = sums["gaps"], sums["x"]
        else:
            weight = data.get("weight", 1)
            gaps, x = (data["log_gaps"] * weight).sum(), (data["frequency"] * weight).sum()
        return (self.k - 1) * float(gaps) - float(x) * math.lgamma(self.k)


@dataclasses.dataclass(frozen=True)
class MBGCNBD(BGCNBD):
    r"""The MBG/CNBD-k model: MBG/NBD for customers who buy at regular intervals.

    As `BGCNBD` with :math:`B(a, b+x+1)` in place of :math:`B(a, b+x)` and :math:`a/(b+x)` in place of
    :math:`\delta_{x>0}\,a/(b+x-1)`: customers may leave after the first purchase too.

    Parameters
    ----------
    k : {1, 2, 3}, optional
        Regularity; by default the one with the highest likelihood.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30", timing=True)
    >>> MBGCNBD(k=1).fit(summary).params.round(3).to_dict()
    {'r': 0.525, 'alpha': 6.183, 'a': 0.891, 'b': 1.614}
    """

    extra = 1


@dataclasses.dataclass(frozen=True)
class NBD(BGNBD):
    r"""The NBD model: customers buy at random for ever. The benchmark that every model of leaving has to beat.

    .. math:: L = \frac{\Gamma(r+x)\,\alpha^r}{\Gamma(r)\,(\alpha+T)^{r+x}},

    the density of the times of the purchases (that of their number has a factor :math:`T^x/x!` more, which does not
    depend on the parameters), so that its log-likelihood compares with those of BG/NBD and Pareto/NBD. Ehrenberg
    (1959), Applied Statistics 8(1), 26-41.

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.NBD().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> print(result.params.round(3).to_dict(), round(result.llf, 2))
    {'r': 0.385, 'alpha': 12.072} -9763.66
    """

    title = "NBD"
    names = ("r", "alpha")
    limits = ((1,),)

    def params(self, work):
        """Return (r, alpha) for working coordinates (log m, log φ)."""
        return super().params([*work[:2], 0.0, 0.0])[:2]

    def work(self, params):
        """Return working coordinates for (r, alpha)."""
        return super().work([*params, 1.0, 1.0])[:2]

    def coordinates(self, work):
        """Return the four coordinates of BG/NBD where nobody leaves."""
        return np.array([*work[:2], -np.inf, 0.0])

    def _start(self, purchases, time, customers):
        return super()._start(purchases, time, customers)[:2]

    def _accepts(self, design):
        if design.dropout is not None:
            raise DataError("Under NBD nobody leaves: there is no dropout to explain.")


def _roots(p, j, k):
    """1 - ωρ and the weight of each k-th root of unity ω, with ρ the k-th root of 1 - p."""
    q = np.log1p(-np.minimum(p, 1 - (1e-9 if k > 1 else 1e-16))) / k
    pairs = [(-np.expm1(q), np.exp((j + 1 - k) * q) / k)]
    for i in range(1, k):
        omega = np.exp(2j * np.pi * i / k)
        pairs.append((1 - omega * np.exp(q), omega ** (j + 1) * np.exp((j + 1 - k) * q) / k))
    return pairs


def _beta_nodes(mean, theta, n, size=32):
    """Nodes and weights of the expectation over Beta(a, b + n) for each n, shapes (len(n), size).

    Golub and Welsch (1969): eigenvalues of the Jacobi matrix of the distribution, so weights sum to one and nothing
    overflows however large a and b are.
    """
    mean = np.broadcast_to(mean, n.shape)
    if theta == 0 or not mean.any():
        return np.maximum(mean, 1e-300)[:, None], np.ones((len(n), 1))
    unique, inverse = np.unique(np.column_stack([n, mean]), axis=0, return_inverse=True)
    n, mean = unique[:, :1], unique[:, 1:]
    A, B = (1 - mean) / theta + n - 1, mean / theta - 1
    k = np.arange(size, dtype=float)
    total = 2 * k + A + B
    with np.errstate(divide="ignore", invalid="ignore"):
        diagonal = (B - A) * (B + A) / (total * (total + 2))
        square = 4 * k * (k + A) * (k + B) * (k + A + B) / (total**2 * (total + 1) * (total - 1))
    diagonal[:, 0] = ((B - A) / (A + B + 2))[:, 0]
    square[:, 1] = (4 * (1 + A) * (1 + B) / ((2 + A + B) ** 2 * (3 + A + B)))[:, 0]
    nodes, weights = np.empty((2, len(unique), size))
    for i, row in enumerate(np.sqrt(square[:, 1:])):
        # One matrix at a time: many together go to threads that wait for one another when the machine is busy.
        nodes[i], vectors = eigh_tridiagonal(diagonal[i], row, lapack_driver="stemr", check_finite=False)
        weights[i] = vectors[0] ** 2
    p = np.clip((1 + nodes) / 2, 1e-300, 1.0)
    inverse = inverse.ravel()
    return p[inverse], weights[inverse]
