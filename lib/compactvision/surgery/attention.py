"""Scores on the dimensions of transformer blocks, masks, and blocks that are really smaller.

A *site* is one kind of dimension in one block, see :class:`~compactvision.surgery.Site`. Scores and masks are nested by
block and kind: ``scores["features.1.0"]["qk"]`` is (heads, size of a head).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.factorised.replace import replace_
from compactvision.models.ragged_attention import RaggedAttention
from compactvision.models.scored_linear import ScoredLinear
from compactvision.surgery.blocks import KINDS, Block, Site, find_blocks
from compactvision.surgery.converting import as_ragged, as_scored, parameter_, placed

Keep = Mapping[str, Mapping[str, Tensor]]
"""For some blocks and kinds a boolean mask of the site's shape, True where a dimension stays; all others stay whole."""


def insert_scores(
    model: nn.Module, kinds: Iterable[str] = ("qk", "v", "hidden"), *, shared: bool = False
) -> nn.Module:
    """Return a copy of a network whose blocks have a learnable score, 1 at first, for each dimension.

    With scores ``a`` a block computes ``softmax((Q * a_qk) K^T / sqrt(d_h) + B) (V * a_v)`` and
    ``(GELU(x W_1 + b_1) * a_hidden) W_2 + b_2``; the input scores multiply what comes out of the two LayerNorms. Scores
    are parameters and applied to weights, so that training with them takes about the time and memory of training
    without. At 1 the function is unchanged.

    Parameters
    ----------
    model : nn.Module
        Any network with blocks that :func:`find_blocks` understands; left as it was.
    kinds : iterable of str
        Among "qk", "v", "hidden", "attention_input" and "mlp_input". Scores that a model has already stay.
    shared : bool, default False
        Whether the heads of a block share one vector of scores for "qk", and one for "v".

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If a kind is unknown, a block cannot be scored, or its heads were cut to unequal sizes.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> scored = surgery.insert_scores(models.imagenet("swin_t", num_classes=10))
    >>> {kind: tuple(score.shape) for kind, score in surgery.block_scores(scored)["features.1.0"].items()}
    {'qk': (3, 32), 'v': (3, 32), 'hidden': (384,)}
    """
    checks.networks(model=model)
    checks.flags(shared=shared)
    kinds = _kinds(kinds)
    model = copy.deepcopy(model)
    for block in find_blocks(model).values():
        _score_(model, block, kinds, shared)
    return model


