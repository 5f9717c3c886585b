import ibis
import mpmath
import numpy as np
import pandas as pd
import pytest

from crmlab import clv, data
from crmlab.clv.contract import future_sum
from crmlab.data import DataError

SBG, BDW = clv.SBG(), clv.BDW()
# Usual, polarised, nearly alike, nearly immortal and short-lived customers.
PARAMS = [(0.7, 1.2), (1e-3, 1e-3), (1e5, 9e6), (0.01, 30.0), (50.0, 0.01)]
STATES = [(0, 0), (1, 1), (1, 0), (2, 1), (7, 1), (7, 0), (60, 1), (60, 0), (500, 1), (500, 0)]
DURATION, EVENT = (np.array(v) for v in zip(*STATES, strict=True))


def survivors(segment, years=8):
    """The published percentages of the segment as counts of 1,000 customers."""
    table = data.load("subscription_retention").to_pandas()
    return (table.loc[table["segment"] == segment, "survivors"] * 10).round().tolist()[:years]


def test_the_published_table_is_the_data_set():
    table = data.load("subscription_retention").to_pandas()
    assert table.groupby("segment")["survivors"].last().to_dict() == {"high_end": 39.4, "regular": 17.3}
    assert table.groupby("segment")["year"].max().to_list() == [12, 12]


def test_projection_over_five_years_is_close_to_what_happened():
    for segment in ("regular", "high_end"):
        result = BDW.fit(clv.cohort(survivors(segment)), unit="Y")
        band = clv.survival_interval(result, range(13))
        actual = np.array(survivors(segment, 13)) / 1000
        assert np.abs(band["survival"] - actual).max() < 0.012
        assert ((actual > band["lower"] - 0.02) & (actual < band["upper"] + 0.02)).all()


def exact(params, c, duration, event):
    alpha, beta = map(mpmath.mpf, params)

    def survival(t):
        return mpmath.beta(alpha, beta + mpmath.mpf(t) ** c) / mpmath.beta(alpha, beta)

    share = survival(duration - 1) - survival(duration) if event else survival(duration)
    return float(mpmath.log(share))


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("c", [0.05, 0.5, 1.0, 2.0, 4.0])
def test_likelihood_equals_the_papers_formula_in_80_digits(params, c):
    with mpmath.workdps(80):
        wanted = [exact(params, c, *state) for state in STATES]
    assert BDW.loglike((*params, c), DURATION, EVENT) == pytest.approx(wanted, rel=1e-8)
    if c == 1:
        assert SBG.loglike(params, DURATION, EVENT) == pytest.approx(wanted, rel=1e-8)


def test_with_c_1_the_weibull_model_is_the_geometric_one():
    alpha, beta = 0.7, 1.2
    weibull, geometric = BDW.loglike((alpha, beta, 1), DURATION, EVENT), SBG.loglike((alpha, beta), DURATION, EVENT)
    assert weibull == pytest.approx(geometric, rel=1e-11)
    t = np.arange(1, 30)
    assert SBG.retention((alpha, beta), t) == pytest.approx((beta + t - 1) / (alpha + beta + t - 1), rel=1e-12)
    assert SBG.survival((alpha, beta), t) == pytest.approx(np.cumprod(SBG.retention((alpha, beta), t)), rel=1e-12)


@pytest.mark.parametrize("work", [(-1.0, -0.5, 0.3), (2.0, 3.0, -1.0), (-2.0, -9.0, 0.5), (-4.0, -14.0, 0.0)])
@pytest.mark.parametrize("model", [SBG, BDW], ids=lambda m: m.title)
def test_gradient_is_the_slope_of_the_likelihood(model, work):
    work = np.array(work[: len(model.names)])
    duration, event = DURATION[:8], EVENT[:8]
    scores = model._value_and_scores(work, duration, event)[1]
    for j in range(len(work)):
        step = np.zeros(len(work))
        step[j] = 1e-4
        near, far = (
            model._value_and_scores(work + k * step, duration, event)[0]
            - model._value_and_scores(work - k * step, duration, event)[0]
            for k in (1, 2)
        )
        assert scores[j] == pytest.approx((8 * near - far) / 12e-4, rel=1e-6, abs=1e-7)


