"""The curves behind :mod:`compactvision.data.curves`, before a hand shakes: points at equal steps along them.

B is the number of pictures in a chunk, T the number of points of all their curves, which lie one after the other,
picture by picture.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from compactvision.data import keys, outlines
from compactvision.data.textures import Draws, rotation

TASKS = ("words", "handwriting")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TRAIN_FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic", "cmr10")
TEST_FONTS = ("STIXGeneral", "STIXGeneralItalic", "cmss10", "cmtt10")
FONTS = {"all": TRAIN_FONTS + TEST_FONTS, "train": TRAIN_FONTS, "test": TEST_FONTS}
WORDS = ("all", "train", "test")

STEP = 0.25  # between points, in 64ths of the side
_FINE = 0.01  # between stored points of a letter, in ems
_LONGEST = 4  # letters
_LOOPS = 6  # of a handwriting
_CURVE = 480  # stored points of a handwriting
_TWIST, _STROKE = 11, 12  # streams of random numbers


@dataclass(frozen=True)
class Paths:
    """Curves of a chunk of pictures, in pixels."""

    xy: np.ndarray  # (T, 2) to the right and downwards from the upper left corner
    image: np.ndarray  # (T,) picture of each point, ascending
    along: np.ndarray  # (T,) pixels from the start of its curve
    first: np.ndarray  # (curves,) number of the first point
    count: np.ndarray  # (curves,) number of points
    number: np.ndarray  # (curves,) place among the curves of the picture
    length: np.ndarray  # (curves,) in pixels
    closed: bool
    scale: np.ndarray  # (B,)
    turn: np.ndarray  # (B,)
    font: np.ndarray  # (B,)
    words: list[str]

    def neighbours(self, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the points behind and before each point, (T,) each; ``curve`` is that of each point.

        Closed curves go round; the ends of open ones are their own neighbours.
        """
        point = np.arange(len(self.xy))
        first, last = self.first[curve], (self.first + self.count - 1)[curve]
        at_start, at_end = (last, first) if self.closed else (first, last)
        return np.where(point == first, at_start, point - 1), np.where(point == last, at_end, point + 1)


@dataclass(frozen=True)
class Shapes:
    """Curves as points at equal steps: letters of some fonts in ems, or a stroke for each picture."""

    points: np.ndarray  # (points, 2), y upwards
    first: np.ndarray  # (curves,) number of the first point
    count: np.ndarray  # (curves,) number of pieces; the point behind the last one is stored as well
    length: np.ndarray  # (curves,)
    start: np.ndarray  # (shapes,) number of the first curve
    curves: np.ndarray  # (shapes,) number of curves
    advance: np.ndarray  # (shapes,) distance to the next letter


@functools.lru_cache(maxsize=4)
def alphabet(fonts: tuple[str, ...]) -> Shapes:
    """Return the letters a to z of all fonts; shape ``26 f + k`` is letter k of font f."""
    stored, curves, advance = [], [], []
    for font in fonts:
        tall = outlines.polygons(font, "x")
        em = 2 * max(polygon[:, 1].max() for polygon in tall)  # twice the height of an x: alike in all fonts
        for letter in LETTERS:
            polygons = [_resample(np.vstack([p, p[:1]]) / em, _FINE) for p in outlines.polygons(font, letter)]
            stored += polygons
            curves.append(len(polygons))
            advance.append(outlines.advance(font, letter) / em)
    return _shapes([points for points, _ in stored], [length for _, length in stored], curves, advance)


def _shapes(stored: list[np.ndarray], length: list[float], curves: list[int], advance: list[float]) -> Shapes:
    sizes = np.array([len(points) for points in stored])
    curves = np.array(curves)
    return Shapes(
        points=np.concatenate(stored),
        first=np.cumsum(sizes) - sizes,
        count=sizes - 1,
        length=np.array(length),
        start=np.cumsum(curves) - curves,
        curves=curves,
        advance=np.array(advance),
    )


