"""The drawing behind :mod:`compactvision.data.scenes`: signed distances, fills, backgrounds and noise.

All arithmetic is integer hashing and elementwise ``+ - * /``, ``sqrt``, ``abs``, ``min``, ``max``, ``floor`` in
float32, which IEEE 754 fixes on every machine. Here B is the number of images in a chunk, b of those that show the
object being drawn, M the largest number of objects, S the size in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compactvision.data import keys

SHAPES = ("disc", "ring", "square", "triangle", "cross", "crescent")
FILLS = ("plain", "stripes", "checks", "dots")
COLOURS = ("red", "yellow", "green", "blue", "violet")
BACKGROUNDS = ("gradient", "clouds", "waves", "tiles")

_PALETTE = np.float32([[225, 55, 50], [235, 200, 45], [60, 175, 70], [55, 95, 225], [170, 70, 200]])


@dataclass(frozen=True)
class Difficulty:
    """How hard the objects are to see: all in grey values of 0 to 255, except ``contrast`` and ``radius``."""

    noise: float  # standard deviation of the noise of each pixel and channel
    texture: float  # largest departure of the background from its mean colour
    contrast: float  # share of the object's own colour; the rest is the background's mean colour
    radius: tuple[float, float]  # range of an object's radius, in units of its cell


DIFFICULTIES = {
    "easy": Difficulty(noise=4, texture=25, contrast=1.0, radius=(0.34, 0.42)),
    "medium": Difficulty(noise=14, texture=45, contrast=0.8, radius=(0.28, 0.42)),
    "hard": Difficulty(noise=26, texture=60, contrast=0.55, radius=(0.25, 0.42)),
}


def grid(most: int) -> int:
    """Return the number of cells along a side; never fewer than two, so that one object does not fill the image."""
    side = 2
    while side * side < most:
        side += 1
    return side


def draw(base: np.ndarray, level: Difficulty, low: int, high: int, distinct: bool, size: int) -> dict[str, np.ndarray]:
    """Draw one chunk of images from their keys ``base`` (B,) uint64."""
    count = low + keys.below(bits(base, 0), high - low + 1)  # (B,)
    slots = np.arange(high)
    present = slots < count[:, None]  # (B, M)
    shape = ranks(base, 1, len(SHAPES))[:, slots] if distinct else keys.below(bits(base, 1, high), len(SHAPES))
    colour = keys.below(bits(base, 3, high), len(COLOURS))
    return paint(base, level, present, shape, colour, _places(base, count, level, high, size), size)


def paint(
    base: np.ndarray,
    level: Difficulty,
    present: np.ndarray,
    shape: np.ndarray,
    colour: np.ndarray,
    place: tuple[np.ndarray, np.ndarray, np.ndarray],
    size: int,
    fill: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Draw what is given on backgrounds of its own, later objects on top.

    Parameters
    ----------
    base : (B,) uint64, the images' keys, which decide background, tints and noise, and fills unless given.
    present, shape, colour : (B, M), which objects are there, and places in ``SHAPES`` and ``COLOURS``.
    place : centres (B, M, 2) as (x, y) and radii (B, M), in pixels, and turns (B, M, 2) as (cos, sin).
    fill : (B, M) places in ``FILLS``.
    """
    images, high = present.shape
    fill = keys.below(bits(base, 2, high), len(FILLS)) if fill is None else fill
    kind = keys.below(bits(base, 4), len(BACKGROUNDS))
    mean = 70 + 100 * keys.uniform(bits(base, 5, 3))  # (B, 3) grey values
    pixels = mean[:, :, None, None] + level.texture * _background(base, kind, size)[:, None]  # (B, 3, S, S)
    instances = np.zeros((images, size, size), dtype=np.uint8)
    for slot in range(high):
        here = np.flatnonzero(present[:, slot])
        centre, radius, turn = (values[here, slot] for values in place)
        u, v = _local(centre, turn, size)
        alpha = np.minimum(np.maximum(np.float32(0.5) - _distance(u, v, radius, shape[here, slot]), 0), 1)  # (b, S, S)
        shade = _fill(u, v, fill[here, slot], size) * level.contrast  # (b, S, S)
        jitter = 30 * keys.uniform(bits(base[here], 6 + slot, 3)) - 15
        ink = (_PALETTE[colour[here, slot]] + jitter)[:, :, None, None] * shade[:, None]  # (b, 3, S, S)
        ink += (1 - level.contrast) * mean[here, :, None, None]
        pixels[here] += alpha[:, None] * (ink - pixels[here])
        instances[here] = np.where(alpha >= 0.5, slot + 1, instances[here])
    pixels += np.float32(level.noise) * _noise(base, size)
    return {
        "images": np.floor(np.minimum(np.maximum(pixels, 0), 255) + np.float32(0.5)).astype(np.uint8),
        "instances": instances,
        "boxes": _boxes(instances, high),
        "shape": np.where(present, shape, -1),
        "fill": np.where(present, fill, -1),
        "colour": np.where(present, colour, -1),
        "background": kind,
    }


