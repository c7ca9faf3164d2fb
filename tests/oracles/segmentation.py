"""Slow, plain versions of the scores of label maps, pixel by pixel."""

import math


def mean_iou(predicted, targets, num_classes, ignore=None):
    """Sets of pixels of each class; classes in neither are left out."""
    pixels = [
        (place, said, true)
        for place, (said, true) in enumerate(zip(predicted.flatten().tolist(), targets.flatten().tolist(), strict=True))
        if true != ignore
    ]
    found = []
    for number in range(num_classes):
        ours = {place for place, said, _ in pixels if said == number}
        theirs = {place for place, _, true in pixels if true == number}
        if ours | theirs:
            found.append(len(ours & theirs) / len(ours | theirs))
    return sum(found) / len(found)


def boundary_f1(predicted, targets, number, tolerance, ignore=None):
    """One class, over a list of images."""
    ours_near = ours_all = theirs_near = theirs_all = 0
    for said, true in zip(predicted.tolist(), targets.tolist(), strict=True):
        ours = _boundary(said, true, number, ignore)
        theirs = _boundary(true, true, number, ignore)
        ours_near += sum(_near(pixel, theirs, tolerance) for pixel in ours)
        theirs_near += sum(_near(pixel, ours, tolerance) for pixel in theirs)
        ours_all += len(ours)
        theirs_all += len(theirs)
    if ours_all + theirs_all == 0:
        return math.nan
    if ours_near == 0 or theirs_near == 0:
        return 0.0
    precision, recall = ours_near / ours_all, theirs_near / theirs_all
    return 2 * precision * recall / (precision + recall)


def iou_of_objects(predicted, targets, number, edges, ignore=None):
    """One class over a list of images: one IoU for each range of sizes."""
    hits, union = [0] * (len(edges) + 1), [0] * (len(edges) + 1)
    for image, (said, true) in enumerate(zip(predicted.tolist(), targets.tolist(), strict=True)):
        objects = _pieces(true, number)
        if not objects:
            continue
        rows = [sum(len(piece) >= edge for edge in edges) for piece in objects]
        for piece, row in zip(objects, rows, strict=True):
            union[row] += len(piece)
            hits[row] += sum(said[y][x] == number for y, x in piece)
        for y, line in enumerate(said):
            for x, label in enumerate(line):
                if label == number and true[y][x] not in (number, ignore):
                    distances = [min((y - v) ** 2 + (x - u) ** 2 for v, u in piece) for piece in objects]
                    nearest = {rows[place] for place, far in enumerate(distances) if far == min(distances)}
                    if len(nearest) > 1:
                        raise AmbiguousError(image, y, x)
                    union[nearest.pop()] += 1
    return [part / whole if whole else math.nan for part, whole in zip(hits, union, strict=True)]


class AmbiguousError(Exception):
    """A wrong pixel is as near to objects of two sizes."""


def _boundary(labels, true, number, ignore):
    height, width = len(labels), len(labels[0])
    found = set()
    for y in range(height):
        for x in range(width):
            if labels[y][x] != number or true[y][x] == ignore:
                continue
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < height and 0 <= u < width
                if inside and true[v][u] != ignore and labels[v][u] != number:
                    found.add((y, x))
    return found


def _near(pixel, others, tolerance):
    return any(max(abs(pixel[0] - y), abs(pixel[1] - x)) <= tolerance for y, x in others)


def _pieces(labels, number):
    left = {(y, x) for y, line in enumerate(labels) for x, label in enumerate(line) if label == number}
    found = []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            for beside in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if beside in left:
                    left.remove(beside)
                    edge.append(beside)
        found.append(piece)
    return found
