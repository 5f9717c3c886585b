"""Numbers for a report: the index from 0 to 100, the share in the top boxes, the net promoter score."""

import numpy as np
import pandas as pd
from scipy import stats

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, wilson
from crmlab.loyalty import questionnaire
from crmlab.loyalty.moments import measured

ALL = "all"


def scores(data, spec, constructs=None, weights=None):
    """Return the score of every respondent on every construct, from 0 (lowest answers) to 100 (highest).

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked; see `crmlab.loyalty.spec`.
    constructs : list of str or dict, optional
        Constructs, or construct to items; all constructs by default.
    weights : mapping, optional
        Item to its weight, none negative; equal weights by default.

    Returns
    -------
    pandas.DataFrame
        One column a construct; blank for those who did not answer all its items.

    Raises
    ------
    DataError
        When the answers do not fit the description, or a weight is missing, negative or of no item.

    Examples
    --------
    >>> frame = pd.DataFrame({"Q1": [1, 10, 7], "Q2": [1, 10, None]})
    >>> asked = questionnaire.SurveySpec({"SATISFACTION": ["Q1", "Q2"]}, scale=(1, 10))
    >>> scores(frame, asked)["SATISFACTION"].tolist()
    [0.0, 100.0, nan]
    """
    asked = questionnaire.spec(spec)
    chosen = measured(asked, constructs)
    items = [item for group in chosen.values() for item in group]
    weight = _weights(items, weights)
    x = asked.prepare(data, items)
    found = {}
    for name, group in chosen.items():
        low, high = np.array([asked.scale_of(item) for item in group]).T
        w = weight[list(group)].to_numpy()
        if not w.sum():
            raise DataError(f"All weights of {name} are zero.")
        found[name] = 100 * ((x[list(group)].to_numpy() - low) @ w) / ((high - low) @ w)
    # Rounding must not carry a score beyond its ends.
    return pd.DataFrame(found, index=data.index).clip(0, 100)


def index_score(data, spec, construct, group=None, weights=None, level=0.95):
    """Return the index of a construct from 0 to 100, as the American Customer Satisfaction Index defines it.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked; see `crmlab.loyalty.spec`.
    construct : str
        The construct.
    group : str, optional
        A column: one index a group; see `invariance` before comparing them.
    weights : mapping, optional
        Item to its weight, of unstandardized answers; equal weights by default.
    level : float
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        By group and for all: `n`, `left_out` (incomplete answers), `score`, `se`, `low`, `high` (Student's t, kept
        within 0 to 100).

    Raises
    ------
    DataError
        As `scores`.

    Examples
    --------
    >>> from crmlab import data
    >>> table = index_score(data.load("mobi").to_pandas(), "mobi", "SATISFACTION")
    >>> table[["n", "score"]].round(1).to_numpy().tolist()
    [[250.0, 72.0]]
    """
    asked = questionnaire.spec(spec)
    values = scores(data, asked, [construct], weights)[construct]

    def summary(part):
        n = part.notna().sum()
        mean, se = part.mean(), part.std() / np.sqrt(n) if n > 1 else np.nan
        reach = stats.t.ppf((1 + checked_level(level)) / 2, n - 1) * se if n > 1 else np.nan
        return {"n": n, "left_out": len(part) - n, "score": mean, "se": se} | _ends(mean - reach, mean + reach, 0, 100)

    return _by_group(values, data, asked, group, summary)


