"""Lists of customers to contact: files that somebody else sends from, with everyone who is left out counted."""

import csv
import datetime
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.days import day_of
from crmlab.data.download import whole
from crmlab.data.errors import DataError
from crmlab.data.sources import open_source
from crmlab.data.textfile import read_text_file
from crmlab.market.assignment import as_id, assign_control
from crmlab.market.experiments import row_numbers

COLUMNS = ("customer_id", "segment", "reason", "offer", "channel", "send_on", "expires_on", "control")
"""Columns of a contact list."""
SUPPRESSED = (
    "no customer id",
    "send_on or expires_on is no date",
    "expired",
    "opted out",
    "no consent",
    "open complaint",
    "contacted too often",
    "another offer is open",
    "another row of this list",
)
"""Why a candidate is not on the list; the first that applies is the one that counts."""
YES, NO = {"1", "1.0", "true", "yes", "y", "ja", "是"}, {"0", "0.0", "false", "no", "n", "nein", "否", ""}

_STARTS = "=+\\-@\t\r\n＝＋－＠"
# A spreadsheet that splits at another sign than the comma begins a cell there too.
_BREAK = r"(?:\A|(?<=[,;|\t\r\n]))"
_HARM, _MASKED = re.compile(f"{_BREAK}(?='*[{_STARTS}])"), re.compile(f"{_BREAK}'(?='*[{_STARTS}])")


class Contacts(NamedTuple):
    """A contact list and what became of everyone who might have been on it.

    Attributes
    ----------
    path : pathlib.Path
        The file, written whole or not at all; this package sends nothing.
    listed : pandas.DataFrame
        What the file holds, one row a customer; `control` is 1 for those who are not to be contacted, so that the
        campaign can be judged.
    suppressed : pandas.DataFrame
        The other candidates as they came, with their `row` (counted from 1) and `why`.
    counts : pandas.Series
        Candidates by what became of them: ``"to contact"``, ``"control"`` and each reason; they add up to all.
    """

    path: Path
    listed: pd.DataFrame
    suppressed: pd.DataFrame
    counts: pd.Series


