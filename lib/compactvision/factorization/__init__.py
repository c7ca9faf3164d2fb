"""Methods that write kernels as products of smaller ones; one module or package for each paper."""

from compactvision._lazy import lazy

__all__ = ["collaborative_compression"]
__getattr__, __dir__ = lazy(__name__, __all__)
