"""Ablation as an importance: what it scores, what is planned and cut by it."""

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.explanation import unit_ablation
from compactvision.explanation.unit_ablation import cache_layer, unit_drops


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(60, 3, 16, 16, generator=generator)
    return [(images[:40], torch.arange(40) % 5), (images[40:], torch.arange(20) % 5)]


@pytest.fixture
def network():
    return models.small_cnn(5, (6, 8), norm=True, size=16, generator=torch.Generator().manual_seed(4)).eval()


def test_scores_are_the_drops_of_the_chapter(network, batches):
    scores = {drop: unit_ablation.importance(batches, drop=drop)(network) for drop in ("overall", "largest")}
    for group, relu in (("features.0", "features.2"), ("features.4", "features.6")):
        damage = unit_drops(cache_layer(network, relu, batches))
        assert torch.equal(scores["overall"][group], damage.overall)
        assert torch.equal(scores["largest"][group], damage.largest)
    assert (scores["overall"]["features.4"] != scores["largest"]["features.4"]).any()


def test_a_unit_that_nobody_misses_goes_first(network, batches):
    with torch.no_grad():  # labels that the network gives itself: every change of a prediction is a loss
        network.classifier.weight[:, [1, 4, 6]] = 0  # wires that are cut: nobody can miss these units
        batches = [(images, network(images).argmax(1)) for images, _ in batches]
    graph = surgery.channel_graph(network, (3, 16, 16))
    importance = unit_ablation.importance(batches)
    assert (importance(network)["features.4"] == 0).nonzero()[:, 0].tolist() == [1, 4, 6]
    plan = surgery.make_plan(graph, importance, keep={"features.4": 5 / 8})
    assert plan.keep["features.4"] == (0, 2, 3, 5, 7)
    small = surgery.prune(network, plan)
    assert small.classifier.in_features == 5
    for images, targets in batches:
        assert torch.equal(small(images).argmax(1), targets)


@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_a_drop_is_what_cutting_the_unit_costs_in_streams_too(residual, batches):
    network = models.ResNet(1, 5, width=4, generator=torch.Generator().manual_seed(2)).eval()
    with torch.no_grad():
        batches = [(images, network(images).argmax(1)) for images, _ in batches]
    graph = surgery.channel_graph(network, (3, 16, 16), residual=residual)
    scores = unit_ablation.importance(batches, residual=residual)(network)
    assert scores.keys() == graph.groups.keys()
    assert any((drops > 0).any() for drops in scores.values())
    for name, drops in scores.items():
        for unit in {0, int(drops.argmax())}:
            kept = torch.arange(graph.groups[name].size) != unit
            small = surgery.prune(network, surgery.keep_plan(graph, {name: kept}))
            assert 1 - measure.accuracy(small, batches) == pytest.approx(float(drops[unit]), abs=1e-6), (name, unit)
    assert surgery.make_plan(graph, scores, keep_macs=0.7).macs < graph.macs


def test_the_network_is_left_as_it_was(network, batches):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    unit_ablation.importance(batches)(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_errors(network, batches):
    with pytest.raises(ValueError, match="drop must be 'overall' or 'largest', got 'mean'"):
        unit_ablation.importance(batches, drop="mean")
    with pytest.raises(ValueError, match="batches must hold at least one batch, got none"):
        unit_ablation.importance([])(network)
    with pytest.raises(ValueError, match="residual must be one of"):
        unit_ablation.importance(batches, residual="none")(network)
