"""Text files, read whole or refused with a line that names them, and written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 2**26  # bytes of a claim file, a record or a notebook


def read_text(path: Path, where: str | None = None) -> str:
    """Return the text of a file.

    Parameters
    ----------
    path : Path
    where : str, optional
        What messages call it; its name by default.

    Raises
    ------
    ValueError
        If it is no file, holds more than ``LARGEST`` bytes, or is not UTF-8.
    OSError
        If it is not there or cannot be read.
    """
    where = where or path.name
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{where}: it is no file")
    if size > LARGEST:
        raise ValueError(f"{where}: it has {size:,} bytes; at most {LARGEST:,} are read")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text: {error}") from None


def parse_json(text: str, where: str) -> Any:
    """Return what JSON text holds; ``ValueError`` naming ``where`` if it is none, or nested too deep to be read."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"{where}: not JSON: it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill or a full disk leaves either the old file or the new one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
