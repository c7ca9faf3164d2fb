"""Pre-activation ResNets with bottlenecks for 32 x 32 images (He et al. 2016, "Identity mappings").

A 3 x 3 stem, three stages of bottlenecks with 64, 128 and 256 channels in the stream, BatchNorm, ReLU, global average
pooling and one linear layer: depth ``9 * blocks + 2``. BatchNorm and ReLU stand before each convolution; the first
bottleneck of a stage has a bare 1 x 1 convolution as its shortcut, which reads the stream itself. Counts are for
``num_classes=10``, three input channels and 32 x 32 pixels; MACs are those of convolutions and the linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import initialise_, refuse_images

EXPANSION = 4
"""Channels of the stream for each channel of a bottleneck's middle."""


class PreBottleneck(nn.Module):
    """Three times BatchNorm, ReLU, convolution (1 x 1, 3 x 3, 1 x 1), added to the shortcut.

    Parameters
    ----------
    in_channels : int
        Channels of the stream before.
    width : int
        Channels of the middle; the stream behind has four times as many.
    stride : int, default 1
        Stride of the 3 x 3 convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, 4 * width, H / stride, W / stride)."""
        out = self.conv1(self.relu1(self.bn1(x)))  # (B, width, H, W)
        out = self.conv2(self.relu2(self.bn2(out)))  # (B, width, H', W')
        out = self.conv3(self.relu3(self.bn3(out)))  # (B, 4 * width, H', W')
        return out + self.shortcut(x)


class PreResNet(nn.Module):
    """CIFAR pre-activation ResNet of depth ``9 * blocks + 2``.

    Parameters
    ----------
    blocks : int
        Bottlenecks in each of the three stages.
    num_classes : int, default 10
        Outputs of the last layer.
    in_channels : int, default 3
        Channels of the images.
    width : int, default 16
        Channels of the stem and of the first stage's middles; the other stages have twice and four times as many.
    generator : torch.Generator, optional
        Source of the initial weights (He et al. 2015); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If a count is below 1.
    """

    def __init__(
        self,
        blocks: int,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        width: int = 16,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(blocks=blocks, num_classes=num_classes, in_channels=in_channels, width=width)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.layer1 = _stage(width, width, blocks, 1)
        self.layer2 = _stage(EXPANSION * width, 2 * width, blocks, 2)
        self.layer3 = _stage(EXPANSION * 2 * width, 4 * width, blocks, 2)
        self.bn = nn.BatchNorm2d(EXPANSION * 4 * width)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(EXPANSION * 4 * width, num_classes)
        initialise_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes); shapes for ``width=16``."""
        refuse_images(x, self.conv1)
        x = self.layer1(self.conv1(x))  # (B, 64, 32, 32)
        x = self.layer2(x)  # (B, 128, 16, 16)
        x = self.layer3(x)  # (B, 256, 8, 8)
        x = self.avgpool(self.relu(self.bn(x)))  # (B, 256, 1, 1)
        return self.fc(torch.flatten(x, 1))


def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = PreBottleneck(in_channels, width, stride)
    return nn.Sequential(first, *(PreBottleneck(EXPANSION * width, width) for _ in range(blocks - 1)))


def preresnet110(num_classes: int = 10, **options) -> PreResNet:
    """Return the pre-activation bottleneck ResNet-110 for CIFAR; ``options`` are those of :class:`PreResNet`.

    Counts: 1,146,842 parameters, 167,430,656 MACs.
    """
    return PreResNet(12, num_classes, **options)


def preresnet164(num_classes: int = 10, **options) -> PreResNet:
    """Return the pre-activation bottleneck ResNet-164 for CIFAR; ``options`` are those of :class:`PreResNet`.

    Counts: 1,703,258 parameters, 247,646,720 MACs.
    """
    return PreResNet(18, num_classes, **options)
