"""Operations of a network and what takes their place while it runs: the same values, relevance flowing backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from .rules import Apply, Rule, quotient
from .tracking import Dependence, Provenance, Running, tensors

_METHODS = {  # names of functions, and what takes their place
    "_move": "flatten unflatten reshape view permute transpose contiguous pad cat concat concatenate index_select "
    "__getitem__ max_pool2d squeeze unsqueeze clone chunk split dropout dropout2d dropout_",
    "_write": "__setitem__ copy_",
    "_pass": "relu relu_ relu6 hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ gelu silu hardswish tanh tanh_",
    "_share": "avg_pool2d adaptive_avg_pool2d mean sum",
    "_weigh": "linear conv1d conv2d conv3d",
    "_normalise": "batch_norm",
    "_add": "add add_ __add__ __radd__ __iadd__",
}
_METHOD_OF = {function: method for method, functions in _METHODS.items() for function in functions.split()}


_READS_OUT = ("numpy", "tolist", "__array__", "__dlpack__")  # values leave PyTorch, and may come back unseen


class Replacing(TorchFunctionMode):
    """Replaces each operation of the model by one whose backward pass hands on relevance."""

    def __init__(
        self, inputs: Tensor, running: Running, weights: Mapping[str, Tensor], rules: Mapping[str, Rule], default: Rule
    ) -> None:
        super().__init__()
        self.dependence, self.made = Dependence(inputs), Provenance()
        self.made.add(inputs)
        self.running, self.weights = running, weights
        self.name_of = {id(weight): name for name, weight in weights.items()}
        self.rules, self.default = rules, default
        self.outputs: dict[str, tuple] = {}  # where its gradient is found, and the tensor
        self.layers: dict[object, tuple] = {}  # by the node of an output, which stays alive in here
        self.read: list[tuple[str, Tensor, int]] = []  # what rules need again, and its version

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Take the place of one function."""
        kwargs = kwargs or {}
        given = self.dependence.among((args, kwargs))
        if not given:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        ruled = name in _METHOD_OF and kwargs.get("out") is None
        if not ruled or not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in given):
            return self._outside(name, func, args, kwargs)
        self.made.refuse_unknown(given, repr(name))
        if not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
        result = getattr(self, _METHOD_OF[name])(func, *args, **kwargs)
        self.made.add(args[0] if result is None else result)
        return result

    def refuse_overwritten(self) -> None:
        """Raise a ValueError where what a rule needs again has been overwritten since."""
        for reader, tensor, version in self.read:
            if tensor._version != version:
                raise ValueError(f"model: what {reader!r} has read is overwritten in place later in the forward pass")

    def _outside(self, name: str, func: Callable, args: tuple, kwargs: dict) -> object:
        """Run a function without a rule, which may neither hand on relevance nor change what carries it."""
        versions = [(tensor, tensor._version) for tensor in tensors((args, kwargs))]
        if name in _READS_OUT or kwargs.get("out") is not None:
            raise ValueError(
                f"model: no rule says how relevance passes {name!r}{'' if name in _READS_OUT else ' to out'}"
            )
        result = func(*args, **kwargs)
        changed = any(tensor._version != version for tensor, version in versions)
        if changed or any(tensor.requires_grad for tensor in self.dependence.among(result)):
            raise ValueError(f"model: no rule says how relevance passes {name!r}")
        return result

    def _needs(self, reader: str, *read: Tensor) -> None:
        self.read += [(reader, tensor, tensor._version) for tensor in read]

    def _move(self, func, *args, **kwargs):
        return func(*args, **kwargs)  # its gradient moves values and scales none

    _write = _move  # so does that of a write: what is overwritten gets none

    def _pass(self, func, *args, **kwargs) -> Tensor:
        return _Custom.apply(lambda: func(*args, **kwargs), lambda given: (given,), args[0])

    def _share(self, func, a, *args, **kwargs) -> Tensor:
        def share(given: Tensor) -> tuple[Tensor]:
            with torch.enable_grad():
                inputs = a.detach().requires_grad_()
                z = func(inputs, *args, **kwargs)
            return (a.detach() * torch.autograd.grad(z, inputs, quotient(given, z.detach()))[0],)

        self._needs(func.__name__, a)
        return _Custom.apply(lambda: func(a, *args, **kwargs), share, a)

    def _weigh(self, func, input, weight, bias=None, *args, **kwargs) -> Tensor:
        if self.dependence.among((weight, bias)):
            raise ValueError(f"model: no rule says how relevance passes {func.__name__!r} whose weights are computed")
        name = self.running.name if self.running.name in self.weights else self.name_of.get(id(weight), func.__name__)
        if name in self.outputs:
            what = f"layer {name!r} runs" if name in self.weights else f"{name!r} with weights of no layer is called"
            raise ValueError(f"model: {what} twice in a forward pass")

        def apply(a: Tensor, w: Tensor) -> Tensor:
            return func(a, w, None, *args, **kwargs)

        output = self._layer(name, lambda: func(input, weight, bias, *args, **kwargs), apply, input, weight, bias)
        self.layers[output.grad_fn] = (name, apply, input, weight, bias)
        return output

    def _layer(self, name: str, compute: Callable, apply: Apply, a: Tensor, weight: Tensor, bias) -> Tensor:
        rule, weight = self.rules.get(name, self.default), weight.detach()
        self._needs(name, a)
        output = _Custom.apply(compute, lambda given: (rule(apply, a.detach(), weight, bias, given),), a)
        self.outputs[name] = get_gradient_edge(output), output
        return output

    def _normalise(self, func, input, mean, var, weight=None, bias=None, *args, eps=1e-5, **kwargs) -> Tensor:
        eps = args[2] if len(args) == 3 else eps
        training = args[0] if args else kwargs.get("training", False)
        if training or mean is None or self.dependence.among((mean, var, weight, bias)):
            raise ValueError("model: no rule says how relevance passes 'batch_norm' by statistics of the batch")
        layer = self.layers.get(input.grad_fn)

        def compute() -> Tensor:
            return func(input, mean, var, weight, bias, False, 0.0, eps)

        if layer is None:
            return _Custom.apply(compute, lambda given: (given,), input)
        name, apply, a, w, b = layer
        scale = (1 if weight is None else weight.detach()) / (var + eps).sqrt()  # (C,)
        shift = (0 if b is None else b.detach()) - mean
        folded = w.detach() * scale.view(-1, *[1] * (w.ndim - 1))
        return self._layer(name, compute, apply, a, folded, shift * scale + (0 if bias is None else bias.detach()))

    def _add(self, func, u, v, **kwargs) -> Tensor:
        if not (isinstance(u, Tensor) and isinstance(v, Tensor)) or u.shape != v.shape or kwargs:
            raise ValueError("model: no rule says how relevance passes a sum with a constant or of different shapes")

        in_place = func.__name__ in ("add_", "__iadd__")
        u0, v0 = (x.detach().clone() if in_place and _same_memory(x, u) else x.detach() for x in (u, v))
        self._needs("a sum", *(x for x in (u, v) if not in_place or not _same_memory(x, u)))

        def share(given: Tensor) -> tuple[Tensor, Tensor]:
            s = quotient(given, u0 + v0)
            return u0 * s, v0 * s

        return _Custom.apply(lambda: func(u, v), share, u, v)


class _Custom(torch.autograd.Function):
    """A function with a backward pass of its own: ``share`` maps the relevance of the output to that of the inputs."""

    @staticmethod
    def forward(ctx, compute: Callable[[], Tensor], share: Callable, *inputs: Tensor) -> Tensor:
        ctx.share = share
        output = compute()
        if any(output is given for given in inputs):
            ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx, given: Tensor) -> tuple:
        with torch.no_grad():
            return None, None, *ctx.share(given)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata
