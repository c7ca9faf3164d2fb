"""Loads MiT weights that others have published, whatever they call them.

Four ways to name the same tensors are known: those of the authors' code (``block1.0.attn.kv.weight``), of
MMSegmentation (``layers.0.1.0.attn.attn.in_proj_weight``), and of transformers before and from version 5. Nothing is
downloaded. The authors' weights have a licence of their own: read it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.models.encoders.mit import MiT

_LAYER = {
    "SegFormer": {
        "norm1": "norm1",
        "norm2": "norm2",
        "attn.q": "query",
        "attn.kv": "key_value",
        "attn.proj": "project",
        "attn.sr": "reduce",
        "attn.norm": "norm",
        "mlp.fc1": "expand",
        "mlp.dwconv.dwconv": "mix",
        "mlp.fc2": "shrink",
    },
    "MMSegmentation": {
        "norm1": "norm1",
        "norm2": "norm2",
        "attn.attn.in_proj": "in",
        "attn.attn.out_proj": "project",
        "attn.sr": "reduce",
        "attn.norm": "norm",
        "ffn.layers.0": "expand",
        "ffn.layers.1": "mix",
        "ffn.layers.4": "shrink",
    },
    "transformers 4": {
        "layer_norm_1": "norm1",
        "layer_norm_2": "norm2",
        "attention.self.query": "query",
        "attention.self.key": "key",
        "attention.self.value": "value",
        "attention.output.dense": "project",
        "attention.self.sr": "reduce",
        "attention.self.layer_norm": "norm",
        "mlp.dense1": "expand",
        "mlp.dwconv.dwconv": "mix",
        "mlp.dense2": "shrink",
    },
    "transformers 5": {
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.q_proj": "query",
        "attention.k_proj": "key",
        "attention.v_proj": "value",
        "attention.o_proj": "project",
        "attention.sequence_reduction.sequence_reduction": "reduce",
        "attention.sequence_reduction.layer_norm": "norm",
        "mlp.fc1": "expand",
        "mlp.dwconv.dwconv": "mix",
        "mlp.fc2": "shrink",
    },
}
_STAGE = {  # embedding, its LayerNorm, the LayerNorm behind the stage, a layer; and the number of the first stage
    "SegFormer": (r"patch_embed(\d+)\.proj", r"patch_embed(\d+)\.norm", r"norm(\d+)", r"block(\d+)\.(\d+)\.(.+)", 1),
    "MMSegmentation": (
        r"layers\.(\d+)\.0\.projection",
        r"layers\.(\d+)\.0\.norm",
        r"layers\.(\d+)\.2",
        r"layers\.(\d+)\.1\.(\d+)\.(.+)",
        0,
    ),
    "transformers 4": (
        r"encoder\.patch_embeddings\.(\d+)\.proj",
        r"encoder\.patch_embeddings\.(\d+)\.layer_norm",
        r"encoder\.layer_norm\.(\d+)",
        r"encoder\.block\.(\d+)\.(\d+)\.(.+)",
        0,
    ),
    "transformers 5": (
        r"stages\.(\d+)\.patch_embeddings\.proj",
        r"stages\.(\d+)\.patch_embeddings\.layer_norm",
        r"stages\.(\d+)\.layer_norm",
        r"stages\.(\d+)\.blocks\.(\d+)\.(.+)",
        0,
    ),
}
_PLACE = {
    "query": "attention.attention.query",
    "key_value": "attention.attention.key_value",
    "project": "attention.attention.project",
    "reduce": "attention.reduce",
    "norm": "attention.norm",
    "expand": "ffn.expand",
    "mix": "ffn.mix",
    "shrink": "ffn.shrink",
}
_AROUND = ("module.", "model.", "backbone.", "segformer.")
_HEADS = ("head.", "decode_head.", "auxiliary_head.", "classifier.")


def load_published_(encoder: MiT, weights: Mapping[str, Any] | str | os.PathLike) -> str:
    """Put published weights into a MiT, in place.

    Parameters
    ----------
    encoder : MiT
        Of the same widths and depths.
    weights : mapping of str to Tensor, or path
        A state dict, or a file with one (``.safetensors``, or what ``torch.load(weights_only=True)`` reads). Prefixes
        such as ``backbone.`` are taken off, weights of a classifier or decoder are passed over.

    Returns
    -------
    str
        Whose names they have: "SegFormer", "MMSegmentation", "transformers 4" or "transformers 5".

    Raises
    ------
    ValueError
        If the encoder is no MiT, names are of none of these kinds, or a tensor is missing, left over, or of another
        shape; the encoder is then as before.
    """
    checks.instances(MiT, encoder=encoder)
    checks.materialised(encoder=encoder)
    state = _plain(_read(weights) if isinstance(weights, (str, os.PathLike)) else weights)
    style = _style(state)
    ours = _joined({_renamed(name, style): tensor for name, tensor in state.items()})
    wanted = encoder.state_dict()
    missing, more = sorted(wanted.keys() - ours.keys()), sorted(ours.keys() - wanted.keys())
    if missing:
        raise ValueError(f"weights lack {len(missing)} tensors of the encoder, such as {missing[0]!r}")
    if more:
        raise ValueError(f"weights have {len(more)} tensors that the encoder has not, such as {more[0]!r}")
    for name, tensor in wanted.items():
        if ours[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, got {tuple(ours[name].shape)}"
            raise ValueError(f"weights must have {name} of shape {shapes}: they are of another encoder")
    encoder.load_state_dict(ours)
    return style


def _read(path: str | os.PathLike) -> Any:
    if not Path(path).is_file():
        raise ValueError(f"weights must be a state dict or a file, got {os.fspath(path)!r}")
    if Path(path).suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _plain(weights: Any) -> dict[str, Tensor]:
    """Names without what stands around the encoder, and without decoders."""
    for inside in ("state_dict", "model"):
        if isinstance(weights, Mapping) and isinstance(weights.get(inside), Mapping):
            weights = weights[inside]
    checks.mappings(weights=weights)
    state = {}
    for name, tensor in weights.items():
        checks.texts(**{"weights (a name)": name})
        short = name
        while short.startswith(_AROUND):
            short = short.partition(".")[2]
        if not short.startswith(_HEADS):
            checks.floating(**{f"weights[{name!r}]": tensor})
            state[short] = tensor
    return state


def _style(state: Mapping[str, Tensor]) -> str:
    for style, (embedding, *_) in _STAGE.items():
        if any(re.fullmatch(rf"{embedding}\.weight", name) for name in state):
            return style
    known = ", ".join(_STAGE)
    example = next(iter(state), "nothing")
    raise ValueError(f"weights must have the names of one of {known}, got {example!r}")


def _renamed(name: str, style: str) -> str:
    """Return our name of a tensor, or the given one where there is none."""
    embedding, first, last, layer, zero = _STAGE[style]
    stem, _, kind = name.rpartition(".")
    if style == "MMSegmentation" and name.endswith(("in_proj_weight", "in_proj_bias")):
        stem, _, kind = name.rpartition("_")
    for pattern, place in ((embedding, "embed"), (first, "norm1"), (last, "norm2")):
        found = re.fullmatch(pattern, stem)
        if found:
            return f"stages.{int(found[1]) - zero}.{place}.{kind}"
    found = re.fullmatch(layer, stem)
    part = _LAYER[style].get(found[3]) if found else None
    if found is None or part is None:
        return name
    return f"stages.{int(found[1]) - zero}.layers.{found[2]}.{_PLACE.get(part, part)}.{kind}"


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make keys and values one tensor, split a tensor of all three, and take 1 x 1 convolutions for matrices."""
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        layer, _, part = stem.rpartition(".")
        inside = f"{layer}.attention.attention"
        if part == "in":
            width = len(tensor) // 3
            made[f"{inside}.query.{kind}"] = tensor[:width]
            made[f"{inside}.key_value.{kind}"] = tensor[width:]
        elif part == "key" and f"{layer}.value.{kind}" in state:
            made[f"{inside}.key_value.{kind}"] = torch.cat([tensor, state[f"{layer}.value.{kind}"]])
        elif part == "value" and f"{layer}.key.{kind}" in state:
            continue
        else:
            made[name] = tensor.flatten(1) if part in ("expand", "shrink") and kind == "weight" else tensor
    return made
