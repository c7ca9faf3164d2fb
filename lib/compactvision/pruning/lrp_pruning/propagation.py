"""The way of relevance through a whole network.

What flows backwards in autograd is made to be relevance instead of gradients: while the model runs, each of its
operations is replaced by one whose backward pass is a rule. Weights, hooks and flags of the model are not touched, and
nothing has to be traced: residual sums written ``x + y`` are seen like layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from compactvision.measure import evaluating
from compactvision.surgery import named_layers

from .rules import Apply, Rule, quotient, z_plus

INITIAL = ("one-hot", "logit")


@dataclass(frozen=True)
class Relevance:
    """Relevance of a batch at every layer.

    Attributes
    ----------
    inputs : Tensor
        Relevance of each input value, the shape of the inputs.
    layers : dict of str to Tensor
        Relevance of each output value of every convolution and linear layer, behind its BatchNorm where one follows:
        (B, C, H, W) or (B, C), by the layer's name in ``surgery.channel_graph``, in the order of execution.
    outputs : Tensor
        The initial relevance, that of the model's outputs (B, K).
    """

    inputs: Tensor
    layers: dict[str, Tensor]
    outputs: Tensor


def relevance(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    initial_relevance: str = "one-hot",
    rules: Mapping[str, Rule] | None = None,
    default: Rule = z_plus,
) -> Relevance:
    """Propagate relevance from the targets back to the inputs, by the rules of Eq. (1) to Eq. (3).

    Convolutions and linear layers follow their rule. Activations and dropout pass relevance on, max-pooling gives it to
    the winner, averages, sums and residual sums share it out in proportion. BatchNorm is folded into the layer before
    it, Eq. (4); where there is none, as in pre-activation networks, it passes relevance on.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode and left as it was; its outputs are scores (B, K).
    inputs : Tensor
        A batch (B, ...), floating point.
    targets : Tensor
        The output of each sample whose value is explained (B,), int64: its class.
    initial_relevance : {"one-hot", "logit"}, default "one-hot"
        What a target's output gets, and the others get nothing: one, or its own value, as in the authors' toy
        experiment. A negative value hands out negative relevance.
    rules : mapping of str to callable, optional
        Rules of single layers, by their name in ``surgery.channel_graph``.
    default : callable, default :func:`~compactvision.pruning.lrp_pruning.rules.z_plus`
        Rule of all other convolutions and linear layers.

    Raises
    ------
    ValueError
        If ``initial_relevance`` or a layer in ``rules`` is unknown, inputs are not finite numbers, targets do not fit,
        outputs do not depend on the inputs, or the model does something that no rule is known for (named).

    Examples
    --------
    The chapter's network of three hidden units, whose score is 8:

    >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    >>> model[0].weight.data = torch.tensor([[1.0, 1.0], [2.0, -1.0], [0.0, 1.0]])
    >>> model[2].weight.data = torch.tensor([[2.0, 1.0, 1.0]])
    >>> found = relevance(model, torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    >>> found.layers["0"], found.inputs
    (tensor([[0.7500, 0.0000, 0.2500]]), tensor([[0.2500, 0.7500]]))
    """
    if initial_relevance not in INITIAL:
        raise ValueError(f"initial_relevance must be one of {', '.join(INITIAL)}, got {initial_relevance!r}")
    layers = ((name, getattr(module, "weight", None)) for name, _, module in named_layers(model))
    names = {id(weight): name for name, weight in layers if isinstance(weight, Tensor)}
    unknown = set(rules or {}) - set(names.values())
    if unknown:
        raise ValueError(f"rules: the model has no layer {sorted(unknown)[0]!r} with weights")
    _refuse_inputs(inputs)
    propagation = _Propagation(names, rules or {}, default)
    with torch.inference_mode(False), evaluating(model), torch.enable_grad():
        inputs = inputs.detach().clone().requires_grad_()
        with propagation:
            outputs = model(inputs)
        start = _start(outputs, targets, initial_relevance)
        reached = [inputs, *propagation.outputs.values()]
        found = torch.autograd.grad(outputs, reached, start, allow_unused=True)
    found = [torch.zeros_like(to) if part is None else part for to, part in zip(reached, found, strict=True)]
    return Relevance(found[0], dict(zip(propagation.outputs, found[1:], strict=True)), start)


_METHODS = {  # names of functions, and what takes their place
    "_move": "flatten unflatten reshape view permute transpose contiguous pad cat index_select __getitem__ max_pool2d "
    "squeeze unsqueeze clone chunk split dropout dropout2d",
    "_pass": "relu relu6 hardtanh leaky_relu elu gelu silu hardswish tanh",
    "_share": "avg_pool2d adaptive_avg_pool2d mean sum",
    "_weigh": "linear conv1d conv2d conv3d",
    "_normalise": "batch_norm",
    "_add": "add add_ __add__ __radd__ __iadd__",
}
_METHOD_OF = {function: method for method, functions in _METHODS.items() for function in functions.split()}


class _Propagation(TorchFunctionMode):
    """Replaces each operation of the model by one whose backward pass hands on relevance."""

    def __init__(self, names: Mapping[int, str], rules: Mapping[str, Rule], default: Rule) -> None:
        super().__init__()
        self.names, self.rules, self.default = names, rules, default
        self.outputs: dict[str, Tensor] = {}
        self.layers: dict[int, tuple] = {}  # by the identity of an output, which stays alive in here

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Take the place of one function."""
        kwargs = kwargs or {}
        if not _on_the_way((args, kwargs)):
            return func(*args, **kwargs)
        if func.__name__ in _METHOD_OF:
            return getattr(self, _METHOD_OF[func.__name__])(func, *args, **kwargs)
        result = func(*args, **kwargs)
        if _on_the_way(result):
            raise ValueError(f"model: no rule says how relevance passes {func.__name__!r}")
        return result

    def _move(self, func, *args, **kwargs):
        return func(*args, **kwargs)  # its gradient moves values and scales none

    def _pass(self, func, *args, **kwargs) -> Tensor:
        kwargs |= {"inplace": False} if "inplace" in kwargs else {}
        return _Custom.apply(lambda: func(*args, **kwargs), lambda given: (given,), args[0])

    def _share(self, func, a, *args, **kwargs) -> Tensor:
        def share(given: Tensor) -> tuple[Tensor]:
            with torch.enable_grad():
                inputs = a.detach().requires_grad_()
                z = func(inputs, *args, **kwargs)
            return (a.detach() * torch.autograd.grad(z, inputs, quotient(given, z.detach()))[0],)

        return _Custom.apply(lambda: func(a, *args, **kwargs), share, a)

    def _weigh(self, func, input, weight, bias=None, *args, **kwargs) -> Tensor:
        name = self.names.get(id(weight), func.__name__)
        if name in self.outputs:
            raise ValueError(f"model: layer {name!r} runs twice in a forward pass")

        def apply(a: Tensor, w: Tensor) -> Tensor:
            return func(a, w, None, *args, **kwargs)

        output = self._layer(name, lambda: func(input, weight, bias, *args, **kwargs), apply, input, weight, bias)
        self.layers[id(output)] = (name, apply, input, weight, bias, output)
        return output

    def _layer(self, name: str, compute: Callable, apply: Apply, a: Tensor, weight: Tensor, bias) -> Tensor:
        rule, weight = self.rules.get(name, self.default), weight.detach()
        self.outputs[name] = _Custom.apply(compute, lambda given: (rule(apply, a.detach(), weight, bias, given),), a)
        return self.outputs[name]

    def _normalise(self, func, input, mean, var, weight=None, bias=None, *args, eps=1e-5, **kwargs) -> Tensor:
        eps = args[2] if len(args) == 3 else eps
        layer = self.layers.get(id(input))

        def compute() -> Tensor:
            return func(input, mean, var, weight, bias, False, 0.0, eps)

        if layer is None:
            return _Custom.apply(compute, lambda given: (given,), input)
        name, apply, a, w, b, _ = layer
        scale = (1 if weight is None else weight.detach()) / (var + eps).sqrt()  # (C,)
        shift = (0 if b is None else b.detach()) - mean
        folded = w.detach() * scale.view(-1, *[1] * (w.ndim - 1))
        return self._layer(name, compute, apply, a, folded, shift * scale + (0 if bias is None else bias.detach()))

    def _add(self, func, u, v, **kwargs) -> Tensor:
        if not (isinstance(u, Tensor) and isinstance(v, Tensor)) or u.shape != v.shape or kwargs:
            raise ValueError("model: no rule says how relevance passes a sum with a constant or of different shapes")

        def share(given: Tensor) -> tuple[Tensor, Tensor]:
            s = quotient(given, u.detach() + v.detach())
            return u.detach() * s, v.detach() * s

        return _Custom.apply(lambda: u + v, share, u, v)


class _Custom(torch.autograd.Function):
    """A function with a backward pass of its own: ``share`` maps the relevance of the output to that of the inputs."""

    @staticmethod
    def forward(ctx, compute: Callable[[], Tensor], share: Callable, *inputs: Tensor) -> Tensor:
        ctx.share = share
        return compute()

    @staticmethod
    def backward(ctx, given: Tensor) -> tuple:
        with torch.no_grad():
            return None, None, *ctx.share(given)


def _on_the_way(values: object) -> bool:
    """Whether one of the tensors carries relevance."""
    tensors = (leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor))
    return any(tensor.requires_grad and not isinstance(tensor, nn.Parameter) for tensor in tensors)


def _refuse_inputs(inputs: Tensor) -> None:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.numel() == 0:
        what = f"{inputs.dtype} {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ValueError(f"inputs must be a batch of floating-point numbers, got {what}")
    if not inputs.isfinite().all():
        raise ValueError(f"inputs must be finite, got {inputs[~inputs.isfinite()][0]}")


def _start(outputs: Tensor, targets: Tensor, initial_relevance: str) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise ValueError(f"model must return scores (B, K), got {tuple(getattr(outputs, 'shape', ()))}")
    if not outputs.requires_grad:
        raise ValueError("model: its outputs do not depend on its inputs")
    fits = isinstance(targets, Tensor) and targets.dtype == torch.int64 and targets.shape == outputs.shape[:1]
    if not fits or not ((targets >= 0) & (targets < outputs.shape[1])).all():
        raise ValueError(f"targets must be {len(outputs)} int64 classes below {outputs.shape[1]}, got {targets}")
    start = torch.zeros_like(outputs).scatter_(1, targets[:, None], 1)  # (B, K)
    return start if initial_relevance == "one-hot" else start * outputs.detach()
