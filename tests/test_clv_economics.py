"""The closed forms of keeping and acquiring: hand-computed cases, laws, and refusals in words."""

import datetime
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import clv, data
from crmlab.clv.economics import READINGS, TIMINGS
from crmlab.data import DataError

share = st.floats(0.0, 0.99)
rate = st.floats(0.01, 0.5)


def series(r, d, g=0.0, timing="start", years=3000):
    t = np.arange(years)
    paid = (r * (1 + g) / (1 + d)) ** t
    return {"start": paid, "end": paid / (1 + d), "renewal": paid * r / (1 + d)}[timing].sum()


class TestCustomerValue:
    @pytest.mark.parametrize("timing", TIMINGS)
    @pytest.mark.parametrize(("r", "d", "g"), [(0, 0.1, 0), (0.5, 0, 0), (0.8, 0.1, 0), (0.9, 0.1, 0.05)])
    def test_is_the_sum_over_the_years(self, r, d, g, timing):
        assert clv.customer_value(r, d, growth=g, timing=timing) == pytest.approx(series(r, d, g, timing), rel=1e-9)

    def test_margin_multiplies_and_acquisition_is_deducted(self):
        assert clv.customer_value(0.5, 0, margin=30, acquisition=45) == pytest.approx(15)

    @settings(deadline=None)
    @given(share, share, rate, st.sampled_from(TIMINGS))
    def test_rises_with_retention(self, one, other, d, timing):
        low, high = sorted((one, other))
        assert clv.customer_value(low, d, timing=timing) <= clv.customer_value(high, d, timing=timing)

    @settings(deadline=None)
    @given(share, rate)
    def test_conventions_differ_by_what_they_should(self, r, d):
        start, end, renewal = (clv.customer_value(r, d, timing=timing) for timing in TIMINGS)
        assert start == pytest.approx(end * (1 + d))
        assert start == pytest.approx(1 + renewal)

    def test_a_scalar_gives_a_number_and_arrays_broadcast(self):
        assert np.ndim(clv.customer_value(0.8)) == 0
        assert clv.customer_value(np.full((3, 1), 0.8), np.full(4, 0.1)).shape == (3, 4)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"retention": 80}, "retention must be a share between 0 and 1 .*not 80"),
            ({"retention": [0.5, np.nan]}, "retention must be a share between 0 and 1 .*not nan"),
            ({"retention": "high"}, "retention must be a number or numbers, not 'high'"),
            ({"retention": 0.8, "discount": -0.1}, r"discount must be 0 or more \(0.10 for 10 % a year\), not -0.1"),
            ({"retention": 0.8, "growth": -1}, "growth must be above -1"),
            ({"retention": 0.8, "margin": np.inf}, "margin must be a finite number, not inf"),
            ({"retention": 1, "discount": 0}, "The value is infinite: retention 1 with discount 0 and growth 0"),
            ({"retention": [0.5, 0.95], "growth": 0.2}, "infinite: retention 0.95 with discount 0.1 and growth 0.2"),
            ({"retention": 0.8, "timing": "begin"}, "timing must be one of 'start', 'end', 'renewal', not 'begin'"),
        ],
    )
    def test_what_cannot_be_is_refused_in_words(self, arguments, words):
        with pytest.raises(DataError, match=words):
            clv.customer_value(**arguments)


