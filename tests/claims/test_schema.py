"""Claim files are read strictly: whatever is wrong is named with file, claim and field."""

import re
from pathlib import Path

import pytest
from compactvision.claims import load, slugs
from compactvision.claims.schema import parse

HEAD = """
[chapter]
title = "A chapter"
part = "cut"
paper = "Nobody 2021"
"""
CLAIM = """
[[claim]]
id = "cheap"
text = "It is cheap."
source = "abstract"
kind = "scaled"
profile = "quick"
refuted_by = "It is not."
paper = 0.9413
convention = "macs"
unit = "%"
rule = { difference = ["a.macs", "b.macs"], below = -3, partly = -1, seeds = "all", deterministic = true }
"""


def read(text: str):
    return parse(text, Path("some_slug.toml"))


def test_a_file_is_read_field_by_field():
    chapter = read(HEAD + CLAIM)
    assert (chapter.slug, chapter.title, chapter.part) == ("some_slug", "A chapter", "cut")
    assert chapter.paper == "Nobody 2021"
    claim = chapter.claims[0]
    assert (claim.id, claim.kind, claim.profile, claim.paper) == ("cheap", "scaled", "quick", 0.9413)
    assert (claim.convention, claim.unit, claim.refuted_by) == ("macs", "%", "It is not.")
    assert (claim.rule.names, claim.rule.test, claim.rule.below) == (("a.macs", "b.macs"), "below", -3)
    assert claim.rule.direction == ("below", -1)
    assert claim.seeds_needed == 1


def test_arms_may_decide_a_scaled_claim():
    claim = read(HEAD + CLAIM.replace('profile = "quick"', 'profile = "trained"')).claims[0]
    assert (claim.kind, claim.profile) == ("scaled", "trained")


def test_a_comparison_needs_three_seeds_unless_it_is_exact_or_deterministic():
    assert read(HEAD + CLAIM.replace(", deterministic = true", "")).claims[0].seeds_needed == 3
    exact = CLAIM.replace(", deterministic = true", "").replace('"scaled"', '"exact"')
    assert read(HEAD + exact).claims[0].seeds_needed == 1


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('text = "It is cheap."\n', "", ["claim 'cheap'", "'text'", "missing"]),
        ('refuted_by = "It is not."\n', "", ["claim 'cheap'", "'refuted_by'", "missing"]),
        ('unit = "%"', 'unit = "%"\ncolour = "red"', ["claim 'cheap'", "unknown field 'colour'"]),
        ('kind = "scaled"', 'kind = "guess"', ["claim 'cheap'", "'kind'", "'guess'", "exact, trained, scaled, check"]),
        ('profile = "quick"', 'profile = "slow"', ["claim 'cheap'", "'profile'", "'slow'"]),
        (
            'kind = "scaled"\nprofile = "quick"',
            'kind = "exact"\nprofile = "trained"',
            ["claim 'cheap'", "'kind' and 'profile'"],
        ),
        ('kind = "scaled"', 'kind = "trained"', ["claim 'cheap'", "'kind' and 'profile'"]),
        ('part = "cut"', 'part = "saw"', ["chapter", "'part'", "'saw'"]),
        ('title = "A chapter"\n', "", ["chapter", "'title'", "missing"]),
        ('part = "cut"', 'part = "cut"\nfiles = ["measure"]', ["chapter", "unknown field 'files'"]),
        ('id = "cheap"', 'id = "Not so cheap"', ["claim 'Not so cheap'", "'id'"]),
        ('id = "cheap"', "id = 3", ["claim 1", "'id'", "3"]),
        ('source = "abstract"', 'source = " "', ["claim 'cheap'", "'source'"]),
        ('unit = "%"', "unit = 3", ["claim 'cheap'", "'unit'"]),
        ("paper = 0.9413", "paper = nan", ["claim 'cheap'", "'paper'", "nan"]),
        ("paper = 0.9413", "paper = true", ["claim 'cheap'", "'paper'", "True"]),
        ("below = -3", "below = -3, above = 2", ["rule", "target, above, below", "['above', 'below']"]),
        ("below = -3, ", "", ["rule", "target, above, below", "none"]),
        ("below = -3", 'below = "low"', ["rule", "'below'", "'low'"]),
        ("below = -3", "below = -3, abs = 1", ["rule", "'abs'", "target"]),
        ("below = -3", "target = -3, abs = -0.1", ["rule", "'abs'", "-0.1", "negative"]),
        ("below = -3", "target = -3, rel = -0.1", ["rule", "'rel'", "-0.1", "negative"]),
        ("partly = -1", "partly = -5", ["rule", "'partly'", "-5", "weaker"]),
        ('difference = ["a.macs", "b.macs"]', 'difference = ["a.macs"]', ["rule", "'difference'", "two names"]),
        ('difference = ["a.macs", "b.macs"]', 'value = ""', ["rule", "'value'"]),
        ('difference = ["a.macs", "b.macs"], ', "", ["rule", "value, difference, ratio", "none"]),
        ('seeds = "all"', 'seeds = "most"', ["rule", "'seeds'", "'most'"]),
        ("deterministic = true", "deterministic = 1", ["rule", "'deterministic'"]),
        ('"a.macs"', '"a.Accuracy"', ["rule", "'deterministic'", "'a.Accuracy'"]),
        ("deterministic = true", "margin = 1", ["rule", "unknown field 'margin'"]),
        ("[[claim]]", "[claim]", ["[[claim]]"]),
        ("[chapter]", "[head]", ["unknown field 'head'"]),
        ("[chapter]", "", ["unknown field"]),
        ("title = ", "title ", ["line"]),
    ],
)
def test_errors_name_file_claim_and_field(before, after, words):
    text = HEAD + CLAIM
    assert before in text
    with pytest.raises(ValueError, match=r"some_slug\.toml") as error:
        read(text.replace(before, after, 1))
    for word in words:
        assert word in str(error.value)


def test_a_chapter_is_needed_and_ids_are_unique():
    with pytest.raises(ValueError, match=r"some_slug\.toml: chapter: the table is missing"):
        read(CLAIM)
    with pytest.raises(ValueError, match="claim 'cheap': field 'id' stands twice"):
        read(HEAD + CLAIM + CLAIM)


def test_chapters_come_in_the_order_of_the_table_of_contents(book):
    for slug in ("b_second", "a_first", "z_unlisted", "c_third"):
        (book / "claims" / f"{slug}.toml").write_text(HEAD)
    assert slugs() == ["a_first", "b_second", "c_third", "z_unlisted"]
    (book / "_toc.yml").write_text("chapters:\n- file: notebooks/c_third\n  - file: notebooks/a_first\n")
    assert slugs() == ["c_third", "a_first", "b_second", "z_unlisted"]


@pytest.mark.parametrize("slug", ["nothing", "../claims/known", "Known", ""])
def test_an_unknown_slug_lists_the_known_ones(book, slug):
    (book / "claims" / "known.toml").write_text(HEAD)
    with pytest.raises(ValueError, match=re.escape(f"{slug!r} is no chapter; known are known")):
        load(slug)


def test_the_books_own_claim_files_are_well_formed():
    for slug in slugs():
        assert load(slug).slug == slug
