"""Rates of all layers: the fitted curves, equal slopes, bracketing that always arrives, monotone answers."""

import itertools
import math

import numpy as np
import pytest
import torch
from compactvision.factorization import collaborative_compression as cc
from compactvision.factorization.collaborative_compression.rates import bracketed, fitted, two_rates
from hypothesis import given
from hypothesis import strategies as st

from oracles import collaborative_compression as oracle

TOY = {"a": cc.rates.Sensitivity(0.01, 5), "b": cc.rates.Sensitivity(0.02, 3)}
MACS = {"a": 1, "b": 2}


class TestCurve:
    @pytest.mark.parametrize("shape", [(6, 5, 3, 3), (12, 3, 1, 2), (5, 9, 1, 1)])
    def test_points_and_fit(self, shape):
        generator = torch.Generator().manual_seed(1)
        kernel, gradient = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        pairs = sorted(pair for pair in oracle.curve(kernel.numpy(), gradient.numpy()) if pair[0] > 0)
        rates, losses = (np.array(column) for column in zip(*pairs, strict=True))
        losses = losses / losses.max()
        curve = cc.sensitivity(kernel, gradient)
        assert curve.rates == pytest.approx(rates.tolist())
        assert curve.losses == pytest.approx(losses.tolist(), abs=1e-10)
        growth, log_scale = np.polyfit(rates, np.log(losses + 1e-10), 1, w=np.sqrt(losses))
        assert (curve.growth, math.log(curve.scale)) == pytest.approx((growth, log_scale), rel=1e-6)

    def test_values_behind_a_removed_one_move_up(self):
        """Singular values 4, 3, 2, 1 go in the order 4, 2, 3, 1: losses .16, 4.16, 13.16 and 113.16."""
        kernel, gradient = (torch.diag(torch.tensor(row)).view(4, 4, 1, 1) for row in ([4.0, 3, 2, 1], [0.1, 1, 1, 10]))
        curve = cc.sensitivity(kernel, gradient, kinds=("values",))
        assert curve.rates == pytest.approx((0.5, 1))
        assert curve.losses == pytest.approx((13.16 / 113.16, 1))

    def test_an_exponential_is_found_again(self):
        rates = np.linspace(0.05, 1, 30).tolist()
        curve = fitted([(x, 0.02 * math.exp(4 * x)) for x in [-0.2, *rates]])
        assert curve.growth == pytest.approx(4, rel=1e-6)
        assert curve.scale == pytest.approx(math.exp(-4), rel=1e-6)  # the largest loss is 1
        assert curve.rates == pytest.approx(tuple(rates))

    @pytest.mark.parametrize("points", [[], [(0.5, 1.0)], [(-0.1, 1.0), (-0.3, 2.0)], [(0.2, 0.0), (0.4, 0.0)]])
    def test_a_layer_without_a_curve_stays_as_it_is(self, points):
        assert fitted(points).growth == 0
        rates = cc.global_rates(TOY | {"c": fitted(points)}, MACS | {"c": 7}, 1.5)
        assert rates["c"] == 0
        assert rates["a"] == pytest.approx(0.3742033164)

    def test_a_falling_curve_is_none(self):
        assert fitted([(0.1, 1.0), (0.5, 0.5), (0.9, 0.1)]).growth == 0

    @pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 1, 1), (4, 1, 1, 1)])
    def test_tiny_layers(self, shape):
        curve = cc.sensitivity(torch.randn(shape), torch.randn(shape))
        assert all(0 < rate <= 1 for rate in curve.rates)


