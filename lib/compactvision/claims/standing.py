"""Where the book stands: how many claims of each kind hold, in sentences; the kinds are never added up."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from statistics import fmean

from compactvision.claims.decision import FULL, LEVELS, NO, NOT_RUN, PARTLY, UNTOLD
from compactvision.claims.rules import SYMBOLS, WORDS, Verdict
from compactvision.claims.schema import KINDS

_PRINTED = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*(k|M|G)?")
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def printed(verdict: Verdict) -> tuple[float, float] | None:
    """Return the number that the paper prints and how far ours may lie from it, None where it prints none.

    A number that stands as text, "1.06M" for example, is met by what rounds to it; any other within the tolerance of
    the claim.
    """
    paper, rule = verdict.claim.paper, verdict.claim.rule
    if isinstance(paper, str):
        found = _PRINTED.fullmatch(paper.strip())
        if not found:
            return None
        scale = _SCALES[found[2] or ""]
        digits = len(found[1].partition(".")[2])
        return float(found[1].replace(",", "")) * scale, 0.5000001 * 10.0**-digits * scale
    if paper is None:
        return None
    tolerance = max(rule.abs, rule.rel * abs(rule.target or 0.0))
    return float(paper), max(tolerance, 1e-9 * max(1.0, abs(paper)))


def disagrees(verdict: Verdict) -> bool:
    """Tell whether a claim's verdict, or our mean, contradicts the number that the paper prints."""
    number = printed(verdict)
    if number is None or verdict.level == NOT_RUN:
        return False
    if verdict.level in (PARTLY, NO):
        return True
    bound = verdict.claim.rule.target is None  # "at most 25.6 %": what holds agrees
    return not bound and not math.isclose(fmean(verdict.values), number[0], rel_tol=0, abs_tol=number[1])


def by_kind(found: Iterable[Verdict]) -> dict[str, Counter[str]]:
    """Return how many claims have each level, for each kind."""
    counted: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for verdict in found:
        counted[verdict.claim.kind][verdict.level] += 1
    return counted


def words(counted: Counter[str], kind: str) -> str:
    """Return the counts of one kind in words, those that are not zero: "9 seen, 1 not seen at small scale"."""
    parts = [f"{counted[level]} {WORDS[kind][level]}" for level in LEVELS if counted[level]]
    return ", ".join(parts) or "none"


def signs(counted: Counter[str]) -> str:
    """Return the counts of one kind in signs: "9 ✓ 1 ✗"."""
    return " ".join(f"{counted[level]} {SYMBOLS[level]}" for level in LEVELS if counted[level])


def standing(found: Iterable[Verdict]) -> str:
    """Return in plain sentences how many claims of each kind there are, and what became of them."""
    found = list(found)
    counted = by_kind(found)
    exact = [verdict for verdict in found if verdict.claim.kind == "exact"]
    numbers = [verdict for verdict in exact if printed(verdict) is not None]
    against = sum(map(disagrees, numbers))
    trained, scaled = counted["trained"], counted["scaled"]
    run = trained.total() - trained[NOT_RUN]
    agree = "none disagrees" if not against else f"{against} disagree{'s' if against == 1 else ''}"
    own = counted["check"]
    hold = "all of which hold" if own[FULL] == own.total() else f"of which {own[FULL]} hold"
    return (
        f"Of {len(exact)} exact claims {len(numbers)} carry a number that a paper prints, and {agree} with what we "
        f"count; of {trained.total()} trained claims, which need the paper's own network, data and schedule, "
        f"{run or 'none'} {'was' if run == 1 else 'were'} run. {scaled.total()} scaled claims look for an effect at a "
        f"smaller size: {scaled[FULL]} were seen, {scaled[PARTLY]} in part, {scaled[NO]} not, {scaled[UNTOLD]} cannot "
        f"be told from so few seeds, and {scaled[NOT_RUN]} were not run. Outside of these are {own.total()} checks of "
        f"the book's own, {hold}."
    )
