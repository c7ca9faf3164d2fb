"""The scorecard as a page: one table of chapters by kind of claim, then a chapter at a time, with filters.

Everything is there without scripts (``details`` unfold by themselves); with them rows can be filtered.
"""

from __future__ import annotations

import re
from collections import Counter

from compactvision.claims.decision import LEVELS
from compactvision.claims.origin import origins
from compactvision.claims.report import CAPTIONS, GROUPS, Scorecard, row_of
from compactvision.claims.rules import SYMBOLS, Verdict
from compactvision.claims.schema import PARTS, Chapter
from compactvision.claims.standing import by_kind, signs, standing, words
from compactvision.plots import Html
from compactvision.plots.escape import as_html

_HEADS = {"exact": "Exact", "trained": "Trained", "scaled": "Scaled", "check": "Checks"}
_COLUMNS = ("Claim", "Verdict", "Ours", "Paper", "Why")
LEVEL_WORDS = dict(zip(LEVELS, ("held", "in part", "did not hold", "cannot be told", "not run"), strict=True))
SCRIPT = """
(function (root) {
  const choices = [...root.querySelectorAll("select")];
  const rows = [...root.querySelectorAll("tr[data-kind]")];
  const chapters = [...root.querySelectorAll("details")];
  const told = root.querySelector("output");
  function choose() {
    const wanted = Object.fromEntries(choices.map((choice) => [choice.name, choice.value]));
    let shown = 0;
    for (const row of rows) {
      const chapter = row.closest("details");
      const fits = (!wanted.level || row.dataset.level === wanted.level) &&
        (!wanted.kind || row.dataset.kind === wanted.kind) && (!wanted.part || chapter.dataset.part === wanted.part);
      row.hidden = !fits;
      shown += fits;
    }
    for (const table of root.querySelectorAll("details .cv-table")) {
      table.hidden = !table.querySelector("tr[data-kind]:not([hidden])");
    }
    for (const chapter of chapters) {
      const left = chapter.querySelectorAll("tr[data-kind]:not([hidden])").length;
      const all = chapter.querySelectorAll("tr[data-kind]").length;
      chapter.hidden = all > 0 && left === 0;
      chapter.querySelector(".cv-left").textContent = left < all ? `${left} of ${all} claims` : `${all} claims`;
    }
    told.textContent = shown < rows.length ? `${shown} of ${rows.length} claims` : `all ${rows.length} claims`;
  }
  function unfold() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) { target.open = true; target.scrollIntoView(); }
  }
  root.querySelector("form").hidden = false;
  for (const choice of choices) choice.addEventListener("change", choose);
  root.querySelector("form").addEventListener("reset", () => setTimeout(choose));
  addEventListener("hashchange", unfold);
  choose();
  unfold();
})(document.getElementById("cv-card"));
"""


