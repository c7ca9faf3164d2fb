"""Training a policy on rewards that are there for the asking: one network, cells of one topology, many at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks

from .learning import MovingBaseline, policy_loss
from .policy import Places
from .softmax import entropy, sample

Reward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a policy is trained.

    Attributes
    ----------
    steps, batch : int
        Steps of Adam, and cells that are drawn in each.
    draws : int
        Cells that are drawn for each source. With one, the baseline is a moving average of rewards; with more, it is
        the mean reward of the source's *other* draws.
    learning_rate : float
        At the first step; it falls to 0 along half a cosine.
    entropy_weight : float
        At the first step; it falls to ``final_entropy_weight`` along a line.
    final_entropy_weight : float
    scaled : bool
        Whether advantages are divided by the standard deviation of the batch.
    decay : float
        Of the baseline.
    """

    steps: int = 1200
    batch: int = 512
    draws: int = 8
    learning_rate: float = 5e-3
    entropy_weight: float = 1.0
    final_entropy_weight: float = 0.0
    scaled: bool = True
    decay: float = 0.9

    def __post_init__(self) -> None:
        checks.counts(steps=self.steps, batch=self.batch, draws=self.draws)
        if self.batch % self.draws:
            raise ValueError(f"batch must be a multiple of draws, got {self.batch} and {self.draws}")
        weights = {"entropy_weight": self.entropy_weight, "final_entropy_weight": self.final_entropy_weight}
        checks.finite(learning_rate=self.learning_rate, decay=self.decay, **weights)
        checks.flags(scaled=self.scaled)
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"{name} must be at least 0, got {weight}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")


@dataclass(frozen=True)
class Path:
    """Mean reward and mean entropy of an edge at each step, and the cells that were valued."""

    rewards: list[float]
    entropies: list[float]
    evaluations: int


def train(
    policy: nn.Module,
    reward: Reward,
    masks: Callable[[Tensor], Tensor],
    sources: Callable[[int], Tensor],
    places: Places,
    recipe: Recipe | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Path:
    """Train a policy by its gradient; it is changed in place.

    Parameters
    ----------
    policy : nn.Module
        From cells (B, E) and places to logits (B, E, O), such as :class:`~.policy.GraphPolicy`.
    reward : function
        From cells (B, E) to their values (B,).
    masks : function
        From cells to what they may become, (B, E, O).
    sources : function
        From a number to that many cells that are to be transformed.
    places : sequence of (source, target)
    recipe : training.Recipe, optional
    generator : torch.Generator, optional
        Draws the actions.

    Notes
    -----
    ``R(alpha) - R(beta)`` less a baseline, times the gradient of ``log pi(alpha | beta)``: a mean over sources and over
    several draws of each, as in the paper's formula (the published code has one draw of one source). Adam with the
    betas of the published code, without weight decay.
    """
    checks.networks(policy=policy)
    checks.functions(1, reward=reward, masks=masks, sources=sources)
    recipe = Recipe() if recipe is None else recipe
    checks.instances(Recipe, recipe=recipe)
    if not any(parameter.requires_grad for parameter in policy.parameters()):
        raise ValueError("policy must have parameters to train, got none")
    optimizer = torch.optim.Adam(policy.parameters(), lr=recipe.learning_rate, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    baseline = MovingBaseline(recipe.decay)
    rewards, entropies = [], []
    for step in range(recipe.steps):
        given = sources(recipe.batch // recipe.draws)
        each = policy(given, places)
        logits, cells = (rows.repeat_interleave(recipe.draws, 0) for rows in (each, given))
        allowed = masks(cells)
        actions = sample(logits, allowed, generator)
        gained = reward(actions) - reward(cells)
        advantages = gained - (baseline.value or 0.0) if recipe.draws == 1 else _beside_others(gained, recipe.draws)
        scale = float(advantages.std()) + 1e-6 if recipe.scaled and len(gained) > 1 else 1.0
        weight = recipe.entropy_weight + (recipe.final_entropy_weight - recipe.entropy_weight) * step / recipe.steps
        loss = policy_loss(logits, allowed, actions, advantages / scale, entropy_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        baseline.update(float(gained.mean()))
        rewards.append(float(gained.mean()))
        entropies.append(float(entropy(each.detach(), masks(given)).mean()))
    return Path(rewards, entropies, recipe.steps * (recipe.batch + recipe.batch // recipe.draws))


def _beside_others(gained: Tensor, draws: int) -> Tensor:
    """Return each reward less the mean of the other draws of its source, which come one behind the other."""
    rows = gained.view(-1, draws)
    return (rows - (rows.sum(1, keepdim=True) - rows) / (draws - 1)).flatten()


class BlindPolicy(nn.Module):
    """Logits that do not depend on the cell: a control that shows what looking at the graph is worth.

    Parameters
    ----------
    edges, operations : int
        Shape of the logits.

    Examples
    --------
    >>> import torch
    >>> BlindPolicy(4, 13)(torch.zeros(2, 4, dtype=torch.int64), None).shape
    torch.Size([2, 4, 13])
    """

    def __init__(self, edges: int, operations: int) -> None:
        super().__init__()
        checks.counts(edges=edges, operations=operations)
        self.logits = nn.Parameter(torch.zeros(edges, operations))

    def forward(self, cells: Tensor, places: Places) -> Tensor:
        """Return the same logits for each of B cells; their operations and the places are not looked at."""
        checks.tensors(cells=cells)
        return self.logits.expand(len(cells), -1, -1)
