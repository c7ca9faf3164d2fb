"""Checks of arguments that many functions share: each takes them by name and raises a ``ValueError`` that tells it.

``checks.counts(blocks=blocks, width=width)`` looks at both; a range of its own stays in the function that has it.
"""

from __future__ import annotations

import inspect
import math
import numbers as _abstract
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def whole(**values: Any) -> None:
    """Refuse what is no whole number; True and False are none."""
    for name, value in values.items():
        try:
            operator.index(value)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{name} must be a whole number, got {shown(value)}") from None
        if isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number, got {value}")


def counts(**values: Any) -> None:
    """Refuse what is no whole number of at least 1."""
    whole(**values)
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def numbers(**values: Any) -> None:
    """Refuse what is no real number; a tensor with one entry is one. NaN and infinity are left to :func:`finite`."""
    for name, value in values.items():
        one = isinstance(value, Tensor) and value.numel() == 1 and not (value.is_complex() or value.is_meta)
        real = isinstance(value, _abstract.Real) and not isinstance(value, bool)
        if not (one or real):
            raise ValueError(f"{name} must be a number, got {shown(value)}")


def finite(**values: Any) -> None:
    """Refuse what is no finite real number."""
    numbers(**values)
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")


def device(device: Any) -> None:
    """Refuse what names no device that is here."""
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        raise ValueError(f"device must name one that is here, such as 'cpu', got {shown(device)}") from None


def flags(**values: Any) -> None:
    """Refuse what is neither True nor False: a word would be taken for True."""
    for name, value in values.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {shown(value)}")


def texts(**values: Any) -> None:
    """Refuse what is no text."""
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a text, got {shown(value)}")


def one_of(known: Iterable[str], **values: Any) -> None:
    """Refuse what is none of the known words."""
    words = list(known)
    for name, value in values.items():
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"{name} must be one of {', '.join(words)}, got {shown(value)}")


def tensors(**values: Any) -> None:
    """Refuse what is no dense tensor of real numbers on a device that holds them."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a tensor, got {shown(value)}")
        if value.is_meta or value.is_complex() or value.layout != torch.strided:
            raise ValueError(f"{name} must be a dense tensor of real numbers, got {shown(value)}")


def floating(**values: Any) -> None:
    """Refuse what is no dense floating-point tensor."""
    for name, value in values.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ValueError(f"{name} must be a floating-point tensor, got {shown(value)}")
    tensors(**values)


def networks(**values: Any) -> None:
    """Refuse what is no module."""
    for name, value in values.items():
        if not isinstance(value, nn.Module):
            raise ValueError(f"{name} must be a torch.nn.Module, got {shown(value)}")


def generators(**values: Any) -> None:
    """Refuse what is no generator of torch; None stands for the global one."""
    for name, value in values.items():
        if value is not None and not isinstance(value, torch.Generator):
            raise ValueError(f"{name} must be a torch.Generator, got {shown(value)}")


def instances(kind: type | tuple[type, ...], **values: Any) -> None:
    """Refuse what is of no such class."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    for name, value in values.items():
        if not isinstance(value, kinds):
            wanted = " or ".join(each.__name__ for each in kinds)
            raise ValueError(f"{name} must be of class {wanted}, got {shown(value)}")


def functions(takes: int, /, *, optional: bool = False, networks: bool = False, **values: Any) -> None:
    """Refuse what is no function of so many arguments: a class is none, None and a network only where they may be."""
    for name, value in values.items():
        if value is None and optional:
            continue
        refused = isinstance(value, type) or (isinstance(value, nn.Module) and not networks)
        if refused or not callable(value) or not _takes(value, takes):
            raise ValueError(f"{name} must be a function of {takes} argument{'s' * (takes != 1)}, got {shown(value)}")


def _takes(value: Any, count: int) -> bool:
    try:
        signature = inspect.signature(value.forward if isinstance(value, nn.Module) else value)
    except (TypeError, ValueError):  # a function of C may not say what it takes
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def materialised(**values: Any) -> None:
    """Refuse what is no module, or one whose tensors are on the meta device, where there are no numbers."""
    networks(**values)
    for name, value in values.items():
        if any(tensor.is_meta for tensor in [*value.parameters(), *value.buffers()]):
            raise ValueError(f"{name} must be on a device that holds numbers, but it is on meta")


def batches(**values: Any) -> None:
    """Refuse what cannot be a series of batches; each batch is left to :func:`pair`."""
    for name, value in values.items():
        series = hasattr(value, "__iter__") or hasattr(value, "__getitem__")
        if not series or isinstance(value, (str, bytes, Tensor, Mapping, type)):
            raise ValueError(f"{name} must be pairs of inputs and targets, got {shown(value)}")


def pair(batch: Any, *, targets: bool = True) -> tuple[Any, Any]:
    """Return inputs and targets of a batch, and refuse what is no pair of tensors; targets may be left unchecked."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(f"batches must be pairs of inputs and targets, got {shown(batch)}")
    tensors(**{"batches (inputs)": batch[0]})
    if targets:
        tensors(**{"batches (targets)": batch[1]})
    return batch[0], batch[1]


def mappings(**values: Any) -> None:
    """Refuse what is no mapping, such as a dict."""
    for name, value in values.items():
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a mapping, got {shown(value)}")


def shown(value: Any) -> str:
    """Return a value as a message shows it: a tensor by type, shape and place, something long by its type."""
    if isinstance(value, Tensor):
        place = "" if value.layout == torch.strided else f" ({value.layout})"
        return f"a tensor of {value.dtype} {tuple(value.shape)} on {value.device}{place}"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"
