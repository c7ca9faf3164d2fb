"""Your own images: one folder a class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from compactvision import _checks as checks
from compactvision.data.arrays import ImageSet
from compactvision.data.errors import DataError
from compactvision.data.pictures import read_picture

_IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}  # left behind by file managers, like names that begin with a dot


def from_folder(
    path: str | Path, *, size: int = 32, train_fraction: float = 0.8, seed: int = 0
) -> tuple[ImageSet, ImageSet]:
    """Read a folder with one sub-folder of images for each class, and split it.

    Every image is turned upright (EXIF), converted to RGB (transparent parts become white), reduced or enlarged until
    its short side has ``size`` pixels, and cut to its middle square. The split is keyed by the resulting pixels, class
    by class: renaming or reordering files does not change it. Images with equal pixels lie in one part, also where they
    have different classes, so that none is learned and tested; ``train_fraction`` counts those that differ. Mean and
    standard deviation are those of the training part.

    Values keep their meaning: floating-point pictures lie in 0 (black) to 1 (white), integers of more than 8 bits are
    divided by the largest that their type can hold (65,535 for 16 bits, 2,147,483,647 for 32 with a sign). Where that
    would leave nothing to be seen (the values of a 16-bit picture in 32 bits), values are negative, or floats lie
    outside 0 to 1, the file is refused. Of a picture that moves the first frame counts.

    Left out are hidden files and folders (``.ipynb_checkpoints``, ``.DS_Store``, ``._x.jpg``) and ``__MACOSX``.

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
        Where an argument is of another kind or out of range, or a class has too few different images for both parts.
    DataError
        Where the folder is missing, has fewer than two classes or an empty one, a link leads nowhere or in a circle, or
        a file is not a readable image of at most 89 million pixels.
    """
    checks.instances((str, Path), path=path)
    checks.whole(size=size, seed=seed)
    checks.numbers(train_fraction=train_fraction)
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    if not 0 < train_fraction < 1:
        raise ValueError(f"train_fraction must lie in (0, 1), not {train_fraction}")
    return _split(_read(Path(path), size), train_fraction, seed)


def read_split(train: Path, test: Path, *, size: int) -> tuple[ImageSet, ImageSet]:
    """Read two folders that are split already, each with one sub-folder for each class; rules of :func:`from_folder`.

    Raises
    ------
    ValueError
        Where ``size`` is no whole number of at least 1, or the folders have other classes.
    DataError
        As for :func:`from_folder`.
    """
    checks.counts(size=size)
    parts = [_read(Path(path), size) for path in (train, test)]
    if parts[0].classes != parts[1].classes:
        apart = sorted(set(parts[0].classes) ^ set(parts[1].classes))
        raise ValueError(f"train and test must have the same classes; {', '.join(apart[:3])} is in one of them only")
    mean, std = _moments(parts[0].images.numpy())
    first, second = (replace(part, mean=mean, std=std) for part in parts)
    return first, second


def _read(path: Path, size: int) -> ImageSet:
    """Read all pictures of a folder, with statistics that stand for none."""
    folders = _folders(path)
    images, labels = [], []
    for label, folder in enumerate(folders):
        files = _files(folder)
        images += [read_picture(file, size) for file in files]
        labels += [label] * len(files)
    return ImageSet(
        images=torch.from_numpy(np.stack(images)),
        targets=torch.tensor(labels),
        classes=tuple(folder.name for folder in folders),
        name=path.resolve().name,
        provenance=f"own images from the folder {path.resolve().name!r} ({len(images)} files)",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def _split(whole: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    copies: dict[bytes, list[int]] = {}  # numbers of the pictures with the same pixels, whatever their class
    for number, picture in enumerate(whole.images.numpy()):
        copies.setdefault(picture.tobytes(), []).append(number)
    different = whole.subset(np.array([numbers[0] for numbers in copies.values()]))
    parts = [
        whole.subset(np.array([number for picture in part.images.numpy() for number in copies[picture.tobytes()]]))
        for part in different.split(fraction, seed)
    ]
    for label, name in enumerate(whole.classes):
        if not all(bool((part.targets == label).any()) for part in parts):
            own = whole.targets == label
            count, unlike = int(own.sum()), len(torch.unique(whole.images[own], dim=0))
            said = f"{count} images" + (f", of which {unlike} differ" if unlike < count else "")
            raise ValueError(f"class {name!r} has {said}, too few for both parts at train_fraction {fraction}")
    mean, std = _moments(parts[0].images.numpy())
    train, test = (
        replace(part, name=f"{whole.name}/{word}", mean=mean, std=std)
        for part, word in zip(parts, ("train", "test"), strict=True)
    )
    return train, test


def _folders(path: Path) -> list[Path]:
    """Return the folders of the classes, sorted by name."""
    try:
        folder_given = "\0" not in str(path) and path.is_dir()
    except OSError as error:
        raise DataError(f"path: {str(path)[:80]!r} cannot be read ({error.strerror})") from error
    if not folder_given:
        raise DataError(f"{path} is not a folder: it must hold one sub-folder of images for each class")
    try:
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and _counts(entry.name))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if len(folders) < 2:
        raise DataError(f"{path} has {len(folders)} sub-folders: at least two are needed, one for each class")
    for folder in folders:
        if path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{folder} is a link to a folder that holds it: remove it")
    return folders


def _files(folder: Path) -> list[Path]:
    """Return the files of a class, also those of deeper folders, sorted."""
    files = []
    for file in sorted(folder.rglob("*")):
        if not all(map(_counts, file.relative_to(folder).parts)):
            continue
        if file.is_symlink() and not file.exists():
            raise DataError(f"{file} is a link to nothing: repair or remove it")
        if file.is_file():
            files.append(file)
    if not files:
        raise DataError(f"{folder} has no images: add some, or remove the empty folder")
    return files


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _IGNORED


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
