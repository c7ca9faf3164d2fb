"""What authors still have to write: the places where a skeleton says so."""

from __future__ import annotations

import re
from pathlib import Path

from compactvision.records.texts import read_text

_ROOMS = {
    "notebooks": ("ipynb",),
    "book": ("md", "bib"),
    "tests": ("py",),
    "lib/compactvision": ("py", "toml"),
}
_SKIPPED = {"skeleton", "generated", "__pycache__", ".ipynb_checkpoints"}
_MARK = re.compile(r"\bWRITE:[^\\\n]{0,60}")


def unwritten(root: Path) -> list[str]:
    """Return the places of a clone that say ``WRITE:``, as "path:line: words"."""
    found = []
    for room, kinds in _ROOMS.items():
        for path in sorted((root / room).rglob("*")):
            inside = path.relative_to(root)
            if path.suffix[1:] not in kinds or _SKIPPED & set(inside.parts):
                continue
            for number, line in enumerate(read_text(path).splitlines(), start=1):
                found += [f"{inside.as_posix()}:{number}: {words}" for words in _MARK.findall(line)]
    return found
