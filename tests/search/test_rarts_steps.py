"""One iteration for any loss: the toy by autograd, the oracle on a regression, who moves what, passes, second order."""

import itertools

import numpy as np
import pytest
import torch
from compactvision.search import rarts
from compactvision.search.rarts import solvable
from compactvision.search.rarts.steps import Block, darts_, mixed_level_, rarts_, single_level_

from oracles import rarts as oracle


def number(value):
    return torch.tensor(float(value), dtype=torch.float64, requires_grad=True)


def train(w, a):
    return solvable.training_loss(w[0], a[0])


def valid(w, a):
    return solvable.validation_loss(w[0], a[0])


def walk(method, steps, rate=0.01, two=False, **options):
    """Points of a method on the toy by autograd."""
    alpha, w, y = map(number, solvable.START)
    blocks = [Block.descent([x], rate) for x in ((w, y, alpha) if two else (w, alpha))]
    points = [solvable.START]
    for _ in range(steps):
        method(*blocks, train, valid, **options)
        points.append(solvable.Point(alpha.item(), w.item(), (y if two else w).item()))
    return points


class TestToy:
    """By autograd as by hand, to 1e-12."""

    def check(self, found, wanted):
        for one, other in zip(found, wanted, strict=True):
            assert one == pytest.approx(other, abs=1e-12)

    @pytest.mark.parametrize("order", ["gauss-seidel", "jacobi"])
    def test_rarts(self, order):
        found = walk(rarts_, 200, two=True, training_weight=3, coupling=7, order=order)
        self.check(found, solvable.rarts_iterates(200, 3, 7, order=order))

    def test_darts_first(self):
        self.check(walk(darts_, 200), solvable.darts_iterates(200))

    @pytest.mark.parametrize("unroll", [0.1, 0.5])
    def test_darts_second(self, unroll):
        """The difference of a gradient that is linear in w is exact, up to rounding."""
        found = walk(darts_, 200, second=True, unroll=unroll)
        for one, other in zip(found, solvable.darts_iterates(200, unroll), strict=True):
            assert one == pytest.approx(other, abs=1e-9)

    @pytest.mark.parametrize("order", ["gauss-seidel", "jacobi"])
    def test_single_level(self, order):
        found = walk(single_level_, 200, training_weight=3, order=order)
        self.check(found, solvable.single_level_iterates(200, 3, order=order))

    def test_mixed_level(self):
        self.check(walk(mixed_level_, 200, training_weight=3), solvable.mixed_level_iterates(200, 3))


class TestRegression:
    """A model with more than one weight: the prediction is a (x . w)."""

    def make(self):
        rng = np.random.default_rng(3)
        x = rng.normal(size=(2, 9, 4))
        return x, rng.normal(size=(2, 9)), rng.normal(size=4), rng.normal()

    def test_five_iterations_are_the_oracles(self):
        x, t, start, a = self.make()
        w = y = start
        tensors = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (start, start, a)]
        blocks = [Block.descent([tensor], 0.05) for tensor in tensors]
        losses = [self.loss(torch.tensor(x[half]), torch.tensor(t[half])) for half in (0, 1)]
        for _ in range(5):
            rarts_(*blocks, *losses, training_weight=0.7, coupling=0.4)
            w, y, a = oracle.twin_descent(x[0], t[0], x[1], t[1], w, y, a, 0.7, 0.4, 0.05)
        for tensor, wanted in zip(tensors, (w, y, a), strict=True):
            assert tensor.detach().numpy() == pytest.approx(wanted, abs=1e-12)

    @staticmethod
    def loss(x, t):
        return lambda w, a: (a[0] * (x @ w[0]) - t).square().mean()

    def test_at_the_end_the_two_halves_balance(self):
        """lambda grad_w L_tr = -grad_y L_va, and y - w = -grad_y L_va / beta; the architecture is a shift.

        As a factor it would grow for ever: a larger one needs smaller weights, and a shorter spring.
        """
        x, t, start, a = self.make()
        w, y, alpha = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (start, start, a))
        blocks = [Block.descent([tensor], 0.05) for tensor in (w, y, alpha)]

        def shifted(half):
            x_half, t_half = torch.tensor(x[half]), torch.tensor(t[half])
            return lambda w, a: (x_half @ w[0] + a[0] - t_half).square().mean()

        losses = shifted(0), shifted(1)
        for _ in range(1500):
            rarts_(*blocks, *losses, training_weight=2.0, coupling=3.0)
        by_train = torch.autograd.grad(losses[0]((w,), (alpha,)), w)[0]
        by_valid = torch.autograd.grad(losses[1]((y,), (alpha,)), y)[0]
        assert by_valid.abs().max() > 0.01
        assert (2 * by_train).numpy() == pytest.approx(-by_valid.numpy(), abs=1e-6)
        assert (y - w).detach().numpy() == pytest.approx(-by_valid.numpy() / 3, abs=1e-6)


class Counted:
    """A loss that counts how often it is called, and on which weights."""

    def __init__(self, loss):
        self.loss, self.calls, self.seen = loss, 0, []

    def __call__(self, w, a):
        self.calls += 1
        self.seen.append((w[0], a[0]))
        return self.loss(w, a)


