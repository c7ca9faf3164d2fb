"""NAT and NAT++: a policy that replaces operations of a cell by ones that cost no more :cite:p:`guo2021natpp`.

Which operation may replace which follows from two orders (:mod:`~.transitions`); a softmax over the allowed ones gives
probabilities (:mod:`~.softmax`); a graph network looks at the cell (:mod:`~.policy`) and learns from rewards
(:mod:`~.learning`) that a super-network with shared weights gives (:mod:`~.phases`)::

    policy = GraphPolicy(network.operations)
    weights_phase(network, sgd, some_batches, source)
    policy_phase(policy, adam, network, other_batches, source, MovingBaseline())
    pair, value = transform(policy, (normal, reduction), held_out_accuracy)

:mod:`~.controls` holds what needs no policy, :mod:`~.toy` a world in which the optimum is known.
"""

from . import controls, learning, phases, policy, softmax, toy, training, transitions
from .learning import MovingBaseline
from .phases import policy_phase, transform, weights_phase
from .policy import GraphPolicy

__all__ = [
    "GraphPolicy",
    "MovingBaseline",
    "controls",
    "learning",
    "phases",
    "policy",
    "policy_phase",
    "softmax",
    "toy",
    "training",
    "transform",
    "transitions",
    "weights_phase",
]
