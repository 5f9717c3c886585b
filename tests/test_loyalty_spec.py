"""The description of a questionnaire, and whether answers fit it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crmlab import data, loyalty
from crmlab.data import DataError
from crmlab.loyalty.questionnaire import groups_of


def spec(**changes):
    return loyalty.SurveySpec(
        **{"constructs": {"SATISFACTION": ["Q1", "Q2", "Q3"], "LOYALTY": ["L1", "L2"]}, "scale": (1, 10)} | changes
    )


@pytest.fixture
def answers():
    rng = np.random.default_rng(3)
    return pd.DataFrame(rng.integers(1, 11, size=(60, 5)), columns=["Q1", "Q2", "Q3", "L1", "L2"])


@pytest.fixture(scope="module")
def reputation():
    return data.load("corporate_reputation").to_pandas()


@pytest.fixture(scope="module")
def acsi():
    if not data.present("acsi_2015"):
        pytest.skip("acsi_2015 has not been downloaded; `crmlab data get acsi_2015` fetches it")
    return data.load("acsi_2015").to_pandas()


def test_all_errors_of_a_description_are_listed_at_once():
    with pytest.raises(DataError) as caught:
        spec(
            constructs={"A": ["Q1", "Q1"], "Q2": ["Q2"]},
            missing=(5,),
            reverse=("Q9",),
            asked_if={"Q1": "whenever", "Q7": "Q1 > 2"},
            scales={"Q8": (1, 5)},
        )
    message = str(caught.value)
    for part in ("Q1 is listed more than once", "Q2 is the name of an item and of a construct", "Q9", "whenever"):
        assert part in message
    assert "`asked_if` names Q7" in message
    assert "`scales` names Q8" in message
    assert "missing code 5 lies on its scale 1 to 10" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": (10, 1)}, "lowest and the highest"),
        ({"scale": "1-7"}, "lowest and the highest"),
        # The trap of a peer: a missing code given as text matches nothing and the data go wrong silently.
        ({"missing": ("-99",)}, "'-99', which is not a number"),
        ({"missing": -99}, "must be a list of numbers"),
        ({"constructs": {}}, "`constructs` is empty"),
        ({"constructs": {"A": []}}, "construct A"),
        ({"asked_if": {"Q1": "Q1 > 3"}}, "depends on itself"),
        ({"special": {"Q1": {7: "seven"}}}, "special code 7 lies on its scale"),
        ({"missing": (99,), "special": {"Q1": {99: "never"}}}, "both a missing and a special code"),
        ({"scales": {"Q1": (0, 100)}, "missing": (99,)}, "Q1: the missing code 99 lies on its scale 0 to 100"),
        ({"labels": {"Q1": 3}}, "label of Q1"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        spec(**changes)


def test_a_toml_file_says_what_python_says(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('scale = [1, 10]\nmissing = [99]\n[constructs]\nS = ["Q1"]\n[values.plan]\n1 = "满意"\n', "utf-8")
    found = loyalty.spec(file)
    assert found == loyalty.SurveySpec({"S": ["Q1"]}, (1, 10), missing=(99,), values={"plan": {1: "满意"}})
    assert loyalty.spec(found) is found


def test_a_toml_file_lists_unknown_settings_and_contradictions_together(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('scale = [1, 10]\nmising = [99]\nreverse = ["Q9"]\n[constructs]\nS = ["Q1"]\n')
    with pytest.raises(DataError, match=r"(?s)mine\.toml.*no setting 'mising'.*names Q9"):
        loyalty.spec(file)


@pytest.mark.parametrize("text", ["scale = [1, ", "\xff\xfe", "title = 'x'\n"])
def test_a_broken_file_is_named(tmp_path, text):
    file = tmp_path / "mine.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"mine\.toml"):
        loyalty.spec(file)


def test_an_unknown_survey_lists_the_known_ones():
    with pytest.raises(
        DataError, match=r"'moby'.*acsi_2015, corporate_reputation, longzhiji, mobi, template_en, template_zh"
    ):
        loyalty.spec("moby")
    with pytest.raises(DataError, match=r"no survey description .*absent\.toml"):
        loyalty.spec("absent.toml")


def test_both_templates_ask_the_same():
    english, chinese = loyalty.spec("template_en"), loyalty.spec("template_zh")
    assert english.labels.keys() == chinese.labels.keys()
    same = ("constructs", "scale", "scales", "missing", "reverse", "asked_if", "other")
    assert all(getattr(english, name) == getattr(chinese, name) for name in same)
    assert chinese.label("LOYALTY") == "忠诚度（自述）"
    folder = Path(__file__).parents[1] / "data" / "surveys"
    for language, found in (("en", english), ("zh", chinese)):
        text = (folder / f"questionnaire_{language}.md").read_text("utf-8")
        assert all(f"[{item}]" in text for item in [*found.items, "CHANNEL"])


@pytest.mark.parametrize("name", ["mobi", "corporate_reputation"])
def test_the_offline_surveys_fit_their_descriptions(name):
    found = loyalty.audit(data.load(name).to_pandas(), name)
    assert found.faults.empty
    assert found.clean.shape == data.load(name).to_pandas().shape


def test_missing_codes_are_counted_and_blanked(reputation):
    found = loyalty.audit(reputation, "corporate_reputation")
    hits = found.items["missing_code"]
    assert hits[hits > 0].to_dict() == {"cusa": 1, "cusl_1": 3, "cusl_2": 4, "cusl_3": 3}
    assert found.clean["cusl_2"].isna().sum() == 4
    assert found.clean["servicetype"].value_counts().to_dict() == {"contract": 219, "prepaid": 125}
    assert reputation["cusl_2"].min() == -99


def test_an_undeclared_missing_code_is_refused_by_item_row_and_value(reputation):
    asked = loyalty.SurveySpec({"LOYALTY": ["cusl_1", "cusl_2", "cusl_3"]}, scale=(1, 7))
    row = int(np.flatnonzero(reputation["cusl_1"] == -99)[0]) + 1
    for measure in (loyalty.reliability, loyalty.cfa, loyalty.htmt):
        with pytest.raises(DataError, match=rf"cusl_1: -99 \(3 times\) is off the scale 1 to 7; row {row}"):
            measure(
                reputation, asked, {"A": ["cusl_1", "cusl_2"], "B": ["cusl_3"]} if measure is loyalty.htmt else None
            )
    found = loyalty.audit(reputation, asked)
    assert found.faults["column"].value_counts().to_dict() == {"cusl_2": 4, "cusl_1": 3, "cusl_3": 3}
    assert "off the scale" in str(found)
    with pytest.raises(DataError, match="belongs into `missing`"):
        found.clean  # noqa: B018


def test_a_wrong_scale_is_refused():
    # The trap of a peer: answers from 1 to 10 on an assumed scale from 1 to 7 give indices above 100.
    asked = loyalty.SurveySpec({"SATISFACTION": ["CUSA1", "CUSA2", "CUSA3"]}, scale=(1, 7))
    survey = data.load("mobi").to_pandas()
    with pytest.raises(DataError, match="scale 1 to 7 cannot be that of CUSA1"):
        loyalty.audit(survey, asked)
    with pytest.raises(DataError, match="CUSA1"):
        loyalty.index_score(survey, asked, "SATISFACTION")
    wide = loyalty.SurveySpec({"SATISFACTION": ["CUSA1", "CUSA2", "CUSA3"]}, scale=(0, 100))
    assert any("no answer lies above 10" in w for w in loyalty.audit(survey, wide).warnings)


def test_filtered_questions_are_not_missing(acsi):
    found = loyalty.audit(acsi, "acsi_2015")
    items = found.items
    assert found.faults.empty
    assert items.loc["HIGHPTOL", ["not_asked", "blank", "special"]].tolist() == [1696, 0, 422]
    assert items.loc["LOWPTOL", ["not_asked", "blank", "special"]].tolist() == [6955, 0, 180]
    assert items.loc["HANDLE", ["answers", "not_asked"]].tolist() == [1371, 6846]
    assert items.loc["REPUR", ["blank", "missing_code"]].tolist() == [168, 244]
    assert items.loc["HIGHPTOL", "missing_share"] == pytest.approx(1265 / 6543)
    # The 233 who do not know whether they would buy again (code 98) were not asked about a price rise.
    unsure = found.data["REPUR"].isin([98, 99])
    assert found.clean.loc[unsure, "HIGHPTOL"].isna().all()
    assert found.clean["INDUSTRY"].value_counts()["bank"] == 2505


def test_a_special_code_is_kept_but_never_averaged(acsi):
    assert (loyalty.audit(acsi, "acsi_2015").clean["HIGHPTOL"] == 101).sum() == 422
    with pytest.raises(DataError, match="HIGHPTOL holds 422 special codes"):
        loyalty.top_box(acsi, "acsi_2015", "HIGHPTOL")


def test_an_answer_to_a_question_not_asked_is_a_fault(answers):
    asked = spec(asked_if={"L2": "L1 >= 6"})
    found = loyalty.audit(answers, asked)
    wrong = (answers["L1"] < 6).sum()
    assert (found.faults["problem"].str.contains("asked only if L1 >= 6")).sum() == wrong
    cleared = answers.assign(L2=answers["L2"].where(answers["L1"] >= 6))
    assert loyalty.audit(cleared, asked).items.loc["L2", ["not_asked", "faults"]].tolist() == [wrong, 0]


def test_cleaning_twice_is_cleaning_once(reputation):
    once = loyalty.audit(reputation, "corporate_reputation").clean
    pd.testing.assert_frame_equal(loyalty.audit(once, "corporate_reputation").clean, once)


def test_reversed_items_turn_in_measures_and_stay_in_the_data(answers):
    asked = spec(reverse=("Q2",))
    assert (asked.prepare(answers)["Q2"] == 11 - answers["Q2"]).all()
    assert (loyalty.audit(answers, asked).clean["Q2"] == answers["Q2"]).all()


def test_text_in_a_number_column_is_named(answers):
    answers = answers.astype(object)
    answers.loc[7, "Q2"] = "very good"
    with pytest.raises(DataError, match=r"Q2: very good \(1 times\) is not a number; row 8 of 60"):
        loyalty.reliability(answers, spec())
    assert loyalty.audit(answers, spec()).items.loc["Q2", "faults"] == 1


def test_numbers_written_as_text_are_numbers(answers):
    text = answers.astype(str).replace("3", " ")
    numbers = spec().prepare(text)
    assert ((numbers == answers) | (answers == 3)).all(axis=None)
    assert numbers[answers == 3].isna().all(axis=None)


@pytest.mark.parametrize("dtype", ["Int64", "float32", "category", "string"])
def test_every_kind_of_column_reads_alike(answers, dtype):
    pd.testing.assert_frame_equal(spec().prepare(answers.astype(dtype)), answers.astype(float))


def test_straight_liners_are_counted():
    if not data.present("bayesm_customer_satisfaction"):
        pytest.skip("bayesm_customer_satisfaction is not in the data folder")
    survey = data.load("bayesm_customer_satisfaction").to_pandas()
    asked = loyalty.SurveySpec({"ALL": [f"q{k}" for k in range(1, 11)]}, scale=(1, 10))
    found = loyalty.audit(survey, asked)
    assert found.respondents["straight_line"].notna().sum() == 102
    assert any("102 of 1,811" in w for w in found.warnings)


def test_constant_copied_and_empty_items_are_named_in_the_audit(answers):
    survey = answers.assign(Q1=5, Q3=answers["Q2"], L2=np.nan)
    found = loyalty.audit(survey, spec())
    assert found.items.loc["Q3", "same_as"] == "Q2"
    assert any("Q1 is constant" in w for w in found.warnings)
    assert any("Q3 has the same answers as Q2" in w for w in found.warnings)
    assert any("L2 has no answer at all" in w for w in found.warnings)


def test_items_of_two_constructs_that_are_nearly_copies_are_named(reputation):
    found = loyalty.audit(reputation, "corporate_reputation")
    assert any("qual_6 and switch_1 correlate 0.97" in w for w in found.warnings)


def test_an_absent_column_and_a_double_one_are_named(answers):
    with pytest.raises(DataError, match="no column L2"):
        loyalty.audit(answers.drop(columns="L2"), spec())
    with pytest.raises(DataError, match="2 columns named Q1"):
        loyalty.audit(pd.concat([answers, answers[["Q1"]]], axis=1), spec())
    with pytest.raises(DataError, match="no rows"):
        loyalty.audit(answers[:0], spec())
    with pytest.raises(DataError, match="pandas frame"):
        loyalty.audit([1, 2], spec())


def test_a_group_without_a_meaning_is_refused(reputation):
    asked = loyalty.spec("corporate_reputation")
    with pytest.raises(DataError, match="servicetype holds 3"):
        groups_of(reputation.replace({"servicetype": {1: 3}}), asked, "servicetype")
    with pytest.raises(DataError, match="no column 'plan'"):
        groups_of(reputation, asked, "plan")
