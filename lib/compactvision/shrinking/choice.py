"""Which channels stay: two ways to spend the budget, and the one with the lower loss on training images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from compactvision.shrinking import scan, sources
from compactvision.shrinking.clock import Clock
from compactvision.shrinking.cutting import Budget
from compactvision.shrinking.session import FEWEST_TO_CHOOSE, Session
from compactvision.shrinking.stages import Stage, loss_behind, mended
from compactvision.surgery import ChannelGraph, Importance, Plan

SCAN_IMAGES = 128
SHARE_OF_TIME = 0.15  # of what is left, for the scan
NO_SCAN = "all groups at one rate: no time for the scan"


@dataclass
class Choice:
    """A plan, how it was found, and the stages behind it (none where it came from a journal)."""

    plan: Plan
    by: str
    by_rate: Plan
    losses: dict[str, float]
    curves: scan.Curves
    reached: float
    scan: str = ""  # why there was none
    stages: list[Stage] = field(default_factory=list)

    def stored(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kept": self.plan.kept.nonzero().flatten().tolist(),
            "by_rate": self.by_rate.kept.nonzero().flatten().tolist(),
            "by": self.by,
            "losses": self.losses,
            "curves": self.curves,
            "reached": self.reached,
        }


def restored(graph: ChannelGraph, held: dict[str, Any]) -> Choice:
    """Return the choice that a journal has kept."""
    plans = []
    for name in ("kept", "by_rate"):
        kept = torch.zeros(graph.units, dtype=torch.bool)
        kept[held[name]] = True
        plans.append(Plan(graph, kept))
    curves = {name: tuple(curve) for name, curve in held["curves"].items()}
    return Choice(plans[0], held["by"], plans[1], held["losses"], curves, held["reached"])


def choose(session: Session, budget: Budget, importance: Importance) -> Choice:
    """Return the better of two plans: all groups thinned at one rate, or each as far as it is cheap by the scan."""
    ranking = scan.ranked(budget.graph, importance)
    scores = {name: ranking.scores[units] for name, units in scan.writers_of(budget.graph)}
    by_rate = budget.plan(scores, global_pruning=False)
    session.say(f"at one rate: {by_rate}")
    stages = mended(session, by_rate)
    losses = {"rate": loss_behind(stages)}
    best = Choice(by_rate, "rate", by_rate, losses, {}, 0.0, stages=stages)
    curves, best.scan = scanned(session, budget.graph, scores)
    if len(curves) == len(budget.graph.groups) > 1:
        plan = budget.plan(scan.unit_scores(ranking, curves, scan.SHARES), global_pruning=True)
        session.say(f"by the scan: {plan}")
        stages = mended(session, plan)
        losses["scan"] = loss_behind(stages)
        if losses["scan"] < losses["rate"]:
            best = Choice(plan, "scan", by_rate, losses, curves, 0.0, stages=stages)
        best.curves = curves
    best.reached = budget.reached(best.plan)
    return best


def scanned(session: Session, graph: ChannelGraph, scores: dict) -> tuple[scan.Curves, str]:
    """Return the scan on as many images as there is time for, or none and why."""
    part, images = Clock(None), SCAN_IMAGES
    if session.clock.bounded:
        allowed = max(0.0, SHARE_OF_TIME * session.clock.left())
        part = Clock(2 * allowed / 60)  # where the machine becomes slower
        once = (1 + len(scan.SHARES) * len(graph.groups)) * session.image_seconds()
        images = min(SCAN_IMAGES, int(allowed / once))
    if images < FEWEST_TO_CHOOSE:
        return {}, NO_SCAN
    batches = sources.first(session.judge, images)
    curves = scan.sensitivity(graph, scores, batches, loss=session.loss, going_on=lambda: not part.over())
    return curves, "" if len(curves) == len(graph.groups) else NO_SCAN
