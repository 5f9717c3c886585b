"""Ordered logit: answers on a scale as what they are, ordered words without distances."""

import warnings
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import chi2, norm

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z
from crmlab.loyalty.gap import logits
from crmlab.loyalty.samples import numbers, ordered_codes, table_of

MANY = 30
"""Levels of an outcome above which a regression of the numbers is meant."""


class Ordered(NamedTuple):
    """A fitted ordered logit.

    Attributes
    ----------
    table : pandas.DataFrame
        By term: `coef`, its standard error `se`, `odds_ratio` (of being above any threshold) with its 95 % interval
        `low`, `high`, `z`, `p_value`.
    thresholds : pandas.DataFrame
        By border between two answers: `cut` and its standard error `se`.
    fit : pandas.Series
        `answers`, `excluded`, `llf`, `llf_null` (thresholds only), `aic`, `bic`, `statistic`, `df`, `p_value` of the
        likelihood-ratio test of all terms, `gradient` (largest slope of the log-likelihood left, per answer).
    parallel : pandas.DataFrame
        Brant's test that a term shifts all thresholds alike, by term and for all of them (``"ALL"``): `statistic`,
        `df`, `p_value`; missing where a threshold has no finite estimate of its own.
    odds_by_cut : pandas.DataFrame
        By term and border: the odds ratio of a logit of that border alone; what the parallel lines put together.
    levels : list
        Answers from lowest to highest.
    design : formulaic.ModelSpec
        How the terms are made from a table.
    """

    table: pd.DataFrame
    thresholds: pd.DataFrame
    fit: pd.Series
    parallel: pd.DataFrame
    odds_by_cut: pd.DataFrame
    levels: list
    design: object

    def predict(self, data):
        """Return the probabilities of all answers.

        Parameters
        ----------
        data : pandas.DataFrame
            One row a respondent, with the columns of the formula.

        Returns
        -------
        pandas.DataFrame
            One column an answer.
        """
        X = _terms(self.design, data).to_numpy()
        below = expit(self.thresholds["cut"].to_numpy() - (X @ self.table["coef"].to_numpy())[:, None])
        edges = np.column_stack([np.zeros(len(X)), below, np.ones(len(X))])
        return pd.DataFrame(np.diff(edges), index=data.index, columns=pd.Index(self.levels, name="answer"))


