"""An importance and a budget become a plan; every budget says what stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.surgery.apply import measured_latency
from compactvision.surgery.behind import WRITERS
from compactvision.surgery.criteria import Importance
from compactvision.surgery.graph import ChannelGraph
from compactvision.surgery.layers import named_layers
from compactvision.surgery.plan import Plan
from compactvision.surgery.ranking import Scores, rank

ROUNDING = 1e-9  # of a unit: 0.29 of 100 channels are 29, though 0.29 * 100 is a little less in floating point


def make_plan(
    graph: ChannelGraph,
    importance: Importance | Scores,
    *,
    keep: float | Mapping[str, float] | None = None,
    keep_count: int | Mapping[str, int] | None = None,
    keep_above: float | None = None,
    keep_macs: float | None = None,
    keep_parameters: float | None = None,
    latency_ms: float | None = None,
    latency: Callable[[Plan], float] | None = None,
    cost: Callable[[Tensor], Any] | None = None,
    global_pruning: bool = False,
    normalise: str | None = None,
) -> Plan:
    """Remove the units with the lowest importance until one budget is met; every budget says what stays.

    The score of a unit is the mean over the layers in the scores that write it or pass it on. Among equal scores the
    lower index is removed first (across groups, the earlier group). The best unit of each layer always stays, so no
    layer is emptied.

    Parameters
    ----------
    graph : ChannelGraph
        The network's coupled channels. Restrict it with ``only`` or ``without`` to leave groups whole.
    importance : callable or mapping of str to Tensor
        A callable is asked for the scores of ``graph.model``; what it says of layers that did not run on the graph's
        example is left out. Scores by layer name, one entry for each output channel (C,), higher means keep. Each
        group needs those of at least one layer that writes it or passes it on; layers whose channels stay as they are
        may be among them.
    keep : float or mapping of str to float, optional
        Share of the units that stays in each group, in (0, 1]: ``floor(n * keep)``, at least one. A mapping names
        groups (or layers that write them); the others stay whole. With ``global_pruning``, share of all units.
    keep_count : int or mapping of str to int, optional
        Number of all units that stay; or, by name, of the units of a group, the others staying whole.
    keep_above : float, optional
        Units with a score above it stay.
    keep_macs, keep_parameters : float, optional
        Largest share of the graph's MACs or parameters that may be left, in (0, 1]. The shortest removal that is not
        above: the unit removed last could not stay.
    latency_ms : float, optional
        Largest ``latency`` of the plan, found by bisection.
    latency : callable, optional
        Milliseconds of a plan; by default :func:`compactvision.surgery.measured_latency` of the graph's network. A
        table's lookup does as well.
    cost : callable, optional
        What ``keep_macs`` counts in place of MACs: from the kept units, (units,) bool, to a number.
    global_pruning : bool, default False
        Let all units of the network compete, lowest score first, instead of thinning all groups at the same rate, each
        by its own ranking.
    normalise : {None, "sum", "max", "mean", "l2"}, optional
        Divide each layer's scores by this norm of them first; matters where layers are compared.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If not exactly one budget is given or it is out of its range or out of reach, a layer name is unknown, scores
        are no mapping, empty or missing, not finite enough to be ordered (NaN) or of the wrong length.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, surgery
    >>> graph = surgery.channel_graph(models.resnet20(generator=torch.Generator().manual_seed(0)), (3, 32, 32))
    >>> plan = surgery.make_plan(graph.only(kinds="inner"), surgery.criteria.l1(), keep_macs=0.6)
    >>> 0.59 < plan.macs / graph.macs <= 0.6
    True
    """
    budgets = {
        "keep": keep,
        "keep_count": keep_count,
        "keep_above": keep_above,
        "keep_macs": keep_macs,
        "keep_parameters": keep_parameters,
        "latency_ms": latency_ms,
    }
    name, value = the_budget(budgets)
    if cost is not None and name != "keep_macs":
        raise ValueError(f"cost is what keep_macs counts, got it with {name}={value!r}")
    if latency is not None and name != "latency_ms":
        raise ValueError(f"latency is what latency_ms limits, got it with {name}={value!r}")
    checks.instances(ChannelGraph, graph=graph)
    checks.functions(1, optional=True, cost=cost, latency=latency)
    if callable(importance):
        checks.functions(1, importance=importance)
    checks.flags(global_pruning=global_pruning)
    ranking = rank(graph, _asked(graph, importance) if callable(importance) else importance, normalise)
    if isinstance(value, Mapping):
        removed = ranking.lowest_in_groups(_by_name(graph, name, value))
    elif name == "keep" and not global_pruning:
        removed = ranking.lowest_in_groups(_by_name(graph, name, dict.fromkeys(graph.groups, value)))
    else:
        order = ranking.order(global_pruning=global_pruning)
        if name == "keep_above":
            removed = order[ranking.scores[order] <= value]
        elif name in ("keep", "keep_count"):
            removed = order[: order.numel() - _kept_of_order(graph, order, name, value)]
        else:
            removed = _within_cost(graph, order, name, value, latency, cost)
    return _plan_without(graph, removed)


def _asked(graph: ChannelGraph, importance: Importance) -> Scores:
    """Return an importance's scores but for those of layers that the graph's example did not reach."""
    scores = importance(graph.model)
    if not isinstance(scores, Mapping):
        return scores
    resting = {name for name, _, module in named_layers(graph.model) if isinstance(module, WRITERS)} - set(graph.layers)
    return {name: values for name, values in scores.items() if name not in resting}


def the_budget(budgets: Mapping[str, Any]) -> tuple[str, Any]:
    """Return name and value of the one budget that is not None; ``ValueError`` unless there is exactly one."""
    given = {name: value for name, value in budgets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"exactly one budget of {', '.join(budgets)} is needed, got {', '.join(given) or 'none'}")
    return next(iter(given.items()))


def refuse_share(name: str, value: float, where: str = "") -> None:
    """Raise a ``ValueError`` unless a share that stays is a number in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], the share that stays, got {value!r}{where}")


