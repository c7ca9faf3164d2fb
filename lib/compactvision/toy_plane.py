"""A toy in the plane, small enough to see all of its decisions: points, a network that separates them, a picture.

:func:`points` makes the data, :func:`network` trains, :func:`regions` draws what networks say at each place of
:func:`grid`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.plots.style import figure

CLASSES = {"moons": 2, "circles": 2, "spiral": 4}
STEPS = {"moons": 300, "circles": 300, "spiral": 1000}
BATCH, LEARNING_RATE = 128, 2e-3
PIXELS, MARGIN = 61, 0.2  # of the picture


def points(name: str, n: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return points and their classes, each class equally often.

    "moons" (noise 0.1) and "circles" (noise 0.1, inner radius 0.3) are scikit-learn's; "spiral" has four arms: radius
    from 0 to 1, angle from ``4 j`` to ``4 j + 4`` along arm j, with noise of 0.2 on the angle.

    Parameters
    ----------
    name : {"moons", "circles", "spiral"}
        Which set.
    n : int
        Number of points, a multiple of the number of classes.
    seed : int
        Of the noise.

    Returns
    -------
    (Tensor, Tensor)
        Points (n, 2) float32, and classes (n,) int64.

    Raises
    ------
    ValueError
        If the name is unknown, ``n`` is not a positive multiple of the number of classes, or ``seed`` is out of range.
    """
    checks.one_of(CLASSES, name=name)
    checks.whole(n=n, seed=seed)
    if n < 1 or n % CLASSES[name]:
        raise ValueError(f"n must be a positive multiple of {CLASSES[name]} for {name!r}, got {n}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    if name == "spiral":
        xy, classes = _spiral(n, np.random.default_rng(seed))
    else:
        from sklearn import datasets

        xy, classes = (
            datasets.make_moons(n, noise=0.1, random_state=seed)
            if name == "moons"
            else datasets.make_circles(n, noise=0.1, factor=0.3, random_state=seed)
        )
    return torch.from_numpy(xy.astype(np.float32)), torch.from_numpy(classes.astype(np.int64))


def network(
    name: str, *, seed: int, n: int = 2000, width: int = 200, steps: int | None = None
) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Train a network with three hidden layers to separate a set of points.

    Parameters
    ----------
    name : {"moons", "circles", "spiral"}
        Set of :func:`points`.
    seed : int
        Of the points, the first weights and the order of the points.
    n : int, default 2000
        Number of points.
    width : int, default 200
        Units of each hidden layer, each followed by a ReLU.
    steps : int, optional
        Steps of Adam with 128 points; by default 300, and 1,000 for the spiral.

    Returns
    -------
    (Sequential, Tensor, Tensor)
        The network in evaluation mode on the CPU, its points (n, 2) and their classes (n,).

    Raises
    ------
    ValueError
        If the name is unknown, ``n`` does not fit it, or a count is below 1.
    """
    xy, targets = points(name, n, seed=seed)
    steps = STEPS[name] if steps is None else steps
    checks.counts(width=width, steps=steps)
    model = _layers(width, CLASSES[name], seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(1000 * seed + 2)
    for _ in range(steps):
        pick = torch.randint(n, (BATCH,), generator=generator)
        loss = F.cross_entropy(model(xy[pick]), targets[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), xy, targets


def grid(xy: Tensor) -> Tensor:
    """Return the places that :func:`regions` draws, around points (N, 2): (3721, 2), on their device.

    Raises
    ------
    ValueError
        If the points are no tensor of that shape, there is none, or one is not finite.
    """
    _check_points("xy", xy)
    low, high = _box(xy)
    ticks = torch.linspace(0, 1, PIXELS, device=xy.device)
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
        that it gives to the places of :func:`grid`, (3721,).
    marked : mapping of str to Tensor, optional
        By name of the set: points (M, 2) to mark.

    Raises
    ------
    ValueError
        If points or classes have other shapes, a network's classes do not belong to the places of the grid, rows have
        different numbers of networks, or ``marked`` names other sets.
    """
    _check_rows(rows, marked)
    columns = {len(networks) for _, _, networks in rows.values()}
    if len(columns) != 1:
        raise ValueError(f"rows must have the same number of networks, got {sorted(columns)}")
    fig, axes = figure(
        title, rows=len(rows), columns=columns.pop(), width=6.4, height=0.5 + 1.5 * len(rows), squeeze=False
    )
    for line, (name, (xy, targets, networks)) in zip(axes, rows.items(), strict=True):
        low, high = (bound.tolist() for bound in _box(xy))
        for axis, (text, classes) in zip(line, networks, strict=True):
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
            some = slice(None, None, max(1, len(xy) // 200))
            axis.scatter(
                *xy[some].T.cpu().numpy(),
                c=targets[some].cpu().numpy(),
                cmap="Dark2",
                vmin=0,
                vmax=7,
                s=3,
                linewidths=0,
            )
            if marked is not None and name in marked:
                axis.scatter(*marked[name].T.cpu().numpy(), c="black", marker="x", s=14, linewidths=1)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.set_title(text, fontsize=9, loc="center", fontweight="normal")
        line[0].set_ylabel(name, fontsize=9)
    return fig


def _spiral(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    arms = CLASSES["spiral"]
    classes = np.repeat(np.arange(arms), n // arms)  # (n,)
    radius = np.tile(np.linspace(0, 1, n // arms), arms)
    angle = 4 * (classes + radius) + 0.2 * generator.normal(size=n)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1), classes


def _layers(width: int, classes: int, seed: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for inputs in (2, width, width):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, classes))


def _check_points(name: str, xy: Tensor) -> None:
    checks.floating(**{name: xy})
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0 or not xy.isfinite().all():
        raise ValueError(f"{name} must be finite points (N, 2), N at least 1, got {checks.shown(xy)}")


def _check_rows(rows: Any, marked: Any) -> None:
    """Check the parts of a picture, each under its place."""
    if not isinstance(rows, Mapping) or not rows:
        raise ValueError(f"rows must map names of sets to (points, classes, networks), got {checks.shown(rows)}")
    for name, row in rows.items():
        if not isinstance(row, (tuple, list)) or len(row) != 3:
            raise ValueError(f"rows[{name!r}] must be (points, classes, networks), got {checks.shown(row)}")
        xy, targets, networks = row
        _check_points(f"rows[{name!r}]", xy)
        checks.tensors(**{f"rows[{name!r}]": targets})
        if targets.shape != (len(xy),):
            raise ValueError(f"rows[{name!r}] must have a class for each point, got {checks.shown(targets)}")
        listed = networks if isinstance(networks, (tuple, list)) else (None,)
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in listed):
            raise ValueError(f"rows[{name!r}] must have pairs (text, classes), got {checks.shown(networks)}")
        for text, classes in networks:
            checks.texts(**{f"rows[{name!r}]": text})
            checks.tensors(**{f"rows[{name!r}]": classes})
            if classes.shape != (PIXELS**2,):
                raise ValueError(f"rows[{name!r}] must give {PIXELS**2} classes a network, got {tuple(classes.shape)}")
    if marked is None:
        return
    if not isinstance(marked, Mapping) or not set(marked) <= set(rows):
        raise ValueError(f"marked must map names of rows, {list(rows)}, to points, got {checks.shown(marked)}")
    for name, xy in marked.items():
        _check_points(f"marked[{name!r}]", xy)


def _box(xy: Tensor) -> tuple[Tensor, Tensor]:
    return xy.amin(0) - MARGIN, xy.amax(0) + MARGIN
