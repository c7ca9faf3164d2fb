"""Checks of arguments that the files of this package share; each raises a ``ValueError`` that names the argument."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compactvision import _checks as checks
from compactvision import surgery


def refuse_shape(shape: Any) -> None:
    """Refuse what is no shape (N, C, kh, kw) of a kernel."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 4:
        raise ValueError(f"shape must be (N, C, kh, kw), got {checks.shown(shape)}")
    checks.counts(**{f"shape[{place}]": size for place, size in enumerate(shape)})


def refuse_point(shape: Any, channels: Any, rank: Any = None) -> None:
    """Refuse what is no point (channels, rank) of a layer; ranks may be larger than the layer's."""
    refuse_shape(shape)
    checks.counts(channels=channels)
    if channels > shape[1]:
        raise ValueError(f"channels must be at most the shape's {shape[1]}, got {channels}")
    if rank is not None:
        checks.counts(rank=rank)


def refuse_rate(**values: Any) -> None:
    """Refuse what is no number in [0, 1]."""
    checks.numbers(**values)
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")


def refuse_index(length: int, **values: Any) -> None:
    """Refuse what is no whole number from 0 on and below a length."""
    checks.whole(**values)
    for name, value in values.items():
        if not 0 <= value < length:
            raise ValueError(f"{name} must be from 0 to {length - 1}, got {value}")


def refuse_gamma(gamma: Any) -> None:
    """Refuse what is no finite number of at least 0."""
    checks.numbers(gamma=gamma)
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be a finite number >= 0, got {gamma}")


def refuse_graph(graph: Any) -> None:
    """Refuse what is no graph of a network that holds numbers."""
    checks.instances(surgery.ChannelGraph, graph=graph)


def refuse_numbers(**values: Any) -> None:
    """Refuse what maps anything but names to finite numbers."""
    checks.mappings(**values)
    for name, value in values.items():
        for key, number in value.items():
            checks.texts(**{f"{name} (a key)": key})
            checks.finite(**{f"{name}[{key!r}]": number})


def refuse_tensors(**values: Any) -> None:
    """Refuse what maps anything but names to dense tensors."""
    checks.mappings(**values)
    for name, value in values.items():
        for key, tensor in value.items():
            checks.floating(**{f"{name}[{key!r}]": tensor})


def refuse_kernel(kernel: Any, gradient: Any) -> None:
    """Refuse what is no pair of finite tensors (N, C, kh, kw) of one shape."""
    checks.floating(kernel=kernel, gradient=gradient)
    if kernel.ndim != 4 or kernel.numel() == 0:
        raise ValueError(f"kernel must be (N, C, kh, kw), got shape {tuple(kernel.shape)}")
    if gradient.shape != kernel.shape:
        raise ValueError(f"gradient must have the shape of kernel, {tuple(kernel.shape)}, got {tuple(gradient.shape)}")
    refuse_infinite(kernel=kernel, gradient=gradient)


def refuse_infinite(**values: Tensor) -> None:
    """Refuse tensors with NaN or infinity."""
    for name, tensor in values.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinite entries")


def refuse_instances(kind: type, **values: Mapping) -> None:
    """Refuse what maps anything but names to objects of a class."""
    checks.mappings(**values)
    for name, value in values.items():
        for key, item in value.items():
            checks.instances(kind, **{f"{name}[{key!r}]": item})
