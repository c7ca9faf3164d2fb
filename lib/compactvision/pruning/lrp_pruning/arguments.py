"""Checks of arguments that the files of this package share; those of rules read no values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compactvision import _checks as checks

INITIAL = ("one-hot", "logit")


def settings(initial_relevance: Any, rules: Any, default: Any) -> None:
    """Refuse a way to begin that is unknown, and rules that are no functions."""
    checks.one_of(INITIAL, initial_relevance=initial_relevance)
    checks.functions(5, default=default)
    checks.mappings(rules={} if rules is None else rules)
    checks.functions(5, **{f"rules[{name!r}]": rule for name, rule in (rules or {}).items()})


def layer(apply: Any, a: Any, weight: Any, bias: Any, relevance: Any, *, name: str = "weight") -> None:
    """Refuse what is no layer with inputs and relevance: types, and shapes as far as they show in the weights."""
    checks.functions(2, apply=apply)
    checks.floating(**{"a": a, name: weight, "relevance": relevance})
    flat = weight.ndim == 2  # reads the last dimension, a convolution the channels, of which groups read a part
    fits = weight.ndim >= 2 and weight.numel() > 0 and (a.ndim >= 2 if flat else a.ndim == weight.ndim)
    if fits:
        fits = a.shape[-1] == weight.shape[1] if flat else a.shape[1] > 0 and a.shape[1] % weight.shape[1] == 0
    if not fits:
        wanted = "apply must be a layer and a its inputs"
        raise ValueError(f"{wanted}, got a {tuple(a.shape)} for {name} {tuple(weight.shape)} and apply {apply!r}")
    same = a.device == weight.device and (a.dtype == weight.dtype or torch.is_autocast_enabled(a.device.type))
    if not same:
        raise ValueError(f"a and {name} must have one dtype and device, got {checks.shown(a)}, {checks.shown(weight)}")
    if bias is None:
        return
    checks.tensors(bias=bias)
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape {tuple(weight.shape[:1])}, got {tuple(bias.shape)}")


def bounds(low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """Return the bounds of pixels as tensors; refuse what is no finite number and no such number for each channel."""
    for name, value in (("low", low), ("high", high)):
        if not isinstance(value, Tensor):
            checks.numbers(**{name: value})
        checks.tensors(**{name: torch.as_tensor(value)})
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    if low.ndim > 1 or high.ndim > 1 or (low.ndim == high.ndim and low.shape != high.shape):
        raise ValueError(f"low and high must be numbers or (C,) each, got {tuple(low.shape)} and {tuple(high.shape)}")
    if not ((low < high) & low.isfinite() & high.isfinite()).all():
        raise ValueError(f"low must be below high, and both finite, got {low.tolist()} and {high.tolist()}")
    return low, high


def channels(bounds: tuple[Tensor, Tensor], a: Tensor) -> None:
    """Refuse bounds for another number of channels than the inputs have."""
    for name, bound in zip(("low", "high"), bounds, strict=True):
        if bound.ndim and bound.numel() != a.shape[1]:
            raise ValueError(f"{name} must be a number or ({a.shape[1]},), one a channel, got {tuple(bound.shape)}")


def handed_on(found: Any, a: Tensor, name: str) -> Tensor:
    """Return what a rule gave, and refuse what is no relevance of the layer's inputs."""
    if not isinstance(found, Tensor) or found.shape != a.shape or found.device != a.device:
        wanted = f"rules, default: the rule of layer {name!r} must give a tensor {tuple(a.shape)} on {a.device}"
        raise ValueError(f"{wanted}, got {checks.shown(found)}")
    return found
