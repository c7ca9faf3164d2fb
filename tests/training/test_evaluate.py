"""Evaluation against means worked out over all samples at once, and the history's table."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from compactvision.training import History, evaluate
from torch import nn


class Given(nn.Module):
    """Hands its inputs on as outputs."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.9)

    def forward(self, inputs):
        return self.drop(inputs)


def test_means_are_over_samples_not_over_batches():
    logits = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 3], [1, 0, 0], [0, 5, 0]])
    targets = torch.tensor([0, 1, 0, 0, 2])  # right, right, wrong, right, wrong
    data = [(logits[:3], targets[:3]), (logits[3:], targets[3:]), (logits[:0], targets[:0])]
    found = evaluate(Given(), data, metrics={"top": lambda outputs, t: outputs.max(1).values.mean()})
    assert found == {
        "loss": pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-6),
        "accuracy": pytest.approx(0.6, abs=1e-12),
        "top": pytest.approx((2 + 1 + 3 + 1 + 5) / 5),
        "n": 5,
    }
    assert isinstance(found["n"], int)


def test_accuracy_of_masks_is_over_pixels_and_left_out_where_it_means_nothing():
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 0] = 1
    masks = torch.tensor([[[1, 0], [1, 0]]])  # three pixels of four are right
    assert evaluate(Given(), [(logits, masks)])["accuracy"] == 0.75
    outputs = torch.ones(4, 2)
    assert "accuracy" not in evaluate(Given(), [(outputs, torch.zeros(4, 2))], loss=F.mse_loss)
    assert "accuracy" not in evaluate(Given(), [(outputs, torch.zeros(4, 2).long())], loss=lambda o, t: o.mean())
    listed = [([torch.ones(2), torch.ones(3)], [1, 2])]  # as detection batches are: one entry a sample

    class Sum(nn.Module):
        def forward(self, images):
            return [image.sum() for image in images]

    assert evaluate(Sum(), listed, loss=lambda o, t: (o[0] * t[0] + o[1] * t[1]) / 2) == {"loss": 4.0, "n": 2}


def test_modes_gradients_and_statistics_stay():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    model.train()
    model[1].eval()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    first = evaluate(model, [(torch.randn(6, 3), torch.arange(6) % 3)])
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert math.isfinite(first["loss"])
    with pytest.raises(ZeroDivisionError):
        evaluate(model, [(torch.randn(6, 3), torch.arange(6) % 3)], loss=lambda o, t: 1 / 0)
    assert [module.training for module in model.modules()] == [True, True, False, True]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_the_loss_sees_float32(precision):
    model = nn.Conv2d(3, 4, 3)
    data = [(torch.randn(5, 3, 6, 6), torch.randint(0, 4, (5, 4, 4)))]
    expected, seen = evaluate(model, data), []
    found = evaluate(
        model, data, precision=precision, channels_last=True, metrics={"type": lambda o, t: seen.append(o.dtype) or 0.0}
    )
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-2)
    assert seen == [torch.float32]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batches": []}, "batches gave no sample"),
        ({"batches": [(torch.zeros(0, 3), torch.zeros(0).long())]}, "batches gave no sample"),
        ({"precision": "fp8"}, "precision must be one of .* not 'fp8'"),
        ({"device": "cuda:1"}, "device='cuda:1', but the model is on 'cpu'"),
        ({"metrics": {"accuracy": F.mse_loss}}, "metrics: the name 'accuracy' is taken"),
        ({"loss": lambda o, t: o}, "loss must give a scalar"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    arguments = {"batches": [(torch.zeros(2, 3), torch.zeros(2).long())], **arguments}
    with pytest.raises(ValueError, match=message):
        evaluate(Given(), **arguments)


def test_history_is_data():
    history = History([{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25, "val_accuracy": 0.75}])
    assert history.column("train_loss") == [0.5, 0.25]
    assert math.isnan(history.column("val_accuracy")[0])
    assert history.column("val_accuracy")[1] == 0.75
    with pytest.raises(ValueError, match=r"name='lr' is in no row .* \['epoch', 'train_loss', 'val_accuracy'\]"):
        history.column("lr")
    assert json.loads(history.to_json())[1]["val_accuracy"] == 0.75
    assert History.from_json(history.to_json()) == history
    assert history != History()
    assert [row["epoch"] for row in history] == [1, 2]
    assert (len(history), history[1]["epoch"]) == (2, 2)
    assert repr(History()) == "History(0 epochs)"
    assert repr(history).startswith("History(2 epochs, last {'epoch': 2")
