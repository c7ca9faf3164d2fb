"""The decoder block in which one map asks another: FeedFormer and U-MixFormer are made of it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.attention import CrossAttention, MixFFN, drop_path, refuse_tokens, to_maps, to_tokens
from compactvision.models.layers import refuse_kind
from compactvision.models.segmentation.heads import enlarge, refuse_dropout


class Pool(nn.Module):
    """Average pooling by ``ratio`` whose last windows may be partial; such a window is averaged over what it holds.

    Parameters
    ----------
    ratio : int
        Side and stride of the windows; with 1 the map passes.
    """

    def __init__(self, ratio: int) -> None:
        super().__init__()
        checks.counts(ratio=ratio)
        self.ratio = ratio

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, ceil(H / ratio), ceil(W / ratio))."""
        if self.ratio == 1:
            return maps
        return F.avg_pool2d(maps, self.ratio, self.ratio, ceil_mode=True)


class Reduce(nn.Module):
    """Pool normalised tokens on their grid, then 1 x 1 convolution, LayerNorm and GELU: fewer tokens of equal width.

    Parameters
    ----------
    width : int
        Channels.
    ratio : int
        Of the pooling.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.pool = Pool(ratio)
        self.conv = nn.Conv2d(width, width, 1)
        self.norm = nn.LayerNorm(width)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the grid that one of ``size`` = (H, W) becomes."""
        ratio = self.pool.ratio
        return -(-size[0] // ratio), -(-size[1] // ratio)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) to (B, M, C)."""
        return F.gelu(self.norm(to_tokens(self.conv(self.pool(to_maps(tokens, size))))))


class QueryBlock(nn.Module):
    """A map asks a memory for what it lacks, and mixes what it got.

    With ``x`` the tokens of the map and ``y`` those of the memory, the official code computes ::

        x = LN(x);             x = x + attention(x, GELU(LN(y)))
        x = LN(x);             x = x + FFN(x)

    so that both sums start from *normalised* tokens. The paper's text normalises what the attention gives, not the sum:
    ``a = LN(attention(x, GELU(LN(y)))) + LN(x)``, then ``a + FFN(a)`` (``variant="paper"``). Parameters are the same.

    Parameters
    ----------
    width, memory_width : int
        Channels of the map and of the memory.
    heads : int, default 1
        Divides ``width``.
    memory_pool : int, optional
        The memory is pooled by so much, then convolved (1 x 1), normalised and passed through GELU (FeedFormer).
    query_pool : int, optional
        Queries are reduced in the same way, and the answers enlarged again; GELU on the memory follows a second
        LayerNorm then (the decoder for Cityscapes).
    variant : {"official", "paper"}, default "official"
        Where the second LayerNorm stands.
    ffn_ratio : int, default 4
        Channels inside the feed-forward layer, as a multiple of ``width``.
    drop : float, default 0.1
        Probability that an image leaves out a branch in training.
    count_dead : bool, default False
        Hold the weights, too, that the official code holds and that never get a gradient: a 1 x 1 convolution of the
        memory, and a LayerNorm unless ``query_pool`` uses it. They do not run.
    """

    def __init__(
        self,
        width: int,
        memory_width: int,
        heads: int = 1,
        *,
        memory_pool: int | None = None,
        query_pool: int | None = None,
        variant: str = "official",
        ffn_ratio: int = 4,
        drop: float = 0.1,
        count_dead: bool = False,
    ) -> None:
        super().__init__()
        checks.one_of(("official", "paper"), variant=variant)
        checks.flags(count_dead=count_dead)
        checks.counts(width=width, memory_width=memory_width, ffn_ratio=ffn_ratio)
        checks.counts(**{n: v for n, v in (("memory_pool", memory_pool), ("query_pool", query_pool)) if v is not None})
        refuse_dropout(drop=drop)
        if memory_pool is not None and query_pool is not None:
            raise ValueError(f"query_pool must be None where memory_pool is {memory_pool}, got {query_pool}")
        self.width, self.memory_width, self.variant = width, memory_width, variant
        self.attention = CrossAttention(width, memory_width, heads)
        self.norm_query = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(memory_width)
        self.norm_sum = nn.LayerNorm(width)
        self.ffn = MixFFN(width, ffn_ratio)
        self.drop = drop_path(drop)
        self.reduce_memory = None if memory_pool is None else Reduce(memory_width, memory_pool)
        self.reduce_query = None if query_pool is None else Reduce(width, query_pool)
        self.norm_again = None if query_pool is None else nn.LayerNorm(memory_width)
        if count_dead and memory_pool is None:
            self.dead_conv = nn.Conv2d(memory_width, memory_width, 1)
            if query_pool is None:
                self.dead_norm = nn.LayerNorm(memory_width)

    def asked(self, memory: Tensor) -> Tensor:
        """Return the tokens (B, M, memory_width) that keys and values are made of."""
        refuse_map(self.memory_width, self, memory=memory)
        tokens = self.norm_memory(to_tokens(memory))
        if self.reduce_memory is not None:
            return self.reduce_memory(tokens, _size(memory))
        return F.gelu(tokens if self.norm_again is None else self.norm_again(tokens))

    def asking(self, x: Tensor, normal: Tensor) -> Tensor:
        """Return the tokens (B, N, width) that queries are made of; ``normal`` are those of x behind its LayerNorm."""
        refuse_map(self.width, self, x=x)
        refuse_tokens(self.attention.query, normal=normal)
        if normal.shape[:2] != (len(x), x.shape[2] * x.shape[3]):
            raise ValueError(f"normal must have a token for each place of x, got {checks.shown(normal)}")
        if self.reduce_query is not None:
            return self.reduce_query(normal, _size(x))
        return normal if self.variant == "official" else to_tokens(x)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Map a map (B, width, H, W) and a memory (B, memory_width, h, w) to a map like the first."""
        normal = self._normal(x, memory)
        found = self.attention(self.asking(x, normal), self.asked(memory))
        if self.reduce_query is not None:
            found = to_tokens(enlarge(to_maps(found, self.reduce_query.grid(_size(x))), _size(x)))
        if self.variant == "official":
            tokens = self.norm_sum(normal + self.drop(found))
        else:
            tokens = normal + self.drop(self.norm_sum(found))
        return to_maps(tokens + self.drop(self.ffn(tokens, _size(x))), _size(x))

    def weights(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return the attention weights (B, heads, N, M) of :meth:`forward`."""
        return self.attention.weights(self.asking(x, self._normal(x, memory)), self.asked(memory))

    def _normal(self, x: Tensor, memory: Tensor) -> Tensor:
        refuse_map(self.width, self, x=x)
        refuse_map(self.memory_width, self, memory=memory)
        return self.norm_query(to_tokens(x))  # (B, N, width)


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[2], maps.shape[3]


def refuse_map(width: int, layer: nn.Module, **values: Tensor) -> None:
    """Refuse what is no map (B, width, H, W) of the type and on the device of a layer."""
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.ndim != 4 or value.shape[1] != width or 0 in value.shape:
            raise ValueError(f"{name} must be (B, {width}, H, W), got {checks.shown(value)}")
        refuse_kind(next(layer.parameters(), None), **{name: value})
