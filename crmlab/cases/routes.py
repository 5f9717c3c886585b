"""Price or service: the routes of the simulated book company side by side, and what a rival must offer."""

import dataclasses

import numpy as np
import pandas as pd
from scipy import special

from crmlab.cases.longzhiji import Assumptions, seasons
from crmlab.data.errors import DataError
from crmlab.data.intervals import checked_level, wilson

SIDES = ("price", "service", "nothing", "mixed")


def compensating_discount(sensitivity, attachment, own_discount=0.0, leave=0.5):
    r"""Return the discount that a rival must offer so that a customer leaves: switching cost as an entry barrier.

    A customer who is with the firm chooses by a logit with advantage
    :math:`\beta (d - u) + a`, where :math:`d` is the firm's discount, :math:`u` the rival's, :math:`\beta` the price
    sensitivity and :math:`a` what attaches the customer apart from the price (switching cost, and satisfaction beyond
    that with the rival). The customer leaves with probability :math:`q` when

    .. math:: u^* = d + \frac{a + \operatorname{logit} q}{\beta}.

    Parameters
    ----------
    sensitivity : float or array
        Price sensitivity :math:`\beta`, in units of advantage for 100 % of the price; above 0.
    attachment : float or array
        Units of advantage. What attaches to the rival is negative.
    own_discount : float or array
        The firm's own discount, share of the list price.
    leave : float or array
        Probability that the customer leaves, between 0 and 1.

    Returns
    -------
    float or numpy.ndarray
        Share of the list price. Above 1 no discount does it; below 0 the rival may charge more than the list price.

    Raises
    ------
    DataError
        A sensitivity of 0 or less, a probability that is not between 0 and 1.

    Notes
    -----
    A compensating variation of the multinomial logit: Small and Rosen (1981), Econometrica 49, 105-130.

    Examples
    --------
    >>> round(float(compensating_discount(sensitivity=10, attachment=2, own_discount=0.1)), 12)
    0.3
    """
    sensitivity, leave = np.asarray(sensitivity, dtype=float), np.asarray(leave, dtype=float)
    if not (sensitivity > 0).all():
        raise DataError("sensitivity must be above 0: customers who do not look at the price cannot be compensated.")
    if not ((leave > 0) & (leave < 1)).all():
        raise DataError("leave is the probability that the customer leaves: between 0 and 1, both excluded.")
    return own_discount + (np.asarray(attachment) + special.logit(leave)) / sensitivity


