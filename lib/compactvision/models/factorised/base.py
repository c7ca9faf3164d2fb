"""Bases of factorised convolutions and linear layers: sizes, settings and bias of the dense layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.factorised.factors import Factorised, Size, whole_numbers


class FactorisedConv2d(Factorised):
    """Base of factorised convolutions: sizes, stride, padding, dilation and bias of the dense one. No groups.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the dense convolution.
    kernel_size : int or (int, int)
        Height and width of the kernel.
    ranks : sequence of int
        As for :class:`Factorised`.
    stride, dilation : int or (int, int), default 1
        Of the dense convolution.
    padding : int, (int, int), "same" or "valid", default 0
        Zeros around the image.
    bias : bool, default True
        Whether there is one, zero at first.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        ranks: Size,
        *,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(ranks)
        checks.counts(in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair("kernel_size", kernel_size), _pair("stride", stride)
        self.dilation = _pair("dilation", dilation)
        self.padding = padding if padding in ("same", "valid") else _pair("padding", padding, least=0)
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f"padding must be numbers where stride is not 1, got 'same' with stride={self.stride}")
        checks.flags(bias=bias)
        _place(device, dtype)
        self.bias = nn.Parameter(torch.zeros(out_channels, device=device, dtype=dtype)) if bias else None

    def description(self) -> dict[str, Any]:
        """Return the arguments of the constructor, expressible as JSON."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": list(self.kernel_size),
            "ranks": list(self.requested),
            "stride": list(self.stride),
            "padding": self.padding if isinstance(self.padding, str) else list(self.padding),
            "dilation": list(self.dilation),
            "bias": self.bias is not None,
        }

    def dense(self) -> nn.Conv2d:
        """Return the convolution with the rebuilt kernel and a copy of the bias."""
        kernel = self.kernel().detach()
        layer = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            bias=self.bias is not None,
            device="meta",
        )
        return _filled(layer, kernel, self.bias).train(self.training)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply the only factor that looks at neighbouring pixels, with the layer's stride, padding and dilation."""
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation)

    def check_input(self, x: Tensor) -> None:
        """Raise a ``ValueError`` unless the input has shape (B, C_in, H, W)."""
        _refuse_numbers(x)
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        _refuse_elsewhere(x, self)
        for place, size in enumerate(x.shape[2:]):
            reach = self.dilation[place] * (self.kernel_size[place] - 1) + 1
            around = 0 if self.padding == "valid" else reach - 1 if self.padding == "same" else 2 * self.padding[place]
            if size < 1 or size + around < reach:
                raise ValueError(f"x must have at least {reach} pixels with padding, got shape {tuple(x.shape)}")

    @classmethod
    def _sizes_of(cls, kernel: Tensor) -> tuple:
        if kernel.dim() != 4:
            raise ValueError(f"kernel must have shape (C_out, C_in, K_h, K_w), got {tuple(kernel.shape)}")
        return kernel.shape[1], kernel.shape[0], tuple(kernel.shape[2:])

    @classmethod
    def _settings_of(cls, layer: nn.Module) -> dict[str, Any]:
        if not isinstance(layer, nn.Conv2d):
            raise ValueError(f"layer must be an nn.Conv2d for {cls.__name__}, got {type(layer).__name__}")
        if layer.groups != 1:
            raise ValueError(f"layer must have groups=1: {cls.__name__} joins all channels, got groups={layer.groups}")
        if layer.padding_mode != "zeros":
            raise ValueError(f"layer must have padding_mode='zeros', got {layer.padding_mode!r}")
        return {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}

    def extra_repr(self) -> str:
        """Sizes and ranks, for ``print(model)``."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding!r}" if self.padding != (0, 0) else ""
        text += f", dilation={self.dilation}" if self.dilation != (1, 1) else ""
        return f"{text}, {self._rank_text()}" + ("" if self.bias is not None else ", bias=False")


class FactorisedLinear(Factorised):
    """Base of factorised linear layers.

    Parameters
    ----------
    in_features, out_features : int
        Of the dense layer.
    ranks : sequence of int
        As for :class:`Factorised`.
    bias : bool, default True
        Whether there is one, zero at first.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        ranks: Size,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(ranks)
        checks.counts(in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        checks.flags(bias=bias)
        _place(device, dtype)
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None

    def description(self) -> dict[str, Any]:
        """Return the arguments of the constructor, expressible as JSON."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "ranks": list(self.requested),
            "bias": self.bias is not None,
        }

    def dense(self) -> nn.Linear:
        """Return the linear layer with the rebuilt kernel and a copy of the bias."""
        kernel = self.kernel().detach()
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        return _filled(layer, kernel, self.bias).train(self.training)

    def check_input(self, x: Tensor) -> None:
        """Raise a ``ValueError`` unless the input has shape (..., C_in)."""
        _refuse_numbers(x)
        if x.dim() < 1 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), got {tuple(x.shape)}")
        _refuse_elsewhere(x, self)

    @classmethod
    def _sizes_of(cls, kernel: Tensor) -> tuple:
        if kernel.dim() != 2:
            raise ValueError(f"kernel must have shape (C_out, C_in), got {tuple(kernel.shape)}")
        return kernel.shape[1], kernel.shape[0]

    @classmethod
    def _settings_of(cls, layer: nn.Module) -> dict[str, Any]:
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"layer must be an nn.Linear for {cls.__name__}, got {type(layer).__name__}")
        return {}

    def extra_repr(self) -> str:
        """Sizes and ranks, for ``print(model)``."""
        text = f"{self.in_features}, {self.out_features}, {self._rank_text()}"
        return text + ("" if self.bias is not None else ", bias=False")


def factors_std(variance: float, inner: Sequence[int], factors: int) -> float:
    """Return the standard deviation of independent factor entries whose product has entries of this variance.

    An entry of the kernel is a sum over all inner indices of products of one entry of each factor, so its variance is
    the product of the ranks ``inner`` and of the factors' variances.
    """
    return (variance / math.prod(inner)) ** (1 / (2 * factors))


def _place(device: Any, dtype: Any) -> None:
    if device is not None:
        checks.device(device)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating-point type, got {checks.shown(dtype)}")


def _refuse_elsewhere(x: Tensor, layer: nn.Module) -> None:
    """Refuse an input of another type or place than the factors, but for those that autocast turns into one."""
    own = next(layer.parameters())
    same_type = x.dtype == own.dtype or torch.is_autocast_enabled(x.device.type)
    if x.device != own.device or x.layout != torch.strided or not same_type:
        raise ValueError(f"x must be {own.dtype} on {own.device}, as the layer is, got {checks.shown(x)}")


def _refuse_numbers(x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"x must be a floating-point tensor, got {checks.shown(x)}")


def _pair(name: str, value: Size, *, least: int = 1) -> tuple[int, int]:
    entries = whole_numbers(name, value, least=least)
    if len(entries) > 2:
        raise ValueError(f"{name} must be one or two whole numbers, got {value!r}")
    return (entries * 2)[:2]


def _filled(layer: nn.Conv2d | nn.Linear, kernel: Tensor, bias: Tensor | None) -> nn.Module:
    layer.weight = nn.Parameter(kernel)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
