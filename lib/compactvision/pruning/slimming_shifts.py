"""What a scale at zero leaves behind: which channels a zero silences, and what the shift of a silenced one still says.

BatchNorm sends channel ``j`` to ``gamma_j z + b_j``. A channel with ``gamma_j = 0`` carries no information, but behind
the ReLU it still says ``max(b_j, 0)``, a constant that later layers have learned to count on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from compactvision import surgery
from compactvision.measure import evaluating
from compactvision.pruning.proximal_network_slimming import scales
from compactvision.surgery.layers import named_layers

FOLLOWING = ("norm", "depthwise")
"""Kinds of layers that pass each channel on by itself; all others read channels and write new ones."""


def behind_scales(model: nn.Module, graph: surgery.ChannelGraph, inputs: Tensor) -> surgery.ChannelGraph:
    """Restrict a graph to the groups that every reader hears through a scale, so that scale 0 and shift 0 silence them.

    In a pre-activation network the first BatchNorm of a stage scales what its block reads, but not what the shortcut
    beside it reads: such groups are left out. Take a graph with ``residual="gather"`` there, which leaves sums whole.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode and left as it was.
    graph : ChannelGraph
        Of this model.
    inputs : Tensor
        Images (B, C, H, W).

    Raises
    ------
    ValueError
        If no group is left, or as :func:`scales`.
    """
    scaled, heard = dict(scales(model)), {}
    with ExitStack() as stack:
        for name, module in _layers(model, graph).items():
            if name in scaled:
                stack.callback(module.register_forward_hook(lambda m, args, out: torch.zeros_like(out)).remove)
            elif graph.layers[name].kind not in FOLLOWING:
                stack.callback(module.register_forward_pre_hook(_listening(name, heard)).remove)
                stack.callback(module.register_forward_hook(lambda m, args, out: torch.ones_like(out)).remove)
        with torch.no_grad(), evaluating(model):
            model(inputs)
    silent = torch.ones(graph.units, dtype=torch.bool)
    for name, x in heard.items():
        silent[graph.layers[name].reads[(x != 0).flatten(2).any(2).any(0).cpu()]] = False
    names = [
        group.name
        for group in graph.groups.values()
        if silent[group.units].all() and not scaled.keys().isdisjoint(group.followers)
    ]
    if not names:
        raise ValueError(f"graph: no group of a graph with residual={graph.residual!r} is heard through scales only")
    return graph.only(names)


@contextmanager
def scales_at_zero(model: nn.Module, plan: surgery.Plan) -> Iterator[nn.Module]:
    """Let the model compute, inside a ``with`` block, as if the scales of removed channels were 0 and their shifts not.

    Each of these channels then says its shift, whatever the image. Inside :func:`compactvision.surgery.mask` its shift
    is 0 as well.
    """
    scaled = dict(scales(model))
    with ExitStack() as stack:
        for name, module in _layers(model, plan.graph).items():
            removed = ~plan.kept[plan.graph.layers[name].writes]
            if name in scaled and removed.any():
                stack.callback(module.register_forward_hook(_saying_the_shift(removed)).remove)
        yield model


def fold_shifts(model: nn.Module, plan: surgery.Plan, inputs: Tensor) -> nn.Module:
    """Return the network without the removed channels, but with what their shifts told the layers behind them.

    What a removed channel with scale 0 says is a constant; what each reader makes of it goes into the reader's bias,
    which is created where there is none. Exact for linear layers, convolutions without padding and pixels inside a map.
    At padded borders, where part of the filter lies outside, the constant is wrong by what that part would add.

    Parameters
    ----------
    model : nn.Module
        The network that the plan was made for; unchanged.
    plan : Plan
        On a graph as of :func:`behind_scales`.
    inputs : Tensor
        Images (B, C, H, W).

    Returns
    -------
    nn.Module
        As of :func:`compactvision.surgery.prune`, with more biases.

    Raises
    ------
    ValueError
        If a removed channel reaches a reader as something else than a constant, or is copied by a channel map.
    """
    heard, readers = {}, {}
    for name, module in _layers(model, plan.graph).items():
        layer = plan.graph.layers[name]
        if layer.kind in FOLLOWING or plan.kept[layer.reads].all():
            continue
        if layer.kind == "map":
            raise ValueError(f"plan: {name!r} only copies channels and can't take up a constant; leave streams whole")
        readers[name] = module
    with ExitStack() as stack, torch.no_grad(), evaluating(model):
        for name, module in readers.items():
            stack.callback(module.register_forward_pre_hook(_listening(name, heard)).remove)
        with scales_at_zero(model, plan):
            model(inputs)
    small = surgery.prune(model, plan)
    found = {name: module for name, _, module in named_layers(small)}
    for name, module in readers.items():
        layer, x = plan.graph.layers[name], heard[name].flatten(2)  # (B, C, H W)
        removed = ~plan.kept[layer.reads].to(x.device)
        said = x[:, removed]
        constant = said[:1, :, :1]  # (1, removed, 1)
        if not torch.allclose(said, constant.expand_as(said), rtol=1e-4, atol=1e-5):
            raise ValueError(f"plan: removed channels reach layer {name!r} as something else than a constant")
        summed = module.weight.detach().reshape(*module.weight.shape[:2], -1).sum(2)  # (C_out, C_in), over the filter
        made = (summed[:, removed] @ constant.flatten())[plan.kept[layer.writes].to(x.device)]  # (kept C_out,)
        old = found[name].bias
        found[name].bias = nn.Parameter(made if old is None else old.detach() + made)
    return small


def _layers(model: nn.Module, graph: surgery.ChannelGraph) -> dict[str, nn.Module]:
    return {name: module for name, _, module in named_layers(model) if name in graph.layers}


def _listening(name: str, heard: dict[str, Tensor]) -> Callable:
    def hook(module: nn.Module, args: tuple) -> None:
        x = args[0].detach()
        heard[name] = x if x.ndim > 2 else x[..., None]  # (B, C, ...)

    return hook


def _saying_the_shift(removed: Tensor) -> Callable:
    def hook(norm: nn.BatchNorm2d, args: tuple, out: Tensor) -> Tensor:
        shift = norm.bias.detach().view(1, -1, 1, 1)
        return torch.where(removed.to(out.device).view(1, -1, 1, 1), shift.to(out.dtype), out)

    return hook
