"""The book company 龙之脊 as a simulation: schools that choose a supplier every season, under stated assumptions.

The case describes a firm and no data. What is simulated here follows from the assumptions, whatever it looks like.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError

LABEL = "simulated by crmlab.cases.simulate_longzhiji"
FIRST_YEAR = 2010
LEVELS = ("primary", "junior", "senior", "university")
KINDS = ("transactional", "relational")
ROUTES = ("price", "service")
# The base, the ten offices that the case names, eleven that it does not name, and the market of the price war.
REGIONS = {
    "Beijing": "北京",
    "Guangdong": "广东",
    "Jiangsu": "江苏",
    "Fujian": "福建",
    "Shandong": "山东",
    "Hubei": "湖北",
    "Henan": "河南",
    "Liaoning": "辽宁",
    "Gansu": "甘肃",
    "Hunan": "湖南",
    "Yunnan": "云南",
    "Hebei": "河北",
    "Shanxi": "山西",
    "Shaanxi": "陕西",
    "Sichuan": "四川",
    "Anhui": "安徽",
    "Zhejiang": "浙江",
    "Jiangxi": "江西",
    "Jilin": "吉林",
    "Heilongjiang": "黑龙江",
    "Guangxi": "广西",
    "Guizhou": "贵州",
    "Xinjiang": "新疆",
}
STREAMS = (
    *("level", "size", "kind", "sensitivity", "demanding", "start", "quality", "need", "mood", "offer", "choice"),
    *("visit", "prospect", "case", "courtesy", "orders", "lines", "contacts", "tickets", "people", "survey"),
)
"""Each part of the simulation draws from a stream of its own; a new part goes to the end."""
COSTS = ("discount", "goods", "service", "visits", "cases", "courtesy", "fixed")
"""What is taken off the revenue; what is left is the profit."""


def _field(default, unit, meaning, low, high):
    return dataclasses.field(default=default, metadata={"unit": unit, "meaning": meaning, "low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What the simulation of 龙之脊 assumes; `assumption_table` prints it with units.

    Nothing here was measured: the case gives offices, school levels, a price war and its outcome in words, no number.
    Advantages are those of a logit: one unit more multiplies the odds of choosing the firm by e.

    Raises
    ------
    DataError
        A value that is no number or lies outside its range, shares of levels that do not add up to 1, no such route.

    Examples
    --------
    >>> Assumptions(incentive=0.10).incentive
    0.1
    >>> Assumptions(incentive=10)
    Traceback (most recent call last):
    crmlab.data.errors.DataError: incentive must lie between 0 and 0.5 (share of the list price), not 10: what a...
    """

    schools: int = _field(600, "schools", "schools that need books, customers or not", 1, 1_000_000)
    years: int = _field(6, "years", "length of the period, two seasons a year", 1, 50)
    level_shares: tuple[float, ...] = _field(
        (0.40, 0.30, 0.20, 0.10), "share of the schools", "primary, junior, senior, university; add up to 1", 0, 1
    )
    pupils: tuple[float, ...] = _field((600, 800, 1200, 4000), "pupils", "median size of a school by level", 1, 1e6)
    pupil_spend: tuple[float, ...] = _field(
        (80.0, 120.0, 180.0, 100.0), "yuan a year", "books a pupil needs by level, at list prices", 0, 1e5
    )
    size_spread: float = _field(0.6, "sd of the logarithm", "how much schools of one level differ in size", 0, 3)
    autumn: float = _field(0.6, "share of the year", "need that falls into autumn; the rest into spring", 0, 1)
    need_spread: float = _field(0.10, "sd of the logarithm", "how much a school's need varies by season", 0, 3)
    xinjiang_schools: float = _field(0.15, "share of the schools", "schools in Xinjiang; others are even", 0, 1)
    start_share: float = _field(0.50, "share of the schools", "customers of the firm before the first season", 0, 1)
    transactional: float = _field(0.35, "share of the schools", "schools that follow the price", 0, 1)
    sensitivity_transactional: float = _field(
        25.0, "advantage per 100% of the price", "median price sensitivity of transactional schools", 0, 1000
    )
    sensitivity_relational: float = _field(
        6.0, "advantage per 100% of the price", "median price sensitivity of relational schools", 0, 1000
    )
    sensitivity_spread: float = _field(0.25, "sd of the logarithm", "how much schools of one kind differ", 0, 3)
    habit: float = _field(2.0, "advantage", "switching cost of relational schools, towards their supplier", 0, 50)
    service_builds: float = _field(
        8.0, "advantage per 100% of the revenue", "switching cost that a season's service adds (relational)", 0, 1000
    )
    service_fades: float = _field(0.30, "share a season", "switching cost built by service that is lost", 0, 1)
    satisfaction: float = _field(0.72, "0 to 1", "mean satisfaction without incentive", 0, 1)
    satisfaction_spread: float = _field(0.10, "sd, 0 to 1", "how much schools differ for good", 0, 1)
    satisfaction_noise: float = _field(0.05, "sd, 0 to 1", "how much a school varies by season", 0, 1)
    satisfaction_gain: float = _field(
        0.50, "satisfaction per 100% of the price", "what an incentive adds, the same on both routes", 0, 10
    )
    satisfaction_weight: float = _field(3.0, "advantage", "satisfaction of 1 against 0, in the choice", 0, 100)
    rival_satisfaction: float = _field(0.72, "0 to 1", "satisfaction with the rival", 0, 1)
    route: str = _field("mixed", "word", "route of all regions, price or service; mixed: half each", None, None)
    incentive: float = _field(
        0.08, "share of the list price", "what a school is given: discount, or service of equal cost", 0, 0.5
    )
    incentive_xinjiang: float = _field(0.22, "share of the list price", "the same in Xinjiang", 0, 0.5)
    imitation: float = _field(0.50, "share of the discount", "what the rival copies, a season later", 0, 1)
    undercut: float = _field(0.12, "share of the list price", "how far the rival goes below, when it undercuts", 0, 1)
    undercut_chance: float = _field(0.50, "chance", "that the rival undercuts, by school and season", 0, 1)
    goods: float = _field(0.72, "share of the list price", "what the books cost the firm", 0, 1)
    visits: float = _field(3.0, "visits a season", "to a customer that is not demanding", 0, 1000)
    prospect_visits: float = _field(0.5, "visits a season", "to a school that buys elsewhere, without effect", 0, 1000)
    visit_cost: float = _field(400.0, "yuan", "cost of a visit", 0, 1e6)
    remote_xinjiang: float = _field(2.5, "times", "cost of a visit in Xinjiang against elsewhere", 0, 100)
    demanding: float = _field(0.15, "share of the schools", "schools that cost more to serve", 0, 1)
    demanding_times: float = _field(4.0, "times", "visits and service cases of a demanding school", 0, 100)
    case_rate: float = _field(0.8, "cases a season", "service cases of a customer that is not demanding", 0, 1000)
    case_cost: float = _field(200.0, "yuan", "cost of a service case", 0, 1e6)
    courtesy: float = _field(0.0, "advantage", "what a New Year's gift and card add, for a season", 0, 50)
    courtesy_share: float = _field(0.8, "share of the customers", "who get gift and card, drawn by lot", 0, 1)
    courtesy_cost: float = _field(60.0, "yuan", "cost of gift and card", 0, 1e6)
    office_cost: float = _field(60_000.0, "yuan a season", "fixed cost of an office, shared evenly", 0, 1e9)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        if abs(sum(self.level_shares) - 1) > 1e-9:
            raise DataError(f"level_shares must add up to 1, not to {sum(self.level_shares):g}.")
        if self.route not in ("mixed", *ROUTES):
            raise DataError(f"route must be mixed, price or service, not {self.route!r}.")


