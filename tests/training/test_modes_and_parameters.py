"""What fit trains: modes that stay, optimisers that hold the right parameters, groups by rule."""

import copy

import pytest
import torch
import torch.nn.functional as F
from compactvision import training
from compactvision.training import Callback, fit
from torch import nn


def network():
    torch.manual_seed(1)
    block = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), block, nn.Flatten(), nn.Linear(16, 3))


def batches(n=8):
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(n, 3, 6, 6, generator=generator) + 2, torch.arange(n) % 3)] * 3


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


class Look(Callback):
    def on_step(self, state):
        self.modes = modes(state.model)


@pytest.mark.parametrize("frozen", [("1",), ("3.1",), ("3", "3.1", "3.2"), ("3",)])
def test_modules_in_evaluation_mode_stay_so(frozen):
    model, look = network(), Look()
    for name in frozen:
        model.get_submodule(name).training = False
    before, statistics = modes(model), copy.deepcopy(model.state_dict())
    fit(model, batches(), epochs=2, callbacks=[look], validate=batches(), progress=False)
    assert look.modes == before == modes(model)
    for name in ("1", "3.1"):
        key = f"{name}.running_mean"
        assert torch.equal(model.state_dict()[key], statistics[key]) == (name in frozen)


def test_a_model_in_evaluation_mode_is_trained_as_a_whole():
    model, look = network().eval(), Look()
    model[3].train()
    before = modes(model)
    fit(model, batches(), epochs=1, callbacks=[look], progress=False)
    assert all(look.modes.values())
    assert modes(model) == before


@pytest.mark.parametrize("place", ["loss", "on_step", "validate", "batches"])
def test_modes_are_put_back_when_something_fails(place):
    def fail(*_):
        raise ZeroDivisionError

    model = network()
    model[1].eval()
    before, look = modes(model), Look()
    if place == "on_step":
        look.on_step = fail
    source = iter([batches()[0], 0]) if place == "batches" else batches()
    options = {place: fail} if place in ("loss", "validate") else {}
    with pytest.raises((ZeroDivisionError, ValueError)):
        fit(model, source, epochs=1, callbacks=[look], progress=False, **options)
    assert modes(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def stale(model):
    return torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1)


def of_the_replaced_head(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[-1] = nn.Linear(16, 3)
    return optimizer


def only_frozen(model):
    model[0].requires_grad_(False)
    return torch.optim.SGD(model[0].parameters(), lr=0.1)


def outside_only(model):
    return torch.optim.Adam([nn.Parameter(torch.ones(3))])


WRONG = {
    stale: "optimizer holds none of the 10 parameters that the model trains",
    only_frozen: "optimizer holds none of the 8 parameters that the model trains",
    outside_only: "optimizer holds none of the 10 parameters",
    of_the_replaced_head: r"optimizer holds 2 parameters that are neither .* the first of shape \(3, 16\)",
}


@pytest.mark.parametrize("make", WRONG)
def test_an_optimizer_that_would_train_nothing_or_something_else_is_refused(make):
    model = network()
    optimizer = make(model)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=WRONG[make]):
        fit(model, batches(), epochs=1, optimizer=optimizer, progress=False)
    assert all(map(torch.equal, before, model.parameters()))


def test_an_optimizer_of_the_head_alone_trains_the_head():
    model = network()
    before = model[0].weight.clone()
    head = model[-1].weight.clone()
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.1)
    fit(model, batches(), epochs=1, optimizer=optimizer, progress=False)
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(model[-1].weight, head)


def test_a_parameter_of_the_loss_may_be_held_too():
    model, scale = network(), nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([*model.parameters(), scale], lr=0.1)
    fit(model, batches(), epochs=1, optimizer=optimizer, loss=lambda o, t: F.cross_entropy(o * scale, t))
    assert scale != 1


def test_groups_follow_the_rule_and_keep_the_order():
    model = network()
    groups = training.parameter_groups(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    told = [(group.get("weight_decay"), [names[id(p)] for p in group["params"]]) for group in groups]
    assert told == [
        (None, ["0.weight", "3.0.weight", "5.weight"]),
        (0.0, ["0.bias", "1.weight", "1.bias", "3.0.bias", "3.1.weight", "3.1.bias", "5.bias"]),
    ]
    rates = training.parameter_groups(model, lambda name, p: None if name[0] == "3" else {"lr": 1.0 + (name[0] > "0")})
    assert [(group["lr"], len(group["params"])) for group in rates] == [(1.0, 2), (2.0, 4)]


def test_one_group_by_rule_is_the_ordinary_training_and_no_decay_another():
    def tuned(**options):
        return training.tune(network(), batches(), epochs=2, **options).state_dict()

    plain = tuned()
    torch.testing.assert_close(tuned(groups=lambda name, parameter: {}), plain, rtol=0, atol=0)
    undecayed, other = tuned(groups=training.no_decay), network()
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in other.parameters() if p.ndim > 1]},
            {"params": [p for p in other.parameters() if p.ndim == 1], "weight_decay": 0},
        ],
        lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True,
    )  # fmt: skip
    cycle = training.schedules.one_cycle()
    fit(other, batches(), epochs=2, optimizer=optimizer, schedule=cycle, channels_last=True, progress=False)
    torch.testing.assert_close(undecayed, other.state_dict(), rtol=0, atol=0)
    assert not torch.equal(undecayed["1.weight"], plain["1.weight"])


@pytest.mark.parametrize(
    ("model", "rule", "message"),
    [
        ("net", training.no_decay, "model must be a torch.nn.Module, got 'net'"),
        (nn.Linear(2, 2), 0.1, "rule must be a function of 2 arguments, got 0.1"),
        (nn.Linear(2, 2), lambda n, p: 0.0, "rule must give a dict of options or None, got 0.0 for 'weight'"),
        (nn.Linear(2, 2), lambda n, p: {"params": []}, "rule must give a dict of options"),
        (nn.Linear(2, 2), lambda n, p: None, "rule leaves no parameter"),
        (nn.ReLU(), training.no_decay, "rule leaves no parameter"),
    ],
)
def test_wrong_rules_are_named(model, rule, message):
    with pytest.raises(ValueError, match=message):
        training.parameter_groups(model, rule)
