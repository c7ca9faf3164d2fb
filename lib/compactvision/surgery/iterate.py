"""The loop of most pruning papers: score, cut, tune, and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from compactvision import _checks as checks
from compactvision import measure
from compactvision.measure.state import ExampleInputs
from compactvision.surgery.apply import prune
from compactvision.surgery.budget import kept_of, make_plan, refuse_share, the_budget
from compactvision.surgery.criteria import Importance
from compactvision.surgery.graph import ChannelGraph, channel_graph
from compactvision.surgery.plan import Plan


@dataclass(frozen=True)
class Round:
    """State of the network at the end of one round: what was removed and what is left."""

    number: int
    plan: Plan
    parameters: int
    macs: int


def iterate(
    model: nn.Module,
    example_inputs: ExampleInputs,
    importance: Importance,
    *,
    rounds: int = 1,
    keep: float | Mapping[str, float] | None = None,
    keep_macs: float | None = None,
    keep_parameters: float | None = None,
    tune: Callable[[nn.Module], object] | None = None,
    residual: str = "grouped",
    select: Callable[[ChannelGraph], ChannelGraph] | None = None,
    global_pruning: bool = False,
    normalise: str | None = None,
) -> tuple[nn.Module, list[Round]]:
    """Score, cut and tune in equal steps until the budget is met; one round is one shot.

    After round k of n, ``k / n`` of the way from the dense network to the budget is gone. Scores are computed anew in
    each round, on the network as it then is.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.
    importance : callable
        From a model to scores, such as those of :mod:`compactvision.surgery.criteria`.
    rounds : int, default 1
        Number of cuts.
    keep, keep_macs, keep_parameters
        The budget, one of the three, relative to the dense network; see :func:`compactvision.surgery.make_plan`.
    tune : callable, optional
        Called with the network after each cut; trains it in place. What it returns is ignored.
    residual : {"grouped", "scatter", "gather"}
        Form of the residual sums.
    select : callable, optional
        Restricts each round's graph, for instance ``lambda graph: graph.only(kinds="inner")``.
    global_pruning, normalise
        As for :func:`compactvision.surgery.make_plan`.

    Returns
    -------
    (nn.Module, list of Round)
        The smaller network, and one row for each round.

    Raises
    ------
    ValueError
        If ``rounds`` is below 1, not exactly one budget is given or it is out of its range, and as for
        :func:`compactvision.surgery.make_plan`.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> model = models.pretrained("resnet20_glyphs")
    >>> small, rounds = surgery.iterate(model, (3, 32, 32), surgery.criteria.l1(), rounds=2, keep_macs=0.5)
    >>> [f"{row.plan.macs / row.plan.graph.macs:.0%}" for row in rounds]  # of the network before each cut
    ['75%', '66%']
    """
    checks.networks(model=model)
    checks.counts(rounds=rounds)
    checks.functions(1, optional=True, tune=tune, select=select)
    budget, value = the_budget({"keep": keep, "keep_macs": keep_macs, "keep_parameters": keep_parameters})
    for share in value.values() if isinstance(value, Mapping) else (value,):
        refuse_share(budget, share)
    select = select or (lambda graph: graph)
    dense = select(channel_graph(model, example_inputs, residual=residual))
    rows: list[Round] = []
    for number in range(1, rounds + 1):
        graph = select(channel_graph(model, example_inputs, residual=residual))
        step = _step(dense, graph, budget, value, number / rounds, global_pruning)
        plan = make_plan(graph, importance, **step, global_pruning=global_pruning, normalise=normalise)
        model = prune(model, plan)
        if tune is not None:
            tune(model)
        rows.append(Round(number, plan, measure.parameters(model), plan.macs))
    return model, rows


def _step(
    dense: ChannelGraph,
    graph: ChannelGraph,
    budget: str,
    value: float | Mapping[str, float],
    way: float,
    global_pruning: bool,
) -> dict:
    """Return the budget of one round for the graph as it is, ``way`` in (0, 1] of the way to the whole budget."""
    if budget == "keep" and global_pruning:
        whole = sum(group.size for group in dense.groups.values())
        return {"keep_count": whole - round(way * (1 - value) * whole)}
    if budget == "keep":
        shares = value if isinstance(value, Mapping) else dict.fromkeys(dense.groups, value)
        return {
            "keep_count": {
                name: min(graph.group_of(name).size, kept_of(dense.group_of(name).size, 1 - way * (1 - share)))
                for name, share in shares.items()
            }
        }
    whole, present = (dense.macs, graph.macs) if budget == "keep_macs" else (dense.parameters, graph.parameters)
    return {budget: min(1.0, (1 - way * (1 - value)) * whole / present)}
