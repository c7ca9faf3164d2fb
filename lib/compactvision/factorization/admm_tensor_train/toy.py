"""ADMM where it can be followed by hand: the nearest matrix of a low rank to a diagonal one.

The loss is ``|W - A|^2 / 2`` with ``A = diag(a)``, the set is that of the matrices of rank at most ``r``. Everything
stays diagonal, so a matrix is the vector of its diagonal and the projection keeps its ``r`` largest entries. The answer
is known: ``W = Z`` are the ``r`` largest of ``a``. There the dual of a dropped entry is ``a_i / rho``, and the
projection looks at ``W + U``: it goes on dropping ``a_{r+1}`` only as long as ``a_{r+1} / rho < a_r``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compactvision import _checks as checks


def largest(values: Tensor, rank: int) -> Tensor:
    """Return the ``rank`` entries that are largest in size in their places, 0 elsewhere: the projection, (n,).

    Raises
    ------
    ValueError
        If ``values`` is no vector, or ``rank`` not between 0 and its length.
    """
    checks.tensors(values=values)
    checks.whole(rank=rank)
    if values.dim() != 1 or not 0 <= rank <= len(values):
        raise ValueError(f"rank must be 0 to the length of the vector values, got {rank} and {tuple(values.shape)}")
    kept = values.abs().topk(rank).indices
    return torch.zeros_like(values).index_copy(0, kept, values[kept])


def admm_path(
    values: Sequence[float], rank: int, rho: float, steps: int, *, start: Sequence[float] | None = None
) -> Tensor:
    """Return the path of ADMM on the toy, Eq. (3) to (5) with the weights' step solved exactly.

    Parameters
    ----------
    values : sequence of float
        Diagonal ``a`` of the target, (n,), finite.
    rank : int
        Entries that stay, 1 to n - 1.
    rho : float
        Penalty, positive.
    steps : int
        At least 1.
    start : sequence of float, optional
        Weights before the first step, (n,); those of the target by default, a network that was trained.

    Returns
    -------
    Tensor
        (steps + 1, 3, n) in float64: ``W``, ``Z`` and ``U`` before the first and behind each step.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> from compactvision.factorization.admm_tensor_train import toy
    >>> w, z, u = toy.admm_path([4, 3, 2, 1], rank=2, rho=1.0, steps=60)[-1]
    >>> w.round(decimals=4), u.round(decimals=4)
    (tensor([4., 3., 0., 0.], dtype=torch.float64), tensor([0., 0., 2., 1.], dtype=torch.float64))
    """
    a = _vector("values", values)
    w = a.clone() if start is None else _vector("start", start)
    _check(a, rank, rho)
    if w.shape != a.shape or not w.isfinite().all():
        raise ValueError(f"start must hold {len(a)} finite numbers, got {start}")
    checks.counts(steps=steps)
    z, u = largest(w, rank), torch.zeros_like(a)
    path = [torch.stack([w, z, u])]
    for _ in range(steps):
        w = (a + rho * (z - u)) / (1 + rho)
        z = largest(w + u, rank)
        u = u + w - z
        path.append(torch.stack([w, z, u]))
    return torch.stack(path)


def smallest_rho(values: Sequence[float], rank: int) -> float:
    """Return the penalty above which the answer is a stable fixed point, ``a_{r+1} / a_r``, Eq. (7).

    Raises
    ------
    ValueError
        If ``rank`` is not between 1 and n - 1, or the ``rank``-th largest value is 0.

    Examples
    --------
    >>> from compactvision.factorization.admm_tensor_train import toy
    >>> round(toy.smallest_rho([4, 3, 2, 1], rank=2), 4)
    0.6667
    """
    a = _vector("values", values)
    _check(a, rank, 1.0)
    ordered = a.abs().sort(descending=True).values
    if ordered[rank - 1] == 0:
        raise ValueError(f"values must have at least {rank} entries that are not 0, got {values}")
    return float(ordered[rank] / ordered[rank - 1])


def _vector(name: str, values: Sequence[float]) -> Tensor:
    try:
        return torch.as_tensor(values, dtype=torch.float64).clone()
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        raise ValueError(f"{name} must be a vector of finite numbers, got {checks.shown(values)}") from None


def _check(a: Tensor, rank: int, rho: float) -> None:
    if a.dim() != 1 or not a.isfinite().all():
        raise ValueError(f"values must be a vector of finite numbers, got {a.tolist()}")
    checks.whole(rank=rank)
    checks.numbers(rho=rho)
    if not 1 <= rank < len(a):
        raise ValueError(f"rank must be 1 to {len(a) - 1} for {len(a)} values, got {rank}")
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be positive and finite, got {rho}")
