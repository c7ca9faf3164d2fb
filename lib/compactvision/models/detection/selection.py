"""From scores and boxes of all cells to detections: candidates, suppression of doubles, the surest."""

from __future__ import annotations

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.measure.detection import Detections, box_iou

AT_ONCE = 2**22  # overlaps held at a time


def select(
    scores: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    *,
    score: float,
    overlap: float,
    most: int,
    candidates: int,
) -> list[Detections]:
    """Return the detections of each image from what its cells say.

    Parameters
    ----------
    scores : (B, A, C) probabilities.
    boxes : (B, A, 4) in pixels.
    size : height and width of the images in pixels; boxes are clipped to it.
    score, overlap, most, candidates : as for ``Detector.predict``.
    """
    images, _, classes = scores.shape
    flat = scores.flatten(1)  # (B, A C)
    count = min(candidates, flat.shape[1])
    best, place = flat.topk(count, dim=1)  # (B, K)
    number = place % classes
    limits = boxes.new_tensor([size[1], size[0], size[1], size[0]])
    mine = boxes.gather(1, (place // classes)[..., None].expand(-1, -1, 4)).clamp(min=0).minimum(limits)  # (B, K, 4)
    sure = best > score
    count = max(1, int(sure.sum(1).max()))  # behind it nothing is sure in any image
    best, number, mine, sure = best[:, :count], number[:, :count], mine[:, :count], sure[:, :count]
    step = max(1, AT_ONCE // count**2)
    parts = [slice(begin, begin + step) for begin in range(0, images, step)]
    kept = torch.cat([survivors(mine[part], number[part], sure[part], overlap=overlap) for part in parts])
    kept &= kept.cumsum(1) <= most
    return [Detections(*(part[keep] for part in row)) for *row, keep in zip(mine, best, number, kept, strict=True)]


def survivors(boxes: Tensor, classes: Tensor, there: Tensor | None = None, *, overlap: float = 0.5) -> Tensor:
    """Return which of ranked detections stay, when each is dropped that overlaps a surer one of its class that stays.

    This is greedy non-maximum suppression, for all images at once. The choice is the only one for which "stays" means
    "no surer one that stays overlaps it", and it is found by asking all detections again and again until none changes:
    after k rounds at least the first k are settled, and in practice all are after a few.

    Parameters
    ----------
    boxes : Tensor
        (B, K, 4), surest first.
    classes : Tensor
        (B, K) whole numbers; other classes do not matter.
    there : Tensor, optional
        (B, K) bool; False for places that hold no detection, which never stay. All True by default.
    overlap : float, default 0.5
        Intersection over union above which the less sure one is dropped.

    Returns
    -------
    Tensor
        (B, K) bool.

    Raises
    ------
    ValueError
        If shapes do not fit or ``overlap`` is no number.

    Examples
    --------
    >>> boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10], [1, 0, 11, 10]]])
    >>> survivors(boxes, torch.tensor([[0, 0, 0, 1]]), overlap=0.7)  # the third overlaps the second only, which goes
    tensor([[ True, False,  True,  True]])
    """
    checks.tensors(classes=classes)
    checks.finite(overlap=overlap)
    shares = box_iou(boxes, boxes)  # (B, K, K)
    if boxes.ndim != 3 or classes.shape != boxes.shape[:2] or classes.device != boxes.device:
        raise ValueError(f"classes must be one for each of boxes (B, K, 4), got {checks.shown(classes)}")
    if there is None:
        there = torch.ones_like(classes, dtype=torch.bool)
    checks.tensors(there=there)
    if there.shape != classes.shape or there.dtype != torch.bool or there.device != classes.device:
        raise ValueError(f"there must be True or False for each of boxes (B, K), got {checks.shown(there)}")
    rivals = (shares > overlap) & (classes[:, :, None] == classes[:, None])
    surer = rivals.triu(1).to(boxes.dtype)  # [b, i, j]: i is surer than j and would drop it
    kept = there
    while True:
        again = there & (torch.bmm(kept.to(boxes.dtype)[:, None], surer)[:, 0] == 0)
        if torch.equal(again, kept):
            return kept
        kept = again