class TestRates:
    def test_toy(self):
        rates = cc.global_rates(TOY, MACS, 1.5)
        assert rates == pytest.approx({"a": 0.3742033164, "b": 0.5628983418}, abs=1e-9)
        assert TOY["a"].slope(rates["a"]) == pytest.approx(0.3247447820, abs=1e-9)
        rates = cc.global_rates(TOY, MACS, 1.5, flops_weighted=True)
        assert rates == pytest.approx({"a": 0.2675652887, "b": 0.6162173557}, abs=1e-9)
        assert TOY["b"].slope(rates["b"]) / 2 == pytest.approx(0.1905375806, abs=1e-9)
        total = sum(curve.scale * math.exp(curve.growth * rates[name]) for name, curve in TOY.items())
        assert total == pytest.approx(0.16513, abs=5e-6)

    def test_weighted_rates_are_the_minimum_and_equal_slopes_are_not(self):
        curves = [(0.01, 5), (0.02, 3), (0.005, 6)]
        layers = {str(index): cc.rates.Sensitivity(*curve) for index, curve in enumerate(curves)}
        macs = {"0": 1, "1": 2, "2": 3}

        def total(rates):
            return sum(scale * math.exp(growth * x) for (scale, growth), x in zip(curves, rates.values(), strict=True))

        least, _ = oracle.best_rates(curves, macs.values(), 3.0, 40)
        best = total(cc.global_rates(layers, macs, 3.0, flops_weighted=True))
        assert best < least < best * 1.02
        assert total(cc.global_rates(layers, macs, 3.0)) > least

    @given(
        layers=st.lists(st.tuples(st.floats(1e-6, 1), st.floats(0.05, 30), st.floats(1, 1e9)), min_size=1, max_size=12),
        share=st.floats(0, 1),
        weighted=st.booleans(),
    )
    def test_always_arrives(self, layers, share, weighted):
        curves = {str(i): cc.rates.Sensitivity(scale, growth) for i, (scale, growth, _) in enumerate(layers)}
        macs = {str(i): size for i, (_, _, size) in enumerate(layers)}
        target = share * 0.95 * sum(macs.values())
        rates = cc.global_rates(curves, macs, target, flops_weighted=weighted)
        assert sum(macs[name] * rate for name, rate in rates.items()) == pytest.approx(
            target, abs=1e-9 * sum(macs.values())
        )
        assert all(0 <= rate <= 0.95 for rate in rates.values())
        slopes = {
            name: math.log(curve.slope(rates[name])) - (math.log(macs[name]) if weighted else 0)
            for name, curve in curves.items()
        }
        free = [slopes[name] for name, rate in rates.items() if 1e-9 < rate < 0.95 - 1e-9]
        assert not free or max(free) - min(free) < 1e-6
        for name, rate in rates.items():
            if free and rate <= 1e-9:  # more of it would hurt more than more of the others
                assert slopes[name] > max(free) - 1e-6

    def test_a_larger_target_never_lowers_a_rate(self):
        curves = TOY | {"c": cc.rates.Sensitivity(0.5, 12)}
        macs = MACS | {"c": 3}
        found = [cc.global_rates(curves, macs, target / 10) for target in range(57)]
        for earlier, later in itertools.pairwise(found):
            assert all(later[name] >= earlier[name] - 1e-12 for name in curves)
        assert list(found[0].values()) == [0, 0, 0]

    @pytest.mark.parametrize("target", [-0.1, 2.86, math.nan])
    def test_targets_out_of_reach_are_refused(self, target):
        assert cc.global_rates(TOY, MACS, 2.85) == pytest.approx({"a": 0.95, "b": 0.95})
        with pytest.raises(ValueError, match="target must be"):
            cc.global_rates(TOY, MACS, target)

    def test_bad_layers_are_refused(self):
        with pytest.raises(ValueError, match="macs must be given"):
            cc.global_rates(TOY, {"a": 1}, 0.5)
        with pytest.raises(ValueError, match="macs must be positive"):
            cc.global_rates(TOY, {"a": 1, "b": 0}, 0.5)
        assert cc.global_rates({"a": cc.rates.Sensitivity(0, 0)}, {"a": 1}, 0) == {"a": 0}
        with pytest.raises(ValueError, match="target must be from 0 to 0"):
            cc.global_rates({"a": cc.rates.Sensitivity(0, 0)}, {"a": 1}, 0.1)


@given(edge=st.floats(-50, 50), below=st.floats(0, 100), above=st.floats(0, 100))
def test_a_bracket_closes_on_the_edge(edge, below, above):
    assert bracketed(lambda x: x >= edge, [edge - below, edge + above]) == edge


LAYERS = {"a": (100, 6400), "b": (50, 800), "c": (400, 1600)}


class TestTwoRates:
    def test_save_both(self):
        first, rest = two_rates(LAYERS, ["a"], parameters=250, macs=4000)
        assert 100 * first + 450 * rest == pytest.approx(250)
        assert 6400 * first + 2400 * rest == pytest.approx(4000)

    @pytest.mark.parametrize("early", [[], ["a", "b", "c"], ["d"]])
    def test_refused(self, early):
        with pytest.raises(ValueError, match="early"):
            two_rates(LAYERS, early, parameters=250, macs=4000)
        with pytest.raises(ValueError, match="early"):
            two_rates({"a": (1, 4), "b": (2, 8)}, ["a"], parameters=1, macs=3)
