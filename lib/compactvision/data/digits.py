"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels, part of the library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from compactvision import _checks as checks
from compactvision.data.arrays import ImageSet

LICENCE = "CC BY 4.0 (UCI Machine Learning Repository); cite Alpaydin and Kaynak 1998"
TRAIN_FRACTION = 0.75


def load_digits(train: bool = True) -> ImageSet:
    """Load the digits, split by content into 1,348 images for training and 449 for testing.

    Grey values 0..16 are spread over 0..255. The split is the same whatever order scikit-learn keeps them in.
    """
    checks.flags(train=train)
    from sklearn.datasets import load_digits as sklearn_digits

    source = sklearn_digits()
    pixels = (source.images * 255 / 16 + 0.5).astype(np.uint8)[:, None]  # (N, 1, 8, 8); 16 -> 255, all exact in float64
    whole = ImageSet(
        images=torch.from_numpy(pixels),
        targets=torch.from_numpy(source.target.astype(np.int64)),
        classes=tuple("0123456789"),
        name="digits",
        provenance="scikit-learn's digits (UCI optical recognition of handwritten digits, test part)",
        mean=(0.3053,),
        std=(0.3759,),
    )
    part = whole.split(TRAIN_FRACTION)[0 if train else 1]
    return replace(part, name=f"digits/{'train' if train else 'test'}")