def top_box(data, spec, item, boxes=2, group=None, level=0.95):
    """Return the share of answers in the top boxes of an item.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked.
    item : str
        The item.
    boxes : int
        How many of the highest answers count.
    group : str, optional
        A column: one share a group.
    level : float
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        By group and for all: `n`, `left_out`, `share`, `low`, `high` (Wilson).

    Raises
    ------
    DataError
        When the answers do not fit the description or the boxes do not fit the scale.
    """
    asked = questionnaire.spec(spec)
    values = asked.prepare(data, [item])[item]
    least, most = asked.scale_of(item)
    if not (isinstance(boxes, int) and 1 <= boxes <= most - least):
        raise DataError(
            f"boxes must be between 1 and {most - least:g} on the scale {least:g} to {most:g}, not {boxes!r}."
        )

    def summary(part):
        n = part.notna().sum()
        hits = (part > most - boxes).sum()
        share, low, high = wilson(hits, n, checked_level(level))
        return {"n": n, "left_out": len(part) - n, "share": share[()], "low": low[()], "high": high[()]}

    return _by_group(values, data, asked, group, summary)


def nps(data, spec, item, group=None, level=0.95):
    """Return the net promoter score: the percentage of promoters (9, 10) less that of detractors (up to 6).

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent.
    spec : SurveySpec or str
        What was asked.
    item : str
        The question on recommending, asked from 0 (or 1) to 10.
    group : str, optional
        A column: one score a group.
    level : float
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        By group and for all: `n`, `left_out`, `promoters`, `passives`, `detractors` (shares), `nps` (-100 to 100),
        `low`, `high` (Bonett and Price 2012, which does not collapse when all answer alike).

    Raises
    ------
    DataError
        When the answers do not fit the description, or the scale does not end at 10: on other scales the cuts at 6 and
        9 mean something else.

    Examples
    --------
    >>> from crmlab import data
    >>> float(nps(data.load("mobi").to_pandas(), "mobi", "CUSL3")["nps"].iloc[0])
    14.0
    """
    asked = questionnaire.spec(spec)
    values = asked.prepare(data, [item])[item]
    if asked.scale_of(item) not in ((0.0, 10.0), (1.0, 10.0)):
        low, high = asked.scale_of(item)
        raise DataError(
            f"The net promoter score needs a scale from 0 or 1 to 10; {item} runs from {low:g} to {high:g}."
        )

    def summary(part):
        n = part.notna().sum()
        if not n:
            return {"n": 0, "left_out": len(part)}
        up, down = (part >= 9).sum(), (part <= 6).sum()
        # One more answer on either side, as for the difference of two paired shares.
        p, d = (up + 1) / (n + 2), (down + 1) / (n + 2)
        reach = stats.norm.ppf((1 + checked_level(level)) / 2) * np.sqrt((p + d - (p - d) ** 2) / (n + 2))
        return {
            "n": n,
            "left_out": len(part) - n,
            "promoters": up / n,
            "passives": 1 - (up + down) / n,
            "detractors": down / n,
            "nps": 100 * (up - down) / n,
        } | _ends(100 * (p - d - reach), 100 * (p - d + reach), -100, 100)

    return _by_group(values, data, asked, group, summary)


def _by_group(values, data, asked, group, summary):
    rows = {}
    if group is not None:
        labels = questionnaire.groups_of(data, asked, group)
        for label in sorted(labels.dropna().unique(), key=str):
            rows[label] = summary(values[(labels == label).to_numpy(dtype=bool, na_value=False)])
    rows[ALL] = summary(values)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(group or "group")


def _ends(low, high, least, most):
    return {"low": np.clip(low, least, most), "high": np.clip(high, least, most)}


def _weights(items, weights):
    if weights is None:
        return pd.Series(1.0, index=items)
    weights = pd.Series(dict(weights), dtype=float)
    if absent := [item for item in items if item not in weights.index or not np.isfinite(weights[item])]:
        raise DataError(f"There is no weight for {', '.join(absent)}.")
    if surplus := [str(item) for item in weights.index if item not in items]:
        raise DataError(f"A weight is given for {', '.join(surplus)}, which is no item here.")
    if negative := [f"{item} ({w:.3g})" for item, w in weights.items() if w < 0]:
        raise DataError(f"A negative weight would carry the index out of 0 to 100: {', '.join(negative)}.")
    return weights
