import dataclasses
import itertools
import json

import ibis
import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import clv
from crmlab.data import DataError
from tests.customers import certain


@pytest.fixture(scope="module")
def fits(cdnow_summary):
    return clv.MBGNBD().fit(cdnow_summary), clv.GammaGamma().fit(cdnow_summary)


def test_value_is_margin_times_purchases_times_spend(fits, cdnow_summary):
    fit, spend = fits
    table = fit.predict(cdnow_summary, horizon=52, spend=spend, margin=0.3)
    assert table["clv"].to_numpy() == pytest.approx(
        0.3 * table["discounted_purchases"].to_numpy() * table["expected_spend"].to_numpy()
    )
    assert list(table.index) == list(cdnow_summary["customer_id"])


def test_no_discount_means_no_difference_and_a_higher_one_a_lower_value(fits, cdnow_summary):
    fit, _ = fits
    free = fit.predict(cdnow_summary, annual_discount=0)
    assert free["discounted_purchases"].equals(free["expected_purchases"])
    low, high = (fit.predict(cdnow_summary, annual_discount=d)["discounted_purchases"] for d in (0.1, 0.5))
    assert (high < low).all()
    assert (low < free["expected_purchases"]).all()


def test_a_longer_horizon_adds_purchases_and_never_passes_the_infinite_one(fits, cdnow_summary):
    fit, _ = fits
    values = [fit.predict(cdnow_summary, horizon=h)["discounted_purchases"] for h in (13, 52, 520, np.inf)]
    for shorter, longer in itertools.pairwise(values):
        assert (shorter <= longer * (1 + 1e-9)).all()


def test_simulated_futures_average_to_the_expectation(fits, cdnow_summary):
    fit, spend = fits
    purchases, amounts = certain(fit).simulate(cdnow_summary, horizon=39, spend=certain(spend), draws=2000, seed=4)
    expected = fit.predict(cdnow_summary, horizon=39, annual_discount=0, spend=spend)
    error = purchases.sum(axis=1).std() / np.sqrt(2000)
    assert purchases.sum(axis=1).mean() == pytest.approx(expected["expected_purchases"].sum(), abs=4 * error)
    error = amounts.sum(axis=1).std() / np.sqrt(2000)
    assert amounts.sum(axis=1).mean() == pytest.approx(expected["clv"].sum(), abs=4 * error)
    none = (purchases == 0).mean(axis=0)
    assert none.mean() == pytest.approx(expected["p_no_purchase"].mean(), abs=0.003)


def test_the_same_seed_gives_the_same_futures(fits, cdnow_summary):
    fit, _ = fits
    one, two, other = (fit.simulate(cdnow_summary, draws=3, seed=s)[0] for s in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_single_customers_intervals_catch_95_percent_of_the_holdout(fits, cdnow_summary):
    fit, _ = fits
    futures, _ = fit.simulate(cdnow_summary, horizon=39, draws=400)
    low, high = clv.interval(futures)
    actual = cdnow_summary["frequency_holdout"]
    assert ((actual >= low) & (actual <= high)).mean() > 0.95


def test_a_result_survives_json_exactly(fits, cdnow_summary):
    for fit in fits:
        text = fit.to_json()
        json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
        back = clv.Result.from_json(text)
        assert back.params.equals(fit.params)
        assert back.to_json() == text
        pd.testing.assert_frame_equal(back.cov_params(), fit.cov_params())
    fit = clv.Result.from_json(fits[0].to_json())
    pd.testing.assert_frame_equal(fit.predict(cdnow_summary), fits[0].predict(cdnow_summary))


def test_json_of_another_format_is_refused():
    with pytest.raises(ValueError, match="format 1"):
        clv.Result.from_json('{"format": 2}')


def test_the_summary_prints_what_the_result_holds(fits):
    text = str(fits[0].summary())
    assert "MBG/NBD results" in text
    assert "-9582.136" in text
    assert "0.5248" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"horizon": 0}, "horizon must be positive"),
        ({"horizon": -3}, "horizon must be positive"),
        ({"annual_discount": -1}, "above -1"),
    ],
)
def test_impossible_options_are_refused_in_words(fits, cdnow_summary, options, words):
    with pytest.raises(DataError, match=words):
        fits[0].predict(cdnow_summary, **options)


def test_customers_in_another_unit_of_time_are_refused(fits, cdnow_summary):
    with pytest.raises(DataError, match="fitted in units of 'W'"):
        fits[0].predict(cdnow_summary.assign(unit="D"))


