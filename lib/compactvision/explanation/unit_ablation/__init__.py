"""Importance of single units by ablation (Zhou, Sun, Bau and Torralba 2018), in the paper's order.

Equation numbers are those of the chapter. The package's files: ``ablations`` (what is done to a layer's output),
``class_drops`` (what it costs, overall and class by class), ``attributes`` (what could be known without ablating) and
``pruning`` (the drops as an importance for ``surgery.make_plan``).
"""

from compactvision.explanation.heads import cache_layer
from compactvision.explanation.unit_ablation.class_drops import unit_drops
from compactvision.explanation.unit_ablation.pruning import importance

__all__ = ["cache_layer", "importance", "unit_drops"]
