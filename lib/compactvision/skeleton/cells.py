"""A notebook from plain text: cells behind lines ``%% markdown`` and ``%% code TAG ...``."""

from __future__ import annotations

import json
import re
from typing import Any


def notebook_text(text: str, label: str) -> str:
    """Return a notebook's file, not executed yet.

    Parameters
    ----------
    text : str
        Cells, each behind a line that begins with ``%%``, its kind and its tags.
    label : str
        What the cells' identifiers begin with.
    """
    _, *pieces = re.split(r"^%% (\w+)(.*)\n", text, flags=re.MULTILINE)
    cells: list[dict[str, Any]] = []
    for number, (kind, tags, source) in enumerate(zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)):
        cell: dict[str, Any] = {
            "cell_type": kind,
            "id": f"{label}-{number:02d}",
            "metadata": {"tags": tags.split()} if tags.split() else {},
            "source": source.strip("\n").splitlines(keepends=True),
        }
        cells.append({**cell, "execution_count": None, "outputs": []} if kind == "code" else cell)
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
