"""The ledger of claims, its computations, the growth curves and the coverage of the sources."""

import re
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import cases
from crmlab.cases.checks import CHECKS
from crmlab.data import DataError
from crmlab.data.files import own_file

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

ENTRY = """
[G01]
claim = "Everything grows"
seed = "000"
quotation = "一切都會增長"
translation = "Everything grows"
attributed = ""
origin = "an example"
reference = "none"
verified = true
notebook = "12_claims_ledger"
section = "Exercises"

[[G01.readings]]
reading = "as said"
verdict = "uncheckable"
why = "an example"
"""


@pytest.fixture(scope="module")
def computed():
    return cases.verdicts()


def refusal(tmp_path, text, read=cases.claims):
    file = tmp_path / "own.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(file)
    return str(error.value)


# --- the ledger ---


def test_ledger_holds_every_claim_of_the_inventory():
    names = set(cases.claims().index.get_level_values("id"))
    assert names >= {f"F{n:02d}" for n in range(1, 20)} | {"B02", "B04"}


def test_every_verdict_is_computed_or_says_why_not():
    ledger = cases.claims()
    assert ((ledger["computation"] != "") ^ (ledger["why"] != "")).all()
    assert set(ledger["computation"]) - {""} == set(CHECKS), "a computation that no claim uses, or a missing one"


def test_every_computed_verdict_is_the_ledger_s(computed):
    wrong = computed[computed["agree"].eq(False)]
    assert wrong.empty, wrong[["ledger", "computed", "says"]].to_string()
    assert (computed["says"] != "").all()


def test_every_claim_with_a_number_is_computed_in_one_reading_at_least():
    ledger = cases.claims()
    numbered = {"F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09", "F10", "F12", "F13", "F15", "F18"}
    assert set(ledger.index[ledger["computation"] != ""].get_level_values("id")) == numbered


def test_facts_from_memory_are_marked_and_said():
    ledger = cases.claims()
    assert not ledger.loc[["F06", "F08", "F09", "F10", "F12"], "verified"].any()
    assert ((ledger["from_memory"] != "") == ~ledger["verified"]).all()


def test_numbers_from_memory_are_counted_right():
    series = cases.hand_entered("online_retail_china")
    said = cases.claims().loc["F12", "from_memory"].iloc[0]
    assert f"{(~series['verified']).sum()} of the {len(series)} numbers" in said


def test_two_readings_can_have_two_verdicts():
    assert set(cases.claims().loc["F07", "verdict"]) == {"contradicted", "holds"}


def test_a_new_claim_is_one_entry(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(own_file("claims.toml").read_text(encoding="utf-8") + ENTRY, encoding="utf-8")
    assert len(cases.claims(file)) == len(cases.claims()) + 1
    assert cases.verdicts(cases.claims(file).loc[["G01"]])["says"].tolist() == ["an example"]


def test_all_faults_are_listed_with_entry_and_field(tmp_path):
    text = ENTRY.replace('claim = "Everything grows"\n', "").replace('"uncheckable"', '"true"')
    words = refusal(tmp_path, text.replace("origin", "orgin") + '\n[oops]\nclaim = "x"\n')
    for part in (
        "G01: claim is missing",
        "G01: orgin is no field",
        "G01: readings 1 verdict should be 'holds'",
        "oops:",
    ):
        assert part in words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no entries"),
        ("[G01", "is not TOML"),
        ("G01 = 3", "G01: must be a table"),
        ("[[G01]]\nclaim = 'x'", "G01: must be a table"),
        (ENTRY.split("[[")[0], "G01: readings is missing"),
        (ENTRY.split("[[")[0] + "readings = []", "needs at least one reading"),
        (ENTRY.split("[[")[0] + "readings = [3]", "readings 1 must be a table"),
        (ENTRY.replace("verified = true", "verified = false"), "from_memory"),
        (ENTRY.replace("verified = true", "verified = 1"), "verified should be a valid boolean"),
        (ENTRY.replace('why = "an example"', 'computation = "magic"'), "'magic' does not exist; there are adopters"),
        (ENTRY.replace('why = "an example"', ""), "needs either computation"),
        (ENTRY + 'computation = "dell_web"', "not both"),
        (ENTRY + ENTRY.split("\n\n")[1], "two readings have the same words"),
        (ENTRY.replace("G01", "Ärger"), "is not TOML"),
        (ENTRY.replace("G01", "g1"), "named by a capital letter and two digits"),
    ],
)
def test_a_hostile_ledger_is_refused_in_words(tmp_path, text, words):
    said = refusal(tmp_path, text)
    assert words in said
    assert not re.search(r"_Claim|_Reading|pydantic|Traceback|\[type=", said)


