"""Spectra of pictures, circular convolution through them, and spectra for pictures of another size.

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
from torch import Tensor

from compactvision import _checks as checks

__all__ = [
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
    with without_autocast(x):
        return torch.fft.rfft2(x if x.dtype == torch.float64 else x.float(), norm="ortho")


def image(frequencies: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maps (..., H, W) of a half spectrum; ``size`` = (H, W) tells whether W is odd.

    Raises
    ------
    ValueError
        If ``frequencies`` is no complex (..., H, W // 2 + 1).
    """
    height, width = size_of(size)
    if not isinstance(frequencies, Tensor) or not frequencies.is_complex() or frequencies.ndim < 2:
        raise ValueError(f"frequencies must be complex (..., H, W // 2 + 1), got {checks.shown(frequencies)}")
    if frequencies.dtype not in (torch.complex64, torch.complex128) or (frequencies.is_meta and 0 in frequencies.shape):
        raise ValueError(f"frequencies must be complex64 or complex128, got {checks.shown(frequencies)}")
    if tuple(frequencies.shape[-2:]) != (height, width // 2 + 1) or 0 in frequencies.shape:
        given = tuple(frequencies.shape[-2:])
        raise ValueError(f"size {height} x {width} must have {height} x {width // 2 + 1} frequencies, got {given}")
    with without_autocast(frequencies):
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
    size, new = _spectrum_of(weight, size), size_of(new, "new")
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
    size, new = _spectrum_of(weight, size), size_of(new, "new")
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
"""Functions of a half spectrum, the size that it belongs to, and the new one."""


def refuse_maps(x: Tensor, channels: int, weight: Tensor) -> None:
    """Refuse what are no maps (B, channels, H, W) on the device and, but for autocast, of the type of a weight."""
    _refuse(x, "x", 4)
    if x.shape[1] != channels:
        raise ValueError(f"x must be maps (B, {channels}, H, W), got {checks.shown(x)}")
    _refuse_apart(weight, x, "x")


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Switch autocast off on a tensor's device."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def _whole(weight: Tensor, width: int) -> Tensor:
    """Return the whole spectrum (C, H, W) of a half one: the rest is its mirror image."""
    height = weight.shape[-2]
    rows = (-torch.arange(height, device=weight.device)) % height
    columns = torch.arange(width - width // 2 - 1, 0, -1, device=weight.device)
    return torch.cat([weight, weight[..., rows, :][..., columns].conj()], dim=-1)


def _spectrum_of(weight: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    size = size_of(size)
    complex_ = isinstance(weight, Tensor) and weight.dtype in (torch.complex64, torch.complex128)
    complex_ = complex_ and weight.layout == torch.strided
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


def size_of(size: tuple[int, int], name: str = "size") -> tuple[int, int]:
    """Return (H, W), and refuse what is no such pair of counts."""
    if not isinstance(size, (tuple, list, torch.Size)) or len(size) != 2:
        raise ValueError(f"{name} must be (H, W), got {checks.shown(size)}")
    checks.counts(**{f"{name}[0]": size[0], f"{name}[1]": size[1]})
    return int(size[0]), int(size[1])
