"""Does it grow exponentially? Three curves, compared by AICc and by forecasts of later years."""

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level

CEILING = 100.0
"""The logistic curve may level off at most at so many times the largest value: higher, it is an exponential."""


def _linear(p, t):
    return p[0] + p[1] * t


def _exponential(p, t):
    return p[0] * np.exp(p[1] * t)


def _logistic(p, t):
    return p[0] / (1 + np.exp(-p[1] * (t - p[2])))


CURVES = {
    "linear": (_linear, ("level", "per_year")),
    "exponential": (_exponential, ("level", "rate")),
    "logistic": (_logistic, ("ceiling", "rate", "midpoint")),
}

# Level or ceiling (in multiples of the largest value), rate a year, midpoint (years since the first).
LIMITS = {"exponential": ([1e-9, -5], [100, 5]), "logistic": ([0.5, 1e-3, -100], [CEILING, 5, 200])}


def growth_curves(years, values):
    r"""Fit a straight line, an exponential and a logistic curve to a short series.

    With time :math:`t` in years since the first:

    .. math:: a + b t, \qquad a\,e^{b t}, \qquad \frac{K}{1 + e^{-b (t - t_0)}}

    by least squares in the units of the series, so that the three explain the same thing and their AICc compare:
    :math:`n \ln(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1)` with :math:`k` parameters, the error variance among them.
    With few points the last term, which is why it is AICc and not AIC, weighs more than most differences of fit.

    Parameters
    ----------
    years : array-like
        When each value holds.
    values : array-like of float
        The values, positive.

    Returns
    -------
    pandas.DataFrame
        Indexed by `curve`: `parameters` (dict), `rss`, `k`, `aicc`, `behind` (AICc more than the best curve's).

    Raises
    ------
    DataError
        When there are fewer than six points, two in one year, values that are missing or not positive.

    Notes
    -----
    AICc: Hurvich and Tsai (1989), Biometrika 76, 297-307.

    Examples
    --------
    >>> found = growth_curves(range(2000, 2010), [round(10 * 1.3**t) for t in range(10)])
    >>> found["aicc"].idxmin(), round(found["parameters"]["exponential"]["rate"], 2)
    ('exponential', 0.26)
    """
    t, y = _series(years, values, least=6)
    rows = {}
    for name, (_curve, names) in CURVES.items():
        p, rss = _fit(name, t, y)
        k = len(p) + 1
        rows[name] = {
            "parameters": dict(zip(names, p.tolist(), strict=True)),
            "rss": rss,
            "k": k,
            # A perfect fit would have minus infinity; the digits of the values bound what a fit can show.
            "aicc": len(t) * np.log(max(rss / len(t), 1e-12)) + 2 * k + 2 * k * (k + 1) / (len(t) - k - 1),
        }
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("curve")
    return found.assign(behind=found["aicc"] - found["aicc"].min())


def growth_forecast(years, values, until, last, draws=200, seed=0, level=0.95):
    """Fit the three curves to the years up to a day, and say what each expects of the years after it.

    The fan is a parametric bootstrap: from each fitted curve, series with its own residual error are drawn, fitted
    anew and carried on with new errors, so that it has the doubt about the parameters and about single years. It has
    no doubt about the curve itself, which is the larger one.

    Parameters
    ----------
    years, values : array-like
        The series.
    until : int
        Last year that the curves see.
    last : int
        Last year of the forecast.
    draws : int
        Series drawn for each curve.
    seed : int
        Seed of the draws.
    level : float
        Level of the fan.

    Returns
    -------
    pandas.DataFrame
        Indexed by `curve` and `year` (from the first year of the series to `last`): `expected`, `low`, `high`,
        `actual` (missing where the series has no value), `seen` (whether the curve saw that year).

    Raises
    ------
    DataError
        As `growth_curves`, but five points up to `until` are enough; or `last` does not lie after `until`.

    Examples
    --------
    >>> found = growth_forecast(range(2000, 2010), range(10, 20), until=2006, last=2012, draws=20)
    >>> found.loc[("linear", 2012), "expected"].round(6).item()
    22.0
    """
    level = checked_level(level)
    _series(years, values, least=5)
    actual = pd.Series(np.asarray(values, float), index=np.asarray(years, int)).sort_index()
    if last <= until:
        raise DataError(f"The forecast must end after {until}, the last year that the curves see, not in {last}.")
    t, y = _series(actual.index[actual.index <= until], actual[actual.index <= until], least=5)
    first = actual.index[0]
    all_years = np.arange(first, last + 1)
    ahead = (all_years - first).astype(float)
    found = {}
    for number, (name, (curve, _names)) in enumerate(CURVES.items()):
        p, rss = _fit(name, t, y)
        rng = np.random.default_rng([seed, number])
        error = np.sqrt(rss / (len(t) - len(p)))
        paths = []
        for _draw in range(draws):
            again, _rss = _fit(name, t, curve(p, t) + rng.normal(0, error, len(t)), start=p)
            paths.append(curve(again, ahead) + rng.normal(0, error, len(ahead)))
        low, high = np.quantile(paths, [(1 - level) / 2, (1 + level) / 2], axis=0)
        found[name] = pd.DataFrame({"expected": curve(p, ahead), "low": low, "high": high}, index=all_years)
    table = pd.concat(found, names=["curve", "year"])
    year = table.index.get_level_values("year")
    return table.assign(actual=actual.reindex(year).to_numpy(), seen=year <= until)