class TestLift:
    @pytest.mark.parametrize("timing", ["start", "end"])
    def test_table_of_five_points_holds_at_the_start_and_at_the_end_of_the_year(self, timing):
        lifts = clv.value_lift([0.6, 0.7, 0.8, 0.85, 0.9], timing=timing)
        assert lifts == pytest.approx([0.5 / 0.45 - 1, 0.4 / 0.35 - 1, 0.2, 0.25, 1 / 3])
        assert (100 * lifts).round().tolist() == [11, 14, 20, 25, 33]

    def test_table_of_five_points_is_another_one_when_only_those_who_renew_pay(self):
        lifts = clv.value_lift([0.6, 0.9], timing="renewal")
        assert lifts == pytest.approx([0.65 / 0.45 / (0.6 / 0.5) - 1, 0.95 / 0.15 / (0.9 / 0.2) - 1])
        assert (100 * lifts).round().tolist() == [20, 41]

    def test_from_90_to_95_percent_undiscounted_doubles_exactly(self):
        assert clv.value_lift(0.90, discount=0) == pytest.approx(1.0, abs=1e-12)
        assert clv.value_lift(0.90, discount=0, timing="end") == pytest.approx(1.0, abs=1e-12)
        assert clv.value_lift(0.90, discount=0, timing="renewal") == pytest.approx(19 / 9 - 1)

    def test_growth_and_acquisition_and_fixed_costs_lever_by_hand(self):
        assert clv.value_lift(0.9, growth=0.05) == pytest.approx(0.155 / 0.1025 - 1)
        assert clv.value_lift(0.8, acquisition=2) == pytest.approx((1.1 / 0.25 - 2) / (1.1 / 0.30 - 2) - 1)
        assert clv.value_lift(0.8, acquisition=2, timing="end") == pytest.approx(0.5)
        assert clv.value_lift(0.8, fixed_share=0.5) == pytest.approx(0.2 * clv.profit_leverage(0.5))

    def test_fewer_defections_undiscounted_do_the_same_at_every_retention(self):
        lifts = clv.value_lift([0, 0.3, 0.6, 0.95], reading="fewer defections", discount=0)
        assert lifts == pytest.approx(1 / 0.95 - 1)

    @settings(deadline=None)
    @given(st.floats(0, 0.9), st.floats(0.001, 0.1), rate)
    def test_points_do_at_least_as_much_as_the_other_readings(self, r, k, d):
        points, fewer, more = (clv.value_lift(r, k, reading, d) for reading in READINGS)
        assert points >= fewer - 1e-12
        assert points >= more - 1e-12
        assert (fewer >= more - 1e-12) if r <= 0.5 else (more >= fewer - 1e-12)

    @settings(deadline=None)
    @given(st.floats(0, 0.94), st.floats(0, 0.94), rate)
    def test_points_do_more_where_more_stay_already(self, one, other, d):
        low, high = sorted((one, other))
        assert clv.value_lift(low, discount=d) <= clv.value_lift(high, discount=d) + 1e-12

    def test_is_missing_beyond_all_customers_and_where_there_was_no_profit(self):
        assert np.isnan(clv.value_lift([0.96, 0.5], acquisition=[0, 5])).all()
        assert clv.value_lift(0.95) == pytest.approx(0.5), "from .95 to all of them is still defined"

    def test_no_change_is_no_lift(self):
        assert clv.value_lift([0.2, 0.9], 0, acquisition=0.5, fixed_share=0.2) == pytest.approx([0, 0], abs=1e-15)

    def test_refuses_an_unknown_reading_and_fixed_costs_that_take_all(self):
        with pytest.raises(DataError, match="reading must be one of 'points', 'fewer defections', 'more retention'"):
            clv.value_lift(0.8, reading="percent")
        with pytest.raises(DataError, match="fixed_share must be a share from 0 to below 1"):
            clv.value_lift(0.8, fixed_share=1)

    @settings(deadline=None)
    @given(st.floats(0.05, 3), st.floats(0.01, 0.1), rate, st.floats(-0.05, 0.0))
    def test_retention_for_a_lift_gives_that_lift(self, lift, k, d, g):
        r = clv.retention_for_lift(lift, k, d, g)
        if np.isfinite(r):
            assert clv.value_lift(r, k, discount=d, growth=g) == pytest.approx(lift, rel=1e-6)
        else:
            ends = (0.0, 1 - k)
            assert not ends[0] <= (1 + d) / (1 + g) - k * (1 + 1 / lift) <= ends[1]

    def test_85_percent_is_out_of_reach_of_five_points_at_a_discount_of_ten_percent(self):
        assert np.isnan(clv.retention_for_lift(0.85))
        assert clv.value_lift(0.95) == pytest.approx(0.50)

    def test_retention_for_a_lift_needs_positive_numbers(self):
        with pytest.raises(DataError, match="lift must be positive"):
            clv.retention_for_lift(0)

    @pytest.mark.parametrize("timing", TIMINGS)
    @settings(deadline=None)
    @given(st.floats(1.01, 20), rate, st.floats(-0.1, 0.01))
    def test_break_even_retention_makes_the_value_nothing(self, timing, a, d, g):
        r = clv.break_even_retention(a, d, g, timing)
        if np.isfinite(r) and r > 0:
            assert clv.customer_value(r, d, growth=g, acquisition=a, timing=timing) == pytest.approx(0, abs=1e-6 * a)

    def test_break_even_by_hand(self):
        assert clv.break_even_retention(2) == pytest.approx(0.55)
        assert clv.break_even_retention(1) == 0
        assert np.isnan(clv.break_even_retention(50, discount=0.1, timing="start"))

    def test_years_as_a_customer(self):
        assert clv.expected_lifetime([0, 0.9, 0.95, 1]) == pytest.approx([1, 10, 20, np.inf])


