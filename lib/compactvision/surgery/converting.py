"""Attention of torchvision and timm as one of ours, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compactvision.models.attention_forms import (
    MapAttention,
    PartitionedAttention,
    SequenceAttention,
    TokenAttention,
)
from compactvision.models.ragged_attention import RaggedAttention
from compactvision.models.scored_linear import ScoredLinear
from compactvision.surgery.blocks import Block

_FORMS: Mapping[str, type[RaggedAttention]] = {
    "torchvision ViT": SequenceAttention,
    "torchvision Swin": MapAttention,
    "timm ViT": TokenAttention,
    "timm Swin": PartitionedAttention,
}


def placed(made: nn.Module, like: Tensor, training: bool) -> nn.Module:
    """Move a new layer to where a tensor is, with its type."""
    return made.to(device=like.device, dtype=like.dtype).train(training)


def parameter_(module: nn.Module, name: str, values: Tensor | None, like: Tensor | None) -> None:
    """Give a module a parameter with these values, trainable where another one is."""
    trains = like is None or like.requires_grad
    setattr(module, name, None if values is None else nn.Parameter(values.detach().clone(), requires_grad=trains))


def as_ragged(
    attention: nn.Module, block: Block, scores: Mapping[str, tuple[int, ...]] | None = None
) -> RaggedAttention:
    """Return an attention of ours with the weights of one that :func:`find_blocks` understands, and fresh scores.

    One that is ours already is built anew, with the scores that it has and new ones for the other kinds.
    """
    ours = isinstance(attention, RaggedAttention)
    old = {kind: tuple(score.shape) for kind, score in attention.scores.items()} if ours else {}
    scored = dict(scores or {}) | old
    made = _FORMS[block.form](
        block.width,
        block.sites["qk"].sizes,
        block.sites["v"].sizes,
        scale=_scale(attention, block),
        bias=block.biases[0],
        project_bias=block.biases[1],
        window=block.window,
        shift=block.shift or (0, 0),
        reads=attention.selection.numel() if ours and attention.selection is not None else None,
        scores=scored,
        **_dropouts(attention),
    )
    multihead = isinstance(attention, nn.MultiheadAttention)
    weight, bias = (getattr(attention, f"in_proj_{name}") if multihead else getattr(attention.qkv, name)
                    for name in ("weight", "bias"))  # fmt: skip
    project = attention.out_proj if multihead else attention.proj
    made = placed(made, weight, attention.training)
    parameter_(made.qkv, "weight", weight, weight)
    parameter_(made.qkv, "bias", bias, bias)
    parameter_(made.proj, "weight", project.weight, project.weight)
    parameter_(made.proj, "bias", project.bias, project.bias)
    if block.window is not None:
        table = attention.relative_position_bias_table
        parameter_(made, "relative_position_bias_table", table, table)
    if ours and attention.selection is not None:
        made.selection = attention.selection.clone()
    for kind in old:
        made.scores[kind] = nn.Parameter(attention.scores[kind].detach().clone(), attention.scores[kind].requires_grad)
    return made


def as_scored(linear: nn.Linear) -> ScoredLinear:
    """Return a linear layer with scores on its inputs, as it was where it has them."""
    if isinstance(linear, ScoredLinear) and linear.scores is not None:
        return linear
    with torch.device("meta"):
        made = ScoredLinear(linear.in_features, linear.out_features, bias=linear.bias is not None)
    parameter_(made, "weight", linear.weight, linear.weight)
    parameter_(made, "bias", linear.bias, linear.bias)
    made.scores = nn.Parameter(torch.ones_like(linear.weight[0]))
    return made.train(linear.training)


def _scale(attention: nn.Module, block: Block) -> float:
    """Return the factor of ``q k^T``, to the bit that of the original."""
    own = getattr(attention, "scale", None)
    return float(block.sites["qk"].sizes[0] ** -0.5 if own is None else own)


def _dropouts(attention: nn.Module) -> dict[str, float]:
    """Return the rates; torchvision's ViT has the dropout behind the projection outside, in its block."""
    if isinstance(attention, nn.MultiheadAttention):
        return {"attention_dropout": attention.dropout, "dropout": 0.0}
    if hasattr(attention, "attn_drop"):
        return {"attention_dropout": attention.attn_drop.p, "dropout": attention.proj_drop.p}
    return {"attention_dropout": attention.attention_dropout, "dropout": attention.dropout}
