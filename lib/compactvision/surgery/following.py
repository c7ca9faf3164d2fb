"""Follows labels of channels through the functions that a network calls between its layers.

A pooling or an activation passes them on; a concatenation joins them; a sum and a product couple them; flattening
repeats each once per pixel, and a transposition moves them to another dimension. What is made without layers, the
images above all, counts as constant and cannot be cut. The channels that any other function reads are kept whole, so
that it gets what it always got, and what it makes of them is constant, too. Refused with name and place is a function
that writes to channels or turns them into numbers of Python, and the first use of a tensor that depends on a layer but
was made or written to out of sight (see :mod:`compactvision.surgery.dependence`).
"""

from __future__ import annotations

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
    SCALING,
    kept_axis,
    name_of,
    softmax_over,
    tensors_in,
)
from compactvision.surgery.layers import named_layers
from compactvision.surgery.moving import PICKING, TURNING, moved
from compactvision.surgery.outputs import output_tensors
from compactvision.surgery.recording import LAYERS, OUTPUT, Carried, Recording, Sum, readable


class Follower(TorchFunctionMode):
    """Labels the results of functions while a model runs, and books its layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.found = model, Recording()
        self.running: list[tuple[str, str, nn.Module]] = [("", "", model)]
        self.inside_layer = self.inside_function = False
        self._carried: dict[int, Carried] = {}
        self._held: dict[int, Tensor] = {}  # tensors that carry something, so that the id of each stays its own
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
                self.found.fix(self._known(tensor, "returns").labels or [], OUTPUT)
        return self.found

    def label(self, tensor: Tensor, carried: Carried) -> None:
        """Say what a tensor carries; other names of written memory are forgotten if they carry other labels."""
        if self._written:
            stale = [key for key, other in self._carried.items() if other.labels != carried.labels]
            for key in stale:
                if memory(self._held[key]) in self._written:
                    del self._carried[key]
        self._carried[id(tensor)], self._held[id(tensor)] = carried, tensor
        self.dependence.mark(tensor)

    def carried(self, value: object) -> Carried | None:
        """Return what a tensor carries along a dimension, None if it is constant, whole, or no tensor."""
        held = self._carried.get(id(value))
        return None if held is None or held.labels is None else held

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
                self._follow(name, func, args, kwargs, used, result)
        finally:
            self.inside_function, self._written = False, set()
        return result

    def _follow(self, name: str, func: Callable, args: tuple, kwargs: dict, used: list[Tensor], result: object) -> None:
        results = tensors_in(result)
        if not self._written <= {memory(tensor) for tensor in results}:
            raise self._refusal(name)
        for tensor in used:
            self._known(tensor, f"calls {name!r} on")
        owner = self._owner(name, args, kwargs) if name in CALLED else None
        if owner is not None:
            self.run_layer(*owner, args[:1] or (kwargs["input"],), result)
            return
        results = [tensor for tensor in results if tensor in self.dependence]
        if used and results and not self._passed_on(name, func, args, kwargs, used, results):
            self._keep_whole(name, used, results)

    def _passed_on(
        self, name: str, func: Callable, args: tuple, kwargs: dict, used: list[Tensor], results: list[Tensor]
    ) -> bool:
        """Label the results where it is known what the function does to the channels of what it read."""
        source, result, held = used[0], results[0], self.carried(used[0])
        if name in ADDING or name in SCALING:
            return self._combined(name, args, kwargs, result)
        if name in JOINING:
            return self._concatenated(args, kwargs, result)
        if held is None:
            return False
        if name in NEEDING_ALL:
            if softmax_over(source, held.axis, args, kwargs):
                self.found.fix(held.labels, OUTPUT)
            self.label(result, Carried(held.labels, held.axis))
            return True
        if (name in TURNING or name in PICKING) and not self._written:
            places = moved(name, func, source, held.axis, args, kwargs, results)
            for tensor, (axis, indices) in zip(results, places or [], strict=False):
                self.label(tensor, Carried([held.labels[index] for index in indices], axis))
            return places is not None
        axis = kept_axis(name, source, held.axis, result, args, kwargs)
        if axis is not None:
            self.label(result, Carried(held.labels, axis))
        return axis is not None

    def _keep_whole(self, name: str, used: list[Tensor], results: list[Tensor]) -> None:
        """Let nothing be cut of what a function read, so that what it made stays as it is."""
        carried = [self._carried[id(tensor)] for tensor in used]
        said = next((held.said for held in carried if held.labels is None), f"{self._place()!r} calls {name!r} on it")
        for held in carried:
            if held.labels is not None:
                if self._written:
                    raise self._refusal(name)
                self.found.fix(held.labels, f"{self._place()!r} calls {name!r} on it")
        for tensor in results:
            self.label(tensor, Carried(None, said=said))

    def _combined(self, name: str, args: tuple, kwargs: dict, result: Tensor) -> bool:
        """Add or multiply: with another tensor that layers made, or with one that cannot be cut."""
        given = [*args[:2], *(value for key, value in kwargs.items() if key != "out")]
        given = [value for value in given if isinstance(value, Tensor)]
        axes = {held.axis + result.ndim - value.ndim for value in given if (held := self.carried(value))}
        if len(axes) != 1:
            return False
        axis = axes.pop()
        operands = [self._operand(value, result, axis) for value in given]
        first, second = ([operand for operand in operands if operand is not None] + [None])[:2]
        if second is None:  # with numbers, or with what is the same for all channels
            self.label(result, Carried(first[0], axis))
        elif name in ADDING:
            fresh = self.found.fresh(len(first[0]))
            self.found.sums.append(Sum([first, second], fresh))
            self.label(result, Carried(fresh, axis))
        else:
            self.found.same.append((first[0], second[0]))
            self.label(result, Carried(first[0], axis))
        return True

    def _operand(self, value: Tensor, result: Tensor, axis: int) -> tuple[list[int], str | None] | None:
        """Return labels and maker of an operand; None where it is the same for all channels of the result."""
        channels, held = result.shape[axis], self.carried(value)
        if held is not None and len(held.labels) == channels:
            return held.labels, held.maker
        if held is not None:
            self.found.fix(held.labels, "it is one channel that all others meet")
            return None
        own = axis - result.ndim + value.ndim
        return None if own < 0 or value.shape[own] == 1 else (self._constant(value, channels), None)

    def _concatenated(self, args: tuple, kwargs: dict, result: Tensor) -> bool:
        parts = args[0] if args else kwargs["tensors"]
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        axes = {held.axis for part in parts if (held := self.carried(part))}
        if len(axes) != 1 or not isinstance(dim, int):
            return False
        axis = axes.pop()
        parts = [part for part in parts if part.ndim == result.ndim]  # others are empty
        held = [
            each.labels if (each := self.carried(part)) else self._constant(part, part.shape[axis]) for part in parts
        ]
        if dim % result.ndim == axis:
            labels = [label for labels in held for label in labels]
            self.found.joined.append(labels)
        else:
            labels = held[0]
            self.found.same += [(labels, others) for others in held[1:]]
        self.label(result, Carried(labels, axis))
        return True

    def _constant(self, value: Tensor, count: int) -> list[int]:
        """Return labels of a tensor that stays as it is."""
        held = self._carried.get(id(value))
        return (
            self.found.constant(count, f"it meets what is kept whole: {held.said}")
            if held
            else self.found.constant(count)
        )

    def run_layer(self, name: str, path: str, module: nn.Module, args: tuple, result: Tensor) -> None:
        """Book one call of a layer and label its result."""
        linear = isinstance(module, nn.Linear)
        if not args or not isinstance(args[0], Tensor) or not readable(module, args[0].ndim):
            shape = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else "nothing without a keyword"
            raise ValueError(
                f"layer {name!r}: surgery needs an input (B, C) or (B, C, H, W), of linear layers (B, ..., C); "
                f"got {shape}"
            )
        axis = args[0].ndim - 1 if linear else 1
        reads = self._read(name, args[0], axis) if args[0] in self.dependence else None
        call = self.found.book(name, path, module, reads, (args[0].shape[axis], result.shape[axis]))
        call.last = call.last or axis != 1
        self.label(result, Carried(call.writes, axis, name))

    def _read(self, name: str, tensor: Tensor, axis: int) -> list[int]:
        """Return the labels of a layer's input; channels that lie along another dimension than it reads stay whole."""
        held = self._known(tensor, "reads", name)
        if held.labels is not None and held.axis == axis:
            return held.labels
        if held.labels is not None:
            self.found.fix(held.labels, f"{name!r} reads another dimension of it")
        return self._constant(tensor, tensor.shape[axis])

    def _known(self, tensor: Tensor, does: str, place: str = "") -> Carried:
        """Return what a tensor that depends on a layer carries; raise if it was made out of sight."""
        held = self._carried.get(id(tensor))
        if held is not None:
            return held
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
                self._carried.pop(key, None)

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
