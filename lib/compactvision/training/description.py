"""What a checkpoint knows about its run, as plain data that two runs can be compared by."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from .digests import ATOMS, Reader, attributes, digest, function_name, is_named
from .randomness import generators_of, random_state, seeded, set_random_state

SOURCE = ("batch_size", "shuffle", "crop", "flip", "seed", "drop_last")  # what is told of a source that has it
SMALL = 16  # entries of a tensor that is told whole


def describe(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable,
    *,
    callbacks: Iterable = (),
    validate: Any = None,
    **settings: Any,
) -> dict:
    """Describe a run: `settings`, callbacks, optimiser and batches, shapes and modules of the model, digests.

    The digests are those of the data, of the validation's data and of the initial weights (with those that the
    optimiser holds outside the model).
    """
    members = list(callbacks)
    chosen = {name: _object(value) for name, value in settings.items()}
    source = {name: plain(getattr(batches, name)) for name in SOURCE if hasattr(batches, name)}
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [_group(group, named) for group in optimizer.param_groups]
    outside = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in named]
    held = model.state_dict()
    tensors = {name: f"{tuple(t.shape)} {t.dtype}" for name, t in held.items() if isinstance(t, Tensor)}
    return {
        **chosen,
        "callbacks": [function_name(type(member)) for member in members],
        **_settings(members),
        "batches": source,
        "optimizer": type(optimizer).__name__,
        "groups": groups,
        "model": tensors,
        "modules": modules(model),
        "data": data(batches),
        "validation": None if validate is None else data(validate),
        "digest of the initial weights": digest(dict(held), outside, dict(optimizer.state_dict()["state"])),
    }


def modules(model: nn.Module) -> dict[str, Any]:
    """Describe each module by its class and settings, with the functions and numbers that it holds.

    Modules that stay in evaluation mode and parameters that are not trained are told, too.
    """
    found = {}
    for name, module in model.named_modules():
        held = {key: plain(value) for key, value in attributes(module) if _telling(value)}
        kind = f"{type(module).__qualname__}({module.extra_repr()})"
        frozen = [key for key, p in module.named_parameters(recurse=False) if not p.requires_grad]
        state = {"mode": "evaluation"} if model.training and not module.training else {}
        found[name or "(model)"] = {"is": _short(kind), **held, **state, **({"frozen": frozen} if frozen else {})}
    return found


def data(source: Any) -> Any:
    """Describe batches by class, length and a digest of what they hold; a function by its name.

    Where a source holds no tensor, array or text that can be seen, its first sample or batch counts. Of an iterator,
    which can be read once, only the class is known.
    """
    if inspect.isroutine(source):
        return function_name(source)
    reader, kind = Reader(), type(source)
    found = reader.digest(source)
    if not reader.data:
        found = digest(found, _first(source))
    known = {"class": f"{kind.__module__}.{kind.__qualname__}", "digest": found}
    try:
        return {**known, "length": len(source)}
    except TypeError:
        return known


def _first(source: Any) -> Any:
    """Return the first sample or batch, read from a shallow copy; all random states are put back."""
    source = source.dataset if isinstance(source, DataLoader) else source
    if isinstance(source, Iterator) or (not hasattr(source, "__iter__") and not hasattr(source, "__getitem__")):
        return None
    generators = generators_of(source)
    before = random_state(generators)
    try:
        with seeded(0):
            try:
                twin = copy.copy(source)
            except TypeError:
                return None
            indexed = hasattr(twin, "__getitem__") and not isinstance(twin, IterableDataset)
            return twin[0] if indexed else next(iter(twin), None)
    finally:
        set_random_state(before, generators)


def _group(group: dict, named: Mapping[int, str]) -> dict:
    options = {key: plain(value) for key, value in group.items() if key != "params"}
    names = [named.get(id(parameter), "outside the model") for parameter in group["params"]]
    return {**options, "tensors": len(names), "parameters": names}


def _settings(callbacks: list) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for member in callbacks:
        told = settings_of(member)
        name = f"callback {type(member).__name__}"
        if name in found:
            name = f"{name} ({sum(key.startswith(name) for key in found) + 1})"
        found |= {name: told} if told else {}
    return found


def settings_of(callback: Any) -> dict[str, Any]:
    """Return the settings of a callback: what its ``settings()`` gives, else the arguments that it keeps.

    An argument of the constructor is kept where an attribute has its name.
    """
    if callable(getattr(callback, "settings", None)):
        return plain(callback.settings())
    try:
        parameters = inspect.signature(type(callback)).parameters.values()
    except (TypeError, ValueError):
        return {}
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    names = [p.name for p in parameters if p.kind not in kinds and hasattr(callback, p.name)]
    return {name: plain(getattr(callback, name)) for name in names}


def plain(value: Any) -> Any:
    """Return `value` as plain data: numbers and texts, functions by name, large tensors by digest, objects by class."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        small = (value.numel() if isinstance(value, Tensor) else value.size) <= SMALL
        return value.tolist() if small else f"{tuple(value.shape)} {value.dtype} {digest(value)}"
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, torch.Generator):
        return f"Generator with seed {value.initial_seed()}"
    if isinstance(value, nn.Module):
        return f"{type(value).__qualname__} {digest(value)}"
    if is_named(value):
        return function_name(value)
    shown = repr(value)
    return type(value).__qualname__ if " at 0x" in shown else _short(shown)


def _object(value: Any) -> Any:
    """Describe a loss or schedule that is an object by its class and attributes."""
    own = type(value).__repr__ not in (object.__repr__, nn.Module.__repr__)
    if own or not hasattr(value, "__dict__") or hasattr(value, "__qualname__"):
        return plain(value)
    held = {name: plain(member) for name, member in attributes(value)}
    told = {"class": type(value).__qualname__, **held}
    return {**told, "digest": digest(value)} if isinstance(value, nn.Module) else told


def _telling(value: Any) -> bool:
    return isinstance(value, (*ATOMS, list, tuple)) or is_named(value)


def _short(text: str) -> str:
    return text if len(text) <= 200 and " at 0x" not in text else f"{text[:80]} ... {digest(text)}"


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Fields in which two descriptions differ, each as 'field is X there and Y here'."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = list(there) + [key for key in here if key not in there]
        lists = [differences(there.get(k, "absent"), here.get(k, "absent"), f"{name}.{k}".lstrip(".")) for k in keys]
        return [entry for entries in lists for entry in entries]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = zip(there, here, strict=True)
        return [entry for i, (a, b) in enumerate(pairs) for entry in differences(a, b, f"{name}[{i}]")]
    return [] if there == here or repr(there) == repr(here) else [f"{name} is {there!r} there and {here!r} here"]
