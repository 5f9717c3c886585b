"""Who is about to leave: models fitted on what was known, scored on what came later, and whom it pays to contact."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import rankdata

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z, wilson
from crmlab.lifecycle.durations import columns_of, lacking
from crmlab.lifecycle.lifts import lift
from crmlab.lifecycle.logs import day_of

LEAK = 0.95
"""A single feature that ranks leavers this well (AUC) was hardly known before they left."""
RARE = 20
"""Values of fewer customers are looked at together when a feature is searched for leaks."""
LEAVES = (4, 31)
"""Sizes of the trees that boosting may use: almost additive, or with many interactions."""
FOLDS = 5


class Split(NamedTuple):
    """Rows before and after a cut in time.

    Attributes
    ----------
    train : pandas.DataFrame
        Rows whose outcome was known at the cut.
    test : pandas.DataFrame
        Rows from the cut on.
    aside : pandas.DataFrame
        Rows from before the cut whose outcome came after it: neither may use them.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    aside: pd.DataFrame


class Churn(NamedTuple):
    """Models of leaving and how good they were on later data.

    Attributes
    ----------
    scores : pandas.DataFrame
        By model, on the test data: `auc`, `brier`, `lift` (of the tenth of the customers with the highest
        probabilities), each with its 95 % interval `…_low`, `…_high`. The base rate of the training data is the model
        that knows nothing.
    difference : pandas.DataFrame
        Boosting minus logit on the same customers, for `auc` and `brier`, with its 95 % interval.
    calibration : pandas.DataFrame
        By model and tenth of the test customers: `customers`, mean `predicted` probability, `observed` share and its
        Wilson interval `low`, `high`.
    coefficients : pandas.DataFrame
        By term of the logit: `odds_ratio` of one unit with its 95 % interval; missing for a term that repeats others.
    probabilities : pandas.DataFrame
        By customer of the test data and model.
    training : pandas.DataFrame
        By customer of the training data and model, each predicted by a fit that did not see it.
    """

    scores: pd.DataFrame
    difference: pd.DataFrame
    calibration: pd.DataFrame
    coefficients: pd.DataFrame
    probabilities: pd.DataFrame
    training: pd.DataFrame


def temporal_split(data, when, cut, horizon=0):
    """Split a table at a point in time, as a model in use would have to.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a customer and day on which its features were known.
    when : str
        Column with that day, or with another number that grows with time.
    cut : str, date or number
        The point in time; the test begins with this day.
    horizon : float
        Days (or units of the number) from `when` until the outcome was known.

    Returns
    -------
    Split
        `train`, `test` and what is set `aside`.

    Raises
    ------
    DataError
        No such column, missing times, a cut of another kind, or nothing before or after it.

    Examples
    --------
    >>> calls = pd.DataFrame({"day": pd.to_datetime(["2024-01-01", "2024-01-25", "2024-02-01"])})
    >>> [len(part) for part in temporal_split(calls, "day", "2024-02-01", horizon=30)]
    [1, 1, 1]
    """
    time = columns_of(data, [when])[when]
    if pd.api.types.is_numeric_dtype(time):
        if not isinstance(cut, (int, float, np.number)):
            raise DataError(f"Column {when!r} has numbers, so cut must be one, not {cut!r}.")
        known = time + horizon
    else:
        try:
            time = pd.to_datetime(time).dt.tz_localize(None)
        except (TypeError, ValueError) as error:
            raise DataError(f"Column {when!r} must have dates or numbers: {error}") from error
        cut = pd.Timestamp(day_of("cut", cut))
        known = time + pd.Timedelta(days=horizon)
    before = (known <= cut) & (time < cut)
    found = Split(*(data[rows.to_numpy()] for rows in (before, time >= cut, ~before & (time < cut))))
    if not len(found.train) or not len(found.test):
        raise DataError(
            f"{len(found.train):,} rows were known by {cut} and {len(found.test):,} are later: choose a cut between "
            f"{time.min()} and {time.max()}."
        )
    return found


