"""A notebook as a file: where it lies, its code cells and their tags, and the text of the set-up cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import compactvision
from compactvision._repository import repository_url
from compactvision.records.places import notebooks_folder

Notebook = dict[str, Any]
Cell = dict[str, Any]

_SETUP = """import sys

if "google.colab" in sys.modules:  # everywhere else the package is installed already
    import subprocess

    package = "git+{repository}@v{version}#subdirectory=lib"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)

from compactvision import experiment, plots

plots.use()
print(experiment.stamp())"""


def setup_cell(version: str | None = None, repository: str | None = None) -> str:
    """Return the source of every chapter's set-up cell.

    In Colab it installs the package at the tag of its version, and leaves Colab's own PyTorch and NumPy
    alone; everywhere it sets the style and prints the stamp.

    Parameters
    ----------
    version : str, optional
        Default: the version of this package.
    repository : str, optional
        Default: the address of the book's repository.
    """
    return _SETUP.format(version=version or compactvision.__version__, repository=repository or repository_url())


def find(slug: str) -> Path:
    """Return the path of a chapter's notebook.

    Raises
    ------
    ValueError
        If there is none; the package may have been installed without the repository.
    """
    folder = notebooks_folder()
    if folder is None:
        raise ValueError(
            f"slug: the notebook of {slug!r} is not here, because the package was installed without the book; "
            f"clone it: git clone {repository_url()}"
        )
    path = folder / f"{slug}.ipynb"
    if not path.is_file():
        raise ValueError(f"slug: there is no notebook notebooks/{path.name}")
    return path


def read(path: Path) -> Notebook:
    """Read a notebook of format 4; cells' sources become single strings.

    Raises
    ------
    ValueError
        If the file is no such notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: no notebook: {error}") from None
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        raise ValueError(f"{path.name}: no notebook of format 4")
    for cell in notebook["cells"]:
        cell["source"] = joined(cell.get("source", ""))
    return notebook


def joined(text: str | list[str]) -> str:
    """Return a notebook's multi-line string as one string."""
    return text if isinstance(text, str) else "".join(text)


def code_cells(notebook: Notebook) -> list[Cell]:
    """Return the code cells in order; the first one is number 1 wherever a number is named."""
    return [cell for cell in notebook["cells"] if cell.get("cell_type") == "code"]


def tags_of(cell: Cell) -> frozenset[str]:
    """Return the tags of a cell."""
    return frozenset(cell.get("metadata", {}).get("tags", ()))


def code_digest(notebook: Notebook, *, without: Iterable[str] = ("setup",)) -> str:
    """Return a SHA-256 digest of the code cells, but for those that have one of the tags in ``without``."""
    digest = hashlib.sha256()
    for cell in code_cells(notebook):
        if not tags_of(cell) & set(without):
            digest.update("\n".join(line.rstrip() for line in cell["source"].strip().splitlines()).encode() + b"\0")
    return digest.hexdigest()
