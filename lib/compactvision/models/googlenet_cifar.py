"""GoogLeNet with BatchNorm for 32 x 32 images, the form that the pruning papers share.

A 3 x 3 stem with 192 channels, nine inception modules on maps of 32, 16 and 8 pixels, global average pooling and one
linear layer. The 5 x 5 branch is two 3 x 3 convolutions; all convolutions have a bias although BatchNorm follows, which
the published parameter count includes. Counts are for ``num_classes=10``, three input channels and 32 x 32 pixels; MACs
are those of convolutions and the linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import initialise_, refuse_images

INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "a3": (64, 96, 128, 16, 32, 32),
    "b3": (128, 128, 192, 32, 96, 64),
    "a4": (192, 96, 208, 16, 48, 64),
    "b4": (160, 112, 224, 24, 64, 64),
    "c4": (128, 128, 256, 24, 64, 64),
    "d4": (112, 144, 288, 32, 64, 64),
    "e4": (256, 160, 320, 32, 128, 128),
    "a5": (256, 160, 320, 32, 128, 128),
    "b5": (384, 192, 384, 48, 128, 128),
}
"""Widths of each inception module: 1 x 1; reduction and 3 x 3; reduction and 5 x 5; projection behind the pooling."""


class Inception(nn.Module):
    """Four branches on the same input, concatenated: 1 x 1; 1 x 1, 3 x 3; 1 x 1, 3 x 3, 3 x 3; max-pooling, 1 x 1.

    Parameters
    ----------
    in_channels : int
        Channels read.
    widths : sequence of 6 int
        Channels as in :data:`INCEPTIONS`.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branch1 = nn.Sequential(*_unit(in_channels, one, 1))
        self.branch2 = nn.Sequential(*_unit(in_channels, reduce3, 1), *_unit(reduce3, three, 3))
        self.branch3 = nn.Sequential(*_unit(in_channels, reduce5, 1), *_unit(reduce5, five, 3), *_unit(five, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *_unit(in_channels, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, sum of the branches' channels, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """GoogLeNet with BatchNorm for CIFAR.

    Parameters
    ----------
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
        self, num_classes: int = 10, *, in_channels: int = 3, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        checks.counts(num_classes=num_classes, in_channels=in_channels)
        self.stem = nn.Sequential(*_unit(in_channels, 192, 3))
        channels = 192
        for name, widths in INCEPTIONS.items():
            self.add_module(name, Inception(channels, widths))
            one, _, three, _, five, pool = widths
            channels = one + three + five + pool
        self.pool3 = nn.MaxPool2d(3, stride=2, padding=1)
        self.pool4 = nn.MaxPool2d(3, stride=2, padding=1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        refuse_images(x, self.stem[0])
        x = self.stem(x)  # (B, 192, 32, 32)
        x = self.pool3(self.b3(self.a3(x)))  # (B, 480, 16, 16)
        for inception in (self.a4, self.b4, self.c4, self.d4, self.e4):
            x = inception(x)
        x = self.pool4(x)  # (B, 832, 8, 8)
        x = self.avgpool(self.b5(self.a5(x)))  # (B, 1024, 1, 1)
        return self.fc(torch.flatten(x, 1))


def _unit(in_channels: int, out_channels: int, size: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU()


def googlenet(num_classes: int = 10, **options) -> GoogLeNet:
    """Return GoogLeNet for CIFAR; ``options`` are those of :class:`GoogLeNet`.

    Counts: 6,166,250 parameters, 1,521,756,160 MACs.
    """
    return GoogLeNet(num_classes, **options)
