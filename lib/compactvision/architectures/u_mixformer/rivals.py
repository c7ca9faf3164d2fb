"""What the decoder is compared with: simple ways to see far, and sizes at which all decoders cost the same.

The layers here map a pyramid (a list of maps, fine to coarse) to a pyramid; what they add hangs on the coarsest map,
and a head such as :class:`~compactvision.models.segmentation.SegFormerHead` does the rest::

    see = GlobalMaximum((16, 32, 64), hidden=32, found=16)
    decoder = nn.Sequential(see, SegFormerHead(see.out_channels, num_classes=3, width=24))
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import measure
from compactvision.models.attention import MixFFN, to_maps, to_tokens
from compactvision.models.segmentation.heads import enlarge, initialise_decoder_, refuse_channels, refuse_maps


class GlobalMaximum(nn.Module):
    """A small MLP at each place, and its largest values over all places, for every place (Qi et al. 2017).

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    hidden, found : int, default 64
        Channels inside the MLP, and of its result, which are added to those of the coarsest map.
    level : int, default 1
        On whose grid the MLP works; 1 is the finest.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Examples
    --------
    >>> see = GlobalMaximum((8, 16), hidden=4, found=3)
    >>> [tuple(each.shape) for each in see([torch.zeros(1, 8, 10, 10), torch.zeros(1, 16, 5, 5)])]
    [(1, 8, 10, 10), (1, 19, 5, 5)]
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        hidden: int = 64,
        found: int = 64,
        level: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = refuse_channels(channels)
        checks.counts(hidden=hidden, found=found, level=level)
        if level > len(self.channels):
            raise ValueError(f"level must be at most {len(self.channels)}, got {level}")
        checks.generators(generator=generator)
        self.level = level
        self.out_channels = (*self.channels[:-1], self.channels[-1] + found)
        self.look = nn.Sequential(nn.Conv2d(sum(self.channels), hidden, 1), nn.ReLU(), nn.Conv2d(hidden, found, 1))
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map a pyramid to a pyramid whose coarsest map has ``found`` further channels."""
        maps = refuse_maps(maps, self.channels)
        size, last = maps[self.level - 1].shape[2:], maps[-1]
        pooled = [F.adaptive_avg_pool2d(each, size) for each in maps[: self.level]]
        together = torch.cat([*pooled, *(enlarge(each, tuple(size)) for each in maps[self.level :])], 1)  # (B, C, H, W)
        seen = self.look(together).amax((2, 3), keepdim=True)  # (B, found, 1, 1)
        return [*maps[:-1], torch.cat([last, seen.expand(-1, -1, *last.shape[2:])], 1)]


class PyramidPooling(nn.Module):
    """Averages of the coarsest map over coarse grids, convolved (1 x 1) and enlarged again (Zhao et al. 2017).

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    bins : sequence of int, default (1, 2, 3, 6)
        Sides of the grids.
    found : int, default 16
        Channels that each of them adds to the coarsest map.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        bins: Sequence[int] = (1, 2, 3, 6),
        found: int = 16,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = refuse_channels(channels)
        self.bins = refuse_channels(bins)
        checks.counts(found=found)
        checks.generators(generator=generator)
        self.out_channels = (*self.channels[:-1], self.channels[-1] + found * len(self.bins))
        self.convs = nn.ModuleList(nn.Conv2d(self.channels[-1], found, 1) for _ in self.bins)
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map a pyramid to a pyramid whose coarsest map has further channels."""
        maps = refuse_maps(maps, self.channels)
        last = maps[-1]
        size = (last.shape[2], last.shape[3])
        pooled = [
            F.relu(conv(F.adaptive_avg_pool2d(last, side))) for side, conv in zip(self.bins, self.convs, strict=True)
        ]
        return [*maps[:-1], torch.cat([last, *(enlarge(each, size) for each in pooled)], 1)]


class WithoutAttention(nn.Module):
    """The decoder's blocks without their attention: LayerNorm, and a feed-forward layer with a depthwise convolution.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.
    """

    def __init__(self, channels: Sequence[int], *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.channels = self.out_channels = refuse_channels(channels)
        checks.generators(generator=generator)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in self.channels)
        self.layers = nn.ModuleList(MixFFN(width) for width in self.channels)
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map a pyramid to a pyramid of the same shapes."""
        found = []
        for each, norm, layer in zip(refuse_maps(maps, self.channels), self.norms, self.layers, strict=True):
            size = (each.shape[2], each.shape[3])
            tokens = norm(to_tokens(each))
            found.append(to_maps(tokens + layer(tokens, size), size))
        return found


