"""Follows labels of channels through the functions that a network calls between its layers.

A pooling or an activation passes them on; a concatenation joins them; a sum and a product couple them; flattening
repeats each once per pixel. What is made without layers, the images above all, counts as constant and cannot be cut. A
function that is not known to leave channels alone is refused with its name and place, and so is the first use of a
tensor that depends on a layer but was made or written to out of sight (see :mod:`compactvision.surgery.dependence`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from compactvision.surgery.dependence import SHAPED_LIKE, Dependence, memory
from compactvision.surgery.functions import (
    ADDING,
    CALLED,
    JOINING,
    LEAKING,
    NEEDING_ALL,
    RESHAPING,
    SCALING,
    keeps_channels,
    name_of,
    tensors_in,
)
from compactvision.surgery.layers import named_layers
from compactvision.surgery.outputs import output_tensors
from compactvision.surgery.recording import LAYERS, OUTPUT, Recording, Sum, is_depthwise


class Follower(TorchFunctionMode):
    """Labels the results of functions while a model runs, and books its layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.found = model, Recording()
        self.running: list[tuple[str, str, nn.Module]] = [("", "", model)]
        self.inside_layer = self.inside_function = False
        self._labels: dict[int, tuple[list[int], str | None]] = {}
        self._held: dict[int, Tensor] = {}  # tensors with labels, so that the id of each stays its own
        self._written: set[int] = set()
        self.dependence = Dependence(dict(model.named_parameters()), self._note_write, self._refuse_read)

    def run(self, inputs: tuple[Tensor, ...]) -> Recording:
        """Run the model on ``inputs`` and return what was found."""
        before = {name: (id(value), value.data_ptr()) for name, value in self.model.named_parameters()}
        try:
            with self._hooked(), self.dependence, self:
                outputs = self.model(*inputs)
        except ValueError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise ValueError(f"example_inputs: {self._place()!r} fails on {shapes}: {error}") from error
        after = {name: (id(value), value.data_ptr()) for name, value in self.model.named_parameters()}
        for name in before:
            if before[name] != after.get(name):
                raise ValueError(
                    f"model: parameter {name!r} is replaced while the network runs, which surgery cannot follow"
                )
        for tensor in output_tensors(outputs):
            if tensor in self.dependence:
                self.found.fix(self._known(tensor, "returns"), OUTPUT)
        return self.found

    def label(self, tensor: Tensor, labels: list[int], maker: str | None = None) -> None:
        """Say which channels a tensor carries; other names of written memory are forgotten if theirs differ."""
        if self._written:
            stale = [key for key, (others, _) in self._labels.items() if others != labels]
            for key in stale:
                if memory(self._held[key]) in self._written:
                    del self._labels[key]
        self._labels[id(tensor)], self._held[id(tensor)] = (labels, maker), tensor
        self.dependence.mark(tensor)

    def labels_of(self, value: object) -> list[int] | None:
        """Return the labels of a tensor, None if it has none."""
        return self._labels[id(value)][0] if id(value) in self._labels else None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.inside_layer:
            return func(*args, **kwargs)
        name = name_of(func)
        used = [value for value in pytree.tree_leaves((args, kwargs)) if value in self.dependence]
        if used and name in LEAKING:
            raise self._refusal(name)
        self.inside_function = True
        try:
            result = func(*args, **kwargs)
            if name not in SHAPED_LIKE and (tensors_in(result) or self._written):
                self._follow(name, args, kwargs, used, result)
        finally:
            self.inside_function, self._written = False, set()
        return result

    def _follow(self, name: str, args: tuple, kwargs: dict, used: list[Tensor], result: object) -> None:
        results = tensors_in(result)
        if not self._written <= {memory(tensor) for tensor in results}:
            raise self._refusal(name)
        for tensor in used:
            self._known(tensor, f"calls {name!r} on")
        owner = self._owner(name, args, kwargs) if name in CALLED else None
        if owner is not None:
            self.run_layer(*owner, args[:1] or (kwargs["input"],), result)
        elif used and any(tensor in self.dependence for tensor in results):
            self._pass_on(name, args, kwargs, used, results[0])

    def _pass_on(self, name: str, args: tuple, kwargs: dict, used: list[Tensor], result: Tensor) -> None:
        source = used[0]
        labels = self.labels_of(source)
        if keeps_channels(name, source, args, kwargs):
            self.label(result, labels)
        elif name in ADDING or name in SCALING:
            self._combine(name, args, kwargs, result)
        elif name in JOINING:
            self._concatenate(name, args, kwargs, result)
        elif name in NEEDING_ALL:
            self.found.fix(labels, OUTPUT)
            self.label(result, labels)
        elif name in RESHAPING:
            self.label(result, self._reshaped(name, source, result))
        else:
            raise self._refusal(name)

    def _combine(self, name: str, args: tuple, kwargs: dict, result: Tensor) -> None:
        """Add or multiply: with another tensor that layers made, or with one that cannot be cut."""
        given = (*args[:2], *(value for key, value in kwargs.items() if key != "out"))
        operands = [self._operand(name, value, result) for value in given if isinstance(value, Tensor)]
        first, second = ([operand for operand in operands if operand is not None] + [None])[:2]
        if second is None:  # with numbers, or with what is the same for all channels
            self.label(result, first[0])
        elif name in ADDING:
            fresh = self.found.fresh(len(first[0]))
            self.found.sums.append(Sum([first, second], fresh))
            self.label(result, fresh)
        else:
            self.found.same.append((first[0], second[0]))
            self.label(result, first[0])

    def _operand(self, name: str, value: Tensor, result: Tensor) -> tuple[list[int], str | None] | None:
        """Return labels and maker of an operand; None where it is the same for all channels of the result."""
        channels = result.shape[1]
        behind = result.ndim - 1  # the channels are this many dimensions from the last one
        own = value.shape[-behind] if value.ndim >= behind else 1
        if id(value) in self._labels:
            held = self._labels[id(value)]
            if value.ndim != result.ndim or len(held[0]) not in (1, channels):
                raise self._refusal(name, f"on {tuple(value.shape)}, which is to be {tuple(result.shape)}")
            if len(held[0]) == channels:
                return held
            self.found.fix(held[0], "it is one channel that all others meet")
            return None
        return None if own == 1 else (self.found.constant(channels), None)

    def _concatenate(self, name: str, args: tuple, kwargs: dict, result: Tensor) -> None:
        parts = args[0] if args else kwargs["tensors"]
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        held = [self.labels_of(part) or self.found.constant(part.shape[1]) for part in parts]
        if dim % result.ndim == 1:
            labels = [label for labels in held for label in labels]
            self.found.joined.append(labels)
        else:
            labels = held[0]
            self.found.same += [(labels, others) for others in held[1:]]
        self.label(result, labels)

    def _reshaped(self, name: str, source: Tensor, result: Tensor) -> list[int]:
        labels, positions = self.labels_of(source), math.prod(source.shape[2:])
        if result.shape[:2] == source.shape[:2]:
            return labels
        if result.shape == (source.shape[0], source.shape[1] * positions):
            return [label for label in labels for _ in range(positions)]
        raise self._refusal(name, f"from {tuple(source.shape)} to {tuple(result.shape)}")

    def run_layer(self, name: str, path: str, module: nn.Module, args: tuple, result: Tensor) -> None:
        """Book one call of a layer and label its result."""
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module):
            shape = f"groups={module.groups}, {module.in_channels} to {module.out_channels} channels"
            raise ValueError(f"layer {name!r}: only depthwise among the grouped convolutions can be cut, got {shape}")
        allowed = (2,) if isinstance(module, nn.Linear) else (2, 4)
        if not args or not isinstance(args[0], Tensor) or args[0].ndim not in allowed:
            shape = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else "nothing without a keyword"
            raise ValueError(
                f"layer {name!r}: surgery needs an input (B, C) or, but for linear layers, (B, C, H, W); got {shape}"
            )
        reads = self._known(args[0], "reads", name) if args[0] in self.dependence else None
        call = self.found.book(name, path, module, reads, (args[0].shape[1], result.shape[1]))
        self.label(result, call.writes, name)

    def _known(self, tensor: Tensor, does: str, place: str = "") -> list[int]:
        """Return the labels of a tensor that depends on a layer; raise if it was made out of sight."""
        labels = self.labels_of(tensor)
        if labels is not None:
            return labels
        raise ValueError(
            f"model: {place or self._place()!r} {does} a tensor that was made or written to where surgery cannot see "
            "it: by a scripted function, an extension, or through another name of its memory"
        )

    def _owner(self, name: str, args: tuple, kwargs: dict) -> tuple[str, str, nn.Module] | None:
        """Return the running module where it is a subclass of a layer and this is the call with its own weight."""
        module = self.running[-1][2]
        kind, position = CALLED.get(name, ((), 0))
        if not isinstance(module, kind) or type(module) in LAYERS or module.weight is None:
            return None
        weight = args[position] if len(args) > position else kwargs.get("weight")
        return self.running[-1] if weight is module.weight else None

    def _note_write(self, tensor: Tensor) -> None:
        if self.inside_layer or self.inside_function:
            self._written.add(memory(tensor))
            return
        for key, held in self._held.items():  # written to out of sight: no name of this memory says anything now
            if memory(held) == memory(tensor):
                self._labels.pop(key, None)

    def _refuse_read(self, name: str) -> None:
        if not self.inside_layer:
            raise self._refusal(name, "and goes on with a number of it")

    def _refusal(self, name: str, detail: str = "on channels") -> ValueError:
        return ValueError(f"model: {self._place()!r} calls {name!r} {detail}, which surgery cannot follow")

    def _place(self) -> str:
        return self.running[-1][0] or "the model itself"

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Note which module runs, and book the layers. Hooks of others run outside of this, where they are seen."""
        with ExitStack() as stack:
            for name, path, module in named_layers(self.model):
                enter, leave = self._hooks(name, path, type(module) in LAYERS)
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave, prepend=True).remove)
            yield

    def _hooks(self, name: str, path: str, is_layer: bool) -> tuple[Callable, Callable]:
        def enter(module: nn.Module, args: tuple) -> None:
            self.running.append((name, path, module))
            self.inside_layer = is_layer

        def leave(module: nn.Module, args: tuple, result: object) -> None:
            self.running.pop()
            if is_layer:
                self.inside_layer = False
                self.run_layer(name, path, module, args, result)

        return enter, leave
