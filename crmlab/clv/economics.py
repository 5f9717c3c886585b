r"""What a customer is worth in closed form, and what a change of retention does to it.

All formulas are a geometric series: a customer of today is there in the t-th later year with probability
:math:`r^t`, the yearly margin grows by :math:`g`, and money of a year later counts :math:`1/(1+d)`. They differ in
when the margin comes, which is the argument `timing`:

* ``"start"``: at the beginning of each year, the first at once. Subscriptions, premiums, memberships.
* ``"end"``: at the end of each year from everybody who began it, so the first is certain but a year away.
* ``"renewal"``: at the end of each year from those only who then renew, so the first is a year away and uncertain.

The first two differ by the factor :math:`1+d`, which cancels in every relative change as long as no acquisition cost is
deducted; the third does not.
"""

import numpy as np

from crmlab.data.errors import DataError

TIMINGS = ("start", "end", "renewal")
"""When a year's margin comes."""

READINGS = ("points", "fewer defections", "more retention")
"""What "k % more loyalty" may mean: r + k, 1 - (1 - k)(1 - r), (1 + k) r."""


def customer_value(retention, discount=0.10, margin=1.0, growth=0.0, acquisition=0.0, timing="start"):
    r"""Return what a new customer is worth over the whole future.

    .. math::

        V = m \, \frac{f}{1 + d - r (1 + g)} - a, \qquad
        f = 1 + d \text{ (start)}, \quad 1 \text{ (end)}, \quad r \text{ (renewal)}.

    Parameters
    ----------
    retention : array_like
        Share r of the customers of a year that is there in the next too, 0 to 1.
    discount : array_like
        Annual rate d at which later money counts less (0.10 for 10 %).
    margin : array_like
        Margin m of the first year that pays, in money.
    growth : array_like
        Annual growth g of the margin of a customer who stays.
    acquisition : array_like
        Cost a of winning the customer, in money, due today.
    timing : {"start", "end", "renewal"}
        When a year's margin comes: at its start; at its end, from all who began it; at its end, from those who renew.

    Returns
    -------
    float or ndarray
        Money of today, of the common shape of the arguments. It rises with retention, so that the limits of an
        interval of retention give the limits of the interval of the value.

    Raises
    ------
    DataError
        Rates that cannot be, or a sum that is infinite because r (1 + g) is not below 1 + d.

    Notes
    -----
    With ``"start"``, the sum of case 1 of Berger and Nasr (1998), Journal of Interactive Marketing 12(1), 17-30, over
    an endless horizon; with ``"renewal"``, the margin multiple r / (1 + d - r) of Gupta and Lehmann (2003), Journal of
    Interactive Marketing 17(1), 9-24.

    Examples
    --------
    >>> round(float(customer_value(0.8)), 4)
    3.6667
    >>> customer_value([0.5, 0.9], discount=0, timing="end").round(6)
    array([ 2., 10.])
    """
    r, d, m, g, a = _terms(retention, discount, margin, growth, acquisition)
    return (m * _factor(timing, r, d) / _gap(r, d, g) - a)[()]


def expected_lifetime(retention):
    r"""Return how many years a new customer is expected to stay, the first one included.

    .. math:: 1 + r + r^2 + \dots = \frac{1}{1 - r}

    Parameters
    ----------
    retention : array_like
        Share of the customers of a year that is there in the next too, 0 to 1.

    Returns
    -------
    float or ndarray
        Years; infinite where nobody leaves.

    Raises
    ------
    DataError
        Retention that is no share.

    Examples
    --------
    >>> expected_lifetime([0.8, 0.9, 0.95]).round(6)
    array([ 5., 10., 20.])
    """
    (r,) = _numbers(retention=retention)
    with np.errstate(divide="ignore"):
        return np.divide(1.0, 1.0 - r)[()]


def changed_retention(retention, change=0.05, reading="points"):
    r"""Return retention after "k % more loyalty", which can mean three things.

    .. math:: r + k \text{ (points)}, \quad 1 - (1 - k)(1 - r) \text{ (fewer defections)}, \quad (1 + k)\,r
        \text{ (more retention)}

    Parameters
    ----------
    retention : array_like
        Share of the customers of a year that is there in the next too, 0 to 1.
    change : array_like
        The change k, 0.05 for 5 points or 5 %.
    reading : {"points", "fewer defections", "more retention"}
        Which of the three.

    Returns
    -------
    float or ndarray
        Retention; missing where it would be below 0 or above 1, which no customer base can reach.

    Raises
    ------
    DataError
        Retention that is no share, or an unknown reading.

    Examples
    --------
    >>> [round(float(changed_retention(0.9, 0.05, reading)), 4) for reading in READINGS]
    [0.95, 0.905, 0.945]
    """
    r, k = _numbers(retention=retention, change=change)
    forms = {"points": r + k, "fewer defections": r + k * (1 - r), "more retention": r * (1 + k)}
    if reading not in forms:
        raise DataError(f"reading must be one of {', '.join(map(repr, READINGS))}, not {reading!r}.")
    new = forms[reading]
    # 0.95 + 0.05 is 1, whatever the last bit says.
    return np.where((new >= 0) & (new <= 1 + 1e-12), np.minimum(new, 1.0), np.nan)[()]


