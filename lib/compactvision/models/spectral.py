"""Layers that filter by the spectrum: GFNet's global filter, a network on each frequency, and AFNO made of it.

Transforms and circular convolution come from :mod:`~compactvision.models.frequencies`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.frequencies import (
    RESIZES,
    circular_convolution,
    image,
    refuse_maps,
    resize_kernel,
    resize_spectrum,
    size_of,
    soft_shrink,
    spectrum,
    without_autocast,
)

__all__ = [
    "AFNO",
    "GlobalFilter",
    "SpectralMLP",
    "circular_convolution",
    "image",
    "resize_kernel",
    "resize_spectrum",
    "soft_shrink",
    "spectrum",
]


class GlobalFilter(nn.Module):
    """One learned complex number for each channel and frequency, multiplied with the spectrum (GFNet, Rao et al. 2021).

    It belongs to one size; pictures of another get a resized filter.

    Parameters
    ----------
    channels : int
        C.
    size : tuple of int
        (H, W) of the maps; the weight has C * H * (W // 2 + 1) complex numbers.
    resize : str, default "kernel"
        ``"kernel"`` (:func:`resize_kernel`) or ``"spectrum"`` (:func:`resize_spectrum`).
    generator : torch.Generator, optional
        Source of the initial weights, 0.02 N(0, 1); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If an argument is no such number or word; in ``forward`` if ``x`` has other channels.

    Examples
    --------
    >>> mix = GlobalFilter(2, (8, 8))
    >>> mix(torch.zeros(1, 2, 8, 8)).shape, mix(torch.zeros(1, 2, 9, 12)).shape
    (torch.Size([1, 2, 8, 8]), torch.Size([1, 2, 9, 12]))
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        *,
        resize: str = "kernel",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(channels=channels)
        checks.one_of(RESIZES, resize=resize)
        checks.generators(generator=generator)
        self.channels, self.size, self.resize = channels, size_of(size), resize
        self.weight = nn.Parameter(torch.empty(channels, self.size[0], self.size[1] // 2 + 1, 2))
        _draw_(self.weight, generator)

    def spectrum_at(self, size: tuple[int, int]) -> Tensor:
        """Return the filter (C, H, W // 2 + 1) for pictures of ``size`` = (H, W)."""
        return RESIZES[self.resize](torch.view_as_complex(self.weight), self.size, size_of(size))

    def kernel(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return the filter as kernels (C, H, W), entry (0, 0) for no displacement."""
        size = self.size if size is None else size_of(size)
        return image(self.spectrum_at(size), size) / math.sqrt(size[0] * size[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_maps(x, self.channels, self.weight)
        size = (x.shape[2], x.shape[3])
        return image(spectrum(x) * self.spectrum_at(size), size)


class SpectralMLP(nn.Module):
    """Two complex linear layers at each frequency, the same at all of them, in groups of channels.

    ``act(Re z) + i act(Im z)`` with ``z = X W_1 + b_1``, then ``W_2`` and ``b_2``. No weight knows *which* frequency it
    is at.

    Parameters
    ----------
    channels : int
        C.
    groups : int, default 8
        Divides C; channels of one group of b = C / groups see each other alone.
    activation : nn.Module, optional
        Of real numbers, SiLU by default.
    generator : torch.Generator, optional
        Source of the initial weights and biases, 0.02 N(0, 1); PyTorch's global one by default.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 8,
        *,
        activation: nn.Module | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(channels=channels, groups=groups)
        checks.generators(generator=generator)
        if activation is not None:
            checks.networks(activation=activation)
        if channels % groups:
            raise ValueError(f"groups must divide the {channels} channels, got {groups}")
        width = channels // groups
        self.channels, self.groups = channels, groups
        self.activation = nn.SiLU() if activation is None else activation
        self.weights = nn.Parameter(torch.empty(2, groups, width, width, 2))  # (layer, group, in, out, parts)
        self.biases = nn.Parameter(torch.empty(2, groups, width, 2))
        for parameter in (self.weights, self.biases):
            _draw_(parameter, generator)

    def forward(self, frequencies: Tensor) -> Tensor:
        """Map a complex (B, C, ...) to the same shape."""
        if (
            not isinstance(frequencies, Tensor)
            or frequencies.dtype not in (torch.complex64, torch.complex128)
            or frequencies.layout != torch.strided
            or frequencies.ndim < 3
            or frequencies.shape[1] != self.channels
            or 0 in frequencies.shape
        ):
            raise ValueError(f"frequencies must be complex (B, {self.channels}, ...), got {checks.shown(frequencies)}")
        if (frequencies.real.dtype, frequencies.device) != (self.weights.dtype, self.weights.device):
            wanted = f"{self.weights.dtype} parts on {self.weights.device} as the network has"
            raise ValueError(f"frequencies must be of {wanted}, got {checks.shown(frequencies)}")
        with without_autocast(frequencies):
            weights, biases = torch.view_as_complex(self.weights), torch.view_as_complex(self.biases)
            z = frequencies.flatten(2).unflatten(1, (self.groups, -1))  # (B, g, b, N)
            z = weights[0].mT @ z + biases[0].unsqueeze(-1)
            z = torch.complex(self.activation(z.real), self.activation(z.imag))
            z = weights[1].mT @ z + biases[1].unsqueeze(-1)
            return z.flatten(1, 2).reshape(frequencies.shape)


class AFNO(nn.Module):
    """The spectrum behind a network on each frequency, shrunk, plus the maps (Guibas et al. 2022).

    ``y = image(shrink(MLP(spectrum(x)))) + x``: the network's output *is* the new spectrum.

    Parameters
    ----------
    channels, groups, generator
        As for :class:`SpectralMLP`; its activation is ReLU here.
    threshold : float, default 0.01
        Real and imaginary parts move towards zero by so much.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 8,
        *,
        threshold: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.finite(threshold=threshold)
        if threshold < 0:
            raise ValueError(f"threshold must be at least 0, got {threshold}")
        self.channels, self.threshold = channels, float(threshold)
        self.mlp = SpectralMLP(channels, groups, activation=nn.ReLU(), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_maps(x, self.channels, self.mlp.weights)
        found = soft_shrink(self.mlp(spectrum(x)), self.threshold)
        return image(found, (x.shape[2], x.shape[3])) + x


def _draw_(parameter: nn.Parameter, generator: torch.Generator | None) -> None:
    if not parameter.is_meta:
        nn.init.normal_(parameter, std=0.02, generator=generator)