def leakage(data, target, features, cut=None):
    """Look for features that cannot have been known before the customers left.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a customer.
    target : str
        Column that is 1 for customers who left and 0 for the others.
    features : sequence of str
        Columns to look at.
    cut : str or date, optional
        Day at which the features should have been known.

    Returns
    -------
    pandas.DataFrame
        By feature, the most telling first: `auc` of that feature alone (numbers in twenty groups, rare values together)
        and the `problem`, empty if there is none.

    Raises
    ------
    DataError
        Missing columns, or a target that is not 0 or 1.

    Notes
    -----
    A feature without a problem here may still have been recorded later: only who keeps the records knows.

    Examples
    --------
    >>> toy = pd.DataFrame({"left": [0, 1] * 50, "why": ["", "price"] * 50, "age": range(100)})
    >>> leakage(toy, "left", ["why", "age"])["problem"].tolist()
    ['tells almost alone who left (AUC 1.000)', '']
    """
    features = list(dict.fromkeys(features))
    lacking(data, [target, *features])
    y = _outcome(data, target)
    rows = {}
    for feature in features:
        x, problem = data[feature].reset_index(drop=True), ""
        text = not pd.api.types.is_numeric_dtype(x)
        auc = _auc(_rates(x, y), y)[0]
        if pd.api.types.is_datetime64_any_dtype(x):
            late = 0 if cut is None else int((x.dt.tz_localize(None) >= pd.Timestamp(day_of("cut", cut))).sum())
            problem = (
                f"{late:,} of its dates lie at or after the cut" if late else "a date: give the days until the cut"
            )
        elif text and len(x) > RARE and x.nunique() > len(x) / 2:
            problem = (
                f"{x.nunique():,} different values for {len(x):,} customers: it names them, or is a number kept as text"
            )
        elif auc >= LEAK:
            problem = f"tells almost alone who left (AUC {auc:.3f})"
        rows[feature] = {"auc": auc, "problem": problem}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["auc", "problem"]).rename_axis("feature")
    return table.sort_values("auc", ascending=False, kind="stable")


def churn_models(train, test, target, features, cut=None, accept=(), seed=0):
    """Fit a logit and boosted trees to training data and score both on later data.

    Parameters
    ----------
    train, test : pandas.DataFrame
        One row a customer; `temporal_split` makes them.
    target : str
        Column that is 1 (or true) for customers who left and 0 (or false) for the others.
    features : sequence of str
        Columns that the models may use: numbers and booleans as they are, anything else as values without order.
    cut : str or date, optional
        Day at which the features should have been known, for the search for leaks.
    accept : sequence of str
        Features that `leakage` suspects and that are all the same right.
    seed : int
        Of the division of the training data into five parts.

    Returns
    -------
    Churn
        Scores, calibration, coefficients and probabilities.

    Raises
    ------
    DataError
        Missing columns or values, a value in the test data that the training data do not have, nobody or everybody who
        left, or a suspected leak.

    Notes
    -----
    The logit is statsmodels'. Boosting is scikit-learn's `HistGradientBoostingClassifier` with 100 trees of 4 or of 31
    leaves, whichever predicts better on parts of the training data that the fit did not see; it runs on one thread,
    which makes it reproducible and, beside other work, faster. The interval of the AUC is that of DeLong, DeLong and
    Clarke-Pearson (1988), Biometrics 44, 837-845, on the logit scale; that of the Brier score is the normal one of a
    mean.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> table = pd.DataFrame({"visits": rng.poisson(3, 400)})
    >>> table["left"] = (rng.random(400) < 1 / (1 + table["visits"])).astype(int)
    >>> found = churn_models(table[:200], table[200:], "left", ["visits"])
    >>> found.scores.index.tolist()
    ['logit', 'boosting', 'base rate']
    """
    features = list(dict.fromkeys(features))
    if target in features:
        raise DataError(f"The target {target!r} cannot be one of the features.")
    y, z = _outcome(train, target), _outcome(test, target)
    for name, outcome in (("training", y), ("test", z)):
        if outcome.min() == outcome.max():
            raise DataError(f"In the {name} data {'nobody' if outcome[0] == 0 else 'everybody'} left.")
    suspects = leakage(train, target, features, cut).query("problem != ''").drop(index=list(accept), errors="ignore")
    if len(suspects):
        listed = "; ".join(f"{feature}: {problem}" for feature, problem in suspects["problem"].items())
        raise DataError(f"Was this known before the customers left? {listed}. Leave these out, or name them in accept.")
    inside, outside = _features(train, test, features)
    x, x_later = _dummies(inside), _dummies(outside)
    beta, se = _fit_logit(x, y)
    parts = _folds(y, seed)
    training = {"logit": _cross_fit(lambda rows, rest: _predict_logit(_fit_logit(x[rows], y[rows])[0], x[rest]), parts)}
    best = np.inf
    for leaves in LEAVES:
        guess = _cross_fit(lambda rows, rest, n=leaves: _boost(inside.iloc[rows], y[rows], n)(inside.iloc[rest]), parts)
        loss = -np.mean(np.log(np.where(y == 1, guess, 1 - guess).clip(1e-15)))
        if loss < best:
            best, chosen, training["boosting"] = loss, leaves, guess
    later = {
        "logit": _predict_logit(beta, x_later),
        "boosting": _boost(inside, y, chosen)(outside),
        "base rate": np.full(len(z), y.mean()),
    }
    coefficients = pd.DataFrame(
        {"odds_ratio": np.exp(beta), "low": np.exp(beta - Z * se), "high": np.exp(beta + Z * se)},
        index=pd.Index(["constant", *_names(inside)], name="term"),
    )
    return Churn(
        pd.DataFrame({name: _scores(p, z) for name, p in later.items()}).T.rename_axis("model"),
        difference(later["boosting"], later["logit"], z),
        pd.concat({name: calibration(p, z) for name, p in later.items() if name != "base rate"}, names=["model"]),
        coefficients,
        pd.DataFrame(later, index=test.index).drop(columns="base rate"),
        pd.DataFrame(training, index=train.index),
    )


