"""The policy: from a cell to one row of logits for each of its edges, by two graph convolutions.

A node knows the operations on its two edges; graph convolutions carry that along the edges. In the published code a
node does not hear itself: with two layers a row of logits depends on what happens exactly two edges upstream, and in
the normal cell of DARTS on nothing at all. ``self_loops=True`` mends it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.cells import NAT_OPERATIONS, Edge
from compactvision.models.cells.genotype import INPUTS, as_edges, as_pairs
from compactvision.models.cells.operations import as_operations

Places = Sequence[tuple[int, int]]  # source and target of each edge
BOTH = 2  # edges that arrive at a node


def slots(places: Places) -> Tensor:
    """Return for each node behind the inputs the places of its two edges in the cell, (N, 2).

    Raises
    ------
    ValueError
        If a node has another number of edges than two.

    Examples
    --------
    >>> slots([(0, 2), (1, 3), (1, 2), (2, 3)]).tolist()
    [[0, 2], [1, 3]]
    """
    pairs = as_pairs(places)
    arriving: dict[int, list[int]] = {}
    for index, (_, target) in enumerate(pairs):
        arriving.setdefault(target, []).append(index)
    for node, found in arriving.items():
        if len(found) != BOTH:
            raise ValueError(f"places must have two edges to each node, got {len(found)} to {node}")
    return torch.tensor([arriving[node] for node in sorted(arriving)])


def adjacency(places: Places, *, self_loops: bool = True) -> Tensor:
    """Return the matrix by which nodes hear each other, (M, M) with a row for each listener.

    Entry (t, s) counts the edges from s to t. With self-loops each node hears itself as well, and rows are divided by
    their sums; without, they are as in the published code.

    Examples
    --------
    >>> adjacency([(0, 2), (0, 2)], self_loops=False).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    """
    checks.flags(self_loops=self_loops)
    nodes, places = INPUTS + len(slots(places)), as_pairs(places)
    matrix = torch.zeros(nodes, nodes)
    for source, target in places:
        matrix[target, source] += 1
    if self_loops:
        matrix += torch.eye(nodes)
        matrix /= matrix.sum(1, keepdim=True)
    return matrix


class GraphPolicy(nn.Module):
    """Two graph convolutions from the operations of a cell to logits for new ones.

    Parameters
    ----------
    operations : sequence of str, default the 13 of NAT++
        Operations of cells, and the actions.
    embedding : int, default 100
        Numbers that stand for an operation; a node has two of them.
    features : int, default 1024
        Numbers of a node in front of the first graph convolution.
    hidden : int, default 100
        Behind it.
    self_loops : bool, default True
        Whether a node hears itself; False is the published code.
    generator : torch.Generator, optional
        Source of the first weights.

    Raises
    ------
    ValueError
        For unknown or repeated operations, or a count below 1.

    Notes
    -----
    The network of the code of :cite:`guo2021natpp`, for cells of any number of nodes with two edges each. Its only
    deviation is the normalised adjacency with self-loops.

    Examples
    --------
    >>> from compactvision import measure
    >>> measure.parameters(GraphPolicy())
    322750
    """

    def __init__(
        self,
        operations: Sequence[str] = NAT_OPERATIONS,
        *,
        embedding: int = 100,
        features: int = 1024,
        hidden: int = 100,
        self_loops: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(embedding=embedding, features=features, hidden=hidden)
        checks.flags(self_loops=self_loops)
        checks.generators(generator=generator)
        self.operations = as_operations(operations)
        self.self_loops = self_loops
        self.embedding = nn.Embedding(len(self.operations), embedding)
        self.inputs = nn.Parameter(torch.empty(INPUTS, BOTH * embedding))
        self.lift = nn.Linear(BOTH * embedding, features)
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, BOTH * len(self.operations))
        self._reset(generator)

    def _reset(self, generator: torch.Generator | None) -> None:
        for table in (self.embedding.weight, self.inputs):
            nn.init.normal_(table, generator=generator)
        for layer, width in (
            (self.lift, self.lift.in_features),
            (self.first, self.first.out_features),  # graph convolutions: by what goes out
            (self.second, self.second.out_features),
            (self.last, self.last.in_features),
        ):
            for parameter in (layer.weight, layer.bias):
                nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)

    def forward(self, cells: Tensor, places: Places) -> Tensor:
        """Return logits of new operations.

        Parameters
        ----------
        cells : Tensor of whole numbers of shape (B, E)
            For each cell the numbers of its operations.
        places : sequence of (source, target)
            The E edges that all these cells have.

        Returns
        -------
        Tensor of shape (B, E, O)

        Raises
        ------
        ValueError
            For a number that stands for no operation, or places that do not fit.
        """
        edges_of = slots(places)
        self._refuse(cells, edges_of.numel())
        edges_of = edges_of.to(cells.device)
        heard = adjacency(places, self_loops=self.self_loops).to(self.inputs)
        inner = self.embedding(cells[:, edges_of]).flatten(2)  # (B, N, 2 e)
        nodes = torch.cat([self.inputs.expand(len(cells), -1, -1), inner], 1)
        x = self.lift(nodes)
        x = torch.relu(_graph_convolution(self.first, x, heard))
        x = _graph_convolution(self.second, x, heard)[:, INPUTS:]
        logits = self.last(x).view(len(cells), -1, len(self.operations))  # two rows a node
        return logits[:, edges_of.flatten().argsort()]

    def _refuse(self, cells: Tensor, edges: int) -> None:
        checks.tensors(cells=cells)
        if cells.dtype != torch.int64 or cells.dim() != 2 or cells.shape[1] != edges:
            raise ValueError(f"cells must be whole numbers of shape (B, {edges}), got {checks.shown(cells)}")
        if cells.numel() and not 0 <= int(cells.min()) <= int(cells.max()) < len(self.operations):
            raise ValueError(f"cells must hold numbers from 0 to {len(self.operations) - 1}")

    def numbers(self, edges: Sequence[Edge]) -> Tensor:
        """Return the numbers of a cell's operations, (1, E)."""
        found = as_edges(edges)
        checks.one_of(self.operations, **{f"operation of edges[{i}]": e.operation for i, e in enumerate(found)})
        return torch.tensor([[self.operations.index(edge.operation) for edge in found]], device=self.inputs.device)


def _graph_convolution(layer: nn.Linear, x: Tensor, heard: Tensor) -> Tensor:
    """Return ``A (X W) + b``: the published layer adds its bias behind the sum."""
    return heard @ (x @ layer.weight.T) + layer.bias
