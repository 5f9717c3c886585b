"""One answer on every engine: each public function over a log, on DuckDB, Polars, Spark and a PostgreSQL server."""

import functools
import inspect
import os
import re
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import ibis
import numpy as np
import pandas as pd
import pytest
from ibis import _

from crmlab import cases, clv, data, lifecycle, market
from crmlab.market import baskets
from tests import engines

ENGINES = ["polars", "postgres", "pyspark"]
MEASURES = {
    "revenue": ("sum", "amount"), "lines": ("count", "amount"), "customers": ("nunique", "customer_id"),
    "mean": ("mean", "amount"), "least": ("min", "amount"), "latest": ("max", "date"),
}  # fmt: skip
MONTHS = clv.month_calendar("1996-12-01", "2025-12-31")


@functools.cache
def models():
    """A model of buying and one of spending, fitted once."""
    summary = clv.summarize("cdnow_sample", calibration_end="1997-09-30")
    return clv.MBGNBD().fit(summary), clv.GammaGamma().fit(summary)


def scored(log):
    """Predictions, once a state and joined back in the engine."""
    buying, spending = models()
    return buying.predict(split(log), horizon=26), buying.predict(split(log), spend=spending, margin=0.3)


def fitted(log):
    """What is fitted to the states that the engine counts."""
    summary = split(log)
    fit = clv.MBGNBD().fit(summary)
    return fit.params, fit.bse, fit.predict(summary)


def spent(log):
    """What is fitted to amounts: their sums differ in the last digit from engine to engine."""
    summary = split(log.filter(log.amount > 0))
    fit = clv.GammaGamma().fit(summary)
    return fit.params, fit.model.independence(summary)


def in_order(table):
    """A summary as a frame, the rows in one order: it decides who gets which random numbers."""
    return table.to_pandas().sort_values("customer_id", ignore_index=True)


def split(log, **options):
    return clv.summarize(log, calibration_end=clv.middle(log), **options)


def known(log):
    """What a model says of each customer, as `key_customers` wants it; a table of the engine."""
    table = lifecycle.rfm(log)
    return table.select("customer_id", value=_.frequency * 1.5, p_alive=_.r * 0.2, p_alive_before=_.f * 0.2)


def segments(log, score):
    return lifecycle.rfm(log).select("customer_id", segment=score)


def durations(log):
    summary = clv.summarize(log, unit="D")
    return summary.mutate(event=(_.frequency > 0).ifelse(1, 0), days=_.recency + 1, often=_.frequency > 1)


def contracts(log):
    return durations(log).mutate(duration=_.frequency % 5 + 1).select("customer_id", "duration", "event")


def opportunity(log):
    found = clv.opportunities(log, "M", calibration_end=closing(clv.middle(log)))
    fit = clv.BGBB().fit(found)
    return found, fit.params, fit.predict(found, horizon=6)


def closing(day):
    return str((pd.Period(day, "M") - 1).end_time.date())


def features(log):
    return lifecycle.rfm(log).select("customer_id", "recency", "frequency", "monetary")


