"""How well detected boxes agree with true ones: average precision as COCO defines it.

Boxes are ``(x0, y0, x1, y1)`` in pixels, x1 and y1 exclusive. What a detector found in an image is a
:class:`Detections`; true objects are a padded tensor (N, M, 5) with the class in the fifth column (-1: no object), as
image sets with boxes have them, or a list of (M_i, 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.measure.batches import pairs
from compactvision.measure.box_rows import class_count, gathered
from compactvision.measure.matching import matched
from compactvision.measure.state import evaluating, placement

THRESHOLDS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
"""Intersections over union of COCO's mean: 0.50, 0.55, ..., 0.95."""
MOST = 100
RECALLS = np.linspace(0, 1, 101)
BATCH_SIZE = 100  # of an image set

__all__ = ["AveragePrecision", "Detections", "average_precision", "box_iou", "detected"]


class Detections(NamedTuple):
    """What was found in one image, in any order."""

    boxes: Tensor  # (K, 4)
    scores: Tensor  # (K,), higher is surer
    classes: Tensor  # (K,) int64


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision in [0, 1] of a set of images.

    Attributes
    ----------
    table : Tensor
        (T, C) float64: a row for each threshold, a column for each class; NaN for a class that no target has.
    thresholds : tuple of float
        The T least intersections over union.
    """

    table: Tensor
    thresholds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over thresholds and over the classes that targets have: COCO's AP with the default thresholds."""
        return float(self.table.nanmean())

    @property
    def by_class(self) -> Tensor:
        """Mean over thresholds for each class: (C,) float64, NaN for a class that no target has."""
        return self.table.mean(0)

    def at(self, threshold: float) -> float:
        """Return the mean over classes at one of the thresholds, which a ``ValueError`` lists otherwise."""
        checks.finite(threshold=threshold)
        near = [row for row, value in enumerate(self.thresholds) if abs(value - threshold) < 1e-9]
        if not near:
            known = ", ".join(f"{value:g}" for value in self.thresholds)
            raise ValueError(f"threshold must be one of {known}, got {threshold}")
        return float(self.table[near[0]].nanmean())

    def numbers(self) -> dict[str, float]:
        """Return ``{"ap": ..., "ap50": ..., "ap75": ...}``, the latter two where they are among the thresholds."""
        found = {"ap": self.mean}
        for name, threshold in (("ap50", 0.5), ("ap75", 0.75)):
            if any(abs(value - threshold) < 1e-9 for value in self.thresholds):
                found[name] = self.at(threshold)
        return found


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of all pairs of boxes; 0 where both are empty.

    Parameters
    ----------
    first, second : Tensor
        (..., N, 4) and (..., M, 4), x0 <= x1 and y0 <= y1.

    Returns
    -------
    Tensor
        (..., N, M) in [0, 1].

    Raises
    ------
    ValueError
        If they are no boxes.

    Examples
    --------
    >>> box_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [5, 5, 6, 6]]))
    tensor([[0.3333, 0.0000]])
    """
    for name, boxes in (("first", first), ("second", second)):
        checks.floating(**{name: boxes})
        if boxes.ndim < 2 or boxes.shape[-1] != 4:
            raise ValueError(f"{name} must be boxes (..., 4), got {checks.shown(boxes)}")
    if first.ndim != second.ndim or first.shape[:-2] != second.shape[:-2] or first.device != second.device:
        raise ValueError(f"second must lie beside first, {checks.shown(first)}, got {checks.shown(second)}")
    a, b = first[..., :, None, :], second[..., None, :, :]
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = inner.prod(-1)  # (..., N, M)
    together = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return torch.where(together > 0, shared / together.clamp(min=torch.finfo(shared.dtype).tiny), 0)


def average_precision(
    predictions: Sequence[Detections],
    targets: Tensor | Sequence[Tensor],
    *,
    num_classes: int | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    most: int = MOST,
) -> AveragePrecision:
    """Return the average precision of detections, as COCO's evaluation computes it :cite:p:`lin2014coco`.

    In each image and class, detections are taken from the surest on (at most ``most``); each takes the free true box
    that it overlaps most, if that is by at least the threshold, and is a false positive otherwise, as a second
    detection of one object is. Over all images together, from the surest on, precision is the share of detections so
    far that are right, recall the share of true boxes found. The result is the mean, over 101 recalls 0, 0.01, ..., 1,
    of the best precision that is reached at that recall or above.

    Detections of equal score keep the order of the images and, within one, that in which they are given; where scores
    differ, no order matters. Of true boxes that a detection overlaps equally much, it takes the last. There are no
    "crowd" regions.

    Parameters
    ----------
    predictions : sequence of Detections
        For each of N images boxes (K, 4), scores (K,) and classes (K,), or a tuple of these.
    targets : Tensor or sequence of Tensor
        True boxes with classes: (N, M, 5) with -1 for empty places, or N tensors (M_i, 5).
    num_classes : int, optional
        C, above every class number; by default as many as occur.
    thresholds : sequence of float
        Least intersections over union, in (0, 1].
    most : int
        Detections of a class that count in an image.

    Returns
    -------
    AveragePrecision
        With ``mean``, ``at(0.5)``, ``by_class`` and ``numbers()``.

    Raises
    ------
    ValueError
        If shapes or counts do not fit, a number is NaN or infinite, a class is out of range, or no image has an object.

    Examples
    --------
    >>> true = torch.tensor([[[0.0, 0, 10, 10, 0], [20, 20, 30, 30, 0]]])
    >>> found = Detections(true[0, :1, :4], torch.tensor([0.9]), torch.tensor([0]))
    >>> average_precision([found], true).numbers()  # half of the objects, and nothing else: 51 of 101 recalls
    {'ap': 0.504950495049505, 'ap50': 0.504950495049505, 'ap75': 0.504950495049505}
    """
    limits = _refuse_thresholds(thresholds)
    checks.counts(most=most)
    found, true = gathered(predictions, targets)
    classes = class_count(found[:, 1], true[:, 1], num_classes)
    found = _ranked(found, most)
    right = matched(found, true, limits)  # (T, K)
    table = np.full((len(limits), classes), np.nan)
    for number in np.unique(true[:, 1]).astype(int):
        mine = np.flatnonzero(found[:, 1] == number)
        mine = mine[np.argsort(-found[mine, 2], kind="stable")]
        table[:, number] = _precision(right[:, mine], int((true[:, 1] == number).sum()))
    return AveragePrecision(torch.from_numpy(table), tuple(limits.tolist()))


def detected(
    model: nn.Module, batches: Iterable[tuple[Any, Tensor]], **options
) -> tuple[list[Detections], list[Tensor]]:
    """Return what a detector finds in batches, and what was there: the two arguments of :func:`average_precision`.

    Parameters
    ----------
    model : nn.Module
        With a method ``predict(inputs, **options)`` that gives a list of :class:`Detections`. Run in evaluation mode
        without gradients and left as it was.
    batches : iterable of (Tensor, Tensor) or ImageSet
        Images and padded boxes (B, M, 5); an image set is read in batches of 100.
    options
        Of ``predict``.

    Returns
    -------
    list of Detections, list of Tensor
        On the CPU, one for each image: what was found, and true boxes (M, 5) with empty places.

    Raises
    ------
    ValueError
        If ``model`` cannot predict, or ``batches`` are empty or have no boxes.
    """
    checks.networks(model=model)
    if not callable(getattr(model, "predict", None)):
        raise ValueError(f"model must have a method predict that gives detections, got {checks.shown(model)}")
    device, _ = placement(model)
    if hasattr(batches, "batches") and not isinstance(batches, type):
        batches = batches.batches(BATCH_SIZE, device=device)
    found: list[Detections] = []
    true: list[Tensor] = []
    with evaluating(model):
        for index, (inputs, targets) in enumerate(pairs(batches, device)):
            if targets.ndim != 3 or targets.shape[2] != 5:
                raise ValueError(f"batches[{index}] (targets) must be boxes (B, M, 5), got {checks.shown(targets)}")
            found += [Detections(*(part.cpu() for part in each)) for each in model.predict(inputs, **options)]
            true += list(targets.cpu())
    if not true:
        raise ValueError("batches is empty: there is nothing to measure")
    return found, true


def _precision(right: np.ndarray, total: int) -> np.ndarray:
    """Return the average precision (T,) of one class from its ranked detections (T, K), right or not."""
    hits = right.cumsum(1)  # (T, K)
    precision = hits / np.arange(1, right.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.concatenate([envelope, np.zeros((len(right), 1))], axis=1)  # beyond the last recall
    return np.stack([row[np.searchsorted(hit / total, RECALLS)].mean() for row, hit in zip(envelope, hits)])


def _ranked(found: np.ndarray, most: int) -> np.ndarray:
    """Order detections by image, class and falling score; keep ``most`` of an image and class."""
    found = found[np.lexsort((-found[:, 2], found[:, 1], found[:, 0]))]  # stable: equal scores keep their order
    first = np.ones(len(found), dtype=bool)
    first[1:] = (found[1:, :2] != found[:-1, :2]).any(1)
    starts = np.flatnonzero(first)
    rank = np.arange(len(found)) - starts[first.cumsum() - 1] if len(found) else np.arange(0)
    return found[rank < most]


def _refuse_thresholds(thresholds: Sequence[float]) -> np.ndarray:
    if not isinstance(thresholds, (list, tuple)) or not thresholds:
        raise ValueError(f"thresholds must be a sequence of numbers, got {checks.shown(thresholds)}")
    checks.finite(**{f"thresholds[{place}]": value for place, value in enumerate(thresholds)})
    if not all(0 < value <= 1 for value in thresholds):
        raise ValueError(f"thresholds must lie in (0, 1], got {checks.shown(thresholds)}")
    return np.array([float(value) for value in thresholds])
