import dataclasses
import datetime

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import clv, data
from crmlab.data import DataError

MODEL = clv.BGBB()
# Usual, polarised, nearly alike, nearly immortal and short-lived customers.
PARAMS = [
    (1.2, 0.75, 0.66, 2.8),
    (0.01, 0.02, 0.01, 0.01),
    (4e4, 6e4, 2e4, 9e4),
    (0.5, 3.0, 0.01, 30.0),
    (5.0, 0.1, 9.0, 0.2),
]
STATES = [(0, 0, 0), (0, 0, 6), (1, 6, 6), (2, 4, 6), (6, 6, 6), (1, 1, 60), (30, 59, 60), (0, 0, 500), (250, 400, 500)]
X, T_X, N = (np.array(v) for v in zip(*STATES, strict=True))
TOY = pd.DataFrame(
    [
        ("a", "2020-12-31"), ("a", "2021-01-01"), ("a", "2021-01-04"), ("a", "2021-02-28"), ("a", "2021-03-01"),
        ("b", "2021-01-31"), ("b", "2021-01-30"), ("c", "2021-02-01"), ("c", "2021-04-30"), ("d", "2021-04-02"),
    ],
    columns=["customer_id", "date"],
)  # fmt: skip


@pytest.fixture(scope="module")
def donors():
    return data.load("donations").to_pandas()


@pytest.fixture(scope="module")
def fit(donors):
    return MODEL.fit(donors, unit="Y")


def exact(params, x, t_x, n):
    """The formula of the paper in 60 digits, with nothing rearranged: log-likelihood and probability alive."""
    a, b, c, d = map(mpmath.mpf, params)

    def bought(m):
        return mpmath.beta(a + x, b + m - x) / mpmath.beta(a, b)

    alive = bought(n) * mpmath.beta(c, d + n) / mpmath.beta(c, d)
    gone = mpmath.fsum(bought(i) * mpmath.beta(c + 1, d + i) / mpmath.beta(c, d) for i in range(t_x, n))
    return float(mpmath.log(alive + gone)), float(alive / (alive + gone))


@pytest.mark.parametrize("params", PARAMS)
def test_likelihood_and_p_alive_equal_the_papers_formula_in_60_digits(params):
    with mpmath.workdps(60):
        wanted = [exact(params, *state) for state in STATES]
    value, _, alive = MODEL._value_and_scores(MODEL.work(params), X, T_X, N)
    assert value == pytest.approx([w[0] for w in wanted], rel=1e-10, abs=1e-14)
    assert np.exp(alive) == pytest.approx([w[1] for w in wanted], rel=1e-8)
    assert MODEL.loglike(params, X, T_X, N).tolist() == value.tolist()


@pytest.mark.parametrize("work", [(0.5, -0.7, -1.4, -1.2), (-2.0, 3.0, 1.0, 4.0), (-3.0, -12.0, -3.0, -12.0)])
def test_gradient_is_the_slope_of_the_likelihood(work):
    def value(coordinates):
        return MODEL._value_and_scores(coordinates, X, T_X, N)[0]

    work = np.array(work)
    scores = MODEL._value_and_scores(work, X, T_X, N)[1]
    for j in range(4):
        step = np.zeros(4)
        step[j] = 1e-4
        near, far = (value(work + k * step) - value(work - k * step) for k in (1, 2))
        assert scores[j] == pytest.approx((8 * near - far) / 12e-4, rel=1e-6, abs=1e-7)


def test_customers_who_are_all_alike_or_never_leave_are_ordinary_points():
    alike, immortal = np.array([-1.0, -np.inf, -2.0, -np.inf]), np.array([-1.0, 0.5, -np.inf, -np.inf])
    value, scores, _ = MODEL._value_and_scores(alike, X[:7], T_X[:7], N[:7])
    assert np.isfinite(scores).all()
    assert value == pytest.approx(
        MODEL._value_and_scores(np.array([-1, -16, -2, -16.0]), X[:7], T_X[:7], N[:7])[0], rel=1e-3
    )
    value, scores, alive = MODEL._value_and_scores(immortal, X, T_X, N)
    assert np.isfinite(scores).all()
    assert (alive == 0).all()