# Every public function that takes a log, or a table that is made of one, as it is called; with a row of its own for
# what an argument changes in what the engine is asked.
CASES = {
    "cases.discount_shares": lambda log: cases.discount_shares(log.mutate(off=_.amount.abs() / 10), ["off"]),
    "clv.by_frequency": lambda log: clv.by_frequency(models()[0], split(log)),
    "clv.compare": lambda log: clv.compare(models()[:1], split(log)),
    "clv.coverage": lambda log: clv.coverage(models()[0], in_order(split(log)), draws=20),
    "clv.customer_equity": lambda log: clv.customer_equity(
        models()[0], in_order(split(log.filter(log.amount > 0))), models()[1], draws=20),
    "clv.middle": clv.middle,
    "clv.opportunities": opportunity,
    "clv.opportunities W": lambda log: clv.opportunities(log, "W"),
    "clv.opportunities Y": lambda log: clv.opportunities(log, "Y"),
    "clv.rolling": lambda log: clv.rolling(log, [clv.MBGNBD()], 2, horizon=8),
    "clv.states": lambda log: clv.states(clv.summarize(log)),
    "clv.states split": lambda log: clv.states(split(log), ["frequency_holdout"]),
    "clv.summarize": clv.summarize,
    "clv.summarize D": lambda log: clv.summarize(log, "D", timing=True),
    "clv.summarize M": lambda log: split(log, unit="M", timing=True),
    "clv.summarize Y": lambda log: split(log, unit="Y", calendar=MONTHS),
    "clv.summarize no amounts": lambda log: split(log.drop("amount")),
    "clv.summarize later end": lambda log: clv.summarize(log, observation_end="2025-12-31"),
    "clv.tracking": lambda log: clv.tracking(models()[0], log, clv.middle(log), clv.middle(log)),
    "clv.window_factors": clv.window_factors,
    "clv.window_factors three": lambda log: clv.window_factors(log, 3),
    "clv.window_retention": clv.window_retention,
    "clv.window_retention three": lambda log: clv.window_retention(log, 3),
    "clv predict": scored,
    "clv fit": fitted,
    "clv fit of spend": spent,
    "clv contracts": lambda log: clv.SBG().fit(contracts(log)).params,
    "clv regular timing": lambda log: clv.MBGCNBD(k=2).fit(clv.summarize(log, timing=True)).params,
    "clv calendar": lambda log: clv.BGNBD().fit(clv.summarize(log, calendar=MONTHS[["dec"]]),
                                                calendar=MONTHS[["dec"]]).params,
    "data.audit": lambda log: audited(log),
    "data.completeness": data.completeness,
    "data.cube": lambda log: data.cube(log, ["category", "product_id"], MEASURES),
    "data.cube rollup": lambda log: data.cube(log, ["category", "shop"], MEASURES, rollup=True),
    "data.load": data.load,
    "data.rollup_check": lambda log: parts(log),
    "data.timeliness": lambda log: data.timeliness({"orders": log}, "2025-12-31"),
    "data.write_parquet": lambda log: written(log),
    "lifecycle.at_risk": lifecycle.at_risk,
    "lifecycle.buying_rates": lambda log: lifecycle.buying_rates(log, min_days=30),
    "lifecycle.buying_rates panel": lambda log: lifecycle.buying_rates(log, panel=True),
    "lifecycle.chain_forecast": lambda log: lifecycle.chain_forecast(log, draws=50),
    "lifecycle.chain_forecast silence": lambda log: lifecycle.chain_forecast(log, memory="silence", draws=50),
    "lifecycle.cohorts W": lambda log: lifecycle.cohorts(log, "W"),
    "lifecycle.cohorts M": lambda log: lifecycle.cohorts(log, definition="on_or_after"),
    "lifecycle.cohorts Q": lambda log: lifecycle.cohorts(log, "Q", "orders"),
    "lifecycle.cohorts Y": lambda log: lifecycle.cohorts(log, "Y", "revenue", left_truncated=False),
    "lifecycle.cohorts by": lambda log: lifecycle.cohorts(log, by="shop"),
    "lifecycle.cohorts revenue by": lambda log: lifecycle.cohorts(log, "Q", "revenue", by="shop"),
    "lifecycle.concentration": lambda log: lifecycle.concentration(paid(log), n_boot=20),
    "lifecycle.concentration_growth": lambda log: lifecycle.concentration_growth(log, n_boot=9),
    "lifecycle.cox": lambda log: lifecycle.cox(durations(log), "often", "days", "event"),
    "lifecycle.cox_by_time": lambda log: lifecycle.cox_by_time(durations(log), "often", "days", "event", [30, 90]),
    "lifecycle.cross": lambda log: lifecycle.cross(segments(log, _.r), segments(log, _.f)),
    "lifecycle.cumulative_incidence": lambda log: lifecycle.cumulative_incidence(
        durations(log).mutate(cause=(_.event == 1).ifelse("again", "none")), "days", "cause", "none"),
    "lifecycle.frequency_thresholds": lambda log: lifecycle.frequency_thresholds(log, n_boot=5, min_days=30),
    "lifecycle.front_page": lambda log: lifecycle.front_page(log, segments(log, _.r), minimum=1),
    "lifecycle.front_page frame": lambda log: lifecycle.front_page(log, by_score(log), minimum=1),
    "lifecycle.funnel": lambda log: lifecycle.funnel(log, within=120, frequent=3, recent=60),
    "lifecycle.gaps": lifecycle.gaps,
    "lifecycle.habits": lifecycle.habits,
    "lifecycle.habits back": lambda log: lifecycle.habits(log, clv.middle(log), 60, 3),
    "lifecycle.idle_return": lambda log: lifecycle.idle_return(log, 60),
    "lifecycle.key_customers": lifecycle.key_customers,
    "lifecycle.key_customers values": lambda log: lifecycle.key_customers(log, known(log), new=40),
    "lifecycle.key_customers frame": lambda log: lifecycle.key_customers(log, known(log).to_pandas()),
    "lifecycle.lorenz": lambda log: lifecycle.lorenz(paid(log)),
    "lifecycle.markov_test": lifecycle.markov_test,
    "lifecycle.measures": lambda log: lifecycle.measures(log, "shop", "category", "product_id", "shop"),
    "lifecycle.migration": lambda log: lifecycle.migration(segments(log, _.r), segments(log, _.f)),
    "lifecycle.orders_of_known": lambda log: lifecycle.orders_of_known(log, "Q"),
    "lifecycle.pooled_return": lambda log: lifecycle.pooled_return(log, 60),
    "lifecycle.product_view": lifecycle.product_view,
    "lifecycle.rates": lifecycle.rates,
    "lifecycle.rates W": lambda log: lifecycle.rates(log, "W"),
    "lifecycle.retention": lifecycle.retention,
    "lifecycle.rfm": lifecycle.rfm,
    "lifecycle.rfm ten": lambda log: lifecycle.rfm(log, 10, clv.middle(log)),
    "lifecycle.season": lifecycle.season,
    "lifecycle.segment_numbers": lambda log: lifecycle.segment_numbers(
        features(log), ["recency", "frequency"], [2], n_boot=1, n_null=2),
    "lifecycle.segments": lambda log: lifecycle.segments(features(log), ["recency", "frequency"], 2, n_boot=2),
    "lifecycle.states W": lambda log: lifecycle.states(log, "W"),
    "lifecycle.states M": lifecycle.states,
    "lifecycle.states Q": lambda log: lifecycle.states(log, "Q", left_truncated=False),
    "lifecycle.states Y": lambda log: lifecycle.states(log, "Y"),
    "lifecycle.survival": lambda log: lifecycle.survival(durations(log), "days", "event", by="often"),
    "lifecycle.transitions": lifecycle.transitions,
    "lifecycle.transitions order 2": lambda log: lifecycle.transitions(log, order=2),
    "lifecycle.trial_repeat": lambda log: lifecycle.trial_repeat(log, within=30, washout=10),
    "lifecycle.win_back": lifecycle.win_back,
    "market.balance": lambda log: market.balance(trial(log), "arm", "b", ["recency"]),
    "market.effect": lambda log: market.effect(trial(log), "monetary", "arm", "b", ["recency"]),
    "market.effect_by": lambda log: market.effect_by(trial(log), "monetary", "arm", "b", ["often"]),
    "market.idic": market.idic,
    "market.month_rule": lambda log: market.month_rule(years(log), permutations=9),
    "market.next_purchase": lambda log: market.next_purchase(log, clv.middle(log), 30, 2),
    "market.outcomes": lambda log: market.outcomes(log, buyers(log), clv.middle(log), clv.middle(log), 60),
    "market.profile_rule": lambda log: market.profile_rule(
        log.filter(_.category.notnull()), births(log), clv.middle(log), smallest=1),
    "market.recommend": lambda log: market.recommend(log, clv.middle(log), 2, factors=2),
    "market.rules": lambda log: market.rules(log.drop("order_id"), clv.middle(log), 0.01, 0.05),
    "market.rules counted in the engine": lambda log: counted_there(log),
    "market.rules three": lambda log: market.rules(
        log.drop("order_id"), clv.middle(log), 0.001, 0.05, max_len=3, top_items=5),
    "market.sample_ratio": lambda log: market.sample_ratio(trial(log), "arm"),
    "market.sequential": lambda log: market.sequential(trial(log), "often", "arm", "b", "day", 50),
    "market.standard_options": lambda log: market.standard_options(log.filter(_.order_id.notnull())),
    "market.two_step_rules": lambda log: market.two_step_rules(
        log, clv.middle(log), category="category", k=2, smallest=2),
    "market.uplift": lambda log: market.uplift(
        in_order(trial(log)), "monetary", "arm", "a", "b", ["recency"], [0.5], 2),
}  # fmt: skip
# Fits to sums of amounts in another order.
CLOSE = {"clv fit of spend": 1e-6}

