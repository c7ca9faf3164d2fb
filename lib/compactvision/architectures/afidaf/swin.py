"""A Swin whose attention can be replaced, stage by stage, and whose MLPs can be grouped: HAFIDAF as far as it is known.

The paper compresses Swin-T: early stages get both filters and grouped MLPs with a shuffle, late ones the Fourier
filter. Widths of the parts are not public, so :func:`hybrid` is a reconstruction with a count of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.architectures.afidaf.filters import AlternatingFilter, FourierFilter, ImageFilter, shuffle
from compactvision.architectures.afidaf.skeleton import AveragePool, depthwise
from compactvision.models.attention import initialise_attention_
from compactvision.models.layers import refuse_images, refuse_kind
from compactvision.models.spectral import SpectralMLP
from compactvision.models.windows import WindowAttention

REPLACEMENTS: dict[str, Callable[[int], nn.Module]] = {
    "pool": lambda channels: AveragePool(),
    "depthwise": depthwise,
    "aff": lambda channels: FourierFilter(channels),
    "idaf": lambda channels: ImageFilter(channels),
    "afidaf": lambda channels: AlternatingFilter(channels),
}
"""What may stand in the place of attention: functions of the channels of maps (B, C, H, W)."""


class ChannelsLast(nn.Module):
    """A mixer of maps (B, C, H, W) that takes and gives (B, H, W, C)."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        checks.networks(mixer=mixer)
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to what the mixer makes of it, channels last."""
        _refuse(x)
        return self.mixer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class GroupedMLP(nn.Module):
    """Two linear layers with GELU between at each place; with groups, a shuffle of the middle lets groups meet.

    Parameters
    ----------
    width : int
        C.
    ratio : int, default 4
        The middle has ``ratio * C`` channels.
    groups : int, default 1
        Divides C; 1 is the usual MLP.
    """

    def __init__(self, width: int, ratio: int = 4, groups: int = 1) -> None:
        super().__init__()
        checks.counts(width=width, ratio=ratio, groups=groups)
        if width % groups:
            raise ValueError(f"groups must divide the width {width}, got {groups}")
        self.groups = groups
        self.expand = nn.Conv2d(width, ratio * width, 1, groups=groups)
        self.shrink = nn.Conv2d(ratio * width, width, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_images(x, self.expand)
        return self.shrink(shuffle(nn.functional.gelu(self.expand(x)), self.groups))


class SwinBlock(nn.Module):
    """``x + mixer(LN(x))``, then ``x + MLP(LN(x))`` on maps (B, H, W, C).

    Parameters
    ----------
    width : int
        C.
    mixer : nn.Module
        Of (B, H, W, C).
    groups : int, default 1
        Of the MLP.
    """

    def __init__(self, width: int, mixer: nn.Module, groups: int = 1) -> None:
        super().__init__()
        checks.counts(width=width)
        checks.networks(mixer=mixer)
        self.width = width
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.mixer = mixer
        self.mlp = ChannelsLast(GroupedMLP(width, 4, groups))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        _refuse(x, self.width)
        refuse_kind(self.norm1.weight, x=x)
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    """Four neighbours become one place with twice the channels; an odd side gets a row or column of zeros.

    Parameters
    ----------
    width : int
        Channels that come in.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        checks.counts(width=width)
        self.width = width
        self.norm = nn.LayerNorm(4 * width, eps=1e-5)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        _refuse(x, self.width)
        refuse_kind(self.norm.weight, x=x)
        x = nn.functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(torch.cat(parts, dim=-1)))