def _resample(line: np.ndarray, step: float | None = None, pieces: int | None = None) -> tuple[np.ndarray, float]:
    """Return points (pieces + 1, 2) at equal steps along a line of corners (M, 2), and its length."""
    delta = np.diff(line, axis=0)
    size = np.sqrt(delta[:, 0] * delta[:, 0] + delta[:, 1] * delta[:, 1])
    reached = np.concatenate([[0.0], np.cumsum(size)])  # (M,)
    pieces = pieces or max(int(reached[-1] / step) + 1, 8)
    want = np.arange(pieces + 1) * (reached[-1] / pieces)
    piece = np.minimum(np.searchsorted(reached, want, side="right") - 1, len(size) - 1)
    share = (want - reached[piece]) / np.maximum(size[piece], 1e-12)
    return line[piece] + delta[piece] * share[:, None], float(reached[-1])


def paths(draws: Draws, base: int, numbers: np.ndarray, task: str, fonts: str, words: str, size: int) -> Paths:
    """Return the curves of some pictures.

    Parameters
    ----------
    draws : random numbers of the pictures.
    base : key of this purpose.
    numbers : (B,) numbers of the pictures.
    task, fonts, words, size : as in :func:`compactvision.data.curves.make`.
    """
    unit = size / 64
    cosine, sine = rotation(turn := draws.within(0.06).astype(np.float64))  # (B, 1)
    shear = draws.within(0.15).astype(np.float64)
    scale = draws.between(0.7, 0.9).astype(np.float64)
    shift = np.stack([draws.within(0.04), draws.within(0.04)], axis=1).astype(np.float64) * size  # (B, 2)
    warp = [(draws.between(28, 56), draws.uniform(), draws.within(0.8)) for _ in range(2)]
    if task == "words":
        font, shapes = draws.integer(len(FONTS[fonts])), alphabet(FONTS[fonts])
        letters = _letters(Draws(base, numbers), words)  # (B, 4)
        image, place = np.nonzero(letters >= 0)
        shape = font[image] * len(LETTERS) + letters[image, place]
        widths = np.where(letters >= 0, shapes.advance[font[:, None] * len(LETTERS) + np.maximum(letters, 0)], 0)
        left = (np.cumsum(widths, axis=1) - widths)[image, place]
        texts = ["".join(LETTERS[k] for k in row if k >= 0) for row in letters]
        font = np.array([FONTS["all"].index(name) for name in FONTS[fonts]])[font]
    else:
        shapes = _strokes(Draws(base, numbers))
        image = shape = np.arange(len(numbers))
        left, texts, font = np.zeros(len(numbers)), [], np.full(len(numbers), -1)
    # every letter may have several curves: one row for each of them
    many = shapes.curves[shape]
    row = np.repeat(np.arange(len(shape)), many)
    ahead = np.cumsum(many) - many
    curve = shapes.start[shape][row] + np.arange(len(row)) - ahead[row]
    image, left = image[row], left[row]

    def placed(points: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Turn and slant points (T, 2) of curves (T,), with y downwards."""
        x, y = points[:, 0] + left[of], -points[:, 1]
        x = x - shear[image[of]] * y
        c, s = cosine[image[of], 0], sine[image[of], 0]
        return np.stack([c * x - s * y, s * x + c * y], axis=1)

    of, within = expand(shapes.count[curve])
    coarse = placed(shapes.points[shapes.first[curve][of] + within], of)
    starts = np.flatnonzero(np.diff(image[of], prepend=-1))
    low, high = np.minimum.reduceat(coarse, starts), np.maximum.reduceat(coarse, starts)  # (B, 2)
    zoom = scale * size / (high - low).max(axis=1)  # (B,) pixels in an em
    length = shapes.length[curve] * zoom[image]
    closed = task == "words"
    count = np.maximum(np.floor(length / (STEP * unit)).astype(np.int64), 8) + (not closed)
    of, within = expand(count)
    position = within * (shapes.count[curve] / (count - (not closed)))[of]
    piece = np.minimum(np.floor(position).astype(np.int64), shapes.count[curve][of] - 1)
    start = shapes.points[shapes.first[curve][of] + piece]
    points = start + (shapes.points[shapes.first[curve][of] + piece + 1] - start) * (position - piece)[:, None]
    image_of = image[of]
    xy = (placed(points, of) - ((low + high) / 2)[image_of]) * zoom[image_of, None] + size / 2 + shift[image_of]
    for axis, (period, phase, reach) in enumerate(warp):  # x moves in waves along y, and the other way round
        wave = _wave(xy[:, 1 - axis] / (period.astype(np.float64) * unit)[image_of] + phase[image_of])
        xy[:, axis] = xy[:, axis] + wave * (reach.astype(np.float64) * unit)[image_of]
    number = np.arange(len(image)) - np.searchsorted(image, image)
    along = within * (length / (count - (not closed)))[of]
    first = np.cumsum(count) - count
    return Paths(xy, image_of, along, first, count, number, length, closed, scale, turn, font, texts)


def expand(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for counts (curves,) the curve of each point and its place in it: (T,) each."""
    of = np.repeat(np.arange(len(count)), count)
    return of, np.arange(len(of)) - (np.cumsum(count) - count)[of]


def _wave(turns: np.ndarray) -> np.ndarray:
    """Return a wave of period 1 between -1 and 1, made of parabolas."""
    inside = turns - np.floor(turns)
    half = np.where(inside < 0.5, inside, inside - 0.5) * 2
    return np.where(inside < 0.5, 4.0, -4.0) * half * (1 - half)


@functools.cache
def followers(words: str) -> tuple[tuple[int, ...], ...]:
    """Return which letters (numbers) may follow each letter, in all words or in one half of the pairs."""
    pair = np.arange(26 * 26).reshape(26, 26)
    half = keys.stream(keys.key(0xBA16), pair) >> np.uint64(63)  # 0 or 1 for each pair
    wanted = {"all": (0, 1), "train": (0,), "test": (1,)}[words]
    return tuple(tuple(np.flatnonzero(np.isin(row, wanted)).tolist()) for row in half)


def _letters(draws: Draws, words: str) -> np.ndarray:
    """Return two to four letters for each picture: (B, 4) int64, -1 behind the end."""
    number = 2 + draws.integer(_LONGEST - 1)  # (B,)
    letters = np.full((len(number), _LONGEST), -1)
    letters[:, 0] = draws.integer(len(LETTERS))
    allowed = followers(words)
    sizes = np.array([len(row) for row in allowed])
    table = np.array([row + (0,) * (26 - len(row)) for row in allowed])  # (26, 26)
    for place in range(1, _LONGEST):
        last = letters[:, place - 1]
        chosen = keys.below(draws.bits(), sizes[last])
        letters[:, place] = table[last, chosen]
    letters[np.arange(_LONGEST) >= number[:, None]] = -1
    return letters


def _strokes(draws: Draws) -> Shapes:
    """Return one stroke with loops and arches for each picture, through smooth curves between random points."""
    corners, x = [], np.zeros(len(draws.base))
    for _ in range(_LOOPS):
        tall, wide = draws.between(0.5, 1.6), draws.between(0.35, 0.9)
        lean = draws.between(-0.35, 0.6) * wide  # positive: the stroke turns back over itself, a loop
        deep = np.where(draws.uniform() < 0.25, draws.between(-0.9, -0.3), draws.within(0.08))
        bottom = np.stack([x, deep], axis=1)
        right = np.stack([x + wide / 2 + lean, 0.6 * tall], axis=1)
        top = np.stack([x + wide / 2, tall], axis=1)
        left = np.stack([x + wide / 2 - lean, 0.55 * tall], axis=1)
        corners += [bottom, right, top, left]
        x = x + wide
    corners.append(np.stack([x, np.zeros_like(x)], axis=1))
    knots = np.stack(corners, axis=1).astype(np.float64)  # (B, K, 2)
    knots = np.concatenate([knots[:, :1], knots, knots[:, -1:]], axis=1)
    before, start, end, after = knots[:, :-3], knots[:, 1:-2], knots[:, 2:-1], knots[:, 3:]  # (B, K - 1, 2)
    t = (np.arange(16) / 16)[:, None]  # Catmull-Rom: through every knot, with the slope between its neighbours
    cubic = [part[:, :, None] for part in (before, start, end, after)]
    a, b, c, d = cubic
    pieces = b + t * ((c - a) / 2 + t * (a - 2.5 * b + 2 * c - d / 2 + t * ((d - a) / 2 + 1.5 * (b - c))))
    lines = np.concatenate([pieces.reshape(len(knots), -1, 2), knots[:, -1:]], axis=1)
    resampled = [_resample(line, pieces=_CURVE) for line in lines]
    ones = [1] * len(lines)
    return _shapes([points for points, _ in resampled], [length for _, length in resampled], ones, ones)
