"""What a point (channels, rank) of a layer costs: the formulas of ``costs`` without a look at the arguments."""

from __future__ import annotations

import math


def weights_of(shape: tuple[int, ...], channels: int, rank: int | None = None) -> int:
    """Return the weights of a layer."""
    out, taps = shape[0], math.prod(shape[2:])
    return out * channels * taps if rank is None else rank * (channels * taps + out)


def saved_by(shape: tuple[int, ...], channels: int, rank: int | None = None) -> float:
    """Return the share that is saved."""
    return 1 - weights_of(shape, channels, rank) / math.prod(shape)


def largest_rank_of(shape: tuple[int, ...], channels: int) -> int:
    """Return the rank that no kernel exceeds."""
    return min(shape[0], channels * math.prod(shape[2:]))
