"""Which functions, classes and methods are public: what the packages export and what the reference names."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = "compactvision."
REFERENCE = Path(__file__).resolve().parents[2] / "book" / "api"
OPTIONS_OF_LOAD = ("data.glyphs.load_glyphs", "data.scenes.scenes", "data.scenes.load_scenes", "data.curves.make",
                   "data.curves.load_curves", "data.digits.load_digits", "data.photos.load_photos")  # fmt: skip
MADE = "experiment.run.Run"  # by experiment.start; its methods are called
LEFT_OUT = {
    "architectures.u_mixformer.rivals.OnMaps.forward": "takes maps one by one, which the decoder inside checks",
    "pruning.sidt.whole.fit": "trains for minutes by a recipe; what it calls is called",
    "queue": "trainings of hours, called by its own command line, which tests/gpu_queue covers",
    "data.bccd.load_bccd": "reads the files of the set alone, by their digest; tests/data damages them",
    "training.state.Callback": "hooks that do nothing",
    "training.losses.NonFiniteLoss": "raised, not called",
    "training.schedules.Rates": "made by fit",
    "claims.claim": "read from claims/*.toml, whose reader checks it",
    "claims.pages.write_pages": "reads all records of the book, for seconds; its command line is tested",
    "chapter.log_picture": "times networks for seconds; what it calls is called",
    "models.cells.costs.Cost": "a named tuple, made by cost",
    "models.cells.genotype.Edge": "a named tuple, checked by what takes it",
    "models.cells.network.Cell": "made by CellNetwork, which is called",
    "models.cells.network.MixedCell": "made by SuperNetwork, which is called",
    "models.detection.network.Cells": "a named tuple, checked by the loss",
    "measure.detection.Detections": "a named tuple, checked by average_precision",
    "models.factorised.base": "base classes, whose layers are called",
    "models.factorised.factors": "the same",
    "factorization.admm_tensor_train.formats.Format": "a protocol, whose formats are called",
    "surgery.descriptions.SelfDescribing": "a protocol, whose layers are saved and loaded",
    "records.stored.save": "writes among the records of the book; `write` is the same with a path",
}


@functools.cache
def public() -> dict[str, object]:
    """Name (without the package's) -> function, class or method, in the order of names."""
    found: dict[str, object] = {}
    done: set[str] = set()
    for module in _modules():
        for item in _exported(importlib.import_module(module), done):
            found |= dict(_parts(item))
    for name in OPTIONS_OF_LOAD:
        module, _, function = name.rpartition(".")
        found[name] = getattr(importlib.import_module(ROOT + module), function)
    scenes = importlib.import_module(ROOT + "data.scenes").Scenes
    found |= dict(_parts(scenes))
    return dict(sorted((name, item) for name, item in found.items() if not _left_out(name) and _takes_arguments(item)))


def _modules() -> list[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md")))
    named = re.findall(r"automodule:: (\S+)", text) + re.findall(r"auto(?:class|function):: (\S+)\.\w+", text)
    return list(dict.fromkeys(named))


def _exported(module: ModuleType, done: set[str]) -> Iterator[object]:
    """Public functions and classes of a module, and of the modules that it exports."""
    if module.__name__ in done:
        return
    done.add(module.__name__)
    own = [name for name, item in vars(module).items() if getattr(item, "__module__", None) == module.__name__]
    for name in getattr(module, "__all__", None) or own:
        item = getattr(module, name)
        if isinstance(item, ModuleType):
            yield from _exported(item, done)
        elif callable(item) and not name.startswith("_") and str(getattr(item, "__module__", "")).startswith(ROOT):
            yield item


def _parts(item: object) -> Iterator[tuple[str, object]]:
    """A function itself; of a class the constructor, where it checks or computes something, and the methods."""
    name = f"{item.__module__.removeprefix(ROOT)}.{item.__qualname__}"
    if not inspect.isclass(item):
        yield name, item
        return
    if issubclass(item, BaseException):
        return
    if not dataclasses.is_dataclass(item) or "__post_init__" in vars(item):
        yield name, item
    for method, function in vars(item).items():
        plain = inspect.isfunction(function) or isinstance(function, (classmethod, staticmethod))
        named = method == "__call__" or not method.startswith("_")
        if plain and named and method not in ("extra_repr", "state_dict"):
            yield f"{name}.{method}", getattr(item, method)


def _left_out(name: str) -> bool:
    return name == MADE or any(name == start or name.startswith(f"{start}.") for start in LEFT_OUT)


def _takes_arguments(item: object) -> bool:
    return any(name != "self" for name in inspect.signature(item).parameters)
