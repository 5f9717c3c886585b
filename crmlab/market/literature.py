"""Every published number on cross-selling, timing and campaigns, computed anew."""

from ibis import _

from crmlab import data
from crmlab.data.targets import chosen
from crmlab.market import experimentnumbers
from crmlab.market.associations import rules
from crmlab.market.cycles import loop
from crmlab.market.dates import month_rule
from crmlab.market.timing import next_purchase


def reproduce(subjects=None):
    """Return the numbers of ``data/published/market.toml``, computed from the data that they were published for.

    Parameters
    ----------
    subjects : list of str, optional
        The data sets to compute: ``"hillstrom"``, ``"voter_persuasion"``, ``"groceries"``,
        ``"online_retail_two_years"``; and ``"loop"``, which is simulated. All of them by default.

    Returns
    -------
    dict
        Numbers by the names of `crmlab.data.published`, ready for `crmlab.data.compare_published`. Sets that have to
        be fetched are left out where they are not on this machine.

    Raises
    ------
    DataError
        When a subject is none of the above.

    Examples
    --------
    >>> reproduce([])
    {}
    """
    names = chosen(SUBJECTS, subjects, always=["loop"])
    return {target: float(number) for name in names for target, number in SUBJECTS[name]().items()}


def _groceries():
    found = rules("groceries", support=0.001, confidence=0.5, max_len=10).table
    often = rules("groceries", support=0.006, confidence=0.25, max_len=10).table
    return {
        "groceries.rules.support001_confidence50": len(found),
        "groceries.rules.support001_confidence80": (found["count"] * 5 >= found["of"] * 4).sum(),
        "groceries.rules.support006_confidence25": len(often),
    }


def _online_retail():
    sold = (_.quantity > 0) & (_.unit_price > 0)
    log = data.open_dataset("online_retail_two_years").filter(_.customer_id.notnull() & sold)
    name = "online_retail_two_years"
    month = month_rule(log, permutations=200)
    buying = next_purchase(log, "2011-05-31", window=30, minimum=4)
    return {
        f"{name}.month_rule.both_years": month.facts["both_years"],
        f"{name}.month_rule.one_month": month.facts["one_month"],
        **{
            f"{name}.month_rule_share.{k}": month.offsets.loc[0, v]
            for k, v in (("hit", "share"), ("season", "expected"))
        },
        **{f"{name}.month_rule_ratio.{k}": month.offsets.loc[i, "ratio"] for k, i in (("same", 0), ("next", 1))},
        f"{name}.next_purchase.customers": buying.facts["customers"],
        f"{name}.next_purchase.base_rate": round(buying.facts["base_rate"], 3),
        **{
            f"{name}.next_purchase_auc.{k}": buying.scores.loc[v, "auc"]
            for k, v in (("recency", "recency"), ("frequency", "frequency"), ("bgnbd", "BG/NBD"))
        },
    }


def _loop():
    over = loop(seeds=50).policies[["over_none", "over_low", "over_high"]].set_axis(["mean", "low", "high"], axis=1)
    return {
        f"loop.{policy}.{which}": over.loc[policy, which]
        for policy in ("random", "response", "uplift", "truth")
        for which in over.columns
    }


SUBJECTS = {
    "hillstrom": experimentnumbers.hillstrom,
    "voter_persuasion": experimentnumbers.voter_persuasion,
    "groceries": _groceries,
    "online_retail_two_years": _online_retail,
    "loop": _loop,
}
