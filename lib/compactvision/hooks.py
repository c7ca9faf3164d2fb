"""Looks at and replaces what layers give, with hooks that are always removed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import _checks as checks


class Captured(Mapping):
    """Outputs of the captured layers by name, those of the latest forward pass.

    An output is what the layer returned: a tensor, or a tuple, list or dict of tensors. With ``repeated=True`` it is
    the list of what the layer returned at each call, in order. A layer that has not run is absent. Reading an output
    that has been overwritten in place since is a ValueError.
    """

    def __init__(self, keep_gradients: bool = False) -> None:
        checks.flags(keep_gradients=keep_gradients)
        self._keep_gradients = keep_gradients
        self._outputs: dict[str, Any] = {}
        self._versions: dict[int, int] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the output of one layer."""
        if name not in self._outputs:
            raise KeyError(f"layer {name!r} has not run; captured are {list(self._outputs)}")
        value = self._outputs[name]
        for tensor in _tensors(value):
            if not tensor.is_inference() and tensor._version != self._versions[id(tensor)]:
                raise ValueError(
                    f"the output of layer {name!r} has been overwritten in place; capture it with copy=True"
                )
        return value

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the layers that have run."""
        return iter(self._outputs)

    def __len__(self) -> int:
        """Return how many layers have run."""
        return len(self._outputs)

    @property
    def gradients(self) -> dict[str, Any]:
        """Gradients of the outputs by name, of the same structure; None where no backward pass has reached."""
        if not self._keep_gradients:
            raise ValueError("gradients were not kept; capture with gradients=True")
        return {name: _map(self[name], lambda tensor: tensor.grad) for name in self}

    def _forget(self) -> None:
        self._outputs.clear()
        self._versions.clear()

    def _store(self, name: str, value: Any, repeated: bool) -> None:
        self._versions |= {id(tensor): tensor._version for tensor in _tensors(value) if not tensor.is_inference()}
        self._outputs[name] = [*self._outputs.get(name, ()), value] if repeated else value


@contextmanager
def capture(
    model: nn.Module,
    names: str | Sequence[str],
    *,
    gradients: bool = False,
    repeated: bool = False,
    copy: bool = True,
) -> Iterator[Captured]:
    """Record what layers return while the model runs inside the ``with`` block.

    The outputs stay in the graph, so ``torch.autograd.grad(score, captured["layer3"])`` works. Each forward pass of
    ``model`` replaces what the one before it left. The hooks are removed at the end of the block, also after an error;
    what has been captured stays.

    Parameters
    ----------
    model : nn.Module
        Parameters, buffers and flags are not touched.
    names : str or sequence of str
        Names as in ``model.named_modules()``; "" is the model itself.
    gradients : bool, default False
        Keep the gradient of each output for ``captured.gradients``. Switches autograd on inside the block, and makes
        outputs of a frozen network require a gradient.
    repeated : bool, default False
        Keep every call of a layer that runs several times in one forward pass, as a list; otherwise such a layer is
        refused.
    copy : bool, default True
        Hand a copy of the output on to the rest of the network, so that an in-place operation behind the layer (an
        in-place ReLU, ``out += shortcut``) cannot overwrite what was captured. With False nothing is copied, and
        reading an output that was overwritten is an error.

    Yields
    ------
    Captured
        Mapping from name to output, filled by each forward pass.

    Raises
    ------
    ValueError
        If a name is unknown (close matches are listed), a layer returns something without tensors, a layer runs twice
        in a forward pass without ``repeated=True``, or ``gradients=True`` under inference mode.
    """
    checks.flags(gradients=gradients, repeated=repeated, copy=copy)
    layers = {name: _layer(model, name) for name in _listed(names)}
    if gradients and torch.is_inference_mode_enabled():
        raise ValueError("gradients=True cannot work under torch.inference_mode()")
    captured = Captured(gradients)
    running = False

    def begin(*_) -> None:
        nonlocal running
        running = True
        captured._forget()

    def end(*_) -> None:
        nonlocal running
        running = False

    def keep(name: str, inputs: Any, output: Any) -> Any:
        if not _tensors(output):
            raise ValueError(f"names: layer {name!r} returns {type(output).__name__} without tensors")
        if running and not repeated and name in captured:
            raise ValueError(f"names: layer {name!r} runs more than once in a forward pass; pass repeated=True")
        if copy and _storages(output) & _storages(inputs):
            output = _map(output, torch.clone)  # an in-place or pass-through layer: its input may still be written to
        if gradients:
            output = _map(output, _retain_gradient)
        captured._store(name, output, repeated)
        return _map(output, torch.clone) if copy else output

    with ExitStack() as stack:
        if gradients:
            stack.enter_context(torch.enable_grad())
        stack.callback(model.register_forward_pre_hook(begin).remove)
        for name, layer in layers.items():
            hook = layer.register_forward_hook(lambda _, inputs, output, name=name: keep(name, inputs, output))
            stack.callback(hook.remove)
        stack.callback(model.register_forward_hook(end, always_call=True).remove)
        yield captured


@contextmanager
def replace_output(model: nn.Module, name: str, fn: Callable[[Any], Any]) -> Iterator[None]:
    """Let the rest of the network see ``fn(output)`` in place of what one layer returns, inside the ``with`` block.

    With ``fn=lambda _: activation`` the layers behind run on an activation of your own, the head re-run. A layer that
    runs several times in a forward pass is replaced at each call. A :func:`capture` opened inside this block sees the
    replaced output, one opened around it the original.

    Parameters
    ----------
    model : nn.Module
        Not touched beyond the hook, which is removed at the end of the block, also after an error.
    name : str
        Name as in ``model.named_modules()``.
    fn : callable
        Maps the layer's output to its replacement; it should not write to its argument.

    Raises
    ------
    ValueError
        If the name is unknown (close matches are listed), or ``fn`` returns None.
    """
    layer = _layer(model, name)
    checks.functions(1, networks=True, fn=fn)

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        replacement = fn(output)
        if replacement is None:
            raise ValueError(f"fn returned None for layer {name!r}; it must return the replacement")
        return replacement

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _listed(names: str | Sequence[str]) -> list[str]:
    if isinstance(names, str):
        return [names]
    if not isinstance(names, Iterable) or isinstance(names, bytes):
        raise ValueError(f"names must be a name or a sequence of names, got {checks.shown(names)}")
    found = list(names)
    for name in found:
        checks.texts(names=name)
    return list(dict.fromkeys(found))


def _layer(model: nn.Module, name: str) -> nn.Module:
    checks.networks(model=model)
    checks.texts(name=name)
    layers = dict(model.named_modules(remove_duplicate=False))
    if name not in layers:
        close = difflib.get_close_matches(name, layers, n=5, cutoff=0.5)
        hint = f"close matches: {', '.join(close)}" if close else f"the model has {len(layers) - 1} named layers"
        raise ValueError(f"name: the model has no layer {name!r}; {hint}")
    around = [name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)]
    if any(isinstance(layers[each], torch.jit.ScriptModule) for each in {"", *around}):
        raise ValueError(f"name: layer {name!r} is part of a scripted module, which takes no hooks")
    return layers[name]


def _retain_gradient(tensor: Tensor) -> Tensor:
    if not tensor.requires_grad and tensor.is_floating_point():
        tensor = tensor.detach().requires_grad_()
    if tensor.requires_grad:
        tensor.retain_grad()
    return tensor


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(value, found.append)
    return found


def _storages(value: Any) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in _tensors(value)}


def _map(value: Any, fn: Callable[[Tensor], Any]) -> Any:
    """Apply ``fn`` to every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, dict):
        return type(value)((key, _map(item, fn)) for key, item in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map(item, fn) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_map(item, fn) for item in value)
    return value