def test_customers_who_are_all_alike_are_an_ordinary_point():
    work = np.array([-1.0, -np.inf, 0.2])
    value, scores = BDW._value_and_scores(work, DURATION[:8], EVENT[:8])
    assert np.isfinite(scores).all()
    assert value == pytest.approx(
        BDW._value_and_scores(np.array([-1.0, -16.0, 0.2]), DURATION[:8], EVENT[:8])[0], rel=1e-3
    )
    stay = 1 - 1 / (1 + np.e)
    assert SBG._value_and_scores(work[:2], np.array([3]), np.array([0]))[0] == pytest.approx(3 * np.log(stay))


def contracts(params, n, end, seed):
    """Customers who renew or leave one after the other, as the story tells it."""
    rng = np.random.default_rng(seed)
    alpha, beta, c = params
    p = rng.beta(alpha, beta, n)
    duration, event = np.full(n, end), np.zeros(n, dtype=int)
    there = np.ones(n, dtype=bool)
    for t in range(1, end + 1):
        leaves = there & (rng.random(n) > (1 - p) ** (t**c - (t - 1) ** c))
        duration[leaves], event[leaves] = t, 1
        there &= ~leaves
    return pd.DataFrame({"duration": duration, "event": event})


@pytest.mark.parametrize("params", [(0.7, 1.2, 1), (0.7, 3.8, 1), (5.0, 20.0, 1), (0.1, 0.2, 1)])
def test_sbg_recovers_the_parameters_that_made_the_data(params):
    result = SBG.fit(contracts(params, 10000, 10, seed=3), unit="Y")
    assert result.converged
    z = (np.log(result.params) - np.log(params[:2])) / np.sqrt(np.diag(result._log_cov()))
    assert (np.abs(z) < 4).all(), z


@pytest.mark.parametrize("params", [(0.7, 1.2, 0.6), (0.7, 3.8, 1.5), (2.0, 20.0, 1.0)])
def test_bdw_recovers_the_parameters_that_made_the_data(params):
    result = BDW.fit(contracts(params, 20000, 12, seed=4), unit="Y")
    assert result.converged
    z = (np.log(result.params) - np.log(params)) / np.sqrt(np.diag(result._log_cov()))
    assert (np.abs(z) < 4).all(), z
    lower, upper = result.conf_int(alpha=0.001).loc["c"]
    assert lower < params[2] < upper


def test_weights_equal_repetition_and_the_order_of_rows_does_not_matter():
    table = contracts((0.7, 1.2, 1), 500, 6, seed=5)
    base = BDW.fit(table)
    assert BDW.fit(table.sample(frac=1, random_state=0)).params.equals(base.params)
    doubled, weighted = BDW.fit(pd.concat([table, table])), BDW.fit(table.assign(weight=2))
    assert weighted.params.equals(doubled.params)
    assert weighted.llf == pytest.approx(2 * base.llf, rel=1e-12)
    assert BDW.fit(ibis.memtable(table)).params.equals(base.params)
    assert BDW.fit(table.astype({"duration": "Int64", "event": bool})).params.equals(base.params)


def test_customers_who_age_alike_end_at_a_boundary_that_is_named():
    # A hazard that rises cannot come from sorting unequal customers.
    result = SBG.fit(clv.cohort([1000, 900, 700, 400, 100]), unit="Y")
    assert result.converged
    assert result.boundary == ("alpha", "beta")
    assert np.isinf(result.params).all()
    predicted = result.predict(pd.DataFrame({"duration": [0, 9], "event": [0, 0]}))
    assert predicted.loc[0].to_list() == pytest.approx(predicted.loc[1].to_list()), "the past tells nothing then"
    band = clv.survival_interval(result, [0, 1, 5])
    assert band.loc[0].tolist() == [1, 1, 1]
    assert (band["lower"] <= band["survival"]).all()
    with pytest.raises(DataError, match="survival_interval"):
        SBG.survival(result.params, 3)
    bent = BDW.fit(clv.cohort([1000, 900, 700, 400, 100]), unit="Y")
    assert bent.converged
    assert bent.params["c"] > 1.5


