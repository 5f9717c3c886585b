"""What the book company could know of its schools: accounts and histories from its own tables, without the truth."""

import numpy as np
import pandas as pd

from crmlab.clv import BGBB
from crmlab.data.errors import DataError


def school_accounts(firm, goods, first=0, last=None):
    """Return what the firm's own tables say of each school in some seasons: how often it bought, what it brought.

    Of `firm` only `customers`, `orders`, `interactions`, `service_cases` and `campaign_responses` are read, nothing
    that only the simulator knows.

    Parameters
    ----------
    firm : dict of pandas.DataFrame
        Tables of `simulate_longzhiji`, or one's own with the same columns.
    goods : float
        What the books cost, as a share of the list price: the firm knows it from its suppliers.
    first, last : int
        First and last season that count, numbered from 0; all seasons by default.

    Returns
    -------
    pandas.DataFrame
        Indexed by `customer_id`: `region`; `bought` (share of the seasons), `left` (times that the school bought and
        did not in the next season), `frequency`, `recency` and `T` (opportunities after the first season with a
        purchase, as `crmlab.clv.BGBB` counts them; `T` is missing for schools that never bought); in yuan `revenue`
        (list prices), `margin` (paid, less goods) and `contribution` (margin less contacts, cases and courtesy).

    Raises
    ------
    DataError
        A season that is not in the tables, a share of goods that is none.

    Examples
    --------
    >>> from crmlab.cases import Assumptions, simulate_longzhiji
    >>> firm = simulate_longzhiji(Assumptions(schools=60))
    >>> found = school_accounts(firm, goods=0.72)
    >>> truth = firm["truth"].set_index("customer_id")
    >>> bool((found["contribution"] - truth["contribution"]).abs().max() < 1)
    True
    """
    orders = firm["orders"]
    end = int(orders["season"].max())
    last = end if last is None else last
    if not 0 <= first <= last <= end:
        raise DataError(f"The seasons run from 0 to {end}: first={first} and last={last} are not among them in order.")
    if not 0 <= goods <= 1:
        raise DataError(f"goods is a share of the list price, between 0 and 1, not {goods!r}.")
    schools = firm["customers"].set_index("customer_id")[["region"]]

    def per_school(table, column):
        chosen = table[table["season"].between(first, last)]
        return chosen.groupby("customer_id")[column].sum().reindex(schools.index, fill_value=0.0)

    paid, saved = per_school(orders, "amount"), per_school(orders, "retail_disc")
    # New Year's gifts come before the spring season of their year, and so belong to it.
    gifts = firm["campaign_responses"]
    gifts = gifts.assign(season=2 * (gifts["date"].dt.year - orders["date"].dt.year.min()))
    spent = sum(per_school(table, "cost") for table in (firm["interactions"], firm["service_cases"], gifts))
    revenue = paid + saved
    margin = paid - goods * revenue
    history = _history(orders, schools.index, first, last)
    return schools.join(history).assign(revenue=revenue, margin=margin, contribution=margin - spent)


def predicted_contribution(accounts, seasons, horizon):
    """Predict what each school will bring: by a model of its purchases, and as if it went on as before.

    Both take what a season with a purchase has brought so far, cost to serve included, times the seasons in which the
    school will buy: those expected by a BG/BB model, or the share of the seasons so far.

    Parameters
    ----------
    accounts : pandas.DataFrame
        Of `school_accounts`; schools that bought at least once before the last season count.
    seasons : int
        Seasons of these accounts.
    horizon : int
        Seasons ahead.

    Returns
    -------
    pandas.DataFrame
        Indexed by `customer_id`: `BG/BB` and `as before`, yuan in the horizon.

    Raises
    ------
    DataError
        Histories to which the model cannot be fitted.

    Notes
    -----
    Fader, Hardie and Shang (2010), Marketing Science 29(6), 1086-1108: a customer who leaves never comes back, which
    the schools of the simulation do.

    Examples
    --------
    >>> from crmlab.cases import Assumptions, simulate_longzhiji
    >>> early = school_accounts(simulate_longzhiji(Assumptions(schools=100)), goods=0.72, last=7)
    >>> list(predicted_contribution(early, seasons=8, horizon=4))
    ['BG/BB', 'as before']
    """
    seen = accounts[(accounts["bought"] > 0) & (accounts["T"] > 0)]
    each = seen["contribution"] / (seen["bought"] * seasons)
    states = seen[["frequency", "recency", "T"]]
    # An opportunity is a season; without a discount the unit, which the model wants to be named, has no meaning.
    model = BGBB().fit(states, unit="Y")
    expected = model.predict(states, horizon=horizon, annual_discount=0)["expected_purchases"]
    return pd.DataFrame({"BG/BB": each * expected, "as before": each * seen["bought"] * horizon})


def _history(orders, schools, first, last):
    chosen = orders[orders["season"].between(first, last)]
    bought = np.zeros((len(schools), last - first + 1), dtype=bool)
    bought[schools.get_indexer(chosen["customer_id"]), chosen["season"] - first] = True
    count, length = bought.sum(axis=1), bought.shape[1]
    ever = count > 0
    start = bought.argmax(axis=1)
    end = length - 1 - bought[:, ::-1].argmax(axis=1)
    found = {
        "bought": count / length,
        "left": (bought[:, :-1] & ~bought[:, 1:]).sum(axis=1),
        "frequency": np.maximum(count - 1, 0),
        "recency": np.where(ever, end - start, 0),
        "T": np.where(ever, length - 1 - start, np.nan),
    }
    return pd.DataFrame(found, index=schools)
