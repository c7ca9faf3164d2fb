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
    x = images.float().sub(127).div(128)
    x = network.relu0(network.bn0(network.conv_stem(network.pad(x))))
    maps = []
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
    x = F.avg_pool2d(images.float().div(255), 4).sub(0.47).div(0.2)
    x = F.relu(network.bn1(network.conv1(x)))
    maps = []
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
        if not isinstance(channels, (tuple, list)) or len(channels) != len(maps):
            raise ValueError(f"channels must have one width for each of the {len(maps)} maps, got {channels!r:.80}")
        for place, (each, width) in enumerate(zip(maps, channels, strict=True)):
            checks.counts(**{f"channels[{place}]": width})
            if width > each.shape[1]:
                raise ValueError(f"channels[{place}] must be at most {each.shape[1]}, got {width}")
        means, matrices = [], []
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
        return [
            torch.einsum("kc,nchw->nkhw", matrix, each - mean[:, None, None])
            for each, mean, matrix in zip(maps, self.means, self.matrices, strict=True)
        ]


def computed(encode: Callable[[Tensor], list[Tensor]], images: Tensor, batch_size: int = 50) -> list[Tensor]:
    """Return the maps of all images, (N, C_i, H_i, W_i) each, without gradients."""
    checks.functions(1, encode=encode)
    checks.counts(batch_size=batch_size)
    checks.tensors(images=images)
    with torch.no_grad():
        parts = [encode(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    return [torch.cat(level) for level in zip(*parts, strict=True)]
