"""Importance of single units by ablation (Zhou, Sun, Bau and Torralba 2018), in the paper's order.

A *unit* is one channel of a layer, read after the layer's last activation function: with ``conv -> BatchNorm -> ReLU``,
zeroing the convolution's output would leave ``ReLU(shift)`` behind. N images, U units, C classes, K ablations.
Attributes of units (selectivity, weight norms, ...) are in :mod:`compactvision.explanation.unit_attributes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from compactvision.explanation.heads import Head, LayerCache, cache_layer
from compactvision.measure.state import evaluating

__all__ = [
    "Drops",
    "Edit",
    "Head",
    "LayerCache",
    "balanced_accuracy",
    "cache_layer",
    "class_accuracy",
    "deal_flips",
    "drops",
    "gap_linear_logits",
    "halves",
    "keep_units",
    "predictions",
    "random_rotation",
    "remove_direction",
    "set_units",
    "split_half_largest",
    "unit_drops",
    "zero_units",
]

Edit = Callable[[Tensor], Tensor]
"""Maps an activation (B, U, ...) to one of the same shape, without changing the one it is given."""


# --- Ablation: edits of an activation (B, U, ...) -------------------------------------------------------------------


def zero_units(activation: Tensor, units: int | Sequence[int] | Tensor) -> Tensor:
    """Set units to zero for every image and position: ``A[:, units] := 0``, the paper's ablation."""
    return set_units(activation, units, activation.new_zeros(activation.shape[1]))


def keep_units(activation: Tensor, units: int | Sequence[int] | Tensor) -> Tensor:
    """Set all units but these to zero."""
    chosen = torch.zeros(activation.shape[1], dtype=torch.bool, device=activation.device)
    chosen[units] = True
    return zero_units(activation, (~chosen).nonzero()[:, 0])


def set_units(activation: Tensor, units: int | Sequence[int] | Tensor, values: Tensor) -> Tensor:
    """Set each of these units to its entry of ``values`` (U,) everywhere; with the mean activation: mean-ablation."""
    if values.shape != activation.shape[1:2]:
        raise ValueError(f"values: shape {tuple(values.shape)} for {activation.shape[1]} units")
    chosen = torch.as_tensor(units, device=activation.device).reshape(-1)
    edited = activation.clone()
    edited[:, chosen] = values[chosen].reshape(-1, *[1] * (activation.ndim - 2)).to(activation.dtype)
    return edited


def remove_direction(activation: Tensor, direction: Tensor, mean: Tensor | None = None) -> Tensor:
    """Take the part along a direction out of every position: ``A - (q . (A - m)) q``, with m = 0 unless given.

    Parameters
    ----------
    activation : (B, U, ...).
    direction : q, (U,) of length 1; the u-th axis gives back :func:`zero_units`.
    mean : m, (U,): what the removed part is set to, instead of zero. With the mean activation the ablation leaves the
        mean of the representation where it is; the u-th axis then gives mean-ablation, see :func:`set_units`.
    """
    units = activation.shape[1]
    if direction.shape != (units,):
        raise ValueError(f"direction: shape {tuple(direction.shape)} for {units} units")
    if abs(float(direction.norm()) - 1) > 1e-3:
        raise ValueError(f"direction: its length is {float(direction.norm()):g}, not 1")
    flat = activation.flatten(2) if activation.ndim > 2 else activation.unsqueeze(2)  # (B, U, P)
    centred = flat if mean is None else flat - mean[:, None]
    amount = torch.einsum("u,bup->bp", direction, centred)  # (B, P)
    return (flat - amount[:, None] * direction[:, None]).view_as(activation)