def contact_list(
    candidates,
    campaign,
    folder=".",
    *,
    control_share=0.1,
    as_of=None,
    days=30,
    consent="consent",
    opt_outs=(),
    service_cases=None,
    contacted=None,
    cap=1,
    cap_days=30,
    open_lists=(),
):
    """Write the contact list of a campaign, with a control group, and account for everyone who is not on it.

    The file ``contacts_<campaign>_<date>.csv`` has `customer_id`, `segment`, `reason`, `offer`, `channel`, `send_on`,
    `expires_on` and `control` (1: do not contact). It opens in a spreadsheet (UTF-8 with byte-order mark), and text
    that one would take for a formula begins with an apostrophe, which `read_contacts` takes off again. Candidates in =
    to contact + control + suppressed, always.

    Parameters
    ----------
    candidates : frame, path or ibis.Table
        One row a customer who might be contacted: `customer_id` and, where known, `segment`, `reason` (why this
        customer, in words), `offer`, `channel`, `send_on`, `expires_on`, and `score`: of several rows of a customer,
        the one with the highest is taken, else the first.
    campaign : str
        Its name, of letters, digits, - and _; also the salt of the control group (`assign_control`).
    folder : str or path
        Where the file is written; it must be there.
    control_share : float
        Share of the customers on the list who are not to be contacted.
    as_of : str or date, optional
        Day of the list, today by default.
    days : int
        Days that an offer is open where the candidates have no `expires_on`, the first included.
    consent : str or None
        Column of the candidates that says yes or no to being contacted; empty is no. None if none is needed, which you
        should be able to justify.
    opt_outs : frame, path or sequence
        Customers who do not want to be contacted: ids, or a table with `customer_id`.
    service_cases : frame, path or ibis.Table, optional
        `customer_id`, `opened`, `closed`: who has a case open on the day of the list is not sold to.
    contacted : frame, path or ibis.Table, optional
        Earlier contacts, `customer_id` and `date`.
    cap, cap_days : int
        At most so many contacts in less than so many days, the new one included.
    open_lists : sequence
        Earlier contact lists (paths or frames): who was to be contacted by one has an offer until it expires, and gets
        no other.

    Returns
    -------
    Contacts
        `path`, `listed`, `suppressed` and `counts`.

    Raises
    ------
    DataError
        Missing columns, a consent that is neither yes nor no, an offer that ends before it begins, a name that cannot
        be part of a file's, or a file that is there already with another content: it may have been sent.

    Examples
    --------
    >>> import tempfile
    >>> people = pd.DataFrame({"customer_id": ["a", "b", "a"], "consent": ["yes", "no", "yes"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = contact_list(people, "spring", folder, control_share=0, as_of="2024-03-01")
    >>> found.counts[found.counts > 0].to_dict()
    {'to contact': 1, 'no consent': 1, 'another row of this list': 1}
    """
    if not isinstance(campaign, str) or not re.fullmatch(r"[\w-]+", campaign):
        raise DataError(f"The campaign's name is part of a file's: use letters, digits, - and _, not {campaign!r}.")
    for name, number, least in (("days", days, 1), ("cap", cap, 1), ("cap_days", cap_days, 1)):
        if not isinstance(number, int | np.integer) or number < least:
            raise DataError(f"{name} is a whole number, {least} or more, not {number!r}.")
    today = pd.Timestamp(datetime.date.today() if as_of is None else day_of("as_of", as_of))
    frame, name = frame_of(candidates, ["customer_id", *([] if consent is None else [consent])])
    asked = _asked(frame, name, today, days)
    why = pd.Series(None, index=frame.index, dtype=object)

    def suppress(rows, reason):
        why[rows & why.isna()] = reason

    ids = asked["customer_id"]
    suppress(ids.isna(), "no customer id")
    suppress(asked["send_on"].isna() | asked["expires_on"].isna(), "send_on or expires_on is no date")
    suppress(asked["expires_on"] < today, "expired")
    suppress(ids.isin(_ids(opt_outs)), "opted out")
    if consent is not None:
        suppress(~says_yes(frame[consent], consent, name), "no consent")
    if service_cases is not None:
        suppress(ids.isin(_complaining(service_cases, today)), "open complaint")
    if contacted is not None:
        suppress(_often(asked, contacted, cap, cap_days), "contacted too often")
    suppress(_engaged(asked, open_lists), "another offer is open")
    score = pd.to_numeric(frame["score"], errors="coerce") if "score" in frame else pd.Series(0.0, frame.index)
    order = score[why.isna()].sort_values(ascending=False, kind="stable", na_position="last").index
    suppress(asked.index.isin(order[ids[order].duplicated()]), "another row of this list")
    listed = asked[why.isna()].reset_index(drop=True)
    listed["control"] = assign_control(listed["customer_id"], control_share, campaign).astype(int)
    aside = why.notna().to_numpy()
    suppressed = frame[aside].assign(row=np.flatnonzero(aside) + 1, why=why[aside])
    tally = {"to contact": int((listed["control"] == 0).sum()), "control": int(listed["control"].sum())}
    tally |= {reason: int((why == reason).sum()) for reason in SUPPRESSED}
    path = Path(folder) / f"contacts_{campaign}_{today:%Y-%m-%d}.csv"
    write_table(listed[list(COLUMNS)], path)
    return Contacts(path, listed, suppressed.reset_index(drop=True), pd.Series(tally, name="candidates"))


def read_contacts(source):
    """Read a contact list as `contact_list` wrote it.

    Parameters
    ----------
    source : path or frame
        The file, or what `contact_list` returned as `listed`.

    Returns
    -------
    pandas.DataFrame
        Its rows; ids as text, days as dates, `control` 0 or 1.

    Raises
    ------
    DataError
        Not a contact list, a customer in two rows, or days that somebody wrote in another way.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = contact_list(pd.DataFrame({"customer_id": ["=1+1"]}), "spring", folder, consent=None)
    ...     read_contacts(found.path)["customer_id"].tolist(), found.path.read_text("utf-8-sig").splitlines()[1][:5]
    (['=1+1'], "'=1+1")
    """
    frame, name = frame_of(source, ["customer_id", "send_on", "expires_on", "control"], unmasked=True)
    frame["customer_id"] = frame["customer_id"].map(as_id)
    for column in ("segment", "reason", "offer", "channel"):
        frame[column] = frame[column].astype(object).fillna("") if column in frame else ""
    for column in ("send_on", "expires_on"):
        read = days_of(frame[column])
        if (wrong := read.isna()).any():
            raise DataError(
                f"{name}: column {column!r} is no date such as 2024-01-31 in {row_numbers(wrong)}. A spreadsheet "
                "may have written it anew: use the list as it was written."
            )
        frame[column] = read
    control = frame["control"].astype("string").str.strip()
    if (wrong := ~control.isin(["0", "1", "0.0", "1.0"])).any():
        raise DataError(f"{name}: control must be 0 or 1, which it is not in {row_numbers(wrong)}.")
    if (wrong := frame["customer_id"].isna() | frame["customer_id"].duplicated()).any():
        raise DataError(f"{name}: each row must be a customer of its own, which is not so in {row_numbers(wrong)}.")
    return frame.assign(control=control.str[0].astype(int))


