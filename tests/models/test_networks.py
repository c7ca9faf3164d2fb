"""Structure and values of the networks."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from compactvision import models
from torch import nn

from oracles import option_a

NETWORKS = {
    "resnet20": models.resnet20,
    "resnet20, option B": lambda **options: models.resnet20(shortcut="B", **options),
    "vgg11_bn": models.vgg11_bn,
    "vgg11_bn, hidden": lambda **options: models.vgg11_bn(conv_bias=True, hidden=8, **options),
    "small_cnn": models.small_cnn,
    "small_cnn, fc": lambda **options: models.small_cnn(head="fc", norm=False, **options),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_relu_is_its_own_module_and_runs_once(name):
    network = NETWORKS[name]().eval()
    calls = Counter()
    relus = {key: module for key, module in network.named_modules() if isinstance(module, nn.ReLU)}
    for key, module in relus.items():
        assert not module.inplace
        module.register_forward_hook(lambda *_, key=key: calls.update([key]))
    with torch.profiler.profile() as profile, torch.no_grad():
        network(torch.randn(1, 3, 32, 32))
    assert calls == dict.fromkeys(relus, 1)
    executed = sum(event.count for event in profile.key_averages() if event.key in ("aten::relu", "aten::relu_"))
    assert executed == len(relus)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_generator_decides_every_weight(name):
    first = NETWORKS[name](generator=torch.Generator().manual_seed(3)).state_dict()
    torch.manual_seed(99)
    second = NETWORKS[name](generator=torch.Generator().manual_seed(3)).state_dict()
    third = NETWORKS[name](generator=torch.Generator().manual_seed(4)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], third[key]) for key in first)


def test_initialisation_has_the_stated_variances():
    network = models.vgg16_bn(hidden=512, conv_bias=True)
    conv, linear = network.features[7], network.classifier[0]
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert linear.weight.std().item() == pytest.approx((1 / 512) ** 0.5, rel=0.02)
    assert conv.weight.mean().abs().item() < 1e-3
    assert not conv.bias.any()
    assert not linear.bias.any()


def block_by_hand(block, x, planes, stride):
    """A basic block in evaluation mode written with functional calls."""

    def norm(layer, value):
        return F.batch_norm(value, layer.running_mean, layer.running_var, layer.weight, layer.bias)

    out = F.relu(norm(block.bn1, F.conv2d(x, block.conv1.weight, stride=stride, padding=1)))
    out = norm(block.bn2, F.conv2d(out, block.conv2.weight, padding=1))
    return F.relu(out + (option_a.padded(x, planes) if stride == 2 else x))


def test_resnet_equals_its_functional_form():
    network = models.resnet20(num_classes=7).double().eval()
    for buffer in (b for name, b in network.named_buffers() if "running" in name):
        buffer.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    x = F.relu(network.bn1(F.conv2d(images, network.conv1.weight, padding=1)))
    for stage, planes in ((network.layer1, 16), (network.layer2, 32), (network.layer3, 64)):
        for index, block in enumerate(stage):
            x = block_by_hand(block, x, planes, 2 if planes > 16 and index == 0 else 1)
    logits = F.linear(x.mean(dim=(2, 3)), network.fc.weight, network.fc.bias)
    torch.testing.assert_close(network(images), logits, rtol=1e-12, atol=1e-12)


def test_resnet_depth_counts_layers_with_weights():
    for name, depth in (("resnet20", 20), ("resnet32", 32), ("resnet44", 44), ("resnet56", 56), ("resnet110", 110)):
        with torch.device("meta"):
            network = getattr(models, name)()
        assert sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in network.modules()) == depth


def test_width_and_input_channels():
    network = models.resnet20(5, width=4, in_channels=1)
    assert network.layer3[0].conv1.weight.shape == (16, 8, 3, 3)
    assert network(torch.randn(2, 1, 28, 28)).shape == (2, 5)


def test_vgg_pools_between_groups_and_averages_at_the_end():
    network = models.vgg16_bn()
    layers = ["M" if isinstance(m, nn.MaxPool2d) else m.out_channels for m in network.features if not _is_pointwise(m)]
    assert layers == [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512]
    assert network.avgpool.kernel_size == 2


def _is_pointwise(module):
    return isinstance(module, (nn.BatchNorm2d, nn.ReLU))


def test_small_cnn_has_what_was_asked_for():
    network = models.small_cnn(4, (8, 8, 16, 16), norm=False, head="fc", dropout=0.25, pool=(1,), in_channels=1, size=8)
    assert [type(module).__name__ for module in network.features] == ["Conv2d", "ReLU"] * 2 + ["MaxPool2d"] + [
        "Conv2d",
        "ReLU",
    ] * 2
    assert network.features[0].bias is not None
    assert network.classifier.in_features == 16 * 4 * 4
    assert network.dropout.p == 0.25
    assert network(torch.randn(3, 1, 8, 8)).shape == (3, 4)
    assert models.small_cnn().features[0].bias is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.resnet20(shortcut="C"), "shortcut must be .* got 'C'"),
        (lambda: models.resnet20(0), "num_classes must be at least 1, got 0"),
        (lambda: models.ResNet(0), "blocks must be at least 1, got 0"),
        (lambda: models.VGG(12), "depth must be one of .* got 12"),
        (lambda: models.vgg16_bn(hidden=0), "hidden must be at least 1, got 0"),
        (lambda: models.small_cnn(widths=()), "widths must be"),
        (lambda: models.small_cnn(0), "num_classes must be at least 1, got 0"),
        (lambda: models.small_cnn(head="max"), "head must be .* got 'max'"),
        (lambda: models.small_cnn(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: models.small_cnn(pool=(3,)), r"pool must hold indices .* got \(3,\)"),
        (lambda: models.small_cnn(size=2), "size=2 is too small for 2"),
        (lambda: models.imagenet("resnet5"), "'resnet5'; did you mean resnet50"),
        (lambda: models.imagenet("xyzzy"), "no classification network 'xyzzy'$"),
        (lambda: models.vgg11_bn()(torch.zeros(1, 3, 64, 64)), "images must be 32 x 32 for this VGG, got 64 x 64"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_imagenet_is_torchvisions_network_with_nothing_in_place():
    import torchvision

    ours, theirs = models.imagenet("resnet18", num_classes=5), torchvision.models.resnet18(num_classes=5)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
    assert not any(getattr(module, "inplace", False) for module in ours.modules())
