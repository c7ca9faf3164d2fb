"""The short training after a cut, the same in every chapter that uses it, so that their numbers can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from .fit import fit
from .schedules import one_cycle


def tune(model: nn.Module, batches: Iterable, *, epochs: int = 1, rate: float = 0.05, seed: int = 0) -> nn.Module:
    """Train a network on, in place, with Nesterov's SGD over one cycle of learning rates, and return it.

    The cycle spans all passes, so a longer training is not the continuation of a shorter one. Momentum is 0.9, weight
    decay 0.0005.

    Parameters
    ----------
    model : Module
        Trained where it is, in channels-last order.
    batches : iterable of (inputs, targets)
        Read once an epoch.
    epochs : int, default 1
        Passes over `batches`, > 0.
    rate : float, default 0.05
        Peak of the cycle, > 0.
    seed : int, default 0
        As for :func:`compactvision.training.fit`.

    Raises
    ------
    ValueError
        If a number is out of its range, or there is no batch.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"rate must be finite and > 0, got {rate}")
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    fit(
        model,
        batches,
        epochs=epochs,
        optimizer=optimizer,
        schedule=one_cycle(),
        channels_last=True,
        seed=seed,
        progress=False,
    )
    return model