@pytest.mark.parametrize("seed", [0, 3])
def test_futures_can_be_drawn_from_a_fit_at_a_boundary(seed):
    rng = np.random.default_rng(seed)
    x = rng.poisson(rng.gamma(2.0, 0.1, 3000) * 40.0)
    last = np.where(x > 0, 40 * rng.beta(np.maximum(x, 1), 1), 0.0)
    frame = pd.DataFrame({"frequency": x, "recency": last, "T": 40.0})
    fit = clv.MBGNBD().fit(frame, unit="W")
    purchases, _ = fit.simulate(frame, horizon=20, draws=50)
    expected = fit.predict(frame, horizon=20)["expected_purchases"].sum()
    assert purchases.sum(axis=1).mean() == pytest.approx(expected, rel=0.02)


@pytest.fixture(scope="module")
def table():
    return clv.summarize("cdnow_sample", calibration_end="1997-09-30")


def as_frame(table):
    return table.to_pandas().set_index("customer_id").sort_index()


@pytest.mark.parametrize(
    "options",
    [{}, {"horizon": np.inf}, {"horizon": "1998-06-30"}, {"as_of": "1997-12-09", "horizon": 20}, {"margin": 0.3}],
    ids=str,
)
def test_the_engine_and_memory_give_the_same_predictions(fits, table, cdnow_summary, options):
    fit, spend = fits
    inside = as_frame(fit.predict(table, spend=spend, **options))
    outside = fit.predict(cdnow_summary, spend=spend, **options).sort_index()
    pd.testing.assert_frame_equal(inside, outside, rtol=1e-12, atol=0, check_index_type=False)


def test_the_engine_and_memory_give_the_same_predictions_with_covariates(table):
    table = table.mutate(
        group=(table.customer_id.right(1) < "5").ifelse("low", "high"), age=table.customer_id.right(1).cast("int") / 10
    )
    frame = table.to_pandas()
    fit, spend = clv.MBGNBD().fit(frame, rate="~ group + age", dropout="~ group"), clv.GammaGamma().fit(frame)
    inside = as_frame(fit.predict(table, spend=spend))
    outside = fit.predict(frame, spend=spend).sort_index()
    pd.testing.assert_frame_equal(inside, outside, rtol=1e-12, atol=0, check_index_type=False)


def test_columns_of_an_earlier_prediction_do_not_survive_a_new_one(fits, table):
    fit, spend = fits
    earlier = table.mutate(p_alive=ibis.literal(2.0), discounted_purchases=ibis.literal(-1.0), clv=ibis.literal(0.0))
    wanted, found = (as_frame(fit.predict(data, spend=spend)) for data in (table, earlier))
    pd.testing.assert_frame_equal(found, wanted)


def test_a_table_of_another_engine_is_scored_there(fits, cdnow_summary):
    fit, spend = fits
    polars = ibis.polars.connect().create_table("summary", cdnow_summary)
    predicted = fit.predict(polars, spend=spend)
    assert predicted.get_backend().name == "polars"
    wanted = fit.predict(cdnow_summary, spend=spend).sort_index()
    pd.testing.assert_frame_equal(as_frame(predicted), wanted, rtol=1e-12, atol=0, check_index_type=False)


def test_a_day_means_the_number_of_weeks_until_it(fits, cdnow_summary):
    fit, _ = fits
    number = fit.predict(cdnow_summary, horizon=29, as_of=10)
    day = fit.predict(cdnow_summary, horizon="1998-06-30", as_of="1997-12-09")
    pd.testing.assert_frame_equal(day, number)
    same, _ = fit.simulate(cdnow_summary, horizon="1998-06-30", draws=2)
    assert (same == fit.simulate(cdnow_summary, horizon=39, draws=2)[0]).all()


@pytest.mark.parametrize("model", [clv.BGNBD(), clv.MBGNBD(), clv.ParetoNBD(), clv.NBD()], ids=lambda m: m.title)
def test_two_windows_in_a_row_expect_what_one_does(model, cdnow_summary):
    fit = model.fit(cdnow_summary)
    first = fit.predict(cdnow_summary, horizon=20)["expected_purchases"]
    then = fit.predict(cdnow_summary, horizon=32, as_of=20)["expected_purchases"]
    whole = fit.predict(cdnow_summary, horizon=52)["expected_purchases"]
    np.testing.assert_allclose(first + then, whole, rtol=1e-9)


