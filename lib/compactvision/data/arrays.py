"""Images held as bytes on the device, and batches of them: cropped, flipped and normalised where they lie.

Any iterable of ``(inputs, targets)`` feeds the package, a ``torch.utils.data.DataLoader`` as well as these
:class:`Batches`. For images that fit into memory this source is the faster one: nothing is decoded, copied between
processes or augmented one image at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.data import keys
from compactvision.data.batches import Batches
from compactvision.data.boxes import refuse_unlike_boxes


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and targets of one set, with what is needed to normalise, name and cite them.

    Attributes
    ----------
    images : Tensor
        (N, C, H, W) uint8, on any device.
    targets : Tensor
        (N,) int64 class numbers, or (N, ...) of any type (several labels, masks), on the same device.
    classes : tuple of str
        Names of the classes, in the order of their numbers.
    name : str
        For people and records, such as ``"cifar10/train"``.
    provenance : str
        One line that says where the data came from; every record quotes it.
    mean, std : tuple of float
        Per channel, in units of [0, 1]; a batch is ``(images / 255 - mean) / std``.
    boxes : bool
        Whether the targets are boxes (N, M, 5) as :mod:`compactvision.data.boxes` describes them, which then move with
        crop and flip.

    Raises
    ------
    ValueError
        Where shapes, types, devices or class numbers do not fit together, or there is no image at all.
    """

    images: Tensor
    targets: Tensor
    classes: tuple[str, ...]
    name: str
    provenance: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    boxes: bool = False

    def __post_init__(self) -> None:
        self._refuse_other_kinds()
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images must be uint8 of shape (N, C, H, W), not {self.images.dtype} {tuple(self.images.shape)}"
            )
        if 0 in self.images.shape:
            raise ValueError(f"images is empty: shape {tuple(self.images.shape)}")
        if self.targets.ndim == 0 or len(self.targets) != len(self.images):
            raise ValueError(f"targets has shape {tuple(self.targets.shape)} for {len(self.images)} images")
        if self.targets.device != self.images.device:
            raise ValueError(f"targets is on {self.targets.device}, images on {self.images.device}")
        channels = self.images.shape[1]
        for label, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise ValueError(f"{label} has {len(values)} values for {channels} channels: {values}")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std must be positive, not {self.std}")
        if self.boxes:
            refuse_unlike_boxes(self.targets, len(self.classes))
        if self.labelled:
            low, high = int(self.targets.min()), int(self.targets.max())
            if low < 0 or high >= len(self.classes):
                raise ValueError(f"targets run from {low} to {high}, but there are {len(self.classes)} classes")

    def _refuse_other_kinds(self) -> None:
        """Refuse parts of other types than those that are stated."""
        checks.tensors(images=self.images, targets=self.targets)
        checks.flags(boxes=self.boxes)
        checks.texts(name=self.name, provenance=self.provenance)
        for label, check in (("classes", checks.texts), ("mean", checks.finite), ("std", checks.finite)):
            values = getattr(self, label)
            if not isinstance(values, (tuple, list)):
                raise ValueError(f"{label} must be a tuple, got {checks.shown(values)}")
            for value in values:
                check(**{label: value})
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ, got {self.classes}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.images.shape[1:])
        return (
            f"ImageSet({self.name!r}, {len(self):,} images {shape}, {self.num_classes} classes, {self.images.device})"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes named, present in the targets or not."""
        return len(self.classes)

    @property
    def labelled(self) -> bool:
        """Whether each image has exactly one class: targets are (N,) int64."""
        return self.targets.ndim == 1 and self.targets.dtype == torch.int64

    def to(self, device: str | torch.device) -> ImageSet:
        """Return the set on a device; the set itself where it is there already."""
        checks.device(device)
        images, targets = self.images.to(device), self.targets.to(device)
        return self if images is self.images and targets is self.targets else self._with(images, targets, self.name)

    def subset(self, indices: Sequence[int] | np.ndarray | Tensor) -> ImageSet:
        """Return the images with these numbers, in this order.

        Parameters
        ----------
        indices : (M,) integers in [-N, N), or (N,) booleans; repeats are allowed.

        Raises
        ------
        ValueError
            Where no image is left or a number is out of range.
        """
        try:
            chosen = torch.as_tensor(indices, device=self.images.device)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"indices must be a list of whole numbers, not {checks.shown(indices)}") from None
        checks.tensors(indices=chosen)
        if chosen.dtype == torch.bool:
            if chosen.shape != (len(self),):
                raise ValueError(f"indices is a mask of shape {tuple(chosen.shape)} for {len(self)} images")
            chosen = chosen.nonzero()[:, 0]
        if chosen.ndim != 1 or len(chosen) == 0:
            raise ValueError(f"indices must be a non-empty list of numbers, not shape {tuple(chosen.shape)}")
        if chosen.is_floating_point() or int(chosen.min()) < -len(self) or int(chosen.max()) >= len(self):
            raise ValueError(f"indices must be integers in [-{len(self)}, {len(self)}), not {indices}")
        return self._with(self.images[chosen], self.targets[chosen], f"{self.name}[{len(chosen)}]")

    def take(self, n: int) -> ImageSet:
        """Return ``n`` images, chosen by content and balanced over the classes.

        The choice is nested (``take(100)`` are the first 100 of ``take(500)``) and does not depend on the order of
        the set. Class counts differ by at most one while every class has images left.

        Raises
        ------
        ValueError
            Where ``n`` is not in [1, N].
        """
        checks.whole(n=n)
        if not 1 <= n <= len(self):
            raise ValueError(f"n must lie in [1, {len(self)}], not {n}")
        order, strata = self._by_content(seed=0)
        rank = np.empty(len(self), dtype=np.int64)  # place of an image inside its class
        for stratum in np.unique(strata):
            members = order[strata[order] == stratum]
            rank[members] = np.arange(len(members))
        order = order[np.lexsort((strata[order], rank[order]))]
        return self.subset(order[:n])

    def split(self, fraction: float, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """Split in two by a hash of (seed, image bytes), class by class.

        The first part has ``round(fraction * N)`` images; a class's share differs from ``fraction`` by less than one
        image. The same images in another order, or from files under other names, give the same two parts in the same
        order. (Copies of one image share a hash, but where the cut falls between them they are separated.)

        Raises
        ------
        ValueError
            Where ``fraction`` is not in (0, 1) or a part would be empty.
        """
        checks.numbers(fraction=fraction)
        checks.whole(seed=seed)
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must lie in (0, 1), not {fraction}")
        total = int(fraction * len(self) + 0.5)
        if total in (0, len(self)):
            raise ValueError(f"fraction {fraction} of {len(self)} images leaves one part empty")
        order, strata = self._by_content(seed)
        labels, counts = np.unique(strata, return_counts=True)
        quota = _shares(counts, total)
        first = np.zeros(len(self), dtype=bool)
        for label, share in zip(labels, quota, strict=True):
            first[order[strata[order] == label][:share]] = True
        return self.subset(order[first[order]]), self.subset(order[~first[order]])

    def digest(self) -> str:
        """Return the SHA-256 (hexadecimal) of images, targets and class names, whatever their order in the set."""
        images, targets = self.images.cpu().numpy(), self.targets.cpu().contiguous()
        labels = targets.view(torch.uint8).numpy().reshape(len(self), -1) if targets.ndim > 1 else targets.numpy()
        each = sorted(
            hashlib.sha256(np.ascontiguousarray(image).tobytes() + label.tobytes()).digest()
            for image, label in zip(images, labels, strict=True)
        )
        head = repr((tuple(self.images.shape[1:]), tuple(targets.shape[1:]), str(targets.dtype), tuple(self.classes)))
        return hashlib.sha256(head.encode() + b"".join(each)).hexdigest()

    def batches(
        self,
        batch_size: int = 128,
        *,
        shuffle: bool = False,
        crop: int = 0,
        flip: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        device: str | torch.device | None = None,
    ) -> Batches:
        """Return the set as batches; the parameters are those of :class:`~compactvision.data.batches.Batches`."""
        return Batches(
            self if device is None else self.to(device),
            batch_size,
            shuffle=shuffle,
            crop=crop,
            flip=flip,
            seed=seed,
            drop_last=drop_last,
            dtype=dtype,
            channels_last=channels_last,
        )

    def __iter__(self) -> Iterator[None]:
        raise TypeError("an ImageSet is not a source of batches: iterate over image_set.batches(...)")

    def _with(self, images: Tensor, targets: Tensor, name: str) -> ImageSet:
        return replace(self, images=images, targets=targets, name=name)

    def _by_content(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image numbers in the order of their content keys (N,), and each image's class (zeros if none)."""
        content = keys.content_keys(self.images.cpu().numpy(), seed)
        strata = self.targets.cpu().numpy() if self.labelled else np.zeros(len(self), dtype=np.int64)
        return np.lexsort((strata, content)), strata


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """Distribute ``total`` over groups in proportion to their sizes, by largest remainders; all in integers."""
    exact = counts.astype(np.int64) * total
    share, remainder = exact // counts.sum(), exact % counts.sum()
    largest = np.argsort(-remainder, kind="stable")[: total - share.sum()]
    share[largest] += 1
    return share
