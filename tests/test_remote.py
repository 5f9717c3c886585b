"""The promises of `crmlab.data.objects` and `crmlab.report.remote`: data and sites in object stores."""

import functools
import http.server
import json
import logging
import sys
import threading

import fsspec
import pandas as pd
import pytest
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from crmlab import data
from crmlab.data.objects import is_remote, local_copy, version
from crmlab.report import remote
from crmlab.report.manifest import Run
from crmlab.report.site import build, states

SALES = pd.DataFrame({"customer_id": ["ann", "bob"], "date": ["2024-01-01", "2024-02-01"], "amount": [1.5, 2]})
KEY = "k3y-of-the-store"


@pytest.fixture(scope="module")
def bucket():
    """A bucket of an S3 server of our own, reached as any other: by the environment."""
    moto = pytest.importorskip("moto.server", reason="moto, of the development packages, is the S3 server of this test")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "ann")
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("shop")
        yield "s3://shop"
    server.stop()


@pytest.fixture(params=["s3", "memory", "file"])
def address(request, tmp_path):
    """A place in each kind of store, its last part the test's own."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return f"memory://{tmp_path.name}" if request.param == "memory" else (tmp_path / "store").as_uri()


def put(address, content):
    with fsspec.open(address, "wb", use_listings_cache=False, auto_mkdir=True) as stream:
        stream.write(content)


def contents(address):
    """What lies in a store, by path."""
    fs, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    return {name.removeprefix(root).lstrip("/"): fs.cat_file(name) for name in fs.find(root)}


# Data.


@pytest.mark.parametrize("file", ["orders.csv", "orders.parquet"])
def test_a_log_is_read_from_a_store_as_from_a_disk(address, file, tmp_path):
    source = tmp_path / file
    SALES.to_csv(source, index=False) if file.endswith("csv") else SALES.to_parquet(source)
    put(f"{address}/{file}", source.read_bytes())
    found = data.load(f"{address}/{file}").to_pandas()
    pd.testing.assert_frame_equal(found, data.load(source).to_pandas())
    assert data.audit(f"{address}/{file}").source == f"{address}/{file}"


def test_a_folder_and_a_pattern_of_a_store_are_read_whole(address, tmp_path):
    SALES.to_parquet(tmp_path / "part.parquet")
    for part in ("2024/part.parquet", "2025/part.parquet"):
        put(f"{address}/{part}", (tmp_path / "part.parquet").read_bytes())
    assert data.load(address).count().to_pyarrow().as_py() == 4
    assert data.load(f"{address}/*/part.parquet").count().to_pyarrow().as_py() == 4
    assert data.load(f"{address}/2025/*.parquet").count().to_pyarrow().as_py() == 2


def test_a_file_is_copied_once_and_again_when_it_has_changed(address):
    put(f"{address}/a.csv", b"customer_id,date\nann,2024-01-01\n")
    first = local_copy(f"{address}/a.csv")
    assert local_copy(f"{address}/a.csv") == first
    before = version(f"{address}/a.csv")
    put(f"{address}/a.csv", b"customer_id,date\nann,2024-01-01\nbob,2024-01-02\n")
    assert version(f"{address}/a.csv") != before
    assert data.load(f"{address}/a.csv").count().to_pyarrow().as_py() == 2


def test_what_is_not_there_is_told_in_words(address):
    for read in (version, local_copy, data.load):
        with pytest.raises(data.DataError, match=r"gone\.csv: there is no such file\.$"):
            read(f"{address}/gone.csv")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(data.DataError, match=r"gs://shop/a\.csv: a package is missing: pip install 'crmlab\[gcs\]'\."):
        data.load("gs://shop/a.csv")


def test_a_refusal_is_told_without_keys(monkeypatch):
    def refuse(*_):
        raise PermissionError(f"AccessDenied for secret_access_key={KEY}")

    monkeypatch.setattr("crmlab.data.objects._files", refuse)
    with pytest.raises(data.DataError, match="AccessDenied") as caught:
        version("memory://shop/a.csv")
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["orders.csv", "s3.csv", "postgres://host/shop", "duckdb://a.ddb", "cdnow", "s3:/x"])
def test_paths_names_and_databases_are_not_in_a_store(name):
    assert not is_remote(name)


def run(tmp_path, *data):
    return Run("a", "A", tmp_path / "a.ipynb", {}, data=data, hidden=frozenset(["secret-folder"]))


def test_a_digest_changes_with_the_data_and_only_then(address, tmp_path):
    put(f"{address}/a.csv", b"1")
    (tmp_path / "b.csv").write_text("1")
    these = run(tmp_path, f"{address}/a.csv", tmp_path / "b.csv")
    before = remote.digests(these)
    assert list(before) == [f"{address}/a.csv", "b.csv"]
    assert remote.digests(these) == before
    (tmp_path / "b.csv").write_text("22")
    put(f"{address}/a.csv", b"22")
    after = remote.digests(these)
    assert all(after[name] != before[name] for name in before)


def test_a_file_of_the_web_is_one_to_look_at(tmp_path, monkeypatch):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "a.csv").write_text("1")
        page = f"http://127.0.0.1:{server.server_address[1]}/a.csv"
        before = version(page)
        assert version(page) == before
        (tmp_path / "a.csv").write_text("22")
        assert before != version(page) is not None
        with pytest.raises(data.DataError, match="there is no such file"):
            version(f"{page}.gone")
        server.shutdown()


def test_a_store_that_does_not_answer_gives_no_digest_and_no_error(tmp_path):
    put("memory://secret-folder/a.csv", b"1")
    assert remote.digests(run(tmp_path, "memory://gone/a.csv")) == {"memory://gone/a.csv": None}
    assert list(remote.digests(run(tmp_path, "memory://secret-folder/a.csv"))) == ["memory://***/a.csv"]


# Sites.


def test_a_folder_stands_for_itself(tmp_path):
    with remote.local_copy(tmp_path / "site") as folder:
        assert folder == tmp_path / "site"
        assert not folder.exists()


def test_a_store_becomes_what_its_copy_became(address):
    old = {
        "index.html": b"i1",
        "a/index.html": b"page 1",
        "a/run.json": b"{}",
        "b/index.html": b"b",
        "b/run.json": b"1",
    }
    for path, content in old.items():
        put(f"{address}/{path}", content)
    with remote.local_copy(address) as folder:
        # State and index are there, the page only stands for the one in the store.
        assert (folder / "a/run.json").read_bytes() == b"{}"
        assert (folder / "index.html").read_bytes() == b"i1"
        assert (folder / "a/index.html").exists()
        (folder / ".history/a").mkdir(parents=True)
        (folder / "a").rename(folder / ".history/a/1")
        (folder / "a").mkdir()
        (folder / "a/index.html").write_bytes(b"page 2")
        (folder / "a/run.json").write_bytes(b"{2}")
        (folder / "b/index.html").unlink()
        (folder / "b/run.json").unlink()
        (folder / "index.html").write_bytes(b"i2")
        (folder / ".tmp-7").mkdir()
        (folder / ".tmp-7/x").write_bytes(b"of a build")
    assert not folder.exists()
    assert contents(address) == {
        "index.html": b"i2",
        "a/index.html": b"page 2",
        "a/run.json": b"{2}",
        ".history/a/1/index.html": b"page 1",
        ".history/a/1/run.json": b"{}",
    }


def test_what_is_only_looked_at_stays(address):
    put(f"{address}/a/run.json", b"{}")
    with remote.local_copy(address, read_only=True) as folder:
        (folder / "a/run.json").write_text("other")
    assert contents(address) == {"a/run.json": b"{}"}


def test_the_page_comes_before_its_state_and_the_index_last(monkeypatch):
    order = []
    put("memory://ordered/x/run.json", b"old")
    monkeypatch.setattr(
        "fsspec.implementations.memory.MemoryFileSystem.put_file", lambda self, here, there: order.append(there)
    )
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.rm_file", lambda self, path: order.append(path))
    with remote.local_copy("memory://ordered") as folder:
        (folder / "x/run.json").unlink()
        for path in ("index.html", "a/run.json", "a/index.html", "a/tables/t.csv", ".failed/b/run.json"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(path)
    assert [path.removeprefix("/ordered/") for path in order] == [
        "a/index.html",
        "a/tables/t.csv",
        ".failed/b/run.json",
        "a/run.json",
        "index.html",
        "x/run.json",
    ]


def test_what_cannot_be_uploaded_is_kept_and_named(monkeypatch):
    def full(self, here, there):
        raise OSError("no room")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.put_file", full)
    with (
        pytest.raises(data.DataError, match=r"no room.*kept in (\S+)\.$") as caught,
        remote.local_copy("memory://full") as folder,
    ):
        (folder / "index.html").write_text("page")
    assert str(folder) in str(caught.value)
    assert (folder / "index.html").read_text() == "page"
    (folder / "index.html").unlink()
    folder.rmdir()


def test_finished_reports_are_uploaded_after_an_interruption():
    def stopped():
        with remote.local_copy("memory://stopped") as folder:
            (folder / "a").mkdir()
            (folder / "a/run.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert contents("memory://stopped") == {"a/run.json": b"{}"}


def test_names_that_lead_out_of_the_folder_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "fsspec.implementations.memory.MemoryFileSystem.find",
        lambda self, root: [f"{root}/../../evil.json", f"{root}/a/../../evil.json", f"{root}-other/a.json"],
    )
    with remote.local_copy("memory://odd", read_only=True) as folder:
        assert list(folder.rglob("*")) == []


# The whole way.


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    cells = [
        new_markdown_cell("# How many?"),
        new_code_cell("dataset: str = 'cdnow'", metadata={"tags": ["parameters"]}),
        new_code_cell("from crmlab import data\nfrom crmlab.report import record"),
        new_code_cell("record('rows', data.load(dataset).count().to_pyarrow().as_py())"),
    ]
    write(new_notebook(cells=cells), folder / "n.ipynb")
    return folder


def test_a_site_is_built_in_a_bucket_from_data_in_a_bucket(bucket, project, monkeypatch):
    put(f"{bucket}/data/orders.csv", b"customer_id,date\nann,2024-01-01\n")
    manifest, out = project / "m.toml", f"{bucket}/reports"
    manifest.write_text(
        f'[[report]]\nname = "rows"\nnotebook = "n.ipynb"\nparameters = {{dataset = "{bucket}/data/orders.csv"}}'
    )
    assert build(manifest, out)[0]["status"] == "ok"
    first = contents(out)
    assert {"index.html", "rows/index.html", "rows/run.json", "rows/results.json", "rows/report.ipynb"} <= first.keys()
    assert json.loads(first["rows/results.json"])["figures"]["rows"]["value"] == 1
    assert not [path for path in first if path.startswith((".tmp", ".lock"))]
    assert KEY.encode() not in b"".join(first.values())
    assert _state(manifest, out) == "unchanged"
    # Nothing to do, nothing uploaded.
    monkeypatch.setattr("s3fs.S3FileSystem.put_file", None)
    build(manifest, out)
    monkeypatch.undo()
    put(f"{bucket}/data/orders.csv", b"customer_id,date\nann,2024-01-01\nbob,2024-01-02\n")
    assert _state(manifest, out) == "stale"
    build(manifest, out)
    second = contents(out)
    assert json.loads(second["rows/results.json"])["figures"]["rows"]["value"] == 2
    history = [path for path in second if path.startswith(".history/rows/") and path.endswith("/report.ipynb")]
    assert [second[path] for path in history] == [first["rows/report.ipynb"]]


def _state(manifest, out):
    return states(manifest, out)[0][1]
