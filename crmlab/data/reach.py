"""Customers who cannot be reached get a status, never deletion; and what deleting them would do to every average."""

from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.identity import _embedded, as_moment, as_words
from crmlab.data.sources import open_source
from crmlab.data.textfile import keep, quoted, sql

FAILED = ("bounced", "wrong number", "returned")


def contact_status(customers, contacts, *, as_of=None, failed=FAILED):
    """Say of every customer whether the firm can still reach them.

    A customer is unreachable when the latest attempt failed on every channel that was tried. No row is dropped.

    Parameters
    ----------
    customers : frame, path or ibis.Table
        Has `customer_id`, one row a customer.
    contacts : frame, path or ibis.Table
        The attempts: `customer_id`, `date`, `channel`, `outcome`.
    as_of : str or date, optional
        Only attempts up to and including this day count; all by default.
    failed : sequence of str
        Outcomes that mean that the contact did not arrive.

    Returns
    -------
    ibis.Table
        One row a customer: customer_id, status ("reachable", "unreachable" or "untried"), since (the day of the first
        failure after the last success), reason (the outcomes of the latest attempts).

    Raises
    ------
    DataError
        A column is missing, or a customer stands in two rows.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"customer_id": [1, 2]})
    >>> tries = pd.DataFrame({"customer_id": [2], "date": ["2024-01-31"], "channel": ["email"], "outcome": ["bounced"]})
    >>> contact_status(people, tries).to_pandas()["status"].tolist()
    ['untried', 'unreachable']
    """
    people, own = _open(customers, ["customer_id"])
    tries, name = _open(contacts, ["customer_id", "date", "channel", "outcome"])
    twice = people.count().to_pyarrow().as_py() - people["customer_id"].nunique().to_pyarrow().as_py()
    if twice:
        raise DataError(
            f"{own}: customer_id must stand in one row a customer, and in none be missing ({twice:,} more)."
        )
    moment = as_moment(tries, "date", name)
    until = f"AND CAST({moment} AS DATE) <= DATE '{day_of('as_of', as_of)}'" if as_of is not None else ""
    bad = ", ".join(map(quoted, failed))
    return keep(
        f"WITH tries AS (SELECT {as_words(tries, 'customer_id')} AS who, {moment} AS date, "
        "channel, outcome, "
        f"outcome IN ({bad}) AS failed FROM ({sql(tries)}) WHERE outcome IS NOT NULL {until}), "
        "latest AS (SELECT who, channel, max_by(failed, (date, NOT failed)) AS failed, "
        "max_by(outcome, (date, NOT failed)) AS outcome FROM tries GROUP BY who, channel), "
        "judged AS (SELECT who, bool_and(failed) AS lost, "
        "string_agg(DISTINCT outcome, ', ' ORDER BY outcome) AS reason "
        "FROM latest GROUP BY who), "
        "reached AS (SELECT who, max(date) AS last FROM tries WHERE NOT failed GROUP BY who), "
        "since AS (SELECT who, min(date) AS since FROM tries LEFT JOIN reached USING (who) "
        "WHERE failed AND (last IS NULL OR date > last) GROUP BY who) "
        "SELECT p.customer_id, CASE WHEN lost THEN 'unreachable' WHEN lost IS NULL THEN 'untried' ELSE 'reachable' END "
        "AS status, CASE WHEN lost THEN CAST(since AS DATE) END AS since, CASE WHEN lost THEN reason END AS reason "
        f"FROM ({sql(people)}) p LEFT JOIN judged j ON j.who = {as_words(people, 'customer_id')} "
        f"LEFT JOIN since s ON s.who = j.who ORDER BY p.customer_id"
    )


def _open(source, columns):
    opened = open_source(source)
    if absent := [c for c in columns if c not in opened.table.columns]:
        raise DataError(f"{opened.name} lacks {', '.join(absent)}. It has: {', '.join(opened.table.columns)}.")
    return _embedded(opened.table), opened.name


def survivorship_bias(values, status, *, level=0.95):
    """Compute what averages would become if the unreachable customers were deleted.

    Parameters
    ----------
    values : frame, path or ibis.Table
        `customer_id` and any numbers, one row a customer: active or not, orders, revenue.
    status : frame, path or ibis.Table
        What `contact_status` returned.
    level : float, default 0.95
        Of the interval, for customers drawn from a larger population.

    Returns
    -------
    pandas.DataFrame
        One row a measure: customers, unreachable, mean (all), mean_if_deleted, bias (their difference), low, high.

    Raises
    ------
    DataError
        A customer of `values` has no status, or no column is a number.

    Examples
    --------
    >>> import pandas as pd
    >>> active = pd.DataFrame({"customer_id": [1, 2, 3, 4], "active": [1, 1, 1, 0]})
    >>> status = pd.DataFrame({"customer_id": [1, 2, 3, 4], "status": ["reachable"] * 3 + ["unreachable"]})
    >>> survivorship_bias(active, status).loc["active", ["mean", "mean_if_deleted"]].tolist()
    [0.75, 1.0]
    """
    import numpy as np
    import pandas as pd
    from scipy.special import ndtri

    table, name = _open(values, ["customer_id"])
    states, _ = _open(status, ["customer_id", "status"])
    kinds = table.schema()
    measures = [c for c in table.columns if c != "customer_id" and (kinds[c].is_numeric() or kinds[c].is_boolean())]
    if not measures:
        raise DataError(f"{name} has no column of numbers beside customer_id.")
    # Two groups are all that is needed: their sizes, means and variances.
    both = keep(
        f"SELECT s.status = 'unreachable' AS lost, v.* FROM ({sql(table)}) v LEFT JOIN ({sql(states)}) s "
        f"ON CAST(s.customer_id AS VARCHAR) = CAST(v.customer_id AS VARCHAR)"
    )
    unknown = both.filter(both.lost.isnull()).count().to_pyarrow().as_py()
    if unknown or both.count().to_pyarrow().as_py() != table.count().to_pyarrow().as_py():
        raise DataError(f"{name}: {unknown:,} customers have no status, or some have two; every one needs one.")
    rows = {}
    for measure in measures:
        cell = both[measure].cast("float64")
        groups = both.group_by("lost").agg(n=cell.count(), m=cell.mean(), v=cell.var(how="sample")).to_pandas()
        groups = groups.set_index("lost").reindex([False, True])
        n, m, v = (groups[c].astype(float).fillna(0).to_numpy() for c in ("n", "m", "v"))
        if not n[0]:
            raise DataError(f"{name}: nobody would be left if the unreachable were deleted.")
        share = n[1] / n.sum()
        bias = share * (m[0] - m[1])
        variance = share**2 * (v[0] / n[0] + v[1] / max(n[1], 1)) + (m[0] - m[1]) ** 2 * share * (1 - share) / n.sum()
        half = ndtri(0.5 + level / 2) * np.sqrt(variance)
        rows[measure] = (int(n.sum()), int(n[1]), m[0] - bias, m[0], bias, bias - half, bias + half)
    columns = ["customers", "unreachable", "mean", "mean_if_deleted", "bias", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("measure")