def cells(base: np.ndarray, stream: int, count: int, side: int, size: int) -> tuple[np.ndarray, np.float32]:
    """Return the middles (B, count, 2) of different random cells of a ``side`` x ``side`` grid, and a cell's width."""
    width = np.float32(size / side)
    number = ranks(base, stream, side * side)[:, :count]
    return np.stack([number % side, number // side], 2).astype(np.float32) * width + width / 2, width


def turns(base: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Return random angles of -45 to 45 degrees as (cos, sin): (B, count, 2)."""
    t = np.float32(0.828427) * keys.uniform(bits(base, stream, count)) - np.float32(0.4142135)  # tan of half the angle
    return np.stack([(1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)], 2)


def bits(base: np.ndarray, stream: int, draws: int | None = None) -> np.ndarray:
    """Hash (image key, stream, draw): (B,) or (B, draws) uint64."""
    inner = keys.stream(base, np.full(len(base), stream))
    return inner if draws is None else keys.stream(inner[:, None], np.arange(draws))


def ranks(base: np.ndarray, stream: int, n: int) -> np.ndarray:
    """Return a random order of 0..n-1 for each image: (B, n)."""
    return np.argsort(bits(base, stream, n), axis=1, kind="stable")


def _places(base: np.ndarray, count: np.ndarray, level: Difficulty, high: int, size: int):
    """Return centres (B, M, 2) as (x, y) and radii (B, M), in pixels, and turns (B, M, 2) as (cos, sin) of objects."""
    middle, cell = cells(base, 20, high, grid(high), size)
    smallest, largest = (np.float32(bound) * cell for bound in level.radius)
    radius = smallest + (largest - smallest) * keys.uniform(bits(base, 21, high))
    within = keys.uniform(bits(base, 22, 2 * high)).reshape(-1, high, 2)
    margin = (np.float32(size) - 2 * radius[:, :, None]) * within + radius[:, :, None]  # anywhere inside the image
    alone = (count == 1)[:, None, None]
    centre = np.where(alone, margin, middle + (2 * within - 1) * np.float32(0.14) * cell)
    return centre, radius, turns(base, 23, high)


def _local(centre: np.ndarray, turn: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centres in an object's own axes, in pixels: two arrays (b, S, S)."""
    line = np.arange(size, dtype=np.float32) + np.float32(0.5)
    x, y = line[None, None, :] - centre[:, 0, None, None], line[None, :, None] - centre[:, 1, None, None]
    cos, sin = turn[:, 0, None, None], turn[:, 1, None, None]
    return cos * x + sin * y, cos * y - sin * x


def _distance(u: np.ndarray, v: np.ndarray, radius: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return about how far outside an object's edge each pixel lies, in pixels, negative inside: (b, S, S)."""
    distance = np.empty_like(u)
    for number, name in enumerate(SHAPES):
        chosen = shape == number
        distance[chosen] = _DISTANCES[name](u[chosen], v[chosen], radius[chosen, None, None])
    return distance


def _length(u, v):
    return np.sqrt(u * u + v * v)


def _cross(u, v, r):
    u, v, long, short = np.abs(u), np.abs(v), np.float32(0.98) * r, np.float32(0.33) * r
    return np.minimum(np.maximum(u - long, v - short), np.maximum(u - short, v - long))


_DISTANCES = {
    "disc": lambda u, v, r: _length(u, v) - np.float32(0.92) * r,
    "ring": lambda u, v, r: np.abs(_length(u, v) - np.float32(0.74) * r) - np.float32(0.26) * r,
    "square": lambda u, v, r: np.maximum(np.abs(u), np.abs(v)) - np.float32(0.78) * r,
    "triangle": lambda u, v, r: (
        np.maximum(v, np.float32(0.8660254) * np.abs(u) - np.float32(0.5) * v) - np.float32(0.55) * r
    ),
    "cross": _cross,
    "crescent": lambda u, v, r: np.maximum(
        _length(u, v) - r, np.float32(0.72) * r - _length(u - np.float32(0.5) * r, v)
    ),
}


def _fill(u: np.ndarray, v: np.ndarray, fill: np.ndarray, size: int) -> np.ndarray:
    """Return the brightness of an object's ink, dark or full, in its own axes: (b, S, S)."""
    period = np.float32(size / 8)
    column, row = (np.floor(2 * axis / period) % 2 for axis in (u, v))  # 0, 1, 0, 1, ... every half period
    du, dv = (np.abs(axis / period - np.floor(axis / period) - np.float32(0.5)) for axis in (u, v))
    spot = (du * du + dv * dv < np.float32(0.11)).astype(np.float32)
    kind = fill[:, None, None]
    dark = np.where(kind == 1, row, np.where(kind == 2, np.abs(row - column), np.where(kind == 3, spot, 0)))
    return np.float32(1) - np.float32(0.7) * dark.astype(np.float32)


def _background(base: np.ndarray, kind: np.ndarray, size: int) -> np.ndarray:
    """Return the texture behind the objects, in [-1, 1]: (B, S, S)."""
    line = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = line[None, None, :], line[None, :, None]
    draw = keys.uniform(bits(base, 30, 3))[:, :, None, None]  # (B, 3, 1, 1)
    slope = 2 * draw[:, 0] - 1
    gradient = (slope * (x - np.float32(0.5)) + (1 - np.abs(slope)) * (y - np.float32(0.5))) * 2
    phase = (3 + 3 * draw[:, 1]) * (x + (2 * draw[:, 0] - 1) * y) + draw[:, 2]
    waves = 4 * np.abs(phase - np.floor(phase) - np.float32(0.5)) - 1
    tiles = np.abs(np.floor(x * 6 + draw[:, 0]) % 2 - np.floor(y * 6 + draw[:, 1]) % 2) * 2 - 1
    choices = np.stack([np.broadcast_to(t, (len(base), size, size)) for t in (gradient, waves, tiles)])
    choices = np.insert(choices, 1, _clouds(base, size), axis=0)
    return choices[kind, np.arange(len(base))].astype(np.float32)


def _clouds(base: np.ndarray, size: int) -> np.ndarray:
    """Return random values on a 6 x 6 lattice, interpolated: (B, S, S) in [-1, 1]."""
    knots = (2 * keys.uniform(bits(base, 31, 36)) - 1).reshape(-1, 6, 6)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(5 / size)
    low = np.minimum(np.floor(place), 4).astype(np.int64)
    share = place - low
    rows = knots[:, low] + (knots[:, low + 1] - knots[:, low]) * share[None, :, None]  # (B, S, 6)
    return rows[:, :, low] + (rows[:, :, low + 1] - rows[:, :, low]) * share


def _noise(base: np.ndarray, size: int) -> np.ndarray:
    """Return noise of mean 0 and standard deviation 1 (a triangle in [-2.44, 2.44]): (B, 3, S, S) float32."""
    octets = bits(base, 32, size * size).astype("<u8").view(np.uint8).reshape(-1, size, size, 8)[..., :6]
    pairs = octets.astype(np.float32).reshape(*octets.shape[:3], 3, 2)
    return ((pairs[..., 0] + pairs[..., 1] - 255) * np.float32(1 / 104.51)).transpose(0, 3, 1, 2)


def _boxes(instances: np.ndarray, high: int) -> np.ndarray:
    """Return the boxes around each object's visible pixels: (B, M, 4) int64, -1 where none is visible."""
    boxes = np.full((len(instances), high, 4), -1, dtype=np.int64)
    for slot in range(high):
        mask = instances == slot + 1  # (B, S, S)
        columns, rows = mask.any(1), mask.any(2)
        size = columns.shape[1]
        box = np.stack(
            [columns.argmax(1), rows.argmax(1), size - columns[:, ::-1].argmax(1), size - rows[:, ::-1].argmax(1)], 1
        )
        boxes[:, slot] = np.where(mask.any((1, 2))[:, None], box, -1)
    return boxes
