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
from compactvision.models.attention import (
    MixFFN,
    SpatialReductionAttention,
    drop_path,
    initialise_attention_,
    to_maps,
    to_tokens,
)
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


class MiTStage(nn.Module):
    """Patch embedding, layers and LayerNorm; a map (B, C_in, H, W) becomes (B, width, ceil(H / s), ceil(W / s)).

    Parameters
    ----------
    in_channels, width : int
        Channels before and behind.
    heads, reduction, ratio
        As for :class:`MiTLayer`.
    drops : sequence of float
        One probability a layer.
    kernel, stride : int
        Of the embedding: 7 and 4 in the first stage, 3 and 2 in the others.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        heads: int,
        reduction: int,
        ratio: int,
        drops: Sequence[float],
        kernel: int,
        stride: int,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2)
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.layers = nn.ModuleList(MiTLayer(width, heads, reduction, ratio, drop) for drop in drops)
        self.norm2 = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's map."""
        x = self.embed(x)
        size = (x.shape[2], x.shape[3])
        tokens = self.norm1(to_tokens(x))
        for layer in self.layers:
            tokens = layer(tokens, size)
        return to_maps(self.norm2(tokens), size)


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
        self.stages = nn.ModuleList(
            MiTStage(
                before[place],
                self.channels[place],
                heads[place],
                reductions[place],
                ratio,
                [next(drops) for _ in range(depths[place])],
                kernel=7 if place == 0 else 3,
                stride=4 if place == 0 else 2,
            )
            for place in range(len(self.channels))
        )
        initialise_attention_(self, generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to maps (B, C_i, H / 2^(i+1), W / 2^(i+1)) with sides rounded up, fine to coarse."""
        refuse_images(x, self.stages[0].get_submodule("embed"))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def rising(highest: float, count: int) -> list[float]:
    """Return ``count`` rates that rise linearly from 0 to ``highest``."""
    checks.finite(drop_path=highest)
    if not 0 <= highest < 1:
        raise ValueError(f"drop_path must be in [0, 1), got {highest}")
    return [highest * place / max(count - 1, 1) for place in range(count)]


def refuse_stages(**values: Sequence[int]) -> tuple[int, ...]:
    """Return the first of several sequences of counts, and refuse others or unequal lengths."""
    first_name, first = next(iter(values.items()))
    for name, value in values.items():
        if not isinstance(value, (tuple, list)) or not value:
            raise ValueError(f"{name} must be a sequence of whole numbers, got {checks.shown(value)}")
        checks.counts(**{f"{name}[{place}]": number for place, number in enumerate(value)})
        if len(value) != len(first):
            raise ValueError(f"{name} must have one number for each of the {len(first)} {first_name}, got {len(value)}")
    return tuple(first)


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
