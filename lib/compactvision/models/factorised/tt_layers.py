"""Convolutions and linear layers whose kernel is a tensor train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.factorised.base import FactorisedConv2d, FactorisedLinear, factors_std
from compactvision.models.factorised.factors import Size, whole_numbers
from compactvision.models.factorised.trains import feasible_ranks, tt_svd, tt_tensor


class TTConv2d(FactorisedConv2d):
    """Convolution whose kernel is a tensor train with the modes (O_1, ..., O_m, K_h K_w, I_1, ..., I_n).

    The kernel (O, I, K_h, K_w) is transposed to (O, K_h K_w, I), then output and input channels are split, the last
    index running fastest. The input cores are applied at the pixels of the input, the core in the middle is a small
    dense convolution from ``r_{m+1}`` to ``r_m`` channels, and the output cores are applied at the pixels of the
    output. With one mode on either side these are three convolutions, 1 x 1, K x K and 1 x 1, as in Tucker-2.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, bias, device, dtype
        As for :class:`FactorisedConv2d`.
    ranks : sequence of int
        ``r_1`` to ``r_{m+n}``, from the output channels to the input channels; clipped where the modes allow less.
    out_modes, in_modes : sequence of int, optional
        How the channels are split; one mode each by default. Their products must be the channels.
    generator : torch.Generator, optional
        Source of the first cores: normal, scaled so that the kernel's entries have the variance of He et al. (2015).

    Attributes
    ----------
    cores : nn.ParameterList
        Tensors (r_{k-1}, n_k, r_k).
    modes : tuple of int
        All modes in the order of the cores.

    Raises
    ------
    ValueError
        If modes and channels or modes and ranks do not fit, and as for :class:`FactorisedConv2d`.

    Examples
    --------
    >>> import torch
    >>> from compactvision.models.factorised import TTConv2d
    >>> conv = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)
    >>> small = TTConv2d.from_layer(conv, (8, 6))
    >>> x = torch.randn(2, 16, 10, 10)
    >>> torch.allclose(small(x), small.dense()(x), atol=1e-5)
    True
    >>> TTConv2d.from_layer(conv, (100, 100)).ranks
    (32, 16)
    """

    layer_name = "TTConv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        ranks: Size,
        *,
        out_modes: Size | None = None,
        in_modes: Size | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, ranks, device=device, dtype=dtype, **settings)
        self.out_modes = _split("out_modes", out_modes, out_channels)
        self.in_modes = _split("in_modes", in_modes, in_channels)
        area = math.prod(self.kernel_size)
        self.modes = (*self.out_modes, area, *self.in_modes)
        self.ranks = feasible_ranks(self.modes, self.requested)
        variance = 2 / (area * out_channels)  # of He et al. (2015), as models.initialise_
        self.cores = _random_cores(self.modes, self.ranks, variance, generator, device, dtype)

    def kernel(self) -> Tensor:
        """Return the dense kernel (C_out, C_in, K_h, K_w)."""
        return from_modes(tt_tensor(list(self.cores)), self.out_channels, self.in_channels, self.kernel_size)

    def set_kernel_(self, kernel: Tensor) -> None:
        """Set the cores by TT-SVD of a kernel (C_out, C_in, K_h, K_w)."""
        self.check_kernel(kernel)
        _set_cores_(self.cores, tt_svd(to_modes(kernel, self.out_modes, self.in_modes), self.ranks))

    def description(self) -> dict[str, Any]:
        """Return the arguments of the constructor, expressible as JSON."""
        return super().description() | {"out_modes": list(self.out_modes), "in_modes": list(self.in_modes)}

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H', W')."""
        self.check_input(x)
        m = len(self.out_modes)
        output_cores, middle, input_cores = self.cores[:m], self.cores[m], self.cores[m + 1 :]
        batch, _, height, width = x.shape
        waiting = batch * self.in_channels
        for core in reversed(input_cores):  # contracts (I_b, r_b) at each pixel; I_1 ... I_{b-1} wait in the batch
            waiting //= core.shape[1]
            x = x.reshape(waiting, math.prod(core.shape[1:]), height, width)  # (B I_1 ... I_{b-1}, I_b r_b, H, W)
            x = F.conv2d(x, core.flatten(1)[:, :, None, None])  # (B I_1 ... I_{b-1}, r_{b-1}, H, W)
        left, _, right = middle.shape
        x = self.convolve(x, middle.transpose(1, 2).reshape(left, right, *self.kernel_size))  # (B, r_m, H', W')
        rows, width = x.shape[2:]
        for core in reversed(output_cores):  # contracts r_a; O_{a+1} ... O_m wait beside the rows
            x = x.reshape(batch, core.shape[2], rows, width)  # (B, r_a, O_{a+1} ... O_m H', W')
            x = F.conv2d(x, core.flatten(0, 1)[:, :, None, None])  # (B, r_{a-1} O_a, O_{a+1} ... O_m H', W')
            rows *= core.shape[1]
        x = x.reshape(batch, self.out_channels, rows // self.out_channels, width)
        return x if self.bias is None else x + self.bias[:, None, None].to(x.dtype)


class TTLinear(FactorisedLinear):
    """Linear layer whose weight is a tensor train with the modes (out_1, ..., out_m, in_1, ..., in_n).

    Parameters
    ----------
    in_features, out_features, bias, device, dtype
        As for :class:`FactorisedLinear`.
    ranks : sequence of int
        ``r_1`` to ``r_{m+n-1}``, from the outputs to the inputs; clipped where the modes allow less.
    out_modes, in_modes : sequence of int, optional
        How outputs and inputs are split; one mode each by default, which is a product of two matrices.
    generator : torch.Generator, optional
        Source of the first cores: normal, scaled so that the kernel's entries have variance ``1 / in_features``.

    Raises
    ------
    ValueError
        If modes and sizes or modes and ranks do not fit, and as for :class:`FactorisedLinear`.

    Examples
    --------
    >>> import torch
    >>> from compactvision import measure
    >>> from compactvision.models.factorised import TTLinear
    >>> layer = TTLinear(96, 256, (8, 12, 8), out_modes=(16, 16), in_modes=(8, 12), bias=False)
    >>> measure.parameters(layer), tuple(layer.kernel().shape), tuple(layer(torch.randn(2, 5, 96)).shape)
    (2528, (256, 96), (2, 5, 256))
    """

    layer_name = "TTLinear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        ranks: Size,
        *,
        out_modes: Size | None = None,
        in_modes: Size | None = None,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, ranks, bias=bias, device=device, dtype=dtype)
        self.out_modes = _split("out_modes", out_modes, out_features)
        self.in_modes = _split("in_modes", in_modes, in_features)
        self.modes = (*self.out_modes, *self.in_modes)
        self.ranks = feasible_ranks(self.modes, self.requested)
        self.cores = _random_cores(self.modes, self.ranks, 1 / in_features, generator, device, dtype)

    def kernel(self) -> Tensor:
        """Return the dense weight (C_out, C_in)."""
        return tt_tensor(list(self.cores)).reshape(self.out_features, self.in_features)

    def set_kernel_(self, kernel: Tensor) -> None:
        """Set the cores by TT-SVD of a weight (C_out, C_in)."""
        self.check_kernel(kernel)
        _set_cores_(self.cores, tt_svd(kernel.reshape(self.modes), self.ranks))

    def description(self) -> dict[str, Any]:
        """Return the arguments of the constructor, expressible as JSON."""
        return super().description() | {"out_modes": list(self.out_modes), "in_modes": list(self.in_modes)}

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C_in) to (..., C_out)."""
        self.check_input(x)
        m, leading = len(self.out_modes), x.shape[:-1]
        waiting = math.prod(leading) * self.in_features
        for core in reversed(self.cores[m:]):  # contracts (in_b, r_b); in_1 ... in_{b-1} wait in the batch
            waiting //= core.shape[1]
            x = x.reshape(waiting, math.prod(core.shape[1:]))  # (N in_1 ... in_{b-1}, in_b r_b)
            x = F.linear(x, core.flatten(1))  # (N in_1 ... in_{b-1}, r_{b-1})
        done = 1
        for core in reversed(self.cores[:m]):  # contracts r_a
            x = x.reshape(waiting, core.shape[2], done)  # (N, r_a, out_{a+1} ... out_m)
            x = core.flatten(0, 1) @ x  # (N, r_{a-1} out_a, out_{a+1} ... out_m)
            done *= core.shape[1]
        x = x.reshape(*leading, self.out_features)
        return x if self.bias is None else x + self.bias.to(x.dtype)


def to_modes(kernel: Tensor, out_modes: Sequence[int] | None, in_modes: Sequence[int] | None) -> Tensor:
    """Return a kernel (O, I, K_h, K_w) as a tensor (O_1, ..., O_m, K_h K_w, I_1, ..., I_n).

    None leaves the channels of a side in one mode.

    Raises
    ------
    ValueError
        If the kernel has not four dimensions, or modes do not multiply to its channels.
    """
    checks.floating(kernel=kernel)
    if kernel.dim() != 4:
        raise ValueError(f"kernel must have shape (C_out, C_in, K_h, K_w), got {tuple(kernel.shape)}")
    out_modes = _split("out_modes", out_modes, kernel.shape[0])
    in_modes = _split("in_modes", in_modes, kernel.shape[1])
    return kernel.flatten(2).transpose(1, 2).reshape(*out_modes, -1, *in_modes)


def from_modes(tensor: Tensor, out_channels: int, in_channels: int, kernel_size: Sequence[int]) -> Tensor:
    """Return the kernel (O, I, K_h, K_w) of a tensor made by :func:`to_modes`.

    Raises
    ------
    ValueError
        If the tensor has another number of entries.
    """
    checks.floating(tensor=tensor)
    checks.counts(out_channels=out_channels, in_channels=in_channels)
    kernel_size = whole_numbers("kernel_size", kernel_size)
    if len(kernel_size) != 2 or tensor.numel() != out_channels * in_channels * math.prod(kernel_size):
        raise ValueError(
            f"tensor of shape {tuple(tensor.shape)} does not fit out_channels={out_channels}, "
            f"in_channels={in_channels} and kernel_size={kernel_size}"
        )
    flat = tensor.reshape(out_channels, math.prod(kernel_size), in_channels)
    return flat.transpose(1, 2).reshape(out_channels, in_channels, *kernel_size)


def _split(name: str, modes: Size | None, size: int) -> tuple[int, ...]:
    found = (size,) if modes is None else whole_numbers(name, modes)
    if math.prod(found) != size:
        raise ValueError(f"{name} must have the product {size}, got {found}")
    return found


def _random_cores(modes, ranks, variance, generator, device, dtype) -> nn.ParameterList:
    checks.generators(generator=generator)
    std = factors_std(variance, ranks, len(modes))
    inner = (1, *ranks, 1)
    cores = nn.ParameterList()
    for left, mode, right in zip(inner[:-1], modes, inner[1:], strict=True):
        core = torch.empty(left, mode, right, device=device, dtype=dtype)
        cores.append(nn.Parameter(nn.init.normal_(core, std=std, generator=generator)))
    return cores


@torch.no_grad()
def _set_cores_(cores: nn.ParameterList, values: Sequence[Tensor]) -> None:
    for core, value in zip(cores, values, strict=True):
        core.copy_(value)
