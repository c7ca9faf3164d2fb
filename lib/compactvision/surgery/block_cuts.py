"""Carries masks out: attention and MLP of a transformer block with fewer dimensions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.factorised.replace import replace_
from compactvision.models.ragged_attention import RaggedAttention
from compactvision.models.scored_linear import ScoredLinear
from compactvision.surgery.blocks import KINDS, Block, Site
from compactvision.surgery.converting import as_ragged, parameter_, placed

Keep = Mapping[str, Mapping[str, Tensor]]
"""For some blocks and kinds a boolean mask of the site's shape, True where a dimension stays; all others stay whole."""
OF_ATTENTION = {"qk": "qk", "v": "v", "attention_input": "input"}
OF_MLP = {"hidden": "fc2", "mlp_input": "fc1"}


def checked(keep: Keep, blocks: Mapping[str, Block]) -> dict[str, dict[str, Tensor]]:
    """Return masks that fit the blocks; anything else is refused."""
    checks.mappings(keep=keep)
    for name, masks in keep.items():
        if name not in blocks:
            raise ValueError(f"keep: the network has no block {checks.shown(name)}; it has {', '.join(blocks)}")
        checks.mappings(**{f"keep[{name!r}]": masks})
        for kind, mask in masks.items():
            checks.one_of(KINDS, **{f"keep[{name!r}] (kind)": kind})
            _check_mask(f"keep[{name!r}][{kind!r}]", mask, blocks[name].sites[kind])
    return {
        name: {kind: mask.expand(blocks[name].sites[kind].shape) for kind, mask in masks.items()}
        for name, masks in keep.items()
    }


def _check_mask(name: str, mask: Tensor, site: Site) -> None:
    checks.tensors(**{name: mask})
    shared = len(site.shape) == 2 and tuple(mask.shape) == (1, site.shape[1])  # by all heads
    if mask.dtype != torch.bool or not (shared or tuple(mask.shape) == site.shape):
        raise ValueError(f"{name} must be a mask of type bool and shape {site.shape}, got {checks.shown(mask)}")
    if len(site.shape) == 2 and (mask & ~_there(site, mask.device)).any():
        raise ValueError(f"{name} keeps dimensions that heads of sizes {site.sizes} do not have")
    if site.kind != "qk" and not mask.any():
        raise ValueError(f"{name} keeps nothing; at least one dimension must stay")


def _there(site: Site, device: torch.device | None = None) -> Tensor:
    """Return which places of (heads, largest head) are dimensions."""
    sizes = torch.tensor(site.sizes, device=device)
    return torch.arange(site.shape[1], device=device) < sizes.unsqueeze(1)


def cut_attention_(model: nn.Module, block: Block, masks: Mapping[str, Tensor | None], fold: bool) -> None:
    """Put a smaller attention without scores in the place of a block's, unless nothing changes."""
    old = model.get_submodule(block.attention)
    scored = isinstance(old, RaggedAttention) and len(old.scores) > 0
    if not scored and all(masks[kind] is None or _whole(masks[kind], block.sites[kind]) for kind in OF_ATTENTION):
        return
    old = as_ragged(old, block)
    there = {kind: _there(block.sites[kind]) for kind in ("qk", "v")}  # indices are on the CPU, weights anywhere
    stays = {kind: there[kind] if masks[kind] is None else masks[kind].cpu() for kind in there}
    heads = stays["v"].any(1)
    stays["qk"] = stays["qk"] & heads.unsqueeze(1)
    kept = {kind: stays[kind][there[kind]].nonzero().flatten() for kind in there}  # of the rows of one part
    queries = block.sites["qk"].dimensions
    rows = torch.cat([kept["qk"], kept["qk"] + queries, kept["v"] + 2 * queries])
    read = _read(old, masks["attention_input"], block.width)
    weight, bias = _folded(old) if fold else (old.qkv.weight, old.qkv.bias)
    description = old.description() | {
        "query_sizes": stays["qk"].sum(1)[heads].tolist(),
        "value_sizes": stays["v"].sum(1)[heads].tolist(),
        "reads": None if read is None else len(read[0]),
        "scores": {},
    }
    made = placed(type(old).from_description(description), weight, old.training)
    if read is not None:
        made.selection = read[0].to(weight.device)
        weight = weight[:, read[1]]
    parameter_(made.qkv, "weight", weight[rows], old.qkv.weight)
    parameter_(made.qkv, "bias", None if bias is None else bias[rows], old.qkv.bias)
    parameter_(made.proj, "weight", old.proj.weight[:, kept["v"]], old.proj.weight)
    parameter_(made.proj, "bias", old.proj.bias, old.proj.bias)
    if block.window is not None:
        table = old.relative_position_bias_table
        parameter_(made, "relative_position_bias_table", table[:, heads], table)
    replace_(model, block.attention, made)


def cut_mlp_(model: nn.Module, block: Block, masks: Mapping[str, Tensor | None], fold: bool) -> None:
    """Put smaller linear layers without scores in the place of a block's."""
    first, second = model.get_submodule(block.fc1), model.get_submodule(block.fc2)
    hidden = masks["hidden"]
    if hidden is None:
        hidden = torch.ones(second.in_features, dtype=torch.bool)
    hidden = hidden.cpu().nonzero().flatten()
    scored = [getattr(layer, "scores", None) if fold else None for layer in (first, second)]
    weights = [
        layer.weight if score is None else layer.weight * score
        for layer, score in zip((first, second), scored, strict=True)
    ]
    read = _read(first, masks["mlp_input"], block.width)
    columns = weights[0] if read is None else weights[0][:, read[1]]
    bias = None if first.bias is None else first.bias[hidden]
    _put_(model, block.fc1, columns[hidden], bias, read, block.width)
    _put_(model, block.fc2, weights[1][:, hidden], second.bias, None, len(hidden))


def _put_(
    model: nn.Module, path: str, weight: Tensor, bias: Tensor | None, read: tuple[Tensor, Tensor] | None, width: int
) -> None:
    """Put a linear layer with these weights in the place of one of the model."""
    old = model.get_submodule(path)
    with torch.device("meta"):
        if read is None:
            made: nn.Linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        else:
            made = ScoredLinear(width, weight.shape[0], bias=bias is not None, reads=weight.shape[1], scored=False)
    parameter_(made, "weight", weight, old.weight)
    parameter_(made, "bias", bias, old.bias)
    if read is not None:
        made.selection = read[0].to(weight.device)
    replace_(model, path, made.train(old.training))


def _whole(mask: Tensor, site: Site) -> bool:
    return int(mask.sum()) == site.dimensions


def _read(layer: nn.Module, mask: Tensor | None, width: int) -> tuple[Tensor, Tensor] | None:
    """Return which inputs a layer reads once it is cut, of the stream and of what it read before; None for all."""
    weight = layer.qkv.weight if isinstance(layer, RaggedAttention) else layer.weight
    before = getattr(layer, "selection", None)
    columns = torch.ones(weight.shape[1], dtype=torch.bool) if mask is None else mask
    columns = columns.cpu().nonzero().flatten()
    if before is None:
        return None if len(columns) == width else (columns, columns)
    return before[columns], columns


def _folded(attention: RaggedAttention) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of ``qkv`` with the scores multiplied in; ragged heads have none."""
    if attention.rows is not None:
        return attention.qkv.weight, attention.qkv.bias
    return attention.weights()[:2]
