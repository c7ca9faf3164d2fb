"""The published backbones: AFFNet's skeleton in three sizes, with the Fourier filter, the image filter, or both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.architectures.afidaf.filters import ORDERS, AlternatingFilter, FourierFilter, ImageFilter
from compactvision.models.layers import initialise_, refuse_images
from compactvision.models.spectral import SpectralMLP

SIZES = {  # expansion of the inverted residuals, channels of layers 1 to 5
    "xx_small": (2, (32, 48, 64, 104, 144)),
    "x_small": (4, (32, 48, 96, 160, 192)),
    "small": (4, (32, 64, 128, 256, 320)),
}
DEPTHS = (2, 4, 3)
FILTERS = ("afidaf", "aff", "idaf")


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, activation: bool = True
) -> nn.Sequential:
    """Return convolution, BatchNorm and, unless it is left out, SiLU; padding keeps the size at stride 1."""
    checks.counts(inputs=inputs, outputs=outputs, kernel=kernel, stride=stride, groups=groups)
    checks.flags(activation=activation)
    if kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, got {kernel}")
    if inputs % groups or outputs % groups:
        raise ValueError(f"groups must divide {inputs} and {outputs} channels, got {groups}")
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        *([nn.SiLU()] if activation else []),
    ]
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Wide in the middle: 1 x 1 to ``expand`` times the channels, depthwise 3 x 3, 1 x 1 back (MobileNetV2).

    The input is added where shape and channels allow it.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    expand : int
        Channels in the middle are ``expand * inputs``, rounded to a multiple of 8.
    stride : int, default 1
        Of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, expand: int, stride: int = 1) -> None:
        super().__init__()
        checks.counts(inputs=inputs, outputs=outputs, expand=expand, stride=stride)
        hidden = max(8, (expand * inputs + 4) // 8 * 8)
        self.add = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            conv_norm(inputs, hidden),
            conv_norm(hidden, hidden, 3, stride, hidden),
            conv_norm(hidden, outputs, activation=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        refuse_images(x, _first(self.layers))
        return x + self.layers(x) if self.add else self.layers(x)


class FilterBlock(nn.Module):
    """One block: ``z = N1(x)``, ``z = z + IR(z)``, ``x + filter(N2(z))``; the norms are over channels and places.

    Parameters
    ----------
    channels : int
        C.
    build : function of channels
        Makes the filter.
    """

    def __init__(self, channels: int, build: Callable[[int], nn.Module]) -> None:
        super().__init__()
        checks.counts(channels=channels)
        checks.functions(1, build=build)
        self.norm1, self.norm2 = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)
        self.local = InvertedResidual(channels, channels, expand=2)
        self.filter = build(channels)
        checks.networks(**{"what build returns": self.filter})

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_images(x, _first(self.local))
        return x + self.filter(self.norm2(self.local(self.norm1(x))))


class FilterStage(nn.Module):
    """Blocks one after the other, then a fusion of what they made with what they were given.

    Parameters
    ----------
    channels, depth : int
        C, and how many blocks.
    build : function of channels
        Makes a block's filter.
    """

    def __init__(self, channels: int, depth: int, build: Callable[[int], nn.Module]) -> None:
        super().__init__()
        checks.counts(channels=channels, depth=depth)
        checks.functions(1, build=build)
        self.blocks = nn.Sequential(*(FilterBlock(channels, build) for _ in range(depth)))
        self.norm = nn.GroupNorm(1, channels)
        self.project = conv_norm(channels, channels, activation=False)
        self.fuse = conv_norm(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_images(x, self.project[0])
        return self.fuse(torch.cat([x, self.project(self.norm(self.blocks(x)))], dim=1))


class FilterNet(nn.Module):
    """A backbone of five layers, two of inverted residuals and three with filters, and a classifier.

    Parameters
    ----------
    expand : int
        Of the inverted residuals outside blocks.
    channels : sequence of int
        Of the five layers.
    build : function of channels
        Makes a block's filter.
    num_classes : int, default 1000
    depths : sequence of int, default (2, 4, 3)
        Blocks of the last three layers.

    Raises
    ------
    ValueError
        If an argument does not fit; in ``forward`` if images do not.

    Examples
    --------
    >>> network = FilterNet(2, (8, 16, 16, 24, 32), lambda c: FourierFilter(c), num_classes=10, depths=(1, 1, 1)).eval()
    >>> network(torch.randn(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    def __init__(
        self,
        expand: int,
        channels: tuple[int, ...],
        build: Callable[[int], nn.Module],
        *,
        num_classes: int = 1000,
        depths: tuple[int, ...] = DEPTHS,
    ) -> None:
        super().__init__()
        checks.counts(expand=expand, num_classes=num_classes)
        for name, row, length in (("channels", channels, 5), ("depths", depths, 3)):
            if not isinstance(row, (tuple, list)) or len(row) != length:
                raise ValueError(f"{name} must be {length} counts, got {checks.shown(row)}")
            checks.counts(**{f"{name}[{place}]": each for place, each in enumerate(row)})
        first, second = channels[:2]
        self.stem = conv_norm(3, 16, 3, 2)
        self.layer1 = InvertedResidual(16, first, expand)
        self.layer2 = nn.Sequential(
            InvertedResidual(first, second, expand, 2),
            *(InvertedResidual(second, second, expand) for _ in range(2)),
        )
        self.layer3, self.layer4, self.layer5 = (
            nn.Sequential(InvertedResidual(before, after, expand, 2), FilterStage(after, depth, build))
            for before, after, depth in zip(channels[1:], channels[2:], depths)
        )
        wide = min(4 * channels[4], 960)
        self.expand = conv_norm(channels[4], wide)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(wide, num_classes))
        self.channels = tuple(channels[1:])

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of layers 2 to 5, fine to coarse, at strides 4, 8, 16 and 32."""
        refuse_images(images, self.stem[0])
        x, found = self.layer1(self.stem(images)), []
        for layer in (self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(x)
            found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, num_classes)."""
        return self.head(self.expand(self.maps(images)[-1]).mean((2, 3)))


def afidaf(
    size: str = "small",
    *,
    filters: str = "afidaf",
    order: str = "image_first",
    num_classes: int = 1000,
    generator: torch.Generator | None = None,
) -> FilterNet:
    """Return a published backbone with new weights.

    Parameters
    ----------
    size : str, default "small"
        ``"small"``, ``"x_small"`` (the paper's T) or ``"xx_small"``.
    filters : str, default "afidaf"
        ``"afidaf"`` has both filters in each block, ``"aff"`` the Fourier filter alone (then this is AFFNet, to the
        last parameter), ``"idaf"`` the image filter alone.
    order : str, default "image_first"
        Of :class:`~compactvision.architectures.afidaf.filters.AlternatingFilter`.
    num_classes : int, default 1000
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If a word is unknown or a number no count.

    Examples
    --------
    >>> network = afidaf("xx_small", num_classes=10)
    >>> [tuple(each.shape[1:]) for each in network.maps(torch.zeros(1, 3, 64, 64))]
    [(48, 16, 16), (64, 8, 8), (104, 4, 4), (144, 2, 2)]
    """
    checks.one_of(SIZES, size=size)
    checks.one_of(FILTERS, filters=filters)
    checks.one_of(ORDERS, order=order)
    checks.generators(generator=generator)
    builds: dict[str, Callable[[int], nn.Module]] = {
        "afidaf": partial(AlternatingFilter, order=order),
        "aff": lambda channels: FourierFilter(channels),
        "idaf": lambda channels: ImageFilter(channels),
    }
    network = FilterNet(*SIZES[size], builds[filters], num_classes=num_classes)
    initialise_(network, generator)
    for module in network.modules():
        if isinstance(module, SpectralMLP) and not module.weights.is_meta:
            for parameter in (module.weights, module.biases):
                nn.init.normal_(parameter, std=0.02, generator=generator)
    return network


def _first(layers: nn.Module) -> nn.Module:
    """Return the first convolution, which tells what images fit."""
    return next(module for module in layers.modules() if isinstance(module, nn.Conv2d))