def test_a_newcomers_expected_purchases_are_the_published_ones(cdnow_summary):
    exact = clv.BGNBD().fit(cdnow_summary)
    times = [0.1429, 1, 3, 31.8571, 32, 78]
    found = [exact.predict(clv.newcomer("W"), horizon=t)["expected_purchases"].item() for t in times]
    # Published to four digits, from estimates that stopped a little before the maximum.
    assert found == pytest.approx([0.0078, 0.0532, 0.1506, 1.0405, 1.0437, 1.8576], abs=5e-4)
    rounded = dataclasses.replace(exact, work=exact.model.work([0.243, 4.414, 0.793, 2.426]))
    r, alpha, a, b = 0.243, 4.414, 0.793, 2.426
    for t in times:
        # Fader, Hardie and Lee (2005), the expectation of a newcomer.
        series = mpmath.hyp2f1(r, b, a + b - 1, t / (alpha + t))
        wanted = (a + b - 1) / (a - 1) * (1 - (alpha / (alpha + t)) ** r * series)
        found = rounded.predict(clv.newcomer("W"), horizon=t)["expected_purchases"].item()
        assert found == pytest.approx(float(wanted), rel=1e-9)


def test_expected_purchases_do_not_depend_on_the_discount_however_far_the_horizon(fits, cdnow_summary):
    for fit in (fits[0], clv.ParetoNBD().fit(cdnow_summary)):
        for horizon in (520, 100_000, np.inf):
            free, dear = (fit.predict(cdnow_summary, horizon=horizon, annual_discount=d) for d in (0, 5.0))
            assert dear["expected_purchases"].equals(free["expected_purchases"])


def test_a_hopeless_customer_has_no_missing_future(fits):
    gone = pd.DataFrame({"frequency": [300], "recency": [4.0], "T": [520.0], "unit": "W"})
    found = fits[0].predict(gone, horizon=np.inf)
    assert found["p_alive"].item() < 1e-290
    assert not found.isna().any(axis=None)


def test_simulated_amounts_are_discounted_as_the_expectation_is(fits, cdnow_summary):
    fit, spend = map(certain, fits)
    _, amounts = fit.simulate(cdnow_summary, horizon=104, annual_discount=0.5, spend=spend, draws=600, seed=1)
    expected, free = (
        fit.predict(cdnow_summary, horizon=104, annual_discount=d, spend=spend)["clv"].sum() for d in (0.5, 0)
    )
    sums = amounts.sum(axis=1)
    error = sums.std() / np.sqrt(len(sums))
    assert sums.mean() == pytest.approx(expected, abs=4 * error)
    assert free - expected > 40 * error


def test_groups_add_up_to_all_and_the_intervals_hold_the_expectation(fits, cdnow_summary):
    fit, spend = fits
    label = np.where(cdnow_summary["frequency"] > 0, "repeat", "once")
    found = clv.customer_equity(fit, cdnow_summary, spend, margin=0.3, by=label, draws=200)
    assert found.index.tolist() == ["once", "repeat", "all"]
    for column in ("customers", "expected_purchases", "value", "share"):
        assert found.loc[["once", "repeat"], column].sum() == pytest.approx(found.loc["all", column], rel=1e-12)
    assert (found["lower"] < found["value"]).all()
    assert (found["value"] < found["upper"]).all()
    predicted = fit.predict(cdnow_summary, spend=spend, margin=0.3)["clv"].sum()
    assert found.loc["all", "value"] == pytest.approx(predicted, rel=1e-12)
    whole = clv.customer_equity(fit, cdnow_summary, spend, margin=0.3, draws=200)
    pd.testing.assert_series_equal(whole.loc["all"], found.loc["all"], rtol=1e-12)


def test_equity_is_reproducible_and_groups_come_as_a_column_or_an_array(fits, cdnow_summary):
    some = cdnow_summary.head(200).assign(group=np.arange(200) % 3)
    one = clv.customer_equity(*_equity(fits, some), by="group", draws=20, seed=7)
    pd.testing.assert_frame_equal(clv.customer_equity(*_equity(fits, some), by=some["group"], draws=20, seed=7), one)
    other = clv.customer_equity(*_equity(fits, some), by="group", draws=20, seed=8)
    assert other["value"].equals(one["value"])
    assert not other["lower"].equals(one["lower"])


def _equity(fits, data):
    return fits[0], data, fits[1]