def ordered(data, formula, levels=None, weights=None):
    r"""Regress ordered answers on what is known of the respondents (proportional odds).

    :math:`\operatorname{logit} P(y \le k \mid x) = \zeta_k - x'\beta`: one effect a term for all thresholds, which
    Brant's test checks by fitting a logit to each threshold and comparing their coefficients.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent, or a count.
    formula : str
        Such as ``"REPUR ~ SATIS + INDUSTRY"``; a categorical column contrasts with its first category.
    levels : sequence, optional
        Answers of the outcome from lowest to highest, for words without order.
    weights : str, optional
        Column with how many respondents a row stands for.

    Returns
    -------
    Ordered
        Its `table`, `thresholds`, `fit`, `parallel`, `odds_by_cut` and `predict`.

    Raises
    ------
    DataError
        Columns that are lacking, words without order, terms that repeat one another or do not vary, a term without
        finite estimate, a fit that did not converge.

    Notes
    -----
    The fit is statsmodels' `OrderedModel`. Brant (1990), Biometrics 46, 1171-1178. With many respondents the test
    rejects departures that do not matter: look at `odds_by_cut` before a verdict.

    Examples
    --------
    >>> toy = pd.DataFrame({"again": [1, 2, 3, 1, 2, 3, 2, 3], "happy": [1, 2, 3, 2, 1, 3, 3, 2]})
    >>> ordered(toy, "again ~ happy").table["coef"].round(3).item()
    1.585
    """
    from statsmodels.miscmodels.ordinal_model import OrderedModel
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning

    outcome, right, needed = _formula(formula)
    frame = table_of(data, [outcome, *needed, *([weights] if weights else [])])
    codes, answers = ordered_codes(frame[outcome], levels)
    frame = frame.drop(columns=outcome).assign(**{c: _feature(frame, c) for c in needed})
    count = _counts(frame, weights)
    used = ~np.isnan(codes) & frame[needed].notna().all(axis=1).to_numpy() & (count > 0)
    present = np.unique(codes[used]).astype(int)
    if len(present) < 2:
        raise DataError(f"The item {outcome!r} has the same answer in all {used.sum():,} rows used.")
    if len(present) > MANY:
        raise DataError(f"The item {outcome!r} has {len(present)} different answers: that is a number, not an order.")
    answers = [answers[k] for k in present]
    y, w = np.searchsorted(present, codes[used]), count[used]
    matrix, design = _design(frame[used], right)
    x = matrix.to_numpy()
    mean, spread = np.average(x, axis=0, weights=w), x.std(axis=0)
    z = (x - mean) / spread
    # OrderedModel knows no weights: a row that stands for several is repeated.
    rows = np.repeat(np.arange(len(y)), w)
    model = OrderedModel(y[rows], z[rows], distr="logit")
    with warnings.catch_warnings():
        # Whether the search arrived is judged by its gradient below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", HessianInversionWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        fit = model.fit(method="bfgs", disp=0, gtol=1e-7, maxiter=500)
        slope = np.abs(model.score(fit.params)).max() / len(rows)
        try:
            cov = fit.cov_params()
        except ValueError:
            # statsmodels says so where the curvature has no inverse.
            cov = np.full((len(fit.params), len(fit.params)), np.nan)
    p = x.shape[1]
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.diag(cov))[:p]
    # The terms are standardized: a standard error or an effect of 10 knows nothing.
    if not (np.isfinite(se).all() and slope < 1e-4 and max(se.max(), np.abs(fit.params[:p]).max()) < 10):
        worst = matrix.columns[np.argmax(np.nan_to_num(np.abs(fit.params[:p]), nan=np.inf))]
        raise DataError(
            f"The fit did not arrive at finite estimates (worst term: {worst!r}): one of its values goes with the "
            f"lowest or highest answers of {outcome!r} only. Merge values or answers, or leave the term out."
        )
    to, cuts = _back(fit.params, mean, spread, p)
    coef, cov = fit.params[:p] / spread, to @ cov @ to.T
    se = np.sqrt(np.diag(cov))
    with np.errstate(over="ignore"):
        # One unit of a term with tiny values can be more than any answer.
        ratios = {name: np.exp(coef + z * se[:p]) for name, z in (("odds_ratio", 0), ("low", -Z), ("high", Z))}
    table = pd.DataFrame({"coef": coef, "se": se[:p], **ratios}, index=matrix.columns.rename("term"))
    table["z"] = coef / se[:p]
    table["p_value"] = 2 * norm.sf(np.abs(table["z"]))
    borders = pd.Index([f"{a}|{b}" for a, b in pairwise(answers)], name="border")
    parallel, odds = _brant(z, spread, y, w, len(answers), matrix.columns, borders)
    return Ordered(
        table=table,
        thresholds=pd.DataFrame({"cut": cuts, "se": se[p:]}, index=borders),
        fit=_likelihood(fit.llf, y, w, p, len(answers), int(count.sum()) - int(w.sum()), slope),
        parallel=parallel,
        odds_by_cut=odds,
        levels=answers,
        design=design,
    )


def _formula(formula):
    """Outcome, right side and the columns it needs."""
    import formulaic

    outcome, tilde, right = (part.strip() for part in str(formula).partition("~"))
    if not (outcome and tilde and right):
        raise DataError(f'The formula {formula!r} needs two sides; for example "REPUR ~ SATIS + INDUSTRY".')
    try:
        return outcome.strip("`"), right, sorted(map(str, formulaic.Formula(right).required_variables))
    except Exception as error:
        raise DataError(f"The formula {formula!r} cannot be read: {error}") from error


def _feature(frame, name):
    """Numbers as floats; words stay words, but not words among numbers."""
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column):
        return column
    if pd.to_numeric(column, errors="coerce").notna().any():
        return numbers(frame, [name])[name]
    if column.isna().all():
        raise DataError(f"The item {name!r} has no answer at all.")
    if column.nunique() > MANY:
        raise DataError(f"The column {name!r} has {column.nunique():,} different words: too many to compare.")
    return column


def _counts(frame, weights):
    if weights is None:
        return np.ones(len(frame), dtype=int)
    values = numbers(frame, [weights])[weights].fillna(0).to_numpy()
    if (values < 0).any() or (values != values.round()).any():
        raise DataError(f"The weights {weights!r} must count respondents: whole numbers from 0 on.")
    return values.astype(int)


