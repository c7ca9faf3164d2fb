"""DenseNet for 32 x 32 images (Huang et al. 2017), the basic form without bottlenecks and compression.

A 3 x 3 stem, three dense blocks on maps of 32, 16 and 8 pixels, transitions (1 x 1 convolution and 2 x 2 average
pooling) between them, BatchNorm, global average pooling and one linear layer: depth ``3 * layers + 4``. Each dense
layer reads everything that its block has made so far and appends ``growth`` channels. Counts are for
``num_classes=10``, three input channels and 32 x 32 pixels; MACs are those of convolutions and the linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import initialise_, refuse_images


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and a 3 x 3 convolution whose output is appended to its input.

    Parameters
    ----------
    in_channels : int
        Channels read.
    growth : int
        Channels appended.
    """

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C + growth, H, W)."""
        return torch.cat([x, self.conv1(self.relu(self.bn1(x)))], 1)


class Transition(nn.Module):
    """BatchNorm, ReLU, 1 x 1 convolution and 2 x 2 average pooling between two dense blocks.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.avgpool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / 2, W / 2)."""
        return self.avgpool(self.conv1(self.relu(self.bn1(x))))


class DenseNet(nn.Module):
    """CIFAR DenseNet of depth ``3 * layers + 4``.

    Parameters
    ----------
    layers : int
        Dense layers in each of the three blocks.
    growth : int, default 12
        Channels that each dense layer appends; the stem has twice as many.
    num_classes : int, default 10
        Outputs of the last layer.
    in_channels : int, default 3
        Channels of the images.
    generator : torch.Generator, optional
        Source of the initial weights (He et al. 2015); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If a count is below 1.
    """

    def __init__(
        self,
        layers: int,
        growth: int = 12,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(layers=layers, growth=growth, num_classes=num_classes, in_channels=in_channels)
        stem = 2 * growth
        added = layers * growth  # channels that one block appends
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.dense1 = _block(stem, layers, growth)
        self.trans1 = Transition(stem + added, stem + added)
        self.dense2 = _block(stem + added, layers, growth)
        self.trans2 = Transition(stem + 2 * added, stem + 2 * added)
        self.dense3 = _block(stem + 2 * added, layers, growth)
        self.bn = nn.BatchNorm2d(stem + 3 * added)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(stem + 3 * added, num_classes)
        initialise_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes); shapes for growth 12 and 12 layers a block."""
        refuse_images(x, self.conv1)
        x = self.dense1(self.conv1(x))  # (B, 168, 32, 32)
        x = self.dense2(self.trans1(x))  # (B, 312, 16, 16)
        x = self.dense3(self.trans2(x))  # (B, 456, 8, 8)
        x = self.avgpool(self.relu(self.bn(x)))  # (B, 456, 1, 1)
        return self.fc(torch.flatten(x, 1))


def _block(in_channels: int, layers: int, growth: int) -> nn.Sequential:
    return nn.Sequential(*(DenseLayer(in_channels + index * growth, growth) for index in range(layers)))


def densenet40(num_classes: int = 10, *, growth: int = 12, **options) -> DenseNet:
    """Return DenseNet-40 for CIFAR; ``options`` are those of :class:`DenseNet`.

    Counts for ``growth=12``: 1,059,298 parameters, 282,917,328 MACs.
    """
    return DenseNet(12, growth, num_classes, **options)
