"""Your own images: one folder a class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from compactvision.data.arrays import ImageSet
from compactvision.data.errors import DataError

_IGNORED = {"thumbs.db", "desktop.ini"}  # left behind by file managers, like files that begin with a dot


def from_folder(
    path: str | Path, *, size: int = 32, train_fraction: float = 0.8, seed: int = 0
) -> tuple[ImageSet, ImageSet]:
    """Read a folder with one sub-folder of images for each class, and split it.

    Every image is turned upright (EXIF), converted to RGB (transparent parts become white), reduced or enlarged until
    its short side has ``size`` pixels, and cut to its middle square. The split is keyed by the resulting pixels, class
    by class: renaming or reordering files does not change it. Mean and standard deviation are those of the training
    part.

    Parameters
    ----------
    path : path
        The folder; its sub-folders' names, sorted, are the classes. Files in deeper folders count as well.
    size : int
        Side of the result in pixels.
    train_fraction : float
        Share of the first part, in (0, 1).
    seed : int
        Of the split.

    Returns
    -------
    Training and test set.

    Raises
    ------
    ValueError
        Where ``size`` or ``train_fraction`` is out of range, or a class has too few images to be in both parts.
    DataError
        Where the folder is missing, has fewer than two classes or an empty one, or a file is not a readable image.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: it must hold one sub-folder of images for each class")
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(folders) < 2:
        raise DataError(f"{path} has {len(folders)} sub-folders: at least two are needed, one for each class")
    images, labels = [], []
    for label, folder in enumerate(folders):
        files = [file for file in sorted(folder.rglob("*")) if _counts(file)]
        if not files:
            raise DataError(f"{folder} has no images: add some, or remove the empty folder")
        images += [_read(file, size) for file in files]
        labels += [label] * len(files)
    whole = ImageSet(
        images=torch.from_numpy(np.stack(images)),
        targets=torch.tensor(labels),
        classes=tuple(folder.name for folder in folders),
        name=path.resolve().name,
        provenance=f"own images from the folder {path.resolve().name!r} ({len(images)} files)",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    return _split(whole, train_fraction, seed)


def _split(whole: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    parts = whole.split(fraction, seed)
    for label, name in enumerate(whole.classes):
        if not all(bool((part.targets == label).any()) for part in parts):
            count = int((whole.targets == label).sum())
            raise ValueError(f"class {name!r} has {count} images, too few for both parts at train_fraction {fraction}")
    mean, std = _moments(parts[0].images.numpy())
    train, test = (
        replace(part, name=f"{whole.name}/{word}", mean=mean, std=std)
        for part, word in zip(parts, ("train", "test"), strict=True)
    )
    return train, test


def _counts(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.name.lower() not in _IGNORED


def _read(file: Path, size: int) -> np.ndarray:
    """Read one image as (3, size, size) uint8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as an image ({error}): repair, convert or remove it") from error
    square = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    return np.asarray(square).transpose(2, 0, 1)


def _moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in units of [0, 1], from integer counts (order plays no part)."""
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        share = np.bincount(images[:, channel].reshape(-1), minlength=256) / images[:, channel].size
        mean = float((share * levels).sum())
        means.append(mean)
        deviations.append(max(float((share * (levels - mean) ** 2).sum()) ** 0.5, 1 / 255))
    return tuple(means), tuple(deviations)
