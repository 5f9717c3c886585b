"""What makes customers leave sooner: Cox regression, with the test of what it assumes."""

import itertools
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z
from crmlab.lifecycle.durations import columns_of, survival


class NoEstimateError(DataError):
    """Terms whose effect these customers cannot tell."""


class Cox(NamedTuple):
    """A fitted Cox regression.

    Attributes
    ----------
    table : pandas.DataFrame
        By term: `coef`, its standard error `se`, `hazard_ratio` with its 95 % interval `low`, `high`, `z`, `p_value`.
    likelihood : pandas.Series
        `customers`, `events`, `llf`, `llf_null` (no term at all), `statistic`, `df`, `p_value` of the likelihood-ratio
        test of all terms.
    concordance : pandas.Series
        `concordance` (of two customers, how often did the one with the higher hazard leave first; .5 is chance) and its
        95 % interval `low`, `high`; on the data of the fit.
    proportionality : pandas.DataFrame
        By term and for all together (``"GLOBAL"``): `rho` (correlation of the scaled Schoenfeld residuals with time),
        `statistic`, `df`, `p_value`; a small p-value says that the effect changes with time.
    """

    table: pd.DataFrame
    likelihood: pd.Series
    concordance: pd.Series
    proportionality: pd.DataFrame


def cox(data, formula, duration, event, ties="efron", strata=None):
    r"""Regress the hazard of leaving on what is known of the customers (Cox).

    The hazard of a customer with covariates :math:`x` is :math:`h(t \mid x) = h_0(t) \exp(x'\beta)`; no form of
    :math:`h_0` is assumed, each stratum has its own.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer.
    formula : str
        Right side of a formula, such as ``"~ contract + charges"``; its constant is left out.
    duration : str
        Column with the time from the start to the event or to the end of observation.
    event : str
        Column that is 1 (or true) if the customer left then, 0 (or false) otherwise.
    ties : {"efron", "breslow"}
        Approximation for customers who leave at the same time; Efron's is the better one.
    strata : str, optional
        Column whose values each have a hazard of their own, for what is not proportional.

    Returns
    -------
    Cox
        Its `table`, `likelihood`, `concordance`, `proportionality`.

    Raises
    ------
    DataError
        Missing columns or values, a formula that cannot be read, terms that repeat one another, nobody who left, or a
        term without finite estimate.

    Notes
    -----
    The fit is statsmodels' `PHReg`. The test of proportional hazards is that of Grambsch and Therneau (1994),
    Biometrika 81, 515-526, against the Kaplan-Meier transform of time, with their approximation of an even variance of
    the residuals; the interval of the concordance is its infinitesimal jackknife (Therneau and Atkinson, 2024, vignette
    "Concordance" of the R package survival). Linear terms and proportionality are assumptions: where the test rejects
    one, put it into `strata` or show its curves.

    Examples
    --------
    >>> toy = pd.DataFrame({"weeks": [3, 1, 4, 2, 5, 2], "left": [1, 1, 1, 1, 0, 1], "dear": [0, 1, 1, 1, 0, 0]})
    >>> print(cox(toy, "~ dear", "weeks", "left").table["coef"].round(3).item())
    0.735
    """
    from statsmodels.duration.hazard_regression import PHReg

    if ties not in ("efron", "breslow"):
        raise DataError(f"ties must be efron or breslow, not {ties!r}.")
    needed = _variables(formula)
    frame = columns_of(data, [duration, event, *([strata] if strata else []), *needed])
    X = _design(frame[needed], formula)
    base = survival(frame, duration, event).curve
    if not base["events"].sum():
        raise DataError(f"Nobody left: column {event!r} is 0 for all customers.")
    t, d = frame[duration].to_numpy(dtype=float), frame[event].to_numpy(dtype=int)
    stratum = pd.factorize(frame[strata])[0] if strata else np.zeros(len(t), dtype=int)
    mean, spread = X.to_numpy().mean(axis=0), X.to_numpy().std(axis=0)
    x = (X.to_numpy() - mean) / spread
    model = PHReg(t, x, status=d, strata=stratum, ties=ties)
    beta, cov = _maximum(model, x.shape[1])
    se, slope = np.sqrt(np.diag(cov)), model.score(beta)
    # The terms are standardized: a standard error of 10 knows nothing.
    if not (np.abs(slope).max() < 1e-4 * d.sum() and se.max() < 10):
        worst = X.columns[np.argmax(np.nan_to_num(se, nan=np.inf))]
        raise NoEstimateError(
            f"The term {worst!r} has no finite estimate: customers with one of its values never leave, or always "
            "first. Merge that value with another or leave the term out."
        )
    coef, se = beta / spread, se / spread
    table = pd.DataFrame(
        {
            "coef": coef,
            "se": se,
            "hazard_ratio": np.exp(coef),
            "low": np.exp(coef - Z * se),
            "high": np.exp(coef + Z * se),
            "z": coef / se,
            "p_value": 2 * norm.sf(np.abs(coef / se)),
        },
        index=X.columns.rename("term"),
    )
    llf, null = model.loglike(beta), model.loglike(np.zeros(len(beta)))
    statistic, df = 2 * (llf - null), len(beta)
    likelihood = pd.Series(
        {
            "customers": len(t),
            "events": d.sum(),
            "llf": llf,
            "llf_null": null,
            "statistic": statistic,
            "df": df,
            "p_value": chi2.sf(statistic, df),
        }
    )
    residuals = _schoenfeld(t, d, x, np.exp(x @ beta), stratum, efron=ties == "efron")
    # The survival just before each event, so that the last one does not stand alone at 1.
    clock = 1 - base["survival"].shift(fill_value=1.0).loc[t[d == 1]].to_numpy()
    proportionality = _proportionality(clock, residuals, cov, X.columns)
    return Cox(table, likelihood, _concordance(t, d, x @ beta, stratum), proportionality)


