"""What a report owner depends on: whatever goes wrong in one report, the others and the site stay whole.

The counts are small here; ``CRMLAB_KILLS=50 CRMLAB_RUNS=200`` runs as many as the promise says.
"""

import ctypes
import html.parser
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from crmlab.report import publish, run, site, warm
from crmlab.report.lock import LockedError, locked
from crmlab.report.manifest import ManifestError, Run
from crmlab.report.run import Kernels, RunError, execute
from crmlab.report.site import build, states

pytestmark = pytest.mark.xdist_group("reliability")
KILLS = int(os.environ.get("CRMLAB_KILLS", "3"))
RUNS = int(os.environ.get("CRMLAB_RUNS", "16"))
GOOD = "from crmlab.report import record\nrecord('answer', 42)"


def notebook(path, *cells, parameters="x: int = 1"):
    head = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[head, *map(new_code_cell, cells)]), path)


def project(folder, **notebooks):
    """A manifest of notebooks of one cell each."""
    for name, cell in notebooks.items():
        notebook(folder / f"{name}.ipynb", cell)
    manifest = folder / "m.toml"
    manifest.write_text("".join(f'[[report]]\nname = "{n}"\nnotebook = "{n}.ipynb"\n' for n in notebooks))
    return manifest


def outcome(results):
    return {facts["slug"]: facts["error"]["kind"] if facts["error"] else "ok" for facts in results}


def whole(folder):
    """Assert that a site has only whole pages; return the names of its good reports."""

    class Reader(html.parser.HTMLParser):
        ends = 0

        def handle_endtag(self, tag):
            self.ends += tag == "html"

    for page in [folder / "index.html", *folder.glob("*/index.html"), *folder.glob(".history/*/*/index.html")]:
        reader = Reader()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.ends == 1, page
    good = set()
    for facts in [*folder.glob("*/run.json"), *folder.glob(".history/*/*/run.json")]:
        assert json.loads(facts.read_bytes())["status"] == "ok"
        for name in ("report.ipynb", "results.json"):
            json.loads((facts.parent / name).read_bytes())
        assert (facts.parent / "index.html").exists()
        good |= {facts.parent.name} if facts.parent.parent == folder else set()
    return good


def command(*words, **options):
    return subprocess.Popen([sys.executable, "-m", "crmlab", *map(str, words)], stderr=subprocess.PIPE, **options)


def test_what_goes_wrong_in_one_report_is_told_and_harms_no_other(tmp_path):
    manifest = project(
        tmp_path,
        good=GOOD,
        ends="import os; os._exit(3)",
        killed="import os; os.kill(os.getpid(), 9)",
        endless="while True: pass",
        raises="raise KeyError('customer_id')",
        missing="from crmlab import data; data.load('nowhere.csv')",
        last=GOOD,
    )
    manifest.write_text(manifest.read_text().replace('name = "endless"', 'name = "endless"\ntimeout = 3'))
    found = build(manifest, jobs=2)
    assert outcome(found) == {
        "good": "ok",
        "ends": "kernel",
        "killed": "memory",
        "endless": "timeout",
        "raises": "notebook",
        "missing": "notebook",
        "last": "ok",
    }
    messages = {facts["slug"]: facts["error"] and facts["error"]["message"] for facts in found}
    assert messages["ends"].startswith("the kernel died (exit code 3) in cell 2")
    assert messages["killed"].startswith("the kernel was killed by the system")
    assert messages["endless"].startswith("the report took longer than its 3 seconds")
    assert "nowhere.csv" in messages["missing"]
    assert whole(tmp_path / "site") == {"good", "last"}
    reasons = {run.slug: why for run, _, why in states(manifest)}
    assert reasons["good"] == ""
    assert reasons["raises"].startswith("last run failed: KeyError: 'customer_id'")


