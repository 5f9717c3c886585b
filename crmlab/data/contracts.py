"""What each customer table must look like, and which of its rows do: every failure listed, no row dropped.

The contracts are schemas of pandera's pandas back end. Its Polars back end is lazy too, but Polars is no dependency;
its Ibis back end says that a check failed without naming the rows. Tables are checked in batches, so that they need
not fit into memory; what looks across rows (a key that repeats) is asked in the engine.
"""

import copy
import difflib
from dataclasses import dataclass

import ibis
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow

from crmlab.data.cells import blank_to_null, date_reader, number_reader
from crmlab.data.days import day_of
from crmlab.data.engine import connect
from crmlab.data.errors import DataError
from crmlab.data.read import ALIASES, as_text, plain
from crmlab.data.sources import damage_in_words, open_source
from crmlab.data.textfile import keep, keep_arrow, sql

BATCH = 100_000
ROW = "crmlab_row_"
SHOWN = 20
FAILURES = ["table", "row", "column", "value", "problem", "what_to_do"]
WHAT_TO_DO = {
    "is missing": "Fill it in at the source; a record without it belongs to nobody or to no time.",
    "is not a date": "Write it like the other dates of its column, or say how they are written (date_format=…).",
    "is not a number": "Write it like the other numbers of its column, or say which decimal sign it has (decimal=…).",
    "is infinite": "Look up the number: something was divided by zero.",
    "lies after the day of the check": "Correct the date, or check as of a later day (as_of=…).",
    "lies before 1900": "Correct the year; leave the cell empty when it is not known.",
    "is no e-mail address": "Correct it; leave the cell empty when it is not known.",
    "is not 0 or 1": "Write 1 for yes and 0 for no.",
    "is before the start": "Correct one of the two dates.",
    "is in an earlier row already": "Decide which row is right: a key stands for one record.",
    "is stored, but changes with time": "Store birth_date; crmlab.data.age derives the age on any day. The column is "
    "left out.",
}
_AGE = ("age", "alter", "年龄", "年齡")
_KNOWN = {
    "customer_type": ("person", "household", "firm", "dealer", "partner"),
    "status": ("prospect", "active", "inactive", "unreachable", "closed"),
    "kind": ("consult", "trade", "cooperate"),
    "function": ("marketing", "sales", "service"),
}


def _column(kind, required=False, also="", known=None):
    """A column of a contract: kind is text, day, moment, number or flag; `also` are other names it may have."""
    checks = []
    if kind in ("day", "moment"):
        checks.append(pa.Check(lambda s: s >= pd.Timestamp(1900, 1, 1), error="lies before 1900"))
    if kind in ("number", "flag"):
        checks.append(pa.Check(lambda s: s.abs() < float("inf"), error="is infinite"))
    if kind == "flag":
        checks.append(pa.Check(lambda s: s.isin([0, 1]), error="is not 0 or 1"))
    if known:
        checks.append(pa.Check(lambda s: s.isin(_KNOWN[known]), error="is not one of the known words"))
    metadata = {"kind": kind, "also": also, "known": _KNOWN.get(known)}
    return pa.Column(None, checks, nullable=not required, required=required, metadata=metadata)


def _schema(name, key=None, checks=(), /, **columns):
    return pa.DataFrameSchema(
        columns, list(checks), name=name, unique=key, report_duplicates="exclude_first", metadata={"key": key}
    )


def _not_before(start, end):
    # Cells that are empty or cannot be compared are the matter of other checks.
    return pa.Check(
        lambda d: ~(d[end] < d[start]),
        error=f"{end} is before the start",
        ignore_na=False,
        statistics={"needs": (start, end)},
    )


_WHO = ALIASES["customer_id"]
_WHEN = ALIASES["date"]
_MAIL = pa.Check(lambda s: s.str.fullmatch(r"\s*[^@\s]+@[^@\s]+\s*"), error="is no e-mail address")

