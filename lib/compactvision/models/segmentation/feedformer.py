"""FeedFormer's decoder: the coarse maps ask the finest one :cite:`shim2023feedformer`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.segmentation.blocks import QueryBlock
from compactvision.models.segmentation.heads import (
    SPARE_WIDTH,
    FuseHead,
    initialise_decoder_,
    refuse_channels,
    refuse_dropout,
    refuse_maps,
)


class FeedFormerHead(nn.Module):
    """Each map but the finest asks the finest one, pooled to its own grid; then all are fused.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse; at least two.
    num_classes : int
        Channels of the logits.
    heads : sequence of int, optional
        Attention heads of each level, fine to coarse; 1, 2, 5 and 8 for four levels, otherwise 1 by default. The first
        is not used.
    width : int, default 128
        Channels of the fused maps; the authors take 768 for B2.
    ratios : sequence of int, optional
        By how much the finest map is pooled for each level; 1, 2, 4, 8, ... by default. The first is not used.
    ffn_ratio : int, default 4
        Channels inside the feed-forward layers, as a multiple of a level's.
    drop_path, dropout : float, default 0.1
        Probabilities of a branch and of a channel to be left out in training.
    count_dead : bool, default False
        Hold the spare predictor of the official code, too, which never runs.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Examples
    --------
    >>> decoder = FeedFormerHead((8, 16), num_classes=3, width=12).eval()
    >>> decoder([torch.zeros(1, 8, 10, 10), torch.zeros(1, 16, 5, 5)]).shape
    torch.Size([1, 3, 10, 10])
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        heads: Sequence[int] | None = None,
        width: int = 128,
        ratios: Sequence[int] | None = None,
        ffn_ratio: int = 4,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        count_dead: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = refuse_channels(channels, 2)
        refuse_dropout(drop_path=drop_path)
        checks.flags(count_dead=count_dead)
        checks.counts(ffn_ratio=ffn_ratio)
        checks.generators(generator=generator)
        heads = one_each(heads, self.channels, heads_by_default(len(self.channels)), "heads")
        ratios = one_each(ratios, self.channels, [2**place for place in range(len(self.channels))], "ratios")
        self.blocks = nn.ModuleList(
            QueryBlock(each, self.channels[0], count, memory_pool=ratio, ffn_ratio=ffn_ratio, drop=drop_path)
            for each, count, ratio in zip(self.channels[1:], heads[1:], ratios[1:], strict=True)
        )
        self.head = FuseHead(self.channels, num_classes, width, dropout)
        if count_dead:
            self.dead_predictor = nn.Conv2d(SPARE_WIDTH, num_classes, 1)
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the pyramid, fine to coarse, to logits (B, num_classes, H_1, W_1)."""
        maps = refuse_maps(maps, self.channels, self)
        asked = [block(each, maps[0]) for block, each in zip(self.blocks, maps[1:], strict=True)]
        return self.head([maps[0], *asked])

    def weights(self, maps: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return the attention weights (B, heads, N_i, M) of the levels 2, 3, ...; keys are places of level 1."""
        maps = refuse_maps(maps, self.channels, self)
        found = {}
        for place, block in enumerate(self.blocks, start=2):
            assert isinstance(block, QueryBlock)
            found[place] = block.weights(maps[place - 1], maps[0])
        return found


def heads_by_default(levels: int) -> list[int]:
    """Return the heads of the published decoders where there are four levels, else one for each."""
    return [1, 2, 5, 8] if levels == 4 else [1] * levels


def one_each(values: Sequence[int] | None, channels: Sequence[int], otherwise: Sequence[int], name: str) -> list[int]:
    """Return one count for each level, or what stands for None."""
    if values is None:
        return list(otherwise)
    if not isinstance(values, (tuple, list)) or len(values) != len(channels):
        raise ValueError(
            f"{name} must have one number for each of the {len(channels)} levels, got {checks.shown(values)}"
        )
    checks.counts(**{f"{name}[{place}]": value for place, value in enumerate(values)})
    return list(values)