@pytest.mark.parametrize(
    ("change", "by", "words"),
    [
        ({"monetary_value": np.nan}, None, "customers have no expected amount.*monetary_value is missing"),
        ({}, "nothing", "lacks nothing"),
        ({"group": None}, "group", "100 customers have no group"),
        ({"group": "all"}, "group", "must not be called 'all'"),
    ],
    ids=str,
)
def test_equity_that_cannot_be_summed_is_refused_in_words(fits, cdnow_summary, change, by, words):
    some = cdnow_summary.head(100).assign(**change)
    with pytest.raises(DataError, match=words) as refused:
        clv.customer_equity(*_equity(fits, some), by=by, draws=2)
    if "monetary_value" in change:
        assert str(refused.value).startswith(f"{(some['frequency'] > 0).sum()} customers")


def test_the_median_amount_is_finite_where_the_mean_does_not_exist(fits, cdnow_summary):
    fit, spend = fits
    unequal = dataclasses.replace(spend, params=pd.Series({"p": 2.0, "q": 0.8, "v": 10.0}))
    mean, median = (fit.predict(cdnow_summary, spend=unequal, spend_as=s) for s in ("mean", "median"))
    once = (cdnow_summary["frequency"] == 0).to_numpy()
    assert mean["clv"].isna().to_numpy().tolist() == once.tolist()
    assert np.isfinite(median["clv"]).all()
    with pytest.raises(DataError, match=f"{once.sum():,} customers have no expected amount.*median"):
        clv.customer_equity(fit, cdnow_summary, unequal, draws=2)


def test_the_engine_gives_no_expected_amount_where_the_mean_does_not_exist(fits, table, cdnow_summary):
    fit, spend = fits
    unequal = dataclasses.replace(spend, params=pd.Series({"p": 2.0, "q": 0.8, "v": 10.0}))
    inside = as_frame(fit.predict(table, spend=unequal))
    pd.testing.assert_frame_equal(
        inside, fit.predict(cdnow_summary, spend=unequal).sort_index(), rtol=1e-12, check_index_type=False
    )
    with pytest.raises(DataError, match=r"summary\.to_pandas\(\)"):
        fit.predict(table, spend=spend, spend_as="median")


MODELS = [clv.BGNBD(), clv.MBGNBD(), clv.ParetoNBD(), clv.NBD(), clv.BGCNBD(2), clv.MBGCNBD(3)]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)
def test_no_customers_give_empty_answers_and_one_gives_its_own(model, fits, cdnow_summary):
    data = cdnow_summary.assign(log_gaps=0.0)
    fit, spend = model.fit(data), fits[1]
    none = fit.predict(data.head(0), spend=spend)
    whole = fit.predict(data, spend=spend)
    assert none.columns.equals(whole.columns)
    assert len(none) == len(fit.pmf(data.head(0))) == 0
    assert fit.simulate(data.head(0), draws=3)[0].shape == (3, 0)
    with pytest.raises(DataError, match="no customers"):
        fit.predict(data.head(0), horizon="1998-06-30")
    for i in (0, 5):
        one = data.iloc[[i]]
        pd.testing.assert_frame_equal(fit.predict(one, spend=spend), whole.iloc[[i]], rtol=1e-7)
        assert fit.pmf(one).sum(axis=1).item() == pytest.approx(1)


def test_customers_without_an_id_keep_the_index_of_the_frame(fits, table, cdnow_summary):
    fit, spend = fits
    nameless = cdnow_summary.drop(columns="customer_id").set_index(np.arange(len(cdnow_summary)) + 7)
    assert fit.predict(nameless).index.equals(nameless.index)
    inside = fit.predict(table.drop("customer_id"), spend=spend).to_pandas()
    assert "customer_id" not in inside
    assert inside["clv"].sum() == pytest.approx(fit.predict(cdnow_summary, spend=spend)["clv"].sum(), rel=1e-12)


def test_the_amount_of_one_time_buyers_is_not_looked_at(fits, cdnow_summary):
    fit, spend = fits
    once = cdnow_summary["frequency"] == 0
    missing, zero = (
        fit.predict(cdnow_summary.assign(monetary_value=cdnow_summary["monetary_value"].mask(once, v)), spend=spend)
        for v in (np.nan, 0.0)
    )
    pd.testing.assert_frame_equal(missing, zero)
    assert np.isfinite(missing["clv"]).all()


@pytest.mark.parametrize(
    "history",
    [
        {"recency": -1.0},
        {"recency": 99.0},
        {"frequency": -1},
        {"frequency": 2.5},
        {"frequency": 0, "recency": 3.0},
        {"T": np.nan},
        {"T": np.inf},
        {"recency": np.nan},
    ],
    ids=str,
)
def test_impossible_histories_are_refused_and_can_be_listed(fits, cdnow_summary, history):
    data = cdnow_summary.astype({"frequency": float})
    data.loc[data.index[3], list(history)] = list(history.values())
    with pytest.raises(DataError, match=r"impossible history: crmlab\.clv\.states\(data\) says which"):
        fits[0].predict(data)
    with pytest.raises(DataError, match="1 states have"):
        clv.states(data)


