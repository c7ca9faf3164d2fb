"""Follows every channel of a network through one forward pass.

Each tensor that carries channels is labelled with one number per channel. A layer with weights reads labels and writes
new ones; a pooling or an activation passes them on; a concatenation joins them; flattening repeats each once per pixel.
What is found is a :class:`Recording`, from which :mod:`compactvision.surgery.coupling` decides which channels belong
together. An operation that is not known to leave channels alone is refused with its name and place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from compactvision.measure.state import ExampleInputs, evaluating, inputs_from
from compactvision.models.layers import ChannelMap
from compactvision.surgery.layers import named_layers

LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, ChannelMap)
"""Layers that surgery can cut; subclasses may compute something else and are looked into."""

_ELEMENTWISE = (
    "relu relu6 hardtanh leaky_relu elu celu selu gelu silu mish softplus sigmoid tanh hardswish hardsigmoid clamp abs "
    "neg square sqrt exp dropout dropout1d dropout2d feature_dropout alpha_dropout clone contiguous detach to float "
    "half bfloat16 double type"
)
_SPATIAL = "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d interpolate upsample"
_KEEPING = frozenset((*_ELEMENTWISE.split(), *_SPATIAL.split()))
_NEEDING_ALL = frozenset({"softmax", "log_softmax"})
_ADDING = frozenset({"add", "sub", "rsub"})
_SCALING = frozenset({"mul", "multiply", "div", "true_divide"})
_REDUCING = frozenset({"mean", "sum", "amax"})
_RESHAPING = frozenset({"flatten", "view", "reshape", "squeeze", "unsqueeze"})


@dataclass
class Call:
    """One layer in the order of execution: labels read and written, one per channel."""

    name: str
    path: str
    module: nn.Module
    reads: list[int]
    writes: list[int]
    calls: int = 1

    @property
    def passes_on(self) -> bool:
        """Whether each output channel is made from the input channel of the same index alone."""
        return isinstance(self.module, (nn.BatchNorm1d, nn.BatchNorm2d)) or is_depthwise(self.module)


@dataclass
class Sum:
    """A residual sum: labels of each operand with the layer that made it (if one did), and of the result."""

    operands: list[tuple[list[int], str | None]]
    result: list[int]


@dataclass
class Recording:
    """What one forward pass showed.

    Attributes
    ----------
    layers : dict of str to Call
        Every layer that ran, by name.
    sums : list of Sum
        Residual sums.
    same : list of (list of int, list of int)
        Labels that belong together wherever they occur: factors of a product, a layer that is used again.
    joined : list of list of int
        Labels of each concatenation.
    inputs, outputs : list of int
        Labels of the images, and of what the network returns or takes a softmax of.
    labels : int
        Number of labels used.
    """

    layers: dict[str, Call] = field(default_factory=dict)
    sums: list[Sum] = field(default_factory=list)
    same: list[tuple[list[int], list[int]]] = field(default_factory=list)
    joined: list[list[int]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    labels: int = 0

    def fresh(self, count: int) -> list[int]:
        """Return ``count`` labels that were never used."""
        self.labels += count
        return list(range(self.labels - count, self.labels))


def record(model: nn.Module, example_inputs: ExampleInputs) -> Recording:
    """Run the model once in evaluation mode and return where every channel goes; the model is left as it was.

    Raises
    ------
    ValueError
        If an operation, a layer or the sharing of a parameter is not one that surgery can express.
    """
    _refuse_shared_parameters(model)
    inputs = inputs_from(model, example_inputs)
    recorder = _Recorder()
    with evaluating(model), _hooked(model, recorder), torch.random.fork_rng(devices=[]):
        for tensor in inputs:
            recorder.label(tensor, recorder.found.fresh(tensor.shape[1]))
            recorder.found.inputs += recorder.labels_of(tensor)
        with recorder:
            outputs = model(*inputs)
    for tensor in pytree.tree_leaves(outputs):
        if isinstance(tensor, Tensor):
            recorder.found.outputs += recorder.labels_of(tensor) or []
    return recorder.found


def is_depthwise(module: nn.Module) -> bool:
    """Return whether the module is a convolution with one input and one output channel in each group."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


