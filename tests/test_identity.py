import hashlib
import hmac
import sys

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmlab import data
from crmlab.data import (
    DataError,
    consolidate,
    contact_status,
    customer_file,
    match_quality,
    merge,
    propose_duplicates,
    propose_likely_duplicates,
    pseudonymize,
    simulate,
    survivorship_bias,
    undo,
)
from crmlab.data.normal import KINDS, normal_address, normal_date, normal_email, normal_name, normal_phone

SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
FEBRL_RULES = [("soc_sec_id",), ("given_name", "surname", "date_of_birth")]
SECRET = "a key of the tests, nowhere else"


def frame(**columns):
    return pd.DataFrame({"record_id": [f"r{i}" for i in range(len(next(iter(columns.values()))))], **columns})


def pairs_of(proposals):
    found = proposals.pairs.to_pandas()
    return sorted(zip(found["left"], found["right"], strict=True))


# Normal forms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MÜLLER, Anna", "Dr. Anna Müller"),
        ("Straße, Jürgen", "jürgen STRASSE"),
        ("陳　偉先生", "陈伟"),
        ("劉 麗", "刘丽女士"),
        ("Ｗａｎｇ Ｌｉ", "wang li"),
        ("Łukasz Øster", "lukasz oster"),
        ("José", "Jose\u0301"),
    ],
)
def test_names_written_differently_are_equal(one, other):
    assert normal_name(one) == normal_name(other) is not None


@pytest.mark.parametrize(("one", "other"), [("Anna Müller", "Anne Müller"), ("陈伟", "陈薇"), ("が", "か")])
def test_different_names_stay_different(one, other):
    assert normal_name(one) != normal_name(other)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+86 138 0013 8000", "+8613800138000"),
        ("００８６－１３８００１３８０００", "+8613800138000"),
        ("(+49) (0)151 234 567", "+49151234567"),
        ("010-8888 9999 转 12", "01088889999"),
        ("none", None),
        ("", None),
    ],
)
def test_telephones(written, number):
    assert normal_phone(written) == number


def test_addresses_emails_and_dates():
    assert normal_address("Bahnhofstraße 7") == normal_address("BAHNHOFSTR. 7")
    assert normal_address("人民路12號") == normal_address("人民路 12号")
    assert normal_email(" Anna@EXAMPLE.com ") == "anna@example.com"
    assert normal_email("anna at example") is None
    assert normal_date("2000-02-30") is None
    assert normal_date("1980-04-03 00:00:00") == "1980-04-03"
    assert normal_date("03/04/1980") is None


@SLOW
@given(st.text())
def test_any_text_has_a_normal_form_or_none_and_it_is_stable(text):
    for kind, normal in KINDS.items():
        found = normal(text)
        assert found is None or found
        if found is not None and kind != "address":
            assert normal(found) == found


# Proposals


def test_a_pair_comes_with_its_reasons_its_score_and_what_differs():
    two = frame(name=["Anna Weiß", "WEISS, Anna"], email=["a@example.com", "A@example.com"], phone=["+49 151 1", None])
    two["birth_date"] = ["1980-04-03", "04.04.1980"]
    found = propose_duplicates(two).pairs.to_pandas().iloc[0]
    assert (found["left"], found["right"]) == ("r0", "r1")
    assert found["reasons"] == "same email"
    assert found["differs"] == "birth_date"
    assert 0.9 < found["score"] < 1


def test_missing_fields_agree_with_nothing():
    assert pairs_of(propose_duplicates(frame(email=[None, None, "", ""]), [("email",)])) == []


def test_a_value_of_too_many_records_is_named_and_not_paired():
    records = frame(email=["none@example.com"] * 30 + ["a@example.com"] * 2)
    with pytest.warns(UserWarning, match=r"email 'none@example.com' \(30 records\)"):
        found = propose_duplicates(records)
    assert found.oversize.to_numpy().tolist() == [["email", "none@example.com", 30]]
    assert pairs_of(found) == [("r30", "r31")]


def test_the_pairs_grow_with_the_records_and_not_with_their_square():
    n = 200_000
    records = pd.DataFrame({"record_id": np.arange(n), "email": [f"{i // 2}@example.com" for i in range(n)]})
    assert propose_duplicates(records).pairs.count().execute() == n // 2


