"""Ablations: edits of an activation, and what the network predicts under each of them, Eq. (1) and (6).

A *unit* is one channel of a layer, read after the layer's last activation function: with ``conv -> BatchNorm -> ReLU``,
zeroing the convolution's output would leave ``ReLU(shift)`` behind. N images, U units, C classes, K ablations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.explanation.arguments import axes, chosen
from compactvision.explanation.evidence import wide
from compactvision.explanation.heads import LayerCache
from compactvision.measure.state import evaluating

Edit = Callable[[Tensor], Tensor]
"""Maps an activation (B, U, ...) to one of the same shape, without changing the one it is given."""


# --- Ablation: edits of an activation (B, U, ...) -------------------------------------------------------------------


def zero_units(activation: Tensor, units: int | Sequence[int] | Tensor) -> Tensor:
    """Set units to zero for every image and position: ``A[:, units] := 0``, the paper's ablation, Eq. (1)."""
    axes(activation=(activation, "B U ..."))
    return set_units(activation, units, activation.new_zeros(activation.shape[1]))


def keep_units(activation: Tensor, units: int | Sequence[int] | Tensor) -> Tensor:
    """Set all units but these to zero."""
    axes(activation=(activation, "B U ..."))
    kept = torch.zeros(activation.shape[1], dtype=torch.bool, device=activation.device)
    kept[chosen(len(kept), kept.device, units=units)] = True
    return zero_units(activation, (~kept).nonzero()[:, 0])


def set_units(activation: Tensor, units: int | Sequence[int] | Tensor, values: Tensor) -> Tensor:
    """Set each of these units to its entry of ``values`` (U,) everywhere; with the mean activation: mean-ablation."""
    axes(activation=(activation, "B U ..."), values=(values, "U"))
    these = chosen(activation.shape[1], activation.device, units=units)
    edited = activation.clone()
    edited[:, these] = values[these].reshape(-1, *[1] * (activation.ndim - 2)).to(activation.dtype)
    return edited


def remove_direction(activation: Tensor, direction: Tensor, mean: Tensor | None = None) -> Tensor:
    """Take the part along a direction out of every position, Eq. (6): ``A - (q . (A - m)) q``, with m = 0 unless given.

    Computed in float32 at least, whatever the types; the result has that of the activation.

    Parameters
    ----------
    activation : (B, U, ...).
    direction : q, (U,) of length 1; the u-th axis gives back :func:`zero_units`.
    mean : m, (U,): what the removed part is set to, instead of zero. With the mean activation the ablation leaves the
        mean of the representation where it is; the u-th axis then gives mean-ablation, see :func:`set_units`.
    """
    axes(activation=(activation, "B U ..."), direction=(direction, "U"))
    axes(activation=(activation, "B U ..."), mean=(direction if mean is None else mean, "U"))
    checks.floating(direction=direction)
    if not abs(float(direction.norm()) - 1) <= 1e-3:
        raise ValueError(f"direction: its length is {float(direction.norm()):g}, not 1")
    flat = wide(activation.flatten(2) if activation.ndim > 2 else activation.unsqueeze(2))  # (B, U, P)
    direction = direction.to(flat.dtype)
    centred = flat if mean is None else flat - mean.to(flat.dtype)[:, None]
    amount = torch.einsum("u,bup->bp", direction, centred)  # (B, P)
    return (flat - amount[:, None] * direction[:, None]).to(activation.dtype).view_as(activation)


def random_rotation(units: int, generator: torch.Generator) -> Tensor:
    """Draw an orthogonal matrix (U, U) float32, uniformly; its rows are the new axes.

    QR of a Gaussian matrix, with the signs of R's diagonal moved into Q (without them Q would not be uniform).
    """
    checks.counts(units=units)
    checks.instances(torch.Generator, generator=generator)
    q, r = torch.linalg.qr(torch.randn(units, units, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).T.float().contiguous()


# --- What an ablation does to the predictions -----------------------------------------------------------------------


def predictions(cache: LayerCache, edits: Iterable[Edit], *, batch_size: int = 256, copies: int = 8) -> Tensor:
    """Return the predicted classes under each edit: (K, N) int64, the smallest class number where logits are equal.

    Costs K runs of the head and none of the layers before; ``copies * batch_size`` edited images are in memory at once.
    """
    checks.instances(LayerCache, cache=cache)
    checks.counts(batch_size=batch_size, copies=copies)
    if not isinstance(edits, Iterable):
        raise ValueError(f"edits must be functions, one or several, got {checks.shown(edits)}")
    edits, rows = iter(edits), []
    with evaluating(cache.head.model):
        while group := list(islice(edits, copies)):
            parts = []
            for batch in cache.activation.split(batch_size):  # (B, U, ...)
                edited = torch.cat([_edited(edit, batch) for edit in group])  # (len(group) * B, U, ...)
                parts.append(cache.head(edited).argmax(1).view(len(group), len(batch)))
            rows.append(torch.cat(parts, 1))  # (len(group), N)
    if not rows:
        raise ValueError("edits: there is none")
    return torch.cat(rows)


def _edited(edit: Edit, batch: Tensor) -> Tensor:
    if not callable(edit):
        raise ValueError(f"edits must be functions of an activation, got {checks.shown(edit)}")
    edited = edit(batch)
    if not isinstance(edited, Tensor) or edited.shape != batch.shape:
        raise ValueError(
            f"edits must keep the shape of an activation, {tuple(batch.shape)}, got {checks.shown(edited)}"
        )
    return edited


def gap_linear_logits(logits: Tensor, means: Tensor, weight: Tensor) -> Tensor:
    """Return the logits (U, N, C) after zeroing each unit, for a head of global average pooling and one linear layer.

    Closed form, without running anything: logits (N, C) lose ``weight[:, u] * means[:, u]``.

    Parameters
    ----------
    logits : (N, C) of the network as it is.
    means : (N, U) each unit's average over positions.
    weight : (C, U) of the linear layer.
    """
    axes(logits=(logits, "N C"), means=(means, "N U"), weight=(weight, "C U"))
    checks.floating(logits=logits, means=means, weight=weight)
    return logits - means.T[:, :, None] * weight.T[:, None, :]
