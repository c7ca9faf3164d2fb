"""Learning-rate schedules: torch's own schedulers, made when the length of the run is known.

A schedule is a callable ``(optimizer, epochs, steps) -> torch.optim.lr_scheduler.LRScheduler`` with `steps` the
optimiser steps in an epoch; :func:`compactvision.training.fit` steps the scheduler between the optimiser's steps. The
functions here give the three schedules that chapters use; any other one is a line::

    schedule=lambda optimizer, epochs, steps: torch.optim.lr_scheduler.StepLR(optimizer, 30 * steps)

Rates that the optimiser comes with are the largest ones, each group has its own.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau

from compactvision import _checks as checks


@dataclass(frozen=True)
class Schedule:
    """A schedule with a name; equal settings give equal ``repr``, by which a checkpoint recognises its run."""

    name: str
    build: Callable[[Optimizer, int, int], LRScheduler] = field(repr=False)

    def __call__(self, optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
        """Return the scheduler of a run of `epochs` epochs with `steps` optimiser steps each, both at least 1."""
        checks.instances(Optimizer, optimizer=optimizer)
        checks.counts(epochs=epochs, steps=steps)
        return self.build(optimizer, epochs, steps)


def cosine(*, final: float = 0.0) -> Schedule:
    """Half a cosine from the initial rates down to their share `final` (in [0, 1]), reached after the last step.

    A ``LambdaLR``: ``CosineAnnealingLR`` has one final rate for all groups.
    """
    checks.numbers(final=final)
    if not 0 <= final <= 1:
        raise ValueError(f"final must lie in [0, 1], not {final!r}")
    return Schedule(
        f"cosine(final={final!r})",
        lambda optimizer, epochs, steps: LambdaLR(optimizer, _half_cosine(final, epochs * steps)),
    )


def multi_step(milestones: Sequence[int | float], *, gamma: float = 0.1) -> Schedule:
    """Multiply the rates by `gamma` at each milestone: ``MultiStepLR``.

    Parameters
    ----------
    milestones : sequence of int or float
        Ints count epochs from the start of the run; floats in [0, 1) are fractions of it, rounded to the nearest whole
        epoch. Ascending.
    gamma : float
        Factor at each milestone, > 0.
    """
    points = _points(milestones)
    checks.finite(gamma=gamma)
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, not {gamma!r}")

    def build(optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
        whole = [round(point * epochs) if isinstance(point, float) else point for point in points]
        return MultiStepLR(optimizer, [epoch * steps for epoch in whole], gamma)

    return Schedule(f"multi_step(milestones={points!r}, gamma={gamma!r})", build)


def one_cycle(*, rise: float = 0.3) -> Schedule:
    """Rise from 1/25 of the initial rates to these, then fall to 1/250,000: ``OneCycleLR``; the momentum is left alone.

    Both phases are half cosines. A run too short to rise begins with the initial rates.

    Parameters
    ----------
    rise : float
        Fraction of the run before the peak, in (0, 1).
    """
    checks.numbers(rise=rise)
    if not 0 < rise < 1:
        raise ValueError(f"rise must lie in (0, 1), not {rise!r}")

    def build(optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
        total = epochs * steps
        if rise * total <= 1:
            return LambdaLR(optimizer, _half_cosine(1 / 250_000, total - 1))
        peak = [float(group["lr"]) for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peak, total_steps=total, pct_start=rise, cycle_momentum=False)

    return Schedule(f"one_cycle(rise={rise!r})", build)


def _points(milestones: Any) -> tuple[int | float, ...]:
    if not isinstance(milestones, Iterable) or isinstance(milestones, (str, bytes, Mapping)):
        raise ValueError(f"milestones must be a sequence of numbers, not {checks.shown(milestones)}")
    points = tuple(milestones)
    for point in points:
        checks.numbers(milestones=point)
        if not (isinstance(point, Integral) or (isinstance(point, float) and point < 1)) or point < 0:
            raise ValueError(f"milestones takes whole numbers >= 0 or fractions in [0, 1), not {point!r}")
    if list(points) != sorted(points):
        raise ValueError(f"milestones must ascend, not {points!r}")
    return points


def _half_cosine(final: float, length: int) -> Callable[[int], float]:
    return lambda step: final + (1 - final) * (1 + math.cos(math.pi * step / max(length, 1))) / 2


class Rates:
    """The rates of one run by its schedule; None leaves them to the caller.

    Raises
    ------
    ValueError
        `schedule` is not callable, batches have no length, or what it gives is no scheduler of torch.
    """

    def __init__(self, optimizer: Optimizer, schedule: Callable | None, epochs: int, steps: int | None):
        checks.functions(3, optional=True, schedule=schedule)
        if schedule is not None and steps is None:
            raise ValueError(f"schedule={schedule!r} counts steps, but batches has no len()")
        self.optimizer, self.schedule, self.epochs, self.steps = optimizer, schedule, epochs, steps
        self.scheduler: LRScheduler | None = None
        self.before = [(float(group["lr"]), set(group)) for group in optimizer.param_groups]

    def start(self) -> None:
        """Set the rates of the first step."""
        if self.schedule is None:
            return
        scheduler = self.schedule(self.optimizer, self.epochs, self.steps)
        if not isinstance(scheduler, LRScheduler):
            raise ValueError(f"schedule must give a scheduler of torch.optim.lr_scheduler, not {scheduler!r}")
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError("schedule gives a ReduceLROnPlateau, which follows a measure and not the steps")
        if scheduler.optimizer is not self.optimizer:
            raise ValueError("schedule gives a scheduler of another optimizer than the one that it is called with")
        self.scheduler = scheduler

    def advance(self, done: int) -> None:
        """Set the rates of the next step, `done` steps into the run; beyond its announced length they stay."""
        if self.scheduler is None or not 0 < done < self.epochs * self.steps:
            return
        if done > 1:
            self.scheduler.step()
            return
        with warnings.catch_warnings():  # torch cannot know of a step taken before an interruption, or left out in fp16
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.scheduler.step()

    def restore(self) -> None:
        """Put the initial rates back, so that the next run starts from them."""
        if self.schedule is None:
            return
        for group, (rate, keys) in zip(self.optimizer.param_groups, self.before):
            for key in set(group) - keys:
                del group[key]
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def state_dict(self) -> dict:
        """Return the scheduler's state, for a checkpoint."""
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Take over the scheduler's state of a checkpoint."""
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state)