def _check(field, value):
    """Refuse a value outside its range, in words."""
    low, high, unit, meaning = (field.metadata[key] for key in ("low", "high", "unit", "meaning"))
    if low is None:
        return
    many, whole = isinstance(field.default, tuple), isinstance(field.default, int)
    if many and (not isinstance(value, tuple) or len(value) != len(LEVELS)):
        raise DataError(
            f"{field.name} must be {len(LEVELS)} numbers in brackets, one a level ({', '.join(LEVELS)}), not {value!r}."
        )
    for number in value if many else (value,):
        right = isinstance(number, (int, np.integer) if whole else (int, float, np.integer, np.floating))
        if not right or isinstance(number, bool) or not low <= number <= high:
            kind = "must be a whole number between" if whole else "must lie between"
            raise DataError(f"{field.name} {kind} {low:g} and {high:g} ({unit}), not {number!r}: {meaning}.")


def assumption_table(assumptions=None):
    """Return the assumptions as a table with units, to be printed.

    Parameters
    ----------
    assumptions : Assumptions, optional
        What is assumed; the defaults when left out.

    Returns
    -------
    pandas.DataFrame
        Indexed by `assumption`: value, unit, meaning.

    Examples
    --------
    >>> assumption_table().loc["imitation", ["value", "unit"]].tolist()
    ['0.5', 'share of the discount']
    """
    assumptions = assumptions or Assumptions()
    rows = []
    for field in dataclasses.fields(assumptions):
        value = getattr(assumptions, field.name)
        text = ", ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value
        text = text if isinstance(text, str) else f"{text:,g}" if abs(text) < 1e6 else f"{text:,.0f}"
        rows.append((field.name, text, field.metadata["unit"], field.metadata["meaning"]))
    return pd.DataFrame(rows, columns=["assumption", "value", "unit", "meaning"]).set_index("assumption")