def masked(text):
    """Return text that no spreadsheet takes for a formula.

    An apostrophe goes before =, +, -, @, a tabulator or a line break (and the full-width forms of the signs) where a
    cell begins, or could begin if the file were split at another sign than the comma.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text, or the text with apostrophes; `unmasked` gives it back.

    Examples
    --------
    >>> masked("=SUM(A1)"), masked("-5"), masked("O'Neill")
    ("'=SUM(A1)", "'-5", "O'Neill")
    """
    return _HARM.sub("'", text)


def unmasked(text):
    """Return text as it was before `masked`.

    Parameters
    ----------
    text : str
        Text from a contact list or from a file of responses.

    Returns
    -------
    str
        The text without the apostrophes.

    Examples
    --------
    >>> unmasked("'=SUM(A1)")
    '=SUM(A1)'
    """
    return _MASKED.sub("", text)


def days_of(values):
    """Return the days of cells such as 2024-01-31 or 2024-01-31 12:00; missing where a cell is none.

    Parameters
    ----------
    values : pandas.Series
        Text, dates or times.

    Returns
    -------
    pandas.Series
        Midnights without time zone.

    Examples
    --------
    >>> days_of(pd.Series(["2024-02-29 23:59", "2023-02-29", None])).isna().tolist()
    [False, True, True]
    """
    text = values.astype("string").str.strip()
    whole = text.str.fullmatch(r"\d{4}-\d\d-\d\d(?:[T ].*)?").fillna(False)
    return pd.to_datetime(text.str.slice(0, 10).where(whole), format="%Y-%m-%d", errors="coerce").dt.as_unit("s")


def frame_of(source, columns, unmasked=False):
    """Return a small table as a frame with rows counted from 0, and its name in messages.

    Parameters
    ----------
    source : frame, path or ibis.Table
        Anything that `crmlab.data.load` opens; a CSV file may be without rows.
    columns : sequence of str
        Columns that it must have.
    unmasked : bool
        Whether to take off the apostrophes of `masked`.

    Returns
    -------
    frame : pandas.DataFrame
        The table.
    name : str
        What to call it.

    Raises
    ------
    DataError
        Not readable, or without one of the columns.

    Examples
    --------
    >>> frame_of(pd.DataFrame({"customer_id": [1]}, index=[5]), ["customer_id"])[0].index.tolist()
    [0]
    """
    if isinstance(source, pd.DataFrame):
        frame, name = source.reset_index(drop=True), "the table"
    elif isinstance(source, str | Path) and Path(source).suffix.lower() == ".csv" and Path(source).is_file():
        # A list of nobody and a file without responses are answers, too.
        frame, name = read_text_file(source).to_pandas(), str(source)
    else:
        opened = open_source(source)
        frame, name = opened.table.to_pandas(), opened.name
    if absent := [column for column in columns if column not in frame.columns]:
        hint = " If none is needed, say consent=None." if absent == ["consent"] else ""
        raise DataError(f"{name} lacks {', '.join(absent)}. It has: {', '.join(map(str, frame.columns))}.{hint}")
    return (_unmasked(frame) if unmasked else frame), name


def _unmasked(frame):
    text = [c for c in frame.columns if not (pd.api.types.is_numeric_dtype(frame[c]) or frame[c].dtype.kind == "M")]
    cells = {c: frame[c].map(lambda cell: unmasked(cell) if isinstance(cell, str) else cell) for c in text}
    return frame.assign(**cells)


def _asked(frame, name, today, days):
    """What the candidates want of the list, in its columns."""
    asked = pd.DataFrame({"customer_id": frame["customer_id"].map(as_id).astype(object)}, index=frame.index)
    for column in ("segment", "reason", "offer", "channel"):
        asked[column] = frame[column].map(lambda cell: "" if pd.isna(cell) else str(cell)) if column in frame else ""
    asked["send_on"] = days_of(frame["send_on"]) if "send_on" in frame else today
    last = asked["send_on"] + pd.Timedelta(days=days - 1)
    asked["expires_on"] = days_of(frame["expires_on"]) if "expires_on" in frame else last
    if (wrong := asked["expires_on"] < asked["send_on"]).any():
        raise DataError(f"{name}: expires_on lies before send_on in {row_numbers(wrong)}.")
    return asked


def _ids(source):
    if isinstance(source, list | tuple | set | frozenset | np.ndarray | pd.Series | pd.Index):
        return {as_id(value) for value in source} - {None}
    if isinstance(source, str | Path) and Path(source).is_file():
        # A list of ids has one column, and so no delimiter by which a table is known.
        with Path(source).open(encoding="utf-8-sig", errors="replace", newline="") as file:
            if next(csv.reader(file), None) == ["customer_id"]:
                return {as_id(unmasked(row[0])) for row in csv.reader(file) if row} - {None}
    frame, _name = frame_of(source, ["customer_id"])
    return set(frame["customer_id"].map(as_id)) - {None}


