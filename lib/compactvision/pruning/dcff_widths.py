"""The networks of dynamic-coded filter fusion: published compression rates as widths, and what they build.

A rate ``r`` leaves ``int(c * (1 - r))`` of ``c`` filters, in Python's floats: ``int(160 * (1 - 0.9))`` is 15, and the
published counts need that 15. Rates are those of the method's published instructions (:cite:`lin2021dcff`). GoogLeNet
and ResNet-50 end in a pooling with a fixed kernel, as theirs do; it matters to the counting convention "thop" only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compactvision import models, surgery

_GOOGLENET = ([0.0, 0.9, 0.0, 0.9, 0.9, 0.0, 0.0], [0.0, 0.8, 0.0, 0.8, 0.8, 0.0, 0.0])  # one inception module each


@dataclass(frozen=True)
class Network:
    """A network of the paper with published rates.

    Attributes
    ----------
    full : callable
        Builds the whole network.
    side : int
        Height and width of the images.
    rates : tuple of float
        In the published order. VGG-16 and GoogLeNet: each convolution. ResNet-56 and -110: the first convolution of
        each block, then the three stages. ResNet-50: stem, first and second convolutions of the blocks, four stages.
    """

    full: Callable[[], nn.Module]
    side: int
    rates: tuple[float, ...]


def _vgg16() -> nn.Module:
    return models.vgg16_bn(conv_bias=True)


def _googlenet() -> nn.Module:
    model = models.googlenet()
    model.avgpool = nn.AvgPool2d(8)  # the same values, but thop counts it as one operation a channel
    return model


def _resnet50() -> nn.Module:
    model = models.imagenet("resnet50")
    model.avgpool = nn.AvgPool2d(7)
    return model


PUBLISHED: dict[str, Network] = {
    "VGG-16": Network(_vgg16, 32, (*[0.5] * 2, *[0.4] * 2, *[0.35] * 3, *[0.85] * 6)),
    "ResNet-56": Network(
        models.resnet56,
        32,
        (
            *[0.7] * 2, *[0.5] * 3, *[0.3] * 2, 0.4, 0.8,
            *[0.7] * 2, *[0.8] * 4, 0.4, *[0.2] * 2,
            0.7, 0.3, 0.8, *[0.4] * 2, 0.7, 0.3, 0.4, 0.8,
            *[0.0] * 3,
        ),
    ),
    "ResNet-110": Network(
        models.resnet110,
        32,
        (
            0.2, 0.0, 0.2, 0.3, *[0.7] * 2, 0.1, *[0.3] * 2, 0.4, *[0.7] * 2, 0.5, 0.1, 0.3, 0.0, 0.6, 0.0,
            0.2, 0.5, 0.0, *[0.7] * 2, 0.5, *[0.7] * 2, *[0.4] * 2, 0.0, 0.3, 0.1, 0.5, *[0.1] * 3, 0.7, *[0.1] * 2,
            *[0.3] * 5, 0.5, 0.7, 0.2, 0.4, *[0.7] * 5, 0.5, 0.1,
            0.6, 0.2, 0.5,
        ),
    ),
    "GoogLeNet": Network(
        _googlenet,
        32,
        (
            *[0.0] * 2, 0.8, 0.0, *[0.8] * 2, *[0.0] * 2,
            *_GOOGLENET[0] * 3, *_GOOGLENET[1] * 3, *_GOOGLENET[0] * 2,
        ),
    ),
    "ResNet-50, 0.96B": Network(
        _resnet50, 224, (0.0, *[0.8] * 10, *[0.7] * 6, *[0.6] * 10, *[0.4] * 6, *[0.3] * 4)
    ),
    "ResNet-50, 1.49B": Network(
        _resnet50, 224, (0.0, *[0.6] * 10, *[0.5] * 6, *[0.5] * 10, *[0.4] * 6, *[0.2] * 4)
    ),
    "ResNet-50, 2.25B": Network(
        _resnet50, 224, (0.0, *[0.35] * 10, *[0.3] * 6, *[0.4] * 10, *[0.3] * 6, *[0.1] * 4)
    ),
    "ResNet-50, 1.52B": Network(_resnet50, 224, (0.0, *[0.5] * 32, *[0.25] * 3, 0.0)),
    "ResNet-50, 1.38B": Network(
        _resnet50, 224, (0.0, *([0.7] * 7 + [0.45] * 9) * 2, *[0.24] * 3, 0.0)
    ),
    "ResNet-50, 1.02B": Network(
        _resnet50, 224, (0.0, *([0.43] * 7 + [0.73] * 9) * 2, *[0.45] * 3, 0.0)
    ),
}  # fmt: skip
"""The ten rows that can be built here, in the paper's order; a ResNet-50 is named by its FLOPs."""


