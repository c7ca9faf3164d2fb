"""Scores and a budget become a plan: which units of which groups stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compactvision.surgery.graph import ChannelGraph
from compactvision.surgery.ranking import Ranking, rank

Scores = Mapping[str, Tensor]
"""One 1-D tensor for each layer, one entry for each of its output channels; higher means keep."""


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
    """
    kept = torch.ones(graph.units, dtype=torch.bool)
    seen: dict[str, str] = {}
    for name, chosen in keep.items():
        group = graph.group_of(name)
        if seen.setdefault(group.name, name) != name:
            raise ValueError(f"keep: {seen[group.name]!r} and {name!r} are one group")
        chosen = torch.as_tensor(chosen)
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


def make_plan(
    graph: ChannelGraph,
    scores: Scores,
    *,
    ratio: float | Mapping[str, float] | None = None,
    widths: Mapping[str, int] | None = None,
    fraction: float | None = None,
    count: int | None = None,
    threshold: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    milliseconds: float | None = None,
    latency: Callable[[Plan], float] | None = None,
    order: str = "uniform",
    normalise: str | None = None,
) -> Plan:
    """Choose the units with the lowest scores for removal until one budget is met.

    The score of a unit is the mean over the layers of ``scores`` that write it or pass it on. Among equal scores the
    lower index is removed first (across groups, the earlier group). The best unit of each layer always stays, so no
    layer is emptied.

    Parameters
    ----------
    graph : ChannelGraph
        The network's coupled channels. Restrict it with ``only`` or ``without`` to leave groups whole.
    scores : mapping of str to Tensor
        By layer name, one entry for each output channel (C,), higher means keep. Each group needs the scores of at
        least one layer that writes it or passes it on; layers whose channels stay as they are may be among them.
    ratio : float or mapping of str to float, optional
        Share of the units that is removed in each group, in [0, 1): ``int(n * (1 - ratio))`` stay, at least one. A
        mapping names groups (or layers that write them); the others stay whole.
    widths : mapping of str to int, optional
        Number of units that stay in each named group; the others stay whole.
    fraction, count : float or int, optional
        Share or number of all units that is removed, lowest scores of the whole network first.
    threshold : float, optional
        Units with a score at or below it are removed.
    macs, parameters : float, optional
        Largest share of the graph's MACs or parameters that may be left, in (0, 1]. The shortest removal in the given
        ``order`` that is not above: the unit removed last could not stay.
    milliseconds : float, optional
        Largest ``latency`` of the plan; found by bisection over the given ``order``.
    latency : callable, optional
        Milliseconds of a plan, see :func:`compactvision.surgery.measured_latency`; a table's lookup does as well.
    order : {"uniform", "global"}, default "uniform"
        For ``macs``, ``parameters`` and ``milliseconds``: thin all groups at the same rate, each by its own ranking, or
        remove the lowest scores of the whole network first.
    normalise : {None, "sum", "max", "mean", "l2"}, optional
        Divide each layer's scores by this norm of them first; matters where layers are compared.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If not exactly one budget is given or it is out of its range or out of reach, a layer name is unknown, scores
        are missing, not finite enough to be ordered (NaN) or of the wrong length.
    """
    budgets = {
        "ratio": ratio,
        "widths": widths,
        "fraction": fraction,
        "count": count,
        "threshold": threshold,
        "macs": macs,
        "parameters": parameters,
        "milliseconds": milliseconds,
    }
    given = {name: value for name, value in budgets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"exactly one budget of {', '.join(budgets)} is needed, got {', '.join(given) or 'none'}")
    if order not in ("uniform", "global"):
        raise ValueError(f'order must be "uniform" or "global", got {order!r}')
    ranking = rank(graph, scores, normalise)
    name, value = next(iter(given.items()))
    if name in ("ratio", "widths"):
        removed = ranking.lowest_in_groups(_kept_counts(graph, name, value))
    elif name in ("fraction", "count", "threshold"):
        removed = _removed_globally(graph, ranking, name, value)
    else:
        removed = _within_cost(graph, ranking.order(order), name, value, latency)
    return _plan_without(graph, removed)


def refuse_share(name: str, value: float, where: str = "") -> None:
    """Raise a ``ValueError`` if a removed share is not in [0, 1), or a share that is left not in (0, 1]."""
    if name in ("ratio", "fraction"):
        valid, interval = 0 <= value < 1, "[0, 1)"
    else:
        valid, interval = 0 < value <= 1, "(0, 1]"
    if not valid:
        raise ValueError(f"{name} must be in {interval}, got {value}{where}")


def _kept_counts(graph: ChannelGraph, name: str, value: float | Mapping[str, float]) -> dict[str, int]:
    named = dict.fromkeys(graph.groups, value) if not isinstance(value, Mapping) else value
    counts: dict[str, int] = {}
    for key, amount in named.items():
        group = graph.group_of(key)
        if group.name in counts:
            raise ValueError(f"{name}: {key!r} names group {group.name!r} a second time")
        if name == "ratio":
            refuse_share("ratio", amount, f" for {key!r}")
            counts[group.name] = max(1, int(group.size * (1 - amount)))
        elif isinstance(amount, int) and 1 <= amount <= group.size:
            counts[group.name] = amount
        else:
            raise ValueError(f"widths[{key!r}] must be an integer from 1 to {group.size}, got {amount!r}")
    return counts


def _removed_globally(graph: ChannelGraph, ranking: Ranking, name: str, value: float) -> Tensor:
    order = ranking.order("global")  # (removable,)
    if name == "threshold":
        return order[ranking.scores[order] <= value]
    total = sum(group.size for group in graph.groups.values())
    if name == "fraction":
        refuse_share(name, value)
        value = round(value * total)
    if not isinstance(value, int) or not 0 <= value <= order.numel():
        raise ValueError(f"count must be an integer from 0 to {order.numel()} (of {total} units), got {value!r}")
    return order[:value]


def _within_cost(
    graph: ChannelGraph, order: Tensor, name: str, limit: float, latency: Callable[[Plan], float] | None
) -> Tensor:
    """Return the shortest beginning of ``order`` whose removal meets the limit."""
    if name == "milliseconds":
        if latency is None or not limit > 0:
            raise ValueError(f"milliseconds={limit} must be positive and needs latency, a callable on plans")
        cost, target = latency, limit
    else:
        refuse_share(name, limit)
        index, dense = (0, graph.parameters) if name == "parameters" else (1, graph.macs)
        cost, target = (lambda plan: graph.cost(plan.kept)[index]), limit * dense
    if cost(_plan_without(graph, order[:0])) <= target:
        return order[:0]
    above, within = 0, order.numel()  # removals with a cost above the target, and within it
    lowest = cost(_plan_without(graph, order))
    if lowest > target:
        raise ValueError(f"{name}={limit} is out of reach: one channel a layer still costs {lowest} (limit {target})")
    while within - above > 1:
        middle = (above + within) // 2
        if cost(_plan_without(graph, order[:middle])) <= target:
            within = middle
        else:
            above = middle
    return order[:within]


def _plan_without(graph: ChannelGraph, removed: Tensor) -> Plan:
    kept = torch.ones(graph.units, dtype=torch.bool)
    kept[removed] = False
    return Plan(graph, kept)


def _refuse_empty(graph: ChannelGraph, kept: Tensor) -> None:
    for layer in graph.layers.values():
        for what, units in (("input", layer.reads), ("output", layer.writes)):
            if not kept[units].any():
                raise ValueError(f"keep: layer {layer.name!r} would be left without an {what} channel")