def growth_scores(forecast):
    """Score forecasts of growth on the years that the curves did not see.

    Parameters
    ----------
    forecast : pandas.DataFrame
        From `growth_forecast`.

    Returns
    -------
    pandas.DataFrame
        Indexed by `curve`: `years` scored, `mape` (mean absolute error as a share of the value), `last_error` (error
        of the last known year as a share of its value), `covered` (share of the years within the fan).

    Raises
    ------
    DataError
        When no later year is known.

    Examples
    --------
    >>> found = growth_forecast(range(2000, 2010), range(10, 20), until=2006, last=2012, draws=20)
    >>> growth_scores(found).loc["linear", ["years", "mape"]].round(6).tolist()
    [3.0, 0.0]
    """
    known = forecast[~forecast["seen"] & forecast["actual"].notna()]
    if known.empty:
        raise DataError("There is no later year with a value on which the forecasts could be scored.")
    error = known["expected"] / known["actual"] - 1
    within = known["actual"].between(known["low"], known["high"])
    by = {"level": "curve", "sort": False}
    return pd.DataFrame(
        {
            "years": error.groupby(**by).size(),
            "mape": error.abs().groupby(**by).mean(),
            "last_error": error.groupby(**by).last(),
            "covered": within.groupby(**by).mean(),
        }
    )


def _series(years, values, least):
    years, values = np.asarray(years, float).ravel(), np.asarray(values, float).ravel()
    if len(years) != len(values):
        raise DataError(f"There are {len(years)} years and {len(values)} values.")
    if len(years) < least:
        raise DataError(f"Curves of two and three parameters need at least {least} points; there are {len(years)}.")
    if not (np.isfinite(years).all() and np.isfinite(values).all() and (values > 0).all()):
        raise DataError("Years and values must be numbers, and values positive: growth has no meaning otherwise.")
    if len(np.unique(years)) < len(years):
        raise DataError("Two values stand for the same year; keep one.")
    order = np.argsort(years)
    return years[order] - years[order][0], values[order]


def _fit(name, t, y, start=None):
    """Least squares; values are scaled by their largest, so that all parameters are of the order of 1."""
    if name == "linear":
        p = np.polyfit(t, y, 1)[::-1]
        return p, float(((_linear(p, t) - y) ** 2).sum())
    scale, curve = y.max(), CURVES[name][0]
    if start is None:
        slope, level = np.polyfit(t, np.log(y / scale), 1)
        start = [np.exp(level), slope] if name == "exponential" else [1.5, max(2 * slope, 0.05), t.mean()]
    else:
        start = np.asarray(start, float) / np.r_[scale, np.ones(len(start) - 1)]
    low, high = LIMITS[name]

    # Beyond its limits a parameter counts as the limit: the search stays inside, and without bounds it is fast.
    found = least_squares(lambda p: curve(np.clip(p, low, high), t) - y / scale, start, method="lm")
    p = np.clip(found.x, low, high) * np.r_[scale, np.ones(len(start) - 1)]
    return p, float(2 * found.cost * scale**2)