def _streams(seed):
    """One stream of random numbers a part, so that a change of one part leaves the others as they were."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError(f"seed must be a whole number from 0 on, not {seed!r}.")
    spawned = np.random.SeedSequence(int(seed)).spawn(len(STREAMS))
    return {part: np.random.default_rng(each) for part, each in zip(STREAMS, spawned, strict=True)}


def _fen(yuan):
    """Yuan as whole fen, so that accounts add up exactly."""
    return np.rint(np.asarray(yuan, dtype=float) * 100).astype("int64")


def _even(total, group):
    """Divide a total among the members of each group, to the fen; `group` is sorted."""
    size = np.bincount(group)[group]
    place = np.arange(len(group)) - np.searchsorted(group, group)
    return total // size + (place < total % size)


def _schools(a, draw):
    """Traits of the schools, one entry a school: what they are before anything happens."""
    n = a.schools
    far = round(n * a.xinjiang_schools)
    last = len(REGIONS) - 1
    region = np.concatenate([np.sort(np.arange(n - far) % last), np.full(far, last)]).astype(int)
    xinjiang = region == last
    # min: shares of levels may add up to a little less than 1.
    level = np.minimum(np.searchsorted(np.cumsum(a.level_shares), draw["level"].random(n), side="right"), 3)
    size = np.asarray(a.pupils, dtype=float)[level] * np.exp(a.size_spread * draw["size"].normal(size=n))
    relational = draw["kind"].random(n) >= a.transactional
    median = np.where(relational, a.sensitivity_relational, a.sensitivity_transactional)
    # Neighbouring offices take different routes; the price war is one of price.
    service = {"mixed": (region % 2 == 0) & ~xinjiang, "price": np.zeros(n, bool), "service": np.ones(n, bool)}[a.route]
    incentive = np.where(xinjiang, a.incentive_xinjiang, a.incentive)
    quality = draw["quality"].normal(size=n)
    return {
        "region": region,
        "level": level,
        "size": size,
        "relational": relational,
        "sensitivity": median * np.exp(a.sensitivity_spread * draw["sensitivity"].normal(size=n)),
        "demand": np.where(draw["demanding"].random(n) < a.demanding, a.demanding_times, 1.0),
        "start": draw["start"].random(n) < a.start_share,
        "service": service,
        "discount": np.where(service, 0.0, incentive),
        "spend": np.where(service, incentive, 0.0),
        "satisfaction": a.satisfaction + a.satisfaction_spread * quality + a.satisfaction_gain * incentive,
        "visit_fen": _fen(a.visit_cost * np.where(xinjiang, a.remote_xinjiang, 1.0)),
        "fixed": _even(_fen(a.office_cost), region),
    }


def _play(a, s, draw):
    """All seasons, as arrays (season, school): offers, choices, and the accounts in whole fen."""
    shape = (2 * a.years, a.schools)
    autumn = (np.arange(shape[0]) % 2 == 1)[:, None]
    year_need = s["size"] * np.asarray(a.pupil_spend, dtype=float)[s["level"]]
    varies = np.exp(a.need_spread * draw["need"].normal(size=shape))
    need = year_need * np.where(autumn, a.autumn, 1 - a.autumn) * varies
    mood = a.satisfaction_noise * draw["mood"].normal(size=shape)
    satisfaction = np.clip(s["satisfaction"] + mood, 0, 1)
    undercuts = draw["offer"].random(shape) < a.undercut_chance
    copied = a.imitation * s["discount"] * (np.arange(shape[0]) > 0)[:, None]
    rival = np.minimum(copied + a.undercut * undercuts, 1)
    gift = (draw["courtesy"].random(shape) < a.courtesy_share) & ~autumn
    chosen = draw["choice"].random(shape)
    habit = a.habit * s["relational"]
    with_firm, built = s["start"], np.zeros(a.schools)
    keys = ("before", "buys", "chance", "switching", "gift")
    out = {key: np.empty(shape, dtype=bool if key in ("before", "buys", "gift") else float) for key in keys}
    for t in range(shape[0]):
        switching = np.where(with_firm, habit + built, 0.0 - habit)
        given = gift[t] & with_firm
        price = s["sensitivity"] * (s["discount"] - rival[t])
        liking = a.satisfaction_weight * (satisfaction[t] - a.rival_satisfaction)
        advantage = price + switching + liking + a.courtesy * given
        chance = 1 / (1 + np.exp(-np.clip(advantage, -500, 500)))
        buys = chosen[t] < chance
        for key, value in zip(keys, (with_firm, buys, chance, switching, given), strict=True):
            out[key][t] = value
        # Service is given to customers, works on the next choice, and is lost on a school that leaves.
        built = np.where(buys & s["relational"], (1 - a.service_fades) * built + a.service_builds * s["spend"], 0.0)
        with_firm = buys
    buys = out["buys"]
    visits = np.where(
        buys, draw["visit"].poisson(a.visits * s["demand"], shape), draw["prospect"].poisson(a.prospect_visits, shape)
    )
    cases = np.where(buys, draw["case"].poisson(a.case_rate * s["demand"], shape), 0)
    revenue = np.where(buys, _fen(need), 0)
    accounts = {
        "revenue": revenue,
        "discount": np.rint(revenue * s["discount"]).astype("int64"),
        "goods": np.rint(revenue * a.goods).astype("int64"),
        "service": np.rint(revenue * s["spend"]).astype("int64"),
        "visits": visits * s["visit_fen"],
        "cases": cases * _fen(a.case_cost),
        "courtesy": out["gift"] * _fen(a.courtesy_cost),
        "fixed": np.broadcast_to(s["fixed"], shape),
    }
    accounts["profit"] = revenue - sum(accounts[name] for name in COSTS)
    extra = {"need": _fen(need), "satisfaction": satisfaction, "undercuts": undercuts, "rival": rival}
    return out | extra | {"n_visits": visits, "n_cases": cases, "accounts": accounts}


def _ids(n):
    return np.array([f"S{i:04d}" for i in range(1, n + 1)], dtype=object)


def _labels(s):
    """Names of a school's traits, one entry a school."""
    return {
        "level": np.array(LEVELS, dtype=object)[s["level"]],
        "region": np.array(list(REGIONS), dtype=object)[s["region"]],
        "route": np.array(ROUTES, dtype=object)[s["service"].astype(int)],
        "kind": np.array(KINDS, dtype=object)[s["relational"].astype(int)],
    }


