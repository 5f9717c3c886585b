import ibis
import numpy as np
import pandas as pd
import pytest

from crmlab import lifecycle
from crmlab.data import DataError

DECEMBER = 2.0


def members(n=400, years=3, rate=0.03, extra=0.0, seed=0):
    """Members of a club who buy at random, twice as often in December; `extra` makes days differ, as weekends do."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2020-01-01", periods=365 * years + 1)
    days = days[days < f"{2020 + years}-01-01"]
    busy = np.where(days.month == 12, DECEMBER, 1.0) * np.exp(extra * rng.normal(size=len(days)))
    own = rate * rng.gamma(3, 1 / 3, size=n)
    bought = rng.random((n, len(days))) < own[:, None] * busy
    who, when = bought.nonzero()
    return pd.DataFrame({"customer_id": who, "date": days[when]})


def test_the_season_of_simulated_members_is_found():
    table = lifecycle.season(members(), panel=True)
    assert table.index.name == "month"
    truth = np.array([1.0] * 11 + [DECEMBER])
    truth /= truth.mean()
    assert ((table["low"] <= truth) & (truth <= table["high"])).sum() >= 10
    assert table["index"].mean() == pytest.approx(1)
    assert table["years"].eq(3).all()
    assert table["dispersion"].iloc[0] == pytest.approx(1, abs=0.1), "independent purchases are Poisson"
    assert table["purchases"].sum() == len(members())


def test_newcomers_do_not_make_a_season():
    rng = np.random.default_rng(1)
    log = members()
    joined = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 400), unit="D")
    log = log[log["date"] >= joined[log["customer_id"]]]
    table = lifecycle.season(log)
    truth = np.array([1.0] * 11 + [DECEMBER])
    truth /= truth.mean()
    assert ((table["low"] <= truth) & (truth <= table["high"])).sum() >= 9
    assert table["index"].idxmax() == 12


def test_days_that_differ_widen_the_intervals():
    calm, restless = (lifecycle.season(members(extra=extra), panel=True) for extra in (0.0, 0.5))
    assert restless["dispersion"].iloc[0] > 2
    width = [np.log(table["high"] / table["low"]).mean() for table in (calm, restless)]
    assert width[1] > 1.3 * width[0]


def test_intervals_equal_those_of_the_ratio_of_counts():
    # Two months: the index of one is 2 r / (1 + r) with r the ratio of the rates, whose log has a known variance.
    days = pd.date_range("2021-01-01", "2021-02-28")
    rng = np.random.default_rng(4)
    rows = [
        (who, day) for day in days for who in rng.choice(50, rng.poisson(6 if day.month == 1 else 9), replace=False)
    ]
    log = pd.DataFrame(rows + [(who, days[0]) for who in range(50)], columns=["customer_id", "date"])
    table = lifecycle.season(log, panel=True)
    counts, exposure = table["purchases"].to_numpy(), table["customer_days"].to_numpy()
    r = counts / exposure
    assert table["index"].to_numpy() == pytest.approx(2 * r / r.sum())
    share = r / r.sum()
    spread = np.sqrt(table["dispersion"].iloc[0] * (1 / counts).sum()) * (1 - share)
    assert (np.log(table["high"] / table["index"]) / 1.959964).to_numpy() == pytest.approx(spread, rel=1e-5)


def test_rates_take_the_season_out():
    log = members()
    seasons = lifecycle.season(log, panel=True)
    rates = lifecycle.buying_rates(log, panel=True)
    assert isinstance(rates, ibis.Table)
    table = rates.to_pandas().set_index("customer_id").sort_index()
    days = pd.date_range(log["date"].min(), log["date"].max())
    average = days.month.map(seasons["index"]).to_numpy().sum()
    count = log.groupby("customer_id").size().reindex(table.index)
    assert table["rate"].to_numpy() == pytest.approx((30 * count / average).to_numpy())

    some = lifecycle.buying_rates(log, seasons).to_pandas().set_index("customer_id").sort_index()
    first = log.groupby("customer_id")["date"].min()
    who = first.idxmax()
    later = days[days > first[who]]
    assert some.loc[who, "average_days"] == pytest.approx(later.month.map(seasons["index"]).to_numpy().sum())
    assert some.loc[who, "purchases"] == count[who] - 1


def test_whoever_came_lately_has_no_rate():
    log = pd.concat([members(100), pd.DataFrame({"customer_id": [999] * 2, "date": ["2022-12-01", "2022-12-05"]})])
    log["date"] = pd.to_datetime(log["date"])
    table = lifecycle.buying_rates(log).to_pandas().set_index("customer_id")
    assert np.isnan(table.loc[999, "rate"])
    assert table["rate"].notna().sum() == 100


def test_thresholds_follow_the_season():
    table = lifecycle.frequency_thresholds(members(rate=0.1), panel=True, n_boot=99)
    assert (table["frequent"] / table["index"]).std() < 1e-9
    assert table["frequent_from"].idxmax() == 12
    assert ((table["rare_low"] <= table["rare"]) & (table["rare"] <= table["rare_high"])).all()
    assert ((table["frequent_low"] <= table["frequent"]) & (table["frequent"] <= table["frequent_high"])).all()
    assert (table["rare"] < table["frequent"]).all()
    rates = lifecycle.buying_rates(members(rate=0.1), panel=True).rate.to_pandas()
    assert table["frequent"].iloc[0] == pytest.approx(rates.quantile(0.8) * table["index"].iloc[0])


@pytest.mark.parametrize(
    ("log", "options", "words"),
    [
        (members(20, 1), {"rare": 0.9}, "0 < rare < frequent < 1"),
        (members(20, 1)[lambda d: d["date"] < "2020-01-31"], {}, "two months of the year at least"),
        (members(20, 1), {"min_days": 9999}, "lower min_days"),
    ],
)
def test_what_has_no_season_is_refused_in_words(log, options, words):
    with pytest.raises(DataError, match=words):
        lifecycle.frequency_thresholds(log, **options)


def test_one_customer_is_enough_for_a_season_of_his_own():
    log = members(1, 2, rate=0.3)
    assert len(lifecycle.season(log, panel=True)) == 12
    assert len(lifecycle.frequency_thresholds(log, panel=True, n_boot=9)) == 12
