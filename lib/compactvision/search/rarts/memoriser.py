"""The memoriser test: one of five operations can learn the training signals by heart, and a search should not take it.

Targets are a filter of three taps of a signal, plus noise. The operations of the one edge are *skip*, convolutions of
1, 3 and 9 taps, and *dense*, any linear map. Dense can fit the noise of few signals; the filter is all that carries
over to new ones. Which one a method chooses depends on whether the weights may see the data that judge them. As in a
super-network, each operation's output is normalised: else weights could make up for any share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compactvision import _checks as checks

from .arguments import refuse_negative, refuse_no_sequence, refuse_not_positive
from .block import Block, Tensors, refuse_resonance
from .steps import Loss, darts_, mixed_level_, rarts_, single_level_

OPERATIONS = ("skip", "conv1", "conv3", "conv9", "dense")
TAPS = (0.7, 0.0, -0.7)  # of the filter that makes the targets; without a middle, so that skip and conv1 are no use
MOMENTUM, EPSILON = 0.9, 1e-8
METHODS = ("rarts", "darts_first", "darts_second", "single_level", "mixed_level")


@dataclass(frozen=True)
class Signals:
    """Inputs and targets (N, length) of the two halves, and of new signals without noise."""

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    new: tuple[Tensor, Tensor]


def signals(
    generator: torch.Generator | None = None, *, count: int = 24, length: int = 32, noise: float = 0.5
) -> Signals:
    """Draw signals: normal numbers, their targets by the filter, noise on those of both halves.

    Parameters
    ----------
    generator : torch.Generator, optional
    count : int, default 24
        Signals of each half; the new ones are 200.
    length : int, default 32
        Numbers of a signal, at least 9.
    noise : float, default 0.5
        Standard deviation.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> found = rarts.memoriser.signals()
    >>> [part[1].shape[0] for part in (found.train, found.valid, found.new)]
    [24, 24, 200]
    """
    checks.generators(generator=generator)
    checks.counts(count=count, length=length)
    refuse_negative(noise=noise)
    if length < 9:
        raise ValueError(f"length must be at least 9, the longest filter, got {length}")
    parts = []
    for number, loud in ((count, noise), (count, noise), (200, 0.0)):
        x = torch.randn(number, length, generator=generator)
        clean = filtered(x, torch.tensor(TAPS))
        parts.append((x, clean + loud * torch.randn(clean.shape, generator=generator)))
    return Signals(*parts)


def filtered(x: Tensor, taps: Tensor) -> Tensor:
    """Return signals (N, length) through a filter with an odd number of taps; outside there are zeros."""
    checks.floating(x=x, taps=taps)
    if x.ndim != 2 or taps.ndim != 1 or len(taps) % 2 == 0:
        raise ValueError(
            f"x must be (N, length) and taps an odd number of them, got {tuple(x.shape)} and {tuple(taps.shape)}"
        )
    if x.dtype != taps.dtype:
        raise ValueError(f"taps must have the dtype of x, {x.dtype}, got {taps.dtype}")
    return F.conv1d(x[:, None], taps[None, None], padding=len(taps) // 2)[:, 0]


def first_weights(length: int, generator: torch.Generator | None = None) -> Tensors:
    """Return weights of the four operations that have some: 1, 3 and 9 taps, and a matrix (length, length).

    All are normal numbers of variance one by the number of inputs, so that no operation begins louder.
    """
    checks.counts(length=length)
    checks.generators(generator=generator)
    shapes = ((1,), (3,), (9,), (length, length))
    return tuple(torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for shape in shapes)


def mixture(x: Tensor, weights: Sequence[Tensor], alpha: Tensor) -> Tensor:
    """Return the five operations on signals (N, length), each of mean square 1, by the softmax of ``alpha`` (5,)."""
    refuse_no_sequence(empty=True, weights=weights)
    checks.floating(x=x, alpha=alpha, **{f"weights[{index}]": each for index, each in enumerate(weights)})
    if alpha.shape != (len(OPERATIONS),) or len(weights) != len(OPERATIONS) - 1:
        raise ValueError(
            f"alpha must have {len(OPERATIONS)} numbers and weights one tensor fewer, got {tuple(alpha.shape)} and "
            f"{len(weights)}"
        )
    *taps, dense = weights
    outputs = [x, *(filtered(x, each) for each in taps), x @ dense]
    shares = torch.softmax(alpha, 0)
    return sum(share * z / (z.square().mean() + EPSILON).sqrt() for share, z in zip(shares, outputs, strict=True))


@dataclass(frozen=True)
class Outcome:
    """Softmax shares of the operations after each step, and mean squared errors of the mixture at the end."""

    shares: tuple[tuple[float, ...], ...]
    train_error: float
    valid_error: float
    new_error: float

    @property
    def chosen(self) -> str:
        """The operation of the largest share."""
        return OPERATIONS[max(range(len(OPERATIONS)), key=self.shares[-1].__getitem__)]

    @property
    def dense(self) -> float:
        """Share of the memoriser at the end."""
        return self.shares[-1][-1]


def run(
    given: Signals,
    method: str = "rarts",
    *,
    steps: int = 500,
    coupling: float = 1.0,
    training_weight: float = 1.0,
    rate: float = 0.05,
    alpha_rate: float = 0.01,
    generator: torch.Generator | None = None,
) -> Outcome:
    """Search the one edge by a method, on whole halves: SGD with momentum 0.9 for weights, Adam for the architecture.

    Parameters
    ----------
    given : Signals
    method : {"rarts", "darts_first", "darts_second", "single_level", "mixed_level"}
    steps : int, default 500
    coupling, training_weight : float, default 1
        ``beta`` and ``lambda``.
    rate, alpha_rate : float
        Step sizes of weights and architecture.
    generator : torch.Generator, optional
        Of the first weights; the architecture starts with equal shares.

    Raises
    ------
    ValueError
        For an unknown method, a count below 1, a step size that is not positive, or a spring that resonates.

    Examples
    --------
    >>> import torch
    >>> from compactvision.search import rarts
    >>> generator = torch.Generator().manual_seed(0)
    >>> done = rarts.memoriser.run(rarts.memoriser.signals(generator), "darts_first", steps=100, generator=generator)
    >>> len(done.shares), done.dense < 0.2
    (100, True)
    """
    checks.instances(Signals, given=given)
    checks.one_of(METHODS, method=method)
    checks.counts(steps=steps)
    refuse_negative(coupling=coupling, training_weight=training_weight)
    refuse_not_positive(rate=rate, alpha_rate=alpha_rate)
    refuse_resonance(coupling, rate, MOMENTUM)
    start = first_weights(given.train[0].shape[1], generator)
    weights, twin = (_block([tensor.clone().requires_grad_() for tensor in start], rate) for _ in range(2))
    logits = torch.zeros(len(OPERATIONS), requires_grad=True)
    alpha = Block([logits], torch.optim.Adam([logits], lr=alpha_rate, betas=(0.5, 0.999)))
    train, valid = _loss(given.train), _loss(given.valid)
    weighted: dict[str, Any] = {"training_weight": training_weight}
    shares = []
    for _ in range(steps):
        if method == "rarts":
            rarts_(weights, twin, alpha, train, valid, coupling=coupling, **weighted)
        elif method.startswith("darts"):
            darts_(weights, alpha, train, valid, second=method == "darts_second")
        else:
            (single_level_ if method == "single_level" else mixed_level_)(weights, alpha, train, valid, **weighted)
        shares.append(tuple(torch.softmax(logits.detach(), 0).tolist()))
    last = twin if method == "rarts" else weights
    with torch.no_grad():
        pairs = ((train, weights), (valid, last), (_loss(given.new), weights))
        errors = [float(loss(block.tensors, (logits,))) for loss, block in pairs]
    return Outcome(tuple(shares), *errors)


def _block(tensors: Sequence[Tensor], rate: float) -> Block:
    return Block(tensors, torch.optim.SGD(list(tensors), lr=rate, momentum=MOMENTUM))


def _loss(pair: tuple[Tensor, Tensor]) -> Loss:
    x, targets = pair
    return lambda weights, alpha: F.mse_loss(mixture(x, weights, alpha[0]), targets)
