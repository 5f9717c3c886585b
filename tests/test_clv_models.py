"""What every model of repeat buying promises, whichever it is."""

import dataclasses
import math

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import clv
from crmlab.clv.covariates import Design
from crmlab.clv.histories import Histories
from crmlab.data import DataError
from tests.customers import certain, customers

MODELS = [
    clv.BGNBD(), clv.MBGNBD(), clv.NBD(), clv.ParetoNBD(),
    clv.BGCNBD(2), clv.BGCNBD(3), clv.MBGCNBD(2), clv.MBGCNBD(3),
]  # fmt: skip
TIMELESS = [model for model in MODELS if model.k == 1]
named = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)

# Regular, polarised, nearly homogeneous and nearly immortal customers; a + b below and above 1.
BG_PARAMS = [(0.25, 4.4, 0.8, 2.4), (0.5, 6.0, 0.3, 0.4), (40.0, 900.0, 30.0, 70.0), (0.05, 0.2, 1.0, 60.0)]
# As published, with overflow reported by others (rates near infinity, few and many who leave), and nearly alike.
PARETO_PARAMS = [
    (0.553, 10.58, 0.606, 11.67), (0.05, 0.2, 0.03, 0.5), (10.465, 0.00798565181, 3.0516, 2.82),
    (0.5143, 2.8845, 0.2856, 14.1087), (40.0, 900.0, 64.0, 7722.0), (0.25, 4.0, 8.0, 0.1), (1.0, 1.0, 1.0, 1.0),
    (3.0, 1000.0, 0.02, 0.01), (0.3, 0.01, 0.9, 5000.0),
]  # fmt: skip
STATES = [
    (0, 0.0, 39.0), (0, 0.0, 0.0), (0, 0.0, 3650.0), (1, 20.0, 39.0), (1, 1e-3, 39.0), (1, 38.999, 39.0),
    (2, 30.43, 38.86), (26, 30.9, 31.0), (100, 1.0, 1.5), (200, 150.0, 200.0), (500, 3640.0, 3650.0),
    (500, 10.0, 3650.0), (500, 3650.0, 3650.0),
]  # fmt: skip


def of(model):
    """Parameters to try a model at."""
    if model.title == "Pareto/NBD":
        return PARETO_PARAMS
    return [p[: len(model.names)] for p in BG_PARAMS]


def bg_in_60_digits(params, x, t_x, T, extra, k):
    """The papers' formula, nothing rearranged: likelihood without the product of the gaps, and P(alive)."""
    r, alpha, *dropout = map(mpmath.mpf, params)
    n, events = x + extra, k * x

    def stay(j):
        return mpmath.beta(dropout[0], dropout[1] + j) / mpmath.beta(*dropout) if dropout else mpmath.mpf(1)

    def density(t, j):
        return mpmath.gamma(r + events + j) / mpmath.gamma(r) * alpha**r / (alpha + t) ** (r + events + j)

    gap = mpmath.mpf(T) - mpmath.mpf(t_x)
    alive = stay(n) * sum(gap**j / mpmath.factorial(j) * density(mpmath.mpf(T), j) for j in range(k))
    gone = mpmath.mpf(0)
    if n > 0 and dropout:
        gone = density(mpmath.mpf(t_x), 0) * (stay(n - 1) - stay(n))
    return mpmath.log(alive + gone), alive / (alive + gone)


def pareto_in_60_digits(params, x, t_x, T):
    """The published form with hypergeometric functions."""
    r, alpha, s, beta, t_x, T = (mpmath.mpf(v) for v in (*params, t_x, T))

    def tail(t):
        low, high = sorted([alpha + t, beta + t])
        power = (s + 1) if high == alpha + t else (r + x)
        return high ** -(r + s + x) / (r + s + x) * mpmath.hyp2f1(r + s + x, power, r + s + x + 1, (high - low) / high)

    alive = (alpha + T) ** -(r + x) * (beta + T) ** -s
    both = alive + s * (tail(t_x) - tail(T))
    return mpmath.log(mpmath.gamma(r + x) / mpmath.gamma(r) * alpha**r * beta**s * both), alive / both


@named
def test_likelihood_and_p_alive_equal_the_papers_formula_in_60_digits(model):
    x, t, T = (np.array(v) for v in zip(*STATES, strict=True))
    for params in of(model):
        with mpmath.workdps(60):
            if model.title == "Pareto/NBD":
                wanted = [pareto_in_60_digits(params, *state) for state in STATES]
            else:
                wanted = [bg_in_60_digits(params, *state, model.extra, model.k) for state in STATES]
        assert model.loglike(params, x, t, T) == pytest.approx([float(w[0]) for w in wanted], rel=1e-11, abs=1e-11)
        assert model.p_alive(params, x, t, T) == pytest.approx([float(w[1]) for w in wanted], rel=1e-8, abs=1e-11)