def test_files_that_cannot_be_read_are_refused_in_words(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        cases.claims(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes("[G01]\nclaim = 'é'".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        cases.claims(tmp_path / "latin.toml")


def test_the_text_of_the_ledger_can_be_read_without_it():
    """The file itself is plain TOML: whoever has no crmlab can use it."""
    raw = tomllib.loads(own_file("claims.toml").read_text(encoding="utf-8"))
    assert raw["F07"]["quotation"] == "这使得该书店的客户保有率高达65%"


def test_every_character_of_the_ledger_can_be_drawn():
    """A missing glyph is a warning, and a warning fails."""
    from matplotlib import pyplot as plt

    from crmlab import plots

    with plt.rc_context():
        plots.use_theme()
        texts = cases.claims().drop(columns="verified").to_numpy().ravel().tolist()
        texts += cases.hand_entered("timeline")["what"].tolist()
        figure = plt.figure()
        for line in sorted(set(map(str, texts))):
            figure.text(0, 0.5, line.replace("$", ""))
        figure.canvas.draw()
        plt.close(figure)


# --- coverage ---


def test_every_item_of_the_inventory_has_a_home():
    wanted = {f"{letter}{n:02d}" for letter, last in zip("ABCDF", (45, 20, 13, 14, 19), strict=True)
              for n in range(1, last + 1)}  # fmt: skip
    assert set(cases.coverage().index) == wanted


def test_what_is_not_built_says_what_it_is_instead():
    table = cases.coverage()
    assert set(table["status"]) == {"built", "in another form", "not built"}
    assert (table.loc[table["status"] != "built", "form"] != "").all()
    assert (table.loc[table["status"] != "not built", ["notebook", "section"]] != "").all().all()


def headings(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return set(re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE))


def test_every_home_is_a_heading_of_a_notebook():
    table = cases.coverage()
    ledger = cases.claims().reset_index("reading")[["notebook", "section"]]
    homes = set(map(tuple, table.loc[table["notebook"] != "", ["notebook", "section"]].to_numpy()))
    homes |= set(map(tuple, ledger.to_numpy()))
    known = {name: headings(name) for name in {notebook for notebook, _section in homes}}
    lost = sorted(f"{notebook}: {section}" for notebook, section in homes if section not in known[notebook])
    assert not lost, "\n".join(lost)


def test_coverage_of_a_hostile_file_is_refused_in_words(tmp_path):
    words = refusal(tmp_path, '[A01]\nitem = "x"\nseed = "000"\n[A02]\nhomes = [{ notebook = "x" }]', cases.coverage)
    assert "A01: needs homes" in words
    assert "A02: homes 1 section is missing" in words


# --- the computations, by hand ---


def test_shoppers_by_hand():
    row = cases.consistency().loc[("F09", "online shoppers 2010")]
    assert row[["stated_low", "stated_high"]].tolist() == [160.5, 161.5]
    assert row[["implied_low", "implied_high"]].tolist() == pytest.approx([0.3505 * 456.5, 0.3515 * 457.5])
    assert row["agree"]


def test_retail_share_by_hand():
    found = CHECKS["retail_share_fits"]().numbers
    assert round(found["implied"], 1) == 45.7
    assert (round(found["with_services"], 3), round(found["goods"], 3)) == (0.236, 0.184)
    assert not cases.consistency().loc["F10", "agree"].any()


def test_dell_by_hand():
    growth = cases.dell_growth_table()["growth"]
    assert (100 * growth.dropna()).round(1).tolist() == [21.0, 52.4, 46.5]
    assert cases.web_share_bound(per_day=2)["of_sales"] == pytest.approx(730 / 7759)


def test_profit_of_five_points_by_hand():
    # (1 + d - r) / (1 + d - r - .05) - 1 with d = .1
    assert [round(100 * lift) for lift in CHECKS["lift_of_points"]().numbers.values()] == [11, 14, 20, 25, 33]
    fewer = CHECKS["lift_of_fewer_defections"]().numbers
    assert fewer["r60"] == pytest.approx(0.5 / (0.5 - 0.05 * 0.4) - 1, abs=1e-9)


def test_cost_ratio_by_hand():
    # least: 10 % leave, 5 % of them are kept, 5 % buy; most: 40 %, 20 %, 0.5 %
    assert CHECKS["cost_ratio"]().numbers == pytest.approx({"lowest": 0.1, "highest": 16.0})


def test_verdicts_follow_the_stated_rule_and_not_the_ledger(monkeypatch):
    """Were every published rate a half or more, "most fail" would hold."""
    import pandas as pd

    from crmlab.cases import firms

    monkeypatch.setattr(firms, "hand_entered", lambda name: pd.DataFrame({"failed": [0.5, 0.7]}))
    assert firms.failure_rates_agree().verdict == "holds"
    monkeypatch.setattr(firms, "hand_entered", lambda name: pd.DataFrame({"failed": [0.1, 0.2]}))
    assert firms.failure_rates_agree().verdict == "contradicted"


# --- selection, simulated ---


def test_without_selection_adopters_and_others_are_alike():
    off = [cases.adopters_against_others(quality=0, seed=seed).loc["adopters less others"] for seed in range(100)]
    covered = np.mean([row["low"] <= 0 <= row["high"] for row in off])
    assert 0.88 <= covered <= 0.995


@pytest.mark.parametrize("effect", [0.0, 1.5])
def test_with_quality_known_the_truth_is_covered(effect):
    runs = [
        cases.adopters_against_others(effect=effect, seed=seed).loc["the same, quality known"] for seed in range(100)
    ]
    assert 0.88 <= np.mean([row["low"] <= effect <= row["high"] for row in runs]) <= 0.995


def test_selection_is_seed_stable_and_labelled_simulated():
    one, two = cases.adopters_against_others(seed=3), cases.adopters_against_others(seed=3)
    assert one.equals(two)
    assert one.attrs["reality"] == "simulated"


def test_too_few_firms_and_too_much_selection_are_refused():
    with pytest.raises(DataError, match="at least 50"):
        cases.adopters_against_others(firms=10)
    with pytest.raises(DataError, match="adopt"):
        cases.adopters_against_others(quality=float("nan"))


# --- growth ---

YEARS = np.arange(2000, 2012)


@pytest.mark.parametrize(
    ("curve", "values"),
    [
        ("linear", 10 + 3.0 * (YEARS - 2000)),
        ("exponential", 10 * np.exp(0.3 * (YEARS - 2000))),
        ("logistic", 100 / (1 + np.exp(-0.6 * (YEARS - 2006)))),
    ],
)
def test_each_curve_is_told_from_the_others(curve, values):
    found = cases.growth_curves(YEARS, values)
    assert found["behind"].idxmin() == curve
    assert found.loc[curve, "rss"] < 1e-6 * np.var(values)


def test_parameters_of_a_logistic_are_recovered():
    p = cases.growth_curves(YEARS, 100 / (1 + np.exp(-0.6 * (YEARS - 2006)))).loc["logistic", "parameters"]
    assert p == pytest.approx({"ceiling": 100, "rate": 0.6, "midpoint": 6}, rel=1e-3)


def test_aicc_by_hand():
    values = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 7.0])
    rss = np.polyfit(np.arange(6), values, 1, full=True)[1][0]
    expected = 6 * np.log(rss / 6) + 2 * 3 + 2 * 3 * 4 / (6 - 3 - 1)
    assert cases.growth_curves(range(6), values).loc["linear", "aicc"] == pytest.approx(expected)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(1, 1000), min_size=6, max_size=12), st.floats(0.01, 100), st.randoms())
