"""The table of claims that a page stores: it stands on claims and records alone, and can be renewed by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compactvision.claims.folded import table
from compactvision.notebooks.sources import Cell, Notebook, code_cells, joined, read
from compactvision.notebooks.stored import write

_TABLE = re.compile(r"^claims\.table\(['\"](\w+)['\"]\)\s*$", flags=re.MULTILINE)


def outdated(notebook: Notebook) -> list[str]:
    """Return the chapters whose table of claims a notebook stores with a text, verdict or value that is another now."""
    found = [(slug, cell.get("outputs", [])) for slug, cell in _tables(notebook)]
    return [slug for slug, outputs in found if not outputs or _plain(outputs[-1].get("data", {})) != _data(slug)]


def renew(path: Path) -> bool:
    """Store today's table of claims in an executed notebook, without running the chapter; tell whether it was another.

    All else that the notebook stores stays as it is, and so does what makes it stale.

    Raises
    ------
    ValueError
        If it is no notebook, or was not executed yet.
    """
    notebook = read(path)
    if not outdated(notebook):
        return False
    for slug, cell in _tables(notebook):
        if not cell.get("outputs"):
            raise ValueError(f"{path.name} was not executed yet; run: python -m compactvision execute {path.stem}")
        cell["outputs"][-1]["data"] = _data(slug)
    write(notebook, path)
    return True


def _tables(notebook: Notebook) -> Iterator[tuple[str, Cell]]:
    for cell in code_cells(notebook):
        match = _TABLE.search(cell["source"])
        if match:
            yield match[1], cell


def _data(slug: str) -> dict[str, str]:
    shown = table(slug)
    return {"text/html": shown._repr_html_(), "text/markdown": shown._repr_markdown_(), "text/plain": repr(shown)}


def _plain(data: dict[str, Any]) -> dict[str, str]:
    return {kind: joined(content) for kind, content in data.items()}
