"""What stays of one layer, and what that costs: channels that are read, and a rank or one kernel.

Both factors of a factorised convolution run at the pixels of its output, ``rank`` channels between them. Every weight
of the layer is then used once a pixel, before and after: **a layer's cut in parameters equals its cut in MACs**, and
neither depends on the size of the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .arguments import refuse_point, refuse_rate, refuse_shape
from .arithmetic import largest_rank_of, saved_by, weights_of

ROUNDING = 1e-9  # of a rank: a share of 0.7 is a little more in floating point


@dataclass(frozen=True)
class Choice:
    """What stays of one convolution.

    Attributes
    ----------
    keep : tuple of int
        Input channels that are read, ascending.
    rank : int or None
        Channels between the two factors; None for a single convolution.

    Examples
    --------
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> cc.costs.Choice(keep=(0, 2, 3), rank=2).channels
    3
    """

    keep: tuple[int, ...]
    rank: int | None = None

    @property
    def channels(self) -> int:
        """Number of channels that are read."""
        return len(self.keep)


def weights(shape: tuple[int, ...], channels: int, rank: int | None = None) -> int:
    """Return the weights of a layer, Eq. (2): times the output's pixels, its MACs.

    Parameters
    ----------
    shape : tuple of int
        Of the dense kernel, (N, C, kh, kw).
    channels : int
        Input channels that are read, ``C'``.
    rank : int, optional
        Of the two factors, ``r``: ``C' kh kw r + r N`` weights. None stands for one kernel, ``N C' kh kw``.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> costs.weights((64, 64, 3, 3), 48), costs.weights((64, 64, 3, 3), 48, 20)
    (27648, 9920)
    """
    refuse_point(shape, channels, rank)
    return weights_of(shape, channels, rank)


def saved(shape: tuple[int, ...], channels: int, rank: int | None = None) -> float:
    """Return the share of weights and MACs that a layer saves; negative where two factors cost more than the kernel.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> costs.saved((64, 64, 3, 3), 48), round(costs.saved((64, 64, 3, 3), 48, 60), 3)
    (0.25, 0.193)
    """
    refuse_point(shape, channels, rank)
    return saved_by(shape, channels, rank)


def largest_rank(shape: tuple[int, ...], channels: int) -> int:
    """Return the rank that no kernel (N, channels, kh, kw) exceeds; a larger number of factors is clipped to it.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> costs.largest_rank((64, 64, 3, 3), 48), costs.largest_rank((64, 64, 3, 3), 5)
    (64, 45)
    """
    refuse_point(shape, channels)
    return largest_rank_of(shape, channels)


def rank_for(shape: tuple[int, ...], channels: int, rate: float) -> int:
    """Return the largest rank of two factors that save a share of the layer; 0 where no rank does.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> [costs.rank_for((64, 64, 3, 3), channels, 0.5) for channels in (64, 48, 34, 20)]
    [28, 37, 49, 64]
    """
    refuse_point(shape, channels)
    refuse_rate(rate=rate)
    return _rank_for(shape, channels, rate)


def _rank_for(shape: tuple[int, ...], channels: int, rate: float) -> int:
    rank = math.floor((1 - rate) * math.prod(shape) / weights_of(shape, channels, 1) + ROUNDING)
    return min(rank, largest_rank_of(shape, channels))


def iso_macs(shape: tuple[int, ...], rate: float) -> list[tuple[int, int | None]]:
    """Return the points (channels kept, rank) at which a layer saves a share: for each number of channels one.

    The rank is None where that many channels alone save as much. Points at which no rank does are left out.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> costs.iso_macs((16, 6, 1, 1), 0.5)
    [(1, None), (2, None), (3, None), (4, 2), (5, 2), (6, 2)]
    """
    refuse_shape(shape)
    refuse_rate(rate=rate)
    points: list[tuple[int, int | None]] = []
    for channels in range(1, shape[1] + 1):
        if saved_by(shape, channels) >= rate - ROUNDING:
            points.append((channels, None))
        elif rank := _rank_for(shape, channels, rate):
            points.append((channels, rank))
    return points


def break_even_rank(shape: tuple[int, ...], channels: int | None = None) -> float:
    """Return the rank at which two factors cost what one kernel costs, ``N C' kh kw / (C' kh kw + N)``.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> [round(costs.break_even_rank(shape), 1) for shape in ((16, 16, 3, 3), (64, 64, 3, 3), (256, 64, 1, 1))]
    [14.4, 57.6, 51.2]
    """
    refuse_shape(shape)
    channels = shape[1] if channels is None else channels
    return weights(shape, channels) / weights(shape, channels, 1)
