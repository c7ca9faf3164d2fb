"""Proximal maps: brute force, published values, shape of the maps, both regimes, limits, errors."""

import math

import numpy as np
import pytest
import torch
from compactvision import proximal
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import proximal as oracle

MAPS = {
    "l1": lambda x, kappa, a=1.0: proximal.soft_threshold(x, kappa),
    "l0": lambda x, kappa, a=1.0: proximal.hard_threshold(x, kappa),
    "transformed_l1": lambda x, kappa, a=1.0: proximal.transformed_l1(x, kappa, a),
}
VALUES = [  # a, kappa, threshold, map of 2, map of -1: worked out independently
    (1, 0.5, math.sqrt(2) - 0.5, 1.87938524, -0.61803399),
    (1, 0.2, 0.4, 1.95416573, -0.88775449),
    (0.1, 0.5, 0.99880885, 1.98737705, -0.95012528),
    (2, 0.5, 0.75, 1.79128785, -0.53208889),
    (10, 0.2, 0.22, 1.84314863, -0.81179683),
    (100, 0.5, 0.505, 1.50991154, -0.50001250),
    (1, 1, 1.5, 1.73205081, 0.0),
]


def double(*values):
    """A tensor in float64."""
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("a", "kappa", "threshold", "two", "minus_one"), VALUES)
def test_transformed_l1_by_hand(a, kappa, threshold, two, minus_one):
    found = proximal.transformed_l1(double(2, -1), kappa, a)
    torch.testing.assert_close(found, double(two, minus_one), rtol=0, atol=1e-8)
    assert proximal.transformed_l1_threshold(kappa, a) == pytest.approx(threshold, abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-5, 5),
    kappa=st.floats(1e-3, 3),
    a=st.floats(-2, 2).map(lambda power: 10**power),
    name=st.sampled_from(list(MAPS)),
)
def test_no_candidate_is_better(x, kappa, a, name):
    u = float(MAPS[name](double(x), kappa, a)[0])
    best = oracle.proximal(x, kappa, name, a)
    values = [float(oracle.objective(np.array(v), x, kappa, name, a)) for v in (u, best)]
    assert values[0] <= values[1] + 1e-9
    assert 0 <= u * np.sign(x) <= abs(x) + 1e-12


@settings(max_examples=40, deadline=None)
@given(kappa=st.floats(0.01, 3), a=st.floats(0.05, 20), name=st.sampled_from(list(MAPS)))
def test_odd_monotone_and_zero_up_to_the_threshold(kappa, a, name):
    threshold = {
        "l1": kappa,
        "l0": math.sqrt(2 * kappa),
        "transformed_l1": proximal.transformed_l1_threshold(kappa, a),
    }[name]
    x = torch.linspace(0, 3 * threshold, 301, dtype=torch.float64)
    found = MAPS[name](x, kappa, a)
    torch.testing.assert_close(MAPS[name](-x, kappa, a), -found)
    assert (found.diff() >= -1e-12).all()
    assert (found[x < threshold * (1 - 1e-9)] == 0).all()
    assert (found[x > threshold * (1 + 1e-6)] > 0).all()


def test_ties_become_zero():
    assert proximal.soft_threshold(double(0.5, -0.5), 0.5).tolist() == [0, 0]
    assert proximal.hard_threshold(double(1.0, -1.0), 0.5).tolist() == [0, 0]
    assert float(proximal.transformed_l1(double(1.5), 1.0, 1.0)) == 0


def test_a_zero_has_no_sign():
    """Small numbers of either sign become 0.0, not -0.0; all others move as the formula says, to the last bit."""
    x = torch.linspace(-2, 2, 801)
    for map_ in MAPS.values():
        found = map_(x, 0.5)
        assert not found[found == 0].signbit().any()
    assert torch.equal(proximal.soft_threshold(x, 0.5), x.sign() * (x.abs() - 0.5).clamp(min=0))


def test_soft_threshold_does_not_expand():
    x, y = torch.randn(2, 1000, dtype=torch.float64)
    moved = proximal.soft_threshold(x, 0.3) - proximal.soft_threshold(y, 0.3)
    assert (moved.abs() <= (x - y).abs() + 1e-12).all()


@pytest.mark.parametrize("a", [0.5, 1.0, 4.0])
def test_regimes_of_transformed_l1(a):
    critical = a**2 / (2 * (a + 1))
    for kappa, jump in ((0.9 * critical, 0.0), (2 * critical, math.sqrt(2 * 2 * critical * (a + 1)) - a)):
        threshold = proximal.transformed_l1_threshold(kappa, a)
        above = float(proximal.transformed_l1(double(threshold + 1e-9), kappa, a))
        assert above == pytest.approx(jump, abs=1e-4)
    near = [proximal.transformed_l1_threshold(critical * factor, a) for factor in (1, 1 + 1e-12)]
    assert near[0] == pytest.approx(near[1])


def test_limits_of_transformed_l1():
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    off = (x.abs() - 1).abs() > 0.01  # away from the threshold
    hard = proximal.hard_threshold(x, 0.5)
    torch.testing.assert_close(proximal.transformed_l1(x, 0.5, 1e-6)[off], hard[off], rtol=0, atol=1e-3)
    soft = proximal.soft_threshold(x, 0.5)
    torch.testing.assert_close(proximal.transformed_l1(x, 0.5, 1e4), soft, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", list(MAPS))
def test_dtype_identity_and_extremes(name):
    x = torch.randn(4, 3)
    assert MAPS[name](x.half(), 0.1).dtype == torch.float16
    torch.testing.assert_close(MAPS[name](x, 0.0), x, rtol=0, atol=1e-6)
    assert (MAPS[name](x, 1e12) == 0).all()
    assert MAPS[name](torch.zeros(2), 0.1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: proximal.soft_threshold(torch.ones(2), -1), "kappa must be a finite number >= 0, got -1"),
        (lambda: proximal.hard_threshold(torch.ones(2), math.nan), "kappa must be a finite number >= 0, got nan"),
        (lambda: proximal.transformed_l1(torch.ones(2), 0.1, 0), "a must be positive and finite, got 0"),
        (lambda: proximal.transformed_l1_threshold(0.1, math.inf), "a must be positive and finite, got inf"),
        (lambda: proximal.soft_threshold(torch.ones(2, dtype=torch.long), 1), "x must be a floating-point tensor"),
        (lambda: proximal.soft_threshold([1.0], 1), r"x must be a floating-point tensor, got \[1.0\]"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
