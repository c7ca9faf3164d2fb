"""Random windows and mirrors the slow way: one image after the other, pixel by pixel."""

import numpy as np


def splitmix64(state: int) -> int:
    """Finalise one 64-bit state as in the SplitMix64 generator, in plain Python integers."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def chained(*words: int) -> int:
    """Hash words one by one: each is added to the hash of those before it."""
    state = 0
    for word in words:
        state = splitmix64((state + word) % 2**64)
    return state


def move(seed: int, epoch: int, sample: int, crop: int, flip: bool) -> tuple[int, int, bool]:
    """Return row and column of a sample's window, and whether it is mirrored."""
    bits = chained(seed, epoch, 2, sample)
    high, low = bits >> 32, bits & (2**32 - 1)
    places = 2 * crop + 1
    return (high * places) >> 32, (low * places) >> 32, bool(flip and bits & 1)


def window(image: np.ndarray, top: int, left: int, mirrored: bool, crop: int) -> np.ndarray:
    """Cut a window from an image (C, H, W) with a border of zeros, one pixel at a time."""
    channels, height, width = image.shape
    result = np.zeros_like(image)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                row, column = i + top - crop, (width - 1 - j if mirrored else j) + left - crop
                if 0 <= row < height and 0 <= column < width:
                    result[c, i, j] = image[c, row, column]
    return result


def order(seed: int, epoch: int, n: int) -> list[int]:
    """Return an epoch's order: samples sorted by their hash."""
    return sorted(range(n), key=lambda sample: chained(seed, epoch, 1, sample))
