"""Scores of label maps: by hand, against pixel-by-pixel oracles, and with ignored labels."""

import math

import pytest
import torch
from compactvision import measure, training
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import segmentation as oracle

LOGITS = nn.Identity()


def drawn(seed, classes, shape=(2, 7, 8), ignore=None):
    generator = torch.Generator().manual_seed(seed)
    predicted, targets = (torch.randint(classes, shape, generator=generator) for _ in range(2))
    predicted = torch.where(torch.rand(shape, generator=generator) < 0.6, targets, predicted)
    if ignore is not None:
        targets[torch.rand(shape, generator=generator) < 0.2] = ignore
    return predicted, targets


def same(a, b):
    return a == pytest.approx(b, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), classes=st.integers(1, 6), ignore=st.sampled_from([None, 255]))
def test_mean_iou_equals_the_oracle(seed, classes, ignore):
    predicted, targets = drawn(seed, classes, ignore=ignore)
    matrix = measure.confusion_of(predicted, targets, classes + 2, ignore=ignore)  # two classes that never occur
    assert same(measure.mean_iou(matrix), oracle.mean_iou(predicted, targets, classes + 2, ignore))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), ignore=st.sampled_from([None, 255, 0]))
def test_mean_iou_equals_torchmetrics(seed, ignore):
    classification = pytest.importorskip("torchmetrics.classification")
    predicted, targets = drawn(seed, 4, ignore=ignore)
    theirs = classification.MulticlassJaccardIndex(num_classes=6, ignore_index=ignore)(predicted, targets)
    matrix = measure.confusion_of(predicted, targets, 6, ignore=ignore)
    assert measure.mean_iou(matrix, ignore=ignore) == pytest.approx(float(theirs), rel=1e-5)


def test_a_class_that_is_absent_is_left_out_and_one_that_is_only_predicted_is_zero():
    predicted, targets = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0])
    values = measure.iou(measure.confusion_of(predicted, targets, 3))
    assert values[:2].tolist() == [2 / 3, 0]
    assert math.isnan(values[2])
    assert measure.mean_iou(measure.confusion_of(predicted, targets, 3)) == pytest.approx(1 / 3)


def test_the_matrix_is_that_of_the_whole_set_whatever_the_batches():
    predicted, targets = drawn(3, 3, (6, 5, 5), ignore=255)
    logits = torch.eye(3)[predicted].permute(0, 3, 1, 2)
    parts = [(logits[:1], targets[:1]), (logits[1:], targets[1:])]
    matrix = measure.confusion(LOGITS, parts, 3, ignore=255)
    assert torch.equal(matrix, measure.confusion_of(predicted, targets, 3, ignore=255))
    kept = targets != 255
    expected = float((predicted == targets)[kept].double().mean())
    assert measure.accuracy(LOGITS, parts, ignore=255) == pytest.approx(expected)
    found = training.evaluate(LOGITS, parts, ignore=255)
    assert found["accuracy"] == pytest.approx(expected)
    whole = nn.functional.cross_entropy(logits, targets, ignore_index=255)
    assert found["loss"] == pytest.approx(float(whole), rel=1e-5)
    assert found["n"] == 6


def test_one_label_an_image_can_be_ignored_too():
    batches = [(torch.eye(3)[[0, 1, 2]], torch.tensor([0, 255, 1]))]
    assert measure.accuracy(LOGITS, batches, ignore=255) == 0.5
    assert measure.per_class_accuracy(LOGITS, batches, 3, ignore=255).tolist()[:2] == [1, 0]


def test_a_class_can_be_ignored():
    batches = [(torch.eye(3)[[0, 1, 2]], torch.tensor([0, 2, 2]))]
    assert measure.accuracy(LOGITS, batches, ignore=0) == 0.5
    assert training.evaluate(LOGITS, batches, ignore=0)["accuracy"] == 0.5
    matrix = measure.confusion(LOGITS, [*batches, (torch.eye(3)[[0]], torch.tensor([1]))], 3, ignore=0)
    assert matrix.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert measure.mean_iou(matrix) == pytest.approx((0 + 0 + 0.5) / 3)
    assert measure.mean_iou(matrix, ignore=0) == pytest.approx((0 + 0.5) / 2)
    assert measure.mean_iou(matrix, ignore=255) == measure.mean_iou(matrix)


def test_inputs_may_be_a_list_of_maps():
    class Second(nn.Module):
        def forward(self, maps):
            return maps[1]

    maps = [torch.zeros(2, 4, 5, 5), torch.eye(2).reshape(2, 2, 1, 1).expand(2, 2, 3, 3)]
    batches = [(maps, torch.zeros(2, 3, 3, dtype=torch.long))]
    assert measure.accuracy(Second(), batches) == 0.5
    with pytest.raises(ValueError, match=r"batches: the model fails on inputs of shape \(2, 4, 5, 5\), \(2, 2, 3, 3\)"):
        measure.accuracy(nn.Linear(3, 2), batches)
    with pytest.raises(ValueError, match=r"batches\[0\] \(inputs\) must be a tensor"):
        measure.accuracy(Second(), [([maps[0], "b"], batches[0][1])])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(1, 4),
    tolerance=st.integers(0, 3),
    ignore=st.sampled_from([None, 255]),
)
def test_boundaries_equal_the_oracle(seed, classes, tolerance, ignore):
    predicted, targets = drawn(seed, classes, ignore=ignore)
    found = measure.boundary_f1(predicted, targets, classes, tolerance=tolerance, ignore=ignore).tolist()
    expected = [oracle.boundary_f1(predicted, targets, number, tolerance, ignore) for number in range(classes)]
    assert same(found, expected)


