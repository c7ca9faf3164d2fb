"""Text that was written elsewhere, in a record or a claim for example, made to be shown as text on a page."""

from __future__ import annotations

import html
import re

_MARKS = re.compile(r"[\\`*_{}\[\]$|~^#!@]|\.(?=[A-Za-z])|:(?=/)")  # the last two begin what becomes a link by itself
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


def as_html(text: object) -> str:
    """Return text for HTML, also for the value of an attribute in quotes: nothing in it is a tag or an entity."""
    return html.escape(str(text), quote=True)


def as_markdown(text: object) -> str:
    """Return text for one line of MyST Markdown, also for a cell of a table.

    Nothing in it is markup, HTML, mathematics, a role, a link or the end of a cell; white space becomes single blanks.
    """
    line = _CONTROLS.sub("\ufffd", " ".join(str(text).split()))
    return html.escape(_MARKS.sub(r"\\\g<0>", line), quote=False)


def as_code(text: object) -> str:
    """Return text as code in MyST Markdown where it is made of letters, digits and ``. : / + -``, else as text."""
    return f"`{text}`" if re.fullmatch(r"[\w.:/+-]+", str(text)) else as_markdown(text)
