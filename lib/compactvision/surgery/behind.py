"""What the rest of a network reads of a layer: its output behind the activation, whatever form that has.

An activation may be a module, a function, a formula such as ``x * torch.sigmoid(x)``, a module that is used several
times, or none. So not modules are asked but tensors are followed: from the output of a layer through all functions that
look at each channel of that layer alone, until something else reads them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from compactvision import hooks
from compactvision._failures import explained
from compactvision.measure.state import ExampleInputs, evaluating, inputs_from
from compactvision.surgery.layers import named_layers
from compactvision.surgery.recording import is_depthwise

WRITERS = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
"""Layers that make channels or norm them, subclasses included."""

_BENDING_NAMES = (
    "relu relu6 hardtanh leaky_relu rrelu prelu threshold elu celu selu gelu silu mish softplus softsign softshrink "
    "hardshrink tanhshrink sigmoid hardsigmoid log_sigmoid expit special_expit tanh hardswish clamp clamp_min clip "
    "clamp_max abs square pow sqrt exp erf"
)
_LINEAR_NAMES = (
    "add sub rsub mul multiply div true_divide iadd isub imul itruediv neg dropout dropout1d dropout2d feature_dropout "
    "alpha_dropout clone contiguous detach to float half bfloat16 double type"
)
_SPATIAL_NAMES = (
    "max_pool2d avg_pool2d lp_pool2d adaptive_avg_pool2d adaptive_max_pool2d interpolate upsample pad mean sum amax "
    "flatten view reshape squeeze unsqueeze"
)
_BENDING, _LINEAR, _SPATIAL = (frozenset(names.split()) for names in (_BENDING_NAMES, _LINEAR_NAMES, _SPATIAL_NAMES))
_PRODUCTS = frozenset({"mul", "multiply", "imul"})


@dataclass(frozen=True)
class _Trace:
    """What a tensor holds: one run of one layer, channel by channel, and whether an activation lies between."""

    of: weakref.ref[Tensor]  # so that the network's memory is freed as ever
    version: int
    layer: str
    run: int
    bent: bool
    last: bool  # whether the channels are the last of more than two dimensions, as linear layers have them


def maps_behind(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, list[Tensor]]:
    """Return what the rest of the network reads of each layer: its output behind the activation.

    Where a convolution is followed by BatchNorm, the layer is the BatchNorm; both have the same channels. Between layer
    and activation there may be a pooling (``relu(max_pool2d(conv(x), 2))``). Where there is no activation and another
    layer reads the output as it is, as behind linear bottlenecks, it is that. Sums of a residual stream stand behind no
    single layer, and layers that only add to one are not among the keys; nor is the last layer.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode without gradients, and left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.

    Returns
    -------
    dict of str to list of Tensor
        By the layer's name in ``surgery.channel_graph``: one map (B, C, H, W) or (B, C) for each time it runs. What a
        linear layer gives of N tokens is (B, C, N, 1).

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> class Swish(nn.Module):
    ...     def forward(self, x):
    ...         return x * torch.sigmoid(x)
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), Swish(), nn.Flatten(), nn.Linear(16, 2))
    >>> x = torch.randn(5, 3, 4, 4)
    >>> maps = surgery.maps_behind(model, x)
    >>> list(maps), torch.equal(maps["0"][0], model[:2](x))
    (['0'], True)
    """
    return _follow(model, example_inputs).found()


def activations_behind(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, str]:
    """Find the layers whose output is the input of an activation module, and that module.

    Where a convolution is followed by BatchNorm, that is the BatchNorm; both have the same channels. Sums of a residual
    stream stand behind no single layer and are not among them, and neither are layers whose activation is a function:
    for those there is :func:`maps_behind`. A module that is used several times is named for each layer that it follows.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode and left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.

    Returns
    -------
    dict of str to str
        From the layer's name in ``surgery.channel_graph`` to the path of the activation module.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> surgery.activations_behind(models.pretrained("resnet20_glyphs"), (3, 32, 32))["layer1.0.bn1"]
    'layer1.0.relu1'
    """
    return _follow(model, example_inputs).modules


def outputs_of(model: nn.Module, example_inputs: ExampleInputs, layers: Mapping[str, str]) -> dict[str, list[Tensor]]:
    """Return, in the form of :func:`maps_behind`, the output of the module whose path is given for each layer.

    Raises
    ------
    ValueError
        If a path is unknown, or its module does not run, runs several times or gives no tensor.
    """
    inputs = inputs_from(model, example_inputs)
    with evaluating(model), hooks.capture(model, list(layers.values()), repeated=True) as captured, explained(inputs):
        model(*inputs)
    found = {name: captured.get(path, []) for name, path in layers.items()}
    for name, runs in found.items():
        if len(runs) != 1 or not isinstance(runs[0], Tensor):
            several = f"runs {len(runs)} times in a forward pass; name the block around it"
            what = "does not run" if not runs else several if len(runs) > 1 else f"gives a {type(runs[0]).__name__}"
            raise ValueError(f"layers: {layers[name]!r}, named for {name!r}, {what}")
    return found


class _Follower(TorchFunctionMode):
    """Follows the outputs of layers; ``maps`` by layer and run, ``modules`` the activation modules."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: dict[str, dict[int, Tensor]] = {}
        self.modules: dict[str, str] = {}
        self._plain: set[tuple[str, int]] = set()  # read as they are, by a layer with weights
        self._final: set[tuple[str, int]] = set()  # read behind the activation: nothing more belongs to it
        self._normed: set[str] = set()  # layers in front of a norm or a depthwise convolution, or such behind a bend
        self._traces: dict[int, _Trace] = {}
        self._runs: dict[str, int] = {}

    def trace_of(self, value: object) -> _Trace | None:
        trace = self._traces.get(id(value))
        return trace if trace is not None and trace.of() is value and trace.version == _version(value) else None

    def wrote(self, name: str, output: object, linear: bool) -> None:
        """Begin to follow what a layer gives."""
        if isinstance(output, Tensor):
            run = self._runs[name] = self._runs.get(name, -1) + 1
            last = linear and output.ndim > 2
            self._traces[id(output)] = _Trace(weakref.ref(output), _version(output), name, run, False, last)

    def read(self, value: object, reader: str, passes_on: bool) -> None:
        """Note that a layer reads a tensor, and whether it passes the channels on one by one."""
        trace = self.trace_of(value)
        if trace is None:
            return
        if trace.bent:
            self._final.add((trace.layer, trace.run))
        if passes_on:
            self._normed.add(reader if trace.bent else trace.layer)
        elif trace.run not in self.maps.get(trace.layer, {}):
            self._plain.add((trace.layer, trace.run))
            self._keep(trace, value)

    def found(self) -> dict[str, list[Tensor]]:
        """Return the maps of each layer in the order of its runs."""
        spoken_for = {(layer, run) for layer, run in self._plain if layer in self._normed}
        kept = {
            name: [runs[run] for run in sorted(runs) if (name, run) not in spoken_for]
            for name, runs in self.maps.items()
        }
        return {name: maps for name, maps in kept.items() if maps}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        traces = [self.trace_of(tensor) for tensor in tensors]  # before an in-place function has written
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and any(traces):
            found = self._passed_on(getattr(func, "__name__", "").strip("_"), tensors, traces, result)
            self._traces.pop(id(result), None)
            if found is not None:
                self._traces[id(result)] = found
                if found.bent and (found.layer, found.run) not in self._final:
                    self._plain.discard((found.layer, found.run))
                    self._keep(found, result)
        return result

    def _passed_on(
        self, name: str, tensors: list[Tensor], traces: list[_Trace | None], result: Tensor
    ) -> _Trace | None:
        """Return the trace of a function's result, if it still holds one layer channel by channel."""
        first, *others = (trace for trace in traces if trace is not None)
        bent = any(trace.bent for trace in (first, *others))
        strange = any(
            tensor.numel() > 1 and trace is None and name != "prelu"
            for tensor, trace in zip(tensors, traces, strict=True)
        )
        if strange or any((trace.layer, trace.run) != (first.layer, first.run) for trace in others):
            return None
        if name in _BENDING or (name in _PRODUCTS and others):
            bent = True
        elif name in _SPATIAL:
            if bent or first.last or result.shape[:2] != tensors[0].shape[:2]:
                return None
        elif name not in _LINEAR:
            return None
        return replace(first, of=weakref.ref(result), version=_version(result), bent=bent)

    def _keep(self, trace: _Trace, maps: Tensor) -> None:
        maps = maps.clone()  # it may still be written to
        if trace.last:
            maps = maps.movedim(-1, 1)
            maps = maps.unsqueeze(-1) if maps.ndim == 3 else maps
        self.maps.setdefault(trace.layer, {})[trace.run] = maps


