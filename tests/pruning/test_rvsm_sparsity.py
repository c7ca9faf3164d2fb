"""Relaxed variable splitting: the slow oracle, fixed points, descent, the callback, zeros, copies and baselines."""

import copy

import pytest
import torch
from compactvision import measure, models, training
from compactvision.pruning import rvsm_sparsity as rvsm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import proximal as brute
from oracles import rvsm_sparsity as oracle

SETTINGS = [("l0", 0.02, 1.0), ("l1", 0.05, 1.0), ("transformed_l1", 0.05, 1.0), ("transformed_l1", 0.03, 0.1)]


def double(*values):
    """A tensor in float64."""
    return torch.tensor(values, dtype=torch.float64)


class TestCopy:
    def test_by_hand(self):
        """penalty 0.1 and beta 0.5: kappa is 0.2."""
        w = double(0.9, -0.7, 0.6, 0.1, 0.0)
        assert rvsm.proximal_copy(w, "l0", 0.1, 0.5).tolist() == [0.9, -0.7, 0, 0, 0]  # sqrt(0.4) = 0.632
        torch.testing.assert_close(rvsm.proximal_copy(w, "l1", 0.1, 0.5), double(0.7, -0.5, 0.4, 0, 0))
        shrunk = rvsm.proximal_copy(double(2, -1, 0.4), "transformed_l1", 0.1, 0.5, a=1)
        torch.testing.assert_close(shrunk, double(1.95416573, -0.88775449, 0), rtol=0, atol=1e-8)

    @settings(max_examples=40, deadline=None)
    @given(
        w=st.floats(-3, 3),
        penalty=st.floats(1e-3, 1),
        beta=st.floats(0.1, 5),
        a=st.floats(0.05, 20),
        regulariser=st.sampled_from(rvsm.REGULARISERS),
    )
    def test_no_other_copy_is_better(self, w, penalty, beta, a, regulariser):
        found = float(rvsm.proximal_copy(double(w), regulariser, penalty, beta, a)[0])
        assert found == pytest.approx(oracle.proximal_copy(w, regulariser, penalty, beta, a), abs=1e-9)
        rival = brute.proximal(w, penalty / beta, regulariser, a, points=2001)
        values = [rvsm.objective(0, double(w), double(u), regulariser, penalty, beta, a) for u in (found, rival, 0, w)]
        assert values[0] <= min(values[1:]) + 1e-9

    @pytest.mark.parametrize(("regulariser", "penalty", "a"), SETTINGS)
    def test_threshold_and_needed_penalty(self, regulariser, penalty, a):
        limit = rvsm.threshold(regulariser, penalty, 0.5, a)
        assert rvsm.needed_penalty(regulariser, limit, 0.5, a) == pytest.approx(penalty)
        below, above = rvsm.proximal_copy(double(limit * (1 - 1e-9), limit * (1 + 1e-6)), regulariser, penalty, 0.5, a)
        assert below == 0
        assert above > 0

    @given(limit=st.floats(0, 10), beta=st.floats(0.01, 10), a=st.floats(0.01, 100))
    @settings(max_examples=40, deadline=None)
    def test_needed_penalty_inverts_in_both_regimes(self, limit, beta, a):
        for regulariser in rvsm.REGULARISERS:
            penalty = rvsm.needed_penalty(regulariser, limit, beta, a)
            assert rvsm.threshold(regulariser, penalty, beta, a) == pytest.approx(limit, rel=1e-6, abs=1e-7)

    def test_values_of_the_penalties(self):
        u = double(2, -1, 0)
        assert float(rvsm.regulariser_value(u, "l0")) == 2
        assert float(rvsm.regulariser_value(u, "l1")) == 3
        assert float(rvsm.regulariser_value(u, "transformed_l1", 1)) == pytest.approx(4 / 3 + 1)
        assert rvsm.objective(1.0, double(2.5, -1, 0.1), u, "l0", 0.1, 2.0) == pytest.approx(1 + 0.2 + 0.26)
        ours = rvsm.objective(1.0, double(2.5, -1, 0.1), u, "transformed_l1", 0.1, 2.0, 0.3)
        assert ours == pytest.approx(oracle.objective(1.0, [2.5, -1, 0.1], [2, -1, 0], "transformed_l1", 0.1, 2, 0.3))


