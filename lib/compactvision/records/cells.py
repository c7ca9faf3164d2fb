"""The code of a chapter's notebook that a record runs, as syntax trees; what only draws is told apart."""

from __future__ import annotations

import ast
import builtins
import json
from functools import cache
from pathlib import Path

from compactvision.records import places
from compactvision.records.definitions import Defined, parsed

SET_UP = frozenset({"setup"})
NOT_RUN = SET_UP | {"skip-run"}
_DRAWS = frozenset({"plots", "plt", "display", "print", "fig", "figure", "axes", "axis", "ax"})
# what drawing may call without a doubt: builtins, a record's values, texts
_HARMLESS = frozenset({*dir(builtins), "fmean", "stdev"}) - {"next", "exec", "eval", "input", "open", "setattr"}
_READS = frozenset({"format", "items", "item", "join", "keys", "mean_sd", "numpy", "percent", "tolist", "values"})


def path_of(slug: str) -> Path | None:
    """Return the path of a chapter's notebook, None where there is none here."""
    folder = places.notebooks_folder()
    path = folder / f"{slug}.ipynb" if folder else None
    return path if path is not None and path.is_file() else None


def running(slug: str, without: frozenset[str] = NOT_RUN) -> list[ast.stmt]:
    """Return the statements of the cells that a record runs, in order; empty where there is no such notebook.

    ``without`` names the tags of cells that are left out.
    """
    path = path_of(slug)
    if path is None:
        return []
    state = path.stat()
    return list(_statements(path, without, state.st_mtime_ns, state.st_size))


@cache
def _statements(path: Path, without: frozenset[str], changed: int, size: int) -> tuple[ast.stmt, ...]:
    code = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and not without & set(cell.get("metadata", {}).get("tags", ())):
            code += ast.parse("".join(cell["source"])).body
    return tuple(code)


def defined(body: list[ast.stmt]) -> Defined:
    """Return what statements of cells define, imports among them, by name."""
    return parsed(ast.unparse(ast.Module(body, [])))


def without_drawing(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements but for those that only draw, print or show."""
    return [node for node in body if not _draws(node)]


def _draws(node: ast.stmt) -> bool:
    """Tell whether a statement is a call of ``plots``, ``plt``, a figure or its axes that calls nothing else.

    A call of anything else counts, also inside ``print(...)``: it may use up random numbers, or change a network.
    """
    if not isinstance(node, ast.Expr | ast.Assign) or not isinstance(node.value, ast.Call):
        return False
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
    return _is_drawing(node.value) and all(_is_drawing(call) or _is_harmless(call) for call in calls)


def _is_drawing(call: ast.Call) -> bool:
    seeds = isinstance(call.func, ast.Attribute) and call.func.attr in ("seed_bars", "seed_lines")
    return seeds or _root(call) in _DRAWS


def _is_harmless(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id in _HARMLESS
    return isinstance(call.func, ast.Attribute) and call.func.attr in _READS


def _root(node: ast.AST) -> str | None:
    """Return the first name of ``name.of[a].call(...)``."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
