"""From the values of a record to the verdict on a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev

from compactvision import _checks as checks
from compactvision import records
from compactvision.claims.decision import (
    FULL,
    NO,
    NOT_RUN,
    PARTLY,
    UNTOLD,
    decide,
    quantity,
    smallest_detectable,
)
from compactvision.claims.schema import CERTAIN, TRAINED, Chapter, Claim, Rule, load
from compactvision.records import Record, dependencies

SYMBOLS = {FULL: "✓", PARTLY: "◐", NO: "✗", UNTOLD: "?", NOT_RUN: "–"}
_PAPER = {FULL: "reproduced", PARTLY: "partly", NO: "not reproduced", UNTOLD: "cannot be told", NOT_RUN: "not run"}
WORDS = {
    "exact": _PAPER,
    "trained": _PAPER,
    "scaled": _PAPER | {FULL: "seen", PARTLY: "partly seen", NO: "not seen at small scale"},
    "check": _PAPER | {FULL: "held", PARTLY: "held in part", NO: "did not hold"},
}
_SHARES = ("accuracy", "miou", "precision")  # quantities that lie in [0, 1] where a claim gives them in per cent
_NUMBER_WORDS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class Verdict:
    """What our record says to a claim.

    Attributes
    ----------
    slug : str
    claim : Claim
    level : str
        "full", "partly", "no", "untold" or "not run".
    reason : str
        Why, with the numbers.
    values : tuple of float
        The quantity that the rule looks at, one a seed; empty where it could not be formed.
    older : bool
        Whether the record was made by code that has changed since.
    """

    slug: str
    claim: Claim
    level: str
    reason: str
    values: tuple[float, ...] = ()
    older: bool = False

    @property
    def group(self) -> str:
        """The group of counts that the claim belongs to: its kind. Groups are never added up."""
        return self.claim.kind

    @property
    def word(self) -> str:
        """The verdict in words."""
        return WORDS[self.group][self.level]

    @property
    def symbol(self) -> str:
        """A sign that tells the verdict without its colour."""
        return SYMBOLS[self.level]

    @property
    def paper(self) -> str:
        """The paper's value as text, empty where none is confirmed."""
        value = self.claim.paper
        return value if isinstance(value, str) else "" if value is None else quantity(value, self.claim.unit)

    @property
    def ours(self) -> str:
        """Our value as text: mean ± standard deviation, the number of seeds, and what their spread lets us tell.

        What came out the same in every seed says so: it is one value, and not so many seeds.
        """
        if not self.values:
            return ""
        n, unit = len(self.values), self.claim.unit
        if n > 1 and min(self.values) == max(self.values):
            return f"{quantity(self.values[0], unit)} (the same in every seed)"
        spread = stdev(self.values) if n > 1 else 0.0
        least = self.detectable
        told = "" if least is None else f"; detectable: {quantity(float(f'{least:.2g}'), unit)}"
        return f"{quantity(fmean(self.values), unit, spread)} ({n} seed{'s' if n > 1 else ''}{told})"

    @property
    def detectable(self) -> float | None:
        """The smallest effect that the record can tell from none; None where chance is no part, or no spread known."""
        return None if self.claim.kind in CERTAIN else smallest_detectable(self.values)


def judge(claim: Claim, record: Record | None, *, slug: str = "", older: bool = False) -> Verdict:
    """Return the verdict of a record on a claim; what is missing is "not run" and never guessed.

    Raises
    ------
    ValueError
        If an argument is of another class.
    """
    checks.instances(Claim, claim=claim)
    checks.instances((Record, type(None)), record=record)
    checks.texts(slug=slug)
    checks.flags(older=older)

    def not_run(reason: str) -> Verdict:
        return Verdict(slug, claim, NOT_RUN, reason, older=older)

    if record is None:
        what = f"with {claim.rule.names[0]!r} " if claim.profile == TRAINED else ""
        return not_run(f"there is no {claim.profile} record {what}yet")
    missing = [name for name in claim.rule.names if name not in record.names]
    if missing:
        return not_run(f"the {claim.profile} record has no value {missing[0]!r}")
    lists = [name for name in claim.rule.names if isinstance(record.values(name)[0], list)]
    if lists:
        return not_run(f"{lists[0]!r} is a list in the record; a rule compares single numbers")
    if len(record.seeds) < claim.seeds_needed:
        needed = _NUMBER_WORDS.get(claim.seeds_needed, str(claim.seeds_needed))
        return not_run(f"a comparison needs {needed} seeds; the {claim.profile} record has {len(record.seeds)}")
    columns = [record.values(name) for name in claim.rule.names]
    if claim.rule.ratio and 0 in columns[1]:
        return not_run(f"{claim.rule.ratio[1]!r} is 0 in the record, so that the ratio has no value")
    values = tuple(_quantity(claim.rule, *numbers) for numbers in zip(*columns, strict=True))
    if not all(map(math.isfinite, values)):
        return not_run(f"{claim.rule.ratio[1]!r} is so near 0 in the record that the ratio has no value")
    level, reason = decide(claim.rule, values, claim.unit, kind=claim.kind)
    return Verdict(slug, claim, level, reason, values, older)


