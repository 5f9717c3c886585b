"""How good the customer tables are: complete, of one voice, up to date; and the age that no table stores."""

import datetime
import itertools

import ibis
import pandas as pd

from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.sources import damage_in_words, open_source


def age(birth_date, as_of):
    """Return the completed years of life on a day, derived and never stored.

    Who was born on 29 February completes a year on 1 March when the year has no such day.

    Parameters
    ----------
    birth_date : date, str, pandas.Series or ibis.expr.types.Column
        Day of birth, or a column of them.
    as_of : date or str
        The day.

    Returns
    -------
    int, pandas.Series or ibis.expr.types.Column
        Age in years; missing where the day of birth is missing or lies after `as_of`.

    Raises
    ------
    DataError
        One of them is no day.

    Examples
    --------
    >>> age("2004-02-29", "2023-02-28"), age("2004-02-29", "2023-03-01"), age("2004-02-29", "2024-02-29")
    (18, 19, 20)
    """
    day = day_of("as_of", as_of)
    # As numbers such as 20040229, whole ten thousands of the difference are completed years.
    today = day.year * 10_000 + day.month * 100 + day.day
    if isinstance(birth_date, ibis.expr.types.Column):
        born = birth_date.year() * 10_000 + birth_date.month() * 100 + birth_date.day()
        return ibis.ifelse(born <= today, (today - born) // 10_000, ibis.null("int64")).cast("int64")
    if isinstance(birth_date, pd.Series):
        dates = pd.to_datetime(birth_date).dt
        born = (dates.year * 10_000 + dates.month * 100 + dates.day).astype("Int64")
        return ((today - born) // 10_000).where(born <= today)
    if birth_date is None or birth_date is pd.NaT:
        return None
    born = day_of("birth_date", birth_date)
    born = born.year * 10_000 + born.month * 100 + born.day
    return (today - born) // 10_000 if born <= today else None


@damage_in_words()
def completeness(table):
    """Return how many cells of each column are filled.

    Parameters
    ----------
    table : str, pathlib.Path, frame or ibis.Table
        Any table.

    Returns
    -------
    pandas.DataFrame
        One row a column, the emptiest first: `column`, `rows`, `filled`, `missing`, `share` filled. Blank text is not
        filled.

    Raises
    ------
    DataError
        The table cannot be read.

    Examples
    --------
    >>> completeness(pd.DataFrame({"id": [1, 2], "mail": ["a@b.example", " "]}))
      column  rows  filled  missing  share
    0   mail     2       1        1    0.5
    1     id     2       2        0    1.0
    """
    t = open_source(table).table
    filled = {}
    for i, name in enumerate(t.columns):
        cell = t[name].strip().nullif("") if t[name].type().is_string() else t[name]
        filled[f"n{i}"] = cell.count()
    counts = t.aggregate(rows=t.count(), **filled).to_pyarrow().to_pylist()[0]
    rows = counts.pop("rows")
    found = pd.DataFrame({"column": t.columns, "rows": rows, "filled": list(counts.values())})
    found["missing"] = rows - found["filled"]
    found["share"] = found["filled"] / max(rows, 1)
    return found.sort_values("share", kind="stable", ignore_index=True)


@damage_in_words()
def conflicts(sources, key="customer_id"):
    """Return where sources say different things about the same customer.

    Blank cells say nothing, and case and outer spaces make no difference.

    Parameters
    ----------
    sources : dict
        Name of a source to its table (see `load` for what a table can be), each with one row a customer.
    key : str, default "customer_id"
        Column that says which customer.

    Returns
    -------
    pandas.DataFrame
        One row a customer and column in conflict: the key, `column`, and under the name of each source its value.

    Raises
    ------
    DataError
        A source without the key.

    Examples
    --------
    >>> shop = pd.DataFrame({"customer_id": [1, 2], "city": ["Bonn", "Ulm"], "phone": ["11", None]})
    >>> erp = pd.DataFrame({"customer_id": [1, 2], "city": ["Köln", "ulm "], "phone": ["11", "12"]})
    >>> conflicts({"shop": shop, "erp": erp})
      customer_id column  shop   erp
    0           1   city  Bonn  Köln
    """
    tables = {name: open_source(source).table for name, source in sources.items()}
    for name, table in tables.items():
        if key not in table.columns:
            raise DataError(f"{name} has no column {key!r}; it has {', '.join(table.columns)}.")
    shared = [c for c in dict.fromkeys(itertools.chain(*(t.columns for t in tables.values()))) if c != key]
    parts = [
        table.select(who=table[key].cast("string"), said=table[c].cast("string").strip().nullif("")).mutate(
            column=ibis.literal(c), source=ibis.literal(name)
        )
        for name, table in tables.items()
        for c in shared
        if c in table.columns
    ]
    empty = pd.DataFrame(columns=[key, "column", *tables], dtype=object)
    if not parts:
        return empty
    said = ibis.union(*parts) if len(parts) > 1 else parts[0]
    said = said.filter(said.said.notnull(), said.who.notnull())
    unlike = said.group_by("who", "column").aggregate(n=said.said.lower().nunique())
    found = said.semi_join(unlike.filter(unlike.n > 1), ["who", "column"]).to_pyarrow().to_pandas()
    if found.empty:
        return empty
    # A source that contradicts itself shows all it says.
    wide = found.sort_values("said").groupby(["who", "column", "source"])["said"].agg(lambda s: " | ".join(s.unique()))
    wide = wide.unstack("source").reindex(columns=list(tables)).reset_index().rename(columns={"who": key})
    return wide.rename_axis(columns=None).sort_values([key, "column"], ignore_index=True)


@damage_in_words()
def timeliness(tables, as_of=None):
    """Return how up to date tables are: "data as of", how long ago that was, and the pauses in between.

    A gap is a pause of at least three times the usual one: the 95th percentile of the days between neighbouring days
    with a record, from ten such days on.

    Parameters
    ----------
    tables : dict
        Name of a table to the table and its column of dates, such as ``{"orders": (orders, "date")}``; without a
        column it is `date`.
    as_of : date or str, optional
        The day to look back from, today by default.

    Returns
    -------
    pandas.DataFrame
        One row a table: `table`, `rows`, `undated`, `first`, `data_as_of` (the latest record until `as_of`), `lag` in
        days, records `later` than `as_of`, number of `gaps`, and the longest: `gap_from`, `gap_until`, `gap_days`.

    Raises
    ------
    DataError
        A table without the column.

    Examples
    --------
    >>> log = pd.DataFrame({"date": pd.to_datetime(["2024-01-01", "2024-01-09"])})
    >>> timeliness({"orders": log}, "2024-01-10")[["data_as_of", "lag"]]
       data_as_of  lag
    0  2024-01-09    1
    """
    today = datetime.date.today() if as_of is None else day_of("as_of", as_of)
    rows = []
    for name, given in tables.items():
        source, column = given if isinstance(given, tuple) else (given, "date")
        t = open_source(source).table
        if column not in t.columns or not (t[column].type().is_timestamp() or t[column].type().is_date()):
            raise DataError(
                f"{name} has no column {column!r} of dates; read it with crmlab.data.validate or load first, and name "
                f'the column: {{"{name}": (table, "…")}}.'
            )
        per_day = t.group_by(day=t[column].cast("date")).aggregate(n=t.count()).order_by("day").to_pyarrow().to_pylist()
        dated = {row["day"]: row["n"] for row in per_day if row["day"] is not None}
        days = sorted(day for day in dated if day <= today)
        pauses = pd.Series([(b - a).days for a, b in itertools.pairwise(days)], dtype="float64")
        usual = pauses.quantile(0.95) if len(days) >= 10 else float("inf")
        gaps = int((pauses >= 3 * usual).sum())
        longest = int(pauses.idxmax()) if gaps else None
        rows.append(
            {
                "table": name,
                "rows": sum(row["n"] for row in per_day),
                "undated": sum(row["n"] for row in per_day if row["day"] is None),
                "first": days[0] if days else None,
                "data_as_of": days[-1] if days else None,
                "lag": (today - days[-1]).days if days else pd.NA,
                "later": sum(n for day, n in dated.items() if day > today),
                "gaps": gaps,
                "gap_from": days[longest] if gaps else None,
                "gap_until": days[longest + 1] if gaps else None,
                "gap_days": int(pauses[longest]) if gaps else pd.NA,
            }
        )
    columns = [
        "table",
        "rows",
        "undated",
        "first",
        "data_as_of",
        "lag",
        "later",
        "gaps",
        "gap_from",
        "gap_until",
        "gap_days",
    ]
    return pd.DataFrame(rows, columns=columns).astype({"lag": "Int64", "gap_days": "Int64"})
