"""Searching networks: what its papers share, and the papers; one module or package for each paper."""

from compactvision._lazy import lazy

__all__ = ["nat_plus_plus", "rarts", "small_cells"]
__getattr__, __dir__ = lazy(__name__, __all__)
