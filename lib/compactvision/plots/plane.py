"""Decisions in the plane: which class a network gives to every place, beside other networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compactvision.plots.style import figure

PIXELS = 61
MARGIN = 0.2


def plane_grid(points: Tensor) -> Tensor:
    """Return the places that :func:`regions` draws, around points (N, 2): (3721, 2), on their device."""
    low, high = _box(points)
    ticks = torch.linspace(0, 1, PIXELS, device=points.device)
    return low + torch.cartesian_prod(ticks, ticks) * (high - low)


def regions(
    title: str,
    rows: Mapping[str, tuple[Tensor, Tensor, Sequence[tuple[str, Tensor]]]],
    *,
    marked: Mapping[str, Tensor] | None = None,
) -> Any:
    """Return a figure with a row for each set of points and a column for each network.

    Parameters
    ----------
    title : str
        The question that the figure answers.
    rows : mapping of str to (Tensor, Tensor, sequence of (str, Tensor))
        By name of the set: points (N, 2), their classes (N,), and for each network the text above it and the classes
        that it gives to the places of :func:`plane_grid`, (3721,).
    marked : mapping of str to Tensor, optional
        By name of the set: points (M, 2) to mark.

    Raises
    ------
    ValueError
        If a network's classes do not belong to the places of the grid, or rows have different numbers of networks.
    """
    columns = {len(networks) for _, _, networks in rows.values()}
    if len(columns) != 1:
        raise ValueError(f"rows must have the same number of networks, got {sorted(columns)}")
    fig, axes = figure(
        title, rows=len(rows), columns=columns.pop(), width=6.4, height=0.5 + 1.5 * len(rows), squeeze=False
    )
    for line, (name, (points, targets, networks)) in zip(axes, rows.items(), strict=True):
        low, high = (bound.tolist() for bound in _box(points))
        for axis, (text, classes) in zip(line, networks, strict=True):
            if classes.shape != (PIXELS**2,):
                raise ValueError(f"rows[{name!r}] must give {PIXELS**2} classes a network, got {tuple(classes.shape)}")
            axis.imshow(
                classes.view(PIXELS, PIXELS).T.cpu().numpy(),
                origin="lower",
                extent=(low[0], high[0], low[1], high[1]),
                cmap="Set2",
                vmin=0,
                vmax=7,
                aspect="auto",
                interpolation="nearest",
            )
            some = slice(None, None, max(1, len(points) // 200))
            axis.scatter(
                *points[some].T.cpu().numpy(),
                c=targets[some].cpu().numpy(),
                cmap="Dark2",
                vmin=0,
                vmax=7,
                s=3,
                linewidths=0,
            )
            if marked is not None:
                axis.scatter(*marked[name].T.cpu().numpy(), c="black", marker="x", s=14, linewidths=1)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.set_title(text, fontsize=9, loc="center", fontweight="normal")
        line[0].set_ylabel(name, fontsize=9)
    return fig


def _box(points: Tensor) -> tuple[Tensor, Tensor]:
    return points.amin(0) - MARGIN, points.amax(0) + MARGIN
