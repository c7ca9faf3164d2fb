"""NAT++ written out slowly: the table of moves by hand, a softmax entry by entry, rewards by enumeration."""

import itertools
import math

KERNELS = {
    "conv": (5, 3, 1),
    "sep_conv": (5, 3),
    "dil_conv": (5, 3),
    "max_pool": (5, 3),
    "avg_pool": (5, 3),
}
END = ("skip_connect", "none")
TABLE = {  # the published table, line by line
    "conv_5x5": (
        "conv_5x5 conv_3x3 conv_1x1 sep_conv_5x5 sep_conv_3x3 dil_conv_5x5 dil_conv_3x3 "
        "max_pool_5x5 max_pool_3x3 avg_pool_5x5 avg_pool_3x3 skip_connect none"
    ),
    "conv_3x3": "conv_3x3 conv_1x1 sep_conv_3x3 dil_conv_3x3 max_pool_3x3 avg_pool_3x3 skip_connect none",
    "conv_1x1": "conv_1x1 skip_connect none",
    "sep_conv_5x5": (
        "sep_conv_5x5 sep_conv_3x3 dil_conv_5x5 dil_conv_3x3 max_pool_5x5 max_pool_3x3 avg_pool_5x5 avg_pool_3x3 "
        "skip_connect none"
    ),
    "sep_conv_3x3": "sep_conv_3x3 dil_conv_3x3 max_pool_3x3 avg_pool_3x3 skip_connect none",
    "dil_conv_5x5": ("dil_conv_5x5 dil_conv_3x3 max_pool_5x5 max_pool_3x3 avg_pool_5x5 avg_pool_3x3 skip_connect none"),
    "dil_conv_3x3": "dil_conv_3x3 max_pool_3x3 avg_pool_3x3 skip_connect none",
    "avg_pool_5x5": "avg_pool_5x5 avg_pool_3x3 max_pool_5x5 max_pool_3x3 skip_connect none",
    "max_pool_5x5": "avg_pool_5x5 avg_pool_3x3 max_pool_5x5 max_pool_3x3 skip_connect none",
    "avg_pool_3x3": "avg_pool_3x3 max_pool_3x3 skip_connect none",
    "max_pool_3x3": "avg_pool_3x3 max_pool_3x3 skip_connect none",
    "skip_connect": "skip_connect none",
    "none": "skip_connect none",
}


def pairs():
    """Return all (operation, what it may become)."""
    return {(name, other) for name, line in TABLE.items() for other in line.split()}


def masked_softmax(logits, mask):
    """Return probabilities, one number after the other; ``mask`` is a list of 0 and 1."""
    top = max(z for z, m in zip(logits, mask, strict=True) if m)
    weights = [math.exp(z - top) if m else 0.0 for z, m in zip(logits, mask, strict=True)]
    return [w / sum(weights) for w in weights]


def entropy(p):
    """Return the entropy in nats."""
    return -sum(x * math.log(x) for x in p if x > 0)


def logits_of(policy, cell, places):
    """Return the logits of a graph policy, node by node: lists of numbers, no matrices of nodes."""
    size = policy.embedding.weight.shape[1]
    nodes = 2 + len(places) // 2
    arriving = {t: [i for i, place in enumerate(places) if place[1] == t] for t in range(2, nodes)}
    features = [policy.inputs[0], policy.inputs[1]]
    for t in range(2, nodes):
        one, other = (policy.embedding.weight[cell[i]] for i in arriving[t])
        features.append(policy.inputs.new_zeros(2 * size))
        features[-1] = features[-1].clone()
        features[-1][:size], features[-1][size:] = one, other
    x = [policy.lift.weight @ f + policy.lift.bias for f in features]
    for layer, last in ((policy.first, False), (policy.second, True)):
        mixed = []
        for t in range(nodes):
            heard = [x[places[i][0]] for i in arriving.get(t, [])] + ([x[t]] if policy.self_loops else [])
            total = sum(heard) if heard else x[t] * 0
            total = total / len(heard) if policy.self_loops else total
            mixed.append(layer.weight @ total + layer.bias)
        x = mixed if last else [m.clamp_min(0) for m in mixed]
    rows = {}
    for t in range(2, nodes):
        both = policy.last.weight @ x[t] + policy.last.bias
        for k, i in enumerate(arriving[t]):
            rows[i] = both[k * len(policy.operations) : (k + 1) * len(policy.operations)]
    return [rows[i] for i in range(len(places))]


def expected_reward(logits, mask, reward):
    """Return the mean of ``reward(actions)`` over all actions, weighted by their probability."""
    rows = [masked_softmax(z, m) for z, m in zip(logits, mask, strict=True)]
    return sum(
        math.prod(row[a] for row, a in zip(rows, actions, strict=True)) * reward(actions)
        for actions in itertools.product(*[[j for j, m in enumerate(row) if m] for row in mask])
    )


def toy_reward(names, own, strength, redundant, chain, beside):
    """Return the value of a cell (0 to 2, 1 to 2, 1 to 3, 2 to 3) of the toy; ``own[edge][name]`` are small numbers."""

    def worth(edge):
        return 0.0 if names[edge] == "none" else own[edge][names[edge]] + strength.get(names[edge], 0.0)

    def pair(one, other):
        a, b = (strength.get(names[edge], 0.0) for edge in (one, other))
        value = -redundant * a * b
        value += beside * b if names[one] == "skip_connect" else 0.0
        return value + (beside * a if names[other] == "skip_connect" else 0.0)

    total = worth(0) + worth(1) + worth(2) + pair(0, 1)
    if names[0] == names[1] == "none":  # node 2 is zeros: what reads it gives nothing
        return total
    before = max(strength.get(names[0], 0.0), strength.get(names[1], 0.0))
    return total + worth(3) + chain * strength.get(names[3], 0.0) * before + pair(2, 3)
