"""What every factorised layer is: factors instead of a kernel, and the dense layer that they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision.models.layers import refuse_counts

Size = int | Sequence[int]


class Factorised(nn.Module):
    """Base of layers that hold factors of a kernel and compute from them without building the kernel.

    A subclass gives :meth:`kernel`, :meth:`set_kernel_` and ``forward``, and the attribute ``ranks``. It is made from
    sizes and ranks (factors drawn at random), from a kernel (:meth:`from_kernel`), from a dense layer
    (:meth:`from_layer`) or from the :meth:`description` of another one.

    Parameters
    ----------
    ranks : sequence of int
        As asked for, each at least 1. A layer takes the largest that its sizes allow where more is asked for.

    Attributes
    ----------
    layer_name : str
        The class in descriptions and files.
    requested, ranks : tuple of int
        Ranks as asked for, and as they are.
    bias : nn.Parameter or None
        As in the dense layer.

    Raises
    ------
    ValueError
        If an entry of ``ranks`` is no whole number of at least 1, or there are more or fewer than the layer has.
    """

    layer_name: ClassVar[str]
    ranks: tuple[int, ...]
    bias: nn.Parameter | None

    def __init__(self, ranks: Size) -> None:
        super().__init__()
        self.requested = whole_numbers("ranks", ranks)

    @property
    def clipped(self) -> bool:
        """Whether some rank is smaller than was asked for."""
        return self.ranks != self.requested

    def kernel(self) -> Tensor:
        """Return the kernel that the factors stand for, with gradients."""
        raise NotImplementedError

    def set_kernel_(self, kernel: Tensor) -> None:
        """Set the factors to those of the kernel, as near as the ranks allow; no gradient goes through this."""
        raise NotImplementedError

    def dense(self) -> nn.Module:
        """Return the dense layer with the rebuilt kernel and a copy of the bias."""
        raise NotImplementedError

    def description(self) -> dict[str, Any]:
        """Return the arguments of the constructor, expressible as JSON: all but the values of the parameters."""
        raise NotImplementedError

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Return a layer with other values and the same shapes as the one that was described."""
        return cls(**description)

    @classmethod
    def from_kernel(cls, kernel: Tensor, ranks: Size, *, bias: Tensor | None = None, **options: Any) -> Self:
        """Factorise a kernel.

        Parameters
        ----------
        kernel : Tensor
            Weight of the dense layer: (C_out, C_in, K_h, K_w) or (C_out, C_in). The layer has its device and dtype.
        ranks : sequence of int
            As for the class; see ``ranks`` and ``clipped`` of the result for what became of them.
        bias : Tensor, optional
            Of shape (C_out,), copied.
        options
            Of the constructor: ``stride``, ``padding``, ``dilation`` and what the class has besides.

        Raises
        ------
        ValueError
            If the kernel has the wrong number of dimensions, is no floating-point tensor, or holds NaN or infinity,
            and as for the class.
        """
        if not isinstance(kernel, Tensor) or not kernel.is_floating_point() or kernel.is_complex():
            raise ValueError(f"kernel must be a floating-point tensor, got {getattr(kernel, 'dtype', type(kernel))}")
        sizes = cls._sizes_of(kernel)
        layer = cls(*sizes, ranks, bias=bias is not None, device=kernel.device, dtype=kernel.dtype, **options)
        if kernel.is_meta:
            return layer
        layer.set_kernel_(kernel)
        if bias is not None:
            if bias.shape != layer.bias.shape:
                raise ValueError(f"bias must have shape {tuple(layer.bias.shape)}, got {tuple(bias.shape)}")
            with torch.no_grad():
                layer.bias.copy_(bias)
        return layer

    @classmethod
    def from_layer(cls, layer: nn.Module, ranks: Size, **options: Any) -> Self:
        """Factorise a dense layer; its stride, padding, dilation, bias and training flag are taken over.

        Raises
        ------
        ValueError
            If the layer is of another kind, has groups or pads with anything but zeros, and as for
            :meth:`from_kernel`.
        """
        made = cls.from_kernel(layer.weight.detach(), ranks, bias=layer.bias, **cls._settings_of(layer), **options)
        made.train(layer.training)
        return made

    @classmethod
    def _sizes_of(cls, kernel: Tensor) -> tuple:
        raise NotImplementedError

    @classmethod
    def _settings_of(cls, layer: nn.Module) -> dict[str, Any]:
        raise NotImplementedError

    def _rank_text(self) -> str:
        return f"ranks={self.ranks}" + (f" (asked for {self.requested})" if self.clipped else "")


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
        refuse_counts(in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair("kernel_size", kernel_size), _pair("stride", stride)
        self.dilation = _pair("dilation", dilation)
        self.padding = padding if padding in ("same", "valid") else _pair("padding", padding, least=0)
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f"padding must be numbers where stride is not 1, got 'same' with stride={self.stride}")
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
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape (B, {self.in_channels}, H, W), got {tuple(x.shape)}")

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
        refuse_counts(in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
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
        if x.dim() < 1 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), got {tuple(x.shape)}")

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


def whole_numbers(name: str, values: Size, *, least: int = 1) -> tuple[int, ...]:
    """Return whole numbers as a tuple; ``ValueError`` naming them where there is another value or one below ``least``.

    A single number stands for a tuple of one.
    """
    entries = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, int) or entry < least:
            raise ValueError(f"{name} must be whole numbers of at least {least}, got {values!r}")
    return entries


def factors_std(variance: float, inner: Sequence[int], factors: int) -> float:
    """Return the standard deviation of independent factor entries whose product has entries of this variance.

    An entry of the kernel is a sum over all inner indices of products of one entry of each factor, so its variance is
    the product of the ranks ``inner`` and of the factors' variances.
    """
    return (variance / math.prod(inner)) ** (1 / (2 * factors))


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
