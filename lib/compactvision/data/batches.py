"""Batches of an image set: per-sample random crop and flip, normalisation; boxes move with their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.data import keys
from compactvision.data.boxes import moved

_ORDER, _AUGMENT = 1, 2  # separate streams of random numbers


class _Images(Protocol):
    """What batches need of a set; the set itself is :class:`~compactvision.data.arrays.ImageSet`."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    def __len__(self) -> int: ...


class Batches:
    """Re-iterable batches ``(inputs, targets)`` of one epoch.

    The order of an epoch is a function of (seed, epoch), a sample's crop and flip are functions of (seed, epoch,
    number of the sample in the set). Batch size and the place where a run was resumed change neither. Iterating uses
    the epoch last given to :meth:`set_epoch` (0 at first) and does *not* advance it: two loops without ``set_epoch``
    in between give the same batches. ``fit`` calls ``set_epoch``.

    Boxes move with the pixels: they are clipped, and dropped where less than a quarter of them is left, see
    :func:`compactvision.data.boxes.moved`.

    Parameters
    ----------
    images : ImageSet
        The set; batches are made on its device.
    batch_size : int
        Images in a batch.
    shuffle : bool
        New order for every epoch; else the set's own order.
    crop : int
        Pixels of black (zero) border added on each side before an H x W window is cut at random; 0: none.
    flip : bool
        Mirror left-right with probability 1/2.
    seed : int
        Of order, crops and flips.
    drop_last : bool
        Leave out a last batch that is smaller.
    dtype : dtype
        Of the inputs; they are normalised in float32 and rounded once.
    channels_last : bool
        Memory format of the inputs.

    Raises
    ------
    ValueError
        Where a size is out of range, ``drop_last`` leaves no batch, or crop or flip would move the pixels of an image
        but not those of its mask, nor boxes in a set that does not say ``boxes=True``.
    """

    def __init__(
        self,
        images: _Images,
        batch_size: int = 128,
        *,
        shuffle: bool = False,
        crop: int = 0,
        flip: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        if not isinstance(getattr(images, "images", None), Tensor):
            raise ValueError(f"images must be an ImageSet or another set with images, got {checks.shown(images)}")
        checks.whole(batch_size=batch_size, crop=crop, seed=seed)
        checks.flags(shuffle=shuffle, flip=flip, drop_last=drop_last, channels_last=channels_last)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if crop < 0:
            raise ValueError(f"crop must be at least 0, not {crop}")
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating-point type, not {dtype}")
        if drop_last and batch_size > len(images):
            raise ValueError(f"batch_size {batch_size} with drop_last leaves no batch of {len(images)} images")
        if crop or flip:
            _refuse_unmoved(images)
        self.images = images
        self.batch_size, self.drop_last = batch_size, drop_last
        self.shuffle, self.crop, self.flip, self.seed = shuffle, crop, flip, seed
        self.dtype, self.channels_last = dtype, channels_last
        self.epoch = 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.starting_at(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (>= 0) whose order and augmentation the next loop uses."""
        checks.whole(epoch=epoch)
        if epoch < 0:
            raise ValueError(f"epoch must be at least 0, not {epoch}")
        self.epoch = epoch

    def starting_at(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate from batch number ``step`` of the epoch on, without making those before it."""
        checks.whole(step=step)
        if not 0 <= step <= len(self):
            raise ValueError(f"step must lie in [0, {len(self)}], not {step}")
        return self._epoch(step)

    def indices(self) -> list[Tensor]:
        """Return the numbers of the samples in each batch of the current epoch: (B,) int64, on CPU."""
        return [torch.from_numpy(chosen) for chosen in self._chosen()]

    def raw(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate like the batches, with inputs cropped and flipped but still uint8 (for pictures and tests)."""
        return self._epoch(0, normalise=False)

    def _chosen(self, step: int = 0) -> list[np.ndarray]:
        n = len(self.images)
        order = keys.permutation(keys.key(self.seed, self.epoch, _ORDER), n) if self.shuffle else np.arange(n)
        return [order[k * self.batch_size : (k + 1) * self.batch_size] for k in range(step, len(self))]

    def _epoch(self, step: int, normalise: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.images.images.device
        moves = self._moves().to(device)  # (3, N)
        scale = [torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (self.images.mean, self.images.std)]
        for numbers in self._chosen(step):
            chosen = torch.from_numpy(numbers).to(device)
            pixels = self.images.images[chosen]  # (B, C, H, W)
            if self.crop or self.flip:
                pixels = crop_and_flip(pixels, *moves[:, chosen], self.crop)
            if self.channels_last:
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            targets = self.images.targets[chosen]
            if (self.crop or self.flip) and getattr(self.images, "boxes", False):
                targets = moved(targets, *moves[:, chosen], self.crop, tuple(pixels.shape[2:]))
            inputs = pixels.float().div_(255).sub_(scale[0]).div_(scale[1]).to(self.dtype) if normalise else pixels
            yield inputs, targets

    def _moves(self) -> Tensor:
        """Row and column of each sample's window, and whether it is mirrored: (3, N) int64."""
        bits = keys.stream(keys.key(self.seed, self.epoch, _AUGMENT), np.arange(len(self.images)))
        places = 2 * self.crop + 1
        top = keys.below(bits, places)
        left = keys.below(bits << np.uint64(32), places)
        mirrored = (bits & np.uint64(1)).astype(np.int64) * self.flip
        return torch.from_numpy(np.stack([top, left, mirrored]))


def _refuse_unmoved(images: _Images) -> None:
    """Refuse targets that lie somewhere in the image, and that crop and flip would leave where they are."""
    shape = tuple(images.targets.shape)
    if len(shape) < 3 or getattr(images, "boxes", False):
        return
    if shape[-2:] == tuple(images.images.shape[-2:]):
        raise ValueError(f"targets of shape {shape} are masks: crop and flip would not move them")
    if shape[-1] in (4, 5):
        raise ValueError(
            f"targets of shape {shape} look like boxes: crop and flip move those of a set made with boxes=True, as "
            "(N, M, 5)"
        )


def crop_and_flip(pixels: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, crop: int) -> Tensor:
    """Cut one H x W window out of each image, set in a border of zeros, and mirror some.

    Parameters
    ----------
    pixels : Tensor
        (B, C, H, W), any type.
    top, left : Tensor
        (B,) int64 in [0, 2 * crop]: the window's corner in the image with its border.
    mirrored : Tensor
        (B,) 0 or 1: mirror the window left-right.
    crop : int
        Width of the border in pixels.

    Returns
    -------
    (B, C, H, W) of the same type, contiguous.
    """
    height, width = pixels.shape[-2:]
    if crop:
        windows = torch.nn.functional.pad(pixels, (crop, crop, crop, crop))  # (B, C, H + 2 crop, W + 2 crop)
        windows = windows.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2 crop + 1, 2 crop + 1, H, W): a view
        pixels = windows[torch.arange(len(pixels), device=pixels.device), :, top, left]  # (B, C, H, W)
    return torch.where(mirrored.bool().view(-1, 1, 1, 1), pixels.flip(3), pixels)
