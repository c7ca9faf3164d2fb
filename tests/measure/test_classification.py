"""Accuracy, confusion and per-class accuracy, by hand and against scikit-learn."""

import math

import pytest
import torch
from compactvision import data, measure, models
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

LOGITS = nn.Identity()  # the inputs are the logits


def one_hot(*classes, of=3):
    return torch.eye(of)[list(classes)]


def test_by_hand_over_unequal_batches():
    batches = [(one_hot(0, 1, 1), torch.tensor([0, 1, 2])), (one_hot(2), torch.tensor([1]))]
    assert measure.accuracy(LOGITS, batches) == 0.5
    assert measure.confusion(LOGITS, batches, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert measure.per_class_accuracy(LOGITS, batches, 3).tolist() == [1.0, 0.5, 0.0]


def test_absent_class_is_nan():
    result = measure.per_class_accuracy(LOGITS, [(one_hot(0, 2), torch.tensor([0, 0]))], 3)
    assert result.dtype == torch.float64
    assert result[0] == 0.5
    assert math.isnan(result[1])
    assert math.isnan(result[2])


def test_top_k():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    batches = [(logits, torch.tensor([0, 1, 2]))]
    assert [measure.accuracy(LOGITS, batches, top=top) for top in (1, 2, 3)] == [1 / 3, 2 / 3, 1.0]


def test_one_class_a_position():
    logits = one_hot(0, 1, 2, 0).T.reshape(1, 3, 2, 2)
    batches = [(logits, torch.tensor([[[0, 1], [1, 0]]]))]
    assert measure.accuracy(LOGITS, batches) == 0.75
    assert measure.confusion(LOGITS, batches, 3).tolist() == [[2, 0, 0], [0, 1, 1], [0, 0, 0]]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 6), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_equals_scikit_learn(seed, classes, sizes):
    from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score

    generator = torch.Generator().manual_seed(seed)
    batches = [
        (
            torch.randn(n, classes, generator=generator),
            torch.randint(classes, (n,), generator=generator, dtype=torch.uint8),
        )
        for n in sizes
    ]
    logits, targets = (torch.cat(part).numpy() for part in zip(*batches, strict=True))
    labels, predictions = range(classes), logits.argmax(1)
    assert measure.accuracy(LOGITS, batches) == pytest.approx(accuracy_score(targets, predictions))
    matrix = confusion_matrix(targets, predictions, labels=labels)
    assert measure.confusion(LOGITS, iter(batches), classes).tolist() == matrix.tolist()
    if classes > 2:
        expected = top_k_accuracy_score(targets, logits, k=2, labels=labels)
        assert measure.accuracy(LOGITS, batches, top=2) == pytest.approx(expected)


def test_evaluation_mode_and_no_gradient():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9999))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3))
        model[0].bias.zero_()
    batches = [(one_hot(0, 1, 2), torch.tensor([0, 1, 2]))]
    assert measure.accuracy(model, batches) == 1.0
    assert model.training


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "batches is empty"),
        ([(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))], "targets are empty in batch 0"),
        ([(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))], r"\(2, 3\) and \(3,\) in batch 0"),
        ([(torch.zeros(2), torch.zeros(2, dtype=torch.long))], r"\(2,\) and \(2,\) in batch 0"),
        ([(torch.zeros(2, 3), torch.zeros(2))], "targets must be integers, got torch.float32 in batch 0"),
        (
            [(one_hot(0), torch.tensor([0])), (torch.full((1, 3), math.nan), torch.tensor([0]))],
            "logits hold NaN in batch 1",
        ),
        ([(torch.zeros(1, 3), torch.tensor([3]))], r"targets must lie in 0..2, got 3..3 in batch 0"),
        ([(torch.zeros(1, 3), torch.tensor([-1]))], r"targets must lie in 0..2, got -1..-1"),
    ],
)
def test_bad_batches_are_named(batches, message):
    for call in (measure.accuracy, lambda model, items: measure.confusion(model, items, 3)):
        with pytest.raises(ValueError, match=message):
            call(LOGITS, batches)


def test_bad_arguments_are_named():
    batches = [(one_hot(0), torch.tensor([0]))]
    for top in (0, 4):
        with pytest.raises(ValueError, match=f"top must be between 1 and the 3 classes, got {top}"):
            measure.accuracy(LOGITS, batches, top=top)
    with pytest.raises(ValueError, match="num_classes is 4 but the logits have 3"):
        measure.per_class_accuracy(LOGITS, batches, 4)


def test_an_image_set_is_read_whole_on_the_models_device():
    images = data.load("glyphs", train=False, n=620)  # more than one batch
    model = models.pretrained("resnet20_glyphs")
    assert measure.accuracy(model, images) == measure.accuracy(model, images.batches(100))
    assert measure.confusion(model, images, images.num_classes).sum() == 620


@pytest.mark.parametrize(
    "batches",
    [None, 3, "ab", b"ab", {1, 2}, int, [one_hot(0)], [(one_hot(0), torch.tensor([0]), None)],
     [("a", torch.tensor([0]))],
     [(one_hot(0).to("meta"), torch.tensor([0]))], [(one_hot(0), [0])]],
)  # fmt: skip
def test_what_is_no_pairs_of_tensors_is_refused(batches):
    for call in (measure.accuracy, lambda model, items: measure.confusion(model, items, 3)):
        with pytest.raises(ValueError, match="batches"):
            call(LOGITS, batches)


def test_models_and_numbers_of_another_kind_are_refused():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    batches = [(one_hot(0), torch.tensor([0]))]
    with pytest.raises(ValueError, match="model must give logits"):
        measure.accuracy(Pair(), batches)
    with pytest.raises(ValueError, match="model must hold numbers"):
        measure.accuracy(nn.Linear(3, 3, device="meta"), batches)
    for top in (1.5, "2", None, torch.ones(2)):
        with pytest.raises(ValueError, match="top must be a whole number"):
            measure.accuracy(LOGITS, batches, top=top)
    for classes in (0, -3, 3.0, None, "3"):
        with pytest.raises(ValueError, match="num_classes must be"):
            measure.per_class_accuracy(LOGITS, batches, classes)
