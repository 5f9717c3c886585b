"""The book company's case: what it says, how findings are graded, where a conclusion holds, what a rival must offer."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crmlab import cases
from crmlab.data import DataError


def test_facts_are_quoted_once_and_from_the_sections_of_the_essay_in_order():
    facts = cases.case_facts()
    assert list(facts) == ["fact", "quotation", "section"]
    assert len(facts) >= 25
    assert facts["fact"].is_unique
    assert facts["quotation"].is_unique
    assert facts["quotation"].str.fullmatch(r"[\u4e00-\u9fff0-9“”,、]{6,}").all()
    assert facts["section"].str.fullmatch(r"(4\.[12]|5\.[1-4])( \(\d\))?").all()
    assert facts["section"].is_monotonic_increasing


def test_the_facts_of_the_case_are_all_there():
    told = "".join(cases.case_facts()["quotation"])
    for wanted in ["一九九五年", "2000萬", "22個省", "大學", "客戶聯絡進展表", "新疆", "轉換成本較低", "不賺錢"]:
        assert wanted in told


def test_grade_counted_by_hand():
    # Three of ten have it; four are flagged, two of them rightly.
    truth = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    found = cases.grade(truth, [1, 1, 0, 1, 1, 0, 0, 0, 0, 0])
    assert found["count"].to_dict() == {"precision": 2, "recall": 2, "accuracy": 7, "base rate": 3}
    assert found["of"].to_dict() == {"precision": 4, "recall": 3, "accuracy": 10, "base rate": 10}
    assert found["value"].tolist() == pytest.approx([0.5, 2 / 3, 0.7, 0.3])
    # Wilson's interval of 2 of 4 is symmetric about a half.
    assert found.loc["precision", ["low", "high"]].sum() == pytest.approx(1)


def test_grade_matches_customers_by_name():
    truth = pd.Series({"a": True, "b": False, "c": False})
    assert cases.grade(truth, pd.Series({"c": False, "b": False, "a": True}))["value"].tolist()[:3] == [1, 1, 1]
    with pytest.raises(DataError, match="not about the same customers"):
        cases.grade(truth, pd.Series({"a": True, "b": False, "x": False}))


def test_grade_where_nobody_is_flagged_has_no_precision():
    found = cases.grade([1, 0, 0], [0, 0, 0])
    assert np.isnan(found.loc["precision", "value"])
    assert found.loc["recall", "value"] == 0


@pytest.mark.parametrize(
    ("truth", "flagged", "words"),
    [
        ([], [], "no customers"),
        ([1, None], [1, 0], "1 of 2 answers of the truth are missing"),
        ([1, 0], [1, 2], "finding has the value 2"),
        ([1, 0], [1], "about 2 customers and the finding about 1"),
        (["yes", "no"], [1, 0], "value yes"),
    ],
)
def test_grade_says_what_is_wrong(truth, flagged, words):
    with pytest.raises(DataError, match=re.escape(words)):
        cases.grade(truth, flagged)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_grade_swaps_precision_and_recall_with_truth_and_finding(pairs):
    truth, flagged = map(list, zip(*pairs, strict=True))
    there, back = cases.grade(truth, flagged), cases.grade(flagged, truth)
    there, back = there[["value", "low", "high"]], back[["value", "low", "high"]]
    assert there.loc["precision"].equals(back.loc["recall"])
    assert there.loc["recall"].equals(back.loc["precision"])
    assert there.loc["accuracy"].equals(back.loc["accuracy"])


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 5))
def test_drawn_hits_each_piece_of_each_range_once(n, seed):
    points = cases.drawn({"a": (0.0, 1.0), "b": (-2.0, 6.0)}, n, seed)
    for name, low, width in (("a", 0.0, 1.0), ("b", -2.0, 8.0)):
        pieces = np.floor((points[name] - low) / width * n + 1e-9).astype(int).clip(0, n - 1)
        assert sorted(pieces) == list(range(n))
    assert points.equals(cases.drawn({"a": (0.0, 1.0), "b": (-2.0, 6.0)}, n, seed))


@pytest.mark.parametrize(
    ("ranges", "n", "words"),
    [({}, 5, "at least one assumption"), ({"a": (1, 0)}, 5, "range of a is (1, 0)"), ({"a": (0, 1)}, 0, "one point")],
)
def test_drawn_says_what_is_wrong(ranges, n, words):
    with pytest.raises(DataError, match=re.escape(words)):
        cases.drawn(ranges, n)


def test_holds_counts_and_has_wilsons_interval():
    found = cases.holds(pd.DataFrame({"x": [True] * 8 + [False] * 2, "y": [True] * 10}))
    assert found["share"].tolist() == [0.8, 1.0]
    # By hand: (8 + 1.92073) / 13.84146 -/+ 1.95996 / 13.84146 * sqrt(8 * 2 / 10 + .96036).
    assert found.loc["x", ["low", "high"]].tolist() == pytest.approx([0.49016, 0.94332], abs=1e-4)
    assert found.loc["y", "high"] == 1
    with pytest.raises(DataError, match="conclusion 'z' has the value 3"):
        cases.holds(pd.DataFrame({"z": [1, 3]}))


def test_deciders_puts_what_decides_first_and_knows_its_sign():
    points = cases.drawn({"nothing": (0, 1), "down": (0, 1), "up": (0, 1)}, n=300)
    found = cases.deciders(points, np.exp(points["up"]) - 3 * points["down"])
    assert found.index.tolist() == ["down", "up", "nothing"]
    assert found.loc["down", "high"] < 0 < found.loc["up", "low"]
    assert found.loc["nothing", "low"] < 0 < found.loc["nothing", "high"]
    assert cases.deciders(points, points["up"]).loc["up", "correlation"] == pytest.approx(1)


def test_deciders_says_what_is_wrong():
    points = cases.drawn({"a": (0, 1)}, n=20)
    for outcome, words in ([np.ones(20), "same at all"], [np.ones(3), "outcome for each"], [[np.nan] * 20, "missing"]):
        with pytest.raises(DataError, match=words):
            cases.deciders(points, outcome)


def test_later_spend_counted_by_hand():
    # The ten with the least share halve their spending, the others double it; the groups do not mix.
    share, before = np.arange(20) / 20, np.r_[np.full(10, 4.0), np.full(10, 3.0)]
    found = cases.later_spend_by_share(share, before, np.r_[np.full(10, 2.0), np.full(10, 6.0)], groups=2, n_boot=50)
    assert found["customers"].tolist() == [10, 10]
    assert found["share"].tolist() == pytest.approx([0.225, 0.725])
    assert found[["ratio", "low", "high"]].to_numpy().tolist() == [[0.5] * 3, [2.0] * 3]


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(float, 30, elements=st.floats(1, 100)), arrays.arrays(float, 30, elements=st.floats(0, 100)))
def test_later_spend_does_not_depend_on_the_currency(before, after):
    share = np.linspace(0, 1, 30)
    found = cases.later_spend_by_share(share, before, after, groups=3, n_boot=20)
    other = cases.later_spend_by_share(share, 8 * before, 8 * after, groups=3, n_boot=20)
    pd.testing.assert_frame_equal(found, other)
    assert (found["low"] <= found["high"]).all()


@pytest.mark.parametrize(
    ("share", "before", "after", "words"),
    [
        ([0.1] * 30, [1.0] * 30, [1.0] * 29, "must agree"),
        ([0.1] * 30, [1.0] * 30, [1.0] * 30, "too few for 5 groups"),
        ([0.1] * 60, [1.0] * 59 + [0.0], [1.0] * 60, "1 customers spent nothing before"),
        ([np.nan] + [0.1] * 59, [1.0] * 60, [1.0] * 60, "1 of 60 customers have a value that is missing"),
    ],
)
def test_later_spend_says_what_is_wrong(share, before, after, words):
    with pytest.raises(DataError, match=words):
        cases.later_spend_by_share(share, before, after)


def test_every_character_of_the_case_has_a_glyph():
    import matplotlib.pyplot as plt

    from crmlab import plots
    from crmlab.cases.longzhiji import REGIONS

    # A missing glyph is a warning, and a warning fails.
    plots.use_theme()
    figure = plt.figure()
    told = [*cases.case_facts()["quotation"], *REGIONS.values(), "龙之脊 龍之脊圖書有限公司 客戶聯絡進展表"]
    for row, words in enumerate(told):
        figure.text(0, row / len(told), words)
    figure.canvas.draw()
    plt.close(figure)


def test_later_spend_and_discount_shares_of_a_small_log_counted_by_hand():
    log = pd.DataFrame(
        {
            "customer_id": ["a", "a", "a", "b", "b", "c"],
            "date": ["2024-01-01", "2024-01-02", "2024-06-01", "2024-01-01", "2024-12-31", "2024-12-01"],
            "amount": [8.0, 10.0, 5.0, 6.0, 3.0, 7.0],
            "off": [2.0, None, 9.0, 6.0, 0.0, 1.0],
            "more": [0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
        }
    )
    found = cases.discount_shares(log, ["off", "more"], split="2024-06-01").to_pandas().sort_values("customer_id")
    # c bought nothing before June and is in no group.
    assert found["customer_id"].tolist() == ["a", "b"]
    assert found[["before", "after"]].to_numpy().tolist() == [[18, 5], [6, 3]]
    assert found["share"].tolist() == pytest.approx([2 / 20, 6 / 12])


@pytest.mark.parametrize(
    ("discounts", "split", "words"),
    [
        ([], None, "at least one column"),
        (["rebate"], None, "no column rebate"),
        (["name"], None, "name must be the amount"),
        (["off"], None, "discounts below 0, such as -2"),
        (["more"], "2030-01-01", "split 2030-01-01 must lie after"),
    ],
)
def test_discount_shares_says_what_is_wrong(discounts, split, words):
    log = pd.DataFrame(
        {
            "customer_id": [1, 2],
            "date": ["2024-01-01", "2024-02-01"],
            "amount": [1.0, 2.0],
            "off": [-2.0, 1.0],
            "more": [0.0, 1.0],
            "name": ["x", "y"],
        }
    )
    with pytest.raises(DataError, match=words):
        cases.discount_shares(log, discounts, split)


def test_band_rates_counted_by_hand():
    values, outcome = pd.Series([0, 1, 2, 5, 9, 50]), pd.Series([0, 1, 0, 1, 1, 0])
    found = cases.band_rates(values, outcome, [-1, 1, 9, np.inf])
    assert found.index.tolist() == ["above -1 to 1", "above 1 to 9", "above 9"]
    assert found[["customers", "responses"]].to_numpy().tolist() == [[2, 1], [3, 2], [1, 0]]
    assert found["rate"].tolist() == pytest.approx([1 / 2, 2 / 3, 0])
    with pytest.raises(DataError, match="1 of 6 values lie in no band"):
        cases.band_rates(values, outcome, [0, 100])
    with pytest.raises(DataError, match="must be 1"):
        cases.band_rates(values, values, [-1, 100])


def test_spelled_multiplies_and_formats():
    table = pd.DataFrame({"gap": [0.0412], "low": [-0.01], "high": [0.09]}, index=["stays"])
    assert cases.spelled(table, "gap", "+.1f", 100)["stays"] == "+4.1 (-1.0 to +9.0)"


@settings(deadline=None)
@given(st.floats(0.5, 50), st.floats(-5, 5), st.floats(0, 0.5), st.floats(0.01, 0.99))
def test_at_the_compensating_discount_as_many_leave_as_wanted(sensitivity, attachment, own, leave):
    offer = cases.compensating_discount(sensitivity, attachment, own, leave)
    advantage = sensitivity * (own - offer) + attachment
    assert 1 / (1 + np.exp(advantage)) == pytest.approx(leave)


@settings(deadline=None)
@given(st.floats(0.5, 50), st.floats(0, 5), st.floats(0.1, 3))
def test_switching_cost_is_an_entry_barrier(sensitivity, attachment, more):
    low, high = cases.compensating_discount(sensitivity, [attachment, attachment + more])
    assert high - low == pytest.approx(more / sensitivity)
    # A school without attachment needs only to be offered what it has.
    assert cases.compensating_discount(sensitivity, 0.0, 0.1) == pytest.approx(0.1)


def test_compensating_discount_says_what_is_wrong():
    with pytest.raises(DataError, match="do not look at the price"):
        cases.compensating_discount([1.0, 0.0], 2)
    with pytest.raises(DataError, match="between 0 and 1"):
        cases.compensating_discount(1, 2, leave=1)


SMALL = cases.Assumptions(schools=80, years=2)
IDLE = replace(SMALL, incentive=0.0, incentive_xinjiang=0.0)


def test_without_incentive_all_routes_are_one_firm():
    found = cases.compare_routes(IDLE, range(3), ["price", "service", "nothing", "mixed"])
    for route in ("service", "nothing", "mixed"):
        assert found.xs(route, level="route").equals(found.xs("price", level="route"))


def test_routes_are_measured_as_the_rows_say():
    table = cases.seasons(cases.on_route(SMALL, "service"), seed=4)
    row = cases.compare_routes(SMALL, [4], ["service"]).loc[(4, "service")]
    before = table[table["before"]]
    assert row["stays"] == pytest.approx(before["buys"].mean())
    assert row["stays"] == pytest.approx(table["stays"].mean())
    assert row["satisfaction"] == pytest.approx(before["satisfaction"].mean())
    assert row["share"] == pytest.approx(table["revenue"].sum() / table["need"].sum())
    assert row["margin"] == pytest.approx(100 * table["profit"].sum() / table["need"].sum())


@pytest.mark.parametrize("by", ["season", "region", "kind", "level"])
def test_routes_by_group_add_up_to_the_whole(by):
    parts = cases.compare_routes(SMALL, [1], ["price"], by=by)
    whole = cases.compare_routes(SMALL, [1], ["price"]).loc[(1, "price")]
    assert parts.index.names == ["seed", "route", by]
    assert parts[["revenue", "profit"]].sum().tolist() == pytest.approx(whole[["revenue", "profit"]].tolist())


def test_routes_say_what_is_wrong():
    with pytest.raises(DataError, match="no route 'charm'"):
        cases.compare_routes(SMALL, [0], ["charm"])
    with pytest.raises(DataError, match="at least one seed"):
        cases.compare_routes(SMALL, [])


def test_mean_interval_is_students_and_one_run_has_none():
    found = cases.mean_interval(pd.DataFrame({"x": [1.0, 3.0], "y": [5.0, 5.0]}))
    # Two runs: t(1) = 12.7062 times the standard error, which is 1.
    assert found.loc["x"].tolist() == pytest.approx([2, 2 - 12.7062, 2 + 12.7062, 2], abs=1e-4)
    assert found.loc["y", ["low", "high"]].tolist() == [5, 5]
    assert cases.mean_interval(pd.Series([1.0], name="x"))[["low", "high"]].isna().all(axis=None)
    with pytest.raises(DataError, match="no runs"):
        cases.mean_interval(pd.Series([], dtype=float))


def test_break_even_is_zero_where_nothing_is_given_and_names_the_best():
    found = cases.break_even([0.0, 0.3], [0.0, 0.1], SMALL, seeds=[0, 1])
    assert found.index.names == ["incentive", "undercut"]
    assert (found.xs(0.0, level="incentive")["difference"] == 0).all()
    assert (found.xs(0.0, level="incentive")["best"] == "nothing").all()
    # More is given than the books leave: nobody can earn by that.
    assert (found.xs(0.3, level="incentive")["best"] == "nothing").all()
    assert (found["low"] <= found["difference"]).all()
    same = found["difference"] == found["service"] - found["price"]
    assert (same | np.isclose(found["difference"], found["service"] - found["price"])).all()


def test_entry_barrier_by_hand_and_by_simulation():
    found = cases.entry_barrier([0.2, 0.4], [0, 2], replace(cases.Assumptions(), schools=4000))
    barrier = found["barrier"].groupby("served").first()
    # Habit 2, service 8 x 0.08 = 0.64 and 70 % of it once more, satisfaction 3 x 0.5 x 0.08; sensitivity 6.
    assert barrier.tolist() == pytest.approx([(2 + 0.12) / 6, (2 + 0.64 * 1.7 + 0.12) / 6])
    assert found["schools"].iloc[0] == 4000
    # Four intervals of 95 %; with this seed all hold the formula.
    assert found["expected"].between(found["low"], found["high"]).all()
    with pytest.raises(DataError, match="whole numbers from 0 on"):
        cases.entry_barrier([0.1], [1.5])


def test_explore_runs_each_point_with_its_own_seed_and_names():
    points = pd.DataFrame({"incentive": [0.0, 0.1], "years": [1.2, 2.0]}, index=["idle", "active"])
    base = replace(SMALL, incentive_xinjiang=0.0)
    found = cases.explore(points, base, first_seed=7)
    assert found.index.tolist() == ["idle", "active"]
    assert found.loc["idle", ["stays_gap", "satisfaction_gap", "margin_gap"]].eq(0).all()
    direct = cases.compare_routes(replace(base, incentive=0.1, years=2), [8]).loc[8]
    assert found.loc["active", "stays_gap"] == direct.loc["service", "stays"] - direct.loc["price", "stays"]
    with pytest.raises(DataError, match="'luck' is no assumption"):
        cases.explore(pd.DataFrame({"luck": [1.0]}))
    with pytest.raises(DataError, match="'route' is no assumption"):
        cases.explore(pd.DataFrame({"route": ["price"]}))


def test_loyal_losses_counted_by_hand():
    rows = {"region": "Xinjiang", "route": "price", "kind": "relational", "fixed": 1.0}
    table = pd.DataFrame(
        [
            {"customer_id": who, "buys": buys, "revenue": 10.0 * buys, "profit": profit, **rows}
            for who, buys, profit in [("a", True, -3.0)] * 4 + [("a", False, -1.0)] + [("b", True, 1.0)] * 3
        ]
    )
    found = cases.loyal_losses(table)
    assert found["bought"].tolist() == [0.8, 1.0]
    assert found["contribution"].tolist() == [-8.0, 6.0]
    assert found["loyal"].tolist() == [True, True]
    assert found["loses"].tolist() == [True, False]


def test_accounts_from_the_tables_agree_with_the_truth():
    firm = cases.simulate_longzhiji(SMALL, seed=3)
    found, truth = cases.school_accounts(firm, SMALL.goods), firm["truth"].set_index("customer_id")
    # Goods are rounded to the fen each season in the accounts, and once here.
    assert (found["contribution"] - truth["contribution"]).abs().max() < 0.05
    assert found["revenue"].to_numpy() == pytest.approx(truth["revenue"].to_numpy())
    assert (found["bought"] * 4).tolist() == pytest.approx(truth["seasons_bought"].tolist())
    early, late = cases.school_accounts(firm, SMALL.goods, 0, 1), cases.school_accounts(firm, SMALL.goods, 2)
    both = early[["revenue", "contribution"]] + late[["revenue", "contribution"]]
    pd.testing.assert_frame_equal(both, found[["revenue", "contribution"]])


def test_accounts_do_not_read_the_truth():
    firm = cases.simulate_longzhiji(SMALL, seed=3)
    known = {name: table for name, table in firm.items() if name not in ("truth", "seasons", "survey")}
    assert cases.school_accounts(known, SMALL.goods).equals(cases.school_accounts(firm, SMALL.goods))


def test_history_counted_by_hand():
    firm = cases.simulate_longzhiji(replace(SMALL, schools=3), seed=0)
    orders = pd.DataFrame({"customer_id": ["S0001"] * 3 + ["S0002"], "season": [0, 2, 3, 3], "amount": 1.0})
    orders = orders.assign(retail_disc=0.0, date=pd.Timestamp("2010-02-15"))
    found = cases.school_accounts(firm | {"orders": orders}, 0.5)
    assert found[["bought", "left", "frequency", "recency", "T"]].iloc[0].tolist() == [0.75, 1, 2, 3, 3]
    assert found[["bought", "left", "frequency", "recency", "T"]].iloc[1].tolist() == [0.25, 0, 0, 0, 0]
    assert np.isnan(found["T"].iloc[2])
    assert found["revenue"].tolist() == [3, 1, 0]
    assert found["margin"].tolist() == [1.5, 0.5, 0]


def test_accounts_say_what_is_wrong():
    firm = cases.simulate_longzhiji(SMALL, seed=3)
    with pytest.raises(DataError, match="run from 0 to 3"):
        cases.school_accounts(firm, 0.7, 2, 9)
    with pytest.raises(DataError, match="goods is a share"):
        cases.school_accounts(firm, 72)


def test_predicted_contribution_of_the_simple_rule_goes_on_as_before():
    firm = cases.simulate_longzhiji(replace(SMALL, years=4), seed=3)
    early = cases.school_accounts(firm, SMALL.goods, 0, 3)
    found = cases.predicted_contribution(early, seasons=4, horizon=8)
    assert found["as before"].to_numpy() == pytest.approx(2 * early.loc[found.index, "contribution"].to_numpy())
    assert (np.sign(found["BG/BB"]) == np.sign(found["as before"])).all()
