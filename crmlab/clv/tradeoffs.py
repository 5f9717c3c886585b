"""Keeping against acquiring: what each costs, what referrals add, and where the next unit of money does most."""

import numpy as np
import pandas as pd

from crmlab.clv.economics import _numbers
from crmlab.data.errors import DataError


def keep_or_acquire(cost, effect, acquisition, kept_value=1.0, new_value=1.0):
    r"""Return what it costs to keep one customer more, beside what it costs to win one.

    A programme to keep customers is paid for everybody treated, also for those who would have stayed and those who
    leave all the same. With cost c a customer treated and an effect of Δ points of retention,

    .. math:: \text{cost per customer kept} = \frac{c}{\Delta}, \qquad
        \Delta^* = \frac{c}{a} \, \frac{V_\text{new}}{V_\text{kept}},

    and keeping brings more for its money than acquiring at cost a if the effect exceeds :math:`\Delta^*`.

    Parameters
    ----------
    cost : array_like
        Cost of the programme per customer treated, in money.
    effect : array_like
        Points of retention that it gains among those treated (0.05 for 5 points), best from an experiment; estimate
        and limits, or draws, together.
    acquisition : array_like
        Cost of winning a customer, in money; positive.
    kept_value, new_value : array_like
        Value of a customer kept who would have left, and of a new one, before these costs, in money; positive.

    Returns
    -------
    pandas.DataFrame
        One row a case: `cost_per_kept` (infinite where the programme keeps nobody), `ratio` (cost of acquiring over
        cost per customer kept), `keep_return` and `acquire_return` (value per unit of money spent), `break_even_effect`
        and `keep` (whether keeping brings more).

    Raises
    ------
    DataError
        Costs or values that are not positive.

    Notes
    -----
    Pfeifer (2005), Journal of Targeting, Measurement and Analysis for Marketing 13(2), 179-188: what matters is the
    cost of one customer more, not the average cost of those there are.

    Examples
    --------
    >>> table = keep_or_acquire(cost=10, effect=[0.02, 0.05, 0.25], acquisition=60)
    >>> table["cost_per_kept"].tolist(), table["keep"].tolist()
    ([500.0, 200.0, 40.0], [False, False, True])
    """
    c, e, a, kept, new = (
        np.atleast_1d(v)
        for v in np.broadcast_arrays(
            *_positive(cost=cost), *_numbers(effect=effect),
            *_positive(acquisition=acquisition, kept_value=kept_value, new_value=new_value),
        )
    )  # fmt: skip
    each = np.where(e > 0, c / np.where(e > 0, e, 1.0), np.inf)
    table = {
        "cost_per_kept": each,
        "ratio": a / each,
        "keep_return": kept / each,
        "acquire_return": new / a,
        "break_even_effect": c * new / (a * kept),
    }
    return pd.DataFrame(table).assign(keep=lambda t: t["keep_return"] > t["acquire_return"])


def referral_multiplier(referrals, retention=0.0, discount=0.0, decay=1.0):
    r"""Return how many customers one customer comes to in the end, with those who are referred and their referrals.

    Each customer of a year brings ρ new ones, who begin a year later. Over an own lifetime that is
    :math:`q = \rho / (1 + d - r)`, and over all generations

    .. math:: M = 1 + q + q^2 \delta + q^3 \delta^3 + \dots = \sum_{n \ge 0} q^n \, \delta^{n(n-1)/2},

    which is :math:`1 / (1 - q)` when no generation refers less than the one before it (δ = 1).

    Parameters
    ----------
    referrals : array_like
        Customers ρ that one customer brings a year; with retention 0, in a lifetime.
    retention : array_like
        Share r of the customers of a year that is there in the next too, and refers again.
    discount : array_like
        Annual rate d at which later customers count less; 0 counts heads.
    decay : array_like
        Referrals of a generation relative to the one before it, δ, 0 to 1.

    Returns
    -------
    float or ndarray
        Customers, the first included; with a discount, by how much the value of a customer is multiplied.

    Raises
    ------
    DataError
        Rates that cannot be, or referrals by which the base would grow for ever by itself.

    Notes
    -----
    The expected size of a branching process (Galton and Watson), with δ = 1.

    Examples
    --------
    >>> referral_multiplier([0.05, 0.25, 0.5]).round(3)
    array([1.053, 1.333, 2.   ])
    >>> round(float(referral_multiplier(0.05, retention=0.8, discount=0.10)), 3)
    1.2
    """
    rho, r, d, delta = np.broadcast_arrays(
        *_numbers(referrals=referrals, retention=retention, discount=discount, decay=decay)
    )
    if (rho < 0).any() or (delta < 0).any() or (delta > 1).any():
        raise DataError("referrals must be 0 or more and decay between 0 and 1.")
    gap = 1 + d - r
    q = rho / np.where(gap > 0, gap, 1.0)
    if ((gap <= 0) | ((q >= 1 - 1e-9) & (delta == 1))).any():
        raise DataError(
            "With these referrals every customer brings one or more in a lifetime, and the base grows for ever by "
            "itself. Referrals a year must stay below 1 + discount - retention, or decay below 1."
        )
    total, term, n = np.ones(q.shape), np.ones(q.shape), 0
    same = delta == 1
    while ((term > 1e-17 * total) & ~same).any():
        term = np.where(same, 0.0, term * q * delta**n)
        total, n = total + term, n + 1
        if not np.isfinite(total).all():
            raise DataError("The referrals fall off so slowly that the number of customers cannot be computed.")
    return np.where(same, 1 / np.where(same, 1 - q, 1.0), total)[()]


