"""What came back from a campaign: responses matched with the contact list that they answer, ready to be judged."""

from typing import NamedTuple

import pandas as pd

from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.read import prepare
from crmlab.lifecycle.logs import checked
from crmlab.market.assignment import as_id
from crmlab.market.contacts import frame_of, read_contacts, says_yes
from crmlab.market.experiments import needed

ASIDE = (
    "no customer id",
    "date cannot be read",
    "amount cannot be read",
    "no response (responded is 0)",
    "customer is not on the list",
    "before the contact",
    "after the offer expired",
    "in an earlier row already",
)
"""Why a row of the responses does not count; the first that applies."""


class Responses(NamedTuple):
    """A campaign with its responses.

    Attributes
    ----------
    table : pandas.DataFrame
        The contact list with `arm` (``"contact"`` or ``"control"``), `responded` (0 or 1), number of `responses`, day
        of the first (`response_date`) and the `amount` of all of them (0 without one), one row a customer: what
        `effect` takes.
    aside : pandas.DataFrame
        Rows of the responses that do not count, as they came, with their `row` (counted from 1) and `why`.
    control_responded : pandas.DataFrame
        Rows of control customers, who responded though nobody contacted them. They count, as outcomes of the control
        group: leaving them out would make any campaign a success. Where a response takes the contact itself, such as
        a coupon, they say that the list was not kept to.
    counts : pandas.Series
        Rows of the responses by what became of them; they add up to all.
    """

    table: pd.DataFrame
    aside: pd.DataFrame
    control_responded: pd.DataFrame
    counts: pd.Series


def read_responses(contacts, responses, **columns):
    """Match a file of responses with the contact list that it answers.

    Each row of the file is one response: `customer_id`, `date`, and where there is one, `amount` (and `responded`,
    whose rows with 0 are no responses). Rows that answer nothing on the list are set aside with the reason; rows in =
    counted + set aside, always.

    Parameters
    ----------
    contacts : path or frame
        A contact list, as `contact_list` wrote it or returned it (`listed`).
    responses : frame, path or ibis.Table
        The responses; columns are recognised by their usual names.
    **columns : str
        The file's own names, such as ``customer_id="Kunde"`` or ``date="response_date"``.

    Returns
    -------
    Responses
        `table`, `aside`, `control_responded` and `counts`.

    Raises
    ------
    DataError
        Not a contact list, or a file whose customer or date cannot be found.

    Notes
    -----
    A response belongs to an offer from the day it was to be sent to the day it expires. Several responses of a customer
    count together; a row that repeats another in customer, date and amount does not count again, because files are
    often sent twice. A spreadsheet makes 7 of 007: an id that is not on the list is taken for the one that is when only
    its leading zeros are missing and no other could be meant.

    Examples
    --------
    >>> listed = pd.DataFrame({"customer_id": ["a", "b"], "control": [0, 1]})
    >>> listed[["send_on", "expires_on"]] = ["2024-03-01", "2024-03-31"]
    >>> answers = pd.DataFrame({"customer_id": ["a", "a", "c"], "date": ["2024-03-02", "2024-04-02", "2024-03-02"]})
    >>> found = read_responses(listed, answers)
    >>> found.table["responded"].tolist(), found.aside["why"].tolist()
    ([1, 0], ['after the offer expired', 'customer is not on the list'])
    """
    offers = read_contacts(contacts)
    if taken := [c for c in ("arm", "responded", "responses", "response_date", "amount") if c in offers.columns]:
        raise DataError(f"The contact list has the column {taken[0]!r}, which the responses give: rename or drop it.")
    raw, name = frame_of(responses, [], unmasked=True)
    answers = _answers(raw, name, columns)
    window = offers.set_index("customer_id")[["send_on", "expires_on"]]
    answers["customer_id"] = _known(answers["customer_id"], window.index)
    sent, expires = (answers["customer_id"].map(window[c]) for c in ("send_on", "expires_on"))
    why = pd.Series(None, index=answers.index, dtype=object)
    for reason, rows in zip(
        ASIDE,
        (
            answers["customer_id"].isna(),
            answers["day"].isna(),
            answers["unread"],
            answers["none"],
            sent.isna(),
            answers["day"] < sent,
            answers["day"].dt.normalize() > expires,
        ),
        strict=False,
    ):
        why[rows & why.isna()] = reason
    counted = answers[why.isna()]
    again = counted.duplicated(["customer_id", "day", "amount"])
    why[again.index[again]] = ASIDE[-1]
    counted = counted[~again]
    by = counted.groupby("customer_id").agg(
        responses=("day", "size"), response_date=("day", "min"), amount=("amount", "sum")
    )
    table = offers.join(by, on="customer_id")
    table["responses"], table["amount"] = table["responses"].fillna(0).astype(int), table["amount"].fillna(0.0)
    table.insert(len(offers.columns), "arm", table["control"].map({0: "contact", 1: "control"}))
    table.insert(len(offers.columns) + 1, "responded", (table["responses"] > 0).astype(int))
    numbered = raw.assign(row=range(1, len(raw) + 1))
    held_out = set(offers.loc[offers["control"] == 1, "customer_id"])
    mine = counted["customer_id"].isin(held_out)
    tally = {"counted, contacted": int((~mine).sum()), "counted, control": int(mine.sum())}
    tally |= {reason: int((why == reason).sum()) for reason in ASIDE}
    return Responses(
        table,
        numbered.assign(why=why)[why.notna()].reset_index(drop=True),
        numbered.loc[counted.index[mine]].reset_index(drop=True),
        pd.Series(tally, name="responses"),
    )


