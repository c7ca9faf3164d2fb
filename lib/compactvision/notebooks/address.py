"""The repository's address, changed everywhere at once."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from compactvision.records.texts import read_text

_SOURCE = Path("lib") / "compactvision" / "_repository.py"
_ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9](?:[A-Za-z0-9-]{0,38}))/([A-Za-z0-9._-]{1,100})")
_END = r"(?![\w-])"


def _parts(url: str) -> tuple[str, str]:
    found = _ADDRESS.fullmatch(url)
    if not found or found[2] in (".", "..") or found[2].endswith(".git"):
        raise ValueError(f"url: {url!r} is not of the form https://github.com/OWNER/NAME, which Colab and Binder need")
    return found[1], found[2]


def set_repository(url: str, root: Path) -> list[Path]:
    """Write another repository address into every file of a working copy that holds the present one.

    Set-up cells, badges, ``_config.yml``, ``CITATION.cff`` and prose hold it as a web address, as the
    OWNER/NAME of Colab's and Binder's links, or as the address of the published pages.

    Parameters
    ----------
    url : str
        ``https://github.com/OWNER/NAME``; an ending of ``/`` or ``.git`` is dropped.
    root : Path
        Root of the working copy.

    Returns
    -------
    list of Path
        The files that changed, relative to the root.

    Raises
    ------
    ValueError
        If the address has another form, or the root is no working copy of the book.
    """
    owner, name = _parts(url.strip().rstrip("/").removesuffix(".git"))
    source = root / _SOURCE
    present = re.search(r'REPOSITORY = "([^"]+)"', read_text(source)) if source.is_file() else None
    if not present:
        raise ValueError(f"root: {_SOURCE.as_posix()} is not there; run this in a clone of the book")
    old_owner, old_name = _parts(present[1])
    old, new = re.escape(f"{old_owner}/{old_name}"), f"{owner}/{name}"
    rules = [
        (rf"((?:github\.com|githubusercontent\.com|/github|/gh)/){old}{_END}", rf"\g<1>{new}"),
        (
            rf"{re.escape(old_owner.lower())}\.github\.io/{re.escape(old_name)}{_END}",
            f"{owner.lower()}.github.io/{name}",
        ),
    ]
    changed = []
    for path in _files(root):
        try:
            text = (root / path).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        result = text
        for pattern, replacement in rules:
            result = re.sub(pattern, replacement, result)
        if result != text:
            (root / path).write_bytes(result.encode("utf-8"))
            changed.append(path)
    return changed


def _files(root: Path) -> list[Path]:
    """Return the files that git tracks or would track, relative to the root."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError("root: git knows no working copy here; run this in a clone of the book")
    names = sorted(set(done.stdout.split("\0")) - {""})
    return [Path(name) for name in names if (root / name).is_file() and not (root / name).is_symlink()]
