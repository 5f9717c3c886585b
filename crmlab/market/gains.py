"""What an offer hits above what sells best: the score that all ways to choose an offer are compared by."""

import numpy as np

from crmlab.data.intervals import Z, wilson


def gained(hit, popular):
    """Return how many customers an offer hit, and what that is above offering what sells best to the same ones.

    Parameters
    ----------
    hit, popular : numpy.ndarray of bool
        One a customer: whether the offer was bought later, and whether what sells best was.

    Returns
    -------
    of, hits : int
        Customers, and those who were hit.
    share, low, high : float
        Their share with Wilson's 95 % interval.
    gain, gain_low, gain_high : float
        Mean difference to what sells best with its normal 95 % interval; missing without customers.

    Examples
    --------
    >>> of, hits, *_, gain, _low, _high = gained(np.array([True, True]), np.array([True, False]))
    >>> of, hits, float(gain)
    (2, 2, 0.5)
    """
    of, ahead = len(hit), hit.astype(float) - popular
    gain = ahead.mean() if of else np.nan
    half = Z * ahead.std() / np.sqrt(of) if of else np.nan
    return of, int(hit.sum()), *map(float, wilson(hit.sum(), of)), gain, gain - half, gain + half
