"""The telephone's variant of a figure: narrower, its facets stacked; none where it would not be drawn as well.

A telephone of 390 pixels leaves a figure about 342 of them. What is drawn 324 points wide with text of 9
points or more is read there at 9 pixels or more. A figure is laid out again and looked at before it is shown:
texts must stay on the canvas and off each other, and panels must keep their size. Where no layout passes, the
page shows the wide variant in a box that scrolls.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST = 9.0  # points in the narrow variant, pixels on a telephone
POINTS = 324  # width of the narrow variant
ROOM = 342  # pixels that a telephone leaves
STACKED = 6  # panels in one column at most
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
            _meet(self.texts[i], self.texts[j]) for i in range(len(self.texts)) for j in range(i + 1, len(self.texts))
        )


def _meet(one: np.ndarray, other: np.ndarray) -> bool:
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


def variant(fig: Any, wide: Look) -> bool:
    """Lay a figure out for a telephone, in place; return whether that was needed and done.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        A figure that has been shown already: it is not laid out as before afterwards.
    wide : Look
        How it looked.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = _grid(fig)
    columns = max((c for _, c in panels.values()), default=0) + 1
    stack = columns > 1 and not _pictures(panels) and not _bound(fig, panels)
    if (least_width(wide) <= ROOM and not stack) or not isinstance(fig.get_layout_engine(), ConstrainedLayoutEngine):
        return False
    if wide.outside or fig.get_size_inches()[0] * 72 <= POINTS:
        return False
    _raise_small_text(fig)
    _wrap_title(fig)
    for number in _candidates(panels, columns, stack):
        if number < columns:
            _unhide(panels)
            _rearrange(fig, panels, number)
        if _fits(fig, wide, panels, number):
            return True
        if number < columns:
            _rearrange(fig, panels, columns)
    return False


def _candidates(panels: dict[Any, tuple[int, int]], columns: int, stack: bool) -> Iterator[int]:
    """Yield numbers of columns to try, the best first."""
    cells = len(set(panels.values()))
    if stack and columns > 2 and all(axes.get_aspect() != "auto" for axes in panels):
        yield 2  # maps: one in the whole width would be a wall
    if stack and cells <= STACKED:
        yield 1
    if stack and cells > STACKED and columns > 2:
        yield 2
    yield columns
    if _pictures(panels) and columns > 1 and not _bound_pictures(panels):
        yield from range(columns - 1, 1, -1)


def _grid(fig: Any) -> dict[Any, tuple[int, int]]:
    """Return the row and column of each panel where all stand in one grid without spans, else nothing."""
    places = {axes: axes.get_subplotspec() for axes in fig.axes if axes.get_subplotspec() is not None}
    grids = {id(place.get_gridspec()): place.get_gridspec() for place in places.values()}
    if len(grids) != 1 or hasattr(next(iter(grids.values())), "_subplot_spec"):
        return {}
    found = {}
    for axes, place in places.items():
        rows, columns = place.rowspan, place.colspan
        if len(rows) != 1 or len(columns) != 1:
            return {}
        found[axes] = (rows.start, columns.start)
    return found


def _pictures(panels: dict[Any, tuple[int, int]]) -> bool:
    """Return whether every panel is a picture without axes, or empty."""
    return bool(panels) and all(not axes.axison or not axes.has_data() for axes in panels)


def _bound_pictures(panels: dict[Any, tuple[int, int]]) -> bool:
    """Return whether pictures belong to rows or columns: the titles do not name each of them."""
    shown = [axes for axes in panels if axes.has_data()]
    named = [axes for axes in shown if _title(axes)]
    return (bool(named) and len(named) < len(shown)) or any(axes.texts for axes in shown)


def _title(axes: Any) -> str:
    return "".join(axes.get_title(loc) for loc in ("left", "center", "right")).strip()


def _bound(fig: Any, panels: dict[Any, tuple[int, int]]) -> bool:
    """Return whether something holds the panels where they are, so that stacking would change what is said."""
    from matplotlib.patches import ConnectionPatch

    own = [text for text in fig.texts if text not in (fig._suptitle, fig._supxlabel, fig._supylabel)]
    if own or fig.lines or fig.patches or fig.artists or fig.images or fig.subfigs:
        return True
    if any(isinstance(artist, ConnectionPatch) for axes in panels for artist in axes.get_children()):
        return True
    rows = max(row for row, _ in panels.values()) + 1
    lower = [axes for axes, (row, _) in panels.items() if row and axes.has_data()]
    upper = [axes for axes, (row, _) in panels.items() if not row]
    if rows > 1 and any(map(_title, upper)) and not all(map(_title, lower)):
        return True  # columns have their name at the top only
    return any(_nameless(axes, panels) for axes in panels)


def _nameless(axes: Any, panels: dict[Any, tuple[int, int]]) -> bool:
    """Return whether the names of a panel's ticks are read off the panel to its left although they share no axis."""
    row, column = panels[axes]
    first = next((other for other, place in panels.items() if place == (row, 0)), axes)
    if not column or not axes.axison or not first.axison or axes.get_shared_y_axes().joined(first, axes):
        return False

    def named(one: Any) -> bool:
        low, high = sorted(one.get_ylim())
        ticks = zip(one.get_yticks(), one.get_yticklabels(), strict=False)
        shown = one.yaxis.get_visible() and one.yaxis.get_tick_params().get("labelleft", True)
        return shown and any(low <= at <= high and label.get_text() for at, label in ticks)

    return named(first) and not named(axes) and not axes.yaxis.get_tick_params().get("labelright", False)


