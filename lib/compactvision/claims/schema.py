"""The form of a chapter's claims: ``claims/<slug>.toml`` read into dataclasses, strictly.

.. code-block:: toml

    [chapter]
    title = "Energy-aware pruning"
    part = "cut"
    paper = "Yeom, Shim and Hwang 2021"         # left out in the book's own chapters

    [[abstract]]                                # a statement of the abstract that can be measured, in our words
    says = "Filters with little energy can go at less loss."
    claims = ["cheaper-at-the-same-accuracy"]   # or not_measured = "why not"

    [[claim]]
    id = "cheaper-at-the-same-accuracy"
    text = "At the same budget it loses less accuracy than random choice."
    source = "abstract"
    kind = "scaled"                             # exact, trained or scaled; check: an identity of the book's own
    profile = "quick"                           # the record that decides; "trained" for arms, never for exact claims
    refuted_by = "Random choice keeps as much accuracy, averaged over the seeds."
    paper = 0.9413                              # optional: a number, or words
    convention = "macs"                         # optional: how things are counted
    unit = "%"                                  # optional: "%" shows fractions as per cent
    rule = { difference = ["energy.accuracy", "random.accuracy"], above = 0.02 }

A rule looks at one number a seed: ``value = "name"``, ``difference = ["a", "b"]`` (a - b) or
``ratio = ["a", "b"]`` (a / b), and tests it with ``target`` (within ``abs`` or ``rel``), ``above`` or
``below`` (both strict). ``partly`` is where the claimed direction begins; it is 0 for a difference and 1
for a ratio unless given. The full claim needs every seed; with ``seeds = "all"`` a part of it
does, too: see :func:`compactvision.claims.decide`. ``deterministic`` declares that a comparison has no randomness
(counts), so that one seed is enough.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from compactvision.claims.claim import (
    CERTAIN,
    KINDS,
    PARTS,
    SEEDS_FOR_COMPARISON,
    TRAINED,
    Chapter,
    Claim,
    Rule,
    Statement,
)
from compactvision.records import PROFILES
from compactvision.records.checks import LARGEST, is_slug
from compactvision.records.places import claims_folder, notebooks_folder
from compactvision.records.texts import read_text

__all__ = [
    "CERTAIN",
    "KINDS",
    "PARTS",
    "SEEDS_FOR_COMPARISON",
    "TRAINED",
    "Chapter",
    "Claim",
    "Rule",
    "Statement",
    "claim_of",
    "load",
    "parse",
    "slugs",
]
_RANDOM_QUANTITIES = ("accuracy", "error", "loss", "miou", "precision")


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
    _only_known(content, ("chapter", "abstract", "claim"), path.name)
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
    _check_fields(Chapter, head, where, skip=("slug", "claims", "abstract"))
    for name in ("title", "part", "paper"):
        _text(head, name, where)
    _one_of(head, "part", PARTS, where)
    abstract = _abstract(content, seen, path.name)
    return Chapter(path.stem, head["title"], head["part"], claims, head.get("paper"), abstract)


def _abstract(content: Mapping[str, Any], known: set[str], file: str) -> tuple[Statement, ...]:
    rows = content.get("abstract", [])
    if not isinstance(rows, list):
        raise ValueError(f"{file}: statements of the abstract are written as [[abstract]]")
    return tuple(_statement(row, known, f"{file}: abstract {number}") for number, row in enumerate(rows, start=1))


def _statement(entry: object, known: set[str], where: str) -> Statement:
    content = dict(_table(entry, where))
    _check_fields(Statement, content, where)
    _text(content, "says", where)
    if _exactly_one(content, ("claims", "not_measured"), where) == "not_measured":
        _text(content, "not_measured", where)
        return Statement(content["says"], (), content["not_measured"])
    ids = content["claims"]
    if not isinstance(ids, list) or not ids or not all(isinstance(one, str) for one in ids):
        raise ValueError(f"{where}: field 'claims' is {ids!r}, not a list of ids")
    for one in ids:
        if one not in known:
            raise ValueError(f"{where}: field 'claims' names {one!r}, and there is no such claim")
    return Statement(content["says"], tuple(ids))


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