customers = _schema(
    "customers",
    "customer_id",
    customer_id=_column("text", True, _WHO),
    customer_type=_column("text", known="customer_type", also="type 客户类型 客戶類型"),
    status=_column("text", known="status", also="状态 狀態"),
    name=_column("text", also="fullname customername 姓名 客户姓名 客戶姓名"),
    gender=_column("text", also="sex 性别 性別"),
    birth_date=_column("day", also="birthday dateofbirth dob 生日 出生日期"),
    occupation=_column("text", also="job profession 职业 職業"),
    interests=_column("text", also="hobby hobbies 爱好 愛好"),
    email=_column("text", also="emailaddress mail 邮箱 電子郵件 电子邮件"),
    phone=_column("text", also="telephone tel mobile phonenumber 电话 電話 手机 手機"),
    address=_column("text", also="street 地址"),
    city=_column("text", also="town 城市"),
    postcode=_column("text", also="zip zipcode postalcode 邮编 郵編 邮政编码 郵遞區號"),
    country=_column("text", also="国家 國家"),
    joined=_column("day", also="since registered registrationdate 注册日期 註冊日期"),
)
customers.columns["email"].checks.append(_MAIL)

orders = _schema(
    "orders",
    customer_id=_column("text", True, _WHO),
    order_id=_column("text", False, ALIASES["order_id"]),
    date=_column("moment", True, _WHEN),
    product_id=_column("text", False, ALIASES["product_id"]),
    quantity=_column("number", False, ALIASES["quantity"]),
    amount=_column("number", True, ALIASES["amount"]),
    channel=_column("text", also="渠道 管道"),
)
service_cases = _schema(
    "service_cases",
    "case_id",
    [_not_before("opened", "closed")],
    case_id=_column("text", True, "case caseno ticket ticketid complaintid"),
    customer_id=_column("text", True, _WHO),
    opened=_column("moment", True, "openedat created createdat date"),
    closed=_column("moment", also="closedat resolved resolvedat"),
    channel=_column("text", also="渠道 管道"),
    category=_column("text", also="topic subject"),
    outcome=_column("text", also="result"),
)
campaign_responses = _schema(
    "campaign_responses",
    None,
    [_not_before("date", "response_date")],
    campaign_id=_column("text", True, "campaign campaignno"),
    customer_id=_column("text", True, _WHO),
    date=_column("moment", True, f"{_WHEN} contactdate sent senton"),
    channel=_column("text", also="渠道 管道"),
    arm=_column("text", also="group segment treatment"),
    responded=_column("flag", True, "response converted redeemed"),
    response_date=_column("moment", also="respondedon respondedat"),
    amount=_column("number", False, ALIASES["amount"]),
    cost=_column("number", also="contactcost"),
)
interactions = _schema(
    "interactions",
    customer_id=_column("text", True, _WHO),
    date=_column("moment", True, _WHEN),
    channel=_column("text", True, "渠道 管道"),
    kind=_column("text", known="kind"),
    function=_column("text", known="function", also="department"),
    purpose=_column("text", also="reason"),
    cost=_column("number"),
    outcome=_column("text", also="result"),
    employee=_column("text", also="agent handledby"),
)
survey = _schema(
    "survey",
    "respondent_id",
    respondent_id=_column("text", True, "respondent responseid respondentno"),
    customer_id=_column("text", False, _WHO),
    date=_column("moment", False, _WHEN),
)
CONTRACTS = {
    contract.name: contract for contract in (customers, orders, service_cases, campaign_responses, interactions, survey)
}


@dataclass(frozen=True, repr=False)
class Validated:
    """What `validate` found.

    Parameters
    ----------
    source : str
        What was checked; passwords hidden.
    contract : str
        Name of the customer table.
    rows : int
        Number of rows: those kept and those set aside.
    kept : ibis.Table
        The rows without a failure: the contract's columns with their types, then all others.
    set_aside : ibis.Table
        The other rows as the source has them, with their `row` (counted from 1) and the `reasons`.
    failures : pandas.DataFrame
        Every failure: `table`, `row`, `column`, `value`, `problem`, `what_to_do`. Without a row it is about the whole
        column.
    """

    source: str
    contract: str
    rows: int
    kept: ibis.Table
    set_aside: ibis.Table
    failures: pd.DataFrame

    def __repr__(self):
        return str(self)

    def __str__(self):
        aside = self.failures["row"].nunique()
        lines = [
            f"{self.contract} of {self.source}: {self.rows:,} rows, {self.rows - aside:,} kept, {aside:,} set aside"
        ]
        for (column, problem), found in self.failures.groupby(["column", "problem"], sort=False):
            lines.append(f"  {column} {problem}: {len(found):,}. {found['what_to_do'].iloc[0]}")
        for f in self.failures.dropna(subset="row").head(SHOWN).itertuples():
            value = "" if f.value is None or f.value != f.value else f": {str(f.value)[:60]!r}"
            lines.append(f"    row {f.row}, column {f.column!r}{value} {f.problem}")
        if len(self.failures) > SHOWN:
            lines.append(f"    … all {len(self.failures):,} failures are in .failures")
        return "\n".join(lines)


