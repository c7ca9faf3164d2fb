"""What came of a call with bad arguments: one word, and for errors where they came from."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import re
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import compactvision
import numpy as np
import torch
from torch import Tensor

from .pools import FINE, WRONG_TYPES

PACKAGE = str(Path(compactvision.__file__).parent)
HERE = str(Path(__file__).parent)
OUTCOMES = ("clear", "unnamed", "raw type", "raw value", "torch", "nonsense", "nan", "accepted", "hang", "killed")
"""``clear``: an error of our own that names an argument; ``unnamed``: of our own, without. ``raw``: any other error, by
whether a type or a value was wrong; ``torch``: those from inside torch, apart from the other two. ``nonsense``:
accepted outside the documented domain; ``nan``: NaN in, NaN out; ``hang``: over the limit of time; ``killed``: the
process died. Memory that a huge number asks for and does not get is no fault of the function: ``accepted``."""
CHOICES = {"-1", "nan", "inf", "-inf", "half", "1.5", "1e308", "tensor of two", "complex64", "complex", "whole numbers",
           "unknown word", "empty word", "absent", "unknown key", "number for a key", "of nan", "of -1", "of lists",
           "empty list", "empty generator", "without targets", "triples", "empty batches", "fewer targets",
           "targets out of range", "negative targets", "targets as floats", "targets of two dimensions"}  # fmt: skip
COUNTS_ONLY = {"half", "1.5", "1e308"}  # nothing is wrong with them as fractions
NAMES = {"inputs", "targets"}  # what batches consist of


def error(function: object, labels: Iterable[str], found: BaseException) -> str:
    """Sort an exception."""
    frames = traceback.extract_tb(found.__traceback__)
    innermost = frames[-1]
    if all(frame.filename.startswith(HERE) for frame in frames):
        return "clear"  # Python's own, for the signature
    if isinstance(found, TypeError) and "unexpected keyword argument" in str(found):
        return "clear"
    if innermost.filename.startswith(PACKAGE) and _raises(innermost.filename, innermost.lineno or 0, found):
        words = set(re.findall(r"[a-zA-Z_]\w*", str(found)))
        parameters = inspect.signature(function).parameters
        passed_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        return "clear" if passed_on or words & (NAMES | set(parameters)) else "unnamed"
    if isinstance(found, OSError) and found.filename is not None and "OSError" in (inspect.getdoc(function) or ""):
        return "clear"  # the system's own, documented, for a file that it names
    if isinstance(found, MemoryError) or "allocate memory" in str(found):
        return "accepted"
    if not isinstance(found, AttributeError) and ("torch" in Path(innermost.filename).parts or _from_torch(found)):
        return "torch"
    return "raw type" if set(labels) & (WRONG_TYPES | _types()) else "raw value"


def place(found: BaseException) -> str:
    """The innermost line of the package, with the error."""
    lines = [frame for frame in _frames(found.__traceback__) if frame[0].startswith(PACKAGE)]
    path, line = lines[-1] if lines else ("?", 0)
    text = " ".join(str(found).split())[:110]
    return f"{path.removeprefix(PACKAGE)[1:]}:{line} {type(found).__name__}: {text}"


def accepted(parameters: Mapping[str, inspect.Parameter], bad: Mapping[str, str], valid: Mapping, result: Any) -> str:
    """Sort a result: ``bad`` says which argument got what, without those that are documented as free."""
    for name, label in bad.items():
        if _outside(parameters[name], label, valid[name]):
            return "nonsense"
    if not bad or not any(_has_nan(part) for part in _numbers(result)):
        return "accepted"
    return "nan" if any("nan" in label or "inf" in label or "1e30" in label for label in bad.values()) else "nonsense"


def _outside(parameter: inspect.Parameter, label: str, valid: Any) -> bool:
    if label in FINE or isinstance(valid, bool):  # any object is true or false, as everywhere in Python
        return False
    annotation = str(parameter.annotation)
    if label == "None":
        return "None" not in annotation and parameter.default is not None and annotation not in ("Any", "object")
    if label in COUNTS_ONLY:
        return isinstance(valid, int)
    if label in WRONG_TYPES | _types():
        return annotation not in ("Any", "object", "'Any'", "'object'")
    return label in CHOICES


@functools.cache
def _types() -> set[str]:
    from .pools import TYPES

    return set(TYPES)


@functools.cache
def _statements(filename: str) -> tuple[ast.Raise, ...]:
    tree = ast.parse(Path(filename).read_text(encoding="utf-8"))
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Raise))


def _raises(filename: str, line: int, found: BaseException) -> bool:
    """Whether a raise statement at this line names the exception; an error in its text is another."""
    here = [node for node in _statements(filename) if node.lineno <= line <= (node.end_lineno or 0)]
    names = [kind.__name__ for kind in type(found).__mro__[:-3]]  # OSError itself chooses a subclass by its number
    return any(node.exc is None or any(name in ast.dump(node.exc) for name in names) for node in here)


def _from_torch(found: BaseException) -> bool:
    """Whether torch's compiled part raised it: its own kinds of errors, or a complaint of its argument parser."""
    if isinstance(found, RuntimeError):
        return True
    return bool(re.search(r"\): argument '|Tensor|Dimension out of range|index_|torch", str(found)))


def _frames(step: TracebackType | None) -> Iterable[tuple[str, int]]:
    while step is not None:
        yield step.tb_frame.f_code.co_filename, step.tb_lineno
        step = step.tb_next


def _numbers(result: Any, depth: int = 0) -> Iterable[Any]:
    """Tensors and floats in a result, a few levels deep."""
    if isinstance(result, (float, Tensor, np.ndarray)):
        yield result
    elif depth < 3 and isinstance(result, Mapping):
        for item in result.values():
            yield from _numbers(item, depth + 1)
    elif depth < 3 and isinstance(result, (list, tuple)):
        for item in result:
            yield from _numbers(item, depth + 1)
    elif depth < 3 and dataclasses.is_dataclass(result) and not isinstance(result, type):
        for field in dataclasses.fields(result):
            yield from _numbers(getattr(result, field.name), depth + 1)


def _has_nan(part: Any) -> bool:
    if isinstance(part, float):
        return math.isnan(part)
    if isinstance(part, np.ndarray):
        return part.dtype.kind in "fc" and bool(np.isnan(part).any())
    if part.device.type == "meta" or not (part.is_floating_point() or part.is_complex()) or part.is_sparse:
        return False
    return bool(torch.isnan(part.detach()).any())
