"""Statistics entered by hand: each number with its source, and whether it was found in print."""

import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.files import own_file

TABLES = ("crm_failure_rates", "dell", "online_retail_china", "timeline")


def hand_entered(name):
    """Return a table of numbers that somebody typed, each with its source.

    Parameters
    ----------
    name : {"crm_failure_rates", "dell", "online_retail_china", "timeline"}
        Published failure rates of CRM projects; fiscal years of Dell Computer; online shoppers and online retail sales
        in China; the history that the sources tell.

    Returns
    -------
    pandas.DataFrame
        The columns of ``data/statistics/<name>.csv``; `source` says where each number stands, `verified` (bool) whether
        it was found there when it was entered. What is not verified is from memory: look it up before you print it.

    Raises
    ------
    DataError
        When there is no such table, or `verified` says neither yes nor no.

    Examples
    --------
    >>> hand_entered("dell").set_index("fiscal_year")["net_income"].to_dict()
    {1994: -35.8, 1995: 149.2, 1996: 272.0, 1997: 518.0}
    """
    if name not in TABLES:
        raise DataError(f"There is no table {name!r} of hand-entered statistics; there are {', '.join(TABLES)}.")
    # Without mapping "yes" and "no" here, a row that says neither would count as unverified in silence.
    table = pd.read_csv(own_file(f"statistics/{name}.csv"), comment="#")
    verified = table["verified"].map({"yes": True, "no": False})
    if verified.isna().any():
        row = verified.index[verified.isna()][0]
        raise DataError(
            f"data/statistics/{name}.csv, row {row + 1} below the header, column verified: "
            f"{table['verified'][row]!r} is neither yes nor no."
        )
    return table.assign(verified=verified.astype(bool))
