import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from crmlab import data
from crmlab.data import DataError
from crmlab.lifecycle import auc, calibration, churn_models, leakage, profit, temporal_split, threshold
from crmlab.lifecycle.lifts import lift
from tests.test_lifecycle_durations import telco


def telco_table():
    table = telco().to_pandas()
    # Blank for the eleven customers who have not had a month yet.
    table["TotalCharges"] = pd.to_numeric(table["TotalCharges"].str.strip(), errors="coerce").fillna(0.0)
    return table


@pytest.fixture(scope="module")
def toy():
    """Leaving depends on visits (down), on the plan and on nothing else."""
    rng = np.random.default_rng(11)
    table = pd.DataFrame(
        {"visits": rng.poisson(4, 1200), "plan": rng.choice(["a", "b", "c"], 1200), "noise": rng.normal(size=1200)}
    )
    score = 1 - 0.5 * table["visits"] + table["plan"].map({"a": 0, "b": 1, "c": -1})
    table["left"] = (rng.random(1200) < 1 / (1 + np.exp(-score))).astype(int)
    return table.set_axis([f"c{i}" for i in range(1200)])


FEATURES = ["visits", "plan", "noise"]


@pytest.fixture(scope="module")
def found(toy):
    return churn_models(toy[:700], toy[700:], "left", FEATURES)


def test_models_recover_what_made_customers_leave(found):
    table = found.coefficients
    assert table.index.tolist() == ["constant", "visits", "noise", "plan: b", "plan: c"]
    truth = np.exp([1, -0.5, 0, 1, -1])
    assert (table["low"] < truth).all()
    assert (table["high"] > truth).all()


def test_scores_are_those_of_scikit_learn_on_the_later_data(toy, found):
    y = toy["left"][700:]
    for name, p in found.probabilities.items():
        row = found.scores.loc[name]
        assert row["auc"] == pytest.approx(roc_auc_score(y, p))
        assert row["brier"] == pytest.approx(brier_score_loss(y, p))
        assert row["lift"] == pytest.approx(y[p.nlargest(50).index].mean() / y.mean(), rel=0.02)
        for score in ("auc", "brier", "lift"):
            assert row[f"{score}_low"] < row[score] < row[f"{score}_high"]
    base = found.scores.loc["base rate"]
    assert base[["auc", "lift"]].tolist() == [0.5, 1.0]
    assert base["brier"] == pytest.approx(((toy["left"][:700].mean() - y) ** 2).mean())
    assert (found.scores["auc"][:2] > 0.7).all()


def test_the_difference_is_of_the_same_customers(found):
    scores, difference = found.scores, found.difference
    for score in ("auc", "brier"):
        gap = scores.loc["boosting", score] - scores.loc["logit", score]
        assert difference.loc[score, "difference"] == pytest.approx(gap)
        apart = scores.loc["logit", f"{score}_high"] - scores.loc["logit", f"{score}_low"]
        assert difference.loc[score, "high"] - difference.loc[score, "low"] < apart, "paired, so narrower"


def test_training_predictions_did_not_see_the_customer(toy, found):
    assert found.training.index.equals(toy.index[:700])
    assert found.probabilities.index.equals(toy.index[700:])
    rng = np.random.default_rng(0)
    noise = pd.DataFrame({"x": rng.normal(size=400), "left": np.tile([0, 1], 200)})
    blind = churn_models(noise, noise, "left", ["x"])
    assert auc(blind.training["boosting"], noise["left"])["low"] < 0.5 < 0.7 < blind.scores.loc["boosting", "auc"]


def test_calibration_counts_every_customer_once(toy, found):
    for _name, table in found.calibration.groupby("model"):
        assert table["customers"].sum() == 500
        assert (table["observed"] * table["customers"]).sum() == pytest.approx(toy["left"][700:].sum())
        assert table["predicted"].is_monotonic_increasing
        assert table["low"].le(table["observed"]).all()
    assert calibration([0.2] * 4, [0, 0, 0, 1])["observed"].tolist() == [0.25], "ties stay together"


