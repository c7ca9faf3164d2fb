"""Checks of arguments that the files of this package share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from compactvision import _checks as checks


def epochs(epoch: Any, epochs: Any) -> None:
    """Refuse an epoch that is none of a training of so many; ``epochs`` itself is its end."""
    checks.whole(epoch=epoch, epochs=epochs)
    if epochs < 1 or not 0 <= epoch <= epochs:
        raise ValueError(f"epoch must be between 0 and epochs (at least 1), got {epoch} and {epochs}")


def filters(weight: Any) -> None:
    """Refuse what holds no filters; values are not read."""
    checks.tensors(weight=weight)
    if weight.ndim < 2 or weight.numel() == 0:
        raise ValueError(f"weight must hold finite filters (c, ...), got shape {tuple(weight.shape)}")


def of_rule(weight: Any, epoch: Any, epochs_: Any, previous: Any) -> None:
    """Refuse what no rule can be called with."""
    filters(weight)
    epochs(epoch, epochs_)
    scores(previous, len(weight))


def scores(previous: Any, count: int) -> None:
    """Refuse scores of the epoch before that are not one a filter; None stands for the first epoch."""
    if previous is None:
        return
    checks.tensors(previous=previous)
    if previous.shape != (count,):
        raise ValueError(f"previous must have shape ({count},), one score a filter, got {tuple(previous.shape)}")


def given(found: Any, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mixing and scores that a rule gave, and refuse what is not that."""
    parts = found if isinstance(found, (tuple, list)) else (found,)
    shapes = [tuple(part.shape) if isinstance(part, Tensor) else None for part in parts]
    count = len(weight)
    if shapes != [(count, count), (count,)]:
        got = " and ".join(checks.shown(part) for part in parts)
        raise ValueError(f"rule must give tensors, mixing ({count}, {count}) and scores ({count},), got {got}")
    return parts[0], parts[1]


def widths(**values: Any) -> None:
    """Refuse what is no sequence of whole numbers."""
    for name, value in values.items():
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            raise ValueError(f"{name} must be a sequence of whole numbers, got {checks.shown(value)}")
        checks.whole(**{f"{name}[{index}]": each for index, each in enumerate(value)})


def layers(names: Any) -> list[str]:
    """Return names of layers as a list, and refuse what is none."""
    found = list(names) if isinstance(names, Iterable) and not isinstance(names, (str, bytes, Tensor)) else None
    if found is None or not all(isinstance(name, str) for name in found):
        raise ValueError(f"layers must be names of layers, got {checks.shown(names)}")
    return found


def diary(state: Any) -> None:
    """Refuse what :meth:`DynamicFusion.state_dict` did not return: a list with a dict of tensors for each epoch."""
    if not isinstance(state, Mapping) or set(state) != {"scores", "kept"}:
        raise ValueError(f'state must be a mapping with "scores" and "kept", got {checks.shown(state)}')
    for name, values in state.items():
        each = isinstance(values, (list, tuple)) and all(isinstance(epoch, Mapping) for epoch in values)
        if not each or not all(isinstance(found, Tensor) for epoch in values for found in epoch.values()):
            raise ValueError(f"state[{name!r}] must be a list of dicts of tensors, got {checks.shown(values)}")


def reach(x: Tensor, conv: Any) -> None:
    """Refuse images that are smaller, with their padding, than the kernel of a convolution."""
    padding = {"valid": (0, 0)}.get(conv.padding, conv.padding)
    if padding == "same":
        return
    least = [dilation * (kernel - 1) + 1 for dilation, kernel in zip(conv.dilation, conv.kernel_size, strict=True)]
    padded = [side + 2 * pad for side, pad in zip(x.shape[2:], padding, strict=True)]
    if padded[0] < least[0] or padded[1] < least[1]:
        raise ValueError(f"x must be at least {tuple(least)} pixels with its padding, got {tuple(padded)}")
