"""Bad arguments of schedules, groups, histories, states and of what follows a cut are named."""

import copy

import pytest
import torch
from compactvision import models, training
from compactvision.training import schedules
from torch import nn

X, T = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])


def normed():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def sgd():
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)


def state():
    return training.State(normed(), sgd(), torch.device("cpu"), epochs=2, steps_per_epoch=3)


def filled(number):
    model = normed()
    nn.init.constant_(model[0].weight, number)
    return model


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.cosine(final="0"), "final must be a number, got '0'"),
        (lambda: schedules.cosine(final=torch.zeros(2)), "final must be a number"),
        (lambda: schedules.one_cycle(rise=None), "rise must be a number, got None"),
        (lambda: schedules.multi_step(3), "milestones must be a sequence of numbers, not 3"),
        (lambda: schedules.multi_step(b"\x01"), "milestones must be a sequence of numbers"),
        (lambda: schedules.multi_step([1, "2"]), "milestones must be a number, got '2'"),
        (lambda: schedules.multi_step([float("nan")]), "milestones takes whole numbers >= 0 or fractions"),
        (lambda: schedules.multi_step([1], gamma=float("inf")), "gamma must be finite, got inf"),
        (lambda: schedules.cosine()([0.1], 2, 3), r"optimizer must be of class Optimizer, got \[0.1\]"),
        (lambda: schedules.multi_step([1])(sgd(), 1.5, 3), "epochs must be a whole number, got 1.5"),
        (lambda: schedules.one_cycle()(sgd(), 2, 0), "steps must be at least 1, got 0"),
        (lambda: training.no_decay(None, X), "name must be a text, got None"),
        (lambda: training.no_decay("w", [1]), r"parameter must be of class Tensor, got \[1\]"),
        (
            lambda: training.parameter_groups(normed(), nn.ReLU()),
            r"rule must be a function of 2 arguments, got ReLU\(\)",
        ),
        (
            lambda: training.parameter_groups(normed(), dict),
            "rule must be a function of 2 arguments, got <class 'dict'>",
        ),
        (lambda: training.tune(normed(), [(X, T)], groups=nn.ReLU()), "groups must be a function of 2 arguments"),
        (lambda: training.tune(normed(), [(X, T)], learning_rate=1e200), "learning_rate must be a number that float32"),
        (lambda: training.group_of(None, X), "optimizer must be of class Optimizer, got None"),
        (lambda: training.group_of(sgd(), "weight"), "parameter must be of class Tensor, got 'weight'"),
        (lambda: training.fast_precision("cuda"), "device must be of class device, got 'cuda'"),
        (lambda: training.History([1, 2]), r"rows must be a list of dicts, one an epoch, got \[1, 2\]"),
        (lambda: training.History({"epoch": 1}), "rows must be a list of dicts"),
        (lambda: training.History([{1: 2, "a": 3}]).column("b"), r"name='b' is in no row .* \['1', 'a'\]"),
        (lambda: training.History([{"a": 3}]).column(["a"]), r"name must be a text, got \['a'\]"),
        (lambda: training.History.from_json(b"[]"), "text must be a text, got"),
        (lambda: training.History.from_json('{"epoch": 1}'), r"text must be that of to_json\(\)"),
        (lambda: training.History.from_json("null"), r"text must be that of to_json\(\), got 'null'"),
        (lambda: training.History.from_json("[" * 100_000), r"text must be that of to_json\(\), got a str"),
        (lambda: training.History().load_state_dict({}), r"state must have the key 'rows' and no other, got \[\]"),
        (lambda: training.History().load_state_dict({"rows": 3}), r"state\['rows'\] must be a list of dicts"),
        (lambda: state().load_state_dict([1]), r"state must be a mapping, got \[1\]"),
        (lambda: state().load_state_dict({"epoch": 1, "batch": 0}), "state must have the keys epoch, batch and step"),
        (
            lambda: state().load_state_dict({"epoch": 1, "batch": 0.5, "step": 1}),
            r"state\['batch'\] must be a whole number, got 0.5",
        ),
        (lambda: state().load_state_dict({"epoch": 1, "batch": 0, "step": -1}), "state must hold whole numbers >= 0"),
        (lambda: training.evaluate(normed(), [(X, T)], metrics={0: nn.MSELoss()}), "metrics must have names for keys"),
        (lambda: training.evaluate(normed().to("meta"), [(X, T)]), "model must be .* not on meta"),
        (lambda: training.evaluate(normed(), [(X, T.to("meta"))]), "batches must hold numbers, got a tensor"),
        (lambda: training.evaluate(models.small_cnn(3), [(X, T)]), "^batches: x must be images"),
        (lambda: training.renewed(models.small_cnn(3), [X]), "^batches: x must be images"),
        (lambda: training.renewed(normed(), [X[:, :3]]), r"batches: the model cannot take inputs of shape \(6, 3\)"),
        (lambda: training.renewed(normed(), [X[:1]]), "batches: .* give a BatchNorm that trains one value a channel"),
        (lambda: training.renewed(normed(), [X, X[:0]]), "batches: a batch has no sample"),
        (lambda: training.renewed(normed(), [(None, T)]), "batches must yield images .* got None"),
        (lambda: training.renewed(normed(), [{"x": X}]), "batches must yield images .* got a dict"),
        (lambda: training.renewed(normed(), [X.to("meta")]), "batches must yield images .* on meta"),
        (lambda: training.renewed(normed(), [X * float("inf")]), "batches: with them, '1.running_mean' .* not finite"),
        (lambda: training.renewed(filled(float("nan")), [X]), "'1.running_mean' of the model is not finite"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_error_of_the_callers_own_network_keeps_its_words():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x):
            raise ValueError("mine")

    for call in (lambda: training.renewed(Picky(), [X]), lambda: training.evaluate(Picky(), [(X, T)])):
        with pytest.raises(ValueError, match=r"^mine$"):
            call()


def test_renewed_statistics_are_plain_means_over_batches():
    model = normed().double()
    batches = [(X.double(), T), X[2:].double()]
    with torch.no_grad():
        seen = [model[0](x) for x in (X.double(), X[2:].double())]
    before = copy.deepcopy(model.state_dict())
    fresh = training.renewed(model, batches)
    torch.testing.assert_close(fresh[1].running_mean, sum(each.mean(0) for each in seen) / 2)
    torch.testing.assert_close(fresh[1].running_var, sum(each.var(0) for each in seen) / 2)
    assert list(fresh.state_dict()) == list(before)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert fresh[1].momentum == 0.1
    assert not any(module.training for module in fresh.modules())
