"""Shapes of characters as signed distance fields, from the TrueType outlines of the fonts that matplotlib ships.

Outlines are exact: integers in font units, without hinting or a rasteriser whose version would matter. A distance
field can be shown at any size and angle, with smooth edges and thinner or bolder strokes.
"""

from __future__ import annotations

import functools
import io
import itertools
import logging
import string
from pathlib import Path

import numpy as np

from compactvision.data.errors import DataError

SUPPORTED = string.ascii_uppercase + string.ascii_lowercase + string.digits

TRAIN_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmb10",
    "cmr10",
    "cmtt10",
)
TEST_FONTS = (
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif-BoldItalic",
    "STIXGeneralBolIta",
    "cmss10",
)
FONTS = {"all": TRAIN_FONTS + TEST_FONTS, "train": TRAIN_FONTS, "test": TEST_FONTS}

GRID = 48  # points on a side of a distance field
REACH = 1.05  # half the side of a field, in heights of a capital H
_STEPS = 4  # straight pieces of a curved one


@functools.lru_cache(maxsize=8)
def atlas(fonts: tuple[str, ...], characters: str) -> np.ndarray:
    """Return the distance fields of all characters in all fonts.

    Returns
    -------
    (fonts, characters, GRID, GRID) float32: distance to the outline, negative inside, in heights of the font's
    capital H. Row 0 is the top; the middle of the character's bounding box lies in the middle of the field.
    """
    fields = np.stack([np.stack([_field(font, character) for character in characters]) for font in fonts])
    fields.setflags(write=False)
    return fields


@functools.cache
def _field(font: str, character: str) -> np.ndarray:
    start, end = _segments(font, character)  # (S, 2) each
    height = _segments(font, "H")[0][:, 1].max()
    centre = (start.min(axis=0) + start.max(axis=0)) / 2
    start, end = (start - centre) / height, (end - centre) / height
    return distance_field(start, end)


def distance_field(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the signed distances of a grid of points to a closed outline of straight pieces.

    Parameters
    ----------
    start, end : (S, 2) float64 x and y (upwards) of the pieces' ends; inside is where the outline winds round.

    Returns
    -------
    (GRID, GRID) float32 over [-REACH, REACH] in both directions, row 0 at the top.
    """
    ticks = (np.arange(GRID) * 2 - (GRID - 1)) * (REACH / (GRID - 1))
    x, y = ticks[None, :, None], -ticks[:, None, None]
    dx, dy = x - start[:, 0], y - start[:, 1]  # (1, GRID, S), (GRID, 1, S)
    ex, ey = end[:, 0] - start[:, 0], end[:, 1] - start[:, 1]  # (S,)
    along = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey), 0.0, 1.0)  # (GRID, GRID, S)
    rx, ry = dx - along * ex, dy - along * ey
    distance = np.sqrt((rx * rx + ry * ry).min(axis=-1))
    side = dy * ex - dx * ey  # positive: the point lies left of the piece
    upward = (start[:, 1] <= y) & (end[:, 1] > y) & (side > 0)
    downward = (start[:, 1] > y) & (end[:, 1] <= y) & (side < 0)
    winding = upward.sum(axis=-1) - downward.sum(axis=-1)
    return np.where(winding != 0, -distance, distance).astype(np.float32)


@functools.cache
def _segments(font: str, character: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the straight pieces of a character's outline, in font units: two arrays (S, 2)."""
    pieces = [piece for contour in _contours(font, character) for piece in contour]
    ends = np.array([piece for piece in pieces if piece[0] != piece[1]])  # (S, 2, 2)
    return ends[:, 0], ends[:, 1]


def polygons(font: str, character: str) -> list[np.ndarray]:
    """Return the closed outlines of a character: corners (M, 2) float64 each, x and y (upwards) in font units."""
    corners = ([start for start, end in contour if start != end] for contour in _contours(font, character))
    return [np.array(polygon) for polygon in corners if len(polygon) > 2]  # some fonts carry single points


def advance(font: str, character: str) -> int:
    """Return how far the next character stands to the right of this one, in font units."""
    _, names, metrics = _font(font)
    return metrics[names[ord(character)]][0]


def _contours(font: str, character: str) -> list[list[tuple[tuple[float, float], tuple[float, float]]]]:
    """Return the straight pieces of each contour of a character."""
    shapes, names, _ = _font(font)
    points, contour_ends, flags = shapes[names[ord(character)]].getCoordinates(shapes)
    contours, first = [], 0
    for last in contour_ends:
        corners = zip(points[first : last + 1], flags[first : last + 1], strict=True)
        contours.append(_flatten([(float(x), float(y), flag & 1) for (x, y), flag in corners]))
        first = last + 1
    return contours


def _flatten(contour: list[tuple[float, float, int]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Cut a closed contour of on-curve (flag 1) and control points (flag 0) into straight pieces."""
    full = []
    for here, following in zip(contour, contour[1:] + contour[:1], strict=True):
        full.append(here)
        if not here[2] and not following[2]:  # TrueType leaves out the middle between two control points
            full.append(((here[0] + following[0]) / 2, (here[1] + following[1]) / 2, 1))
    anchor = next(i for i, point in enumerate(full) if point[2])
    full = full[anchor:] + full[: anchor + 1]
    line = [full[0][:2]]
    for before, here, after in zip(full, full[1:], full[2:] + full[:1], strict=False):
        if here[2]:
            line.append(here[:2])
        else:
            line += [_bezier(before, here, after, k) for k in range(1, _STEPS)]
    return list(itertools.pairwise(line))


def _bezier(p: tuple, q: tuple, r: tuple, k: int) -> tuple[float, float]:
    """Point k / _STEPS of the way along a quadratic curve; exact, since every number is a multiple of 1/32."""
    a, b, c = (_STEPS - k) ** 2, 2 * k * (_STEPS - k), k * k
    return tuple((a * p[i] + b * q[i] + c * r[i]) / _STEPS**2 for i in (0, 1))


@functools.cache
def _font(font: str) -> tuple:
    """Glyph table, character map and widths of a font that matplotlib ships."""
    import matplotlib
    from fontTools.ttLib import TTFont, TTLibError

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    try:
        loaded = TTFont(io.BytesIO(path.read_bytes()))
    except (OSError, TTLibError) as error:
        raise DataError(f"{path}, a font of matplotlib, cannot be read ({error}): install matplotlib again") from error
    log = logging.getLogger("fontTools.ttLib.tables._h_e_a_d")
    level = log.level
    log.setLevel(logging.ERROR)  # the old Computer Modern files carry odd dates, which matter to nobody
    try:
        return loaded["glyf"], loaded.getBestCmap(), loaded["hmtx"]
    finally:
        log.setLevel(level)
