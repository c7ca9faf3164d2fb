"""Batches, losses and settings that do not fit are told by the argument's name, by fit, evaluate and tune."""

import collections

import pytest
import torch
import torch.nn.functional as F
from compactvision import training
from compactvision.training import evaluate, fit
from torch import nn

Auxiliary = collections.namedtuple("Auxiliary", "main auxiliary")


class Switch(nn.Module):
    """Gives the first of several outputs while it trains, and all of them else."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return first(self.model(x)) if self.training else self.model(x)


class Tupled(nn.Module):
    """As inception in training mode: two outputs."""

    def __init__(self, kind=tuple):
        super().__init__()
        self.body, self.kind = nn.Linear(4, 3), kind

    def forward(self, x):
        y = self.body(x)
        return {"out": y} if self.kind is dict else Auxiliary(y, y) if self.kind is Auxiliary else self.kind((y, y))


def flat(**_):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def pictures():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


X, T = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
BOTH = {  # model, batch, message
    "bytes": (pictures, (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), T[:4]), "inputs are torch.uint8, the"),
    "doubles": (flat, (X.double(), T), "batches: the inputs are torch.float64, the model computes in torch.float32"),
    "half": (flat, (X.half(), T), "batches: the inputs are torch.float16"),
    "channels": (pictures, (torch.zeros(4, 1, 8, 8), T[:4]), "the model cannot take inputs of shape .4, 1, 8, 8"),
    "no batch dimension": (pictures, (torch.zeros(8, 8), T[:4]), "the model cannot take inputs of shape .8, 8"),
    "too small": (pictures, (torch.zeros(4, 3, 2, 2), T[:4]), r"batches: the model cannot take inputs of shape"),
    "list of pictures": (flat, ([X[0], X[1]], T[:2]), "batches: the model cannot take inputs of list of 2"),
    "int32": (flat, (X, T.int()), "loss cannot take .* targets of shape .6,. .torch.int32.; class numbers must"),
    "too high a class": (flat, (X, T + 4), "the targets have class 4, .* for classes 0 to 2"),
    "one class too high": (flat, (X, T + 1), "batches: the targets have class 3, but"),
    "negative class": (flat, (X, T - 1), "batches: the targets have class -1, but"),
    "fewer targets": (flat, (X, T[:4]), r"loss cannot take outputs of shape \(6, 3\) .* targets of shape \(4,\)"),
    "targets in a column": (flat, (X, T[:, None]), r"loss cannot take outputs .* targets of shape \(6, 1\)"),
    "tuple": (Tupled, (X, T), "loss cannot take what the model gives, tuple of 2; give a loss that does"),
    "named tuple": (lambda: Tupled(Auxiliary), (X, T), "loss cannot take what the model gives, Auxiliary of 2"),
    "dict": (lambda: Tupled(dict), (X, T), "loss cannot take what the model gives, dict of 'out'"),
    "numbers": (flat, (3, 4), "batches must yield tensors or lists with one entry a sample, not int"),
    "three": (flat, (X, T, T), "batches must yield pairs .* of length 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("call", ["fit", "evaluate", "validate", "tune"])
def test_a_batch_that_does_not_fit_is_told(call, name):
    make, batch, message = BOTH[name]
    model = make()
    if call == "validate" and make not in (flat, pictures):
        model = Switch(model)  # a loss that suits the model while it trains
    good = (torch.zeros(4, 3, 8, 8), T[:4]) if make is pictures else (X, T)
    calls = {
        "fit": lambda: fit(model, [batch], epochs=1, progress=False),
        "tune": lambda: training.tune(model, [batch]),
        "evaluate": lambda: evaluate(model, [batch]),
        "validate": lambda: fit(model, [good], epochs=1, validate=[batch], progress=False),
    }
    with pytest.raises(ValueError, match=f"^validate: .*{message}" if call == "validate" else message):
        calls[call]()
    assert model.training


def first(outputs):
    return next(iter(outputs.values())) if isinstance(outputs, dict) else outputs[0]


@pytest.mark.parametrize("kind", [tuple, list, dict, Auxiliary])
def test_a_loss_that_takes_the_outputs_trains(kind):
    history = fit(Tupled(kind), [(X, T)], epochs=1, loss=lambda o, t: F.cross_entropy(first(o), t), progress=False)
    assert len(history) == 1


def test_ignored_classes_and_soft_targets_are_no_error():
    ignored = torch.where(T == 0, -100, T)
    assert len(fit(flat(), [(X, ignored)], epochs=1, progress=False)) == 1
    loss = nn.CrossEntropyLoss(ignore_index=9)
    assert len(fit(flat(), [(X, torch.where(T == 0, 9, T))], epochs=1, loss=loss, progress=False)) == 1
    assert len(fit(flat(), [(X, F.one_hot(T, 3).float())], epochs=1, progress=False)) == 1


@pytest.mark.parametrize("ndim", [2, 4])
def test_a_last_batch_of_one_before_a_batch_norm(ndim):
    model = flat() if ndim == 2 else pictures()
    inputs = X[:5] if ndim == 2 else torch.randn(5, 3, 8, 8)
    data = list(zip(inputs.split(4), T[:5].split(4), strict=True))
    with pytest.raises(ValueError, match=r"batches: inputs of shape .1, .* give a BatchNorm .*drop_last=True"):
        fit(model, data, epochs=1, progress=False)
    assert evaluate(model, data)["n"] == 5
    wide = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    assert len(fit(wide, [(torch.randn(1, 3, 8, 8), T[:1])], epochs=1, progress=False)) == 1  # many values a channel


@pytest.mark.parametrize("model", [flat, lambda: nn.Linear(4, 3)])
def test_a_batch_without_a_sample(model):
    with pytest.raises(ValueError, match=r"batches: batch 1 of epoch 0 .* has no sample"):
        fit(model(), [(X, T), (X[:0], T[:0])], epochs=1, progress=False)


def test_errors_of_the_callers_own_code_stay_as_they_are():
    class Own(nn.Linear):
        def forward(self, x):
            raise RuntimeError("mine")

    def loss(outputs, targets):
        raise TypeError("mine, too")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        fit(Own(4, 3), [(X, T)], epochs=1)
    with pytest.raises(TypeError, match=r"^mine, too$"):
        fit(flat(), [(X, T)], epochs=1, loss=loss)
    with pytest.raises(RuntimeError, match=r"^mine$"):
        evaluate(Own(4, 3), [(X, T)])


def test_memory_that_runs_out_is_not_called_a_wrong_batch():
    class Large(nn.Linear):
        def forward(self, x):
            return F.pad(super().forward(x), (0, 2**50))

    with pytest.raises(RuntimeError, match=r"alloc|overflow|invalid|too large"):
        fit(Large(4, 3), [(X, T)], epochs=1)


ARGUMENTS = {
    "callbacks must be an iterable": {"callbacks": training.Callback()},
    "callbacks must be an iterable of callbacks, not None": {"callbacks": None},
    "validate must be an iterable of .* or callable, not 3": {"validate": 3},
    "validate is empty": {"validate": []},
    "validate is an iterator, .* epochs=2": {"validate": iter([(X, T)]), "epochs": 2},
    "validate must give a dict of numbers, not float": {"validate": lambda model: 0.5},
    "validate must give numbers, but 'a' is str": {"validate": lambda model: {"a": "high"}},
    "validate must give numbers, but 'a' is Tensor": {"validate": lambda model: {"a": torch.ones(2)}},
    "clip_norm must be positive and finite, not 'a'": {"clip_norm": "a"},
    "clip_norm must be positive and finite, not True": {"clip_norm": True},
    "seed must be below 2": {"seed": 2**64},
    "epochs must be a whole number > 0, not True": {"epochs": True},
    "epochs must be a whole number > 0, not 'two'": {"epochs": "two"},
    "schedule gives a ReduceLROnPlateau": {
        "schedule": lambda optimizer, *_: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    },
    "schedule must give a scheduler of torch": {"schedule": lambda optimizer, *_: [0.1]},
    "schedule must give a scheduler .* not None": {"schedule": lambda optimizer, *_: None},
    "schedule gives a scheduler of another optimizer": {
        "schedule": lambda *_: torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)], lr=1), 1)
    },
    "loss must be computed from the model's outputs": {"loss": lambda o, t: F.cross_entropy(o.detach(), t)},
    "loss must give a scalar tensor, not NoneType": {"loss": lambda o, t: None},
}


@pytest.mark.parametrize("message", ARGUMENTS)
def test_arguments_of_fit(message):
    with pytest.raises(ValueError, match=message):
        fit(flat(), [(X, T)], **{"epochs": 1, "progress": False, **ARGUMENTS[message]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": 3}, "loss must be callable"),
        ({"metrics": [F.mse_loss]}, "metrics must be a dict of callables"),
        ({"metrics": {"a": 0.5}}, "metrics: 'a' must be callable"),
        ({"metrics": {"a": lambda o, t: o}}, "metrics: 'a' must give a number, not Tensor"),
        ({"metrics": {"a": lambda o, t: None}}, "metrics: 'a' must give a number, not NoneType"),
    ],
)
def test_arguments_of_evaluate(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(flat(), [(X, T)], **options)
    with pytest.raises(ValueError, match=r"batches must be an iterable .* not int"):
        evaluate(flat(), 3)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("net", {}, "model must be a torch.nn.Module, not str"),
        (nn.ReLU(), {}, "model has no parameter to train"),
        (nn.Linear(4, 3), {"learning_rate": "high"}, "learning_rate must be finite and > 0, got 'high'"),
        (nn.Linear(4, 3), {"groups": 3}, "groups must be a function of 2 arguments, got 3"),
        (nn.Linear(4, 3).requires_grad_(False), {}, "model has no parameter that requires a gradient"),
    ],
)
def test_arguments_of_tune(model, options, message):
    with pytest.raises(ValueError, match=message):
        training.tune(model, [(X, T)], **options)


def test_statistics_that_do_not_exist_cannot_be_renewed():
    with pytest.raises(ValueError, match="model has no BatchNorm"):
        training.renewed(nn.Linear(4, 3), [X])
    with pytest.raises(ValueError, match="batches must be an iterable"):
        training.renewed(flat(), 3)
