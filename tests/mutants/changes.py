"""All mutants of a file: one small change of its syntax tree each, written back into the text at its place."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
OTHERS = {"min": "max", "any": "all", "argmax": "argmin", "amin": "amax", "sum": "mean", "floor": "ceil",
          "zeros": "ones", "zeros_like": "ones_like", "fmean": "sum"}  # fmt: skip
OTHERS |= {new: old for old, new in OTHERS.items() if old != "fmean"}
DROPPED = {"abs", "sqrt", "square", "exp", "log", "detach", "clone", "relu", "clamp", "reversed", "sorted", "round"}
SPEED = {"strict", "non_blocking", "memory_format", "stacklevel", "daemon"}  # keywords that change no result
SILENT = {"__repr__", "extra_repr", "__str__"}


@dataclass(frozen=True)
class Mutant:
    """One change: ``old`` at a place of the file becomes ``new``."""

    path: str  # below the package
    function: str
    line: int
    last: int
    start: int  # offsets into the text
    end: int
    old: str
    new: str
    number: int  # of the same changes in the same function

    @property
    def key(self) -> str:
        """Name that survives changes elsewhere in the file."""
        return f"{self.path}::{self.function}: {_flat(self.old)} -> {_flat(self.new)} #{self.number}"

    def applied(self, text: str) -> str:
        """The file's text with the change."""
        return text[: self.start] + self.new + text[self.end :]


def mutants(root: Path, path: str) -> list[Mutant]:
    """All mutants of a file below the package's root, in its order."""
    text = (root / path).read_text(encoding="utf-8")
    offsets = [0]
    for line in text.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))

    def place(line: int, column: int) -> int:
        whole = text[offsets[line - 1] : offsets[line]].encode()
        return offsets[line - 1] + len(whole[:column].decode())

    found, seen = [], Counter()
    for function, node, new in _walk(ast.parse(text), ""):
        start, end = place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)
        old = text[start:end]
        if isinstance(node, ast.expr) and not (isinstance(new, str) and new.isidentifier()):
            new = f"({new})"
        seen[function, old, new] += 1
        number = seen[function, old, new]
        found.append(Mutant(path, function, node.lineno, node.end_lineno, start, end, old, new, number))
    return found


def _walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST, str]]:
    """Yield (function, node, its new text); what is documentation, message, annotation or speed is left out."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        if node.name in SILENT:
            return
        function = f"{function}.{node.name}".strip(".")
    yield from ((function, node, ast.unparse(new)) for new in _changed(node) if function or not _listing(node))
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if (isinstance(node, (ast.If, ast.While)) and field == "test") or field == "ifs":
                yield function, child, ast.unparse(ast.UnaryOp(ast.Not(), child))
            speed = isinstance(child, ast.keyword) and child.arg in SPEED
            if isinstance(child, ast.AST) and not speed and not _is_text(child):
                yield from _walk(child, function)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _listing(node: ast.AST) -> bool:
    return isinstance(node, (ast.Expr, ast.Assign))


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """All changes of one node itself."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        yield _with(node, ops=[OPERATORS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and not isinstance(node.value, (str, bytes)) and node.value not in (None, ...):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif _acts(node):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.Return(None)


def _acts(node: ast.AST) -> bool:
    """Whether it is a statement that does something besides naming a value."""
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    written = isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
    return called or written or isinstance(node, (ast.AugAssign, ast.Raise, ast.Delete, ast.Continue, ast.Break))


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in OTHERS:
        key = "attr" if isinstance(node.func, ast.Attribute) else "id"
        yield _with(node, func=_with(node.func, **{key: OTHERS[name]}))
    if name in DROPPED:
        if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value):
            yield node.func.value
        elif node.args:
            yield node.args[0]
    plain = len(node.args) >= 2 and not any(isinstance(argument, ast.Starred) for argument in node.args[:2])
    if plain and name not in ("isinstance", "range", "getattr", "hasattr", "min", "max"):
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("torch", "math", "np", "F")


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _flat(text: str) -> str:
    return " ".join(text.split())
