"""Transaction logs from files, frames and databases: canonical columns, nothing lost, nothing guessed."""

import difflib
import functools
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import ibis
import ibis.expr.operations as ops

from crmlab.data.cells import DATE_FORMATS, SAMPLE, blank_to_null, date_reader, number_reader
from crmlab.data.errors import DataError
from crmlab.data.masking import mask
from crmlab.data.sets import is_other_set, open_dataset
from crmlab.data.sources import damage_in_words, open_source
from crmlab.data.textfile import FAULTS, keep, sql

CANONICAL = ("customer_id", "date", "amount", "order_id", "product_id", "quantity")
REQUIRED = ("customer_id", "date")
PARSED = ("date", "amount", "quantity")
# Compared without case, spaces, underscores, hyphens and dots.
ALIASES = {
    "customer_id": "customerid customer custid custno cust customerno customernumber customernr client clientid userid "
    "user memberid householdid household 客户编号 客户id 客户 顾客编号 顾客id 会员编号 会员id 用户id "
    "客戶編號 客戶id 顧客編號 會員編號 會員id",
    "date": "date day datetime timestamp invoicedate orderdate purchasedate transactiondate transactiontimestamp "
    "transactiontime ordertime orderdatetime saledate 日期 购买日期 交易日期 订单日期 下单时间 購買日期 訂單日期",
    "amount": "amount value sales salesvalue salesamount revenue total totalamount totalprice ordervalue turnover "
    "spend dollarvalue linetotal 金额 销售额 消费金额 订单金额 金額 銷售額 消費金額 訂單金額",
    "order_id": "orderid orderno ordernumber invoice invoiceid invoiceno invoicenumber basketid transactionid "
    "receiptid receiptno 订单号 订单编号 訂單號 訂單編號",
    "product_id": "productid product productcode sku stockcode itemid articleno 商品编号 产品编号 商品id 商品編號",
    "quantity": "quantity qty units pieces numberofcds 数量 件数 數量 件數",
}


class Prepared(NamedTuple):
    """A source with canonical columns; `bad_…` has the text of cells that do not parse."""

    table: ibis.Table
    source: str
    own: dict
    parsed: tuple
    raw: ibis.Table
    ordered: bool
    kept: bool


@damage_in_words()
def load(source, *, table=None, encoding=None, date_format=None, decimal=None, **columns):
    """Read a transaction log, or any data set of the catalogue.

    The columns come out as `customer_id`, `date` and, where the source has them, `amount`, `order_id`, `product_id`
    and `quantity`; all others keep their names. They are found by these names or by common ones (`CustomerID`,
    `InvoiceDate`, `金额` …). Text is read one way per column: a cell that does not fit it is an error, an empty one or
    one of NA, N/A, NaN, NaT, NULL, None, #N/A, <NA>, - is missing. Times are local wall times: an offset such as
    ``+02:00`` is dropped. A column that would take the name of a canonical one gets the suffix ``_source``.

    Parameters
    ----------
    source : str, pathlib.Path, frame or ibis.Table
        A name of the catalogue, a file (CSV, TSV, TXT, also .gz; Parquet, also a folder or a pattern such as
        ``"sales/*.parquet"``), the same in an object store (``s3://…``, ``gs://…``: copied to a temporary folder), a
        frame of pandas, Polars or pyarrow, an Ibis table, the address of a database, or ``"warehouse:PATH"`` with the
        folder of a `Warehouse`.
    table : str, optional
        Table of the database or of the warehouse (there: the orders by default).
    encoding : str, optional
        Encoding of a text file that is not UTF-8, such as ``"gb18030"``.
    date_format : str, optional
        Such as ``"%d/%m/%Y"``; ``"excel"`` for day numbers, ``"epoch"`` for seconds since 1970.
    decimal : {".", ","}, optional
        Decimal sign of the numbers.
    **columns : str
        The source's own names of canonical columns, such as ``customer_id="CustNo"``; ``amount=None`` leaves one out.

    Returns
    -------
    ibis.Table
        The log, lazy where it lies in a database or in Parquet files; a survey or another table of the catalogue that
        is no log comes under its own column names.

    Raises
    ------
    DataError
        The source cannot be read, a column is missing or ambiguous, or cells do not parse (listed in `faults`).

    Examples
    --------
    >>> import pandas as pd
    >>> log = load(pd.DataFrame({"Client": ["007"], "Day": ["2024-01-31"], "Total": ["€ 1.234,50"]}))
    >>> log.to_pandas()["amount"].tolist()
    [1234.5]
    """
    if is_other_set(source):
        return open_dataset(source)
    if isinstance(source, str) and source.startswith("warehouse:") and table not in (None, "orders", "fact_orders"):
        return open_source(source, table).table
    prepared = prepare(source, table, encoding, date_format, decimal, columns)
    counts = _fault_counts(prepared)
    if any(counts.values()):
        _raise_faults(prepared, counts)
    return prepared.table.drop(*(f"bad_{name}" for name in prepared.parsed))