def test_delong_by_hand():
    # Leavers 3 and 1, stayers 0 and 2: of four pairs three are right. Contributions 1, 1/2 and 1, 1/2.
    found = auc([3, 1, 0, 2], [1, 1, 0, 0])
    se = np.sqrt(0.125 / 2 + 0.125 / 2)
    half = 1.959964 * se / (0.75 * 0.25)
    logit = np.log(3)
    assert found.tolist() == pytest.approx([0.75, *(1 / (1 + np.exp(-logit - s * half)) for s in (-1, 1))], rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(rows):
    p, y = np.array(rows, dtype=float).T
    if y.min() == y.max():
        with pytest.raises(DataError, match="left: there is nobody"):
            auc(p, y)
        return
    pairs = [(a > b) + (a == b) / 2 for a in p[y == 1] for b in p[y == 0]]
    found = auc(p, y)
    assert found["auc"] == pytest.approx(np.mean(pairs))
    assert auc(-p, y)["auc"] == pytest.approx(1 - found["auc"])
    if not found.isna().any():
        assert 0 <= found["low"] <= found["auc"] <= found["high"] <= 1


def test_delong_intervals_cover():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        y = np.arange(80) < 30
        low, high = auc(rng.normal(size=80) + y, y)[["low", "high"]]
        covered += low < 0.760250 < high  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    assert 0.92 < covered / 300 < 0.98


def test_time_splits_so_that_training_outcomes_were_known():
    table = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=100), "x": range(100)})
    train, test, aside = temporal_split(table, "when", "2024-03-01", horizon=30)
    assert train["when"].max() == pd.Timestamp("2024-01-31"), "31 January + 30 days, 29 February included"
    assert test["when"].min() == pd.Timestamp("2024-03-01")
    assert len(train) + len(test) + len(aside) == 100
    assert len(aside) == 29
    train, test, aside = temporal_split(table, "x", 60)
    assert [len(train), len(test), len(aside)] == [60, 40, 0]
    abroad = table.assign(when=table["when"].dt.tz_localize("Asia/Shanghai"))
    assert len(temporal_split(abroad, "when", "2024-03-01").test) == 40, "local days, wherever they are"
    with pytest.raises(DataError, match="cut must be a date such as"):
        temporal_split(table, "when", "March")
    with pytest.raises(DataError, match="has numbers, so cut must be one"):
        temporal_split(table, "x", "2024-03-01")
    with pytest.raises(DataError, match="'x' must have dates or numbers"):
        temporal_split(pd.DataFrame({"x": ["soon"]}), "x", "2024-03-01")
    with pytest.raises(DataError, match="0 are later: choose a cut between 2024-01-01"):
        temporal_split(table, "when", "2025-01-01")


def test_leaks_are_named():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"left": np.tile([0, 0, 0, 1], 100)})
    table["reason"] = np.where(table["left"] == 1, "price", None)
    table["last_bill"] = table["left"] * 30 + rng.normal(size=400)
    table["u_shaped"] = np.where(table["left"] == 1, rng.choice([-9, 9], 400), 0) + rng.normal(size=400)
    table["name"] = [f"c{i}" for i in range(400)]
    table["closed"] = pd.Timestamp("2024-01-31") + pd.to_timedelta(np.arange(400) - 390, "D")
    table["age"] = rng.integers(20, 70, 400)
    problems = leakage(table, "left", [c for c in table if c != "left"], cut="2024-02-01")["problem"]
    assert problems["reason"] == "tells almost alone who left (AUC 1.000)"
    assert problems["last_bill"].startswith("tells almost alone")
    assert problems["u_shaped"].startswith("tells almost alone"), "high and low values may both tell"
    assert problems["name"].startswith("400 different values for 400 customers")
    assert problems["closed"] == "9 of its dates lie at or after the cut"
    assert problems["age"] == ""
    with pytest.raises(DataError, match=r"Was this known before.*last_bill: tells almost alone"):
        churn_models(table, table, "left", ["age", "last_bill"])
    accepted = churn_models(table, table, "left", ["age", "u_shaped"], accept=["u_shaped"])
    assert accepted.scores.loc["boosting", "auc"] > 0.99


def test_features_of_the_real_and_the_fictional_set_pass_the_guard():
    table = telco_table()
    features = leakage(table, "left", [c for c in table if c != "left"])
    assert features.index[features["problem"] != ""].tolist() == ["customer_id"]
    assert features.loc["Contract", "auc"] == pytest.approx(0.739, abs=0.001)
    if not data.present("iranian_churn"):
        pytest.skip("iranian_churn has not been downloaded; `crmlab data get iranian_churn` fetches it")
    real = data.open_dataset("iranian_churn").to_pandas()
    assert real["Churn"].mean() == pytest.approx(0.1571, abs=1e-4)
    found = churn_models(real[:2000], real[2000:], "Churn", [c for c in real if c != "Churn"])
    assert found.difference.loc["auc", "low"] > 0, "interactions matter there"


