"""Contact lists and the responses to them: nobody lost, nothing executed, nothing counted twice."""

import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmlab import data, market
from crmlab.data import DataError
from crmlab.market.contacts import COLUMNS, SUPPRESSED, masked, unmasked

DAY = "2024-03-01"
FORMULAS = [
    "=1+1",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    "=cmd|' /C calc'!A0",
    "＝1",
    "a;=1",
    "a\n-1",
    "'=1",
    "'",
]


def people(n=200, **columns):
    return pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "consent": "yes"}).assign(**columns)


def reasons(found):
    return found.counts[found.counts > 0].drop(["to contact", "control"], errors="ignore").to_dict()


def cells(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# The list


def test_candidates_in_are_contacts_and_control_and_suppressed(tmp_path):
    candidates = people(1_000, consent=["yes", "no"] * 500)
    candidates.loc[::7, "customer_id"] = None
    candidates.loc[1::9, "customer_id"] = "c3"
    found = market.contact_list(candidates, "spring", tmp_path, as_of=DAY, opt_outs=["c2", "c4"])
    assert found.counts.sum() == len(candidates) == len(found.listed) + len(found.suppressed)
    assert found.counts["to contact"] + found.counts["control"] == len(found.listed) == len(cells(found.path))
    assert found.counts[list(SUPPRESSED)].sum() == len(found.suppressed)
    assert found.suppressed["why"].isin(SUPPRESSED).all()
    assert found.suppressed["row"].is_unique


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_no_candidate_is_ever_lost(tmp_path_factory, draw):
    rows = draw.draw(
        st.lists(
            st.tuples(
                st.one_of(st.none(), st.text(max_size=4), st.sampled_from(FORMULAS), st.integers(0, 5)),
                st.sampled_from(["yes", "no", None, "", True, 0]),
                st.sampled_from([DAY, "2024-02-30", None, "2023-01-01", "2024-04-01"]),
                st.one_of(st.none(), st.floats(allow_nan=True)),
            ),
            min_size=1,
            max_size=12,
        )
    )
    candidates = pd.DataFrame(rows, columns=["customer_id", "consent", "send_on", "score"]).astype(object)
    folder = tmp_path_factory.mktemp("list")
    found = market.contact_list(candidates, "x", folder, as_of=DAY, control_share=0.5, opt_outs=["a"])
    assert found.counts.sum() == len(candidates) == len(found.listed) + len(found.suppressed)
    back = market.read_contacts(found.path)
    assert back["customer_id"].tolist() == found.listed["customer_id"].tolist()
    assert back["control"].tolist() == found.listed["control"].tolist()


def test_each_reason_suppresses_whom_it_means(tmp_path):
    cases = pd.DataFrame(
        {
            "customer_id": ["c0", "c1", "c2"],
            "opened": ["2024-02-01", "2024-02-01", "2024-03-02"],
            "closed": [None, "2024-02-20", None],
        }
    )
    contacted = pd.DataFrame({"customer_id": ["c3", "c4"], "date": ["2024-02-10", "2024-01-31"]})
    earlier = pd.DataFrame({"customer_id": ["c5", "c6", "c7"], "control": [0, 1, 0]})
    earlier["send_on"], earlier["expires_on"] = "2024-02-01", ["2024-03-01", "2024-03-01", "2024-02-29"]
    candidates = people(12, score=range(12))
    candidates.loc[10, ["customer_id", "consent"]] = ["c8", ""]
    candidates.loc[11, "customer_id"] = "c9"
    found = market.contact_list(
        candidates, "spring", tmp_path, as_of=DAY, control_share=0, service_cases=cases, contacted=contacted,
        open_lists=[earlier], opt_outs=pd.DataFrame({"customer_id": ["c1"]}),
    )  # fmt: skip
    why = found.suppressed.set_index("row")["why"].to_dict()
    assert why == {
        1: "open complaint",
        2: "opted out",
        4: "contacted too often",
        6: "another offer is open",
        10: "another row of this list",  # c9 has a row with a higher score
        11: "no consent",
    }
    assert found.listed["customer_id"].tolist() == ["c2", "c4", "c6", "c7", "c8", "c9"]


def test_a_higher_cap_allows_more_contacts(tmp_path):
    contacted = pd.DataFrame({"customer_id": ["c0", "c0", "c1"], "date": "2024-02-20"})
    found = market.contact_list(people(3), "a", tmp_path, as_of=DAY, contacted=contacted, cap=2, control_share=0)
    assert found.listed["customer_id"].tolist() == ["c1", "c2"]


def test_expired_offers_and_days_that_are_none_are_counted(tmp_path):
    candidates = people(
        4, send_on=[DAY, "2023-02-29", "2024-01-01", "soon"], expires_on=["2024-03-01"] * 2 + ["2024-02-29", None]
    )
    found = market.contact_list(candidates, "a", tmp_path, as_of=DAY)
    assert reasons(found) == {"send_on or expires_on is no date": 2, "expired": 1}
    with pytest.raises(DataError, match="expires_on lies before send_on in row 1"):
        market.contact_list(people(1, send_on="2024-03-05", expires_on=DAY), "b", tmp_path, as_of=DAY)


def test_the_control_group_is_that_of_the_campaign_and_random_among_the_eligible(tmp_path):
    found = market.contact_list(people(5_000), "spring", tmp_path, as_of=DAY, control_share=0.2)
    expected = market.assign_control(found.listed["customer_id"], 0.2, "spring")
    assert (found.listed["control"] == expected).all()
    assert found.listed["control"].mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_the_file_is_a_formula_and_ids_come_back(tmp_path, text):
    candidates = people(1, customer_id=text, segment=text, reason=text, offer=text, channel=text)
    found = market.contact_list(candidates, "a", tmp_path, as_of=DAY, control_share=0)
    (row,) = cells(found.path)
    assert not [cell for cell in row.values() if cell[:1] in set("=+-@\t\r\n＝＋－＠")]
    (back,) = market.read_contacts(found.path).to_dict("records")
    assert [back[c] for c in COLUMNS[:5]] == [text] * 5


@given(st.text(alphabet="'=+-@,;|\t\r\nab＝", max_size=12))
def test_neutralised_text_comes_back_and_is_harmless_however_the_file_is_split(text):
    safe = masked(text)
    assert unmasked(safe) == text
    for separator in ",;|\t\r\n":
        for piece in safe.split(separator):
            assert not piece.startswith(tuple("=+-@＝")) or piece.startswith("'")


def test_the_file_opens_in_a_spreadsheet(tmp_path):
    found = market.contact_list(
        people(1, reason="买过奶瓶, “baby”\nline", channel="e-mail"), "春季", tmp_path, as_of=DAY
    )
    assert found.path.name == "contacts_春季_2024-03-01.csv"
    assert found.path.read_bytes().startswith(b"\xef\xbb\xbfcustomer_id,")
    assert cells(found.path)[0]["reason"] == "买过奶瓶, “baby”\nline"
    assert cells(found.path)[0]["expires_on"] == "2024-03-30"


def test_the_same_list_may_be_written_again_and_another_one_may_not_replace_it(tmp_path):
    first = market.contact_list(people(20), "a", tmp_path, as_of=DAY)
    content = first.path.read_bytes()
    market.contact_list(people(20), "a", tmp_path, as_of=DAY)
    with pytest.raises(DataError, match="there already and has another content"):
        market.contact_list(people(21), "a", tmp_path, as_of=DAY)
    assert first.path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [first.path.name]


def test_a_list_that_cannot_be_written_whole_is_not_written_at_all(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        market.contact_list(people(20), "a", tmp_path, as_of=DAY)
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_nobody_is_a_list(tmp_path):
    found = market.contact_list(people(3, consent="no"), "a", tmp_path, as_of=DAY)
    assert found.listed.empty
    assert cells(found.path) == []
    assert reasons(found) == {"no consent": 3}


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", ".", None, "a\n"])
def test_a_campaign_cannot_leave_its_folder(tmp_path, name):
    with pytest.raises(DataError, match="name is part of a file"):
        market.contact_list(people(1), name, tmp_path)


def test_what_is_not_said_is_asked_for(tmp_path):
    with pytest.raises(DataError, match=r"lacks consent.*say consent=None"):
        market.contact_list(people(2).drop(columns="consent"), "a", tmp_path)
    with pytest.raises(DataError, match=r"must say yes or no, not 'maybe' \(row 2\)"):
        market.contact_list(people(2, consent=["yes", "maybe"]), "a", tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        market.contact_list(people(2), "a", tmp_path / "none")
    cases = pd.DataFrame({"customer_id": ["c0"], "opened": ["01/02/2024"], "closed": [None]})
    with pytest.raises(DataError, match="'opened' is no date such as 2024-01-31 in row 1"):
        market.contact_list(people(2), "a", tmp_path, service_cases=cases)
    with pytest.raises(DataError, match="cap_days is a whole number"):
        market.contact_list(people(2), "a", tmp_path, cap_days=0)


def test_candidates_may_come_from_a_file_and_ids_keep_their_zeros(tmp_path):
    (tmp_path / "who.csv").write_text("customer_id,consent\n007,yes\n7,ja\n8,\n", encoding="utf-8")
    found = market.contact_list(tmp_path / "who.csv", "a", tmp_path, as_of=DAY, control_share=0)
    assert found.listed["customer_id"].tolist() == ["007", "7"]


# The responses


@pytest.fixture
def listed():
    table = pd.DataFrame({"customer_id": ["a", "b", "007", "=1", "d"], "control": [0, 1, 0, 0, 1]})
    return table.assign(send_on="2024-03-01", expires_on="2024-03-31")


def test_each_row_of_the_responses_counts_or_says_why_not(listed):
    answers = pd.DataFrame(
        [
            ("a", "2024-03-31", 10.0), ("a", "2024-03-31", 10.0), ("a", "2024-03-05", 2.5), ("b", "2024-03-02", 4.0),
            ("x", "2024-03-02", 1.0), ("d", "2024-04-01", 1.0), ("d", "2024-02-29", 1.0), (None, "2024-03-02", 1.0),
            ("7", "2024-03-02", 3.0), ("=1", "2024-03-02", None),
        ],
        columns=["customer_id", "date", "amount"],
    )  # fmt: skip
    found = market.read_responses(listed, answers)
    assert found.counts.sum() == len(answers)
    assert found.aside.set_index("row")["why"].to_dict() == {
        2: "in an earlier row already",
        5: "customer is not on the list",
        6: "after the offer expired",
        7: "before the contact",
        8: "no customer id",
    }
    table = found.table.set_index("customer_id")
    assert table["responded"].to_dict() == {"a": 1, "b": 1, "007": 1, "=1": 1, "d": 0}
    assert table["amount"].to_dict() == {"a": 12.5, "b": 4.0, "007": 3.0, "=1": 0.0, "d": 0.0}
    assert table.loc["a", "responses"] == 2
    assert table.loc["a", "response_date"] == pd.Timestamp("2024-03-05")
    assert found.control_responded["customer_id"].tolist() == ["b"]
    assert found.counts["counted, control"] == 1


def test_a_campaign_closes_from_list_to_effect(tmp_path):
    rng = np.random.default_rng(0)
    ids = ["=" + str(i) if i % 2 else f"0{i}" for i in range(4_000)]
    sent = market.contact_list(people(4_000, customer_id=ids), "spring", tmp_path, as_of=DAY, control_share=0.3)
    chance = np.where(sent.listed["control"] == 1, 0.1, 0.2)
    bought = sent.listed["customer_id"][rng.random(len(chance)) < chance]
    lines = [f"{masked(c)};05.03.2024;€ 1.234,50" for c in bought]
    (tmp_path / "back.csv").write_text("\n".join(["Client;Date;Amount", *lines]), encoding="utf-8-sig")
    found = market.read_responses(sent.path, tmp_path / "back.csv")
    assert found.aside.empty
    assert len(found.control_responded) == int(found.table.query("arm == 'control'")["responded"].sum())
    lift = market.effect(found.table, "responded", "arm", control="control").differences.loc["contact"]
    assert lift["low"] < 0.1 < lift["high"]
    assert market.sample_ratio(found.table, "arm", {"contact": 0.7, "control": 0.3})["p_value"].iloc[0] > 0.001
    assert found.table["amount"].max() == 1234.5


def test_cells_that_cannot_be_read_are_set_aside_with_their_rows(tmp_path, listed):
    (tmp_path / "r.csv").write_text("customer_id,date,amount\na,2024-03-02,x\nb,2024-02-30,1\n007,2024-03-03,2\n")
    found = market.read_responses(listed, tmp_path / "r.csv")
    assert found.aside["why"].tolist() == ["amount cannot be read", "date cannot be read"]
    assert found.counts["counted, contacted"] == 1


def test_rows_that_say_no_are_no_responses(listed):
    answers = pd.DataFrame({"customer_id": ["a", "b"], "response_date": "2024-03-02", "responded": [1, 0]})
    found = market.read_responses(listed, answers)
    assert found.table["responded"].tolist() == [1, 0, 0, 0, 0]
    assert found.counts["no response (responded is 0)"] == 1


def test_no_response_at_all_is_a_result(listed, tmp_path):
    empty = pd.DataFrame({"customer_id": [], "date": []})
    empty.to_csv(tmp_path / "none.csv", index=False)
    for responses in (empty, tmp_path / "none.csv"):
        found = market.read_responses(listed, responses)
        assert found.table["responded"].tolist() == [0] * 5
        assert found.counts.sum() == 0


def test_a_list_that_somebody_changed_is_refused(listed):
    answers = pd.DataFrame({"customer_id": ["a"], "date": ["2024-03-02"]})
    with pytest.raises(DataError, match="control must be 0 or 1, which it is not in row 2"):
        market.read_responses(listed.assign(control=[0, 7, 0, 0, 0]), answers)
    with pytest.raises(DataError, match="'send_on' is no date such as 2024-01-31 in row 1"):
        market.read_responses(listed.assign(send_on="01.03.2024"), answers)
    with pytest.raises(DataError, match="each row must be a customer of its own, which is not so in row 5"):
        market.read_responses(listed.assign(customer_id=["a", "b", "c", "d", "a"]), answers)
    with pytest.raises(DataError, match="No column could be found for customer_id"):
        market.read_responses(listed, answers.rename(columns={"customer_id": "who knows"}))
    with pytest.raises(DataError, match="has no column 'ok'"):
        market.read_responses(listed, answers, responded="ok")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "zz", "", None]), st.sampled_from(["2024-03-02", "2025-01-01", "x", None])
        ),
        min_size=1,
        max_size=15,
    )
)
@settings(max_examples=25, deadline=None)
def test_no_response_is_ever_lost(rows):
    offers = pd.DataFrame({"customer_id": ["a", "b", "c"], "control": [0, 1, 0]})
    offers = offers.assign(send_on="2024-03-01", expires_on="2024-03-31")
    answers = pd.DataFrame(rows, columns=["customer_id", "date"]).astype(object)
    try:
        found = market.read_responses(offers, answers)
    except DataError:
        # A column in which nothing is a date, or no customer at all, is no file of responses.
        return
    assert found.counts.sum() == len(rows)
    assert len(found.aside) + found.counts[["counted, contacted", "counted, control"]].sum() == len(rows)


