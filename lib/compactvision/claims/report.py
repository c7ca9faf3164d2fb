"""Claims and verdicts as tables: one chapter's, and the scorecard of the whole book."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from compactvision import _checks as checks
from compactvision.claims.decision import LEVELS, UNTOLD
from compactvision.claims.origin import OLDER, origins
from compactvision.claims.rules import SYMBOLS, WORDS, Verdict, verdicts
from compactvision.claims.schema import CERTAIN, KINDS, Chapter, load, slugs
from compactvision.plots import Html
from compactvision.plots import table as html_table
from compactvision.plots.escape import as_html

GROUPS = KINDS
CAPTIONS = {
    "exact": "Exact claims: counts, axioms, closed forms",
    "trained": "Trained claims: the paper's network, data and schedule",
    "scaled": "Scaled claims: the effect on a smaller task or schedule",
    "check": "Checks: identities of this book, outside the papers' claims",
}
_COLUMNS = ("Claim", "Verdict", "Ours", "Paper", "Why")
NO_NUMBER = "–"


def levels_of(group: str) -> tuple[str, ...]:
    """Return the levels that a verdict of a group can have: where chance is no part, all can be told."""
    return tuple(level for level in LEVELS if level != UNTOLD or group not in CERTAIN)


def counts(found: Iterable[Verdict], group: str) -> dict[str, int]:
    """Return how many claims of one group have each verdict, by the verdict's word, zeros included."""
    number = Counter(verdict.level for verdict in found if verdict.group == group)
    return {WORDS[group][level]: number[level] for level in levels_of(group)}


def sentence(found: Iterable[Verdict], group: str) -> str:
    """Return the counts of one group as one line: "3 reproduced · 0 partly · 1 not reproduced · 0 not run"."""
    return " · ".join(f"{number} {word}" for word, number in counts(found, group).items())


def row_of(verdict: Verdict) -> list[object]:
    """Return a claim's cells: claim, verdict, our value, the paper's, and why."""
    claim = verdict.claim
    notes = [claim.kind, claim.source] + ([f"counted as {claim.convention}"] if claim.convention else [])
    small = "; ".join(notes)
    named = Html(f"{as_html(claim.text)}<br><small>{as_html(small)}</small>", f"{claim.text} ({small})")
    tone = "not-seen" if verdict.word.startswith("not seen") else verdict.word.replace(" ", "-")
    badge = f'<span class="cv-verdict cv-verdict-{tone}">{verdict.symbol} {verdict.word}</span>'
    sign = Html(badge, f"{verdict.symbol} {verdict.word}", badge)
    reason = verdict.reason + (f" (record {OLDER})" if verdict.older else "")
    return [named, sign, verdict.ours or NO_NUMBER, verdict.paper or NO_NUMBER, reason]


def rows_table(found: list[Verdict], caption: str) -> Html:
    """Return a table of verdicts, a row each, in their order."""
    wide = html_table([row_of(verdict) for verdict in found], _COLUMNS, caption)
    return Html(wide.markup, "\n".join([caption, *map(_lines, found)]), wide.markdown)


def group_table(found: list[Verdict], group: str, caption: str | None = None) -> Html:
    """Return the table of the claims of one group, in the order in which they are written."""
    own = [verdict for verdict in found if verdict.group == group]
    heading = f"{caption or CAPTIONS[group]}: {sentence(own, group)}"
    return rows_table(own, heading)


def _lines(verdict: Verdict) -> str:
    """Return a verdict as two lines for a terminal."""
    _, sign, ours, paper, reason = row_of(verdict)
    return f"  {sign}: {verdict.claim.text} ({verdict.claim.id})\n      ours: {ours}; paper: {paper}; {reason}"


def tables(found: list[Verdict]) -> Html:
    """Return the tables of all groups, one below the other; a group without claims is left out.

    Raises
    ------
    ValueError
        If ``found`` is no list of verdicts.
    """
    checks.instances((list, tuple), found=found)
    for place, verdict in enumerate(found):
        checks.instances(Verdict, **{f"found[{place}]": verdict})
    parts = [group_table(found, group) for group in GROUPS if any(v.group == group for v in found)]
    if not parts:
        return Html("<p>No claims are written down yet.</p>", "No claims are written down yet.")
    return Html(
        "\n".join(part.markup for part in parts),
        "\n\n".join(part.text for part in parts),
        "\n\n".join(part.markdown or "" for part in parts),
    )


@dataclass(frozen=True)
class Scorecard:
    """The verdicts of all chapters; the groups of counts are never added up."""

    chapters: tuple[tuple[Chapter, tuple[Verdict, ...]], ...]

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts, chapter by chapter."""
        return [verdict for _, found in self.chapters for verdict in found]

    def summary(self, group: str) -> Html:
        """Return the table of one group's counts: a row a chapter, a column a verdict, and the sums below.

        Raises
        ------
        ValueError
            If there is no such group.
        """
        checks.one_of(GROUPS, group=group)
        words = [f"{SYMBOLS[level]} {WORDS[group][level]}" for level in levels_of(group)]
        rows: list[list[object]] = [
            [chapter.title, *counts(found, group).values()]
            for chapter, found in self.chapters
            if any(verdict.group == group for verdict in found)
        ]
        rows.append(["All chapters", *counts(self.verdicts, group).values()])
        return html_table(rows, ["Chapter", *words], CAPTIONS[group])

    def _parts(self) -> list[Html]:
        parts = [self.summary(group) for group in GROUPS]
        for chapter, found in self.chapters:
            for group in GROUPS:
                if any(verdict.group == group for verdict in found):
                    parts.append(group_table(list(found), group, f"{chapter.title}. {CAPTIONS[group]}"))
        return parts

    def _repr_html_(self) -> str:
        return "\n".join(part.markup for part in self._parts())

    def _repr_markdown_(self) -> str:
        return "\n\n".join(part.markdown or "" for part in self._parts())

    def __str__(self) -> str:
        return "\n\n".join(part.text for part in self._parts())

    def to_json(self) -> str:
        """Return everything as JSON text: counts by chapter and group, then the claims."""
        content = {
            chapter.slug: {
                "title": chapter.title,
                "part": chapter.part,
                "records": origins(chapter.slug),
                "counts": {group: counts(found, group) for group in GROUPS},
                "claims": [
                    {
                        "id": verdict.claim.id,
                        "kind": verdict.claim.kind,
                        "profile": verdict.claim.profile,
                        "paper": verdict.claim.paper,
                        "values": list(verdict.values),
                        "verdict": verdict.word,
                        "reason": verdict.reason,
                        "older_code": verdict.older,
                    }
                    for verdict in found
                ],
            }
            for chapter, found in self.chapters
        }
        return json.dumps(content, indent=1, ensure_ascii=False)


def scorecard() -> Scorecard:
    """Return the verdicts of all chapters, in reading order."""
    return Scorecard(tuple((load(slug), tuple(verdicts(slug))) for slug in slugs()))
