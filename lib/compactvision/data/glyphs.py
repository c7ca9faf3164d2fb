"""Characters in colour at 32 x 32 pixels: a data set that is generated, in seconds, wherever it is needed.

Sample ``i`` is a function of (seed, part, ``i``) and nothing else, so a small set is the beginning of a larger one. All
random numbers are integer hashes, and pixels use only additions, multiplications, divisions and square roots on
arrays, which round alike on every machine: the same seed gives the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from compactvision import _checks as checks
from compactvision.data import keys, textures
from compactvision.data.arrays import ImageSet
from compactvision.data.outlines import FONTS, GRID, REACH, SUPPORTED, atlas
from compactvision.data.textures import COLUMN, ROW, SIZE, Draws

DEFAULT_CHARACTERS = "ABEFGOQRS8"  # some look alike: B and 8, E and F, O and Q, B and R
LICENCE = "generated; fonts DejaVu, STIX, Computer Modern as matplotlib ships them"
_CHUNK = 128
_CLASS, _SHAPE, _FIELD, _PIXEL, _CLUTTER = range(5)  # separate streams of random numbers


@dataclass(frozen=True)
class Difficulty:
    """Ranges of what varies. Angles as tangents of half the angle; lengths in pixels; colours in [0, 1]."""

    turn: float  # tan(angle / 2), either way
    shear: float
    height: tuple[float, float]  # of a capital H
    shift: float  # of the middle, either way
    weight: float  # strokes grow or shrink by up to this on each edge
    contrast: tuple[float, float]  # difference of luminance between character and ground
    texture: float  # how far the second colour of a texture lies from the first
    plain: float  # share of fills without a pattern
    behind: int  # pieces of other characters under this one
    before: int  # and over it
    away: tuple[float, float]  # of their middles from the picture's
    clutter_contrast: float  # of these pieces with the ground, either way
    noise: float  # half width of the noise


DIFFICULTIES = {
    "easy": Difficulty(0.07, 0.08, (18, 22), 1.5, 0.2, (0.45, 0.70), 0.15, 1.0, 0, 0, (0, 0), 0.0, 0.03),
    "medium": Difficulty(0.18, 0.25, (13, 22), 3.5, 0.4, (0.20, 0.52), 0.30, 0.4, 1, 1, (13, 16), 0.25, 0.11),
    "hard": Difficulty(0.27, 0.30, (13, 22), 4.0, 0.5, (0.16, 0.44), 0.40, 0.3, 2, 1, (12, 16), 0.25, 0.16),
}


def load_glyphs(
    train: bool = True,
    *,
    n: int | None = None,
    difficulty: str = "medium",
    characters: str = DEFAULT_CHARACTERS,
    seed: int = 0,
    fonts: str = "all",
) -> ImageSet:
    """Generate a set of characters.

    Parameters
    ----------
    train : bool
        The two parts share no random number; they share fonts unless ``fonts`` says otherwise.
    n : int, optional
        Number of images; 5,000 for training and 2,000 for testing where not given. The first ``n`` images of a larger
        set with the same options are this set; any beginning has equal class counts, to within one.
    difficulty : str
        ``"easy"``, ``"medium"`` or ``"hard"``.
    characters : str
        The classes, at least two of ``A-Z a-z 0-9``. (At random sizes ``o`` and ``O`` look the same.)
    seed : int
        Integer; another seed gives unrelated images.
    fonts : str
        ``"all"`` nineteen, or ``"train"`` (14) and ``"test"`` (5) to test on fonts that training never saw.

    Raises
    ------
    ValueError
        Where an option is none of these.
    """
    checks.flags(train=train)
    n = (5_000 if train else 2_000) if n is None else n
    checks.counts(n=n)
    checks.whole(seed=seed)
    checks.one_of(DIFFICULTIES, difficulty=difficulty)
    checks.one_of(FONTS, fonts=fonts)
    checks.texts(characters=characters)
    unknown = sorted(set(characters) - set(SUPPORTED))
    if unknown or len(characters) < 2 or len(set(characters)) < len(characters):
        raise ValueError(f"characters must be two or more different ones of A-Z a-z 0-9, not {characters!r}")

    part = keys.key(seed, 0 if train else 1)
    labels = class_numbers(keys.key(part, _CLASS), n, len(characters))
    fields = atlas(FONTS[fonts], characters)
    outlines = hashlib.sha256(fields.tobytes()).hexdigest()[:8]
    facts = (difficulty, repr(characters), f"fonts {fonts}", f"outlines {outlines}", f"seed {seed}", f"{n} images")
    images = np.empty((n, 3, SIZE, SIZE), dtype=np.uint8)
    for first in range(0, n, _CHUNK):
        chunk = slice(first, min(first + _CHUNK, n))
        images[chunk] = draw(fields, labels[chunk], np.arange(chunk.start, chunk.stop), DIFFICULTIES[difficulty], part)
    return ImageSet(
        images=torch.from_numpy(images),
        targets=torch.from_numpy(labels),
        classes=tuple(characters),
        name=f"glyphs/{'train' if train else 'test'}",
        provenance=f"generated glyphs ({', '.join(facts)})",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def class_numbers(base: int, n: int, classes: int) -> np.ndarray:
    """Return n class numbers, int64: each run of ``classes`` samples holds every class once, in its own order."""
    blocks = -(-n // classes)
    bits = keys.stream(base, np.arange(blocks * classes)).reshape(blocks, classes)
    return np.argsort(bits, axis=1, kind="stable").reshape(-1)[:n]


def draw(fields: np.ndarray, labels: np.ndarray, numbers: np.ndarray, level: Difficulty, part: int) -> np.ndarray:
    """Draw samples.

    Parameters
    ----------
    fields : (fonts, classes, GRID, GRID) distance fields.
    labels : (B,) class numbers.
    numbers : (B,) numbers of the samples; with ``part`` they decide everything random.
    level : the difficulty.
    part : key of the set.

    Returns
    -------
    (B, 3, SIZE, SIZE) uint8.
    """
    shape = Draws(keys.key(part, _SHAPE), numbers)
    dark, light = _luminances(shape, level)
    swap = shape.uniform() < 0.5
    ground_luminance, ink_luminance = np.where(swap, light, dark), np.where(swap, dark, light)
    ground_key, ink_key = keys.key(part, _FIELD, 0), keys.key(part, _FIELD, 1)
    picture = textures.fill(shape, ground_luminance, level.texture, level.plain, ground_key, numbers)  # (B, 3, P)
    ink = textures.fill(shape, ink_luminance, level.texture, level.plain, ink_key, numbers)  # (B, 3, P)
    for k in range(level.behind):
        _add_clutter(picture, fields, ground_luminance, level, keys.key(part, _CLUTTER, k), numbers)
    font = shape.integer(len(fields))
    angle, shear = shape.within(level.turn), shape.within(level.shear)
    height = shape.between(*level.height)
    right, down = shape.within(level.shift), shape.within(level.shift)
    covered = cover(fields, font, labels, angle, shear, height, right, down, shape.within(level.weight))
    textures.lay(picture, ink, covered)
    for k in range(level.behind, level.behind + level.before):
        _add_clutter(picture, fields, ground_luminance, level, keys.key(part, _CLUTTER, k), numbers)
    return textures.to_bytes(picture, level.noise, keys.key(part, _PIXEL), numbers)


def cover(
    fields: np.ndarray,
    font: np.ndarray,
    label: np.ndarray,
    angle: np.ndarray,
    shear: np.ndarray,
    height: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """How much of each pixel the character covers: (B, P) in [0, 1]. Parameters: (B,) each, as in ``Difficulty``."""
    cosine, sine = textures.rotation(angle)
    scale = np.float32((GRID - 1) / (2 * REACH)) / height[:, None]  # points of the field in a pixel
    column, row = (COLUMN - right[:, None]) * scale, (ROW - down[:, None]) * scale  # (B, P)
    y = cosine * row - sine * column
    x = cosine * column + sine * row + shear[:, None] * y
    distance = _interpolate(fields.reshape(-1), font * fields.shape[1] + label, x, y)
    distance *= height[:, None]  # in pixels
    np.subtract(np.float32(0.5) + weight[:, None], distance, out=distance)
    return np.clip(distance, 0, 1, out=distance)


def _interpolate(flat: np.ndarray, field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read one of many GRID x GRID fields between its points.

    Parameters
    ----------
    flat : all fields, one after the other, float32.
    field : (B,) which one.
    x, y : (B, P) points to the right and downwards from the middle, float32; overwritten. Beyond the border, the
        border's value.

    Returns
    -------
    (B, P) float32, linear in both directions between the four points around.
    """
    for place in (x, y):
        place += np.float32((GRID - 1) / 2)
        np.clip(place, 0, np.float32(GRID - 1.001), out=place)
    left, top = np.floor(x), np.floor(y)
    x -= left
    y -= top
    top *= GRID
    top += left  # below GRID * GRID: exact in float32
    corner = top.astype(np.int64)
    corner += (field * (GRID * GRID))[:, None]  # (B, P)
    upper = flat.take(corner)
    upper += (flat[1:].take(corner) - upper) * x
    lower = flat[GRID:].take(corner)
    lower += (flat[GRID + 1 :].take(corner) - lower) * x
    lower -= upper
    lower *= y
    lower += upper
    return lower


