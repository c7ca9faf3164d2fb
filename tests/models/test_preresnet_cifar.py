import pytest
import torch
from compactvision import measure, models
from compactvision.models.preresnet_cifar import PreBottleneck, PreResNet
from torch import nn


@pytest.mark.parametrize(
    ("build", "parameters", "macs", "scales"),
    [(models.preresnet164, 1_703_258, 247_646_720, 12_112), (models.preresnet110, 1_146_842, 167_430_656, 8_080)],
)
def test_the_published_counts(build, parameters, macs, scales):
    with torch.device("meta"):
        model = build()
    assert measure.parameters(model) == parameters
    assert measure.macs(model, (3, 32, 32)) == macs
    assert sum(module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d)) == scales


def test_preresnet164_has_1726388_parameters_for_100_classes():
    with torch.device("meta"):
        model = models.preresnet164(100)
    assert measure.parameters(model) == 1_726_388


def test_the_shortcut_reads_the_stream_itself():
    block = PreBottleneck(3, 2, stride=2).eval()
    nn.init.zeros_(block.conv3.weight)
    x = -torch.rand(2, 3, 6, 6)  # a ReLU in front would make it zero
    expected = torch.einsum("oi,bihw->bohw", block.shortcut.weight[:, :, 0, 0], x[:, :, ::2, ::2])
    torch.testing.assert_close(block(x), expected)


def test_a_block_without_a_change_of_size_adds_its_input():
    block = PreBottleneck(8, 2).eval()
    nn.init.zeros_(block.conv3.weight)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


def test_only_the_first_block_of_a_stage_has_a_convolution_as_shortcut():
    model = PreResNet(2)
    kinds = [type(block.shortcut) for stage in (model.layer1, model.layer2, model.layer3) for block in stage]
    assert kinds == [nn.Conv2d, nn.Identity] * 3
    assert [stage[0].conv2.stride for stage in (model.layer1, model.layer2, model.layer3)] == [(1, 1), (2, 2), (2, 2)]


def test_every_relu_runs_once_and_not_in_place():
    model, calls = PreResNet(1).eval(), []
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    for relu in relus:
        relu.register_forward_hook(lambda module, *_: calls.append(module))
    model(torch.zeros(1, 3, 32, 32))
    assert set(calls) == set(relus)
    assert len(calls) == 10
    assert not any(relu.inplace for relu in relus)


@pytest.mark.parametrize("name", ["blocks", "num_classes", "in_channels", "width"])
def test_a_count_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        PreResNet(**({"blocks": 1} | {name: 0}))