def width(channels: int, rate: float) -> int:
    """Return the filters that a rate leaves, ``int(channels * (1 - rate))``, at least one.

    Raises
    ------
    ValueError
        If ``channels`` is below 1 or ``rate`` is not in [0, 1).
    """
    if channels < 1 or not 0 <= rate < 1:
        raise ValueError(f"channels must be at least 1 and rate in [0, 1), got {channels} and {rate}")
    return max(1, int(channels * (1 - rate)))


def full_network(name: str, *, device: str = "cpu") -> nn.Module:
    """Return one of the paper's networks whole; arguments as for :func:`narrow_network`."""
    with torch.device(device):
        return _published(name).full()


def narrow_network(name: str, *, device: str = "cpu") -> nn.Module:
    """Return one of the paper's networks with its published widths, ready for ``dcff_network.fuse``.

    Parameters
    ----------
    name : str
        A key of ``PUBLISHED``.
    device : str, default "cpu"
        Where it is built; "meta" is enough for counting.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    network = _published(name)
    if name in ("ResNet-56", "ResNet-110"):
        *inner, one, two, three = network.rates
        stages = [width(channels, rate) for channels, rate in ((16, one), (32, two), (64, three))]
        blocks = len(inner) // 3
        with torch.device(device):
            return narrow_resnet(stages, [width(16 << index // blocks, rate) for index, rate in enumerate(inner)])
    full = full_network(name, device=device)
    return narrowed(full, _widths(full, network.rates), (3, network.side, network.side))


def narrowed(full: nn.Module, widths: Mapping[str, int], image: tuple[int, int, int]) -> nn.Module:
    """Return the network with so many channels in the named groups; which ones stay does not matter for fusion.

    Parameters
    ----------
    full : nn.Module
        Unchanged.
    widths : mapping of str to int
        Channels of groups, or of layers that write one, of its graph with grouped residual sums.
    image : (int, int, int)
        Shape of an image.

    Raises
    ------
    ValueError
        As ``surgery.keep_plan`` where a name or a width does not fit.
    """
    graph = surgery.channel_graph(full, image)
    return surgery.prune(full, surgery.keep_plan(graph, {name: list(range(n)) for name, n in widths.items()}))


def narrow_resnet(stages: Sequence[int], inner: Sequence[int], num_classes: int = 10) -> models.ResNet:
    """Return a CIFAR ResNet with any widths of its stages, which option A would couple for surgery.

    Between stages the shortcut pads with zero channels, half of them in front, as it does in the whole network.

    Parameters
    ----------
    stages : sequence of 3 int
        Channels of the stages, ascending; the stem has those of the first.
    inner : sequence of int
        Channels between the two convolutions of each block, three stages of equally many.
    num_classes : int, default 10
        Outputs.

    Raises
    ------
    ValueError
        If a count is below 1, stages descend or ``inner`` cannot be split into three.
    """
    if len(stages) != 3 or min(stages) < 1 or list(stages) != sorted(stages):
        raise ValueError(f"stages must be three ascending counts, got {list(stages)}")
    if not inner or len(inner) % 3 or min(inner) < 1:
        raise ValueError(f"inner must be counts for three stages of equally many blocks, got {list(inner)}")
    blocks = len(inner) // 3
    model = models.ResNet(blocks, num_classes)
    channels = stages[0]
    model.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    model.bn1 = nn.BatchNorm2d(channels)
    for index, between in enumerate(inner):
        stage, place = divmod(index, blocks)
        block = models.BasicBlock(channels, stages[stage], stride=2 if stage and not place else 1)
        block.conv1 = nn.Conv2d(channels, between, 3, stride=block.conv1.stride, padding=1, bias=False)
        block.bn1 = nn.BatchNorm2d(between)
        block.conv2 = nn.Conv2d(between, stages[stage], 3, padding=1, bias=False)
        (model.layer1, model.layer2, model.layer3)[stage][place] = block
        channels = stages[stage]
    model.fc = nn.Linear(channels, num_classes)
    models.initialise_(model)
    return model


def _published(name: str) -> Network:
    if name not in PUBLISHED:
        raise ValueError(f"name must be one of {', '.join(PUBLISHED)}, got {name!r}")
    return PUBLISHED[name]


def _widths(full: nn.Module, rates: Sequence[float]) -> dict[str, int]:
    """Return the width of each group, by the layer that its rate is for."""
    convs = {layer: module for layer, _, module in surgery.named_layers(full) if isinstance(module, nn.Conv2d)}
    layers = list(convs)
    if "layer1.0.downsample.0" in convs:  # ResNet-50: convolutions by their place in the block, streams last
        blocks = [layer.removesuffix(".conv1") for layer in convs if layer.endswith(".conv1")]
        streams = [f"layer{stage}.0.conv3" for stage in (1, 2, 3, 4)]
        layers = ["conv1", *(f"{b}.conv1" for b in blocks), *(f"{b}.conv2" for b in blocks), *streams]
    return {layer: width(convs[layer].out_channels, rate) for layer, rate in zip(layers, rates, strict=True)}