def contract_of(name):
    """Return the contract of a customer table.

    Parameters
    ----------
    name : str
        One of customers, orders, service_cases, campaign_responses, interactions, survey.

    Returns
    -------
    pandera.pandas.DataFrameSchema
        The contract.

    Raises
    ------
    DataError
        No such table.

    Examples
    --------
    >>> contract_of("survey").metadata
    {'key': 'respondent_id'}
    """
    if name not in CONTRACTS:
        near = difflib.get_close_matches(str(name), CONTRACTS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DataError(f"There is no customer table {name!r}.{hint} The tables are {', '.join(CONTRACTS)}.")
    return CONTRACTS[name]


@damage_in_words()
def validate(source, contract, as_of=None, *, table=None, encoding=None, date_format=None, decimal=None, **columns):
    """Check a customer table against its contract and list every failure, not the first only.

    A row with a failure is set aside whole and unchanged; nothing is dropped and nothing is mended. Text is read one
    way per column (see `load`); days of birth and of joining, which people write, may be in several spellings as long
    as each can be read one way only.

    Parameters
    ----------
    source : str, pathlib.Path, frame or ibis.Table
        See `load`.
    contract : str
        One of customers, orders, service_cases, campaign_responses, interactions, survey.
    as_of : date or str, optional
        The day of the check, today by default; later dates are failures.
    table : str, optional
        Table of the database.
    encoding : str, optional
        Encoding of a text file that is not UTF-8.
    date_format : str, optional
        Format of the dates, such as ``"%d/%m/%Y"``.
    decimal : {".", ","}, optional
        Decimal sign of the numbers.
    **columns : str
        The source's own names of the contract's columns, such as ``customer_id="CustNo"``.

    Returns
    -------
    Validated
        Rows kept, rows set aside and all failures.

    Raises
    ------
    DataError
        The source cannot be read, a required column is missing, or a whole column has two meanings.

    Examples
    --------
    >>> found = validate(pd.DataFrame({"Client": ["7", None], "E-Mail": ["no", "a@b.example"]}), "customers")
    >>> found.rows, found.kept.count().to_pyarrow().as_py()
    (2, 0)
    >>> found.failures[["row", "column", "problem"]].values.tolist()
    [[1, 'email', 'is no e-mail address'], [2, 'customer_id', 'is missing']]
    """
    schema = contract_of(contract)
    day = pd.Timestamp.today().date() if as_of is None else day_of("as_of", as_of)
    opened = open_source(source, table, encoding)
    numbered = _numbered(opened.table)
    own = _own_names(schema, opened.table.columns, opened.name, columns)
    staged, parsed, ages = _staged(numbered, own, schema, opened.name, date_format, decimal)
    failures = pd.concat([_cell_failures(staged, schema, parsed, day), _repeated(staged, schema)], ignore_index=True)
    failures = failures.sort_values(["row", "column", "problem"], kind="stable", ignore_index=True)
    reasons = (failures["column"] + " " + failures["problem"]).groupby(failures["row"]).agg("; ".join)
    for column in ages:
        failures.loc[len(failures), ["column", "problem"]] = column, "is stored, but changes with time"
    failures["table"] = contract
    failures["what_to_do"] = [_advice(schema, f.column, f.problem) for f in failures.itertuples()]
    bad = keep_arrow(
        arrow.table({ROW: arrow.array(reasons.index, "int64"), "reasons_": arrow.array(reasons, "string")})
    )
    kept = staged.anti_join(bad, ROW).drop(ROW, *(f"bad_{name}_" for name in parsed))
    kept = kept.mutate(**{c: kept[c].cast("date") for c in own if schema.columns[c].metadata["kind"] == "day"})
    aside = numbered.inner_join(bad, ROW)
    theirs = {column: aside[column] for column in opened.table.columns}
    aside = aside.select(
        **{free_name("row", theirs): aside[ROW], free_name("reasons", theirs): aside.reasons_}, **theirs
    )
    rows = numbered.count().to_pyarrow().as_py()
    return Validated(opened.name, contract, rows, kept, aside, failures[FAILURES])


def _numbered(table):
    """The rows with their number, in the embedded engine, where what follows has to look at them several times."""
    if table.get_backend() is connect():
        return keep(f"SELECT row_number() OVER () AS {ROW}, * FROM ({sql(table)})")
    return keep_arrow(table.to_pyarrow(), f"row_number() OVER () AS {ROW}, *")


def _own_names(schema, theirs, name, columns):
    """The source's own name for each column of the contract that it has."""
    shown = f"{name} has the columns {', '.join(theirs)}."
    if odd := [column for column in columns if column not in schema.columns]:
        raise DataError(f"{odd[0]!r} is no column of {schema.name}; these are: {', '.join(schema.columns)}.")
    own, taken = {}, [column for column in columns.values() if column is not None]
    for column, rule in schema.columns.items():
        if column in columns:
            if columns[column] is not None and columns[column] not in theirs:
                raise DataError(f"There is no column {columns[column]!r} for {column}. {shown}")
            found = [columns[column]] if columns[column] is not None else []
        elif column in theirs:
            found = [column]
        else:
            wanted = (plain(column), *rule.metadata["also"].split())
            # A column that another one has by its own name is not a second choice for this one.
            left = [c for c in theirs if c not in (*taken, *own.values(), *schema.columns)]
            found = [c for c in left if plain(c) in wanted]
        if len(found) > 1:
            raise DataError(
                f"More than one column could be {column}: {', '.join(found)}. Say which: {column}={found[0]!r}. {shown}"
            )
        if found:
            own[column] = found[0]
    if missing := [column for column, rule in schema.columns.items() if rule.required and column not in own]:
        given = ", ".join(f'{column}="…"' for column in missing)
        words = " ".join(f"--column {column}=…" for column in missing)
        raise DataError(
            f"No column could be found for {' and '.join(missing)}. {shown} Say which it is: {given} "
            f"(crmlab warehouse load: {words})."
        )
    return own


def _staged(numbered, own, schema, name, date_format, decimal):
    """Typed columns of the contract, `bad_…_` with the text of cells that do not parse, and all other columns."""
    picked, parsed, ages = {ROW: numbered[ROW]}, [], []
    for column, theirs in own.items():
        cell, kind = numbered[theirs], schema.columns[column].metadata["kind"]
        typed = _typed(cell, kind, name, theirs)
        if typed is None:
            cell = blank_to_null(as_text(cell))
            cells = numbered.select(x=cell).filter(lambda t: t.x.notnull())
            try:
                if kind in ("day", "moment"):
                    # Birth dates of several sources are written in several ways; the moments of a log are not.
                    read = date_reader(cells, theirs, date_format, sample=False, mixed=kind == "day")
                else:
                    read = number_reader(cells, theirs, decimal, sample=False)
            except DataError as error:
                raise DataError(f"{name}: {str(error).replace('load(…, ', 'validate(…, ')}") from None
            typed = read(cell)
            picked[f"bad_{column}_"] = ibis.ifelse(typed.isnull(), cell, ibis.null("string"))
            parsed.append(column)
        picked[column] = typed
    for column in numbered.columns:
        if schema.name == "customers" and plain(column) in _AGE:
            ages.append(column)
        elif column != ROW and column not in own.values():
            picked[free_name(column, [*picked, *schema.columns])] = numbered[column]
    return keep(sql(numbered.select(**picked))), parsed, ages


def _typed(cell, kind, name, column):
    """The cell as the contract wants it, or None when its text has to be read."""
    stored = cell.type()
    if kind == "text":
        return blank_to_null(as_text(cell))
    if kind in ("day", "moment"):
        if stored.is_timestamp() or stored.is_date():
            return cell.cast("timestamp(6)")
        if stored.is_string() or (stored.is_numeric() and not stored.is_boolean()):
            return None
    elif stored.is_boolean() and kind == "flag":
        return cell.cast("int8").cast("float64")
    elif stored.is_floating():
        return ibis.ifelse(cell.isnan(), ibis.null("float64"), cell.cast("float64"))
    elif stored.is_numeric() and not stored.is_boolean():
        return cell.cast("float64")
    elif stored.is_string():
        return None
    raise DataError(f"{name}: column {column!r} has the type {stored}, which is no {kind}.")


def free_name(name, taken):
    """Return a name that is not taken: itself, or with as many ``_source`` behind it as that takes.

    Parameters
    ----------
    name : str
        The name that is wanted.
    taken : iterable of str
        Names that there are; case makes no difference.

    Returns
    -------
    str
        The name to use.

    Examples
    --------
    >>> free_name("row", ["Row", "customer_id"])
    'row_source'
    """
    lower = {other.lower() for other in taken}
    while name.lower() in lower:
        name += "_source"
    return name


def _cell_failures(staged, schema, parsed, day):
    """Every failure of pandera, batch by batch."""
    latest = pd.Timestamp(day) + pd.Timedelta(days=1)
    schema = copy.deepcopy(schema)
    schema.unique = None  # asked in the engine, because a batch does not see the others
    for name, column in schema.columns.items():
        if column.metadata["kind"] in ("day", "moment"):
            column.checks.append(pa.Check(lambda s: s < latest, error="lies after the day of the check"))
        if name in parsed:
            what = "is not a date" if column.metadata["kind"] in ("day", "moment") else "is not a number"
            bad = pa.Column(None, pa.Check(lambda s: s.isna(), error=what), nullable=True)
            schema = schema.add_columns({f"bad_{name}_": bad})
    schema.checks = [c for c in schema.checks if all(name in staged.columns for name in c.statistics["needs"])]
    picked = [ROW, *(column for column in schema.columns if column in staged.columns)]
    found = [pd.DataFrame({"row": [], "column": [], "value": [], "problem": []}, dtype=object)]
    rows = staged.count().to_pyarrow().as_py()
    for first in range(1, rows + 1, BATCH):
        batch = staged.filter(staged[ROW].between(first, first + BATCH - 1)).select(picked)
        frame = batch.to_pyarrow().to_pandas().set_index(ROW)
        try:
            schema.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            found.append(_in_order(error.failure_cases))
    return pd.concat(found, ignore_index=True).astype({"row": "Int64"})


def _in_order(cases):
    """Failure cases of pandera as row, column, value, problem; one a cell and problem."""
    cases = pd.DataFrame(
        {
            "row": cases["index"],
            "column": cases["column"].astype(object),
            "value": [_as_written(value) for value in cases["failure_case"]],
            "problem": cases["check"].replace("not_nullable", "is missing").astype(object),
        }
    )
    # A check between two columns fails for all columns of the row; its text begins with the one to blame.
    wide = cases["problem"].str.endswith(" is before the start")
    blamed = cases["problem"].str.partition(" ")[0]
    cases = cases[~wide | (cases["column"] == blamed)].copy()
    cases.loc[wide, "problem"] = "is before the start"
    unread = cases["column"].str.startswith("bad_") & cases["column"].str.endswith("_")
    cases.loc[unread, "column"] = cases.loc[unread, "column"].str[4:-1]
    # What cannot be read is not missing as well.
    read = pd.MultiIndex.from_frame(cases[["row", "column"]]).isin(
        pd.MultiIndex.from_frame(cases.loc[unread, ["row", "column"]])
    )
    return cases[~(read & (cases["problem"] == "is missing"))]


def _as_written(value):
    if value is None or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if value == value.normalize() else str(value)
    return str(value)


def _repeated(staged, schema):
    """Rows whose key an earlier row has already."""
    key = schema.metadata["key"]
    if key is None:
        return pd.DataFrame({"row": pd.array([], "Int64"), "column": [], "value": [], "problem": []})
    window = ibis.window(group_by=key, order_by=ROW)
    ranked = staged.select(ROW, key).filter(lambda t: t[key].notnull())
    ranked = ranked.mutate(place=ibis.row_number().over(window))
    again = ranked.filter(ranked.place > 0).select(row=ROW, value=key).to_pyarrow().to_pandas()
    return again.assign(column=key, problem="is in an earlier row already").astype({"row": "Int64"})


def _advice(schema, column, problem):
    if problem == "is not one of the known words":
        return f"Use one of {', '.join(schema.columns[column].metadata['known'])}, or leave the cell empty."
    return WHAT_TO_DO[problem]
