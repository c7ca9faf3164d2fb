"""Checks that the methods of explanation share, each a ``ValueError`` that names the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from compactvision import _checks as checks


def axes(**values: tuple[Any, str]) -> None:
    """Refuse what is no tensor with these axes; an axis has the same length wherever it stands, at least 1.

    ``axes(activation=(activation, "B K H W"), weights=(weights, "B K"))``; "..." stands for any axes at one end.
    """
    lengths: dict[str, tuple[int, str]] = {}  # of each axis: its length, and which argument said so
    for name, (value, wanted) in values.items():
        checks.tensors(**{name: value})
        named = [axis for axis in wanted.split() if axis != "..."]
        sizes = value.shape[-len(named) :] if wanted.startswith("...") else value.shape[: len(named)]
        fits = value.ndim >= len(named) if "..." in wanted else value.ndim == len(named)
        known = [f"{axis} = {lengths[axis][0]} as in {lengths[axis][1]}" for axis in named if axis in lengths]
        fits = fits and all(lengths.setdefault(axis, (n, name))[0] == n for axis, n in zip(named, sizes, strict=True))
        if not fits:
            where = f" with {', '.join(known)}" if known else ""
            raise ValueError(
                f"{name} must have the shape ({', '.join(wanted.split())}){where}, got {tuple(value.shape)}"
            )
        if 0 in value.shape:
            raise ValueError(f"{name} must not be empty, got the shape {tuple(value.shape)}")


def booleans(**values: Tensor) -> None:
    """Refuse tensors of anything but True and False."""
    for name, value in values.items():
        checks.tensors(**{name: value})
        if value.dtype != torch.bool:
            raise ValueError(f"{name} must be bool, got {checks.shown(value)}")


def labels(targets: Any) -> None:
    """Refuse targets that are no tensor (N,) of int64."""
    axes(targets=(targets, "N"))
    if targets.dtype != torch.int64:
        raise ValueError(f"targets must be of torch.int64, got {checks.shown(targets)}")


def classes(targets: Any, num_classes: Any) -> None:
    """Refuse targets that are no numbers of classes, (N,) int64 in [0, num_classes)."""
    labels(targets)
    checks.counts(num_classes=num_classes)
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"targets must lie in [0, {num_classes}), as num_classes says, got {low} to {high}")


def height_and_width(size: Any) -> None:
    """Refuse a size that is not two whole numbers of at least 1."""
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or isinstance(size, (str, bytes)):
        raise ValueError(f"size must be a height and a width, got {checks.shown(size)}")
    checks.counts(**{"size[0]": sides[0], "size[1]": sides[1]})


def chosen(count: int, device: torch.device, **value: Any) -> Tensor:
    """Return which of ``count`` things are meant, by one number, numbers or a mask: (M,) int64 or (count,) bool.

    Negative numbers count from the end.
    """
    ((name, given),) = value.items()
    try:
        numbers = torch.as_tensor(given)
        checks.tensors(**{name: numbers})
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be whole numbers or a mask, got {checks.shown(given)}") from None
    if numbers.ndim > 1:
        raise ValueError(f"{name} must be numbers in one row, got the shape {tuple(numbers.shape)}")
    numbers = numbers.reshape(-1)
    if numbers.dtype == torch.bool and len(numbers) == count:
        return numbers.to(device)
    if len(numbers) and (numbers.is_floating_point() or numbers.dtype in (torch.bool, torch.uint8)):
        raise ValueError(f"{name} must be whole numbers or a mask of {count}, got {checks.shown(given)}")
    numbers = numbers.long()
    if len(numbers) and not -count <= int(numbers.min()) <= int(numbers.max()) < count:
        raise ValueError(f"{name} must lie in [0, {count}), got {checks.shown(given)}")
    return numbers.to(device)
