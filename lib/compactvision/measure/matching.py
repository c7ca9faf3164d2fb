"""Which detections are right: COCO's greedy matching, for all images and classes of a set side by side."""

from __future__ import annotations

import itertools

import numpy as np

AT_ONCE = 2**22  # overlaps held at a time


def matched(found: np.ndarray, true: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which detections find a true box.

    Images and classes are groups that do not see each other: they are worked through side by side, the surest
    detection of every group first, then all second ones, and so on.

    Parameters
    ----------
    found : (K, 7) rows (image, class, score, x0, y0, x1, y1), those of an image and class together, surest first.
    true : (G, 6) rows (image, class, x0, y0, x1, y1).
    limits : (T,) least intersections over union.

    Returns
    -------
    (T, K) bool.
    """
    right = np.zeros((len(limits), len(found)), dtype=bool)
    names, owner = np.unique(true[:, :2], axis=0, return_inverse=True)
    mine = _places(found[:, :2], names)
    known = np.flatnonzero(mine >= 0)  # detections of an image and class that has a target
    if not len(known):
        return right
    counts, sizes = np.bincount(mine[known], minlength=len(names)), np.bincount(owner.reshape(-1), minlength=len(names))
    order = np.argsort(-counts, kind="stable")  # groups of like size share a chunk, and little is padding
    starts = _steps(counts[order], sizes[order])
    for begin, end in itertools.pairwise(starts):
        groups = order[begin:end]
        groups = groups[counts[groups] > 0]
        if len(groups):
            rows, boxes = _padded(mine, groups, known), _padded(owner.reshape(-1), groups, np.arange(len(true)))
            hit = _greedy(_overlaps(found[rows, 3:], true[boxes, 2:], boxes >= 0), limits)  # (T, n, D)
            right[:, rows[rows >= 0]] = hit[:, rows >= 0]
    return right


def _greedy(overlaps: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Let the detections of each group choose in turn.

    Parameters
    ----------
    overlaps : (n, D, M), -1 where there is no such pair.
    limits : (T,).

    Returns
    -------
    (T, n, D) bool.
    """
    n, most, boxes = overlaps.shape
    least = np.minimum(limits, 1 - 1e-10)  # as COCO's code has it: an exact copy passes a limit of 1
    free = np.ones((len(limits), n, boxes), dtype=bool)
    hit = np.zeros((len(limits), n, most), dtype=bool)
    for rank in range(most):
        left = np.where(free, overlaps[None, :, rank], -1)  # (T, n, M)
        best = boxes - 1 - left[..., ::-1].argmax(-1)  # of equal ones the last
        good = np.take_along_axis(left, best[..., None], -1)[..., 0] >= least[:, None]
        hit[:, :, rank] = good
        limit, group = np.nonzero(good)
        free[limit, group, best[limit, group]] = False
    return hit


def _overlaps(found: np.ndarray, true: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return intersections over union (n, D, M) of boxes (n, D, 4) and (n, M, 4), -1 where ``there`` (n, M) is not."""
    a, b = found[:, :, None], true[:, None]
    inner = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inner
    shares = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return np.where(there[:, None], shares, -1)


def _places(rows: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return where each row (K, 2) stands among the sorted names (n, 2), -1 where it does not."""
    both, inverse = np.unique(np.concatenate([names, rows]), axis=0, return_inverse=True)
    table = np.full(len(both), -1)
    table[inverse.reshape(-1)[: len(names)]] = np.arange(len(names))
    return table[inverse.reshape(-1)[len(names) :]]


def _padded(owner: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the numbers of each group's rows, in their order, (n, most), -1 behind the last."""
    slot = np.full(max(int(owner.max()), int(groups.max())) + 1, -1)
    slot[groups] = np.arange(len(groups))
    rows = rows[slot[owner[rows]] >= 0]
    rows = rows[np.argsort(slot[owner[rows]], kind="stable")]
    at = slot[owner[rows]]
    counts = np.bincount(at, minlength=len(groups))
    rank = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
    found = np.full((len(groups), max(1, int(counts.max(initial=0)))), -1)
    found[at, rank] = rows
    return found


def _steps(counts: np.ndarray, sizes: np.ndarray) -> list[int]:
    """Return where chunks of groups begin and end, so that none holds more than ``AT_ONCE`` overlaps."""
    starts = [0]
    most, widest = 1, 1
    for place, (count, size) in enumerate(zip(counts.tolist(), sizes.tolist())):
        most, widest = max(most, count), max(widest, size)
        if (place + 1 - starts[-1]) * most * widest > AT_ONCE and place > starts[-1]:
            starts.append(place)
            most, widest = max(1, count), max(1, size)
    return [*starts, len(counts)]
