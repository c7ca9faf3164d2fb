"""Slow and plain: collaborative compression by its definitions, one unit, one removal and one entry after the other."""

import itertools
import math

import numpy as np


def loss(kernel, changed, gradient):
    """Information loss, entry by entry."""
    entries = zip(kernel.ravel(), changed.ravel(), gradient.ravel(), strict=True)
    return math.fsum((g * (new - old)) ** 2 for old, new, g in entries)


def without_channel(kernel, channel):
    """The kernel with an input channel set to zero."""
    changed = kernel.copy()
    changed[:, channel] = 0
    return changed


def without_value(kernel, index):
    """The kernel without a singular value, counted from the largest."""
    u, s, vt = np.linalg.svd(kernel.reshape(len(kernel), -1), full_matrices=False)
    s[index] = 0
    return ((u * s) @ vt).reshape(kernel.shape)


def neighbours(kernel, channels, rank, kinds):
    """The kernels with one more unit removed, by unit; ``channels`` are there, and ``rank`` singular values."""
    found = {}
    if "channels" in kinds:
        found |= {("channel", j): without_channel(kernel, j) for j in channels}
    if "values" in kinds:
        found |= {("value", i): without_value(kernel, i) for i in range(rank)}
    return found


def importances(kernel, current, gradient, channels, rank, gamma, kinds=("channels", "values")):
    """Importance of every unit: the loss without it, and gamma times the mean loss without one more of those left."""
    found = {}
    for (kind, index), changed in neighbours(current, channels, rank, kinds).items():
        left = [j for j in channels if (kind, index) != ("channel", j)]
        next_ones = neighbours(changed, left, rank - (kind == "value"), kinds).values()
        lost = loss(kernel, changed, gradient)
        found[kind, index] = lost + gamma * sum(loss(kernel, each, gradient) for each in next_ones) / len(next_ones)
    return found


def saved(shape, channels, rank):
    """Share of multiply-accumulates saved by one kernel, or by two factors of this rank."""
    out, dense = shape[0], math.prod(shape)
    taps = channels * shape[2] * shape[3]
    return 1 - (out * taps if rank is None else taps * rank + rank * out) / dense


def heuristic(kernel, gradient, rate, gamma):
    """Remove one unit after the other until the rate is saved; kept channels and rank (None for one kernel)."""
    current, channels = kernel.copy(), list(range(kernel.shape[1]))
    full = rank = min(len(kernel), kernel[0].size)
    while True:
        if saved(kernel.shape, len(channels), None) >= rate:
            return channels, None
        if rank < full and saved(kernel.shape, len(channels), min(rank, len(channels) * kernel[0, 0].size)) >= rate:
            return channels, min(rank, len(channels) * kernel[0, 0].size)
        scores = importances(kernel, current, gradient, channels, rank, gamma)
        (kind, index) = min(
            (unit for unit in scores if (len(channels) if unit[0] == "channel" else rank) > 1), key=scores.get
        )
        if kind == "channel":
            current = without_channel(current, index)
            channels.remove(index)
        else:
            current = without_value(current, index)
            rank -= 1


def curve(kernel, gradient):
    """(Rate, loss) pairs while all units are removed in the order of what is lost without each alone."""
    full = min(len(kernel), kernel[0].size)
    singles = neighbours(kernel, range(kernel.shape[1]), full, ("channels", "values"))
    order = sorted(singles, key=lambda unit: loss(kernel, singles[unit], gradient))
    current, gone, pairs = kernel.copy(), [], []
    for kind, index in order:
        if kind == "channel":
            current = without_channel(current, index)
        else:
            current = without_value(current, index - sum(earlier < index for earlier in gone))
            gone.append(index)
        channels = kernel.shape[1] - sum(unit[0] == "channel" for unit in order[: len(pairs) + 1])
        pairs.append(
            (saved(kernel.shape, channels, full - len(gone) if gone else None), loss(kernel, current, gradient))
        )
    return pairs


def best_rates(curves, macs, target, steps):
    """The rates on a grid that save the target (or a little more) with the smallest sum of losses, by trying all."""
    grid = [index / steps for index in range(steps + 1)]
    best = None
    for rates in itertools.product(grid, repeat=len(curves)):
        if sum(m * x for m, x in zip(macs, rates, strict=True)) >= target - 1e-12:
            total = sum(scale * math.exp(growth * x) for (scale, growth), x in zip(curves, rates, strict=True))
            best = min(best or (math.inf, ()), (total, rates))
    return best
