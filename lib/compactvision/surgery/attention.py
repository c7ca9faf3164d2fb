"""Scores on the dimensions of transformer blocks, masks, and blocks that are really smaller.

A *site* is one kind of dimension in one block, see :class:`~compactvision.surgery.Site`. Scores and masks are nested by
block and kind: ``scores["features.1.0"]["qk"]`` is (heads, size of a head).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from compactvision import _checks as checks
from compactvision.models.factorised.replace import replace_
from compactvision.models.ragged_attention import RaggedAttention
from compactvision.surgery.block_cuts import OF_ATTENTION, OF_MLP, Keep, checked, cut_attention_, cut_mlp_
from compactvision.surgery.blocks import KINDS, Block, find_blocks
from compactvision.surgery.converting import as_ragged, as_scored


def insert_scores(model: nn.Module, kinds: Iterable[str] = ("qk", "v", "hidden"), *, shared: bool = False) -> nn.Module:
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
        "hidden", "attention_input" and "mlp_input"; (1, size of a head) stands for all heads. What is not named stays.
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
    ((1, 2, 3), 72954)
    """
    checks.networks(model=model)
    checks.flags(fold=fold)
    found = find_blocks(model)
    keep = checked(keep, found)
    model = copy.deepcopy(model)
    for name, block in found.items():
        masks = {kind: keep.get(name, {}).get(kind) for kind in KINDS}
        cut_attention_(model, block, masks, fold)
        cut_mlp_(model, block, masks, fold)
    return model


def _kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    if isinstance(kinds, (str, bytes)) or not isinstance(kinds, Iterable):
        raise ValueError(f"kinds must be a sequence of words, got {checks.shown(kinds)}")
    kinds = tuple(kinds)
    for place, kind in enumerate(kinds):
        checks.one_of(KINDS, **{f"kinds[{place}]": kind})
    return kinds


def _score_(model: nn.Module, block: Block, kinds: tuple[str, ...], shared: bool) -> None:
    """Give a block of the model scores of these kinds, in place."""
    shapes = {OF_ATTENTION[kind]: block.sites[kind].shape for kind in kinds if kind in OF_ATTENTION}
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
        if kind in OF_MLP:
            path = getattr(block, OF_MLP[kind])
            replace_(model, path, as_scored(model.get_submodule(path)))


def _scores_of(model: nn.Module, block: Block) -> dict[str, nn.Parameter]:
    attention, found = model.get_submodule(block.attention), {}
    for kind in KINDS:
        if kind in OF_MLP:
            score = getattr(model.get_submodule(getattr(block, OF_MLP[kind])), "scores", None)
        else:
            known = isinstance(attention, RaggedAttention) and OF_ATTENTION[kind] in attention.scores
            score = attention.scores[OF_ATTENTION[kind]] if known else None
        if score is not None:
            found[kind] = score
    return found


def _set_score_(model: nn.Module, block: Block, kind: str, score: nn.Parameter) -> None:
    if kind in OF_MLP:
        model.get_submodule(getattr(block, OF_MLP[kind])).scores = score
    else:
        model.get_submodule(block.attention).scores[OF_ATTENTION[kind]] = score
