"""Bad arguments of the two methods that make numbers exactly zero while a network trains are named."""

import pytest
import torch
from compactvision import models, surgery, training
from compactvision.pruning import proximal_network_slimming as slim
from compactvision.pruning import rvsm_sparsity as rvsm
from torch import nn

STEP = slim.steps.proximal_step
ONES = torch.ones(3)


def network(num_classes=3, widths=(4, 5)):
    return models.small_cnn(num_classes, widths=widths, generator=torch.Generator().manual_seed(0)).eval()


def state(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return training.State(model, optimizer, torch.device("cpu"), epochs=2, steps_per_epoch=3)


def begun(callback, model=None):
    callback.on_start(state(network() if model is None else model))
    return callback


def plan(model):
    return surgery.keep_plan(surgery.channel_graph(model, (3, 8, 8)), {"features.0": [1, 3]})


@pytest.mark.parametrize(
    "call",
    [
        lambda bad: slim.ProximalSlimming(0.1).on_start(bad),
        lambda bad: begun(slim.ProximalSlimming(0.1)).on_step(bad),
        lambda bad: slim.NetworkSlimming(0.1).before_step(bad),
        lambda bad: rvsm.RelaxedSplitting("l0", 0.1, 1.0).on_start(bad),
        lambda bad: begun(rvsm.RelaxedSplitting("l0", 0.1, 1.0)).before_step(bad),
        lambda bad: rvsm.Subgradient(0.1).on_start(bad),
        lambda bad: begun(rvsm.Subgradient(0.1)).before_step(bad),
    ],
)
@pytest.mark.parametrize("bad", [None, {"model": 1}, nn.ReLU()])
def test_a_hook_takes_the_state_of_a_run(call, bad):
    with pytest.raises(ValueError, match="state must be of class State, got"):
        call(bad)


NUMBERS = {
    "penalty": [slim.NetworkSlimming, slim.ProximalSlimming, rvsm.Subgradient, lambda x: rvsm.threshold("l1", x, 1.0)],
    "beta": [
        lambda x: slim.ProximalSlimming(1, x),
        lambda x: rvsm.threshold("l0", 1, x),
        lambda x: STEP(ONES, ONES, 1, x, 1),
    ],
    "a": [lambda x: rvsm.regulariser_value(ONES, "l0", x), lambda x: rvsm.needed_penalty("transformed_l1", 1, 1, x)],
    "alpha": [lambda x: STEP(ONES, ONES, x, 1, 1)],
    "limit": [lambda x: rvsm.needed_penalty("l0", x, 1.0)],
    "learning_rate": [lambda x: slim.steps.needed_penalty(4, x, 1.0)],
    "share": [lambda x: rvsm.smallest_zeroed(network(), x)],
    "loss": [
        lambda x: begun(slim.ProximalSlimming(0.1)).objective(x),
        lambda x: rvsm.objective(x, ONES, ONES, "l0", 1, 1),
    ],
}


@pytest.mark.parametrize("bad", ["1", None, torch.ones(2), float("nan"), True])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_numbers(name, bad):
    for call in NUMBERS[name]:
        with pytest.raises(ValueError, match=rf"^{name} must be .*, got"):
            call(bad)


@pytest.mark.parametrize("name", ["penalty", "beta", "a", "limit", "learning_rate"])
def test_a_number_that_float32_cannot_hold(name):
    for call in NUMBERS[name]:
        with pytest.raises(ValueError, match=f"^{name} must be a number that float32 can hold, got 1e\\+200"):
            call(1e200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: STEP([1.0], ONES, 1, 1, 1), r"gamma must be a tensor, got \[1.0\]"),
        (lambda: STEP(ONES, ONES.to("meta"), 1, 1, 1), "xi must be a dense tensor of real numbers"),
        (lambda: slim.ProximalSlimming(1, generator=0), "generator must be a torch.Generator, got 0"),
        (lambda: slim.steps.needed_penalty(1.5, 0.1, 1), "steps must be a whole number, got 1.5"),
        (lambda: slim.steps.reset_batch_norm_([nn.BatchNorm2d(2)]), "model must be a torch.nn.Module"),
        (lambda: slim.behind_scales(network()), "graph must be of class ChannelGraph, got a SmallCNN"),
        (lambda: slim.fold_shifts(network(), {"features.0": [1]}), "plan must be of class Plan"),
        (lambda: slim.scales_at_zero(network(), None).__enter__(), "plan must be of class Plan, got None"),
        (lambda: slim.fold_shifts(network(3, (6, 5)), plan(network())), "plan: layer 'features.0' has"),
        (lambda: slim.scales_at_zero(network(3, (4, 7)), plan(network())).__enter__(), "plan: layer 'features.4' has"),
        (lambda: slim.fold_shifts(network().to("meta"), plan(network())), "model must be .* not on meta"),
        (
            lambda: begun(slim.ProximalSlimming(1)).importance(network().to("meta")),
            "model: the scale of 'features.1' must be a dense tensor",
        ),
        (lambda: begun(slim.ProximalSlimming(1)).load_state_dict([1]), r"state must be a mapping, got \[1\]"),
        (
            lambda: begun(slim.ProximalSlimming(1)).load_state_dict({"features.1": torch.ones(4), "features.5": 0}),
            r"state\['features.5'\] must be a tensor, got 0",
        ),
        (
            lambda: begun(slim.ProximalSlimming(1)).load_state_dict(
                {"features.1": torch.ones(5), "features.5": torch.ones(5)}
            ),
            r"state: copies of shapes .*\(5,\).* do not fit .*\(4,\)",
        ),
        (lambda: begun(slim.ProximalSlimming(1)).load_state_dict({1: ONES, "a": ONES}), "do not fit the scales"),
        (lambda: rvsm.regulariser_value(torch.ones(2, dtype=int), "l1"), "u must be a floating-point tensor"),
        (
            lambda: rvsm.objective(0, ONES, torch.ones(3, 1), "l0", 1, 1),
            r"u must have the shape of w, \(3,\), got \(3, 1\)",
        ),
        (lambda: rvsm.proximal_copy([1.0], "l1", 1, 1), "w must be a floating-point tensor"),
        (lambda: rvsm.threshold("l1", 1, 1e-50), "penalty / beta must be a number that float32 can hold"),
        (lambda: rvsm.chosen_weights("net"), "model must be a torch.nn.Module, got 'net'"),
        (lambda: rvsm.chosen_weights(network(), 3), "layers must be a non-empty list of names, got 3"),
        (lambda: rvsm.chosen_weights(network(), [["a"]]), r"layers: \['a'\] is no layer of the model"),
        (lambda: rvsm.chosen_weights(nn.LazyLinear(2)), "layers: the weight of '' has no shape yet"),
        (lambda: rvsm.replaced(network(), {}), "weights must name at least one layer"),
        (lambda: rvsm.replaced(network(), [ONES]), "weights must be a mapping"),
        (lambda: rvsm.replaced(network(), {"classifier": 0.0}), r"weights\['classifier'\] must be a tensor, got 0.0"),
        (lambda: rvsm.sparsity({"a": ONES, "b": None}), r"weights\['b'\] must be a tensor, got None"),
        (lambda: rvsm.smallest_zeroed(filled(float("nan")), 0.5), "model: weights that are NaN have no order"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def filled(number):
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, number)
    return model


def test_weights_that_are_all_zero_have_no_gap():
    splitting = begun(rvsm.RelaxedSplitting("l1", 0.1, 1.0), filled(0.0))
    assert splitting.gap() == 0.0
    assert splitting.sparsity() == 1.0


class Reused(nn.Module):
    """The weight of one layer is used by hand, another layer is not used at all."""

    def __init__(self, spare):
        super().__init__()
        self.used, self.spare = nn.Linear(3, 2), spare

    def forward(self, x):
        return nn.functional.linear(x, self.used.weight)


@pytest.mark.parametrize(
    "callback", [lambda **o: rvsm.RelaxedSplitting("l0", 0.1, 1.0, **o), lambda **o: rvsm.Subgradient(0.1, **o)]
)
@pytest.mark.parametrize(
    ("spare", "message"),
    [
        (lambda: nn.Linear(5, 5), "the loss does not depend on the weight of 'spare'"),
        (lambda: nn.MultiheadAttention(4, 2), "the loss does not depend on the weight of 'spare.out_proj'"),
        (lambda: nn.LazyLinear(2), "the weight of 'spare' has no shape yet"),
        (lambda: nn.Linear(5, 5).requires_grad_(False), "the weight of 'spare' is in none of its groups"),
    ],
)
def test_a_layer_that_forward_does_not_reach(callback, spare, message):
    batches = [(torch.ones(4, 3), torch.tensor([0, 1, 0, 1]))]
    with pytest.raises(ValueError, match=message):
        training.fit(Reused(spare()), batches, epochs=1, callbacks=[callback()], progress=False)
    training.fit(Reused(spare()), batches, epochs=1, callbacks=[callback(layers=["used"])], progress=False)