class TestKeepOrAcquire:
    def test_by_hand(self):
        row = clv.keep_or_acquire(10, 0.05, 60, kept_value=300, new_value=240).iloc[0]
        assert row["cost_per_kept"] == pytest.approx(200)
        assert row["ratio"] == pytest.approx(0.3)
        assert row["keep_return"] == pytest.approx(1.5)
        assert row["acquire_return"] == pytest.approx(4)
        assert row["break_even_effect"] == pytest.approx(10 / 60 * 240 / 300)
        assert not row["keep"]

    @settings(deadline=None)
    @given(st.floats(1, 100), st.floats(0.001, 1), st.floats(1, 1000), st.floats(1, 1000), st.floats(1, 1000))
    def test_at_the_break_even_effect_both_return_the_same(self, cost, effect, acquisition, kept, new):
        row = clv.keep_or_acquire(cost, effect, acquisition, kept, new).iloc[0]
        at = clv.keep_or_acquire(cost, row["break_even_effect"], acquisition, kept, new).iloc[0]
        assert at["keep_return"] == pytest.approx(at["acquire_return"])

    def test_a_programme_that_keeps_nobody_has_no_finite_cost(self):
        table = clv.keep_or_acquire(10, [-0.01, 0.0, 0.1], 60)
        assert table["cost_per_kept"].tolist() == [np.inf, np.inf, pytest.approx(100)]
        assert table["ratio"].tolist() == [0, 0, pytest.approx(0.6)]
        assert table["keep"].tolist() == [False, False, False]

    def test_costs_must_be_positive(self):
        with pytest.raises(DataError, match="acquisition must be positive, not 0"):
            clv.keep_or_acquire(10, 0.1, 0)


class TestReferrals:
    def test_a_quarter_each_is_one_and_a_third(self):
        assert clv.referral_multiplier(0.25) == pytest.approx(4 / 3)

    def test_counts_the_generations_one_by_one(self):
        """New customers of a year, by hand: those whom the customers of the year before have brought."""
        active, born = 1.0, 1.0
        for _ in range(4000):
            new = 0.1 * active
            born, active = born + new, 0.8 * active + new
        assert clv.referral_multiplier(0.1, retention=0.8) == pytest.approx(born)

    def test_the_value_is_multiplied_when_discounted(self):
        own, worth, active = clv.customer_value(0.7, 0.1), 0.0, 1.0
        for year in range(2000):
            worth += active * 1.1**-year
            active = active * (0.7 + 0.15)
        assert own * clv.referral_multiplier(0.15, 0.7, 0.1) == pytest.approx(worth)

    def test_decay_by_hand_and_at_its_ends(self):
        q, decay = 0.5, 0.4
        assert clv.referral_multiplier(q, decay=0) == pytest.approx(1 + q)
        assert clv.referral_multiplier(q, decay=decay) == pytest.approx(
            sum(q**n * decay ** (n * (n - 1) / 2) for n in range(60))
        )
        assert clv.referral_multiplier(3.0, decay=0.5) == pytest.approx(
            sum(3.0**n * 0.5 ** (n * (n - 1) / 2) for n in range(60))
        )

    @settings(deadline=None)
    @given(st.floats(0, 0.95), st.floats(0, 1), st.floats(0, 1))
    def test_rises_with_referrals_and_with_less_decay(self, q, decay, other):
        low, high = sorted((decay, other))
        assert 1 <= clv.referral_multiplier(q, decay=low) <= clv.referral_multiplier(q, decay=high) * (1 + 1e-12)

    @pytest.mark.parametrize("arguments", [{"referrals": 1}, {"referrals": 0.3, "retention": 0.7}])
    def test_growth_without_end_is_refused(self, arguments):
        with pytest.raises(DataError, match="the base grows for ever"):
            clv.referral_multiplier(**arguments)

    def test_negative_referrals_are_refused(self):
        with pytest.raises(DataError, match="referrals must be 0 or more"):
            clv.referral_multiplier(-0.1)


