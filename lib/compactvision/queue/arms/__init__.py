"""How each network of the list is trained, a file a chapter: a table ``ARMS`` of its arms by name."""

from __future__ import annotations

import importlib

from compactvision.queue.entries import Entry
from compactvision.queue.recipes import Arm


def find(entry: Entry) -> Arm:
    """Return the arm of an entry; ``ValueError`` where its chapter has none of this name."""
    module = f"{__name__}.{entry.slug}"
    try:
        arms = importlib.import_module(module).ARMS
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"entry: there is no table of arms for {entry.slug!r}") from None
    if entry.arm not in arms:
        raise ValueError(f"entry: {entry.slug!r} has no arm {entry.arm!r}; it has {', '.join(arms)}")
    return arms[entry.arm]
