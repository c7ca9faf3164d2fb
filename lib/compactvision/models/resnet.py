"""Residual networks for 32 x 32 images (He et al. 2016, section 4.2).

A 3 x 3 stem, three stages of basic blocks with 16, 32 and 64 channels on maps of 32, 16 and 8 pixels, global average
pooling and one linear layer: depth ``6 n + 2``. Every ReLU is its own module, not in place and called once in a
forward pass, so that hooks, gates and ablations see each activation. Counts in the docstrings are for
``num_classes=10``, three input channels, 32 x 32 pixels and option A; MACs are those of convolutions and
the linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import initialise_, option_a_shortcut, refuse_images


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm, and a shortcut added before the last ReLU.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    stride : int, default 1
        Stride of the first convolution and of the shortcut.
    shortcut : {"A", "B"}, default "A"
        Where size or channels change: "A" subsamples and pads with zero channels, "B" is a 1 x 1 convolution with
        BatchNorm. Elsewhere the shortcut is the identity.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, shortcut: str = "A") -> None:
        super().__init__()
        checks.counts(in_channels=in_channels, out_channels=out_channels, stride=stride)
        checks.one_of("AB", shortcut=shortcut)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        refuse_images(x, self.conv1)
        out = self.relu1(self.bn1(self.conv1(x)))  # (B, C_out, H', W')
        out = self.bn2(self.conv2(out))  # (B, C_out, H', W')
        return self.relu2(out + self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: str) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "A":
        return option_a_shortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class ResNet(nn.Module):
    """CIFAR ResNet of depth ``6 * blocks + 2``.

    Parameters
    ----------
    blocks : int
        Basic blocks in each of the three stages.
    num_classes : int, default 10
        Outputs of the last layer.
    shortcut : {"A", "B"}, default "A"
        Kind of shortcut where size or channels change, see :class:`BasicBlock`.
    in_channels : int, default 3
        Channels of the images.
    width : int, default 16
        Channels of the first stage; the others have twice and four times as many.
    generator : torch.Generator, optional
        Source of the initial weights (He et al. 2015); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If a count is below 1 or ``shortcut`` is neither "A" nor "B".
    """

    def __init__(
        self,
        blocks: int,
        num_classes: int = 10,
        *,
        shortcut: str = "A",
        in_channels: int = 3,
        width: int = 16,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(blocks=blocks, num_classes=num_classes, in_channels=in_channels, width=width)
        if shortcut not in ("A", "B"):
            raise ValueError(f'shortcut must be "A" or "B", got {shortcut!r}')
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        initialise_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        refuse_images(x, self.conv1)
        x = self.relu(self.bn1(self.conv1(x)))  # (B, 16, 32, 32)
        x = self.layer1(x)  # (B, 16, 32, 32)
        x = self.layer2(x)  # (B, 32, 16, 16)
        x = self.layer3(x)  # (B, 64, 8, 8)
        x = torch.flatten(self.avgpool(x), 1)  # (B, 64)
        return self.fc(x)


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)))


def resnet20(num_classes: int = 10, **options) -> ResNet:
    """Return ResNet-20 for CIFAR; ``options`` are those of :class:`ResNet`.

    Counts: 269,722 parameters, 40,551,040 MACs.
    """
    return ResNet(3, num_classes, **options)


def resnet32(num_classes: int = 10, **options) -> ResNet:
    """Return ResNet-32 for CIFAR; ``options`` are those of :class:`ResNet`.

    Counts: 464,154 parameters, 68,862,592 MACs.
    """
    return ResNet(5, num_classes, **options)


def resnet44(num_classes: int = 10, **options) -> ResNet:
    """Return ResNet-44 for CIFAR; ``options`` are those of :class:`ResNet`.

    Counts: 658,586 parameters, 97,174,144 MACs.
    """
    return ResNet(7, num_classes, **options)


def resnet56(num_classes: int = 10, **options) -> ResNet:
    """Return ResNet-56 for CIFAR; ``options`` are those of :class:`ResNet`.

    Counts: 853,018 parameters, 125,485,696 MACs.
    """
    return ResNet(9, num_classes, **options)


def resnet110(num_classes: int = 10, **options) -> ResNet:
    """Return ResNet-110 for CIFAR; ``options`` are those of :class:`ResNet`.

    Counts: 1,727,962 parameters, 252,887,680 MACs.
    """
    return ResNet(18, num_classes, **options)
