import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from crmlab.data import DataError
from crmlab.loyalty import brand_choice, purchase_runs
from tests.surveys import fetched


def purchases(n=1200, seed=1, interaction=0.0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"loyal": rng.random(n), "price": rng.choice([-0.4, 0.0, 0.3], n), "week": np.arange(n) // 30})
    lines = 3 * table["loyal"] - 1.5 + 2 * table["price"] + interaction * (table["loyal"] - 0.5) * table["price"]
    return table.assign(bought=(rng.random(n) < expit(lines)) * 1, household=np.arange(n) // 8)


def test_the_logit_is_that_of_statsmodels():
    table = purchases()
    found = brand_choice(table, "bought", "loyal", "price").table.loc["loyalty + price"]
    fit = sm.Logit(table["bought"], sm.add_constant(table[["loyal", "price"]])).fit(disp=0, cov_type="HC0")
    assert found["coef"].tolist() == pytest.approx(fit.params.tolist())
    assert found["se"].tolist() == pytest.approx(fit.bse.tolist(), rel=1e-3)


def test_purchases_of_one_household_do_not_count_as_independent():
    table = purchases()
    found = brand_choice(table, "bought", "loyal", "price", households="household").table.loc["loyalty + price"]
    model = sm.Logit(table["bought"], sm.add_constant(table[["loyal", "price"]]))
    groups = {"groups": table["household"], "df_correction": False}
    fit = model.fit(disp=0, cov_type="cluster", cov_kwds=groups)
    assert found["se"].tolist() == pytest.approx(fit.bse.tolist(), rel=0.01)
    doubled = pd.concat([table, table], ignore_index=True)
    twice = brand_choice(doubled, "bought", "loyal", "price", households="household").table.loc["loyalty + price"]
    assert twice["se"].to_numpy() == pytest.approx(found["se"].to_numpy(), rel=1e-6)


def test_the_scores_are_on_later_purchases_only():
    table = purchases()
    found = brand_choice(table, "bought", "loyal", "price", when="week", cut=30)
    early, late = table[table["week"] < 30], table[table["week"] >= 30]
    columns = ["loyal", "price"]
    p = sm.Logit(early["bought"], sm.add_constant(early[columns])).fit(disp=0).predict(sm.add_constant(late[columns]))
    row = found.scores.loc["loyalty + price"]
    assert row["purchases"] == len(late)
    assert row["brier"] == pytest.approx(brier_score_loss(late["bought"], p))
    assert row["log_loss"] == pytest.approx(log_loss(late["bought"], p))
    assert row["auc"] == pytest.approx(roc_auc_score(late["bought"], p))
    assert found.scores.loc["loyalty", "better_low"] > 0
    assert found.scores.loc["share only", "auc"] == 0.5
    # What comes after the cut must not move the fit.
    changed = table.assign(bought=table["bought"].where(table["week"] < 30, 1 - table["bought"]))
    again = brand_choice(changed, "bought", "loyal", "price", when="week", cut=30)
    pd.testing.assert_frame_equal(again.table, found.table)


def test_an_interaction_is_found_where_there_is_one_and_only_there():
    with_it = brand_choice(purchases(6000, 2, interaction=4.0), "bought", "loyal", "price").table
    without = brand_choice(purchases(6000, 2), "bought", "loyal", "price").table
    assert with_it.loc[("loyalty × price", "loyalty × price"), "p_value"] < 0.001
    assert without.loc[("loyalty × price", "loyalty × price"), "p_value"] > 0.05


def test_orange_juice_loyalty_and_price_decide_and_their_interaction_is_not_established():
    table = fetched("oj")
    table["household"] = purchase_runs(table, "WeekofPurchase")
    found = brand_choice(table, "bought", "LoyalCH", "PriceDiff", households="household")
    assert found.table.loc[("loyalty + price", "price"), "low"] > 5
    assert found.table.loc[("loyalty × price", "loyalty × price"), "p_value"] > 0.1
    shares = found.shares["share"].round(2)
    assert shares.loc[1].tolist() == [0.15, 0.07, 0.19]
    assert shares.loc[4].tolist() == [0.91, 1.00, 0.96]
    later = brand_choice(table, "bought", "LoyalCH", "PriceDiff", "WeekofPurchase", 265, "household").scores
    assert later.loc["loyalty + price", "brier"] < later.loc["loyalty", "brier"] < later.loc["price", "brier"]
    assert later.loc["loyalty", "better_low"] > 0


def test_orange_juice_loyalty_is_nothing_but_smoothed_earlier_purchases():
    """The trap: LoyalCH is no attitude. Within a household, the next value is .8 of this one and .2 for a purchase."""
    table = fetched("oj")
    run = purchase_runs(table, "WeekofPurchase")
    following = (0.8 * table["LoyalCH"] + 0.2 * table["bought"])[:-1].to_numpy()
    meets = np.abs(table["LoyalCH"].to_numpy()[1:] - following) < 1e-5
    same = (run.diff() == 0).to_numpy()[1:]
    assert meets[same].mean() > 0.95
    assert meets[~same].sum() <= 1
    assert run.nunique() == 142


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: d.assign(bought=1), {}, "'bought' has the same answer"),
        (lambda d: d.assign(bought=d["bought"] + 1), {}, "'bought' must be 1 where the brand was bought"),
        (lambda d: d.assign(price=np.nan), {}, "'price' has no answer"),
        (lambda d: d.assign(price=d["price"].where(d.index > 3)), {}, "4 purchases have no price"),
        (lambda d: d.assign(price=d["loyal"] * 2), {}, "'loyal' and 'price' repeat one another"),
        (lambda d: d.assign(loyal=d["bought"] + 0.1 * d["loyal"]), {}, "loyalty separate the purchases exactly"),
        (lambda d: d, {"when": "week"}, "when and cut belong together"),
        (lambda d: d, {"when": "week", "cut": 900}, "0 purchases from week 900 are not of both kinds"),
        (lambda d: d, {"households": "family"}, "no column 'family'"),
    ],
)
def test_what_does_not_fit_is_named(change, options, message):
    with pytest.raises(DataError, match=message):
        brand_choice(change(purchases()), "bought", "loyal", "price", **options)
