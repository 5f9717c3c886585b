import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from crmlab import clv, data
from crmlab.data import DataError, simulate, simulate_log
from crmlab.data.contracts import CONTRACTS
from crmlab.data.normal import normal_date, normal_email, normal_name, normal_phone


@pytest.fixture(scope="module")
def firm():
    return simulate(1_000, seed=3)


def test_the_same_seed_gives_the_same_tables_and_another_seed_others(firm):
    again, other = simulate(1_000, seed=3), simulate(1_000, seed=4)
    for name, frame in firm.items():
        pd.testing.assert_frame_equal(frame, again[name])
    assert not firm["customers"].equals(other["customers"])


def test_every_frame_says_that_it_is_simulated(firm):
    assert all("simulated" in frame.attrs["reality"] for frame in firm.values())


def test_the_truth_names_one_person_for_each_record_and_no_person_is_without_record(firm):
    assert firm["truth"]["record_id"].is_unique
    assert set(firm["truth"]["record_id"]) == set(firm["customers"]["record_id"])
    assert set(firm["truth"]["person_id"]) == set(firm["people"]["person_id"])


def test_every_event_belongs_to_a_record_and_lies_within_the_period(firm):
    records = set(firm["customers"]["record_id"])
    for name, date in {"orders": "date", "service_cases": "opened", "interactions": "date", "survey": "date"}.items():
        assert set(firm[name]["customer_id"]) <= records
        assert firm[name][date].between("2022-01-01", "2024-01-01", inclusive="left").all()
    assert set(firm["campaign_responses"]["customer_id"]) <= records


TABLES = ("customers", "orders", "service_cases", "campaign_responses", "interactions", "survey")


def checked(firm, table, as_of="2023-12-31"):
    key = {"customer_id": "record_id"} if table == "customers" else {}
    return data.validate(firm[table], table, as_of, **key)


@pytest.mark.parametrize("table", TABLES)
def test_without_errors_every_table_keeps_its_contract(table):
    for options in ({"seed": 8}, {"seed": 9, "start": "2023-12-01"}):
        found = checked(simulate(300, errors=0, **options), table)
        assert found.rows > 0
        assert found.failures.empty, str(found)


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_have_the_names_of_their_contracts_but_for_the_key_of_the_records(firm, table):
    own = set(firm[table].columns) & set(CONTRACTS[table].columns)
    required = {name for name, rule in CONTRACTS[table].columns.items() if rule.required}
    assert required - own == ({"customer_id"} if table == "customers" else set())


def test_the_contract_reports_the_mistyped_cells_of_the_sources_and_nothing_else(firm):
    records = firm["customers"]
    found = checked(firm, "customers")
    assert all(checked(firm, table).failures.empty for table in TABLES[1:])
    # Told independently: the days by the normal form of the identity rules (which does without a last 日), the
    # addresses by their sign.
    days = {row: (text, normal_date(text) or "") for row, text in records["birth_date"].dropna().items()}
    cut = {row for row, (text, _) in days.items() if "年" in text and text[-1] != "日"}
    wrong = {(row + 1, "birth_date") for row, (_, day) in days.items() if row in cut or not "1900" < day < "2024"}
    mails = records["email"].dropna()
    wrong |= {(row + 1, "email") for row, mail in mails.items() if mail.count("@") != 1 or mail[0] == "@"}
    assert set(found.failures[["row", "column"]].itertuples(index=False, name=None)) == wrong
    assert found.failures["row"].nunique() < 0.15 * found.rows


def test_nobody_buys_before_joining_or_after_leaving(firm):
    orders = firm["orders"].merge(firm["truth"], left_on="customer_id", right_on="record_id").merge(firm["people"])
    assert (orders["date"] >= orders["joined"]).all()
    assert (orders["date"].dt.normalize() <= orders["active_until"]).all()