def kept_of(size: int, share: float) -> int:
    """Return how many of ``size`` units a share keeps: rounded down, at least one."""
    return max(1, math.floor(size * share + ROUNDING))


def _by_name(graph: ChannelGraph, name: str, named: Mapping[str, float]) -> dict[str, int]:
    """Return the number of units that stay in each named group."""
    counts: dict[str, int] = {}
    for key, amount in named.items():
        group = graph.group_of(key)
        if group.name in counts:
            raise ValueError(f"{name}: {key!r} names group {group.name!r} a second time")
        if name == "keep":
            refuse_share("keep", amount, f" for {key!r}")
            counts[group.name] = kept_of(group.size, amount)
        elif name == "keep_count" and isinstance(amount, int) and 1 <= amount <= group.size:
            counts[group.name] = amount
        else:
            raise ValueError(f"{name}[{key!r}] must be an integer from 1 to {group.size}, got {amount!r}")
    return counts


def _kept_of_order(graph: ChannelGraph, order: Tensor, name: str, value: float) -> int:
    """Return how many of the removable units stay, for a share or a number of all units."""
    total = sum(group.size for group in graph.groups.values())
    protected = total - order.numel()  # the best of each layer
    if name == "keep":
        refuse_share(name, value)
        value, name = round(value * total), f"keep={value}, that is keep_count"
    if isinstance(value, bool) or not isinstance(value, int) or not protected <= value <= total:
        raise ValueError(f"{name} must be an integer from {protected} (one a layer) to {total}, got {value!r}")
    return value - protected


def _within_cost(
    graph: ChannelGraph,
    order: Tensor,
    name: str,
    limit: float,
    latency: Callable[[Plan], float] | None,
    cost: Callable[[Tensor], Any] | None,
) -> Tensor:
    """Return the shortest beginning of ``order`` whose removal meets the limit."""
    of_plan = _cost_of_plan(graph, name, latency, cost)
    if name == "latency_ms":
        if not limit > 0:
            raise ValueError(f"latency_ms must be positive, got {limit}")
        target = limit
    else:
        refuse_share(name, limit)
        target = limit * of_plan(_plan_without(graph, order[:0]))
    if of_plan(_plan_without(graph, order[:0])) <= target:
        return order[:0]
    above, within = 0, order.numel()  # removals with a cost above the target, and within it
    lowest = of_plan(_plan_without(graph, order))
    if lowest > target:
        raise ValueError(f"{name}={limit} is out of reach: one channel a layer still costs {lowest} (limit {target})")
    while within - above > 1:
        middle = (above + within) // 2
        if of_plan(_plan_without(graph, order[:middle])) <= target:
            within = middle
        else:
            above = middle
    return order[:within]


def _cost_of_plan(
    graph: ChannelGraph, name: str, latency: Callable[[Plan], float] | None, cost: Callable[[Tensor], Any] | None
) -> Callable[[Plan], float]:
    if name == "latency_ms":
        return latency or measured_latency(graph.model, graph.example_inputs)
    if cost is not None:
        return lambda plan: float(cost(plan.kept))
    index = 0 if name == "keep_parameters" else 1
    return lambda plan: graph.cost(plan.kept)[index]


def _plan_without(graph: ChannelGraph, removed: Tensor) -> Plan:
    kept = torch.ones(graph.units, dtype=torch.bool)
    kept[removed] = False
    return Plan(graph, kept)
