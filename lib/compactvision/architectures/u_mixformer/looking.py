"""Who asks whom, and how much is taken from where: attention weights, split by the levels inside the mix.

Keys and values of U-MixFormer are places of *one* coarse grid; the levels stand side by side in their channels. So an
attention weight tells the place alone. What is taken from there is a sum over levels, for the value is linear in the
mix: ``v_m = sum_s W_v[:, s] z_m[s]`` with z the normalised mix behind GELU and s the channels of one level. A level's
share of a query is therefore measured by the attention weight times the length of that level's part of the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.architectures.u_mixformer.mixing import Source
from compactvision.models.attention import split_heads
from compactvision.models.segmentation.blocks import QueryBlock, Reduce, refuse_map

__all__ = ["Look", "look_at", "value_lengths"]


@dataclass(frozen=True)
class Look:
    """What the queries of one level look at.

    Attributes
    ----------
    level : int
        The level that asks; 1 is the finest.
    query_size, key_size : tuple of int
        Grids (H, W) of the N queries and of the M keys, row by row.
    weights : Tensor
        Attention weights (B, heads, N, M); each row sums to 1.
    shares : Tensor
        (B, S, N, M): what a query takes from source s at place m, as a share of all that it takes; for each query they
        sum to 1 over sources and places.
    sources : tuple of Source
        The S sources in the order of ``shares``.
    """

    level: int
    query_size: tuple[int, int]
    key_size: tuple[int, int]
    weights: Tensor
    shares: Tensor
    sources: tuple[Source, ...]

    def by_source(self) -> Tensor:
        """Return the share of each source for each query, (B, S, N)."""
        return self.shares.sum(dim=-1)


def look_at(block: QueryBlock, x: Tensor, memory: Tensor, level: int, sources: Sequence[Source]) -> Look:
    """Return what a block's queries look at.

    Parameters
    ----------
    block : QueryBlock
        Left as it is; no gradient is kept.
    x, memory : Tensor
        The map that asks, (B, C, H, W), and the mix, (B, C', h, w).
    level : int
        What the look is labelled with.
    sources : sequence of Source
        Slices of the mix, which cover it.

    Raises
    ------
    ValueError
        If an argument does not fit the block.
    """
    checks.counts(level=level)
    refuse_sources(block, sources)
    refuse_map(block.width, block, x=x)
    with torch.no_grad():
        weights = block.weights(x, memory)  # (B, h, N, M)
        lengths = value_lengths(block, memory, sources)  # (B, S, h, M)
        shares = torch.stack([(weights * each.unsqueeze(2)).sum(1) for each in lengths.unbind(1)], 1)  # (B, S, N, M)
        shares = shares / shares.sum(dim=(1, 3), keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)
    return Look(
        level, _grid(x, block.reduce_query), _grid(memory, block.reduce_memory), weights, shares, tuple(sources)
    )


def value_lengths(block: QueryBlock, memory: Tensor, sources: Sequence[Source]) -> Tensor:
    """Return the length of each source's part of the values, (B, S, heads, M); arguments as for :func:`look_at`."""
    refuse_sources(block, sources)
    asked = block.asked(memory)  # (B, M, C')
    of_values = block.attention.key_value.weight[block.width :]  # (width, C')
    parts = [asked[..., source.channels] @ of_values[:, source.channels].T for source in sources]  # (B, M, width) each
    return torch.stack([split_heads(part, block.attention.heads).norm(dim=-1) for part in parts], dim=1)


def refuse_sources(block: QueryBlock, sources: Sequence[Source]) -> None:
    """Refuse what is no block, or no sources that cover its memory."""
    checks.instances(QueryBlock, block=block)
    if not isinstance(sources, (tuple, list)) or not all(isinstance(source, Source) for source in sources):
        raise ValueError(f"sources must be a sequence of Source, got {checks.shown(sources)}")
    covered = [place for source in sources for place in range(*source.channels.indices(block.memory_width))]
    if sorted(covered) != list(range(block.memory_width)):
        raise ValueError(f"sources must cover the memory's {block.memory_width} channels once, got {len(covered)}")


def _grid(maps: Tensor, reduce: Reduce | None) -> tuple[int, int]:
    size = (maps.shape[2], maps.shape[3])
    return size if reduce is None else reduce.grid(size)
