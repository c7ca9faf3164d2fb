"""A notebook as a file: where it lies, its code cells and their tags, and the text of the set-up cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import compactvision
from compactvision._repository import repository_url
from compactvision.records.checks import is_slug
from compactvision.records.places import notebooks_folder
from compactvision.records.texts import parse_json, read_text

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
        If it is no name of a chapter, or there is none; the package may have been installed without the repository.
    """
    folder = notebooks_folder()
    if folder is None:
        raise ValueError(
            f"slug: the notebook of {slug!r} is not here, because the package was installed without the book; "
            f"clone it: git clone {repository_url()}"
        )
    if not is_slug(slug):
        raise ValueError(f"slug: {slug!r} is not the name of a chapter")
    path = folder / f"{slug}.ipynb"
    if not path.exists():
        raise ValueError(f"slug: there is no notebook notebooks/{path.name}")
    return path


def read(path: Path) -> Notebook:
    """Read a notebook of format 4; cells' sources become single strings.

    Raises
    ------
    ValueError
        If the file is no such notebook.
    OSError
        If it cannot be read.
    """
    where = f"{path.name}: no notebook"
    notebook = parse_json(read_text(path, where), where)
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        raise ValueError(f"{where} of format 4")
    if not isinstance(notebook.setdefault("metadata", {}), dict):
        raise ValueError(f"{where}: its metadata are no object")
    for number, cell in enumerate(notebook["cells"], start=1):
        problem = _cell_problem(cell)
        if problem:
            raise ValueError(f"{where}: cell {number}: {problem}")
        cell["source"] = joined(cell["source"])
    return notebook


def _cell_problem(cell: object) -> str | None:
    """Return why something is no cell of a notebook, None for a cell; its optional fields are filled in."""
    if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
        return "it is no object with a type"
    if not is_text(cell.setdefault("source", "")):
        return "its source is not text"
    metadata = cell.setdefault("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("tags", []), list):
        return "its metadata are no object, or its tags no list"
    if not all(isinstance(tag, str) for tag in metadata.get("tags", [])):
        return "its tags are not text"
    outputs = cell.get("outputs", [])
    if not isinstance(outputs, list) or not all(map(_is_output, outputs)):
        return "its outputs are not those of a notebook"
    return None


def is_text(value: object) -> bool:
    """Tell whether something is a notebook's multi-line string."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(line, str) for line in value))


def _is_output(output: object) -> bool:
    if not isinstance(output, dict) or not isinstance(output.get("output_type"), str):
        return False
    if output["output_type"] == "stream" and not isinstance(output.get("name"), str):
        return False
    lines = output.get("traceback", [])
    return (
        is_text(output.get("text", ""))
        and isinstance(output.get("data", {}), dict)
        and isinstance(lines, list)
        and is_text(lines)
    )


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
