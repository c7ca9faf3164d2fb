"""The formulas of proximal network slimming: its step, its start, and the penalty that arrives in time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.proximal import soft_threshold
from compactvision.pruning.arguments import not_negative, positive
from compactvision.surgery.layers import named_layers

INITIAL_SCALE = 0.5
"""Scale of every channel before training."""


def proximal_step(gamma: Tensor, xi: Tensor, alpha: float, beta: float, penalty: float) -> tuple[Tensor, Tensor]:
    """Take one step of scales and copies behind a gradient step of the scales, Eq. (3), second and third line.

    ``gamma`` moves towards ``xi``; then ``xi`` moves towards the *new* ``gamma`` and through the soft threshold. With
    plain gradient descent both together are the exact minimisers of the linearised problem.

    Parameters
    ----------
    gamma, xi : Tensor
        Scales after a gradient step with learning rate ``1 / alpha``, and their copies, of the same shape.
    alpha : float
        Inverse of the learning rate, positive.
    beta : float
        Strength of the tie, not negative.
    penalty : float
        Weight of the l1 norm, not negative; the chapter's lambda.

    Returns
    -------
    (Tensor, Tensor)
        New scales and copies.

    Raises
    ------
    ValueError
        If one of the two is no tensor, shapes differ or a number is out of its range.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning.proximal_network_slimming import steps
    >>> steps.proximal_step(torch.tensor([0.6, 0.1]), torch.tensor([0.4, 0.05]), alpha=10, beta=10, penalty=2)
    (tensor([0.5000, 0.0750]), tensor([0.3500, 0.0000]))
    """
    checks.tensors(gamma=gamma, xi=xi)
    checks.numbers(alpha=alpha)
    if gamma.shape != xi.shape:
        raise ValueError(f"xi must have the shape of gamma, {tuple(gamma.shape)}, got {tuple(xi.shape)}")
    check_settings(beta, penalty)
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite, got {alpha}")
    gamma = (alpha * gamma + beta * xi) / (alpha + beta)
    return gamma, soft_threshold((alpha * xi + beta * gamma) / (alpha + beta), penalty / (alpha + beta))


def needed_penalty(steps: int, learning_rate: float, beta: float) -> float:
    """Return the penalty that takes scale and copy from 0.5 to 0 in so many steps where the gradient is 0, Eq. (5).

    Both settle to a pace of ``penalty / (2 alpha + beta)`` a step, with or without momentum. A short training needs a
    larger penalty than a long one; a channel that the loss holds on to needs a larger one as well.

    Parameters
    ----------
    steps : int
        Steps of the optimiser before the learning rate drops, at least 1.
    learning_rate : float
        Of those steps, ``1 / alpha``, positive.
    beta : float
        Strength of the tie, not negative.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> from compactvision.pruning.proximal_network_slimming import steps
    >>> steps.needed_penalty(62_500, learning_rate=0.1, beta=100.0)
    0.00096
    """
    check_settings(beta, 0.0)
    checks.counts(steps=steps)
    positive(learning_rate=learning_rate)
    return (2 / learning_rate + beta) * INITIAL_SCALE / steps


def reset_batch_norm_(model: nn.Module) -> None:
    """Set every scale of a ``BatchNorm2d`` to 0.5 and every shift to 0, where the method begins, in place."""
    checks.networks(model=model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.weight is not None:
                module.weight.fill_(INITIAL_SCALE)
                module.bias.zero_()


def scales(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and scale (C,) of every ``BatchNorm2d`` that has one; those without (``affine=False``) are left out.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [
        (name, module.weight)
        for name, _, module in named_layers(model)
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None
    ]
    if not found:
        raise ValueError("model has no BatchNorm2d with scales")
    yield from found


def check_settings(beta: float, penalty: float) -> None:
    """Raise a ``ValueError`` unless both are numbers that are not negative and finite, in float32 as well."""
    not_negative(beta=beta, penalty=penalty)