def value_lift(
    retention,
    change=0.05,
    reading="points",
    discount=0.10,
    growth=0.0,
    acquisition=0.0,
    fixed_share=0.0,
    timing="start",
):
    r"""Return by which share profit rises when retention does.

    .. math:: \frac{V(r') - V(r)}{(1 - \phi)\, V(r) - a}

    with :math:`r'` of `changed_retention` and :math:`V` of `customer_value` for a margin of 1, before the cost of
    winning the customer. What a customer costs to win and what the firm costs anyway do not change with retention:
    they make the same gain a larger share of a smaller profit.

    Parameters
    ----------
    retention : array_like
        Share r of the customers of a year that is there in the next too, 0 to 1.
    change : array_like
        The change k, 0.05 for 5 points or 5 %.
    reading : {"points", "fewer defections", "more retention"}
        What the change means.
    discount, growth : array_like
        Annual rates of discount and of the growth of a customer's margin.
    acquisition : array_like
        Cost of winning a customer, in annual margins of the first year.
    fixed_share : array_like
        Share φ of the customers' value before the change that fixed costs take, 0 to below 1.
    timing : {"start", "end", "renewal"}
        When a year's margin comes, as in `customer_value`.

    Returns
    -------
    float or ndarray
        Shares (0.25 for 25 % more). Missing where the changed retention would lie beyond 1, and where there was no
        profit to begin with.

    Raises
    ------
    DataError
        Rates that cannot be, or values that are infinite.

    Examples
    --------
    >>> value_lift([0.6, 0.7, 0.8, 0.85, 0.9]).round(2)
    array([0.11, 0.14, 0.2 , 0.25, 0.33])
    >>> value_lift([0.6, 0.9], reading="fewer defections").round(2)
    array([0.04, 0.03])
    """
    new = changed_retention(retention, change, reading)
    r, d, _, g, a, share, new, possible = np.broadcast_arrays(
        *_terms(retention, discount, 1.0, growth, acquisition),
        *_numbers(fixed_share=fixed_share),
        np.nan_to_num(new),
        np.isfinite(new),
    )
    before = _factor(timing, r, d) / _gap(r, d, g)
    after = _factor(timing, new, d) / _gap(new, d, g)
    profit = before * (1 - share) - a
    defined = possible & (profit > 0)
    return np.where(defined, (after - before) / np.where(defined, profit, 1.0), np.nan)[()]


def retention_for_lift(lift, change=0.05, discount=0.10, growth=0.0):
    r"""Return the retention at which so many points more raise the value of a customer by so much.

    .. math:: r = \frac{1 + d}{1 + g} - k \left(1 + \frac{1}{L}\right)

    Parameters
    ----------
    lift : array_like
        Rise L of the value, 0.25 for 25 % more; positive.
    change : array_like
        Points k that retention gains, 0.05 for 5 points; positive.
    discount, growth : array_like
        Annual rates of discount and of the growth of a customer's margin.

    Returns
    -------
    float or ndarray
        Retention before the change, for margins at the start or at the end of the year and no acquisition cost.
        Missing where no base has it, because it lies below 0 or the change would lead beyond 1.

    Raises
    ------
    DataError
        A lift or a change that is not positive, or rates that cannot be.

    Notes
    -----
    `value_lift` solved for retention.

    Examples
    --------
    >>> retention_for_lift([0.25, 0.85], discount=0).round(3)
    array([0.75 , 0.891])
    >>> retention_for_lift([0.25, 0.85]).round(3)
    array([0.85,  nan])
    """
    rise, k, d, g = _numbers(lift=lift, change=change, discount=discount, growth=growth)
    for name, values in (("lift", rise), ("change", k)):
        if (values <= 0).any():
            raise DataError(f"{name} must be positive (0.25 for 25 % more), not {values.min():g}.")
    r = (1 + d) / (1 + g) - k * (1 + 1 / rise)
    return np.where((r >= 0) & (r + k <= 1 + 1e-12), r, np.nan)[()]


