"""Where the channels of a tensor are after a function that only moves numbers, such as a view or a transposition.

The function is asked itself: it is called on a tensor of the same shape that holds, at each place, the index of its
channel. What comes out says along which dimension the channels lie now, if along one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Place = tuple[int, list[int]]
"""Dimension along which channels lie, and the index of the former channel at each of its places."""

_TURNING_NAMES = (
    "flatten unflatten view reshape squeeze unsqueeze permute transpose movedim moveaxis swapaxes swapdims t T mT "
    "expand"
)
_PICKING_NAMES = "getitem narrow select chunk split split_with_sizes tensor_split unbind flip roll repeat tile"
TURNING = frozenset(_TURNING_NAMES.split())
"""Functions that arrange all numbers anew; a dimension may become part of another."""
PICKING = frozenset(_PICKING_NAMES.split())
"""Functions that pick, order or repeat numbers along dimensions: right for any width if no channel is touched."""


def moved(
    name: str, func: Callable, source: Tensor, axis: int, args: tuple, kwargs: dict, results: Sequence[Tensor]
) -> list[Place] | None:
    """Return the place of the channels in each result, or None where they do not lie along one dimension.

    Parameters
    ----------
    name : str
        Of the function, one of ``TURNING`` or ``PICKING``.
    func : callable
        The function.
    source : Tensor
        Its first argument, with channels along ``axis``.
    args, kwargs
        All that it was called with.
    results : sequence of Tensor
        What it gave.
    """
    channels = source.shape[axis]
    given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if len(given) != 1 or source.numel() == 0 or (name == "getitem" and not _plain(args[1])):
        return None
    indices = torch.empty_like(source, dtype=torch.long, device="cpu", requires_grad=False)  # with the same strides
    indices.copy_(torch.arange(channels).view([-1 if dim == axis else 1 for dim in range(source.ndim)]))
    again = pytree.tree_map(lambda leaf: indices if leaf is source else leaf, (args, kwargs))
    try:
        found = func(*again[0], **again[1])
    except (RuntimeError, ValueError, TypeError):  # as a view of other types or strides
        return None
    parts = list(found) if isinstance(found, (tuple, list)) else [found]
    places = [_place(part) if channels > 1 else _single(part, axis) for part in parts]
    if len(parts) != len(results) or any(place is None for place in places):
        return None
    if name in PICKING and any(place[1] != list(range(channels)) for place in places):
        return None
    return places


def _plain(key: object) -> bool:
    """Return whether an index consists of whole numbers and ranges."""
    keys = key if isinstance(key, tuple) else (key,)
    return all(type(each) in (int, slice, type(None), type(Ellipsis)) for each in keys)


def _place(indices: Tensor) -> Place | None:
    """Return the only dimension along which the entries differ, and the entries along it."""
    differ = [dim for dim in range(indices.ndim) if (indices != indices.narrow(dim, 0, 1)).any()]
    if len(differ) != 1:
        return None
    line = indices.movedim(differ[0], 0).flatten(1)[:, 0]
    return differ[0], line.tolist()


def _single(indices: Tensor, axis: int) -> Place | None:
    """Return a place for the only channel there is: every entry is of it."""
    dim = axis if axis < indices.ndim and indices.shape[axis] == 1 else 1
    return (dim, [0] * indices.shape[dim]) if dim < indices.ndim else None
