"""A softmax over allowed actions only, and what a policy needs of it: samples, log-probabilities, entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from compactvision import _checks as checks


def binary_masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Return probabilities of allowed actions; the others have exactly 0, and no gradient.

    ``p_i = m_i exp(z_i) / sum_j m_j exp(z_j)``: the softmax of the entries that the mask lets through. Implements
    BMSoftmax of :cite:`guo2021natpp`; the published code adds 0.00001 to each probability afterwards, we do not.

    Parameters
    ----------
    logits : Tensor of shape (..., O)
        ``z``. Those of masked actions may be anything, also infinite.
    mask : Tensor of booleans of the same shape
        ``m``, at least one True in each row.

    Raises
    ------
    ValueError
        For shapes or types that do not fit, a row without an allowed action, or an allowed logit that is not finite.

    Examples
    --------
    >>> import torch
    >>> z, m = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0]), torch.tensor([1, 1, 0, 0, 1]).bool()
    >>> [round(p, 4) for p in binary_masked_softmax(z, m).tolist()]
    [0.7054, 0.0351, 0.0, 0.0, 0.2595]
    """
    return log_probabilities(logits, mask).exp()


def log_probabilities(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the logarithms of :func:`binary_masked_softmax`: minus infinity for what is masked."""
    _refuse(logits, mask)
    return torch.log_softmax(torch.where(mask, logits, -torch.inf), dim=-1)


def entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the entropy of each row in nats, with 0 log 0 = 0.

    Examples
    --------
    >>> import torch
    >>> entropy(torch.zeros(2, 4), torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0]]).bool())
    tensor([1.3863, 0.0000])
    """
    logs = log_probabilities(logits, mask)
    return 0.0 - (logs.exp() * logs.masked_fill(~mask, 0.0)).sum(-1)


def sample(logits: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one action for each row, (...)."""
    checks.generators(generator=generator)
    rows = binary_masked_softmax(logits, mask).detach()
    drawn = torch.multinomial(rows.flatten(0, -2), 1, generator=generator)
    return drawn.view(rows.shape[:-1])


def _refuse(logits: Tensor, mask: Tensor) -> None:
    checks.floating(logits=logits)
    checks.tensors(mask=mask)
    if mask.dtype != torch.bool or mask.shape != logits.shape or logits.dim() == 0:
        raise ValueError(f"mask must be booleans of shape {tuple(logits.shape)}, got {checks.shown(mask)}")
    if not mask.any(-1).all():
        raise ValueError("mask must allow one action in each row, got a row of False")
    if not (logits.isfinite() | ~mask).all():
        raise ValueError("logits must be finite where the mask is True")
