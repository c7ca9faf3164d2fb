"""A notebook's code cells run in plain Python: no Jupyter, no display, other parameters."""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compactvision.notebooks.sources import Cell, Notebook, code_cells, read, tags_of

PARAMETERS = ("PROFILE", "DEVICE", "SEED")
SKIPPED = "skip-run"
MODULE = "compactvision_notebook"
_RESULTS = re.compile(r"\.(?:log|data|check)\s*\(")


def cell_name(path: Path, number: int) -> str:
    """Return what tracebacks call a code cell: "foundations.ipynb, code cell 3"."""
    return f"{path.name}, code cell {number}"


def _is_magic(source: str) -> bool:
    lines = [line.strip() for line in source.splitlines()]
    return any(line.startswith(("%", "!", "?")) or line.endswith("?") for line in lines if not line.startswith("#"))


def compiled(cell: Cell, name: str) -> types.CodeType:
    """Return a cell's code under a name for tracebacks.

    Raises
    ------
    ValueError
        If the cell uses an IPython magic or shell command, which plain Python does not know.
    SyntaxError
        If it is not Python otherwise.
    """
    try:
        return compile(cell["source"], name, "exec", dont_inherit=True)
    except SyntaxError:
        if _is_magic(cell["source"]):
            raise ValueError(f"{name}: IPython magics and shell commands cannot run outside Jupyter") from None
        raise


def _assigned(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def parameters_cell(notebook: Notebook, path: Path) -> int:
    """Return the number of the one cell that is tagged ``parameters``.

    Raises
    ------
    ValueError
        If there is not exactly one, or it does not assign PROFILE, DEVICE and SEED.
    """
    cells = code_cells(notebook)
    found = [number for number, cell in enumerate(cells, start=1) if "parameters" in tags_of(cell)]
    if len(found) != 1:
        raise ValueError(f"{path.name}: {len(found)} code cells have the tag 'parameters'; exactly one is needed")
    missing = sorted(set(PARAMETERS) - _assigned(cells[found[0] - 1]["source"]))
    if missing:
        raise ValueError(f"{cell_name(path, found[0])}: the parameters cell does not assign {', '.join(missing)}")
    return found[0]


def run_cells(path: Path, overrides: Mapping[str, object]) -> dict[str, Any]:
    """Run the code cells of a notebook in this process and return the names that they leave.

    The working directory is the notebook's folder meanwhile, as in Jupyter; Matplotlib draws nowhere; cells
    tagged ``skip-run`` are left out.

    Parameters
    ----------
    path : Path
    overrides : mapping
        Values of PROFILE, DEVICE and SEED, assigned after the cell tagged ``parameters``.

    Raises
    ------
    ValueError
        If a cell has a magic, the parameters cell is missing, an override has another name, or a cell
        tagged ``skip-run`` logs results.
    Exception
        Whatever a cell raises; the traceback names the notebook and the cell's number.
    """
    unknown = sorted(set(overrides) - set(PARAMETERS))
    if unknown:
        raise ValueError(f"overrides: {unknown[0]!r} is not one of {', '.join(PARAMETERS)}")
    notebook = read(path)
    codes = {}
    for number, cell in enumerate(code_cells(notebook), start=1):
        name = cell_name(path, number)
        if SKIPPED in tags_of(cell):
            if _RESULTS.search(cell["source"]):
                raise ValueError(f"{name}: a cell tagged {SKIPPED!r} only displays; it cannot log or check results")
            continue
        codes[number] = compiled(cell, name)
        linecache.cache[name] = (len(cell["source"]), None, cell["source"].splitlines(keepends=True), name)
    parameters = parameters_cell(notebook, path)
    _draw_nowhere()
    module = types.ModuleType(MODULE)
    module.__dict__["display"] = lambda *objects, **options: None
    before, here = sys.modules.get(MODULE), Path.cwd()
    sys.modules[MODULE] = module  # classes of the cells can be pickled
    os.chdir(path.parent)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
            for number, code in codes.items():
                exec(code, module.__dict__)
                if number == parameters:
                    module.__dict__.update(overrides)
    finally:
        os.chdir(here)
        if before is None:
            del sys.modules[MODULE]
        else:
            sys.modules[MODULE] = before
    return module.__dict__


def _draw_nowhere() -> None:
    os.environ["MPLBACKEND"] = "Agg"
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].use("Agg")
