"""Methods that remove weights, filters or blocks; one module or package for each paper."""

from compactvision._lazy import lazy

__all__ = [
    "autobot",
    "dcff",
    "energy_aware_pruning",
    "lrp_pruning",
    "proximal_network_slimming",
    "rvsm_sparsity",
    "sidt",
]
__getattr__, __dir__ = lazy(__name__, __all__)
