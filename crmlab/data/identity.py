"""Which records are of one customer: exact rules on normalised fields, proposals with reasons, their quality."""

import functools
import warnings
from typing import NamedTuple

import ibis
import pyarrow as pa

from crmlab.data.engine import connect
from crmlab.data.errors import DataError
from crmlab.data.normal import KINDS
from crmlab.data.sources import identifier, open_source
from crmlab.data.textfile import keep, keep_arrow, quoted, sql

LARGEST_BLOCK = 20
# For the columns of `crmlab.data.simulate`. An address alone is a household and a telephone alone may be one.
RULES = (
    ("email",),
    ("phone", "birth_date"),
    ("phone", "name"),
    ("name", "birth_date"),
    ("name", "address", "city"),
    ("birth_date", "address", "city"),
)
_USUAL_KINDS = {
    "name": "name given_name surname family_name first_name last_name full_name 姓名",
    "address": "address address_1 address_2 street 地址",
    "phone": "phone telephone mobile 电话 電話 手机",
    "email": "email e_mail mail 邮箱",
    "date": "birth_date date_of_birth birthday dob 出生日期 生日",
}


class Proposals(NamedTuple):
    """Pairs of records that may be one customer, and the blocks that were too large to be paired."""

    pairs: ibis.Table
    oversize: object


def propose_duplicates(records, rules=None, *, key="record_id", kinds=None, largest_block=LARGEST_BLOCK):
    """Propose pairs of records that agree in all the fields of at least one rule, with reasons and a score.

    The fields are compared in a normal form (width, case, accents, punctuation, order of names, international prefix,
    format of dates); a missing field agrees with nothing. Only records that share a value are compared, so the work
    grows with the records and not with their pairs. A value that more than `largest_block` records share is a
    placeholder rather than a customer: its records are not paired by that rule, it is listed in `oversize`, and a
    warning names it. Nothing is merged: see `merge`.

    Parameters
    ----------
    records : str, pathlib.Path, frame or ibis.Table
        One row a record; anything that `crmlab.data.load` opens.
    rules : list of sequence of str, optional
        Each a set of columns that must all agree. By default those of ``crmlab.data.identity.RULES`` whose columns
        are there.
    key : str, default "record_id"
        Column that identifies a record.
    kinds : dict, optional
        Column to the way it is normalised: "text", "name", "address", "phone", "email" or "date". Usual names of
        columns are known; others are text.
    largest_block : int, default 20
        Most records that may share the value of a rule.

    Returns
    -------
    Proposals
        `pairs` (Ibis table): left, right, score, reasons, differs. The score is the mean similarity (Jaro-Winkler) of
        the fields that both records have, between 0 and 1; it is no probability. `oversize` (pandas): rule, value,
        records.

    Raises
    ------
    DataError
        A column is not there, the key is missing or repeated, or no rule can be used.

    Examples
    --------
    >>> import pandas as pd
    >>> two = pd.DataFrame({"record_id": ["a", "b"], "name": ["MÜLLER, Anna", "Anna Müller"]})
    >>> two["phone"] = ["0049 30 12345", "(+49) 30-12345"]
    >>> propose_duplicates(two).pairs.to_pandas()[["left", "right", "score", "reasons"]].values.tolist()
    [['a', 'b', 1.0, 'same phone and name']]
    """
    table, name = open_records(records, key)
    if rules is None:
        rules = [rule for rule in RULES if set(rule) <= set(table.columns)]
        if not rules:
            raise DataError(
                f"{name} has none of the columns of the usual rules; say which columns must agree, for example "
                f"rules=[({table.columns[-1]!r},)]. It has: {', '.join(table.columns)}."
            )
    rules = [(rule,) if isinstance(rule, str) else tuple(rule) for rule in rules]
    if not rules or not all(rules):
        raise DataError("rules must have at least one rule, and each rule at least one column.")
    if largest_block < 2:
        raise DataError(f"largest_block={largest_block}: a pair needs blocks of at least 2.")
    columns = list(dict.fromkeys(column for rule in rules for column in rule))
    staged = normalize(table, name, key, columns, kinds)
    field = {column: f"n{i}" for i, column in enumerate(columns)}
    parts, oversize = [], []
    for rule in rules:
        fields = [field[column] for column in rule]
        oversize += _oversize(staged, rule, fields, largest_block)
        parts.append(_pairs_of_rule(staged, fields, f"same {' and '.join(rule)}", len(parts), largest_block))
    _name_oversize(oversize)
    agreed = (
        "SELECT l, r, string_agg(reason, '; ' ORDER BY place) AS reasons FROM "
        f"({' UNION ALL '.join(parts)}) GROUP BY l, r"
    )
    both = " + ".join(f"(a.{f} IS NOT NULL AND b.{f} IS NOT NULL)::INT" for f in field.values())
    alike = " + ".join(f"coalesce(jaro_winkler_similarity(a.{f}, b.{f}), 0)" for f in field.values())
    differs = ", ".join(f"CASE WHEN a.{f} <> b.{f} THEN {quoted(c)} END" for c, f in field.items())
    pairs = keep(
        f'SELECT l AS "left", r AS "right", ({alike}) / ({both}) AS score, reasons, '
        f"concat_ws(', ', {differs}) AS differs "
        f"FROM ({agreed}) JOIN {_name(staged)} a ON a.rid = l JOIN {_name(staged)} b ON b.rid = r"
    )
    return Proposals(pairs, _oversize_frame(oversize))


