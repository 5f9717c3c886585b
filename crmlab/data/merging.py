"""The customer file: records, who they belong to, a log of merges that can be undone, and the surviving values."""

from typing import NamedTuple

import ibis

from crmlab.data.errors import DataError
from crmlab.data.identity import _name, as_moment, as_words, connected, normalize, open_records
from crmlab.data.sources import identifier, open_source
from crmlab.data.textfile import keep, quoted, sql

LOG = ["step", "action", "undoes", "at", "by", "reason", "record_id", "before", "after"]
SURVIVAL = ("newest", "most common", "trusted", "longest")


class CustomerFile(NamedTuple):
    """Records as the sources have them, the customer of each, and the log of how that came about."""

    records: ibis.Table
    key: str
    assignment: object
    log: object


class Consolidated(NamedTuple):
    """One row a customer with the surviving values, and every conflict that was decided."""

    customers: ibis.Table
    conflicts: ibis.Table


def customer_file(records, *, key="record_id", log=None):
    """Start a customer file: every record its own customer, or as an earlier log left it.

    Parameters
    ----------
    records : str, pathlib.Path, frame or ibis.Table
        One row a record; they are never changed.
    key : str, default "record_id"
        Column that identifies a record.
    log : pandas.DataFrame, optional
        The log of an earlier file of these records; its steps are taken again.

    Returns
    -------
    CustomerFile
        With `assignment` (record_id, customer_id) and `log`.

    Raises
    ------
    DataError
        The key is missing or repeated, or the log names records that are not there.

    Examples
    --------
    >>> import pandas as pd
    >>> customer_file(pd.DataFrame({"record_id": ["E1", "W1"]})).assignment["customer_id"].tolist()
    ['E1', 'W1']
    """
    import pandas as pd

    table, name = open_records(records, key)
    ids = table.select(k=table[key].cast("string")).order_by("k").to_pyarrow()["k"].to_pylist()
    assignment = pd.DataFrame({c: pd.Series(ids, dtype=object) for c in ("record_id", "customer_id")})
    if log is None:
        return CustomerFile(table, key, assignment, pd.DataFrame({c: pd.Series(dtype=object) for c in LOG}))
    if list(log.columns) != LOG:
        raise DataError(f"This is no log of merges: it must have the columns {', '.join(LOG)}.")
    _positions(assignment, log["record_id"], name)
    last = log.drop_duplicates("record_id", keep="last").set_index("record_id")["after"]
    assignment["customer_id"] = assignment["record_id"].map(last).fillna(assignment["customer_id"]).astype(object)
    return CustomerFile(table, key, assignment, log.astype(object).reset_index(drop=True))


def merge(file, pairs, *, by, reason=None, at=None):
    """Put together the customers that the pairs link, directly or through others, and write it down.

    The records stay as they are; only their customer changes. The merged customer keeps the smallest of its ids.

    Parameters
    ----------
    file : CustomerFile
        The file; it is not changed.
    pairs : Proposals, frame or ibis.Table
        What `propose_duplicates` returned, or the pairs of it that were accepted: columns `left` and `right`, and
        `reasons` when there are some.
    by : str
        Who decides; goes into the log.
    reason : str, optional
        Why; by default the reasons of the pairs.
    at : datetime-like, optional
        When; now by default.

    Returns
    -------
    CustomerFile
        With one more step in the log: a row for each record whose customer changed.

    Raises
    ------
    DataError
        Nobody decides, or a pair names a record that is not in the file.

    Examples
    --------
    >>> import pandas as pd
    >>> file = customer_file(pd.DataFrame({"record_id": ["E1", "W1"]}))
    >>> merged = merge(file, pd.DataFrame({"left": ["E1"], "right": ["W1"]}), by="Ann", reason="same e-mail")
    >>> merged.assignment["customer_id"].tolist(), undo(merged, by="Ann").assignment["customer_id"].tolist()
    (['E1', 'E1'], ['E1', 'W1'])
    """
    import numpy as np
    import pandas as pd

    links = _links(pairs)
    left, right = (_positions(file.assignment, links[side], "the customer file") for side in ("left", "right"))
    before = file.assignment["customer_id"]
    # Ids sort as text, so that the smallest of a group is the same on every machine.
    code, customers = pd.factorize(before, sort=True)
    group = connected(code[left], code[right], len(customers))
    # The first of each group, in sorted order.
    smallest = np.full(group.max() + 1, len(customers))
    np.minimum.at(smallest, group, np.arange(len(customers)))
    after = pd.Series(np.asarray(customers, dtype=object)[smallest[group[code]]], index=before.index, dtype=object)
    moved = np.flatnonzero((before != after).to_numpy())
    if reason is None:
        said = links["reasons"] if "reasons" in links else pd.Series("", index=links.index)
        of_record = pd.Series(np.tile(said.to_numpy(dtype=object), 2), index=np.concatenate([left, right]))
        of_record = of_record.groupby(level=0).first()
        reasons = pd.Series(moved).map(of_record).fillna("belongs to a customer that was merged")
    else:
        reasons = pd.Series(reason, index=range(len(moved)), dtype=object)
    log = _logged(file, "merge", None, by, at, reasons, moved, before, after)
    return file._replace(assignment=file.assignment.assign(customer_id=after), log=log)


