"""Methods that explain what a network does; one module or package for each paper."""

from compactvision._lazy import lazy

__all__ = ["unit_ablation", "xgrad_cam"]
__getattr__, __dir__ = lazy(__name__, __all__)
