"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST, in the folders and files that torchvision lays out.

torchvision downloads; the files are read here, so that copies which carry their own ``SHA256SUMS`` and
``PROVENANCE.txt`` are checked against these and not against the md5 of the official files.
"""

from __future__ import annotations

import codecs
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from compactvision.data import integrity
from compactvision.data.arrays import ImageSet
from compactvision.data.errors import DataError

VARIABLE = "COMPACTVISION_DATA"


@dataclass(frozen=True)
class Source:
    """Where one set lies, what it should contain, and how to normalise it."""

    torchvision: str  # class in torchvision.datasets
    folder: str  # below the root
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: tuple[str, ...]
    digests: dict[str, str]  # official md5 by file name; empty: none known for the unpacked files
    shape: tuple[int, int, int]
    num_classes: int
    sizes: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    mib: int  # unpacked

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that are read."""
        return self.train + self.test + self.meta


_MNIST_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_MNIST_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

SOURCES = {
    "cifar10": Source(
        torchvision="CIFAR10",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test=("test_batch",),
        meta=("batches.meta",),
        digests={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        shape=(3, 32, 32),
        num_classes=10,
        sizes=(50_000, 10_000),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        licence="none stated by the authors; cite Krizhevsky 2009",
        mib=177,
    ),
    "cifar100": Source(
        torchvision="CIFAR100",
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        meta=("meta",),
        digests={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
        shape=(3, 32, 32),
        num_classes=100,
        sizes=(50_000, 10_000),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        licence="none stated by the authors; cite Krizhevsky 2009",
        mib=177,
    ),
    "mnist": Source(
        torchvision="MNIST",
        folder="MNIST/raw",
        train=_MNIST_TRAIN,
        test=_MNIST_TEST,
        meta=(),
        digests={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        shape=(1, 28, 28),
        num_classes=10,
        sizes=(60_000, 10_000),
        mean=(0.1307,),
        std=(0.3081,),
        licence="often quoted as CC BY-SA 3.0; cite LeCun et al. 1998",
        mib=53,
    ),
    "fashion_mnist": Source(
        torchvision="FashionMNIST",
        folder="FashionMNIST/raw",
        train=_MNIST_TRAIN,
        test=_MNIST_TEST,
        meta=(),
        digests={},
        shape=(1, 28, 28),
        num_classes=10,
        sizes=(60_000, 10_000),
        mean=(0.2860,),
        std=(0.3530,),
        licence="MIT; cite Xiao, Rasul, Vollgraf 2017",
        mib=53,
    ),
}
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def folder() -> Path:
    """Return the folder that holds the sets: ``COMPACTVISION_DATA``, or ``~/.cache/compactvision``.

    Raises
    ------
    DataError
        Where ``COMPACTVISION_DATA`` is set to something that is not a folder, or not set while there is no home folder.
        (The cache folder is made on demand.)
    """
    value = os.environ.get(VARIABLE)
    if not value:
        try:
            return Path.home() / ".cache" / "compactvision"
        except RuntimeError:
            raise DataError(f"there is no home folder to keep data in: set {VARIABLE} to a folder") from None
    if not Path(value).is_dir():
        raise DataError(f"{VARIABLE}={value} is not a folder: make it, correct the path, or unset the variable")
    return Path(value)


def load_official(name: str, *, train: bool, root: str | Path | None, download: bool) -> ImageSet:
    """Load one of ``SOURCES``; download it where it is missing and ``download`` is true."""
    source = SOURCES[name]
    base = folder() if root is None else Path(root)
    if base.exists() and not base.is_dir():
        raise DataError(f"root {base} is not a folder")
    place = base / source.folder
    if not _present(place, source):
        if not download:
            raise DataError(
                f"{name}: {place} is missing or incomplete and download=False: load it with download=True, or set "
                f"{VARIABLE} to a folder that holds {source.folder}"
            )
        _download(name, source, base)
    provenance = integrity.own_digests(place, source.files)
    if provenance is None:
        integrity.official_digests(place, source.digests)
        provenance = f"official files of {source.torchvision} ({'md5' if source.digests else 'sizes'} checked)"
    read = _read_cifar if name.startswith("cifar") else _read_mnist
    images, targets, classes = read(place, source, train)
    _verify(name, place, source, train, images, targets, len(classes))
    return ImageSet(
        images=torch.from_numpy(images),
        targets=torch.from_numpy(targets),
        classes=classes,
        name=f"{name}/{'train' if train else 'test'}",
        provenance=provenance,
        mean=source.mean,
        std=source.std,
    )


def present(name: str) -> bool:
    """Whether the files of a set are there, checked by name only."""
    return _present(folder() / SOURCES[name].folder, SOURCES[name])


def _present(place: Path, source: Source) -> bool:
    # a folder that lists its own files was unpacked, not downloaded: what is missing there is damage
    return (place / integrity.SUMS).exists() or all((place / name).exists() for name in source.files)


def _download(name: str, source: Source, base: Path) -> None:
    import torchvision

    fetch: Callable = getattr(torchvision.datasets, source.torchvision)
    elsewhere = f"or set {VARIABLE} to a folder that holds {source.folder}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        if not os.access(base, os.W_OK):
            raise PermissionError(13, "read-only", str(base))
        fetch(base, download=True)
    except PermissionError as error:
        raise DataError(f"{name}: cannot write to {base} ({error}): make it writable, {elsewhere}") from error
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: download to {base} failed ({reason}): check the connection and the free space ({source.mib} MiB "
            f"and the archive), {elsewhere}"
        ) from error
    if not _present(base / source.folder, source):
        raise DataError(f"{name}: the download left {base / source.folder} incomplete: delete it and load again")


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler for arrays, strings, lists and dictionaries: a pickle that asks for anything else is refused."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._ALLOWED[module, name]


def _unpickle(path: Path) -> dict:
    try:
        return _PlainUnpickler(io.BytesIO(integrity.read_bytes(path)), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not a readable pickle ({error}): delete {path.parent} and load it again") from error


def _read_cifar(place: Path, source: Source, train: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    fine = source.num_classes == 100
    meta = source.meta[0]
    images, targets = [], []
    try:
        for file in source.train if train else source.test:
            entry = _unpickle(place / file)
            images.append(entry["data"].reshape(-1, *source.shape))
            targets.extend(entry["fine_labels" if fine else "labels"])
        file = meta
        classes = tuple(_unpickle(place / meta)["fine_label_names" if fine else "label_names"])
        return np.concatenate(images), np.asarray(targets, dtype=np.int64), classes
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{place / file} has not the layout of {source.torchvision} ({error!r})") from error


def _read_mnist(place: Path, source: Source, train: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    image_file, label_file = source.train if train else source.test
    images = _read_idx(place / image_file, dimensions=3)[:, None]  # (N, 1, H, W)
    targets = _read_idx(place / label_file, dimensions=1).astype(np.int64)
    classes = _FASHION if source.torchvision == "FashionMNIST" else tuple("0123456789")
    return images, targets, classes


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an array of bytes in the IDX format: magic number, sizes as big-endian int32, then the bytes."""
    content = integrity.read_bytes(path)
    head = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(content[4:head].ljust(4 * dimensions, b"\0"), dtype=">i4"))
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != head + int(np.prod(shape, dtype=np.int64)):
        raise DataError(
            f"{path} ({len(content):,} bytes) is damaged or truncated: delete {path.parent} and load the set again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape).copy()


def _verify(
    name: str, place: Path, source: Source, train: bool, images: np.ndarray, targets: np.ndarray, classes: int
) -> None:
    """Refuse files that are readable but are not the set: wrong number or size of images, labels out of range."""
    expected = source.sizes[0 if train else 1]
    found = (len(images), len(targets), images.shape[1:], images.dtype, classes)
    if found != (expected, expected, source.shape, np.uint8, source.num_classes):
        raise DataError(
            f"{name}: {place} holds {len(images)} images {images.shape[1:]}, {len(targets)} labels and {classes} "
            f"classes instead of {expected} images {source.shape} in {source.num_classes} classes"
        )
    if targets.min() < 0 or targets.max() >= classes:
        raise DataError(f"{name}: {place} has labels from {targets.min()} to {targets.max()} for {classes} classes")
