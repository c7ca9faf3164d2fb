"""How much a layer suffers at each rate, and rates for all layers at which each suffers equally from a little more."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compactvision import _checks as checks

from .arguments import refuse_instances, refuse_numbers, refuse_rate
from .arithmetic import saved_by
from .units import BOTH, Working

LARGEST_RATE = 0.95
"""No layer loses a larger share of its MACs."""


@dataclass(frozen=True)
class Sensitivity:
    """Information loss of a layer over its rate, ``scale * exp(growth * rate)``, Eq. (5).

    Attributes
    ----------
    scale, growth : float
        Of the fitted curve; a layer without a rising curve has growth 0 and stays as it is.
    rates, losses : tuple of float
        What was fitted: rates above 0, ascending, and the losses, divided by their largest.

    Examples
    --------
    >>> import math
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> curve = cc.rates.Sensitivity(scale=0.01, growth=5)
    >>> round(curve.slope(0.5), 3), round(curve.rate(math.log(curve.slope(0.5))), 3)
    (0.609, 0.5)
    """

    scale: float
    growth: float
    rates: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()

    def slope(self, rate: float) -> float:
        """Return the derivative of the curve, the layer's compression sensitivity."""
        refuse_rate(rate=rate)
        return self.scale * self.growth * math.exp(self.growth * rate)

    def rate(self, log_slope: float) -> float:
        """Return the rate in [0, 0.95] at which the logarithm of the slope is this number."""
        checks.numbers(log_slope=log_slope)
        if self.growth <= 0:
            return 0.0
        rate = (log_slope - math.log(self.scale * self.growth)) / self.growth
        return min(max(rate, 0.0), LARGEST_RATE)


def sensitivity(kernel: Tensor, gradient: Tensor, *, kinds: tuple[str, ...] = BOTH) -> Sensitivity:
    """Measure and fit the information loss of one layer over its rate.

    Each unit is scored by what is lost without it alone. All are removed in ascending order, the scores not renewed,
    and after each removal rate and loss are noted. The line ``log(loss + 1e-10) = a + b rate`` is fitted with residuals
    weighted by the square root of the loss (as ``numpy.polyfit`` takes weights).

    Parameters
    ----------
    kernel, gradient : Tensor
        The kernel (N, C, kh, kw) as trained and the gradient of the loss for it.
    kinds : sequence of {"channels", "values"}, default both
        Units that are removed.

    Returns
    -------
    Sensitivity

    Raises
    ------
    ValueError
        If kernel or gradient is no finite (N, C, kh, kw), or a kind is unknown.

    Examples
    --------
    >>> import torch
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> kernel, gradient = torch.randn(2, 6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> curve = cc.sensitivity(kernel, gradient)
    >>> curve.growth > 0, max(curve.losses)
    (True, 1.0)
    """
    state = Working(kernel, gradient, kinds)
    channels, values = state.importances(gamma=0.0)
    order = [(float(score), "channels", index) for index, score in enumerate(channels.tolist())]
    order += [(float(score), "values", index) for index, score in enumerate(values.tolist())]
    removed: list[int] = []
    points = []
    for _, kind, index in sorted(entry for entry in order if entry[1] in kinds):
        if kind == "channels":
            state.remove_channel(index)
        else:
            state.remove_value(index - sum(earlier < index for earlier in removed))
            removed.append(index)
        rank = state.rank if removed else None
        points.append((saved_by(tuple(kernel.shape), state.channels, rank), state.loss))
    return fitted(points)


def fitted(points: list[tuple[float, float]]) -> Sensitivity:
    """Fit the curve through (rate, loss) pairs; those at rates up to 0 are left out."""
    if not isinstance(points, (list, tuple)):
        raise ValueError(f"points must be a list of pairs (rate, loss), got {checks.shown(points)}")
    for place, point in enumerate(points):
        if not isinstance(point, tuple) or len(point) != 2:
            raise ValueError(f"points[{place}] must be a pair (rate, loss), got {checks.shown(point)}")
        checks.finite(**{f"points[{place}]": number for number in point})
    points = sorted(point for point in points if point[0] > 0)
    largest = max((loss for _, loss in points), default=0.0)
    if len(points) < 2 or largest == 0:
        return Sensitivity(0.0, 0.0)
    rates, losses = (torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True))
    losses = losses / largest
    weight = losses.sqrt()
    rows = torch.stack([torch.ones_like(rates), rates], 1) * weight[:, None]  # (points, 2)
    scale, growth = torch.linalg.lstsq(rows, (losses + 1e-10).log() * weight).solution.tolist()
    if growth <= 0 or not math.isfinite(growth):
        scale, growth = 0.0, 0.0
    return Sensitivity(math.exp(scale) if growth else 0.0, growth, tuple(rates.tolist()), tuple(losses.tolist()))


