"""Noisy pictures of two kinds, waves and shapes, and the three-line denoiser that any network has to beat.

A wave is far apart: to see it under noise, one has to look at the whole picture. A shape is near: its inside is even,
its edge is sharp, and neither goes on beyond it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.models.frequencies import image, spectrum

KINDS = ("waves", "shapes")


def waves(n: int, size: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
    """Return sums of two plane waves, (n, 1, H, W): any direction and phase, 3 to 9 pixels long.

    The amplitude of the first is between 0.5 and 1, of the second between 0 and 0.5.
    """
    y, x = _grid(n, size, generator)
    found = torch.zeros(n, *size)
    for low in (0.5, 0.0):
        angle, length, phase, part = _uniform(4, n, generator)
        angle, length = math.pi * angle, 3 + 6 * length
        found += (low + 0.5 * part) * torch.cos(2 * math.pi * ((x * angle.cos() + y * angle.sin()) / length + phase))
    return found.unsqueeze(1)


def shapes(n: int, size: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
    """Return pictures of discs and squares of one brightness in [-1, 1] each, (n, 1, H, W).

    Three for each 16 x 16 pixels, radius 2 to 6, later ones in front; the ground is 0 and edges are one pixel soft.
    """
    y, x = _grid(n, size, generator)
    found = torch.zeros(n, *size)
    for number in range(max(1, round(3 * size[0] * size[1] / 256))):
        down, right, radius, angle, value = _uniform(5, n, generator)
        angle = math.pi * angle
        v, u = y - down * size[0], x - right * size[1]
        u, v = u * angle.cos() + v * angle.sin(), v * angle.cos() - u * angle.sin()
        away = torch.maximum(u.abs(), v.abs()) if number % 2 else (u**2 + v**2).sqrt()
        cover = (2.5 + 4 * radius - away).clamp(0, 1)
        found = found * (1 - cover) + (2 * value - 1) * cover
    return found.unsqueeze(1)


def draw(
    kind: str, n: int, size: tuple[int, int], *, noise: tuple[float, float], generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return pictures and noisy copies of them, (n, 1, H, W) each.

    Parameters
    ----------
    kind : str
        ``"waves"``, ``"shapes"`` or ``"both"``, half of each.
    n : int
        How many.
    size : tuple of int
        (H, W).
    noise : tuple of float
        The standard deviation of a picture's white noise lies between these two, differently for each picture.
    generator : torch.Generator, optional
        PyTorch's global one by default.

    Raises
    ------
    ValueError
        If the word is unknown or a number does not fit.

    Examples
    --------
    >>> clean, noisy = draw("both", 4, (8, 8), noise=(0.5, 1.5), generator=torch.Generator().manual_seed(0))
    >>> clean.shape, noisy.shape
    (torch.Size([4, 1, 8, 8]), torch.Size([4, 1, 8, 8]))
    """
    checks.one_of([*KINDS, "both"], kind=kind)
    if not isinstance(noise, (tuple, list)) or len(noise) != 2:
        raise ValueError(f"noise must be (least, greatest), got {checks.shown(noise)}")
    checks.finite(**{"noise[0]": noise[0], "noise[1]": noise[1]})
    if not 0 <= noise[0] <= noise[1]:
        raise ValueError(f"noise must be (least, greatest) of at least 0, got {tuple(noise)}")
    _grid(n, size, generator)
    if kind == "both" and n < 2:
        raise ValueError(f"n must be at least 2 for both kinds, got {n}")
    makers = {"waves": [(waves, n)], "shapes": [(shapes, n)], "both": [(waves, n // 2), (shapes, n - n // 2)]}
    clean = torch.cat([make(count, size, generator) for make, count in makers[kind]])
    level = noise[0] + (noise[1] - noise[0]) * torch.rand(n, 1, 1, 1, generator=generator)
    return clean, clean + level * torch.randn(clean.shape, generator=generator)


def threshold(noisy: Tensor, factor: float = 2.5) -> Tensor:
    """Return pictures (B, C, H, W) without the frequencies whose amplitude is less than ``factor`` times the noise's.

    The noise is told from the median amplitude of each picture and channel: where most frequencies hold noise alone,
    that is ``sqrt(ln 2)`` times its standard deviation (Donoho and Johnstone 1994, on frequencies).
    """
    checks.finite(factor=factor)
    checks.floating(noisy=noisy)
    if noisy.ndim != 4 or 0 in noisy.shape:
        raise ValueError(f"noisy must be (B, C, H, W), got {checks.shown(noisy)}")
    frequencies = spectrum(noisy)  # (B, C, H, W // 2 + 1)
    size = frequencies.abs()
    level = size.flatten(2).median(2).values / math.sqrt(math.log(2))
    kept = size > factor * level[..., None, None]
    return image(kept * frequencies, (noisy.shape[2], noisy.shape[3]))


def gain(found: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Return by how many dB each picture's mean squared error has fallen, (B,); above 0 is better than doing nothing.

    Raises
    ------
    ValueError
        If the three differ in shape.
    """
    checks.floating(found=found, clean=clean, noisy=noisy)
    if found.ndim < 2 or not found.shape == clean.shape == noisy.shape or 0 in found.shape:
        shown = ", ".join(str(tuple(each.shape)) for each in (found, clean, noisy))
        raise ValueError(f"found, clean and noisy must be pictures of one shape, got {shown}")
    after, before = (((each - clean) ** 2).flatten(1).mean(1) for each in (found, noisy))
    return 10 * (before.log10() - after.log10())


def _uniform(count: int, n: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(count, n, 1, 1, generator=generator)


def _grid(n: int, size: tuple[int, int], generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    checks.counts(n=n)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size must be (H, W), got {checks.shown(size)}")
    checks.counts(**{"size[0]": size[0], "size[1]": size[1]})
    checks.generators(generator=generator)
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return rows.float(), columns.float()
