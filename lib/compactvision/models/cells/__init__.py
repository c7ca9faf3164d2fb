"""Networks made of one repeated cell: operations by name, genotypes, discrete networks and super-networks."""

from compactvision.models.cells.costs import Cost, cost
from compactvision.models.cells.drawing import cell_svg, colour, short_name
from compactvision.models.cells.genotype import Edge, Genotype, dense_edges, discretise, replaced
from compactvision.models.cells.network import Cell, CellNetwork, MixedCell, SuperNetwork
from compactvision.models.cells.operations import DARTS_OPERATIONS, NAT_OPERATIONS, OPERATIONS, operation
from compactvision.models.cells.published import CONSISTENT, PUBLISHED

__all__ = [
    "CONSISTENT",
    "DARTS_OPERATIONS",
    "NAT_OPERATIONS",
    "OPERATIONS",
    "PUBLISHED",
    "Cell",
    "CellNetwork",
    "Cost",
    "Edge",
    "Genotype",
    "MixedCell",
    "SuperNetwork",
    "cell_svg",
    "colour",
    "cost",
    "dense_edges",
    "discretise",
    "operation",
    "replaced",
    "short_name",
]
