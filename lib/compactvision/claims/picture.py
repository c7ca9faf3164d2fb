"""The running picture: one network cut by every method, accuracy against what is left to compute.

A chapter's full run adds a point by three values, ``picture.<point>.macs`` and ``.time`` (what is left of the dense
network's, in (0, 1]) and ``.accuracy``; the point ``whole`` is the dense network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from compactvision import records
from compactvision.claims.schema import load, slugs
from compactvision.plots.display import markdown_table

PREFIX, WHOLE = "picture.", "whole"
AXES = {"macs": "MACs left, %", "time": "time left, %"}
EMPTY = "No full record holds a point of the running picture yet."


@dataclass(frozen=True)
class Point:
    """Mean and standard deviation over the seeds of one network, as fractions."""

    title: str
    name: str
    macs: float
    time: float
    accuracy: float
    sd: float
    device: str


def points() -> list[Point]:
    """Return the points of all full records, in the order of the chapters; the dense network once."""
    found: list[Point] = []
    for slug in slugs():
        record = records.load(slug, "full")
        for point in _names(record.names if record else ()):
            if point == WHOLE and any(known.name == WHOLE for known in found):
                continue
            name = PREFIX + point
            _refuse_unfinished(record, name)
            found.append(
                Point(
                    title=load(slug).title,
                    name=point,
                    macs=record.mean(f"{name}.macs"),
                    time=record.mean(f"{name}.time"),
                    accuracy=record.mean(f"{name}.accuracy"),
                    sd=record.sd(f"{name}.accuracy"),
                    device=f"{record.device.kind}: {record.device.name}",
                )
            )
    return found


def _refuse_unfinished(record: records.Record, name: str) -> None:
    """Raise ``ValueError`` for a point without one number a seed for each of its coordinates."""
    for part in ("macs", "time", "accuracy"):
        if f"{name}.{part}" not in record.names or isinstance(record.values(f"{name}.{part}")[0], list):
            raise ValueError(f"record {record.slug}/{record.profile}: the point {name!r} has no number {part!r}")


def picture_page() -> str:
    """Return the picture and its table in MyST Markdown."""
    found = points()
    if not found:
        return EMPTY + "\n"
    rows = [
        [
            point.name.replace("_", " "),
            point.title.partition(":")[0],
            f"{100 * point.macs:.0f} %",
            f"{100 * point.time:.0f} %",
            f"{100 * point.accuracy:.1f} ± {100 * point.sd:.1f} %",
            point.device,
        ]
        for point in found
    ]
    columns = ("Network", "Chapter", "MACs left", "Time left", "Accuracy", "Timed on")
    drawn = f'<figure class="cv-figure">{_drawn(tuple(found))}</figure>'
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", drawn)), default=0))
    return f"{fence}{{raw}} html\n{drawn}\n{fence}\n\n{markdown_table(rows, columns)}\n"


def _names(names: tuple[str, ...]) -> list[str]:
    inner = [name.removeprefix(PREFIX).rpartition(".")[0] for name in names if name.startswith(PREFIX)]
    return list(dict.fromkeys(inner))


@cache  # ids in a drawing count up, and the page must not change between two calls
def _drawn(found: tuple[Point, ...]) -> str:
    import matplotlib.pyplot as plt

    from compactvision import plots
    from compactvision.plots.svg import to_svg

    with plt.rc_context():
        plots.use()
        fig, axes = plots.figure(
            "What does a smaller network cost in accuracy?", columns=2, width=6.4, height=3.2, sharey=True
        )
        titles = list(dict.fromkeys(point.title for point in found if point.name != WHOLE))
        for axis, (share, label) in zip(axes, AXES.items(), strict=True):
            for point in found:
                whole = point.name == WHOLE
                number = 0 if whole else titles.index(point.title)
                axis.errorbar(
                    100 * getattr(point, share),
                    100 * point.accuracy,
                    yerr=100 * point.sd,
                    fmt="*" if whole else plots.MARKERS[number],
                    markersize=11 if whole else 7,
                    color=plots.INK if whole else plots.PALETTE[number],
                    capsize=3,
                    label=point.name.partition("_")[0].replace("$", r"\$"),  # no mathematics
                )
            axis.set(xlabel=label, xlim=(0, 112))
        handles, names = axes[0].get_legend_handles_labels()
        once = dict(zip(names, handles, strict=True))  # a chapter has several points
        axes[0].legend(once.values(), once.keys(), loc="lower left", fontsize=9)
        axes[0].set_ylabel("accuracy, %")
        axes[0].margins(y=0.3)
        said = "; ".join(f"{p.name.replace('_', ' ')} {p.macs:.0%} of the MACs, {p.accuracy:.1%}" for p in found)
        text = to_svg(fig, f"Accuracy on CIFAR-10 against the MACs and the time that are left. {said}.")
        plt.close(fig)
    return text
