"""The two phases over one super-network: its weights learn from random cells, the policy from moves between them.

Both cells, the normal and the reduction one, are transformed by the same policy. The weights never see a reward, the
policy never changes a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from compactvision import _checks as checks
from compactvision.models.cells import Edge, Genotype, SuperNetwork
from compactvision.models.cells.genotype import as_edges
from compactvision.models.cells.operations import NONE

from .learning import MovingBaseline, policy_loss
from .policy import GraphPolicy
from .softmax import sample
from .transitions import allowed, mask

Pair = tuple[tuple[Edge, ...], tuple[Edge, ...]]  # a normal and a reduction cell


def random_source(network: SuperNetwork, generator: torch.Generator | None = None, *, same: bool = False) -> Pair:
    """Return a normal and a reduction cell, each operation drawn among all but *none*: p of the paper.

    Parameters
    ----------
    network : SuperNetwork
        Its edges and operations.
    generator : torch.Generator, optional
    same : bool, default False
        Whether both cells are the same.
    """
    checks.instances(SuperNetwork, network=network)
    checks.flags(same=same)
    checks.generators(generator=generator)
    names = [name for name in network.operations if name != NONE]
    cells = []
    for _ in range(1 if same else 2):
        drawn = torch.randint(len(names), (len(network.places),), generator=generator).tolist()
        cells.append(tuple(Edge(names[i], *place) for i, place in zip(drawn, network.places, strict=True)))
    return cells[0], cells[-1]


@torch.no_grad()
def accuracy(network: SuperNetwork, pair: Pair, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the share of images that one path of the super-network gets right, with the batches' statistics."""
    checks.instances(SuperNetwork, network=network)
    checks.batches(batches=batches)
    cells = _as_pair(pair)
    right = total = 0
    for batch in batches:
        images, labels = _as_batch(batch, network)
        right += int((network(images, *cells).argmax(1) == labels).sum())
        total += len(labels)
    if not total:
        raise ValueError("batches must hold at least one image")
    return right / total


