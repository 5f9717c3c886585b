"""The form of the notebooks; that their outputs are right is checked by nbval, cell by cell."""

import re
from pathlib import Path

import nbformat
import pytest

from crmlab.report import read_parameters

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *SOLUTIONS], ids=lambda path: str(path.relative_to(FOLDER)))
def test_form_valid_and_run_from_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in cells(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1)), "run it from a clean kernel: make notebooks"
    outputs = [output for cell in cells(notebook, "code") for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_form_title_is_a_question_and_the_answer_follows(notebook):
    first = cells(notebook, "markdown")[0].source
    assert re.match(r"# .*\?\n", first)
    assert re.search(r"\d", first.split("\n\n")[1]), "the abstract has the answer's number"


def test_form_parameters_are_typed_explained_and_begin_with_the_data(notebook, request):
    parameters = read_parameters(request.node.callspec.params["notebook"])
    assert parameters[0].name == "dataset"
    assert all(parameter.description for parameter in parameters)


def test_form_sections_that_every_notebook_has(notebook):
    headings = re.findall(r"^## (.+)$", "\n".join(c.source for c in cells(notebook, "markdown")), re.MULTILINE)
    for wanted in ("Published and computed", "What this cannot show", "Exercises", "References"):
        assert wanted in headings
    assert "provenance(" in cells(notebook, "code")[-1].source


def test_form_is_prose_with_short_code(notebook):
    code = cells(notebook, "code")
    assert len(cells(notebook, "markdown")) >= 0.6 * len(code)
    for cell in code:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 18 or "parameters" in cell.metadata.get("tags", []), lines[0]
        assert not re.search(r"^\s*def |filterwarnings|/(tmp|home|root)/", cell.source, re.MULTILINE), lines[0]


def test_form_every_figure_has_a_description(notebook):
    figures = [o for c in cells(notebook, "code") for o in c.outputs if "image/png" in o.get("data", {})]
    assert figures
    for figure in figures:
        assert len(figure.metadata["image/png"]["alt"]) > 30


def test_form_every_exercise_has_a_solution(notebook, request):
    path = request.node.callspec.params["notebook"]
    exercises = cells(notebook, "markdown")[-1].source.split("## Exercises")[-1].split("## ")[0]
    solutions = nbformat.read(FOLDER / "solutions" / path.name, as_version=4)
    text = "\n".join(cell.source for cell in cells(solutions, "markdown"))
    for number in re.findall(r"^(\d+)\. ", exercises, re.MULTILINE):
        assert f"## Exercise {number}" in text
