"""A cell of four edges whose reward is a formula: all 28,561 cells have a known value, so the optimum is known.

No network is trained. The formula has what makes a graph worth looking at: two convolutions into one node are partly
redundant, a skip beside a convolution helps, a convolution behind a convolution helps, and an edge that reads a node of
zeros is worth nothing. With a sum of independent values the best move of an edge would not depend on the others, and a
policy that never looks at the graph would do as well as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.models.cells import NAT_OPERATIONS
from compactvision.models.cells.operations import NONE, SKIP

from .arguments import ruled
from .softmax import binary_masked_softmax
from .transitions import allowed

PLACES = ((0, 2), (1, 2), (1, 3), (2, 3))
STRENGTH = {  # of a convolution, 0 for what is none
    "conv_5x5": 1.0,
    "conv_3x3": 0.9,
    "conv_1x1": 0.4,
    "sep_conv_5x5": 0.95,
    "sep_conv_3x3": 0.85,
    "dil_conv_5x5": 0.75,
    "dil_conv_3x3": 0.7,
}
REDUNDANT, CHAIN, BESIDE, SPREAD = 1.2, 0.8, 0.4, 0.25


@dataclass(frozen=True)
class Toy:
    """Rewards of all cells, and what each may become.

    Attributes
    ----------
    rewards : Tensor of shape (O, O, O, O)
        One axis for each edge of :data:`PLACES`, in the order of :data:`NAT_OPERATIONS`.
    legal : Tensor of booleans of shape (O, O)
        Whether the row's operation may become the column's.
    """

    rewards: Tensor
    legal: Tensor

    def masks(self, cells: Tensor) -> Tensor:
        """Return what each edge of cells (B, 4) may become, (B, 4, O)."""
        _refuse(cells)
        return self.legal[cells]

    def reward(self, cells: Tensor) -> Tensor:
        """Return the rewards of cells (B, 4)."""
        _refuse(cells)
        return self.rewards[cells.unbind(1)]

    def optimum(self, cells: Tensor) -> Tensor:
        """Return the largest reward that a legal move reaches from each of cells (B, 4)."""
        _refuse(cells)
        return self.optima[cells.unbind(1)]

    @cached_property
    def optima(self) -> Tensor:
        """The largest reward within a legal move of each cell, (O, O, O, O): a maximum along each axis in turn."""
        best = self.rewards
        for axis in range(len(PLACES)):
            reached = [best.index_select(axis, row.nonzero().flatten()).amax(axis) for row in self.legal]
            best = torch.stack(reached, axis)
        return best

    def expected(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the mean reward under a policy for each of B cells, exactly: all actions are summed up.

        Parameters
        ----------
        logits, mask : Tensor of shape (B, 4, O)
            Of the policy, and which actions are allowed.
        """
        p = binary_masked_softmax(logits, mask)
        return torch.einsum("na,nb,nc,nd,abcd->n", *p.unbind(1), self.rewards.to(p))

    def gain(self, sources: Tensor, reached: Tensor) -> float:
        """Return the share of what could be gained that was gained: the sums over sources, divided.

        Parameters
        ----------
        sources : Tensor of shape (B, 4)
            The cells before the move.
        reached : Tensor of shape (B,)
            Rewards behind it.

        Raises
        ------
        ValueError
            If there is nothing to gain, or the shapes differ.

        Notes
        -----
        A mean of the shares of single sources would be ruled by sources that are nearly optimal already: dividing by
        almost nothing, one of them can outweigh all others.
        """
        _refuse(sources, "sources")
        before, best = self.reward(sources), self.optimum(sources)
        checks.tensors(reached=reached)
        if reached.shape != before.shape:
            raise ValueError(f"reached must have shape {tuple(before.shape)}, got {tuple(reached.shape)}")
        possible = float((best - before).sum())
        if possible <= 0:
            raise ValueError("sources must leave something to gain, got only cells that are the best of their moves")
        return float((reached - before).sum()) / possible


def toy(seed: int = 0, *, rule=allowed) -> Toy:
    """Return one such world: a formula and a small number of its own for each operation on each edge.

    Parameters
    ----------
    seed : int, default 0
        Of those small numbers.
    rule : function of 2 arguments, default that of NAT++
        What an operation may become.

    Examples
    --------
    >>> import torch
    >>> world = toy()
    >>> world.rewards.numel(), int(world.legal.sum())
    (28561, 77)
    """
    checks.whole(seed=seed)
    checks.functions(2, rule=rule)
    rows = [ruled(rule, name, NAT_OPERATIONS) for name in NAT_OPERATIONS]
    legal = torch.tensor([[name in row for name in NAT_OPERATIONS] for row in rows])
    return Toy(_rewards(own_values(seed)), legal)


def own_values(seed: int = 0) -> Tensor:
    """Return the small number that each operation is worth on each edge beside the formula, (4, O)."""
    checks.whole(seed=seed)
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    generator = torch.Generator().manual_seed(seed)
    return SPREAD * torch.randn(len(PLACES), len(NAT_OPERATIONS), generator=generator)


def _rewards(own: Tensor) -> Tensor:
    conv = torch.tensor([STRENGTH.get(name, 0.0) for name in NAT_OPERATIONS])
    skip = torch.tensor([float(name == SKIP) for name in NAT_OPERATIONS])
    alive = torch.tensor([float(name != NONE) for name in NAT_OPERATIONS])
    worth = (own + conv) * alive  # an edge that gives nothing is worth nothing
    axes = [(-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1)]
    first, second, third, fourth = (worth[i].view(axis) for i, axis in enumerate(axes))
    c, s, a = ([row.view(axis) for axis in axes] for row in (conv, skip, alive))
    node = torch.maximum(a[0], a[1])  # whether node 2 is more than zeros
    behind = node * (fourth + CHAIN * c[3] * torch.maximum(c[0], c[1]))
    redundant = REDUNDANT * (c[0] * c[1] + node * c[2] * c[3])
    beside = BESIDE * (s[0] * c[1] + s[1] * c[0] + node * (s[2] * c[3] + s[3] * c[2]))
    return first + second + third + behind + beside - redundant


def all_sources() -> Tensor:
    """Return all cells as numbers of operations, (28561, 4)."""
    count = len(NAT_OPERATIONS)
    return torch.cartesian_prod(*[torch.arange(count)] * len(PLACES))


def _refuse(cells: Tensor, name: str = "cells") -> None:
    checks.tensors(**{name: cells})
    if cells.dtype != torch.int64 or cells.dim() != 2 or cells.shape[1] != len(PLACES):
        raise ValueError(f"{name} must be whole numbers of shape (B, {len(PLACES)}), got {checks.shown(cells)}")
    if cells.numel() and not 0 <= int(cells.min()) <= int(cells.max()) < len(NAT_OPERATIONS):
        raise ValueError(f"{name} must hold numbers from 0 to {len(NAT_OPERATIONS) - 1}")