def histories(params, n, seed, end=8):
    """Customers who leave or not, and if not buy or not, one opportunity after the other, as the story tells it."""
    rng = np.random.default_rng(seed)
    a, b, c, d = params
    p, leaving = rng.beta(a, b, n), rng.beta(c, d, n)
    there, x, last = np.ones(n, dtype=bool), np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    for i in range(1, end + 1):
        there &= rng.random(n) >= leaving
        buys = there & (rng.random(n) < p)
        x, last = x + buys, np.where(buys, i, last)
    return pd.DataFrame({"frequency": x, "recency": last, "T": end, "there": there})


@pytest.mark.parametrize("params", [(1.2, 0.75, 0.66, 2.8), (0.5, 3.0, 2.0, 20.0), (3.0, 3.0, 0.2, 0.8)])
def test_fit_recovers_the_parameters_that_made_the_data(params):
    result = MODEL.fit(histories(params, 30000, seed=6), unit="M")
    assert result.converged
    assert result.boundary == ()
    z = (np.log(result.params) - np.log(params)) / np.sqrt(np.diag(result._log_cov()))
    assert (np.abs(z) < 4).all(), z


def test_predictions_are_the_means_of_what_then_happens(fit):
    known = dataclasses.replace(fit, work=MODEL.work((1.2, 0.75, 0.66, 2.8)))
    all_of_it = histories((1.2, 0.75, 0.66, 2.8), 200_000, seed=7, end=10)
    # The same seed makes the same customers: six opportunities are known, and what the other four brought.
    so_far = histories((1.2, 0.75, 0.66, 2.8), 200_000, seed=7, end=6)
    bought = all_of_it["frequency"] - so_far["frequency"]
    table = known.predict(so_far, horizon=4)
    for keep in (so_far["recency"] == 0, so_far["recency"] == 4, so_far["frequency"] == 6):
        error = bought[keep].std() / np.sqrt(keep.sum())
        assert table.loc[keep, "expected_purchases"].mean() == pytest.approx(bought[keep].mean(), abs=4 * error)
        none = (bought[keep] == 0).mean()
        error = np.sqrt(none * (1 - none) / keep.sum())
        assert table.loc[keep, "p_no_purchase"].mean() == pytest.approx(none, abs=4 * error)


def test_simulated_futures_average_to_the_expectation(fit, donors):
    people = donors.loc[donors.index.repeat(100)]
    known = dataclasses.replace(fit, work_cov=np.eye(4) * 1e-16)
    futures = known.simulate(people, horizon=5, draws=300, seed=8)
    assert futures.shape == (300, 2200)
    assert futures.max() == 5
    expected = fit.predict(people, horizon=5)
    for values, wanted in ((futures, "expected_purchases"), (futures == 0, "p_no_purchase")):
        groups = values.mean(axis=0).reshape(22, 100)
        error = values.std(axis=0).reshape(22, 100).mean(axis=1) / np.sqrt(300 * 100)
        assert (np.abs(groups.mean(axis=1) - expected[wanted].to_numpy()[::100]) < 4.5 * error + 1e-6).all()
    assert (futures == known.simulate(people, horizon=5, draws=300, seed=8)).all()


def test_the_holdout_of_the_donations_lies_in_the_interval_of_the_futures(fit, donors):
    people = donors.loc[donors.index.repeat(donors["weight"])].drop(columns="weight")
    low, high = clv.interval(fit.simulate(people, horizon=5, draws=300).sum(axis=1))
    # Gifts of 2002 to 2006, from the donations of BTYD 2.4.3 (R).
    assert low < 3110 + 2938 + 2703 + 2573 + 1936 < high
    assert high - low < 1000


