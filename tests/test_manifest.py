"""The promises of `crmlab.report.manifest`."""

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmlab.report.manifest import ManifestError, _slug, read_manifest, refuse_links, single_run
from crmlab.report.parameters import read_notebook
from crmlab.report.site import build

CELL = "horizon: int = 26  # weeks\nsegment: str = 'all'\nrate: float = 0.1\ndb: str = ''"


def notebook(path, parameters):
    cell = {"cell_type": "code", "source": parameters, "metadata": {"tags": ["parameters"]}, "outputs": []}
    path.write_text(json.dumps({"cells": [cell]}))


@pytest.fixture
def project(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "reports").mkdir()
    notebook(tmp_path / "notebooks" / "stay.ipynb", CELL)
    (tmp_path / "orders.csv").write_text("a\n1\n")

    def read(text):
        manifest = tmp_path / "reports" / "m.toml"
        manifest.write_text(text, encoding="utf-8")
        return read_manifest(manifest)

    return read


ONE = '[[report]]\nname = "stay"\nnotebook = "../notebooks/stay.ipynb"\n'


def test_a_report_becomes_a_run_with_paths_from_the_manifests_folder(project):
    (run,) = project(
        f'[defaults]\ntimeout = 60\n{ONE}title = "Who stays?"\nparameters = {{horizon = 52}}\ndata = ["../orders.csv"]'
    )
    assert (run.slug, run.title, run.parameters, run.timeout) == ("stay", "Who stays?", {"horizon": 52}, 60)
    assert run.notebook.samefile(run.notebook.parent / "stay.ipynb")
    assert run.data[0].is_file()


def test_a_reports_own_timeout_wins(project):
    assert project(f"[defaults]\ntimeout = 60\n{ONE}timeout = 1.5")[0].timeout == 1.5


def test_a_matrix_gives_a_run_for_each_combination(project):
    runs = project(ONE + 'parameters = {rate = 0.2}\nmatrix = {segment = ["all", "online"], horizon = [26, 52]}')
    assert [run.slug for run in runs] == [
        "stay--segment-all--horizon-26",
        "stay--segment-all--horizon-52",
        "stay--segment-online--horizon-26",
        "stay--segment-online--horizon-52",
    ]
    assert runs[3].parameters == {"rate": 0.2, "segment": "online", "horizon": 52}
    assert runs[3].title == "stay – segment: online, horizon: 52"


@pytest.mark.parametrize(
    "value", ["../../etc", "/", "..", "Online", "顾客", "a b", "x" * 300, "postgres://u:s3cret@h/d", "\\\\n"]
)
def test_any_value_gives_one_plain_folder_name(project, value):
    (run, other) = project(f'{ONE}matrix = {{db = ["{value}", "{value}-2"]}}')
    assert run.slug != other.slug
    assert run.slug.startswith("stay--db-")
    assert not set(run.slug) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert len(run.slug) < 100
    assert "s3cret" not in run.slug + run.title


