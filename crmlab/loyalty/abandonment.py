"""Where respondents give up a questionnaire: survival by question number."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import Z, wilson
from crmlab.loyalty.samples import parts, table_of


class BreakOff(NamedTuple):
    """Respondents lost on the way through a questionnaire.

    Attributes
    ----------
    curve : pandas.DataFrame
        By group and question (in the order asked): `position`, `reached` (respondents to whom it was put), `left` (who
        gave up there), `hazard` (share of those who reached it) with its Wilson interval `hazard_low`, `hazard_high`,
        and `survival` (share that goes on past it, Kaplan-Meier) with its 95 % interval `low`, `high`.
    summary : pandas.DataFrame
        By group: `respondents`, `complete`, `ended` (sent away by the survey), `left`, `worst` question by hazard.
    difference : pandas.Series
        `statistic`, `df`, `p_value` of the log-rank test that all groups give up alike; missing with one group.
    """

    curve: pd.DataFrame
    summary: pd.DataFrame
    difference: pd.Series


def break_off(data, questions, by=None, asked=None, ended=None):
    r"""Estimate at which question respondents give up, from the last one that they answered.

    A respondent whose last answer is on question :math:`q` left at the next question that was due. Who answered all
    that were due is complete, who was sent away by the survey is censored: that is what the Kaplan-Meier estimate
    :math:`\hat S(q) = \prod_{k \le q} (1 - d_k / n_k)` is for.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a respondent; a question without answer is blank.
    questions : sequence of str
        Columns of the questions in the order in which they were asked.
    by : str, optional
        Column that makes groups.
    asked : dict, optional
        Question to a column of true and false, for questions that a filter skips: a skipped question at the end is no
        break-off.
    ended : str, optional
        Column that is true (or 1) for respondents whom the survey sent away, for example because a quota was full.

    Returns
    -------
    BreakOff
        Its `curve`, `summary`, `difference`.

    Raises
    ------
    DataError
        Columns that are lacking or doubled, an answer to a question that was not asked.

    Notes
    -----
    A question skipped in the middle is item non-response, not a break-off. Respondents who never opened the
    questionnaire are not in the data. The intervals are log-log intervals with Greenwood's variance (statsmodels'
    `SurvfuncRight`); they are missing where nobody has left yet.

    Examples
    --------
    >>> toy = pd.DataFrame({"q1": [5, 4, 3, 2], "q2": [5, 4, None, 1], "q3": [5, 4, None, None]})
    >>> break_off(toy, ["q1", "q2", "q3"]).curve["survival"].round(6).tolist()
    [1.0, 0.75, 0.5]
    """
    questions = list(questions)
    if len(set(questions)) < len(questions) or len(questions) < 2:
        raise DataError("Name at least two questions, each once, in the order in which they were asked.")
    frame = table_of(data, questions)
    text = frame.select_dtypes(include=["object", "string"])
    frame = frame.assign(**{c: text[c].where(text[c].astype("string").str.strip() != "") for c in text})
    answered = frame.notna().to_numpy()
    due = np.ones(answered.shape, dtype=bool)
    for question, column in (asked or {}).items():
        if question not in questions:
            raise DataError(f"asked names {question!r}, which is not among the questions.")
        due[:, questions.index(question)] = _flags(data, column)
    if (wrong := answered & ~due).any():
        row, k = np.argwhere(wrong)[0]
        raise DataError(
            f"Row {row + 1:,} answers {questions[k]!r}, which it was not asked ({wrong.sum():,} such answers)."
        )
    sent_away = np.zeros(len(frame), dtype=bool) if ended is None else _flags(data, ended)
    K, places = len(questions), np.arange(1, len(questions) + 1)
    last = (answered * places).max(axis=1)
    # The next question due after the last answer; none is left for the complete.
    following = np.where(due & (places > last[:, None]), places, K + 1).min(axis=1)
    left = (following <= K) & ~sent_away
    # Whoever was sent away was seen to the question before.
    seen = np.where((following <= K) & sent_away, following - 1, following)
    groups = parts(data, by)
    curves = {g: _curve(seen[rows], left[rows], questions) for g, rows in groups.items()}
    summary = pd.DataFrame(
        {
            g: {
                "respondents": len(rows),
                "complete": int((following[rows] > K).sum()),
                "ended": int((sent_away[rows] & (following[rows] <= K)).sum()),
                "left": int(left[rows].sum()),
                "worst": curves[g]["hazard"].idxmax() if left[rows].any() else None,
            }
            for g, rows in groups.items()
        }
    ).T.rename_axis("group")
    return BreakOff(pd.concat(curves, names=["group"]), summary, _logrank(seen, left, groups))


def simulate_break_off(respondents=500, questions=20, hard=(8,), seed=20150101):
    """Return SIMULATED answers to a questionnaire that some give up: everywhere a few, at the hard questions many.

    Parameters
    ----------
    respondents : int
        How many begin.
    questions : int
        How many questions there are.
    hard : sequence of int
        Numbers of the questions at which one in six gives up instead of one in a hundred.
    seed : int
        Makes the answers reproducible.

    Returns
    -------
    pandas.DataFrame
        Columns `simulated_q01`, `simulated_q02`, … with answers from 1 to 10, blank after the break-off. Nobody gave
        them: they show the method, not respondents.

    Examples
    --------
    >>> simulate_break_off(3, 2).columns.tolist()
    ['simulated_q01', 'simulated_q02']
    """
    rng = np.random.default_rng(seed)
    hazard = np.where(np.isin(np.arange(1, questions + 1), hard), 1 / 6, 0.01)
    gone = np.logical_or.accumulate(rng.random((respondents, questions)) < hazard, axis=1)
    answers = rng.integers(1, 11, size=(respondents, questions))
    names = [f"simulated_q{k:02d}" for k in range(1, questions + 1)]
    return pd.DataFrame(np.where(gone, np.nan, answers), columns=names)


def _flags(data, column):
    values = table_of(data, [column])[column]
    if values.isna().any() or not values.isin([0, 1]).all():
        raise DataError(f"The column {column!r} must be true or false (or 1 and 0) in every row.")
    return values.astype(bool).to_numpy()


def _curve(place, left, questions):
    from statsmodels.duration.survfunc import SurvfuncRight

    K = len(questions)
    places = np.arange(1, K + 1)
    found = SurvfuncRight(place.astype(float), left.astype(int))
    survival = np.append(1.0, found.surv_prob)[np.searchsorted(found.surv_times, places, side="right")]
    se = np.append(0.0, found.surv_prob_se)[np.searchsorted(found.surv_times, places, side="right")]
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = Z * se / (survival * np.log(survival))
        low, high = survival ** np.exp(-wide), survival ** np.exp(wide)
    reached = (place[:, None] >= places).sum(axis=0)
    gave_up = np.bincount(place[left], minlength=K + 1)[1 : K + 1]
    hazard, hazard_low, hazard_high = wilson(gave_up, reached)
    inside = (survival > 0) & (survival < 1)
    return pd.DataFrame(
        {
            "position": places,
            "reached": reached,
            "left": gave_up,
            "hazard": hazard,
            "hazard_low": hazard_low,
            "hazard_high": hazard_high,
            "survival": survival,
            "low": np.where(inside, low, np.nan),
            "high": np.where(inside, high, np.nan),
        },
        index=pd.Index(questions, name="question"),
    )


def _logrank(place, left, groups):
    from statsmodels.duration.survfunc import survdiff

    if len(groups) < 2 or not left.any():
        return pd.Series({"statistic": np.nan, "df": 0, "p_value": np.nan})
    rows = np.concatenate(list(groups.values()))
    group = np.repeat(np.arange(len(groups)), [len(r) for r in groups.values()])
    statistic, p_value = survdiff(place[rows].astype(float), left[rows].astype(int), group)
    return pd.Series({"statistic": statistic, "df": len(groups) - 1, "p_value": p_value})
