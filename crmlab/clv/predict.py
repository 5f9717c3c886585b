"""Predictions for the customers of a summary: tidy tables, simulated futures, and what all customers are worth."""

import ibis
import numpy as np
import pandas as pd

from crmlab.clv.covariates import Design
from crmlab.clv.histories import Histories, blocks
from crmlab.clv.summary import DAYS, day_of, require
from crmlab.data.errors import DataError

NODES = 28
"""Chebyshev nodes in the time observed, between which predictions are interpolated (relative errors below 1e-7)."""

SCORES = ["p_alive", "expected_purchases", "p_no_purchase", "discounted_purchases"]
"""What is predicted of every customer."""


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


def newcomer(unit=None):
    """Return the summary of a customer who has just bought for the first time, to predict from.

    Parameters
    ----------
    unit : {"D", "W", "M", "Y"}, optional
        Unit of time.

    Returns
    -------
    pandas.DataFrame
        One row: frequency, recency and T are 0. Add the columns that covariates need.

    Examples
    --------
    >>> from crmlab import clv
    >>> fit = clv.BGNBD().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> print(fit.predict(newcomer(), horizon=52)["expected_purchases"].round(3).item())
    1.444
    """
    return pd.DataFrame({"frequency": [0], "recency": [0.0], "T": [0.0]} | ({"unit": [unit]} if unit else {}))


def predict(
    result,
    data,
    horizon=52.0,
    annual_discount=0.10,
    spend=None,
    margin=1.0,
    as_of=0.0,
    calendar=None,
    spend_as="mean",
):
    """Return what to expect of each customer.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    data : ibis.Table or pandas.DataFrame
        A summary, one row a customer, in the unit of the fit.
    horizon : float or str or date
        Units of time ahead, or the last day; ``numpy.inf`` for the whole future.
    annual_discount : float
        Annual rate at which later purchases count less.
    spend : crmlab.clv.Result, optional
        A fitted spending model; without it there is no `expected_spend` and no `clv`.
    margin : float
        Share of an amount that is profit.
    as_of : float or str or date
        Where the horizon begins: units of time after the end of calibration, or a day. Nothing is known of the time
        between; values are as of then.
    calendar : pandas.DataFrame, optional
        The calendar of the fit, reaching to the end of the horizon.
    spend_as : {"mean", "median"}
        Whether `expected_spend` is the mean of what a customer's amounts may average, or the median, which exists
        even where amounts are so unequal that the mean does not.

    Returns
    -------
    pandas.DataFrame or ibis.Table
        One row a customer: `p_alive`; `expected_purchases` in the horizon; `p_no_purchase` in the horizon;
        `discounted_purchases` (discounted expected residual transactions); with a spending model `expected_spend` per
        purchase (missing where the mean amount is missing or negative, or does not exist) and `clv` = margin ×
        discounted purchases × expected spend. Indexed by `customer_id` where a data frame has it. For an Ibis table the
        distinct states are scored and joined back in the engine: the answer is an Ibis table with `customer_id`.

    Raises
    ------
    DataError
        A unit of time that is not the fit's, a horizon that is not positive, impossible histories.

    Notes
    -----
    The value of a customer is the product of purchases and spend because the two are taken to be independent;
    `GammaGamma.independence` is a check of that.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> table = clv.BGNBD().fit(summary).predict(summary, horizon=39)
    >>> print(round(table["expected_purchases"].sum(), 1))
    1653.4
    """
    keys = ["frequency", "recency", "T", *(result.design.columns() if result.design else ())]
    require(data, keys if spend is None else [*keys, "monetary_value"])
    if isinstance(data, ibis.Table):
        # Days are read only where a day is needed.
        dated = calendar is not None or not all(isinstance(v, int | float | np.number) for v in (horizon, as_of))
        facts = ("unit", "calibration_end") if dated else ("unit",)
        states = data.select(*keys, *(c for c in facts if c in data.columns)).distinct().to_pandas()
        if "calibration_end" in states and states["calibration_end"].nunique() > 1:
            raise DataError("The customers have different calibration_end: predict them one date at a time.")
        scored = states[keys].join(_score(result, states, horizon, annual_discount, as_of, calendar))
        # Columns of an earlier prediction would win over those of this one.
        customers = data.drop(*(c for c in SCORES if c in data.columns)).view()
        table = customers.join(ibis.memtable(scored), keys)
        scores = list(SCORES)
        if spend is not None:
            each = spend.model.expected_spend_in(spend.params, table, spend_as)
            table = table.mutate(expected_spend=each)
            table = table.mutate(clv=margin * table.discounted_purchases * table.expected_spend)
            scores += ["expected_spend", "clv"]
        return table.select(*(c for c in ("customer_id",) if c in data.columns), *scores)
    table = _score(result, data, horizon, annual_discount, as_of, calendar)
    table.index = pd.Index(data["customer_id"]) if "customer_id" in data else data.index
    if spend is not None:
        x, mean = data["frequency"].to_numpy(), data["monetary_value"].to_numpy()
        table["expected_spend"] = spend.model.expected_spend(spend.params, x, mean, spend_as)
        table["clv"] = margin * table["discounted_purchases"] * table["expected_spend"]
    return table


