"""What must hold for a notebook that is committed: fresh outputs, no traces of a machine, the chapter's form."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compactvision.claims import schema
from compactvision.notebooks import numbers
from compactvision.notebooks.plain import compiled, parameters_cell
from compactvision.notebooks.sources import (
    Cell,
    Notebook,
    code_cells,
    code_digest,
    is_text,
    joined,
    read,
    setup_cell,
    tags_of,
)
from compactvision.notebooks.stored import changed
from compactvision.notebooks.told import outdated

TEMPLATE = (
    "The question",
    "The idea in one picture",
    "The method",
    "By hand",
    "The experiment",
    "At the paper's scale",
    "What to take away",
    "Exercises",
)
LARGEST = 3 * 1024 * 1024  # bytes
_MACHINE = re.compile(r"(?<![\w.:/-])(?:/(?:home|root|Users|tmp|work|content|var|mnt)/\w|[A-Z]:\\\w)")
_EMBEDDED = re.compile(r"data:image/[\w+]+;base64,[A-Za-z0-9+/=\s]+")
_HEADING = re.compile(r"^##\s+(?:\d+\.\s*)?(.+?)\s*$", flags=re.MULTILINE)


def stale(path: Path) -> str | None:
    """Return why a notebook's stored outputs are not those of today's code, None where they are.

    Compared are the digests of its code cells, and of what of the package ran in them, with those that
    ``python -m compactvision execute`` stored, and its table of claims with today's.
    """
    notebook = read(path)
    stored = notebook["metadata"].get("compactvision")
    command = f"run: python -m compactvision execute {path.stem}"
    if not isinstance(stored, dict):
        return f"{path.name} was never executed by the book's tool; {command}"
    if stored.get("code") != code_digest(notebook):
        return f"the code cells of {path.name} have changed since they were executed; {command}"
    other = changed(path.stem, stored)
    if other:
        what = other[0] + (f" and {len(other) - 1} more" if len(other) > 1 else "")
        return f"what ran behind {path.name} has changed since its cells were executed ({what}); {command}"
    if outdated(notebook):
        return f"the claims on the page of {path.name} are not today's; {command}, or with --claims these alone"
    return None


def problems(path: Path) -> list[str]:
    """Return what is wrong with a notebook as it is stored, in words; an empty list is good.

    Looked at: kernel, size, execution counts, errors and warnings in outputs, traces of a machine, pictures
    without a text, set-up and parameters cells, magics, the last check, for a chapter the numbers in its prose
    (:mod:`compactvision.notebooks.numbers`), and for a paper's the headings of the template.
    """
    notebook = read(path)
    cells = code_cells(notebook)
    found = []
    if _kernel(notebook) != "python3":
        found.append("the kernel is not 'python3'")
    if path.stat().st_size > LARGEST:
        found.append(f"it has {path.stat().st_size:,} bytes; at most {LARGEST:,} are allowed")
    counts = [cell.get("execution_count") for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        found.append(f"execution counts are {counts}, not 1 to {len(cells)}")
    for number, cell in enumerate(cells, start=1):
        found += [f"code cell {number}: {text}" for text in _cell_problems(cell)]
    found += _form_problems(notebook, cells, path)
    return found


def _kernel(notebook: Notebook) -> object:
    kernel = notebook["metadata"].get("kernelspec")
    return kernel.get("name") if isinstance(kernel, dict) else None


def _cell_problems(cell: Cell) -> list[str]:
    found = []
    try:
        compiled(cell, "the cell")
    except (ValueError, SyntaxError) as error:
        found.append(str(error))
    for output in cell.get("outputs", []):
        kind = output["output_type"]
        if kind == "error" and "raises-exception" not in tags_of(cell):
            found.append(f"it ended with {output.get('ename')}")
        if kind == "stream" and output["name"] == "stderr":
            found.append("it wrote to stderr")
        if any(name.startswith("image/") for name in output.get("data", {})):
            found.append("it shows a picture without alt text; plots.show(fig, alt=...) gives it one")
        trace = _MACHINE.search(_EMBEDDED.sub("", _text_of(output)))
        if trace:
            found.append(f"its output holds a path of a machine, {trace[0]!r}...")
    return found


def _text_of(output: dict[str, Any]) -> str:
    texts = [joined(output.get("text", "")), "\n".join(output.get("traceback", []))]
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/p") and is_text(content):
            texts.append(joined(content))
    return "\n".join(texts)


def _form_problems(notebook: Notebook, cells: list[Cell], path: Path) -> list[str]:
    found = []
    setup = [cell for cell in cells if "setup" in tags_of(cell)]
    if len(setup) != 1:
        found.append(f"{len(setup)} code cells have the tag 'setup'; exactly one is needed")
    elif setup[0]["source"].strip() != setup_cell().strip():
        found.append("the set-up cell is not the one of this version; `python -m compactvision execute` renews it")
    elif "hide-cell" not in tags_of(setup[0]):
        found.append("the set-up cell lacks the tag 'hide-cell'")
    try:
        parameters_cell(notebook, path)
    except (ValueError, SyntaxError) as error:
        found.append(str(error))
    if not cells or "run.check()" not in cells[-1]["source"]:
        found.append("the last code cell does not call run.check()")
    if path.stem in schema.slugs():
        found += numbers.problems(notebook, path.stem)
        found += _heading_problems(notebook) if schema.load(path.stem).paper is not None else []
    return found


def _heading_problems(notebook: Notebook) -> list[str]:
    texts = [joined(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    headings = [name.replace("’", "'") for text in texts for name in _HEADING.findall(text)]
    ordered = [name for name in headings if name in TEMPLATE]
    if ordered == list(TEMPLATE):
        return []
    missing = [name for name in TEMPLATE if name not in ordered]
    if missing:
        return [f"the heading {missing[0]!r} of the chapter template is missing"]
    return [f"the headings of the chapter template are repeated or out of order: {', '.join(ordered)}"]
