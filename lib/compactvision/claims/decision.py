"""From a rule and the values of all seeds to a verdict: what is seen, in part, not seen, or cannot be told."""

from __future__ import annotations

import math
from functools import cache
from statistics import fmean, stdev

from compactvision import _checks as checks
from compactvision.claims.schema import CERTAIN, KINDS, Rule

FULL, PARTLY, NO, UNTOLD, NOT_RUN = "full", "partly", "no", "untold", "not run"
LEVELS = (FULL, PARTLY, NO, UNTOLD, NOT_RUN)
CONFIDENCE = 0.95  # one-sided


def smallest_detectable(values: tuple[float, ...]) -> float | None:
    r"""Return the smallest effect that so many seeds with such a spread can tell from none.

    .. math:: d = t_{0.95,\,n-1} \, s / \sqrt{n}

    with n values, their standard deviation s (n - 1 in its denominator) and the quantile t of Student's distribution
    with n - 1 degrees of freedom: half the width of a one-sided test at 95 %. A mean that lies d or more from a limit
    is on its side beyond what chance over seeds explains.

    Parameters
    ----------
    values : tuple of float
        One a seed.

    Returns
    -------
    float or None
        In the unit of the values. None for a single value, and where all are the same, so that there is no spread to
        go by.

    Examples
    --------
    >>> from compactvision.claims.decision import smallest_detectable
    >>> round(smallest_detectable((0.1, 0.2, 0.3)), 4)  # 2.92 times 0.1 / sqrt(3)
    0.1686
    """
    n = len(values)
    if n < 2 or max(values) == min(values):
        return None
    return _quantile(n - 1) * stdev(values) / math.sqrt(n)


@cache
def _quantile(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, CONFIDENCE))


def decide(rule: Rule, values: tuple[float, ...], unit: str = "", *, kind: str = "scaled") -> tuple[str, str]:
    """Return the level that a rule gives to the values of all seeds, and the reason in words.

    "full" needs every seed on the right side of the limit, and then the mean is there as well; "partly" is a mean
    there without all of the seeds, or a mean that is only on the right side of ``partly``. Where the rule says
    ``seeds = "all"``, and for exact claims and checks, nothing less than every seed counts, for "partly" neither.

    A limit of a size below :func:`smallest_detectable` cannot be told ("untold"). Two things need no such test: a mean
    that lies farther from the limit than that, and a "no" in which not one seed is on the right side. A limit of no
    size, 0 for a difference and 1 for a ratio, asks for a direction only.

    Parameters
    ----------
    rule : Rule
    values : tuple of float
        One a seed.
    unit : str
        For the reason.
    kind : str
        The claim's: of "exact" ones and of a "check" chance is no part.

    Raises
    ------
    ValueError
        If ``rule`` is no rule, ``values`` are no finite numbers or none at all, ``unit`` is no text, or ``kind`` is
        unknown.
    """
    checks.instances(Rule, rule=rule)
    checks.texts(unit=unit)
    checks.one_of(KINDS, kind=kind)
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"values must be a number for each seed, got {checks.shown(values)}")
    for seed, value in enumerate(values):
        checks.finite(**{f"values[{seed}]": value})
    values = tuple(values)
    if min(values) == max(values):  # one value, however many seeds gave it
        return _of_the_mean(rule, values[:1], unit)
    every = kind in CERTAIN or rule.seeds == "all"
    level, reason = (_of_every_seed if every else _of_the_mean)(rule, values, unit)
    if kind in CERTAIN or (level == NO and not any(holds(rule, value) for value in values)):
        return level, reason
    untold = _untold(rule, values, unit)
    return (UNTOLD, untold) if untold else (level, reason)


def _untold(rule: Rule, values: tuple[float, ...], unit: str) -> str | None:
    """Return why these values cannot tell what the rule asks, None where they can."""
    least, size = smallest_detectable(values), rule.size
    if least is None or not 0 < size < least or _distance(rule, fmean(values)) >= least:
        return None
    shown = quantity(float(f"{least:.2g}"), unit)
    what = "tolerance" if rule.test == "target" else "limit"
    where = quantity(fmean(values), unit)
    return f"{where}: the {what} of {quantity(size, unit)} is below the smallest detectable effect, {shown}"


