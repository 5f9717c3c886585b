import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import clv
from crmlab.clv.bg import _grid
from crmlab.data import DataError

MODELS = [clv.BGNBD(), clv.MBGNBD()]
# Regular, polarised, nearly homogeneous and nearly immortal customers; a + b below and above 1.
PARAMS = [(0.25, 4.4, 0.8, 2.4), (0.5, 6.0, 0.3, 0.4), (40.0, 900.0, 30.0, 70.0), (0.05, 0.2, 1.0, 60.0)]
STATES = [
    (0, 0.0, 39.0),
    (1, 20.0, 39.0),
    (1, 38.9, 39.0),
    (26, 30.9, 31.0),
    (200, 150.0, 200.0),
    (500, 3640.0, 3650.0),
]


def direct_loglike(params, x, t_x, T, extra):
    """The formula of the papers in 60 digits, with nothing rearranged."""
    r, alpha, a, b = map(mpmath.mpf, params)
    n = x + extra
    alive = (
        mpmath.gamma(r + x) / mpmath.gamma(r) * alpha**r / (alpha + T) ** (r + x)
        * mpmath.beta(a, b + n) / mpmath.beta(a, b)
    )  # fmt: skip
    gone = mpmath.mpf(0)
    if n > 0:
        gone = (
            mpmath.gamma(r + x) / mpmath.gamma(r) * alpha**r / (alpha + t_x) ** (r + x)
            * mpmath.beta(a + 1, b + n - 1) / mpmath.beta(a, b)
        )  # fmt: skip
    return mpmath.log(alive + gone), alive / (alive + gone)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)
@pytest.mark.parametrize("params", PARAMS)
def test_likelihood_and_p_alive_equal_the_papers_formula_in_60_digits(model, params):
    with mpmath.workdps(60):
        wanted = [direct_loglike(params, x, t, T, model._extra) for x, t, T in STATES]
    x, t, T = (np.array(v) for v in zip(*STATES, strict=True))
    assert model.loglike(params, x, t, T) == pytest.approx([float(w[0]) for w in wanted], rel=1e-11, abs=1e-11)
    alive = model.p_alive(model.work(params), x, t, T)
    assert alive == pytest.approx([float(w[1]) for w in wanted], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)
@pytest.mark.parametrize("work", [(-2.0, 1.0, -1.0, -1.0), (-2.0, -14.0, -1.0, -14.0), (-3.0, 4.0, 2.0, 3.0)])
def test_gradient_is_the_slope_of_the_likelihood(model, work):
    x, t, T = (np.array(v) for v in zip(*STATES, strict=True))
    work = np.array(work)
    scores = model._value_and_scores(work, _grid(x, t, T))[1]
    for j in range(4):
        step = np.zeros(4)
        step[j] = 1e-6
        up, down = (model._value_and_scores(work + s, _grid(x, t, T))[0] for s in (step, -step))
        assert scores[j] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)
def test_no_heterogeneity_is_an_ordinary_point(model):
    x, t, T = (np.array(v) for v in zip(*STATES, strict=True))
    limit = np.array([-2.0, -np.inf, -1.0, -np.inf])
    near = np.array([-2.0, -18.0, -1.0, -18.0])
    exact, scores = model._value_and_scores(limit, _grid(x, t, T))
    assert np.isfinite(exact).all()
    assert np.isfinite(scores).all()
    assert exact == pytest.approx(model._value_and_scores(near, _grid(x, t, T))[0], rel=1e-4)


