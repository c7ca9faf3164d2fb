"""The ancestor of AutoBot's gates: a bottleneck that puts noise where it closes (Schulz et al. 2020).

The information bottleneck for attribution multiplies an activation by a gate and fills up with noise of the
activation's own mean and variance, ``z = gate x + (1 - gate) noise``; what passes is measured in nats. AutoBot's code
has neither the noise nor the measure: :func:`noisy` goes into ``autobot.learn(..., gate=noisy(generator))`` as an
ablation, and is no part of :cite:`castells2021autobot`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compactvision.pruning.autobot import Gate


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over images and positions, without gradients.

    Parameters
    ----------
    x : Tensor
        Activations (B, C) or (B, C, H, W).

    Returns
    -------
    (Tensor, Tensor)
        (1, C, 1, 1), or (1, C) for two dimensions. The ancestor has one for each position, from a set of images; a
        channel is what can be removed, and a batch is at hand.
    """
    dims = [dim for dim in range(x.ndim) if dim != 1]
    flat = x.detach()
    return flat.mean(dims, keepdim=True), flat.std(dims, keepdim=True, correction=0)


def noisy(generator: torch.Generator) -> Gate:
    """Return a gate that fills up with Gaussian noise of each channel's own mean and variance.

    Implements the bottleneck of :cite:`schulz2020bottleneck`, without its smoothing of gates over positions.

    Parameters
    ----------
    generator : torch.Generator
        Source of the noise; a unit that several layers read gets another noise at each.
    """

    def gate(x: Tensor, gates: Tensor) -> Tensor:
        mean, deviation = statistics(x)
        drawn = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
        share = gates.to(x).view(1, -1, *[1] * (x.ndim - 2))  # (1, C, ...)
        return share * x + (1 - share) * (mean + deviation * drawn)

    return gate


def information(x: Tensor, gates: Tensor) -> Tensor:
    """Return what passes each gate: the divergence of the noisy activation from pure noise, in nats.

    With ``r`` the normalised activation, ``(1 - gate)^2 / 2 + gate^2 r^2 / 2 - log(1 - gate) - 1 / 2``, averaged over
    images and positions; 0 for a closed gate. Implements the measure of :cite:`schulz2020bottleneck`.

    Parameters
    ----------
    x : Tensor
        Activations (B, C) or (B, C, H, W).
    gates : Tensor
        (C,), in [0, 1).

    Returns
    -------
    Tensor
        (C,).

    Raises
    ------
    ValueError
        If a gate is outside [0, 1): an open gate lets an unlimited number of nats through.
    """
    if not ((gates >= 0) & (gates < 1)).all():
        raise ValueError(f"gates must lie in [0, 1), got {gates.min():g} to {gates.max():g}")
    mean, deviation = statistics(x)
    r = (x - mean) / torch.where(deviation > 0, deviation, math.inf)
    second = r.square().transpose(0, 1).flatten(1).mean(1)  # (C,): 1 up to rounding, 0 for a constant channel
    return (1 - gates).square() / 2 + gates.square() * second / 2 - torch.log1p(-gates) - 0.5
