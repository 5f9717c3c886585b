import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmlab.data import DataError
from crmlab.loyalty import verdict

PAIR = {"one": "satisfaction", "other": "loyalty"}


@pytest.mark.parametrize(
    ("about", "numbers", "expected"),
    [
        ("distinct", PAIR | {"estimate": 0.75, "low": 0.68, "high": 0.82},
         "In this sample satisfaction and loyalty are distinguishable (HTMT .75, 95 % interval .68 to .82, limit "
         ".90)."),
        ("distinct", PAIR | {"estimate": 0.957, "low": 0.80, "high": 1.10},
         "In this sample it is not settled whether satisfaction and loyalty are distinguishable (HTMT .96, 95 % "
         "interval "
         ".80 to 1.10, limit .90)."),
        ("distinct", PAIR | {"estimate": 0.95, "low": 0.93, "high": 0.97},
         "In this sample satisfaction and loyalty are not distinguishable (HTMT .95, 95 % interval .93 to .97, limit "
         ".90)."),
        ("distinct", PAIR | {"estimate": 0.95, "low": 0.93, "high": 0.97, "limit": 1},
         "In this sample satisfaction and loyalty are distinguishable (HTMT .95, 95 % interval .93 to .97, limit "
         "1.00)."),
        ("distinct", PAIR | {"estimate": 0.87, "low": 0.85, "high": 0.8996},
         "In this sample satisfaction and loyalty are distinguishable (HTMT .8700, 95 % interval .8500 to .8996, limit "
         ".90)."),
        ("distinct", PAIR | {"estimate": 0.87, "low": np.nan, "high": np.nan},
         "Whether satisfaction and loyalty are distinguishable in this sample cannot be judged: there is no interval."),
        ("effect", {"cause": "satisfaction", "outcome": "loyalty", "estimate": 0.5, "low": 0.4, "high": 0.6},
         "In this sample loyalty rises with satisfaction (.50, 95 % interval .40 to .60); that is an association, not "
         "yet "
         "a cause."),
        ("effect", {"cause": "price", "outcome": "loyalty", "estimate": -0.5, "low": -0.6, "high": -0.4},
         "In this sample loyalty falls with price (-.50, 95 % interval -.60 to -.40); that is an association, not yet "
         "a "
         "cause."),
        ("effect", {"cause": "price", "outcome": "loyalty", "estimate": 0.01, "low": -0.1, "high": 0.1},
         "This sample does not show that loyalty goes with price (.01, 95 % interval -.10 to .10), nor that it does "
         "not."),
        ("effect", {"cause": "price", "outcome": "loyalty", "estimate": np.nan, "low": -0.1, "high": 0.1},
         "Whether loyalty goes with price cannot be judged: the estimate has no interval."),
        ("difference", {"what": "loyalty", "one": "banks", "other": "airlines", "estimate": 0.1, "low": 0.05,
                        "high": 0.15},
         "In this sample loyalty is higher for banks than for airlines (difference .10, 95 % interval .05 to .15)."),
        ("difference", {"what": "loyalty", "one": "a", "other": "b", "estimate": -0.1, "low": -0.15, "high": -0.05},
         "In this sample loyalty is lower for a than for b (difference -.10, 95 % interval -.15 to -.05)."),
        ("difference", {"what": "loyalty", "one": "a", "other": "b", "estimate": 0.0, "low": -0.1, "high": 0.1},
         "This sample does not show which of a and b has the higher loyalty (difference .00, 95 % interval -.10 to "
         ".10)."),
        ("difference", {"what": "loyalty", "one": "a", "other": "b", "estimate": 0.0, "low": None, "high": None},
         "Whether loyalty differs between a and b cannot be judged: the difference has no interval."),
        ("cell", {"name": "loyal", "share": 0.378, "low": 0.353, "high": 0.403, "smallest": 0.145, "largest": 0.561},
         "At the chosen cut-offs 38 % are loyal (95 % interval 35 to 40 %); over all cut-offs it runs from 14 to 56 "
         "%: its "
         "size is partly a choice."),
        ("cell", {"name": "loyal", "share": 0.378, "low": 0.353, "high": np.nan, "smallest": 0.145, "largest": 0.561},
         "The share of loyal cannot be stated: it has no interval or no range over the cut-offs."),
        ("tolerance", {"rise": 5, "best": 0.11, "worst": 0.35, "low": 0.09, "high": 0.39},
         "By what customers say, +5 % would lose between 11 and 35 % of them, depending on those who did not answer "
         "(with "
         "sampling error 9 to 39 %); what they say is not what they do."),
        ("tolerance", {"rise": 5, "best": 0.20, "worst": 0.20, "low": 0.15, "high": 0.26},
         "By what customers say, +5 % would lose 20 % of them (with sampling error 15 to 26 %); what they say is not "
         "what they do."),
        ("tolerance", {"rise": 5, "best": np.nan, "worst": 0.20, "low": 0.15, "high": 0.26},
         "What a price rise would cost cannot be stated: the bounds or their interval are missing."),
        ("shape", {"outcome": "loyalty", "p_value": 4e-11, "gain": 0.02, "low": 0.005, "high": 0.034},
         "A curve describes loyalty better than a straight line (gain on unseen answers 2.0, 95 % "
         "interval .5 to 3.4 % of the squared error; lack of fit of the line, p = 4e-11); a bend alone is no proof of "
         "zones."),
        ("shape", {"outcome": "loyalty", "p_value": 0.03, "gain": 0.0, "low": -0.01, "high": 0.01},
         "A straight line does not fit loyalty exactly, but no curve is shown to predict it better (gain on "
         "unseen answers .0, 95 % interval -1.0 to 1.0 % of the squared error; lack of fit of the line, p = 0.03)."),
        ("shape", {"outcome": "loyalty", "p_value": np.nan, "gain": 0.0, "low": -0.01, "high": 0.01},
         "This sample does not show that loyalty departs from a straight line (gain on unseen answers .0, 95 % "
         "interval -1.0 to 1.0 % of the squared error)."),
        ("shape", {"outcome": "loyalty", "p_value": 0.5, "gain": np.nan, "low": -0.01, "high": 0.01},
         "Which shape describes loyalty cannot be judged."),
        ("driver", {"feature": "q4", "rank": 1, "rank_low": 1, "rank_high": 2, "of": 9},
         "q4 is number 1 of 9 drivers in this sample; its rank may be 1 to 2."),
        ("driver", {"feature": "q4", "rank": 1, "rank_low": 1, "rank_high": 1, "of": 9},
         "q4 is number 1 of 9 drivers, in this sample and in at least 95 % of the resamples."),
        ("driver", {"feature": "q4", "rank": 1, "rank_low": np.nan, "rank_high": np.nan, "of": 9},
         "The rank of q4 among 9 drivers cannot be judged: it has no interval."),
        ("asymmetry", {"feature": "q4", "kind": "basic"},
         "q4: a bad answer takes more than a good one gives: a basic factor, at these cut-offs."),
        ("asymmetry", {"feature": "q4", "kind": "undecided"},
         "q4: good or bad answers matter, but which more is not settled."),
        ("parallel", {"p_value": 0.001, "smallest": 1.04, "largest": 1.91},
         "One odds ratio for all borders of the scale is a simplification (Brant p = 0.001; odds ratios from 1.04 to "
         "1.91)."),
        ("parallel", {"p_value": 0.2, "smallest": 1.4, "largest": 1.5},
         "This sample does not show that the odds ratio changes along the scale (Brant p = 0.2; odds ratios from 1.40 "
         "to "
         "1.50)."),
        ("parallel", {"p_value": np.nan, "smallest": 1.4, "largest": 1.5},
         "Whether one odds ratio serves all borders of the scale cannot be judged: some border has no estimate."),
        ("moderation", {"moderator": "switching cost", "cause": "satisfaction", "outcome": "loyalty",
                        "estimate": -0.071, "low": -0.138, "high": -0.02},
         "In this sample the slope of loyalty on satisfaction is smaller, the higher switching cost (-.07, 95 % "
         "interval "
         "-.14 to -.02)."),
        ("moderation", {"moderator": "m", "cause": "x", "outcome": "y", "estimate": 0.1, "low": 0.05, "high": 0.15},
         "In this sample the slope of y on x is larger, the higher m (.10, 95 % interval .05 to .15)."),
        ("moderation", {"moderator": "m", "cause": "x", "outcome": "y", "estimate": 0.1, "low": -0.05, "high": 0.15},
         "This sample does not show that m changes how y goes with x (.10, 95 % interval -.05 to .15)."),
        ("moderation", {"moderator": "m", "cause": "x", "outcome": "y", "estimate": 0.1, "low": np.nan, "high": 0.15},
         "Whether m changes what x does to y cannot be judged: there is no interval."),
        ("value", {"one": "the loyal", "other": "captives", "estimate": 1240, "low": 310, "high": 2170, "unit": "USD"},
         "At the stated margin, cost and discount rate, the loyal are worth more than captives (difference in USD a "
         "customer 1,240, 95 % interval 310 to 2,170)."),
        ("value", {"one": "the loyal", "other": "captives", "estimate": -40, "low": -90, "high": -10, "unit": "USD"},
         "At the stated margin, cost and discount rate, the loyal are worth less than captives (difference in USD a "
         "customer -40, 95 % interval -90 to -10)."),
        ("value", {"one": "the loyal", "other": "captives", "estimate": 40, "low": -20, "high": 110, "unit": "USD"},
         "At the stated margin, cost and discount rate, it is not settled whether the loyal or captives are worth more "
         "(difference in USD a customer 40, 95 % interval -20 to 110)."),
        ("value", {"one": "the loyal", "other": "captives", "estimate": -40, "low": -90, "high": -10, "unit": "USD",
                   "unprofitable": True},
         "At the stated margin, cost and discount rate, the loyal cost more than they bring: keeping them adds to the "
         "loss "
         "(difference in USD a customer -40, 95 % interval -90 to -10)."),
        ("value", {"one": "the loyal", "other": "captives", "estimate": 1, "low": np.nan, "high": 2, "unit": "USD"},
         "What the loyal are worth beyond captives cannot be stated: there is no interval."),
    ],
)  # fmt: skip
def test_every_branch_says_this(about, numbers, expected):
    assert verdict(about, **numbers) == expected