@pytest.mark.parametrize(
    ("method", "two", "options", "passes"),
    [
        (rarts_, True, {}, (2, 2)),
        (rarts_, True, {"order": "jacobi"}, (1, 1)),
        (darts_, False, {}, (1, 1)),
        (darts_, False, {"second": True}, (4, 1)),
        (single_level_, False, {}, (1, 1)),
        (single_level_, False, {"order": "gauss-seidel"}, (2, 2)),
        (mixed_level_, False, {}, (2, 1)),
    ],
)
def test_passes_are_counted_and_no_gradient_is_differentiated(method, two, options, passes, monkeypatch):
    alpha, w, y = map(number, solvable.START)
    losses, backward = (Counted(train), Counted(valid)), []
    grad = torch.autograd.grad

    def watched(*args, **kwargs):
        backward.append(kwargs.get("create_graph", False) or kwargs.get("retain_graph", False))
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    blocks = [Block.descent([x], 0.01) for x in ((w, y, alpha) if two else (w, alpha))]
    done = method(*blocks, *losses, **options)
    assert (losses[0].calls, losses[1].calls) == passes
    assert done.passes == sum(passes) == len(backward)
    assert not any(backward)
    assert all(seen[1] is alpha for loss in losses for seen in loss.seen)  # one architecture, not copies of it
    assert (done.train_loss, done.valid_loss) == pytest.approx((losses[0].loss((w,), (alpha,)).item(), 1.0), abs=99)


def test_rarts_runs_each_half_on_its_own_weights():
    alpha, w, y = map(number, solvable.START)
    losses = Counted(train), Counted(valid)
    rarts_(*[Block.descent([x], 0.01) for x in (w, y, alpha)], *losses)
    assert all(seen[0] is w for seen in losses[0].seen)
    assert all(seen[0] is y for seen in losses[1].seen)


def test_values_are_those_before_the_iteration():
    alpha, w, y = map(number, solvable.START)
    done = rarts_(*[Block.descent([x], 0.01) for x in (w, y, alpha)], train, valid, coupling=10, training_weight=10)
    assert done.train_loss == 16
    assert done.valid_loss == -7


def test_without_a_spring_the_weights_do_not_know_of_each_other():
    """With beta = 0 and a still architecture, w does not change when y does."""
    ends = []
    for start in (-2.0, 5.0):
        alpha, w, y = number(2), number(-2), number(start)
        for _ in range(3):
            rarts_(
                Block.descent([w], 0.1), Block.descent([y], 0.1), Block.descent([alpha], 0.0), train, valid, coupling=0
            )
        ends.append((w.item(), y.item()))
    assert ends[0][0] == ends[1][0]
    assert ends[0][1] != ends[1][1]


def test_swapping_the_halves_changes_the_walk():
    one = walk(rarts_, 3, two=True)
    swapped = walk(lambda *blocks_and_losses, **o: rarts_(*blocks_and_losses[:3], valid, train, **o), 3, two=True)
    assert one[-1] != pytest.approx(swapped[-1])


class TestSecondOrder:
    """Of a loss that is no quadratic, against a double backward pass."""

    def losses(self):
        generator = torch.Generator().manual_seed(2)
        x, t = (torch.randn(2, 12, 5, generator=generator, dtype=torch.float64) for _ in range(2))

        def of(half):
            return lambda w, a: ((torch.tanh(x[half] @ w[0]) * a[0].sigmoid() - t[half]) ** 2).mean()

        return of(0), of(1)

    def exact(self, w, a, xi, of_train, of_valid):
        slope = torch.autograd.grad(of_train((w,), (a,)), w, create_graph=True)[0]
        return torch.autograd.grad(of_valid((w - xi * slope,), (a,)), a)[0]

    def test_is_the_gradient_through_the_step(self):
        generator = torch.Generator().manual_seed(4)
        w = torch.randn(5, 5, generator=generator, dtype=torch.float64).requires_grad_()
        a = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
        losses = self.losses()
        wanted = self.exact(w, a, 0.5, *losses)
        first = self.exact(w, a, 0.0, *losses)
        before = a.detach().clone()
        darts_(Block.descent([w], 0.0), Block.descent([a], 1.0), *losses, second=True, unroll=0.5)
        found = before - a.detach()
        assert found.numpy() == pytest.approx(wanted.numpy(), rel=1e-4, abs=1e-8)
        assert (found - first).abs().max() > 100 * (found - wanted).abs().max()

    def test_the_step_ahead_is_the_optimisers(self):
        """With momentum and weight decay the virtual point is where the optimiser would go."""
        w, a = number(0.5), number(0.3)
        optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.2)
        block, still = Block([w], optimizer), Block.descent([a], 0.0)
        darts_(block, still, train, valid)
        watched = Counted(valid)
        darts_(block, still, train, watched, second=True)
        assert watched.seen[0][0].item() == pytest.approx(w.item(), abs=1e-12)

    def test_a_silent_validation_loss_moves_nothing(self):
        w, a = number(1), number(2)
        darts_(Block.descent([w], 0.0), Block.descent([a], 0.1), train, lambda w, a: 0 * w[0] * a[0], second=True)
        assert a.item() == 2