def block_scores(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """Return the scores of a network by block and kind: its own parameters, not copies.

    Heads that share their scores give a tensor (1, size of a head).

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> scored = surgery.insert_scores(models.imagenet("vit_b_32"), ["hidden"])
    >>> surgery.block_scores(scored)["encoder.layers.encoder_layer_0"]["hidden"].shape
    torch.Size([3072])
    """
    return {name: _scores_of(model, block) for name, block in find_blocks(model).items()}


def mask_dimensions(model: nn.Module, keep: Keep) -> nn.Module:
    """Return a copy of a network in which the scores of all dimensions that do not stay are 0.

    It computes what :func:`cut_dimensions` makes of the same masks, at the size that it had.

    Parameters
    ----------
    model, keep
        As for :func:`cut_dimensions`. Scores that are missing are inserted, for each head its own.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, surgery
    >>> model = models.imagenet("swin_t", num_classes=10)
    >>> keep = {"features.1.0": {"hidden": torch.arange(384) % 2 == 0}}
    >>> surgery.block_scores(surgery.mask_dimensions(model, keep))["features.1.0"]["hidden"][:3].tolist()
    [1.0, 0.0, 1.0]
    """
    checks.networks(model=model)
    found = find_blocks(model)
    keep = checked(keep, found)
    model = copy.deepcopy(model)
    for name, masks in keep.items():
        _score_(model, found[name], tuple(masks), shared=False)
        for kind, score in _scores_of(model, found[name]).items():
            if kind in masks:
                mask = masks[kind].to(score.device)
                values = torch.where(mask, score.detach().expand(mask.shape), 0.0)
                _set_score_(model, found[name], kind, nn.Parameter(values, score.requires_grad))
    return model


def cut_dimensions(model: nn.Module, keep: Keep, *, fold: bool = True) -> nn.Module:
    """Return a copy of a network that has only the dimensions that stay, without scores.

    Scores are multiplied into the weights: those of queries and values into rows of ``qkv``, those of the MLP into
    columns of its second layer, input scores into columns of ``qkv`` and of the first layer. A head goes when none of
    its value dimensions stays. The softmax keeps the scale of the heads before the cut. Heads of unequal sizes run in
    one product, padded with zeros; inputs that do not stay are skipped by an index behind the LayerNorm.

    Parameters
    ----------
    model : nn.Module
        Any network with blocks that :func:`find_blocks` understands, with scores or without; left as it was.
    keep : mapping of str to mapping of str to Tensor
        For blocks by name and kinds boolean masks, (heads, size of a head) for "qk" and "v" and (dimensions,) for
        "hidden", "attention_input" and "mlp_input". What is not named stays whole.
    fold : bool, default True
        False leaves the values of the scores out, as if those that stay were 1.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If a block, a kind or a mask does not fit, or nothing stays of the values, the hidden dimensions or the inputs
        of a block.

    Examples
    --------
    >>> import torch
    >>> from compactvision import measure, models, surgery
    >>> model = models.imagenet("swin_t", num_classes=10)
    >>> keep = {"features.1.0": {"hidden": torch.arange(384) < 96, "v": torch.ones(3, 32).bool().tril()}}
    >>> small = surgery.cut_dimensions(model, keep)
    >>> small.features[1][0].attn.value_sizes, measure.parameters(model) - measure.parameters(small)
    ((1, 2, 3), 72834)
    """
    checks.networks(model=model)
    checks.flags(fold=fold)
    found = find_blocks(model)
    keep = checked(keep, found)
    model = copy.deepcopy(model)
    for name, block in found.items():
        masks = {kind: keep.get(name, {}).get(kind) for kind in KINDS}
        _cut_attention_(model, block, masks, fold)
        _cut_mlp_(model, block, masks, fold)
    return model


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
    return {name: dict(masks) for name, masks in keep.items()}


def _check_mask(name: str, mask: Tensor, site: Site) -> None:
    checks.tensors(**{name: mask})
    if mask.dtype != torch.bool or tuple(mask.shape) != site.shape:
        raise ValueError(f"{name} must be a mask of type bool and shape {site.shape}, got {checks.shown(mask)}")
    if len(site.shape) == 2 and (mask & ~_there(site, mask.device)).any():
        raise ValueError(f"{name} keeps dimensions that heads of sizes {site.sizes} do not have")
    if site.kind != "qk" and not mask.any():
        raise ValueError(f"{name} keeps nothing; at least one dimension must stay")


def _there(site: Site, device: torch.device | None = None) -> Tensor:
    """Return which places of (heads, largest head) are dimensions."""
    sizes = torch.tensor(site.sizes, device=device)
    return torch.arange(site.shape[1], device=device) < sizes.unsqueeze(1)


def _kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    if isinstance(kinds, (str, bytes)) or not isinstance(kinds, Iterable):
        raise ValueError(f"kinds must be a sequence of words, got {checks.shown(kinds)}")
    kinds = tuple(kinds)
    for place, kind in enumerate(kinds):
        checks.one_of(KINDS, **{f"kinds[{place}]": kind})
    return kinds


_OF_ATTENTION = {"qk": "qk", "v": "v", "attention_input": "input"}
_OF_MLP = {"hidden": "fc2", "mlp_input": "fc1"}


def _score_(model: nn.Module, block: Block, kinds: tuple[str, ...], shared: bool) -> None:
    """Give a block of the model scores of these kinds, in place."""
    shapes = {_OF_ATTENTION[kind]: block.sites[kind].shape for kind in kinds if kind in _OF_ATTENTION}
    for kind in kinds:
        site = block.sites[kind]
        if site.dimensions != torch.Size(site.shape).numel():
            raise ValueError(f"model: heads of {block.name!r} have unequal sizes {site.sizes} and take no scores")
        if kind.endswith("input") and site.dimensions != block.width:
            raise ValueError(f"model: {block.name!r} reads part of its inputs, which take no scores")
    if shared:
        shapes |= {kind: (1, shape[1]) for kind, shape in shapes.items() if kind != "input"}
    if shapes:
        replace_(model, block.attention, as_ragged(model.get_submodule(block.attention), block, shapes))
    for kind in kinds:
        if kind in _OF_MLP:
            path = getattr(block, _OF_MLP[kind])
            replace_(model, path, as_scored(model.get_submodule(path)))


def _scores_of(model: nn.Module, block: Block) -> dict[str, nn.Parameter]:
    attention, found = model.get_submodule(block.attention), {}
    for kind in KINDS:
        if kind in _OF_MLP:
            score = getattr(model.get_submodule(getattr(block, _OF_MLP[kind])), "scores", None)
        else:
            known = isinstance(attention, RaggedAttention) and _OF_ATTENTION[kind] in attention.scores
            score = attention.scores[_OF_ATTENTION[kind]] if known else None
        if score is not None:
            found[kind] = score
    return found


def _set_score_(model: nn.Module, block: Block, kind: str, score: nn.Parameter) -> None:
    if kind in _OF_MLP:
        model.get_submodule(getattr(block, _OF_MLP[kind])).scores = score
    else:
        model.get_submodule(block.attention).scores[_OF_ATTENTION[kind]] = score


def _cut_attention_(model: nn.Module, block: Block, masks: Mapping[str, Tensor | None], fold: bool) -> None:
    old = model.get_submodule(block.attention)
    scored = isinstance(old, RaggedAttention) and len(old.scores) > 0
    if not scored and all(masks[kind] is None or _whole(masks[kind], block.sites[kind]) for kind in _OF_ATTENTION):
        return
    old = as_ragged(old, block)
    device = old.qkv.weight.device
    there = {kind: _there(block.sites[kind], device) for kind in ("qk", "v")}
    stays = {kind: there[kind] if masks[kind] is None else masks[kind].to(device) for kind in there}
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
        made.selection = read[0]
        weight = weight[:, read[1]]
    parameter_(made.qkv, "weight", weight[rows], old.qkv.weight)
    parameter_(made.qkv, "bias", None if bias is None else bias[rows], old.qkv.bias)
    parameter_(made.proj, "weight", old.proj.weight[:, kept["v"]], old.proj.weight)
    parameter_(made.proj, "bias", old.proj.bias, old.proj.bias)
    if block.window is not None:
        table = old.relative_position_bias_table
        parameter_(made, "relative_position_bias_table", table[:, heads], table)
    replace_(model, block.attention, made)


def _cut_mlp_(model: nn.Module, block: Block, masks: Mapping[str, Tensor | None], fold: bool) -> None:
    first, second = model.get_submodule(block.fc1), model.get_submodule(block.fc2)
    hidden = masks["hidden"]
    if hidden is None:
        hidden = torch.ones(second.in_features, dtype=torch.bool)
    hidden = hidden.to(first.weight.device).nonzero().flatten()
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
        made.selection = read[0]
    replace_(model, path, made.train(old.training))


def _whole(mask: Tensor, site: Site) -> bool:
    return int(mask.sum()) == site.dimensions


def _read(layer: nn.Module, mask: Tensor | None, width: int) -> tuple[Tensor, Tensor] | None:
    """Return which inputs a layer reads once it is cut, of the stream and of what it read before; None for all."""
    weight = layer.qkv.weight if isinstance(layer, RaggedAttention) else layer.weight
    before = getattr(layer, "selection", None)
    columns = torch.ones(weight.shape[1], dtype=torch.bool) if mask is None else mask
    columns = columns.to(weight.device).nonzero().flatten()
    if before is None:
        return None if len(columns) == width else (columns, columns)
    return before[columns], columns


def _folded(attention: RaggedAttention) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of ``qkv`` with the scores multiplied in."""
    weight, bias, _ = attention.weights() if attention.rows is None else (attention.qkv.weight, attention.qkv.bias, None)
    return weight, bias
