"""What an arm works with: a seed, a device, images, one training that can be interrupted, and a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from compactvision import data, measure, records, training
from compactvision.models import shipped
from compactvision.queue import state
from compactvision.queue.entries import Entry
from compactvision.queue.recipes import Arm, Recipe, Scale
from compactvision.records import DataSource, Record, SeedRun, Training, Value
from compactvision.training.checkpoint import write_atomically

DRY_IMAGES, DRY_BATCH, DRY_EPOCHS, DRY_STEPS = 8, 4, 2, 3
SCHEDULES = {"cosine": training.schedules.cosine, "steps": lambda: training.schedules.multi_step([0.5, 0.75])}


class Watch:
    """Callback: notes how far the training is, and ends it when the job is to stop."""

    def __init__(self, job: Job) -> None:
        self.job, self.noted = job, 0.0

    def on_step(self, now: training.State) -> None:
        """Look whether to stop; note the position every other second."""
        now.stop = self.job.stopping()
        if now.stop or time.monotonic() - self.noted > 2:
            self.job.note(steps=now.step, total=now.total_steps)
            self.noted = time.monotonic()

    def on_epoch(self, now: training.State) -> None:
        """Say the epoch's numbers."""
        row = now.history.rows[-1]
        shown = ", ".join(f"{name} {row[name]:.4g}" for name in ("epoch", "train_loss", "val_accuracy"))
        print(f"{shown}, {self.job.seconds:.0f} s in all", flush=True)  # noqa: T201 (the log of the job)
        self.job.note(steps=now.step, total=now.total_steps)


