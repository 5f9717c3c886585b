"""The promises of `crmlab.report.site`: stale only, whole or not at all, the last good report kept."""

import codecs
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from crmlab.report.manifest import ManifestError
from crmlab.report.site import build, run_once, states

pytestmark = pytest.mark.xdist_group("site")
SECRET = "postgres://ann:s3cret@db.example/sales"


def notebook(path, parameters, *cells):
    head = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    content = new_notebook(cells=[new_markdown_cell(f"# What of {path.stem}?"), head, *map(new_code_cell, cells)])
    nbformat.write(content, path)


def change(path, edit):
    content = nbformat.read(path, as_version=4)
    edit(content)
    nbformat.write(content, path)


def project(folder):
    for name in ("notebooks", "reports"):
        (folder / name).mkdir()
    (folder / "orders.csv").write_text("a\n1\n")
    notebook(
        folder / "notebooks" / "value.ipynb",
        "db: str = ''  # address\nhorizon: int = 26  # weeks",
        "import pandas as pd\nfrom crmlab.report import record, record_table\nprint('reading', db)",
        "record('value', 38.7, '$', (36, 41))\n"
        "record_table('states', pd.DataFrame({'客户': ['=1+1', 'b'], 'share': [0.1234567, 1]}))",
    )
    notebook(folder / "notebooks" / "broken.ipynb", "db: str = ''", "raise RuntimeError(f'no route to {db}')")
    notebook(
        folder / "notebooks" / "twice.ipynb",
        "x: int = 1",
        "from crmlab.report import record",
        "record('a', 1); record('a', 2)",
    )
    parameters = f'parameters = {{db = "{SECRET}"}}'
    reports = [
        f'name = "value"\nnotebook = "../notebooks/value.ipynb"\ndata = ["../orders.csv"]\n{parameters}',
        f'name = "broken"\nnotebook = "../notebooks/broken.ipynb"\n{parameters}',
        'name = "twice"\nnotebook = "../notebooks/twice.ipynb"',
    ]
    manifest = folder / "reports" / "m.toml"
    manifest.write_text("[defaults]\ntimeout = 60\n" + "".join(f"[[report]]\n{report}\n" for report in reports))
    return manifest


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A site of a good report and two that fail, and what was told while it was built."""
    manifest = project(tmp_path_factory.mktemp("project"))
    events = []
    results = build(manifest, jobs=2, on_event=lambda *event: events.append(event))
    return manifest, results, events


@pytest.fixture(scope="module")
def site(built):
    return built[0].parent / "site"


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_site_has_each_report_whole_and_failures_apart(site):
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert files == {
        "index.html",
        *(f"value/{name}" for name in ("index.html", "report.ipynb", "results.json", "run.json", "tables/states.csv")),
        *(f".failed/{name}/{file}" for name in ("broken", "twice") for file in ("report.ipynb", "run.json")),
    }


def test_results_and_tables_come_from_the_records(site):
    results = load(site / "value" / "results.json")
    assert results["figures"]["value"]["value"] == 38.7
    assert results["figures"]["value"]["interval"] == [36, 41]
    assert results["tables"]["states"] == {
        "caption": None,
        "columns": ["客户", "share"],
        "file": "tables/states.csv",
        "rows": 2,
    }
    # With the mark by which spreadsheets know the encoding.
    assert (site / "value" / "tables" / "states.csv").read_bytes().startswith(codecs.BOM_UTF8)
    with (site / "value" / "tables" / "states.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [["客户", "share"], ["'=1+1", "0.1234567"], ["b", "1.0"]]
    assert "vnd.crmlab" not in (site / "value" / "report.ipynb").read_text()


def test_run_json_says_where_the_report_comes_from(site):
    facts = load(site / "value" / "run.json")
    assert (facts["status"], facts["error"], facts["warnings"]) == ("ok", None, [])
    assert facts["parameters"] == {"db": "postgres://ann:***@db.example/sales"}
    assert list(facts["data"]) == ["../orders.csv"]
    assert {"python", "crmlab", "pandas", "ibis-framework", "papermill"} <= facts["versions"].keys()
    assert facts["started"].endswith("+00:00")
    assert facts["git"] is None
    assert len(facts["notebook"]["sha256"]) == 64


def test_a_failure_is_told_with_its_cell_and_kept_with_its_notebook(site, built):
    error = load(site / ".failed" / "broken" / "run.json")["error"]
    assert error["kind"] == "notebook"
    assert error["message"].startswith("RuntimeError: no route to postgres://ann:***@db.example/sales in cell 3 (raise")
    assert [result["status"] for result in built[1]] == ["ok", "failed", "failed"]
    assert ("value", "running", "cell 4 of 4") in built[2]


def test_a_name_recorded_twice_fails_the_report(site):
    assert load(site / ".failed" / "twice" / "run.json")["error"]["message"].startswith("'a' is recorded twice")


def test_no_file_of_the_site_has_the_password(site):
    for path in site.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), path


def test_the_index_has_failures_first_and_key_figures(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert text.index("What of broken?") < text.index("What of value?")
    assert "2 failed" in text
    assert "38.7 $" in text
    assert "95% interval 36.0 to 41.0" in text
    assert 'href="value/index.html"' in text
    assert "https://" not in text


def test_the_state_of_each_report_is_known_without_running(built):
    found = states(built[0])
    assert [(run.slug, state) for run, state, _ in found] == [
        ("value", "unchanged"),
        ("broken", "failed"),
        ("twice", "failed"),
    ]
    assert found[0][2] == ""
    assert found[1][2].startswith("last run failed: RuntimeError: no route to")


def why(manifest):
    return states(manifest)[0][2]


def test_only_what_makes_a_difference_makes_a_report_stale(built, monkeypatch):
    manifest = built[0]
    path, data = manifest.parent.parent / "notebooks" / "value.ipynb", manifest.parent.parent / "orders.csv"
    original = path.read_bytes()
    change(path, lambda content: content.cells[2].update(outputs=[], execution_count=7, metadata={"execution": {}}))
    assert why(manifest) == ""
    change(path, lambda content: content.cells[0].update(source="# Another question?"))
    assert why(manifest) == "notebook changed; title changed"
    path.write_bytes(original)
    assert why(manifest) == ""
    data.write_text("a\n2\n")
    assert why(manifest) == "data ../orders.csv changed"
    data.write_text("a\n1\n")
    text = manifest.read_text()
    manifest.write_text(text.replace("}\n[[", ", horizon = 52}\n[[", 1))
    assert why(manifest) == "parameter horizon changed"
    manifest.write_text(text.replace("[defaults]", "[defaults]\ncode = true"))
    assert why(manifest) == "formats changed"
    manifest.write_text(text)
    monkeypatch.setattr("crmlab.report.cache.versions", lambda: {"python": "3.99"})
    assert why(manifest) == "Python or a package changed"
    monkeypatch.undo()
    page = manifest.parent / "site" / "value" / "index.html"
    page.rename(page.with_name("aside"))
    assert why(manifest) == "index.html is missing"
    page.with_name("aside").rename(page)
    assert why(manifest) == ""


def test_an_unchanged_build_runs_nothing_and_loads_nothing_heavy(built, site):
    before = (site / "value" / "index.html").stat().st_mtime_ns
    code = "import sys; from crmlab.report import build; build(sys.argv[1], only='value'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(built[0])], capture_output=True, text=True, check=True)
    assert not {"papermill", "nbformat", "nbconvert", "pandas", "matplotlib"} & set(done.stdout.split())
    assert (site / "value" / "index.html").stat().st_mtime_ns == before
    assert not list(site.glob(".tmp-*"))


def test_a_failure_keeps_the_last_good_report_and_a_success_ends_the_failure(built, site):
    manifest = built[0]
    path = manifest.parent.parent / "notebooks" / "value.ipynb"
    original, page = path.read_bytes(), (site / "value" / "index.html").read_bytes()
    change(path, lambda content: content.cells.append(new_code_cell("assert False, 'now it breaks'")))
    assert build(manifest, only="val*")[0]["status"] == "failed"
    assert (site / "value" / "index.html").read_bytes() == page
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "now it breaks" in index
    path.write_bytes(original)
    assert build(manifest, only="val*")[0]["status"] == "ok"
    assert not (site / ".failed" / "value").exists()
    assert "now it breaks" not in (site / "index.html").read_text(encoding="utf-8")


def test_what_a_killed_build_left_is_removed_and_a_report_it_had_moved_goes_back(built, site):
    leftover = site / ".tmp-x"
    (leftover / "old").mkdir(parents=True)
    (leftover / "new").mkdir()
    (site / "value").rename(leftover / "old" / "value")
    before = (leftover / "old" / "value" / "run.json").read_bytes()
    assert build(built[0], only="value")[0]["status"] == "ok"
    assert not leftover.exists()
    assert (site / "value" / "run.json").read_bytes() == before


def test_a_report_that_was_killed_on_its_way_into_the_history_gets_there(built, site):
    shutil.rmtree(site / ".history", ignore_errors=True)
    killed = site / ".tmp-x" / "new" / "value"
    shutil.copytree(site / "value", killed)
    facts = load(killed / "run.json") | {"started": "2020-01-02T03:04:05+00:00"}
    (killed / "run.json").write_text(json.dumps(facts))
    build(built[0], only="value")
    assert load(site / ".history" / "value" / "20200102T030405Z" / "run.json") == facts
    assert not (site / ".tmp-x").exists()


def test_earlier_reports_are_kept_as_many_as_asked_for(built, site):
    manifest = built[0]
    shutil.rmtree(site / ".history", ignore_errors=True)
    text = manifest.read_text()
    manifest.write_text(text.replace("[defaults]", "[defaults]\nkeep = 2"))
    started = []
    for day in range(1, 5):
        facts = load(site / "value" / "run.json") | {"started": f"2021-01-0{day}T00:00:00+00:00"}
        (site / "value" / "run.json").write_text(json.dumps(facts))
        started.append(build(manifest, only="value", force=True)[0]["previous"])
    manifest.write_text(text)
    kept = sorted(path.name for path in (site / ".history" / "value").iterdir() if path.is_dir())
    assert kept == ["20210103T000000Z", "20210104T000000Z"]
    assert started == [f"2021-01-0{day}T00:00:00+00:00" for day in range(1, 5)]
    assert (site / ".history" / "value" / kept[0] / "index.html").exists()
    assert list((site / "value" / "tables").iterdir())


def test_folders_and_pages_of_others_are_not_touched(built, tmp_path):
    (tmp_path / "value").mkdir()
    (tmp_path / "value" / "thesis.txt").write_text("mine")
    with pytest.raises(ManifestError, match="is not a report of crmlab"):
        build(built[0], tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["value", "thesis.txt"]
    (tmp_path / "index.html").write_text("my homepage")
    with pytest.raises(ManifestError, match="is not an index of crmlab"):
        build(built[0], tmp_path)


def test_a_pattern_that_names_nothing_is_told(built):
    with pytest.raises(ManifestError, match="No report is named like 'x'; there are value, broken, twice"):
        build(built[0], only="x")


def test_one_notebook_runs_without_a_manifest(built, tmp_path):
    path = built[0].parent.parent / "notebooks" / "value.ipynb"
    facts = run_once(path, ["horizon=52"], tmp_path / "out")
    assert (facts["status"], facts["parameters"]) == ("ok", {"horizon": 52})
    assert "../index.html" not in (tmp_path / "out" / "value" / "index.html").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["value"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_stops_its_kernels_and_leaves_no_staging(tmp_path, how):
    manifest = tmp_path / "m.toml"
    manifest.write_text(f'[[report]]\nname = "endless"\nnotebook = "n.ipynb"\nparameters = {{pid = "{tmp_path}/pid"}}')
    notebook(
        tmp_path / "n.ipynb",
        "pid: str = ''",
        "import os, pathlib, time\npathlib.Path(pid).write_text(str(os.getpid()))\ntime.sleep(600)",
    )
    command = [sys.executable, "-m", "crmlab", "build", str(manifest)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    assert "Interrupted" in process.communicate(timeout=30)[1]
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[how]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["index.html"]
