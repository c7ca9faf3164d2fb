"""The loop of most pruning papers: score, cut, tune, and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from compactvision import measure
from compactvision.measure.state import Example
from compactvision.surgery.apply import prune
from compactvision.surgery.criteria import Criterion
from compactvision.surgery.graph import ChannelGraph, channel_graph
from compactvision.surgery.plan import Plan, make_plan, refuse_share


@dataclass(frozen=True)
class Round:
    """State of the network at the end of one round: what was removed and what is left."""

    number: int
    plan: Plan
    parameters: int
    macs: int


def iterate(
    model: nn.Module,
    example: Example,
    criterion: Criterion,
    *,
    rounds: int = 1,
    ratio: float | Mapping[str, float] | None = None,
    fraction: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    tune: Callable[[nn.Module], object] | None = None,
    residual: str = "grouped",
    select: Callable[[ChannelGraph], ChannelGraph] | None = None,
    order: str = "uniform",
    normalise: str | None = None,
) -> tuple[nn.Module, list[Round]]:
    """Score, cut and tune in equal steps until the budget is met; one round is one shot.

    After round k of n, ``k / n`` of the way from the dense network to the budget is gone. Scores are computed anew in
    each round, on the network as it then is.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    example : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.
    criterion : callable
        Scores of a model, such as those of :mod:`compactvision.surgery.criteria`.
    rounds : int, default 1
        Number of cuts.
    ratio, fraction, macs, parameters
        The budget, one of the four, relative to the dense network; see :func:`compactvision.surgery.make_plan`.
    tune : callable, optional
        Called with the network after each cut; trains it in place. What it returns is ignored.
    residual : {"grouped", "scatter", "gather"}
        Form of the residual sums.
    select : callable, optional
        Restricts each round's graph, for instance ``lambda graph: graph.only(kinds="inner")``.
    order, normalise
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
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    given = {"ratio": ratio, "fraction": fraction, "macs": macs, "parameters": parameters}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        raise ValueError(
            f"exactly one of ratio, fraction, macs and parameters is needed, got {', '.join(given) or 'none'}"
        )
    budget, value = next(iter(given.items()))
    for share in value.values() if isinstance(value, Mapping) else (value,):
        refuse_share(budget, share)
    select = select or (lambda graph: graph)
    dense = select(channel_graph(model, example, residual=residual))
    rows: list[Round] = []
    for number in range(1, rounds + 1):
        graph = select(channel_graph(model, example, residual=residual))
        step = _step(dense, graph, budget, value, number / rounds)
        plan = make_plan(graph, criterion(model), **step, order=order, normalise=normalise)
        model = prune(model, plan)
        if tune is not None:
            tune(model)
        rows.append(Round(number, plan, measure.parameters(model), plan.macs))
    return model, rows


def _step(
    dense: ChannelGraph, graph: ChannelGraph, budget: str, value: float | Mapping[str, float], way: float
) -> dict:
    """Return the budget of one round for the graph as it is, ``way`` in (0, 1] of the way to the whole budget."""
    if budget == "ratio":
        ratios = value if isinstance(value, Mapping) else dict.fromkeys(dense.groups, value)
        return {
            "widths": {
                name: min(graph.group_of(name).size, max(1, int(dense.group_of(name).size * (1 - way * share))))
                for name, share in ratios.items()
            }
        }
    if budget == "fraction":
        whole, present = (sum(group.size for group in found.groups.values()) for found in (dense, graph))
        return {"count": round(way * value * whole) - (whole - present)}
    whole, present = (dense.macs, graph.macs) if budget == "macs" else (dense.parameters, graph.parameters)
    return {budget: min(1.0, (1 - way * (1 - value)) * whole / present)}
