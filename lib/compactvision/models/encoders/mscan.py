"""MSCAN encoders of SegNeXt: attention made of large strip convolutions, without a softmax :cite:`guo2022segnext`.

A layer weighs each place by what a depthwise 5 x 5 convolution and three pairs of strips (1 x 7 and 7 x 1, 1 x 11 and
11 x 1, 1 x 21 and 21 x 1) find around it. BatchNorm stands everywhere but behind the stages, where LayerNorm does.
Counts are for three input channels; MACs at 512 x 512 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.attention import drop_path, initialise_attention_, to_maps, to_tokens
from compactvision.models.encoders.stages import refuse_stages, rising
from compactvision.models.layers import refuse_images

STRIPS = (7, 11, 21)
LAYER_SCALE = 1e-2


class StripAttention(nn.Module):
    """``x + out(gate(u) * u)`` with ``u = GELU(in(x))``; the gate is a sum of strip convolutions, mixed by a 1 x 1 one.

    Parameters
    ----------
    width : int
        Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        checks.counts(width=width)
        self.before = nn.Conv2d(width, width, 1)
        self.square = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, (1, size), padding=(0, size // 2), groups=width),
                nn.Conv2d(width, width, (size, 1), padding=(size // 2, 0), groups=width),
            )
            for size in STRIPS
        )
        self.mix = nn.Conv2d(width, width, 1)
        self.behind = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        inside = F.gelu(self.before(x))
        around = self.square(inside)
        gate = around
        for strip in self.strips:
            gate = gate + strip(around)
        return x + self.behind(self.mix(gate) * inside)


class ConvFFN(nn.Module):
    """1 x 1 convolution, depthwise 3 x 3, GELU, 1 x 1 convolution.

    Parameters
    ----------
    width : int
        Channels.
    ratio : int
        Channels in the middle, as a multiple of ``width``.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        checks.counts(width=width, ratio=ratio)
        self.expand = nn.Conv2d(width, ratio * width, 1)
        self.mix = nn.Conv2d(ratio * width, ratio * width, 3, padding=1, groups=ratio * width)
        self.shrink = nn.Conv2d(ratio * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.shrink(F.gelu(self.mix(self.expand(x))))


class MSCANLayer(nn.Module):
    """``x += s_1 * attention(BN x)``, then ``x += s_2 * FFN(BN x)`` with a learned scale for each channel.

    Parameters
    ----------
    width, ratio : int
        As for :class:`ConvFFN`.
    drop : float, default 0
        Probability that an image leaves out a branch in training.
    """

    def __init__(self, width: int, ratio: int, drop: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.attention, self.ffn = StripAttention(width), ConvFFN(width, ratio)
        self.scale1 = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE))
        self.scale2 = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE))
        self.drop = drop_path(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = x + self.drop(self.scale1 * self.attention(self.norm1(x)))
        return x + self.drop(self.scale2 * self.ffn(self.norm2(x)))


class MSCANStage(nn.Module):
    """Embedding, layers and LayerNorm.

    Parameters
    ----------
    in_channels, width, ratio : int
        Channels before and behind, and the ratio of the feed-forward layers.
    drops : sequence of float
        One probability a layer.
    stem : bool
        Whether the embedding is that of images: two convolutions with stride 2 instead of one.
    """

    def __init__(self, in_channels: int, width: int, ratio: int, drops: Sequence[float], *, stem: bool) -> None:
        super().__init__()
        if stem and width % 2:
            raise ValueError(f"widths[0] must be even, got {width}")
        self.embed = _stem(in_channels, width) if stem else _down(in_channels, width)
        self.layers = nn.Sequential(*(MSCANLayer(width, ratio, drop) for drop in drops))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's map."""
        x = self.layers(self.embed(x))
        return to_maps(self.norm(to_tokens(x)), (x.shape[2], x.shape[3]))


class MSCAN(nn.Module):
    """Multi-scale convolutional attention network with any number of stages.

    Parameters
    ----------
    widths, depths, ratios : sequence of int
        Channels, layers and feed-forward ratios of the stages; those of T by default. The first width is even.
    in_channels : int, default 3
        Channels of the images.
    drop_path : float, default 0.1
        Largest probability that a branch is left out in training; it rises linearly from 0 over the layers.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Attributes
    ----------
    channels : tuple of int
        Widths of the maps, fine to coarse.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 160, 256),
        depths: Sequence[int] = (3, 3, 5, 2),
        ratios: Sequence[int] = (8, 8, 4, 4),
        *,
        in_channels: int = 3,
        drop_path: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(in_channels=in_channels)
        checks.generators(generator=generator)
        self.channels = refuse_stages(widths=widths, depths=depths, ratios=ratios)
        drops = iter(rising(drop_path, sum(depths)))
        before = (in_channels, *self.channels[:-1])
        self.stages = nn.ModuleList(
            MSCANStage(
                before[place], width, ratios[place], [next(drops) for _ in range(depths[place])], stem=place == 0
            )
            for place, width in enumerate(self.channels)
        )
        initialise_attention_(self, generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to maps (B, C_i, H / 2^(i+1), W / 2^(i+1)) with sides rounded up, fine to coarse."""
        refuse_images(x, self.stages[0].get_submodule("embed.0"))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _stem(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(*_down(in_channels, width // 2), nn.GELU(), *_down(width // 2, width))


def _down(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width))


WIDE = (64, 128, 320, 512)


def mscan_t(**options) -> MSCAN:
    """Return MSCAN-T; ``options`` are those of :class:`MSCAN`. Counts: 3,903,584 parameters, 4,636,508,160 MACs."""
    return MSCAN(**options)


def mscan_s(**options) -> MSCAN:
    """Return MSCAN-S; ``options`` are those of :class:`MSCAN`. Counts: 13,450,176 parameters, 13,375,111,168 MACs."""
    return MSCAN(WIDE, (2, 2, 4, 2), **options)


def mscan_b(**options) -> MSCAN:
    """Return MSCAN-B; ``options`` are those of :class:`MSCAN`. Counts: 26,277,824 parameters, 26,548,764,672 MACs."""
    return MSCAN(WIDE, (3, 3, 12, 3), **options)
