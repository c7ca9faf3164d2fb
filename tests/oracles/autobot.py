"""Slow and plain: operations, losses and threshold search of AutoBot in Python's own numbers, one gate at a time."""


def soft_operations(layers, gates):
    """Operations of a list of layers; each is (kind, gates read, gates written, output pixels, kernel elements).

    ``gates read`` and ``written`` are lists of indices into ``gates``, or a whole number of channels without gates.
    """
    total = 0.0
    for kind, read, written, pixels, kernel in layers:
        width_in, width_out = width(read, gates), width(written, gates)
        if kind == "conv":
            for _ in range(kernel):
                total += width_in * width_out * pixels
        elif kind == "linear":
            total += width_in * width_out
        elif kind == "norm":
            total += 2 * width_in * pixels
        elif kind == "average":
            total += width_out * pixels
        elif kind == "adaptive":
            total += (kernel + 1) * width_out * pixels
    return total


def width(channels, gates):
    """Sum of gates, one by one; or the number of channels where they have none."""
    if isinstance(channels, int):
        return channels
    total = 0.0
    for index in channels:
        total += gates[index]
    return total


def budget_loss(flops, target, whole):
    """How far the operations are from the budget."""
    if flops > target:
        return (flops - target) / (whole - target)
    return 1 - flops / target


def binary_loss(layers):
    """Mean over layers of the mean distance to the nearer of 0 and 1."""
    means = []
    for gates in layers:
        distances = [min(gate, 1 - gate) for gate in gates]
        means.append(sum(distances) / len(distances))
    return sum(means) / len(means)


def best_keep_set(layers, cost, target):
    """Try every threshold; the largest set within the budget. The largest gate of each layer always stays.

    ``cost`` maps lists of bools, one list a layer, to operations. Returns the lists, or None where nothing fits.
    """
    thresholds = [-1.0, *sorted({gate for gates in layers for gate in gates})]
    for threshold in thresholds:
        kept = [keep_set(gates, threshold) for gates in layers]
        if cost(kept) <= target:
            return kept
    return None


def keep_set(gates, threshold):
    """Which gates are above the threshold; if none is, the first of the largest."""
    kept = [gate > threshold for gate in gates]
    kept[gates.index(max(gates))] = True
    return kept


def published_search(cost, target, tolerance, rounds):
    """Thresholds that the published search visits, in order."""
    threshold, delta, visited = 0.5, 0.25, [0.5]
    for _ in range(rounds):
        found = cost(threshold)
        if abs(found - target) <= tolerance:
            break
        threshold = threshold + delta if found > target else threshold - delta
        delta /= 2
        visited.append(threshold)
    return visited


def sigmoid_adam(gradients, start, rate, steps):
    """One gate under Adam with PyTorch's defaults; ``gradients(gate)`` is the derivative for the gate. Gates used."""
    from math import exp, log, sqrt

    logit, first, second, path = log(start / (1 - start)), 0.0, 0.0, []
    for step in range(1, steps + 1):
        gate = 1 / (1 + exp(-logit))
        path.append(gate)
        slope = gradients(gate) * gate * (1 - gate)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope * slope
        logit -= rate * (first / (1 - 0.9**step)) / (sqrt(second / (1 - 0.999**step)) + 1e-8)
    return path