def pmf(result, data, horizon=52.0, top=10, calendar=None):
    """Return the probability of each number of purchases.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    data : ibis.Table or pandas.DataFrame
        A summary, one row a customer, in the unit of the fit.
    horizon : float or str or date
        Units of time ahead, or the last day.
    top : int
        Largest number with a column of its own.
    calendar : pandas.DataFrame, optional
        The calendar of the fit.

    Returns
    -------
    pandas.DataFrame
        One row a customer, columns 0 … top and `more`; rows sum to one.

    Raises
    ------
    DataError
        A unit of time that is not the fit's, a horizon that is not positive and finite.

    Examples
    --------
    >>> from crmlab import clv
    >>> fit = clv.BGNBD().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> print(fit.pmf(newcomer(), horizon=39, top=3).round(3).iloc[0].tolist())
    [0.574, 0.199, 0.085, 0.046, 0.095]
    """
    frame, histories = _histories(result, data, calendar)
    length = _window(result, frame, horizon, 0.0, 0.0, calendar)[1]
    customer = _customers(result.work, result.model, histories)
    x, at = histories.alive.x, histories.alive.at
    given = result.model.number(result.model.coordinates(result.work), x, customer, _finite(length), top)
    chance = np.einsum("jn,jnc->nc", histories.phases(result.work), given[:, at])
    alive = histories.p_alive(result.work)[:, None]
    chance = alive * chance + (1 - alive) * (np.arange(top + 1) == 0)
    table = pd.DataFrame(chance, frame.get("customer_id", frame.index), range(top + 1))
    return table.assign(more=np.maximum(1 - chance.sum(axis=1), 0))