def outcomes(log, customers, start, end, before=None):
    """Add to a table of customers what they bought during a campaign, and before it.

    Customers who bought nothing have zeros: they are part of every experiment. What they bought before is the
    covariate that makes `effect` more precise, or shows that groups nobody randomized were unlike from the start.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `amount`, or anything `crmlab.data.load` accepts.
    customers : pandas.DataFrame
        One row a customer with `customer_id`, such as the `table` of `read_responses`; other columns stay.
    start, end : str or date
        First and last day of the campaign.
    before : int, optional
        Days before `start` to look back; as many as the campaign has by default.

    Returns
    -------
    pandas.DataFrame
        The customers with `purchases` (days with a purchase) and `amount` from `start` to `end`, and
        `purchases_before` and `amount_before`.

    Raises
    ------
    DataError
        A log that `crmlab.data.audit` would not pass or that does not reach so far, customers in two rows, or an end
        before the start.

    Examples
    --------
    >>> log = pd.DataFrame({"customer_id": ["a", "a"], "date": ["2024-01-05", "2024-02-03"], "amount": [5.0, 7.0]})
    >>> people = pd.DataFrame({"customer_id": ["a", "b"]})
    >>> outcomes(log, people, "2024-02-01", "2024-02-03", before=27)[["amount", "amount_before"]].values.tolist()
    [[7.0, 5.0], [0.0, 0.0]]
    """
    table = needed(customers, ["customer_id"])
    ids = table["customer_id"].map(as_id)
    if (twice := ids.duplicated()).any():
        raise DataError(f"customer_id {ids[twice].iloc[0]!r} stands in more than one row of the customers.")
    first, last = pd.Timestamp(day_of("start", start)), pd.Timestamp(day_of("end", end))
    span = (last - first).days + 1
    if span < 1:
        raise DataError(f"The campaign ends on {last:%Y-%m-%d}, before it starts on {first:%Y-%m-%d}.")
    back = first - pd.Timedelta(days=span if before is None else before)
    rows, begin, until = checked(log, ["amount"])
    if pd.Timestamp(begin) > back or pd.Timestamp(until) < last:
        raise DataError(
            f"The log reaches from {begin} to {until}, but {back:%Y-%m-%d} to {last:%Y-%m-%d} is asked for: who bought "
            "nothing then cannot be told from who was not recorded."
        )
    found = customers.reset_index(drop=True)
    for suffix, day, stop in (("", first, last), ("_before", back, first - pd.Timedelta(days=1))):
        here = rows.filter(rows.day.between(day.date(), stop.date())).group_by("customer_id")
        bought = here.aggregate(purchases=rows.day.nunique(), amount=rows.amount.sum()).to_pandas()
        bought = bought.set_index(bought["customer_id"].map(as_id))
        for column, kind in (("purchases", int), ("amount", float)):
            found[column + suffix] = ids.map(bought[column]).fillna(0).astype(kind).to_numpy()
    return found


def _answers(raw, name, columns):
    """Responses with the types that they need, and what cannot be read."""
    flag = columns.pop("responded", "responded" if "responded" in raw.columns else None)
    if "date" not in columns and "response_date" in raw.columns:
        columns["date"] = "response_date"
    if not len(raw):
        kinds = {"customer_id": object, "day": "datetime64[s]", "amount": float, "unread": bool, "none": bool}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    try:
        read = prepare(raw, columns=columns)
    except DataError as error:
        raise DataError(f"{name}: {str(error).replace('load(…, ', 'read_responses(…, ')}") from None
    table = read.table.to_pandas()
    amount = table["amount"] if "amount" in table else pd.Series(0.0, table.index)
    bad = table["bad_amount"].notna() if "amount" in read.parsed else amount.isin([float("inf"), float("-inf")])
    none = pd.Series(False, table.index)
    if flag is not None:
        if flag not in raw.columns:
            raise DataError(f"{name} has no column {flag!r}. It has: {', '.join(raw.columns)}.")
        none = ~says_yes(raw[flag], flag, name)
    return pd.DataFrame(
        {
            "customer_id": table["customer_id"].map(as_id).astype(object),
            "day": table["date"],
            "amount": amount.fillna(0.0),
            "unread": bad,
            "none": none,
        }
    )


def _known(ids, listed):
    """Ids as the list has them, where only the leading zeros were lost."""
    short = pd.Series(listed, index=listed.str.lstrip("0"))
    short = short[~short.index.duplicated(keep=False)]
    return ids.where(ids.isin(listed) | ids.isna(), ids.map(short).fillna(ids))
