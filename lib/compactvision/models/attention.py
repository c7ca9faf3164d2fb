"""Attention for images: heads, cross-attention, attention with reduced keys, and the feed-forward layer between.

Tokens are (B, N, C) with ``N = H * W``, row by row; maps are (B, C, H, W). Heads split the channels in order: head
``j`` of ``h`` has channels ``j * C / h`` to ``(j + 1) * C / h`` (Vaswani et al. 2017). What is computed is
always :func:`~torch.nn.functional.scaled_dot_product_attention`; the weights themselves, which that function does not
give, are computed only where they are asked for.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from compactvision import _checks as checks
from compactvision.models.layers import refuse_kind

__all__ = [
    "CrossAttention",
    "MixFFN",
    "SpatialReductionAttention",
    "attention_weights",
    "drop_path",
    "initialise_attention_",
    "merge_heads",
    "split_heads",
    "to_maps",
    "to_tokens",
]


def to_tokens(maps: Tensor) -> Tensor:
    """Return maps (B, C, H, W) as tokens (B, H * W, C), row by row."""
    _refuse(maps, 4, "maps", "(B, C, H, W)")
    return maps.flatten(2).transpose(1, 2)


def to_maps(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Return tokens (B, H * W, C) as maps (B, C, H, W).

    Raises
    ------
    ValueError
        If ``tokens`` is no such tensor or ``size`` = (H, W) has not as many places as there are tokens.
    """
    _refuse(tokens, 3, "tokens", "(B, N, C)")
    height, width = _grid(size)
    if height * width != tokens.shape[1]:
        raise ValueError(f"size must have the {tokens.shape[1]} places of tokens, got {height} x {width}")
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Return tokens (B, N, C) as heads (B, heads, N, C / heads); a ValueError where ``heads`` does not divide C."""
    _refuse(tokens, 3, "tokens", "(B, N, C)")
    checks.counts(heads=heads)
    if tokens.shape[2] % heads:
        raise ValueError(f"heads must divide the {tokens.shape[2]} channels of tokens, got {heads}")
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """Return heads (B, h, N, d) as tokens (B, N, h * d), the inverse of :func:`split_heads`."""
    _refuse(heads, 4, "heads", "(B, h, N, d)")
    return heads.transpose(1, 2).flatten(2)


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Return ``softmax(q k^T / sqrt(d))`` over the keys: (..., N, M) from (..., N, d) and (..., M, d).

    Raises
    ------
    ValueError
        If these are no floating-point tensors of such shapes.
    """
    _refuse(query, None, "query", "(..., N, d)")
    _refuse(key, None, "key", "(..., M, d)")
    if not query.is_floating_point() or key.dtype != query.dtype or key.device != query.device:
        raise ValueError(f"query and key must be floating-point and alike, got {query.dtype} and {key.dtype}")
    if query.shape[:-2] != key.shape[:-2] or query.shape[-1] != key.shape[-1] or query.ndim < 2:
        raise ValueError(f"key must be (..., M, d) for query of {tuple(query.shape)}, got {tuple(key.shape)}")
    return torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1)


