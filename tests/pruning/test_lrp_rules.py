"""Rules of relevance propagation: a slow oracle, conservation and its sinks, signs, errors."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from compactvision.pruning.lrp_pruning import rules
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import lrp_pruning as oracle

CONVOLUTIONS = [  # (C_in, C_out, H, W, stride, padding, dilation, groups)
    (2, 3, 5, 4, 1, 1, 1, 1),
    (2, 3, 7, 6, 2, 0, 1, 1),
    (3, 2, 7, 7, 2, 2, 2, 1),
    (4, 6, 5, 5, 3, 1, 1, 2),
    (3, 3, 4, 6, 1, 1, 1, 3),
]


def random(*shape, seed=0):
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(a, w):
    """The layer without its bias."""
    return F.linear(a, w)


def checked(rule, plain, a, w, bias, given):
    """Compare a rule on a batch for a linear layer with the oracle, one sample at a time."""
    found = rule(linear, a, w, bias, given)
    for n in range(len(a)):
        expected = plain(a[n].numpy(), w.numpy(), given[n].numpy())
        np.testing.assert_allclose(found[n].numpy(), expected, rtol=1e-9, atol=1e-9)


class TestAgainstOracle:
    def test_linear(self):
        a, w, bias, given = random(3, 5), random(4, 5, seed=1), random(4, seed=2), random(3, 4, seed=3)
        checked(rules.z_plus, oracle.z_plus, a, w, bias, given)
        checked(rules.alpha_beta(2), lambda *x: oracle.alpha_beta(*x, 2), a, w, bias, given)
        checked(rules.alpha_beta(1), oracle.z_plus, a, w, bias, given)
        checked(rules.epsilon(0.1), lambda x, m, r: oracle.epsilon(x, m, bias.numpy(), r, 0.1), a, w, bias, given)
        checked(rules.epsilon(0.1), lambda x, m, r: oracle.epsilon(x, m, np.zeros(4), r, 0.1), a, w, None, given)
        low, high = a.amin() - 1, a.amax() + 0.5
        bounds = np.full(5, float(low)), np.full(5, float(high))
        checked(rules.box(low, high), lambda x, m, r: oracle.box(x, m, r, *bounds), a, w, bias, given)

    @pytest.mark.parametrize("layer", CONVOLUTIONS)
    @pytest.mark.parametrize("signed", [True, False])
    def test_convolution(self, layer, signed):
        c_in, c_out, h, w, stride, padding, dilation, groups = layer
        a = random(1, c_in, h, w) if signed else random(1, c_in, h, w).relu()
        weight = random(c_out, c_in // groups, 3, 3, seed=1)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        matrix, shape = oracle.convolution_matrix(weight.numpy(), (h, w), **options)
        given = random(1, *shape, seed=2)

        def apply(x, kernel):
            return F.conv2d(x, kernel, None, **options)

        flat = a.flatten().numpy(), matrix, given.flatten().numpy()
        low, high = torch.linspace(-5, -4, c_in).double(), torch.linspace(4, 6, c_in).double()
        bounds = [bound.repeat_interleave(h * w).numpy() for bound in (low, high)]
        for rule, expected in (
            (rules.z_plus, oracle.z_plus(*flat)),
            (rules.alpha_beta(1.5), oracle.alpha_beta(*flat, 1.5)),
            (rules.box(low, high), oracle.box(*flat, *bounds)),
        ):
            found = rule(apply, a, weight, None, given)
            assert found.shape == a.shape
            np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=1e-9, atol=1e-9)


class TestInvariants:
    @settings(max_examples=40, deadline=None)
    @given(inputs=st.integers(1, 5), outputs=st.integers(1, 5), seed=st.integers(0, 999))
    def test_what_is_not_handed_on_was_at_a_sink(self, inputs, outputs, seed):
        a, w = random(2, inputs, seed=seed).relu(), random(outputs, inputs, seed=seed + 1)
        given = random(2, outputs, seed=seed + 2).abs()
        found = rules.z_plus(linear, a, w, None, given)
        sinks = F.linear(a, w.clamp(min=0)) == 0
        torch.testing.assert_close(found.sum(1), given.masked_fill(sinks, 0).sum(1))
        assert (found >= 0).all()

    def test_linear_in_relevance(self):
        a, w = random(2, 4), random(3, 4, seed=1)
        one, two = random(2, 3, seed=2), random(2, 3, seed=3)
        for rule in (rules.z_plus, rules.alpha_beta(2), rules.epsilon(0.01), rules.box(-9, 9)):
            parts = [rule(linear, a, w, None, given) for given in (one, two, 2 * one - 3 * two)]
            torch.testing.assert_close(parts[2], 2 * parts[0] - 3 * parts[1])

    def test_scale_of_a_unit_does_not_matter(self):
        a, w, given = random(2, 4), random(3, 4, seed=1), random(2, 3, seed=2)
        scale = torch.tensor([[0.01], [1.0], [50.0]], dtype=torch.float64)
        one, other = (rules.z_plus(linear, a, weight, None, given) for weight in (w, scale * w))
        torch.testing.assert_close(one, other)

    @pytest.mark.parametrize("rule", [rules.z_plus, rules.alpha_beta(2), rules.epsilon(), rules.box(-1, 1)])
    def test_no_division_by_zero(self, rule):
        given = torch.ones(2, 3)
        for a, w in ((torch.zeros(2, 4), torch.ones(3, 4)), (torch.rand(2, 4), -torch.ones(3, 4))):
            assert rule(linear, a, w, None, given).isfinite().all()
        assert rule(linear, torch.rand(2, 4), torch.zeros(3, 4), None, given).isfinite().all()

    def test_box_conserves(self):
        a, w, given = random(2, 4).clamp(-1, 1), random(3, 4, seed=1), random(2, 3, seed=2)
        found = rules.box(-1, 1)(linear, a, w, None, given)
        torch.testing.assert_close(found.sum(1), given.sum(1))


ONES = torch.ones(3, 3)


def _used(rule, apply=linear, a=ONES, w=ONES, bias=None, r=ONES):
    return rule(apply, a, w, bias, r)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.alpha_beta(0.5), "alpha must be at least 1, got 0.5"),
        (lambda: rules.epsilon(-1), "eps must not be negative, got -1"),
        (lambda: rules.epsilon(float("nan")), "eps must be finite, got nan"),
        (lambda: rules.epsilon("small"), "eps must be a number, got 'small'"),
        (lambda: rules.alpha_beta(float("inf")), "alpha must be finite, got inf"),
        (lambda: rules.box(0, float("inf")), "low must be below high, and both finite"),
        (lambda: rules.box([0.0], 1), r"low must be a number, got \[0.0\]"),
        (lambda: rules.box(torch.zeros(2), torch.ones(3)), r"low and high must be .* got \(2,\) and \(3,\)"),
        (
            lambda: rules.box(torch.zeros(2), 1.0)(linear, ONES, ONES, None, torch.ones(3, 3)),
            r"low must be a number or \(3,\), one a channel, got \(2,\)",
        ),
        (lambda: rules.quotient(ONES, torch.ones(2)), r"relevance and z.* got \(3, 3\) and \(2,\)"),
        (lambda: rules.quotient(ONES.tolist(), ONES), "relevance must be a tensor"),
        *[
            (lambda change=change, rule=rule: _used(rule, **change), message)
            for rule in (rules.z_plus, rules.alpha_beta(2.0), rules.epsilon(), rules.box(0, 2))
            for change, message in (
                ({"apply": None}, "apply must be a function of 2 arguments, got None"),
                ({"apply": "linear"}, "apply must be a function"),
                ({"a": torch.ones(3)}, r"a its inputs, got a \(3,\) for weight \(3, 3\)"),
                ({"a": torch.ones(3, 4)}, r"a its inputs, got a \(3, 4\)"),
                ({"a": ONES.double()}, "a and weight must have one dtype and device"),
                ({"w": torch.ones(3, 2, 1)}, r"for weight \(3, 2, 1\)"),
                ({"w": ONES.long()}, "weight must be a floating-point tensor"),
                ({"bias": torch.ones(2)}, r"bias must have shape \(3,\), got \(2,\)"),
                ({"bias": [1.0] * 3}, "bias must be a tensor"),
                ({"r": torch.ones(3, 2)}, r"relevance and z.* got \(3, 2\) and \(3, 3\)"),
            )
        ],
        (lambda: rules.box(1, 1), "low must be below high"),
        (
            lambda: rules.box(0.0, 0.5)(linear, torch.ones(1, 2), torch.ones(1, 2), None, torch.ones(1, 1)),
            "low, high: ",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_epsilon_takes_a_sum_of_zero_for_a_positive_one():
    a, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, -1.0]])
    found = rules.epsilon(0.5)(torch.nn.functional.linear, a, weight, None, torch.tensor([[1.0]]))
    assert found.tolist() == [[4.0, -4.0]]


def test_epsilon_adds_the_bias_of_a_linear_layer_to_each_position():
    generator = torch.Generator().manual_seed(0)
    a, weight, bias = (torch.randn(shape, generator=generator) for shape in ((2, 4, 3), (4, 3), (4,)))
    relevance = torch.randn(2, 4, 4, generator=generator)
    found = rules.epsilon(0.1)(F.linear, a, weight, bias, relevance)
    for position in range(4):
        alone = rules.epsilon(0.1)(F.linear, a[:, position], weight, bias, relevance[:, position])
        torch.testing.assert_close(found[:, position], alone)
