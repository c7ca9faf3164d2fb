"""What is read from the caller's batches: an example, images to calibrate on, a training of so many steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from compactvision import _checks as checks

MOST_IMAGES, FEWEST_IMAGES = 128, 64
PIXELS = 2**21  # about so many go into least squares


def again(**values: Any) -> None:
    """Refuse batches that cannot be read several times."""
    checks.batches(**values)
    for name, value in values.items():
        if isinstance(value, Iterator):
            raise ValueError(
                f"{name} is an iterator, which can be read once only; give a DataLoader, a list or "
                "image_set.batches(...)"
            )


def example_of(name: str, batches: Iterable) -> Tensor:
    """Return the first image of the first batch, (1, C, H, W)."""
    for batch in batches:
        inputs, _ = pair_of(name, batch)
        if inputs.ndim < 2 or not inputs.numel():
            raise ValueError(f"{name} must begin with a batch of images, got inputs {checks.shown(inputs)}")
        return inputs[:1]
    raise ValueError(f"{name} is empty: there is nothing to read")


def pair_of(name: str, batch: Any) -> tuple[Tensor, Any]:
    """Return inputs and targets of a batch of the named source."""
    try:
        return checks.pair(batch, targets=False)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def calibration(batches: Iterable, images: int | None = None) -> tuple[list, list]:
    """Return batches to fit on and others to judge by, both from the training data; the same where there is but one.

    As many images as make about two million pixels, at least 64 and at most 128, go into the first, twice as many into
    the second.
    """
    fit: list[tuple] = []
    judge: list[tuple] = []
    held = [0, 0]
    wanted = images
    for batch in batches:
        inputs, targets = pair_of("train_batches", batch)
        if inputs.ndim < 2 or len(inputs) == 0:
            raise ValueError(f"train_batches must hold images (B, ...), got inputs {checks.shown(inputs)}")
        wanted = wanted or images_of(inputs)
        part = int(held[0] >= wanted)
        (judge if part else fit).append((inputs, targets))
        held[part] += len(inputs)
        if held[1] >= 2 * wanted:
            break
    if not fit:
        raise ValueError("train_batches is empty: there is nothing to calibrate on")
    if not judge and len(fit) > 1:
        fit, judge = fit[::2], fit[1::2]
    return fit, judge or fit


def images_of(inputs: Tensor) -> int:
    """Return how many images of this size calibration looks at."""
    pixels = max(1, inputs[0].numel() // inputs.shape[1])
    return min(MOST_IMAGES, max(FEWEST_IMAGES, PIXELS // pixels))


def first(batches: list, images: int) -> list:
    """Return the first images of a list of batches, in batches."""
    found = []
    for inputs, targets in batches:
        if images <= 0:
            break
        found.append((inputs[:images], _of_first(targets, images, len(inputs))))
        images -= len(inputs)
    return found


def _of_first(targets: Any, images: int, size: int) -> Any:
    """Return the targets of the first images of a batch: a tensor, one thing an image, or several such."""
    if isinstance(targets, Mapping):
        return {name: _of_first(part, images, size) for name, part in targets.items()}
    if isinstance(targets, (list, tuple)) and all(isinstance(part, Tensor) and len(part) == size for part in targets):
        return [part[:images] for part in targets]
    return targets[:images]


class Steps:
    """So many batches as one long epoch: the source's epochs one after the other, the last one cut short.

    Batches of one image are left out, since BatchNorm cannot train on them. It can be iterated again, with the same
    epochs.
    """

    def __init__(self, batches: Iterable, steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        done = epoch = 0
        while done < self.steps:
            before = done
            for owner in (self.batches, getattr(self.batches, "sampler", None)):
                if hasattr(owner, "set_epoch"):
                    owner.set_epoch(epoch)
            for batch in self.batches:
                if len(pair_of("train_batches", batch)[0]) > 1:
                    yield batch
                    done += 1
                if done == self.steps:
                    return
            if done == before:
                raise ValueError("train_batches must hold a batch of at least two images to tune on")
            epoch += 1


def count(batches: Iterable) -> int:
    """Return the number of batches, by reading them where they do not say."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return sum(1 for _ in batches)