def _distance(rule: Rule, mean: float) -> float:
    """Return how far a mean lies from the nearest limit of a rule."""
    if rule.target is None:
        return abs(mean - rule.limit)
    return abs(abs(mean - rule.target) - rule.tolerance)


def _of_every_seed(rule: Rule, values: tuple[float, ...], unit: str) -> tuple[str, str]:
    aim, passed = _aim(rule, unit), sum(holds(rule, value) for value in values)
    if passed == len(values):
        return FULL, _count(values, passed, aim)
    if rule.direction is None:
        return NO, _count(values, passed, aim)
    held, weaker = _weaker(rule, values, unit)
    if held == len(values):
        return PARTLY, f"{_count(values, held, weaker)}, but {_count(values, passed, aim)}"
    return NO, _count(values, held, weaker)


def _of_the_mean(rule: Rule, values: tuple[float, ...], unit: str) -> tuple[str, str]:
    aim, mean = _aim(rule, unit), fmean(values)
    shown = quantity(mean, unit)
    passed = sum(holds(rule, value) for value in values)
    if passed == len(values):
        return FULL, f"{shown} is {aim}"
    if holds(rule, mean):
        return PARTLY, f"{shown} is {aim}, but {_count(values, passed, 'so', only=True)}"
    if rule.direction is None:
        return NO, f"{shown} is not {aim}"
    held, weaker = _weaker(rule, (mean,), unit)
    return (PARTLY, f"{shown} is {weaker}, but not {aim}") if held else (NO, f"{shown} is not {weaker}")


def _weaker(rule: Rule, values: tuple[float, ...], unit: str) -> tuple[int, str]:
    """Return how many values are on the side where the claimed direction begins, and that side in words."""
    assert rule.direction is not None
    side, limit = rule.direction
    return sum(_beyond(side, limit, value) for value in values), f"{side} {quantity(limit, unit)}"


def _aim(rule: Rule, unit: str) -> str:
    if rule.target is None:
        return f"{rule.test} {quantity(rule.limit, unit)}"
    if rule.tolerance == 0:
        return f"equal to {quantity(rule.target, unit)}"
    return f"within {quantity(rule.tolerance, unit)} of {quantity(rule.target, unit)}"


def _beyond(side: str, limit: float, value: float) -> bool:
    return value > limit if side == "above" else value < limit


def holds(rule: Rule, value: float) -> bool:
    """Tell whether one number passes a rule's full test."""
    if rule.target is None:
        return _beyond(rule.test, rule.limit, value)
    return abs(value - rule.target) <= rule.tolerance


def _count(values: tuple[float, ...], held: int, what: str, *, only: bool = False) -> str:
    if held == 0:
        return f"no seed is {what}"
    return f"{'only ' if only else ''}{held} of {len(values)} seeds {'is' if held == 1 else 'are'} {what}"


def quantity(value: float, unit: str = "", spread: float = 0.0) -> str:
    """Return a number with its unit, rounded as its standard deviation allows.

    Whole numbers are printed in full; fractions are shown times 100 for the units "%" and "points". Minus is the sign
    "−" and no hyphen.
    """
    scale = 100 if unit in ("%", "points") else 1
    value, spread = value * scale, spread * scale
    sign = "−" if value < 0 else ""
    size, suffix = abs(float(value)), f" {unit}" if unit else ""
    if 0 < spread < 1e-6:
        return f"{sign}{size:.1e} ± {spread:.1e}{suffix}"
    if spread > 0:
        digits = max(0, 1 - math.floor(math.log10(spread)))
        return f"{sign}{size:,.{digits}f} ± {spread:,.{digits}f}{suffix}"
    if size.is_integer() and size < 1e15:
        return f"{sign}{int(size):,}{suffix}"
    return f"{sign}{size:.4g}{suffix}"