# Who pays back has no share of the whole; with so few customers, some value tells all who come back.
REFUSED = {(f"lifecycle.{name}", "hostile") for name in ("concentration_growth", "cox", "cox_by_time")}
# Hardly anybody there buys in one month of a year only.
REFUSED |= {("market.month_rule", "hostile")}

# Customer tables, not logs: they are brought into the embedded DuckDB, whatever engine they come from.
EMBEDDED = {
    "data.check": "prints what data.audit finds",
    "data.contact_status": "a customer table",
    "data.customer_file": "records of customers",
    "data.merge": "proposals",
    "data.propose_duplicates": "records of customers",
    "data.propose_likely_duplicates": "records of customers",
    "data.pseudonymize": "a keyed hash of ids",
    "data.survivorship_bias": "a customer table",
    "data.validate": "a contract, which lists every cell",
    "market.contact_list": "a table of candidates, written to a file",
    "market.read_contacts": "a file",
    "market.read_experiment": "one row a customer, as a frame",
    "market.read_responses": "a file",
}


def trial(log):
    """An experiment that nobody made: arms by the score of recency."""
    return lifecycle.rfm(log).mutate(arm=(_.r % 2 == 0).ifelse("a", "b"), often=_.frequency > 2, day=1)


def years(log):
    """The log, and as many days later the same again: months repeat."""
    return log.union(log.mutate(date=_.date + ibis.interval(days=365)), distinct=False)


