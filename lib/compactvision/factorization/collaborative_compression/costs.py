"""What stays of one layer, and what that costs: channels that are read, and a rank or one kernel.

Both factors of a factorised convolution run at the pixels of its output, ``rank`` channels between them. Every weight
of the layer is then used once a pixel, before and after: **a layer's cut in parameters equals its cut in MACs**, and
neither depends on the size of the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """What stays of one convolution.

    Attributes
    ----------
    keep : tuple of int
        Input channels that are read, ascending.
    rank : int or None
        Channels between the two factors; None for a single convolution.
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
    out, taps = shape[0], math.prod(shape[2:])
    return out * channels * taps if rank is None else rank * (channels * taps + out)


def saved(shape: tuple[int, ...], channels: int, rank: int | None = None) -> float:
    """Return the share of weights and MACs that a layer saves; negative where two factors cost more than the kernel.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> costs.saved((64, 64, 3, 3), 48), costs.saved((64, 64, 3, 3), 48, 60)
    (0.25, 0.1927083333333333)
    """
    return 1 - weights(shape, channels, rank) / math.prod(shape)


def largest_rank(shape: tuple[int, ...], channels: int) -> int:
    """Return the rank that no kernel (N, channels, kh, kw) exceeds; a larger number of factors is clipped to it.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> costs.largest_rank((64, 64, 3, 3), 48), costs.largest_rank((64, 64, 3, 3), 5)
    (64, 45)
    """
    return min(shape[0], channels * math.prod(shape[2:]))


def break_even_rank(shape: tuple[int, ...], channels: int | None = None) -> float:
    """Return the rank at which two factors cost what one kernel costs, ``N C' kh kw / (C' kh kw + N)``.

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression import costs
    >>> [round(costs.break_even_rank(shape), 1) for shape in ((16, 16, 3, 3), (64, 64, 3, 3), (256, 64, 1, 1))]
    [14.4, 57.6, 51.2]
    """
    channels = shape[1] if channels is None else channels
    return weights(shape, channels) / weights(shape, channels, 1)
