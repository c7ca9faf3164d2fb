"""Gates on channels: what they multiply, where, and that a mask is a case of them."""

import copy

import pytest
import torch
from compactvision import surgery
from torch import nn


def test_a_gate_multiplies_its_channel_in_maps_and_vectors():
    gates = torch.tensor([0.0, 0.5], dtype=torch.float64)
    x = torch.ones(2, 2, 3, 3)
    assert surgery.multiply(x, gates).dtype == torch.float32
    assert surgery.multiply(x, gates)[:, 1].unique().tolist() == [0.5]
    assert surgery.multiply(x[..., 0, 0], gates).tolist() == [[0.0, 0.5]] * 2


@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_gates_of_zero_and_one_are_the_mask(residual, network, graph, random_scores):
    model, channels = network("resnet20_a"), graph("resnet20_a", residual)
    plan = surgery.make_plan(channels, random_scores(channels), keep=0.6)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        with surgery.mask(model, plan):
            masked = model(x)
        with surgery.gated(model, channels, plan.kept.double()):
            gated = model(x)
        dense = model(x)
    assert torch.equal(masked, gated)
    assert not torch.equal(masked, dense)


def test_every_gate_has_a_gradient_also_where_it_is_one(network, graph):
    channels = graph("resnet20_a", "scatter")
    gates = torch.ones(channels.units, requires_grad=True)
    with surgery.gated(network("resnet20_a"), channels, gates):
        network("resnet20_a")(torch.randn(2, 3, 32, 32)).square().sum().backward()
    inside = ~surgery.ungated(channels)
    assert (gates.grad[inside] != 0).float().mean() > 0.9
    assert (gates.grad[~inside] == 0).all()


def test_units_outside_of_the_groups_are_gated_where_they_are_not_one():
    """A hand-made plan on a restricted graph: the mask hides what the cut takes out."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1)).eval()
    whole = surgery.channel_graph(model, (1, 2, 2))
    few = whole.only("1")
    kept = torch.ones(whole.units, dtype=torch.bool).index_fill(0, whole.groups["0"].units[:1], False)
    plan, x = surgery.Plan(few, kept), torch.randn(2, 1, 2, 2)
    with torch.no_grad(), surgery.mask(model, plan):
        masked = model(x)
    with torch.no_grad():
        torch.testing.assert_close(surgery.prune(model, plan)(x), masked)


def test_ungated_units_are_those_of_no_group(graph):
    channels = graph("resnet20_a", "scatter").only("layer1.0.conv1")
    assert int((~surgery.ungated(channels)).sum()) == 16


def test_hooks_are_gone_and_gates_untouched_afterwards(network, graph):
    model, channels = network("resnet20_a"), graph("resnet20_a", "grouped")
    gates = torch.full((channels.units,), 0.5)
    before = copy.copy(gates)
    behind = {"conv1": ["layer1.0"]}
    with surgery.gated(model, channels, gates, behind=behind):
        hooked = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert hooked > 10
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 0
    assert torch.equal(gates, before)


def test_what_behind_gates_is_gated_once(network, graph):
    """A branch that writes into part of a stream, gated by ``behind`` where it would be gated anyway."""
    model, channels = network("resnet20_a"), graph("resnet20_a", "scatter")
    name = "layer1.0.conv2"
    gates = torch.ones(channels.units).index_fill(0, channels.group_of(name).units, 0.5)
    x = torch.randn(2, 3, 32, 32)
    outputs = {}
    with torch.no_grad():
        for case, behind in {"usual": {}, "behind": {name: ["layer1.0.bn2"]}}.items():
            with surgery.gated(model, channels, gates, behind=behind):
                outputs[case] = model(x)
    assert torch.equal(outputs["behind"], outputs["usual"])
    assert not torch.equal(outputs["usual"], model(x))


@pytest.mark.parametrize(
    ("gates", "behind", "message"),
    [
        (torch.ones(3), {}, r"gates must have shape \(\d+,\), one for each unit, got \(3,\)"),
        (None, {"conv1": ["layer9"]}, r"behind\['conv1'\]: the model has no module 'layer9'"),
        (None, {"nobody": ["layer1"]}, "'nobody' is no group"),
    ],
)
def test_bad_gates_are_refused(gates, behind, message, network, graph):
    channels = graph("resnet20_a", "grouped")
    gates = torch.ones(channels.units) if gates is None else gates
    with pytest.raises(ValueError, match=message), surgery.gated(network("resnet20_a"), channels, gates, behind=behind):
        pass


def test_gates_that_are_no_numbers_are_refused(network, graph):
    channels = graph("resnet20_a", "grouped")
    gates = torch.ones(channels.units).index_fill(0, torch.tensor([1]), float("nan"))
    with pytest.raises(ValueError, match="gates holds NaN"), surgery.gated(network("resnet20_a"), channels, gates):
        pass
