"""What generated pictures are painted with: random numbers for each sample, colours, patterns, noise.

``P`` is the number of pixels of a picture, SIZE * SIZE. Only operations that round alike on every machine are used.
"""

from __future__ import annotations

import numpy as np

from compactvision.data import keys

SIZE = 32


class Draws:
    """Uniform numbers of each sample, one after the other: column k is a hash of (key, sample, k)."""

    def __init__(self, base: int, numbers: np.ndarray) -> None:
        self.base, self.count = keys.stream(base, numbers), 0

    def bits(self) -> np.ndarray:
        """Return the next 64 random bits of each sample: (B,) uint64."""
        self.count += 1
        return keys.stream(self.base, np.asarray([self.count]))

    def uniform(self) -> np.ndarray:
        """Return numbers in [0, 1): (B,) float32, like all below."""
        return keys.uniform(self.bits())

    def between(self, low: float, high: float) -> np.ndarray:
        """Return numbers in [low, high)."""
        return self.uniform() * np.float32(high - low) + np.float32(low)

    def within(self, bound: float) -> np.ndarray:
        """Return numbers in [-bound, bound)."""
        return self.between(-bound, bound)

    def integer(self, bound: int) -> np.ndarray:
        """Return integers in [0, bound): (B,) int64."""
        return keys.below(self.bits(), bound)


def _pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the pixels' middles from the picture's middle: (1, P) float32 each, P = SIZE * SIZE."""
    ticks = (np.arange(SIZE, dtype=np.float32) * 2 - (SIZE - 1)) / 2
    return np.tile(ticks, SIZE)[None], np.repeat(ticks, SIZE)[None]


COLUMN, ROW = _pixel_grid()


def rotation(tangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and sine of an angle from the tangent of its half, without trigonometric functions: (B, 1) each."""
    tangent = tangent[:, None]
    square = tangent * tangent
    return (1 - square) / (1 + square), 2 * tangent / (1 + square)


def colour(hue: np.ndarray, saturation: np.ndarray, luminance: np.ndarray) -> np.ndarray:
    """Return a colour of given hue (0..1 round the circle), strength and luminance: (B, 3), roughly in [0, 1]."""
    wheel = hue[:, None] * 6 + np.asarray([0, 4, 2], dtype=np.float32)
    wheel = wheel - 6 * np.floor(wheel / 6)
    pure = np.clip(np.abs(wheel - 3) - 1, 0, 1)  # (B, 3)
    light = pure[:, :1] * np.float32(0.30) + pure[:, 1:2] * np.float32(0.59) + pure[:, 2:] * np.float32(0.11)
    room = np.minimum(luminance, 1 - luminance)[:, None] * 2  # little colour is possible near black and white
    return luminance[:, None] + (pure - light) * (saturation[:, None] * room)


def fill(
    draws: Draws, luminance: np.ndarray, texture: float, plain: float, base: int, numbers: np.ndarray
) -> np.ndarray:
    """Mix two related colours by a pattern.

    Parameters
    ----------
    draws : random numbers of each sample.
    luminance : (B,) of the first colour.
    texture : the second colour's luminance lies within half of this of the first's.
    plain : share of fills that are a gradient and no pattern.
    base, numbers : key of the clouds, and the samples' numbers (B,).

    Returns
    -------
    (B, 3, P) float32.
    """
    hue, saturation = draws.uniform(), draws.between(0.2, 0.8)
    first = colour(hue, saturation, luminance)
    other = colour(hue + draws.within(0.15) + 1, saturation, luminance + draws.within(texture / 2))
    mixture = pattern(draws, plain, base, numbers)[:, None]  # (B, 1, P)
    return (other - first)[:, :, None] * mixture + first[:, :, None]


def pattern(draws: Draws, share_plain: float, base: int, numbers: np.ndarray) -> np.ndarray:
    """Return a gradient, stripes, checks or clouds: (B, P) in [0, 1]."""
    cosine, sine = rotation(draws.within(1.0))  # (B, 1)
    wavelength, phase = draws.between(4.0, 10.0)[:, None], draws.uniform()[:, None]
    plain, other = draws.uniform() < np.float32(share_plain), draws.integer(3)
    values = np.empty((len(numbers), SIZE * SIZE), dtype=np.float32)
    for kind in range(4):
        rows = np.flatnonzero(plain if kind == 0 else ~plain & (other == kind - 1))
        along = cosine[rows] * COLUMN + sine[rows] * ROW  # (rows, P)
        if kind == 0:
            values[rows] = np.clip(along / 40 + np.float32(0.5), 0, 1)
        elif kind == 1:
            values[rows] = np.clip(_wave(along / wavelength[rows] + phase[rows]) * 3 - 1, 0, 1)
        elif kind == 2:
            across = cosine[rows] * ROW - sine[rows] * COLUMN
            waves = [_wave(place / wavelength[rows] + phase[rows]) for place in (along, across)]
            values[rows] = np.clip((waves[0] + waves[1] - 1) * 3 + np.float32(0.5), 0, 1)
        else:
            values[rows] = clouds(base, numbers[rows])
    return values


def _wave(turns: np.ndarray) -> np.ndarray:
    """Triangular wave of period 1 between 0 and 1."""
    return np.abs((turns - np.floor(turns)) * 2 - 1)


def clouds(base: int, numbers: np.ndarray, spacing: int = 8) -> np.ndarray:
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


def lay(picture: np.ndarray, paint: np.ndarray, cover: np.ndarray) -> None:
    """Mix paint (B, 3, 1 or P) into the picture (B, 3, P) where it covers (B, P) it."""
    step = paint - picture
    step *= cover[:, None]
    picture += step


def to_bytes(picture: np.ndarray, noise: float, base: int, numbers: np.ndarray) -> np.ndarray:
    """Add triangular noise of this half width to a picture (B, 3, P), in place; round to (B, 3, SIZE, SIZE) uint8."""
    bits = keys.stream(keys.stream(base, numbers)[:, None], np.arange(SIZE * SIZE))  # (B, P)
    octets = bits.astype("<u8", copy=False).view(np.uint8).reshape(*bits.shape, 8)
    for channel in range(3):  # the sum of two bytes is triangular between 0 and 510
        total = octets[:, :, 2 * channel].astype(np.int16) + octets[:, :, 2 * channel + 1]
        picture[:, channel] += (total.astype(np.float32) - 255) * np.float32(noise / 255)
    picture = np.clip(picture, 0, 1) * 255 + np.float32(0.5)
    return picture.astype(np.uint8).reshape(-1, 3, SIZE, SIZE)