def open_records(records, key):
    """Open a table of records in the embedded engine and check its key.

    Parameters
    ----------
    records : str, pathlib.Path, frame or ibis.Table
        One row a record.
    key : str
        Column that identifies a record.

    Returns
    -------
    tuple of ibis.Table and str
        The table, and its name in messages.

    Raises
    ------
    DataError
        The key is not there, missing in a row, or repeated.
    """
    opened = open_source(records)
    table = _embedded(opened.table)
    if key not in table.columns:
        raise DataError(
            f"{opened.name} has no column {key!r}; say which one identifies a record: key=…. "
            f"It has: {', '.join(table.columns)}."
        )
    text = table[key].cast("string")
    missing = table.filter(text.isnull() | (text == "")).count().to_pyarrow().as_py()
    repeated = table.group_by(k=text).agg(n=ibis._.count()).filter(ibis._.n > 1).order_by("k").limit(3).to_pyarrow()
    if missing or repeated.num_rows:
        said = [f"{missing:,} rows have none"] if missing else []
        said += [f"{k!r} stands in {n:,} rows" for k, n in zip(*repeated.to_pydict().values(), strict=True)]
        raise DataError(f"{opened.name}: {key!r} must identify each record, but {'; '.join(said)}.")
    return table, opened.name


def _embedded(table):
    """The table itself, or a copy of what another database has, streamed."""
    if table.get_backend() is connect():
        return table
    return keep_arrow(table.to_pyarrow_batches())


def normalize(table, name, key, columns, kinds=None):
    """Return a table of normalised fields: rid and n0, n1 … in the order of the columns.

    Parameters
    ----------
    table : ibis.Table
        A table of the embedded engine.
    name : str
        Its name in messages.
    key : str
        Column that identifies a record.
    columns : list of str
        The columns to normalise.
    kinds : dict, optional
        Column to kind; usual names of columns are known.

    Returns
    -------
    ibis.Table
        All text; null where nothing is left of a value.

    Raises
    ------
    DataError
        A column is not there, or a kind is unknown.
    """
    if absent := [c for c in (*columns, *(kinds or {})) if c not in table.columns]:
        raise DataError(f"{name} has no column {' or '.join(map(repr, absent))}. It has: {', '.join(table.columns)}.")
    _register()
    fields = ", ".join(
        f"crmlab_normal_{_kind(column, kinds)}({as_words(table, column)}) AS n{i}" for i, column in enumerate(columns)
    )
    return keep(f"SELECT CAST({identifier(key)} AS VARCHAR) AS rid, {fields} FROM ({sql(table)})")


