"""The network that a command names: torchvision's, timm's, the book's, or a function in a file of your own."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import models

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOURCES = "torchvision:NAME, timm:NAME, compactvision:NAME or FILE.py:FUNCTION"


@dataclass(frozen=True)
class Named:
    """A network, how to build it again, and what there is to say.

    Attributes
    ----------
    model : nn.Module
        In evaluation mode, with an output for each class.
    trained : bool
        Whether it was trained for these classes, as far as can be seen: it has weights and kept its last layer.
    builder, arguments
        For :func:`compactvision.surgery.save`; None where only the caller can build it.
    moments : tuple or None
        Mean and standard deviation that its pictures are normalised by; None: those of the pictures themselves.
    said : tuple of str
        Remarks.
    """

    model: nn.Module
    trained: bool
    builder: str | None = None
    arguments: Mapping[str, Any] | None = None
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    said: tuple[str, ...] = ()


def named(asked: str, weights: Path | None, classes: int, *, seed: int = 0) -> Named:
    """Return the network that ``asked`` names, with weights from a file where one is given, for so many classes.

    What is not read from a file is drawn by ``seed``, so that a second call builds the same.

    Raises
    ------
    ValueError
        If the name is of another form or unknown, or the weights do not fit.
    """
    source, colon, name = asked.rpartition(":")
    if not colon or not source or not name:
        raise ValueError(f"--model must be {SOURCES}, got {asked!r}")
    makers: dict[str, Callable[[str, int], Named]] = {
        "torchvision": _torchvision,
        "timm": _timm,
        "compactvision": _ours,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if source in makers:
            found = makers[source](name, classes)
        elif source.endswith(".py"):
            found = _own(Path(source), name, classes)
        else:
            raise ValueError(f"--model must be {SOURCES}, got {asked!r}")
    return found if weights is None else _with_weights(found, weights, classes)


def _torchvision(name: str, classes: int) -> Named:
    arguments = {"name": name, "num_classes": classes}
    try:
        model = models.imagenet(**arguments)
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    return Named(model.eval(), False, "imagenet", arguments, IMAGENET)


def _timm(name: str, classes: int) -> Named:
    try:
        import timm
    except ImportError:
        raise ValueError("--model timm:NAME needs the package timm: pip install timm") from None
    try:
        model = timm.create_model(name, pretrained=False, num_classes=classes)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"--model: timm has no network {name!r} ({error})") from error
    held = getattr(model, "pretrained_cfg", None) or {}
    moments = tuple(held.get("mean", IMAGENET[0])), tuple(held.get("std", IMAGENET[1]))
    return Named(model.eval(), False, None, None, moments)


def _ours(name: str, classes: int) -> Named:
    if name in models.available():
        model = models.pretrained(name)
        there = [module for module in model.modules() if isinstance(module, nn.Linear)][-1].out_features
        if there == classes:
            return Named(model, True, "pretrained", {"name": name})
        raise ValueError(f"--model: {name!r} tells {there} classes apart, and the folder has {classes}")
    builder = getattr(models, name, None) if name in models.__all__ else None
    if not inspect.isfunction(builder) or "num_classes" not in inspect.signature(builder).parameters:
        raise ValueError(f"--model: the book has no network {name!r}; trained ones are {', '.join(models.available())}")
    arguments = {"num_classes": classes}
    return Named(builder(**arguments).eval(), False, name, arguments)


def _own(path: Path, name: str, classes: int) -> Named:
    if not path.is_file():
        raise ValueError(f"--model: there is no file {str(path)!r}")
    with _beside(path):
        try:
            module = _imported(path)
        except Exception as error:  # whatever a file of the caller's raises
            raise ValueError(f"--model: {str(path)!r} cannot be imported ({_first_line(error)})") from error
        build = getattr(module, name, None)
        if not callable(build):
            raise ValueError(f"--model: {str(path)!r} has no function {name!r}")
        try:
            takes = "num_classes" in inspect.signature(build).parameters
            model = build(num_classes=classes) if takes else build()
        except Exception as error:  # likewise
            raise ValueError(f"--model: {name} in {str(path)!r} fails ({_first_line(error)})") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"--model: {name} must return a torch.nn.Module, got a {type(model).__name__}")
    return Named(model.eval(), not takes, None, None, IMAGENET)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a file import what lies beside it, as it could where it was run itself."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _imported(path: Path) -> ModuleType:
    """Import a file under its own name, where that is free: data classes and pickle look for it there."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if sys.modules.get(path.stem) is module:
            del sys.modules[path.stem]
        raise
    return module


def _first_line(error: BaseException) -> str:
    """Return an error's type and the first line of what it says."""
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0]}" if said else type(error).__name__


def _with_weights(found: Named, path: Path, classes: int) -> Named:
    """Return the network with the weights of a file; last layers of another size stay new, which is said."""
    state = read_weights(path)
    own = found.model.state_dict()
    other = [name for name in own if name in state and own[name].shape != state[name].shape]
    head = {f"{name}.{part}" for name in _heads(found.model, classes) for part in ("weight", "bias")}
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown or not set(other) <= head:
        parts = (
            ("lacks", missing),
            ("has too many, such as", unknown),
            ("has other shapes in", sorted(set(other) - head)),
        )
        said = "; ".join(f"{what} {', '.join(names[:3])}" for what, names in parts if names)
        raise ValueError(f"--weights: {str(path)!r} does not fit the network: it {said}")
    found.model.load_state_dict({**own, **{name: state[name] for name in own if name not in other}})
    remark = "the last layer of the weights has another number of classes and was made anew"
    said = (*found.said, remark) if other else found.said
    return Named(found.model, not other, found.builder, found.arguments, found.moments, said)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors or of torch, the latter without running any code that it holds.

    Raises
    ------
    ValueError
        If the file is not there, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise ValueError(f"--weights: there is no file {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"--weights: {str(path)!r} holds more than tensors, and reading it would run code; save "
            f"model.state_dict() in its place ({str(error).splitlines()[0]})"
        ) from error
    except Exception as error:  # torch and safetensors raise what the damaged place brings about
        raise ValueError(f"--weights: {str(path)!r} cannot be read ({_first_line(error)})") from error
    for name in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"--weights: {str(path)!r} holds no tensors by name")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _heads(model: nn.Module, classes: int) -> list[str]:
    """Return the names of the layers that give one number a class: the last one, and those of auxiliary heads."""
    outputs = {nn.Linear: "out_features", nn.Conv2d: "out_channels"}
    return [
        name for name, module in model.named_modules() if getattr(module, outputs.get(type(module), ""), 0) == classes
    ]
