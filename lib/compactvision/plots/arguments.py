"""Checks of what is to be shown, each a ``ValueError`` that names the argument."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from compactvision import _checks as checks


def refuse_no_figure(**values: Any) -> None:
    """Refuse what is no figure of Matplotlib."""
    from matplotlib.figure import Figure

    for name, value in values.items():
        if not isinstance(value, Figure):
            raise ValueError(f"{name} must be a figure of Matplotlib, got {checks.shown(value)}")


def refuse_no_list(**values: Any) -> None:
    """Refuse what has no entries in an order: numbers, texts, mappings, a tensor without a dimension."""
    for name, value in values.items():
        other = isinstance(value, (str, bytes, Mapping, set)) or getattr(value, "ndim", 1) == 0
        if other or not hasattr(value, "__len__") or not hasattr(value, "__getitem__") or isinstance(value, type):
            raise ValueError(f"{name} must be a sequence, got {checks.shown(value)}")


def refuse_no_texts(**values: Any) -> None:
    """Refuse what is no sequence of texts."""
    refuse_no_list(**values)
    for name, value in values.items():
        for text in value:
            checks.texts(**{name: text})


def refuse_no_table(rows: Any, columns: Any, caption: Any) -> None:
    """Refuse rows that are no sequences of sequences, and headings and captions that are no texts."""
    checks.texts(caption=caption)
    refuse_no_texts(columns=columns)
    refuse_no_list(rows=rows)
    for number, row in enumerate(rows):
        refuse_no_list(**{f"rows[{number}]": row})


def refuse_no_picture(**values: Any) -> None:
    """Refuse a tensor or array that is empty or cannot be read here."""
    for name, value in values.items():
        if hasattr(value, "detach"):
            checks.tensors(**{name: value})
        if 0 in getattr(value, "shape", (1,)):
            raise ValueError(f"{name} must have pixels, got the shape {tuple(value.shape)}")


def as_json(**values: Any) -> str:
    """Return one value as JSON."""
    ((name, value),) = values.items()
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be written as JSON: {error}") from None


def as_picture(item: Any, number: int) -> Any:
    """Return one picture as floats in [0, 1], (H, W) or (H, W, 3)."""
    import numpy as np

    refuse_no_picture(**{f"pictures[{number}]": item})
    array = item.detach().cpu().numpy() if hasattr(item, "detach") else np.asarray(item)
    if array.dtype == np.uint8:
        array = array / 255.0
    elif not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"pictures: number {number} is of type {array.dtype}, not uint8 or float")
    elif not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"pictures: number {number} has floats outside [0, 1]")
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)  # (C, H, W) -> (H, W, C)
        array = array[..., 0] if array.shape[-1] == 1 else array
    elif array.ndim != 2:
        raise ValueError(f"pictures: number {number} has the shape {array.shape}, not (C, H, W) or (H, W)")
    return array