def simulate(result, data, horizon=52.0, annual_discount=0.0, spend=None, draws=1000, seed=0, calendar=None):
    r"""Return simulated futures of customers, with the uncertainty of the parameters in them.

    Each draw takes parameters from their sampling distribution (normal in working coordinates), then for every
    customer whether alive, the own rate and dropout from their posterior, the purchases in the horizon one by one, and
    with a spending model what each of them amounts to. Nothing is approximated but the distribution of the parameters.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    data : ibis.Table or pandas.DataFrame
        A summary, one row a customer. The order of the rows decides who gets which random numbers.
    horizon : float or str or date
        Units of time ahead, or the last day; finite.
    annual_discount : float
        Annual rate at which the amounts of later purchases count less.
    spend : crmlab.clv.Result, optional
        A fitted spending model.
    draws : int
        Number of futures.
    seed : int
        Seed of the random numbers; the same seed gives the same futures.
    calendar : pandas.DataFrame, optional
        The calendar of the fit, reaching to the end of the horizon.

    Returns
    -------
    purchases : ndarray of int, shape (draws, n)
        Purchases of each customer in the horizon.
    amounts : ndarray of float, shape (draws, n), or None
        What each customer spends in the horizon, discounted to its beginning; None without a spending model.

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
    futures = list(_futures(result, data, horizon, annual_discount, spend, draws, seed, calendar))
    purchases = np.stack([f[0] for f in futures])
    return purchases, None if spend is None else np.stack([f[1] for f in futures])


def customer_equity(
    result,
    data,
    spend,
    horizon=52.0,
    annual_discount=0.10,
    margin=1.0,
    by=None,
    level=0.95,
    draws=1000,
    seed=0,
    calendar=None,
):
    """Return what all customers together, and each group of them, are worth, with intervals.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    data : ibis.Table or pandas.DataFrame
        A summary, one row a customer.
    spend : crmlab.clv.Result
        A fitted spending model.
    horizon : float or str or date
        Units of time ahead, or the last day; finite (the discount makes what comes after some decades worthless).
    annual_discount : float
        Annual rate at which later purchases count less.
    margin : float
        Share of an amount that is profit.
    by : array_like or str, optional
        Group of each customer, or the column that has it.
    level : float
        Share of the simulated futures between the limits.
    draws, seed : int
        Number of simulated futures and seed of the random numbers.
    calendar : pandas.DataFrame, optional
        The calendar of the fit, reaching to the end of the horizon.

    Returns
    -------
    pandas.DataFrame
        One row a group and one for `all`: `customers`, `expected_purchases`, `value` (the expectation), `lower` and
        `upper` (limits of the simulated values), `share` of the value of all with `share_lower` and `share_upper`.

    Raises
    ------
    DataError
        As `predict` and `simulate`; customers without an expected amount.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").order_by("customer_id").to_pandas()
    >>> fits = clv.MBGNBD().fit(summary), clv.GammaGamma().fit(summary)
    >>> customer_equity(fits[0], summary, fits[1], by=summary["frequency"] > 0, draws=200)["value"].round().tolist()
    [11236.0, 57480.0, 68716.0]
    """
    frame = _as_frame(data)
    require(frame, [by] if isinstance(by, str) else [])
    options = {"horizon": horizon, "annual_discount": annual_discount, "calendar": calendar}
    table = predict(result, frame, spend=spend, margin=margin, **options)
    if missing := int(table["clv"].isna().sum()):
        raise DataError(
            f"{missing:,} customers have no expected amount, so nothing can be summed: they bought again but "
            "monetary_value is missing, or q ≤ 1 (amounts are too unequal for a mean to exist; values by the median: "
            "predict(…, spend_as='median'))."
        )
    groups = pd.Series(frame[by] if isinstance(by, str) else "all" if by is None else np.asarray(by), frame.index)
    if missing := int(groups.isna().sum()):
        raise DataError(f"{missing:,} customers have no group: give the gaps in `by` a name.")
    if by is not None and (groups == "all").any():
        raise DataError("A group must not be called 'all', the row of all customers: give it another name.")
    code, names = pd.factorize(groups, sort=True)
    sums = np.stack(
        [
            np.bincount(code, margin * amounts, minlength=len(names))
            for _, amounts in _futures(result, frame, horizon, annual_discount, spend, draws, seed, calendar)
        ]
    )
    found = table.groupby(code).agg(
        customers=("clv", "size"), expected_purchases=("expected_purchases", "sum"), value=("clv", "sum")
    )
    found.index = pd.Index(names, name="group")
    if by is not None:
        found.loc["all"] = found.sum()
        found["customers"] = found["customers"].astype(int)
        sums = np.column_stack([sums, sums.sum(axis=1)])
    found["lower"], found["upper"] = interval(sums, level)
    found["share"] = found["value"] / found["value"].iloc[-1]
    # A future in which nobody buys has no shares: it counts as none for everybody.
    found["share_lower"], found["share_upper"] = interval(sums / np.maximum(sums[:, -1:], 1e-300), level)
    return found


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


def _score(result, frame, horizon, annual_discount, as_of, calendar):
    """The columns that do not depend on amounts, one row for each of the table."""
    frame, histories = _histories(result, frame, calendar)
    rate = annual_to_rate(annual_discount, result.unit) if annual_discount else 0.0
    start, length, clock = _window(result, frame, horizon, as_of, rate, calendar)
    if rate < 0 and np.isinf(length):
        raise DataError("With a negative annual_discount the horizon must be finite.")
    if start and result.model.k > 1:
        raise DataError("as_of works with k = 1 only: regular buyers keep a rhythm that the time between would hide.")
    # A chance too small for a number, of a future without end, is still without end.
    alive = np.maximum(histories.p_alive(result.work), 1e-300)
    future = _future(result, histories, start, length, rate, clock)
    simple = result.model.k == 1
    future, phases = (future[:, 0], None) if simple else (future, np.maximum(histories.phases(result.work), 1e-300))
    scores = np.empty((len(SCORES), len(frame)))
    for part in blocks(len(frame)):
        at, p = histories.alive.at[part], alive[part]
        here = [f[at] for f in future] if simple else np.einsum("jn,fjn->fn", phases[:, part], future[:, :, at])
        purchases, discounted, some, still = here
        discounted = discounted if rate else purchases
        scores[:, part] = np.minimum(p * still, 1.0), p * purchases, np.clip(1 - p * some, 0, 1), p * discounted
    return pd.DataFrame(scores.T, frame.index, SCORES, copy=False)


def _future(result, histories, start, length, rate, clock):
    """The future given alive by (frequency, time observed): smooth in time, so few times tell of all."""
    model, y = result.model, result.model.coordinates(result.work)
    discount = clock or (lambda t: np.exp(-rate * t))
    # Without a discount, or with a horizon on a calendar's clock, the end of the horizon is near enough.
    reach = 40 / rate if rate > 0 and not clock else 1e9
    side = histories.alive
    direct = _customers(result.work, model, histories)
    chains, chain = np.unique(side.x * histories.clocks.rows + side.row, return_inverse=True)
    if clock or len(side.x) < 2 * NODES * len(chains):
        return _in_blocks(model, y, side.x, direct, start, length, discount, reach)
    # s = log(1 + bend t) tames the far past; between Chebyshev nodes in s a polynomial is all but exact.
    bend = model.bend(y)
    position = np.log1p(bend * side.t) if bend else side.t
    low, high = np.full(len(chains), np.inf), np.full(len(chains), -np.inf)
    np.minimum.at(low, chain, position)
    np.maximum.at(high, chain, position)
    order = np.arange(NODES)
    angles = np.pi * (order + 0.5) / NODES
    nodes = ((low + high) / 2)[:, None] + ((high - low) / 2)[:, None] * np.cos(angles)
    times = np.expm1(nodes) / bend if bend else nodes
    x, row = np.divmod(np.repeat(chains, NODES), histories.clocks.rows)
    at_nodes = _customers(result.work, model, histories, row, times.ravel())
    values = _in_blocks(model, y, x, at_nodes, start, length, discount, reach)
    values = values.reshape(*values.shape[:2], len(chains), NODES)
    with np.errstate(invalid="ignore"):
        series = values @ (np.cos(np.outer(angles, order)) * (2 - (order == 0)) / NODES)
        unit = (2 * position - (low + high)[chain]) / np.maximum(high - low, 1e-300)[chain]
        basis = np.cos(np.outer(np.arccos(np.clip(unit, -1, 1)), order))
        return np.einsum("fjpn,pn->fjp", series[:, :, chain], basis)


def _in_blocks(model, y, x, customer, start, length, discount, reach, size=512):
    parts = []
    for first in range(0, max(len(x), 1), size):
        part = slice(first, first + size)
        some = tuple(c if np.ndim(c) == 0 else c[part] for c in customer)
        parts.append(model.future(y, x[part], some, start, length, discount, reach))
    return np.concatenate(parts, axis=2)


def _customers(work, model, histories, row=None, t=None):
    """Time, multiplier of the rate, operational time and shift of the dropout at each pair of the alive side."""
    side, extra = histories.alive, work[len(model.names) :]
    row, t = (side.row, side.t) if row is None else (row, t)
    scale, elapsed, _ = histories.clocks.exposure(extra, row, t)
    return t, scale, elapsed, histories.clocks.shift(extra, row)


def _futures(result, data, horizon, annual_discount, spend, draws, seed, calendar):
    """Purchases and amounts of every customer in one simulated future after the other."""
    frame, histories = _histories(result, data, calendar)
    rate = annual_to_rate(annual_discount, result.unit) if annual_discount else 0.0
    _, length, clock = _window(result, frame, horizon, 0.0, rate, calendar)
    _finite(length)
    discount = clock or (lambda t: np.exp(-rate * t))
    rng, model, x = np.random.default_rng(seed), result.model, histories.x
    works = _draw(rng, result, draws)
    if spend is not None:
        require(frame, ["monetary_value"])
        mean, spends = frame["monetary_value"].to_numpy(), _draw(rng, spend, draws)
    at = histories.alive.at
    for d in range(draws):
        if clock:
            _, length, discount = _window(result, frame, horizon, 0.0, rate, calendar, works[d])
        here = np.flatnonzero(rng.random(len(x)) < histories.p_alive(works[d]))
        customer = tuple(c if np.ndim(c) == 0 else c[at[here]] for c in _customers(works[d], model, histories))
        chances = histories.phases(works[d])[:, here]
        who, when = model.draw_future(rng, model.coordinates(works[d]), x[here], customer, chances, length)
        who = here[who]
        purchases, amounts = np.bincount(who, minlength=len(x)), None
        if spend is not None:
            each = spend.model.draw_amounts(rng, spend.model.params(spends[d]), x, mean, who)
            amounts = np.bincount(who, each * discount(when), minlength=len(x))
        yield purchases, amounts


def _draw(rng, result, draws):
    """Working coordinates from their sampling distribution; those at a boundary stay there."""
    if not result.converged:
        raise DataError(f"{result.model.title} did not converge: its parameters have no distribution to draw from.")
    free = np.diag(result.work_cov) > 0
    works = np.tile(result.work, (draws, 1))
    moves = rng.multivariate_normal(np.zeros(free.sum()), result.work_cov[np.ix_(free, free)], draws, method="cholesky")
    # Where the data say next to nothing of a parameter, a factor of three thousand either way says enough.
    works[:, free] += np.clip(moves, -8.0, 8.0)
    return works


def _window(result, frame, horizon, as_of, rate, calendar, work=None):
    """Start and length of the horizon in operational time, and with a calendar the discount on that clock."""
    start = _ahead(as_of, frame, result.unit, "as_of")
    length = _ahead(horizon, frame, result.unit, "horizon")
    length = length if isinstance(horizon, (int, float, np.number)) else length - start
    if not length > 0 or not 0 <= start < np.inf:
        raise DataError(
            f"horizon must be positive and as_of not before the end of calibration, not {horizon!r} and {as_of!r}."
        )
    if not (result.design and result.design.calendar):
        return start, length, None
    work = result.work if work is None else work
    clocks = result.design.clocks(frame.head(1), calendar, result.unit)
    passed = clocks.passed(work[len(result.model.names) :])[0]
    today = (_end_of(frame) - calendar.index[0]).days + 1
    if today + (start + length) * clocks.per > len(passed) - 1 + 1e-9:
        raise DataError(f"The calendar ends on {calendar.index[-1]:%Y-%m-%d}, before the horizon does.")
    time = (np.arange(len(passed)) - today) / clocks.per
    begin, stop = np.interp([start, start + length], time, passed)
    now = passed[today]

    def discount(t):
        return np.exp(-rate * (np.interp(begin + t, passed, time) - start))

    return begin - now, stop - begin, discount


def _ahead(value, frame, unit, what):
    """Units of time from the end of calibration to a day, or the number itself."""
    if isinstance(value, (int, float, np.number)):
        return float(value)
    try:
        day = pd.Timestamp(day_of(what, value))
    except DataError:
        raise DataError(
            f"{what} must be a number of units of time or a date such as 2024-01-31, not {value!r}."
        ) from None
    if unit not in DAYS:
        raise DataError(f"A date as {what} needs the unit of time of the data.")
    return (day - _end_of(frame)).days / DAYS[unit]


def _end_of(frame):
    """The end of calibration, which must be the same for all customers where it matters."""
    require(frame, ["calibration_end"])
    ends = frame["calibration_end"].drop_duplicates()
    if ends.empty:
        raise DataError("There are no customers.")
    if len(ends) > 1:
        raise DataError("The customers have different calibration_end: predict them one date at a time.")
    return pd.Timestamp(ends.iloc[0])


def _finite(length):
    if not np.isfinite(length):
        raise DataError("horizon must be finite here.")
    return length


def _histories(result, data, calendar):
    require(data, ("frequency", "recency", "T"))
    frame = _as_frame(data)
    if "unit" in frame and result.unit and not (frame["unit"] == result.unit).all():
        units = ", ".join(map(repr, frame["unit"].unique()))
        raise DataError(f"The model was fitted in units of {result.unit!r}, these customers are in {units}.")
    history = tuple(frame[c].to_numpy(dtype=float) for c in ("frequency", "recency", "T"))
    for part in blocks(len(frame)):
        x, t_x, T = (column[part] for column in history)
        whole = np.isfinite(x + T) & (x >= 0) & (x == np.floor(x))
        if not (whole & (t_x >= 0) & (t_x <= T) & ((x > 0) == (t_x > 0))).all():
            raise DataError("Some customers have an impossible history: crmlab.clv.states(data) says which.")
    return frame, Histories.of(result.model, frame, result.design or Design(), calendar, result.unit)


def _as_frame(data):
    return data if isinstance(data, pd.DataFrame) else data.to_pandas()
