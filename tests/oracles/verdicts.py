"""The decision rule a second time, from the numbers of a record and the table of a rule alone.

Nothing of the package is read: a rule is the dict that stands in the claim file, means are exact fractions, and the
quantile of Student's distribution is found by integrating its density.
"""

from __future__ import annotations

import math
from fractions import Fraction

ONE_SIDED = 0.95


def student_quantile(freedom: int) -> float:
    """Return t with ``ONE_SIDED`` of Student's distribution below it, by Simpson's rule and halving."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def below(t: float) -> float:
        pieces = 4000
        step = t / pieces
        total = 0.0
        for place in range(pieces + 1):
            weight = 1 if place in (0, pieces) else 4 if place % 2 else 2
            total += weight * (1 + (place * step) ** 2 / freedom) ** (-(freedom + 1) / 2)
        return 0.5 + scale * total * step / 3

    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < ONE_SIDED else (low, middle)
    return (low + high) / 2


_QUANTILES: dict[int, float] = {}


def detectable(values: list[float]) -> float:
    """Return the smallest effect that these seeds tell from none; 0 where there is no spread to tell it by."""
    n = len(values)
    if n == 1 or len(set(values)) == 1:
        return 0.0
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / n
    variance = sum((value - mean) ** 2 for value in exact) / (n - 1)
    if n - 1 not in _QUANTILES:
        _QUANTILES[n - 1] = student_quantile(n - 1)
    return _QUANTILES[n - 1] * math.sqrt(variance / n)


def quantities(rule: dict, seeds: list[dict]) -> list[float] | None:
    """Return the number that a rule looks at for each seed's values, None where one is missing."""
    names = rule.get("difference") or rule.get("ratio") or [rule["value"]]
    if any(name not in values or isinstance(values[name], list) for name in names for values in seeds):
        return None
    if "difference" in rule:
        return [values[names[0]] - values[names[1]] for values in seeds]
    if "ratio" in rule:
        return None if any(values[names[1]] == 0 for values in seeds) else [v[names[0]] / v[names[1]] for v in seeds]
    return [values[names[0]] for values in seeds]


def level(rule: dict, values: list[float], kind: str) -> str:
    """Return "full", "partly", "no" or "untold" for the values of all seeds."""
    mean = sum(Fraction(value) for value in values) / len(values)
    none = 1 if "ratio" in rule else 0
    if "target" in rule:
        target = rule["target"]
        allowed = max(rule.get("abs", 0), rule.get("rel", 0) * abs(target))
        size, gap = allowed, abs(abs(float(mean) - target) - allowed)

        def right(value):
            return abs(float(value) - target) <= allowed
    else:
        target = rule["above"] if "above" in rule else rule["below"]
        sign = 1 if "above" in rule else -1
        size, gap = abs(target - none), abs(float(mean) - target)

        def right(value):
            return sign * value > sign * Fraction(target)

    every = all(map(right, values))
    some = any(map(right, values))
    chance = kind in ("scaled", "trained")
    strict = rule.get("seeds") == "all" or not chance

    def on_weaker_side(value):
        start = rule.get("partly", None if "value" in rule else none)
        if start is None or start == target:
            return False
        up = target > start
        if ("above" in rule and not up) or ("below" in rule and up):
            return False
        return value > start if up else value < start

    if every:
        found = "full"
    elif (not strict and right(mean)) or (all(map(on_weaker_side, values)) if strict else on_weaker_side(mean)):
        found = "partly"
    else:
        found = "no"
    least = detectable(values)
    if chance and 0 < size < least and gap < least and (found != "no" or some):
        return "untold"
    return found