def works(names):
    """Working coordinates wherever a fit may end: inside, at the ceiling, or without any dispersion."""
    inside, limit = st.floats(-16, 16), st.just(-np.inf)
    return st.tuples(st.floats(-12, 2), *[st.one_of(inside, limit)] * (len(names) - 1)).map(np.array)


@st.composite
def summaries(draw):
    """Whole days: up to 500 purchases in up to ten years."""
    T = draw(st.lists(st.integers(0, 3650), min_size=1, max_size=12))
    x = [draw(st.integers(0, min(500, t))) for t in T]
    last = [draw(st.integers(n, t)) if n else 0 for n, t in zip(x, T, strict=True)]
    return pd.DataFrame({"frequency": x, "recency": np.array(last, dtype=float), "T": np.array(T, dtype=float)})


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_predictions_are_possible_numbers_whatever_the_history_and_the_parameters(model, data):
    work, summary = data.draw(works(model.names)), data.draw(summaries())
    horizon = data.draw(st.sampled_from([0.5, 1, 30, 365, 3650]))
    discount = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    as_of = data.draw(st.sampled_from([0, 90])) if model.k == 1 else 0
    fit = clv.Result(model, pd.Series(model.params(work)), 0.0, 1, True, (), "D", work, np.zeros((len(work),) * 2))
    found = fit.predict(summary, horizon=horizon, annual_discount=discount, as_of=as_of)
    assert np.isfinite(found).all(axis=None)
    assert found[["p_alive", "p_no_purchase"]].stack().between(0, 1).all()
    # Differences of large numbers are off by their rounding.
    assert (found["expected_purchases"] > -1e-9).all()
    assert (found["discounted_purchases"] > -1e-9).all()
    assert (found["discounted_purchases"] <= found["expected_purchases"] * (1 + 1e-6) + 1e-9).all()
    if discount:
        whole = fit.predict(summary, horizon=np.inf, annual_discount=discount, as_of=as_of)
        assert not whole.isna().any(axis=None)
        assert np.isfinite(whole["discounted_purchases"]).all()


@pytest.mark.parametrize("model", [clv.BGNBD(), clv.MBGNBD(), clv.ParetoNBD(), clv.NBD()], ids=lambda m: m.title)
def test_ten_years_of_customers_together_are_predicted_like_each_alone(model):
    T = np.arange(10, 3651, 5.0)
    summary = pd.DataFrame({"frequency": 3, "recency": T // 2, "T": T})
    work = np.array([-4.0, 0.5, -1.0, 0.5])[: len(model.names)]
    fit = clv.Result(model, pd.Series(model.params(work)), 0.0, 1, True, (), "D", work, np.zeros((len(work),) * 2))
    many = fit.predict(summary, horizon=365)
    for i in (0, 1, 100, 700):
        np.testing.assert_allclose(many.iloc[[i]], fit.predict(summary.iloc[[i]], horizon=365), rtol=1e-5)


def test_an_infinite_horizon_needs_no_discount_but_a_negative_one_is_refused(fits, cdnow_summary):
    free = fits[0].predict(cdnow_summary, horizon=np.inf, annual_discount=0)
    assert np.isinf(free["expected_purchases"]).all(), "a = 0.89 < 1: some never leave"
    dearer = fits[0].predict(cdnow_summary, annual_discount=-0.05)
    assert (dearer["discounted_purchases"] > dearer["expected_purchases"]).all()
    with pytest.raises(DataError, match="horizon must be finite"):
        fits[0].predict(cdnow_summary, horizon=np.inf, annual_discount=-0.05)


@pytest.mark.parametrize("horizon", ["01/02/1998", "52", [1, 2], "soon"], ids=str)
def test_a_horizon_that_may_be_misread_is_refused(fits, cdnow_summary, horizon):
    with pytest.raises(DataError, match="horizon must be a number of units of time or a date such as 2024-01-31"):
        fits[0].predict(cdnow_summary, horizon=horizon)


def test_customers_of_different_calibration_ends_have_no_common_day(fits, cdnow_summary):
    ends = np.where(np.arange(len(cdnow_summary)) % 2, "1997-09-30", "1997-08-31")
    mixed = cdnow_summary.assign(calibration_end=pd.to_datetime(ends))
    with pytest.raises(DataError, match="one date at a time"):
        fits[0].predict(mixed, horizon="1998-06-30")
