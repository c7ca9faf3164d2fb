"""Average precision against a slow oracle, torchmetrics where it is installed, and what must always hold."""

import math

import numpy as np
import pytest
import torch
from compactvision import measure
from compactvision.measure import Detections, average_precision, matching

from oracles import detection as oracle


def some(seed, *, images=12, classes=3, most=10, whole=False):
    """Random detections, most of them near a true box, and the true boxes; whole numbers make ties."""
    draw = torch.Generator().manual_seed(seed)

    def boxes(count):
        corner, sides = torch.rand(count, 2, generator=draw) * 60, torch.rand(count, 2, generator=draw) * 40 + 2
        return torch.cat([corner, corner + sides], 1)

    found, true = [], []
    for _ in range(images):
        objects, count = (int(torch.randint(0, most + 1, (), generator=draw)) for _ in range(2))
        here, label = boxes(objects), torch.randint(0, classes, (objects,), generator=draw)
        there, guess = boxes(count), torch.randint(0, classes + 1, (count,), generator=draw)
        if objects and count:
            pick = torch.randint(0, objects, (count,), generator=draw)
            moved = here[pick] + torch.randn(count, 4, generator=draw) * 3
            moved = torch.cat([moved[:, :2].minimum(moved[:, 2:]), moved[:, :2].maximum(moved[:, 2:])], 1)
            near = torch.rand(count, generator=draw) < 0.7
            there, guess = moved.where(near[:, None], there), label[pick].where(near, guess)
        scores = torch.rand(count, generator=draw)
        if whole:
            here, there, scores = here.round(), there.round(), (scores * 8).round() / 8
        found.append(Detections(there, scores, guess))
        true.append(torch.cat([here, label[:, None].float()], 1))
    return found, true


def as_lists(found, true):
    predictions = [[(float(s), b.double().tolist(), int(c)) for b, s, c in zip(*each, strict=True)] for each in found]
    return predictions, [[(row[:4].double().tolist(), int(row[4])) for row in each] for each in true]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_oracle(seed, whole, monkeypatch):
    monkeypatch.setattr(matching, "AT_ONCE", 60)  # many chunks
    found, true = some(seed, whole=whole)
    table = average_precision(found, true, num_classes=4, most=6).table
    lists = as_lists(found, true)
    for row, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
        for number in range(4):
            expected = oracle.average_precision(*lists, number, threshold, most=6)
            assert float(table[row, number]) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert table[:, 3].isnan().all()  # a class that was only predicted


@pytest.mark.parametrize("seed", range(6))
def test_equals_torchmetrics(seed):
    detection = pytest.importorskip("torchmetrics.detection")
    pytest.importorskip("pycocotools")
    found, true = some(seed, whole=seed % 2 == 1)
    ours = average_precision(found, true)
    theirs = detection.MeanAveragePrecision(
        class_metrics=True,
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),  # its own defaults are rounded to float32
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    theirs.update(
        [{"boxes": each.boxes, "scores": each.scores, "labels": each.classes} for each in found],
        [{"boxes": each[:, :4], "labels": each[:, 4].long()} for each in true],
    )
    values = theirs.compute()
    numbers = ours.numbers()
    for name, value in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75")):
        assert numbers[name] == pytest.approx(float(values[value]), abs=1e-6)
    for number, value in zip(values["classes"].tolist(), values["map_per_class"].tolist(), strict=True):
        if value >= 0:
            assert float(ours.by_class[number]) == pytest.approx(value, abs=1e-6)


STORED = {  # (ap, ap50, ap75) that torchmetrics 1.9 with pycocotools gives for some(seed), as above
    0: [0.049750153, 0.137577355, 0.036933694],
    1: [0.059273072, 0.183181345, 0.019036867],
    2: [0.058849927, 0.175974339, 0.027654579],
}


@pytest.mark.parametrize("seed", sorted(STORED))
def test_equals_what_torchmetrics_gave(seed):
    assert list(average_precision(*some(seed)).numbers().values()) == pytest.approx(STORED[seed], abs=1e-6)


def test_by_hand():
    true = [torch.tensor([[0.0, 0, 10, 10, 0], [20, 20, 30, 30, 0], [40, 40, 50, 50, 0]])]
    boxes = torch.tensor([[0.0, 0, 10, 10], [60, 60, 70, 70], [20, 20, 30, 26]])  # right, wrong, IoU 0.6
    found = [Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 0]))]
    ours = average_precision(found, true)
    # recall 1/3 at precision 1 (recalls 0 to 0.33: 34 of them), 2/3 at precision 2/3 (0.34 to 0.66: 33)
    assert ours.at(0.5) == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert ours.at(0.6) == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert ours.at(0.65) == pytest.approx(34 / 101)
    assert ours.mean == pytest.approx((3 * (34 + 22) + 7 * 34) / 1010)
    with pytest.raises(ValueError, match=r"threshold must be one of 0.5, 0.55, .* got 0.52"):
        ours.at(0.52)


