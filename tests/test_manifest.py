"""The promises of `crmlab.report.manifest`."""

import json

import pytest

from crmlab.report.manifest import ManifestError, read_manifest

CELL = "horizon: int = 26  # weeks\nsegment: str = 'all'\nrate: float = 0.1\ndb: str = ''"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "reports").mkdir()
    cell = {"cell_type": "code", "source": CELL, "metadata": {"tags": ["parameters"]}, "outputs": []}
    (tmp_path / "notebooks" / "stay.ipynb").write_text(json.dumps({"cells": [cell]}))
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
