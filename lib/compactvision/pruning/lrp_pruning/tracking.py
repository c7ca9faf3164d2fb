"""Which tensors depend on the inputs, and which of them came about by operations whose relevance is known.

Dependence is followed below autograd, by the memory that values lie in: also through a ``detach``, a scripted function
or an operator of one's own, which no rule sees.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_SHAPES_ONLY = "new_empty new_zeros new_ones new_full empty_like zeros_like ones_like full_like rand_like randn_like"
_VALUES_NOT_READ = frozenset(f"aten::{name}" for name in _SHAPES_ONLY.split())


class Dependence(TorchDispatchMode):
    """Context manager in which every tensor computed from ``inputs`` is known as such."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self._memory: dict[int, StorageWeakRef] = {}  # the references keep an address from being used again
        self._note(inputs)

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether the tensor depends on the inputs."""
        return _address(tensor) in self._memory

    def among(self, values: object) -> list[Tensor]:
        """Return the tensors in nested tuples, lists and dicts that depend on the inputs."""
        return [tensor for tensor in tensors(values) if tensor in self]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operator; what it writes depends on the inputs where something that it reads does."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func._schema.name not in _VALUES_NOT_READ and self.among((args, kwargs)):
            for tensor in tensors(result):
                self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        if _address(tensor) is not None:
            self._memory[_address(tensor)] = StorageWeakRef(tensor.untyped_storage())


class Provenance:
    """The autograd nodes that known operations made; a view of what they made is known too."""

    def __init__(self) -> None:
        self._nodes: set[object] = set()

    def add(self, values: object) -> None:
        """Take what an operation returned, or has just written to, as known."""
        for tensor in tensors(values):
            base = tensor._base if tensor._is_view() else tensor
            self._nodes |= {tensor.grad_fn, base.grad_fn} - {None}

    def refuse_unknown(self, values: Iterable[Tensor], reader: str) -> None:
        """Raise a ValueError where one of the tensors came about by an operation that was not seen."""
        for tensor in values:
            base = tensor._base if tensor._is_view() else tensor
            if tensor.grad_fn is None:
                raise ValueError(
                    f"model: {reader} reads something that depends on the inputs by a way without gradients (detach, "
                    "no_grad, a comparison, an index); no rule says how relevance takes it"
                )
            if tensor.grad_fn not in self._nodes and base.grad_fn not in self._nodes:
                unseen = tensor.grad_fn.name().split("::")[-1].rstrip("0123456789").removesuffix("Backward")
                raise ValueError(
                    f"model: {reader} reads what {unseen!r} computed, an operation that cannot be looked into (a "
                    "scripted or compiled function, an autograd.Function, an extension)"
                )


class Running:
    """Context manager that knows which of some modules is running, by hooks that are removed at the end."""

    def __init__(self, layers: Iterable[tuple[str, nn.Module]]) -> None:
        self._layers = list(layers)
        self._stack: list[str] = []
        self._handles: list = []

    @property
    def name(self) -> str | None:
        """The innermost module that runs."""
        return self._stack[-1] if self._stack else None

    def __enter__(self) -> Running:
        """Put the hooks on."""
        for name, module in self._layers:
            enter = module.register_forward_pre_hook(lambda *_, name=name: self._stack.append(name))
            leave = module.register_forward_hook(self._leave, always_call=True)
            self._handles += [enter, leave]
        return self

    def _leave(self, *_) -> None:
        self._stack.pop()

    def __exit__(self, *_) -> None:
        """Take them off."""
        for handle in self._handles:
            handle.remove()


def tensors(values: object) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int | None:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else None
