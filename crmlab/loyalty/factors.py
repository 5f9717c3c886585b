"""Confirmatory factor analysis: does each item measure what it should, in every group, and are two constructs two?"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z
from crmlab.loyalty import likelihood, questionnaire
from crmlab.loyalty.likelihood import ONE, ZERO, Layout, Moments
from crmlab.loyalty.moments import complete, measured, regular

STEPS = ("configural", "metric", "scalar")
METHOD = "common method"


@dataclass(frozen=True, repr=False)
class FactorModel:
    """A common-factor model fitted by maximum likelihood.

    Parameters
    ----------
    constructs : dict
        Construct to its items.
    equal : str
        What the groups share; "" without groups.
    nobs : pandas.Series
        Complete answers by group.
    left_out : int
        Respondents without a complete answer.
    fit : pandas.Series
        chi2, df, p, cfi, tli, rmsea with its 90 % interval, srmr, llf, aic, bic, number of parameters.
    loadings : pandas.DataFrame
        By (group,) construct and item: `loading` (for a factor of variance 1), `unique` variance, standardized loading
        `std` with standard error `se`, `z` and 95 % interval.
    correlations : pandas.DataFrame
        Between constructs, by (group,) pair: `r` with standard error and 95 % interval.
    means : pandas.DataFrame
        Of the factors by group, in units of the first group's standard deviation; empty unless `equal` is "scalar".
    reliability : pandas.DataFrame
        By (group,) construct: `omega` of the plain sum of its items, `rho_C` of the standardized ones, `ave`.
    converged : bool
        Whether the search arrived.
    problems : tuple of str
        What makes the solution improper, by name; empty is good.
    """

    constructs: dict
    equal: str
    nobs: pd.Series
    left_out: int
    fit: pd.Series
    loadings: pd.DataFrame
    correlations: pd.DataFrame
    means: pd.DataFrame
    reliability: pd.DataFrame
    converged: bool
    problems: tuple

    def __repr__(self):
        return str(self)

    def __str__(self):
        f = self.fit
        groups = f" in {len(self.nobs)} groups ({self.equal})" if self.equal else ""
        lines = [
            f"{len(self.constructs)} factors, {sum(map(len, self.constructs.values()))} items{groups}, "
            f"{self.nobs.sum():,} complete answers ({self.left_out:,} incomplete left out)",
            f"chi2 {f.chi2:.3f}, df {f.df:.0f}, p {f.p:.4f}; CFI {f.cfi:.3f}, TLI {f.tli:.3f}, RMSEA {f.rmsea:.3f} "
            f"[{f.rmsea_low:.3f}, {f.rmsea_high:.3f}], SRMR {f.srmr:.3f}",
            *(f"! {p}" for p in self.problems),
            self.loadings.round(3).to_string(),
            self.correlations.round(3).to_string(),
        ]
        return "\n".join(lines)


def cfa(data, spec, constructs=None, group=None, equal="configural"):
    """Fit the common-factor model in which every item measures its construct only.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent; only complete answers are used.
    spec : SurveySpec or str
        What was asked; see `crmlab.loyalty.spec`.
    constructs : list of str or dict, optional
        Constructs to model, or construct to items; every construct of two items or more by default.
    group : str, optional
        A column: one model for every group at once.
    equal : {"configural", "metric", "scalar"}
        What the groups share: only which item belongs where, the loadings too, the intercepts too.

    Returns
    -------
    FactorModel
        The fit; a `RuntimeWarning` names what is wrong when it did not converge or is improper.

    Raises
    ------
    DataError
        When the answers do not fit the description, a construct is unknown, an item constant or a copy of another, the
        respondents are too few, or the model has more parameters than the data have moments.

    Examples
    --------
    >>> from crmlab import data
    >>> model = cfa(data.load("mobi").to_pandas(), "mobi", ["SATISFACTION", "LOYALTY"])
    >>> model.fit[["chi2", "df", "cfi"]].round(3).tolist()
    [13.217, 8.0, 0.988]
    """
    if equal not in STEPS:
        raise DataError(f"equal is one of {', '.join(STEPS)}, not {equal!r}.")
    if group is None and equal != "configural":
        raise DataError(f"equal={equal!r} says what groups share: name the column that groups in `group`.")
    asked = questionnaire.spec(spec)
    chosen = _several(asked, constructs)
    frame, left_out, groups = _answers(data, asked, chosen, group)
    model = _estimate(frame, chosen, groups, equal if group else "", left_out)
    if model.problems:
        warnings.warn("The factor model is not proper: " + "; ".join(model.problems), RuntimeWarning, stacklevel=2)
    return model


def invariance(data, spec, group, constructs=None):
    """Test step by step whether groups understand the questions alike, which comparing them presumes.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked.
    group : str
        The column that groups.
    constructs : list of str or dict, optional
        As in `cfa`.

    Returns
    -------
    pandas.DataFrame
        One row a step (configural, metric, scalar): fit; `d_chi2`, `d_df`, `d_p` and `d_cfi` against the step before;
        `holds` (CFI falls by no more than .01); `problems`. Metric allows to compare paths, scalar to compare means.

    Raises
    ------
    DataError
        As `cfa`.
    """
    asked = questionnaire.spec(spec)
    chosen = _several(asked, constructs)
    frame, left_out, groups = _answers(data, asked, chosen, group)
    rows, before = [], None
    for step in STEPS:
        model = _estimate(frame, chosen, groups, step, left_out)
        row = model.fit[["chi2", "df", "p", "cfi", "tli", "rmsea", "rmsea_low", "rmsea_high", "srmr"]].to_dict()
        if before is not None:
            row |= _step(model.fit, before) | {"holds": bool(model.fit.cfi - before.cfi >= -0.01) and model.converged}
        rows.append(row | {"problems": "; ".join(model.problems)})
        before = model.fit
    table = pd.DataFrame(rows, index=pd.Index(STEPS, name="step"))
    table["holds"] = table["holds"].astype("boolean")
    return table


def one_or_two_factors(data, spec, one="SATISFACTION", other="LOYALTY"):
    """Test whether two constructs are two, by merging them.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked.
    one, other : str
        Two constructs of two items or more.

    Returns
    -------
    pandas.DataFrame
        Rows "two factors", "one factor" and "difference" (`chi2`, `df`, `p`, `cfi`), `r` (their correlation with its
        95 % interval), `problems`. A correlation of 1 lies at the border of what is possible, so the test of the
        difference errs on the side of one factor; and in large samples it rejects one factor even when the two are
        nearly one: read the interval of `r` and `htmt` with it.

    Raises
    ------
    DataError
        As `cfa`.
    """
    asked = questionnaire.spec(spec)
    if one == other:
        raise DataError(f"{one!r} is named twice: two different constructs are compared.")
    chosen = _several(asked, [one, other])
    frame, left_out, groups = _answers(data, asked, chosen, None)
    two = _estimate(frame, chosen, groups, "", left_out)
    merged = _estimate(frame, {f"{one} + {other}": tuple(frame.columns)}, groups, "", left_out)
    shown = ["chi2", "df", "p", "cfi", "tli", "rmsea", "srmr"]
    step = _step(merged.fit, two.fit)
    return pd.DataFrame(
        [
            two.fit[shown].to_dict()
            | two.correlations.iloc[0][["r", "low", "high"]].to_dict()
            | {"problems": "; ".join(two.problems)},
            merged.fit[shown].to_dict() | {"problems": "; ".join(merged.problems)},
            {"chi2": step["d_chi2"], "df": step["d_df"], "p": step["d_p"], "cfi": step["d_cfi"]},
        ],
        index=pd.Index(["two factors", "one factor", "difference"], name="model"),
    )


def method_alarms(data, spec, constructs=None):
    """Look for signs that answers share a cause other than the constructs: one sitting, one mood, one way to tick.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked.
    constructs : list of str or dict, optional
        As in `cfa`.

    Returns
    -------
    pandas.DataFrame
        One row a check: `value`, `alarm_at`, `alarm`, and what it `can_show` and `cannot_show`; none of them proves or
        excludes a common method.

    Raises
    ------
    DataError
        As `cfa`.
    """
    asked = questionnaire.spec(spec)
    chosen = _several(asked, constructs)
    frame, left_out, groups = _answers(data, asked, chosen, None)
    x = frame.to_numpy()
    share = np.linalg.eigvalsh(np.corrcoef(x, rowvar=False))[-1] / x.shape[1]
    rows = {
        "Harman: share of the first component": {
            "value": share,
            "alarm_at": 0.5,
            "alarm": share > 0.5,
            "can_show": "that one dimension carries most of what people answered",
            "cannot_show": "whether that is a method or a halo of real satisfaction; a smaller share clears nobody",
        }
    }
    if len(chosen) > 1:
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        scores = np.column_stack([z[:, frame.columns.isin(items)].sum(axis=1) for items in chosen.values()])
        vif = np.diag(np.linalg.inv(np.corrcoef(scores, rowvar=False)))
        worst = int(vif.argmax())
        rows["Full collinearity: largest VIF of a construct"] = {
            "value": vif[worst],
            "alarm_at": 3.3,
            "alarm": vif[worst] > 3.3,
            "can_show": f"that {list(chosen)[worst]} says little that the other constructs do not say",
            "cannot_show": "why: a common method and constructs that are truly close look the same",
        }
        plain = _estimate(frame, chosen, groups, "", left_out)
        method = _estimate(frame, chosen, groups, "", left_out, method=True)
        step = _step(plain.fit, method.fit)
        carried = method.loadings.loc[METHOD, "std"].pow(2).mean()
        trouble = f" (but {'; '.join(method.problems)})" if method.problems else ""
        rows["Unmeasured method factor: share of variance"] = {
            "value": carried if method.converged else np.nan,
            "alarm_at": 0.25,
            "alarm": bool(carried > 0.25) if method.converged else pd.NA,
            "can_show": f"a factor that all items share equally (chi2 falls by {step['d_chi2']:.1f}, df 1, "
            f"p {step['d_p']:.2g}){trouble}",
            "cannot_show": "what the factor is; it also takes up whatever all constructs truly share",
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("check")
    table["alarm"] = table["alarm"].astype("boolean")
    return table


def factor_coefficients(theta, layout, scale):
    """Return what the loadings say of the reliability of each construct.

    Parameters
    ----------
    theta : numpy.ndarray, shape (b, q)
        Parameters of a model of items divided by `scale`.
    layout : Layout
        Of the group.
    scale : numpy.ndarray, shape (p,)
        Of the items.

    Returns
    -------
    dict of numpy.ndarray, shape (b, k)
        `omega` of the plain sum, `rho_C` of the sum of standardized items, `ave`, `ave_raw` of unstandardized items.
    """
    load, factors, unique, _, _ = likelihood.matrices(theta, layout)
    member = (layout.loadings != ZERO).astype(float)
    load = load * np.sqrt(np.einsum("bkk->bk", factors))[:, None, :]
    total = (load**2).sum(axis=2) + unique
    found = {}
    for sums, means, weight in (("omega", "ave_raw", scale), ("rho_C", "ave", 1 / np.sqrt(total))):
        weighted = load * np.broadcast_to(weight, unique.shape)[:, :, None]
        error = (unique * weight**2) @ member
        common, squares = weighted.sum(axis=1) ** 2, (weighted**2).sum(axis=1)
        found |= {sums: common / (common + error), means: squares / (squares + error)}
    return found


def single_group(frame, chosen):
    """Fit a model without groups, for coefficients that are computed for many resamples.

    Parameters
    ----------
    frame : pandas.DataFrame
        Complete answers.
    chosen : dict
        Construct to items.

    Returns
    -------
    layout : Layout
        Where each parameter stands.
    scale : numpy.ndarray
        What the items are divided by.
    theta : numpy.ndarray, shape (1, q)
        The maximum.
    problems : tuple of str
        What makes the solution improper, by name.

    Raises
    ------
    DataError
        When no such model can be fitted.
    """
    regular(frame)
    x = frame.to_numpy()
    scale = x.std(axis=0)
    layouts = _layouts(chosen, frame.columns, 1, "", False)
    _identified(layouts, chosen, frame.shape[1])
    moments = [Moments(np.cov(x / scale, rowvar=False, bias=True)[None], np.zeros((1, len(scale))), 1.0)]
    found = likelihood.fit(_start(layouts, moments, chosen, frame.columns), layouts, moments)
    return layouts[0], scale, found.theta, _problems(found, layouts, [""], list(chosen), frame.columns, False, len(x))


def _several(asked, constructs):
    """The constructs to model; those of a single item only where they were not asked for by name."""
    chosen = measured(asked, constructs)
    single = [name for name, items in chosen.items() if len(items) < 2]
    if constructs is not None and single:
        raise DataError(
            f"{', '.join(single)} has one item: a factor model needs two or more to tell the construct from its item."
        )
    chosen = {name: items for name, items in chosen.items() if len(items) > 1}
    if not chosen:
        raise DataError("No construct of the survey has two items or more.")
    return chosen


def _answers(data, asked, chosen, group):
    """Complete answers, how many are left out, and the group of each."""
    items = [item for group_ in chosen.values() for item in group_]
    frame = complete(data, asked, items)
    regular(frame)
    if group is None:
        return frame, len(data) - len(frame), pd.Series("", index=np.arange(len(frame)))
    # By position: the index of a survey may repeat.
    place = asked.prepare(data, items).notna().all(axis=1).to_numpy()
    labels = questionnaire.groups_of(data, asked, group)[place]
    known = labels.notna().to_numpy()
    frame, labels = frame[known], labels[known].reset_index(drop=True)
    sizes = labels.value_counts()
    if len(sizes) < 2:
        raise DataError(f"{group} has {len(sizes)} group among the complete answers: nothing to compare.")
    for label in sizes.index:
        part = frame[(labels == label).to_numpy()]
        where = f"In the group {group} = {label}: "
        if constant := [i for i in items if part[i].nunique() == 1]:
            raise DataError(where + f"{', '.join(constant)} is constant; leave the item or the group out.")
        try:
            regular(part)
        except DataError as error:
            raise DataError(where + str(error)) from None
    return frame, len(data) - len(frame), labels


def _estimate(frame, chosen, groups, equal, left_out, method=False):
    names = list(dict.fromkeys(sorted(groups.unique(), key=str)))
    x = frame.to_numpy()
    parts = [x[(groups == name).to_numpy()] for name in names]
    # Dividing by one scale for all groups leaves every equality between them as it is.
    scale = np.sqrt(np.average([part.var(axis=0) for part in parts], axis=0, weights=[len(part) for part in parts]))
    moments = [
        Moments(
            np.cov(part / scale, rowvar=False, bias=True)[None],
            (part.mean(axis=0) / scale * bool(equal))[None],
            len(part) / len(x),
        )
        for part in parts
    ]
    layouts = _layouts(chosen, frame.columns, len(names), equal, method)
    q, df = _identified(layouts, chosen, len(scale))
    found = likelihood.fit(_start(layouts, moments, chosen, frame.columns), layouts, moments)
    index = pd.Index(names, name="group")
    nobs = pd.Series([len(part) for part in parts], index=index, name="nobs")
    factors = [*chosen, METHOD] if method else list(chosen)
    theta = found.theta
    cov = _covariance(found, len(x))
    # A negative variance has no root; `problems` names it.
    with np.errstate(invalid="ignore", divide="ignore"):
        tables = [_tables(theta, cov, layout, scale, factors, chosen, frame.columns) for layout in layouts]
    loadings, correlations, reliability = (
        pd.concat(list(of), keys=names, names=["group"]) if equal else of[0] for of in zip(*tables, strict=True)
    )
    means = pd.DataFrame(
        [likelihood.matrices(theta, layout)[4][0] for layout in layouts] if equal == "scalar" else [],
        index=index if equal == "scalar" else None,
        columns=factors,
    )
    fit = _fit_measures(found, layouts, moments, scale, len(x), q, df, bool(equal))
    return FactorModel(
        constructs=dict(chosen),
        equal=equal,
        nobs=nobs,
        left_out=left_out,
        fit=fit,
        loadings=loadings,
        correlations=correlations,
        means=means,
        reliability=reliability,
        converged=bool(found.converged[0]),
        problems=_problems(found, layouts, names, factors, frame.columns, bool(equal), len(x)),
    )


def _layouts(chosen, columns, groups, equal, method):
    """Number the parameters: loadings, factor covariances, unique variances, intercepts and factor means."""
    p, k = len(columns), len(chosen) + method
    home = np.array([list(chosen).index(name) for name in _home(chosen, columns)])
    count, layouts = 0, []

    def number(size):
        nonlocal count
        count += size
        return np.arange(count - size, count)

    for g in range(groups):
        shared = g > 0
        if shared and equal in ("metric", "scalar"):
            loadings = layouts[0].loadings
        else:
            loadings = np.full((p, k), ZERO)
            loadings[np.arange(p), home] = number(p)
            if method:
                loadings[:, -1] = number(1)
        factors = np.full((k, k), ZERO)
        rows, cols = np.triu_indices(k - method, 1)
        factors[rows, cols] = factors[cols, rows] = number(len(rows))
        # The scale of a factor is free in later groups once they share its loadings.
        free = shared and equal in ("metric", "scalar")
        factors[np.arange(k), np.arange(k)] = number(k) if free else ONE
        unique = number(p)
        if not equal:
            intercepts = np.full(p, ZERO)
        elif shared and equal == "scalar":
            intercepts = layouts[0].intercepts
        else:
            intercepts = number(p)
        means = number(k) if shared and equal == "scalar" else np.full(k, ZERO)
        layouts.append(Layout(loadings, factors, unique, intercepts, means))
    return layouts


def _identified(layouts, chosen, p):
    """Number of parameters and degrees of freedom; a model must not have more parameters than moments."""
    q = max(int(part.max()) for layout in layouts for part in layout) + 1
    moments = p * (p + 3) // 2 if layouts[0].intercepts[0] >= 0 else p * (p + 1) // 2
    df = len(layouts) * moments - q
    if df < 0:
        raise DataError(
            f"{', '.join(chosen)} with {p} items: {q} parameters for {q + df} moments; a factor needs three items, "
            "or two and a second factor."
        )
    return q, df


def _home(chosen, columns):
    home = {item: name for name, items in chosen.items() for item in items}
    return [home[item] for item in columns]


def _start(layouts, moments, chosen, columns):
    """A starting point from the first principal component of each construct, over all groups."""
    cov = sum(m.share * m.cov[0] for m in moments)
    mean = sum(m.share * m.mean[0] for m in moments)
    home = np.array(_home(chosen, columns))
    weights = np.zeros((len(columns), len(chosen)))
    for j, name in enumerate(chosen):
        block = np.flatnonzero(home == name)
        vector = np.linalg.eigh(cov[np.ix_(block, block)])[1][:, -1]
        weights[block, j] = vector * (1 if vector.sum() >= 0 else -1)
    between = weights.T @ cov @ weights
    spread = np.sqrt(np.diag(between))
    loadings = 0.85 * cov @ weights / spread * (weights != 0)
    unique = np.maximum(np.diag(cov) - (loadings**2).sum(axis=1), 0.2)
    factors = 0.9 * between / np.outer(spread, spread)
    np.fill_diagonal(factors, 1.0)
    q = max(int(part.max()) for layout in layouts for part in layout) + 1
    theta = np.zeros((1, q))
    for layout in layouts:
        k = len(chosen)
        theta[0, layout.loadings[np.arange(len(home)), (weights != 0).argmax(axis=1)]] = loadings.sum(axis=1)
        if layout.loadings.shape[1] > k:
            theta[0, layout.loadings[0, -1]] = 0.2
        free = layout.factors[:k, :k] >= 0
        theta[0, layout.factors[:k, :k][free]] = factors[free]
        theta[0, layout.unique] = unique
        if layout.intercepts[0] >= 0:
            theta[0, layout.intercepts] = mean
    return theta


def _covariance(found, n):
    """Covariance of the parameters; missing where the model is not identified."""
    information = found.information[0]
    if not np.isfinite(information).all():
        return np.full_like(information, np.nan)
    size = np.sqrt(np.diag(information))
    if (size == 0).any() or np.linalg.eigvalsh(information / np.outer(size, size))[0] < 1e-10:
        return np.full_like(information, np.nan)
    return np.linalg.inv(information) / n


def _tables(theta, cov, layout, scale, factors, chosen, columns):
    """Loadings, correlations and reliability of one group, with standard errors by the delta method."""
    load, phi, unique, _, _ = (part[0] for part in likelihood.matrices(theta, layout))
    u, v, _, owner = likelihood.slopes(theta, layout)
    variance = np.einsum("bk,kl,bl->b", load, phi, load) + unique
    d_variance = np.zeros((len(cov), len(columns)))
    np.add.at(d_variance, owner, 2 * u[0] * v[0])
    rows = []
    for j, i in [(j, i) for j in range(len(factors)) for i in range(len(columns)) if layout.loadings[i, j] != ZERO]:
        slope = np.zeros(len(cov))
        size, root = phi[j, j], np.sqrt(variance[i])
        std = load[i, j] * np.sqrt(size) / root
        slope[layout.loadings[i, j]] += np.sqrt(size) / root
        if layout.factors[j, j] >= 0:
            slope[layout.factors[j, j]] += 0.5 * std / size
        slope -= 0.5 * std * d_variance[:, i] / variance[i]
        se = np.sqrt(slope @ cov @ slope)
        rows.append((factors[j], columns[i], load[i, j] * scale[i], unique[i] * scale[i] ** 2, std, se))
    loadings = pd.DataFrame(rows, columns=["construct", "item", "loading", "unique", "std", "se"])
    loadings = _with_interval(loadings.set_index(["construct", "item"]), "std")
    rows = []
    for j, k in zip(*np.triu_indices(len(chosen), 1), strict=True):
        slope = np.zeros(len(cov))
        r = phi[j, k] / np.sqrt(phi[j, j] * phi[k, k])
        slope[layout.factors[j, k]] += r / phi[j, k]
        for own in (j, k):
            if layout.factors[own, own] >= 0:
                slope[layout.factors[own, own]] -= 0.5 * r / phi[own, own]
        rows.append((factors[j], factors[k], r, np.sqrt(slope @ cov @ slope)))
    correlations = pd.DataFrame(rows, columns=["construct", "with", "r", "se"]).set_index(["construct", "with"])
    found = factor_coefficients(theta, layout, scale)
    reliability = pd.DataFrame(
        {name: found[name][0][: len(chosen)] for name in ("omega", "rho_C", "ave")},
        index=pd.Index(list(chosen), name="construct"),
    )
    return loadings, _with_interval(correlations, "r"), reliability


def _with_interval(table, name):
    z = table[name] / table["se"]
    reach = Z * table["se"]
    return table.assign(z=z, low=table[name] - reach, high=table[name] + reach)


def _fit_measures(found, layouts, moments, scale, n, q, df, means):
    p, groups = len(scale), len(moments)
    logdets = [np.linalg.slogdet(m.cov[0])[1] for m in moments]
    saturated = sum(m.share * 0.5 * (logdet + p) for m, logdet in zip(moments, logdets, strict=True))
    chi2 = max(2 * n * (found.value[0] - saturated), 0.0)
    spread = [np.diagonal(m.cov[0]) for m in moments]
    base = n * sum(m.share * (np.log(s).sum() - logdet) for m, s, logdet in zip(moments, spread, logdets, strict=True))
    base_df = groups * p * (p - 1) // 2
    excess, base_excess = max(chi2 - df, 0.0), max(base - base_df, chi2 - df, 0.0)
    low, high = _rmsea_interval(chi2, df, n, groups)
    residuals = []
    for layout, m, s in zip(layouts, moments, spread, strict=True):
        sigma, mu = (part[0] for part in likelihood.implied(found.theta, layout))
        root = np.sqrt(s)
        off = ((m.cov[0] - sigma) / np.outer(root, root))[np.tril_indices(p)]
        shift = (m.mean[0] - mu) / root
        # Means count in the average where the model has something to say on them.
        every = np.concatenate([off, shift]) if means else off
        residuals.append(m.share * np.sqrt((every**2).mean()))
    llf = -n * (found.value[0] + np.log(scale).sum() + 0.5 * p * np.log(2 * np.pi))
    return pd.Series(
        {
            "chi2": chi2,
            "df": df,
            "p": stats.chi2.sf(chi2, df) if df else np.nan,
            "cfi": 1.0 if base_excess == 0 else 1 - excess / base_excess,
            "tli": (base / base_df - chi2 / df) / (base / base_df - 1) if df else np.nan,
            "rmsea": np.sqrt(excess / (df * n) * groups) if df else np.nan,
            "rmsea_low": low,
            "rmsea_high": high,
            "srmr": sum(residuals),
            "llf": llf,
            "aic": -2 * llf + 2 * q,
            "bic": -2 * llf + np.log(n) * q,
            "parameters": q,
        },
        name="fit",
        dtype=float,
    )


def _rmsea_interval(chi2, df, n, groups):
    """The 90 % interval, from the noncentral distributions under which the statistic lies at either end."""
    if not df:
        return np.nan, np.nan
    bounds = []
    for share in (0.95, 0.05):
        if stats.chi2.cdf(chi2, df) <= share:
            bounds.append(0.0)
            continue
        top = chi2 + 20 * np.sqrt(chi2) + 100
        bounds.append(optimize.brentq(lambda nc, share=share: stats.ncx2.cdf(chi2, df, nc) - share, 1e-9, top))
    return tuple(np.sqrt(np.array(bounds) / (df * n) * groups))


def _step(narrow, wide):
    """A restricted model against the one it is nested in."""
    d_chi2, d_df = narrow.chi2 - wide.chi2, narrow.df - wide.df
    return {"d_chi2": d_chi2, "d_df": d_df, "d_p": stats.chi2.sf(d_chi2, d_df), "d_cfi": narrow.cfi - wide.cfi}


def _problems(found, layouts, names, factors, columns, grouped, n):
    problems = []
    if not found.converged[0]:
        problems.append(
            f"the fit did not converge in {found.steps} steps (the last one is {np.sqrt(n * found.decrement[0]):.1g} "
            "standard errors long): do not use it"
        )
    elif np.isnan(_covariance(found, 1)).any():
        problems.append("the model is not identified: some loadings can change without changing the fit")
    for layout, name in zip(layouts, names, strict=True):
        where = f" in {name}" if grouped else ""
        load, phi, unique, _, _ = (part[0] for part in likelihood.matrices(found.theta, layout))
        variance = np.einsum("pk,kl,pl->p", load, phi, load) + unique
        problems += [
            f"{item}{where} has a negative unique variance ({u / v:.3f} of its variance, a Heywood case)"
            for item, u, v in zip(columns, unique, variance, strict=True)
            if u < 0
        ]
        size = np.diag(phi)
        problems += [f"{f}{where} has a negative variance" for f, s in zip(factors, size, strict=True) if s <= 0]
        if (size > 0).all():
            r = phi / np.sqrt(np.outer(size, size))
            beyond = [(j, k) for j, k in zip(*np.triu_indices(len(r), 1), strict=True) if abs(r[j, k]) > 1]
            problems += [f"{factors[j]} and {factors[k]}{where} correlate {r[j, k]:.3f}, beyond 1" for j, k in beyond]
            least, vectors = np.linalg.eigh(r)
            if least[0] <= 0 and not beyond:
                involved = [factors[j] for j in np.flatnonzero(np.abs(vectors[:, 0]) > 0.3)]
                problems.append(
                    f"the correlations of the constructs{where} are impossible (not positive definite); chiefly "
                    f"{', '.join(involved)}"
                )
    return tuple(problems)
