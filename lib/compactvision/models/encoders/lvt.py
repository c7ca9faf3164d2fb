"""Lite Vision Transformer: attention inside the kernel of a convolution, then attention twice :cite:`yang2022lvt`.

The first stage weighs the nine places of each window by weights that the window itself predicts (convolutional
self-attention). The others make queries at three dilations and run their attention twice with the same weights
(recursive atrous self-attention). Embeddings are those of MiT; LayerNorms have eps 1e-5, and none stands behind a
stage. Counts are for three input channels; MACs at 512 x 512 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.attention import (
    MixFFN,
    drop_path,
    initialise_attention_,
    merge_heads,
    refuse_tokens,
    split_heads,
    to_maps,
    to_tokens,
)
from compactvision.models.encoders.stages import Stage, refuse_stages, rising
from compactvision.models.layers import refuse_images

KERNEL, STRIDE = 3, 2
DILATIONS = (1, 3, 5)


class ConvolutionalSelfAttention(nn.Module):
    """Windows of 3 x 3 at stride 2 whose places exchange what they hold; overlapping results are added up.

    Each place of a window has its own matrix for the values. The 9 x 9 weights of a window come from the mean of the
    2 x 2 places around its middle, by a linear layer, and a softmax over the nine places that are read.

    Parameters
    ----------
    width : int
        Channels.
    heads : int
        Divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        checks.counts(width=width, heads=heads)
        if width % heads:
            raise ValueError(f"heads must divide the width {width}, got {heads}")
        self.width, self.heads = width, heads
        places = KERNEL**2
        self.weigh = nn.Linear(width, places**2 * heads)
        self.values = nn.Conv2d(places * width, places * width, 1, groups=places, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on a grid of ``size`` = (H, W) to tokens of the same shape."""
        refuse_tokens(self.weigh, x=x)
        maps, places = to_maps(x, size), KERNEL**2
        pooled = F.avg_pool2d(maps, STRIDE, STRIDE, ceil_mode=True)  # (B, C, h, w)
        grid = (pooled.shape[2], pooled.shape[3])
        logits = self.weigh(to_tokens(pooled)).unflatten(2, (self.heads, places, places))  # (B, hw, heads, 9, 9)
        weights = torch.softmax(logits / math.sqrt(self.width // self.heads), dim=-1)
        windows = F.unfold(maps, KERNEL, padding=KERNEL // 2, stride=STRIDE)  # (B, C * 9, hw)
        windows = windows.unflatten(1, (self.width, places)).transpose(1, 2).flatten(1, 2)  # (B, 9 * C, hw)
        values = self.values(windows.unflatten(2, grid)).flatten(2)  # (B, 9 * C, hw)
        values = values.unflatten(1, (places, self.heads, -1)).permute(0, 4, 2, 1, 3)  # (B, hw, heads, 9, d)
        mixed = (weights @ values).permute(0, 2, 4, 3, 1).flatten(1, 3)  # (B, heads * d * 9, hw)
        return self.project(to_tokens(F.fold(mixed, size, KERNEL, padding=KERNEL // 2, stride=STRIDE)))


class RecursiveAtrousAttention(nn.Module):
    """Attention with queries at three dilations, run twice: ``u = SiLU(A(x))``, then ``SiLU(A(u + x))``.

    Queries are ``sum_d SiLU(conv_d(x W_q))``, one depthwise 3 x 3 kernel at dilations 1, 3 and 5. Keys and values come
    from a map reduced as in MiT.

    Parameters
    ----------
    width, heads, reduction : int
        As for :class:`~compactvision.models.attention.SpatialReductionAttention`.
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        checks.counts(width=width, heads=heads, reduction=reduction)
        if width % heads:
            raise ValueError(f"heads must divide the width {width}, got {heads}")
        self.width, self.heads, self.reduction = width, heads, reduction
        self.query = nn.Linear(width, width, bias=False)
        self.atrous = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def once(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return A(x)."""
        maps = to_maps(self.query(x), size)
        weight = self.atrous.weight
        dilated = [F.conv2d(maps, weight, None, 1, far, far, self.width) for far in DILATIONS]
        query = to_tokens(sum(map(F.silu, dilated[1:]), F.silu(dilated[0])))
        memory = x
        if self.reduction > 1:
            if min(size) < self.reduction:
                raise ValueError(f"size must be at least the reduction {self.reduction}, got {tuple(size)}")
            memory = self.norm(to_tokens(self.reduce(to_maps(x, size))))
        key, value = self.key_value(memory).chunk(2, dim=-1)
        query, key, value = (split_heads(each, self.heads) for each in (query, key, value))
        return self.project(merge_heads(F.scaled_dot_product_attention(query, key, value)))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on a grid of ``size`` = (H, W) to tokens of the same shape."""
        refuse_tokens(self.query, x=x)
        return F.silu(self.once(F.silu(self.once(x, size)) + x, size))


class MLP(nn.Module):
    """Linear, GELU, linear.

    Parameters
    ----------
    width, ratio : int
        Channels, and those in the middle as a multiple.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        checks.counts(width=width, ratio=ratio)
        self.expand, self.shrink = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, C) to tokens of the same shape; ``size`` is not needed."""
        return self.shrink(F.gelu(self.expand(x)))


class LVTLayer(nn.Module):
    """``x += attention(LN x)``, then ``x += FFN(LN x)``.

    Parameters
    ----------
    width, heads, ratio : int
        Channels, heads and the ratio of the feed-forward layer.
    reduction : int, optional
        Of the recursive attention; None for convolutional self-attention and a plain feed-forward layer.
    drop : float, default 0
        Probability that an image leaves out a branch in training.
    """

    def __init__(self, width: int, heads: int, ratio: int, reduction: int | None, drop: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention: nn.Module
        self.ffn: nn.Module
        if reduction is None:
            self.attention, self.ffn = ConvolutionalSelfAttention(width, heads), MLP(width, ratio)
        else:
            self.attention, self.ffn = RecursiveAtrousAttention(width, heads, reduction), MixFFN(width, ratio)
        self.drop = drop_path(drop)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on a grid of ``size`` = (H, W) to tokens of the same shape."""
        x = x + self.drop(self.attention(self.norm1(x), size))
        return x + self.drop(self.ffn(self.norm2(x), size))


class LVT(nn.Module):
    """Lite Vision Transformer with any number of stages.

    Parameters
    ----------
    widths, depths, heads, ratios : sequence of int
        Channels, layers, heads and feed-forward ratios of the stages; the published ones by default.
    reductions : sequence of int
        Of the recursive attention; the first is not used.
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
        widths: Sequence[int] = (64, 64, 160, 256),
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (2, 2, 5, 8),
        ratios: Sequence[int] = (4, 8, 4, 4),
        reductions: Sequence[int] = (8, 4, 2, 1),
        *,
        in_channels: int = 3,
        drop_path: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(in_channels=in_channels)
        checks.generators(generator=generator)
        self.channels = refuse_stages(widths=widths, depths=depths, heads=heads, ratios=ratios, reductions=reductions)
        drops = iter(rising(drop_path, sum(depths)))
        before = (in_channels, *self.channels[:-1])
        self.stages = nn.ModuleList()
        for place, width in enumerate(self.channels):
            reduction = None if place == 0 else reductions[place]
            layers = (
                LVTLayer(width, heads[place], ratios[place], reduction, next(drops)) for _ in range(depths[place])
            )
            self.stages.append(Stage(before[place], width, list(layers), first=place == 0))
        initialise_attention_(self, generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to maps (B, C_i, H / 2^(i+1), W / 2^(i+1)) with sides rounded up, fine to coarse."""
        refuse_images(x, self.stages[0].get_submodule("embed"))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def lvt(**options) -> LVT:
    """Return LVT; ``options`` are those of :class:`LVT`. Counts: 3,429,092 parameters, 5,315,100,672 MACs."""
    return LVT(**options)
