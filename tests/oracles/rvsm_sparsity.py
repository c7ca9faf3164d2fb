"""Slow and plain: relaxed variable splitting with loops over single numbers, in Python's floats (float64)."""

import math


def proximal_copy(w, regulariser, penalty, beta, a=1.0):
    """The best copy of one number, from the closed formulas, written out for one number."""
    kappa, size, sign = penalty / beta, abs(w), (w > 0) - (w < 0)
    if regulariser == "l1":
        return sign * max(size - kappa, 0.0)
    if regulariser == "l0":
        return w if size * size > 2 * kappa else 0.0
    critical = a * a / (2 * (a + 1))
    limit = kappa * (a + 1) / a if kappa <= critical else math.sqrt(2 * kappa * (a + 1)) - a / 2
    if size <= limit:
        return 0.0
    angle = math.acos(max(-1.0, min(1.0, 1 - 27 * kappa * a * (a + 1) / (2 * (a + size) ** 3))))
    return sign * (2 / 3 * (a + size) * math.cos(angle / 3) - 2 * a / 3 + size / 3)


def gradients(inputs, labels, weight, bias):
    """Mean cross-entropy of a linear classifier, and its gradients, sample by sample."""
    classes, features = len(weight), len(weight[0])
    loss, of_weight, of_bias = 0.0, [[0.0] * features for _ in range(classes)], [0.0] * classes
    for x, label in zip(inputs, labels, strict=True):
        logits = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        highest = max(logits)
        total = sum(math.exp(value - highest) for value in logits)
        loss -= (logits[label] - highest - math.log(total)) / len(inputs)
        for c in range(classes):
            error = (math.exp(logits[c] - highest) / total - (c == label)) / len(inputs)
            of_bias[c] += error
            for k in range(features):
                of_weight[c][k] += error * x[k]
    return loss, of_weight, of_bias


def train(batches, weight, bias, regulariser, penalty, beta, a, learning_rate, momentum, epochs, start=0):
    """Stochastic gradient descent with momentum on a linear classifier; returns weight, bias and the copies."""
    weight, bias = [row[:] for row in weight], bias[:]
    speed = [[0.0] * len(row) for row in weight]
    bias_speed = [0.0] * len(bias)
    for epoch in range(epochs):
        for inputs, labels in batches:
            _, of_weight, of_bias = gradients(inputs, labels, weight, bias)
            for c, row in enumerate(weight):
                for k, w in enumerate(row):
                    pull = 0.0
                    if epoch >= start:
                        pull = beta * (w - proximal_copy(w, regulariser, penalty, beta, a))
                    speed[c][k] = momentum * speed[c][k] + of_weight[c][k] + pull
                bias_speed[c] = momentum * bias_speed[c] + of_bias[c]
            for c, row in enumerate(weight):
                for k in range(len(row)):
                    row[k] -= learning_rate * speed[c][k]
                bias[c] -= learning_rate * bias_speed[c]
    copies = [[proximal_copy(w, regulariser, penalty, beta, a) for w in row] for row in weight]
    return weight, bias, copies


def objective(loss, w, u, regulariser, penalty, beta, a=1.0):
    """Loss, regulariser and tie of two lists of numbers."""
    price = {
        "l0": lambda v: float(v != 0),
        "l1": abs,
        "transformed_l1": lambda v: (a + 1) * abs(v) / (a + abs(v)),
    }[regulariser]
    return loss + penalty * sum(map(price, u)) + beta / 2 * sum((p - q) ** 2 for p, q in zip(w, u, strict=True))
