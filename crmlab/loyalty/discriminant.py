"""Whether two constructs are two: the heterotrait-monotrait ratio."""

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.loyalty import questionnaire
from crmlab.loyalty.moments import complete, correlations, interval, measured, resampled

VERDICTS = ((0.85, "distinct (below .85)"), (0.90, "distinct (below .90)"), (1.0, "barely distinct (below 1)"))


def htmt(data, spec, constructs=None, replicates=1000, seed=1, level=0.90):
    """Return the heterotrait-monotrait ratio of every pair of constructs, with bootstrap intervals.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent; those who answered every item count.
    spec : SurveySpec or str
        What was asked; see `crmlab.loyalty.spec`.
    constructs : list of str or dict, optional
        Constructs, or construct to items; all constructs by default. A single item counts as free of error.
    replicates : int
        Bootstrap samples; 0 for none.
    seed : int
        Of the random numbers.
    level : float
        Of the intervals; the upper bound of 0.90 is the one-sided test at 5 %.

    Returns
    -------
    pandas.DataFrame
        By pair: `htmt` (arithmetic means; items that load alike) and `htmt2` (geometric means; items that need not),
        each with its interval, `dropped` (resamples without a value) and `verdict`: the strictest of .85, .90 and
        1 that the upper bound of `htmt` stays below.

    Raises
    ------
    DataError
        When there are less than two constructs, the answers do not fit the description, or an item is constant or a
        copy of another.

    Examples
    --------
    >>> from crmlab import data
    >>> table = htmt(data.load("mobi").to_pandas(), "mobi", ["SATISFACTION", "LOYALTY"], replicates=200)
    >>> round(float(table["htmt"].iloc[0]), 4), table["verdict"].iloc[0]
    (0.9566, 'not distinguishable')
    """
    asked = questionnaire.spec(spec)
    chosen = measured(asked, constructs)
    if len(chosen) < 2:
        raise DataError(f"Telling constructs apart needs two of them, not {', '.join(chosen)} alone.")
    items = [item for group in chosen.values() for item in group]
    x = complete(data, asked, items).to_numpy()
    sizes = [len(group) for group in chosen.values()]
    one, other = np.triu_indices(len(chosen), 1)
    names = list(chosen)
    own = ratios(correlations(np.cov(x, rowvar=False))[None], sizes)[:, :, one, other]
    index = pd.MultiIndex.from_arrays([[names[i] for i in one], [names[j] for j in other]], names=["construct", "with"])
    table = pd.DataFrame({"htmt": own[0, 0], "htmt2": own[1, 0]}, index=index)
    if not replicates:
        return table
    drawn = ratios(correlations(resampled(x, replicates, seed)), sizes)[:, :, one, other]
    (low, low2), (high, high2), (dropped, _) = interval(drawn.swapaxes(0, 1), level)
    table = table.assign(low=low, high=high, htmt2_low=low2, htmt2_high=high2, dropped=dropped)
    table["verdict"] = [next((word for at, word in VERDICTS if bound < at), "not distinguishable") for bound in high]
    return table[["htmt", "low", "high", "htmt2", "htmt2_low", "htmt2_high", "dropped", "verdict"]]


def ratios(r, sizes):
    """Return both heterotrait-monotrait ratios for many correlation matrices.

    Parameters
    ----------
    r : numpy.ndarray, shape (b, p, p)
        Correlations of the items, construct after construct.
    sizes : list of int
        Number of items of each construct.

    Returns
    -------
    numpy.ndarray, shape (2, b, constructs, constructs)
        The ratio of arithmetic and that of geometric means; symmetric, 1 on the diagonal.
    """
    member = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    r = np.abs(r)
    counts = np.outer(sizes, sizes) - np.diag(sizes)
    # A single item correlates with itself without error.
    single = np.asarray(sizes) == 1
    np.fill_diagonal(counts, np.where(single, 1, np.diag(counts)))
    off = 1 - np.diag(np.repeat(~single, sizes))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = []
        for mean in (
            (member.T @ (r * off) @ member) / counts,
            np.exp((member.T @ np.where(off > 0, np.log(r), 0.0) @ member) / counts),
        ):
            within = np.sqrt(np.diagonal(mean, axis1=1, axis2=2))
            found.append(mean / (within[:, :, None] * within[:, None, :]))
    return np.stack(found)
