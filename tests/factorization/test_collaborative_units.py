"""Units of one layer: importances against brute force, the path against a slow heuristic, published toy numbers."""

import itertools
import math

import numpy as np
import pytest
import torch
from compactvision.factorization import collaborative_compression as cc
from compactvision.factorization.collaborative_compression import costs, steps, units
from compactvision.models.factorised import SVDConv2d

from oracles import collaborative_compression as oracle

SHAPES = [(6, 5, 3, 3), (12, 3, 1, 2), (4, 7, 1, 1), (9, 4, 2, 1)]
KINDS = [("channels", "values"), ("channels",), ("values",)]


def random_pair(shape, seed=0):
    """Kernel and gradient of one shape, float64."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def toy():
    """The toy of the specification, float32."""
    draw = np.random.RandomState(0)  # the published numbers are those of this generator
    return tuple(torch.tensor((draw.randn(6, 5, 3, 3) * size).astype("float32")) for size in (0.1, 0.01))


class TestImportances:
    def test_toy(self):
        channels, values = units.Working(*toy()).importances(0.9)
        expected = [1.049201e-4, 1.526662e-4, 2.301739e-4, 1.312315e-4, 1.549141e-4]
        assert channels.tolist() == pytest.approx(expected, rel=1e-6)
        expected = [1.534173e-4, 1.679731e-4, 1.370725e-4, 1.135199e-4, 1.085985e-4, 8.800831e-5]
        assert values.tolist() == pytest.approx(expected, rel=1e-6)
        channels, values = units.Working(*toy()).importances(0.0)
        assert float(channels[0]) == pytest.approx(3.013116e-5, rel=1e-6)
        assert float(values[5]) == pytest.approx(2.192072e-5, rel=1e-6)

    @pytest.mark.parametrize("kinds", KINDS)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("gamma", [0.0, 0.9, 3.0])
    def test_equal_the_mean_over_all_next_removals(self, shape, kinds, gamma):
        """Also after some units are gone, where channels have emptied singular values."""
        kernel, gradient = random_pair(shape)
        state = units.Working(kernel, gradient, kinds)
        for removed in range(3):
            slow = oracle.importances(
                kernel.numpy(),
                state.current.reshape(shape).numpy(),
                gradient.numpy(),
                state.kept.nonzero().flatten().tolist(),
                state.rank,
                gamma,
                kinds,
            )
            channels, values = state.importances(gamma)
            for (kind, index), expected in slow.items():
                found = (channels if kind == "channel" else values)[index]
                assert float(found) == pytest.approx(expected, rel=1e-8), (kind, index)
            if kinds != ("values",) and state.channels > 2:
                state.remove_channel(removed)
            if kinds != ("channels",) and state.rank > 2:
                state.remove_value(1)

    def test_blocks_of_candidates_change_nothing(self, monkeypatch):
        state = units.Working(*random_pair((6, 5, 3, 3)))
        whole = state.importances(0.9)
        monkeypatch.setattr(units, "LARGEST", 300)
        torch.testing.assert_close(state.importances(0.9), whole)

    def test_losses_are_not_negative_and_zero_for_no_gradient(self):
        kernel, gradient = random_pair((6, 5, 3, 3))
        for scores in units.Working(kernel, gradient).importances(0.9):
            assert (scores >= 0).all()
        for scores in units.Working(kernel, torch.zeros_like(gradient)).importances(0.9):
            torch.testing.assert_close(scores, torch.zeros_like(scores))
        assert float(cc.units.information_loss(kernel, kernel, gradient)) == 0

    def test_an_order_of_output_channels_does_not_matter_but_scales_do(self):
        kernel, gradient = random_pair((6, 5, 3, 3))
        order = torch.randperm(6)
        first = units.Working(kernel, gradient).importances(0.9)
        torch.testing.assert_close(units.Working(kernel[order], gradient[order]).importances(0.9), first)
        tripled = units.Working(kernel, 3 * gradient).importances(0.9)
        torch.testing.assert_close(tripled[0], 9 * first[0])

    def test_the_last_of_a_kind_and_what_is_gone_are_out_of_reach(self):
        state = units.Working(*random_pair((3, 2, 1, 1)))
        state.remove_channel(0)
        state.remove_value(0)
        channels, values = state.importances(0.9)
        assert channels.isinf().all()
        assert values.tolist() == [math.inf]


class TestPath:
    def test_toy(self):
        path = cc.removal_path(*toy())
        expected = {0.3: ((1, 2, 3, 4), 4), 0.5: ((1, 2, 3, 4), 3), 0.7: ((1, 2, 4), 2)}
        assert {rate: (path.choice(rate).keep, path.choice(rate).rank) for rate in expected} == expected

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("shape", SHAPES[:3])
    def test_equals_brute_force(self, shape, seed):
        kernel, gradient = random_pair(shape, seed)
        path = cc.removal_path(kernel, gradient)
        for rate in (0.2, 0.45, 0.6, 0.8):
            if path.saved_after(len(path.removed)) >= rate:
                slow = oracle.heuristic(kernel.numpy(), gradient.numpy(), rate, 0.9)
                assert (list(path.choice(rate).keep), path.choice(rate).rank) == slow

    @pytest.mark.parametrize("step", [0.01, 0.2])
    @pytest.mark.parametrize("kinds", KINDS)
    @pytest.mark.parametrize("shape", [(10, 8, 3, 3), (12, 20, 1, 1)])
    def test_a_rate_is_reached_and_not_one_removal_earlier(self, shape, kinds, step):
        path = cc.removal_path(*random_pair(shape), kinds=kinds, step=step)
        left = [path.saved_after(count) for count in range(len(path.removed) + 1)]
        assert left == sorted(left)
        for rate in (0.1, 0.5, 0.8):
            choice = path.choice(rate)
            assert costs.saved(shape, choice.channels, choice.rank) >= rate - 1e-9
            count = next(count for count, share in enumerate(left) if share >= rate - 1e-9)
            assert count == 0 or left[count - 1] < rate
        assert all(channels >= 1 and rank >= 1 for channels, rank in path.points())
        assert ("channels" in kinds) == any(unit >= 0 for unit in path.removed)
        assert ("values" in kinds) == (steps.VALUE in path.removed)
        if kinds == ("channels",):
            assert path.choice(0.8).rank is None
        if kinds == ("values",):
            assert path.choice(0.8).channels == shape[1]

    def test_larger_rates_keep_less(self):
        path = cc.removal_path(*random_pair((10, 8, 3, 3)))
        kept = [set(path.choice(rate / 100).keep) for rate in range(1, 95)]
        assert all(later <= earlier for earlier, later in itertools.pairwise(kept))

    def test_several_values_in_one_step_are_those_of_least_importance(self):
        """Values behind a removed one move up; none is taken twice, none is missed."""
        kernel, gradient = random_pair((8, 6, 3, 3))
        state = units.Working(kernel, gradient, ("values",))
        scores = state.importances(0.9)[1]
        matrix = kernel.flatten(1)
        u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        s[scores.argsort()[:4]] = 0
        path = cc.removal_path(kernel, gradient, kinds=("values",), step=4 / 14, until=0.001)
        for unit, index in steps._least(state, 0.9, 4):
            assert unit == steps.VALUE
            state.remove_value(index)
        torch.testing.assert_close(state.current.flatten(1), (u * s) @ vt)
        assert path.removed == (steps.VALUE,) * len(path.removed)

    def test_nothing_to_save_keeps_everything(self):
        path = cc.removal_path(*random_pair((6, 5, 3, 3)))
        assert path.choice(0.0) == cc.costs.Choice((0, 1, 2, 3, 4), None)
        with pytest.raises(ValueError, match=r"rate=0\.999"):
            path.choice(0.999)

    def test_ranks_that_few_channels_cannot_have_are_clipped(self):
        """Eight channels of one tap each: with three left, no kernel has a rank above three."""
        kernel, gradient = random_pair((16, 8, 1, 1))
        path = cc.steps.Path((16, 8, 1, 1), (-1, 0, 1, 2, 3, 4))
        assert path.points()[-1] == (3, 7)
        assert path.choice(0.6).rank in (None, 3)
        found = cc.removal_path(kernel, gradient)
        assert all((found.choice(rate / 20).rank or 0) <= found.choice(rate / 20).channels for rate in range(1, 17))


class TestCosts:
    def test_break_even(self):
        shapes = {(16, 16, 3, 3): 14.4, (64, 64, 3, 3): 57.6, (256, 64, 1, 1): 51.2}
        assert {shape: pytest.approx(costs.break_even_rank(shape)) for shape in shapes} == shapes

    def test_factors_save_below_the_break_even_rank_alone(self):
        shape = (64, 48, 3, 3)
        edge = math.floor(costs.break_even_rank(shape, 30))
        assert costs.weights(shape, 30, edge) <= costs.weights(shape, 30) < costs.weights(shape, 30, edge + 1)

    def test_the_rank_for_a_rate_is_the_largest(self):
        shape = (16, 12, 3, 3)
        for channels, rate in itertools.product(range(1, 13), (0.1, 0.5, 0.7, 0.9)):
            rank = costs.rank_for(shape, channels, rate)
            assert rank == 0 or costs.saved(shape, channels, rank) >= rate - 1e-9
            assert rank == costs.largest_rank(shape, channels) or costs.saved(shape, channels, rank + 1) < rate

    @pytest.mark.parametrize("rate", [0.2, 0.5, 0.75])
    def test_points_of_equal_macs(self, rate):
        """Each saves the rate, and a rank more would not; more channels leave less rank."""
        shape = (16, 12, 3, 3)
        points = costs.iso_macs(shape, rate)
        assert all(costs.saved(shape, *point) >= rate - 1e-9 for point in points)
        alone = [channels for channels, rank in points if rank is None]
        assert alone == list(range(1, 1 + math.floor(12 * (1 - rate) + 1e-9)))
        ranks = [rank for _, rank in points if rank is not None]
        assert ranks == sorted(ranks, reverse=True)
        assert all(costs.saved(shape, channels, rank + 1) < rate for channels, rank in points[len(alone) :])

    def test_equal_those_of_the_layer(self):
        small = SVDConv2d.from_layer(torch.nn.Conv2d(30, 64, 3, bias=False), 17)
        assert sum(parameter.numel() for parameter in small.parameters()) == costs.weights((64, 48, 3, 3), 30, 17)


BAD = {
    "kernel must be": lambda w, g: units.Working(w[0], g[0]),
    "gradient must have": lambda w, g: units.Working(w, g[:3]),
    "gradient must be finite": lambda w, g: units.Working(w, g * math.nan),
    "kernel must be finite": lambda w, g: cc.sensitivity(w / 0, g),
    "changed must have": lambda w, g: units.information_loss(w, w[:2], g),
    "gamma must be": lambda w, g: cc.removal_path(w, g, gamma=-1),
    "gamma must be a": lambda w, g: cc.removal_path(w, g, gamma=math.nan),
    "kinds must be": lambda w, g: cc.removal_path(w, g, kinds=("channels", "ranks")),
    "kinds must be one": lambda w, g: cc.removal_path(w, g, kinds="channels"),
    "step must be": lambda w, g: cc.removal_path(w, g, step=1.5),
    "step must be in": lambda w, g: cc.removal_path(w, g, until=0),
}


@pytest.mark.parametrize("said", BAD)
def test_refused(said):
    with pytest.raises(ValueError, match=said):
        BAD[said](*random_pair((6, 5, 3, 3)))
