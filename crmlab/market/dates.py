"""When to write: the calendar month in which a customer buys again, and occasions that come once a year."""

import calendar
import datetime
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from ibis import _

from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.lifecycle.logs import checked


class MonthRule(NamedTuple):
    """Do customers come back in the calendar month in which they bought the year before?

    Attributes
    ----------
    offsets : pandas.DataFrame
        By `offset` in months from the month bought in (0 is the rule; the others show what is no anniversary), of the
        `customers` who bought at all in the second year: `hits` (bought in that month of it), their `share` with
        Wilson's interval `low`, `high`; the `expected` share if only the season counted, the `ratio` of the two with
        `ratio_low`, `ratio_high`, and the `p_value` of the permutation test. Of the `messages` that the rule would have
        sent, also to those who never came back: `precision` (hits a message) with `precision_low`, `precision_high`,
        and `wrong_per_right`, messages in vain for each that met a purchase, with `wrong_low`, `wrong_high`.
    candidates : ibis.Table
        Whom to write in the year after the second one: `customer_id`, `month` (1 to 12) and `precision`,
        `precision_low`, `precision_high` of the rule.
    facts : pandas.Series
        Customers of the `first_year`, of `both_years`, of both with `one_month` in the first, and the first and last
        day of both years.
    """

    offsets: pd.DataFrame
    candidates: ibis.Table
    facts: pd.Series


def month_rule(log, observation_end=None, permutations=2000, seed=0):
    r"""Test the rule "bought in May, so write next May" on two years, and say how many messages would be in vain.

    Customers who bought in exactly one month :math:`m_i` of the first year, and at all in the second, are followed:
    did they buy in the same calendar month of the second? The share who did is compared with what the season alone
    makes: the same months given to the same customers in another order. That leaves how many were of each month and how
    much each customer bought in the second year as they are, so that neither a busy month nor a frequent buyer counts
    for the rule. With :math:`n_m` of :math:`n` customers of month :math:`m` and :math:`a_m` of them active in month
    :math:`m` of the second year, :math:`\sum_m n_m a_m / n^2` is expected.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    observation_end : str or date, optional
        Last day of the second year, the end of a month; by default the end of the last month that the log has to its
        last day.
    permutations : int
        Reorderings of the months; the smallest possible p-value is one over this number plus one.
    seed : int
        Of the reorderings.

    Returns
    -------
    MonthRule
        `offsets`, `candidates` and `facts`.

    Raises
    ------
    DataError
        A log of less than two years, or customers, of whom there are too few.

    Notes
    -----
    One-sided permutation test; the interval of the ratio is that of the share over the expected one, which is taken as
    known. The ratio is about those who came back at all, who are not known beforehand: what a message meets is the
    precision. That customers buy again in the same month does not say why: in a shop of wholesalers it is the
    season of an assortment rather than a birthday.

    Examples
    --------
    >>> days = ["2023-05-10", "2024-05-20", "2023-09-01", "2024-09-03", "2023-01-01", "2024-08-01", "2024-12-31"]
    >>> log = pd.DataFrame({"customer_id": ["a", "a", "b", "b", "c", "c", "d"], "date": days})
    >>> month_rule(log, permutations=99).offsets.loc[0, ["customers", "hits"]].tolist()
    [3, 2]
    """
    if permutations < 1:
        raise DataError(f"permutations must be at least 1, not {permutations!r}.")
    log, first, last = checked(log)
    end = _month_end(last) if observation_end is None else day_of("observation_end", observation_end)
    begin = (pd.Timestamp(end) + pd.Timedelta(days=1) - pd.DateOffset(years=2)).date()
    if (pd.Timestamp(end) + pd.Timedelta(days=1)).day != 1:
        raise DataError(f"observation_end must be the last day of a month, not {end}.")
    if end > last or begin < first.replace(day=1):
        raise DataError(
            f"The rule needs two whole years: from {begin} to {end}, but the log lasts from {first} to {last}."
        )
    at = log.filter((_.day >= ibis.literal(begin)) & (_.day <= ibis.literal(end)))
    months = _.day.year().cast("int64") * 12 + _.day.month() - (begin.year * 12 + begin.month)
    active = at.select("customer_id", at=months).distinct()
    # A bit a month: twelve of the first year, twelve of the second.
    bits = {f"m{i}": ibis.ifelse(_["at"] == i, 1, 0).max() for i in range(24)}
    wide = active.group_by("customer_id").aggregate(**bits)
    # Sorted, so that the permutations do not depend on the order of an engine.
    counted = wide.group_by(*bits).aggregate(customers=_.count()).to_pandas().sort_values(list(bits))
    seen, weight = counted[list(bits)].to_numpy(bool), counted["customers"].to_numpy()
    one, two = seen[:, :12], seen[:, 12:]
    facts = {
        "first_year": weight[one.any(axis=1)].sum(),
        "both_years": weight[one.any(axis=1) & two.any(axis=1)].sum(),
    }
    chosen = (one.sum(axis=1) == 1) & two.any(axis=1)
    bought = np.repeat(one[chosen].argmax(axis=1), weight[chosen])
    again = np.repeat(two[chosen], weight[chosen], axis=0)
    n = len(bought)
    facts |= {"one_month": n, "begin": begin, "end": end}
    if n < 2:
        raise DataError(
            f"{n} customers bought in exactly one month of the first year and again in the second (from {begin}): few."
        )
    messages = weight[one.sum(axis=1) == 1].sum()
    offsets = _offsets(bought, again, messages, permutations, seed)
    rule = offsets.loc[0, ["precision", "precision_low", "precision_high"]]
    last_year = sum(wide[f"m{i}"] for i in range(12, 24)) == 1
    month = sum(wide[f"m{12 + i}"] * ((begin.month - 1 + i) % 12 + 1) for i in range(12))
    named = {name: ibis.literal(float(value)) for name, value in rule.items()}
    candidates = wide.filter(last_year).select("customer_id", month=month, **named)
    return MonthRule(offsets, candidates, pd.Series(facts, dtype=object))


