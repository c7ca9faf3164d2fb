"""The search: scores of dimensions under an l1 penalty, taken by proximal steps behind those of the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import surgery
from compactvision.proximal import soft_threshold
from compactvision.training import State, group_of, no_decay


class DimensionSearch:
    """Callback of ``training.fit`` that pulls the scores of dimensions towards 0, Eq. (3).

    Behind each step of the optimiser every score moves by ``step size * penalty`` towards 0 and stops there: the
    proximal step of the penalty in Eq. (2). The step size is the learning rate of the score's parameter group at that
    moment; under Adam and AdamW it is divided by the root of the running mean square of the score's gradients, as the
    gradient's step is, so that both weigh the loss against the penalty alike.

    Parameters
    ----------
    penalty : float or mapping of str to float
        Weight of the l1 norm, finite and not negative; by kind of dimension where it is a mapping.

    Attributes
    ----------
    scores : dict of (str, str) to Parameter
        What is searched, by block and kind; empty before training.

    Raises
    ------
    ValueError
        If a penalty is out of its range; at the start of training: if the model has no scores, scores of a kind without
        a penalty, or scores that the optimiser does not train or decays.

    Examples
    --------
    >>> import torch
    >>> from compactvision import surgery, training
    >>> from compactvision.pruning import sidt
    >>> model = sidt.tasks.build("naming")
    >>> scored = surgery.insert_scores(model)
    >>> groups = training.parameter_groups(scored, sidt.score_rule(0.02))
    >>> search = sidt.DimensionSearch(3e-4)
    >>> _ = training.fit(
    ...     scored,
    ...     [(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]))],
    ...     epochs=1,
    ...     optimizer=torch.optim.AdamW(groups, lr=1e-3),
    ...     callbacks=[search],
    ...     progress=False,
    ... )
    >>> search.norm() < 1728  # each of the 1,728 scores was 1
    True
    """

    def __init__(self, penalty: float | Mapping[str, float]) -> None:
        each = dict(penalty) if isinstance(penalty, Mapping) else {"": penalty}
        for kind, value in each.items():
            name = f"penalty[{kind!r}]" if kind else "penalty"
            checks.finite(**{name: value})
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        self.penalty = each if isinstance(penalty, Mapping) else float(penalty)
        self.scores: dict[tuple[str, str], nn.Parameter] = {}

    def on_start(self, state: State) -> None:
        """Find the scores, and refuse an optimiser that would not search."""
        checks.instances(State, state=state)
        nested = surgery.block_scores(state.model)
        self.scores = {(block, kind): score for block, kinds in nested.items() for kind, score in kinds.items()}
        if not self.scores:
            raise ValueError("model: it has no scores to search; surgery.insert_scores gives them")
        for (block, kind), score in self.scores.items():
            group = group_of(state.optimizer, score)
            if group is None:
                raise ValueError(f"optimizer: the scores {kind!r} of {block!r} are in none of its groups")
            if group.get("weight_decay", 0):
                raise ValueError(
                    f"optimizer: the scores {kind!r} of {block!r} have a weight decay of {group['weight_decay']}, "
                    "which would shrink them, too; score_rule gives them none"
                )
            self._penalty(kind)

    def on_step(self, state: State) -> None:
        """Take one proximal step with the learning rate of this moment."""
        checks.instances(State, state=state)
        with torch.no_grad():
            for (_, kind), score in self.scores.items():
                size = step_size(state.optimizer, score) * self._penalty(kind)
                positive = torch.where(size > 0, size, 1.0)  # the map of x with weight s is s times that of x / s
                score.copy_(torch.where(size > 0, positive * soft_threshold(score / positive, 1.0), score))

    def norm(self) -> float:
        """Return the sum of all absolute scores.

        Raises
        ------
        ValueError
            If training has not started.
        """
        return float(sum(score.detach().abs().sum() for score in self._started().values()))

    def zeros(self) -> int:
        """Return how many scores are exactly 0.

        Raises
        ------
        ValueError
            If training has not started.
        """
        return sum(int((score == 0).sum()) for score in self._started().values())

    def _started(self) -> dict[tuple[str, str], nn.Parameter]:
        if not self.scores:
            raise ValueError("search: training has not started, so there are no scores yet")
        return self.scores

    def _penalty(self, kind: str) -> float:
        if not isinstance(self.penalty, dict):
            return self.penalty
        if kind not in self.penalty:
            raise ValueError(f"penalty has none for the kind {kind!r}, only for {sorted(self.penalty)}")
        return self.penalty[kind]


def step_size(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Tensor:
    """Return by how much an optimiser scaled the gradient of each entry at its last step, of the parameter's shape.

    The learning rate for SGD; for Adam and AdamW that over ``sqrt(v / (1 - beta_2^t)) + eps``.
    """
    group, state = group_of(optimizer, parameter), optimizer.state.get(parameter, {})
    rate = parameter.detach().new_tensor(float(group["lr"])).expand_as(parameter)
    if "exp_avg_sq" not in state:
        return rate
    mean_square = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return rate / (mean_square.sqrt() + group["eps"])


def score_rule(learning_rate: float) -> Callable[[str, Tensor], dict[str, float]]:
    """Return a rule for ``training.parameter_groups``: scores learn at a rate of their own and do not decay.

    All other parameters follow :func:`~compactvision.training.no_decay`.

    Parameters
    ----------
    learning_rate : float
        Of the scores, positive.

    Raises
    ------
    ValueError
        If it is no positive number.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning import sidt
    >>> rule = sidt.score_rule(0.02)
    >>> rule("features.1.0.attn.scores.qk", torch.ones(3, 16))
    {'lr': 0.02, 'weight_decay': 0.0}
    >>> rule("features.1.0.attn.qkv.weight", torch.ones(48, 48))
    {}
    """
    checks.finite(learning_rate=learning_rate)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}")

    def rule(name: str, parameter: Tensor) -> dict[str, float]:
        if "scores" in name.split("."):
            return {"lr": learning_rate, "weight_decay": 0.0}
        return no_decay(name, parameter)

    return rule
