"""Layers that hold factors of a kernel and compute from them, and the networks that have them.

Every layer equals the dense one with its rebuilt ``kernel()``; arithmetic and parameters are those of the factors.
"""

from compactvision.models.factorised.base import FactorisedConv2d, FactorisedLinear
from compactvision.models.factorised.factors import Factorised
from compactvision.models.factorised.replace import with_layers
from compactvision.models.factorised.svd_layers import SVDConv2d
from compactvision.models.factorised.trains import feasible_ranks, tt_parameters, tt_svd, tt_tensor
from compactvision.models.factorised.tt_layers import TTConv2d, TTLinear, from_modes, to_modes

__all__ = [
    "Factorised",
    "FactorisedConv2d",
    "FactorisedLinear",
    "SVDConv2d",
    "TTConv2d",
    "TTLinear",
    "feasible_ranks",
    "from_modes",
    "to_modes",
    "tt_parameters",
    "tt_svd",
    "tt_tensor",
    "with_layers",
]
