"""Pages of prose whose numbers, verdicts and pictures are put in from claims, records and executed notebooks.

A template lies in ``book/templates``. What it says in double brackets is replaced when the book is built:

========================= =========================================================================================
``[[ours SLUG/CLAIM]]``    our value: mean, standard deviation and unit
``[[paper SLUG/CLAIM]]``   the paper's value
``[[more SLUG/CLAIM]]``    the size of a mean that must be positive, without its sign: "4.6 points"
``[[less SLUG/CLAIM]]``    the size of a mean that must be negative
``[[share SLUG/CLAIM]]``   a ratio or fraction as per cent
``[[times SLUG/CLAIM]]``   a ratio: "14 times"
``[[verdict SLUG/CLAIM]]`` the verdict with its sign
``[[counts SLUG]]``        the chapter's verdicts by kind
``[[head SLUG]]``          heading that links to a chapter, and its authors
``[[figure SLUG | T]]``    the stored figure whose title begins with T
========================= =========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from compactvision.claims.card import raw_html
from compactvision.claims.decision import quantity
from compactvision.claims.report import Scorecard, row_of
from compactvision.claims.rules import Verdict
from compactvision.claims.schema import KINDS
from compactvision.claims.standing import by_kind, words
from compactvision.plots.escape import as_markdown
from compactvision.records.places import notebooks_folder
from compactvision.records.texts import parse_json, read_text

_MARK = re.compile(r"\[\[(\w+) ([^\]|]+?)(?: \| ([^\]]+?))?\]\]")
TURNED = "(the record has turned since this was written: "


def pages(card: Scorecard) -> dict[str, str]:
    """Return the filled templates of the book by name; none where there is no book beside the package."""
    folder = notebooks_folder()
    found = sorted((folder.parent / "book" / "templates").glob("*.md")) if folder else []
    return {path.name: filled(read_text(path), card, path.name) for path in found}


def filled(text: str, card: Scorecard, name: str = "template") -> str:
    """Return a template with every mark replaced.

    Raises
    ------
    ValueError
        Naming the mark that is unknown, or whose chapter, claim, value or figure is not there.
    """
    verdicts = {f"{found.slug}/{found.claim.id}": found for found in card.verdicts}
    chapters = {chapter.slug: (chapter, found) for chapter, found in card.chapters}

    def replaced(mark: re.Match[str]) -> str:
        word, subject, more = mark[1], mark[2], mark[3]
        try:
            if word in _OF_CLAIM:
                return _OF_CLAIM[word](verdicts[subject])
            if word == "counts":
                return _counts(chapters[subject][1])
            if word == "head":
                return _head(chapters[subject][0])
            if word == "figure" and more:
                return figure(subject, more)
        except KeyError:
            raise ValueError(f"{name}: {mark[0]} names no chapter or claim") from None
        raise ValueError(f"{name}: {mark[0]} is none of the marks that are known")

    return _MARK.sub(replaced, text)


def _mean(verdict: Verdict) -> float | None:
    return fmean(verdict.values) if verdict.values else None


def _ours(verdict: Verdict) -> str:
    return as_markdown(verdict.ours.rpartition(" (")[0] or "not run")


def _size(verdict: Verdict, sign: int) -> str:
    mean = _mean(verdict)
    if mean is None:
        return "(not run)"
    if mean * sign < 0:
        return f"{TURNED}{_ours(verdict)})"
    unit = verdict.claim.unit
    text = f"{100 * abs(mean):.1f} {unit}" if unit in ("%", "points") else quantity(float(f"{abs(mean):.3g}"), unit)
    return as_markdown(text)


def _share(verdict: Verdict) -> str:
    mean = _mean(verdict)
    return "(not run)" if mean is None else f"{float(f'{100 * mean:.2g}'):g} %"


def _times(verdict: Verdict) -> str:
    mean = _mean(verdict)
    return "(not run)" if mean is None else f"{float(f'{mean:.2g}'):g} times"


def _verdict(verdict: Verdict) -> str:
    badge: Any = row_of(verdict)[1]
    return str(badge.markdown)


_OF_CLAIM: dict[str, Callable[[Verdict], str]] = {
    "ours": _ours,
    "paper": lambda verdict: as_markdown(verdict.paper or "no number"),
    "more": lambda verdict: _size(verdict, 1),
    "less": lambda verdict: _size(verdict, -1),
    "share": _share,
    "times": _times,
    "verdict": _verdict,
}


def _counts(found: tuple[Verdict, ...]) -> str:
    counted = by_kind(found)
    kinds = [f"{kind}: {words(counted[kind], kind)}" for kind in KINDS if counted[kind].total()]
    return "; ".join(kinds) + "."


def _head(chapter: Any) -> str:
    title, _, rest = chapter.title.partition(":")
    paper = f"{as_markdown(chapter.paper)}. " if chapter.paper else ""
    said = f"*{as_markdown(rest.strip())}* " if rest.strip() else ""
    return f"## {{doc}}`{title} </notebooks/{chapter.slug}>`\n\n{said}{paper}".rstrip()


def figure(slug: str, title: str) -> str:
    """Return the stored figure of an executed notebook whose title begins with some words, as raw HTML.

    Raises
    ------
    ValueError
        If the notebook has none, or several.
    """
    folder = notebooks_folder()
    path = Path() if folder is None else folder / f"{slug}.ipynb"
    notebook = parse_json(read_text(path), path.name)
    found = [
        "".join(output["data"]["text/html"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if "".join(output.get("data", {}).get("text/plain", "")).startswith(f"Figure: {title}")
    ]
    if len(found) != 1:
        raise ValueError(f"{path.name} holds {len(found)} stored figures whose title begins with {title!r}, not one")
    return raw_html(found[0])
