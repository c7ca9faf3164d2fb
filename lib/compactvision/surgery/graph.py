"""Coupled channels of a network: which channels of which layers can only be removed together.

A *unit* is a set of channels that are one and the same for surgery: output channel 3 of a convolution, channel 3 of the
BatchNorm behind it, input channel 3 of the next convolution. A *group* is the units of one index set: those that one
layer writes, joined with those of every layer that shares some of them. Plans choose units; groups name them.

Torch-Pruning finds such groups too, and the tests compare both on every network where it is right. It takes any
operation that it does not know for an elementwise one, so a shortcut that pads with zero channels comes out wrong
without a word; and it knows neither of the two forms of a residual sum that leave the stream whole. Hence this own
graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import measure
from compactvision.measure.state import ExampleInputs
from compactvision.models.layers import ChannelMap
from compactvision.surgery.coupling import RESIDUAL_FORMS, Coupling, couple
from compactvision.surgery.recording import is_depthwise, is_grouped
from compactvision.surgery.tracing import record


@dataclass(frozen=True)
class Layer:
    """A layer and the unit of each of its channels.

    Attributes
    ----------
    name, path : str
        Name in scores and plans (unchanged when surgery wraps the layer), and name in ``model.named_modules()``.
    kind : {"conv", "grouped", "depthwise", "linear", "norm", "map"}
        What it is; depthwise convolutions and norms follow whatever writes their input. The channels that one group of
        a "grouped" convolution reads and writes are one unit.
    reads, writes : Tensor
        Unit of each input channel (C_in,) and output channel (C_out,), int64. A linear layer behind a flattened map
        reads each unit once per pixel; what is read or written along a grouped convolution holds each several times.
    insert : {None, "gather", "scatter"}
        What surgery puts before the layer (it reads part of a stream) or behind it (it writes into part of a stream).
    pair, single : (int, int)
        Parameters and MACs for each pair of input and output channel, and for each output channel.
    """

    name: str
    path: str
    kind: str
    reads: Tensor
    writes: Tensor
    insert: str | None
    pair: tuple[int, int]
    single: tuple[int, int]

    @property
    def passes_on(self) -> bool:
        """Whether it passes each channel on by itself, as norms and depthwise convolutions do."""
        return self.kind in ("norm", "depthwise")


@dataclass(frozen=True)
class Group:
    """Units of one index set.

    Attributes
    ----------
    name : str
        Name of the first layer that writes them; with ":in" behind it where a layer reads part of a stream.
    kind : {"inner", "stream", "scatter", "gather"}
        "stream" takes part in a residual sum as a whole; "scatter" and "gather" are the two forms that leave it whole.
    units : Tensor
        Its units (n,), int64, in the order of the channels of the layer that gives the name.
    writers, followers, readers : tuple of str
        Layers that make the channels, pass them on one by one, and read them.
    """

    name: str
    kind: str
    units: Tensor
    writers: tuple[str, ...]
    followers: tuple[str, ...]
    readers: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of units."""
        return self.units.numel()


@dataclass(frozen=True)
class ChannelGraph:
    """Layers, groups and costs of a network, as :func:`channel_graph` finds them.

    Attributes
    ----------
    residual : str
        Form of the residual sums.
    layers : dict of str to Layer
        Every layer that ran, in the order of execution.
    groups : dict of str to Group
        Groups that a plan may cut, in the order of execution.
    fixed : dict of str to str
        Layers whose outputs stay as they are, with the reason, such as a function that needs all of their channels.
    units : int
        Number of units, those that cannot be cut included.
    parameters, macs : int
        Of the dense network; MACs of one image of the example's size.
    model : nn.Module
        The network itself, not a copy.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        What it was run on.
    """

    residual: str
    layers: dict[str, Layer]
    groups: dict[str, Group]
    fixed: dict[str, str]
    units: int
    parameters: int
    macs: int
    model: nn.Module = field(repr=False, compare=False)
    example_inputs: ExampleInputs = field(repr=False, compare=False)

    def only(self, names: Iterable[str] = (), *, kinds: Iterable[str] = ()) -> ChannelGraph:
        """Return a graph in which all groups but those of these names or kinds stay whole.

        Raises
        ------
        ValueError
            If a name or kind is that of no group.
        """
        chosen, kinds = {self.group_of(name).name for name in _several(names)}, set(_several(kinds))
        unknown = kinds - {group.kind for group in self.groups.values()}
        if unknown:
            raise ValueError(f"kinds: no group is of kind {sorted(unknown)}")
        return self._restricted(lambda group: group.name in chosen or group.kind in kinds)

    def without(self, names: Iterable[str] = (), *, kinds: Iterable[str] = ()) -> ChannelGraph:
        """Return a graph in which the groups of these names or kinds stay whole; errors as for :meth:`only`."""
        left_out = self.only(names, kinds=kinds).groups
        return self._restricted(lambda group: group.name not in left_out)

    def group_of(self, name: str) -> Group:
        """Return the group with this name, or the one that the layer of this name writes.

        Raises
        ------
        ValueError
            If there is none; the reason is given.
        """
        if not isinstance(name, str):
            raise ValueError(f"name must be that of a group or layer, got {checks.shown(name)}")
        for group in self.groups.values():
            if name == group.name or name in group.writers:
                return group
        if name in self.fixed:
            raise ValueError(f"group: layer {name!r} cannot be cut: {self.fixed[name]}")
        raise ValueError(f"group: {name!r} is no group and writes none; there are {', '.join(self.groups)}")

    def cost(self, kept: Tensor) -> tuple[int, int]:
        """Return parameters and MACs of the network that keeps the units where ``kept`` (units,) is true."""
        checks.tensors(kept=kept)
        if kept.shape != (self.units,) or kept.dtype != torch.bool:
            raise ValueError(
                f"kept must be bool with shape ({self.units},), one for each unit, got {checks.shown(kept)}"
            )
        parameters, macs = self.parameters, self.macs
        for layer in self.layers.values():
            dense_out, out = layer.writes.numel(), int(kept[layer.writes].sum())
            dense_in, read = layer.reads.numel(), int(kept[layer.reads].sum())
            pairs, singles = dense_in * dense_out - read * out, dense_out - out
            parameters -= layer.pair[0] * pairs + layer.single[0] * singles
            macs -= layer.pair[1] * pairs + layer.single[1] * singles
        return parameters, macs

    def _restricted(self, wanted: Callable[[Group], bool]) -> ChannelGraph:
        groups = {name: group for name, group in self.groups.items() if wanted(group)}
        whole = {
            writer: "left whole by choice"
            for name, group in self.groups.items()
            if name not in groups
            for writer in (name, *group.writers)
        }
        return replace(self, groups=groups, fixed=self.fixed | whole)