def perfect(true):
    return [Detections(each[:, :4], torch.linspace(1, 0.5, len(each)), each[:, 4].long()) for each in true]


def test_perfect_is_one_and_nothing_is_zero():
    _, true = some(1)
    assert average_precision(perfect(true), true).mean == 1
    assert average_precision(perfect(true), true, thresholds=(1.0,)).mean == 1
    nothing = [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)) for _ in true]
    assert average_precision(nothing, true).mean == 0
    shifted = [Detections(each.boxes + 1000, each.scores, each.classes) for each in perfect(true)]
    assert average_precision(shifted, true).mean == 0


def test_a_second_detection_of_an_object_is_wrong():
    true = [torch.tensor([[0.0, 0, 10, 10, 0], [20, 20, 30, 30, 0]])]
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    found = [Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long))]
    assert average_precision(found, true).mean == pytest.approx((51 + 50 * 2 / 3) / 101)  # recall 1 at 2 of 3


def test_order_does_not_matter():
    found, true = some(3)
    numbers = average_precision(found, true).numbers()
    turned = [Detections(*(part.flip(0) for part in each)) for each in found]
    assert average_precision(turned[::-1], [each.flip(0) for each in true[::-1]]).numbers() == numbers


def test_equal_scores_keep_the_order_in_which_they_are_given():
    true = [torch.tensor([[0.0, 0, 10, 10, 0]])]
    right, wrong = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
    for boxes, expected in (([right, wrong], 1), ([wrong, right], 0.5)):
        found = [Detections(torch.tensor(boxes), torch.tensor([0.5, 0.5]), torch.tensor([0, 0]))]
        assert average_precision(found, true).mean == pytest.approx(expected)


def test_padded_targets_are_those_of_a_list():
    found, true = some(2)
    most = max(len(each) for each in true)
    padded = torch.full((len(true), most, 5), -1.0)
    for place, each in enumerate(true):
        padded[place, most - len(each) :] = each  # empty places may stand anywhere
    assert torch.equal(
        average_precision(found, padded).table.nan_to_num(-1), average_precision(found, true).table.nan_to_num(-1)
    )


def test_no_more_than_so_many_of_a_class_count():
    true = [torch.tensor([[0.0, 0, 10, 10, 0]])]
    boxes = torch.tensor([[50.0, 50, 60, 60], [0, 0, 10, 10]])
    found = [Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))]
    assert average_precision(found, true, most=1).mean == 0
    assert average_precision(found, true, most=2).mean == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": [torch.zeros(0, 5)]}, "targets hold no object"),
        ({"targets": []}, "targets must be those of 1 images"),
        ({"targets": torch.zeros(1, 5)}, r"targets must be \(N, M, 5\)"),
        ({"targets": [torch.zeros(2, 4)]}, r"targets\[0\] must be boxes with classes"),
        ({"targets": [torch.tensor([[0.0, 0, 1, math.nan, 0]])]}, r"targets\[0\] must hold finite"),
        ({"targets": [torch.tensor([[2.0, 0, 1, 1, 0]])]}, r"targets\[0\] must have boxes"),
        ({"targets": [torch.tensor([[0.0, 0, 1, 1, 0.5]])]}, r"targets\[0\] must have class numbers"),
        ({"predictions": []}, "predictions must be a list"),
        ({"predictions": [3]}, r"predictions\[0\] must be boxes, scores and classes, got 3"),
        ({"predictions": [(torch.zeros(2, 4), torch.zeros(1), torch.zeros(2))]}, r"got \(2, 4\), \(1,\) and \(2,\)"),
        ({"num_classes": 1}, "num_classes must be above every class number, up to 1"),
        ({"thresholds": (0.5, 1.5)}, r"thresholds must lie in \(0, 1\]"),
        ({"thresholds": ()}, "thresholds must be a sequence"),
        ({"most": 0}, "most must be at least 1"),
    ],
)
def test_bad_arguments_are_named(change, message):
    given = {
        "predictions": [Detections(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.5]), torch.tensor([1]))],
        "targets": [torch.tensor([[0.0, 0, 1, 1, 1]])],
    }
    with pytest.raises(ValueError, match=message):
        average_precision(**{**given, **change})


def test_box_iou_equals_the_oracle():
    first, second = (each[:, :4].double() for each in (torch.cat(some(0)[1]), torch.cat(some(1)[1])))
    expected = torch.tensor([[oracle.iou(a, b) for b in second.tolist()] for a in first.tolist()]).double()
    assert torch.allclose(measure.box_iou(first, second), expected, atol=1e-7, rtol=0)
    assert torch.equal(measure.box_iou(torch.ones(1, 4), torch.ones(1, 4)), torch.zeros(1, 1))
    for bad in (torch.ones(4), torch.ones(2, 3), torch.ones(2, 4, dtype=torch.long)):
        with pytest.raises(ValueError, match="first must be"):
            measure.box_iou(bad, torch.ones(1, 4))
    with pytest.raises(ValueError, match="second must lie beside first"):
        measure.box_iou(torch.ones(2, 1, 4), torch.ones(3, 1, 4))
