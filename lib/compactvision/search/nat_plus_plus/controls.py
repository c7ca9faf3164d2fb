"""What needs no learning: random legal cells, the best of some of them, and legal edits one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from compactvision import _checks as checks
from compactvision.models.cells import NAT_OPERATIONS, Edge, replaced
from compactvision.models.cells.genotype import as_edges
from compactvision.models.cells.operations import as_operations

from .softmax import sample
from .transitions import allowed, mask

Value = Callable[[tuple[Edge, ...]], float]


@dataclass(frozen=True)
class Found:
    """A cell, its value, and how many cells were valued to find it."""

    cell: tuple[Edge, ...]
    value: float
    evaluations: int


def random_cell(
    edges: Sequence[Edge],
    operations: Sequence[str] = NAT_OPERATIONS,
    *,
    rule=allowed,
    generator: torch.Generator | None = None,
) -> tuple[Edge, ...]:
    """Return a cell that a legal move makes of another: each edge draws one of its allowed operations, all alike.

    Examples
    --------
    >>> random_cell([Edge("conv_1x1", 0, 2), Edge("none", 1, 2)], ("none", "conv_1x1"), rule=lambda name, _: (name,))
    (Edge(operation='conv_1x1', source=0, target=2), Edge(operation='none', source=1, target=2))
    """
    edges, operations = as_edges(edges), as_operations(operations)
    legal = mask(edges, operations, rule=rule)
    drawn = sample(torch.zeros(legal.shape), legal, generator)
    return replaced(edges, {index: operations[int(action)] for index, action in enumerate(drawn)})


def best_of(cells: Sequence[tuple[Edge, ...]], value: Value) -> Found:
    """Return the cell of largest value; ties go to the first.

    Raises
    ------
    ValueError
        If there is no cell, or a value is no finite number.
    """
    checks.functions(1, value=value)
    if not isinstance(cells, (list, tuple)) or not cells:
        raise ValueError(f"cells must be a list of at least one cell, got {checks.shown(cells)}")
    found = [as_edges(cell, f"cells[{index}]") for index, cell in enumerate(cells)]
    values = [_valued(cell, value) for cell in found]
    best = max(range(len(found)), key=lambda index: values[index])
    return Found(found[best], values[best], len(found))


def best_random(
    edges: Sequence[Edge],
    value: Value,
    evaluations: int = 10,
    operations: Sequence[str] = NAT_OPERATIONS,
    *,
    rule=allowed,
    generator: torch.Generator | None = None,
) -> Found:
    """Return the best of some random legal cells, at ``evaluations`` values."""
    checks.counts(evaluations=evaluations)
    drawn = [random_cell(edges, operations, rule=rule, generator=generator) for _ in range(evaluations)]
    return best_of(drawn, value)


def greedy_edits(
    edges: Sequence[Edge],
    value: Value,
    evaluations: int = 10,
    operations: Sequence[str] = NAT_OPERATIONS,
    *,
    rule=allowed,
    generator: torch.Generator | None = None,
) -> Found:
    """Change one edge at a time by a legal move, and keep what is better, until ``evaluations`` cells were valued.

    The source is valued first. An edge may take whatever its operation in the *source* may become, so that no edit
    closes a way. Moves are tried in random order; after one is kept, all others are tried again. It ends earlier where
    no single move is better.

    Raises
    ------
    ValueError
        If ``evaluations`` is below 1, or a value is no finite number.

    Examples
    --------
    >>> cell = [Edge("conv_3x3", 0, 2), Edge("none", 1, 2)]
    >>> skips = lambda cell: sum(edge.operation == "skip_connect" for edge in cell)
    >>> found = greedy_edits(cell, skips, evaluations=30)
    >>> [edge.operation for edge in found.cell], found.value
    (['skip_connect', 'skip_connect'], 2.0)
    """
    checks.counts(evaluations=evaluations)
    checks.functions(1, value=value)
    checks.functions(2, rule=rule)
    checks.generators(generator=generator)
    cell, operations = as_edges(edges), as_operations(operations)
    legal = mask(cell, operations, rule=rule).nonzero().tolist()
    best, used = _valued(cell, value), 1
    waiting = _moves(cell, legal, operations, generator)
    while waiting and used < evaluations:
        index, name = waiting.pop()
        changed = replaced(cell, {index: name})
        reached, used = _valued(changed, value), used + 1
        if reached > best:
            cell, best = changed, reached
            waiting = _moves(cell, legal, operations, generator)
    return Found(cell, best, used)


def _moves(
    cell: Sequence[Edge], legal: list[list[int]], operations: Sequence[str], generator: torch.Generator | None
) -> list[tuple[int, str]]:
    """Return the edits of one edge, mixed."""
    moves = [(edge, operations[column]) for edge, column in legal if operations[column] != cell[edge].operation]
    return [moves[index] for index in torch.randperm(len(moves), generator=generator).tolist()]


def _valued(cell: tuple[Edge, ...], value: Value) -> float:
    found = value(cell)
    checks.finite(**{"what value returns": found})
    return float(found)