def expected_by_mpmath(params, x, T, horizon, rate, extra):
    """Expected and discounted purchases: exact over time (exponential integral), adaptive quadrature over dropout."""
    r, alpha, a, b = params
    s, pace = r + x, 1 / (alpha + T)

    def purchases(p):
        return -mpmath.expm1(-s * mpmath.log1p(p * pace * horizon)) / p

    def discounted(p):
        def after(t):
            z = rate * (1 + p * pace * t) / (p * pace)
            factor = mpmath.exp(-rate * t) * (1 + p * pace * t) ** (-s)
            return factor * mpmath.exp(z) * mpmath.expint(s + 1, z) / (p * pace)

        return s * pace * (after(0) - (0 if horizon == np.inf else after(horizon)))

    def mean(f):
        # u = p^a takes the singularity of Beta(a < 1, .) at zero away.
        def density(u):
            return f(u ** (1 / a)) * (1 - u ** (1 / a)) ** (b + x + extra - 1) / (a * mpmath.beta(a, b + x + extra))

        return float(mpmath.quad(density, [0, 1e-8, 1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.3, 1]))

    return (None if horizon == np.inf else mean(purchases)), mean(discounted)


@pytest.mark.parametrize("horizon", [52.0, 520.0, np.inf])
@pytest.mark.parametrize("x", [0, 3, 60])
def test_expected_and_discounted_purchases_equal_high_precision_quadrature(x, horizon):
    model, params = clv.MBGNBD(), (0.25, 4.4, 0.8, 2.4)
    with mpmath.workdps(20):
        purchases, discounted = expected_by_mpmath(params, x, 39.0, horizon, 0.0018, 1)
    got = model.future(model.work(params), np.array([float(x)]), np.array([39.0]), horizon, 0.0018)
    assert got[1][0] == pytest.approx(discounted, rel=1e-7)
    if purchases is None:
        assert np.isinf(got[0][0]), "with a < 1 some customers never leave: E[1/p] does not exist"
    else:
        assert got[0][0] == pytest.approx(purchases, rel=1e-7)


def test_predictions_stay_finite_for_500_purchases_in_ten_years_of_days():
    x, T = (v.ravel() for v in np.meshgrid([0, 1, 10, 100, 500], [1.0, 30.0, 365.0, 3652.0]))
    for model in MODELS:
        for params in PARAMS:
            for horizon in (1.0, 365.0, 3652.0):
                future = model.future(model.work(params), x.astype(float), T, horizon, 0.0003)
                assert np.isfinite(future).all()
                assert (future[1] <= future[0] * (1 + 1e-9)).all(), "a discount never adds purchases"


def test_p_alive_of_a_one_time_buyer_is_one_only_in_the_unmodified_model():
    x, t, T = np.array([0]), np.array([0.0]), np.array([39.0])
    work = clv.BGNBD().work(PARAMS[0])
    assert clv.BGNBD().p_alive(work, x, t, T)[0] == 1
    assert 0 < clv.MBGNBD().p_alive(work, x, t, T)[0] < 1


def histories(model, params, n, T, seed):
    """Customers simulated purchase by purchase, as the story tells it and unlike any formula of the package."""
    rng = np.random.default_rng(seed)
    r, alpha, a, b = params
    rows = []
    for _ in range(n):
        rate, p = rng.gamma(r) / alpha, rng.beta(a, b)
        x, last = 0, 0.0
        gone = model._extra and rng.random() < p
        now = 0.0
        while not gone:
            now += rng.exponential(1 / rate) if rate > 1e-12 else np.inf
            if now > T:
                break
            x, last = x + 1, now
            gone = rng.random() < p
        rows.append((x, last, T))
    return pd.DataFrame(rows, columns=["frequency", "recency", "T"])


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)
def test_fit_recovers_the_parameters_that_made_the_data(model):
    params = np.array([0.8, 6.0, 0.9, 2.5])
    result = model.fit(histories(model, params, 8000, 52.0, seed=1), unit="W")
    assert result.converged
    z = (np.log(result.params) - np.log(params)) / np.sqrt(np.diag(result._log_cov()))
    assert (np.abs(z) < 3.5).all(), z


