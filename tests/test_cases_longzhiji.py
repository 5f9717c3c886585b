"""The promises of `crmlab.cases.longzhiji`: laws of the simulation, exact accounts, tables that keep contracts."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from crmlab import cases, data, loyalty
from crmlab.cases import longzhiji
from crmlab.cases.longzhiji import COSTS, LEVELS, REGIONS
from crmlab.data import DataError, sets
from crmlab.report.manifest import Run
from crmlab.report.run import Kernels, execute

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CONTRACTED = ("customers", "orders", "interactions", "service_cases", "campaign_responses", "survey")
# No chance but that of the choices: schools of one size that never differ.
PLAIN = {
    "level_shares": (1.0, 0.0, 0.0, 0.0), "pupils": (100.0,) * 4, "pupil_spend": (50.0,) * 4, "size_spread": 0.0,
    "need_spread": 0.0, "sensitivity_spread": 0.0, "satisfaction_spread": 0.0, "satisfaction_noise": 0.0,
    "xinjiang_schools": 0.0, "demanding": 0.0, "visits": 0.0, "prospect_visits": 0.0, "case_rate": 0.0,
    "courtesy_share": 0.0, "undercut_chance": 0.0, "start_share": 1.0,
}  # fmt: skip


def fen(values):
    """Whole fen of amounts in yuan, and that they are whole."""
    whole = np.rint(np.asarray(values) * 100)
    assert np.allclose(np.asarray(values) * 100, whole, rtol=0, atol=1e-4)
    return whole.astype("int64")


def shares(low=0.0, high=1.0):
    return st.floats(low, high, allow_nan=False)


def assumptions(**fixed):
    """Small firms under any assumptions that decide who buys and what it costs."""
    drawn = {
        "schools": st.integers(1, 60),
        "years": st.integers(1, 3),
        "xinjiang_schools": shares(),
        "start_share": shares(),
        "transactional": shares(),
        "sensitivity_transactional": shares(0, 60),
        "sensitivity_relational": shares(0, 60),
        "habit": shares(0, 5),
        "service_builds": shares(0, 30),
        "service_fades": shares(),
        "satisfaction_gain": shares(0, 2),
        "satisfaction_weight": shares(0, 6),
        "route": st.sampled_from(["mixed", "price", "service"]),
        "incentive": shares(0, 0.5),
        "incentive_xinjiang": shares(0, 0.5),
        "imitation": shares(),
        "undercut": shares(),
        "undercut_chance": shares(),
        "goods": shares(),
        "visit_cost": shares(0, 1000),
        "demanding": shares(),
        "courtesy": shares(0, 3),
    } | {name: st.just(value) for name, value in fixed.items()}
    return st.builds(cases.Assumptions, **drawn)


few = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def firm():
    return cases.simulate_longzhiji()


# Hand-computed: Beijing takes the route service, Guangdong the route price.


def two_schools(**more):
    return cases.Assumptions(schools=2, **(PLAIN | {"incentive": 0.1, "goods": 0.7, "office_cost": 100.0} | more))


def test_accounts_of_two_schools_in_a_year_by_hand():
    # Loyal beyond doubt: advantage 50. Need 100 pupils × 50 yuan, 40% of it in spring; 10% of it is the incentive.
    table = cases.seasons(two_schools(years=1, transactional=0.0, habit=50.0))
    assert table["region"].tolist() == ["Beijing", "Guangdong"] * 2
    assert table["route"].tolist() == ["service", "price"] * 2
    assert table["revenue"].tolist() == [2000, 2000, 3000, 3000]
    assert table["service"].tolist() == [200, 0, 300, 0]
    assert table["discount"].tolist() == [0, 200, 0, 300]
    assert table["goods"].tolist() == [1400, 1400, 2100, 2100]
    assert table["profit"].tolist() == [300, 300, 500, 500]  # the office costs 100


def test_chance_of_a_transactional_school_by_hand():
    # Satisfaction .72 + .5 × .1 = .77 against .72, weight 3: .15 on both routes. Price: 10 × .1 = 1, and from the
    # second season on the rival has copied half of it.
    options = {"transactional": 1.0, "sensitivity_transactional": 10.0, "imitation": 0.5}
    table = cases.seasons(two_schools(years=1, **options))
    assert table["satisfaction"].tolist() == pytest.approx([0.77] * 4)
    assert table["chance"].tolist() == pytest.approx(expit([0.15, 1.15, 0.15, 0.65]))
    undercut = cases.seasons(two_schools(years=1, **(options | {"undercut": 0.2, "undercut_chance": 1.0})))
    assert undercut["rival_discount"].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.25])
    assert undercut["chance"].tolist() == pytest.approx(expit([-1.85, -0.85, -1.85, -1.35]))


def test_switching_cost_that_service_builds_by_hand():
    # Habit 50 keeps both. Service of 10% adds 8 × .1 = .8 a season, of which 30% fades: .8, 1.36, 1.752.
    built = {"transactional": 0.0, "habit": 50.0, "service_builds": 8.0, "service_fades": 0.3}
    table = cases.seasons(two_schools(years=2, **built))
    beijing, guangdong = (table[table["region"] == region]["switching_cost"] for region in ("Beijing", "Guangdong"))
    assert beijing.tolist() == pytest.approx([50, 50.8, 51.36, 51.752])
    assert guangdong.tolist() == [50] * 4


def test_a_school_with_the_rival_has_its_habit_against_the_firm():
    table = cases.seasons(two_schools(years=1, start_share=0.0, transactional=0.0, habit=2.0))
    spring = table[table["season"] == 0]
    assert spring["switching_cost"].tolist() == [-2, -2]
    assert not spring["before"].any()
    assert spring["stays"].isna().all()


def test_money_is_divided_to_the_fen():
    assert longzhiji._split(np.array([100, 7]), np.array([0, 0, 0, 1]), np.array([1.0, 1.0, 1.0, 5.0])).tolist() == [
        33, 34, 33, 7
    ]  # fmt: skip
    assert longzhiji._even(100, np.array([0, 0, 0, 1])).tolist() == [34, 33, 33, 100]


# Laws.


@few
@given(assumptions(incentive=0.0, incentive_xinjiang=0.0), st.integers(0, 99))
def test_without_incentive_the_routes_are_the_same_firm_draw_by_draw(a, seed):
    price, service = (
        cases.seasons(dataclasses.replace(a, route=route), seed=seed).drop(columns="route")
        for route in ("price", "service")
    )
    pd.testing.assert_frame_equal(price, service)


@few
@given(assumptions(), st.integers(0, 99))
def test_profit_is_revenue_less_costs_by_row_region_and_season(a, seed):
    table = cases.seasons(a, seed=seed)
    parts = {name: fen(table[name]) for name in ("revenue", "profit", *COSTS)}
    assert (parts["profit"] == parts["revenue"] - sum(parts[name] for name in COSTS)).all()
    sums = pd.DataFrame(parts)
    for by in ("customer_id", "region", "season", "level"):
        each = sums.groupby(table[by].to_numpy()).sum()
        assert (each["profit"] == each["revenue"] - each[list(COSTS)].sum(axis=1)).all()
    # An office costs the same whatever it sells.
    fixed = sums["fixed"].groupby([table["region"].to_numpy(), table["season"].to_numpy()]).sum()
    assert (fixed == round(a.office_cost * 100)).all()


@few
@given(assumptions(), st.integers(0, 99))
def test_equal_satisfaction_and_equal_money_on_both_routes(a, seed):
    price, service = (cases.seasons(dataclasses.replace(a, route=route), seed=seed) for route in ("price", "service"))
    assert (price["satisfaction"] == service["satisfaction"]).all()
    assert (price["service"] == 0).all()
    assert (service["discount"] == 0).all()
    # Where both routes have the customer, what the one gives as a discount the other spends on service.
    both = price["buys"] & service["buys"]
    assert (price["discount"][both] == service["service"][both]).all()
    assert (price["revenue"][both] == service["revenue"][both]).all()


@few
@given(assumptions(), shares(), st.integers(0, 99))
def test_a_rival_that_goes_lower_never_wins_the_firm_a_customer(a, further, seed):
    lower = dataclasses.replace(a, undercut=a.undercut + further * (1 - a.undercut))
    assert (cases.seasons(lower, seed=seed)["buys"] <= cases.seasons(a, seed=seed)["buys"]).all()


@few
@given(assumptions(), shares(0, 20), st.integers(0, 99))
def test_service_that_binds_more_never_loses_a_customer(a, more, seed):
    binding = dataclasses.replace(a, service_builds=a.service_builds + more)
    assert (cases.seasons(binding, seed=seed)["buys"] >= cases.seasons(a, seed=seed)["buys"]).all()


@few
@given(assumptions(), st.integers(0, 99))
def test_who_buys_has_a_past_and_costs_follow_the_choice(a, seed):
    table = cases.seasons(a, seed=seed)
    n = a.schools
    buys, before = (table[name].to_numpy().reshape(-1, n) for name in ("buys", "before"))
    assert (before[1:] == buys[:-1]).all()
    assert (table["stays"].notna() == table["before"]).all()
    for name in ("revenue", "discount", "goods", "service", "cases"):
        assert (table[name][~table["buys"]] == 0).all()
    transactional = table["kind"] == "transactional"
    assert (table["switching_cost"][transactional] == 0).all()
    assert table["chance"].between(0, 1).all()


@few
@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=8).flatmap(
        lambda totals: st.tuples(
            st.just(totals), st.lists(shares(0.1, 9), min_size=len(totals), max_size=4 * len(totals))
        )
    )
)
def test_what_is_divided_adds_up_and_no_part_is_negative(drawn):
    totals, weights = drawn
    group = np.arange(len(weights)) * len(totals) // len(weights)
    parts = longzhiji._split(np.array(totals), group, np.array(weights))
    assert (parts >= 0).all()
    assert np.bincount(group, parts).tolist() == totals


# Randomness.


def test_same_seed_same_tables_other_seed_other_tables():
    small = cases.Assumptions(schools=60, years=2)
    first, again, other = (cases.simulate_longzhiji(small, seed=seed) for seed in (5, 5, 6))
    for name, frame in first.items():
        pd.testing.assert_frame_equal(frame, again[name])
        assert name == "products" or not frame.equals(other[name]), name


def test_a_change_of_one_part_leaves_the_others():
    small = cases.Assumptions(schools=80, years=3)
    base = cases.simulate_longzhiji(small, seed=1)
    visited = cases.simulate_longzhiji(dataclasses.replace(small, visits=9.0, case_rate=3.0, goods=0.5), seed=1)
    for name in ("customers", "products", "orders", "survey", "campaign_responses"):
        pd.testing.assert_frame_equal(base[name], visited[name])
    assert len(visited["interactions"]) > len(base["interactions"])
    longer = cases.seasons(dataclasses.replace(small, years=5), seed=1)
    pd.testing.assert_frame_equal(base["seasons"], longer[: len(base["seasons"])])


def test_the_light_run_is_the_truth_of_the_tables(firm):
    pd.testing.assert_frame_equal(cases.seasons(), firm["seasons"])


# Tables.


@pytest.mark.parametrize("name", CONTRACTED)
def test_every_table_keeps_its_contract(firm, name):
    found = data.validate(firm[name], name)
    assert found.failures.empty
    assert found.kept.count().execute() == len(firm[name])


def test_every_table_says_that_it_is_simulated(firm):
    small = cases.simulate_longzhiji(cases.Assumptions(schools=5, years=1), seed=3)
    assert set(small) == set(firm)
    for frame in [*small.values(), *firm.values(), cases.seasons(cases.Assumptions(schools=5))]:
        assert frame.attrs["reality"].startswith("simulated by crmlab")


def test_keys_are_known_and_titles_suit_the_level(firm):
    known, titles = set(firm["customers"]["customer_id"]), firm["products"].set_index("product_id")
    for name in (*CONTRACTED, "truth", "seasons"):
        assert set(firm[name]["customer_id"]) <= known
    orders = firm["orders"]
    assert orders.groupby("order_id")["customer_id"].nunique().eq(1).all()
    assert orders.groupby("order_id")["date"].nunique().eq(1).all()
    level = titles["level"][orders["product_id"]].to_numpy()
    assert ((level == "all") | (level == orders["level"])).all()
    assert (orders["amount"] > 0).all()
    assert not orders.duplicated(["order_id", "product_id"]).any()


def test_orders_visits_cases_and_gifts_cost_what_the_accounts_say(firm):
    truth = firm["seasons"].set_index(["customer_id", "season"])

    def added(table, column):
        return firm[table].groupby(["customer_id", "season"])[column].sum().reindex(truth.index, fill_value=0)

    assert (fen(added("orders", "amount")) == fen(truth["revenue"] - truth["discount"])).all()
    assert (fen(added("orders", "retail_disc")) == fen(truth["discount"])).all()
    assert (fen(added("interactions", "cost")) == fen(truth["visits"] + truth["service"])).all()
    assert (fen(added("service_cases", "cost")) == fen(truth["cases"])).all()
    assert fen(firm["campaign_responses"]["cost"].sum()) == fen(truth["courtesy"].sum())
    bought = firm["orders"].groupby(["customer_id", "season"]).size().index
    assert set(bought) == set(truth.index[truth["buys"]])


def test_the_truth_of_a_school_is_the_sum_of_its_seasons(firm):
    truth, by = firm["truth"].set_index("customer_id"), firm["seasons"].groupby("customer_id")
    for name in ("revenue", "profit", *COSTS):
        assert (fen(truth[name]) == fen(by[name].sum())).all()
    assert (fen(truth["contribution"]) == fen(truth["profit"] + truth["fixed"])).all()
    assert (truth["seasons_bought"] == by["buys"].sum()).all()


def test_status_joined_and_responses_agree_with_the_orders(firm):
    customers = firm["customers"].set_index("customer_id")
    first = firm["orders"].groupby("customer_id")["date"].min()
    prospects = customers.index[customers["status"] == "prospect"]
    assert set(first.index).isdisjoint(prospects)
    assert customers.loc[prospects, "joined"].isna().all()
    assert (customers.loc[first.index, "joined"] <= first).all()
    answers = firm["campaign_responses"]
    assert answers["response_date"].notna().eq(answers["responded"] == 1).all()


def test_a_firm_that_nobody_buys_from_has_empty_tables_with_their_columns():
    deserted = cases.Assumptions(schools=4, years=1, start_share=0.0, transactional=0.0, habit=50.0)
    tables = cases.simulate_longzhiji(deserted)
    assert len(tables["orders"]) == len(tables["survey"]) == 0
    assert {"customer_id", "date", "amount"} <= set(tables["orders"])
    assert len(tables["customers"]) == 4


def test_courtesy_changes_choices_only_where_it_is_assumed_to():
    small = cases.Assumptions(schools=200, years=3)
    none, all_of_them = (dataclasses.replace(small, courtesy_share=share) for share in (0.0, 1.0))
    assert (cases.seasons(none)["buys"] == cases.seasons(all_of_them)["buys"]).all()
    moved = cases.seasons(dataclasses.replace(all_of_them, courtesy=2.0))["buys"]
    assert (moved >= cases.seasons(none)["buys"]).all()
    assert moved.sum() > cases.seasons(none)["buys"].sum()


def test_the_survey_asks_what_its_description_says_and_follows_the_truth(firm):
    spec, answers = loyalty.spec("longzhiji"), firm["survey"]
    assert set(spec.items) <= set(answers)
    assert min(map(len, spec.constructs.values())) >= 3
    assert loyalty.audit(answers, spec).warnings == []
    truth = firm["truth"].set_index("customer_id").loc[answers["customer_id"]].reset_index()
    scores = answers.replace(99, np.nan)
    relational = truth["kind"] == "relational"
    assert scores["switch_1"][relational].mean() > scores["switch_1"][~relational].mean() + 1
    assert scores["price_1"][relational].mean() < scores["price_1"][~relational].mean() - 1
    assert abs(scores["sat_1"][relational].mean() - scores["sat_1"][~relational].mean()) < 0.6


# What the default assumptions bring about, over seeds and by construction.


@pytest.fixture(scope="module")
def runs():
    """Stays by route and kind outside Xinjiang, and what Xinjiang looks like, for a dozen seeds."""
    return [cases.seasons(seed=seed) for seed in range(12)]


def test_equal_satisfaction_unequal_retention_of_relational_schools(runs):
    for table in runs:
        relational = table[(table["kind"] == "relational") & (table["region"] != "Xinjiang")]
        stays = relational.groupby("route")["stays"].mean()
        assert stays["service"] > stays["price"] + 0.04


def test_transactional_schools_come_for_the_price_and_go_for_it(runs):
    table = pd.concat(runs)
    table = table[(table["kind"] == "transactional") & (table["region"] != "Xinjiang")]
    stays = table.groupby(["route", "undercuts"])["stays"].mean()
    assert stays["price", False] > stays["service", False] + 0.1
    assert stays["price", True] < 0.3
    back = table[(table["season"] > 0) & ~table["before"] & table["buys"]]
    assert len(back) > 100


def test_xinjiang_has_loyal_schools_a_large_share_and_no_profit(runs):
    profit = []
    for table in runs:
        there = (table["region"] == "Xinjiang").to_numpy()
        sums = table.groupby(there)[["revenue", "need", "profit"]].sum()
        always = (table.groupby("customer_id")["buys"].sum() >= 10).groupby(
            table.groupby("customer_id")["region"].first() == "Xinjiang"
        ).mean()  # fmt: skip
        share = sums["revenue"] / sums["need"]
        assert share[True] > share[False] + 0.05
        assert always[True] > always[False] + 0.1
        assert sums.loc[False, "profit"] > 0
        profit.append(sums.loc[True, "profit"])
    assert np.mean(profit) < 0
    # By construction: with the incentive of the other regions it earns.
    calm = cases.seasons(cases.Assumptions(incentive_xinjiang=0.08))
    assert calm[calm["region"] == "Xinjiang"]["profit"].sum() > 0


def test_some_schools_never_leave_and_never_pay(firm):
    truth = firm["truth"]
    loyal = truth[truth["seasons_bought"] == 12]
    assert (loyal["contribution"] < 0).sum() >= 5
    assert loyal[loyal["contribution"] < 0]["region"].eq("Xinjiang").mean() > 0.5


def test_the_price_war_is_right_where_the_rival_never_goes_lower():
    peaceful = cases.Assumptions(undercut_chance=0.0, imitation=0.0)
    for seed in range(3):
        price, service = (
            cases.seasons(dataclasses.replace(peaceful, route=route), seed=seed) for route in ("price", "service")
        )
        price, service = (table[table["region"] != "Xinjiang"]["profit"].sum() for table in (price, service))
        assert price > service


# Errors in words.


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"incentive": 1.5}, r"incentive must lie between 0 and 0\.5 \(share of the list price\), not 1\.5"),
        ({"schools": 0}, r"schools must be a whole number between 1 and"),
        ({"schools": 12.5}, r"schools must be a whole number .* not 12\.5"),
        ({"years": True}, "years must be a whole number"),
        ({"undercut": float("nan")}, "undercut must lie between 0 and 1"),
        ({"habit": "strong"}, "habit must lie between 0 and 50 .* not 'strong'"),
        ({"level_shares": (0.5, 0.5, 0.5, 0.5)}, "level_shares must add up to 1, not to 2"),
        (
            {"pupils": (1, 2)},
            r"pupils must be 4 numbers in brackets, one a level \(primary, junior, senior, university\)",
        ),
        ({"route": "both"}, "route must be mixed, price or service, not 'both'"),
    ],
)
def test_wrong_assumptions_are_refused_in_words(wrong, said):
    with pytest.raises(DataError, match=said):
        cases.Assumptions(**wrong)


@pytest.mark.parametrize("seed", [-1, 0.5, "one", True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(DataError, match="seed must be a whole number from 0 on"):
        cases.seasons(seed=seed)


def test_assumptions_are_frozen_and_printed_with_unit_and_meaning():
    with pytest.raises(dataclasses.FrozenInstanceError):
        cases.Assumptions().incentive = 0.2
    table = cases.assumption_table(cases.Assumptions(incentive=0.2))
    assert table.index.tolist() == [field.name for field in dataclasses.fields(cases.Assumptions)]
    assert table.loc["incentive", "value"] == "0.2"
    assert (table[["unit", "meaning"]].map(len) > 3).all().all()


# Catalogue.


def test_the_case_names_stand_in_the_regions():
    assert len(REGIONS) == 23  # 22 offices and the base
    assert REGIONS["Xinjiang"] == "新疆"
    named = ["Guangdong", "Jiangsu", "Fujian", "Shandong", "Hubei", "Henan", "Liaoning", "Gansu", "Hunan", "Yunnan"]
    assert set(named) < set(REGIONS)
    assert len(LEVELS) == 4


def test_the_sets_of_the_catalogue_are_the_tables(firm):
    for name, frame in firm.items():
        listed = "longzhiji" if name == "orders" else f"longzhiji_{name}"
        assert data.present(listed)
        assert data.catalogue().loc[listed, "reality"] == "simulated"
        assert "simulated" in data.catalogue().loc[listed, "title"]
        assert data.load(listed).count().execute() == len(frame)
    assert data.fetch("longzhiji", "elsewhere").name == "longzhiji.py"
    assert str(data.audit("longzhiji")).startswith("Audit of longzhiji (simulated)")


def test_a_made_set_that_differs_is_refused_with_what_was_expected(monkeypatch):
    tables = {**longzhiji.tables(), "orders": longzhiji.tables()["orders"][:-1]}
    monkeypatch.setattr(longzhiji, "tables", lambda: tables)
    with pytest.raises(DataError, match=r"longzhiji made other rows .* expected 23,310, found 23,309.* numpy"):
        sets.open_dataset("longzhiji")


def test_the_catalogue_loads_no_case_before_its_set_is_opened():
    code = "import sys; from crmlab import data; data.catalogue(); data.present('longzhiji'); " \
           "assert 'crmlab.cases.longzhiji' not in sys.modules"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)


# The notebooks, unchanged, on the simulated log: up to where nothing depends on the data set any more.


@pytest.mark.parametrize(
    ("name", "end", "options"),
    [
        ("02_five_questions", "## Published and computed", {"currency": "¥"}),
        ("03_customer_lifecycle", "## Published and computed", {"compare_with": ""}),
        ("04_churn", "## With a contract", {}),
        ("05_satisfaction_and_loyalty", "## Published and computed", {"replicates": 100}),
        ("06_customer_lifetime_value", "## How sure are we?", {"draws": 100, "currency": "¥"}),
    ],
)
def test_a_notebook_runs_on_the_simulated_firm(name, end, options, tmp_path):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith(end) or f"\n{end}" in cell.source)
    del notebook.cells[last:]
    nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    options = {"dataset": "longzhiji", **options}
    executed = execute(Run(name, name, tmp_path / f"{name}.ipynb", options, 240.0), Kernels())
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if output.get("name") != "stderr"
    ]
    text = "\n".join("".join(part) for part in texts)
    assert "simulated" in text
    assert "nan%" not in text