@pytest.mark.filterwarnings("ignore:fetch_record_batch:DeprecationWarning")
def test_frames_files_and_tables_of_other_databases_give_the_same_pairs(tmp_path):
    records = simulate(100, seed=1)["customers"]
    expected = pairs_of(propose_duplicates(records, [("phone", "birth_date"), ("email",)], largest_block=1000))
    records.to_parquet(tmp_path / "records.parquet")
    other = ibis.duckdb.connect()
    other.create_table("records", records)
    for source in (tmp_path / "records.parquet", other.table("records")):
        found = propose_duplicates(source, [("phone", "birth_date"), ("email",)], largest_block=1000)
        assert pairs_of(found) == expected
    assert len(expected) > 50


def test_hostile_names_and_values_are_only_names_and_values():
    odd = 'e"mail; DROP'
    records = pd.DataFrame({odd: ["x'y\"", "X'Y\"", "\x00", "😀"], "id '": ["1", "2", "3", "4"]})
    assert pairs_of(propose_duplicates(records, [(odd,)], key="id '")) == [("1", "2")]


@SLOW
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None])), min_size=1, max_size=12))
def test_proposals_are_exactly_the_pairs_that_agree(rows):
    records = frame(a=[a for a, _ in rows], b=[b for _, b in rows])
    records["b"] = records["b"].astype(object)
    wanted = sorted(
        tuple(sorted((f"r{i}", f"r{j}")))
        for i in range(len(rows))
        for j in range(i)
        if rows[i] == rows[j] and rows[i][1] is not None
    )
    assert pairs_of(propose_duplicates(records, [("a", "b")])) == wanted