class CrossAttention(nn.Module):
    """Tokens ask other tokens: queries from ``x``, keys and values from ``memory``.

    ``softmax(q k^T / sqrt(d)) v`` in each head, with ``q = x W_q`` and ``[k, v] = memory W_kv``; the heads' results
    stand side by side and pass one linear layer.

    Parameters
    ----------
    width : int
        Channels of ``x`` and of the result.
    memory_width : int
        Channels of ``memory``.
    heads : int, default 1
        Divides ``width``.
    bias : bool, default False
        Whether queries, keys and values have biases; the last layer always has.

    Raises
    ------
    ValueError
        If a number is no count or ``heads`` does not divide ``width``; in ``forward`` if the tokens have other
        channels.

    Examples
    --------
    >>> attention = CrossAttention(8, 6, heads=2)
    >>> attention(torch.zeros(1, 9, 8), torch.zeros(1, 4, 6)).shape
    torch.Size([1, 9, 8])
    >>> attention.weights(torch.zeros(1, 9, 8), torch.zeros(1, 4, 6)).shape
    torch.Size([1, 2, 9, 4])
    """

    def __init__(self, width: int, memory_width: int, heads: int = 1, *, bias: bool = False) -> None:
        super().__init__()
        checks.counts(width=width, memory_width=memory_width, heads=heads)
        checks.flags(bias=bias)
        if width % heads:
            raise ValueError(f"heads must divide the width {width}, got {heads}")
        self.width, self.memory_width, self.heads = width, memory_width, heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key_value = nn.Linear(memory_width, 2 * width, bias=bias)
        self.project = nn.Linear(width, width)

    def heads_of(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, h, N, d), keys (B, h, M, d) and values (B, h, M, d)."""
        refuse_tokens(self.query, x=x)
        refuse_tokens(self.key_value, memory=memory)
        if len(x) != len(memory):
            raise ValueError(f"memory must have the {len(x)} images of x, got {checks.shown(memory)}")
        key, value = self.key_value(memory).chunk(2, dim=-1)  # (B, M, C) each
        query, key, value = (split_heads(each, self.heads) for each in (self.query(x), key, value))
        return query, key, value

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Map tokens (B, N, width) and memory (B, M, memory_width) to (B, N, width)."""
        found = F.scaled_dot_product_attention(*self.heads_of(x, memory))  # (B, h, N, d)
        return self.project(merge_heads(found))

    def weights(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return the attention weights (B, h, N, M) of :meth:`forward`; each row sums to 1."""
        query, key, _ = self.heads_of(x, memory)
        return attention_weights(query, key)


class SpatialReductionAttention(nn.Module):
    """Self-attention on a map whose keys and values come from a coarser copy of it (Segformer, PVT).

    With a reduction R above 1 the memory is ``LN(conv(x))``, a convolution with kernel and stride R, so that a map of
    H x W asks ``floor(H / R) * floor(W / R)`` keys. Queries, keys and values have biases.

    Parameters
    ----------
    width : int
        Channels.
    heads : int, default 1
        Divides ``width``.
    reduction : int, default 1
        R.
    eps : float, default 1e-6
        Of the LayerNorm.

    Raises
    ------
    ValueError
        As for :class:`CrossAttention`; in ``forward`` if the map is smaller than R.
    """

    def __init__(self, width: int, heads: int = 1, reduction: int = 1, *, eps: float = 1e-6) -> None:
        super().__init__()
        checks.counts(reduction=reduction)
        checks.finite(eps=eps)
        if eps <= 0:
            raise ValueError(f"eps must be above 0, got {eps}")
        self.reduction = reduction
        self.attention = CrossAttention(width, width, heads, bias=True)
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width, eps=eps)

    def memory(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return what the tokens (B, H * W, C) ask: (B, M, C)."""
        refuse_tokens(self.attention.query, x=x)
        size = _grid(size)
        if self.reduction == 1:
            return x
        if min(size) < self.reduction:
            raise ValueError(f"size must be at least the reduction {self.reduction} on either side, got {tuple(size)}")
        return self.norm(to_tokens(self.reduce(to_maps(x, size))))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on a grid of ``size`` = (H, W) to tokens of the same shape."""
        return self.attention(x, self.memory(x, size))


class MixFFN(nn.Module):
    """Feed-forward layer that knows where a token is: linear, depthwise 3 x 3 with zero padding, GELU, linear.

    Parameters
    ----------
    width : int
        Channels.
    ratio : int, default 4
        Channels in the middle, as a multiple of ``width``.
    """

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        checks.counts(width=width, ratio=ratio)
        self.width = width
        self.expand = nn.Linear(width, ratio * width)
        self.mix = nn.Conv2d(ratio * width, ratio * width, 3, padding=1, groups=ratio * width)
        self.shrink = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens (B, H * W, C) on a grid of ``size`` = (H, W) to tokens of the same shape."""
        refuse_tokens(self.expand, x=x)
        mixed = self.mix(to_maps(self.expand(x), size))  # (B, ratio * C, H, W)
        return self.shrink(F.gelu(to_tokens(mixed)))


def drop_path(rate: float) -> nn.Module:
    """Return a layer that leaves a whole branch out in training, for each image with probability ``rate``.

    What is kept is divided by ``1 - rate``; in evaluation nothing is left out (Huang et al. 2016).
    """
    checks.finite(rate=rate)
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1), got {rate}")
    return StochasticDepth(float(rate), "row") if rate else nn.Identity()


def initialise_attention_(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw the weights of a network of attention and convolutions, in place.

    Linear layers: truncated normal with standard deviation 0.02, biases zero. Convolutions: normal with variance
    ``2 / fan_out`` where ``fan_out = k * k * C_out / groups``, biases zero. Normalisations: scales one, shifts zero.

    Parameters
    ----------
    model : nn.Module
        Changed in place; what is on the meta device has nothing to draw.
    generator : torch.Generator, optional
        Source of the random numbers; PyTorch's global one by default.
    """
    checks.networks(model=model)
    checks.generators(generator=generator)
    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if not isinstance(weight, Tensor) or weight.is_meta:
            continue
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(weight, std=0.02, generator=generator)
        elif isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(weight, std=math.sqrt(2 / fan_out), generator=generator)
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)):
            nn.init.ones_(weight)
        else:
            continue
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)


def refuse_tokens(layer: nn.Linear, **values: Tensor) -> None:
    """Refuse what are no tokens (B, N, C) that a linear layer takes."""
    for name, value in values.items():
        _refuse(value, 3, name, f"tokens (B, N, {layer.in_features})")
        if value.shape[2] != layer.in_features or 0 in value.shape:
            raise ValueError(f"{name} must be tokens (B, N, {layer.in_features}), got {checks.shown(value)}")
        refuse_kind(layer.weight, **{name: value})


def _refuse(value: Tensor, rank: int | None, name: str, shape: str) -> None:
    dense = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()
    if not dense or rank not in (None, value.ndim):
        raise ValueError(f"{name} must be {shape}, got {checks.shown(value)}")


def _grid(size: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size must be (H, W), got {checks.shown(size)}")
    checks.counts(**{"size[0]": size[0], "size[1]": size[1]})
    return size[0], size[1]
