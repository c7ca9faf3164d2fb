"""Unit ablation the slow way: the whole network for every unit, through a hook; statistics in plain loops, float64."""

import math

import numpy as np
import torch


def predictions(model, layer, edit, images):
    """Predicted classes (N,) of the whole model while `edit` replaces the layer's output; one image at a time."""

    def hook(module, inputs, output):
        return edit(output.clone())

    handle = model.get_submodule(layer).register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = [model(image[None])[0].double().numpy() for image in images]
    finally:
        handle.remove()
    return np.array([int(np.argmax(row)) for row in logits])  # the first of equal values


def zero_unit(unit):
    """Edit that sets one channel to zero."""

    def edit(output):
        output[:, unit] = 0
        return output

    return edit


def drops(base, predicted, targets, num_classes):
    """Overall drop (K,) and class drops (K, C) from predictions (N,) and (K, N), by counting."""
    overall, per_class = [], []
    for row in predicted:
        lost = 0
        of_class, lost_of_class = [0] * num_classes, [0] * num_classes
        for before, after, truth in zip(base, row, targets):
            change = int(before == truth) - int(after == truth)
            lost += change
            of_class[truth] += 1
            lost_of_class[truth] += change
        overall.append(lost / len(targets))
        per_class.append([b / a if a else math.nan for a, b in zip(of_class, lost_of_class)])
    return np.array(overall), np.array(per_class)


def unit_means(activation):
    """Mean of every unit's map (N, U)."""
    n, units = activation.shape[:2]
    result = np.zeros((n, units))
    for i in range(n):
        for u in range(units):
            values = np.asarray(activation[i, u], dtype=np.float64).ravel()
            result[i, u] = sum(values) / len(values)
    return result


def selectivity(means, targets, num_classes):
    """Morcos selectivity (U,) and preferred class (U,) from unit means (N, U)."""
    scores, preferred = [], []
    for u in range(means.shape[1]):
        averages = []
        for c in range(num_classes):
            values = [means[i, u] for i in range(len(targets)) if targets[i] == c]
            averages.append(sum(values) / len(values))
        best = max(range(num_classes), key=lambda c: averages[c])
        others = [averages[c] for c in range(num_classes) if c != best]
        rest = sum(others) / len(others)
        total = averages[best] + rest
        scores.append((averages[best] - rest) / total if total > 0 else 0.0)
        preferred.append(best)
    return np.array(scores), np.array(preferred)


def pearson(x, y):
    """Pearson's correlation of two sequences."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y))
    return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def ranks(values):
    """Ranks from 1; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (1 + ordered.count(value)) / 2 for value in values]


def rank_correlation(x, y):
    """Pearson's correlation of the ranks."""
    return pearson(ranks(x), ranks(y))


def mutual_information(values, targets, num_classes):
    """Bits between [value > median] and the class."""
    ordered = sorted(values)
    n = len(ordered)
    median = ordered[(n - 1) // 2]  # the lower one of two middle values
    joint = np.zeros((2, num_classes))
    for value, c in zip(values, targets):
        joint[int(value > median), c] += 1 / n
    bits = 0.0
    for b in range(2):
        for c in range(num_classes):
            if joint[b, c] > 0:
                bits += joint[b, c] * math.log2(joint[b, c] / (joint[b].sum() * joint[:, c].sum()))
    return bits


def iou(maps, masks, threshold):
    """Intersection over union, over all images, of {maps > threshold} with a mask; both (N, H, W)."""
    intersection = union = 0
    for image in range(maps.shape[0]):
        for y in range(maps.shape[1]):
            for x in range(maps.shape[2]):
                on = maps[image, y, x] > threshold
                intersection += int(on and masks[image, y, x])
                union += int(on or masks[image, y, x])
    return intersection / union if union else 0.0


def remove_direction(activation, direction, mean=None):
    """Take the part along a unit vector out of every position of (N, U, H, W)."""
    result = np.array(activation, dtype=np.float64)
    n, units, height, width = result.shape
    centre = np.zeros(units) if mean is None else mean
    for i in range(n):
        for y in range(height):
            for x in range(width):
                vector = result[i, :, y, x].copy()
                amount = sum(direction[u] * (vector[u] - centre[u]) for u in range(units))
                result[i, :, y, x] = vector - amount * np.asarray(direction)
    return result
