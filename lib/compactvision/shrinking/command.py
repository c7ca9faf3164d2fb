"""What ``python -m compactvision shrink`` does: pictures and a network in, a smaller one and its table out."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from compactvision import training
from compactvision.data.batches import Batches
from compactvision.experiment import resolve_device
from compactvision.shrinking import arguments, writing
from compactvision.shrinking.clock import Clock, StopInTime, step_seconds
from compactvision.shrinking.journal import Journal
from compactvision.shrinking.networks import Named, named
from compactvision.shrinking.pictures import Pictures, pictures
from compactvision.shrinking.report import Report
from compactvision.shrinking.sources import Steps
from compactvision.shrinking.whole import compress
from compactvision.training.digests import digest

Say = Callable[[str], Any]
FIRST_SHARE, FIRST_MOST = 0.4, 0.5  # of the time, for a network that is not trained: planned, and where it stops
LAST_SECONDS = 30.0  # for ONNX


def execute(asked: argparse.Namespace, say: Say) -> int:
    """Do it; returns the exit status."""
    began = time.monotonic()
    _check(asked)

    def tell(text: str) -> None:
        say(f"{_elapsed(time.monotonic() - began)}  {text}")

    clock = Clock(asked.minutes)
    asked.out.mkdir(parents=True, exist_ok=True)
    device = str(resolve_device(asked.device))
    read = pictures(asked.data, asked.size, train_fraction=1 - asked.test_share, seed=asked.seed)
    found = named(asked.model, asked.weights, read.train.num_classes, seed=asked.seed)
    read, notes = _normalised(read, found, asked), [*read.said, *found.said]
    for note in notes:
        tell(note)
    side = read.train.images.shape[-1]
    crop = side // 8 if asked.crop is None else asked.crop
    train, test = read.batches(asked.batch_size, crop=crop, flip=asked.flip, device=device)
    model = found.model.to(device)
    if not found.trained:
        notes.append(_train_first(model, train, asked, clock, tell))
    small, report = compress(model, train, test, **_options(asked, clock, tell))
    report = _with_input(report, read, asked)
    notes += _written(small, report, found, read, asked, tell)
    say("")
    say(report.to_markdown())
    for path in writing.write_report(report, asked.out, notes):
        say(f"written: {path}")
    return int(any(note.startswith(writing.NO_FILE) for note in notes))


def _check(asked: argparse.Namespace) -> None:
    """Refuse options that make no sense before anything is read."""
    for name in ("minutes", "epochs", "learning_rate", "size", "batch_size", "first_epochs"):
        value = getattr(asked, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")
    arguments.budget(asked.keep_macs, asked.latency_ms)
    if not 0 < asked.test_share < 1:
        raise ValueError(f"--test-share must lie in (0, 1), got {asked.test_share}")
    if (asked.mean is None) != (asked.std is None):
        raise ValueError("--mean and --std are given together")
    for name in ("mean", "std"):
        for value in getattr(asked, name) or ():
            if not math.isfinite(value) or (name == "std" and value <= 0):
                raise ValueError(f"--{name} must be {'positive' if name == 'std' else 'finite'}, got {value}")
    if asked.seed < 0:
        raise ValueError(f"--seed must not be negative, got {asked.seed}")
    if asked.crop is not None and asked.crop < 0:
        raise ValueError(f"--crop must not be negative, got {asked.crop}")
    if asked.batch_size < 2:
        raise ValueError(f"--batch-size must be at least 2, got {asked.batch_size}")
    if asked.out.exists() and not asked.out.is_dir():
        raise ValueError(f"--out must be a folder, but {str(asked.out)!r} is a file")


def _normalised(read: Pictures, found: Named, asked: argparse.Namespace) -> Pictures:
    if asked.mean is not None:
        return read.normalised(tuple(asked.mean), tuple(asked.std))
    return read if found.moments is None else read.normalised(*found.moments)


def _options(asked: argparse.Namespace, clock: Clock, tell: Say) -> dict[str, Any]:
    last = 0.0 if asked.no_onnx else LAST_SECONDS
    left = None if not clock.bounded else max(1.0, clock.left() - last) / 60
    return {
        "keep_macs": asked.keep_macs,
        "latency_ms": asked.latency_ms,
        "importance": asked.importance,
        "minutes": left,
        "epochs": asked.epochs,
        "learning_rate": asked.learning_rate,
        "frozen_batch_norm": asked.frozen_batch_norm,
        "rivals": tuple(asked.rivals),
        "plan_only": asked.plan_only,
        "journal": asked.out / "journal",
        "seed": asked.seed,
        "progress": True,
        "say": tell,
    }


def _train_first(model: nn.Module, train: Batches, asked: argparse.Namespace, clock: Clock, tell: Say) -> str:
    """Train a network that has no weights for these classes, and return what was done."""
    run = {"model": asked.model, "weights": digest(dict(model.state_dict())), "pictures": train.images.digest()}
    run |= {"epochs": asked.first_epochs, "batch_size": asked.batch_size, "seed": asked.seed}
    journal = Journal(asked.out / "journal" / "first", run | {"crop": train.crop, "flip": train.flip})
    held = journal.read("first")
    if held is not None:
        journal.fill_("first", model)
        return str(held["said"])
    tell("the network is not trained for these classes: it is trained first")
    steps = _first_steps(model, train, asked, clock, journal)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    options: dict[str, Any] = {"optimizer": optimizer, "schedule": training.schedules.one_cycle()}
    options |= {"channels_last": True, "checkpoint": journal.checkpoint("first"), "seed": asked.seed}
    stop = StopInTime(clock, (1 - FIRST_MOST) * clock.left() if clock.bounded else 0.0)
    options["callbacks"] = [stop]  # also without an end: a checkpoint knows its callbacks
    said = f"the whole network was trained on the training pictures first, {steps / len(train):.1f} passes"
    try:
        training.fit(model, Steps(train, steps), epochs=1, every_steps=50, **options)
    except training.Stopped:
        said += f" planned, and stopped by the time after {stop.done:,} of {steps:,} steps"
    model.eval()
    tell(said)
    journal.keep("first", {"said": said}, model)
    journal.forget_checkpoint("first")
    return said


def _first_steps(model: nn.Module, train: Batches, asked: argparse.Namespace, clock: Clock, journal: Journal) -> int:
    """Return the steps of the first training: fewer than were asked for where its share of the time holds no more."""
    held = journal.read("steps")
    if held is not None:
        return int(held["steps"])
    steps = asked.first_epochs * len(train)
    if clock.bounded:
        seconds = step_seconds(model, next(iter(train)), F.cross_entropy)
        steps = max(1, min(steps, int(FIRST_SHARE * clock.left() / seconds)))
    journal.keep("steps", {"steps": steps})
    return steps


def _with_input(report: Report, read: Pictures, asked: argparse.Namespace) -> Report:
    """Return the report with what a user of the network has to know."""
    images = read.train
    told = {"model": asked.model, "classes": list(images.classes), "size": list(images.images.shape[-2:])}
    told |= {"mean": list(images.mean), "std": list(images.std), "data": images.provenance}
    return replace(report, conditions={**report.conditions, **told})


def _written(
    small: nn.Module, report: Report, found: Named, read: Pictures, asked: argparse.Namespace, tell: Say
) -> list[str]:
    """Write the network, and return notes for the report."""
    images = read.train
    shape = " x ".join(map(str, images.images.shape[-2:]))
    notes = [
        f"input: RGB pictures of {shape} pixels in [0, 1], minus {_numbers(images.mean)}, over {_numbers(images.std)}",
        f"answers: {', '.join(images.classes)}",
    ]
    if asked.plan_only:
        return [*notes, "plan only: nothing was tuned and no network written"]
    small = small.cpu()
    line = writing.write_weights(small, asked.out / "small.safetensors", found.builder, found.arguments)
    notes.append(f"weights: {line} gives the network" + ("" if found.builder else "; BUILD builds the whole one"))
    if asked.pickle:
        writing.write_pickle(small, asked.out / "small.pt")
        notes.append("small.pt: the whole module, pickled as was asked for; reading it runs code")
    if not asked.no_onnx:
        example = next(iter(read.test.batches(min(8, len(read.test)))))[0]
        notes.append(writing.write_onnx(small, example, asked.out / "small.onnx", tell))
        tell(notes[-1])
    return notes


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _elapsed(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
