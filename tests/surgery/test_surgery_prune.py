import copy

import pytest
import torch
from compactvision import measure, models, surgery
from torch import nn

from oracles.residual_masks import masked_resnet

NETWORKS = [
    "vgg16_bn",
    "resnet20_a",
    "resnet20_b",
    "densenet40",
    "googlenet",
    "preresnet164",
    "mobilenet_v2",
    "resnet50",
]
ONE_A_LAYER = 0.0001


def _outputs(model, x):
    with torch.no_grad():
        return model(x)


def _assert_equal(first, second):
    assert (first - second).abs().max().item() <= 1e-5 * max(1.0, first.abs().max().item())


def _check(model, plan, x):
    """Masked and pruned agree, the counts are the plan's, and every layer's attributes fit its weights."""
    small = surgery.prune(model, plan)
    with surgery.mask(model, plan):
        masked = _outputs(model, x)
    pruned = _outputs(small, x)
    assert masked.std() > 1e-4  # nothing is hidden by a network that is dead
    _assert_equal(masked, pruned)
    assert measure.parameters(small) == plan.parameters
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            assert module.weight.shape == shape
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor.shape == (module.num_features,)
    return masked, small


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_and_pruned_agree_in_grouped_form(name, network, graph, random_scores):
    model, channels, x = network(name), graph(name, "grouped"), torch.randn(2, 3, 32, 32)
    dense = _outputs(model, x)
    for keep in (1, 0.7, 0.3, ONE_A_LAYER):
        plan = surgery.make_plan(channels, random_scores(channels), keep=keep)
        masked, small = _check(model, plan, x)
        assert torch.equal(masked, dense) == (keep == 1)
        if keep == 0.3:
            assert measure.macs(small, (3, 32, 32)) == plan.macs
        if keep == ONE_A_LAYER:
            assert set(plan.widths.values()) == {1}
    assert torch.equal(_outputs(model, x), dense)  # the network itself is as it was


@pytest.mark.parametrize("residual", ["scatter", "gather"])
@pytest.mark.parametrize("name", ["resnet20_a", "resnet20_b", "preresnet164", "densenet40", "mobilenet_v2"])
def test_masked_and_pruned_agree_in_the_forms_that_keep_the_stream(name, residual, network, graph, random_scores):
    model, channels, x = network(name), graph(name, residual), torch.randn(2, 3, 32, 32)
    for keep in (0.7, 0.3, ONE_A_LAYER):
        plan = surgery.make_plan(channels, random_scores(channels), keep=keep)
        _, small = _check(model, plan, x)
        if keep == 0.3:
            assert measure.macs(small, (3, 32, 32)) == plan.macs


@pytest.mark.parametrize("name", ["resnet20_a", "resnet20_b"])
def test_grouped_form_is_a_mask_on_streams_and_middles(name, network, graph, random_scores):
    model, channels, x = network(name), graph(name, "grouped"), torch.randn(2, 3, 32, 32)
    plan = surgery.make_plan(channels, random_scores(channels), keep=0.6)
    kept = {group: _indicator(plan, group) for group in channels.groups}
    streams = {0: kept["conv1"], 1: kept["layer2.0.conv2"], 2: kept["layer3.0.conv2"]}
    inner = {group.removesuffix(".conv1"): mask for group, mask in kept.items() if group.endswith(".conv1")}
    assert len(inner) == 9
    expected = masked_resnet(model, x, inner=inner, streams=streams)
    _assert_equal(expected, _outputs(surgery.prune(model, plan), x))


def test_scatter_form_is_a_mask_on_middles_and_branches(network, graph, random_scores):
    model, channels, x = network("resnet20_a"), graph("resnet20_a", "scatter"), torch.randn(2, 3, 32, 32)
    plan = surgery.make_plan(channels, random_scores(channels), keep=0.6)
    masks = {group: _indicator(plan, group) for group in channels.groups}
    inner = {group.removesuffix(".conv1"): mask for group, mask in masks.items() if group.endswith("conv1")}
    branches = {group.removesuffix(".conv2"): mask for group, mask in masks.items() if group.endswith("conv2")}
    assert (len(inner), len(branches)) == (9, 9)
    expected = masked_resnet(model, x, inner=inner, branches=branches)
    _assert_equal(expected, _outputs(surgery.prune(model, plan), x))


def test_gather_form_is_a_mask_on_what_each_layer_reads(network, graph, random_scores):
    model, channels, x = network("resnet20_a"), graph("resnet20_a", "gather"), torch.randn(2, 3, 32, 32)
    plan = surgery.make_plan(channels, random_scores(channels), keep=0.6)
    masks = {group: _indicator(plan, group) for group in channels.groups}
    inner = {group.removesuffix(".conv1"): mask for group, mask in masks.items() if group.endswith("conv1")}
    reads = {"fc": masks["fc:in"]}
    reads |= {group.removesuffix(".conv1:in"): mask for group, mask in masks.items() if group.endswith(".conv1:in")}
    assert (len(inner), len(reads)) == (9, 10)
    expected = masked_resnet(model, x, inner=inner, reads=reads)
    _assert_equal(expected, _outputs(surgery.prune(model, plan), x))


def _indicator(plan, group):
    return plan.kept[plan.graph.groups[group].units].float()


@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_a_pruned_network_can_be_pruned_again(residual, network, graph, random_scores):
    model, x = network("resnet20_a"), torch.randn(2, 3, 32, 32)
    channels = graph("resnet20_a", residual)
    once = surgery.prune(model, surgery.make_plan(channels, random_scores(channels), keep=0.75))
    again = surgery.channel_graph(once, (3, 32, 32), residual=residual)
    assert set(again.groups) == set(channels.groups)  # names survive the wrapping
    assert {name: group.kind for name, group in again.groups.items()} == {
        name: group.kind for name, group in channels.groups.items()
    }
    _check(once, surgery.make_plan(again, random_scores(again, seed=1), keep=0.5), x)