class Swin(nn.Module):
    """Stages of blocks on ever coarser maps, and a classifier.

    Parameters
    ----------
    mixers : sequence of str
        For each stage ``"attention"`` or one of ``REPLACEMENTS``.
    width : int
        Channels of the first stage; each further one has twice as many.
    depths : sequence of int
        Blocks of each stage.
    head_width : int, default 32
        Channels of one head of attention.
    window : int, default 7
        Side of its windows.
    patch : int, default 4
        Side of the patches that become places.
    groups : sequence of int, optional
        Of the MLPs of each stage; all 1 by default.
    num_classes : int, default 1000
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If sequences differ in length, a word is unknown or a number does not fit.

    Examples
    --------
    >>> network = Swin(("afidaf", "attention"), 16, (1, 1), head_width=8, window=4, patch=2, num_classes=10)
    >>> network(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    def __init__(
        self,
        mixers: Sequence[str],
        width: int,
        depths: Sequence[int],
        *,
        head_width: int = 32,
        window: int = 7,
        patch: int = 4,
        groups: Sequence[int] | None = None,
        num_classes: int = 1000,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(width=width, head_width=head_width, window=window, patch=patch, num_classes=num_classes)
        checks.generators(generator=generator)
        if not isinstance(mixers, (tuple, list)) or not mixers:
            raise ValueError(f"mixers must be a sequence of words, got {checks.shown(mixers)}")
        for place, word in enumerate(mixers):
            checks.one_of(["attention", *REPLACEMENTS], **{f"mixers[{place}]": word})
        groups = [1] * len(mixers) if groups is None else groups
        for name, row in (("depths", depths), ("groups", groups)):
            if not isinstance(row, (tuple, list)) or len(row) != len(mixers):
                raise ValueError(f"{name} must be {len(mixers)} counts, one a stage, got {checks.shown(row)}")
            checks.counts(**{f"{name}[{place}]": each for place, each in enumerate(row)})
        if width % head_width:
            raise ValueError(f"head_width must divide the width {width}, got {head_width}")
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.norm = nn.LayerNorm(width, eps=1e-5)
        stages: list[nn.Module] = []
        for place, (word, depth, share) in enumerate(zip(mixers, depths, groups)):
            channels = width * 2**place
            stages += [Merge(channels // 2)] if place else []
            stages += [
                SwinBlock(channels, _mixer(word, channels, head_width, window, number % 2), share)
                for number in range(depth)
            ]
        self.stages = nn.Sequential(*stages)
        last = width * 2 ** (len(mixers) - 1)
        self.last_norm, self.head = nn.LayerNorm(last, eps=1e-5), nn.Linear(last, num_classes)
        self._start_(generator)

    def _start_(self, generator: torch.Generator | None) -> None:
        initialise_attention_(self, generator)
        for module in self.modules():
            if isinstance(module, SpectralMLP) and not module.weights.is_meta:
                for parameter in (module.weights, module.biases):
                    nn.init.normal_(parameter, std=0.02, generator=generator)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to the maps behind each stage, fine to coarse.

        Returns
        -------
        list of torch.Tensor
            (B, C_i, H_i, W_i): ``width * 2 ** i`` channels on ``ceil(H / (patch * 2 ** i))`` rows where the side fits
            the patch; a decoder's pyramid. The last norm is not applied.
        """
        x, ends = self._embedded(images), []
        for layer in self.stages:
            if isinstance(layer, Merge):
                ends.append(x)
            x = layer(x)
        return [each.permute(0, 3, 1, 2) for each in (*ends, x)]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, num_classes)."""
        return self.head(self.last_norm(self.stages(self._embedded(images))).mean((1, 2)))

    def _embedded(self, images: Tensor) -> Tensor:
        refuse_images(images, self.embed)
        if min(images.shape[2:]) < self.embed.kernel_size[0]:
            raise ValueError(f"images must have at least one patch, got {checks.shown(images)}")
        return self.norm(self.embed(images).permute(0, 2, 3, 1))  # (B, H / patch, W / patch, C)


def hybrid(num_classes: int = 1000, *, generator: torch.Generator | None = None) -> Swin:
    """Return Swin-T with its attention replaced: our reconstruction of HAFIDAF, whose parts are not public.

    Stages 1 and 2 have both filters, stages 3 and 4 the Fourier filter, and all MLPs have two groups.
    """
    words = ("afidaf", "afidaf", "aff", "aff")
    return Swin(words, 96, (2, 2, 6, 2), groups=(2, 2, 2, 2), num_classes=num_classes, generator=generator)


def _mixer(word: str, channels: int, head_width: int, window: int, odd: int) -> nn.Module:
    if word != "attention":
        return ChannelsLast(REPLACEMENTS[word](channels))
    heads = channels // head_width
    sizes = [head_width] * heads
    return WindowAttention(channels, window, sizes, sizes, shift=window // 2 * odd)


def _refuse(x: Tensor, width: int | None = None) -> None:
    if not isinstance(x, Tensor) or x.ndim != 4 or width not in (None, x.shape[3]) or 0 in x.shape:
        raise ValueError(f"x must be (B, H, W, {width or 'C'}), got {checks.shown(x)}")