def test_all_faults_of_all_reports_are_listed_at_once(project):
    text = f"""{ONE}parameters = {{horizon = "x", horzion = 1}}
data = ["gone.csv"]
[[report]]
name = "b"
notebook = "gone.ipynb"
[[report]]
name = "c"
notebook = "../notebooks/stay.ipynb"
parameters = {{rate = 1}}
matrix = {{rate = [1, "x"]}}
"""
    with pytest.raises(ManifestError) as caught:
        project(text)
    for words in (
        "'stay': horizon: 'x' is not a whole number",
        "'stay': horzion: no such parameter; did you mean horizon?",
        "'stay': data file",
        "'b': ",
        "'c': rate stands in parameters and in matrix",
        "'c': rate: 'x' is not a number",
    ):
        assert words in str(caught.value)
    assert str(caught.value).count("\n") == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no report in it"),
        ("report = 3", "no report in it"),
        ("x = ", "is not TOML"),
        (ONE + "tittle = 'x'", "tittle: no such key; did you mean title?"),
        (ONE + "timeout = 0", "timeout: input should be greater than 0"),
        (ONE + "timeout = '5'", "timeout: input should be a valid number"),
        (ONE + "retries = -1", "retries: input should be greater than or equal to 0"),
        (ONE + "retries = 1.5", "retries: input should be a valid integer"),
        (ONE + "keep = 'all'", "keep: input should be a valid integer"),
        (ONE + "formats = ['docx']", "formats.0: input should be 'html' or 'pdf', not 'docx'"),
        (ONE + "code = 1", "code: input should be a valid boolean"),
        (ONE + "data = 'a.csv'", "data: input should be a valid list"),
        ("[defaults]\nname = 'x'\n" + ONE, "defaults: name: no such key"),
        ("x = " + "9" * 5000, "is not TOML"),
        ("x = " + "[" * 5000, "is not TOML"),
        (ONE.replace("stay", "x" * 81, 1), "at most 80 characters"),
        (ONE + "timeout = inf", "timeout: input should be a finite number"),
        (ONE + "matrix = {horizon = []}", "matrix.horizon"),
        (ONE + "[extra]\n", "extra: no such key"),
        (f"{ONE}\n[defaults]\ntimout = 3", "defaults: timout: no such key; did you mean timeout?"),
        ("[[report]]\nname = 'x'", "report 'x': notebook is missing"),
        ("[[report]]\nnotebook = 'x'", "report number 1: name is missing"),
        ("[[report]]\nname = '../x'\nnotebook = 'x'", "'../x' may only have small letters"),
        ("[[report]]\nname = 'x\\n'\nnotebook = 'x'".replace("'x\\n'", '"x\\n"'), "may only have small letters"),
        ("report = [1]", "report number 1"),
        (ONE + ONE, "'stay' is the name of several runs"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(project, text, words):
    with pytest.raises(ManifestError) as caught:
        project(text)
    assert words in str(caught.value)
    assert "m.toml" in str(caught.value)


def test_a_missing_or_unreadable_manifest_is_named(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        read_manifest(tmp_path / "m.toml")
    (tmp_path / "m.toml").write_bytes(b"\xff")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path / "m.toml")


def test_everything_of_a_run_is_in_the_manifest_and_defaults_reach_each(project):
    runs = project(
        f"""[defaults]
timeout = 60
retries = 2
keep = 3
formats = ["pdf"]
code = true
parameters = {{ horizon = 52, rate = 0.3 }}
{ONE}parameters = {{ rate = 0.2 }}
[[report]]
name = "own"
notebook = "../notebooks/stay.ipynb"
retries = 0
keep = 0
formats = ["html"]
code = false
"""
    )
    assert [(run.timeout, run.retries, run.keep, run.formats, run.code) for run in runs] == [
        (60, 2, 3, ("html", "pdf"), True),
        (60, 0, 0, ("html",), False),
    ]
    assert [run.parameters for run in runs] == [{"horizon": 52, "rate": 0.2}, {"horizon": 52, "rate": 0.3}]


def test_a_default_parameter_reaches_the_notebooks_that_have_it_and_no_other(project, tmp_path):
    notebook(tmp_path / "notebooks" / "other.ipynb", "margin: float = 0.1")
    other = '[[report]]\nname = "other"\nnotebook = "../notebooks/other.ipynb"\n'
    runs = project(f"[defaults]\nparameters = {{ horizon = 52, margin = 0.2 }}\n{ONE}{other}")
    assert [run.parameters for run in runs] == [{"horizon": 52}, {"margin": 0.2}]
    with pytest.raises(ManifestError, match="defaults: no notebook has a parameter marign"):
        project(f"[defaults]\nparameters = {{ marign = 0.2 }}\n{ONE}{other}")
    with pytest.raises(ManifestError, match="'stay': horizon: 'x' is not a whole number"):
        project(f"[defaults]\nparameters = {{ horizon = 'x' }}\n{ONE}")
    # What is in a matrix is more than a default.
    runs = project(f"[defaults]\nparameters = {{ horizon = 9 }}\n{ONE}{MATRIX}")
    assert [run.parameters["horizon"] for run in runs] == [1, 2]


MATRIX = "matrix = { horizon = [1, 2] }\n"


def test_data_are_files_patterns_folders_and_addresses(project, tmp_path):
    (tmp_path / "sales").mkdir()
    for name in ("2024.csv", "2025.csv", "a.parquet"):
        (tmp_path / "sales" / name).write_text("x")
    (run,) = project(ONE + 'data = ["../sales/*.csv", "../sales", "s3://shop/prices.csv", "https://example.org/x.csv"]')
    assert [getattr(item, "name", item) for item in run.data] == [
        "2024.csv",
        "2025.csv",
        "a.parquet",
        "s3://shop/prices.csv",
        "https://example.org/x.csv",
    ]
    with pytest.raises(ManifestError, match=r"data file .*sales/\*\.xls not found"):
        project(ONE + 'data = ["../sales/*.xls"]')


def test_a_notebook_is_read_once_however_many_runs_it_has(project, monkeypatch):
    read = []
    monkeypatch.setattr("crmlab.report.manifest.read_notebook", lambda path: read.append(path) or read_notebook(path))
    runs = project("".join(ONE.replace('"stay"', f'"stay_{i}"') + MATRIX for i in range(100)))
    assert len(runs) == 200
    assert len(read) == 1


SECRET = 'corr3ct-horse & "battery"'


def test_the_environment_fills_in_what_is_never_shown(project, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    monkeypatch.setenv("SEGMENTS", "wholesale")
    (run,) = project(ONE + 'parameters = { db = "postgres://ann:${DB_PASSWORD}@host/shop", segment = "${SEGMENTS}" }')
    assert run.parameters == {"db": f"postgres://ann:{SECRET}@host/shop", "segment": "wholesale"}
    assert run.shown == {"db": "postgres://ann:***@host/shop", "segment": "${SEGMENTS}"}
    assert {SECRET, "wholesale"} <= run.known
    assert SECRET not in repr(run)
    assert "wholesale" not in repr(run)


def test_two_dollars_are_one_and_no_variable(project):
    assert project(ONE + 'parameters = { segment = "$${HOME} ${} $5" }'.replace(" ${}", ""))[0].parameters == {
        "segment": "${HOME} $5"
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"${NOT_THERE}"', "db: the environment has no variable NOT_THERE"),
        ('"x${}"', "db: the environment has no variable ;"),
        ('"${SHORT}"', "db: the variable SHORT has fewer than 6 characters"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(project, monkeypatch, value, words):
    monkeypatch.setenv("SHORT", "abc")
    with pytest.raises(ManifestError) as caught:
        project(f"{ONE}parameters = {{ db = {value} }}")
    assert words.rstrip(" ;") in str(caught.value)


def test_a_value_of_the_environment_is_not_told_when_it_does_not_fit(project, monkeypatch):
    monkeypatch.setenv("HORIZON", SECRET)
    with pytest.raises(ManifestError, match=r"horizon: '\*\*\*' is not a whole number") as caught:
        project(ONE + 'parameters = { horizon = "${HORIZON}" }')
    assert "horse" not in str(caught.value)


def test_a_parameter_declared_secret_is_not_shown(project):
    (run,) = project(ONE + 'secret = ["db"]\nparameters = { db = "t0k3n-of-mine", segment = "of t0k3n-of-mine" }')
    assert run.parameters["db"] == "t0k3n-of-mine"
    assert run.shown == {"db": "***", "segment": "of ***"}
    assert "t0k3n" not in repr(run)
    with pytest.raises(ManifestError) as caught:
        project(ONE + 'secret = ["db"]\nparameters = { db = "t0k3n-of-mine", horizon = "t0k3n-of-mine" }')
    assert "t0k3n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('secret = ["dbb"]', "secret: there is no parameter dbb"),
        ('secret = ["db"]\nparameters = { db = "abc" }', "db: is secret and has fewer than 6 characters"),
        ('secret = ["horizon"]\nparameters = { horizon = 1234567 }', "horizon: is secret and no text"),
        (
            'secret = ["db"]\nmatrix = { db = ["t0k3n-of-mine"] }',
            "db is secret; folders are named after what is in matrix",
        ),
    ],
)
def test_what_cannot_be_kept_secret_is_refused(project, text, words):
    with pytest.raises(ManifestError) as caught:
        project(ONE + text)
    assert words in str(caught.value)
    assert "t0k3n" not in str(caught.value)


def test_tokens_in_the_environment_are_known(project, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_0123456789")
    monkeypatch.setenv("DATABASE_URL", "postgres://ann:pa55word@host/shop")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled")
    (run,) = project(ONE)
    assert {"ghp_0123456789", "pa55word"} <= run.known
    assert not {"disabled", os.environ.get("PWD")} & run.known


def test_a_run_without_a_manifest_has_the_same_rules(project, tmp_path, monkeypatch):
    project(ONE)
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    settings = ["db=postgres://ann:${DB_PASSWORD}@host/shop", "segment=t0k3n-of-mine"]
    run = single_run(tmp_path / "notebooks" / "stay.ipynb", settings, 5, ["segment"])
    assert (run.slug, run.timeout) == ("stay", 5)
    assert run.parameters["segment"] == "t0k3n-of-mine"
    assert run.shown == {"db": "postgres://ann:***@host/shop", "segment": "***"}


@pytest.mark.parametrize("name", ["index.html", ".failed", ".history", "stay", ".failed/stay", ".history/stay"])
def test_a_link_in_a_site_is_refused(project, tmp_path, name):
    site = tmp_path / "site"
    (site / name).parent.mkdir(parents=True)
    runs = project(ONE)
    refuse_links(site, runs)
    (site / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match="no symbolic links in it"):
        refuse_links(site, runs)
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    refuse_links(tmp_path / "linked", runs)


def test_a_build_does_not_write_where_a_link_leads(project, tmp_path):
    project(ONE)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run.json").write_text("{}")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stay").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match="no symbolic links in it"):
        build(tmp_path / "reports" / "m.toml", tmp_path / "site")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["run.json"]


@given(values=st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.booleans()), min_size=1, max_size=4))
def test_no_value_of_a_matrix_leads_out_of_the_site(values):
    slug = _slug("stay", {f"p{i}": value for i, value in enumerate(values)})
    assert re.fullmatch(r"[a-z0-9._-]+", slug)
    assert slug.startswith("stay--p0-")
    assert len(slug) <= 80
