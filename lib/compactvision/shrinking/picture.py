"""The report as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compactvision import plots
from compactvision.shrinking.words import cells

if TYPE_CHECKING:
    from compactvision.shrinking.report import Report, Row

KINDS = (
    ("whole", ("whole", "whole_tuned")),
    ("cut", ("cut", "reconstructed", "renewed", "tuned")),
    ("random channels", ("random", "random_tuned")),
    ("lower resolution", ("resolution", "resolution_tuned")),
    ("bf16", ("bf16",)),
)


def draw(report: Report) -> Any:
    """Return a figure with one point for each measured network; the last stage of each kind is filled."""
    by_time = any(row.ms is not None for row in report.measured())
    figure, axis = plots.figure("What did the cut cost?", height=3.6)
    for (label, stages), colour, marker in zip(KINDS, plots.PALETTE, plots.MARKERS, strict=False):
        rows = [row for row in report.measured(stages) if _place(row, by_time) is not None]
        if not rows:
            continue
        x = [_place(row, by_time) for row in rows]
        y = [_height(report, row) for row in rows]
        axis.plot(x, y, color=colour, linewidth=0.8, linestyle=":")
        axis.scatter(x[:-1], y[:-1], s=28, marker=marker, facecolors="none", edgecolors=colour)
        axis.scatter(x[-1:], y[-1:], s=44, marker=marker, color=colour, label=label)
    axis.set_xlabel("milliseconds of one picture" if by_time else "MACs of one picture (millions)")
    axis.set_ylabel("accuracy (%)" if report.metric == "accuracy" else report.metric)
    axis.set_xlim(left=0)
    axis.legend(loc="best")
    return figure


def _place(row: Row, by_time: bool) -> float | None:
    if by_time:
        return None if row.ms is None else row.ms[0]
    return None if row.macs is None else row.macs / 1e6


def _height(report: Report, row: Row) -> float:
    assert row.metric is not None
    return 100 * row.metric if report.metric == "accuracy" else row.metric


def alternative(report: Report) -> str:
    """Return the picture in words."""
    return "; ".join(f"{row.title}: {cells(report, row)[1]}" for row in report.measured())
