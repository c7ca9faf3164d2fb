"""ADMM and projection as callbacks, the toy in closed form, the penalty that arrives in time."""

import copy
import math

import numpy as np
import pytest
import torch
from compactvision import models, training
from compactvision.factorization.admm_tensor_train import ADMM, Projected, TensorTrain, toy
from compactvision.factorization.admm_tensor_train.callbacks import Distances, needed_rho
from compactvision.factorization.admm_tensor_train.formats import distances
from compactvision.factorization.admm_tensor_train.rivals import Tucker
from compactvision.training import schedules
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import admm_tensor_train as oracle

FORMATS = {"features.0": TensorTrain((4, 2)), "features.4": TensorTrain((4, 3))}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def start():
    return models.small_cnn(4, widths=(6, 8), generator=seeded(1))


def batches(n=64):
    x, y = torch.randn(n, 3, 8, 8, generator=seeded()), torch.randint(0, 4, (n,), generator=seeded())
    return list(zip(x.split(16), y.split(16), strict=True))


def fitted(*callbacks, epochs=3, model=None, lr=0.05, momentum=0.9, **options):
    model = model or start()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    history = training.fit(
        model, batches(), epochs=epochs, optimizer=optimizer, callbacks=callbacks, progress=False, **options
    )
    return model, history


