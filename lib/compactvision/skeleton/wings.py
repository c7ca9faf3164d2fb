"""The pages that name every chapter: each gets one more entry, or is begun with its part or family."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from compactvision.claims.schema import PARTS
from compactvision.records.texts import read_text

_API_PAGES = {"pruning": "methods"}  # others are called after their family


def changed(root: Path, facts: Mapping[str, str], piece: Callable[[str], str]) -> dict[str, str]:
    """Return the new texts of the pages that list a chapter, by path relative to the clone; nothing is written.

    Parameters
    ----------
    root : Path
        The clone.
    facts : mapping of str to str
        Slug, title, family, part, caption, key, bullet and row of the chapter.
    piece : callable
        From the name of a template to its text, for pages that do not exist yet.

    Raises
    ------
    ValueError
        If a page is not as expected.
    """
    slug, family, part = facts["slug"], facts["family"], facts["part"]
    method, page = f"compactvision.{family}.{slug}", _API_PAGES.get(family, family)
    package = "lib/compactvision"
    texts: dict[str, str] = {}

    def edit(name: str, change: Callable[[str], str], begin: str = "") -> None:
        path = root / name
        if not begin and not path.is_file():
            raise ValueError(f"new: {name} is missing")
        text = texts.get(name) or (read_text(path, name) if path.is_file() else piece(begin) + "\n")
        try:
            result = change(text)
        except LookupError as error:
            raise ValueError(f"new: {name} is not as expected, {error.args[0]}") from None
        if result != text or not path.is_file():
            texts[name] = result

    if not (root / f"{package}/{family}/__init__.py").is_file():
        edit(f"{package}/__init__.py", lambda text: exported(text, family))
    edit(f"{package}/{family}/__init__.py", lambda text: exported(text, slug), begin="init")
    edit("lib/pyproject.toml", lambda text: in_contract(text, method))
    edit("_toc.yml", lambda text: in_contents(text, slug, part))
    edit("book/intro.md", lambda text: on_cover(text, facts))
    if (root / f"book/{part}.md").is_file():
        edit(f"book/{part}.md", lambda text: in_opener(text, part, facts["bullet"]))
        edit(f"book/{part}-cheat-sheet.md", lambda text: on_sheet(text, facts))
    else:
        edit(f"book/{part}.md", str, begin="opener")
        edit(f"book/{part}-cheat-sheet.md", str, begin="sheet")
    if not (root / f"book/api/{page}.md").is_file():
        edit("_toc.yml", lambda text: _behind(text, r" *- file: book/api/explanation\n", _section(page)))
        edit("book/api.md", lambda text: _behind(text, r"\(api/explanation\.md\)", f", [{family}](api/{page}.md)"))
    edit(f"book/api/{page}.md", lambda text: in_reference(text, method), begin="api")
    edit("book/references.bib", lambda text: text if f"{{{facts['key']}," in text else text + piece("bib") + "\n")
    return texts


def _behind(text: str, pattern: str, addition: str) -> str:
    """Return the text with an addition behind the only place where the pattern is found."""
    found = list(re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL))
    if len(found) != 1:
        raise LookupError(f"{pattern!r} is there {len(found)} times")
    return text[: found[0].end()] + addition + text[found[0].end() :]


def _section(page: str) -> str:
    return f"          - file: book/api/{page}\n"


def in_contents(toc: str, slug: str, part: str) -> str:
    """Return ``_toc.yml`` with a chapter at the end of its part, which is begun where it is not there yet."""
    line = f"      - file: notebooks/{slug}\n"
    if f"- caption: {part.capitalize()}\n" in toc:
        heading = (
            rf"^  - caption: {part.capitalize()}\n(?:(?!  - caption:)(?! *- file: book/{part}-cheat-sheet)[^\n]*\n)*"
        )
        return _behind(toc, heading, line)
    begun = (
        f"  - caption: {part.capitalize()}\n    numbered: true\n    chapters:\n"
        f"      - file: book/{part}\n{line}      - file: book/{part}-cheat-sheet\n"
    )
    later = [name.capitalize() for name in PARTS[PARTS.index(part) + 1 :]]
    next_part = next((name for name in later if f"- caption: {name}\n" in toc), "What was checked")
    return _behind(toc, rf"(?=^  - caption: {next_part}\n)", begun)


def on_cover(page: str, facts: Mapping[str, str]) -> str:
    """Return the cover with a chapter linked in its part's card, no longer among the planned ones there."""
    card = re.search(
        rf"\{{grid-item-card\}} {facts['caption']}\n.*?:::\{{card-footer\}}\n(.*?)\n:::", page, flags=re.DOTALL
    )
    if card is None:
        raise LookupError(f"it has no card {facts['caption']!r} with a footer")
    standing, _, planned = card[1].partition("*planned:*")
    cite = f"{{cite}}`{facts['key']}`"
    left = [item.strip() for item in re.split(r"(?<=`),", planned) if item.strip() and cite not in item]
    link = f"[{facts['title']}](../notebooks/{facts['slug']}.ipynb)\n{cite}"
    parts = [text.rstrip("; \n") for text in (standing, link) if text.strip()]
    if left:
        parts.append("*planned:* " + ", ".join(left).removeprefix("and "))
    return page[: card.start(1)] + "; ".join(parts) + page[card.end(1) :]


