"""Proximal maps of penalties that make numbers exactly zero, shared by several papers.

The proximal map of a penalty ``P`` with weight ``kappa`` sends ``x`` to the ``u`` that minimises
``(u - x)^2 / 2 + kappa P(u)``: near ``x``, and cheap. All maps here work on each entry by itself. Where two values are
equally good, at a threshold, they give 0.

========================  ===================================  ======================================
map                       penalty of an entry                  entries that become 0
========================  ===================================  ======================================
:func:`soft_threshold`    ``|u|`` (l1)                         ``|x| <= kappa``
:func:`hard_threshold`    1 where ``u`` is not 0 (l0)          ``|x| <= sqrt(2 kappa)``
:func:`transformed_l1`    ``(a + 1) |u| / (a + |u|)``          ``|x| <=`` :func:`transformed_l1_threshold`
========================  ===================================  ======================================
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compactvision import _checks as checks


def soft_threshold(x: Tensor, kappa: float) -> Tensor:
    """Return the proximal map of the l1 norm: every entry moves by ``kappa`` towards 0 and stops there.

    Parameters
    ----------
    x : Tensor
        Of any shape, floating point.
    kappa : float
        Weight of the penalty, not negative.

    Returns
    -------
    Tensor
        Shape and dtype of ``x``.

    Raises
    ------
    ValueError
        If ``x`` is not floating point or ``kappa`` is negative or not finite.

    Examples
    --------
    >>> soft_threshold(torch.tensor([2.0, -0.75, 0.25]), 0.5)
    tensor([ 1.5000, -0.2500,  0.0000])
    """
    _check(x, kappa)
    return (x - kappa).clamp(min=0) + (x + kappa).clamp(max=0)  # a zero is never -0.0


def hard_threshold(x: Tensor, kappa: float) -> Tensor:
    """Return the proximal map of the number of non-zeros: small entries become 0, the others stay as they are.

    Parameters, result and errors are those of :func:`soft_threshold`.

    >>> hard_threshold(torch.tensor([2.0, -0.75, 0.25]), 0.5)
    tensor([2., 0., 0.])
    """
    _check(x, kappa)
    return torch.where(x.abs() > math.sqrt(2 * kappa), x, torch.zeros_like(x))


def transformed_l1(x: Tensor, kappa: float, a: float) -> Tensor:
    """Return the proximal map of transformed l1, which lies between the other two (Zhang and Xin 2017).

    ``a`` near 0 gives the hard, large ``a`` the soft threshold. The map is continuous in the *sub-critical* regime
    ``kappa <= a^2 / (2 (a + 1))``, and jumps at the threshold in the *super-critical* one.

    ``x``, ``kappa``, result and errors are those of :func:`soft_threshold`; computed in float64. ``a`` is the shape of
    the penalty, and a ``ValueError`` if it is not positive and finite.
    """
    _check(x, kappa)
    threshold = transformed_l1_threshold(kappa, a)
    size = x.detach().double().abs()
    cosine = 1 - 27 * kappa * a * (a + 1) / (2 * (a + size) ** 3)
    angle = torch.arccos(cosine.clamp(-1, 1))
    u = 2 / 3 * (a + size) * torch.cos(angle / 3) - 2 * a / 3 + size / 3
    return torch.where(size > threshold, x.sign() * u.clamp(min=0), 0).to(x.dtype)


def transformed_l1_threshold(kappa: float, a: float) -> float:
    """Return the size of the largest entry that :func:`transformed_l1` sends to 0.

    ``kappa`` must be finite and not negative, ``a`` finite and positive, else there is a ``ValueError``.
    """
    _check_kappa(kappa)
    checks.numbers(a=a)
    if not 0 < a < math.inf:
        raise ValueError(f"a must be positive and finite, got {a}")
    if kappa <= a * a / (2 * (a + 1)):
        return kappa * (a + 1) / a
    return math.sqrt(2 * kappa * (a + 1)) - a / 2


def _check(x: Tensor, kappa: float) -> None:
    checks.floating(x=x)
    _check_kappa(kappa)


def _check_kappa(kappa: float) -> None:
    checks.numbers(kappa=kappa)
    if not 0 <= kappa < math.inf:
        raise ValueError(f"kappa must be a finite number >= 0, got {kappa}")
