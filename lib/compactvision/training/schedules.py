"""Learning-rate schedules as factors on each parameter group's initial learning rate.

A schedule is a callable ``(position, total) -> factor``. Position and total count optimiser steps when ``per`` is
"step" and epochs when it is "epoch". Because the factor is a closed form of the position, resuming needs no state.
:func:`compactvision.training.fit` takes any such callable; a plain function without an attribute ``per`` is read
per step.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Schedule:
    """A named factor curve with an optional linear warm-up; equal settings give equal ``repr``.

    Parameters
    ----------
    name : str
        The curve with its settings, for records and for recognising a run.
    curve : callable (position, total) -> float
        The factor without the warm-up.
    per : {"step", "epoch"}
        The unit of position, of total and of whole-numbered settings.
    warmup : int or float
        Length of the warm-up: an int counts steps or epochs (see `per`), a float in [0, 1) is a fraction of the run.
    warmup_start : float
        Factor of the curve's first value at position 0, in [0, 1]; it rises linearly to 1 at the end of the warm-up.
    shift : bool
        True when the curve starts after the warm-up and spans the rest, False when it counts from the start.
    """

    name: str
    curve: Callable[[float, float], float] = field(repr=False)
    per: str = "step"
    warmup: int | float = 0
    warmup_start: float = 0.01
    shift: bool = field(default=True, repr=False)

    def __post_init__(self):
        if self.per not in ("step", "epoch"):
            raise ValueError(f"per must be 'step' or 'epoch', not {self.per!r}")
        _check_length("warmup", self.warmup)
        if not 0 <= self.warmup_start <= 1:
            raise ValueError(f"warmup_start must lie in [0, 1], not {self.warmup_start!r}")

    def __call__(self, position: float, total: float) -> float:
        """Return the factor at `position` in [0, total)."""
        warmup = _length(self.warmup, total)
        if isinstance(self.warmup, float):
            warmup = min(warmup, total - 1)  # a fraction always leaves something
        if warmup >= total:
            raise ValueError(f"warmup={self.warmup!r} leaves nothing of a run of {total} {self.per}s")
        skipped = warmup if self.shift else 0
        factor = self.curve(max(position - skipped, 0), total - skipped)
        if position < warmup:
            factor *= self.warmup_start + (1 - self.warmup_start) * position / warmup
        return factor


def constant(*, warmup: int | float = 0, warmup_start: float = 0.01, per: str = "step") -> Schedule:
    """Factor 1 throughout, after the warm-up."""
    return Schedule("constant", lambda position, total: 1.0, per, warmup, warmup_start)


def cosine(*, final: float = 0.0, warmup: int | float = 0, warmup_start: float = 0.01, per: str = "step") -> Schedule:
    """Half a cosine from 1 down to `final` (in [0, 1]), reached at the end of the run.

    Equals ``torch.optim.lr_scheduler.CosineAnnealingLR`` with ``T_max`` the length after the warm-up.
    """
    if not 0 <= final <= 1:
        raise ValueError(f"final must lie in [0, 1], not {final!r}")

    def curve(position: float, total: float) -> float:
        return final + (1 - final) * (1 + math.cos(math.pi * position / total)) / 2

    return Schedule(f"cosine(final={final!r})", curve, per, warmup, warmup_start)


def multi_step(
    milestones: Sequence[int | float],
    *,
    gamma: float = 0.1,
    warmup: int | float = 0,
    warmup_start: float = 0.01,
    per: str = "epoch",
) -> Schedule:
    """Multiply by `gamma` at each milestone, as ``torch.optim.lr_scheduler.MultiStepLR`` does.

    Parameters
    ----------
    milestones : sequence of int or float
        Ints count epochs (or steps, see `per`) from the start of the run, warm-up included; floats in (0, 1) are
        fractions of the run, rounded to the nearest whole unit. Ascending.
    gamma : float
        Factor at each milestone, > 0.
    """
    points = tuple(milestones)
    for point in points:
        _check_length("milestones", point)
    if list(points) != sorted(points):
        raise ValueError(f"milestones must ascend, not {points!r}")
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, not {gamma!r}")

    def curve(position: float, total: float) -> float:
        return gamma ** bisect_right([_length(point, total) for point in points], position)

    name = f"multi_step(milestones={points!r}, gamma={gamma!r})"
    return Schedule(name, curve, per, warmup, warmup_start, shift=False)


multistep = multi_step


def poly(power: float = 0.9, *, warmup: int | float = 0, warmup_start: float = 0.01, per: str = "step") -> Schedule:
    """``(1 - position / total) ** power`` with `power` > 0, as ``torch.optim.lr_scheduler.PolynomialLR``."""
    if not power > 0:
        raise ValueError(f"power must be positive, not {power!r}")

    def curve(position: float, total: float) -> float:
        return (1 - min(position / total, 1)) ** power

    return Schedule(f"poly(power={power!r})", curve, per, warmup, warmup_start)


def one_cycle(
    *, rise: float = 0.3, start: float = 1 / 25, final: float = 1 / 250_000, anneal: str = "cos", per: str = "step"
) -> Schedule:
    """Rise from `start` to 1 within the fraction `rise` of the run, then fall to `final`.

    The group's initial learning rate is the peak. Equals ``torch.optim.lr_scheduler.OneCycleLR`` (two phases,
    ``cycle_momentum=False``) with ``div_factor = 1 / start`` and ``final_div_factor = start / final``; the defaults
    are the same. The momentum is left alone.

    Parameters
    ----------
    rise : float
        Fraction of the run before the peak, in (0, 1).
    start, final : float
        First and last factor, in [0, 1].
    anneal : {"cos", "linear"}
        Shape of both phases.
    """
    if not 0 < rise < 1:
        raise ValueError(f"rise must lie in (0, 1), not {rise!r}")
    for name, value in (("start", start), ("final", final)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], not {value!r}")
    if anneal not in ("cos", "linear"):
        raise ValueError(f"anneal must be 'cos' or 'linear', not {anneal!r}")

    def between(first: float, last: float, fraction: float) -> float:
        if anneal == "cos":
            fraction = (1 - math.cos(math.pi * fraction)) / 2
        return first + (last - first) * fraction

    def curve(position: float, total: float) -> float:
        peak = max(rise * total - 1, 0.0)  # position of the peak, as torch counts it
        if position < peak:
            return between(start, 1.0, position / peak)
        return between(1.0, final, (position - peak) / (total - 1 - peak)) if position > peak else 1.0

    name = f"one_cycle(rise={rise!r}, start={start!r}, final={final!r}, anneal={anneal!r})"
    return Schedule(name, curve, per)


def _check_length(name: str, value: int | float) -> None:
    if value < 0 or (isinstance(value, float) and not value < 1):
        raise ValueError(f"{name} takes whole numbers >= 0 or fractions in [0, 1), not {value!r}")


def _length(value: int | float, total: float) -> int:
    return round(value * total) if isinstance(value, float) else value


class Rates:
    """Sets each group's learning rate to its initial one times the schedule's factor; None leaves all to the caller.

    Raises
    ------
    ValueError
        `schedule` is not callable, gives no finite factor >= 0 at both ends of the run, or counts steps of batches
        that have no length.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Callable | None, epochs: int, steps: int | None):
        self.optimizer, self.schedule = optimizer, schedule
        self.by_epoch = getattr(schedule, "per", "step") == "epoch"
        if schedule is None:
            return
        if not callable(schedule):
            raise ValueError(f"schedule must be callable (position, total) -> factor, not {schedule!r}")
        if steps is None and not self.by_epoch:
            raise ValueError(f"schedule={schedule!r} counts steps, but batches has no len(); use per='epoch'")
        self.total = epochs if self.by_epoch else epochs * steps
        for position in (0, self.total - 1):
            factor = schedule(position, self.total)
            if not (math.isfinite(factor) and factor >= 0):
                raise ValueError(f"schedule={schedule!r} gives the factor {factor!r} at {position} of {self.total}")
        for group in optimizer.param_groups:
            group["base_lr"] = float(group["lr"])

    def set(self, epoch: int, step: int) -> None:
        """Set the rates of one step, counted from 0 over the whole run."""
        if self.schedule is None:
            return
        factor = self.schedule(min(epoch if self.by_epoch else step, self.total - 1), self.total)
        for group in self.optimizer.param_groups:
            _set_rate(group, group.setdefault("base_lr", float(group["lr"])) * factor)

    def restore(self) -> None:
        """Put the initial rates back, so that the next run starts from them."""
        for group in self.optimizer.param_groups:
            if "base_lr" in group:
                _set_rate(group, group.pop("base_lr"))


def _set_rate(group: dict, rate: float) -> None:
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