def test_probabilities_of_a_newcomer_sum_to_one_and_have_the_expected_mean(fit):
    newcomer = pd.DataFrame({"frequency": [0], "recency": [0], "T": [0]})
    for params in PARAMS:
        known = dataclasses.replace(fit, work=MODEL.work(params))
        for n in (0, 1, 6, 400):
            pmf = MODEL.newcomers(params, n)
            assert pmf.sum() == pytest.approx(1, rel=1e-10)
            if n:
                table = known.predict(newcomer, horizon=n)
                assert pmf @ np.arange(n + 1) == pytest.approx(table["expected_purchases"].item(), rel=1e-9)
                assert pmf[0] == pytest.approx(table["p_no_purchase"].item(), rel=1e-9)


def test_discounted_purchases_of_the_whole_future_equal_the_hypergeometric_formula(fit, donors):
    a, b, c, d = fit.params
    table = fit.predict(donors, horizon=np.inf)
    with mpmath.workdps(30):
        for row, x, t_x in zip(table["discounted_purchases"], donors["frequency"], donors["recency"], strict=True):
            _, alive = exact(fit.params, int(x), int(t_x), 6)
            later = (d + 6) / (c + d + 6) / 1.1 * mpmath.hyp2f1(1, d + 7, c + d + 7, 1 / mpmath.mpf("1.1"))
            assert row == pytest.approx(float(alive * (a + x) / (a + b + 6) * later), rel=1e-8)
    assert np.isinf(table["expected_purchases"]).all(), "gamma < 1: some never leave"
    longer = [fit.predict(donors, horizon=h) for h in (1, 5, 300, 3000)]
    for one, two in zip(longer, [*longer[1:], table], strict=True):
        assert (one["discounted_purchases"] < two["discounted_purchases"] * (1 + 1e-12)).all()
        assert (one["p_no_purchase"] >= two["p_no_purchase"]).all()


def test_weights_equal_repetition_and_the_order_of_rows_does_not_matter(fit, donors):
    people = donors.loc[donors.index.repeat(donors["weight"])].drop(columns="weight")
    assert MODEL.fit(people.sample(frac=1, random_state=0)).params.equals(fit.params)
    assert MODEL.fit(data.load("donations")).llf == fit.llf
    doubled = MODEL.fit(donors.assign(weight=2 * donors["weight"]))
    assert doubled.llf == pytest.approx(2 * fit.llf, rel=1e-12)
    assert MODEL.fit(donors.rename(columns={"periods": "T"})).params.equals(fit.params)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_customers_who_never_leave_end_at_a_boundary_that_is_named(seed):
    rng = np.random.default_rng(seed)
    bought = rng.random((4000, 8)) < rng.beta(2, 3, (4000, 1))
    last = np.where(bought.any(axis=1), 8 - np.argmax(bought[:, ::-1], axis=1), 0)
    frame = pd.DataFrame({"frequency": bought.sum(axis=1), "recency": last, "T": 8})
    result = MODEL.fit(frame, unit="M")
    assert result.converged
    assert result.boundary == ("gamma", "delta")
    table = result.predict(frame, horizon=4)
    assert table["p_alive"].mean() > 0.98
    futures = result.simulate(frame, horizon=4, draws=50)
    assert futures.mean() == pytest.approx(table["expected_purchases"].mean(), rel=0.02)
    assert np.isfinite(result.predict(frame, horizon=np.inf)["discounted_purchases"]).all()


def test_customers_who_are_alike_end_at_a_boundary_that_is_named():
    result = MODEL.fit(histories((4e4, 6e4, 1e4, 9e4), 3000, seed=2), unit="M")
    assert result.converged
    assert result.boundary
    assert np.isinf(result.params[list(result.boundary)]).all()
    frame = pd.DataFrame({"frequency": [0, 3], "recency": [0, 8], "T": [8, 8]})
    table = result.predict(frame, horizon=np.inf)
    assert np.isfinite(table.to_numpy()).all()
    with pytest.raises(DataError, match="finite, positive alpha"):
        MODEL.newcomers(result.params, 3)


