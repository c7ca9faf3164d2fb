"""The skeleton of a chapter: arguments checked, templates filled in, and all files written at once or none."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from compactvision._repository import repository_url
from compactvision.notebooks import setup_cell
from compactvision.records.texts import write_text
from compactvision.skeleton import wings
from compactvision.skeleton.cells import notebook_text

FAMILIES = {  # family folder -> part of the book, and the template of its method
    "pruning": ("cut", "pruning"),
    "explanation": ("look", "explanation"),
    "factorization": ("factorise", "network"),
    "architectures": ("redesign", "network"),
    "search": ("search", "network"),
}
_TEMPLATES = Path(__file__).parent / "templates"
_PACKAGE = "lib/compactvision"


@dataclass(frozen=True)
class Written:
    """Paths relative to the clone: files that are new, and pages that have one more entry."""

    created: tuple[str, ...]
    changed: tuple[str, ...]


def new(root: Path, slug: str, *, title: str, family: str, paper: str = "", key: str = "") -> Written:
    """Write a chapter's skeleton into a clone of the book.

    Parameters
    ----------
    root : Path
        The clone.
    slug : str
        The chapter's name in every wing: lower-case letters, digits and underscores.
    title : str
        Heading of the chapter, at most 80 characters.
    family : str
        Folder of the method: one of ``FAMILIES``.
    paper : str, optional
        Authors and year, "Yeom, Shim and Hwang 2021".
    key : str, optional
        Key of the paper in ``book/references.bib``, by default first author, year and the slug's first word (the slug
        where ``paper`` is not given). A key that is not there gets an entry to fill in.

    Raises
    ------
    ValueError
        Naming the argument that is wrong, the file that exists already, or the page that is not as expected; then
        nothing was written.
    OSError
        If a file cannot be written; those written before are then as they were.
    """
    _check(root, slug, title, family, paper, key)
    part, kind = FAMILIES[family]
    words = slug.replace("_", " ")
    named = re.search(r"^([A-Za-z]+).*\b(\d{4})", paper)
    usual = f"{named[1].lower()}{named[2]}{words.split()[0]}" if named else slug.replace("_", "")
    facts = {
        "slug": slug,
        "slug_words": words,
        "label": slug.replace("_", "-"),
        "title": title,
        "family": family,
        "part": part,
        "caption": part.capitalize(),
        "paper": paper or "WRITE: authors and year",
        "year": named[2] if named else "WRITE:",
        "key": key or usual,
        "repository": repository_url().removeprefix("https://github.com/"),
        "setup": setup_cell(),
        "bullet": f"[{title}](../notebooks/{slug}.ipynb) WRITE: asks …",
        "row": f"| **{words}** | WRITE: | WRITE: | WRITE: |",
    }
    sections = {**_sections("chapter"), **_sections(kind), **facts}
    created = {
        f"{_PACKAGE}/{family}/{slug}.py": _filled("module", sections) + "\n",
        f"{_PACKAGE}/claims/{slug}.toml": _filled("claims", sections) + "\n",
        f"notebooks/{slug}.ipynb": notebook_text(_filled("notebook", sections), facts["label"]),
        f"tests/oracles/{slug}.py": _filled("oracle", sections) + "\n",
        f"tests/{family}/test_{slug}.py": _filled("test", sections) + "\n",
    }
    for name in created:
        if (root / name).exists():
            raise ValueError(f"slug: {slug!r} is taken, {name} exists")
    pages = wings.changed(root, facts, lambda name: _filled(name, sections))
    _write_all(root, {**created, **pages})
    return Written(tuple(created), tuple(pages))


def _write_all(root: Path, texts: dict[str, str]) -> None:
    """Write all files or, where one cannot be written, leave everything as it was."""
    before = {name: (root / name).read_bytes() if (root / name).is_file() else None for name in texts}
    written = []
    try:
        for name, text in texts.items():
            write_text(root / name, text)
            written.append(name)
    except OSError:
        for name in written:
            content = before[name]
            if content is None:
                (root / name).unlink()
            else:
                (root / name).write_bytes(content)
        raise


def _check(root: Path, slug: str, title: str, family: str, paper: str, key: str) -> None:
    if not all((root / name).is_file() for name in ("_toc.yml", "lib/pyproject.toml", "book/intro.md")):
        raise ValueError("new: the package is not in a clone of the book; clone it: git clone " + repository_url())
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", slug) or len(slug) > 40 or keyword.iskeyword(slug):
        raise ValueError(f"slug: {slug!r} is not a name such as 'my_paper', of at most 40 characters")
    if family not in FAMILIES:
        raise ValueError(f"family: {family!r} is not one of {', '.join(FAMILIES)}")
    if (root / _PACKAGE / family / slug).exists():
        raise ValueError(f"slug: {slug!r} is taken, {_PACKAGE}/{family}/{slug} exists")
    for name, text, longest in (("title", title, 80), ("paper", paper, 60)):
        if (
            len(text) > longest
            or re.search(r'["\\|`<>]', text)
            or not text.isprintable()
            or (name == "title" and not text.strip())
        ):
            raise ValueError(
                f'{name}: {text!r} is not one line of 1 to {longest} characters without any of " \\ | ` < >'
            )
    if key and not re.fullmatch(r"[a-z0-9]+", key):
        raise ValueError(f"cite: {key!r} is not a key such as 'yeom2021energy'")


def _sections(name: str) -> dict[str, str]:
    """Return the pieces of a template file by name; each begins with a line ``=== name``."""
    _, *pieces = re.split(r"^=== (\w+)\n", (_TEMPLATES / f"{name}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(pieces[::2], (text.rstrip("\n") for text in pieces[1::2]), strict=True))


def _filled(name: str, sections: dict[str, str]) -> str:
    """Return a piece with every ``<<name>>`` replaced by that piece, and so on."""
    return re.sub(r"<<(\w+)>>", lambda found: _filled(found[1], sections), sections[name])
