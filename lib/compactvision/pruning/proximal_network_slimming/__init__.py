"""Proximal network slimming: scales of BatchNorm that training itself sets to zero :cite:p:`bui2023proximal`.

Network slimming :cite:p:`liu2017slimming` punishes the scale ``gamma`` of every BatchNorm channel by its absolute value
and cuts channels with small scales afterwards. Its sub-gradient steps never give an exact zero. Here each scale has a
copy ``xi``, tied to it by a quadratic; the copy takes proximal steps, which do give zeros, and pulls the scale along::

    slimming = ProximalSlimming(penalty=0.0045, beta=100.0)
    training.fit(model, batches, optimizer=optimizer, callbacks=[slimming], ...)
    graph = behind_scales(surgery.channel_graph(model, (3, 32, 32)))
    plan = surgery.make_plan(graph, slimming.importance, keep_above=0.0)
    small = surgery.prune(model, plan)  # or fold_shifts(model, plan)

The formulas stand in :mod:`~compactvision.pruning.proximal_network_slimming.steps`. Equation numbers are those of the
chapter.
"""

from . import steps
from .callbacks import NetworkSlimming, ProximalSlimming
from .shifts import behind_scales, fold_shifts, scales_at_zero

__all__ = ["NetworkSlimming", "ProximalSlimming", "behind_scales", "fold_shifts", "scales_at_zero", "steps"]
