"""Compression units of one convolution: its input channels and its singular values, and what removing one loses.

A kernel ``W`` (N, C, kh, kw) is read as a matrix (N, C kh kw), one row for each output channel. Removing channel ``j``
sets ``W[:, j]`` to zero; removing singular value ``i`` subtracts ``s_i u_i v_i^T``. What is lost is, Eq. (1), the sum
of squares of gradient times change: a Taylor expansion of the loss of first order, entry by entry.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compactvision import _checks as checks

from .arguments import refuse_gamma, refuse_index, refuse_kernel

BOTH = ("channels", "values")
"""Kinds of units: input channels and singular values."""

LARGEST = 2**24  # numbers in one block of candidates


def information_loss(kernel: Tensor, changed: Tensor, gradient: Tensor) -> Tensor:
    """Return what a changed kernel loses, Eq. (1): the sum of squares of gradient times change.

    Parameters
    ----------
    kernel, changed, gradient : Tensor
        The kernel (N, C, kh, kw) as trained, what takes its place, and the gradient of the loss for it.

    Returns
    -------
    Tensor
        A number, not negative; 0 for an unchanged kernel.

    Raises
    ------
    ValueError
        If shapes differ.

    Examples
    --------
    >>> import torch
    >>> from compactvision.factorization.collaborative_compression import units
    >>> kernel, gradient = torch.tensor([[[[2.0]], [[1.0]]]]), torch.tensor([[[[0.5]], [[3.0]]]])
    >>> units.information_loss(kernel, torch.zeros_like(kernel), gradient)  # (0.5 * 2)^2 + (3 * 1)^2
    tensor(10.)
    """
    refuse_kernel(kernel, gradient)
    checks.floating(changed=changed)
    if changed.shape != kernel.shape:
        raise ValueError(f"changed must have the shape of kernel, {tuple(kernel.shape)}, got {tuple(changed.shape)}")
    return (gradient * (changed - kernel)).square().sum()


class Working:
    """A kernel while its units are removed one after the other.

    Parameters
    ----------
    kernel, gradient : Tensor
        The kernel (N, C, kh, kw) as trained and the gradient of the loss for it.
    kinds : sequence of {"channels", "values"}, default both
        Units that may be removed.

    Attributes
    ----------
    current : Tensor
        What is left of the kernel, (N, C, kh kw) in float64.
    kept : Tensor
        Channels that are there, (C,) bool.
    rank : int
        Singular values that were not removed; those that vanished with a channel count.

    Raises
    ------
    ValueError
        If kernel or gradient is no finite (N, C, kh, kw), or a kind is unknown.
    """

    def __init__(self, kernel: Tensor, gradient: Tensor, kinds: tuple[str, ...] = BOTH) -> None:
        refuse_kernel(kernel, gradient)
        _check_kinds(kinds)
        self.kinds = tuple(kinds)
        self.original = kernel.detach().double().flatten(2)  # (N, C, kh kw)
        self.weight = gradient.detach().double().flatten(2).square()  # of each entry's squared change
        self.current = self.original.clone()
        self.kept = torch.ones(kernel.shape[1], dtype=torch.bool, device=kernel.device)
        self.rank = min(kernel.shape[0], math.prod(kernel.shape[1:]))

    @property
    def channels(self) -> int:
        """Number of channels that are there."""
        return int(self.kept.sum())

    @property
    def loss(self) -> float:
        """Information loss of what is left."""
        return float((self.weight * (self.current - self.original).square()).sum())

    def remove_channel(self, channel: int) -> None:
        """Set an input channel to zero."""
        refuse_index(len(self.kept), channel=channel)
        self.current[:, channel] = 0
        self.kept[channel] = False

    def remove_value(self, index: int) -> None:
        """Subtract the part of the singular value with this index, counted from the largest one that is there."""
        refuse_index(self.rank, index=index)
        u, s, vt = self.svd()
        self.current -= (s[index] * torch.outer(u[:, index], vt[index])).view_as(self.current)
        self.rank -= 1

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the singular values that were not removed with their vectors: (N, r), (r,), (r, C kh kw)."""
        u, s, vt = torch.linalg.svd(self.current.flatten(1), full_matrices=False)
        return u[:, : self.rank], s[: self.rank], vt[: self.rank]

    def importances(self, gamma: float) -> tuple[Tensor, Tensor]:
        """Return the importance of each unit, Eq. (4): what is lost without it, and what may be lost next.

        ``I = B + gamma E``. ``B`` is the information loss without the unit, ``E`` the mean loss when one more of the
        ``M`` units that then remain is removed, in closed form, Eq. (3): the changes of all channels add up to the
        whole kernel, and so do those of all singular values.

        Parameters
        ----------
        gamma : float
            Weight of the remaining space, not negative.

        Returns
        -------
        (Tensor, Tensor)
            Of the channels (C,) and of the singular values (r,) from the largest; infinite for those that cannot be
            removed: channels that are gone, the last channel, the last singular value, a kind that is left alone.

        Raises
        ------
        ValueError
            If ``gamma`` is negative or not finite.
        """
        refuse_gamma(gamma)
        both = {"channels": self._channels(gamma), "values": self._values(gamma)}
        for kind, count in (("channels", self.channels), ("values", self.rank)):
            if kind not in self.kinds or count < 2:
                both[kind] = torch.full_like(both[kind], math.inf)
        return torch.where(self.kept, both["channels"], math.inf), both["values"]

    def _importance(self, gamma: float, lost: Tensor, slope: Tensor, squares: Tensor, values: Tensor) -> Tensor:
        """Put Eq. (3) and (4) together from sums over the kernel, one entry for each candidate.

        ``lost`` is B; ``slope`` the sum of weight * (W_k - W) * W_k; ``squares`` that of weight * W_k^2, and ``values``
        that of weight * (s_i u_i v_i^T)^2 over the singular values of W_k.
        """
        if gamma == 0:
            return lost
        remaining = -1 + sum(
            count for kind, count in (("channels", self.channels), ("values", self.rank)) if kind in self.kinds
        )
        deltas = squares * ("channels" in self.kinds) + values * ("values" in self.kinds)
        expected = lost + (deltas - 2 * len(self.kinds) * slope) / max(1, remaining)
        return lost + gamma * expected

    def _channels(self, gamma: float) -> Tensor:
        change = self.current - self.original
        lost, slope, squares = (
            (self.weight * product).sum((0, 2))  # (C,)
            for product in (change.square(), change * self.current, self.current.square())
        )
        gone = (self.weight * self.original.square()).sum((0, 2))
        values = self._values_without_each() if gamma and set(self.kinds) == set(BOTH) else torch.zeros_like(lost)
        return self._importance(gamma, lost.sum() - lost + gone, slope.sum() - slope, squares.sum() - squares, values)

    def _values(self, gamma: float) -> Tensor:
        u, s, vt = self.svd()
        weight, current = self.weight.flatten(1), self.current.flatten(1)
        change = current - self.original.flatten(1)

        def along(entries: Tensor) -> Tensor:  # sum of weight * entries * (s_i u_i v_i^T), (r,)
            return s * torch.einsum("ni,nm,im->i", u, weight * entries, vt)

        own = s.square() * torch.einsum("ni,nm,im->i", u.square(), weight, vt.square())
        of_change, of_current = along(change), along(current)
        lost = (weight * change.square()).sum() - 2 * of_change + own
        slope = (weight * change * current).sum() - of_change - of_current + own
        squares = (weight * current.square()).sum() - 2 * of_current + own
        return self._importance(gamma, lost, slope, squares, own.sum() - own)

    def _values_without_each(self) -> Tensor:
        """Return, for each channel that is there, the sum of ``values`` of the kernel without it; (C,), else 0.

        No singular value is needed: ``s_i v_i^T = u_i^T W``, and ``u_i`` are the eigenvectors of ``W W^T``; or the same
        on the other side where that is the smaller one.
        """
        found = self.current.new_zeros(len(self.kept))
        indices = self.kept.nonzero().flatten()
        step = max(1, LARGEST // self.current.numel())
        for part in indices.split(step):
            without = self.current.repeat(len(part), 1, 1, 1)  # (B, N, C, kh kw)
            without[torch.arange(len(part)), :, part] = 0
            matrices, weight = without.flatten(2), self.weight.flatten(1)
            if matrices.shape[1] > matrices.shape[2]:
                matrices, weight = matrices.mT, weight.T
            vectors = torch.linalg.eigh(matrices @ matrices.mT).eigenvectors  # (B, n, n), in columns
            parts = (vectors.mT @ matrices).square()  # (B, n, m), s_i^2 v_i^2
            found[part] = ((vectors.square().mT @ weight) * parts).sum((1, 2))
        return found


def _check_kinds(kinds: tuple[str, ...]) -> None:
    """Raise a ``ValueError`` unless ``kinds`` holds "channels", "values" or both, each once."""
    if not isinstance(kinds, (tuple, list)) or not kinds or not all(isinstance(kind, str) for kind in kinds):
        raise ValueError(f"kinds must be one or both of {BOTH}, got {checks.shown(kinds)}")
    if len(set(kinds)) != len(kinds) or not set(kinds) <= set(BOTH):
        raise ValueError(f"kinds must be one or both of {BOTH}, got {kinds!r}")
