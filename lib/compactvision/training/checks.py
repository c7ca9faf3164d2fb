"""Checks of the arguments of fit and evaluate, each a ValueError that names the argument."""

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

import torch
from torch import nn

from compactvision import _checks as shared


def positive(name: str, value: Any) -> int:
    """`value` if it is an int > 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{name} must be a whole number > 0, not {value!r}")
    return value


def model_device(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """Device of the model's parameters and buffers, which must be `device` if that is given."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    found = {tensor.device for tensor in [*model.parameters(), *model.buffers()]} or {torch.device("cpu")}
    if len(found) > 1:
        raise ValueError(f"model is spread over several devices: {', '.join(sorted(map(str, found)))}")
    here = found.pop()
    if here.type == "meta":
        raise ValueError("model must be on a device that holds numbers, not on meta")
    if device is None:
        return here
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is no device") from error
    if wanted.type != here.type or wanted.index not in (None, here.index):
        raise ValueError(f"device={str(device)!r}, but the model is on {str(here)!r}; move the model first")
    return here


def iterable(batches: Any) -> None:
    """Check that batches can be read."""
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise ValueError(f"batches must be an iterable of (inputs, targets), not {type(batches).__name__}")


def length(batches: Iterable, epochs: int) -> int | None:
    """Batches in an epoch, None where the source cannot say."""
    iterable(batches)
    return _readable("batches", batches, epochs)


def validation(validate: Any, epochs: int) -> None:
    """Check the batches or the function of the validation."""
    if validate is None:
        return
    if callable(validate):
        shared.functions(1, validate=validate)
        return
    if not isinstance(validate, Iterable) and not hasattr(validate, "__getitem__"):
        raise ValueError(f"validate must be an iterable of (inputs, targets) or callable, not {validate!r}")
    _readable("validate", validate, epochs)


def _readable(name: str, batches: Iterable, epochs: int) -> int | None:
    if isinstance(batches, Iterator) and epochs > 1:
        raise ValueError(f"{name} is an iterator, which can be read once only, but epochs={epochs}")
    try:
        count = len(batches)
    except TypeError:
        return None
    if count == 0:
        raise ValueError(f"{name} is empty")
    return count


def numbers(found: Any) -> dict[str, Any]:
    """Return what a function of the validation gives, which must be a dict of numbers."""
    if not isinstance(found, Mapping):
        raise ValueError(f"validate must give a dict of numbers, not {type(found).__name__}")
    return {name: _number(name, value) for name, value in found.items()}


def _number(name: str, value: Any) -> Any:
    if isinstance(value, (bool, int, float)) and not hasattr(value, "dtype"):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"validate must give numbers, but {name!r} is {type(value).__name__}") from error


def pair(batch: Any) -> tuple[Any, Any]:
    """Return inputs and targets of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(f"batches must yield pairs (inputs, targets), not {type(batch).__name__} {_size(batch)}")
    return batch[0], batch[1]


def counted(samples: int, epoch: int, batch: int) -> int:
    """Return the samples of a batch, of which there must be one."""
    if samples == 0:
        raise ValueError(f"batches: batch {batch} of epoch {epoch} (from 0) has no sample; leave it out")
    return samples


def scalar(value: Any) -> torch.Tensor:
    """Return the loss, which must be a tensor with one element and no dimension."""
    if not isinstance(value, torch.Tensor) or value.ndim != 0:
        shown = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"loss must give a scalar tensor, not {shown}")
    return value


def derivable(value: torch.Tensor) -> torch.Tensor:
    """Return the loss, which must depend on a parameter."""
    if not value.requires_grad:
        raise ValueError("loss must be computed from the model's outputs with gradients, but it has none")
    return value


def optimizer_for(
    optimizer: torch.optim.Optimizer | None, model: nn.Module, device: torch.device, precision: str
) -> torch.optim.Optimizer:
    """Return the optimiser, or the default one: SGD with lr 0.1, Nesterov momentum 0.9, weight decay 5e-4."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("model has no parameter that requires a gradient")
    if optimizer is None:
        return torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    if precision == "fp16" and isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("optimizer: LBFGS evaluates the loss several times a step and cannot be used with fp16")
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.device != device:
                raise ValueError(f"optimizer holds a parameter on {parameter.device}, the model is on {device}")
    _check_trains(optimizer, trained)
    return optimizer


def _check_trains(optimizer: torch.optim.Optimizer, trained: list[nn.Parameter]) -> None:
    own = {id(parameter) for parameter in trained}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in own for parameter in held):
        raise ValueError(
            f"optimizer holds none of the {len(trained)} parameters that the model trains; "
            "make it of model.parameters(), after the model was cut or replaced"
        )


def check_reached(outside: list[torch.Tensor]) -> None:
    """Refuse parameters outside the model that the loss does not reach either, as those of a layer since replaced."""
    left = [tuple(parameter.shape) for parameter in outside if parameter.requires_grad and parameter.grad is None]
    if left:
        raise ValueError(
            f"optimizer holds {len(left)} parameters that are neither the model's nor used by the loss, the first of "
            f"shape {left[0]}; make it of model.parameters(), after the model was cut or replaced"
        )


def callables(loss: Any, metrics: Any = None) -> None:
    """Check a loss and the metrics of an evaluation."""
    if not callable(loss):
        raise ValueError(f"loss must be callable (outputs, targets) -> scalar, not {loss!r}")
    if metrics is not None and not isinstance(metrics, Mapping):
        raise ValueError(f"metrics must be a dict of callables, not {metrics!r}")
    for name, metric in (metrics or {}).items():
        if not isinstance(name, str):
            raise ValueError(f"metrics must have names for keys, not {name!r}")
        if not callable(metric):
            raise ValueError(f"metrics: {name!r} must be callable (outputs, targets) -> scalar, not {metric!r}")


def mean(name: str, value: Any) -> torch.Tensor:
    """Return a metric's mean over a batch as a tensor of one number."""
    number = isinstance(value, Real) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    if not number:
        raise ValueError(f"metrics: {name!r} must give a number, not {type(value).__name__}")
    return torch.as_tensor(value).reshape(())


def settings(loss: Any, every_steps: Any, checkpoint: Any, clip_norm: Any, seed: Any) -> None:
    """Check the arguments that need no other one."""
    callables(loss)
    if every_steps is not None:
        positive("every_steps", every_steps)
        if checkpoint is None:
            raise ValueError(f"every_steps={every_steps!r} needs a path in checkpoint")
    if clip_norm is not None and not is_positive(clip_norm):
        raise ValueError(f"clip_norm must be positive and finite, not {clip_norm!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number >= 0, not {seed!r}")
    if seed >= 2**64:
        raise ValueError(f"seed must be below 2**64, not {seed!r}")


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number > 0."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < math.inf


def _size(batch: Any) -> str:
    return f"of length {len(batch)}" if hasattr(batch, "__len__") else ""
