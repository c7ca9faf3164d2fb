"""All random states of a process, and the batches of an epoch from any position on."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state(generators: Iterable[torch.Generator] = ()) -> dict:
    """States of Python's, NumPy's and torch's global generators (CPU; CUDA once it is in use) and of `generators`.

    Tensors and plain Python data only, so that ``torch.load(weights_only=True)`` reads it.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (the global state is what is kept)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "generators": [generator.get_state() for generator in generators],
    }


def set_random_state(state: dict, generators: Iterable[torch.Generator] = ()) -> None:
    """Put the states of :func:`random_state` back."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    for generator, saved in zip(generators, state["generators"], strict=True):
        generator.set_state(saved)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all global generators, and put back their states on leaving."""
    before = random_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before)


class Stream:
    """The batches of each epoch, which can start in the middle of one.

    A source with ``set_epoch`` (or whose sampler has it) is told the epoch, one with ``starting_at(step)`` is
    started there. Any other iterable may draw its order from the global generators or from its own ``generator``, as
    DataLoader does: the states at the epoch's start are kept, and to continue after `skip` batches the epoch is
    replayed from them without training.
    """

    def __init__(self, batches: Iterable):
        self.batches = batches
        owners = (batches, getattr(batches, "sampler", None))
        found = {id(g): g for g in (getattr(o, "generator", None) for o in owners) if isinstance(g, torch.Generator)}
        self.generators = list(found.values())
        self.start: dict | None = None  # random states at the start of the epoch

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Any]:
        """Batches `skip`, `skip` + 1, ... of the epoch."""
        for owner in (self.batches, getattr(self.batches, "sampler", None)):
            if hasattr(owner, "set_epoch"):
                owner.set_epoch(epoch)
        if not skip:
            self.start = random_state(self.generators)
            return iter(self.batches)
        if hasattr(self.batches, "starting_at"):
            return self.batches.starting_at(skip)
        now = random_state(self.generators)
        set_random_state(self.start, self.generators)
        iterator = iter(self.batches)
        for _ in range(skip):
            next(iterator, None)
        set_random_state(now, self.generators)
        return iterator

    def state_dict(self) -> dict:
        """Random states now and at the start of the epoch."""
        return {"now": random_state(self.generators), "start": self.start}

    def load_state_dict(self, state: dict) -> None:
        """Put back the random states of a checkpoint."""
        self.start = state["start"]
        set_random_state(state["now"], self.generators)
