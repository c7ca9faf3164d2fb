"""The networks of the paper: published compression rates (``rates.toml``) as widths, and what they build.

A rate ``r`` leaves ``int(c * (1 - r))`` of ``c`` filters, in Python's floats: ``int(160 * (1 - 0.9))`` is 15, and the
published counts need that 15. Rates are those of the method's published instructions (:cite:`lin2021dcff`). GoogLeNet
and ResNet-50 end in a pooling with a fixed kernel, as theirs do; it matters to the counting convention "thop" only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import torch
from torch import nn

from compactvision import _checks as checks
from compactvision import models, surgery
from compactvision.measure import ExampleInputs
from compactvision.pruning.dcff import arguments


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
        Shares of filters that go, in the published order, which ``rates.toml`` explains.
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


BUILDERS = {
    "VGG-16": _vgg16,
    "ResNet-56": models.resnet56,
    "ResNet-110": models.resnet110,
    "GoogLeNet": _googlenet,
    "ResNet-50": _resnet50,
}


def _read() -> dict[str, Network]:
    text = resources.files(__package__).joinpath("rates.toml").read_text(encoding="utf-8")
    return {
        name: Network(BUILDERS[name.partition(",")[0]], row["side"], tuple(row["rates"]))
        for name, row in tomllib.loads(text).items()
    }


PUBLISHED: dict[str, Network] = _read()
"""The ten rows that can be built here, in the paper's order; a ResNet-50 is named by its FLOPs."""


def width(channels: int, rate: float) -> int:
    """Return the filters that a rate leaves, ``int(channels * (1 - rate))``, at least one.

    Raises
    ------
    ValueError
        If ``channels`` is below 1 or ``rate`` is not in [0, 1).
    """
    checks.whole(channels=channels)
    checks.numbers(rate=rate)
    if channels < 1 or not 0 <= rate < 1:
        raise ValueError(f"channels must be at least 1 and rate in [0, 1), got {channels} and {rate}")
    return max(1, int(channels * (1 - rate)))


def full_network(name: str, *, device: str = "cpu") -> nn.Module:
    """Return one of the paper's networks whole; arguments as for :func:`narrow_network`."""
    network = _published(name)
    checks.device(device)
    with torch.device(device):
        return network.full()


def narrow_network(name: str, *, device: str = "cpu") -> nn.Module:
    """Return one of the paper's networks with its published widths, ready for :func:`compactvision.pruning.dcff.fuse`.

    Parameters
    ----------
    name : str
        A key of ``PUBLISHED``.
    device : str, default "cpu"
        Where it is built; "meta" is enough for counting.

    Raises
    ------
    ValueError
        If the name is unknown, or the device is.

    Examples
    --------
    >>> from compactvision import measure
    >>> from compactvision.pruning.dcff import published
    >>> measure.parameters(published.narrow_network("ResNet-56", device="meta"))
    384316
    """
    network = _published(name)
    checks.device(device)
    if name in ("ResNet-56", "ResNet-110"):
        *inner, one, two, three = network.rates
        stages = [width(channels, rate) for channels, rate in ((16, one), (32, two), (64, three))]
        blocks = len(inner) // 3
        with torch.device(device):
            return narrow_resnet(stages, [width(16 << index // blocks, rate) for index, rate in enumerate(inner)])
    full = full_network(name, device=device)
    return narrowed(full, _widths(full, network.rates), (3, network.side, network.side))


def narrowed(full: nn.Module, widths: Mapping[str, int], example_inputs: ExampleInputs) -> nn.Module:
    """Return the network with so many channels in the named groups; which ones stay does not matter for fusion.

    Parameters
    ----------
    full : nn.Module
        Unchanged.
    widths : mapping of str to int
        Channels of groups, or of layers that write one, of its graph with grouped residual sums.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        An image, or its shape.

    Raises
    ------
    ValueError
        As ``surgery.keep_plan`` where a name or a width does not fit.

    Examples
    --------
    >>> from compactvision import models
    >>> from compactvision.pruning.dcff import published
    >>> published.narrowed(models.small_cnn(10, (8, 16)), {"features.0": 3}, (3, 32, 32)).features[0].out_channels
    3
    """
    checks.networks(full=full)
    checks.mappings(widths=widths)
    checks.counts(**{f"widths[{name!r}]": n for name, n in widths.items()})
    graph = surgery.channel_graph(full, example_inputs)
    try:
        plan = surgery.keep_plan(graph, {name: list(range(n)) for name, n in widths.items()})
    except ValueError as error:
        raise ValueError(f"widths: {error}") from error
    return surgery.prune(full, plan)


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
    arguments.widths(stages=stages, inner=inner)
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
    checks.one_of(PUBLISHED, name=name)
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
