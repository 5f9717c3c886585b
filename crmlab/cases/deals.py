"""Does a low price buy later business? The question put to a log of purchases."""

import ibis
import numpy as np
import pandas as pd
from ibis import _

from crmlab.data.days import day_of
from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, wilson
from crmlab.lifecycle.logs import checked


def discount_shares(log, discounts, split=None):
    r"""Return what each customer spent before and from a day on, and the share of discounts in the earlier prices.

    .. math:: \text{share} = \frac{\text{taken off}}{\text{paid} + \text{taken off}}

    Parameters
    ----------
    log : ibis.Table, frame, str or path
        A transaction log with `amount` (paid), or anything `crmlab.data.load` accepts.
    discounts : sequence of str
        Columns with what was taken off the price, in the currency of `amount`, not negative; empty cells are 0.
    split : str or date, optional
        First day of the later time; by default the middle of the log.

    Returns
    -------
    ibis.Table
        One row a customer who spent something before: `customer_id`, `before`, `after`, `share`.

    Raises
    ------
    DataError
        Missing columns, discounts that are no numbers or negative, a split outside the log.

    Examples
    --------
    >>> off = ["retail_disc", "coupon_disc", "coupon_match_disc"]
    >>> int(discount_shares("complete_journey", off).count().execute())
    2393
    """
    if not discounts:
        raise DataError("Name at least one column that says what was taken off the price.")
    log, first, last = checked(log, ["amount", *discounts])
    for name in discounts:
        if not log[name].type().is_numeric():
            raise DataError(f"Column {name} must be the amount that was taken off the price; it is no number.")
    least = log.aggregate(**{name: _[name].min() for name in discounts}).to_pandas().iloc[0]
    if (least < 0).any():
        raise DataError(f"Column {least.idxmin()} has discounts below 0, such as {least.min():g}: write them positive.")
    middle = first + (last - first) / 2
    day = middle if split is None else day_of("split", split)
    if not first < day <= last:
        raise DataError(f"split {day} must lie after the first day of the log, {first}, and not after {last}.")
    earlier = log.day < ibis.literal(day)
    off = sum(log[name].fill_null(0) for name in discounts)
    spent = log.group_by("customer_id").agg(
        before=_.amount.sum(where=earlier).fill_null(0),
        after=_.amount.sum(where=~earlier).fill_null(0),
        off=off.sum(where=earlier).fill_null(0),
    )
    return spent.filter(_.before > 0).select("customer_id", "before", "after", share=_.off / (_.before + _.off))


def later_spend_by_share(share, before, after, groups=5, n_boot=999, seed=0, level=0.95):
    r"""Return what customers spend later for what they spent before, by the share of discounts in the earlier time.

    In group :math:`g` it is :math:`\sum_{i \in g} \text{after}_i / \sum_{i \in g} \text{before}_i`. Were the loyal
    bought by discounts, the ratio would rise with the share; did discounts breed switchers, it would fall.

    Parameters
    ----------
    share : array-like
        Share of discounts in each customer's spending in the earlier time.
    before, after : array-like
        Amount that each customer spent in the earlier and in the later time, in the same currency.
    groups : int
        Groups of as many customers, from the least share to the largest. Equal shares are parted by their order.
    n_boot : int
        Bootstrap samples of the customers of a group; the intervals are percentiles.
    seed : int
        Seed of the bootstrap.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `group` (1 has the least share): `customers`, mean `share`, `ratio`, `low`, `high`.

    Raises
    ------
    DataError
        Fewer customers than ten a group, values that are missing, a customer who spent nothing before.

    Notes
    -----
    An association. Who buys on discount differs in more than that, and a ratio of two times has the season in it.

    Examples
    --------
    >>> found = later_spend_by_share(range(20), [10.0] * 20, [5.0] * 10 + [10.0] * 10, groups=2)
    >>> found[["ratio", "low", "high"]].to_numpy().tolist()
    [[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]
    """
    checked_level(level)
    columns = [np.asarray(values, dtype=float) for values in (share, before, after)]
    if len({len(values) for values in columns}) > 1:
        raise DataError(
            f"Share, before and after have {[len(values) for values in columns]} customers: they must agree."
        )
    table = pd.DataFrame(dict(zip(("share", "before", "after"), columns, strict=True)))
    if groups < 1 or len(table) < 10 * groups:
        raise DataError(f"{len(table):,} customers are too few for {groups} groups: it takes 10 a group.")
    if lost := int((~np.isfinite(table.to_numpy())).any(axis=1).sum()):
        raise DataError(f"{lost:,} of {len(table):,} customers have a value that is missing or infinite.")
    if none := int((table["before"] <= 0).sum()):
        raise DataError(f"{none:,} customers spent nothing before: a ratio to nothing has no meaning. Leave them out.")
    # By rank, so that groups are of one size even where many customers never bought on discount.
    table["group"] = np.floor((table["share"].rank(method="first") - 1) * groups / len(table)).astype(int) + 1
    rng, rows = np.random.default_rng(seed), {}
    for group, part in table.groupby("group"):
        spent = part[["before", "after"]].to_numpy()
        sums = np.array(
            [rng.multinomial(len(spent), np.full(len(spent), 1 / len(spent))) @ spent for _ in range(n_boot)]
        )
        low, high = np.quantile(sums[:, 1] / sums[:, 0], [(1 - level) / 2, (1 + level) / 2])
        ratio = spent[:, 1].sum() / spent[:, 0].sum()
        rows[group] = {"customers": len(part), "share": part["share"].mean(), "ratio": ratio, "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")


def band_rates(values, outcome, edges, level=0.95):
    """Return how many respond in each band of a value, with Wilson intervals.

    Parameters
    ----------
    values : pandas.Series
        What customers are banded by, such as money spent so far.
    outcome : pandas.Series
        1 for who responded, 0 for who did not, with the same index.
    edges : sequence of float
        Ends of the bands, ascending: above the one and up to the next.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Indexed by `band` ("above 0 to 100"): `customers`, `responses`, `rate`, `low`, `high`.

    Raises
    ------
    DataError
        Values outside the bands or missing, an outcome other than 0 and 1.

    Examples
    --------
    >>> band_rates(pd.Series([1, 2, 3, 4]), pd.Series([0, 0, 1, 0]), [0, 2, 4])["rate"].tolist()
    [0.0, 0.5]
    """
    bands = pd.cut(values, list(edges))
    if outside := int(bands.isna().sum()):
        raise DataError(f"{outside:,} of {len(bands):,} values lie in no band, or are missing.")
    if not outcome.isin([0, 1]).all():
        raise DataError("The outcome must be 1 for customers who responded and 0 for the others.")
    found = outcome.groupby(bands, observed=True).agg(["size", "sum"]).set_axis(["customers", "responses"], axis=1)
    found["rate"], found["low"], found["high"] = wilson(found["responses"], found["customers"], level)
    names = [f"above {band.left:g}" + ("" if np.isinf(band.right) else f" to {band.right:g}") for band in found.index]
    return found.set_axis(names).rename_axis("band")