def _season_frame(a, s, played):
    """One row a school and season."""
    t, n = played["buys"].shape
    frame = {"customer_id": np.tile(_ids(n), t)}
    frame |= {name: np.tile(values, t) for name, values in _labels(s).items()}
    frame |= {
        "season": np.repeat(np.arange(t), n),
        "before": played["before"].ravel(),
        "buys": played["buys"].ravel(),
        "stays": np.where(played["before"], played["buys"], np.nan).ravel(),
        "own_discount": np.tile(s["discount"], t),
        "rival_discount": played["rival"].ravel(),
        "undercuts": played["undercuts"].ravel(),
        "satisfaction": played["satisfaction"].ravel(),
        "switching_cost": played["switching"].ravel(),
        "chance": played["chance"].ravel(),
        "need": played["need"].ravel() / 100,
    }
    frame |= {name: values.ravel() / 100 for name, values in played["accounts"].items()}
    return pd.DataFrame(frame)


def seasons(assumptions=None, *, seed=0):
    """Simulate the choices of the schools and the accounts of the firm, without the customer tables.

    In each season a school needs books worth ``need`` (its size times what a pupil needs) and buys them from the firm
    with the chance ``1 / (1 + exp(-advantage))``, else from the rival::

        advantage = sensitivity * (own_discount - rival_discount) + switching_cost
                    + satisfaction_weight * (satisfaction - rival_satisfaction) + courtesy * gift

    A region on the route *price* gives its incentive d as a discount, of which the rival copies the share `imitation`
    from the second season on; one on the route *service* spends the same d of the revenue at list prices on service.
    Both add the same to satisfaction. Switching cost belongs to relational schools: `habit` towards whoever supplied
    the season before (so it is negative for a school that buys elsewhere), and towards the firm what service built.
    Without incentive the two routes are therefore the same firm, draw by draw.

    Parameters
    ----------
    assumptions : Assumptions, optional
        What is assumed; the defaults when left out.
    seed : int, default 0
        Same seed, same rows; the same random numbers on every route.

    Returns
    -------
    pandas.DataFrame
        One row a school and season: `customer_id`, `level`, `region`, `route`, `kind`, `season` (from 0; odd ones are
        autumns), `before` (with the firm before), `buys`, `stays` (1 or 0; missing unless `before`), `own_discount`,
        `rival_discount`, `undercuts`, `satisfaction`, `switching_cost`, `chance`, and in yuan `need`, `revenue` (at
        list prices), `discount`, `goods`, `service`, `visits`, `cases`, `courtesy`, `fixed`, `profit`.
        ``profit = revenue - discount - goods - service - visits - cases - courtesy - fixed`` to the fen.

    Raises
    ------
    DataError
        A seed that is no whole number.

    Examples
    --------
    >>> table = seasons(Assumptions(schools=100), seed=1)
    >>> len(table), float(table["satisfaction"].mean().round(2))
    (1200, 0.77)
    """
    assumptions = assumptions or Assumptions()
    draw = _streams(seed)
    traits = _schools(assumptions, draw)
    frame = _season_frame(assumptions, traits, _play(assumptions, traits, draw))
    frame.attrs["reality"] = f"{LABEL}(seed={seed})"
    return frame


