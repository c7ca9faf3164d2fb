"""What a drawn figure looks like: where its texts stand, how large they are, and how large its axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST = 9.0  # points in the narrow variant, pixels on a telephone
_DEEP = 1.5  # points by which two texts must run into each other to count


@dataclass(frozen=True)
class Look:
    """What a drawn figure looks like: its texts as quadrilaterals in points, and the size of its axes in inches."""

    texts: list[np.ndarray]
    words: list[str]
    sizes: list[float]
    canvas: tuple[float, float]
    axes: dict[Any, tuple[float, float]]

    @property
    def outside(self) -> int:
        """Number of texts that leave the canvas."""
        high = np.array(self.canvas) + 1
        return sum(bool((box < -1).any() or (box > high).any()) for box in self.texts)

    @property
    def clashes(self) -> int:
        """Number of pairs of texts that run into each other."""
        return sum(
            meet(self.texts[i], self.texts[j]) for i in range(len(self.texts)) for j in range(i + 1, len(self.texts))
        )


def meet(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two rectangles, (4, 2) each, share more than a margin: no axis of either separates them."""
    for box in (one, other):
        for edge in (box[1] - box[0], box[2] - box[1]):
            length = float(np.hypot(*edge))
            if length == 0:
                return False
            a, b = one @ edge / length, other @ edge / length
            if min(a.max(), b.max()) - max(a.min(), b.min()) <= _DEEP:
                return False
    return True


def look(fig: Any) -> Look:
    """Draw a figure off the screen and return what is seen of its texts and axes."""
    from matplotlib.backends.backend_agg import RendererAgg

    dpi = 72.0
    texts: list[np.ndarray] = []
    words: list[str] = []
    sizes: list[float] = []

    class Recorder(RendererAgg):
        def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
            width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
            corners = np.array([(0, -descent), (width, -descent), (width, height - descent), (0, height - descent)])
            turn = math.radians(angle)
            cos, sin = math.cos(turn), math.sin(turn)
            texts.append(corners @ np.array([[cos, sin], [-sin, cos]]) + (x, self.height - y))
            words.append(s)
            sizes.append(prop.get_size_in_points())

    before = fig.dpi
    try:
        fig.dpi = dpi
        width, height = fig.get_size_inches()
        fig.draw(Recorder(width * dpi, height * dpi, dpi))
        axes = {a: tuple(a.get_window_extent().size / dpi) for a in fig.axes}
    finally:
        fig.dpi = before
    return Look(texts, words, sizes, (width * dpi, height * dpi), axes)


def least_width(look_: Look) -> float:
    """Return the pixels that a figure must be wide for its smallest text to have nine of them."""
    return look_.canvas[0] * LEAST / min(look_.sizes, default=LEAST)
