"""Arguments of the functions on records; apart from ``compactvision._checks``, which would load torch for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def texts(**values: Any) -> None:
    """Refuse what is no text."""
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a text, got {value!r:.80}")


def path_from(path: Any) -> Path:
    """Return the path of a file; ``ValueError`` for what is none."""
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise ValueError(f"path must be the path of a file, got {path!r:.80}")
    return Path(path)


def instances(kind: type, **values: Any) -> None:
    """Refuse what is of another class."""
    for name, value in values.items():
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be of class {kind.__name__}, got {value!r:.80}")


def listed_texts(**values: Any) -> None:
    """Refuse what is no sequence of texts; a single text is none."""
    for name, value in values.items():
        listed = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        if not listed or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name} must be a sequence of texts, got {value!r:.80}")
