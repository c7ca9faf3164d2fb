"""One small network whose mixer is swapped: all that differs between two arms is how places hear of each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.architectures.afidaf.filters import AlternatingFilter, FourierFilter, ImageFilter
from compactvision.models.attention import CrossAttention, to_maps, to_tokens
from compactvision.models.layers import refuse_images
from compactvision.models.spectral import AFNO, GlobalFilter


class AveragePool(nn.Module):
    """The mean over a window of 3 x 3 minus the place itself, without a parameter (PoolFormer, Yu et al. 2022)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_images(x, self)
        if not x.is_floating_point() or 0 in x.shape:
            raise ValueError(f"x must be floating-point maps (B, C, H, W), got {checks.shown(x)}")
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x


class SelfAttention(nn.Module):
    """Every place asks every other place.

    Parameters
    ----------
    channels, heads : int
        ``heads`` divides ``channels``.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        checks.counts(channels=channels, heads=heads)
        self.attention = CrossAttention(channels, channels, heads, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_images(x, self)
        tokens = to_tokens(x)
        return to_maps(self.attention(tokens, tokens), (x.shape[2], x.shape[3]))


class Zero(nn.Module):
    """No mixer: nothing is added."""

    def forward(self, x: Tensor) -> Tensor:
        """Map anything to zeros of its shape."""
        if not isinstance(x, Tensor) or x.layout != torch.strided or x.is_complex():
            raise ValueError(f"x must be a dense tensor of real numbers, got {checks.shown(x)}")
        return torch.zeros_like(x)


def depthwise(channels: int, kernel: int = 3) -> nn.Conv2d:
    """Return a window of ``kernel`` x ``kernel`` for each channel by itself; ``kernel`` is odd."""
    checks.counts(channels=channels, kernel=kernel)
    if kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, got {kernel}")
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


WINDOW = {"near": 3, "far": 5, "dilation": 2}
"""Of the image filter: 11 places of 16, as the paper's 23 of the 32 x 32 places in its first stage with filters."""
MIXERS: dict[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    "none": lambda channels, size: Zero(),
    "pool": lambda channels, size: AveragePool(),
    "depthwise": lambda channels, size: depthwise(channels),
    "large": lambda channels, size: depthwise(channels, 11),
    "lka": lambda channels, size: ImageFilter(channels, grouped=False, near=3, far=5, dilation=2),
    "global": lambda channels, size: GlobalFilter(channels, size),
    "afno": lambda channels, size: AFNO(channels),
    "aff": lambda channels, size: FourierFilter(channels),
    "idaf": lambda channels, size: ImageFilter(channels, near=3, far=5, dilation=2),
    "afidaf": lambda channels, size: AlternatingFilter(channels, window=WINDOW),
    "attention": lambda channels, size: SelfAttention(channels),
}
"""Functions of channels and size of the maps."""


class MixerBlock(nn.Module):
    """``x + mixer(N1(x))``, then ``x + MLP(N2(x))`` at each place (MetaFormer)."""

    def __init__(self, channels: int, hidden: int, mixer: nn.Module) -> None:
        super().__init__()
        checks.counts(channels=channels, hidden=hidden)
        checks.networks(mixer=mixer)
        self.norm1, self.norm2 = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)
        self.mixer = mixer
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_images(x, self.mlp[0])
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Restorer(nn.Module):
    """Image to image: a 3 x 3 convolution, blocks with one kind of mixer, a 3 x 3 convolution, plus the image.

    Parameters
    ----------
    mixer : str
        One of ``MIXERS``.
    channels, hidden : int
        Width, and width inside the MLPs.
    depth : int, default 2
        Blocks.
    size : tuple of int, default (16, 16)
        Of the images in training; the global filter is made for it.
    planes : int, default 1
        Channels of the images.

    Raises
    ------
    ValueError
        If a word is unknown or a number no count; in ``forward`` if images do not fit.

    Examples
    --------
    >>> Restorer("afidaf", 16, 32)(torch.zeros(1, 1, 16, 24)).shape
    torch.Size([1, 1, 16, 24])
    """

    def __init__(
        self,
        mixer: str,
        channels: int,
        hidden: int,
        *,
        depth: int = 2,
        size: tuple[int, int] = (16, 16),
        planes: int = 1,
    ) -> None:
        super().__init__()
        checks.one_of(MIXERS, mixer=mixer)
        checks.counts(channels=channels, hidden=hidden, depth=depth, planes=planes)
        self.stem = nn.Conv2d(planes, channels, 3, padding=1)
        blocks = (MixerBlock(channels, hidden, MIXERS[mixer](channels, size)) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(channels, planes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, planes, H, W) to the same shape."""
        refuse_images(images, self.stem)
        return images + self.head(self.blocks(self.stem(images)))
