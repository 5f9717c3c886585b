"""What there is to say about the rows of a transaction log: a reason against each unusable one, warnings and notes."""

import calendar
import datetime
import functools
import itertools
import operator
import unicodedata

import ibis
import pandas as pd

from crmlab.data.cells import OFFSET
from crmlab.data.read import CANONICAL, row_numbers

# In this order: a row is set aside for the first reason that applies.
REASONS = {
    "missing customer id": "Nobody to assign the purchase to.",
    "missing date": "No place in time.",
    "unparseable date": "The cell is not a day written like the others of its column.",
    "unparseable amount": "The cell is not a number written like the others of its column.",
    "unparseable quantity": "The cell is not a number written like the others of its column.",
    "missing amount": "A purchase of unknown value: sums and averages would treat it as nothing.",
    "future date": "After the day of the audit.",
    "cancellation": "Negative quantity, or an order number such as C123456 and nothing to pay: not a purchase.",
    "negative amount": "A refund or a correction: not a purchase.",
}
CHECKS = {
    "no rows kept": "Every row was set aside.",
    "one customer only": "Models of customers need many customers.",
    "one day only": "Nothing can be said about returning.",
    "no repeat purchases": "Nobody bought on a second day: models of repeat buying have nothing to learn from.",
    "ids that look alike": "They differ only by case, spaces or leading zeros: one customer may be counted twice.",
    "mixed time offsets": "Local times were kept and offsets dropped: hours of different zones are not comparable.",
    "gaps": "No transaction for at least three times the usual pause (the 95th percentile of the days between "
    "neighbouring days with a transaction, from ten such days on): closed, or rows are missing.",
    "zero amounts": "Kept: free items, gifts or errors. Models of spending leave them out.",
    "identical rows": "Kept: several orders of one day may look the same. Summaries merge the purchases of a day.",
    "constant columns": "The same in every row: they carry no information.",
    "dates without times": "Every time is midnight: hours cannot be analysed.",
    "last month incomplete": "Compare it with other months only after dropping it.",
    "cells that look like formulas": "Harmless here; a spreadsheet would run them, so an export must neutralise them.",
}
UNFIT = ("no rows kept", "one customer only", "one day only", "no repeat purchases")
WARNINGS = (*UNFIT, "ids that look alike", "mixed time offsets", "gaps")
_SHOWN = 5
COLUMNS = ["check", "severity", "rows", "share", "amount", "first_rows", "example", "meaning"]


def judge(prepared, day):
    """Return every row with its number, the first reason against it, and the cell to blame.

    Parameters
    ----------
    prepared : Prepared
        A source read by `crmlab.data.read.prepare`.
    day : datetime.date
        The day of the audit.

    Returns
    -------
    ibis.Table
        `row`, `reason` (null for a usable row), `cell`, the canonical columns, and all others.
    """
    canonical = [name for name in CANONICAL if name in prepared.own]
    t = prepared.table
    nothing, later = ibis.null("string"), ibis.literal(datetime.datetime.combine(day, datetime.time.max))
    bad = {name: t[f"bad_{name}"] if name in prepared.parsed else nothing for name in ("date", "amount", "quantity")}
    amount = t.amount if "amount" in canonical else ibis.null("float64")
    quantity = t.quantity if "quantity" in canonical else ibis.null("float64")
    order = t.order_id if "order_id" in canonical and t.order_id.type().is_string() else nothing
    void = (amount <= 0).fill_null(False) | (quantity <= 0).fill_null(False)
    infinite = (amount.abs() > 1e300).fill_null(False)
    rules = {
        "missing customer id": (_missing(t.customer_id), nothing),
        "missing date": (t.date.isnull() & bad["date"].isnull(), nothing),
        "unparseable date": (bad["date"].notnull(), bad["date"]),
        "unparseable amount": (bad["amount"].notnull() | infinite, bad["amount"].coalesce(amount.cast("string"))),
        "unparseable quantity": (bad["quantity"].notnull(), bad["quantity"]),
        "missing amount": (amount.isnull() if "amount" in canonical else ibis.literal(False), nothing),
        "future date": (t.date > later, t.date.cast("string")),
        "cancellation": (
            (quantity < 0).fill_null(False) | (order.re_search(r"^[Cc]\d+$").fill_null(False) & void),
            order.coalesce(quantity.cast("string")),
        ),
        "negative amount": (amount < 0, amount.cast("string")),
    }
    hidden = [*canonical, *(f"bad_{name}" for name in prepared.parsed)]
    renamed = {}
    for name in t.columns:
        new = name
        while new.lower() in ("row", "reason", "cell") or (new != name and new in t.columns):
            new += "_source"
        if name not in hidden:
            renamed[new] = t[name]
    return t.select(
        row=row_numbers(prepared).cast("int64"),
        reason=ibis.cases(*((rule, reason) for reason, (rule, _) in rules.items())),
        cell=ibis.cases(*((rule, cell) for rule, cell in rules.values())),
        **{name: t[name] for name in canonical},
        **renamed,
    )


