"""Self-attention inside windows of a map, with heads that may have unequal sizes (Liu et al. 2021).

Where dimensions of single heads have been cut, heads are ragged. They are padded with zeros to the largest, so that all
run as one batch: a zero adds nothing to ``q k^T``, and a padded column of the values is dropped. The softmax keeps the
scale that the heads had before the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import refuse_kind


def pad_heads(columns: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return columns (B, N, sum of sizes) as heads (B, h, N, largest size), zeros behind the shorter ones.

    Raises
    ------
    ValueError
        If ``sizes`` are no counts or do not add up to the columns.

    Examples
    --------
    >>> pad_heads(torch.tensor([[[1.0, 2.0, 3.0]]]), (1, 2))
    tensor([[[[1., 0.]],
    <BLANKLINE>
             [[2., 3.]]]])
    """
    sizes = _sizes(sizes, "sizes")
    if (
        not isinstance(columns, Tensor)
        or columns.layout != torch.strided
        or columns.ndim != 3
        or columns.shape[2] != sum(sizes)
    ):
        raise ValueError(f"columns must be (B, N, {sum(sizes)}), got {checks.shown(columns)}")
    largest = max(sizes)
    if len(set(sizes)) == 1:
        return columns.unflatten(2, (len(sizes), largest)).transpose(1, 2)
    parts = [F.pad(part, (0, largest - part.shape[2])) for part in columns.split(sizes, dim=2)]
    return torch.stack(parts, dim=1)


