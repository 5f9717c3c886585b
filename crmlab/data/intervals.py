"""Intervals for shares, which every room needs."""

import numpy as np
from scipy.special import ndtri

from crmlab.data.errors import DataError

Z = float(ndtri(0.975))
"""Standard normal quantile of the two-sided 95 % intervals."""


def wilson(count, of, level=0.95):
    r"""Return a share with its Wilson interval.

    .. math:: \frac{k + z^2/2}{n + z^2} \pm \frac{z}{n + z^2}\sqrt{\frac{k (n - k)}{n} + \frac{z^2}{4}}

    Parameters
    ----------
    count, of : float or array
        How many of how many.
    level : float
        Probability that the interval covers.

    Returns
    -------
    share, low, high : numpy.ndarray
        Missing where there is nothing to take a share of.

    Notes
    -----
    Wilson (1927), Journal of the American Statistical Association 22, 209-212.

    Examples
    --------
    >>> [round(float(v), 4) for v in wilson(1, 10)]
    [0.1, 0.0179, 0.4042]
    """
    k, n = np.broadcast_arrays(np.asarray(count, float), np.asarray(of, float))
    z = ndtri((1 + level) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = k / n
        half = z * np.sqrt(n * share * (1 - share) + z * z / 4) / (n + z * z)
        middle = (k + z * z / 2) / (n + z * z)
    low, high = (np.where(n > 0, np.clip(end, 0.0, 1.0), np.nan) for end in (middle - half, middle + half))
    return share, np.minimum(low, share), np.maximum(high, share)


def newcombe(hits, n, base_hits, base_n, level=0.95):
    """Return the difference of two shares with Newcombe's interval, which holds for few and for none.

    Parameters
    ----------
    hits, n : int
        How many of how many.
    base_hits, base_n : int
        The same of the control group.
    level : float
        Level of the interval.

    Returns
    -------
    difference, low, high : float
        From the Wilson intervals of both shares.

    Notes
    -----
    Newcombe (1998), Statistics in Medicine 17, 873-890, method 10.

    Examples
    --------
    >>> [round(float(v), 4) for v in newcombe(56, 70, 48, 80)]
    [0.2, 0.0524, 0.3339]
    """
    (p1, l1, u1), (p0, l0, u0) = (wilson(k, of, level) for k, of in ((hits, n), (base_hits, base_n)))
    gap = p1 - p0
    return tuple(float(v) for v in (gap, gap - np.hypot(p1 - l1, u0 - p0), gap + np.hypot(u1 - p1, p0 - l0)))


def checked_level(level):
    """Return the level of an interval, or say what it should be.

    Parameters
    ----------
    level : float
        Probability that the interval covers.

    Returns
    -------
    float
        The same.

    Raises
    ------
    DataError
        When it does not lie between 0 and 1.

    Examples
    --------
    >>> checked_level(0.95)
    0.95
    """
    if not 0 < level < 1:
        raise DataError(f"level must lie between 0 and 1 (0.95 for a 95 % interval), not {level!r}.")
    return level