def buyers(log):
    return log.select("customer_id").distinct().to_pandas().sort_values("customer_id", ignore_index=True)


def births(log):
    """A birthday for each customer: half a year before the first purchase."""
    first = log.group_by("customer_id").aggregate(first=_.date.cast("date").min()).to_pandas()
    return first.assign(birth_date=pd.to_datetime(first.pop("first")) - pd.Timedelta(days=180))


def counted_there(log):
    with mock.patch.object(baskets, "LINES", 10):
        return market.rules(log.drop("order_id"), clv.middle(log), 0.01, 0.05)


def paid(log):
    """What each customer paid, of those who paid something."""
    sums = log.group_by("customer_id").aggregate(paid=_.amount.sum().cast("float64").round(6))
    return sums.filter(_.paid > 0).paid.to_pandas()


def written(log):
    with tempfile.TemporaryDirectory() as folder:
        data.write_parquet(clv.summarize(log), Path(folder) / "summary.parquet")
        return data.load(Path(folder) / "summary.parquet", date="calibration_end").to_pandas()


def parts(log):
    added = {name: MEASURES[name] for name in ("revenue", "lines", "customers")}
    found = data.rollup_check(log, ["category", "shop"], added)
    # What is left between two sums of the same amounts is in the last digits of both.
    return found.assign(surplus=found["surplus"].round(6))


def by_score(log):
    return lifecycle.rfm(log).select("customer_id", segment=_.r).to_pandas()


def audited(log):
    found = data.audit(log, "2025-12-31")
    return found.rows, found.findings.drop(columns=["first_rows", "example"]), found.facts, found.kept, found.fit