@named
@pytest.mark.parametrize("work", [(-2.0, 1.0, -1.0, -1.0), (-2.0, -14.0, -1.0, -14.0), (-3.0, 4.0, 2.0, 3.0)])
def test_gradient_is_the_slope_of_the_likelihood_with_covariates_too(model, work):
    frame = pd.DataFrame(STATES, columns=["frequency", "recency", "T"]).assign(weight=1.0)
    frame = frame.assign(z=np.arange(len(frame)) % 3 / 2, g=np.where(np.arange(len(frame)) % 2, "a", "b"))
    leaves = len(model.names) > 2
    design = Design("~ z + g", "~ g" if leaves else None).learn(frame)
    loglike = Histories.of(model, frame, design, None, "W").objective(np.zeros(0))
    point = np.array([*work[: len(model.names)], 0.3, -0.2, 0.4][: len(model.names) + 2 + leaves])
    slopes = loglike(point)[1]
    for j, slope in enumerate(slopes):
        step = np.zeros(len(point))
        step[j] = 1e-5
        numeric = (loglike(point + step)[0] - loglike(point - step)[0]) / 2e-5
        assert slope == pytest.approx(numeric, rel=1e-6, abs=1e-6)


@named
def test_no_heterogeneity_is_an_ordinary_point(model):
    x, t, T = (np.array(v) for v in zip(*STATES, strict=True))
    keep = x < 200
    size = len(model.names)
    limit = np.array([-2.0, -np.inf, -3.0, -np.inf])[:size]
    near = np.array([-2.0, -18.0, -3.0, -18.0])[:size]
    histories = Histories(model, x[keep], t[keep], T[keep])
    exact = histories.each(limit)
    assert np.isfinite(exact).all()
    assert np.isfinite(histories.objective(np.zeros(0))(limit)[1]).all()
    assert exact == pytest.approx(histories.each(near), rel=1e-4)


RECOVERED = [
    (clv.BGNBD(), (0.8, 6.0, 0.9, 2.5)), (clv.BGNBD(), (2.0, 30.0, 0.4, 0.9)),
    (clv.MBGNBD(), (0.8, 6.0, 0.9, 2.5)), (clv.MBGNBD(), (0.5, 3.0, 2.0, 9.0)),
    (clv.ParetoNBD(), (0.55, 10.6, 0.6, 11.7)), (clv.ParetoNBD(), (2.0, 10.0, 1.5, 60.0)),
    (clv.NBD(), (0.4, 12.0)), (clv.NBD(), (3.0, 40.0)),
    (clv.BGCNBD(2), (0.8, 3.0, 0.9, 2.5)), (clv.BGCNBD(3), (1.5, 4.0, 0.6, 2.0)),
    (clv.MBGCNBD(2), (0.8, 3.0, 0.9, 2.5)), (clv.MBGCNBD(3), (1.5, 4.0, 0.6, 2.0)),
]  # fmt: skip


@pytest.mark.parametrize(("model", "params"), RECOVERED, ids=lambda v: getattr(v, "title", None))
def test_fit_recovers_the_parameters_that_made_the_data(model, params):
    frame = customers(type(model).__name__, params, 8000, 52.0, seed=1, k=model.k)
    result = model.fit(frame, unit="W")
    assert result.converged
    assert not result.boundary
    z = (np.log(result.params) - np.log(params)) / np.sqrt(np.diag(result._log_cov()))
    assert (np.abs(z) < 4).all(), z


@pytest.mark.parametrize("family", [clv.BGCNBD, clv.MBGCNBD])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_likeliest_regularity_is_the_one_that_made_the_data(family, k):
    frame = customers(family.__name__, (1.5, 4.0, 0.6, 2.0), 3000, 52.0, seed=5, k=k)
    assert family().fit(frame, unit="W").model.k == k


