"""A plan: which units of which groups stay, and what is left of the network then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import ChannelMap
from compactvision.surgery.graph import ChannelGraph


@dataclass(frozen=True, eq=False)
class Plan:
    """Which units of a network stay.

    Attributes
    ----------
    graph : ChannelGraph
        The network's coupled channels.
    kept : Tensor
        True for each unit that stays, (units,) bool.
    """

    graph: ChannelGraph
    kept: Tensor

    @property
    def keep(self) -> dict[str, tuple[int, ...]]:
        """Kept indices of each group, ascending."""
        return {
            name: tuple(self.kept[group.units].nonzero().flatten().tolist())
            for name, group in self.graph.groups.items()
        }

    @property
    def widths(self) -> dict[str, int]:
        """Number of kept units of each group."""
        return {name: int(self.kept[group.units].sum()) for name, group in self.graph.groups.items()}

    @property
    def parameters(self) -> int:
        """Parameters of the network that is left."""
        return self.graph.cost(self.kept)[0]

    @property
    def macs(self) -> int:
        """MACs of the network that is left, for one image of the example's size."""
        return self.graph.cost(self.kept)[1]

    def __str__(self) -> str:
        """One line with the shares that are left."""
        parameters, macs = self.graph.cost(self.kept)
        kept, size = sum(self.widths.values()), sum(group.size for group in self.graph.groups.values())
        return (
            f"keeps {kept} of {size} channels in {len(self.graph.groups)} groups: "
            f"{parameters / self.graph.parameters:.1%} of the parameters, {macs / self.graph.macs:.1%} of the MACs"
        )


def keep_plan(graph: ChannelGraph, keep: Mapping[str, Tensor | tuple[int, ...] | list[int]]) -> Plan:
    """Return the plan that keeps the given channels; groups that are not named stay whole.

    Parameters
    ----------
    graph : ChannelGraph
        The network's coupled channels.
    keep : mapping of str to Tensor or sequence of int
        For a group, or a layer that writes one: kept indices, or a bool tensor with one entry for each unit.

    Raises
    ------
    ValueError
        If a name is unknown, two names mean one group, an index occurs twice or is out of range, or a layer would be
        left without a channel.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32))
    >>> print(surgery.keep_plan(graph, {"layer1.0.conv1": [0, 3, 5]}))
    keeps 435 of 448 channels in 12 groups: 98.6% of the parameters, 90.5% of the MACs
    """
    checks.instances(ChannelGraph, graph=graph)
    checks.mappings(keep=keep)
    kept = torch.ones(graph.units, dtype=torch.bool)
    seen: dict[str, str] = {}
    for name, chosen in keep.items():
        group = graph.group_of(name)
        if seen.setdefault(group.name, name) != name:
            raise ValueError(f"keep: {seen[group.name]!r} and {name!r} are one group")
        chosen = _indices(name, chosen)
        if chosen.dtype == torch.bool:
            if chosen.shape != (group.size,):
                raise ValueError(f"keep[{name!r}] must have shape ({group.size},), got {tuple(chosen.shape)}")
            chosen = chosen.nonzero().flatten()
        indices = chosen.tolist()
        if len(set(indices)) != len(indices) or not all(0 <= index < group.size for index in indices):
            raise ValueError(f"keep[{name!r}] must hold different indices below {group.size}, got {indices}")
        kept[group.units] = False
        kept[group.units[indices]] = True
    _refuse_empty(graph, kept)
    return Plan(graph, kept)


def _indices(name: str, chosen: object) -> Tensor:
    """Return kept channels as a tensor (n,) of int64 or bool."""
    try:
        found = torch.as_tensor(chosen, device="cpu")
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        found = None
    if found is not None and found.numel() == 0 and found.ndim == 1:
        found = found.long()
    if found is None or found.ndim != 1 or found.dtype not in (torch.bool, torch.int64, torch.int32):
        raise ValueError(f"keep[{name!r}] must be indices or a bool tensor, got {checks.shown(chosen)}")
    return found


def _refuse_empty(graph: ChannelGraph, kept: Tensor) -> None:
    for layer in graph.layers.values():
        for what, units in (("input", layer.reads), ("output", layer.writes)):
            if not kept[units].any():
                raise ValueError(f"keep: layer {layer.name!r} would be left without an {what} channel")


def planned_modules(model: nn.Module, plan: Plan) -> dict[str, nn.Module]:
    """Return the plan's layers in the model; raise where they are not those that the plan was made for."""
    checks.networks(model=model)
    checks.instances(Plan, plan=plan)
    modules = dict(model.named_modules())
    found = {}
    for name, layer in plan.graph.layers.items():
        module = modules.get(layer.path)
        widths = None if module is None else _widths(module)
        expected = (layer.reads.numel(), layer.writes.numel())
        if widths != expected:
            raise ValueError(f"plan: layer {name!r} has {expected} channels in the plan, {widths} in the model")
        found[name] = module
    return found


def _widths(module: nn.Module) -> tuple[int, int] | None:
    if isinstance(module, (nn.Conv2d, ChannelMap)):
        return module.in_channels, module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return module.num_features, module.num_features
    return None
