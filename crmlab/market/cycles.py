"""The feedback loop on simulated customers: what choosing whom to contact is worth when the truth is known."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import t as student

from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, newcombe
from crmlab.market.uplifts import fit_outcome

POLICIES = {
    "none": "contacts nobody",
    "random": "contacts a share of the customers at random, with an offer at random",
    "response": "contacts the customers most likely to buy when contacted",
    "uplift": "contacts those whom an offer is predicted to change by more than the contact costs",
    "uplift exploring": "the same, and a small share of all others at random, to go on learning",
    "truth": "contacts those whom an offer changes by more than it costs, as only the simulator knows",
}
"""Policies of the loop; the last one is the limit that no policy reaches."""
WORLD = {
    "base": -1.6,
    "habit": (0.9, 0.6, 0.0, 0.0),
    "offers": (0.0, 0.0),
    "tastes": ((-0.6, -0.2, 0.4, 0.0), (-0.6, -0.2, 0.0, 0.4)),
}
"""Log odds of a purchase without contact (`base` and slopes of four features, `habit`), and what each of two offers
adds (`offers` and slopes, `tastes`): who buys anyway is changed least, or for the worse. Assumptions, not data."""


class Loop(NamedTuple):
    """The feedback loop, run by several policies on the same simulated customers.

    Attributes
    ----------
    policies : pandas.DataFrame
        By policy: `profit` per customer and cycle, net of contacts, with its interval `low`, `high` over the seeds; the
        difference to contacting nobody, `over_none`, with its interval `over_low`, `over_high` (the same customers, so
        much smaller); `relative`, that difference as a share of the profit without contacts.
    cycles : pandas.DataFrame
        By policy and cycle: customers `contacted`, `profit`, `over_none`, `over_low`, `over_high`.
    steps : pandas.DataFrame
        The six one-to-one steps of the first seed's firm, by policy and cycle: customers `selected`, number of
        `offers` made, customers `contacted`, of whom `bought`, the `measured` profit of a contact (against the
        customers held out of it) with its 95 % interval `low`, `high`, what it was in `truth`, and the customers
        selected `next`.
    scorecard : pandas.DataFrame
        IDIC by policy: `value`, interval over the seeds `low`, `high`, and what it `means`: identify (share of
        purchases with a known customer), differentiate (correlation of predicted and true effect), interact (profit of
        a contact in truth), customize (share of contacts with the offer that suits the customer better).
    reality : str
        That all of this is simulated.
    """

    policies: pd.DataFrame
    cycles: pd.DataFrame
    steps: pd.DataFrame
    scorecard: pd.DataFrame
    reality: str


def loop(
    seeds=50,
    cycles=6,
    customers=2_000,
    *,
    margin=40.0,
    cost=1.0,
    contact_share=0.3,
    control_share=0.1,
    explore=0.05,
    identified=0.9,
    drift=0.1,
    seed=0,
    level=0.95,
):
    """Run the loop of knowledge discovery, market planning, customer interaction, and analysis and refinement.

    Simulated customers with four features buy or not in each cycle. In the first one, policies that learn try every
    offer, and none, on half of the customers at random; from then on each cycle they fit what they have seen (knowledge
    discovery), select customers and offers (market planning), contact them except for a control group (customer
    interaction), and record who bought (analysis), which the next fit uses (refinement). All policies meet the same
    customers, who would do the same; tastes drift. SIMULATED: it shows which way of choosing wins under the stated
    assumptions, and how large differences are, not that it does in your shop.

    Parameters
    ----------
    seeds : int
        Firms to simulate; intervals are over them.
    cycles : int
        Campaigns, one after the other.
    customers : int
        Customers of each firm.
    margin : float
        Profit of a purchase before contacts.
    cost : float
        Cost of a contact.
    contact_share : float
        Share of the customers whom the random and the response policy select.
    control_share : float
        Share of the selected who are held out, so that the campaign can be judged.
    explore : float
        Share of the customers whom the exploring policy contacts, or not, at random.
    identified : float
        Share of the customers whose purchases are known to be theirs; nobody else can be contacted.
    drift : float
        Standard deviation of the change of each taste (log odds) from cycle to cycle.
    seed : int
        Of the first firm; the others follow.
    level : float
        Level of the intervals over the seeds.

    Returns
    -------
    Loop
        `policies`, `cycles`, `steps`, `scorecard` and `reality`.

    Raises
    ------
    DataError
        Fewer than two seeds, one cycle or two hundred customers, shares outside 0 to 1.

    Notes
    -----
    Loop: "knowledge discovery, market planning, customer interaction, analysis and refinement". IDIC (identify,
    differentiate, interact, customize): Peppers, Rogers and Dorf (1999), Harvard Business Review 77(1), 151-160. A
    response model contacts those who buy anyway, which is why it may lose money where buyers need no push: here by
    construction (`WORLD`).

    Examples
    --------
    >>> found = loop(seeds=2, cycles=2, customers=500)
    >>> found.policies.loc["none", "over_none"].item()
    0.0
    """
    shares = {
        "contact_share": contact_share,
        "control_share": control_share,
        "explore": explore,
        "identified": identified,
    }
    if wrong := [name for name, share in shares.items() if not 0 < share < 1]:
        raise DataError(f"{wrong[0]} is a share between 0 and 1, not {shares[wrong[0]]!r}.")
    if seeds < 2 or cycles < 1 or customers < 200:
        raise DataError(
            "The loop needs at least 2 seeds, 1 cycle and 200 customers, or there is nothing to learn from."
        )
    if not (margin > 0 and cost >= 0 and drift >= 0):
        raise DataError(f"margin must be positive, cost and drift not negative; they are {margin}, {cost} and {drift}.")
    checked_level(level)
    from threadpoolctl import threadpool_limits

    plan = _Plan(margin, cost, contact_share, control_share, explore)
    rows = []
    # Threads that wait for each other make small fits ten times slower on a machine that does other work too.
    with threadpool_limits(1):
        for firm in range(seed, seed + seeds):
            world = _world(np.random.default_rng([firm, 0]), customers, cycles, identified, drift)
            for number, policy in enumerate(POLICIES):
                rng = np.random.default_rng([firm, 1, number])
                rows += [(firm, policy, *row) for row in _run(policy, world, plan, rng)]
    runs = pd.DataFrame(rows, columns=["firm", "policy", "cycle", *_MEASURES])
    base = runs[runs["policy"] == "none"].set_index(["firm", "cycle"])["profit"]
    runs["over_none"] = runs["profit"] - base.loc[pd.MultiIndex.from_frame(runs[["firm", "cycle"]])].to_numpy()
    return Loop(
        _policies(runs, level),
        _cycles(runs, level),
        _steps(runs[runs["firm"] == seed]),
        _scorecard(runs, level),
        f"simulated by crmlab.market.loop(seeds={seeds}, cycles={cycles}, customers={customers}, seed={seed})",
    )


class _Plan(NamedTuple):
    """What a policy knows beforehand."""

    margin: float
    cost: float
    contact_share: float
    control_share: float
    explore: float


class _World(NamedTuple):
    """Features, whom one can contact, and of each cycle the probability to buy by offer and the luck of the day."""

    x: np.ndarray
    known: np.ndarray
    chance: list
    luck: np.ndarray


_MEASURES = ["selected", "offers", "contacted", "bought", "measured", "low", "high", "truth", "profit", "identify",
             "differentiate", "customize"]  # fmt: skip


def _world(rng, n, cycles, identified, drift):
    x, known = rng.normal(size=(n, 4)), rng.random(n) < identified
    base = WORLD["base"] + x @ WORLD["habit"]
    slopes = np.column_stack([WORLD["offers"], WORLD["tastes"]])
    chance = []
    for _cycle in range(cycles):
        pushes = slopes[:, :1] + slopes[:, 1:] @ x.T
        chance.append(expit(np.vstack([base, base + pushes])))
        slopes = slopes + rng.normal(scale=drift, size=slopes.shape)
    return _World(x, known, chance, rng.random((cycles, n)))


def _run(policy, world, plan, rng):
    """One policy through all cycles; returns the measures of each."""
    n = len(world.x)
    seen = [np.empty((0, 4)), np.empty(0, dtype=int), np.empty(0)]
    for cycle, chance in enumerate(world.chance):
        worth, select, arm, held = _select(policy, world, plan, rng, seen, chance if policy == "truth" else None, cycle)
        bought = world.luck[cycle] < chance[arm, np.arange(n)]
        push = chance[1:] - chance[0]
        reached = arm > 0
        got = push[arm[reached] - 1, reached]
        yield (
            cycle + 1,
            int(select.sum()),
            len(np.unique(arm[reached])),
            int(reached.sum()),
            int(bought[reached].sum()),
            *_measured(bought, reached & select, held, plan),
            got.mean() * plan.margin - plan.cost if reached.any() else np.nan,
            (bought.sum() * plan.margin - reached.sum() * plan.cost) / n,
            bought[world.known].sum() / max(bought.sum(), 1),
            np.nan if worth is None else np.corrcoef(worth.ravel(), push[:, world.known].ravel())[0, 1],
            np.mean(got >= push[:, reached].max(axis=0)) if reached.any() else np.nan,
        )
        mine = world.known
        seen = [
            np.concatenate([old, new[mine]])
            for old, new in zip(seen, (world.x, arm, bought.astype(float)), strict=True)
        ]


def _select(policy, world, plan, rng, seen, chance, cycle):
    """Predicted effects, whom the policy selects, what each customer gets, and who of the selected is held out."""
    n, offers = len(world.x), len(WORLD["offers"])
    arm, nobody = np.zeros(n, dtype=int), np.zeros(n, dtype=bool)
    known = np.flatnonzero(world.known)
    if policy == "none":
        return None, nobody, arm, nobody
    any_offer = rng.integers(1, offers + 1, n)
    if policy == "random":
        best, wanted, worth = any_offer[known], rng.random(len(known)) < plan.contact_share, None
    elif policy == "truth":
        worth = (chance[1:] - chance[0])[:, known]
        best, wanted = worth.argmax(axis=0) + 1, worth.max(axis=0) * plan.margin > plan.cost
    elif cycle == 0:
        # The pilot: half of the customers, every offer and none of them alike.
        arm[known] = np.where(rng.random(len(known)) < 0.5, rng.integers(0, offers + 1, len(known)), 0)
        return None, arm > 0, arm, nobody
    else:
        x, was, bought = seen
        predicted = np.vstack([_predicted(x[was == k], bought[was == k], world.x[known]) for k in range(offers + 1)])
        worth = predicted[1:] - predicted[0]
        score = predicted[1:] if policy == "response" else worth
        best, top = score.argmax(axis=0) + 1, score.max(axis=0)
        wanted = top * plan.margin > plan.cost
        if policy == "response":
            wanted = top >= np.quantile(top, 1 - plan.contact_share)
    select = nobody.copy()
    select[known[wanted]] = True
    held = select & (rng.random(n) < plan.control_share)
    arm[known] = np.where(wanted, best, 0)
    arm[held] = 0
    if policy == "uplift exploring":
        tried = known[rng.random(len(known)) < plan.explore]
        tried = tried[~select[tried]]
        arm[tried] = any_offer[tried]
    return worth, select, arm, held


def _predicted(x, bought, new):
    """Probability of a purchase; after customers who all did the same, that."""
    if len(bought) and bought.min() < bought.max():
        return fit_outcome(x, bought)(new)
    return np.full(len(new), bought.mean() if len(bought) else 0.0)


def _measured(bought, reached, held, plan):
    """Profit of a contact as the firm can measure it, with its 95 % interval."""
    one, other = bought[reached], bought[held]
    if not min(len(one), len(other)):
        return np.nan, np.nan, np.nan
    found = newcombe(one.sum(), len(one), other.sum(), len(other))
    return tuple(plan.margin * end - plan.cost for end in found)


def _policies(runs, level):
    firms = runs.groupby(["policy", "firm"], sort=False)[["profit", "over_none"]].mean()
    table = _over_firms(firms, "policy", level)
    return table.assign(relative=table["over_none"] / table.loc["none", "profit"])


def _cycles(runs, level):
    table = _over_firms(
        runs.set_index(["policy", "cycle", "firm"])[["profit", "over_none"]], ["policy", "cycle"], level
    )
    size = runs.groupby(["policy", "cycle"], sort=False)["contacted"].mean()
    table.insert(0, "contacted", size)
    return table.drop(columns=["low", "high"])


def _over_firms(firms, by, level):
    grouped = firms.groupby(by, sort=False)
    mean = grouped.mean()
    half = student.ppf((1 + level) / 2, grouped.size().to_numpy() - 1)[:, None] * grouped.sem()
    low, high = mean - half, mean + half
    return pd.DataFrame(
        {
            "profit": mean["profit"],
            "low": low["profit"],
            "high": high["profit"],
            "over_none": mean["over_none"],
            "over_low": low["over_none"],
            "over_high": high["over_none"],
        }
    )


def _steps(runs):
    steps = runs.set_index(["policy", "cycle"])
    steps = steps[["selected", "offers", "contacted", "bought", "measured", "low", "high", "truth"]]
    return steps.assign(next=steps.groupby("policy", sort=False)["selected"].shift(-1).astype("Int64"))


_MEANS = {
    "identify": "share of purchases whose customer is known",
    "differentiate": "correlation of the predicted with the true effect of an offer",
    "interact": "profit of a contact, in truth",
    "customize": "share of contacts with the offer that suits the customer better",
}


def _scorecard(runs, level):
    measured = runs.rename(columns={"truth": "interact"}).groupby(["policy", "firm"], sort=False)[list(_MEANS)].mean()
    long = measured.rename_axis(columns="part").stack().rename("value")
    grouped = long.groupby(["policy", "part"], sort=False)
    mean, half = grouped.mean(), student.ppf((1 + level) / 2, grouped.count() - 1) * grouped.sem()
    table = pd.DataFrame({"value": mean, "low": mean - half, "high": mean + half}).dropna(subset="value")
    return table.assign(means=table.index.get_level_values("part").map(_MEANS))
