"""The panels of a figure as a grid: which of them belong together, and how they stand in fewer columns."""

from __future__ import annotations

from typing import Any

Panels = dict[Any, tuple[int, int]]  # row and column of each axes


def grid_of(fig: Any) -> Panels:
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


def pictures(panels: Panels) -> bool:
    """Return whether every panel is a picture without numbers on its axes, or empty."""
    return bool(panels) and all(not axes.axison or not axes.has_data() or _raster(axes) for axes in panels)


def _raster(axes: Any) -> bool:
    """Return whether a panel holds an image and nothing can be read off its axes."""
    ticks = [*axes.xaxis.get_majorticklabels(), *axes.yaxis.get_majorticklabels()]
    return bool(axes.images) and not any(label.get_visible() and label.get_text() for label in ticks)


def bound_pictures(panels: Panels) -> bool:
    """Return whether pictures belong to rows or columns: the titles do not name each of them."""
    shown = [axes for axes in panels if axes.has_data()]
    named = [axes for axes in shown if _title(axes)]
    lines = [axes for axes in shown if axes.get_ylabel() and axes.axison]
    return (bool(named) and len(named) < len(shown)) or any(axes.texts for axes in shown) or bool(lines)


def _title(axes: Any) -> str:
    return "".join(axes.get_title(loc) for loc in ("left", "center", "right")).strip()


def bound(fig: Any, panels: Panels) -> bool:
    """Return whether something holds the panels where they are, so that stacking would change what is said."""
    if tied(fig, panels):
        return True
    rows = max(row for row, _ in panels.values()) + 1
    lower = [axes for axes, (row, _) in panels.items() if row and axes.has_data()]
    upper = [axes for axes, (row, _) in panels.items() if not row]
    if rows > 1 and any(map(_title, upper)) and not all(map(_title, lower)):
        return True  # columns have their name at the top only
    return any(_nameless(axes, panels) for axes in panels)


def tied(fig: Any, panels: Panels) -> bool:
    """Return whether something drawn on the figure itself, or from panel to panel, ties the panels to their places."""
    from matplotlib.patches import ConnectionPatch

    own = [text for text in fig.texts if text not in (fig._suptitle, fig._supxlabel, fig._supylabel)]
    if own or fig.lines or fig.patches or fig.artists or fig.images or fig.subfigs:
        return True
    return any(isinstance(artist, ConnectionPatch) for axes in panels for artist in axes.get_children())


def _nameless(axes: Any, panels: Panels) -> bool:
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


def unhide(panels: Panels) -> None:
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


def rearrange(fig: Any, panels: Panels, columns: int, *, wrapped: bool = False) -> None:
    """Give each panel its place in a grid of so many columns.

    In the order of reading; or wrapped, as a table that is too wide is broken: the first columns with all their
    rows, and below them the next ones with all theirs. The names of rows then stand again in each part.
    """
    from matplotlib.gridspec import GridSpec

    places = sorted(set(panels.values()))
    rows, whole = max(row for row, _ in places) + 1, max(column for _, column in places) + 1
    if wrapped or columns == whole:
        to = {(r, c): (c // columns * rows + r, c % columns) for r, c in places}
    else:
        to = {place: divmod(i, columns) for i, place in enumerate(places)}
    grid = GridSpec(max(row for row, _ in to.values()) + 1, columns, figure=fig)
    for axes, place in panels.items():
        axes.set_subplotspec(grid[to[place]])


def name_rows(panels: Panels, columns: int) -> list[Any]:
    """Write the names of rows again where wrapped columns begin, and return the panels that got one."""
    first = {row: axes for axes, (row, column) in panels.items() if column == 0}
    named = []
    for axes, (row, column) in panels.items():
        name = first[row].get_ylabel() if row in first else ""
        if column and column % columns == 0 and name and axes.axison and not axes.get_ylabel():
            axes.set_ylabel(name, fontsize=first[row].yaxis.label.get_fontsize())
            named.append(axes)
    return named
