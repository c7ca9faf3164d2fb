"""Number formats of training: fp32, bf16 by autocast, fp16 by autocast with loss scaling."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

NAMES = ("fp32", "bf16", "fp16")


def fast_precision(device: torch.device) -> str:
    """Return the fastest number format that the device computes in by itself.

    A GPU: "bf16" where native, else "fp16". A CPU: "bf16" with AMX, else "fp32", for processors without it emulate
    bfloat16, up to twelve times slower.

    Parameters
    ----------
    device : torch.device
        Where a model will train.

    Returns
    -------
    str
        The ``precision`` for :func:`fit`.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False) else "fp32"


class Precision:
    """Autocast and loss scaling for one device; weights and the loss stay in their own format.

    Parameters
    ----------
    name : {"fp32", "bf16", "fp16"}
        "bf16" needs native support on CUDA (compute capability 8.0 on).
    device : torch.device
        Where the model computes.

    Raises
    ------
    ValueError
        `name` is unknown, or the device cannot do it.
    """

    def __init__(self, name: str, device: torch.device):
        if name not in NAMES:
            raise ValueError(f"precision must be one of {', '.join(NAMES)}, not {name!r}")
        if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ValueError("precision='bf16': this GPU has no native bfloat16, use 'fp16'")
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager:
        """Context in which the forward pass runs."""
        if self.name == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.name == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype)

    def step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        """Compute gradients by `closure` and step; fp16 leaves the step out when a gradient is not finite."""
        if self.name == "fp16":
            closure()
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step(closure)


def apply(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Apply `function` to every tensor in nested tuples, lists and dicts, and hand on anything else."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return type(tree)((key, apply(function, value)) for key, value in tree.items())
    if isinstance(tree, (tuple, list)):
        members = [apply(function, member) for member in tree]
        return type(tree)(*members) if hasattr(tree, "_fields") else type(tree)(members)
    return tree


def to_device(tree: Any, device: torch.device, channels_last: bool = False) -> Any:
    """Tensors of a batch on the device, four-dimensional ones (B, C, H, W) in channels-last order if asked."""

    def move(tensor: Tensor) -> Tensor:
        tensor = tensor.to(device, non_blocking=True)
        return tensor.contiguous(memory_format=torch.channels_last) if channels_last and tensor.ndim == 4 else tensor

    return apply(move, tree)


def as_float(tree: Any) -> Any:
    """Tensors in half precision as float32, so that losses and metrics are computed in full precision."""
    return apply(lambda t: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t, tree)


def samples(inputs: Any, targets: Any) -> int:
    """Count the samples of a batch: the first of inputs and targets that is a tensor, else the list of inputs.

    A ``ValueError`` says that there is neither.
    """
    for part in (inputs, targets):
        if isinstance(part, Tensor) and part.ndim:
            return part.shape[0]
    if not hasattr(inputs, "__len__"):
        raise ValueError(f"batches must yield tensors or lists with one entry a sample, not {type(inputs).__name__}")
    return len(inputs)
