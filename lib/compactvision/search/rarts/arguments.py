"""Checks of arguments that the files of this package share; each raises a ``ValueError`` that names the argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compactvision import _checks as checks

ORDERS = ("gauss-seidel", "jacobi")


def refuse_negative(**values: Any) -> None:
    """Refuse what is no finite number of at least 0."""
    checks.finite(**values)
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")


def refuse_not_positive(**values: Any) -> None:
    """Refuse what is no finite number above 0."""
    checks.finite(**values)
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def refuse_order(order: Any) -> None:
    """Refuse what is none of the two orders of updates."""
    checks.one_of(ORDERS, order=order)


def refuse_unstable(stable: bool, reason: str) -> None:
    """Refuse a problem without a minimum."""
    if not stable:
        raise ValueError(f"{reason}: the loss has no minimum, and the iterates run away")


def refuse_no_sequence(*, empty: bool = False, **values: Any) -> None:
    """Refuse what is no list or tuple, and one with nothing in it unless ``empty``."""
    for name, value in values.items():
        if not isinstance(value, (list, tuple)) or not (value or empty):
            raise ValueError(f"{name} must be a list or tuple that is not empty, got {checks.shown(value)}")


def refuse_no_quantity(**values: Any) -> None:
    """Refuse what is no number, array or tensor."""
    for name, value in values.items():
        if not isinstance(value, (int, float, np.ndarray, np.generic, Tensor)):
            raise ValueError(f"{name} must be a number, array or tensor, got {checks.shown(value)}")


def refuse_scores(**values: Any) -> None:
    """Refuse what maps anything but tuples of texts to anything but finite numbers, or nothing at all."""
    checks.mappings(**values)
    for name, value in values.items():
        if not value:
            raise ValueError(f"{name} must hold at least one number, got none")
        for key, number in value.items():
            if not isinstance(key, tuple) or not all(isinstance(part, str) for part in key):
                raise ValueError(f"{name} must have tuples of texts as keys, got {checks.shown(key)}")
            checks.finite(**{f"{name}[{key!r}]": number})


def leaves(**values: Any) -> None:
    """Refuse what is no series of different dense floating-point leaf tensors that ask for gradients."""
    for name, value in values.items():
        if not isinstance(value, Iterable) or isinstance(value, (Tensor, str, bytes, Mapping)):
            raise ValueError(f"{name} must be a sequence of tensors, got {checks.shown(value)}")
        for index, tensor in enumerate(value):
            checks.floating(**{f"{name}[{index}]": tensor})
            if not (tensor.is_leaf and tensor.requires_grad):
                raise ValueError(f"{name}[{index}] must be a leaf that requires a gradient")
        if len(set(map(id, value))) < len(list(value)) or not list(value):
            raise ValueError(f"{name} must be different tensors, at least one")


def refuse_no_numbers(**networks: nn.Module) -> None:
    """Refuse networks with parameters that are not finite."""
    for name, network in networks.items():
        if not all(bool(torch.isfinite(tensor).all()) for tensor in network.parameters()):
            raise ValueError(f"{name} must have finite parameters")
