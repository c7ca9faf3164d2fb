"""Saves a pruned network so that it loads without the code that pruned it: safetensors with a small description."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import models
from compactvision.surgery.descriptions import describe, known_layers, restore_, same_kind

FORMAT = "compactvision-pruned-1"
LARGEST_ARGUMENT = 1_000_000  # of a builder, where the file names both
LARGEST_NETWORK = 2**30  # numbers in a dense network that a file may ask for


def save(
    model: nn.Module, path: str | Path, *, builder: str | None = None, arguments: Mapping[str, object] | None = None
) -> None:
    """Write a pruned network to one safetensors file; its description stands in the file's header as JSON.

    The description holds, for every layer that surgery may cut, its channels and what is wrapped around it, and how to
    build the network it came from. A layer that took the place of another one, as a factorised one does, describes
    itself, see :class:`~compactvision.surgery.SelfDescribing`. Nothing is pickled. A kill or a full disk leaves the
    former file.

    Parameters
    ----------
    model : nn.Module
        Any network, pruned or not.
    path : str or Path
        File to write.
    builder : str, optional
        What built the dense network: a function of :mod:`compactvision.models` such as "resnet56", or "imagenet" with
        ``arguments={"name": "resnet50"}``. Without it :func:`load` must be given a function.
    arguments : mapping, optional
        Keyword arguments of the builder; must be expressible as JSON.

    Raises
    ------
    ValueError
        If the builder is unknown, the arguments cannot be written as JSON, or the state of the network is not made of
        tensors that belong to one layer each.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from compactvision import models, surgery
    >>> model = models.resnet20()
    >>> plan = surgery.make_plan(surgery.channel_graph(model, (3, 32, 32)), surgery.criteria.l1(), keep=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "small.safetensors")
    ...     surgery.save(surgery.prune(model, plan), path, builder="resnet20")
    ...     surgery.load(path).conv1
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = _path(path)
    checks.networks(model=model)
    checks.mappings(arguments={} if arguments is None else arguments)
    if builder is not None:
        _builder(builder)
    elif arguments:
        raise ValueError(f"arguments are those of builder, which is not given, got {checks.shown(arguments)}")
    state = _state(model)
    description = {
        "format": FORMAT,
        "builder": builder,
        "arguments": dict(arguments or {}),
        "versions": _versions(model),
        "layers": {name: described for name, module in model.named_modules() if (described := describe(module))},
    }
    if not all(isinstance(name, str) for name in description["arguments"]):
        raise ValueError(f"arguments must have names as keys, got {list(description['arguments'])}")
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"arguments must be expressible as JSON: {error}") from error
    try:
        save_file(state, str(path), metadata={"compactvision": text})
    except SafetensorError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error}") from error


def load(path: str | Path, *, build: Callable[[], nn.Module] | None = None, layers: Iterable[type] = ()) -> nn.Module:
    """Read a network written by :func:`save`, on the CPU and in evaluation mode; its outputs are bitwise the same.

    Nothing of the size that a file *says* is allocated before it was compared with the tensors that it holds.

    Parameters
    ----------
    path : str or Path
        File to read.
    build : callable, optional
        Builds the dense network, for networks that were saved without ``builder``.
    layers : iterable of type, optional
        Classes of layers of your own that describe themselves; the package knows its own.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If ``layers`` holds a class that does not describe itself, or the file is damaged or has no such description,
        names no builder while ``build`` is missing, or if its description, its tensors and the network that is built do
        not go together: the message names the file and what is wrong.
    OSError
        If the file is not there or cannot be read.
    """
    path = _path(path)
    if not isinstance(build, type):
        checks.functions(0, optional=True, build=build)
    where, known = f"path: {str(path)!r}", known_layers(layers)
    text, state = _read(path, where)
    description = _description(text, where)
    if build is None:
        if description["builder"] is None:
            raise ValueError(f"build: {str(path)!r} names no builder, so build must be given")
        build = _build_of(description, state, known, where)
    model = build()
    if not isinstance(model, nn.Module):
        raise ValueError(f"build must return a network, got {type(model).__name__}")
    _fill_(model, description, state, known, where)
    return model.eval()


def _path(path: str | Path) -> Path:
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise ValueError(f"path must be the name of a file, got {path!r}")
    return Path(path)


def _owned(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of each layer once, also where the layer stands under two names."""
    for path, module in model.named_modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            yield f"{path}.{name}".lstrip("."), tensor


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors to write, each in memory of its own."""
    owners: dict[int, str] = {}
    for name, tensor in _owned(model):
        first = owners.setdefault(id(tensor), name)
        if first != name:
            raise ValueError(f"model: {first!r} and {name!r} are one tensor, which a file cannot say")
    state = model.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"model: {name!r} of its state is no plain tensor with values")
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def _versions(model: nn.Module) -> dict[str, int]:
    """Return the versions of the modules' states, 1 left out: some modules refuse a state without one."""
    metadata = getattr(model.state_dict(), "_metadata", {})
    return {name: entry["version"] for name, entry in metadata.items() if entry.get("version", 1) != 1}