def _month_end(last):
    """End of the last month that is there to its last day."""
    end = pd.Timestamp(last) + pd.Timedelta(days=1)
    return (end.replace(day=1) - pd.Timedelta(days=1)).date()


def _offsets(bought, again, messages, permutations, seed):
    n, rng = len(bought), np.random.default_rng(seed)
    rows = np.arange(n)
    orders = [rng.permutation(bought) for _round in range(permutations)]
    found = {}
    for offset in range(-5, 7):
        hits = again[rows, (bought + offset) % 12].sum()
        drawn = np.array([again[rows, (order + offset) % 12].sum() for order in orders])
        expected = sum((bought == m).mean() * again[:, (m + offset) % 12].mean() for m in range(12))
        share, precision = ([float(v) for v in wilson(hits, of)] for of in (n, messages))
        ratio = [v / expected if expected else np.nan for v in share]
        p = (1 + (drawn >= hits).sum()) / (permutations + 1)
        right, low, high = precision
        wrong = [(1 - v) / v if v else np.inf for v in (right, high, low)]
        found[offset] = (n, hits, *share, expected, *ratio, p, messages, *precision, *wrong)
    columns = ["customers", "hits", "share", "low", "high", "expected", "ratio", "ratio_low", "ratio_high", "p_value"]
    columns += [
        "messages",
        "precision",
        "precision_low",
        "precision_high",
        "wrong_per_right",
        "wrong_low",
        "wrong_high",
    ]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).rename_axis("offset")


def send_on(date, year, before=0):
    """Return the day of a year's message for an occasion that comes once a year, such as a birthday.

    Who was born on 29 February has the occasion on 28 February in a year without one: in the same month, and not late.

    Parameters
    ----------
    date : str or date
        The occasion, of any year.
    year : int
        The year of the occasion that the message is for.
    before : int
        Days by which the message comes earlier, which may lie in the year before; negative for later.

    Returns
    -------
    datetime.date
        The day.

    Raises
    ------
    DataError
        No date, no year, or no whole number of days.

    Examples
    --------
    >>> send_on("2000-02-29", 2023), send_on("1990-01-02", 2024, before=7)
    (datetime.date(2023, 2, 28), datetime.date(2023, 12, 26))
    """
    day = day_of("date", date)
    if isinstance(year, bool) or not isinstance(year, (int, np.integer)) or not 2 <= year <= 9998:
        raise DataError(f"year must be a year such as 2024, not {year!r}.")
    return _occasion(day, int(year)) - datetime.timedelta(days=_days("before", before))


def due(dates, first, last, before=0, sent=None):
    """List the messages of a run: whose occasion makes the message due within some days, each once a year.

    Runs whose days follow each other without gap or overlap write to everybody exactly once for each occasion, also
    around New Year and on 29 February; `sent` guards against runs that overlap.

    Parameters
    ----------
    dates : pandas.Series or dict
        The occasion by customer; missing ones are left out.
    first, last : str or date
        First and last day of the run.
    before : int
        Days by which the message comes before the occasion; negative for later.
    sent : pandas.DataFrame, optional
        Messages of earlier runs, with `customer_id` and `occasion`: no second one goes to a customer in the calendar
        year of an occasion.

    Returns
    -------
    pandas.DataFrame
        `customer_id`, `occasion` (its day in the year that it is for), `send_on` and `years` since the date given, by
        `send_on`.

    Raises
    ------
    DataError
        Dates that are none, a run that ends before it begins or lasts longer than a year, customers that repeat.

    Examples
    --------
    >>> run = due({"a": "2000-02-29", "b": "1990-01-02"}, "2023-12-20", "2024-03-05", before=7)
    >>> run["send_on"].astype(str).tolist()
    ['2023-12-26', '2024-02-22']
    """
    first, last, shift = day_of("first", first), day_of("last", last), _days("before", before)
    if not 0 <= (last - first).days <= 365:
        raise DataError(f"A run lasts from its first day to a later one within a year, not from {first} to {last}.")
    dates = pd.Series(dates, dtype=object).dropna()
    if dates.index.has_duplicates:
        raise DataError(f"Customer {dates.index[dates.index.duplicated()][0]!r} has more than one date: give one each.")
    past = set()
    if sent is not None:
        years = pd.to_datetime(sent["occasion"]).dt.year
        past = set(zip(sent["customer_id"], years, strict=True))
    ahead = datetime.timedelta(days=shift)
    years = range((first + ahead).year, (last + ahead).year + 1)
    rows = []
    for customer, value in dates.items():
        day = day_of(f"the date of customer {customer!r}", value)
        for year in years:
            occasion = _occasion(day, year)
            # An occasion cannot come before the day that it remembers.
            if first <= occasion - ahead <= last and year > day.year and (customer, year) not in past:
                rows.append((customer, occasion, occasion - ahead, year - day.year))
    table = pd.DataFrame(rows, columns=["customer_id", "occasion", "send_on", "years"])
    return table.sort_values("send_on", kind="stable", ignore_index=True)


def _occasion(day, year):
    if (day.month, day.day) == (2, 29) and not calendar.isleap(year):
        return datetime.date(year, 2, 28)
    return day.replace(year=year)


def _days(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise DataError(f"{name} must be a whole number of days, not {value!r}.")
    return int(value)
