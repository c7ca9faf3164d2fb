"""RARTS: relaxed architecture search with first-order gradients (Xue et al. 2022).

DARTS asks for an architecture whose *trained* weights do well on validation data, one problem inside another. RARTS
asks for one minimum: a second set of weights learns from the validation half, a spring ties the two sets together, and
both share one architecture::

    network = SuperNetwork()
    found = search(network, train_half, valid_half, passes=2000, coupling=1.0)
    small = CellNetwork(found.genotype)

:mod:`~compactvision.search.rarts.steps` has one iteration of RARTS and of its rivals for any two losses,
:mod:`~compactvision.search.rarts.solvable` the model that can be solved on paper,
:mod:`~compactvision.search.rarts.memoriser` the test of what the spring does,
:mod:`~compactvision.search.rarts.bench` rivals that train cells one by one. :func:`width_search` looks for channels in
place of operations. Equation numbers are those of the chapter.
"""

from . import bench, block, loop, memoriser, solvable, steps, width
from .block import Block
from .loop import search
from .steps import darts_, rarts_, single_level_
from .width import width_search

__all__ = [
    "Block",
    "bench",
    "block",
    "darts_",
    "loop",
    "memoriser",
    "rarts_",
    "search",
    "single_level_",
    "solvable",
    "steps",
    "width",
    "width_search",
]
