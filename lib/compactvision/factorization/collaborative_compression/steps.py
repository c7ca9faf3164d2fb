"""Which units of one layer go: the multi-step heuristic, whose steps make a path in the plane (channels kept, rank)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from compactvision import _checks as checks

from .arguments import refuse_gamma, refuse_index, refuse_rate
from .arithmetic import largest_rank_of, saved_by
from .costs import Choice
from .rates import LARGEST_RATE
from .units import BOTH, Working

VALUE = -1
"""Stands for a singular value among the removed channels of a path."""


@dataclass(frozen=True)
class Path:
    """Units of one layer in the order in which the heuristic removes them.

    Attributes
    ----------
    shape : tuple of int
        Of the kernel, (N, C, kh, kw).
    removed : tuple of int
        For each removal the input channel, or -1 for a singular value.
    losses : tuple of float
        Information loss after each removal, of the kernel as the heuristic sees it.

    Examples
    --------
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> path = cc.steps.Path((6, 5, 3, 3), removed=(-1, 0, -1, -1, 3))  # a value, channel 0, two values, channel 3
    >>> path.points()
    [(5, 6), (5, 5), (4, 5), (4, 4), (4, 3), (3, 3)]
    >>> path.choice(0.3), round(path.reach, 3)
    (Choice(keep=(1, 2, 3, 4), rank=4), 0.633)
    """

    shape: tuple[int, ...]
    removed: tuple[int, ...] = ()
    losses: tuple[float, ...] = field(default=(), repr=False)

    def points(self) -> list[tuple[int, int]]:
        """Return (channels kept, rank) before the first removal and after each one."""
        found = [(self.shape[1], largest_rank_of(self.shape, self.shape[1]))]
        for unit in self.removed:
            channels, rank = found[-1]
            found.append((channels, rank - 1) if unit == VALUE else (channels - 1, rank))
        return found

    @property
    def reach(self) -> float:
        """Largest share that the path saves."""
        return self.saved_after(len(self.removed))

    def saved_after(self, count: int) -> float:
        """Return the share saved after so many removals, in the cheaper of the two forms: factors or one kernel."""
        refuse_index(len(self.removed) + 1, count=count)
        channels, rank = self.points()[count]
        return max(self._saved(channels, rank), saved_by(self.shape, channels))

    def choice(self, rate: float) -> Choice:
        """Return what stays where the path first saves this share of the layer's MACs.

        Where channels alone save it, the layer stays one convolution. Ranks that the kept channels cannot have are
        clipped.

        Raises
        ------
        ValueError
            If the path does not save that much.
        """
        refuse_rate(rate=rate)
        if rate <= 0:
            return Choice(tuple(range(self.shape[1])))
        points = self.points()
        for count, (channels, rank) in enumerate(points):
            alone = saved_by(self.shape, channels) >= rate - ROUNDING
            if alone or self._saved(channels, rank) >= rate - ROUNDING:
                gone = set(self.removed[:count])
                keep = tuple(channel for channel in range(self.shape[1]) if channel not in gone)
                return Choice(keep, None if alone else min(rank, largest_rank_of(self.shape, channels)))
        raise ValueError(f"rate={rate} is above what the path saves, {self.reach:.4f}")

    def _saved(self, channels: int, rank: int) -> float:
        if rank == largest_rank_of(self.shape, self.shape[1]):  # nothing was removed: no factors
            return -math.inf
        return saved_by(self.shape, channels, min(rank, largest_rank_of(self.shape, channels)))


ROUNDING = 1e-12  # of a rate


def removal_path(
    kernel: Tensor,
    gradient: Tensor,
    *,
    gamma: float = 0.9,
    kinds: tuple[str, ...] = BOTH,
    step: float = 0.01,
    until: float = LARGEST_RATE,
) -> Path:
    """Remove the units of least importance, a few at a time, and return their order.

    Importances, Eq. (4), are those of the kernel as it is; after ``max(1, floor(step * (C + R)))`` removals they are
    renewed. Where a step holds several singular values, those behind a removed one move up by one.

    Parameters
    ----------
    kernel, gradient : Tensor
        The kernel (N, C, kh, kw) as trained and the gradient of the loss for it.
    gamma : float, default 0.9
        Weight of the remaining space, not negative; 0 looks at the removed part alone.
    kinds : sequence of {"channels", "values"}, default both
        Units that may be removed.
    step : float, default 0.01
        Share of the units that goes before importances are renewed, in [0, 1].
    until : float, default 0.95
        Rate at which the path ends, in (0, 1].

    Returns
    -------
    Path
        A channel and a singular value always stay, so that it may end below ``until``.

    Raises
    ------
    ValueError
        If kernel or gradient is no finite (N, C, kh, kw), a kind is unknown, or a number is out of its range.

    Examples
    --------
    >>> import torch
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> kernel, gradient = torch.randn(2, 6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> path = cc.removal_path(kernel, gradient)
    >>> path.points()[0], path.choice(0.5).rank
    ((5, 6), 3)
    """
    refuse_gamma(gamma)
    checks.numbers(step=step, until=until)
    if not 0 <= step <= 1 or not 0 < until <= 1:
        raise ValueError(f"step must be in [0, 1] and until in (0, 1], got {step} and {until}")
    state = Working(kernel, gradient, kinds)
    shape = tuple(kernel.shape)
    at_once = max(1, int(step * (shape[1] + state.rank)))
    removed: list[int] = []
    losses: list[float] = []
    saved_now = 0.0
    while saved_now < until:
        units = _least(state, gamma, at_once)
        if not units:
            break
        for unit, index in units:
            if unit == VALUE:
                state.remove_value(index)
            else:
                state.remove_channel(unit)
            removed.append(unit)
            losses.append(state.loss)
            saved_now = Path(shape, tuple(removed)).saved_after(len(removed))
            if saved_now >= until:
                break
    return Path(shape, tuple(removed), tuple(losses))


def _least(state: Working, gamma: float, count: int) -> list[tuple[int, int]]:
    """Return the units of least importance: (channel, 0), or (-1, index of the value once those before are gone)."""
    channels, values = state.importances(gamma)
    scores = torch.cat([channels, values])
    order = [index for index in torch.argsort(scores, stable=True).tolist() if scores[index].isfinite()]
    left = {"channels": state.channels - 1, "values": state.rank - 1}  # one of each stays
    units: list[tuple[int, int]] = []
    before: list[int] = []
    for index in order:
        kind = "channels" if index < len(channels) else "values"
        if len(units) == count or left[kind] == 0:
            continue
        left[kind] -= 1
        if kind == "channels":
            units.append((index, 0))
        else:
            value = index - len(channels)
            units.append((VALUE, value - sum(earlier < value for earlier in before)))
            before.append(value)
    return units