def curves(**columns):
    table = {"people": [1000, 400], "value": [200, 150], "ceiling": [0.1, 0.3], "rate": [0.1, 0.05]} | columns
    return pd.DataFrame(table, index=["acquire", "keep"])


def worth(spend, table):
    x = np.asarray(spend, dtype=float) / table["people"].to_numpy()[:, None]
    each = clv.response(x, table["ceiling"].to_numpy()[:, None], table["rate"].to_numpy()[:, None])
    return ((table["people"] * table["value"]).to_numpy()[:, None] * each).sum(axis=0)


class TestSplitBudget:
    @pytest.mark.parametrize("budget", [100, 3000, 12000, 30000])
    def test_no_split_of_a_grid_does_better(self, budget):
        table = curves()
        found = clv.split_budget(budget, table)
        spent = found["spend"].sum()
        first = np.linspace(0, spent, 20001)
        best = worth([first, spent - first], table).max()
        assert found["worth"].sum() >= best - 1e-9 * best
        assert found["worth"].sum() == pytest.approx(best, rel=1e-6)

    @settings(deadline=None)
    @given(st.just(0.0) | st.floats(0.01, 1e6), st.floats(1, 1e4), st.floats(0.01, 0.9), st.floats(0.001, 2))
    def test_the_next_unit_of_money_brings_the_same_wherever_any_is_spent(self, budget, value, ceiling, rate):
        found = clv.split_budget(budget, curves(value=[200, value], ceiling=[0.1, ceiling], rate=[0.1, rate]))
        some = found["per_head"] > 1e-9
        returns = found["marginal_return"]
        assert found["spend"].sum() <= budget * (1 + 1e-9) + 1e-9
        if some.any():
            assert returns[some].max() == pytest.approx(returns[some].min(), rel=1e-6)
            assert (returns[~some] <= returns[some].min() * (1 + 1e-6)).all()
            assert returns[some].min() >= 1 - 1e-9
        if found["spend"].sum() < budget * (1 - 1e-9):
            assert (returns <= 1 + 1e-9).all(), "money is left only where it would not come back"

    def test_with_money_without_end_the_marginal_cost_is_the_value(self):
        found = clv.split_budget(np.inf, curves())
        assert found["marginal_cost"].tolist() == pytest.approx([200, 150])
        assert found["marginal_return"].tolist() == pytest.approx([1, 1])
        assert (found["average_cost"] < found["marginal_cost"]).all()

    def test_corners(self):
        nothing = clv.split_budget(0, curves())
        assert nothing["spend"].tolist() == [0, 0]
        assert nothing["average_cost"].isna().all()
        all_to_one = clv.split_budget(50, curves(value=[2000, 150]))
        assert all_to_one["spend"].tolist() == pytest.approx([50, 0])
        hopeless = clv.split_budget(np.inf, curves(value=[1, 150]))
        assert hopeless.loc["acquire", "spend"] == 0
        assert hopeless.loc["keep", "spend"] > 0

    def test_more_activities_than_two_and_any_order_of_them(self):
        table = pd.concat([curves(), curves().rename(lambda name: f"{name} again")])
        found = clv.split_budget(10000, table)
        assert found.loc["acquire", "spend"] == pytest.approx(found.loc["acquire again", "spend"])
        turned = clv.split_budget(10000, table.iloc[::-1])
        pd.testing.assert_frame_equal(turned.loc[found.index], found)

    def test_refusals(self):
        with pytest.raises(DataError, match="lacks value; it has people, ceiling, rate"):
            clv.split_budget(10, curves().drop(columns="value"))
        with pytest.raises(DataError, match="budget must be 0 or more, not -1"):
            clv.split_budget(-1, curves())
        with pytest.raises(DataError, match="ceiling must be a share between 0 and 1"):
            clv.split_budget(10, curves(ceiling=[40, 30]))

    @settings(deadline=None)
    @given(st.floats(0.1, 1000), st.floats(0.01, 0.9), st.floats(0.01, 0.99))
    def test_a_curve_through_what_is_achieved_today(self, spend, ceiling, part):
        k = clv.response_rate(spend, part * ceiling, ceiling)
        assert clv.response(spend, ceiling, k) == pytest.approx(part * ceiling)

    def test_no_curve_reaches_beyond_its_ceiling(self):
        with pytest.raises(DataError, match="achieved must lie below the ceiling"):
            clv.response_rate(10, 0.4, 0.4)


