"""The damage of ablations: overall drop, class drops and the largest of them, free of its upward bias, Eq. (2) to (4).

N images, U units, C classes, K ablations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.explanation.arguments import axes, booleans, classes, labels
from compactvision.explanation.heads import LayerCache
from compactvision.explanation.unit_ablation.ablations import predictions, zero_units

# --- Importance: overall drop, class drops, the largest of them -----------------------------------------------------


def class_accuracy(correct: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return the share of each class's images that are recognised (recall), NaN for a class without images.

    Parameters
    ----------
    correct : (..., N) bool.
    targets : (N,) int64.

    Returns
    -------
    (..., C) float64.
    """
    axes(targets=(targets, "N"), correct=(correct, "... N"))
    classes(targets, num_classes)
    member = nn.functional.one_hot(targets, num_classes).double()  # (N, C)
    return (correct.double() @ member) / member.sum(0)


@dataclass(frozen=True, eq=False)
class Drops:
    """Damage by K ablations, Eq. (2): drops of accuracy ``overall`` (K,) and ``per_class`` (K, C), NaN if unknown."""

    overall: Tensor
    per_class: Tensor

    @property
    def largest(self) -> Tensor:
        """The largest class drop of each ablation: (K,)."""
        return self._known.max(1).values

    @property
    def most_damaged(self) -> Tensor:
        """The class with the largest drop, the smallest number where several have it: (K,) int64."""
        return self._known.argmax(1)

    @property
    def ties(self) -> Tensor:
        """How many classes share the largest drop: (K,) int64."""
        return (self._known == self.largest[:, None]).sum(1)

    @property
    def order(self) -> Tensor:
        """For each class the ablations from the most to the least harmful: (C, K) int64, ties in their own order."""
        return self.per_class.T.argsort(dim=1, descending=True, stable=True)

    @property
    def _known(self) -> Tensor:
        return self.per_class.nan_to_num(nan=-torch.inf)


def drops(base: Tensor, correct: Tensor, targets: Tensor, num_classes: int) -> Drops:
    """Compare which images are recognised before (``base``, (N,) bool) and after (``correct``, (K, N) bool) ablation.

    With ``n_c`` of the N images in class c, the overall drop is the mean of the class drops weighted by ``n_c / N``,
    Eq. (3).
    """
    _check_recognised(base, correct)
    overall = base.double().mean() - correct.double().mean(1)
    before, after = (class_accuracy(x, targets, num_classes) for x in (base, correct))
    return Drops(overall, before - after)


def unit_drops(cache: LayerCache, **options) -> Drops:
    """Zero every unit of a cached layer in turn, Eq. (1), and return what each costs, Eq. (2).

    Parameters
    ----------
    cache : LayerCache
        From :func:`~compactvision.explanation.unit_ablation.cache_layer`.
    **options
        Those of :func:`~compactvision.explanation.unit_ablation.ablations.predictions`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.explanation import unit_ablation
    >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(2, 2, bias=False))
    >>> _ = model[2].weight.data.copy_(torch.eye(2))
    >>> images = torch.tensor([[3.0, 1.0], [1.0, 3.0]])[:, :, None, None]
    >>> drops = unit_ablation.unit_drops(unit_ablation.cache_layer(model, "0", [(images, torch.tensor([0, 1]))]))
    >>> drops.overall, drops.most_damaged
    (tensor([0.5000, 0.5000], dtype=torch.float64), tensor([0, 1]))
    """
    checks.instances(LayerCache, cache=cache)
    edits = (partial(zero_units, units=unit) for unit in range(cache.units))
    correct = predictions(cache, edits, **options) == cache.targets
    return drops(cache.correct, correct, cache.targets, cache.num_classes)


# --- The largest of noisy numbers is too large: split halves and a null ---------------------------------------------


def halves(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Draw half of each class's images at random: (N,) bool; an odd class leaves its spare image to the other half."""
    labels(targets)
    checks.instances(torch.Generator, generator=generator)
    keys = torch.rand(len(targets), generator=generator).to(targets.device)
    first = torch.zeros_like(targets, dtype=torch.bool)
    for c in targets.unique():
        members = (targets == c).nonzero()[:, 0]
        first[members[keys[members].argsort()[: len(members) // 2]]] = True
    return first


def split_half_largest(
    base: Tensor, correct: Tensor, targets: Tensor, num_classes: int, generator: torch.Generator, repeats: int = 10
) -> Tensor:
    """Return the largest class drop (K,) without the upward bias of a maximum, Eq. (4).

    The most damaged class is chosen on one half of the images and its drop read on the other; mean over ``repeats``
    random splits, each used both ways. Arguments as for :func:`drops`.
    """
    checks.counts(repeats=repeats)
    _check_recognised(base, correct)
    axes(base=(base, "N"), targets=(targets, "N"))
    classes(targets, num_classes)
    readings = []
    for _ in range(repeats):
        first = halves(targets, generator)
        parts = [drops(base[h], correct[:, h], targets[h], num_classes) for h in (first, ~first)]
        for chosen, read in (parts, parts[::-1]):
            readings.append(read.per_class.gather(1, chosen.most_damaged[:, None])[:, 0])
    return torch.stack(readings).nanmean(0)


def deal_flips(base: Tensor, correct: Tensor, generator: torch.Generator) -> Tensor:
    """Deal each ablation's changes to random images, whatever their class: a null for "it harms certain classes".

    Images lost are dealt among those recognised before (``base``, (N,) bool), images gained among the others, so every
    ablation keeps its overall drop exactly. Returns (K, N) bool like ``correct``.
    """
    _check_recognised(base, correct)
    checks.instances(torch.Generator, generator=generator)
    dealt = correct.clone()
    for group in (base, ~base):
        keys = torch.rand(len(correct), int(group.sum()), generator=generator).to(correct.device)
        dealt[:, group] = correct[:, group].gather(1, keys.argsort(1))
    return dealt


def balanced_accuracy(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return each class's accuracy against the rest, ``(TPR + TNR) / 2``, chance 0.5: (..., N) to (..., C) float64."""
    axes(targets=(targets, "N"), predicted=(predicted, "... N"))
    classes(targets, num_classes)
    scores = []
    for c in range(num_classes):
        yes, member = predicted == c, targets == c
        scores.append((yes[..., member].double().mean(-1) + (~yes[..., ~member]).double().mean(-1)) / 2)
    return torch.stack(scores, -1)


def _check_recognised(base: Tensor, correct: Tensor) -> None:
    axes(base=(base, "N"), correct=(correct, "K N"))
    booleans(base=base, correct=correct)