def auc(probabilities, outcome):
    """Return how often a customer who left had the higher probability than one who stayed, with DeLong's interval.

    Parameters
    ----------
    probabilities : array
        Predicted probability, or any score.
    outcome : array
        1 for customers who left, 0 for the others.

    Returns
    -------
    pandas.Series
        `auc` (.5 is chance) and its 95 % interval `low`, `high`.

    Raises
    ------
    DataError
        Nobody or everybody left, or values are missing.

    Examples
    --------
    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])["auc"].item()
    0.75
    """
    p, y = _pair(probabilities, outcome)
    return pd.Series(_interval(p, y), index=["auc", "low", "high"])


def calibration(probabilities, outcome, groups=10):
    """Compare predicted probabilities with what happened, in groups of equal size.

    Parameters
    ----------
    probabilities : array
        Predicted probability of leaving.
    outcome : array
        1 for customers who left, 0 for the others.
    groups : int
        Number of groups; customers with the same probability stay together, so there may be fewer.

    Returns
    -------
    pandas.DataFrame
        By group, from the lowest probabilities up: `customers`, mean `predicted`, `observed` share and its Wilson
        interval `low`, `high`.

    Raises
    ------
    DataError
        Missing values.

    Examples
    --------
    >>> calibration([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], groups=2)["observed"].tolist()
    [0.0, 0.5]
    """
    p, y = _pair(probabilities, outcome, both=False)
    group = pd.qcut(p, groups, labels=False, duplicates="drop") if p.min() < p.max() else np.zeros(len(p), dtype=int)
    table = (
        pd.DataFrame({"p": p, "y": y})
        .groupby(group)
        .agg(customers=("y", "size"), predicted=("p", "mean"), left=("y", "sum"))
    )
    share, low, high = wilson(table.pop("left"), table["customers"])
    table = table.assign(observed=share, low=low, high=high)
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="group"))


