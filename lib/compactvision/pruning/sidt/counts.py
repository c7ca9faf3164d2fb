"""Parameters and multiply-accumulates of transformer blocks in closed form, and of torchvision's Swin around them.

With ``q`` dimensions of queries over all heads, ``v`` of values, ``f`` of the MLP, ``a`` and ``m`` inputs that ``qkv``
and the MLP read of a stream of width ``d``, and ``N`` tokens a block has

- parameters ``(2q + v)(a + 1) + (v + 1) d + f (m + 1) + (f + 1) d + 4 d``, and ``(2M - 1)^2 h`` for Swin's biases;
- multiply-accumulates ``N (a (2q + v) + v d) + N^2 (q + v) + N (m f + f d)``. In windows of M x M the attention has
  ``N' M^2 (q + v)``, and the ``N'`` tokens of the map padded to whole windows also pass ``qkv`` and the projection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from compactvision import _checks as checks
from compactvision.models.head_sizes import padded_sizes
from compactvision.surgery import Block


@dataclass(frozen=True)
class BlockShape:
    """Sizes of one block.

    Attributes
    ----------
    width : int
        d.
    query_sizes, value_sizes : tuple of int
        Of each head; they add up to q and v.
    hidden : int
        f.
    attention_input, mlp_input : int
        a and m, at most d.
    window : tuple of int, optional
        Rows and columns, where attention is in windows.
    biases : tuple of bool
        Whether ``qkv``, the projection and the two layers of the MLP have biases.
    """

    width: int
    query_sizes: tuple[int, ...]
    value_sizes: tuple[int, ...]
    hidden: int
    attention_input: int
    mlp_input: int
    window: tuple[int, int] | None = None
    biases: tuple[bool, bool, bool, bool] = field(default=(True,) * 4)

    @classmethod
    def of(cls, block: Block) -> BlockShape:
        """Return the shape of a block that :func:`surgery.find_blocks` has found."""
        checks.instances(Block, block=block)
        sizes = {kind: site.sizes for kind, site in block.sites.items()}
        counts = (sizes[kind][0] for kind in ("hidden", "attention_input", "mlp_input"))
        return cls(block.width, sizes["qk"], sizes["v"], *counts, block.window, block.biases)

    @classmethod
    def dense(cls, width: int, heads: int, ratio: int = 4, window: int | None = None) -> BlockShape:
        """Return the shape of a block as published: heads of ``width / heads``, ``ratio * width`` hidden dimensions."""
        checks.counts(width=width, heads=heads, ratio=ratio)
        if width % heads:
            raise ValueError(f"heads must divide the width {width}, got {heads}")
        if window is not None:
            checks.counts(window=window)
        sizes = (width // heads,) * heads
        return cls(width, sizes, sizes, ratio * width, width, width, None if window is None else (window, window))

    @property
    def queries(self) -> int:
        """Dimensions of the queries over all heads, q."""
        return sum(self.query_sizes)

    @property
    def values(self) -> int:
        """Dimensions of the values over all heads, v."""
        return sum(self.value_sizes)


def uniform(shape: BlockShape, head: int, hidden: float, inputs: float = 1.0) -> BlockShape:
    """Return a dense block in which each head has ``head`` dimensions left, and shares of the rest, rounded.

    Parameters
    ----------
    shape : BlockShape
        The dense block.
    head : int
        Dimensions of queries and values in each head.
    hidden, inputs : float
        Shares of the hidden dimensions and of both inputs that stay, in (0, 1].

    Examples
    --------
    >>> uniform(BlockShape.dense(96, 3), 26, 0.8).hidden
    307
    """
    checks.instances(BlockShape, shape=shape)
    checks.counts(head=head)
    checks.finite(hidden=hidden, inputs=inputs)
    for name, share in (("hidden", hidden), ("inputs", inputs)):
        if not 0 < share <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {share}")
    sizes = (head,) * len(shape.value_sizes)
    read = round(inputs * shape.width)
    return replace(
        shape,
        query_sizes=sizes,
        value_sizes=sizes,
        hidden=round(hidden * shape.hidden),
        attention_input=read,
        mlp_input=read,
    )


def block_parameters(shape: BlockShape) -> int:
    """Return the parameters of a block with its two LayerNorms.

    Examples
    --------
    >>> block_parameters(BlockShape.dense(384, 6))  # of DeiT-S
    1774464
    """
    checks.instances(BlockShape, shape=shape)
    q, v, f, d = shape.queries, shape.values, shape.hidden, shape.width
    first, project, enter, leave = shape.biases
    attention = (2 * q + v) * (shape.attention_input + first) + (v + project) * d
    table = 0
    if shape.window is not None:
        table = (2 * shape.window[0] - 1) * (2 * shape.window[1] - 1) * len(shape.value_sizes)
    return attention + f * (shape.mlp_input + enter) + (f + leave) * d + 4 * d + table


def block_macs(shape: BlockShape, tokens: int | tuple[int, int], *, executed: bool = False) -> int:
    """Return the multiply-accumulates of a block for one image.

    Parameters
    ----------
    shape : BlockShape
        The block.
    tokens : int or tuple of int
        N, class token included; for windows the rows and columns of the map.
    executed : bool, default False
        Count heads of unequal sizes as they run, padded with zeros.

    Raises
    ------
    ValueError
        If ``shape`` is no shape of a block, or ``tokens`` does not fit it.

    Examples
    --------
    >>> block_macs(BlockShape.dense(384, 6), 197)
    378391296
    """
    checks.instances(BlockShape, shape=shape)
    checks.flags(executed=executed)
    q, v = shape.queries, shape.values
    if executed:
        q, v = (len(shape.value_sizes) * size for size in padded_sizes(shape.query_sizes, shape.value_sizes))
    inner, padded, seen = _tokens(shape, tokens)
    linear = padded * (shape.attention_input * (2 * q + v) + v * shape.width)
    return linear + padded * seen * (q + v) + inner * shape.hidden * (shape.mlp_input + shape.width)


def _tokens(shape: BlockShape, tokens: int | tuple[int, int]) -> tuple[int, int, int]:
    """Return the tokens of the MLP, those of the attention, and how many each of these sees."""
    if shape.window is None:
        checks.counts(tokens=tokens)
        return tokens, tokens, tokens
    if not isinstance(tokens, (tuple, list)) or len(tokens) != 2:
        raise ValueError(f"tokens must be rows and columns of the map, got {checks.shown(tokens)}")
    checks.counts(**{"tokens[0]": tokens[0], "tokens[1]": tokens[1]})
    padded = [-(-side // window) * window for side, window in zip(tokens, shape.window, strict=True)]
    return tokens[0] * tokens[1], padded[0] * padded[1], shape.window[0] * shape.window[1]


@dataclass(frozen=True)
class SwinShape:
    """A Swin of torchvision: widths double from stage to stage, and a merge of 2 x 2 places stands between.

    Attributes
    ----------
    width : int
        Of the first stage.
    depths, heads : tuple of int
        Blocks and heads of each stage.
    window, ratio, patch, num_classes : int
        Side of the windows, hidden over width, side of the patches, classes.
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int = 7
    ratio: int = 4
    patch: int = 4
    num_classes: int = 1000

    def blocks(self) -> tuple[BlockShape, ...]:
        """Return the dense blocks in order."""
        stages = enumerate(zip(self.depths, self.heads, strict=True))
        return tuple(
            BlockShape.dense(self.width * 2**stage, heads, self.ratio, self.window)
            for stage, (depth, heads) in stages
            for _ in range(depth)
        )


