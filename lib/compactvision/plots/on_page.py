"""A figure's markup in the page: as it is and, where a telephone needs it, a narrow variant beside it."""

from __future__ import annotations

from typing import Any

from compactvision.plots import narrow
from compactvision.plots import svg as _svg


def figure(fig: Any, alt: str) -> str:
    """Return a figure's markup: as it is and, where a telephone needs it, hidden beside it a narrow variant.

    The book's CSS shows one of them. Elsewhere the narrow one stays hidden.
    """
    wide = _svg.to_svg(fig, alt)
    seen = narrow.look(fig)
    variants = [_svg.marked(wide, "cv-wide", least=narrow.least_width(seen))]
    if narrow.variant(fig, seen):
        small = _svg.to_svg(fig, alt)
        variants.append(_svg.marked(small, "cv-narrow", least=narrow.POINTS, hidden=True))
    else:
        variants = [_svg.marked(wide, "cv-only", least=narrow.least_width(seen))]
    return f'<figure class="cv-figure" style="margin: 0">{"".join(variants)}</figure>'
