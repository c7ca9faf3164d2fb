"""From choices to a network: gradients of kernels, choices at a budget of MACs, surgery with factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import surgery
from compactvision.measure import evaluating
from compactvision.surgery.layers import named_layers

from .costs import Choice, largest_rank, weights
from .sensitivity import bracketed
from .steps import Path


def kernels(graph: surgery.ChannelGraph) -> dict[str, Tensor]:
    """Return the kernels (N, C, kh, kw) of the convolutions that may be compressed, by layer.

    These read channels of the graph's groups; a convolution that reads the images is left out, and so are depthwise
    convolutions and linear layers.

    Parameters
    ----------
    graph : ChannelGraph
        With ``residual="gather"``, so that each layer may read a part of a stream of its own.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.resnet20(), (3, 32, 32), residual="gather")
    >>> len(cc.kernels(graph)), "conv1" in cc.kernels(graph)
    (18, False)
    """
    cuttable = torch.zeros(graph.units, dtype=torch.bool)
    for group in graph.groups.values():
        cuttable[group.units] = True
    found = {
        name: graph.model.get_submodule(layer.path).weight.detach()
        for name, layer in graph.layers.items()
        if layer.kind == "conv" and cuttable[layer.reads].all()
    }
    if not found:
        raise ValueError("graph: no convolution reads channels of its groups")
    return found


def kernel_gradients(
    graph: surgery.ChannelGraph,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss over all images for each kernel of :func:`kernels`.

    Parameters
    ----------
    graph : ChannelGraph
        Its network is run in evaluation mode and left as it was.
    batches : iterable of (Tensor, Tensor)
        Inputs and targets, on the model's device: the training set without augmentation.
    loss : callable, default cross-entropy
        Mean loss of a batch from (outputs, targets).

    Raises
    ------
    ValueError
        If there is no batch.

    Examples
    --------
    >>> from compactvision import data, models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.pretrained("resnet20_glyphs"), (3, 32, 32), residual="gather")
    >>> gradients = cc.kernel_gradients(graph, data.load("glyphs", n=32).batches(16))
    >>> gradients["layer1.0.conv1"].shape
    torch.Size([16, 16, 3, 3])
    """
    model = graph.model
    names = list(kernels(graph))
    watched = [model.get_submodule(graph.layers[name].path).weight for name in names]
    flags = [weight.requires_grad for weight in watched]
    sums: list[Tensor] = []
    images = 0
    try:
        for weight in watched:
            weight.requires_grad_(True)
        with evaluating(model), torch.enable_grad():
            for inputs, targets in batches:
                found = torch.autograd.grad(loss(model(inputs), targets), watched)
                parts = [each * inputs.shape[0] for each in found]  # the loss is a mean over the batch
                sums = parts if not sums else [a + b for a, b in zip(sums, parts, strict=True)]
                images += inputs.shape[0]
    finally:
        for weight, flag in zip(watched, flags, strict=True):
            weight.requires_grad_(flag)
    if not images:
        raise ValueError("batches must hold at least one batch, got none")
    return {name: total / images for name, total in zip(names, sums, strict=True)}


@dataclass(frozen=True, eq=False)
class Compression:
    """What stays of a network: channels that each convolution reads, ranks, and filters that something still reads.

    Attributes
    ----------
    plan : Plan
        Filters that stay and what the layers behind them read.
    choices : dict of str to Choice
        Of each compressed convolution. Ranks are those that are built: at most what the kernel can have, and None where
        the factors would cost as much as the kernel that they make.
    clipped : dict of str to (int, int or None)
        Ranks that were asked for and differ from those that are built.
    """

    plan: surgery.Plan
    choices: dict[str, Choice]
    clipped: dict[str, tuple[int, int | None]]

    @property
    def parameters(self) -> int:
        """Parameters of the network that is left."""
        return self.plan.parameters - sum(self._fewer(name) for name in self.choices)

    @property
    def macs(self) -> int:
        """MACs of the network that is left, for one image of the graph's size."""
        layers = self.plan.graph.layers
        return self.plan.macs - sum(
            self._fewer(name) * layers[name].pair[1] // layers[name].pair[0] for name in self.choices
        )

    def _fewer(self, name: str) -> int:
        """Return how many weights a layer has less than in the plan alone."""
        layer, choice = self.plan.graph.layers[name], self.choices[name]
        read, written = int(self.plan.kept[layer.reads].sum()), int(self.plan.kept[layer.writes].sum())
        return layer.pair[0] * read * written - weights(
            (written, read, layer.pair[0], 1), choice.channels, choice.rank
        )

    def __str__(self) -> str:
        """One line with the shares that are left."""
        graph = self.plan.graph
        factors = sum(choice.rank is not None for choice in self.choices.values())
        return (
            f"{len(self.choices)} convolutions, {factors} of them as two factors: "
            f"{self.parameters / graph.parameters:.1%} of the parameters, {self.macs / graph.macs:.1%} of the MACs"
        )


