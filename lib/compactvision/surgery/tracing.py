"""Runs a network once, in evaluation mode and if need be in training mode, and records where its channels go."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.measure.state import ExampleInputs, evaluating, inputs_from
from compactvision.surgery.following import Follower
from compactvision.surgery.recording import LAYERS, Recording


def record(model: nn.Module, example_inputs: ExampleInputs) -> Recording:
    """Run the model in evaluation mode and return where every channel goes; the model is left as it was.

    A layer that did not run then may be one of a branch that runs in training only, such as the auxiliary heads of
    Inception. In that case the model runs in training mode as well, with each image twice, and what that pass shows
    counts if it shows more layers.

    Raises
    ------
    ValueError
        If an operation, a layer, the sharing of a parameter or the kind of output is not one that surgery can express.
    """
    checks.networks(model=model)
    refuse_hidden_parameters(model)
    inputs = inputs_from(model, example_inputs)
    with evaluating(model), torch.random.fork_rng(devices=[]):
        found = Follower(model).run(inputs)
        silent = [
            path for path, module in model.named_modules() if isinstance(module, LAYERS) and not _ran(found, module)
        ]
        if silent:
            model.train()
            return _in_training(model, inputs, found, silent)
    return found


def _in_training(model: nn.Module, inputs: tuple[Tensor, ...], found: Recording, silent: list[str]) -> Recording:
    try:
        training = Follower(model).run(tuple(torch.cat([tensor, tensor]) for tensor in inputs))
    except Exception as error:
        raise ValueError(
            f"model: {silent[0]!r} does not run in evaluation mode, and in training mode surgery cannot follow the "
            "network; take the layer out if it is not needed, or give example_inputs on which the network trains, such "
            f"as larger images. The reason: {error}"
        ) from error
    return training if training.layers.keys() > found.layers.keys() else found


def _ran(found: Recording, module: nn.Module) -> bool:
    return any(call.module is module for call in found.layers.values())


def refuse_hidden_parameters(model: nn.Module) -> None:
    """Raise a ``ValueError`` where a parameter has two owners, a hook makes it anew, or a module is scripted."""
    owners: dict[int, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"model: {path or 'the model itself'!r} is scripted or traced, so surgery cannot look inside"
            )
        if isinstance(module, LAYERS) and isinstance(getattr(module, "weight", None), Tensor):
            _refuse_made_anew(path, module)
        for key, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{key}" if path else key
            first = owners.setdefault(id(parameter), full)
            if first != full:
                raise ValueError(f"model: {first!r} and {full!r} are one parameter; surgery needs one owner for each")


def _refuse_made_anew(path: str, module: nn.Module) -> None:
    for key in ("weight", "bias"):
        value = getattr(module, key, None)
        if value is not None and value is not module._parameters.get(key):
            raise ValueError(
                f"layer {path!r}: its {key} is no parameter but is made from others at each call (masks of "
                "torch.nn.utils.prune, weight or spectral normalisation, a parametrisation); make it permanent first, "
                "for instance with torch.nn.utils.prune.remove"
            )
