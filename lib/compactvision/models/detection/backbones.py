"""Backbones as a detector wants them: modules that give a list of maps (B, C_i, H_i, W_i), fine to coarse."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from compactvision import _checks as checks
from compactvision.models.layers import refuse_images


class SwinMaps(nn.Module):
    """The stages of a Swin transformer of torchvision as maps, each behind a LayerNorm of its own.

    The layers are those of the network given, not copies: what trains or cuts the one does so to the other. Its last
    norm and its classifier are left out.

    Parameters
    ----------
    network : torchvision.models.SwinTransformer
        Of any size; with or without the second version's blocks.
    stages : sequence of int, optional
        Which stages give a map, rising, from 0; all by default. Stages behind the last one are left out.

    Attributes
    ----------
    channels : tuple of int
        Widths of the maps.
    strides : tuple of int
        Pixels between neighbouring places of each map.

    Raises
    ------
    ValueError
        If ``network`` is no such network or has no such stage.

    Examples
    --------
    >>> swin = SwinTransformer([4, 4], 48, [2, 2], [3, 6], [4, 4], num_classes=10)
    >>> maps = SwinMaps(swin)
    >>> [tuple(each.shape) for each in maps(torch.zeros(1, 3, 64, 64))], maps.channels, maps.strides
    ([(1, 48, 16, 16), (1, 96, 8, 8)], (48, 96), (4, 8))
    """

    def __init__(self, network: SwinTransformer, stages: Sequence[int] | None = None) -> None:
        super().__init__()
        checks.instances(SwinTransformer, network=network)
        layers = list(network.features)  # patches, then stages with merging between them
        widths, strides = _swin_sizes(layers)
        self.stages = _chosen("stages", stages, len(widths))
        self.features = nn.Sequential(*layers[: 2 * self.stages[-1] + 2])
        self.channels = tuple(widths[stage] for stage in self.stages)
        self.strides = tuple(strides[stage] for stage in self.stages)
        like = next(network.parameters())
        self.norms = nn.ModuleList(nn.LayerNorm(width, device=like.device, dtype=like.dtype) for width in self.channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to a list of maps, fine to coarse."""
        refuse_images(x, self.features[0][0])
        found: list[Tensor] = []
        for place, layer in enumerate(self.features):
            x = layer(x)  # (B, H_i, W_i, C_i)
            if place % 2 and place // 2 in self.stages:
                found.append(self.norms[len(found)](x).permute(0, 3, 1, 2))
        return found


class ViTMaps(nn.Module):
    """The tokens of a vision transformer of torchvision as one map.

    The layers are those of the network given; its class token takes part and is then dropped, its classifier is left
    out. Images must have the size that the network was made for.

    Parameters
    ----------
    network : torchvision.models.VisionTransformer
        Of any size.

    Attributes
    ----------
    channels, strides : tuple of one int
        Width of the map, and pixels between neighbouring places.

    Examples
    --------
    >>> from torchvision.models import VisionTransformer
    >>> vit = VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32)
    >>> [tuple(each.shape) for each in ViTMaps(vit)(torch.zeros(1, 3, 32, 32))]
    [(1, 16, 4, 4)]
    """

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        checks.instances(VisionTransformer, network=network)
        self.patches, self.encoder, self.class_token = network.conv_proj, network.encoder, network.class_token
        self.size = network.image_size
        self.channels, self.strides = (network.hidden_dim,), (network.patch_size,)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, S, S) to a list of one map (B, C, S / patch, S / patch)."""
        refuse_images(x, self.patches)
        if tuple(x.shape[2:]) != (self.size, self.size):
            raise ValueError(f"x must be images (B, 3, {self.size}, {self.size}), got {checks.shown(x)}")
        grid = self.patches(x)  # (B, C, n, n)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), grid.flatten(2).transpose(1, 2)], 1)
        return [self.encoder(tokens)[:, 1:].transpose(1, 2).reshape(grid.shape)]


class ChosenMaps(nn.Module):
    """Some of the maps of a backbone that gives them as (B, C_i, H_i, W_i) already.

    Parameters
    ----------
    network : nn.Module
        Maps images to a list of maps, fine to coarse: an encoder of :mod:`compactvision.models.encoders`, a network of
        timm made with ``features_only=True``, or one of your own. One tensor counts as a list of one.
    levels : sequence of int
        Places of the maps in that list, rising, from 0.

    Examples
    --------
    >>> from compactvision.models import encoders
    >>> coarse = ChosenMaps(encoders.mit_b0(), (2, 3))
    >>> [tuple(each.shape) for each in coarse(torch.zeros(1, 3, 64, 64))]
    [(1, 160, 4, 4), (1, 256, 2, 2)]
    """

    def __init__(self, network: nn.Module, levels: Sequence[int]) -> None:
        super().__init__()
        checks.networks(network=network)
        self.network, self.levels = network, _chosen("levels", levels, None)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to the list of chosen maps, fine to coarse."""
        refuse_images(x, self.network)
        maps = self.network(x)
        maps = [maps] if isinstance(maps, Tensor) else list(maps)
        if self.levels[-1] >= len(maps):
            raise ValueError(f"levels {self.levels} must be places in the {len(maps)} maps that network gives")
        return [maps[level] for level in self.levels]


def _swin_sizes(layers: Sequence[nn.Module]) -> tuple[list[int], list[int]]:
    """Return width and stride of each stage, from the patches' convolution and the layers that merge."""
    embed = layers[0][0]
    widths, strides = [embed.out_channels], [embed.stride[0]]
    for merge in layers[2::2]:
        widths.append(merge.reduction.out_features)
        strides.append(2 * strides[-1])
    return widths, strides


def _chosen(name: str, places: Sequence[int] | None, count: int | None) -> tuple[int, ...]:
    """Return rising places below ``count``, all of them for None."""
    if places is None and count is not None:
        return tuple(range(count))
    if not isinstance(places, (list, tuple)) or not places:
        raise ValueError(f"{name} must be a sequence of whole numbers, got {checks.shown(places)}")
    checks.whole(**{f"{name}[{place}]": value for place, value in enumerate(places)})
    rising = all(later > sooner for sooner, later in itertools.pairwise(places))
    if not rising or places[0] < 0 or (count is not None and places[-1] >= count):
        below = "" if count is None else f" below {count}"
        raise ValueError(f"{name} must be rising places from 0{below}, got {places}")
    return tuple(places)