def weights_phase(
    network: SuperNetwork,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    source: Callable[[], Pair],
) -> list[float]:
    """Train the shared weights, one random cell a batch, and return the losses.

    The cell is *not* transformed. Weights of operations beside its path get no gradient and, with optimizers of
    PyTorch, no decay and no momentum either.

    Parameters
    ----------
    network : SuperNetwork
        Changed in place.
    optimizer : torch.optim.Optimizer
        Of its weights.
    batches : iterable of (Tensor, Tensor)
        Images and labels; another part of the data than the policy's.
    source : function of no argument
        The cell of the next batch, such as ``lambda: random_source(network, generator)``.

    Examples
    --------
    >>> draw = torch.Generator().manual_seed(0)
    >>> places = ((0, 2), (1, 2), (1, 3), (2, 3))
    >>> network = SuperNetwork(places, ("none", "skip_connect", "conv_3x3"), channels=4, cells=2, generator=draw)
    >>> sgd = torch.optim.SGD(network.parameters(), lr=0.05)
    >>> batch = torch.randn(8, 3, 8, 8, generator=draw), torch.arange(8)
    >>> len(weights_phase(network, sgd, [batch] * 3, lambda: random_source(network, draw)))  # a loss for each batch
    3
    """
    checks.instances(SuperNetwork, network=network)
    checks.functions(0, source=source)
    checks.instances(torch.optim.Optimizer, optimizer=optimizer)
    checks.batches(batches=batches)
    losses = []
    for batch in batches:
        images, labels = _as_batch(batch, network)
        loss = F.cross_entropy(network(images, *_as_pair(source(), "source()")), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@dataclass(frozen=True)
class Move:
    """A step of the policy: the reward, and the cells before and after."""

    reward: float
    source: Pair
    target: Pair


def policy_phase(
    policy: GraphPolicy,
    optimizer: torch.optim.Optimizer,
    network: SuperNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    source: Callable[[], Pair],
    baseline: MovingBaseline,
    *,
    entropy_weight: float = 0.003,
    same: bool = False,
    rule=allowed,
    generator: torch.Generator | None = None,
) -> list[Move]:
    """Train the policy, one move a batch: the reward is by how much the batch's accuracy rises.

    Parameters
    ----------
    policy : GraphPolicy
        Changed in place.
    optimizer : torch.optim.Optimizer
        Of the policy.
    network : SuperNetwork
        Values cells; its weights stay.
    batches : iterable of (Tensor, Tensor)
        Images and labels that the weights were not trained on.
    source : function of no argument
        The cell of the next batch.
    baseline : MovingBaseline
        Goes on from call to call.
    entropy_weight : float, default 0.003
    same : bool, default False
        Whether both cells are the same, and get the same move.
    rule : function of 2 arguments
        What an operation may become.
    generator : torch.Generator, optional
        Draws the moves.

    Examples
    --------
    >>> draw = torch.Generator().manual_seed(0)
    >>> places = ((0, 2), (1, 2), (1, 3), (2, 3))
    >>> network = SuperNetwork(places, ("none", "skip_connect", "conv_3x3"), channels=4, cells=2, generator=draw)
    >>> policy = GraphPolicy(network.operations, generator=draw)
    >>> adam = torch.optim.Adam(policy.parameters(), lr=3e-4, betas=(0.5, 0.999))
    >>> batch = torch.randn(8, 3, 8, 8, generator=draw), torch.arange(8)
    >>> source = lambda: random_source(network, draw)
    >>> moves = policy_phase(policy, adam, network, [batch] * 3, source, MovingBaseline(), generator=draw)
    >>> len(moves), all(-1 <= move.reward <= 1 for move in moves)
    (3, True)
    """
    checks.instances(SuperNetwork, network=network)
    checks.instances(GraphPolicy, policy=policy)
    checks.instances(torch.optim.Optimizer, optimizer=optimizer)
    checks.instances(MovingBaseline, baseline=baseline)
    checks.functions(0, source=source)
    checks.batches(batches=batches)
    moves = []
    for batch in batches:
        before = _as_pair(source(), "source()")
        cells = before[:1] if same else before
        drawn = [propose(policy, cell, rule=rule, generator=generator) for cell in cells]
        after = _pair([move.cell for move in drawn])
        reward = accuracy(network, after, [batch]) - accuracy(network, before, [batch])
        advantage = torch.tensor([reward - (baseline.value or 0.0)])
        parts = [
            policy_loss(move.logits, move.mask, move.actions, advantage, entropy_weight=entropy_weight)
            for move in drawn
        ]
        optimizer.zero_grad()
        torch.stack(parts).sum().backward()
        optimizer.step()
        baseline.update(reward)
        moves.append(Move(reward, before, after))
    return moves


@dataclass(frozen=True)
class Proposal:
    """What a policy drew for one cell: the new cell, and what its gradient needs, each for a batch of one."""

    cell: tuple[Edge, ...]
    logits: Tensor
    mask: Tensor
    actions: Tensor


def propose(
    policy: GraphPolicy,
    edges: Sequence[Edge],
    *,
    rule=allowed,
    greedy: bool = False,
    generator: torch.Generator | None = None,
) -> Proposal:
    """Draw a move for each edge of a cell, or take the likeliest."""
    checks.instances(GraphPolicy, policy=policy)
    checks.materialised(policy=policy)
    checks.flags(greedy=greedy)
    edges = as_edges(edges)
    places = [(edge.source, edge.target) for edge in edges]
    legal = mask(edges, policy.operations, rule=rule)[None]
    logits = policy(policy.numbers(edges), places)
    actions = logits.masked_fill(~legal, -torch.inf).argmax(-1) if greedy else sample(logits, legal, generator)
    cell = tuple(Edge(policy.operations[int(a)], *place) for a, place in zip(actions[0], places, strict=True))
    return Proposal(cell, logits, legal, actions)


@torch.no_grad()
def transform(
    policy: GraphPolicy,
    pair: Pair,
    value: Callable[[Pair], float],
    samples: int = 10,
    *,
    same: bool = False,
    rule=allowed,
    generator: torch.Generator | None = None,
) -> tuple[Pair, float]:
    """Return the best of some drawn transformations of a normal and a reduction cell, and its value.

    Parameters
    ----------
    policy : GraphPolicy
    pair : pair of sequences of Edge
        The source. It is not among what is chosen from, as in the published code.
    value : function of 1 argument
        From a pair to its accuracy on images that are held out; the published code asked the test images.
    samples : int, default 10
    same, rule, generator
        As in :func:`policy_phase`.

    Raises
    ------
    ValueError
        If ``samples`` is below 1.

    Examples
    --------
    >>> policy = GraphPolicy(("none", "skip_connect", "conv_3x3"), generator=torch.Generator().manual_seed(0))
    >>> cell = [Edge("conv_3x3", 0, 2), Edge("none", 1, 2)]
    >>> skips = lambda pair: sum(edge.operation == "skip_connect" for cell in pair for edge in cell)
    >>> (normal, reduction), most = transform(policy, (cell, cell), skips, samples=200)
    >>> [edge.operation for edge in normal], most
    (['skip_connect', 'skip_connect'], 4.0)
    """
    checks.counts(samples=samples)
    checks.functions(1, value=value)
    checks.flags(same=same)
    cells = _as_pair(pair)[:1] if same else _as_pair(pair)
    best: tuple[Pair, float] | None = None
    for _ in range(samples):
        drawn = _pair([propose(policy, cell, rule=rule, generator=generator).cell for cell in cells])
        reached = value(drawn)
        checks.finite(**{"what value returns": reached})
        if best is None or reached > best[1]:
            best = drawn, float(reached)
    assert best is not None
    return best


@torch.no_grad()
def greedy(policy: GraphPolicy, genotype: Genotype, *, rule=allowed) -> Genotype:
    """Return a genotype with the likeliest legal move on each edge of both its cells."""
    checks.instances(Genotype, genotype=genotype)
    pair = genotype.normal, genotype.reduction
    normal, reduction = (propose(policy, cell, rule=rule, greedy=True).cell for cell in pair)
    return Genotype(normal, reduction, genotype.outputs)


def _as_pair(pair: object, name: str = "pair") -> Pair:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"{name} must be a normal and a reduction cell, got {checks.shown(pair)}")
    return as_edges(pair[0], f"{name}[0]"), as_edges(pair[1], f"{name}[1]")


def _as_batch(batch: object, network: SuperNetwork) -> tuple[Tensor, Tensor]:
    images, labels = checks.pair(batch)
    classes = network.fc.out_features
    fits = labels.dtype == torch.int64 and labels.dim() == 1 and len(labels) == len(images) > 0
    if not fits or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"batches must hold images, and for each a label from 0 to {classes - 1}, got {checks.shown(labels)}"
        )
    return images, labels


def _pair(cells: Sequence[tuple[Edge, ...]]) -> Pair:
    return cells[0], cells[-1]
