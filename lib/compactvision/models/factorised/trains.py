"""Tensor trains: a tensor of order ``d`` as a chain of ``d`` cores, and the SVDs that find it.

``T(i_1, ..., i_d) = G_1(i_1) G_2(i_2) ... G_d(i_d)``: a core ``G_k`` of shape (r_{k-1}, n_k, r_k) holds a matrix for
each value of its index, and an entry of the tensor is a product of matrices. ``r_0 = r_d = 1``; the ranks between are
the size of the format (Oseledets 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.models.factorised.factors import whole_numbers
from compactvision.models.factorised.threads import few_threads


def feasible_ranks(modes: Sequence[int], ranks: Sequence[int]) -> tuple[int, ...]:
    """Return the ranks that TT-SVD gives: each the smaller one of what is asked for and of what the sizes allow.

    ``r_k`` is at most ``r_{k-1} n_k`` and at most the product of the modes behind it.

    Raises
    ------
    ValueError
        If there is not one rank for each pair of neighbouring modes, or one is no whole number of at least 1.

    Examples
    --------
    >>> from compactvision.models.factorised import feasible_ranks
    >>> feasible_ranks((32, 9, 16), (100, 100))
    (32, 16)
    """
    modes, ranks = _fitting(modes, ranks)
    found, left = [], 1
    for k, rank in enumerate(ranks):
        left = min(rank, left * modes[k], math.prod(modes[k + 1 :]))
        found.append(left)
    return tuple(found)


def _fitting(modes: Sequence[int], ranks: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    modes, ranks = whole_numbers("modes", modes), whole_numbers("ranks", ranks)
    if len(ranks) != len(modes) - 1:
        raise ValueError(f"ranks must hold {len(modes) - 1} numbers for the modes {modes}, got {ranks}")
    return modes, ranks


def tt_parameters(modes: Sequence[int], ranks: Sequence[int]) -> int:
    """Return the numbers that the cores hold, ``sum r_{k-1} n_k r_k``.

    Examples
    --------
    >>> from compactvision.models.factorised import tt_parameters
    >>> tt_parameters((8, 4, 9, 4, 4), (8, 16, 10, 4))
    2192
    """
    modes, ranks = _fitting(modes, ranks)
    inner = (1, *ranks, 1)
    return sum(left * mode * right for left, mode, right in zip(inner[:-1], modes, inner[1:], strict=True))


@torch.no_grad()
def tt_svd(tensor: Tensor, ranks: Sequence[int]) -> list[Tensor]:
    """Return the cores of a tensor train near a tensor: one SVD for each cut, from the left.

    All cores but the last are orthonormal from the left. The error is at least that of the worst single cut and at
    most the root of the sum of their squares, so at most ``sqrt(d - 1)`` times that of the best train.

    Parameters
    ----------
    tensor : Tensor
        Of shape (n_1, ..., n_d), d > 1, floating-point; half precision is computed in float32.
    ranks : sequence of int
        ``r_1`` to ``r_{d-1}``, clipped as :func:`feasible_ranks` says; not changed.

    Returns
    -------
    list of Tensor
        Cores of shape (r_{k-1}, n_k, r_k), in the tensor's dtype.

    Raises
    ------
    ValueError
        If the tensor has one dimension only, is empty, not floating-point or not finite, or the ranks are wrong.

    Examples
    --------
    >>> import torch
    >>> from compactvision.models.factorised import tt_svd, tt_tensor
    >>> matrix = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    >>> tt_tensor(tt_svd(matrix, (2,))).diagonal().round(decimals=4)
    tensor([4., 3., 0., 0.])
    """
    checks.tensors(tensor=tensor)
    if tensor.dim() < 2:
        raise ValueError(f"tensor must have at least 2 dimensions, got shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise ValueError(f"tensor must be floating-point, got {tensor.dtype}")
    if not tensor.numel():
        raise ValueError(f"tensor must not be empty, got shape {tuple(tensor.shape)}")
    modes, left = tuple(tensor.shape), 1
    ranks = feasible_ranks(modes, ranks)
    cores = []
    with few_threads(tensor):
        if not tensor.isfinite().all():
            raise ValueError("tensor must be finite, got NaN or infinity in it")
        rest = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        for mode, rank in zip(modes[:-1], ranks, strict=True):
            basis, rest = _leading(rest.reshape(left * mode, -1), rank)  # (r_{k-1} n_k, r_k), (r_k, n_{k+1} ... n_d)
            cores.append(basis.reshape(left, mode, rank).to(tensor.dtype))
            left = rank
    return [*cores, rest.reshape(left, modes[-1], 1).to(tensor.dtype)]


def _leading(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the leading left singular vectors ``U`` and ``U^T matrix``.

    Of a wide matrix, the right singular vectors are never formed: ``U`` is that of the small triangle ``R^T`` of
    ``matrix^T = Q R``.
    """
    rows, columns = matrix.shape
    if columns > rows:
        triangle = torch.linalg.qr(matrix.mT, mode="r").R  # (rows, rows)
        basis = torch.linalg.svd(triangle.mT, full_matrices=False).U[:, :rank]
        return basis, basis.mT @ matrix
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank, None] * vh[:rank]


def tt_tensor(cores: Sequence[Tensor]) -> Tensor:
    """Return the tensor (n_1, ..., n_d) that cores of shape (r_{k-1}, n_k, r_k) stand for.

    Raises
    ------
    ValueError
        If the cores are no list of tensors of such shapes and of one dtype.
    """
    _refuse_loose(cores)
    product = cores[0].flatten(0, 1)  # (n_1, r_1)
    for core in cores[1:]:
        product = (product @ core.flatten(1)).reshape(-1, core.shape[2])  # (n_1 ... n_k, r_k)
    return product.reshape([core.shape[1] for core in cores])


def _refuse_loose(cores: Sequence[Tensor]) -> None:
    if not isinstance(cores, (list, tuple)) or not cores:
        raise ValueError(f"cores must be a list of tensors that is not empty, got {checks.shown(cores)}")
    for core in cores:
        checks.floating(cores=core)
    shapes = [tuple(core.shape) for core in cores]
    ends = [1, *(shape[-1] for shape in shapes if shape)]
    if any(len(shape) != 3 or shape[0] != left for shape, left in zip(shapes, ends, strict=False)) or ends[-1] != 1:
        raise ValueError(f"cores must have shapes (r_k-1, n_k, r_k) that follow on each other, got {shapes}")
    if len({core.dtype for core in cores}) > 1:
        raise ValueError(f"cores must have one dtype, got {[core.dtype for core in cores]}")
