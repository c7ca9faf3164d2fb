"""The budget of AutoBot: operations as a differentiable function of the gates, and the cut that meets a budget.

Soft widths go in, a number comes out; for gates of 0 and 1 it is the count of the pruned network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import measure, surgery
from compactvision.measure.state import Example, inputs_from

CONVENTIONS = ("thop", "macs")
POOLINGS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True, eq=False)
class Flops:
    """Operations of one image as a function of the gates; L layers, U units, all in float64.

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
        gates = gates.to(torch.float64)
        return self.base + (self.pairs * (self.reads @ gates) * (self.writes @ gates)).sum() + self.singles @ gates

    @property
    def whole(self) -> int:
        """Operations of the network with all gates at 1."""
        return round(float(self(torch.ones_like(self.singles))))

    def to(self, device: torch.device | str) -> Flops:
        """Return the same function on a device."""
        return Flops(self.base, *(t.to(device) for t in (self.pairs, self.reads, self.writes, self.singles)))


def count(model: nn.Module, graph: surgery.ChannelGraph, example: Example, *, convention: str = "thop") -> Flops:
    """Return the operations of a network as a function of its gates.

    A convolution costs (soft input channels) x (soft output channels) x output pixels x kernel. With "thop" a BatchNorm
    costs two operations an element, average pooling one an output, adaptive pooling ``k * k + 1``. These are
    multiply-accumulates, though the paper calls them FLOPs. The paper's code leaves biases of convolutions out of what
    gates change; here they follow their channels, so that for gates of 0 and 1 the count is that of the pruned network.
    A function that pools, where no module does, is a constant, as in the paper's code.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode and left as it was.
    graph : ChannelGraph
        Of this model.
    example : Tensor, tuple of int or tuple of Tensor
        As for :func:`compactvision.measure.macs`.
    convention : {"thop", "macs"}, default "thop"
        What is counted: as the paper, or the book's multiply-accumulates of convolutions and linear layers alone.

    Raises
    ------
    ValueError
        If ``convention`` is unknown, or average pooling is not followed by a layer that reads its channels.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    counts = measure.macs_by_module(model, example, convention=convention)
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
    for path, units in _pooled(model, graph, example).items():
        singles.index_add_(0, units, torch.full(units.shape, counts.get(path, 0) / len(units), dtype=torch.float64))
    flops = Flops(0.0, pairs, reads, writes, singles)
    return Flops(float(sum(counts.values()) - flops.whole), pairs, reads, writes, singles)


def budget_loss(flops: Tensor, target: float, whole: float) -> Tensor:
    """Return how far the operations are from the budget: 0 at the target, 1 for the whole network and for none at all.

    Implements the second term of the loss of :cite:`castells2021autobot`: ``(F - T) / (F_whole - T)`` above the target
    and ``1 - F / T`` below.

    Parameters
    ----------
    flops : Tensor
        Operations F, any shape.
    target, whole : float
        Budget T and operations of the whole network, 0 < target < whole.

    Raises
    ------
    ValueError
        If ``target`` is not between 0 and ``whole``.
    """
    check_target(target, whole)
    return torch.where(flops > target, (flops - target) / (whole - target), 1 - flops / target)


def above(graph: surgery.ChannelGraph, gates: Tensor, threshold: float) -> Tensor:
    """Return which units stay (units,): gates above the threshold, what has no gate, and the best of each layer.

    ``gates`` is (units,); values outside of [0, 1] are compared like others. Errors as for :func:`check_gates`.
    """
    check_gates(graph, gates)
    kept = ungated(graph) | (gates.detach().cpu() > threshold)
    for group in graph.groups.values():
        for name in group.writers:  # a layer that writes part of a stream's units keeps one of its own
            units = graph.layers[name].writes if name in graph.layers else group.units
            kept[units[gates[units].argmax()]] = True
    return kept


def cut(
    graph: surgery.ChannelGraph,
    gates: Tensor,
    flops: Flops,
    target: float,
    *,
    search: str = "exact",
    tolerance: float = 50_000,
    rounds: int = 50,
) -> surgery.Plan:
    """Return the plan that keeps the channels with the largest gates that the budget pays for.

    Implements the threshold search of :cite:`castells2021autobot`. Equal gates stay or go together.

    Parameters
    ----------
    graph : ChannelGraph
        Of the network.
    gates : Tensor
        (units,), such as :func:`compactvision.pruning.autobot.learn` found.
    flops : Flops
        From :func:`count`.
    target : float
        Budget, in the unit of ``flops``.
    search : {"exact", "bisection"}, default "exact"
        "exact": the lowest threshold within the budget, over all values of gates. "bisection": as the paper's code,
        from 0.5 with steps of a quarter, an eighth and so on. It ends within ``tolerance`` operations on either side of
        the budget, or after ``rounds`` steps wherever it stands, and does not ask whether the budget can be met.
    tolerance, rounds
        Where the bisection stops.

    Raises
    ------
    ValueError
        If ``gates`` has another shape or holds NaN, ``search`` is unknown, or, with "exact", one channel a layer
        costs more.
    """
    check_gates(graph, gates)
    gates = gates.detach().cpu()

    def cost(threshold: float) -> float:
        return float(flops(above(graph, gates, threshold).to(flops.singles.device)))

    if search == "bisection":
        threshold, delta = 0.5, 0.25
        for _ in range(rounds):
            off = cost(threshold) - target
            if abs(off) <= tolerance:
                break
            threshold, delta = threshold + math.copysign(delta, off), delta / 2
        return surgery.Plan(graph, above(graph, gates, threshold))
    if search != "exact":
        raise ValueError(f'search must be "exact" or "bisection", got {search!r}')
    values = [-math.inf, *gates[~ungated(graph)].unique().tolist()]  # thresholds, ascending
    if cost(values[-1]) > target:
        raise ValueError(f"target={target} is out of reach: one channel a layer still costs {cost(values[-1]):.0f}")
    low, high = -1, len(values) - 1  # the first is above the budget, or before all; the last is within
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(values[middle]) <= target else (middle, high)
    return surgery.Plan(graph, above(graph, gates, values[high]))


def check_gates(graph: surgery.ChannelGraph, gates: Tensor) -> None:
    """Raise a ``ValueError`` unless there is one number for each unit."""
    if gates.shape != (graph.units,):
        raise ValueError(f"gates must have shape ({graph.units},), one for each unit, got {tuple(gates.shape)}")
    if gates.isnan().any():
        raise ValueError("gates holds NaN")


def check_target(target: float, whole: float) -> None:
    """Raise a ``ValueError`` unless the budget is positive and below the whole network."""
    if not 0 < target < whole:
        raise ValueError(f"target must be between 0 and the {whole:.0f} of the whole network, got {target}")


def ungated(graph: surgery.ChannelGraph) -> Tensor:
    """Return which units are in no group (units,), bool."""
    outside = torch.ones(graph.units, dtype=torch.bool)
    for group in graph.groups.values():
        outside[group.units] = False
    return outside


def _pooled(model: nn.Module, graph: surgery.ChannelGraph, example: Example) -> dict[str, Tensor]:
    """Return the units that each average pooling sees, which the layer that runs next reads."""
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
            model(*(tensor[:1] for tensor in inputs_from(model, example)))
    return found
