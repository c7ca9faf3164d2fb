"""Finds the blocks of vision transformers and the dimensions inside them that can be scored and cut."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from compactvision import _checks as checks
from compactvision.models.ragged_attention import RaggedAttention
from compactvision.models.scored_linear import ScoredLinear

KINDS = ("qk", "v", "hidden", "attention_input", "mlp_input")
"""Dimensions of queries (and keys), of values, of the MLP behind its activation, and inputs of ``qkv`` and ``fc1``."""

_SUSPICIOUS = re.compile(
    r"attention|attn|multihead|encoder_?(block|layer)|decoder_?(block|layer)"
    r"|transformer_?(block|layer|encoder|decoder)",
    re.IGNORECASE,
)
_COUNTS_OF_HEADS = ("num_heads", "n_heads", "nhead", "num_attention_heads", "heads")
_REASONS = {
    "SwinTransformerBlockV2": "Swin v2 normalises queries and keys, so that a score of a dimension moves all others",
}


@dataclass(frozen=True)
class Site:
    """Dimensions of one kind in one block.

    Attributes
    ----------
    block : str
        Name of the block in ``model.named_modules()``.
    kind : str
        One of ``"qk"``, ``"v"``, ``"hidden"``, ``"attention_input"`` and ``"mlp_input"``.
    shape : tuple of int
        (heads, size of the largest head) for "qk" and "v", else (dimensions,).
    sizes : tuple of int
        Dimensions of each head, or the one number; below the shape where heads were cut to unequal sizes.
    """

    block: str
    kind: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        """Number of dimensions."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Block:
    """One transformer block: ``x + attention(norm(x))``, then ``x + MLP(norm(x))``.

    Attributes
    ----------
    name : str
        In ``model.named_modules()``.
    form : str
        Whose attention it is: "torchvision ViT", "torchvision Swin", "timm ViT" or "timm Swin".
    width : int
        Channels of the stream.
    sites : mapping of str to Site
        By kind.
    window, shift : tuple of int or None
        Of Swin.
    attention, fc1, fc2 : str
        Names of the block's parts.
    biases : tuple of bool
        Of ``qkv``, ``proj``, ``fc1`` and ``fc2``.
    """

    name: str
    form: str
    width: int
    sites: Mapping[str, Site]
    window: tuple[int, int] | None
    shift: tuple[int, int] | None
    attention: str
    fc1: str
    fc2: str
    biases: tuple[bool, bool, bool, bool]


def find_blocks(model: nn.Module) -> dict[str, Block]:
    """Return the transformer blocks of a network by name, wherever they stand in it.

    torchvision's VisionTransformer and SwinTransformer and timm's ViT and Swin are understood, dense, with scores or
    cut, also as the backbone of something larger. Swin v2 and any other kind of attention is refused.

    Parameters
    ----------
    model : nn.Module
        Left as it was.

    Returns
    -------
    dict of str to Block
        In the order of ``model.named_modules()``.

    Raises
    ------
    ValueError
        If there is no block, or something that looks like part of a transformer is not understood (it is named).

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> blocks = surgery.find_blocks(models.imagenet("swin_t"))
    >>> len(blocks), blocks["features.1.0"].sites["qk"].shape, blocks["features.1.0"].sites["hidden"].shape
    (12, (3, 32), (384,))
    """
    checks.networks(model=model)
    found: dict[str, Block] = {}
    parts: dict[int, str] = {}
    for name, module in model.named_modules():
        if _owner(module) in _BLOCKS:
            block = _block(name, module)
            for part in (block.attention, block.fc1, block.fc2):
                first = parts.setdefault(id(model.get_submodule(part)), name)
                if first != name:
                    raise ValueError(f"model: the blocks {first!r} and {name!r} share {part!r}")
            found[name] = block
    for name, module in model.named_modules():
        if not any(_inside(name, block) or _inside(block, name) for block in found) and _looks_like_attention(module):
            said = _REASONS.get(type(module).__name__, "it is none of torchvision's or timm's ViT and Swin")
            raise ValueError(f"model: {name!r} is a {type(module).__name__}, which cannot be cut: {said}")
    if not found:
        raise ValueError("model: it has no transformer block of torchvision's or timm's ViT or Swin")
    return found


def _inside(name: str, outer: str) -> bool:
    return name == outer or outer == "" or name.startswith(f"{outer}.")


def _looks_like_attention(module: nn.Module) -> bool:
    counts = any(isinstance(getattr(module, name, None), int) for name in _COUNTS_OF_HEADS)
    return counts or _SUSPICIOUS.search(type(module).__name__) is not None


def _owner(module: nn.Module) -> tuple[str, str]:
    """Return module and name of the class whose ``forward`` runs, ("", "") where that is a function of the instance."""
    if "forward" in vars(module):
        return "", ""
    owner = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
    return owner.__module__, owner.__name__


