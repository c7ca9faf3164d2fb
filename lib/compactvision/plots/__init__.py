"""The book's one visual style, and the ways to show figures, images, tables and interactive pieces.

Figures become inline SVG whose text and axes take the page's own colour, so that they can be read on a
light and on a dark page, and on a telephone.
"""

from compactvision.plots.display import Html, images, interactive, show, table, widget
from compactvision.plots.listing import source
from compactvision.plots.style import INK, MARKERS, PALETTE, figure, use

__all__ = [
    "INK",
    "MARKERS",
    "PALETTE",
    "Html",
    "figure",
    "images",
    "interactive",
    "show",
    "source",
    "table",
    "use",
    "widget",
]