def _design(frame, right):
    """The columns of the right side without its constant, and how they were made."""
    import formulaic

    try:
        matrix = formulaic.model_matrix(right, frame)
    except Exception as error:
        raise DataError(f"The formula {right!r} cannot be applied to the data: {error}") from error
    design = matrix.model_spec
    matrix = pd.DataFrame(matrix).drop(columns="Intercept", errors="ignore").astype(float)
    x = matrix.to_numpy()
    spread = x.std(axis=0)
    if not x.shape[1]:
        raise DataError(f"The formula {right!r} has no term.")
    if (flat := spread <= 1e-12 * np.abs(x.mean(axis=0))).any():
        raise DataError(f"The term {matrix.columns[int(flat.argmax())]!r} has the same value in all rows used.")
    if np.linalg.matrix_rank((x - x.mean(axis=0)) / spread) < x.shape[1]:
        raise DataError(
            f"The terms {', '.join(matrix.columns)} repeat one another, or are more than the {len(x)} rows allow: "
            "their effects cannot be told apart."
        )
    return matrix, design


def _terms(design, data):
    return pd.DataFrame(design.get_model_matrix(data)).drop(columns="Intercept", errors="ignore").astype(float)


def _back(params, mean, spread, p):
    """Derivatives of coefficients and thresholds by the parameters of the search, and the thresholds."""
    steps = np.append(1.0, np.exp(params[p + 1 :]))
    K = len(steps)
    to = np.zeros((p + K, p + K))
    to[:p, :p] = np.diag(1 / spread)
    to[p:, :p] = mean / spread
    # The first threshold is a parameter; the others are it plus the exponentials that follow.
    to[p:, p:] = np.tril(np.ones((K, K))) * steps
    cuts = np.cumsum(np.append(params[p], steps[1:])) + mean / spread @ params[:p]
    return to, cuts


def _likelihood(llf, y, w, p, K, excluded, slope):
    n = np.bincount(y, w)
    null, df = float(np.sum(n * np.log(n / n.sum()))), p + K - 1
    statistic = 2 * (llf - null)
    return pd.Series(
        {
            "answers": n.sum(),
            "excluded": excluded,
            "llf": llf,
            "llf_null": null,
            "aic": 2 * df - 2 * llf,
            "bic": np.log(n.sum()) * df - 2 * llf,
            "statistic": statistic,
            "df": p,
            "p_value": chi2.sf(statistic, p),
            "gradient": slope,
        },
        name="fit",
    )


def _brant(z, spread, y, w, K, terms, borders):
    """Do the logits of the single thresholds have the same coefficients?"""
    X = np.column_stack([np.ones(len(z)), z])
    above = y > np.arange(K - 1)[:, None]
    beta, converged = logits(X, np.tile(w.astype(float), (K - 1, 1)), above * w)
    beta = np.where(converged[:, None], beta, np.nan)
    with np.errstate(over="ignore"):
        odds = pd.DataFrame(np.exp(beta[:, 1:] / spread).T, index=terms.rename("term"), columns=borders)
    p, found = z.shape[1], {}
    if converged.all() and K > 2:
        prob = expit(beta @ X.T)
        inverse = [np.linalg.inv((X * (w * q * (1 - q))[:, None]).T @ X) for q in prob]
        V = np.empty((K - 1, p, K - 1, p))
        for j in range(K - 1):
            for k in range(j, K - 1):
                # Who is above the higher border is above the lower one too.
                both = inverse[j] @ ((X * (w * prob[k] * (1 - prob[j]))[:, None]).T @ X) @ inverse[k]
                V[j, :, k], V[k, :, j] = both[1:, 1:], both[1:, 1:].T
        for name, chosen in [*((t, [i]) for i, t in enumerate(terms)), ("ALL", list(range(p)))]:
            b = beta[:, 1:][:, chosen]
            d = (b[1:] - b[0]).ravel()
            v = V[:, chosen][:, :, :, chosen]
            C = v[1:, :, 1:] - v[1:, :, :1] - v[:1, :, 1:] + v[:1, :, :1]
            statistic = d @ np.linalg.solve(C.reshape(len(d), len(d)), d)
            found[name] = {"statistic": statistic, "df": len(d), "p_value": chi2.sf(statistic, len(d))}
    else:
        found = {name: {"statistic": np.nan, "df": 0, "p_value": np.nan} for name in [*terms, "ALL"]}
    return pd.DataFrame(found).T.astype({"df": int}).rename_axis("term"), odds