@named
def test_expectations_equal_the_mean_of_simulated_futures(model):
    frame = customers(type(model).__name__, of(model)[0], 1500, np.linspace(5, 60, 1500), seed=2, k=model.k)
    result = certain(model.fit(frame, unit="W"))
    draws = 600
    purchases, _ = result.simulate(frame, horizon=30, draws=draws, seed=3)
    table, chances = result.predict(frame, horizon=30, annual_discount=0), result.pmf(frame, horizon=30, top=4)
    error = purchases.sum(axis=1).std() / np.sqrt(draws)
    assert purchases.sum(axis=1).mean() == pytest.approx(table["expected_purchases"].sum(), abs=4 * error)
    for n in range(5):
        hits = (purchases == n).sum(axis=1)
        assert hits.mean() == pytest.approx(chances[n].sum(), abs=4.5 * hits.std() / np.sqrt(draws) + 1e-9)
    assert chances[0].to_numpy() == pytest.approx(table["p_no_purchase"].to_numpy(), abs=1e-9)
    assert chances.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-9)


@named
def test_the_mean_of_the_pmf_is_the_expectation(model):
    frame = pd.DataFrame({"frequency": [0, 1, 7], "recency": [0.0, 20.0, 30.0], "T": [39.0, 30.0, 31.0]})
    result = model.fit(customers(type(model).__name__, of(model)[0], 800, 50.0, seed=4, k=model.k), unit="W")
    chances = result.pmf(frame, horizon=4, top=150).drop(columns="more")
    expected = result.predict(frame, horizon=4, annual_discount=0)["expected_purchases"]
    assert (chances @ np.arange(151)).to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)


@pytest.mark.parametrize("model", TIMELESS, ids=lambda m: m.title)
def test_two_horizons_in_a_row_add_up_to_one(model):
    frame = customers(type(model).__name__, of(model)[0], 800, 50.0, seed=4)
    result = model.fit(frame, unit="W")
    first, then = result.predict(frame, horizon=20), result.predict(frame, horizon=30, as_of=20)
    whole = result.predict(frame, horizon=50)
    sums = first["expected_purchases"] + then["expected_purchases"]
    assert sums.to_numpy() == pytest.approx(whole["expected_purchases"].to_numpy(), rel=1e-8)
    rate = np.log(1.1) * 7 / 365.25
    sums = first["discounted_purchases"] + np.exp(-20 * rate) * then["discounted_purchases"]
    assert sums.to_numpy() == pytest.approx(whole["discounted_purchases"].to_numpy(), rel=1e-7)
    assert (then["p_alive"] <= first["p_alive"] + 1e-12).all()
    never = 1 - (1 - first["p_no_purchase"]) - (1 - then["p_no_purchase"])
    assert (whole["p_no_purchase"] >= never - 1e-9).all()


@named
def test_predictions_stay_finite_for_500_purchases_in_ten_years_of_days(model):
    x, T = (v.ravel() for v in np.meshgrid([0, 1, 10, 100, 500], [1.0, 30.0, 365.0, 3652.0]))
    frame = pd.DataFrame({"frequency": x, "recency": np.where(x > 0, T * 0.9, 0.0), "T": T, "unit": "D"})
    base = model.fit(customers(type(model).__name__, of(model)[0], 500, 50.0, seed=4, k=model.k), unit="D")
    for params in of(model):
        result = dataclasses.replace(base, work=model.work(params))
        for horizon in (1.0, 365.0, 3652.0):
            table = result.predict(frame, horizon=horizon)
            assert np.isfinite(table.to_numpy()).all()
            assert (table["discounted_purchases"] <= table["expected_purchases"] * (1 + 1e-6)).all()
            assert table["p_alive"].between(0, 1).all()
            assert table["p_no_purchase"].between(-1e-12, 1 + 1e-12).all()
        assert np.isfinite(result.predict(frame, horizon=np.inf)["discounted_purchases"]).all()
        assert np.isfinite(result.pmf(frame, horizon=365.0).to_numpy()).all()


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
def test_expected_and_discounted_purchases_equal_high_precision_quadrature(x, horizon, cdnow_summary):
    params = (0.25, 4.4, 0.8, 2.4)
    base = clv.MBGNBD().fit(cdnow_summary)
    result = dataclasses.replace(base, work=base.model.work(params))
    rate = 0.0018
    with mpmath.workdps(20):
        purchases, discounted = expected_by_mpmath(params, x, 39.0, horizon, rate, 1)
    frame = pd.DataFrame({"frequency": [x], "recency": [30.0 if x else 0.0], "T": [39.0]})
    got = result.predict(frame, horizon=horizon, annual_discount=math.expm1(rate * 365.25 / 7)).iloc[0]
    assert got["discounted_purchases"] == pytest.approx(got["p_alive"] * discounted, rel=1e-7)
    if purchases is None:
        assert np.isinf(got["expected_purchases"]), "with a < 1 some customers never leave: E[1/p] does not exist"
    else:
        assert got["expected_purchases"] == pytest.approx(got["p_alive"] * purchases, rel=1e-7)


