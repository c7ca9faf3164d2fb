"""Digests of what a run is made of: tensors, arrays, plain data, functions, and objects by what they hold."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .randomness import filled

ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, PurePath, range, slice)
NUMBERS = (int, float, bool)
LOADER = ("dataset", "sampler", "batch_sampler", "collate_fn", "generator")  # of a loader, what decides its batches
CHANGING = ("epoch", "training")  # attributes that a run moves on
WHOLE = 2**28  # bytes; of a larger array evenly spaced pieces are read
PIECES, PIECE = 256, 2**18
DIGITS = 16


def digest(*values: Any) -> str:
    """Return 16 hexadecimal digits that are equal for equal content, whatever the process and the device.

    Tensors and arrays count with shape, type and values, containers with their members in order, functions with name
    and, where the name is not enough, code; other objects with their class and public attributes. Of an array above
    256 MiB 64 MiB in evenly spaced pieces are read.
    """
    return Reader().digest(list(values))


class Reader:
    """Reads content; ``data`` counts the tensors, arrays and texts that it has met."""

    def __init__(self) -> None:
        self.data = 0
        self.known: dict[int, tuple[Any, str]] = {}  # the object is held, so that no other one gets its id

    def digest(self, value: Any) -> str:
        """Return the digest of a value."""
        if isinstance(value, ATOMS):
            self.data += isinstance(value, (str, bytes, PurePath))
            return f"{type(value).__name__} {value!r}"
        if id(value) not in self.known:
            self.known[id(value)] = value, "itself"
            self.known[id(value)] = value, self._of(value)
        return self.known[id(value)][1]

    def _of(self, value: Any) -> str:
        found = hashlib.sha256()
        if isinstance(value, (Tensor, np.ndarray)) or hasattr(value, "__array_interface__"):
            self.data += 1
            parts = _array_parts(value)
        else:
            parts = self._parts(value)
        for part in parts:
            found.update(part.encode("utf-8", "surrogatepass") + b"\0" if isinstance(part, str) else part)
        return found.hexdigest()[:DIGITS]

    def _parts(self, value: Any) -> Iterator[str]:
        kind = type(value)
        if is_named(value):
            yield function_name(value)
        elif isinstance(value, Mapping):
            yield f"mapping {len(value)}"
            for key, member in value.items():
                yield self.digest(key)
                yield self.digest(member)
        elif isinstance(value, (list, tuple)) and all(type(member) in NUMBERS for member in value):
            yield f"{kind.__name__} of numbers {list(value)!r}"
        elif isinstance(value, (list, tuple, set, frozenset)):
            members = map(self.digest, value)
            yield f"{kind.__name__} {len(value)}"
            yield from members if isinstance(value, (list, tuple)) else sorted(members)
        else:
            yield f"{kind.__module__}.{kind.__qualname__}"
            if isinstance(value, torch.Generator):
                yield f"seed {value.initial_seed()}"
            if isinstance(value, nn.Module):
                yield self.digest(dict(value.state_dict()))
            for name, member in attributes(value):
                yield name
                yield self.digest(member)


def _array_parts(value: Any) -> Iterator[str | np.ndarray]:
    """Yield shape, type and bytes of a tensor or array; one on the meta device has none."""
    shape, dtype = tuple(value.shape), value.dtype
    yield f"{shape} {dtype}"
    if isinstance(value, Tensor):
        if value.device.type == "meta":
            return
        value = _bytes_of(value)
    else:
        value = np.asarray(value)
    if value.dtype.hasobject:
        yield digest(value.tolist())
    elif value.nbytes <= WHOLE:
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    else:
        yield from _pieces(value)


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the public attributes that an object holds, of a loader only those that decide its batches."""
    if isinstance(value, DataLoader):
        yield from ((name, getattr(value, name, None)) for name in LOADER)
    elif not isinstance(value, (Iterator, random.Random)):
        slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
        held = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
        yield from ((k, v) for k, v in held.items() if not k.startswith("_") and k not in CHANGING)


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def function_name(function: Any, within: tuple = ()) -> str:
    """Return the qualified name of a function or class; one that its name does not tell apart gets a digest, too.

    That is one from a notebook or from within another function: its code counts, and the numbers, texts, tensors and
    functions that it has taken from around it. `within` are functions under way.
    """
    if isinstance(function, functools.partial):
        return f"partial of {function_name(function.func)} {digest(list(function.args), function.keywords)}"
    name = f"{function.__module__}.{function.__qualname__}"
    if not (function.__module__ == "__main__" or "<" in name) or any(function is other for other in within):
        return name
    within = (*within, function)
    if isinstance(function, type):
        methods = {key: function_name(value, within) for key, value in vars(function).items() if _has_code(value)}
        return f"{name} {digest(methods)}" if methods else name
    if not _has_code(function):
        return name
    around = [cell.cell_contents for cell in function.__closure__ or () if filled(cell)]
    taken = [v if isinstance(v, (*ATOMS, Tensor)) else function_name(v, within) if is_named(v) else "" for v in around]
    return f"{name} {digest(_code(function.__code__), taken, function.__defaults__, function.__kwdefaults__)}"


def _has_code(value: Any) -> bool:
    return hasattr(value, "__code__") and hasattr(value, "__qualname__")


def _code(code: CodeType) -> list:
    constants = [_code(value) if isinstance(value, CodeType) else value for value in code.co_consts]
    return [code.co_code, constants, code.co_names]


def is_named(value: Any) -> bool:
    """Whether a value is a function, a method or a class."""
    if isinstance(value, functools.partial):
        return is_named(value.func)
    return hasattr(value, "__qualname__") and hasattr(value, "__module__")


def _bytes_of(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return tensor.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.reshape(-1)
    size = max(1, PIECE // flat.itemsize)
    for start in np.linspace(0, len(flat) - size, PIECES).astype(np.int64):
        yield np.ascontiguousarray(flat[start : start + size]).view(np.uint8)
