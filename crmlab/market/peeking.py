"""Looking at an experiment while it runs: intervals that hold however often one looks."""

import numpy as np
import pandas as pd
from scipy.special import lambertw, ndtri

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, wilson
from crmlab.market.experiments import arm_rows, needed, numbers

START = 100
"""Customers an arm from which on means are close enough to normal; before, no interval is given."""
EVENTS = 20
"""Customers an arm whose outcome differs from the most frequent one (buyers, as a rule), for the same reason."""


def sequential(data, outcome, arm, control, when, planned, level=0.95):
    r"""Compare arms after every day of an experiment with an interval that holds for all days at once.

    With :math:`\hat\delta_n \pm` its error :math:`s_n` after :math:`n` customers of two arms, the interval is

    .. math:: \hat\delta_n \pm s_n \sqrt{\frac{n \rho^2 + 1}{n \rho^2} \log\frac{n \rho^2 + 1}{\alpha^2}}

    and covers the true difference on all days together with probability :math:`1 - \alpha`, so that one may stop when
    it leaves zero. It is narrowest, against the days' own intervals, at the planned number of customers, which sets
    :math:`\rho`.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer whose outcome is known.
    outcome : str
        Column with a number, or with true and false.
    arm : str
        Column that says which arm the customer was assigned to.
    control : object
        The value of the control group.
    when : str
        Column with the day (or number of the look) from which on the outcome is known.
    planned : int
        Customers in the control group and one other arm together that the experiment is planned for (`sample_size`),
        decided before it starts.
    level : float
        Level of the intervals; with several arms the error is divided by their number.

    Returns
    -------
    pandas.DataFrame
        By treated arm and day: `customers` so far (of this arm and the control group), `difference`, the `low` and
        `high` of all days at once, `fixed_low` and `fixed_high` of a single look, and `stop`: the interval has left
        zero on this day or before. Intervals are missing for as long as an arm has fewer than 100 customers, or fewer
        than 20 with another outcome than the most frequent one.

    Raises
    ------
    DataError
        As in `effect`; a planned number below 4.

    Notes
    -----
    The mixture boundary of Robbins (1970), as an asymptotic confidence sequence: Waudby-Smith, Arbour, Sinha, Kennedy
    and Ramdas (2024), Annals of Statistics 52, 2613-2640; normal mixture of Howard, Ramdas, McAuliffe and Sekhon
    (2021), Annals of Statistics 49, 1055-1080; the mixture SPRT of Johari, Koomen, Pekelis and Walsh (2022), Operations
    Research 70, 1806-1821, is the same test. `false_alarms` shows with the outcomes at hand that it keeps its level.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> test = pd.DataFrame({"day": np.repeat([1, 2, 3], 400), "arm": np.tile(["none", "mail"], 600)})
    >>> test["bought"] = rng.random(1200) < np.where(test["arm"] == "mail", 0.3, 0.1)
    >>> sequential(test, "bought", "arm", "none", "day", planned=1200)["stop"].tolist()
    [True, True, True]
    """
    if not planned >= 4:
        raise DataError(
            f"planned is the number of customers the experiment was planned for, at least 4, not {planned!r}."
        )
    frame = needed(data, [outcome, arm, when])
    y, arms = numbers(frame, outcome), arm_rows(frame, arm, control)
    try:
        days, look = np.unique(frame[when].to_numpy(), return_inverse=True)
    except TypeError:
        raise DataError(f"Column {when!r} must have days or numbers, one kind of them.") from None
    usual = pd.Series(y).mode()[0]
    # Differences of squares lose digits far from zero.
    sums = {name: _running(y[rows] - y.mean(), look[rows], len(days), usual - y.mean()) for name, rows in arms.items()}
    alpha, pieces = (1 - checked_level(level)) / (len(arms) - 1), {}
    for name in (name for name in arms if name != control):
        gap, se, n, ready = _so_far(sums[name], sums[control])
        half = _boundary(n, _rho2(planned, alpha), alpha) * se
        fixed = ndtri(1 - alpha / 2) * se
        columns = {"low": gap - half, "high": gap + half, "fixed_low": gap - fixed, "fixed_high": gap + fixed}
        table = pd.DataFrame({key: np.where(ready, value, np.nan) for key, value in columns.items()}, index=days)
        table.insert(0, "customers", n.astype(int))
        table.insert(1, "difference", gap)
        pieces[name] = table.assign(stop=((table["low"] > 0) | (table["high"] < 0)).cummax())
    return pd.concat(pieces, names=[arm, when])


