"""Searching the intrinsic dimensions of vision transformers :cite:p:`xue2022sidt`.

The package's files: ``selection`` (which dimensions stay, from their scores) and ``counts`` (parameters and
multiply-accumulates in closed form). Scores, masks and the cut itself are :mod:`compactvision.surgery`'s.
"""

from . import counts, selection

__all__ = ["counts", "selection"]
