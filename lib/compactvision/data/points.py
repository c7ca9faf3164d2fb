"""Points in the plane in two or four classes, on which a network's decision can be drawn whole."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CLASSES = {"moons": 2, "circles": 2, "spiral": 4}


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
    if name not in CLASSES:
        raise ValueError(f"name must be one of {', '.join(CLASSES)}, got {name!r}")
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


def _spiral(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    arms = CLASSES["spiral"]
    classes = np.repeat(np.arange(arms), n // arms)  # (n,)
    radius = np.tile(np.linspace(0, 1, n // arms), arms)
    angle = 4 * (classes + radius) + 0.2 * generator.normal(size=n)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1), classes
