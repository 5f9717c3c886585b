"""Common-factor models by maximum likelihood, for many covariance matrices at once.

Items have covariance :math:`\\Sigma_g = \\Lambda_g \\Phi_g \\Lambda_g' + \\Theta_g` and mean
:math:`\\nu_g + \\Lambda_g \\kappa_g` in group :math:`g`. The first axis of every array counts the replicates.
"""

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

LIMIT = 300
"""Steps before a fit gives up."""

ZERO, ONE = -1, -2
"""Entries of a layout that are no parameters."""


class Layout(NamedTuple):
    """Which parameter stands where in the matrices of one group.

    Attributes
    ----------
    loadings : numpy.ndarray, shape (p, k)
        Positions of parameters, or `ZERO`.
    factors : numpy.ndarray, shape (k, k)
        Of the covariances of the factors; `ONE` for a variance that sets the scale.
    unique : numpy.ndarray, shape (p,)
        Of the unique variances.
    intercepts : numpy.ndarray, shape (p,)
        Of the intercepts; all `ZERO` for a model of centred items.
    means : numpy.ndarray, shape (k,)
        Of the factor means.
    """

    loadings: np.ndarray
    factors: np.ndarray
    unique: np.ndarray
    intercepts: np.ndarray
    means: np.ndarray


class Moments(NamedTuple):
    """What the likelihood needs of one group.

    Attributes
    ----------
    cov : numpy.ndarray, shape (b, p, p)
        Covariances with divisor n.
    mean : numpy.ndarray, shape (b, p)
        Means.
    share : float
        Of all respondents.
    """

    cov: np.ndarray
    mean: np.ndarray
    share: float


class Fit(NamedTuple):
    """Where the search ended.

    Attributes
    ----------
    theta : numpy.ndarray, shape (b, q)
        Parameters.
    value : numpy.ndarray, shape (b,)
        Minus the mean log-likelihood, without its constant.
    information : numpy.ndarray, shape (b, q, q)
        Expected, per respondent.
    decrement : numpy.ndarray, shape (b,)
        The square of the next step, in standard errors of a single respondent.
    converged : numpy.ndarray, shape (b,)
        Which replicates arrived.
    steps : int
        Taken.
    """

    theta: np.ndarray
    value: np.ndarray
    information: np.ndarray
    decrement: np.ndarray
    converged: np.ndarray
    steps: int


def matrices(theta, layout):
    """Return the matrices of one group.

    Parameters
    ----------
    theta : numpy.ndarray, shape (b, q)
        Parameters.
    layout : Layout
        Of the group.

    Returns
    -------
    tuple of numpy.ndarray
        Loadings, factor covariances, unique variances, intercepts and factor means.
    """
    # Positions -2 and -1 reach the two constants appended here.
    full = np.concatenate([theta, np.ones((len(theta), 1)), np.zeros((len(theta), 1))], axis=1)
    return tuple(full[:, part] for part in layout)


def implied(theta, layout):
    """Return the covariances and means that a model implies in one group.

    Parameters
    ----------
    theta : numpy.ndarray, shape (b, q)
        Parameters.
    layout : Layout
        Of the group.

    Returns
    -------
    tuple of numpy.ndarray
        Covariances (b, p, p) and means (b, p).
    """
    load, factors, unique, intercepts, means = matrices(theta, layout)
    sigma = load @ factors @ load.swapaxes(-1, -2)
    diagonal = np.arange(sigma.shape[-1])
    sigma[:, diagonal, diagonal] += unique
    return sigma, intercepts + np.einsum("bpk,bk->bp", load, means)