def prepare(source, table=None, encoding=None, date_format=None, decimal=None, columns=None):
    """Read a log without judging its cells; `load` and `audit` both start here.

    Parameters
    ----------
    source : str, pathlib.Path, frame or ibis.Table
        See `load`.
    table : str, optional
        Table of the database.
    encoding : str, optional
        Encoding of a text file.
    date_format : str, optional
        Format of the dates.
    decimal : {".", ","}, optional
        Decimal sign of the numbers.
    columns : dict, optional
        The source's own names of canonical columns.

    Returns
    -------
    Prepared
        The table with canonical columns and what is known of it.

    Raises
    ------
    DataError
        The source cannot be read, or a column is missing or ambiguous.
    """
    raw, name, ordered, embedded = open_source(source, table, encoding)
    own = _find_columns(raw, name, source, columns or {})
    text = tuple(c for c in PARSED if c in own and _is_text(raw, own[c], c, name))
    if text and raw.get_backend().name != "duckdb":
        column = own[text[0]]
        raise DataError(
            f"{name}: column {column!r} has the type {raw[column].type()}; convert it in the database (CAST) to a date "
            "or a number and pass the result."
        )
    typed = functools.partial(_typed, raw, name, own, text, ordered, embedded, date_format, decimal)
    if not text:
        return typed(sample=False)
    # The first rows decide how a column is read; if a later cell does not fit, all rows decide.
    small = raw.limit(SAMPLE + 1).count().to_pyarrow().as_py() <= SAMPLE
    prepared = typed(sample=not small)
    if not small and sum(_fault_counts(prepared).values()):
        prepared = typed(sample=False)
    return prepared


def _fault_counts(prepared):
    if not prepared.parsed:
        return {}
    counts = {name: prepared.table[f"bad_{name}"].count() for name in prepared.parsed}
    return prepared.table.aggregate(**counts).to_pyarrow().to_pylist()[0]


def row_numbers(prepared):
    """Return the number of each row, counted from 1; null where the source has no order.

    Parameters
    ----------
    prepared : Prepared
        A source read by `prepare`.

    Returns
    -------
    ibis.expr.types.IntegerColumn
        To be used with `prepared.table`.
    """
    if prepared.kept:
        return prepared.table.rowid() + 1
    return (ibis.row_number() + 1) if prepared.ordered else ibis.null("int64")