def descend(c, start, regulariser, penalty, beta, a=1.0, learning_rate=0.5, steps=400):
    """Fixed point of the iteration for the loss (w - c)^2 / 2: w and u."""
    w = double(start)
    for _ in range(steps):
        u = rvsm.proximal_copy(w, regulariser, penalty, beta, a)
        w = w - learning_rate * ((w - c) + beta * (w - u))
    return float(w), float(rvsm.proximal_copy(w, regulariser, penalty, beta, a))


class TestFixedPoints:
    def test_l0_alive_or_dead_depends_on_the_start(self):
        """Between the threshold, 0.632, and (1 + beta) times it, 0.949, both ends exist."""
        assert descend(0.8, 0.0, "l0", 0.1, 0.5) == pytest.approx((0.8 / 1.5, 0.0), abs=1e-9)
        assert descend(0.8, 0.8, "l0", 0.1, 0.5) == pytest.approx((0.8, 0.8), abs=1e-9)
        for start in (0.0, 2.0):
            assert descend(0.5, start, "l0", 0.1, 0.5) == pytest.approx((0.5 / 1.5, 0.0), abs=1e-9)
            assert descend(1.2, start, "l0", 0.1, 0.5) == pytest.approx((1.2, 1.2), abs=1e-9)

    def test_l1_shrinks_what_it_keeps(self):
        for start in (0.0, 2.0):
            assert descend(1.0, start, "l1", 0.1, 0.5) == pytest.approx((0.9, 0.7), abs=1e-9)
            assert descend(-0.25, start, "l1", 0.1, 0.5) == pytest.approx((-0.25 / 1.5, 0.0), abs=1e-9)

    @pytest.mark.parametrize(("regulariser", "penalty", "a"), SETTINGS)
    @pytest.mark.parametrize("c", [-1.5, -0.3, 0.2, 0.7, 3.0])
    def test_the_pull_balances_the_gradient(self, regulariser, penalty, a, c):
        w, u = descend(c, c, regulariser, penalty, 0.5, a)
        assert w - c == pytest.approx(0.5 * (u - w), abs=1e-8)
        assert u == pytest.approx(oracle.proximal_copy(w, regulariser, penalty, 0.5, a), abs=1e-8)


class TestDescent:
    @pytest.mark.parametrize(("regulariser", "penalty", "a"), SETTINGS)
    def test_objective_falls_below_the_bound_and_rises_above(self, regulariser, penalty, a):
        generator = torch.Generator().manual_seed(0)
        factor = torch.randn(30, 20, generator=generator, dtype=torch.float64)
        target, beta = torch.randn(30, generator=generator, dtype=torch.float64), 0.7
        smooth = float(torch.linalg.eigvalsh(factor.T @ factor).max())

        def run(learning_rate, steps):
            w, values = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64), []
            for _ in range(steps):
                u = rvsm.proximal_copy(w, regulariser, penalty, beta, a)
                loss = float((factor @ w - target).square().sum() / 2)
                values.append(rvsm.objective(loss, w, u, regulariser, penalty, beta, a))
                w = w - learning_rate * (factor.T @ (factor @ w - target) + beta * (w - u))
            return double(*values)

        falling = run(1.98 / (smooth + beta), 300)
        assert (falling.diff() <= 1e-10 * falling[0]).all()
        assert falling[-1] < 0.9 * falling[0]
        rising = run(2.1 / (smooth + beta) * (1 + beta / smooth), 300)
        assert (rising.diff() > 0).any()
        assert rising[-1] > rising[0]


