"""The model of DARTS that can be solved on paper: losses, iterates, limits, and where RARTS is stable.

Two numbers stand for everything: ``alpha`` for the architecture and ``w`` for the weights. The bilevel solution is
``alpha = w = 1``. Every method starts at (2, -2) and walks somewhere else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from compactvision import _checks as checks

from .arguments import refuse_negative, refuse_no_quantity, refuse_order, refuse_unstable


class Point(NamedTuple):
    """Architecture and weights; ``y`` is the second set of weights, the same as ``w`` where a method has one set."""

    alpha: float
    w: float
    y: float


START = Point(2.0, -2.0, -2.0)


def training_loss(w: Any, alpha: Any) -> Any:
    """Return ``w^2 - 2 alpha w + alpha^2``; numbers, arrays or tensors."""
    refuse_no_quantity(w=w, alpha=alpha)
    return (w - alpha) * (w - alpha)


def validation_loss(w: Any, alpha: Any) -> Any:
    """Return ``alpha w - 2 alpha + 1``; numbers, arrays or tensors."""
    refuse_no_quantity(w=w, alpha=alpha)
    return alpha * w - 2 * alpha + 1


def relaxed_loss(point: Point, training_weight: float, coupling: float) -> float:
    """Return ``L_va(y, alpha) + lambda L_tr(w, alpha) + beta / 2 (y - w)^2`` at a point.

    Parameters
    ----------
    point : (alpha, w, y)
    training_weight, coupling : float
        ``lambda`` and ``beta``, not negative.
    """
    refuse_negative(training_weight=training_weight, coupling=coupling)
    alpha, w, y = _point(point, "point")
    gap = y - w
    return validation_loss(y, alpha) + training_weight * training_loss(w, alpha) + coupling / 2 * gap * gap


def determinant(training_weight: float, coupling: float) -> float:
    """Return ``D = 4 lambda beta - 2 lambda - beta``, the determinant of the relaxed loss's Hessian.

    The loss has a minimum where D is positive; elsewhere it has no lower bound, and RARTS runs away.
    """
    refuse_negative(training_weight=training_weight, coupling=coupling)
    return 4 * training_weight * coupling - 2 * training_weight - coupling


def rarts_limit(training_weight: float, coupling: float) -> Point:
    """Return where RARTS ends: ``alpha = 4 lambda beta / D``.

    The weights end at ``w = alpha - alpha / (2 lambda)`` and ``y = w - alpha / beta``.

    Raises
    ------
    ValueError
        If D is not positive.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> [round(x, 6) for x in rarts.solvable.rarts_limit(10, 10)]
    [1.081081, 1.027027, 0.918919]
    """
    value = determinant(training_weight, coupling)
    refuse_unstable(value > 0, f"training_weight {training_weight} and coupling {coupling} have D = {value:g}")
    alpha = 4 * training_weight * coupling / value
    w = alpha - alpha / (2 * training_weight)
    return Point(alpha, w, w - alpha / coupling)


def darts_limit(unroll: float = 0.0) -> Point:
    """Return where DARTS ends: ``alpha = w = 2 / (1 + 2 xi)``.

    Parameters
    ----------
    unroll : float, default 0
        The virtual step ``xi`` of the second order; 0 is the first order.
    """
    refuse_negative(unroll=unroll)
    end = 2 / (1 + 2 * unroll)
    return Point(end, end, end)


def single_level_limit(training_weight: float) -> Point:
    """Return the minimum of ``L_va + lambda L_tr`` with one set of weights: ``alpha = 4 lambda / (4 lambda - 1)``.

    Raises
    ------
    ValueError
        If ``training_weight`` is not above 1/4: there is no minimum.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> round(rarts.solvable.single_level_limit(10).alpha, 6)
    1.025641
    """
    refuse_negative(training_weight=training_weight)
    refuse_unstable(training_weight > 0.25, f"training_weight must be above 1/4, got {training_weight}")
    alpha = 4 * training_weight / (4 * training_weight - 1)
    w = alpha - alpha / (2 * training_weight)
    return Point(alpha, w, w)


def mixed_level_limit() -> Point:
    """Return where MiLeNAS ends, weights on ``L_tr`` and the architecture on ``L_va + lambda L_tr``: (2, 2)."""
    return Point(2.0, 2.0, 2.0)


def rarts_iterates(
    steps: int,
    training_weight: float = 10.0,
    coupling: float = 10.0,
    *,
    rate: float = 0.01,
    order: str = "gauss-seidel",
    start: Point = START,
) -> list[Point]:
    """Return the points of RARTS, Eq. (4)-(6), before the first step and after each.

    Parameters
    ----------
    steps : int
    training_weight, coupling : float
        ``lambda`` and ``beta``.
    rate : float, default 0.01
        Step size of all three.
    order : {"gauss-seidel", "jacobi"}
        Whether each update sees those before it, or all see the point before.
    start : (alpha, w, y)

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> [round(x, 4) for x in rarts.solvable.rarts_iterates(1)[-1]]
    [1.3994, -1.2, -1.94]
    """
    checks.counts(steps=steps)
    refuse_negative(training_weight=training_weight, coupling=coupling, rate=rate)
    refuse_order(order)
    points = [_point(start, "start")]
    for _ in range(steps):
        alpha, w, y = points[-1]
        new_w = w - rate * (2 * training_weight * (w - alpha) + coupling * (w - y))
        seen_w = new_w if order == "gauss-seidel" else w
        new_y = y - rate * (alpha + coupling * (y - seen_w))
        seen_y = new_y if order == "gauss-seidel" else y
        new_alpha = alpha - rate * (seen_y - 2 - 2 * training_weight * (seen_w - alpha))
        points.append(Point(new_alpha, new_w, new_y))
    return points


def darts_iterates(steps: int, unroll: float = 0.0, *, rate: float = 0.01, start: Point = START) -> list[Point]:
    """Return the points of DARTS: alpha first, through the virtual step ``w - 2 xi (w - alpha)``, then w."""
    checks.counts(steps=steps)
    refuse_negative(unroll=unroll, rate=rate)
    points = [_point(start, "start")]
    for _ in range(steps):
        alpha, w, _ = points[-1]
        virtual = w - 2 * unroll * (w - alpha)
        alpha -= rate * (virtual - 2 + 2 * unroll * alpha)
        w -= rate * 2 * (w - alpha)
        points.append(Point(alpha, w, w))
    return points


def single_level_iterates(
    steps: int, training_weight: float = 10.0, *, rate: float = 0.01, order: str = "gauss-seidel", start: Point = START
) -> list[Point]:
    """Return the points of descent on ``L_va + lambda L_tr`` with one set of weights: w, then alpha."""
    checks.counts(steps=steps)
    refuse_negative(training_weight=training_weight, rate=rate)
    refuse_order(order)
    points = [_point(start, "start")]
    for _ in range(steps):
        alpha, w, _ = points[-1]
        new = w - rate * (alpha + 2 * training_weight * (w - alpha))
        seen = new if order == "gauss-seidel" else w
        points.append(Point(alpha - rate * (seen - 2 - 2 * training_weight * (seen - alpha)), new, new))
    return points


def mixed_level_iterates(
    steps: int, training_weight: float = 1.0, *, rate: float = 0.01, start: Point = START
) -> list[Point]:
    """Return the points of MiLeNAS: w on ``L_tr``, then alpha on ``L_va + lambda L_tr``."""
    checks.counts(steps=steps)
    refuse_negative(training_weight=training_weight, rate=rate)
    points = [_point(start, "start")]
    for _ in range(steps):
        alpha, w, _ = points[-1]
        w -= rate * 2 * (w - alpha)
        points.append(Point(alpha - rate * (w - 2 - 2 * training_weight * (w - alpha)), w, w))
    return points


def _point(value: Any, name: str) -> Point:
    try:
        point = Point(*value)
    except TypeError:
        raise ValueError(f"{name} must be three numbers (alpha, w, y), got {checks.shown(value)}") from None
    checks.finite(**{f"{part} of {name}": number for part, number in point._asdict().items()})
    return Point(*map(float, point))
