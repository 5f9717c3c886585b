"""Intervals for lifts: a share in a part, measured by the share in the whole."""

import numpy as np

from crmlab.data.intervals import Z


def lift(count, of, count_all, of_all):
    r"""Return how many times as frequent something is in a part as in the whole, with its 95 % interval.

    With :math:`k` of :math:`n` in the part and :math:`k_r` of :math:`n_r` in the rest, the lift is
    :math:`(k/n) / ((k + k_r)/(n + n_r))` and, because the part belongs to the whole, the variance of its logarithm is
    :math:`(k_r / (k + k_r))^2 ((1 - k/n)/k + (1 - k_r/n_r)/k_r)`, here with half a case more of each kind, so that it
    holds where all or none of the rest are cases.

    Parameters
    ----------
    count, of : float or array
        How many of how many in the part.
    count_all, of_all : float or array
        The same in the whole.

    Returns
    -------
    lift, low, high : numpy.ndarray
        Missing where there is nothing to compare with; where nothing was counted in the part, the upper limit is that
        of the rule of three.

    Examples
    --------
    >>> [round(float(v), 3) for v in lift(30, 100, 100, 1000)]
    [3.0, 2.314, 3.889]
    """
    k, n, K, N = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (count, of, count_all, of_all)))
    a, b, c, d = k + 0.5, n + 1, K - k + 0.5, N - n + 1
    width = np.exp(Z * c / (a + c) * np.sqrt((1 - a / b) / a + (1 - c / d) / c))
    with np.errstate(divide="ignore", invalid="ignore"):
        value, whole = (k / n) / (K / N), K / N
        low, high = value / width, np.where((k == 0) & (whole > 0), 3 / n / whole, value * width)
    return value, low, high
