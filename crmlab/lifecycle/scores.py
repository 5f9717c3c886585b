"""Recency, frequency and monetary value of each customer, and scores by quantile, all in the engine."""

import ibis
import ibis.expr.operations as ops
from ibis import _

from crmlab.data.errors import DataError
from crmlab.lifecycle.logs import checked


def rfm(log, n=5, observation_end=None):
    r"""Score customers by recency, frequency and monetary value, from 1 to `n` (best).

    The score of a value is :math:`1 + \lfloor n B / N \rfloor`, where :math:`B` of the :math:`N` customers have a worse
    value. So equal values always get equal scores, and without ties the scores have equal sizes (up to one customer);
    with many ties a score may be given to nobody: if 60 % of the customers bought once, all of them have frequency
    score 1 and those who bought twice have at least 4 of 5.

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log, or anything `crmlab.data.load` accepts.
    n : int
        Number of scores, 5 for quintiles.
    observation_end : str or date, optional
        The day from which recency counts back; by default the last day of the log. Later purchases are left out.

    Returns
    -------
    ibis.Table
        One row a customer: `customer_id`, `recency` (days since the last purchase), `frequency` (purchase days),
        `monetary` (sum of `amount`, to six decimals), their scores `r`, `f`, `m` and `rfm`, the scores one after the
        other (455 is r = 4, f = 5, m = 5; 10-4-3 with n above 9). A log without amounts has no `monetary` and `m`.

    Raises
    ------
    DataError
        A number of scores below 2, missing columns, rows without customer, date or amount, no rows.

    Notes
    -----
    Hughes (1994), Strategic Database Marketing, sorts and cuts into equal fifths, which gives equal customers different
    scores; the rule here does not.

    Examples
    --------
    >>> rfm("cdnow").filter(ibis._.customer_id == "00004").drop("customer_id").to_pandas().to_numpy().tolist()
    [[200, 4, 100.5, 4, 4, 4, '444']]
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise DataError(f"n is the number of scores, a whole number from 2 on, not {n!r}.")
    log, _first, last = checked(log, (), observation_end, ["amount"])
    amount = {"amount": _.amount.sum()} if "amount" in log.columns else {}
    # Sums of the same amounts in another order may differ in the last digit, which must not break ties.
    monetary = {"monetary": _.amount.sum().cast("float64").round(6)} if amount else {}
    # Counting the days of a customer once they are rows is faster than counting distinct days.
    days = log.group_by("customer_id", "day").aggregate(**amount)
    found = days.group_by("customer_id").aggregate(last=_.day.max(), frequency=_.count(), **monetary)
    # Kept in the engine: the cuts are asked of it and the scores are read from it.
    found = found.mutate(recency=ibis.literal(last).delta(found["last"], unit="day")).drop("last").cache()
    better = {"r": -_.recency, "f": _.frequency} | ({"m": _.monetary} if monetary else {})
    scores = _scores(found, better, n)
    text, between = None, "-" if n > 9 else ""
    for score in scores.values():
        text = score.cast("string") if text is None else text + between + score.cast("string")
    return found.select("customer_id", "recency", "frequency", *monetary, **scores, rfm=text)


def _scores(found, better, n):
    """Scores as expressions: one more for each cut that a value lies above.

    Score i + 1 or more is for values with at least i N / n worse ones, that is, above the value which is at the place
    ceil(i N / n) from below. A quantile a little further on, between this value and the next, is such a cut without
    any question of rounding.
    """
    customers = found.count().to_pyarrow().as_py()
    places = [-(-i * customers // n) for i in range(1, n)]
    at = [(place - 0.75) / (customers - 1) for place in places if place < customers]
    if not at:
        return dict.fromkeys(better, ibis.literal(1, "int64"))
    cuts = _quantiles(found, better, at)
    return {
        name: sum(((value > cut).ifelse(1, 0) for cut in cuts[name]), ibis.literal(1, "int64"))
        for name, value in ((name, value.resolve(found)) for name, value in better.items())
    }


def _quantiles(found, better, at):
    """Quantiles of each measure, in one pass where the engine can give several at a time."""
    if found.get_backend().has_operation(ops.MultiQuantile):
        return _row(found, {name: value.quantile(at) for name, value in better.items()})
    each = {f"{name}{i}": value.quantile(q) for name, value in better.items() for i, q in enumerate(at)}
    row = _row(found, each)
    return {name: [row[f"{name}{i}"] for i in range(len(at))] for name in better}


def _row(table, facts):
    return table.aggregate(**facts).to_pyarrow().to_pylist()[0]
