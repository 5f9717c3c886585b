"""What a transaction log is fit for: every row is kept or set aside with one reason; a bad cell stops nothing."""

import datetime
import html
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

import ibis
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.findings import COLUMNS, UNFIT, clip, facts_of, judge, kept_findings, set_aside_findings
from crmlab.data.read import cell_faults, in_words, prepare
from crmlab.data.sets import with_reality
from crmlab.data.sources import damage_in_words

SHOWN_FAULTS = 20


@dataclass(frozen=True, repr=False)
class Audit:
    """What `audit` found.

    Parameters
    ----------
    source : str
        What was audited; passwords hidden.
    rows : int
        Number of rows: those kept and those set aside.
    kept : ibis.Table
        The usable rows, canonical columns first.
    set_aside : ibis.Table
        The other rows with `row` (counted from 1; null where the source has no order), `reason`, and the `cell` to
        blame as text.
    findings : pandas.DataFrame
        One row a finding: check, severity ("set aside", "warning", "note"), rows, share of all rows, their amount,
        first_rows, example and meaning.
    faults : pandas.DataFrame
        The cells that do not parse, at most 1,000: `row`, `column`, `value`, `problem`. A row may have several, but
        it is set aside for one reason.
    facts : dict
        Of the kept rows: rows, customers, repeat customers (on more than one day), first and last date, total amount,
        whether the dates have times, and `columns`, the source's own name of each canonical column.
    fit : str
        "fit", "fit with warnings" or "unfit".
    """

    source: str
    rows: int
    kept: ibis.Table
    set_aside: ibis.Table
    findings: pd.DataFrame
    faults: pd.DataFrame
    facts: dict
    fit: str

    def __repr__(self):
        return str(self)

    def __str__(self):
        lines = [f"Audit of {clip(self.source, 60)}: {self.fit}", *(f"  {line}" for line in _summary(self))]
        for severity, title in (("set aside", "Set aside"), ("warning", "Warnings"), ("note", "Notes")):
            found = self.findings[self.findings["severity"] == severity]
            lines += ["", title] if len(found) else []
            for f in found.itertuples():
                count = f"{f.rows:,} row{'s' * (f.rows != 1)}, {f.share:.1%}" if f.rows else ""
                amount = f"amount {f.amount:,.2f}" if pd.notna(f.amount) else ""
                lines.append("  " + "; ".join(filter(None, [f.check, count, amount])))
                if f.example:
                    lines.append(f"      {clip(f.example, 92)}")
                lines += textwrap.wrap(f.meaning, 94, initial_indent=" " * 6, subsequent_indent=" " * 6)
            if severity == "set aside" and len(self.faults):
                lines += ["", "Cells that cannot be read"]
                lines += [f"  {clip(line, 96)}" for line in in_words(self.faults.head(SHOWN_FAULTS))]
                if (more := len(self.faults) - SHOWN_FAULTS) > 0:
                    lines.append(f"  … and {more:,} more, in the audit's .faults")
        return "\n".join(lines)

    def _repr_html_(self):
        lines = "<br>".join(html.escape(line) for line in [f"Audit of {self.source}: {self.fit}", *_summary(self)])
        head = "".join(f"<th>{name}</th>" for name in ("finding", "rows", "share", "amount", "meaning"))
        rows = "".join(_as_row(finding) for finding in self.findings.itertuples())
        table = f'<table class="record"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>' if rows else ""
        return f"<div><p>{lines}</p>{table}</div>"


def _as_row(finding):
    cells = [
        f"{finding.severity}: {finding.check}",
        f"{finding.rows:,}" if finding.rows else "",
        f"{finding.share:.1%}" if finding.rows else "",
        f"{finding.amount:,.2f}" if pd.notna(finding.amount) else "",
        f"{finding.meaning} {finding.example}".strip(),
    ]
    return "<tr>" + "".join(f'<td style="text-align: left">{html.escape(cell)}</td>' for cell in cells) + "</tr>"


@dataclass(frozen=True)
class Check:
    """The answer of `check`.

    Parameters
    ----------
    text : str
        The audit, and what the file can feed.
    exit_code : int
        0 fit, 1 fit with warnings, 2 unfit or unreadable.
    """

    text: str
    exit_code: int


