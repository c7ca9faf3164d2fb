"""The telephone's variant of a figure: narrower, its facets stacked; none where it would not be drawn as well.

A telephone of 390 pixels leaves a figure about 342 of them. What is drawn 324 points wide with text of 9
points or more is read there at 9 pixels or more. A figure is laid out again and looked at before it is shown:
texts must stay on the canvas and off each other, and panels must keep their size. Where no layout passes, the
page shows the wide variant in a box that scrolls. Pictures keep their columns, and pictures that belong to
rows or columns are wrapped as a table is, so that what belongs together stays together.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

from compactvision.plots import grids
from compactvision.plots.looks import LEAST, Look, least_width, look

POINTS = 324  # width of the narrow variant
ROOM = 342  # pixels that a telephone leaves
STACKED = 6  # panels in one column at most


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

    panels = grids.grid_of(fig)
    columns = max((c for _, c in panels.values()), default=0) + 1
    stack = columns > 1 and not grids.pictures(panels) and not grids.bound(fig, panels)
    if (least_width(wide) <= ROOM and not stack) or not isinstance(fig.get_layout_engine(), ConstrainedLayoutEngine):
        return False
    if wide.outside or fig.get_size_inches()[0] * 72 <= POINTS:
        return False
    _raise_small_text(fig)
    _wrap_title(fig)
    for number, wrapped in _candidates(fig, panels, columns, stack):
        named = []
        if wrapped:
            named = grids.name_rows(panels, number)
        elif number < columns:
            grids.unhide(panels)
        if number < columns:
            grids.rearrange(fig, panels, number, wrapped=wrapped)
        if _fits(fig, wide, panels, number):
            return True
        for axes in named:
            axes.set_ylabel("")
        if number < columns:
            grids.rearrange(fig, panels, columns)
    return False


def _candidates(fig: Any, panels: grids.Panels, columns: int, stack: bool) -> Iterator[tuple[int, bool]]:
    """Yield numbers of columns to try, the best first, and whether columns are wrapped with all their rows."""
    cells = len(set(panels.values()))
    if stack and columns > 2 and all(axes.get_aspect() != "auto" for axes in panels):
        yield 2, False  # maps: one in the whole width would be a wall
    if stack and cells <= STACKED:
        yield 1, False
    if stack and cells > STACKED and columns > 2:
        yield 2, False
    yield columns, False
    if not grids.pictures(panels) or columns == 1:
        return
    if not grids.bound_pictures(panels):
        yield from ((number, False) for number in range(columns - 1, 1, -1))
    elif not grids.tied(fig, panels):
        parts = (math.ceil(columns / part) for part in range(2, columns))
        yield from ((number, True) for number in dict.fromkeys(parts) if number > 1)


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


def _fits(fig: Any, wide: Look, panels: grids.Panels, columns: int) -> bool:
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


def _first_height(wide: Look, panels: grids.Panels, columns: int) -> float:
    before = max((row for row, _ in panels.values()), default=0) + 1
    after = math.ceil(len(set(panels.values())) / columns) if panels else 1
    return wide.canvas[1] / 72 * max(1, after / before) + 0.3


def _missing(wide: Look, seen: Look, panels: grids.Panels) -> float:
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