class _Recorder(TorchFunctionMode):
    """Labels the results of functions; the hooks on layers call :meth:`run_layer`."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Recording()
        self.running: list[str] = [""]
        self.inside_layer = False
        self._labels: dict[
            int, tuple[Tensor, list[int], str | None]
        ] = {}  # the tensor is held, so its id stays its own

    def label(self, tensor: Tensor, labels: list[int], maker: str | None = None) -> None:
        self._labels[id(tensor)] = (tensor, labels, maker)

    def labels_of(self, value: object) -> list[int] | None:
        return self._labels[id(value)][1] if id(value) in self._labels else None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.inside_layer or not _tensors(result):
            return result
        labelled = [value for value in pytree.tree_leaves((args, kwargs)) if self.labels_of(value) is not None]
        if labelled:
            self._pass_on(func.__name__.strip("_"), args, kwargs, labelled, result)
        return result

    def _pass_on(self, name: str, args: tuple, kwargs: dict, labelled: list[Tensor], result: object) -> None:
        source = labelled[0]
        labels = self.labels_of(source)
        if name in _KEEPING or (name == "pad" and not any(_padding(args, kwargs)[2 * (source.ndim - 2) :])):
            self.label(_tensors(result)[0], labels)
        elif name in _ADDING or name in _SCALING:
            self._combine(name, args, labelled, result)
        elif name == "cat" and _dim(args, kwargs) == 1:
            self._concatenate(name, args, kwargs, result)
        elif name in _REDUCING and _keeps_channels(source, args, kwargs):
            self.label(result, labels)
        elif name in _NEEDING_ALL:
            self.found.outputs += labels
            self.label(result, labels)
        elif name in _RESHAPING:
            self.label(result, self._reshaped(name, source, result))
        elif name == "getitem" and _leaves_channels(args[1]):
            self.label(result, labels)
        else:
            raise self._refusal(name)

    def _combine(self, name: str, args: tuple, labelled: list[Tensor], result: Tensor) -> None:
        if len(labelled) == 1:  # with a number, or with a tensor that is the same for all channels
            others = [value for value in args if isinstance(value, Tensor) and value is not labelled[0]]
            behind = labelled[0].ndim - 1  # the channels are this many dimensions from the last one
            if any(other.ndim >= behind and other.shape[-behind] > 1 for other in others):
                raise self._refusal(name, "with a tensor of its own for each channel")
            self.label(result, self.labels_of(labelled[0]))
            return
        held = [self._labels[id(value)][1:] for value in labelled[:2]]
        if len(held[0][0]) != len(held[1][0]):
            raise self._refusal(name, f"on {len(held[0][0])} and {len(held[1][0])} channels")
        if name in _ADDING:
            fresh = self.found.fresh(len(held[0][0]))
            self.found.sums.append(Sum(held, fresh))
            self.label(result, fresh)
        else:
            self.found.same.append((held[0][0], held[1][0]))
            self.label(result, held[0][0])

    def _concatenate(self, name: str, args: tuple, kwargs: dict, result: Tensor) -> None:
        parts = args[0] if args else kwargs["tensors"]
        if any(self.labels_of(part) is None for part in parts):
            raise self._refusal(name, "with a tensor that no layer made")
        labels = [label for part in parts for label in self.labels_of(part)]
        self.found.joined.append(labels)
        self.label(result, labels)

    def _reshaped(self, name: str, source: Tensor, result: Tensor) -> list[int]:
        labels, positions = self.labels_of(source), math.prod(source.shape[2:])
        if result.shape[:2] == source.shape[:2]:
            return labels
        if result.shape == (source.shape[0], source.shape[1] * positions):
            return [label for label in labels for _ in range(positions)]
        raise self._refusal(name, f"from {tuple(source.shape)} to {tuple(result.shape)}")

    def run_layer(self, name: str, path: str, module: nn.Module, args: tuple, result: Tensor) -> None:
        """Book one call of a layer."""
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module):
            shape = f"groups={module.groups}, {module.in_channels} to {module.out_channels} channels"
            raise ValueError(f"layer {name!r}: only depthwise among the grouped convolutions can be cut, got {shape}")
        allowed = (2,) if isinstance(module, nn.Linear) else (2, 4)
        if not args or args[0].ndim not in allowed:
            shape = tuple(args[0].shape) if args else "nothing"
            raise ValueError(
                f"layer {name!r}: surgery needs an input (B, C) or, but for linear layers, (B, C, H, W); got {shape}"
            )
        reads = self.labels_of(args[0])
        if reads is None:  # made from constants: nothing that could be cut
            reads = self.found.fresh(args[0].shape[1])
            self.found.inputs += reads
        known = self.found.layers.get(name)
        if known is None:
            known = Call(name, path, module, reads, self.found.fresh(result.shape[1]))
            self.found.layers[name] = known
        else:
            known.calls += 1
            self.found.same.append((known.reads, reads))
        self.label(result, known.writes, name)

    def _refusal(self, name: str, detail: str = "on channels") -> ValueError:
        place = self.running[-1] or "the model itself"
        return ValueError(f"model: {place!r} calls {name!r} {detail}, which surgery cannot follow")


@contextmanager
def _hooked(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Tell the recorder which module runs, and book the layers; all hooks are removed on exit."""
    with ExitStack() as stack:
        for name, path, module in named_layers(model):
            is_layer = type(module) in LAYERS
            enter, leave = _hooks(recorder, name, path, is_layer)
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        yield


def _hooks(recorder: _Recorder, name: str, path: str, is_layer: bool) -> tuple[Callable, Callable]:
    def enter(module: nn.Module, args: tuple) -> None:
        recorder.running.append(name)
        recorder.inside_layer = is_layer

    def leave(module: nn.Module, args: tuple, result: object) -> None:
        recorder.running.pop()
        if is_layer:
            recorder.inside_layer = False
            recorder.run_layer(name, path, module, args, result)

    return enter, leave


def _refuse_shared_parameters(model: nn.Module) -> None:
    owners: dict[int, str] = {}
    for path, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{key}" if path else key
            first = owners.setdefault(id(parameter), full)
            if first != full:
                raise ValueError(f"model: {first!r} and {full!r} are one parameter; surgery needs one owner for each")


def _tensors(result: object) -> list[Tensor]:
    values = result if isinstance(result, (tuple, list)) and not isinstance(result, torch.Size) else [result]
    return [value for value in values if isinstance(value, Tensor)]


def _dim(args: tuple, kwargs: dict) -> int:
    return args[1] if len(args) > 1 else kwargs.get("dim", 0)


def _padding(args: tuple, kwargs: dict) -> tuple[int, ...]:
    return tuple(args[1] if len(args) > 1 else kwargs["pad"])


def _keeps_channels(source: Tensor, args: tuple, kwargs: dict) -> bool:
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    dims = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    return bool(dims) and all(dim % source.ndim > 1 for dim in dims)


def _leaves_channels(key: object) -> bool:
    full = slice(None)
    return (
        isinstance(key, tuple) and len(key) > 1 and key[0] == key[1] == full and all(isinstance(k, slice) for k in key)
    )