def compression(
    graph: surgery.ChannelGraph, choices: Mapping[str, Choice], *, drop_unread: bool = True
) -> Compression:
    """Say what stays of a network under these choices.

    Parameters
    ----------
    graph : ChannelGraph
        With ``residual="gather"``.
    choices : mapping of str to Choice
        For any of the graph's convolutions.
    drop_unread : bool, default True
        Also drop filters that no layer reads any more, with their BatchNorm: the outputs stay the same. The choices'
        rates do not count this, so that a network loses more than its layers' rates say.

    Raises
    ------
    ValueError
        If a name is that of no convolution (depthwise and other grouped ones included), indices are wrong or a rank is
        below 1.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.resnet20(), (3, 32, 32), residual="gather")
    >>> print(cc.compression(graph, {"layer3.0.conv2": cc.Choice(tuple(range(40)), rank=24)}))
    1 convolutions, 1 of them as two factors: 89.1% of the parameters, 94.2% of the MACs
    """
    for name, choice in choices.items():
        _refuse_wrong(graph, name, choice)
    read = torch.zeros(graph.units, dtype=torch.bool)
    for name, layer in graph.layers.items():
        chosen = list(choices[name].keep) if name in choices else slice(None)
        if not layer.passes_on:
            read[layer.reads[chosen]] = True
    kept = torch.ones(graph.units, dtype=torch.bool)
    for group in graph.groups.values():
        if drop_unread or group.name.endswith(":in"):
            kept[group.units] = read[group.units]
    built, clipped = {}, {}
    for name, choice in choices.items():
        built[name] = Choice(choice.keep, _built_rank(graph.layers[name], kept, choice))
        if built[name].rank != choice.rank:
            clipped[name] = (choice.rank, built[name].rank)
    return Compression(surgery.Plan(graph, kept), built, clipped)


def _built_rank(layer: surgery.Layer, kept: Tensor, choice: Choice) -> int | None:
    if choice.rank is None:
        return None
    written = int(kept[layer.writes].sum())
    shape = (written, layer.reads.numel(), layer.pair[0], 1)
    rank = min(choice.rank, largest_rank(shape, choice.channels))
    return rank if weights(shape, choice.channels, rank) < weights(shape, choice.channels) else None


def at_rates(
    graph: surgery.ChannelGraph, paths: Mapping[str, Path], rates: Mapping[str, float], *, drop_unread: bool = True
) -> Compression:
    """Say what stays where each path first saves its layer's rate.

    Parameters
    ----------
    graph : ChannelGraph
        With ``residual="gather"``.
    paths : mapping of str to Path
        For each layer of ``rates``.
    rates : mapping of str to float
        Share of each layer's MACs to be saved; layers at 0 stay as they are.
    drop_unread : bool, default True
        As for :func:`compression`.

    Raises
    ------
    ValueError
        If a layer has no path, or its path ends below its rate.
    """
    missing = rates.keys() - paths.keys()
    if missing:
        raise ValueError(f"paths must hold every layer of rates, got none for {sorted(missing)}")
    choices = {name: paths[name].choice(rate) for name, rate in rates.items() if rate > 0}
    return compression(graph, choices, drop_unread=drop_unread)


def at_budget(
    at: Callable[[float], Compression], keep_macs: float, *, until: float = 1.0
) -> Compression:
    """Return the least compression of a family that keeps at most this share of the network's MACs.

    Nominal rates overshoot, by a step in each layer and by filters that nobody reads. To compare methods at equal
    *achieved* MACs, the number that a family goes by is found by bracketing here.

    Parameters
    ----------
    at : callable
        From a number in [0, ``until``] to a compression, whose MACs do not rise with the number.
    keep_macs : float
        Share of MACs that may be left, in (0, 1].
    until : float, default 1.0
        The largest number tried, positive.

    Raises
    ------
    ValueError
        If ``keep_macs`` is out of its range, or out of reach.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.resnet20(), (3, 32, 32), residual="gather")
    >>> whole = {name: tuple(kernel.shape) for name, kernel in cc.kernels(graph).items()}
    >>> def half_the_ranks(share):  # factors of one rank ratio, all channels
    ...     ranks = {name: max(1, round(shape[0] * (1 - share))) for name, shape in whole.items()}
    ...     return cc.compression(graph, {n: cc.Choice(tuple(range(s[1])), ranks[n]) for n, s in whole.items()})
    >>> print(cc.at_budget(half_the_ranks, keep_macs=0.5))
    18 convolutions, 18 of them as two factors: 48.8% of the parameters, 49.6% of the MACs
    """
    surgery_share(keep_macs)
    if not 0 < until < math.inf:
        raise ValueError(f"until must be positive and finite, got {until}")
    last = at(until)
    limit = keep_macs * last.plan.graph.macs
    if last.macs > limit:
        raise ValueError(
            f"keep_macs={keep_macs} is out of reach: at {until} there are {last.macs / last.plan.graph.macs:.3f} left"
        )
    return at(bracketed(lambda number: at(number).macs <= limit, [0.0, until]))


def surgery_share(value: float) -> None:
    """Raise a ``ValueError`` unless a share that stays is a number in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"keep_macs must be in (0, 1], the share that stays, got {value!r}")
