"""Proximal network slimming: steps worked out by hand, fixed points, descent, the callback, zeros and their cut."""

import copy

import pytest
import torch
import torch.nn.functional as F
from compactvision import models, surgery, training
from compactvision.pruning import proximal_network_slimming as slim
from compactvision.pruning.proximal_network_slimming import steps
from compactvision.training import schedules
from torch import nn

from oracles import proximal_network_slimming as oracle


def double(*values):
    """A tensor in float64."""
    return torch.tensor(values, dtype=torch.float64)


def scaled(*layers):
    """BatchNorms, named "0", "1" and so on, with these scales."""
    model = nn.Sequential(*(nn.BatchNorm2d(len(values)) for values in layers))
    for module, values in zip(model, layers, strict=True):
        module.weight.data = torch.tensor(values)
    return model


class TestStep:
    def test_by_hand(self):
        gamma, xi = steps.proximal_step(
            double(0.5, 0.02, -0.3, 1e-4, 0), double(0.48, 1e-5, -0.31, 0, 0.6), 10, 100, 0.0045
        )
        expected = double(0.481818169, 0.00182727259, -0.309090912, 9.09090886e-6, 0.545454562)
        torch.testing.assert_close(gamma, expected, rtol=0, atol=1e-7)
        expected = double(0.481611937, 0.00162115716, -0.309132636, 0, 0.550372362)
        torch.testing.assert_close(xi, expected, rtol=0, atol=1e-7)

    def test_both_steps_minimise_the_linearised_problem(self):
        """The gradient of each subproblem vanishes; for the copies up to the subgradient of the absolute value."""
        gamma0, xi0, gradient = torch.randn(3, 50, dtype=torch.float64)
        alpha, beta, penalty = 7.0, 3.0, 2.0
        gamma, xi = steps.proximal_step(gamma0 - gradient / alpha, xi0, alpha, beta, penalty)
        slope = gradient + alpha * (gamma - gamma0) + beta * (gamma - xi0)
        torch.testing.assert_close(slope, torch.zeros_like(slope))
        slope = alpha * (xi - xi0) + beta * (xi - gamma)
        alive = xi != 0
        torch.testing.assert_close(slope[alive], -penalty * xi[alive].sign())
        assert (slope[~alive].abs() <= penalty + 1e-12).all()
        assert 5 < alive.sum() < 45

    def test_without_tie_or_penalty(self):
        gamma, xi = double(0.5, -0.2), double(0.3, 0.1)
        moved, copies = steps.proximal_step(gamma, xi, 10, 0, 1.0)
        torch.testing.assert_close(moved, gamma)
        torch.testing.assert_close(copies, double(0.2, 0.0))
        _, copies = steps.proximal_step(gamma, xi, 10, 100, 0)
        assert (copies != 0).all()

    @pytest.mark.parametrize(("learning_rate", "beta"), [(0.1, 100.0), (0.1, 1.0), (0.01, 20.0)])
    def test_the_needed_penalty_just_arrives(self, learning_rate, beta):
        """Without a gradient, the copy reaches zero in the given number of steps, but not with a tenth less."""
        for factor, arrives in ((1.0, True), (0.9, False)):
            penalty = factor * steps.needed_penalty(1000, learning_rate, beta)
            gamma, xi = double(0.5), double(0.5)
            for _ in range(1000):
                gamma, xi = steps.proximal_step(gamma, xi, 1 / learning_rate, beta, penalty)
            assert (float(xi) < 0.005) == arrives

    @pytest.mark.parametrize(("momentum", "effective"), [(0.0, 0.2), (0.9, 0.02)])
    @pytest.mark.parametrize(("c", "alive"), [(1.0, True), (-1.0, True), (0.01, False)])
    def test_fixed_points_of_a_parabola(self, momentum, effective, c, alive):
        """The loss (gamma - c)^2 / 2; momentum divides the penalty by ten."""
        alpha, beta, penalty = 10.0, 10.0, 0.2
        gamma, xi = nn.Parameter(double(0.5)), double(0.5)
        optimizer = torch.optim.SGD([gamma], lr=1 / alpha, momentum=momentum)
        for _ in range(4000):
            gamma.grad = gamma.detach() - c
            optimizer.step()
            moved, xi = steps.proximal_step(gamma.detach(), xi, alpha, beta, penalty)
            gamma.data.copy_(moved)
        sign = 1 if c > 0 else -1
        if alive:
            expected = c - effective * sign, c - effective * sign - penalty / beta * sign
        else:
            expected = c / (1 + beta * (1 - momentum)), 0.0
        assert (float(gamma.detach()), float(xi)) == pytest.approx(expected, abs=1e-8)

    def test_objective_falls_as_the_lemma_says(self):
        """Logistic regression with a scale for each feature, full batches, alpha above the smoothness of the loss."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(64, 12, generator=generator, dtype=torch.float64)
        y = (x[:, 0] - 2 * x[:, 1] > 0).double()
        weight = torch.randn(12, generator=generator, dtype=torch.float64)
        smooth = float(torch.linalg.eigvalsh((x * weight).T @ (x * weight) / 64).max() / 4)
        alpha, beta, penalty = 1.2 * smooth, 2.0, 0.02
        gamma, xi = torch.full((12,), 0.5, dtype=torch.float64), torch.full((12,), 0.5, dtype=torch.float64)

        def loss(scale):
            return F.binary_cross_entropy_with_logits(x @ (scale * weight), y)

        def objective(scale, copies):
            return float(loss(scale) + penalty * copies.abs().sum() + beta / 2 * (scale - copies).square().sum())

        for _ in range(200):
            at = gamma.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(at), at)
            new, copies = steps.proximal_step(gamma - gradient / alpha, xi, alpha, beta, penalty)
            fall = objective(gamma, xi) - objective(new, copies)
            least = (alpha + beta / 2 - smooth / 2) * (new - gamma).square().sum()
            least += (alpha + beta / 2) * (copies - xi).square().sum()
            assert fall >= float(least) - 1e-12
            gamma, xi = new, copies
        assert (xi == 0).any()
        assert (gamma != 0).all()


def batches(n=64):
    """Noise with labels."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 3, 8, 8, generator=generator), torch.randint(0, 4, (n,), generator=generator)
    return list(zip(x.split(16), y.split(16), strict=True))