def test_predictions_stay_finite_for_500_opportunities():
    x, t_x = (v.ravel() for v in np.meshgrid([0, 1, 10, 250, 500], [0, 1, 10, 300, 500]))
    keep = (x <= t_x) & ((x == 0) == (t_x == 0))
    frame = pd.DataFrame({"frequency": x[keep], "recency": t_x[keep], "T": 500})
    for params in PARAMS:
        result = clv.Result(MODEL, pd.Series(params), 0.0, 1, True, (), "W", MODEL.work(params), np.eye(4))
        for horizon in (1, 100, np.inf):
            table = result.predict(frame, horizon=horizon)
            assert np.isfinite(table.drop(columns="expected_purchases").to_numpy()).all()
            assert table[["p_alive", "p_no_purchase"]].to_numpy().min() >= -1e-12
            assert table[["p_alive", "p_no_purchase"]].to_numpy().max() <= 1 + 1e-12
            assert not table["expected_purchases"].isna().any()


def test_a_result_survives_json_exactly(fit, donors):
    back = clv.Result.from_json(fit.to_json())
    assert back.to_json() == fit.to_json()
    pd.testing.assert_frame_equal(back.predict(donors), fit.predict(donors))
    assert "BG/BB results" in str(back.summary())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frequency": [1.5, 0]}, r"not whole, first \(frequency 1.5, recency 4, T 6\)"),
        ({"recency": [3.7, 0]}, "opportunities.*recency of the continuous models is another.*clv.opportunities"),
        ({"frequency": ["two", 0]}, "no number"),
        ({"T": [np.inf, 6]}, "missing, no number"),
        ({"T": [None, 6]}, "missing"),
        ({"T": [-1, 6]}, "below 0"),
        ({"T": [1e9, 6]}, "T above 10,000"),
        ({"unit": ["M", "Y"]}, "different lengths"),
        ({"T": [3, 6]}, "recency beyond T"),
        ({"frequency": [5, 0]}, "frequency above the recency"),
        ({"frequency": [0, 0]}, "no purchase but a recency above 0"),
        ({"weight": [-1, 1]}, "weight that is not positive"),
        ({"frequency": [0, 0], "recency": [0, 0]}, "nobody ever bought again"),
        ({"frequency": [6, 6], "recency": [6, 6]}, "everybody bought at every"),
        ({"frequency": [1, 0], "recency": [1, 0], "T": [2, 2]}, "nobody had three opportunities"),
    ],
)
def test_histories_that_cannot_be_are_refused_in_words(change, words):
    with pytest.raises(DataError, match=words):
        MODEL.fit(pd.DataFrame({"frequency": [2, 0], "recency": [4, 0], "T": [6, 6]} | change))


def test_missing_columns_and_no_customers_are_refused_in_words(fit):
    with pytest.raises(DataError, match="lacks recency, T; it has frequency"):
        MODEL.fit(pd.DataFrame({"frequency": [1]}))
    with pytest.raises(DataError, match="no customers"):
        MODEL.fit(pd.DataFrame({"frequency": [], "recency": [], "T": []}))
    with pytest.raises(DataError, match="frequency above the recency"):
        fit.predict(pd.DataFrame({"frequency": [2], "recency": [1], "T": [6]}))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"horizon": 0}, "positive whole number"), ({"horizon": 2.5}, "whole"), ({"annual_discount": -1}, "above -1")],
)
def test_impossible_options_are_refused_in_words(fit, donors, options, words):
    with pytest.raises(DataError, match=words):
        fit.predict(donors, **options)


def test_an_infinite_future_is_not_simulated_and_another_unit_is_refused(fit, donors):
    with pytest.raises(DataError, match="finite"):
        fit.simulate(donors, horizon=np.inf)
    with pytest.raises(DataError, match="different lengths cannot be put together: M, Y"):
        fit.predict(donors.assign(unit="M"))


