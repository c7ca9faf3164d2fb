"""Reads batches of inputs and targets, and checks what a classifier makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from compactvision import _checks as checks


def pairs(batches: Iterable[tuple[Any, Tensor]], device: torch.device) -> Iterator[tuple[Any, Tensor]]:
    """Yield the inputs and targets of batches on a device; a ValueError where they are no pairs of tensors.

    Inputs may be a list of tensors, such as the maps of an encoder.
    """
    check_iterable(batches)
    if device.type == "meta":
        raise ValueError("model must hold numbers, but it is on the meta device")
    for index, batch in enumerate(batches):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                f"batches must be pairs of inputs and targets, got {checks.shown(batch)} as number {index}"
            )
        several = isinstance(batch[0], (list, tuple)) and len(batch[0]) > 0
        for tensor in batch[0] if several else (batch[0],):
            checks.tensors(**{f"batches[{index}] (inputs)": tensor})
        checks.tensors(**{f"batches[{index}] (targets)": batch[1]})
        inputs = [tensor.to(device) for tensor in batch[0]] if several else batch[0].to(device)
        yield inputs, batch[1].to(device)


def check_iterable(batches: Any) -> None:
    """Raise a ValueError for what cannot be read in a loop."""
    if isinstance(batches, (str, bytes, type)) or not (
        isinstance(batches, Iterable) or hasattr(batches, "__getitem__")
    ):
        raise ValueError(f"batches must be pairs of inputs and targets, got {checks.shown(batches)}")


def fitting(logits: Any, targets: Tensor) -> None:
    """Raise a ValueError unless the cross-entropy of a batch exists; targets may be probabilities of logits' shape."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"loss: the model returns a {type(logits).__name__}; pass a loss that takes it")
    if not (targets.is_floating_point() and targets.shape == logits.shape):
        classified(logits, targets)


def classified(logits: Any, targets: Tensor, index: int | None = None, ignore: int | None = None) -> None:
    """Raise a ValueError unless logits are (B, C, ...) without NaN, and targets (B, ...) whole numbers in [0, C).

    A target may be ``ignore``, too.
    """
    where = "in batches" if index is None else f"in batch {index} of batches"
    if not isinstance(logits, Tensor):
        raise ValueError(f"model must give logits (B, C, ...), got {checks.shown(logits)} {where}")
    if logits.ndim < 2 or targets.shape != logits.shape[:1] + logits.shape[2:]:
        shapes = f"{tuple(logits.shape)} and {tuple(targets.shape)}"
        raise ValueError(f"logits must be (B, C, ...) and targets (B, ...), got {shapes} {where}")
    if targets.is_floating_point():
        raise ValueError(f"targets must be integers, got {targets.dtype} {where}")
    if targets.numel() == 0:
        raise ValueError(f"targets are empty {where}")
    if logits.isnan().any():
        raise ValueError(f"logits hold NaN {where}")
    counted = targets if ignore is None else targets[targets != ignore]
    if counted.numel() == 0:
        return
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"targets must lie in 0..{logits.shape[1] - 1}, got {low}..{high} {where}")
