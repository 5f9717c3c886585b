"""Run the notebooks of the workbook and store their outputs in them; `make notebooks` calls this."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from crmlab.report.record import MIME

FOLDER = Path(__file__).parents[1] / "notebooks"


def store(path):
    """Execute one notebook in place; what changes from run to run is left out."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                # The full tables belong to a report; the notebook shows their first rows.
                output.get("data", {}).pop(MIME, None)
                output.get("metadata", {}).pop(MIME, None)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    chosen = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.rglob("[0-9][0-9]_*.ipynb"))
    for path in chosen:
        print(path, flush=True)
        store(path)
