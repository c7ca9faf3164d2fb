"""How much time is left."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from compactvision import training
from compactvision.measure.state import placement


class Clock:
    """Counts down from so many minutes; without a number it never ends."""

    def __init__(self, minutes: float | None) -> None:
        self.began = time.monotonic()
        self.seconds = math.inf if minutes is None else 60.0 * float(minutes)

    @property
    def bounded(self) -> bool:
        """Whether there is an end."""
        return math.isfinite(self.seconds)

    def left(self) -> float:
        """Return the seconds that are left, possibly below 0; infinity without an end."""
        return self.seconds - (time.monotonic() - self.began)

    def over(self) -> bool:
        """Whether the end has come."""
        return self.left() <= 0


class StopInTime(training.Callback):
    """Ends a training once fewer than ``reserve`` seconds are left."""

    def __init__(self, clock: Clock, reserve: float) -> None:
        self._clock, self._reserve, self.done = clock, reserve, 0

    def settings(self) -> dict:
        """Tell a checkpoint nothing: when a run is stopped decides no number of the whole run."""
        return {}

    def on_step(self, state: training.State) -> None:
        """Ask for the end where it is time."""
        self.done = state.step
        if self._clock.left() <= self._reserve and state.step < (state.total_steps or math.inf):
            state.stop = True


def seconds_of(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest time of a few calls, after one for warming up."""
    call()
    found = math.inf
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - began)
    return found


def step_seconds(model: nn.Module, batch: tuple, loss: Callable) -> float:
    """Return the time of one training step of a copy of a network, without reading the batch."""
    trial = copy.deepcopy(model).train()
    device = placement(trial)[0]
    inputs, targets = (part.to(device) if isinstance(part, Tensor) else part for part in batch)

    def step() -> None:
        with torch.enable_grad():
            loss(trial(inputs), targets).backward()
        quiet(trial)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return seconds_of(step, 4)


def quiet(model: nn.Module) -> None:
    """Drop the gradients that a trial step has left."""
    for parameter in model.parameters():
        parameter.grad = None
