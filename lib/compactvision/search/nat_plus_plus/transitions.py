"""Which operation may replace which: 77 pairs out of two orders, one of types and one of kernel sizes.

A move may lower the type, the kernel, or both, and raises neither. That is the two-level rule of NAT++; NAT allows to
keep an operation, to skip, or to take it away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.models.cells import NAT_OPERATIONS, Edge, cost
from compactvision.models.cells.genotype import as_edges
from compactvision.models.cells.operations import NONE, SKIP, as_operations

from .arguments import ruled

TYPES = (("conv",), ("sep_conv",), ("dil_conv",), ("max_pool", "avg_pool"))  # from the dearest; a swap is no move
FREE = (SKIP, NONE)  # below all of them, and each may become the other


def kind(name: str) -> tuple[int, int]:
    """Return type and kernel of an operation: 0 is the dearest type; a skip and *none* come last, with kernel 0.

    Examples
    --------
    >>> kind("conv_5x5"), kind("avg_pool_3x3"), kind("none")
    ((0, 5), (3, 3), (4, 0))
    """
    checks.one_of(NAT_OPERATIONS, name=name)
    if name in FREE:
        return len(TYPES), 0
    stem, kernel = name.rsplit("_", 1)
    return next(level for level, stems in enumerate(TYPES) if stem in stems), int(kernel[-1])


def may_become(source: str, target: str) -> bool:
    """Return whether NAT++ lets one operation become another.

    Only a plain convolution has a kernel of 1 x 1; that it would be cheaper does not make it a target of the others.

    Examples
    --------
    >>> may_become("sep_conv_5x5", "dil_conv_3x3"), may_become("dil_conv_3x3", "sep_conv_3x3")
    (True, False)
    """
    checks.one_of(NAT_OPERATIONS, source=source, target=target)
    (source_type, source_kernel), (target_type, target_kernel) = kind(source), kind(target)
    return source_type <= target_type and source_kernel >= target_kernel


def allowed(name: str, operations: Sequence[str] = NAT_OPERATIONS) -> tuple[str, ...]:
    """Return what an operation may become, itself among it, in the order of ``operations``: the set C(o).

    Examples
    --------
    >>> allowed("conv_1x1")
    ('skip_connect', 'conv_1x1', 'none')
    """
    checks.one_of(NAT_OPERATIONS, name=name)
    return tuple(other for other in as_operations(operations) if may_become(name, other))


def allowed_by_nat(name: str, operations: Sequence[str] = NAT_OPERATIONS) -> tuple[str, ...]:
    """Return what NAT of 2019 lets an operation become: itself, a skip or *none*.

    Examples
    --------
    >>> allowed_by_nat("conv_3x3"), allowed_by_nat("none")
    (('skip_connect', 'conv_3x3', 'none'), ('skip_connect', 'none'))
    """
    checks.one_of(NAT_OPERATIONS, name=name)
    return tuple(other for other in as_operations(operations) if other in (name, *FREE))


def mask(edges: Sequence[Edge], operations: Sequence[str] = NAT_OPERATIONS, *, rule=allowed) -> Tensor:
    """Return for each edge which operations it may take, as booleans of shape (E, O).

    Parameters
    ----------
    edges : sequence of Edge
        A cell.
    operations : sequence of str, default the 13 of NAT++
        The columns.
    rule : function of 2 arguments, default :func:`allowed`
        From an operation and the columns to those that it may become.

    Raises
    ------
    ValueError
        If an edge's operation is none of the columns.
    """
    checks.functions(2, rule=rule)
    found, columns = as_edges(edges), as_operations(operations)
    checks.one_of(columns, **{f"operation of edges[{index}]": edge.operation for index, edge in enumerate(found)})
    rows = {edge.operation: ruled(rule, edge.operation, columns) for edge in found}
    return torch.tensor([[name in rows[edge.operation] for name in columns] for edge in found])


def dearer(source: str, target: str, stride: int = 1) -> bool:
    """Return whether a move costs more multiply-accumulates than what it replaces.

    At a stride of 1 the only such move is from *none* to a skip; where the map is halved a skip has weights, and is
    dearer than a pooling, too.

    Examples
    --------
    >>> dearer("none", "skip_connect"), dearer("max_pool_3x3", "skip_connect", stride=2)
    (True, True)
    """
    checks.one_of(NAT_OPERATIONS, source=source, target=target)
    return cost(target, stride=stride).macs > cost(source, stride=stride).macs
