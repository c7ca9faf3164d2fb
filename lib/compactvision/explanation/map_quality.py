"""What a map can be held to besides axioms: where its heat lies, and what the network says when pixels go.

Maps are (B, H, W) with values >= 0 at the size of the image, as :func:`~compactvision.explanation.evidence.picture`
makes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.explanation.arguments import axes, booleans, height_and_width
from compactvision.explanation.evidence import check_floating, check_inputs, chosen_targets
from compactvision.measure.state import evaluating

Probability = Callable[[Tensor], Tensor]
"""From logits (B, C) to probabilities (B, C): a softmax for one class an image, a sigmoid for several."""


def energy_share(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of a map's sum inside a mask: (B, H, W) and bool (B, H, W) give (B,); 0 for a zero map."""
    booleans(masks=masks)
    _check_maps(maps, masks.shape)
    total = maps.sum((1, 2))
    return (maps * masks).sum((1, 2)) / torch.where(total > 0, total, 1)


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Tell whether a map's largest value lies inside the mask: (B,) bool; False for a constant map."""
    booleans(masks=masks)
    _check_maps(maps, masks.shape)
    flat = maps.flatten(1)
    hit = masks.flatten(1).gather(1, flat.argmax(1, keepdim=True))[:, 0]
    return hit & (flat.amax(1) > flat.amin(1))


def perturbation_curves(
    model: nn.Module,
    inputs: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    insertion: bool = False,
    steps: int = 16,
    blurred: Tensor | None = None,
    probability: Probability = lambda logits: logits.softmax(1),
) -> Tensor:
    """Follow the class's probability while pixels are blurred, hottest first (deletion), or come back (insertion).

    Parameters
    ----------
    model : nn.Module
        Maps (B, C, H, W) to logits; runs in evaluation mode, ``steps + 1`` times.
    inputs : (B, C, H, W).
    maps : (B, H, W). Equal values go in the order of the pixels.
    targets : (B,) int64.
    insertion : bool, default False
        Start from the blurred image and insert pixels, hottest first.
    steps : int
        Equal parts in which the pixels go.
    blurred : (B, C, H, W), optional
        What takes a pixel's place; :func:`blur` of the inputs by default.
    probability : from logits to probabilities.

    Returns
    -------
    (B, steps + 1), from nothing changed to everything.
    """
    check_inputs(inputs)
    check_floating(inputs)
    axes(inputs=(inputs, "B C H W"), targets=(targets, "B"))
    _check_maps(maps, (len(inputs), *inputs.shape[-2:]))
    checks.counts(steps=steps)
    checks.flags(insertion=insertion)
    checks.functions(1, networks=True, probability=probability)
    start, end = inputs, blur(inputs) if blurred is None else blurred
    axes(inputs=(inputs, "B C H W"), blurred=(end, "B C H W"))
    if insertion:
        start, end = end, start
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    rank = rank.view(maps.shape)[:, None]  # (B, 1, H, W), 0 for the hottest pixel
    curve = []
    with evaluating(model):
        for step in range(steps + 1):
            logits = run(model, torch.where(rank * steps < step * order.shape[1], end, start))
            chosen = chosen_targets(logits, targets)
            curve.append(_probabilities(probability, logits).gather(1, chosen[:, None])[:, 0])
    return torch.stack(curve, 1)


def area_under(curves: Tensor) -> Tensor:
    """Return the area under curves (B, steps + 1) over an axis of length 1, by trapezoids: (B,)."""
    axes(curves=(curves, "B S"))
    checks.floating(curves=curves)
    if curves.shape[1] < 2:
        raise ValueError(f"curves must be of at least two values each, got the shape {tuple(curves.shape)}")
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


def blur(inputs: Tensor, sigma: float | None = None) -> Tensor:
    """Blur images (B, C, H, W) by a Gaussian; ``sigma`` in pixels is an eighth of the width by default."""
    axes(inputs=(inputs, "B C H W"))
    checks.floating(inputs=inputs)
    sigma = inputs.shape[-1] / 8 if sigma is None else sigma
    checks.numbers(sigma=sigma)
    if not 1e-3 <= sigma <= 1e6:  # what is outside is no number any more in half precision, squared
        raise ValueError(f"sigma must lie between 0.001 and 1000000 pixels, got {sigma}")
    reach = min(int(3 * sigma + 0.5), min(inputs.shape[-2:]) - 1)
    line = torch.arange(-reach, reach + 1, device=inputs.device, dtype=inputs.dtype)
    kernel = torch.exp(-(line**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    flat = F.pad(inputs.flatten(0, 1)[:, None], (reach,) * 4, mode="reflect")  # (B C, 1, H + 2 r, W + 2 r)
    return F.conv2d(F.conv2d(flat, kernel), kernel.transpose(2, 3)).view_as(inputs)


def average_drop(full: Tensor, masked: Tensor) -> tuple[float, float]:
    """Compare probabilities (B,) of whole images with those of images times their map.

    Returns
    -------
    Mean of ``max(0, full - masked) / full`` (average drop) and the share of images with ``masked > full`` (increase in
    confidence), both in [0, 1].
    """
    axes(full=(full, "B"), masked=(masked, "B"))
    checks.floating(full=full, masked=masked)
    if not (full > 0).all() or not (masked >= 0).all():
        raise ValueError("full and masked must be probabilities, those of whole images above 0")
    return float(((full - masked).clamp(min=0) / full).mean()), float((masked > full).double().mean())


def centre_gaussian(size: tuple[int, int], count: int = 1) -> Tensor:
    """Return a Gaussian in the middle, standard deviation a quarter of the side, whatever the image: (count, H, W)."""
    height_and_width(size)
    checks.counts(count=count)
    bumps = [torch.exp(-(((torch.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * 0.25**2)) for n in size]
    return (bumps[0][:, None] * bumps[1][None, :]).expand(count, *size)


def bootstrap_interval(
    values: Tensor, *, level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return an interval of the mean of ``values`` (N,) by resampling them: SciPy's percentile bootstrap.

    Raises
    ------
    ValueError
        Where there are fewer than two values, one is not finite, or ``level`` is not in (0, 1).
    """
    checks.tensors(values=values)
    checks.numbers(level=level)
    checks.counts(repeats=repeats)
    checks.whole(seed=seed)
    numbers = values.detach().cpu().double().numpy()
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise ValueError(f"values must be finite numbers (N,), N at least 2, got shape {numbers.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    found = stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=repeats,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _probabilities(probability: Probability, logits: Tensor) -> Tensor:
    found = probability(logits)
    if not isinstance(found, Tensor) or found.shape != logits.shape:
        wanted = f"a tensor {tuple(logits.shape)}"
        raise ValueError(f"probability must turn logits into {wanted}, got {checks.shown(found)}")
    return found


def _check_maps(maps: Tensor, shape: tuple[int, ...]) -> None:
    checks.floating(maps=maps)
    if maps.ndim != 3 or 0 in maps.shape or maps.shape != torch.Size(shape):
        raise ValueError(f"maps must have the shape {tuple(shape)}, got {tuple(maps.shape)}")
    if not torch.isfinite(maps).all() or maps.min() < 0:
        raise ValueError("maps must be finite and not negative: turn raw maps into pictures first")