def _follow(model: nn.Module, example_inputs: ExampleInputs) -> _Follower:
    follower = _Follower()
    inputs = inputs_from(model, example_inputs)
    with evaluating(model), explained(inputs), _hooked(model, follower), torch.random.fork_rng(devices=[]), follower:
        model(*inputs)
    return follower


@contextmanager
def _hooked(model: nn.Module, follower: _Follower) -> Iterator[None]:
    with ExitStack() as stack:
        for name, path, module in named_layers(model):
            if isinstance(module, WRITERS):
                passes_on = is_depthwise(module) or not isinstance(module, (nn.Conv2d, nn.Linear))
                stack.callback(module.register_forward_pre_hook(_reading(follower, name, passes_on)).remove)
                stack.callback(module.register_forward_hook(_writing(follower, name)).remove)
            elif not any(True for _ in module.children()):
                enter, leave = _bending(follower, path)
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        yield


def _reading(follower: _Follower, name: str, passes_on: bool) -> Callable:
    return lambda module, args: follower.read(args[0], name, passes_on) if args else None


def _writing(follower: _Follower, name: str) -> Callable:
    return lambda module, args, output: follower.wrote(name, output, isinstance(module, nn.Linear))


def _bending(follower: _Follower, path: str) -> tuple[Callable, Callable]:
    """Return hooks that name a module as a layer's activation if it is one."""
    before: list[_Trace | None] = []

    def enter(module: nn.Module, args: tuple) -> None:
        before.append(follower.trace_of(args[0]) if args else None)

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        came, goes = before.pop(), follower.trace_of(output)
        if came is not None and goes is not None and goes.bent and not came.bent:
            follower.modules[goes.layer] = path

    return enter, leave


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
