"""Compact Vision: the methods of fifteen papers on compact and explainable vision networks.

The sub-packages are floors; nothing imports upward: ``data``, ``models``, ``measure``, ``hooks`` stand below
``training``, that below ``surgery``, that below the papers' own families, and ``claims``, ``experiment``,
``plots`` and the command line stand on top.
"""

__version__ = "0.1.0"