def test_neither_order_nor_unit_changes_the_comparison(values, unit, random):
    years = list(range(2000, 2000 + len(values)))
    order = random.sample(range(len(values)), len(values))
    one = cases.growth_curves(years, values)
    two = cases.growth_curves([years[i] for i in order], [values[i] * unit for i in order])
    # Fits of next to nothing left over may differ in relative terms.
    scale = np.var(values) * len(values) + 1e-3
    assert two["rss"].to_numpy() / unit**2 / scale == pytest.approx(one["rss"].to_numpy() / scale, rel=1e-3, abs=1e-3)


def test_forecasts_see_nothing_after_the_cut():
    values = 10 + 3.0 * (YEARS - 2000)
    other = np.where(YEARS > 2006, 1000.0, values)
    one, two = (cases.growth_forecast(YEARS, v, 2006, 2015, draws=10) for v in (values, other))
    assert one[["expected", "low", "high"]].equals(two[["expected", "low", "high"]])
    assert not one["actual"].equals(two["actual"])


def test_fan_covers_later_years_of_the_true_curve_about_as_often_as_it_says():
    truth = 50 + 8.0 * (YEARS - 2000)
    inside = []
    for seed in range(8):
        values = truth + np.random.default_rng(seed).normal(0, 5, len(truth))
        ahead = cases.growth_forecast(YEARS, values, 2007, 2011, draws=50, seed=seed)
        inside.append(cases.growth_scores(ahead).loc["linear", "covered"])
    assert 0.75 <= np.mean(inside) <= 1.0


