"""Checks that the methods of pruning share, each a ``ValueError`` that names the argument."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from compactvision import _checks as checks

LARGEST = torch.finfo(torch.float32).max


def not_negative(**values: Any) -> None:
    """Refuse what is no finite number of at least 0, or more than float32 can hold."""
    checks.numbers(**values)
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        if value > LARGEST:
            raise ValueError(f"{name} must be a number that float32 can hold, got {value}")


def positive(**values: Any) -> None:
    """Refuse what is no finite number above 0, or more than float32 can hold."""
    checks.numbers(**values)
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    not_negative(**values)


def tensors_by_name(**values: Any) -> None:
    """Refuse what is no mapping whose values are dense tensors of real numbers."""
    checks.mappings(**values)
    for name, mapping in values.items():
        checks.tensors(**{f"{name}[{key!r}]": tensor for key, tensor in mapping.items()})


def weight_of(modules: Mapping[str, nn.Module], name: Any) -> nn.Parameter:
    """Return the weight of a layer; refuse a name that is unknown, and a weight that does not exist yet."""
    weight = getattr(modules.get(name), "weight", None) if isinstance(name, str) else None
    if not isinstance(weight, nn.Parameter):
        raise ValueError(f"layers: {checks.shown(name)} is no layer of the model with a weight")
    if nn.parameter.is_lazy(weight):
        raise ValueError(f"layers: the weight of {name!r} has no shape yet; run the model once, or leave it out")
    return weight
