"""What a record depends on, by name, each with a digest of today's text.

A name is ``pruning/x.py:f`` or ``pruning/x.py:Class.f`` (a function that ran, by its file inside the package),
``pruning/x.py:NAME`` (a constant or the body of a class that such code reads), ``models/weights/a.bin`` (a file of the
package that was opened), ``notebook:slug`` (the cells that a record runs, without drawing) or ``claims:slug``.

Code counts as a syntax tree, so that words, layout and annotations make nothing older, and the same under every Python.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from compactvision.records import places

MACHINERY = ("plots", "experiment", "notebooks", "records", "claims", "queue", "_output.py", "_lazy.py", "__main__.py")
"""Drawing, and what starts, keeps and judges runs: no number is decided there."""

Names = dict[str, str]
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SILENT = frozenset({"type_params", "type_ignores", "type_comment", "kind", "ctx", "returns", "annotation"})
_RESULTS = frozenset({"log", "data", "check"})


def is_machinery(file: str) -> bool:
    """Tell whether a file, relative to the package, decides no number."""
    return file.split("/")[0] in MACHINERY


def essence(node: object) -> Any:
    """Return a syntax tree as nested tuples without docstrings, annotations and places."""
    if isinstance(node, list):
        return tuple(essence(item) for item in node if not _is_words(item))
    if not isinstance(node, ast.AST):
        return (type(node).__name__, repr(node))
    parts = [(name, essence(part)) for name, part in ast.iter_fields(node) if name not in _SILENT]
    return (type(node).__name__, *(part for part in parts if part[1] not in ((), ("NoneType", "None"))))


def _is_words(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _of_tree(node: object) -> str:
    return _digest(repr(essence(node)).encode())


@cache
def _parsed(text: str) -> dict[str, list[ast.AST]]:
    """Return what a module's text defines: by dotted name, the statements that do."""
    found: dict[str, list[ast.AST]] = {}

    def enter(body: Iterable[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, _Function | ast.ClassDef):
                found.setdefault(prefix + node.name, []).append(node)
                if isinstance(node, ast.ClassDef):
                    enter(node.body, f"{prefix}{node.name}.")
            elif prefix == "":
                for name in _bound(node):
                    found.setdefault(name, []).append(node)
                if isinstance(node, ast.If | ast.Try | ast.With | ast.For):
                    enter([part for part in ast.walk(node) if isinstance(part, _Function | ast.ClassDef)], prefix)

    enter(ast.parse(text).body, "")
    return found


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a module's statement binds; ``TABLE["a"] = 1`` counts for TABLE."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import | ast.ImportFrom):
            yield from ((item.asname or item.name.split(".")[0]) for item in part.names)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif (
            isinstance(part, ast.Subscript | ast.Attribute)
            and isinstance(part.ctx, ast.Store)
            and isinstance(part.value, ast.Name)
        ):
            yield part.value.id


def _definitions(file: str) -> dict[str, list[ast.AST]]:
    return _parsed(_text(file))


def _text(file: str) -> str:
    path = places.PACKAGE / file
    try:
        state = path.stat()
    except OSError:
        return ""
    return _text_of(path, state.st_mtime_ns, state.st_size)


@cache
def _text_of(path: Path, changed: int, size: int) -> str:
    return path.read_text(encoding="utf-8")


@cache  # a scorecard asks for the same names at every record
def _of_code(text: str, name: str) -> str | None:
    nodes = _parsed(text).get(name)
    if not nodes:
        return None
    return _of_tree([_bare(node) if isinstance(node, ast.ClassDef) else node for node in nodes])


def _bare(node: ast.ClassDef) -> ast.ClassDef:
    """Return a class without its methods, which count where they run."""
    body = [part for part in node.body if not isinstance(part, _Function)]
    fields = [ast.Expr(ast.Name(part.target.id)) for part in body if isinstance(part, ast.AnnAssign) and part.target]
    return ast.ClassDef(node.name, node.bases, node.keywords, [*body, *fields], node.decorator_list)


def outermost(qualified: str) -> str:
    """Return the function that a nested function, lambda or comprehension stands in."""
    return qualified.split(".<locals>")[0]


def closure(executed: Iterable[str]) -> set[str]:
    """Return names of functions that ran, with all constants and bodies of classes that they can read."""
    found: set[str] = set()
    waiting = list(executed)
    while waiting:
        name = waiting.pop()
        file, _, qualified = name.partition(":")
        if name in found or qualified not in _definitions(file):
            continue
        found.add(name)
        if "." in qualified:
            waiting.append(f"{file}:{qualified.rsplit('.', 1)[0]}")
        for node in _definitions(file)[qualified]:
            read = _bare(node) if isinstance(node, ast.ClassDef) else node
            runs_on_import = not isinstance(node, _Function)
            waiting.extend(_read_by(read, file, functions=runs_on_import))
    return found


def _read_by(node: ast.AST, file: str, *, functions: bool) -> Iterator[str]:
    """Yield the names in the package that code reads; functions only where they ran before anybody looked."""
    for part in ast.walk(node):
        target = None
        if isinstance(part, ast.Name):
            target = _resolved(file, part.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            module = _resolved(file, part.value.id)
            if module and module.endswith(":"):
                target = _resolved(module[:-1], part.attr)
            elif module:
                target = module
        if target is None or target.endswith(":"):
            continue
        where, _, name = target.partition(":")
        if functions or not all(isinstance(one, _Function) for one in _definitions(where)[name]):
            yield target


def _resolved(file: str, name: str, depth: int = 0) -> str | None:
    """Return ``file:name`` of the definition behind a name, ``file:`` for a module, None for one from elsewhere."""
    nodes = _definitions(file).get(name)
    if not nodes or depth > 8:
        return None
    for node in nodes:
        for part in [node] if not isinstance(node, ast.If | ast.Try) else ast.walk(node):
            if isinstance(part, ast.ImportFrom) and (part.module or "").split(".")[0] == "compactvision":
                own = next((item.name for item in part.names if (item.asname or item.name) == name), None)
                if own is not None:
                    module = _file_of(f"{part.module}.{own}")
                    return f"{module}:" if module else _behind(_file_of(part.module or ""), own, depth)
            if isinstance(part, ast.Import | ast.ImportFrom):
                return None
    return f"{file}:{name}"


def _behind(module: str | None, name: str, depth: int) -> str | None:
    """Return the definition of a name that a module exports, also where a package loads it when it is used."""
    if module is None:
        return None
    direct = _resolved(module, name, depth + 1)
    if direct is not None or not module.endswith("__init__.py"):
        return direct
    folder = places.PACKAGE / Path(module).parent
    for path in sorted(folder.glob("*.py")):
        inner = path.relative_to(places.PACKAGE).as_posix()
        nodes = _definitions(inner).get(name, []) if path.name != "__init__.py" else []
        if nodes and not any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes):
            return f"{inner}:{name}"
    return None


def _file_of(module: str) -> str | None:
    base = places.PACKAGE.joinpath(*module.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path.relative_to(places.PACKAGE).as_posix()
    return None


def today(name: str) -> str | None:
    """Return the digest of what a name stands for today, None where it is gone."""
    kind, _, rest = name.partition(":")
    if kind == "notebook":
        return _of_notebook(rest)
    if kind == "claims":
        return _of_claims(rest)
    if rest:
        return _of_code(_text(kind), rest)
    path = places.PACKAGE / kind
    return _digest(path.read_bytes()) if path.is_file() else None


def digests(names: Iterable[str]) -> Names:
    """Return today's digests by name, sorted; names that stand for nothing are left out."""
    found = {name: today(name) for name in sorted(set(names))}
    return {name: one for name, one in found.items() if one is not None}


def changed(names: Names) -> list[str]:
    """Return which of the things that a record depends on are others today, or gone."""
    skip = places.notebooks_folder() is None  # installed without the book: its cells cannot be asked
    return [name for name, one in names.items() if today(name) != one and not (skip and name.startswith("notebook:"))]


def _of_claims(slug: str) -> str | None:
    import tomllib

    path = places.claims_folder() / f"{slug}.toml"
    if not path.is_file():
        return None
    claims = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    kept = [{name: one.get(name) for name in ("id", "kind", "profile", "paper", "rule")} for one in claims]
    return _digest(json.dumps(kept, sort_keys=True, default=str).encode())


def _of_notebook(slug: str) -> str | None:
    folder = places.notebooks_folder()
    path = folder / f"{slug}.ipynb" if folder else None
    if path is None or not path.is_file():
        return None
    kept = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and not {"setup", "skip-run"} & set(cell["metadata"].get("tags", ())):
            body = ast.parse("".join(cell["source"])).body
            kept += [node for node in body if not _draws(node)]
    return _of_tree(kept)


def _draws(node: ast.stmt) -> bool:
    """Tell whether a statement only draws, prints or shows: calls of ``plots``, ``plt``, a figure or its axes."""
    if not isinstance(node, ast.Expr | ast.Assign) or not isinstance(node.value, ast.Call):
        return False
    root: ast.AST = node.value.func
    while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name) or root.id not in ("plots", "plt", "display", "print", "fig", "axes", "ax"):
        return False
    inner = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
    return not any(isinstance(call, ast.Attribute) and call.attr in _RESULTS for call in inner)
