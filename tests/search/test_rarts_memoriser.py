"""The memoriser test: filters, the mixture by hand, and who takes the operation that learns by heart."""

import pytest
import torch
from compactvision.search.rarts import memoriser

from oracles import rarts as oracle


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("taps", [1, 3, 9])
def test_filters_are_the_oracles(taps):
    x, weights = torch.randn(2, 12, dtype=torch.float64), torch.randn(taps, dtype=torch.float64)
    for row, found in zip(x, memoriser.filtered(x, weights), strict=True):
        assert found.tolist() == pytest.approx(oracle.filtered(row.tolist(), weights.tolist()))


def test_signals():
    found = memoriser.signals(seeded(), count=500, length=20, noise=0.5)
    for (x, targets), noise in zip((found.train, found.valid, found.new), (0.5, 0.5, 0.0), strict=True):
        rest = targets - memoriser.filtered(x, torch.tensor(memoriser.TAPS))
        assert rest.std().item() == pytest.approx(noise, abs=0.02)
    assert not torch.equal(found.train[0], found.valid[0])


def test_the_mixture_by_hand():
    x = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0, 0], [0.0] * 9])
    weights = torch.tensor([-3.0]), torch.tensor([0.0, 1, 0]), torch.zeros(9), torch.eye(9).flip(0)
    alpha = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]).log()
    norm = (5 / 18) ** 0.5
    wanted = torch.zeros(2, 9)
    wanted[0, :2] = torch.tensor([1.0, 2]) * (0.1 - 0.2 + 0.3) / norm
    wanted[0, 7:] = torch.tensor([2.0, 1]) * 0.25 / norm
    torch.testing.assert_close(memoriser.mixture(x, weights, alpha), wanted, rtol=1e-5, atol=1e-5)


def test_no_operation_begins_louder():
    x = torch.randn(400, 32, generator=seeded())
    for shape, weight in zip(((1,), (3,), (9,), (32, 32)), memoriser.first_weights(32, seeded()), strict=True):
        assert weight.shape == shape
    assert (x @ memoriser.first_weights(32, seeded())[3]).square().mean().item() == pytest.approx(1, abs=0.1)


def run(method, **options):
    generator = seeded(0)
    return memoriser.run(memoriser.signals(generator), method, generator=generator, **options)


@pytest.mark.slow
def test_weights_that_see_the_judge_choose_the_memoriser():
    single, first = run("single_level", steps=400), run("darts_first", steps=400)
    assert single.chosen == "dense"
    assert first.chosen in ("conv3", "conv9")
    assert first.dense < 0.1 < 0.3 < single.dense
    assert single.train_error < first.train_error
    assert single.new_error > 5 * first.new_error


@pytest.mark.parametrize("method", memoriser.METHODS)
def test_every_method_runs_and_repeats_itself(method):
    one, again = run(method, steps=5), run(method, steps=5)
    assert one == again
    assert [len(shares) for shares in one.shares] == [5] * 5
    assert all(sum(shares) == pytest.approx(1, abs=1e-5) for shares in one.shares)
    assert one.shares[0] != one.shares[-1]
    assert one.chosen in memoriser.OPERATIONS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: memoriser.signals(length=8), "length must be at least 9"),
        (lambda: memoriser.signals(noise=-1), "noise must be at least 0"),
        (lambda: memoriser.filtered(torch.zeros(2, 5), torch.zeros(2)), "an odd number"),
        (lambda: memoriser.mixture(torch.zeros(2, 9), [], torch.zeros(5)), "alpha must have 5 numbers"),
        (lambda: run("adam"), "method must be one of"),
        (lambda: run("rarts", coupling=5.0), "coupling must be below"),
        (lambda: run("rarts", rate=0), "rate must be above 0"),
        (lambda: memoriser.run(3), "given must be of class Signals"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
