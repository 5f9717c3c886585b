import numpy as np
import pandas as pd
import pytest

from crmlab import clv
from crmlab.data import DataError
from tests.customers import customers

MODELS = [clv.BGNBD(), clv.MBGNBD(), clv.ParetoNBD(), clv.MBGCNBD(2)]
named = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.title)


@pytest.fixture(scope="module")
def groups():
    """Who is in which group, and an age."""
    rng = np.random.default_rng(3)
    return pd.DataFrame({"channel": rng.choice(["shop", "web"], 8000), "age": rng.choice([-1.0, 0.0, 1.0], 8000)})


@named
def test_a_covariate_of_zeros_equals_none_and_one_without_effect_stays_near_zero(model, cdnow_summary):
    data = cdnow_summary.assign(log_gaps=0.0, even=(np.arange(len(cdnow_summary)) % 2).astype(float))
    plain, with_one = model.fit(data), model.fit(data, rate="~ even", dropout="~ even")
    assert (np.abs(with_one.params[-2:] / with_one.bse[-2:]) < 3.5).all()
    zeros = data.assign(even=0.0)
    pd.testing.assert_frame_equal(
        with_one.predict(zeros, horizon=9),
        type(with_one)(**{**_fields(with_one), "design": None, "work": with_one.work[:4]}).predict(zeros, horizon=9),
    )
    with pytest.raises(DataError, match="do not vary"):
        model.fit(zeros, rate="~ even")
    assert with_one.llf >= plain.llf


def _fields(result):
    return {name: getattr(result, name) for name in result.__dataclass_fields__}


@named
def test_effects_on_rate_and_dropout_are_recovered(model, groups):
    web, age = (groups["channel"] == "web").to_numpy(), groups["age"].to_numpy()
    params = (0.9, 8.0, 0.8, 12.0) if model.title == "Pareto/NBD" else (0.9, 4.0, 0.9, 2.5)
    frame = customers(
        type(model).__name__,
        params,
        8000,
        52.0,
        seed=1,
        k=model.k,
        rate=np.exp(0.5 * web - 0.3 * age),
        shift=-0.8 * web,
    )
    result = model.fit(frame.join(groups), unit="W", rate="~ channel + age", dropout="~ channel")
    truth = {"rate: channel[T.web]": 0.5, "rate: age": -0.3, "dropout: channel[T.web]": -0.8}
    for name, value in truth.items():
        assert abs(result.params[name] - value) < 4 * result.bse[name]
        lower, upper = result.conf_int().loc[name]
        assert lower < result.params[name] < upper
    none = model.fit(frame, unit="W")
    assert clv.lr_test(none, result)["p_value"] < 1e-6


def test_many_distinct_values_of_a_covariate_are_no_obstacle():
    rng = np.random.default_rng(5)
    age = rng.normal(size=3000)
    frame = customers("MBGNBD", (0.9, 4.0, 0.9, 2.5), 3000, 52.0, seed=1, rate=np.exp(0.4 * age), shift=0.5 * age)
    result = clv.MBGNBD().fit(frame.assign(age=age), unit="W", rate="~ age", dropout="~ age")
    assert result.params["rate: age"] == pytest.approx(0.4, abs=4 * result.bse["rate: age"])
    assert result.params["dropout: age"] == pytest.approx(0.5, abs=4 * result.bse["dropout: age"])


def test_row_order_and_json_leave_a_fit_with_covariates_alone(groups):
    frame = customers("MBGNBD", (0.9, 4.0, 0.9, 2.5), 2000, 52.0, seed=1).join(groups)
    one = clv.MBGNBD().fit(frame, unit="W", rate="~ channel", cov_type="robust")
    two = clv.MBGNBD().fit(frame.sample(frac=1, random_state=1), unit="W", rate="~ channel", cov_type="robust")
    assert two.params.equals(one.params)
    back = clv.Result.from_json(one.to_json())
    pd.testing.assert_frame_equal(back.predict(frame, horizon=9), one.predict(frame, horizon=9))
    assert back.to_json() == one.to_json()
    pd.testing.assert_series_equal(back.bse, one.bse)


def test_simulated_futures_average_to_the_expectation_with_covariates(groups):
    frame = customers("MBGNBD", (0.9, 4.0, 0.9, 2.5), 2000, 52.0, seed=1).join(groups)
    for model in (clv.MBGNBD(), clv.ParetoNBD()):
        result = model.fit(frame, unit="W", rate="~ channel + age", dropout="~ channel")
        purchases, _ = result.simulate(frame, horizon=30, draws=400)
        expected = result.predict(frame, horizon=30)["expected_purchases"].sum()
        assert purchases.sum(axis=1).mean() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": "~ nobody"}, "lacks nobody"),
        ({"rate": "~ channel +"}, "cannot be read"),
        ({"rate": "~ channel + C(channel)"}, "repeat one another"),
        ({"rate": "~ center(age)"}, "own mean, spread"),
        ({"dropout": "~ gap"}, "have gaps"),
        ({"cov_type": "HC3"}, "nonrobust"),
    ],
)
def test_formulas_that_cannot_be_used_are_refused_in_words(groups, options, words):
    frame = customers("MBGNBD", (0.9, 4.0, 0.9, 2.5), 500, 52.0, seed=1).join(groups)
    with pytest.raises(DataError, match=words):
        clv.MBGNBD().fit(frame.assign(gap=np.where(frame.index < 3, np.nan, 1.0)), unit="W", **options)


