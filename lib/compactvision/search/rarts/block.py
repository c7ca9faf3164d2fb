"""Tensors that move together, with their optimiser: what an iteration of any method is made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks

from .arguments import leaves, refuse_negative, refuse_no_sequence, refuse_not_positive

Tensors = tuple[Tensor, ...]


class Block:
    """Tensors that move together, and the optimiser that moves them.

    Parameters
    ----------
    tensors : sequence of Tensor
        Leaves that require gradients.
    optimizer : torch.optim.Optimizer
        Of these tensors and no others: one of weights that held the architecture too would decay it.
    clip : float, optional
        Largest norm of the gradient, over all tensors.

    Raises
    ------
    ValueError
        If the optimiser has other tensors, or a tensor is no leaf with a gradient.

    Examples
    --------
    >>> import torch
    >>> from compactvision.search import rarts
    >>> block = rarts.Block.descent([torch.zeros(2, requires_grad=True)], rate=0.5)
    >>> block.descend([torch.ones(2)])
    >>> block.tensors[0].tolist()
    [-0.5, -0.5]
    """

    def __init__(
        self, tensors: Sequence[Tensor], optimizer: torch.optim.Optimizer, *, clip: float | None = None
    ) -> None:
        leaves(tensors=tensors)
        checks.instances(torch.optim.Optimizer, optimizer=optimizer)
        if clip is not None:
            refuse_not_positive(clip=clip)
        owned = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        if owned != {id(tensor) for tensor in tensors}:
            raise ValueError("optimizer must hold the tensors of the block and no others")
        self.tensors: Tensors = tuple(tensors)
        self.optimizer, self.clip = optimizer, clip

    @classmethod
    def descent(cls, tensors: Sequence[Tensor], rate: float, *, clip: float | None = None) -> Block:
        """Return a block that moves by plain gradient descent with a step size."""
        leaves(tensors=tensors)
        refuse_negative(rate=rate)
        return cls(tensors, torch.optim.SGD(list(tensors), lr=float(rate)), clip=clip)

    def descend(self, gradients: Sequence[Tensor]) -> None:
        """Take one step of the optimiser along these gradients, clipped first."""
        refuse_no_sequence(empty=True, gradients=gradients)
        if len(gradients) != len(self.tensors):
            raise ValueError(f"gradients must be {len(self.tensors)} tensors, got {len(gradients)}")
        for index, (tensor, gradient) in enumerate(zip(self.tensors, gradients, strict=True)):
            checks.floating(**{f"gradients[{index}]": gradient})
            if gradient.shape != tensor.shape:
                raise ValueError(
                    f"gradients[{index}] must have shape {tuple(tensor.shape)}, got {tuple(gradient.shape)}"
                )
            tensor.grad = gradient.detach().to(tensor)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.tensors, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def largest_coupling(rate: float, momentum: float = 0.0) -> float:
    """Return the stiffest spring that SGD can hold: ``beta = 2 (1 - momentum) / rate``.

    Above it the two sets of weights, moved one after the other by a spring alone, swing ever farther apart. The losses
    come on top, so that less is wise.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> round(rarts.block.largest_coupling(0.025, 0.9), 6)
    8.0
    """
    refuse_not_positive(rate=rate)
    refuse_negative(momentum=momentum)
    if momentum >= 1:
        raise ValueError(f"momentum must be below 1, got {momentum}")
    return 2 * (1 - momentum) / rate


def refuse_resonance(coupling: float, rate: float, momentum: float) -> None:
    """Refuse a spring that is too stiff for the optimiser."""
    refuse_negative(coupling=coupling)
    most = largest_coupling(rate, momentum)
    if coupling >= most:
        raise ValueError(f"coupling must be below 2 (1 - momentum) / rate = {most:g}, got {coupling}")
