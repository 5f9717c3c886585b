"""Price tolerance: who would stay when the price rises, with bounds for those who did not say."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.intervals import wilson
from crmlab.loyalty.samples import numbers, table_of

OUTSIDE = "not asked"


class Tolerance(NamedTuple):
    """Customers lost at price rises.

    Attributes
    ----------
    lost : pandas.DataFrame
        By band of satisfaction (and for all), base (``"asked"``: those whom the filter let through; ``"all"``: with the
        others, who want a lower price and are lost at any rise) and `rise` in per cent: `customers`, `answers_only`
        (share that tolerates no more than the rise, of those who gave a number), `unclear_stay` (the same where those
        with the unclear code stay), the bounds `best` (everyone who did not say stays) and `worst` (everyone goes),
        and `low`, `high`, the outer ends of the bounds' 95 % Wilson intervals.
    association : pandas.DataFrame
        Spearman's correlation of satisfaction with tolerance and its 95 % bootstrap interval `low`, `high`, for those
        who gave a number, with the unclear code on top, and with those not asked at the bottom; `customers`.
    counts : pandas.Series
        Customers by what is known of them.
    """

    lost: pd.DataFrame
    association: pd.DataFrame
    counts: pd.Series


def price_tolerance(
    data, satisfaction, tolerance, asked=None, asked_from=None, more=None, no_answer=(), unclear=(),
    rises=(5, 10, 15, 20, 25), bands=None, n_boot=2000, seed=20150101,
):  # fmt: skip
    """Estimate how many customers a price rise loses, by satisfaction.

    Parameters
    ----------
    data : pandas.DataFrame
        One row a customer.
    satisfaction : str
        Column with satisfaction.
    tolerance : str
        Column with the largest rise in per cent that the customer says to tolerate.
    asked : str, optional
        Column with the answer that decided who was asked (for example the likelihood of buying again).
    asked_from : float, optional
        Lowest answer on `asked` that led to the question.
    more : float, optional
        Code that stands for "more than the largest percentage offered".
    no_answer : sequence of float
        Codes of the tolerance question for "does not know" and "refused"; a blank of someone who was asked is the same.
    unclear : sequence of float
        Codes that are not documented and may mean "would never leave".
    rises : sequence of float
        Rises in per cent.
    bands : sequence of float, optional
        Lowest satisfaction of each band; every score by default.
    n_boot : int
        Bootstrap replicates for the correlations.
    seed : int
        Makes them reproducible.

    Returns
    -------
    Tolerance
        Its `lost`, `association`, `counts`.

    Raises
    ------
    DataError
        Columns that are lacking, answers of customers who were not asked, percentages that no code explains, a rise
        that the answers do not reach.

    Notes
    -----
    A question that only the likely to return are asked restricts the range: among them satisfaction is high and alike,
    and its correlation with tolerance smaller than among all. Whoever was not asked is no missing answer. The bounds
    assume nothing about who does not answer (Manski 1989, Journal of Human Resources 24, 343-360).

    Examples
    --------
    >>> toy = pd.DataFrame({"satisfied": [9, 9, 9, 9], "rise": [2, 10, 26, 98]})
    >>> found = price_tolerance(toy, "satisfied", "rise", more=26, no_answer=[98], rises=[5], n_boot=0)
    >>> found.lost.loc[("all", "asked", 5), ["best", "worst"]].tolist()
    [0.25, 0.5]
    """
    if (asked is None) != (asked_from is None):
        raise DataError("asked and asked_from belong together: the column that filtered, and the lowest answer asked.")
    score = numbers(data, [satisfaction])[satisfaction].to_numpy()
    said = _said(table_of(data, [tolerance])[tolerance], more, no_answer, unclear)
    if beyond := [r for r in rises if not 0 <= r < (np.inf if more is None else more)]:
        raise DataError(f"A rise of {beyond[0]:g} % is beyond what {tolerance!r} tells (0 to less than {more:g} %).")
    filtered = np.full(len(score), asked_from, float) if asked is None else numbers(data, [asked])[asked].to_numpy()
    through = np.ones(len(score), bool) if asked is None else filtered >= asked_from
    out = ~through & ~np.isnan(filtered)
    if (wrong := ~through & (said["number"] | said["unclear"])).any():
        raise DataError(
            f"{wrong.sum():,} customers answered {tolerance!r}, which is asked only from {asked} ≥ {asked_from:g}, the "
            f"first in row {int(wrong.argmax()) + 1:,}: is the filter the right one?"
        )
    silent = through & ~said["number"] & ~said["unclear"]
    known = {
        "gave a number": through & said["number"],
        "unclear code": through & said["unclear"],
        "asked, no answer": silent,
        OUTSIDE: out,
        "filter question without answer": ~through & ~out,
    }
    counts = pd.Series({name: int(rows.sum()) for name, rows in known.items()}, name="customers")
    counts["no answer on satisfaction"] = int(np.isnan(score).sum())
    lost = {}
    for band, rows in {"all": np.isfinite(score), **_bands(score, bands)}.items():
        of = {name: w & rows for name, w in known.items()}
        for base in ("asked", "all") if asked else ("asked",):
            lost[band, base] = _lost(of, said["value"], rises, base)
    lost = pd.concat(lost, names=["satisfaction", "base"])
    return Tolerance(lost, _association(score, said["value"], known, asked is not None, n_boot, seed), counts)


def _said(column, more, no_answer, unclear):
    values = column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
    number = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if (word := np.isnan(number) & column.notna().to_numpy()).any():
        row = int(word.argmax())
        raise DataError(
            f"The item {column.name!r} holds {column.iloc[row]!r} in row {row + 1:,}: it must hold percentages."
        )
    code = np.isin(number, list(unclear))
    number_given = ~np.isnan(number) & ~code & ~np.isin(number, list(no_answer))
    odd = number_given & ((number < 0) | (number > (100 if more is None else more)))
    if odd.any():
        ends = "0 to 100 %" if more is None else f"0 to {more:g}"
        raise DataError(
            f"The item {column.name!r} holds {number[odd][0]:g} in {(number == number[odd][0]).sum():,} rows, which is "
            f"no percentage ({ends}): name it in no_answer (no answer) or unclear (an answer that may mean any rise)."
        )
    if not number_given.any():
        raise DataError(f"The item {column.name!r} has no answer at all.")
    return {"number": number_given, "unclear": code, "value": np.where(number_given, number, np.nan)}


def _bands(score, bands):
    starts = np.unique(score[np.isfinite(score)]) if bands is None else np.sort(np.asarray(bands, float))
    if len(starts) > 20:
        raise DataError(f"Satisfaction has {len(starts)} different values: name the lowest of each band, bands=[…].")
    ends = np.append(starts[1:], np.inf)
    found = {}
    for low, high in zip(starts, ends, strict=True):
        name = f"{low:g}" if bands is None else f"{low:g} and more" if high == np.inf else f"{low:g} to under {high:g}"
        found[name] = (score >= low) & (score < high)
        if not found[name].any():
            raise DataError(f"Nobody's satisfaction is in the band {name}.")
    return found


def _lost(of, value, rises, base):
    """Shares lost: of those asked, or of all whose answer to the filter is known or not."""
    gave, unclear, silent = (of[name] for name in ("gave a number", "unclear code", "asked, no answer"))
    out, unknown = (int(of[name].sum()) * (base == "all") for name in (OUTSIDE, "filter question without answer"))
    numbers_given = int(gave.sum())
    total = numbers_given + int(unclear.sum()) + int(silent.sum()) + out + unknown
    rows = {}
    for rise in rises:
        go = int((value[gave] <= rise).sum()) + out
        best, low, _ = wilson(go, total)
        worst, _, high = wilson(go + unclear.sum() + silent.sum() + unknown, total)
        rows[rise] = {
            "customers": total,
            "answers_only": float(wilson(go, numbers_given + out)[0]),
            "unclear_stay": float(wilson(go, numbers_given + out + unclear.sum())[0]),
            "best": float(best),
            "worst": float(worst),
            "low": float(low),
            "high": float(high),
        }
    return pd.DataFrame(rows).T.astype({"customers": int}).rename_axis("rise")


def _association(score, value, known, filtered, n_boot, seed):
    top = np.where(known["unclear code"], np.inf, value)
    variants = {"gave a number": value, "unclear code on top": top}
    if filtered:
        variants["those not asked at the bottom"] = np.where(known[OUTSIDE], -1.0, top)
    rows, rng = {}, np.random.default_rng(seed)
    for name, values in variants.items():
        used = np.isfinite(score) & ~np.isnan(values)
        rows[name] = _spearman(score[used], values[used], n_boot, rng) | {"customers": int(used.sum())}
    return pd.DataFrame(rows).T.astype({"customers": int}).rename_axis("tolerance")


def _spearman(x, y, n_boot, rng):
    """Rank correlation of two answers with few values, with resampled tables of both."""
    if len(x) < 10:
        return {"spearman": np.nan, "low": np.nan, "high": np.nan}
    x, y = (np.unique(v, return_inverse=True)[1] for v in (x, y))
    counts = np.zeros((x.max() + 1, y.max() + 1))
    np.add.at(counts, (x, y), 1)
    drawn = rng.multinomial(len(x), counts.ravel() / len(x), size=n_boot).reshape(-1, *counts.shape)
    found = [_of_table(block) for block in (counts[None], *np.array_split(drawn, max(n_boot // 200, 1)))]
    estimate, boot = float(found[0][0]), np.concatenate(found[1:])
    boot = boot[np.isfinite(boot)]
    low, high = np.quantile(boot, [0.025, 0.975]) if len(boot) else (np.nan, np.nan)
    return {"spearman": estimate, "low": low, "high": high}


def _of_table(n):
    """Spearman's correlation of tables of counts, (tables, rows, columns)."""
    total = n.sum(axis=(1, 2))[:, None]
    ranks = [(m.cumsum(axis=1) - m / 2) - total / 2 for m in (n.sum(axis=2), n.sum(axis=1))]
    together = np.einsum("ri,rij,rj->r", ranks[0], n, ranks[1])
    own = [np.einsum("ri,ri->r", r * r, m) for r, m in zip(ranks, (n.sum(axis=2), n.sum(axis=1)), strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return together / np.sqrt(own[0] * own[1])
