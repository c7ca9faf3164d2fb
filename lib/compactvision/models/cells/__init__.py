"""Networks made of one repeated cell: operations by name, genotypes, discrete networks and super-networks."""

from compactvision.models.cells.genotype import Edge, Genotype, dense_edges, discretise, replaced
from compactvision.models.cells.network import Cell, CellNetwork, MixedCell, SuperNetwork
from compactvision.models.cells.operations import DARTS_OPERATIONS, NAT_OPERATIONS, OPERATIONS, operation
from compactvision.models.cells.published import PUBLISHED

__all__ = [
    "DARTS_OPERATIONS",
    "NAT_OPERATIONS",
    "OPERATIONS",
    "PUBLISHED",
    "Cell",
    "CellNetwork",
    "Edge",
    "Genotype",
    "MixedCell",
    "SuperNetwork",
    "dense_edges",
    "discretise",
    "operation",
    "replaced",
]
