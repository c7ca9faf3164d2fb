"""Pruning by explaining: units that little relevance flows through go first :cite:p:`yeom2021lrp`.

Layer-wise relevance propagation hands the score of a class back through the network, layer by layer: each unit passes
on what it has got to its inputs, in proportion to what each of them contributed. Rules say what "contributed" means.
Equation numbers in here are those of the chapter.

:func:`lrp` returns an importance for ``compactvision.surgery``; what it adds up, :func:`relevance` finds for one batch,
by the rules in :mod:`~compactvision.pruning.lrp_pruning.rules`::

    plan = surgery.make_plan(graph, lrp(batches), keep_macs=0.6, global_pruning=True)
"""

from . import rules
from .importance import lrp
from .propagation import relevance

__all__ = ["lrp", "relevance", "rules"]
