"""Saves a pruned network so that it loads without the code that pruned it: safetensors with a small description."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from compactvision import models
from compactvision.models.layers import ChannelMap
from compactvision.surgery.layers import Gathered, Scattered

FORMAT = "compactvision-pruned-1"
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def save(
    model: nn.Module, path: str | Path, *, builder: str | None = None, arguments: Mapping[str, object] | None = None
) -> None:
    """Write a pruned network to one safetensors file; its description stands in the file's header as JSON.

    The description holds, for every layer that surgery may cut, its channels and what is wrapped around it, and how to
    build the network it came from. Nothing is pickled.

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
        If the builder is unknown or the arguments cannot be written as JSON.

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
    from safetensors.torch import save_file

    if builder is not None:
        _builder(builder)
    description = {
        "format": FORMAT,
        "builder": builder,
        "arguments": dict(arguments or {}),
        "layers": {name: _described(module) for name, module in model.named_modules() if _described(module)},
    }
    try:
        text = json.dumps(description)
    except TypeError as error:
        raise ValueError(f"arguments must be expressible as JSON: {error}") from error
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, str(path), metadata={"compactvision": text})


def load(path: str | Path, *, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Read a network written by :func:`save`, on the CPU and in evaluation mode; its outputs are bitwise the same.

    Parameters
    ----------
    path : str or Path
        File to read.
    build : callable, optional
        Builds the dense network, for networks that were saved without ``builder``.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If the file has no such description, names no builder while ``build`` is missing, or does not fit the network
        that is built.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        text = (file.metadata() or {}).get("compactvision")
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    description = json.loads(text) if text else {}
    if description.get("format") != FORMAT:
        raise ValueError(f"path: {str(path)!r} is not a network saved by surgery.save")
    if build is None:
        if description["builder"] is None:
            raise ValueError(f"build: {str(path)!r} names no builder, so build must be given")
        builder = _builder(description["builder"])
        model = builder(**description["arguments"])
    else:
        model = build()
    if not isinstance(model, nn.Module):
        raise ValueError(f"build must return a network, got {type(model).__name__}")
    for name, layer in description["layers"].items():
        _reshape_(model, name, layer)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ValueError(f"path: {str(path)!r} does not fit the network that was built: {error}") from error
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return model.eval()


def _builder(name: str) -> Callable[..., nn.Module]:
    function = getattr(models, name, None) if name in models.__all__ else None
    if function is None or isinstance(function, type) or not callable(function):
        raise ValueError(f"builder: {name!r} is no function of compactvision.models that builds a network")
    return function


def _described(module: nn.Module) -> dict[str, object] | None:
    """Return what has to be known to give a fresh layer its shape, or None for a module without channels."""
    if isinstance(module, (Gathered, Scattered)):
        return {"wrapper": type(module).__name__}
    if isinstance(module, nn.Conv2d):
        return {"in": module.in_channels, "out": module.out_channels, "groups": module.groups} | _bias(module)
    if isinstance(module, nn.Linear):
        return {"in": module.in_features, "out": module.out_features} | _bias(module)
    if isinstance(module, _NORMS):
        return {"out": module.num_features}
    if isinstance(module, ChannelMap):
        return {"in": module.in_channels, "out": module.out_channels, "stride": module.stride}
    return None


def _bias(module: nn.Conv2d | nn.Linear) -> dict[str, bool]:
    return {} if module.bias is None else {"bias": True}


def _reshape_(model: nn.Module, name: str, layer: Mapping[str, object]) -> None:
    """Give one layer of a fresh network the described shape; its values are loaded afterwards."""
    parent_name, _, child = name.rpartition(".")
    try:
        module = model.get_submodule(name)
        parent = model.get_submodule(parent_name)
    except AttributeError as error:
        raise ValueError(f"path: the network that was built has no layer {name!r}") from error
    if "wrapper" in layer:
        placeholder = ChannelMap([0], 1)
        wrapped = Gathered(placeholder, module) if layer["wrapper"] == "Gathered" else Scattered(module, placeholder)
        setattr(parent, child, wrapped)
        return
    if layer.get("bias") and getattr(module, "bias", True) is None:  # surgery may have made one
        module.bias = nn.Parameter(torch.zeros(0))
    if isinstance(module, nn.Conv2d):
        module.in_channels, module.out_channels, module.groups = layer["in"], layer["out"], layer["groups"]
        shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
        _resize_(module, weight=shape, bias=shape[:1])
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = layer["in"], layer["out"]
        _resize_(module, weight=(layer["out"], layer["in"]), bias=(layer["out"],))
    elif isinstance(module, _NORMS):
        module.num_features = layer["out"]
        _resize_(module, **dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (layer["out"],)))
    elif isinstance(module, ChannelMap):
        module.stride = layer["stride"]
        module.set_source([-1] * layer["out"], layer["in"])
    else:
        raise ValueError(f"path: layer {name!r} is a {type(module).__name__} in the network that was built")


def _resize_(module: nn.Module, **shapes: tuple[int, ...]) -> None:
    for name, shape in shapes.items():
        tensor = getattr(module, name)
        if tensor is not None:
            empty = torch.zeros(shape, dtype=tensor.dtype)
            setattr(module, name, nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty)
