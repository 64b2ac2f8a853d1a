"""The notebooks of examples/: stored small and in order, and executed in Jupyter by `make notebooks`."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
OF_A_MACHINE = re.compile(r"/(work|home|root|tmp)/")  # a path that only one machine has


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code(notebook: dict[str, Any]) -> list[str]:
    return [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_whole_and_names_no_machine(path: Path) -> None:
    text = path.read_text()
    notebook = json.loads(text)
    assert len(text) < 60_000 and not OF_A_MACHINE.search(text)
    assert notebook["cells"][0]["cell_type"] == "markdown" and source(notebook["cells"][0]).startswith("# ")
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "stored as executed, in order"
    assert not [
        o for cell in cells for o in cell["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"
    ]
    for cell in code(notebook):
        ast.parse(cell)


def test_the_notebook_on_a_neuron_of_ones_own_gives_no_yaml_and_no_folder_of_configs() -> None:
    cells = "\n".join(code(json.loads((EXAMPLES / "own_neuron_and_pictures.ipynb").read_text())))
    assert "snn_exp.plugins" in cells and "yaml" not in cells and "configs" not in cells


@pytest.mark.notebooks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.delenv("SNN_EXP_OUTPUT")  # each notebook makes a folder of its own
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    if os.environ.get("WRITE"):
        for cell in notebook.cells:
            cell.metadata.clear()
            for output in cell.get("outputs", ()):
                output.get("data", {}).pop("text/html", None)  # tables are stored as text, which a diff shows
        nbformat.write(notebook, path)
