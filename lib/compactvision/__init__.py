"""Compact Vision: the methods of fifteen papers on compact and explainable vision networks.

The sub-packages are floors; nothing imports upward: ``data``, ``models``, ``measure``, ``hooks`` stand below
``training``, that below ``surgery``, that below the papers' own families, and ``claims``, ``experiment``,
``plots``, ``toy_plane``, ``shrinking``, ``chapter`` and the command line stand on top. Each loads when it is first
used. :func:`compress` makes a network of your own smaller.
"""

from compactvision._lazy import lazy

__version__ = "0.1.0"
__all__ = [
    "architectures",
    "chapter",
    "claims",
    "data",
    "experiment",
    "explanation",
    "factorization",
    "hooks",
    "measure",
    "models",
    "plots",
    "proximal",
    "pruning",
    "queue",
    "records",
    "search",
    "shrinking",
    "surgery",
    "toy_plane",
    "training",
]
__getattr__, __dir__ = lazy(__name__, __all__, {"compress": "shrinking"})
__all__ += ["compress"]
