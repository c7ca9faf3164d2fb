"""What a callback sees, and the callbacks of a run as one object."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .history import History

HOOKS = ("on_start", "before_step", "on_step", "on_epoch")


class Stopped(RuntimeError):  # noqa: N818 (a stop that was asked for is no error)
    """A callback ended the run before its last step; called again, it continues from its checkpoint if it has one."""


@dataclass
class State:
    """The run as callbacks see it; everything may be read, the model's parameters and gradients may be changed.

    ``epoch`` counts from 0 and is, in ``on_epoch``, the epoch that has just ended. ``step`` and ``batch`` count the
    optimiser steps done in the run and in this epoch: in ``before_step`` they are the index of the step under way,
    in ``on_step`` it is counted already. ``loss`` is a detached scalar on the device, the mean over the batch.
    A callback that sets ``stop`` in ``on_step`` ends the run there: the checkpoint is written and `Stopped` raised.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    epochs: int
    steps_per_epoch: int | None  # None where the batches have no length
    epoch: int = 0
    batch: int = 0
    step: int = 0
    inputs: Any = None
    targets: Any = None
    outputs: Any = None
    loss: Tensor | None = None
    stop: bool = False
    checkpoint: str | None = None  # path of the last good checkpoint
    history: History = field(default_factory=History)

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the whole run, None where the batches have no length."""
        return None if self.steps_per_epoch is None else self.epochs * self.steps_per_epoch

    @property
    def lr(self) -> float:
        """Current learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def lrs(self) -> list[float]:
        """Current learning rate of every parameter group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict:
        """Return the position of the run, for a checkpoint."""
        return {"epoch": self.epoch, "batch": self.batch, "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Take over the position of a checkpoint."""
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]


def group_of(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict | None:
    """Return the optimiser's group that holds a parameter, with its learning rate ``"lr"``; None if no group does.

    Ask anew at each step: an optimiser that loads a checkpoint replaces its groups.
    """
    return next((g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), None)


class Callback:
    """Base with empty hooks; a callback may as well be any object that has some of them.

    ``on_start(state)`` is called once, before a checkpoint is loaded, so it runs alike in a fresh and in a resumed
    run; ``before_step(state)`` after the gradients are ready (unscaled, not yet clipped);
    ``on_step(state)`` after the optimiser's step; ``on_epoch(state)`` after validation, with the epoch's row already
    in ``state.history``. ``state_dict`` holds tensors and plain Python data only; ``load_state_dict`` is called
    before the model's weights are loaded, so it may bring the model into the shape that it had. Hooks run with
    gradients recorded: wrap changes of weights in ``torch.no_grad()``.

    A checkpoint compares the settings of callbacks: each argument of the constructor that an attribute of the same
    name keeps. A callback that keeps them otherwise, or has some that decide no number, tells them by a method
    ``settings()`` that returns a dict of plain data.
    """

    def on_start(self, state: State) -> None:
        """Act before the first step."""

    def before_step(self, state: State) -> None:
        """Act when the gradients are ready."""

    def on_step(self, state: State) -> None:
        """Act when the optimiser has stepped."""

    def on_epoch(self, state: State) -> None:
        """Act when the epoch has ended."""

    def state_dict(self) -> dict:
        """Return what the callback needs to continue after an interruption."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Take over the state of a checkpoint."""


class Callbacks:
    """Several callbacks, called in their order."""

    def __init__(self, callbacks: Iterable):
        if not isinstance(callbacks, Iterable):
            raise ValueError(f"callbacks must be an iterable of callbacks, not {callbacks!r}")
        self.members = list(callbacks)
        for member in self.members:
            if isinstance(member, type) or not any(callable(getattr(member, hook, None)) for hook in HOOKS):
                raise ValueError(f"callbacks: {member!r} is no object with one of the hooks {', '.join(HOOKS)}")

    def call(self, hook: str, state: State) -> None:
        """Call one hook of every member that has it."""
        for member in self.members:
            function = getattr(member, hook, None)
            if function is not None:
                function(state)

    def state_dict(self) -> dict:
        """States of the members, ``{}`` for those without one."""
        return {"members": [m.state_dict() if hasattr(m, "state_dict") else {} for m in self.members]}

    def load_state_dict(self, state: dict) -> None:
        """Hand each member the state that it had."""
        for member, saved in zip(self.members, state["members"], strict=True):
            if hasattr(member, "load_state_dict"):
                member.load_state_dict(saved)