# Titles of the school-book trade: subject, level (None: every level), yuan a copy, how much is bought, category.
_TITLES = [
    *((subject, level, price, 4.0, "textbook")
      for level, price in zip(LEVELS, (9.0, 12.0, 15.0, 32.0), strict=True)
      for subject in ("language", "mathematics", "English", "science")),
    *((subject, level, price, 3.0, "workbook")
      for level, price in zip(LEVELS[:3], (14.0, 18.0, 22.0), strict=True)
      for subject in ("language", "mathematics", "English")),
    *((subject, level, 28.0, 2.5, "exam preparation")
      for level in LEVELS[1:3] for subject in ("mathematics", "English")),
    ("stories", "primary", 16.0, 2.0, "reading"),
    ("classics", "junior", 20.0, 1.5, "reading"),
    ("classics", "senior", 24.0, 1.5, "reading"),
    ("world literature", "university", 36.0, 1.5, "reading"),
    ("teacher's book", None, 38.0, 0.8, "teaching aid"),
    ("wall maps", None, 60.0, 0.4, "teaching aid"),
    ("dictionary", None, 45.0, 0.8, "reference"),
    ("encyclopaedia", None, 98.0, 0.3, "reference"),
    ("library software", None, 600.0, 0.3, "software"),
]  # fmt: skip
_SCHOOL_WORDS = ("小学", "初中", "高中", "大学")
_FAMILY_NAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_INTERESTS = ("reading", "calligraphy", "chess", "table tennis", "tea", "walking", "photography")
SERVICE_CONTACT = 800.0
"""Yuan of the service budget that one contact on the route *service* costs, about."""


def simulate_longzhiji(assumptions=None, *, seed=0):
    """Simulate the book company 龙之脊: its customer tables, and the truth behind them.

    The schools choose as `seasons` says; the tables are what the firm would have recorded of it. Orders are the books a
    customer needed in a season, in a main order and supplements; interactions are the contact-progress forms that the
    staff fill in after every visit (客戶聯絡進展表); campaign responses are the courtesy contacts of the case, drawn by
    lot; the survey is one wave at the end among customers of the last two years. Costs in the tables add up to those
    of the accounts, to the fen.

    Parameters
    ----------
    assumptions : Assumptions, optional
        What is assumed; the defaults when left out.
    seed : int, default 0
        Same seed, same tables.

    Returns
    -------
    dict of pandas.DataFrame
        `customers` (every school, prospects too), `products`, `orders` (lines: customer_id, date, amount after
        discount, order_id, product_id, quantity, retail_disc, store_id, district, level, season), `interactions`
        (one row a contact, with cost), `service_cases`, `campaign_responses`, `survey`, each with the columns of its
        contract (see `crmlab.data.validate`); and the truth: `truth` (one row a school: kind, price_sensitivity,
        switching_cost, satisfaction, demanding, …, contribution and profit) and `seasons` (one row a school and
        season).
        Every frame says in ``attrs["reality"]`` that it is simulated.

    Raises
    ------
    DataError
        A seed that is no whole number.

    Examples
    --------
    >>> firm = simulate_longzhiji(Assumptions(schools=100), seed=1)
    >>> paid = firm["orders"]["amount"].sum()
    >>> bool(abs(paid - (firm["seasons"]["revenue"] - firm["seasons"]["discount"]).sum()) < 0.01)
    True
    """
    a = assumptions or Assumptions()
    draw = _streams(seed)
    s = _schools(a, draw)
    played = _play(a, s, draw)
    orders, first_order = _orders(a, s, played, draw)
    frames = {
        "customers": _customers(a, s, played, first_order, draw["people"]),
        "products": _products(),
        "orders": orders,
        "interactions": _interactions(a, s, played, draw["contacts"]),
        "service_cases": _service_cases(a, s, played, draw["tickets"]),
        "campaign_responses": _courtesy(a, s, played, first_order),
        "survey": _survey(a, s, played, draw["survey"]),
        "truth": _truth(a, s, played),
        "seasons": _season_frame(a, s, played),
    }
    for frame in frames.values():
        frame.attrs["reality"] = f"{LABEL}(seed={seed})"
    return frames


