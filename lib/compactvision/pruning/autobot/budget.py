"""The budget of AutoBot: operations as a differentiable function of the gates.

Soft widths go in, a number comes out; for gates of 0 and 1 it is the count of the pruned network.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import measure, surgery
from compactvision.measure.state import inputs_from

CONVENTIONS = ("macs", "thop")
POOLINGS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True, eq=False)
class Operations:
    """Operations of one image as a function of the gates, Eq. (2); L layers, U units, all in float64.

    Attributes
    ----------
    base : float
        What no gate changes.
    pairs : Tensor
        (L,), for each pair of an input and an output channel: output pixels times the size of the kernel.
    reads, writes : Tensor
        (L, U), how often a layer reads or writes a unit; times gates, these are soft numbers of channels.
    singles : Tensor
        (U,), for each unit alone: BatchNorm, average pooling, biases of convolutions, depthwise convolutions.
    """

    base: float
    pairs: Tensor
    reads: Tensor
    writes: Tensor
    singles: Tensor

    def __call__(self, gates: Tensor) -> Tensor:
        """Return the operations as a differentiable number: a polynomial in the sums of gates, exact for 0 and 1."""
        checks.tensors(gates=gates)
        if gates.shape != self.singles.shape or gates.device != self.singles.device:
            whole = f"shape {tuple(self.singles.shape)}, one for each unit, on {self.singles.device}"
            raise ValueError(f"gates must have {whole}, got {checks.shown(gates)}")
        gates = gates.to(torch.float64)
        return self.base + (self.pairs * (self.reads @ gates) * (self.writes @ gates)).sum() + self.singles @ gates

    @property
    def whole(self) -> int:
        """Operations of the network with all gates at 1."""
        return round(float(self(torch.ones_like(self.singles))))

    def to(self, device: torch.device | str) -> Operations:
        """Return the same function on a device."""
        checks.device(device)
        return Operations(self.base, *(t.to(device) for t in (self.pairs, self.reads, self.writes, self.singles)))


def count_operations(graph: surgery.ChannelGraph, *, convention: str = "macs") -> Operations:
    """Return the operations of a graph's network as a function of its gates, Eq. (2).

    A convolution costs (soft input channels) x (soft output channels) x output pixels x kernel. With "thop" a BatchNorm
    costs two operations an element, average pooling one an output, adaptive pooling ``k * k + 1``. These are
    multiply-accumulates, though the paper calls them FLOPs. The paper's code leaves biases of convolutions out of what
    gates change; here they follow their channels, so that for gates of 0 and 1 the count is that of the pruned network.
    A function that pools, where no module does, is a constant, as in the paper's code.

    Parameters
    ----------
    graph : ChannelGraph
        Its network is run once in evaluation mode and left as it was.
    convention : {"macs", "thop"}, default "macs"
        What is counted: the book's multiply-accumulates of convolutions and linear layers alone, or what the paper
        counts.

    Returns
    -------
    Operations
        A function of gates (units,). It is also a ``cost`` for :func:`compactvision.surgery.make_plan`.

    Raises
    ------
    ValueError
        If ``convention`` is unknown, or average pooling is not followed by a layer that reads its channels.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, surgery
    >>> from compactvision.pruning import autobot
    >>> graph = surgery.channel_graph(models.resnet20(), (3, 32, 32), residual="scatter")
    >>> operations = autobot.count_operations(graph)
    >>> operations.whole == graph.macs
    True
    >>> gates = torch.ones(graph.units).index_fill(0, graph.group_of("layer1.0.conv1").units, 0.5)
    >>> operations.whole - float(operations(gates))  # half of the inputs of one convolution, half of the outputs of one
    2359296.0
    """
    checks.instances(surgery.ChannelGraph, graph=graph)
    checks.one_of(CONVENTIONS, convention=convention)
    counts = measure.macs_by_module(graph.model, graph.example_inputs, convention=convention)
    layers = list(graph.layers.values())
    pairs = torch.tensor([float(layer.pair[1]) for layer in layers], dtype=torch.float64)
    reads, writes = torch.zeros(2, len(layers), graph.units, dtype=torch.float64)
    singles = torch.zeros(graph.units, dtype=torch.float64)
    for row, layer in enumerate(layers):
        n_in, n_out = layer.reads.numel(), layer.writes.numel()
        reads[row].index_add_(0, layer.reads, torch.ones(n_in, dtype=torch.float64))
        writes[row].index_add_(0, layer.writes, torch.ones(n_out, dtype=torch.float64))
        rest = counts.get(layer.path, 0) - layer.pair[1] * n_in * n_out
        if layer.kind != "linear":  # a linear layer's bias is not counted in either convention
            singles.index_add_(0, layer.writes, torch.full((n_out,), rest / n_out, dtype=torch.float64))
    for path, units in _pooled(graph).items():
        singles.index_add_(0, units, torch.full(units.shape, counts.get(path, 0) / len(units), dtype=torch.float64))
    gated = Operations(0.0, pairs, reads, writes, singles)
    return Operations(float(sum(counts.values()) - gated.whole), pairs, reads, writes, singles)


def budget_loss(operations: Tensor, target: float, whole: float) -> Tensor:
    """Return how far the operations are from the budget: 0 at the target, 1 for the whole network and for none at all.

    The first term of Eq. (3): ``(F - T) / (F_1 - T)`` above the target and ``1 - F / T`` below.

    Parameters
    ----------
    operations : Tensor
        Operations F, any shape.
    target, whole : float
        Budget T and operations F_1 of the whole network, 0 < target < whole.

    Raises
    ------
    ValueError
        If ``target`` is not between 0 and ``whole``, or either is not finite.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning import autobot
    >>> autobot.budget_loss(torch.tensor([0.0, 40.0, 70.0, 100.0]), 40, 100)
    tensor([1.0000, 0.0000, 0.5000, 1.0000])
    """
    checks.floating(operations=operations)
    checks.finite(target=target, whole=whole)
    if not 0 < target < whole:
        raise ValueError(f"target must be between 0 and the {whole:.0f} of the whole network, got {target}")
    return torch.where(operations > target, (operations - target) / (whole - target), 1 - operations / target)


def _pooled(graph: surgery.ChannelGraph) -> dict[str, Tensor]:
    """Return the units that each average pooling sees, which the layer that runs next reads."""
    model = graph.model
    waiting: list[tuple[str, int]] = []
    found: dict[str, Tensor] = {}

    def pooled(path: str) -> Callable:
        return lambda module, args, out: waiting.append((path, out.shape[1]))

    def reads(layer: surgery.Layer) -> Callable:
        def hook(module: nn.Module, args: tuple) -> None:
            for path, channels in waiting:
                positions = layer.reads.numel() // channels
                if args[0].shape[1] != channels * positions:
                    raise ValueError(f"model: layer {layer.name!r} does not read what the pooling {path!r} gives")
                if layer.insert != "gather":  # else the pooling sees a stream that stays whole
                    found[path] = layer.reads[::positions]
            waiting.clear()

        return hook

    with ExitStack() as stack:
        for path, module in model.named_modules():
            if isinstance(module, POOLINGS):
                stack.callback(module.register_forward_hook(pooled(path)).remove)
        for layer in graph.layers.values():
            module = model.get_submodule(layer.path)
            stack.callback(module.register_forward_pre_hook(reads(layer)).remove)
        with measure.evaluating(model):
            model(*(tensor[:1] for tensor in inputs_from(model, graph.example_inputs)))
    return found
