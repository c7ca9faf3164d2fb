"""Networks pruned and factorised at once: equal to the dense one with rebuilt kernels, exact counts, budgets met."""

import copy

import pytest
import torch
import torch.nn.functional as F
from compactvision import measure, models, surgery
from compactvision.factorization import collaborative_compression as cc
from compactvision.models.factorised import SVDConv2d, with_layers
from compactvision.surgery import named_layers
from torch import nn

from networks import with_statistics


class Branches(nn.Module):
    """Two convolutions read the same map; strides, dilation, padding and biases of every kind."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.wide = nn.Conv2d(10, 8, (3, 5), stride=2, padding=(1, 2))
        self.far = nn.Conv2d(10, 8, 3, stride=2, padding=2, dilation=2, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.last(torch.relu(self.depthwise(self.wide(x) + self.far(x))))
        return self.head(torch.relu(x).mean((2, 3)))


def network(name):
    """A network in evaluation mode with statistics that are not trivial."""
    made = {
        "branches": Branches,
        "resnet": lambda: models.resnet20(width=6),
        "preresnet": lambda: models.PreResNet(1),
        "shortcut B": lambda: models.ResNet(1, shortcut="B", width=6),
        "chain": lambda: models.small_cnn(5, widths=(7, 9, 6), norm=False),
    }[name]()
    return with_statistics(made)


def random_choices(graph, seed=0, share=1.0):
    """Channels and ranks drawn at random for a share of the convolutions."""
    generator = torch.Generator().manual_seed(seed)
    choices = {}
    for name, kernel in cc.gradients.kernels(graph).items():
        if torch.rand(1, generator=generator) > share:
            continue
        channels = int(torch.randint(1, kernel.shape[1] + 1, (), generator=generator))
        keep = tuple(sorted(torch.randperm(kernel.shape[1], generator=generator)[:channels].tolist()))
        rank = int(torch.randint(0, min(kernel.shape[0], 12), (), generator=generator))
        choices[name] = cc.costs.Choice(keep, rank or None)
    return choices


def rebuilt(graph, choices):
    """The dense network with the kernels that the choices stand for, by their definition."""

    def change(choice):
        def function(conv):
            kernel = torch.zeros_like(conv.weight)
            part = conv.weight.detach()[:, list(choice.keep)]
            if choice.rank is not None:
                u, s, vt = torch.linalg.svd(part.flatten(1), full_matrices=False)
                s[choice.rank :] = 0
                part = ((u * s) @ vt).reshape(part.shape)
            kernel[:, list(choice.keep)] = part
            conv.weight = nn.Parameter(kernel)
            return conv

        return function

    return with_layers(graph.model, {graph.layers[name].path: change(choice) for name, choice in choices.items()})


NETWORKS = ["branches", "resnet", "preresnet", "shortcut B", "chain"]


@pytest.mark.parametrize("residual", ["gather", "grouped"])
@pytest.mark.parametrize("drop_unread", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_network_with_rebuilt_kernels(name, drop_unread, residual):
    model = network(name).double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph = surgery.channel_graph(model, (3, 16, 16), residual=residual)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    for seed, share in ((0, 1.0), (1, 0.5), (2, 0.8)):
        choices = random_choices(graph, seed, share)
        made = cc.plans.compression(graph, choices, drop_unread=drop_unread)
        small = cc.compress(model, made)
        with torch.no_grad():
            torch.testing.assert_close(small(x), rebuilt(graph, choices)(x), rtol=1e-8, atol=1e-8)
        assert measure.parameters(small) == made.parameters
        assert measure.macs(small, (3, 16, 16)) == made.macs
        assert not small.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_concatenations():
    model = with_statistics(models.densenet40()).double()
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    choices = random_choices(graph, 3)
    made = cc.plans.compression(graph, choices)
    small = cc.compress(model, made)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(small(x), rebuilt(graph, choices)(x), rtol=1e-8, atol=1e-8)
    assert measure.macs(small, (3, 16, 16)) == made.macs


def test_filters_that_nobody_reads_are_free():
    """The second pass saves MACs in the layer before, and no output changes."""
    model = network("resnet")
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    choices = {"layer2.1.conv2": cc.costs.Choice((0, 3, 4, 7), 5)}
    wide, narrow = (cc.plans.compression(graph, choices, drop_unread=free) for free in (False, True))
    dropped = 12 - 4
    assert wide.macs - narrow.macs == dropped * 12 * 9 * 8 * 8
    assert wide.parameters - narrow.parameters == dropped * (12 * 9 + 2)
    x = torch.randn(2, 3, 16, 16)
    first, second = (cc.compress(model, made) for made in (wide, narrow))
    with torch.no_grad():
        torch.testing.assert_close(first(x), second(x), rtol=1e-6, atol=1e-6)
    assert isinstance(first.layer2[1].conv2, surgery.Gathered)
    assert isinstance(second.layer2[1].conv2, SVDConv2d)
    assert second.layer2[1].conv1.out_channels == second.layer2[1].bn1.num_features == 4


def test_a_filter_stays_where_one_of_two_readers_needs_it():
    model = network("branches")
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    choices = {"wide": cc.costs.Choice((0, 1, 2)), "far": cc.costs.Choice((1, 2, 5), 2)}
    small = cc.compress(model, cc.plans.compression(graph, choices))
    assert small.stem.out_channels == 4
    assert small.wide[0].source.tolist() == [0, 1, 2]
    assert small.far[0].source.tolist() == [1, 2, 3]
    alone = cc.compress(model, cc.plans.compression(graph, {"wide": cc.costs.Choice((0, 1, 2))}))
    assert alone.stem.out_channels == 10


def test_everything_kept_is_the_same_network():
    model = network("resnet")
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    whole = {
        name: cc.costs.Choice(tuple(range(kernel.shape[1]))) for name, kernel in cc.gradients.kernels(graph).items()
    }
    x = torch.randn(2, 3, 16, 16)
    for choices in ({}, whole):
        made = cc.plans.compression(graph, choices)
        assert (made.parameters, made.macs) == (graph.parameters, graph.macs)
        assert torch.equal(cc.compress(model, made)(x), model(x))
    small = cc.compress(model, cc.plans.compression(graph, {"layer1.0.conv1": cc.costs.Choice(tuple(range(6)), 6)}))
    torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)


def test_ranks_that_cannot_pay_are_reported_and_built_as_one_convolution():
    model = network("resnet")
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    everything = tuple(range(12))
    choices = {
        "layer2.1.conv1": cc.costs.Choice(everything, 500),  # more than any kernel has
        "layer2.2.conv1": cc.costs.Choice(everything, 12),  # full rank: the factors cost more than the kernel
        "layer2.2.conv2": cc.costs.Choice(everything, 4),
    }
    made = cc.plans.compression(graph, choices)
    assert made.clipped == {"layer2.1.conv1": (500, None), "layer2.2.conv1": (12, None)}
    small = cc.compress(model, made)
    assert type(small.layer2[1].conv1) is nn.Conv2d
    assert small.layer2[2].conv2.ranks == (4,)
    assert measure.macs(small, (3, 16, 16)) == made.macs
    assert "compressed: 3, as two factors: 1" in str(made)


def test_training_flags_devices_and_gradients_are_kept():
    model = network("chain").train()
    model.features[3].weight.requires_grad_(False)
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    small = cc.compress(
        model,
        cc.plans.compression(graph, {"features.3": cc.costs.Choice((0, 2)), "features.6": cc.costs.Choice((1,), 1)}),
    )
    assert all(module.training for module in small.modules())
    layers = {name: module for name, _, module in named_layers(small)}
    assert not layers["features.3"].weight.requires_grad
    small(torch.randn(2, 3, 16, 16)).sum().backward()
    assert layers["features.6"].first.grad is not None


class TestGradients:
    def test_equal_those_of_one_large_batch(self):
        model = network("resnet").double()
        graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(7, 3, 16, 16, generator=generator, dtype=torch.float64)
        y = torch.arange(7)
        model.train()
        model.layer1[0].conv1.weight.requires_grad_(False)
        found = cc.kernel_gradients(graph, [(x[:5], y[:5]), (x[5:], y[5:])])
        assert model.training
        assert not model.layer1[0].conv1.weight.requires_grad
        assert all(parameter.grad is None for parameter in model.parameters())
        model.layer1[0].conv1.weight.requires_grad_(True)
        F.cross_entropy(model.eval()(x), y).backward()
        assert found.keys() == cc.gradients.kernels(graph).keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, model.get_submodule(name).weight.grad)

    def test_no_batch_is_refused(self):
        graph = surgery.channel_graph(network("chain"), (3, 16, 16), residual="gather")
        with pytest.raises(ValueError, match="batches must hold"):
            cc.kernel_gradients(graph, [])

    def test_a_network_of_one_convolution_has_nothing_to_compress(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        with pytest.raises(ValueError, match="no convolution"):
            cc.gradients.kernels(surgery.channel_graph(model, (3, 3, 3), residual="gather"))


BAD = {
    "no layer of the graph": {"nowhere": cc.costs.Choice((0,))},
    "of kind 'linear'": {"head": cc.costs.Choice((0,))},
    "of kind 'depthwise'": {"depthwise": cc.costs.Choice((0,))},
    "of kind 'norm'": {"norm": cc.costs.Choice((0,))},
    "ascending indices below 10, at least one, got ()": {"wide": cc.costs.Choice(())},
    "got (0, 10)": {"wide": cc.costs.Choice((0, 10))},
    "got (3, 1)": {"wide": cc.costs.Choice((3, 1))},
    "got (1, 1)": {"wide": cc.costs.Choice((1, 1))},
    "got (-1, 1)": {"wide": cc.costs.Choice((-1, 1))},
    "rank of 'wide' must be at least 1, got 0": {"wide": cc.costs.Choice((0, 1), 0)},
}


@pytest.mark.parametrize("said", BAD)
def test_choices_are_refused_by_name(said):
    graph = surgery.channel_graph(network("branches"), (3, 16, 16), residual="gather")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared whole
        cc.plans.compression(graph, BAD[said])
    assert said in str(caught.value)


def test_groups_and_padding_modes_are_refused_by_name():
    grouped = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    graph = surgery.channel_graph(grouped, (3, 8, 8), residual="gather")
    with pytest.raises(ValueError, match="'1' is of kind 'grouped'"):
        cc.plans.compression(graph, {"1": cc.costs.Choice((0, 1), 2)})
    with pytest.raises(ValueError, match="'2' reads channels that go together"):
        cc.plans.compression(graph, {"2": cc.costs.Choice((0, 1), 2)})
    mirrored = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 4, 1)
    )
    graph = surgery.channel_graph(mirrored, (3, 8, 8), residual="gather")
    with pytest.raises(ValueError, match="reflect"):
        cc.compress(mirrored, cc.plans.compression(graph, {"1": cc.costs.Choice((0, 1), 2)}))


def test_another_network_is_refused():
    graph = surgery.channel_graph(network("resnet"), (3, 16, 16), residual="gather")
    with pytest.raises(ValueError, match=r"plan: layer 'conv1'"):
        cc.compress(network("chain"), cc.plans.compression(graph, {}))


class TestOutside:
    """What is done with a compressed network."""

    def small(self):
        model = network("resnet")
        graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
        return cc.compress(model, cc.plans.compression(graph, random_choices(graph, 4), drop_unread=False))

    def test_export_with_a_free_batch(self):
        small = self.small()
        batch = torch.export.Dim("batch", min=2, max=64)
        exported = torch.export.export(small, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: batch},))
        x = torch.randn(5, 3, 16, 16)
        torch.testing.assert_close(exported.module()(x), small(x))

    def test_autocast_and_channels_last(self):
        small, x = self.small(), torch.randn(2, 3, 16, 16)
        with torch.autocast("cpu", torch.bfloat16):
            assert small(x).dtype == torch.bfloat16
        swapped, expected = copy.deepcopy(small).to(memory_format=torch.channels_last), small(x).detach()
        found = swapped(x.to(memory_format=torch.channels_last)).detach()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))

    def test_surgery_that_does_not_know_factors_keeps_what_they_read(self):
        assert "calls 'conv2d' on it" in str(surgery.channel_graph(self.small(), (3, 16, 16)).fixed)

    @pytest.mark.cuda
    def test_cuda(self):
        model = network("resnet").cuda()
        graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
        x, y = torch.randn(8, 3, 16, 16, device="cuda"), torch.arange(8, device="cuda")
        made = cc.collaborate(graph, [(x, y)], 0.5)
        small = cc.compress(model, made)
        expected = cc.compress(copy.deepcopy(model).cpu(), made)(x.cpu())
        torch.testing.assert_close(small(x).cpu(), expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
