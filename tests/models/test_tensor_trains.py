"""Tensor trains: cores against the oracle and tensorly, bounds, ranks that are not possible."""

import math

import numpy as np
import pytest
import tensorly
import torch
from compactvision.models import factorised
from compactvision.models.factorised import (
    feasible_ranks,
    from_modes,
    threads,
    to_modes,
    tt_parameters,
    tt_svd,
    tt_tensor,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.decomposition import tensor_train

from oracles import admm_tensor_train as oracle


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tails(tensor, ranks):
    """Tail singular energies of the unfoldings, one a cut."""
    found = []
    for k, rank in enumerate(ranks):
        matrix = tensor.reshape(math.prod(tensor.shape[: k + 1]), -1)
        found.append(float(torch.linalg.svdvals(matrix)[rank:].square().sum().sqrt()))
    return found


shapes = st.lists(st.integers(1, 6), min_size=2, max_size=5)


@settings(max_examples=60, deadline=None)
@given(shapes, st.data())
def test_cores_bounds_and_orthonormality(modes, data):
    ranks = tuple(data.draw(st.integers(1, 12)) for _ in modes[1:])
    tensor = noise(*modes, seed=data.draw(st.integers(0, 99)))
    cores = tt_svd(tensor, ranks)
    possible = feasible_ranks(modes, ranks)
    inner = (1, *possible, 1)
    assert [tuple(core.shape) for core in cores] == list(zip(inner[:-1], modes, inner[1:], strict=True))
    assert sum(core.numel() for core in cores) == tt_parameters(modes, possible)
    near = tt_tensor(cores)
    error = float((tensor - near).norm())
    lost = tails(tensor, possible)
    assert max(lost) <= error + 1e-9
    assert error <= math.sqrt(sum(each**2 for each in lost)) + 1e-9
    for core in cores[:-1]:
        basis = core.flatten(0, 1)
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1], dtype=basis.dtype), rtol=0, atol=1e-10)
    torch.testing.assert_close(tt_tensor(tt_svd(near, ranks)), near, rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(shapes, st.data())
def test_equals_tensorly_and_the_oracle(modes, data):
    ranks = tuple(data.draw(st.integers(1, 12)) for _ in modes[1:])
    tensor = noise(*modes, seed=data.draw(st.integers(0, 99)))
    near = tt_tensor(tt_svd(tensor, ranks)).numpy()
    np.testing.assert_allclose(near, oracle.tensor(oracle.tt_svd(tensor.numpy(), ranks)), atol=1e-10)
    theirs = tensor_train(tensor.numpy(), rank=[1, *feasible_ranks(modes, ranks), 1])
    np.testing.assert_allclose(near, tensorly.tt_to_tensor(theirs), atol=1e-10)


@pytest.mark.parametrize(
    ("ranks", "relative"), [((8, 8), 0.846681), ((16, 8), 0.751998), ((20, 12), 0.577330), ((32, 16), 0.0)]
)
def test_numbers_of_the_specification(ranks, relative):
    kernel = torch.from_numpy(np.random.RandomState(0).randn(32, 16, 3, 3))
    tensor = to_modes(kernel, (32,), (16,))
    near = tt_tensor(tt_svd(tensor, ranks))
    assert float((near - tensor).norm() / tensor.norm()) == pytest.approx(relative, abs=5e-7)
    if ranks == (8, 8):
        lost = tails(tensor, ranks)
        assert (max(lost), math.hypot(*lost)) == pytest.approx((51.3789, 66.8926), abs=5e-5)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class TestThreads:
    """Small tensors are decomposed by one thread; the number is as before afterwards, whatever happens."""

    def seen_by(self, tensor, monkeypatch):
        svd, seen = torch.linalg.svd, []

        def watched(*args, **options):
            seen.append(torch.get_num_threads())
            return svd(*args, **options)

        monkeypatch.setattr(torch.linalg, "svd", watched)
        tt_svd(tensor, (2, 2))
        return seen

    def test_one_for_a_small_tensor(self, three_threads, monkeypatch):
        assert self.seen_by(noise(8, 9, 8), monkeypatch) == [1, 1]
        assert torch.get_num_threads() == 3

    def test_all_for_a_large_one(self, three_threads, monkeypatch):
        monkeypatch.setattr(threads, "ALONE", 8 * 9 * 8 - 1)
        assert self.seen_by(noise(8, 9, 8), monkeypatch) == [3, 3]
        assert torch.get_num_threads() == 3

    def test_restored_after_an_error(self, three_threads, monkeypatch):
        def broken(*args, **options):
            raise RuntimeError("no convergence")

        monkeypatch.setattr(torch.linalg, "svd", broken)
        with pytest.raises(RuntimeError, match="no convergence"):
            tt_svd(noise(8, 9, 8), (2, 2))
        assert torch.get_num_threads() == 3


def test_four_cuts_of_the_specification():
    kernel = torch.from_numpy(np.random.RandomState(0).randn(32, 16, 3, 3))
    tensor = to_modes(kernel, (8, 4), (4, 4))
    near = tt_tensor(tt_svd(tensor, (8, 16, 10, 4)))
    assert float((near - tensor).norm() / tensor.norm()) == pytest.approx(0.697313, abs=5e-7)
    torch.testing.assert_close(from_modes(tensor, 32, 16, (3, 3)), kernel, rtol=0, atol=0)


def test_the_wrong_order_of_modes_is_another_tensor():
    """A kernel with exact ranks (8, 6) in the right layout: without the transposition, those ranks lose most of it."""
    kernel = from_modes(tt_tensor(tt_svd(noise(32, 9, 16), (8, 6))), 32, 16, (3, 3))
    right = to_modes(kernel, (32,), (16,))
    wrong = kernel.reshape(32, 9, 16)
    errors = [float((each - tt_tensor(tt_svd(each, (8, 6)))).norm() / each.norm()) for each in (right, wrong)]
    assert errors[0] < 1e-12
    assert errors[1] > 0.4


@pytest.mark.parametrize(
    ("modes", "asked", "possible"),
    [
        ((32, 9, 16), (100, 100), (32, 16)),
        ((4, 1, 8), (3, 7), (3, 3)),
        ((2, 2, 2, 2), (9, 9, 9), (2, 4, 2)),
        ((5, 7), (2,), (2,)),
        ((1, 9, 1), (4, 4), (1, 1)),
    ],
)
def test_ranks_that_are_not_possible(modes, asked, possible):
    assert feasible_ranks(modes, asked) == possible
    assert tuple(core.shape[2] for core in tt_svd(noise(*modes), asked)[:-1]) == possible


def test_a_list_of_ranks_is_left_as_it_was():
    ranks = [100, 100]
    tt_svd(noise(4, 3, 2), ranks)
    assert ranks == [100, 100]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_precisions(dtype):
    tensor = noise(6, 9, 4).to(dtype)
    cores = tt_svd(tensor, (6, 4))
    assert {core.dtype for core in cores} == {dtype}
    torch.testing.assert_close(tt_tensor([core.float() for core in cores]), tensor.float(), rtol=0.03, atol=0.05)


def test_a_tensor_of_zeros():
    assert not tt_tensor(tt_svd(torch.zeros(4, 3, 2), (2, 2))).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tt_svd(torch.ones(3), ()), r"tensor must have at least 2 dimensions, got shape \(3,\)"),
        (lambda: tt_svd(torch.full((2, 2), math.nan), (1,)), "tensor must be finite"),
        (lambda: tt_svd(torch.ones(2, 2, 2), (1,)), r"ranks must hold 2 numbers for the modes \(2, 2, 2\), got \(1,\)"),
        (lambda: tt_svd(torch.ones(2, 2), (0,)), r"ranks must be whole numbers of at least 1, got \(0,\)"),
        (lambda: feasible_ranks((2, 2), (1.5,)), r"ranks must be whole numbers of at least 1, got \(1.5,\)"),
        (lambda: tt_svd(torch.ones(2, 2, dtype=torch.long), (1,)), "tensor must be floating-point"),
        (lambda: tt_svd(torch.ones(2, 0), (1,)), r"tensor must not be empty, got shape \(2, 0\)"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


KERNEL = torch.ones(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: factorised.tt_tensor([]), r"cores must be a list of tensors that is not empty, got \[\]"),
        (lambda: factorised.tt_tensor([torch.ones(1, 3, 2), torch.ones(3, 3, 1)]), "cores must have shapes"),
        (lambda: factorised.tt_tensor([torch.ones(1, 3, 2), torch.ones(2, 3, 2)]), "cores must have shapes"),
        (lambda: factorised.tt_tensor([torch.ones(2, 3)]), "cores must have shapes"),
        (lambda: factorised.tt_parameters((6, 9, 4), (3,)), r"ranks must hold 2 numbers for the modes \(6, 9, 4\)"),
        (
            lambda: factorised.feasible_ranks((6, 0.5), (3,)),
            r"modes must be whole numbers of at least 1, got \(6, 0.5\)",
        ),
        (lambda: factorised.to_modes(KERNEL, (3, 3), (4,)), r"out_modes must have the product 6, got \(3, 3\)"),
        (lambda: factorised.to_modes(KERNEL[0], (4,), (3,)), r"kernel must have shape \(C_out, C_in, K_h, K_w\)"),
        (
            lambda: factorised.from_modes(torch.ones(6, 9, 4), 6, 5, (3, 3)),
            "does not fit out_channels=6, in_channels=5",
        ),
        (
            lambda: factorised.TTConv2d(4, 6, 3, (3, 2)).set_kernel_(KERNEL[:5]),
            r"kernel must have shape \(6, 4, 3, 3\)",
        ),
        (lambda: factorised.SVDConv2d(4, 6, 3, 3).set_kernel_(KERNEL[:5]), r"kernel must have shape \(6, 4, 3, 3\)"),
        (lambda: factorised.TTConv2d(4, 6, 3, (3, 2))(KERNEL.long()), "x must be a floating-point tensor"),
        (lambda: factorised.TTConv2d(4, 6, 3, (3, 2), bias="no"), "bias must be True or False, got 'no'"),
        (
            lambda: factorised.with_layers(torch.nn.Identity(), {"a": 3}),
            r"change\['a'\] must be a function of 1 argument",
        ),
    ],
)
def test_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