def test_a_notebook_that_is_none_is_told_before_anything_runs(tmp_path):
    manifest = project(tmp_path, good=GOOD, cut=GOOD)
    (tmp_path / "cut.ipynb").write_bytes((tmp_path / "cut.ipynb").read_bytes()[:100])
    with pytest.raises(ManifestError, match=r"cut\.ipynb is not a Jupyter notebook"):
        build(manifest)
    # A notebook by its form, but not by what is in it, fails alone.
    (tmp_path / "cut.ipynb").write_bytes((tmp_path / "good.ipynb").read_bytes())
    content = json.loads((tmp_path / "cut.ipynb").read_bytes())
    content["cells"].append({"cell_type": "code", "source": "1", "metadata": {}, "outputs": 7, "execution_count": "?"})
    (tmp_path / "cut.ipynb").write_text(json.dumps(content))
    assert outcome(build(manifest, jobs=2))["good"] == "ok"
    assert whole(tmp_path / "site") >= {"good"}


def test_a_gigabyte_of_output_stays_out_of_the_runner_and_the_page(tmp_path):
    lines = "line = 'x' * 99_999\nfor _ in range(10_000): print(line)"
    manifest = project(tmp_path, lines=lines, shown="'x' * 2 * 10**8", good=GOOD)
    found = {facts["slug"]: facts for facts in build(manifest, jobs=2)}
    # The memory that this process ever needed; it would be gigabytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000
    page = (tmp_path / "site" / "lines" / "index.html").read_text(encoding="utf-8")
    assert "The rest is left out: more than 2,000,000 letters were printed." in page
    assert len(page) < 5_000_000
    message = found["shown"]["error"]["message"]
    assert "is more than a report can show" in message
    assert found["good"]["status"] == "ok"