# What customers bought


def test_outcomes_count_every_customer_and_look_back(tmp_path):
    log = data.load("cdnow")
    customers = log.select("customer_id").distinct().order_by("customer_id").limit(500).to_pandas()
    customers.loc[500] = "never bought"
    found = market.outcomes(log, customers, "1997-03-01", "1997-03-31", before=28)
    assert len(found) == 501
    frame = log.to_pandas()
    march = frame[frame["date"].between("1997-03-01", "1997-03-31")]
    mine = march[march["customer_id"].isin(customers["customer_id"])]
    assert found["amount"].sum() == pytest.approx(mine["amount"].sum())
    assert found["purchases"].sum() == len(mine[["customer_id", "date"]].drop_duplicates())
    february = frame[frame["date"].between("1997-02-01", "1997-02-28")]
    february = february[february["customer_id"].isin(customers["customer_id"])]
    assert found["amount_before"].sum() == pytest.approx(february["amount"].sum())
    assert found.iloc[-1][["amount", "purchases"]].tolist() == [0, 0]


def test_outcomes_are_the_same_on_polars():
    import ibis

    frame = data.load("cdnow_sample").select("customer_id", "date", "amount").to_pandas()
    people = frame[["customer_id"]].drop_duplicates().head(200)
    other = ibis.polars.connect().create_table("log", frame)
    a, b = (market.outcomes(log, people, "1997-06-01", "1997-06-30") for log in ("cdnow_sample", other))
    pd.testing.assert_frame_equal(a, b)