def global_rates(
    curves: Mapping[str, Sensitivity],
    macs: Mapping[str, int | float],
    target: float,
    *,
    flops_weighted: bool = False,
) -> dict[str, float]:
    """Share a reduction among the layers so that all have the same sensitivity, Eq. (6).

    Where ``sum(macs * rate) = target`` holds, every layer whose rate is neither 0 nor 0.95 has the same slope
    ``scale * growth * exp(growth * rate)``. The sum rises with the slope, so that bracketing always finds it; the
    gradient descent of the published code ends away from the target where layers are few.

    Parameters
    ----------
    curves : mapping of str to Sensitivity
        Of each layer.
    macs : mapping of str to number
        MACs of each of these layers, positive.
    target : float
        MACs to be saved in all, not negative.
    flops_weighted : bool, default False
        Slopes in proportion to the layers' MACs instead of equal ones: the exact minimum of the summed curves.

    Returns
    -------
    dict of str to float
        Rate of each layer, in [0, 0.95].

    Raises
    ------
    ValueError
        If layers differ, a number is out of its range, or the target is out of reach at a rate of 0.95.

    Examples
    --------
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> curves = {"a": cc.rates.Sensitivity(0.01, 5), "b": cc.rates.Sensitivity(0.02, 3)}
    >>> rates = cc.global_rates(curves, {"a": 1, "b": 2}, 1.5)
    >>> {name: round(rate, 4) for name, rate in rates.items()}
    {'a': 0.3742, 'b': 0.5629}
    """
    refuse_instances(Sensitivity, curves=curves)
    refuse_numbers(macs=macs)
    checks.numbers(target=target)
    checks.flags(flops_weighted=flops_weighted)
    if curves.keys() != macs.keys():
        raise ValueError(f"macs must be given for the layers of curves, {sorted(curves)}, got {sorted(macs)}")
    if not all(0 < value < math.inf for value in macs.values()):
        raise ValueError(f"macs must be positive, got {dict(macs)}")
    rising = [name for name, curve in curves.items() if curve.growth > 0]
    reach = LARGEST_RATE * sum(macs[name] for name in rising)
    if not 0 <= target <= reach * (1 + 1e-12):
        raise ValueError(f"target must be from 0 to {reach:g}, the reach of rates up to {LARGEST_RATE}, got {target}")
    shift = {name: math.log(macs[name]) if flops_weighted else 0.0 for name in curves}

    def rates_at(level: float) -> dict[str, float]:
        return {name: curve.rate(level + shift[name]) for name, curve in curves.items()}

    if not rising:
        return dict.fromkeys(curves, 0.0)
    ends = [math.log(curves[name].slope(rate)) - shift[name] for name in rising for rate in (0.0, LARGEST_RATE)]
    level = bracketed(lambda level: sum(macs[name] * rate for name, rate in rates_at(level).items()) >= target, ends)
    return rates_at(level)


def two_rates(
    layers: Mapping[str, tuple[int, int]], early: Collection[str], *, parameters: float, macs: float
) -> tuple[float, float]:
    """Return the rates of early and of all other layers that save so many parameters and so many MACs.

    A layer's cut in parameters is its cut in MACs, so that one rate for all layers saves both in a fixed proportion. To
    save more MACs than that, layers on large maps have to give more.

    Parameters
    ----------
    layers : mapping of str to (int, int)
        Weights and MACs of each layer that is compressed.
    early : collection of str
        Layers of the first rate.
    parameters, macs : float
        To be saved in all.

    Raises
    ------
    ValueError
        If a name is unknown, all layers or none are early, both kinds have the same MACs for each weight, or a rate
        would lie outside [0, 1].

    Examples
    --------
    >>> from compactvision.factorization.collaborative_compression.rates import two_rates
    >>> two_rates({"a": (100, 6400), "b": (400, 6400)}, ["a"], parameters=260, macs=7040)
    (0.6, 0.5)
    """
    checks.mappings(layers=layers)
    for name, sizes in layers.items():
        if not isinstance(sizes, (tuple, list)) or len(sizes) != 2:
            raise ValueError(f"layers[{name!r}] must be weights and MACs, got {checks.shown(sizes)}")
        checks.counts(**{f"layers[{name!r}]": size for size in sizes})
    if isinstance(early, (str, Mapping)) or not isinstance(early, Collection):
        raise ValueError(f"early must be a collection of names, got {checks.shown(early)}")
    checks.texts(**{f"early[{place}]": name for place, name in enumerate(early)})
    checks.finite(parameters=parameters, macs=macs)
    unknown = set(early) - layers.keys()
    if unknown:
        raise ValueError(f"early must name layers, got {sorted(unknown)}")
    rows = torch.zeros(2, 2, dtype=torch.float64)  # parameters and MACs; early and others
    for name, sizes in layers.items():
        rows[:, 0 if name in early else 1] += torch.tensor(sizes, dtype=torch.float64)
    if abs(float(torch.linalg.det(rows / rows.sum(1, keepdim=True)))) < 1e-9:
        raise ValueError("early and other layers must differ in MACs for each weight, so that two rates can be found")
    wanted = torch.tensor([parameters, macs], dtype=torch.float64)
    found = [round(rate, 12) for rate in torch.linalg.solve(rows, wanted).tolist()]
    if not all(0 <= rate <= 1 for rate in found):
        raise ValueError(f"parameters, macs: rates would have to be {found[0]:.4g} and {found[1]:.4g}, outside [0, 1]")
    return found[0], found[1]


def bracketed(reached: Callable[[float], bool], ends: list[float]) -> float:
    """Return the least number at which a condition holds that stays true from there on, halving the bracket."""
    checks.functions(1, reached=reached)
    if not isinstance(ends, (list, tuple)) or not ends:
        raise ValueError(f"ends must be a list of numbers, got {checks.shown(ends)}")
    checks.finite(**{f"ends[{place}]": end for place, end in enumerate(ends)})
    low, high = min(ends), max(ends)
    found = reached(low)
    if not isinstance(found, bool):
        raise ValueError(f"reached must say True or False, got {checks.shown(found)}")
    if found:
        return low
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