class TestChannel:
    def test_each_level_takes_its_share_of_what_it_sells_for(self):
        assert clv.channel_margin(100, 40, [0.3, 0.15]) == pytest.approx(100 * 0.7 * 0.85 - 40)
        assert clv.channel_margin(100, 40) == 60
        assert clv.channel_margin(100, 40, selling_cost=35) == 25

    def test_a_share_of_one_is_refused(self):
        with pytest.raises(DataError, match="trade_margins must be a share from 0 to below 1"):
            clv.channel_margin(100, 40, [30])


FACTORS = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1)


class TestAttribution:
    @pytest.mark.parametrize("method", ["log-mean", "shapley"])
    @settings(deadline=None)
    @given(FACTORS)
    def test_contributions_sum_to_the_change(self, method, factors):
        before, after = ({name: pair[i] for name, pair in factors.items()} for i in (0, 1))
        parts = clv.decompose(before, after, method)["contribution"]
        old, new = np.prod(list(before.values())), np.prod(list(after.values()))
        assert parts.sum() == pytest.approx(new - old, rel=1e-9, abs=1e-9 * max(old, new))

    def test_shapley_is_the_mean_over_all_orders(self):
        before, after = {"a": 2.0, "b": -1.0, "c": 5.0}, {"a": 3.0, "b": 0.5, "c": 4.0}
        sums = dict.fromkeys(before, 0.0)
        for order in itertools.permutations(before):
            now = dict(before)
            for name in order:
                was = np.prod(list(now.values()))
                now[name] = after[name]
                sums[name] += (np.prod(list(now.values())) - was) / 6
        assert clv.decompose(before, after, "shapley")["contribution"].to_dict() == pytest.approx(sums)

    def test_log_mean_by_hand(self):
        parts = clv.decompose({"a": 1, "b": 1}, {"a": 2, "b": 4})["contribution"]
        assert parts.tolist() == pytest.approx([7 / 3, 14 / 3])

    def test_a_factor_that_does_not_change_contributes_nothing(self):
        for method in ("log-mean", "shapley"):
            assert clv.decompose({"a": 2, "b": 3}, {"b": 4, "a": 2}, method).loc["a", "contribution"] == 0
            assert clv.decompose({"a": 2}, {"a": 2}, method)["contribution"].sum() == 0

    def test_refusals(self):
        with pytest.raises(DataError, match=r"The factors before \(a\) and after \(b\) must have the same names"):
            clv.decompose({"a": 1}, {"b": 1})
        with pytest.raises(DataError, match=r"needs positive factors; method=.shapley. takes any"):
            clv.decompose({"a": -1}, {"a": 1})
        with pytest.raises(DataError, match="method must be 'log-mean' or 'shapley', not 'mean'"):
            clv.decompose({"a": 1}, {"a": 1}, "mean")

    def test_sensitivity_moves_one_assumption_at_a_time_and_puts_the_widest_first(self):
        table = clv.sensitivity(clv.customer_value, {"retention": 0.8}, {"retention": (0.7, 0.9)})
        assert table.loc["retention", ["at_low", "base", "at_high"]].tolist() == pytest.approx([2.75, 1.1 / 0.3, 5.5])
        order = clv.sensitivity(lambda a, b: a + 10 * b, {"a": 0, "b": 0}, {"a": (0, 1), "b": (0, 1)}).index
        assert order.tolist() == ["b", "a"]

    def test_sensitivity_refuses_an_assumption_that_it_does_not_know(self):
        with pytest.raises(DataError, match="The base lacks y; it has x"):
            clv.sensitivity(lambda x: x, {"x": 1}, {"y": (0, 1)})
        with pytest.raises(DataError, match="range of x must be a low and a high value"):
            clv.sensitivity(lambda x: x, {"x": 1}, {"x": (0, 1, 2)})


@pytest.fixture(scope="module")
def contracts():
    return clv.SBG().fit(clv.cohort([1000, 869, 743, 653, 593, 551, 517, 491]), unit="Y")