def start():
    """A small network, the same at each call."""
    return models.small_cnn(4, widths=(6, 8), generator=torch.Generator().manual_seed(1))


def fitted(slimming):
    """Train a small network for 16 steps and return it."""
    model = start()
    steps.reset_batch_norm_(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    training.fit(model, batches(), epochs=4, optimizer=optimizer, callbacks=[slimming], progress=False)
    return model


SCHEDULES = {"none": None, "one_cycle": schedules.one_cycle(), "cosine": schedules.cosine()}


class TestCallback:
    def test_zeros_are_found_and_cut(self):
        penalty = steps.needed_penalty(16, 0.1, 100.0)
        slimming = slim.ProximalSlimming(2.2 * penalty)
        model = fitted(slimming).eval()
        zeros = sum(int((xi == 0).sum()) for xi in slimming.xi.values())
        assert zeros > 0
        graph = surgery.channel_graph(model, (3, 8, 8))
        plan = surgery.make_plan(graph, slimming.importance, keep_above=0.0)
        emptied = sum(bool((xi == 0).all()) for xi in slimming.xi.values())
        assert sum(plan.widths.values()) == 14 - zeros + emptied
        x = torch.randn(2, 3, 8, 8)
        with torch.no_grad():
            small = surgery.prune(model, plan)(x)
            with surgery.mask(model, plan):
                torch.testing.assert_close(small, model(x), rtol=1e-5, atol=1e-5)

    def test_equals_the_papers_three_lines(self):
        """Optimiser step, blend and threshold, against the fused updates, one number after the other, in float64."""
        settings = {"beta": 30.0, "penalty": 3.0}
        model = start().double()
        steps.reset_batch_norm_(model)
        slow = copy.deepcopy(model)
        first = slim.ProximalSlimming(**settings)
        first.on_start(training.State(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.device("cpu"), 1, 4))
        xi = {f"{name}.weight": copies.tolist() for name, copies in first.xi.items()}
        data = [(x.double(), y) for x, y in batches()]
        slimming, optimizer = slim.ProximalSlimming(**settings), torch.optim.SGD(model.parameters(), lr=0.1)
        training.fit(model, data, epochs=2, optimizer=optimizer, callbacks=[slimming], progress=False)
        oracle.train(slow, data * 2, set(xi), xi, learning_rate=0.1, **settings)
        torch.testing.assert_close(model.state_dict(), slow.state_dict(), rtol=1e-6, atol=1e-8)
        for name, copies in slimming.xi.items():
            torch.testing.assert_close(copies, torch.tensor(xi[f"{name}.weight"]).to(copies), rtol=1e-6, atol=1e-8)
        assert 0 < slimming.zeros()["copies"] < slimming.zeros()["channels"]

    def test_an_emptied_layer_keeps_its_largest_scale(self):
        model = scaled([0.1, -0.3, 0.2], [0.5, 0.1])
        slimming = slim.ProximalSlimming(0.1)
        slimming.xi = {"0": torch.zeros(3), "1": torch.tensor([0.0, -0.2])}
        importance = slimming.importance(model)
        assert importance["0"].argmax() == 1
        assert (importance["0"] < 0).all()
        assert importance["1"].tolist() == pytest.approx([-1 / 1.5, 0.2])

    def test_zeros_and_the_official_mask(self):
        model = scaled([0.1, -0.3, 1e-8], [0.5, 0.1])
        slimming = slim.ProximalSlimming(0.1)
        slimming.gamma = dict(steps.scales(model))
        slimming.xi = {"0": torch.zeros(3), "1": torch.tensor([0.0, -0.2])}
        assert slimming.zeros() == {"channels": 5, "copies": 4, "scales": 0, "tiny scales": 1}
        official = slimming.importance(model, mask="official")
        assert [name for name, score in official.items() if (score <= 0).any()] == ["0"]
        assert (official["0"] <= 0).tolist() == [False, False, True]
        with torch.no_grad():
            slimming.gamma["1"][:] = 0
            slimming.gamma["0"][2] = 0
        assert slimming.zeros()["scales"] == 3
        assert sum(int((score <= 0).sum()) for score in slimming.importance(model, mask="official").values()) == 3

    def test_importance_of_a_copy_and_of_another_network(self):
        slimming = slim.ProximalSlimming(2.0)
        model = fitted(slimming)
        torch.testing.assert_close(slimming.importance(copy.deepcopy(model)), slimming.importance(model))
        for other in (models.small_cnn(4, widths=(6, 9)), models.small_cnn(4, widths=(6, 8, 8))):
            with pytest.raises(ValueError, match=r"model: its scales by layer are .* those of the training were"):
                slimming.importance(other)

    def test_importance_of_network_slimming_is_the_size_of_the_scale(self):
        found = slim.NetworkSlimming(0.1).importance(scaled([0.1, -0.3], [0.5, 0.0]))
        torch.testing.assert_close(found, {"0": torch.tensor([0.1, 0.3]), "1": torch.tensor([0.5, 0.0])})

    def test_alpha_follows_the_learning_rate(self):
        model = models.small_cnn(4, widths=(6, 8))
        first, second = model.features[1], model.features[5]
        rest = [p for p in model.parameters() if p is not first.weight]
        optimizer = torch.optim.SGD([{"params": rest, "lr": 0.1}, {"params": [first.weight], "lr": 0.5}], lr=0.1)
        state = training.State(model, optimizer, torch.device("cpu"), 1, 1)
        slimming = slim.ProximalSlimming(0.3, beta=7.0)
        slimming.on_start(state)
        for rates in ((0.1, 0.5), (0.01, 0.05)):
            for group, learning_rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = learning_rate
            for norm, learning_rate in ((second, rates[0]), (first, rates[1])):
                name = "features.1" if norm is first else "features.5"
                expected = steps.proximal_step(
                    norm.weight.detach().clone(), slimming.xi[name], 1 / learning_rate, 7.0, 0.3
                )
                norm.expected = expected
            slimming.on_step(state)
            for norm, name in ((first, "features.1"), (second, "features.5")):
                torch.testing.assert_close(norm.weight.detach(), norm.expected[0])
                torch.testing.assert_close(slimming.xi[name], norm.expected[1])

    def test_nothing_moves_at_learning_rate_zero(self):
        model = models.small_cnn(4, widths=(6, 8))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        state = training.State(model, optimizer, torch.device("cpu"), 1, 1)
        slimming = slim.ProximalSlimming(0.3)
        slimming.on_start(state)
        before = copy.deepcopy(slimming.xi)
        slimming.on_step(state)
        torch.testing.assert_close(slimming.xi, before, rtol=0, atol=0)
        assert (model.features[1].weight == 1).all()

    def test_refuses_copies_of_another_network(self):
        slimming = slim.ProximalSlimming(0.3)
        slimming.xi = {"a": torch.ones(2)}
        with pytest.raises(ValueError, match="do not fit the scales"):
            slimming.load_state_dict({"b": torch.ones(2)})

    @pytest.mark.parametrize("name", SCHEDULES)
    def test_an_interrupted_run_goes_on_bitwise(self, name, tmp_path):
        """Cut off after the third and the sixth of eight steps; a checkpoint after each step."""

        class Interrupt:
            def __init__(self, *moments):
                self.moments, self.rates = list(moments), set()

            def on_step(self, state):
                self.rates.add(state.lr)
                if state.step in self.moments:
                    self.moments.remove(state.step)
                    raise KeyboardInterrupt

        def run(path, interrupt):
            """Train, with everything made anew after an interruption as a new process would; count the starts."""
            model, slimming = start(), slim.ProximalSlimming(8.0)
            steps.reset_batch_norm_(model)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            try:
                training.fit(
                    model, batches(), epochs=2, optimizer=optimizer, schedule=SCHEDULES[name], progress=False,
                    callbacks=[slimming, interrupt], checkpoint=path, every_steps=1,
                )  # fmt: skip
            except KeyboardInterrupt:
                model, slimming, starts = run(path, interrupt)
                return model, slimming, starts + 1
            return model, slimming, 1

        idle, cut = Interrupt(), Interrupt(3, 6)
        whole, expected, _ = run(tmp_path / "whole.pt", idle)
        resumed, found, starts = run(tmp_path / "cut.pt", cut)
        assert starts == 3
        assert cut.rates == idle.rates
        assert len(idle.rates) > (1 if SCHEDULES[name] else 0)
        torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(found.xi, expected.xi, rtol=0, atol=0)

    def test_slimming_adds_the_sign(self):
        seen = {}

        class Watch:
            def before_step(self, state):
                seen[self.when] = state.model.features[1].weight.grad.clone()

        before, after = Watch(), Watch()
        before.when, after.when = "before", "after"
        model = models.small_cnn(4, widths=(6, 8))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
        training.fit(
            model,
            batches(16),
            epochs=1,
            optimizer=optimizer,
            callbacks=[before, slim.NetworkSlimming(0.3), after],
            progress=False,
        )
        torch.testing.assert_close(seen["after"] - seen["before"], torch.full((6,), 0.3))

    def test_objective(self):
        slimming = slim.ProximalSlimming(0.1, beta=2.0)
        slimming.xi, slimming.gamma = {"a": double(1, -2)}, {"a": double(1.5, -2)}
        assert slimming.objective(1.0) == pytest.approx(1 + 0.1 * 3 + 0.25)

    def test_scales_without_affine_are_left_out(self):
        model = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(2), nn.BatchNorm1d(4))
        assert [name for name, _ in steps.scales(model)] == ["1"]
        steps.reset_batch_norm_(model)
        assert model[1].weight.tolist() == [0.5, 0.5]
        assert model[2].weight.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: steps.proximal_step(torch.ones(2), torch.ones(3), 1, 1, 1), "xi must have the shape of gamma"),
        (lambda: steps.proximal_step(torch.ones(2), torch.ones(2), 0, 1, 1), "alpha must be positive"),
        (lambda: slim.ProximalSlimming(-1), "penalty must be a finite number >= 0, got -1"),
        (lambda: slim.ProximalSlimming(1, beta=float("nan")), "beta must be a finite number >= 0, got nan"),
        (lambda: slim.NetworkSlimming(float("inf")), "penalty must be a finite number"),
        (
            lambda: slim.ProximalSlimming(1).importance(start(), mask="gamma"),
            'mask must be "copies" or "official", got \'gamma\'',
        ),
        (lambda: slim.ProximalSlimming(1).importance(start()), "slimming: training has not started"),
        (lambda: slim.ProximalSlimming(1).zeros(), "slimming: training has not started"),
        (lambda: slim.ProximalSlimming(1).objective(0.0), "slimming: training has not started"),
        (lambda: steps.needed_penalty(0, 0.1, 1), "steps must be at least 1"),
        (lambda: list(steps.scales(nn.Linear(2, 2))), "model has no BatchNorm2d with scales"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refuses_an_optimizer_without_the_scales():
    model = models.small_cnn(4, widths=(6, 8))
    optimizer = torch.optim.SGD(model.classifier.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"the scale of 'features.1' is in none of its groups"):
        training.fit(
            model, batches(), epochs=1, optimizer=optimizer, callbacks=[slim.ProximalSlimming(0.1)], progress=False
        )


def test_without_a_generator_runs_begin_alike():
    assert slim.ProximalSlimming(0.1).generator.initial_seed() == 0
