"""Counts the arithmetic that a forward pass executes, operator by operator.

The counter sits below autograd, where PyTorch has already turned modules, functional calls and ``einsum`` into a small
set of operators; so a functional call or a module used twice is counted like any other, and a module that never runs is
not. Shapes decide, not values. Each operator adds to one *kind*; a counting convention is a weighted sum of kinds.
One unit of each kind (``out`` is the number of output elements):

convolution
    A multiply-accumulate: ``out * C_in / groups * k_h * k_w``, positions in the zero padding included. Transposed: the
    number of *input* elements times ``C_out / groups * k_h * k_w``.
matrix_product
    A multiply-accumulate of a linear layer, ``matmul``, ``bmm``, ``einsum`` or attention that is not fused.
attention
    A multiply-accumulate of a fused attention: ``B h L S (E + E_v)``, masked or not.
fft
    A real multiplication. A complex transform of ``n`` points takes ``n / 2 * log2(n)`` complex multiplications of four
    real ones each, that is ``2 n log2(n)``; a real transform takes half. ``n`` is the product of the transformed
    lengths; the formula is used for every ``n`` and rounded to a whole number.
convolution_bias, linear_bias
    An addition of a bias, ``out``; that of a linear layer where it is fused into the matrix product.
batch_norm
    An element normalised.
average_pool
    An output element, ``out``.
adaptive_average_pool
    ``(k_h * k_w + 1) * out`` with ``k`` = input size // output size; a mean over the last two of four dimensions is the
    same thing.
max_pool
    An element looked at, ``k_h * k_w * out``.
relu
    An element.

A deformable convolution counts as a convolution, its interpolation as nothing, like every interpolation. A quantised
layer counts as its layer in float. Operators that add to no kind are listed in
:mod:`compactvision.measure.uncounted`; any other is refused by name. What NumPy or an extension computes past
PyTorch's dispatcher is out of sight.

A complex convolution or matrix product counts four real multiply-accumulates for each complex one.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from compactvision.measure.uncounted import is_uncounted

Count = tuple[str, int]
"""A kind and how many units of it one operator executed."""


def _convolution(out: Tensor, /, x: Tensor, weight: Tensor, bias, stride, padding, dilation, transposed, *_, **__):
    positions = x if transposed else out
    yield "convolution", _complex_factor(x) * positions.numel() * math.prod(weight.shape[1:])
    if bias is not None:
        yield "convolution_bias", out.numel()


def _product(out: Tensor, /, a: Tensor, b: Tensor, *_, **__):
    yield "matrix_product", _complex_factor(a) * out.numel() * a.shape[-1]


def _added_product(out: Tensor, /, added: Tensor, a: Tensor, b: Tensor, *_, **__):
    yield from _product(out, a, b)
    if added.ndim == 1 and a.ndim == 2 and b.ndim == 2:
        yield "linear_bias", out.numel()


def _added_batches(out: Tensor, /, added: Tensor, a: Tensor, b: Tensor, *_, **__):
    yield "matrix_product", _complex_factor(a) * a.numel() * b.shape[-1]


def _deformable(out: Tensor, /, x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, *_, **__):
    yield from _convolution(out, x, weight, bias, None, None, None, False)


def _affine_grid(out: Tensor, /, theta: Tensor, *_, **__):
    yield "matrix_product", out.numel() * theta.shape[-1]


def _quantised_product(out: Tensor, /, x: Tensor, packed: torch.ScriptObject, *_, **__):
    _, bias = torch.ops.quantized.linear_unpack(packed)
    yield "matrix_product", out.numel() * x.shape[-1]
    if bias is not None:
        yield "linear_bias", out.numel()


def _quantised_convolution(dimensions: int):
    def formula(out: Tensor, /, x: Tensor, packed: torch.ScriptObject, *_, **__):
        weight, bias = getattr(torch.ops.quantized, f"conv{dimensions}d_unpack")(packed)
        yield from _convolution(out, x, weight, bias, None, None, None, False)

    return formula


def _attention(out, /, query: Tensor, key: Tensor, value: Tensor, *_, **__):
    leading = math.prod(query.shape[:-2])  # batch and heads
    yield "attention", leading * query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _fourier(real: bool, full_size: Callable[[Tensor, Tensor], Tensor]):
    def formula(out: Tensor, /, x: Tensor, dims: Sequence[int], *_, **__):
        full = full_size(out, x)
        points = math.prod(full.shape[dim] for dim in dims)
        yield "fft", round((1 if real else 2) * full.numel() * math.log2(points)) if points > 1 else 0

    return formula


def _batch_norm(out, /, x: Tensor, *_, **__):
    yield "batch_norm", x.numel()


def _average_pool(out: Tensor, /, *_, **__):
    yield "average_pool", out.numel()


def _adaptive_average_pool(out: Tensor, /, x: Tensor, size: Sequence[int], *_, **__):
    kernel = math.prod(before // after for before, after in zip(x.shape[-len(size) :], size, strict=True))
    yield "adaptive_average_pool", (kernel + 1) * out.numel()


def _mean(out: Tensor, /, x: Tensor, dims: Sequence[int] | None = None, *_, **__):
    if x.ndim == 4 and dims is not None and {dim % 4 for dim in dims} == {2, 3}:
        yield "adaptive_average_pool", (x.shape[2] * x.shape[3] + 1) * out.numel()


def _max_pool(out, /, x: Tensor, kernel: Sequence[int], *_, **__):
    out = out[0] if isinstance(out, tuple) else out
    sides = 2 if len(kernel) == 1 else 1  # PyTorch passes one number where all sides are equal
    yield "max_pool", math.prod(kernel) ** sides * out.numel()


def _relu(out: Tensor, /, *_, **__):
    yield "relu", out.numel()


def _complex_factor(x: Tensor) -> int:
    return 4 if x.is_complex() else 1


_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_attention_math_for_mps",
)
_BATCH_NORM = (
    "native_batch_norm",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
)


def _formulas() -> dict[str, Callable]:
    aten: dict[str, Callable] = {
        "convolution": _convolution,
        "_convolution": _convolution,
        "convolution_overrideable": _convolution,
        "addbmm": _added_batches,
        "affine_grid_generator": _affine_grid,
        "_fft_c2c": _fourier(real=False, full_size=lambda out, x: x),
        "_fft_r2c": _fourier(real=True, full_size=lambda out, x: x),
        "_fft_c2r": _fourier(real=True, full_size=lambda out, x: out),
        "avg_pool2d": _average_pool,
        "avg_pool3d": _average_pool,
        "_adaptive_avg_pool2d": _adaptive_average_pool,
        "_adaptive_avg_pool3d": _adaptive_average_pool,
        "mean": _mean,
        "max_pool2d_with_indices": _max_pool,
        "relu": _relu,
    }
    aten |= dict.fromkeys(["mm", "bmm", "mv", "dot", "vdot", "_int_mm", "_scaled_mm", "_weight_int8pack_mm"], _product)
    aten |= dict.fromkeys(["addmm", "_addmm_activation", "baddbmm", "addmv"], _added_product)
    aten |= dict.fromkeys(_ATTENTION, _attention) | dict.fromkeys(_BATCH_NORM, _batch_norm)
    others: dict[str, Callable] = {"torchvision::deform_conv2d": _deformable}
    for name in ("linear", "linear_relu", "linear_dynamic", "linear_relu_dynamic"):
        others[f"quantized::{name}"] = _quantised_product
    for dimensions, end in itertools.product((1, 2, 3), ("", "_relu", "_dynamic")):
        others[f"quantized::conv{dimensions}d{end}"] = _quantised_convolution(dimensions)
    return others | {f"aten::{name}": formula for name, formula in aten.items()}


_FORMULAS = _formulas()


class OperationCounter(TorchDispatchMode):
    """Context manager that counts every operator executed inside it.

    Parameters
    ----------
    where : callable, optional
        Called for each operator; its result is the key that the operator is booked under. One key "" by default.

    Attributes
    ----------
    counts : dict of str to Counter
        For each key, how many units of each kind have been executed.

    Raises
    ------
    ValueError
        At the end of the block, if an operator has run whose arithmetic is not known (a fused recurrent layer, a
        bilinear form, an operator of one's own).
    """

    supports_higher_order_operators = True

    def __init__(self, where: Callable[[], str] = lambda: "") -> None:
        super().__init__()
        self.where = where
        self.counts: dict[str, Counter[str]] = {}
        self._unknown: list[str] = []
        self._inside = 0

    def __enter__(self) -> OperationCounter:
        """Begin to count."""
        self._inside += 1
        return super().__enter__()

    def __exit__(self, kind, error, traceback) -> None:
        """Stop; only now, so that TorchScript has no chance to wrap the error."""
        super().__exit__(kind, error, traceback)
        self._inside -= 1
        if kind is None and self._unknown and not self._inside:
            names = ", ".join(repr(name) for name in dict.fromkeys(self._unknown))
            raise ValueError(f"model: the arithmetic inside the operator {names} is not known and cannot be counted")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operator and count it."""
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            self._unknown.append(func.name())
            return func(*args, **kwargs)
        formula = _FORMULAS.get(func._schema.name.removesuffix("_"))
        if formula is None and not is_uncounted(func):
            with self:  # only under inference mode do composite operators arrive here whole
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            self._unknown.append(func._schema.name)
        out = func(*args, **kwargs)
        if formula is not None:
            counter = self.counts.setdefault(self.where(), Counter())
            for kind, units in formula(out, *args, **kwargs):
                counter[kind] += units
        return out