def test_identical_customers_end_at_a_boundary_that_is_named():
    result = clv.MBGNBD().fit(histories(clv.MBGNBD(), (5e4, 5e5, 5e4, 45e4), 1500, 40.0, seed=2), unit="W")
    assert set(result.boundary) == {"r", "alpha", "a", "b"}
    assert result.converged
    assert np.isinf(result.params).all()
    assert result.bse.isna().all()
    predicted = result.predict(pd.DataFrame({"frequency": [0, 4], "recency": [0, 39.0], "T": [40.0, 40.0]}), horizon=10)
    assert np.isfinite(predicted.to_numpy()).all()


@pytest.mark.parametrize("seed", range(6))
def test_customers_who_never_leave_are_seen_as_such_at_a_boundary(seed):
    rng = np.random.default_rng(seed)
    x = rng.poisson(rng.gamma(2.0, 0.1, 3000) * 40.0)
    last = np.where(x > 0, 40 * rng.beta(np.maximum(x, 1), 1), 0.0)
    result = clv.MBGNBD().fit(pd.DataFrame({"frequency": x, "recency": last, "T": 40.0}), unit="W")
    assert result.converged
    alive = result.predict(pd.DataFrame({"frequency": [5], "recency": [39.0], "T": [40.0]}), horizon=10)
    assert alive["p_alive"].item() > 0.99
    assert np.log(result.params["r"] / 2) == pytest.approx(0, abs=0.15)


def test_row_order_weights_and_unit_of_time_leave_the_fit_alone(cdnow_summary):
    base = clv.MBGNBD().fit(cdnow_summary)
    shuffled = clv.MBGNBD().fit(cdnow_summary.sample(frac=1, random_state=0))
    assert shuffled.params.equals(base.params)
    doubled = clv.MBGNBD().fit(pd.concat([cdnow_summary, cdnow_summary]))
    weighted = clv.MBGNBD().fit(clv.states(cdnow_summary).eval("weight = 2 * weight"))
    assert weighted.params.equals(doubled.params)
    assert weighted.llf == pytest.approx(2 * base.llf, rel=1e-12)
    days = cdnow_summary.assign(recency=cdnow_summary["recency"] * 7, T=cdnow_summary["T"] * 7, unit="D")
    in_days = clv.MBGNBD().fit(days)
    assert in_days.params.to_numpy() == pytest.approx((base.params * [1, 7, 1, 1]).to_numpy(), rel=1e-6)
    pd.testing.assert_frame_equal(
        in_days.predict(days, horizon=39 * 7), base.predict(cdnow_summary, horizon=39), rtol=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.05, 5), st.floats(0.5, 50), st.floats(0.1, 5), st.floats(0.1, 5), st.integers(0, 50), st.floats(0.01, 1)
)
def test_waiting_longer_never_makes_a_customer_more_alive(r, alpha, a, b, x, share):
    model = clv.MBGNBD()
    T = np.linspace(20.0, 200.0, 7)
    t_x = np.full(7, 20.0 * share if x else 0.0)
    alive = model.p_alive(model.work((r, alpha, a, b)), np.full(7, x), t_x, T)
    assert (np.diff(alive) <= 1e-12).all()
    assert ((alive >= 0) & (alive <= 1)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frequency": [0.5, 0]}, "not a whole number"),
        ({"recency": [50.0, 0]}, "beyond T"),
        ({"recency": [0.0, 0]}, "recency 0"),
        ({"T": [np.nan, 39.0]}, "missing"),
        ({"frequency": [1, 1], "recency": [5.0, 5.0]}, "one-time buyers"),
        ({"frequency": [0, 0], "recency": [0.0, 0.0]}, "nobody ever bought again"),
    ],
)
def test_an_impossible_summary_is_refused_in_words(change, words):
    frame = pd.DataFrame({"frequency": [1, 0], "recency": [5.0, 0.0], "T": [39.0, 39.0]}).assign(**change)
    with pytest.raises(DataError, match=words):
        clv.MBGNBD().fit(frame)