@damage_in_words()
def audit(source, as_of=None, *, table=None, encoding=None, date_format=None, decimal=None, **columns):
    """Tell which rows of a transaction log can be used, and what to know about them.

    Every row is either kept or set aside with one reason; cells that do not parse are a reason, not an error.

    Parameters
    ----------
    source : str, pathlib.Path, frame or ibis.Table
        See `load`.
    as_of : date or str, optional
        The day of the audit, today by default; later dates are set aside.
    table : str, optional
        Table of the database.
    encoding : str, optional
        Encoding of a text file that is not UTF-8.
    date_format : str, optional
        Format of the dates.
    decimal : {".", ","}, optional
        Decimal sign of the numbers.
    **columns : str
        The source's own names of canonical columns.

    Returns
    -------
    Audit
        Kept rows, rows set aside, findings and facts; prints as a text.

    Raises
    ------
    DataError
        The source cannot be read at all, or a whole column has two meanings.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"customer_id": ["a", "a", None], "date": ["2024-01-01", "2024-01-09", "2024-01-10"]})
    >>> found = audit(log, as_of="2024-02-01")
    >>> found.rows, found.kept.count().to_pyarrow().as_py()
    (3, 2)
    >>> found.findings.loc[0, "check"]
    'missing customer id'
    """
    day = _day(as_of)
    prepared = prepare(source, table, encoding, date_format, decimal, columns)
    judged = judge(prepared, day)
    kept = judged.filter(judged.reason.isnull()).drop("row", "reason", "cell")
    aside = judged.filter(judged.reason.notnull())
    facts = facts_of(kept, prepared.own)
    found = [*set_aside_findings(aside), *kept_findings(prepared, judged, facts)]
    findings = pd.DataFrame(found, columns=COLUMNS).astype({"rows": "int64", "amount": "float64"})
    rows = judged.count().to_pyarrow().as_py()
    findings["share"] = findings["rows"] / max(rows, 1)
    fit = "fit with warnings" if findings["severity"].isin(["warning", "set aside"]).any() else "fit"
    fit = "unfit" if findings["check"].isin(UNFIT).any() else fit
    return Audit(with_reality(prepared.source), rows, kept, aside, findings, cell_faults(prepared), facts, fit)


def check(path, notebooks=None, as_of=None, **options):
    """Audit a source and tell which notebooks it can feed.

    Parameters
    ----------
    path : str, pathlib.Path, frame or ibis.Table
        See `load`.
    notebooks : str or pathlib.Path, optional
        Folder of notebooks whose metadata name the columns they need; those of the workbook by default.
    as_of : date or str, optional
        The day of the audit, today by default.
    **options : str
        See `audit`.

    Returns
    -------
    Check
        A text and an exit code.
    """
    try:
        found = audit(path, as_of, **options)
    except DataError as error:
        return Check(f"{error}\n", 2)
    lines = [str(found), ""]
    needs = _needs(Path(notebooks or Path(__file__).parents[2] / "notebooks"))
    if needs:
        lines.append("Notebooks, by the columns they need:")
    for name, wanted in needs.items():
        missing = ", ".join(column for column in wanted if column not in found.facts["columns"])
        fed = "can feed" if found.fit != "unfit" else "has the columns, but the log is unfit"
        lines.append(f"  {name}: {f'missing: {missing}' if missing else fed}")
    code = {"fit": 0, "fit with warnings": 1, "unfit": 2}[found.fit]
    return Check("\n".join(lines).rstrip() + "\n", code)


def _needs(folder):
    needs = {}
    for file in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        try:
            wanted = json.loads(file.read_text(encoding="utf-8"))["metadata"]["crmlab"]["needs"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a notebook that names no needs is not fed by a log
        needs[file.stem] = [str(column) for column in wanted]
    return needs


def _day(as_of):
    try:
        day = datetime.date.today() if as_of is None else pd.Timestamp(as_of).date()
    except (ValueError, TypeError):
        day = pd.NaT
    if pd.isna(day):
        raise DataError(f"as_of={as_of!r} is not a day; write it like 2024-01-31.")
    return day


def _summary(found):
    facts = found.facts
    yield f"{found.rows:,} rows, {facts['rows']:,} kept, {found.rows - facts['rows']:,} set aside"
    if facts["rows"]:
        again = f"{facts['customers']:,} customers, {facts['repeat customers']:,} of them on more than one day"
        yield f"{again}; {facts['first date']:%Y-%m-%d} to {facts['last date']:%Y-%m-%d}"
    if facts["total amount"] is not None:
        yield f"total amount {facts['total amount']:,.2f}"