@functools.cache
def tables():
    """Return the tables of the catalogue's sets `longzhiji…`: the default assumptions, seed 0.

    Returns
    -------
    dict of pandas.DataFrame
        See `simulate_longzhiji`.

    Examples
    --------
    >>> tables()["truth"].shape[0]
    600
    """
    return simulate_longzhiji()


def _split(total, group, weight):
    """Divide the total of each group among its rows by weight, to the fen; `group` is sorted and has no gaps."""
    first, last = (np.searchsorted(group, np.arange(len(total)), side) for side in ("left", "right"))
    last = last - 1
    running = np.cumsum(weight)
    within = running - (running[first] - weight[first])[group]
    upto = np.floor(total[group] * (within / within[last][group]) + 0.5).astype("int64")
    upto[last] = total
    before = np.roll(upto, 1)
    before[first] = 0
    return upto - before


def _starts(seasons_count):
    """First day of each season: 15 February and 15 August."""
    months = [f"{FIRST_YEAR + t // 2}-{'08' if t % 2 else '02'}-15" for t in range(seasons_count)]
    return np.array(months, dtype="datetime64[D]")


def _days(begin, offset):
    return (begin + offset.astype("timedelta64[D]")).astype("datetime64[s]")


def _products():
    rows = [
        (f"B{i:02d}", category, f"{subject}, {level}" if level else subject, level or "all", price)
        for i, (subject, level, price, _, category) in enumerate(_TITLES, 1)
    ]
    return pd.DataFrame(rows, columns=["product_id", "product_category", "product_type", "level", "list_price"])


