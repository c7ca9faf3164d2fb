"""A cell as a list of edges: what a search finds, a transformation changes and a network is built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.models.cells.operations import DARTS_OPERATIONS, NONE, OPERATIONS, as_operations

INPUTS = 2  # nodes 0 and 1 are the outputs of the last cell but one and of the last


class Edge(NamedTuple):
    """One operation on the way from a node to a later one."""

    operation: str
    source: int
    target: int


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell.

    Parameters
    ----------
    normal, reduction : sequence of (operation, source, target)
        Edges of the cell that keeps the size of its maps and of the one that halves it. Nodes 0 and 1 are the outputs
        of the two cells before; the others, from 2 on, are the sums of what arrives on their edges.
    outputs : sequence of int, optional
        Nodes whose maps, one behind the other along the channels, are the output; all but the two inputs by default.

    Raises
    ------
    ValueError
        For an unknown operation, an edge that does not lead forward, a node without an edge, or an output that is no
        node behind the inputs.

    Examples
    --------
    >>> cell = [("conv_3x3", 0, 2), ("skip_connect", 1, 2), ("conv_1x1", 1, 3), ("avg_pool_3x3", 2, 3)]
    >>> Genotype(cell, cell).nodes
    4
    """

    normal: tuple[Edge, ...]
    reduction: tuple[Edge, ...]
    outputs: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("normal", "reduction"):
            object.__setattr__(self, name, as_edges(getattr(self, name), name))
        if _last(self.normal) != _last(self.reduction):
            raise ValueError(
                f"reduction must have as many nodes as normal, got {_last(self.reduction) + 1} and {self.nodes}"
            )
        outputs = tuple(self.outputs) or tuple(range(INPUTS, self.nodes))
        checks.whole(**{f"outputs[{index}]": node for index, node in enumerate(outputs)})
        if not all(INPUTS <= node < self.nodes for node in outputs) or len(set(outputs)) < len(outputs):
            raise ValueError(f"outputs must be different nodes from {INPUTS} to {self.nodes - 1}, got {outputs}")
        object.__setattr__(self, "outputs", outputs)

    @property
    def nodes(self) -> int:
        """Nodes of a cell, its two inputs among them."""
        return _last(self.normal) + 1

    def cell(self, reduction: bool) -> tuple[Edge, ...]:
        """Return the edges of one of the two cells."""
        return self.reduction if reduction else self.normal


def as_edges(edges: Iterable[Sequence], name: str = "edges") -> tuple[Edge, ...]:
    """Return the edges of a cell; ``ValueError`` where they make none."""
    try:
        found = tuple(Edge(*edge) for edge in edges)
    except TypeError:
        raise ValueError(f"{name} must be edges (operation, source, target), got {checks.shown(edges)}") from None
    if not found:
        raise ValueError(f"{name} must have at least one edge, got none")
    for index, edge in enumerate(found):
        at = f"{name}[{index}]"
        checks.one_of(OPERATIONS, **{f"operation of {at}": edge.operation})
        checks.whole(**{f"source of {at}": edge.source, f"target of {at}": edge.target})
        if not 0 <= edge.source < edge.target or edge.target < INPUTS:
            raise ValueError(f"{at} must lead from a node to a later one behind the two inputs, got {tuple(edge)}")
    missing = set(range(INPUTS, _last(found) + 1)) - {edge.target for edge in found}
    if missing:
        raise ValueError(f"{name} must have an edge to each of its nodes, got none to {sorted(missing)}")
    return found


def _last(edges: Sequence[Edge]) -> int:
    return max(edge.target for edge in edges)


def dense_edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """Return the (source, target) of all edges of a cell with ``nodes`` nodes behind its two inputs: 14 for 4.

    Examples
    --------
    >>> dense_edges(2)
    ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    """
    checks.counts(nodes=nodes)
    return tuple((source, target) for target in range(INPUTS, INPUTS + nodes) for source in range(target))


def as_pairs(places: Iterable[Sequence[int]], name: str = "places") -> tuple[tuple[int, int], ...]:
    """Return (source, target) of a cell's edges; ``ValueError`` where they make no cell."""
    try:
        named = [(OPERATIONS[0], *place) for place in places]
    except TypeError:
        raise ValueError(f"{name} must be pairs (source, target), got {checks.shown(places)}") from None
    return tuple((edge.source, edge.target) for edge in as_edges(named, name))


def as_places(places: Iterable[Sequence[int]], name: str = "places") -> tuple[tuple[int, int], ...]:
    """Return (source, target) of a cell's edges; ``ValueError`` where they make no cell or repeat themselves."""
    found = as_pairs(places, name)
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must be different, got {found}")
    return found


def discretise(
    alpha: Tensor,
    edges: Sequence[tuple[int, int]],
    operations: Sequence[str] = DARTS_OPERATIONS,
    *,
    incoming: int = 2,
) -> tuple[Edge, ...]:
    """Return the edges of the cell that architecture weights stand for.

    An edge keeps its operation of largest softmax weight, *none* left out, and a node its ``incoming`` edges whose
    kept weight is largest. Ties go to the first.

    Parameters
    ----------
    alpha : Tensor of shape (E, O)
        Architecture weights before the softmax.
    edges : sequence of (source, target)
        The E edges, such as :func:`dense_edges` gives them.
    operations : sequence of str
        Names of the O operations.
    incoming : int, default 2
        Edges that a node keeps, all where it has fewer.

    Raises
    ------
    ValueError
        For shapes that do not fit, an entry that is not finite, or operations of which none but *none* is left.

    Notes
    -----
    The rule of the code of DARTS (Liu et al. 2019, section 2.4).
    """
    checks.counts(incoming=incoming)
    checks.tensors(alpha=alpha)
    edges, operations = as_places(edges, "edges"), as_operations(operations)
    if alpha.shape != (len(edges), len(operations)):
        raise ValueError(f"alpha must have shape {(len(edges), len(operations))}, got {tuple(alpha.shape)}")
    if not alpha.isfinite().all():
        raise ValueError("alpha must be finite")
    usable = [index for index, name in enumerate(operations) if name != NONE]
    if not usable:
        raise ValueError(f"operations must hold one beside {NONE!r}, got {tuple(operations)}")
    weights = torch.softmax(alpha.detach().double(), dim=1)[:, usable]
    best, chosen = weights.max(dim=1)
    kept: list[Edge] = []
    for target in sorted({target for _, target in edges}):
        arriving = [index for index, edge in enumerate(edges) if edge[1] == target]
        strongest = sorted(arriving, key=lambda index: -float(best[index]))[:incoming]  # stable: ties to the first
        kept += [Edge(operations[usable[int(chosen[index])]], *edges[index]) for index in sorted(strongest)]
    return tuple(kept)


def replaced(edges: Sequence[Edge], operations: Mapping[int, str]) -> tuple[Edge, ...]:
    """Return edges with other operations at some indices; sources and targets stay."""
    found = as_edges(edges)
    checks.mappings(operations=operations)
    unknown = [index for index in operations if index not in range(len(found))]
    if unknown:
        raise ValueError(f"operations must name edges from 0 to {len(found) - 1}, got {unknown}")
    checks.one_of(OPERATIONS, **{f"operations[{index}]": name for index, name in operations.items()})
    return tuple(
        Edge(operations.get(index, edge.operation), edge.source, edge.target) for index, edge in enumerate(found)
    )
