"""Published results: the numbers that a computation should reproduce, each with its source."""

import functools
import tomllib

from crmlab.data.errors import DataError
from crmlab.data.files import own_file
from crmlab.data.sets import present


@functools.cache
def _targets(room):
    return tomllib.loads(own_file(f"published/{room}.toml").read_text(encoding="utf-8"))


def published(room, prefix=""):
    """Return the published results of a room of the package, one row a number.

    Parameters
    ----------
    room : str
        Name of the file in `data/published`, for example ``"clv"``.
    prefix : str, optional
        Only the targets whose name begins so.

    Returns
    -------
    pandas.DataFrame
        Indexed by target: `published` (the number), `tolerance` (how far a computed number may lie from it: half a
        unit of the last printed digit unless the entry says otherwise), `what` it is, `source`.

    Raises
    ------
    DataError
        When there is no such file.

    Examples
    --------
    >>> float(published("clv").loc["cdnow_sample.mbgnbd.r", "published"])
    0.5248432
    """
    import pandas as pd

    rows = {
        f"{group}.{name}": {
            "published": value,
            "tolerance": float(facts["tolerance"]),
            "what": f"{facts['what']}: {name}",
            "source": facts["source"],
        }
        for group, facts in _targets(room).items()
        for name, value in facts["values"].items()
        if f"{group}.{name}".startswith(prefix)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("target")


def chosen(subjects, wanted=None, always=()):
    """Return which data sets' published numbers are to be computed anew.

    Parameters
    ----------
    subjects : collection of str
        Data sets of which numbers are published.
    wanted : list of str, optional
        Some of them; all by default.
    always : sequence of str
        Those that need no data set on this machine.

    Returns
    -------
    list of str
        The wanted ones, in the order of the subjects; those not on this machine are left out.

    Raises
    ------
    DataError
        When a wanted one is none of the subjects.

    Examples
    --------
    >>> chosen(["cdnow", "nothing"], always=["nothing"])
    ['cdnow', 'nothing']
    """
    if unknown := set(wanted or ()) - set(subjects):
        raise DataError(f"Nothing is published of {', '.join(sorted(unknown))}; there are {', '.join(subjects)}.")
    return [name for name in subjects if (wanted is None or name in wanted) and (name in always or present(name))]


def compare_published(room, computed):
    """Set computed numbers beside the published ones.

    Parameters
    ----------
    room : str
        Name of the file in `data/published`.
    computed : dict
        Target name to computed number.

    Returns
    -------
    pandas.DataFrame
        Indexed by target: `what`, `published`, `computed`, `difference`, `tolerance`, `verdict` (``"reproduced"`` or
        ``"differs"``), `source`.

    Raises
    ------
    DataError
        When a name is not among the targets.

    Examples
    --------
    >>> compare_published("clv", {"cdnow_sample.mbgnbd.r": 0.52}).verdict.item()
    'differs'
    """
    table = published(room)
    if unknown := [name for name in computed if name not in table.index]:
        raise DataError(f"data/published/{room}.toml has no target named {', '.join(unknown)}.")
    table = table.loc[list(computed)]
    table.insert(1, "computed", [float(v) for v in computed.values()])
    table.insert(2, "difference", table["computed"] - table["published"])
    within = table["difference"].abs() <= table["tolerance"]
    table.insert(4, "verdict", within.map({True: "reproduced", False: "differs"}))
    return table[["what", "published", "computed", "difference", "tolerance", "verdict", "source"]]
