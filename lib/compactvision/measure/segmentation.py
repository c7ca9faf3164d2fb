"""How well labels of pixels agree: intersection over union, by object size too, and boundaries.

All take label maps of a whole data set, (N, H, W) whole numbers, and add up counts over all of it before they divide
(``confusion`` gives the same matrix from a model and batches). A class that occurs in neither prediction nor target has
no value: NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from compactvision import _checks as checks

__all__ = ["boundary_f1", "confusion_of", "iou", "iou_by_size", "mean_iou"]


def confusion_of(predicted: Tensor, targets: Tensor, num_classes: int, *, ignore: int | None = None) -> Tensor:
    """Return how often each class was predicted as each class.

    Parameters
    ----------
    predicted, targets : Tensor
        Class numbers of equal shape, in 0..C-1.
    num_classes : int
        C.
    ignore : int, optional
        Label of targets that do not count, such as 255.

    Returns
    -------
    Tensor
        (C, C) int64 on the CPU; rows are the true classes, columns the predicted ones.

    Raises
    ------
    ValueError
        If shapes differ, a label is no class, or nothing is left to count.

    Examples
    --------
    >>> confusion_of(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 255]), 2, ignore=255)
    tensor([[1, 0],
            [0, 1]])
    """
    kept = _counted(predicted, targets, num_classes, ignore)
    both = targets[kept].long() * num_classes + predicted[kept].long()
    return torch.bincount(both, minlength=num_classes**2).reshape(num_classes, num_classes).cpu()


def iou(matrix: Tensor) -> Tensor:
    """Return the intersection over union of each class, ``TP / (TP + FP + FN)``.

    Parameters
    ----------
    matrix : Tensor
        A confusion matrix (C, C) of counts: rows are the true classes.

    Returns
    -------
    Tensor
        (C,) float64 on the CPU, in [0, 1]; NaN for a class that occurs neither in prediction nor in target.

    Raises
    ------
    ValueError
        If ``matrix`` is not square, holds what are no counts, or is empty.

    Examples
    --------
    >>> iou(torch.tensor([[3, 1], [0, 2]]))  # 3 / (3 + 1), 2 / (2 + 1)
    tensor([0.7500, 0.6667], dtype=torch.float64)
    """
    checks.tensors(matrix=matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or 0 in matrix.shape:
        raise ValueError(f"matrix must be (C, C), got {checks.shown(matrix)}")
    counts = matrix.double().cpu()
    if not (counts.isfinite().all() and (counts >= 0).all()):
        raise ValueError("matrix must hold counts, got negative, NaN or infinite entries")
    hits = counts.diagonal()
    return hits / (counts.sum(0) + counts.sum(1) - hits)


def mean_iou(matrix: Tensor, *, ignore: int | None = None) -> float:
    """Return the mean of :func:`iou` over the classes that occur in prediction or target, as segmentation is scored.

    The matrix is that of a whole data set, so that each pixel weighs the same. A class that occurs in neither is left
    out of the mean; one that is only predicted, or never found, counts as 0. It is ``JaccardIndex`` of torchmetrics
    (macro average), which leaves absent and ignored classes out in the same way.

    Parameters
    ----------
    matrix : Tensor
        A confusion matrix (C, C) of counts: rows are the true classes.
    ignore : int, optional
        The label that did not count in the matrix. Where it is a class, that class is left out; 255 changes nothing.

    Raises
    ------
    ValueError
        As for :func:`iou`, and if the matrix counts nothing.

    Examples
    --------
    >>> mean_iou(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))  # the third class does not occur
    0.7083333333333333
    """
    values = iou(matrix)
    if ignore is not None:
        checks.whole(ignore=ignore)
        if 0 <= ignore < len(values):
            values[ignore] = torch.nan
    if bool(values.isnan().all()):
        raise ValueError("matrix counts nothing: there is no class to take a mean over")
    return float(values.nanmean())


def boundary_f1(
    predicted: Tensor, targets: Tensor, num_classes: int, *, tolerance: int = 1, ignore: int | None = None
) -> Tensor:
    """Return how well the boundaries of each class agree :cite:p:`csurka2013`.

    A boundary pixel of a class belongs to it and has one of its four neighbours outside; the edge of the image and
    ignored neighbours make no boundary. Precision is the share of predicted boundary pixels with a true one at most
    ``tolerance`` rows and columns away, recall the reverse, and the result their harmonic mean. Counts are added up
    over all images, where the source takes a mean over images.

    Parameters
    ----------
    predicted, targets, num_classes, ignore
        As for :func:`confusion_of`, as maps (N, H, W).
    tolerance : int, default 1
        In pixels, along rows and columns (a square around each pixel).

    Returns
    -------
    Tensor
        (C,) float64 on the CPU; NaN for a class without a boundary in prediction and target.

    Raises
    ------
    ValueError
        As for :func:`confusion_of`, and if ``tolerance`` is negative.

    Examples
    --------
    >>> target = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    >>> boundary_f1(target.roll(1), target, 2, tolerance=0)
    tensor([0., 0.], dtype=torch.float64)
    """
    checks.whole(tolerance=tolerance)
    if tolerance < 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    valid = _counted(predicted, targets, num_classes, ignore, maps=True)
    found = torch.zeros(num_classes, dtype=torch.float64)
    reach = min(tolerance, max(targets.shape[1:]))
    for number in range(num_classes):
        ours, theirs = (_boundary((labels == number) & valid, valid) for labels in (predicted, targets))
        near_theirs, near_ours = _grown(theirs, reach), _grown(ours, reach)
        precision, recall = _share(ours & near_theirs, ours), _share(theirs & near_ours, theirs)
        none_at_all = not (bool(ours.any()) or bool(theirs.any()))
        found[number] = torch.nan if none_at_all else 2 * precision * recall / max(precision + recall, 1e-300)
    return found


def iou_by_size(
    predicted: Tensor,
    targets: Tensor,
    num_classes: int,
    edges: Sequence[float],
    *,
    background: int | None = 0,
    objects: Tensor | None = None,
    ignore: int | None = None,
) -> Tensor:
    """Return the intersection over union of each class for objects of each size.

    Objects are the connected pieces (along rows and columns) of a class in the target, or what ``objects`` numbers.
    Hits and misses are counted in the row of the object's size; a pixel that is wrongly given a class counts for the
    nearest object of that class in its image. Where the image has none, it counts in no row: :func:`mean_iou` sees
    it.

    Parameters
    ----------
    predicted, targets, num_classes, ignore
        As for :func:`confusion_of`, as maps (N, H, W).
    edges : sequence of float
        Rising sizes in pixels: row 0 is for objects smaller than the first, row k for those from ``edges[k - 1]`` on
        and smaller than ``edges[k]``.
    background : int, optional
        A class that is no object and gets NaN, 0 by default; None for none.
    objects : Tensor, optional
        Numbers (N, H, W) that tell the objects of an image apart; 0 belongs to none.

    Returns
    -------
    Tensor
        (len(edges) + 1, C) float64 on the CPU; NaN where there is no such object.

    Raises
    ------
    ValueError
        As for :func:`confusion_of`, and if ``edges`` do not rise or ``objects`` have another shape.
    """
    valid = _counted(predicted, targets, num_classes, ignore, maps=True)
    limits = _rising(edges)
    if background is not None:
        checks.whole(background=background)
    if objects is not None:
        checks.tensors(objects=objects)
        if objects.shape != targets.shape or objects.is_floating_point():
            raise ValueError(f"objects must be whole numbers {tuple(targets.shape)}, got {checks.shown(objects)}")
    hits, union = np.zeros((len(limits) + 1, num_classes)), np.zeros((len(limits) + 1, num_classes))
    said, true, counted = (each.cpu().numpy() for each in (predicted, targets, valid))
    numbered = None if objects is None else objects.cpu().numpy()
    classes = [number for number in range(num_classes) if number != background]
    for image, number in itertools.product(range(len(true)), classes):
        here, there = (true[image] == number) & counted[image], (said[image] == number) & counted[image]
        for size, right, either in _by_object(there, here, None if numbered is None else numbered[image]):
            row = np.searchsorted(limits, size, side="right")
            hits[row, number] += right
            union[row, number] += either
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(hits / union)


def _by_object(said: np.ndarray, here: np.ndarray, numbers: np.ndarray | None) -> Iterator[tuple[int, int, int]]:
    """Yield size, intersection and union of each object of one class in one image."""
    labels = ndimage.label(here)[0] if numbers is None else numbers * here
    names = np.unique(labels[labels != 0])
    if names.size == 0:
        return
    wrong = said & ~here
    owner = labels
    if wrong.any():
        nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
        owner = labels[tuple(nearest)]
    for name in names:
        mine = labels == name
        size = int(mine.sum())
        yield size, int((said & mine).sum()), size + int((wrong & (owner == name)).sum())


def _boundary(mask: Tensor, valid: Tensor) -> Tensor:
    """Pixels of a mask (N, H, W) beside a valid one outside it."""
    outside = F.pad(~mask & valid, (1, 1, 1, 1))  # (N, H + 2, W + 2)
    beside = outside[:, :-2, 1:-1] | outside[:, 2:, 1:-1] | outside[:, 1:-1, :-2] | outside[:, 1:-1, 2:]
    return mask & beside


def _grown(mask: Tensor, tolerance: int) -> Tensor:
    """Pixels within so many rows and columns of a mask (N, H, W)."""
    if tolerance == 0:
        return mask
    side = 2 * tolerance + 1
    return F.max_pool2d(mask.unsqueeze(1).float(), side, stride=1, padding=tolerance).squeeze(1) > 0


def _share(part: Tensor, whole: Tensor) -> float:
    return int(part.sum()) / max(int(whole.sum()), 1)


def _rising(edges: Sequence[float]) -> np.ndarray:
    if not isinstance(edges, (tuple, list)) or not edges:
        raise ValueError(f"edges must be a sequence of numbers, got {checks.shown(edges)}")
    checks.finite(**{f"edges[{place}]": edge for place, edge in enumerate(edges)})
    if any(later <= sooner for sooner, later in itertools.pairwise(edges)):
        raise ValueError(f"edges must rise, got {checks.shown(edges)}")
    return np.asarray([float(edge) for edge in edges])


def _counted(predicted: Tensor, targets: Tensor, num_classes: int, ignore: int | None, *, maps: bool = False) -> Tensor:
    """Return which targets count; a ValueError where labels are no class numbers of equal shape."""
    checks.tensors(predicted=predicted, targets=targets)
    checks.counts(num_classes=num_classes)
    for name, labels in (("predicted", predicted), ("targets", targets)):
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"{name} must be whole numbers, got {checks.shown(labels)}")
        if maps and labels.ndim != 3:
            raise ValueError(f"{name} must be (N, H, W), got {checks.shown(labels)}")
    if predicted.shape != targets.shape or predicted.device != targets.device:
        raise ValueError(f"predicted must be as targets, {checks.shown(targets)}, got {checks.shown(predicted)}")
    kept = torch.ones_like(targets, dtype=torch.bool)
    if ignore is not None:
        checks.whole(ignore=ignore)
        kept = targets != ignore
    if not bool(kept.any()):
        raise ValueError("targets have no label that counts")
    for name, labels in (("predicted", predicted), ("targets", targets)):
        low, high = int(labels[kept].min()), int(labels[kept].max())
        if low < 0 or high >= num_classes:
            raise ValueError(f"{name} must lie in 0..{num_classes - 1}, got {low}..{high}")
    return kept
