"""From a budget to a plan: at one rate everywhere, or where the scan says that it costs least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compactvision import measure, surgery
from compactvision.shrinking.folding import folded
from compactvision.surgery import ChannelGraph, Plan
from compactvision.surgery.apply import cut
from compactvision.surgery.ranking import rank

MACS_TOLERANCE, LATENCY_TOLERANCE = 0.01, 0.05
ROUNDS = 15  # in which a plan's time is found


class Budget:
    """A limit on MACs or milliseconds, and the plans that meet it.

    Milliseconds are those of the whole network at the start times the ratio of the cut network to it, taken in turn,
    so that a machine that becomes slower does not count as a cut.
    """

    def __init__(self, graph: ChannelGraph, name: str, value: float, example: Tensor) -> None:
        self.graph, self.name, self.value, self.example = graph, name, value, example
        self.whole_ms = float("nan")
        self.ratios: dict[tuple[int, ...], float] = {}
        if name == "latency_ms":
            self.whole = folded(graph.model, example)
            self.whole_ms = measure.latency(self.whole, example, warmup=5, repeats=2 * ROUNDS).median_ms

    def plan(self, scores: Mapping[str, Tensor], *, global_pruning: bool) -> Plan:
        """Return the widest plan within the budget; a ``ValueError`` says how near one can come."""
        options: dict[str, Any] = {"global_pruning": global_pruning}
        if self.name == "keep_macs":
            plan = self._or_nearest(scores, {"keep_macs": self.value, **options})
            return plan if self.met(self.reached(plan)) else filled(plan, scores, self.value)
        asked = self.value
        found = None
        for _ in range(3):
            plan = self._or_nearest(scores, {"latency_ms": asked, "latency": self.milliseconds, **options})
            ms = self.milliseconds(plan, rounds=4 * ROUNDS)
            if found is None or abs(ms - self.value) < abs(found[1] - self.value):
                found = plan, ms
            if abs(ms / self.value - 1) <= LATENCY_TOLERANCE or plan.kept.all():
                break
            asked *= self.value / ms
        assert found is not None
        return found[0]

    def _or_nearest(self, scores: Mapping[str, Tensor], options: Mapping[str, Any]) -> Plan:
        try:
            return surgery.make_plan(self.graph, scores, **options)
        except ValueError as error:
            if "out of reach" not in str(error):
                raise
            least = surgery.make_plan(self.graph, scores, keep=dict.fromkeys(self.graph.groups, 1e-9))
            near = f"{least.macs / self.graph.macs:.3f} of the MACs"
            if self.name == "latency_ms":
                near = f"{self.milliseconds(least):.3g} ms ({near})"
            raise ValueError(
                f"{self.name}={self.value:g} is out of reach: one channel a layer still has {near}"
            ) from error

    def milliseconds(self, plan: Plan, rounds: int = ROUNDS) -> float:
        """Return the time of a plan's network for one image, BatchNorm folded."""
        key = (rounds, *plan.widths.values())
        if key not in self.ratios:
            models = {"whole": self.whole, "small": folded(cut(self.graph.model, plan), self.example)}
            timed = measure.latency_ratio(models, self.example, warmup=3, repeats=rounds)
            self.ratios[key] = timed.ratios["small"].median
        return self.whole_ms * self.ratios[key]

    def reached(self, plan: Plan) -> float:
        """Return what a plan has of what the budget limits: a share of the MACs, or milliseconds."""
        if self.name == "keep_macs":
            return plan.macs / self.graph.macs
        return self.milliseconds(plan, rounds=4 * ROUNDS)

    def met(self, reached: float) -> bool:
        """Whether a value is within 1 % (MACs) or 5 % (milliseconds) of the budget, or below as nothing had to go."""
        tolerance = MACS_TOLERANCE if self.name == "keep_macs" else LATENCY_TOLERANCE
        return abs(reached / self.value - 1) <= tolerance


def filled(plan: Plan, scores: Mapping[str, Tensor], keep_macs: float) -> Plan:
    """Return the plan with channels put back, the best first, as long as it stays within a share of the MACs."""
    graph, kept = plan.graph, plan.kept.clone()
    ranking = rank(graph, scores)
    removed = (~kept).nonzero().flatten()
    for unit in removed[torch.argsort(ranking.scores[removed], descending=True, stable=True)].tolist():
        kept[unit] = True
        kept[unit] = graph.cost(kept)[1] <= keep_macs * graph.macs
    return Plan(graph, kept)


def drawn_alike(plan: Plan, generator: torch.Generator) -> Plan:
    """Return a plan with the same widths whose channels are drawn by chance."""
    kept = torch.ones(plan.graph.units, dtype=torch.bool)
    for group in plan.graph.groups.values():
        few = int(plan.kept[group.units].sum())
        kept[group.units] = False
        kept[group.units[torch.randperm(group.size, generator=generator)[:few]]] = True
    _keep_one_a_layer(plan.graph, kept)
    return Plan(plan.graph, kept)


def _keep_one_a_layer(graph: ChannelGraph, kept: Tensor) -> None:
    """Put a channel back where chance has emptied a layer."""
    for layer in graph.layers.values():
        for units in (layer.reads, layer.writes):
            if not kept[units].any():
                kept[units[0]] = True
