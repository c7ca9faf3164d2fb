"""The ancestor of AutoBot's gates: a bottleneck that puts noise where it closes (Schulz et al. 2020).

The information bottleneck for attribution multiplies an activation by a gate and fills up with noise of the
activation's own mean and variance, ``z = gate x + (1 - gate) noise``. AutoBot's code has no noise: :func:`noisy` goes
into ``autobot.learn_gates(..., gate=noise.noisy(generator))`` as an ablation, and is no part of
:cite:`castells2021autobot`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.surgery.gating import Gate


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

    Raises
    ------
    ValueError
        If ``x`` is no floating-point tensor with images and channels, or is empty.
    """
    checks.floating(x=x)
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must be activations (B, C) or (B, C, H, W), none of them 0, got {tuple(x.shape)}")
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

    Raises
    ------
    ValueError
        If ``generator`` is none of torch; when the gate is used: if ``x`` and ``gates`` do not fit.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning import autobot
    >>> gate = autobot.noise.noisy(torch.Generator().manual_seed(0))
    >>> gate(torch.tensor([[1.0, 1.0], [3.0, 5.0]]), torch.tensor([1.0, 0.0]))[:, 0]  # an open gate hears no noise
    tensor([1., 3.])
    """
    checks.instances(torch.Generator, generator=generator)

    def gate(x: Tensor, gates: Tensor) -> Tensor:
        mean, deviation = statistics(x)
        checks.tensors(gates=gates)
        if gates.shape != x.shape[1:2]:
            raise ValueError(f"gates must have shape {tuple(x.shape[1:2])} for x, got {tuple(gates.shape)}")
        normal = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
        share = gates.to(x).view(1, -1, *[1] * (x.ndim - 2))  # (1, C, ...)
        return share * x + (1 - share) * (mean + deviation * normal)

    return gate
