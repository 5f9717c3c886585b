"""The promises of the `crmlab` command: words for the analyst, exit codes for the schedule."""

import json
import subprocess
import sys
import types

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook

from crmlab.cli import cli


@pytest.fixture
def crmlab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, arguments, catch_exceptions=False, prog_name="crmlab")


@pytest.fixture
def write(tmp_path):
    def make(name, parameters, *cells):
        head = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        nbformat.write(new_notebook(cells=[head, *map(new_code_cell, cells)]), tmp_path / f"{name}.ipynb")
        with (tmp_path / "m.toml").open("a") as stream:
            stream.write(f'[[report]]\nname = "{name}"\nnotebook = "{name}.ipynb"\n')

    return make


def test_build_prints_the_index_and_leaves_with_1_when_a_report_failed(crmlab, write):
    write("good", "x: int = 1", "x")
    done = crmlab("build", "m.toml")
    assert (done.exit_code, done.stdout) == (0, "site/index.html\n")
    assert "good: ok" in done.stderr
    write("bad", "x: int = 1", "1 / 0")
    done = crmlab("build", "m.toml", "--jobs", "1")
    assert (done.exit_code, done.stdout) == (1, "site/index.html\n")
    assert done.stderr.splitlines()[0] == "good: unchanged"
    assert "bad: failed (ZeroDivisionError: division by zero in cell 2 (1 / 0))" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_manifests_and_parameters_leave_with_2_before_anything_runs(crmlab, write, tmp_path):
    done = crmlab("build", "gone.toml")
    assert done.exit_code == 2
    assert done.stderr == "gone.toml cannot be read: No such file or directory.\n"
    write("good", "x: int = 1")
    with (tmp_path / "m.toml").open("a") as stream:
        stream.write('parameters = {x = "a", y = 1}\n')
    done = crmlab("build", "m.toml")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[1:] == [
        "  report 'good': x: 'a' is not a whole number",
        "  report 'good': y: no such parameter; the notebook has x",
    ]
    assert not (tmp_path / "site").exists()


def test_a_folder_that_cannot_be_written_is_told(crmlab, write, tmp_path):
    write("good", "x: int = 1")
    (tmp_path / "file").write_text("")
    done = crmlab("build", "m.toml", "--out", "file")
    assert done.exit_code == 2
    assert done.stderr.startswith("file")


def test_run_sets_parameters_by_their_type_and_prints_the_page(crmlab, write, tmp_path):
    write("Value Study", "x: int = 1\nnames: list[str] = []", "assert x == 52 and names == ['a', 'b']")
    done = crmlab("run", "Value Study.ipynb", "--set", "x=52", "--set", "names=a,b", "--out", "o")
    assert (done.exit_code, done.stdout) == (0, "o/value-study/index.html\n")
    assert crmlab("run", "Value Study.ipynb", "--out", "o").exit_code == 1
    done = crmlab("run", "Value Study.ipynb", "--set", "x=a", "--set", "z=1")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[1:] == [
        "  x: 'a' is not a whole number",
        "  z: no such parameter; the notebook has x, names",
    ]


def test_list_shows_names_and_states(crmlab, write):
    write("good", "x: int = 1")
    assert crmlab("list", "m.toml").stdout == "good  new  good  never built\n"
    (row,) = json.loads(crmlab("list", "m.toml", "--json").stdout)
    known = {"name": "good", "title": "good", "state": "new", "notebook": "good.ipynb", "parameters": {}}
    assert row == known | {"index": 0, "why": "never built"}


