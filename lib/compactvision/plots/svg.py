"""A Matplotlib figure as an SVG element that can stand in a page: themed, scoped, reproducible."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections import Counter
from typing import Any

from compactvision.plots.escape import as_html
from compactvision.plots.style import INK, settings

_RASTER_ABOVE = 2000  # points of a scatter plot or cells of a mesh beyond which it is drawn as an image
_RASTER_DPI = 160
_FONT = "var(--pst-font-family-base, system-ui, sans-serif)"
# Matplotlib writes no colour for black: what has none of its own takes the page's.
_ROOT_STYLE = "fill: currentColor; stroke-linejoin: round; stroke-linecap: butt"

_seen: Counter[str] = Counter()


def title_of(fig: Any) -> str:
    """Return the title of a figure: its own, else the first one of its axes, else an empty string."""
    own = fig.get_suptitle()
    candidates = [own] + [axes.get_title(loc) for axes in fig.axes for loc in ("left", "center", "right")]
    return " ".join(next((text for text in candidates if text.strip()), "").split())


def rasterise(fig: Any) -> None:
    """Mark scatter plots and meshes with more than 2000 elements to be drawn as images inside the SVG."""
    from matplotlib.collections import PathCollection, QuadMesh

    for axes in fig.axes:
        for artist in axes.collections:
            if isinstance(artist, PathCollection):
                count = len(artist.get_offsets())
            else:
                count = artist.get_array().size if isinstance(artist, QuadMesh) else 0
            if count > _RASTER_ABOVE:
                artist.set_rasterized(True)


def scoped(text: str, prefix: str) -> str:
    """Return the markup with every ``id`` and every reference to one prefixed."""
    names = set(re.findall(r'\bid="([^"]+)"', text))
    text = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{prefix}{found[1]}"', text)
    for pattern in (r'(href="#)([^"]+)(")', r"(url\(#)([^)]+)(\))", r'(\bfor=")([^"]+)(")', r'(="#)([^"]+)(")'):
        text = re.sub(
            pattern, lambda found: found[1] + (prefix if found[2] in names else "") + found[2] + found[3], text
        )
    return text


def unique_prefix(text: str) -> str:
    """Return a prefix for ids that follows from the content; a repeated content gets a number as well."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    _seen[digest] += 1
    return f"cv{digest}-" if _seen[digest] == 1 else f"cv{digest}-{_seen[digest]}-"


def to_svg(fig: Any, alt: str) -> str:
    """Return a figure as an inline ``<svg role="img">``.

    The colour :data:`~compactvision.plots.INK` becomes ``currentColor``, fonts are those of the page, ids
    are unique, and the same figure always gives the same text.
    """
    import matplotlib as mpl

    rasterise(fig)
    stream = io.StringIO()
    with mpl.rc_context({name: settings()[name] for name in ("svg.fonttype", "svg.hashsalt", "image.composite_image")}):
        fig.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True, dpi=_RASTER_DPI)
    return _for_page(stream.getvalue(), alt)


def _for_page(text: str, alt: str) -> str:
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]+", f"font-family: {_FONT}", text)
    text = re.sub(re.escape(INK), "currentColor", text, flags=re.IGNORECASE)
    text = re.sub(r'<style type="text/css">.*?</style>', "", text, flags=re.DOTALL)  # would style the whole page
    text = re.sub(r'(<image\b[^>]*?) id="[^"]*"', r"\1", text)  # equal pictures have equal ids, which nothing refers to
    head, body = text.split(">", 1)
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    width, height = (float(view[1]), float(view[2])) if view else (0.0, 0.0)
    label = as_html(" ".join(alt.split()))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{label}" viewBox="0 0 {width:g} {height:g}" '
        f'style="display: block; width: 100%; max-width: {width * 4 / 3:.0f}px; height: auto; {_ROOT_STYLE}"'
    )
    body = re.sub(r"\n\s*", "\n", body)
    return scoped(f"{head}>{body}", unique_prefix(head + body))


def marked(text: str, name: str, *, least: float, hidden: bool = False) -> str:
    """Return an SVG with a class, the pixels that it must be wide to be read, and hidden if told so."""
    text = text.replace("<svg ", f'<svg class="{name}" ', 1)
    style = f"--cv-least: {math.ceil(least)}px; display: {'none' if hidden else 'block'};"
    return text.replace('style="display: block;', f'style="{style}', 1)
