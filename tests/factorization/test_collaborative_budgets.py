"""Equal achieved MACs: families bracketed to one budget, rates counted layer by layer, the abstract's pair."""

import math

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.factorization import collaborative_compression as cc
from compactvision.factorization.collaborative_compression import costs
from compactvision.factorization.collaborative_compression.rates import two_rates

STEP = 0.1  # of the units, between two looks at the importances


def images():
    """One small batch, always the same."""
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(16, 3, 16, 16, generator=generator), torch.arange(16) % 10)]


@pytest.fixture(scope="module")
def measured():
    """A small network with curves and paths of the three families."""
    model = models.ResNet(1, width=6, generator=torch.Generator().manual_seed(0)).eval()
    graph = surgery.channel_graph(model, (3, 16, 16), residual="gather")
    gradients, found = cc.kernel_gradients(graph, images()), cc.gradients.kernels(graph)
    families = {}
    for kinds in (("channels", "values"), ("channels",), ("values",)):
        curves = {name: cc.sensitivity(kernel, gradients[name], kinds=kinds) for name, kernel in found.items()}
        paths = {
            name: cc.removal_path(kernel, gradients[name], kinds=kinds, step=STEP) for name, kernel in found.items()
        }
        families[kinds] = (curves, paths)
    macs = {name: graph.layers[name].pair[1] * kernel.shape[0] * kernel.shape[1] for name, kernel in found.items()}
    return graph, macs, families


class TestBudgets:
    @pytest.mark.parametrize("drop_unread", [True, False])
    def test_families_meet_at_equal_macs(self, measured, drop_unread):
        graph, macs, families = measured
        total = sum(macs.values())
        for kinds, (curves, paths) in families.items():
            made = cc.plans.at_budget(
                lambda rate, curves=curves, paths=paths: cc.plans.at_rates(
                    graph, paths, cc.global_rates(curves, macs, rate * total), drop_unread=drop_unread
                ),
                keep_macs=0.5,
                until=0.95,
            )
            assert 0.46 < made.macs / graph.macs <= 0.5, kinds
            assert ("values" in kinds) or all(rank is None for rank in made.ranks.values())
            assert ("channels" in kinds) or all(
                choice.channels == graph.layers[name].reads.numel() for name, choice in made.choices.items()
            )

    def test_the_way_through_gives_the_same_as_its_steps(self, measured):
        graph, macs, families = measured
        total = sum(macs.values())
        for kinds, (curves, paths) in families.items():

            def at(rate, curves=curves, paths=paths):
                return cc.plans.at_rates(graph, paths, cc.global_rates(curves, macs, rate * total))

            made = cc.collaborate(graph, images(), 0.5, kinds=kinds, step=STEP)
            assert made.choices == cc.plans.at_budget(at, 0.5, until=0.95).choices
            assert measure.macs(cc.compress(graph.model, made), (3, 16, 16)) == made.macs <= 0.5 * graph.macs

    def test_rates_are_reached_and_counted_layer_by_layer(self, measured):
        graph, macs, families = measured
        for _, paths in families.values():
            made = cc.plans.at_rates(graph, paths, dict.fromkeys(paths, 0.6), drop_unread=False)
            small = cc.compress(graph.model, made)
            counted = measure.macs_by_module(small, (3, 16, 16), cumulative=True)
            for name, dense in macs.items():
                assert counted[name] <= 0.4 * dense + 1e-6
            assert sum(counted[name] for name in macs) == made.macs - (graph.macs - sum(macs.values()))

    def test_a_rate_behind_the_end_takes_the_whole_path(self, measured):
        graph, _, families = measured
        paths = families[("channels",)][1]
        made = cc.plans.at_rates(graph, paths, dict.fromkeys(paths, 1.0))
        assert {choice.channels for choice in made.choices.values()} == {1}

    def test_refused(self, measured):
        graph, _, families = measured
        paths = families[("channels",)][1]

        def uniform(rate):
            return cc.plans.at_rates(graph, paths, dict.fromkeys(paths, rate))

        for keep in (0, 1.2, -0.1, math.nan, True):
            with pytest.raises(ValueError, match=r"keep_macs must be in \(0, 1\]"):
                cc.plans.at_budget(uniform, keep)
        with pytest.raises(ValueError, match=r"keep_macs=0\.1 is out of reach"):
            cc.plans.at_budget(uniform, 0.1)
        with pytest.raises(ValueError, match="until must be"):
            cc.plans.at_budget(uniform, 0.9, until=0)
        with pytest.raises(ValueError, match="paths must hold"):
            cc.plans.at_rates(graph, paths, {"layer9": 0.5})


