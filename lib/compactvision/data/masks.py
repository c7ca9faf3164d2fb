"""Photographs with a class for each pixel: CamVid and the Oxford-IIIT Pets, from files as they are distributed.

Class numbers are int64 and :data:`IGNORED` where the annotators left a pixel open (void, or the border of an animal).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from compactvision import _checks as checks
from compactvision.data import integrity, keys, official
from compactvision.data.arrays import ImageSet
from compactvision.data.errors import DataError
from compactvision.data.pictures import read_mask, read_picture

IGNORED = 255
"""The label of pixels that count for nothing."""
CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "cyclist",
)
CAMVID_SIZES = {"train": 367, "val": 101, "test": 233}
CAMVID_LICENCE = "non-commercial research; cite Brostow, Fauqueur, Cipolla 2009"
PETS_SIZES = {"trainval": 3680, "test": 3669}
PETS_LICENCE = "CC BY-SA 4.0; cite Parkhi et al. 2012"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Those with which EfficientNet-Lite was trained, per channel in units of [0, 1]."""

__all__ = ["IGNORED", "load_camvid", "load_pets"]

_VOID = 11  # CamVid's own number
_PHOTOS = (".png", ".webp", ".jpg")  # the distributed photos are PNG


def load_camvid(
    train: bool = True,
    *,
    root: str | Path | None = None,
    download: bool = True,
    size: tuple[int, int] = (360, 480),
    validation: bool = False,
) -> ImageSet:
    """Load CamVid, street scenes from a car :cite:`brostow2009`, in the split and size of SegNet: 367 / 101 / 233.

    The folder ``CamVid`` holds ``train``, ``val`` and ``test`` with photos (PNG, WebP or JPEG), and ``trainannot``,
    ``valannot`` and ``testannot`` with masks of the same names (PNG; 0 to 10 are the classes, 11 void). It is never
    downloaded.

    Parameters
    ----------
    train : bool
        The training part, else the test part.
    root : path, optional
        The folder that holds ``CamVid``; ``data.folder()`` by default.
    download : bool
        Makes no difference: nobody may pass the photos on, so that there is nothing to download from.
    size : (int, int)
        Height and width in pixels. Photos are resized bicubically, masks take the nearest pixel.
    validation : bool
        The validation part in place of the test part; with ``train=False``.

    Raises
    ------
    ValueError
        Where an argument is of another kind or out of range.
    DataError
        Where files are missing, damaged or without a partner, or a mask holds other numbers than 0 to 11.
    """
    checks.flags(train=train, download=download, validation=validation)
    size = pair_of_sides(size)
    if train and validation:
        raise ValueError("validation must be False where train is True, got True")
    part = "train" if train else "val" if validation else "test"
    base = root_folder(root) / "CamVid"
    photos = _camvid_photos(base, part)
    images = np.empty((len(photos), 3, *size), dtype=np.uint8)
    masks = np.empty((len(photos), *size), dtype=np.int64)
    for number, photo in enumerate(photos):
        images[number] = read_picture(photo, size)
        mask = base / f"{part}annot" / f"{photo.stem}.png"
        masks[number] = _checked(read_mask(mask, size), mask, range(_VOID + 1))
    masks[masks == _VOID] = IGNORED
    kinds = ", ".join(sorted({photo.suffix[1:] for photo in photos}))
    return ImageSet(
        images=torch.from_numpy(images),
        targets=torch.from_numpy(masks),
        classes=CAMVID_CLASSES,
        name=f"camvid/{part}",
        provenance=f"CamVid, SegNet's split, from a folder ({len(photos)} photos as {kinds}, {size[0]} x {size[1]})",
        mean=MEAN,
        std=STD,
    )


def load_pets(
    train: bool = True,
    *,
    root: str | Path | None = None,
    download: bool = True,
    size: int = 128,
    n: int | None = None,
) -> ImageSet:
    """Load the Oxford-IIIT Pets :cite:`parkhi2012`: cats and dogs with a mask, in torchvision's layout.

    Classes are background (0) and pet (1); the border between them, which the annotators left open, is ignored.

    Parameters
    ----------
    train : bool
        The 3,680 photos for training and validation, else the 3,669 for testing.
    root : path, optional
        Folder with ``oxford-iiit-pet``; ``data.folder()`` by default.
    download : bool
        Fetch a missing set with torchvision.
    size : int
        Side in pixels: the shorter side of a photo is resized to it, and the middle cut out.
    n : int, optional
        Only the first ``n`` photos of a random order (the same on every machine); all by default.

    Raises
    ------
    ValueError
        Where an argument is of another kind or out of range.
    DataError
        Where files are missing or damaged, or a mask holds other numbers than 1, 2 and 3.
    """
    checks.flags(train=train, download=download)
    checks.counts(size=size)
    part = "trainval" if train else "test"
    if n is not None:
        checks.counts(n=n)
    base = root_folder(root)
    names = _pet_names(base, part, download)
    if n is not None and n > len(names):
        raise ValueError(f"n must lie in [1, {len(names)}], got {n}")
    order = keys.permutation(keys.key(0, 0x9E7), len(names))[:n]
    images = np.empty((len(order), 3, size, size), dtype=np.uint8)
    masks = np.empty((len(order), size, size), dtype=np.int64)
    place = base / "oxford-iiit-pet"
    for row, number in enumerate(order):
        name = names[number]
        images[row] = read_picture(place / "images" / f"{name}.jpg", size)
        mask = place / "annotations" / "trimaps" / f"{name}.png"
        masks[row] = _checked(read_mask(mask, size), mask, range(1, 4))
    values = np.array([IGNORED, 1, 0, IGNORED])  # 1 is the animal, 2 what surrounds it, 3 the border
    return ImageSet(
        images=torch.from_numpy(images),
        targets=torch.from_numpy(values[masks]),
        classes=("background", "pet"),
        name=f"oxford_iiit_pet/{part}" + ("" if n is None else f"[{n}]"),
        provenance=f"Oxford-IIIT Pet, trimaps ({len(order)} photos at {size} x {size})",
        mean=MEAN,
        std=STD,
    )


