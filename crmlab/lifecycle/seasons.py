"""Season: how much more is bought in December, and who buys often once that is taken out."""

import datetime
import math

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy.special import ndtri

from crmlab.data.dialects import number
from crmlab.data.errors import DataError
from crmlab.lifecycle.logs import checked

WARM_UP = 28
"""Days at the beginning without a season: whoever is known then buys often, or would not be known yet."""


def season(log, panel=False, observation_end=None, level=0.95):
    r"""Return how busy each month of the year is, by a Poisson regression with month dummies.

    On day :math:`d` in month :math:`m(d)`, :math:`K_d` known customers (who bought before that day) make :math:`y_d`
    repeat purchases (customers who buy that day and have bought before); the first four weeks of the log are left out:

    .. math:: y_d \sim \text{Poisson}(K_d\, e^{\beta_{m(d)}}), \qquad
        \text{index}_m = \frac{e^{\beta_m}}{\frac{1}{M}\sum_j e^{\beta_j}}

    so that 1 is the mean of the :math:`M` months that the log has. The days vary more than Poisson counts do (weekdays,
    holidays, promotions): the dispersion is Pearson's :math:`\chi^2` over its degrees of freedom, and standard errors
    are wider by its root.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    panel : bool
        Whether all customers could buy from the first day on (members, a household panel): then all of them count on
        all days, and their first purchases too.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `month` (1 to 12, those of the log): `index`, `low`, `high`, `purchases`, `customer_days`,
        `years` (how many different years the month is seen in) and `dispersion`, the same for all.

    Raises
    ------
    DataError
        Repeat purchases in fewer than two months of the year, missing columns, rows without customer or date, no rows.

    Notes
    -----
    With one year, season cannot be told from growth or decay: see `years`. Where customers are a closed cohort that
    fades, such as `cdnow`, late months look quiet. McCullagh and Nelder (1989), Generalized Linear Models, section 6.2.

    Examples
    --------
    >>> season("complete_journey", panel=True).loc[[1, 12], "index"].round(2).tolist()
    [0.97, 1.0]
    """
    import statsmodels.api as sm

    log, first, last = checked(log, observation_end=observation_end)
    daily = log.select("customer_id", "day").distinct()
    firsts = daily.group_by("customer_id").aggregate(day=_.day.min()).group_by("day").aggregate(arrived=_.count())
    bought = daily.group_by("day").aggregate(bought=_.count())
    days = pd.DataFrame(index=pd.date_range(first, last, name="day"))
    for table in (firsts, bought):
        found = table.to_pandas()
        days = days.join(found.set_index(pd.DatetimeIndex(found.pop("day"))))
    days = days.fillna(0.0)
    if panel:
        days = days.assign(y=days["bought"], known=days["arrived"].sum())
    else:
        days = days.assign(y=days["bought"] - days["arrived"], known=days["arrived"].cumsum().shift())
        days = days.iloc[WARM_UP:]
    days = days.assign(month=lambda d: d.index.month, year=lambda d: d.index.year)
    table = days.groupby("month").agg(
        purchases=("y", "sum"), customer_days=("known", "sum"), years=("year", "nunique"), days=("y", "size")
    )
    # A month without any purchase has no finite coefficient, one day of it no spread.
    table = table[(table["purchases"] > 0) & (table["days"] > 1)].drop(columns="days")
    if len(table) < 2:
        raise DataError(
            f"A season needs repeat purchases in two months of the year at least; between {first} and {last} there are "
            f"{len(table)}."
        )
    days = days[days["month"].isin(table.index)]
    dummies = pd.get_dummies(days["month"]).astype(float)
    model = sm.GLM(days["y"], dummies, family=sm.families.Poisson(), exposure=days["known"])
    fit = model.fit(scale="X2")
    ratio = np.exp(fit.params.to_numpy())
    index = ratio / ratio.mean()
    # Delta method for the log of the index: its gradient is the unit matrix less the month's weight in the mean.
    gradient = np.eye(len(index)) - index / len(index)
    spread = np.sqrt(np.diag(gradient @ fit.cov_params().to_numpy() @ gradient.T))
    factor = np.exp(ndtri((1 + level) / 2) * spread)
    found = table.assign(index=index, low=index / factor, high=index * factor, dispersion=float(fit.scale))
    whole = found.astype({"purchases": int, "customer_days": int})
    return whole[["index", "low", "high", "purchases", "customer_days", "years", "dispersion"]]


