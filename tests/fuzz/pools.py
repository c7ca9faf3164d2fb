"""Bad values by kind: a label and a function from the valid value to a bad one. Two classes: wrong types, wrong values.

Labels stand in the reproducing lines, so they are stable; a value that does not differ from the valid one is skipped.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Pool = dict[str, Callable[[Any], Any]]
HUGE = 10**7

TYPES: Pool = {
    "None": lambda _: None,
    "text": lambda _: "no such thing",
    "empty text": lambda _: "",
    "dict": lambda _: {"a": 1},
    "list": lambda _: [1, "two"],
    "object": lambda _: object(),
    "module": lambda _: nn.Linear(2, 2),
    "function of nothing": lambda _: lambda: None,
    "class": lambda _: int,
    "bytes": lambda _: b"\x00",
}
NUMBERS: Pool = {
    "nan": lambda _: math.nan,
    "inf": lambda _: math.inf,
    "-inf": lambda _: -math.inf,
    "-1": lambda _: -1,
    "0": lambda _: 0,
    "huge": lambda _: HUGE,
    "half": lambda _: 0.5,
    "1.5": lambda _: 1.5,
    "1e308": lambda _: 1e308,
    "tensor of two": lambda _: torch.ones(2),
}
WORDS: Pool = {
    "unknown word": lambda _: "no such thing",
    "empty word": lambda _: "",
    "word with NUL": lambda _: "a\0b",
    "two words": lambda _: ["grouped", "quick"],
    "one as a number": lambda _: 1,
}
PATHS: Pool = {
    "path with NUL": lambda _: "a\0b",
    "folder": lambda _: Path(tempfile.mkdtemp()),
    "missing folder": lambda _: Path("nowhere/at/all"),
    "file for a folder": lambda _: _foreign() / "inside",
    "long name": lambda value: Path(str(value) + "x" * 300),
    "foreign file": lambda _: _foreign(),
}
SEQUENCES: Pool = {
    "empty": lambda value: type(value)(),
    "one short": lambda value: value[:-1],
    "one long": lambda value: value + value[-1:],
    "of None": lambda value: type(value)([None] * len(value)),
    "of text": lambda value: type(value)(["no such thing"] * len(value)),
    "of -1": lambda value: type(value)([-1] * len(value)),
    "of nan": lambda value: type(value)([math.nan] * len(value)),
    "of lists": lambda value: type(value)([[]] * len(value)),
    "a number": lambda _: 3,
}
MAPPINGS: Pool = {
    "empty": lambda _: {},
    "unknown key": lambda value: {**value, "no such thing": next(iter(value.values()), None)},
    "one missing": lambda value: dict(list(value.items())[1:]),
    "of None": lambda value: dict.fromkeys(value),
    "of text": lambda value: dict.fromkeys(value, "no such thing"),
    "of -1": lambda value: dict.fromkeys(value, -1),
    "of nan": lambda value: dict.fromkeys(value, math.nan),
    "number for a key": lambda value: dict(enumerate(value.values())),
}
BATCHES: Pool = {
    "empty list": lambda _: [],
    "empty generator": lambda _: iter(()),
    "without targets": lambda value: [x for x, _ in value],
    "triples": lambda value: [(x, y, y) for x, y in value],
    "empty batches": lambda value: [(x[:0], y[:0]) for x, y in value],
    "fewer targets": lambda value: [(x, y[:-1]) for x, y in value],
    "targets out of range": lambda value: [(x, y + 1000) for x, y in value],
    "negative targets": lambda value: [(x, y - 1000) for x, y in value],
    "targets as floats": lambda value: [(x, y.double() + 0.5) for x, y in value],
    "targets of two dimensions": lambda value: [(x, y[:, None].expand(-1, 2)) for x, y in value],
    "inputs of nan": lambda value: [(torch.full_like(x, math.nan), y) for x, y in value],
    "inputs of two dimensions": lambda value: [(x.flatten(1), y) for x, y in value],
    "one channel more": lambda value: [(torch.cat([x, x[:, :1]], 1), y) for x, y in value],
    "inputs as whole numbers": lambda value: [(x.long(), y) for x, y in value],
    "inputs as text": lambda value: [("no such thing", y) for _, y in value],
    "inputs as None": lambda value: [(None, y) for _, y in value],
    "inputs on meta": lambda value: [(x.to("meta"), y) for x, y in value],
    "a set, not its batches": lambda _: {1, 2},
}
MODELS: Pool = {
    "without parameters": lambda _: nn.Identity(),
    "other inputs": lambda _: nn.Linear(3, 2),
    "a part": lambda value: next(value.children(), nn.ReLU()),
    "of nan": lambda value: _filled(value, math.nan),
    "on meta": lambda value: _copy(value).to("meta"),
    "of doubles": lambda value: _copy(value).double(),
    "gives a tuple": lambda value: _Tuple(value),
    "gives a constant": lambda _: _Constant(),
    "an empty chain": lambda _: nn.Sequential(),
    "its class": lambda value: type(value),
}
FUNCTIONS: Pool = {
    "of nothing": lambda _: lambda: None,
    "of everything, gives None": lambda _: lambda *_, **__: None,
    "gives text": lambda _: lambda *_, **__: "no such thing",
    "gives nan": lambda _: lambda *_, **__: math.nan,
    "gives an empty tensor": lambda _: lambda *_, **__: torch.empty(0),
    "gives another shape": lambda _: lambda *_, **__: torch.ones(2, 5, 7),
}
GENERATORS: Pool = {"a seed": lambda _: 0, "numpy's": lambda _: np.random.default_rng(0)}
DEVICES: Pool = {"unknown word": lambda _: "no such thing", "absent": lambda _: "cuda:99", "a number": lambda _: 99}
DTYPES: Pool = {
    "whole numbers": lambda _: torch.int64,
    "complex": lambda _: torch.complex64,
    "bool": lambda _: torch.bool,
}
BOOLS: Pool = {"word for a bool": lambda _: "no", "2": lambda _: 2}


def _tensors() -> Pool:
    def filled(number: float) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.full_like(x if x.is_floating_point() else x.float(), number)

    return {
        "one dimension more": lambda x: x[None],
        "one dimension more behind": lambda x: x[..., None],
        "one dimension less": lambda x: x[0] if x.ndim else x,
        "a number in a tensor": lambda _: torch.tensor(1.0),
        "flat": lambda x: x.reshape(-1),
        "one row short": lambda x: x[:-1],
        "one column short": lambda x: x.narrow(-1, 0, x.shape[-1] - 1) if x.ndim else x,
        "first two swapped": lambda x: x.transpose(0, 1) if x.ndim > 1 else x,
        "no rows": lambda x: x[:0],
        "no columns": lambda x: x.narrow(-1, 0, 0) if x.ndim else x,
        "uint8": lambda x: x.to(torch.uint8),
        "int64": lambda x: x.to(torch.int64),
        "bool": lambda x: x.bool(),
        "complex64": lambda x: x.to(torch.complex64),
        "float16": lambda x: x.to(torch.float16),
        "one nan": lambda x: _with(x, math.nan),
        "one inf": lambda x: _with(x, math.inf),
        "all nan": filled(math.nan),
        "all zero": lambda x: torch.zeros_like(x),
        "all -1": lambda x: torch.full_like(x, -1) if x.dtype != torch.bool else x,
        "all 1e30": filled(1e30),
        "meta": lambda x: x.to("meta"),
        "not contiguous": lambda x: torch.stack([x, x], -1)[..., 0],
        "a list of lists": lambda x: x.tolist(),
        "numpy": lambda x: x.numpy(),
        "sparse": lambda x: x.to_sparse() if x.ndim else x,
    }


TENSORS = _tensors()
FINE = {"not contiguous", "float16", "uint8", "int64", "bool", "of doubles"}  # may be accepted
WRONG_TYPES = {*TYPES, "numpy", "a list of lists", "its class", "one as a number", "a number", "of nothing", "a seed",
               "numpy's", "inputs as text", "inputs as None", "number for a key", "of None", "of text", "sparse",
               "word for a bool", "two words"}  # fmt: skip


def pool(value: Any) -> Pool:
    """The bad values that may take a valid one's place."""
    if isinstance(value, bool):
        return {**BOOLS, "None": TYPES["None"]}
    if _is_batches(value):
        return TYPES | BATCHES
    for kind, own, without in _KINDS:
        if isinstance(value, kind):
            return {label: make for label, make in TYPES.items() if label not in without} | own
    return TYPES