def raw_html(text: str) -> str:
    """Return HTML as a directive of MyST that nothing in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{{raw}} html\n{text}\n{fence}"


def page(card: Scorecard, listed: frozenset[str]) -> str:
    """Return the scorecard in MyST Markdown; chapters in ``listed`` are linked."""
    return (
        "\n\n".join(
            [
                standing(card.verdicts),
                "## Chapter by chapter",
                raw_html(_overview(card)),
                "## Every claim",
                raw_html(_claims(card, listed)),
            ]
        )
        + "\n"
    )


def _overview(card: Scorecard) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Chapter", "Part", *_HEADS.values()))
    lines = []
    for chapter, found in card.chapters:
        counted = by_kind(found)
        cells = "".join(f"<td>{_signs(counted[kind], kind)}</td>" for kind in GROUPS)
        link = f'<a href="#claims-{chapter.slug}">{as_html(chapter.title)}</a>'
        lines.append(f'<tr><th scope="row">{link}</th><td>{chapter.part}</td>{cells}</tr>')
    counted = by_kind(card.verdicts)
    total = "".join(f"<td>{_signs(counted[kind], kind)}</td>" for kind in GROUPS)
    key = " · ".join(f"{SYMBOLS[level]} {word}" for level, word in LEVEL_WORDS.items())
    return (
        f'<div class="cv-table cv-overview" role="region" aria-label="Claims by chapter and kind" tabindex="0">'
        f'<table class="table"><caption>Claims by chapter and kind: {key}</caption><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(lines)}<tr><th scope="row">All chapters</th><td></td>{total}</tr></tbody></table></div>'
    )


def _signs(counted: Counter[str], kind: str) -> str:
    if not counted.total():
        return ""
    kept = re.sub(r"(\d) ", r"\1&nbsp;", signs(counted))  # a number and its sign on one line
    return f'<span role="img" aria-label="{words(counted, kind)}">{kept}</span>'


def _claims(card: Scorecard, listed: frozenset[str]) -> str:
    chapters = "\n".join(_chapter(chapter, found, chapter.slug in listed) for chapter, found in card.chapters)
    return f'<div id="cv-card">\n{_filters(card)}\n{chapters}\n</div>\n<script>{SCRIPT}</script>'


def _filters(card: Scorecard) -> str:
    present = {chapter.part for chapter, _ in card.chapters}
    levels = [(level.replace(" ", "-"), f"{SYMBOLS[level]} {word}") for level, word in LEVEL_WORDS.items()]
    fields = {
        "level": ("Verdict", levels),
        "kind": ("Kind", [(kind, kind) for kind in GROUPS]),
        "part": ("Part", [(part, part) for part in PARTS if part in present]),
    }
    boxes = "".join(
        f'<label>{label} <select name="{name}"><option value="">all</option>'
        + "".join(f'<option value="{value}">{text}</option>' for value, text in options)
        + "</select></label> "
        for name, (label, options) in fields.items()
    )
    return f'<form class="cv-filters" hidden>{boxes}<button type="reset">show all</button> <output></output></form>'


def _chapter(chapter: Chapter, found: tuple[Verdict, ...], linked: bool) -> str:
    counted = by_kind(found)
    title = as_html(chapter.title)
    said = "; ".join(f"{kind}: {signs(counted[kind])}" for kind in GROUPS if counted[kind].total())
    name = f'<a href="../notebooks/{chapter.slug}.html">{title}</a>' if linked else title
    paper = f". Paper: {as_html(chapter.paper)}" if chapter.paper else ""
    told = origins(chapter.slug)
    made = f" Records: {as_html(told)}." if told else ""
    body = "".join(_table(found, kind, chapter) for kind in GROUPS if counted[kind].total())
    return (
        f'<details id="claims-{chapter.slug}" name="cv-card" data-part="{chapter.part}">'
        f'<summary><strong>{title}</strong> <span class="cv-left">{len(found)} claims</span> '
        f"<small>{said}</small></summary>\n"
        f"<p>Chapter: {name}{paper}.{made}</p>{body or '<p>No claims are written down yet.</p>'}</details>"
    )


def _table(found: tuple[Verdict, ...], kind: str, chapter: Chapter) -> str:
    own = [verdict for verdict in found if verdict.claim.kind == kind]
    caption = as_html(f"{CAPTIONS[kind]}: {words(by_kind(own)[kind], kind)}")
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    return (
        f'<div class="cv-table" role="region" aria-label="{as_html(chapter.title)}, {kind}" tabindex="0">'
        f'<table class="table"><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>'
        + "".join(map(_row, own))
        + "</tbody></table></div>"
    )


def _row(verdict: Verdict) -> str:
    first, *others = (cell.markup if isinstance(cell, Html) else as_html(cell) for cell in row_of(verdict))
    level = verdict.level.replace(" ", "-")
    cells = "".join(f"<td>{cell}</td>" for cell in others)
    return f'<tr data-kind="{verdict.claim.kind}" data-level="{level}"><th scope="row">{first}</th>{cells}</tr>'
