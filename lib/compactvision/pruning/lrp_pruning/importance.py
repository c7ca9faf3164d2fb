"""Relevance as importance: what flowed through a unit on its way from the targets to the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.surgery import Importance

from . import arguments
from .propagation import relevance
from .rules import Rule, z_plus


def lrp(
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    signed: bool = False,
    initial_relevance: str = "one-hot",
    rules: Mapping[str, Rule] | None = None,
    default: Rule = z_plus,
) -> Importance:
    """Return the paper's importance :cite:p:`yeom2021lrp`: the relevance of every unit, Eq. (5).

    It is summed over images and positions. Units of different layers can be compared as they are, for every layer hands
    on the same sum (but for sinks).

    Parameters
    ----------
    batches : iterable of (Tensor, Tensor)
        Reference inputs and their targets, on the model's device; gone through once for each call.
    signed : bool, default False
        Sum values instead of absolute values. The same for :func:`~compactvision.pruning.lrp_pruning.rules.z_plus`
        alone, where the network has no residual sums and each target gets one.
    initial_relevance, rules, default
        See :func:`~compactvision.pruning.lrp_pruning.relevance`.

    Raises
    ------
    ValueError
        If an argument is of another kind; when the importance is called: if there is no batch, no convolution or linear
        layer to score, or what :func:`~compactvision.pruning.lrp_pruning.relevance` refuses.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, surgery
    >>> model = models.resnet20()
    >>> importance = lrp([(torch.rand(2, 3, 32, 32), torch.tensor([3, 5]))])
    >>> graph = surgery.channel_graph(model, (3, 32, 32)).only(kinds="inner")
    >>> plan = surgery.make_plan(graph, importance, keep=0.75, global_pruning=True)
    >>> sum(plan.widths[name] for name in graph.groups), sum(group.size for group in graph.groups.values())
    (252, 336)
    """
    checks.batches(batches=batches)
    checks.flags(signed=signed)
    arguments.settings(initial_relevance, rules, default)

    def importance(model: nn.Module) -> dict[str, Tensor]:
        scores: dict[str, Tensor] = {}
        images = 0
        for batch in batches:
            inputs, targets = checks.pair(batch)
            found = relevance(model, inputs, targets, initial_relevance=initial_relevance, rules=rules, default=default)
            for name, values in found.layers.items():
                values = values if signed else values.abs()
                scores[name] = scores.get(name, 0) + values.transpose(0, 1).flatten(1).sum(1)  # (C,)
            images += len(inputs)
        if not images:
            raise ValueError("batches must hold at least one batch, got none")
        if not scores:
            raise ValueError("model has no convolution and no linear layer whose units could be scored")
        return scores

    return importance