SWINS: Mapping[str, SwinShape] = {
    "swin_t": SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_s": SwinShape(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_b": SwinShape(128, (2, 2, 18, 2), (4, 8, 16, 32)),
}


def swin_parameters(shape: SwinShape, blocks: Sequence[BlockShape] | None = None) -> int:
    """Return the parameters of a Swin, dense or with the given blocks.

    Examples
    --------
    >>> swin_parameters(SWINS["swin_t"])
    28288354
    """
    blocks = _blocks(shape, blocks)
    stages, d = len(shape.depths), shape.width
    stem = (3 * shape.patch**2 + 1) * d + 2 * d
    merges = sum(4 * w * 2 * w + 2 * 4 * w for w in (d * 2**stage for stage in range(stages - 1)))
    last = d * 2 ** (stages - 1)
    return stem + merges + sum(map(block_parameters, blocks)) + 2 * last + (last + 1) * shape.num_classes


def swin_macs(
    shape: SwinShape,
    size: tuple[int, int] = (224, 224),
    blocks: Sequence[BlockShape] | None = None,
    *,
    executed: bool = False,
) -> int:
    """Return the multiply-accumulates of a Swin for one image of ``size``, dense or with the given blocks.

    Examples
    --------
    >>> swin_macs(SWINS["swin_t"])
    4490566656
    """
    blocks = list(_blocks(shape, blocks))
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size must be (height, width), got {checks.shown(size)}")
    checks.counts(**{"size[0]": size[0], "size[1]": size[1]})
    grid = size[0] // shape.patch, size[1] // shape.patch
    total = grid[0] * grid[1] * 3 * shape.patch**2 * shape.width
    for stage, depth in enumerate(shape.depths):
        if stage:
            grid = -(-grid[0] // 2), -(-grid[1] // 2)
            before = shape.width * 2 ** (stage - 1)
            total += grid[0] * grid[1] * 4 * before * 2 * before
        total += sum(block_macs(blocks.pop(0), grid, executed=executed) for _ in range(depth))
    return total + shape.width * 2 ** (len(shape.depths) - 1) * shape.num_classes


def _blocks(shape: SwinShape, blocks: Sequence[BlockShape] | None) -> Sequence[BlockShape]:
    checks.instances(SwinShape, shape=shape)
    dense = shape.blocks()
    if blocks is None:
        return dense
    if not isinstance(blocks, (tuple, list)) or len(blocks) != len(dense):
        raise ValueError(f"blocks must be {len(dense)} shapes of blocks, got {checks.shown(blocks)}")
    checks.instances(BlockShape, **{f"blocks[{place}]": block for place, block in enumerate(blocks)})
    return blocks
