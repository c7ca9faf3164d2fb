"""The way through: from a network and images to what stays of it, and to the smaller network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import surgery
from compactvision.models.factorised import SVDConv2d, with_layers
from compactvision.models.layers import ChannelMap
from compactvision.surgery.apply import planned_modules
from compactvision.surgery.budget import refuse_share
from compactvision.surgery.layers import named_layers

from .arguments import refuse_gamma
from .gradients import kernel_gradients, kernels
from .plans import Compression, at_budget, at_rates
from .rates import LARGEST_RATE, global_rates, sensitivity
from .steps import removal_path
from .units import BOTH


def collaborate(
    graph: surgery.ChannelGraph,
    batches: Iterable[tuple[Tensor, Tensor]],
    keep_macs: float,
    *,
    gamma: float = 0.9,
    kinds: tuple[str, ...] = BOTH,
    step: float = 0.01,
    drop_unread: bool = True,
) -> Compression:
    """Choose channels and ranks of all convolutions for a budget of MACs.

    Parameters
    ----------
    graph : ChannelGraph
        With ``residual="gather"``.
    batches : iterable of (Tensor, Tensor)
        Inputs and targets, as for :func:`kernel_gradients`.
    keep_macs : float
        Share of the network's MACs that may be left, in (0, 1].
    gamma, kinds, step
        As for :func:`removal_path`.
    drop_unread : bool, default True
        Drop filters that no layer reads any more, and count what that saves.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the budget out of reach.

    Examples
    --------
    >>> from compactvision import data, measure, models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> model = models.small_cnn(10, widths=(8, 12, 16), generator=torch.Generator().manual_seed(0))
    >>> graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    >>> made = cc.collaborate(graph, data.load("glyphs", n=32).batches(16), keep_macs=0.5)
    >>> small = cc.compress(model, made)
    >>> 0.45 < made.macs / graph.macs <= 0.5, measure.parameters(small) == made.parameters
    (True, True)
    """
    refuse_gamma(gamma)
    checks.flags(drop_unread=drop_unread)
    refuse_share("keep_macs", keep_macs)
    gradients, found = kernel_gradients(graph, batches), kernels(graph)
    curves = {name: sensitivity(kernel, gradients[name], kinds=kinds) for name, kernel in found.items()}
    paths = {
        name: removal_path(kernel, gradients[name], gamma=gamma, kinds=kinds, step=step)
        for name, kernel in found.items()
    }
    macs = {name: graph.layers[name].pair[1] * kernel.shape[0] * kernel.shape[1] for name, kernel in found.items()}
    reach = LARGEST_RATE * sum(macs[name] for name, curve in curves.items() if curve.growth > 0)

    def at(share: float) -> Compression:
        rates = global_rates(curves, macs, share * reach)
        return at_rates(graph, paths, rates, drop_unread=drop_unread)

    return at_budget(at, keep_macs)


def compress(model: nn.Module, made: Compression) -> nn.Module:
    """Return a copy of the network, pruned and factorised at once.

    Each compressed convolution reads the channels that its choice keeps. Its kernel is the best approximation of the
    chosen rank of the *original* kernel without the other channels, as two factors. Filters are dropped behind that, so
    that it changes no output.

    Parameters
    ----------
    model : nn.Module
        The network that the compression was made for, or a copy of it; unchanged.
    made : Compression
        What stays.

    Returns
    -------
    nn.Module
        Of the same class; in place of convolutions stand
        :class:`~compactvision.models.factorised.SVDConv2d`, and :class:`~compactvision.surgery.Gathered` around what
        reads a part of its input.

    Raises
    ------
    ValueError
        If the compression does not fit the model, or a convolution pads with anything but zeros.

    Examples
    --------
    >>> from compactvision import measure, models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    >>> made = cc.plans.compression(graph, {"layer3.0.conv2": cc.costs.Choice(tuple(range(40)), rank=24)})
    >>> small = cc.compress(model, made)
    >>> measure.macs(small, (3, 32, 32)) == made.macs, small.layer3[0].conv2
    (True, SVDConv2d(40, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), ranks=(24,), bias=False))
    """
    checks.networks(model=model)
    checks.instances(Compression, made=made)
    dense = planned_modules(model, made.plan)
    small = surgery.prune(model, made.plan)
    paths = {name: path for name, path, _ in named_layers(small)}

    def replacing(name: str) -> Callable[[nn.Module], nn.Module]:
        return lambda conv: _compressed(conv, dense[name].weight.detach(), made, name)

    return with_layers(small, {paths[name]: replacing(name) for name in made.choices})


def _compressed(conv: nn.Conv2d, kernel: Tensor, made: Compression, name: str) -> nn.Module:
    """Return what stands in place of a convolution that the plan has cut; ``kernel`` is the original one."""
    layer, choice, rank = made.plan.graph.layers[name], made.choices[name], made.ranks[name]
    keep = list(choice.keep)
    kernel = kernel[:, keep]
    if choice.rank is not None:
        kernel = SVDConv2d.from_kernel(kernel, choice.rank).kernel().detach()
    conv.in_channels = len(keep)
    conv.weight = nn.Parameter(
        kernel[made.plan.kept[layer.writes].nonzero().flatten().to(kernel.device)],
        requires_grad=conv.weight.requires_grad,
    )
    present = made.plan.kept[layer.reads]
    position = torch.cumsum(present, 0) - 1
    built = conv if rank is None else SVDConv2d.from_layer(conv, rank)
    if int(present.sum()) == len(keep):
        return built
    selection = ChannelMap(position[keep].tolist(), int(present.sum())).to(kernel.device)
    return surgery.Gathered(selection, built).train(conv.training)
