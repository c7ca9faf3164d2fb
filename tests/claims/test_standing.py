"""Sentences, templates and the log of verdicts say what claims and records say."""

import re

import pytest
from compactvision import claims
from compactvision.claims import templates, verdict_log
from compactvision.claims.standing import standing


@pytest.fixture(scope="module")
def card():
    return claims.report.scorecard()


def test_the_standing_counts_kinds_apart(card):
    text = standing(card.verdicts)
    for kind in ("exact", "scaled", "trained"):
        number = sum(found.claim.kind == kind for found in card.verdicts)
        assert f"{number} {kind} claims" in text


def test_no_template_says_what_a_record_no_longer_does(card):
    filled = templates.pages(card)
    assert {"did-it-hold.md", "which-method.md"} <= set(filled)
    for name, text in filled.items():
        assert templates.TURNED not in text, name
        assert "[[" not in text, name


def test_an_unknown_mark_is_named(card):
    assert templates.filled("plain", card) == "plain"
    for mark in ("[[ours dcff/nothing]]", "[[oddly dcff/flops]]", "[[counts nobody]]"):
        with pytest.raises(ValueError, match=r"template: \[\["):
            templates.filled(mark, card)


def test_the_log_of_verdicts_ends_where_the_scorecard_stands(card):
    now = {chapter.slug: {found.claim.id: found.level for found in verdicts} for chapter, verdicts in card.chapters}
    command = "python -m compactvision.claims.verdict_log"
    assert verdict_log.read()["state"] == now, f"verdicts have changed: commit them, then run {command}"


def texts(page: str) -> dict[str, str]:
    """Title -> what the page says of a paper, without its head, badges of verdicts, picture and counts."""
    found = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, _head, said, *_rest = section.split("\n\n")
        found[title] = re.sub(r"<span.*?</span>", "", said)
    return found


def test_a_paper_takes_at_most_sixty_words_and_leads_to_its_chapter(card):
    page = templates.pages(card)["did-it-hold.md"]
    long = {title: n for title, said in texts(page).items() if (n := len(re.findall(r"[^\s()]*\w[^\s]*", said))) > 60}
    assert not long
    papers = [chapter.slug for chapter, _ in card.chapters if chapter.paper]
    assert sorted(re.findall(r"</notebooks/(\w+)>", page)) == sorted(papers)
    assert len(texts(page)) == len(papers)
