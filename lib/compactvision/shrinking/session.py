"""What the stages of one run share: the caller's networks and batches, the clock, the journal, and the table so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import measure, training
from compactvision.measure.state import placement
from compactvision.shrinking import sources
from compactvision.shrinking.clock import Clock, StopInTime, seconds_of, step_seconds
from compactvision.shrinking.journal import Journal
from compactvision.shrinking.report import Row
from compactvision.shrinking.words import skipped

MOST_PASSES, PASSES = 20, 3  # of a tuning: with a time and no number of passes, and without either
SECONDS_BETWEEN = 20  # checkpoints
SHARE_TO_CHOOSE, PASSES_TO_CHOOSE = 0.15, 10  # of the time, over the images that judge; with random channels, too
FEWEST_TO_CHOOSE = 16
SHARE_TO_TIME = 0.05  # of what is left, to time a step


@dataclass
class Session:
    """One run of ``compress``; arguments as there."""

    model: nn.Module
    train: Iterable
    test: Iterable
    metric: Callable
    loss: Callable
    clock: Clock
    epochs: float | None
    learning_rate: float
    seed: int
    say: Callable[[str], object]
    progress: bool
    frozen_batch_norm: bool = False
    example: Tensor = field(init=False)
    fit: list = field(init=False)
    judge: list = field(init=False)
    largest: tuple = field(init=False)
    journal: Journal = field(init=False)
    rows: dict[str, Row] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of one evaluation on the test batches
    steps: int = 0

    def __post_init__(self) -> None:
        device = placement(self.model)[0]
        self.example = sources.example_of("test_batches", self.test).to(device)
        self.fit, self.judge = sources.calibration(self.train)
        self.largest = max(self.fit, key=lambda batch: len(batch[0]))

    def shorten(self) -> None:
        """Choose by fewer images where those that there are would take too much of the time; a journal decides once."""
        held = self.journal.read("images")
        if held is None and self.clock.bounded:
            fitting = SHARE_TO_CHOOSE * self.clock.left() / (PASSES_TO_CHOOSE * self.image_seconds())
            held = {"images": max(FEWEST_TO_CHOOSE, int(fitting))}
            self.journal.keep("images", held)
        if held is not None:
            self.fit, self.judge = (sources.first(part, int(held["images"])) for part in (self.fit, self.judge))

    def image_seconds(self) -> float:
        """Return the time of one image in a forward pass of the whole network."""
        if "image" not in self.seconds:
            inputs = self.largest[0][:FEWEST_TO_CHOOSE].to(self.example.device)
            with measure.evaluating(self.model), torch.no_grad():
                self.seconds["image"] = seconds_of(lambda: self.model(inputs), 1) / len(inputs)
        return self.seconds["image"]

    def value(self, model: nn.Module) -> float:
        """Return the metric on the test batches."""
        found = self.metric(model, self.test)
        checks.finite(metric=found)
        return float(found)

    def loss_of(self, model: nn.Module) -> float:
        """Return the loss on the images that judge."""
        return training.evaluate(model, self.judge, loss=self.loss)["loss"]

    def put(self, stage: str, title: str, **held: Any) -> Row:
        """Enter a row in the table and in the journal."""
        row = Row(stage, title, **held)
        self.rows[stage] = row
        told = [] if row.metric is None else [f"metric {row.metric:.4g}"]
        self.say(f"{title}: {', '.join([*told, *([row.remark] if row.remark else [])]) or 'done'}")
        return row

    def skip(self, stage: str, title: str, reason: str) -> None:
        """Enter a row that says why a stage was left out."""
        self.put(stage, title, remark=skipped(reason))

    def counted(self, model: nn.Module) -> dict[str, int]:
        """Return parameters and MACs of a network, by the fields of a row."""
        return {"parameters": measure.parameters(model), "macs": measure.macs(model, self.example)}

    def amend(self, stage: str, **held: Any) -> None:
        """Change fields of a row."""
        self.rows[stage] = replace(self.rows[stage], **held)

    def step_seconds(self, model: nn.Module) -> float:
        """Return the time of one training step, reading the batch included; a guess where timing it takes too long."""
        guess = 3 * len(self.largest[0]) * self.image_seconds()
        if 5 * guess > SHARE_TO_TIME * self.clock.left():
            return guess
        if "reading" not in self.seconds:
            self.seconds["reading"] = self.reading_seconds()
        return step_seconds(model, self.largest, self.loss) + self.seconds["reading"]

    def reading_seconds(self) -> float:
        """Return the time of reading one batch of the training data."""
        few = 3

        def read() -> None:
            for number, _ in enumerate(self.train):
                if number == few - 1:
                    break

        return seconds_of(read, 1) / few

    def wanted_steps(self) -> tuple[int, int]:
        """Return the steps of a tuning where time is no matter, and those that should at least be had: one pass."""
        one = sources.count(self.train)
        passes = self.epochs or (MOST_PASSES if self.clock.bounded else PASSES)
        return max(1, round(passes * one)), min(max(1, round(passes * one)), one)

    def tune(self, network: nn.Module, name: str, reserve: float) -> tuple[nn.Module, str]:
        """Return the network, trained in place by the one schedule of all, and what there is to say of it."""
        stop = StopInTime(self.clock, reserve)
        held = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if not held:
            return network, "nothing to tune: no parameter requires a gradient"
        before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        if self.frozen_batch_norm:
            _freeze(network)
        try:
            training.fit(
                network,
                sources.Steps(self.train, self.steps),
                epochs=1,
                optimizer=torch.optim.SGD(held, self.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True),
                loss=self.loss,
                schedule=training.schedules.one_cycle(),
                callbacks=[stop],
                channels_last=True,
                checkpoint=self.journal.checkpoint(name),
                every_steps=self._every(network),
                progress=self.progress,
                seed=self.seed,
            )
        except training.Stopped:
            return network.eval(), f"stopped by the time after {stop.done:,} of {self.steps:,} steps"
        except training.NonFiniteLoss:
            network.load_state_dict(before)
            return network.eval(), f"tuning diverged at learning rate {self.learning_rate:g} and was taken back"
        return network.eval(), ""

    def _every(self, network: nn.Module) -> int | None:
        if self.journal.folder is None:
            return None
        return max(1, int(SECONDS_BETWEEN / max(self.step_seconds(network), 1e-3)))


def _freeze(network: nn.Module) -> None:
    """Set the network to training mode and its BatchNorms to evaluation mode, which ``training.fit`` leaves so."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