def _luminances(draws: Draws, level: Difficulty) -> tuple[np.ndarray, np.ndarray]:
    """Return a darker and a lighter luminance, ``level.contrast`` apart: (B,) each."""
    contrast = draws.between(*level.contrast)
    dark = np.float32(0.06) + draws.uniform() * (np.float32(0.88) - contrast)
    return dark, dark + contrast


def _add_clutter(
    picture: np.ndarray,
    fields: np.ndarray,
    luminance: np.ndarray,
    level: Difficulty,
    base: int,
    numbers: np.ndarray,
) -> None:
    """Lay some character over the picture (B, 3, P), near an edge, in a luminance near the ground's."""
    draws = Draws(base, numbers)
    font, label = draws.integer(len(fields)), draws.integer(fields.shape[1])
    away, along = draws.between(*level.away), draws.within(SIZE / 2)
    away = np.where(draws.uniform() < 0.5, -away, away)
    upright = draws.uniform() < 0.5
    right, down = np.where(upright, along, away), np.where(upright, away, along)
    angle, height = draws.within(1.0), draws.between(14.0, 22.0)
    covered = cover(fields, font, label, angle, draws.within(0.2), height, right, down, draws.within(0.3))
    tone = np.clip(luminance + draws.within(level.clutter_contrast), np.float32(0.05), np.float32(0.95))
    colour = textures.colour(draws.uniform(), draws.uniform(), tone)
    textures.lay(picture, colour[:, :, None], covered)
