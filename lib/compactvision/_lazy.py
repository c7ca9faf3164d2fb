"""Sub-packages that are imported when they are first used, and listed before."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType


def lazy(package: str, names: Sequence[str]) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package whose sub-modules of these names load on first use."""

    def load(name: str) -> ModuleType:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(names)}")
        return importlib.import_module(f"{package}.{name}")

    return load, lambda: sorted(names)
