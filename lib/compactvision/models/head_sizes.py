"""Sizes of attention heads that may be unequal, and where their rows stand once they are padded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compactvision import _checks as checks

MOST = 2**20  # rows of a layer, inputs that it selects from


def is_ragged(query_sizes: Sequence[int], value_sizes: Sequence[int]) -> bool:
    """Whether heads have unequal sizes, or no queries, so that they have to be padded."""
    return len({*query_sizes}) > 1 or len({*value_sizes}) > 1 or 0 in query_sizes


def padded_sizes(query_sizes: Sequence[int], value_sizes: Sequence[int]) -> tuple[int, int]:
    """Return the sizes of queries and of values that each head runs with.

    Ragged heads run with one size for both, as fused kernels want it: that of the largest, and from 16 on a multiple of
    4, since products with odd sizes take longer than those with a few zeros more.

    Examples
    --------
    >>> padded_sizes((24, 24), (32, 32)), padded_sizes((24, 17), (3, 26))
    ((24, 32), (28, 28))
    """
    if not is_ragged(query_sizes, value_sizes):
        return query_sizes[0], value_sizes[0]
    largest = max(*query_sizes, *value_sizes)
    return (largest if largest < 16 else -(-largest // 4) * 4,) * 2


def padded_places(sizes: Sequence[int], largest: int, start: int, nothing: int) -> Tensor:
    """Return the index of each row once heads are padded, (heads * largest,); ``nothing`` where there is none."""
    size = torch.tensor(sizes)
    place = torch.arange(largest)
    index = start + (size.cumsum(0) - size).unsqueeze(1) + place  # (heads, largest)
    return torch.where(place < size.unsqueeze(1), index, nothing).flatten()


def checked_sizes(sizes: Sequence[int], least: int, name: str) -> tuple[int, ...]:
    """Return sizes of heads; anything else is refused."""
    if not isinstance(sizes, (tuple, list)) or not 0 < len(sizes) <= MOST:
        raise ValueError(f"{name} must be a sequence of whole numbers, got {checks.shown(sizes)}")
    for place, size in enumerate(sizes):
        checks.whole(**{f"{name}[{place}]": size})
        if size < least:
            raise ValueError(f"{name}[{place}] must be at least {least}, got {size}")
    if max(sizes) * len(sizes) > MOST:
        raise ValueError(f"{name} must have at most {MOST} rows with padding, got {max(sizes) * len(sizes)}")
    return tuple(int(size) for size in sizes)


def checked_pair(pair: Sequence[int], least: int, name: str) -> tuple[int, int]:
    """Return two whole numbers; anything else is refused."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"{name} must be two whole numbers, got {checks.shown(pair)}")
    checks.whole(**{f"{name}[0]": pair[0], f"{name}[1]": pair[1]})
    if min(pair) < least:
        raise ValueError(f"{name} must be at least {least}, got {tuple(pair)}")
    return int(pair[0]), int(pair[1])
