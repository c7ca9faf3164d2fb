"""Detection, slowly: one box, one cell, one image after the other."""

import math


def iou(a, b):
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    tall = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall
    return wide * tall / union if union > 0 else 0.0


def giou(a, b):
    """Generalised intersection over union of two boxes."""
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    tall = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall
    return wide * tall / union - (hull - union) / hull


def focal(logit, target, alpha=0.25, gamma=2.0):
    """Focal loss of one logit."""
    p = 1 / (1 + math.exp(-logit))
    if target:
        return -alpha * (1 - p) ** gamma * math.log(p)
    return -(1 - alpha) * p**gamma * math.log(1 - p)


def owner(centre, stride, objects, radius=1.5):
    """Place of the object that a cell answers for, or -1; objects are rows (x0, y0, x1, y1, class)."""
    best, smallest = -1, math.inf
    for place, (x0, y0, x1, y1, number) in enumerate(objects):
        if number < 0 or not (x0 < centre[0] < x1 and y0 < centre[1] < y1):
            continue
        if max(abs(centre[0] - (x0 + x1) / 2), abs(centre[1] - (y0 + y1) / 2)) >= radius * stride:
            continue
        if (x1 - x0) * (y1 - y0) < smallest:
            best, smallest = place, (x1 - x0) * (y1 - y0)
    return best


def loss(logits, boxes, centres, strides, targets, alpha=0.25, gamma=2.0, radius=1.5):
    """Both summands of the detector's loss; arguments are nested lists."""
    classes = sides = count = 0.0
    for image, objects in enumerate(targets):
        for cell, centre in enumerate(centres):
            mine = owner(centre, strides[cell], objects, radius)
            for number, logit in enumerate(logits[image][cell]):
                classes += focal(logit, mine >= 0 and objects[mine][4] == number, alpha, gamma)
            if mine >= 0:
                count += 1
                sides += 1 - giou(boxes[image][cell], objects[mine][:4])
    return classes / max(count, 1), sides / max(count, 1)


def suppress(boxes, classes, overlap):
    """Greedy suppression of ranked boxes: which stay."""
    stay = []
    for place, box in enumerate(boxes):
        rivals = [other for other in stay if classes[other] == classes[place]]
        if all(iou(boxes[other], box) <= overlap for other in rivals):
            stay.append(place)
    return stay


def average_precision(predictions, targets, number, threshold, most=100):
    """Average precision of one class: predictions are lists of (score, box, class), targets of (box, class)."""
    ranked, total = [], 0
    for found, true in zip(predictions, targets, strict=True):
        boxes = [box for box, label in true if label == number]
        total += len(boxes)
        mine = sorted((each for each in found if each[2] == number), key=lambda each: -each[0])[:most]
        taken = set()
        for score, box, _ in mine:
            best, share = None, min(threshold, 1 - 1e-10)
            for place, other in enumerate(boxes):
                if place not in taken and iou(box, other) >= share:
                    best, share = place, iou(box, other)
            taken |= {best} if best is not None else set()
            ranked.append((score, best is not None))
    if total == 0:
        return math.nan
    ranked.sort(key=lambda each: -each[0])
    points, hits = [], 0
    for place, (_, right) in enumerate(ranked, 1):
        hits += right
        points.append((hits / total, hits / place))
    steps = [place * 0.01 for place in range(100)] + [1.0]
    return sum(max((p for r, p in points if r >= step), default=0.0) for step in steps) / 101