def buying_rates(log, seasons=None, panel=False, min_days=90, observation_end=None):
    r"""Return how often each customer buys in an average month, with the season taken out.

    A customer with :math:`x` repeat purchase days since the first purchase on day :math:`d_0` has the rate
    :math:`x / \sum_{d > d_0} \text{index}_{m(d)}` per average day; 30 times that is shown. A purchase in a busy month
    so counts for less, and who has lived through more of the busy months must have bought more.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    seasons : pandas.DataFrame, optional
        Of `season`; by default that of this log. Months that it lacks count as average.
    panel : bool
        Whether all customers could buy from the first day on: then :math:`d_0` is the day before the log begins.
    min_days : int
        Customers who first bought less long before the end have no rate: a rate from a few days is noise.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.

    Returns
    -------
    ibis.Table
        One row a customer: `customer_id`, `purchases` (repeat purchase days), `average_days` (sum of the index over the
        days observed), `rate` (per 30 average days; missing below `min_days`).

    Raises
    ------
    DataError
        As `season`.

    Examples
    --------
    >>> float(buying_rates("complete_journey", panel=True).rate.quantile(0.5).execute())
    3.2...
    """
    seasons = season(log, panel, observation_end) if seasons is None else seasons
    log, first, last = checked(log, observation_end=observation_end)
    days = pd.date_range(first, last)
    index = pd.Series(days.month.map(seasons["index"]), dtype=float).fillna(1.0).to_numpy()
    after = index[::-1].cumsum()[::-1] - index
    later = ibis.memtable(pd.DataFrame({"first": days, "average_days": after})).mutate(first=_["first"].cast("date"))
    each = log.group_by("customer_id").aggregate(first=_.day.min(), purchases=_.day.nunique())
    if panel:
        each = each.mutate(average_days=number(index.sum()), since=ibis.literal(len(days)))
    else:
        each = each.join(later, "first").mutate(purchases=_.purchases - 1)
        each = each.mutate(since=ibis.literal(last).delta(each["first"], unit="day"))
    rate = ibis.ifelse(each.since >= max(min_days, 1), 30 * each.purchases / each.average_days, None)
    return each.select("customer_id", "purchases", "average_days", rate=rate)


def frequency_thresholds(
    log, rare=0.2, frequent=0.8, panel=False, min_days=90, n_boot=199, seed=0, observation_end=None, level=0.95
):
    """Return from how many purchases on a customer buys often, and up to how many rarely, in each month of the year.

    The thresholds are quantiles of the customers' rates with the season taken out (`buying_rates`), times the season's
    index: the same customer is "frequent" with three purchases in a quiet month and with four in December.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    rare, frequent : float
        Share of the customers below the lower and below the upper threshold.
    panel : bool
        Whether all customers could buy from the first day on.
    min_days : int
        Customers who first bought less long before the end are left out.
    n_boot : int
        Bootstrap samples of customers for the intervals (percentiles), which take the season as known.
    seed : int
        Seed of the bootstrap.
    observation_end : str or date, optional
        Last day of observation; by default the last day of the log.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `month`: `index` of the season; `rare` and `frequent`, the thresholds in purchase days per 30 days of
        that month, with `rare_low`, `rare_high`, `frequent_low`, `frequent_high`; `frequent_from` (whole purchase days
        in that month that are at least the threshold).

    Raises
    ------
    DataError
        Thresholds out of order, nobody known for long enough, and as `season`.

    Examples
    --------
    >>> frequency_thresholds("complete_journey", panel=True, n_boot=19).loc[[2, 12], "frequent_from"].tolist()
    [7, 7]
    """
    if not 0 < rare < frequent < 1:
        raise DataError(f"rare={rare} and frequent={frequent} must be shares with 0 < rare < frequent < 1.")
    seasons = season(log, panel, observation_end, level)
    rates = (
        buying_rates(log, seasons, panel, min_days, observation_end)
        .filter(_.rate.notnull())
        .rate.to_pandas()
        .to_numpy()
    )
    if not len(rates):
        raise DataError(f"Nobody first bought {min_days} days or more before the end of observation: lower min_days.")
    rates = np.sort(rates)
    shares = [rare, frequent]
    rng = np.random.default_rng(seed)
    sampled = [np.quantile(rates[rng.integers(len(rates), size=len(rates))], shares) for _sample in range(n_boot)]
    table = seasons[["index"]].copy()
    for i, name in enumerate(("rare", "frequent")):
        table[name] = np.quantile(rates, shares[i]) * table["index"]
        for sign, end in ((-1, "low"), (1, "high")):
            cut = np.quantile([sample[i] for sample in sampled], (1 + sign * level) / 2) if sampled else np.nan
            table[f"{name}_{end}"] = cut * table["index"]
    lengths = [(datetime.date(2001 + month // 12, month % 12 + 1, 1) - datetime.date(2001, month, 1)).days
               for month in table.index]  # fmt: skip
    needed = table["frequent"] * lengths / 30
    return table.assign(frequent_from=[max(math.ceil(round(k, 9)), 1) for k in needed])
