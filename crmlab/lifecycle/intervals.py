"""Intervals for shares of events that come several from one customer."""

import numpy as np


def effective(count, of, squares, clusters):
    r"""Return how many independent events tell as much of a share as events that come several from one customer.

    The variance of the ratio :math:`p = \sum k_c / \sum n_c` over customers :math:`c` is
    :math:`\sum (k_c - p n_c)^2 / (\sum n_c)^2`; independent events have it when there are :math:`p (1 - p)` over it.

    Parameters
    ----------
    count, of : float or array
        Sums of :math:`k_c` and :math:`n_c`.
    squares : tuple of arrays
        Sums of :math:`k_c^2`, :math:`k_c n_c` and :math:`n_c^2`.
    clusters : float or array
        Customers with :math:`n_c > 0`; they are the answer where all events count or none.

    Returns
    -------
    numpy.ndarray
        Never more than there are events.

    Notes
    -----
    Dean and Pagano (2015), Journal of Survey Statistics and Methodology 3(4), 484-503, put it into Wilson's interval.

    Examples
    --------
    >>> effective(5, 10, (25, 25, 50), 2).item()  # one customer with five of five, one with none of five
    2.0
    """
    k, n, kk, kn, nn = (np.asarray(v, float) for v in (count, of, *squares))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = k / n
        spread = kk - 2 * p * kn + p * p * nn
        # Rounding leaves a little where there is no spread.
        found = np.where(spread > 1e-9 * nn, p * (1 - p) * n * n / spread, clusters)
    return np.where(n > 0, np.minimum(found, n), 0.0)
