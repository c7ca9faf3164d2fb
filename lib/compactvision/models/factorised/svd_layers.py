"""Convolutions whose kernel, read as a matrix with one row for each output channel, is a product of two."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.factorised.base import FactorisedConv2d, Size, factors_std


class SVDConv2d(FactorisedConv2d):
    """A convolution into few channels, and a 1 x 1 convolution from those to the output channels.

    The kernel (O, I, K_h, K_w) as a matrix (O, I K_h K_w) has this rank; factorising one keeps its largest singular
    values, which is the nearest kernel of that rank (Eckart and Young 1936). Each factor gets the square root of a
    singular value. Both run at the pixels of the output: parameters and MACs shrink by the same share.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, bias, device, dtype
        As for :class:`FactorisedConv2d`; the bias is that of the second convolution.
    ranks : int or sequence of one int
        Channels in between; clipped to ``min(O, I K_h K_w)``.
    generator : torch.Generator, optional
        Source of the first factors: normal, scaled so that the kernel's entries have the variance of He et al. (2015).

    Attributes
    ----------
    first, second : nn.Parameter
        Weights (r, C_in, K_h, K_w) and (C_out, r, 1, 1).

    Raises
    ------
    ValueError
        As for :class:`FactorisedConv2d`.

    Examples
    --------
    >>> import torch
    >>> from compactvision.models.factorised import SVDConv2d
    >>> conv = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)
    >>> small = SVDConv2d.from_layer(conv, 8)
    >>> x = torch.randn(2, 16, 10, 10)
    >>> torch.allclose(small(x), small.dense()(x), atol=1e-5)
    True
    >>> SVDConv2d.from_layer(conv, 100)
    SVDConv2d(16, 32, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), ranks=(32,) (asked for (100,)))
    """

    layer_name = "SVDConv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        ranks: Size,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, ranks, device=device, dtype=dtype, **settings)
        checks.generators(generator=generator)
        if len(self.requested) != 1:
            raise ValueError(f"ranks must be one whole number, got {self.requested}")
        area = math.prod(self.kernel_size)
        rank = min(*self.requested, out_channels, in_channels * area)
        self.ranks = (rank,)
        std = factors_std(2 / (area * out_channels), self.ranks, 2)
        shapes = {"first": (rank, in_channels, *self.kernel_size), "second": (out_channels, rank, 1, 1)}
        for name, shape in shapes.items():
            empty = torch.empty(shape, device=device, dtype=dtype)
            setattr(self, name, nn.Parameter(nn.init.normal_(empty, std=std, generator=generator)))

    def kernel(self) -> Tensor:
        """Return the dense kernel (C_out, C_in, K_h, K_w)."""
        product = self.second.flatten(1) @ self.first.flatten(1)  # (C_out, C_in K_h K_w)
        return product.reshape(self.out_channels, self.in_channels, *self.kernel_size)

    @torch.no_grad()
    def set_kernel_(self, kernel: Tensor) -> None:
        """Set the factors by the SVD of a kernel (C_out, C_in, K_h, K_w)."""
        self.check_kernel(kernel)
        if not kernel.isfinite().all():
            raise ValueError("kernel must be finite, got NaN or infinity in it")
        matrix = kernel.flatten(1).to(torch.promote_types(kernel.dtype, torch.float32))
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        (rank,), root = self.ranks, s.sqrt()
        self.first.copy_((root[:rank, None] * vh[:rank]).reshape(self.first.shape))
        self.second.copy_((u[:, :rank] * root[:rank]).reshape(self.second.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H', W')."""
        checks.instances(Tensor, x=x)
        self.check_input(x)
        return F.conv2d(self.convolve(x, self.first), self.second, self.bias)
