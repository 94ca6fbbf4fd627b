"""Notebooks that the site offers, of its gallery, run from top to bottom in a kernel of their own."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The others run when the site is built, and a kernel takes ten seconds.
SCRIPTS = [ROOT / "docs" / "gallery" / f"plot_{name}.py" for name in ("trial", "ranking", "own_loss")]


def notebook(script):
    """Return the notebook that the site's builder makes of a script."""
    builder = pytest.importorskip("mkdocs_gallery.notebook")
    from mkdocs_gallery.py_source_parser import split_code_and_text_blocks

    made = builder.jupyter_notebook_skeleton()
    builder.add_code_cell(made, "%matplotlib inline")
    builder.fill_notebook(made, split_code_and_text_blocks(script)[1])
    return made


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_notebook_of_the_gallery_runs_and_draws(script, tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    made = nbformat.reads(json.dumps(notebook(script)), as_version=4)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    client = nbclient.NotebookClient(
        made, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    cells = [cell for cell in made.cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells if any(part.output_type == "error" for part in cell.outputs)] == []
    shown = [kind for cell in cells for part in cell.outputs for kind in part.get("data", {})]
    assert "image/png" in shown