def _kind(column, kinds):
    if kinds and column in kinds:
        if kinds[column] not in KINDS:
            raise DataError(f"kinds: {column!r} is {kinds[column]!r}; kinds are {', '.join(KINDS)}.")
        return kinds[column]
    return next((kind for kind, usual in _USUAL_KINDS.items() if column.casefold() in usual.split()), "text")


def as_words(table, column):
    """Return SQL that writes a column as a person would: 7 and not 7.0, a day without its midnight.

    Parameters
    ----------
    table : ibis.Table
        A table of the embedded engine.
    column : str
        One of its columns.

    Returns
    -------
    str
        An expression of type VARCHAR.
    """
    kind, cell = table.schema()[column], identifier(column)
    if kind.is_floating():
        whole = f"CAST(CAST({cell} AS HUGEINT) AS VARCHAR)"
        fits = f"isfinite({cell}) AND abs({cell}) < 1e18 AND {cell} = floor({cell})"
        return f"CASE WHEN {fits} THEN {whole} WHEN NOT isnan({cell}) THEN CAST({cell} AS VARCHAR) END"
    if kind.is_timestamp():
        return f"strftime({cell}, '%Y-%m-%d')"
    return f"CAST({cell} AS VARCHAR)"


def as_moment(table, column, name):
    """Return SQL that reads a column as a moment, after making sure that every cell can be read.

    Parameters
    ----------
    table : ibis.Table
        A table of the embedded engine.
    column : str
        A column of dates, of times, or of text such as 2024-01-31.
    name : str
        The table's name in messages.

    Returns
    -------
    str
        An expression of type TIMESTAMP.

    Raises
    ------
    DataError
        A cell is no date.
    """
    kind, cell = table.schema()[column], identifier(column)
    if kind.is_timestamp() or kind.is_date():
        return f"CAST({cell} AS TIMESTAMP)"
    moment = f"TRY_CAST(CAST({cell} AS VARCHAR) AS TIMESTAMP)"
    bad = f"SELECT CAST({cell} AS VARCHAR) FROM ({sql(table)}) WHERE {cell} IS NOT NULL AND {moment} IS NULL"
    found = connect().con.execute(bad).fetchall()
    if found:
        raise DataError(
            f"{name}: {len(found):,} cells of column {column!r} are no dates, such as {found[0][0]!r}; "
            "write them as YYYY-MM-DD."
        )
    return moment


@functools.cache
def _register():
    """Make the normal forms known to the embedded engine, once."""
    for kind, normal in KINDS.items():
        connect().con.create_function(
            f"crmlab_normal_{kind}",
            functools.partial(_each, normal),
            ["VARCHAR"],
            "VARCHAR",
            type="arrow",
            null_handling="special",
        )


def _each(function, column):
    """Apply a function to the distinct values of an Arrow column."""
    coded = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).dictionary_encode()
    values = [function(value) if value is not None else None for value in coded.dictionary.to_pylist()]
    return pa.array(values, pa.string()).take(coded.indices)


def _name(kept):
    return identifier(kept.get_name())


def _blocks(staged, fields, condition):
    filled = " AND ".join(f"{f} IS NOT NULL" for f in fields)
    listed = ", ".join(fields)
    return (
        f"SELECT {listed}, count(*) AS records FROM {_name(staged)} WHERE {filled} GROUP BY {listed} HAVING {condition}"
    )


def _pairs_of_rule(staged, fields, reason, place, largest):
    blocks = _blocks(staged, fields, f"count(*) BETWEEN 2 AND {int(largest)}")
    joins = " AND ".join(f"a.{f} = b.{f}" for f in fields)
    return (
        f"SELECT a.rid AS l, b.rid AS r, {quoted(reason)} AS reason, {place} AS place FROM {_name(staged)} a "
        f"SEMI JOIN ({blocks}) k USING ({', '.join(fields)}) JOIN {_name(staged)} b ON {joins} AND a.rid < b.rid"
    )