def break_even_retention(acquisition, discount=0.10, growth=0.0, timing="start"):
    r"""Return the retention from which on a customer brings back what winning costs.

    .. math::

        r = \frac{(1+d)(1 - 1/a)}{1+g} \text{ (start)}, \quad \frac{1+d-1/a}{1+g} \text{ (end)}, \quad
        \frac{(1+d)\,a}{1 + (1+g)\,a} \text{ (renewal)}

    Parameters
    ----------
    acquisition : array_like
        Cost a of winning a customer, in annual margins of the first year; positive.
    discount, growth : array_like
        Annual rates of discount and of the growth of a customer's margin.
    timing : {"start", "end", "renewal"}
        When a year's margin comes, as in `customer_value`.

    Returns
    -------
    float or ndarray
        Retention; 0 where the first margin pays already, missing where no retention does.

    Raises
    ------
    DataError
        A cost that is not positive, or rates that cannot be.

    Notes
    -----
    `customer_value` set to nothing and solved for retention.

    Examples
    --------
    >>> break_even_retention([0.5, 2.0, 5.0]).round(2)
    array([0.  , 0.55, 0.88])
    """
    a, d, g = _numbers(acquisition=acquisition, discount=discount, growth=growth)
    if (a <= 0).any():
        raise DataError(f"acquisition must be positive, in annual margins, not {a.min():g}.")
    _factor(timing, a, d)
    forms = {
        "start": (1 + d) * (1 - 1 / a) / (1 + g),
        "end": (1 + d - 1 / a) / (1 + g),
        "renewal": (1 + d) * a / (1 + (1 + g) * a),
    }
    r = np.maximum(forms[timing], 0.0)
    return np.where(r <= 1, r, np.nan)[()]


def profit_leverage(fixed_share):
    r"""Return by how many per cent profit rises for one per cent more of what customers contribute.

    .. math:: \frac{1}{1 - \phi}

    Parameters
    ----------
    fixed_share : array_like
        Share φ of the contribution that fixed costs take, 0 to below 1.

    Returns
    -------
    float or ndarray
        Per cent for one per cent.

    Raises
    ------
    DataError
        Fixed costs that are negative, or leave nothing.

    Notes
    -----
    The degree of operating leverage of cost accounting. It leverages losses as it does gains.

    Examples
    --------
    >>> profit_leverage([0, 0.5, 0.75])
    array([1., 2., 4.])
    """
    (share,) = _numbers(fixed_share=fixed_share)
    return (1 / (1 - share))[()]


_LIMITS = {
    "retention": (0, 1, "a share between 0 and 1 (0.8 for 80 %)"),
    "fixed_share": (0, np.nextafter(1, 0), "a share from 0 to below 1 (0.3 for 30 %)"),
    "discount": (0, np.inf, "0 or more (0.10 for 10 % a year)"),
    "growth": (np.nextafter(-1, 0), np.inf, "above -1 (0.05 for 5 % a year)"),
}


def _numbers(**given):
    """Arguments as arrays of numbers, or a refusal that names the one that cannot be."""
    found = []
    for name, value in given.items():
        try:
            array = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise DataError(f"{name} must be a number or numbers, not {value!r}.") from None
        low, high, words = _LIMITS.get(name, (-np.inf, np.inf, "a finite number"))
        if (wrong := array[~((array >= low) & (array <= high) & np.isfinite(array))]).size:
            raise DataError(f"{name} must be {words}, not {wrong.flat[0]:g}.")
        found.append(array)
    return found


def _terms(retention, discount, margin, growth, acquisition):
    return np.broadcast_arrays(
        *_numbers(retention=retention, discount=discount, margin=margin, growth=growth, acquisition=acquisition)
    )


def _factor(timing, r, d):
    if timing not in TIMINGS:
        raise DataError(f"timing must be one of {', '.join(map(repr, TIMINGS))}, not {timing!r}.")
    return {"start": 1 + d, "end": np.ones_like(r), "renewal": r}[timing]


def _gap(r, d, g):
    """1 + d - r (1 + g), what every value is divided by."""
    gap = 1 + d - r * (1 + g)
    if (bad := gap <= 1e-12).any():
        first = (values[bad].flat[0] for values in (r, d, g))
        raise DataError(
            "The value is infinite: retention {:g} with discount {:g} and growth {:g}. Retention times (1 + growth) "
            "must stay below 1 + discount; nobody stays and grows for ever.".format(*first)
        )
    return gap