class Job:
    """One seed of one entry at work.

    Parameters
    ----------
    entry : Entry
    arm : Arm
    seed : int
    scale : Scale
    folder : Path
        Its own; checkpoint, progress and results are there.
    device : torch.device
    find : callable (name) -> Path or None
        Where the results of another entry lie.
    stopping : callable () -> bool
        Whether it is to stop.
    """

    def __init__(
        self,
        entry: Entry,
        arm: Arm,
        seed: int,
        scale: Scale,
        folder: Path,
        device: torch.device,
        find: Callable[[str], Path | None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.entry, self.arm, self.seed, self.scale = entry, arm, seed, scale
        self.folder, self.device, self.stopping, self._find = folder, device, stopping, find
        self.sources: list[DataSource] = []
        self.steps_taken = 0
        self._progress = state.progress(folder)
        self._began = time.perf_counter()
        self.note(pieces=self._progress.get("pieces", 0) + 1, error=None)

    @cached_property
    def recipe(self) -> Recipe:
        """The arm's recipe at the scale of this job."""
        recipe, scale = self.arm.recipe, self.scale
        if scale.dry:
            return replace(recipe, epochs=DRY_EPOCHS, batch_size=DRY_BATCH, dataset=recipe.dataset and "glyphs")
        epochs, size = (
            min(a or b, b) for a, b in ((scale.epochs, recipe.epochs), (scale.batch_size, recipe.batch_size))
        )
        return replace(recipe, epochs=epochs, batch_size=size)

    @cached_property
    def images(self) -> tuple[data.ImageSet, data.ImageSet]:
        """Training and test images on the device, noted for the record."""
        if not self.recipe.dataset:
            raise ValueError(f"recipe: {self.entry.name} draws its own points, and has no images")
        self.pause()
        options = {"n": DRY_IMAGES} if self.scale.dry else {}
        parts = [data.load(self.recipe.dataset, train=train, **options) for train in (True, False)]
        if self.scale.images and not self.scale.dry:
            parts = [part.take(min(self.scale.images, len(part))) for part in parts]
        self.sources = [DataSource(part.name, part.provenance, part.digest()) for part in parts]
        return tuple(part.to(self.device) for part in parts)

    @property
    def precision(self) -> str:
        """The format of the training: bf16 where the device has it."""
        return training.fast_precision(self.device) if self.device.type == "cuda" else "fp32"

    @property
    def seconds(self) -> float:
        """Seconds of work on this job so far, all pieces together."""
        return self._progress.get("seconds_before", 0.0) + time.perf_counter() - self._began

    def steps(self, number: int) -> int:
        """Return a number of steps outside the recipe's epochs, few in a dry run."""
        return DRY_STEPS if self.scale.dry else number

    def generator(self, stream: int = 0) -> torch.Generator:
        """Return the random numbers of the seed; another stream, other numbers."""
        return torch.Generator().manual_seed(1000 * self.seed + stream)

    def pause(self) -> None:
        """Raise ``training.Stopped`` if the job is to stop: for places between trainings."""
        if self.stopping():
            raise training.Stopped("stopped between two trainings")

    def note(self, **more: object) -> None:
        """Write down how far the job is."""
        memory = self._progress.get("gpu_memory_mb", 0.0)
        if self.device.type == "cuda":
            memory = max(memory, torch.cuda.max_memory_allocated() / 2**20)
        self._progress |= {**more, "gpu_memory_mb": memory}
        state.write_progress(self.folder, {**self._progress, "seconds": self.seconds})

    def once(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors that are made once and kept, so that a later piece continues with the very same."""
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            self.pause()
            _write_tensors(make(), path)
        return _read_tensors(path)

    def keep(self, model: nn.Module) -> None:
        """Keep the weights for entries that start from them, in fp16 as networks are shipped; the model gets them."""
        kept = shipped.rounded(model.state_dict())
        self.keep_tensors(kept)
        model.load_state_dict({key: t.float() if t.is_floating_point() else t for key, t in kept.items()})

    def keep_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Keep tensors for the entries that start from them."""
        _write_tensors(tensors, self.folder / state.RESULT)

    def result_of(self, name: str) -> dict[str, Tensor]:
        """Return the tensors that another entry kept, floating-point ones in float32.

        Raises
        ------
        ValueError
            If it has not finished.
        """
        path = self._find(name)
        if path is None:
            raise ValueError(f"name: {name!r} has not finished for seed {self.seed}")
        return {key: t.float() if t.is_floating_point() else t for key, t in _read_tensors(path).items()}

    def batches(self, images: data.ImageSet) -> data.Batches:
        """Return shuffled batches of the recipe's size, cropped and mirrored as it says."""
        recipe = self.recipe
        return images.batches(recipe.batch_size, shuffle=True, crop=recipe.crop, flip=recipe.flip, seed=self.seed)

    def accuracy(self, model: nn.Module) -> float:
        """Return the accuracy on the test images, in float32."""
        return measure.accuracy(model, self.images[1])

    def fit(self, model: nn.Module, callbacks: Iterable = ()) -> tuple[float, float]:
        """Train by the recipe; continues where a former piece ended. A damaged or foreign checkpoint is set aside.

        Returns
        -------
        float, float
            Accuracy on the test images after the last epoch, and the best of all epochs.

        Raises
        ------
        Stopped
            If the job is to stop; a checkpoint of the last step is written.
        """
        try:
            history = self._fit(model, callbacks)
        except ValueError as error:
            if not str(error).startswith("checkpoint="):
                raise
            print(f"set aside: {error}", flush=True)  # noqa: T201
            self._checkpoint.replace(self._checkpoint.with_suffix(".refused"))
            history = self._fit(model, callbacks)
        accuracies = history.column("val_accuracy")
        return accuracies[-1], max(accuracies)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / state.CHECKPOINT

    def _fit(self, model: nn.Module, callbacks: Iterable) -> training.History:
        recipe, (train, test) = self.recipe, self.images
        batches = self.batches(train)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
        self.pause()
        history = training.fit(
            model,
            batches,
            epochs=recipe.epochs,
            optimizer=optimizer,
            schedule=SCHEDULES[recipe.schedule](),
            callbacks=[*callbacks, Watch(self)],
            validate=lambda network: {"accuracy": measure.accuracy(network, test)},
            precision=self.precision,
            channels_last=True,
            checkpoint=self._checkpoint,
            progress=False,
            seed=self.seed,
        )
        self.steps_taken = len(history.rows) * len(batches)
        self.note(steps=self.steps_taken, total=self.steps_taken)
        return history

    def record(self, values: dict[str, Value], peak_memory_mb: float) -> Record:
        """Return the record of the finished job.

        Raises
        ------
        ValueError
            If it would say "trained" though its steps or images are not those of the arm's recipe.
        """
        self._refuse_shortened()
        commit, dirty = records.commit()
        counts = {"run.steps": self.steps_taken, "run.pieces": self._progress["pieces"]}
        memory = self._progress["gpu_memory_mb"]
        one = SeedRun(
            self.seed,
            round(self.seconds, 2),
            round(peak_memory_mb, 1),
            {**values, **counts},
            round(memory, 1) if self.device.type == "cuda" else None,
        )
        images = len(self.images[0]) if self.recipe.dataset else self.recipe.batch_size
        told = {**asdict(self.recipe), "images": images, "precision": self.precision}
        return Record(
            slug=self.entry.slug,
            profile=self.scale.kind,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=commit,
            dirty=dirty,
            method=records.method_digest(self.arm.files),
            notebook=None,
            device=records.describe_device(self.device.type),
            versions=records.versions(),
            data=self.sources,
            runs=[one],
            training=Training(self.entry.arm, list(self.arm.files), told),
        )

    def _refuse_shortened(self) -> None:
        if self.scale.kind != "trained":
            return
        names, recipe = [source.name for source in self.sources], self.arm.recipe
        wanted = [f"{recipe.dataset}/{part}" for part in ("train", "test")] if recipe.dataset else []
        images = len(self.images[0]) if recipe.dataset else recipe.batch_size
        steps = recipe.epochs * -(-images // recipe.batch_size)
        if self.recipe != recipe or names != wanted or self.steps_taken != steps:
            told = f"{self.steps_taken} steps on {', '.join(names) or 'drawn points'}"
            raise ValueError(f"{self.entry.name}: {told} are not those of the paper's training")


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save

    write_atomically(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(path.read_bytes())