class TestBlock:
    def test_the_optimiser_owns_these_tensors_only(self):
        a, b = number(1), number(2)
        with pytest.raises(ValueError, match="optimizer must hold the tensors of the block"):
            Block([a], torch.optim.SGD([a, b], lr=0.1))
        with pytest.raises(ValueError, match="optimizer must hold the tensors of the block"):
            Block([a, b], torch.optim.SGD([a], lr=0.1))

    def test_gradients_are_clipped_over_all_tensors(self):
        a, b = number(0), number(0)
        Block.descent([a, b], 1.0, clip=1.0).descend([torch.tensor(3.0), torch.tensor(4.0)])
        assert (a.item(), b.item()) == pytest.approx((-0.6, -0.8), abs=1e-5)

    def test_the_spring_is_clipped_with_the_loss(self):
        alpha, w, y = number(0), number(0), number(100)
        blocks = [Block.descent([x], 1.0, clip=1.0) for x in (w, y, alpha)]
        rarts_(*blocks, train, valid, coupling=10)
        assert w.item() == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize(
        ("gradients", "message"),
        [([], "must be 1 tensors"), ([torch.ones(2)], r"must have shape \(\)"), ([3], "must be a fl")],
    )
    def test_bad_gradients_are_refused(self, gradients, message):
        with pytest.raises(ValueError, match=f"gradients.* {message}"):
            Block.descent([number(0)], 1.0).descend(gradients)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w, y, a: rarts_(w, w, a, train, valid), "twin must not share tensors"),
        (lambda w, y, a: rarts_(w, y, y, train, valid), "alpha must not share tensors"),
        (lambda w, y, a: rarts_(w, y, a, train, valid, coupling=-1), "coupling must be at least 0"),
        (lambda w, y, a: rarts_(w, y, a, train, valid, order="none"), "order must be one of"),
        (lambda w, y, a: rarts_(w, y, a, None, valid), "train must be a function of 2"),
        (lambda w, y, a: rarts_(w, y, a, lambda w, a: 3.0, valid), "train must give one number"),
        (lambda w, y, a: darts_(w, 3, train, valid), "alpha must be of class Block"),
        (lambda w, y, a: darts_(w, a, train, valid, second="yes"), "second must be True or False"),
        (lambda w, y, a: darts_(w, a, train, valid, second=True, unroll=-1), "unroll must be at least 0"),
        (lambda w, y, a: Block.descent([], 0.1), "tensors must be different tensors, at least one"),
        (lambda w, y, a: Block.descent([torch.zeros(2)], 0.1), r"tensors\[0\] must be a leaf"),
    ],
)
def test_bad_arguments_are_named(call, message):
    blocks = [Block.descent([number(x)], 0.1) for x in (1, 2, 3)]
    with pytest.raises(ValueError, match=message):
        call(*blocks)


def test_twin_must_have_the_shapes_of_weights():
    other = Block.descent([torch.zeros(3, requires_grad=True)], 0.1)
    with pytest.raises(ValueError, match="twin must have tensors of the shapes"):
        rarts.rarts_(Block.descent([number(1)], 0.1), other, Block.descent([number(2)], 0.1), train, valid)


def test_losses_of_the_relaxed_problem_fall_on_a_network_without_noise():
    """Full gradients and small steps: the relaxed loss never rises, also where it is no quadratic."""
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(2, 20, 3, generator=generator), torch.randn(2, 20, generator=generator)
    w, y, a = (torch.full((3,), 0.5, requires_grad=True) for _ in range(3))

    def of(half):
        return lambda w, a: (torch.tanh(x[half] @ (w[0] * a[0].softmax(0))) - t[half]).square().mean()

    blocks = [Block.descent([v], 0.05) for v in (w, y, a)]
    losses = []
    for _ in range(100):
        with torch.no_grad():
            losses.append(float(of(1)((y,), (a,)) + of(0)((w,), (a,)) + (y - w).square().sum()))
        rarts_(*blocks, of(0), of(1), coupling=2.0)
    assert all(later <= before + 1e-7 for before, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_stiffest_spring(momentum):
    """Two numbers on a spring alone: a little below the limit they meet, a little above they part."""
    most = rarts.block.largest_coupling(0.1, momentum)
    for factor, meet in ((0.97, True), (1.03, False)):
        w, y, alpha = number(1), number(-1), number(0)
        blocks = [Block([v], torch.optim.SGD([v], lr=0.1, momentum=momentum)) for v in (w, y)]
        for _ in range(600):
            flat = lambda w, a: 0 * w[0] * a[0]  # noqa: E731
            rarts_(*blocks, Block.descent([alpha], 0.0), flat, flat, coupling=factor * most)
        assert (abs((w - y).item()) < 0.1) == meet


def test_a_stiffer_spring_is_refused():
    with pytest.raises(ValueError, match="coupling must be below"):
        rarts.block.refuse_resonance(8.0, 0.025, 0.9)
    with pytest.raises(ValueError, match="momentum must be below 1"):
        rarts.block.largest_coupling(0.1, 1.0)