def _district(s):
    """Eight neighbouring schools of a region belong to one school district."""
    place = np.arange(len(s["region"])) - np.searchsorted(s["region"], s["region"])
    return _labels(s)["region"] + " " + (place // 8 + 1).astype(str).astype(object)


def _orders(a, s, played, draw):
    """Order lines, and the day of the first order of a season (season, school)."""
    rng = draw["orders"]
    supplements = rng.gamma(2.0, 0.6, a.schools)
    season, school = np.nonzero(played["buys"])
    count = 1 + rng.poisson(supplements[school])
    group = np.repeat(np.arange(len(season)), count)
    place = np.arange(len(group)) - np.searchsorted(group, group)
    money = {name: played["accounts"][name][season, school] for name in ("revenue", "discount")}
    weight = np.where(place == 0, 3.0, 1.0) * rng.uniform(0.5, 1.5, len(group))
    order_fen = _split(money["revenue"], group, weight)
    offset = np.where(place == 0, rng.integers(0, 31, len(group)), rng.integers(31, 121, len(group)))
    date = _days(_starts(2 * a.years)[season[group]], offset)
    first_order = np.full(played["buys"].shape, np.datetime64("NaT", "s"))
    first_order[season, school] = date[place == 0]
    order, product, line_weight = _lines(draw["lines"], s["level"][school[group]])
    line = group[order]
    list_fen = _split(order_fen, order, line_weight)
    discount = _split(money["discount"], line, np.maximum(list_fen, 1e-6))
    titles, labels, who = _products(), _labels(s), school[line]
    price = titles["list_price"].to_numpy()[product]
    frame = pd.DataFrame(
        {
            "customer_id": _ids(a.schools)[who],
            "date": date[order],
            "amount": (list_fen - discount) / 100,
            "order_id": order,
            "product_id": titles["product_id"].to_numpy(dtype=object)[product],
            "quantity": np.maximum(1, np.rint(list_fen / 100 / price)).astype("int64"),
            "retail_disc": discount / 100,
            "store_id": labels["region"][who],
            "district": _district(s)[who],
            "level": labels["level"][who],
            "season": season[line],
        }
    )
    frame = frame.sort_values(["date", "order_id", "product_id"], kind="stable", ignore_index=True)
    frame["order_id"] = np.char.mod("O%06d", pd.factorize(frame["order_id"])[0] + 1).astype(object)
    return frame, first_order


def _lines(rng, level):
    """Lines of the orders, one a title: number of the order, number of the title, weight."""
    share = np.array([[row[3] * (row[1] in (None, name)) for row in _TITLES] for name in LEVELS])
    upto = np.cumsum(share, axis=1) / share.sum(axis=1, keepdims=True)
    order = np.repeat(np.arange(len(level)), 1 + rng.poisson(2.0, len(level)))
    product = (rng.random(len(order))[:, None] >= upto[level[order]]).sum(axis=1)
    order, product = np.divmod(np.unique(order * len(_TITLES) + product), len(_TITLES))
    return order, product, rng.uniform(0.5, 1.5, len(order))


def _customers(a, s, played, first_order, rng):
    """The customer file: every school, with the person one talks to."""
    n, buys, labels = a.schools, played["buys"], _labels(s)
    region = np.array(list(REGIONS.values()), dtype=object)[s["region"]]
    names = zip(region, rng.integers(1, 100, n), np.array(_SCHOOL_WORDS, dtype=object)[s["level"]], strict=True)
    families = np.array(list(_FAMILY_NAMES), dtype=object)[rng.integers(len(_FAMILY_NAMES), size=n)]
    # Customers of the years before joined on a day that only the customer file knows.
    before = np.datetime64(f"{FIRST_YEAR}-01-01") - rng.integers(1, 3000, n).astype("timedelta64[D]")
    first = np.where(buys.any(axis=0), first_order[buys.argmax(axis=0), np.arange(n)], np.datetime64("NaT", "s"))
    birth = np.datetime64(f"{FIRST_YEAR - 30}-01-01") - rng.integers(0, 9000, n).astype("timedelta64[D]")
    known = buys.any(axis=0) | s["start"]
    frame = {
        "customer_id": _ids(n),
        "customer_type": "firm",
        "status": np.select([buys[-2:].any(axis=0), known], ["active", "inactive"], "prospect").astype(object),
        "name": np.array([f"{where}第{number}{word}" for where, number, word in names], dtype=object),
        "contact": families + "老师",
        "birth_date": birth.astype("datetime64[s]"),
        "interests": np.array(_INTERESTS, dtype=object)[rng.integers(len(_INTERESTS), size=n)],
        "phone": np.array([f"+86 000 {i:08d}" for i in range(1, n + 1)], dtype=object),
        "city": region,
        "joined": np.where(s["start"], before.astype("datetime64[s]"), first),
        "level": labels["level"],
        "region": labels["region"],
        "route": labels["route"],
        "district": _district(s),
        "pupils": np.rint(s["size"]).astype("int64"),
    }
    return pd.DataFrame(frame)


def _interactions(a, s, played, rng):
    """The contact-progress forms: visits to customers and to other schools, and the contacts of the service route."""
    buys, visits = played["buys"], played["n_visits"]
    spent = played["accounts"]["service"]
    contacts = np.where(spent > 0, np.clip(np.rint(spent / _fen(SERVICE_CONTACT)), 1, 200), 0).astype(int)
    parts = []
    for number, service in ((visits, False), (contacts, True)):
        season, school = np.nonzero(number)
        group = np.repeat(np.arange(len(season)), number[season, school])
        season_of, who = season[group], school[group]
        if service:
            cost = _split(spent[season, school], group, np.ones(len(group)))
            purpose = ("stock-taking", "training of teachers", "library software", "advice on titles")
            channel = np.where(rng.random(len(group)) < 0.3, "telephone", "visit")
        else:
            cost = s["visit_fen"][who]
            purpose, channel = ("needs of the season", "offer", "delivery and payment"), "visit"
        with_firm = buys[season_of, who]
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": _ids(a.schools)[who],
                    "date": _days(_starts(2 * a.years)[season_of], rng.integers(-30, 121, len(group))),
                    "channel": channel,
                    "kind": "cooperate" if service else np.where(with_firm, "trade", "consult"),
                    "function": "service" if service else np.where(with_firm, "sales", "marketing"),
                    "purpose": np.array(purpose, dtype=object)[rng.integers(len(purpose), size=len(group))],
                    "cost": cost / 100,
                    "outcome": "reached",
                    "employee": _labels(s)["region"][who] + np.char.mod(" %d", who % 3 + 1).astype(object),
                    "progress": np.where(with_firm, "orders this season", "buys elsewhere this season"),
                    "season": season_of,
                }
            )
        )
    frame = pd.concat(parts, ignore_index=True).sort_values("date", kind="stable", ignore_index=True)
    frame.insert(0, "interaction_id", np.char.mod("I%06d", np.arange(1, len(frame) + 1)).astype(object))
    return frame


