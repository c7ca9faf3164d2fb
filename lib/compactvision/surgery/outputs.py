"""The tensors in what a network returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from torch import Tensor

_PLAIN = (str, bytes, int, float, complex, type(None))


def output_tensors(outputs: object) -> list[Tensor]:
    """Return the tensors of a network's output in order: from tuples, lists, mappings, dataclasses, plain objects.

    Raises
    ------
    ValueError
        If there is something in which tensors could hide, such as a generator or an object without attributes.
    """
    found: list[Tensor] = []
    _collect(outputs, found, set())
    return found


def _collect(value: object, found: list[Tensor], seen: set[int]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif not isinstance(value, _PLAIN) and id(value) not in seen:
        seen.add(id(value))
        for part in _parts(value):
            _collect(part, found, seen)


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (tuple, list, set, frozenset)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if hasattr(value, "__dict__") and not callable(value):
        return vars(value).values()
    raise ValueError(f"model: returns a {type(value).__name__}, in which surgery cannot look for tensors")
