"""What pages of the book include, in MyST Markdown: the scorecard, the status of the records, the running picture."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean

from compactvision import records
from compactvision.claims import templates, verdict_log
from compactvision.claims.card import page as card_page
from compactvision.claims.origin import OLDER, origin
from compactvision.claims.picture import picture_page
from compactvision.claims.report import Scorecard, scorecard
from compactvision.claims.rules import is_older
from compactvision.claims.schema import TRAINED, Chapter, load, slugs
from compactvision.claims.standing import standing
from compactvision.plots import Html
from compactvision.plots.display import markdown_table
from compactvision.plots.escape import as_code, as_html, as_markdown
from compactvision.records import PROFILES, Record
from compactvision.records.places import notebooks_folder
from compactvision.records.texts import read_text, write_text

SHIPPED = (TRAINED, "scaled")  # kinds of arms whose records are worth keeping
_STATUS_NOTE = (
    f"A record {OLDER} keeps its numbers and says so here: something that ran for it is another today, or it was made "
    "before that was noted. One that is confirmed was run again for one of its seeds, at the commit named, and gave "
    "its values: exact ones to 1e-6, others within the spread over its seeds or two points."
)


def _listed(chapter: Chapter) -> bool:
    """Tell whether a chapter's notebook stands in the contents of the book."""
    folder = notebooks_folder()
    toc = folder.parent / "_toc.yml" if folder else None
    return toc is not None and toc.is_file() and f"notebooks/{chapter.slug}" in read_text(toc)


def chapter_link(chapter: Chapter, title: str | None = None) -> str:
    """Return a chapter's title, or another text, in MyST Markdown: a link where the book has the chapter."""
    title = chapter.title if title is None else title
    if _listed(chapter) and not re.search(r"[`<>\\\n]", title):  # of what the text of a role cannot say
        return f"{{doc}}`{title} </notebooks/{chapter.slug}>`"
    return as_markdown(title)


def scorecard_page(card: Scorecard | None = None) -> str:
    """Return the scorecard: where the book stands, counts by chapter and kind, then every claim."""
    card = card or scorecard()
    return card_page(card, frozenset(chapter.slug for chapter, _ in card.chapters if _listed(chapter)))


def standing_page(card: Scorecard | None = None) -> str:
    """Return the sentences of the scorecard that cover and status repeat."""
    return standing((card or scorecard()).verdicts) + "\n"


def status_page() -> str:
    """Return the status: for each chapter the origin of its records and of those of its arms, or that there is none."""
    parts = [_STATUS_NOTE]
    for slug in slugs():
        chapter = load(slug)
        found = {profile: records.load(slug, profile) for profile in PROFILES}
        rows = [_status_row(profile, record) for profile, record in found.items()]
        arms = {f"{r.profile}: {r.training.arm}": r for kind in SHIPPED for r in records.load_arms(slug, kind)}
        if any(claim.profile == TRAINED for claim in chapter.claims) and not arms:
            arms = {TRAINED: None}
        rows += [_status_row(name, record) for name, record in arms.items()]
        found |= arms
        columns = ("Profile", "State", "Made", "Commit", "Device", "Versions", "Seeds", "Seconds a seed", "Memory")
        parts += [
            f"## {as_markdown(chapter.title)}",
            f"Chapter: {chapter_link(chapter)}.",
            markdown_table(rows, columns),
        ]
        sources = {(s.name, s.provenance, s.digest) for record in found.values() if record for s in record.data}
        parts += [
            f"- Data {as_code(name)}: {as_markdown(origin)} (SHA-256 {as_code(digest[:12])})"
            for name, origin, digest in sorted(sources)
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _status_row(profile: str, record: Record | None) -> list[object]:
    if record is None:
        return [profile, "– no record", *["not measured"] * 7]
    gpu = [run.peak_gpu_memory_mb for run in record.runs if run.peak_gpu_memory_mb is not None]
    memory = f"{max(run.peak_memory_mb for run in record.runs):,.0f} MiB"
    commit = record.commit[:9] if record.commit else "unknown"
    changes = " with changes" if record.dirty else ""
    shown = as_code(commit) if record.commit else commit
    return [
        profile,
        f"{'◐' if is_older(record) else '✓'} {origin(record)}",
        record.created[:10],
        Html(as_html(commit + changes), commit + changes, shown + changes),
        f"{record.device.kind}: {record.device.name}, {record.device.threads} threads",
        ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        ", ".join(map(str, record.seeds)),
        f"{fmean(record.seconds):.1f}",
        memory + (f"; {max(gpu):,.0f} MiB on the GPU" if gpu else ""),
    ]


def write_pages(folder: Path) -> list[Path]:
    """Write the generated pages into a folder; files that would stay the same are not touched."""
    card = scorecard()
    paths = []
    pages = {
        "scorecard.md": scorecard_page(card),
        "status.md": status_page(),
        "running_picture.md": picture_page(),
        "standing.md": standing_page(card),
        "verdict_log.md": verdict_log.page(),
        **templates.pages(card),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
        paths.append(path)
    return paths
