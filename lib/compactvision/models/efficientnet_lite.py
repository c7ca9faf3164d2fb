"""EfficientNet-Lite0 for ImageNet: inverted bottlenecks with ReLU6, without squeeze-and-excitation.

A 3 x 3 stem, sixteen inverted bottlenecks :cite:`sandler2018`, a 1 x 1 convolution to 1,280 channels, global average
pooling and one linear layer. Widths, depths and kernels are those of EfficientNet-B0 :cite:`tan2019efficientnet`; the
Lite variant leaves the squeeze-and-excitation out and takes ReLU6 for Swish. Every activation is a module that runs
once, so that each can be named as a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import initialise_, refuse_images

STAGES = (  # expansion, blocks, channels, kernel, stride of the first block
    (1, 1, 16, 3, 1),
    (6, 2, 24, 3, 2),
    (6, 2, 40, 5, 2),
    (6, 3, 80, 3, 2),
    (6, 3, 112, 5, 1),
    (6, 4, 192, 5, 2),
    (6, 1, 320, 3, 1),
)
STEM, HEAD = 32, 1280
"""Channels of the first convolution and of the last."""


class InvertedBottleneck(nn.Module):
    """Expand by a 1 x 1 convolution, filter each channel, project by a 1 x 1 convolution; add the input if it fits.

    Parameters
    ----------
    in_channels, out_channels : int
        The input is added where these are equal and ``stride`` is 1.
    expansion : int
        Channels in the middle, as a multiple of ``in_channels``; with 1 there is no expanding convolution.
    kernel : int
        Size of the depthwise filters, odd.
    stride : int, default 1
        Of the depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        width = expansion * in_channels
        self.adds = stride == 1 and in_channels == out_channels
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv = nn.Conv2d(in_channels, width, 1, bias=False)
            self.bn0 = _norm(width)
            self.relu0 = nn.ReLU6()
        self.pad = _padding(kernel, stride)
        self.depthwise_conv = nn.Conv2d(width, width, kernel, stride, groups=width, bias=False)
        self.bn1 = _norm(width)
        self.relu1 = nn.ReLU6()
        self.project_conv = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        out = self.relu0(self.bn0(self.expand_conv(x))) if self.expands else x  # (B, width, H, W)
        out = self.relu1(self.bn1(self.depthwise_conv(self.pad(out))))  # (B, width, H', W')
        out = self.bn2(self.project_conv(out))  # (B, C_out, H', W'); no activation: a linear bottleneck
        return x + out if self.adds else out


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 for images whose sides are multiples of 32 pixels, 224 as it was trained.

    Parameters
    ----------
    num_classes : int, default 1000
        Outputs of the last layer.
    in_channels : int, default 3
        Channels of the images.
    generator : torch.Generator, optional
        Source of the initial weights (He et al. 2015); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If a count is below 1; in ``forward`` if images have other sides.
    """

    def __init__(
        self, num_classes: int = 1000, *, in_channels: int = 3, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        checks.counts(num_classes=num_classes, in_channels=in_channels)
        self.pad = _padding(3, 2)
        self.conv_stem = nn.Conv2d(in_channels, STEM, 3, 2, bias=False)
        self.bn0 = _norm(STEM)
        self.relu0 = nn.ReLU6()
        blocks, channels = [], STEM
        for expansion, count, width, kernel, stride in STAGES:
            for number in range(count):
                blocks.append(InvertedBottleneck(channels, width, expansion, kernel, stride if number == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = nn.Conv2d(channels, HEAD, 1, bias=False)
        self.bn1 = _norm(HEAD)
        self.relu1 = nn.ReLU6()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(HEAD, num_classes)
        initialise_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes); shapes for 224 x 224 pixels."""
        refuse_images(x, self.conv_stem)
        if x.shape[2] % 32 or x.shape[3] % 32:
            raise ValueError(f"x must have sides that are multiples of 32 pixels, got {x.shape[2]} x {x.shape[3]}")
        x = self.relu0(self.bn0(self.conv_stem(self.pad(x))))  # (B, 32, 112, 112)
        x = self.blocks(x)  # (B, 320, 7, 7)
        x = self.relu1(self.bn1(self.conv_head(x)))  # (B, 1280, 7, 7)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _padding(kernel: int, stride: int) -> nn.ZeroPad2d:
    """Return TensorFlow's "same" padding for sides that ``stride`` divides: with stride 2 the odd zero comes last."""
    missing = kernel - stride
    before, after = missing // 2, missing - missing // 2
    return nn.ZeroPad2d((before, after, before, after))


def efficientnet_lite0(num_classes: int = 1000, **options) -> EfficientNetLite:
    """Return EfficientNet-Lite0 with random weights; ``options`` are those of :class:`EfficientNetLite`.

    Counts for 224 x 224 pixels: 4,652,008 parameters, 385,187,552 MACs. With ImageNet weights:
    ``pretrained("efficientnet_lite0")``.
    """
    return EfficientNetLite(num_classes, **options)
