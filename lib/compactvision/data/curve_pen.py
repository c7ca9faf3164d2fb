"""The pen behind :mod:`compactvision.data.curves`: from curves to the ink of each pixel.

B is the number of pictures in a chunk, P the number of pixels of one, L the number of points that the pen touches.
"""

from __future__ import annotations

import math

import numpy as np

from compactvision.data.curve_paths import Paths, expand

_GAP = 0.5  # between points of a line, in pixels
_WIDEST = 1.0  # half the widest pen, in 64ths of the side
_HALVINGS = 14  # of the interval in which the width of the pen is sought


def line(paths: Paths, xy: np.ndarray, inked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points (L, 2) no further than ``_GAP`` apart along the inked parts of the curves, and their pictures (L,).

    At a corner a tremor pulls neighbours apart, and the pen does not leave the paper there.
    """
    curve = np.repeat(np.arange(len(paths.count)), paths.count)
    step = (xy[paths.neighbours(curve)[1]] - xy)[inked]  # (I, 2)
    pieces = np.floor(np.sqrt(step[:, 0] * step[:, 0] + step[:, 1] * step[:, 1]) / _GAP).astype(np.int64) + 1
    of, place = expand(pieces)
    return xy[inked][of] + step[of] * (place / pieces[of])[:, None], paths.image[inked][of]


def distances(xy: np.ndarray, image: np.ndarray, images: int, size: int) -> np.ndarray:
    """Return the distance of each pixel's middle to the nearest point, (B, size^2) in pixels, where it is small.

    Distances that matter for the widest pen are right; larger ones may be too large.
    """
    reach = math.ceil(_WIDEST * size / 64)  # pixels up to reach + 0.5 from a point are looked at
    margin = reach + 1
    wide = size + 2 * margin
    xy = np.clip(xy, -0.9, size + 0.9) + margin
    corner = np.floor(xy).astype(np.int64)  # pixel of the point, in the wide picture
    inside = xy - corner - 0.5  # from the middle of that pixel
    flat = (image * wide + corner[:, 1]) * wide + corner[:, 0]
    square = np.full(images * wide * wide, (reach + 0.5) ** 2, dtype=np.float64)
    for right in range(-reach, reach + 1):
        for down in range(-reach, reach + 1):
            x, y = inside[:, 0] - right, inside[:, 1] - down
            np.minimum.at(square, flat + down * wide + right, x * x + y * y)
    square = square.reshape(images, wide, wide)[:, margin:-margin, margin:-margin]
    return np.sqrt(square.reshape(images, -1)).astype(np.float32)


def cover(distance: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return the ink of each pixel (B, P) as bytes, for a pen of half this width (B,) in pixels."""
    edge = (half + 0.5).astype(np.float32)[:, None]
    return np.floor(np.clip(edge - distance, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def ink(distance: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return the ink of each picture (B,) in 255ths of a pixel."""
    return cover(distance, half).sum(axis=1, dtype=np.int64)


def other_pen(distance: np.ndarray, unit: float, wanted: np.ndarray) -> np.ndarray:
    """Return half the width of the narrowest pen, (B,) pixels, that leaves at least the wanted ink (B,)."""
    low, high = np.full(len(wanted), -0.4), np.full(len(wanted), _WIDEST * unit)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = ink(distance, middle) >= wanted
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high