def _unhide(panels: dict[Any, tuple[int, int]]) -> None:
    """Turn on tick labels and names of axes that a panel left to the one beside or below it."""
    rows = max(row for row, _ in panels.values())
    by_place: dict[tuple[int, int], list[Any]] = {}
    for axes, place in panels.items():
        by_place.setdefault(place, []).append(axes)
    for axes, (row, column) in panels.items():
        if not axes.axison:
            continue
        for other in by_place.get((row, 0), ()):
            if column and other is not axes and axes.get_shared_y_axes().joined(other, axes):
                axes.tick_params(axis="y", labelleft=other.yaxis.get_tick_params().get("labelleft", True))
                axes.set_ylabel(axes.get_ylabel() or other.get_ylabel(), fontsize=other.yaxis.label.get_fontsize())
                axes.yaxis.label.set_visible(True)
        for other in by_place.get((rows, column), ()):
            if row < rows and other is not axes and axes.get_shared_x_axes().joined(other, axes):
                axes.tick_params(axis="x", labelbottom=other.xaxis.get_tick_params().get("labelbottom", True))
                axes.set_xlabel(axes.get_xlabel() or other.get_xlabel(), fontsize=other.xaxis.label.get_fontsize())
                axes.xaxis.label.set_visible(True)


def _rearrange(fig: Any, panels: dict[Any, tuple[int, int]], columns: int) -> None:
    """Give each panel its place in a grid of so many columns, in the order of reading."""
    from matplotlib.gridspec import GridSpec

    order = {place: i for i, place in enumerate(sorted(set(panels.values())))}
    if columns == max(c for _, c in panels.values()) + 1:
        order = {place: place[0] * columns + place[1] for place in order}
    grid = GridSpec(max(order.values()) // columns + 1, columns, figure=fig)
    for axes, place in panels.items():
        axes.set_subplotspec(grid[order[place]])


def _raise_small_text(fig: Any) -> None:
    from matplotlib.text import Text

    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for which in ("major", "minor"):
                size = [label.get_fontsize() for label in axis.get_ticklabels(which=which)]
                if size and min(size) < LEAST:
                    axis.set_tick_params(which=which, labelsize=LEAST)
    for text in fig.findobj(Text):
        if text.get_fontsize() < LEAST:
            text.set_fontsize(LEAST)


def _wrap_title(fig: Any) -> None:
    text = " ".join(fig.get_suptitle().split())
    if text:
        size = fig._suptitle.get_fontsize()
        fig._suptitle.set_text("\n".join(textwrap.wrap(text, max(12, round(POINTS / 72 * 8.8 * 12 / size)))))


def _fits(fig: Any, wide: Look, panels: dict[Any, tuple[int, int]], columns: int) -> bool:
    """Give a figure its narrow size and return whether it is drawn as well as the wide one was."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            fig.set_size_inches(POINTS / 72, _first_height(wide, panels, columns))
            for _ in range(2):
                seen = look(fig)
                width, height = fig.get_size_inches()
                fig.set_size_inches(width, max(1.0, height + _missing(wide, seen, panels)))
            seen = look(fig)
        except UserWarning:  # the layout found no room
            return False
    kept = all(
        min(seen.axes[a]) > 0.3 or min(seen.axes[a]) >= 0.9 * min(wide.axes[a]) for a in fig.axes if a.get_visible()
    )
    good = not seen.outside and seen.clashes <= wide.clashes and len(seen.words) >= len(wide.words) * 0.6
    return kept and good and least_width(seen) <= POINTS + 0.5


def _first_height(wide: Look, panels: dict[Any, tuple[int, int]], columns: int) -> float:
    before = max((row for row, _ in panels.values()), default=0) + 1
    after = math.ceil(len(set(panels.values())) / columns) if panels else 1
    return wide.canvas[1] / 72 * max(1, after / before) + 0.3


def _missing(wide: Look, seen: Look, panels: dict[Any, tuple[int, int]]) -> float:
    """Return the inches that the rows of panels lack to be as high as they were; negative where room is left."""
    lack: dict[int, list[float]] = {}
    for axes in panels or wide.axes:
        place = axes.get_subplotspec()
        lack.setdefault(place.rowspan.start if place else 0, []).append(_lacks(axes, wide, seen))
    rows = [max(row) for row in lack.values()]
    return sum(rows) if panels else max(rows, default=0.0)


def _lacks(axes: Any, wide: Look, seen: Look) -> float:
    """Return the inches that one panel lacks; a picture wants to fill its place's width, up to 2.4 inches high."""
    width, height = seen.axes[axes]
    if axes.get_aspect() == "auto":
        return wide.axes[axes][1] - height
    place = axes.get_position(original=True)
    if width >= 0.97 * place.width * seen.canvas[0] / 72:
        return height - place.height * seen.canvas[1] / 72
    return min(height * 1.25, max(2.4, height)) - height
