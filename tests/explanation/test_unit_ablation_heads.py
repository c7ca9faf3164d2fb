"""The part of a network behind a layer, run alone."""

import pytest
import torch
import torch.nn.functional as F
from compactvision import models
from compactvision.explanation.heads import Head, cache_layer
from compactvision.explanation.unit_ablation import unit_drops
from compactvision.explanation.unit_ablation.ablations import remove_direction, zero_units
from compactvision.explanation.unit_ablation.attributes import taylor_rise
from compactvision.explanation.xgrad_cam import channel_drops
from compactvision.hooks import replace_output
from torch import nn


class Counting(nn.Conv2d):
    """A convolution that counts how often it has run."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


class Twice(nn.Module):
    """One ReLU module used at two places."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)
        self.relu, self.pool, self.fc = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(5, 2)

    def forward(self, x):
        x = self.relu(self.second(self.relu(self.first(x))))
        return self.fc(self.pool(x).flatten(1))


class Functional(nn.Module):
    """Pooling, flattening and a size check written as functions, as in much published code."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.ReLU()
        self.fc = nn.Linear(24, 3)

    def forward(self, x):
        x = torch.relu(nn.functional.max_pool2d(self.conv1(x), 2))
        x = nn.functional.avg_pool2d(self.act(self.conv2(x)), 6)
        if x.shape[1:] != (6, 2, 2):
            raise ValueError("images must be 32 x 32")
        return self.fc(x.view(x.size(0), -1))


def build(name):
    """A network with BatchNorm statistics that are not trivial, in eval mode, and 32 x 32 inputs."""
    network = {
        "resnet20": lambda: models.resnet20(),
        "resnet_b": lambda: models.resnet20(shortcut="B"),
        "vgg11": lambda: models.vgg11_bn(),
        "small_gap": lambda: models.small_cnn(10, (6, 8)),
        "small_fc": lambda: models.small_cnn(10, (6, 8), norm=False, head="fc", dropout=0.5),
        "resnet18": lambda: models.imagenet("resnet18", 7),
        "mobilenet_v2": lambda: models.imagenet("mobilenet_v2", 7),
        "functional": Functional,
    }[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


CASES = [
    ("resnet20", "layer3.2"),
    ("resnet20", "layer3.2.relu2"),
    ("resnet20", "layer2"),
    ("resnet20", "relu"),
    ("resnet20", "avgpool"),
    ("resnet_b", "layer2.0"),
    ("vgg11", "features.27"),
    ("vgg11", "features"),
    ("small_gap", "features.2"),
    ("small_fc", "features.4"),
    ("resnet18", "layer3"),
    ("mobilenet_v2", "features.18"),
    ("functional", "act"),
]


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_replay_equals_the_whole_network_with_the_layer_replaced(name, layer):
    network, images = build(name), torch.randn(5, 3, 32, 32)
    head = Head(network, layer, images[:2])
    activation = torch.rand(5, *head.activation.shape[1:])
    with torch.no_grad():
        with replace_output(network, layer, lambda _: activation):
            expected = network(images)
        found = head(activation)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, network(images), atol=1e-3)


def test_layers_before_are_not_run_again():
    network = nn.Sequential(Counting(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    head = Head(network, "1", torch.randn(2, 3, 8, 8))
    assert network[0].runs == 1
    head(torch.rand(7, 4, 6, 6))
    assert network[0].runs == 1


def test_a_path_around_the_layer_is_refused():
    with pytest.raises(ValueError, match=r"layer: 'layer3.2.relu1'.*another way"):
        Head(build("resnet20"), "layer3.2.relu1", torch.randn(2, 3, 32, 32))


def test_a_layer_that_runs_twice_is_refused():
    with pytest.raises(ValueError, match=r"layer: 'relu' runs 2 times"):
        Head(Twice(), "relu", torch.randn(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"layer: 'layer4.1.relu' runs 2 times"):
        Head(build("resnet18"), "layer4.1.relu", torch.randn(2, 3, 32, 32))


def test_a_reused_activation_before_and_behind_still_runs():
    network, images = Twice().eval(), torch.randn(3, 3, 8, 8)
    network.second = nn.Sequential(nn.Conv2d(4, 5, 1), nn.Softplus())
    head = Head(network, "second", images)
    activation = torch.randn(3, 5, 8, 8)
    expected = network.fc(activation.relu().mean((2, 3)))
    assert torch.allclose(head(activation), expected, atol=1e-6)


def test_unknown_layers_and_odd_models_are_named():
    network, images = build("small_gap"), torch.randn(2, 3, 32, 32)
    for layer in ("features.99", ""):
        with pytest.raises(ValueError, match=r"layer: .* is no module of this SmallCNN"):
            Head(network, layer, images)

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(x), x

    with pytest.raises(ValueError, match="model: it returns a tuple"):
        Head(Pair(), "act", images)


def test_the_model_is_left_as_it_was_also_after_an_error():
    network = models.small_cnn(10, (6, 8)).train()
    network.features[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flags = [module.training for module in network.modules()]
    with pytest.raises(ValueError, match="layer"):
        Head(network, "nowhere", torch.randn(2, 3, 32, 32))
    head = Head(network, "features.2", torch.randn(2, 3, 32, 32))
    with pytest.raises(RuntimeError):
        head(torch.rand(2, 5, 32, 32))  # five channels do not fit
    for module in network.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
    assert [module.training for module in network.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_forward_of_the_modules_own_is_put_back():
    network = build("small_gap")
    own = network.features[0].forward
    network.features[0].forward = own
    Head(network, "features.2", torch.randn(2, 3, 32, 32))
    assert vars(network.features[0])["forward"] is own


def test_in_place_layers_behind_do_not_change_what_is_cached():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2))
    images, targets = torch.randn(6, 3, 8, 8), torch.zeros(6, dtype=torch.long)
    cache = cache_layer(network, "1", [(images, targets)])
    assert torch.equal(cache.activation, network[1](network[0](images)))
    assert (cache.activation < 0).any()
    before = cache.activation.clone()
    first, second = cache.head(cache.activation), cache.head(cache.activation)
    assert torch.equal(cache.activation, before)
    assert torch.equal(first, second)
    assert torch.allclose(first, network(images), atol=1e-6)


def test_cache_holds_what_the_network_computes():
    network = build("small_fc").train()
    batches = [(torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2])), (torch.randn(2, 3, 32, 32), torch.tensor([3, 4]))]
    cache = cache_layer(network, "features.4", batches)
    network.eval()
    images = torch.cat([inputs for inputs, _ in batches])
    with torch.no_grad():
        assert torch.allclose(cache.logits, network(images), atol=1e-6)
        assert torch.allclose(cache.activation, network.features[:5](images), atol=1e-6)
    assert cache.targets.tolist() == [0, 1, 2, 3, 4]
    assert (cache.units, cache.num_classes) == (8, 10)
    part = cache.subset(cache.targets > 2)
    assert torch.equal(part.activation, cache.activation[3:])
    with pytest.raises(ValueError, match="no image is left"):
        cache.subset(cache.targets > 7)
    with pytest.raises(ValueError, match="batches: there is no image"):
        cache_layer(network, "features.4", [])


@pytest.mark.parametrize(
    ("layer", "kind"), [("features.0", "Conv2d"), ("features.1", "BatchNorm2d"), ("classifier", "Linear")]
)
def test_layers_whose_output_is_not_the_last_word_are_refused(layer, kind):
    with pytest.raises(ValueError, match=rf"layer: '{layer}' is a {kind}; name the activation"):
        cache_layer(build("small_gap"), layer, [(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))])


class Writes(nn.Module):
    """Operations in place on the output of a module, before and behind ``block``."""

    def __init__(self, write):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.block, self.pool, self.fc = nn.Conv2d(5, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)
        self.relu, self.write = nn.ReLU(inplace=True), write

    def forward(self, x):
        x = self.write(self, self.c1(x))
        x = self.write(self, self.c2(x))
        return self.fc(self.pool(self.write(self, self.block(x))).flatten(1))


def increased(network, y):
    y += 1
    return y


def assigned(network, y):
    y[:, :2] = 0.5
    return y


def statement(network, y):
    F.relu_(y)
    return y * 2


@pytest.mark.parametrize(
    "write",
    [
        lambda network, y: network.relu(y),
        lambda network, y: F.relu(y, inplace=True),
        lambda network, y: F.relu(y),
        lambda network, y: y.mul_(2).clamp_(max=1),
        lambda network, y: torch.add(y, 1, out=y),
        lambda network, y: F.gelu(y).view(y.shape).relu_(),
        increased,
        assigned,
        statement,
    ],
)
@pytest.mark.parametrize("layer", ["c2", "block", "pool"])
def test_in_place_operations_before_and_behind_the_layer(write, layer):
    network, images = Writes(write).eval(), torch.randn(4, 3, 10, 10)
    head = Head(network, layer, images[:2])
    activation = torch.randn(4, *head.activation.shape[1:])
    kept = activation.clone()
    with torch.no_grad():
        with replace_output(network, layer, lambda _: activation.clone()):
            expected = network(images)
        for _ in range(2):
            torch.testing.assert_close(head(activation), expected)
    assert torch.equal(activation, kept)
    drops = channel_drops(network, layer, images)
    with torch.no_grad():
        logits = network(images)
    classes = logits.argmax(1, keepdim=True)
    for channel in (0, drops.shape[1] - 1):
        with torch.no_grad(), replace_output(network, layer, lambda output, c=channel: zero_units(output, c)):
            torch.testing.assert_close(drops[:, channel], (logits - network(images)).gather(1, classes)[:, 0])


def test_in_place_on_the_input_and_in_inference_mode():
    class Centred(Writes):
        def forward(self, x):
            x.sub_(0.5)
            return super().forward(x)

    network, images = Centred(lambda network, y: network.relu(y)).eval(), torch.randn(2, 3, 10, 10)
    expected = channel_drops(network, "block", images.clone())
    with torch.inference_mode():
        assert torch.equal(channel_drops(network, "block", images.clone()), expected)
    assert expected.abs().sum() > 0


def test_resnet18_with_one_relu_for_all():
    network = build("resnet18")
    shared = nn.ReLU(inplace=True)
    for module in network.modules():
        if hasattr(module, "relu"):
            module.relu = shared
    images, targets = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2])
    for layer in ("maxpool", "layer1", "layer3.0", "layer4"):
        cache = cache_layer(network, layer, [(images, targets)])
        assert torch.allclose(cache.head(cache.activation), cache.logits, rtol=1e-4, atol=1e-5)
        ablated = cache.head(zero_units(cache.activation, 0))
        with torch.no_grad(), replace_output(network, layer, lambda output: zero_units(output, 0)):
            torch.testing.assert_close(ablated, network(images))
    assert taylor_rise(cache).shape == (3, cache.units)
    assert unit_drops(cache.subset(torch.tensor([0]))).overall.shape == (cache.units,)
    with pytest.raises(ValueError, match="runs 17 times in a forward pass, not once; name the block"):
        cache_layer(network, "relu", [(images, targets)])


def test_scripted_parts_and_inputs_that_are_no_numbers():
    network = nn.Sequential(torch.jit.script(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    images = torch.randn(2, 3, 8, 8)
    head = Head(network, "1", images)
    assert torch.allclose(head(head.activation), network(images))
    with pytest.raises(ValueError, match=r"example_inputs must be floating-point numbers, got torch\.uint8"):
        Head(network, "1", images.byte())
    with (
        pytest.raises(ValueError, match="name: layer '0' is part of a scripted module"),
        replace_output(network, "0", lambda output: output),
    ):
        pass


def test_remove_direction_of_mixed_types():
    q = torch.tensor([0.6, 0.8, 0.0])
    activation = torch.randn(2, 3, 4, 4)
    expected = remove_direction(activation, q, torch.ones(3))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        found = remove_direction(activation.to(dtype), q, torch.ones(3))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