def cdnow():
    log = data.load("cdnow_sample").select("customer_id", "date", "amount", "quantity").to_pandas()
    row = np.arange(len(log))
    # Products that the real log does not have: made up, from the place of a row.
    log["product_id"] = [f"p{n}" for n in row * 7919 % 23]
    log["category"] = [f"c{n}" for n in row * 7919 % 23 % 5]
    log["shop"] = [f"s{n}" for n in row * 31 % 3]
    log["order_id"] = [f"o{n}" for n in row // 2]
    return log


def hostile():
    """Several rows a day at all times of it, returns, gaps in columns, ids that are hard to write and to sort."""
    rng = np.random.default_rng(7)
    ids = [
        "顾客一",
        "顧客二",
        "O'Brien",
        'a "b"',
        "back\\slash",
        "Ä",
        "a",
        "B",
        "b",
        "A",
        "007",
        "7",
        "x" * 200,
        "😀",
        "%s",
    ]
    ids += [f"会员-{n:03d}" for n in range(45)]
    n = 1400
    who = rng.choice(len(ids), n, p=np.arange(1, len(ids) + 1) / sum(range(1, len(ids) + 1)))
    start = rng.integers(0, 300, len(ids))[who]
    day = np.datetime64("2023-12-30", "us") + (start + rng.geometric(0.008, n).clip(max=400)).astype("timedelta64[D]")
    clock = rng.choice(np.array([0, 1, 43_200_000_000, 86_399_999_999]), n).astype("timedelta64[us]")
    log = pd.DataFrame({"customer_id": np.array(ids, dtype=object)[who], "date": day + clock})
    log["amount"] = np.round(rng.lognormal(2, 1.5, n), 2) * rng.choice([1, 1, 1, 1, 1, 1, -0.5, 0.0], n)
    log["quantity"] = rng.integers(1, 4, n).astype(float)
    log["product_id"] = pd.Series(rng.choice(["茶", "咖啡", "a", "B", "b'", "Z"], n), dtype=object)
    log["category"] = pd.Series(rng.choice(["饮料", "drinks", None], n), dtype=object)
    log["shop"] = pd.Series(rng.choice(["北京", "b", "A", "a"], n), dtype=object)
    log["order_id"] = pd.Series(rng.choice([f"单{i}" for i in range(500)] + [None], n), dtype=object)
    # Twice the same row, and the same day again.
    return pd.concat([log, log.head(20), log.head(9).assign(amount=1.0)], ignore_index=True)


LOGS = {
    "cdnow": cdnow,
    "hostile": hostile,
    "gaps": lambda: hostile().assign(amount=lambda t: t["amount"].where(t.index % 10 > 0)),
}


@functools.cache
def frame(name):
    return LOGS[name]()


@pytest.fixture(scope="module")
def logs(request, tmp_path_factory):
    """By engine and log the table there, written once."""
    connections, tables = {}, {}

    def table(engine, name):
        if (engine, name) not in tables:
            if engine not in connections:
                connections[engine] = engines.connection(engine, request)
            folder = tmp_path_factory.mktemp(f"{engine}-{name}")
            tables[engine, name] = engines.put(connections[engine], f"crmlab_test_{name}", frame(name), folder)
        return tables[engine, name]

    yield table
    for connection in connections.values():
        if connection.name != "pyspark":
            connection.disconnect()


def outcome(call, log):
    """What a function answers, or in which words it refuses."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = plain(call(log))
        except data.DataError as error:
            found = f"refused: {error}"
    return found, sorted({str(one.message) for one in said if one.category is RuntimeWarning})


def plain(found):
    """Tables and numbers in one form: rows in the order of their keys, every kind of number a float."""
    if isinstance(found, ibis.Table):
        found = found.to_pandas()
        # Rows of a table have no order, and the order of text is the engine's.
        amounts = [c for c in found.columns if pd.api.types.is_float_dtype(found[c])]
        keys = [c for c in found.columns if c not in amounts]
        return plain(found.sort_values(keys + amounts, ignore_index=True))
    if isinstance(found, pd.Series):
        found = found.to_frame("value")
    if isinstance(found, pd.DataFrame):
        found = found if isinstance(found.index, pd.RangeIndex) and not found.index.name else found.reset_index()
        if "customer_id" in found and found["customer_id"].is_unique:
            found = found.sort_values("customer_id", ignore_index=True)
        return {str(name): column(found[name]) for name in found.columns}
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items()}
    if isinstance(found, tuple | list):
        return [plain(part) for part in found]
    return found


def column(cells):
    if pd.api.types.is_bool_dtype(cells) or not pd.api.types.is_numeric_dtype(cells):
        return [None if pd.isna(cell) else same_kind(cell) for cell in cells]
    return cells.astype(float).to_numpy()


def same_kind(cell):
    return str(pd.Timestamp(cell)) if hasattr(cell, "year") else cell


def assert_same(found, expected, to, where=""):
    assert type(found) is type(expected), f"{where}: {found!r} and {expected!r}"
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name in expected:
            assert_same(found[name], expected[name], to, f"{where}.{name}")
    elif isinstance(expected, np.ndarray):
        np.testing.assert_allclose(found, expected, rtol=to, atol=to, err_msg=where)
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, to, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=to, abs=to, nan_ok=True), where
    else:
        assert found == expected, where


ANSWERS = {}
# Spark takes a second for each query: there all functions run on the hostile log, these on the real one too.
ON_BOTH = (
    "clv.states", "clv.summarize", "clv predict", "clv fit", "data.cube", "data.rollup_check", "lifecycle.cohorts M",
    "lifecycle.retention", "lifecycle.rfm", "lifecycle.states M", "lifecycle.transitions", "lifecycle.concentration",
    "lifecycle.lorenz", "market.month_rule",
)  # fmt: skip


# What a function makes of missing amounts: it does without amounts, or refuses them.
ON_GAPS = (
    "clv.summarize", "clv.summarize no amounts", "data.audit", "data.completeness", "data.cube", "data.rollup_check",
    "lifecycle.concentration_growth", "lifecycle.gaps", "lifecycle.product_view", "lifecycle.rates", "lifecycle.rfm",
    "lifecycle.states M",
)  # fmt: skip


def logs_of(engine, case):
    """The logs on which a case is compared."""
    real = ["cdnow"] if engine != "pyspark" or case in ON_BOTH else []
    return [*real, "hostile", *(["gaps"] if engine != "pyspark" and case in ON_GAPS else [])]


def answer(case, name, logs):
    if (case, name) not in ANSWERS:
        ANSWERS[case, name] = outcome(CASES[case], logs("duckdb", name))
    return ANSWERS[case, name]


@pytest.mark.parametrize(
    ("engine", "case", "name"),
    [(engine, case, name) for engine in ENGINES for case in CASES for name in logs_of(engine, case)],
)
def test_an_engine_answers_as_duckdb_does(engine, case, name, logs):
    expected = answer(case, name, logs)
    found = outcome(CASES[case], logs(engine, name))
    assert_same(found[0], expected[0], CLOSE.get(case, 1e-9))
    assert found[1] == expected[1]


@pytest.mark.parametrize("name", ["cdnow", "hostile"])
@pytest.mark.parametrize("case", CASES)
def test_hardly_any_comparison_is_one_of_refusals(case, name, logs):
    assert str(answer(case, name, logs)[0]).startswith("refused") == ((case, name) in REFUSED)


def over_a_log():
    """Public functions that take a log, or a table that stays in its engine, as their documentation says."""
    for room in (cases, clv, data, lifecycle, market):
        for name in room.__all__:
            function = getattr(room, name)
            if inspect.isfunction(function):
                names = inspect.signature(function).parameters
                kinds = re.findall(r"^ *[\w, ]+ : (.*)$", function.__doc__ or "", re.MULTILINE)
                if "log" in names or any("ibis.Table" in kind for kind in kinds[: len(names)]):
                    yield f"{room.__name__.removeprefix('crmlab.')}.{name}"


def test_every_public_function_over_a_log_is_compared():
    compared = {case.split()[0] for case in CASES}
    functions = set(over_a_log())
    assert {"clv.summarize", "lifecycle.states", "data.cube"} <= functions
    assert functions - compared - set(EMBEDDED) == set()
    assert compared - {"clv"} <= {*functions, "lifecycle.concentration", "lifecycle.lorenz", "data.timeliness"}


def test_spark_computes_in_processes_of_its_own(spark):
    assert spark.range(8).count() == 8
    # The driver is listed too.
    assert spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() == 3


@pytest.mark.skipif("CRMLAB_TEST_POSTGRES" in os.environ, reason="a server of your own may sort text by its codes")
def test_the_server_sorts_text_by_a_language(postgres_url):
    con = ibis.connect(postgres_url)
    assert con.raw_sql("SELECT 'a' < 'B'").fetchone()[0]
    con.disconnect()
