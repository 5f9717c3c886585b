"""Every published number on the claims of the ledger and on the cases, computed anew."""

from ibis import _

from crmlab import data
from crmlab.cases import casenumbers
from crmlab.cases.arithmetic import retail_share_fits, shoppers_fit
from crmlab.cases.firms import dell_growth_table
from crmlab.data.targets import chosen
from crmlab.lifecycle import concentration


def reproduce(subjects=None):
    """Return the numbers of ``data/published/cases.toml``, computed anew.

    Parameters
    ----------
    subjects : list of str, optional
        What to compute: ``"dell"`` and ``"online_retail_china"`` (entered by hand), ``"online_retail_two_years"``
        (fetched, left out where it is not on this machine); of the book company ``"longzhiji"`` (simulated),
        ``"complete_journey_deals"`` and ``"charles_book_club"``. All of them by default.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`, ready for `crmlab.data.compare_published`.

    Raises
    ------
    DataError
        When a subject is none of the above.

    Examples
    --------
    >>> table = data.compare_published("cases", reproduce(["dell"]))
    >>> set(table["verdict"])
    {'reproduced'}
    """
    names = chosen(SUBJECTS, subjects, always=["dell", "online_retail_china", *casenumbers.SUBJECTS])
    return {target: float(number) for name in names for target, number in SUBJECTS[name]().items()}


def _dell():
    growth = dell_growth_table()["growth"].dropna()
    return {
        **{f"dell.growth_printed.fy{year}": growth[year] for year in (1995, 1997)},
        **{f"dell.growth.fy{year}": value for year, value in growth.items()},
    }


def _online_retail_china():
    shoppers, retail = shoppers_fit().numbers, retail_share_fits().numbers
    return {
        **{f"online_retail_china.shoppers.{name}": value for name, value in shoppers.items()},
        "online_retail_china.retail.implied": retail["implied"],
        **{f"online_retail_china.share.{name}": retail[name] for name in ("goods", "with_services")},
    }


def _online_retail_two_years():
    log = data.open_dataset("online_retail_two_years")
    log = log.filter(_.customer_id.notnull() & (_.quantity > 0) & (_.unit_price > 0))
    found = {}
    for year in (2010, 2011):
        paid = log.filter(_.date.year() == year).group_by("customer_id").aggregate(paid=_.amount.sum()).to_pandas()
        share = concentration(paid["paid"], n_boot=0).loc["top share", "value"]
        found[f"online_retail_two_years.concentration_by_year.year_{year}"] = share
    return found


SUBJECTS = {
    "dell": _dell,
    "online_retail_china": _online_retail_china,
    "online_retail_two_years": _online_retail_two_years,
    **casenumbers.SUBJECTS,
}