def _quantity(rule: Rule, first: float, second: float = 0.0) -> float:
    if rule.difference:
        return first - second
    return first / second if rule.ratio else first


def verdicts(slug: str, live: Record | None = None) -> list[Verdict]:
    """Return the verdict on each claim of a chapter, in the order of its claim file.

    Parameters
    ----------
    slug : str
    live : Record, optional
        Judges the claims of its profile in place of the shipped record.

    Raises
    ------
    ValueError
        If the slug is unknown, its claim file or a record is malformed, a claim's unit does not allow a value, or
        ``live`` is no record of this chapter.
    """
    chapter = load(slug)
    checks.instances((Record, type(None)), live=live)
    if live is not None and live.slug != slug:
        raise ValueError(f"live must be a record of {slug}, got one of {live.slug}")
    found: dict[str, list[Record]] = {}
    for profile in {claim.profile for claim in chapter.claims}:
        if live is not None and live.profile == profile:
            found[profile] = [live]
        else:
            own = records.load_arms(slug) if profile == TRAINED else [records.load(slug, profile)]
            found[profile] = [record for record in own if record is not None]
    for record in (record for every in found.values() for record in every):
        refuse_impossible(chapter, record)
    shipped = [record for every in found.values() for record in every if record is not live]
    older = {id(record) for record in shipped if is_older(record)}
    judged = []
    for claim in chapter.claims:
        record = _record_for(claim, found[claim.profile])
        judged.append(judge(claim, record, slug=slug, older=id(record) in older))
    return judged


def refuse_impossible(chapter: Chapter, record: Record) -> None:
    """Raise ``ValueError`` where a recorded value lies outside the range that the unit of a claim on it allows.

    In "%" and "points" fractions are recorded: an accuracy, mIoU or precision lies in [0, 1], a number of points
    otherwise in [-1, 1]; a share of something else, of a time for example, may be above 1.
    """
    for claim in chapter.claims:
        for name in claim.rule.names if claim.unit in ("%", "points") else ():
            share = any(word in name.lower() for word in _SHARES)
            if name not in record.names or (claim.unit == "%" and not share):
                continue
            least = 0 if share else -1
            for value in record.values(name):
                if any(not least <= number <= 1 for number in (value if isinstance(value, list) else [value])):
                    raise ValueError(
                        f"record {record.slug}/{record.profile}: value {name!r} is {value}; the unit {claim.unit!r} of "
                        f"claim {claim.id!r} allows {least} to 1"
                    )


def _record_for(claim: Claim, found: list[Record]) -> Record | None:
    """Return the record that decides: the profile's, or of several arms the one with all values that the rule needs."""
    if claim.profile == TRAINED:
        found = [record for record in found if set(claim.rule.names) <= set(record.names)]
    return next(iter(found), None)


def is_older(record: Record | None) -> bool:
    """Tell whether what a record stands on is another today than when it was made, and than when it was confirmed.

    A record from before that was noted is older until a run confirms it. An arm's record tells its files itself.
    """
    if record is None:
        return False
    if record.training is None:
        return not any(dependencies.changed(depends) == [] for depends in record.grounds)
    try:
        return record.method != records.method_digest(tuple(record.training.files))
    except ValueError:  # one of its files has gone
        return True
