"""Claims and abstracts: nothing measurable is left out, no number counts twice, and whatever is claimed can fail."""

import itertools
import math
import re
from pathlib import Path

import pytest
from compactvision import records
from compactvision.claims import Rule, load, slugs
from compactvision.claims.decision import holds
from compactvision.claims.rules import judge
from compactvision.claims.schema import TRAINED, Claim, parse

SHARES = ("accuracy", "miou", "precision", "sparsity", "share", "recall", ".ap", "tau", "boundary", "selectivity")
NONE = 1e-5  # gaps and numbers of faults below it agree because there is nothing
BOOK = [load(slug) for slug in slugs()]
PAPERS = [chapter for chapter in BOOK if chapter.paper]
OF = pytest.mark.parametrize("chapter", BOOK, ids=lambda chapter: chapter.slug)
OF_PAPERS = pytest.mark.parametrize("chapter", PAPERS, ids=lambda chapter: chapter.slug)


def from_abstract(claim: Claim) -> bool:
    return re.search(r"\babstract\b", claim.source, re.IGNORECASE) is not None


@OF_PAPERS
def test_every_statement_of_the_abstract_has_a_claim_or_a_reason(chapter):
    assert chapter.abstract
    for row in chapter.abstract:
        assert row.claims or row.not_measured  # that the claims exist is a matter of the form
        assert len(row.says.split()) <= 30


@OF
def test_every_claim_from_the_abstract_belongs_to_a_statement(chapter):
    named = {one for row in chapter.abstract for one in row.claims}
    assert not [claim.id for claim in chapter.claims if from_abstract(claim) and claim.id not in named]


def _values(chapter) -> dict[str, tuple[float, ...]]:
    """Return the values of all claims of a chapter that were run."""
    found = {profile: records.load(chapter.slug, profile) for profile in records.PROFILES}
    judged = [judge(claim, found[claim.profile]) for claim in chapter.claims if claim.profile != TRAINED]
    return {verdict.claim.id: verdict.values for verdict in judged if verdict.values}


def same_numbers(values: dict[str, tuple[float, ...]]) -> list[tuple[str, str]]:
    """Return pairs of claims that look at one number, with either sign, in every seed."""
    alike = []
    for (one, first), (other, second) in itertools.combinations(values.items(), 2):
        if len(first) != len(second) or max(map(abs, first + second)) < NONE:
            continue
        for sign in (1, -1):
            if all(abs(a - sign * b) <= 1e-6 for a, b in zip(first, second, strict=True)):
                alike.append((one, other))
    return alike


@OF
def test_no_number_counts_twice(chapter):
    assert not same_numbers(_values(chapter))


def test_one_number_under_two_names_is_noticed():
    values = {"a": (0.1, 0.2), "b": (0.1000001, 0.2), "c": (-0.1, -0.2), "d": (0.1, 0.3), "e": (0.0, 0.0)}
    assert same_numbers(values) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert same_numbers({"gap": (1e-7, 2e-7), "faults": (0.0, 0.0)}) == []


def admissible(claim: Claim) -> tuple[float, float]:
    """Return the least and the greatest number that a claim's quantity can be."""
    names = [name.lower() for name in claim.rule.names]
    share = all(any(word in name for word in SHARES) for name in names)
    if claim.rule.difference:
        return (-1.0, 1.0) if share else (-math.inf, math.inf)
    if claim.rule.ratio:
        return 0.0, math.inf
    return (0.0, 1.0) if share and claim.unit in ("%", "points") else (-math.inf, math.inf)


def can_fail(claim: Claim) -> bool:
    return not all(holds(claim.rule, value) for value in admissible(claim))


def can_hold(claim: Claim) -> bool:
    low, high = admissible(claim)
    if claim.rule.target is not None:
        return low <= claim.rule.target <= high
    return holds(claim.rule, high if claim.rule.test == "above" else low)


@OF
def test_every_claim_can_fail_and_can_hold(chapter):
    assert not [claim.id for claim in chapter.claims if not can_fail(claim)]
    assert not [claim.id for claim in chapter.claims if not can_hold(claim)]


@pytest.mark.parametrize(
    ("rule", "fails", "succeeds"),
    [
        (Rule(value="a.accuracy", above=-0.1), False, True),
        (Rule(value="a.accuracy", below=1.5), False, True),
        (Rule(value="a.accuracy", above=1.0), True, False),
        (Rule(value="a.accuracy", target=0.5, abs=0.5), False, True),
        (Rule(difference=("a.accuracy", "b.accuracy"), above=-1.5), False, True),
        (Rule(difference=("a.accuracy", "b.accuracy"), above=-0.5), True, True),
        (Rule(ratio=("a.seconds", "b.seconds"), above=-1.0), False, True),
    ],
)
def test_what_cannot_fail_is_noticed(rule, fails, succeeds):
    claim = Claim("a", "text", "source", "scaled", "quick", "x", rule, unit="%")
    assert (can_fail(claim), can_hold(claim)) == (fails, succeeds)


@OF
def test_the_books_own_checks_hold(chapter):
    found = {profile: records.load(chapter.slug, profile) for profile in records.PROFILES}
    own = [claim for claim in chapter.claims if claim.kind == "check"]
    assert not [claim.id for claim in own if judge(claim, found[claim.profile]).level not in ("full", "not run")]


HEAD = '[chapter]\ntitle = "A"\npart = "cut"\npaper = "N"\n'
CLAIM = """
[[claim]]
id = "cheap"
text = "It is."
source = "abstract"
kind = "scaled"
profile = "quick"
refuted_by = "It is not."
rule = { value = "a", above = 0 }
"""


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('[[abstract]]\nsays = "It is."', "abstract 1: exactly one of the fields claims, not_measured"),
        ('[[abstract]]\nsays = "It is."\nclaims = []', "abstract 1: field 'claims' is"),
        ('[[abstract]]\nsays = "It is."\nclaims = ["dear"]', "names 'dear', and there is no such claim"),
        ('[[abstract]]\nsays = " "\nclaims = ["cheap"]', "field 'says' is ' ', not text"),
        ('[[abstract]]\nsays = "It is."\nnot_measured = ""', "field 'not_measured' is '', not text"),
        ('[[abstract]]\nclaims = ["cheap"]', "field 'says' is missing"),
        ('[[abstract]]\nsays = "It is."\nclaim = ["cheap"]', "unknown field 'claim'"),
        ('[abstract]\nsays = "It is."', r"written as \[\[abstract\]\]"),
        (
            '[[abstract]]\nsays = "It is."\nclaims = ["cheap"]\n[[abstract]]\nsays = "So."\nclaims = 3',
            "abstract 2: field 'claims' is 3",
        ),
    ],
)
def test_a_malformed_statement_is_named(row, words):
    with pytest.raises(ValueError, match=f"tiny.toml: .*{words}"):
        parse(HEAD + CLAIM + row, Path("tiny.toml"))


def test_statements_are_read():
    text = '[[abstract]]\nsays = "It is."\nclaims = ["cheap"]\n[[abstract]]\nsays = "So."\nnot_measured = "no data"'
    first, second = parse(HEAD + CLAIM + text, Path("tiny.toml")).abstract
    assert (first.says, first.claims, first.not_measured) == ("It is.", ("cheap",), None)
    assert (second.claims, second.not_measured) == ((), "no data")
