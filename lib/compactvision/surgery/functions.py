"""What PyTorch's functions do to channels: their names by kind, and whether a call leaves each channel by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_ELEMENTWISE = (
    "relu relu6 hardtanh leaky_relu elu celu selu gelu silu mish softplus sigmoid tanh hardswish hardsigmoid "
    "logsigmoid log_sigmoid softsign softshrink hardshrink tanhshrink threshold clamp clamp_min clamp_max abs neg "
    "negative positive sign square sqrt rsqrt reciprocal exp log log1p sin cos erf pow round floor ceil "
    "nan_to_num dropout dropout1d dropout2d feature_dropout alpha_dropout feature_alpha_dropout clone contiguous "
    "detach data to float half bfloat16 double type requires_grad prelu"
)
_SPATIAL = "max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d interpolate upsample"
_KEEPING = frozenset((*_ELEMENTWISE.split(), *_SPATIAL.split()))
NEEDING_ALL = frozenset({"softmax", "log_softmax"})
ADDING = frozenset({"add", "radd", "iadd", "sub", "subtract", "rsub", "isub"})
SCALING = frozenset({"mul", "multiply", "rmul", "imul", "div", "divide", "true_divide", "rdiv", "rtruediv", "idiv"})
JOINING = frozenset({"cat", "concat", "concatenate"})
_REDUCING = frozenset({"mean", "sum", "amax", "amin", "var", "std"})
RESHAPING = frozenset({"flatten", "view", "reshape", "squeeze", "unsqueeze"})
LEAKING = frozenset({"numpy", "array", "dlpack", "data_ptr", "untyped_storage", "storage", "tolist", "set", "map"})
CALLED = {"conv2d": (nn.Conv2d, 1), "linear": (nn.Linear, 1), "batch_norm": ((nn.BatchNorm1d, nn.BatchNorm2d), 3)}
"""Functions that a subclass of a layer calls with its own weight: the class, and the weight's position."""


def name_of(func: Callable) -> str:
    """Return the function's name without underscores; of an attribute, the attribute's name."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        name = getattr(func.__self__, "__name__", name)
    return name.strip("_")


def keeps_channels(name: str, source: Tensor, args: tuple, kwargs: dict) -> bool:
    """Return whether each channel of the result is made from the same channel of ``source``, and from nothing else."""
    if name in _KEEPING:
        return _alone(source, args, kwargs)
    if name in _REDUCING:
        return _pools(source, args, kwargs)
    if name == "pad":
        return not any(_padding(args, kwargs)[2 * (source.ndim - 2) :])
    return name == "getitem" and _leaves_channels(args[1], source.ndim)


def _alone(source: Tensor, args: tuple, kwargs: dict) -> bool:
    """Return whether a function's first argument is ``source`` and no other tensor has more than one element."""
    given = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    return given[0] is source and all(value is source or value.numel() == 1 for value in given[1:])


def tensors_in(result: object) -> list[Tensor]:
    """Return the tensors that a function returned."""
    values = result if isinstance(result, (tuple, list)) and not isinstance(result, torch.Size) else [result]
    return [value for value in values if isinstance(value, Tensor)]


def _padding(args: tuple, kwargs: dict) -> tuple[int, ...]:
    return tuple(args[1] if len(args) > 1 else kwargs["pad"])


def _pools(source: Tensor, args: tuple, kwargs: dict) -> bool:
    """Return whether a reduction is over pixels alone."""
    dims = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
    if isinstance(dims, bool):  # var(x, unbiased) over everything
        return False
    dims = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    return bool(dims) and all(dim % source.ndim > 1 for dim in dims)


def _leaves_channels(key: object, ndim: int) -> bool:
    """Return whether an index takes all images and channels, and of the pixels a range."""
    full = slice(None)
    if isinstance(key, tuple) and key and key[0] is Ellipsis and len(key) <= ndim - 1:
        key = (full,) * (ndim - len(key) + 1) + key[1:]
    return (
        isinstance(key, tuple) and len(key) > 1 and key[0] == key[1] == full and all(isinstance(k, slice) for k in key)
    )
