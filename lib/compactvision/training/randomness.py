"""All random states of a process, and the batches of an epoch from any position on."""

import functools
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, np.ndarray, type, ModuleType)


def random_state(generators: Iterable[Generator] = ()) -> dict:
    """States of Python's, NumPy's and torch's global generators (CPU; CUDA once it is in use) and of `generators`.

    Tensors and plain Python data only, so that ``torch.load(weights_only=True)`` reads it.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (the global state is what is kept)
    return {
        "python": [version, torch.tensor(words), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "generators": [_state_of(generator) for generator in generators],
    }


def set_random_state(state: dict, generators: Iterable[Generator] = ()) -> None:
    """Put the states of :func:`random_state` back."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    for generator, saved in zip(generators, state["generators"], strict=True):
        _set_state(generator, saved)


def _state_of(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        version, words, gauss = generator.getstate()
        return [version, torch.tensor(words), gauss]
    legacy = isinstance(generator, np.random.RandomState)
    return _listed(generator.get_state(legacy=False) if legacy else generator.bit_generator.state)


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        version, words, gauss = state
        generator.setstate((version, tuple(words.tolist()), gauss))
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(_arrays(state))
    else:
        generator.bit_generator.state = _arrays(state)


def _listed(tree: Any) -> Any:
    """Arrays in nested dicts as lists, which every checkpoint can hold."""
    if isinstance(tree, dict):
        return {key: _listed(value) for key, value in tree.items()}
    return {"array": tree.tolist(), "dtype": str(tree.dtype)} if isinstance(tree, np.ndarray) else tree


def _arrays(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {"array", "dtype"}:
        return np.array(tree["array"], dtype=tree["dtype"])
    return {key: _arrays(value) for key, value in tree.items()}


def generators_of(source: Any, most: int = 1_000_000) -> list[Generator]:
    """Return the generators that a source of batches holds: itself, its loader, samplers, data set or transforms.

    Looked at are attributes, containers, and what functions have taken from around them, `most` objects at most.
    """
    found, seen, left = [], {}, [source]
    while left and len(seen) < most:
        value = left.pop()
        if isinstance(value, PLAIN) or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, Generator):
            found.append(value)
        else:
            left.extend(reversed(list(_held(value))))
    return found


def _held(value: Any) -> Iterable:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    around = [cell.cell_contents for cell in getattr(value, "__closure__", None) or () if filled(cell)]
    return [*around, getattr(value, "__self__", None), *getattr(value, "__dict__", {}).values()]


def filled(cell: Any) -> bool:
    """Whether a variable that a function has taken from around it has a value by now."""
    try:
        cell.cell_contents  # noqa: B018 (an empty cell raises)
    except ValueError:
        return False
    return True


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
    started there. Any other iterable may draw from the global generators or from generators that it holds
    (:func:`generators_of`): the states at the epoch's start are kept, and to continue after `skip` batches the epoch
    is replayed from them without training. With `kept` False nothing is kept, and no epoch can be replayed.
    """

    def __init__(self, batches: Iterable, kept: bool = True):
        self.batches, self.kept = batches, kept
        self.generators = generators_of(batches) if kept else []
        self.start: dict | None = None  # random states at the start of the epoch

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Any]:
        """Batches `skip`, `skip` + 1, ... of the epoch."""
        for owner in (self.batches, getattr(self.batches, "sampler", None)):
            if hasattr(owner, "set_epoch"):
                owner.set_epoch(epoch)
        if not skip:
            self.start = random_state(self.generators) if self.kept else None
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
