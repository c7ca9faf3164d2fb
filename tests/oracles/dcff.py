"""Slow and plain: dynamic-coded filter fusion in Python's own numbers, one filter and one weight at a time."""

import math


def distances(filters):
    """Distances between lists of numbers, each by its own sum."""
    return [[math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True))) for b in filters] for a in filters]


def temperature(epoch, epochs, start, end, slope):
    """The schedule in the form of the published code, with its exponentials."""
    height = 2 * (end - start) * (1 + math.exp(-slope * epochs)) / (1 - math.exp(-slope * epochs))
    return height / (1 + math.exp(-slope * epoch)) + start - height / 2


def mixing(distances, temperature):
    """Each row a softmax over negative distances."""
    rows = []
    for row in distances:
        weights = [math.exp(-temperature * distance) for distance in row]
        rows.append([weight / sum(weights) for weight in weights])
    return rows


def divergence(p, q):
    """Kullback-Leibler divergence of two lists of positive weights."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def importance(rows):
    """Sum over all rows of the divergence from them."""
    return [sum(divergence(p, q) for q in rows) for p in rows]


def official(rows, previous, epsilon=1e-7):
    """A mean in place of the inner sum, a constant in the logarithm; a weight of 0 keeps the scores as they were."""
    scores = []
    for p in rows:
        total = 0.0
        for q in rows:
            terms = []
            for a, b in zip(p, q, strict=True):
                if a == 0:
                    return previous
                terms.append(a * math.log(a / (b + epsilon)))
            total += sum(terms) / len(terms)
        scores.append(total)
    return scores


def choose(scores, keep):
    """Take the largest again and again, the first of equal ones; indices in ascending order."""
    left, taken = list(range(len(scores))), []
    for _ in range(keep):
        best = left[0]
        for index in left:
            if scores[index] > scores[best]:
                best = index
        left.remove(best)
        taken.append(best)
    return sorted(taken)


def fuse(filters, rows, chosen):
    """Mix filters number by number."""
    return [
        [sum(rows[j][g] * filters[g][i] for g in range(len(filters))) for i in range(len(filters[0]))] for j in chosen
    ]


def in_place(chosen, before):
    """Chosen indices, those chosen before at their old places, the others ascending in what is left."""
    new = sorted(index for index in chosen if index not in before)
    return [index if index in chosen else new.pop(0) for index in before]