def unpad_heads(heads: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return heads (B, h, N, largest size) as columns (B, N, sum of sizes), the inverse of :func:`pad_heads`."""
    sizes = _sizes(sizes, "sizes")
    dense = isinstance(heads, Tensor) and heads.layout == torch.strided
    if not dense or heads.ndim != 4 or heads.shape[1] != len(sizes) or heads.shape[3] < max(sizes):
        raise ValueError(f"heads must be (B, {len(sizes)}, N, {max(sizes)}), got {checks.shown(heads)}")
    return torch.cat([heads[:, place, :, :size] for place, size in enumerate(sizes)], dim=2)


class WindowAttention(nn.Module):
    """Each window of a map attends to itself; sizes of queries and values are free for each head.

    The map (B, H, W, C) is padded with zeros at the lower and right edge to whole windows, shifted by ``shift`` where
    it is larger than a window (and places that were not neighbours do not see each other then), and attends with a
    learned bias for each relative position. With equal heads this is torchvision's ``ShiftedWindowAttention``.

    Parameters
    ----------
    width : int
        C.
    window : int
        Side of the windows.
    query_sizes, value_sizes : sequence of int
        For each head the dimensions of queries (and keys), and of values.
    scale : float, optional
        Factor of ``q k^T``; ``1 / sqrt(width / heads)`` by default, whatever is left of the heads.
    shift : int, default 0
        In rows and columns, below ``window``.
    bias : bool, default True
        Whether queries, keys and values have biases; the last layer always has.

    Raises
    ------
    ValueError
        If an argument is no count, the sequences differ in length, or ``shift`` is not below ``window``; in ``forward``
        if the map is no (B, H, W, C).

    Examples
    --------
    >>> attention = WindowAttention(8, 4, query_sizes=(4, 2), value_sizes=(4, 3))
    >>> attention(torch.zeros(1, 6, 9, 8)).shape
    torch.Size([1, 6, 9, 8])
    """

    def __init__(
        self,
        width: int,
        window: int,
        query_sizes: Sequence[int],
        value_sizes: Sequence[int],
        *,
        scale: float | None = None,
        shift: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        checks.counts(width=width, window=window)
        checks.whole(shift=shift)
        checks.flags(bias=bias)
        if not 0 <= shift < window:
            raise ValueError(f"shift must be from 0 to below the window {window}, got {shift}")
        self.query_sizes, self.value_sizes = _sizes(query_sizes, "query_sizes"), _sizes(value_sizes, "value_sizes")
        if len(self.query_sizes) != len(self.value_sizes):
            raise ValueError(f"value_sizes must have {len(self.query_sizes)} heads, got {len(self.value_sizes)}")
        if scale is not None:
            checks.finite(scale=scale)
        self.width, self.window, self.shift, self.heads = width, window, shift, len(self.query_sizes)
        self.scale = (width / self.heads) ** -0.5 if scale is None else float(scale)
        self.query = nn.Linear(width, sum(self.query_sizes), bias=bias)
        self.key = nn.Linear(width, sum(self.query_sizes), bias=bias)
        self.value = nn.Linear(width, sum(self.value_sizes), bias=bias)
        self.project = nn.Linear(sum(self.value_sizes), width)
        self.position = nn.Parameter(torch.zeros((2 * window - 1) ** 2, self.heads))
        self.register_buffer("index", _relative(window), persistent=False)
        if not self.position.is_meta:
            nn.init.trunc_normal_(self.position, std=0.02)

    index: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[3] != self.width or 0 in x.shape:
            raise ValueError(f"x must be (B, H, W, {self.width}), got {checks.shown(x)}")
        refuse_kind(self.query.weight, x=x)
        batch, height, width, side = x.shape[0], x.shape[1], x.shape[2], self.window
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        shifts = (self.shift if rows > 1 else 0, self.shift if columns > 1 else 0)
        x = torch.roll(x, (-shifts[0], -shifts[1]), dims=(1, 2))
        x = x.reshape(batch, rows, side, columns, side, self.width).transpose(2, 3)
        x = x.reshape(-1, side**2, self.width)  # (B * windows, M * M, C)
        found = F.scaled_dot_product_attention(
            pad_heads(self.query(x), self.query_sizes),
            pad_heads(self.key(x), self.query_sizes),
            pad_heads(self.value(x), self.value_sizes),
            attn_mask=self._added((rows, columns), shifts, batch).to(x.dtype),
            scale=self.scale,
        )
        x = self.project(unpad_heads(found, self.value_sizes))
        x = x.reshape(batch, rows, columns, side, side, self.width).transpose(2, 3)
        x = x.reshape(batch, rows * side, columns * side, self.width)
        return torch.roll(x, shifts, dims=(1, 2))[:, :height, :width]

    def _added(self, grid: tuple[int, int], shifts: tuple[int, int], batch: int) -> Tensor:
        """Return what is added to ``q k^T``, (1 or B * windows, heads, M * M, M * M)."""
        bias = self.position[self.index.flatten()].unflatten(0, self.index.shape).permute(2, 0, 1)  # (heads, MM, MM)
        if shifts == (0, 0):
            return bias.unsqueeze(0)
        part = [_parts(count, self.window, shift, self.index.device) for count, shift in zip(grid, shifts, strict=True)]
        region = part[0][:, None, :, None] * 3 + part[1][None, :, None, :]  # (rows, columns, M, M)
        region = region.reshape(-1, self.window**2)
        apart = region.unsqueeze(1) != region.unsqueeze(2)  # (windows, MM, MM)
        added = bias.unsqueeze(0).masked_fill(apart.unsqueeze(1), -math.inf)
        return added.repeat(batch, 1, 1, 1)


def _parts(count: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Return the number of each place's part of a side, (windows, window): a shift leaves strangers side by side."""
    place = torch.arange(count * window, device=device).reshape(count, window)
    if shift == 0:
        return torch.zeros_like(place)
    return (place >= (count - 1) * window).long() + (place >= count * window - shift).long()


def _relative(window: int) -> Tensor:
    """Index of the relative position of two places of a window, (M * M, M * M)."""
    side = torch.arange(window)
    row, column = side.repeat_interleave(window), side.repeat(window)
    down, right = row[:, None] - row[None], column[:, None] - column[None]
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def _sizes(sizes: Sequence[int], name: str) -> tuple[int, ...]:
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise ValueError(f"{name} must be a sequence of whole numbers, got {checks.shown(sizes)}")
    checks.counts(**{f"{name}[{place}]": size for place, size in enumerate(sizes)})
    return tuple(sizes)
