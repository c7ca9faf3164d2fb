"""Runs a model for measuring and leaves it as it was; makes example inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compactvision import _checks as checks

ExampleInputs = Tensor | Sequence[int] | Sequence[Tensor]
"""Input with a batch dimension, shape (C, H, W) of one, or several inputs with a batch dimension each."""


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put the training flag of every module back on leaving."""
    flags = [(module, module.training) for module in model.modules() if hasattr(module, "training")]  # else frozen
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode without gradients; on exit, training flags and buffers are as before.

    The training flag is kept for each module on its own, so a partly frozen network stays partly frozen.
    """
    checks.networks(model=model)
    buffers = [_remember(module, name) for module in model.modules() for name, _ in module._buffers.items()]
    with modes_kept(model), torch.no_grad():
        try:
            if hasattr(model, "training"):
                model.eval()
            yield
        finally:
            for restore in buffers:
                restore()


def _remember(module: nn.Module, name: str) -> Callable[[], None]:
    """Return a function that puts one buffer back; a buffer that was not written is not touched."""
    buffer = module._buffers[name]
    if buffer is None:
        return lambda: module._buffers.__setitem__(name, None)
    before = buffer.detach().clone()
    version = None if buffer.is_inference() else buffer._version

    def restore() -> None:
        written = version is None or buffer._version != version  # statistics of BatchNorm change without a new version
        if written or not (buffer.is_meta or torch.equal(buffer, before)):
            with torch.inference_mode():
                buffer.copy_(before)
        module._buffers[name] = buffer

    return restore


def placement(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device of the model's first parameter or buffer and the dtype of its first floating-point one."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.get_default_dtype())
    return device, dtype


def inputs_from(model: nn.Module, example_inputs: ExampleInputs) -> tuple[Tensor, ...]:
    """Return the positional inputs that ``example_inputs`` stands for, on the model's device.

    A shape becomes one standard-normal input with batch size 1 and the model's dtype, the same at every call.

    Raises
    ------
    ValueError
        If ``example_inputs`` is empty, mixes tensors with other things, or a tensor has no batch dimension or an
        empty one.
    """
    checks.networks(model=model)
    device, dtype = placement(model)
    if isinstance(example_inputs, Tensor):
        example_inputs = (example_inputs,)
    items = tuple(example_inputs) if isinstance(example_inputs, Sequence) else ()
    if items and all(isinstance(item, int) and item > 0 for item in items):
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(1, *items, generator=generator, device="cpu").to(device, dtype),)
    if not items or not all(isinstance(item, Tensor) for item in items):
        raise ValueError(
            "example_inputs must be a tensor, a shape of positive integers or several tensors, "
            f"got {checks.shown(example_inputs)}"
        )
    for item in items:
        if device.type != "meta":
            checks.tensors(example_inputs=item)
        if item.ndim < 2 or item.shape[0] == 0:
            raise ValueError(
                f"example_inputs must have a batch dimension that is not empty, got shape {tuple(item.shape)}"
            )
    return tuple(item.to(device) for item in items)
