"""Slow and plain: proximal maps by looking at every candidate on a fine grid."""

import numpy as np

PENALTIES = {
    "l1": lambda u, a: np.abs(u),
    "l0": lambda u, a: (u != 0).astype(float),
    "transformed_l1": lambda u, a: (a + 1) * np.abs(u) / (a + np.abs(u)),
}


def objective(u, x, kappa, penalty, a=1.0):
    """What a proximal map minimises."""
    return (u - x) ** 2 / 2 + kappa * PENALTIES[penalty](np.asarray(u, dtype=float), a)


def proximal(x, kappa, penalty, a=1.0, points=200_001):
    """The best of many candidates between 0 and x, zero and x among them."""
    candidates = np.linspace(0, x, points)
    return candidates[np.argmin(objective(candidates, x, kappa, penalty, a))]
