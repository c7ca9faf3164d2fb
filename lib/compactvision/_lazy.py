"""Sub-packages that are imported when they are first used, and listed before."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy(
    package: str, names: Sequence[str], functions: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package whose sub-modules of these names load on first use.

    ``functions`` names functions that the package hands on, each with the sub-module that has it.
    """
    modules, functions = tuple(names), dict(functions or {})

    def load(name: str) -> Any:
        if name in functions:
            return getattr(importlib.import_module(f"{package}.{functions[name]}"), name)
        if name not in modules:
            known = ", ".join([*modules, *functions])
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {known}")
        return importlib.import_module(f"{package}.{name}")

    return load, lambda: sorted([*modules, *functions])