def entry_barrier(offers, served, assumptions=None, seed=0):
    r"""Check by simulation what a rival must offer: schools that are all alike, and a rival that always undercuts.

    After :math:`k` seasons of service a relational school's switching cost is
    :math:`s_k = h + b\,d\,\frac{1 - (1 - f)^k}{f}` (habit :math:`h`, service builds :math:`b` for an incentive
    :math:`d`, of which the share :math:`f` fades), and it leaves with the probability of the logit; see
    `compensating_discount`.

    Parameters
    ----------
    offers : sequence of float
        Discounts of the rival, shares of the list price.
    served : sequence of int
        Seasons of service without a break, before the season in which the school decides.
    assumptions : Assumptions, optional
        Everything else; whatever makes schools differ is set to 0, and all regions get the same service.
    seed : int
        Of the simulation.

    Returns
    -------
    pandas.DataFrame
        Indexed by `served` and `offer`: `expected` (probability of leaving, in closed form), `leaves` (share of the
        simulated schools), `low`, `high` (Wilson), `schools` (still customers at that time; none: shares are missing),
        and the `barrier`: the discount at which half of the schools leave.

    Raises
    ------
    DataError
        Seasons that are no whole numbers from 0 on.

    Examples
    --------
    >>> found = entry_barrier([0.3], [0, 2], Assumptions(schools=2000))
    >>> found["expected"].between(found["low"], found["high"]).tolist()
    [True, True]
    """
    if not len(served) or any(k != int(k) or k < 0 for k in served):
        raise DataError(f"served counts seasons: whole numbers from 0 on, not {list(served)}.")
    base = assumptions or Assumptions()
    alike = dataclasses.replace(
        base, route="service", years=int(max(served)) // 2 + 1, transactional=0.0, start_share=1.0, imitation=0.0,
        undercut_chance=1.0, sensitivity_spread=0.0, satisfaction_spread=0.0, satisfaction_noise=0.0, courtesy=0.0,
        incentive_xinjiang=base.incentive,
    )  # fmt: skip
    pleased = min(1.0, alike.satisfaction + alike.satisfaction_gain * alike.incentive) - alike.rival_satisfaction
    lasting = np.array([sum((1 - alike.service_fades) ** np.arange(k)) for k in served])
    attachment = alike.habit + alike.service_builds * alike.incentive * lasting + alike.satisfaction_weight * pleased
    beta, tables = alike.sensitivity_relational, []
    for offer in offers:
        seen = seasons(dataclasses.replace(alike, undercut=float(offer)), seed=seed)
        buys = seen["buys"].to_numpy().reshape(2 * alike.years, alike.schools)
        # Customers without a break: all at first, then those who have bought ever since.
        faithful = np.vstack([np.ones(alike.schools, bool), np.logical_and.accumulate(buys)])[list(served)]
        left = (faithful & ~buys[list(served)]).sum(axis=1)
        share, low, high = wilson(left, faithful.sum(axis=1))
        columns = {"served": served, "offer": offer, "expected": special.expit(beta * offer - attachment)}
        columns |= {"leaves": share, "low": low, "high": high, "schools": faithful.sum(axis=1)}
        tables.append(pd.DataFrame(columns | {"barrier": compensating_discount(beta, attachment)}))
    return pd.concat(tables).set_index(["served", "offer"]).sort_index()


def compare_routes(assumptions=None, seeds=range(10), routes=("price", "service", "nothing"), by=None):
    """Simulate the book company on several routes with the same random numbers, and measure each.

    Parameters
    ----------
    assumptions : Assumptions, optional
        What is assumed; its `route` is replaced. The defaults when left out.
    seeds : iterable of int
        One simulated firm a seed, the same on every route.
    routes : sequence of {"price", "service", "nothing", "mixed"}
        All regions give the incentive as a discount, all spend it on service, none gives anything, or each region
        follows its own route (the price war in Xinjiang included).
    by : str, optional
        A column of `seasons`, such as ``"season"`` or ``"region"``: a row for each of its values.

    Returns
    -------
    pandas.DataFrame
        Indexed by `seed`, `route` (and `by`): `stays` (share of the schools supplied in one season that buy in the
        next), `satisfaction` (of these schools, 0 to 1), `share` (of the schools' need, at list prices, that the firm
        supplies), `revenue` (at list prices), `profit` (yuan), `margin` (profit in yuan for 100 yuan of need).

    Raises
    ------
    DataError
        No seeds, an unknown route.

    Examples
    --------
    >>> found = compare_routes(Assumptions(schools=50, incentive=0, incentive_xinjiang=0), [0])
    >>> found.loc[(0, "price")].equals(found.loc[(0, "service")])
    True
    """
    if unknown := [route for route in routes if route not in SIDES]:
        raise DataError(f"There is no route {unknown[0]!r}; there are {', '.join(SIDES)}.")
    measured = {
        (seed, route): _measured(seasons(on_route(assumptions, route), seed=seed), by)
        for seed in seeds
        for route in routes
    }
    if not measured:
        raise DataError("Name at least one seed and one route.")
    return (
        pd.concat(measured, names=["seed", "route"]) if by else pd.DataFrame(measured).T.rename_axis(["seed", "route"])
    )


def on_route(assumptions, route):
    """Return the assumptions with all regions on one route.

    Parameters
    ----------
    assumptions : Assumptions or None
        What is assumed; the defaults when None.
    route : {"price", "service", "nothing", "mixed"}
        As in `compare_routes`.

    Returns
    -------
    Assumptions
        The same but for the route and, for "nothing", the incentives.

    Examples
    --------
    >>> on_route(None, "nothing").incentive
    0.0
    """
    nothing = {"route": "service", "incentive": 0.0, "incentive_xinjiang": 0.0}
    return dataclasses.replace(assumptions or Assumptions(), **(nothing if route == "nothing" else {"route": route}))


