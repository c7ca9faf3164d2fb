"""The last layers of a decoder, SegFormer's decoder, and what decoders share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.attention import initialise_attention_
from compactvision.models.layers import refuse_kind

SPARE_WIDTH = 256
"""Input channels of the predictor that the official decoders hold beside their own, and never run."""


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (B, C, H, W) bilinearly on a grid of ``size`` = (H', W'), corners not aligned.

    Raises
    ------
    ValueError
        If ``maps`` are none or ``size`` has no two counts.
    """
    plain = isinstance(maps, Tensor) and maps.layout == torch.strided
    if not plain or maps.ndim != 4 or not maps.is_floating_point() or 0 in maps.shape:
        raise ValueError(f"maps must be (B, C, H, W), got {checks.shown(maps)}")
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size must be (H, W), got {checks.shown(size)}")
    checks.counts(**{"size[0]": size[0], "size[1]": size[1]})
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def refuse_maps(maps: Sequence[Tensor], channels: Sequence[int], layer: nn.Module | None = None) -> list[Tensor]:
    """Return maps as a list; a ValueError where they are not one (B, C_i, H_i, W_i) for each of ``channels``.

    Their type and device must be those of the layer's weights.
    """
    if not isinstance(maps, (list, tuple)) or len(maps) != len(channels):
        raise ValueError(f"maps must be a list of {len(channels)} maps, fine to coarse, got {checks.shown(maps)}")
    for place, (each, width) in enumerate(zip(maps, channels, strict=True)):
        if not isinstance(each, Tensor) or each.ndim != 4 or each.shape[1] != width or 0 in each.shape:
            raise ValueError(f"maps[{place}] must be (B, {width}, H, W), got {checks.shown(each)}")
        if len(each) != len(maps[0]) or not each.is_floating_point():
            raise ValueError(f"maps[{place}] must have the {len(maps[0])} images of maps[0], got {checks.shown(each)}")
        refuse_kind(next(layer.parameters(), None) if layer is not None else None, **{f"maps[{place}]": each})
    return list(maps)


def refuse_channels(channels: Sequence[int], least: int = 1) -> tuple[int, ...]:
    """Return widths of a pyramid, fine to coarse; a ValueError where they are no sequence of counts."""
    if not isinstance(channels, (tuple, list)) or len(channels) < least:
        raise ValueError(f"channels must be a sequence of at least {least} whole numbers, got {checks.shown(channels)}")
    checks.counts(**{f"channels[{place}]": width for place, width in enumerate(channels)})
    return tuple(channels)


def refuse_dropout(**values: float) -> None:
    """Refuse what is no probability in [0, 1)."""
    checks.finite(**values)
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


def dead_parameters(model: nn.Module) -> int:
    """Return how many parameters got no gradient in the backward passes so far: those whose ``grad`` is None.

    Raises
    ------
    ValueError
        If no parameter has a gradient: there was no backward pass.

    Examples
    --------
    >>> layers = nn.ModuleList([nn.Linear(3, 1), nn.Linear(5, 1)])
    >>> layers[0](torch.ones(1, 3)).sum().backward()
    >>> dead_parameters(layers)
    6
    """
    checks.networks(model=model)
    held = list(model.parameters())
    if all(parameter.grad is None for parameter in held):
        raise ValueError("model has no gradient: run a backward pass first")
    return sum(parameter.numel() for parameter in held if parameter.grad is None)


class FuseHead(nn.Module):
    """Enlarge all maps to the finest grid, put them side by side (coarse first), fuse each place, and predict.

    1 x 1 convolution without bias, BatchNorm, ReLU, dropout of whole channels, 1 x 1 convolution.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    num_classes : int
        Channels of the logits.
    width : int, default 128
        Channels between the two convolutions.
    dropout : float, default 0.1
        Probability that a channel is dropped in training.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.channels = refuse_channels(channels)
        checks.counts(num_classes=num_classes, width=width)
        refuse_dropout(dropout=dropout)
        self.fuse = nn.Conv2d(sum(channels), width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout2d(dropout)
        self.predict = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the pyramid, fine to coarse, to logits (B, num_classes, H_1, W_1)."""
        maps = refuse_maps(maps, self.channels, self)
        size = tuple(maps[0].shape[2:])
        together = torch.cat([enlarge(each, size) for each in reversed(maps)], dim=1)  # (B, C, H_1, W_1)
        return self.predict(self.dropout(self.relu(self.norm(self.fuse(together)))))


class SegFormerHead(nn.Module):
    """SegFormer's decoder: a linear layer for each map, then fuse :cite:p:`xie2021segformer`.

    Each map passes a 1 x 1 convolution to ``width`` channels, BatchNorm and ReLU and is enlarged to the finest grid;
    together (fine first) they pass another one, dropout and the predictor. No place hears of another: apart from the
    enlargement the decoder works on each pixel alone.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    num_classes : int
        Channels of the logits.
    width : int, default 256
        Channels inside; the authors take 768 for B2 to B5.
    dropout : float, default 0.1
        Probability that a channel is dropped before the predictor.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Examples
    --------
    >>> decoder = SegFormerHead((8, 16), num_classes=3, width=12).eval()
    >>> decoder([torch.zeros(1, 8, 10, 10), torch.zeros(1, 16, 5, 5)]).shape
    torch.Size([1, 3, 10, 10])
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 256,
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = refuse_channels(channels)
        checks.counts(num_classes=num_classes, width=width)
        refuse_dropout(dropout=dropout)
        checks.generators(generator=generator)
        self.levels = nn.ModuleList(pointwise(each, width) for each in self.channels)
        self.fuse = pointwise(width * len(self.channels), width)
        self.dropout = nn.Dropout2d(dropout)
        self.predict = nn.Conv2d(width, num_classes, 1)
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the pyramid, fine to coarse, to logits (B, num_classes, H_1, W_1)."""
        maps = refuse_maps(maps, self.channels, self)
        size = tuple(maps[0].shape[2:])
        even = [enlarge(level(each), size) for level, each in zip(self.levels, maps, strict=True)]
        return self.predict(self.dropout(self.fuse(torch.cat(even, dim=1))))


def pointwise(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 1 x 1 convolution without bias, BatchNorm and ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())


def initialise_decoder_(decoder: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw a decoder's weights: as :func:`~compactvision.models.attention.initialise_attention_`, but the predictor.

    A convolution named ``predict`` gets PyTorch's own initial weights (uniform up to ``1 / sqrt(fan_in)``).
    """
    initialise_attention_(decoder, generator)
    for name, module in decoder.named_modules():
        if name.rpartition(".")[2] == "predict" and isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            bound = module.in_channels**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
