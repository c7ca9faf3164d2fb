"""AutoBot: gates that a frozen network learns to close until it meets a budget :cite:p:`castells2021autobot`.

Each channel that may go is multiplied by a gate in (0, 1), the sigmoid of a free number. Nothing else is trained. The
loss asks for three things at once: answers as good as before, so many operations, and gates at 0 or 1. The gates are an
importance for ``compactvision.surgery``::

    graph = surgery.channel_graph(model, (3, 32, 32), residual="scatter")
    learned = autobot.learn_gates(model, graph, batches, keep_macs=0.5)
    plan = surgery.make_plan(graph, learned, keep_macs=0.5, global_pruning=True)
    small = surgery.prune(model, plan)

Which layers are gated, and which share a gate, is what the graph's groups say. Equation numbers in here are those of
the chapter. The package's files: ``budget`` (operations as a function of the gates), ``learning``, and ``noise`` (the
ancestor's gates, for comparison).
"""

from . import noise
from .budget import budget_loss, count_operations
from .learning import LearnedGates, binary_loss, learn_gates

__all__ = ["LearnedGates", "binary_loss", "budget_loss", "count_operations", "learn_gates", "noise"]
