"""What the files of the package define, and which definition a name in their code stands for, read from their text."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from compactvision.records import places

ROOT = "compactvision"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Imports = ast.Import | ast.ImportFrom
Defined = Mapping[str, list[ast.AST]]
_DEEPEST = 12  # packages that hand on what others hand on


def text(file: str) -> str:
    """Return the text of a file, given relative to the package; empty where there is none."""
    path = places.PACKAGE / file
    try:
        state = path.stat()
    except OSError:
        return ""
    return _text_of(path, state.st_mtime_ns, state.st_size) if path.suffix == ".py" else ""


@cache
def _text_of(path: Path, changed: int, size: int) -> str:
    return path.read_text(encoding="utf-8")


def definitions(file: str) -> Defined:
    """Return by dotted name the statements of a file that bind it: "f", "Class", "Class.method", "NAME"."""
    return parsed(text(file))


@cache
def parsed(code: str) -> Defined:
    """Return what :func:`definitions` does, of a text."""
    found: dict[str, list[ast.AST]] = {}

    def enter(body: Iterable[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, Function | ast.ClassDef):
                found.setdefault(prefix + node.name, []).append(node)
                if isinstance(node, ast.ClassDef):
                    enter(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
                enter([part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)], prefix)
                handlers = getattr(node, "handlers", ())
                enter([part for handler in handlers for part in handler.body], prefix)
            elif prefix == "":
                for name in _bound(node):
                    found.setdefault(name, []).append(node)

    enter(ast.parse(code).body, "")
    return found


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a module's statement binds or changes: ``TABLE["a"] = 1`` and ``TABLE.update(b)`` too."""
    for part in ast.walk(node):
        if isinstance(part, Imports):
            yield from ((item.asname or item.name.split(".")[0]) for item in part.names)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif not isinstance(part, ast.Subscript | ast.Attribute) or not isinstance(part.value, ast.Name):
            continue
        elif isinstance(part.ctx, ast.Store) or isinstance(node, ast.Expr):
            yield part.value.id


def imports_within(node: ast.AST) -> dict[str, Imports]:
    """Return the imports that stand inside a function, by the name that they bind."""
    found: dict[str, Imports] = {}
    for part in ast.walk(node):
        if isinstance(part, Imports):
            found |= {item.asname or item.name.split(".")[0]: part for item in part.names}
    return found


def target(node: ast.AST, file: str, defined: Defined, inner: Mapping[str, Imports]) -> str | None:
    """Return what a name, or names joined by dots, stands for in a file.

    Parameters
    ----------
    node : ast.AST
    file : str
        Relative to the package; "" for code from elsewhere, a notebook's.
    defined, inner : mapping
        What the file defines, and imports of the function that ``node`` stands in.

    Returns
    -------
    str or None
        ``file:name`` for a definition, ``file:`` for a module, None for what is not the package's.
    """
    if isinstance(node, ast.Name):
        return _named(node.id, file, defined, inner, 0)
    if not isinstance(node, ast.Attribute):
        return None
    owner = target(node.value, file, defined, inner)
    if owner is None:
        return None
    place, _, name = owner.partition(":")
    if not name:
        return member(place, node.attr)
    own = f"{name}.{node.attr}"
    return f"{place}:{own}" if own in (definitions(place) if place else defined) else owner


def _named(name: str, file: str, defined: Defined, inner: Mapping[str, Imports], depth: int) -> str | None:
    if name in inner:
        return _imported(inner[name], name, file, depth)
    for node in defined.get(name, ()):
        if isinstance(node, Imports):
            return _imported(node, name, file, depth)
    return f"{file}:{name}" if name in defined else None


def _imported(node: Imports, name: str, file: str, depth: int) -> str | None:
    item = next(item for item in node.names if (item.asname or item.name.split(".")[0]) == name)
    if isinstance(node, ast.Import):
        return _module(item.name if item.asname else item.name.split(".")[0])
    folder: list[str] = []
    if node.level:
        parts = [ROOT, *Path(file).parent.parts]
        folder = parts[: len(parts) - node.level + 1]
    dotted = ".".join([*folder, *([node.module] if node.module else [])])
    module = _module(dotted)
    if module is None or module == f"{file}:":  # a package that imports its own sub-module
        return module and _module(f"{dotted}.{item.name}")
    return member(module[:-1], item.name, depth + 1)


def _module(dotted: str) -> str | None:
    """Return ``file:`` of a module of the package, None for any other."""
    first, *parts = dotted.split(".")
    base = places.PACKAGE.joinpath(*parts)
    if first != ROOT:
        return None
    for path in ([base.with_suffix(".py")] if parts else []) + [base / "__init__.py"]:
        if path.is_file():
            return path.relative_to(places.PACKAGE).as_posix() + ":"
    return None


def member(file: str, name: str, depth: int = 0) -> str | None:
    """Return what ``module.name`` stands for: a definition, one that it imports or loads when used, a sub-module."""
    if depth > _DEEPEST:
        return None
    direct = _named(name, file, definitions(file), {}, depth)
    if direct is not None or not file.endswith("__init__.py"):
        return direct
    folder = Path(file).parent
    inside = _module(".".join([ROOT, *folder.parts, name]))
    if inside is not None:
        return inside
    handed = _handed_on(text(file)).get(name)
    loaded = _module(".".join([ROOT, *folder.parts, handed])) if handed else None
    return member(loaded[:-1], name, depth + 1) if loaded else None


@cache
def _handed_on(code: str) -> dict[str, str]:
    """Return the functions that a package loads on first use (``_lazy.lazy``), each with the sub-module that has it."""
    found: dict[str, str] = {}
    for part in ast.walk(ast.parse(code)):
        if isinstance(part, ast.Dict):
            found |= {
                str(key.value): str(value.value)
                for key, value in zip(part.keys, part.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
            }
    return found