@pytest.mark.parametrize(
    ("records", "options", "said"),
    [
        (frame(email=["a"]).drop(columns="record_id"), {}, "no column 'record_id'"),
        (frame(email=["a", "b"]).assign(record_id="same"), {}, "'same' stands in 2 rows"),
        (frame(email=["a"]).assign(record_id=None), {}, "1 rows have none"),
        (frame(x=["a"]), {}, "none of the columns of the usual rules"),
        (frame(x=["a"]), {"rules": [("y",)]}, "no column 'y'"),
        (frame(x=["a"]), {"rules": [("x",)], "kinds": {"x": "fax"}}, "kinds are text, name"),
        (frame(x=["a"]), {"rules": []}, "at least one rule"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(records, options, said):
    with pytest.raises(DataError, match=said):
        propose_duplicates(records, **options)


# Quality


def febrl():
    if not data.present("febrl3"):
        pytest.skip("febrl3 has not been downloaded; `crmlab data get febrl3` fetches it")
    records = data.load("febrl3")
    return records.drop("person_id"), records.select("record_id", "person_id").to_pandas()


def test_exact_rules_on_febrl_3_are_never_wrong_and_find_nine_of_ten():
    records, truth = febrl()
    file = merge(customer_file(records), propose_duplicates(records, FEBRL_RULES), by="test")
    quality = match_quality(file.assignment, truth)
    assert quality["pairs_true"] == 6538
    assert quality["precision"] == 1
    assert quality["recall"] == pytest.approx(0.9266, abs=1e-4)


def test_the_model_on_febrl_3_finds_97_of_100():
    pytest.importorskip("splink", reason="the extra `identity` is not installed")
    records, truth = febrl()
    compare = {"given_name": "name", "surname": "name", "date_of_birth": "date", "postcode": "code"}
    compare |= {"soc_sec_id": "code", "address_1": "text", "suburb": "text"}
    blocks = [("soc_sec_id",), ("date_of_birth",), ("given_name", "surname"), ("postcode", "surname")]
    proposals = propose_likely_duplicates(records, compare, blocks)
    quality = match_quality(merge(customer_file(records), proposals, by="test").assignment, truth)
    assert quality["recall"] >= 0.97
    assert quality["precision"] >= 0.999
    found = proposals.pairs.to_pandas()
    assert found["score"].between(0.9, 1).all()
    assert (found["left"] < found["right"]).all()
    assert found["reasons"].str.contains("same|similar").all()


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "splink", None)
    with pytest.raises(DataError, match=r"pip install 'crmlab\[identity\]'"):
        propose_likely_duplicates(frame(a=["x"]), {"a": "text"}, [("a",)])


def test_rules_on_simulated_sources_are_scored_against_their_truth():
    firm = simulate(1_000, seed=2)
    with pytest.warns(UserWarning, match=r"none@example\.com"):
        proposals = propose_duplicates(firm["customers"])
    file = merge(customer_file(firm["customers"]), proposals, by="test")
    quality = match_quality(file.assignment, firm["truth"])
    assert quality["precision"] > 0.95
    assert 0.85 < quality["recall"] < 1


@SLOW
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_the_quality_is_that_of_the_pairs_counted_one_by_one(rows):
    found, truth = frame(c=[a for a, _ in rows]), frame(p=[b for _, b in rows])
    index = [(i, j) for i in range(len(rows)) for j in range(i)]
    given_ = {p for p in index if rows[p[0]][0] == rows[p[1]][0]}
    wanted = {p for p in index if rows[p[0]][1] == rows[p[1]][1]}
    quality = match_quality(found, truth)
    assert quality["pairs_right"] == len(given_ & wanted)
    assert (quality["pairs_found"], quality["pairs_true"]) == (len(given_), len(wanted))


def test_quality_refuses_other_records():
    with pytest.raises(DataError, match="same records"):
        match_quality(frame(c=[1, 2]), frame(p=[1]))


# Merging


def links(*pairs):
    return pd.DataFrame(pairs, columns=["left", "right"])


def same(one, other):
    pd.testing.assert_frame_equal(one.assignment, other.assignment)
    assert one.records.to_pandas().equals(other.records.to_pandas())


PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=5)


@SLOW
@given(st.lists(PAIRS, min_size=1, max_size=4))
def test_merges_undone_in_turn_leave_the_file_as_it_was_at_every_step(steps):
    file = customer_file(frame(email=list("abcdefgh")))
    states = [file]
    for step in steps:
        file = merge(file, links(*((f"r{i}", f"r{j}") for i, j in step)), by="Ann", at="2024-01-01")
        if len(file.log) > len(states[-1].log):
            states.append(file)
    for before in reversed(states[:-1]):
        file = undo(file, by="Ben", at="2024-01-02")
        same(file, before)
        pd.testing.assert_frame_equal(
            consolidate(file).customers.to_pandas(), consolidate(before).customers.to_pandas()
        )
    assert len(file.log) == 2 * len(states[-1].log)
    with pytest.raises(DataError, match="no merge to undo"):
        undo(file, by="Ben")


@SLOW
@given(PAIRS)
def test_a_merge_joins_what_is_linked_through_any_chain_and_nothing_else(pairs):
    file = merge(customer_file(frame(x=list("abcdefgh"))), links(*((f"r{i}", f"r{j}") for i, j in pairs)), by="Ann")
    group = {f"r{i}": {f"r{i}"} for i in range(8)}
    for i, j in pairs:
        joined = group[f"r{i}"] | group[f"r{j}"]
        for member in joined:
            group[member] = joined
    assert dict(file.assignment.to_numpy()) == {record: min(members) for record, members in group.items()}


def test_the_log_says_what_moved_who_decided_when_and_why():
    records = frame(email=["a@example.com", "A@example.com", "b@example.com"])
    file = merge(customer_file(records), propose_duplicates(records), by="Ann", at="2024-05-01 10:00")
    assert file.log.to_numpy().tolist() == [
        [1, "merge", None, pd.Timestamp("2024-05-01 10:00"), "Ann", "same email", "r1", "r1", "r0"]
    ]
    again = undo(file, by="Ben", reason="two people", at="2024-05-02")
    assert again.log.iloc[1][["step", "action", "undoes", "by", "reason"]].tolist() == [
        2,
        "undo",
        1,
        "Ben",
        "two people",
    ]
    assert len(file.log) == 1  # the file that was given is not changed


def test_a_log_that_was_kept_brings_the_file_back(tmp_path):
    records = frame(x=list("abcd"))
    file = merge(customer_file(records), links(("r0", "r1")), by="Ann")
    file = undo(merge(file, links(("r2", "r3")), by="Ann"), by="Ann")
    same(customer_file(records, log=file.log), file)


def test_a_merge_on_which_another_builds_is_not_undone_first():
    file = merge(customer_file(frame(x=list("abc"))), links(("r0", "r1")), by="Ann")
    file = merge(file, links(("r1", "r2")), by="Ann")
    with pytest.raises(DataError, match=r"Step 1 cannot be undone yet.*Undo first: 2"):
        undo(file, 1, by="Ann")
    with pytest.raises(DataError, match=r"no merge 7.*Merges that stand: 1, 2"):
        undo(file, 7, by="Ann")


def test_independent_merges_are_undone_in_any_order():
    start = customer_file(frame(x=list("abcd")))
    file = merge(merge(start, links(("r0", "r1")), by="Ann"), links(("r2", "r3")), by="Ann")
    same(undo(file, 1, by="Ann"), merge(start, links(("r2", "r3")), by="Ann"))
    with pytest.raises(DataError, match="undone already"):
        undo(undo(file, 1, by="Ann"), 1, by="Ann")


def test_nobody_merges_anonymously_and_no_record_is_invented():
    file = customer_file(frame(x=["a", "b"]))
    with pytest.raises(DataError, match="say who decides"):
        merge(file, links(("r0", "r1")), by="")
    with pytest.raises(DataError, match=r"1 records are not in the customer file, such as 'r9'"):
        merge(file, links(("r0", "r9")), by="Ann")


# Survivorship of values

SOURCES = frame(
    source=["erp", "shop", "shop", "calls"],
    phone=["+49 151 111111", "0049151222222", "+49151222222", None],
    name=["Anna", "Anna Maria", "ANNA", ""],
    born=pd.to_datetime(["1980-04-03"] * 4),
    updated=pd.to_datetime(["2024-03-01", "2024-01-01", "2023-01-01", "2024-12-31"]),
)


@pytest.mark.parametrize(
    ("rule", "phone", "name"),
    [
        ("newest", "+49 151 111111", "Anna"),
        ("most common", "0049151222222", "Anna"),
        ("trusted", "0049151222222", "Anna Maria"),
        ("longest", "+49 151 111111", "Anna Maria"),
    ],
)
def test_each_rule_keeps_its_value_and_the_conflict_table_shows_the_others(rule, phone, name):
    file = merge(customer_file(SOURCES), links(("r0", "r1"), ("r1", "r2"), ("r2", "r3")), by="Ann")
    found = consolidate(file, {"phone": rule, "name": rule}, sources=["shop", "erp"])
    customer = found.customers.to_pandas().iloc[0]
    assert customer[["records", "phone", "name"]].tolist() == [4, phone, name]
    assert customer["born"] == pd.Timestamp("1980-04-03")  # types survive too
    conflicts = found.conflicts.to_pandas().set_index("field")
    assert sorted(conflicts.index) == ["name", "phone"]
    assert conflicts.loc["phone", "kept"] == phone
    assert conflicts.loc["phone", "values"] == 2
    given_way = conflicts.loc["phone", "others"]
    assert ("r0" in given_way) != (phone == "+49 151 111111")


def test_ways_of_writing_are_no_conflict_and_no_customer_is_lost():
    records = frame(phone=["+49 151 111111", "0049151111111", None], name=["Weiß, Anna", "Anna Weiss", None])
    found = consolidate(merge(customer_file(records), links(("r0", "r1")), by="Ann"))
    assert found.conflicts.count().execute() == 0
    assert found.customers.to_pandas()["customer_id"].tolist() == ["r0", "r2"]


def test_the_newest_value_is_nearer_to_the_truth_than_the_longest():
    firm = simulate(600, seed=4, errors=0)
    truth = firm["truth"].merge(firm["people"][["person_id", "phone"]])
    record = truth.groupby("person_id")["record_id"].agg(list)
    file = merge(
        customer_file(firm["customers"]), links(*((ids[0], other) for ids in record for other in ids[1:])), by="truth"
    )
    right = file.assignment.merge(truth).drop_duplicates("customer_id").set_index("customer_id")["phone"]

    def share(rule):
        kept = consolidate(file, {"phone": rule}).customers.to_pandas().set_index("customer_id")["phone"].dropna()
        return (kept.map(normal_phone) == right[kept.index]).mean()

    assert share("newest") > share("longest") + 0.02


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"fax": "newest"}, "no field 'fax'"),
        ({"name": "best"}, "rules are 'newest'"),
        ({"name": "trusted"}, "needs sources"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(rules, said):
    with pytest.raises(DataError, match=said):
        consolidate(customer_file(SOURCES), rules)


# Pseudonyms


def test_a_pseudonym_is_the_hmac_of_the_id_and_joins_across_types():
    whole, texts = pd.DataFrame({"customer_id": [7, 8]}), pd.DataFrame({"customer_id": ["7", None, "7"]})
    floats = pd.DataFrame({"customer_id": [7.0, np.nan]})
    right = hmac.new(SECRET.encode(), b"7", hashlib.sha256).hexdigest()
    for table in (whole, texts, floats):
        found = pseudonymize(table, key=SECRET).to_pandas()["customer_id"]
        assert found[0] == right
        assert found.isna().sum() == table["customer_id"].isna().sum()
        assert len(found) == len(table)


def test_the_key_comes_from_the_environment_and_appears_nowhere(monkeypatch, capsys):
    monkeypatch.setenv("CRMLAB_PSEUDONYM_KEY", SECRET)
    table = pseudonymize(pd.DataFrame({"customer_id": [7]}))
    assert table.to_pandas().equals(pseudonymize(pd.DataFrame({"customer_id": [7]}), key=SECRET).to_pandas())
    shown = repr(table) + ibis.to_sql(table) + "".join(capsys.readouterr())
    assert SECRET not in shown
    left = data.connect().con.execute("SELECT function_name FROM duckdb_functions()").fetchall()
    assert not [name for (name,) in left if "pseudonym" in name]


@pytest.mark.parametrize(("key", "said"), [(None, "is missing"), ("hunter2", "is too short")])
def test_no_key_or_a_guessable_one_is_refused_without_showing_it(key, said, monkeypatch):
    monkeypatch.delenv("CRMLAB_PSEUDONYM_KEY", raising=False)
    with pytest.raises(DataError, match=said) as refused:
        pseudonymize(pd.DataFrame({"customer_id": [7]}), key=key)
    assert "hunter2" not in str(refused.value)


# Customers who cannot be reached

TRIES = pd.DataFrame(
    [
        (1, "2024-01-01", "email", "reached"), (1, "2024-02-01", "email", "bounced"),
        (1, "2024-03-01", "email", "bounced"),
        (2, "2024-01-01", "email", "bounced"), (2, "2024-02-01", "telephone", "reached"),
        (3, "2024-01-01", "letter", "returned"), (3, "2024-02-01", "letter", "reached"),
    ],
    columns=["customer_id", "date", "channel", "outcome"],
)  # fmt: skip


def test_unreachable_is_a_status_with_its_day_and_reason_and_nobody_is_deleted():
    people = pd.DataFrame({"customer_id": [1, 2, 3, 4]})
    found = contact_status(people, TRIES).to_pandas().set_index("customer_id").sort_index()
    assert found["status"].tolist() == ["unreachable", "reachable", "reachable", "untried"]
    assert str(found.loc[1, "since"])[:10] == "2024-02-01"
    assert found.loc[1, "reason"] == "bounced"
    earlier = contact_status(people, TRIES, as_of="2024-01-31").to_pandas().set_index("customer_id").sort_index()
    assert earlier["status"].tolist() == ["reachable", "unreachable", "unreachable", "untried"]


def test_dates_that_are_none_are_refused_with_an_example():
    people = pd.DataFrame({"customer_id": [1]})
    with pytest.raises(DataError, match=r"1 cells of column 'date' are no dates, such as '31.12.2023'"):
        contact_status(people, TRIES.replace("2024-01-01", "2024-01-02").replace("2024-03-01", "31.12.2023"))
    records = frame(x=["a", "b"], updated=["2024-01-01", "1. Mai"])
    with pytest.raises(DataError, match=r"'1\. Mai'"):
        consolidate(customer_file(records))


def test_a_customer_in_two_rows_is_refused():
    with pytest.raises(DataError, match="one row a customer"):
        contact_status(pd.DataFrame({"customer_id": [1, 1]}), TRIES)


def test_deleting_the_unreachable_would_flatter_retention_by_the_computed_bias():
    firm = simulate(3_000, seed=5)
    truth = firm["truth"].set_index("record_id")["person_id"]
    contacts = firm["interactions"].assign(customer_id=firm["interactions"]["customer_id"].map(truth))
    people = firm["people"].rename(columns={"person_id": "customer_id"})
    active = people[["customer_id"]].assign(active=~people["left"])
    status = contact_status(people[["customer_id"]], contacts)
    bias = survivorship_bias(active, status).loc["active"]
    kept = active.merge(status.to_pandas())
    kept = kept.loc[kept["status"] != "unreachable", "active"]
    assert bias["mean"] == pytest.approx(active["active"].mean())
    assert bias["mean_if_deleted"] == pytest.approx(kept.mean())
    assert bias["bias"] == pytest.approx(kept.mean() - active["active"].mean())
    assert 0 < bias["low"] < bias["bias"] < bias["high"]


def test_the_interval_of_the_bias_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        lost = rng.random(400) < 0.2
        values = pd.DataFrame({"customer_id": range(400), "x": rng.normal(np.where(lost, 0.0, 1.0))})
        status = pd.DataFrame({"customer_id": range(400), "status": np.where(lost, "unreachable", "reachable")})
        row = survivorship_bias(values, status).loc["x"]
        covered += row["low"] < 0.2 < row["high"]
    assert 0.9 <= covered / 200 <= 0.99


def test_a_bias_is_not_computed_for_customers_without_status():
    status = pd.DataFrame({"customer_id": [1], "status": ["reachable"]})
    with pytest.raises(DataError, match="1 customers have no status"):
        survivorship_bias(pd.DataFrame({"customer_id": [1, 2], "x": [1.0, 2.0]}), status)
