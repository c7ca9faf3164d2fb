"""What stays of a network: under given choices, at given rates, at a budget of MACs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision import surgery
from compactvision.surgery.budget import refuse_share

from .arguments import refuse_graph, refuse_instances, refuse_numbers
from .arithmetic import largest_rank_of, weights_of
from .costs import Choice
from .rates import bracketed
from .steps import Path


@dataclass(frozen=True, eq=False)
class Compression:
    """What stays of a network: channels that each convolution reads, ranks, and filters that something still reads.

    Attributes
    ----------
    plan : Plan
        Filters that stay and what the layers behind them read.
    choices : dict of str to Choice
        Of each compressed convolution, as asked for.
    ranks : dict of str to (int or None)
        Ranks that are built: at most what the kernel can have, and None where the factors would cost as much as the
        kernel that they make.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.resnet20(), (3, 32, 32), residual="gather")
    >>> made = cc.plans.compression(graph, {"layer3.0.conv2": cc.costs.Choice((1, 2, 3), rank=100)})
    >>> made.clipped, made.plan.widths["layer3.0.conv1"]
    ({'layer3.0.conv2': (100, None)}, 3)
    """

    plan: surgery.Plan
    choices: dict[str, Choice]
    ranks: dict[str, int | None]

    @property
    def clipped(self) -> dict[str, tuple[int, int | None]]:
        """Ranks that were asked for and those that are built, where they differ."""
        asked = {name: choice.rank for name, choice in self.choices.items()}
        return {name: (asked[name], rank) for name, rank in self.ranks.items() if rank != asked[name]}

    @property
    def parameters(self) -> int:
        """Parameters of the network that is left."""
        return self.plan.parameters - sum(self._fewer(name) for name in self.choices)

    @property
    def macs(self) -> int:
        """MACs of the network that is left, for one image of the graph's size."""
        pairs = {name: self.plan.graph.layers[name].pair for name in self.choices}
        return self.plan.macs - sum(self._fewer(name) * macs // taps for name, (taps, macs) in pairs.items())

    def _fewer(self, name: str) -> int:
        """Return how many weights a layer has less than under the plan alone."""
        layer = self.plan.graph.layers[name]
        read = int(self.plan.kept[layer.reads].sum())
        shape = _shape(layer, self.plan.kept)
        return weights_of(shape, read) - weights_of(shape, self.choices[name].channels, self.ranks[name])

    def __str__(self) -> str:
        """One line with the shares that are left."""
        graph, factors = self.plan.graph, sum(rank is not None for rank in self.ranks.values())
        return (
            f"convolutions compressed: {len(self.choices)}, as two factors: {factors}; left are "
            f"{self.parameters / graph.parameters:.1%} of the parameters, {self.macs / graph.macs:.1%} of the MACs"
        )


def compression(graph: surgery.ChannelGraph, choices: Mapping[str, Choice], *, drop_unread: bool = True) -> Compression:
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
        If a name is that of no convolution (depthwise and linear layers included), indices are wrong or a rank is below
        1.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.resnet20(), (3, 32, 32), residual="gather")
    >>> print(cc.plans.compression(graph, {"layer3.0.conv2": cc.costs.Choice(tuple(range(40)), rank=24)}))
    convolutions compressed: 1, as two factors: 1; left are 87.5% of the parameters, 94.7% of the MACs
    """
    refuse_graph(graph)
    refuse_instances(Choice, choices=choices)
    checks.flags(drop_unread=drop_unread)
    for name, choice in choices.items():
        _refuse_wrong(graph, name, choice)
    read = torch.zeros(graph.units, dtype=torch.bool)
    for name, layer in graph.layers.items():
        if not layer.passes_on:
            read[layer.reads[list(choices[name].keep)] if name in choices else layer.reads] = True
    kept = torch.ones(graph.units, dtype=torch.bool)
    for group in graph.groups.values():
        if drop_unread or group.name.endswith(":in"):
            kept[group.units] = read[group.units]
    ranks = {name: _built_rank(_shape(graph.layers[name], kept), choice) for name, choice in choices.items()}
    return Compression(surgery.Plan(graph, kept), dict(choices), ranks)


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
        Share of each layer's MACs to be saved; layers at 0 stay as they are. A path that ends below its rate is gone to
        its end, which only a rate near 1 asks for.
    drop_unread : bool, default True
        As for :func:`compression`.

    Raises
    ------
    ValueError
        If a layer has no path.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.small_cnn(widths=(6, 8)), (3, 8, 8), residual="gather")
    >>> kernels = cc.gradients.kernels(graph)
    >>> paths = {name: cc.removal_path(kernel, torch.ones_like(kernel)) for name, kernel in kernels.items()}
    >>> print(cc.plans.at_rates(graph, paths, {"features.4": 0.5}))
    convolutions compressed: 1, as two factors: 1; left are 65.0% of the parameters, 69.8% of the MACs
    """
    refuse_instances(Path, paths=paths)
    refuse_numbers(rates=rates)
    outside = [name for name, rate in rates.items() if not 0 <= rate <= 1]
    if outside:
        raise ValueError(f"rates must lie in [0, 1], got {rates[outside[0]]} for {outside[0]!r}")
    missing = rates.keys() - paths.keys()
    if missing:
        raise ValueError(f"paths must hold every layer of rates, got none for {sorted(missing)}")
    choices = {name: paths[name].choice(min(rate, paths[name].reach)) for name, rate in rates.items() if rate > 0}
    return compression(graph, choices, drop_unread=drop_unread)