class Filling(nn.Module):
    """A pointwise MLP added to the coarsest map: parameters for few MACs, so that decoders can be of equal size.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    hidden : int
        Channels inside; with 0 the maps pass as they are.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.
    """

    def __init__(self, channels: Sequence[int], hidden: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.channels = self.out_channels = refuse_channels(channels)
        checks.whole(hidden=hidden)
        if hidden < 0:
            raise ValueError(f"hidden must be at least 0, got {hidden}")
        checks.generators(generator=generator)
        width = self.channels[-1]
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, width, 1)
        ) if hidden else None  # fmt: skip
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map a pyramid to a pyramid of the same shapes."""
        maps = refuse_maps(maps, self.channels)
        return maps if self.layers is None else [*maps[:-1], maps[-1] + self.layers(maps[-1])]


class OnMaps(nn.Module):
    """A decoder that takes its maps one by one, as counters and timers give them."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        checks.networks(decoder=decoder)
        self.decoder = decoder

    def forward(self, *maps: Tensor) -> Tensor:
        """Give the maps to the decoder as a list."""
        return self.decoder(list(maps))


def cost(decoder: nn.Module, maps: Sequence[Tensor]) -> tuple[int, int]:
    """Return MACs of one image and parameters of a decoder; ``maps`` are tensors with a batch dimension."""
    checks.networks(decoder=decoder)
    _refuse_shapes(maps)
    return measure.macs(OnMaps(decoder), tuple(maps)), measure.parameters(decoder)


def equal_size(
    build: Callable[[int, int], nn.Module], maps: Sequence[Tensor], macs: int, parameters: int, widths: Sequence[int]
) -> tuple[int, int]:
    """Return the width and the filling with which a decoder costs what another one does.

    Parameters
    ----------
    build : function of (width, hidden)
        A decoder with ``hidden`` channels in its :class:`Filling`. Parameters must grow evenly with ``hidden``, MACs
        with ``width``.
    maps : sequence of Tensor
        With a batch dimension; only their shapes count.
    macs, parameters : int
        What is to be met, of one image.
    widths : sequence of int
        Among which the width is chosen.

    Returns
    -------
    (width, hidden)
        The pair whose MACs come closest; for each width ``hidden`` is what its parameters leave.

    Raises
    ------
    ValueError
        If an argument does not fit, or every width alone has more parameters.
    """
    checks.functions(2, networks=True, build=build)
    checks.counts(macs=macs, parameters=parameters)
    _refuse_shapes(maps)
    if not isinstance(widths, (list, tuple, range)) or not widths:
        raise ValueError(f"widths must be a sequence of counts, got {checks.shown(widths)}")
    checks.counts(**{f"widths[{place}]": width for place, width in enumerate(widths)})
    blank = [torch.empty(1, *each.shape[1:], device="meta") for each in maps]
    ordered, found = sorted(widths), {}

    def at(place: int) -> float:
        """MACs with a width and what its parameters leave; infinite where they leave nothing."""
        width = ordered[place]
        if width not in found:
            found[width] = _filled(build, blank, width, parameters)
        return found[width][0]

    place = bisect.bisect_left(range(len(ordered)), macs, key=at)  # the first that costs as much
    near = [each for each in (place - 1, place) if 0 <= each < len(ordered) and math.isfinite(at(each))]
    if not near:
        raise ValueError(f"parameters must leave room for one of the widths, got {parameters}")
    width = ordered[min(near, key=lambda each: abs(at(each) - macs))]
    return width, found[width][1]


def _refuse_shapes(maps: Sequence[Tensor]) -> None:
    if not isinstance(maps, (list, tuple)) or not maps:
        raise ValueError(f"maps must be a list of maps, got {checks.shown(maps)}")
    for place, each in enumerate(maps):
        if not isinstance(each, Tensor) or each.ndim != 4 or 0 in each.shape:
            raise ValueError(f"maps[{place}] must be (B, C, H, W), got {checks.shown(each)}")


def _filled(
    build: Callable[[int, int], nn.Module], maps: Sequence[Tensor], width: int, parameters: int
) -> tuple[float, int]:
    """Return the MACs of a width with the filling that its parameters leave, and that filling."""
    with torch.device("meta"):
        none, one, two = (measure.parameters(build(width, hidden)) for hidden in (0, 1, 2))
        if none > parameters:
            return math.inf, 0
        hidden = max(round((parameters - one) / (two - one)) + 1, 0)
        return cost(build(width, hidden), maps)[0], hidden