def table_of(log, *options):
    return clv.opportunities(log, *options).to_pandas().set_index("customer_id").sort_index()


def test_a_hand_worked_log_gives_the_hand_worked_months():
    table = table_of(TOY, "M", "2021-03-31")
    assert table.index.to_list() == ["a", "b", "c"], "d first buys after the calibration"
    assert table["T"].to_list() == [3, 2, 1]
    assert table["frequency"].to_list() == [3, 0, 0], "purchases of the first month are the acquisition"
    assert table["recency"].to_list() == [3, 0, 0]
    assert table["frequency_holdout"].to_list() == [0, 0, 1]
    assert table["T_holdout"].to_list() == [1, 1, 1]
    assert set(table["unit"]) == {"M"}


def test_a_hand_worked_log_gives_the_hand_worked_years_and_weeks():
    years = table_of(TOY, "Y")
    assert years[["frequency", "recency", "T"]].to_numpy().tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert "T_holdout" not in years
    # Thursday to Sunday around the New Year are one week; 4 January is a Monday.
    weeks = table_of(TOY, "W", "2021-03-07")
    assert weeks.loc["a", ["frequency", "recency", "T"]].to_list() == [3, 9, 9]
    assert weeks.loc["b", ["frequency", "recency", "T"]].to_list() == [0, 0, 5]
    assert weeks.loc["c", ["frequency_holdout", "T_holdout"]].to_list() == [1, 8]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.dates(datetime.date(1990, 1, 1), datetime.date(1992, 12, 31))),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from("YMW"),
)
def test_opportunities_equal_a_plain_loop_and_the_model_accepts_them(rows, unit):
    table = table_of(pd.DataFrame(rows, columns=["customer_id", "date"]), unit)
    last = max(pd.Period(str(day), unit).ordinal for _, day in rows)
    for customer in {c for c, _ in rows}:
        bought = sorted({pd.Period(str(day), unit).ordinal for c, day in rows if c == customer})
        wanted = [len(bought) - 1, bought[-1] - bought[0], last - bought[0]]
        assert table.loc[customer, ["frequency", "recency", "T"]].to_list() == wanted
    clv.Result(MODEL, None, 0.0, 1, True, (), unit, MODEL.work(PARAMS[0]), None).predict(table)


def test_monthly_cdnow_is_fitted_from_its_log():
    table = clv.opportunities("cdnow_sample", "M", calibration_end="1997-09-30")
    result = MODEL.fit(table)
    assert result.converged
    assert result.unit == "M"
    months = table.to_pandas()
    newcomers = months.assign(frequency=0, recency=0, T=0)
    for T, group in newcomers.groupby(months["T"]):
        expected = result.predict(group, horizon=T)["expected_purchases"].sum()
        assert expected == pytest.approx(months.loc[group.index, "frequency"].sum(), rel=0.06), "the calibration fits"
    assert len(result.predict(table, horizon=9)) == 2357


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("D",), "unit must be Y, M or W"),
        (("M", "2021-03-30"), "lies within one of the months.*2021-03-31"),
        (("W", "2021-03-05"), "lies within one of the weeks.*2021-03-07"),
        (("M", "2019-12-31"), "must lie between"),
        (("M", "2021-05-31"), "must lie between"),
    ],
)
def test_calibrations_that_cannot_be_are_refused_in_words(options, words):
    with pytest.raises(DataError, match=words):
        clv.opportunities(TOY, *options)


def test_rows_without_customer_or_date_are_refused_with_their_number():
    with pytest.raises(DataError, match="2 have no customer_id, 0 no date"):
        clv.opportunities(TOY.assign(customer_id=TOY["customer_id"].where(TOY.index > 1)))


def test_nobody_gets_an_empty_prediction(fit):
    table = fit.predict(pd.DataFrame({"customer_id": [], "frequency": [], "recency": [], "T": []}), horizon=np.inf)
    assert table.empty
    assert table.index.name == "customer_id"
