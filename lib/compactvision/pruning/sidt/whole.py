"""How the chapter's whole networks are trained; ``python -m compactvision.whole_networks`` does it, and stores them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from compactvision import training
from compactvision.pruning.sidt.tasks import TASKS

SEED = 1000  # of the pictures: no record uses it


@dataclass(frozen=True)
class Recipe:
    """AdamW with decay 0.05 under a one-cycle schedule."""

    pictures: int
    epochs: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0


RECIPES = {"naming": Recipe(8000, 15), "boxes": Recipe(2400, 12)}


def fit(model: nn.Module, name: str, recipe: Recipe, **options: object) -> training.History:
    """Train a network for a task by a recipe, where it is."""
    task = TASKS[name]
    optimizer = torch.optim.AdamW(
        training.parameter_groups(model), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    device = next(model.parameters()).device
    return training.fit(
        model,
        task.batches(task.load(True, SEED + recipe.seed, recipe.pictures), recipe.seed, device),
        epochs=recipe.epochs,
        optimizer=optimizer,
        loss=task.loss,
        schedule=training.schedules.one_cycle(),
        seed=recipe.seed,
        **options,
    )
