"""Searching networks: a module or package for each paper, and ``small_cells``, the bench that they share."""

from compactvision._lazy import lazy

__all__ = ["nat_plus_plus", "rarts"]
__getattr__, __dir__ = lazy(__name__, __all__)