def _oversize(staged, rule, fields, largest):
    found = connect().con.execute(_blocks(staged, fields, f"count(*) > {int(largest)}") + " ORDER BY ALL").fetchall()
    return [(" and ".join(rule), ", ".join(values), records) for *values, records in found]


def _oversize_frame(oversize):
    import pandas as pd

    return pd.DataFrame(oversize, columns=["rule", "value", "records"]).sort_values(
        ["records", "rule", "value"], ascending=[False, True, True], ignore_index=True
    )


def _name_oversize(oversize):
    if oversize:
        listed = "; ".join(f"{rule} {value!r} ({n:,} records)" for rule, value, n in oversize[:3])
        more = f" and {len(oversize) - 3} more" if len(oversize) > 3 else ""
        warnings.warn(
            f"Too many records share a value to be one customer; these were not paired by it: {listed}{more}. All are "
            "in .oversize; empty such placeholders in the source, or raise largest_block.",
            stacklevel=3,
        )


def connected(left, right, number):
    """Return the group of each of `number` things of which pairs belong together.

    Parameters
    ----------
    left, right : array-like of int
        The pairs, as positions.
    number : int
        How many things there are.

    Returns
    -------
    numpy.ndarray
        One label a thing; equal for what is linked through any chain of pairs.

    Examples
    --------
    >>> connected([0, 1], [1, 3], 4).tolist()
    [0, 0, 1, 0]
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(number, number))
    return connected_components(graph, directed=False)[1]


def match_quality(found, truth, *, key="record_id"):
    """Score a partition of records into customers against the truth, as pairs of records.

    Of all pairs that were put together, precision is the share that belongs together; of all pairs that belong
    together, recall is the share that was put together. Counted from group sizes, no pair is ever listed.

    Parameters
    ----------
    found, truth : pandas.DataFrame
        `key` and one more column each, that names the group of the record.
    key : str, default "record_id"
        Column that identifies a record.

    Returns
    -------
    pandas.Series
        records, pairs_true, pairs_found, pairs_right, precision, recall, f1. A share of nothing is missing.

    Raises
    ------
    DataError
        The two tables do not have the same records.

    Examples
    --------
    >>> import pandas as pd
    >>> found = pd.DataFrame({"record_id": [1, 2, 3], "customer_id": ["a", "a", "b"]})
    >>> truth = pd.DataFrame({"record_id": [1, 2, 3], "person_id": ["x", "x", "x"]})
    >>> match_quality(found, truth)[["precision", "recall"]].round(3).tolist()
    [1.0, 0.333]
    """
    import pandas as pd

    one, other = (_partition(frame, key, name) for frame, name in ((found, "found"), (truth, "truth")))
    if len(one) != len(other) or not one.index.isin(other.index).all():
        raise DataError(
            f"found has {len(one):,} records and truth {len(other):,}; they must be the same records ({key!r})."
        )
    both = pd.DataFrame({"found": one, "truth": other.reindex(one.index)})
    right, given, wanted = (
        _pairs(both.groupby(by, dropna=False).size()) for by in (["found", "truth"], "found", "truth")
    )
    precision = right / given if given else float("nan")
    recall = right / wanted if wanted else float("nan")
    f1 = 2 * right / (given + wanted) if given + wanted else float("nan")
    return pd.Series(
        {
            "records": len(one),
            "pairs_true": wanted,
            "pairs_found": given,
            "pairs_right": right,
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }
    )


def _partition(frame, key, name):
    others = [column for column in frame.columns if column != key]
    if key not in frame.columns or len(others) != 1:
        raise DataError(f"{name} must have the column {key!r} and one that names the group; it has {list(frame)}.")
    column = frame.set_index(frame[key].astype(str))[others[0]]
    if not column.index.is_unique or column.isna().any():
        raise DataError(f"{name}: every record ({key!r}) needs exactly one group.")
    return column


def _pairs(sizes):
    return int((sizes * (sizes - 1) // 2).sum())
