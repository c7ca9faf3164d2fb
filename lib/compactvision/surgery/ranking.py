"""Orders the units of a network by the scores of its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.surgery.graph import ChannelGraph, Group

Scores = Mapping[str, Tensor]
"""One 1-D tensor for each layer, one entry for each of its output channels; higher means keep."""

NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda scores: scores.abs().sum(),
    "max": lambda scores: scores.abs().max(),
    "mean": lambda scores: scores.abs().mean(),
    "l2": lambda scores: scores.square().sum().sqrt(),
}
"""What a layer's scores can be divided by."""


@dataclass(frozen=True)
class Ranking:
    """Scores of the units and which of them must stay.

    Attributes
    ----------
    graph : ChannelGraph
        The coupled channels.
    scores : Tensor
        Score of each unit, (units,) float64; meaningless outside the groups.
    protected : Tensor
        True for the best unit of each layer, (units,) bool; of equal ones the last.
    """

    graph: ChannelGraph
    scores: Tensor
    protected: Tensor

    def ascending(self, group: Group) -> Tensor:
        """Return the units of a group that may be removed, lowest score first, lower index first among equals."""
        units = group.units[torch.argsort(self.scores[group.units], stable=True)]
        return units[~self.protected[units]]

    def lowest_in_groups(self, counts: Mapping[str, int]) -> Tensor:
        """Return the units to remove so that each named group keeps as many as ``counts`` says, if it can."""
        removed = [torch.empty(0, dtype=torch.long)]
        for name, count in counts.items():
            group = self.graph.groups[name]
            removed.append(self.ascending(group)[: group.size - count])
        return torch.cat(removed)

    def order(self, *, global_pruning: bool) -> Tensor:
        """Return all units that may be removed, first to go first: by score, or thinning all groups at one rate."""
        if not self.graph.groups:
            return torch.empty(0, dtype=torch.long)
        ascending = {name: self.ascending(group) for name, group in self.graph.groups.items()}
        units = torch.cat(list(ascending.values()))
        if global_pruning:
            # within a group equal scores stand in the order of their indices, and groups in the order of execution
            return units[torch.argsort(self.scores[units], stable=True)]
        shares = [
            torch.arange(1, 1 + found.numel(), dtype=torch.float64) / self.graph.groups[name].size
            for name, found in ascending.items()
        ]
        return units[torch.argsort(torch.cat(shares), stable=True)]


def rank(graph: ChannelGraph, scores: Scores, normalise: str | None = None) -> Ranking:
    """Give each unit the mean score of the layers that write it or pass it on; see ``make_plan`` for the arguments."""
    if normalise is not None:
        checks.one_of(NORMS, normalise=normalise)
    if not isinstance(scores, Mapping):
        raise ValueError(f"scores must be a mapping from names of layers to tensors, got {type(scores).__name__}")
    if not scores and graph.groups:
        raise ValueError(f"scores are empty; give some for one layer of each group, {', '.join(graph.groups)}")
    total = torch.zeros(graph.units, dtype=torch.float64)
    seen = torch.zeros(graph.units, dtype=torch.long)
    for name, values in scores.items():
        units = _scored_units(graph, name)
        values = _valid(name, values, units)
        if normalise is not None:
            norm = NORMS[normalise](values)
            values = values / norm if norm > 0 else values
        total.index_add_(0, units, values)
        seen.index_add_(0, units, torch.ones_like(units))
    for group in graph.groups.values():
        if (seen[group.units] == 0).any():
            where = ", ".join((*group.writers, *group.followers))
            raise ValueError(
                f"scores: none for group {group.name!r}; give them for one of {where}, "
                f"or leave the group whole, graph.without({group.name!r})"
            )
    means = total / seen.clamp(min=1)
    return Ranking(graph, means, _best_of_each_layer(graph, means))


def _scored_units(graph: ChannelGraph, name: str) -> Tensor:
    if name in graph.layers:
        return graph.layers[name].writes
    if name in graph.groups:  # a selection that a layer will get
        return graph.groups[name].units
    selected = name.removesuffix(":in")
    if selected in graph.layers and graph.layers[selected].insert == "gather":
        return graph.layers[selected].reads
    raise ValueError(f"scores: the network has no layer {name!r} that ran on the graph's example; leave its scores out")


def _valid(name: str, values: Tensor, units: Tensor) -> Tensor:
    checks.tensors(**{f"scores[{name!r}]": values})
    if values.ndim != 1 or values.numel() != units.numel():
        raise ValueError(f"scores[{name!r}] must have shape ({units.numel()},), got {tuple(values.shape)}")
    values = values.detach().to("cpu", torch.float64)
    if values.isnan().any():
        raise ValueError(f"scores[{name!r}] holds NaN")
    return values


def _best_of_each_layer(graph: ChannelGraph, scores: Tensor) -> Tensor:
    protected = torch.zeros(graph.units, dtype=torch.bool)
    for group in graph.groups.values():
        for name in group.writers:
            units = graph.layers[name].writes if name in graph.layers else group.units
            best = scores[units].max()
            protected[units[scores[units] == best][-1]] = True
    return protected
