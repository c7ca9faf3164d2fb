"""Tells errors from inside torch, which name no argument, from those that a caller's own code raises on purpose."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

KINDS = (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError)  # these and no class below them
PLACES = tuple(f"{Path(torch.__file__).parent.parent / name}/" for name in ("torch", "torchvision"))
OURS = f"{Path(__file__).parent}/"


@contextmanager
def explained(inputs: Sequence[Any], name: str = "example_inputs") -> Iterator[None]:
    """Turn an error from inside torch, raised while a model runs, into a ValueError that tells the inputs' shapes."""
    try:
        yield
    except KINDS as error:
        if not from_below(error):
            raise
        each = [part for item in inputs for part in (item if isinstance(item, (list, tuple)) else [item])]
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in each)
        raise ValueError(f"{name}: the model fails on inputs of shape {shapes}: {first_line(error)}") from error


def run(model: nn.Module, *inputs: Any, name: str = "inputs") -> Any:
    """Return what a model gives; an error from inside torch becomes a ValueError of the named argument."""
    with explained(inputs, name):
        return model(*inputs)


def from_below(error: Exception) -> bool:
    """Whether torch raised it, or code of this package that does not say what is wrong."""
    if type(error) not in KINDS or "allocate" in str(error):
        return False
    last = innermost(error)
    return last.startswith(PLACES) or (last.startswith(OURS) and not isinstance(error, ValueError))


def innermost(error: Exception) -> str:
    """Return the file whose line raised it."""
    return traceback.extract_tb(error.__traceback__)[-1].filename


def first_line(error: Exception) -> str:
    """Return the first line of its message, or its class where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