def cox_by_time(data, formula, duration, event, cuts):
    """Fit the same Cox regression in successive stretches of time: how does an effect change?

    Each stretch begins with the customers who are still there; those who stay beyond its end count as staying.

    Parameters
    ----------
    data : pandas.DataFrame or ibis.Table
        One row a customer.
    formula : str
        Right side of a formula, see `cox`.
    duration, event : str
        Columns of the time and of whether the customer left then.
    cuts : sequence of float
        Times at which stretches end and begin, from the first begin to the last end.

    Returns
    -------
    pandas.DataFrame
        By stretch (`begin`, `end`) and `term`: the `table` of `cox`; without the stretches in which a term has no
        finite estimate, because nobody with one of its values left then or all customers are alike.

    Raises
    ------
    DataError
        Cuts that do not grow, a stretch in which nobody left, and what `cox` refuses.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> toy = pd.DataFrame({"t": rng.exponential(size=400), "left": 1, "dear": rng.integers(0, 2, 400)})
    >>> cox_by_time(toy, "~ dear", "t", "left", [0, 0.5, 4]).index.tolist()
    [(0.0, 0.5, 'dear'), (0.5, 4.0, 'dear')]
    """
    cuts = list(cuts)
    if len(cuts) < 2 or (np.diff(cuts) <= 0).any():
        raise DataError(f"cuts must be at least two growing times, not {cuts}.")
    frame = columns_of(data, [duration, event, *_variables(formula)])
    found = {}
    for begin, end in itertools.pairwise(cuts):
        # Who leaves at a cut belongs to the stretch that ends there.
        part = frame[frame[duration] > begin] if begin > cuts[0] else frame[frame[duration] >= begin]
        left = ((part[event] == 1) & (part[duration] <= end)).astype(int)
        if not left.sum():
            raise DataError(f"Nobody left between {begin:g} and {end:g}: choose other cuts.")
        part = part.assign(**{duration: part[duration].clip(upper=end) - begin, event: left})
        try:
            found[begin, end] = cox(part, formula, duration, event).table
        except NoEstimateError as error:
            refused = error
    if not found:
        raise NoEstimateError(f"No stretch of time can be fitted. {refused}")
    return pd.concat(found, names=["begin", "end", "term"])


def _maximum(model, terms):
    """Estimates and their covariance by Newton's steps, halved where they overshoot, as from skewed columns they do."""
    beta = np.zeros(terms)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # A step too far overflows; whether the search arrived is judged by its gradient.
        warnings.simplefilter("ignore")
        llf = model.loglike(beta)
        for _ in range(100):
            try:
                step = np.linalg.solve(-model.hessian(beta), model.score(beta))
            except np.linalg.LinAlgError:
                break
            while not (new := model.loglike(beta + step)) >= llf and np.abs(step).max() > 1e-10:
                step = step / 2
            if not new > llf:
                break
            beta, llf = beta + step, new
        try:
            return beta, np.linalg.inv(-model.hessian(beta))
        except np.linalg.LinAlgError:
            return beta, np.full((terms, terms), np.nan)


