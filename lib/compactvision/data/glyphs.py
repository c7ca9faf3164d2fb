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
_CHUNK = 256
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
    clutter: int  # pieces of other characters
    clutter_contrast: float
    noise: float  # half width of the noise


DIFFICULTIES = {
    "easy": Difficulty(0.07, 0.08, (18, 22), 1.5, 0.2, (0.45, 0.70), 0.15, 1.0, 0, 0.0, 0.03),
    "medium": Difficulty(0.16, 0.20, (15, 22), 3.0, 0.4, (0.25, 0.55), 0.30, 0.4, 1, 0.20, 0.10),
    "hard": Difficulty(0.27, 0.30, (13, 22), 4.0, 0.5, (0.16, 0.40), 0.40, 0.2, 3, 0.25, 0.20),
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
    for k in range(level.clutter):
        picture = _add_clutter(picture, fields, ground_luminance, level, keys.key(part, _CLUTTER, k), numbers)
    font = shape.integer(len(fields))
    angle, shear = shape.within(level.turn), shape.within(level.shear)
    height = shape.between(*level.height)
    right, down = shape.within(level.shift), shape.within(level.shift)
    cover = _cover(fields, font, labels, angle, shear, height, right, down, shape.within(level.weight))
    picture = picture + (ink - picture) * cover[:, None]
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


def _cover(fields, font, label, angle, shear, height, right, down, weight) -> np.ndarray:  # noqa: ANN001
    """How much of each pixel the character covers: (B, P) in [0, 1]. Parameters: (B,) each, as in ``Difficulty``."""
    cosine, sine = _rotation(angle)
    column, row = _COLUMN - right[:, None], _ROW - down[:, None]  # (B, P)
    v = cosine * row - sine * column
    u = cosine * column + sine * row + shear[:, None] * v
    scale = np.float32((GRID - 1) / (2 * REACH)) / height[:, None]  # points of the field in a pixel
    x = np.clip(u * scale + np.float32((GRID - 1) / 2), 0, np.float32(GRID - 1.001))
    y = np.clip(v * scale + np.float32((GRID - 1) / 2), 0, np.float32(GRID - 1.001))
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    place = (font * fields.shape[1] + label).astype(np.int32)[:, None] * (GRID * GRID) + top * GRID + left
    flat = fields.reshape(-1)
    upper, lower = flat[place], flat[place + GRID]
    upper = upper + (flat[place + 1] - upper) * x
    lower = lower + (flat[place + GRID + 1] - lower) * x
    distance = upper + (lower - upper) * y  # in heights of a capital
    return np.clip(np.float32(0.5) + weight[:, None] - distance * height[:, None], 0, 1)


def _luminances(draws: _Draws, level: Difficulty) -> tuple[np.ndarray, np.ndarray]:
    """A darker and a lighter luminance, ``level.contrast`` apart: (B,) each."""
    contrast = draws.between(*level.contrast)
    dark = np.float32(0.06) + draws.uniform() * (np.float32(0.88) - contrast)
    return dark, dark + contrast


def _colour(hue: np.ndarray, saturation: np.ndarray, luminance: np.ndarray) -> np.ndarray:
    """A colour of given hue (0..1 round the circle), strength and luminance: (B, 3), roughly in [0, 1]."""
    wheel = hue[:, None] * 6 + np.asarray([0, 4, 2], dtype=np.float32)
    wheel = wheel - 6 * np.floor(wheel / 6)
    pure = np.clip(np.abs(wheel - 3) - 1, 0, 1)  # (B, 3)
    light = pure[:, :1] * np.float32(0.30) + pure[:, 1:2] * np.float32(0.59) + pure[:, 2:] * np.float32(0.11)
    room = np.minimum(luminance, 1 - luminance)[:, None] * 2  # little colour is possible near black and white
    return luminance[:, None] + (pure - light) * (saturation[:, None] * room)


def _fill(draws: _Draws, luminance: np.ndarray, level: Difficulty, base: int, numbers: np.ndarray) -> np.ndarray:
    """Two related colours mixed by a pattern: (B, 3, P)."""
    hue, saturation = draws.uniform(), draws.between(0.3, 1.0)
    first = _colour(hue, saturation, luminance)
    other = _colour(hue + draws.within(0.15) + 1, saturation, luminance + draws.within(level.texture / 2))
    pattern = _pattern(draws, level, base, numbers)[:, None]  # (B, 1, P)
    return first[:, :, None] + (other - first)[:, :, None] * pattern


def _pattern(draws: _Draws, level: Difficulty, base: int, numbers: np.ndarray) -> np.ndarray:
    """A gradient, stripes, checks or clouds: (B, P) in [0, 1]."""
    cosine, sine = _rotation(draws.within(1.0))
    along, across = cosine * _COLUMN + sine * _ROW, cosine * _ROW - sine * _COLUMN  # (B, P)
    wavelength, phase = draws.between(4.0, 10.0)[:, None], draws.uniform()[:, None]
    kind = np.where(draws.uniform() < np.float32(level.plain), 0, 1 + draws.integer(3))[:, None]
    gradient = np.clip(along / 40 + np.float32(0.5), 0, 1)
    wave = _wave(along / wavelength + phase)
    stripes = np.clip(wave * 3 - 1, 0, 1)
    checks = np.clip((wave + _wave(across / wavelength + phase) - 1) * 3 + np.float32(0.5), 0, 1)
    return np.choose(kind, [gradient, stripes, checks, _clouds(base, numbers)])


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
    step = tick - node
    step = step * step * (3 - 2 * step)
    rows = lattice[:, node] + (lattice[:, node + 1] - lattice[:, node]) * step[:, None]  # (B, SIZE, nodes)
    field = rows[:, :, node] + (rows[:, :, node + 1] - rows[:, :, node]) * step
    return field.reshape(len(numbers), -1)


def _add_clutter(picture, fields, luminance, level, base, numbers) -> np.ndarray:  # noqa: ANN001
    """Lay a piece of some character over the edge of the ground, close to its luminance: (B, 3, P)."""
    draws = _Draws(base, numbers)
    font, label = draws.integer(len(fields)), draws.integer(fields.shape[1])
    away, side = draws.between(13.0, 17.0), draws.within(16.0)
    sign = np.where(draws.uniform() < 0.5, np.float32(-1), np.float32(1))
    flat = draws.uniform() < 0.5
    right, down = np.where(flat, side, away * sign), np.where(flat, away * sign, side)
    angle, height = draws.within(1.0), draws.between(14.0, 22.0)
    cover = _cover(fields, font, label, angle, draws.within(0.2), height, right, down, draws.within(0.3))
    tone = np.clip(luminance + draws.within(level.clutter_contrast), np.float32(0.05), np.float32(0.95))
    colour = _colour(draws.uniform(), draws.uniform(), tone)[:, :, None]  # (B, 3, 1)
    return picture + (colour - picture) * cover[:, None]


def _to_bytes(picture: np.ndarray, level: Difficulty, base: int, numbers: np.ndarray) -> np.ndarray:
    """Add noise to every channel of every pixel and round to bytes: (B, 3, SIZE, SIZE) uint8."""
    bits = keys.stream(keys.stream(base, numbers)[:, None], np.arange(SIZE * SIZE))  # (B, P)
    octets = bits.astype("<u8", copy=False).view(np.uint8).reshape(*bits.shape, 8)
    for channel in range(3):  # the sum of two bytes is triangular between 0 and 510
        total = octets[:, :, 2 * channel].astype(np.int16) + octets[:, :, 2 * channel + 1]
        picture[:, channel] += (total.astype(np.float32) - 255) * np.float32(level.noise / 255)
    picture = np.clip(picture, 0, 1) * 255 + np.float32(0.5)
    return picture.astype(np.uint8).reshape(-1, 3, SIZE, SIZE)
