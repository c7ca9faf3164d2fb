"""Characters in colour at 32 x 32 pixels: a data set that is generated, in seconds, wherever it is needed.

Sample ``i`` is a function of (seed, part, ``i``) and nothing else, so a small set is the beginning of a larger one. All
random numbers are integer hashes, and pixels use only additions, multiplications, divisions and square roots on
arrays, which round alike on every machine: the same seed gives the same bytes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from compactvision.data import keys
from compactvision.data.arrays import ImageSet
from compactvision.data.outlines import FONTS, GRID, REACH, SUPPORTED, atlas

SIZE = 32
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
    "medium": Difficulty(0.20, 0.25, (13, 22), 3.5, 0.4, (0.18, 0.50), 0.30, 0.4, 1, 1, (12, 16), 0.25, 0.12),
    "hard": Difficulty(0.30, 0.35, (11, 22), 4.5, 0.5, (0.12, 0.40), 0.40, 0.2, 2, 2, (10, 15), 0.25, 0.18),
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
    train : the two parts share no random number; they share fonts unless ``fonts`` says otherwise.
    n : number of images; 5,000 for training and 2,000 for testing where not given. The first ``n`` images of a larger
        set with the same options are this set; any beginning has equal class counts, to within one.
    difficulty : ``"easy"``, ``"medium"`` or ``"hard"``.
    characters : the classes, at least two of ``A-Z a-z 0-9``. (At random sizes ``o`` and ``O`` look the same.)
    seed : integer; another seed gives unrelated images.
    fonts : ``"all"`` twenty, or ``"train"`` (14) and ``"test"`` (6) to test on fonts that training never saw.

    Raises
    ------
    ValueError
        Where an option is none of these.
    """
    n = (5_000 if train else 2_000) if n is None else n
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty must be one of {', '.join(DIFFICULTIES)}, not {difficulty!r}")
    if fonts not in FONTS:
        raise ValueError(f"fonts must be one of {', '.join(FONTS)}, not {fonts!r}")
    unknown = sorted(set(characters) - set(SUPPORTED))
    if unknown or len(characters) < 2 or len(set(characters)) < len(characters):
        raise ValueError(f"characters must be two or more different ones of A-Z a-z 0-9, not {characters!r}")

    part = keys.key(seed, 0 if train else 1)
    labels = class_numbers(keys.key(part, _CLASS), n, len(characters))
    images = np.empty((n, 3, SIZE, SIZE), dtype=np.uint8)
    for first in range(0, n, _CHUNK):
        chunk = slice(first, min(first + _CHUNK, n))
        fields = atlas(FONTS[fonts], characters)
        images[chunk] = draw(fields, labels[chunk], np.arange(chunk.start, chunk.stop), DIFFICULTIES[difficulty], part)
    return ImageSet(
        images=torch.from_numpy(images),
        targets=torch.from_numpy(labels),
        classes=tuple(characters),
        name=f"glyphs/{'train' if train else 'test'}",
        provenance=f"generated glyphs ({difficulty}, {characters!r}, fonts {fonts}, seed {seed}, {n} images)",
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
    shape = _Draws(keys.key(part, _SHAPE), numbers)
    dark, light = _luminances(shape, level)
    swap = shape.uniform() < 0.5
    ground_luminance, ink_luminance = np.where(swap, light, dark), np.where(swap, dark, light)
    ground = _fill(shape, ground_luminance, level, keys.key(part, _FIELD, 0), numbers)  # (B, 3, P)
    ink = _fill(shape, ink_luminance, level, keys.key(part, _FIELD, 1), numbers)
    picture = ground
    for k in range(level.behind):
        _add_clutter(picture, fields, ground_luminance, level, keys.key(part, _CLUTTER, k), numbers)
    font = shape.integer(len(fields))
    angle, shear = shape.within(level.turn), shape.within(level.shear)
    height = shape.between(*level.height)
    right, down = shape.within(level.shift), shape.within(level.shift)
    cover = _cover(fields, font, labels, angle, shear, height, right, down, shape.within(level.weight))
    _lay(picture, ink, cover)
    for k in range(level.behind, level.behind + level.before):
        _add_clutter(picture, fields, ground_luminance, level, keys.key(part, _CLUTTER, k), numbers)
    return _to_bytes(picture, level, keys.key(part, _PIXEL), numbers)


class _Draws:
    """Uniform numbers of each sample, one after the other: column k is a hash of (key, sample, k)."""

    def __init__(self, base: int, numbers: np.ndarray) -> None:
        self.base, self.count = keys.stream(base, numbers), 0

    def bits(self) -> np.ndarray:
        self.count += 1
        return keys.stream(self.base, np.asarray([self.count]))

    def uniform(self) -> np.ndarray:
        return keys.uniform(self.bits())

    def between(self, low: float, high: float) -> np.ndarray:
        return self.uniform() * np.float32(high - low) + np.float32(low)

    def within(self, bound: float) -> np.ndarray:
        return self.between(-bound, bound)

    def integer(self, bound: int) -> np.ndarray:
        return keys.below(self.bits(), bound)


def _pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the pixels' middles from the picture's middle: (1, P) float32 each, P = SIZE * SIZE."""
    ticks = (np.arange(SIZE, dtype=np.float32) * 2 - (SIZE - 1)) / 2
    return np.tile(ticks, SIZE)[None], np.repeat(ticks, SIZE)[None]


_COLUMN, _ROW = _pixel_grid()


def _rotation(tangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of an angle from the tangent of its half, without trigonometric functions: (B, 1) each."""
    tangent = tangent[:, None]
    square = tangent * tangent
    return (1 - square) / (1 + square), 2 * tangent / (1 + square)


def _cover(fields, font, label, angle, shear, height, right, down, weight) -> np.ndarray:
    """How much of each pixel the character covers: (B, P) in [0, 1]. Parameters: (B,) each, as in ``Difficulty``."""
    cosine, sine = _rotation(angle)
    scale = np.float32((GRID - 1) / (2 * REACH)) / height[:, None]  # points of the field in a pixel
    column, row = (_COLUMN - right[:, None]) * scale, (_ROW - down[:, None]) * scale  # (B, P)
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


def _luminances(draws: _Draws, level: Difficulty) -> tuple[np.ndarray, np.ndarray]:
    """Return a darker and a lighter luminance, ``level.contrast`` apart: (B,) each."""
    contrast = draws.between(*level.contrast)
    dark = np.float32(0.06) + draws.uniform() * (np.float32(0.88) - contrast)
    return dark, dark + contrast


def _colour(hue: np.ndarray, saturation: np.ndarray, luminance: np.ndarray) -> np.ndarray:
    """Return a colour of given hue (0..1 round the circle), strength and luminance: (B, 3), roughly in [0, 1]."""
    wheel = hue[:, None] * 6 + np.asarray([0, 4, 2], dtype=np.float32)
    wheel = wheel - 6 * np.floor(wheel / 6)
    pure = np.clip(np.abs(wheel - 3) - 1, 0, 1)  # (B, 3)
    light = pure[:, :1] * np.float32(0.30) + pure[:, 1:2] * np.float32(0.59) + pure[:, 2:] * np.float32(0.11)
    room = np.minimum(luminance, 1 - luminance)[:, None] * 2  # little colour is possible near black and white
    return luminance[:, None] + (pure - light) * (saturation[:, None] * room)


def _fill(draws: _Draws, luminance: np.ndarray, level: Difficulty, base: int, numbers: np.ndarray) -> np.ndarray:
    """Mix two related colours by a pattern: (B, 3, P)."""
    hue, saturation = draws.uniform(), draws.between(0.2, 0.8)
    first = _colour(hue, saturation, luminance)
    other = _colour(hue + draws.within(0.15) + 1, saturation, luminance + draws.within(level.texture / 2))
    pattern = _pattern(draws, level, base, numbers)[:, None]  # (B, 1, P)
    return (other - first)[:, :, None] * pattern + first[:, :, None]


def _pattern(draws: _Draws, level: Difficulty, base: int, numbers: np.ndarray) -> np.ndarray:
    """Return a gradient, stripes, checks or clouds: (B, P) in [0, 1]."""
    cosine, sine = _rotation(draws.within(1.0))  # (B, 1)
    wavelength, phase = draws.between(4.0, 10.0)[:, None], draws.uniform()[:, None]
    plain, other = draws.uniform() < np.float32(level.plain), draws.integer(3)
    pattern = np.empty((len(numbers), SIZE * SIZE), dtype=np.float32)
    for kind in range(4):
        rows = np.flatnonzero(plain if kind == 0 else ~plain & (other == kind - 1))
        along = cosine[rows] * _COLUMN + sine[rows] * _ROW  # (rows, P)
        if kind == 0:
            pattern[rows] = np.clip(along / 40 + np.float32(0.5), 0, 1)
        elif kind == 1:
            pattern[rows] = np.clip(_wave(along / wavelength[rows] + phase[rows]) * 3 - 1, 0, 1)
        elif kind == 2:
            across = cosine[rows] * _ROW - sine[rows] * _COLUMN
            waves = [_wave(place / wavelength[rows] + phase[rows]) for place in (along, across)]
            pattern[rows] = np.clip((waves[0] + waves[1] - 1) * 3 + np.float32(0.5), 0, 1)
        else:
            pattern[rows] = _clouds(base, numbers[rows])
    return pattern


def _wave(turns: np.ndarray) -> np.ndarray:
    """Triangular wave of period 1 between 0 and 1."""
    return np.abs((turns - np.floor(turns)) * 2 - 1)


def _clouds(base: int, numbers: np.ndarray, spacing: int = 8) -> np.ndarray:
    """Random values on a coarse lattice, smoothly interpolated: (B, P) in [0, 1]."""
    nodes = SIZE // spacing + 1
    bits = keys.stream(keys.stream(base, numbers)[:, None], np.arange(nodes * nodes))
    lattice = keys.uniform(bits).reshape(-1, nodes, nodes)
    tick = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) / spacing
    node = tick.astype(np.int64)
    step = tick - node.astype(np.float32)
    step = step * step * (3 - 2 * step)
    rows = lattice[:, node] + (lattice[:, node + 1] - lattice[:, node]) * step[:, None]  # (B, SIZE, nodes)
    field = rows[:, :, node] + (rows[:, :, node + 1] - rows[:, :, node]) * step
    return field.reshape(len(numbers), SIZE * SIZE)


