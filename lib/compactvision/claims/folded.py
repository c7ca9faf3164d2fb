"""A chapter's claims on its page: totals, the few that matter most, and all of them folded behind these."""

from __future__ import annotations

import re

from compactvision.claims.decision import FULL, NO, PARTLY
from compactvision.claims.report import rows_table, tables
from compactvision.claims.rules import Verdict, verdicts
from compactvision.claims.standing import by_kind, words
from compactvision.plots import Html
from compactvision.plots.escape import as_html, as_markdown

MOST = 5
"""Claims that stand open on a page."""
FAILED = 3
"""At most so many of them did not hold."""
_LEANS = re.compile(r"(.{0,30}: )?(it|the same|and|so|this|they)\b", re.IGNORECASE)  # on the claim before


def _weight(verdict: Verdict) -> tuple[bool, bool, bool, bool]:
    """Order claims: what stands alone, numbers that a paper prints, what its abstract says, what is the paper's."""
    text, source = verdict.claim.text, verdict.claim.source
    ours = any(word in source for word in ("ours", "this book", "derived here"))
    return _LEANS.match(text) is not None, verdict.claim.paper is None, not source.startswith("abstract"), ours


def that_matter(found: list[Verdict]) -> list[Verdict]:
    """Return the claims that stand open, in the order in which they are written; checks of the book's own are none.

    Sentences that lean on the claim before come last; what the paper prints comes before what its abstract says. Of
    five, three at most did not hold or held in part: these are chosen first, those that held fill up.
    """
    failed = sorted((v for v in found if v.level in (NO, PARTLY) and v.claim.kind != "check"), key=_weight)
    held = sorted((v for v in found if v.level == FULL and v.claim.kind != "check"), key=_weight)
    chosen = failed[: max(FAILED, MOST - len(held))]
    chosen += held[: MOST - len(chosen)]
    ids = {verdict.claim.id for verdict in chosen[:MOST]}
    return [verdict for verdict in found if verdict.claim.id in ids]


def table(slug: str) -> Html:
    """Return a chapter's claims with the paper's value, ours, verdict and reason, for its page.

    Totals and the claims that matter most stand open, all claims folded behind them; few claims are all open.

    Raises
    ------
    ValueError
        If the slug is unknown, or its claim file or a record is malformed.
    """
    found = verdicts(slug)
    every = tables(found)
    few = that_matter(found)
    if len(found) <= MOST + 1 or not few:
        return every
    names = {"exact": "Exact claims", "trained": "Trained claims", "scaled": "Scaled claims", "check": "Checks"}
    totals = [f"{names[kind]}: {words(of, kind)}." for kind, of in by_kind(found).items() if of]
    own = sum(verdict.claim.kind == "check" for verdict in found)
    papers = len(found) - own
    caption = f"{len(few)} of {papers} claims: the paper's own numbers and statements first"
    shown = rows_table(few, caption)
    fold = f"All {papers} claims{f' and {own} checks' if own else ''}, each with its verdict"
    paragraphs = "".join(f"<p>{as_html(line)}</p>" for line in totals)
    folded = f'<details class="cv-claims"><summary>{fold}</summary>\n{every.markup}\n</details>'
    markup = "\n".join([paragraphs, shown.markup, folded])
    markdown = "\n\n".join([*map(as_markdown, totals), shown.markdown or "", f"**{fold}**", every.markdown or ""])
    return Html(markup, every.text, markdown)
