"""Rules of layer-wise relevance propagation: how a layer hands the relevance of its outputs to its inputs.

A rule is a callable ``rule(apply, inputs, weight, bias, relevance)``. ``apply(inputs, weight)`` is the layer without
its bias, linear in both. From inputs (B, I), weight (J, I), bias (J,) and the relevance of the outputs (B, J) it gives
that of the inputs (B, I); for a convolution with its shapes. Equation numbers are those of the chapter.

Every rule is computed as ``a * d/da [sum of z(a) * stopped(R / z)]``: one forward and one backward pass through a layer
with changed weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.pruning.lrp_pruning import arguments

Apply = Callable[[Tensor, Tensor], Tensor]
"""The layer without its bias: (inputs, weight) -> outputs, linear in both."""
Rule = Callable[[Apply, Tensor, Tensor, "Tensor | None", Tensor], Tensor]
"""(apply, inputs, weight, bias, relevance of the outputs) -> relevance of the inputs."""


def z_plus(apply: Apply, a: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
    """Share relevance out among the contributions that are positive, Eq. (1); the bias gets none.

    The z+ rule of :cite:p:`montavon2017`, which is :func:`alpha_beta` of :cite:p:`bach2015` with ``alpha = 1``. A
    contribution is positive where input and weight have the same sign. The relevance of a unit without positive
    contributions is handed to no input: it is lost (a sink).

    Examples
    --------
    >>> a, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [2.0, -1.0]])
    >>> z_plus(torch.nn.functional.linear, a, weight, None, torch.tensor([[10.0, 1.0]]))
    tensor([[7., 4.]])
    """
    arguments.layer(apply, a, weight, bias, relevance)
    return by_parts(apply, a, weight.clamp(min=0), weight.clamp(max=0), relevance)


def alpha_beta(alpha: float) -> Rule:
    """Return the rule that gives ``alpha`` times the relevance to positive and ``1 - alpha`` to negative contributions.

    The rule of :cite:p:`bach2015`, with biases left out. Relevance is conserved only where a unit has contributions of
    both signs. ``alpha = 1`` is :func:`z_plus`, Eq. (1).

    Raises
    ------
    ValueError
        If ``alpha`` is below 1 or not finite.

    Examples
    --------
    >>> a, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    >>> alpha_beta(2.0)(torch.nn.functional.linear, a, weight, None, torch.tensor([[1.0]]))
    tensor([[ 2., -1.]])
    """
    checks.finite(alpha=alpha)
    if not alpha >= 1:
        raise ValueError(f"alpha must be at least 1, got {alpha}")

    def rule(apply: Apply, a: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        arguments.layer(apply, a, weight, bias, relevance)
        above, below = weight.clamp(min=0), weight.clamp(max=0)
        positive = by_parts(apply, a, above, below, relevance)
        return alpha * positive - (alpha - 1) * by_parts(apply, a, below, above, relevance)

    return rule


def epsilon(eps: float = 1e-6) -> Rule:
    """Return the rule that shares out among all contributions, Eq. (2); ``eps`` and the bias take their part.

    The epsilon rule of :cite:p:`bach2015`. The sign of an output of 0 counts as plus.

    Raises
    ------
    ValueError
        If ``eps`` is negative or not finite.

    Examples
    --------
    >>> a, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    >>> epsilon()(torch.nn.functional.linear, a, weight, None, torch.tensor([[1.0]])).round(decimals=3)
    tensor([[ 3., -2.]])
    """
    checks.finite(eps=eps)
    if not eps >= 0:
        raise ValueError(f"eps must not be negative, got {eps}")

    def rule(apply: Apply, a: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        arguments.layer(apply, a, weight, bias, relevance)
        with torch.enable_grad():
            a = a.detach().requires_grad_()
            z = apply(a, weight)
        total = z.detach()
        if bias is not None:  # of a linear layer along the last dimension, of a convolution along the channels
            total = total + (bias if weight.ndim == 2 else _along_channels(bias, z))
        total = torch.where(total < 0, total - eps, total + eps)
        return a.detach() * torch.autograd.grad(z, a, quotient(relevance, total))[0]

    return rule


def box(low: Tensor | float, high: Tensor | float) -> Rule:
    """Return the rule for a first layer that reads pixels between two bounds, Eq. (3).

    The z^B rule of :cite:p:`montavon2017`.

    Parameters
    ----------
    low, high : Tensor or float
        Smallest and largest value of a pixel *as the network reads it*, so after normalisation: numbers, or one entry a
        channel (C,).

    Raises
    ------
    ValueError
        If ``low`` is not below ``high``, or one is not finite; when the rule is used: if an input is outside.

    Examples
    --------
    >>> a, weight = torch.tensor([[0.0, 0.5]]), torch.tensor([[1.0, 2.0]])
    >>> box(-1.0, 1.0)(torch.nn.functional.linear, a, weight, None, torch.tensor([[4.0]]))
    tensor([[1., 3.]])
    """
    low, high = arguments.bounds(low, high)

    def rule(apply: Apply, a: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        arguments.layer(apply, a, weight, bias, relevance)
        arguments.channels((low, high), a)
        bounds = [_along_channels(bound.to(a), a).expand_as(a) for bound in (low, high)]
        if (a < bounds[0]).any() or (a > bounds[1]).any():
            raise ValueError(f"low, high: inputs from {a.min():.4g} to {a.max():.4g} are not inside")
        with torch.enable_grad():
            terms = [tensor.detach().clone().requires_grad_() for tensor in (a, *bounds)]
            z = apply(terms[0], weight)
            z = z - apply(terms[1], weight.clamp(min=0)) - apply(terms[2], weight.clamp(max=0))
        gradients = torch.autograd.grad(z, terms, quotient(relevance, z))
        return sum(term.detach() * gradient for term, gradient in zip(terms, gradients, strict=True))

    return rule


def by_parts(apply: Apply, a: Tensor, same: Tensor, other: Tensor, relevance: Tensor) -> Tensor:
    """Share out among ``a^+ same`` and ``a^- other``; the second is left out where no input is negative."""
    arguments.layer(apply, a, same, None, relevance, name="same")
    arguments.layer(apply, a, other, None, relevance, name="other")
    if same.shape != other.shape:
        raise ValueError(f"same and other must have one shape, got {tuple(same.shape)} and {tuple(other.shape)}")
    with torch.enable_grad():
        a = a.detach().requires_grad_()
        signed = bool((a < 0).any())
        z = apply(a.clamp(min=0), same) + apply(a.clamp(max=0), other) if signed else apply(a, same)
    return a.detach() * torch.autograd.grad(z, a, quotient(relevance, z))[0]


def quotient(relevance: Tensor, z: Tensor) -> Tensor:
    """Divide, with zero where there is nothing to divide by: relevance that arrives there is lost."""
    checks.tensors(relevance=relevance)
    checks.floating(**{"z, what apply gives,": z})
    z = z.detach()
    if relevance.shape != z.shape:
        shapes = f"{tuple(relevance.shape)} and {tuple(z.shape)}"
        raise ValueError(f"relevance and z, the outputs that it is of, must have one shape, got {shapes}")
    nothing = z.abs() < torch.finfo(z.dtype).tiny ** 0.5
    return torch.where(nothing, 0, relevance / torch.where(nothing, 1, z))


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 2)) if values.ndim == 1 else values
