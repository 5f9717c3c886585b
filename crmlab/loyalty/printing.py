"""Summaries that print as text and display as HTML."""

import numpy as np


def printable(title, top, tables, remarks):
    """Return a summary that prints as text and displays as HTML.

    Parameters
    ----------
    title : str
        Its title.
    top : list of list of str
        The facts of the fit.
    tables : list of (pandas.DataFrame, str)
        Tables with their titles.
    remarks : list of str
        What stands below.

    Returns
    -------
    statsmodels.iolib.summary.Summary
        The summary.
    """
    from statsmodels.iolib.summary import Summary
    from statsmodels.iolib.table import SimpleTable

    summary = Summary()
    summary.tables = [SimpleTable(top, title=title)]
    for table, name in tables:
        rows = [" / ".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in table.index]
        body = [[_shown(v) for v in row] for row in table.itertuples(index=False)]
        summary.tables.append(SimpleTable(body, list(table.columns), rows, title=name))
    summary.add_extra_txt(list(remarks))
    return summary


def _shown(value):
    if isinstance(value, str | int | np.integer | np.bool_):
        return str(value)
    return "" if np.isnan(value) else f"{value:.4f}"