def test_without_errors_normalisation_makes_the_sources_agree_with_the_truth():
    firm = simulate(400, seed=5, errors=0)
    both = firm["customers"].merge(firm["truth"]).merge(firm["people"], on="person_id", suffixes=("", "_true"))
    assert (both["email"].map(normal_email) == both["email_true"].map(normal_email)).all()
    assert (both["birth_date"].map(normal_date) == both["birth_date_true"].dt.strftime("%Y-%m-%d")).all()
    phones = both["phone"].map(normal_phone)
    assert ((phones == both["phone_true"]) | (phones == both["phone_before"])).all()
    same = both["name"].map(normal_name) == both["name_true"].map(normal_name)
    latin = both["name"].map(normal_name) == both["latin"].map(normal_name)
    assert (same | latin | both["married"]).all()


def test_the_promised_mess_is_there():
    firm = simulate(1_000, seed=3, errors=0.06)
    records = firm["customers"].merge(firm["truth"])
    per_source = records.groupby(["person_id", "source"]).size()
    assert (per_source > 1).mean() == pytest.approx(0.08, abs=0.03)
    assert set(records["source"]) == {"erp", "shop", "calls"}
    assert records["name"].isna().mean() == pytest.approx(0.03, abs=0.015)
    assert (records["email"] == "none@example.com").mean() == pytest.approx(0.03, abs=0.015)
    assert firm["people"]["moved"].mean() == pytest.approx(0.2, abs=0.05)
    assert firm["people"]["phone"].duplicated().any()  # households share


def test_all_addresses_are_reserved_ones(firm):
    assert firm["people"]["email"].str.fullmatch(r"[^@]+@example\.(com|net|org)").all()


@pytest.mark.parametrize("options", [{"customers": 0}, {"errors": 1.5}, {"end": "2021-01-01"}])
def test_impossible_requests_are_refused_with_what_was_asked(options):
    with pytest.raises(DataError, match="simulate needs"):
        simulate(**options)


@pytest.mark.parametrize("options", [{"customers": 1}, {"overlap": 1, "duplicates": 1, "errors": 0.6}, {"chinese": 1}])
def test_extreme_firms_can_be_simulated(options):
    firm = simulate(**{"customers": 30, **options})
    assert len(firm["truth"]) == len(firm["customers"]) > 0


def test_the_log_has_the_stated_customers_in_order_of_date_one_file_a_month(tmp_path):
    folder = simulate_log(tmp_path / "log", 2_000, seed=1, start="2021-05-01", months=6)
    assert len(list(folder.iterdir())) == 6
    log = data.load(folder).to_pandas()
    assert log["customer_id"].nunique() == 2_000
    assert log["date"].min() >= pd.Timestamp("2021-05-01")
    assert log["date"].max() < pd.Timestamp("2021-11-01")
    assert log["date"].is_monotonic_increasing
    assert (log["amount"] > 0).all()


def test_the_same_seed_gives_the_same_log(tmp_path):
    one, two = (simulate_log(tmp_path / name, 500, seed=7) for name in ("one", "two"))
    assert data.load(one).to_pandas().equals(data.load(two).to_pandas())


def test_a_log_is_never_written_over_and_a_killed_run_leaves_none(tmp_path):
    simulate_log(tmp_path / "log", 10)
    with pytest.raises(DataError, match="exists already"):
        simulate_log(tmp_path / "log", 10)
    code = (
        "import os, pyarrow.parquet as pq\nfrom crmlab.data import simulate_log\nwrite = pq.write_table\n"
        "def dying(table, path): os._exit(9) if path.name == '0003.parquet' else write(table, path)\n"
        f"pq.write_table = dying\nsimulate_log({str(tmp_path / 'killed')!r}, 10)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert not (tmp_path / "killed").exists()
    assert simulate_log(tmp_path / "killed", 10).is_dir()


def test_the_fit_finds_the_parameters_that_the_log_was_made_with(tmp_path):
    folder = simulate_log(tmp_path / "log", 40_000, seed=2)
    fit = clv.MBGNBD().fit(clv.summarize(folder, calibration_end="2023-12-31", unit="W"))
    true = np.array([0.8, 3.4, 0.8, 8.0])
    assert np.abs(np.asarray(fit.params) - true) / true == pytest.approx(0, abs=0.15)