def batches(n=48, features=6):
    """Noise with labels, in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    y = (x[:, 0] > 0.2).long() + (x[:, 1] - x[:, 0] > 1).long()
    return list(zip(x.split(16), y.split(16), strict=True))


def linear():
    """A linear classifier in float64 with fixed weights."""
    model = nn.Sequential(nn.Linear(6, 3)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def fitted(callback, model=None, epochs=6, learning_rate=0.1, momentum=0.9, data=None, **options):
    """Train a model with a callback and return it."""
    model = model or linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)
    training.fit(
        model, data or batches(), epochs=epochs, optimizer=optimizer, callbacks=[callback], progress=False, **options
    )
    return model


class TestCallback:
    @pytest.mark.parametrize(("regulariser", "penalty", "a"), SETTINGS)
    @pytest.mark.parametrize("start", [0, 2])
    def test_equals_the_oracle(self, regulariser, penalty, a, start):
        splitting = rvsm.RelaxedSplitting(regulariser, penalty, 0.5, a=a, start=start)
        before = linear()
        model = fitted(splitting)
        plain = [(x.tolist(), y.tolist()) for x, y in batches()]
        first = before[0].weight.tolist(), before[0].bias.tolist()
        weight, bias, copies = oracle.train(plain, *first, regulariser, penalty, 0.5, a, 0.1, 0.9, 6, start)
        torch.testing.assert_close(model[0].weight.detach(), double(*weight), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(model[0].bias.detach(), double(*bias), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(splitting.copies()["0"], double(*copies), rtol=1e-8, atol=1e-9)
        assert 0 < splitting.sparsity() < 1
        loss, *_ = oracle.gradients(*plain[0], weight, bias)
        flat = [value for row in weight for value in row], [value for row in copies for value in row]
        expected = oracle.objective(loss, *flat, regulariser, penalty, 0.5, a)
        assert splitting.objective(loss) == pytest.approx(expected)

    def test_fixed_point_of_training(self):
        """Full batches: in the end the gradient of the loss is beta (u - w), and the bias's is zero."""
        splitting = rvsm.RelaxedSplitting("l1", 0.02, 0.5)
        whole = [tuple(torch.cat(part) for part in zip(*batches(), strict=True))]
        model = fitted(splitting, epochs=400, learning_rate=2.0, data=whole)
        loss = nn.functional.cross_entropy(model(whole[0][0]), whole[0][1])
        gradient, of_bias = torch.autograd.grad(loss, [model[0].weight, model[0].bias])
        pull = splitting.beta * (splitting.copies()["0"] - model[0].weight.detach())
        torch.testing.assert_close(gradient, pull, rtol=0, atol=1e-6)
        torch.testing.assert_close(of_bias, torch.zeros_like(of_bias), rtol=0, atol=1e-6)
        assert 0 < splitting.sparsity() < 1
        size = float((model[0].weight.detach() - splitting.copies()["0"]).norm() / model[0].weight.detach().norm())
        assert splitting.gap() == pytest.approx(size)

    def test_only_chosen_weights_are_pulled(self):
        """With huge pulls on the classifier, the gradients of all else are as they were."""
        seen = {}

        class Watch:
            def __init__(self, when):
                self.when = when

            def before_step(self, state):
                seen[self.when] = {name: p.grad.clone() for name, p in state.model.named_parameters()}

        splitting = rvsm.RelaxedSplitting("l1", 30.0, 10.0)
        model = models.small_cnn(3, widths=(4, 5), head="fc", size=8, norm=False)
        x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 3
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
        weight = model.classifier.weight.detach().clone()
        callbacks = [Watch("before"), splitting, Watch("after")]
        training.fit(model, [(x, y)], epochs=1, optimizer=optimizer, callbacks=callbacks, progress=False)
        changed = {name for name, grad in seen["after"].items() if not torch.equal(grad, seen["before"][name])}
        assert changed == {"classifier.weight"}
        # everything lies below the threshold of 3: the copies are 0 and the pull is beta w
        pull = seen["after"]["classifier.weight"] - seen["before"]["classifier.weight"]
        torch.testing.assert_close(pull, 10 * weight)
        assert list(splitting.weights) == ["classifier"]
        assert not any(u.requires_grad for u in splitting.copies().values())

    def test_layers_by_name(self):
        model = models.small_cnn(3, widths=(4, 5), head="fc", size=8)
        assert list(rvsm.chosen_weights(model)) == ["classifier"]
        named = rvsm.chosen_weights(model, ["features.0", "classifier"])
        assert named["features.0"] is model.features[0].weight

    def test_looking_does_not_change_the_model(self):
        splitting = rvsm.RelaxedSplitting("l0", 0.02, 0.5)
        model = fitted(splitting).eval()
        kept = copy.deepcopy(model.state_dict())
        sparse = splitting.sparse_copy()
        splitting.sparsity(), splitting.gap(), splitting.objective(0.0)
        torch.testing.assert_close(model.state_dict(), kept, rtol=0, atol=0)
        assert rvsm.sparsity({"0": sparse[0].weight}) == splitting.sparsity() > 0
        assert torch.equal(sparse[0].bias, model[0].bias)
        assert not torch.equal(sparse[0].weight, model[0].weight)
        alive = sparse[0].weight != 0
        assert torch.equal(sparse[0].weight[alive], model[0].weight[alive])  # l0 does not shrink
        assert not sparse.training

    def test_same_seed_same_weights(self):
        one, other = (fitted(rvsm.RelaxedSplitting("transformed_l1", 0.02, 0.5)) for _ in range(2))
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)

    def test_resumed_run_is_bitwise_the_same(self, tmp_path):
        class Interrupt:
            left = 1

            def on_step(self, state):
                if state.step == 11 and self.left:
                    self.left = 0
                    raise KeyboardInterrupt

        def run(path, interrupt):
            model, splitting = linear(), rvsm.RelaxedSplitting("l0", 0.02, 0.5, start=2)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            training.fit(
                model, batches(), epochs=6, optimizer=optimizer, callbacks=[splitting, interrupt], progress=False,
                checkpoint=path, every_steps=2,
            )  # fmt: skip
            return model, splitting

        idle, interrupt = Interrupt(), Interrupt()
        idle.left = 0
        whole, expected = run(tmp_path / "whole.pt", idle)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut.pt", interrupt)
        resumed, found = run(tmp_path / "cut.pt", interrupt)
        torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
        assert torch.equal(found.copies()["0"], expected.copies()["0"])

    def test_cold_start_under_a_high_threshold_kills_everything_and_a_warm_one_does_not(self):
        """Weights that would grow above the threshold never get there from below."""
        x = torch.randn(256, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        data = [(x, (x[:, 0] > 0).long())]

        def share(start):
            model = nn.Sequential(nn.Linear(4, 2, bias=False)).double()
            nn.init.constant_(model[0].weight, 0.01)
            splitting = rvsm.RelaxedSplitting("l0", rvsm.needed_penalty("l0", 0.5, 1.0), 1.0, start=start)
            fitted(splitting, model, epochs=300, data=data)
            return splitting.sparsity()

        assert share(0) == 1.0
        assert share(100) < 1.0


def test_most_weights_of_the_chapters_network_are_in_its_linear_layer():
    """As in the paper's network: three convolutions with max-pooling and one linear layer."""
    model = models.small_cnn(2, widths=(8, 8, 16), norm=False, head="fc", pool=(0, 1, 2), in_channels=1, size=64)
    linear = rvsm.chosen_weights(model)["classifier"].numel()
    convolutions = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Conv2d))
    assert (linear, convolutions) == (2 * 16 * 8 * 8, 9 * (8 + 64 + 128))
    assert linear > convolutions
    assert measure.parameters(model) == linear + convolutions + 8 + 8 + 16 + 2


