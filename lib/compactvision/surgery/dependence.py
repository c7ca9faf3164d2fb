"""Which tensors depend on what layers made, seen by the operations that PyTorch itself runs.

Functions of PyTorch can be called in ways that a :class:`torch.overrides.TorchFunctionMode` does not see: from scripted
code, from C++ extensions, by statements such as ``y[:, :4] = x``. The operations underneath pass through here all the
same, so that a tensor which depends on a layer is never taken for a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_SHAPED_LIKE = (
    "zeros_like ones_like empty_like full_like rand_like randn_like randint_like "
    "new_zeros new_ones new_empty new_full new_empty_strided new_tensor"
)
SHAPED_LIKE = frozenset(_SHAPED_LIKE.split())
"""Functions that take only shape, dtype and device from a tensor."""


class Dependence(TorchDispatchMode):
    """Keeps the memory of all tensors that depend on marked ones, while it is entered.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        Which must not be written to.
    on_write : callable
        Called with a tensor whose memory depends on a marked one and was written to.
    on_read : callable
        Called with the name of an operation that turned a dependent tensor into a Python number.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], on_write: Callable[[Tensor], None], on_read: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._parameters = {memory(tensor): name for name, tensor in parameters.items()}
        self._marked: dict[int, Tensor] = {}  # the tensors are held, so no memory is used a second time
        self._on_write, self._on_read = on_write, on_read

    def mark(self, tensor: Tensor) -> None:
        """Let everything depend that is computed from this tensor's memory."""
        self._marked.setdefault(memory(tensor), tensor)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, Tensor) and memory(value) in self._marked

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():  # what is done here is none of the network's own calls
            return self._watch(func, args, kwargs or {})

    def _watch(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> object:
        given = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        dependent = any(value in self for value in given)
        result = func(*args, **kwargs)
        written = _written(func, args, kwargs)
        for tensor in written:
            if memory(tensor) in self._parameters:
                raise ValueError(
                    f"model: parameter {self._parameters[memory(tensor)]!r} is written to while the network runs (by a "
                    "hook?); make the change permanent before"
                )
        if not dependent or func._schema.name.partition("::")[2] in SHAPED_LIKE:
            return result
        made = [value for value in pytree.tree_leaves(result) if isinstance(value, Tensor)]
        for tensor in (*made, *written):
            self.mark(tensor)
        for tensor in written:
            self._on_write(tensor)
        if func._schema.returns and not made:
            self._on_read(func._schema.name.partition("::")[2].strip("_"))
        return result


def memory(tensor: Tensor) -> int:
    """Return a number that tensors share exactly where they share their memory."""
    with torch._C.DisableTorchFunction():
        try:
            return tensor.untyped_storage()._cdata
        except (RuntimeError, NotImplementedError):  # sparse and other tensors without a storage of their own
            return id(tensor)


def _written(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> list[Tensor]:
    """Return the tensors that the operation's schema says it writes to."""
    found = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            found += [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
    return found
