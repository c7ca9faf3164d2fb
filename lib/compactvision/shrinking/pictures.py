"""A folder of pictures as training and test batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compactvision import data
from compactvision.data import ImageSet
from compactvision.data.batches import Batches
from compactvision.data.folders import read_split

LARGEST_SIDE, SMALLEST_SIDE = 224, 16
LOOKED_AT = 100  # pictures, for a side


@dataclass(frozen=True)
class Pictures:
    """Both parts of a folder, and what there is to say."""

    train: ImageSet
    test: ImageSet
    said: tuple[str, ...]

    def batches(self, size: int, *, crop: int, flip: bool, device: str) -> tuple[Batches, Batches]:
        """Return batches for training, shuffled and moved at random, and for testing."""
        size = min(size, len(self.train))
        train = self.train.batches(size, shuffle=True, crop=crop, flip=flip, drop_last=True, device=device)
        return train, self.test.batches(max(size, 100), device=device)

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Pictures:
        """Return the same pictures, normalised by other numbers."""
        train, test = (replace(part, mean=mean, std=std) for part in (self.train, self.test))
        return Pictures(train, test, self.said)


def pictures(path: Path, size: int | None, *, train_fraction: float, seed: int) -> Pictures:
    """Read a folder that holds train and test, each with a folder a class, or a folder a class, which is split.

    Raises
    ------
    DataError
        Where the folder or a picture cannot be read.
    ValueError
        Where the split leaves a class without pictures, or both parts have other classes.
    """
    both = all((path / part).is_dir() for part in ("train", "test"))
    said = []
    if size is None:
        size = usual_side(path)
        said.append(f"pictures are read with {size} pixels a side, the usual short side (--size to change it)")
    if both:
        train, test = read_split(path / "train", path / "test", size=size)
        copies = _in_both(train, test)
        said += [f"{copies} of {len(test)} test pictures are among the training pictures, too"] if copies else []
    else:
        try:
            train, test = data.from_folder(path, size=size, train_fraction=train_fraction, seed=seed)
        except ValueError as error:
            raise ValueError(f"--data {str(path)!r}, --test-share {1 - train_fraction:.3g}: {error}") from error
        said.append(f"split by content: {len(train):,} pictures to train on, {len(test):,} to test on")
    return Pictures(train, test, tuple(said))


def usual_side(path: Path) -> int:
    """Return the median short side of some pictures in pixels, at least 16 and at most 224."""
    from PIL import Image, UnidentifiedImageError

    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    sides = []
    for file in files[:: max(1, len(files) // LOOKED_AT)]:
        try:
            with Image.open(file) as opened:
                sides.append(min(opened.size))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            continue  # reading all of them will name it
    return int(np.clip(np.median(sides) if sides else LARGEST_SIDE, SMALLEST_SIDE, LARGEST_SIDE))


def _in_both(train: ImageSet, test: ImageSet) -> int:
    known = {picture.tobytes() for picture in train.images.numpy()}
    return sum(picture.tobytes() in known for picture in test.images.numpy())