def undo(file, step=None, *, by, reason="", at=None):
    """Take back one merge: its records get the customer that they had before.

    Parameters
    ----------
    file : CustomerFile
        The file; it is not changed.
    step : int, optional
        Which step of the log; the last one that stands, by default.
    by : str
        Who decides; goes into the log.
    reason : str, optional
        Why.
    at : datetime-like, optional
        When; now by default.

    Returns
    -------
    CustomerFile
        As it was before the merge; the log keeps the merge and has the undoing as one more step.

    Raises
    ------
    DataError
        There is no such merge, it is undone already, or a later merge builds on it (the message says which).

    Examples
    --------
    >>> import pandas as pd
    >>> file = customer_file(pd.DataFrame({"record_id": ["E1", "W1"]}))
    >>> pairs = pd.DataFrame({"left": ["E1"], "right": ["W1"]})
    >>> undo(merge(file, pairs, by="Ann"), by="Ben").log["action"].tolist()
    ['merge', 'undo']
    """
    log = file.log
    undone = set(log["undoes"].dropna())
    standing = [s for s in log.loc[log["action"] == "merge", "step"].unique() if s not in undone]
    if step is None and standing:
        step = standing[-1]
    if step not in standing:
        said = f"Step {step} is undone already." if step in undone else f"There is no merge {step or 'to undo'}."
        raise DataError(f"{said} Merges that stand: {', '.join(map(str, standing)) or 'none'}.")
    rows = log[log["step"] == step]
    touched = {*rows["before"], *rows["after"]}
    later = log[log["step"].isin([s for s in standing if s > step])]
    later = later[later["before"].isin(touched) | later["after"].isin(touched)]
    if len(later):
        steps = ", ".join(map(str, sorted(later["step"].unique(), reverse=True)))
        raise DataError(f"Step {step} cannot be undone yet: later merges have the same customers. Undo first: {steps}.")
    place = _positions(file.assignment, rows["record_id"], "the customer file")
    before = file.assignment["customer_id"]
    after = before.copy()
    after.iloc[place] = rows["before"].to_numpy()
    reasons = [reason] * len(place)
    log = _logged(file, "undo", step, by, at, reasons, place, before, after)
    return file._replace(assignment=file.assignment.assign(customer_id=after), log=log)


def _links(pairs):
    pairs = getattr(pairs, "pairs", pairs)
    links = pairs.to_pandas() if hasattr(pairs, "to_pandas") else pairs
    if absent := {"left", "right"} - set(links.columns):
        raise DataError(f"pairs lacks the column {' and '.join(sorted(absent))}: each row links two records.")
    return links.reset_index(drop=True)


def _positions(assignment, ids, name):
    import pandas as pd

    ids = ids.astype(str)
    place = pd.Index(assignment["record_id"]).get_indexer(ids)
    if (place < 0).any():
        unknown = ids[place < 0].unique()
        raise DataError(f"{len(unknown):,} records are not in {name}, such as {', '.join(map(repr, unknown[:3]))}.")
    return place


def _logged(file, action, undoes, by, at, reasons, moved, before, after):
    import pandas as pd

    if not by:
        raise DataError("by=…: say who decides; the log keeps it.")
    when = pd.Timestamp.now("UTC").tz_localize(None).floor("s") if at is None else pd.Timestamp(at)
    rows = pd.DataFrame(
        {
            "step": 1 + max(file.log["step"], default=0),
            "action": action,
            "undoes": undoes,
            "at": when,
            "by": by,
            "reason": list(reasons),
            "record_id": file.assignment["record_id"].to_numpy()[moved],
            "before": before.to_numpy()[moved],
            "after": after.to_numpy()[moved],
        },
        columns=LOG,
    ).astype(object)
    return pd.concat([file.log, rows], ignore_index=True) if len(file.log) else rows


