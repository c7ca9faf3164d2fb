"""Accuracy of a classifier over an image set or any iterable of (inputs, targets)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.measure.batches import classified, pairs
from compactvision.measure.state import evaluating, placement

Batches = Iterable[tuple[Any, Tensor]]
"""Anything that yields inputs (B, ...) and integer targets (B,), or has ``batches(size, device=...)`` that does."""

BATCH_SIZE = 500  # of an image set


def accuracy(model: nn.Module, batches: Batches, *, top: int = 1, ignore: int | None = None) -> float:
    """Return the share of targets that are among the ``top`` highest logits.

    Parameters
    ----------
    model : nn.Module
        Maps inputs to logits (B, C), or (B, C, ...) with one class a position; run in evaluation mode without
        gradients and left as it was.
    batches : iterable of (Tensor, Tensor) or ImageSet
        Inputs (B, ...) and integer targets (B,), or (B, ...) with one class a position. They are moved to the model's
        device. Inputs may be a list of tensors, which the model takes as one argument. An image set is read in batches
        of 500.
    top : int, default 1
        How many of the highest logits count as a hit.
    ignore : int, optional
        Label of targets that do not count, such as 255.

    Returns
    -------
    float
        In [0, 1]; every target weighs the same, whatever the size of its batch.

    Raises
    ------
    ValueError
        If ``batches`` is empty or every target is ignored, logits and targets do not fit, a target is no class, a logit
        is NaN, or ``top`` is not between 1 and the number of classes.

    Examples
    --------
    >>> from compactvision import data, measure, models
    >>> measure.accuracy(models.pretrained("resnet20_glyphs"), data.load("glyphs", train=False, n=100)) > 0.8
    True
    """
    checks.whole(top=top)
    hits = seen = 0
    with evaluating(model):
        for logits, targets in _logits(model, batches, ignore):
            right, counted = correct(logits, targets, top), kept(targets, ignore)
            hits += int((right & counted).sum())
            seen += int(counted.sum())
    _refuse_nothing(seen)
    return hits / seen


def correct(logits: Tensor, targets: Tensor, top: int = 1) -> Tensor:
    """Return which targets (B, ...) are among the ``top`` highest logits (B, C, ...): (B, ...) bool.

    Raises a ValueError if ``top`` is not between 1 and C.
    """
    checks.whole(top=top)
    if not 1 <= top <= logits.shape[1]:
        raise ValueError(f"top must be between 1 and the {logits.shape[1]} classes, got {top}")
    best = logits.topk(top, dim=1).indices if top > 1 else logits.argmax(1, keepdim=True)  # (B, top, ...)
    return (best == targets.unsqueeze(1)).any(1)


def kept(targets: Tensor, ignore: int | None) -> Tensor:
    """Return which targets count: all but those with the label ``ignore``."""
    return torch.ones_like(targets, dtype=torch.bool) if ignore is None else targets != ignore


def confusion(model: nn.Module, batches: Batches, num_classes: int, *, ignore: int | None = None) -> Tensor:
    """Return how often each class was predicted as each class.

    Parameters
    ----------
    model, batches, ignore
        As for :func:`accuracy`.
    num_classes : int
        Number of classes C, equal to the logits' second dimension.

    Returns
    -------
    Tensor
        (C, C) int64 on the CPU; rows are the true classes, columns the predicted ones.

    Raises
    ------
    ValueError
        As for :func:`accuracy`, and if the logits have another number of classes.
    """
    checks.counts(num_classes=num_classes)
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.long)
    with evaluating(model):
        for logits, targets in _logits(model, batches, ignore):
            if logits.shape[1] != num_classes:
                raise ValueError(f"num_classes is {num_classes} but the logits have {logits.shape[1]} classes")
            counted = kept(targets, ignore)
            both = targets[counted].long() * num_classes + logits.argmax(1)[counted]  # (positions that count,)
            matrix += torch.bincount(both, minlength=num_classes**2).reshape(num_classes, num_classes).cpu()
    _refuse_nothing(int(matrix.sum()))
    return matrix


def per_class_accuracy(model: nn.Module, batches: Batches, num_classes: int, *, ignore: int | None = None) -> Tensor:
    """Return the accuracy on the targets of each class; arguments and errors as for :func:`confusion`.

    Returns
    -------
    Tensor
        (C,) float64 on the CPU, in [0, 1]; NaN for a class that has no target.
    """
    matrix = confusion(model, batches, num_classes, ignore=ignore).double()
    return matrix.diagonal() / matrix.sum(dim=1)


def _refuse_nothing(seen: int) -> None:
    if seen == 0:
        raise ValueError("batches: every target is ignored, there is nothing to measure")


def _logits(model: nn.Module, batches: Batches, ignore: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield checked logits (B, C, ...) and targets (B, ...) on the model's device."""
    if ignore is not None:
        checks.whole(ignore=ignore)
    device, _ = placement(model)
    if hasattr(batches, "batches") and not isinstance(batches, type):
        batches = batches.batches(BATCH_SIZE, device=device)
    index = -1
    for index, (inputs, targets) in enumerate(pairs(batches, device)):
        logits = run(model, inputs, name="batches")
        classified(logits, targets, index, ignore)
        yield logits, targets
    if index < 0:
        raise ValueError("batches is empty: there is nothing to measure")