def random_rotation(units: int, generator: torch.Generator) -> Tensor:
    """Draw an orthogonal matrix (U, U) float32, uniformly; its rows are the new axes.

    QR of a Gaussian matrix, with the signs of R's diagonal moved into Q (without them Q would not be uniform).
    """
    q, r = torch.linalg.qr(torch.randn(units, units, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).T.float().contiguous()


# --- What an ablation does to the predictions -----------------------------------------------------------------------


def predictions(cache: LayerCache, edits: Iterable[Edit], *, batch_size: int = 256, copies: int = 8) -> Tensor:
    """Return the predicted classes under each edit: (K, N) int64, the smallest class number where logits are equal.

    Costs K runs of the head and none of the layers before; ``copies * batch_size`` edited images are in memory at once.
    """
    edits, rows = iter(edits), []
    with evaluating(cache.head.model):
        while group := list(islice(edits, copies)):
            parts = []
            for batch in cache.activation.split(batch_size):  # (B, U, ...)
                edited = torch.cat([edit(batch) for edit in group])  # (len(group) * B, U, ...)
                parts.append(cache.head(edited).argmax(1).view(len(group), len(batch)))
            rows.append(torch.cat(parts, 1))  # (len(group), N)
    if not rows:
        raise ValueError("edits: there is none")
    return torch.cat(rows)


def gap_linear_logits(logits: Tensor, means: Tensor, weight: Tensor) -> Tensor:
    """Return the logits (U, N, C) after zeroing each unit, for a head of global average pooling and one linear layer.

    Closed form, without running anything: logits (N, C) lose ``weight[:, u] * means[:, u]``.

    Parameters
    ----------
    logits : (N, C) of the network as it is.
    means : (N, U) each unit's average over positions.
    weight : (C, U) of the linear layer.
    """
    return logits - means.T[:, :, None] * weight.T[:, None, :]


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
    if correct.shape[-1] != len(targets):
        raise ValueError(f"correct: {correct.shape[-1]} images, targets have {len(targets)}")
    member = nn.functional.one_hot(targets, num_classes).double()  # (N, C)
    return (correct.double() @ member) / member.sum(0)


@dataclass(frozen=True, eq=False)
class Drops:
    """Damage by K ablations: ``overall`` (K,) and ``per_class`` (K, C) losses of accuracy, NaN where unknown."""

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

    With ``n_c`` of the N images in class c, the overall drop is the mean of the class drops weighted by ``n_c / N``.
    """
    if base.dtype != torch.bool or correct.dtype != torch.bool or correct.ndim != 2:
        raise ValueError("base, correct: must be bool of shapes (N,) and (K, N)")
    overall = base.double().mean() - correct.double().mean(1)
    before, after = (class_accuracy(x, targets, num_classes) for x in (base, correct))
    return Drops(overall, before - after)


def unit_drops(cache: LayerCache, **options) -> Drops:
    """Zero every unit of the cached layer in turn; ``options`` are those of :func:`predictions`."""
    edits = (partial(zero_units, units=unit) for unit in range(cache.units))
    correct = predictions(cache, edits, **options) == cache.targets
    return drops(cache.correct, correct, cache.targets, cache.num_classes)


# --- The largest of noisy numbers is too large: split halves and a null ---------------------------------------------


def halves(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Draw half of each class's images at random: (N,) bool; an odd class leaves its spare image to the other half."""
    keys = torch.rand(len(targets), generator=generator).to(targets.device)
    first = torch.zeros_like(targets, dtype=torch.bool)
    for c in targets.unique():
        members = (targets == c).nonzero()[:, 0]
        first[members[keys[members].argsort()[: len(members) // 2]]] = True
    return first


def split_half_largest(
    base: Tensor, correct: Tensor, targets: Tensor, num_classes: int, generator: torch.Generator, repeats: int = 10
) -> Tensor:
    """Return the largest class drop (K,) without the upward bias of a maximum.

    The most damaged class is chosen on one half of the images and its drop read on the other; mean over ``repeats``
    random splits, each used both ways. Arguments as for :func:`drops`.
    """
    if repeats < 1:
        raise ValueError(f"repeats: must be at least 1, got {repeats}")
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
    dealt = correct.clone()
    for group in (base, ~base):
        keys = torch.rand(len(correct), int(group.sum()), generator=generator).to(correct.device)
        dealt[:, group] = correct[:, group].gather(1, keys.argsort(1))
    return dealt


def balanced_accuracy(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return each class's accuracy against the rest, ``(TPR + TNR) / 2``, chance 0.5: (..., N) to (..., C) float64."""
    scores = []
    for c in range(num_classes):
        yes, member = predicted == c, targets == c
        scores.append((yes[..., member].double().mean(-1) + (~yes[..., ~member]).double().mean(-1)) / 2)
    return torch.stack(scores, -1)
