"""What chapters share: generators of a seed, values over seeds and their pictures, real data, the running picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean, stdev
from typing import Any

import seaborn
import torch
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from torch import nn

from compactvision import _checks as checks
from compactvision import data, measure
from compactvision.experiment import Run
from compactvision.measure.state import inputs_from
from compactvision.records import Record

SEEDS_RANGE = ("pi", 100)  # seaborn's error bar from the least to the greatest seed


def generator(run: Run, stream: int = 0) -> torch.Generator:
    """Return the random numbers of the run's seed, the same wherever they are drawn; another stream, other numbers."""
    _refuse_others(run)
    checks.whole(stream=stream)
    if stream < 0:
        raise ValueError(f"stream must be at least 0, got {stream}")
    return torch.Generator().manual_seed(1000 * run.seed + stream)


def percent(run: Run, name: str, profile: str | None = None, *, scale: float = 100) -> list[float]:
    """Return a value of each recorded seed in per cent; of this run where the record lacks it.

    Parameters
    ----------
    run : Run
    name : str
        A logged number.
    profile : str, optional
        The run's by default. The record of another profile has to hold the value.
    scale : float, default 100
        What values are multiplied by.

    Raises
    ------
    ValueError
        If neither record nor run has the value.
    """
    _refuse_others(run)
    checks.texts(name=name)
    checks.finite(scale=scale)
    record = run.record(profile)
    if record is not None and name in record.names:
        return _scaled(record.values(name), scale)
    if profile not in (None, run.profile) or name not in run.values:
        raise ValueError(f"name: neither the {profile or run.profile} record of {run.slug} nor this run has {name!r}")
    return _scaled([run.values[name]], scale)


def _scaled(values: Iterable[Any], scale: float) -> list[Any]:
    values = list(values)
    if scale == 1:  # lists of numbers too
        return values
    checks.numbers(**{f"the value of seed {seed}": value for seed, value in enumerate(values)})
    scaled = [scale * value for value in values]
    if not all(map(math.isfinite, scaled)):
        raise ValueError(f"scale {scale} makes the values more than a float can hold")
    return scaled


def mean_sd(source: Run | Record | None, name: str, digits: int = 1, *, scale: float = 100) -> str:
    """Return mean and standard deviation over seeds as text, "84.7 ± 0.2"; "–" where the value is unknown.

    Parameters
    ----------
    source : Run, Record or None
        A run stands for its record, and for itself where the record lacks the value. The mean alone is told for one
        seed.
    name : str
        A logged number.
    digits : int, default 1
        Behind the point.
    scale : float, default 100
        What values are multiplied by.
    """
    checks.texts(name=name)
    checks.whole(digits=digits)
    checks.finite(scale=scale)
    if digits < 0:
        raise ValueError(f"digits must be at least 0, got {digits}")
    if source is not None and not isinstance(source, Record):
        _refuse_others(source, "source")
    if isinstance(source, Record):
        values = _scaled(source.values(name), scale) if name in source.names else []
    else:
        values = [] if source is None or not _known(source, name) else percent(source, name, scale=scale)
    if not values:
        return "–"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def _refuse_others(run: object, name: str = "run") -> None:
    if not isinstance(run, Run):
        raise ValueError(f"{name} must be a run, as experiment.start makes it, got {checks.shown(run)}")


def _known(run: Run, name: str) -> bool:
    record = run.record()
    return name in run.values or (record is not None and name in record.names)


def cifar10(run: Run, name: str = "cifar10") -> tuple[data.ImageSet, data.ImageSet]:
    """Return training and test images of CIFAR-10 (or another set by name), noted in the run."""
    _refuse_others(run)
    parts = tuple(data.load(name, train=train) for train in (True, False))
    for part in parts:
        run.data(part)
    return parts


def log_picture(
    run: Run,
    networks: Mapping[str, nn.Module],
    baseline: nn.Module,
    images: Any,
    example_inputs: measure.ExampleInputs,
) -> None:
    """Log points of the part's running picture: ``picture.<point>.macs``, ``.time`` and ``.accuracy``.

    Parameters
    ----------
    run : Run
    networks : mapping of str to nn.Module
        The points; the baseline may be one of them.
    baseline : nn.Module
        The network whose MACs and milliseconds are 1.
    images : ImageSet or iterable of (Tensor, Tensor)
        What accuracy is measured on.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        One image, or its shape, for MACs and milliseconds.
    """
    reference = next((point for point, network in networks.items() if network is baseline), "baseline")
    one = inputs_from(baseline, example_inputs)[0][:1]
    times = measure.latency_ratio({reference: baseline, **networks}, one, reference=reference)
    whole = measure.macs(baseline, example_inputs)
    for point, network in networks.items():
        run.log(f"picture.{point}.macs", measure.macs(network, example_inputs) / whole)
        run.log(f"picture.{point}.time", times.ratios[point].median)
        run.log(f"picture.{point}.accuracy", measure.accuracy(network, images))