def test_outcomes_outside_the_log_or_of_repeated_customers_are_refused():
    people = pd.DataFrame({"customer_id": ["00001", "00001"]})
    with pytest.raises(DataError, match="stands in more than one row"):
        market.outcomes("cdnow", people, "1997-03-01", "1997-03-31")
    with pytest.raises(DataError, match="The log reaches from 1997-01-01"):
        market.outcomes("cdnow", people.head(1), "1998-06-01", "1998-07-31")
    with pytest.raises(DataError, match="before it starts"):
        market.outcomes("cdnow", people.head(1), "1998-06-02", "1998-06-01")


def test_the_scorecard_has_every_step_and_counts_rows_without_a_customer(tmp_path):
    log = pd.DataFrame(
        {"customer_id": ["c0", "c1", None, "c1", " "], "date": DAY, "amount": [10.0, 5.0, 5.0, 1.0, 4.0]}
    )
    sent = market.contact_list(people(20, offer=["x", "x", "y", "x"] * 5), "a", tmp_path, as_of=DAY, control_share=0.2)
    answers = pd.DataFrame({"customer_id": sent.listed["customer_id"].head(4), "date": DAY})
    found = market.idic(log, sent.path, market.read_responses(sent.path, answers).table)
    assert found.index.get_level_values("step").unique().tolist() == [
        "identify",
        "differentiate",
        "interact",
        "customize",
    ]
    assert found.loc[("identify", "rows with a customer"), "value"] == pytest.approx(3 / 5)
    assert found.loc[("identify", "sales with a customer"), "value"] == pytest.approx(16 / 25)
    assert found.loc[("customize", "distinct offers"), "value"] == 2
    shares = found.dropna(subset="low")
    assert ((shares["low"] <= shares["value"]) & (shares["value"] <= shares["high"])).all()
    with pytest.raises(DataError, match="No row of the log has a customer"):
        market.idic(log.assign(customer_id=None).astype({"customer_id": "string"}))