def plain(name):
    """Return the name of a column without case, spaces, underscores, hyphens and dots.

    Parameters
    ----------
    name : str
        A name.

    Returns
    -------
    str
        What is left of it.

    Examples
    --------
    >>> plain("Customer-ID")
    'customerid'
    """
    return re.sub(r"[\s_.\-]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _find_columns(raw, name, source, columns):
    """The source's own name for each canonical column."""
    shown = f"{name} has the columns {', '.join(raw.columns)}."
    call = f"load({str(source)!r}" if isinstance(source, str | Path) else "load(…"
    call = mask(call)
    own = {}
    for canonical in columns:
        if canonical not in CANONICAL:
            raise DataError(f"{canonical!r} is not a canonical column; these are: {', '.join(CANONICAL)}.")
    for canonical in CANONICAL:
        if canonical in columns:
            wanted = columns[canonical]
            if wanted is not None and wanted not in raw.columns:
                near = difflib.get_close_matches(str(wanted), raw.columns, n=2)
                hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
                raise DataError(f"There is no column {wanted!r} for {canonical}.{hint} {shown}")
            found = [wanted] if wanted is not None else []
        elif canonical in raw.columns:
            found = [canonical]
        else:
            taken = [value for value in columns.values() if value is not None]
            found = [
                c for c in raw.columns if c not in taken and plain(c) in (*ALIASES[canonical].split(), plain(canonical))
            ]
        if len(found) > 1:
            calls = " or ".join(f'{call}, {canonical}="{c}")' for c in found)
            raise DataError(
                f"More than one column could be {canonical}: {', '.join(found)}. Say which: {calls}. {shown}"
            )
        if found:
            own[canonical] = found[0]
    missing = [canonical for canonical in REQUIRED if canonical not in own]
    if missing:
        if any(_looks_like_data(c) for c in raw.columns):
            shown += " They look like data: the first line must be a header with the names of the columns."
        given = "".join(f', {c}="{own.get(c, "…")}"' for c in (*REQUIRED, *(["amount"] if "amount" in own else [])))
        raise DataError(
            f"No column could be found for {' and '.join(missing)}. {shown} Say which it is: {call}{given})"
        )
    return own


def _looks_like_data(name):
    return bool(re.fullmatch(r"[\d.,:/\-\s+€$£¥]*\d[\d.,:/\-\s+€$£¥]*", name)) or any(
        re.match(shape, name) for shape in DATE_FORMATS.values()
    )


def _is_text(raw, own, canonical, name):
    """Has the column to be parsed? Refuses types that make no sense."""
    kind = raw.schema()[own]
    if kind.is_string():
        return True
    if canonical == "date":
        if kind.is_timestamp() or kind.is_date():
            return False
        if kind.is_numeric() and not kind.is_boolean():
            return True
    elif kind.is_numeric() and not kind.is_boolean():
        return False
    raise DataError(f"{name}: column {own!r} has the type {kind}, which is no {canonical}.")


def _typed(raw, name, own, text, ordered, embedded, date_format, decimal, sample):
    """Canonical columns, `bad_…` with the text of cells that do not parse, and all other columns."""
    picked, taken = {}, {*CANONICAL, *(f"bad_{c}" for c in PARSED)}
    for canonical, column in own.items():
        cell = raw[column]
        if canonical not in text:
            picked[canonical] = _as_type(cell, canonical, raw)
            continue
        cell = blank_to_null(as_text(cell))
        choose = functools.partial(date_reader, date_format=date_format)
        if canonical != "date":
            choose = functools.partial(number_reader, decimal=decimal)
        try:
            read = choose(raw.select(x=cell).filter(lambda t: t.x.notnull()), column, sample=sample)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        picked[canonical] = read(cell)
        picked[f"bad_{canonical}"] = ibis.ifelse(read(cell).isnull(), cell, ibis.null("string"))
    for column in raw.columns:
        if column not in own.values():
            free = column
            while free.lower() in taken or (free != column and free in raw.columns):
                free += "_source"
            taken.add(free.lower())
            picked[free] = raw[column]
    table = raw.select(**picked)
    if embedded:
        table = keep(sql(table))
    return Prepared(table, name, own, text, raw, ordered, embedded)


def as_text(cell):
    """Return cells as a person would write them: 19970101, not 19970101.0.

    Parameters
    ----------
    cell : ibis.expr.types.Column
        A column of any type.

    Returns
    -------
    ibis.expr.types.StringColumn
        Its text.
    """
    if cell.type().is_floating():
        # Not by floor(), which fails on numbers too large for an integer.
        whole = ibis.ifelse(cell % 1 == 0, cell.try_cast("int64").cast("string"), ibis.null("string"))
        whole = whole.coalesce(cell.cast("string"))
        return ibis.ifelse(cell.isnan(), ibis.null("string"), whole)
    return cell.cast("string")


def _as_type(cell, canonical, raw):
    kind = cell.type()
    if canonical == "date":
        if kind.is_timestamp() and kind.timezone and raw.get_backend().name == "duckdb":
            return _timezone(kind.timezone, cell)
        return cell.cast("timestamp(6)")
    if kind.is_floating():
        if raw.get_backend().has_operation(ops.IsNan):
            cell = ibis.ifelse(cell.isnan(), ibis.null(kind), cell)
        if canonical in ("customer_id", "order_id", "product_id"):
            # Missing ids made pandas store whole numbers as floats. What no integer holds, floor() cannot take.
            small = ibis.cases((cell.abs() >= 2**53, 0.5), else_=cell)
            whole = (small == small.floor()).all().to_pyarrow().as_py()
            return cell.cast("int64") if whole else cell
    if canonical in ("amount", "quantity"):
        return cell.cast("float64")
    if kind.is_string() and raw.get_backend().name == "duckdb":
        return blank_to_null(cell)
    return cell


@ibis.udf.scalar.builtin(name="timezone")
def _timezone(zone: str, moment: ibis.dtype("timestamp('UTC')")) -> ibis.dtype("timestamp(6)"):
    """Wall time of an instant in a zone."""


def cell_faults(prepared):
    """Return the cells that do not parse, in the order of the source.

    Parameters
    ----------
    prepared : Prepared
        A source read by `prepare`.

    Returns
    -------
    pandas.DataFrame
        `row` (null where the source has no order), `column`, `value`, `problem`; at most 1,000 of them.
    """
    import pandas as pd

    table = prepared.table.mutate(row=row_numbers(prepared))
    parts = []
    for canonical in prepared.parsed:
        value = table[f"bad_{canonical}"]
        parts.append(
            table.filter(value.notnull()).select("row", column=ibis.literal(prepared.own[canonical]), value=value)
        )
    if not parts:
        return pd.DataFrame(columns=["row", "column", "value", "problem"])
    faults = ibis.union(*parts) if len(parts) > 1 else parts[0]
    faults = faults.order_by("row", "column").limit(FAULTS).to_pandas()
    kinds = {own: canonical for canonical, own in prepared.own.items()}
    faults["problem"] = [
        _problem(value, kinds[column]) for value, column in zip(faults["value"], faults["column"], strict=True)
    ]
    return faults


def in_words(faults):
    """Return a line for each cell that does not parse.

    Parameters
    ----------
    faults : pandas.DataFrame
        What `cell_faults` returned, or some of it.

    Returns
    -------
    list of str
        Row, column, value and problem.
    """
    return [
        f"{'' if row is None or row != row else f'row {row}, '}column {column!r}: {value[:60]!r} {problem}"
        for row, column, value, problem in faults.astype(object).itertuples(index=False)
    ]


def _raise_faults(prepared, counts):
    faults = cell_faults(prepared)
    total = sum(counts.values())
    by_column = ", ".join(f"{n} in {prepared.own[c]!r}" for c, n in counts.items() if n)
    lines = [f"  {line}" for line in in_words(faults.head(5))]
    more = f"\n  … and {total - 5} more (all in the error's .faults, up to {FAULTS})" if total > 5 else ""
    raise DataError(
        f"{prepared.source}: {total} cell{'s' * (total > 1)} cannot be read ({by_column}; rows counted from 1"
        f"{' after the header' if prepared.kept and prepared.source != 'frame' else ''}):\n"
        + "\n".join(lines)
        + more
        + "\n"
        "Correct them in the source, say how they are written (date_format=…, decimal=…), or let crmlab.data.audit set "
        "their rows aside.",
        faults,
    )


def _problem(value, canonical):
    if canonical != "date":
        return "is not a number written like the others of its column"
    if any(re.match(shape, value.strip()) for shape in DATE_FORMATS.values()):
        return "is no day of the calendar, or not written like the others of its column"
    return "is not a date"