def consolidate(file, rules=None, *, sources=(), kinds=None, source="source", updated="updated"):
    """Return one row a customer, each field decided by a rule of survivorship, and every conflict that was decided.

    Values that differ only in how they are written are no conflict. A missing value never survives a present one.

    Parameters
    ----------
    file : CustomerFile
        The records and their customers.
    rules : dict, optional
        Field to rule: "newest" (by `updated`), "most common", "trusted" (the first of `sources`), "longest". Others
        follow "newest" where the records have the column `updated`, else "most common". Ties go to the newer record,
        then to the more trusted source, then to the smaller id.
    sources : sequence of str, optional
        Sources, the most trusted first.
    kinds : dict, optional
        How fields are normalised, see `propose_duplicates`.
    source, updated : str
        Columns with the source of a record and its date.

    Returns
    -------
    Consolidated
        `customers` (customer_id, the number of records, the fields) and `conflicts` (customer_id, field, kept,
        from_record, rule, values: how many different, others: the values that gave way, with their records).

    Raises
    ------
    DataError
        A rule or field is unknown, or a rule lacks the column that it needs.

    Examples
    --------
    >>> import pandas as pd
    >>> two = pd.DataFrame({"record_id": ["a", "b"], "city": ["Köln", "Bonn"], "updated": ["2023-01-01", "2024-01-01"]})
    >>> file = merge(customer_file(two), pd.DataFrame({"left": ["a"], "right": ["b"]}), by="Ann")
    >>> consolidate(file).conflicts.to_pandas()[["field", "kept", "others"]].values.tolist()
    [['city', 'Bonn', 'Köln (a)']]
    """
    table, key = file.records, file.key
    fields = [c for c in table.columns if c not in (key, source, updated)]
    rules = _checked_rules(rules or {}, fields, table, sources, source, updated)
    if not fields:
        raise DataError("The records have no fields beside their key, source and date.")
    normal = normalize(table, "the customer file", key, fields, kinds)
    owner = open_source(file.assignment).table
    trust = "NULL"
    if sources and source in table.columns:
        whens = " ".join(f"WHEN {quoted(s)} THEN {i}" for i, s in enumerate(sources))
        trust = f"CASE CAST({identifier(source)} AS VARCHAR) {whens} ELSE {len(sources)} END"
    when = as_moment(table, updated, "the customer file") if updated in table.columns else "NULL"
    values = ", ".join(
        f"{identifier(c)} AS v{i}, nullif(trim({as_words(table, c)}), '') AS w{i}" for i, c in enumerate(fields)
    )
    staged = keep(
        f"SELECT o.customer_id AS cid, t.*, n.* EXCLUDE (rid) FROM (SELECT CAST({identifier(key)} AS VARCHAR) AS rid, "
        f"{when} AS fresh, {trust} AS trust, {values} FROM ({sql(table)})) t "
        f"JOIN {_name(normal)} n USING (rid) JOIN ({sql(owner)}) o ON o.record_id = t.rid"
    )
    places = ", ".join(_place(i, rules[c]) for i, c in enumerate(fields))
    ranked = keep(f"SELECT *, {places} FROM (SELECT *, {_commonness(fields)} FROM {_name(staged)})")
    kept = ", ".join(
        f"arg_min(v{i}, p{i}) FILTER (WHERE w{i} IS NOT NULL) AS {identifier(c)}" for i, c in enumerate(fields)
    )
    customers = keep(
        f"SELECT cid AS customer_id, count(*) AS records, {kept} FROM {_name(ranked)} GROUP BY cid ORDER BY cid"
    )
    conflicts = keep(" UNION ALL ".join(_conflicts(i, c, rules[c], ranked) for i, c in enumerate(fields)))
    return Consolidated(customers, conflicts)


def _checked_rules(rules, fields, table, sources, source, updated):
    default = "newest" if updated in table.columns else "most common"
    if unknown := [c for c in rules if c not in fields]:
        raise DataError(f"rules: there is no field {unknown[0]!r}. Fields: {', '.join(fields)}.")
    for field, rule in rules.items():
        if rule not in SURVIVAL:
            raise DataError(f"rules: {field!r} has {rule!r}; rules are {', '.join(map(repr, SURVIVAL))}.")
        if rule == "newest" and updated not in table.columns:
            raise DataError(f"rules: {field!r} goes to the newest, but the records have no column {updated!r}.")
        if rule == "trusted" and not (sources and source in table.columns):
            raise DataError(f"rules: {field!r} needs sources=[…], the most trusted first, and a column {source!r}.")
    return {field: rules.get(field, default) for field in fields}


def _commonness(fields):
    return ", ".join(f"count(w{i}) OVER (PARTITION BY cid, coalesce(n{i}, w{i})) AS m{i}" for i in range(len(fields)))


def _place(i, rule):
    first = {"newest": "", "most common": f"m{i} DESC, ", "trusted": "trust, ", "longest": f"length(w{i}) DESC, "}[rule]
    order = f"(w{i} IS NULL), {first}fresh DESC NULLS LAST, trust, rid"
    return f"row_number() OVER (PARTITION BY cid ORDER BY {order}) AS p{i}"


def _conflicts(i, field, rule, ranked):
    # One line a different value; the records of the value that is kept are no conflict.
    return (
        f"SELECT cid AS customer_id, {quoted(field)} AS field, arg_min(w, p) AS kept, arg_min(rid, p) AS from_record, "
        f'{quoted(rule)} AS rule, count(DISTINCT n) AS "values", '
        "string_agg(w || ' (' || rid || ')', ', ' ORDER BY p) FILTER (WHERE n <> best) AS others "
        f"FROM (SELECT cid, rid, w{i} AS w, p{i} AS p, coalesce(n{i}, w{i}) AS n, "
        f"first_value(coalesce(n{i}, w{i})) OVER (PARTITION BY cid ORDER BY p{i}) AS best "
        f"FROM {_name(ranked)} WHERE w{i} IS NOT NULL) GROUP BY cid HAVING count(DISTINCT n) > 1"
    )
