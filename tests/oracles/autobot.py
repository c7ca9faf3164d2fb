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


def threshold_search(gates, layers, cost, target):
    """Try every threshold from below; the largest set within the budget. The largest gate of each layer always stays.

    ``gates`` maps units to numbers, ``layers`` are lists of units, ``cost`` maps a dict of unit to bool to operations.
    Returns that dict and the threshold, or None twice where nothing fits.
    """
    for threshold in [-1.0, *sorted(set(gates.values()))]:
        kept = {unit: gate > threshold for unit, gate in gates.items()}
        for units in layers:
            kept[max(units, key=lambda unit: gates[unit])] = True
        if cost(kept) <= target:
            return kept, threshold
    return None, None


def sigmoid_adam(gradients, start, learning_rate, steps):
    """One gate under Adam with PyTorch's defaults; ``gradients(gate)`` is the derivative for the gate. Gates used."""
    from math import exp, log, sqrt

    logit, first, second, path = log(start / (1 - start)), 0.0, 0.0, []
    for step in range(1, steps + 1):
        gate = 1 / (1 + exp(-logit))
        path.append(gate)
        slope = gradients(gate) * gate * (1 - gate)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope * slope
        logit -= learning_rate * (first / (1 - 0.9**step)) / (sqrt(second / (1 - 0.999**step)) + 1e-8)
    return path
