"""Tables for pages, for Markdown and for plain text."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from compactvision import _checks as checks
from compactvision.plots.display import Html, refuse_no_texts


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
    checks.texts(caption=caption)
    refuse_no_texts("columns", columns)
    if isinstance(rows, (str, bytes, Mapping)) or not hasattr(rows, "__len__"):
        raise ValueError(f"rows must be a sequence of rows, got {checks.shown(rows)}")
    for i, row in enumerate(rows):
        if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__len__"):
            raise ValueError(f"rows: row {i} must be a sequence of cells, got {checks.shown(row)}")
    if not caption.strip():
        raise ValueError("caption: it is empty; say what the table shows")
    if not columns:
        raise ValueError("columns: there is none")
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"rows: row {i} has {len(row)} cells for {len(columns)} columns")
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{_cell(row[0])}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    label = html.escape(caption, quote=True)
    markup = (
        f'<div class="cv-table" role="region" aria-label="{label}" tabindex="0" style="overflow-x: auto">'
        f'<table class="table"><caption>{label}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )
    return Html(markup, _plain_table(rows, columns, caption), markdown_table(rows, columns, caption))


def _cell(cell: object) -> str:
    return cell.markup if isinstance(cell, Html) else html.escape(str(cell))


def _plain_table(rows: Sequence[Sequence[object]], columns: Sequence[str], caption: str) -> str:
    lines = [list(columns)] + [[" ".join(str(cell).split()) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    texts = ["  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in lines]
    texts.insert(1, "  ".join("-" * size for size in widths))
    return "\n".join([caption, *texts])


def markdown_table(rows: Sequence[Sequence[object]], columns: Sequence[str], caption: str = "") -> str:
    """Return a table in Markdown, with the caption in bold above it where there is one."""

    def line(cells: Sequence[object]) -> str:
        texts = (cell.markdown or cell.text if isinstance(cell, Html) else str(cell) for cell in cells)
        return "| " + " | ".join(" ".join(text.split()).replace("|", r"\|") for text in texts) + " |"

    texts = [line(columns), line(["---"] * len(columns)), *map(line, rows)]
    return "\n".join(([f"**{caption}**", ""] if caption else []) + texts)
