"""The softmax over allowed actions: against the definition, at its edges, and its gradient."""

import math

import pytest
import torch
from compactvision.search.nat_plus_plus.softmax import binary_masked_softmax, entropy, log_probabilities, sample
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical

from oracles import nat_plus_plus as oracle

ROWS = st.lists(st.tuples(st.floats(-1e3, 1e3), st.booleans()), min_size=1, max_size=8).filter(
    lambda row: any(m for _, m in row)
)


def test_the_published_example():
    logits = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
    mask = torch.tensor([1, 1, 0, 0, 1]).bool()
    p = binary_masked_softmax(logits, mask)
    assert p.tolist() == pytest.approx([0.70538455, 0.03511903, 0, 0, 0.25949648], abs=1e-7)
    assert float(entropy(logits, mask)) == pytest.approx(0.71386576, abs=1e-7)


@given(ROWS)
def test_equals_the_definition(row):
    logits, mask = [z for z, _ in row], [m for _, m in row]
    expected = oracle.masked_softmax(logits, mask)
    found = binary_masked_softmax(torch.tensor(logits, dtype=torch.float64), torch.tensor(mask))
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert all(p == 0 for p, m in zip(found.tolist(), mask, strict=True) if not m)
    measured = float(entropy(torch.tensor(logits, dtype=torch.float64), torch.tensor(mask)))
    assert measured == pytest.approx(oracle.entropy(expected), abs=1e-9)
    assert -1e-12 <= measured <= math.log(sum(mask)) + 1e-12


def test_agrees_with_pytorch():
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = logits > -0.5
    library = Categorical(logits=logits.masked_fill(~mask, -1e300))
    torch.testing.assert_close(binary_masked_softmax(logits, mask), library.probs)
    torch.testing.assert_close(entropy(logits, mask), library.entropy())


@pytest.mark.parametrize("masked", [-math.inf, math.inf, math.nan, 1e4])
def test_what_is_masked_does_not_matter(masked):
    logits = torch.tensor([[0.3, masked, -1.2]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True]])
    p = binary_masked_softmax(logits, mask)
    assert p[0, 1] == 0
    (entropy(logits, mask).sum() + log_probabilities(logits, mask)[0, 0] + p[0, 2]).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] == 0
    assert logits.grad[0, 0] != 0


def test_one_allowed_action_is_certain():
    logits = torch.tensor([[1e4, -1e4, 3.0]], requires_grad=True)
    mask = torch.tensor([[False, True, False]])
    assert binary_masked_softmax(logits, mask).tolist() == [[0, 1, 0]]
    assert entropy(logits, mask).tolist() == [0]
    log_probabilities(logits, mask)[0, 1].backward()
    assert logits.grad.tolist() == [[0, 0, 0]]


def test_gradients_by_finite_differences():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 1, 1, 1, 0]]).bool()
    assert torch.autograd.gradcheck(lambda z: (binary_masked_softmax(z, mask), entropy(z, mask)), (logits,))


def test_draws_have_the_probabilities():
    logits = torch.tensor([[1.0, -2.0, 0.5, 3.0, 0.0]])
    mask = torch.tensor([[1, 1, 0, 0, 1]]).bool()
    many = 20_000
    drawn = sample(logits.expand(many, -1), mask.expand(many, -1), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=5) / many
    assert shares.tolist() == pytest.approx(binary_masked_softmax(logits, mask)[0].tolist(), abs=0.012)


def test_draws_come_from_the_generator():
    logits, mask = torch.zeros(50, 4), torch.ones(50, 4, dtype=torch.bool)
    first, again, other = (sample(logits, mask, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("logits", "mask", "message"),
    [
        ([0.0, 1.0], torch.ones(2).bool(), "logits must be a floating-point tensor"),
        (torch.zeros(2), torch.ones(2), r"mask must be booleans of shape \(2,\)"),
        (torch.zeros(2), torch.ones(3).bool(), r"mask must be booleans of shape \(2,\)"),
        (
            torch.zeros(2, 2),
            torch.eye(2).bool() & torch.tensor([True, False]),
            "mask must allow one action in each row",
        ),
        (torch.tensor([math.inf, 0.0]), torch.ones(2).bool(), "logits must be finite where the mask is True"),
    ],
)
def test_refusals(logits, mask, message):
    with pytest.raises(ValueError, match=message):
        entropy(logits, mask)
