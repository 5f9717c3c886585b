"""Covariance matrices of many resamples at once, computed from how often each respondent was drawn."""

from typing import NamedTuple

import numpy as np

CELLS = 4_000_000
"""Numbers that one block of replicates may hold in its largest array (32 MB)."""

ROWS = 4096
"""Respondents whose products of answers are in memory at a time."""


class Block(NamedTuple):
    """Some resamples of a survey.

    Attributes
    ----------
    counts : numpy.ndarray, shape (b, respondents)
        How often each respondent was drawn.
    mean : numpy.ndarray, shape (items, b)
        Means of the answers given.
    cov : numpy.ndarray, shape (items, items, b)
        Covariances, with missing answers replaced by the mean of the resample.
    constant : numpy.ndarray, shape (items, b)
        Items without variation in a resample.
    """

    counts: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    constant: np.ndarray

    @property
    def usable(self):
        """Which resamples have variation in all items."""
        return ~self.constant.any(axis=0)

    def take(self, which):
        """Return some of the resamples.

        Parameters
        ----------
        which : numpy.ndarray of bool
            One a resample.

        Returns
        -------
        Block
            Those of them.
        """
        if which.all():
            return self
        return Block(self.counts[which], self.mean[:, which], self.cov[..., which], self.constant[:, which])


def correlation(cov):
    """Return correlations for covariances.

    Parameters
    ----------
    cov : numpy.ndarray, shape (items, items, b)
        Covariances.

    Returns
    -------
    numpy.ndarray, shape (items, items, b)
        Correlations; the diagonal is exactly 1.
    """
    sd = np.sqrt(np.einsum("iib->ib", cov))
    R = cov / (sd[:, None] * sd[None])
    diagonal = np.arange(len(R))
    R[diagonal, diagonal] = 1.0
    return R


def moments(x, counts):
    """Return means and covariances of answers for many ways to count the respondents.

    Parameters
    ----------
    x : numpy.ndarray, shape (respondents, items)
        Answers, NaN where missing.
    counts : numpy.ndarray, shape (b, respondents)
        How often each respondent counts.

    Returns
    -------
    Block
        The moments.
    """
    p, b = x.shape[1], len(counts)
    given = ~np.isnan(x)
    centre = np.nanmean(x, axis=0)
    # Around the mean of all, so that no digits are lost to large means.
    z = np.where(given, x - centre, 0.0)
    one, other = np.triu_indices(p)
    squares, sums = np.zeros((b, len(one))), np.zeros((b, p))
    complete = given.all()
    n = counts.sum(axis=1)
    if complete:
        answered = np.broadcast_to(n[:, None], (b, p))
    else:
        answered, left, right, both = np.zeros((b, p)), *(np.zeros((b, len(one))) for _ in range(3))
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        c, zp = counts[:, part], z[part]
        squares += c @ (zp[:, one] * zp[:, other])
        sums += c @ zp
        if not complete:
            g = given[part].astype(float)
            answered += c @ g
            left += c @ (zp[:, one] * g[:, other])
            right += c @ (zp[:, other] * g[:, one])
            both += c @ (g[:, one] * g[:, other])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / answered
        if complete:
            squares -= n[:, None] * mean[:, one] * mean[:, other]
        else:
            squares += mean[:, one] * mean[:, other] * both - mean[:, other] * left - mean[:, one] * right
        squares /= (n - 1)[:, None]
    cov = np.empty((p, p, b))
    cov[one, other] = cov[other, one] = squares.T
    # Rounding leaves a little variance where all drawn answers are the same.
    constant = ~(np.einsum("iib->ib", cov) > 1e-12 * np.einsum("ij,ij->j", z, z)[:, None] / len(x))
    return Block(counts, (mean + centre).T, cov, constant)


def resamples(x, replicates, rng):
    """Yield bootstrap resamples in blocks that fit into memory.

    Parameters
    ----------
    x : numpy.ndarray, shape (respondents, items)
        Answers, NaN where missing.
    replicates : int
        How many.
    rng : numpy.random.Generator
        Where chance comes from.

    Yields
    ------
    Block
        Up to 256 resamples.
    """
    for b in sizes(x, replicates):
        drawn = rng.integers(0, len(x), size=(b, len(x)))
        flat = (drawn + np.arange(b)[:, None] * len(x)).ravel()
        yield moments(x, np.bincount(flat, minlength=b * len(x)).reshape(b, len(x)).astype(float))


def sizes(x, replicates):
    """Return how many replicates go into each block.

    Parameters
    ----------
    x : numpy.ndarray, shape (respondents, items)
        Answers.
    replicates : int
        How many in all.

    Returns
    -------
    list of int
        They sum to `replicates`.
    """
    most = int(np.clip(CELLS // max(len(x), x.shape[1] ** 2), 1, 256))
    return [min(most, replicates - start) for start in range(0, replicates, most)]
