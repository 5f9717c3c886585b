import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

from crmlab import data
from crmlab.data import DataError
from crmlab.lifecycle import (
    auc,
    churn_models,
    cox,
    halves,
    leakage,
    read_contracts,
    simulate_contracts,
    snapshots,
    temporal_split,
)
from crmlab.lifecycle.contracts import FADES, MONTH, _faded

OWN = pd.DataFrame(
    {
        "customer_id": ["a", "b", "c", "d"],
        "since": ["2024-01-01", "2024-01-01", "2024-02-01", "2024-03-01"],
        "days": [60, 20, 59, 30],
        "gone": ["no", "Yes", "No", "no"],
        "plan": ["x", "x", "y", "y"],
        "called": ["2024-02-20", None, "2024-01-15", None],
    }
)
MEANING = {"duration": "days", "event": "gone", "start": "since", "unit": "days", "days": 1}


@pytest.fixture(scope="module")
def many():
    table, truth = simulate_contracts(30_000, seed=2)
    return table.assign(left=(table["end"] == "cancelled").astype(int)), truth


def test_the_simulation_is_the_same_for_the_same_seed_and_another_for_another():
    table, truth = simulate_contracts(300, seed=5)
    again, same = simulate_contracts(300, seed=5)
    pd.testing.assert_frame_equal(table, again)
    pd.testing.assert_frame_equal(truth.latent, same.latent)
    assert not table.equals(simulate_contracts(300, seed=6)[0])
    assert len(simulate_contracts(1)[0]) == 1
    with pytest.raises(DataError, match="n must be at least 1"):
        simulate_contracts(0)
    with pytest.raises(DataError, match="heterogeneity at least 0, not 10 and -1"):
        simulate_contracts(10, heterogeneity=-1)


def test_the_table_shows_what_happened_until_the_end_of_the_watch_and_no_more(many):
    table, truth = many
    ends = table["start"] + pd.to_timedelta((table["months"] * MONTH).round(), "D")
    assert ends.max() == pd.Timestamp("2024-12-31")
    open_ = table["end"] == "under contract"
    assert (ends[open_] == "2024-12-31").all()
    latent = truth.latent.set_axis(table.index)
    assert (latent.loc[~open_, "months"] == table.loc[~open_, "months"]).all()
    assert (latent.loc[open_, "months"] > table.loc[open_, "months"]).all()
    assert (latent.loc[~open_, "cause"] == table.loc[~open_, "end"]).all()
    called = table["retention_call"].notna()
    assert (table.loc[called, "retention_call"] <= ends[called]).all()
    assert called[table["left"] == 1].mean() == pytest.approx(0.98, abs=0.005)
    assert called[open_].mean() < 0.08


def test_cox_recovers_the_stated_ratios_when_the_liability_is_known(many):
    table, truth = many
    known = table.assign(liability=np.log(truth.latent["liability"].to_numpy()))
    found = cox(known, "~ plan + channel + price + complaints + age + liability", "months", "left")
    same = truth.ratios["at_first"] == truth.ratios["after_a_year"]
    assert same.sum() == 5
    for term, ratio in truth.ratios.loc[same, "at_first"].items():
        row = found.table.loc[term]
        assert abs(row["coef"] - np.log(ratio)) < 3 * row["se"], term
    assert found.table.loc["liability", "coef"] == pytest.approx(1, abs=0.05), "the liability multiplies the hazard"
    p = found.proportionality["p_value"]
    assert p["channel[T.promotion]"] < 1e-6
    assert p.drop(["channel[T.promotion]", "GLOBAL"]).min() > 0.001


def test_without_the_liability_ratios_are_nearer_to_one(many):
    table, truth = many
    found = cox(table, "~ plan + channel + price + complaints + age", "months", "left").table["coef"]
    shrunk = found / np.log(truth.ratios["at_first"])
    assert (shrunk.drop(["channel[T.promotion]", "channel[T.web]"]) < 1).all()


def test_the_fading_hazard_is_inverted_exactly():
    for months in (0.1, 3.0, 12.0, 200.0):
        needed = quad(lambda t: 3 ** np.exp(-t / FADES), 0, months, limit=200)[0]
        assert _faded(needed) == pytest.approx(months, rel=1e-4)


def test_columns_of_a_table_of_ones_own_get_their_meaning():
    c = read_contracts(OWN, **MEANING, late="called", group="plan")
    assert c.table.index.tolist() == ["a", "b", "c", "d"]
    assert c.table["event"].tolist() == [0, 1, 0, 0]
    assert c.table["left"].tolist() == [0, 1, 0, 0]
    assert (c.features, c.terms, c.late, c.group) == (["plan"], ["plan"], ["called"], "plan")
    assert (c.unit, c.days, c.target, c.made_up, c.truth) == ("days", 1.0, "left", "", None)
    assert str(c.end.date()) == "2024-03-31"
    undated = read_contracts(OWN, duration="days", event="gone", aside="since,called")
    assert undated.end is None
    assert undated.features == ["plan"]