def channel_graph(model: nn.Module, example_inputs: ExampleInputs, *, residual: str = "grouped") -> ChannelGraph:
    """Find the coupled channels of a network.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode and left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.
    residual : {"grouped", "scatter", "gather"}
        What a residual sum does. "grouped": all its operands and everything that reads the result share one index set.
        "scatter": the stream stays whole, each branch writes into a part of it of its own. "gather": streams and
        concatenations stay whole, each layer that reads one reads a part of its own.

    Returns
    -------
    ChannelGraph

    Raises
    ------
    ValueError
        If ``residual`` is unknown, or the network does something that surgery cannot follow: it writes to channels in
        place, turns them into numbers of Python, shares parameters or hides what it does. The layer and the function
        are named. Channels that a function moves, splits or mixes are kept whole, and ``fixed`` says so.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32))
    >>> graph.groups["conv1"].kind, graph.groups["layer1.0.conv1"].kind
    ('stream', 'inner')
    >>> graph.groups["conv1"].readers[:2]
    ('layer1.0.conv1', 'layer1.1.conv1')
    """
    if residual not in RESIDUAL_FORMS:
        raise ValueError(f"residual must be one of {RESIDUAL_FORMS}, got {residual!r}")
    coupling = couple(record(model, example_inputs), residual)
    by_path = measure.macs_by_module(model, example_inputs)
    layers = {}
    for call in coupling.calls.values():
        reads, writes = torch.tensor(call.reads), torch.tensor(call.writes)
        pair, single = _costs(call.module, reads.numel(), writes.numel(), by_path.get(call.path, 0))
        layers[call.name] = Layer(
            call.name, call.path, _kind(call.module), reads, writes, coupling.inserts.get(call.name), pair, single
        )
    total = sum(by_path.values())
    groups, fixed = _groups(layers, coupling)
    parameters = measure.parameters(model)
    return ChannelGraph(residual, layers, groups, fixed, coupling.units, parameters, total, model, example_inputs)


def _groups(layers: Mapping[str, Layer], coupling: Coupling) -> tuple[dict[str, Group], dict[str, str]]:
    """Return the index sets that can be cut as groups, and for the writers of the others the reason."""
    groups, fixed = {}, {}
    for index, names in coupling.writers.items():
        if index in coupling.fixed:
            fixed |= dict.fromkeys(names, coupling.fixed[index])
            continue
        units = set(coupling.index_sets[index])
        first = next((name for name in names if name not in layers or layers[name].kind != "map"), names[0])
        followers = [
            layer for layer in layers.values() if layer.passes_on and not units.isdisjoint(layer.writes.tolist())
        ]
        readers = [
            layer for layer in layers.values() if not layer.passes_on and not units.isdisjoint(layer.reads.tolist())
        ]
        groups[first] = Group(
            first,
            _group_kind(names, readers) or coupling.kinds.get(index, "inner"),
            torch.tensor(coupling.index_sets[index]),
            tuple(names),
            tuple(layer.name for layer in followers),
            tuple(layer.name for layer in readers),
        )
    return groups, fixed


def _group_kind(writers: list[str], readers: list[Layer]) -> str | None:
    """Return the form that an earlier cut has put in place, if any."""
    if any(name.endswith(":in") for name in writers):
        return "gather"
    return "scatter" if any(layer.name.endswith(":out") for layer in readers) else None


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        return "depthwise" if is_depthwise(module) else "grouped" if is_grouped(module) else "conv"
    if isinstance(module, ChannelMap):
        return "map"
    return "linear" if isinstance(module, nn.Linear) else "norm"


def _costs(
    module: nn.Module, channels_in: int, channels_out: int, macs: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (parameters, MACs) per pair of channels and per output channel."""
    kind = _kind(module)
    if kind in ("conv", "linear"):
        weights = module.weight.numel() // (channels_in * channels_out)
        return (weights, macs // (channels_in * channels_out)), (int(module.bias is not None), 0)
    own = sum(parameter.numel() for parameter in module.parameters(recurse=False)) // channels_out
    return (0, 0), (own, macs // channels_out)


def _several(names: Iterable[str]) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, Iterable) or isinstance(names, (bytes, type, nn.Module, Tensor)):
        raise ValueError(f"names and kinds must be texts or several of them, got {checks.shown(names)}")
    names = tuple(names)
    checks.texts(**{f"names or kinds ({index})": name for index, name in enumerate(names)})
    return names
