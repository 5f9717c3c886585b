"""How good were the predictions? Scores on a later period, beside baselines that need no model."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from ibis import _

from crmlab.clv.predict import interval
from crmlab.clv.summary import DAYS, UNITS, checked, daily_purchases, day_of, periods, summarize
from crmlab.data.errors import DataError


def compare(results, holdout, calendar=None):
    """Score models on the purchases of a hold-out period.

    Parameters
    ----------
    results : sequence of crmlab.clv.Result, or dict
        Fitted purchase models; a dict gives them names of your own.
    holdout : ibis.Table or pandas.DataFrame
        A summary with `frequency_holdout` and `T_holdout`.
    calendar : pandas.DataFrame, optional
        For models that were fitted with one.

    Returns
    -------
    pandas.DataFrame
        One row a model, then the baselines that need none: "own rate" (x/T of each customer goes on), "nobody differs"
        (everybody buys at the mean rate) and, if the summary has `frequency_last`, "last period" (everybody buys as
        often as in as long a time before). `llf`, `aic`, `bic` of the fit; `predicted` and `actual` purchases of the
        base, `bias` (their difference, share of the actual); `mae` and `rmse` per customer; `top_decile` (share of the
        actual purchases that fell to the tenth of the customers predicted highest; ties share the last places) and, if
        the summary has `amount_holdout`, `top_decile_amount` (the same of the revenue).

    Raises
    ------
    DataError
        A summary without hold-out.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> table = compare([clv.BGNBD().fit(summary), clv.MBGNBD().fit(summary)], summary)
    >>> print(table.loc["MBG/NBD", "mae"].round(4))
    0.7648
    """
    frame = _with_holdout(holdout)
    rows = {
        name: {
            "llf": result.llf,
            "aic": result.aic,
            "bic": result.bic,
            **_scores(_expected(result, frame, calendar).to_numpy(), frame),
        }
        for name, result in _named(results).items()
    }
    rows["own rate"] = _scores(_own_rate(frame).to_numpy(), frame)
    same = frame["T_holdout"] * frame["frequency"].sum() / frame["T"].sum()
    rows["nobody differs"] = _scores(same.to_numpy(), frame)
    if "frequency_last" in frame:
        rows["last period"] = _scores(frame["frequency_last"].to_numpy(dtype=float), frame)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def rolling(log, models, origins, horizon, unit="W", calendar=None, timing=False):
    """Score models from several points in time: fit what was known then, predict what came next.

    Parameters
    ----------
    log : ibis.Table, pandas.DataFrame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    models : sequence or dict
        Purchase models such as ``MBGNBD()``, or functions that make a fit from a summary, such as
        ``lambda summary: MBGNBD().fit(summary, calendar=months)``; a dict gives them names of your own.
    origins : int or sequence of str or date
        Days on which calibrations end; a number spaces as many evenly, the last one a horizon before the log's end.
    horizon : float
        Units of time that are predicted from each origin, rounded to whole days.
    unit : {"D", "W", "M", "Y"}
        Unit of time.
    calendar : pandas.DataFrame, optional
        For models that are fitted with one.
    timing : bool
        For models of regular timing.

    Returns
    -------
    pandas.DataFrame
        Indexed by `origin` and `model`, the columns of `compare`.

    Raises
    ------
    DataError
        No models or origins, origins that leave no calibration or no whole horizon, a calibration that cannot be
        fitted.

    Examples
    --------
    >>> from crmlab import clv
    >>> table = rolling("cdnow_sample", [clv.MBGNBD()], ["1997-06-30", "1997-09-30"], horizon=39)
    >>> table["mae"].xs("MBG/NBD", level="model").round(3).tolist()
    [0.92, 0.765]
    """
    table, first, last = checked(log)
    table = table.rename(date="day")
    if unit not in DAYS or not 0 < horizon < np.inf:
        raise DataError(f"A horizon of {horizon!r} {unit!r} cannot be scored: it must be positive, in D, W, M or Y.")
    days = round(horizon * DAYS[unit])
    latest = pd.Timestamp(last) - pd.Timedelta(days, "D")
    if isinstance(origins, int):
        first_day = pd.Timestamp(first)
        origins = [first_day + (latest - first_day) * i // origins for i in range(1, origins + 1)]
    origins = [pd.Timestamp(day_of("origin", origin)) for origin in origins]
    if not models or not origins:
        raise DataError("There is nothing to score: rolling() needs at least one model and one origin.")
    if bad := [str(origin.date()) for origin in origins if not pd.Timestamp(first) < origin <= latest]:
        raise DataError(
            f"Origins must lie after the first purchase ({first}) and {days:,} days or more before the log's end "
            f"({last}), that is, not after {latest.date()}: not {', '.join(bad)}."
        )
    scores = {}
    for origin in origins:
        end = origin + pd.Timedelta(days, "D")
        summary = summarize(table, unit, origin, end, timing=timing, calendar=calendar).to_pandas()
        try:
            scores[origin] = compare(_fitted(models, summary), summary, calendar)
        except DataError as error:
            raise DataError(f"Origin {origin.date()}: {error}") from error
    return pd.concat(scores, names=["origin"])


def coverage(result, holdout, levels=(0.5, 0.8, 0.9, 0.95), draws=1000, seed=0, calendar=None):
    """Count how often prediction intervals caught what happened.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    holdout : ibis.Table or pandas.DataFrame
        A summary with `frequency_holdout` and `T_holdout`.
    levels : sequence of float
        Levels of the intervals.
    draws : int
        Number of simulated futures that the intervals come from.
    seed : int
        Seed of the random numbers.
    calendar : pandas.DataFrame, optional
        For a model that was fitted with one.

    Returns
    -------
    pandas.DataFrame
        Indexed by level. `caught`: share of the customers whose purchases lie in their interval, `nominal`: share that
        the simulation itself puts there; `caught_repeaters` and `nominal_repeaters`: the same among those with repeat
        purchases in the calibration; `caught_randomised`: share when ties are split at random. Then the total of the
        base: `total_lower`, `total_upper`, `total_expected` (mean of the futures), `total_actual`, `total_caught`.

    Raises
    ------
    DataError
        A summary without hold-out, or levels outside 0 to 1.

    Notes
    -----
    Purchases are whole numbers, so that an interval at level 0.9 holds more than 0.9: for a customer who buys nothing
    with probability 0.95 it is 0 to 0. `caught` is therefore to be compared with `nominal` and not with the level;
    `caught_randomised` with the level. It counts the customers whose randomised probability integral transform,
    :math:`P(X < x) + V P(X = x)` with a uniform :math:`V`, lies within half the level of 1/2: it is uniform if the
    model is right (Czado, Gneiting and Held 2009, Biometrics 65(4), 1254-1261).

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> table = coverage(clv.MBGNBD().fit(summary), summary, levels=[0.9], draws=200)
    >>> (table[["nominal", "caught"]] > 0.9).to_numpy().tolist()
    [[True, True]]
    """
    if bad := [level for level in levels if not 0 < level < 1]:
        raise DataError(f"Levels must lie between 0 and 1 (0.9 means 90 %), not {', '.join(map(repr, bad))}.")
    frame = _with_holdout(holdout)
    actual, again = frame["frequency_holdout"].to_numpy(), frame["frequency"].to_numpy() > 0
    horizon = float(frame["T_holdout"].iloc[0])
    futures, _ = result.simulate(frame, horizon=horizon, draws=draws, seed=seed, **_options(calendar))
    ties = np.random.default_rng(seed).random(len(actual)) * (futures == actual).mean(axis=0)
    pit = (futures < actual).mean(axis=0) + ties
    total = futures.sum(axis=1)
    rows = {}
    for level in levels:
        lower, upper = interval(futures, level)
        caught = (lower <= actual) & (actual <= upper)
        nominal = ((lower <= futures) & (futures <= upper)).mean(axis=0)
        total_lower, total_upper = interval(total, level)
        rows[level] = {
            "nominal": nominal.mean(),
            "caught": caught.mean(),
            "nominal_repeaters": nominal[again].mean(),
            "caught_repeaters": caught[again].mean(),
            "caught_randomised": (np.abs(pit - 0.5) <= level / 2).mean(),
            "total_lower": total_lower,
            "total_upper": total_upper,
            "total_expected": total.mean(),
            "total_actual": actual.sum(),
            "total_caught": bool(total_lower <= actual.sum() <= total_upper),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("level")


def tracking(result, log, calibration_end, observation_end=None, calendar=None):
    r"""Set the repeat purchases of each period beside those that a model expects.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model without covariates of customers; its unit is the length of a period.
    log : ibis.Table, pandas.DataFrame, str or path
        The transaction log of the fit and what came after it, or anything `crmlab.data.load` accepts.
    calibration_end : str or date
        Last day that the model has seen.
    observation_end : str or date, optional
        Last day of the log that is used; its last day by default.
    calendar : pandas.DataFrame, optional
        For a model that was fitted with one.

    Returns
    -------
    pandas.DataFrame
        Indexed by period, from 1: `until` (its last day), `actual` and `expected` repeat purchases of everybody who
        first bought by the end of calibration, `actual_cumulative`, `expected_cumulative`, and `in_calibration` (the
        period was over when calibration ended). A last period that is not over is left out.

    Raises
    ------
    DataError
        A fit without unit of time, a log that cannot be used, or one shorter than a period.

    Notes
    -----
    Periods are counted from the log's first day; those of months and years end with the day that completes them. With
    :math:`n_d` customers who first bought on day :math:`d`, the model expects :math:`\sum_d n_d E[X(t - d)]` repeat
    purchases until the end of day :math:`t`: the figures of Fader, Hardie and Lee (2005), Marketing Science 24(2),
    275-284.

    Examples
    --------
    >>> from crmlab import clv
    >>> fit = clv.BGNBD().fit(clv.summarize("cdnow_sample", calibration_end="1997-09-30"))
    >>> tracking(fit, "cdnow_sample", "1997-09-30").loc[[24, 25], ["actual", "expected"]].round(1)
            actual  expected
    period
    24          56      69.7
    25          99      68.2
    """
    if result.unit not in DAYS:
        raise DataError(
            "The fit carries no unit of time: fit it to a summary of summarize(), or name the unit in fit()."
        )
    log, first, last = checked(log)
    end, observed = periods(first, last, calibration_end, observation_end)
    per = DAYS[result.unit]
    ends = np.ceil(np.arange(1, ((observed - first).days + 1) // per + 1) * per).astype(int)
    if len(ends) == 0:
        raise DataError(f"From {first} to {observed} no period is over: the fit counts in {UNITS[result.unit]}.")
    daily = daily_purchases(log, observed)
    customers = daily.group_by("customer_id").aggregate(first=_.day.min()).filter(_.first <= end)
    begun = _by_day(customers.group_by(day="first").aggregate(n=_.count()), first)
    bought = _by_day(daily.semi_join(customers, "customer_id").group_by("day").aggregate(n=_.count()), first)
    actual = bought.sub(begun, fill_value=0).groupby(np.searchsorted(ends, bought.index, side="right")).sum()
    table = pd.DataFrame(
        {
            "until": pd.Timestamp(first) + pd.to_timedelta(ends - 1, unit="D"),
            "actual": actual.reindex(range(len(ends)), fill_value=0).to_numpy(dtype=int),
            "expected": np.diff(_expected_until(result, begun, ends, first, calendar), prepend=0.0),
        },
        index=pd.RangeIndex(1, len(ends) + 1, name="period"),
    )
    sums = table[["actual", "expected"]].cumsum().add_suffix("_cumulative")
    return table.join(sums).assign(in_calibration=table["until"] <= pd.Timestamp(end))


def _by_day(counts, first):
    """Counts of the engine by day, the days numbered from the first one of the log."""
    counts = counts.to_pandas()
    return counts["n"].set_axis((pd.to_datetime(counts["day"]) - pd.Timestamp(first)).dt.days).sort_index()


def _expected_until(result, begun, ends, first, calendar):
    """Repeat purchases until the end of each period of customers who first bought on known days."""
    period, day = np.nonzero(ends[:, None] > begun.index.to_numpy())
    age = ends[period] - begun.index.to_numpy()[day]
    since = pd.Timestamp(first) + pd.to_timedelta(begun.index, unit="D")
    newcomers = pd.DataFrame({"frequency": 0, "recency": 0.0, "T": 0.0, "unit": result.unit, "calibration_end": since})
    expected = np.zeros(len(age))
    # Whoever has been there as long expects the same, unless a calendar tells the days apart.
    alike = age if calendar is None else np.arange(len(age))
    for which, one in zip(*np.unique(alike, return_index=True), strict=True):
        newcomer, horizon = newcomers.iloc[[day[one]]], age[one] / DAYS[result.unit]
        ahead = result.predict(newcomer, horizon=horizon, annual_discount=0.0, **_options(calendar))
        expected[alike == which] = ahead["expected_purchases"].item()
    return np.bincount(period, expected * begun.to_numpy()[day], minlength=len(ends))


def by_frequency(result, holdout, last=7, calendar=None):
    """Set expected beside actual purchases of the hold-out, by frequency in the calibration.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    holdout : ibis.Table or pandas.DataFrame
        A summary with `frequency_holdout` and `T_holdout`.
    last : int
        Frequencies from here on are one group.
    calendar : pandas.DataFrame, optional
        For a model that was fitted with one.

    Returns
    -------
    pandas.DataFrame
        Indexed by frequency ("0", "1", …, "7+"): `customers`, `actual` (mean purchases), `lower` and `upper` (95 %
        normal interval of that mean), `expected` (mean of the model), `own_rate` (mean if everybody kept the own pace).

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> by_frequency(clv.BGNBD().fit(summary), summary)["expected"].round(3).tolist()
    [0.225, 0.523, 1.044, 1.52, 2.164, 2.654, 3.504, 6.157]
    """
    frame = _with_holdout(holdout)
    group = frame["frequency"].clip(upper=last)
    actual = frame.groupby(group)["frequency_holdout"].agg(customers="size", actual="mean", sd="std")
    half = 1.96 * actual["sd"] / np.sqrt(actual["customers"])
    table = actual[["customers", "actual"]].assign(lower=actual["actual"] - half, upper=actual["actual"] + half)
    table["expected"] = _expected(result, frame, calendar).reset_index(drop=True).groupby(group).mean()
    table["own_rate"] = _own_rate(frame).groupby(group).mean()
    table.index = [f"{x}+" if x == last else str(x) for x in table.index]
    return table.rename_axis("frequency")


def _fitted(models, summary):
    if isinstance(models, Mapping):
        return dict(zip(models, _fitted(models.values(), summary), strict=True))
    return [getattr(model, "fit", model)(summary) for model in models]


def _named(results):
    """Results by name: their title, numbered where it repeats."""
    if isinstance(results, Mapping):
        return results
    results = list(results)
    titles = [result.model.title for result in results]
    earlier = [titles[:i].count(title) for i, title in enumerate(titles)]
    names = [f"{title} ({n + 1})" if n else title for title, n in zip(titles, earlier, strict=True)]
    return dict(zip(names, results, strict=True))


def _options(calendar):
    return {} if calendar is None else {"calendar": calendar}


def _expected(result, frame, calendar):
    """Purchases that the model expects in the hold-out; undiscounted, because they are set beside real ones."""
    horizon = float(frame["T_holdout"].iloc[0])
    return result.predict(frame, horizon=horizon, annual_discount=0.0, **_options(calendar))["expected_purchases"]


def _own_rate(frame):
    """Purchases in the hold-out if everybody kept the own pace; none for who came on the last day of calibration."""
    return (frame["frequency"] / frame["T"].where(frame["T"] > 0) * frame["T_holdout"]).fillna(0.0)


def _scores(expected, frame):
    actual = frame["frequency_holdout"].to_numpy()
    total = actual.sum()
    scores = {
        "predicted": expected.sum(),
        "actual": total,
        "bias": expected.sum() / total - 1 if total else np.nan,
        "mae": np.abs(expected - actual).mean(),
        "rmse": np.sqrt(np.mean((expected - actual) ** 2)),
        "top_decile": _top_decile(expected, actual),
    }
    if "amount_holdout" in frame:
        scores["top_decile_amount"] = _top_decile(expected, frame["amount_holdout"].to_numpy())
    return scores


def _top_decile(expected, amount):
    """Share of an amount that fell to the tenth predicted highest; whoever ties for the last places shares them."""
    if not amount.sum() > 0:
        return np.nan
    places = max(1, round(len(expected) / 10))
    edge = np.sort(expected)[-places]
    above, tied = expected > edge, expected == edge
    return (amount[above].sum() + amount[tied].mean() * (places - above.sum())) / amount.sum()


def _with_holdout(summary):
    frame = summary if isinstance(summary, pd.DataFrame) else summary.to_pandas()
    if "frequency_holdout" not in frame or len(frame) == 0:
        raise DataError(
            "There is no hold-out in this summary: give summarize() a calibration_end before the log's end."
        )
    return frame.reset_index(drop=True)
