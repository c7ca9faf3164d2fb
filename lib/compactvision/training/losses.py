"""The mean loss of an epoch, kept without waiting for the device, and the error for a loss that is not finite."""

import math

import torch

from .state import State


class NonFiniteLoss(RuntimeError):  # noqa: N818 (says what happened)
    """The loss became NaN or infinite; ``epoch`` and ``step`` count from 0, ``checkpoint`` is the last good one."""

    def __init__(self, value: float, epoch: int, step: int, checkpoint: str | None):
        good = "none was written" if checkpoint is None else checkpoint
        super().__init__(
            f"the loss is {value} in epoch {epoch}, step {step} (epochs and the run's steps count from 0); "
            f"last good checkpoint: {good}"
        )
        self.value, self.epoch, self.step, self.checkpoint = value, epoch, step, checkpoint


class LossMeter:
    """Mean loss over the samples of an epoch.

    On a GPU the losses stay on the device and are read `interval` steps at a time, so that training never waits for
    a single one; a loss that is not finite is found at most that many steps late and reported with its own step.
    """

    def __init__(self, interval: int):
        self.interval = interval
        self.pending: list[tuple] = []
        self.total, self.count = 0.0, 0

    def add(self, state: State, samples: int) -> None:
        """Note the loss of the step under way, the mean over `samples` samples."""
        self.pending.append((state.loss, samples, state.epoch, state.step, state.checkpoint))
        if len(self.pending) >= self.interval:
            self.flush()

    def flush(self) -> None:
        """Read what is on the device; raises :class:`NonFiniteLoss` for the first loss that is not finite."""
        if not self.pending:
            return
        losses, samples, *places = zip(*self.pending, strict=True)
        self.pending = []
        for value, count, *place in zip(torch.stack(losses).tolist(), samples, *places, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLoss(value, *place)
            self.total += value * count
            self.count += count

    def take(self) -> float:
        """Mean since the last call, NaN when there was no sample."""
        self.flush()
        mean = self.total / self.count if self.count else math.nan
        self.total, self.count = 0.0, 0
        return mean

    def state_dict(self) -> dict:
        """Return the sums so far; a loss that is not finite raises here, so it never gets into a checkpoint."""
        self.flush()
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        """Take over the sums of a checkpoint."""
        self.pending, self.total, self.count = [], state["total"], state["count"]
