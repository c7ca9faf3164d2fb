"""Least squares behind a cut: against a slow solver, and what must always hold."""

import pytest
import torch
from compactvision import data, models, surgery
from torch import nn

from oracles import reconstruction as oracle

CHAINS = {
    "strided and padded": nn.Conv2d(4, 3, 3, stride=2, padding=1),
    "dilated, no bias": nn.Conv2d(4, 3, (3, 2), dilation=(2, 1), padding=(1, 0), bias=False),
}


def _cut(model, keep, shape=(2, 7, 6)):
    plan = surgery.keep_plan(surgery.channel_graph(model, shape), keep)
    return surgery.prune(model, plan), plan


@pytest.mark.parametrize("name", CHAINS)
def test_it_is_the_slow_solution(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), CHAINS[name]).double().eval()
    small, plan = _cut(model, {"0": [0, 2]})
    images = torch.randn(5, 2, 7, 6).double()
    found = surgery.reconstruct(model, small, plan, [(images[:2], None), (images[2:], None)], ridge=0.01)[2]
    expected = oracle.least_squares(small[2], small[:2](images).detach(), model(images).detach(), 0.01)
    weights = found.weight.flatten(1)
    if found.bias is not None:
        weights = torch.cat([weights, found.bias[:, None]], 1)
    torch.testing.assert_close(weights.detach(), torch.from_numpy(expected), rtol=1e-8, atol=1e-10)


def test_linear_layers_are_solved_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double().eval()
    plan = surgery.keep_plan(surgery.channel_graph(model, torch.zeros(1, 3).double()), {"0": [1, 2, 5]})
    small, x = surgery.prune(model, plan), torch.randn(40, 3).double()
    found = surgery.reconstruct(model, small, plan, [x], ridge=1e-6)[2]
    expected = oracle.least_squares(small[2], small[:2](x).detach(), model(x).detach(), 1e-6)
    weights = torch.cat([found.weight, found.bias[:, None]], 1)
    torch.testing.assert_close(weights.detach(), torch.from_numpy(expected), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_copied_channels_can_go_without_a_trace(residual):
    """The second half of an inner width repeats the first half; what remains can say it all, in every form."""
    torch.manual_seed(0)
    model = models.resnet.ResNet(1, width=8, generator=torch.Generator().manual_seed(0)).eval()
    block = model.layer2[0]
    with torch.no_grad():
        for tensor in (block.conv1.weight, block.bn1.weight, block.bn1.bias, block.bn1.running_mean):
            tensor[8:] = tensor[:8]
    graph = surgery.channel_graph(model, (3, 16, 16), residual=residual)
    plan = surgery.keep_plan(graph, {"layer2.0.conv1": range(8)})
    small, images = surgery.prune(model, plan), torch.randn(24, 3, 16, 16)
    mended = surgery.reconstruct(model, small, plan, [images], ridge=1e-8)
    with torch.no_grad():
        assert (small(images) - model(images)).abs().max() > 0.01
        torch.testing.assert_close(mended(images), model(images), rtol=1e-3, atol=1e-3)


def test_a_whole_network_comes_nearer_to_the_dense_one_on_new_images():
    model = models.pretrained("resnet20_glyphs")
    graph = surgery.channel_graph(model, (3, 32, 32), residual="scatter")
    plan = surgery.make_plan(graph, surgery.criteria.random(torch.Generator().manual_seed(0)), keep=0.7)
    small = surgery.prune(model, plan)
    train, test = data.load("glyphs", n=20), data.load("glyphs", train=False, n=20)
    state = {name: value.clone() for name, value in small.state_dict().items()}
    mended = surgery.reconstruct(model, small, plan, train.batches(10))
    (images, _), *_ = test.batches(20)
    with torch.no_grad():
        before, after = ((network(images) - model(images)).square().mean() for network in (small, mended))
    assert after < 0.5 * before
    assert all(torch.equal(state[name], value) for name, value in small.state_dict().items())
    assert not mended.training


def test_a_layer_that_lost_nothing_stays_to_the_last_bit():
    model = models.pretrained("resnet20_glyphs")
    plan = surgery.keep_plan(surgery.channel_graph(model, (3, 32, 32)), {"layer3.2.conv1": range(40)})
    mended = surgery.reconstruct(model, surgery.prune(model, plan), plan, [torch.randn(8, 3, 32, 32)])
    changed = [
        name
        for name, value in mended.named_parameters()
        if value.shape == model.get_parameter(name).shape and not torch.equal(value, model.get_parameter(name))
    ]
    assert changed == []
    assert mended.layer3[2].conv2.weight.shape == (64, 40, 3, 3)


def test_silence_teaches_nothing():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False))
    small, plan = _cut(model, {"0": [1]}, (1, 4, 4))
    mended = surgery.reconstruct(model, small, plan, [torch.zeros(2, 1, 4, 4)])
    assert torch.equal(mended[1].weight, small[1].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": []}, "batches must hold at least one batch, got none"),
        ({"ridge": 0.0}, "ridge must be positive and finite, got 0.0"),
        ({"ridge": float("nan")}, "ridge must be positive and finite, got nan"),
        ({"small": nn.Sequential()}, r"small: layer '2' has None channels, \(2, 3\) by the plan"),
        ({"model": nn.Sequential()}, "plan: layer '0' has"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
    small, plan = _cut(model, {"0": [0, 2]})
    arguments = {"model": model, "small": small, "plan": plan, "batches": [torch.randn(1, 2, 7, 6)]} | options
    with pytest.raises(ValueError, match=message):
        surgery.reconstruct(**arguments)


def test_padding_by_reflection_is_refused():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"))
    small, plan = _cut(model, {"0": [0, 2]})
    with pytest.raises(ValueError, match="layer '1' pads by 'reflect'"):
        surgery.reconstruct(model, small, plan, [torch.randn(1, 2, 7, 6)])


@pytest.mark.parametrize("inplace", [False, True])
def test_activations_in_place_change_nothing(inplace):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace), nn.Conv2d(8, 6, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(24, 4)
    )
    images = torch.randn(32, 3, 6, 6)
    plan = surgery.keep_plan(surgery.channel_graph(model, (3, 6, 6)), {"0": [0, 1, 2, 3, 4]})
    small = surgery.prune(model, plan)
    mended = surgery.reconstruct(model, small, plan, [images])
    wanted = model[2](model[0](images).relu()).detach()
    error = [float((net[2](net[0](images).relu()) - wanted).square().mean()) for net in (small, mended)]
    x = torch.nn.functional.unfold(small[0](images).relu(), 3).transpose(0, 1).flatten(1).double()
    x = torch.cat([x, torch.ones_like(x[:1])])
    y = wanted.transpose(0, 1).flatten(1).double()
    best = (torch.linalg.lstsq(x.T, y.T).solution.T @ x - y).square().mean()
    assert best <= error[1] < 1.05 * best
    assert error[1] < error[0]
