"""From answers to covariances: complete answers, what makes them unusable, and the covariances of resamples."""

import numpy as np

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level
from crmlab.loyalty.resampling import resamples


def measured(asked, constructs=None):
    """Return the constructs wanted with their items.

    Parameters
    ----------
    asked : SurveySpec
        What was asked.
    constructs : str, list of str or dict, optional
        Names of constructs, or construct to items; all constructs by default.

    Returns
    -------
    dict
        Construct to tuple of items.

    Raises
    ------
    DataError
        When a construct or an item is unknown, or an item is used twice.
    """
    if constructs is None:
        return dict(asked.constructs)
    if isinstance(constructs, dict):
        chosen = {name: (items,) if isinstance(items, str) else tuple(items) for name, items in constructs.items()}
    else:
        names = [constructs] if isinstance(constructs, str) else list(constructs)
        if unknown := [str(name) for name in names if name not in asked.constructs]:
            raise DataError(
                f"There is no construct {', '.join(unknown)}; the survey measures {', '.join(asked.constructs)}."
            )
        chosen = {name: asked.constructs[name] for name in names}
    items = [item for group in chosen.values() for item in group]
    if unknown := [item for item in items if item not in asked.items]:
        raise DataError(f"{', '.join(unknown)} is no item of the survey description.")
    if twice := sorted({item for item in items if items.count(item) > 1}):
        raise DataError(f"An item can measure one construct only; named more than once: {', '.join(twice)}.")
    if empty := [name for name, group in chosen.items() if not group]:
        raise DataError(f"The construct {', '.join(empty)} has no item.")
    return chosen


def complete(data, asked, items):
    """Return the answers of those who answered every item, or say which item stands in the way.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    asked : SurveySpec
        What was asked.
    items : list of str
        The items wanted.

    Returns
    -------
    pandas.DataFrame
        The rows without a blank, floats.

    Raises
    ------
    DataError
        When an item has no answers, nobody answered all, an item is constant, or two are the same.
    """
    frame = asked.prepare(data, items)
    if silent := [item for item in items if frame[item].isna().all()]:
        raise DataError(f"{', '.join(silent)} has no answer at all: leave the item out.")
    kept = frame.dropna()
    if len(kept) < 3:
        gaps = frame.isna().sum().sort_values(ascending=False)
        raise DataError(
            f"{len(kept)} of {len(frame)} respondents answered all of the {len(items)} items; most often missing is "
            f"{gaps.index[0]} ({gaps.iloc[0]} times)."
        )
    x = kept.to_numpy()
    if constant := [item for item, spread in zip(items, np.ptp(x, axis=0), strict=True) if spread == 0]:
        raise DataError(
            f"{', '.join(constant)} is constant in the {len(kept)} complete answers: it correlates with nothing; leave "
            "the item out."
        )
    r = np.abs(np.corrcoef(x, rowvar=False).reshape(len(items), len(items)))
    for i, j in zip(*np.where(np.triu(r, 1) > 1 - 1e-12), strict=True):
        raise DataError(f"{items[i]} and {items[j]} carry the same answers (correlation ±1): leave one of them out.")
    return kept


def regular(frame):
    """Refuse answers whose covariance matrix has no inverse.

    Parameters
    ----------
    frame : pandas.DataFrame
        Complete answers.

    Raises
    ------
    DataError
        When there are too few respondents, or an item is a combination of others.
    """
    n, p = frame.shape
    if n <= p:
        raise DataError(
            f"{n} complete answers for {p} items ({frame.columns[0]} to {frame.columns[-1]}): a factor model needs "
            "more respondents than items."
        )
    size, vectors = np.linalg.eigh(np.corrcoef(frame.to_numpy(), rowvar=False))
    if size[0] < 1e-10:
        involved = frame.columns[np.abs(vectors[:, 0]) > 0.05]
        raise DataError(f"{', '.join(involved)} add up to a constant or to one another: leave one of them out.")


def resampled(x, replicates, seed):
    """Return the covariances of samples drawn with replacement from the rows.

    Parameters
    ----------
    x : numpy.ndarray, shape (n, p)
        Complete answers.
    replicates : int
        How many samples.
    seed : int
        Of the random numbers.

    Returns
    -------
    numpy.ndarray, shape (replicates, p, p)
        Covariances; those with an item that is constant in a sample are missing there.
    """
    found = []
    for block in resamples(x, replicates, np.random.default_rng(seed)):
        cov = np.moveaxis(block.cov, -1, 0).copy()
        cov[(block.constant[:, None] | block.constant[None]).transpose(2, 0, 1)] = np.nan
        found.append(cov)
    return np.concatenate(found)


def correlations(cov):
    """Return correlation matrices.

    Parameters
    ----------
    cov : numpy.ndarray, shape (..., p, p)
        Covariances.

    Returns
    -------
    numpy.ndarray
        Of the same shape.
    """
    spread = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    return cov / (spread[..., :, None] * spread[..., None, :])


def interval(replicates, level):
    """Return percentile bounds over the first axis, replicates without a value left out.

    Parameters
    ----------
    replicates : numpy.ndarray, shape (b, ...)
        One value a resample.
    level : float
        Share of the resamples between the bounds.

    Returns
    -------
    low, high : numpy.ndarray
        The bounds; missing where no replicate has a value.
    dropped : numpy.ndarray
        Number of replicates without a value.
    """
    checked_level(level)
    replicates = np.asarray(replicates, dtype=float)
    gone = ~np.isfinite(replicates)
    dropped = gone.sum(axis=0)
    bounds = np.full((2, *replicates.shape[1:]), np.nan)
    some = dropped < len(replicates)
    if some.any():
        bounds[:, some] = np.nanquantile(
            np.where(gone, np.nan, replicates)[:, some], [(1 - level) / 2, (1 + level) / 2], axis=0
        )
    return *bounds, dropped
