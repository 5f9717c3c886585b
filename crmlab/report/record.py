"""Name the numbers and tables of a notebook, so that its report can keep them.

`record` and `record_table` only display: a sentence or a table for the reader, and beside it, in the same output, the
data under a type of our own. The runner collects those from the executed notebook; nothing is written to disk here.
"""

import contextlib
import datetime
import html
import importlib.metadata
import math
import platform
import re

MIME = "application/vnd.crmlab.record+json"
MAX_ROWS = 100_000
SHOWN_ROWS = 20
PACKAGES = ("pandas", "numpy", "scipy", "statsmodels", "ibis-framework", "duckdb", "papermill")
_NAME = re.compile(r"[a-z0-9_]+")
# What the catalogue says of data that a reader might otherwise take for those of a firm.
_UNREAL = ("simulated", "fictional", "teaching case")
# A spreadsheet takes a text that begins like this for a formula; some take the wide signs of Chinese and Japanese too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class _Shown:
    """An output with the reader's forms and ours; `display` wants an object that knows its own mime types."""

    def __init__(self, text, page, payload):
        self.text, self.page, self.payload = text, page, payload

    def __repr__(self):
        return self.text

    def _repr_mimebundle_(self, include=None, exclude=None):
        shown = {"text/plain": self.text, "text/html": self.page}
        return shown if self.payload is None else {**shown, MIME: self.payload}


def record(name, value, unit="", interval=None, label=None):
    """Show a key figure and keep it for the report.

    Parameters
    ----------
    name : str
        Name in ``results.json``: small letters, digits and underscores, once a notebook.
    value : number, str, bool, date or None
        The figure, as exact as it is; rounding is for display only. NaN and infinities are kept as "null" with a text.
    unit : str, optional
        Unit shown after the value, such as ``"$"`` or ``"weeks"``.
    interval : sequence of two numbers, optional
        Lower and upper limit of the 95% interval.
    label : str, optional
        Words for the reader; from the name when not given.

    Raises
    ------
    TypeError
        If the value is not a single number, text, truth value or date.
    ValueError
        If the name or the interval is malformed.

    Examples
    --------
    >>> record("revenue_at_stake", 12345.4, "$", (11000, 13000))
    Revenue at stake: 12,345 $ (95% interval 11,000 to 13,000)
    """
    name, label = _checked(name), label or name.replace("_", " ").capitalize()
    values = [_plain(name, each) for each in [value, *(() if interval is None else interval)]]
    if len(values) not in (1, 3):
        raise ValueError(f"{name}: an interval is a lower and an upper limit, not {len(values) - 1} values.")
    # Together, so that value and limits have the same decimals.
    shown, *limits = in_words(values)
    shown += unit if unit == "%" else f" {unit}" if unit else ""
    limits = " to ".join(limits)
    value, *interval = [None if isinstance(each, float) and not math.isfinite(each) else each for each in values]
    payload = {
        "kind": "figure",
        "name": name,
        "label": label,
        "value": value,
        "unit": unit,
        "interval": interval or None,
        "text": shown,
        "interval_text": limits or None,
    }
    tail = f" (95% interval {limits})" if limits else ""
    page = f'<p class="figure">{html.escape(label)}: <strong>{html.escape(shown)}</strong>{html.escape(tail)}</p>'
    _show(f"{label}: {shown}{tail}", page, payload)


def record_table(name, frame, caption=None):
    """Show the first rows of a table and keep all of it for the report.

    Parameters
    ----------
    name : str
        Name of the file, ``tables/NAME.csv``: small letters, digits and underscores, once a notebook.
    frame : pandas.DataFrame or pandas.Series
        The table, at most 100,000 rows. An index that is more than row numbers becomes columns.
    caption : str, optional
        One line above the table.

    Raises
    ------
    TypeError
        If `frame` is not a pandas table.
    ValueError
        If the name is malformed or the table too long.

    Examples
    --------
    >>> import pandas as pd
    >>> record_table("states", pd.DataFrame({"state": ["active", "lost"], "share": [0.25, 0.75]}), "Customers by state")
    Customers by state
    state   share
    active  0.25
    lost    0.75
    """
    import pandas as pd

    name = _checked(name)
    if isinstance(frame, pd.Series):
        frame = frame.to_frame("value" if frame.name is None else frame.name)
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{name}: a pandas table is wanted, not {type(frame).__name__}; try .to_pandas() first.")
    if len(frame) > MAX_ROWS:
        raise ValueError(
            f"{name}: {len(frame):,} rows are too many for a report (at most {MAX_ROWS:,}). Aggregate the table, "
            "or write it to a file of your own with .to_parquet()."
        )
    frame = _flat(frame)
    payload = {
        "kind": "table",
        "name": name,
        "caption": caption,
        "rows": len(frame),
        "columns": list(frame.columns),
        "csv": to_csv(frame),
    }
    columns = [_cells(frame.iloc[:SHOWN_ROWS, i]) for i in range(frame.shape[1])]
    note = f"first {SHOWN_ROWS} of {len(frame):,} rows" if len(frame) > SHOWN_ROWS else None
    _show(_as_text(frame, columns, caption, note), _as_html(frame, columns, caption, note), payload)