def _add_clutter(picture, fields, luminance, level, base, numbers) -> None:
    """Lay some character over the picture (B, 3, P), near an edge, in a luminance near the ground's."""
    draws = _Draws(base, numbers)
    font, label = draws.integer(len(fields)), draws.integer(fields.shape[1])
    away, along = draws.between(*level.away), draws.within(SIZE / 2)
    away = np.where(draws.uniform() < 0.5, -away, away)
    upright = draws.uniform() < 0.5
    right, down = np.where(upright, along, away), np.where(upright, away, along)
    angle, height = draws.within(1.0), draws.between(14.0, 22.0)
    cover = _cover(fields, font, label, angle, draws.within(0.2), height, right, down, draws.within(0.3))
    tone = np.clip(luminance + draws.within(level.clutter_contrast), np.float32(0.05), np.float32(0.95))
    colour = _colour(draws.uniform(), draws.uniform(), tone)
    _lay(picture, colour[:, :, None], cover)


def _lay(picture: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    """Mix a colour (B, 3, 1 or P) into the picture (B, 3, P) where it covers (B, P) it."""
    step = colour - picture
    step *= cover[:, None]
    picture += step


def _to_bytes(picture: np.ndarray, level: Difficulty, base: int, numbers: np.ndarray) -> np.ndarray:
    """Add noise to every channel of every pixel and round to bytes: (B, 3, SIZE, SIZE) uint8."""
    bits = keys.stream(keys.stream(base, numbers)[:, None], np.arange(SIZE * SIZE))  # (B, P)
    octets = bits.astype("<u8", copy=False).view(np.uint8).reshape(*bits.shape, 8)
    for channel in range(3):  # the sum of two bytes is triangular between 0 and 510
        total = octets[:, :, 2 * channel].astype(np.int16) + octets[:, :, 2 * channel + 1]
        picture[:, channel] += (total.astype(np.float32) - 255) * np.float32(level.noise / 255)
    picture = np.clip(picture, 0, 1) * 255 + np.float32(0.5)
    return picture.astype(np.uint8).reshape(-1, 3, SIZE, SIZE)
