"""Sentences, templates and the log of verdicts say what claims and records say."""

import re

import pytest
from compactvision import claims
from compactvision.claims import Claim, Rule, judge, templates, verdict_log
from compactvision.claims.standing import standing


@pytest.fixture(scope="module")
def card():
    return claims.report.scorecard()


def test_the_standing_counts_kinds_apart(card):
    text = standing(card.verdicts)
    for kind, name in (("exact", "exact claims"), ("scaled", "scaled claims"), ("trained", "trained claims")):
        assert f"{sum(found.claim.kind == kind for found in card.verdicts)} {name}" in text
    assert f"{sum(found.claim.kind == 'check' for found in card.verdicts)} checks of the book's own" in text


def test_the_standing_says_how_many_numbers_papers_print_how_many_disagree_and_what_was_trained(make_record):
    def found(kind, paper, target, value=1.0):
        claim = Claim("a", "text", "source", kind, "quick", "x", Rule(value="v", target=target), paper=paper)
        return judge(claim, make_record([{"v": value}]) if value is not None else None)

    agree, differ, ours = found("exact", 1.0, 1.0), found("exact", 2.0, 2.0), found("exact", None, 1.0)
    own, waits = found("check", None, 1.0), found("trained", 1.0, 1.0, None)
    text = standing([agree, differ, ours, own, waits])
    assert text.startswith(
        "Of 3 exact claims 2 carry a number that a paper prints, and 1 disagrees with what we count; of 1 trained "
        "claims, which need the paper's own network, data and schedule, none were run."
    )
    assert "Outside of these are 1 checks of the book's own, all of which hold." in text
    assert "of 1 trained claims, which need the paper's own network, data and schedule, 1 was run." in standing(
        [agree, found("trained", 1.0, 1.0)]
    )
    assert "1 checks of the book's own, of which 0 hold" in standing([found("check", None, 2.0)])


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


CHANGE = {"day": "2026-11-27", "slug": "a", "claim": "x", "before": "no", "after": "full", "why": "more seeds"}


def test_a_change_of_the_rules_is_told_as_what_it_was_and_what_it_is():
    before = {"changes": [CHANGE], "rules": [], "state": {"a": {"x": "full", "y": "full", "z": "no", "gone": "no"}}}
    again = CHANGE | {"after": "untold"}  # the same commit, judged by today's rules
    state = {"a": {"x": "untold", "y": "partly", "z": "no", "new": "full"}}
    entries = verdict_log.by_rule(before, {"changes": [again], "state": state}, "every seed", "2026-11-28")
    told = [(entry["claim"], entry["before"], entry["after"], entry["day"], entry["why"]) for entry in entries]
    assert told == [
        ("x", "full", "untold", "2026-11-28", "every seed"),
        ("y", "full", "partly", "2026-11-28", "every seed"),
    ]
    with pytest.raises(ValueError, match="2 verdicts are others by no commit of claims or records, a/x for example"):
        verdict_log.by_rule(before, {"changes": [again], "state": state}, None, "2026-11-28")


def test_what_a_commit_explains_is_no_change_of_the_rules_and_old_entries_are_kept():
    old = CHANGE | {"day": "2026-11-26", "why": "an older rule"}
    before = {"changes": [], "rules": [old], "state": {"a": {"x": "full"}}}
    now = {"changes": [CHANGE | {"day": "2026-11-28", "before": "full", "after": "no"}], "state": {"a": {"x": "no"}}}
    assert verdict_log.by_rule(before, now, None, "2026-11-28") == [old]


def test_a_first_verdict_is_no_change_of_the_rules():
    before = {"changes": [CHANGE], "rules": [], "state": {"a": {"x": "not run"}}}
    assert verdict_log.by_rule(before, {"changes": [], "state": {"a": {"x": "no"}}}, None, "2026-11-28") == []