def test_text_of_a_file_becomes_numbers_where_it_is_numbers(tmp_path):
    file = tmp_path / "own.csv"
    OWN.assign(price=[1.5, 2, 3, 4]).to_csv(file, index=False)
    c = read_contracts(str(file), **MEANING, aside="called")
    assert c.features == ["plan", "price"]
    assert c.table["price"].tolist() == [1.5, 2, 3, 4]


def test_ways_to_leave_are_told_apart():
    table = OWN.assign(how=["here", "price", "moved", "price"])
    c = read_contracts(table, duration="days", cause="how", still="here", features="plan")
    assert c.target == "price", "the most frequent one"
    assert c.table["event"].tolist() == [0, 1, 1, 1]
    assert c.table["left"].tolist() == [0, 1, 0, 1]
    assert read_contracts(table, duration="days", cause="how", still="here", target="moved", features="plan").table[
        "left"
    ].tolist() == [0, 0, 1, 0]


def test_a_snapshot_knows_what_was_known_on_its_day():
    c = read_contracts(OWN, **MEANING, features="plan,called", late="")
    # On 10 February b has left and d has not come; a is called within the month, c was called before.
    table = snapshots(c, ["2024-02-10"], horizon=20)
    assert table.index.tolist() == ["a", "c"]
    assert table["called"].tolist() == [0, 1], "a feature: by the day"
    assert table["tenure"].tolist() == [40.0, 9.0]
    late = snapshots(read_contracts(OWN, **MEANING, features="plan", late="called"), ["2024-02-10"], horizon=20)
    assert late["called"].tolist() == [1, 1], "a late column: by the end of the horizon"
    assert snapshots(c, ["2024-01-10"], horizon=11)["left"].tolist() == [0, 1], "b ends on the 21st, the last day"
    assert snapshots(c, ["2024-01-10"], horizon=10)["left"].tolist() == [0, 0]
    assert "b" not in snapshots(c, ["2024-01-21"], horizon=10).index, "who ends on a day does not run on it"
    assert len(snapshots(c, ["2024-01-10", "2024-02-10"], horizon=20)) == 4


def test_snapshots_of_the_simulation_split_in_time_and_show_the_leak():
    c = read_contracts("simulated")
    seen = snapshots(c, ["2024-01-02", "2024-07-02"], 182)
    train, test, aside = temporal_split(seen, "day", "2024-07-02", 182)
    assert (len(train), len(test), len(aside)) == (2977, 3494, 0)
    found = leakage(train, "left", [*c.features, *c.late])
    assert found.index[found["problem"] != ""].tolist() == ["retention_call"]
    assert found.loc["retention_call", "auc"] > 0.95


def test_what_ended_after_the_last_day_seen_had_not_ended():
    with pytest.raises(DataError, match="2 contracts begin after the end, 2024-01-15"):
        read_contracts(OWN, **MEANING, aside="called", end="2024-01-15")
    c = read_contracts(OWN[:2], **MEANING, aside="called", end="2024-01-20")
    assert c.table["duration"].tolist() == [19, 19]
    assert c.table["cause"].tolist() == ["still there", "still there"]
    assert str(c.end.date()) == "2024-01-20"
    assert read_contracts(OWN[:2], **MEANING, aside="called", end="2024-01-21").table["event"].tolist() == [0, 1]


def test_halves_keep_rows_that_are_alike_together_in_any_order():
    table = pd.DataFrame({"t": np.arange(200) % 40, "e": (np.arange(200) % 40) % 2, "x": np.arange(200) % 40})
    c = read_contracts(table, duration="t", event="e")
    train, test = halves(c)
    assert len(train) + len(test) == 200
    assert not set(train["x"]) & set(test["x"])
    shuffled, _ = halves(read_contracts(table.sample(frac=1, random_state=1), duration="t", event="e"))
    assert sorted(shuffled["x"]) == sorted(train["x"])
    with pytest.raises(DataError, match="too few different rows"):
        halves(read_contracts(pd.DataFrame({"t": [1, 1], "e": [0, 0], "x": [1, 1]}), duration="t", event="e"))