def present(name: str) -> bool:
    """Tell whether the folders of "camvid" or "oxford_iiit_pet" are there, checked by name only."""
    base = official.folder()
    if name == "camvid":
        return all((base / "CamVid" / f"{part}{end}").is_dir() for part in CAMVID_SIZES for end in ("", "annot"))
    place = base / "oxford-iiit-pet"
    return (place / "images").is_dir() and (place / "annotations" / "trimaps").is_dir()


def root_folder(root: str | Path | None) -> Path:
    """Return the folder that holds sets, ``data.folder()`` for None; errors where it is none."""
    if root is not None and not isinstance(root, (str, Path)):
        raise ValueError(f"root must be a path, got {checks.shown(root)}")
    base = official.folder() if root is None else Path(root)
    try:
        other = base.exists() and not base.is_dir()
    except (OSError, ValueError) as error:
        raise DataError(f"root {str(base)[:80]!r} cannot be read ({error})") from error
    if other:
        raise DataError(f"root {base} is not a folder")
    return base


def pair_of_sides(size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width); a ``ValueError`` where they are no two counts."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size must be (height, width), got {checks.shown(size)}")
    for place, side in enumerate(size):
        checks.counts(**{f"size[{place}]": side})
    return size[0], size[1]


def _camvid_photos(base: Path, part: str) -> list[Path]:
    """Return the photos of a part, sorted; each with a mask, none without, and as many as there should be."""
    for place in (base / part, base / f"{part}annot"):
        if not place.is_dir():
            raise DataError(
                f"camvid: {place} is missing: set {official.VARIABLE} to a folder that holds CamVid in SegNet's "
                f"layout (train, trainannot, val, valannot, test, testannot); it cannot be downloaded"
            )
    photos = sorted(file for file in _listed(base / part) if file.suffix.lower() in _PHOTOS)
    masks = {file.stem for file in _listed(base / f"{part}annot") if file.suffix.lower() == ".png"}
    names = [photo.stem for photo in photos]
    odd = sorted(set(names) ^ masks)
    if odd:
        raise DataError(f"camvid: {odd[0]} of {base / part} has no photo or no mask: unpack the set again")
    if len(set(names)) < len(names):
        raise DataError(f"camvid: {base / part} holds photos twice, in two formats: remove one of them")
    if len(photos) != CAMVID_SIZES[part]:
        raise DataError(f"camvid: {base / part} holds {len(photos)} photos instead of {CAMVID_SIZES[part]}")
    return photos


def _listed(place: Path) -> list[Path]:
    try:
        return [file for file in place.iterdir() if not file.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror}): check its permissions") from error


def _pet_names(base: Path, part: str, download: bool) -> list[str]:
    """Return the names in the list of a part, fetching the set where it is missing."""
    listed = base / "oxford-iiit-pet" / "annotations" / f"{part}.txt"
    if not listed.exists():
        if not download:
            raise DataError(
                f"oxford_iiit_pet: {listed} is missing and download=False: load it with download=True, or set "
                f"{official.VARIABLE} to a folder that holds oxford-iiit-pet"
            )
        _fetch_pets(base)
    names = [line.split()[0] for line in integrity.read_bytes(listed).decode("utf-8").splitlines() if line]
    if len(names) != PETS_SIZES[part]:
        raise DataError(f"oxford_iiit_pet: {listed} lists {len(names)} photos instead of {PETS_SIZES[part]}")
    return names


def _fetch_pets(base: Path) -> None:
    import torchvision

    try:
        base.mkdir(parents=True, exist_ok=True)
        if not os.access(base, os.W_OK):
            raise PermissionError(13, "read-only", str(base))
        torchvision.datasets.OxfordIIITPet(base, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"oxford_iiit_pet: download to {base} failed ({error}): check the connection and the free space (1.6 GiB), "
            f"or set {official.VARIABLE} to a folder that holds oxford-iiit-pet"
        ) from error


def _checked(mask: np.ndarray, file: Path, allowed: range) -> np.ndarray:
    """Refuse a mask with numbers that are no class."""
    low, high = int(mask.min()), int(mask.max())
    if low < allowed.start or high >= allowed.stop:
        raise DataError(
            f"{file} holds {low} to {high}, not {allowed.start} to {allowed.stop - 1}: unpack the set again"
        )
    return mask
