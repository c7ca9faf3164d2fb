"""Valid calls of the scenes for segmentation, and of photographs with masks."""

from pathlib import Path

import numpy as np
from compactvision.data import masks
from PIL import Image


def _camvid() -> Path:
    for part, count in masks.CAMVID_SIZES.items():
        for number in range(count):
            for folder, mode in ((part, "RGB"), (f"{part}annot", "L")):
                file = Path("CamVid") / folder / f"{number:03}.png"
                if not file.exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    Image.new(mode, (4, 4)).save(file)
    return Path()


def _pets() -> Path:
    place = Path("oxford-iiit-pet")
    for folder in ("images", "annotations/trimaps"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    for part, count in masks.PETS_SIZES.items():
        (place / "annotations" / f"{part}.txt").write_text("cat 1 1 1\n" * count)
    Image.new("RGB", (4, 4)).save(place / "images" / "cat.jpg")
    Image.fromarray(np.ones((4, 4), dtype=np.uint8)).save(place / "annotations" / "trimaps" / "cat.png")
    return Path()


CALLS = {
    "data.composed.composed": lambda: {"n": 2, "counts": [1, 1, 0], "size": 32},
    "data.composed.load_composed": lambda: {"n": 2, "size": 32},
    "data.composed.load_far_cue": lambda: {"n": 2, "size": 32},
    "data.masks.load_camvid": lambda: {
        "train": False,
        "root": _camvid(),
        "download": False,
        "size": (4, 4),
        "validation": True,
    },
    "data.masks.load_pets": lambda: {"train": True, "root": _pets(), "download": False, "size": 4, "n": 3},
}
AFTERWARDS: dict = {}
FREE = {
    "data.composed.composed": ("seed:-1",),
    "data.composed.load_composed": ("seed:-1",),
    "data.composed.load_far_cue": ("seed:-1",),
}
