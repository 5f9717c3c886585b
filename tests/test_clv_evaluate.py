import numpy as np
import pandas as pd
import pytest

from crmlab import clv
from crmlab.data import DataError


@pytest.fixture(scope="module")
def fits(cdnow_summary):
    return clv.BGNBD().fit(cdnow_summary), clv.MBGNBD().fit(cdnow_summary)


def test_scores_on_a_holdout_and_its_absence(fits, cdnow_summary):
    table = clv.compare(fits, cdnow_summary)
    assert list(table.index) == ["BG/NBD", "MBG/NBD", "own rate", "nobody differs", "last period"]
    assert table.loc["own rate", "predicted"] == pytest.approx(2930.1, abs=0.05)
    assert table.loc["own rate", "mae"] == pytest.approx(1.024, abs=0.0005)
    assert table["actual"].eq(1882).all()
    with pytest.raises(DataError, match="no hold-out"):
        clv.compare(fits, cdnow_summary.drop(columns="frequency_holdout"))


def test_the_last_period_is_repeated_customer_by_customer(cdnow_summary):
    row = clv.compare([], cdnow_summary).loc["last period"]
    error = cdnow_summary["frequency_last"] - cdnow_summary["frequency_holdout"]
    assert row["mae"] == error.abs().mean()
    assert row["predicted"] == 2457, "calibration and hold-out are equally long: 39 weeks"
    older = cdnow_summary.drop(columns=["frequency_last", "calibration_end"])
    assert "last period" not in clv.compare([], older).index


def test_the_top_decile_of_revenue_is_that_of_the_customers_predicted_highest():
    frame = pd.DataFrame(
        {
            "frequency": range(10),
            "T": 10.0,
            "T_holdout": 5.0,
            "frequency_holdout": [0] * 9 + [4],
            "amount_holdout": [30.0] + [0.0] * 8 + [10.0],
        }
    )
    table = clv.compare([], frame)
    assert table.loc["own rate", ["top_decile", "top_decile_amount"]].to_list() == [1.0, 0.25]
    tied = table.loc["nobody differs", ["top_decile", "top_decile_amount"]]
    assert tied.to_list() == pytest.approx([0.1, 0.1]), "ties share the places, whatever the order of the rows"
    assert np.isnan(clv.compare([], frame.assign(amount_holdout=0.0)).loc["own rate", "top_decile_amount"])
    assert "top_decile_amount" not in clv.compare([], frame.drop(columns="amount_holdout"))


def test_no_result_hides_another_of_the_same_title(fits, cdnow_summary):
    bg, mbg = fits
    assert list(clv.compare([bg, bg, mbg, bg], cdnow_summary).index[:4]) == [
        "BG/NBD",
        "BG/NBD (2)",
        "MBG/NBD",
        "BG/NBD (3)",
    ]
    assert list(clv.compare({"ours": bg, "theirs": bg}, cdnow_summary).index[:2]) == ["ours", "theirs"]


def test_groups_by_frequency_hold_everybody(fits, cdnow_summary):
    table = clv.by_frequency(fits[0], cdnow_summary)
    assert table["customers"].to_list() == [1411, 439, 214, 100, 62, 38, 29, 64]
    assert (table["customers"] * table["actual"]).sum() == pytest.approx(1882)
    assert table["actual"].round(3).to_list() == [0.237, 0.697, 1.393, 1.560, 2.532, 2.947, 3.862, 6.359]


def test_intervals_catch_their_share_of_customers_who_behave_as_the_model_says(fits, cdnow_summary):
    fit = fits[1]
    truth, _ = fit.simulate(cdnow_summary, horizon=39, draws=1, seed=99)
    table = clv.coverage(fit, cdnow_summary.assign(frequency_holdout=truth[0]), draws=500)
    assert (table["nominal"] >= table.index).all(), "whole numbers: intervals hold more than their level"
    assert table["caught"].to_numpy() == pytest.approx(table["nominal"], abs=0.02)
    assert table["caught_repeaters"].to_numpy() == pytest.approx(table["nominal_repeaters"], abs=0.03)
    assert table["caught_randomised"].to_numpy() == pytest.approx(table.index, abs=0.03)


def test_coverage_of_cdnow_says_where_the_total_fell(fits, cdnow_summary):
    table = clv.coverage(fits[1], cdnow_summary, levels=[0.95, 0.5], draws=300)
    assert list(table.index) == [0.95, 0.5]
    assert (table["total_actual"] == 1882).all()
    assert (table["total_lower"] < table["total_expected"]).all()
    assert (table["total_expected"] < table["total_upper"]).all()
    assert not table["total_caught"].any(), "the futures of 39 weeks of CDNOW fall short, as is known"
    shifted = cdnow_summary.assign(frequency_holdout=0)
    assert clv.coverage(fits[1], shifted, levels=[0.9], draws=50)["total_actual"].item() == 0


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, np.nan])
def test_levels_that_are_no_shares_are_refused(fits, cdnow_summary, level):
    with pytest.raises(DataError, match="between 0 and 1"):
        clv.coverage(fits[0], cdnow_summary, levels=[0.5, level])


