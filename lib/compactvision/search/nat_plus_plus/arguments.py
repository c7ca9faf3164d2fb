"""Checks of arguments that several files of the paper share."""

from __future__ import annotations

from collections.abc import Callable

from compactvision import _checks as checks


def ruled(rule: Callable, name: str, operations: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a rule allows; ``ValueError`` where it gives something else than some of the operations."""
    found = rule(name, operations)
    if not isinstance(found, (tuple, list)) or not found or not all(other in operations for other in found):
        raise ValueError(f"rule must give some of the operations, got {checks.shown(found)}")
    return tuple(found)