def _missing(customer_id):
    empty = customer_id.isnull()
    return empty | (customer_id.strip() == "") if customer_id.type().is_string() else empty


def set_aside_findings(aside):
    """Return one finding for each reason that applies.

    Parameters
    ----------
    aside : ibis.Table
        The rows of `judged` that have a reason.

    Returns
    -------
    list of dict
        Findings, in the order of `REASONS`.
    """
    present = aside.select("reason").distinct().to_pyarrow()["reason"].to_pylist()
    return [_found(reason, aside.filter(aside.reason == reason)) for reason in REASONS if reason in present]


def facts_of(kept, own):
    """Return what the kept rows amount to.

    Parameters
    ----------
    kept : ibis.Table
        The usable rows.
    own : dict
        The source's own name of each canonical column.

    Returns
    -------
    dict
        See `crmlab.data.auditing.Audit`.
    """
    total = kept.amount.sum() if "amount" in own else ibis.null("float64")
    times = (kept.date != kept.date.truncate("D")).sum()
    # Grouping by customer once is cheaper than counting distinct customers and days.
    each = kept.group_by("customer_id").aggregate(
        n=kept.count(), first=kept.date.min(), last=kept.date.max(), total=total, times=times
    )
    found = _one(
        each.aggregate(
            rows=each.n.sum(),
            customers=each.count(),
            again=(each["first"].truncate("D") != each["last"].truncate("D")).sum(),
            first=each["first"].min(),
            last=each["last"].max(),
            total=each.total.sum(),
            times=each.times.sum(),
        )
    )
    return {
        "rows": found["rows"] or 0,
        "customers": found["customers"],
        "repeat customers": found["again"] or 0,
        "first date": found["first"],
        "last date": found["last"],
        "total amount": found["total"],
        "dates have times": bool(found["times"]),
        "columns": dict(own),
    }


def kept_findings(prepared, judged, facts):
    """Return what is to be known of the kept rows.

    Parameters
    ----------
    prepared : Prepared
        A source read by `crmlab.data.read.prepare`.
    judged : ibis.Table
        Its rows, by `judge`.
    facts : dict
        What `facts_of` found.

    Returns
    -------
    list of dict
        Findings, in the order of `CHECKS`.
    """
    good = judged.filter(judged.reason.isnull())
    if not facts["rows"]:
        return [_finding("no rows kept")]
    found = [*_on_customers(good, facts), *_on_time(good, facts), *_on_rows(good, facts)]
    found += [*_on_text(judged), *_on_offsets(prepared)]
    return sorted(found, key=lambda finding: list(CHECKS).index(finding["check"]))


def clip(text, width=40):
    """Return the text shortened to a number of terminal columns, where a Chinese character takes two.

    Parameters
    ----------
    text : object
        What to show.
    width : int, default 40
        Columns.

    Returns
    -------
    str
        The text, with an ellipsis where it was cut.

    Examples
    --------
    >>> clip("顾客编号", 5)
    '顾客…'
    """
    text = str(text)
    columns = list(itertools.accumulate(1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text))
    if not columns or columns[-1] <= width:
        return text
    return text[: sum(column < width for column in columns)] + "…"


def _one(expression):
    return expression.to_pyarrow().to_pylist()[0]


def _finding(check, rows=0, amount=None, first_rows=(), example=""):
    severity = "set aside" if check in REASONS else "warning" if check in WARNINGS else "note"
    meaning = REASONS.get(check) or CHECKS[check]
    return dict(zip(COLUMNS, (check, severity, rows, 0.0, amount, list(first_rows), example, meaning), strict=True))


def _rows_and_cell(first, cell):
    where = f"row{'s' * (len(first) > 1)} {', '.join(map(str, first))}" if first else ""
    return ": ".join(filter(None, [where, repr(clip(cell)) if cell is not None else ""]))


def _found(check, rows, example=""):
    """A finding about rows of a table that has `row` and `cell`."""
    amount = rows.amount.sum() if "amount" in rows.columns else ibis.null("float64")
    found = _one(rows.aggregate(n=rows.count(), amount=amount))
    first = rows.order_by("row", "cell").limit(_SHOWN).select("row", "cell").to_pyarrow().to_pylist()
    numbers = [row["row"] for row in first if row["row"] is not None]
    cell = first[0]["cell"] if first else None
    return _finding(check, found["n"], found["amount"], numbers, example or _rows_and_cell(numbers, cell))


def _on_customers(good, facts):
    if facts["customers"] == 1:
        yield _finding("one customer only")
    if facts["first date"].date() == facts["last date"].date():
        yield _finding("one day only")
    elif not facts["repeat customers"]:
        yield _finding("no repeat purchases")
    if good.customer_id.type().is_string():
        ids = good.select("customer_id").distinct()
        # Without a group in the pattern: engines write \1 in their own ways.
        plain = ids.customer_id.strip().lower().re_replace("^0+", "").nullif("")
        ids = ids.mutate(alike=plain.coalesce("0"))
        twins = ids.group_by("alike").aggregate(n=ids.count(), one=ids.customer_id.min(), two=ids.customer_id.max())
        twins = twins.filter(twins.n > 1)
        some = twins.order_by("alike").limit(1).to_pyarrow().to_pylist()
        if some:
            theirs = good.semi_join(ids.semi_join(twins, "alike"), "customer_id")
            groups = twins.count().to_pyarrow().as_py()
            example = f"in {groups:,} case{'s' * (groups > 1)}: {clip(some[0]['one'])!r}, {clip(some[0]['two'])!r}"
            yield _found("ids that look alike", theirs, example)


