"""Which cells answer for which object: centre sampling, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.data.boxes import area, present

RADIUS = 1.5


def positives(centres: Tensor, strides: Tensor, targets: Tensor, *, radius: float = RADIUS) -> Tensor:
    """Return which object each cell answers for.

    A cell answers for an object if its centre lies inside the box, and less than ``radius`` strides from the box's
    centre in x and in y; of several objects, for the one with the smallest box, and of equally small ones for the
    first. An object that holds no centre of a cell has none: boxes narrower than the finest stride may go without.

    Parameters
    ----------
    centres, strides : Tensor
        (A, 2) and (A,), in pixels.
    targets : Tensor
        (B, M, 5) boxes with classes, -1 where there is no object.
    radius : float, default 1.5
        In strides.

    Returns
    -------
    Tensor
        (B, A) int64 places in 0..M-1, -1 for cells of the background.

    Raises
    ------
    ValueError
        If shapes do not fit or ``radius`` is not positive.

    Examples
    --------
    >>> centres = torch.tensor([[2.0, 2], [6, 2], [10, 2], [14, 2]])
    >>> positives(centres, torch.full((4,), 4.0), torch.tensor([[[0.0, 0, 8, 4, 1], [5, 0, 7, 4, 0]]]))
    tensor([[ 0,  1, -1, -1]])
    """
    there = present(targets)
    checks.floating(centres=centres, strides=strides)
    if centres.ndim != 2 or centres.shape[1] != 2 or strides.shape != centres.shape[:1]:
        raise ValueError(
            f"centres must be (A, 2) and strides (A,), got {checks.shown(centres)} and {checks.shown(strides)}"
        )
    checks.finite(radius=radius)
    if radius <= 0:
        raise ValueError(f"radius must be positive, got {radius}")
    low, high = targets[:, None, :, :2], targets[:, None, :, 2:4]  # (B, 1, M, 2)
    x = centres[None, :, None]  # (1, A, 1, 2)
    inside = ((x > low) & (x < high)).all(-1)  # (B, A, M)
    near = ((x - (low + high) / 2).abs() < radius * strides[None, :, None, None]).all(-1)
    size = area(targets)[:, None].expand_as(inside)
    size = size.where(inside & near & there[:, None], torch.inf)
    smallest, place = size.min(-1)  # (B, A)
    return place.where(smallest < torch.inf, -1)
