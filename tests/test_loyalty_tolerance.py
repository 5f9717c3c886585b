import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from crmlab.data import DataError
from crmlab.loyalty import price_tolerance
from tests.surveys import acsi

CODES = {"more": 26, "no_answer": (98, 99), "unclear": (101,)}


def asked(industry, **options):
    return price_tolerance(acsi(industry), "SATIS", "HIGHPTOL", "REPUR", 6, **CODES, **options)


def toy():
    """Three numbers (one above the list), one unclear, one silent, two who were not asked, one unknown filter."""
    return pd.DataFrame(
        {
            "satisfied": [9, 8, 10, 10, 7, 3, 2, 5],
            "again": [9, 8, 10, 10, 7, 3, 1, np.nan],
            "rise": [3, 15, 26, 101, 98, np.nan, np.nan, np.nan],
        }
    )


def test_the_bounds_count_the_silent_once_as_staying_and_once_as_leaving():
    found = price_tolerance(toy(), "satisfied", "rise", "again", 6, **CODES, bands=(1,), n_boot=0)
    inside = found.lost.loc[("all", "asked", 5)]
    assert inside["customers"] == 5
    assert inside[["answers_only", "unclear_stay", "best", "worst"]].tolist() == pytest.approx(
        [1 / 3, 1 / 4, 1 / 5, 3 / 5]
    )
    everyone = found.lost.loc[("all", "all", 5)]
    assert everyone["customers"] == 8
    assert everyone[["best", "worst"]].tolist() == pytest.approx([3 / 8, 6 / 8])
    assert found.counts.to_dict() == {
        "gave a number": 3,
        "unclear code": 1,
        "asked, no answer": 1,
        "not asked": 2,
        "filter question without answer": 1,
        "no answer on satisfaction": 0,
    }


def test_a_blank_of_someone_who_was_asked_is_no_answer():
    table = toy().assign(rise=lambda d: d["rise"].replace(98, np.nan))
    one, other = (
        price_tolerance(t, "satisfied", "rise", "again", 6, **CODES, bands=(1,), n_boot=0) for t in (toy(), table)
    )
    pd.testing.assert_frame_equal(one.lost, other.lost)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10), st.sampled_from([0, 5, 10, 25, 26, 98, 101])), min_size=3, max_size=40))
def test_what_is_known_lies_between_the_bounds_and_losses_rise_with_the_price(answers):
    table = pd.DataFrame([*answers, (5, 10)], columns=["s", "t"])
    lost = price_tolerance(table, "s", "t", **CODES, n_boot=0).lost
    assert (lost["low"] <= lost["best"]).all()
    assert (lost["best"] <= lost["unclear_stay"].fillna(1) + 1e-12).all()
    known = lost["answers_only"].fillna(lost["best"])
    assert (known >= lost["best"] - 1e-12).all()
    assert (lost["best"] <= lost["worst"]).all()
    assert (lost["worst"] <= lost["high"]).all()
    steps = lost.groupby(["satisfaction", "base"], sort=False)["best"].diff().dropna()
    assert (steps >= 0).all()


def test_acsi_the_range_of_the_answer_is_printed_not_one_number():
    """Of the very satisfied, 11 to 35 % of airline customers are lost at +5 %, and 20 to 52 % of bank customers."""
    for industry, best, worst in (("airline", 0.11, 0.35), ("bank", 0.20, 0.52)):
        lost = asked(industry, bands=(1, 9), n_boot=0).lost.loc[("9 and more", "asked", 5)]
        assert lost[["best", "worst"]].tolist() == pytest.approx([best, worst], abs=0.005)


def test_acsi_dropping_the_undocumented_code_understates_the_link():
    found = asked("bank", bands=(1,), n_boot=300).association
    assert found.loc["gave a number", "spearman"] == pytest.approx(0.04, abs=0.005)
    assert found.loc["unclear code on top", "spearman"] == pytest.approx(0.16, abs=0.005)
    assert found.loc["gave a number", "high"] < found.loc["unclear code on top", "low"]


def test_acsi_the_filter_restricts_the_range():
    found = asked("internet", bands=(1,), n_boot=300).association
    rest = found.loc["those not asked at the bottom"]
    assert rest["low"] > found.loc["unclear code on top", "high"] + 0.3
    assert rest["customers"] > found.loc["unclear code on top", "customers"] + 600


def test_the_correlation_is_that_of_scipy_and_its_interval_holds_it():
    rng = np.random.default_rng(2)
    x = rng.integers(1, 11, 300)
    y = np.clip(2 * x + rng.integers(-8, 9, 300), 0, 25)
    found = price_tolerance(pd.DataFrame({"s": x, "t": y}), "s", "t", n_boot=500).association.loc["gave a number"]
    assert found["spearman"] == pytest.approx(spearmanr(x, y).statistic)
    assert found["low"] < found["spearman"] < found["high"]
    # Fisher's transformation, with the variance of ranks.
    half = 1.96 * np.sqrt(1.06 / 297) * (1 - found["spearman"] ** 2)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.25)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda d: d.assign(rise=d["rise"].where(d["again"] != 1, 5)),
            {},
            "1 customers answered 'rise', which is asked only",
        ),
        (lambda d: d, {"unclear": ()}, "'rise' holds 101 in 1 rows, which is no percentage"),
        (lambda d: d, {"no_answer": ()}, "'rise' holds 98 in 1 rows, which is no percentage"),
        (lambda d: d, {"rises": (26,)}, "A rise of 26 % is beyond what 'rise' tells"),
        (lambda d: d.assign(rise="much"), {}, "'rise' holds 'much' in row 1"),
        (lambda d: d.assign(rise=np.nan), {}, "'rise' has no answer at all"),
        (lambda d: d.drop(columns="again"), {}, "no column 'again'"),
        (lambda d: d.assign(satisfied=d["satisfied"].where(d.index != 1, 98)), {}, "'satisfied' holds 98"),
        (lambda d: d, {"bands": (1, 5.5, 6)}, "Nobody's satisfaction is in the band 5.5 to under 6"),
        (lambda d: d, {"asked_from": None}, "asked and asked_from belong together"),
    ],
)
def test_what_does_not_fit_is_named(change, options, message):
    options = {"asked": "again", "asked_from": 6, "n_boot": 0, **CODES, **options}
    with pytest.raises(DataError, match=message):
        price_tolerance(change(toy()), "satisfied", "rise", **options)