_KINDS: tuple[tuple[type | tuple[type, ...], Pool, tuple[str, ...]], ...] = (  # type, bad values, types that fit
    ((int, float), NUMBERS, ()),
    (Tensor, TENSORS, ()),
    (str, WORDS, ("text", "empty text")),
    (Path, PATHS, ("text", "empty text")),
    (nn.Module, MODELS, ("module",)),
    (torch.Generator, GENERATORS, ()),
    (torch.device, DEVICES, ()),
    (torch.dtype, DTYPES, ()),
    (Mapping, MAPPINGS, ("dict",)),
    ((list, tuple), SEQUENCES, ("list",)),
    (Callable, FUNCTIONS, ("function of nothing",)),
)


def _foreign() -> Path:
    """A file of another kind, made to be overwritten."""
    path = Path(tempfile.mkdtemp()) / "foreign"
    path.write_text("text = 1\n", encoding="utf-8")
    return path


def _is_batches(value: Any) -> bool:
    pair = value[0] if isinstance(value, list) and value else None
    return isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(item, Tensor) for item in pair)


def _with(x: Tensor, number: float) -> Tensor:
    x = (x if x.is_floating_point() else x.float()).clone()
    x.reshape(-1)[:1] = number
    return x


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def _filled(model: nn.Module, number: float) -> nn.Module:
    model = _copy(model)
    for parameter in model.parameters():
        nn.init.constant_(parameter, number)
    return model


class _Tuple(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inner(x)
        return x, x


class _Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: object) -> Tensor:
        return self.weight.new_ones(2, 4)