def _block(name: str, module: nn.Module) -> Block:
    form, attention_path, fc1_path, fc2_path = _BLOCKS[_owner(module)]

    def refuse(part: str, why: str) -> ValueError:
        return ValueError(f"model: {_joined(name, part)!r} {why}, which cannot be cut")

    def fetched(path: str) -> nn.Module:
        try:
            return module.get_submodule(path)
        except AttributeError:
            raise refuse(path, "is missing") from None

    _refuse_mlp(form, fetched("mlp"), refuse)
    attention, fc1, fc2 = (fetched(path) for path in (attention_path, fc1_path, fc2_path))
    for path, linear in ((fc1_path, fc1), (fc2_path, fc2)):
        if type(linear) not in (nn.Linear, ScoredLinear):
            raise refuse(path, f"is a {type(linear).__name__}")
    for path, part in ((attention_path, attention), (fc1_path, fc1), (fc2_path, fc2)):
        if any(inner._forward_hooks or inner._forward_pre_hooks for inner in part.modules()):
            raise refuse(path, "carries hooks")
    width, heads, read, window, shift, biases = _of_attention(form, attention_path, attention, refuse)
    inputs = {"hidden": fc2.in_features, "attention_input": read, "mlp_input": fc1.in_features}
    sites = {kind: Site(name, kind, (len(sizes), max(1, *sizes)), sizes) for kind, sizes in heads.items()}
    sites |= {kind: Site(name, kind, (count,), (count,)) for kind, count in inputs.items()}
    paths = (_joined(name, path) for path in (attention_path, fc1_path, fc2_path))
    biases = (*biases, fc1.bias is not None, fc2.bias is not None)
    return Block(name, form, width, sites, window, shift, *paths, biases)


def _joined(*names: str) -> str:
    return ".".join(name for name in names if name)


def _refuse_mlp(form: str, mlp: nn.Module, refuse) -> None:
    """Refuse what is no linear layer, activation, linear layer with dropout alone between."""
    if _owner(mlp) not in _MLPS:
        raise refuse("mlp", f"is a {type(mlp).__name__}")
    parts = list(mlp.children()) if form.startswith("torchvision") else [
        getattr(mlp, name, None) for name in ("fc1", "act", "drop1", "norm", "fc2", "drop2")
    ]  # fmt: skip
    between = [part for part in parts if not isinstance(part, (nn.Linear, nn.Dropout, nn.Identity, type(None)))]
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    if len(linear) != 2 or [type(part).__name__ for part in between] not in _ACTIVATIONS:
        raise refuse("mlp", f"has {', '.join(type(part).__name__ for part in parts)}")


def _of_attention(form: str, path: str, attention: nn.Module, refuse) -> tuple:
    """Return width, sizes of the heads by kind, inputs read, window, shift, and biases of qkv and proj."""
    if isinstance(attention, RaggedAttention):
        heads = {"qk": attention.query_sizes, "v": attention.value_sizes}
        biases = attention.qkv.bias is not None, attention.proj.bias is not None
        shift = None if attention.window is None else attention.shift
        return attention.width, heads, attention.qkv.in_features, attention.window, shift, biases
    if (form, _owner(attention)) not in _ATTENTIONS:
        raise refuse(path, f"is a {type(attention).__name__}")
    why = "" if form != "torchvision ViT" else _odd_multihead(attention)
    why = why or next((f"has {part}" for part in _ODD if not _absent(getattr(attention, part, None))), "")
    if why:
        raise refuse(path, why)
    if form == "torchvision ViT":
        width, rows = attention.embed_dim, 3 * attention.embed_dim
        biases = attention.in_proj_bias is not None, attention.out_proj.bias is not None
    else:
        for part in ("qkv", "proj"):
            if type(getattr(attention, part)) is not nn.Linear:
                raise refuse(_joined(path, part), f"is a {type(getattr(attention, part)).__name__}")
        width, rows = attention.qkv.in_features, attention.qkv.out_features
        biases = attention.qkv.bias is not None, attention.proj.bias is not None
    sizes = (rows // 3 // attention.num_heads,) * attention.num_heads
    if form.endswith("ViT"):
        return width, {"qk": sizes, "v": sizes}, width, None, None, biases
    window = tuple(attention.window_size)
    shift = tuple(getattr(attention, "shift_size", (0, 0)))
    return width, {"qk": sizes, "v": sizes}, width, window, shift, biases


_ODD = ("q_norm", "k_norm", "norm", "gate", "logit_scale")  # of timm's attention, absent or doing nothing where usual


def _absent(part: object) -> bool:
    return part is None or isinstance(part, nn.Identity)


def _odd_multihead(attention: nn.MultiheadAttention) -> str:
    if attention.bias_k is not None or attention.add_zero_attn or not attention._qkv_same_embed_dim:
        return "has keys or values of its own"
    return "" if attention.batch_first else "does not take the batch first"


_VIT, _SWIN = "torchvision.models.vision_transformer", "torchvision.models.swin_transformer"
_TIMM_VIT, _TIMM_SWIN = "timm.models.vision_transformer", "timm.models.swin_transformer"
_BLOCKS = {
    (_VIT, "EncoderBlock"): ("torchvision ViT", "self_attention", "mlp.0", "mlp.3"),
    (_SWIN, "SwinTransformerBlock"): ("torchvision Swin", "attn", "mlp.0", "mlp.3"),
    (_TIMM_VIT, "Block"): ("timm ViT", "attn", "mlp.fc1", "mlp.fc2"),
    (_TIMM_SWIN, "SwinTransformerBlock"): ("timm Swin", "attn", "mlp.fc1", "mlp.fc2"),
}
_ATTENTIONS = {
    ("torchvision ViT", ("torch.nn.modules.activation", "MultiheadAttention")),
    ("torchvision Swin", (_SWIN, "ShiftedWindowAttention")),
    ("timm ViT", ("timm.layers.attention", "Attention")),
    ("timm ViT", (_TIMM_VIT, "Attention")),
    ("timm Swin", (_TIMM_SWIN, "WindowAttention")),
}
_MLPS = {("torch.nn.modules.container", "Sequential"), ("timm.layers.mlp", "Mlp")}
_ACTIVATIONS = [[name] for name in ("GELU", "GELUTanh", "QuickGELU", "ReLU", "SiLU")]
