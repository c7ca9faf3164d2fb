"""The style: palette, sizes, and a figure with a question for its title."""

from __future__ import annotations

import textwrap
from typing import Any

from compactvision import _checks as checks

# Okabe and Ito's palette without its black and its yellow, which vanish on dark and on light pages; every
# colour has a contrast of at least 2.9 with white (#ffffff) and with the dark page (#121212).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#3D9BD8")
MARKERS = ("o", "s", "^", "D", "v", "P")

# Stands for the page's own text colour: `show` turns it into ``currentColor``.
INK = "#010203"

WIDTH = 5.4  # inches: text stays readable when the page shrinks it to 390 pixels
HEIGHT = 3.3
WIDEST = 200


def settings() -> dict[str, Any]:
    """Return the style as Matplotlib's settings."""
    from cycler import cycler

    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(ink, INK),
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.labelsize": 11,
        "figure.facecolor": "none",
        "figure.figsize": (WIDTH, HEIGHT),
        "figure.titlesize": 12,
        "figure.titleweight": "bold",
        "figure.constrained_layout.use": True,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 11,
        "grid.color": INK,
        "grid.alpha": 0.18,
        "grid.linewidth": 0.6,
        "hatch.color": INK,
        "image.cmap": "viridis",
        "image.composite_image": False,
        "image.interpolation": "none",
        "legend.fontsize": 10,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "lines.linewidth": 2.0,
        "lines.markersize": 6,
        "patch.edgecolor": "none",
        "savefig.facecolor": "none",
        "svg.fonttype": "none",
        "svg.hashsalt": "compactvision",
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
    }


def use() -> None:
    """Set the book's style for all figures that follow."""
    import matplotlib as mpl

    mpl.rcParams.update(settings())


def figure(
    title: str, *, rows: int = 1, columns: int = 1, width: float = WIDTH, height: float | None = None, **options: Any
) -> tuple[Any, Any]:
    """Return a figure in the book's style and its axes, under a question.

    Parameters
    ----------
    title : str
        The question that the figure answers; it ends in a question mark.
    rows, columns : int
        Grid of axes; with one of each the axes come alone, else as Matplotlib's array.
    width, height : float
        Inches; the height follows the rows unless given.
    options
        Passed on to ``matplotlib.pyplot.subplots`` (``sharey=True`` for example).

    Raises
    ------
    ValueError
        If the title is no question, the grid is empty, or a size is not positive.
    """
    if not isinstance(title, str) or not title.strip().endswith("?"):
        raise ValueError(f"title: {title!r} is not a question; a figure answers the question in its title")
    checks.whole(rows=rows, columns=columns)
    checks.finite(width=width)
    if height is not None:
        checks.finite(height=height)
    if not 0 < width <= WIDEST or not (height is None or 0 < height <= WIDEST):
        raise ValueError(f"width, height: must be inches in (0, {WIDEST}], got {width} x {height}")
    if rows < 1 or columns < 1:
        raise ValueError(f"rows, columns: {rows} x {columns} leaves no axes")
    import matplotlib.pyplot as plt

    use()
    height = HEIGHT * (1 + 0.7 * (rows - 1)) if height is None else height
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), **options)
    letters = max(12, round(width * 8.8))
    fig.suptitle("\n".join(textwrap.wrap(title.strip(), letters)), x=0.01, ha="left")
    return fig, axes
