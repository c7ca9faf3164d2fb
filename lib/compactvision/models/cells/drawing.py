"""A cell drawn as SVG: nodes in a column, data flows down, an arc with the name of its operation for each edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from compactvision import _checks as checks
from compactvision.models.cells.genotype import INPUTS, Edge, as_edges
from compactvision.models.cells.operations import NONE, OPERATIONS, SKIP

STEP, RADIUS, RIM = 64, 13, 26  # units: from node to node, a node, above and below the column
PILL = (62, 20)  # width and height of a name's field
# The colours of ``plots.PALETTE``, which stands on a higher floor: readable under white letters.
_COLOURS = (("conv", "#0072B2"), ("sep", "#00785A"), ("dil", "#A8547F"), ("max", "#B04C00"), ("avg", "#8A6508"))


def short_name(name: str) -> str:
    """Return the name of an operation as a drawing has it.

    Examples
    --------
    >>> [short_name(name) for name in ("sep_conv_5x5", "max_pool_3x3", "conv_1x1", "skip_connect", "none")]
    ['sep 5', 'max 3', 'conv 1', 'skip', 'none']
    """
    checks.one_of(OPERATIONS, name=name)
    if name in (SKIP, NONE):
        return "skip" if name == SKIP else "none"
    kind, _, rest = name.partition("_")
    return f"{kind} {rest[-1:]}"


def colour(name: str) -> str:
    """Return the colour of an operation in a drawing.

    Examples
    --------
    >>> colour("conv_3x3") == colour("conv_5x5"), colour("none")
    (True, '#5F6670')
    """
    checks.one_of(OPERATIONS, name=name)
    return next((value for start, value in _COLOURS if name.startswith(start)), "#5F6670")


def cell_svg(edges: Iterable[Sequence], *, outputs: Iterable[int] = (), title: str = "A cell") -> str:
    """Return the drawing of a cell.

    Each edge is a group of class ``edge`` with its place in ``data-edge``, so that a page can make it react; the text
    for those who do not see it lists all edges.

    Parameters
    ----------
    edges : sequence of (operation, source, target)
        The cell.
    outputs : sequence of int, optional
        Nodes with a double ring; all but the two inputs by default.
    title : str, default "A cell"
        What the drawing shows.

    Raises
    ------
    ValueError
        For edges that make no cell, an output that is no node behind the inputs, or a title that is no text.

    Examples
    --------
    >>> drawn = cell_svg([("conv_3x3", 0, 2), ("skip_connect", 1, 2)], title="A small cell")
    >>> drawn.count('class="edge"'), "skip from 1 to 2" in drawn
    (2, True)
    """
    checks.texts(title=title)
    found = as_edges(edges)
    last = max(edge.target for edge in found)
    rings = tuple(outputs) or tuple(range(INPUTS, last + 1))
    checks.whole(**{f"outputs[{index}]": node for index, node in enumerate(rings)})
    if not all(INPUTS <= node <= last for node in rings):
        raise ValueError(f"outputs must be nodes from {INPUTS} to {last}, got {rings}")
    middle = PILL[0] // 2 + 4 + max(map(_reach, found))
    height = 2 * RIM + STEP * last
    said = "; ".join(f"{short_name(edge.operation)} from {edge.source} to {edge.target}" for edge in found)
    arcs = "".join(
        _arc(index, edge, side, middle) for index, (edge, side) in enumerate(zip(found, _sides(found), strict=True))
    )
    nodes = "".join(_node(node, node in rings, middle) for node in range(last + 1))
    return (
        f'<svg class="cv-cell" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * middle} {height}" role="img" '
        f'aria-label="{escape(title)}: {said}." style="display: block; width: 100%; max-width: 22rem; height: auto; '
        f'color: inherit; font: 12px DejaVu Sans, sans-serif"><title>{escape(title)}</title>{arcs}{nodes}</svg>'
    )


def _sides(edges: Sequence[Edge]) -> list[int]:
    """Return -1 or 1 for each edge: those into one node go left and right in turn."""
    arrived: dict[int, int] = {}
    sides = []
    for edge in edges:
        arrived[edge.target] = arrived.get(edge.target, 0) + 1
        sides.append(-1 if arrived[edge.target] % 2 else 1)
    return sides


def _reach(edge: Edge) -> int:
    """Return how far out of the column an arc gets; longer ones pass outside."""
    return 14 + 30 * (edge.target - edge.source)


def _arc(index: int, edge: Edge, side: int, middle: int) -> str:
    top, bottom = (RIM + STEP * node for node in (edge.source, edge.target))
    x = middle + side * _reach(edge)
    handle = middle + (x - middle) * 4 / 3  # a cubic curve gets three quarters of the way to its handles
    paint = colour(edge.operation)
    dashes = ' stroke-dasharray="2 5"' if edge.operation == NONE else ""
    width, tall = PILL
    y = (top + bottom) / 2
    return (
        f'<g class="edge" data-edge="{index}"><path d="M{middle} {top}C{handle:.0f} {top} {handle:.0f} {bottom} '
        f'{middle} {bottom}" fill="none" stroke="{paint}" stroke-width="2.5"{dashes}/>'
        f'<rect x="{x - width / 2:.0f}" y="{y - tall / 2:.0f}" width="{width}" height="{tall}" rx="10" '
        f'fill="{paint}"/><text x="{x}" y="{y + 4:.0f}" text-anchor="middle" fill="#fff">'
        f"{short_name(edge.operation)}</text></g>"
    )


def _node(node: int, ring: bool, middle: int) -> str:
    y = RIM + STEP * node
    outer = f'<circle cx="{middle}" cy="{y}" r="{RADIUS + 3}" fill="none" stroke="#8A8F98"/>' if ring else ""
    return (
        f'{outer}<circle cx="{middle}" cy="{y}" r="{RADIUS}" fill="#E9ECEF" stroke="#5F6670"/>'
        f'<text x="{middle}" y="{y + 4}" text-anchor="middle" fill="#10161D">{node}</text>'
    )
