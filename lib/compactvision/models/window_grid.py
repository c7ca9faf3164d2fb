"""Windows of a map and back, as Swin has them (Liu et al. 2021): padding, cyclic shift, who may see whom."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
FORBIDDEN = -100.0  # added to the logit of two places that a shift brought together


def relative_index(rows: int, columns: int) -> Tensor:
    """Row of the table of biases for each two places of a window, (places * places,), int64."""
    row, column = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    down, right = row[:, None] - row[None], column[:, None] - column[None]
    return ((down + rows - 1) * (2 * columns - 1) + right + columns - 1).flatten()


def partitioned(x: Tensor, window: Pair, shift: Pair) -> tuple[Tensor, Pair, Pair]:
    """Cut a map (B, H, W, C) into windows (B * windows, places, C), after padding at its lower and right edge.

    Returns
    -------
    windows : Tensor
    grid : tuple of int
        Windows in a column and in a row.
    shifts : tuple of int
        The shift that was used: none on a side where a single window covers the map.
    """
    rows, columns = window
    x = F.pad(x, (0, 0, 0, -x.shape[2] % columns, 0, -x.shape[1] % rows))
    grid = x.shape[1] // rows, x.shape[2] // columns
    shifts = (shift[0] if grid[0] > 1 else 0, shift[1] if grid[1] > 1 else 0)
    if any(shifts):
        x = torch.roll(x, (-shifts[0], -shifts[1]), dims=(1, 2))
    x = x.reshape(x.shape[0], grid[0], rows, grid[1], columns, x.shape[3]).transpose(2, 3)
    return x.reshape(-1, rows * columns, x.shape[5]), grid, shifts


def joined(windows: Tensor, grid: Pair, window: Pair, shifts: Pair) -> Tensor:
    """Put windows (B * windows, places, C) together as a map (B, rows, columns, C); the inverse, padding included."""
    rows, columns = window
    x = windows.reshape(-1, *grid, rows, columns, windows.shape[2]).transpose(2, 3)
    x = x.reshape(x.shape[0], grid[0] * rows, grid[1] * columns, x.shape[5])
    return torch.roll(x, shifts, dims=(1, 2)) if any(shifts) else x


def added_mask(grid: Pair, window: Pair, shifts: Pair, like: Tensor) -> Tensor:
    """Return 0 where two places of a shifted window may see each other, else -100: (windows, places, places)."""
    parts = [_parts(*each, like.device) for each in zip(grid, window, shifts, strict=True)]
    region = 3 * parts[0][:, None, :, None] + parts[1][None, :, None, :]  # (rows, columns, M, M)
    region = region.reshape(-1, window[0] * window[1])
    apart = region.unsqueeze(1) != region.unsqueeze(2)
    return torch.where(apart, FORBIDDEN, 0.0).to(like.dtype)


def _parts(count: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Return the number of each place's part of a side, (count, window): a shift leaves strangers side by side."""
    place = torch.arange(count * window, device=device).reshape(count, window)
    last = (place >= (count - 1) * window).long()
    return last + (place >= count * window - shift).long() if shift else torch.zeros_like(place)