def test_repeated_features_and_values_of_nobody_do_no_harm(toy):
    table = toy.assign(twice=toy["visits"] * 2, plan=pd.Categorical(toy["plan"], categories=list("abcd")))
    found = churn_models(table[:700], table[700:], "left", ["visits", "twice", "plan"])
    assert found.coefficients["odds_ratio"].isna().to_dict() == {
        "constant": False, "visits": False, "twice": True, "plan: b": False, "plan: c": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "features", "words"),
    [
        ({}, ["visits", "nothing"], "no column nothing"),
        ({}, ["left"], "cannot be one of the features"),
        ({"left": 0}, ["visits"], "In the training data nobody left"),
        ({"left": "no"}, ["visits"], "must be 1 for customers who left and 0 for the others, not 'no'"),
        ({"visits": np.nan}, ["visits"], "missing in visits"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_words(toy, change, features, words):
    with pytest.raises(DataError, match=words):
        churn_models(toy[:700].assign(**change), toy[700:], "left", features)


def test_values_that_come_up_only_later_are_refused(toy):
    with pytest.raises(DataError, match=r"'plan' has values in the test data that the training data lack: \['new'\]"):
        churn_models(toy[:700], toy[700:].assign(plan="new"), "left", ["plan"])


def test_the_threshold_that_pays_is_found_by_hand():
    p, y = np.array([0.9, 0.7, 0.7, 0.4, 0.1]), np.array([1, 1, 0, 1, 0])
    # Contacting down to .9: 90; to .7: 90 + 90 - 10; to .4: + 90; to .1: - 10.
    table = profit(p, y, {"top": 0.9, "seven": 0.7, "four": 0.4, "all": 0.0, "none": np.inf}, value=100, cost=10)
    assert table["profit"].tolist() == [90, 170, 260, 250, 0]
    assert table["contacted"].tolist() == [1, 3, 4, 5, 0]
    found = threshold(p, y, value=100, cost=10)
    assert found["threshold"] == 0.4
    assert found["rule"] == 0.1
    assert found["low"] <= 0.4 <= found["high"]
    assert threshold(p, y, value=1, cost=10)["threshold"] == np.inf, "nobody is worth it"
    each = threshold(p, y, value=np.array([0, 0, 0, 100, 0]), cost=np.full(5, 40.0))
    assert each["threshold"] == np.inf, "the one worth keeping comes after three who are not"


def test_thresholds_of_calibrated_probabilities_come_near_the_rule():
    rng = np.random.default_rng(3)
    p = rng.random(20_000)
    found = threshold(p, rng.random(20_000) < p, value=100, cost=10, success=0.5, n_boot=200)
    assert found["rule"] == pytest.approx(0.2)
    assert found["low"] < 0.2 < found["high"]
    assert found["high"] - found["low"] < 0.15


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=1, max_size=25), st.integers(0, 120))
def test_no_threshold_pays_more_than_the_chosen_one(rows, cost):
    p, y = np.array(rows, dtype=float).T / [[4.0], [1.0]]
    chosen = threshold(p, y, value=100, cost=cost, n_boot=0)["threshold"]
    table = profit(p, y, {"chosen": chosen, **{str(t): t for t in [*np.unique(p), np.inf]}}, value=100, cost=cost)
    assert table.loc["chosen", "profit"] >= table["profit"].max() - 1e-9


def test_impossible_offers_are_refused():
    with pytest.raises(DataError, match="success is a probability"):
        threshold([0.5], [1], 100, 10, success=2)
    with pytest.raises(DataError, match="one for all customers or one for each"):
        profit([0.5], [1], {"all": 0}, value=[1, 2], cost=1)
    with pytest.raises(DataError, match="one outcome for each probability, not 2 for 1"):
        auc([0.5], [1, 0])


def test_lift_by_hand_and_at_the_edges():
    value, low, high = lift([30, 0, 10, 5], [100, 50, 10, 5], [100, 10, 40, 5], [1000, 100, 100, 50])
    assert value.tolist() == pytest.approx([3.0, 0.0, 2.5, 10.0])
    assert low[1] == 0
    assert high[1] == pytest.approx(3 / 50 / 0.1)
    assert (low <= value).all()
    assert (value <= high).all()
    rng = np.random.default_rng(4)
    k, rest = rng.binomial(100, 0.3, 4000), rng.binomial(900, 0.1, 4000)
    _value, low, high = lift(k, 100, k + rest, 1000)
    assert 0.93 < np.mean((low < 0.3 / 0.12) & (high > 0.3 / 0.12)) < 0.97