def test_values_that_the_fit_has_not_seen_and_dropout_without_leaving_are_refused(groups):
    frame = customers("MBGNBD", (0.9, 4.0, 0.9, 2.5), 500, 52.0, seed=1).join(groups)
    result = clv.MBGNBD().fit(frame, unit="W", rate="~ channel")
    with pytest.raises(DataError, match="has not seen: phone"):
        result.predict(frame.assign(channel="phone"), horizon=5)
    with pytest.raises(DataError, match="nobody leaves"):
        clv.NBD().fit(frame, unit="W", dropout="~ channel")


@pytest.fixture(scope="module")
def seasonal():
    """Purchases day by day of customers who buy twice as often in June, November and December; two years."""
    rng = np.random.default_rng(0)
    days = pd.date_range("2020-01-01", "2022-12-31")
    calendar = pd.DataFrame({"high": days.month.isin([6, 11, 12]).astype(float)}, index=days)
    start, rate, p = rng.integers(0, 180, 3000), rng.gamma(1.0, size=3000) / 60, rng.beta(0.8, 3.0, size=3000)
    rows, alive = [(np.arange(3000), start)], rng.random(3000) >= p
    for day in range(1, 731):
        chance = -np.expm1(-rate * np.exp(0.7 * calendar["high"].iloc[day]))
        bought = np.flatnonzero(alive & (start < day) & (rng.random(3000) < chance))
        rows.append((bought, np.full(len(bought), day)))
        alive[bought] = rng.random(len(bought)) >= p[bought]
    log = pd.DataFrame(np.concatenate([np.column_stack(row) for row in rows]), columns=["customer_id", "day"])
    return log.assign(date=days[log["day"]]), calendar


def test_a_season_is_recovered_and_mends_the_forecast(seasonal):
    log, calendar = seasonal
    table = clv.summarize(log, "D", "2021-09-30", calendar=calendar).order_by("customer_id")
    summary = table.to_pandas()
    plain, result = clv.MBGNBD().fit(summary), clv.MBGNBD().fit(summary, calendar=calendar)
    assert result.params["calendar: high"] == pytest.approx(0.7, abs=4 * result.bse["calendar: high"])
    actual, horizon = summary["frequency_holdout"].sum(), summary["T_holdout"].iloc[0]
    with_season = result.predict(summary, horizon=horizon, calendar=calendar)["expected_purchases"].sum()
    without = plain.predict(summary, horizon=horizon)["expected_purchases"].sum()
    assert abs(with_season / actual - 1) < 0.06 < 0.2 < abs(without / actual - 1)
    purchases, _ = result.simulate(summary, horizon=horizon, calendar=calendar, draws=200)
    assert purchases.sum(axis=1).mean() == pytest.approx(with_season, rel=0.02)
    chances = result.pmf(summary, horizon=horizon, calendar=calendar, top=3)
    assert chances[1].sum() == pytest.approx((purchases == 1).sum(axis=1).mean(), rel=0.03)
    inside = result.predict(table, horizon=horizon, calendar=calendar).order_by("customer_id").to_pandas()
    assert inside["expected_purchases"].sum() == pytest.approx(with_season)
    by_date = result.predict(summary, horizon="2021-12-31", calendar=calendar)["expected_purchases"].sum()
    assert by_date == pytest.approx(with_season)
    assert clv.Result.from_json(result.to_json()).design == result.design


def test_a_calendar_without_events_changes_nothing(seasonal):
    log, calendar = seasonal
    summary = clv.summarize(log, "D", "2021-09-30", calendar=calendar).to_pandas()
    result = clv.MBGNBD().fit(summary, calendar=calendar)
    flat = result.predict(summary, horizon=30, calendar=calendar * 0)
    plain = type(result)(**{**_fields(result), "design": None, "work": result.work[:4]})
    pd.testing.assert_frame_equal(flat, plain.predict(summary, horizon=30), rtol=1e-9)


def test_a_calendar_too_short_or_forgotten_is_refused_in_words(seasonal):
    log, calendar = seasonal
    summary = clv.summarize(log, "D", "2021-09-30", calendar=calendar).to_pandas()
    result = clv.MBGNBD().fit(summary, calendar=calendar)
    with pytest.raises(DataError, match="hand it the calendar"):
        result.predict(summary, horizon=30)
    with pytest.raises(DataError, match="before the horizon does"):
        result.predict(summary, horizon=3000, calendar=calendar)
    with pytest.raises(DataError, match="before the horizon does"):
        result.predict(summary, horizon=np.inf, calendar=calendar)
    with pytest.raises(DataError, match="does not cover"):
        clv.MBGNBD().fit(summary, calendar=calendar.loc["2021":])
    with pytest.raises(DataError, match=r"summarize\(log, calendar=calendar\)"):
        clv.MBGNBD().fit(summary.drop(columns="calendar_high"), calendar=calendar)
    with pytest.raises(DataError, match="leave by the clock"):
        clv.ParetoNBD().fit(summary, calendar=calendar)
    with pytest.raises(DataError, match="k = 1 only"):
        clv.MBGCNBD(2).fit(summary.assign(log_gaps=0.0), calendar=calendar)