def test_p_alive_of_a_one_time_buyer_is_one_only_in_the_unmodified_model():
    assert clv.BGNBD().p_alive(BG_PARAMS[0], [0], [0.0], [39.0])[0] == 1
    assert 0 < clv.MBGNBD().p_alive(BG_PARAMS[0], [0], [0.0], [39.0])[0] < 1
    assert clv.NBD().p_alive(BG_PARAMS[0][:2], [3], [2.0], [39.0])[0] == 1


@pytest.mark.parametrize(
    ("model", "params", "named"),
    [
        (clv.MBGNBD(), (5e4, 5e5, 5e4, 45e4), {"r", "alpha", "a", "b"}),
        (clv.ParetoNBD(), (5e4, 5e5, 5e4, 2e6), {"r", "alpha", "s", "beta"}),
        (clv.NBD(), (5e4, 5e5), {"r", "alpha"}),
        (clv.MBGCNBD(2), (5e4, 2e5, 5e4, 45e4), {"r", "alpha", "a", "b"}),
    ],
    ids=lambda v: getattr(v, "title", None),
)
def test_identical_customers_end_at_a_boundary_that_is_named(model, params, named):
    found = set()
    for seed in range(4):
        frame = customers(type(model).__name__, params, 1500, 40.0, seed=seed, k=model.k)
        result = model.fit(frame, unit="W")
        assert result.converged
        assert result.bse[list(result.boundary)].isna().all()
        assert np.isinf(result.params[list(result.boundary)]).all()
        found |= set(result.boundary)
        predicted = result.predict(pd.DataFrame({"frequency": [0, 4], "recency": [0, 39.0], "T": [40.0, 40.0]}))
        assert np.isfinite(predicted.to_numpy()).all()
    assert found == named, "half of the samples show less variation than chance gives, and end at the edge"


@pytest.mark.parametrize("model", [clv.MBGNBD(), clv.ParetoNBD()], ids=lambda m: m.title)
@pytest.mark.parametrize("seed", range(4))
def test_customers_who_never_leave_are_seen_as_such_at_a_boundary(model, seed):
    frame = customers("NBD", (2.0, 10.0), 3000, 40.0, seed=seed)
    result = model.fit(frame, unit="W")
    assert result.converged
    alive = result.predict(pd.DataFrame({"frequency": [5], "recency": [39.0], "T": [40.0]}), horizon=10)
    assert alive["p_alive"].item() > 0.99
    assert np.log(result.params["r"] / 2) == pytest.approx(0, abs=0.15)
    assert result.simulate(frame, horizon=20, draws=5)[0].sum() > 0


@pytest.mark.parametrize("model", [clv.MBGNBD(), clv.ParetoNBD()], ids=lambda m: m.title)
def test_row_order_weights_and_unit_of_time_leave_fit_and_predictions_alone(model, cdnow_summary):
    base = model.fit(cdnow_summary)
    mixed = cdnow_summary.sample(frac=1, random_state=0)
    shuffled = model.fit(mixed)
    assert shuffled.params.equals(base.params)
    table = base.predict(cdnow_summary.set_index("customer_id", drop=False))
    pd.testing.assert_frame_equal(shuffled.predict(mixed).loc[table.index], table, rtol=1e-12)
    doubled = model.fit(pd.concat([cdnow_summary, cdnow_summary]))
    weighted = model.fit(clv.states(cdnow_summary).eval("weight = 2 * weight"))
    assert weighted.params.to_numpy() == pytest.approx(doubled.params.to_numpy(), rel=1e-9)
    assert weighted.llf == pytest.approx(2 * base.llf, rel=1e-12)
    assert weighted.bse.to_numpy() == pytest.approx(base.bse.to_numpy() / np.sqrt(2), rel=1e-6)
    days = cdnow_summary.assign(recency=cdnow_summary["recency"] * 7, T=cdnow_summary["T"] * 7, unit="D")
    in_days = model.fit(days)
    assert in_days.params.to_numpy() == pytest.approx(
        (base.params * [1, 7, 1, 7 if "s" in base.params else 1]), rel=1e-6
    )
    pd.testing.assert_frame_equal(
        in_days.predict(days, horizon=39 * 7), base.predict(cdnow_summary, horizon=39), rtol=1e-6
    )


