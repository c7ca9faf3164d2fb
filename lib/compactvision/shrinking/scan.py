"""How much each group of channels matters on its own, and what follows from it for the widths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from compactvision import _checks as checks
from compactvision import surgery, training
from compactvision.surgery import ChannelGraph, Importance, Scores
from compactvision.surgery.ranking import Ranking, rank

SHARES = (0.25, 0.5, 0.75)
Curves = dict[str, tuple[float, ...]]


def sensitivity(
    graph: ChannelGraph,
    importance: Importance | Scores,
    batches: Iterable,
    *,
    loss: Callable = F.cross_entropy,
    shares: Sequence[float] = SHARES,
    going_on: Callable[[], bool] | None = None,
) -> Curves:
    """Return the loss with each group of channels cut alone, by so much, the rest of the network whole.

    Parameters
    ----------
    graph : ChannelGraph
        The network's coupled channels; the network is masked, not changed.
    importance : callable or mapping of str to Tensor
        What says which channels of a group go first, as for :func:`compactvision.surgery.make_plan`.
    batches : iterable of (inputs, targets)
        Read once for each group and share.
    loss : callable (outputs, targets) -> scalar Tensor, default cross-entropy
        Mean over the samples of a batch.
    shares : sequence of float
        Shares of a group that are removed, ascending, in (0, 1).
    going_on : callable () -> bool, optional
        Asked before each group; what follows a False is left out.

    Returns
    -------
    dict of str to tuple of float
        For each group the losses, first that of the whole network, then one for each share.

    Raises
    ------
    ValueError
        If the shares are not as said, and as for ``make_plan`` and :func:`compactvision.training.evaluate`.

    Examples
    --------
    >>> from compactvision import data, models, shrinking, surgery
    >>> graph = surgery.channel_graph(models.pretrained("resnet20_glyphs"), (3, 32, 32)).only(["conv1"])
    >>> batches = list(data.load("glyphs", n=64).batches(64))
    >>> losses = shrinking.sensitivity(graph, surgery.criteria.l1(), batches)["conv1"]
    >>> len(losses), losses[3] > losses[0]
    (4, True)
    """
    checks.instances(ChannelGraph, graph=graph)
    checks.functions(0, optional=True, going_on=going_on)
    shares = _valid(shares)
    ranking = ranked(graph, importance)
    model = graph.model

    def loss_of() -> float:
        return training.evaluate(model, batches, loss=loss)["loss"]

    whole = loss_of()
    curves: Curves = {}
    for name, group in graph.groups.items():
        if going_on is not None and not going_on():
            break
        found = [whole]
        for share in shares:
            kept = torch.ones(graph.units, dtype=torch.bool)
            kept[ranking.ascending(group)[: round(share * group.size)]] = False
            with surgery.mask(model, surgery.Plan(graph, kept)):
                found.append(loss_of())
        curves[name] = tuple(found)
    return curves


def ranked(graph: ChannelGraph, importance: Importance | Scores) -> Ranking:
    """Return the order of the units by an importance."""
    if callable(importance):
        checks.functions(1, importance=importance)
        scores = importance(graph.model)
        checks.mappings(importance=scores)
        known = {name for name in scores if name in graph.layers or name in graph.groups or name.endswith(":in")}
        return rank(graph, {name: scores[name] for name in known})
    return rank(graph, importance)


def unit_scores(ranking: Ranking, curves: Mapping[str, Sequence[float]], shares: Sequence[float]) -> dict[str, Tensor]:
    """Return scores by layer with which goes first, in each group and over all, what costs least loss for a MAC.

    The score of a unit is the slope of its group's curve where it would be removed, over the MACs that it saves. Curves
    are made convex before, so that within a group the order of ``ranking`` stays; behind the last share the slope is
    four times the last one.
    """
    graph = ranking.graph
    units = torch.zeros(graph.units, dtype=torch.float64)
    for name, group in graph.groups.items():
        saved = macs_of_unit(graph, group.units)
        slopes = convex_slopes(curves[name], shares)
        order = group.units[torch.argsort(ranking.scores[group.units], stable=True)]
        for place, unit in enumerate(order.tolist()):
            removed = (place + 0.5) / group.size
            segment = sum(removed > share for share in shares)
            within = 1e-6 * removed  # keeps the ranking's order along a straight piece
            units[unit] = (slopes[segment] + within) / (group.size * saved)
    return {writer: units[written] for writer, written in writers_of(graph)}


def macs_of_unit(graph: ChannelGraph, units: Tensor) -> float:
    """Return the MACs that one unit of a group costs in the whole network, at least 1."""
    kept = torch.ones(graph.units, dtype=torch.bool)
    kept[units[: max(1, len(units) // 2)]] = False
    return max(1.0, (graph.macs - graph.cost(kept)[1]) / max(1, len(units) // 2))


def convex_slopes(losses: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Return the slopes of the lowest convex curve above nothing: one for each piece between shares, one behind them.

    Losses below that of the whole network count as that one. Slopes ascend: neighbours that do not are averaged.
    """
    points = [0.0, *shares]
    rise = [0.0, *(max(0.0, each - losses[0]) for each in losses[1:])]
    pieces = [[(b - a) / (y - x), y - x] for a, b, x, y in zip(rise, rise[1:], points, points[1:], strict=False)]
    merged: list[list[float]] = []  # slope, length, number of pieces
    for slope, length in pieces:
        merged.append([slope, length, 1])
        while len(merged) > 1 and merged[-2][0] > merged[-1][0]:
            (s, width, n), (t, m, k) = merged[-2:]
            merged[-2:] = [[(s * width + t * m) / (width + m), width + m, n + k]]
    slopes = [max(0.0, slope) for slope, _, number in merged for _ in range(int(number))]
    return [*slopes, 4 * slopes[-1] + 1e-3]


def writers_of(graph: ChannelGraph) -> Iterable[tuple[str, Tensor]]:
    """Yield the layers that write the channels of groups, with their units."""
    for group in graph.groups.values():
        for name in group.writers:
            if name in graph.layers:
                yield name, graph.layers[name].writes
            elif name in graph.groups:
                yield name, group.units


def _valid(shares: Sequence[float]) -> tuple[float, ...]:
    if isinstance(shares, (str, bytes)) or not isinstance(shares, Sequence) or not shares:
        raise ValueError(f"shares must be several numbers in (0, 1), got {checks.shown(shares)}")
    checks.finite(**{f"shares ({number})": share for number, share in enumerate(shares)})
    found = tuple(float(share) for share in shares)
    if not all(0 < share < 1 for share in found) or list(found) != sorted(set(found)):
        raise ValueError(f"shares must ascend in (0, 1), got {list(shares)}")
    return found
