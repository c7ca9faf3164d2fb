"""Trained networks: those of this book's own recipes, shipped as fp16 safetensors, and one with ImageNet weights.

Each network of the book is two files in ``weights/``: ``<name>.safetensors`` and ``<name>.json``, the record of how it
was trained, on what, by which commit, and with which accuracy after rounding to fp16. ``make baselines`` makes both.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import torch
from torch import nn

from compactvision import _checks as checks
from compactvision.models import imagenet_weights, resnet, small

WEIGHTS = Path(__file__).resolve().parent / "weights"
BUILDERS = {
    "resnet20_glyphs": resnet.resnet20,
    "resnet20_cifar10": resnet.resnet20,
    "resnet56_cifar10": resnet.resnet56,
    "small_cnn_glyphs": partial(small.small_cnn, widths=(12, 24, 40, 64)),  # runs in the reader's browser
}


def available() -> tuple[str, ...]:
    """Return the names of the networks whose weights are shipped."""
    return tuple(name for name in BUILDERS if (WEIGHTS / f"{name}.safetensors").is_file())


def pretrained(name: str) -> nn.Module:
    """Return a trained network in eval mode, weights in float32.

    Parameters
    ----------
    name : str
        One of :func:`available`: "resnet20_cifar10", "resnet56_cifar10", "resnet20_glyphs" or "small_cnn_glyphs", whose
        inputs are normalised as ``compactvision.data.load`` of that set does. Or "efficientnet_lite0", trained on
        ImageNet: inputs are (B, 3, 224, 224), resized and cropped as ``data.load("photos")`` does and normalised to
        ``(images - 127) / 128`` for pixels in 0..255; the logits' order is that of ``imagenet_classes()``. Its weights
        are a package (extra ``imagenet``).

    Raises
    ------
    ValueError
        If the name is unknown, its weights are not shipped, or the file is not the one that its record describes.
    ModuleNotFoundError
        If the package with the weights of "efficientnet_lite0" is not installed; the message says how to install it.
    """
    from safetensors.torch import load

    checks.texts(name=name)
    if name == imagenet_weights.NAME:
        return imagenet_weights.load_efficientnet_lite0()
    record = pretrained_record(name)
    content = (WEIGHTS / f"{name}.safetensors").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != record["sha256"]:
        raise ValueError(
            f"name: the weights of {name!r} are damaged (sha256 {found[:12]}..., the record says "
            f"{record['sha256'][:12]}...); install the package anew"
        )
    model = BUILDERS[name]()
    model.load_state_dict({key: _restored(tensor) for key, tensor in load(content).items()})
    return model.eval()


def pretrained_record(name: str) -> dict:
    """Return how a shipped network was trained: recipe, data, device, versions, seconds and accuracies in [0, 1].

    Raises
    ------
    ValueError
        If the name is unknown or its weights are not shipped.
    """
    checks.texts(name=name)
    if name == imagenet_weights.NAME:
        raise ValueError(f"name: {name!r} was trained elsewhere; the book has no record of it")
    if name not in BUILDERS:
        raise ValueError(f"name: {name!r} is not one of {', '.join([*BUILDERS, imagenet_weights.NAME])}")
    if name not in available():
        raise ValueError(f"name: {name!r} is not shipped with this version; `make baselines` trains it")
    return json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))


def rounded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dictionary as it is shipped: floating-point tensors in fp16, contiguous, on the CPU."""
    return {
        key: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for key, tensor in state.items()
    }


def _restored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
