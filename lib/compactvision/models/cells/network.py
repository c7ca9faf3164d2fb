"""Networks that stack one cell: the discrete one of a genotype, and the super-network that holds all of them.

Both share the macro structure of DARTS (Liu et al. 2019): a 3 x 3 stem, cells of which two halve the maps and double
the channels, global average pooling, one linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.cells.genotype import INPUTS, Edge, Genotype, as_edges, as_places, dense_edges
from compactvision.models.cells.operations import (
    DARTS_OPERATIONS,
    FactorizedReduce,
    as_operations,
    operation,
    relu_conv_bn,
)
from compactvision.models.layers import initialise_, refuse_images

Places = Sequence[tuple[int, int]]  # source and target of each edge
Weights = Tensor | Sequence[Edge]  # a mixture on all edges, or one path


class _Inputs(nn.Module):
    """Bring the outputs of the two cells before to this cell's channels and size."""

    def __init__(self, before: int, last: int, channels: int, halved: bool, affine: bool) -> None:
        super().__init__()
        reduce = FactorizedReduce(before, channels, affine) if halved else relu_conv_bn(before, channels, affine=affine)
        self.before = reduce
        self.last = relu_conv_bn(last, channels, affine=affine)

    def forward(self, before: Tensor, last: Tensor) -> list[Tensor]:
        return [self.before(before), self.last(last)]


