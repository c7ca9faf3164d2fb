import pytest
import torch
from compactvision import measure, models
from compactvision.models.densenet_cifar import DenseLayer, DenseNet
from torch import nn


def test_densenet40_has_the_published_counts():
    with torch.device("meta"):
        model, hundred = models.densenet40(), models.densenet40(100)
    assert measure.parameters(model) == 1_059_298
    assert measure.macs(model, (3, 32, 32)) == 282_917_328
    assert measure.parameters(hundred) == 1_100_428


def test_densenet40_has_9360_batchnorm_scales_in_39_layers():
    scales = [module.num_features for module in models.densenet40().modules() if isinstance(module, nn.BatchNorm2d)]
    assert (len(scales), sum(scales)) == (39, 9_360)


def test_a_dense_layer_keeps_its_input_and_appends_the_convolution_of_the_normalised_input():
    layer = DenseLayer(3, 2).eval()
    x = torch.randn(2, 3, 5, 5)
    out = layer(x)
    torch.testing.assert_close(out[:, :3], x, rtol=0, atol=0)
    expected = nn.functional.conv2d(torch.relu(x / (1 + 1e-5) ** 0.5), layer.conv1.weight, padding=1)
    torch.testing.assert_close(out[:, 3:], expected)


def test_stage_widths_are_168_312_456():
    model = models.densenet40().eval()
    x = model.conv1(torch.zeros(1, 3, 32, 32))
    shapes = [tuple((x := stage(x)).shape[1:]) for stage in (model.dense1, model.trans1, model.dense2)]
    assert shapes == [(168, 32, 32), (168, 16, 16), (312, 16, 16)]
    assert model.fc.in_features == 456


def test_every_relu_runs_once_and_not_in_place():
    model, calls = models.densenet40().eval(), []
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    for relu in relus:
        relu.register_forward_hook(lambda module, *_: calls.append(module))
    model(torch.zeros(1, 3, 32, 32))
    assert calls == relus
    assert not any(relu.inplace for relu in relus)


def test_the_generator_decides_the_weights():
    first, second = (DenseNet(1, 2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.dense1[0].conv1.weight, second.dense1[0].conv1.weight)


@pytest.mark.parametrize("name", ["layers", "growth", "num_classes", "in_channels"])
def test_a_count_below_one_is_refused(name):
    options = {"layers": 1, "growth": 2, "num_classes": 3, "in_channels": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        DenseNet(**options)
