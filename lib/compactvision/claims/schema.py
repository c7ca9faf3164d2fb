"""The form of a chapter's claims: ``claims/<slug>.toml`` read into dataclasses, strictly.

.. code-block:: toml

    [chapter]
    title = "Energy-aware pruning"
    part = "cut"
    paper = "Yeom, Shim and Hwang 2021"         # left out in the book's own chapters

    [[claim]]
    id = "cheaper-at-the-same-accuracy"
    text = "At the same budget it loses less accuracy than random choice."
    source = "abstract"
    kind = "scaled"                             # exact, scaled or trained
    profile = "quick"                           # the record that decides; "trained" for arms, never for exact claims
    refuted_by = "Random choice keeps as much accuracy, averaged over the seeds."
    paper = 0.9413                              # optional: a number, or words
    convention = "macs"                         # optional: how things are counted
    unit = "%"                                  # optional: "%" shows fractions as per cent
    rule = { difference = ["energy.accuracy", "random.accuracy"], above = 0.02 }

A rule looks at one number a seed: ``value = "name"``, ``difference = ["a", "b"]`` (a - b) or
``ratio = ["a", "b"]`` (a / b), and tests it with ``target`` (within ``abs`` or ``rel``), ``above`` or
``below`` (both strict). ``partly`` is where the claimed direction begins; it is 0 for a difference and 1
for a ratio unless given. ``seeds = "all"`` asks it of every seed and not of the mean. ``deterministic``
declares that a comparison has no randomness (counts), so that one seed is enough.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from compactvision.records import PROFILES
from compactvision.records.checks import LARGEST, is_slug
from compactvision.records.places import claims_folder, notebooks_folder
from compactvision.records.texts import read_text

TRAINED = "trained"
KINDS = ("exact", "scaled", TRAINED)
PARTS = ("start", "look", "cut", "factorise", "redesign", "search", "use")
SEEDS_FOR_COMPARISON = 3
_RANDOM_QUANTITIES = ("accuracy", "error", "loss", "miou", "precision")


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
        "exact", "scaled" or "trained".
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
        return SEEDS_FOR_COMPARISON if compares and self.kind != "exact" and not self.rule.deterministic else 1


@dataclass(frozen=True)
class Chapter:
    """A chapter: its title, its part of the book, and its claims."""

    slug: str
    title: str
    part: str
    claims: tuple[Claim, ...] = field(default=())
    paper: str | None = None


def slugs() -> list[str]:
    """Return the chapters that have a claim file: in the order of ``_toc.yml`` where there is one, then by name."""
    found = sorted(path.stem for path in claims_folder().glob("*.toml"))
    folder = notebooks_folder()
    toc = folder.parent / "_toc.yml" if folder else None
    text = read_text(toc) if toc and toc.is_file() else ""
    order = re.findall(r"^[ -]*file:\s*notebooks/(\w+)", text, flags=re.MULTILINE)
    return sorted(found, key=lambda slug: order.index(slug) if slug in order else len(order))


def load(slug: str) -> Chapter:
    """Return a chapter with its claims.

    Raises
    ------
    ValueError
        If the slug is unknown (the known ones are listed), or the file is malformed: the message names
        the file, the claim and the field.
    OSError
        If the file cannot be read.
    """
    path = claims_folder() / f"{slug}.toml"
    if not is_slug(slug) or not path.exists():
        raise ValueError(f"slug: {slug!r} is no chapter; known are {', '.join(slugs()) or 'none'}")
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> Chapter:
    """Return the chapter that the text of a claim file holds; ``path`` gives the slug and serves messages."""
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{path.name}: not TOML: it is nested too deep") from None
    except ValueError as error:  # also of dates that no calendar has
        raise ValueError(f"{path.name}: not TOML: {error}") from None
    _only_known(content, ("chapter", "claim"), path.name)
    where = f"{path.name}: chapter"
    head = _table(content.get("chapter"), where)
    entries = content.get("claim", [])
    if not isinstance(entries, list):
        raise ValueError(f"{path.name}: claims are written as [[claim]]")
    claims = tuple(claim_of(entry, path.name, i) for i, entry in enumerate(entries, start=1))
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise ValueError(f"{path.name}: claim {claim.id!r}: field 'id' stands twice")
        seen.add(claim.id)
    _check_fields(Chapter, head, where, skip=("slug", "claims"))
    for name in ("title", "part", "paper"):
        _text(head, name, where)
    _one_of(head, "part", PARTS, where)
    return Chapter(path.stem, head["title"], head["part"], claims, head.get("paper"))


def claim_of(entry: object, file: str, number: int) -> Claim:
    """Return the claim that an entry of a claim file holds; ``file`` and ``number`` serve messages.

    Raises
    ------
    ValueError
        Naming the claim and the field that is missing, unknown or malformed.
    """
    where = f"{file}: claim {number}"
    content = dict(_table(entry, where))
    if isinstance(content.get("id"), str):
        where = f"{file}: claim {content['id']!r}"
    _check_fields(Claim, content, where)
    for name in ("id", "text", "source", "kind", "profile", "refuted_by", "convention"):
        _text(content, name, where)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", content["id"]):
        raise ValueError(f"{where}: field 'id' is not made of lower-case words and hyphens")
    if not isinstance(content.get("unit", ""), str):
        raise ValueError(f"{where}: field 'unit' is {content['unit']!r}, not text")
    _one_of(content, "kind", KINDS, where)
    _one_of(content, "profile", (*PROFILES, TRAINED), where)
    if (content["kind"] == TRAINED) != (content["profile"] == TRAINED) and content["kind"] != "scaled":
        raise ValueError(f"{where}: fields 'kind' and 'profile' must both be {TRAINED!r}, or neither")
    if "paper" in content and not isinstance(content["paper"], str):
        _number(content, "paper", where)
    content["rule"] = _rule(content["rule"], f"{where}: rule")
    return Claim(**content)


def _rule(entry: object, where: str) -> Rule:
    content = dict(_table(entry, where))
    _check_fields(Rule, content, where)
    quantity = _exactly_one(content, ("value", "difference", "ratio"), where)
    test = _exactly_one(content, ("target", "above", "below"), where)
    if quantity == "value":
        _text(content, "value", where)
    else:
        names = content[quantity]
        if not isinstance(names, list) or len(names) != 2 or not all(isinstance(n, str) and n for n in names):
            raise ValueError(f"{where}: field {quantity!r} is {names!r}, not two names of values")
        content[quantity] = tuple(names)
    for name in ("target", "above", "below", "partly", "abs", "rel"):
        if name in content:
            _number(content, name, where)
    for name in ("abs", "rel"):
        if content.get(name, 0) < 0:
            raise ValueError(f"{where}: field {name!r} is {content[name]!r}; a tolerance is not negative")
        if name in content and test != "target":
            raise ValueError(f"{where}: field {name!r} goes with 'target' only")
    if content.get("seeds", "mean") not in ("mean", "all"):
        raise ValueError(f"{where}: field 'seeds' is {content['seeds']!r}, not 'mean' or 'all'")
    if not isinstance(content.get("deterministic", False), bool):
        raise ValueError(f"{where}: field 'deterministic' is {content['deterministic']!r}, not true or false")
    rule = Rule(**content)
    if rule.partly is not None and rule.direction is None:
        raise ValueError(f"{where}: field 'partly' is {rule.partly!r}; it must be weaker than {test!r}")
    random = [name for name in rule.names if any(word in name.lower() for word in _RANDOM_QUANTITIES)]
    if rule.deterministic and random:
        raise ValueError(f"{where}: field 'deterministic' cannot be true for {random[0]!r}")
    return rule


def _table(entry: object, where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: the table is missing or not a table")
    return entry


def _only_known(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(known)}")


def _check_fields(kind: type, content: Mapping[str, Any], where: str, skip: tuple[str, ...] = ()) -> None:
    own = [item for item in fields(kind) if item.name not in skip]
    _only_known(content, tuple(item.name for item in own), where)
    for item in own:
        if item.default is MISSING and item.name not in content:
            raise ValueError(f"{where}: field {item.name!r} is missing")


def _text(content: Mapping[str, Any], name: str, where: str) -> None:
    if name in content and (not isinstance(content[name], str) or not content[name].strip()):
        raise ValueError(f"{where}: field {name!r} is {content[name]!r}, not text")


def _number(content: Mapping[str, Any], name: str, where: str) -> None:
    value = content[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError(f"{where}: field {name!r} is {value!r}, not a finite number")


def _one_of(content: Mapping[str, Any], name: str, known: tuple[str, ...], where: str) -> None:
    if content[name] not in known:
        raise ValueError(f"{where}: field {name!r} is {content[name]!r}, not one of {', '.join(known)}")


def _exactly_one(content: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    given = [name for name in names if name in content]
    if len(given) != 1:
        raise ValueError(f"{where}: exactly one of the fields {', '.join(names)} is needed, found {given or 'none'}")
    return given[0]
