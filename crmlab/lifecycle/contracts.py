"""Tables of contracts: when each began, how long it ran and how it ended; and a simulated one whose truth is known."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expi

from crmlab.data.errors import DataError
from crmlab.data.sets import catalogue, names
from crmlab.data.sources import open_source
from crmlab.lifecycle.durations import complete, lacking
from crmlab.lifecycle.logs import day_of

MONTH = 30.4375
"""Days in a month, on average."""
STILL, CANCELLED, OTHER = "under contract", "cancelled", "moved or unpaid"
FIRST, LAST = pd.Timestamp("2022-01-01"), pd.Timestamp("2024-12-31")
FADES = 6.0
"""Months in which the extra hazard of the simulated promotion falls to 1/e of its logarithm."""
CANCELS = {
    "plan[T.yearly]": -0.9,
    "channel[T.promotion]": np.log(3.0),
    "channel[T.web]": 0.2,
    "price": 0.03,
    "complaints": 0.35,
    "age": -0.015,
}
ENDS = {"price": 0.01, "age": -0.02}
"""Logarithms of the simulated hazard ratios of cancelling, and of ending for the other reason."""

# What the columns of the named tables mean; `late` are those that tell how the contract ended.
NAMED = {
    "simulated": {
        "duration": "months",
        "cause": "end",
        "still": STILL,
        "target": CANCELLED,
        "start": "start",
        "days": MONTH,
        "group": "plan",
        "late": "retention_call",
        "caution": "The customers are simulated.",
    },
    "telco_churn": {
        "duration": "tenure",
        "event": "Churn",
        "days": MONTH,
        "group": "Contract",
        "terms": "Contract,InternetService,PaymentMethod,PaperlessBilling,Partner,SeniorCitizen,MonthlyCharges",
        "aside": "TotalCharges",
        "caution": "The company and its customers are invented. The table is a cross-section: who left before its last "
        "month is not in it, so that its survival curve is too high.",
    },
    "iranian_churn": {
        "duration": "Subscription_Length",
        "event": "Churn",
        "days": MONTH,
        "group": "Complains",
        "terms": "Complains,Call_Failure,Charge_Amount,Frequency_of_use,Tariff_Plan,Age_Group",
        "late": "Status",
        "aside": "Age",
        "caution": "The table is a cross-section of one year without dates: who left before it began is not in it, so "
        "that its survival curve is too high.",
    },
    "us_life_lapse": {
        "duration": "duration",
        "cause": "cause",
        "still": "in-force",
        "target": "surrender",
        "start": "issue_date",
        "unit": "quarters",
        "days": 91.0,
        "end": "2010-05-12",
        "group": "premium_frequency",
        "late": "stock_index",
        "aside": "surrender,death,other",
        "caution": "A quarter has 91 days here. Policies in force were last seen on 12 May 2010; 128 ends are dated up "
        "to seven weeks later and count as in force that day.",
    },
}


class Truth(NamedTuple):
    """What a simulated table of contracts was made with.

    Attributes
    ----------
    ratios : pandas.DataFrame
        By term of a Cox regression on cancelling: the hazard ratio `at_first` and `after_a_year`.
    latent : pandas.DataFrame
        By customer: the `liability` to cancel that no column of the table shows, and the `months` and the `cause` with
        which the contract would have ended had it been watched to its end.
    """

    ratios: pd.DataFrame
    latent: pd.DataFrame


class Contracts(NamedTuple):
    """A table of contracts whose columns have one meaning.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a contract: `duration`; `event`, 1 if it ended; its `cause`; `left`, 1 if it ended by the `target`; its
        `start` where it is known; features.
    title : str
        What it is, with the word "simulated" or "fictional" where it is.
    made_up : str
        ``"simulated"`` or ``"fictional"``; empty for recorded data.
    unit : str
        Of the durations.
    days : float
        Days in one unit.
    end : pandas.Timestamp or None
        Last day on which contracts were seen; None without dates.
    target, still : str
        The way to leave that is looked at, and the word for contracts that have not ended.
    group : str
        Column by which survival is compared.
    features, terms, late : list of str
        Columns for predictions, those for a Cox regression, and those that tell how the contract ended.
    caution : str
        What a reader must know.
    truth : Truth or None
        Of a simulated table.
    """

    table: pd.DataFrame
    title: str
    made_up: str
    unit: str
    days: float
    end: pd.Timestamp | None
    target: str
    still: str
    group: str
    features: list
    terms: list
    late: list
    caution: str
    truth: Truth | None


def simulate_contracts(n=6000, seed=0, heterogeneity=0.5):
    r"""Simulate customers under contract, and tell the truth about them.

    Contracts begin evenly over the days of 2022 to 2024 and are watched until 2024-12-31. Each customer has a
    `plan` (monthly 60 %, yearly 40 %), a `channel` (branch 45 %, web 30 %, promotion 25 %), a `price` a month (normal
    around 36, standard deviation 8, within 15 to 60 in whole units, less 4 for a yearly plan), `complaints` in the
    trial month before the contract (Poisson, mean 0.5) and an `age` (normal around 45, standard deviation 14, within
    18 to 85), all known when the contract begins. With :math:`t` in months the hazard of cancelling is

    .. math:: h_1(t) = 0.02\, u\, \exp\bigl(-0.9\, [\text{yearly}] + 0.2\, [\text{web}]
              + \log 3 \cdot e^{-t/6}\, [\text{promotion}]
              + 0.03\, (\text{price} - 36) + 0.35\, \text{complaints} - 0.015\, (\text{age} - 45)\bigr)

    and that of moving away or failing to pay is
    :math:`h_2(t) = 0.006 \exp(0.01\,(\text{price} - 36) - 0.02\,(\text{age} - 45))`. The liability :math:`u` is gamma
    with mean 1 and variance `heterogeneity`, a customer's own and in no column. So the hazard of one customer never
    changes, but for that of a promotion, which is three times as high at first, 1.8 times half... as the months go by.
    The `retention_call` is the day of a call: 98 % of those who cancel are called within 20 days before their contract
    ends, because they have given notice; 3 % of all customers are called on some day for other reasons.

    Parameters
    ----------
    n : int
        Number of customers.
    seed : int
        Of the random numbers.
    heterogeneity : float
        Variance of the liability; 0 makes all customers with the same columns alike.

    Returns
    -------
    table : pandas.DataFrame
        One row a customer: `customer_id`, `start`, `months` until the end of the contract or of the watch, `end`
        (cancelled, moved or unpaid, under contract), the columns above.
    truth : Truth
        Hazard ratios, and what nobody could have seen.

    Raises
    ------
    DataError
        No customers, or a negative variance.

    Examples
    --------
    >>> table, truth = simulate_contracts(1000)
    >>> truth.ratios.loc["plan[T.yearly]", "at_first"].round(3).item()
    0.407
    """
    if n < 1 or heterogeneity < 0:
        raise DataError(f"n must be at least 1 and heterogeneity at least 0, not {n!r} and {heterogeneity!r}.")
    rng = np.random.default_rng(seed)
    watched = (LAST - FIRST).days
    start = rng.integers(0, watched, n)
    yearly = rng.random(n) < 0.4
    channel = rng.choice(["branch", "promotion", "web"], n, p=[0.45, 0.25, 0.3])
    table = pd.DataFrame(
        {
            "customer_id": np.arange(1, n + 1),
            "start": FIRST + pd.to_timedelta(start, "D"),
            "plan": np.where(yearly, "yearly", "monthly"),
            "channel": channel,
            "price": rng.normal(36 - 4 * yearly, 8).round().clip(15, 60),
            "complaints": rng.poisson(0.5, n),
            "age": rng.normal(45, 14, n).round().clip(18, 85),
        }
    )
    price, age = table["price"].to_numpy() - 36, table["age"].to_numpy() - 45
    liability = rng.gamma(1 / heterogeneity, heterogeneity, n) if heterogeneity else np.ones(n)
    score = CANCELS["plan[T.yearly]"] * yearly + CANCELS["channel[T.web]"] * (channel == "web")
    score += CANCELS["price"] * price + CANCELS["complaints"] * table["complaints"] + CANCELS["age"] * age
    needed = rng.exponential(size=n) / (0.02 * np.maximum(liability, 1e-12) * np.exp(score))
    cancels = np.where(channel == "promotion", _faded(needed), needed)
    other = rng.exponential(size=n) / (0.006 * np.exp(ENDS["price"] * price + ENDS["age"] * age))
    # Whole days, so that customers may leave on the same one.
    days = np.floor(np.minimum(np.minimum(cancels, other) * MONTH, 1e6)).astype(int) + 1
    cause = np.where(cancels <= other, CANCELLED, OTHER)
    seen = start + days <= watched
    table["months"] = np.where(seen, days, watched - start) / MONTH
    table["end"] = np.where(seen, cause, STILL)
    after_notice = (cause == CANCELLED) & (rng.random(n) < 0.98)
    called = np.where(after_notice, start + np.maximum(days - rng.integers(0, 21, n), 0), np.iinfo(np.int32).max)
    chance = rng.random(n) < 0.03
    called = np.where(chance & ~after_notice, start + (rng.random(n) * np.minimum(days, watched)).astype(int), called)
    known = pd.Series(FIRST + pd.to_timedelta(np.minimum(called, watched), "D"))
    table["retention_call"] = known.where(called <= watched)
    ratios = pd.DataFrame({"at_first": np.exp(pd.Series(CANCELS))}).rename_axis("term")
    ratios["after_a_year"] = ratios["at_first"].where(
        ratios.index != "channel[T.promotion]", ratios["at_first"] ** np.exp(-12 / FADES)
    )
    latent = pd.DataFrame({"liability": liability, "months": days / MONTH, "cause": cause})
    return table, Truth(ratios, latent.set_index(table["customer_id"]))


def read_contracts(source, **columns):
    """Read a table of contracts and give its columns one meaning.

    Parameters
    ----------
    source : str, path or frame
        ``"simulated"``, a customer table of the catalogue, or a table of your own (see `crmlab.data.load` for what can
        be read).
    **columns : str
        What the columns mean; names of the catalogue have defaults. `duration`, the time from start to end or to the
        last look; `event`, 1, true or yes if the contract ended; or `cause`, how it ended, with `still`, the word for
        not at all, and `target`, the way to leave that is looked at (the most frequent one by default). Optional:
        `start`, the day it began; `end`, the last day on which contracts were seen (by default that of the last one
        that has not ended; later ends count as not yet); `unit` and the number of `days` in it (months); `group`, by
        which survival is compared; with commas between them `features`, `terms` of the Cox regression, `late` columns
        that tell how it ended, and those to leave `aside`.

    Returns
    -------
    Contracts
        The table and what its columns mean.

    Raises
    ------
    DataError
        A source or column that is not there, gaps, durations that are no numbers, an end that is not understood.

    Examples
    --------
    >>> found = read_contracts("simulated")
    >>> found.table["cause"].value_counts().to_dict()
    {'under contract': 4007, 'cancelled': 1516, 'moved or unpaid': 477}
    """
    known = isinstance(source, str) and source in NAMED
    meaning = {"unit": "months", "days": MONTH, "caution": "", **(NAMED[source] if known else {}), **columns}
    if unknown := set(columns) - _MEANINGS:
        raise DataError(
            f"{', '.join(sorted(unknown))} is no meaning of a column; there are {', '.join(sorted(_MEANINGS))}."
        )
    truth = None
    if known and source == "simulated":
        raw, truth = simulate_contracts()
    else:
        raw = open_source(source).table.to_pandas()
    raw = raw.rename(columns=lambda name: re.sub(r"\W+", "_", str(name).strip()))
    if "duration" not in meaning or not {"event", "cause"} & set(meaning):
        raise DataError(
            "Which columns say how long a contract ran and whether it ended? For example duration=months, event=left; "
            f"the table has {', '.join(raw.columns)}."
        )
    lists = {k: [c.strip() for c in meaning.get(k, "").split(",") if c.strip()] for k in _LISTS}
    own = [meaning[k] for k in ("duration", "event", "cause", "start", "group") if k in meaning]
    lacking(raw, [*own, *(c for each in lists.values() for c in each)])
    table = _canonical(raw, meaning)
    if "start" in table and "end" in meaning:
        table = _closed(table, meaning)
    taken = {*own, *lists["late"], *lists["aside"], "customer_id", "customerID"} - {meaning.get("group")}
    features = lists["features"] or [c for c in raw.columns if c not in taken]
    lists["features"], lists["terms"] = features, lists["terms"] or features
    wanted = dict.fromkeys([*features, *lists["terms"], *([meaning["group"]] if "group" in meaning else [])])
    for name in [*wanted, *(c for c in lists["late"] if c not in wanted)]:
        if name in _OURS:
            raise DataError(f"Rename column {name!r} of the table: that word has a meaning of its own here.")
        table[name] = _typed(raw[name])
    complete(table.drop(columns=[c for c in table if pd.api.types.is_datetime64_any_dtype(table[c])]))
    if "customer_id" in raw:
        table.index = pd.Index(raw["customer_id"], name="customer_id")
    ended = table.loc[table["event"] == 1, "cause"]
    target = meaning.get("target") or (ended.mode()[0] if len(ended) else "left")
    table.insert(3, "left", (table["cause"] == target).astype(int))
    end = pd.Timestamp(meaning["end"]) if "start" in table and "end" in meaning else None
    if "start" in table and end is None:
        open_ends = _ends(table, float(meaning["days"]))
        end = (open_ends[table["event"] == 0] if (table["event"] == 0).any() else open_ends).max()
    facts = catalogue().loc[source] if isinstance(source, str) and source in names() else {}
    made_up = "simulated" if truth else facts["reality"] if facts.get("reality") in ("simulated", "fictional") else ""
    title = "Simulated contracts" if truth else facts.get("title", "Contracts")
    return Contracts(
        table=table,
        title=title,
        made_up=made_up,
        unit=meaning["unit"],
        days=float(meaning["days"]),
        end=end,
        target=target,
        still=meaning.get("still", "still there"),
        group=meaning.get("group") or features[0],
        features=features,
        terms=lists["terms"],
        late=lists["late"],
        caution=meaning["caution"],
        truth=truth,
    )


def snapshots(contracts, days, horizon):
    """Look at the contracts from given days: what was known of those that ran, and did they end soon after?

    Parameters
    ----------
    contracts : Contracts
        With dates.
    days : sequence of str or date
        When.
    horizon : int
        Days to look ahead.

    Returns
    -------
    pandas.DataFrame
        One row a contract that ran on a `day`: `tenure` in the unit of the durations; the features and the late
        columns, dates among them as 1 or 0 (had it happened: by that day for a feature, by the end of the horizon for
        a late column, as a table drawn then would show it); and `left`, 1 if it ended by the target within the
        horizon. Who ended in another way has 0.

    Raises
    ------
    DataError
        A table without dates, a horizon that is not observed, a day on which no contract ran.

    Examples
    --------
    >>> table = snapshots(read_contracts("simulated"), ["2024-07-01"], horizon=182)
    >>> len(table), int(table["left"].sum())
    (3490, 307)
    """
    if contracts.end is None:
        raise DataError("The table has no dates: nobody can say what was known on a day.")
    parts, table = [], contracts.table
    ends = _ends(table, contracts.days)
    for day in (pd.Timestamp(day_of("day", day)) for day in days):
        until = day + pd.Timedelta(days=horizon)
        runs = (table["start"] <= day) & (ends > day)
        if not horizon >= 1 or until > contracts.end or not runs.any():
            raise DataError(
                f"On {day:%Y-%m-%d} {runs.sum():,} contracts ran, and {horizon} days later must not lie after "
                f"{contracts.end:%Y-%m-%d}, the last day that was seen: choose an earlier day or a shorter horizon."
            )
        part = table.loc[runs, [*contracts.features, *contracts.late]].copy()
        for name in part:
            if pd.api.types.is_datetime64_any_dtype(part[name]):
                part[name] = (part[name] <= (until if name in contracts.late else day)).astype(int)
        part.insert(0, "day", day)
        part.insert(1, "tenure", (day - table.loc[runs, "start"]).dt.days / contracts.days)
        part["left"] = ((table.loc[runs, "left"] == 1) & (ends[runs] <= until)).astype(int)
        parts.append(part)
    return pd.concat(parts)


def halves(contracts):
    """Divide a table without dates into two halves, rows that are alike always on the same side.

    Parameters
    ----------
    contracts : Contracts
        With or without dates.

    Returns
    -------
    train, test : pandas.DataFrame
        `tenure`, features, late columns and `left`. Which half a row falls into depends on its content alone.

    Raises
    ------
    DataError
        Fewer than two different rows.

    Examples
    --------
    >>> train, test = halves(read_contracts("simulated"))
    >>> len(train) + len(test)
    6000
    """
    table = contracts.table[["duration", *contracts.features, *contracts.late, "left"]].rename(
        columns={"duration": "tenure"}
    )
    for name in table:
        if pd.api.types.is_datetime64_any_dtype(table[name]):
            table[name] = table[name].notna().astype(int)
    # As one text, because the same values may have different types in different versions of pandas.
    text = table.astype(str).agg("|".join, axis=1).to_numpy(dtype=object)
    side = pd.util.hash_array(text) % 2 == 0
    if side.all() or not side.any():
        raise DataError("The table has too few different rows to be divided.")
    return table[side], table[~side]


_LISTS = ("features", "terms", "late", "aside")
_OURS = ("duration", "event", "cause", "start", "left", "day", "tenure")
_MEANINGS = {"duration", "event", "cause", "still", "target", "start", "end", "unit", "days", "group", *_LISTS}


def _faded(needed):
    """Months after which the cumulated ratio of a fading promotion is what is needed."""
    months = np.append(np.linspace(0, 120, 12_001), 1e9)
    a = np.log(3.0)
    ratio = np.append(FADES * (expi(a) - expi(a * np.exp(-months[:-1] / FADES))), 0.0)
    ratio[-1] = ratio[-2] + months[-1] - months[-2]
    return np.interp(needed, ratio, months)


def _ends(table, days):
    return table["start"] + pd.to_timedelta((table["duration"] * days).round(), "D")


def _typed(column):
    """Text that is all numbers becomes numbers, text that is all ISO dates becomes dates."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    for parse in (pd.to_numeric, _dates):
        try:
            return parse(column)
        except (TypeError, ValueError):
            pass
    return column


