"""Filters as large as the picture: circular convolution, GFNet's global filter, and AFNO's network on frequencies.

Maps are (B, C, H, W). All transforms are orthonormal and run in float32 at least, under autocast as well: half
precision has too few digits for sums over a whole picture. A real picture of H x W has a half spectrum of
H x (W // 2 + 1) frequencies, whose other half is its mirror image.

With orthonormal transforms, ``image(k_hat * spectrum(x))`` is the circular convolution of x with ``image(k_hat)``,
divided by ``sqrt(H * W)``. What is imaginary at frequencies that are their own mirror image (the mean, and the highest
of an even side) gets lost on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks

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


def spectrum(x: Tensor) -> Tensor:
    """Return the half spectrum (B, C, H, W // 2 + 1) of maps (B, C, H, W), complex, in float32 or float64.

    Raises
    ------
    ValueError
        If ``x`` is no (..., H, W) of real floating-point numbers, or is empty.
    """
    _refuse(x, "x")
    with _without_autocast(x):
        return torch.fft.rfft2(x if x.dtype == torch.float64 else x.float(), norm="ortho")


def image(frequencies: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maps (..., H, W) of a half spectrum; ``size`` = (H, W) tells whether W is odd.

    Raises
    ------
    ValueError
        If ``frequencies`` is no complex (..., H, W // 2 + 1).
    """
    height, width = _size(size)
    if not isinstance(frequencies, Tensor) or not frequencies.is_complex() or frequencies.ndim < 2:
        raise ValueError(f"frequencies must be complex (..., H, W // 2 + 1), got {checks.shown(frequencies)}")
    if frequencies.dtype not in (torch.complex64, torch.complex128) or (frequencies.is_meta and 0 in frequencies.shape):
        raise ValueError(f"frequencies must be complex64 or complex128, got {checks.shown(frequencies)}")
    if tuple(frequencies.shape[-2:]) != (height, width // 2 + 1) or 0 in frequencies.shape:
        given = tuple(frequencies.shape[-2:])
        raise ValueError(f"size {height} x {width} must have {height} x {width // 2 + 1} frequencies, got {given}")
    with _without_autocast(frequencies):
        return torch.fft.irfft2(frequencies, s=(height, width), norm="ortho")


def circular_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Return each channel convolved with its kernel, the picture going on periodically at its edges.

    ``y[p] = sum_s kernel[s] x[(p - s) mod (H, W)]``, by three fast Fourier transforms.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W).
    kernel : Tensor
        (C, h, w) or (B, C, h, w) with h and w up to H and W; entry (0, 0) belongs to no displacement.

    Raises
    ------
    ValueError
        If an argument is no such tensor.

    Examples
    --------
    >>> x = torch.arange(4.0).reshape(1, 1, 1, 4)
    >>> circular_convolution(x, torch.tensor([[[0.0, 1.0]]])).round().flatten()  # moved by one to the right
    tensor([3., 0., 1., 2.])
    """
    _refuse(x, "x", 4)
    _refuse(kernel, "kernel")
    fits = kernel.ndim in (3, 4) and kernel.shape[-3] == x.shape[1] and kernel.shape[:-3] in ((), (len(x),))
    if not fits or kernel.shape[-2] > x.shape[2] or kernel.shape[-1] > x.shape[3]:
        wanted = f"(C, h, w) or (B, C, h, w), no larger than x of {tuple(x.shape)}"
        raise ValueError(f"kernel must be {wanted}, got {checks.shown(kernel)}")
    _refuse_apart(x, kernel, "kernel")
    size = (x.shape[2], x.shape[3])
    padded = F.pad(kernel, (0, size[1] - kernel.shape[-1], 0, size[0] - kernel.shape[-2]))
    return math.sqrt(size[0] * size[1]) * image(spectrum(x) * spectrum(padded), size)


def soft_shrink(z: Tensor, threshold: float) -> Tensor:
    """Move real and imaginary part towards zero by ``threshold``, each for itself, and stop there."""
    checks.finite(threshold=threshold)
    if threshold < 0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    if not isinstance(z, Tensor) or not z.is_complex() or z.layout != torch.strided:
        raise ValueError(f"z must be a complex tensor, got {checks.shown(z)}")
    return torch.view_as_complex(F.softshrink(torch.view_as_real(z), threshold))


def resize_spectrum(weight: Tensor, size: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return a filter's half spectrum for pictures of another size, interpolated bilinearly between frequencies.

    A frequency is told in waves per *pixel*, so that the filter does at the new size to a wave of 4 pixels what it did
    before. Above and below the highest frequencies the spectrum goes on periodically.

    Parameters
    ----------
    weight : Tensor
        Complex (C, H, W // 2 + 1).
    size, new : tuple of int
        (H, W) and the size of the pictures to come.
    """
    size, new = _spectrum_of(weight, size), _size(new, "new")
    if size == new:
        return weight
    whole = _whole(weight, size[1])  # (C, H, W)
    for dim, (before, after) in ((-2, (size[0], new[0])), (-1, (size[1], new[1]))):
        count = after if dim == -2 else after // 2 + 1
        place = torch.arange(count, device=weight.device) * before / after
        low, part = place.long(), (place - place.floor()).to(weight.real.dtype)
        part = part.unsqueeze(-1) if dim == -2 else part
        near = whole.index_select(dim, low % before), whole.index_select(dim, (low + 1) % before)
        whole = near[0] * (1 - part) + near[1] * part
    return whole


def resize_kernel(weight: Tensor, size: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return the half spectrum of the same kernel, in pixels, for pictures of another size.

    The kernel is cut off, or has zeros around it: it does to each neighbourhood what it did before. Arguments as for
    :func:`resize_spectrum`.
    """
    size, new = _spectrum_of(weight, size), _size(new, "new")
    if size == new:
        return weight
    kernel = torch.fft.fftshift(image(weight, size), dim=(-2, -1))  # no displacement stands at H // 2, W // 2
    for dim, (before, after) in ((-2, (size[0], new[0])), (-1, (size[1], new[1]))):
        first = after // 2 - before // 2  # places in front; below 0 that many are cut
        pad = (first, after - before - first)
        kernel = F.pad(kernel, (0, 0, *pad) if dim == -2 else (*pad, 0, 0))
    scale = math.sqrt(new[0] * new[1] / (size[0] * size[1]))
    return scale * spectrum(torch.fft.ifftshift(kernel, dim=(-2, -1)))


RESIZES: dict[str, Callable[[Tensor, tuple[int, int], tuple[int, int]], Tensor]] = {
    "kernel": resize_kernel,
    "spectrum": resize_spectrum,
}


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
        self.channels, self.size, self.resize = channels, _size(size), resize
        self.weight = nn.Parameter(torch.empty(channels, self.size[0], self.size[1] // 2 + 1, 2))
        _draw_(self.weight, generator)

    def spectrum_at(self, size: tuple[int, int]) -> Tensor:
        """Return the filter (C, H, W // 2 + 1) for pictures of ``size`` = (H, W)."""
        return RESIZES[self.resize](torch.view_as_complex(self.weight), self.size, _size(size))

    def kernel(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return the filter as kernels (C, H, W), entry (0, 0) for no displacement."""
        size = self.size if size is None else _size(size)
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
            or frequencies.ndim < 3
            or frequencies.shape[1] != self.channels
            or 0 in frequencies.shape
        ):
            raise ValueError(f"frequencies must be complex (B, {self.channels}, ...), got {checks.shown(frequencies)}")
        if (frequencies.real.dtype, frequencies.device) != (self.weights.dtype, self.weights.device):
            wanted = f"{self.weights.dtype} parts on {self.weights.device} as the network has"
            raise ValueError(f"frequencies must be of {wanted}, got {checks.shown(frequencies)}")
        with _without_autocast(frequencies):
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


def refuse_maps(x: Tensor, channels: int, weight: Tensor) -> None:
    """Refuse what are no maps (B, channels, H, W) on the device and, but for autocast, of the type of a weight."""
    _refuse(x, "x", 4)
    if x.shape[1] != channels:
        raise ValueError(f"x must be maps (B, {channels}, H, W), got {checks.shown(x)}")
    _refuse_apart(weight, x, "x")


def _without_autocast(x: Tensor) -> AbstractContextManager:
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def _draw_(parameter: nn.Parameter, generator: torch.Generator | None) -> None:
    if not parameter.is_meta:
        nn.init.normal_(parameter, std=0.02, generator=generator)


def _whole(weight: Tensor, width: int) -> Tensor:
    """Return the whole spectrum (C, H, W) of a half one: the rest is its mirror image."""
    height = weight.shape[-2]
    rows = (-torch.arange(height, device=weight.device)) % height
    columns = torch.arange(width - width // 2 - 1, 0, -1, device=weight.device)
    return torch.cat([weight, weight[..., rows, :][..., columns].conj()], dim=-1)


def _spectrum_of(weight: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    size = _size(size)
    complex_ = isinstance(weight, Tensor) and weight.dtype in (torch.complex64, torch.complex128)
    if not complex_ or weight.ndim != 3 or tuple(weight.shape[1:]) != (size[0], size[1] // 2 + 1) or not len(weight):
        wanted = f"complex (C, {size[0]}, {size[1] // 2 + 1})"
        raise ValueError(f"weight must be {wanted} for a size of {size[0]} x {size[1]}, got {checks.shown(weight)}")
    return size


def _refuse(x: Tensor, name: str, rank: int | None = None) -> None:
    checks.floating(**{name: x}) if not (isinstance(x, Tensor) and x.is_meta) else None
    if x.ndim < 2 or rank not in (None, x.ndim) or 0 in x.shape:
        wanted = "(B, C, H, W)" if rank == 4 else "(..., H, W)"
        raise ValueError(f"{name} must be {wanted}, got {checks.shown(x)}")


def _refuse_apart(first: Tensor, second: Tensor, name: str) -> None:
    """Refuse another device, and another precision where autocast does not stand between."""
    autocast = not second.is_meta and torch.is_autocast_enabled(second.device.type)
    mixed = autocast and torch.float64 not in (first.dtype, second.dtype)
    if first.device != second.device or (first.dtype != second.dtype and not mixed):
        raise ValueError(f"{name} must be {first.dtype} on {first.device}, got {checks.shown(second)}")


def _size(size: tuple[int, int], name: str = "size") -> tuple[int, int]:
    if not isinstance(size, (tuple, list, torch.Size)) or len(size) != 2:
        raise ValueError(f"{name} must be (H, W), got {checks.shown(size)}")
    checks.counts(**{f"{name}[0]": size[0], f"{name}[1]": size[1]})
    return int(size[0]), int(size[1])
