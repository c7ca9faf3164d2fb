import pytest
import torch
import torch.nn.functional as F
from compactvision import models, surgery
from torch import nn


def test_activations_behind_layers():
    network = models.ResNet(1, 10, width=8).train()
    found = surgery.activations_behind(network, torch.zeros(1, 3, 32, 32))
    expected = {"bn1": "relu"} | {f"layer{k}.0.bn1": f"layer{k}.0.relu1" for k in (1, 2, 3)}
    assert found == expected  # a sum of the residual stream stands behind no single layer
    assert network.training
    assert network.bn1.num_batches_tracked == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_activations_in_place_count():
    plain = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    assert surgery.activations_behind(plain, torch.zeros(1, 2)) == {"0": "1", "2": "3"}


class Blocks(nn.Module):
    """torchvision's residual block: one ReLU for two places, and a sum in place."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.relu(out)


def test_a_sum_in_place_is_no_output_of_the_layer_before():
    assert surgery.activations_behind(Blocks(), (3, 4, 4)) == {"bn1": "relu"}
    assert set(surgery.maps_behind(Blocks(), (3, 4, 4))) == {"bn1"}


def test_maps_are_those_before_anything_writes_to_them():
    class Writes(nn.Sequential):
        def forward(self, x):
            x = self[0](x).relu()
            y = self[1](x)
            x.mul_(0)
            return y + x.sum()

    model, x = Writes(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).eval(), torch.randn(2, 3, 4, 4)
    (maps,) = surgery.maps_behind(model, x)["0"]
    torch.testing.assert_close(maps, model[0](x).relu().detach())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x * torch.sigmoid(x), F.silu),
        (lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
        (lambda x: F.relu(F.max_pool2d(x, 2)), lambda x: F.relu(F.max_pool2d(x, 2))),
        (lambda x: F.max_pool2d(F.relu(x), 2), F.relu),  # behind the activation, before the pooling
        (lambda x: F.dropout(torch.relu_(x), training=False), F.relu),
        (lambda x: F.max_pool2d(x * x, 2), torch.square),
        (lambda x: x.abs().add(1), lambda x: x.abs() + 1),
        (lambda x: x + F.relu(x), lambda x: x + F.relu(x)),
        (lambda x: x, lambda x: x),  # no activation: what the next layer reads
        (lambda x: x.roll(1, 1), None),  # moves channels: behind no layer alone
        (lambda x: torch.where(x > 0, x, 0 * x), None),
        (lambda x: F.relu(x[:, [1, 0, 2, 3]]), None),
        (lambda x: F.relu(x + torch.ones(1, 4, 1, 1)), None),
    ],
)
def test_functions_are_followed_or_left_out(function, expected):
    class Between(nn.Sequential):
        def forward(self, x):
            return self[1](function(self[0](x)))

    model, x = Between(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).eval(), torch.randn(2, 3, 4, 4)
    found = surgery.maps_behind(model, x)
    assert set(found) == ({"0"} if expected else set())
    if expected:
        torch.testing.assert_close(found["0"][0], expected(model[0](x).detach()))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_each_run_of_a_layer_has_its_map():
    class Twice(nn.Sequential):
        def forward(self, x):
            return self[1](F.relu(self[0](F.relu(self[0](x)))))

    model, x = Twice(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)).eval(), torch.randn(2, 3, 4, 4)
    first, second = surgery.maps_behind(model, x)["0"]
    torch.testing.assert_close(first, model[0](x).relu().detach())
    torch.testing.assert_close(second, model[0](first).relu().detach())


def test_a_norm_behind_the_activation_adds_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    assert set(surgery.maps_behind(model, (3, 4, 4))) == {"0"}


def test_a_norm_speaks_for_the_layer_before():
    """A convolution that both a norm and another layer read, as the stem of a pre-activation network."""

    class Stem(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.conv = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
            self.shortcut = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.stem(x)
            return self.conv(F.relu(self.norm(x))) + self.shortcut(x)

    assert set(surgery.maps_behind(Stem(), (3, 4, 4))) == {"norm"}


def test_names_of_wrapped_layers_stay():
    network, name = models.ResNet(1, 10, width=8).eval(), "layer1.0.conv1:in"
    graph = surgery.channel_graph(network, (3, 16, 16), residual="gather").only([name])
    small = surgery.prune(network, surgery.make_plan(graph, {name: torch.rand(8)}, keep=0.5))
    assert set(surgery.maps_behind(small, (3, 16, 16))) == set(surgery.maps_behind(network, (3, 16, 16)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_what_is_written_unseen_is_no_longer_the_layers():
    """A scripted function, which shows nobody what it does."""

    @torch.jit.script
    def shift_(x: torch.Tensor):
        x.add_(torch.ones(1, 4, 1, 1))

    class Scripted(nn.Sequential):
        def forward(self, x):
            x = self[0](x)
            shift_(x)
            return self[1](F.relu(x))

    assert surgery.maps_behind(Scripted(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), (3, 4, 4)) == {}