def profit(probabilities, outcome, thresholds, value, cost, success=1.0):
    r"""Work out what it would have brought to contact the customers at or above a threshold.

    A contact costs `cost`; it keeps a customer who would have left with probability `success`, who is then worth
    `value`. With :math:`y_i` saying who left, contacting all with :math:`p_i \ge t` brings
    :math:`\sum_{p_i \ge t} (y_i s v_i - c)`.

    Parameters
    ----------
    probabilities : array
        Predicted probability of leaving.
    outcome : array
        1 for customers who left, 0 for the others.
    thresholds : dict
        Name of a policy to its threshold; infinity contacts nobody.
    value : float or array
        What a kept customer is worth.
    cost : float or array
        Of a contact.
    success : float
        Probability that a contact keeps a customer who would have left.

    Returns
    -------
    pandas.DataFrame
        By policy: `threshold`, customers `contacted`, `profit` and its 95 % interval `low`, `high` (normal, of a sum
        over customers).

    Raises
    ------
    DataError
        Missing values, or a probability of success outside 0 to 1.

    Examples
    --------
    >>> profit([0.9, 0.2], [1, 0], {"some": 0.5, "all": 0}, value=100, cost=10)["profit"].tolist()
    [90.0, 80.0]
    """
    p, y = _pair(probabilities, outcome, both=False)
    gain = _gain(y, value, cost, success)
    rows = {}
    for name, t in thresholds.items():
        each = np.where(p >= t, gain, 0.0)
        half = Z * each.std() * np.sqrt(len(each))
        total = each.sum()
        rows[name] = (t, int((p >= t).sum()), total, total - half, total + half)
    columns = ["threshold", "contacted", "profit", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("policy")


def threshold(probabilities, outcome, value, cost, success=1.0, n_boot=500, seed=0):
    """Choose the threshold above which contacting customers brings the most, on training data.

    Score it with `profit` on later data: the profit on the data that chose it is too good.

    Parameters
    ----------
    probabilities : array
        Predicted probability of leaving, from fits that did not see the customer (`training` of `churn_models`).
    outcome : array
        1 for customers who left, 0 for the others.
    value : float or array
        What a kept customer is worth.
    cost : float or array
        Of a contact.
    success : float
        Probability that a contact keeps a customer who would have left.
    n_boot : int
        Resamples of the customers for the interval.
    seed : int
        Of the resamples.

    Returns
    -------
    pandas.Series
        `threshold` and its 95 % bootstrap interval `low`, `high`, infinite where contacting nobody is best; `rule` is
        what calibrated probabilities would make of it, the cost over the value of a contact that succeeds.

    Raises
    ------
    DataError
        Missing values, or a probability of success outside 0 to 1.

    Examples
    --------
    >>> float(threshold([0.9, 0.6, 0.2, 0.1], [1, 1, 0, 0], value=100, cost=10)["threshold"])
    0.6
    """
    p, y = _pair(probabilities, outcome, both=False)
    gain = _gain(y, value, cost, success)
    order = np.argsort(-p, kind="stable")
    p, gain = p[order], gain[order]
    ends = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    choices = np.append(np.inf, p[ends])

    def best(weight):
        return choices[np.argmax(np.append(0.0, np.cumsum(weight * gain)[ends]))]

    rng = np.random.default_rng(seed)
    draws = [best(np.bincount(rng.integers(0, len(p), len(p)), minlength=len(p))) for _ in range(n_boot)]
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf") if n_boot else (np.nan, np.nan)
    rule = np.mean(cost) / (success * np.mean(value)) if success * np.mean(value) > 0 else np.inf
    return pd.Series({"threshold": best(1.0), "low": low, "high": high, "rule": rule})


def _outcome(data, target):
    y = columns_of(data, [target])[target]
    if not y.isin([0, 1]).all():
        other = y[~y.isin([0, 1])].tolist()[0]
        raise DataError(f"Column {target!r} must be 1 for customers who left and 0 for the others, not {other!r}.")
    return y.to_numpy(dtype=int)


def _pair(probabilities, outcome, both=True):
    p, y = np.asarray(probabilities, dtype=float), np.asarray(outcome, dtype=float)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise DataError(f"There must be one outcome for each probability, not {y.size:,} for {p.size:,}.")
    if np.isnan(p).any() or not np.isin(y, [0, 1]).all():
        raise DataError("Probabilities must not be missing, and outcomes must be 0 or 1.")
    if both and y.min() == y.max():
        raise DataError(f"{'Nobody' if y[0] == 0 else 'Everybody'} left: there is nobody to compare with.")
    return p, y.astype(int)


def _gain(y, value, cost, success):
    if not 0 <= success <= 1:
        raise DataError(f"success is a probability between 0 and 1, not {success!r}.")
    gain = y * success * np.asarray(value, dtype=float) - np.asarray(cost, dtype=float)
    if gain.shape != y.shape or not np.isfinite(gain).all():
        raise DataError("value and cost must be numbers, one for all customers or one for each.")
    return gain


def _rates(x, y):
    """Share of leavers among customers with the same value of a feature; nearby numbers together."""
    if pd.api.types.is_datetime64_any_dtype(x):
        x = (x - x.min()).dt.days
    if pd.api.types.is_numeric_dtype(x) and x.nunique() > RARE:
        group = pd.Series(pd.qcut(x.astype(float), 20, labels=False, duplicates="drop")).fillna(-1)
    else:
        group = pd.Series(pd.factorize(x)[0])
        group = group.where(group.map(group.value_counts()) >= RARE, -2)
    return pd.Series(y).groupby(group).transform("mean").to_numpy()


def _features(train, test, features):
    """Features of both tables with the same types and, where they have no order, the values of the training data."""
    inside, outside = columns_of(train, features), columns_of(test, features)
    for c in features:
        if pd.api.types.is_numeric_dtype(inside[c]) or pd.api.types.is_bool_dtype(inside[c]):
            if not pd.api.types.is_numeric_dtype(outside[c]):
                raise DataError(f"Column {c!r} has numbers in the training data but not in the test data.")
            inside[c], outside[c] = inside[c].astype(float), outside[c].astype(float)
            continue
        levels = sorted(inside[c].unique(), key=str)
        if unknown := [str(v) for v in outside[c].unique() if v not in set(levels)]:
            raise DataError(f"Column {c!r} has values in the test data that the training data lack: {unknown[:5]}.")
        if len(levels) > 255:
            raise DataError(f"Column {c!r} has {len(levels):,} different values: group them into at most 255.")
        inside[c], outside[c] = (
            pd.Categorical(part[c].astype(object), categories=levels) for part in (inside, outside)
        )
    return inside, outside


def _dummies(frame):
    x = pd.get_dummies(frame, drop_first=True, dtype=float).to_numpy(dtype=float)
    return np.column_stack([np.ones(len(x)), x])


def _names(frame):
    return pd.get_dummies(frame.iloc[:0], drop_first=True, prefix_sep=": ").columns


def _fit_logit(x, y):
    """Coefficients and standard errors; a column that repeats earlier ones has none."""
    from statsmodels.discrete.discrete_model import Logit

    scale = np.abs(x).max(axis=0)
    scale[scale == 0] = 1.0
    diagonal = np.abs(np.diag(np.linalg.qr(x / scale, mode="r")))
    own = np.flatnonzero(diagonal > 1e-8 * np.sqrt(len(x)))
    beta, se = np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    try:
        with warnings.catch_warnings():
            # A value whose customers all left has a large coefficient and a larger interval, which says it.
            warnings.simplefilter("ignore")
            fit = Logit(y, x[:, own] / scale[own]).fit(disp=0, maxiter=100)
            beta[own], se[own] = fit.params / scale[own], fit.bse / scale[own]
    except (np.linalg.LinAlgError, ValueError) as error:
        raise DataError(f"The logit cannot be fitted: {error}. Features may tell exactly who left.") from error
    return beta, se


def _predict_logit(beta, x):
    return expit(x @ np.nan_to_num(beta))


def _boost(x, y, leaves):
    """Fit boosted trees and return what predicts with them."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    # Threads that wait for each other make this twenty times slower on a machine that does other work too.
    with threadpool_limits(1, user_api="openmp"):
        model = HistGradientBoostingClassifier(
            max_leaf_nodes=leaves, categorical_features="from_dtype", early_stopping=False, random_state=0
        ).fit(x, y)

    def predict(new):
        with threadpool_limits(1, user_api="openmp"):
            return model.predict_proba(new)[:, 1]

    return predict


def _folds(y, seed):
    """Number of the part of each customer; leavers are spread evenly."""
    rng, part = np.random.default_rng(seed), np.zeros(len(y), dtype=int)
    for kind in (0, 1):
        rows = rng.permutation(np.flatnonzero(y == kind))
        part[rows] = np.arange(len(rows)) % FOLDS
    return part


def _cross_fit(predict, parts):
    found = np.empty(len(parts))
    for k in range(FOLDS):
        rest = np.flatnonzero(parts == k)
        found[rest] = predict(np.flatnonzero(parts != k), rest)
    return found


def _auc(p, y):
    """AUC and what each customer who left, and each who stayed, contributes to it."""
    here, there = p[y == 1], p[y == 0]
    rank = rankdata(p)
    left = (rank[y == 1] - rankdata(here)) / len(there)
    stayed = 1 - (rank[y == 0] - rankdata(there)) / len(here)
    return left.mean(), left, stayed


def _spread(left, stayed):
    """DeLong's standard error of a mean of such contributions; missing for a single customer."""
    if min(len(left), len(stayed)) < 2:
        return np.nan
    return np.sqrt(left.var(ddof=1) / len(left) + stayed.var(ddof=1) / len(stayed))


def _interval(p, y):
    a, left, stayed = _auc(p, y)
    if a in (0.0, 1.0):
        # All pairs agree: the spread is zero, and only the number of customers limits what else is possible.
        return tuple(float(v) for v in wilson(a * min(len(left), len(stayed)), min(len(left), len(stayed))))
    half = Z * _spread(left, stayed) / (a * (1 - a))
    return a, expit(logit(a) - half), expit(logit(a) + half)


def _scores(p, y):
    loss = (p - y) ** 2
    half = Z * loss.std() / np.sqrt(len(loss))
    brier = (loss.mean(), loss.mean() - half, loss.mean() + half)
    if p.min() == p.max():
        return dict(zip(_SCORES, [0.5, np.nan, np.nan, *brier, 1.0, np.nan, np.nan], strict=True))
    # Customers with the probability at the edge of the tenth share its last places.
    size, order = len(p) / 10, np.sort(p)[::-1]
    edge = order[int(np.ceil(size)) - 1]
    above, at = p > edge, p == edge
    hits = y[above].sum() + y[at].mean() * (size - above.sum())
    values = [*_interval(p, y), *brier, *lift(hits, size, y.sum(), len(y))]
    return dict(zip(_SCORES, map(float, values), strict=True))


_SCORES = [score + end for score in ("auc", "brier", "lift") for end in ("", "_low", "_high")]


def difference(p, q, y):
    """Return by how much one prediction is better than another of the same customers, with DeLong's interval.

    Parameters
    ----------
    p, q : numpy.ndarray
        Two predicted probabilities.
    y : numpy.ndarray
        1 for customers to whom it happened, 0 for the others.

    Returns
    -------
    pandas.DataFrame
        For `auc` and `brier`: `difference` (first minus second) and its 95 % interval `low`, `high`.

    Examples
    --------
    >>> p, q, y = np.array([0.1, 0.9, 0.8, 0.2]), np.array([0.5, 0.4, 0.6, 0.5]), np.array([0, 1, 1, 0])
    >>> float(difference(p, q, y).loc["auc", "difference"])
    0.5
    """
    (a, left_a, stayed_a), (b, left_b, stayed_b) = _auc(p, y), _auc(q, y)
    loss = (p - y) ** 2 - (q - y) ** 2
    values = {
        "auc": (a - b, Z * _spread(left_a - left_b, stayed_a - stayed_b)),
        "brier": (loss.mean(), Z * loss.std() / np.sqrt(len(loss))),
    }
    return pd.DataFrame(
        {score: {"difference": d, "low": d - half, "high": d + half} for score, (d, half) in values.items()}
    ).T.rename_axis("score")
