"""VGG with BatchNorm for 32 x 32 images, as the pruning papers use it.

3 x 3 convolutions with BatchNorm and ReLU in five groups, a 2 x 2 max-pooling between one group and the next, a 2 x 2
average pooling behind the last, and one linear layer or a hidden one before it. Counts in the docstrings are for
``num_classes=10``, three input channels and 32 x 32 pixels; MACs are those of convolutions and linear layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import initialise_, refuse_images

GROUPS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions in each of the five groups, by depth."""


class VGG(nn.Module):
    """VGG with BatchNorm for 32 x 32 images.

    Parameters
    ----------
    depth : {11, 13, 16, 19}
        Layers with weights, in the original count (three linear layers included).
    num_classes : int, default 10
        Outputs of the last layer.
    conv_bias : bool, default False
        Give the convolutions a bias although BatchNorm follows, as some published code does.
    hidden : int, optional
        Put ``Linear(512, hidden)``, BatchNorm and ReLU before the last linear layer.
    in_channels : int, default 3
        Channels of the images.
    generator : torch.Generator, optional
        Source of the initial weights (He et al. 2015); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If ``depth`` is not one of the four or a count is below 1; in ``forward`` if the images are not 32 x 32.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        *,
        conv_bias: bool = False,
        hidden: int | None = None,
        in_channels: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.whole(depth=depth)
        if depth not in GROUPS:
            raise ValueError(f"depth must be one of {tuple(GROUPS)}, got {depth}")
        checks.counts(num_classes=num_classes, hidden=1 if hidden is None else hidden, in_channels=in_channels)
        self.features = _features(GROUPS[depth], in_channels, conv_bias)
        self.avgpool = nn.AvgPool2d(2)
        self.classifier: nn.Module = nn.Linear(512, num_classes)
        if hidden is not None:
            self.classifier = nn.Sequential(
                nn.Linear(512, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
            )
        initialise_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, 32, 32) to logits (B, num_classes)."""
        refuse_images(x, self.features[0])
        if x.shape[-2:] != (32, 32):
            raise ValueError(f"images must be 32 x 32 for this VGG, got {x.shape[-2]} x {x.shape[-1]}")
        x = self.features(x)  # (B, 512, 2, 2)
        x = torch.flatten(self.avgpool(x), 1)  # (B, 512)
        return self.classifier(x)


def _features(groups: tuple[int, ...], channels: int, bias: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for group, (width, convolutions) in enumerate(zip((64, 128, 256, 512, 512), groups, strict=True)):
        if group > 0:
            layers.append(nn.MaxPool2d(2))
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


def vgg11_bn(num_classes: int = 10, **options) -> VGG:
    """Return VGG-11 with BatchNorm for CIFAR; ``options`` are those of :class:`VGG`.

    Counts: 9,228,362 parameters, 152,769,536 MACs.
    """
    return VGG(11, num_classes, **options)


def vgg13_bn(num_classes: int = 10, **options) -> VGG:
    """Return VGG-13 with BatchNorm for CIFAR; ``options`` are those of :class:`VGG`.

    Counts: 9,413,066 parameters, 228,267,008 MACs.
    """
    return VGG(13, num_classes, **options)


def vgg16_bn(num_classes: int = 10, **options) -> VGG:
    """Return VGG-16 with BatchNorm for CIFAR; ``options`` are those of :class:`VGG`.

    Counts: 14,724,042 parameters, 313,201,664 MACs; with ``conv_bias=True`` 14,728,266 parameters, and with
    ``conv_bias=True, hidden=512`` 14,991,946 parameters and 313,463,808 MACs.
    """
    return VGG(16, num_classes, **options)


def vgg19_bn(num_classes: int = 10, **options) -> VGG:
    """Return VGG-19 with BatchNorm for CIFAR; ``options`` are those of :class:`VGG`.

    Counts: 20,035,018 parameters, 398,136,320 MACs.
    """
    return VGG(19, num_classes, **options)
