"""What remains of a channel whose scale is zero: its shift.

BatchNorm sends channel ``j`` to ``gamma_j z + b_j``. A channel with ``gamma_j = 0`` carries no information, but behind
the ReLU it is still ``max(b_j, 0)``, a constant that later layers have learned to count on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import surgery
from compactvision.measure import evaluating
from compactvision.measure.state import inputs_from, placement
from compactvision.surgery.layers import named_layers
from compactvision.surgery.plan import planned_modules

from .steps import scales


def behind_scales(graph: surgery.ChannelGraph) -> surgery.ChannelGraph:
    """Restrict a graph to the groups in which scale 0 and shift 0 amount to removing the channel.

    These are the groups that every layer reads behind a BatchNorm. In a pre-activation network the first BatchNorm of
    a stage scales what its block reads, but not what the shortcut beside it reads: such groups are left out. Take a
    graph with ``residual="gather"`` there, which leaves sums whole.

    Parameters
    ----------
    graph : ChannelGraph
        Its network is run once in evaluation mode and left as it was.

    Raises
    ------
    ValueError
        If no group is left, or the network has no ``BatchNorm2d`` with scales.

    Examples
    --------
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> from compactvision.pruning.proximal_network_slimming import behind_scales
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1))
    >>> graph = surgery.channel_graph(model, (3, 4, 4))
    >>> list(graph.groups), list(behind_scales(graph).groups)
    (['0', '2'], ['0'])
    """
    checks.instances(surgery.ChannelGraph, graph=graph)
    model, scaled, read = graph.model, dict(scales(graph.model)), {}
    with ExitStack() as stack:
        layers = {name: module for name, _, module in named_layers(model) if name in graph.layers}
        for name, module in layers.items():
            if name in scaled:
                stack.callback(module.register_forward_hook(lambda m, args, out: torch.zeros_like(out)).remove)
            elif not graph.layers[name].passes_on:
                stack.callback(module.register_forward_pre_hook(_keeping(name, read)).remove)
                stack.callback(module.register_forward_hook(lambda m, args, out: torch.ones_like(out)).remove)
        with evaluating(model):
            model(*inputs_from(model, graph.example_inputs))
    removable = torch.ones(graph.units, dtype=torch.bool)
    for name, x in read.items():
        removable[graph.layers[name].reads[(x != 0).flatten(2).any(2).any(0).cpu()]] = False
    names = [
        group.name
        for group in graph.groups.values()
        if removable[group.units].all() and not scaled.keys().isdisjoint(group.followers)
    ]
    if not names:
        raise ValueError(f"graph: no group of a graph with residual={graph.residual!r} is read through scales only")
    return graph.only(names)


@contextmanager
def scales_at_zero(model: nn.Module, plan: surgery.Plan) -> Iterator[nn.Module]:
    """Let the model compute, inside a ``with`` block, as if the scales of removed channels were 0 and their shifts not.

    The BatchNorm of such a channel then gives its shift at every pixel of every image. (Inside
    :func:`compactvision.surgery.mask`, layers read zeros in its place.)

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
        If the plan does not fit the model, or this has no ``BatchNorm2d`` with scales.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> from compactvision.pruning.proximal_network_slimming import scales_at_zero
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)).eval()
    >>> _ = model[1].bias.data.copy_(torch.tensor([0.25, 0.5]))
    >>> plan = surgery.keep_plan(surgery.channel_graph(model, (1, 1, 1)), {"0": [1]})
    >>> with scales_at_zero(model, plan):
    ...     model[:2](torch.randn(1, 1, 1, 1))[0, 0].item()
    0.25
    """
    scaled = dict(scales(model))
    with ExitStack() as stack:
        for name, module in planned_modules(model, plan).items():
            removed = ~plan.kept[plan.graph.layers[name].writes]
            if name in scaled and removed.any():
                stack.callback(module.register_forward_hook(_giving_the_shift(removed)).remove)
        yield model


def fold_shifts(model: nn.Module, plan: surgery.Plan) -> nn.Module:
    """Return the network without the removed channels, their shifts added to the layers behind, Eq. (7).

    A removed channel with scale 0 is a constant; its product with the filters of each reader goes into the reader's
    bias, which is created where there is none. Exact for linear layers, convolutions without padding and pixels inside
    a map. At padded borders, where part of the filter lies outside, the constant is wrong by that part's share.

    Parameters
    ----------
    model : nn.Module
        The network that the plan was made for, or a copy of it; unchanged.
    plan : Plan
        On a graph as of :func:`behind_scales`. The graph's example inputs and their negatives are run, to find the
        constants and to see that they are.

    Returns
    -------
    nn.Module
        As of :func:`compactvision.surgery.prune`, with more biases.

    Raises
    ------
    ValueError
        If the plan does not fit the model, or a removed channel is no constant where a layer reads it or is copied by a
        channel map.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> from compactvision.pruning.proximal_network_slimming import fold_shifts, scales_at_zero
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)).eval()
    >>> _ = model[1].bias.data.fill_(0.5)
    >>> plan = surgery.keep_plan(surgery.channel_graph(model, (1, 1, 1)), {"0": [1]})
    >>> small, x = fold_shifts(model, plan), torch.randn(4, 1, 1, 1)
    >>> with scales_at_zero(model, plan):
    ...     torch.allclose(small(x), model(x), atol=1e-6)
    True
    """
    modules, read, readers = planned_modules(model, plan), {}, {}
    if placement(model)[0].type == "meta":
        raise ValueError("model must be on a device that holds numbers, not on meta")
    for name, module in modules.items():
        layer = plan.graph.layers[name]
        if layer.passes_on or layer.kind == "grouped" or plan.kept[layer.reads].all():
            continue  # of a grouped convolution whole groups go, and the others read nothing that was removed
        if layer.kind == "map":
            raise ValueError(f"plan: {name!r} only copies channels and can't take up a constant; leave streams whole")
        readers[name] = module
    with ExitStack() as stack, evaluating(model):
        for name, module in readers.items():
            stack.callback(module.register_forward_pre_hook(_keeping(name, read)).remove)
        with scales_at_zero(model, plan):
            model(*(torch.cat([x, -x]) for x in inputs_from(model, plan.graph.example_inputs)))
    small = surgery.prune(model, plan)
    found = {name: module for name, _, module in named_layers(small)}
    for name, module in readers.items():
        layer, x = plan.graph.layers[name], read[name].flatten(2)  # (B, C, H W)
        removed = ~plan.kept[layer.reads].to(x.device)
        constant = x[:1, removed, :1]  # (1, removed, 1)
        if not torch.allclose(x[:, removed], constant.expand_as(x[:, removed]), rtol=1e-4, atol=1e-5):
            raise ValueError(f"plan: removed channels are no constants where layer {name!r} reads them")
        summed = module.weight.detach().reshape(*module.weight.shape[:2], -1).sum(2)  # (C_out, C_in), over the filter
        added = (summed[:, removed] @ constant.flatten())[plan.kept[layer.writes].to(x.device)]  # (kept C_out,)
        old = found[name].bias
        found[name].bias = nn.Parameter(added if old is None else old.detach() + added)
    return small


def _keeping(name: str, read: dict[str, Tensor]) -> Callable:
    """Return a hook that keeps what a layer reads, as (B, C, ...) with at least one dimension behind the channels."""

    def hook(module: nn.Module, args: tuple) -> None:
        x = args[0].detach().clone()  # what follows may write to it
        x = x.movedim(-1, 1) if isinstance(module, nn.Linear) else x
        read[name] = x if x.ndim > 2 else x[..., None]

    return hook


def _giving_the_shift(removed: Tensor) -> Callable:
    """Return a hook that puts the shift in place of what BatchNorm makes of removed channels (C,)."""

    def hook(norm: nn.BatchNorm2d, args: tuple, out: Tensor) -> Tensor:
        shift = norm.bias.detach().view(1, -1, 1, 1)
        if type(norm) is not nn.BatchNorm2d and norm.running_mean is not None:  # it may bend what it normed
            shift = norm.forward(norm.running_mean.view(1, -1, 1, 1)).detach()
        return torch.where(removed.to(out.device).view(1, -1, 1, 1), shift.to(out.dtype), out)

    return hook
