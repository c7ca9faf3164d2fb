"""The drops as an importance: a unit that nobody misses goes first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import surgery
from compactvision._failures import run
from compactvision.explanation.unit_ablation.class_drops import drops
from compactvision.measure.batches import check_iterable, classified, pairs
from compactvision.measure.state import evaluating, placement


def importance(
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    drop: Literal["overall", "largest"] = "overall",
    residual: str = "grouped",
) -> surgery.Importance:
    """Return the importance by the accuracy that is lost when a unit is set to zero, Eq. (1) and (2).

    A unit is a channel of the network's graph, silenced in front of every layer that reads it: what is measured is the
    accuracy without the channel, before any tuning. The whole network runs once for each unit, so this costs as many
    passes over the images as there are units. Single drops do not add up: what units cost together is not their sum.

    Parameters
    ----------
    batches : iterable of (Tensor, Tensor)
        Inputs and int64 targets (B,) on which the network was not trained; held in memory.
    drop : {"overall", "largest"}, default "overall"
        Score a unit by its overall drop, or by the drop of the class that loses most.
    residual : {"grouped", "scatter", "gather"}
        That of the graph which is to be pruned, see :func:`compactvision.surgery.channel_graph`.

    Returns
    -------
    Importance
        From a model to drops of accuracy in [-1, 1] by group of coupled channels, (units,) float64; negative where the
        network is better without the unit.

    Raises
    ------
    ValueError
        If ``drop`` is unknown; when it is called, if there is no batch.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> from compactvision.explanation import unit_ablation
    >>> model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))
    >>> _ = model[0].weight.data.copy_(torch.eye(3)[:, :, None, None])
    >>> _ = model[3].weight.data.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    >>> images = torch.tensor([[3.0, 5.0, 1.0], [1.0, 5.0, 3.0]])[:, :, None, None]
    >>> graph = surgery.channel_graph(model, images)
    >>> importance = unit_ablation.importance([(images, torch.tensor([0, 1]))])
    >>> importance(model)  # nobody misses the channel in the middle
    {'0': tensor([0.5000, 0.0000, 0.5000], dtype=torch.float64)}
    >>> surgery.make_plan(graph, importance, keep_count=2, global_pruning=True).keep
    {'0': (0, 2)}
    """
    if drop not in ("overall", "largest"):
        raise ValueError(f"drop must be 'overall' or 'largest', got {drop!r}")
    check_iterable(batches)

    def scores(model: nn.Module) -> dict[str, Tensor]:
        checks.networks(model=model)
        images = list(pairs(batches, placement(model)[0]))
        if not images:
            raise ValueError("batches must hold at least one batch, got none")
        targets = torch.cat([of_batch for _, of_batch in images])
        base, num_classes = _recognised(model, images)
        graph = surgery.channel_graph(model, images[0][0][:1], residual=residual)
        with evaluating(model):
            found = {}
            for name, group in graph.groups.items():
                correct = []
                for unit in group.units:
                    gates = torch.ones(graph.units).index_fill(0, unit, 0.0)
                    with surgery.gated(model, graph, gates):
                        correct.append(_predictions(model, images) == targets)
                found[name] = getattr(drops(base, torch.stack(correct), targets, num_classes), drop).cpu()
        return found

    return scores


def _recognised(model: nn.Module, images: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, int]:
    """Return which images the model as it is recognises, and the number of classes."""
    hits, num_classes = [], 0
    with evaluating(model):
        for index, (inputs, targets) in enumerate(images):
            logits = run(model, inputs, name="batches")
            classified(logits, targets, index)
            hits.append(logits.argmax(1) == targets)
            num_classes = logits.shape[1]
    return torch.cat(hits), num_classes


def _predictions(model: nn.Module, images: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.cat([run(model, inputs).argmax(1) for inputs, _ in images])