def seed_bars(
    axis: Axes,
    values: Mapping[str, Sequence[float]],
    *,
    colors: Sequence[str] | str | None = None,
    digits: int | None = 0,
) -> None:
    """Draw a row for each label: a bar to the mean over seeds, each seed as a dot, and a line over their range.

    Parameters
    ----------
    axis : Axes
        Rows run from the top; values along x.
    values : mapping of str to sequence of float
        For each label the value of each seed.
    colors : str or sequence of str, optional
        Of all bars, or one for each.
    digits : int or None, default 0
        Digits of the mean written behind its row; None for no text.

    Raises
    ------
    ValueError
        If ``axis`` is none of matplotlib's, a label has no number, a value is not finite, there are not as many colours
        as labels, or ``digits`` is no whole number of at least 0.
    """
    checks.instances(Axes, axis=axis)
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"values must map labels to the values of seeds, got {checks.shown(values)}")
    for label, seeds in values.items():
        _refuse_row(f"values[{label!r}]", seeds)
    if digits is not None:
        checks.whole(digits=digits)
        if digits < 0:
            raise ValueError(f"digits must be at least 0, got {digits}")
    _refuse_colors(colors, len(values))
    labels = [label for label, row in values.items() for _ in row]
    points = [float(value) for row in values.values() for value in row]
    one = not isinstance(colors, str) and colors is not None
    with _labels_kept(axis):
        style = {"palette": list(colors), "hue": labels, "legend": False} if one else {"color": colors}
        seaborn.barplot(x=points, y=labels, ax=axis, errorbar=None, saturation=1, width=0.7, **style)
        ink = axis.xaxis.label.get_color()
        seaborn.pointplot(
            x=points,
            y=labels,
            ax=axis,
            errorbar=SEEDS_RANGE,
            linestyle="none",
            marker="",
            color=ink,
            err_kws={"linewidth": 1.2},
        )
        seaborn.stripplot(x=points, y=labels, ax=axis, jitter=False, color=ink, size=4)
    for row, seeds in enumerate(values.values()):
        if digits is not None:
            axis.annotate(
                f"{fmean(seeds):.{digits}f}",
                (max(seeds), row),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
    axis.grid(False, axis="y")


def seed_lines(axis: Axes, x: Sequence[float], values: Sequence[Sequence[float]], **style: Any) -> None:
    """Draw the mean over seeds as a line, and the range of the seeds as a band around it.

    Parameters
    ----------
    axis : Axes
    x : sequence of float
        One place for each entry of ``values``.
    values : sequence of sequence of float
        For each place the value of each seed.
    style
        As for ``seaborn.lineplot``: ``color``, ``label``, ``linestyle``, ``marker``.

    Raises
    ------
    ValueError
        If ``axis`` is none of matplotlib's, ``x`` and ``values`` differ in length, or an entry is no finite number.
    """
    checks.instances(Axes, axis=axis)
    for name, row in (("x", x), ("values", values)):
        if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__len__") or len(row) == 0:
            raise ValueError(f"{name} must be a sequence that is not empty, got {checks.shown(row)}")
    _refuse_row("x", x)
    for place, seeds in enumerate(values):
        _refuse_row(f"values[{place}]", seeds)
    if len(x) != len(values):
        raise ValueError(f"values must hold one row for each of the {len(x)} places x, got {len(values)}")
    places = [place for place, seeds in zip(x, values, strict=True) for _ in seeds]
    points = [float(value) for seeds in values for value in seeds]
    with _labels_kept(axis):
        seaborn.lineplot(x=places, y=points, ax=axis, errorbar=SEEDS_RANGE, err_kws={"linewidth": 0}, **style)


def _refuse_row(name: str, seeds: object) -> None:
    if isinstance(seeds, (str, bytes, Mapping)) or not hasattr(seeds, "__len__") or len(seeds) == 0:
        raise ValueError(f"{name} must be a sequence of numbers that is not empty, got {checks.shown(seeds)}")
    for value in seeds:
        checks.finite(**{name: value})


def _refuse_colors(colors: object, rows: int) -> None:
    if colors is None or (isinstance(colors, str) and is_color_like(colors)):
        return
    listed = isinstance(colors, (list, tuple)) and all(map(is_color_like, colors))
    if not listed or len(colors) != rows:
        raise ValueError(f"colors must be a colour, or one for each of the {rows} labels, got {checks.shown(colors)}")


@contextmanager
def _labels_kept(axis: Axes) -> Iterator[None]:
    """Put the axes' labels back: seaborn names them after the columns that it draws."""
    labels = axis.get_xlabel(), axis.get_ylabel()
    yield
    axis.set(xlabel=labels[0], ylabel=labels[1])
