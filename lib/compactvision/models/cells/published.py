"""Published cells: what searches and people found, and what transformations made of them.

A cell stands in :data:`PUBLISHED` where its edges are known and its network has the published counts. In
:data:`CONSISTENT` stand cells of which a part is known and the rest is chosen so that both counts agree to the last
digit: they cost what the published ones cost, and may still be others.
"""

from __future__ import annotations

from collections.abc import Mapping

from compactvision.models.cells.genotype import Edge, Genotype
from compactvision.models.cells.operations import NONE, SKIP

_DARTS_V2_REDUCTION = [
    ("max_pool_3x3", 0, 2),
    ("max_pool_3x3", 1, 2),
    ("skip_connect", 2, 3),
    ("max_pool_3x3", 1, 3),
    ("max_pool_3x3", 0, 4),
    ("skip_connect", 2, 4),
    ("skip_connect", 2, 5),
    ("max_pool_3x3", 1, 5),
]
_DARTS_V2 = [
    ("sep_conv_3x3", 0, 2),
    ("sep_conv_3x3", 1, 2),
    ("sep_conv_3x3", 0, 3),
    ("sep_conv_3x3", 1, 3),
    ("sep_conv_3x3", 1, 4),
    ("skip_connect", 0, 4),
    ("skip_connect", 0, 5),
    ("dil_conv_3x3", 2, 5),
]
_VGG = [
    (NONE, 0, 2),
    (SKIP, 1, 2),
    (NONE, 0, 3),
    ("conv_3x3", 2, 3),
    (NONE, 0, 4),
    ("conv_3x3", 3, 4),
    (NONE, 0, 5),
    (SKIP, 4, 5),
]
_RESBLOCK = [*_VGG[:6], (SKIP, 2, 5), (SKIP, 4, 5)]
_MOBILENET_V2 = [
    (NONE, 0, 2),
    ("conv_1x1", 1, 2),
    (NONE, 0, 3),
    ("sep_conv_3x3", 2, 3),
    (NONE, 0, 4),
    ("conv_1x1", 3, 4),
    (SKIP, 1, 5),
    (SKIP, 4, 5),
]
_LAST = (5,)  # the only output of a block that people designed


def _with(edges: list, changes: Mapping[tuple[int, int], str]) -> list[Edge]:
    """Return edges with other operations from one node to another."""
    return [Edge(changes.get((source, target), name), source, target) for name, source, target in edges]


def _both(edges: list, reduction: Mapping[tuple[int, int], str], changes: Mapping[tuple[int, int], str]) -> Genotype:
    """Return a block whose reduction cell differs by ``reduction`` and of which both cells were changed alike."""
    return Genotype(_with(edges, changes), _with(edges, {**reduction, **changes}), _LAST)


_POOLED = {(4, 5): "max_pool_3x3"}  # VGG's blocks end in a pooling
_NO_SHORTCUT = {(1, 5): NONE}  # as in MobileNetV2, where the map is halved
PUBLISHED = {
    "darts_v2": Genotype(_DARTS_V2, _DARTS_V2_REDUCTION),
    "vgg": _both(_VGG, _POOLED, {}),
    "nat_vgg": _both(_VGG, _POOLED, {(0, 2): SKIP, (0, 5): SKIP}),
    "resblock": _both(_RESBLOCK, {}, {}),
    "nat_resblock": _both(_RESBLOCK, {}, {(0, 3): SKIP, (0, 4): SKIP}),
    "mobilenet_v2": _both(_MOBILENET_V2, _NO_SHORTCUT, {}),
    "nat_mobilenet_v2": _both(_MOBILENET_V2, _NO_SHORTCUT, {(0, 4): SKIP}),
}
_ONE = {(0, 2): SKIP}  # a pooling of the reduction cell that became a skip: one more than that in NAT's
CONSISTENT = {
    "nat_darts": Genotype(
        _with(_DARTS_V2, {(0, 3): SKIP, (1, 4): SKIP}), _with(_DARTS_V2_REDUCTION, {**_ONE, (1, 2): SKIP})
    ),
    "nat2_darts": Genotype(
        _with(_DARTS_V2, {(0, 3): NONE, (1, 3): SKIP, (1, 4): "dil_conv_3x3"}), _with(_DARTS_V2_REDUCTION, _ONE)
    ),
    "nat2_vgg": Genotype(
        _with(_VGG, {(0, 2): SKIP, (0, 5): SKIP, (3, 4): "sep_conv_3x3"}),
        _with(_VGG, {**_POOLED, (0, 2): SKIP, (0, 3): SKIP, (0, 5): SKIP, (3, 4): "sep_conv_3x3"}),
        _LAST,
    ),
    "nat2_resblock": Genotype(
        _with(_RESBLOCK, {(0, 3): SKIP, (0, 4): SKIP}),
        _with(_RESBLOCK, {(0, 2): SKIP, (0, 3): SKIP, (0, 4): SKIP, (3, 4): "sep_conv_3x3"}),
        _LAST,
    ),
    "nat2_mobilenet_v2": PUBLISHED["nat_mobilenet_v2"],
}
