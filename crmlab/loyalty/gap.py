"""The satisfaction-loyalty curve: loyalty at every score of satisfaction, and which shape of curve describes it."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit, stdtrit, xlog1py, xlogy
from scipy.stats import chi2, f, spearmanr

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z, wilson
from crmlab.loyalty.composites import solve
from crmlab.loyalty.samples import mean_interval, numbers, parts

FOLDS = 10
LEVELS = 20
"""Scores that the table shows one by one; where there are more, it shows ten groups."""
REPEATS = 5
"""Answers a score on average, below which the lack of fit is not tested."""
PENALTIES = 10.0 ** np.arange(-2, 5)
"""Weights of the roughness of a smooth curve, of which the AIC chooses."""
UNSURE = 30.0
"""A standard error of so many log odds (a typical value of the term) is none: the term separates yes from no."""
LINE = np.linspace(0, 1, 101)


class Curve(NamedTuple):
    """Loyalty by satisfaction.

    Attributes
    ----------
    scores : pandas.DataFrame
        By group and score (or ten groups of scores, `score` being their mean): `answers`, `mean` of loyalty and its
        95 % interval `mean_low`, `mean_high`, `top` (share of the top box) and its Wilson interval `top_low`,
        `top_high`.
    models : pandas.DataFrame
        By group, outcome (``"mean"`` or ``"top"``) and shape: `df` (parameters), `aic`, `cv_error` (root mean squared
        error on folds that the fit did not see), `cv_gain` (by how much the mean squared error is below that of the
        straight line, as a share of it) with its 95 % interval `gain_low`, `gain_high`, the `lack_of_fit` test's
        p-value, `converged`.
    lines : pandas.DataFrame
        The curves, ready to plot: `group`, `outcome`, `shape`, `score`, `fitted`.
    zones : pandas.DataFrame
        By group and share: the `score` at which so large a share is in the top box by the logistic curve, its 95 %
        bootstrap interval `low`, `high`, and the `replicates` in which the curve rises; missing beyond the scores
        given, and where not nearly all replicates rise.
    slopes : pandas.DataFrame
        By group: `answers`, `excluded` (no answer to one of the two), `slope` of the straight line and its robust 95 %
        interval `low`, `high`, `correlation`, `spearman`, `sd_satisfaction`, `sd_loyalty`.
    """

    scores: pd.DataFrame
    models: pd.DataFrame
    lines: pd.DataFrame
    zones: pd.DataFrame
    slopes: pd.DataFrame


class Cells(NamedTuple):
    """Answers of one outcome by score: all that a shape needs to see.

    Attributes
    ----------
    levels : numpy.ndarray
        The scores.
    where : numpy.ndarray
        The scores, followed by the points of the line to draw.
    n, s : numpy.ndarray, shape (1 + folds, scores)
        Answers and their sum: of all, then of all but each fold.
    pure : numpy.ndarray, shape (1 + folds,)
        Sum of squares within the scores, which no shape can explain.
    binary : bool
        Whether the outcome is yes or no.
    """

    levels: np.ndarray
    where: np.ndarray
    n: np.ndarray
    s: np.ndarray
    pure: np.ndarray
    binary: bool


def curve(data, satisfaction, loyalty, top, by=None, zones=(0.2, 0.5, 0.8), n_boot=2000, seed=20150101):
    r"""Describe how loyalty rises with satisfaction: score by score, and by four shapes of curve.

    The mean of loyalty is described by a straight line, a parabola, a logistic curve
    :math:`a + b / (1 + e^{-(x - m) / s})` and a smooth (penalized spline) curve. The share of the top box is described
    by a straight line and, on the scale of log odds, a line ("logistic"), a parabola and a smooth curve.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    satisfaction, loyalty : str
        Columns with the two answers (or indices).
    top : float
        Lowest answer on loyalty that belongs to the top box.
    by : str, optional
        Column that makes groups, each with a curve of its own.
    zones : sequence of float
        Shares of the top box of which the score is wanted.
    n_boot : int
        Bootstrap replicates for the scores of the zones.
    seed : int
        Makes folds and replicates reproducible.

    Returns
    -------
    Curve
        Its `scores`, `models`, `lines`, `zones`, `slopes`. Shapes with as many parameters as there are scores are left
        out; the lack of fit is missing where scores have fewer than five answers on average.

    Raises
    ------
    DataError
        Columns that are lacking, constant, not numbers or with what looks like a missing code; a top box with everyone
        or nobody in it.

    Notes
    -----
    An S shape of the share is what a logistic transform makes of any line, and of a mean that rises evenly: it is no
    evidence for zones of defection, indifference and affection (Jones and Sasser 1995, Harvard Business Review 73(6),
    88-99). The zones here are nothing but the scores at which 20, 50 and 80 % are in the top box. The slope depends
    on the spread of satisfaction as little as the correlation depends on it much: compare groups by both.

    Examples
    --------
    >>> from crmlab import data
    >>> mobi = data.load("mobi").to_pandas()
    >>> found = curve(mobi, "CUSA1", "CUSL3", top=9, n_boot=200)
    >>> found.scores.loc[("all", 8.0), "answers"].item()
    109
    """
    if satisfaction == loyalty:
        raise DataError(f"Satisfaction and loyalty are the same column, {loyalty!r}.")
    frame = numbers(data, [satisfaction, loyalty])
    top = float(top)
    if not all(0 < share < 1 for share in zones):
        raise DataError(f"zones must be shares between 0 and 1, not {tuple(zones)}.")
    given = frame.notna().all(axis=1).to_numpy()
    rng = np.random.default_rng(seed)
    tables = {name: {} for name in Curve._fields}
    for group, rows in parts(data, by).items():
        used = frame.iloc[rows[given[rows]]]
        where = "" if by is None else f" of group {group!r}"
        if len(used) < 10:
            raise DataError(f"{len(used)} respondents{where} answered both {satisfaction!r} and {loyalty!r}: too few.")
        _check(used, satisfaction, loyalty, top, where)
        x, y = used[satisfaction].to_numpy(), used[loyalty].to_numpy()
        levels, cell = np.unique(x, return_inverse=True)
        fold = rng.permutation(len(x)) % FOLDS
        tables["scores"][group] = _scores(x, y, y >= top)
        shapes = {outcome: _shapes(levels, cell, fold, v) for outcome, v in (("mean", y), ("top", 1.0 * (y >= top)))}
        tables["models"][group] = pd.concat({outcome: m for outcome, (m, _) in shapes.items()}, names=["outcome"])
        tables["lines"][group] = pd.concat({outcome: line for outcome, (_, line) in shapes.items()}, names=["outcome"])
        tables["zones"][group] = _zones(levels, cell, y >= top, zones, n_boot, rng)
        tables["slopes"][group] = _slope(x, y, len(rows) - len(used))
    lines = pd.concat(tables.pop("lines"), names=["group"]).reset_index(level=["group", "outcome", "shape"])
    slopes = pd.DataFrame(tables.pop("slopes")).T.rename_axis("group").astype({"answers": int, "excluded": int})
    others = {name: pd.concat(found, names=["group"]) for name, found in tables.items()}
    return Curve(lines=lines.reset_index(drop=True), slopes=slopes, **others)


def _check(used, satisfaction, loyalty, top, where):
    for name in (satisfaction, loyalty):
        if used[name].nunique() < 2:
            raise DataError(f"The item {name!r} has the same answer in all {len(used):,} rows{where}.")
    inside = int((used[loyalty] >= top).sum())
    if inside in (0, len(used)):
        raise DataError(
            f"{'Everyone' if inside else 'Nobody'}{where} answered {top:g} or more on {loyalty!r} (answers run from "
            f"{used[loyalty].min():g} to {used[loyalty].max():g}): choose another top."
        )


def _scores(x, y, best):
    """Mean and top box at every score, or in ten groups of scores."""
    table = pd.DataFrame({"x": x, "y": y, "best": best})
    if table["x"].nunique() > LEVELS:
        table["cell"] = pd.qcut(table["x"], 10, labels=False, duplicates="drop")
    else:
        table["cell"] = table["x"]
    found = table.groupby("cell").agg(score=("x", "mean"), answers=("y", "size"), mean=("y", "mean"), v=("y", "var"),
                                      k=("best", "sum"))  # fmt: skip
    found["mean_low"], found["mean_high"] = mean_interval(found["answers"], found["mean"], found["v"])
    found["top"], found["top_low"], found["top_high"] = wilson(found["k"], found["answers"])
    return found.set_index("score").drop(columns=["k", "v"])


def _slope(x, y, excluded):
    """The straight line, with the interval that holds whatever the spread around it is (HC3)."""
    z = x - x.mean()
    slope = z @ y / (z @ z)
    residual = y - y.mean() - slope * z
    leverage = 1 / len(x) + z * z / (z @ z)
    half = stdtrit(len(x) - 2, 0.975) * np.sqrt(np.sum((z * residual / (1 - leverage)) ** 2)) / (z @ z)
    return {
        "answers": len(x),
        "excluded": excluded,
        "slope": slope,
        "low": slope - half,
        "high": slope + half,
        "correlation": np.corrcoef(x, y)[0, 1],
        "spearman": spearmanr(x, y).statistic,
        "sd_satisfaction": x.std(ddof=1),
        "sd_loyalty": y.std(ddof=1),
    }


def _shapes(levels, cell, fold, y):
    """All shapes for one outcome: how well they describe it, and their lines."""
    J = len(levels)
    place = fold * J + cell
    # Around the overall mean, so that no digits are lost to it.
    z = y - y.mean()
    sums = (np.bincount(place, w, FOLDS * J).reshape(FOLDS, J) for w in (np.ones(len(y)), y, z, z * z))
    n, s, sz, szz = (np.vstack([v.sum(axis=0), v.sum(axis=0) - v]) for v in sums)
    grid = levels[0] + LINE * (levels[-1] - levels[0])
    pure = np.maximum((szz - sz**2 / np.maximum(n, 1)).sum(axis=1), 0.0)
    # What rounding leaves where all answers at a score are alike.
    pure[pure < 1e-12 * szz.sum(axis=1)] = 0.0
    cells = Cells(levels, np.append(levels, grid), n, s, pure, binary=set(np.unique(y)) <= {0.0, 1.0})
    rows, lines, base = {}, {}, None
    for shape, (fit, least) in (_SHARES if cells.binary else _MEANS).items():
        if least > J:
            continue
        fitted, df, converged = fit(cells)
        loss = (y - fitted[1:, :J][fold, cell]) ** 2
        base = loss if base is None else base
        aic, p = (_of_shares if cells.binary and shape != "straight" else _of_means)(cells, fitted[0, :J], df)
        rows[shape] = {"df": df, "aic": aic, "cv_error": np.sqrt(loss.mean()), **_gain(base, loss)}
        rows[shape] |= {"lack_of_fit": p, "converged": converged}
        lines[shape] = pd.DataFrame({"score": grid, "fitted": fitted[0, J:]})
    models = pd.DataFrame(rows).T.astype(float).astype({"converged": bool})
    return models.rename_axis("shape"), pd.concat(lines, names=["shape"])


def _gain(base, loss):
    """How much smaller the squared error is than that of the line, as a share of the latter."""
    if not base.mean() > 0:
        return dict.fromkeys(("cv_gain", "gain_low", "gain_high"), np.nan)
    d = (base - loss) / base.mean()
    half = Z * d.std(ddof=1) / np.sqrt(len(d))
    return {"cv_gain": d.mean(), "gain_low": d.mean() - half, "gain_high": d.mean() + half}


def _of_means(cells, fitted, df):
    """AIC and lack of fit of a mean, with normal errors; a straight line of shares has no likelihood."""
    n, s, J = cells.n[0], cells.s[0], len(cells.levels)
    N, beside = n.sum(), np.sum(n * (s / n - fitted) ** 2)
    if cells.binary or not cells.pure[0] > 0:
        return np.nan, np.nan
    aic = N * np.log(2 * np.pi * (cells.pure[0] + beside) / N) + N + 2 * (df + 1)
    if not (J - df > 0.5 and N >= REPEATS * J):
        return aic, np.nan
    return aic, f.sf(beside / (J - df) / (cells.pure[0] / (N - J)), J - df, N - J)


def _of_shares(cells, fitted, df):
    """AIC and lack of fit of a share: the likelihood against that of a share of its own for every score."""
    n, s, J = cells.n[0], cells.s[0], len(cells.levels)
    llf, best = (np.sum(xlogy(s, p) + xlog1py(n - s, -p)) for p in (fitted, s / n))
    tested = J - df > 0.5 and n.sum() >= REPEATS * J
    return 2 * df - 2 * llf, chi2.sf(2 * (best - llf), J - df) if tested else np.nan


def _powers(cells, x, degree):
    """Powers of the score, on a scale from -1 to 1."""
    low, high = cells.levels[0], cells.levels[-1]
    return ((2 * x - low - high) / (high - low))[:, None] ** np.arange(degree + 1)


def _polynomial(cells, degree):
    X = _powers(cells, cells.levels, degree)
    beta = solve(np.einsum("bj,ji,jk->ikb", cells.n, X, X), (cells.s @ X).T)
    return beta.T @ _powers(cells, cells.where, degree).T, degree + 1, bool(np.isfinite(beta[:, 0]).all())


def _log_odds(cells, degree):
    beta, converged = logits(_powers(cells, cells.levels, degree), cells.n, cells.s)
    return expit(beta @ _powers(cells, cells.where, degree).T), degree + 1, bool(converged[0])


def logits(X, n, k, penalty=0.0, steps=60):
    """Fit logistic regressions to many sets of counts at once (Newton).

    Parameters
    ----------
    X : numpy.ndarray, shape (cells, terms)
        What is known of each cell.
    n, k : numpy.ndarray, shape (sets, cells)
        Respondents, and how many of them say yes.
    penalty : numpy.ndarray, shape (terms, terms, sets), optional
        Curvature of what is subtracted from the log-likelihood.
    steps : int
        After so many the search gives up.

    Returns
    -------
    beta : numpy.ndarray, shape (sets, terms)
        Log odds.
    converged : numpy.ndarray, shape (sets,)
        False where the search did not arrive, for example because a score separates yes from no.
    """
    beta = np.zeros((len(n), X.shape[1]))
    penalty = np.broadcast_to(penalty, (X.shape[1], X.shape[1], len(n)))
    for _ in range(steps):
        p = expit(beta @ X.T)
        slope = (k - n * p) @ X - np.einsum("ikb,bk->bi", penalty, beta)
        curvature = np.einsum("bj,ji,jk->ikb", n * p * (1 - p), X, X) + penalty
        if (done := (np.abs(slope) <= 1e-10 * (n @ np.abs(X))).all(axis=1)).all():
            break
        step = solve(curvature, slope.T).T
        step = np.where(np.isnan(step) | done[:, None], 0.0, step)
        # A long step would leave the region in which the curvature holds.
        beta = beta + step / np.maximum(np.abs(step @ X.T).max(axis=1) / 4, 1.0)[:, None]
    # Where a score separates, the slope vanishes at infinity, and the curvature with it.
    inverse = solve(curvature, np.broadcast_to(np.eye(len(curvature))[..., None], curvature.shape))
    with np.errstate(invalid="ignore"):
        unsure = np.einsum("iib->bi", inverse) * (n @ X**2) / n.sum(axis=1, keepdims=True)
    return beta, done & (unsure.max(axis=1) < UNSURE**2)


def _logistic(cells):
    r"""Fit :math:`a + b\,g`, :math:`g = 1 / (1 + e^{-(x - m) / s})`; a line once m and s are given."""
    levels, n, s = cells.levels, cells.n, cells.s
    R, B = levels[-1] - levels[0], len(n)
    # On a finer and finer grid around the best so far.
    centre = np.tile([(levels[0] + levels[-1]) / 2, np.log(R / 6)], (B, 1))
    reach = np.array([R, np.log(18)])
    steps = np.linspace(-1, 1, 13)
    offsets = np.array([(i, j) for i in steps for j in steps])
    ends = np.array([[levels[0] - R / 2, np.log(R / 50)], [levels[-1] + R / 2, np.log(3 * R)]])
    for _ in range(26):
        tried = np.clip(centre[:, None] + reach * offsets, *ends)
        g = expit((levels - tried[..., :1]) / np.exp(tried[..., 1:]))
        a, b, drop = _lines(g, n, s)
        best = drop.argmax(axis=1)
        centre, reach = tried[np.arange(B), best], reach * 0.6
    a, b = (v[np.arange(B), best][:, None] for v in (a, b))
    inside = (np.abs(centre[0] - ends) > 1e-3 * np.abs(np.diff(ends, axis=0))).all()
    return a + b * expit((cells.where - centre[:, :1]) / np.exp(centre[:, 1:])), 4, bool(inside)


def _lines(g, n, s):
    """Weighted regressions on each candidate: constant, slope, and the sum of squares that each explains."""
    total, sy = n.sum(axis=1)[:, None], s.sum(axis=1)[:, None]
    sg, sgg, sgy = (np.einsum("bgj,bj->bg", v, w) for v, w in ((g, n), (g * g, n), (g, s)))
    spread, shared = sgg - sg**2 / total, sgy - sg * sy / total
    with np.errstate(divide="ignore", invalid="ignore"):
        b = np.where(spread > 1e-10 * total, shared / spread, 0.0)
    return (sy - b * sg) / total, b, b * shared


def _smooth(cells):
    """Cubic splines with a penalty on their curvature; in each set of answers, the AIC chooses how large."""
    from statsmodels.gam.api import BSplines

    levels = cells.levels
    ends = {"spacing": "equal", "lower_bound": levels[0], "upper_bound": levels[-1]}
    spline = BSplines(levels[:, None], df=[min(8, len(levels))], degree=[3], knot_kwds=[ends])
    X = np.column_stack([np.ones(len(levels)), spline.basis])
    rough = np.zeros((X.shape[1], X.shape[1]))
    rough[1:, 1:] = 2 * spline.penalty_matrices[0]
    # Every set of answers with every penalty, the penalties varying fastest.
    sets, tried = len(cells.n), len(PENALTIES)
    n, s, pure = (np.repeat(v, tried, axis=0) for v in (cells.n, cells.s, cells.pure))
    penalty = np.multiply.outer(rough, np.tile(PENALTIES, sets))
    mean = s / np.maximum(n, 1)
    if cells.binary:
        beta, converged = logits(X, n, s, penalty)
        fitted = expit(beta @ X.T)
        weight = n * fitted * (1 - fitted)
        misfit = -2 * (xlogy(s, fitted) + xlog1py(n - s, -fitted)).sum(axis=1)
    else:
        beta = solve(np.einsum("bj,ji,jk->ikb", n, X, X) + penalty, (s @ X).T).T
        fitted, weight, converged = beta @ X.T, n, np.isfinite(beta).all(axis=1)
        with np.errstate(divide="ignore"):
            misfit = n.sum(axis=1) * np.log(pure + (n * (mean - fitted) ** 2).sum(axis=1))
    inner = np.einsum("bj,ji,jk->ikb", weight, X, X)
    df = np.einsum("iib->b", solve(inner + penalty, inner))
    aic = np.where(converged & np.isfinite(df), misfit + 2 * df, np.inf).reshape(sets, tried)
    best = aic.argmin(axis=1) + tried * np.arange(sets)
    terms = np.column_stack([np.ones(len(cells.where)), spline.transform(cells.where[:, None])])
    line = beta[best] @ terms.T
    return expit(line) if cells.binary else line, df[best[0]], bool(np.isfinite(aic[0]).any())


def _zones(levels, cell, best, shares, n_boot, rng):
    """Where the logistic curve of the top box passes the shares; resampled respondents by score and answer."""
    J = len(levels)
    counts = np.bincount(2 * cell + best, minlength=2 * J)
    drawn = rng.multinomial(len(cell), counts / len(cell), size=n_boot)
    drawn = np.vstack([counts, drawn]).reshape(-1, J, 2)
    n, k = drawn.sum(axis=2).astype(float), drawn[..., 1].astype(float)
    half, middle = (levels[-1] - levels[0]) / 2, (levels[-1] + levels[0]) / 2
    beta, converged = logits(((levels - middle) / half)[:, None] ** np.arange(2), n, k)
    beta[~converged] = np.nan
    beta[beta[:, 1] <= 0] = np.nan
    rows = {}
    for share in shares:
        at = middle + half * (logit(share) - beta[:, 0]) / beta[:, 1]
        used = at[1:][np.isfinite(at[1:])]
        # Where more than a few resamples do not rise, there is no such score.
        found = [at[0], *np.quantile(used, [0.025, 0.975])] if len(used) > 0.975 * n_boot else [np.nan] * 3
        # A line drawn on beyond the answers says nothing about the customers.
        found = [v if levels[0] <= v <= levels[-1] else np.nan for v in found]
        rows[share] = dict(zip(("score", "low", "high"), found, strict=True)) | {"replicates": len(used)}
    return pd.DataFrame(rows).T.rename_axis("share").astype({"replicates": int})


_MEANS = {
    "straight": (lambda cells: _polynomial(cells, 1), 2),
    "quadratic": (lambda cells: _polynomial(cells, 2), 4),
    "logistic": (_logistic, 5),
    "smooth": (_smooth, 5),
}
_SHARES = {
    "straight": (lambda cells: _polynomial(cells, 1), 2),
    "logistic": (lambda cells: _log_odds(cells, 1), 2),
    "quadratic": (lambda cells: _log_odds(cells, 2), 4),
    "smooth": (_smooth, 5),
}
"""Each shape, and the number of scores that it needs."""
