"""How well an analysis finds what a simulation knows, and over which assumptions a conclusion holds."""

import numpy as np
import pandas as pd
from scipy import special
from scipy.stats import spearmanr

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, wilson


def grade(truth, flagged, level=0.95):
    r"""Grade a yes-or-no finding against the truth: precision and recall with Wilson intervals.

    .. math:: \text{precision} = \frac{|T \cap F|}{|F|}, \qquad \text{recall} = \frac{|T \cap F|}{|T|}

    The base rate :math:`|T| / n` is the precision of flagging by lot, so a finding says something when its precision
    lies above it.

    Parameters
    ----------
    truth, flagged : array-like of bool
        Which customers have the property, and which were found to have it. Two Series are matched by their index.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `measure` ("precision", "recall", "accuracy", "base rate"): `value`, `low`, `high`, and the `count`
        and number `of` customers that it is a share of. A precision where nobody was flagged is missing.

    Raises
    ------
    DataError
        No customers, different customers, answers that are missing or not yes or no.

    Examples
    --------
    >>> grade([True, True, False, False], [True, False, False, False])["value"].tolist()
    [1.0, 0.5, 0.75, 0.5]
    """
    checked_level(level)
    if isinstance(truth, pd.Series) and isinstance(flagged, pd.Series):
        if len(truth) != len(flagged) or set(truth.index) != set(flagged.index) or not truth.index.is_unique:
            raise DataError("The truth and the finding are not about the same customers: their indexes differ.")
        flagged = flagged.reindex(truth.index)
    truth, flagged = _yes_no(truth, "truth"), _yes_no(flagged, "finding")
    if len(truth) != len(flagged):
        raise DataError(f"The truth is about {len(truth):,} customers and the finding about {len(flagged):,}.")
    both = (truth & flagged).sum()
    counts = {
        "precision": (both, flagged.sum()),
        "recall": (both, truth.sum()),
        "accuracy": ((truth == flagged).sum(), len(truth)),
        "base rate": (truth.sum(), len(truth)),
    }
    found = pd.DataFrame.from_dict(counts, orient="index", columns=["count", "of"]).rename_axis("measure")
    value, low, high = wilson(found["count"], found["of"], level)
    return found.assign(value=value, low=low, high=high)[["value", "low", "high", "count", "of"]]


def _yes_no(answers, what):
    answers = pd.Series(answers).reset_index(drop=True)
    if not len(answers):
        raise DataError(f"The {what} is about no customers.")
    if lost := int(answers.isna().sum()):
        raise DataError(f"{lost:,} of {len(answers):,} answers of the {what} are missing: say yes or no for each.")
    if not answers.isin([0, 1]).all():
        odd = answers[~answers.isin([0, 1])].iloc[0]
        raise DataError(f"The {what} has the value {odd}: each customer is a yes (True, 1) or a no (False, 0).")
    return answers.astype(bool).to_numpy()


