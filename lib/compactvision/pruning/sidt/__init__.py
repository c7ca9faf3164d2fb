"""SiDT: the intrinsic dimensions of a vision transformer, searched by scores :cite:p:`xue2022sidt`.

Every dimension inside a block gets a learnable score, training under an l1 penalty pushes the scores that the task does
not need to 0, and what has the lowest is cut, kind by kind::

    scored = surgery.insert_scores(model)  # scores of 1: nothing changes
    groups = training.parameter_groups(scored, score_rule(0.02))
    search = DimensionSearch(0.3)
    training.fit(scored, batches, optimizer=torch.optim.AdamW(groups), callbacks=[search], ...)
    keep = select(surgery.block_scores(scored), 0.4)
    small = surgery.cut_dimensions(scored, keep)  # scores folded into weights; then train on

Equation numbers are those of the chapter.
"""

from . import counts, selection, tasks, whole
from .rivals import weight_norms
from .search import DimensionSearch, score_rule
from .selection import random_of_same_widths, random_scores, same_widths, select

__all__ = [
    "DimensionSearch",
    "counts",
    "random_of_same_widths",
    "random_scores",
    "same_widths",
    "score_rule",
    "select",
    "selection",
    "tasks",
    "weight_norms",
    "whole",
]
