"""Photographs that come inside scikit-image and scikit-learn: nothing is fetched.

======== ==================================================== =====================================
name     picture                                              photographer and licence
======== ==================================================== =====================================
coffee   a cup of espresso on a saucer, with a spoon          Rachel Michetti, CC0
camera   a man behind a camera on a tripod, grey              Lav Varshney, CC0
chelsea  the face of a cat                                    Stefan van der Walt, CC0
rocket   the start of a Falcon 9                              SpaceX, public domain
flower   a dahlia                                             "vultilion" on Flickr, CC BY 2.0
china    a Chinese temple hall                                "danielbuechele" on Flickr, CC BY 2.0
======== ==================================================== =====================================

The first four are described in ``skimage.data``, the last two in scikit-learn's ``datasets/images/README.txt``.
scikit-image's motorcycle (Middlebury stereo benchmark) is not among them: the package names no licence for it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compactvision import _checks as checks
from compactvision.data.arrays import ImageSet
from compactvision.data.errors import DataError

FILES = {
    "coffee": ("skimage", "data/coffee.png"),
    "camera": ("skimage", "data/camera.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
}
LICENCE = "CC0 (coffee, camera, chelsea), public domain (rocket), CC BY 2.0 (flower: vultilion, china: danielbuechele)"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Those with which EfficientNet-Lite was trained, per channel in units of [0, 1]."""
_INSTALL = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def load_photos(train: bool = True, size: int = 224, crop: float = 0.875) -> ImageSet:
    """Load the six photographs as squares; each is a class of its own, named after it.

    A photograph's shorter side is resized to ``size / crop`` pixels (bicubic, antialiased) and the middle cut out, as
    is usual for networks that were trained on ImageNet. ``mean`` and ``std`` are those of
    ``models.pretrained("efficientnet_lite0")``, so that its batches can be given to that network.

    Parameters
    ----------
    train : bool, default True
        Makes no difference: the photographs are not divided into parts.
    size : int, default 224
        Side of the squares in pixels.
    crop : float, default 0.875
        Share of the shorter side that stays, in (0, 1].

    Raises
    ------
    ValueError
        Where ``size`` is below 1 or ``crop`` not in (0, 1].
    DataError
        Where a package or a file in it is missing.
    """
    checks.flags(train=train)
    checks.counts(size=size)
    checks.finite(crop=crop)
    if not 0 < crop <= 1:
        raise ValueError(f"crop must lie in (0, 1], not {crop}")
    return ImageSet(
        images=torch.stack([_square(name, size, crop) for name in FILES]),
        targets=torch.arange(len(FILES)),
        classes=tuple(FILES),
        name="photos",
        provenance=f"photographs inside scikit-image and scikit-learn: {LICENCE}",
        mean=MEAN,
        std=STD,
    )


def present() -> bool:
    """Tell whether all photographs lie in the installed packages."""
    return all(path is not None and path.is_file() for path in map(_path, FILES))


def _path(name: str) -> Path | None:
    package, file = FILES[name]
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / file


def _square(name: str, size: int, crop: float) -> Tensor:
    """Return the middle of a photograph: (3, size, size) uint8."""
    path, package = _path(name), _INSTALL[FILES[name][0]]
    if path is None:
        raise DataError(f"photos: {name} is part of {package}, which is not installed; run: pip install {package}")
    if not path.is_file():
        raise DataError(f"photos: {path} is missing; install {package} anew, or a version that has it")
    with Image.open(path) as file:
        photo = file.convert("RGB")
    scale = round(size / crop) / min(photo.size)
    photo = photo.resize([round(side * scale) for side in photo.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in photo.size)
    square = photo.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
