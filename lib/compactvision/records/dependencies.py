"""What a record depends on, by name, each with a digest of today's text.

=================================== ===================================================================================
``pruning/x.py:f``, ``x.py:C.f``    a function that ran, by its file inside the package
``pruning/x.py:NAME``, ``x.py:C``   a constant, or the body of a class without its methods, that such code reads
``models/weights/a.bin``            a file of the package that was opened
``notebook:slug``                   the cells that a record runs, without drawing
``claims:slug/quick``               the rules of the claims that the record of a profile decides
``text:pruning/x.py:f``             the lines of a definition, where a page shows them
=================================== ===================================================================================

Code counts as a syntax tree, so that words, layout and annotations make nothing older, nor what an error says.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from compactvision.records import cells, places
from compactvision.records.definitions import Defined, Function, definitions, imports_within, parsed, target, text

MACHINERY = ("plots", "experiment", "notebooks", "records", "claims", "queue", "_output.py", "_lazy.py", "__main__.py")
"""Drawing, and what starts, keeps and judges runs: no number is decided there, but for those of ``DECIDES``."""
DECIDES = frozenset(f"experiment/run.py:{name}" for name in ("start", "Run.log", "_plain", "_plain_number"))

Names = dict[str, str]
_SILENT = frozenset({"type_params", "type_ignores", "type_comment", "kind", "ctx", "returns", "annotation"})
_MADE = ("__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__")
_CALLING = frozenset({"map", "filter", "sorted", "min", "max", "reduce", "starmap"})


def is_machinery(name: str) -> bool:
    """Tell whether a file relative to the package, or a name of something in it, decides no number."""
    return name.split(":")[0].split("/")[0] in MACHINERY and name not in DECIDES


def essence(node: object) -> Any:
    """Return a syntax tree as nested tuples without docstrings, annotations, places, and what errors say."""
    if isinstance(node, list):
        return tuple(essence(item) for item in node if not _is_words(item))
    if not isinstance(node, ast.AST):
        return (type(node).__name__, repr(node))
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return ("Raise", essence(node.exc.func))
    parts = [(name, essence(part)) for name, part in ast.iter_fields(node) if name not in _SILENT]
    return (type(node).__name__, *(part for part in parts if part[1] not in ((), ("NoneType", "None"))))


def _is_words(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def of_tree(nodes: Iterable[ast.AST]) -> str:
    """Return the digest of code, the same under every version of Python."""
    return _digest(repr(essence(list(nodes))).encode())


def _bare(node: ast.AST) -> ast.AST:
    """Return a class without its methods, which count where they run; anything else as it is."""
    if not isinstance(node, ast.ClassDef):
        return node
    body = [part for part in node.body if not isinstance(part, Function)]
    return ast.ClassDef(node.name, node.bases, node.keywords, body, node.decorator_list)


def closure(executed: Iterable[str], slug: str | None = None) -> set[str]:
    """Return names of functions that ran, with all that they, and a chapter's cells, read.

    Functions are named as ``co_qualname`` does; one inside another, and a lambda, belongs to what it stands in. What
    runs while a module is imported is not seen by who looks at calls: there, what constants and classes call is
    followed by its text.
    """
    found: dict[str, bool] = {}
    waiting = [(_standing_in(name), False) for name in executed]
    if slug is not None:
        body = cells.running(slug)
        waiting += _read_by(ast.Module(body, []), "", cells.defined(body), follow=False)
    while waiting:
        name, follow = waiting.pop()
        file, _, qualified = name.partition(":")
        defined = definitions(file)
        known = name in found and found[name] >= follow
        if known or qualified not in defined or is_machinery(name):
            continue
        found[name] = follow
        if "." in qualified:
            waiting.append((f"{file}:{qualified.rsplit('.', 1)[0]}", False))
        for node in defined[qualified]:
            waiting += _read_by(_bare(node), file, defined, follow=follow or not isinstance(node, Function))
            if follow and isinstance(node, ast.ClassDef):
                waiting += [(f"{name}.{method}", True) for method in _MADE]
    return set(found)


def shown(slug: str) -> set[str]:
    """Return names of the lines of the package that a chapter's cells show with ``plots.source``."""
    body = cells.running(slug, cells.SET_UP)
    defined = cells.defined(body)
    calls = [part for part in ast.walk(ast.Module(body, [])) if isinstance(part, ast.Call)]
    found = {
        target(argument, "", defined, {})
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "source"
        for argument in call.args
    }
    return {f"text:{name}" for name in found if name and not name.startswith(":") and not name.endswith(":")}


def _standing_in(name: str) -> str:
    """Return the definition that a function stands in: "x.py:f" for "x.py:f.<locals>.<lambda>"."""
    file, _, qualified = name.partition(":")
    parts = qualified.split(".<")[0].split(".")
    while parts and ".".join(parts) not in definitions(file):
        parts.pop()
    return f"{file}:{'.'.join(parts)}"