def _on_time(good, facts):
    if not facts["dates have times"]:
        yield _finding("dates without times")
    days = good.select(day=good.date.truncate("D").cast("date")).distinct().order_by("day").to_pyarrow()["day"]
    days = days.to_pylist()
    pauses = pd.Series([(b - a).days for a, b in itertools.pairwise(days)], dtype="float64")
    usual = pauses.quantile(0.95) if len(days) >= 10 else float("inf")
    gaps = [i for i, pause in enumerate(pauses) if pause >= 3 * usual]
    if gaps:
        worst = max(gaps, key=lambda i: pauses[i])
        example = f"{len(gaps)}, the longest from {days[worst]} to {days[worst + 1]}; usual: up to {usual:g} days"
        yield _finding("gaps", example=example)
    last = days[-1]
    month = calendar.monthrange(last.year, last.month)[1]
    # Ending a usual pause before the month does is complete: a shop may be closed on the last day.
    if len(days) > 1 and month - last.day >= max(1, usual if usual < 31 else 1):
        yield _finding("last month incomplete", example=f"it ends on {last}")


def _on_rows(good, facts):
    columns = [name for name in good.columns if name not in ("row", "reason", "cell") and _orders(good[name])]
    if "amount" in columns:
        zero = good.filter(good.amount == 0)
        found = _found("zero amounts", zero)
        if found["rows"]:
            yield found
    if facts["rows"] > 1:
        ends = {f"min{i}": good[name].min() for i, name in enumerate(columns)}
        ends |= {f"max{i}": good[name].max() for i, name in enumerate(columns)}
        ends |= {f"n{i}": good[name].count() for i, name in enumerate(columns)}
        seen = _one(good.aggregate(**ends))
        constant = [
            name
            for i, name in enumerate(columns)
            if seen[f"min{i}"] == seen[f"max{i}"] and seen[f"n{i}"] in (0, facts["rows"])
        ]
        if constant:
            yield _finding("constant columns", example=clip(", ".join(constant), 90))
    same = good.group_by(columns).aggregate(n=good.count(), first=good.row.min())
    extra = same.filter(same.n > 1)
    amount = (extra.amount * (extra.n - 1)).sum() if "amount" in columns else ibis.null("float64")
    found = _one(extra.aggregate(rows=(extra.n - 1).sum(), amount=amount))
    if found["rows"]:
        first = extra.order_by("first").limit(_SHOWN).select("first").to_pyarrow()["first"].to_pylist()
        numbers = [row for row in first if row is not None]
        example = f"repeated: {_rows_and_cell(numbers, None)}" if numbers else ""
        yield _finding("identical rows", found["rows"], found["amount"], numbers, example)


def _orders(column):
    kind = column.type()
    return kind.is_string() or kind.is_numeric() or kind.is_temporal() or kind.is_boolean()


def _on_text(judged):
    texts = [name for name in judged.columns if name != "reason" and judged[name].type().is_string()]
    if texts:
        like = r"^\s*(?:[=@]|\+\D)"
        formula = functools.reduce(operator.or_, (judged[name].re_search(like).fill_null(False) for name in texts))
        rows = judged.filter(formula)
        found = _found("cells that look like formulas", rows)
        if found["rows"]:
            cell = ibis.cases(*((judged[name].re_search(like), judged[name]) for name in texts))
            shown = rows.select("row", cell=cell).order_by("row", "cell").limit(1).to_pyarrow().to_pylist()[0]
            yield found | {"example": _rows_and_cell(found["first_rows"], shown["cell"])}


def _on_offsets(prepared):
    own = prepared.own["date"]
    if "date" in prepared.parsed and prepared.raw[own].type().is_string():
        text = prepared.raw[own].strip()
        # A day ends like an offset (-31): only cells with a time count.
        offset = ibis.ifelse(
            text.right(6).re_search(f"{OFFSET}$"), text.re_extract(rf":\d\d.*?({OFFSET})$", 1), ""
        ).nullif("")
        timed = prepared.raw.filter(text.contains(":"))
        counts = timed.group_by(offset=offset.fill_null("none")).aggregate(n=lambda t: t.count())
        counts = counts.order_by(ibis.desc("n"), "offset").to_pyarrow().to_pylist()
        if len(counts) > 1:
            example = ", ".join(f"{found['offset']} in {found['n']:,}" for found in counts[:4])
            yield _finding("mixed time offsets", sum(found["n"] for found in counts[1:]), example=example)
