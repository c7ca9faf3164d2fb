"""The mixed keys and values: maps of several levels, pooled to one grid and put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.segmentation.blocks import Pool
from compactvision.models.segmentation.heads import refuse_channels, refuse_maps

MIXINGS = ("all", "near", "none")


@dataclass(frozen=True)
class Source:
    """Where a slice of the mixed channels comes from.

    Attributes
    ----------
    level : int
        1 is the finest.
    origin : str
        "encoder", or "decoder" where the level has been refined before.
    channels : slice
        Of the mix.
    """

    level: int
    origin: str
    channels: slice


def source_levels(level: int, levels: int, mixing: str = "all") -> tuple[int, ...]:
    """Return which levels a level's mix holds, fine to coarse, 1 the finest.

    ``"all"`` is the paper's, ``"near"`` takes a level and its neighbours, ``"none"`` the next coarser level alone (the
    coarsest level takes itself).

    Raises
    ------
    ValueError
        If ``level`` is not in 1..``levels`` or ``mixing`` is unknown.
    """
    checks.counts(level=level, levels=levels)
    checks.one_of(MIXINGS, mixing=mixing)
    if level > levels:
        raise ValueError(f"level must be at most levels={levels}, got {level}")
    if mixing == "all":
        return tuple(range(1, levels + 1))
    if mixing == "near":
        return tuple(range(max(level - 1, 1), min(level + 1, levels) + 1))
    return (min(level + 1, levels),)


class KeyValueMixer(nn.Module):
    """Pool each map to the coarsest grid, pass it through a 1 x 1 convolution, and put all side by side, coarse first.

    ``G_j = conv(pool_{r_j}(F_j))`` with average pooling whose partial windows at the edge are averaged over what they
    hold; a map whose ratio is 1 is taken as it is. The result is ``cat(G_L, ..., G_1)``.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    ratios : sequence of int
        By how much each is pooled.

    Raises
    ------
    ValueError
        If the sequences do not fit; in ``forward`` if pooled maps have unequal grids, which are told.

    Examples
    --------
    >>> mix = KeyValueMixer((4, 8), (2, 1))
    >>> mix([torch.zeros(1, 4, 9, 9), torch.zeros(1, 8, 5, 5)]).shape  # the last window of 9 holds one place
    torch.Size([1, 12, 5, 5])
    """

    def __init__(self, channels: Sequence[int], ratios: Sequence[int]) -> None:
        super().__init__()
        self.channels = refuse_channels(channels)
        if not isinstance(ratios, (tuple, list)) or len(ratios) != len(self.channels):
            count = len(self.channels)
            raise ValueError(f"ratios must have one number for each of the {count} maps, got {checks.shown(ratios)}")
        checks.counts(**{f"ratios[{place}]": ratio for place, ratio in enumerate(ratios)})
        self.ratios = tuple(ratios)
        self.pools = nn.ModuleList(Pool(ratio) for ratio in self.ratios)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 1) if ratio > 1 else nn.Identity()
            for width, ratio in zip(self.channels, self.ratios, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map a list of maps, fine to coarse, to one map (B, sum of channels, h, w)."""
        maps = refuse_maps(maps, self.channels, self)
        pooled = [pool(each) for pool, each in zip(self.pools, maps, strict=True)]
        grids = [tuple(each.shape[2:]) for each in pooled]
        if any(grid != grids[0] for grid in grids):
            found = ", ".join(
                f"{tuple(each.shape[2:])} / {ratio} -> {grid}"
                for each, ratio, grid in zip(maps, self.ratios, grids, strict=True)
            )
            raise ValueError(f"maps must have one grid after pooling (ceil(side / ratio)), got {found}")
        made = [conv(each) for conv, each in zip(self.convs, pooled, strict=True)]
        return torch.cat(made[::-1], dim=1)
