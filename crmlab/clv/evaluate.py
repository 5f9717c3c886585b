"""How good were the predictions? Scores on a later period, beside baselines that need no model."""

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError


def compare(results, holdout):
    """Score models on the purchases of a hold-out period.

    Parameters
    ----------
    results : sequence of crmlab.clv.Result
        Fitted purchase models.
    holdout : ibis.Table or pandas.DataFrame
        A summary with `frequency_holdout` and `T_holdout`.

    Returns
    -------
    pandas.DataFrame
        One row a model, then two baselines ("own rate": x/T of each customer goes on; "nobody differs": everybody buys
        at the mean rate). `llf`, `aic`, `bic` of the fit; `predicted` and `actual` purchases of the base, `bias` (their
        difference, share of the actual); `mae` and `rmse` per customer; `top_decile` (share of the actual purchases
        that fell to the tenth of the customers predicted highest).

    Raises
    ------
    DataError
        A summary without hold-out.

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> table = compare([clv.BGNBD().fit(summary), clv.MBGNBD().fit(summary)], summary)
    >>> print(table.loc["MBG/NBD", "mae"].round(4))
    0.7648
    """
    frame = _with_holdout(holdout)
    actual = frame["frequency_holdout"].to_numpy()
    rows = {}
    for result in results:
        expected = _expected(result, frame).to_numpy()
        rows[result.model.title] = {
            "llf": result.llf,
            "aic": result.aic,
            "bic": result.bic,
            **_scores(expected, actual),
        }
    rows["own rate"] = _scores(_own_rate(frame).to_numpy(), actual)
    same = frame["T_holdout"] * frame["frequency"].sum() / frame["T"].sum()
    rows["nobody differs"] = _scores(same.to_numpy(), actual)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def by_frequency(result, holdout, last=7):
    """Set expected beside actual purchases of the hold-out, by frequency in the calibration.

    Parameters
    ----------
    result : crmlab.clv.Result
        A fitted purchase model.
    holdout : ibis.Table or pandas.DataFrame
        A summary with `frequency_holdout` and `T_holdout`.
    last : int
        Frequencies from here on are one group.

    Returns
    -------
    pandas.DataFrame
        Indexed by frequency ("0", "1", …, "7+"): `customers`, `actual` (mean purchases), `lower` and `upper` (95 %
        normal interval of that mean), `expected` (mean of the model), `own_rate` (mean if everybody kept the own pace).

    Examples
    --------
    >>> from crmlab import clv
    >>> summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30").to_pandas()
    >>> by_frequency(clv.BGNBD().fit(summary), summary)["expected"].round(3).tolist()
    [0.225, 0.523, 1.044, 1.52, 2.164, 2.654, 3.504, 6.157]
    """
    frame = _with_holdout(holdout)
    group = frame["frequency"].clip(upper=last)
    actual = frame.groupby(group)["frequency_holdout"].agg(customers="size", actual="mean", sd="std")
    half = 1.96 * actual["sd"] / np.sqrt(actual["customers"])
    table = actual[["customers", "actual"]].assign(lower=actual["actual"] - half, upper=actual["actual"] + half)
    table["expected"] = _expected(result, frame).reset_index(drop=True).groupby(group).mean()
    table["own_rate"] = _own_rate(frame).groupby(group).mean()
    table.index = [f"{x}+" if x == last else str(x) for x in table.index]
    return table.rename_axis("frequency")


def _expected(result, frame):
    """Purchases that the model expects in the hold-out; undiscounted, because they are set beside real ones."""
    horizon = float(frame["T_holdout"].iloc[0])
    return result.predict(frame, horizon=horizon, annual_discount=0.0)["expected_purchases"]


def _own_rate(frame):
    """Purchases in the hold-out if everybody kept the own pace; none for who came on the last day of calibration."""
    return (frame["frequency"] / frame["T"].where(frame["T"] > 0) * frame["T_holdout"]).fillna(0.0)


def _scores(expected, actual):
    order = np.argsort(-expected, kind="stable")
    top = order[: max(1, round(len(order) / 10))]
    total = actual.sum()
    return {
        "predicted": expected.sum(),
        "actual": total,
        "bias": expected.sum() / total - 1 if total else np.nan,
        "mae": np.abs(expected - actual).mean(),
        "rmse": np.sqrt(np.mean((expected - actual) ** 2)),
        "top_decile": actual[top].sum() / total if total and expected.max() > expected.min() else np.nan,
    }


def _with_holdout(summary):
    frame = summary if isinstance(summary, pd.DataFrame) else summary.to_pandas()
    if "frequency_holdout" not in frame or len(frame) == 0:
        raise DataError(
            "There is no hold-out in this summary: give summarize() a calibration_end before the log's end."
        )
    return frame.reset_index(drop=True)
