"""Every published number on satisfaction and loyalty, computed anew."""

from crmlab.loyalty import gapnumbers, measurenumbers, pathnumbers


def reproduce(prefixes=None):
    """Return every number of ``data/published/loyalty.toml``, computed from the data that it was published for.

    Parameters
    ----------
    prefixes : str or tuple of str, optional
        Only the numbers whose name begins with one of these; parts without such a number are not computed.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`, ready for `crmlab.data.compare_published`. Those on a set that
        is not installed with the package only where a copy of it lies in the data folder.
    """
    wanted = ("",) if prefixes is None else (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
    found = {}
    for begins, part in _PARTS:
        if any(begins.startswith(w) or w.startswith(begins) for w in wanted):
            found |= part()
    return {name: float(value) for name, value in found.items() if name.startswith(wanted)}


# What the names of a part begin with, and the function that computes them as {name: number}.
_PARTS = [*measurenumbers.PARTS, *pathnumbers.PARTS, *gapnumbers.PARTS]
