"""Networks and layers that are made small from the start; one module or package for each paper."""

from compactvision._lazy import lazy

__all__ = ["afidaf", "u_mixformer"]
__getattr__, __dir__ = lazy(__name__, __all__)