def _service_cases(a, s, played, rng):
    season, school = np.nonzero(played["n_cases"])
    group = np.repeat(np.arange(len(season)), played["n_cases"][season, school])
    season, who = season[group], school[group]
    opened = _days(_starts(2 * a.years)[season], rng.integers(5, 111, len(group)))
    opened += rng.integers(8 * 3600, 18 * 3600, len(group)).astype("timedelta64[s]")
    closed = opened + (rng.exponential(48 * 3600, len(group))).astype("int64").astype("timedelta64[s]")
    closed[rng.random(len(group)) < 0.03] = np.datetime64("NaT", "s")
    complains = rng.random(len(group)) < 1 - played["satisfaction"][season, who]
    other = np.where(rng.random(len(group)) < 0.7, "question", "return")
    frame = pd.DataFrame(
        {
            "customer_id": _ids(a.schools)[who],
            "opened": opened,
            "closed": closed,
            "channel": rng.choice(["telephone", "visit", "email"], len(group), p=[0.6, 0.3, 0.1]),
            "category": np.where(complains, "complaint", other),
            "cost": a.case_cost,
            "season": season,
        }
    ).sort_values("opened", kind="stable", ignore_index=True)
    frame.insert(0, "case_id", np.char.mod("C%06d", np.arange(1, len(frame) + 1)).astype(object))
    return frame


def _courtesy(a, s, played, first_order):
    """New Year's gift and card to customers drawn by lot, and whether they bought in the spring that followed."""
    season, who = np.nonzero(played["before"] & (np.arange(2 * a.years) % 2 == 0)[:, None])
    year = (FIRST_YEAR + season // 2).astype(str)
    contacted = played["gift"][season, who]
    frame = {
        "campaign_id": np.char.add("New Year ", year).astype(object),
        "customer_id": _ids(a.schools)[who],
        "date": np.char.add(year, "-01-10").astype("datetime64[s]"),
        "channel": "letter",
        "arm": np.where(contacted, "contact", "control"),
        "responded": played["buys"][season, who].astype("int64"),
        "response_date": first_order[season, who],
        "cost": np.where(contacted, a.courtesy_cost, 0.0),
    }
    return pd.DataFrame(frame)


def _survey(a, s, played, rng):
    """One wave at the end: questions on 1 to 10 to schools that bought in the last two years; 99 is no answer."""
    n, last = a.schools, played["buys"][-4:]
    asked = last.any(axis=0) & (rng.random(n) < 0.85)

    def standard(values):
        return (values - values[asked].mean()) / (values[asked].std() or 1.0) if asked.any() else values

    noise = rng.normal(size=(4, n))
    satisfied = standard(played["satisfaction"][-4:].mean(axis=0))
    switching = standard(np.abs(played["switching"][-1]))
    # What a school says of its loyalty is an attitude: half satisfaction, half what binds it.
    latent = {
        "qual": 0.8 * satisfied + 0.6 * noise[0],
        "sat": satisfied,
        "price": 0.9 * standard(np.log(np.maximum(s["sensitivity"], 1e-9))) + 0.44 * noise[1],
        "switch": 0.9 * switching + 0.44 * noise[2],
        "loyal": 0.6 * satisfied + 0.6 * switching + 0.5 * noise[3],
    }
    frame = {
        "respondent_id": np.array([f"R{i:04d}" for i in range(1, n + 1)], dtype=object),
        "customer_id": _ids(n),
        "date": np.datetime64(f"{FIRST_YEAR + a.years - 1}-12-20", "s"),
        "level": s["level"] + 1,
        "route": s["service"].astype("int64") + 1,
    }
    for name, values in latent.items():
        for item in (1, 2, 3):
            answer = 6.5 + 1.8 * (0.85 * values + 0.53 * rng.normal(size=n))
            answer = np.clip(np.rint(answer), 1, 10).astype("int64")
            frame[f"{name}_{item}"] = np.where(rng.random(n) < 0.02, 99, answer)
    return pd.DataFrame(frame)[asked].reset_index(drop=True)


def _truth(a, s, played):
    accounts = {name: values.sum(axis=0) / 100 for name, values in played["accounts"].items()}
    frame = {
        "customer_id": _ids(a.schools),
        **_labels(s),
        "price_sensitivity": s["sensitivity"],
        "switching_cost": played["switching"][-1],
        "satisfaction": played["satisfaction"].mean(axis=0),
        "demanding": s["demand"] > 1,
        "started": s["start"],
        "seasons_bought": played["buys"].sum(axis=0),
        **accounts,
        "contribution": accounts["profit"] + accounts["fixed"],
    }
    return pd.DataFrame(frame)
