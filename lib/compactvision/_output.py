"""The command line's output: lines on stderr, and what happens where stdout cannot take what is written."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

CLOSED_PIPE = 141  # what a shell says of a program that SIGPIPE ended


def tell(error: object, status: int) -> int:
    """Print one line on stderr, and return the exit status."""
    with suppress(OSError):
        sys.stderr.write(f"compactvision: {' '.join(str(error).split())}\n")
    return status


def flush() -> None:
    """Hand on what stdout holds; ``OSError`` where it cannot be written."""
    if sys.stdout is not None:
        sys.stdout.flush()


def drop() -> None:
    """Let what stdout still holds go nowhere, so that Python has nothing to complain about at its end."""
    try:
        flush()
    except OSError:
        with suppress(OSError, ValueError):  # a stream without a descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
