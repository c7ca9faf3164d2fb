"""The two adaptive filters: one on the spectrum (AFF), one on the image (IDAF), and both in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.frequencies import image, refuse_maps, soft_shrink, spectrum
from compactvision.models.spectral import SpectralMLP

ORDERS = ("image_first", "fourier_first", "parallel")


class FourierFilter(nn.Module):
    """AFF: a mask made from the spectrum multiplies the spectrum; then the maps are added.

    ``y = image(M(X) * X) + x`` with ``X = spectrum(x)`` and ``M = shrink(MLP(X))``, of Huang et al. (2023), on which
    the paper builds. So x is convolved, periodically, with a kernel as large as itself that depends on x. The network
    is the same at every frequency, hence the same weights fit pictures of any size.

    Parameters
    ----------
    channels : int
        C; ``C^2 / 2 + 4 C`` parameters with eight groups.
    groups : int, default 8
        Divides C.
    threshold : float, default 0.01
        Real and imaginary part of the mask move towards zero by so much.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Attributes
    ----------
    scale : float
        The mask is made from ``scale * X``, 1 in the paper. A wave over the whole picture has an amplitude in X that
        grows with ``sqrt(H W)``, white noise has not; so a filter that was trained at one size sees other numbers at
        another, and may be told so here.

    Raises
    ------
    ValueError
        If a number does not fit; in ``forward`` if ``x`` has other channels.

    Examples
    --------
    >>> aff = FourierFilter(16)
    >>> aff(torch.zeros(1, 16, 7, 9)).shape, sum(p.numel() for p in aff.parameters())
    (torch.Size([1, 16, 7, 9]), 192)
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
        self.channels, self.threshold, self.scale = channels, float(threshold), 1.0
        self.mlp = SpectralMLP(channels, groups, generator=generator)

    def mask(self, frequencies: Tensor) -> Tensor:
        """Return the mask M of a half spectrum (B, C, H, W // 2 + 1), in the same shape."""
        checks.instances(Tensor, frequencies=frequencies)
        return soft_shrink(self.mlp(frequencies * self.scale), self.threshold)

    def kernel(self, x: Tensor) -> Tensor:
        """Return the kernels (B, C, H, W) with which these maps are convolved; entry (0, 0) for no displacement."""
        refuse_maps(x, self.channels, self.mlp.weights)
        size = (x.shape[2], x.shape[3])
        return image(self.mask(spectrum(x)), size) / math.sqrt(size[0] * size[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_maps(x, self.channels, self.mlp.weights)
        frequencies = spectrum(x)  # (B, C, H, W // 2 + 1)
        return image(self.mask(frequencies) * frequencies, (x.shape[2], x.shape[3])) + x


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Return (B, C, ...) with channels dealt out: one of each group in turn. The inverse is ``shuffle(x, C / groups)``.

    Examples
    --------
    >>> shuffle(torch.arange(6).reshape(1, 6), 2)
    tensor([[0, 3, 1, 4, 2, 5]])
    """
    checks.counts(groups=groups)
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.ndim < 2 or x.shape[1] % groups or 0 in x.shape:
        raise ValueError(f"x must be (B, C, ...) with channels that {groups} groups divide, got {checks.shown(x)}")
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ImageFilter(nn.Module):
    """IDAF: a large window, made of two depthwise ones and a pointwise layer, whose output multiplies its input.

    ``u = GELU(shuffle(conv(x)))``, ``t = pointwise(dw7x7, dilation 3 (dw5x5(u)))``, ``y = shuffle(conv(u * t)) + x``
    with grouped pointwise convolutions ``conv``. The window spans ``near + dilation * (far - 1)`` places, by default
    23. The paper's details are not public; this is the arrangement that fits its printed parameter counts (others do as
    well).

    Parameters
    ----------
    channels : int
        C; ``C^2 (1 + 2 / groups) + 79 C`` parameters.
    groups : int, default 8
        Of the grouped convolutions, divides C.
    grouped : bool, default True
        False leaves both grouped convolutions, shuffles and the GELU out: large-kernel attention alone (VAN, Guo et
        al. 2023), ``y = x * t + x``.
    near, far, dilation : int
        Sides of the two depthwise windows, both odd, and the dilation of the second: 5, 7 and 3 by default.

    Raises
    ------
    ValueError
        If a number does not fit; in ``forward`` if ``x`` has other channels.

    Examples
    --------
    >>> gate = ImageFilter(16)
    >>> gate(torch.randn(2, 16, 9, 12)).shape
    torch.Size([2, 16, 9, 12])
    """

    def __init__(
        self, channels: int, groups: int = 8, *, grouped: bool = True, near: int = 5, far: int = 7, dilation: int = 3
    ) -> None:
        super().__init__()
        checks.counts(channels=channels, groups=groups, near=near, far=far, dilation=dilation)
        for name, side in (("near", near), ("far", far)):
            if side % 2 == 0:
                raise ValueError(f"{name} must be odd, got {side}")
        checks.flags(grouped=grouped)
        if channels % groups:
            raise ValueError(f"groups must divide the {channels} channels, got {groups}")
        self.channels, self.groups = channels, groups
        self.before = nn.Conv2d(channels, channels, 1, groups=groups) if grouped else None
        self.near = nn.Conv2d(channels, channels, near, padding=near // 2, groups=channels)
        pad = dilation * (far // 2)
        self.far = nn.Conv2d(channels, channels, far, padding=pad, dilation=dilation, groups=channels)
        self.point = nn.Conv2d(channels, channels, 1)
        self.after = nn.Conv2d(channels, channels, 1, groups=groups) if grouped else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        refuse_maps(x, self.channels, self.point.weight)
        u = x if self.before is None else F.gelu(shuffle(self.before(x), self.groups))
        gated = u * self.point(self.far(self.near(u)))
        return x + (gated if self.after is None else shuffle(self.after(gated), self.groups))


def rescale_(model: nn.Module, scale: float) -> None:
    """Set the ``scale`` of every :class:`FourierFilter` in a model, in place; positive, 1 as they are made."""
    checks.networks(model=model)
    checks.finite(scale=scale)
    if scale <= 0:
        raise ValueError(f"scale must be positive, got {scale}")
    for module in model.modules():
        if isinstance(module, FourierFilter):
            module.scale = float(scale)


class AlternatingFilter(nn.Module):
    """AFIDAF: image filter and Fourier filter one after the other.

    Parameters
    ----------
    channels, groups
        As for the two filters.
    order : str, default "image_first"
        Or ``"fourier_first"``; ``"parallel"`` adds what the two change, ``y = AFF(x) + IDAF(x) - x``.
    window : mapping of str to int, optional
        ``near``, ``far`` and ``dilation`` of :class:`ImageFilter`.
    generator : torch.Generator, optional
        Source of the Fourier filter's initial weights; PyTorch's global one by default.

    Examples
    --------
    >>> AlternatingFilter(16)(torch.zeros(1, 16, 7, 9)).shape
    torch.Size([1, 16, 7, 9])
    """

    def __init__(
        self,
        channels: int,
        groups: int = 8,
        *,
        order: str = "image_first",
        window: Mapping[str, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.one_of(ORDERS, order=order)
        if window is not None:
            checks.mappings(window=window)
            for name in window:
                checks.one_of(("near", "far", "dilation"), **{"an entry of window": name})
        self.order = order
        sides = {"near": 5, "far": 7, "dilation": 3} | dict(window or {})
        self.image_filter = ImageFilter(
            channels, groups, near=sides["near"], far=sides["far"], dilation=sides["dilation"]
        )
        self.fourier_filter = FourierFilter(channels, groups, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if self.order == "image_first":
            return self.fourier_filter(self.image_filter(x))
        if self.order == "fourier_first":
            return self.image_filter(self.fourier_filter(x))
        return self.fourier_filter(x) + self.image_filter(x) - x