def say(text):
    """Show a sentence that reads computed numbers, so that the words of a notebook fit whatever data it runs on.

    Parameters
    ----------
    text : str
        Markdown. A dollar sign before a number is a currency and not the beginning of a formula.

    Examples
    --------
    >>> say(f"The answer is **{6 * 7}**.")
    The answer is **42**.
    """
    from IPython.display import Markdown, display

    class Said(Markdown):
        def __repr__(self):
            return text

    text = re.sub(r"(?<![\\$])\$(?=\d)", r"\\$", text)
    display(Said(text))


def provenance(dataset):
    """Show where the numbers of a notebook come from: the data with their licence, and the software.

    Parameters
    ----------
    dataset : str
        Name of the catalogue, path or database address, as in the notebook's parameter.

    Examples
    --------
    >>> provenance("cdnow")  # doctest: +ELLIPSIS
    Where these numbers come from
    Data...CDNOW purchase history, all customers...
    """
    from crmlab import data
    from crmlab.data.masking import mask

    facts, day, reality = {"Data": mask(str(dataset))}, None, None
    if dataset in data.names():
        known = data.catalogue().loc[dataset]
        facts["Data"], day, reality = known["title"], known["last"], known["reality"]
        facts |= {"Reality": known["reality"], "Origin": known["origin"]}
        facts |= {"Licence": known["licence"], "Citation": known["citation"]}
    else:
        # What has no dates, or no longer opens, has no latest one.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            day = data.load(dataset).date.max().to_pandas()
    day = _plain("date", day)
    if isinstance(day, str):
        facts["Data as of"] = day[:10]
    facts["Software"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    title = "Where these numbers come from"
    text = "\n".join([title, *(f"{name:12}{fact}" for name, fact in facts.items())])
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td style="text-align: left">{html.escape(fact)}</td></tr>'
        for name, fact in facts.items()
    )
    about = {"day": day[:10] if isinstance(day, str) else None, "reality": reality if reality in _UNREAL else None}
    payload = {"kind": "about"} | about if any(about.values()) else None
    _show(text, f'<table class="record"><caption>{title}</caption><tbody>{rows}</tbody></table>', payload)


def versions():
    """Return the versions of what computes: Python, this package and the packages it stands on.

    Returns
    -------
    dict
        Name to version.

    Examples
    --------
    >>> "pandas" in versions()
    True
    """
    import crmlab

    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "crmlab": crmlab.__version__} | found


def collect(notebook):
    """Take the records out of an executed notebook.

    The notebook loses its record data, which a reader of the published notebook has no use for.

    Parameters
    ----------
    notebook : dict
        An executed notebook; changed in place.

    Returns
    -------
    figures : dict
        Name to data.
    tables : dict
        Name to data.
    about : dict
        What the notebook told of its data: `data_as_of`, the latest day in ISO form, and `reality`, where they are not
        real.

    Raises
    ------
    ValueError
        If a name was recorded twice or is malformed.
    """
    found, days, kinds = {"figure": {}, "table": {}}, [], []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            payload = output.get("data", {}).pop(MIME, None)
            if payload is None:
                continue
            if payload["kind"] == "about":
                days += [datetime.date.fromisoformat(payload["day"]).isoformat()] if payload["day"] else []
                kinds += [payload["reality"]] if payload["reality"] in _UNREAL else []
                continue
            name = _checked(payload["name"])
            if name in found[payload["kind"]]:
                raise ValueError(f"{name!r} is recorded twice; every {payload['kind']} needs a name of its own.")
            found[payload["kind"]][name] = payload
    about = {"data_as_of": max(days, default=None), "reality": next(iter(kinds), None)}
    return found["figure"], found["table"], {name: fact for name, fact in about.items() if fact}