def test_describe_shows_parameters_without_passwords(crmlab, write):
    write("good", "db: str = 'postgres://a:s3cret@h/d'  # address\nx: '1 <= int <= 9' = 1  # weeks")
    assert crmlab("describe", "good.ipynb").stdout.splitlines() == [
        "name  type           default                 unit, meaning",
        "db    str            'postgres://a:***@h/d'  address",
        "x     1 <= int <= 9  1                       weeks",
    ]
    write("none", "")
    assert crmlab("describe", "none.ipynb").stdout == "none.ipynb has no parameters.\n"
    found = json.loads(crmlab("describe", "good.ipynb", "--json").stdout)
    assert found[0]["default"] == "postgres://a:***@h/d"
    assert found[1] == {
        "name": "x",
        "type": "1 <= int <= 9",
        "default": 1,
        "meaning": "weeks",
        "schema": {"type": "integer", "minimum": 1, "maximum": 9},
    }


def test_check_passes_on_what_is_given_and_leaves_with_the_checks_code(crmlab, monkeypatch):
    from crmlab import data

    def check(path, **columns):
        if path == "gone.csv":
            raise data.DataError("gone.csv is not there.")
        return types.SimpleNamespace(text=f"{path} {columns}", exit_code=1)

    monkeypatch.setitem(vars(data), "check", check)
    done = crmlab("check", "a.csv", "--customer-id", "Kunde", "--date-format", "%d.%m.%Y")
    assert (done.exit_code, done.stdout) == (1, "a.csv {'customer_id': 'Kunde', 'date_format': '%d.%m.%Y'}\n")
    done = crmlab("check", "gone.csv")
    assert (done.exit_code, done.stderr) == (2, "gone.csv is not there.\n")


def test_data_sets_are_listed_and_found_by_name(crmlab):
    done = crmlab("data", "list")
    assert any(line.startswith("cdnow ") and "69659" in line for line in done.stdout.splitlines())
    assert crmlab("data", "get", "cdnow").stdout.endswith("CDNOW_master.txt\n")
    assert crmlab("data", "get", "cdnwo").exit_code == 2


@pytest.mark.parametrize("command", [[], ["build"], ["run"], ["list"], ["describe"], ["check"], ["data"]])
def test_help_teaches_by_example(crmlab, command):
    done = crmlab(*command, "--help")
    assert done.exit_code == 0
    assert "crmlab " in done.stdout.partition("Example")[2]


def test_the_command_starts_without_loading_anything_heavy():
    code = "import sys; from crmlab.cli import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "papermill", "pydantic", "numpy", "matplotlib", "nbformat"} & set(done.stdout.split())
    module = subprocess.run([sys.executable, "-m", "crmlab", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout.startswith("crmlab, version ")


def test_a_terminal_gets_one_line_for_each_running_report():
    import io

    from crmlab.cli import _progress

    stream = io.StringIO()
    stream.isatty = lambda: True
    event = _progress(stream)
    event("a", "running")
    event("b", "running", "cell 1 of 9")
    event("", "progress", "0 of 2 done, about 9 s left")
    event("b", "running", "cell 2 of 9")
    event("", "progress", "1 of 2 done, about 8 s left")
    event("a", "ok", "1.0 s")
    event("", "progress", "2 of 2 done")
    event("b", "failed", "x" * 500)
    screen = []
    for line in stream.getvalue().splitlines():
        for _ in range(line.count("\x1b[1A")):
            screen.pop()
        screen.append(line.replace("\x1b[1A\x1b[2K", ""))
    assert screen == ["a: ok (1.0 s)", f"b: failed ({'x' * 500})", "2 of 2 done"]


def test_without_a_terminal_each_report_has_a_line_that_says_how_far_the_build_is():
    import io

    from crmlab.cli import _progress

    stream = io.StringIO()
    event = _progress(stream)
    event("a", "running")
    event("a", "running", "cell 1 of 9")
    event("", "progress", "1 of 2 done, about 8 s left")
    event("a", "ok", "1.0 s")
    event("", "warning", "Kernels start slowly.")
    assert stream.getvalue().splitlines() == [
        "a: running",
        "a: ok (1.0 s) – 1 of 2 done, about 8 s left",
        "Kernels start slowly.",
    ]