def test_a_fit_that_begins_with_a_sample_ends_where_the_full_search_does(monkeypatch):
    frame = customers("MBGNBD", (0.8, 6.0, 0.9, 2.5), 30_000, np.linspace(10, 60, 30_000), seed=3)
    for model in (clv.MBGNBD(), clv.ParetoNBD()):
        quick = model.fit(frame, unit="W")
        monkeypatch.setattr("crmlab.clv.purchases.PILOT", 10**9)
        full = model.fit(frame, unit="W")
        monkeypatch.undo()
        assert quick.params.to_numpy() == pytest.approx(full.params.to_numpy(), rel=1e-7)
        assert quick.bse.to_numpy() == pytest.approx(full.bse.to_numpy(), rel=1e-3)
        assert quick.llf == pytest.approx(full.llf, abs=1e-6)


def test_interpolated_predictions_equal_direct_ones(monkeypatch):
    T = np.random.default_rng(0).integers(1, 600, 20_000)
    frame = customers("MBGNBD", (0.8, 30.0, 0.9, 2.5), 20_000, T, seed=3)
    frame = frame.assign(recency=np.floor(frame["recency"]), unit="D").query("frequency == 0 or recency > 0")
    for model in (clv.MBGNBD(), clv.ParetoNBD()):
        result = model.fit(frame)
        quick = result.predict(frame, horizon=365)
        monkeypatch.setattr("crmlab.clv.predict.NODES", 10**6)
        direct = result.predict(frame, horizon=365)
        monkeypatch.undo()
        pd.testing.assert_frame_equal(quick, direct, rtol=1e-7)


def test_robust_standard_errors_equal_those_of_the_sandwich_by_hand(cdnow_summary):
    model = clv.MBGNBD()
    plain, robust = model.fit(cdnow_summary), model.fit(cdnow_summary, cov_type="robust")
    assert robust.params.equals(plain.params)
    x, t, T = (cdnow_summary[c].to_numpy() for c in ("frequency", "recency", "T"))
    scores = []
    for name in plain.params.index:
        h = 1e-5 * plain.params[name]
        up, down = (model.loglike(plain.params + side * h * (plain.params.index == name), x, t, T) for side in (1, -1))
        scores.append((up - down) / (2 * h))
    bread, scores = plain.cov_params().to_numpy(), np.stack(scores)
    wanted = np.sqrt(np.diag(bread @ (scores @ scores.T) @ bread))
    assert robust.bse.to_numpy() == pytest.approx(wanted, rel=1e-5)
    assert "robust" in str(robust.summary())


def test_the_likelihood_ratio_test_counts_an_edge_half(cdnow_summary):
    late = cdnow_summary.assign(late=(cdnow_summary["T"] < 33).astype(float))
    small, large = clv.MBGNBD().fit(late), clv.MBGNBD().fit(late, rate="~ late")
    inside, edge = clv.lr_test(small, large), clv.lr_test(small, large, at_edge=1)
    assert inside["statistic"] == pytest.approx(2 * (large.llf - small.llf))
    assert edge["p_value"] == pytest.approx(inside["p_value"] / 2)
    with pytest.raises(ValueError, match="parameters more"):
        clv.lr_test(large, small)
    with pytest.raises(ValueError, match="less likely"):
        clv.lr_test(small, dataclasses.replace(large, llf=small.llf - 5))
    with pytest.raises(ValueError, match="customers"):
        clv.lr_test(dataclasses.replace(small, nobs=7), large)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.05, 5), st.floats(0.5, 50), st.floats(0.1, 5), st.floats(0.1, 5), st.integers(0, 50), st.floats(0.01, 1)
)
def test_waiting_longer_never_makes_a_customer_more_alive(r, alpha, a, b, x, share):
    T = np.linspace(20.0, 200.0, 7)
    t_x = np.full(7, 20.0 * share if x else 0.0)
    for model in (clv.MBGNBD(), clv.ParetoNBD()):
        alive = model.p_alive((r, alpha, a, b), np.full(7, x), t_x, T)
        assert (np.diff(alive) <= 1e-9).all()
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


def test_regular_timing_asks_for_what_it_needs(cdnow_summary):
    with pytest.raises(DataError, match="timing=True"):
        clv.MBGCNBD(2).fit(cdnow_summary)
    with pytest.raises(DataError, match="k must be 1, 2 or 3"):
        clv.BGCNBD(4)
    result = clv.MBGCNBD(2).fit(cdnow_summary.assign(log_gaps=0.0))
    with pytest.raises(DataError, match="k = 1 only"):
        result.predict(cdnow_summary, as_of=3)
    assert clv.Result.from_json(result.to_json()).model == clv.MBGCNBD(2)
