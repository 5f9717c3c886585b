"""Pages of the workbook from the outputs that its notebooks are stored with: what a build shows, without running it."""

from pathlib import Path

import nbformat

from crmlab.report.manifest import Run, title_of
from crmlab.report.page import render
from crmlab.report.parameters import read_notebook, read_parameters
from crmlab.report.record import collect

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb"))
FACTS = {
    "status": "ok",
    "started": "2026-11-21T14:03:00+00:00",
    "seconds": 75.2,
    "data_as_of": "1998-06-30",
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "notebook": {"name": "n.ipynb", "sha256": "ab" * 32},
    "data": {"orders.csv": "cd" * 32},
    "lock_sha256": None,
    "versions": {"python": "3.11"},
    "platform": "Linux x86_64",
}


def stored(path):
    """Return a run of a notebook, its stored outputs, its parameters, facts and key figures."""
    run = Run(path.stem, title_of(read_notebook(path)), path, {})
    notebook = nbformat.read(path, as_version=4)
    figures, _tables, _about = collect(notebook)
    return run, notebook, read_parameters(path), FACTS | {"warnings": []}, figures


def stored_page(path, **options):
    """Return the page of a notebook."""
    run, notebook, parameters, facts, figures = stored(path)
    return render(notebook, run, parameters, facts, figures, [], True, **options)