def _measured(table, by):
    before = table["before"].to_numpy()
    columns = {
        "customers": before,
        "stayed": before & table["buys"].to_numpy(),
        "contentment": np.where(before, table["satisfaction"], 0.0),
        **{name: table[name].to_numpy() for name in ("need", "revenue", "profit")},
    }
    sums = pd.DataFrame(columns).groupby(table[by].to_numpy()).sum().rename_axis(by) if by else _sums(columns)
    # A season or region without customers has nobody who could stay.
    customers = sums["customers"].astype(float).where(sums["customers"] > 0) if by else sums["customers"] or np.nan
    found = {
        "stays": sums["stayed"] / customers,
        "satisfaction": sums["contentment"] / customers,
        "share": sums["revenue"] / sums["need"],
        "revenue": sums["revenue"],
        "profit": sums["profit"],
        "margin": 100 * sums["profit"] / sums["need"],
    }
    return pd.DataFrame(found) if by else pd.Series(found)


def _sums(columns):
    return {name: values.sum() for name, values in columns.items()}


def mean_interval(values, level=0.95):
    r"""Return the mean of each column with its interval by Student's :math:`t`; rows are independent runs.

    Parameters
    ----------
    values : pandas.DataFrame or pandas.Series
        One row a run.
    level : float
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row a column: `mean`, `low`, `high`, `runs`. One run has no interval.

    Raises
    ------
    DataError
        No runs, a level that is no probability.

    Examples
    --------
    >>> mean_interval(pd.Series([1.0, 2.0, 3.0], name="profit")).round(2).loc["profit"].tolist()
    [2.0, -0.48, 4.48, 3.0]
    """
    checked_level(level)
    values = pd.DataFrame(values)
    runs = len(values)
    if not runs:
        raise DataError("There are no runs to take a mean of.")
    half = special.stdtrit(runs - 1, (1 + level) / 2) * values.std() / np.sqrt(runs) if runs > 1 else np.nan
    mean = values.mean()
    return pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half, "runs": runs}, index=values.columns)


def break_even(incentives, undercuts, assumptions=None, seeds=range(4), level=0.95):
    """Return by how much service beats price at equal money, for each incentive and each undercutting of the rival.

    Parameters
    ----------
    incentives : sequence of float
        What a school is given, in all regions, as a discount or as service of that cost; shares of the list price.
    undercuts : sequence of float
        How far the rival goes below the list price when it undercuts; shares of the list price.
    assumptions : Assumptions, optional
        Everything else.
    seeds : iterable of int
        Simulated firms, the same for every cell and route; at least two for an interval.
    level : float
        Level of the intervals over the seeds, for one cell.

    Returns
    -------
    pandas.DataFrame
        Indexed by `incentive` and `undercut`: margin of service less that of price (`difference`, `low`, `high`, yuan
        of profit for 100 yuan of need), margins `price`, `service`, `nothing`, and which of the three is `best`.

    Raises
    ------
    DataError
        As `compare_routes`, and as the assumptions where a share is impossible.

    Examples
    --------
    >>> found = break_even([0.0], [0.1], Assumptions(schools=50), seeds=[0, 1])
    >>> found["difference"].item()
    0.0
    """
    base, seeds, rows = assumptions or Assumptions(), list(seeds), {}
    for undercut in undercuts:
        base = dataclasses.replace(base, undercut=undercut)
        idle = compare_routes(base, seeds, ["nothing"])["margin"].mean()
        for incentive in incentives:
            given = dataclasses.replace(base, incentive=incentive, incentive_xinjiang=incentive)
            margin = compare_routes(given, seeds, ["price", "service"])["margin"].unstack("route")
            gap = mean_interval(margin["service"] - margin["price"], level).iloc[0]
            means = {**margin.mean().to_dict(), "nothing": idle}
            rows[incentive, undercut] = {
                **gap.rename({"mean": "difference"}).drop("runs"),
                **means,
                # A tie goes to what is least trouble.
                "best": max(("nothing", "price", "service"), key=means.get),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["incentive", "undercut"]).sort_index()


