"""Mix Transformer encoders MiT-B0 to B5 of SegFormer :cite:`xie2021segformer`.

Four stages; each embeds overlapping patches (a convolution, then LayerNorm), runs layers of attention with reduced keys
and of the feed-forward layer with a depthwise convolution, and ends in LayerNorm. There is no position encoding: the
zero padding of the depthwise convolutions tells where a token is. All LayerNorms have eps 1e-6. Counts are for three
input channels; MACs are those of convolutions, linear layers and attention products at 512 x 512 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.attention import MixFFN, SpatialReductionAttention, drop_path, initialise_attention_
from compactvision.models.encoders.stages import Stage, refuse_stages, rising
from compactvision.models.layers import refuse_images

EPS = 1e-6


class MiTLayer(nn.Module):
    """``x += SRA(LN x)``, then ``x += MixFFN(LN x)``.

    Parameters
    ----------
    width, heads, reduction
        As for :class:`~compactvision.models.attention.SpatialReductionAttention`.
    ratio : int, default 4
        Width of the feed-forward layer, as a multiple of ``width``.
    drop : float, default 0
        Probability that an image leaves out a branch in training.
    """

    def __init__(self, width: int, heads: int, reduction: int, ratio: int = 4, drop: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attention = SpatialReductionAttention(width, heads, reduction, eps=EPS)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.ffn = MixFFN(width, ratio)
        self.drop = drop_path(drop)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on a grid of ``size`` = (H, W) to tokens of the same shape."""
        x = x + self.drop(self.attention(self.norm1(x), size))
        return x + self.drop(self.ffn(self.norm2(x), size))


class MiT(nn.Module):
    """Mix Transformer with any number of stages.

    Parameters
    ----------
    widths, depths, heads, reductions : sequence of int
        Channels, layers, heads and reductions of the stages; those of B0 by default.
    ratio : int, default 4
        Width of the feed-forward layers, as a multiple of the stage's.
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

    Raises
    ------
    ValueError
        If the sequences have unequal lengths, hold no counts, or heads do not divide widths.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 160, 256),
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (1, 2, 5, 8),
        reductions: Sequence[int] = (8, 4, 2, 1),
        *,
        ratio: int = 4,
        in_channels: int = 3,
        drop_path: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(in_channels=in_channels)
        checks.generators(generator=generator)
        self.channels = refuse_stages(widths=widths, depths=depths, heads=heads, reductions=reductions)
        drops = iter(rising(drop_path, sum(depths)))
        before = (in_channels, *self.channels[:-1])
        self.stages = nn.ModuleList()
        for place, width in enumerate(self.channels):
            layers = [
                MiTLayer(width, heads[place], reductions[place], ratio, next(drops)) for _ in range(depths[place])
            ]
            self.stages.append(Stage(before[place], width, layers, first=place == 0, eps=EPS, final=True))
        initialise_attention_(self, generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to maps (B, C_i, H / 2^(i+1), W / 2^(i+1)) with sides rounded up, fine to coarse."""
        refuse_images(x, self.stages[0].get_submodule("embed"))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


WIDE = (64, 128, 320, 512)


def mit_b0(**options) -> MiT:
    """Return MiT-B0; ``options`` are those of :class:`MiT`. Counts: 3,319,392 parameters, 3,203,661,824 MACs."""
    return MiT(**options)


def mit_b1(**options) -> MiT:
    """Return MiT-B1; ``options`` are those of :class:`MiT`. Counts: 13,151,424 parameters, 10,433,855,488 MACs."""
    return MiT(WIDE, **options)


def mit_b2(**options) -> MiT:
    """Return MiT-B2; ``options`` are those of :class:`MiT`. Counts: 24,196,288 parameters, 20,235,419,648 MACs."""
    return MiT(WIDE, (3, 4, 6, 3), **options)


def mit_b3(**options) -> MiT:
    """Return MiT-B3; ``options`` are those of :class:`MiT`. Counts: 44,072,128 parameters, 36,860,592,128 MACs."""
    return MiT(WIDE, (3, 4, 18, 3), **options)


def mit_b4(**options) -> MiT:
    """Return MiT-B4; ``options`` are those of :class:`MiT`. Counts: 60,842,688 parameters, 53,465,055,232 MACs."""
    return MiT(WIDE, (3, 8, 27, 3), **options)


def mit_b5(**options) -> MiT:
    """Return MiT-B5; ``options`` are those of :class:`MiT`. Counts: 81,443,008 parameters, 69,407,866,880 MACs."""
    return MiT(WIDE, (3, 6, 40, 3), **options)
