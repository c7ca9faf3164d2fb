"""Boxes around objects: one padded tensor for a batch, and how they move with the pixels.

Images have different numbers of objects. Their boxes are kept as **one tensor (N, M, 5)**, M the largest number in any
image: four coordinates and a class number, ``(x0, y0, x1, y1, class)``, in floating point. Coordinates are in pixels
of the image, from its upper left corner to the right and downwards; x1 and y1 are exclusive, so that a box of one
pixel has width 1. A place without an object is -1 five times, and may stand anywhere among the M.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compactvision import _checks as checks

EMPTY = -1.0
"""All five numbers of a place without an object."""
LEAST_LEFT = 0.25
"""A box of which a smaller share of its area is left inside a crop is dropped."""

__all__ = ["moved", "padded", "present", "ragged"]


def padded(boxes: Sequence[Tensor], classes: Sequence[Tensor] | None = None) -> Tensor:
    """Put boxes of several images into one tensor.

    Parameters
    ----------
    boxes : sequence of N tensors
        (M_i, 4) each, or (M_i, 5) with the class number behind; M_i may be 0.
    classes : sequence of N tensors, optional
        (M_i,) class numbers, where boxes have four columns.

    Returns
    -------
    Tensor
        (N, M, 5) float32, M the largest M_i, at least 1; -1 where there is no object.

    Raises
    ------
    ValueError
        Where shapes do not fit together or a number is NaN or infinite.

    Examples
    --------
    >>> two = [torch.tensor([[0.0, 0, 4, 2], [1, 1, 3, 5]]), torch.zeros(0, 4)]
    >>> padded(two, [torch.tensor([2, 0]), torch.tensor([])])
    tensor([[[ 0.,  0.,  4.,  2.,  2.],
             [ 1.,  1.,  3.,  5.,  0.]],
    <BLANKLINE>
            [[-1., -1., -1., -1., -1.],
             [-1., -1., -1., -1., -1.]]])
    """
    _refuse_no_list(boxes=boxes)
    if classes is not None:
        _refuse_no_list(classes=classes)
        if len(classes) != len(boxes):
            raise ValueError(f"classes must be one tensor for each of {len(boxes)} boxes, got {len(classes)}")
    rows = []
    for place, each in enumerate(boxes):
        checks.tensors(**{f"boxes[{place}]": each})
        columns = 5 if classes is None else 4
        if each.ndim != 2 or each.shape[1] != columns or not bool(each.isfinite().all()):
            raise ValueError(f"boxes[{place}] must be finite numbers (M, {columns}), got {checks.shown(each)}")
        if classes is not None:
            checks.tensors(**{f"classes[{place}]": classes[place]})
            if classes[place].shape != each.shape[:1] or classes[place].device != each.device:
                shown = checks.shown(classes[place])
                raise ValueError(f"classes[{place}] must be one number for each of {len(each)} boxes, got {shown}")
            each = torch.cat([each.float(), classes[place].float()[:, None]], 1)
        rows.append(each.float())
    most = max(1, *(len(each) for each in rows))
    found = rows[0].new_full((len(rows), most, 5), EMPTY)
    for place, each in enumerate(rows):
        found[place, : len(each)] = each
    return found


def ragged(targets: Tensor) -> list[Tensor]:
    """Return the objects of each image, (M_i, 5), without the empty places of ``targets`` (N, M, 5)."""
    there = present(targets)
    return [each[here] for each, here in zip(targets, there, strict=True)]


def present(targets: Tensor) -> Tensor:
    """Return which places of ``targets`` (N, M, 5) hold an object: (N, M) bool.

    Raises
    ------
    ValueError
        If ``targets`` is no such tensor.
    """
    checks.floating(targets=targets)
    if targets.ndim != 3 or targets.shape[2] != 5:
        raise ValueError(f"targets must be boxes with classes (N, M, 5), got {checks.shown(targets)}")
    return targets[..., 4] >= 0


def moved(targets: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, crop: int, size: tuple[int, int]) -> Tensor:
    """Move boxes as ``crop_and_flip`` moves the pixels of their images.

    Boxes are clipped at the window's edges; one of which less than :data:`LEAST_LEFT` of its area is left, becomes an
    empty place.

    Parameters
    ----------
    targets : Tensor
        (B, M, 5).
    top, left, mirrored : Tensor
        (B,): corner of the window in the image with its border, and whether it is mirrored left-right.
    crop : int
        Width of the border in pixels.
    size : (int, int)
        Height and width of images and windows in pixels.

    Returns
    -------
    Tensor
        (B, M, 5), of the same type.
    """
    there = present(targets)
    checks.tensors(top=top, left=left, mirrored=mirrored)
    checks.whole(crop=crop)
    for name, each in (("top", top), ("left", left), ("mirrored", mirrored)):
        if each.shape != targets.shape[:1]:
            raise ValueError(f"{name} must be one number for each of {len(targets)} images, got {checks.shown(each)}")
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size must be (height, width), got {checks.shown(size)}")
    checks.counts(**{"size[0]": size[0], "size[1]": size[1]})
    height, width = size
    shift = torch.stack([crop - left, crop - top], 1).to(targets.dtype)  # (B, 2)
    placed = targets[..., :4] + shift.repeat(1, 2)[:, None]  # (B, M, 4)
    limits = placed.new_tensor([width, height, width, height])
    x0, y0, x1, y1 = placed.clamp(min=0).minimum(limits).unbind(-1)  # (B, M) each
    left_over = (x1 - x0) * (y1 - y0) >= LEAST_LEFT * area(targets)
    turned = mirrored.bool()[:, None]
    x0, x1 = torch.where(turned, width - x1, x0), torch.where(turned, width - x0, x1)
    found = torch.stack([x0, y0, x1, y1, targets[..., 4]], -1)
    return found.where((there & left_over)[..., None], EMPTY)


def area(boxes: Tensor) -> Tensor:
    """Return the areas (...) of boxes (..., 4 or more): width times height, in pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def refuse_unlike_boxes(targets: Tensor, classes: int) -> None:
    """Refuse targets of an image set that are not boxes with class numbers below ``classes``, or empty places."""
    checks.floating(targets=targets)
    there = present(targets)
    objects = targets[there]  # (K, 5)
    if not bool((targets[~there] == EMPTY).all()):
        raise ValueError("targets: a place without an object must be -1 five times")
    if not bool(objects.isfinite().all()):
        raise ValueError("targets must be finite numbers")
    if not bool((objects[:, :2] < objects[:, 2:4]).all()):
        raise ValueError("targets must have boxes (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    numbers = objects[:, 4]
    if bool(((numbers >= classes) | (numbers != numbers.floor())).any()):
        raise ValueError(f"targets must have class numbers in [0, {classes}) in the fifth column, got others")


def _refuse_no_list(**values: Sequence[Tensor]) -> None:
    for name, value in values.items():
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f"{name} must be a list of tensors, one for each image, got {checks.shown(value)}")