class TestContracts:
    @settings(deadline=None)
    @given(st.floats(0.02, 50), st.floats(0.02, 200), st.integers(0, 12), st.floats(0.05, 0.5))
    def test_value_is_the_sum_of_the_survival_curve(self, alpha, beta, n, d):
        stays, total = 1.0, 0.0
        for t in range(700):
            total += stays * (1 + d) ** -t
            stays *= (beta + n + t) / (alpha + beta + n + t)
        assert clv.sbg_value(alpha, beta, d, renewals=n) == pytest.approx(total, rel=1e-9)

    def test_published_residual_lifetimes(self):
        published = data.published("clv", "contracts.derl")["published"]
        for name, alpha, beta in (("alike", 3.8, 15.2), ("unlike", 1 / 15, 4 / 15)):
            lives = 1.1 * clv.sbg_value(alpha, beta, renewals=np.arange(5), timing="renewal")
            wanted = [published[f"contracts.derl.{name}.renewal{i}"] for i in range(1, 6)]
            assert lives == pytest.approx(wanted, abs=0.01)

    def test_customers_all_alike_are_worth_what_the_simple_formula_says(self):
        for timing in TIMINGS:
            alike = clv.sbg_value(2e8, 8e8, timing=timing)
            assert alike == pytest.approx(clv.customer_value(0.8, timing=timing), rel=1e-6)

    @settings(deadline=None)
    @given(st.floats(0.05, 0.95), st.floats(0.1, 30), rate)
    def test_the_simple_formula_at_the_mean_rate_never_exceeds_the_value(self, r, size, d):
        """The value is convex in retention, so that its mean over customers exceeds the value at the mean (Jensen)."""
        assert clv.customer_value(r, d) <= clv.sbg_value((1 - r) * size, r * size, d) * (1 + 1e-9)

    def test_fit_and_closed_form_agree(self, contracts):
        table = clv.contract_value(contracts, [0, 3, 9], margin=20, draws=50)
        assert table["value"].to_numpy() == pytest.approx(clv.sbg_value(*contracts.params, renewals=[0, 3, 9]) * 20)
        assert (table["lower"] < table["value"]).all()
        assert (table["value"] < table["upper"]).all()
        assert table["simple"].to_numpy() == pytest.approx(clv.customer_value(table["retention"].to_numpy(), margin=20))
        assert (table["bias"] < 0).all()

    @pytest.mark.parametrize("timing", TIMINGS)
    def test_when_the_margin_comes_means_the_same_as_in_the_simple_formula(self, contracts, timing):
        row = clv.contract_value(contracts, timing=timing, draws=2).iloc[0]
        assert row["value"] == pytest.approx(clv.sbg_value(*contracts.params, timing=timing))
        assert row["simple"] == pytest.approx(clv.customer_value(row["retention"], timing=timing))

    def test_same_seed_same_interval(self, contracts):
        one, other = (clv.contract_value(contracts, draws=40, seed=3) for _ in range(2))
        pd.testing.assert_frame_equal(one, other)

    def test_customers_without_differences_are_an_ordinary_case(self):
        alike = clv.SBG().fit(clv.cohort([10000, 8000, 6400, 5120, 4096]), unit="Y")
        assert alike.boundary
        row = clv.contract_value(alike, draws=20).iloc[0]
        assert row["value"] == pytest.approx(clv.customer_value(0.8), rel=1e-3)

    def test_refusals(self, contracts):
        with pytest.raises(DataError, match="needs a fit of SBG or BDW to yearly contracts"):
            clv.contract_value(clv.SBG().fit(clv.cohort([100, 80, 70]), unit="M"))
        with pytest.raises(DataError, match="discount must be positive"):
            clv.contract_value(contracts, discount=0)
        with pytest.raises(DataError, match="alpha, beta and discount must be positive"):
            clv.sbg_value(1, 0)


def purchases(*rows):
    table = pd.DataFrame(rows, columns=["customer_id", "date", "amount"])
    return table.assign(date=pd.to_datetime(table["date"]))