def value(theta, layouts, moments):
    """Return minus the mean log-likelihood without its constant; infinite where a covariance matrix is none.

    Parameters
    ----------
    theta : numpy.ndarray, shape (b, q)
        Parameters.
    layouts : list of Layout
        One a group.
    moments : list of Moments
        One a group.

    Returns
    -------
    numpy.ndarray, shape (b,)
        The smaller, the better the fit.
    """
    total = np.zeros(len(theta))
    for layout, (cov, mean, share) in zip(layouts, moments, strict=True):
        sigma, mu = implied(theta, layout)
        size = np.linalg.eigvalsh(sigma)
        proper = size[:, 0] > 1e-10 * size[:, -1]
        sigma = np.where(proper[:, None, None], sigma, np.eye(sigma.shape[-1]))
        off = mean - mu
        spread = cov + off[:, :, None] * off[:, None, :]
        trace = np.trace(np.linalg.solve(sigma, spread), axis1=1, axis2=2)
        logdet = np.log(np.where(proper[:, None], size, 1.0)).sum(axis=1)
        total += np.where(proper, share * 0.5 * (logdet + trace), np.inf)
    return total


def derivatives(theta, layouts, moments):
    """Return the slopes of `value` and the expected information.

    Parameters
    ----------
    theta : numpy.ndarray, shape (b, q)
        Parameters.
    layouts : list of Layout
        One a group.
    moments : list of Moments
        One a group.

    Returns
    -------
    gradient : numpy.ndarray, shape (b, q)
        Slopes.
    information : numpy.ndarray, shape (b, q, q)
        Per respondent.
    """
    b, q = theta.shape
    gradient, information = np.zeros((b, q)), np.zeros((b, q, q))
    for layout, (cov, mean, share) in zip(layouts, moments, strict=True):
        sigma, mu = implied(theta, layout)
        inverse = np.linalg.inv(sigma)
        off = mean - mu
        excess = inverse @ (sigma - cov - off[:, :, None] * off[:, None, :]) @ inverse
        u, v, d_mu, owner = slopes(theta, layout)
        toward = np.einsum("bij,bj->bi", inverse, off)
        pull = np.einsum("bei,bei->be", u @ excess, v) - np.einsum("bei,bi->be", d_mu, toward)
        left, right = u @ inverse, v @ inverse
        u, v = u.swapaxes(1, 2), v.swapaxes(1, 2)
        meeting = (left @ u) * (right @ v) + (left @ v) * (right @ u) + d_mu @ inverse @ d_mu.swapaxes(1, 2)
        used, first = np.unique(owner, return_index=True)
        if len(used) < len(owner):
            meeting = np.add.reduceat(np.add.reduceat(meeting, first, axis=1), first, axis=2)
            pull = np.add.reduceat(pull, first, axis=1)
        gradient[:, used] += share * pull
        information[:, used[:, None], used] += share * meeting
    return gradient, information


def slopes(theta, layout):
    """Return how the implied moments of one group move with each place that a parameter stands in.

    A place moves the covariances by :math:`uv' + vu'`, which keeps the arithmetic small.

    Parameters
    ----------
    theta : numpy.ndarray, shape (b, q)
        Parameters.
    layout : Layout
        Of the group.

    Returns
    -------
    u, v : numpy.ndarray, shape (b, e, p)
        Of the covariances.
    d_mu : numpy.ndarray, shape (b, e, p)
        Slopes of the means.
    owner : numpy.ndarray, shape (e,)
        The parameter of each place, ascending.
    """
    load, factors, _, _, means = matrices(theta, layout)
    b, p, _ = load.shape
    unit, across, along = np.eye(p), load.swapaxes(1, 2), (load @ factors).swapaxes(1, 2)
    rows, columns = np.nonzero(layout.loadings >= 0)
    one, other = np.nonzero(np.triu(layout.factors >= 0))
    level, free = np.flatnonzero(layout.intercepts >= 0), np.flatnonzero(layout.means >= 0)
    halves = np.where(one == other, 0.5, 1.0)[:, None]
    nothing = np.zeros((b, len(level) + len(free), p))

    def every(part):
        return np.broadcast_to(part, (b, *part.shape))

    u = [every(unit[rows]), across[:, one], every(unit), nothing]
    v = [along[:, columns], across[:, other] * halves, every(0.5 * unit), nothing]
    still = np.zeros((b, len(one) + p, p))
    d_mu = [every(unit[rows]) * means[:, columns, None], still, every(unit[level]), across[:, free]]
    owner = np.concatenate(
        [
            layout.loadings[rows, columns],
            layout.factors[one, other],
            layout.unique,
            layout.intercepts[level],
            layout.means[free],
        ]
    )
    order = np.argsort(owner, kind="stable")
    u, v, d_mu = (np.concatenate(part, axis=1)[:, order] for part in (u, v, d_mu))
    return u, v, d_mu, owner[order]


