"""Predictions for the customers of a summary: one tidy table, and simulated futures for intervals."""

import numpy as np
import pandas as pd

from crmlab.clv.summary import DAYS, require
from crmlab.data.errors import DataError


def annual_to_rate(annual_discount, unit):
    """Return the continuous discount rate per unit of time that amounts to an annual rate.

    Parameters
    ----------
    annual_discount : float
        For example 0.10: a dollar in a year is worth 1/1.10 today.
    unit : {"D", "W", "M", "Y"}
        Unit of time.

    Returns
    -------
    float
        ln(1 + annual discount) divided by the units in a year.

    Raises
    ------
    DataError
        A discount of -100 % or below, or an unknown unit.

    Examples
    --------
    >>> round(annual_to_rate(0.10, "W"), 6)
    0.001827
    """
    if not annual_discount > -1:
        raise DataError(f"annual_discount must be above -1 (0.10 means 10 % a year), not {annual_discount!r}.")
    if unit not in DAYS:
        raise DataError(f"The unit of time is {unit!r}; a discount per year needs one of {', '.join(DAYS)}.")
    return float(np.log1p(annual_discount) * DAYS[unit] / DAYS["Y"])


def predict(result, data, horizon=52.0, annual_discount=0.10, spend=None, margin=1.0):
    """Return what to expect of each customer.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    data : ibis.Table or pandas.DataFrame
        A summary, one row a customer, in the unit of the fit.
    horizon : float
        Units of time ahead, counted from the end of calibration; ``numpy.inf`` for the whole future.
    annual_discount : float
        Annual rate at which later purchases count less.
    spend : crmlab.clv.Result, optional
        A fitted spending model; without it there is no `expected_spend` and no `clv`.
    margin : float
        Share of an amount that is profit.

    Returns
    -------
    pandas.DataFrame
        One row a customer, indexed by `customer_id` when the data have it: `p_alive`; `expected_purchases` in the
        horizon; `p_no_purchase` in the horizon; `discounted_purchases` (discounted expected residual transactions);
        with a spending model `expected_spend` per purchase and `clv` = margin × discounted purchases × expected spend.

    Raises
    ------
    DataError
        A unit of time that is not the fit's, a horizon that is not positive.

    Notes
    -----
    The value of a customer is the product of purchases and spend because the two are taken to be independent;
    `result.model` of the spending model has a check of that.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> table = clv.BGNBD().fit(summary).predict(summary, horizon=39)
    >>> print(round(table["expected_purchases"].sum(), 1))
    1653.4
    """
    frame, x, t_x, T = _states_of(result, data)
    if not horizon > 0:
        raise DataError(f"horizon must be positive (units of time ahead), not {horizon!r}.")
    rate = annual_to_rate(annual_discount, result.unit) if annual_discount else 0.0
    model, work = result.model, result.work
    alive = model.p_alive(work, x, t_x, T)
    # Given that a customer is alive, the future depends on (x, T) alone: each pair is computed once.
    pairs, inverse = np.unique(np.column_stack([x, T]), axis=0, return_inverse=True)
    future = model.future(work, pairs[:, 0], pairs[:, 1], horizon, rate)
    purchases, discounted, none = (f[inverse.ravel()] for f in future)
    table = pd.DataFrame(
        {
            "p_alive": alive,
            "expected_purchases": alive * purchases,
            "p_no_purchase": 1 - alive * (1 - none),
            "discounted_purchases": alive * discounted,
        },
        index=frame.get("customer_id", frame.index),
    )
    if spend is not None:
        table["expected_spend"] = spend.model.expected_spend(spend.params, x, frame["monetary_value"].to_numpy())
        table["clv"] = margin * table["discounted_purchases"] * table["expected_spend"]
    return table


def simulate(result, data, horizon=52.0, spend=None, draws=1000, seed=0):
    r"""Return simulated futures of customers, with the uncertainty of the parameters in them.

    Each draw takes parameters from their sampling distribution (normal in working coordinates), then for every
    customer whether alive, the own rate and dropout from their posterior, the number of purchases in the horizon, and
    with a spending model what they amount to. Nothing is approximated but the distribution of the parameters.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    data : ibis.Table or pandas.DataFrame
        A summary, one row a customer.
    horizon : float
        Units of time ahead; finite.
    spend : crmlab.clv.Result, optional
        A fitted spending model.
    draws : int
        Number of futures.
    seed : int
        Seed of the random numbers; the same seed gives the same futures.

    Returns
    -------
    purchases : ndarray of int, shape (draws, n)
        Purchases of each customer in the horizon.
    amounts : ndarray of float, shape (draws, n), or None
        What each customer spends in the horizon, undiscounted; None without a spending model.

    Raises
    ------
    DataError
        A unit of time that is not the fit's, a horizon that is not positive and finite, a fit that did not converge.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> purchases, _ = clv.MBGNBD().fit(summary).simulate(summary, horizon=39, draws=200)
    >>> purchases.shape
    (200, 2357)
    """
    frame, x, t_x, T = _states_of(result, data)
    if not 0 < horizon < np.inf:
        raise DataError(f"horizon must be positive and finite, not {horizon!r}.")
    rng = np.random.default_rng(seed)
    purchases = np.empty((draws, len(x)), dtype=np.int64)
    amounts = None if spend is None else np.empty((draws, len(x)))
    works = _draw(rng, result, draws)
    spends = None if spend is None else _draw(rng, spend, draws)
    for d in range(draws):
        alive = rng.random(len(x)) < result.model.p_alive(works[d], x, t_x, T)
        purchases[d] = alive * result.model.draw_future(rng, works[d], x, T, horizon)
        if spend is not None:
            params = spend.model.params(spends[d])
            amounts[d] = spend.model.draw_amounts(rng, params, x, frame["monetary_value"].to_numpy(), purchases[d])
    return purchases, amounts


def interval(draws, level=0.95):
    """Return the limits within which a share of simulated futures lies.

    Parameters
    ----------
    draws : ndarray, shape (draws,) or (draws, n)
        Simulated values, one row a future.
    level : float
        Share of the futures between the limits.

    Returns
    -------
    lower, upper : float or ndarray, shape (n,)
        Quantiles that leave half of the rest on either side.

    Examples
    --------
    >>> interval(np.arange(1001))
    array([ 25., 975.])
    """
    return np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _draw(rng, result, draws):
    """Working coordinates from their sampling distribution; those at a boundary stay there."""
    if not result.converged:
        raise DataError(f"{result.model.title} did not converge: its parameters have no distribution to draw from.")
    free = np.diag(result.work_cov) > 0
    works = np.tile(result.work, (draws, 1))
    works[:, free] += rng.multivariate_normal(
        np.zeros(free.sum()), result.work_cov[np.ix_(free, free)], draws, method="cholesky"
    )
    return works


def _states_of(result, data):
    require(data, ("frequency", "recency", "T"))
    frame = data if isinstance(data, pd.DataFrame) else data.to_pandas()
    if "unit" in frame and result.unit and not (frame["unit"] == result.unit).all():
        raise DataError(
            f"The model was fitted in units of {result.unit!r}, these customers are in {frame['unit'].unique()}."
        )
    return frame, *(frame[c].to_numpy(dtype=float) for c in ("frequency", "recency", "T"))
