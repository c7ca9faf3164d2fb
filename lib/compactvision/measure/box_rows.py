"""Detections and true boxes of all images as two tables of numbers, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compactvision import _checks as checks


def gathered(predictions: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (image, class, score, x0, y0, x1, y1) of all detections, and such without score of all targets.

    A ``ValueError`` names what are no detections and no targets of equally many images, with one object at least.
    """
    if isinstance(predictions, (str, bytes)) or not isinstance(predictions, Sequence) or not len(predictions):
        raise ValueError(f"predictions must be a list with one entry an image, got {checks.shown(predictions)}")
    if not isinstance(targets, (Tensor, list, tuple)) or (isinstance(targets, Tensor) and targets.ndim != 3):
        raise ValueError(f"targets must be (N, M, 5) or a list of (M, 5), got {checks.shown(targets)}")
    if len(targets) != len(predictions):
        raise ValueError(f"targets must be those of {len(predictions)} images as predictions are, got {len(targets)}")
    found = [_detection_rows(place, each) for place, each in enumerate(predictions)]
    true = [_target_rows(place, each) for place, each in enumerate(targets)]
    rows = np.concatenate(true)
    if not len(rows):
        raise ValueError("targets hold no object: there is nothing to measure")
    return np.concatenate(found), rows


def _detection_rows(place: int, each: Any) -> np.ndarray:
    name = f"predictions[{place}]"
    if not isinstance(each, (list, tuple)) or len(each) != 3:
        raise ValueError(f"{name} must be boxes, scores and classes, got {checks.shown(each)}")
    boxes, scores, classes = each
    checks.tensors(**{f"{name} (boxes)": boxes, f"{name} (scores)": scores, f"{name} (classes)": classes})
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1] or classes.shape != scores.shape:
        shapes = f"{tuple(boxes.shape)}, {tuple(scores.shape)} and {tuple(classes.shape)}"
        raise ValueError(f"{name} must be boxes (K, 4), scores (K,) and classes (K,), got {shapes}")
    table = torch.cat([classes.double()[:, None], scores.double()[:, None], boxes.double()], 1)
    return _checked_rows(name, place, table.detach().cpu().numpy(), 2)


def _target_rows(place: int, each: Tensor) -> np.ndarray:
    name = f"targets[{place}]"
    checks.tensors(**{name: each})
    if each.ndim != 2 or each.shape[1] != 5:
        raise ValueError(f"{name} must be boxes with classes (M, 5), got {checks.shown(each)}")
    there = each[each[:, 4] >= 0].double() if not bool(each[:, 4].isnan().any()) else each.double()
    return _checked_rows(name, place, torch.cat([there[:, 4:], there[:, :4]], 1).detach().cpu().numpy(), 1)


def _checked_rows(name: str, place: int, table: np.ndarray, boxes: int) -> np.ndarray:
    if not np.isfinite(table).all():
        raise ValueError(f"{name} must hold finite numbers, got NaN or infinite ones")
    if (table[:, 0] < 0).any() or (table[:, 0] != np.floor(table[:, 0])).any():
        raise ValueError(f"{name} must have class numbers from 0 on, got {table[:, 0].min():g}")
    if (table[:, boxes : boxes + 2] > table[:, boxes + 2 :]).any():
        raise ValueError(f"{name} must have boxes (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, got others")
    return np.concatenate([np.full((len(table), 1), float(place)), table], 1)


def class_count(found: np.ndarray, true: np.ndarray, num_classes: int | None) -> int:
    """Return how many classes there are, ``num_classes`` or as many as occur; a ``ValueError`` where it is too few."""
    highest = int(max(true.max(), found.max(initial=0)))
    if num_classes is None:
        return highest + 1
    checks.counts(num_classes=num_classes)
    if highest >= num_classes:
        raise ValueError(f"num_classes must be above every class number, up to {highest}, got {num_classes}")
    return num_classes
