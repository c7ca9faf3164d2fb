"""Maps of a frozen encoder, computed once: decoders can then be trained alone, in seconds.

A few channels stand for all: on training images each level is reduced to its principal components, each with variance
one. What an encoder knows and a decoder can use stays, as far as it varies at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import explained
from compactvision.models.efficientnet_lite import EfficientNetLite
from compactvision.models.resnet import ResNet

LITE0_BLOCKS = (2, 4, 10, 15)
"""The last blocks of EfficientNet-Lite0 at strides 4, 8, 16 and 32."""


def lite0_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the maps of EfficientNet-Lite0 at strides 4, 8, 16 and 32: 24, 40, 112 and 320 channels.

    Parameters
    ----------
    network : EfficientNetLite
        In evaluation mode.
    images : Tensor
        (B, 3, H, W) uint8; they are normalised as the network was trained, ``(images - 127) / 128``.
    """
    checks.instances(EfficientNetLite, network=network)
    checks.materialised(network=network)
    _refuse_images(images, 32)
    maps = []
    with explained([images], "images"):
        x = images.to(network.conv_stem.weight.dtype).sub(127).div(128)
        x = network.relu0(network.bn0(network.conv_stem(network.pad(x))))
        for number, block in enumerate(network.blocks):
            x = block(x)
            if number in LITE0_BLOCKS:
                maps.append(x)
    return maps


def resnet_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the maps of a ResNet for small images, averaged to strides 4, 8, 16 and 32: 16, 32, 64 and 64 channels.

    The network reads images of a quarter of their size, as large as those it was trained on.
    """
    checks.instances(ResNet, network=network)
    checks.materialised(network=network)
    _refuse_images(images, 32)
    maps = []
    with explained([images], "images"):
        x = F.avg_pool2d(images.to(network.conv1.weight.dtype).div(255), 4).sub(0.47).div(0.2)
        x = F.relu(network.bn1(network.conv1(x)))
        for stage in (network.layer1, network.layer2, network.layer3):
            x = stage(x)
            maps.append(x)
    return [*maps, F.avg_pool2d(x, 2)]


def patch_maps(channels: Sequence[int], generator: torch.Generator) -> Callable[[Tensor], list[Tensor]]:
    """Return a random encoder of four levels that knows nothing beyond a cell: patches of 4, 8, 16 and 32 pixels.

    Each level reads the one before by a convolution whose kernel is its stride, so that no cell sees a pixel outside
    itself.
    """
    if not isinstance(channels, (tuple, list)) or len(channels) != 4:
        raise ValueError(f"channels must be four widths, got {checks.shown(channels)}")
    checks.counts(**{f"channels[{place}]": width for place, width in enumerate(channels)})
    checks.instances(torch.Generator, generator=generator)
    weights, inside = [], 3
    for width, side in zip(channels, (4, 2, 2, 2), strict=True):
        scale = (2 / (inside * side * side)) ** 0.5
        weights.append(scale * torch.randn(width, inside, side, side, generator=generator))
        inside = width

    def maps(images: Tensor) -> list[Tensor]:
        _refuse_images(images, 32)
        x, found = images.float().sub(127).div(64), []
        for weight in weights:
            x = F.relu(F.conv2d(x, weight, stride=weight.shape[-1]))
            found.append(x)
        return found

    return maps


@dataclass(frozen=True)
class Reduction:
    """Principal components of each level, scaled to variance one."""

    means: list[Tensor]  # (C_i,)
    matrices: list[Tensor]  # (k_i, C_i)

    @classmethod
    def fit(cls, maps: Sequence[Tensor], channels: Sequence[int]) -> Reduction:
        """Find the first ``channels[i]`` components of each level, (N, C_i, H_i, W_i)."""
        _refuse_levels(maps)
        if not isinstance(channels, (tuple, list)) or len(channels) != len(maps):
            raise ValueError(f"channels must have one width for each of the {len(maps)} maps, got {channels!r:.80}")
        for place, (each, width) in enumerate(zip(maps, channels, strict=True)):
            checks.counts(**{f"channels[{place}]": width})
            if width > each.shape[1]:
                raise ValueError(f"channels[{place}] must be at most {each.shape[1]}, got {width}")
        means, matrices = [], []
        if not all(bool(each.isfinite().all()) for each in maps):
            raise ValueError("maps must be finite, got NaN or infinite values")
        for each, width in zip(maps, channels, strict=True):
            rows = each.transpose(0, 1).flatten(1).double()  # (C, N * H * W)
            means.append(rows.mean(1))
            rows = rows - means[-1][:, None]
            values, vectors = torch.linalg.eigh(rows @ rows.T / rows.shape[1])
            best = values.argsort(descending=True)[:width]
            matrices.append(vectors[:, best].T / values[best].clamp_min(1e-12).sqrt()[:, None])
        return cls([mean.float() for mean in means], [matrix.float() for matrix in matrices])

    def __call__(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Reduce maps (N, C_i, H_i, W_i) to (N, k_i, H_i, W_i)."""
        _refuse_levels(maps, [len(mean) for mean in self.means])
        return [
            torch.einsum("kc,nchw->nkhw", matrix, each - mean[:, None, None])
            for each, mean, matrix in zip(maps, self.means, self.matrices, strict=True)
        ]


def computed(encode: Callable[[Tensor], list[Tensor]], images: Tensor, batch_size: int = 50) -> list[Tensor]:
    """Return the maps of all images, (N, C_i, H_i, W_i) each, without gradients."""
    checks.functions(1, encode=encode)
    checks.counts(batch_size=batch_size)
    checks.tensors(images=images)
    if images.ndim == 0 or len(images) == 0:
        raise ValueError(f"images must be at least one, got {checks.shown(images)}")
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            maps = encode(images[start : start + batch_size])
            if not isinstance(maps, (list, tuple)) or not maps or not all(isinstance(each, Tensor) for each in maps):
                raise ValueError(f"encode must give a list of maps, got {checks.shown(maps)}")
            parts.append(maps)
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def _refuse_images(images: Tensor, multiple: int) -> None:
    checks.tensors(images=images)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images must be (B, 3, H, W) uint8, got {checks.shown(images)}")
    if images.shape[2] % multiple or images.shape[3] % multiple:
        raise ValueError(f"images must have sides that are multiples of {multiple}, got {tuple(images.shape[2:])}")


def _refuse_levels(maps: Sequence[Tensor], widths: Sequence[int] | None = None) -> None:
    if not isinstance(maps, (list, tuple)) or not maps or (widths is not None and len(maps) != len(widths)):
        raise ValueError(f"maps must be a list of {len(widths or ()) or 'some'} maps, got {checks.shown(maps)}")
    for place, each in enumerate(maps):
        checks.floating(**{f"maps[{place}]": each})
        width = "C" if widths is None else widths[place]
        if each.ndim != 4 or 0 in each.shape or (widths is not None and each.shape[1] != width):
            raise ValueError(f"maps[{place}] must be (N, {width}, H, W), got {checks.shown(each)}")