def response(spend, ceiling, rate):
    r"""Return the share of people that spending so much on each of them wins or keeps.

    .. math:: c \, (1 - e^{-k x})

    Parameters
    ----------
    spend : array_like
        Money x per head, 0 or more.
    ceiling : array_like
        Share c that no spending exceeds, 0 to 1.
    rate : array_like
        How fast the ceiling is approached, k per unit of money; positive.

    Returns
    -------
    float or ndarray
        Shares.

    Raises
    ------
    DataError
        Spending below 0, a ceiling that is no share, a rate that is not positive.

    Notes
    -----
    The response curve of Blattberg and Deighton (1996), Harvard Business Review 74(4), 136-144.

    Examples
    --------
    >>> response([0, 10, 1000], ceiling=0.4, rate=0.1).round(3)
    array([0.   , 0.253, 0.4  ])
    """
    x, c, k = _curve(spend, ceiling, rate)
    return (-c * np.expm1(-k * x))[()]


def response_rate(spend, achieved, ceiling):
    r"""Return how fast a response curve rises, from what is spent and achieved today and what could be at most.

    .. math:: k = -\frac{1}{x} \ln\left(1 - \frac{y}{c}\right)

    Parameters
    ----------
    spend : array_like
        Money x per head today; positive.
    achieved : array_like
        Share y won or kept by it; positive and below the ceiling.
    ceiling : array_like
        Share c that no spending exceeds, 0 to 1.

    Returns
    -------
    float or ndarray
        The `rate` of `response`, per unit of money.

    Raises
    ------
    DataError
        Values between which no such curve runs.

    Notes
    -----
    How Blattberg and Deighton (1996) have managers fix the curve, from three numbers that they can judge.

    Examples
    --------
    >>> round(float(response_rate(10, achieved=0.253, ceiling=0.4)), 2)
    0.1
    """
    x, y, c = np.broadcast_arrays(*_positive(spend=spend, achieved=achieved, ceiling=ceiling))
    if (c > 1).any() or (y >= c).any():
        raise DataError("achieved must lie below the ceiling, and the ceiling may not exceed 1.")
    return (-np.log1p(-y / c) / x)[()]