class TestWindows:
    log = purchases(
        ("a", "2023-01-02", 10.0), ("a", "2023-12-31", 30.0), ("b", "2023-03-01", 5.0), ("b", "2023-06-01", 5.0),
        ("c", "2023-12-01", 50.0), ("d", "2023-01-02", 1.0), ("d", "2023-09-01", 20.0), ("d", "2023-10-01", 20.0),
    )  # fmt: skip

    def test_by_hand(self):
        row = clv.window_retention(self.log).loc[1]
        days = 182
        assert row["begins"] == datetime.date(2023, 12, 31) - datetime.timedelta(days=days - 1)
        assert row["ends"] == datetime.date(2023, 12, 31)
        assert (row["customers"], row["of"]) == (2, 3), "a, b and d bought before, a and d after; c is new"
        assert row["share"] == pytest.approx(2 / 3)
        assert row["annual"] == pytest.approx((2 / 3) ** (365.25 / days))
        assert row["spend"] == pytest.approx(120 / 3 * 365.25 / days)
        assert row["low"] < row["share"] < row["high"]
        half = 1.959964 * np.std([30, 50, 40], ddof=1) / 3**0.5 * 365.25 / days
        assert [row["spend_low"], row["spend_high"]] == pytest.approx([row["spend"] - half, row["spend"] + half])

    def test_days_before_the_windows_do_not_count(self):
        early = purchases(("z", "2019-01-01", 1.0), ("a", "2023-01-01", 1.0))
        late = purchases(("a", "2024-12-30", 1.0), ("b", "2024-06-01", 1.0))
        row = clv.window_retention(pd.concat([early, late])).loc[1]
        assert (row["customers"], row["of"]) == (1, 1), "z bought before the windows, b in the second only"

    def test_a_window_is_a_year_at_most(self):
        long = purchases(
            *((c, f"{year}-06-30", 1.0) for year in range(2015, 2024) for c in "ab"), ("a", "2024-06-30", 1.0)
        )
        row = clv.window_retention(long).loc[1]
        assert (row["ends"] - row["begins"]).days == 364
        assert (row["customers"], row["of"]) == (1, 2)

    def test_row_order_and_a_missing_amount_column_change_nothing_else(self):
        whole = clv.window_retention(self.log)
        turned = clv.window_retention(self.log.iloc[::-1].reset_index(drop=True))
        pd.testing.assert_frame_equal(turned, whole)
        bare = clv.window_retention(self.log[["customer_id", "date"]])
        pd.testing.assert_frame_equal(bare, whole.drop(columns=["spend", "spend_low", "spend_high"]))

    def test_nobody_who_returns_is_a_share_of_nothing_with_an_interval(self):
        row = clv.window_retention(purchases(("a", "2024-01-01", 1.0), ("b", "2024-02-29", 1.0))).loc[1]
        assert (row["share"], row["annual"], row["low"]) == (0, 0, 0)
        assert 0 < row["annual_high"] < 1

    def test_factors_by_hand_and_their_product_is_the_revenue(self):
        table = clv.window_factors(self.log)
        assert table.to_numpy().tolist() == pytest.approx(np.array([[3, 4 / 3, 21 / 4], [3, 4 / 3, 30.0]]))
        assert table.prod(axis=1).tolist() == pytest.approx([21, 120])
        whole = clv.decompose(*(row for _, row in table.iterrows()))["contribution"].sum()
        assert whole == pytest.approx(120 - 21)

    def test_several_purchases_of_a_day_are_one_day(self):
        doubled = pd.concat([self.log, self.log])
        assert clv.window_factors(doubled)["days_each"].tolist() == clv.window_factors(self.log)["days_each"].tolist()

    def test_factors_need_amounts_and_buyers(self):
        with pytest.raises(DataError, match="no column amount"):
            clv.window_factors(self.log[["customer_id", "date"]])
        with pytest.raises(DataError, match="Nobody bought in one of the windows"):
            clv.window_factors(purchases(("a", "2024-01-01", 1.0), ("b", "2024-12-31", 1.0)), windows=3)

    def test_refusals(self):
        with pytest.raises(DataError, match="windows must be a whole number of 2 or more"):
            clv.window_retention(self.log, windows=1)
        with pytest.raises(DataError, match="too short for 2 windows of a week"):
            clv.window_retention(purchases(("a", "2024-01-01", 1.0), ("b", "2024-01-05", 1.0)))
        with pytest.raises(DataError, match="No column could be found for customer_id"):
            clv.window_retention(self.log.rename(columns={"customer_id": "who"}))
        with pytest.raises(DataError, match="1 have no customer_id"):
            clv.window_retention(pd.concat([self.log, purchases((None, "2023-05-01", 1.0))]))
