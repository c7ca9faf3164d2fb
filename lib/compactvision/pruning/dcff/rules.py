"""Rules of filter fusion: how a layer's filters are mixed in an epoch, and how they score.

:func:`exact` has the formulas as they are written, :func:`official` those of the published code
:cite:p:`lin2021dcff`; the others are controls.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.pruning.dcff import arguments, formulas

FusionRule = Callable[[Tensor, int, int, Tensor | None], tuple[Tensor, Tensor]]
"""From filters (c, ...), epoch, number of epochs and the scores of the epoch before to mixing (c, c), scores (c,)."""


def exact(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule: Eq. (1) and (3) as they are written, with this book's slow temperature in place of the published one.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning.dcff import rules
    >>> mixing, scores = rules.exact(torch.randn(8, 3, 3, 3), 0, 12, None)
    >>> mixing.shape, scores.shape
    (torch.Size([8, 8]), torch.Size([8]))
    """
    arguments.of_rule(weight, epoch, epochs, previous)
    distances = formulas.distances(weight)
    temperature = formulas.slow_temperature(distances, epoch, epochs)
    return formulas.mixing(distances, temperature), formulas.importance(distances, temperature)


def official(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule: the method as the published code runs it, with the published temperatures, Eq. (5)."""
    arguments.of_rule(weight, epoch, epochs, previous)
    distances, temperature = formulas.distances(weight), formulas.temperature(epoch, epochs)
    scores = formulas.importance(distances, temperature, mode="official", previous=previous)
    return formulas.mixing(distances, temperature), scores


def unmixed(rule: FusionRule) -> FusionRule:
    """Return a control: the choice of a rule, but single filters from the first epoch on."""
    checks.functions(4, rule=rule)

    def single(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
        arguments.of_rule(weight, epoch, epochs, previous)
        mixed, scores = arguments.given(rule(weight, epoch, epochs, previous), weight)
        return torch.eye(len(mixed)).to(mixed), scores

    return single


def largest(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule, a control: in each epoch the single filters with the largest L1 norm."""
    arguments.of_rule(weight, epoch, epochs, previous)
    scores = weight.detach().double().abs().flatten(1).sum(1)
    return torch.eye(len(weight)).to(scores), scores


def first(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule, a control: always the first filters, which were drawn by lot: a narrow network trained from scratch."""
    arguments.of_rule(weight, epoch, epochs, previous)
    scores = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
    return torch.eye(len(weight)).to(scores), scores