def _dates(column):
    # 01/02/2024 is two days, so other forms are none.
    return pd.to_datetime(column, format="ISO8601")


def _canonical(raw, meaning):
    """Duration, event, cause and start under these names."""
    table = pd.DataFrame({"duration": _typed(raw[meaning["duration"]])})
    if not pd.api.types.is_numeric_dtype(table["duration"]):
        raise DataError(f"Column {meaning['duration']!r} must be a number of days, weeks, months …")
    if "cause" in meaning:
        if "still" not in meaning:
            raise DataError(f"Which word in {meaning['cause']!r} means that the contract has not ended? still=…")
        table["event"] = (raw[meaning["cause"]] != meaning["still"]).astype(int)
        table["cause"] = raw[meaning["cause"]]
    else:
        words = raw[meaning["event"]].map(lambda v: str(v).strip().lower().removesuffix(".0"))
        event = words.map({"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0})
        if event.isna().any():
            raise DataError(
                f"Column {meaning['event']!r} must be 1, true or yes for contracts that ended and 0, false or no for "
                f"the others, not {raw.loc[event.isna(), meaning['event']].tolist()[0]!r}."
            )
        table["event"] = event.astype(int)
        table["cause"] = np.where(event == 1, "left", "still there")
    if "start" in meaning:
        table["start"] = _typed(raw[meaning["start"]])
        if not pd.api.types.is_datetime64_any_dtype(table["start"]):
            raise DataError(f"Column {meaning['start']!r} must have dates such as 2024-01-31.")
        if table["start"].isna().any():
            raise DataError(f"{table['start'].isna().sum():,} contracts have no start in column {meaning['start']!r}.")
    return table


def _closed(table, meaning):
    """Contracts as they were seen on the last day: what ended later had not ended."""
    end = pd.Timestamp(day_of("end", meaning["end"]))
    if (table["start"] > end).any():
        raise DataError(f"{(table['start'] > end).sum():,} contracts begin after the end, {end:%Y-%m-%d}.")
    later = _ends(table, float(meaning["days"])) > end
    until = (end - table["start"]).dt.days / float(meaning["days"])
    return table.assign(
        duration=table["duration"].mask(later, until),
        event=table["event"].mask(later, 0),
        cause=table["cause"].mask(later, meaning.get("still", "still there")),
    )