def _variables(formula):
    """The columns that a formula needs."""
    import formulaic

    try:
        return sorted(map(str, formulaic.Formula(formula).required_variables))
    except Exception as error:
        raise DataError(f"The formula {formula!r} cannot be read: {error}") from error


def _design(frame, formula):
    """The columns of a formula without its constant."""
    import formulaic

    try:
        matrix = formulaic.model_matrix(formula, frame)
    except Exception as error:
        raise DataError(f"The formula {formula!r} cannot be applied to the data: {error}") from error
    matrix = pd.DataFrame(matrix).drop(columns="Intercept", errors="ignore").astype(float)
    if not len(matrix.columns):
        raise DataError(f'The formula {formula!r} has no term; for example "~ contract + charges".')
    # Standardized, so that a column in other units does not look like a multiple of the constant.
    x, spread = matrix.to_numpy(), matrix.to_numpy().std(axis=0)
    flat = spread <= 1e-12 * np.abs(x.mean(axis=0))
    if flat.any() or np.linalg.matrix_rank((x - x.mean(axis=0)) / spread) < x.shape[1]:
        raise NoEstimateError(
            f"The terms of {formula!r} ({', '.join(matrix.columns)}) repeat one another or do not vary: their effects "
            "cannot be told apart."
        )
    return matrix


def _schoenfeld(t, d, x, risk, stratum, efron):
    """What each event's covariates exceed the mean of those at risk by, in the order of the events in the data."""
    residuals = np.full(x.shape, np.nan)
    for s in np.unique(stratum):
        rows = np.flatnonzero(stratum == s)
        rows = rows[np.argsort(-t[rows], kind="stable")]
        r, rx = np.cumsum(risk[rows]), np.cumsum(risk[rows, None] * x[rows], axis=0)
        events = rows[d[rows] == 1]
        for time in np.unique(t[events]):
            now = events[t[events] == time]
            last = np.searchsorted(-t[rows], -time, side="right") - 1
            part = np.arange(len(now)) / len(now) if efron else np.zeros(1)
            own, own_x = risk[now].sum(), risk[now] @ x[now]
            means = (rx[last] - part[:, None] * own_x) / (r[last] - part * own)[:, None]
            residuals[now] = x[now] - means.mean(axis=0)
    return residuals[d == 1]


def _proportionality(clock, residuals, cov, terms):
    """Does the residual of a term go up or down with time?"""
    clock = clock - clock.mean()
    events, total = len(clock), np.sum(clock**2)
    index = pd.Index([*terms, "GLOBAL"], name="term")
    if total < 1e-12:
        return pd.DataFrame({"rho": np.nan, "statistic": np.nan, "df": 0, "p_value": np.nan}, index=index)
    scaled = residuals @ cov * events
    slope, pull = clock @ scaled, clock @ residuals
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = slope / np.sqrt(total * ((scaled - scaled.mean(axis=0)) ** 2).sum(axis=0))
    statistic = np.append(slope**2 / (np.diag(cov) * events * total), pull @ cov @ pull * events / total)
    df = np.append(np.ones(len(terms), dtype=int), len(terms))
    found = {"rho": np.append(rho, np.nan), "statistic": statistic, "df": df, "p_value": chi2.sf(statistic, df)}
    return pd.DataFrame(found, index=index)


def _concordance(t, d, score, stratum):
    """Harrell's share of pairs in the right order; how much each customer adds to it gives the interval."""
    right, pairs, rank = np.zeros(len(t)), np.zeros(len(t)), np.unique(score, return_inverse=True)[1]
    for s in np.unique(stratum):
        for time in np.unique(t[(stratum == s) & (d == 1)]):
            gone = np.flatnonzero((stratum == s) & (t == time) & (d == 1))
            # Who is censored at a time outlives who leaves at it.
            later = np.flatnonzero((stratum == s) & ((t > time) | ((t == time) & (d == 0))))
            for one, other, sign in ((gone, later, 1), (later, gone, -1)):
                count = np.bincount(rank[other], minlength=rank.max() + 1)
                below = np.cumsum(count) - count / 2
                right[one] += below[rank[one]] if sign > 0 else len(other) - below[rank[one]]
                pairs[one] += len(other)
    if not pairs.sum():
        return pd.Series({"concordance": np.nan, "low": np.nan, "high": np.nan})
    # Every pair is counted once for each of its two customers.
    c = right.sum() / pairs.sum()
    se = np.sqrt(np.sum((2 * (right - c * pairs) / pairs.sum()) ** 2))
    return pd.Series({"concordance": c, "low": max(c - Z * se, 0.0), "high": min(c + Z * se, 1.0)})
