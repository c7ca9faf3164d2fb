"""Forward pass and loss, whose errors name what the caller gave instead of a place inside torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision._failures import KINDS, OURS, first_line, from_below, innermost

from . import checks
from .precision import as_float

MODELS = f"{OURS}models/"


def outputs_of(model: nn.Module, inputs: Any) -> Any:
    """Return ``model(inputs)``.

    Raises
    ------
    ValueError
        The batch does not suit the model: type or shape of the inputs, or one value a channel before a BatchNorm that
        trains.
    """
    try:
        return model(inputs)
    except KINDS as error:
        _explain_forward(error, model, inputs)


def loss_of(loss: Callable, outputs: Any, targets: Any) -> Tensor:
    """Return the loss of float outputs, a scalar tensor.

    Raises
    ------
    ValueError
        Outputs and targets do not suit the loss, or it gives no scalar tensor.
    """
    outputs = as_float(outputs)
    try:
        value = loss(outputs, targets)
    except KINDS as error:
        _explain_loss(error, loss, outputs, targets)
    return checks.scalar(value)


def check_classes(loss: Callable, outputs: Any, targets: Any) -> None:
    """Refuse a class that cross-entropy has no output for; on a GPU that would end the process's use of it."""
    if loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss):
        outside = _outside(loss, outputs, targets)
        if outside is not None:
            raise ValueError(_no_output(outside, outputs))


def _outside(loss: Callable, outputs: Any, targets: Any) -> int | None:
    """Return a class number that has no output, if there is one."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.ndim < 2:
        return None
    if targets.is_floating_point() or outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        return None
    ignored = getattr(loss, "ignore_index", -100)
    bad = targets[((targets < 0) | (targets >= outputs.shape[1])) & (targets != ignored)]
    return int(bad[0]) if bad.numel() else None


def _no_output(outside: int, outputs: Tensor) -> str:
    last = outputs.shape[1] - 1
    return f"batches: the targets have class {outside}, but the model has outputs for classes 0 to {last}"


def _explain_forward(error: Exception, model: nn.Module, inputs: Any) -> NoReturn:
    if type(error) is ValueError and innermost(error).startswith(MODELS):  # a network of the book refuses its inputs
        raise ValueError(f"batches: {error}") from error
    if not from_below(error):
        raise error
    reason = first_line(error)
    if "more than 1 value per channel" in reason:
        raise ValueError(
            f"batches: inputs of {described(inputs)} give a BatchNorm that trains one value a channel, which has no "
            "variance; leave such a batch out (drop_last=True)"
        ) from error
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if isinstance(inputs, Tensor) and own is not None and inputs.dtype != own:
        raise ValueError(
            f"batches: the inputs are {inputs.dtype}, the model computes in {own}; convert them ({reason})"
        ) from error
    raise ValueError(f"batches: the model cannot take inputs of {described(inputs)} ({reason})") from error


def _explain_loss(error: Exception, loss: Callable, outputs: Any, targets: Any) -> NoReturn:
    if not from_below(error):
        raise error
    reason = first_line(error)
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"loss cannot take what the model gives, {described(outputs)}; give a loss that does, such as "
            f"lambda outputs, targets: cross_entropy(outputs[0], targets) ({reason})"
        ) from error
    outside = _outside(loss, outputs, targets)
    if outside is not None and isinstance(error, (IndexError, RuntimeError)) and "out of bounds" in reason:
        raise ValueError(_no_output(outside, outputs)) from error
    whole = isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dtype != torch.int64
    hint = "; class numbers must be torch.int64" if whole else ""
    raise ValueError(
        f"loss cannot take outputs of {described(outputs)} with targets of {described(targets)}{hint} ({reason})"
    ) from error


def described(tree: Any) -> str:
    """Return shape and type of a tensor, for another value its class and what it holds."""
    if isinstance(tree, Tensor):
        return f"shape {tuple(tree.shape)} ({tree.dtype})"
    if isinstance(tree, dict):
        return f"{type(tree).__name__} of {', '.join(map(repr, tree))}"
    if isinstance(tree, (tuple, list)):
        return f"{type(tree).__name__} of {len(tree)}"
    return type(tree).__name__