def at_budget(at: Callable[[float], Compression], keep_macs: float, *, until: float = 1.0) -> Compression:
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
    >>> shapes = {name: kernel.shape for name, kernel in cc.gradients.kernels(graph).items()}
    >>> def fewer_ranks(share):  # all channels stay, and the same share of the ranks in each layer
    ...     ranks = {name: max(1, round(shape[0] * (1 - share))) for name, shape in shapes.items()}
    ...     choices = {name: cc.costs.Choice(tuple(range(shape[1])), ranks[name]) for name, shape in shapes.items()}
    ...     return cc.plans.compression(graph, choices)
    >>> print(cc.plans.at_budget(fewer_ranks, keep_macs=0.5))
    convolutions compressed: 18, as two factors: 18; left are 49.5% of the parameters, 49.5% of the MACs
    """
    refuse_share("keep_macs", keep_macs)
    checks.functions(1, at=at)
    checks.numbers(until=until)
    if not 0 < until < math.inf:
        raise ValueError(f"until must be positive and finite, got {until}")
    last = at(until)
    if not isinstance(last, Compression):
        raise ValueError(f"at must give a Compression, got {checks.shown(last)}")
    whole = last.plan.graph.macs
    if last.macs > keep_macs * whole:
        raise ValueError(f"keep_macs={keep_macs} is out of reach: at {until} there is {last.macs / whole:.4f} left")
    return at(bracketed(lambda number: at(number).macs <= keep_macs * whole, [0.0, until]))


def _shape(layer: surgery.Layer, kept: Tensor) -> tuple[int, ...]:
    """Return the kernel's shape with the filters that stay, its taps in one dimension."""
    return (int(kept[layer.writes].sum()), layer.reads.numel(), layer.pair[0], 1)


def _built_rank(shape: tuple[int, ...], choice: Choice) -> int | None:
    if choice.rank is None:
        return None
    rank = min(choice.rank, largest_rank_of(shape, choice.channels))
    return rank if weights_of(shape, choice.channels, rank) < weights_of(shape, choice.channels) else None


def _refuse_wrong(graph: surgery.ChannelGraph, name: str, choice: Choice) -> None:
    layer = graph.layers.get(name)
    if layer is None or layer.kind != "conv":
        what = "no layer of the graph" if layer is None else f"of kind {layer.kind!r}"
        raise ValueError(f"choices: {name!r} is {what}; only convolutions without groups are compressed")
    size = layer.reads.numel()
    if layer.reads.unique().numel() != size:
        raise ValueError(f"choices: {name!r} reads channels that go together, as those of a group, and cannot choose")
    _refuse_indices(name, choice)
    if (
        not choice.keep
        or sorted(set(choice.keep)) != list(choice.keep)
        or not 0 <= choice.keep[0] <= choice.keep[-1] < size
    ):
        raise ValueError(f"choices: {name!r} must keep ascending indices below {size}, at least one, got {choice.keep}")
    if choice.rank is not None and choice.rank < 1:
        raise ValueError(f"choices: the rank of {name!r} must be at least 1, got {choice.rank}")


def _refuse_indices(name: str, choice: Choice) -> None:
    if not isinstance(choice.keep, (tuple, list)):
        raise ValueError(f"choices: {name!r} must keep a tuple of indices, got {checks.shown(choice.keep)}")
    checks.whole(**{f"choices[{name!r}].keep": index for index in choice.keep})
    if choice.rank is not None:
        checks.whole(**{f"choices[{name!r}].rank": choice.rank})
