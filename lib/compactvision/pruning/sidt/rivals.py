"""What the search is compared with: scores of the same form that need no search."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import surgery
from compactvision.surgery.blocks import KINDS

ScoresByBlock = dict[str, dict[str, Tensor]]


def weight_norms(model: nn.Module, kinds: Iterable[str] = KINDS) -> ScoresByBlock:
    """Return how large the weights of each dimension are, by block and kind, in the form of ``surgery.block_scores``.

    A dimension of the queries has the Euclidean norm of its row of ``W_Q`` times that of its key's row, one of the
    values its row of ``W_V`` times its column of ``W_O``, a hidden unit its row of the first layer times its column of
    the second, an input its column of all that reads it. Biases are left out.

    Parameters
    ----------
    model : nn.Module
        With blocks that ``surgery.find_blocks`` understands and heads of one size; left as it was.
    kinds : iterable of str, optional
        Among "qk", "v", "hidden", "attention_input" and "mlp_input"; all by default.

    Raises
    ------
    ValueError
        If it has no such blocks, or a kind is unknown.

    Examples
    --------
    >>> from compactvision.pruning import sidt
    >>> norms = sidt.weight_norms(sidt.tasks.build("naming"))
    >>> {kind: tuple(each.shape) for kind, each in norms["features.1.0"].items()}
    {'qk': (3, 16), 'v': (3, 16), 'hidden': (192,), 'attention_input': (48,), 'mlp_input': (48,)}
    """
    checks.networks(model=model)
    if isinstance(kinds, (str, bytes)) or not isinstance(kinds, Iterable):
        raise ValueError(f"kinds must be a sequence of words, got {checks.shown(kinds)}")
    kinds = tuple(kinds)
    for kind in kinds:
        checks.one_of(KINDS, **{"kinds (each)": kind})
    folded = surgery.insert_scores(model)  # all kinds of attention in one form
    found = {name: _of_block(folded, block) for name, block in surgery.find_blocks(folded).items()}
    return {name: {kind: each[kind] for kind in kinds} for name, each in found.items()}


@torch.no_grad()
def _of_block(model: nn.Module, block: surgery.Block) -> dict[str, Tensor]:
    attention, first, second = (model.get_submodule(path) for path in (block.attention, block.fc1, block.fc2))
    shape = block.sites["qk"].shape, block.sites["v"].shape
    queries, values = (size[0] * size[1] for size in shape)
    q, k, v = attention.qkv.weight.split((queries, queries, values))
    return {
        "qk": (q.norm(dim=1) * k.norm(dim=1)).reshape(shape[0]),
        "v": (v.norm(dim=1) * attention.proj.weight.norm(dim=0)).reshape(shape[1]),
        "hidden": first.weight.norm(dim=1) * second.weight.norm(dim=0),
        "attention_input": attention.qkv.weight.norm(dim=0),
        "mlp_input": first.weight.norm(dim=0),
    }