def split_budget(budget, activities):
    r"""Return how to split a budget so that the last unit of money brings the same everywhere.

    An activity spends x on each of its N people and wins or keeps :math:`N c (1 - e^{-k x})` of them, each worth V.
    The sum of these values is greatest where the return of the next unit of money is the same in all activities that
    get any,

    .. math:: V c k \, e^{-k x} = \lambda \quad\Longrightarrow\quad
        x = \max\left(0, \; \frac{1}{k} \ln \frac{V c k}{\lambda}\right),

    and :math:`\lambda` is such that the budget is spent, or 1 when more money would bring less than itself.

    Parameters
    ----------
    budget : float
        Money, 0 or more; ``numpy.inf`` for as much as pays.
    activities : pandas.DataFrame
        One row an activity (such as "acquire" and "keep") with the columns `people` N, `value` V of one won or kept,
        `ceiling` c and `rate` k. For keeping, the ceiling is that of the gain in retention.

    Returns
    -------
    pandas.DataFrame
        Indexed as `activities`: `spend` and `per_head` x in money, `customers` won or kept, their `worth`,
        `average_cost` and `marginal_cost` of one, and `marginal_return` λ of the next unit of money. What the spending
        falls short of the budget is better not spent.

    Raises
    ------
    DataError
        Missing columns, a negative budget, values that cannot be.

    Notes
    -----
    Response curves of Blattberg and Deighton (1996). That at the optimum the marginal cost of acquiring and of keeping
    are equal to the values of the customers is Pfeifer (2005); the average costs may stand in any ratio.

    Examples
    --------
    >>> curves = pd.DataFrame(
    ...     {"people": [1000, 400], "value": [200, 200], "ceiling": [0.1, 0.2], "rate": [0.1, 0.05]},
    ...     index=["acquire", "keep"],
    ... )
    >>> split_budget(6000, curves)[["spend", "marginal_return"]].round(2).to_numpy().tolist()
    [[3333.33, 1.43], [2666.67, 1.43]]
    """
    if missing := [c for c in ("people", "value", "ceiling", "rate") if c not in activities.columns]:
        raise DataError(f"The table of activities lacks {', '.join(missing)}; it has {', '.join(activities.columns)}.")
    if not budget >= 0:
        raise DataError(f"budget must be 0 or more, not {budget!r}.")
    people, value = _positive(people=activities["people"], value=activities["value"])
    _, ceiling, rate = _curve(0.0, activities["ceiling"], activities["rate"])
    first = value * ceiling * rate
    lam = _multiplier(budget, first, people / rate)
    x = np.where(first > lam, np.log(np.maximum(first, 1e-300) / lam) / rate, 0.0)
    customers = people * response(x, ceiling, rate)
    with np.errstate(divide="ignore", invalid="ignore"):
        average = np.where(customers > 0, people * x / customers, np.nan)
        marginal = np.exp(rate * x) / (ceiling * rate)
    return pd.DataFrame(
        {
            "spend": people * x,
            "per_head": x,
            "customers": customers,
            "worth": customers * value,
            "average_cost": average,
            "marginal_cost": marginal,
            "marginal_return": value / marginal,
        },
        index=activities.index,
    )


def channel_margin(price, cost, trade_margins=(), selling_cost=0.0):
    r"""Return what the maker of a product keeps of the price that its buyer pays, through a channel of any length.

    .. math:: p \prod_i (1 - t_i) - c - s

    Parameters
    ----------
    price : float
        Price p that the last buyer pays, in money.
    cost : float
        Cost c of making one, in money.
    trade_margins : sequence of float
        Share of its own selling price that each intermediary keeps (retailer, wholesaler, …), each 0 to below 1.
    selling_cost : float
        The maker's own cost s of selling and delivering one, in money.

    Returns
    -------
    float
        Money per unit.

    Raises
    ------
    DataError
        Shares that cannot be.

    Notes
    -----
    Arithmetic; whether fewer intermediaries pay is a question of `selling_cost`, which takes over their work.

    Examples
    --------
    >>> round(channel_margin(100, 40, [0.30, 0.15]), 2), round(channel_margin(100, 40, [0.30]), 2)
    (19.5, 30.0)
    """
    price, cost, selling = (float(v) for v in _numbers(price=price, cost=cost, selling_cost=selling_cost))
    (shares,) = _numbers(trade_margins=trade_margins)
    if ((shares < 0) | (shares >= 1)).any():
        raise DataError("Each of the trade_margins must be a share from 0 to below 1 (0.3 for 30 %).")
    return float(price * np.prod(1 - shares) - cost - selling)


def _multiplier(budget, first, weight):
    """The return of the last unit of money; activities enter in the order of their first unit's return."""
    order = np.argsort(-first, kind="stable")
    first, weight = first[order], weight[order]
    first, weight = first[first > 1], weight[first > 1]
    if not len(first) or not np.isfinite(budget):
        return 1.0
    logs, widths = np.cumsum(weight * np.log(first)), np.cumsum(weight)
    spent_at_next = np.append(logs[:-1] - widths[:-1] * np.log(first[1:]), np.inf)
    active = int(np.argmax(budget <= spent_at_next))
    return max(1.0, float(np.exp((logs[active] - budget) / widths[active])))


def _curve(spend, ceiling, rate):
    x, c = _numbers(spend=spend, ceiling=ceiling)
    (k,) = _positive(rate=rate)
    if (x < 0).any():
        raise DataError(f"spend must be 0 or more, not {x.min():g}.")
    if ((c < 0) | (c > 1)).any():
        raise DataError("ceiling must be a share between 0 and 1 (0.4 for 40 %).")
    return np.broadcast_arrays(x, c, k)


def _positive(**given):
    found = _numbers(**given)
    for name, array in zip(given, found, strict=True):
        if (array <= 0).any():
            raise DataError(f"{name} must be positive, not {array.min():g}.")
    return found
