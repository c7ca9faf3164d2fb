"""What single operations cost, as NAT++ (Guo et al. 2021) counts: poolings and skips too, BatchNorm not."""

from __future__ import annotations

from typing import NamedTuple

from compactvision import _checks as checks
from compactvision.models.cells.operations import NONE, OPERATIONS, SKIP


class Cost(NamedTuple):
    """Weights of convolutions, and multiply-accumulates for one image."""

    parameters: int
    macs: int


def cost(name: str, channels: int = 128, size: int = 32, stride: int = 1) -> Cost:
    """Return what an operation costs that keeps its channels.

    A pooling takes a step for each entry of its window, a skip one for each entry of the map. With a stride of 2 a
    skip is a factorised reduction, and has weights.

    Parameters
    ----------
    name : str
        One of :data:`OPERATIONS`.
    channels : int, default 128
        Channels in and out.
    size : int, default 32
        Height and width of the map in front of it.
    stride : int, default 1
        1 or 2.

    Raises
    ------
    ValueError
        For an unknown name, another stride, or a count below 1.

    Notes
    -----
    With the defaults these are the numbers of the figure that comes with the code of NAT++.

    Examples
    --------
    >>> cost("conv_5x5")
    Cost(parameters=409600, macs=419430400)
    >>> cost("skip_connect"), cost("skip_connect", stride=2)
    (Cost(parameters=0, macs=131072), Cost(parameters=16384, macs=4194304))
    """
    checks.one_of(OPERATIONS, name=name)
    checks.counts(channels=channels, size=size)
    checks.whole(stride=stride)
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}")
    pixels = (-(-size // stride)) ** 2
    weights = _weights(name, channels, stride)
    return Cost(weights, pixels * (weights or _steps(name) * channels))


def _weights(name: str, channels: int, stride: int) -> int:
    if name == SKIP and stride == 2:
        return channels**2
    if "conv" not in name:
        return 0
    kernel = int(name[-1])
    if name.startswith("conv"):
        return (kernel * channels) ** 2
    once = kernel**2 * channels + channels**2
    return 2 * once if name.startswith("sep") else once


def _steps(name: str) -> int:
    """Return the steps for each entry of an operation without weights."""
    if name == NONE:
        return 0
    return 1 if name == SKIP else int(name[-1]) ** 2