class Linear(nn.Module):
    """A weight alone, so that the loss can be any function of it."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.layer.weight = nn.Parameter(weight.clone())

    def forward(self, x):
        return self.layer.weight


class TestADMM:
    def test_equals_the_oracle(self):
        """Plain gradient descent on the distance to a matrix, three epochs of four steps."""
        target = torch.randn(6, 5, generator=seeded(), dtype=torch.float64)
        first = torch.randn(6, 5, generator=seeded(1), dtype=torch.float64)
        train = TensorTrain((2,))
        model, admm = Linear(first), ADMM({"layer": train}, rho=0.7)
        training.fit(
            model, [(torch.zeros(1), torch.zeros(1))] * 4, epochs=3,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.3), callbacks=[admm], progress=False,
            loss=lambda weight, _: (weight - target).square().sum() / 2,
        )  # fmt: skip

        def project(matrix):
            return oracle.tensor(oracle.tt_svd(matrix, (2,)))

        expected = oracle.admm(lambda w: w - target.numpy(), first.numpy(), project, 0.7, 0.3, 4, 3)
        for found, wanted in zip((model.layer.weight.detach(), admm.copies["layer"], admm.duals["layer"]), expected):
            np.testing.assert_allclose(found.numpy(), wanted, atol=1e-10)
        assert (admm.updates, admm.projections) == (3, 4)

    def test_the_rows_hold_the_residuals(self):
        admm, seen = ADMM(FORMATS, rho=0.5), []

        class Watch:
            def before_step(self, state):
                if state.batch == 0:
                    weights = {name: state.model.get_submodule(name).weight.detach().clone() for name in FORMATS}
                    seen.append((weights, dict(admm.copies)))

        model = start()
        projections = {name: FORMATS[name].project(model.get_submodule(name).weight) for name in FORMATS}
        _, history = fitted(admm, Watch(), model=model)
        before = projections
        for row, (weights, copies) in zip(history, seen, strict=True):
            size = math.sqrt(sum(float(w.square().sum()) for w in weights.values()))
            primal = math.sqrt(sum(float((weights[n] - copies[n]).square().sum()) for n in FORMATS)) / size
            dual = 0.5 * math.sqrt(sum(float((copies[n] - before[n]).square().sum()) for n in FORMATS)) / size
            assert (row["primal"], row["dual"]) == (pytest.approx(primal, rel=1e-4), pytest.approx(dual, abs=1e-6))
            before = copies

    def test_the_penalty_is_what_the_gradient_belongs_to(self):
        admm = ADMM(FORMATS, rho=0.5)
        model, _ = fitted(admm, epochs=2)
        weight = model.features[4].weight
        state = training.State(model, torch.optim.SGD(model.parameters(), 0.1), torch.device("cpu"), 1, 1, epoch=9)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        admm.before_step(state)
        direction = torch.randn(weight.shape, generator=seeded())
        with torch.no_grad():
            weight.add_(direction, alpha=1e-2)
            up = admm.penalty()
            weight.sub_(direction, alpha=2e-2)
            down = admm.penalty()
        assert (up - down) / 2e-2 == pytest.approx(float((weight.grad * direction).sum()), rel=1e-3)
        assert not model.classifier.weight.grad.any()
        assert not model.features[1].weight.grad.any()

    def test_a_kernel_of_the_format_feels_nothing_at_first(self):
        model = start()
        for name, train in FORMATS.items():
            layer = model.get_submodule(name)
            layer.weight.data = train.project(layer.weight.data)
        plain, _ = fitted(model=copy.deepcopy(model), epochs=1, lr=1e-4)
        drawn, _ = fitted(ADMM(FORMATS, rho=0.5), model=model, epochs=1, lr=1e-4)
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(drawn.state_dict()[name], value, rtol=0, atol=1e-6)

    def test_kernels_come_nearer_with_rho(self):
        far = [
            max(distances(fitted(*callbacks, epochs=10, lr=0.2, momentum=0.0)[0], FORMATS).values())
            for callbacks in ([], [ADMM(FORMATS, rho=0.1)], [ADMM(FORMATS, rho=1.0)])
        ]
        assert far[0] > far[1] > 3 * far[2]

    def test_any_projection_will_do(self):
        admm = ADMM({"features.4": Tucker(4, 3)}, rho=1.0)
        model, history = fitted(admm, epochs=10, lr=0.2, momentum=0.0)
        assert distances(model, {"features.4": Tucker(4, 3)})["features.4"] < 0.2
        assert history[-1]["primal"] < history[0]["primal"]

    @pytest.mark.parametrize("options", [{}, {"schedule": schedules.one_cycle()}, {"channels_last": True}])
    @pytest.mark.parametrize("make", [lambda: ADMM(FORMATS, rho=0.5), lambda: Projected(FORMATS, "epoch")])
    def test_an_interrupted_run_goes_on_bitwise(self, make, options, tmp_path):
        """Cut off at the end of an epoch, in its first step and in its middle, a checkpoint after each step."""

        class Interrupt:
            def __init__(self, *moments):
                self.moments = list(moments)

            def on_step(self, state):
                if state.step in self.moments:
                    self.moments.remove(state.step)
                    raise KeyboardInterrupt

        def run(path, interrupt, starts=1):
            method = make()
            try:
                model, history = fitted(
                    method, Distances(FORMATS), interrupt, checkpoint=path, every_steps=1, **options
                )
            except KeyboardInterrupt:
                return run(path, interrupt, starts + 1)
            rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history]
            return model, method, rows, starts

        whole, method, rows, _ = run(tmp_path / "whole.pt", Interrupt())
        again, other, others, starts = run(tmp_path / "cut.pt", Interrupt(2, 5, 6, 9))
        assert starts == 5
        torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(other.state_dict(), method.state_dict(), rtol=0, atol=0)
        assert others == rows
        assert other.projections == method.projections

    def test_one_update_an_epoch_where_a_step_asks_for_gradients_often(self):
        admm, model = ADMM(FORMATS, rho=0.1), start()
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=4)
        training.fit(model, batches(32), epochs=2, optimizer=optimizer, callbacks=[admm], progress=False)
        assert admm.updates == 2

    def test_refuses_the_state_of_other_layers(self):
        admm = ADMM(FORMATS)
        fitted(admm, epochs=1)
        other = ADMM({"features.4": TensorTrain((4, 3))})
        fitted(other, epochs=1)
        with pytest.raises(ValueError, match=r"state: copies of .* do not fit the layers \['features.4'\]"):
            other.load_state_dict(admm.state_dict())


class TestProjected:
    @pytest.mark.parametrize("every", ["step", "epoch"])
    def test_kernels_have_the_format_at_the_end(self, every):
        method = Projected(FORMATS, every)
        model, history = fitted(method, Distances(FORMATS))
        assert max(distances(model, FORMATS).values()) < 1e-5
        assert history[-1]["distance"] < 1e-5
        assert set(history[-1]) > {"distance.features.0", "distance.features.4"}
        assert method.projections == (2 * 12 if every == "step" else 2 * 3)

    def test_validation_sees_projected_kernels(self):
        seen = []

        def validate(model):
            seen.append(max(distances(model, FORMATS).values()))
            return {}

        fitted(Projected(FORMATS, "epoch"), validate=validate)
        assert max(seen) < 1e-5

    def test_refuses_an_epoch_without_an_end(self):
        with pytest.raises(ValueError, match='every must be "step" where the batches have no length'):
            training.fit(
                start(),
                (batch for batch in batches()),
                epochs=1,
                callbacks=[Projected(FORMATS, "epoch")],
                progress=False,
            )


class TestToy:
    A = (4.0, 3.0, 2.0, 1.0)

    @pytest.mark.parametrize("rho", [0.67, 0.7, 1.0, 5.0])
    def test_settles_above_two_thirds(self, rho):
        w, z, u = toy.admm_path(self.A, 2, rho, 3000)[-1]
        expected = torch.tensor([4.0, 3.0, 0.0, 0.0], dtype=torch.float64)
        torch.testing.assert_close(w, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(u, torch.tensor([0, 0, 2 / rho, 1 / rho], dtype=torch.float64), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("rho", [0.3, 0.6, 0.66])
    def test_hops_for_ever_below(self, rho):
        path = toy.admm_path(self.A, 2, rho, 3000)
        late = (path[-500:, 0] - path[-500:, 1]).norm(dim=1)
        assert float(late.max()) > 0.5
        assert len({tuple((z != 0).tolist()) for z in path[-500:, 1]}) > 1

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.floats(0.5, 9), min_size=3, max_size=6, unique=True), st.data())
    def test_the_condition(self, values, data):
        """From the answer itself with its duals: above the threshold it stays, below it is left."""
        values = sorted(values, reverse=True)
        rank = data.draw(st.integers(1, len(values) - 1))
        threshold = toy.smallest_rho(values, rank)
        assert threshold == pytest.approx(values[rank] / values[rank - 1])
        a = torch.tensor(values, dtype=torch.float64)
        answer = toy.largest(a, rank)
        for rho, stays in ((1.01 * threshold, True), (0.99 * threshold, False)):
            duals = (a - answer) / rho
            assert torch.equal(toy.largest(answer + duals, rank) != 0, answer != 0) == stays

    def test_is_admm_on_matrices(self):
        """The same numbers as the oracle's ADMM on the full matrix, where the weights' step is solved exactly."""
        rho, a = 1.3, np.diag(self.A)
        turned, _ = np.linalg.qr(np.random.RandomState(0).randn(4, 4))
        w = turned @ a @ turned.T
        target, z, u = w.copy(), oracle.tensor(oracle.tt_svd(w, (2,))), np.zeros((4, 4))
        for expected in toy.admm_path(self.A, 2, rho, 12)[1:]:
            w = (target + rho * (z - u)) / (1 + rho)
            z = oracle.tensor(oracle.tt_svd(w + u, (2,)))
            u = u + w - z
            for found, wanted in zip((w, z, u), expected, strict=True):
                np.testing.assert_allclose(turned.T @ found @ turned, np.diag(wanted), atol=1e-9)

    def test_starts_elsewhere(self):
        path = toy.admm_path(self.A, 2, 1.0, 5, start=(0, 0, 1, 2))
        assert path[0, 0].tolist() == [0, 0, 1, 2]
        assert path[0, 1].tolist() == [0, 0, 1, 2]


def pulled(rho, lr, momentum, steps):
    """What is left of a distance of 1 that only the penalty acts on, the largest of the last twenty steps."""
    w, late = nn.Parameter(torch.ones(1, dtype=torch.float64)), []
    optimizer = torch.optim.SGD([w], lr=lr, momentum=momentum)
    for _ in range(steps):
        w.grad = rho * w.detach()
        optimizer.step()
        late.append(abs(float(w.detach())))
    return max(late[-20:])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_needed_rho_is_the_rate_of_the_pull(momentum):
    rho = needed_rho(4000, 0.01, momentum, exponent=5)
    assert -math.log(pulled(rho, 0.01, momentum, 4000)) == pytest.approx(5, rel=0.03)


def test_momentum_bounds_the_rate():
    """Above ``(1 - sqrt(m))^2 / lr`` the distance swings, and a larger penalty brings it down no faster."""
    bound = (1 - math.sqrt(0.9)) ** 2 / 0.1
    slow, fast, faster = (-math.log(pulled(factor * bound, 0.1, 0.9, 200)) for factor in (0.2, 2, 20))
    assert slow < 0.5 * fast
    assert faster < 1.1 * fast < 1.1 * 200 * -math.log(math.sqrt(0.9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ADMM(FORMATS, rho=0), "rho must be positive and finite, got 0"),
        (lambda: ADMM(FORMATS, rho=math.nan), "rho must be positive and finite, got nan"),
        (lambda: ADMM(FORMATS).penalty(), "admm: training has not started"),
        (lambda: Projected(FORMATS, "batch"), 'every must be "step" or "epoch", got \'batch\''),
        (lambda: fitted(ADMM({})), "formats must name at least one layer"),
        (lambda: fitted(ADMM({"features.1": TensorTrain((2, 2))})), "layer 'features.1' must be an nn.Conv2d or"),
        (lambda: fitted(Projected({"x": TensorTrain((2, 2))})), "formats: the network has no layer 'x'"),
        (lambda: toy.admm_path((2, 1), 2, 1.0, 5), "rank must be 1 to 1 for 2 values, got 2"),
        (lambda: toy.admm_path((2, 1), 1, 0.0, 5), "rho must be positive and finite, got 0.0"),
        (lambda: toy.admm_path((2, math.inf), 1, 1.0, 5), "values must be a vector of finite numbers"),
        (lambda: toy.admm_path((2, 1), 1, 1.0, 0), "steps must be at least 1, got 0"),
        (lambda: toy.admm_path((2, 1), 1, 1.0, 5, start=(1,)), "start must hold 2 finite numbers"),
        (lambda: toy.smallest_rho((0, 0, 1), 2), "values must have at least 2 entries that are not 0"),
        (lambda: toy.admm_path("none", 1, 1.0, 5), "values must be a vector of finite numbers, got 'none'"),
        (lambda: toy.largest(torch.ones(2), 3), "rank must be 0 to the length of the vector values, got 3"),
        (lambda: ADMM({"a": 3}), r"formats\['a'\] must be a format such as TensorTrain, got 3"),
        (lambda: Projected([1]), "formats must be a mapping"),
        (lambda: Tucker(2, 2).project(torch.ones(2, 2)), r"kernel must be finite, of shape \(C_out, C_in, K_h, K_w\)"),
        (lambda: needed_rho(0, 0.1), "steps must be at least 1"),
        (lambda: needed_rho(10, 0.1, momentum=1.0), "steps must be at least 1"),
    ],
)  # fmt: skip
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refuses_an_optimizer_without_the_kernels():
    model = start()
    optimizer = torch.optim.SGD(model.classifier.parameters(), lr=0.1)
    for method in (ADMM(FORMATS), Projected(FORMATS)):
        with pytest.raises(ValueError, match=r"optimizer: the weight of 'features.0' is in none of its groups"):
            training.fit(model, batches(), epochs=1, optimizer=optimizer, callbacks=[method], progress=False)
