"""Least squares behind a compression: errors by brute force, the best kernel of a rank, the scan, and refits."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from compactvision import measure, models, surgery
from compactvision.factorization import collaborative_compression as cc
from compactvision.factorization.collaborative_compression.regression import regression
from compactvision.factorization.collaborative_compression.scanning import Search
from compactvision.models.factorised import SVDConv2d
from torch import nn

from networks import with_statistics


def layer(shape=(5, 4, 3, 3), pixels=400, seed=0):
    """A kernel and patches that it reads, with channels that depend on each other; float64."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(shape, generator=generator, dtype=torch.float64)
    size = math.prod(shape[1:])
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    patches = mix @ torch.randn(size, pixels, generator=generator, dtype=torch.float64)
    return kernel, patches


def moments_of(patches):
    return patches @ patches.T / patches.shape[1]


def columns(channels, taps):
    return [taps * channel + tap for channel in channels for tap in range(taps)]


def slow_error(kernel, patches, keep, rank):
    """Regress outputs on the kept channels, cut the rank of what is predicted: Eq. (7) by its definition."""
    taps = math.prod(kernel.shape[2:])
    wanted = kernel.flatten(1) @ patches  # (N, pixels)
    read = patches[columns(keep, taps)]
    predicted = torch.linalg.lstsq(read.T, wanted.T).solution.T @ read
    u, s, vt = torch.linalg.svd(predicted, full_matrices=False)
    s[rank:] = 0
    return float((wanted - (u * s) @ vt).square().sum() / wanted.square().sum())


