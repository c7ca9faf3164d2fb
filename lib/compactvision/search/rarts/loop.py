"""The search on a super-network: every method in one loop, with the same optimisers and the same budget of passes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from compactvision import _checks as checks
from compactvision import _failures as failures
from compactvision.models.cells import Genotype, SuperNetwork, discretise

from .arguments import leaves, refuse_negative, refuse_no_numbers, refuse_no_sequence, refuse_not_positive
from .block import Block, Tensors, refuse_resonance
from .steps import Iteration, Loss, darts_, mixed_level_, rarts_, single_level_

PASSES = {  # forward and backward computations of one iteration
    "rarts": 4,
    "rarts_jacobi": 2,
    "darts_first": 2,
    "darts_second": 5,
    "single_level": 2,
    "mixed_level": 3,
}
METHODS = tuple(PASSES)


@dataclass(frozen=True)
class Recipe:
    """Optimisers of a search; the numbers are those of DARTS.

    Weights take SGD with momentum, clipped, and a cosine from ``rate`` to ``final_rate``; the architecture takes Adam
    and starts as normal noise of size ``spread``.
    """

    rate: float = 0.025
    final_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    alpha_rate: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_decay: float = 1e-3
    spread: float = 1e-3

    def __post_init__(self) -> None:
        refuse_not_positive(rate=self.rate, clip=self.clip, alpha_rate=self.alpha_rate)
        names = ("final_rate", "momentum", "weight_decay", "alpha_decay", "spread")
        refuse_negative(**{name: getattr(self, name) for name in names})
        refuse_no_sequence(alpha_betas=self.alpha_betas)
        refuse_negative(**{f"alpha_betas[{index}]": beta for index, beta in enumerate(self.alpha_betas)})
        if len(self.alpha_betas) != 2 or max(self.alpha_betas) >= 1:
            raise ValueError(f"alpha_betas must be two numbers below 1, got {self.alpha_betas}")

    def weights(self, tensors: Tensors) -> Block:
        """Return the block of one set of weights."""
        leaves(tensors=tensors)
        options: dict[str, Any] = {"lr": self.rate, "momentum": self.momentum, "weight_decay": self.weight_decay}
        return Block(tensors, torch.optim.SGD(list(tensors), **options), clip=self.clip)

    def alpha(self, tensors: Tensors) -> Block:
        """Return the block of the architecture."""
        leaves(tensors=tensors)
        options: dict[str, Any] = {"lr": self.alpha_rate, "betas": self.alpha_betas, "weight_decay": self.alpha_decay}
        return Block(tensors, torch.optim.Adam(list(tensors), **options))


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    alpha : tuple of Tensor (E, O)
        Architecture weights before the softmax: of both kinds of cells, or of normal and reduction cells.
    weights, twin : dict of str to Tensor
        The two sets of weights by name of the parameter; one and the same where a method has one.
    history : tuple of Iteration
    entropies : tuple of float
        Before each iteration the mean entropy of the softmax over operations, as a share of the largest.
    seconds : float
        Of all iterations.
    """

    alpha: Tensors
    weights: dict[str, Tensor] = field(repr=False)
    twin: dict[str, Tensor] = field(repr=False)
    history: tuple[Iteration, ...] = field(repr=False)
    entropies: tuple[float, ...] = field(repr=False)
    seconds: float
    places: tuple[tuple[int, int], ...] = field(repr=False)
    operations: tuple[str, ...] = field(repr=False)

    @property
    def passes(self) -> int:
        """Passes of all iterations."""
        return sum(iteration.passes for iteration in self.history)

    @property
    def genotype(self) -> Genotype:
        """The discrete cells."""
        normal, reduction = (discretise(a, self.places, self.operations) for a in (self.alpha[0], self.alpha[-1]))
        return Genotype(normal, reduction)