@pytest.fixture(scope="module")
def resnet50():
    """ResNet-50 without values."""
    with torch.device("meta"):
        model = models.imagenet("resnet50")
    return surgery.channel_graph(model, torch.empty(1, 3, 224, 224, device="meta"), residual="gather")


class TestResNet50:
    """The abstract's pair: 52.9 % of the MACs by removing 48.4 % of the parameters."""

    def test_a_layers_cut_in_parameters_is_its_cut_in_macs(self, resnet50):
        graph = resnet50
        for name, kernel in list(cc.gradients.kernels(graph).items())[::5]:
            choice = cc.costs.Choice(tuple(range(kernel.shape[1] * 3 // 4)), max(1, kernel.shape[0] // 4))
            made = cc.plans.compression(graph, {name: choice}, drop_unread=False)
            layer = graph.layers[name]
            weights, macs = (pair * kernel.shape[0] * kernel.shape[1] for pair in layer.pair)
            shares = (graph.parameters - made.parameters) / weights, (graph.macs - made.macs) / macs
            assert shares[0] == shares[1] == costs.saved(tuple(kernel.shape), choice.channels, made.ranks[name])

    def test_one_rate_cannot_give_the_pair(self, resnet50):
        """All layers at one rate that cuts 52.9 % of the MACs cut 50.0 % of the parameters."""
        graph, kernels = resnet50, cc.gradients.kernels(resnet50)
        macs = sum(graph.layers[name].pair[1] * kernel[:, :, 0, 0].numel() for name, kernel in kernels.items())
        rate = 0.529 * graph.macs / macs
        assert rate == pytest.approx(0.545, abs=5e-4)
        assert rate * sum(kernel.numel() for kernel in kernels.values()) / graph.parameters == pytest.approx(
            0.5, abs=5e-4
        )

    def test_two_rates_count_to_the_pair(self, resnet50):
        graph, kernels = resnet50, cc.gradients.kernels(resnet50)
        assert (graph.macs, graph.parameters) == (4_089_184_256, 25_557_032)
        layers = {
            name: tuple(pair * kernel[:, :, 0, 0].numel() for pair in graph.layers[name].pair)
            for name, kernel in kernels.items()
        }
        assert len(layers) == 52
        early = [name for name in layers if name.startswith(("layer1", "layer2"))]
        rates = two_rates(layers, early, parameters=0.484 * graph.parameters, macs=0.529 * graph.macs)
        assert rates == pytest.approx((0.5722, 0.5247), abs=5e-5)
        choices = {}
        for name, kernel in kernels.items():
            shape = tuple(kernel.shape)
            points = [point for point in costs.iso_macs(shape, rates[name not in early]) if point[0] > shape[1] // 2]
            channels, rank = min(points, key=lambda point, shape=shape: costs.saved(shape, *point))
            choices[name] = cc.costs.Choice(tuple(range(channels)), rank)
        made = cc.plans.compression(graph, choices, drop_unread=False)
        small = cc.compress(graph.model, made)
        found = measure.summary(small, torch.empty(1, 3, 224, 224, device="meta"))
        assert (found.parameters, found.macs) == (made.parameters, made.macs)
        assert 1 - found.macs / graph.macs == pytest.approx(0.529, abs=5e-4)
        assert 1 - found.parameters / graph.parameters == pytest.approx(0.484, abs=5e-4)
