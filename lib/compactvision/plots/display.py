"""Showing: figures with a text for those who do not see them, images, tables and interactive pieces."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compactvision import _checks as checks
from compactvision.plots import arguments, on_page
from compactvision.plots import svg as _svg
from compactvision.plots.escape import as_html, as_markdown
from compactvision.plots.style import WIDTH, figure

_OUTSIDE = re.compile(
    r"""<(?:script|img|iframe|link|source|video|audio|object|embed)\b[^>]*(?:src|href|data)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|url\(\s*["']?(?:https?:)?//|@import|\bfetch\s*\(|XMLHttpRequest|\bimport\s*\(|WebSocket|EventSource|sendBeacon""",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Html:
    """Something that a notebook displays: HTML for pages, Markdown where given, text elsewhere."""

    markup: str
    text: str
    markdown: str | None = None

    def _repr_html_(self) -> str:
        return self.markup

    def _repr_markdown_(self) -> str:
        return self.markdown if self.markdown is not None else "\n".join(map(as_markdown, self.text.splitlines()))

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def _under_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _display(markup: str, text: str) -> None:
    if _under_ipython():
        from IPython.display import display

        display({"text/html": markup, "text/plain": text}, raw=True)


def _checked_alt(alt: object) -> str:
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt: {alt!r} says nothing; describe what is to be seen for those who do not see it")
    return " ".join(alt.split())


def show(fig: Any, *, alt: str) -> None:
    """Display a figure as inline SVG and close it; outside IPython nothing is displayed.

    Where a telephone would show its text smaller than nine pixels, or panels side by side, a second variant
    for narrow pages comes with it; see ``plots.narrow``.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        With a title, its own or that of its axes.
    alt : str
        What is to be seen, for those who do not see it: the finding, not the decoration.

    Raises
    ------
    ValueError
        If the alt text is empty or the figure has no title.
    """
    alt = _checked_alt(alt)
    arguments.refuse_no_figure(fig=fig)
    title = _svg.title_of(fig)
    if not title:
        raise ValueError("fig: the figure has no title; a figure answers the question in its title")
    import matplotlib.pyplot as plt

    try:
        if _under_ipython():
            _display(on_page.figure(fig, alt), f"Figure: {title} {alt}")
    finally:
        plt.close(fig)


def images(
    pictures: Any, *, title: str, titles: Sequence[str] | None = None, columns: int = 5, width: float = WIDTH
) -> Any:
    """Return a figure with a grid of images, to be given to :func:`show`.

    Parameters
    ----------
    pictures : Tensor or array, or a sequence of them
        (N, C, H, W) or (N, H, W), or N of (C, H, W) or (H, W); C is 1 or 3; uint8 or floats in [0, 1].
    title : str
        The question that the figure answers.
    titles : sequence of str, optional
        One a picture.
    columns : int
        Pictures a row.
    width : float
        Inches.

    Raises
    ------
    ValueError
        If there is no picture, a shape or range is another one, or the number of titles differs.
    """
    checks.whole(columns=columns)
    checks.finite(width=width)
    arguments.refuse_no_list(pictures=pictures)
    if titles is not None:
        arguments.refuse_no_texts(titles=titles)
    arrays = [arguments.as_picture(item, i) for i, item in enumerate(pictures)]
    if not arrays:
        raise ValueError("pictures: there is none")
    if columns < 1:
        raise ValueError(f"columns: {columns} is not at least 1")
    if titles is not None and len(titles) != len(arrays):
        raise ValueError(f"titles: {len(titles)} for {len(arrays)} pictures")
    columns = min(columns, len(arrays))
    rows = math.ceil(len(arrays) / columns)
    shape = arrays[0].shape[0] / arrays[0].shape[1]
    cell = width / columns
    height = rows * (cell * shape + (0.25 if titles else 0.05)) + 0.55
    fig, axes = figure(title, rows=rows, columns=columns, width=width, height=height, squeeze=False)
    for i, place in enumerate(axes.flat):
        place.axis("off")
        if i < len(arrays):
            place.imshow(arrays[i], cmap="gray", vmin=0, vmax=1, interpolation="none")
            if titles is not None:
                place.set_title(titles[i], fontsize=10, fontweight="normal", loc="center", pad=3)
    return fig


def table(rows: Sequence[Sequence[object]], columns: Sequence[str], caption: str) -> Html:
    """Return a table to display: its first column names the rows; wide ones scroll inside their own box.

    Parameters
    ----------
    rows : sequence of sequences
        Cells are shown as ``str`` gives them: format numbers before. An :class:`Html` cell keeps its markup.
    columns : sequence of str
        Headings.
    caption : str
        What the table shows, with units.

    Raises
    ------
    ValueError
        If the caption is empty, there are no columns, or a row has another length.
    """
    arguments.refuse_no_table(rows, columns, caption)
    if not caption.strip():
        raise ValueError("caption: it is empty; say what the table shows")
    if not columns:
        raise ValueError("columns: there is none")
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"rows: row {i} has {len(row)} cells for {len(columns)} columns")
    head = "".join(f'<th scope="col">{as_html(name)}</th>' for name in columns)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{_cell(row[0])}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    label = as_html(caption)
    markup = (
        f'<div class="cv-table" role="region" aria-label="{label}" tabindex="0" style="overflow-x: auto">'
        f'<table class="table"><caption>{label}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )
    return Html(markup, _plain_table(rows, columns, caption), markdown_table(rows, columns, caption))


def _cell(cell: object) -> str:
    return cell.markup if isinstance(cell, Html) else as_html(cell)


def _plain_table(rows: Sequence[Sequence[object]], columns: Sequence[str], caption: str) -> str:
    lines = [list(columns)] + [[" ".join(str(cell).split()) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    texts = ["  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in lines]
    texts.insert(1, "  ".join("-" * size for size in widths))
    return "\n".join([caption, *texts])


def markdown_table(rows: Sequence[Sequence[object]], columns: Sequence[str], caption: str = "") -> str:
    """Return a table in Markdown, with the caption in bold above it where there is one.

    Everything is shown as text, but for the Markdown of an :class:`Html` cell.
    """

    def text(cell: object) -> str:
        return cell.markdown if isinstance(cell, Html) and cell.markdown is not None else as_markdown(cell)

    lines = [f"| {' | '.join(map(text, cells))} |" for cells in (columns, *rows)]
    lines.insert(1, f"| {' | '.join(['---'] * len(columns))} |")
    return "\n".join(([f"**{as_markdown(caption)}**", ""] if caption else []) + lines)


def widget(
    markup: str, *, alt: str, script: str = "", data: object = None, fallback: Any = None, style: str = ""
) -> None:
    """Display an interactive piece that needs neither a kernel nor the network.

    Parameters
    ----------
    markup : str
        HTML of the piece. Its ids become unique, also in ``for``, ``href`` and ``aria-*`` references.
    alt : str
        What it shows and what can be moved.
    script : str
        Plain JavaScript, run with ``root`` (the element around the markup), ``data``, and ``id(name)``,
        which returns the element that ``markup`` calls by that id.
    data : object
        Anything that JSON can hold.
    fallback : Figure or str, optional
        Shown where scripts do not run: a figure or HTML. Without it the alt text is shown.
    style : str
        CSS in which ``&`` stands for the element around the markup.

    Raises
    ------
    ValueError
        If the alt text is empty, or something would be fetched from the network.
    """
    alt = _checked_alt(alt)
    checks.texts(markup=markup, script=script, style=style)
    for name, text in (("markup", markup), ("script", script), ("style", style)):
        found = _OUTSIDE.search(text)
        if found:
            raise ValueError(f"{name}: {found[0]!r} reaches outside the page; a piece holds all that it needs")
    content = arguments.as_json(data=data).replace("</", r"<\/")
    static = _static(fallback, alt)
    if not _under_ipython():
        return
    name = _svg.unique_prefix(markup + script + content + alt)
    root = f"{name}root"
    scoped = _svg.scoped(markup, name)
    for attribute in ("aria-labelledby", "aria-describedby", "aria-controls", "list"):
        scoped = re.sub(rf'({attribute}=")([^"]+)(")', rf"\g<1>{name}\g<2>\g<3>", scoped)
    label = as_html(alt)
    sheet = f"<style>{style.replace('&', f'#{root}')}</style>" if style else ""
    code = (
        f"<script>(function (root, data) {{ const id = (name) => document.getElementById({json.dumps(name)} + name);\n"
        f"{script}\n}})(document.getElementById({json.dumps(root)}), {content});</script>"
        if script
        else ""
    )
    _display(
        f'{sheet}<div class="cv-widget" id="{root}" role="group" aria-label="{label}">{scoped}</div>'
        f"<noscript>{static}</noscript>{code}",
        f"Interactive figure: {alt}",
    )


def _static(fallback: Any, alt: str) -> str:
    if fallback is None:
        return f"<p>{as_html(alt)}</p>"
    if isinstance(fallback, str):
        return fallback
    arguments.refuse_no_figure(fallback=fallback)
    import matplotlib.pyplot as plt

    try:
        return _svg.to_svg(fallback, alt) if _under_ipython() else ""
    finally:
        plt.close(fallback)


def interactive(markup: str, *, alt: str, fallback: Any = None, data: Mapping[str, Any] | None = None) -> None:
    """Display a piece whose ``<script>`` blocks stand inside its markup; see :func:`widget`."""
    checks.texts(markup=markup)
    scripts = re.findall(r"<script>(.*?)</script>", markup, flags=re.DOTALL)
    rest = re.sub(r"<script>.*?</script>", "", markup, flags=re.DOTALL)
    widget(rest, alt=alt, script="\n".join(scripts), data=data, fallback=fallback)