@pytest.mark.parametrize(
    ("years", "values", "words"),
    [
        (range(5), range(1, 6), "at least 6"),
        (range(6), [1, 2, 3, 4, 5, 0], "positive"),
        (range(6), [1, 2, 3, 4, 5, float("nan")], "numbers"),
        ([1, 1, 2, 3, 4, 5], range(1, 7), "same year"),
        (range(7), range(1, 7), "7 years and 6 values"),
    ],
)
def test_series_that_cannot_be_fitted_are_refused_in_words(years, values, words):
    with pytest.raises(DataError, match=words):
        cases.growth_curves(list(years), list(values))


def test_forecasts_that_cannot_be_made_or_scored_are_refused_in_words():
    with pytest.raises(DataError, match="must end after"):
        cases.growth_forecast(YEARS, YEARS, 2010, 2010)
    with pytest.raises(DataError, match="no later year"):
        cases.growth_scores(cases.growth_forecast(YEARS, YEARS - 1990, 2011, 2015, draws=5))


# --- statistics entered by hand ---


@pytest.mark.parametrize("name", ["crm_failure_rates", "dell", "online_retail_china", "timeline"])
def test_every_number_entered_by_hand_has_its_source(name):
    table = cases.hand_entered(name)
    assert table["source"].str.strip().ne("").all()
    assert table["source"].notna().all()
    assert table["verified"].dtype == bool


def test_unknown_statistics_are_refused_in_words():
    with pytest.raises(DataError, match="there are crm_failure_rates"):
        cases.hand_entered("dells")
    with pytest.raises(DataError, match="does not exist"):
        own_file("statistics/dells.csv")


def test_a_number_that_is_neither_verified_nor_not_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "dell.csv"
    file.write_text("fiscal_year,source,verified\n1994,x,yes\n1995,x,perhaps\n", encoding="utf-8")
    monkeypatch.setattr("crmlab.cases.entered.own_file", lambda name: file)
    with pytest.raises(DataError, match="row 2 below the header, column verified: 'perhaps'"):
        cases.hand_entered("dell")