def test_customers_who_leave_at_once_or_never_end_at_a_boundary_that_is_named():
    result = SBG.fit(clv.cohort([1000, 600, 600, 600, 600]), unit="Y")
    assert result.converged
    assert result.boundary == ("alpha", "beta")
    assert clv.survival_interval(result, [1, 50])["survival"].to_numpy() == pytest.approx([0.6, 0.6], abs=1e-4)


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.5])
@pytest.mark.parametrize("params", [(0.7, 1.2), (3.8, 15.2), (300.0, 20.0)])
def test_discounted_renewals_equal_the_hypergeometric_formula(params, rate):
    with mpmath.workdps(30):
        alpha, beta = params
        wanted = [
            mpmath.exp(-rate) * (beta + t) / (alpha + beta + t)
            * mpmath.hyp2f1(1, beta + t + 1, alpha + beta + t + 1, mpmath.exp(-mpmath.mpf(rate)))
            for t in (0, 3, 40)
        ]  # fmt: skip
    got = SBG.total(SBG.work(params), np.array([0.0, 3.0, 40.0]), np.inf, rate)
    assert got == pytest.approx([float(w) for w in wanted], rel=1e-8)


def test_undiscounted_renewals_are_infinite_exactly_where_their_mean_is():
    t = np.array([0.0, 5.0])
    assert SBG.total(SBG.work((1.3, 2.0)), t, np.inf, 0.0) == pytest.approx([2 / 0.3, 7 / 0.3], rel=1e-8)
    assert SBG.total(SBG.work((1.01, 2.0)), t, np.inf, 0.0) == pytest.approx([200, 700], rel=1e-7)
    assert np.isinf(SBG.total(SBG.work((0.99, 2.0)), t, np.inf, 0.0)).all()
    assert np.isinf(BDW.total(BDW.work((0.9, 2.0, 1.1)), t, np.inf, 0.0)).all()
    assert np.isfinite(BDW.total(BDW.work((0.9, 2.0, 1.3)), t, np.inf, 0.0)).all()
    assert np.isfinite(BDW.total(BDW.work((0.2, 2.0, 0.3)), t, np.inf, 1e-4)).all()


@pytest.mark.parametrize("horizon", [128, 129, 257, 3000])
def test_a_long_future_is_summed_as_exactly_as_a_short_one(horizon):
    work = BDW.work((0.4, 2.0, 0.8))
    terms = np.exp(BDW._log_ratio(work, np.array([[2.0]]), np.arange(1.0, horizon + 1)))
    assert BDW.total(work, np.array([2.0]), horizon, 0.0) == pytest.approx([terms.sum()], rel=1e-10)


def test_a_sum_over_all_periods_has_its_known_value():
    assert future_sum(lambda j: -2 * np.log([j]), np.inf, order=2) == pytest.approx([np.pi**2 / 6], rel=1e-10)
    assert np.isinf(future_sum(lambda j: -np.log([j]), np.inf, order=1)).all()


def test_predictions_are_per_customer_and_nothing_of_those_who_left():
    result = SBG.fit(clv.cohort(survivors("high_end")), unit="Y")
    customers = pd.DataFrame({"customer_id": ["a", "b", "c"], "duration": [0, 7, 7], "event": [0, 0, 1]})
    table = result.predict(customers, horizon=3)
    assert table.index.to_list() == ["a", "b", "c"]
    assert (table.loc["c"] == 0).all()
    assert (table.loc["b"] > table.loc["a"]).all(), "those who stayed long stay longer"
    retention = SBG.retention(result.params, [8, 9, 10])
    assert table.loc["b", "p_retained"] == pytest.approx(retention[0])
    assert table.loc["b", "expected_renewals"] == pytest.approx(np.cumprod(retention).sum())
    discounted = (np.cumprod(retention) * 1.1 ** -np.arange(3)).sum()
    assert table.loc["b", "discounted_renewals"] == pytest.approx(discounted)
    forever = result.predict(customers)
    assert np.isinf(forever.loc["a", "expected_renewals"])
    assert forever["discounted_renewals"].between(table["discounted_renewals"], 30).all()