class TestBaselines:
    def test_smallest_zeroed(self):
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).double()
        with torch.no_grad():
            model[0].weight.copy_(double([1, -0.2, 3], [0.1, -5, 0.3]))
            model[1].weight.copy_(double([-0.05, 4]))
        zeroed = rvsm.smallest_zeroed(model, 0.5)
        assert zeroed["0"].tolist() == [[1, 0, 3], [0, -5, 0]]
        assert zeroed["1"].tolist() == [[0, 4]]
        assert rvsm.sparsity(zeroed) == 0.5
        assert model[1].weight[0, 0] == -0.05
        small = rvsm.replaced(model, zeroed)
        assert small[0].weight.tolist() == zeroed["0"].tolist()
        assert torch.equal(small[0].bias, model[0].bias)
        ties = nn.Sequential(nn.Linear(10, 1))
        nn.init.ones_(ties[0].weight)
        assert rvsm.sparsity(rvsm.smallest_zeroed(ties, 0.3)) == pytest.approx(0.3)

    def test_sub_gradients_give_no_exact_zero(self):
        model = fitted(rvsm.Subgradient(0.3), epochs=60, learning_rate=0.01)
        assert rvsm.sparsity(rvsm.chosen_weights(model)) == 0
        assert float(model[0].weight.detach().abs().max()) < 0.3
        twin = fitted(rvsm.Subgradient(0.3, start=60), epochs=60, learning_rate=0.01)
        free = fitted(rvsm.Subgradient(0.0), epochs=60, learning_rate=0.01)
        torch.testing.assert_close(twin.state_dict(), free.state_dict(), rtol=0, atol=0)

    def test_sub_gradient_is_the_sign(self):
        model = linear()
        expected = model[0].weight.detach() - 0.1 * 0.3 * model[0].weight.detach().sign()
        x = torch.zeros(4, 6, dtype=torch.float64)  # no gradient of the loss
        fitted(rvsm.Subgradient(0.3), model, epochs=1, momentum=0, data=[(x, torch.zeros(4, dtype=torch.int64))])
        torch.testing.assert_close(model[0].weight.detach(), expected)

    def test_sparsity_counts_exact_zeros(self):
        assert rvsm.sparsity({"a": double(0, 1e-30, -0.0, 1), "b": double(0, 0)}) == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rvsm.proximal_copy(torch.ones(2), "l2", 1, 1), "regulariser must be one of l0, l1, .* got 'l2'"),
        (lambda: rvsm.proximal_copy(torch.ones(2), "l0", -1, 1), "penalty must be a finite number >= 0, got -1"),
        (lambda: rvsm.proximal_copy(torch.ones(2), "l0", 1, 0), "beta must be positive and finite, got 0"),
        (lambda: rvsm.proximal_copy(torch.ones(2), "transformed_l1", 1, 1, 0), "a must be positive and finite, got 0"),
        (lambda: rvsm.proximal_copy(torch.ones(2, dtype=int), "l0", 1, 1), "x must be a floating-point tensor"),
        (lambda: rvsm.needed_penalty("l0", -0.1, 1), "limit must be a finite number >= 0, got -0.1"),
        (lambda: rvsm.regulariser_value(torch.ones(2), "l3"), "regulariser must be one of .* got 'l3'"),
        (lambda: rvsm.RelaxedSplitting("l0", float("nan"), 1), "penalty must be .* got nan"),
        (lambda: rvsm.RelaxedSplitting("l0", 1, 1, start=-1), "start must be a whole number >= 0, got -1"),
        (lambda: rvsm.RelaxedSplitting("l0", 1, 1, start=1.5), "start must be a whole number >= 0, got 1.5"),
        (lambda: rvsm.RelaxedSplitting("l0", 1, 1).copies(), "training has not started"),
        (lambda: rvsm.Subgradient(-1), "penalty must be a finite number >= 0, got -1"),
        (lambda: rvsm.chosen_weights(nn.ReLU()), "model has no linear layer"),
        (lambda: rvsm.chosen_weights(linear(), []), "layers must be a non-empty list of names"),
        (lambda: rvsm.chosen_weights(linear(), "0"), "layers must be a non-empty list of names, got '0'"),
        (lambda: rvsm.chosen_weights(linear(), ["7"]), "layers: '7' is no layer of the model with a weight"),
        (lambda: rvsm.smallest_zeroed(linear(), 1.0), r"share must be in \[0, 1\), got 1.0"),
        (lambda: rvsm.replaced(linear(), {"0": torch.ones(2)}), r"'0' has shape \(2,\), not \(3, 6\)"),
        (lambda: rvsm.sparsity({}), "there is no entry to look at"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refuses_an_optimizer_without_the_weights():
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3)).double()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    for callback in (rvsm.RelaxedSplitting("l0", 0.1, 1), rvsm.Subgradient(0.1)):
        with pytest.raises(ValueError, match="the weight of '1' is in none of its groups"):
            training.fit(model, batches(), epochs=1, optimizer=optimizer, callbacks=[callback], progress=False)


@pytest.mark.parametrize("callback", [rvsm.RelaxedSplitting("l1", 0.1, 1.0), rvsm.Subgradient(0.1)])
def test_refuses_a_layer_that_the_loss_does_not_see(callback):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x)

    batches = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))]
    with pytest.raises(ValueError, match="layers: the loss does not depend on the weight of 'spare'; leave it out"):
        training.fit(Spare(), batches, epochs=1, callbacks=[callback], progress=False)
