"""BCCD, photographs of blood cells with boxes in three classes, from the files as they are distributed.

364 photos of 640 x 480 pixels with 4,888 boxes, two of which are points and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.data import boxes, integrity, official
from compactvision.data.arrays import ImageSet
from compactvision.data.errors import DataError
from compactvision.data.masks import MEAN, STD, pair_of_sides, root_folder
from compactvision.data.pictures import read_picture

CLASSES = ("red cell", "white cell", "platelet")
SIZES = {"train": 205, "val": 87, "test": 72}
DIGESTS = {
    "train": "6d4f2a50f8ba19557693394b65db60a169c0331991fe9e242b00ae3426eeab01",
    "val": "19f598841e9280711a700f1b0187e5eafbb3e31a83fb628de5352096fd63607a",
    "test": "935585bbf2762eb7a900531abc53b2a041ff33b96a7b51efc4b8836312b39474",
}
"""SHA-256 of each part's files one after the other: in the order of its list, the annotation and the photo of each."""
LICENCE = "MIT; copyright 2017 Shenggan"
HEIGHT, WIDTH = 480, 640

_NAMES = {"RBC": 0, "WBC": 1, "Platelets": 2}
_SIDES = ("xmin", "ymin", "xmax", "ymax")

__all__ = ["load_bccd"]


def load_bccd(
    train: bool = True,
    *,
    root: str | Path | None = None,
    download: bool = True,
    size: tuple[int, int] = (240, 320),
    validation: bool = False,
) -> ImageSet:
    """Load BCCD, photographs of blood cells with boxes, in its own split: 205 / 87 / 72.

    The folder ``BCCD`` holds ``JPEGImages``, ``Annotations`` (Pascal VOC's XML) and ``ImageSets/Main`` as the
    repository of the set has them. It is never downloaded.

    Parameters
    ----------
    train : bool
        The training part, else the test part.
    root : path, optional
        The folder that holds ``BCCD``; ``data.folder()`` by default.
    download : bool
        Makes no difference: there is no archive to download.
    size : (int, int)
        Height and width in pixels, to which photos are resized bicubically and boxes with them; photos have 480 x 640.
    validation : bool
        The validation part in place of the test part; with ``train=False``.

    Returns
    -------
    ImageSet
        With boxes: targets (N, M, 5), see :mod:`compactvision.data.boxes`.

    Raises
    ------
    ValueError
        Where an argument is of another kind or out of range.
    DataError
        Where files are missing, damaged or not those of the set.
    """
    checks.flags(train=train, download=download, validation=validation)
    size = pair_of_sides(size)
    if train and validation:
        raise ValueError("validation must be False where train is True, got True")
    part = "train" if train else "val" if validation else "test"
    base = root_folder(root) / "BCCD"
    names = _names(base, part)
    notes = [base / "Annotations" / f"{name}.xml" for name in names]
    photos = [base / "JPEGImages" / f"{name}.jpg" for name in names]
    files = [file for both in zip(notes, photos, strict=True) for file in both]
    integrity.digest_of_all(files, DIGESTS[part], f"bccd: the {part} part of {base}")
    images = np.stack([read_picture(photo, size) for photo in photos])
    return ImageSet(
        images=torch.from_numpy(images),
        targets=boxes.padded([_boxes(note, size) for note in notes]),
        classes=CLASSES,
        name=f"bccd/{part}",
        provenance=f"BCCD, its own split (sha256 checked; {len(names)} photos at {size[0]} x {size[1]})",
        mean=MEAN,
        std=STD,
        boxes=True,
    )


def present() -> bool:
    """Tell whether the folders of the set are there, checked by name only."""
    base = official.folder() / "BCCD"
    return all((base / name).is_dir() for name in ("Annotations", "ImageSets", "JPEGImages"))


def _names(base: Path, part: str) -> Sequence[str]:
    listed = base / "ImageSets" / "Main" / f"{part}.txt"
    if not listed.exists():
        raise DataError(
            f"bccd: {listed} is missing: set {official.VARIABLE} to a folder that holds BCCD with Annotations, "
            "ImageSets and JPEGImages; it cannot be downloaded"
        )
    names = integrity.read_bytes(listed).decode("utf-8", errors="replace").split()
    if len(names) != SIZES[part] or any(Path(name).name != name for name in names):
        raise DataError(f"bccd: {listed} lists {len(names)} photos instead of {SIZES[part]}")
    return names


def _boxes(note: Path, size: tuple[int, int]) -> Tensor:
    """Return the boxes (M, 5) of one photo at another size, without those that have no area."""
    try:
        listed = ElementTree.fromstring(integrity.read_bytes(note)).iter("object")
        rows = [
            [*(float(each.findtext(f"bndbox/{side}", "")) for side in _SIDES), float(_NAMES[each.findtext("name", "")])]
            for each in listed
        ]
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise DataError(f"{note} has not the layout of Pascal VOC ({error!r}): unpack the set again") from error
    found = torch.tensor(rows).reshape(-1, 5)
    scale = torch.tensor([size[1] / WIDTH, size[0] / HEIGHT, size[1] / WIDTH, size[0] / HEIGHT])
    limits = torch.tensor([size[1], size[0], size[1], size[0]])
    found[:, :4] = (found[:, :4] * scale).clamp(min=0).minimum(limits)
    return found[boxes.area(found) > 0]