def test_the_scorecard_does_not_depend_on_the_order_of_the_log():
    # 300 customers who all paid 0.3 in three parts: added in another order it is not always the same number.
    parts = np.tile([[0.1, 0.05, 0.15], [0.15, 0.1, 0.05]], (150, 1)).ravel()
    log = pd.DataFrame({"customer_id": np.repeat(np.arange(300), 3), "date": "2024-01-01", "amount": parts})
    log.loc[::7, "amount"] += 1
    one, other = (market.idic(log.sample(frac=1, random_state=seed)) for seed in (1, 2))
    one, other = (found.loc[("differentiate", "sales of the top fifth"), ["low", "high"]] for found in (one, other))
    assert one.tolist() == pytest.approx(other.tolist(), abs=1e-9)


# The command


def test_the_command_writes_a_list_and_reads_what_came_back(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from crmlab.cli import cli

    monkeypatch.chdir(tmp_path)
    people(400, consent=["yes", "yes", "no", "yes"] * 100).to_csv("who.csv", index=False)
    pd.DataFrame({"customer_id": ["c0"]}).to_csv("out.csv", index=False)
    run = CliRunner().invoke
    options = "--as-of 2024-03-01 --control .3 --opt-outs out.csv"
    made = run(cli, ["contacts", "who.csv", "--campaign", "spring", *options.split()])
    assert made.exit_code == 0, made.output
    assert made.output.splitlines()[-1] == "contacts_spring_2024-03-01.csv"
    assert {"opted out": "1", "no consent": "100"}.items() <= dict(
        line.rsplit(None, 1) for line in made.output.splitlines()[:-1]
    ).items()
    back = pd.DataFrame({"who": [f"c{i}" for i in range(0, 400, 3)], "ordered": "2024-03-05"})
    back.to_csv("back.csv", index=False)
    options = "--column customer_id=who --column date=ordered --out done.csv"
    read = run(cli, f"responses contacts_spring_2024-03-01.csv back.csv {options}".split())
    assert read.exit_code == 1  # those without consent are not on the list
    assert "customer is not on the list" in read.output
    assert "points, 95 % interval" in read.output
    assert len(cells(tmp_path / "done.csv")) == 299
    wrong = run(cli, ["responses", "who.csv", "back.csv"])
    assert (wrong.exit_code, "who.csv lacks send_on" in wrong.output) == (2, True)
    nobody = run(cli, ["contacts", "who.csv", "--campaign", "../x"])
    assert (nobody.exit_code, "name is part of a file" in nobody.output) == (2, True)
