"""What one forward pass of a network shows: its layers, and where each channel goes.

Each tensor that carries channels is labelled with one number per channel. A layer with weights reads labels and writes
new ones; :mod:`compactvision.surgery.following` says what functions do with them. What is found is a
:class:`Recording`, from which :mod:`compactvision.surgery.coupling` decides which channels belong together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from compactvision.models.layers import ChannelMap

LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, ChannelMap)
"""Layers that surgery can cut. Subclasses may compute something else and are looked into."""

IMAGES = "it meets the images or another tensor that no layer made"
OUTPUT = "it is the network's output"


@dataclass
class Call:
    """One layer in the order of execution: labels read and written, one per channel."""

    name: str
    path: str
    module: nn.Module
    reads: list[int]
    writes: list[int]
    calls: int = 1
    last: bool = False  # a linear layer whose channels are the last of more than two dimensions

    @property
    def passes_on(self) -> bool:
        """Whether each output channel is made from the input channel of the same index alone."""
        return isinstance(self.module, (nn.BatchNorm1d, nn.BatchNorm2d)) or is_depthwise(self.module)

    @property
    def selectable(self) -> bool:
        """Whether a channel map can stand before or behind it, which works on the second dimension."""
        return not (self.last or is_grouped(self.module) or isinstance(self.module, ChannelMap))


@dataclass
class Sum:
    """A residual sum: labels of each operand with the layer that made it (if one did), and of the result."""

    operands: list[tuple[list[int], str | None]]
    result: list[int]


@dataclass(frozen=True)
class Carried:
    """What a tensor that depends on layers carries: a label for each place along one dimension.

    ``labels`` is None for a tensor that was made of whole channels alone and stays as it is; ``said`` tells by what.
    """

    labels: list[int] | None
    axis: int = 1
    maker: str | None = None
    said: str = ""


@dataclass
class Recording:
    """What one forward pass showed.

    Attributes
    ----------
    layers : dict of str to Call
        Every layer that ran, by name.
    sums : list of Sum
        Residual sums.
    same : list of (list of int, list of int)
        Labels that belong together wherever they occur: factors of a product, a layer that is used again.
    joined : list of list of int
        Labels of each concatenation.
    fixed : dict of int to str
        Labels that no plan may cut, with the reason: the images and other constants, what the network returns.
    labels : int
        Number of labels used.
    """

    layers: dict[str, Call] = field(default_factory=dict)
    sums: list[Sum] = field(default_factory=list)
    same: list[tuple[list[int], list[int]]] = field(default_factory=list)
    joined: list[list[int]] = field(default_factory=list)
    fixed: dict[int, str] = field(default_factory=dict)
    labels: int = 0

    def fresh(self, count: int) -> list[int]:
        """Return ``count`` labels that were never used."""
        self.labels += count
        return list(range(self.labels - count, self.labels))

    def constant(self, count: int, reason: str = IMAGES) -> list[int]:
        """Return ``count`` labels of channels that cannot be cut, such as those that no layer made."""
        labels = self.fresh(count)
        self.fix(labels, reason)
        return labels

    def unite(self, labels: list[int]) -> None:
        """Make one unit of several labels."""
        self.same.append(([labels[0]] * (len(labels) - 1), labels[1:]))

    def fix(self, labels: list[int], reason: str) -> None:
        """Exclude labels from every cut; the first reason counts."""
        for label in labels:
            self.fixed.setdefault(label, reason)

    def book(self, name: str, path: str, module: nn.Module, reads: list[int] | None, channels: tuple[int, int]) -> Call:
        """Book one call of a layer with (C_in, C_out) ``channels``; ``reads`` is None for an input no layer made.

        The channels of each group of a convolution are one unit with those that it makes of them.
        """
        reads = self.constant(channels[0]) if reads is None else reads
        known = self.layers.get(name)
        if known is None:
            known = self.layers[name] = Call(name, path, module, reads, self.fresh(channels[1]))
            if is_grouped(module):
                for read, written in zip(
                    _parts(reads, module.groups), _parts(known.writes, module.groups), strict=True
                ):
                    self.unite(read + written)
        else:
            known.calls += 1
            self.same.append((known.reads, reads))
        return known


def is_depthwise(module: nn.Module) -> bool:
    """Return whether the module is a convolution with one input and one output channel in each group."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def is_grouped(module: nn.Module) -> bool:
    """Return whether the module is a convolution in groups, but no depthwise one."""
    return isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module)


def _parts(labels: list[int], count: int) -> list[list[int]]:
    size = len(labels) // count
    return [labels[start : start + size] for start in range(0, len(labels), size)]


def readable(module: nn.Module, ndim: int) -> bool:
    """Return whether surgery knows which dimension of an input with so many a layer takes for channels."""
    if isinstance(module, nn.Linear):
        return ndim >= 2
    return ndim in ((2, 3, 4) if isinstance(module, nn.BatchNorm1d) else (2, 4))
