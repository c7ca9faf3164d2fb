"""The detector's loss: sigmoid focal loss of the classes, generalised IoU of the boxes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compactvision import _checks as checks
from compactvision.data.boxes import present
from compactvision.models.detection.network import Cells
from compactvision.models.detection.positives import RADIUS, positives


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the sigmoid focal loss of each entry, ``-a (1 - p)^gamma log p`` (Lin et al. 2017).

    ``p`` is the probability given to what is the case, ``a`` is ``alpha`` where the target is 1 and ``1 - alpha`` where
    it is 0.

    Parameters
    ----------
    logits, targets : Tensor
        Of equal shape; targets are 0 or 1.
    alpha, gamma : float
        In [0, 1], and at least 0.

    Returns
    -------
    Tensor
        Of the same shape.

    Raises
    ------
    ValueError
        If shapes differ or a number is out of its range.

    Examples
    --------
    >>> focal_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # log 2 / 4 times 1/4 and 3/4
    tensor([0.0433, 0.1300])
    """
    checks.floating(logits=logits, targets=targets)
    if logits.shape != targets.shape:
        raise ValueError(f"targets must be as logits, {checks.shown(logits)}, got {checks.shown(targets)}")
    _refuse_focal(alpha, gamma)
    signed = logits * (2 * targets - 1)  # log p is the log-sigmoid of this
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return -weight * torch.sigmoid(-signed) ** gamma * F.logsigmoid(signed)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalised intersection over union of boxes, pair by pair (Rezatofighi et al. 2019).

    ``IoU - (hull - union) / hull``, where the hull is the smallest box around both: 1 for equal boxes, towards -1 for
    boxes far apart, with a gradient where they do not touch.

    Parameters
    ----------
    first, second : Tensor
        (..., 4) boxes (x0, y0, x1, y1) with positive sides, of equal shape.

    Returns
    -------
    Tensor
        (...) in (-1, 1].

    Raises
    ------
    ValueError
        If they are no boxes of equal shape.

    Examples
    --------
    >>> generalised_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))  # a third of the hull is empty
    tensor([-0.3333])
    """
    checks.floating(first=first, second=second)
    if first.shape != second.shape or first.ndim == 0 or first.shape[-1] != 4:
        raise ValueError(f"first and second must be boxes (..., 4), got {checks.shown(first)}, {checks.shown(second)}")
    tiny = torch.finfo(first.dtype).eps
    inner = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(0)
    outer = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    shared, hull = inner[..., 0] * inner[..., 1], (outer[..., 0] * outer[..., 1]).clamp(min=tiny)
    one, other = first[..., 2:] - first[..., :2], second[..., 2:] - second[..., :2]
    union = (one[..., 0] * one[..., 1] + other[..., 0] * other[..., 1] - shared).clamp(min=tiny)
    return shared / union - (hull - union) / hull


class DetectionLoss:
    """Focal loss of all cells and classes over the number of positive cells, plus the mean GIoU loss of those.

    ``sum(focal) / n + box_weight * sum(1 - GIoU) / n``, where n is the number of cells of the batch that answer for an
    object (see :func:`positives`), at least 1. A function ``(outputs, targets) -> scalar``, as ``training.fit`` wants.

    Parameters
    ----------
    alpha, gamma : float
        Of the focal loss.
    radius : float
        Of centre sampling, in strides.
    box_weight : float
        At least 0.

    Raises
    ------
    ValueError
        If an argument is out of its range, or, when called, outputs and targets do not fit.

    Examples
    --------
    >>> from compactvision.models.detection import Cells
    >>> sides, centre, stride = torch.full((1, 1, 4), 2.0), torch.tensor([[4.0, 4]]), torch.tensor([4.0])
    >>> cells = Cells(torch.full((1, 1, 2), -4.6), sides, centre, stride)
    >>> DetectionLoss()(cells, torch.tensor([[[2.0, 2, 6, 6, 1]]]))  # the box is right; 4.6 * 0.99^2 / 4 and a little
    tensor(1.1297)
    """

    def __init__(
        self, *, alpha: float = 0.25, gamma: float = 2.0, radius: float = RADIUS, box_weight: float = 1.0
    ) -> None:
        _refuse_focal(alpha, gamma)
        checks.finite(radius=radius, box_weight=box_weight)
        if radius <= 0:
            raise ValueError(f"radius must be positive, got {radius}")
        if box_weight < 0:
            raise ValueError(f"box_weight must be at least 0, got {box_weight}")
        self.alpha, self.gamma, self.radius, self.box_weight = alpha, gamma, radius, box_weight

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"DetectionLoss({settings})"

    def __call__(self, outputs: Cells, targets: Tensor) -> Tensor:
        """Return the loss of what cells say against boxes (B, M, 5), a scalar."""
        classes, boxes = self.parts(outputs, targets)
        return classes + self.box_weight * boxes

    def parts(self, outputs: Cells, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two summands, of the classes and of the boxes (not yet weighted), two scalars."""
        _refuse_unlike(outputs, targets)
        logits, targets = outputs.logits, targets.to(outputs.sides.dtype)
        owner = positives(outputs.centres, outputs.strides, targets, radius=self.radius)  # (B, A)
        chosen = owner >= 0
        mine = targets.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 5))  # (B, A, 5)
        number = mine[..., 4].long().where(chosen, logits.shape[2])
        wanted = F.one_hot(number, logits.shape[2] + 1)[..., :-1].to(logits.dtype)  # (B, A, C)
        count = chosen.sum().clamp(min=1)
        agreement = generalised_iou(outputs.boxes, mine[..., :4])
        apart = (1 - agreement).where(chosen, 0)
        return focal_loss(logits, wanted, alpha=self.alpha, gamma=self.gamma).sum() / count, apart.sum() / count


def _refuse_focal(alpha: float, gamma: float) -> None:
    checks.finite(alpha=alpha, gamma=gamma)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, got {gamma}")


def _refuse_unlike(outputs: Cells, targets: Tensor) -> None:
    checks.instances(Cells, outputs=outputs)
    there = present(targets)
    if len(targets) != len(outputs.logits):
        raise ValueError(f"targets must be those of {len(outputs.logits)} images, got {checks.shown(targets)}")
    if targets.device != outputs.logits.device:
        raise ValueError(f"targets must be on {outputs.logits.device}, got {checks.shown(targets)}")
    if targets.device.type == "cpu" and bool(there.any()):  # elsewhere a look would wait for the device
        highest = int(targets[..., 4].max())
        if highest >= outputs.logits.shape[2]:
            raise ValueError(f"targets have class {highest}, but the model has outputs for {outputs.logits.shape[2]}")