def fit(theta, layouts, moments, tolerance=1e-14):
    """Maximise the likelihood by conjugate gradients, preconditioned with the expected information.

    Plain Fisher scoring zigzags where the model fits badly, because the curvature is not the expected one.

    Parameters
    ----------
    theta : numpy.ndarray, shape (b, q)
        Where to start.
    layouts : list of Layout
        One a group.
    moments : list of Moments
        One a group.
    tolerance : float
        Decrement at which a fit has converged: of n respondents, it is wrong by about sqrt(n * tolerance) standard
        errors.

    Returns
    -------
    Fit
        Where the search ended; `Fit.converged` says for which replicates that is the maximum.
    """
    # Many small matrices: threads would wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return _search(np.array(theta, dtype=float), layouts, moments, tolerance)


def _search(theta, layouts, moments, tolerance):
    current = value(theta, layouts, moments)
    decrement, information = np.full(len(theta), np.inf), np.full((*theta.shape, theta.shape[1]), np.nan)
    gradient, move, step = np.zeros_like(theta), np.zeros_like(theta), 0
    queue = np.flatnonzero(np.isfinite(current))
    while len(queue) and step < LIMIT:
        part = [Moments(m.cov[queue], m.mean[queue], m.share) for m in moments]
        slope, information[queue] = derivatives(theta[queue], layouts, part)
        size = np.einsum("bii->bi", information[queue])
        # A trace of the diagonal keeps a model that is barely identified from failing; the maximum stays where it is.
        steady = information[queue] + 1e-10 * size[:, :, None] * np.eye(theta.shape[1])
        scored = np.linalg.solve(steady, slope[..., None])[..., 0]
        before, decrement[queue] = decrement[queue], np.abs((slope * scored).sum(axis=1))
        # Polak and Ribière; with the first step, `before` is infinite and the last move counts nothing.
        kept = np.maximum((scored * (slope - gradient[queue])).sum(axis=1) / before, 0.0)
        ahead = scored + kept[:, None] * move[queue]
        downhill = (slope * ahead).sum(axis=1) > 0
        move[queue], gradient[queue] = np.where(downhill[:, None], ahead, scored), slope
        queue = queue[decrement[queue] >= tolerance]
        moved = _advance(theta, current, move[queue], gradient[queue], queue, layouts, moments)
        # Who cannot move has ended where it stands, converged or not.
        queue, step = queue[moved], step + 1
    return Fit(theta, current, information, decrement, decrement < tolerance, step)


def _advance(theta, current, move, slope, queue, layouts, moments):
    """Go along `move` as far as it lowers the value, in place; return who moved."""
    part = [Moments(m.cov[queue], m.mean[queue], m.share) for m in moments]
    start, height = theta[queue], current[queue]
    moved = np.zeros(len(queue), dtype=bool)
    gain = (slope * move).sum(axis=1)

    def attempt(length):
        trial = start - length[:, None] * move
        found = value(trial, layouts, part)
        # Near the maximum, rounding hides the last gains.
        better = found <= np.where(moved, current[queue], height + 1e-13 * np.abs(height))
        theta[queue[better]], current[queue[better]] = trial[better], found[better]
        moved[better] = True
        return found

    length = np.ones(len(queue))
    bend = attempt(length) - height + gain
    # The parabola through value, slope and this trial says how long the step should have been.
    curved = np.isfinite(bend) & (bend > 1e-12)
    attempt(np.where(curved, np.clip(gain / (2 * np.where(curved, bend, 1.0)), 0.1, 4.0), 0.5))
    while not moved.all() and length[0] > 1e-8:
        length /= 4
        attempt(np.where(moved, 0.0, length))
    return moved
