"""The notebook runs to its end, and makes and shows a video."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from tests.processes import ROOT


@pytest.mark.slow
def test_the_notebook_makes_and_shows_a_video(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(ROOT / "notebooks" / "talk.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear its outputs before it is committed"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "clip 0: 77 frames of 128x128" in text
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("<video" in data.get("text/html", "") for data in shown)
    assert (tmp_path / "talk.mp4").stat().st_size > 50_000