def test_weights_of_a_chain_are_cut_on_both_sides(shaken):
    model = shaken(models.small_cnn(3, widths=(2, 3), in_channels=1, head="fc", size=8, norm=False, pool=[0]))
    plan = surgery.keep_plan(surgery.channel_graph(model, (1, 8, 8)), {"features.0": [1], "features.3": [0, 2]})
    small = surgery.prune(model, plan)
    first, second = model.features[0], model.features[3]
    assert torch.equal(small.features[0].weight, first.weight[[1]])
    assert torch.equal(small.features[0].bias, first.bias[[1]])
    assert torch.equal(small.features[3].weight, second.weight[[0, 2]][:, [1]])
    columns = [*range(16), *range(32, 48)]  # each channel owns 4 x 4 neighbouring columns behind the flattening
    assert torch.equal(small.classifier.weight, model.classifier.weight[:, columns])


def test_the_option_a_map_is_rewritten(network, graph):
    plan = surgery.keep_plan(graph("resnet20_a", "grouped"), {"conv1": [0, 5], "layer2.0.conv2": [0, 8, 9, 13, 31]})
    shortcut = surgery.prune(network("resnet20_a"), plan).layer2[0].shortcut
    assert shortcut.source.tolist() == [-1, 0, -1, 1, -1]  # 8 copied channel 0, 13 channel 5, 9 the removed channel 1
    assert (shortcut.in_channels, shortcut.out_channels, shortcut.stride) == (2, 5, 2)


def test_a_wrapped_layer_reads_and_writes_parts_of_the_stream(network, graph):
    keep = {"layer1.0.conv2": [3, 7]}
    scattered = surgery.prune(network("resnet20_a"), surgery.keep_plan(graph("resnet20_a", "scatter"), keep))
    block = scattered.layer1[0]
    assert isinstance(block.bn2, surgery.Scattered)
    assert block.bn2[0].num_features == 2
    assert block.bn2[1].source.tolist() == [-1] * 3 + [0] + [-1] * 3 + [1] + [-1] * 8
    gathered = surgery.prune(
        network("resnet20_a"), surgery.keep_plan(graph("resnet20_a", "gather"), {"fc:in": [60, 2]})
    )
    assert isinstance(gathered.fc, surgery.Gathered)
    assert gathered.fc[0].source.tolist() == [2, 60]
    assert gathered.fc[1].in_features == 2


def test_nothing_is_wrapped_where_nothing_is_cut(network, graph, random_scores):
    channels = graph("resnet20_a", "scatter")
    small = surgery.prune(network("resnet20_a"), surgery.make_plan(channels, random_scores(channels), keep=1))
    assert [name for name, _ in small.named_modules()] == [name for name, _ in network("resnet20_a").named_modules()]


def test_flags_dtypes_and_hooks_stay(shaken):
    model = shaken(models.small_cnn(3, widths=(4, 4))).double().train()
    model.features[0].weight.requires_grad_(False)
    model.features[1].eval()
    before = copy.deepcopy(model.state_dict())
    plan = surgery.keep_plan(surgery.channel_graph(model, (3, 8, 8)), {"features.0": [0, 2]})
    small = surgery.prune(model, plan)
    with surgery.mask(model, plan) as same:
        assert same is model
    assert model.training
    assert not model.features[1].training
    assert small.training
    assert not small.features[1].training
    assert small.features[0].weight.dtype == torch.float64
    assert not small.features[0].weight.requires_grad
    assert small.features[4].weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    small.features[0].weight.data.fill_(7)  # a copy, not a view
    assert torch.equal(model.features[0].weight, before["features.0.weight"])


def test_the_mask_is_gone_after_an_error(network, graph):
    model = network("resnet20_a")
    with (
        pytest.raises(RuntimeError, match="stop"),
        surgery.mask(model, surgery.keep_plan(graph("resnet20_a", "grouped"), {"conv1": [0]})),
    ):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_pruned_network_trains(network, graph, random_scores):
    channels = graph("resnet20_a", "scatter")
    small = surgery.prune(network("resnet20_a"), surgery.make_plan(channels, random_scores(channels), keep=0.5))
    small.train()(torch.randn(4, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


@pytest.mark.parametrize("function", [surgery.prune, lambda model, plan: surgery.mask(model, plan).__enter__()])
def test_a_plan_for_another_network_is_refused(function, graph):
    plan = surgery.keep_plan(graph("resnet20_a", "grouped"), {})
    with pytest.raises(ValueError, match=r"plan: layer 'conv1' has \(3, 16\) channels in the plan, \(1, 16\)"):
        function(models.resnet20(in_channels=1), plan)
    for other in (nn.Sequential(), nn.ModuleDict({"conv1": nn.ReLU()})):
        with pytest.raises(ValueError, match=r"plan: layer 'conv1' .* None in the model"):
            function(other, plan)


def test_measured_latency_times_each_width_once(network, graph, monkeypatch):
    timed = []

    def fake(model, example, **options):
        timed.append(measure.parameters(model))
        return measure.Latency(float(len(timed)), 0.0, 0.0, 1, 1, 1, "cpu")

    monkeypatch.setattr(measure, "latency", fake)
    milliseconds = surgery.measured_latency(network("resnet20_a"), (3, 32, 32))
    channels = graph("resnet20_a", "grouped")
    first, same_widths = (surgery.keep_plan(channels, {"conv1": [index]}) for index in (0, 1))
    assert (milliseconds(first), milliseconds(same_widths)) == (1.0, 1.0)
    assert timed == [first.parameters]
