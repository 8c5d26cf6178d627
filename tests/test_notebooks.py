"""The notebooks of the docs run from top to bottom, and what they assert is so."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.some(2)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=250, kernel_name="python3", resources=resources).execute()
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "assert " in source  # a notebook that claims a value holds it against what comes out
    assert notebook.metadata.kernelspec.name == "python3"


def test_there_are_some() -> None:
    assert {"first_experiment", "from_simulation_to_deployment"} <= set(NOTEBOOKS)