class Cell(nn.Module):
    """One cell with an operation on each of its edges.

    Parameters
    ----------
    edges : sequence of Edge
        Operations and where they lead.
    outputs : sequence of int
        Nodes whose maps are the output, one behind the other along the channels.
    inputs : nn.Module
        Brings two maps to the cell's channels.
    channels : int
        Channels of a node.
    reduction : bool
        Whether the edges from the two inputs halve the map.
    """

    def __init__(
        self, edges: Sequence[Edge], outputs: Sequence[int], inputs: nn.Module, channels: int, reduction: bool
    ) -> None:
        super().__init__()
        self.edges, self.outputs = tuple(edges), tuple(outputs)
        self.inputs = inputs
        self.operations = nn.ModuleList(
            operation(edge.operation, channels, _stride(edge.source, reduction)) for edge in edges
        )

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Map two maps to (B, outputs * channels, H, W), half as large in a reduction cell."""
        nodes: dict[int, Tensor] = dict(enumerate(self.inputs(before, last)))
        for edge, module in sorted(zip(self.edges, self.operations, strict=True), key=lambda pair: pair[0].target):
            arrived = module(nodes[edge.source])
            nodes[edge.target] = nodes[edge.target] + arrived if edge.target in nodes else arrived
        return torch.cat([nodes[node] for node in self.outputs], 1)


class MixedCell(nn.Module):
    """All operations on all edges: one cell of a super-network.

    Parameters
    ----------
    places : sequence of (source, target)
        Its edges.
    names : sequence of str
        Operations that each edge holds.
    inputs, channels, reduction
        As in :class:`Cell`.
    """

    def __init__(self, places: Places, names: Sequence[str], inputs: nn.Module, channels: int, reduction: bool) -> None:
        super().__init__()
        self.places, self.names = tuple(places), tuple(names)
        self.inputs = inputs
        self.nodes = sorted({target for _, target in places})
        self.operations = nn.ModuleList(
            nn.ModuleList(_normalised(name, channels, _stride(source, reduction)) for name in names)
            for source, _ in self.places
        )

    def forward(self, before: Tensor, last: Tensor, weights: Weights) -> Tensor:
        """Map two maps to one; ``weights`` is a mixture (E, O) or a path of edges."""
        nodes: dict[int, Tensor] = dict(enumerate(self.inputs(before, last)))
        for source, target, module, weight in self._active(weights):
            arrived = module(nodes[source]) if weight is None else weight * module(nodes[source])
            nodes[target] = nodes[target] + arrived if target in nodes else arrived
        return torch.cat([nodes[node] for node in self.nodes], 1)

    def _active(self, weights: Weights):
        if isinstance(weights, Tensor):
            for place, modules, row in zip(self.places, self.operations, weights, strict=True):
                yield from ((*place, module, weight) for module, weight in zip(modules, row, strict=True))
            return
        for edge in sorted(weights, key=lambda edge: edge.target):
            modules = self.operations[self.places.index((edge.source, edge.target))]
            yield edge.source, edge.target, modules[self.names.index(edge.operation)], None


def _stride(source: int, reduction: bool) -> int:
    return 2 if reduction and source < INPUTS else 1


def _normalised(name: str, channels: int, stride: int) -> nn.Module:
    """Return an operation without BatchNorm weights; pooling gets a BatchNorm, so that no operation is larger."""
    module = operation(name, channels, stride, affine=False)
    return nn.Sequential(module, nn.BatchNorm2d(channels, affine=False)) if "pool" in name else module


class _Stack(nn.Module):
    """Stem, cells and classifier; the cells come from a function of a subclass."""

    def __init__(
        self, channels: int, cells: int, num_classes: int, outputs: int, *, stem: int, in_channels: int, affine: bool
    ) -> None:
        super().__init__()
        checks.counts(channels=channels, cells=cells, num_classes=num_classes, stem=stem, in_channels=in_channels)
        before = last = stem * channels
        self.conv1 = nn.Conv2d(in_channels, last, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(last)
        self.cells = nn.ModuleList()
        halved = False
        for index in range(cells):
            reduction = cells > 1 and index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            inputs = _Inputs(before, last, channels, halved, affine)
            self.cells.append(self._cell(inputs, channels, reduction))
            self.cells[-1].reduction = reduction
            before, last, halved = last, outputs * channels, reduction
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, num_classes)

    def _cell(self, inputs: nn.Module, channels: int, reduction: bool) -> nn.Module:
        raise NotImplementedError

    def _classified(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(x), 1))


class CellNetwork(_Stack):
    """The network of a genotype.

    Parameters
    ----------
    genotype : Genotype
        What its two kinds of cells are.
    channels : int, default 36
        Channels of a node in the first cells.
    cells : int, default 20
        Cells; those at one and at two thirds are reduction cells.
    num_classes : int, default 10
        Outputs of the last layer.
    stem : int, default 3
        The stem has this many times ``channels``.
    in_channels : int, default 3
        Channels of the images.
    generator : torch.Generator, optional
        Source of the initial weights (He et al. 2015); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If ``genotype`` is none, or a count is below 1.

    Examples
    --------
    >>> from compactvision import measure
    >>> from compactvision.models.cells import PUBLISHED
    >>> measure.parameters(CellNetwork(PUBLISHED["darts_v2"]))
    3349342
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int = 36,
        cells: int = 20,
        num_classes: int = 10,
        *,
        stem: int = 3,
        in_channels: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        if not isinstance(genotype, Genotype):
            raise ValueError(f"genotype must be a Genotype, got {checks.shown(genotype)}")
        object.__setattr__(self, "genotype", genotype)  # before nn.Module is ready: the cells are built from it
        outputs = len(genotype.outputs)
        super().__init__(channels, cells, num_classes, outputs, stem=stem, in_channels=in_channels, affine=True)
        self.genotype = genotype
        initialise_(self, generator)

    def _cell(self, inputs: nn.Module, channels: int, reduction: bool) -> nn.Module:
        return Cell(self.genotype.cell(reduction), self.genotype.outputs, inputs, channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        refuse_images(x, self.conv1)
        before = last = self.bn1(self.conv1(x))
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self._classified(last)


class SuperNetwork(_Stack):
    """All operations on all edges, with weights that every cell of the space shares.

    A call mixes them (DARTS) or runs one path (NAT). Its BatchNorms use the statistics of the batch, in training and
    in evaluation: running ones would be a mean over cells.

    Parameters
    ----------
    places : sequence of (source, target), optional
        Edges of a cell; by default all between two inputs and four nodes, :func:`dense_edges` of 4.
    operations : sequence of str, default the eight of DARTS
        What an edge may hold.
    channels, cells, num_classes, stem, in_channels, generator
        As in :class:`CellNetwork`; 16 channels and 8 cells by default.

    Raises
    ------
    ValueError
        For edges that make no cell, unknown or repeated operations, or a count below 1.

    Examples
    --------
    >>> from compactvision import measure
    >>> measure.parameters(SuperNetwork())
    1930618
    """

    def __init__(
        self,
        places: Places | None = None,
        operations: Sequence[str] = DARTS_OPERATIONS,
        channels: int = 16,
        cells: int = 8,
        num_classes: int = 10,
        *,
        stem: int = 3,
        in_channels: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        names = as_operations(operations)
        found = as_places(dense_edges(4) if places is None else places)
        object.__setattr__(self, "_kinds", (found, names))
        outputs = len({target for _, target in found})
        super().__init__(channels, cells, num_classes, outputs, stem=stem, in_channels=in_channels, affine=False)
        self.places, self.operations = found, names
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
        initialise_(self, generator)

    def _cell(self, inputs: nn.Module, channels: int, reduction: bool) -> nn.Module:
        return MixedCell(*self._kinds, inputs, channels, reduction)

    def forward(self, x: Tensor, normal: Weights, reduction: Weights) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes).

        Parameters
        ----------
        x : Tensor
            Images.
        normal, reduction : Tensor of shape (E, O), or sequence of Edge
            For the cells of each kind the weight of each operation on each edge, or the edges of one path.

        Raises
        ------
        ValueError
            For weights of another shape, or a path that the super-network does not hold.
        """
        refuse_images(x, self.conv1)
        normal, reduction = self._taken("normal", normal), self._taken("reduction", reduction)
        before = last = self.bn1(self.conv1(x))
        for cell in self.cells:
            before, last = last, cell(before, last, reduction if cell.reduction else normal)
        return self._classified(last)

    def _taken(self, name: str, weights: Weights) -> Weights:
        """Return a mixture as it is, and a path as edges that are here."""
        if isinstance(weights, Tensor):
            checks.floating(**{name: weights})
            wanted = (len(self.places), len(self.operations))
            if weights.shape != wanted:
                raise ValueError(f"{name} must have shape {wanted}, got {tuple(weights.shape)}")
            return weights
        edges = as_edges(weights, name)
        for index, edge in enumerate(edges):
            checks.one_of(self.operations, **{f"operation of {name}[{index}]": edge.operation})
            if (edge.source, edge.target) not in self.places:
                raise ValueError(f"{name}[{index}] must be an edge of the super-network, got {tuple(edge)}")
        missing = {target for _, target in self.places} - {edge.target for edge in edges}
        if missing:
            raise ValueError(f"{name} must lead to each node, got no edge to {sorted(missing)}")
        return edges