def test_a_month_is_discounted_by_the_twelfth_root():
    result = SBG.fit(clv.cohort(survivors("regular")), unit="M")
    one = result.predict(pd.DataFrame({"duration": [0], "event": [0]}), horizon=2, annual_discount=0.21)
    first, second = np.cumprod(SBG.retention(result.params, [1, 2]))
    assert one["discounted_renewals"].item() == pytest.approx(first + second * 1.21 ** (-1 / 12))


def test_a_result_survives_json_exactly():
    customers = pd.DataFrame({"duration": [0, 7], "event": [0, 0]})
    for result in (
        BDW.fit(clv.cohort(survivors("regular")), unit="Y"),
        SBG.fit(clv.cohort([100, 90, 60, 10]), unit="Y"),
    ):
        back = clv.Result.from_json(result.to_json())
        assert back.to_json() == result.to_json()
        pd.testing.assert_frame_equal(back.predict(customers), result.predict(customers))
        assert result.model.title in str(back.summary())


def test_an_interval_is_narrower_for_a_larger_cohort():
    small = SBG.fit(clv.cohort([100, 87, 74, 65, 59]), unit="Y")
    large = SBG.fit(clv.cohort([10000, 8700, 7400, 6500, 5900]), unit="Y")
    width = [clv.survival_interval(r, [8]).eval("upper - lower").item() for r in (small, large)]
    assert width[0] == pytest.approx(10 * width[1], rel=0.25)
    assert clv.survival_interval(small, [8], seed=1).equals(clv.survival_interval(small, [8], seed=1))


@pytest.mark.parametrize(
    "counts", [[100], [], [100, 101], [100.0, 63.1, 46.8], [100, None, 3], ["many", "few"], [3, 2, -1]]
)
def test_counts_that_are_none_are_refused_in_words(counts):
    with pytest.raises(DataError, match="survivors must be counts"):
        clv.cohort(counts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"duration": [1, 2.5, 3]}, r"not whole, first \(duration 2.5, event 0\)"),
        ({"duration": [1, "soon", 3]}, "no number"),
        ({"duration": [1, None, 3]}, "missing"),
        ({"duration": [1, -2, 3]}, "below 0"),
        ({"event": [1, 2, 0]}, "event other than 1"),
        ({"duration": [0, 2, 3]}, "left before the first renewal"),
        ({"weight": [1, 0, 1]}, "weight that is not positive"),
        ({"event": [0, 0, 0]}, "nobody has left"),
        ({"duration": [1, 1, 1], "event": [1, 1, 1]}, "everybody left at the first renewal; no contract lasted 2"),
        ({"duration": [1, 1, 1]}, "no contract lasted 2 periods"),
    ],
)
def test_contracts_that_cannot_be_are_refused_in_words(change, words):
    with pytest.raises(DataError, match=words):
        SBG.fit(pd.DataFrame({"duration": [1, 2, 3], "event": [1, 0, 0]} | change))


def test_missing_columns_and_no_customers_are_refused_in_words():
    with pytest.raises(DataError, match="lacks event; it has duration, tenure"):
        SBG.fit(pd.DataFrame({"duration": [1], "tenure": [1]}))
    with pytest.raises(DataError, match="no customers"):
        SBG.fit(pd.DataFrame({"duration": [], "event": []}))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"horizon": 0}, "positive whole number"), ({"horizon": 2.5}, "whole"), ({"annual_discount": -1}, "above -1")],
)
def test_impossible_options_are_refused_in_words(options, words):
    result = SBG.fit(clv.cohort([100, 80, 70, 65]), unit="Y")
    with pytest.raises(DataError, match=words):
        result.predict(pd.DataFrame({"duration": [1], "event": [0]}), **options)


def test_a_discount_needs_to_know_how_long_a_period_is():
    result = SBG.fit(clv.cohort([100, 80, 70, 65]))
    with pytest.raises(DataError, match="discount per year needs"):
        result.predict(pd.DataFrame({"duration": [1], "event": [0]}))