def test_a_full_disk_fails_reports_in_words_and_harms_none_that_are_there(tmp_path, monkeypatch):
    manifest = project(tmp_path, one=GOOD, two=GOOD)
    build(manifest, jobs=2)
    before = (tmp_path / "site" / "one" / "run.json").read_bytes()
    write = site.write_json

    def full(path, content):
        if "one" in path.parts:
            path.write_text("{")
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(site, "write_json", full)
    found = {facts["slug"]: facts for facts in build(manifest, jobs=2, force=True)}
    assert found["one"]["error"]["message"] == "its files could not be written: No space left on device"
    assert found["two"]["status"] == "ok"
    assert (tmp_path / "site" / "one" / "run.json").read_bytes() == before
    assert whole(tmp_path / "site") == {"one", "two"}
    assert not list((tmp_path / "site").glob(".tmp-*"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only the administrator may mount a small disk")
def test_a_disk_that_really_is_full_is_told(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    try:
        big = f"{GOOD}\nimport pandas as pd\nfrom crmlab.report import record_table\n"
        big += "record_table('t', pd.DataFrame({'a': range(60_000)}))"
        manifest = project(tmp_path, small=GOOD, big=big)
        process = command("build", manifest, "--out", disk / "site", "--jobs", "1")
        errors = process.communicate(timeout=120)[1].decode()
        assert process.returncode == 1
        assert "big: failed (its files could not be written: No space left on device)" in errors
        assert whole(disk / "site") == {"small"}
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_written_is_told_with_2(tmp_path):
    manifest = project(tmp_path, good=GOOD)
    (tmp_path / "file").write_text("")
    process = command("build", manifest, "--out", tmp_path / "file" / "site")
    assert "Not a directory" in process.communicate(timeout=60)[1].decode()
    assert process.returncode == 2
    folder = Path("/proc/crmlab")
    process = command("build", manifest, "--out", folder)
    assert str(folder) in process.communicate(timeout=60)[1].decode()
    assert process.returncode == 2


def test_a_flaky_report_is_tried_again_as_often_as_asked_for(tmp_path):
    tries = f"from pathlib import Path\nlog = Path({str(tmp_path / 'tries')!r})\n"
    tries += (
        "log.write_text(log.read_text() + 'x' if log.exists() else 'x')\nassert len(log.read_text()) > 1, 'not yet'"
    )
    manifest = project(tmp_path, flaky=tries, hopeless="assert False")
    manifest.write_text("[defaults]\nretries = 1\n" + manifest.read_text())
    found = {facts["slug"]: facts for facts in build(manifest, jobs=2)}
    assert {name: (facts["status"], facts["attempts"]) for name, facts in found.items()} == {
        "flaky": ("ok", 2),
        "hopeless": ("failed", 2),
    }


def test_two_builds_at_once_are_told_apart_by_code_3(tmp_path):
    manifest = project(tmp_path, slow="import time; time.sleep(5)")
    first = command("build", manifest)
    lock = tmp_path / "site" / ".lock"
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    second = command("build", manifest)
    message = second.communicate(timeout=60)[1].decode()
    assert second.returncode == 3
    assert f"Another build works in {tmp_path / 'site'} (process {first.pid} on " in message
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert not lock.exists()
    third = command("build", manifest)
    third.communicate(timeout=60)
    assert third.returncode == 0


def test_single_reports_may_be_built_side_by_side_but_not_beside_a_whole_build(tmp_path):
    cleared = []
    one = locked(tmp_path, together=True, alone=lambda: cleared.append(1))
    other = locked(tmp_path, together=True, alone=lambda: cleared.append(2))
    with one, other, pytest.raises(LockedError), locked(tmp_path):
        pass
    assert cleared == [1]
    with locked(tmp_path), pytest.raises(LockedError), locked(tmp_path, together=True):
        pass
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_report_of_a_manifest_is_built_by_its_number_and_the_index_later(tmp_path):
    manifest = project(tmp_path, one=GOOD, two=GOOD)
    assert [facts["slug"] for facts in build(manifest, index=1)] == ["two"]
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["two"]
    build(manifest, index=0)
    events = []
    build(manifest, on_event=lambda *event: events.append(event))
    assert events == [("one", "unchanged", ""), ("two", "unchanged", "")]
    assert whole(tmp_path / "site") == {"one", "two"}
    with pytest.raises(ManifestError, match="There is no report 2; there are 2, numbered 0 to 1"):
        build(manifest, index=2)


def test_a_build_killed_at_any_moment_loses_nothing(tmp_path, monkeypatch):
    # Short, because it holds sockets.
    with tempfile.TemporaryDirectory(dir="/tmp") as private:
        monkeypatch.setenv("TMPDIR", private)
        monkeypatch.setattr(tempfile, "tempdir", private)
        killed_at_any_moment(tmp_path)
        assert list(Path(private).iterdir()) == []


def killed_at_any_moment(tmp_path):
    cell = f"import time, os\nx\ntime.sleep(0.05)\n{GOOD}"
    notebook(tmp_path / "n.ipynb", cell)
    manifest, out = tmp_path / "m.toml", tmp_path / "site"
    text = "[defaults]\nkeep = 3\n" + "".join(
        f'[[report]]\nname = "r{i}"\nnotebook = "n.ipynb"\nparameters = {{x = {{x}}}}\n' for i in range(4)
    )
    manifest.write_text(text.replace("{x}", "0"))
    clock = time.monotonic()
    command("build", manifest, "--jobs", "2").communicate()
    known, rng, usual = {f"r{i}" for i in range(4)}, random.Random(0), time.monotonic() - clock
    for kill in range(1, KILLS + 1):
        manifest.write_text(text.replace("{x}", str(kill)))
        # Any moment of a build, but mostly those in which reports are published.
        moment = usual * rng.uniform(0.1, 1.0) ** 0.5
        process = command("build", manifest, "--jobs", "2", start_new_session=True)
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert whole(out) == known, f"after {moment:.2f} s"
    print(f"{KILLS} kills, {len(list(out.glob('.history/*/2*')))} earlier reports, a build takes {usual:.1f} s")
    started = {name: json.loads((out / name / "run.json").read_bytes())["started"] for name in known}
    assert outcome(build(manifest, jobs=2)) == dict.fromkeys(sorted(known), "ok")
    assert whole(out) == known
    assert {path.name for path in out.iterdir()} == known | {"index.html", ".history"}
    for name in known:
        now = json.loads((out / name / "run.json").read_bytes())
        before = publish.history_of(out, name, {"started": started[name]})
        assert now["started"] == started[name] or before.exists()


def alive(process):
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_kernels_do_not_outlive_a_build_that_was_killed(tmp_path):
    cell = "import os, pathlib, time, subprocess\nown = subprocess.Popen(['sleep', '300'])\n"
    cell += "pids = f'{os.getpid()} {os.getppid()} {own.pid}.pids'\n"
    cell += f"pathlib.Path({str(tmp_path)!r}, pids).touch()\ntime.sleep(300)"
    manifest = project(tmp_path, one=cell, two=cell, three=cell)
    process = command("build", manifest, "--jobs", "2")
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.pids"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    started = {int(pid) for path in tmp_path.glob("*.pids") for pid in path.stem.split()}
    assert len(started) == (5 if warm.can_fork() else 6)
    assert all(map(alive, started))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in started if alive(pid)]


def memory():
    """Megabytes that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_fan_out_is_published_whole_and_does_not_fill_the_memory(tmp_path):
    notebook(tmp_path / "n.ipynb", "import pandas as pd\npd.DataFrame({'a': range(x)}).describe()", GOOD)
    manifest = tmp_path / "m.toml"
    manifest.write_text(f'[[report]]\nname = "r"\nnotebook = "n.ipynb"\nmatrix = {{x = {list(range(2, RUNS + 2))}}}\n')
    seen = []
    found = build(manifest, jobs=2, on_event=lambda name, state, note: seen.append(memory()) if state == "ok" else None)
    assert [facts["status"] for facts in found] == ["ok"] * RUNS
    assert len(whole(tmp_path / "site")) == RUNS
    early, late = sum(seen[RUNS // 4 : RUNS // 2]) / (RUNS // 4), sum(seen[-RUNS // 4 :]) / (RUNS // 4)
    print(f"{RUNS} runs: {early:.0f} MB early, {late:.0f} MB late")
    # Everything is loaded after the first reports; a leak of what a report holds would be megabytes each.
    assert late - early < 0.25 * RUNS + 10


CELLS = (
    "import os, random, sys, tempfile, warnings\nimport numpy as np, pandas as pd, matplotlib.pyplot as plt",
    "import duckdb\nprint(duckdb.sql('SELECT sum(i) AS s, count(*) FROM range(1000000) t(i)').fetchall())\n"
    "with duckdb.connect() as own: print(own.sql('SELECT i % 7 AS g, sum(i) FROM range(1000000) t(i) GROUP BY 1 "
    "ORDER BY 1').df())",
    "from crmlab import data\ndata.load('cdnow_sample').count().to_pandas()",
    "from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier\n"
    "from sklearn.linear_model import LogisticRegression\n"
    "X = np.random.default_rng(0).normal(size=(500, 5)); y = (X @ np.ones(5) > 0).astype(int)\n"
    "for model in (LogisticRegression(), RandomForestClassifier(20, random_state=0, n_jobs=2), "
    "HistGradientBoostingClassifier(max_iter=20, random_state=0)):\n"
    "    print(model.fit(X, y).predict_proba(X)[:3].round(6))",
    "A = np.random.default_rng(1).normal(size=(400, 400)); np.linalg.inv(A @ A.T + np.eye(400)).trace().round(9)",
    "import statsmodels.api as sm\nprint(sm.OLS(X[:, 0], sm.add_constant(X[:, 1:])).fit().params.round(9))",
    "import polars as pl\nprint(pl.DataFrame({'a': range(1000)}).lazy().group_by(pl.col('a') % 3).sum().sort('a')"
    ".collect())",
    "import pyarrow as pa, pyarrow.compute as pc\nprint(pc.sum(pa.array(range(1000))))",
    "from multiprocessing import get_context\nwith get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, -2]))",
    "fig, ax = plt.subplots(figsize=(4, 3)); ax.plot(np.arange(5) ** 2, label='a'); ax.legend();",
    "pd.DataFrame({f'column {i}': np.arange(3) / 7 for i in range(30)})",
    "print(os.getcwd(), os.environ.get('OMP_NUM_THREADS'), os.environ.get('JE_ARROW_MALLOC_CONF'), sys.path[:1], "
    "__name__, os.getsid(0) == os.getpid())\n"
    "print(sorted(n for n in os.environ if 'MPL' in n or 'OMP' in n), sys.argv[0])",
    "x",
)


@pytest.mark.skipif(not warm.can_fork(), reason="kernels are forked on Linux only")
def test_a_forked_kernel_shows_the_same_as_one_from_nothing(tmp_path):
    notebook(tmp_path / "n.ipynb", *CELLS)
    given = Run("x", "X", tmp_path / "n.ipynb", {"x": 3}, 200.0)
    server = warm.Server(warm.imported([given.notebook]))
    try:
        assert server.problem() is None
        warm_one = execute(given, Kernels(), True, server=server)
    finally:
        server.close()
    cold = execute(given, Kernels(), True)
    for one, other in zip(cold.cells, warm_one.cells, strict=True):
        assert one.get("outputs") == other.get("outputs"), one.source
    assert "image/png" in str(cold.cells[-4].outputs)


@pytest.mark.skipif(not warm.can_fork(), reason="kernels are forked on Linux only")
def test_forked_kernels_have_their_own_random_numbers_and_are_reaped(tmp_path):
    cell = "import os, random, uuid, numpy as np\nprint(random.random(), np.random.random(), uuid.uuid4(), os.getpid())"
    notebook(tmp_path / "n.ipynb", cell)
    given = Run("x", "X", tmp_path / "n.ipynb", {}, 60.0)
    server = warm.Server({"numpy", "crmlab.report.kernel"})
    try:
        assert server.problem() is None
        found = [execute(given, Kernels(), True, server=server).cells[-1].outputs[0].text.split() for _ in range(2)]
        for one, other in zip(*found, strict=True):
            assert one != other
        for words in found:
            with pytest.raises(ProcessLookupError):
                os.kill(int(words[-1]), 0)
    finally:
        server.close()


@pytest.mark.skipif(not warm.can_fork(), reason="kernels are forked on Linux only")
def test_what_runs_threads_when_it_is_imported_makes_kernels_start_from_nothing(tmp_path, monkeypatch):
    (tmp_path / "threading_one.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(warm, "imported", lambda notebooks: {"threading_one"})
    manifest = project(tmp_path, one=GOOD, two=GOOD, three=GOOD)
    events = []
    found = build(manifest, jobs=2, on_event=lambda *event: events.append(event))
    assert outcome(found) == dict.fromkeys(("one", "two", "three"), "ok")
    (warning,) = [note for name, state, note in events if state == "warning"]
    assert "something they import runs threads" in warning


def test_only_what_is_known_to_be_harmless_is_imported_for_a_notebook(tmp_path):
    notebook(
        tmp_path / "n.ipynb",
        "import json, seaborn\nimport ipywidgets\nfrom sklearn import svm\nfrom . import own\n%magic",
    )
    (tmp_path / "seaborn.py").write_text("")
    found = warm.imported([tmp_path / "n.ipynb"])
    assert {"duckdb", "matplotlib.pyplot"} <= found
    assert not {"seaborn", "ipywidgets", "own"} & found
    notebook(tmp_path / "n.ipynb", "import json\nfrom sklearn import svm")
    assert {"json", "sklearn", "sklearn.svm"} <= warm.imported([tmp_path / "n.ipynb"])


def test_a_kernel_killed_for_memory_is_counted_where_the_system_counts(monkeypatch, tmp_path):
    counts = iter([3, 4])
    monkeypatch.setattr(run, "_killed_for_memory", lambda: next(counts))
    notebook(tmp_path / "n.ipynb", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(RunError, match="killed by the system because memory ran out in cell 2"):
        execute(Run("x", "X", tmp_path / "n.ipynb", {}, 30.0), Kernels())


def test_without_one_step_two_folders_change_places_in_three(tmp_path, monkeypatch):
    def nothing(*names):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", nothing)
    (tmp_path / ".tmp-x" / "new" / "a").mkdir(parents=True)
    (tmp_path / ".tmp-x" / "new" / "a" / "new").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    publish.put_in_place(tmp_path / ".tmp-x" / "new" / "a", tmp_path / "a", tmp_path / ".history" / "a" / "2020")
    assert (tmp_path / "a" / "new").exists()
    assert (tmp_path / ".history" / "a" / "2020" / "old").exists()


def stopped_on_a_cluster(folder, address):
    """Stop a build whose notebook runs on a worker: its kernel ends, too."""
    folder.mkdir()
    cell = f"import os, pathlib, time\npathlib.Path({str(folder)!r}, f'{{os.getpid()}}.pid').touch()\ntime.sleep(300)"
    process = command("build", project(folder, endless=cell), "--executor", address)
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.pid")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    (kernel,) = [int(path.stem) for path in folder.glob("*.pid")]
    deadline = time.monotonic() + 10
    while alive(kernel) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(kernel)


def test_workers_of_a_cluster_run_the_notebooks_and_the_caller_publishes(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    (tmp_path / "orders.csv").write_text("customer_id,date,amount\na,2024-01-01,1\n")
    cell = "from pathlib import Path\nprint(Path(dataset).read_text()); import os; print('worker', os.getppid())"
    notebook(tmp_path / "n.ipynb", cell, GOOD, parameters="dataset: str = ''\nn: int = 0")
    notebook(tmp_path / "bad.ipynb", "1 / 0")
    manifest = tmp_path / "m.toml"
    manifest.write_text(
        '[[report]]\nname = "r"\nnotebook = "n.ipynb"\nparameters = {dataset = "orders.csv"}\n'
        "matrix = {n = [1, 2, 3, 4]}\n"
        '[[report]]\nname = "bad"\nnotebook = "bad.ipynb"\n'
    )
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        found = build(manifest, executor=address)
        stopped_on_a_cluster(tmp_path / "stopped", address)
    assert outcome(found) == {"r--n-1": "ok", "r--n-2": "ok", "r--n-3": "ok", "r--n-4": "ok", "bad": "notebook"}
    assert found[-1]["error"]["message"] == "ZeroDivisionError: division by zero in cell 2 (1 / 0)"
    assert len(whole(tmp_path / "site")) == 4
    assert "a,2024-01-01,1" in (tmp_path / "site" / "r--n-1" / "index.html").read_text(encoding="utf-8")
    notebooks = [path.read_text() for path in (tmp_path / "site").glob("r--*/report.ipynb")]
    assert len({text.partition("worker ")[2].split("\\n")[0] for text in notebooks}) == 2


def test_a_cluster_that_cannot_be_used_is_told(tmp_path):
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    manifest = project(tmp_path, one=GOOD)
    with pytest.raises(ManifestError, match="'spark' is no executor"):
        build(manifest, executor="spark")
    with pytest.raises(ManifestError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        build(manifest, executor="dask://127.0.0.1:1")


def test_workers_with_other_versions_are_refused_in_words():
    from crmlab.report.executors import _check_workers
    from crmlab.report.record import versions

    class Client:
        def run(self, ask):
            return {
                "tcp://a": versions(),
                "tcp://b": versions() | {"pandas": "1.0"},
                "tcp://c": "No module named 'crmlab'",
            }

    with pytest.raises(ManifestError) as caught:
        _check_workers(Client())
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  tcp://b has pandas 1.0, here it is ")
    assert lines[2] == "  tcp://c cannot run reports: No module named 'crmlab'"
