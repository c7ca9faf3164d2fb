"""Gates on the channels of a network that stays as it is; a mask is the case in which gates are 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.surgery.graph import ChannelGraph
from compactvision.surgery.plan import Plan, planned_modules

Gate = Callable[[Tensor, Tensor], Tensor]
"""From activations (B, C, ...) and gates (C,) to gated activations."""


def multiply(x: Tensor, gates: Tensor) -> Tensor:
    """Return each channel times its gate, ``gates[c] * x[:, c]``.

    Parameters
    ----------
    x : Tensor
        Activations (B, C) or (B, C, H, W).
    gates : Tensor
        (C,), of any device and dtype.
    """
    checks.tensors(x=x, gates=gates)
    if x.ndim < 2 or gates.shape != x.shape[1:2]:
        raise ValueError(f"gates must have shape (C,) for x (B, C, ...), got {tuple(gates.shape)} and {tuple(x.shape)}")
    return x * gates.to(x).view(1, -1, *[1] * (x.ndim - 2))


@contextmanager
def gated(
    model: nn.Module,
    graph: ChannelGraph,
    gates: Tensor,
    *,
    gate: Gate = multiply,
    behind: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[nn.Module]:
    """Multiply channels by their gates inside a ``with`` block, where a gate of 0 is the same as removing the channel.

    A unit is gated in front of every layer that reads it, hence behind BatchNorm and ReLU; a branch that writes into
    part of a stream (``residual="scatter"``) behind its BatchNorm, before the sum. A shared gate of a *grouped* stream
    can sit behind modules of the stream instead, which multiplies the stream there; ask for that with ``behind``. For
    gates of 0 and 1 both are the same.

    Parameters
    ----------
    model : nn.Module
        Not touched beyond hooks, which are removed on exit.
    graph : ChannelGraph
        Of this model.
    gates : Tensor
        (units,), in [0, 1], which is not checked. Units outside of the graph's groups are gated where theirs is not 1.
    gate : callable, default :func:`multiply`
        What a gate does.
    behind : mapping of str to sequence of str, optional
        For a group: paths of modules whose output carries its channels, gated there and nowhere else.

    Yields
    ------
    nn.Module
        The model itself.

    Raises
    ------
    ValueError
        If ``gates`` has another shape or holds NaN, a group or path is unknown, or a module's output has another number
        of channels than the group.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> graph = surgery.channel_graph(model, (3, 1, 1))
    >>> gates = torch.ones(graph.units).index_fill(0, graph.groups["0"].units, 0.0)
    >>> with surgery.gated(model, graph, gates):
    ...     model(torch.ones(1, 3, 1, 1)).abs().sum().item()
    0.0
    """
    checks.networks(model=model)
    check_gates(graph, gates)
    checks.functions(2, networks=True, gate=gate)
    checks.mappings(behind={} if behind is None else behind)
    modules, behind = dict(model.named_modules()), behind or {}
    silent = ungated(graph) & (gates.detach().cpu() == 1)  # units that nothing outside of ``behind`` has to gate
    elsewhere = gates
    with ExitStack() as stack:
        for name, paths in behind.items():
            units = graph.group_of(name).units
            silent[units] = True
            elsewhere = elsewhere.index_fill(0, units.to(gates.device), 1.0)
            for path in paths:
                if path not in modules:
                    raise ValueError(f"behind[{name!r}]: the model has no module {path!r}")
                stack.callback(modules[path].register_forward_hook(_on_output(units, gates, gate)).remove)
        for layer in graph.layers.values():
            module = modules.get(layer.path)
            if module is None:
                raise ValueError(f"model has no layer {layer.path!r}, which graph names")
            if not layer.passes_on and not silent[layer.reads].all():
                stack.callback(module.register_forward_pre_hook(_on_input(layer.reads, elsewhere, gate)).remove)
            if layer.insert == "scatter" and not silent[layer.writes].all():
                stack.callback(module.register_forward_hook(_on_output(layer.writes, elsewhere, gate)).remove)
        yield model


@contextmanager
def mask(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """Let the model compute, inside a ``with`` block, what the pruned one would: removed channels are read as zeros.

    Parameters
    ----------
    model : nn.Module
        The network that the plan was made for; its parameters are not touched, its hooks are as before on exit.
    plan : Plan
        What stays.

    Yields
    ------
    nn.Module
        The model itself.

    Raises
    ------
    ValueError
        If the plan does not fit the model.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, surgery
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32))
    >>> plan = surgery.make_plan(graph, surgery.criteria.l1(), keep=0.7)
    >>> images = torch.rand(2, 3, 32, 32)
    >>> with torch.no_grad(), surgery.mask(model, plan):
    ...     masked = model(images)
    >>> torch.allclose(surgery.prune(model, plan)(images), masked, atol=1e-4)
    True
    """
    planned_modules(model, plan)
    with gated(model, plan.graph, plan.kept.float()):
        yield model


def ungated(graph: ChannelGraph) -> Tensor:
    """Return which units are in no group (units,), bool."""
    checks.instances(ChannelGraph, graph=graph)
    outside = torch.ones(graph.units, dtype=torch.bool)
    for group in graph.groups.values():
        outside[group.units] = False
    return outside


def check_gates(graph: ChannelGraph, gates: Tensor) -> None:
    """Raise a ``ValueError`` unless there is one number for each unit."""
    checks.instances(ChannelGraph, graph=graph)
    checks.tensors(gates=gates)
    if gates.shape != (graph.units,):
        raise ValueError(f"gates must have shape ({graph.units},), one for each unit, got {tuple(gates.shape)}")
    if gates.isnan().any():
        raise ValueError("gates holds NaN")


def _on_input(units: Tensor, gates: Tensor, gate: Gate) -> Callable:
    chosen = gates[units.to(gates.device)]

    def hook(module: nn.Module, args: tuple) -> tuple:
        x = args[0]
        if isinstance(module, nn.Linear) and x.ndim > 2:  # its channels are the last dimension
            return _gated(gate, x.flatten(0, -2), chosen).view(x.shape), *args[1:]
        return _gated(gate, x, chosen), *args[1:]

    return hook


def _on_output(units: Tensor, gates: Tensor, gate: Gate) -> Callable:
    chosen = gates[units.to(gates.device)]

    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        if output.shape[1] != len(chosen):
            raise ValueError(f"behind: a module gives {output.shape[1]} channels, its group has {len(chosen)}")
        return _gated(gate, output, chosen)

    return hook


def _gated(gate: Gate, activation: Tensor, gates: Tensor) -> Tensor:
    found = gate(activation, gates)
    if not isinstance(found, Tensor) or found.shape != activation.shape:
        raise ValueError(f"gate must give a tensor of shape {tuple(activation.shape)}, got {checks.shown(found)}")
    return found