def test_a_rolling_origin_is_a_fit_and_a_comparison_at_each_origin(cdnow_summary, fits):
    table = clv.rolling("cdnow_sample", [clv.BGNBD(), clv.MBGNBD()], ["1997-06-30", "1997-09-30"], horizon=39)
    assert table.index.names == ["origin", "model"]
    pd.testing.assert_frame_equal(table.loc["1997-09-30"], clv.compare(fits, cdnow_summary))
    assert table.loc["1997-06-30", "actual"].iloc[0] < 3000


def test_a_number_of_origins_is_spread_up_to_one_horizon_before_the_end():
    table = clv.rolling("cdnow_sample", {"mine": lambda summary: clv.MBGNBD().fit(summary)}, 2, horizon=13)
    origins = table.index.unique("origin")
    assert [str(day.date()) for day in origins] == ["1997-08-16", "1998-03-31"]
    assert set(table.index.unique("model")) >= {"mine", "own rate", "last period"}


@pytest.mark.parametrize(
    ("models", "origins", "horizon", "words"),
    [
        ([clv.BGNBD()], ["1997-09-30", "1998-06-01", "1998-06-30"], 39, "not 1998-06-01, 1998-06-30"),
        ([clv.BGNBD()], ["1997-01-01"], 39, "after the first purchase"),
        ([clv.BGNBD()], ["30/09/1997"], 39, "origin must be a date such as"),
        ([clv.BGNBD()], 3, 200, "1,400 days"),
        ([clv.BGNBD()], 0, 13, "at least one model and one origin"),
        ([], 2, 13, "at least one model and one origin"),
        ([clv.BGNBD()], 2, 0, "must be positive"),
        ([clv.BGNBD()], ["1997-01-02"], 1, "Origin 1997-01-02: .*nobody ever bought again"),
    ],
)
def test_origins_that_cannot_be_scored_are_refused(models, origins, horizon, words):
    with pytest.raises(DataError, match=words):
        clv.rolling("cdnow_sample", models, origins, horizon)


def test_tracking_adds_up_to_every_repeat_purchase(fits, cdnow_summary):
    table = clv.tracking(fits[0], "cdnow_sample", "1997-09-30")
    assert len(table) == 78
    assert table["actual"].sum() == 2457 + 1882
    assert table["in_calibration"].sum() == 39
    assert table.loc[39, ["actual_cumulative", "until"]].to_list() == [2457, pd.Timestamp("1997-09-30")]
    assert table["expected"].cumsum().to_numpy() == pytest.approx(table["expected_cumulative"])


def test_tracking_follows_only_customers_whom_the_calibration_knows():
    days = pd.date_range("2024-01-01", periods=40, freq="D")
    log = pd.DataFrame(
        [("a", days[0]), ("a", days[7]), ("a", days[30]), ("b", days[3]), ("c", days[20]), ("c", days[21])],
        columns=["customer_id", "date"],
    )
    fit = clv.BGNBD().fit(clv.summarize("cdnow_sample"))
    table = clv.tracking(fit, log, "2024-01-15", "2024-02-09")
    assert table["actual"].to_list() == [0, 1, 0, 0, 1], "c came too late; the last five days are no week"
    assert table["until"].astype(str).to_list()[-1] == "2024-02-04"
    ages = np.array([35.0, 32.0]) / 7
    alone = pd.DataFrame({"frequency": [0], "recency": [0.0], "T": [0.0]})
    expected = sum(fit.predict(alone, horizon=age)["expected_purchases"].item() for age in ages)
    assert table["expected_cumulative"].iloc[-1] == pytest.approx(expected)


def test_tracking_with_a_calendar_tells_newcomers_of_different_days_apart():
    calendar = clv.month_calendar("1997-01-01", "1998-12-31")[["dec"]]
    fit = clv.MBGNBD().fit(clv.summarize("cdnow_sample", calendar=calendar), calendar=calendar)
    days = pd.to_datetime(["1997-11-20", "1997-12-05", "1997-12-29"])
    log = pd.DataFrame({"customer_id": range(3), "date": days})
    table = clv.tracking(fit, log, "1997-12-31", "1997-12-31", calendar=calendar)
    assert table["actual"].to_list() == [0] * 6
    expected = 0.0
    for day, age in zip(days, (42, 27, 3), strict=True):
        new = pd.DataFrame({"frequency": [0], "recency": [0.0], "T": [0.0], "calibration_end": [day]})
        ahead = fit.predict(new, horizon=age / 7, calendar=calendar)
        expected += ahead["expected_purchases"].item()
    assert table["expected_cumulative"].iloc[-1] == pytest.approx(expected)


def test_tracking_without_a_unit_or_a_whole_period_is_refused(cdnow_summary):
    columns = ["frequency", "recency", "T"]
    with pytest.raises(DataError, match="no unit of time"):
        clv.tracking(clv.BGNBD().fit(cdnow_summary[columns]), "cdnow_sample", "1997-09-30")
    with pytest.raises(DataError, match="no period is over: the fit counts in years"):
        clv.tracking(clv.BGNBD().fit(cdnow_summary[columns], unit="Y"), "cdnow_sample", "1997-09-30", "1997-09-30")
