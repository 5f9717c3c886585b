"""What a contract is worth when customers are unlike each other, and what the simple formula makes of it."""

import numpy as np
import pandas as pd

from crmlab.clv.contract import BDW, _log_stays, future_sum
from crmlab.clv.economics import _factor, _numbers
from crmlab.clv.predict import _draw, interval
from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level


def sbg_value(alpha, beta, discount=0.10, margin=1.0, renewals=0, timing="start"):
    r"""Return what a customer under contract is worth when customers have unequal probabilities of leaving.

    With leaving probabilities :math:`p \sim \text{Beta}(\alpha, \beta)`, a customer who has renewed n times stays the
    next t periods with probability :math:`(\beta + n)_t / (\alpha + \beta + n)_t`, so that

    .. math::

        \sum_{t \ge 0} \frac{S(n + t)}{S(n)} (1+d)^{-t}
        = {}_2F_1\!\left(1, \beta + n; \alpha + \beta + n; \frac{1}{1+d}\right) = F

    and the value is :math:`m F` with margins at the start of the year, :math:`m F / (1 + d)` at its end, and
    :math:`m (F - 1)` from those who renew.

    Parameters
    ----------
    alpha, beta : array_like
        Parameters of the shifted beta-geometric model, per year; positive.
    discount : array_like
        Annual rate d at which later money counts less; positive.
    margin : array_like
        Annual margin m, in money.
    renewals : array_like
        Renewals n made so far, 0 or more.
    timing : {"start", "end", "renewal"}
        When a year's margin comes, as in `customer_value`.

    Returns
    -------
    float or ndarray
        Money of today.

    Raises
    ------
    DataError
        Parameters or a discount that are not positive, renewals below 0.

    Notes
    -----
    The sum of Fader and Hardie (2010), Marketing Science 29(1), 85-93; their discounted expected residual lifetime,
    just before the n-th renewal, is ``(1 + d) * sbg_value(..., renewals=n - 1, timing="renewal")``.

    Examples
    --------
    >>> round(float(1.1 * sbg_value(3.80, 15.20, timing="renewal")), 2)
    3.31
    >>> from crmlab.clv import customer_value
    >>> bool(abs(sbg_value(2e7, 8e7) - customer_value(0.8)) < 1e-5)
    True
    """
    a, b, d, m, n = np.broadcast_arrays(
        *_numbers(alpha=alpha, beta=beta, discount=discount, margin=margin, renewals=renewals)
    )
    if (a <= 0).any() or (b <= 0).any() or (d <= 0).any() or (n < 0).any():
        raise DataError("alpha, beta and discount must be positive, and renewals 0 or more.")
    # The sum itself: of the hypergeometric function, libraries lose digits where a or b are large.
    whole, flat = a + b + n, np.log1p(d).reshape(-1, 1)
    mean, rest, theta = ((v / whole).reshape(-1, 1) for v in (a, b + n, np.ones_like(a)))
    later = future_sum(lambda j: _log_stays(mean, rest, theta, j)[0] - flat * j, np.inf)
    return (m * _in_time(timing, 1 + later.reshape(a.shape), d))[()]


def contract_value(
    result, renewals=(0,), discount=0.10, margin=1.0, timing="start", level=0.95, draws=1000, seed=0
):  # fmt: skip
    """Return what customers with so many renewals are worth, with the interval, beside what one constant rate gives.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fit of `SBG` or `BDW` to yearly contracts (``unit="Y"``).
    renewals : array_like of int, shape (n,)
        Renewals made so far.
    discount : float
        Annual rate at which later money counts less; positive.
    margin : float
        Annual margin, in money.
    timing : {"start", "end", "renewal"}
        When a year's margin comes, as in `customer_value`.
    level : float
        Share of the values between the limits.
    draws : int
        Number of parameters drawn from their sampling distribution.
    seed : int
        Seed of the random numbers; the same seed gives the same limits.

    Returns
    -------
    pandas.DataFrame
        Indexed by `renewals`: `value`, `lower`, `upper`; `retention` at the next renewal; `simple`, the value if that
        rate were everybody's and for ever; `bias`, simple over value less 1, and its limits `bias_lower`, `bias_upper`.

    Raises
    ------
    DataError
        A fit of another model or another period than a year, or a discount that is not positive.

    Notes
    -----
    That one rate undervalues customers who are unlike each other: Fader and Hardie (2010).

    Examples
    --------
    >>> from crmlab import clv
    >>> result = clv.SBG().fit(clv.cohort([1000, 869, 743, 653, 593, 551, 517, 491]), unit="Y")
    >>> clv.contract_value(result, [0, 5])[["value", "simple"]].round(1).to_numpy().tolist()
    [[5.9, 4.4], [7.5, 6.5]]
    """
    if not isinstance(result.model, BDW) or result.unit != "Y":
        raise DataError("contract_value needs a fit of SBG or BDW to yearly contracts: SBG().fit(table, unit='Y').")
    d, m = (float(v) for v in _numbers(discount=discount, margin=margin))
    (n,) = (np.atleast_1d(v) for v in _numbers(renewals=renewals))
    if d <= 0 or (n < 0).any() or (n != np.floor(n)).any():
        raise DataError("discount must be positive, and renewals whole numbers of 0 or more.")
    works = _draw(np.random.default_rng(seed), result, draws)
    rate = np.log1p(d)
    whole, simple = [], []
    for work in (result.work, *works):
        next_one = np.exp(result.model._log_ratio(work, n, 1.0))
        whole.append(m * _in_time(timing, 1 + result.model.total(work, n, np.inf, rate), d))
        simple.append(m * _factor(timing, next_one, d) / (1 + d - next_one))
    whole, simple = np.array(whole), np.array(simple)
    bias, level = simple / whole - 1, checked_level(level)
    table = {"value": whole[0]} | dict(zip(("lower", "upper"), interval(whole[1:], level), strict=True))
    table |= {"retention": np.exp(result.model._log_ratio(result.work, n, 1.0)), "simple": simple[0], "bias": bias[0]}
    table |= dict(zip(("bias_lower", "bias_upper"), interval(bias[1:], level), strict=True))
    return pd.DataFrame(table, index=pd.Index(n.astype(int), name="renewals"))


def _in_time(timing, total, d):
    """Value of margins of 1, from the discounted sum over years that begins with the certain one."""
    _factor(timing, np.ones(1), d)
    return {"start": total, "end": total / (1 + d), "renewal": total - 1}[timing]
