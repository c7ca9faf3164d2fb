"""Errors from inside torch are told by the argument that caused them; those of a caller's own code come through."""

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision._failures import explained, from_below
from compactvision.measure.batches import fitting
from torch import nn

X, LABELS = torch.ones(2, 3), torch.tensor([0, 1])


class Own(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.Linear(4, 2)(X),
        lambda: nn.Embedding(2, 2)(X.long() + 7),
        lambda: nn.Linear(3, 2)(None),
        lambda: nn.Conv2d(3, 2, 1)(X),
    ],
)
def test_an_error_from_torch_names_the_argument_and_the_shape(call):
    message = r"^batches: the model fails on inputs of shape \(2, 3\): ."
    with pytest.raises(ValueError, match=message), explained([X], "batches"):
        call()


@pytest.mark.parametrize("error", [RuntimeError("own"), TypeError("own"), ValueError("own"), KeyError("own")])
def test_an_error_of_the_caller_comes_through(error):
    with pytest.raises(type(error), match="own") as caught, explained([X]):
        Own(error)(X)
    assert caught.value is error


def test_a_lack_of_memory_comes_through():
    with pytest.raises(RuntimeError, match="allocate"), explained([X]):
        torch.empty(2**60)


def test_an_interrupt_is_none_of_ours():
    assert not from_below(torch.OutOfMemoryError("no memory"))


@pytest.mark.parametrize(
    "call",
    [
        lambda model: measure.macs(model, (3, 8, 8)),
        lambda model: measure.summary(model, (3, 8, 8)),
        lambda model: measure.latency(model, (3, 8, 8), warmup=0, repeats=1),
        lambda model: measure.accuracy(model, [(torch.ones(2, 3, 8, 8), LABELS)]),
        lambda model: surgery.maps_behind(model, (3, 8, 8)),
        lambda model: surgery.criteria.gradient([(torch.ones(2, 3, 8, 8), LABELS)])(model),
    ],
)
def test_a_model_for_other_inputs_is_told_by_their_shape(call):
    with pytest.raises(
        ValueError, match=r"(example_inputs|batches): the model fails on inputs of shape \(\d, 3, 8, 8\)"
    ):
        call(nn.Sequential(nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(5, 2)))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 9]), r"targets must lie in 0\.\.1, got 0\.\.9 in batches"),
        (torch.tensor([-1, 0]), r"targets must lie in 0\.\.1, got -1\.\.0"),
        (torch.tensor([0.5, 1.0]), "targets must be integers"),
        (torch.tensor([[0], [1]]), r"logits must be \(B, C, ...\) and targets"),
        (torch.tensor([0]), r"logits must be \(B, C, ...\) and targets"),
    ],
)
def test_targets_that_no_logit_answers(targets, message):
    with pytest.raises(ValueError, match=message):
        fitting(torch.ones(2, 2), targets)
    model = models.small_cnn(2, widths=(4, 6))
    with pytest.raises(ValueError, match=message):
        surgery.criteria.taylor([(torch.ones(2, 3, 8, 8), targets)])(model)


def test_targets_may_be_probabilities():
    fitting(torch.ones(2, 3), torch.full((2, 3), 1 / 3))