def false_alarms(outcomes, looks=14, runs=2_000, seed=0, level=0.95):
    """Count how often peeking finds an effect where there is none, with the outcomes at hand.

    The customers are dealt at random to two arms that do not differ, `runs` times; as many come each day. After each
    day somebody looks, once `sequential` would give an interval, and stops as soon as it leaves zero.

    Parameters
    ----------
    outcomes : sequence of float
        Outcomes of customers, such as the spend of a control group: skewed as they are.
    looks : int
        Days, each with a look.
    runs : int
        Experiments.
    seed : int
        Of the dealing.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        By rule (``"one look"`` at the end, ``"daily looks"`` with the interval of a single look, ``"sequential"``):
        `runs`, false `alarms`, their `share` and its 95 % Wilson interval `low`, `high`; the share should be
        1 - `level`, and no larger.

    Raises
    ------
    DataError
        Outcomes that are missing or all the same, or fewer than four customers a day.

    Examples
    --------
    >>> spend = np.random.default_rng(1).exponential(size=4_000)
    >>> found = false_alarms(spend, looks=10, runs=200)["share"]
    >>> bool(found["daily looks"] > 0.1 > found["sequential"])
    True
    """
    y = np.asarray(outcomes, dtype=float)
    if y.ndim != 1 or not np.isfinite(y).all() or not len(y) or y.min() == y.max():
        raise DataError("outcomes must be numbers, one a customer, none missing, and not all the same.")
    if looks < 1 or runs < 1 or len(y) < 4 * looks:
        raise DataError(f"{len(y):,} customers are too few for {looks} looks: four a day at least.")
    alpha, rng = 1 - checked_level(level), np.random.default_rng(seed)
    usual = pd.Series(y).mode()[0] - y.mean()
    y = y - y.mean()
    # Every day brings as many of both arms; what does not divide stays out.
    a_day = len(y) // (2 * looks)
    n = a_day * np.arange(1, looks + 1)
    rho2, alarms = _rho2(2 * n[-1], alpha), np.zeros(3, dtype=int)
    for _run in range(runs):
        drawn = rng.permutation(y)[: 2 * n[-1]].reshape(2, looks, a_day)
        sums = [
            (n, d.sum(axis=1).cumsum(), (d**2).sum(axis=1).cumsum(), (d != usual).sum(axis=1).cumsum()) for d in drawn
        ]
        gap, se, both, ready = _so_far(*sums)
        z = np.where(ready, np.abs(gap) / np.where(se > 0, se, np.inf), 0.0)
        fixed = z > ndtri(1 - alpha / 2)
        alarms += [fixed[-1], fixed.any(), (z > _boundary(both, rho2, alpha)).any()]
    share, low, high = wilson(alarms, runs)
    rules = pd.Index(["one look", "daily looks", "sequential"], name="rule")
    return pd.DataFrame({"runs": runs, "alarms": alarms, "share": share, "low": low, "high": high}, index=rules)


def _running(y, look, looks, usual):
    """Customers, sum, sum of squares and customers with an unusual outcome, after each look."""
    unusual = np.bincount(look, ~np.isclose(y, usual), minlength=looks)
    return [
        np.cumsum(part) for part in (*(np.bincount(look, y**power, minlength=looks) for power in (0, 1, 2)), unusual)
    ]


def _so_far(treated, control):
    """Difference in means and its error, customers, and whether normal intervals may be drawn from them."""
    means, variances = [], []
    for n, total, squares, _unusual in (treated, control):
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append(total / n)
            variances.append((squares - total**2 / n) / (n - 1) / n)
    n = treated[0] + control[0]
    enough = np.minimum(treated[0], control[0]) >= START
    # Of a share near one half, either value may be the usual one.
    events = np.minimum(treated[3], control[3]) >= EVENTS
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.maximum(variances[0] + variances[1], 0.0))
    return means[0] - means[1], se, n, enough & events


def _boundary(n, rho2, alpha):
    """How many errors the interval reaches to both sides, on all days at once."""
    u = np.asarray(n, dtype=float) * rho2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((u + 1) / u * np.log((u + 1) / alpha**2))


def _rho2(planned, alpha):
    """The mixture that is narrowest at the planned number of customers."""
    return (-lambertw(-(alpha**2) / np.e, -1).real - 1) / planned