def search(
    network: SuperNetwork,
    train: Iterable[tuple[Tensor, Tensor]],
    valid: Iterable[tuple[Tensor, Tensor]],
    method: str = "rarts",
    *,
    passes: int,
    training_weight: float = 1.0,
    coupling: float = 1.0,
    shared: bool = False,
    recipe: Recipe | None = None,
    generator: torch.Generator | None = None,
) -> Found:
    """Search an architecture by one of :data:`METHODS`.

    Parameters
    ----------
    network : SuperNetwork
        Its weights are where all sets of weights start; it is left as it was.
    train, valid : iterable of (Tensor, Tensor)
        Batches of the two halves, on the network's device; begun anew when they end. An iteration takes one of each.
    method : str, default "rarts"
        "rarts" (Gauss-Seidel), "rarts_jacobi", "darts_first", "darts_second", "single_level" or "mixed_level".
    passes : int
        Budget; iterations are as many as it pays for, so that methods with dear iterations make fewer.
    training_weight, coupling : float, default 1
        ``lambda`` (of RARTS, the single and the mixed level) and ``beta`` (of RARTS).
    shared : bool, default False
        Whether normal and reduction cells have one architecture.
    recipe : loop.Recipe, optional
    generator : torch.Generator, optional
        Of the first architecture weights.

    Raises
    ------
    ValueError
        For an unknown method, a budget below one iteration, a negative number, a spring that is too stiff, batches
        that the network fails on, or a loss that is not finite.

    Examples
    --------
    >>> import torch
    >>> from compactvision.models.cells import SuperNetwork
    >>> from compactvision.search import rarts
    >>> network = SuperNetwork([(0, 2), (1, 2)], ("skip_connect", "conv_3x3"), 4, 3, stem=1)
    >>> batch = torch.randn(8, 3, 8, 8), torch.arange(8)
    >>> found = rarts.search(network, [batch], [batch], passes=8)
    >>> len(found.history), found.passes, found.genotype.nodes
    (2, 8, 3)
    """
    checks.instances(SuperNetwork, network=network)
    checks.materialised(network=network)
    refuse_no_numbers(network=network)
    checks.batches(train=train, valid=valid)
    checks.one_of(METHODS, method=method)
    checks.counts(passes=passes)
    refuse_negative(training_weight=training_weight, coupling=coupling)
    checks.flags(shared=shared)
    recipe = Recipe() if recipe is None else recipe
    checks.instances(Recipe, recipe=recipe)
    refuse_resonance(coupling, recipe.rate, recipe.momentum)
    checks.generators(generator=generator)
    iterations = passes // PASSES[method]
    if iterations < 1:
        raise ValueError(f"passes must pay for one iteration of {method}, {PASSES[method]}, got {passes}")
    alpha = recipe.alpha(_first_alpha(network, recipe.spread, shared, generator))
    weights, twin = (recipe.weights(_copied(network)) for _ in range(2))
    if not method.startswith("rarts"):
        twin = weights
    step = _step(method, weights, twin, alpha, training_weight, coupling)
    history, entropies, seconds = [], [], 0.0
    for index, pair in zip(range(iterations), zip(endless(train, "train"), endless(valid, "valid"))):
        losses = [_loss_on(network, batch, name) for batch, name in zip(pair, ("train", "valid"), strict=True)]
        for block in (weights, twin):
            block.optimizer.param_groups[0]["lr"] = cosine(recipe, index / iterations)
        entropies.append(entropy(alpha.tensors))
        begin = time.perf_counter()
        history.append(step(*losses))
        seconds += time.perf_counter() - begin
    names = [name for name, _ in network.named_parameters()]
    sets = [dict(zip(names, (x.detach() for x in block.tensors), strict=True)) for block in (weights, twin)]
    ends = tuple(history), tuple(entropies), seconds
    return Found(tuple(x.detach() for x in alpha.tensors), sets[0], sets[1], *ends, network.places, network.operations)


def _step(
    method: str, weights: Block, twin: Block, alpha: Block, training_weight: float, coupling: float
) -> Callable[[Loss, Loss], Iteration]:
    weighted: dict[str, Any] = {"training_weight": training_weight}
    if method.startswith("rarts"):
        order = "jacobi" if method == "rarts_jacobi" else "gauss-seidel"
        return partial(rarts_, weights, twin, alpha, coupling=coupling, order=order, **weighted)
    if method.startswith("darts"):
        return partial(darts_, weights, alpha, second=method == "darts_second")
    if method == "single_level":
        return partial(single_level_, weights, alpha, **weighted)
    return partial(mixed_level_, weights, alpha, **weighted)


def _first_alpha(network: SuperNetwork, spread: float, shared: bool, generator: torch.Generator | None) -> Tensors:
    like = next(network.parameters())
    shape = len(network.places), len(network.operations)
    drawn = [spread * torch.randn(shape, generator=generator) for _ in range(1 if shared else 2)]
    return tuple(each.to(like).requires_grad_() for each in drawn)


def _copied(network: torch.nn.Module) -> Tensors:
    return tuple(tensor.detach().clone().requires_grad_() for tensor in network.parameters())


def _loss_on(network: SuperNetwork, batch: Any, name: str) -> Loss:
    inputs, targets = checks.pair(batch)
    names = [name for name, _ in network.named_parameters()]

    def loss(weights: Tensors, alpha: Tensors) -> Tensor:
        mixtures = [torch.softmax(each, dim=1) for each in (alpha[0], alpha[-1])]
        with failures.explained([inputs, targets], name):
            logits = functional_call(network, dict(zip(names, weights, strict=True)), (inputs, *mixtures))
            return F.cross_entropy(logits, targets)

    return loss


def endless(batches: Iterable, name: str) -> Iterator:
    """Go through batches again and again; ``ValueError`` where there is none."""
    checks.texts(name=name)
    checks.batches(**{name: batches})
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError(f"{name} must hold at least one batch each time it is gone through, got none")


def cosine(recipe: Recipe, share: float) -> float:
    """Return the step size of weights after a share of all iterations."""
    checks.instances(Recipe, recipe=recipe)
    checks.finite(share=share)
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    return recipe.final_rate + (recipe.rate - recipe.final_rate) * (1 + math.cos(math.pi * share)) / 2


def entropy(alpha: Tensors) -> float:
    """Return the mean entropy of the softmax of the rows of (E, O) tensors, 1 where all operations weigh the same.

    Raises
    ------
    ValueError
        For tensors of other dimensions, or a single operation.
    """
    refuse_no_sequence(alpha=alpha)
    checks.tensors(**{f"alpha[{index}]": each for index, each in enumerate(alpha)})
    for index, each in enumerate(alpha):
        if each.ndim != 2 or each.shape[0] < 1 or each.shape[1] < 2:
            raise ValueError(f"alpha[{index}] must have shape (E, O) with O > 1, got {tuple(each.shape)}")
    rows = torch.cat([each.detach().double() for each in alpha])
    weights = torch.log_softmax(rows, dim=1)
    return float(-(weights.exp() * weights).sum(1).mean() / math.log(rows.shape[1]))