def test_a_boundary_one_pixel_off_is_found_with_tolerance_one():
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    target[:, 2:6, 2:6] = 1
    moved = target.roll(1, 2)
    assert measure.boundary_f1(moved, target, 2)[1] == 1
    assert measure.boundary_f1(moved, target, 2, tolerance=0)[1] < 0.7
    assert measure.boundary_f1(target, target, 2, tolerance=0).tolist() == [1, 1]
    assert measure.boundary_f1(target * 0, target * 0, 2).isnan().all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), ignore=st.sampled_from([None, 255]))
def test_sizes_equal_the_oracle(seed, ignore):
    predicted, targets = drawn(seed, 3, ignore=ignore)
    expected = None
    while expected is None:
        try:
            expected = [oracle.iou_of_objects(predicted, targets, number, [2, 4], ignore) for number in (1, 2)]
        except oracle.AmbiguousError as error:  # a pixel as near to objects of two sizes becomes right
            predicted[error.args] = targets[error.args]
    found = measure.iou_by_size(predicted, targets, 3, [2, 4], ignore=ignore)
    assert found[:, 0].isnan().all()
    for number in (1, 2):
        assert same(found[:, number].tolist(), expected[number - 1])


def test_a_small_object_that_is_missed_does_not_touch_the_large_one():
    target = torch.zeros(1, 10, 10, dtype=torch.long)
    target[0, 0, 0] = 1
    target[0, 4:9, 4:9] = 1
    predicted = target.clone()
    predicted[0, 0, 0] = 0
    assert measure.iou_by_size(predicted, target, 2, [10])[:, 1].tolist() == [0, 1]
    predicted[0, 4:9, 9] = 1  # beside the large one
    assert measure.iou_by_size(predicted, target, 2, [10])[:, 1].tolist() == [0, 25 / 30]


def test_given_objects_tell_pieces_that_touch_apart():
    target = torch.ones(1, 1, 6, dtype=torch.long)
    objects = torch.tensor([[[7, 7, 3, 3, 3, 3]]])
    predicted = torch.tensor([[[0, 0, 1, 1, 1, 1]]])
    assert measure.iou_by_size(predicted, target, 2, [3], objects=objects)[:, 1].tolist() == [0, 1]
    assert measure.iou_by_size(predicted, target, 2, [3], background=None)[:, 1].tolist()[1] == 4 / 6


LABELS = torch.zeros(1, 2, 2, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure.confusion_of(LABELS, LABELS[:, :1], 2), "predicted must be as targets"),
        (lambda: measure.confusion_of(LABELS + 2, LABELS, 2), "predicted must lie in 0..1, got 2..2"),
        (lambda: measure.confusion_of(LABELS, LABELS - 1, 2), "targets must lie in 0..1, got -1..-1"),
        (lambda: measure.confusion_of(LABELS, LABELS.float(), 2), "targets must be whole numbers"),
        (lambda: measure.confusion_of(LABELS, LABELS, 2, ignore=0), "targets have no label that counts"),
        (lambda: measure.confusion_of(LABELS, LABELS, 0), "num_classes must be at least 1"),
        (lambda: measure.iou(torch.zeros(2, 3)), r"matrix must be \(C, C\)"),
        (lambda: measure.iou(-torch.eye(2)), "matrix must hold counts"),
        (lambda: measure.mean_iou(torch.zeros(2, 2)), "matrix counts nothing"),
        (lambda: measure.boundary_f1(LABELS[0], LABELS[0], 2), r"predicted must be \(N, H, W\)"),
        (lambda: measure.boundary_f1(LABELS, LABELS, 2, tolerance=-1), "tolerance must be at least 0, got -1"),
        (lambda: measure.iou_by_size(LABELS, LABELS, 2, [4, 4]), "edges must rise"),
        (lambda: measure.iou_by_size(LABELS, LABELS, 2, []), "edges must be a sequence"),
        (lambda: measure.iou_by_size(LABELS, LABELS, 2, [4], objects=LABELS.float()), "objects must be whole numbers"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_when_every_target_is_ignored_there_is_nothing_to_measure():
    batches = [(torch.eye(3)[[0]], torch.tensor([255]))]
    for call in (measure.accuracy, training.evaluate, lambda *given, **more: measure.confusion(*given, 3, **more)):
        with pytest.raises(ValueError, match="every target is ignored"):
            call(LOGITS, batches, ignore=255)
    with pytest.raises(ValueError, match=r"targets must lie in 0..2, got 255..255"):
        measure.accuracy(LOGITS, batches)
    with pytest.raises(ValueError, match="ignore must be a whole number"):
        measure.accuracy(LOGITS, batches, ignore="255")
    with pytest.raises(ValueError, match="ignore must be a whole number"):
        training.evaluate(LOGITS, batches, ignore=1.5)