def _show(text, page, payload=None):
    from IPython.display import display

    display(_Shown(text, page, payload))


def _checked(name):
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a record; use small letters, digits and _, such as 'churn_rate'.")
    return name


def _plain(name, value):
    """Return a value as plain Python has it."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        # By .item() alone, times of numpy in nanoseconds turn into bare integers.
        value = (value.astype(f"{value.dtype.kind}8[us]") if value.dtype.kind in "mM" else value).item()
    # By name, because importing pandas and decimal to know their values would cost more than it gives.
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if type(value).__name__ == "Decimal":
        return float(value)
    if isinstance(value, datetime.date):
        return _date(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{name}: a key figure is one number, text, truth value or date, not {type(value).__name__}. "
        "Pick one value, or use record_table."
    )


def in_words(values):
    """Write values that stand together: four significant digits of the largest, thousands separated from 10,000 on.

    Parameters
    ----------
    values : list
        Numbers, texts, truth values, dates or None.

    Returns
    -------
    list of str
        One text a value, all with the same decimals.

    Examples
    --------
    >>> in_words([36.25, 41.0])
    ['36.25', '41.00']
    """
    sizes = [abs(value) for value in values if is_number(value)]
    largest = max(sizes, default=0)
    decimals = min(max(3 - math.floor(math.log10(largest)), 0), 4) if 0 < largest < 1e15 else 0
    if not any(isinstance(value, float) for value in values):
        decimals = 0
    while decimals and all(round(size, decimals) == round(size, decimals - 1) for size in sizes):
        decimals -= 1
    return [_word(value, decimals, "," if largest >= 10_000 else "") for value in values]


def _word(value, decimals, comma):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        text = f"{value:{comma}.{decimals}f}"
        # What would round to nothing, or would be a line of digits, is written with a power of ten.
        return f"{value:.4g}" if abs(value) >= 1e15 or (value and not float(text.replace(",", ""))) else text
    if isinstance(value, float):
        return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return "not available"
    return _date(value) if isinstance(value, datetime.date) else str(value)


def is_number(value):
    """Tell whether a value is a finite number; truth values are none.

    Parameters
    ----------
    value : object
        Any value.

    Returns
    -------
    bool
        Whether one can calculate with it.

    Examples
    --------
    >>> is_number(1.5), is_number(True), is_number(float("nan"))
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _date(value):
    return str(value).removesuffix(" 00:00:00")


def _flat(frame):
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        frame = frame.reset_index(allow_duplicates=True)
    # Level by level, because a header of several rows is no header to most readers of CSV.
    names = [
        " ".join(str(part) for part in name if part != "") if isinstance(name, tuple) else str(name) for name in frame
    ]
    return frame.set_axis(names, axis="columns")


def to_csv(frame):
    """Write a table as CSV in which a spreadsheet finds nothing to compute.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table; its index is not written.

    Returns
    -------
    str
        The CSV; texts that begin like a formula have an apostrophe in front.

    Examples
    --------
    >>> import pandas as pd
    >>> to_csv(pd.DataFrame({"name": ["=1+1"], "n": [-1]}))
    "name,n\\n'=1+1,-1\\n"
    """
    import pandas as pd

    def guarded(value):
        return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    columns = [column.astype(object).map(guarded) if _is_text(column) else column for column in columns]
    # Numbered, because names may occur twice.
    safe = pd.DataFrame(dict(enumerate(columns)), index=frame.index)
    return safe.to_csv(index=False, lineterminator="\n", header=[guarded(name) for name in frame.columns])


def _is_text(column):
    from pandas.api import types

    return not (types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column))


def _cells(column):
    gone = column.isna()
    return ["–" if missing else word for word, missing in zip(in_words(column.tolist()), gone, strict=True)]


def _as_text(frame, columns, caption, note):
    rows = [list(frame.columns), *zip(*columns, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*([caption] if caption else []), *lines, *([note] if note else [])])


def _as_html(frame, columns, caption, note):
    sides = ["left" if _is_text(frame.iloc[:, i]) else "right" for i in range(frame.shape[1])]

    def row(tag, cells):
        return "".join(
            f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )

    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in zip(*columns, strict=True))
    return (
        '<table class="record">'
        + (f"<caption>{html.escape(caption)}</caption>" if caption else "")
        + f"<thead><tr>{row('th', frame.columns)}</tr></thead><tbody>{body}</tbody></table>"
        + (f'<p class="note">{note}</p>' if note else "")
    )
