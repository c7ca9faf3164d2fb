"""A claim, its rule, and the chapter that it belongs to; :mod:`compactvision.claims.schema` reads them from files."""

from __future__ import annotations

from dataclasses import dataclass, field

TRAINED = "trained"
KINDS = ("exact", TRAINED, "scaled", "check")
CERTAIN = ("exact", "check")  # kinds in which chance is no part
PARTS = ("start", "look", "cut", "factorise", "redesign", "search", "use")
SEEDS_FOR_COMPARISON = 3


@dataclass(frozen=True)
class Rule:
    """How the values of a record decide a claim; see the module's text for the fields."""

    value: str | None = None
    difference: tuple[str, str] | None = None
    ratio: tuple[str, str] | None = None
    target: float | None = None
    abs: float = 0.0
    rel: float = 0.0
    above: float | None = None
    below: float | None = None
    partly: float | None = None
    seeds: str = "mean"
    deterministic: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the recorded values that the rule needs."""
        return self.difference or self.ratio or (str(self.value),)

    @property
    def test(self) -> str:
        """Which test it is: "target", "above" or "below"."""
        return next(name for name in ("target", "above", "below") if getattr(self, name) is not None)

    @property
    def limit(self) -> float:
        """The number that the test compares with."""
        return float(getattr(self, self.test))

    @property
    def tolerance(self) -> float:
        """How far from the target still is it."""
        return max(self.abs, self.rel * abs(self.target or 0.0))

    @property
    def size(self) -> float:
        """Size of the effect in question: the tolerance, or the limit's distance from none (0; 1 for a ratio)."""
        return self.tolerance if self.test == "target" else abs(self.limit - (1.0 if self.ratio else 0.0))

    @property
    def direction(self) -> tuple[str, float] | None:
        """Where "partly" begins: ("above" or "below", limit), or None where only the full claim counts."""
        limit = self.partly
        if limit is None:
            limit = 0.0 if self.difference else 1.0 if self.ratio else None
        aim = getattr(self, self.test)
        if limit is None or limit == aim:
            return None
        side = "above" if aim > limit else "below"
        return None if self.test != "target" and side != self.test else (side, limit)


@dataclass(frozen=True)
class Claim:
    """One claim of a chapter's paper, written down before the run.

    Attributes
    ----------
    id, text, source : str
        Short name; the claim in our words; where in the paper it stands.
    kind : str
        "exact" (the paper's counts, axioms, closed forms), "trained" (its network, data and schedule), "scaled" (the
        effect at a smaller size) or "check" (an identity of this book, outside the papers' claims).
    profile : str
        The profile whose record decides: "quick" or "full"; "trained" for the records of the chapter's arms. A scaled
        claim that arms decide is about a shorter recipe than the paper's.
    refuted_by : str
        What would refute it.
    rule : Rule
    paper : float or str, optional
        The paper's value, only where it is confirmed.
    convention : str, optional
        How things are counted, "macs" or "thop" for example.
    unit : str
        Unit of the value; "%" shows recorded fractions as per cent.
    """

    id: str
    text: str
    source: str
    kind: str
    profile: str
    refuted_by: str
    rule: Rule
    paper: float | str | None = None
    convention: str | None = None
    unit: str = ""

    @property
    def seeds_needed(self) -> int:
        """Seeds below which the claim counts as not run."""
        compares = self.rule.value is None
        return SEEDS_FOR_COMPARISON if compares and self.kind not in CERTAIN and not self.rule.deterministic else 1


@dataclass(frozen=True)
class Statement:
    """What a paper's abstract says, in our words: the ids of the claims that measure it, or why nothing does."""

    says: str
    claims: tuple[str, ...] = ()
    not_measured: str | None = None


@dataclass(frozen=True)
class Chapter:
    """A chapter: its title, part and claims, and what its paper's abstract says."""

    slug: str
    title: str
    part: str
    claims: tuple[Claim, ...] = field(default=())
    paper: str | None = None
    abstract: tuple[Statement, ...] = field(default=())