class TestErrors:
    @pytest.mark.parametrize("shape", [(5, 4, 3, 3), (3, 4, 1, 1), (9, 2, 1, 2), (4, 5, 3, 1)])
    def test_equal_the_slow_definition(self, shape):
        kernel, patches = layer(shape)
        order = list(range(shape[1]))[::-1]
        part = regression(kernel, moments_of(patches), order, ridge=1e-12)
        errors = part.errors()
        assert errors.shape == (shape[1], shape[0])
        for channels in range(1, shape[1] + 1):
            for rank in range(1, shape[0] + 1):
                slow = slow_error(kernel, patches, order[:channels], rank)
                assert float(errors[channels - 1, rank - 1]) == pytest.approx(slow, abs=1e-7), (channels, rank)

    def test_the_kernel_reaches_the_error_and_no_other_is_better(self):
        kernel, patches = layer()
        order = [2, 0, 3, 1]
        part = regression(kernel, moments_of(patches), order, ridge=1e-12)
        wanted = kernel.flatten(1) @ patches
        generator = torch.Generator().manual_seed(1)
        for channels, rank in ((1, 2), (3, 2), (4, 3), (2, 5)):
            read = patches[columns(order[:channels], 9)]

            def error(matrix, read=read):
                return float((wanted - matrix @ read).square().sum() / wanted.square().sum())

            best = part.kernel(channels, rank).flatten(1)
            assert torch.linalg.matrix_rank(best, tol=1e-6 * float(best.norm())) <= rank
            assert error(best) == pytest.approx(float(part.errors([channels])[0, rank - 1]), abs=1e-7)
            for _ in range(5):
                noise = torch.randn(best.shape, generator=generator, dtype=best.dtype)
                u, s, vt = torch.linalg.svd(best + 0.02 * noise, full_matrices=False)
                s[rank:] = 0
                assert error((u * s) @ vt) > error(best)

    def test_uncorrelated_inputs_give_the_singular_values(self):
        """With the identity as moments this is Eckart and Young: rank alone loses the tail of the singular values."""
        kernel, _ = layer()
        s = torch.linalg.svdvals(kernel.flatten(1))
        errors = regression(kernel, torch.eye(36, dtype=torch.float64), ridge=1e-12).errors()
        tail = 1 - s.square().cumsum(0) / s.square().sum()
        torch.testing.assert_close(errors[-1], tail.clamp(min=0), atol=1e-9, rtol=1e-6)

    def test_more_is_never_worse(self):
        kernel, patches = layer((8, 6, 3, 3), seed=3)
        errors = regression(kernel, moments_of(patches)).errors()
        assert (errors.diff(dim=0) <= 1e-9).all()
        assert (errors.diff(dim=1) <= 1e-9).all()
        assert ((errors >= 0) & (errors <= 1)).all()
        assert float(errors[-1, -1]) < 1e-6

    def test_a_part_of_the_channels_is_the_beginning_of_all(self):
        kernel, patches = layer()
        whole, some = (regression(kernel, moments_of(patches), order) for order in ([3, 1, 0, 2], [3, 1]))
        torch.testing.assert_close(some.errors(), whole.errors([1, 2]))
        torch.testing.assert_close(whole.errors([2, 1]), whole.errors([1, 2]).flip(0))
        torch.testing.assert_close(some.kernel(2, 3), whole.kernel(2, 3))

    def test_twins_need_one_of_them(self):
        kernel = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 2, 1, 1)
        part = regression(kernel, torch.ones(2, 2))
        assert float(part.errors([1])[0, 0]) < 1e-3
        torch.testing.assert_close(part.kernel(1).flatten(), torch.ones(2, dtype=torch.float64), atol=1e-3, rtol=0)

    def test_channels_that_say_most_come_first(self):
        kernel = torch.tensor([[1.0, 5.0, 2.0]]).view(1, 3, 1, 1)
        assert regression(kernel, torch.eye(3)).order == (1, 2, 0)
        assert regression(kernel, torch.diag(torch.tensor([100.0, 1.0, 1.0]))).order == (0, 1, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": 1},
        {"stride": 2, "padding": (2, 1), "bias": False},
        {"dilation": 2, "padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": "valid", "stride": (1, 2)},
    ],
)
def test_moments_are_those_of_the_patches(settings):
    chain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, **settings), nn.Conv2d(6, 2, 1)).eval()
    graph = surgery.channel_graph(chain, (3, 9, 8), residual="gather")
    x = torch.randn(5, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    found = cc.second_moments(graph, [(x[:3], None), x[3:]])
    kernel = torch.randn(6, 36, generator=torch.Generator().manual_seed(1))
    chain[1].weight.data.copy_(kernel.view(6, 4, 3, 3))
    if chain[1].bias is not None:
        chain[1].bias.data.zero_()
    with torch.no_grad():
        outputs = chain[1](chain[0](x)).transpose(0, 1).flatten(1).double()
    expected = outputs @ outputs.T / outputs.shape[1]
    torch.testing.assert_close(kernel.double() @ found["1"] @ kernel.T.double(), expected, rtol=1e-4, atol=1e-4)
    assert set(found) == {"1", "2"}


@pytest.fixture(scope="module")
def small_network():
    """A residual network, its graph and moments."""
    model = with_statistics(models.resnet20(width=6))
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return graph, x, cc.second_moments(graph, [x])


class TestScan:
    def test_takes_the_best_pair_of_the_curve(self):
        kernel, patches = layer((8, 6, 3, 3), seed=2)
        search = Search.of(kernel, moments_of(patches))
        for rate in (0.1, 0.3, 0.5, 0.7, 0.9):
            choice = search.choice(rate)
            points = cc.costs.iso_macs((8, 6, 3, 3), rate)
            assert search.error(choice.channels, choice.rank) == min(search.error(*point) for point in points)
            assert cc.costs.saved((8, 6, 3, 3), choice.channels, choice.rank) >= rate - 1e-9
            assert set(choice.keep) == set(search.order[: choice.channels])

    def test_meets_the_budget_and_takes_one_rate(self, small_network):
        graph, _, moments = small_network
        made = cc.scan(graph, moments, keep_macs=0.4, drop_unread=False)
        assert 0.38 < made.macs / graph.macs <= 0.4
        assert set(made.choices) == set(moments)
        half = cc.scan(graph, moments, keep_macs=0.4)
        assert half.macs <= 0.4 * graph.macs

    def test_ends_of_small_layers_do_not_stop_the_others(self):
        """No pair of the second layer saves 95 %; it then goes to its end."""
        model = models.small_cnn(4, widths=(4, 6))
        graph = surgery.channel_graph(model, (3, 8, 8), residual="gather")
        made = cc.scan(graph, cc.second_moments(graph, [torch.randn(4, 3, 8, 8)]), keep_macs=0.6)
        assert made.macs <= 0.6 * graph.macs

    def test_a_wide_layer_is_tried_at_64_numbers_of_channels(self):
        kernel = torch.randn(2, 130, 1, 1, generator=torch.Generator().manual_seed(0))
        search = Search.of(kernel, torch.eye(130))
        assert len(search.errors) == 64
        assert max(search.errors) == 130
        assert search.choice(search.reach).rank in (None, 1)


class TestRefit:
    def test_reaches_the_errors_and_changes_nothing_else(self, small_network):
        graph, _, moments = small_network
        made = cc.scan(graph, moments, keep_macs=0.3)
        small = cc.compress(graph.model, made)
        before = copy.deepcopy(small.state_dict())
        fit = cc.refit(small, made, moments)
        assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())
        assert measure.macs(fit, (3, 16, 16)) == made.macs
        name = next(name for name, rank in made.ranks.items() if rank is not None)
        choice = made.choices[name]
        target = {n: module for n, _, module in surgery.named_layers(fit)}[name]
        assert isinstance(target, SVDConv2d)
        rows = made.plan.kept[graph.layers[name].writes].nonzero().flatten()
        order = [*choice.keep, *sorted(set(range(moments[name].shape[0] // 9)) - set(choice.keep))]
        best = regression(cc.gradients.kernels(graph)[name], moments[name], order).kernel(choice.channels, choice.rank)
        torch.testing.assert_close(target.kernel().detach().double(), best[rows], rtol=1e-3, atol=1e-4)
        untouched = {key for key in before if not key.endswith((".weight", ".first", ".second"))}
        assert all(torch.equal(fit.state_dict()[key], before[key]) for key in untouched)

    def test_everything_kept_stays(self, small_network):
        graph, x, moments = small_network
        name = "layer2.1.conv1"
        whole = cc.costs.Choice(tuple(range(12)))
        made = cc.plans.compression(graph, {name: whole})
        fit = cc.refit(cc.compress(graph.model, made), made, moments)
        with torch.no_grad():
            torch.testing.assert_close(fit(x), graph.model(x), rtol=1e-3, atol=1e-3)

    def test_outputs_come_nearer(self, small_network):
        """Of one layer, on the images that gave the moments: not further away than the plain approximation."""
        graph, x, moments = small_network
        for name in ("layer1.0.conv2", "layer3.1.conv1"):
            size = graph.layers[name].reads.numel()
            made = cc.plans.compression(graph, {name: cc.costs.Choice(tuple(range(0, size, 2)), 3)}, drop_unread=False)
            plain = cc.compress(graph.model, made)
            outputs = [
                self.output(network, name, x) for network in (graph.model, plain, cc.refit(plain, made, moments))
            ]
            gaps = [float((other - outputs[0]).square().sum()) for other in outputs[1:]]
            assert gaps[1] < 0.9 * gaps[0]

    @staticmethod
    def output(network, name, x):
        found = []
        path = next(path for n, path, _ in surgery.named_layers(network) if n == name)
        handle = network.get_submodule(path).register_forward_hook(lambda module, args, out: found.append(out))
        with torch.no_grad():
            network(x)
        handle.remove()
        return found[0]

    def test_another_network_is_refused(self, small_network):
        graph, _, moments = small_network
        made = cc.scan(graph, moments, keep_macs=0.3)
        with pytest.raises(ValueError, match=r"small: layer 'layer1\.0\.conv1' must have a kernel"):
            cc.refit(graph.model, made, moments)
        with pytest.raises(ValueError, match="moments must hold every compressed layer, got none for"):
            cc.refit(cc.compress(graph.model, made), made, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ridge": 0}, "ridge must be positive and finite, got 0"),
        ({"ridge": math.nan}, "ridge must be positive"),
        ({"order": [0, 1, 1, 2]}, "order must name some of 4 channels, each once"),
        ({"order": [0, 4]}, "order must name some of 4 channels, each once"),
        ({"order": []}, "order must name some of 4 channels, each once"),
        ({"order": "abcd"}, "order must be numbers of channels"),
        ({"moments": torch.eye(35)}, r"moments must be \(C kh kw, C kh kw\)"),
        ({"moments": -torch.eye(36)}, "moments must be those of real inputs"),
        ({"kernel": torch.full((5, 4, 3, 3), math.inf)}, "kernel must be finite"),
        ({"kernel": torch.zeros(4)}, "moments must be"),
    ],
)
def test_refused(change, said):
    kernel, patches = layer()
    with pytest.raises(ValueError, match=said):
        regression(**{"kernel": kernel, "moments": moments_of(patches), **change})


def test_batches_are_refused_by_name():
    graph = surgery.channel_graph(models.small_cnn(4, widths=(4, 6)), (3, 8, 8), residual="gather")
    for batches, said in (
        ([], "batches must hold at least one batch, got none"),
        ([torch.zeros(0, 3, 8, 8)], "batches must hold images, got empty ones"),
        ([torch.full((2, 3, 8, 8), math.nan)], "reads NaN or infinity"),
        (torch.zeros(2, 3, 8, 8), "batches must be pairs"),
    ):
        with pytest.raises(ValueError, match=said):
            cc.second_moments(graph, batches)


def test_patches_agree_with_the_convolution():
    conv = nn.Conv2d(3, 5, (3, 2), stride=2, padding=(1, 2), dilation=(1, 2), bias=False)
    x = torch.randn(2, 3, 9, 10)
    found = cc.regression._patches(conv, x)
    expected = conv(x)
    torch.testing.assert_close(
        (conv.weight.flatten(1) @ found).view_as(expected), F.conv2d(x, conv.weight, None, 2, (1, 2), (1, 2))
    )
