"""Simulated firms with known truth: messy sources of one customer file, and logs of any size written to Parquet."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from crmlab.data.errors import DataError
from crmlab.data.normal import normal_text

LABEL = "simulated by crmlab.data.simulate"


def _words(text):
    return tuple(text.split())


# Characters (traditional forms where they differ) with their Latin spelling.
_SURNAMES = _words(
    "王Wang 李Li 張Zhang 劉Liu 陳Chen 楊Yang 趙Zhao 黃Huang 周Zhou 吳Wu 徐Xu 孫Sun 胡Hu 朱Zhu 高Gao 林Lin 何He 郭Guo "
    "馬Ma 羅Luo"
)
_GIVEN = _words(
    "偉wei 芳fang 娜na 敏min 靜jing 麗li 強qiang 磊lei 軍jun 洋yang 勇yong 艷yan 傑jie 濤tao 明ming 超chao 霞xia "
    "平ping 剛gang 英ying 華hua 玉yu 蘭lan 紅hong 建jian 文wen 國guo 志zhi 海hai 雪xue"
)
_FIRST = _words(
    "Anna Björn Chloé Daniel Élise Florian Greta Hugo Inés Jonas Katrin Lukas Marie Nils Olga Paul Quentin Renée Sofia "
    "Thomas Ursula Viktor Wilma Xavier Yvonne Zoë Andrea Bernd Claudia Dirk Emma Felix Hannah Ivan Julia Karl Laura "
    "Martin Nora Oskar"
)
_LAST = _words(
    "Müller Schmidt Weiß Fischer Meyer Wagner Becker Schulz Hoffmann Koch Richter Wolf Schröder Neumann Schwarz Braun "
    "Zimmermann Krüger Hartmann Lange Werner Krause Lehmann Köhler Jansen Petersen Nguyen García López Martin Dubois "
    "Lefèvre Rossi Bianchi Novák Kowalski Larsson Nielsen Smith Jones O'Brien Taylor Brown Wilson Evans Walker"
)
_STREETS = _words(
    "Bahnhofstraße Hauptstraße Gartenweg Lindenallee Schulstraße Ringstraße Mühlenweg Bergstraße Kirchplatz Seeweg"
)
_ROADS = _words("人民路 中山路 解放路 建设路 和平路 南京路 北京路 文化路 新华路 长江路")
_TOWNS = {False: _words("Berlin Hamburg München Köln Leipzig Bremen"), True: _words("上海 北京 广州 杭州 成都 南京")}
_CAMPAIGNS = ("spring mailing", "summer offer", "autumn catalogue", "year-end card")
_LIFT = 0.05  # what a contact adds to the chance of a response


def simulate(
    customers=2_000,
    *,
    seed=0,
    start="2022-01-01",
    end="2023-12-31",
    overlap=0.5,
    duplicates=0.08,
    errors=0.15,
    chinese=0.4,
):
    """Simulate the scattered records of one firm, with the truth about them.

    Three sources know the customers: the ERP system, the web shop and the call centre, each with its own way to write
    names, dates and telephones. People are in several of them (`overlap`), some twice in one (`duplicates`); records
    hold typing errors and lack parts (`errors` per field); a fifth of the people moved, some married, some changed
    telephone, and older records do not know; households share address and telephone; a placeholder stands for unknown
    e-mail addresses. Purchases follow Poisson processes that end at a random time; campaigns are randomized.

    Parameters
    ----------
    customers : int, default 2000
        People in truth; records are more.
    seed : int, default 0
        Same seed, same tables.
    start, end : str, default two years
        First and last day of the activity.
    overlap : float, default 0.5
        Chance that a person of the web shop or of the call centre, beside the one main source, is known there too.
    duplicates : float, default 0.08
        Chance that a record is entered twice in its source.
    errors : float, default 0.15
        Chance of a typing error, and half of it of a missing part, in each field.
    chinese : float, default 0.4
        Share of the people with Chinese names.

    Returns
    -------
    dict of pandas.DataFrame
        `customers` (one row a record: record_id, source, customer_type, name, birth_date, email, phone, address, city,
        postcode, updated), `orders`, `service_cases`, `campaign_responses`, `interactions`, `survey` (all refer to
        records, in `customer_id`), each with the columns of its contract (see `validate`; the key of `customers` is
        the sources' own number: ``customer_id="record_id"``); and the truth: `truth` (record_id, person_id) and
        `people` (one row a person: the right values, rate of purchase, end of activity, reachable or not, loyalty).
        Every frame says in ``attrs["reality"]`` that it is simulated.

    Raises
    ------
    DataError
        Fewer than one customer, shares outside 0 to 1, or an end before the start.

    Examples
    --------
    >>> firm = simulate(200, seed=1)
    >>> len(firm["people"]), len(firm["customers"]) > 200
    (200, True)
    """
    first, last = pd.Timestamp(start), pd.Timestamp(end)
    shares = {"overlap": overlap, "duplicates": duplicates, "errors": errors, "chinese": chinese}
    wrong = [f"{name}={share}" for name, share in shares.items() if not 0 <= share <= 1]
    if customers < 1 or wrong or last <= first:
        raise DataError(
            f"simulate needs at least one customer, shares between 0 and 1 and an end after the start; "
            f"got customers={customers}, {', '.join(wrong) or 'shares in order'}, {start} to {end}."
        )
    # One stream a part, so that a change of one part leaves the others as they were.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(8)]
    people = _people(streams[0], customers, first, last, chinese)
    records, truth = _records(streams[1], people, last, overlap, duplicates, errors)
    known = _Known(records, truth)
    orders = _orders(streams[2], people, known, first, last)
    frames = {
        "customers": records,
        "orders": orders,
        "service_cases": _service_cases(streams[3], people, known, last),
        "campaign_responses": _campaigns(streams[4], people, known, first, last),
        "interactions": _interactions(streams[5], people, known, first, last),
        "survey": _survey(streams[6], people, known, last),
        "truth": truth,
        "people": people,
    }
    for frame in frames.values():
        frame.attrs["reality"] = f"{LABEL}(customers={customers}, seed={seed})"
    return frames


def _people(rng, n, first, last, chinese):
    """One row a person: what is true at the end, and what was before."""
    days = (last - first).days
    is_chinese = rng.random(n) < chinese
    # A fifth lives with the person before: same surname, address and (half of them) telephone.
    joins = rng.random(n) < 0.2
    joins[0] = False
    is_chinese = _follow(is_chinese, joins)
    household = np.cumsum(~joins)
    surname = np.where(is_chinese, rng.integers(len(_SURNAMES), size=n), rng.integers(len(_LAST), size=n))
    names = [_draw_name(rng, c, s) for c, s in zip(is_chinese, _follow(surname, joins), strict=True)]
    house, road, town = rng.integers(1, 200, n), rng.integers(10, size=n), rng.integers(6, size=n)
    old_house, old_road = rng.integers(1, 200, n), rng.integers(10, size=n)
    house, road, town = (_follow(part, joins) for part in (house, road, town))
    number = rng.choice(90_000_000, n, replace=False)
    number = np.where(joins & (rng.random(n) < 0.5), np.roll(number, 1), number)
    old_number = rng.integers(90_000_000, 100_000_000, n)
    age = rng.integers(18, 85, n)
    birth = last.normalize() - pd.to_timedelta(age * 365.25 + rng.integers(0, 365, n), unit="D").floor("D")
    joined = rng.integers(0, max(days * 3 // 4, 1), n)
    stays = rng.exponential(500, n)
    satisfied = rng.normal(size=n)
    loyalty = 0.6 * satisfied + 0.8 * rng.normal(size=n)
    changed = rng.random(n) < 0.15
    frame = pd.DataFrame(
        {
            "person_id": [f"P{i:07d}" for i in range(1, n + 1)],
            "household_id": [f"H{i:07d}" for i in household],
            "customer_type": rng.choice(["person", "dealer", "partner"], n, p=[0.94, 0.05, 0.01]),
            "chinese": is_chinese,
            "family": [family for family, _, _ in names],
            "given": [given for _, given, _ in names],
            "latin": [latin for _, _, latin in names],
            "family_before": [_LAST[s] for s in rng.integers(len(_LAST), size=n)],
            "married": ~is_chinese & (rng.random(n) < 0.06),
            "birth_date": birth,
            "phone": [_number(c, k) for c, k in zip(is_chinese, number, strict=True)],
            "phone_before": [_number(c, k) for c, k in zip(is_chinese, old_number, strict=True)],
            "phone_changed": changed,
            "address": [_address(*parts) for parts in zip(is_chinese, road, house, strict=True)],
            "address_before": [_address(*parts) for parts in zip(is_chinese, old_road, old_house, strict=True)],
            "moved": rng.random(n) < 0.2,
            "city": [_TOWNS[bool(c)][t] for c, t in zip(is_chinese, town, strict=True)],
            "postcode": [f"{100000 + 50000 * t + r * 7}" if c else f"{10000 + 12000 * t + r * 7:05d}"
                         for c, t, r in zip(is_chinese, town, road, strict=True)],
            "joined": first + pd.to_timedelta(joined, unit="D"),
            "rate": rng.gamma(1.2, 1 / 60, n),
            "satisfaction": satisfied,
            "loyalty": loyalty,
        }
    )  # fmt: skip
    ends = np.minimum(joined + stays * np.exp(0.5 * loyalty), days)
    frame["active_until"] = first + pd.to_timedelta(np.floor(ends), unit="D")
    frame["left"] = ends < days
    # Those who changed their telephone, and more often those who left, cannot be reached any more.
    frame["reachable"] = rng.random(n) > np.where(frame["left"], 0.35, 0.03) + 0.2 * changed
    mailbox = (normal_text(latin).replace(" ", ".") for latin in frame["latin"])
    frame["email"] = [f"{box}{i % 97}@example.{('com', 'net', 'org')[i % 3]}" for i, box in enumerate(mailbox)]
    frame["name"] = np.where(is_chinese, frame["family"] + frame["given"], frame["given"] + " " + frame["family"])
    return frame


def _draw_name(rng, chinese, surname):
    """Family name, given name, and both in Latin letters."""
    if not chinese:
        given = _FIRST[rng.integers(len(_FIRST))]
        return _LAST[surname], given, f"{given} {_LAST[surname]}"
    parts = [_GIVEN[g] for g in rng.integers(len(_GIVEN), size=rng.integers(1, 3))]
    latin = "".join(part[1:] for part in parts).capitalize()
    return _SURNAMES[surname][0], "".join(part[0] for part in parts), f"{latin} {_SURNAMES[surname][1:]}"


def _follow(values, joins):
    """Give those who join a household the value of the person before."""
    return values[np.maximum.accumulate(np.where(joins, 0, np.arange(len(values))))]


def _number(chinese, k):
    return f"+86138{k:08d}" if chinese else f"+49151{k:08d}"


def _address(chinese, road, house):
    return f"{_ROADS[road]}{house}号" if chinese else f"{_STREETS[road]} {house}"


class _Known:
    """Which records a person has, to choose from at random."""

    def __init__(self, records, truth):
        order = truth.reset_index(drop=True).groupby("person_id", sort=True)["record_id"].agg(list)
        self.ids = np.array([r for ids in order for r in ids], dtype=object)
        self.count = order.map(len).to_numpy()
        self.start = np.concatenate([[0], self.count.cumsum()[:-1]])

    def pick(self, rng, who):
        """A record of each person (by number)."""
        return self.ids[self.start[who] + (rng.random(len(who)) * self.count[who]).astype(int)]


def _records(rng, people, last, overlap, duplicates, errors):
    n = len(people)
    main = rng.choice(3, n, p=[0.4, 0.4, 0.2])
    rows = []
    for source in range(3):
        known = np.flatnonzero((main == source) | (rng.random(n) < overlap))
        twice = known[rng.random(len(known)) < duplicates]
        for who in np.concatenate([known, twice]):
            rows.append((int(who), source))
    rows = [rows[i] for i in rng.permutation(len(rows))]
    people = list(people.itertuples())
    written, truth, counts = [], [], [0, 0, 0]
    for who, source in rows:
        person = people[who]
        counts[source] += 1
        record_id = f"{('E', 'W', 'C')[source]}{counts[source]:07d}"
        written.append((record_id, *_write(rng, person, source, last, errors)))
        truth.append((record_id, person.person_id))
    columns = _words("record_id source customer_type name birth_date email phone address city postcode updated")
    return pd.DataFrame(written, columns=columns), pd.DataFrame(truth, columns=["record_id", "person_id"])


def _write(rng, person, source, last, errors):
    """One record of a person, as the clerks of its source write it."""
    age = int(rng.integers(0, max((last - person.joined).days, 1)))
    updated = last - pd.Timedelta(days=age)
    # What changed did so half a year ago, on average; an older record does not know of it.
    before = age > rng.exponential(180)
    family = person.family_before if person.married and before else person.family
    phone = person.phone_before if person.phone_changed and before else person.phone
    address = person.address_before if person.moved and before else person.address
    values = [
        _write_name(rng, family, person, source),
        _write_date(person.birth_date, person.chinese, source),
        person.email.upper() if source == 0 else person.email,
        _write_phone(phone, source),
        address if source != 2 else address.replace("straße", "str.").upper(),
        person.city,
        person.postcode,
    ]
    for i, value in enumerate(values):
        draw = rng.random()
        if draw < errors / 2:
            # E-mail is a required field in many masks: what is unknown gets a placeholder.
            values[i] = "none@example.com" if i == 2 else None
        elif draw < 1.5 * errors:
            values[i] = _mistype(rng, value)
    return ("erp", "shop", "calls")[source], person.customer_type, *values, updated


def _write_name(rng, family, person, source):
    if person.chinese:
        if source == 1 and rng.random() < 0.3:  # some forms take Latin letters only
            return person.latin
        name = family + person.given
        simple = normal_text(name)
        return (simple, f"{family} {person.given}", f"{simple}先生" if rng.random() < 0.5 else name)[source]
    if source == 0:
        return f"{family.upper()}, {person.given}"
    return f"{person.given} {family}" if source == 1 else f"{rng.choice(['Mr', 'Ms', 'Dr.'])} {person.given} {family}"


def _write_date(day, chinese, source):
    if source == 2:
        return f"{day.year}年{day.month}月{day.day}日" if chinese else f"{day:%Y%m%d}"
    return f"{day:%Y-%m-%d}" if source == 0 else f"{day:%d.%m.%Y}"


def _write_phone(phone, source):
    country, area, rest = phone[1:3], phone[3:6], phone[6:]
    if source == 0:
        return f"+{country} {area} {rest[:4]} {rest[4:]}"
    if source == 1:
        # Full-width digits come from Chinese keyboards.
        digits = f"00{country}{area}{rest}"
        return digits.translate({48 + i: 0xFF10 + i for i in range(10)}) if country == "86" else digits
    return f"(+{country}) {area}-{rest[:3]}-{rest[3:]}"


def _mistype(rng, value):
    """Swap, drop, double or replace one character."""
    i = int(rng.integers(len(value)))
    kind = int(rng.integers(4))
    if kind == 0 and i + 1 < len(value):
        return value[:i] + value[i + 1] + value[i] + value[i + 2 :]
    if kind == 1 and len(value) > 1:
        return value[:i] + value[i + 1 :]
    if kind == 2:
        return value[: i + 1] + value[i:]
    other = "0123456789"[int(rng.integers(10))] if value[i].isdigit() else "etaoin"[int(rng.integers(6))]
    return value[:i] + other + value[i + 1 :]


def _times(rng, people, counts):
    """Moments for each person, evenly between joining and the end of activity, in order."""
    who = np.repeat(np.arange(len(people)), counts)
    begin = people["joined"].to_numpy("datetime64[s]")
    span = (people["active_until"].to_numpy("datetime64[s]") - begin).astype(float) + 86_399
    seconds = (rng.random(len(who)) * span[who]).astype("int64")
    order = np.lexsort((seconds, who))
    return who, begin[who] + seconds[order].astype("timedelta64[s]")


def _orders(rng, people, known, first, last):
    active = (people["active_until"] - people["joined"]).dt.days.to_numpy() + 1.0
    who, moment = _times(rng, people, 1 + rng.poisson(people["rate"].to_numpy() * active))
    lines = rng.integers(1, 4, len(who))
    order = np.repeat(np.argsort(np.argsort(moment, kind="stable"), kind="stable"), lines)
    product = np.minimum(rng.geometric(0.03, len(order)), 120)
    quantity = rng.integers(1, 4, len(order))
    price = np.round(5 + 95 * ((product * 37) % 101) / 101, 2)
    frame = pd.DataFrame(
        {
            "order_id": [f"O{i:08d}" for i in order],
            "customer_id": np.repeat(known.pick(rng, who), lines),
            "date": np.repeat(moment, lines),
            "product_id": [f"SKU{p:03d}" for p in product],
            "quantity": quantity,
            "amount": np.round(price * quantity, 2),
        }
    )
    return frame.sort_values(["date", "order_id", "product_id"], kind="stable", ignore_index=True)


def _service_cases(rng, people, known, last):
    counts = rng.poisson(np.exp(-1.2 - 0.5 * people["satisfaction"].to_numpy()))
    who, opened = _times(rng, people, counts)
    hours = rng.exponential(30, len(who))
    frame = pd.DataFrame(
        {
            "customer_id": known.pick(rng, who),
            "opened": opened,
            "closed": opened + (hours * 3600).astype("int64").astype("timedelta64[s]"),
            "category": rng.choice(["complaint", "question", "return"], len(who), p=[0.4, 0.4, 0.2]),
            "channel": rng.choice(["telephone", "email", "chat"], len(who)),
        }
    )
    still_open = (rng.random(len(frame)) < 0.05) | (frame["closed"] >= last.normalize() + pd.Timedelta(days=1))
    frame.loc[still_open, "closed"] = pd.NaT
    frame = frame.sort_values("opened", kind="stable", ignore_index=True)
    frame.insert(0, "case_id", [f"S{i:07d}" for i in range(1, len(frame) + 1)])
    return frame


def _campaigns(rng, people, known, first, last):
    parts = []
    for i, campaign in enumerate(_CAMPAIGNS):
        sent = first + (last - first) * (i + 1) / (len(_CAMPAIGNS) + 1)
        there = np.flatnonzero((people["joined"] <= sent).to_numpy())
        contacted = rng.random(len(there)) < 0.7
        active = (people["active_until"] > sent).to_numpy()[there]
        chance = np.where(active, 0.08 + _LIFT * contacted, 0.0)
        drawn = rng.random(len(there))
        answer = sent.normalize() + pd.to_timedelta(rng.integers(1, 15, len(there)), unit="D")
        # Who answers after the last day has not answered yet.
        responded = (drawn < chance) & (answer <= last)
        parts.append(
            pd.DataFrame(
                {
                    "campaign_id": campaign,
                    "customer_id": known.pick(rng, there),
                    "date": sent.normalize(),
                    "arm": np.where(contacted, "contact", "control"),
                    "responded": responded,
                    "response_date": pd.Series(answer).where(responded),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _interactions(rng, people, known, first, last):
    n, days = len(people), (last - first).days
    who = np.repeat(np.arange(n), rng.poisson(3, n) + 1)
    begin = people["joined"].to_numpy("datetime64[D]")
    span = (np.datetime64(last, "D") - begin).astype(int) + 1
    date = begin[who] + (rng.random(len(who)) * span[who]).astype(int).astype("timedelta64[D]")
    # What cannot be reached fails from the day on which the person left, or from the last third of the period.
    lost = np.where(
        people["left"], people["active_until"].to_numpy("datetime64[D]"), np.datetime64(first, "D") + days * 2 // 3
    )
    fails = ~people["reachable"].to_numpy()[who] & (date > lost[who])
    channel = rng.choice(["telephone", "email", "letter"], len(who))
    failed = np.select([channel == "telephone", channel == "email"], ["wrong number", "bounced"], "returned")
    frame = pd.DataFrame(
        {
            "customer_id": known.pick(rng, who),
            "date": date.astype("datetime64[s]"),
            "channel": channel,
            "function": rng.choice(["marketing", "sales", "service"], len(who)),
            "outcome": np.where(fails, failed, "reached"),
        }
    )
    frame = frame.sort_values("date", kind="stable", ignore_index=True)
    frame.insert(0, "interaction_id", [f"I{i:08d}" for i in range(1, len(frame) + 1)])
    return frame


def _survey(rng, people, known, last):
    """Answers on 1 to 10; the satisfied and the loyal answer more often, as they do."""
    loyalty = people["loyalty"].to_numpy()
    asked = people["reachable"].to_numpy() & (rng.random(len(people)) < 0.5)
    who = np.flatnonzero(asked & (rng.random(len(people)) < 1 / (1 + np.exp(0.4 - 0.8 * loyalty))))

    def scale(latent):
        return np.clip(np.round(6.5 + 1.8 * latent + rng.normal(size=len(latent))), 1, 10).astype("int64")

    return pd.DataFrame(
        {
            "respondent_id": [f"R{i:07d}" for i in range(1, len(who) + 1)],
            "customer_id": known.pick(rng, who),
            "date": last.normalize(),
            "satisfaction": scale(people["satisfaction"].to_numpy()[who]),
            "repurchase": scale(loyalty[who]),
            "recommend": scale(loyalty[who]),
        }
    )


def simulate_log(
    folder,
    customers=10_000,
    *,
    seed=0,
    start="2022-01-01",
    months=24,
    r=0.8,
    alpha=3.4,
    a=0.8,
    b=8.0,
    spend=30.0,
):
    """Simulate a transaction log straight to Parquet, one file a month, in order of date.

    The model is the modified BG/NBD: after joining, in the first half of the period, a customer buys again at a
    gamma-distributed weekly rate and drops out with a beta-distributed chance after every purchase, the first included.
    What is held in memory is the state of the customers (some 30 bytes each) and the rows of one month. The folder
    appears when it is complete.

    Parameters
    ----------
    folder : str or pathlib.Path
        Where to write; must not exist yet.
    customers : int, default 10000
        Number of customers; with the defaults a customer has about ten rows.
    seed : int, default 0
        Same seed, same log.
    start : str, default "2022-01-01"
        First day.
    months : int, default 24
        Length of the period.
    r, alpha : float
        Shape and rate, in weeks, of the purchase rates.
    a, b : float
        Parameters of the chance to drop out.
    spend : float, default 30.0
        Mean amount of a purchase.

    Returns
    -------
    pathlib.Path
        The folder, which `crmlab.data.load` reads: `customer_id`, `date`, `amount`.

    Raises
    ------
    DataError
        The folder exists, or a number is not positive.

    Examples
    --------
    >>> import tempfile
    >>> from crmlab.data import load
    >>> with tempfile.TemporaryDirectory() as scratch:
    ...     log = simulate_log(Path(scratch) / "log", 1_000, seed=1)
    ...     int(load(log).customer_id.nunique().execute())
    1000
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(folder)
    if min(customers, months, r, alpha, a, b, spend) <= 0:
        raise DataError("simulate_log needs positive numbers: customers, months, r, alpha, a, b and spend.")
    if folder.exists():
        raise DataError(f"{folder} exists already; name a new folder, or remove it first.")
    rng = np.random.default_rng(seed)
    edges = pd.DatetimeIndex([pd.Timestamp(start) + pd.DateOffset(months=month) for month in range(months + 1)])
    edges = (edges - edges[0]).total_seconds().to_numpy()
    origin = np.datetime64(pd.Timestamp(start), "s")
    # Rates are per second here. What is left of a customer: purchases until the one after which nothing follows.
    rate = rng.gamma(r, 1 / (alpha * 7 * 86_400), customers)
    left = np.minimum(rng.geometric(np.maximum(rng.beta(a, b, customers), 1e-12)) - 1, 2**31 - 1).astype("int32")
    joined = rng.integers(0, max(int(edges[-1] // 2), 1), customers)
    level = rng.gamma(4, spend / 4, customers).astype("float32")
    building = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        for month in range(months):
            low, high = edges[month], edges[month + 1]
            begin = np.maximum(joined, low)
            active = np.flatnonzero((left > 0) & (begin < high))
            counts = rng.poisson(rate[active] * (high - begin[active]))
            who = np.repeat(active, counts)
            moment = begin[who] + (rng.random(len(who)) * (high - begin[who])).astype("int64")
            # The first `left` purchases of the month happen, the others are after the customer has gone.
            order = np.lexsort((moment, who))
            place = np.arange(len(who)) - np.repeat(np.cumsum(counts) - counts, counts)
            kept = place < left[who]
            left[active] -= np.minimum(counts, left[active]).astype("int32")
            new = np.flatnonzero((joined >= low) & (joined < high))
            who = np.concatenate([who[kept], new])
            moment = np.concatenate([moment[order][kept], joined[new]])
            order = np.argsort(moment, kind="stable")
            who, moment = who[order], moment[order].astype("int64")
            amount = np.round(level[who] * rng.gamma(4, 0.25, len(who)), 2)
            month_rows = pa.table(
                {
                    "customer_id": who.astype("int64") + 1,
                    "date": (origin + moment.astype("timedelta64[s]")).astype("datetime64[us]"),
                    "amount": np.maximum(amount, 0.01),
                }
            )
            label = {"reality": f"simulated by crmlab.data.simulate_log(customers={customers}, seed={seed})"}
            pq.write_table(month_rows.replace_schema_metadata(label), building / f"{month:04d}.parquet")
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder
