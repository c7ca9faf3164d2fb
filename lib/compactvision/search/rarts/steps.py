"""One iteration of each method, for any two losses: first-order gradients only, and a count of what they took.

A loss is a function of two tuples of tensors, (weights, architecture). RARTS has two sets of weights and *one*
architecture, Eq. (4)-(6) of the chapter. Its rivals are DARTS (Liu et al. 2019) in first and second order, the plain
single level and MiLeNAS (He et al. 2020). A *pass* is one forward and one backward computation; none of these methods
differentiates a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compactvision import _checks as checks

from .arguments import refuse_negative, refuse_order
from .block import Block, Tensors

Loss = Callable[[Tensors, Tensors], Tensor]
DIFFERENCE = 0.01  # of DARTS: distance of the two points of its finite difference, along the gradient


@dataclass(frozen=True)
class Iteration:
    """What one iteration saw: the first value of each loss, and its passes."""

    train_loss: float
    valid_loss: float
    passes: int


class _Passes:
    """Gradients of two losses, counted."""

    def __init__(self, train: Loss) -> None:
        self.train = train
        self.count = 0

    def gradients(self, loss: Loss, weights: Tensors, alpha: Tensors, of: Tensors) -> tuple[float, Tensors]:
        self.count += 1
        value = loss(weights, alpha)
        name = "train" if loss is self.train else "valid"
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError(f"{name} must give one number that depends on its tensors, got {checks.shown(value)}")
        number = float(value.detach())
        if not math.isfinite(number):
            raise ValueError(f"{name} must give a finite loss (steps may be too large, a batch empty), got {number}")
        return number, torch.autograd.grad(value, of, allow_unused=True, materialize_grads=True)


def _sum(a: Sequence[Tensor], b: Sequence[Tensor], scale: float = 1.0) -> Tensors:
    return tuple(x + scale * y for x, y in zip(a, b, strict=True))


def _gap(a: Block, b: Tensors) -> Tensors:
    return tuple(x.detach() - y.detach() for x, y in zip(a.tensors, b, strict=True))


def rarts_(
    weights: Block,
    twin: Block,
    alpha: Block,
    train: Loss,
    valid: Loss,
    *,
    training_weight: float = 1.0,
    coupling: float = 1.0,
    order: str = "gauss-seidel",
) -> Iteration:
    """Take one iteration of RARTS, Eq. (4)-(6): w, y, alpha, in place.

    Parameters
    ----------
    weights, twin : Block
        ``w``, which learns from the training half, and ``y``, which learns from the validation half; same shapes.
    alpha : Block
        The architecture, shared by both.
    train, valid : callable
        Losses of (weights, architecture) on a batch of each half.
    training_weight : float, default 1
        ``lambda``.
    coupling : float, default 1
        ``beta``; it enters as a gradient, before clipping.
    order : {"gauss-seidel", "jacobi"}
        Whether an update sees those before it (4 passes), or all use gradients at the same point (2 passes).

    Returns
    -------
    Iteration

    Raises
    ------
    ValueError
        If ``weights`` and ``twin`` differ in shapes or share tensors, a number is negative, or a loss gives no number.

    Examples
    --------
    >>> import torch
    >>> from compactvision.search import rarts
    >>> alpha, w, y = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (2.0, -2.0, -2.0))
    >>> blocks = [rarts.Block.descent([x], 0.01) for x in (w, y, alpha)]
    >>> losses = rarts.solvable.training_loss, rarts.solvable.validation_loss
    >>> losses = [lambda w, a, loss=loss: loss(w[0], a[0]) for loss in losses]
    >>> done = rarts.rarts_(*blocks, *losses, training_weight=10, coupling=10)
    >>> [round(x.item(), 4) for x in (alpha, w, y)], done.passes
    ([1.3994, -1.2, -1.94], 4)
    """
    _check(train, valid, weights=weights, twin=twin, alpha=alpha)
    refuse_negative(training_weight=training_weight, coupling=coupling)
    refuse_order(order)
    if [x.shape for x in weights.tensors] != [y.shape for y in twin.tensors]:
        raise ValueError("twin must have tensors of the shapes of weights")
    w, y, a = weights.tensors, twin.tensors, alpha.tensors
    passes = _Passes(train)
    if order == "jacobi":
        train_value, of_train = passes.gradients(train, w, a, (*w, *a))
        valid_value, of_valid = passes.gradients(valid, y, a, (*y, *a))
        gap = _gap(weights, y)
        weights.descend([training_weight * g + coupling * d for g, d in zip(of_train[: len(w)], gap, strict=True)])
        twin.descend(_sum(of_valid[: len(y)], gap, -coupling))
        alpha.descend(_sum(of_valid[len(y) :], of_train[len(w) :], training_weight))
        return Iteration(train_value, valid_value, passes.count)
    train_value, of_w = passes.gradients(train, w, a, w)
    weights.descend([training_weight * g + coupling * d for g, d in zip(of_w, _gap(weights, y), strict=True)])
    valid_value, of_y = passes.gradients(valid, y, a, y)
    twin.descend(_sum(of_y, _gap(twin, w), coupling))
    _, by_train = passes.gradients(train, w, a, a)
    _, by_valid = passes.gradients(valid, y, a, a)
    alpha.descend(_sum(by_valid, by_train, training_weight))
    return Iteration(train_value, valid_value, passes.count)


def darts_(
    weights: Block, alpha: Block, train: Loss, valid: Loss, *, second: bool = False, unroll: float | None = None
) -> Iteration:
    """Take one iteration of DARTS in place: alpha on the validation loss, then w on the training loss.

    Parameters
    ----------
    weights, alpha : Block
    train, valid : callable
        Losses of (weights, architecture) on a batch of each half.
    second : bool, default False
        Whether alpha looks one step of w ahead (5 passes in place of 2); the mixed derivative is a finite difference.
    unroll : float, optional
        Size ``xi`` of that step; by default the step size of ``weights``.

    Returns
    -------
    Iteration

    Notes
    -----
    As in the published code, the step ahead knows momentum and weight decay of ``weights``, and is not clipped.

    Examples
    --------
    >>> import torch
    >>> from compactvision.search import rarts
    >>> alpha, w = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (2.0, -2.0))
    >>> blocks = [rarts.Block.descent([x], 0.01) for x in (w, alpha)]
    >>> losses = rarts.solvable.training_loss, rarts.solvable.validation_loss
    >>> losses = [lambda w, a, loss=loss: loss(w[0], a[0]) for loss in losses]
    >>> rarts.darts_(*blocks, *losses, second=True, unroll=0.5).passes
    5
    >>> round(alpha.item(), 4)
    1.98
    """
    _check(train, valid, weights=weights, alpha=alpha)
    checks.flags(second=second)
    if unroll is not None:
        refuse_negative(unroll=unroll)
    passes = _Passes(train)
    w, a = weights.tensors, alpha.tensors
    if second:
        valid_value, found = _through_a_step(passes, weights, a, train, valid, unroll)
    else:
        valid_value, found = passes.gradients(valid, w, a, a)
    alpha.descend(found)
    train_value, of_w = passes.gradients(train, w, a, w)
    weights.descend(of_w)
    return Iteration(train_value, valid_value, passes.count)


def _through_a_step(
    passes: _Passes, weights: Block, a: Tensors, train: Loss, valid: Loss, unroll: float | None
) -> tuple[float, Tensors]:
    w = weights.tensors
    (group,) = weights.optimizer.param_groups
    xi = group["lr"] if unroll is None else unroll
    _, slopes = passes.gradients(train, w, a, w)
    ahead = []
    for tensor, slope in zip(w, slopes, strict=True):
        speed = weights.optimizer.state[tensor].get("momentum_buffer")
        step = slope + group["weight_decay"] * tensor.detach()
        step = step if speed is None else step + group["momentum"] * speed
        ahead.append((tensor.detach() - xi * step).requires_grad_())
    value, both = passes.gradients(valid, tuple(ahead), a, (*ahead, *a))
    of_w, of_a = both[: len(w)], both[len(w) :]
    norm = torch.cat([x.flatten() for x in of_w]).norm()
    if norm == 0:
        return value, of_a
    size = DIFFERENCE / norm
    sides = []
    for sign in (1, -1):
        moved = tuple((x.detach() + sign * size * v).requires_grad_() for x, v in zip(w, of_w, strict=True))
        sides.append(passes.gradients(train, moved, a, a)[1])
    mixed = [(plus - minus) / (2 * size) for plus, minus in zip(*sides, strict=True)]
    return value, _sum(of_a, mixed, -xi)


def single_level_(
    weights: Block,
    alpha: Block,
    train: Loss,
    valid: Loss,
    *,
    training_weight: float = 1.0,
    order: str = "jacobi",
) -> Iteration:
    """Take one step down ``L_va + lambda L_tr`` with one set of weights: the simplest thing, 2 passes.

    Parameters
    ----------
    weights, alpha, train, valid
        As for :func:`darts_`.
    training_weight : float, default 1
        ``lambda``.
    order : {"jacobi", "gauss-seidel"}
        By default weights and architecture move at once; else alpha sees the new weights (4 passes).

    Examples
    --------
    >>> import torch
    >>> from compactvision.search import rarts
    >>> alpha, w = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (2.0, -2.0))
    >>> blocks = [rarts.Block.descent([x], 0.01) for x in (w, alpha)]
    >>> losses = rarts.solvable.training_loss, rarts.solvable.validation_loss
    >>> losses = [lambda w, a, loss=loss: loss(w[0], a[0]) for loss in losses]
    >>> rarts.single_level_(*blocks, *losses).passes
    2
    >>> round(alpha.item(), 4), round(w.item(), 4)
    (1.96, -1.94)
    """
    _check(train, valid, weights=weights, alpha=alpha)
    refuse_negative(training_weight=training_weight)
    refuse_order(order)
    passes = _Passes(train)
    w, a = weights.tensors, alpha.tensors
    train_value, of_train = passes.gradients(train, w, a, (*w, *a))
    valid_value, of_valid = passes.gradients(valid, w, a, (*w, *a))
    total = _sum(of_valid, of_train, training_weight)
    weights.descend(total[: len(w)])
    if order == "gauss-seidel":
        _, by_train = passes.gradients(train, w, a, a)
        _, by_valid = passes.gradients(valid, w, a, a)
        alpha.descend(_sum(by_valid, by_train, training_weight))
    else:
        alpha.descend(total[len(w) :])
    return Iteration(train_value, valid_value, passes.count)


def mixed_level_(weights: Block, alpha: Block, train: Loss, valid: Loss, *, training_weight: float = 1.0) -> Iteration:
    """Take one iteration of MiLeNAS (first order): w on ``L_tr``, then alpha on ``L_va + lambda L_tr``; 3 passes."""
    _check(train, valid, weights=weights, alpha=alpha)
    refuse_negative(training_weight=training_weight)
    passes = _Passes(train)
    w, a = weights.tensors, alpha.tensors
    train_value, of_w = passes.gradients(train, w, a, w)
    weights.descend(of_w)
    _, by_train = passes.gradients(train, w, a, a)
    valid_value, by_valid = passes.gradients(valid, w, a, a)
    alpha.descend(_sum(by_valid, by_train, training_weight))
    return Iteration(train_value, valid_value, passes.count)


def _check(train: Any, valid: Any, **blocks: Any) -> None:
    checks.functions(2, train=train, valid=valid)
    checks.instances(Block, **blocks)
    seen: set[int] = set()
    for name, block in blocks.items():
        ids = set(map(id, block.tensors))
        if ids & seen:
            raise ValueError(f"{name} must not share tensors with the blocks before it")
        seen |= ids
