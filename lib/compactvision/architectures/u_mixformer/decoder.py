"""The decoder: from coarse to fine, each level's encoder map asks the mix; then all are fused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.architectures.u_mixformer.looking import Look, look_at
from compactvision.architectures.u_mixformer.mixing import KeyValueMixer, Source, source_levels
from compactvision.models.segmentation.blocks import QueryBlock, refuse_map
from compactvision.models.segmentation.feedformer import heads_by_default, one_each
from compactvision.models.segmentation.heads import (
    SPARE_WIDTH,
    FuseHead,
    initialise_decoder_,
    refuse_channels,
    refuse_dropout,
    refuse_maps,
)


class UMixFormerHead(nn.Module):
    """U-MixFormer's decoder for a pyramid of any depth and widths.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse.
    num_classes : int
        Channels of the logits.
    heads : sequence of int, optional
        Attention heads of each level, fine to coarse; 1, 2, 5 and 8 for four levels, otherwise 1 by default.
    width : int, default 128
        Channels of the fused maps; the authors take 768 for B2 to B5.
    ratios : sequence of int, optional
        By how much each map is pooled for the mix, fine to coarse; ..., 8, 4, 2, 1 by default, times ``query_pool``.
    mixing : {"all", "near", "none"}, default "all"
        What keys and values are made of: all levels, a level and its neighbours, or the next coarser level alone.
    propagation : bool, default True
        Whether a refined map takes the place of the encoder's in the mixes after it.
    variant : {"official", "paper"}, default "official"
        Of the block, see :class:`~compactvision.models.segmentation.QueryBlock`.
    query_pool : int, optional
        2 for the decoder for Cityscapes, which asks from pooled places.
    ffn_ratio : int, default 4
        Channels inside the feed-forward layers, as a multiple of a level's.
    drop_path, dropout : float, default 0.1
        Probabilities of a branch and of a channel to be left out in training.
    count_dead : bool, default False
        Hold the weights, too, that the official decoder holds and never trains. They do not run.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If an argument does not fit; in ``forward`` if the maps are others, or not of one grid after pooling.

    Examples
    --------
    >>> decoder = UMixFormerHead((8, 12, 16), num_classes=3, width=12).eval()
    >>> maps = [torch.randn(1, 8, 12, 12), torch.randn(1, 12, 6, 6), torch.randn(1, 16, 3, 3)]
    >>> decoder(maps).shape
    torch.Size([1, 3, 12, 12])
    >>> finest = decoder.look(maps)[-1]
    >>> [(source.level, source.origin) for source in finest.sources]
    [(3, 'decoder'), (2, 'decoder'), (1, 'encoder')]
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        heads: Sequence[int] | None = None,
        width: int = 128,
        ratios: Sequence[int] | None = None,
        mixing: str = "all",
        propagation: bool = True,
        variant: str = "official",
        query_pool: int | None = None,
        ffn_ratio: int = 4,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        count_dead: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = refuse_channels(channels)
        levels = len(self.channels)
        checks.flags(propagation=propagation, count_dead=count_dead)
        checks.generators(generator=generator)
        checks.counts(ffn_ratio=ffn_ratio)
        refuse_dropout(drop_path=drop_path)
        if query_pool is not None:
            checks.counts(query_pool=query_pool)
        heads = one_each(heads, self.channels, heads_by_default(levels), "heads")
        coarsest = [(query_pool or 1) * 2 ** (levels - 1 - place) for place in range(levels)]
        ratios = one_each(ratios, self.channels, coarsest, "ratios")
        self.propagation = propagation
        self.taken = [source_levels(place + 1, levels, mixing) for place in range(levels)]
        self.mixers, self.blocks = nn.ModuleList(), nn.ModuleList()  # fine to coarse
        for width_here, count, taken in zip(self.channels, heads, self.taken, strict=True):
            mixer = KeyValueMixer([self.channels[j - 1] for j in taken], [ratios[j - 1] for j in taken])
            block = QueryBlock(
                width_here,
                sum(mixer.channels),
                count,
                query_pool=query_pool,
                variant=variant,
                ffn_ratio=ffn_ratio,
                drop=drop_path,
                count_dead=count_dead,
            )
            self.mixers.append(mixer)
            self.blocks.append(block)
        self.head = FuseHead(self.channels, num_classes, width, dropout)
        if count_dead:
            self.dead_predictor = nn.Conv2d(SPARE_WIDTH, num_classes, 1)
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the pyramid, fine to coarse, to logits (B, num_classes, H_1, W_1)."""
        return self.head(self.refine(maps))

    def refine(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the refined maps D_1, D_2, ..., each of the shape of the map that it comes from."""
        maps = refuse_maps(maps, self.channels, self)
        refined: dict[int, Tensor] = {}
        for level in self.order:
            refined[level] = self.blocks[level - 1](maps[level - 1], self.mix(level, maps, refined))
        return [refined[level] for level in sorted(refined)]

    @property
    def order(self) -> range:
        """Levels in the order in which they are refined, coarse to fine."""
        return range(len(self.channels), 0, -1)

    def mix(self, level: int, maps: Sequence[Tensor], refined: dict[int, Tensor]) -> Tensor:
        """Return the keys and values of a level (B, C, h, w), given the encoder's maps and what is refined so far."""
        maps = refuse_maps(maps, self.channels, self)
        self._refuse_level(level)
        checks.mappings(refined=refined)
        for j, each in refined.items():
            self._refuse_level(j, "refined (a level)")
            refuse_map(self.channels[j - 1], self, **{f"refined[{j}]": each})
        known = refined if self.propagation else {}
        return self.mixers[level - 1]([known.get(j, maps[j - 1]) for j in self.taken[level - 1]])

    def sources(self, level: int) -> tuple[Source, ...]:
        """Return where the channels of a level's mix come from, in their order."""
        self._refuse_level(level)
        found, start = [], 0
        for j in reversed(self.taken[level - 1]):
            origin = "decoder" if self.propagation and j > level else "encoder"
            found.append(Source(j, origin, slice(start, start + self.channels[j - 1])))
            start += self.channels[j - 1]
        return tuple(found)

    def _refuse_level(self, level: int, name: str = "level") -> None:
        checks.counts(**{name: level})
        if level > len(self.channels):
            raise ValueError(f"{name} must be at most {len(self.channels)}, got {level}")

    def look(self, maps: Sequence[Tensor]) -> list[Look]:
        """Return one :class:`~compactvision.architectures.u_mixformer.looking.Look` for each level, coarse to fine."""
        maps = refuse_maps(maps, self.channels, self)
        refined: dict[int, Tensor] = {}
        looks = []
        with torch.no_grad():
            for level in self.order:
                x, memory, block = maps[level - 1], self.mix(level, maps, refined), self.blocks[level - 1]
                assert isinstance(block, QueryBlock)
                looks.append(look_at(block, x, memory, level, self.sources(level)))
                refined[level] = block(x, memory)
        return looks
