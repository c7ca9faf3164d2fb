"""Networks that separate points in the plane: small enough to see all of their decisions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision.data import points as plane_points

BATCH, RATE = 128, 2e-3
STEPS = {"moons": 300, "circles": 300, "spiral": 1000}


def plane_network(
    name: str, *, seed: int, n: int = 2000, width: int = 200, steps: int | None = None
) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Train a network with three hidden layers to separate a set of points.

    Parameters
    ----------
    name : {"moons", "circles", "spiral"}
        Set of :func:`compactvision.data.points.points`.
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
    xy, targets = plane_points.points(name, n, seed=seed)
    steps = STEPS[name] if steps is None else steps
    for label, value in (("width", width), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{label} must be at least 1, got {value}")
    network = _layers(width, plane_points.CLASSES[name], seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(1000 * seed + 2)
    for _ in range(steps):
        pick = torch.randint(n, (BATCH,), generator=generator)
        loss = F.cross_entropy(network(xy[pick]), targets[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval(), xy, targets


def _layers(width: int, classes: int, seed: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for inputs in (2, width, width):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, classes))
