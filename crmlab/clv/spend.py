"""Gamma-Gamma: what customers spend per purchase, taken to be independent of how often they buy."""

import dataclasses
import warnings

import ibis
import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import digamma, gammaln

from crmlab.clv import fit as _fit
from crmlab.clv.summary import unit_of
from crmlab.data.errors import DataError


@dataclasses.dataclass(frozen=True)
class GammaGamma:
    r"""The Gamma-Gamma model of spending per purchase.

    The amount of a purchase is :math:`\text{Gamma}(p, \nu)` with :math:`\nu \sim \text{Gamma}(q, v)` over customers.
    For a customer whose :math:`x` repeat purchases average :math:`\bar z`,

    .. math::

        L = \frac{\Gamma(px+q)}{\Gamma(px)\,\Gamma(q)} \frac{v^q\, \bar z^{\,px-1} x^{px}}{(v + x \bar z)^{px+q}},
        \qquad
        E[M \mid \bar z, x] = \frac{p\,(v + x \bar z)}{px + q - 1},

    Fader, Hardie and Lee (2005), Journal of Marketing Research 42(4), 415-430, and Fader and Hardie (2013), The
    Gamma-Gamma Model of Monetary Value (note 025). The expectation exists for everybody only when
    :math:`q > 1`.

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.GammaGamma().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> result.params.round(2).to_dict()
    {'p': 6.25, 'q': 3.74, 'v': 15.44}
    """

    title = "Gamma-Gamma"
    names = ("p", "q", "v")
    depends = ((), (), ())

    def params(self, work):
        """Return (p, q, v) for their logs.

        Parameters
        ----------
        work : array_like, shape (3,)
            Logs of the parameters.

        Returns
        -------
        ndarray, shape (3,)
            Parameters.
        """
        return np.exp(work)

    def loglike(self, params, x, mean):
        """Return the log-likelihood of each customer's mean amount.

        Parameters
        ----------
        params : array_like, shape (3,)
            (p, q, v), positive.
        x, mean : array_like, shape (n,)
            Number of repeat purchases (above 0) and their mean amount (above 0).

        Returns
        -------
        ndarray, shape (n,)
            Log-likelihoods.

        Examples
        --------
        >>> GammaGamma().loglike([6.25, 3.74, 15.44], [2], [35.0]).round(4)
        array([-4.0958])
        """
        p, q, v = params
        x, mean = np.asarray(x, dtype=float), np.asarray(mean, dtype=float)
        return (
            gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(v)
            + (p * x - 1) * np.log(mean) + p * x * np.log(x) - (p * x + q) * np.log(v + x * mean)
        )  # fmt: skip

    def fit(self, data, unit=None):
        """Fit the model by maximum likelihood to the customers with repeat purchases.

        Parameters
        ----------
        data : ibis.Table or pandas.DataFrame
            A summary with `frequency` and `monetary_value` (and `weight`, if rows stand for several customers).
        unit : str, optional
            Unit of time when the data do not carry it; spending does not depend on it, `predict` checks it.

        Returns
        -------
        crmlab.clv.Result
            Estimates; `nobs` counts the customers with repeat purchases. A `RuntimeWarning` says when the maximum was
            not found or when q ≤ 1, so that an expected amount does not exist.

        Raises
        ------
        DataError
            No amounts, fewer than three repeat buyers, or mean amounts of zero or below.
        """
        x, mean, weight = _repeaters(data)
        ux, inverse = np.unique(x, return_inverse=True)
        count = np.bincount(inverse, weight)
        n = weight.sum()
        log_mean, share = np.log(mean), weight / n
        constant = -np.sum(weight * log_mean)
        # Sums that the parameters do not touch.
        lx = np.sum(share * x * (log_mean + np.log(x)))

        def loglike(work):
            p, q, v = np.exp(work)
            px = p * ux
            total = v + x * mean
            log_total = np.log(total)
            shape = p * x + q
            at_total = np.sum(share * log_total)
            x_total = np.sum(share * x * log_total)
            value = (
                np.sum(count * (gammaln(px + q) - gammaln(px))) / n - gammaln(q) + q * np.log(v)
                + p * lx - p * x_total - q * at_total
            )  # fmt: skip
            both = digamma(px + q)
            by_p = np.sum(count * ux * (both - digamma(px))) / n + lx - x_total
            by_q = np.sum(count * both) / n - digamma(q) + np.log(v) - at_total
            by_v = q / v - np.sum(share * shape / total)
            return value, np.array([by_p * p, by_q * q, by_v * v])

        middle = np.average(mean, weights=weight)
        start = np.log([4.0, 4.0, middle])
        result = _fit.result(self, loglike, start, weight, unit or unit_of(data), constant=constant)
        if result.params["q"] <= 1:
            warnings.warn(
                f"q = {result.params['q']:.2f} ≤ 1: amounts are so unequal between customers that their mean does not "
                "exist in this model; expected_spend is missing for customers without enough purchases.",
                RuntimeWarning,
                stacklevel=2,
            )
        return result

    def expected_spend(self, params, x, mean):
        r"""Return the expected amount per purchase, a mean of own history and of all customers.

        Parameters
        ----------
        params : pandas.Series or array_like, shape (3,)
            (p, q, v).
        x, mean : array_like, shape (n,)
            Repeat purchases and their mean amount; the mean is ignored where x = 0.

        Returns
        -------
        ndarray, shape (n,)
            Expected amounts; missing where px + q ≤ 1 and they do not exist.

        Examples
        --------
        >>> GammaGamma().expected_spend([6.25, 3.74, 15.44], [0, 2], [0.0, 40.0]).round(2)
        array([35.22, 39.14])
        """
        p, q, v = np.asarray(params, dtype=float)
        x = np.asarray(x, dtype=float)
        paid = np.where(x > 0, x * np.asarray(mean, dtype=float), 0.0)
        below = p * x + q - 1
        return np.where(below > 0, p * (v + paid) / np.where(below > 0, below, np.nan), np.nan)

    def draw_amounts(self, rng, params, x, mean, purchases):
        """Return simulated sums of amounts of future purchases.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of random numbers.
        params : array_like, shape (3,)
            (p, q, v).
        x, mean : ndarray, shape (n,)
            Repeat purchases so far and their mean amount.
        purchases : ndarray of int, shape (n,)
            Future purchases.

        Returns
        -------
        ndarray, shape (n,)
            What each customer spends in all of them.
        """
        p, q, v = params
        paid = np.where(x > 0, x * np.asarray(mean, dtype=float), 0.0)
        nu = rng.gamma(p * x + q) / (v + paid)
        return np.where(purchases > 0, rng.gamma(np.maximum(p * purchases, 1e-300)) / nu, 0.0)

    def independence(self, data):
        """Return the correlation of frequency and mean amount, which the model takes to be zero.

        Parameters
        ----------
        data : ibis.Table or pandas.DataFrame
            A summary.

        Returns
        -------
        pandas.Series
            `correlation` (Pearson), its 95 % interval `lower`, `upper` (Fisher), `rank_correlation` (Spearman) and
            `p_value` of the rank correlation, over the customers with repeat purchases.

        Examples
        --------
        >>> from crmlab import clv
        >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30")
        >>> print(round(GammaGamma().independence(summary)["correlation"], 4))
        0.1139
        """
        x, mean, _ = _repeaters(data)
        pearson, spearman = stats.pearsonr(x, mean), stats.spearmanr(x, mean)
        interval = pearson.confidence_interval()
        return pd.Series(
            {
                "correlation": pearson.statistic,
                "lower": interval.low,
                "upper": interval.high,
                "rank_correlation": spearman.statistic,
                "p_value": spearman.pvalue,
            }
        )


def _repeaters(data):
    columns = [c for c in ("frequency", "monetary_value", "weight") if c in data.columns]
    if "monetary_value" not in columns:
        raise DataError("The summary has no monetary_value: the log needs a column amount.")
    frame = data.select(columns).to_pandas() if isinstance(data, ibis.Table) else data[columns]
    frame = frame[frame["frequency"] > 0]
    if len(frame) < 3:
        raise DataError(f"Only {len(frame)} customers bought again: spending cannot be estimated.")
    mean = frame["monetary_value"].to_numpy(dtype=float)
    if (bad := ~(mean > 0)).any():
        raise DataError(
            f"{int(bad.sum()):,} customers with repeat purchases have a mean amount that is missing, zero or negative. "
            "The Gamma-Gamma model knows only positive amounts: leave purchases of 0 and returns out of the log "
            "(log.filter(log.amount > 0)) before summarising the spending; they still count as purchases elsewhere."
        )
    weight = frame["weight"].to_numpy(dtype=float) if "weight" in frame else np.ones(len(frame))
    return frame["frequency"].to_numpy(dtype=float), mean, weight