def _read(path: Path, where: str) -> tuple[str | None, dict[str, Tensor]]:
    """Return the description's text and the tensors of a file."""
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):  # which takes a name that is too long for one of no file
        if os.path.exists(path):
            raise ValueError(f"{where} is no file")
        raise FileNotFoundError(f"{where} does not exist")
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("compactvision")
            names = list(file.keys())
            state = {name: file.get_tensor(name).clone() for name in names}  # aligned as torch itself does
    except SafetensorError as error:
        raise ValueError(f"{where} is damaged or no safetensors file: {error}") from error
    return text, state


def _description(text: str | None, where: str) -> dict[str, Any]:
    """Return the description that a file's header holds, of the promised form."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} has a description that is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{where} is not a network saved by surgery.save")
    found.setdefault("versions", None)
    kinds = {"builder": str | None, "arguments": dict, "versions": dict | None, "layers": dict}
    for name, kind in kinds.items():
        if name not in found or not isinstance(found[name], kind):
            raise ValueError(f"{where}: field {name!r} of its description is missing or of another type")
    for name, layer in found["layers"].items():
        if not isinstance(layer, dict):
            raise ValueError(f"{where}: layer {name!r} is described by {layer!r}")
    for name, version in (found["versions"] or {}).items():
        if type(version) is not int:
            raise ValueError(f"{where}: the version of {name!r} is {version!r}, not a whole number")
    return found


def _builder(name: str) -> Callable[..., nn.Module]:
    function = getattr(models, name, None) if name in models.__all__ else None
    if not inspect.isfunction(function) or not (
        "num_classes" in inspect.signature(function).parameters or function is models.pretrained
    ):
        raise ValueError(f"builder: {name!r} is no function of compactvision.models that builds a network")
    return function


def _build_of(
    description: dict[str, Any], state: dict[str, Tensor], known: Mapping[str, type], where: str
) -> Callable[[], nn.Module]:
    """Return what builds the network that a file names, after a trial that allocates nothing."""
    try:
        builder = _builder(description["builder"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    arguments = description["arguments"]
    if _largest(arguments) > LARGEST_ARGUMENT:
        raise ValueError(f"{where}: arguments of its builder go up to {_largest(arguments)}, above {LARGEST_ARGUMENT}")
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values that are loaded into such a network are dropped, which torch says
            trial = builder(**arguments)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{where}: {description['builder']}(**{arguments}) gives no network: {error}") from error
    size = sum(tensor.numel() for tensor in trial.state_dict().values())
    if size > LARGEST_NETWORK:
        raise ValueError(f"{where}: its builder makes a network of {size:,} numbers, above {LARGEST_NETWORK:,}")
    _fill_(trial, description, state, known, where)
    return lambda: builder(**arguments)


def _largest(value: object) -> float:
    """Return the largest number inside a JSON value."""
    if isinstance(value, dict | list):
        return max((_largest(item) for item in (value.values() if isinstance(value, dict) else value)), default=0)
    return abs(value) if isinstance(value, int | float) else 0


def _fill_(
    model: nn.Module, description: dict[str, Any], state: dict[str, Tensor], known: Mapping[str, type], where: str
) -> None:
    """Give a fresh network the described shapes and the tensors of the file."""
    built = _floating(model.state_dict())
    try:
        for name, layer in description["layers"].items():
            restore_(model, name, layer, state, known)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for name, tensor in model.state_dict().items():
        if name in state and not same_kind(state[name], tensor):
            raise ValueError(f"{where}: tensor {name!r} is of type {state[name].dtype}, not {tensor.dtype}")
    try:
        model.load_state_dict(_with_versions(model, description["versions"], state), assign=True)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{where} does not fit the network that was built: {said:.500}") from error
    _follow_dtype_(model, built, _floating(state))
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


def _floating(state: Mapping[str, Tensor]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}


def _follow_dtype_(model: nn.Module, built: set[torch.dtype], loaded: set[torch.dtype]) -> None:
    """Give buffers that no state holds, such as a constant filter, the type that the network's numbers have got.

    Only those that had the type of the network as it was built: another one, such as float64 in a float32 network, is
    there on purpose.
    """
    if len(loaded) != 1 or len(built) != 1:
        return
    for module in model.modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers[name]
            if buffer is not None and buffer.dtype in built:
                module._buffers[name] = buffer.to(*loaded)


def _with_versions(model: nn.Module, versions: dict[str, int] | None, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state as ``state_dict`` gave it; files of older releases hold no versions."""
    ordered = type(model.state_dict())(state)
    if versions is not None:
        names = (name for name, _ in model.named_modules(remove_duplicate=False))
        ordered._metadata = {name: {"version": versions.get(name, 1)} for name in names}
    return ordered
