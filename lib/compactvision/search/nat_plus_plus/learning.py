"""Policy gradient for cells: what a step adds to the loss, and the baseline that quietens it."""

from __future__ import annotations

import torch
from torch import Tensor

from compactvision import _checks as checks

from .softmax import entropy, log_probabilities


def log_likelihood(logits: Tensor, mask: Tensor, actions: Tensor) -> Tensor:
    """Return the log-probability of whole cells: the sum over their edges.

    Parameters
    ----------
    logits, mask : Tensor of shape (B, E, O)
        Of the policy, and which actions are allowed.
    actions : Tensor of whole numbers of shape (B, E)
        What was drawn.

    Returns
    -------
    Tensor of shape (B,)

    Raises
    ------
    ValueError
        For shapes that do not fit, or an action that is not allowed.
    """
    logs = log_probabilities(logits, mask)
    checks.tensors(actions=actions)
    if actions.dtype != torch.int64 or logits.dim() != 3 or actions.shape != logits.shape[:2]:
        raise ValueError(
            f"actions must be whole numbers of shape (B, E) beside logits (B, E, O), got {checks.shown(actions)}"
        )
    inside = ((actions >= 0) & (actions < logits.shape[-1])).all()
    if not inside or not mask.gather(-1, actions[..., None]).all():
        raise ValueError("actions must be allowed by the mask")
    return logs.gather(-1, actions[..., None]).squeeze(-1).sum(-1)


def policy_loss(
    logits: Tensor, mask: Tensor, actions: Tensor, advantages: Tensor, *, entropy_weight: float = 0.003
) -> Tensor:
    """Return the loss whose gradient is minus the policy gradient, a mean over cells.

    ``-(log pi(alpha | beta) (R - b) + lambda H)``, with the sums over edges in log pi and H. Where a normal and a
    reduction cell are transformed together, their losses add up.

    Parameters
    ----------
    logits, mask, actions
        As in :func:`log_likelihood`.
    advantages : Tensor of shape (B,)
        ``R - b``: reward less a baseline that does not depend on the action.
    entropy_weight : float, default 0.003
        ``lambda``, at least 0.

    Raises
    ------
    ValueError
        For shapes that do not fit, a weight below 0, or an advantage that is not finite.
    """
    checks.finite(entropy_weight=entropy_weight)
    if entropy_weight < 0:
        raise ValueError(f"entropy_weight must be at least 0, got {entropy_weight}")
    checks.floating(advantages=advantages)
    likely = log_likelihood(logits, mask, actions)
    if advantages.shape != likely.shape or not advantages.isfinite().all():
        raise ValueError(f"advantages must be {len(likely)} finite numbers, got {checks.shown(advantages)}")
    return -(likely * advantages.detach()).mean() - entropy_weight * entropy(logits, mask).sum(-1).mean()


class MovingBaseline:
    """The moving average of rewards, beginning with the first.

    Parameters
    ----------
    decay : float, default 0.99
        What stays of the old value, in [0, 1).

    Raises
    ------
    ValueError
        If ``decay`` is outside its range.

    Notes
    -----
    The published code feeds the average with rewards from which it was subtracted already; it then settles at *half*
    of the mean reward. This one is fed with the rewards.

    Examples
    --------
    >>> baseline = MovingBaseline(0.9)
    >>> [round(baseline.update(reward), 3) for reward in (1.0, 1.0, 0.0)]
    [1.0, 1.0, 0.9]
    """

    def __init__(self, decay: float = 0.99) -> None:
        checks.finite(decay=decay)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.value: float | None = None

    def update(self, reward: float) -> float:
        """Take in one reward, or the mean of several, and return the new value."""
        checks.finite(reward=reward)
        reward = float(reward)
        self.value = reward if self.value is None else self.decay * self.value + (1 - self.decay) * reward
        return self.value
