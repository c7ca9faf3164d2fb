"""Several characters in one picture, with a box around each: the glyphs of :mod:`compactvision.data.glyphs` to find.

A picture has 2 x 2 cells of 32 x 32 pixels on one ground; each cell is empty or holds a character, drawn as an "easy"
glyph but moved further. As there, sample ``i`` is a function of (seed, part, ``i``), byte for byte on every machine.
"""

from __future__ import annotations

import numpy as np
import torch

from compactvision import _checks as checks
from compactvision.data import keys, textures
from compactvision.data.arrays import ImageSet
from compactvision.data.boxes import EMPTY
from compactvision.data.glyphs import DEFAULT_CHARACTERS, DIFFICULTIES, cover
from compactvision.data.outlines import FONTS, atlas
from compactvision.data.textures import SIZE, Draws

LICENCE = "generated; fonts as of the glyphs"
CELLS = 4
SHIFT = 4.0  # pixels of a character from the middle of its cell, either way
_CHUNK = 64
_GROUND, _GLYPH, _PIXEL = range(7, 10)  # streams that the glyphs do not use


def load_glyph_boxes(
    train: bool = True, *, n: int = 1000, objects: tuple[int, int] = (1, 3), seed: int = 0
) -> ImageSet:
    """Generate pictures (N, 3, 64, 64) with boxes around their characters, (N, M, 5) as ``data.boxes`` has them.

    Parameters
    ----------
    train : bool
        The two parts share no random number.
    n : int
        Number of pictures. The first ``n`` of a larger set with the same options are this set.
    objects : (int, int)
        Least and largest number of characters in a picture, from 1 to 4; each number is equally likely.
    seed : int
        Another seed gives unrelated pictures.

    Raises
    ------
    ValueError
        If an option is out of its range.

    Examples
    --------
    >>> pictures = load_glyph_boxes(n=2, objects=(2, 2))
    >>> pictures.images.shape, pictures.targets.shape
    (torch.Size([2, 3, 64, 64]), torch.Size([2, 2, 5]))
    """
    checks.flags(train=train)
    checks.counts(n=n)
    checks.whole(seed=seed)
    low, high = _objects(objects)
    part = keys.key(seed, 0 if train else 1)
    fields = atlas(FONTS["all"], DEFAULT_CHARACTERS)
    chunks = [_draw(fields, np.arange(first, min(first + _CHUNK, n)), low, high, part) for first in range(0, n, _CHUNK)]
    images, boxes = (torch.from_numpy(np.concatenate(each)) for each in zip(*chunks, strict=True))
    return ImageSet(
        images=images,
        targets=boxes,
        classes=tuple(DEFAULT_CHARACTERS),
        name=f"glyph_boxes/{'train' if train else 'test'}",
        provenance=f"generated glyphs with boxes ({low} to {high} in a picture, seed {seed}, {n} images)",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        boxes=True,
    )


def _objects(objects: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(objects, (tuple, list)) or len(objects) != 2:
        raise ValueError(f"objects must be (least, largest), got {checks.shown(objects)}")
    for place, number in enumerate(objects):
        checks.whole(**{f"objects[{place}]": number})
    if not 1 <= objects[0] <= objects[1] <= CELLS:
        raise ValueError(f"objects must be (least, largest) with 1 <= least <= largest <= {CELLS}, got {objects}")
    return int(objects[0]), int(objects[1])


def _draw(fields: np.ndarray, numbers: np.ndarray, low: int, high: int, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures of these numbers (B,): (B, 3, 64, 64) uint8, and boxes (B, high, 5) float32."""
    picture = Draws(keys.key(part, _GROUND), numbers)
    count = low + picture.integer(high - low + 1)
    place = np.argsort(np.stack([picture.bits() for _ in range(CELLS)], 1), axis=1, kind="stable")[:, :high]  # (B, M)
    ground_luminance = picture.between(0.06, 0.94)
    ground = textures.colour(picture.uniform(), picture.between(0.2, 0.8), ground_luminance)  # (B, 3)
    cells = np.repeat(ground[:, None, :, None], CELLS, 1) + np.zeros((1, 1, 1, SIZE * SIZE), np.float32)
    boxes = np.full((len(numbers), high, 5), EMPTY, np.float32)
    rows = np.arange(len(numbers))
    for slot in range(high):
        ink, covered, label = _glyph(fields, numbers * CELLS + slot, ground_luminance, part)
        covered *= (slot < count)[:, None]
        cell = cells[rows, place[:, slot]]
        textures.lay(cell, ink, covered)
        cells[rows, place[:, slot]] = cell
        boxes[:, slot] = _box(covered, place[:, slot], label)
    flat = cells.reshape(-1, 3, SIZE * SIZE)
    each = (numbers[:, None] * CELLS + np.arange(CELLS)).reshape(-1)
    tiles = textures.to_bytes(flat, DIFFICULTIES["easy"].noise, keys.key(part, _PIXEL), each)
    tiles = tiles.reshape(-1, 2, 2, 3, SIZE, SIZE).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(tiles.reshape(-1, 3, 2 * SIZE, 2 * SIZE)), boxes


def _glyph(
    fields: np.ndarray, numbers: np.ndarray, ground: np.ndarray, part: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return colours (B, 3, 1), covered shares of pixels (B, P) and class numbers (B,) of one character a picture."""
    level, draws = DIFFICULTIES["easy"], Draws(keys.key(part, _GLYPH), numbers)
    contrast = draws.between(*level.contrast)
    up = np.where(ground + contrast > np.float32(0.97), False, (ground < contrast + 0.03) | (draws.uniform() < 0.5))
    luminance = np.clip(np.where(up, ground + contrast, ground - contrast), 0.02, 0.98).astype(np.float32)
    ink = textures.colour(draws.uniform(), draws.between(0.2, 0.8), luminance)[:, :, None]
    label, font = draws.integer(fields.shape[1]), draws.integer(len(fields))
    angle, shear, height = draws.within(level.turn), draws.within(level.shear), draws.between(*level.height)
    right, down, weight = draws.within(SHIFT), draws.within(SHIFT), draws.within(level.weight)
    return ink, cover(fields, font, label, angle, shear, height, right, down, weight), label


def _box(covered: np.ndarray, place: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return (x0, y0, x1, y1, class) (B, 5) around the pixels that are half covered; -1 where there are none."""
    seen = covered.reshape(-1, SIZE, SIZE) >= 0.5
    found = np.full((len(seen), 5), EMPTY, np.float32)
    for axis, corner in ((1, 0), (2, 1)):
        line = seen.any(axis)  # columns, then rows
        start = (place % 2 if corner == 0 else place // 2) * SIZE
        found[:, corner] = start + line.argmax(1)
        found[:, corner + 2] = start + SIZE - line[:, ::-1].argmax(1)
    found[:, 4] = label
    return np.where(seen.any((1, 2))[:, None], found, EMPTY).astype(np.float32)
