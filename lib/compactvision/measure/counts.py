"""Parameters and multiply-accumulates under named conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from compactvision import _checks as checks
from compactvision._failures import explained
from compactvision.measure.operations import OperationCounter
from compactvision.measure.state import ExampleInputs, evaluating, inputs_from

_MACS = {"convolution": 1, "matrix_product": 1, "attention": 1, "fft": 1}

CONVENTIONS: dict[str, dict[str, int]] = {
    "macs": _MACS,
    "thop": _MACS | {"convolution_bias": 1, "batch_norm": 2, "average_pool": 1, "adaptive_average_pool": 1},
    "network_slimming": {
        "convolution": 2,
        "matrix_product": 2,
        "attention": 2,
        "fft": 2,
        "linear_bias": 1,
        "batch_norm": 2,
        "relu": 1,
        "max_pool": 1,
    },
}
"""Weight of each kind of :mod:`compactvision.measure.operations` in each convention.

``macs``: the book's own, multiply-accumulates of convolutions, linear layers, attention products and FFTs.
``thop``: the handlers of thop 0.0.31 applied to what is executed: biases of convolutions, two operations for each
element of a BatchNorm and average pooling are added; biases of linear layers, max-pooling and ReLU are not.
``network_slimming``: the counter of that method's published code: two operations for each multiply-accumulate, two for
each element of a BatchNorm, one for each ReLU and each element that max-pooling looks at, and the linear layer's bias.
"""


def parameters(model: nn.Module) -> int:
    """Return the number of parameters, trainable or not; one that is shared counts once, buffers do not count."""
    checks.networks(model=model)
    return sum(parameter.numel() for parameter in model.parameters())


def operations(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, int]:
    """Return what one forward pass of one image executes, by kind of operation.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode and left as it was. A model on the meta device costs no arithmetic.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, of which the first image is taken, or the shape (C, H, W) of one, or several
        inputs with a batch dimension each.

    Returns
    -------
    dict of str to int
        Kinds as listed in :mod:`compactvision.measure.operations`; those that did not occur are absent.

    Raises
    ------
    ValueError
        If ``example_inputs`` has no batch dimension, or an operator runs whose arithmetic is not known (named).
    """
    total: Counter[str] = Counter()
    for counter in _operations_by_module(model, example_inputs).values():
        total.update(counter)
    return dict(total)


def macs(model: nn.Module, example_inputs: ExampleInputs, *, convention: str = "macs") -> int:
    """Return the multiply-accumulates of one forward pass of one image.

    Parameters
    ----------
    model, example_inputs
        As for :func:`operations`.
    convention : {"macs", "thop", "network_slimming"}, default "macs"
        What is counted, see ``CONVENTIONS``.

    Raises
    ------
    ValueError
        If ``convention`` is unknown, and as for :func:`operations`.

    Examples
    --------
    >>> from torch import nn
    >>> from compactvision import measure
    >>> measure.macs(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10))  # 10 x 10 pixels, 3 x 3 x 3 weights, 8 filters
    21600
    """
    weights = _weights(convention)
    return _weighted(operations(model, example_inputs), weights)


def macs_by_module(
    model: nn.Module, example_inputs: ExampleInputs, *, convention: str = "macs", cumulative: bool = False
) -> dict[str, int]:
    """Return the multiply-accumulates of each module by name, in the order of ``model.named_modules()``.

    An operation belongs to the innermost module whose ``forward`` is running, so the values add up to :func:`macs`:
    a functional call belongs to the module that makes it (the root is ""), and a module that runs twice counts twice.
    What a scripted module executes belongs to the module around it.

    Parameters
    ----------
    model, example_inputs, convention
        As for :func:`macs`.
    cumulative : bool, default False
        Give each module the sum over itself and all modules inside it.

    Returns
    -------
    dict of str to int
        Modules without a count are left out.
    """
    checks.flags(cumulative=cumulative)
    weights = _weights(convention)
    own = _operations_by_module(model, example_inputs)
    counts: dict[str, int] = {}
    for name, _ in model.named_modules():
        inside = [key for key in own if _is_inside(key, name)] if cumulative else [name]
        count = sum(_weighted(own.get(key, {}), weights) for key in inside)
        if count:
            counts[name] = count
    return counts


@dataclass(frozen=True)
class Summary:
    """Size and cost of a model for one image.

    Attributes
    ----------
    parameters : int
        Number of parameters.
    macs : int
        Multiply-accumulates of one forward pass, under ``convention``.
    bytes : int
        Memory of the parameters and buffers in bytes.
    convention : str
        The counting convention of ``macs``.
    """

    parameters: int
    macs: int
    bytes: int
    convention: str

    def __str__(self) -> str:
        """One line with thousands separators."""
        return f"{self.parameters:,} parameters ({self.bytes:,} bytes with buffers), {self.macs:,} {self.convention}"


def summary(model: nn.Module, example_inputs: ExampleInputs, *, convention: str = "macs") -> Summary:
    """Return parameters, multiply-accumulates and memory of a model; arguments as for :func:`macs`."""
    checks.networks(model=model)
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Summary(parameters(model), macs(model, example_inputs, convention=convention), size, convention)


def _operations_by_module(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, Counter[str]]:
    inputs = tuple(tensor[:1] for tensor in inputs_from(model, example_inputs))
    stack = [""]
    counter = OperationCounter(where=lambda: stack[-1])
    with evaluating(model), _unfused(inputs[0].device), explained(inputs), _running_module(model, stack), counter:
        model(*inputs)
    return counter.counts


@contextmanager
def _running_module(model: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep on the stack the names of the modules whose ``forward`` is running, innermost last; not of scripted ones."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            enter = module.register_forward_pre_hook(lambda *_, name=name: stack.append(name))
            hooks.callback(enter.remove)
            leave = module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True)
            hooks.callback(leave.remove)
        yield


@contextmanager
def _unfused(device: torch.device) -> Iterator[None]:
    """Keep PyTorch from fused kernels that hide their arithmetic, and the random state as it was."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    devices = [device] if device.type == "cuda" else []
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _weights(convention: str) -> dict[str, int]:
    checks.one_of(CONVENTIONS, convention=convention)
    return CONVENTIONS[convention]


def _weighted(counter: dict[str, int], weights: dict[str, int]) -> int:
    return sum(weights.get(kind, 0) * units for kind, units in counter.items())


def _is_inside(key: str, name: str) -> bool:
    return name == "" or key == name or key.startswith(f"{name}.")
