"""A book of one tiny chapter in a temporary folder."""

import json
import shutil
from pathlib import Path

import pytest
from compactvision import notebooks


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path) -> Path:
    """Folder of the book; runs, records and notebooks of the test go there."""
    root = tmp_path / "book"
    shutil.copytree(repo / "tests" / "fixtures" / "book", root)
    edit(root / "notebooks" / "tiny.ipynb", 1, notebooks.setup_cell())  # of this version
    monkeypatch.setenv("COMPACTVISION_BOOK", str(root))
    monkeypatch.setenv("COMPACTVISION_CACHE", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return root


def edit(path: Path, number: int, source: str, *, tags: list[str] | None = None) -> None:
    """Write another source, and tags if given, into a code cell of a notebook."""
    notebook = json.loads(path.read_text())
    cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][number - 1]
    cell["source"] = source
    if tags is not None:
        cell["metadata"]["tags"] = tags
    path.write_text(json.dumps(notebook))


@pytest.fixture(name="edit")
def _edit():
    return edit
