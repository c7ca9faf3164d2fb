"""Valid calls of scenes for segmentation, photographs with masks, and U-MixFormer's rivals and frozen maps."""

from pathlib import Path

import numpy as np
import torch
from compactvision import models
from compactvision.architectures.u_mixformer import frozen, rivals
from compactvision.data import masks
from compactvision.models.segmentation import SegFormerHead
from PIL import Image
from torch import nn

from .. import objects as o

WIDTHS = (4, 6, 8)
UM = "architectures.u_mixformer."


def _maps() -> list[torch.Tensor]:
    return [o.normal(2, width, side, side) for width, side in zip(WIDTHS, (8, 4, 2), strict=True)]


def _images() -> torch.Tensor:
    return torch.zeros(2, 3, 32, 32, dtype=torch.uint8)


def _sized(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(rivals.Filling(WIDTHS, hidden), SegFormerHead(WIDTHS, 3, width=width))


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
    f"{UM}rivals.GlobalMaximum": lambda: {
        "channels": WIDTHS,
        "hidden": 4,
        "found": 3,
        "level": 2,
        "generator": o.seeded(),
    },
    f"{UM}rivals.GlobalMaximum.forward": lambda: {"self": rivals.GlobalMaximum(WIDTHS), "maps": _maps()},
    f"{UM}rivals.PyramidPooling": lambda: {"channels": WIDTHS, "bins": [1, 2], "found": 3, "generator": o.seeded()},
    f"{UM}rivals.PyramidPooling.forward": lambda: {"self": rivals.PyramidPooling(WIDTHS), "maps": _maps()},
    f"{UM}rivals.WithoutAttention": lambda: {"channels": WIDTHS, "generator": o.seeded()},
    f"{UM}rivals.WithoutAttention.forward": lambda: {"self": rivals.WithoutAttention(WIDTHS), "maps": _maps()},
    f"{UM}rivals.Filling": lambda: {"channels": WIDTHS, "hidden": 3, "generator": o.seeded()},
    f"{UM}rivals.Filling.forward": lambda: {"self": rivals.Filling(WIDTHS, 3).eval(), "maps": _maps()},
    f"{UM}rivals.OnMaps": lambda: {"decoder": nn.Identity()},
    f"{UM}rivals.cost": lambda: {"decoder": _sized(8, 2), "maps": _maps()},
    f"{UM}rivals.equal_size": lambda: {
        "build": _sized,
        "maps": _maps(),
        "macs": 20_000,
        "parameters": 1000,
        "widths": [4, 6, 8],
    },
    f"{UM}frozen.Reduction.fit": lambda: {"maps": _maps(), "channels": [2, 3, 4]},
    f"{UM}frozen.Reduction.__call__": lambda: {
        "self": frozen.Reduction.fit(_maps(), [2, 3, 4]),
        "maps": _maps(),
    },
    f"{UM}frozen.computed": lambda: {
        "encode": frozen.patch_maps((2, 2, 2, 2), o.seeded()),
        "images": _images(),
        "batch_size": 1,
    },
    f"{UM}frozen.lite0_maps": lambda: {"network": models.EfficientNetLite(2).eval(), "images": _images()},
    f"{UM}frozen.patch_maps": lambda: {"channels": (2, 2, 2, 2), "generator": o.seeded()},
    f"{UM}frozen.resnet_maps": lambda: {"network": models.resnet20(2).eval(), "images": _images()},
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
    f"{UM}rivals.OnMaps": ("decoder:of nan",),  # nothing runs yet
    "data.composed.composed": ("seed:-1",),
    "data.composed.load_composed": ("seed:-1",),
    "data.composed.load_far_cue": ("seed:-1",),
}
