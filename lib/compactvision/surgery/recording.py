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

    @property
    def passes_on(self) -> bool:
        """Whether each output channel is made from the input channel of the same index alone."""
        return isinstance(self.module, (nn.BatchNorm1d, nn.BatchNorm2d)) or is_depthwise(self.module)


@dataclass
class Sum:
    """A residual sum: labels of each operand with the layer that made it (if one did), and of the result."""

    operands: list[tuple[list[int], str | None]]
    result: list[int]


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

    def constant(self, count: int) -> list[int]:
        """Return ``count`` labels of channels that no layer made."""
        labels = self.fresh(count)
        self.fix(labels, IMAGES)
        return labels

    def fix(self, labels: list[int], reason: str) -> None:
        """Exclude labels from every cut; the first reason counts."""
        for label in labels:
            self.fixed.setdefault(label, reason)

    def book(self, name: str, path: str, module: nn.Module, reads: list[int] | None, channels: tuple[int, int]) -> Call:
        """Book one call of a layer with (C_in, C_out) ``channels``; ``reads`` is None for an input no layer made."""
        reads = self.constant(channels[0]) if reads is None else reads
        known = self.layers.get(name)
        if known is None:
            known = self.layers[name] = Call(name, path, module, reads, self.fresh(channels[1]))
        else:
            known.calls += 1
            self.same.append((known.reads, reads))
        return known


def is_depthwise(module: nn.Module) -> bool:
    """Return whether the module is a convolution with one input and one output channel in each group."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1