def in_opener(page: str, part: str, bullet: str) -> str:
    """Return a part's opening page with a chapter at the end of the list in front of the link to the cheat sheet."""
    head, last = _split(page, f"({part}-cheat-sheet.md)")
    listed = head.rstrip("\n").rsplit("\n", 1)[-1].startswith("* ")
    return head.rstrip("\n") + ("\n" if listed else "\n\n") + f"* {bullet}\n\n" + last


def on_sheet(page: str, facts: Mapping[str, str]) -> str:
    """Return a cheat sheet with a chapter among its links and as the last row of its first table."""
    links = r"Chapters: [^\n]*?\.ipynb\)(?: \{cite:p\}`\w+`)?(?=[.;]|\*$)"
    page = _behind(page, links, f", [{facts['slug_words']}](../notebooks/{facts['slug']}.ipynb)")
    table = re.search(r"^\|[^\n]*\n\|[-| ]+\n(?:\|[^\n]*\n)+", page, flags=re.MULTILINE)
    if table is None:
        raise LookupError("it has no table")
    cells = table[0].splitlines()[1].count("|") - 1
    row = f"| **{facts['slug_words']}** |" + " WRITE: |" * (cells - 1) + "\n"
    return page[: table.end()] + row + page[table.end() :]


def in_reference(page: str, method: str) -> str:
    """Return a page of the reference with a module at its end."""
    head, fence = _split(page, "```\n", last=True)
    space = "" if head.endswith("{eval-rst}\n") else "\n"
    return f"{head}{space}.. automodule:: {method}\n   :members:\n{fence}"


def in_contract(project: str, method: str) -> str:
    """Return ``lib/pyproject.toml`` with a module among the papers that are kept apart.

    Where the family has a contract of its own floors, the module stands beside the other papers on its highest.
    """
    modules = re.search(r'type = "independence"\nmodules = \[\n((?:    "[\w.]+",\n)*)\]', project)
    if modules is None:
        raise LookupError("its contract of independence has no list of modules")
    lines = sorted({*modules[1].splitlines(keepends=True), f'    "{method}",\n'})
    project = project[: modules.start(1)] + "".join(lines) + project[modules.end(1) :]
    family, slug = method.rsplit(".", 1)
    floors = rf'containers = \["{re.escape(family)}"\]\n(?:\w[^\n]*\n)*?layers = \[\n    "[^"\n]*(?=")'
    return _behind(project, floors, f" | {slug}") if f'containers = ["{family}"]' in project else project


def exported(source: str, name: str) -> str:
    """Return a package's ``__init__`` with one more name in ``__all__``."""
    names = re.search(r"^__all__ = \[(.*?)\]", source, flags=re.DOTALL | re.MULTILINE)
    if names is None:
        raise LookupError("it has no list __all__")
    every = sorted({*re.findall(r'"(\w+)"', names[1]), name})
    flat = ", ".join(f'"{one}"' for one in every)
    tall = "\n" + "".join(f'    "{one}",\n' for one in every)
    text = flat if "\n" not in names[1] and len(flat) < 105 else tall
    return source[: names.start(1)] + text + source[names.end(1) :]


def _split(text: str, words: str, *, last: bool = False) -> tuple[str, str]:
    """Return a text up to the line with these words, and from that line on."""
    place = text.rfind(words) if last else text.find(words)
    if place < 0:
        raise LookupError(f"{words.strip()!r} is not there")
    begin = text.rfind("\n", 0, place) + 1
    return text[:begin], text[begin:]