def explore(points, assumptions=None, first_seed=0):
    """Simulate the book company at each point of a region of assumptions, on every route.

    Parameters
    ----------
    points : pandas.DataFrame
        One row a point, one column an assumption; see `drawn`. Where an assumption is a whole number the point is
        rounded.
    assumptions : Assumptions, optional
        What is assumed of all that is not drawn.
    first_seed : int
        Seed of the first point; each point has one of its own, the same for its routes.

    Returns
    -------
    pandas.DataFrame
        One row a point, with its index: `stays_gap`, `satisfaction_gap`, `margin_gap` (service less price), margins
        `price`, `service`, `nothing`; and with each region on its own route: `war_share` and `other_share` of the
        need, `war_margin`, `war_stays` (Xinjiang), `loyal_losses` (share of loyal schools that lose money; missing
        where there are none).

    Raises
    ------
    DataError
        A column that is no assumption, a point that is impossible.

    Notes
    -----
    Loyal is who buys in four seasons of five or more; to lose money is to bring less than goods, discount, service,
    visits, cases and courtesy cost, without the office.

    Examples
    --------
    >>> found = explore(pd.DataFrame({"incentive": [0.0]}), Assumptions(schools=50, incentive_xinjiang=0))
    >>> found["margin_gap"].item()
    0.0
    """
    base = assumptions or Assumptions()
    fields = {field.name: type(field.default) for field in dataclasses.fields(Assumptions)}
    if unknown := [name for name in points if fields.get(name) not in (int, float)]:
        raise DataError(f"{unknown[0]!r} is no assumption with a range; assumption_table() lists them.")
    whole = [name for name in points if fields[name] is int]
    rows = []
    for seed, point in enumerate(points.to_dict("records"), start=first_seed):
        here = dataclasses.replace(base, **point | {name: round(point[name]) for name in whole})
        found = compare_routes(here, [seed]).loc[seed]
        gap = found.loc["service"] - found.loc["price"]
        rows.append(
            {f"{name}_gap": gap[name] for name in ("stays", "satisfaction", "margin")}
            | found["margin"].to_dict()
            | _at_war(seasons(on_route(here, "mixed"), seed=seed))
        )
    return pd.DataFrame(rows, index=points.index)


def _at_war(table):
    war = table["region"] == "Xinjiang"
    there, others = _measured(table[war], None), _measured(table[~war], None)
    losses = loyal_losses(table)
    return {
        "war_share": there["share"],
        "other_share": others["share"],
        "war_margin": there["margin"],
        "war_stays": there["stays"],
        "loyal_losses": losses.loc[losses["loyal"], "loses"].mean(),
    }


def loyal_losses(table, least=0.8):
    """Return for each school whether it is loyal and whether it loses money.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `seasons`: one row a school and season.
    least : float
        Share of the seasons in which a loyal school buys at least.

    Returns
    -------
    pandas.DataFrame
        Indexed by `customer_id`: `region`, `route`, `kind`, `bought` (share of the seasons), `revenue` (list prices),
        `contribution` (yuan: profit before the office), `loyal`, `loses` (a contribution below 0).

    Examples
    --------
    >>> found = loyal_losses(seasons(Assumptions(schools=50)))
    >>> list(found)
    ['region', 'route', 'kind', 'bought', 'revenue', 'contribution', 'loyal', 'loses']
    """
    per = table.assign(contribution=table["profit"] + table["fixed"]).groupby("customer_id")
    names = {name: (name, "first") for name in ("region", "route", "kind")}
    found = per.agg(**names, bought=("buys", "mean"), revenue=("revenue", "sum"), contribution=("contribution", "sum"))
    return found.assign(loyal=found["bought"] >= least - 1e-9, loses=found["contribution"] < 0)