@pytest.mark.parametrize("kind", ["basic", "performance", "excitement", "undecided", "no effect shown", "reversed"])
def test_every_kind_of_feature_has_a_sentence(kind):
    assert verdict("asymmetry", feature="WRONGQ", kind=kind).startswith("WRONGQ: ")


ENDS = st.tuples(*[st.floats(-2, 2, allow_nan=False)] * 3).map(sorted)


@given(ENDS, st.floats(0.1, 1.5))
def test_distinct_never_claims_more_than_the_interval_that_it_prints(numbers, limit):
    low, estimate, high = numbers
    said = verdict("distinct", **PAIR, estimate=estimate, low=low, high=high, limit=round(limit, 2))
    first, last = (float(v) for v in re.search(r"interval (\S+) to ([^,]+),", said).groups())
    if "are distinguishable" in said and "settled" not in said:
        assert last < round(limit, 2)
    elif "not distinguishable" in said:
        assert first >= round(limit, 2)
    else:
        assert low < round(limit, 2) <= high


@given(ENDS)
def test_an_effect_is_claimed_only_where_the_printed_interval_leaves_out_zero(numbers):
    low, estimate, high = numbers
    said = verdict("effect", cause="x", outcome="y", estimate=estimate, low=low, high=high)
    first, last = (float(v) for v in re.search(r"interval (\S+) to ([^)]+)\)", said).groups())
    if "rises" in said:
        assert low > 0
        assert first > 0 or low < 1e-7
    elif "falls" in said:
        assert high < 0
        assert last < 0 or high > -1e-7
    else:
        assert low <= 0 <= high


@pytest.mark.parametrize(
    ("about", "numbers", "message"),
    [
        ("luck", {}, "no verdict about 'luck'; there are distinct, effect"),
        ("effect", {"cause": "x"}, "needs cause, outcome, estimate, low, high; it was given cause"),
        ("asymmetry", {}, "it was given nothing"),
        ("asymmetry", {"feature": "q", "kind": "basic", "colour": 1}, "it was given feature, kind, colour"),
        ("asymmetry", {"feature": "q", "kind": "magic"}, "no kind 'magic' of feature"),
        ("distinct", PAIR | {"estimate": 0.9, "low": 0.95, "high": 0.85}, "upside down: low 0.95 is above high 0.85"),
    ],
)
def test_a_wrong_call_is_answered_by_what_is_missing(about, numbers, message):
    with pytest.raises(DataError, match=message):
        verdict(about, **numbers)