def drawn(ranges, n=200, seed=0):
    """Draw assumptions evenly over a region: a Latin hypercube, so that each range is covered without gaps.

    Parameters
    ----------
    ranges : dict of str to (float, float)
        Lowest and highest value of each assumption.
    n : int
        Points to draw.
    seed : int
        Of the draw.

    Returns
    -------
    pandas.DataFrame
        One row a point, one column an assumption: each range is cut into `n` equal pieces, and each piece is hit once.

    Raises
    ------
    DataError
        No ranges, a range whose ends are not two numbers in order, no points.

    Notes
    -----
    McKay, Beckman and Conover (1979), Technometrics 21, 239-245.

    Examples
    --------
    >>> drawn({"discount": (0.0, 0.4)}, n=4)["discount"].floordiv(0.1).sort_values().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    if not ranges or n < 1:
        raise DataError("Name at least one assumption with its range, and draw at least one point.")
    for name, ends in ranges.items():
        if len(ends) != 2 or not -np.inf < ends[0] < ends[1] < np.inf:
            raise DataError(f"The range of {name} is {tuple(ends)}: give its lowest and its highest value.")
    low, high = np.transpose([ranges[name] for name in ranges])
    rng = np.random.default_rng(seed)
    pieces = rng.permuted(np.tile(np.arange(n), (len(ranges), 1)), axis=1).T
    points = (pieces + rng.random(pieces.shape)) / n
    return pd.DataFrame(low + points * (high - low), columns=list(ranges))


def holds(conclusions, level=0.95):
    """Return the share of the drawn assumptions for which each conclusion holds, with its Wilson interval.

    Parameters
    ----------
    conclusions : pandas.DataFrame of bool
        One row a point of the region, one column a conclusion.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `conclusion`: `share`, `low`, `high`, `count`, `of`.

    Raises
    ------
    DataError
        Conclusions that are neither yes nor no.

    Notes
    -----
    The interval is of the share of this region, which is chosen. It says nothing of how likely the region is.

    Examples
    --------
    >>> holds(pd.DataFrame({"service earns more": [True, True, False, True]}))["share"].item()
    0.75
    """
    checked_level(level)
    answers = pd.DataFrame({name: _yes_no(conclusions[name], f"conclusion {name!r}") for name in conclusions})
    share, low, high = wilson(answers.sum(), len(answers), level)
    found = {"share": share, "low": low, "high": high, "count": answers.sum(), "of": len(answers)}
    return pd.DataFrame(found, index=answers.columns.rename("conclusion"))


def deciders(points, outcome, level=0.95):
    r"""Return which assumption decides an outcome: rank correlations over the region, the strongest first.

    Spearman's :math:`\rho` of each assumption with the outcome; the assumptions are drawn independently, so none stands
    for another. Intervals by Fisher's :math:`z` with the variance :math:`1.06 / (n - 3)`.

    Parameters
    ----------
    points : pandas.DataFrame
        Drawn assumptions, one row a point; see `drawn`.
    outcome : array-like
        What came out at each point.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `assumption`, the strongest first: `correlation`, `low`, `high`.

    Raises
    ------
    DataError
        Fewer than 10 points, or outcomes that are missing, all alike or of other points.

    Notes
    -----
    Fieller, Hartley and Pearson (1957), Biometrika 44, 470-481. A rank correlation sees what rises or falls; an
    assumption whose effect turns within its range looks weak.

    Examples
    --------
    >>> points = drawn({"a": (0, 1), "b": (0, 1)}, n=50)
    >>> deciders(points, 3 * points["a"] + points["b"]).index.tolist()
    ['a', 'b']
    """
    checked_level(level)
    outcome = np.asarray(outcome, dtype=float)
    if len(points) < 10 or len(outcome) != len(points):
        raise DataError(f"It takes 10 points and an outcome for each, not {len(points):,} and {len(outcome):,}.")
    if not np.isfinite(outcome).all() or np.ptp(outcome) == 0:
        raise DataError("The outcome is missing at some points, or the same at all: no assumption decides it.")
    found = pd.Series({name: spearmanr(points[name], outcome).statistic for name in points}, name="correlation")
    found = found.iloc[np.argsort(-found.abs().to_numpy(), kind="stable")]
    z = -special.ndtri((1 - level) / 2) * np.sqrt(1.06 / (len(points) - 3))
    middle = np.arctanh(found.clip(-1 + 1e-12, 1 - 1e-12))
    return found.to_frame().assign(low=np.tanh(middle - z), high=np.tanh(middle + z)).rename_axis("assumption")


def spelled(table, value, form="+.2f", times=1):
    """Write estimates with their intervals as text, to be read in a sentence.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `low` and `high`, and the estimate.
    value : str
        Column of the estimate.
    form : str
        Format of a number, such as ``".0%"``.
    times : float
        What the numbers are multiplied with, such as 100 for percentage points.

    Returns
    -------
    pandas.Series
        Texts by the table's index.

    Examples
    --------
    >>> spelled(pd.DataFrame({"share": [0.5], "low": [0.4], "high": [0.6]}, index=["stay"]), "share", ".0%")["stay"]
    '50% (40% to 60%)'
    """
    shown = times * table[[value, "low", "high"]].astype(float)
    return shown.apply(lambda row: "{:{f}} ({:{f}} to {:{f}})".format(*row, f=form), axis=1)
