"""Published cells: what searches found and what transformations made of them, as their authors' genotypes say."""

from __future__ import annotations

from compactvision.models.cells.genotype import Genotype

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
PUBLISHED = {"darts_v2": Genotype(_DARTS_V2, _DARTS_V2_REDUCTION)}