def _read_by(node: ast.AST, file: str, defined: Defined, *, follow: bool) -> list[tuple[str, bool]]:
    """Return what code reads, with whether that ran unseen; functions only where they are called unseen."""
    inner = imports_within(node)
    unseen = {id(part) for part in _called(node, everywhere=follow)}
    found = []
    for part in ast.walk(node):
        if not isinstance(part, ast.Name | ast.Attribute) or not isinstance(part.ctx, ast.Load):
            continue
        name = target(part, file, defined, inner)
        if name is None or name.endswith(":") or name.startswith(":"):
            continue
        place, _, qualified = name.partition(":")
        functions = all(isinstance(one, Function) for one in definitions(place)[qualified])
        if not functions or id(part) in unseen:
            found.append((name, id(part) in unseen))
    return found


def _called(node: ast.AST, *, everywhere: bool) -> Iterator[ast.AST]:
    """Yield what is called, everywhere or only where a function is defined: decorators and default values."""
    if not everywhere and isinstance(node, Function):
        early = [*node.decorator_list, *node.args.defaults, *(one for one in node.args.kw_defaults if one)]
    else:
        early = [node] if everywhere else []
    for decorator in (one for part in ast.walk(node) for one in getattr(part, "decorator_list", ())):
        yield decorator.func if isinstance(decorator, ast.Call) else decorator
    for call in (part for one in early for part in ast.walk(one) if isinstance(part, ast.Call)):
        yield call.func
        if isinstance(call.func, ast.Name) and call.func.id in _CALLING:
            yield from call.args
            yield from (keyword.value for keyword in call.keywords)


def today(name: str) -> str | None:
    """Return the digest of what a name stands for today, None where it is gone, or lies outside the package."""
    kind, _, rest = name.partition(":")
    if not _is_inside(name):
        return None
    if kind == "notebook":
        body = cells.running(rest)
        return of_tree(cells.without_drawing(body)) if body else None
    if kind == "claims":
        return _of_claims(*rest.partition("/")[::2])
    if kind == "text":
        file, _, qualified = rest.partition(":")
        return _of_lines(text(file), qualified)
    if rest:
        return _of_code(text(kind), rest)
    path = places.PACKAGE / kind
    if not path.is_file():
        return None
    state = path.stat()
    return _of_file(path, state.st_mtime_ns, state.st_size)


def _is_inside(name: str) -> bool:
    """Tell whether a name leads nowhere but into the package, or to a chapter's own files."""
    place = name.partition(":")[2] if name.startswith(("notebook:", "claims:", "text:")) else name
    return not place.startswith("/") and not {"..", ":"} & set(place.split("/")) and "\\" not in place


@cache  # a scorecard asks for the same names at every record
def _of_code(code: str, name: str) -> str | None:
    nodes = parsed(code).get(name)
    return of_tree(map(_bare, nodes)) if nodes else None


@cache
def _of_lines(code: str, name: str) -> str | None:
    lines = code.splitlines()
    own = [line.rstrip() for node in parsed(code).get(name, ()) for line in lines[node.lineno - 1 : node.end_lineno]]
    return _digest("\n".join(own).encode()) if own else None


@cache
def _of_file(path: Path, changed: int, size: int) -> str:
    return _digest(path.read_bytes())


def _of_claims(slug: str, profile: str) -> str | None:
    path = places.claims_folder() / f"{slug}.toml"
    if not path.is_file():
        return None
    claims = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    kept = [
        {name: one.get(name) for name in ("id", "kind", "paper", "rule")}
        for one in claims
        if one.get("profile") == profile
    ]
    return _digest(json.dumps(kept, sort_keys=True, default=str).encode())


def digests(names: Iterable[str]) -> Names:
    """Return today's digests by name, sorted; names that stand for nothing are left out."""
    found = {name: today(name) for name in sorted(set(names))}
    return {name: one for name, one in found.items() if one is not None}


def changed(names: Names) -> list[str]:
    """Return which of the things that a record depends on are others today, or gone."""
    skip = places.notebooks_folder() is None  # installed without the book: its cells cannot be asked
    return [name for name, one in names.items() if today(name) != one and not (skip and name.startswith("notebook:"))]


def path_of(name: str) -> Path | None:
    """Return the file in which a name stands, None for the cells of a book that is not here."""
    kind, _, rest = name.partition(":")
    if kind == "notebook":
        return cells.path_of(rest)
    if kind == "claims":
        return places.claims_folder() / f"{rest.partition('/')[0]}.toml"
    return places.PACKAGE / (rest.partition(":")[0] if kind == "text" else kind)
