"""Gamma-Gamma: what customers spend per purchase, taken to be independent of how often they buy."""

import dataclasses
import warnings

import ibis
import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import digamma, gammaln

from crmlab.clv import fit as _fit
from crmlab.clv.histories import blocks
from crmlab.clv.summary import unit_of
from crmlab.data.dialects import number
from crmlab.data.errors import DataError

_PILOT = 10_000
"""A fit to more customers than this begins with a sample of them."""

_EDGE = 9.0
"""Beyond a shape of e⁹ amounts of a customer (p), or customers (q), differ by no more than one part in a hundred."""


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
    depends = (("p",), ("q", "v"), ())

    def params(self, work):
        """Return (p, q, v) for working coordinates (log p, log q, log of the typical amount pv/q).

        Parameters
        ----------
        work : array_like, shape (3,)
            Working coordinates.

        Returns
        -------
        ndarray, shape (3,)
            Parameters.
        """
        p, q, scale = np.exp(work)
        return np.array([p, q, q * scale / p])

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
        start = np.log([4.0, 4.0, np.average(mean, weights=weight)])
        part = slice(None, None, -(-len(x) // _PILOT))
        result = _fit.result(
            self,
            _objective(x, mean, weight),
            start,
            weight,
            unit or unit_of(data),
            constant=-np.sum(weight * np.log(mean)),
            pilot=_objective(x[part], mean[part], weight[part]) if len(x) > _PILOT else None,
            bound=[_EDGE, _EDGE, np.inf],
        )
        if result.params["q"] <= 1:
            warnings.warn(
                f"q = {result.params['q']:.2f} ≤ 1: amounts are so unequal between customers that their mean does not "
                "exist in this model; expected_spend is missing for customers without enough purchases.",
                RuntimeWarning,
                stacklevel=2,
            )
        return result

    def expected_spend(self, params, x, mean, spend_as="mean"):
        r"""Return the expected amount per purchase, a mean of own history and of all customers.

        Parameters
        ----------
        params : pandas.Series or array_like, shape (3,)
            (p, q, v).
        x, mean : array_like, shape (n,)
            Repeat purchases and their mean amount; the mean is ignored where x = 0.
        spend_as : {"mean", "median"}
            The mean over what a customer's amounts may average, or the median of that, which always exists.

        Returns
        -------
        ndarray, shape (n,)
            Amounts; missing where the mean amount is missing or negative, and as a mean where px + q ≤ 1.

        Examples
        --------
        >>> GammaGamma().expected_spend([6.25, 3.74, 15.44], [0, 2], [0.0, 40.0]).round(2)
        array([35.22, 39.14])
        """
        p, q, v = np.asarray(params, dtype=float)
        x, mean = np.asarray(x), np.asarray(mean, dtype=float)
        if x.dtype.kind == "i" and x.size and x.min() >= 0 and x.max() < 1e5:
            per = _per_shape(p * np.arange(x.max() + 1) + q, spend_as)[x]
        else:
            per = _per_shape(p * x + q, spend_as)
        paid = np.where(x > 0, x * mean, 0.0)
        return p * (v + np.where(paid >= 0, paid, np.nan)) * per

    def expected_spend_in(self, params, table, spend_as="mean"):
        """Return `expected_spend` as an expression over a table with `frequency` and `monetary_value`.

        Parameters
        ----------
        params : pandas.Series or array_like, shape (3,)
            (p, q, v).
        table : ibis.Table
            One row a customer.
        spend_as : {"mean"}
            The median is not known to engines: bring the table into memory for it.

        Returns
        -------
        ibis.Value
            Amounts, missing where `expected_spend` is.
        """
        if spend_as != "mean":
            raise DataError("spend_as='median' needs a data frame: hand over summary.to_pandas().")
        p, q, v = (number(value) for value in params)
        paid = (table.frequency > 0).ifelse(table.frequency * table.monetary_value, 0.0)
        below = p * table.frequency + (q - 1)
        return ((below > 0) & (paid >= 0)).ifelse(p * (v + paid) / below, ibis.null("float64"))

    def draw_amounts(self, rng, params, x, mean, who):
        """Return simulated amounts of future purchases.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of random numbers.
        params : array_like, shape (3,)
            (p, q, v).
        x, mean : ndarray, shape (n,)
            Repeat purchases so far and their mean amount.
        who : ndarray of int, shape (purchases,)
            Which customer makes each future purchase.

        Returns
        -------
        ndarray, shape (purchases,)
            What each purchase amounts to.
        """
        p, q, v = params
        paid = np.where(x > 0, x * np.asarray(mean, dtype=float), 0.0)
        nu = rng.gamma(p * x + q) / (v + paid)
        return rng.gamma(p, size=len(who)) / nu[who]

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
        # Sums of the same amounts in another order may differ in the last digit, which must not break ties.
        pearson, spearman = stats.pearsonr(x, mean), stats.spearmanr(x, mean.round(6))
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


def _objective(x, mean, weight):
    """Mean log-likelihood, but for a constant, and its gradient as a function of the working coordinates."""
    n = weight.sum()
    share = weight / n
    count = np.bincount(x, share)
    ux = np.flatnonzero(count)
    count, paid = count[ux], x * mean
    share_x = share * x
    # Sums that the parameters do not touch.
    fixed = np.sum(share_x * np.log(paid))

    def loglike(work):
        p, q, scale = np.exp(work)
        v = q * scale / p
        logs = logs_x = inverse = inverse_x = 0.0
        for part in blocks(len(x)):
            total = v + paid[part]
            log_total, one = np.log(total), 1 / total
            logs += share[part] @ log_total
            logs_x += share_x[part] @ log_total
            inverse += share[part] @ one
            inverse_x += share_x[part] @ one
        px = p * ux
        value = count @ (gammaln(px + q) - gammaln(px)) - gammaln(q) + q * np.log(v) + p * (fixed - logs_x) - q * logs
        both = digamma(px + q)
        by_p = (count * ux) @ (both - digamma(px)) + fixed - logs_x
        by_q = count @ both - digamma(q) + np.log(v) - logs
        by_v = q - v * (p * inverse_x + q * inverse)
        return value, np.array([by_p * p - by_v, by_q * q + by_v, by_v])

    return loglike


def _per_shape(shape, spend_as):
    """Mean or median of 1 / Gamma(shape, 1), what an amount per unit of the scale is expected to be."""
    if spend_as == "median":
        return 1 / stats.gamma.ppf(0.5, shape)
    if spend_as != "mean":
        raise DataError(f"spend_as must be 'mean' or 'median', not {spend_as!r}.")
    return np.where(shape > 1, 1 / np.where(shape > 1, shape - 1, np.nan), np.nan)


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
    return frame["frequency"].to_numpy(dtype=np.int64), mean, weight
