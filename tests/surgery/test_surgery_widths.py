"""Published sizes of pruned networks, from their published rates alone."""

import pytest
import torch
from compactvision import measure, models, surgery


def _plan(model, ratios):
    graph = surgery.channel_graph(model, (3, 32, 32))
    scores = {group.name: torch.arange(group.size).float() for group in graph.groups.values()}
    widths = {
        name: max(1, int(graph.group_of(name).size * (1 - ratio))) for name, ratio in ratios.items()
    }  # as published
    return surgery.make_plan(graph, scores, keep_count=widths)


def _counts(model, plan):
    """Counts of the network that is really cut; the plan's own must be the same."""
    small = surgery.prune(model, plan)
    assert (plan.parameters, plan.macs) == (measure.parameters(small), measure.macs(small, (3, 32, 32)))
    return plan.parameters, plan.macs


def test_energy_aware_cuts_of_resnet56():
    """Stream 0.25 in stages 1 and 2, middles 0, 0.35, 0.45: 45.87 % fewer parameters, 40.51 % fewer MACs.

    The stem keeps its 16 channels. The first shortcut, an identity, would tie it to the stage behind; written as a
    channel map it computes the same and lets the stage be narrower.
    """
    model = models.resnet56()
    model.layer1[0].shortcut = models.ChannelMap(range(16), 16)
    middles = {f"layer{stage}.{block}.conv1": rate for stage, rate in ((2, 0.35), (3, 0.45)) for block in range(9)}
    plan = _plan(model, {"layer1.0.conv2": 0.25, "layer2.0.conv2": 0.25} | middles)
    assert plan.widths["conv1"] == 16
    assert sorted(set(plan.widths.values())) == [12, 16, 20, 24, 35, 64]
    parameters, macs = _counts(model, plan)
    assert 100 * (1 - parameters / 853_018) == pytest.approx(45.87, abs=0.005)
    assert 100 * (1 - macs / 125_485_696) == pytest.approx(40.51, abs=0.005)


def test_dcff_vgg16():
    model = models.vgg16_bn(conv_bias=True)
    convolutions = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    rates = [0.5] * 2 + [0.4] * 2 + [0.35] * 3 + [0.85] * 6
    plan = _plan(model, dict(zip(convolutions, rates, strict=True)))
    assert list(plan.widths.values()) == [32, 32, 76, 76, 166, 166, 166, 76, 76, 76, 76, 76, 76]
    assert _counts(model, plan) == (1_071_248, 72_349_240)


def _resnet_rates(rates, blocks):
    names = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(blocks)]
    names += ["conv1", "layer2.0.conv2", "layer3.0.conv2"]
    return dict(zip(names, rates, strict=True))


def test_dcff_resnet56():
    model = models.resnet56()
    rates = [0.7] * 2 + [0.5] * 3 + [0.3] * 2 + [0.4] + [0.8] + [0.7] * 2 + [0.8] * 4 + [0.4] + [0.2] * 2
    rates += [0.7, 0.3, 0.8, 0.4, 0.4, 0.7, 0.3, 0.4, 0.8] + [0.0] * 3
    assert _counts(model, _plan(model, _resnet_rates(rates, 9))) == (384_316, 55_057_024)


def test_dcff_resnet110_with_thinned_streams():
    model = models.resnet110()
    rates = [0.2, 0.0, 0.2, 0.3, 0.7, 0.7, 0.1, 0.3, 0.3, 0.4, 0.7, 0.7, 0.5, 0.1, 0.3, 0.0, 0.6, 0.0, 0.2, 0.5, 0.0]
    rates += [0.7, 0.7, 0.5, 0.7, 0.7, 0.4, 0.4, 0.0, 0.3, 0.1, 0.5, 0.1, 0.1, 0.1, 0.7, 0.1, 0.1] + [0.3] * 5
    rates += [0.5, 0.7, 0.2, 0.4] + [0.7] * 5 + [0.5, 0.1, 0.6, 0.2, 0.5]
    assert _counts(model, _plan(model, _resnet_rates(rates, 18))) == (555_368, 84_117_632)


def test_dcff_googlenet():
    model = models.googlenet()
    modules = [rate for count, rate in ((1, 0.8), (3, 0.9), (3, 0.8), (2, 0.9)) for _ in range(count)]
    rates = [0.0] + [rate for own in modules for rate in (0.0, own, 0.0, own, own, 0.0, 0.0)]
    convolutions = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    plan = _plan(model, dict(zip(convolutions, rates, strict=True)))
    assert _counts(model, plan) == (2_079_250, 451_471_104)


@pytest.mark.parametrize(("ratio", "width"), [(0.5, 256), (0.9, 51)])
def test_one_layer_of_a_vgg_by_arithmetic(ratio, width):
    with torch.device("meta"):
        model = models.vgg16_bn()
    plan = _plan(model.to_empty(device="cpu"), {"features.24": ratio})
    removed = 512 - width
    # 256 inputs at 4 x 4 pixels in front, 512 outputs behind, and two BatchNorm parameters
    assert 14_724_042 - plan.parameters == removed * (9 * 256 + 9 * 512 + 2)
    assert 313_201_664 - plan.macs == removed * 16 * (9 * 256 + 9 * 512)
