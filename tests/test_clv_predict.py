import itertools
import json

import numpy as np
import pandas as pd
import pytest

from crmlab import clv
from crmlab.data import DataError


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
    known = clv.Result(**{**vars(fit), "work_cov": np.diag([1e-16] * 4)})
    certain = clv.Result(**{**vars(spend), "work_cov": np.diag([1e-16] * 3)})
    purchases, amounts = known.simulate(cdnow_summary, horizon=39, spend=certain, draws=2000, seed=4)
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