def says_yes(cells, column, name):
    """Tell which cells say yes; empty ones say no.

    Parameters
    ----------
    cells : pandas.Series
        Such as yes, no, 1, 0, true, false.
    column, name : str
        Column and table, for messages.

    Returns
    -------
    pandas.Series
        True or false.

    Raises
    ------
    DataError
        A cell says something else.

    Examples
    --------
    >>> says_yes(pd.Series(["yes", "0", None]), "consent", "the table").tolist()
    [True, False, False]
    """
    words = cells.map(lambda cell: "" if pd.isna(cell) else str(cell).strip().casefold())
    if (wrong := ~words.isin(YES | NO)).any():
        raise DataError(
            f"{name}: column {column!r} must say yes or no, not {cells[wrong].iloc[0]!r} ({row_numbers(wrong)}); "
            "empty is no."
        )
    return words.isin(YES)


def _strict_days(frame, column, name, gaps=False):
    read = days_of(frame[column])
    blank = frame[column].isna() | (frame[column].astype("string").str.strip() == "").fillna(False)
    if (wrong := read.isna() & ~(blank & gaps)).any():
        raise DataError(f"{name}: column {column!r} is no date such as 2024-01-31 in {row_numbers(wrong)}.")
    return read


def _complaining(service_cases, today):
    frame, name = frame_of(service_cases, ["customer_id", "opened", "closed"])
    opened, closed = _strict_days(frame, "opened", name), _strict_days(frame, "closed", name, gaps=True)
    still = (opened <= today) & (closed.isna() | (closed > today))
    return set(frame.loc[still, "customer_id"].map(as_id)) - {None}


def _often(asked, contacted, cap, cap_days):
    """Whether a contact would be one too many for its customer."""
    frame, name = frame_of(contacted, ["customer_id", "date"])
    earlier = pd.DataFrame({"customer_id": frame["customer_id"].map(as_id), "day": _strict_days(frame, "date", name)})
    pairs = asked[["customer_id", "send_on"]].reset_index().dropna().merge(earlier.dropna(), on="customer_id")
    near = pairs[(pairs["send_on"] - pairs["day"]).abs() < pd.Timedelta(days=cap_days)]
    return asked.index.isin(near.groupby("index").size().loc[lambda n: n >= cap].index)


def _engaged(asked, open_lists):
    """Whether an earlier offer is open at some time while the new one would be."""
    found = np.zeros(len(asked), dtype=bool)
    for source in [open_lists] if isinstance(open_lists, str | Path | pd.DataFrame) else open_lists:
        earlier = read_contacts(source).query("control == 0")[["customer_id", "send_on", "expires_on"]]
        pairs = asked[["customer_id", "send_on", "expires_on"]].reset_index().dropna()
        pairs = pairs.merge(earlier, on="customer_id", suffixes=("", "_other"))
        both = (pairs["send_on"] <= pairs["expires_on_other"]) & (pairs["send_on_other"] <= pairs["expires_on"])
        found |= asked.index.isin(pairs.loc[both, "index"])
    return found


def write_table(table, path):
    """Write a table for a spreadsheet, whole or not at all; a file that is there and says something else is left alone.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows to write; days as dates, text so that none is a formula.
    path : path
        The CSV file.

    Raises
    ------
    DataError
        No such folder, or another file of that name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_table(pd.DataFrame({"a": ["=1", None]}), Path(folder) / "a.csv")
    ...     (Path(folder) / "a.csv").read_text("utf-8-sig").split()
    ['a', "'=1", '""']
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent.absolute()} for {path.name}: make it first.")
    days = {c: table[c].dt.strftime("%Y-%m-%d") for c in table.columns if table[c].dtype.kind == "M"}

    def write(beside):
        with beside.open("w", encoding="utf-8-sig", newline="") as sink:
            writer = csv.writer(sink)
            writer.writerow(masked(str(name)) for name in table.columns)
            for row in table.assign(**days).itertuples(index=False):
                writer.writerow("" if pd.isna(cell) else _as_cell(cell) for cell in row)
            sink.flush()
            os.fsync(sink.fileno())
        if path.exists() and path.read_bytes() != beside.read_bytes():
            raise DataError(
                f"{path} is there already and has another content: it may have been used. Choose another name, or take "
                "the file away first."
            )

    whole(write, path)


def _as_cell(cell):
    # Only text can be a formula; a negative number is a number.
    return cell if isinstance(cell, int | float | np.number) else masked(str(cell))
