"""The promises of `crmlab.report.site`: stale only, whole or not at all, the last good report kept."""

import codecs
import csv
import json
import os
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
    assert [(run.slug, state) for run, state in states(built[0])] == [
        ("value", "unchanged"),
        ("broken", "failed"),
        ("twice", "failed"),
    ]


def state(manifest):
    return states(manifest)[0][1]


def test_only_what_makes_a_difference_makes_a_report_stale(built):
    manifest = built[0]
    path, data = manifest.parent.parent / "notebooks" / "value.ipynb", manifest.parent.parent / "orders.csv"
    original = path.read_bytes()
    change(path, lambda content: content.cells[2].update(outputs=[], execution_count=7, metadata={"execution": {}}))
    assert state(manifest) == "unchanged"
    change(path, lambda content: content.cells[0].update(source="# Another question?"))
    assert state(manifest) == "stale"
    path.write_bytes(original)
    assert state(manifest) == "unchanged"
    data.write_text("a\n2\n")
    assert state(manifest) == "stale"
    data.write_text("a\n1\n")
    text = manifest.read_text()
    manifest.write_text(text.replace("}\n[[", ", horizon = 52}\n[[", 1))
    assert state(manifest) == "stale"
    manifest.write_text(text)
    assert state(manifest) == "unchanged"


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
    assert "Last good report; a newer run failed" in index
    assert "now it breaks" in index
    path.write_bytes(original)
    assert build(manifest, only="val*")[0]["status"] == "ok"
    assert not (site / ".failed" / "value").exists()
    assert "newer run failed" not in (site / "index.html").read_text(encoding="utf-8")


def test_what_a_killed_build_left_is_removed_and_a_report_it_had_moved_goes_back(built, site):
    dead = subprocess.Popen(["true"])
    dead.wait()
    leftover, ours = site / f".tmp-{dead.pid}-x", site / f".tmp-{os.getppid()}-x"
    (leftover / "old").mkdir(parents=True)
    (leftover / "new").mkdir()
    ours.mkdir()
    (site / "value").rename(leftover / "old" / "value")
    build(built[0], only="value")
    assert not leftover.exists()
    assert ours.exists()
    assert (site / "value" / "index.html").exists()
    ours.rmdir()


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
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["index.html"]