@pytest.mark.parametrize(
    ("change", "meaning", "words"),
    [
        ({}, {"duration": None}, "Which columns say how long a contract ran"),
        ({}, {"length": "days"}, "length is no meaning of a column"),
        ({}, {"duration": "nothing"}, "no column nothing"),
        ({"gone": "maybe"}, {}, "'gone' must be 1, true or yes .* not 'maybe'"),
        ({"days": "long"}, {}, "'days' must be a number"),
        ({"days": None}, {}, "'days' must be a number|missing in duration"),
        ({"since": "soon"}, {}, "'since' must have dates"),
        ({"since": ["2024-01-01", None, None, None]}, {}, "3 contracts have no start"),
        ({"plan": None}, {}, "missing in plan"),
        ({}, {"event": None, "cause": "gone"}, "Which word in 'gone' means"),
        ({"left": 1}, {}, "Rename column 'left'"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_words(change, meaning, words):
    columns = {k: v for k, v in {**MEANING, "aside": "called", **meaning}.items() if v is not None}
    with pytest.raises(DataError, match=words):
        read_contracts(OWN.assign(**change), **columns)


def test_days_that_are_not_observed_are_refused_in_words():
    c = read_contracts(OWN, **MEANING, aside="called")
    with pytest.raises(DataError, match="30 days later must not lie after 2024-03-31"):
        snapshots(c, ["2024-03-15"], 30)
    with pytest.raises(DataError, match="On 2023-01-01 0 contracts ran"):
        snapshots(c, ["2023-01-01"], 30)
    with pytest.raises(DataError, match="no dates: nobody can say"):
        snapshots(read_contracts(OWN, duration="days", event="gone", aside="since,called"), ["2024-02-01"], 5)


@pytest.mark.parametrize(
    ("name", "rows", "ended", "late"),
    [
        ("telco_churn", 7043, 1869, []),
        ("iranian_churn", 3150, 495, ["Status"]),
        ("us_life_lapse", 29317, 14864 - 128, ["stock_index"]),
    ],
)
def test_named_tables_have_their_meaning(name, rows, ended, late):
    if not data.present(name):
        pytest.skip(f"{name} has not been downloaded; `crmlab data get {name}` fetches it")
    c = read_contracts(name)
    assert (len(c.table), c.table["event"].sum(), c.late) == (rows, ended, late)
    assert c.made_up == ("fictional" if name == "telco_churn" else "")
    assert c.caution
    some = c.table.sample(3000, random_state=0)
    assert np.isfinite(cox(some, "~ " + " + ".join(c.terms), "duration", "left").table["coef"]).all()


def test_policies_in_force_carry_one_value_of_the_stock_index():
    if not data.present("us_life_lapse"):
        pytest.skip("us_life_lapse has not been downloaded; `crmlab data get us_life_lapse` says how")
    table = read_contracts("us_life_lapse").table
    force = data.load("us_life_lapse").to_pandas()["cause"].to_numpy() == "in-force"
    assert table.loc[force, "stock_index"].nunique() == 1
    assert table.loc[~force, "stock_index"].nunique() > 30
    running = table[table["event"] == 0]
    assert len(running) == force.sum() + 128
    ends = running["start"] + pd.to_timedelta((91 * running["duration"]).round(), "D")
    assert set(ends) == {pd.Timestamp("2010-05-12")}, "a quarter has 91 days"


def test_what_the_text_says_of_the_iranian_operator():
    if not data.present("iranian_churn"):
        pytest.skip("iranian_churn has not been downloaded; `crmlab data get iranian_churn` fetches it")
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    c = read_contracts("iranian_churn")
    table = c.table.rename(columns={"duration": "tenure"})
    features, distinct = ["tenure", *c.features], table.drop_duplicates()
    assert len(table) - len(distinct) == 300
    with threadpool_limits(1):
        stumps = cross_val_predict(
            HistGradientBoostingClassifier(max_depth=1, early_stopping=False),
            distinct[features],
            distinct["left"],
            cv=StratifiedKFold(5, shuffle=True, random_state=0),
            method="predict_proba",
        )[:, 1]
    assert auc(stumps, distinct["left"])["auc"] == pytest.approx(0.93, abs=0.006), "trees that can only add"
    folds = {len(part): churn_models(part, part, "left", features).training for part in (table, distinct)}
    for model in ("logit", "boosting"):
        one, other = (auc(folds[len(p)][model], p["left"])["auc"] for p in (table, distinct))
        assert abs(one - other) < 0.003, "the repeated rows do no harm"
    complained = distinct[distinct["Complains"] == 1]
    busiest = complained["Frequency_of_use"] > distinct["Frequency_of_use"].quantile(0.8)
    assert (busiest.sum(), complained.loc[busiest, "left"].sum()) == (17, 0)
    rarest = complained["Frequency_of_use"] <= distinct["Frequency_of_use"].quantile(0.4)
    assert complained.loc[rarest, "left"].mean() > 0.98
