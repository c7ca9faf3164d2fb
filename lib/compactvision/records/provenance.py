"""Where a result comes from: commit, versions, device and digests of the method's files."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import platform
import re
import subprocess
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from compactvision import _checks as checks
from compactvision.records.arguments import listed_texts
from compactvision.records.checks import is_slug
from compactvision.records.places import PACKAGE, claims_folder, notebooks_folder

DEVICE_KINDS = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Device:
    """The device of a run.

    Attributes
    ----------
    kind : str
        "cpu", "cuda" or "mps".
    name : str
        The processor's name as the system gives it.
    threads : int
        Threads that torch used on the CPU.
    """

    kind: str
    name: str
    threads: int


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"


def describe_device(kind: str) -> Device:
    """Describe the device that a run of this kind uses.

    Raises
    ------
    ValueError
        If the kind is none of "cpu", "cuda" and "mps", or is "cuda" where torch finds no card.
    """
    import torch

    if not isinstance(kind, str) or kind not in DEVICE_KINDS:
        raise ValueError(f"kind must be one of {', '.join(DEVICE_KINDS)}, got {kind!r:.80}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("kind is 'cuda', and torch finds no card on this machine")
    name = torch.cuda.get_device_name() if kind == "cuda" else _processor()
    return Device(kind, name, torch.get_num_threads())


def versions() -> dict[str, str]:
    """Return the versions of the package, Python, torch, torchvision and numpy, and of CUDA where there is one."""
    import numpy
    import torch

    import compactvision

    found = {
        "compactvision": compactvision.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": metadata.version("torchvision"),  # importing it would take seconds
        "numpy": str(numpy.__version__),
    }
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def commit(slug: str | None = None) -> tuple[str | None, bool]:
    """Return the commit of the package's working copy and whether its files differ from it.

    Code, weights and tables count; of claims and notebooks those of the chapter, if one is named: the experiment stands
    in them. Records do not.

    Where the package does not lie in a git working copy of its own, what ``COMPACTVISION_COMMIT`` says as
    :func:`sealed_commit` wrote it, checked against the files; ``(None, False)`` without it.

    Raises
    ------
    ValueError
        If ``COMPACTVISION_COMMIT`` says something else, or ``slug`` is no name of a chapter.
    """
    if slug is not None and not is_slug(slug):
        raise ValueError(f"slug: {checks.shown(slug)} is not the name of a chapter")
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        sealed = os.environ.get("COMPACTVISION_COMMIT", "").strip()
        if sealed and not re.fullmatch(r"[0-9a-f]{6,64}(:[0-9a-f]*)?", sealed):
            raise ValueError(f"COMPACTVISION_COMMIT is {sealed!r}, not a line that `queue commit` printed")
        name, _, seal = sealed.partition(":")
        return (name, seal != _seal()) if name else (None, False)
    name = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", ":(exclude,glob)records/*/*", ":(exclude,glob)claims/*.toml")
    return name, bool(changes) or (slug is not None and _chapter_differs(slug))


def _chapter_differs(slug: str) -> bool:
    folder = notebooks_folder()
    own = [claims_folder() / f"{slug}.toml", *([folder / f"{slug}.ipynb"] if folder else [])]
    inside = [str(path) for path in own if path.is_relative_to(PACKAGE.parent.parent)]  # another book has no commit
    return bool(inside) and bool(_git("status", "--porcelain", "--", *inside))


def sealed_commit() -> str:
    """Return the commit with a digest of the package's Python files, for a machine that gets the files without git.

    Raises
    ------
    ValueError
        If there is no git working copy, or files differ from their commit.
    """
    name, dirty = commit()
    if name is None or dirty:
        raise ValueError("commit: the package's files differ from a commit, or there is no git working copy")
    return f"{name}:{_seal()}"


def _seal() -> str:
    return text_digest((".",))[:16]


def method_files(files: tuple[str, ...]) -> list[Path]:
    """Return the Python files behind a chapter's ``files``, given relative to the package.

    Parameters
    ----------
    files : tuple of str
        Files ("measure/counts.py") or sub-packages ("measure"), which stand for all their Python files.

    Raises
    ------
    ValueError
        If they are no sequence of texts, or one of them does not exist or lies outside the package.
    """
    listed_texts(files=files)
    found: list[Path] = []
    for name in files:
        path = PACKAGE / name
        if ".." in path.parts or not path.is_relative_to(PACKAGE):
            raise ValueError(f"files: {name!r} lies outside compactvision")
        if os.path.isfile(path):  # false, where pathlib's raises, for a name that no system can hold
            found.append(path)
        elif os.path.isdir(path):
            found.extend(sorted(path.rglob("*.py")))
        else:
            raise ValueError(f"files: {name!r} is no file or sub-package of compactvision")
    return found


def text_digest(files: tuple[str, ...]) -> str:
    """Return a SHA-256 digest of the names and texts of a chapter's files, the same on every system.

    Line ends and white space at line ends do not count.
    """
    return _digest(files, lambda text: "\n".join(line.rstrip() for line in text.splitlines()).rstrip())


def method_digest(files: tuple[str, ...]) -> str:
    """Return a SHA-256 digest of the names and the code of a chapter's files, the same on every system.

    Comments, docstrings and blank lines do not count: a better word makes no result one of older code.
    """
    return _digest(files, _code_only)


@cache  # a scorecard asks for the same files at every claim
def _code_only(source: str) -> str:
    """Return a Python file without comments, docstrings and blank lines."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _digest(files: tuple[str, ...], essence: Callable[[str], str]) -> str:
    digest = hashlib.sha256()
    for path in method_files(files):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0")
        digest.update(essence(path.read_text(encoding="utf-8")).encode() + b"\0")
    return digest.hexdigest()
