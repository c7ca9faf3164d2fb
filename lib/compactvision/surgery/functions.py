"""What PyTorch's functions do to channels: their names by kind, and whether a call leaves each channel by itself."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.utils import _pytree as pytree

_ELEMENTWISE_NAMES = (
    "relu relu6 hardtanh leaky_relu elu celu selu gelu silu mish softplus sigmoid tanh hardswish hardsigmoid "
    "logsigmoid log_sigmoid softsign softshrink hardshrink tanhshrink threshold clamp clamp_min clamp_max abs neg "
    "negative positive sign square sqrt rsqrt reciprocal exp log log1p sin cos erf pow round floor ceil "
    "nan_to_num dropout dropout1d dropout2d feature_dropout alpha_dropout feature_alpha_dropout clone contiguous "
    "detach data to float half bfloat16 double type requires_grad prelu"
)
_SPATIAL_NAMES = (
    "max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d interpolate upsample"
)
_ELEMENTWISE, _SPATIAL = (frozenset(names.split()) for names in (_ELEMENTWISE_NAMES, _SPATIAL_NAMES))
NEEDING_ALL = frozenset({"softmax", "log_softmax"})
ADDING = frozenset({"add", "radd", "iadd", "sub", "subtract", "rsub", "isub"})
_SCALING_NAMES = "mul multiply rmul imul div divide true_divide truediv rdiv rtruediv idiv itruediv expand_as"
SCALING = frozenset(_SCALING_NAMES.split())
JOINING = frozenset({"cat", "concat", "concatenate"})
_REDUCING = frozenset({"mean", "sum", "amax", "amin", "var", "std"})
LEAKING = frozenset({"numpy", "array", "dlpack", "data_ptr", "untyped_storage", "storage", "tolist", "set", "map"})
CALLED = {"conv2d": (nn.Conv2d, 1), "linear": (nn.Linear, 1), "batch_norm": ((nn.BatchNorm1d, nn.BatchNorm2d), 3)}
"""Functions that a subclass of a layer calls with its own weight: the class, and the weight's position."""


def name_of(func: Callable) -> str:
    """Return the function's name without underscores; of an attribute, the attribute's name."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        name = getattr(func.__self__, "__name__", name)
    return name.strip("_")


def kept_axis(name: str, source: Tensor, axis: int, result: Tensor, args: tuple, kwargs: dict) -> int | None:
    """Return the dimension along which the result has the channels that ``source`` has along ``axis``.

    None unless each channel of the result is made from the same channel of ``source``, and from nothing else.
    """
    if name in _ELEMENTWISE:
        return axis if _alone(source, args, kwargs) else None
    if name in _SPATIAL:
        return axis if axis == 1 and source.ndim == 4 and _alone(source, args, kwargs) else None
    if name in _REDUCING:
        return _reduced(source, axis, result, args, kwargs)
    if name == "pad":
        at = 2 * (source.ndim - 1 - axis)
        return None if any(_padding(args, kwargs)[at : at + 2]) else axis
    return None


def softmax_over(source: Tensor, axis: int, args: tuple, kwargs: dict) -> bool:
    """Return whether a softmax with these arguments needs all channels."""
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    return not isinstance(dim, int) or dim % source.ndim == axis


def _alone(source: Tensor, args: tuple, kwargs: dict) -> bool:
    """Return whether a function's first argument is ``source`` and no other tensor has more than one element."""
    given = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    return given[0] is source and all(value is source or value.numel() == 1 for value in given[1:])


def tensors_in(result: object) -> list[Tensor]:
    """Return the tensors that a function returned, wherever they are in it."""
    return [value for value in pytree.tree_leaves(result) if isinstance(value, Tensor)]


def _padding(args: tuple, kwargs: dict) -> tuple[int, ...]:
    return tuple(args[1] if len(args) > 1 else kwargs["pad"])


def _reduced(source: Tensor, axis: int, result: Tensor, args: tuple, kwargs: dict) -> int | None:
    """Return where the channels are behind a reduction over other dimensions, None if it is over theirs."""
    dims = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
    if isinstance(dims, bool):  # var(x, unbiased) over everything
        return None
    dims = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    dims = tuple(dim % source.ndim for dim in dims)
    if not dims or axis in dims:
        return None
    return axis if result.ndim == source.ndim else axis - sum(dim < axis for dim in dims)
